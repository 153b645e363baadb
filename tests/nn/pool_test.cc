// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/pool.h"

#include <gtest/gtest.h>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

// Layers without parameters, or with a kernel at each place: each is its function.
namespace ebb {
namespace {

using testing::normal;

std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

// The layer, alone, as a part of a module, and copied, gives `want`.
template <class L, class... Args>
void expect_layer(const Tensor& x, const Tensor& want, const Args&... args) {
  const L layer(args...);
  EXPECT_EQ(layer(x).shape(), want.shape());
  EXPECT_EQ(doubles(layer(x)), doubles(want));
  nn::Module parent;
  const L part(parent, "part", args...);
  EXPECT_EQ(doubles(part(x)), doubles(want));
  const auto copy = layer.clone();
  EXPECT_EQ(doubles((*dynamic_cast<L*>(copy.get()))(x)), doubles(want));
}

TEST(PoolLayers, AreTheirFunctions) {
  const Tensor line = testing::distinct({2, 9});
  const Tensor image = testing::distinct({2, 7, 6});
  const Tensor images = testing::distinct({2, 2, 7, 6});
  const Tensor volume = testing::distinct({2, 4, 5, 4});
  expect_layer<nn::MaxPool1d>(line, max_pool1d(line, 3), PerAxis<1>(3));
  expect_layer<nn::MaxPool2d>(images, max_pool2d(images, {2, 3}, {.stride = 1}), PerAxis<2>{2, 3},
                              MaxPoolOptions<2>{.stride = 1});
  expect_layer<nn::MaxPool3d>(volume, max_pool3d(volume, 2), PerAxis<3>(2));
  expect_layer<nn::AvgPool1d>(line, avg_pool1d(line, 3), PerAxis<1>(3));
  expect_layer<nn::AvgPool2d>(image, avg_pool2d(image, 3, {.padding = 1}), PerAxis<2>(3),
                              AvgPoolOptions<2>{.padding = 1});
  expect_layer<nn::AvgPool3d>(volume, avg_pool3d(volume, 2), PerAxis<3>(2));
  expect_layer<nn::LPPool1d>(line, lp_pool1d(line, 2, 3), 2.0, PerAxis<1>(3));
  expect_layer<nn::LPPool2d>(image, lp_pool2d(image, 2, 3), 2.0, PerAxis<2>(3));
  expect_layer<nn::LPPool3d>(volume, lp_pool3d(volume, 2, 2), 2.0, PerAxis<3>(2));
  expect_layer<nn::AdaptiveAvgPool1d>(line, adaptive_avg_pool1d(line, 4), PerAxis<1>(4));
  expect_layer<nn::AdaptiveAvgPool2d>(image, adaptive_avg_pool2d(image, {0, 2}), PerAxis<2>{0, 2});
  expect_layer<nn::AdaptiveAvgPool3d>(volume, adaptive_avg_pool3d(volume, 1), PerAxis<3>(1));
  expect_layer<nn::AdaptiveMaxPool1d>(line, adaptive_max_pool1d(line, 4).values, PerAxis<1>(4));
  expect_layer<nn::AdaptiveMaxPool2d>(image, adaptive_max_pool2d(image, 3).values, PerAxis<2>(3));
  expect_layer<nn::AdaptiveMaxPool3d>(volume, adaptive_max_pool3d(volume, 2).values, PerAxis<3>(2));
}

TEST(PoolLayers, UnpoolWhatWasPooled) {
  const Tensor x = testing::distinct({2, 2, 7, 6});
  const nn::MaxPool2d pool(2);
  const nn::MaxUnpool2d unpool(2);
  const auto [y, indices] = pool.with_indices(x);
  EXPECT_EQ(doubles(y), doubles(pool(x)));
  EXPECT_EQ(unpool(y, indices).shape(), (Shape{2, 2, 6, 6}));
  const Tensor back = unpool(y, indices, {7, 6});
  EXPECT_EQ(doubles(back), doubles(max_unpool2d(y, indices, 2, {.output_size = {7, 6}})));
  const auto copy = unpool.clone();
  EXPECT_EQ(doubles((*dynamic_cast<nn::MaxUnpool2d*>(copy.get()))(y, indices, {7, 6})),
            doubles(back));
}

TEST(PoolLayers, FractionalDrawsAtEachCall) {
  const Tensor x = testing::distinct({1, 30, 30});
  manual_seed(3);
  const nn::FractionalMaxPool2d pool(2, {.output_ratio = 0.7});
  const Tensor first = pool(x);
  EXPECT_EQ(first.shape(), (Shape{1, 21, 21}));
  EXPECT_NE(doubles(first), doubles(pool(x)));
  manual_seed(3);
  EXPECT_EQ(doubles(first), doubles(pool(x)));
  EXPECT_EQ(nn::FractionalMaxPool2d(2, {.output_size = {9, 11}})(x).shape(), (Shape{1, 9, 11}));
  EXPECT_THROW(nn::FractionalMaxPool2d(2, {}), ValueError);
  EXPECT_THROW(nn::FractionalMaxPool2d(2, {.output_ratio = 1}), ValueError);
  EXPECT_THROW(nn::FractionalMaxPool2d(2, {.output_size = 3, .output_ratio = 0.5}), ValueError);
}

TEST(SizeLayers, AreTheirFunctions) {
  const Tensor x = normal({4, 4, 6});
  const InterpolateOptions twice{.scale_factor = {2}, .mode = InterpolateMode::kBilinear};
  expect_layer<nn::Upsample>(x, interpolate(x, twice), twice);
  expect_layer<nn::PixelShuffle>(x, pixel_shuffle(x, 2), int64_t{2});
  expect_layer<nn::PixelUnshuffle>(x, pixel_unshuffle(x, 2), int64_t{2});
  const UnfoldOptions o{.padding = 1, .stride = 2};
  const Tensor columns = unfold(x, {3, 2}, o);
  expect_layer<nn::Unfold>(x, columns, PerAxis<2>{3, 2}, o);
  expect_layer<nn::Fold>(columns, fold(columns, {4, 6}, {3, 2}, o), PerAxis<2>{4, 6},
                         PerAxis<2>{3, 2}, o);
}

TEST(LocallyConnectedLayer, HasAKernelAtEachPlace) {
  nn::LocallyConnected2d layer(2, 3, {6, 5}, {3, 2}, {.stride = {2, 1}, .padding = {1, 0}});
  EXPECT_EQ(layer.weight.shape(), (Shape{3, 4, 3, 2, 3, 2}));
  EXPECT_EQ(layer.bias.shape(), (Shape{3, 3, 4}));
  const Tensor x = randn({2, 6, 5});
  const Tensor y = layer(x);
  EXPECT_EQ(y.shape(), (Shape{3, 3, 4}));
  const auto copy = layer.clone();
  EXPECT_EQ(doubles((*dynamic_cast<nn::LocallyConnected2d*>(copy.get()))(x)), doubles(y));
  EXPECT_EQ(layer(randn({7, 2, 6, 5})).shape(), (Shape{7, 3, 3, 4}));
  EXPECT_THROW(layer(randn({2, 7, 5})), ShapeError);
  const double bound = 1 / std::sqrt(12.0);
  for (const double w : doubles(layer.weight)) EXPECT_LE(std::abs(w), bound);

  nn::Module parent;
  nn::LocallyConnected1d line(parent, "line", 2, 3, 9, 3, {.bias = false});
  EXPECT_EQ(line.weight.shape(), (Shape{7, 3, 2, 3}));
  EXPECT_EQ(parent.named_parameters().size(), 1u);
  EXPECT_EQ(line(randn({2, 9})).shape(), (Shape{3, 7}));
  EXPECT_THROW(nn::LocallyConnected1d(2, 3, 2, 5), ValueError);
  EXPECT_THROW(nn::LocallyConnected2d(2, 3, 9, 3, {.stride = 0}), ValueError);
  EXPECT_THROW(nn::LocallyConnected2d(0, 3, 9, 3), ValueError);
}

}  // namespace
}  // namespace ebb
