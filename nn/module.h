// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ebb/autograd/leaf.h"
#include "ebb/core/random.h"
#include "ebb/nn/state_dict.h"

namespace ebb::nn {

/// A part of a network: parameters, buffers and other modules, by name.
///
///   struct Net : nn::Module {
///     nn::Linear hidden{*this, "hidden", 784, 128};
///     nn::Linear out{*this, "out", 128, 10};
///     Tensor operator()(const Tensor& x) { return out(relu(hidden(x))); }
///   };
///
/// A module registers itself with the one it is a member of, and stays where it is: it is neither
/// copied nor moved. What it computes is the type's own affair; an operator() is the custom.
/// Full names join with dots: "hidden.weight".
class Module {
 public:
  /// A module by itself; a container may adopt it later, once.
  Module() = default;
  /// A part of `parent`. Throws ValueError where the parent has something of that name, or the name
  /// is empty or has a dot.
  Module(Module& parent, std::string name);
  /// Leaves the module that it is a part of.
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All parameters, depth first in order of registration; one that several modules share stands
  /// once, under its first name. For messages and for the optimiser's state a parameter goes by its
  /// name from the outermost module on.
  std::vector<std::pair<std::string, Parameter>> named_parameters() const;
  std::vector<Parameter> parameters() const;
  /// All buffers: state that is stored but not trained.
  std::vector<std::pair<std::string, Tensor>> named_buffers() const;

  /// Training mode, here and in all parts: dropout drops, batch statistics move.
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }
  /// Training mode of every part as in `other`, a module of the same kind.
  void copy_modes(const Module& other);
  /// Type of every parameter and buffer as in `other`, a module of the same kind.
  void copy_types(const Module& other);

  /// Converts all floating parameters and buffers; gradients are dropped. Make optimisers after it.
  void to(DType dtype);
  void zero_grad() const;

  /// Copies of all parameters and buffers by full name.
  StateDict state_dict() const;
  /// Overwrites parameters and buffers with those of the same name, converted to their type; a
  /// shared parameter may come under any of its names. Throws ValueError naming what is missing or
  /// does not belong here (unless not `strict`), and ShapeError where a shape differs; nothing is
  /// changed then.
  void load_state_dict(const StateDict& state, bool strict = true);

  /// A module of the same kind with copies of all parameters and buffers. Ebb's own layers can;
  /// for a type of your own override it, or use clone_as. Throws Error where it is not overridden.
  virtual std::unique_ptr<Module> clone() const;

 protected:
  /// A trainable value of this module; `value` is copied, or taken over where it is given away and
  /// nobody else holds it. Throws ValueError on a bad or taken name.
  Parameter register_parameter(const std::string& name, const Tensor& value);
  Parameter register_parameter(const std::string& name, Tensor&& value);
  /// Lists a parameter that another module owns: a shared weight.
  void register_parameter(const std::string& name, const Parameter& shared);
  /// Lists a tensor member of this module as a buffer.
  void register_buffer(const std::string& name, Tensor* buffer);
  /// Takes a module that was made by itself as a part, for as long as both live. Throws ValueError
  /// where it is a part already, and on a bad or taken name.
  void adopt(const std::string& name, Module& part);

 private:
  void require_free(const std::string& name) const;
  void forget(const Module& part);
  std::string full_name() const;  // with a dot at its end, or empty
  void name_leaves() const;
  Parameter add_parameter(const std::string& name, const Parameter& p);
  template <class F>
  void visit(const std::string& prefix, F&& f) const;  // f(prefix, module), depth first

  struct Entry {
    std::string first;  // its name
    Parameter parameter;
    bool own;  // not shared with the module that made it
  };
  std::vector<Entry> parameters_;
  std::vector<std::pair<std::string, Tensor*>> buffers_;
  std::vector<std::pair<std::string, Module*>> parts_;
  Module* parent_ = nullptr;
  bool training_ = true;
};

/// A copy of `module` by state: a new M made from `args`, with all parameters and buffers copied.
template <class M, class... Args>
std::unique_ptr<M> clone_as(const M& module, Args&&... args) {
  // What the constructor draws is overwritten: a copy must not change the numbers that come after.
  const Generator before = default_generator();
  auto copy = std::make_unique<M>(std::forward<Args>(args)...);
  default_generator() = before;
  copy->copy_types(module);
  copy->load_state_dict(module.state_dict());
  copy->copy_modes(module);
  return copy;
}

/// A module that takes one tensor and gives one: what Sequential chains.
class Layer : public Module {
 public:
  using Module::Module;
  /// What forward() records is placed at the line of the call, as if the layer were an op.
  Tensor operator()(At x) const {
    const ebb::detail::PlaceScope scope(x.where);
    return forward(*x.tensor);
  }
  virtual Tensor forward(const Tensor& x) const = 0;
};

}  // namespace ebb::nn
