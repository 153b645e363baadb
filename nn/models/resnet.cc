// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/resnet.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/reduce.h"

namespace ebb::nn::models {

namespace {

Conv2dOptions without_bias(int64_t stride, int64_t padding) {
  return {.stride = stride, .padding = padding, .bias = false};
}

struct BlockOptions {
  int64_t in;
  int64_t width;  // what it computes with
  int64_t stride;
  bool bottleneck;
  bool identity_shortcut;
  Normalization norm;

  int64_t out() const { return bottleneck ? 4 * width : width; }
};

// relu(x + f(x)), f being two convolutions of 3x3, or 1x1, 3x3, 1x1.
class Block : public Layer {
 public:
  explicit Block(const BlockOptions& options) : options_(options) {
    const auto& [in, width, stride, bottleneck, identity, norm] = options_;
    if (bottleneck) {
      add(1, in, width, 1, 1);
      add(2, width, width, 3, stride);
      add(3, width, options.out(), 1, 1);
    } else {
      add(1, in, width, 3, stride);
      add(2, width, width, 3, 1);
    }
    if ((stride != 1 || in != options.out()) && !identity) {
      downsample_ = std::make_unique<Sequential>();
      downsample_->add<Conv2d>(in, options.out(), 1, without_bias(stride, 0));
      downsample_->append(make_norm2d(norm, options.out()));
      adopt("downsample", *downsample_);
    }
  }

  Tensor forward(const Tensor& x) const override {
    Tensor y = x;
    for (size_t i = 0; i < convs_.size(); ++i) {
      if (i > 0) y = relu(y);
      y = (*norms_[i])((*convs_[i])(y));
    }
    return relu(y + shortcut(x));
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

  Layer& last_norm() const { return *norms_.back(); }

 private:
  void add(int i, int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    convs_.push_back(
        std::make_unique<Conv2d>(in, out, kernel, without_bias(stride, (kernel - 1) / 2)));
    adopt(absl::StrCat("conv", i), *convs_.back());
    norms_.push_back(make_norm2d(options_.norm, out));
    adopt(absl::StrCat("bn", i), *norms_.back());
  }

  Tensor shortcut(const Tensor& x) const {
    if (downsample_ != nullptr) return (*downsample_)(x);
    Tensor y = x;
    const int64_t step = options_.stride;
    if (step != 1) y = slice(slice(y, -1, 0, y.size(-1), step), -2, 0, y.size(-2), step);
    const int64_t missing = options_.out() - options_.in;
    return missing == 0 ? y : pad(y, {0, 0, 0, 0, missing / 2, missing - missing / 2});
  }

  BlockOptions options_;
  std::vector<std::unique_ptr<Conv2d>> convs_;
  std::vector<std::unique_ptr<Layer>> norms_;
  std::unique_ptr<Sequential> downsample_;
};

ResNetOptions large(std::vector<int64_t> layers, bool bottleneck, int64_t num_classes) {
  return {.layers = std::move(layers), .bottleneck = bottleneck, .num_classes = num_classes};
}

int64_t last_channels(const ResNetOptions& o) {
  return (o.width << (o.layers.size() - 1)) * (o.bottleneck ? 4 : 1);
}

ResNetOptions checked(ResNetOptions o) {
  if (o.layers.empty() || o.layers.size() > 16 || o.width < 1 || o.width > kWidest) {
    throw ValueError(absl::StrCat("ResNet: ", o.layers.size(), " stages of width ", o.width,
                                  "; there must be 1 to 16, and the width in [1, ", kWidest, "]"));
  }
  return o;
}

Conv2dOptions first(const ResNetOptions& o) {
  return o.large_images ? without_bias(2, 3) : without_bias(1, 1);
}

}  // namespace

ResNetOptions resnet18(int64_t n) { return large({2, 2, 2, 2}, false, n); }
ResNetOptions resnet34(int64_t n) { return large({3, 4, 6, 3}, false, n); }
ResNetOptions resnet50(int64_t n) { return large({3, 4, 6, 3}, true, n); }
ResNetOptions resnet101(int64_t n) { return large({3, 4, 23, 3}, true, n); }
ResNetOptions resnet152(int64_t n) { return large({3, 8, 36, 3}, true, n); }
ResNetOptions resnet_small(int64_t n, int64_t in_channels, int64_t num_classes) {
  if (n < 1) throw ValueError(absl::StrCat("resnet_small: n is ", n, "; it must be at least 1"));
  return {.layers = {n, n, n},
          .width = 16,
          .large_images = false,
          .identity_shortcuts = true,
          .in_channels = in_channels,
          .num_classes = num_classes};
}

ResNet::ResNet(ResNetOptions options) try
    : options_(checked(std::move(options))), conv1{*this,
                                                   "conv1",
                                                   options_.in_channels,
                                                   options_.width,
                                                   options_.large_images ? 7 : 3,
                                                   first(options_)} {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("ResNet");
}

ResNet::ResNet(Module& parent, std::string name, ResNetOptions options) try
    : Layer(parent, std::move(name)),
      options_(checked(std::move(options))),
      conv1{*this,
            "conv1",
            options_.in_channels,
            options_.width,
            options_.large_images ? 7 : 3,
            first(options_)} {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("ResNet");
}

void ResNet::start() {
  if (options_.num_classes != 0) fc.emplace(last_channels(options_), options_.num_classes);
  bn1_ = make_norm2d(options_.norm, options_.width);
  adopt("bn1", *bn1_);
  int64_t in = options_.width;
  for (size_t s = 0; s < options_.layers.size(); ++s) {
    if (options_.layers[s] < 1) {
      throw ValueError(absl::StrCat("ResNet: stage ", s, " has ", options_.layers[s],
                                    " blocks; there must be 1 at least"));
    }
    auto stage = std::make_unique<Sequential>();
    for (int64_t i = 0; i < options_.layers[s]; ++i) {
      const auto& block =
          stage->add<Block>(BlockOptions{.in = in,
                                         .width = options_.width << s,
                                         .stride = s > 0 && i == 0 ? 2 : 1,
                                         .bottleneck = options_.bottleneck,
                                         .identity_shortcut = options_.identity_shortcuts,
                                         .norm = options_.norm});
      in = channels(s);
      if (options_.zero_init_residual) {
        for (const auto& [name, p] : block.last_norm().named_parameters()) {
          if (name == "weight") init::zeros_(p);
        }
      }
    }
    stages_.push_back(std::move(stage));
    adopt(absl::StrCat("layer", s + 1), *stages_.back());
  }
  if (fc) adopt("fc", *fc);
  for (const auto& [name, p] : named_parameters()) {
    if (p.shape().rank() == 4) init::kaiming_normal_(p, 0, init::Fan::kOut);
  }
}

int64_t ResNet::channels(size_t stage) const {
  return (options_.width << stage) * (options_.bottleneck ? 4 : 1);
}

std::vector<Tensor> ResNet::stages(const Tensor& x) const {
  Tensor y = relu((*bn1_)(conv1(x)));
  if (options_.large_images) y = max_pool2d(y, 3, {.stride = 2, .padding = 1});
  std::vector<Tensor> result;
  for (const auto& stage : stages_) {
    y = (*stage)(y);
    result.push_back(y);
  }
  return result;
}

Tensor ResNet::forward(const Tensor& x) const { return fc ? (*fc)(features(x)) : features(x); }

Tensor ResNet::features(const Tensor& x) const { return stages(x).back().mean({-2, -1}); }

}  // namespace ebb::nn::models
