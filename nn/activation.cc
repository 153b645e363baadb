// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/activation.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"

namespace ebb::nn {

PReLU::PReLU(int64_t num_parameters, PReLUOptions options) : options_(options) {
  start(num_parameters);
}

PReLU::PReLU(Module& parent, std::string name, int64_t num_parameters, PReLUOptions options)
    : Layer(parent, std::move(name)), options_(options) {
  start(num_parameters);
}

void PReLU::start(int64_t num_parameters) try {
  if (num_parameters < 1 || options_.dims < 0) {
    throw ValueError(absl::StrCat("PReLU: num_parameters is ", num_parameters, ", dims ",
                                  options_.dims, "; they must be at least 1 and 0"));
  }
  weight = register_parameter("weight", full({num_parameters}, options_.init));
} catch (const Error&) {
  ebb::detail::rethrow_as("PReLU");
}

}  // namespace ebb::nn
