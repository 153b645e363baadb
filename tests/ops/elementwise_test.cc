// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::FamilyOptions;
using testing::OpSamples;
using testing::Range;
using testing::RegisterSamples;
using testing::Sample;

using BinaryOp = Tensor (*)(const Tensor&, const Tensor&, Where);

RegisterSamples binary(const std::string& name, BinaryOp f, double (*reference)(double, double),
                       Range a = {}, Range b = {}, FamilyOptions options = {}) {
  return RegisterSamples(name, [=] {
    return testing::binary_samples(
        name, [f](const Tensor& x, const Tensor& y) { return f(x, y, Where::current()); },
        reference, a, b, options);
  });
}

// The gradient of what was repeated is a sum, whose terms may cancel in float32.
FamilyOptions with_sums(FamilyOptions o = {}) {
  o.gradient_tolerance32 = 1e-4;
  return o;
}

FamilyOptions all_types(FamilyOptions o = {}) {
  o = with_sums(o);
  o.integers_allowed = true;
  return o;
}

FamilyOptions no_gradient() {
  FamilyOptions o = all_types();
  o.no_gradient = "the result is bool";
  return o;
}

const RegisterSamples kAdd = binary(
    "add", &add, [](double a, double b) { return a + b; }, {}, {}, all_types());
const RegisterSamples kSub = binary(
    "sub", &sub, [](double a, double b) { return a - b; }, {}, {}, all_types());
const RegisterSamples kMul = binary(
    "mul", &mul, [](double a, double b) { return a * b; }, {}, {}, all_types());
const RegisterSamples kDiv = binary(
    "div", &div, [](double a, double b) { return a / b; }, {-3, 3}, {0.3, 3}, all_types());
const RegisterSamples kMinimum = binary(
    "minimum", &minimum, [](double a, double b) { return std::min(a, b); }, {}, {},
    all_types({.kinks = {0}}));
const RegisterSamples kMaximum = binary(
    "maximum", &maximum, [](double a, double b) { return std::max(a, b); }, {}, {},
    all_types({.kinks = {0}}));
const RegisterSamples kPow = binary(
    "pow", &pow, [](double a, double b) { return std::pow(a, b); }, {0.3, 2.5}, {-2, 2},
    all_types());
const RegisterSamples kAtan2 = binary(
    "atan2", &atan2, [](double y, double x) { return std::atan2(y, x); }, {-3, 3}, {0.3, 3},
    with_sums());
const RegisterSamples kAtan2Left = binary(  // above the cut
    "atan2", &atan2, [](double y, double x) { return std::atan2(y, x); }, {0.3, 3}, {-3, -0.3},
    with_sums());
const RegisterSamples kFmod = binary(
    "fmod", &fmod, [](double a, double b) { return std::fmod(a, b); }, {-2.6, -2.2}, {0.9, 1.05},
    all_types());
const RegisterSamples kRemainder = binary(
    "remainder", &remainder, [](double a, double b) { return a - b * std::floor(a / b); },
    {-2.6, -2.2}, {0.9, 1.05}, all_types());
const RegisterSamples kEq = binary(
    "eq", &eq, [](double a, double b) -> double { return a == b; }, {}, {}, no_gradient());
const RegisterSamples kNe = binary(
    "ne", &ne, [](double a, double b) -> double { return a != b; }, {}, {}, no_gradient());
const RegisterSamples kLt = binary(
    "lt", &lt, [](double a, double b) -> double { return a < b; }, {}, {}, no_gradient());
const RegisterSamples kLe = binary(
    "le", &le, [](double a, double b) -> double { return a <= b; }, {}, {}, no_gradient());
const RegisterSamples kGt = binary(
    "gt", &gt, [](double a, double b) -> double { return a > b; }, {}, {}, no_gradient());
const RegisterSamples kGe = binary(
    "ge", &ge, [](double a, double b) -> double { return a >= b; }, {}, {}, no_gradient());

const RegisterSamples kAffine{"affine", [] {
                                return testing::unary_samples(
                                    "affine", [](const Tensor& x) { return affine(x, -1.5, 0.25); },
                                    [](double x) { return -1.5 * x + 0.25; });
                              }};

OpSamples logical(const std::string& op, testing::Call call, testing::Reference reference,
                  int inputs) {
  OpSamples s{.op = op};
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5}}) {
    Sample sample{.name = shape.str(), .call = call, .reference = reference};
    for (int i = 0; i < inputs; ++i) sample.inputs.push_back(testing::booleans(shape));
    sample.no_gradient = "the result is bool";
    s.samples.push_back(sample);
  }
  std::vector<Tensor> floats(static_cast<size_t>(inputs), testing::normal({2}));
  s.errors.push_back(error_sample<DTypeError>("floats", floats, call,
                                              op + ": input 0 is float64[2]; it must be bool"));
  return s;
}

