// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/core/random.h"
#include "ebb/nn/io/safetensors.h"
#include "ebb/nn/module.h"
#include "ebb/nn/optim/optim.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/loss.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/unary.h"
#include "ebb/tests/nn/temp_dir.h"

// What the tests of architectures ask of each.
namespace ebb::nn::models {

inline int64_t count(const Module& m) {
  int64_t n = 0;
  for (const Parameter& p : m.parameters()) n += p.numel();
  return n;
}

/// Of parameters and buffers.
inline std::vector<std::string> names(const Module& m) {
  std::vector<std::string> result;
  for (const auto& [name, p] : m.named_parameters()) result.push_back(name);
  for (const auto& [name, b] : m.named_buffers()) result.push_back(name);
  return result;
}

/// After a backward pass, every parameter has a gradient that is not 0 all over.
inline void expect_gradients_everywhere(const Module& net) {
  for (const auto& [name, p] : net.named_parameters()) {
    ASSERT_TRUE(p.grad().defined()) << name;
    EXPECT_GT(abs(p.grad()).max().item(), 0) << name;
  }
}

/// The same from a loss on one sample.
inline void expect_trains(const Layer& net, const Tensor& x, int64_t label) {
  net.zero_grad();
  cross_entropy(net(x), label).backward();
  expect_gradients_everywhere(net);
}

/// Derivatives of f() along a random direction of all parameters, of first and second order,
/// against differences. Networks with rectifiers have kinks, so the steps are tiny, and it is for
/// float64 alone.
template <class F>
void expect_right_gradients(const Module& net, F&& f) {
  const std::vector<Parameter> parameters = net.parameters();
  Generator generator(11);
  std::vector<Tensor> origin;
  std::vector<Tensor> direction;
  for (const Parameter& p : parameters) {
    ASSERT_EQ(p.dtype(), kFloat64);
    origin.push_back(p.tensor().detach() + 0.0);  // a copy
    direction.push_back(randn(p.shape(), {.dtype = kFloat64}, generator));
  }
  // f and its derivative along the direction, `step` along it.
  auto at = [&](double step) {
    std::vector<Tensor> leaves;
    for (size_t i = 0; i < parameters.size(); ++i) {
      parameters[i].copy_from(origin[i] + step * direction[i]);
      leaves.push_back(parameters[i].tensor());
    }
    const Tensor value = f();
    const std::vector<Tensor> slopes = grad({&value, 1}, leaves, {.create_graph = true});
    Tensor along = zeros({}, {.dtype = kFloat64});
    for (size_t i = 0; i < slopes.size(); ++i) along = along + (slopes[i] * direction[i]).sum();
    double second = 0;
    const std::vector<Tensor> curvatures = grad({&along, 1}, leaves, {.allow_unused = true});
    for (size_t i = 0; i < slopes.size(); ++i) {
      if (curvatures[i].defined()) second += (curvatures[i] * direction[i]).sum().item();
    }
    return std::vector<double>{value.item(), along.item(), second};
  };
  const double h = 1e-7;
  const std::vector<double> here = at(0);
  const std::vector<double> ahead = at(h);
  const std::vector<double> behind = at(-h);
  at(0);
  for (size_t order = 1; order <= 2; ++order) {
    const double difference = (ahead[order - 1] - behind[order - 1]) / (2 * h);
    EXPECT_NEAR(here[order], difference, 1e-4 * std::abs(difference) + 1e-6) << order;
  }
  EXPECT_NE(here[2], 0);
}

/// The loss falls to a tenth on a few samples, shown one at a time.
template <class Net>
void expect_learns(const Net& net, const std::vector<Tensor>& samples, double lr, int epochs) {
  auto loss = [&] {
    double sum = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      sum += cross_entropy(net(samples[i]), static_cast<int64_t>(i)).item();
    }
    return sum;
  };
  optim::Adam adam(net.parameters(), {.lr = lr});
  const double before = loss();
  for (int epoch = 0; epoch < epochs; ++epoch) {
    for (size_t i = 0; i < samples.size(); ++i) {
      adam.zero_grad();
      cross_entropy(net(samples[i]), static_cast<int64_t>(i)).backward();
      adam.step();
    }
  }
  EXPECT_LT(loss(), 0.1 * before);
}

/// A clone, and a network like it after loading what `net` saved, compute what `net` does.
template <class Net>
void expect_copies(Net& net, Net& other, const Tensor& x) {
  net.eval();
  other.eval();
  const std::vector<float> expected = net(x).template to_vector<float>();
  const auto copy = net.clone();
  EXPECT_EQ(static_cast<const Net&>(*copy)(x).template to_vector<float>(), expected);
  EXPECT_NE(other(x).template to_vector<float>(), expected);
  const ebb::testing::TempDir dir;
  io::save(net, dir.file("net.safetensors"));
  io::load(other, dir.file("net.safetensors"));
  EXPECT_EQ(other(x).template to_vector<float>(), expected);
}

}  // namespace ebb::nn::models
