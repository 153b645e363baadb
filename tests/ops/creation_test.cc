// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/creation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "ebb/autograd/testing.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

constexpr TensorOptions kDouble{.dtype = kFloat64};

Sample created(std::string name, std::function<Tensor()> make, const RefArray& want) {
  Sample s;
  s.name = std::move(name);
  s.call = [make = std::move(make)](Span<const Tensor>) { return make(); };
  s.reference = [want](Span<const RefArray>) { return want; };
  s.no_gradient = "nothing goes in";
  s.no_float32 = "the type is asked for, not that of an input";
  return s;
}

OpSamples creation_samples(const std::string& op) {
  OpSamples s{.op = op};
  s.no_empty = "nothing goes in";
  s.no_scalar = "nothing goes in";
  return s;
}

template <class E>
testing::ErrorSample bad(std::string name, std::function<Tensor()> make, std::string message) {
  return error_sample<E>(
      std::move(name), {}, [make = std::move(make)](Span<const Tensor>) { return make(); },
      std::move(message));
}

const RegisterSamples kFull{
    "full", [] {
      OpSamples s = creation_samples("full");
      for (const Shape& shape : {Shape{2, 3}, Shape{}, Shape{0, 2}, Shape{1000}}) {
        s.samples.push_back(created(
            shape.str(), [=] { return full(shape, 1.5, kDouble); }, RefArray(shape, 1.5)));
      }
      s.samples.push_back(created(
          "float16", [] { return full({3}, 0.1, {.dtype = kFloat16}); },
          RefArray(Shape{3}, 0.0999755859375)));
      s.errors.push_back(bad<ShapeError>(
          "negative size", [] { return full({-1}, 0); }, "[-1]"));
      return s;
    }};

const RegisterSamples kArange{
    "arange", [] {
      OpSamples s = creation_samples("arange");
      const auto add = [&](std::string name, std::function<Tensor()> make,
                           std::vector<double> want) {
        const Shape shape{static_cast<int64_t>(want.size())};
        s.samples.push_back(created(std::move(name), std::move(make), RefArray(shape, want)));
      };
      add("end", [] { return arange(4); }, {0, 1, 2, 3});
      add("start and end", [] { return arange(-1, 3, kDouble); }, {-1, 0, 1, 2});
      add("step", [] { return arange(1, 8, 3); }, {1, 4, 7});
      add("past the end", [] { return arange(1, 7, 3); }, {1, 4});
      add("down", [] { return arange(3, -2, -2, kDouble); }, {3, 1, -1});
      add("fractions", [] { return arange(0.5, 2, 0.5, kDouble); }, {0.5, 1, 1.5});
      add("a fraction cut", [] { return arange(0, 2, 0.75, {.dtype = kInt32}); }, {0, 0, 1});
      add("empty", [] { return arange(2, 2); }, {});
      add("float16", [] { return arange(3, {.dtype = kFloat16}); }, {0, 1, 2});
      add("far", [] { return arange(INT64_MAX - 2, INT64_MAX); },
          {static_cast<double>(INT64_MAX - 2), static_cast<double>(INT64_MAX - 1)});
      s.errors.push_back(bad<ValueError>(
          "step 0", [] { return arange(0, 3, 0); }, "arange: from 0 to 3 by 0; step may not be 0"));
      s.errors.push_back(bad<ValueError>(
          "direction", [] { return arange(0, 3, -1); },
          "arange: from 0 to 3 by -1; step leads away from end"));
      s.errors.push_back(bad<ValueError>(
          "NaN", [] { return arange(0, NAN, 1); }, "the numbers must be finite"));
      s.errors.push_back(bad<DTypeError>(
          "bool", [] { return arange(3, {.dtype = kBool}); }, "arange: the type may not be bool"));
      s.errors.push_back(bad<MemoryError>(
          "too many", [] { return arange(0, 1e300, 1e-300); }, ""));
      return s;
    }};

const RegisterSamples kLinspace{
    "linspace", [] {
      OpSamples s = creation_samples("linspace");
      const auto add = [&](std::string name, std::function<Tensor()> make,
                           std::vector<double> want) {
        const Shape shape{static_cast<int64_t>(want.size())};
        s.samples.push_back(created(std::move(name), std::move(make), RefArray(shape, want)));
      };
      add("up", [] { return linspace(0, 1, 5, kDouble); }, {0, 0.25, 0.5, 0.75, 1});
      add("down", [] { return linspace(1, -1, 4, kDouble); }, {1, 1.0 / 3, -1.0 / 3, -1});
      add("one", [] { return linspace(3, 7, 1, kDouble); }, {3});
      add("none", [] { return linspace(3, 7, 0); }, {});
      add("integers", [] { return linspace(0, 4, 4, {.dtype = kInt64}); }, {0, 1, 2, 4});
      s.errors.push_back(bad<ValueError>(
          "negative", [] { return linspace(0, 1, -1); }, "linspace: steps is -1"));
      s.errors.push_back(bad<DTypeError>(
          "bool", [] { return linspace(0, 1, 2, {.dtype = kBool}); },
          "linspace: the type may not be bool"));
      return s;
    }};