testing::Reference each(double (*f)(double, double)) {
  return [f](const testing::RefArray& a, const testing::RefArray& b) {
    testing::RefArray y = a;
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(a.v[i], b.v[i]);
    return y;
  };
}

const RegisterSamples kAnd{"logical_and", [] {
                             return logical(
                                 "logical_and",
                                 [](const Tensor& a, const Tensor& b) { return logical_and(a, b); },
                                 each([](double a, double b) -> double { return a && b; }), 2);
                           }};
const RegisterSamples kOr{"logical_or", [] {
                            return logical(
                                "logical_or",
                                [](const Tensor& a, const Tensor& b) { return logical_or(a, b); },
                                each([](double a, double b) -> double { return a || b; }), 2);
                          }};
const RegisterSamples kXor{"logical_xor", [] {
                             return logical(
                                 "logical_xor",
                                 [](const Tensor& a, const Tensor& b) { return logical_xor(a, b); },
                                 each([](double a, double b) -> double { return a != b; }), 2);
                           }};
const RegisterSamples kNot{"logical_not", [] {
                             return logical(
                                 "logical_not", [](const Tensor& a) { return logical_not(a); },
                                 [](const testing::RefArray& a) {
                                   testing::RefArray y = a;
                                   for (double& v : y.v) v = v == 0;
                                   return y;
                                 },
                                 1);
                           }};

OpSamples where_samples() {
  OpSamples s{.op = "where"};
  const testing::Call call = [](const Tensor& c, const Tensor& a, const Tensor& b) {
    return where(c, a, b);
  };
  const testing::Reference same_shape = [](const testing::RefArray& c, const testing::RefArray& a,
                                           const testing::RefArray& b) {
    testing::RefArray y = a;
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = c.v[i] != 0 ? a.v[i] : b.v[i];
    return y;
  };
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5}}) {
    s.samples.push_back(
        {.name = shape.str(),
         .inputs = {testing::booleans(shape), testing::normal(shape), testing::normal(shape)},
         .call = call,
         .reference = same_shape});
  }
  s.samples.push_back(
      {.name = "rows, columns and a scalar",
       .inputs = {testing::booleans({3, 1}), testing::normal({4}), testing::scalar(2)},
       .call = call,
       .reference = [](const testing::RefArray& c, const testing::RefArray& a,
                       const testing::RefArray& b) {
         testing::RefArray y({3, 4});
         for (int64_t i = 0; i < 3; ++i) {
           for (int64_t j = 0; j < 4; ++j)
             y(i, j) = c.v[static_cast<size_t>(i)] != 0 ? a(j) : b.v[0];
         }
         return y;
       }});
  s.errors.push_back(error_sample<DTypeError>(
      "condition is no bool", {testing::normal({2}), testing::normal({2}), testing::normal({2})},
      call, "where: the condition is float64[2]; it must be bool"));
  s.errors.push_back(error_sample<ShapeError>(
      "shapes", {testing::booleans({2}), testing::normal({3}), testing::normal({2})}, call,
      "where: a is [3], b is [2]"));
  return s;
}
const RegisterSamples kWhere{"where", where_samples};

TEST(Elementwise, TypesArePromoted) {
  const Tensor i(Array::of<int64_t>({2}, std::vector<int64_t>{1, 2}));
  const Tensor f(Array::of<float>({2}, std::vector<float>{0.5F, 0.5F}));
  EXPECT_EQ(add(i, f).dtype(), kFloat32);
  EXPECT_EQ(div(i, i).dtype(), kFloat32);
  EXPECT_EQ((i * 2).dtype(), kInt64);
  EXPECT_EQ((i * 0.5).to_vector<double>(), (std::vector<double>{0.5, 1}));
  EXPECT_EQ(promote_types(kFloat32, kFloat64), kFloat64);
  EXPECT_EQ(promote_types(kFloat16, kBFloat16), kFloat32);
  EXPECT_EQ(promote_types(kBool, kUInt8), kUInt8);
}

TEST(Elementwise, ComparisonsOfEqualsAndOfNaN) {
  const Tensor a = testing::tensor({4}, {1, 2, 3, NAN});
  const Tensor b = testing::tensor({4}, {1, 3, 2, NAN});
  using Bits = std::vector<int>;
  EXPECT_EQ(eq(a, b).to_vector<int>(), (Bits{1, 0, 0, 0}));
  EXPECT_EQ(ne(a, b).to_vector<int>(), (Bits{0, 1, 1, 1}));
  EXPECT_EQ(lt(a, b).to_vector<int>(), (Bits{0, 1, 0, 0}));
  EXPECT_EQ(le(a, b).to_vector<int>(), (Bits{1, 1, 0, 0}));
  EXPECT_EQ(gt(a, b).to_vector<int>(), (Bits{0, 0, 1, 0}));
  EXPECT_EQ(ge(a, b).to_vector<int>(), (Bits{1, 0, 1, 0}));
}

