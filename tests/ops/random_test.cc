// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

constexpr TensorOptions kDouble{.dtype = kFloat64};
constexpr uint64_t kSeed = 7;

using Drawn = Tensor (*)(const Shape&, const TensorOptions&, Generator&, Where);

// An op of no inputs, whose element i is `one` of a generator that has drawn i numbers.
OpSamples draw_samples(const std::string& op, Drawn f, double (*one)(Generator&)) {
  OpSamples s{.op = op};
  s.no_empty = "nothing goes in";
  s.no_scalar = "nothing goes in";
  const auto make = [=](const Shape& shape) {
    Sample sample;
    sample.name = shape.str();
    sample.call = [=](Span<const Tensor>) {
      Generator g(kSeed);
      return f(shape, kDouble, g, Where::current());
    };
    sample.reference = [=](Span<const RefArray>) {
      Generator g(kSeed);
      RefArray y(shape);
      for (double& v : y.v) v = one(g);
      return y;
    };
    sample.no_gradient = "nothing goes in";
    sample.no_float32 = "the numbers are others";
    return sample;
  };
  for (const Shape& shape : {Shape{2, 3}, Shape{}, Shape{0}, Shape{513}, Shape{1025}}) {
    s.samples.push_back(make(shape));
  }
  s.errors.push_back(error_sample<DTypeError>(
      "int64", {},
      [f](Span<const Tensor>) {
        Generator g(kSeed);
        return f({2}, {.dtype = kInt64}, g, Where::current());
      },
      op + ": the type is int64; it must be float32 or float64"));
  return s;
}

const RegisterSamples kRand{
    "rand", [] { return draw_samples("rand", &rand, [](Generator& g) { return g.uniform(); }); }};
const RegisterSamples kRandn{
    "randn", [] { return draw_samples("randn", &randn, [](Generator& g) { return g.normal(); }); }};
const RegisterSamples kGumbel{"gumbel", [] {
                                return draw_samples("gumbel", &gumbel, [](Generator& g) {
                                  return -std::log(-std::log1p(-g.uniform()));
                                });
                              }};

const RegisterSamples kBernoulli{
    "bernoulli", [] {
      OpSamples s{.op = "bernoulli"};
      const testing::Call call = [](const Tensor& p) {
        Generator g(kSeed);
        return bernoulli(p, g);
      };
      const auto make = [=](const Shape& shape) {
        Sample sample;
        sample.name = shape.str();
        sample.inputs = {testing::uniform(shape, 0, 1)};
        sample.call = call;
        sample.reference = [](const RefArray& p) {
          Generator g(kSeed);
          RefArray y = p;
          for (double& v : y.v) v = g.uniform() < v ? 1 : 0;
          return y;
        };
        sample.no_gradient = "what is drawn does not depend on p smoothly";
        sample.no_float32 = "the numbers are others";
        return sample;
      };
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{2, 3}, Shape{600}}) {
        s.samples.push_back(make(shape));
      }
      s.errors.push_back(
          error_sample<ValueError>("above 1", {testing::tensor({2, 1}, {0.5, 1.5})}, call,
                                   "bernoulli: p is [2,1]; its element 1 is 1.5, outside [0, 1]"));
      s.errors.push_back(error_sample<ValueError>("NaN", {testing::scalar(NAN)}, call,
                                                  "bernoulli: p is []; its element 0 is nan"));
      s.errors.push_back(error_sample<DTypeError>("int64", {testing::integers({2}, 0, 1)}, call,
                                                  "bernoulli: input 0 is int64[2]"));
      return s;
    }};