const RegisterSamples kEye{
    "eye", [] {
      OpSamples s = creation_samples("eye");
      for (const Shape& shape : {Shape{3, 3}, Shape{2, 4}, Shape{4, 2}, Shape{0, 0}, Shape{0, 3}}) {
        RefArray want(shape);
        for (int64_t i = 0; i < std::min(shape[0], shape[1]); ++i) want(i, i) = 1;
        for (const DType dtype : {kFloat64, kInt64, kBool, kBFloat16}) {
          s.samples.push_back(created(
              shape.str() + " " + name_of(dtype),
              [=] { return eye(shape[0], shape[1], {.dtype = dtype}); }, want));
        }
      }
      s.errors.push_back(bad<ShapeError>(
          "negative", [] { return eye(-2); }, "eye: [-2,-2]; sizes may not be negative"));
      return s;
    }};

TEST(Creation, TypesFollowTheNumbers) {
  EXPECT_EQ(full({2}, 1).dtype(), kInt64);
  EXPECT_EQ(full({2}, true).dtype(), kBool);
  EXPECT_EQ(full({2}, 1.0).dtype(), kFloat32);
  EXPECT_EQ(full({2}, 1, {.dtype = kFloat64}).dtype(), kFloat64);
  EXPECT_EQ(arange(5).dtype(), kInt64);
  EXPECT_EQ(arange(5.0).dtype(), kFloat32);
  EXPECT_EQ(arange(0, 1, 0.5).dtype(), kFloat32);
  EXPECT_EQ(linspace(0, 1, 2).dtype(), kFloat32);
  EXPECT_EQ(eye(2).dtype(), kFloat32);
  EXPECT_EQ(zeros({2}).dtype(), kFloat32);
  constexpr int64_t kBig = (int64_t{1} << 60) + 1;
  EXPECT_EQ(full({1}, kBig).to_vector<int64_t>(), std::vector<int64_t>{kBig});
}

TEST(Creation, PlainOnes) {
  EXPECT_EQ(zeros({}).item(), 0);
  EXPECT_EQ(zeros({2, 2}).to_vector<float>(), std::vector<float>(4, 0.0f));
  EXPECT_EQ(ones({3}, {.dtype = kInt32}).to_vector<int32_t>(), std::vector<int32_t>(3, 1));
  EXPECT_EQ(empty({2, 3}).shape(), (Shape{2, 3}));
  const Tensor x = full({2, 1}, 2.0, kDouble);
  EXPECT_EQ(zeros_like(x).array().meta(), x.array().meta());
  EXPECT_EQ(zeros_like(x).to_vector<double>(), std::vector<double>(2, 0.0));
  EXPECT_EQ(ones_like(x).to_vector<double>(), std::vector<double>(2, 1.0));
  EXPECT_EQ(full_like(x, 7).to_vector<double>(), std::vector<double>(2, 7.0));
  EXPECT_EQ(full_like(x, 7).dtype(), kFloat64);
  EXPECT_EQ(ones_like(x, {.dtype = kInt64}).dtype(), kInt64);
  EXPECT_EQ(empty_like(x).array().meta(), x.array().meta());
}

TEST(Creation, TensorOfNestedLists) {
  EXPECT_EQ(tensor(3.5).shape(), Shape{});
  EXPECT_EQ(tensor(3.5).item(), 3.5);
  const Tensor v = tensor({1, 2, 3});
  EXPECT_EQ(v.dtype(), kInt64);
  EXPECT_EQ(v.to_vector<int64_t>(), (std::vector<int64_t>{1, 2, 3}));
  const Tensor m = tensor({{1., 2.}, {3., 4.}, {5., 6.}});
  EXPECT_EQ(m.dtype(), kFloat32);
  EXPECT_EQ(m.shape(), (Shape{3, 2}));
  EXPECT_EQ(m.to_vector<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(tensor({{1, 2}}).shape(), (Shape{1, 2}));
  EXPECT_EQ(tensor({{{1}, {2}}}).shape(), (Shape{1, 2, 1}));
  EXPECT_EQ(tensor({5}).shape(), Shape{1});
  EXPECT_EQ(tensor({1, 2.5}).dtype(), kFloat32);
  EXPECT_EQ(tensor({true, false}).dtype(), kBool);
  EXPECT_EQ(tensor({1, 2}, {.dtype = kFloat64}).dtype(), kFloat64);
  EXPECT_EQ(tensor({0.1}, kDouble).item(), 0.1);
  EXPECT_EQ(tensor({}).shape(), Shape{0});
  EXPECT_EQ(tensor({}).dtype(), kFloat32);
  try {
    tensor({{1, 2}, {3}});
    FAIL() << "lists of two lengths";
  } catch (const ShapeError& e) {
    EXPECT_STREQ(e.what(), "tensor: a list holds one of shape [2] and one of shape [1]");
  }
  EXPECT_THROW(tensor({{1, 2}, 3}), ShapeError);
}

TEST(Creation, FromVectorKeepsTheType) {
  EXPECT_EQ(from_vector(std::vector<double>{1, 2}).dtype(), kFloat64);
  const Tensor m = from_vector(std::vector<int32_t>{1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(m.dtype(), kInt32);
  EXPECT_EQ(m.shape(), (Shape{2, 3}));
  EXPECT_EQ(m.to_vector<int32_t>(), (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_THROW(from_vector(std::vector<float>{1, 2, 3}, {2, 2}), ShapeError);
}

}  // namespace
}  // namespace ebb
