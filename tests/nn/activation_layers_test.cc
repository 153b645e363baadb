// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"
#include "ebb/tests/nn/attention_reference.h"

namespace ebb {
namespace {

using testing::doubles;

// A layer is its function, and so is its clone.
template <class L>
void expect_is(const L& layer, const Tensor& x, const Tensor& want) {
  EXPECT_EQ(doubles(layer(x)), doubles(want));
  EXPECT_EQ(doubles(static_cast<L&>(*layer.clone())(x)), doubles(want));
}

TEST(ActivationLayers, AreTheirFunctions) {
  const Tensor x = testing::normal({4, 6}) * 2.0;
  expect_is(nn::ReLU6(), x * 4.0, relu6(x * 4.0));
  expect_is(nn::Hardsigmoid(), x, hardsigmoid(x));
  expect_is(nn::Hardswish(), x, hardswish(x));
  expect_is(nn::Tanhshrink(), x, tanhshrink(x));
  expect_is(nn::CELU(0.7), x, celu(x, 0.7));
  expect_is(nn::Threshold(0.3, -1), x, threshold(x, 0.3, -1));
  expect_is(nn::Softmax(), x, softmax(x, -1));
  expect_is(nn::Softmax(0), x, softmax(x, 0));
  expect_is(nn::LogSoftmax(1), x, log_softmax(x, 1));
  expect_is(nn::Softmin(1), x, softmin(x, 1));
  expect_is(nn::Sparsemax(1), x, sparsemax(x, 1));
  expect_is(nn::Entmax15(0), x, entmax15(x, 0));
  expect_is(nn::GLU(), x, glu(x));
  expect_is(nn::ReGLU(0), x, reglu(x, 0));
  expect_is(nn::GEGLU(), x, geglu(x));
  expect_is(nn::SwiGLU(), x, swiglu(x));
  expect_is(nn::Maxout(3), x, maxout(x, 3));
}

TEST(PReLULayer, LearnsItsSlopes) {
  nn::PReLU layer(3, {.dims = 1});
  EXPECT_EQ(doubles(layer.weight), (std::vector<double>{0.25, 0.25, 0.25}));
  const Tensor x = tensor({{-1.0, 2.0}, {-3.0, -4.0}, {5.0, 6.0}});
  expect_is(layer, x, prelu(x, layer.weight, -2));
  layer(x).sum().backward();
  EXPECT_EQ(doubles(layer.weight.grad()), (std::vector<double>{-1, -7, 0}));
  EXPECT_EQ(layer.state_dict().count("weight"), 1u);
  EXPECT_THROW(nn::PReLU(0), ValueError);
  EXPECT_THROW(layer(ones({4, 2})), ShapeError);
}

TEST(RReLULayer, DrawsInTrainingOnly) {
  nn::RReLU layer(0.1, 0.3);
  const Tensor x = ones({50}) * -1.0;
  double low = 0;
  for (double v : doubles(layer(x))) low = std::min(low, v);
  EXPECT_LT(low, -0.22);
  layer.eval();
  for (double v : doubles(layer(x))) EXPECT_NEAR(v, -0.2, 1e-6);
}

TEST(DropoutLayers, DropInTrainingOnly) {
  manual_seed(2);
  const Tensor x = ones({64, 2, 2, 2});
  const auto channels = [](const Tensor& y, size_t len) {
    const auto v = doubles(y);
    size_t dropped = 0;
    for (size_t i = 0; i < v.size(); i += len) {
      for (size_t k = 0; k < len; ++k) EXPECT_EQ(v[i + k], v[i]);
      dropped += v[i] == 0;
    }
    EXPECT_GT(dropped, v.size() / len / 4);
    EXPECT_LT(dropped, v.size() / len * 3 / 4);
  };
  channels(nn::Dropout3d()(x), 8);
  channels(nn::Dropout2d()(x), 4);
  channels(nn::Dropout1d()(x), 2);
  nn::Dropout2d drop(0.5);
  drop.eval();
  EXPECT_EQ(doubles(drop(x)), doubles(x));
  nn::AlphaDropout alpha(0.2);
  EXPECT_NE(doubles(alpha(x)), doubles(x));
  alpha.eval();
  EXPECT_EQ(doubles(alpha(x)), doubles(x));
  EXPECT_THROW(nn::Dropout2d(1.5), ValueError);
  EXPECT_THROW(nn::AlphaDropout(-1), ValueError);
}

TEST(ResponseNormLayers, AreTheirFunctions) {
  const Tensor x = testing::normal({4, 5, 6}).to(kFloat32);
  expect_is(nn::LocalResponseNorm(3, {.alpha = 0.5}), x, local_response_norm(x, 3, 0.5));
  expect_is(nn::LocalContrastNorm({.radius = 2}), x, local_contrast_norm(x, 2));
  EXPECT_THROW(nn::LocalResponseNorm(0), ValueError);
  const nn::GDN layer(4);
  const Tensor want = gdn(x, ones({4}), eye(4) * 0.1);
  const auto y = doubles(layer(x));
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], doubles(want)[i], 1e-5);
  EXPECT_THROW(nn::GDN(0), ValueError);
}

// However far a step goes, what is divided by stays positive.
TEST(GDNLayer, StaysPositive) {
  nn::GDN layer(2);
  nn::init::constant_(layer.beta, -5);
  nn::init::constant_(layer.gamma, -5);
  for (double v : doubles(layer(randn({2, 3, 3})))) EXPECT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace ebb