const RegisterSamples kMultinomial{
    "multinomial", [] {
      OpSamples s{.op = "multinomial"};
      const auto call = [](int64_t n, bool replacement) -> testing::Call {
        return [=](const Tensor& w) {
          Generator g(kSeed);
          return multinomial(w, n, replacement, g);
        };
      };
      const auto add = [&](const Shape& shape, int64_t n, bool replacement) {
        Sample sample;
        sample.name = shape.str() + (replacement ? " with " : " without ") + std::to_string(n);
        sample.inputs = {testing::positive(shape)};
        sample.call = call(n, replacement);
        sample.reference = [=](const RefArray& w) {
          Generator g(kSeed);
          Shape out = shape;
          const int64_t k = shape[shape.rank() - 1];
          out[out.rank() - 1] = n;
          RefArray y(out);
          for (int64_t r = 0; n > 0 && r < w.numel() / k; ++r) {
            const double* row = w.v.data() + r * k;
            double* to = y.v.data() + r * n;
            if (replacement) {
              double total = 0;
              for (int64_t j = 0; j < k; ++j) total += row[j];
              for (int64_t i = 0; i < n; ++i) {
                double left = g.uniform() * total;
                int64_t j = 0;
                while (left >= row[j]) left -= row[j++];
                to[i] = static_cast<double>(j);
              }
              continue;
            }
            std::vector<double> key(static_cast<size_t>(k));
            for (int64_t j = 0; j < k; ++j) {
              key[static_cast<size_t>(j)] = -std::log1p(-g.uniform()) / row[j];
            }
            for (int64_t i = 0; i < n; ++i) {
              const auto least = std::min_element(key.begin(), key.end());
              to[i] = static_cast<double>(least - key.begin());
              *least = INFINITY;
            }
          }
          return y;
        };
        sample.no_gradient = "the result is int64";
        s.samples.push_back(sample);
      };
      for (const bool replacement : {true, false}) {
        add({5}, 3, replacement);
        add({5}, 5, replacement);
        add({3, 4}, 2, replacement);
        add({1}, 1, replacement);
        add({2, 3}, 0, replacement);
        add({0, 3}, 2, replacement);
      }
      add({3}, 100, true);
      s.no_scalar = "weights are a vector or a matrix";
      s.errors.push_back(
          error_sample<ShapeError>("rank", {testing::positive({2, 2, 2})}, call(1, true),
                                   "multinomial: weights are [2,2,2]; they must be"));
      s.errors.push_back(error_sample<ValueError>(
          "too many", {testing::positive({3})}, call(4, false),
          "multinomial: weights are [3]; 4 samples cannot be drawn without replacement"));
      s.errors.push_back(
          error_sample<ValueError>("negative count", {testing::positive({3})}, call(-1, true),
                                   "multinomial: weights are [3]; -1 samples cannot be drawn"));
      s.errors.push_back(error_sample<ValueError>(
          "negative weight", {testing::tensor({2, 2}, {1, 1, 1, -1})}, call(1, true),
          "multinomial: weights are [2,2]; element 1 is -1 in row 1"));
      s.errors.push_back(error_sample<ValueError>(
          "infinite weight", {testing::tensor({2}, {1, INFINITY})}, call(1, true),
          "multinomial: weights are [2]; element 1 is inf"));
      s.errors.push_back(
          error_sample<ValueError>("no weight", {testing::tensor({2}, {0, 0})}, call(1, true),
                                   "multinomial: weights are [2]; none is positive"));
      s.errors.push_back(error_sample<ValueError>(
          "few weights", {testing::tensor({3}, {0, 1, 0})}, call(2, false),
          "only 1 of them are positive, too few for 2 samples without replacement"));
      s.errors.push_back(error_sample<DTypeError>("int64", {testing::integers({2}, 0, 1)},
                                                  call(1, true),
                                                  "multinomial: input 0 is int64[2]"));
      return s;
    }};

const RegisterSamples kDropout{
    "dropout", [] {
      OpSamples s{.op = "dropout"};
      const auto call = [](double p) -> testing::Call {
        return [=](const Tensor& x) {
          Generator g(kSeed);
          return dropout(x, p, true, g);
        };
      };
      const auto make = [=](const Shape& shape, double p) {
        Sample sample;
        sample.name = shape.str() + " " + std::to_string(p);
        sample.inputs = {testing::normal(shape)};
        sample.call = call(p);
        sample.reference = [=](const RefArray& x) {
          Generator g(kSeed);
          RefArray y = x;
          std::vector<uint8_t> keep(x.v.size());
          g.fill_bernoulli(keep.data(), keep.size(), 1 - p);
          for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = keep[i] != 0 ? x.v[i] / (1 - p) : 0;
          return y;
        };
        return sample;
      };
      for (const double p : {0.5, 0.1, 1.0}) {
        for (const Shape& shape : {Shape{2, 5}, Shape{}, Shape{0}, Shape{13}}) {
          s.samples.push_back(make(shape, p));
        }
      }
      s.sized = [=](int64_t n) { return std::vector<Sample>{make({n}, 0.3), make({2, n}, 0.6)}; };
      for (const double p : {-0.1, 1.5, std::nan("")}) {
        s.errors.push_back(error_sample<ValueError>(std::to_string(p), {testing::normal({2})},
                                                    call(p), ", outside [0, 1]"));
      }
      s.errors.push_back(error_sample<DTypeError>("int64", {testing::integers({2}, 0, 1)},
                                                  call(0.5), "dropout: input 0 is int64[2]"));
      return s;
    }};

TEST(RandomOps, DrawFromTheThreadsGeneratorByDefault) {
  manual_seed(3);
  const std::vector<float> a = rand({4}).to_vector<float>();
  const std::vector<float> b = rand({4}).to_vector<float>();
  EXPECT_NE(a, b);
  manual_seed(3);
  EXPECT_EQ(rand({4}).to_vector<float>(), a);
  EXPECT_EQ(rand({4}).to_vector<float>(), b);
}

