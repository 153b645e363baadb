// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "ebb/ops/kernels/unary.h"

// What the functions of ops/kernels/unary.h are, in plain long double.
namespace ebb::kernels {

using Real = long double;

struct UnaryReference {
  Real (*value)(Real x, Real a, Real b);
  Real (*derivative)(Real x, Real a, Real b);
  std::vector<UnaryParams> params = {{}};
  // The derivative's error is measured in ulp of max(|f'|, derivative_scale): 1 where it is a
  // difference of terms of this size.
  double derivative_scale = 0;
  // Whether a rounding of the argument counts; note (c) of unary.h. Not if it is multiplied by 1.
  bool magnifies = false;
};

namespace reference {

inline constexpr Real kPi = std::numbers::pi_v<Real>;
inline constexpr Real kSqrt2 = std::numbers::sqrt2_v<Real>;
inline constexpr Real kLn2 = std::numbers::ln2_v<Real>;
inline constexpr Real kLn10 = std::numbers::ln10_v<Real>;
inline constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
inline constexpr Real kSeluScale = 1.0507009873554804934193349852946L;
inline constexpr Real kSeluAlpha = 1.6732632423543772848170429916717L;

inline Real sigmoid(Real x) { return 1 / (1 + std::exp(-x)); }
// The product with the limit 0 where x is infinite.
inline Real times(Real x, Real factor) { return factor == 0 ? Real{0} : x * factor; }
inline Real normal_cdf(Real x) { return std::erfc(-x / kSqrt2) / 2; }
inline Real normal_pdf(Real x) { return std::exp(-x * x / 2) / std::sqrt(2 * kPi); }
inline Real gelu_argument(Real x) { return std::sqrt(8 / kPi) * (x + 0.044715L * x * x * x); }
inline Real mish_factor(Real x) { return std::tanh(std::log1p(std::exp(x))); }
inline Real zero(Real, Real, Real) { return 0; }
inline Real sign(Real x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
inline Real clamp(Real x, Real a, Real b) {
  return std::isnan(x) ? x : std::min(std::max(x, a), b);
}
inline Real pow_derivative(Real x, Real a) {
  return a == 0 ? 0 : a == 0.5L ? 0.5L / std::sqrt(x) : a * std::pow(x, a - 1);
}

}  // namespace reference

// The reference of `op`; its `value` is null if there is none.
inline UnaryReference unary_reference(Unary op) {
  using namespace reference;  // NOLINT: only in here
  switch (op) {
#define EBB_REF(expression)                                                               \
  []([[maybe_unused]] Real x, [[maybe_unused]] Real a, [[maybe_unused]] Real b) -> Real { \
    return expression;                                                                    \
  }
    case Unary::kNeg:
      return {EBB_REF(-x), EBB_REF(-1)};
    case Unary::kAbs:
      return {EBB_REF(std::fabs(x)), EBB_REF(sign(x))};
    case Unary::kSign:
      return {EBB_REF(sign(x)), zero};
    case Unary::kSquare:
      return {EBB_REF(x * x), EBB_REF(2 * x)};
    case Unary::kSqrt:
      return {EBB_REF(std::sqrt(x)), EBB_REF(0.5L / std::sqrt(x))};
    case Unary::kRsqrt:
      return {EBB_REF(1 / std::sqrt(x)), EBB_REF(-0.5L / (x * std::sqrt(x)))};
    case Unary::kReciprocal:
      return {EBB_REF(1 / x), EBB_REF(-1 / (x * x))};
    case Unary::kRelu:
      return {EBB_REF(x < 0 ? 0 : x), EBB_REF(x > 0 ? 1 : 0)};
    case Unary::kLeakyRelu:
      return {EBB_REF(x > 0 ? x : a * x), EBB_REF(x > 0 ? 1 : a), {{0.01, 0}, {0.5, 0}}};
    case Unary::kHardtanh:
      return {EBB_REF(clamp(x, a, b)), EBB_REF(x > a && x < b ? 1 : 0), {{-1, 1}, {0, 6}}};
    case Unary::kClamp:
      return {EBB_REF(clamp(x, a, b)),
              EBB_REF(x >= a && x <= b ? 1 : 0),
              {{-1, 1}, {0.25, std::numeric_limits<double>::infinity()}, {2, -1}}};
    case Unary::kSoftshrink:
      return {EBB_REF(x > a           ? x - a
                      : x < -a        ? x + a
                      : std::isnan(x) ? x
                                      : 0),
              EBB_REF(std::fabs(x) > a ? 1 : 0),
              {{0.5, 0}, {0, 0}}};
    case Unary::kHardshrink:
      return {EBB_REF(std::fabs(x) <= a ? 0 : x),
              EBB_REF(std::fabs(x) > a ? 1 : 0),
              {{0.5, 0}, {0, 0}}};
    case Unary::kThreshold:
      return {EBB_REF(x <= a ? b : x), EBB_REF(x > a ? 1 : 0), {{0.1, 20}, {-1, 0}}};
    case Unary::kHardsigmoid:
      return {EBB_REF(clamp((x + 3) / 6, 0, 1)), EBB_REF(x > -3 && x < 3 ? 1.0L / 6 : 0)};
    case Unary::kHardswish:
      return {EBB_REF(x <= -3  ? 0
                      : x >= 3 ? x
                               : x * (x + 3) / 6),
              EBB_REF(x <= -3  ? 0
                      : x >= 3 ? 1
                               : (2 * x + 3) / 6),
              {{}},
              1};
    case Unary::kSoftsign:
      return {EBB_REF(std::isinf(x) ? sign(x) : x / (1 + std::fabs(x))),
              EBB_REF(1 / ((1 + std::fabs(x)) * (1 + std::fabs(x))))};
    case Unary::kAffine:
      return {EBB_REF(a * x + b), EBB_REF(a), {{1.5, -0.25}, {-3, 0}}, 0, true};
    case Unary::kFloor:
      return {EBB_REF(std::floor(x)), zero};
    case Unary::kCeil:
      return {EBB_REF(std::ceil(x)), zero};
    case Unary::kRound:
      return {EBB_REF(std::nearbyint(x)), zero};
    case Unary::kTrunc:
      return {EBB_REF(std::trunc(x)), zero};

    case Unary::kExp:
      return {EBB_REF(std::exp(x)), EBB_REF(std::exp(x))};
    case Unary::kExp2:
      return {EBB_REF(std::exp2(x)), EBB_REF(std::exp2(x) * kLn2)};
    case Unary::kExpm1:
      return {EBB_REF(std::expm1(x)), EBB_REF(std::exp(x)), {{}}, 1};
    case Unary::kLog:
      return {EBB_REF(std::log(x)), EBB_REF(1 / x)};
    case Unary::kLog1p:
      return {EBB_REF(std::log1p(x)), EBB_REF(1 / (1 + x))};
    case Unary::kTanh:
      return {EBB_REF(std::tanh(x)), EBB_REF(1 / (std::cosh(x) * std::cosh(x))), {{}}, 1};
    case Unary::kSigmoid:
      return {EBB_REF(sigmoid(x)), EBB_REF(sigmoid(x) * sigmoid(-x)), {{}}, 1};
    case Unary::kLogSigmoid:
      return {EBB_REF(x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x))),
              EBB_REF(sigmoid(-x))};
    case Unary::kSoftplus:
      return {EBB_REF(a * x > b ? x : std::log1p(std::exp(a * x)) / a),
              EBB_REF(a * x > b ? 1 : sigmoid(a * x)),
              {{1, 20}, {3, 20}, {0.5, 5}},
              0,
              true};
    case Unary::kSilu:
      return {EBB_REF(times(x, sigmoid(x))),
              EBB_REF(sigmoid(x) + times(x, sigmoid(x) * sigmoid(-x))),
              {{}},
              1};
    case Unary::kMish:
      return {EBB_REF(times(x, mish_factor(x))),
              EBB_REF(mish_factor(x) +
                      times(x, sigmoid(x) / std::pow(std::cosh(std::log1p(std::exp(x))), 2))),
              {{}},
              1};
    case Unary::kElu:
      return {EBB_REF(x > 0 ? x : a * std::expm1(x)),
              EBB_REF(x > 0 ? 1 : a * std::exp(x)),
              {{1, 0}, {0.7, 0}, {-2, 0}}};
    case Unary::kCelu:
      return {EBB_REF(x > 0 ? x : a * std::expm1(x / a)),
              EBB_REF(x > 0 ? 1 : std::exp(x / a)),
              {{1, 0}, {0.7, 0}, {3, 0}},
              0,
              true};
    case Unary::kSelu:
      return {EBB_REF(kSeluScale * (x > 0 ? x : kSeluAlpha * std::expm1(x))),
              EBB_REF(kSeluScale * (x > 0 ? 1 : kSeluAlpha * std::exp(x)))};
    case Unary::kErf:
      return {EBB_REF(std::erf(x)), EBB_REF(2 / std::sqrt(kPi) * std::exp(-x * x))};
    case Unary::kErfc:
      return {EBB_REF(std::erfc(x)), EBB_REF(-2 / std::sqrt(kPi) * std::exp(-x * x))};
    case Unary::kGelu:
      return {EBB_REF(times(x, normal_cdf(x))),
              EBB_REF(normal_cdf(x) + times(x, normal_pdf(x))),
              {{}},
              1};
    case Unary::kGeluTanh:
      return {EBB_REF(times(x, sigmoid(gelu_argument(x)))),
              EBB_REF(sigmoid(gelu_argument(x)) +
                      times(x * std::sqrt(8 / kPi) * (1 + 3 * 0.044715L * x * x),
                            sigmoid(gelu_argument(x)) * sigmoid(-gelu_argument(x)))),
              {{}},
              1,
              true};

