// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/unary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "ebb/autograd/testing.h"

namespace ebb {
namespace {

using testing::FamilyOptions;
using testing::OpSamples;
using testing::Range;
using testing::RegisterSamples;

// The functions that are constant piece by piece: their gradient is 0 and has no graph.
FamilyOptions steps(std::vector<double> kinks) {
  FamilyOptions o;
  o.kinks = std::move(kinks);
  o.no_second_order = "the gradient is a constant 0";
  return o;
}

RegisterSamples unary(const std::string& name, Tensor (*f)(const Tensor&, Where),
                      double (*reference)(double), Range range = {}, FamilyOptions options = {}) {
  return RegisterSamples(name, [=] {
    return testing::unary_samples(
        name, [f](const Tensor& x) { return f(x, Where::current()); }, reference, range, options);
  });
}

const RegisterSamples kExp = unary("exp", &exp, [](double x) -> double { return std::exp(x); });
const RegisterSamples kExp2 = unary("exp2", &exp2, [](double x) -> double { return std::exp2(x); });
const RegisterSamples kExpm1 =
    unary("expm1", &expm1, [](double x) -> double { return std::expm1(x); });
const RegisterSamples kLog =
    unary("log", &log, [](double x) -> double { return std::log(x); }, {0.2, 3});
const RegisterSamples kLog2 =
    unary("log2", &log2, [](double x) -> double { return std::log2(x); }, {0.2, 3});
const RegisterSamples kLog10 =
    unary("log10", &log10, [](double x) -> double { return std::log10(x); }, {0.2, 3});
const RegisterSamples kLog1p =
    unary("log1p", &log1p, [](double x) -> double { return std::log1p(x); }, {-0.8, 3});
const RegisterSamples kSqrt =
    unary("sqrt", &sqrt, [](double x) -> double { return std::sqrt(x); }, {0.2, 3});
const RegisterSamples kRsqrt =
    unary("rsqrt", &rsqrt, [](double x) -> double { return 1 / std::sqrt(x); }, {0.2, 3});
const RegisterSamples kSquare = unary("square", &square, [](double x) -> double { return x * x; });
const RegisterSamples kReciprocal =
    unary("reciprocal", &reciprocal, [](double x) -> double { return 1 / x; }, {0.2, 3});
const RegisterSamples kAbs = unary(
    "abs", &abs, [](double x) -> double { return std::abs(x); }, {}, FamilyOptions{.kinks = {0}});
const RegisterSamples kSign = unary(
    "sign", &sign, [](double x) -> double { return (x > 0) - (x < 0); }, {}, steps({0}));
const RegisterSamples kSin = unary("sin", &sin, [](double x) -> double { return std::sin(x); });
const RegisterSamples kCos = unary("cos", &cos, [](double x) -> double { return std::cos(x); });
const RegisterSamples kTan =
    unary("tan", &tan, [](double x) -> double { return std::tan(x); }, {-1.2, 1.2});
const RegisterSamples kAsin =
    unary("asin", &asin, [](double x) -> double { return std::asin(x); }, {-0.9, 0.9});
const RegisterSamples kAcos =
    unary("acos", &acos, [](double x) -> double { return std::acos(x); }, {-0.9, 0.9});
const RegisterSamples kAtan = unary("atan", &atan, [](double x) -> double { return std::atan(x); });
const RegisterSamples kSinh = unary("sinh", &sinh, [](double x) -> double { return std::sinh(x); });
const RegisterSamples kCosh = unary("cosh", &cosh, [](double x) -> double { return std::cosh(x); });
const RegisterSamples kTanh = unary("tanh", &tanh, [](double x) -> double { return std::tanh(x); });
const RegisterSamples kAsinh =
    unary("asinh", &asinh, [](double x) -> double { return std::asinh(x); });
const RegisterSamples kAcosh =
    unary("acosh", &acosh, [](double x) -> double { return std::acosh(x); }, {1.2, 4});
const RegisterSamples kAtanh =
    unary("atanh", &atanh, [](double x) -> double { return std::atanh(x); }, {-0.9, 0.9});
const RegisterSamples kErf = unary("erf", &erf, [](double x) -> double { return std::erf(x); });
const RegisterSamples kErfc = unary("erfc", &erfc, [](double x) -> double { return std::erfc(x); });
const RegisterSamples kFloor = unary(
    "floor", &floor, [](double x) -> double { return std::floor(x); }, {-2.5, 2.5},
    steps({-2, -1, 0, 1, 2}));
const RegisterSamples kCeil = unary(
    "ceil", &ceil, [](double x) -> double { return std::ceil(x); }, {-2.5, 2.5},
    steps({-2, -1, 0, 1, 2}));
const RegisterSamples kRound = unary(
    "round", &round, [](double x) -> double { return std::nearbyint(x); }, {-2, 2},
    steps({-1.5, -0.5, 0.5, 1.5}));
const RegisterSamples kTrunc = unary(
    "trunc", &trunc, [](double x) -> double { return std::trunc(x); }, {-2.5, 2.5},
    steps({-2, -1, 0, 1, 2}));

OpSamples power(double exponent, Range range) {
  OpSamples s = testing::unary_samples(
      "pow_scalar", [=](const Tensor& x) { return pow(x, exponent); },
      [=](double x) { return std::pow(x, exponent); }, range);
  if (exponent != 1.7) s.sized = nullptr;  // one sweep over the sizes is enough
  return s;
}
const RegisterSamples kPowFraction{"pow_scalar", [] { return power(1.7, {0.2, 3}); }};
const RegisterSamples kPowCube{"pow_scalar", [] { return power(3, {-3, 3}); }};
const RegisterSamples kPowInverse{"pow_scalar", [] { return power(-2, {0.3, 3}); }};
const RegisterSamples kPowRoot{"pow_scalar", [] { return power(0.5, {0.2, 3}); }};
const RegisterSamples kPowOne{"pow_scalar", [] {
                                OpSamples s = power(1, {-3, 3});
                                for (auto& x : s.samples) x.no_second_order = "it is 0";
                                return s;
                              }};

RegisterSamples slope(const std::string& name, Tensor (*f)(const Tensor&, const Tensor&, Where),
                      double (*reference)(double, double)) {
  return RegisterSamples(name, [=] {
    FamilyOptions o;
    o.gradient_tolerance32 = 1e-4;  // that of what was repeated is a sum, whose terms may cancel
    return testing::binary_samples(
        name, [f](const Tensor& g, const Tensor& y) { return f(g, y, Where::current()); },
        reference, {-3, 3}, {-0.9, 0.9}, o);
  });
}
const RegisterSamples kTanhBackward =
    slope("tanh_backward", &tanh_backward, [](double g, double y) { return g * (1 - y * y); });
const RegisterSamples kSigmoidBackward = slope("sigmoid_backward", &sigmoid_backward,
                                               [](double g, double y) { return g * y * (1 - y); });

TEST(Unary, OutsideTheDomainGivesNaNOrInfinity) {
  const Tensor x = testing::tensor({3}, {-1, 0, INFINITY});
  const auto y = log(x).to_vector<double>();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], -INFINITY);
  EXPECT_EQ(y[2], INFINITY);
  EXPECT_TRUE(std::isnan(sqrt(x).to_vector<double>()[0]));
}

TEST(Unary, PowerOfZeroIsOne) {
  EXPECT_EQ(pow(testing::tensor({2}, {0, -3}), 0).to_vector<double>(), (std::vector<double>{1, 1}));
}

}  // namespace
}  // namespace ebb
