// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/softmax.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

namespace {

using Row = absl::InlinedVector<double, 64>;

// Maxima of p'x + H(p) over probabilities p, with Tsallis' entropy of order alpha. All have the
// form p_i = max(z_i - tau, 0)^(1 / (alpha - 1)) of z = (alpha - 1) x, and the gradient
// s (g - s'g / sum(s)) with s_i = p_i^(2 - alpha) where p_i > 0, else 0. The derived op finds tau
// for numbers z whose largest is 0.
template <class Op>
struct Entmax {
  struct Attrs {
    double alpha = Op::kAlpha;
    int axis = 0;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("alpha=", a.alpha, " axis=", a.axis);
  }
  static constexpr GradUses uses(int) { return {.out = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_floating(Op::kDoc, in);
    return {in[0]};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const Shape& x = in[0].shape;
    const double n = x.rank() == 0 ? 1 : static_cast<double>(std::max<int64_t>(x[a.axis], 1));
    c.multiply_adds *= 4 + std::log2(n);  // the rows are sorted
    return c;
  }
  static size_t length(const Array& x, int axis) {
    return x.rank() == 0 ? 1 : static_cast<size_t>(x.size(axis));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const size_t n = length(in[0], a.axis);
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      Row z(n);
      for_each_slice_of<T>(
          1u << a.axis,
          [&](const T* x, T* y, int64_t) {
            if (!normalise(a.alpha, x, &z)) {
              std::fill_n(y, n, std::numeric_limits<T>::quiet_NaN());
              return;
            }
            const double tau = Op::threshold(a.alpha, z);
            double sum = 0;
            for (double& v : z) sum += v = Op::power(a.alpha, std::max(v - tau, 0.0));
            for (size_t i = 0; i < n; ++i) y[i] = static_cast<T>(z[i] / sum);
          },
          reads(in[0]), writes(out[0]));
    });
  }
  // (alpha - 1) x less its largest; false where that is not finite, or something is NaN.
  template <class T>
  static bool normalise(double alpha, const T* x, Row* z) {
    double largest = -std::numeric_limits<double>::infinity();
    bool good = true;
    for (size_t i = 0; i < z->size(); ++i) {
      good &= !std::isnan(x[i]);
      largest = std::max(largest, static_cast<double>(x[i]));
    }
    for (size_t i = 0; i < z->size(); ++i) {
      (*z)[i] = (alpha - 1) * (static_cast<double>(x[i]) - largest);
    }
    return good && std::isfinite(largest);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor y = s.out(0);
    const Tensor there = y > 0;
    const Tensor one = full({}, 1.0, {.dtype = y.dtype()});
    const Tensor zero = full({}, 0.0, {.dtype = y.dtype()});
    // The power of a number that is not 0, so that its derivative exists.
    Tensor weight = cast(there, y.dtype());
    if (a.alpha != 2) weight = ebb::where(there, pow(ebb::where(there, y, one), 2 - a.alpha), zero);
    const auto along = [&](const Tensor& x) {
      Shape shape = x.shape();
      if (shape.empty()) return x;
      shape[a.axis] = 1;
      return sum_to(x, shape);
    };
    return {weight * (g[0] - along(weight * g[0]) / along(weight))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& y = s.out_array(0);
    const size_t n = length(y, a.axis);
    const Array gy = g.take(0);
    const Array dx = reuse_or_new(gy);
    visit_differentiable(y.dtype(), [&](auto t) {
      using T = decltype(t);
      Row weight(n);
      for_each_slice_of<T>(
          1u << a.axis,
          [&](const T* py, const T* pg, T* to, int64_t) {
            double sum = 0;
            double dot = 0;
            for (size_t i = 0; i < n; ++i) {
              weight[i] = py[i] > 0 ? Op::weight(a.alpha, static_cast<double>(py[i])) : 0;
              if (std::isnan(py[i])) weight[i] = std::numeric_limits<double>::quiet_NaN();
              sum += weight[i];
              dot += weight[i] * static_cast<double>(pg[i]);
            }
            const double mean = dot / sum;
            for (size_t i = 0; i < n; ++i) {
              to[i] = static_cast<T>(weight[i] * (static_cast<double>(pg[i]) - mean));
            }
          },
          reads(y), reads(gy), writes(dx));
    });
    sink.add(0, dx);
  }
};

}  // namespace

