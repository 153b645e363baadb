// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "ebb/autograd/node.h"
#include "ebb/core/array.h"

namespace ebb {

class Gradient;
class Parameter;
struct IndexItem;

/// An argument of an operator, with the place of the call.
struct At;

/// An index of an operator[], with the place of the call.
struct Index {
  template <class I>
  requires std::is_integral_v<I> Index(
      I i, Where w = Where::current())  // NOLINT(google-explicit-constructor)
      : value(static_cast<int64_t>(i)), where(w) {}
  int64_t value;
  Where where;
};

/// Names a hook, to remove it.
struct HookHandle {
  uint64_t id = 0;
};

/// A value plus where it came from. Copies are cheap and share both. Ops on tensors record a tape
/// as they run, wherever an input requires a gradient and recording is on (NoGradGuard); `backward`
/// and `grad` (engine.h) play it back. Functions on tensors are in ops/; their methods here are the
/// same functions, spelt for chaining.
class Tensor {
 public:
  Tensor() = default;
  /// A constant: no gradient flows to it.
  explicit Tensor(Array value) : value_(std::move(value)) {}
  Tensor(Array value, detail::Edge edge) : value_(std::move(value)), edge_(std::move(edge)) {}

  bool defined() const { return value_.defined(); }
  explicit operator bool() const = delete;  // is it the value or being defined? say which

  // --- value ---------------------------------------------------------------------------------
  // All but defined() throw ValueError where the tensor is undefined.
  DType dtype() const { return checked().dtype(); }
  int dim() const { return checked().rank(); }
  int64_t numel() const { return checked().numel(); }
  Shape shape() const { return checked().shape(); }
  /// Size of a dimension; negative counts from the last. Throws IndexError.
  int64_t size(int64_t axis) const;
  bool is_contiguous() const { return checked().is_contiguous(); }
  /// The value, brought up to date where it is a parameter whose optimiser defers work.
  const Array& array() const;
  /// Elements; the tensor must be contiguous. Throws DTypeError on another type, ValueError where
  /// it is not contiguous.
  template <class T>
  const T* data() const {
    check_contiguous();
    return array().data<T>();
  }
  /// The only element, as T. Throws ShapeError where there is not exactly one.
  template <class T = double>
  T item() const {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(array().integer_item());
    } else {
      return static_cast<T>(array().item());
    }
  }
  /// Elements in row-major order, converted to T.
  template <class T>
  std::vector<T> to_vector() const;

  // --- gradient ------------------------------------------------------------------------------
  bool requires_grad() const { return static_cast<bool>(edge_); }
  bool is_leaf() const { return !edge_ || edge_.node()->is_leaf(); }
  /// Plays the tape back from this scalar and adds the gradients to `.grad()` of every leaf it
  /// reaches. The tape is freed as it goes unless `retain_graph`. Throws GradError.
  void backward(bool retain_graph = false) const;
  /// The same from a tensor of any shape, starting with `gradient`, of the same shape.
  void backward(const Tensor& gradient, bool retain_graph = false) const;
  /// What backward() has added up at this leaf, dense and without history; undefined where nothing
  /// arrived yet. Throws GradError where the tensor is not a leaf.
  Tensor grad() const;
  void zero_grad() const;
  /// The same value, without history.
  Tensor detach() const { return Tensor(array()); }
  /// Calls `hook` with the gradient of this tensor whenever a playback has it complete. What it
  /// returns replaces the gradient, unless undefined, and must be of its shape and type. A hook
  /// that holds the tensor itself keeps it alive until it is removed. Throws GradError where no
  /// gradient is needed.
  HookHandle register_hook(std::function<Tensor(const Tensor&)> hook) const;
  void remove_hook(HookHandle handle) const;

