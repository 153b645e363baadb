// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/module.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/autograd/array_ops.h"

namespace ebb::nn {

Module::Module(Module& parent, std::string name) { parent.adopt(name, *this); }

Module::~Module() {
  if (parent_ != nullptr) parent_->forget(*this);
  for (const auto& [name, part] : parts_) part->parent_ = nullptr;
}

void Module::forget(const Module& part) {
  std::erase_if(parts_, [&](const auto& entry) { return entry.second == &part; });
}

std::string Module::full_name() const {
  if (parent_ == nullptr) return "";
  for (const auto& [name, part] : parent_->parts_) {
    if (part == this) return absl::StrCat(parent_->full_name(), name, ".");
  }
  return "";
}

void Module::name_leaves() const {
  visit(full_name(), [](const std::string& prefix, const Module& m) {
    for (const auto& [name, p, own] : m.parameters_) {
      if (own) p.leaf().name = prefix + name;
    }
  });
}

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
  if (part.parent_ != nullptr) {
    throw ValueError(absl::StrCat("module: '", name, "' is a part of a module already"));
  }
  for (const Module* m = this; m != nullptr; m = m->parent_) {
    if (m == &part) throw ValueError(absl::StrCat("module: '", name, "' would hold itself"));
  }
  parts_.emplace_back(name, &part);
  part.parent_ = this;
  part.name_leaves();
}

Parameter Module::register_parameter(const std::string& name, const Tensor& value) {
  require_free(name);
  return add_parameter(name, Parameter{Tensor(copy(value.array()))});
}

Parameter Module::register_parameter(const std::string& name, Tensor&& value) {
  const Array& given = value.array();
  if (!given.is_unique() || !given.is_contiguous()) {
    return register_parameter(name, std::as_const(value));
  }
  require_free(name);
  const Parameter p{value};
  value = Tensor();
  return add_parameter(name, p);
}

Parameter Module::add_parameter(const std::string& name, const Parameter& p) {
  p.leaf().name = full_name() + name;
  parameters_.push_back({name, p, true});
  return p;
}

void Module::register_parameter(const std::string& name, const Parameter& shared) {
  require_free(name);
  parameters_.push_back({name, shared, false});
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
    for (const auto& [name, p, own] : m.parameters_) {
      if (seen.insert(&p.leaf()).second) all.emplace_back(prefix + name, p);
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
    state[name] = Tensor(copy(p.tensor().array()));
  }
  for (const auto& [name, b] : named_buffers()) state[name] = Tensor(copy(b.array()));
  return state;
}

void Module::copy_modes(const Module& other) {
  training_ = other.training_;
  for (size_t i = 0; i < std::min(parts_.size(), other.parts_.size()); ++i) {
    parts_[i].second->copy_modes(*other.parts_[i].second);
  }
}

void Module::copy_types(const Module& other) {
  for (size_t i = 0; i < std::min(parameters_.size(), other.parameters_.size()); ++i) {
    const DType type = other.parameters_[i].parameter.dtype();
    ebb::detail::Leaf& leaf = parameters_[i].parameter.leaf();
    if (leaf.value().dtype() == type) continue;
    leaf.catch_up();
    leaf.set_value(cast(leaf.value(), type));
  }
  for (size_t i = 0; i < std::min(buffers_.size(), other.buffers_.size()); ++i) {
    Tensor& buffer = *buffers_[i].second;
    const DType type = other.buffers_[i].second->dtype();
    if (buffer.dtype() != type) buffer = Tensor(cast(buffer.array(), type));
  }
  for (size_t i = 0; i < std::min(parts_.size(), other.parts_.size()); ++i) {
    parts_[i].second->copy_types(*other.parts_[i].second);
  }
}

void Module::load_state_dict(const StateDict& state, bool strict) {
  // What goes where; nothing is written before everything is known to fit.
  std::vector<std::pair<Parameter, const Tensor*>> parameters;
  std::vector<std::pair<Tensor*, const Tensor*>> buffers;
  absl::flat_hash_map<const ebb::detail::Leaf*, std::string> missing_leaves;
  absl::flat_hash_set<const ebb::detail::Leaf*> found_leaves;
  std::vector<std::string> missing;
  absl::flat_hash_set<std::string> names;
  const auto find = [&](const std::string& name, const Tensor& own) -> const Tensor* {
    names.insert(name);
    const auto at = state.find(name);
    if (at == state.end()) return nullptr;
    if (at->second.shape() == own.shape()) return &at->second;
    throw ShapeError(absl::StrCat("load_state_dict: ", name, " is ", own.shape().str(),
                                  ", the state has ", at->second.shape().str()));
  };
  visit("", [&](const std::string& prefix, const Module& m) {
    for (const auto& [name, p, own] : m.parameters_) {
      const Tensor* value = find(prefix + name, p);
      if (value == nullptr) {
        missing_leaves.emplace(&p.leaf(), prefix + name);
      } else if (found_leaves.insert(&p.leaf()).second) {
        parameters.emplace_back(p, value);
      }
    }
    for (const auto& [name, buffer] : m.buffers_) {
      const Tensor* value = find(prefix + name, *buffer);
      if (value == nullptr) {
        missing.push_back(prefix + name);
      } else {
        buffers.emplace_back(buffer, value);
      }
    }
  });
  for (const auto& [leaf, name] : missing_leaves) {
    if (!found_leaves.contains(leaf)) missing.push_back(name);
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, t] : state) {
    if (!names.contains(name)) unexpected.push_back(name);
  }
  if (strict && (!missing.empty() || !unexpected.empty())) {
    std::sort(missing.begin(), missing.end());
    throw ValueError(absl::StrCat("load_state_dict: missing {", absl::StrJoin(missing, ", "),
                                  "}, unexpected {", absl::StrJoin(unexpected, ", "), "}"));
  }
  for (const auto& [p, value] : parameters) p.copy_from(*value);
  for (const auto& [buffer, value] : buffers) {
    *buffer = Tensor(copy(cast(value->array(), buffer->dtype())));
  }
}

std::unique_ptr<Module> Module::clone() const {
  throw Error("clone: this type of module does not say how it is made; use nn::clone_as");
}

}  // namespace ebb::nn
