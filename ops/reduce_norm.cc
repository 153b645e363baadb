// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

using kernels::Reduce;

namespace {

constexpr int64_t kBlock = 512;  // elements that are worked on between two visits to the cache

template <class T>
T reduce_row(Reduce op, const T* x, int64_t n) {
  T out;
  kernels::reduce_row_fn(dtype_of<T>, op)(x, 1, static_cast<size_t>(n), &out, false);
  return out;
}

// y[i] = |x[i]|^q
template <class T>
void power_of_abs(const T* x, int64_t n, double q, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::abs(x[i]);
  const kernels::UnaryKernels& k = kernels::unary_kernels(kernels::Unary::kPowScalar);
  if constexpr (sizeof(T) == sizeof(float)) {
    k.forward32(y, y, static_cast<size_t>(n), {.a = q});
  } else {
    k.forward64(y, y, static_cast<size_t>(n), {.a = q});
  }
}

// Largest (smallest) |x|.
template <class T>
T extreme_abs(const T* x, int64_t n, bool largest) {
  T buffer[kBlock];
  T out = largest ? T{0} : std::numeric_limits<T>::infinity();
  const auto row = kernels::reduce_row_fn(dtype_of<T>, largest ? Reduce::kMax : Reduce::kMin);
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t size = std::min(kBlock, n - at);
    for (int64_t i = 0; i < size; ++i) buffer[i] = std::abs(x[at + i]);
    row(buffer, 1, static_cast<size_t>(size), &out, true);
  }
  return out;
}

// Squares of numbers beyond these lose digits or overflow.
template <class T>
bool safely_squared(T sum_of_squares) {
  constexpr T kLow = sizeof(T) == sizeof(float) ? T(1e-28) : T(1e-280);
  return sum_of_squares >= kLow && sum_of_squares <= std::numeric_limits<T>::max();
}

// The norm in units of the extreme |x|, so that no power overflows.
template <class T>
T scaled_norm(const T* x, int64_t n, double p) {
  const T unit = extreme_abs(x, n, p > 0);
  if (unit == 0 || !std::isfinite(unit)) return unit;
  T buffer[kBlock];
  double s = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t size = std::min(kBlock, n - at);
    for (int64_t i = 0; i < size; ++i) buffer[i] = x[at + i] / unit;
    power_of_abs(buffer, size, p, buffer);
    s += reduce_row(Reduce::kSum, buffer, size);
  }
  return static_cast<T>(unit * std::pow(s, 1 / p));
}

}  // namespace

template <class T>
T norm_of_row(const T* x, int64_t n, double p) {
  if (p == 2) {
    const T s = reduce_row(Reduce::kSumSquares, x, n);
    return safely_squared(s) ? std::sqrt(s) : scaled_norm(x, n, p);
  }
  if (p == 1) return reduce_row(Reduce::kSumAbs, x, n);
  if (std::isinf(p)) return extreme_abs(x, n, p > 0);
  if (p != 0) return scaled_norm(x, n, p);
  int64_t count;
  kernels::reduce_row_fn(dtype_of<T>, Reduce::kCountNonzero)(x, 1, static_cast<size_t>(n), &count,
                                                             false);
  return static_cast<T>(count);
}
template float norm_of_row(const float*, int64_t, double);
template double norm_of_row(const double*, int64_t, double);

template <class T>
void norm_row_gradient(const T* x, int64_t n, double p, T y, T g, T* to) {
  const auto sign = [](T v) { return static_cast<T>((v > 0) - (v < 0)); };
  if (p == 0 || y == 0) {
    for (int64_t i = 0; i < n; ++i) to[i] = 0;
  } else if (p == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = g * sign(x[i]);
  } else if (p == 2) {
    for (int64_t i = 0; i < n; ++i) to[i] = g * (x[i] / y);
  } else if (std::isinf(p)) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += std::abs(x[i]) == y;
    const T share = g / static_cast<T>(count);
    for (int64_t i = 0; i < n; ++i) to[i] = (std::abs(x[i]) == y ? sign(x[i]) : T{0}) * share;
  } else {
    T buffer[kBlock];
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t size = std::min(kBlock, n - at);
      for (int64_t i = 0; i < size; ++i) buffer[i] = x[at + i] / y;
      power_of_abs(buffer, size, p - 1, buffer);
      for (int64_t i = 0; i < size; ++i) {
        // An element of 0 has slope 0 by definition, whatever the power; NaN stays.
        to[at + i] = x[at + i] == 0 ? T{0} : g * std::copysign(buffer[i], x[at + i]);
      }
    }
  }
}
template void norm_row_gradient(const float*, int64_t, double, float, float, float*);
template void norm_row_gradient(const double*, int64_t, double, double, double, double*);

