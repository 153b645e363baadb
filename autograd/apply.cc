// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/shape_memo.h"

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

// A call of an op: its inputs looked at once, and what the rest needs of them kept. N is how many
// they are, or kAny.
constexpr size_t kAny = 0;

template <size_t N>
class Call {
 public:
  [[gnu::always_inline]] Call(const OpDef& def, const void* attrs, Inputs in, Where where)
      : def_(def), attrs_(attrs), in_(in.data()), where_(where), count_(in.size()) {
    Array* at = inline_;
    if (N == kAny && count_ > kInline) [[unlikely]]
      at = many_ = PoolAllocator<Array>().allocate(count_);
    values_ = at;
    for_inputs([&](size_t i) {
      new (at + i) Array(Array::adopt(in[i]->value().rep()));
      const Node* n = in[i]->edge().node();
      if (n == nullptr) return;
      tracked_ = true;
      first_ |= i < OpDef::kFirst ? 1u << i : 0u;
      seq_ = std::max(seq_, n->seq);
      flags_ |= n->flags();
    });
  }
  // The elements are not destroyed: their references are those of the tensors, which outlive this.
  ~Call() {
    if (N == kAny && many_ != nullptr) PoolAllocator<Array>().deallocate(many_, count_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The only output, not initialised (that of a view stays undefined), or what infer() throws.
  void make_output(Array* out) {
    alike_ = def_.elementwise && all_alike();
    if (alike_) {
      *out = Array::empty_like(values_[0]);
    } else if (const auto* known = ShapeMemo::find(def_, attrs_, values()); known != nullptr) {
      if (known->n_out != 1) throw_outputs(known->n_out);
      if (!def_.view) *out = known->make(tls_heap, 0);
    } else {
      const Metas metas = infer();
      if (metas.size() != 1) throw_outputs(metas.size());
      if (!def_.view) *out = Array::empty(metas[0]);
    }
  }

  // The same for any number of outputs.
  absl::InlinedVector<Array, 4, PoolAllocator<Array>> make_outputs() {
    absl::InlinedVector<Array, 4, PoolAllocator<Array>> out;
    if (const auto* found = ShapeMemo::find(def_, attrs_, values()); found != nullptr) {
      const ShapeMemo::Entry known = *found;  // see make()
      out.resize(known.n_out);
      for (size_t j = 0; j < out.size() && !def_.view; ++j) out[j] = known.make(tls_heap, j);
    } else {
      const Metas metas = infer();
      out.resize(metas.size());
      for (size_t j = 0; j < out.size() && !def_.view; ++j) out[j] = Array::empty(metas[j]);
    }
    return out;
  }

  void compute(Span<Array> out) {
    if ((flags_ & Node::kLazy) != 0) [[unlikely]]
      catch_up(def_, attrs_, {in_, size()});
    def_.forward(attrs_, values(), out);
    if (tls_tape.anomaly && !tls_tape.in_rule) [[unlikely]] {
      for (const Array& a : out) check_finite(a, def_.doc.name, "value", place());
    }
  }

  bool records() const { return tracked_ && tls_tape.grad_enabled && def_.backward != nullptr; }

  // Enters the op in the tape.
  Node* record(Span<const Array> out) const {
    if (size() > UINT16_MAX) {
      throw ValueError(
          absl::StrCat(def_.doc.name, ": ", size(), " inputs are more than ", UINT16_MAX));
    }
    const GradUses uses = used();
    // All that may run out of memory comes before the node holds anything.
    std::optional<Shapes> shapes;
    if (def_.saves_in && (uses.shapes != 0 || (def_.elementwise && !alike_))) {
      shapes.emplace(shapes_to_save(uses, out));
    }
    const size_t n_saved = (def_.saves_in ? size() : 0) + (def_.saves_out ? out.size() : 0);
    Node* const n = new_node(n_saved, static_cast<uint16_t>(out.size()));

    const ThreadHeap* const heap = n->heap;
    Edge* const edges = n->edges();
    for_inputs([&](size_t i) {
      const Edge& e = in_[i]->edge();
      if (e) retain_on(heap, e.node());
      new (edges + i) Edge(Edge::adopt(e));
    });
    auto* saved = reinterpret_cast<Array*>(edges + size());
    auto* version = reinterpret_cast<uint32_t*>(saved + n_saved);
    const auto save = [&](const Array& a, uint64_t wanted) {
      ArrayRep* const r = wanted != 0 ? a.rep() : nullptr;
      if (r != nullptr) retain_on(heap, r);
      new (saved++) Array(Array::adopt(r));
      *version++ = r != nullptr ? a.version() : 0;
    };
    if (def_.saves_in) {
      for_inputs([&](size_t i) { save(values_[i], uses.in & bit(static_cast<int>(i))); });
      for (size_t i = 0; shapes.has_value() && i < size(); ++i) {
        if ((*shapes)[i].defined()) n->saved()[i] = std::move((*shapes)[i]);
      }
    }
    if (def_.saves_out) {
      for (size_t j = 0; j < out.size(); ++j) save(out[j], uses.out & bit(static_cast<int>(j)));
    }
    return n;
  }

 private:
  static constexpr size_t kInline = 8;
  using Shapes = absl::InlinedVector<Array, 4, PoolAllocator<Array>>;

  size_t size() const { return N == kAny ? count_ : N; }

  // Calls f(i) for each input; unrolled where their number is known.
  template <class F>
  [[gnu::always_inline]] void for_inputs(F&& f) const {
    if constexpr (N == kAny) {
      for (size_t i = 0; i < count_; ++i) f(i);
    } else {
      [&]<size_t... i>(std::index_sequence<i...>) { (f(i), ...); }
      (std::make_index_sequence<N>());
    }
  }
  Span<const Array> values() const { return {values_, size()}; }
  Where place() const { return tls_tape.placed ? tls_tape.where : where_; }

  // Same floating type and shape everywhere: the case in which an elementwise op need not infer.
  bool all_alike() const {
    const Array& first = values_[0];
    if (!first.defined() || !is_differentiable(first.dtype())) return false;
    for (size_t i = 1; i < size(); ++i) {
      const Array& a = values_[i];
      if (!a.defined() || a.dtype() != first.dtype() || !a.same_shape(first)) return false;
    }
    return true;
  }

  Metas infer() const {
    absl::InlinedVector<Meta, 8, PoolAllocator<Meta>> metas;
    metas.reserve(size());
    for (const Array& a : values()) {
      if (!a.defined() && !def_.absent_inputs) {
        throw ValueError(absl::StrCat(def_.doc.name, ": input ", metas.size(), " is undefined"));
      }
      metas.push_back(a.defined() ? a.meta() : Meta{});
    }
    Metas out = def_.infer(attrs_, metas);
    ShapeMemo::keep(def_, attrs_, values(), out);
    return out;
  }

  [[noreturn]] void throw_outputs(size_t n) const {
    throw Error(absl::StrCat(def_.doc.name, ": has ", n, " outputs; call it by apply_multi"));
  }

  // What the gradients that are wanted read.
  GradUses used() const {
    GradUses uses;
    if (!def_.uses_by_attrs) uses = def_.first_uses[first_];
    for (size_t i = def_.uses_by_attrs ? 0 : OpDef::kFirst; i < size(); ++i) {
      if (in_[i]->edge()) uses |= def_.uses(attrs_, static_cast<int>(i));
    }
    return uses;
  }

  // Of the inputs whose shape is saved but not the value.
  Shapes shapes_to_save(const GradUses& uses, Span<const Array> out) const {
    Shapes shapes(size());
    for (size_t i = 0; i < size(); ++i) {
      const Array& a = values_[i];
      const uint64_t b = bit(static_cast<int>(i));
      if (!a.defined() || (uses.in & b) != 0) continue;
      if ((uses.shapes & b) != 0 || (def_.elementwise && !a.same_shape(out[0]))) {
        shapes[i] = Array::shape_only(a);
      }
    }
    return shapes;
  }

  // All of a node but its edges and what it saves.
  Node* new_node(size_t n_saved, uint16_t n_out) const {
    auto* n = static_cast<Node*>(allocate(node_bytes(size(), n_saved, def_.attrs_size)));
    n->n_inputs = static_cast<uint16_t>(size());
    n->n_saved = static_cast<uint16_t>(n_saved);
    if (def_.copy_attrs != nullptr) {
      try {
        def_.copy_attrs(n->attrs(), attrs_);
      } catch (...) {
        deallocate(n);
        throw;
      }
    } else if (def_.attrs_size != 0) {
      std::memcpy(n->attrs(), attrs_, def_.attrs_size);
    }
    n->kind = BlockKind::kNode;
    n->tag0 = 0;
    n->tag3 = n_out;
    n->def = &def_;
    n->where = place();
    n->extras = nullptr;
    n->slot = 0;
    ThreadHeap* const heap = n->heap;
    n->seq = heap->clock = std::max(heap->clock, seq_) + 1;
    return n;
  }

  const OpDef& def_;
  const void* const attrs_;
  const Tensor* const* const in_;
  const Where where_;
  const size_t count_;
  const Array* values_;
  Array* many_ = nullptr;
  union {
    Array inline_[kInline];  // values_ points to them, unless there are more
  };
  uint64_t seq_ = 0;      // the largest of the inputs' nodes
  uint32_t first_ = 0;    // which of the first inputs require a gradient, as bits
  uint8_t flags_ = 0;     // of all the inputs' nodes
  bool tracked_ = false;  // some input requires a gradient
  bool alike_ = false;    // it is elementwise and no input is broadcast
};

}  // namespace

namespace {

template <size_t N>
Tensor apply_to(const OpDef& def, const void* attrs, Inputs in, Where where) {
  Call<N> call(def, attrs, in, where);
  Array out;
  call.make_output(&out);
  call.compute({&out, 1});
  if (!call.records() || !is_differentiable(out.dtype())) return Tensor(std::move(out));
  Node* n = call.record({&out, 1});
  return Tensor(std::move(out), Edge::adopt(n, 0));
}

}  // namespace

Tensor apply_one(const OpDef& def, const void* attrs, Inputs in, Where where) {
  switch (in.size()) {
    case 1:
      return apply_to<1>(def, attrs, in, where);
    case 2:
      return apply_to<2>(def, attrs, in, where);
    case 3:
      return apply_to<3>(def, attrs, in, where);
    default:
      return apply_to<kAny>(def, attrs, in, where);
  }
}

void apply_all(const OpDef& def, const void* attrs, Inputs in, Outputs* result, Where where) {
  Call<kAny> call(def, attrs, in, where);
  auto out = call.make_outputs();
  call.compute(absl::MakeSpan(out));
  const bool recording = call.records();
  Edge edge;
  if (recording) edge = Edge::adopt(call.record(out), 0);
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
