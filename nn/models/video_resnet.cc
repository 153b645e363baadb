// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/video_resnet.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "ebb/nn/activation.h"
#include "ebb/nn/conv.h"
#include "ebb/nn/init.h"
#include "ebb/nn/models/image_classifier.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/reduce.h"

namespace ebb::nn::models {

namespace {

constexpr int64_t kStemChannels = 45;  // between the two parts of a factored first convolution

// A convolution of odd kernel that keeps the size but for its stride.
std::unique_ptr<Conv3d> convolution(int64_t in, int64_t out, const PerAxis<3>& kernel,
                                    const PerAxis<3>& stride) {
  return std::make_unique<Conv3d>(
      in, out, kernel,
      Conv3dOptions{.stride = stride,
                    .padding = {(kernel[0] - 1) / 2, (kernel[1] - 1) / 2, (kernel[2] - 1) / 2},
                    .bias = false});
}

// Space first, then time, with a norm and a rectifier between; behind them comes what the caller
// appends.
void append_factored(Sequential& layers, int64_t in, int64_t between, int64_t out, int64_t kernel,
                     const PerAxis<3>& stride, const Normalization& norm) {
  layers.append(convolution(in, between, {1, kernel, kernel}, {1, stride[1], stride[2]}));
  layers.append(make_norm3d(norm, between));
  layers.add<ReLU>();
  layers.append(convolution(between, out, {3, 1, 1}, {stride[0], 1, 1}));
}

struct BlockOptions {
  int64_t in;
  int64_t out;
  int64_t stride;
  VideoConvolution kind;
  Normalization norm;
};

// relu(x + f(x)), f being two convolutions.
class Block : public Layer {
 public:
  explicit Block(const BlockOptions& options) : options_(options) {
    const auto& [in, out, stride, kind, norm] = options_;
    append(conv1_, in, stride);
    conv1_.append(make_norm3d(norm, out));
    conv1_.add<ReLU>();
    append(conv2_, out, 1);
    conv2_.append(make_norm3d(norm, out));
    if (stride == 1 && in == out) return;
    downsample_ = std::make_unique<Sequential>();
    downsample_->append(convolution(in, out, 1, strides(stride)));
    downsample_->append(make_norm3d(norm, out));
    adopt("downsample", *downsample_);
  }

  Tensor forward(const Tensor& x) const override {
    return relu(conv2_(conv1_(x)) + (downsample_ == nullptr ? x : (*downsample_)(x)));
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  PerAxis<3> strides(int64_t stride) const {
    const bool time = options_.kind != VideoConvolution::kSpatial;
    return {time ? stride : 1, stride, stride};
  }
  void append(Sequential& layers, int64_t in, int64_t stride) const {
    const auto& [first, out, unused, kind, norm] = options_;
    if (kind == VideoConvolution::kFactored) {
      const int64_t between = 27 * first * out / (9 * first + 3 * out);
      auto parts = std::make_unique<Sequential>();
      append_factored(*parts, in, between, out, 3, strides(stride), norm);
      layers.append(std::move(parts));
      return;
    }
    const int64_t frames = kind == VideoConvolution::kSpatial ? 1 : 3;
    layers.append(convolution(in, out, {frames, 3, 3}, strides(stride)));
  }

  BlockOptions options_;
  Sequential conv1_{*this, "conv1"};
  Sequential conv2_{*this, "conv2"};
  std::unique_ptr<Sequential> downsample_;
};

VideoResNetOptions published(VideoConvolution first, VideoConvolution rest, int64_t num_classes) {
  return {.stages = {{first}, {rest}, {rest}, {rest}}, .num_classes = num_classes};
}

int64_t last_channels(const VideoResNetOptions& o) {
  if (o.stages.empty() || o.stages.size() > 16 || o.width < 1 || o.width > kWidest) {
    throw ValueError(absl::StrCat("VideoResNet: ", o.stages.size(), " stages of width ", o.width,
                                  "; there must be 1 to 16, and the width in [1, ", kWidest, "]"));
  }
  return o.width << (o.stages.size() - 1);
}

}  // namespace

VideoResNetOptions r3d_18(int64_t n) {
  return published(VideoConvolution::kSpatiotemporal, VideoConvolution::kSpatiotemporal, n);
}
VideoResNetOptions mc3_18(int64_t n) {
  return published(VideoConvolution::kSpatiotemporal, VideoConvolution::kSpatial, n);
}
VideoResNetOptions r2plus1d_18(int64_t n) {
  VideoResNetOptions options =
      published(VideoConvolution::kFactored, VideoConvolution::kFactored, n);
  options.factored_stem = true;
  return options;
}

VideoResNet::VideoResNet(VideoResNetOptions options) try
    : options_(std::move(options)), fc(last_channels(options_), options_.num_classes) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("VideoResNet");
}

VideoResNet::VideoResNet(Module& parent, std::string name, VideoResNetOptions options) try
    : Layer(parent, std::move(name)),
      options_(std::move(options)),
      fc(last_channels(options_), options_.num_classes) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("VideoResNet");
}

void VideoResNet::start() {
  const auto& [stages, factored_stem, width, in_channels, num_classes, norm] = options_;
  const PerAxis<3> halved = {1, 2, 2};
  std::optional<init::SkipGuard> skip(std::in_place);  // all is drawn below
  if (factored_stem) {
    append_factored(stem_, in_channels, kStemChannels, width, 7, halved, norm);
  } else {
    stem_.append(convolution(in_channels, width, {3, 7, 7}, halved));
  }
  stem_.append(make_norm3d(norm, width));
  stem_.add<ReLU>();
  int64_t in = width;
  for (size_t s = 0; s < stages.size(); ++s) {
    const auto& [kind, blocks] = stages[s];
    if (blocks < 1) {
      throw ValueError(absl::StrCat("VideoResNet: stage ", s, " has ", blocks,
                                    " blocks; there must be 1 at least"));
    }
    auto stage = std::make_unique<Sequential>();
    for (int64_t i = 0; i < blocks; ++i) {
      stage->add<Block>(BlockOptions{.in = in,
                                     .out = width << s,
                                     .stride = s > 0 && i == 0 ? 2 : 1,
                                     .kind = kind,
                                     .norm = norm});
      in = width << s;
    }
    adopt(absl::StrCat("layer", s + 1), *stage);
    stages_.push_back(std::move(stage));
  }
  adopt("fc", fc);
  skip.reset();
  init_image_network(*this);
}

std::vector<Tensor> VideoResNet::stages(const Tensor& x) const {
  Tensor y = stem_(x);
  std::vector<Tensor> result;
  for (const auto& stage : stages_) {
    y = (*stage)(y);
    result.push_back(y);
  }
  return result;
}

Tensor VideoResNet::features(const Tensor& x) const { return stages(x).back().mean({-3, -2, -1}); }

}  // namespace ebb::nn::models
