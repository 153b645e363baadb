// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/functional.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor matrix(int64_t m, int64_t n, std::vector<double> v) {
  return Tensor(Array::of<double>({m, n}, v));
}

const auto cubes = [](const Tensor& x) { return (x * x * x).sum(); };

TEST(ValueAndGrad, OfOneTensor) {
  const auto [value, gradient] = value_and_grad(cubes)(of({1, 2}));
  EXPECT_DOUBLE_EQ(value.item(), 9);
  EXPECT_THAT(gradient.to_vector<double>(), ElementsAre(3, 12));
  EXPECT_FALSE(value.requires_grad());
  EXPECT_FALSE(gradient.requires_grad());
}

TEST(ValueAndGrad, OfSeveral) {
  auto f = value_and_grad([](Span<const Tensor> x) { return x[0] * x[0] * x[1]; });
  const std::vector<Tensor> at = {of({3}), of({5})};
  const auto [value, gradient] = f(at);
  EXPECT_DOUBLE_EQ(value.item(), 45);
  EXPECT_DOUBLE_EQ(gradient[0].item(), 30);
  EXPECT_DOUBLE_EQ(gradient[1].item(), 9);
}

TEST(ValueAndGrad, TakesAVectorToo) {
  auto f = value_and_grad([](const std::vector<Tensor>& x) { return x[0] * x[1]; });
  const std::vector<Tensor> at = {of({3}), of({5})};
  EXPECT_DOUBLE_EQ(f(at).gradient[1].item(), 3);
}

TEST(ValueAndGrad, NeedsAScalar) {
  try {
    value_and_grad([](const Tensor& x) { return x * 2; })(of({1, 2}));
    FAIL();
  } catch (const GradError& e) {
    EXPECT_THAT(e.what(), HasSubstr("value_and_grad: f(x) is float64[2]; it must be one scalar"));
  }
}

TEST(ValueAndGrad, WorksUnderNoGradGuard) {
  const NoGradGuard off;
  EXPECT_DOUBLE_EQ(value_and_grad(cubes)(of({2})).gradient.item(), 12);
}

TEST(ValueAndGrad, OtherUsesOfTheArgumentAreConstant) {
  const Tensor x = variable(of({3}));
  const auto f = [&](const Tensor& z) { return z * x; };
  EXPECT_DOUBLE_EQ(value_and_grad(f)(x).gradient.item(), 3);
  const Tensor g = value_and_grad(f, {.create_graph = true})(x).gradient;
  EXPECT_DOUBLE_EQ(g.item(), 3);
  EXPECT_DOUBLE_EQ(grad(g, x).item(), 1);
  EXPECT_FALSE(x.grad().defined());
}

TEST(ValueAndGrad, CreateGraphReachesTheArgumentsHistory) {
  const Tensor w = variable(of({2}));
  const Tensor x = w * w;  // 4
  const auto [value, gradient] = value_and_grad(cubes, {.create_graph = true})(x);
  EXPECT_DOUBLE_EQ(gradient.item(), 48);
  EXPECT_DOUBLE_EQ(grad(gradient, w, {.retain_graph = true}).item(), 6 * 4 * 2 * 2);
  EXPECT_DOUBLE_EQ(grad(value, w).item(), 48 * 4);
}

TEST(Vjp, OfAMatrixProduct) {
  const Tensor a = matrix(2, 3, {1, 2, 3, 4, 5, 6});
  const auto f = [&](const Tensor& x) { return mv(a, x); };
  EXPECT_THAT(vjp(f, of({1, 1, 1}), of({1, 10})).to_vector<double>(), ElementsAre(41, 52, 63));
}

TEST(Vjp, SeveralOutputs) {
  const auto f = [](const Tensor& x) { return std::vector<Tensor>{x * 2, (x * x).sum(), of({7})}; };
  const std::vector<Tensor> v = {of({1, 1}), of({10}), of({100})};
  EXPECT_THAT(vjp(f, of({3, 4}), v).to_vector<double>(), ElementsAre(62, 82));
}

TEST(Vjp, RejectsWhatDoesNotFit) {
  const auto f = [](const Tensor& x) { return x * 2; };
  try {
    vjp(f, of({1, 2}), of({1, 2, 3}));
    FAIL();
  } catch (const ShapeError& e) {
    EXPECT_THAT(e.what(), HasSubstr("vjp: f(x) is float64[2], v is float64[3]"));
  }
  EXPECT_THROW(vjp(f, of({1, 2}), Tensor()), ShapeError);
  EXPECT_THROW(jvp(f, of({1, 2}), of({1})), ShapeError);
  EXPECT_THROW(hvp(cubes, of({1, 2}), of({1})), ShapeError);
  EXPECT_THROW(vjp(f, Tensor(Array::zeros(kInt64, {2})), of({1, 2})), DTypeError);
}

