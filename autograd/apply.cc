// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

namespace ebb {
namespace detail {
namespace {

using Inputs = Span<const Tensor* const>;

// Deferred updates of what the op is about to read.
void catch_up(const OpDef& def, const void* attrs, Inputs in) {
  if (def.catches_up) return;
  for (size_t i = 0; i < in.size(); ++i) {
    Node* n = in[i]->edge().node();
    if (n == nullptr || (n->flags() & Node::kLazy) == 0) continue;
    const bool rows = i == 0 && def.reads_rows != nullptr && def.reads_rows(attrs);
    static_cast<Leaf*>(n)->catch_up(rows ? &in[1]->value() : nullptr);
  }
}

// The arrays of the inputs as a span, without counting references: the tensors outlive the call.
class BorrowedArrays {
 public:
  explicit BorrowedArrays(Inputs in) : size_(in.size()) {
    Array* at = inline_;
    if (size_ > kInline) at = heap_ = PoolAllocator<Array>().allocate(size_);
    begin_ = at;
    for (const Tensor* t : in) new (at++) Array(Array::adopt(t->value().rep()));
  }
  ~BorrowedArrays() {  // the elements are not destroyed: their references are not ours
    if (heap_ != nullptr) PoolAllocator<Array>().deallocate(heap_, size_);
  }
  BorrowedArrays(const BorrowedArrays&) = delete;
  BorrowedArrays& operator=(const BorrowedArrays&) = delete;
  Span<const Array> span() const { return {begin_, size_}; }

