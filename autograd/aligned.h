// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "ebb/autograd/op.h"

// The shortest way into the tape: an elementwise op of one or two inputs of the same type and
// shape, in row-major order. Included by op.h.
//
// Every instruction here is one of each op's, and on small arrays they are what an op costs. So the
// way is compiled for each op, with the sizes of its node known; what depends on the thread is
// looked up once; and all that is rare is left to apply_one().
namespace ebb::detail {

constexpr size_t align16(size_t n) { return (n + 15) & ~size_t{15}; }

/// Bytes of a node, and where its attributes start: at the end of the rest.
constexpr size_t node_bytes(size_t n_in, size_t n_saved, size_t attrs_size) {
  const size_t fixed =
      sizeof(Node) + n_in * sizeof(Edge) + n_saved * (sizeof(Array) + sizeof(uint32_t));
  return attrs_size == 0 ? fixed : align16(fixed) + attrs_size;
}

/// What is saved of the inputs (outputs) where those of the bits `wanted` require a gradient.
template <class Op, uint32_t wanted>
[[gnu::always_inline]] inline uint64_t saved_bits(const typename Op::Attrs& attrs,
                                                  uint64_t GradUses::*field) {
  if constexpr (UsesByAttrs<Op>) {
    GradUses uses;
    for (int i = 0; i < 2; ++i) {
      if ((wanted >> i & 1) != 0) uses |= Op::uses(attrs, i);
    }
    return uses.*field;
  } else {
    return kOpDef<Op>.first_uses[wanted].*field;
  }
}

/// The node of an op that is being run. `nodes` are those of the inputs, which are there where the
/// bits of `wanted` say so.
template <class Op, int n_in, uint32_t wanted>
[[gnu::always_inline]] inline Node* record_aligned(ThreadHeap* heap,
                                                   const typename Op::Attrs& attrs,
                                                   const Tensor* const (&in)[n_in],
                                                   Node* const (&nodes)[n_in], ArrayRep* out,
                                                   Where where) {
  constexpr const OpDef& kDef = kOpDef<Op>;
  static_assert(kDef.saves_in);  // an elementwise op has places for its inputs' shapes
  constexpr int kSaved = n_in + (kDef.saves_out ? 1 : 0);
  constexpr size_t kBytes = node_bytes(n_in, kSaved, kDef.attrs_size);
  auto* n = static_cast<Node*>(allocate_on(heap, kBytes));
  n->kind = BlockKind::kNode;
  n->tag0 = kDef.backward_aligned != nullptr || kDef.passes_gradient ? Node::kAligned : 0;
  n->tag1 = 0;
  n->tag2 = 0;
  n->tag3 = 1;
  n->def = &kDef;
  n->where = where;
  n->extras = nullptr;
  n->slot = 0;
  n->n_inputs = n_in;
  n->n_saved = kSaved;
  uint64_t seq = heap->clock;
  auto* edges = reinterpret_cast<Edge*>(n + 1);
#pragma GCC unroll 2
  for (int i = 0; i < n_in; ++i) {
    if ((wanted >> i & 1) == 0) {
      new (&edges[i]) Edge;
      continue;
    }
    Node* m = nodes[i];
    if (counts_on(heap, m)) [[likely]] {
      ++m->local;  // and its clock is not ahead of this heap's
    } else {
      seq = std::max(seq, m->seq);
      retain_shared(m);
    }
    new (&edges[i]) Edge(Edge::adopt(in[i]->edge()));
  }
  n->seq = heap->clock = seq + 1;
  auto* saved = reinterpret_cast<Array*>(edges + n_in);
  auto* version = reinterpret_cast<uint32_t*>(saved + kSaved);
  const uint64_t save_in = saved_bits<Op, wanted>(attrs, &GradUses::in);
#pragma GCC unroll 2
  for (int i = 0; i < n_in; ++i) {
    ArrayRep* a = nullptr;
    uint32_t v = 0;
    if ((save_in >> i & 1) != 0) {
      a = in[i]->value().rep();
      v = in[i]->value().version();
      retain_on(heap, a);
    }
    new (&saved[i]) Array(Array::adopt(a));
    version[i] = v;
  }
  if constexpr (kDef.saves_out) {
    const bool used = (saved_bits<Op, wanted>(attrs, &GradUses::out) & 1) != 0;
    if (used) ++out->local;
    new (&saved[n_in]) Array(Array::adopt(used ? out : nullptr));
    version[n_in] = 0;
  }
  if constexpr (kDef.attrs_size != 0) {
    std::memcpy(reinterpret_cast<std::byte*>(n) + kBytes - kDef.attrs_size, &attrs,
                kDef.attrs_size);
  }
  return n;
}

/// Runs the op, `values` being its inputs, and records it where the bits `wanted` ask for it:
/// before it is computed, which leaves nothing to do after the kernel.
template <class Op, int n_in, uint32_t wanted>
[[gnu::always_inline]] inline Tensor run_aligned(ThreadHeap* heap, const typename Op::Attrs& attrs,
                                                 const Tensor* const (&in)[n_in],
                                                 const ArrayRep* const (&values)[n_in],
                                                 Node* const (&nodes)[n_in], Where where) {
  ArrayRep* const out = new_like_on(heap, values[0]);
  Node* n = nullptr;
  if constexpr (wanted != 0) {
    try {
      n = record_aligned<Op, n_in, wanted>(heap, attrs, in, nodes, out, where);
    } catch (...) {
      destroy_array(out);
      throw;
    }
  }
  Tensor result = Tensor::adopt(out, n);
  const void* data[n_in];
#pragma GCC unroll 2
  for (int i = 0; i < n_in; ++i) data[i] = values[i]->data;
  Op::forward_aligned(attrs, values[0]->dtype(), data, out->data,
                      static_cast<size_t>(values[0]->numel));
  return result;
}

/// The way of all that is not aligned, or otherwise rare.
template <class Op, class... T>
[[gnu::noinline]] Tensor apply_unaligned(const typename Op::Attrs& attrs, Where where,
                                         const T*... in) {
  const Tensor* const inputs[] = {in...};
  if constexpr (requires { &Op::unaligned; }) {
    return Op::unaligned(inputs, where);
  } else {
    return apply_one(kOpDef<Op>, &attrs, inputs, where);
  }
}

template <class Op, int n_in>
[[gnu::always_inline]] inline Tensor apply_aligned(const typename Op::Attrs& attrs,
                                                   const Tensor* const (&in)[n_in], Where where) {
  static_assert(std::is_trivially_copyable_v<typename Op::Attrs>);
  static_assert(n_in <= 2);
  ThreadHeap* const heap = tls_heap;
  const ArrayRep* values[n_in];
  Node* nodes[n_in];
  uint32_t flags = 0;
#pragma GCC unroll 2
  for (int i = 0; i < n_in; ++i) {
    values[i] = in[i]->value().rep();
    nodes[i] = in[i]->edge().node();
    if (nodes[i] != nullptr) flags |= nodes[i]->flags();
  }
  const auto unaligned = [&] {
    if constexpr (n_in == 1) {
      return apply_unaligned<Op>(attrs, where, in[0]);
    } else {
      return apply_unaligned<Op>(attrs, where, in[0], in[1]);
    }
  };
  if (heap == nullptr || values[0] == nullptr || values[n_in - 1] == nullptr ||
      !aligned(values[0], values[n_in - 1]) || !is_differentiable(values[0]->dtype()) ||
      (flags & Node::kLazy) != 0) [[unlikely]] {
    return unaligned();
  }
  if (!tls_tape.usual()) [[unlikely]] {
    if (tls_tape.anomaly) return unaligned();
    if (tls_tape.placed) where = tls_tape.where;
    if (!tls_tape.grad_enabled) {
      for (Node*& n : nodes) n = nullptr;
    }
  }
  if constexpr (requires { &Op::backward; }) {
    if constexpr (n_in == 2) {
      if (nodes[0] != nullptr && nodes[1] != nullptr) [[likely]] {
        return run_aligned<Op, n_in, 3>(heap, attrs, in, values, nodes, where);
      }
      if (nodes[1] != nullptr) {
        return run_aligned<Op, n_in, 2>(heap, attrs, in, values, nodes, where);
      }
    }
    if (nodes[0] != nullptr) {
      return run_aligned<Op, n_in, 1>(heap, attrs, in, values, nodes, where);
    }
  }
  return run_aligned<Op, n_in, 0>(heap, attrs, in, values, nodes, where);
}

}  // namespace ebb::detail
