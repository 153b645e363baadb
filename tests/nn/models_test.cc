// SPDX-License-Identifier: Apache-2.0
// Architectures: sizes, names and shapes as published, and that gradients reach every parameter.
#include "ebb/nn/models/lenet.h"
#include "ebb/nn/models/resnet.h"
#include "ebb/nn/models/unet.h"
#include "ebb/ops/index.h"
#include "ebb/tests/nn/models_testing.h"

namespace ebb::nn::models {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSubsetOf;

TEST(LeNet5, HasThePapersSizes) {
  const LeNet5 net;
  EXPECT_EQ(count(net), 61706);
  EXPECT_THAT(names(net),
              ElementsAre("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight",
                          "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"));
  EXPECT_EQ(net(randn({1, 28, 28})).shape(), Shape({10}));
  EXPECT_EQ(net(randn({3, 1, 28, 28})).shape(), Shape({3, 10}));
  expect_trains(net, randn({1, 28, 28}), 3);
  const LeNet5 large({.in_channels = 3, .num_classes = 7, .padding = 0});
  EXPECT_EQ(large(randn({3, 32, 32})).shape(), Shape({7}));
  EXPECT_THROW(net(randn({1, 32, 32})), ShapeError);
  EXPECT_THROW(LeNet5({.num_classes = 0}), ValueError);
}

TEST(LeNet5, ABatchIsItsImagesOneByOne) {
  const LeNet5 net;
  const Tensor x = randn({2, 1, 28, 28});
  const Tensor all = net(x);
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_LT(abs(all[i] - net(x[i])).max().item(), 1e-5);
  }
}

TEST(LeNet5, ACopyComputesTheSame) {
  const LeNet5 net;
  const auto copy = net.clone();
  const Tensor x = randn({1, 28, 28});
  EXPECT_EQ(net(x).to_vector<float>(), static_cast<const LeNet5&>(*copy)(x).to_vector<float>());
}

TEST(ResNet, Resnet20HasThePapersSize) {
  const ResNet net(resnet_small(3));
  EXPECT_EQ(count(net), 269722);  // 0.27 million in the paper's table
  EXPECT_EQ(net(randn({3, 32, 32})).shape(), Shape({10}));
  const ResNet net56(resnet_small(9));
  EXPECT_EQ(count(net56), 853018);  // 0.85 million
  EXPECT_THROW(ResNet(resnet_small(0)), ValueError);
}

TEST(ResNet, Resnet18HasThePublishedNamesAndSize) {
  const ResNet net(resnet18());
  EXPECT_EQ(count(net), 11689512);
  EXPECT_THAT(
      (std::vector<std::string>{
          "conv1.weight", "bn1.weight", "bn1.running_mean", "bn1.num_batches_tracked",
          "layer1.0.conv1.weight", "layer1.1.bn2.running_var", "layer2.0.downsample.0.weight",
          "layer2.0.downsample.1.bias", "layer4.1.conv2.weight", "fc.weight", "fc.bias"}),
      IsSubsetOf(names(net)));
  EXPECT_EQ(names(net).size(), 122u);
}

TEST(ResNet, BottlenecksGiveFourTimesTheChannels) {
  ResNetOptions options = resnet50(5);
  options.width = 8;
  const ResNet net(options);
  const std::vector<Tensor> stages = net.stages(randn({3, 64, 64}));
  ASSERT_EQ(stages.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(stages[i].shape(), Shape({32 << i, 16 >> i, 16 >> i}));
    EXPECT_EQ(net.channels(i), 32 << i);
  }
  EXPECT_THAT(names(net), Contains("layer1.0.downsample.0.weight"));
  EXPECT_THAT(names(net), Contains("layer3.5.conv3.weight"));
}

TEST(ResNet, TrainsOnOneImageWithEitherNorm) {
  for (const auto kind : {Normalization::Kind::kBatch, Normalization::Kind::kGroup}) {
    ResNetOptions options = resnet_small(1, 1, 4);
    options.norm.kind = kind;
    const ResNet net(options);
    const Tensor image = randn({1, 16, 16});
    expect_trains(net, image, 2);
    optim::SGD sgd(net.parameters(), {.lr = 0.05});
    const double before = cross_entropy(net(image), 2).item();
    for (int i = 0; i < 10; ++i) {
      const Tensor loss = cross_entropy(net(image), 2);
      sgd.zero_grad();
      loss.backward();
      sgd.step();
    }
    EXPECT_LT(cross_entropy(net(image), 2).item(), 0.5 * before);
  }
}

TEST(ResNet, GroupsAreChecked) {
  ResNetOptions options = resnet_small(1);
  options.norm = {.kind = Normalization::Kind::kGroup, .groups = 0};
  EXPECT_THROW(ResNet{options}, ValueError);
}

TEST(ResNet, BlocksThatStartAsTheIdentity) {
  ResNetOptions options = resnet_small(2, 1, 4);
  options.zero_init_residual = true;
  options.norm.kind = Normalization::Kind::kGroup;
  const ResNet net(options);
  // With identity shortcuts, blocks of the first stage do nothing to what is not negative.
  const std::vector<Tensor> stages = net.stages(randn({1, 8, 8}));
  const Tensor first = stages[0];
  const Tensor second = stages[1];
  for (int64_t c = 0; c < 16; ++c) {
    EXPECT_EQ(second[c + 8].to_vector<float>(),
              slice(slice(first[c], 0, 0, 8, 2), 1, 0, 8, 2).to_vector<float>());
  }
}

TEST(UNet, HasThePublishedNamesAndSize) {
  const UNet net;
  EXPECT_EQ(count(net), 7763041);
  EXPECT_THAT(
      (std::vector<std::string>{"encoder1.enc1conv1.weight", "encoder4.enc4norm2.bias",
                                "bottleneck.bottleneckconv2.weight", "upconv4.bias",
                                "decoder3.dec3norm1.running_mean", "conv.weight", "conv.bias"}),
      IsSubsetOf(names(net)));
}

TEST(UNet, ScoresEachPixelAndTrains) {
  UNetOptions options{.in_channels = 2, .num_classes = 3, .width = 4, .depth = 2};
  options.norm.kind = Normalization::Kind::kGroup;
  options.norm.groups = 2;
  const UNet net(options);
  EXPECT_EQ(net(randn({2, 8, 12})).shape(), Shape({3, 8, 12}));
  EXPECT_EQ(net(randn({2, 2, 8, 12})).shape(), Shape({2, 3, 8, 12}));
  EXPECT_THROW(net(randn({2, 8, 10})), ShapeError);
  EXPECT_THROW(net(randn({8, 8})), ShapeError);
  EXPECT_THROW(UNet({.depth = 0}), ValueError);
  square(net(randn({2, 8, 8}))).sum().backward();
  for (const auto& [name, p] : net.named_parameters()) {
    EXPECT_GT(abs(p.grad()).max().item(), 0) << name;
  }
  const Tensor x = randn({2, 8, 8});
  const auto copy = net.clone();
  EXPECT_EQ(net(x).to_vector<float>(), static_cast<const UNet&>(*copy)(x).to_vector<float>());
}

}  // namespace
}  // namespace ebb::nn::models
