// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"
#include "ebb/ops/random.h"

namespace ebb {
namespace ops {

namespace {

// Of an op with results y and indices of its elements, which is its gradient's place.
template <int D>
struct PickedGradient {
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.out = 0b10, .shapes = 0b1} : GradUses{};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (g.has(0)) result[0] = scatter_planes(g[0], s.out(1), D, s.in_shape(0));
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (!g.has(0) || !s.needs(0)) return;
    const Array gy = contiguous(g[0]);
    const Shape x = s.in_shape(0);
    const auto shape = kernel_shape(D, x, gy.shape());
    Array gx = Array::empty(gy.dtype(), x);
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      kernels::scatter_planes(shape.planes, shape.out[0] * shape.out[1] * shape.out[2],
                              shape.in[0] * shape.in[1] * shape.in[2], gy.data<T>(),
                              s.out_array(1).data<int64_t>(), gx.mutable_data<T>());
    });
    sink.add(0, std::move(gx));
  }
};

Cost window_cost(const PoolAttrs& a, Span<const Meta> in, Span<const Meta> out) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(out[0].shape.numel()) *
                    static_cast<double>(a.kernel[0] * a.kernel[1] * a.kernel[2]);
  return c;
}
// Windows that cover x about once.
Cost covering_cost(Span<const Meta> in, Span<const Meta> out) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(in[0].shape.numel());
  return c;
}

}  // namespace

template <int D>
struct MaxPool {
  using Attrs = PoolOf<PoolAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"max_pool1d", "y[i] = max over a window of x at i * stride", "x:[n,c,l] -> y:[n,c,l']"},
      {"max_pool2d", "y[i] = max over a window of x at i * stride", "x:[n,c,h,w] -> y:[n,c,h',w']"},
      {"max_pool3d", "y[i] = max over a window of x at i * stride",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) { return ops::describe(a); }
  // Where the largest element was is found again rather than written down: x is at hand.
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    return {{in[0].dtype, pooled_shape(kDoc, a, in[0].shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      kernels::max_pool(kernel_shape(a, x.shape(), out[0].shape()), x.data<T>(),
                        out[0].mutable_data<T>());
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return window_cost(a, in, out);
  }
  static Grads backward(const Saved& s, const OutGrads& g);
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array gy = contiguous(g[0]);
    const Array x = contiguous(s.in_array(0));
    Array gx = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      kernels::max_pool_backward(kernel_shape(s.attrs<Attrs>(), x.shape(), gy.shape()), x.data<T>(),
                                 s.out_array(0).data<T>(), gy.data<T>(), gx.mutable_data<T>());
    });
    sink.add(0, std::move(gx));
  }
};
using MaxPool1d = MaxPool<1>;
using MaxPool2d = MaxPool<2>;
using MaxPool3d = MaxPool<3>;
EBB_OP(MaxPool1d)
EBB_OP(MaxPool2d)
EBB_OP(MaxPool3d)

