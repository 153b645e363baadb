// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/shape.h"

// Largest and smallest elements, and where they are.
namespace ebb {
namespace ops {

using kernels::ArgReduce;
using kernels::Reduce;

namespace {

// Calls f(a, b, ...) on the elements of arrays of one shape and any strides.
template <class T, class F, class... A>
void for_elements(const F& f, const A&... arrays) {
  constexpr size_t kN = sizeof...(A);
  const Array* const all[] = {&arrays...};
  T* const data[] = {arrays.template mutable_data<T>()...};
  kernels::for_each_row<kN>(static_cast<size_t>(all[0]->rank()), all[0]->dims(),
                            {arrays.strides()...},
                            [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                              [&]<size_t... k>(std::index_sequence<k...>) {
                                for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(n); ++i) {
                                  f(data[k][at[k] + i * stride[k]]...);
                                }
                              }
                              (std::make_index_sequence<kN>());
                            });
}

// max and min over axes. The gradient is shared out evenly among the elements that attain it.
template <class Op, Reduce kernel>
struct Extreme {
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(a.mask, a.keepdim); }
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_reducible(Op::kDoc, kernel, in[0]);
    require_nonempty(Op::kDoc, in[0].shape, a.mask);
    return {{in[0].dtype, reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(kernel, in[0], a.mask, out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x(s.in_array(0));
    const Shape shape = x.shape();
    const Tensor attained = cast(eq(x, keep_axes(Tensor(s.out_array(0)), shape, a)), x.dtype());
    const Tensor count = sum_to(attained, reduced_shape(shape, a.mask, true));
    return {attained * (keep_axes(g[0], shape, a) / count)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& x = s.in_array(0);
    const Shape shape = x.shape();
    const uint32_t mask = s.attrs<Attrs>().mask;
    const Array y = spread(s.out_array(0), shape, mask);
    const Array share = Array::zeros(x.dtype(), s.out_array(0).shape());
    const Array shares = spread(share, shape, mask);
    const Array dx = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for_elements<T>([](T v, T extreme, T& count) { count += v == extreme; }, x, y, shares);
      for_elements<T>([](T gy, T& to) { to = gy / to; }, g[0], share);
      // With a NaN nothing equals the result, and NaN is the gradient: 0 times infinity.
      for_elements<T>([](T v, T extreme, T gy, T& to) { to = (v == extreme ? gy : T{0} * gy); }, x,
                      y, shares, dx);
    });
    sink.add(0, dx);
  }
};

struct IndexAttrs {
  int axis = -1;  // -1: all of x as one row
  bool keepdim = false;
};

uint32_t mask_of(const IndexAttrs& a) { return a.axis < 0 ? ~0u : 1u << a.axis; }

// The lines of an array along one axis.
struct Lines {
  Lines(const Array& x, int axis) : stride(x.rank() == 0 ? 0 : x.stride(axis)) {
    n = x.rank() == 0 ? 1 : x.size(axis);
    for (int i = 0; i < x.rank(); ++i) {
      if (i == axis) continue;
      strides[dims.rank()] = x.stride(i);
      dims.push_back(x.size(i));
    }
  }
  Shape dims;  // of the other axes
  int64_t strides[kMaxRank];
  int64_t n;
  int64_t stride;
};

// index[j] = where the extreme of line j is, for lines in row-major order of the other axes.
void run_arg(ArgReduce op, const Array& x, int axis, int64_t* index) {
  const Lines lines(x, axis);
  const auto item = static_cast<ptrdiff_t>(size_of(x.dtype()));
  int64_t out_strides[kMaxRank];
  int64_t out_stride = 1;
  for (int i = lines.dims.rank() - 1; i >= 0; --i) {
    out_strides[i] = out_stride;
    out_stride *= lines.dims[i];
  }
  const kernels::ArgRowFn row = kernels::arg_row_fn(x.dtype(), op);
  const kernels::ArgColsFn cols = kernels::arg_cols_fn(x.dtype(), op);
  kernels::for_each_row<2>(
      static_cast<size_t>(lines.dims.rank()), lines.dims.data(), {out_strides, lines.strides},
      [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* step) {
        const std::byte* from = x.raw() + at[1] * item;
        if (n > 1 && step[0] == 1 && step[1] == 1) {
          cols(from, lines.stride, static_cast<size_t>(lines.n), n, index + at[0]);
          return;
        }
        for (size_t i = 0; i < n; ++i) {
          index[at[0] + static_cast<ptrdiff_t>(i) * step[0]] =
              row(from, lines.stride, static_cast<size_t>(lines.n));
          from += step[1] * item;
        }
      });
}

Meta index_meta(const OpDoc& doc, ArgReduce op, const IndexAttrs& a, Span<const Meta> in) {
  require_inputs(doc, in, 1);
  if (kernels::arg_row_fn(in[0].dtype, op) == nullptr) {
    throw DTypeError(
        absl::StrCat(doc.name, ": not defined for ", name_of(in[0].dtype), "; x is ", in[0].str()));
  }
  const uint32_t mask = mask_of(a);
  require_nonempty(doc, in[0].shape, mask);
  return {kInt64, reduced_shape(in[0].shape, mask, a.keepdim)};
}

template <class Op, ArgReduce kernel>
struct ArgExtreme {
  using Attrs = IndexAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(mask_of(a), a.keepdim); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    return {index_meta(Op::kDoc, kernel, a, in)};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    auto* index = out[0].mutable_data<int64_t>();
    if (a.axis >= 0) return run_arg(kernel, in[0], a.axis, index);
    const Array x = contiguous(in[0]);
    *index = kernels::arg_row_fn(x.dtype(), kernel)(x.raw(), 1, static_cast<size_t>(x.numel()));
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
};

// max and min along one axis, with the place of each: the gradient goes there alone.
template <class Op, ArgReduce kernel>
struct ExtremeAlong {
  using Attrs = IndexAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(mask_of(a), a.keepdim); }
  static constexpr GradUses uses(int) { return {.out = 0b10, .shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    const Meta index = index_meta(Op::kDoc, kernel, a, in);
    return {{in[0].dtype, index.shape}, index};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }

  // Calls f(j, offset of the element that indices[j] names) for all lines j of `x`.
  template <class F>
  static void for_picked(const Array& x, int axis, const Array& indices, const F& f) {
    const Lines lines(x, axis);
    const int64_t* index = indices.data<int64_t>();
    int64_t at[kMaxRank] = {0};
    int64_t base = 0;
    for (int64_t j = 0; j < indices.numel(); ++j) {
      f(j, base + index[j] * lines.stride);
      for (int d = lines.dims.rank() - 1; d >= 0; --d) {
        base += lines.strides[d];
        if (++at[d] < lines.dims[d]) break;
        base -= lines.strides[d] * lines.dims[d];
        at[d] = 0;
      }
    }
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_arg(kernel, in[0], a.axis, out[1].mutable_data<int64_t>());
    const size_t item = size_of(in[0].dtype());
    for_picked(in[0], a.axis, out[1], [&](int64_t j, int64_t offset) {
      std::memcpy(out[0].raw() + static_cast<size_t>(j) * item,
                  in[0].raw() + offset * static_cast<int64_t>(item), item);
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = s.in_shape(0);
    const Array picked = Array::zeros(g[0].dtype(), shape);
    visit_differentiable(picked.dtype(), [&](auto t) {
      using T = decltype(t);
      for_picked(picked, a.axis, s.out_array(1),
                 [to = picked.mutable_data<T>()](int64_t, int64_t offset) { to[offset] = 1; });
    });
    return {keep_axes(g[0], shape, {mask_of(a), a.keepdim}) * Tensor(picked)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array gy = contiguous(g[0]);
    const Array dx = Array::zeros(gy.dtype(), s.in_shape(0));
    visit_differentiable(dx.dtype(), [&](auto t) {
      using T = decltype(t);
      for_picked(dx, s.attrs<Attrs>().axis, s.out_array(1),
                 [to = dx.mutable_data<T>(), from = gy.data<T>()](int64_t j, int64_t offset) {
                   to[offset] = from[j];
                 });
    });
    sink.add(0, dx);
  }
};

}  // namespace

struct Max : Extreme<Max, Reduce::kMax> {
  static constexpr OpDoc kDoc{"max", "y = largest element of x over axes",
                              "x:[...] -> y:[the other axes]"};
};
EBB_OP(Max)

struct Min : Extreme<Min, Reduce::kMin> {
  static constexpr OpDoc kDoc{"min", "y = smallest element of x over axes",
                              "x:[...] -> y:[the other axes]"};
};
EBB_OP(Min)

struct ArgMax : ArgExtreme<ArgMax, ArgReduce::kArgMax> {
  static constexpr OpDoc kDoc{"argmax", "y = index of the largest element of x along an axis",
                              "x:[..,n,..] -> y:[..,..] int64"};
};
EBB_OP(ArgMax)

struct ArgMin : ArgExtreme<ArgMin, ArgReduce::kArgMin> {
  static constexpr OpDoc kDoc{"argmin", "y = index of the smallest element of x along an axis",
                              "x:[..,n,..] -> y:[..,..] int64"};
};
EBB_OP(ArgMin)

struct MaxAlong : ExtremeAlong<MaxAlong, ArgReduce::kArgMax> {
  static constexpr OpDoc kDoc{"max_along", "values, indices = largest elements along an axis",
                              "x:[..,n,..] -> values:[..,..] indices:[..,..] int64"};
};
EBB_OP(MaxAlong)

struct MinAlong : ExtremeAlong<MinAlong, ArgReduce::kArgMin> {
  static constexpr OpDoc kDoc{"min_along", "values, indices = smallest elements along an axis",
                              "x:[..,n,..] -> values:[..,..] indices:[..,..] int64"};
};
EBB_OP(MinAlong)

namespace {

template <class Op>
Tensor index_of_extreme(const Tensor& x, std::optional<int64_t> axis, bool keepdim, Where where) {
  const int at = axis.has_value() ? normalize_axis(*axis, x.dim(), Op::kDoc.name) : -1;
  return apply_with<Op>({at, keepdim}, At(x, where));
}

template <class Op>
ValuesIndices extreme_along(const char* name, const Tensor& x, int64_t axis, bool keepdim,
                            Where where) {
  auto out = apply_multi<Op>({normalize_axis(axis, x.dim(), name), keepdim}, At(x, where));
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace
}  // namespace ops

Tensor max(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Max>({axes.mask(x.dim(), "max"), keepdim}, At(x, where));
}
Tensor min(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Min>({axes.mask(x.dim(), "min"), keepdim}, At(x, where));
}

namespace detail {

ValuesIndices max_along(const Tensor& x, int64_t axis, bool keepdim, Where where) {
  return ops::extreme_along<ops::MaxAlong>("max", x, axis, keepdim, where);
}
ValuesIndices min_along(const Tensor& x, int64_t axis, bool keepdim, Where where) {
  return ops::extreme_along<ops::MinAlong>("min", x, axis, keepdim, where);
}

}  // namespace detail

Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdim, Where where) {
  return ops::index_of_extreme<ops::ArgMax>(x, axis, keepdim, where);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdim, Where where) {
  return ops::index_of_extreme<ops::ArgMin>(x, axis, keepdim, where);
}

Tensor Tensor::max(Axes axes, bool keepdim, Where where) const {
  return ebb::max(*this, axes, keepdim, where);
}
Tensor Tensor::min(Axes axes, bool keepdim, Where where) const {
  return ebb::min(*this, axes, keepdim, where);
}
Tensor Tensor::argmax(std::optional<int64_t> axis, bool keepdim, Where where) const {
  return ebb::argmax(*this, axis, keepdim, where);
}
Tensor Tensor::argmin(std::optional<int64_t> axis, bool keepdim, Where where) const {
  return ebb::argmin(*this, axis, keepdim, where);
}

}  // namespace ebb
