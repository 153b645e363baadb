// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/activation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::FamilyOptions;
using testing::OpSamples;
using testing::RegisterSamples;

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double soft_plus(double x) { return std::log1p(std::exp(x)); }

RegisterSamples activation(const std::string& op, std::function<Tensor(const Tensor&)> f,
                           std::function<double(double)> reference, std::vector<double> kinks = {},
                           std::vector<testing::ErrorSample> errors = {}, bool sweep = true) {
  return RegisterSamples(op, [=] {
    FamilyOptions options;
    options.kinks = kinks;
    // The derivatives of gelu, silu and mish pass through 0, where their terms cancel.
    options.gradient_tolerance32 = 1e-4;
    OpSamples s = testing::unary_samples(op, f, reference, {-3, 3}, options);
    if (!sweep) s.sized = nullptr;
    s.errors.insert(s.errors.end(), errors.begin(), errors.end());
    return s;
  });
}

template <class F>
std::vector<testing::ErrorSample> value_error(F f, std::string message) {
  return {error_sample<ValueError>("bad parameter", {testing::scalar(1)}, f, std::move(message))};
}

const RegisterSamples kRelu = activation(
    "relu", [](const Tensor& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); },
    {0});
const RegisterSamples kLeakyRelu = activation(
    "leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.1); },
    [](double x) { return x > 0 ? x : 0.1 * x; }, {0});
const RegisterSamples kElu = activation(
    "elu", [](const Tensor& x) { return elu(x, 1.3); },
    [](double x) { return x > 0 ? x : 1.3 * std::expm1(x); }, {0});
const RegisterSamples kCelu = activation(
    "celu", [](const Tensor& x) { return celu(x, 1.3); },
    [](double x) { return x > 0 ? x : 1.3 * std::expm1(x / 1.3); }, {0},
    value_error([](const Tensor& x) { return celu(x, 0); }, "celu: alpha is 0"));
const RegisterSamples kRelu6 = activation(
    "relu6", [](const Tensor& x) { return relu6(x * 3); },
    [](double x) { return std::clamp(3 * x, 0.0, 6.0); }, {0, 2});
const RegisterSamples kThreshold = activation(
    "threshold", [](const Tensor& x) { return threshold(x, 0.5, -2); },
    [](double x) { return x > 0.5 ? x : -2; }, {0.5});
const RegisterSamples kHardsigmoid = activation(
    "hardsigmoid", [](const Tensor& x) { return hardsigmoid(x * 2); },
    [](double x) { return std::clamp((2 * x + 3) / 6, 0.0, 1.0); }, {-1.5, 1.5});
const RegisterSamples kHardswish = activation(
    "hardswish", [](const Tensor& x) { return hardswish(x * 2); },
    [](double x) { return 2 * x * std::clamp((2 * x + 3) / 6, 0.0, 1.0); }, {-1.5, 1.5});
const RegisterSamples kSelu = activation(
    "selu", [](const Tensor& x) { return selu(x); },
    [](double x) { return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * std::expm1(x)); },
    {0});
const RegisterSamples kGelu = activation(
    "gelu", [](const Tensor& x) { return gelu(x); },
    [](double x) { return x * 0.5 * std::erfc(-x / std::numbers::sqrt2); });
const RegisterSamples kGeluTanh = activation(
    "gelu_tanh", [](const Tensor& x) { return gelu(x, GeluForm::kTanh); },
    [](double x) {
      const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return 0.5 * x * (1 + std::tanh(u));
    });
const RegisterSamples kSilu = activation(
    "silu", [](const Tensor& x) { return silu(x); }, [](double x) { return x * logistic(x); });
const RegisterSamples kMish = activation(
    "mish", [](const Tensor& x) { return mish(x); },
    [](double x) { return x * std::tanh(soft_plus(x)); });
const RegisterSamples kSigmoid = activation(
    "sigmoid", [](const Tensor& x) { return sigmoid(x); }, logistic);
const RegisterSamples kLogSigmoid = activation(
    "logsigmoid", [](const Tensor& x) { return logsigmoid(x); },
    [](double x) { return -soft_plus(-x); });
const RegisterSamples kSoftplus = activation(
    "softplus", [](const Tensor& x) { return softplus(x); }, soft_plus, {},
    value_error([](const Tensor& x) { return softplus(x, 0); }, "softplus: beta is 0"));
