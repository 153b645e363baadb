// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/lenet.h"

#include "ebb/ops/activation.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/shape.h"

namespace ebb::nn::models {

LeNet5::LeNet5(LeNet5Options options) try : options_(options) {
} catch (const Error&) {
  ebb::detail::rethrow_as("LeNet5");
}

LeNet5::LeNet5(Module& parent, std::string name, LeNet5Options options) try
    : Layer(parent, std::move(name)), options_(options) {
} catch (const Error&) {
  ebb::detail::rethrow_as("LeNet5");
}

Tensor LeNet5::forward(const Tensor& x) const {
  Tensor y = max_pool2d(relu(conv1(x)), 2);
  y = max_pool2d(relu(conv2(y)), 2);
  return fc3(relu(fc2(relu(fc1(flatten(y, -3))))));
}

}  // namespace ebb::nn::models