  // --- ops as methods: see the function of that name in ops/ -----------------------------------
  Tensor to(DType dtype, Where where = Where::current()) const;
  Tensor contiguous(Where where = Where::current()) const;
  /// x[i], which drops the first axis; x[ids] and x[mask], which pick along it. More between the
  /// brackets is spelt index({1, Slice(2, 5), ids}), see ops/index.h.
  Tensor operator[](Index i) const;
  Tensor operator[](At picks) const;
  Tensor index(Span<const IndexItem> items, Where where = Where::current()) const;
  Tensor select(int64_t axis, int64_t index, Where where = Where::current()) const;
  Tensor narrow(int64_t axis, int64_t start, int64_t length, Where where = Where::current()) const;
  Tensor slice(int64_t axis, int64_t start, int64_t stop = INT64_MAX, int64_t step = 1,
               Where where = Where::current()) const;
  Tensor reshape(const Shape& shape, Where where = Where::current()) const;
  Tensor flatten(int64_t start_axis = 0, int64_t end_axis = -1,
                 Where where = Where::current()) const;
  Tensor t(Where where = Where::current()) const;
  Tensor transpose(int64_t axis0, int64_t axis1, Where where = Where::current()) const;
  Tensor permute(Axes axes, Where where = Where::current()) const;
  Tensor squeeze(Axes axes = {}, Where where = Where::current()) const;
  Tensor unsqueeze(int64_t axis, Where where = Where::current()) const;
  Tensor expand(const Shape& shape, Where where = Where::current()) const;
  Tensor gather(int64_t axis, const Tensor& indices, Where where = Where::current()) const;
  Tensor masked_fill(const Tensor& mask, double value, Where where = Where::current()) const;
  Tensor sum(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor mean(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor prod(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  /// Values alone, as amax(): all that attain an extreme share its gradient. The functions max(x,
  /// axis) and min(x, axis) give the index too, and the gradient to it alone.
  Tensor max(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor min(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor argmax(std::optional<int64_t> axis = std::nullopt, bool keepdim = false,
                Where where = Where::current()) const;
  Tensor argmin(std::optional<int64_t> axis = std::nullopt, bool keepdim = false,
                Where where = Where::current()) const;
  Tensor var(Axes axes = {}, double correction = 1, bool keepdim = false,
             Where where = Where::current()) const;
  Tensor std(Axes axes = {}, double correction = 1, bool keepdim = false,
             Where where = Where::current()) const;
  Tensor norm(double p = 2, Axes axes = {}, bool keepdim = false,
              Where where = Where::current()) const;
  Tensor logsumexp(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor cumsum(int64_t axis, Where where = Where::current()) const;
  Tensor cumprod(int64_t axis, Where where = Where::current()) const;
  Tensor any(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor all(Axes axes = {}, bool keepdim = false, Where where = Where::current()) const;
  Tensor softmax(int64_t axis, Where where = Where::current()) const;
  Tensor log_softmax(int64_t axis, Where where = Where::current()) const;
  Tensor matmul(const Tensor& other, Where where = Where::current()) const;

  // --- for ops and the engine -------------------------------------------------------------------
  /// The value as it lies in memory; array() is for everybody else.
  const Array& value() const { return value_; }
  const detail::Edge& edge() const { return edge_; }
  /// Takes over the caller's references; `node` may be null.
  static Tensor adopt(detail::ArrayRep* rep, detail::Node* node) {
    return Tensor(Array::adopt(rep), detail::Edge::adopt(node, 0));
  }

 private:
  friend struct detail::Leaf;
  void check_contiguous() const;
  const Array& checked() const {
    if (!value_.defined()) [[unlikely]]
      detail::throw_undefined("tensor");
    return value_;
  }

  Array value_;
  detail::Edge edge_;
};
static_assert(sizeof(Tensor) == 16);

/// The value, type and shape, and the op it came from.
std::string to_string(const Tensor& t);

struct At {
  At(const Tensor& t, Where w = Where::current())  // NOLINT(google-explicit-constructor)
      : tensor(&t), where(w) {}
  At(const Parameter& p, Where w = Where::current());  // NOLINT(google-explicit-constructor)
  const Tensor* tensor;
  Where where;
};

// Arithmetic with NumPy's broadcasting; see ops/elementwise.h for the functions behind.
Tensor operator-(At x);
Tensor operator+(At a, At b);
Tensor operator-(At a, At b);
Tensor operator*(At a, At b);
Tensor operator/(At a, At b);
Tensor operator+(At a, double b);
Tensor operator-(At a, double b);
Tensor operator*(At a, double b);
Tensor operator/(At a, double b);
Tensor operator+(double a, At b);
Tensor operator-(double a, At b);
Tensor operator*(double a, At b);
Tensor operator/(double a, At b);
// Comparisons give bool tensors, element by element; no gradient.
Tensor operator<(At a, At b);
Tensor operator<=(At a, At b);
Tensor operator>(At a, At b);
Tensor operator>=(At a, At b);
Tensor operator<(At a, double b);
Tensor operator<=(At a, double b);
Tensor operator>(At a, double b);
Tensor operator>=(At a, double b);

}  // namespace ebb
