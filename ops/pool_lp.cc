// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

namespace {

struct LPPoolAttrs : PoolAttrs {
  double p = 2;
};

double window_size(const PoolAttrs& a) {
  return static_cast<double>(a.kernel[0]) * static_cast<double>(a.kernel[1]) *
         static_cast<double>(a.kernel[2]);
}

}  // namespace

// y = (k m)^(1/p) of the mean m of x^p over windows of k elements.
template <int D>
struct LPPool {
  using Attrs = PoolOf<LPPoolAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"lp_pool1d", "y[i] = (sum over a window of x^p)^(1/p)", "x:[n,c,l] -> y:[n,c,l']"},
      {"lp_pool2d", "y[i] = (sum over a window of x^p)^(1/p)", "x:[n,c,h,w] -> y:[n,c,h',w']"},
      {"lp_pool3d", "y[i] = (sum over a window of x^p)^(1/p)",
       "x:[n,c,t,h,w] -> y:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) {
    return absl::StrCat("p ", a.p, ", ", ops::describe(a));
  }
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, D, in);
    if (!(a.p > 0) || std::isinf(a.p)) {
      throw ValueError(
          absl::StrCat(kDoc.name, ": norm_type is ", a.p, "; it must be positive and finite"));
    }
    return {{in[0].dtype, pooled_shape(kDoc, a, in[0].shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array powers = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T p = static_cast<T>(a.p);
      const T k = static_cast<T>(window_size(a));
      const T* from = x.data<T>();
      T* to = powers.mutable_data<T>();
      T* y = out[0].mutable_data<T>();
      for (int64_t i = 0; i < x.numel(); ++i) to[i] = std::pow(from[i], p);
      kernels::avg_pool(kernel_shape(a, x.shape(), out[0].shape()), true, 0,
                        static_cast<const T*>(to), y);
      for (int64_t i = 0; i < out[0].numel(); ++i) y[i] = std::pow(k * y[i], 1 / p);
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(out[0].shape.numel()) * window_size(a) +
                      static_cast<double>(in[0].shape.numel());
    return c;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    AvgPoolAttrs mean;
    static_cast<PoolAttrs&>(mean) = a;
    const Tensor x = s.in(0);
    const Tensor y = s.out(0);
    const Tensor none = eq(y, Tensor(Array::scalar(y.dtype(), 0)));
    const Tensor slope = masked_fill(pow(masked_fill(y, none, 1), 1 - a.p), none, 0);
    const Tensor spread = avg_pool_backward(mean, g[0] * slope * window_size(a), x.shape());
    return {spread * pow(x, a.p - 1)};
  }
};
using LPPool1d = LPPool<1>;
using LPPool2d = LPPool<2>;
using LPPool3d = LPPool<3>;
EBB_OP(LPPool1d)
EBB_OP(LPPool2d)
EBB_OP(LPPool3d)

namespace {

template <int D>
Tensor lp_pool(const Tensor& x, double norm_type, const PerAxis<D>& kernel,
               const LPPoolOptions<D>& options, Where where) {
  typename LPPool<D>::Attrs attrs;
  attrs.p = norm_type;
  attrs.ceil_mode = options.ceil_mode;
  set_windows<D>(attrs, kernel, options.stride);
  return apply_with<LPPool<D>>(attrs, At(x, where));
}

}  // namespace
}  // namespace ops

Tensor lp_pool1d(const Tensor& x, double norm_type, PerAxis<1> kernel,
                 const LPPoolOptions<1>& options, Where where) {
  return ops::lp_pool(x, norm_type, kernel, options, where);
}
Tensor lp_pool2d(const Tensor& x, double norm_type, PerAxis<2> kernel,
                 const LPPoolOptions<2>& options, Where where) {
  return ops::lp_pool(x, norm_type, kernel, options, where);
}
Tensor lp_pool3d(const Tensor& x, double norm_type, PerAxis<3> kernel,
                 const LPPoolOptions<3>& options, Where where) {
  return ops::lp_pool(x, norm_type, kernel, options, where);
}

}  // namespace ebb
