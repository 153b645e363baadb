// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/tensor.h"

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

namespace ebb {
namespace detail {
namespace {

struct LeafOp {
  static constexpr OpDoc kDoc{"leaf", "a parameter or variable", "-> y:[...]"};
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta>) { return {}; }
  static void forward(const Attrs&, Span<const Array>, Span<Array>) {}
};

}  // namespace

void throw_undefined(const char* what) {
  throw ValueError(absl::StrCat("the ", what,
                                " is undefined: it was never given a value, or is a gradient that "
                                "nothing arrived at"));
}

Leaf* new_leaf(Array value) {
  if (!value.defined()) throw ValueError("variable: the value is undefined");
  if (!is_differentiable(value.dtype())) {
    throw DTypeError(
        absl::StrCat("variable: a leaf must be float32 or float64, not ", value.meta().str()));
  }
  Block* block = allocate(sizeof(Leaf));
  // The constructor would zero the head that the pool has set.
  ThreadHeap* heap = block->heap;
  const uint16_t size_class = block->size_class;
  auto* leaf = new (block) Leaf{};
  leaf->heap = heap;
  leaf->size_class = size_class;
  leaf->local = 1;
  leaf->kind = BlockKind::kNode;
  leaf->set_flag(Node::kLeaf);
  leaf->tag3 = 1;
  leaf->def = &kOpDef<LeafOp>;
  // What was recorded before cannot depend on it: grad() need not look there.
  leaf->seq = ++tls_heap->clock;
  leaf->self = Tensor(std::move(value), Edge::adopt(leaf, 0));
  return leaf;
}

void Leaf::catch_up(const Array* ids) {
  const std::lock_guard lock(mutex);
  if (lazy != nullptr) lazy->catch_up(*this, ids);
}

bool Leaf::owes_product() {
  const std::lock_guard lock(mutex);
  return lazy != nullptr && lazy->is_product();
}

}  // namespace detail

using detail::Edge;
using detail::Leaf;
using detail::Node;

int64_t Tensor::size(int64_t axis) const {
  if (dim() == 0) throw IndexError(absl::StrCat("size: a scalar has no axis ", axis));
  return value_.size(normalize_axis(axis, dim(), "size"));
}

const Array& Tensor::array() const {
  const Node* n = edge_.node();
  if (n != nullptr && (n->flags() & Node::kLazy) != 0) {
    static_cast<Leaf*>(edge_.node())->catch_up();
  }
  return checked();
}

void Tensor::check_contiguous() const {
  if (is_contiguous()) return;
  throw ValueError(absl::StrCat("data: ", value_.meta().str(),
                                " is a strided view; ask for contiguous() first"));
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Array a = ebb::contiguous(array());
  std::vector<T> out(static_cast<size_t>(a.numel()));
  const Array c = ebb::cast(a, dtype_of<T>);
  std::copy_n(c.data<T>(), out.size(), out.begin());
  return out;
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<uint8_t> Tensor::to_vector() const;

namespace {

Leaf& leaf_of(const Tensor& t, const char* what) {
  Node* n = t.edge().node();
  if (n == nullptr || !n->is_leaf()) {
    throw GradError(absl::StrCat(what, ": the tensor ", t.value().meta().str(),
                                 " is not a leaf; ask grad() for the gradient of a result"));
  }
  return *static_cast<Leaf*>(n);
}

}  // namespace

Tensor Tensor::grad() const {
  Leaf& leaf = leaf_of(*this, "grad");
  const detail::LeafLock lock(leaf);
  const Array& g = leaf.grad.dense();
  return g.defined() ? Tensor(ebb::contiguous(g)) : Tensor();
}

void Tensor::zero_grad() const {
  Leaf& leaf = leaf_of(*this, "zero_grad");
  const detail::LeafLock lock(leaf);
  leaf.grad = Gradient();
}

HookHandle Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) const {
  static std::atomic<uint64_t> next{1};
  if (!requires_grad()) {
    throw GradError(absl::StrCat("register_hook: the tensor ", value_.meta().str(),
                                 " does not require a gradient"));
  }
  if (!hook) throw ValueError("register_hook: the hook is empty");
  Node* n = edge_.node();
  if (n->extras == nullptr) n->extras = new detail::NodeExtras;
  const uint64_t id = next.fetch_add(1, std::memory_order_relaxed);
  n->extras->hooks.push_back({edge_.output(), id, std::move(hook)});
  return {id};
}

void Tensor::remove_hook(HookHandle handle) const {
  Node* n = edge_.node();
  if (n == nullptr || n->extras == nullptr) return;
  std::erase_if(n->extras->hooks, [&](const auto& h) { return h.id == handle.id; });
}

std::string to_string(const Tensor& t) {
  std::string s = to_string(t.defined() ? t.array() : Array());
  const Node* n = t.edge().node();
  if (n != nullptr) absl::StrAppend(&s, " <", n->def->doc.name, ">");
  return s;
}

Parameter::Parameter(const Tensor& value)
    : edge_(Edge::adopt(detail::new_leaf(value.array()), 0)) {}

void Parameter::copy_from(const Tensor& value) const {
  const Array& to = leaf().value();
  const Array from = cast(value.array(), to.dtype());
  if (!from.same_shape(to)) {
    throw ShapeError(absl::StrCat("copy_from: parameter ", leaf().name, " is ", to.shape().str(),
                                  ", value is ", from.shape().str()));
  }
  leaf().catch_up();
  copy_into(to, from);
  to.bump_version();
}

Tensor variable(const Tensor& x) {
  Leaf* leaf = detail::new_leaf(x.array());
  return Tensor(leaf->value(), Edge::adopt(leaf, 0));
}

}  // namespace ebb