 private:
  static constexpr size_t kInline = 8;
  union {
    Array inline_[kInline];
  };
  Array* heap_ = nullptr;
  const Array* begin_;
  size_t size_;
};

// Same floating type and shape everywhere: the case in which an elementwise op need not infer.
bool all_alike(Inputs in) {
  const Array& first = in[0]->value();
  if (!first.defined() || !is_differentiable(first.dtype())) return false;
  for (size_t i = 1; i < in.size(); ++i) {
    const Array& a = in[i]->value();
    if (!a.defined() || a.dtype() != first.dtype() || !a.same_shape(first)) return false;
  }
  return true;
}

Metas infer(const OpDef& def, const void* attrs, Inputs in) {
  absl::InlinedVector<Meta, 8, PoolAllocator<Meta>> metas;
  metas.reserve(in.size());
  for (const Tensor* t : in) {
    if (!t->defined() && !def.absent_inputs) {
      throw ValueError(absl::StrCat(def.doc.name, ": input ", metas.size(), " is undefined"));
    }
    metas.push_back(t->defined() ? t->value().meta() : Meta{});
  }
  return def.infer(attrs, metas);
}

// What recording has to know of the inputs.
struct Tracked {
  bool any = false;    // one of them requires a gradient
  uint32_t first = 0;  // which of inputs 0 and 1 do, as bits
  uint64_t seq = 0;    // the largest of their nodes'
};

Tracked look_at_edges(const OpDef& def, const void* attrs, Inputs in) {
  Tracked t;
  for (size_t i = 0; i < in.size(); ++i) {
    const Node* n = in[i]->edge().node();
    if (n == nullptr) continue;
    t.any = true;
    t.first |= i < 2 ? 1u << i : 0u;
    t.seq = std::max(t.seq, n->seq);
    if ((n->flags() & Node::kLazy) != 0) [[unlikely]]
      catch_up(def, attrs, in);
  }
  return t;
}

// Of the inputs whose shape is saved but not the value.
[[gnu::noinline]] absl::InlinedVector<Array, 2> shapes_to_save(const OpDef& def,
                                                               const GradUses& uses, Inputs in,
                                                               Span<const Array> out) {
  absl::InlinedVector<Array, 2> shapes(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    const Array& a = in[i]->value();
    const uint64_t b = bit(static_cast<int>(i));
    if (!a.defined() || (uses.in & b) != 0) continue;
    if ((uses.shapes & b) != 0 || (def.elementwise && !a.same_shape(out[0]))) {
      shapes[i] = Array::shape_only(a);
    }
  }
  return shapes;
}

// Enters the op in the tape. `alike`: it is elementwise and no input was broadcast.
Node* record(const OpDef& def, const void* attrs, Inputs in, Span<const Array> out,
             const Tracked& tracked, bool alike, Where where) {
  const size_t n_in = in.size();
  if (n_in > UINT16_MAX) {
    throw ValueError(absl::StrCat(def.doc.name, ": ", n_in, " inputs are more than ", UINT16_MAX));
  }
  GradUses uses = def.pair_uses[tracked.first];
  if (def.uses_by_attrs) uses = {};
  for (size_t i = def.uses_by_attrs ? 0 : 2; i < n_in; ++i) {
    if (in[i]->edge()) uses |= def.uses(attrs, static_cast<int>(i));
  }
  // All that may run out of memory comes before the node holds anything.
  absl::InlinedVector<Array, 2> shapes;
  if (def.saves_in && (uses.shapes != 0 || (def.elementwise && !alike))) {
    shapes = shapes_to_save(def, uses, in, out);
  }
  const size_t n_saved = (def.saves_in ? n_in : 0) + (def.saves_out ? out.size() : 0);
  auto* n = static_cast<Node*>(allocate(node_bytes(n_in, n_saved, def.attrs_size)));
  n->n_inputs = static_cast<uint16_t>(n_in);
  n->n_saved = static_cast<uint16_t>(n_saved);
  if (def.copy_attrs != nullptr) {
    try {
      def.copy_attrs(n->attrs(), attrs);
    } catch (...) {
      deallocate(n);
      throw;
    }
  } else if (def.attrs_size != 0) {
    std::memcpy(n->attrs(), attrs, def.attrs_size);
  }
  n->kind = BlockKind::kNode;
  n->tag0 = 0;
  n->tag3 = static_cast<uint16_t>(out.size());
  n->def = &def;
  n->where = tls_tape.placed ? tls_tape.where : where;
  n->extras = nullptr;
  n->slot = 0;
  n->seq = tls_heap->clock = std::max(tls_heap->clock, tracked.seq) + 1;

  const ThreadHeap* heap = n->heap;
  Edge* edges = n->edges();
  for (const Tensor* t : in) {
    if (t->edge()) retain_on(heap, t->edge().node());
    new (edges++) Edge(Edge::adopt(t->edge()));
  }
  auto* saved = reinterpret_cast<Array*>(edges);
  auto* version = reinterpret_cast<uint32_t*>(saved + n_saved);
  const auto save = [&](const Array& a, bool wanted) {
    if (wanted) retain_on(heap, a.rep());
    new (saved++) Array(Array::adopt(wanted ? a.rep() : nullptr));
    *version++ = wanted ? a.version() : 0;
  };
  if (def.saves_in) {
    for (size_t i = 0; i < n_in; ++i) {
      const Array& a = in[i]->value();
      save(a, (uses.in & bit(static_cast<int>(i))) != 0 && a.defined());
      if (!shapes.empty() && shapes[i].defined()) saved[-1] = std::move(shapes[i]);
    }
  }
  if (def.saves_out) {
    for (size_t j = 0; j < out.size(); ++j) {
      save(out[j], (uses.out & bit(static_cast<int>(j))) != 0);
    }
  }
  return n;
}

bool records(const OpDef& def, const Tracked& tracked) {
  return tracked.any && tls_tape.grad_enabled && def.backward != nullptr;
}

void compute(const OpDef& def, const void* attrs, Inputs in, Span<Array> out, Where where) {
  const BorrowedArrays arrays(in);
  def.forward(attrs, arrays.span(), out);
  if (tls_tape.anomaly && !tls_tape.in_rule) [[unlikely]] {
    const Where place = tls_tape.placed ? tls_tape.where : where;
    for (const Array& a : out) check_finite(a, def.doc.name, "value", place);
  }
}

}  // namespace

Tensor apply_one(const OpDef& def, const void* attrs, Inputs in, Where where) {
  Array out;
  const bool alike = def.elementwise && all_alike(in);
  if (alike) [[likely]] {
    out = Array::empty_like(in[0]->value());
  } else {
    const Metas metas = infer(def, attrs, in);
    if (metas.size() != 1) {
      throw Error(
          absl::StrCat(def.doc.name, ": has ", metas.size(), " outputs; call it by apply_multi"));
    }
    if (!def.view) out = Array::empty(metas[0]);
  }
  const Tracked tracked = look_at_edges(def, attrs, in);
  compute(def, attrs, in, {&out, 1}, where);
  if (!records(def, tracked) || !is_differentiable(out.dtype())) return Tensor(std::move(out));
  Node* n = record(def, attrs, in, {&out, 1}, tracked, alike, where);
  return Tensor(std::move(out), Edge::adopt(n, 0));
}

void apply_all(const OpDef& def, const void* attrs, Inputs in, Outputs* result, Where where) {
  const Metas metas = infer(def, attrs, in);
  absl::InlinedVector<Array, 4, PoolAllocator<Array>> out(metas.size());
  if (!def.view) {
    for (size_t j = 0; j < metas.size(); ++j) out[j] = Array::empty(metas[j]);
  }
  const Tracked tracked_inputs = look_at_edges(def, attrs, in);
  compute(def, attrs, in, absl::MakeSpan(out), where);
  const bool recording = records(def, tracked_inputs);
  Edge edge;
  if (recording) edge = Edge::adopt(record(def, attrs, in, out, tracked_inputs, false, where), 0);
  for (size_t j = 0; j < out.size(); ++j) {
    const bool tracked = recording && is_differentiable(out[j].dtype());
    result->push_back(tracked
                          ? Tensor(std::move(out[j]), Edge(edge.node(), static_cast<uint16_t>(j)))
                          : Tensor(std::move(out[j])));
  }
}

Cost default_cost(Span<const Meta> in, Span<const Meta> out) {
  Cost c;
  for (const Meta& m : out) {
    const auto n = static_cast<double>(m.shape.numel());
    c.multiply_adds += n;
    c.bytes += n * static_cast<double>(size_of(m.dtype));
  }
  for (const Meta& m : in) {
    c.bytes += static_cast<double>(m.shape.numel()) * static_cast<double>(size_of(m.dtype));
  }
  return c;
}

}  // namespace detail

constinit const Array Saved::kNone;

namespace {

[[noreturn]] void not_saved(const detail::Node& n, const char* what, int i) {
  throw GradError(absl::StrCat(n.def->doc.name, ": its backward rule reads ", what, " ", i,
                               ", which uses() does not name"));
}

}  // namespace

const Array& Saved::in_array(int i) const {
  const Array& a = saved_in(i);
  if (!a.defined() || !a.has_data()) not_saved(*node_, "input", i);
  return a;
}

const Array& Saved::out_array(int j) const {
  const auto* def = node_->def;
  const int at = (def->saves_in ? node_->n_inputs : 0) + j;
  if (!def->saves_out || !node_->saved()[at].defined()) not_saved(*node_, "output", j);
  return node_->saved()[at];
}

Tensor Saved::in(int i) const {
  const Array& a = in_array(i);
  return graph_ ? Tensor(a, node_->edges()[i]) : Tensor(a);
}

Tensor Saved::out(int j) const {
  const Array& a = out_array(j);
  if (!graph_) return Tensor(a);
  return Tensor(a, detail::Edge(const_cast<detail::Node*>(node_), static_cast<uint16_t>(j)));
}

Shape Saved::in_shape(int i) const {
  const Array& a = saved_in(i);
  if (!a.defined()) not_saved(*node_, "the shape of input", i);
  return a.shape();
}

DType Saved::in_dtype(int i) const {
  const Array& a = saved_in(i);
  if (!a.defined()) not_saved(*node_, "the type of input", i);
  return a.dtype();
}

void require_inputs(const OpDoc& doc, Span<const Meta> in, size_t n) {
  if (in.size() == n) return;
  throw ShapeError(absl::StrCat(doc.name, ": takes ", n, " inputs, got ", in.size()));
}

void require_floating(const OpDoc& doc, Span<const Meta> in) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (is_differentiable(in[i].dtype)) continue;
    throw DTypeError(absl::StrCat(doc.name, ": input ", i, " is ", in[i].str(),
                                  "; it must be float32 or float64"));
  }
}

void require_same_dtype(const OpDoc& doc, Span<const Meta> in) {
  for (size_t i = 1; i < in.size(); ++i) {
    if (in[i].dtype == in[0].dtype) continue;
    throw DTypeError(absl::StrCat(doc.name, ": input 0 is ", in[0].str(), ", input ", i, " is ",
                                  in[i].str(), "; the types must be the same"));
  }
}

}  // namespace ebb