TEST(Jvp, IsTheTransposeOfVjp) {
  const auto f = [](const Tensor& x) { return exp(x) * x.sum(); };
  const Tensor x = of({0.5, -1, 2});
  const Tensor u = of({1, 2, -1});
  const Tensor v = of({3, -2, 1});
  EXPECT_NEAR((jvp(f, x, u) * v).sum().item(), (vjp(f, x, v) * u).sum().item(), 1e-12);
  EXPECT_FALSE(jvp(f, x, u).requires_grad());
}

TEST(Jvp, SeveralInputsAndOutputs) {
  const auto f = [](Span<const Tensor> x) {
    return std::vector<Tensor>{x[0] * x[1], x[1] * 3, of({1})};
  };
  const std::vector<Tensor> x = {of({2}), of({5})};
  const std::vector<Tensor> v = {of({1}), of({10})};
  const std::vector<Tensor> y = jvp(f, x, v);
  EXPECT_DOUBLE_EQ(y[0].item(), 5 + 20);
  EXPECT_DOUBLE_EQ(y[1].item(), 30);
  EXPECT_DOUBLE_EQ(y[2].item(), 0);
}

TEST(Jvp, CreateGraph) {
  const Tensor x = variable(of({2}));
  const Tensor v = variable(of({5}));
  const Tensor y = jvp([](const Tensor& z) { return z * z * z; }, x, v, {.create_graph = true});
  EXPECT_DOUBLE_EQ(y.item(), 60);
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 60);
  EXPECT_DOUBLE_EQ(grad(y, v).item(), 12);
}

TEST(Jvp, OfTheIdentity) {
  EXPECT_DOUBLE_EQ(jvp([](const Tensor& x) { return x; }, of({2}), of({5})).item(), 5);
}

TEST(Hvp, AgreesWithTheHessian) {
  const auto f = [](const Tensor& x) { return exp(x).sum() * (x * x).sum(); };
  const Tensor x = of({0.3, -0.7});
  const Tensor h = hessian(f, x);
  const Tensor v = of({2, -3});
  const auto got = hvp(f, x, v).to_vector<double>();
  const auto want = mv(h, v).to_vector<double>();
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(got[i], want[i], 1e-12);
}

TEST(Hvp, SeveralInputs) {
  const auto f = [](Span<const Tensor> x) { return x[0] * x[0] * x[1]; };
  const std::vector<Tensor> x = {of({3}), of({5})};
  const std::vector<Tensor> v = {of({1}), of({10})};
  const auto h = hvp(f, x, v);
  EXPECT_DOUBLE_EQ(h[0].item(), 2 * 5 * 1 + 2 * 3 * 10);
  EXPECT_DOUBLE_EQ(h[1].item(), 2 * 3 * 1);
}

TEST(Hvp, OfALinearFunctionIsZero) {
  const Tensor h = hvp([](const Tensor& x) { return (x * 3).sum(); }, of({1, 2}), of({1, 1}));
  EXPECT_THAT(h.to_vector<double>(), ElementsAre(0, 0));
}

