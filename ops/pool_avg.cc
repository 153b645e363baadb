// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"

namespace ebb {
namespace ops {

namespace {

std::string describe_avg(const AvgPoolAttrs& a) {
  return absl::StrCat(ops::describe(static_cast<const PoolAttrs&>(a)),
                      a.count_include_pad ? "" : ", padding not counted",
                      a.divisor != 0 ? absl::StrCat(", divisor ", a.divisor) : "");
}

// An addition for every element of every window.
Cost window_cost(const PoolAttrs& a, Span<const Meta> in, Span<const Meta> out,
                 const Shape& windows) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(windows.numel()) *
                    static_cast<double>(a.kernel[0] * a.kernel[1] * a.kernel[2]);
  return c;
}
Cost covering_cost(Span<const Meta> in, Span<const Meta> out, const Shape& covered) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(covered.numel());
  return c;
}

void run(const AvgPoolAttrs& a, const Array& in, const Array& y) {
  const Array x = contiguous(in);
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::avg_pool(kernel_shape(a, x.shape(), y.shape()), a.count_include_pad, a.divisor,
                      x.data<T>(), y.mutable_data<T>());
  });
}
void run_backward(const AvgPoolAttrs& a, const Array& gradient, const Array& gx) {
  const Array g = contiguous(gradient);
  visit_differentiable(g.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::avg_pool_backward(kernel_shape(a, gx.shape(), g.shape()), a.count_include_pad,
                               a.divisor, g.data<T>(), gx.mutable_data<T>());
  });
}
void run_adaptive(int dims, const Array& in, const Array& y) {
  const Array x = contiguous(in);
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::adaptive_avg_pool(kernel_shape(dims, x.shape(), y.shape()), x.data<T>(),
                               y.mutable_data<T>());
  });
}
void run_adaptive_backward(int dims, const Array& gradient, const Array& gx) {
  const Array g = contiguous(gradient);
  visit_differentiable(g.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::adaptive_avg_pool_backward(kernel_shape(dims, gx.shape(), g.shape()), g.data<T>(),
                                        gx.mutable_data<T>());
  });
}

}  // namespace

