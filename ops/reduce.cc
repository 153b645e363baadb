// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/reduce.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/kernels/reduce.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

// `shape` with the axes of `mask` dropped, or of size 1 where they are kept.
Shape reduced_shape(const Shape& shape, uint32_t mask, bool keepdim) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if ((mask >> i & 1) == 0) {
      out.push_back(shape[i]);
    } else if (keepdim) {
      out.push_back(1);
    }
  }
  return out;
}

// Strides of the contiguous result, at each axis of the input: 0 along those that are reduced.
void reduced_strides(const Shape& shape, uint32_t mask, int64_t* strides) {
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    const bool reduced = (mask >> i & 1) != 0;
    strides[i] = reduced ? 0 : stride;
    if (!reduced) stride *= shape[i];
  }
}

// out = op over the axes of `mask` of x.
void run_reduce(kernels::Reduce op, const Array& x, uint32_t mask, const Array& out) {
  const auto rank = static_cast<size_t>(x.rank());
  int64_t out_strides[kMaxRank];
  reduced_strides(x.shape(), mask, out_strides);
  const auto in_size = static_cast<ptrdiff_t>(size_of(x.dtype()));
  const auto out_size = static_cast<ptrdiff_t>(size_of(out.dtype()));
  const kernels::ReduceRowFn row = kernels::reduce_row_fn(x.dtype(), op);
  const kernels::ReduceColsFn cols = kernels::reduce_cols_fn(x.dtype(), op);
  // The neutral element everywhere: what an empty reduction gives.
  for (int64_t i = 0; i < out.numel(); ++i) {
    row(nullptr, 0, 0, out.raw() + i * out_size, false);
  }
  kernels::for_each_row<2>(rank, x.dims(), {x.strides(), out_strides},
                           [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                             const std::byte* from = x.raw() + at[0] * in_size;
                             std::byte* to = out.raw() + at[1] * out_size;
                             if (stride[1] == 0 && mask != 0) {
                               row(from, stride[0], n, to, true);
                             } else if (stride[0] == 1 && stride[1] == 1) {
                               cols(from, static_cast<ptrdiff_t>(n), 1, n, to, true);
                             } else {
                               for (size_t i = 0; i < n; ++i) {
                                 row(from, 1, 1, to, true);
                                 from += stride[0] * in_size;
                                 to += stride[1] * out_size;
                               }
                             }
                           });
}

}  // namespace

struct ReduceAttrs {
  uint32_t mask;  // the axes to reduce
  bool keepdim;
};

struct Sum {
  static constexpr OpDoc kDoc{"sum", "y = sum of x over axes", "x:[...] -> y:[the other axes]"};
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("axes=", a.mask); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {{kernels::reduce_dtype(kernels::Reduce::kSum, in[0].dtype),
             reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(kernels::Reduce::kSum, in[0], a.mask, out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape shape = s.in_shape(0);
    const Shape kept = reduced_shape(shape, s.attrs<Attrs>().mask, true);
    return {expand(reshape(g[0], kept), shape)};
  }
};
EBB_OP(Sum)

struct SumTo {
  static constexpr OpDoc kDoc{"sum_to", "y = x summed over what expand would repeat",
                              "x:[...] -> y:shape"};
  struct Attrs {
    Shape shape;
  };
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape out;
    if (!broadcast_shapes(in[0].shape, a.shape, &out) || out != in[0].shape) {
      throw ShapeError(absl::StrCat("sum_to: ", a.shape.str(), " does not repeat to x, which is ",
                                    in[0].shape.str()));
    }
    return {{in[0].dtype, a.shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const int lead = in[0].rank() - a.shape.rank();
    uint32_t mask = (1u << lead) - 1;
    for (int i = 0; i < a.shape.rank(); ++i) {
      if (a.shape[i] == 1 && in[0].size(lead + i) != 1) mask |= 1u << (lead + i);
    }
    run_reduce(kernels::Reduce::kSum, in[0], mask, out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {expand(g[0], s.in_shape(0))};
  }
};
EBB_OP(SumTo)

}  // namespace ops

Tensor sum(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Sum>({axes.mask(x.dim(), "sum"), keepdim}, At(x, where));
}

Tensor sum_to(const Tensor& x, const Shape& shape, Where where) {
  if (x.shape() == shape) return x;
  return apply_with<ops::SumTo>({shape}, At(x, where));
}

Tensor Tensor::sum(Axes axes, bool keepdim, Where where) const {
  return ebb::sum(*this, axes, keepdim, where);
}

}  // namespace ebb
