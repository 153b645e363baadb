// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/kernels/sort.h"

// Elements in order along an axis.
namespace ebb {
namespace ops {

namespace {

// Calls f(x, stride, y, stride) for every row of the axis, in bytes and elements; `y` is int64.
template <class F>
void for_each_line(const Array& x, const Array& y, int axis, F&& f) {
  const auto item = static_cast<ptrdiff_t>(size_of(x.dtype()));
  Shape rest;
  int64_t sx[kMaxRank];
  int64_t sy[kMaxRank];
  for (int i = 0; i < x.rank(); ++i) {
    if (i == axis) continue;
    sx[rest.rank()] = x.stride(i);
    sy[rest.rank()] = y.stride(i);
    rest.push_back(x.size(i));
  }
  const ptrdiff_t along_x = x.rank() == 0 ? 1 : x.stride(axis);
  const ptrdiff_t along_y = x.rank() == 0 ? 1 : y.stride(axis);
  int64_t* to = y.mutable_data<int64_t>();
  kernels::for_each_row<2>(static_cast<size_t>(rest.rank()), rest.data(), {sy, sx},
                           [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                             for (size_t i = 0; i < n; ++i) {
                               const auto k = static_cast<ptrdiff_t>(i);
                               f(x.raw() + (at[1] + k * stride[1]) * item, along_x,
                                 to + at[0] + k * stride[0], along_y);
                             }
                           });
}

int64_t size_along(const Shape& shape, int axis) { return shape.rank() == 0 ? 1 : shape[axis]; }

// What sort and topk share: outputs are values and indices.
template <class Op, class A>
struct OrderOp {
  using Attrs = A;
  static constexpr GradUses uses(int) { return {.out = 0b10, .shapes = 0b01}; }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto n = static_cast<size_t>(size_along(in[0].shape(), a.axis));
    for_each_line(in[0], out[1], a.axis,
                  [&](const std::byte* x, ptrdiff_t sx, int64_t* y, ptrdiff_t sy) {
                    Op::order(a, in[0].dtype(), x, sx, n, y, sy);
                  });
    read_along(Along(a.axis, out[1].shape(), out[1], out[0], in[0]), in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor zeros(zeros_view(s.in_dtype(0), s.in_shape(0)));
    return {scatter_add(zeros, s.attrs<Attrs>().axis, s.out(1), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& ids = s.out_array(1);
    Array gx = Array::zeros(s.in_dtype(0), s.in_shape(0));
    write_along(Along(s.attrs<Attrs>().axis, ids.shape(), ids, g[0], gx), g[0], gx);
    sink.add(0, std::move(gx));
  }
};

struct SortAttrs {
  int axis;
  bool descending;
};
struct TopkAttrs {
  int axis;
  bool largest;
  bool sorted;
  int64_t k;
};

}  // namespace

struct Sort : OrderOp<Sort, SortAttrs> {
  static constexpr OpDoc kDoc{"sort", "values = x in order along an axis, indices = where each was",
                              "x:[..,n,..] -> values:[..,n,..] indices:[..,n,..]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, a.descending ? " descending" : "");
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {in[0], {kInt64, in[0].shape}};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = cost_of_moving(in[0], out.subspan(1));
    const auto n = static_cast<double>(size_along(in[0].shape, a.axis));
    c.multiply_adds *= std::log2(n + 1);  // comparisons
    return c;
  }
  static void order(const Attrs& a, DType type, const void* x, ptrdiff_t sx, size_t n, int64_t* y,
                    ptrdiff_t sy) {
    kernels::argsort(type, x, sx, n, a.descending, y, sy);
  }
};
EBB_OP(Sort)

struct Topk : OrderOp<Topk, TopkAttrs> {
  static constexpr OpDoc kDoc{"topk", "values = the k largest or smallest of x along an axis",
                              "x:[..,n,..] -> values:[..,k,..] indices:[..,k,..]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " k=", a.k, a.largest ? "" : " smallest",
                        a.sorted ? "" : " unsorted");
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    const int64_t n = size_along(in[0].shape, a.axis);
    if (a.k < (in[0].shape.rank() == 0 ? 1 : 0) || a.k > n) {
      throw IndexError(absl::StrCat("topk: k is ", a.k, ", axis ", a.axis, " of x ",
                                    in[0].shape.str(), " has ", n, " elements"));
    }
    Shape shape = in[0].shape;
    if (shape.rank() != 0) shape[a.axis] = a.k;
    return {{in[0].dtype, shape}, {kInt64, shape}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(in[0], out);
  }
  static void order(const Attrs& a, DType type, const void* x, ptrdiff_t sx, size_t n, int64_t* y,
                    ptrdiff_t sy) {
    kernels::argtopk(type, x, sx, n, static_cast<size_t>(a.k), a.largest, a.sorted, y, sy);
  }
};
EBB_OP(Topk)

}  // namespace ops

ValuesIndices sort(const Tensor& x, int64_t axis, bool descending, Where where) {
  const int at = normalize_axis(axis, x.dim(), "sort");
  auto out = apply_multi<ops::Sort>({at, descending}, At(x, where));
  return {std::move(out[0]), std::move(out[1])};
}

Tensor argsort(const Tensor& x, int64_t axis, bool descending, Where where) {
  const int at = normalize_axis(axis, x.dim(), "argsort");
  const Tensor plain(x.array());  // records nothing
  return std::move(apply_multi<ops::Sort>({at, descending}, At(plain, where))[1]);
}

ValuesIndices topk(const Tensor& x, int64_t k, int64_t axis, bool largest, bool sorted,
                   Where where) {
  const int at = normalize_axis(axis, x.dim(), "topk");
  auto out = apply_multi<ops::Topk>({at, largest, sorted, k}, At(x, where));
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace ebb
