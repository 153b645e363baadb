// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/shape_memo.h"

// What a call of an op does: internal to apply.cc and to ops that are compiled into it.
namespace ebb::detail {

using Inputs = Span<const Tensor* const>;

/// Applies deferred updates of what the op is about to read.
void catch_up(const OpDef& def, const void* attrs, Inputs in);

/// For any number of inputs.
inline constexpr size_t kAny = 0;

/// A call of an op: its inputs looked at once, and what the rest needs of them kept. N is how many
/// they are, or kAny; Op is the op where the compiler knows it, or void.
template <size_t N, class Op = void>
class Call {
 public:
  [[gnu::always_inline]] Call(const OpDef& def, const void* attrs, Inputs in, Where where)
      : def_(&def), attrs_(attrs), in_(in.data()), where_(where), count_(in.size()) {
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
    alike_ = def().elementwise && all_alike();
    if (alike_) {
      *out = Array::empty_like(values_[0]);
    } else if (const auto* known = ShapeMemo::find(def(), attrs_, values()); known != nullptr) {
      if (known->n_out != 1) throw_outputs(known->n_out);
      if (!def().view) *out = known->make(tls_heap, 0);
    } else {
      const Metas metas = infer();
      if (metas.size() != 1) throw_outputs(metas.size());
      if (!def().view) *out = Array::empty(metas[0]);
    }
  }

  // The same for any number of outputs.
  absl::InlinedVector<Array, 4, PoolAllocator<Array>> make_outputs() {
    absl::InlinedVector<Array, 4, PoolAllocator<Array>> out;
    if (const auto* found = ShapeMemo::find(def(), attrs_, values()); found != nullptr) {
      const ShapeMemo::Entry known = *found;  // see make()
      out.resize(known.n_out);
      for (size_t j = 0; j < out.size() && !def().view; ++j) out[j] = known.make(tls_heap, j);
    } else {
      const Metas metas = infer();
      out.resize(metas.size());
      for (size_t j = 0; j < out.size() && !def().view; ++j) out[j] = Array::empty(metas[j]);
    }
    return out;
  }

  void compute(Span<Array> out) {
    if ((flags_ & Node::kLazy) != 0) [[unlikely]]
      catch_up(def(), attrs_, {in_, size()});
    def().forward(attrs_, values(), out);
    if (tls_tape.anomaly && !tls_tape.in_rule) [[unlikely]] {
      for (const Array& a : out) check_finite(a, def().doc.name, "value", place());
    }
  }

  bool records() const { return tracked_ && tls_tape.grad_enabled && def().backward != nullptr; }

  // Enters the op in the tape.
  Node* record(Span<const Array> out) const {
    if (size() > UINT16_MAX) {
      throw ValueError(
          absl::StrCat(def().doc.name, ": ", size(), " inputs are more than ", UINT16_MAX));
    }
    const GradUses uses = used();
    // All that may run out of memory comes before the node holds anything.
    std::optional<Shapes> shapes;
    if (def().saves_in && (uses.shapes != 0 || (def().elementwise && !alike_))) {
      shapes.emplace(shapes_to_save(uses, out));
    }
    const size_t n_saved = (def().saves_in ? size() : 0) + (def().saves_out ? out.size() : 0);
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
    if (def().saves_in) {
      for_inputs([&](size_t i) { save(values_[i], uses.in & bit(static_cast<int>(i))); });
      for (size_t i = 0; shapes.has_value() && i < size(); ++i) {
        if ((*shapes)[i].defined()) n->saved()[i] = std::move((*shapes)[i]);
      }
    }
    if (def().saves_out) {
      for (size_t j = 0; j < out.size(); ++j) save(out[j], uses.out & bit(static_cast<int>(j)));
    }
    return n;
  }

 private:
  static constexpr size_t kInline = 8;
  using Shapes = absl::InlinedVector<Array, 4, PoolAllocator<Array>>;

  size_t size() const { return N == kAny ? count_ : N; }
  const OpDef& def() const {
    if constexpr (std::is_void_v<Op>) {
      return *def_;
    } else {
      return kOpDef<Op>;
    }
  }

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
      if (!a.defined() && !def().absent_inputs) {
        throw ValueError(absl::StrCat(def().doc.name, ": input ", metas.size(), " is undefined"));
      }
      metas.push_back(a.defined() ? a.meta() : Meta{});
    }
    Metas out = def().infer(attrs_, metas);
    ShapeMemo::keep(def(), attrs_, values(), out);
    return out;
  }

  [[noreturn]] void throw_outputs(size_t n) const {
    throw Error(absl::StrCat(def().doc.name, ": has ", n, " outputs; call it by apply_multi"));
  }

  // What the gradients that are wanted read.
  GradUses used() const {
    GradUses uses;
    if (!def().uses_by_attrs) uses = def().first_uses[first_];
    for (size_t i = def().uses_by_attrs ? 0 : OpDef::kFirst; i < size(); ++i) {
      if (in_[i]->edge()) uses |= def().uses(attrs_, static_cast<int>(i));
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
      if ((uses.shapes & b) != 0 || (def().elementwise && !a.same_shape(out[0]))) {
        shapes[i] = Array::shape_only(a);
      }
    }
    return shapes;
  }

  // All of a node but its edges and what it saves.
  Node* new_node(size_t n_saved, uint16_t n_out) const {
    auto* n = static_cast<Node*>(allocate(node_bytes(size(), n_saved, def().attrs_size)));
    n->n_inputs = static_cast<uint16_t>(size());
    n->n_saved = static_cast<uint16_t>(n_saved);
    if (def().copy_attrs != nullptr) {
      try {
        def().copy_attrs(n->attrs(), attrs_);
      } catch (...) {
        deallocate(n);
        throw;
      }
    } else if (def().attrs_size != 0) {
      std::memcpy(n->attrs(), attrs_, def().attrs_size);
    }
    n->kind = BlockKind::kNode;
    n->tag0 = 0;
    n->tag3 = n_out;
    n->def = &def();
    n->where = place();
    n->extras = nullptr;
    n->slot = 0;
    ThreadHeap* const heap = n->heap;
    n->seq = heap->clock = std::max(heap->clock, seq_) + 1;
    return n;
  }

  const OpDef* const def_;
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

/// apply_one() for a known number of inputs, or kAny.
template <size_t N, class Op = void>
Tensor apply_to(const OpDef& def, const void* attrs, Inputs in, Where where) {
  Call<N, Op> call(def, attrs, in, where);
  Array out;
  call.make_output(&out);
  call.compute({&out, 1});
  if (!call.records() || !is_differentiable(out.dtype())) return Tensor(std::move(out));
  Node* n = call.record({&out, 1});
  return Tensor(std::move(out), Edge::adopt(n, 0));
}

/// apply() compiled for the op, which spares looking up at run time what it is like: for ops that
/// are called on single vectors, where that is as long as what they compute.
template <class Op, class... T>
Tensor apply_compiled(const typename Op::Attrs& attrs, Where where, const T&... inputs) {
  const Tensor* const in[] = {&inputs...};
  return apply_to<sizeof...(T), Op>(kOpDef<Op>, &attrs, in, where);
}

}  // namespace ebb::detail
