// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/vgg.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ebb/nn/activation.h"
#include "ebb/nn/conv.h"
#include "ebb/nn/init.h"
#include "ebb/nn/pool.h"

namespace ebb::nn::models {

namespace {

VGGOptions published(std::vector<int64_t> layers, int64_t num_classes, bool batch_norm) {
  VGGOptions options{.layers = std::move(layers), .num_classes = num_classes};
  if (batch_norm) options.norm = Normalization{};
  return options;
}

}  // namespace

VGGOptions vgg11(int64_t n) { return published({1, 1, 2, 2, 2}, n, false); }
VGGOptions vgg13(int64_t n) { return published({2, 2, 2, 2, 2}, n, false); }
VGGOptions vgg16(int64_t n) { return published({2, 2, 3, 3, 3}, n, false); }
VGGOptions vgg19(int64_t n) { return published({2, 2, 4, 4, 4}, n, false); }
VGGOptions vgg11_bn(int64_t n) { return published({1, 1, 2, 2, 2}, n, true); }
VGGOptions vgg13_bn(int64_t n) { return published({2, 2, 2, 2, 2}, n, true); }
VGGOptions vgg16_bn(int64_t n) { return published({2, 2, 3, 3, 3}, n, true); }
VGGOptions vgg19_bn(int64_t n) { return published({2, 2, 4, 4, 4}, n, true); }

VGG::VGG(VGGOptions options) : ImageClassifier(7), options_(std::move(options)) { start(); }

VGG::VGG(Module& parent, std::string name, VGGOptions options)
    : ImageClassifier(parent, std::move(name), 7), options_(std::move(options)) {
  start();
}

void VGG::start() try {
  if (options_.layers.empty() || options_.layers.size() > 16 || options_.width > kWidest) {
    throw ValueError(absl::StrCat("VGG: ", options_.layers.size(), " stages of width ",
                                  options_.width, "; there must be 1 to 16, and the width at most ",
                                  kWidest));
  }
  require_head("VGG", options_.hidden, options_.num_classes, options_.dropout);
  std::optional<init::SkipGuard> skip(std::in_place);  // all is drawn below
  int64_t in = options_.in_channels;
  for (size_t s = 0; s < options_.layers.size(); ++s) {
    if (options_.layers[s] < 1) {
      throw ValueError(absl::StrCat("VGG: stage ", s, " has ", options_.layers[s],
                                    " convolutions; there must be 1 at least"));
    }
    const int64_t out = options_.width << std::min(s, size_t{3});
    for (int64_t i = 0; i < options_.layers[s]; ++i) {
      features.add<Conv2d>(in, out, 3, Conv2dOptions{.padding = 1});
      if (options_.norm) features.append(make_norm2d(*options_.norm, out));
      features.add<ReLU>();
      in = out;
    }
    features.add<MaxPool2d>(2);
  }
  add_three_layers(in, options_.hidden, options_.num_classes, options_.dropout,
                   /*dropout_first=*/false);
  skip.reset();
  init_image_network(*this);
} catch (const Error&) {
  ebb::detail::rethrow_as("VGG");
}

}  // namespace ebb::nn::models
