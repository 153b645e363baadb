// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/image_classifier.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ebb/nn/activation.h"
#include "ebb/nn/dropout.h"
#include "ebb/nn/init.h"
#include "ebb/nn/linear.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/shape.h"

namespace ebb::nn::models {

ImageClassifier::ImageClassifier(int64_t windows) : windows_(windows) {}

ImageClassifier::ImageClassifier(Module& parent, std::string name, int64_t windows)
    : Layer(parent, std::move(name)), windows_(windows) {}

Tensor ImageClassifier::forward(const Tensor& x) const {
  return classifier(flatten(adaptive_avg_pool2d(features(x), windows_), -3));
}

void ImageClassifier::require_head(const char* model, int64_t hidden, int64_t num_classes,
                                   double dropout) {
  if (hidden >= 1 && num_classes >= 1 && dropout >= 0 && dropout <= 1) return;
  throw ValueError(absl::StrCat(model, ": hidden is ", hidden, ", num_classes ", num_classes,
                                ", dropout ", dropout,
                                "; they must be at least 1, at least 1 and in [0, 1]"));
}

void ImageClassifier::add_three_layers(int64_t channels, int64_t hidden, int64_t num_classes,
                                       double dropout, bool dropout_first) {
  int64_t in = channels * windows_ * windows_;
  for (int i = 0; i < 2; ++i) {
    if (dropout_first) classifier.add<Dropout>(dropout);
    classifier.add<Linear>(in, hidden);
    classifier.add<ReLU>();
    if (!dropout_first) classifier.add<Dropout>(dropout);
    in = hidden;
  }
  classifier.add<Linear>(in, num_classes);
}

void init_image_network(const Module& net) {
  for (const auto& [name, p] : net.named_parameters()) {
    if (p.shape().rank() > 2) {
      init::kaiming_normal_(p, 0, init::Fan::kOut);
    } else if (p.shape().rank() == 2) {
      init::normal_(p, 0, 0.01);
    } else if (absl::EndsWith(name, "bias")) {
      init::zeros_(p);
    }
  }
}

}  // namespace ebb::nn::models
