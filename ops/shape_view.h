// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "ebb/ops/op_util.h"

// What ops that give views share. Not for users.
namespace ebb::ops {

/// How a view lies in the elements of its input: sizes, strides, and the offset of its first
/// element from the input's.
struct Layout {
  Layout() = default;
  Layout(const Shape& s, const int64_t* from) : shape(s) { std::copy_n(from, s.rank(), strides); }
  void push_back(int64_t size, int64_t stride) {
    shape.push_back(size);
    strides[shape.rank() - 1] = stride;
  }

  Shape shape;
  int64_t strides[kMaxRank];
  int64_t offset = 0;
};

inline Array view_of(const Array& x, const Layout& l) {
  return x.view(l.shape, l.strides, l.offset);
}

/// A view of one input, which an op describes by
///   static Layout layout(const Attrs&, const Shape& shape, const int64_t* strides);
/// of an input of that shape and those strides. It throws where the shape does not fit.
template <class Op, class A>
struct ViewOp {
  using Attrs = A;
  static constexpr bool kView = true;
  static constexpr GradUses uses(int) { return {}; }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    constexpr int64_t kAnyStrides[kMaxRank] = {};
    return {{in[0].dtype, Op::layout(a, in[0].shape, kAnyStrides).shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    out[0] = view(a, in[0]);
  }
  static Array view(const Attrs& a, const Array& x) {
    return view_of(x, Op::layout(a, x.shape(), x.strides()));
  }
};

/// The elements of x in row-major order in another shape of as many: a view where the strides
/// allow one, else a copy.
Array reshaped(const Array& x, const Shape& shape);

/// An array of zeros that takes up no more than one: all its strides are 0.
Array zeros_view(DType dtype, const Shape& shape);

/// to += from, of the same shape and type; any strides, but no two elements of `to` in one place.
/// float32 and float64.
void add_strided(const Array& to, const Array& from);

}  // namespace ebb::ops
