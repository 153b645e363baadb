// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ebb/autograd/leaf.h"
#include "ebb/nn/module.h"
#include "ebb/nn/optim/optimizer.h"
#include "worker.h"

namespace bench {

std::vector<Entry> micro_workloads();
std::vector<Entry> kernel_workloads();
std::vector<Entry> model_workloads();
std::vector<Entry> recurrent_workloads();

/// What all models share: the loss of the last step.
class Model : public Workload {
 public:
  double loss() override { return loss_; }

 protected:
  void learn(const ebb::Tensor& loss, ebb::optim::Optimizer& optimizer) {
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    loss_ = loss.item();
  }
  double loss_ = 0;
};

template <class W, class... A>
Entry entry(const std::string& name, A... args) {
  return {name, "-", [=] { return std::make_unique<W>(args...); }};
}

/// Gives all parameters of `module` the values of parameter(), by "prefix.name" without the layer's
/// number "_l0".
void fill(const std::string& prefix, const ebb::nn::Module& module);
/// The numbers of parameter() as a tensor.
ebb::Tensor values(const std::string& name, const ebb::Shape& shape);

}  // namespace bench
