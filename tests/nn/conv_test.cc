// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

using testing::normal;

std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

void expect_close(const Tensor& a, const Tensor& b, double tolerance = 1e-12) {
  ASSERT_EQ(a.shape(), b.shape());
  const auto x = doubles(a);
  const auto y = doubles(b);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance) << i;
}

TEST(ConvLayer, IsTheFunctionOfItsParameters) {
  nn::Conv2d layer(4, 6, {3, 2}, {.stride = {2, 1}, .padding = {1, 0}, .groups = 2});
  layer.to(kFloat64);
  EXPECT_EQ(layer.weight.shape(), (Shape{6, 2, 3, 2}));
  EXPECT_EQ(layer.bias.shape(), (Shape{6}));
  for (const Shape& shape : {Shape{4, 5, 7}, Shape{3, 4, 5, 7}}) {
    const Tensor x = normal(shape);
    expect_close(layer(x), conv2d(x, layer.weight, layer.bias,
                                  {.stride = {2, 1}, .padding = {1, 0}, .groups = 2}));
  }
  EXPECT_THROW(layer(normal({3, 5, 7})), ShapeError);
  nn::Conv1d line(2, 3, 5, {.dilation = 2, .bias = false});
  EXPECT_FALSE(line.bias.defined());
  EXPECT_EQ(line(randn({2, 20})).shape(), (Shape{3, 12}));
  EXPECT_EQ(nn::Conv3d(2, 3, 3, {.padding = kSame})(randn({2, 4, 5, 6})).shape(),
            (Shape{3, 4, 5, 6}));
}

TEST(ConvLayer, PadsWithWhatItsModeSays) {
  struct Padded {
    PadMode mode;
    Padding<2> padding;
    std::vector<int64_t> pads;
  };
  for (const Padded& p : {Padded{PadMode::kReflect, {1, 2}, {2, 2, 1, 1}},
                          Padded{PadMode::kReplicate, 2, {2, 2, 2, 2}},
                          Padded{PadMode::kCircular, {2, 1}, {1, 1, 2, 2}},
                          Padded{PadMode::kCircular, kSame, {1, 2, 1, 1}},
                          Padded{PadMode::kReflect, kSame, {1, 2, 1, 1}}}) {
    nn::Conv2d layer(2, 3, {3, 4}, {.padding = p.padding, .padding_mode = p.mode});
    layer.to(kFloat64);
    for (const Shape& shape : {Shape{2, 5, 6}, Shape{2, 2, 5, 6}}) {
      const Tensor x = normal(shape);
      expect_close(layer(x), conv2d(pad(x, p.pads, p.mode), layer.weight, layer.bias));
    }
    if (p.padding.is_same()) {
      EXPECT_EQ(layer(normal({2, 5, 6})).shape(), (Shape{3, 5, 6}));
    }
  }
}

TEST(ConvLayer, StartsAsPyTorchDoes) {
  manual_seed(3);
  const nn::Conv2d layer(4, 200, 5, {.groups = 2});
  const double bound = 1 / std::sqrt(2.0 * 25);
  double largest = 0;
  double squares = 0;
  for (const double w : doubles(layer.weight)) {
    largest = std::max(largest, std::abs(w));
    squares += w * w;
  }
  EXPECT_LE(largest, bound);
  EXPECT_GT(largest, 0.99 * bound);
  EXPECT_NEAR(squares / static_cast<double>(layer.weight.numel()), bound * bound / 3,
              0.05 * bound * bound);
  for (const double b : doubles(layer.bias)) EXPECT_LE(std::abs(b), bound);
  const nn::ConvTranspose2d up(64, 4, 3, {.groups = 2});
  EXPECT_EQ(up.weight.shape(), (Shape{64, 2, 3, 3}));
  for (const double w : doubles(up.weight)) EXPECT_LE(std::abs(w), 1 / std::sqrt(2.0 * 9));
}

TEST(ConvLayer, DrawsAnewWhenAsked) {
  nn::Conv1d layer(2, 3, 3);
  const auto before = doubles(layer.weight);
  layer.reset_parameters();
  EXPECT_NE(doubles(layer.weight), before);
}

