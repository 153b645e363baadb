// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/gradcheck.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/softmax.h"

// What samples cannot say of reductions: types, ties, NaN, zeros, layouts,
// accuracy.
namespace ebb {
namespace {

using testing::tensor;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <class T>
Tensor of(const Shape& shape, const std::vector<T>& values) {
  return Tensor(Array::of<T>(shape, values));
}

std::vector<double> gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f) {
  const Tensor v = variable(x);
  return grad(f(v), v).to_vector<double>();
}

TEST(Reduce, IntegersAddAndMultiplyInInt64) {
  const Tensor x = of<int32_t>({3}, {2'000'000'000, 2'000'000'000, 2});
  EXPECT_EQ(sum(x).dtype(), kInt64);
  EXPECT_EQ(sum(x).item<int64_t>(), 4'000'000'002);
  EXPECT_EQ(prod(x).item<int64_t>(), 8'000'000'000'000'000'000);
  EXPECT_EQ(cumsum(x, 0).to_vector<int64_t>(),
            (std::vector<int64_t>{2'000'000'000, 4'000'000'000, 4'000'000'002}));
  EXPECT_EQ(cumprod(of<uint8_t>({3}, {20, 20, 2}), 0).to_vector<int64_t>(),
            (std::vector<int64_t>{20, 400, 800}));
  const Tensor mask = cast(of<int32_t>({2, 2}, {1, 0, 1, 1}), kBool);
  EXPECT_EQ(sum(mask, 0).to_vector<int64_t>(), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(sum_to(of<int32_t>({2, 2}, {1, 2, 3, 4}), {2}).to_vector<int64_t>(),
            (std::vector<int64_t>{4, 6}));
  EXPECT_EQ(max(x).dtype(), kInt32);
  EXPECT_EQ(max(x).item<int64_t>(), 2'000'000'000);
  EXPECT_EQ(max(x, 0).indices.item<int64_t>(), 0);
  EXPECT_EQ(argmin(x).item<int64_t>(), 2);
}

TEST(Reduce, OfNothing) {
  const Tensor none = tensor({0}, {});
  EXPECT_EQ(sum(none).item(), 0);
  EXPECT_EQ(prod(none).item(), 1);
  EXPECT_TRUE(std::isnan(mean(none).item()));
  EXPECT_TRUE(std::isnan(var(none).item()));
  EXPECT_EQ(logsumexp(none).item(), -kInf);
  EXPECT_EQ(norm(none).item(), 0);
  EXPECT_EQ(any(none).item(), 0);
  EXPECT_EQ(all(none).item(), 1);
  EXPECT_EQ(sum(tensor({2, 0}, {}), 1).to_vector<double>(), (std::vector<double>{0, 0}));
  EXPECT_EQ(max(tensor({2, 0}, {}), {0}).shape(), Shape{0});
  EXPECT_THROW(max(tensor({0, 0}, {}), {1}), ShapeError);
}

TEST(Reduce, EveryWayToReduceEveryLayout) {
  // Small integers, so that any order of addition gives the same sum.
  const Shape shape{3, 2, 5, 4};
  const Tensor base = cast(testing::integers(shape, -8, 8), kFloat64);
  std::vector<int64_t> order{0, 1, 2, 3};
  do {
    const Tensor x = permute(base, Axes(order));
    const Tensor dense = contiguous(x);
    for (uint32_t mask = 1; mask < 16; ++mask) {
      std::vector<int64_t> axes;
      for (int i = 0; i < 4; ++i) {
        if ((mask >> i & 1) != 0) axes.push_back(i);
      }
      // By elements: where each goes in the result.
      const Shape kept = ops::reduced_shape(x.shape(), mask, true);
      std::vector<double> sums(static_cast<size_t>(kept.numel()));
      std::vector<double> largest(sums.size());
      std::vector<size_t> place;
      for (int64_t k = 0; k < x.numel(); ++k) {
        int64_t rest = k;
        size_t at = 0;
        int64_t stride = 1;
        for (int i = 3; i >= 0; --i) {
          const int64_t index = rest % x.shape()[i];
          rest /= x.shape()[i];
          at += static_cast<size_t>(kept[i] == 1 ? 0 : index * stride);
          stride *= kept[i];
        }
        place.push_back(at);
        const double v = dense.data<double>()[k];
        sums[at] += v;
        largest[at] = std::max(largest[at], std::abs(v));
      }
      EXPECT_EQ(sum(x, Axes(axes)).to_vector<double>(), sums) << x.shape().str() << mask;
      EXPECT_EQ(norm(x, kInf, Axes(axes)).to_vector<double>(), largest);
      // Gradients: each element gets its result's; through a copy of rows too.
      const Tensor v = variable(x);
      const Tensor weights(Array::of<double>(kept, Span<const double>(sums)));
      const Tensor gs = grad((sum(v, Axes(axes), true) * weights).sum(), v);
      const Tensor gp = grad((prod(v * 0 + 1, Axes(axes), true) * weights).sum(), v);
      const Tensor gl = grad((norm(v, 1, Axes(axes), true) * weights).sum(), v);
      for (size_t k = 0; k < place.size(); ++k) {
        const double g = sums[place[k]];
        const double value = dense.data<double>()[k];
        ASSERT_EQ(gs.to_vector<double>()[k], g);
        ASSERT_EQ(gp.to_vector<double>()[k], 0);
        ASSERT_EQ(gl.to_vector<double>()[k], g * ((value > 0) - (value < 0)));
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Reduce, AllEightAxes) {
  std::vector<double> v(256);
  std::iota(v.begin(), v.end(), 0.0);
  const Tensor x = permute(tensor({2, 2, 2, 2, 2, 2, 2, 2}, v), {7, 1, 2, 0, 4, 3, 6, 5});
  EXPECT_EQ(sum(x).item(), 255 * 128);
  EXPECT_EQ(norm(x, kInf).item(), 255);
  EXPECT_NEAR(var(x, {}, 0).item(), (256.0 * 256 - 1) / 12, 1e-9);
}

TEST(Reduce, SumsAreExactToTheLastDigitsAndTheSameEveryTime) {
  const int64_t n = 1'000'000;
  const Tensor x = cast(testing::uniform({n}, 0, 1, 7), kFloat32);
  double exact = 0;
  for (float v : x.to_vector<float>()) exact += v;
  const float s = sum(x).item<float>();
  EXPECT_NEAR(s, exact, 1e-6 * exact);
  EXPECT_EQ(sum(x).item<float>(), s);
  // A column of a matrix is summed as the row it is.
  const Tensor column = select(transpose(expand(unsqueeze(x, 0), {3, n}), 0, 1), 1, 1);
  EXPECT_EQ(sum(column).item<float>(), s);
}

TEST(Reduce, GradientOfASumIsTheSameNumberEverywhere) {
  for (const int64_t n : {3, 20000}) {  // filled, and repeated
    const Tensor x = variable(testing::normal({n}));
    const Tensor g = grad(3 * sum(x), x);
    EXPECT_EQ(g.to_vector<double>(), std::vector<double>(static_cast<size_t>(n), 3));
    sum(x).backward();
    mean(x).backward();
    EXPECT_NEAR(x.grad().to_vector<double>()[1], 1 + 1.0 / static_cast<double>(n), 1e-15);
    // What arrives at a leaf twice adds up, though the first was a repeated
    // number.
    const Tensor both = grad(sum(x) + sum(x * x), x);
    EXPECT_DOUBLE_EQ(both.to_vector<double>()[2], 1 + 2 * x.to_vector<double>()[2]);
  }
}

TEST(Reduce, TiesShareTheGradientOfAnExtreme) {
  const Tensor x = tensor({2, 3}, {1, 3, 3, 2, 2, 2});
  EXPECT_EQ(gradient(x, [](const Tensor& t) { return max(t, {1}).sum(); }),
            (std::vector<double>{0, 0.5, 0.5, 1 / 3.0, 1 / 3.0, 1 / 3.0}));
  EXPECT_EQ(gradient(x, [](const Tensor& t) { return max(t); }),
            (std::vector<double>{0, 0.5, 0.5, 0, 0, 0}));
  EXPECT_EQ(gradient(x,
                     [](const Tensor& t) {
                       return min(t, {0, 1});
                     }),
            (std::vector<double>{1, 0, 0, 0, 0, 0}));
  // With the place asked for, the first one has it all.
  EXPECT_EQ(gradient(x, [](const Tensor& t) { return max(t, 1).values.sum(); }),
            (std::vector<double>{0, 1, 0, 1, 0, 0}));
  EXPECT_EQ(gradient(tensor({3}, {-2, 2, 1}), [](const Tensor& t) { return norm(t, kInf); }),
            (std::vector<double>{-0.5, 0.5, 0}));
}

TEST(Reduce, BracesMakeAnAxisAList) {
  const Tensor x = tensor({2, 2}, {1, 2, 4, 3});
  const auto [values, indices] = max(x, -1);
  EXPECT_EQ(values.to_vector<double>(), (std::vector<double>{2, 4}));
  EXPECT_EQ(indices.to_vector<int64_t>(), (std::vector<int64_t>{1, 0}));
  const Tensor alone = max(x, {-1});
  EXPECT_EQ(alone.to_vector<double>(), (std::vector<double>{2, 4}));
  const int64_t axis = 0;
  EXPECT_EQ(min(x, axis).indices.to_vector<int64_t>(), (std::vector<int64_t>{0, 0}));
}

TEST(Reduce, NanIsSeen) {
  const Tensor x = tensor({2, 3}, {1, kNan, 3, 4, 5, 6});
  EXPECT_TRUE(std::isnan(max(x).item()));
  EXPECT_TRUE(std::isnan(min(x).item()));
  EXPECT_EQ(argmax(x).item<int64_t>(), 1);
  EXPECT_EQ(argmin(x, 1).to_vector<int64_t>(), (std::vector<int64_t>{1, 0}));
  for (const double p : {0.5, 1.0, 2.0, 3.0, -1.0, kInf, -kInf}) {
    const std::vector<double> v = norm(x, p, 1).to_vector<double>();
    EXPECT_TRUE(std::isnan(v[0])) << p;
    EXPECT_FALSE(std::isnan(v[1])) << p;
  }
  EXPECT_TRUE(std::isnan(logsumexp(x).item()));
  EXPECT_TRUE(std::isnan(var(x).item()));
  EXPECT_EQ(any(tensor({1}, {kNan})).item(), 1);
  const std::vector<double> g = gradient(x, [](const Tensor& t) { return max(t, {1}).sum(); });
  EXPECT_TRUE(std::isnan(g[0]) && std::isnan(g[1]) && std::isnan(g[2]));
  EXPECT_EQ(g[5], 1);
}

TEST(Reduce, ProductsOfZerosHaveDerivativesOfAllOrders) {
  for (const std::vector<double>& v :
       {std::vector<double>{2, 0, 3, -1}, {2, 0, 0, -1}, {0, 0, 0, 5}, {2, 4, 3, -1}}) {
    const auto f = [](const Tensor& t) { return prod(t); };
    const Tensor x = variable(tensor({4}, v));
    EXPECT_NO_THROW(gradcheck(f, x));
    EXPECT_NO_THROW(gradgradcheck(f, x));
    // d^3 / dx0 dx1 dx2 = x3.
    const Tensor g1 = grad(prod(x), x, {.create_graph = true});
    const Tensor g2 = grad(g1[0], x, {.create_graph = true});
    const Tensor g3 = grad(g2[1], x);
    EXPECT_DOUBLE_EQ(g3.to_vector<double>()[2], v[3]);
    const auto running = [](const Tensor& t) { return cumprod(t, 0); };
    EXPECT_NO_THROW(gradcheck(running, x));
    EXPECT_NO_THROW(gradgradcheck(running, x));
  }
}

TEST(Reduce, ProductsWhoseFactorsVanishBelowTheSmallestNumber) {
  // The product underflows, the derivatives do not.
  const Tensor x = of<double>({3}, {1e-200, 1e-200, 1e200});
  EXPECT_EQ(prod(of<double>({2}, {1e-200, 1e-200})).item(), 0);
  const std::vector<double> g = gradient(x, [](const Tensor& t) { return prod(t); });
  EXPECT_NEAR(g[0], 1, 1e-12);
  EXPECT_NEAR(g[1], 1, 1e-12);
}

TEST(Reduce, NormsNeitherOverflowNorVanish) {
  for (const float scale : {1e30f, 1e-30f}) {
    const Tensor x = of<float>({2}, {3 * scale, -4 * scale});
    for (const double p : {1.5, 2.0, 3.0, 0.5, -1.0}) {
      const double want =
          std::pow(std::pow(3, p) + std::pow(4, p), 1 / p) * static_cast<double>(scale);
      EXPECT_NEAR(norm(x, p).item() / want, 1, 1e-5) << p;
    }
    const Tensor v = variable(x);
    const std::vector<float> g = grad(norm(v), v).to_vector<float>();
    EXPECT_NEAR(g[0], 0.6, 1e-6);
    EXPECT_NEAR(g[1], -0.8, 1e-6);
  }
  EXPECT_EQ(norm(tensor({2}, {kInf, 1})).item(), kInf);
  EXPECT_EQ(norm(tensor({2}, {1, 0}), -1).item(), 0);
  EXPECT_EQ(norm(tensor({3}, {2, 0, -1}), 0).item(), 2);
}

TEST(Reduce, TheGradientOfANormAtZeroIsZero) {
  for (const double p : {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -1.0, kInf, -kInf}) {
    const auto f = [p](const Tensor& t) { return norm(t, p); };
    EXPECT_EQ(gradient(tensor({2}, {0, 0}), f), (std::vector<double>{0, 0})) << p;
    const Tensor x = variable(tensor({2}, {0, 0}));
    EXPECT_EQ(grad(f(x), x, {.create_graph = true}).to_vector<double>(),
              (std::vector<double>{0, 0}))
        << p;
  }
  // A zero among others: nothing for p <= 1, by definition; nothing in truth
  // above.
  for (const double p : {0.5, 1.0, 1.5, 2.0, 4.0}) {
    EXPECT_EQ(gradient(tensor({2}, {0, 2}), [p](const Tensor& t) { return norm(t, p); })[0], 0);
  }
}

TEST(Reduce, TheHessianOfTheEuclideanNorm) {
  // (I - u u') / |x|, u = x / |x|; an element of x is 0.
  const Tensor x = tensor({3}, {3, 0, -4});
  const Tensor h = hessian([](const Tensor& t) { return norm(t); }, x);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      const double want =
          (static_cast<double>(i == j) - x.data<double>()[i] * x.data<double>()[j] / 25) / 5;
      EXPECT_NEAR(h.to_vector<double>()[static_cast<size_t>(3 * i + j)], want, 1e-14);
    }
  }
}

TEST(Reduce, VarianceTakesACorrectionOrWhetherItIsUnbiased) {
  const Tensor x = tensor({4}, {1, 2, 3, 6});
  EXPECT_DOUBLE_EQ(var(x).item(), 14.0 / 3);
  EXPECT_DOUBLE_EQ(var(x, {}, false).item(), 3.5);
  EXPECT_DOUBLE_EQ(var(x, 0, true).item(), 14.0 / 3);
  EXPECT_DOUBLE_EQ(x.var({}, 2).item(), 7);
  EXPECT_DOUBLE_EQ(x.std({}, 0).item(), std::sqrt(3.5));
  EXPECT_TRUE(std::isnan(var(tensor({1}, {2})).item()));
  EXPECT_EQ(var(tensor({1}, {2}), {}, 0).item(), 0);
  EXPECT_EQ(var(tensor({2}, {2, 3}), {}, 5).item(), kInf);
  EXPECT_TRUE(std::isnan(var(testing::scalar(1)).item()));
  EXPECT_EQ(gradient(tensor({2}, {2, 2}), [](const Tensor& t) { return std(t); }),
            (std::vector<double>{0, 0}));
  // A large mean takes no digits from a small variance.
  const Tensor far = of<float>({4}, {10001, 10002, 10003, 10006});
  EXPECT_FLOAT_EQ(var(far).item<float>(), 14.0f / 3);
}

TEST(Reduce, LogSumExpNeverOverflows) {
  EXPECT_DOUBLE_EQ(logsumexp(tensor({2}, {1000, 1000})).item(), 1000 + std::log(2));
  EXPECT_EQ(logsumexp(tensor({2}, {-kInf, -kInf})).item(), -kInf);
  EXPECT_EQ(logsumexp(tensor({2}, {kInf, 0})).item(), kInf);
  EXPECT_EQ(gradient(tensor({2}, {-kInf, 5}), [](const Tensor& t) { return logsumexp(t); }),
            (std::vector<double>{0, 1}));
}

TEST(Reduce, MethodsAreTheFunctions) {
  const Tensor x = tensor({2, 2}, {1, 2, 4, 3});
  EXPECT_EQ(x.prod().item(), 24);
  EXPECT_EQ(x.max().item(), 4);
  EXPECT_EQ(x.min(1).to_vector<double>(), (std::vector<double>{1, 3}));
  EXPECT_EQ(x.argmax().item<int64_t>(), 2);
  EXPECT_EQ(x.argmin(0).to_vector<int64_t>(), (std::vector<int64_t>{0, 0}));
  EXPECT_DOUBLE_EQ(x.norm().item(), std::sqrt(30));
  EXPECT_EQ(x.norm(1, 0).to_vector<double>(), (std::vector<double>{5, 5}));
  EXPECT_EQ(x.cumsum(1).to_vector<double>(), (std::vector<double>{1, 3, 4, 7}));
  EXPECT_EQ(x.cumprod(0).to_vector<double>(), (std::vector<double>{1, 2, 4, 6}));
  EXPECT_EQ(x.any().item(), 1);
  EXPECT_EQ(x.all().item(), 1);
  EXPECT_DOUBLE_EQ(x.softmax(1).sum().item(), 2);
  EXPECT_DOUBLE_EQ(x.log_softmax(0).to_vector<double>()[0],
                   1 - x.logsumexp(0).to_vector<double>()[0]);
}

}  // namespace
}  // namespace ebb
