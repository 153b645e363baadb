// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/feature_pyramid.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/upsample.h"

namespace ebb::nn::models {

FeaturePyramidNetwork::FeaturePyramidNetwork(FeaturePyramidOptions options)
    : options_(std::move(options)) {
  start();
}

FeaturePyramidNetwork::FeaturePyramidNetwork(Module& parent, std::string name,
                                             FeaturePyramidOptions options)
    : Module(parent, std::move(name)), options_(std::move(options)) {
  start();
}

void FeaturePyramidNetwork::Extra::start(int64_t in_channels, int64_t out_channels) {
  const Conv2dOptions halving = {.stride = 2, .padding = 1};
  p6 = std::make_unique<Conv2d>(in_channels, out_channels, 3, halving);
  p7 = std::make_unique<Conv2d>(out_channels, out_channels, 3, halving);
  adopt("p6", *p6);
  adopt("p7", *p7);
}

void FeaturePyramidNetwork::start() try {
  const auto& [in_channels, out_channels, extra] = options_;
  if (in_channels.empty()) throw ValueError("FeaturePyramidNetwork: there are no in_channels");
  for (const int64_t in : in_channels) {
    inner_blocks_.emplace_back().add<Conv2d>(in, out_channels, 1);
    layer_blocks_.emplace_back().add<Conv2d>(out_channels, out_channels, 3,
                                             Conv2dOptions{.padding = 1});
  }
  if (extra == ExtraLevels::kP6P7) extra_blocks_.start(out_channels, out_channels);
  if (extra == ExtraLevels::kP6P7FromFeatures) {
    extra_blocks_.start(in_channels.back(), out_channels);
  }
  for (const auto& [name, p] : named_parameters()) {
    if (p.shape().rank() == 4) {
      init::kaiming_uniform_(p, 1);
    } else {
      init::zeros_(p);
    }
  }
} catch (const Error&) {
  ebb::detail::rethrow_as("FeaturePyramidNetwork");
}

size_t FeaturePyramidNetwork::levels() const {
  const size_t n = options_.in_channels.size();
  switch (options_.extra) {
    case ExtraLevels::kNone:
      return n;
    case ExtraLevels::kMaxPool:
      return n + 1;
    case ExtraLevels::kP6P7:
    case ExtraLevels::kP6P7FromFeatures:
      break;
  }
  return n + 2;
}

std::vector<Tensor> FeaturePyramidNetwork::operator()(Span<const Tensor> features,
                                                      Where where) const try {
  const ebb::detail::PlaceScope scope(where);
  const size_t n = options_.in_channels.size();
  if (features.size() != n) {
    throw ShapeError(absl::StrCat("FeaturePyramidNetwork: ", features.size(),
                                  " maps of features; there must be ", n));
  }
  std::vector<Tensor> levels(n);
  Tensor inner;
  for (size_t i = n; i-- > 0;) {
    const Tensor lateral = inner_blocks_[i](features[i]);
    if (inner.defined()) {
      // A map of one sample would broadcast.
      if (lateral.dim() != inner.dim() ||
          (lateral.dim() == 4 && lateral.size(0) != inner.size(0))) {
        throw ShapeError(absl::StrCat("FeaturePyramidNetwork: map ", i, " is ",
                                      features[i].shape().str(), ", map ", i + 1, " is ",
                                      features[i + 1].shape().str(),
                                      "; they must be of one image, or batches of one size"));
      }
      // The image need not be divisible: the coarser map is brought to just this size.
      inner = lateral + interpolate(inner, {.size = {lateral.size(-2), lateral.size(-1)}});
    } else {
      inner = lateral;
    }
    levels[i] = layer_blocks_[i](inner);
  }
  switch (options_.extra) {
    case ExtraLevels::kNone:
      break;
    case ExtraLevels::kMaxPool:
      levels.push_back(max_pool2d(levels.back(), 1, {.stride = 2}));
      break;
    case ExtraLevels::kP6P7:
    case ExtraLevels::kP6P7FromFeatures: {
      const bool own = options_.extra == ExtraLevels::kP6P7;
      levels.push_back((*extra_blocks_.p6)(own ? levels.back() : features.back()));
      levels.push_back((*extra_blocks_.p7)(relu(levels.back())));
    }
  }
  return levels;
} catch (const Error&) {
  ebb::detail::rethrow_as("FeaturePyramidNetwork");
}

}  // namespace ebb::nn::models
