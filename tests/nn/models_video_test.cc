// SPDX-License-Identifier: Apache-2.0
// VideoResNet: sizes, names and shapes as published, gradients, learning, copies.
#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/nn/models/video_resnet.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/tests/nn/models_testing.h"

namespace ebb::nn::models {
namespace {

using ::testing::ElementsAreArray;

TEST(VideoResNet, HasThePublishedSizes) {
  EXPECT_EQ(count(VideoResNet(r3d_18())), 33371472);
  EXPECT_EQ(count(VideoResNet(mc3_18())), 11695440);
  EXPECT_EQ(count(VideoResNet(r2plus1d_18())), 31505325);
}

// Names of a network of four stages of two blocks: `convolution` is what is added to the place of a
// convolution, and the place of its norm, in each of the parts of a block.
struct Part {
  std::string convolution;
  std::string norm;
};

std::vector<std::string> published_names(const std::vector<Part>& stem,
                                         const std::vector<Part>& in_block) {
  std::vector<std::string> parameters;
  std::vector<std::string> buffers;
  auto pair = [&](const std::string& prefix, const Part& part) {
    parameters.push_back(prefix + part.convolution + ".weight");
    parameters.push_back(prefix + part.norm + ".weight");
    parameters.push_back(prefix + part.norm + ".bias");
    for (const char* b : {".running_mean", ".running_var", ".num_batches_tracked"}) {
      buffers.push_back(prefix + part.norm + b);
    }
  };
  for (const Part& part : stem) pair("stem.", part);
  for (int layer = 1; layer <= 4; ++layer) {
    for (int block = 0; block < 2; ++block) {
      const std::string prefix = absl::StrCat("layer", layer, ".", block, ".");
      for (const char* conv : {"conv1.", "conv2."}) {
        for (const Part& part : in_block) pair(prefix + conv, part);
      }
      if (layer > 1 && block == 0) pair(prefix + "downsample.", {"0", "1"});
    }
  }
  parameters.push_back("fc.weight");
  parameters.push_back("fc.bias");
  parameters.insert(parameters.end(), buffers.begin(), buffers.end());
  return parameters;
}

TEST(VideoResNet, HasThePublishedNames) {
  for (VideoResNetOptions options : {r3d_18(), mc3_18()}) {
    options.width = 4;
    EXPECT_THAT(names(VideoResNet(options)),
                ElementsAreArray(published_names({{"0", "1"}}, {{"0", "1"}})));
  }
  VideoResNetOptions options = r2plus1d_18();
  options.width = 4;
  EXPECT_THAT(
      names(VideoResNet(options)),
      ElementsAreArray(published_names({{"0", "1"}, {"3", "4"}}, {{"0.0", "0.1"}, {"0.3", "1"}})));
}

TEST(VideoResNet, StagesHalveSpaceAndTime) {
  const Tensor x = randn({3, 8, 32, 48});
  for (VideoResNetOptions options : {r3d_18(5), mc3_18(5), r2plus1d_18(5)}) {
    options.width = 4;
    options.norm.kind = Normalization::Kind::kGroup;
    const bool frames_stay = options.stages[1].convolution == VideoConvolution::kSpatial;
    const VideoResNet net(options);
    const std::vector<Tensor> stages = net.stages(x);
    ASSERT_EQ(stages.size(), 4u);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(stages[static_cast<size_t>(i)].shape(),
                Shape({4 << i, frames_stay ? 8 : 8 >> i, 16 >> i, 24 >> i}));
    }
    EXPECT_EQ(net(x).shape(), Shape({5}));
    const Tensor all = net(stack({x, 2 * x}, 0));
    EXPECT_EQ(all.shape(), Shape({2, 5}));
    EXPECT_LT(abs(all[1] - net(2 * x)).max().item(), 1e-5);
    EXPECT_THROW(net(randn({1, 8, 32, 32})), ShapeError);
    EXPECT_THROW(net(randn({3, 32, 32})), ShapeError);
  }
}

TEST(VideoResNet, ChecksItsOptions) {
  VideoResNetOptions options;
  options.stages = {};
  EXPECT_THROW(VideoResNet{options}, ValueError);
  options.stages = {{VideoConvolution::kSpatial, 0}};
  EXPECT_THROW(VideoResNet{options}, ValueError);
  options.stages = {{VideoConvolution::kSpatial, 1}};
  options.width = 0;
  EXPECT_THROW(VideoResNet{options}, ValueError);
  EXPECT_THROW(VideoResNet({.width = 4, .num_classes = 0}), ValueError);
}

TEST(VideoResNet, LearnsAndIsCopied) {
  for (const VideoConvolution kind : {VideoConvolution::kSpatiotemporal, VideoConvolution::kSpatial,
                                      VideoConvolution::kFactored}) {
    SCOPED_TRACE(static_cast<int>(kind));
    default_generator() = Generator(6);
    VideoResNetOptions options{.stages = {{kind, 1}, {kind, 1}},
                               .factored_stem = kind == VideoConvolution::kFactored,
                               .width = 4,
                               .in_channels = 1,
                               .num_classes = 3};
    options.norm = {.kind = Normalization::Kind::kGroup, .groups = 2};
    // Before it has learned: the values are the same on every machine, and far from where the
    // rectifiers turn.
    VideoResNet exact(options);
    exact.to(kFloat64);
    const Tensor x = randn({1, 4, 8, 8}, {.dtype = kFloat64});
    expect_right_gradients(exact, [&] { return square(exact(x)).sum(); });

    VideoResNet net(options);
    const std::vector<Tensor> samples = {randn({1, 4, 8, 8}), randn({1, 4, 8, 8}),
                                         randn({1, 4, 8, 8})};
    expect_trains(net, samples[0], 1);
    expect_learns(net, samples, 0.005, 100);
    VideoResNet other(options);
    expect_copies(net, other, samples[1]);
  }
}

TEST(FrozenBatchNorm, ComputesWhatABatchNormDoesInEvaluation) {
  BatchNorm2d batch(3);
  for (int i = 0; i < 5; ++i) batch(3 * randn({3, 4, 5}) + 1);
  init::uniform_(batch.weight, 0.5, 2);
  init::uniform_(batch.bias, -1, 1);
  batch.eval();
  FrozenBatchNorm frozen(3);
  EXPECT_TRUE(frozen.parameters().empty());
  StateDict state = batch.state_dict();
  state.erase("num_batches_tracked");
  frozen.load_state_dict(state);
  const Tensor x = randn({3, 4, 5});
  EXPECT_LT(abs(frozen(x) - batch(x)).max().item(), 1e-6);
  EXPECT_LT(abs(frozen(stack({x, x}, 0))[1] - batch(x)).max().item(), 1e-6);
  EXPECT_EQ(frozen.clone()->state_dict().size(), 4u);
  EXPECT_THROW(frozen(randn({4, 5})), ShapeError);
  EXPECT_THROW(frozen(randn({2, 4, 5})), ShapeError);
  EXPECT_THROW(FrozenBatchNorm(0), ValueError);
}

}  // namespace
}  // namespace ebb::nn::models