template <int D>
struct AvgPool {
  using Attrs = PoolOf<AvgPoolAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"avg_pool1d", "y[i] = mean over a window of x at i * stride", "x:[n,c,l] -> y:[n,c,l']"},
      {"avg_pool2d", "y[i] = mean over a window of x at i * stride",
       "x:[n,c,h,w] -> y:[n,c,h',w']"},
      {"avg_pool3d", "y[i] = mean over a window of x at i * stride",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) { return describe_avg(a); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    return {{in[0].dtype, pooled_shape(kDoc, a, in[0].shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run(a, in[0], out[0]);
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return window_cost(a, in, out, out[0].shape);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {avg_pool_backward(s.attrs<Attrs>(), g[0], s.in_shape(0))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    Array gx = Array::empty(g[0].dtype(), s.in_shape(0));
    run_backward(s.attrs<Attrs>(), g[0], gx);
    sink.add(0, std::move(gx));
  }
};
using AvgPool1d = AvgPool<1>;
using AvgPool2d = AvgPool<2>;
using AvgPool3d = AvgPool<3>;
EBB_OP(AvgPool1d)
EBB_OP(AvgPool2d)
EBB_OP(AvgPool3d)

struct AvgPoolBackward {
  static constexpr OpDoc kDoc{"avg_pool_backward", "the transpose of avg_pool1d, 2d or 3d",
                              "g:[n,c,...] -> dx:[n,c,...]"};
  using Attrs = AvgPoolBackwardAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat(describe_avg(a), ", input size ", list_of(a.in, a.dims));
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, a.dims, in, "g");
    const Shape x = with_sizes(in[0].shape, a.dims, a.in);
    const Shape want = pooled_shape(kDoc, a, x);
    if (in[0].shape != want) {
      throw ShapeError(absl::StrCat(kDoc.name, ": g is ", in[0].shape.str(), ", x is ", x.str(),
                                    ", ", describe(a), "; g must be ", want.str()));
    }
    check_addressable(kDoc, in[0].shape, x, in[0].dtype);
    return {{in[0].dtype, x}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_backward(a, in[0], out[0]);
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return window_cost(a, in, out, in[0].shape);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {forward_again(s.attrs<Attrs>(), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    Array gg = Array::empty(g[0].dtype(), pooled_shape(kDoc, a, g[0].shape()));
    run(a, g[0], gg);
    sink.add(0, std::move(gg));
  }
  template <int D>
  static Tensor as(const Attrs& a, const Tensor& x) {
    typename AvgPool<D>::Attrs attrs;
    static_cast<AvgPoolAttrs&>(attrs) = a;
    return apply_with<AvgPool<D>>(attrs, At(x));
  }
  static Tensor forward_again(const Attrs& a, const Tensor& x) {
    if (a.dims == 1) return as<1>(a, x);
    return a.dims == 2 ? as<2>(a, x) : as<3>(a, x);
  }
};
EBB_OP(AvgPoolBackward)

template <int D>
struct AdaptiveAvgPool {
  using Attrs = AdaptivePoolAttrs;
  static constexpr OpDoc kDocs[3] = {
      {"adaptive_avg_pool1d", "y = means over so many even windows of x",
       "x:[n,c,l] -> y:[n,c,l']"},
      {"adaptive_avg_pool2d", "y = means over so many even windows of x",
       "x:[n,c,h,w] -> y:[n,c,h',w']"},
      {"adaptive_avg_pool3d", "y = means over so many even windows of x",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) { return ops::describe(a, D); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    return {{in[0].dtype, adaptive_shape(kDoc, D, a.out, in[0])}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_adaptive(D, in[0], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return covering_cost(in, out, in[0].shape);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {adaptive_avg_pool_backward(D, g[0], s.in_shape(0))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    Array gx = Array::empty(g[0].dtype(), s.in_shape(0));
    run_adaptive_backward(D, g[0], gx);
    sink.add(0, std::move(gx));
  }
};
using AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
using AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
using AdaptiveAvgPool3d = AdaptiveAvgPool<3>;
EBB_OP(AdaptiveAvgPool1d)
EBB_OP(AdaptiveAvgPool2d)
EBB_OP(AdaptiveAvgPool3d)

struct AdaptiveAvgPoolBackward {
  static constexpr OpDoc kDoc{"adaptive_avg_pool_backward",
                              "the transpose of adaptive_avg_pool1d, 2d or 3d",
                              "g:[n,c,...] -> dx:[n,c,...]"};
  struct Attrs {
    int dims = 1;
    int64_t in[3] = {1, 1, 1};
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("input size ", list_of(a.in, a.dims));
  }
  // Of the shape of g alone, which was the size asked for.
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, a.dims, in, "g");
    const Shape x = with_sizes(in[0].shape, a.dims, a.in);
    check_pooled(kDoc, a.dims, std::initializer_list<Meta>{{in[0].dtype, x}});
    check_addressable(kDoc, in[0].shape, x, in[0].dtype);
    return {{in[0].dtype, x}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_adaptive_backward(a.dims, in[0], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return covering_cost(in, out, out[0].shape);
  }
  template <int D>
  static Tensor as(const Tensor& x, const Shape& out) {
    typename AdaptiveAvgPool<D>::Attrs attrs;
    for (int d = 0; d < D; ++d) attrs.out[3 - D + d] = out[out.rank() - D + d];
    return apply_with<AdaptiveAvgPool<D>>(attrs, At(x));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int dims = s.attrs<Attrs>().dims;
    const Shape out = s.in_shape(0);
    if (dims == 1) return {as<1>(g[0], out)};
    return {dims == 2 ? as<2>(g[0], out) : as<3>(g[0], out)};
  }
};
EBB_OP(AdaptiveAvgPoolBackward)

namespace {

template <int D>
Tensor avg_pool(const Tensor& x, const PerAxis<D>& kernel, const AvgPoolOptions<D>& options,
                Where where) {
  typename AvgPool<D>::Attrs attrs;
  attrs.ceil_mode = options.ceil_mode;
  set_windows<D>(attrs, kernel, options.stride);
  set_axes(attrs.pad, options.padding);
  attrs.count_include_pad = options.count_include_pad;
  attrs.divisor = options.divisor_override.value_or(0);
  if (options.divisor_override == 0) {
    throw ValueError(absl::StrCat(AvgPool<D>::kDoc.name, ": divisor_override is 0"));
  }
  return apply_with<AvgPool<D>>(attrs, At(x, where));
}

template <int D>
Tensor adaptive_avg_pool(const Tensor& x, const PerAxis<D>& output_size, Where where) {
  typename AdaptiveAvgPool<D>::Attrs attrs;
  set_axes(attrs.out, output_size);
  return apply_with<AdaptiveAvgPool<D>>(attrs, At(x, where));
}

// The last sizes of a shape, as far as there are any.
void take_sizes(int64_t (&to)[3], int dims, const Shape& from) {
  for (int i = 3 - dims; i < 3; ++i) {
    const int axis = from.rank() - 3 + i;
    if (axis >= 0) to[i] = from[axis];
  }
}

}  // namespace
}  // namespace ops

Tensor avg_pool1d(const Tensor& x, PerAxis<1> kernel, const AvgPoolOptions<1>& options,
                  Where where) {
  return ops::avg_pool(x, kernel, options, where);
}
Tensor avg_pool2d(const Tensor& x, PerAxis<2> kernel, const AvgPoolOptions<2>& options,
                  Where where) {
  return ops::avg_pool(x, kernel, options, where);
}
Tensor avg_pool3d(const Tensor& x, PerAxis<3> kernel, const AvgPoolOptions<3>& options,
                  Where where) {
  return ops::avg_pool(x, kernel, options, where);
}

Tensor adaptive_avg_pool1d(const Tensor& x, PerAxis<1> output_size, Where where) {
  return ops::adaptive_avg_pool(x, output_size, where);
}
Tensor adaptive_avg_pool2d(const Tensor& x, PerAxis<2> output_size, Where where) {
  return ops::adaptive_avg_pool(x, output_size, where);
}
Tensor adaptive_avg_pool3d(const Tensor& x, PerAxis<3> output_size, Where where) {
  return ops::adaptive_avg_pool(x, output_size, where);
}

Tensor avg_pool_backward(const ops::AvgPoolAttrs& attrs, const Tensor& g, const Shape& x,
                         Where where) {
  ops::AvgPoolBackwardAttrs a;
  static_cast<ops::AvgPoolAttrs&>(a) = attrs;
  ops::take_sizes(a.in, a.dims, x);
  return apply_with<ops::AvgPoolBackward>(a, At(g, where));
}

Tensor adaptive_avg_pool_backward(int dims, const Tensor& g, const Shape& x, Where where) {
  ops::AdaptiveAvgPoolBackward::Attrs a;
  a.dims = dims;
  ops::take_sizes(a.in, dims, x);
  return apply_with<ops::AdaptiveAvgPoolBackward>(a, At(g, where));
}

}  // namespace ebb
