// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

// Normalisation by what is near: in other channels, or around a pixel.
namespace ebb {
namespace ops {

namespace {

Tensor flattened(const Tensor& x, const Channels& e) {
  return reshape(x, {e.samples, e.channels, e.len});
}

// Element (i, j) is weight(j - i) where from <= j - i <= to, else 0.
template <class F>
Tensor band(int64_t n, int64_t from, int64_t to, DType dtype, const F& weight) {
  const Array m = Array::zeros(dtype, {n, n});
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = std::max<int64_t>(i + from, 0); j <= std::min(i + to, n - 1); ++j) {
        m.mutable_data<T>()[i * n + j] = static_cast<T>(weight(j - i));
      }
    }
  });
  return Tensor(m);
}

}  // namespace

struct LocalResponseNorm {
  static constexpr OpDoc kDoc{
      "local_response_norm", "y_c = x_c / (k + alpha / size sum_j x_j^2)^beta over channels near c",
      "x:[..,c,...] -> y:[..,c,...]"};
  struct Attrs {
    int64_t size = 5;
    double alpha = 1e-4;
    double beta = 0.75;
    double k = 1;
    int behind = 2;

    int64_t before() const { return size / 2; }
    int64_t after() const { return (size - 1) / 2; }
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("size=", a.size, " alpha=", a.alpha, " beta=", a.beta, " k=", a.k,
                        " channel_axis=", -1 - a.behind);
  }
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_channels(kDoc, in, a.behind, {});
    if (!std::isfinite(a.alpha) || !std::isfinite(a.beta) || !std::isfinite(a.k)) {
      throw ValueError(absl::StrCat("local_response_norm: alpha is ", a.alpha, ", beta ", a.beta,
                                    ", k ", a.k, "; they must be finite"));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= static_cast<double>(a.size) + 4;
    return c;
  }
  // Adds to `to`, [C,len], for each channel the rows of `from` that are `low` to `high` channels
  // on.
  template <class T>
  static void add_window(const T* from, T* to, const Channels& e, int64_t low, int64_t high) {
    for (int64_t c = 0; c < e.channels; ++c) {
      const int64_t end = std::min(c + high, e.channels - 1);
      for (int64_t j = std::max<int64_t>(c + low, 0); j <= end; ++j) {
        kernels::add_into(from + j * e.len, to + c * e.len, static_cast<size_t>(e.len));
      }
    }
  }
  // The bases k + alpha / size * sum of one sample; `squares` is scratch of its size.
  template <class T>
  static void bases(const Attrs& a, const T* x, T* squares, T* d, const Channels& e) {
    const auto n = e.channels * e.len;
    const auto factor = static_cast<T>(a.alpha / static_cast<double>(a.size));
    for (int64_t i = 0; i < n; ++i) squares[i] = factor * x[i] * x[i];
    std::fill_n(d, n, static_cast<T>(a.k));
    add_window(squares, d, e, -a.before(), a.after());
  }
  template <class T>
  static void power(const T* d, T* p, int64_t n, double exponent) {
    kernels::run_unary(kernels::Unary::kPowScalar, dtype_of<T>, d, p, static_cast<size_t>(n),
                       {.a = exponent});
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Channels e(x.shape(), a.behind);
    const int64_t n = e.channels * e.len;
    const Array scratch = Array::empty(x.dtype(), {n});
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      T* squares = scratch.mutable_data<T>();
      for (int64_t s = 0; s < e.samples; ++s) {
        const T* from = x.data<T>() + s * n;
        T* y = out[0].mutable_data<T>() + s * n;
        bases(a, from, squares, y, e);
        power(y, y, n, -a.beta);
        for (int64_t i = 0; i < n; ++i) y[i] *= from[i];
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Channels e(x.shape(), a.behind);
    const Tensor rows = flattened(x, e);
    const Tensor gy = flattened(g[0], e);
    const Tensor near =
        band(e.channels, -a.before(), a.after(), x.dtype(), [](int64_t) { return 1; });
    const double factor = a.alpha / static_cast<double>(a.size);
    const Tensor d = affine(matmul(near, square(rows)), factor, a.k);
    const Tensor p = pow(d, -a.beta);
    const Tensor spread = matmul(t(near), gy * rows * p / d);
    return {reshape(gy * p - (2 * a.beta * factor) * (rows * spread), x.shape())};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array x = contiguous(s.in_array(0));
    const Array gy = contiguous(g.take(0));
    const Array gx = reuse_or_new(gy);
    const Channels e(x.shape(), a.behind);
    const int64_t n = e.channels * e.len;
    const Array scratch = Array::empty(x.dtype(), {3, n});
    const double factor = a.alpha / static_cast<double>(a.size);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      T* d = scratch.mutable_data<T>();
      T* p = d + n;
      T* spread = p + n;
      for (int64_t k = 0; k < e.samples; ++k) {
        const T* from = x.data<T>() + k * n;
        const T* gi = gy.data<T>() + k * n;
        T* to = gx.mutable_data<T>() + k * n;
        bases(a, from, p, d, e);
        power(d, p, n, -a.beta);
        for (int64_t i = 0; i < n; ++i) d[i] = gi[i] * from[i] * p[i] / d[i];
        std::memset(spread, 0, static_cast<size_t>(n) * sizeof(T));
        add_window(d, spread, e, -a.after(), a.before());
        const auto by = static_cast<T>(2 * a.beta * factor);
        for (int64_t i = 0; i < n; ++i) to[i] = gi[i] * p[i] - by * from[i] * spread[i];
      }
    });
    sink.add(0, gx);
  }
};
EBB_OP(LocalResponseNorm)

