// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/reduce.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/call.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

using kernels::Reduce;

namespace {

// The gradient of a sum, repeated over what was summed. A scalar needs no axes to be.
Tensor repeated(const Tensor& g, const Shape& shape, const ReduceAttrs& a) {
  return expand(g.dim() == 0 ? g : keep_axes(g, shape, a), shape);
}

// What the reductions have in common that are one kernel.
template <class Op, Reduce kernel>
struct KernelReduction {
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(a.mask, a.keepdim); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_reducible(Op::kDoc, kernel, in[0]);
    return {{kernels::reduce_dtype(kernel, in[0].dtype),
             reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(kernel, in[0], a.mask, out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
};

}  // namespace

struct Sum : KernelReduction<Sum, Reduce::kSum> {
  static constexpr OpDoc kDoc{"sum", "y = sum of x over axes", "x:[...] -> y:[the other axes]"};
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape shape = s.in_shape(0);
    return {repeated(g[0], shape, s.attrs<Attrs>())};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    sink.add(0, spread_gradient(g[0], s.in_shape(0), s.attrs<Attrs>().mask));
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
    require_reducible(kDoc, Reduce::kSum, in[0]);
    Shape out;
    if (!broadcast_shapes(in[0].shape, a.shape, &out) || out != in[0].shape) {
      throw ShapeError(absl::StrCat("sum_to: ", a.shape.str(), " does not repeat to x, which is ",
                                    in[0].shape.str()));
    }
    return {{kernels::reduce_dtype(Reduce::kSum, in[0].dtype), a.shape}};
  }
  // The axes of `from` that `to` does not have, or of size 1.
  static uint32_t mask(const Shape& from, const Shape& to) {
    const int lead = from.rank() - to.rank();
    uint32_t mask = (1u << lead) - 1;
    for (int i = 0; i < to.rank(); ++i) {
      if (to[i] == 1 && from[lead + i] != 1) mask |= 1u << (lead + i);
    }
    return mask;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(Reduce::kSum, in[0], mask(in[0].shape(), a.shape), out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {expand(g[0], s.in_shape(0))}; }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Shape shape = s.in_shape(0);
    sink.add(0, spread_gradient(g[0], shape, mask(shape, s.attrs<Attrs>().shape)));
  }
};
EBB_OP(SumTo)

struct Mean {
  static constexpr OpDoc kDoc{"mean", "y = mean of x over axes", "x:[...] -> y:[the other axes]"};
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(a.mask, a.keepdim); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {{in[0].dtype, reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  // to = from / count
  static void divide(const Array& from, int64_t count, const Array& to) {
    visit_differentiable(from.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* x = from.data<T>();
      T* y = to.mutable_data<T>();
      const T n = static_cast<T>(count);
      for (int64_t i = 0; i < from.numel(); ++i) y[i] = x[i] / n;
    });
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(Reduce::kSum, in[0], a.mask, out[0]);
    divide(out[0], reduced_count(in[0].shape(), a.mask), out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape shape = s.in_shape(0);
    const Attrs& a = s.attrs<Attrs>();
    // Of no elements the gradient is empty, whatever it is divided by; 0 would make NaN of the
    // next.
    const int64_t n = std::max<int64_t>(reduced_count(shape, a.mask), 1);
    const Tensor mean = g[0] / static_cast<double>(n);
    return {repeated(mean, shape, a)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Shape shape = s.in_shape(0);
    const uint32_t mask = s.attrs<Attrs>().mask;
    const Array gy = contiguous(g.take(0));
    const Array mean = reuse_or_new(gy);
    divide(gy, reduced_count(shape, mask), mean);
    sink.add(0, spread_gradient(mean, shape, mask));
  }
};
EBB_OP(Mean)

struct Any : KernelReduction<Any, Reduce::kAny> {
  static constexpr OpDoc kDoc{"any", "y = whether an element of x over axes is not 0",
                              "x:[...] -> y:[the other axes]"};
};
EBB_OP(Any)

struct All : KernelReduction<All, Reduce::kAll> {
  static constexpr OpDoc kDoc{"all", "y = whether no element of x over axes is 0",
                              "x:[...] -> y:[the other axes]"};
};
EBB_OP(All)

}  // namespace ops

Tensor sum(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return detail::apply_compiled<ops::Sum>({axes.mask(x.dim(), "sum"), keepdim}, where, x);
}

Tensor sum_to(const Tensor& x, const Shape& shape, Where where) {
  if (x.shape() == shape) return x;
  return apply_with<ops::SumTo>({shape}, At(x, where));
}

Tensor mean(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Mean>({axes.mask(x.dim(), "mean"), keepdim}, At(x, where));
}

Tensor any(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Any>({axes.mask(x.dim(), "any"), keepdim}, At(x, where));
}

Tensor all(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::All>({axes.mask(x.dim(), "all"), keepdim}, At(x, where));
}

Tensor Tensor::sum(Axes axes, bool keepdim, Where where) const {
  return ebb::sum(*this, axes, keepdim, where);
}
Tensor Tensor::mean(Axes axes, bool keepdim, Where where) const {
  return ebb::mean(*this, axes, keepdim, where);
}
Tensor Tensor::any(Axes axes, bool keepdim, Where where) const {
  return ebb::any(*this, axes, keepdim, where);
}
Tensor Tensor::all(Axes axes, bool keepdim, Where where) const {
  return ebb::all(*this, axes, keepdim, where);
}

}  // namespace ebb