    case Unary::kSin:
      return {EBB_REF(std::sin(x)), EBB_REF(std::cos(x))};
    case Unary::kCos:
      return {EBB_REF(std::cos(x)), EBB_REF(-std::sin(x))};
    case Unary::kTan:
      return {EBB_REF(std::tan(x)), EBB_REF(1 / (std::cos(x) * std::cos(x)))};
    case Unary::kAsin:
      return {EBB_REF(std::asin(x)), EBB_REF(1 / std::sqrt((1 - x) * (1 + x)))};
    case Unary::kAcos:
      return {EBB_REF(std::acos(x)), EBB_REF(-1 / std::sqrt((1 - x) * (1 + x)))};
    case Unary::kAtan:
      return {EBB_REF(std::atan(x)), EBB_REF(1 / (1 + x * x))};
    case Unary::kSinh:
      return {EBB_REF(std::sinh(x)), EBB_REF(std::cosh(x))};
    case Unary::kCosh:
      return {EBB_REF(std::cosh(x)), EBB_REF(std::sinh(x))};
    case Unary::kAsinh:
      return {EBB_REF(std::asinh(x)), EBB_REF(1 / std::sqrt(1 + x * x))};
    case Unary::kAcosh:
      return {EBB_REF(std::acosh(x)),
              EBB_REF(x < 1 ? std::nan("") : 1 / std::sqrt((x - 1) * (x + 1)))};
    case Unary::kAtanh:
      return {EBB_REF(std::atanh(x)), EBB_REF(1 / ((1 - x) * (1 + x)))};
    case Unary::kLog2:
      return {EBB_REF(std::log2(x)), EBB_REF(1 / (x * kLn2))};
    case Unary::kLog10:
      return {EBB_REF(std::log10(x)), EBB_REF(1 / (x * kLn10))};
    case Unary::kPowScalar:
      return {EBB_REF(a == 0.5L ? std::sqrt(x) : std::pow(x, a)),
              EBB_REF(pow_derivative(x, a)),
              {{0, 0},
               {1, 0},
               {2, 0},
               {3, 0},
               {-1, 0},
               {0.5, 0},
               {-0.5, 0},
               {1.7, 0},
               {-2, 0},
               {5, 0}}};
#undef EBB_REF
    case Unary::kCount:
      break;
  }
  return {nullptr, nullptr};
}

}  // namespace ebb::kernels
