// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/alexnet.h"

#include "ebb/nn/activation.h"
#include "ebb/nn/conv.h"
#include "ebb/nn/pool.h"

namespace ebb::nn::models {

AlexNet::AlexNet(AlexNetOptions options) : ImageClassifier(6), options_(options) { start(); }

AlexNet::AlexNet(Module& parent, std::string name, AlexNetOptions options)
    : ImageClassifier(parent, std::move(name), 6), options_(options) {
  start();
}

void AlexNet::start() try {
  require_head("AlexNet", options_.hidden, options_.num_classes, options_.dropout);
  struct Convolution {
    int64_t kernel;
    Conv2dOptions options;
    bool pooled;
  };
  const std::array<Convolution, 5> convolutions = {{{11, {.stride = 4, .padding = 2}, true},
                                                    {5, {.padding = 2}, true},
                                                    {3, {.padding = 1}, false},
                                                    {3, {.padding = 1}, false},
                                                    {3, {.padding = 1}, true}}};
  int64_t in = options_.in_channels;
  for (size_t i = 0; i < convolutions.size(); ++i) {
    const auto& [kernel, options, pooled] = convolutions[i];
    features.add<Conv2d>(in, options_.channels[i], kernel, options);
    features.add<ReLU>();
    if (pooled) features.add<MaxPool2d>(3, MaxPoolOptions<2>{.stride = 2});
    in = options_.channels[i];
  }
  add_three_layers(in, options_.hidden, options_.num_classes, options_.dropout,
                   /*dropout_first=*/true);
} catch (const Error&) {
  ebb::detail::rethrow_as("AlexNet");
}

}  // namespace ebb::nn::models
