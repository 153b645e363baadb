// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/normalization.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"

namespace ebb::nn::models {

std::unique_ptr<Layer> make_norm2d(const Normalization& choice, int64_t channels) {
  if (choice.kind == Normalization::Kind::kBatch) {
    return std::make_unique<BatchNorm2d>(channels, choice.batch);
  }
  if (choice.groups < 1) {
    throw ValueError(
        absl::StrCat("make_norm2d: ", choice.groups, " groups; there must be 1 at least"));
  }
  return std::make_unique<GroupNorm>(std::gcd(choice.groups, channels), channels);
}

}  // namespace ebb::nn::models