TEST(ConvLayer, IsNamedAndClonedWithItsOptions) {
  struct Net : nn::Module {
    nn::Conv2d c1{*this, "c1", 1, 6, 5, {.padding = 2}};
    nn::MaxPool2d pool{*this, "pool", 2};
    nn::ConvTranspose2d up{*this, "up", 6, 2, 2, {.stride = 2}};
    Tensor operator()(const Tensor& x) { return up(pool(relu(c1(x)))); }
  } net;
  std::vector<std::string> names;
  for (const auto& [name, p] : net.named_parameters()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"c1.weight", "c1.bias", "up.weight", "up.bias"}));
  EXPECT_EQ(net(randn({1, 28, 28})).shape(), (Shape{2, 28, 28}));
  const Tensor x = randn({1, 9, 9});
  const auto copy = net.c1.clone();
  expect_close((*dynamic_cast<nn::Conv2d*>(copy.get()))(x), net.c1(x));
  const Tensor z = randn({6, 3, 3});
  const auto up = net.up.clone();
  expect_close((*dynamic_cast<nn::ConvTranspose2d*>(up.get()))(z), net.up(z));
}

TEST(ConvLayer, RefusesWhatCannotBe) {
  EXPECT_THROW(nn::Conv2d(0, 3, 3), ValueError);
  EXPECT_THROW(nn::Conv2d(3, 3, 0), ValueError);
  EXPECT_THROW(nn::Conv2d(3, 3, 3, {.stride = 2, .padding = kSame}), ValueError);
  EXPECT_THROW(nn::ConvTranspose1d(3, 3, 3, {.stride = -1}), ValueError);
  try {
    nn::Conv2d layer(3, 4, 5, {.groups = 2});
    FAIL();
  } catch (const ValueError& e) {
    EXPECT_NE(std::string(e.what()).find("Conv2d: 3 to 4 channels in 2 groups, kernel [5,5]"),
              std::string::npos)
        << e.what();
  }
}

TEST(ConvTransposeLayer, GivesTheSizeAskedFor) {
  nn::ConvTranspose2d up(3, 2, 3, {.stride = 2, .padding = 1});
  const Tensor x = randn({3, 4, 5});
  EXPECT_EQ(up(x).shape(), (Shape{2, 7, 9}));
  EXPECT_EQ(up(x, {8, 9}).shape(), (Shape{2, 8, 9}));
  expect_close(up(x, {8, 10}), conv_transpose2d(x, up.weight, up.bias,
                                                {.stride = 2, .padding = 1, .output_padding = 1}));
  EXPECT_THROW(up(x, {9, 9}), ValueError);
  EXPECT_THROW(up(x, {7, 8}), ValueError);
  EXPECT_THROW(up(randn({3}), {7, 8}), ShapeError);
}

TEST(ConvTransposeLayer, UndoesTheShapeOfAConvolution) {
  nn::Conv1d down(2, 4, 4, {.stride = 3, .padding = 1, .dilation = 2});
  nn::ConvTranspose1d up(4, 2, 4, {.stride = 3, .padding = 1, .dilation = 2});
  for (int64_t n = 8; n < 20; ++n) {
    EXPECT_EQ(up(down(randn({2, n})), {n}).shape(), (Shape{2, n}));
  }
}

// One sample at a time, a few steps: the loss of a small network falls to nearly nothing.
TEST(ConvLayer, LearnsAFewPictures) {
  manual_seed(5);
  struct Net : nn::Module {
    nn::Conv2d c1{*this, "c1", 1, 4, 3, {.padding = 1}};
    nn::Conv2d c2{*this, "c2", 4, 8, 3};
    nn::Linear out{*this, "out", 8 * 2 * 2, 3};
    Tensor operator()(const Tensor& x) {
      const Tensor a = max_pool2d(relu(c1(x)), 2);
      return out(avg_pool2d(tanh(c2(a)), 2, {.stride = 1}).flatten());
    }
  } net;
  std::vector<Tensor> pictures;
  for (int i = 0; i < 3; ++i) pictures.push_back(randn({1, 10, 10}));
  optim::SGD sgd(net.parameters(), {.lr = 0.1});
  double last = 0;
  for (int epoch = 0; epoch < 60; ++epoch) {
    last = 0;
    for (int i = 0; i < 3; ++i) {
      const Tensor loss =
          cross_entropy(net(pictures[static_cast<size_t>(i)]), Tensor(Array::scalar(kInt64, i)));
      sgd.zero_grad();
      loss.backward();
      sgd.step();
      last += loss.item() / 3;
    }
  }
  EXPECT_LT(last, 0.05);
}

}  // namespace
}  // namespace ebb
