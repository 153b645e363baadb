// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/single_threaded.h>

#include <mutex>
#include <string>

#include "ebb/autograd/gradient.h"
#include "ebb/autograd/tensor.h"

namespace ebb {

namespace detail {

/// Updates of a leaf that an optimiser has put off because they concern rows nobody read since.
class LazyUpdates {
 public:
  virtual ~LazyUpdates() = default;
  /// Brings `leaf` up to date: the rows `ids` (int64), or all of it where ids is null. Called with
  /// the leaf's mutex held. Clears Node::kLazy once nothing is put off any more.
  virtual void catch_up(Leaf& leaf, const Array* ids) = 0;
  /// Whether all that is put off is one product, w += factor u v' for a matrix w.
  virtual bool is_product() const { return false; }
  /// Only where is_product(): does it, and y = w x + beta y in the same pass over w [m,n], for
  /// contiguous x [n] and y [m] of the type of w. As catch_up() otherwise.
  virtual void catch_up_and_multiply(Leaf&, const Array& /*x*/, const Array& /*y*/,
                                     double /*beta*/) {}
};

/// The node that owns the value of a parameter or variable, and the gradient added up for it.
struct Leaf : Node {
  Tensor self;  // the value, with an edge to this leaf that is not counted
  Gradient grad;
  std::mutex mutex;   // guards grad and lazy: several threads may run backward at once
  LazyUpdates* lazy;  // owned by the optimiser
  std::string name;   // for messages; may be empty

  const Array& value() const { return self.value_; }
  /// Puts another array in place of the value: loading, or a change of type.
  void set_value(Array value) { self.value_ = std::move(value); }

  /// Brings the rows `ids`, or all, up to date.
  void catch_up(const Array* ids = nullptr);
  /// Whether that is the addition of a product.
  bool owes_product();
};

/// Holds a leaf's mutex, unless the process has one thread only: small leaves are locked more often
/// than they are computed with.
class LeafLock {
 public:
  explicit LeafLock(Leaf& leaf) : mutex_(__libc_single_threaded != 0 ? nullptr : &leaf.mutex) {
    if (mutex_ != nullptr) mutex_->lock();
  }
  ~LeafLock() {
    if (mutex_ != nullptr) mutex_->unlock();
  }
  LeafLock(const LeafLock&) = delete;
  LeafLock& operator=(const LeafLock&) = delete;

 private:
  std::mutex* const mutex_;
};

/// A new leaf on the elements of `value`, with one reference that the caller owns.
Leaf* new_leaf(Array value);

}  // namespace detail

/// A handle to a leaf: a trainable value that optimisers write and modules own. It converts to a
/// tensor at each use, so that a step, `to(dtype)` and loading are seen everywhere. Copies share
/// the leaf.
class Parameter {
 public:
  Parameter() = default;
  /// A leaf on the elements of `value` (not a copy of them).
  explicit Parameter(const Tensor& value);

  bool defined() const { return static_cast<bool>(edge_); }
  operator const Tensor&() const { return leaf().self; }  // NOLINT(google-explicit-constructor)
  const Tensor& tensor() const { return leaf().self; }
  const Tensor* operator->() const { return &leaf().self; }

  DType dtype() const { return tensor().dtype(); }
  Shape shape() const { return tensor().shape(); }
  int64_t size(int64_t axis) const { return tensor().size(axis); }
  int64_t numel() const { return tensor().numel(); }
  Tensor grad() const { return tensor().grad(); }
  void zero_grad() const { tensor().zero_grad(); }

  /// Overwrites the elements with those of `value`, converted; the shapes must be equal. Whoever
  /// saved the old elements for backward will find out. Throws ShapeError.
  void copy_from(const Tensor& value) const;

  /// Throws ValueError where the parameter is undefined.
  detail::Leaf& leaf() const {
    if (!edge_) [[unlikely]]
      detail::throw_undefined("parameter");
    return *static_cast<detail::Leaf*>(edge_.node());
  }

 private:
  detail::Edge edge_;
};

/// A differentiable leaf on x's elements: `grad(f(v), v)` and `.backward()` reach it.
Tensor variable(const Tensor& x);

inline At::At(const Parameter& p, Where w) : tensor(&p.tensor()), where(w) {}

}  // namespace ebb
