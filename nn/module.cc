// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/module.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/autograd/array_ops.h"

namespace ebb::nn {

Module::Module(Module& parent, std::string name) { parent.adopt(name, *this); }

void Module::require_free(const std::string& name) const {
  if (name.empty() || name.find('.') != std::string::npos) {
    throw ValueError(
        absl::StrCat("module: '", name, "' is no name; it must not be empty or have a dot"));
  }
  const auto in = [&](const auto& list) {
    for (const auto& entry : list) {
      if (entry.first == name) return true;
    }
    return false;
  };
  if (in(parameters_) || in(buffers_) || in(parts_)) {
    throw ValueError(absl::StrCat("module: there is something named '", name, "' already"));
  }
}

void Module::adopt(const std::string& name, Module& part) {
  require_free(name);
  if (part.has_parent_ || &part == this) {
    throw ValueError(absl::StrCat("module: '", name, "' is a part of a module already"));
  }
  parts_.emplace_back(name, &part);
  part.has_parent_ = true;
}

Parameter Module::register_parameter(const std::string& name, const Tensor& value) {
  require_free(name);
  Parameter p{Tensor(ebb::clone(value.array()))};
  p.leaf().name = name;
  parameters_.emplace_back(name, p);
  return p;
}

void Module::register_parameter(const std::string& name, const Parameter& shared) {
  require_free(name);
  parameters_.emplace_back(name, shared);
}

void Module::register_buffer(const std::string& name, Tensor* buffer) {
  require_free(name);
  buffers_.emplace_back(name, buffer);
}

template <class F>
void Module::visit(const std::string& prefix, F&& f) const {
  f(prefix, *this);
  for (const auto& [name, part] : parts_) part->visit(absl::StrCat(prefix, name, "."), f);
}

std::vector<std::pair<std::string, Parameter>> Module::named_parameters() const {
  std::vector<std::pair<std::string, Parameter>> all;
  absl::flat_hash_set<const ebb::detail::Leaf*> seen;
  visit("", [&](const std::string& prefix, const Module& m) {
    for (const auto& [name, p] : m.parameters_) {
      if (!seen.insert(&p.leaf()).second) continue;
      p.leaf().name = prefix + name;
      all.emplace_back(prefix + name, p);
    }
  });
  return all;
}

std::vector<Parameter> Module::parameters() const {
  std::vector<Parameter> all;
  for (auto& [name, p] : named_parameters()) all.push_back(std::move(p));
  return all;
}

std::vector<std::pair<std::string, Tensor>> Module::named_buffers() const {
  std::vector<std::pair<std::string, Tensor>> all;
  visit("", [&](const std::string& prefix, const Module& m) {
    for (const auto& [name, buffer] : m.buffers_) all.emplace_back(prefix + name, *buffer);
  });
  return all;
}

void Module::train(bool on) {
  training_ = on;
  for (const auto& [name, part] : parts_) part->train(on);
}

void Module::to(DType dtype) {
  if (!is_differentiable(dtype)) {
    throw DTypeError(
        absl::StrCat("module: parameters must be float32 or float64, not ", name_of(dtype)));
  }
  for (const Parameter& p : parameters()) {
    p.leaf().catch_up();
    p.zero_grad();
    p.leaf().set_value(cast(p.leaf().value(), dtype));
  }
  visit("", [&](const std::string&, const Module& m) {
    for (const auto& [name, buffer] : m.buffers_) {
      if (is_differentiable(buffer->dtype())) *buffer = Tensor(cast(buffer->array(), dtype));
    }
  });
}

void Module::zero_grad() const {
  for (const Parameter& p : parameters()) p.zero_grad();
}

StateDict Module::state_dict() const {
  StateDict state;
  for (const auto& [name, p] : named_parameters()) {
    state[name] = Tensor(ebb::clone(p.tensor().array()));
  }
  for (const auto& [name, b] : named_buffers()) state[name] = Tensor(ebb::clone(b.array()));
  return state;
}

void Module::load_state_dict(const StateDict& state, bool strict) {
  const auto parameters = named_parameters();
  std::vector<std::string> missing;
  size_t matched = 0;
  const auto check = [&](const std::string& name, const Tensor& own) {
    const auto at = state.find(name);
    if (at == state.end()) {
      missing.push_back(name);
      return;
    }
    ++matched;
    if (at->second.shape() == own.shape()) return;
    throw ShapeError(absl::StrCat("load_state_dict: ", name, " is ", own.shape().str(),
                                  ", the state has ", at->second.shape().str()));
  };
  absl::flat_hash_set<std::string> names;
  for (const auto& [name, p] : parameters) {
    check(name, p);
    names.insert(name);
  }
  for (const auto& [name, b] : named_buffers()) {
    check(name, b);
    names.insert(name);
  }
  if (strict && (!missing.empty() || matched != state.size())) {
    std::vector<std::string> unexpected;
    for (const auto& [name, t] : state) {
      if (!names.contains(name)) unexpected.push_back(name);
    }
    throw ValueError(absl::StrCat("load_state_dict: missing {", absl::StrJoin(missing, ", "),
                                  "}, unexpected {", absl::StrJoin(unexpected, ", "), "}"));
  }
  for (const auto& [name, p] : parameters) {
    const auto at = state.find(name);
    if (at != state.end()) p.copy_from(at->second);
  }
  visit("", [&](const std::string& prefix, const Module& m) {
    for (const auto& [name, buffer] : m.buffers_) {
      const auto at = state.find(prefix + name);
      if (at == state.end()) continue;
      *buffer = Tensor(ebb::clone(cast(at->second.array(), buffer->dtype())));
    }
  });
}

std::unique_ptr<Module> Module::clone() const {
  throw Error("clone: this type of module does not say how it is made; use nn::clone_as");
}

}  // namespace ebb::nn
