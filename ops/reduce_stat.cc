// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/unary.h"

// Variance, standard deviation and log-sum-exp.
namespace ebb {
namespace ops {

namespace {

template <class T>
double mean_of(const T* x, int64_t n) {
  return static_cast<double>(kernels::sum(x, static_cast<size_t>(n))) / static_cast<double>(n);
}

// The sum of squared distances from the mean, corrected for the rounding of the mean: Chan, Golub
// and LeVeque, "Algorithms for computing the sample variance", 1983.
template <class T>
double squared_distances(const T* x, int64_t n) {
  constexpr int64_t kBlock = 512;
  const auto squares = kernels::reduce_row_fn(dtype_of<T>, kernels::Reduce::kSumSquares);
  const T mean = static_cast<T>(mean_of(x, n));
  T buffer[kBlock];
  double sum = 0;
  double sum_of_squares = 0;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t size = std::min(kBlock, n - at);
    for (int64_t i = 0; i < size; ++i) buffer[i] = x[at + i] - mean;
    sum += kernels::sum(buffer, static_cast<size_t>(size));
    T s;
    squares(buffer, 1, static_cast<size_t>(size), &s, false);
    sum_of_squares += s;
  }
  return std::max(sum_of_squares - sum * sum / static_cast<double>(n), 0.0);
}

struct VarAttrs {
  double correction = 1;
  ReduceAttrs axes = {};
};

// What var and std have in common. The gradient of either is a factor for each result times the
// distances from the mean: Op::factor.
template <class Op>
struct VarianceOp {
  using Attrs = VarAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("correction=", a.correction, " ",
                        describe_axes(a.axes.mask, a.axes.keepdim));
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_floating(Op::kDoc, in);
    return {{in[0].dtype, reduced_shape(in[0].shape, a.axes.mask, a.axes.keepdim)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = reduction_cost(in, out);
    c.multiply_adds *= 2;
    return c;
  }
  static double freedom(const Attrs& a, const Shape& shape) {
    return std::max(static_cast<double>(reduced_count(shape, a.axes.mask)) - a.correction, 0.0);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    const int64_t n = reduced_count(x.shape(), a.axes.mask);
    const double over = freedom(a, x.shape());
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      T* y = out[0].mutable_data<T>();
      for_each_slice_of<T>(
          a.axes.mask,
          [&](const T* row, int64_t i) {
            y[i] = static_cast<T>(Op::of_variance(squared_distances(row, n) / over));
          },
          reads(x));
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Shape shape = x.shape();
    const Tensor mean = sum_to(x, reduced_shape(shape, a.axes.mask, true)) /
                        static_cast<double>(reduced_count(shape, a.axes.mask));
    const Tensor factor = Op::factor(s, g[0]) * (1 / freedom(a, shape));
    return {keep_axes(factor, shape, a.axes) * (x - mean)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& x = s.in_array(0);
    const int64_t n = reduced_count(x.shape(), a.axes.mask);
    const double over = freedom(a, x.shape());
    const Array gy = contiguous(g[0]);
    const Array dx = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_slice_of<T>(
          a.axes.mask,
          [&](const T* row, T* to, int64_t i) {
            const T mean = static_cast<T>(mean_of(row, n));
            const T factor =
                static_cast<T>(Op::template factor_at<T>(s, i) * gy.data<T>()[i] / over);
            for (int64_t j = 0; j < n; ++j) to[j] = factor * (row[j] - mean);
          },
          reads(x), writes(dx));
    });
    sink.add(0, dx);
  }
};

}  // namespace

struct Var : VarianceOp<Var> {
  static constexpr OpDoc kDoc{"var", "y = sum (x - mean x)^2 / (n - correction) over axes",
                              "x:[...] -> y:[the other axes]"};
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static double of_variance(double v) { return v; }
  static Tensor factor(const Saved&, const Tensor& g) { return 2 * g; }
  template <class T>
  static double factor_at(const Saved&, int64_t) {
    return 2;
  }
};
EBB_OP(Var)

struct Std : VarianceOp<Std> {
  static constexpr OpDoc kDoc{"std", "y = sqrt(sum (x - mean x)^2 / (n - correction)) over axes",
                              "x:[...] -> y:[the other axes]"};
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static double of_variance(double v) { return std::sqrt(v); }
  static Tensor factor(const Saved& s, const Tensor& g) {
    return g * signed_power(s.out(0), -1, false);
  }
  template <class T>
  static double factor_at(const Saved& s, int64_t i) {
    const T y = s.out_array(0).data<T>()[i];
    return y == 0 ? 0.0 : 1 / static_cast<double>(y);
  }
};
EBB_OP(Std)

struct LogSumExp {
  static constexpr OpDoc kDoc{"logsumexp", "y = ln(sum e^x) over axes",
                              "x:[...] -> y:[the other axes]"};
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(a.mask, a.keepdim); }
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {{in[0].dtype, reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto n = static_cast<size_t>(reduced_count(in[0].shape(), a.mask));
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      T* y = out[0].mutable_data<T>();
      for_each_slice_of<T>(
          a.mask, [&](const T* row, int64_t i) { y[i] = kernels::logsumexp_row(row, n); },
          reads(in[0]));
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    return {keep_axes(g[0], x.shape(), a) * exp(x - keep_axes(s.out(0), x.shape(), a))};
  }
  // Through e^(x - max) / sum, which keeps more digits than e^(x - y) where y is large.
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& x = s.in_array(0);
    const uint32_t mask = s.attrs<Attrs>().mask;
    const int64_t n = reduced_count(x.shape(), mask);
    const Array gy = contiguous(g[0]);
    const Array dx = Array::empty_like(x);
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* y = s.out_array(0).data<T>();
      for_each_slice_of<T>(
          mask,
          [&](const T* row, T* to, int64_t i) {
            const T scale = gy.data<T>()[i];
            if (std::isinf(y[i])) {
              for (int64_t j = 0; j < n; ++j) to[j] = std::exp(row[j] - y[i]);
            } else {
              kernels::softmax_row(row, to, static_cast<size_t>(n));
            }
            for (int64_t j = 0; j < n; ++j) to[j] *= scale;
          },
          reads(x), writes(dx));
    });
    sink.add(0, dx);
  }
};
EBB_OP(LogSumExp)

}  // namespace ops

Tensor var(const Tensor& x, Axes axes, double correction, bool keepdim, Where where) {
  return apply_with<ops::Var>({correction, {axes.mask(x.dim(), "var"), keepdim}}, At(x, where));
}
Tensor std(const Tensor& x, Axes axes, double correction, bool keepdim, Where where) {
  return apply_with<ops::Std>({correction, {axes.mask(x.dim(), "std"), keepdim}}, At(x, where));
}
Tensor logsumexp(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::LogSumExp>({axes.mask(x.dim(), "logsumexp"), keepdim}, At(x, where));
}

Tensor Tensor::var(Axes axes, double correction, bool keepdim, Where where) const {
  return ebb::var(*this, axes, correction, keepdim, where);
}
Tensor Tensor::std(Axes axes, double correction, bool keepdim, Where where) const {
  return ebb::std(*this, axes, correction, keepdim, where);
}
Tensor Tensor::logsumexp(Axes axes, bool keepdim, Where where) const {
  return ebb::logsumexp(*this, axes, keepdim, where);
}

}  // namespace ebb
