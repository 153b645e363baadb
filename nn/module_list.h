// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ebb/nn/module.h"

namespace ebb::nn {

/// Modules of one type whose number is known at run time, named "0", "1", ...:
///
///   nn::ModuleList<nn::Linear> layers{*this, "layers"};
///   for (int64_t n : sizes) layers.emplace_back(n, n);
///   for (const nn::Linear& layer : layers) x = relu(layer(x));
template <class M>
class ModuleList : public Module {
 public:
  using Module::Module;

  /// Makes a module at the end, from the arguments of a module by itself, and gives it back.
  template <class... Args>
  M& emplace_back(Args&&... args) {
    auto part = std::make_unique<M>(std::forward<Args>(args)...);
    adopt(std::to_string(parts_.size()), *part);
    parts_.push_back(std::move(part));
    return *parts_.back();
  }

  size_t size() const { return parts_.size(); }
  /// Throws IndexError.
  M& operator[](size_t i) const {
    if (i < parts_.size()) return *parts_[i];
    throw IndexError("ModuleList: module " + std::to_string(i) + " of " +
                     std::to_string(parts_.size()));
  }

  /// Goes through the modules in order.
  class Iterator {
   public:
    explicit Iterator(const std::unique_ptr<M>* at) : at_(at) {}
    M& operator*() const { return **at_; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    const std::unique_ptr<M>* at_;
  };
  Iterator begin() const { return Iterator(parts_.data()); }
  Iterator end() const { return Iterator(parts_.data() + parts_.size()); }

 private:
  std::vector<std::unique_ptr<M>> parts_;
};

}  // namespace ebb::nn