struct Sparsemax : Entmax<Sparsemax> {
  static constexpr OpDoc kDoc{"sparsemax", "y_i = max(x_i - tau, 0) along an axis, sum_i y_i = 1",
                              "x:[..,n,..] -> y:[..,n,..]"};
  static constexpr double kAlpha = 2;
  static double power(double, double v) { return v; }
  static double weight(double, double) { return 1; }
  // Of the k largest, while each of them is above what they leave: tau = (their sum - 1) / k.
  static double threshold(double, const Row& z) {
    Row sorted = z;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double sum = 0;
    double tau = -1;
    for (size_t i = 0; i < sorted.size(); ++i) {
      const auto k = static_cast<double>(i + 1);
      if (!(1 + k * sorted[i] > sum + sorted[i])) break;
      sum += sorted[i];
      tau = (sum - 1) / k;
    }
    return tau;
  }
};
EBB_OP(Sparsemax)

struct Entmax15 : Entmax<Entmax15> {
  static constexpr OpDoc kDoc{"entmax15",
                              "y_i = max(x_i / 2 - tau, 0)^2 along an axis, sum_i y_i = 1",
                              "x:[..,n,..] -> y:[..,n,..]"};
  static constexpr double kAlpha = 1.5;
  static double power(double, double v) { return v * v; }
  static double weight(double, double y) { return std::sqrt(y); }
  // Of the k largest, tau solves sum (z_i - tau)^2 = 1; the last k for which the k-th is above it.
  static double threshold(double, const Row& z) {
    Row sorted = z;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double sum = 0;
    double squares = 0;
    double tau = -1;
    for (size_t i = 0; i < sorted.size(); ++i) {
      const double v = sorted[i];
      if (!(v > -1)) break;  // no tau is below that
      const auto k = static_cast<double>(i + 1);
      sum += v;
      squares += v * v;
      const double mean = sum / k;
      const double rest = (1 - (squares - sum * mean)) / k;
      const double next = mean - std::sqrt(std::max(rest, 0.0));
      if (next > v) break;
      tau = next;
    }
    return tau;
  }
};
EBB_OP(Entmax15)

struct EntmaxBisect : Entmax<EntmaxBisect> {
  static constexpr OpDoc kDoc{
      "entmax",
      "y_i = max((alpha - 1) x_i - tau, 0)^(1 / (alpha - 1)) along an axis, sum_i y_i = 1",
      "x:[..,n,..] -> y:[..,n,..]"};
  static constexpr double kAlpha = 1.5;
  static double power(double alpha, double v) { return v > 0 ? std::pow(v, 1 / (alpha - 1)) : 0; }
  static double weight(double alpha, double y) { return std::pow(y, 2 - alpha); }
  // The sum falls with tau, from at least 1 at -1, where the largest alone makes it, to at most 1
  // where all that are as large would.
  static double threshold(double alpha, const Row& z) {
    double low = -1;
    double high = -std::pow(static_cast<double>(z.size()), 1 - alpha);
    for (int i = 0; i < 60 && low < high; ++i) {
      const double middle = (low + high) / 2;
      if (middle == low || middle == high) break;
      double sum = 0;
      for (double v : z) sum += power(alpha, v - middle);
      (sum >= 1 ? low : high) = middle;
    }
    return low;
  }
};
EBB_OP(EntmaxBisect)

}  // namespace ops

Tensor sparsemax(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Sparsemax>({2, normalize_axis(axis, x.dim(), "sparsemax")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("sparsemax");
}

Tensor entmax15(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Entmax15>({1.5, normalize_axis(axis, x.dim(), "entmax15")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("entmax15");
}

Tensor entmax(const Tensor& x, double alpha, int64_t axis, Where where) try {
  if (!(alpha > 1) || !std::isfinite(alpha)) {
    throw ValueError(absl::StrCat("entmax: alpha is ", alpha, "; it must be above 1 and finite"));
  }
  return apply_with<ops::EntmaxBisect>({alpha, normalize_axis(axis, x.dim(), "entmax")},
                                       At(x, where));
} catch (const Error&) {
  detail::rethrow_as("entmax");
}

Tensor softmin(const Tensor& x, int64_t axis, Where where) try {
  return softmax(-x, axis, where);
} catch (const Error&) {
  detail::rethrow_as("softmin");
}

Tensor gumbel_softmax(const Tensor& logits, double tau, bool hard, int64_t axis,
                      Generator& generator, Where where) try {
  if (!(tau > 0) || !std::isfinite(tau)) {
    throw ValueError(
        absl::StrCat("gumbel_softmax: tau is ", tau, "; it must be positive and finite"));
  }
  const int at = normalize_axis(axis, logits.dim(), "gumbel_softmax");
  const Tensor noise = gumbel(logits.shape(), {.dtype = logits.dtype()}, generator);
  const Tensor soft = softmax((logits + noise) / tau, at, where);
  if (!hard) return soft;
  const Tensor drawn = argmax(soft.detach(), at, true);
  const Tensor one = scatter(zeros_like(soft), at, drawn, 1.0);
  return one + (soft - soft.detach());
} catch (const Error&) {
  detail::rethrow_as("gumbel_softmax");
}

}  // namespace ebb
