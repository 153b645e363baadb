// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "torch_side.h"

// How the ops of a call are spelled in LibTorch, by name. Where it has none, they are written out
// with those it has. For the files that see LibTorch's headers.
namespace torch {
namespace nn {
class Module;
}
}  // namespace torch

namespace torch_side {

using Tensors = std::vector<at::Tensor>;

struct Outputs : Tensors {
  Outputs(at::Tensor t) : Tensors{std::move(t)} {}  // NOLINT(google-explicit-constructor)
  Outputs(std::initializer_list<at::Tensor> t) : Tensors(t) {}
  Outputs(Tensors t) : Tensors(std::move(t)) {}  // NOLINT(google-explicit-constructor)
};
using Ops = std::map<std::string, std::function<Outputs(const Call&, const Tensors&)>>;

const Ops& window_ops();
const Ops& element_ops();
const Ops& norm_ops();
const Ops& loss_ops();
const Ops& sequence_ops();

/// A module and how it is called with the arguments of a call.
struct Built {
  std::shared_ptr<torch::nn::Module> module;
  std::function<Outputs(const Tensors&)> forward;
};
using Builders = std::map<std::string, std::function<Built(const Call&)>>;
const Builders& module_builders();

/// The parameters and buffers of a module that are there.
std::map<std::string, at::Tensor> parameters_of(torch::nn::Module& module);
std::map<std::string, at::Tensor> buffers_of(torch::nn::Module& module);
Built build(const Call& call);

/// What is undefined is none.
inline c10::optional<at::Tensor> optional(const Tensors& in, size_t i) {
  return i < in.size() && in[i].defined() ? c10::optional<at::Tensor>(in[i]) : c10::nullopt;
}

}  // namespace torch_side