TEST(RandomOps, MoveTheGeneratorOnByWhatTheyDraw) {
  Generator g(1);
  const auto drawn = [&](auto&& f) {
    const uint64_t before = g.state().counter_lo;
    f();
    return g.state().counter_lo - before;
  };
  EXPECT_EQ(drawn([&] { rand({2, 3}, {}, g); }), 6u);
  EXPECT_EQ(drawn([&] { randn({2, 3}, kDouble, g); }), 6u);
  EXPECT_EQ(drawn([&] { gumbel({5}, {}, g); }), 5u);
  EXPECT_EQ(drawn([&] { bernoulli(testing::uniform({7}, 0, 1), g); }), 7u);
  EXPECT_EQ(drawn([&] { dropout(testing::normal({9}), 0.5, true, g); }), 9u);
  EXPECT_EQ(drawn([&] { dropout(testing::normal({9}), 0.5, false, g); }), 0u);
  EXPECT_EQ(drawn([&] { multinomial(testing::positive({2, 5}), 3, true, g); }), 6u);
  EXPECT_EQ(drawn([&] { multinomial(testing::positive({2, 5}), 3, false, g); }), 10u);
  EXPECT_EQ(drawn([&] {
              EXPECT_THROW(rand({2}, {.dtype = kInt32}, g), DTypeError);
              EXPECT_THROW(bernoulli(testing::scalar(2), g), ValueError);
            }),
            0u);
}

TEST(RandomOps, LikeAnotherTensor) {
  const Tensor x = testing::normal({2, 3});
  EXPECT_EQ(rand_like(x).array().meta(), x.array().meta());
  EXPECT_EQ(randn_like(x, {.dtype = kFloat32}).dtype(), kFloat32);
  Generator g(2);
  Generator h(2);
  EXPECT_EQ(randn_like(x, {}, g).to_vector<double>(),
            randn({2, 3}, kDouble, h).to_vector<double>());
}

TEST(RandomOps, IntegersAndPermutations) {
  Generator g(5);
  std::vector<int> seen(6);
  for (const int64_t v : randint(-2, 4, {600}, {}, g).to_vector<int64_t>()) {
    ASSERT_GE(v, -2);
    ASSERT_LT(v, 4);
    ++seen[static_cast<size_t>(v + 2)];
  }
  for (const int n : seen) EXPECT_NEAR(n, 100, 50);
  EXPECT_EQ(randint(0, 2, {3}, {.dtype = kUInt8}, g).dtype(), kUInt8);
  EXPECT_THROW(randint(3, 3, {1}, {}, g), ValueError);
  std::vector<int64_t> order = randperm(50, g).to_vector<int64_t>();
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], static_cast<int64_t>(i));
  EXPECT_THROW(randperm(-1, g), ValueError);
}

TEST(RandomOps, GumbelHasItsMeanAndVariance) {
  Generator g(11);
  const Tensor y = gumbel({200000}, kDouble, g);
  double mean = 0;
  double square = 0;
  for (const double v : y.to_vector<double>()) {
    ASSERT_TRUE(std::isfinite(v));
    mean += v / 200000;
    square += v * v / 200000;
  }
  constexpr double kPi = 3.14159265358979323846;
  EXPECT_NEAR(mean, 0.57721566, 0.01);  // 3.5 standard errors
  EXPECT_NEAR(square - mean * mean, kPi * kPi / 6, 0.03);
}

TEST(RandomOps, MultinomialFollowsItsWeights) {
  Generator g(12);
  const Tensor w = testing::tensor({4}, {1, 0, 3, 6});
  std::vector<double> share(4);
  for (const int64_t i : multinomial(w, 100000, true, g).to_vector<int64_t>()) {
    share[static_cast<size_t>(i)] += 1e-5;
  }
  EXPECT_EQ(share[1], 0);
  EXPECT_NEAR(share[0], 0.1, 0.005);
  EXPECT_NEAR(share[2], 0.3, 0.005);
  EXPECT_NEAR(share[3], 0.6, 0.005);
  // Without replacement: the first of each row as with it, the second by what is left.
  const int64_t strides[] = {0, 1};
  const Tensor rows(w.array().view({50000, 4}, strides, 0));
  std::vector<double> second(4);
  const std::vector<int64_t> pairs = multinomial(rows, 2, false, g).to_vector<int64_t>();
  for (size_t i = 0; i < pairs.size(); i += 2) {
    ASSERT_NE(pairs[i], pairs[i + 1]);
    second[static_cast<size_t>(pairs[i + 1])] += 2e-5;
  }
  EXPECT_EQ(second[1], 0);
  EXPECT_NEAR(second[0], 0.3 * 1 / 7 + 0.6 * 1 / 4, 0.01);
  EXPECT_NEAR(second[2], 0.1 * 3 / 9 + 0.6 * 3 / 4, 0.01);
  // Weights whose sum would overflow.
  const Tensor large = tensor({1e308, 1e308}, kDouble);
  for (const int64_t i : multinomial(large, 20, true, g).to_vector<int64_t>()) ASSERT_LT(i, 2);
}

TEST(RandomOps, DropoutKeepsTheMeanAndItsMask) {
  Generator g(13);
  const Tensor x = variable(full({100000}, 1.0, kDouble));
  const Tensor y = dropout(x, 0.25, true, g);
  EXPECT_NEAR(y.sum().item() / 100000, 1, 0.01);
  EXPECT_EQ(grad(y.sum(), x).to_vector<double>(), y.to_vector<double>());
  EXPECT_EQ(dropout(x, 0.5, false).value().rep(), x.value().rep());
  EXPECT_EQ(dropout(x, 0).value().rep(), x.value().rep());
  EXPECT_THROW(dropout(x, 2, false), ValueError);
}

}  // namespace
}  // namespace ebb
