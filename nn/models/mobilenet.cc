// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/mobilenet.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ebb/nn/activation.h"
#include "ebb/nn/conv.h"
#include "ebb/nn/dropout.h"
#include "ebb/nn/init.h"
#include "ebb/nn/linear.h"

namespace ebb::nn::models {

namespace {

// Convolution, norm, ReLU6.
std::unique_ptr<Sequential> rectified(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                                      int64_t groups, const Normalization& norm) {
  auto layers = std::make_unique<Sequential>();
  layers->add<Conv2d>(
      in, out, kernel,
      Conv2dOptions{
          .stride = stride, .padding = (kernel - 1) / 2, .groups = groups, .bias = false});
  layers->append(make_norm2d(norm, out));
  layers->add<ReLU6>();
  return layers;
}

struct BlockOptions {
  int64_t in;
  int64_t out;
  int64_t stride;
  int64_t expansion;
  Normalization norm;
};

class InvertedResidual : public Layer {
 public:
  explicit InvertedResidual(const BlockOptions& options) : options_(options) {
    const auto& [in, out, stride, expansion, norm] = options_;
    if (expansion < 1 || stride < 1) {
      throw ValueError(absl::StrCat("MobileNetV2: a block of expansion ", expansion, " and stride ",
                                    stride, "; both must be at least 1"));
    }
    const int64_t hidden = in * expansion;
    if (expansion != 1) conv_.append(rectified(in, hidden, 1, 1, 1, norm));
    conv_.append(rectified(hidden, hidden, 3, stride, hidden, norm));
    conv_.add<Conv2d>(hidden, out, 1, Conv2dOptions{.bias = false});
    conv_.append(make_norm2d(norm, out));
  }

  Tensor forward(const Tensor& x) const override {
    const Tensor y = conv_(x);
    return options_.stride == 1 && options_.in == options_.out ? x + y : y;
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  BlockOptions options_;
  Sequential conv_{*this, "conv"};
};

}  // namespace

MobileNetV2Options mobilenet_v2(int64_t num_classes, double width_multiplier) {
  return {.width_multiplier = width_multiplier, .num_classes = num_classes};
}

int64_t round_channels(double channels) {
  const int64_t rounded = std::max(int64_t{8}, static_cast<int64_t>(channels + 4) / 8 * 8);
  return static_cast<double>(rounded) < 0.9 * channels ? rounded + 8 : rounded;
}

MobileNetV2::MobileNetV2(MobileNetV2Options options)
    : ImageClassifier(1), options_(std::move(options)) {
  start();
}

MobileNetV2::MobileNetV2(Module& parent, std::string name, MobileNetV2Options options)
    : ImageClassifier(parent, std::move(name), 1), options_(std::move(options)) {
  start();
}

void MobileNetV2::start() try {
  const MobileNetV2Options& o = options_;
  const double factor = o.width_multiplier;
  if (!(factor > 0 && factor <= 64)) {
    throw ValueError(
        absl::StrCat("MobileNetV2: the width multiplier is ", factor, "; it must be in (0, 64]"));
  }
  auto width = [](double f, int64_t channels) {
    if (channels < 1) {
      throw ValueError(absl::StrCat("MobileNetV2: ", channels, " channels; at least 1"));
    }
    return round_channels(f * static_cast<double>(channels));
  };
  std::optional<init::SkipGuard> skip(std::in_place);  // all is drawn below
  int64_t in = width(factor, o.first_channels);
  features.append(rectified(o.in_channels, in, 3, 2, 1, o.norm));
  for (const auto& [expansion, channels, blocks, stride] : o.stages) {
    const int64_t out = width(factor, channels);
    if (expansion < 1 || blocks < 1 || stride < 1) {
      throw ValueError(absl::StrCat("MobileNetV2: a stage of ", blocks, " blocks with expansion ",
                                    expansion, " and stride ", stride, "; at least 1 each"));
    }
    for (int64_t i = 0; i < blocks; ++i) {
      features.add<InvertedResidual>(BlockOptions{.in = in,
                                                  .out = out,
                                                  .stride = i == 0 ? stride : 1,
                                                  .expansion = expansion,
                                                  .norm = o.norm});
      in = out;
    }
  }
  const int64_t last = width(std::max(factor, 1.0), o.last_channels);
  features.append(rectified(in, last, 1, 1, 1, o.norm));
  classifier.add<Dropout>(o.dropout);
  classifier.add<Linear>(last, o.num_classes);
  skip.reset();
  init_image_network(*this);
} catch (const Error&) {
  ebb::detail::rethrow_as("MobileNetV2");
}

}  // namespace ebb::nn::models
