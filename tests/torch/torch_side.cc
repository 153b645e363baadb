// SPDX-License-Identifier: Apache-2.0
#include "torch_side.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <stdexcept>

#include "torch_ops.h"

namespace torch_side {
namespace {

using at::Tensor;

Numbers numbers_of(const Tensor& t) {
  // Its own kind of zeros has no elements to read.
  if (t._is_zerotensor()) return numbers_of(at::zeros(t.sizes(), at::kDouble));
  const Tensor d = t.detach().to(at::kDouble).contiguous();
  return {d.sizes().vec(),
          std::vector<double>(d.data_ptr<double>(), d.data_ptr<double>() + d.numel())};
}

Tensor tensor_of(const Numbers& n, at::ScalarType type) {
  return at::tensor(n.v, at::kDouble).view(n.shape).to(type).clone();
}

Tensor tensor_of(const Input& n, at::ScalarType floating) {
  if (n.kind == Kind::kNone) return Tensor();
  const auto type = n.kind == Kind::kFloating ? floating
                    : n.kind == Kind::kIndex  ? at::kLong
                                              : at::kBool;
  return tensor_of(static_cast<const Numbers&>(n), type).requires_grad_(n.differentiated);
}

std::function<Outputs(const Tensors&)> function_of(const Call& c) {
  for (const Ops* ops :
       {&window_ops(), &element_ops(), &norm_ops(), &loss_ops(), &sequence_ops()}) {
    const auto found = ops->find(c.op);
    if (found == ops->end()) continue;
    return [&c, &f = found->second](const Tensors& in) { return f(c, in); };
  }
  throw std::runtime_error("no such op: " + c.op);
}

// Gives the parameter or buffer of this name the value of `t`, and `t` the parameter's place.
void put(std::map<std::string, Tensor>& own, const std::string& name, Tensor* t) {
  const auto found = own.find(name);
  if (found == own.end()) throw std::runtime_error("LibTorch's module has no " + name);
  if (found->second.sizes() != t->sizes()) throw std::runtime_error("another shape of " + name);
  found->second.set_data(t->detach());
  *t = found->second;
  own.erase(found);
}

// Undefined gradients are zeros.
std::vector<Numbers> dense(const Tensors& gradients, const Tensors& of) {
  std::vector<Numbers> all;
  for (size_t i = 0; i < of.size(); ++i) {
    all.push_back(numbers_of(gradients[i].defined() ? gradients[i] : at::zeros_like(of[i])));
  }
  return all;
}

}  // namespace

Built build(const Call& call) {
  const auto found = module_builders().find(call.op);
  if (found == module_builders().end()) throw std::runtime_error("no such module: " + call.op);
  return found->second(call);
}

std::map<std::string, Numbers> state_of(const Call& call) {
  const Built built = build(call);
  std::map<std::string, Numbers> state;
  for (const auto& p : parameters_of(*built.module)) state[p.first] = numbers_of(p.second);
  for (const auto& b : buffers_of(*built.module)) state[b.first] = numbers_of(b.second);
  return state;
}

Result run(const Call& call, const std::vector<Input>& inputs,
           const std::vector<std::vector<double>>& cotangents,
           const std::vector<std::vector<double>>& second_cotangents) {
  at::set_num_threads(1);
  const auto type = call.float64 ? at::kDouble : at::kFloat;
  Tensors in;
  for (const Input& n : inputs) in.push_back(tensor_of(n, type));

  const bool is_module = module_builders().count(call.op) != 0;
  Built built;
  if (is_module) {
    built = build(call);
    auto own = parameters_of(*built.module);
    own.merge(buffers_of(*built.module));
    for (size_t i = 0; i < in.size(); ++i) {
      if (!inputs[i].name.empty()) put(own, inputs[i].name, &in[i]);
    }
    if (!own.empty()) throw std::runtime_error("nothing was given for " + own.begin()->first);
  } else {
    built.forward = function_of(call);
  }

  Tensors arguments;
  Tensors wanted;
  for (size_t i = 0; i < in.size(); ++i) {
    if (inputs[i].name.empty()) arguments.push_back(in[i]);
    if (inputs[i].differentiated) wanted.push_back(in[i]);
  }
  const Outputs y = built.forward(arguments);
  Result r;
  for (const Tensor& t : y) r.y.push_back(numbers_of(t));
  if (is_module) {
    for (const auto& b : buffers_of(*built.module)) r.y.push_back(numbers_of(b.second));
  }

  Tensors outputs;
  Tensors v;
  for (size_t i = 0; i < y.size() && i < cotangents.size(); ++i) {
    if (static_cast<int64_t>(cotangents[i].size()) != y[i].numel() || cotangents[i].empty()) {
      continue;
    }
    outputs.push_back(y[i]);
    v.push_back(tensor_of(Numbers{y[i].sizes().vec(), cotangents[i]}, type));
  }
  if (wanted.empty() || outputs.empty()) return r;
  const bool twice = !second_cotangents.empty();
  for (Tensor& t : v) t.requires_grad_(twice);
  const Tensors first =
      torch::autograd::grad(outputs, wanted, v, twice, twice, /*allow_unused=*/true);
  r.gradients = dense(first, wanted);
  if (!twice) return r;

  Tensors depending;
  Tensors u;
  for (size_t i = 0; i < first.size(); ++i) {
    if (!first[i].defined() || !first[i].requires_grad()) continue;
    depending.push_back(first[i]);
    u.push_back(tensor_of(Numbers{first[i].sizes().vec(), second_cotangents.at(i)}, type));
  }
  wanted.insert(wanted.end(), v.begin(), v.end());
  Tensors second(wanted.size());
  if (!depending.empty()) {
    second = torch::autograd::grad(depending, wanted, u, false, false, /*allow_unused=*/true);
  }
  r.second = dense(second, wanted);
  return r;
}

}  // namespace torch_side