template <int D>
struct MaxPoolWithIndices : PickedGradient<D> {
  using Attrs = PoolOf<PoolAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"max_pool1d_with_indices", "y, indices = max over windows of x, and where it is",
       "x:[n,c,l] -> y:[n,c,l'] indices:[n,c,l']"},
      {"max_pool2d_with_indices", "y, indices = max over windows of x, and where it is",
       "x:[n,c,h,w] -> y:[n,c,h',w'] indices:[n,c,h',w']"},
      {"max_pool3d_with_indices", "y, indices = max over windows of x, and where it is",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w'] indices:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) { return ops::describe(a); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    const Shape out = pooled_shape(kDoc, a, in[0].shape);
    return {{in[0].dtype, out}, {kInt64, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      kernels::max_pool(kernel_shape(a, x.shape(), out[0].shape()), x.data<T>(),
                        out[0].mutable_data<T>(), out[1].mutable_data<int64_t>());
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return window_cost(a, in, out);
  }
};
using MaxPool1dWithIndices = MaxPoolWithIndices<1>;
using MaxPool2dWithIndices = MaxPoolWithIndices<2>;
using MaxPool3dWithIndices = MaxPoolWithIndices<3>;
EBB_OP(MaxPool1dWithIndices)
EBB_OP(MaxPool2dWithIndices)
EBB_OP(MaxPool3dWithIndices)

template <int D>
Grads MaxPool<D>::backward(const Saved& s, const OutGrads& g) {
  const Tensor x(s.in_array(0));
  const Outputs found = apply_multi<MaxPoolWithIndices<D>>(s.attrs<Attrs>(), At(x));
  return {scatter_planes(g[0], found[1], D, x.shape())};
}

template <int D>
struct AdaptiveMaxPool : PickedGradient<D> {
  using Attrs = AdaptivePoolAttrs;
  static constexpr OpDoc kDocs[3] = {
      {"adaptive_max_pool1d", "y, indices = max over so many even windows, and where it is",
       "x:[n,c,l] -> y:[n,c,l'] indices:[n,c,l']"},
      {"adaptive_max_pool2d", "y, indices = max over so many even windows, and where it is",
       "x:[n,c,h,w] -> y:[n,c,h',w'] indices:[n,c,h',w']"},
      {"adaptive_max_pool3d", "y, indices = max over so many even windows, and where it is",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w'] indices:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) { return ops::describe(a, D); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    const Shape out = adaptive_shape(kDoc, D, a.out, in[0]);
    return {{in[0].dtype, out}, {kInt64, out}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const auto s = kernel_shape(D, x.shape(), out[0].shape());
    const auto window = [&](int d, int64_t, int64_t o) {
      return kernels::adaptive_window(s.in[d], s.out[d], o);
    };
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      kernels::max_over_windows(s, window, x.data<T>(), out[0].mutable_data<T>(),
                                out[1].mutable_data<int64_t>());
    });
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return covering_cost(in, out);
  }
};
using AdaptiveMaxPool1d = AdaptiveMaxPool<1>;
using AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
using AdaptiveMaxPool3d = AdaptiveMaxPool<3>;
EBB_OP(AdaptiveMaxPool1d)
EBB_OP(AdaptiveMaxPool2d)
EBB_OP(AdaptiveMaxPool3d)

template <int D>
struct FractionalMaxPool : PickedGradient<D> {
  struct Attrs {
    int64_t kernel[3] = {1, 1, 1};
    int64_t out[3] = {1, 1, 1};
  };
  static constexpr OpDoc kDocs[3] = {
      {"fractional_max_pool1d", "y, indices = max over windows at random distances",
       "x:[n,c,l] samples:[n,c,1] -> y:[n,c,l'] indices:[n,c,l']"},
      {"fractional_max_pool2d", "y, indices = max over windows at random distances",
       "x:[n,c,h,w] samples:[n,c,2] -> y:[n,c,h',w'] indices:[n,c,h',w']"},
      {"fractional_max_pool3d", "y, indices = max over windows at random distances",
       "x:[n,c,t,h,w] samples:[n,c,3] -> y:[n,c,t',h',w'] indices:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) {
    return absl::StrCat("kernel ", list_of(a.kernel, D), ", output size ", list_of(a.out, D));
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    check_pooled(kDoc, D, in);
    require_same_dtype(kDoc, in);
    const Shape& x = in[0].shape;
    Shape samples(x.data(), static_cast<size_t>(x.rank() - D));
    samples.push_back(D);
    if (in[1].shape != samples) {
      throw ShapeError(absl::StrCat(kDoc.name, ": x is ", x.str(), ", samples is ",
                                    in[1].shape.str(), "; it must be ", samples.str()));
    }
    for (int i = 3 - D; i < 3; ++i) {
      const int64_t n = x[x.rank() - 3 + i];
      const bool fits = a.kernel[i] >= 1 && a.out[i] >= 1 && a.kernel[i] <= n && a.out[i] <= n &&
                        a.out[i] + a.kernel[i] - 1 <= n;
      if (fits) continue;
      throw ShapeError(absl::StrCat(
          kDoc.name, ": x is ", x.str(), ", the kernel is ", list_of(a.kernel, D),
          ", the output size is ", list_of(a.out, D), "; along axis ", i - 3, " ", a.out[i], " + ",
          a.kernel[i], " - 1 must be at most ", n, ", and both at least 1"));
    }
    const Shape out = with_sizes(x, D, a.out);
    return {{in[0].dtype, out}, {kInt64, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array samples = contiguous(in[1]);
    const auto s = kernel_shape(D, x.shape(), out[0].shape());
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* u = samples.data<T>();
      for (int64_t i = 0; i < samples.numel(); ++i) {
        if (u[i] >= 0 && u[i] < 1) continue;
        throw ValueError(
            absl::StrCat(kDoc.name, ": element ", i, " of samples is ", u[i], ", outside [0, 1)"));
      }
      const auto window = [&](int d, int64_t plane, int64_t o) -> kernels::PoolWindow {
        if (d < 3 - D) return {0, 1, 1};
        const int64_t k = a.kernel[d];
        int64_t begin = s.in[d] - k;
        if (o + 1 < s.out[d]) {
          const T offset = u[plane * D + d - (3 - D)];
          const T alpha = static_cast<T>(s.in[d] - k) / static_cast<T>(s.out[d] - 1);
          begin = static_cast<int64_t>((static_cast<T>(o) + offset) * alpha) -
                  static_cast<int64_t>(offset * alpha);
        }
        return {begin, begin + k, k};
      };
      kernels::max_over_windows(s, window, x.data<T>(), out[0].mutable_data<T>(),
                                out[1].mutable_data<int64_t>());
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(out[0].shape.numel()) *
                      static_cast<double>(a.kernel[0] * a.kernel[1] * a.kernel[2]);
    return c;
  }
};
using FractionalMaxPool1d = FractionalMaxPool<1>;
using FractionalMaxPool2d = FractionalMaxPool<2>;
using FractionalMaxPool3d = FractionalMaxPool<3>;
EBB_OP(FractionalMaxPool1d)
EBB_OP(FractionalMaxPool2d)
EBB_OP(FractionalMaxPool3d)

namespace {

template <int D>
PoolAttrs attrs_of(const PerAxis<D>& kernel, const MaxPoolOptions<D>& options) {
  PoolAttrs a;
  a.dims = D;
  a.ceil_mode = options.ceil_mode;
  set_windows(a, kernel, options.stride);
  set_axes(a.pad, options.padding);
  set_axes(a.dilation, options.dilation);
  return a;
}

template <int D>
Tensor max_pool(const Tensor& x, const PerAxis<D>& kernel, const MaxPoolOptions<D>& options,
                Where where) {
  typename MaxPool<D>::Attrs attrs;
  static_cast<PoolAttrs&>(attrs) = attrs_of(kernel, options);
  return apply_with<MaxPool<D>>(attrs, At(x, where));
}

ValuesIndices pair_of(Outputs out) { return {std::move(out[0]), std::move(out[1])}; }

template <int D>
ValuesIndices max_pool_with_indices(const Tensor& x, const PerAxis<D>& kernel,
                                    const MaxPoolOptions<D>& options, Where where) {
  typename MaxPoolWithIndices<D>::Attrs attrs;
  static_cast<PoolAttrs&>(attrs) = attrs_of(kernel, options);
  return pair_of(apply_multi<MaxPoolWithIndices<D>>(attrs, At(x, where)));
}

template <int D>
ValuesIndices adaptive_max_pool(const Tensor& x, const PerAxis<D>& output_size, Where where) {
  typename AdaptiveMaxPool<D>::Attrs attrs;
  set_axes(attrs.out, output_size);
  return pair_of(apply_multi<AdaptiveMaxPool<D>>(attrs, At(x, where)));
}

template <int D>
ValuesIndices fractional_max_pool(const Tensor& x, const PerAxis<D>& kernel,
                                  const PerAxis<D>& output_size, const Tensor& samples,
                                  Generator& generator, Where where) {
  typename FractionalMaxPool<D>::Attrs attrs;
  set_axes(attrs.kernel, kernel);
  set_axes(attrs.out, output_size);
  Generator drawn = generator;
  Tensor u = samples;
  if (!u.defined()) {
    Shape shape;
    for (int i = 0; i + D < x.dim(); ++i) shape.push_back(x.size(i));
    shape.push_back(D);
    u = rand(shape, {.dtype = is_differentiable(x.dtype()) ? x.dtype() : kFloat32}, drawn);
  }
  ValuesIndices result = pair_of(apply_multi<FractionalMaxPool<D>>(attrs, At(x, where), u));
  generator = drawn;  // not where it threw
  return result;
}

}  // namespace
}  // namespace ops

Tensor max_pool1d(const Tensor& x, PerAxis<1> kernel, const MaxPoolOptions<1>& options,
                  Where where) {
  return ops::max_pool(x, kernel, options, where);
}
Tensor max_pool2d(const Tensor& x, PerAxis<2> kernel, const MaxPoolOptions<2>& options,
                  Where where) {
  return ops::max_pool(x, kernel, options, where);
}
Tensor max_pool3d(const Tensor& x, PerAxis<3> kernel, const MaxPoolOptions<3>& options,
                  Where where) {
  return ops::max_pool(x, kernel, options, where);
}

ValuesIndices max_pool1d_with_indices(const Tensor& x, PerAxis<1> kernel,
                                      const MaxPoolOptions<1>& options, Where where) {
  return ops::max_pool_with_indices(x, kernel, options, where);
}
ValuesIndices max_pool2d_with_indices(const Tensor& x, PerAxis<2> kernel,
                                      const MaxPoolOptions<2>& options, Where where) {
  return ops::max_pool_with_indices(x, kernel, options, where);
}
ValuesIndices max_pool3d_with_indices(const Tensor& x, PerAxis<3> kernel,
                                      const MaxPoolOptions<3>& options, Where where) {
  return ops::max_pool_with_indices(x, kernel, options, where);
}

ValuesIndices adaptive_max_pool1d(const Tensor& x, PerAxis<1> output_size, Where where) {
  return ops::adaptive_max_pool(x, output_size, where);
}
ValuesIndices adaptive_max_pool2d(const Tensor& x, PerAxis<2> output_size, Where where) {
  return ops::adaptive_max_pool(x, output_size, where);
}
ValuesIndices adaptive_max_pool3d(const Tensor& x, PerAxis<3> output_size, Where where) {
  return ops::adaptive_max_pool(x, output_size, where);
}

ValuesIndices fractional_max_pool1d(const Tensor& x, PerAxis<1> kernel, PerAxis<1> output_size,
                                    const Tensor& samples, Generator& generator, Where where) {
  return ops::fractional_max_pool(x, kernel, output_size, samples, generator, where);
}
ValuesIndices fractional_max_pool2d(const Tensor& x, PerAxis<2> kernel, PerAxis<2> output_size,
                                    const Tensor& samples, Generator& generator, Where where) {
  return ops::fractional_max_pool(x, kernel, output_size, samples, generator, where);
}
ValuesIndices fractional_max_pool3d(const Tensor& x, PerAxis<3> kernel, PerAxis<3> output_size,
                                    const Tensor& samples, Generator& generator, Where where) {
  return ops::fractional_max_pool(x, kernel, output_size, samples, generator, where);
}

}  // namespace ebb
