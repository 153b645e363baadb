// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/normalization.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/norm.h"

namespace ebb::nn::models {

namespace {

template <int kDims>
std::unique_ptr<Layer> make_norm(const Normalization& choice, int64_t channels) {
  switch (choice.kind) {
    case Normalization::Kind::kBatch:
      return std::make_unique<BatchNorm<kDims>>(channels, choice.batch);
    case Normalization::Kind::kFrozen:
      return std::make_unique<FrozenBatchNorm>(channels, choice.batch.eps, kDims);
    case Normalization::Kind::kGroup:
      break;
  }
  if (choice.groups < 1) {
    throw ValueError(absl::StrCat("make_norm", kDims, "d: ", choice.groups,
                                  " groups; there must be 1 at least"));
  }
  return std::make_unique<GroupNorm>(std::gcd(choice.groups, channels), channels,
                                     GroupNormOptions{.dims = kDims});
}

}  // namespace

FrozenBatchNorm::FrozenBatchNorm(int64_t num_features, double eps, int dims)
    : eps_(eps), dims_(dims) {
  if (num_features < 1) {
    throw ValueError(
        absl::StrCat("FrozenBatchNorm: ", num_features, " channels; there must be 1 at least"));
  }
  weight = ones({num_features});
  bias = zeros({num_features});
  running_mean = zeros({num_features});
  running_var = ones({num_features});
  register_buffer("weight", &weight);
  register_buffer("bias", &bias);
  register_buffer("running_mean", &running_mean);
  register_buffer("running_var", &running_var);
}

Tensor FrozenBatchNorm::forward(const Tensor& x) const {
  Tensor mean = running_mean;  // in evaluation they are only read
  Tensor var = running_var;
  return batch_norm(x, &mean, &var, weight, bias, /*training=*/false, /*momentum=*/0, eps_,
                    -1 - dims_);
}

std::unique_ptr<Layer> make_norm2d(const Normalization& choice, int64_t channels) {
  return make_norm<2>(choice, channels);
}

std::unique_ptr<Layer> make_norm3d(const Normalization& choice, int64_t channels) {
  return make_norm<3>(choice, channels);
}

}  // namespace ebb::nn::models