struct Gdn {
  static constexpr OpDoc kDoc{"gdn", "y_c = x_c / sqrt(beta_c + sum_j gamma_cj x_j^2)",
                              "x:[..,c,...] beta:[c] gamma:[c,c] -> y:[..,c,...]"};
  struct Attrs {
    int behind = 2;
    bool inverse = false;
  };
  static constexpr const char* kParameters[] = {"beta"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("channel_axis=", -1 - a.behind, a.inverse ? " inverse" : "");
  }
  static constexpr GradUses uses(int) { return {.in = 0b111}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    require_channels(kDoc, in.first(2), a.behind, kParameters);
    const int64_t c = in[1].shape[0];
    if (in[2].shape != Shape{c, c}) {
      throw ShapeError(absl::StrCat("gdn: x is ", in[0].shape.str(), " with ", c,
                                    " channels, gamma is ", in[2].shape.str(), "; it must be ",
                                    Shape{c, c}.str()));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 4 + static_cast<double>(Channels(in[0].shape, a.behind).channels);
    return c;
  }
  // d = beta + gamma x^2 of one sample; squares gets x^2.
  template <class T>
  static void bases(const T* x, const T* beta, const T* gamma, T* squares, T* d,
                    const Channels& e) {
    for (int64_t i = 0; i < e.channels * e.len; ++i) squares[i] = x[i] * x[i];
    for (int64_t c = 0; c < e.channels; ++c) std::fill_n(d + c * e.len, e.len, beta[c]);
    kernels::gemm(false, false, e.channels, e.len, e.channels, T{1}, gamma,
                  std::max<int64_t>(e.channels, 1), squares, std::max<int64_t>(e.len, 1), T{1}, d,
                  std::max<int64_t>(e.len, 1));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array beta = contiguous(in[1]);
    const Array gamma = contiguous(in[2]);
    const Channels e(x.shape(), a.behind);
    const int64_t n = e.channels * e.len;
    const Array scratch = Array::empty(x.dtype(), {n});
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t s = 0; s < e.samples; ++s) {
        const T* from = x.data<T>() + s * n;
        T* y = out[0].mutable_data<T>() + s * n;
        bases(from, beta.data<T>(), gamma.data<T>(), scratch.mutable_data<T>(), y, e);
        for (int64_t i = 0; i < n; ++i) {
          y[i] = a.inverse ? from[i] * std::sqrt(y[i]) : from[i] / std::sqrt(y[i]);
        }
      }
    });
  }
  // With y = x p(d): the gradient of d is g x p'(d).
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Channels e(s.in(0).shape(), a.behind);
    const Tensor x = flattened(s.in(0), e);
    const Tensor gy = flattened(g[0], e);
    const Tensor gamma = s.in(2);
    const Tensor squares = square(x);
    const Tensor d = matmul(gamma, squares) + unsqueeze(s.in(1), -1);
    const Tensor p = a.inverse ? sqrt(d) : rsqrt(d);
    const Tensor gd = gy * x * p / d * (a.inverse ? 0.5 : -0.5);
    Grads result(3);
    if (s.needs(0)) {
      result[0] = reshape(gy * p + 2 * x * matmul(t(gamma), gd), s.in(0).shape());
    }
    if (s.needs(1)) result[1] = sum(gd, {0, 2});
    if (s.needs(2)) result[2] = sum(matmul(gd, transpose(squares, -2, -1)), 0);
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array x = contiguous(s.in_array(0));
    const Array beta = contiguous(s.in_array(1));
    const Array gamma = contiguous(s.in_array(2));
    const Array gy = contiguous(g.take(0));
    const Channels e(x.shape(), a.behind);
    const int64_t n = e.channels * e.len;
    const Array scratch = Array::empty(x.dtype(), {3, n});
    const Array gx = s.needs(0) ? reuse_or_new(gy) : Array();
    const Array gb = s.needs(1) ? Array::zeros(x.dtype(), {e.channels}) : Array();
    const Array gg = s.needs(2) ? Array::zeros(x.dtype(), {e.channels, e.channels}) : Array();
    const int64_t ld = std::max<int64_t>(e.len, 1);
    const int64_t ldc = std::max<int64_t>(e.channels, 1);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      T* squares = scratch.mutable_data<T>();
      T* d = squares + n;
      T* gd = d + n;
      const T half = a.inverse ? T(0.5) : T(-0.5);
      for (int64_t k = 0; k < e.samples; ++k) {
        const T* from = x.data<T>() + k * n;
        const T* gi = gy.data<T>() + k * n;
        bases(from, beta.data<T>(), gamma.data<T>(), squares, d, e);
        for (int64_t i = 0; i < n; ++i) {
          const T root = std::sqrt(d[i]);
          const T p = a.inverse ? root : 1 / root;
          gd[i] = half * gi[i] * from[i] * p / d[i];
          d[i] = p;
        }
        if (s.needs(1)) {
          for (int64_t c = 0; c < e.channels; ++c) {
            double total = 0;
            for (int64_t i = 0; i < e.len; ++i) total += gd[c * e.len + i];
            gb.mutable_data<T>()[c] += static_cast<T>(total);
          }
        }
        if (s.needs(2)) {
          kernels::gemm(false, true, e.channels, e.channels, e.len, T{1}, gd, ld, squares, ld, T{1},
                        gg.mutable_data<T>(), ldc);
        }
        if (!s.needs(0)) continue;
        T* spread = squares;
        kernels::gemm(true, false, e.channels, e.len, e.channels, T{1}, gamma.data<T>(), ldc, gd,
                      ld, T{0}, spread, ld);
        T* to = gx.mutable_data<T>() + k * n;
        for (int64_t i = 0; i < n; ++i) to[i] = gi[i] * d[i] + 2 * from[i] * spread[i];
      }
    });
    if (s.needs(2)) sink.add(2, gg);
    if (s.needs(1)) sink.add(1, gb);
    if (s.needs(0)) sink.add(0, gx);
  }
};
EBB_OP(Gdn)