const RegisterSamples kSoftplusBeta = activation(
    "softplus", [](const Tensor& x) { return softplus(x, 2, 1); },
    [](double x) { return 2 * x > 1 ? x : soft_plus(2 * x) / 2; }, {0.5}, {}, false);
const RegisterSamples kHardtanh = activation(
    "hardtanh", [](const Tensor& x) { return hardtanh(x, -1, 2); },
    [](double x) { return std::clamp(x, -1.0, 2.0); }, {-1, 2},
    value_error([](const Tensor& x) { return hardtanh(x, 2, 1); },
                "hardtanh: low is 2, high is 1"));
const RegisterSamples kClamp = activation(
    "clamp", [](const Tensor& x) { return clamp(x, -1, 2); },
    [](double x) { return std::clamp(x, -1.0, 2.0); }, {-1, 2},
    value_error([](const Tensor& x) { return clamp(x, 2, 1); }, "clamp: low is 2, high is 1"));
const RegisterSamples kClampBelow = activation(
    "clamp", [](const Tensor& x) { return clamp(x, -1, INFINITY); },
    [](double x) { return std::max(x, -1.0); }, {-1}, {}, false);
const RegisterSamples kSoftsign = activation(
    "softsign", [](const Tensor& x) { return softsign(x); },
    [](double x) { return x / (1 + std::abs(x)); }, {0});
const RegisterSamples kSoftshrink = activation(
    "softshrink", [](const Tensor& x) { return softshrink(x, 0.7); },
    [](double x) { return x > 0.7    ? x - 0.7
                          : x < -0.7 ? x + 0.7
                                     : 0; }, {-0.7, 0.7},
    value_error([](const Tensor& x) { return softshrink(x, -1); }, "softshrink: lambda is -1"));
const RegisterSamples kHardshrink = activation(
    "hardshrink", [](const Tensor& x) { return hardshrink(x, 0.7); },
    [](double x) { return std::abs(x) > 0.7 ? x : 0; }, {-0.7, 0.7},
    value_error([](const Tensor& x) { return hardshrink(x, -1); }, "hardshrink: lambda is -1"));

// Gradients at kinks and bounds, as the header promises.
TEST(Activation, GradientsAtKinks) {
  const auto slope = [](auto f, double at) {
    const Tensor x = variable(testing::scalar(at));
    return grad(f(x), x).item();
  };
  EXPECT_EQ(slope([](const Tensor& x) { return relu(x); }, 0), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return leaky_relu(x, 0.1); }, 0), 0.1);
  EXPECT_EQ(slope([](const Tensor& x) { return clamp(x, -1, 2); }, 2), 1);
  EXPECT_EQ(slope([](const Tensor& x) { return clamp(x, -1, 2); }, -1), 1);
  EXPECT_EQ(slope([](const Tensor& x) { return hardtanh(x, -1, 2); }, 2), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return elu(x, 1.5); }, 0), 1.5);
  EXPECT_EQ(slope([](const Tensor& x) { return celu(x, 1.5); }, 0), 1);
  EXPECT_EQ(slope([](const Tensor& x) { return relu6(x); }, 6), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return threshold(x, 2, 1); }, 2), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return hardsigmoid(x); }, 3), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return hardswish(x); }, -3), 0);
  EXPECT_EQ(slope([](const Tensor& x) { return hardswish(x); }, 3), 1);
}

TEST(Activation, TanhshrinkIsTheDifference) {
  const Tensor x = testing::normal({7});
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(tanhshrink(x)[i].item(), x[i].item() - std::tanh(x[i].item()), 1e-15);
  }
}

TEST(Activation, FarOut) {
  const Tensor x = testing::tensor({2}, {-1000, 1000});
  EXPECT_EQ(sigmoid(x).to_vector<double>(), (std::vector<double>{0, 1}));
  EXPECT_EQ(logsigmoid(x).to_vector<double>(), (std::vector<double>{-1000, 0}));
  EXPECT_EQ(softplus(x).to_vector<double>(), (std::vector<double>{0, 1000}));
  const Tensor v = variable(x);
  const auto g = grad(elu(v).sum(), v, {.create_graph = true});
  EXPECT_EQ(g.to_vector<double>(), (std::vector<double>{0, 1}));
}

}  // namespace
}  // namespace ebb