TEST(Jacobian, HasTheShapesOfBoth) {
  const auto f = [](const Tensor& x) { return x.t() * 2; };
  const Tensor j = jacobian(f, matrix(2, 3, {1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(j.shape(), Shape({3, 2, 2, 3}));
  for (int64_t a = 0; a < 3; ++a) {
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t c = 0; c < 2; ++c) {
        for (int64_t d = 0; d < 3; ++d) {
          EXPECT_EQ(j.array().at({a, b, c, d}), a == d && b == c ? 2 : 0);
        }
      }
    }
  }
}

TEST(Jacobian, SeveralInputs) {
  const auto f = [](Span<const Tensor> x) { return x[0] * x[1].sum(); };
  const std::vector<Tensor> x = {of({1, 2}), of({3, 4, 5})};
  const auto j = jacobian(f, x);
  EXPECT_THAT(j[0].to_vector<double>(), ElementsAre(12, 0, 0, 12));
  EXPECT_EQ(j[1].shape(), Shape({2, 3}));
  EXPECT_THAT(j[1].to_vector<double>(), ElementsAre(1, 1, 1, 2, 2, 2));
}

TEST(Jacobian, OfAScalarIsTheGradient) {
  const Tensor j = jacobian(cubes, of({1, 2}));
  EXPECT_THAT(j.to_vector<double>(), ElementsAre(3, 12));
  EXPECT_EQ(j.shape(), Shape({2}));
}

TEST(Jacobian, WithoutElementsOrDependence) {
  const Tensor none(Array::zeros(kFloat64, {0}));
  EXPECT_EQ(jacobian([](const Tensor& x) { return x * 2; }, none).shape(), Shape({0, 0}));
  const Tensor j = jacobian([](const Tensor&) { return of({1, 2}); }, of({1, 2, 3}));
  EXPECT_THAT(j.to_vector<double>(), ElementsAre(0, 0, 0, 0, 0, 0));
  const Tensor k = jacobian(
      [](const Tensor&) {
        return of({1, 2});
      },
      of({1}), {.create_graph = true});
  EXPECT_THAT(k.to_vector<double>(), ElementsAre(0, 0));
}

TEST(Jacobian, CreateGraph) {
  const Tensor x = variable(of({2, 3}));
  const auto f = [](const Tensor& z) { return z * z * z; };
  const Tensor j = jacobian(f, x, {.create_graph = true});
  EXPECT_THAT(j.to_vector<double>(), ElementsAre(12, 0, 0, 27));
  const Tensor g = grad((j * j).sum(), x, {.create_graph = true});  // 2 (3 x^2) (6 x)
  EXPECT_THAT(g.to_vector<double>(), ElementsAre(36 * 8, 36 * 27));
  EXPECT_THAT(grad(g.sum(), x).to_vector<double>(), ElementsAre(108 * 4, 108 * 9));
}

TEST(Jacobian, TooManyDimensions) {
  const Tensor x(Array::zeros(kFloat64, {1, 1, 1, 1, 1}));
  EXPECT_THROW(jacobian([](const Tensor& z) { return z * 2; }, x), ShapeError);
}

TEST(Hessian, OfACubic) {
  const auto f = [](const Tensor& x) { return cubes(x) + x[0] * x[1]; };
  EXPECT_THAT(hessian(f, of({1, 2})).to_vector<double>(), ElementsAre(6, 1, 1, 12));
}

TEST(Hessian, SeveralInputs) {
  const auto f = [](Span<const Tensor> x) { return (x[0] * x[0]).sum() * x[1]; };
  const std::vector<Tensor> x = {of({1, 2}), of({5})};
  const auto h = hessian(f, x);
  EXPECT_THAT(h[0][0].to_vector<double>(), ElementsAre(10, 0, 0, 10));
  EXPECT_THAT(h[0][1].to_vector<double>(), ElementsAre(2, 4));
  EXPECT_THAT(h[1][0].to_vector<double>(), ElementsAre(2, 4));
  EXPECT_THAT(h[1][1].to_vector<double>(), ElementsAre(0));
}

TEST(Hessian, CreateGraph) {
  const Tensor x = variable(of({1, 2}));
  const Tensor h = hessian(cubes, x, {.create_graph = true});
  EXPECT_THAT(grad(h.sum(), x).to_vector<double>(), ElementsAre(6, 6));
}

// Hyvarinen, "Estimation of non-normalized statistical models by score matching", 2005, on the
// energy |x|^4 / 4: s = -|x|^2 x, tr ds/dx = -(n + 2) |x|^2.
TEST(Functional, ScoreMatching) {
  const auto energy = [](const Tensor& x) {
    const Tensor r = (x * x).sum();
    return r * r / 4;
  };
  const Tensor x = variable(of({0.5, -1, 0.25}));
  const Tensor s = -grad(energy(x), x, {.create_graph = true});
  Tensor trace(Array::zeros(kFloat64, {}));
  for (int64_t i = 0; i < x.size(0); ++i) {
    trace = trace + grad(s[i], x, {.create_graph = true})[i];
  }
  const double r = 0.25 + 1 + 0.0625;
  EXPECT_NEAR((0.5 * (s * s).sum() + trace).item(), r * r * r / 2 - 5 * r, 1e-12);
  EXPECT_NEAR(grad(trace, x).to_vector<double>()[1], -5 * 2 * -1, 1e-12);
}

}  // namespace
}  // namespace ebb