namespace {

// A Gaussian window as a matrix to multiply columns with, each row of which sums to 1.
Tensor gaussian_blur(int64_t n, int64_t radius, double sigma, DType dtype) {
  const Tensor m = band(n, -radius, radius, dtype, [=](int64_t d) {
    const double z = static_cast<double>(d) / sigma;
    return std::exp(-z * z / 2);
  });
  return m / sum(m, 1, true);
}

}  // namespace

}  // namespace ops

Tensor local_response_norm(const Tensor& x, int64_t size, double alpha, double beta, double k,
                           int64_t channel_axis, Where where) {
  if (size < 1) {
    throw ValueError(
        absl::StrCat("local_response_norm: size is ", size, "; it must be at least 1"));
  }
  const int behind = ops::axes_behind("local_response_norm", channel_axis);
  return apply_with<ops::LocalResponseNorm>({size, alpha, beta, k, behind}, At(x, where));
}

Tensor gdn(const Tensor& x, const Tensor& beta, const Tensor& gamma, bool inverse,
           int64_t channel_axis, Where where) {
  return apply_with<ops::Gdn>({ops::axes_behind("gdn", channel_axis), inverse}, At(x, where), beta,
                              gamma);
}

Tensor local_contrast_norm(const Tensor& x, int64_t radius, double sigma, double eps,
                           Where where) try {
  const detail::PlaceScope scope(where);
  if (x.dim() != 3 && x.dim() != 4) {
    throw ShapeError(absl::StrCat("local_contrast_norm: x is ", x.shape().str(),
                                  "; it must be [C,H,W] or [N,C,H,W]"));
  }
  if (!(sigma > 0) || radius < 0) {
    throw ValueError(absl::StrCat("local_contrast_norm: radius is ", radius, ", sigma ", sigma,
                                  "; radius must not be negative, sigma be positive"));
  }
  ops::require_eps("local_contrast_norm", eps);
  const Tensor down = ops::gaussian_blur(x.size(-2), radius, sigma, x.dtype());
  const Tensor right = t(ops::gaussian_blur(x.size(-1), radius, sigma, x.dtype()));
  const auto around = [&](const Tensor& y) {
    return matmul(matmul(down, mean(y, -3, true)), right);
  };
  const Tensor v = x - around(x);
  const Tensor deviation = sqrt(affine(around(square(v)), 1, eps));
  return v / maximum(deviation, mean(deviation, {-3, -2, -1}, true));
} catch (const Error&) {
  detail::rethrow_as("local_contrast_norm");
}

}  // namespace ebb