TEST(Elementwise, NumbersThatAnIntegerTypeDoesNotHold) {
  const Tensor u(Array::of<uint8_t>({2}, std::vector<uint8_t>{0, 200}));
  const Tensor i(Array::of<int32_t>({2}, std::vector<int32_t>{-1, 1}));
  const Tensor l(Array::of<int64_t>({2}, std::vector<int64_t>{INT64_MIN, INT64_MAX}));
  using Bits = std::vector<int>;
  EXPECT_EQ((u < 300.0).to_vector<int>(), (Bits{1, 1}));
  EXPECT_EQ((u > -1.0).to_vector<int>(), (Bits{1, 1}));
  EXPECT_EQ((i < 3e9).to_vector<int>(), (Bits{1, 1}));
  EXPECT_EQ((l < 0x1p63).to_vector<int>(), (Bits{1, 1}));
  EXPECT_EQ((l > -INFINITY).to_vector<int>(), (Bits{1, 1}));
  EXPECT_THROW(i + 3e9, ValueError);
  EXPECT_THROW(u * 300.0, ValueError);
  EXPECT_EQ((u / 400.0).to_vector<double>(), (std::vector<double>{0, 0.5}));
}

TEST(Elementwise, NumbersDivideExactly) {
  for (const double v : {3.0, 41.0, 49.0, 1e-310}) {
    EXPECT_EQ((testing::tensor({1}, {1}).to(kFloat64) * v / v).item(), 1) << v;
  }
}

TEST(Elementwise, PromotionPassesTheGradient) {
  const Tensor a = variable(testing::normal({3}).to(kFloat32));
  const Tensor b = variable(testing::normal({3}));
  const auto g = grad(std::vector<Tensor>{(a * b).sum()}, std::vector<Tensor>{a, b});
  EXPECT_EQ(g[0].dtype(), kFloat32);
  EXPECT_EQ(g[1].dtype(), kFloat64);
}

TEST(Elementwise, NumbersOnEitherSide) {
  const Tensor x = testing::tensor({2}, {1, 4});
  EXPECT_EQ((2 / x).to_vector<double>(), (std::vector<double>{2, 0.5}));
  EXPECT_EQ((3 - x).to_vector<double>(), (std::vector<double>{2, -1}));
  EXPECT_EQ((x - 3).to_vector<double>(), (std::vector<double>{-2, 1}));
  EXPECT_EQ((x / 2).to_vector<double>(), (std::vector<double>{0.5, 2}));
  EXPECT_EQ((-x + 1).to_vector<double>(), (std::vector<double>{0, -3}));
}

TEST(Elementwise, GradientOfPowerAtZero) {
  const Tensor a = variable(testing::tensor({2}, {0, 2}));
  const Tensor b = variable(testing::tensor({2}, {2, 0}));
  const auto g =
      grad(std::vector<Tensor>{pow(a, b).sum()}, std::vector<Tensor>{a, b}, {.create_graph = true});
  EXPECT_EQ(g[0].to_vector<double>(), (std::vector<double>{0, 0}));
  EXPECT_EQ(g[1].to_vector<double>(), (std::vector<double>{0, std::log(2.0)}));
  const auto h = grad(g[0].sum(), a);
  EXPECT_EQ(h.to_vector<double>(), (std::vector<double>{2, 0}));
}

TEST(Elementwise, TiesShareTheGradient) {
  const Tensor a = variable(testing::tensor({1}, {2}));
  const Tensor b = variable(testing::tensor({1}, {2}));
  const auto g = grad(std::vector<Tensor>{maximum(a, b)}, std::vector<Tensor>{a, b});
  EXPECT_EQ(g[0].item(), 0.5);
  EXPECT_EQ(g[1].item(), 0.5);
}

TEST(Fill, RefusesNumbersThatTheTypeDoesNotHold) {
  EXPECT_THROW(Array::full(kUInt8, {2}, 300), ValueError);
  EXPECT_THROW(Array::full(kInt32, {2}, 3e9), ValueError);
  EXPECT_THROW(Array::full(kInt64, {2}, NAN), ValueError);
  EXPECT_THROW(Array::full(kInt64, {2}, -INFINITY), ValueError);
  EXPECT_EQ(Array::full(kUInt8, {}, -1).item(), 255);
  EXPECT_EQ(Array::full(kInt64, {}, -0x1p63).integer_item(), INT64_MIN);
  EXPECT_EQ(Array::full(kBool, {}, 0.5).item(), 1);
}

}  // namespace
}  // namespace ebb