// y = |x|^q, times the sign of x where odd; 0 at 0 for q < 0, and for q = 0 where odd.
struct SignedPower {
  static constexpr OpDoc kDoc{"signed_power", "y = |x|^q or sign(x) |x|^q, elementwise",
                              "x:[...] -> y:[...]"};
  static constexpr bool kElementwise = true;
  struct Attrs {
    double q = 2;
    bool odd = false;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("q=", a.q, a.odd ? " odd" : " even");
  }
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array from = contiguous(in[0]);
    const int64_t n = from.numel();
    visit_differentiable(from.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* x = from.data<T>();
      T* y = out[0].mutable_data<T>();
      power_of_abs(x, n, a.q, y);
      const bool zero = a.q < 0 || (a.q == 0 && a.odd);
      for (int64_t i = 0; i < n; ++i) {
        if (zero && x[i] == 0) y[i] = 0;
        if (a.odd && x[i] < 0) y[i] = -y[i];
        if (std::isnan(x[i])) y[i] = x[i];
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    if (a.q == 0) return {Tensor(Array::zeros(g[0].dtype(), g[0].shape()))};
    return {a.q * g[0] * signed_power(s.in(0), a.q - 1, !a.odd)};
  }
};
EBB_OP(SignedPower)

Tensor signed_power(const Tensor& x, double q, bool odd) {
  if (q == 1 && odd) return x;
  return apply_with<SignedPower>({q, odd}, x);
}

Tensor norm_gradient(const Tensor& g, const Tensor& x, const Tensor& y, double p) {
  if (p == 0) return Tensor(Array::zeros(x.dtype(), x.shape()));
  if (p == 1) return g * signed_power(x, 0, true);
  if (!std::isinf(p)) return g * signed_power(x * signed_power(y, -1, false), p - 1, true);
  const Tensor attained = cast(eq(abs(x.detach()), y.detach()), x.dtype()) * sign(x.detach());
  const Tensor count = sum_to(square(attained), y.shape());
  return attained * g * signed_power(count, -1, false);
}

struct Norm {
  static constexpr OpDoc kDoc{"norm", "y = (sum |x|^p)^(1/p) over axes",
                              "x:[...] -> y:[the other axes]"};
  struct Attrs {
    double p = 2;
    ReduceAttrs axes = {};
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("p=", a.p, " ", describe_axes(a.axes.mask, a.axes.keepdim));
  }
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    if (std::isnan(a.p)) throw ValueError("norm: p is NaN");
    if (a.p < 0 || std::isinf(a.p)) require_nonempty(kDoc, in[0].shape, a.axes.mask);
    return {{in[0].dtype, reduced_shape(in[0].shape, a.axes.mask, a.axes.keepdim)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    const uint32_t mask = a.axes.mask;
    if (a.p == 1) return run_reduce(Reduce::kSumAbs, x, mask, out[0]);
    const int64_t n = reduced_count(x.shape(), mask);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      T* y = out[0].mutable_data<T>();
      if (a.p == 2) {  // the columns of a matrix go faster together
        run_reduce(Reduce::kSumSquares, x, mask, out[0]);
        bool safe = true;
        for (int64_t i = 0; i < out[0].numel(); ++i) safe &= safely_squared(y[i]);
        if (safe) {
          for (int64_t i = 0; i < out[0].numel(); ++i) y[i] = std::sqrt(y[i]);
          return;
        }
      }
      for_each_slice_of<T>(
          mask, [&](const T* row, int64_t i) { y[i] = norm_of_row(row, n, a.p); }, reads(x));
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    return {norm_gradient(keep_axes(g[0], x.shape(), a.axes), x,
                          keep_axes(s.out(0), x.shape(), a.axes), a.p)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& x = s.in_array(0);
    const int64_t n = reduced_count(x.shape(), a.axes.mask);
    const Array gy = contiguous(g[0]);
    const Array dx = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* y = s.out_array(0).data<T>();
      for_each_slice_of<T>(
          a.axes.mask,
          [&](const T* row, T* to, int64_t i) {
            norm_row_gradient(row, n, a.p, y[i], gy.data<T>()[i], to);
          },
          reads(x), writes(dx));
    });
    sink.add(0, dx);
  }
};
EBB_OP(Norm)

}  // namespace ops

Tensor norm(const Tensor& x, double p, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Norm>({p, {axes.mask(x.dim(), "norm"), keepdim}}, At(x, where));
}

Tensor Tensor::norm(double p, Axes axes, bool keepdim, Where where) const {
  return ebb::norm(*this, p, axes, keepdim, where);
}

}  // namespace ebb
