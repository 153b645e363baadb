// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/activation.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation_util.h"
#include "ebb/ops/unary.h"
#include "ebb/ops/unary_op.h"

namespace ebb {
namespace ops {

using kernels::Unary;

namespace {

// One parameter, or a pair, as the kernels take it.
struct OneParam {
  double a;
  operator kernels::UnaryParams() const { return {.a = a}; }  // NOLINT
  std::string str() const { return absl::StrCat(a); }
};
struct TwoParams {
  double a;
  double b;
  operator kernels::UnaryParams() const { return {.a = a, .b = b}; }  // NOLINT
  std::string str() const { return absl::StrCat(a, ", ", b); }
};

// The derivative of elu: 1 above 0, alpha e^x below. The exponential is kept from overflowing where
// it does not count.
Tensor elu_slope(const Tensor& x, double alpha) {
  const Tensor above = indicator(x > 0, x);
  return above + (1 - above) * alpha * exp(clamp(x, -INFINITY, 0));
}

}  // namespace

Tensor gelu_slope(const Tensor& x) {
  const Tensor below = 0.5 * erfc(x * -std::numbers::sqrt2 / 2);
  const Tensor density = exp(-0.5 * square(x)) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2);
  return below + x * density;
}

Tensor silu_slope(const Tensor& x) {
  const Tensor p = sigmoid(x);
  return p * (1 + x * (1 - p));
}

struct Relu : UnaryOp<Relu, Unary::kRelu> {
  static constexpr OpDoc kDoc{"relu", "y = max(x, 0), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(s.out(0) > 0, g);
  }
};
EBB_OP(Relu)

struct LeakyRelu : UnaryOp<LeakyRelu, Unary::kLeakyRelu, OneParam> {
  static constexpr OpDoc kDoc{"leaky_relu", "y = x > 0 ? x : slope x, elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const double slope = s.attrs<Attrs>().a;
    return g * (slope + (1 - slope) * indicator(s.in(0) > 0, g));
  }
};
EBB_OP(LeakyRelu)

struct Elu : UnaryOp<Elu, Unary::kElu, OneParam> {
  static constexpr OpDoc kDoc{"elu", "y = x > 0 ? x : alpha (e^x - 1), elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * elu_slope(s.in(0), s.attrs<Attrs>().a);
  }
};
EBB_OP(Elu)

struct Celu : UnaryOp<Celu, Unary::kCelu, OneParam> {
  static constexpr OpDoc kDoc{"celu", "y = x > 0 ? x : alpha (e^(x / alpha) - 1), elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const double alpha = s.attrs<Attrs>().a;
    const Tensor above = indicator(s.in(0) > 0, g);
    // The exponential is kept from overflowing where it does not count.
    const Tensor kept = alpha > 0 ? clamp(s.in(0), -INFINITY, 0) : s.in(0);
    return g * (above + (1 - above) * exp(kept / alpha));
  }
};
EBB_OP(Celu)

struct Selu : UnaryOp<Selu, Unary::kSelu> {
  static constexpr OpDoc kDoc{"selu", "y = scale elu(x, alpha), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    constexpr double kScale = 1.0507009873554804934193349852946;
    constexpr double kAlpha = 1.6732632423543772848170429916717;
    return kScale * g * elu_slope(s.in(0), kAlpha);
  }
};
EBB_OP(Selu)

struct Gelu : UnaryOp<Gelu, Unary::kGelu> {
  static constexpr OpDoc kDoc{"gelu", "y = x P(Z <= x), Z normal, elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * gelu_slope(s.in(0)); }
};
EBB_OP(Gelu)

struct GeluTanh : UnaryOp<GeluTanh, Unary::kGeluTanh> {
  static constexpr OpDoc kDoc{"gelu_tanh",
                              "y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const double kCubic = 0.044715;
    const double c = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
    const Tensor x = s.in(0);
    const Tensor th = tanh(c * (x + kCubic * x * square(x)));
    const Tensor inner = c * (1 + 3 * kCubic * square(x));
    return g * 0.5 * (1 + th + x * (1 - square(th)) * inner);
  }
};
EBB_OP(GeluTanh)

struct Silu : UnaryOp<Silu, Unary::kSilu> {
  static constexpr OpDoc kDoc{"silu", "y = x sigmoid(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * silu_slope(s.in(0)); }
};
EBB_OP(Silu)

struct Mish : UnaryOp<Mish, Unary::kMish> {
  static constexpr OpDoc kDoc{"mish", "y = x tanh(ln(1 + e^x)), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const Tensor x = s.in(0);
    const Tensor th = tanh(softplus(x));
    return g * (th + x * (1 - square(th)) * sigmoid(x));
  }
};
EBB_OP(Mish)

struct Sigmoid : UnaryOp<Sigmoid, Unary::kSigmoid> {
  static constexpr OpDoc kDoc{"sigmoid", "y = 1 / (1 + e^-x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return sigmoid_backward(g, s.out(0));
  }
};
EBB_OP(Sigmoid)

struct LogSigmoid : UnaryOp<LogSigmoid, Unary::kLogSigmoid> {
  static constexpr OpDoc kDoc{"logsigmoid", "y = ln(1 / (1 + e^-x)), elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * sigmoid(-s.in(0)); }
};
EBB_OP(LogSigmoid)

struct Softplus : UnaryOp<Softplus, Unary::kSoftplus, TwoParams> {
  static constexpr OpDoc kDoc{"softplus", "y = ln(1 + e^(beta x)) / beta, elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const auto& [beta, threshold] = s.attrs<Attrs>();
    const Tensor scaled = s.in(0) * beta;
    const Tensor linear = indicator(scaled > threshold, g);
    return g * (linear + (1 - linear) * sigmoid(scaled));
  }
};
EBB_OP(Softplus)

struct Hardtanh : UnaryOp<Hardtanh, Unary::kHardtanh, TwoParams> {
  static constexpr OpDoc kDoc{"hardtanh", "y = x cut to [low, high], elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const auto& [low, high] = s.attrs<Attrs>();
    return g * indicator(s.in(0) > low, g) * indicator(s.in(0) < high, g);
  }
};
EBB_OP(Hardtanh)

struct Clamp : UnaryOp<Clamp, Unary::kClamp, TwoParams> {
  static constexpr OpDoc kDoc{"clamp", "y = x cut to [low, high], elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const auto& [low, high] = s.attrs<Attrs>();
    return g * indicator(s.in(0) >= low, g) * indicator(s.in(0) <= high, g);
  }
};
EBB_OP(Clamp)

struct SixParam {
  operator kernels::UnaryParams() const { return {.a = 0, .b = 6}; }  // NOLINT
};
struct Relu6 : UnaryOp<Relu6, Unary::kHardtanh, SixParam> {
  static constexpr OpDoc kDoc{"relu6", "y = x cut to [0, 6], elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(s.in(0) > 0, g) * indicator(s.in(0) < 6, g);
  }
};
EBB_OP(Relu6)

struct Threshold : UnaryOp<Threshold, Unary::kThreshold, TwoParams> {
  static constexpr OpDoc kDoc{"threshold", "y = x > threshold ? x : value, elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(s.in(0) > s.attrs<Attrs>().a, g);
  }
};
EBB_OP(Threshold)

struct Hardsigmoid : UnaryOp<Hardsigmoid, Unary::kHardsigmoid> {
  static constexpr OpDoc kDoc{"hardsigmoid", "y = (x + 3) / 6 cut to [0, 1], elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(abs(s.in(0)) < 3, g) / 6;
  }
};
EBB_OP(Hardsigmoid)

struct Hardswish : UnaryOp<Hardswish, Unary::kHardswish> {
  static constexpr OpDoc kDoc{"hardswish", "y = x ((x + 3) / 6 cut to [0, 1]), elementwise",
                              "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const Tensor x = s.in(0);
    const Tensor middle = indicator(abs(x) < 3, g);
    return g * (middle * (x / 3 + 0.5) + indicator(x >= 3, g));
  }
};
EBB_OP(Hardswish)

struct Softsign : UnaryOp<Softsign, Unary::kSoftsign> {
  static constexpr OpDoc kDoc{"softsign", "y = x / (1 + |x|), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / square(1 + abs(s.in(0))); }
};
EBB_OP(Softsign)

struct Softshrink : UnaryOp<Softshrink, Unary::kSoftshrink, OneParam> {
  static constexpr OpDoc kDoc{"softshrink", "y = sign(x) max(|x| - lambda, 0), elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(abs(s.in(0)) > s.attrs<Attrs>().a, g);
  }
};
EBB_OP(Softshrink)

struct Hardshrink : UnaryOp<Hardshrink, Unary::kHardshrink, OneParam> {
  static constexpr OpDoc kDoc{"hardshrink", "y = |x| > lambda ? x : 0, elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return a.str(); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * indicator(abs(s.in(0)) > s.attrs<Attrs>().a, g);
  }
};
EBB_OP(Hardshrink)

}  // namespace ops

namespace {

void require_ordered(const char* op, double low, double high) {
  if (low <= high) return;
  throw ValueError(
      absl::StrCat(op, ": low is ", low, ", high is ", high, "; low must not be above high"));
}

void require_not_negative(const char* op, double lambda) {
  if (lambda >= 0) return;
  throw ValueError(absl::StrCat(op, ": lambda is ", lambda, "; it must not be negative"));
}

}  // namespace

Tensor relu(const Tensor& x, Where where) { return apply<ops::Relu>(At(x, where)); }
Tensor leaky_relu(const Tensor& x, double slope, Where where) {
  return apply_with<ops::LeakyRelu>({slope}, At(x, where));
}
Tensor elu(const Tensor& x, double alpha, Where where) {
  return apply_with<ops::Elu>({alpha}, At(x, where));
}
Tensor celu(const Tensor& x, double alpha, Where where) {
  if (alpha == 0) throw ValueError("celu: alpha is 0; it must not be");
  return apply_with<ops::Celu>({alpha}, At(x, where));
}
Tensor relu6(const Tensor& x, Where where) { return apply<ops::Relu6>(At(x, where)); }
Tensor threshold(const Tensor& x, double threshold, double value, Where where) {
  return apply_with<ops::Threshold>({threshold, value}, At(x, where));
}
Tensor hardsigmoid(const Tensor& x, Where where) { return apply<ops::Hardsigmoid>(At(x, where)); }
Tensor hardswish(const Tensor& x, Where where) { return apply<ops::Hardswish>(At(x, where)); }
Tensor tanhshrink(const Tensor& x, Where where) { return sub(x, tanh(x, where), where); }
Tensor selu(const Tensor& x, Where where) { return apply<ops::Selu>(At(x, where)); }
Tensor gelu(const Tensor& x, GeluForm form, Where where) {
  if (form == GeluForm::kTanh) return apply<ops::GeluTanh>(At(x, where));
  return apply<ops::Gelu>(At(x, where));
}
Tensor silu(const Tensor& x, Where where) { return apply<ops::Silu>(At(x, where)); }
Tensor mish(const Tensor& x, Where where) { return apply<ops::Mish>(At(x, where)); }
Tensor sigmoid(const Tensor& x, Where where) { return apply<ops::Sigmoid>(At(x, where)); }
Tensor logsigmoid(const Tensor& x, Where where) { return apply<ops::LogSigmoid>(At(x, where)); }
Tensor softplus(const Tensor& x, double beta, double threshold, Where where) {
  if (beta == 0) throw ValueError("softplus: beta is 0; it must not be");
  return apply_with<ops::Softplus>({beta, threshold}, At(x, where));
}
Tensor hardtanh(const Tensor& x, double low, double high, Where where) {
  require_ordered("hardtanh", low, high);
  return apply_with<ops::Hardtanh>({low, high}, At(x, where));
}
Tensor clamp(const Tensor& x, double low, double high, Where where) {
  require_ordered("clamp", low, high);
  return apply_with<ops::Clamp>({low, high}, At(x, where));
}
Tensor softsign(const Tensor& x, Where where) { return apply<ops::Softsign>(At(x, where)); }
Tensor softshrink(const Tensor& x, double lambda, Where where) {
  require_not_negative("softshrink", lambda);
  return apply_with<ops::Softshrink>({lambda}, At(x, where));
}
Tensor hardshrink(const Tensor& x, double lambda, Where where) {
  require_not_negative("hardshrink", lambda);
  return apply_with<ops::Hardshrink>({lambda}, At(x, where));
}

}  // namespace ebb
