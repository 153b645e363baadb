// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "ebb/autograd/op.h"

// The shortest way of a playback, after aligned.h, the shortest way into the tape: internal to
// pass.h.
namespace ebb::detail {

/// What Pass::play() does, all at once and with nothing left to find out, for an elementwise op of
/// one or two inputs on aligned arrays: its kernel writes straight into the buffers of the
/// gradients in flight, its slot goes to the node that it leads to, and with it the node's own
/// reference. On small arrays this is what an op costs.
template <class Pass>
class ShortWay {
 public:
  explicit ShortWay(Pass& pass) : pass_(pass) {}

  /// Plays the node of a slot; or does nothing, and says false.
  bool play(uint32_t at) {
    const auto& slot = pass_.slots_[at];
    Node& n = *slot.node;
    if (!pass_.brief_ || n.heap != pass_.own_heap_ ||
        (n.flags() & (Node::kAligned | Node::kPlayed)) != Node::kAligned || n.extras != nullptr ||
        slot.is.ends() || !slot.grad.is_dense()) {
      return false;
    }
    return n.n_inputs == 1 ? play<1>(n, at) : play<2>(n, at);
  }

 private:
  template <int n_in>
  bool play(Node& n, uint32_t at) {
    ThreadHeap* const heap = pass_.own_heap_;
    const OpDef& def = *n.def;
    ArrayRep* const g = pass_.slots_[at].grad.dense_part().rep();
    if (!g->contiguous()) return false;
    auto* const edges = reinterpret_cast<Edge*>(&n + 1);
    auto* const saved = reinterpret_cast<Array*>(edges + n_in);
    AlignedGrads a;
    if (!values_of<n_in>(n, g, a.saved)) return false;

    // Where each gradient goes: to a sum that is there, or into a buffer of its own.
    a.add = 0;
    ArrayRep* fresh[n_in] = {};
    uint32_t first = 0;  // the slot of the first input's node
    uint32_t wanted = 0;
    bool reusable = g->root == g && is_unique_on(heap, g);
    try {
#pragma GCC unroll 2
      for (int i = 0; i < n_in; ++i) {
        a.dx[i] = nullptr;
        Node* m = edges[i].node();
        if (m == nullptr) continue;
        const uint32_t s = pass_.find(m);
        if (i == 0) first = s;
        if (pass_.targeted_ && (s == Pass::kNone || !pass_.slots_[s].is.needed)) continue;
        wanted |= 1u << i;
        if (def.accumulates && s != Pass::kNone && edges[i].output() == 0) {
          const Gradient& sum = pass_.slots_[s].grad;
          if (is_sum(sum, g)) {
            a.dx[i] = sum.dense_part().rep()->data;
            a.add |= 1u << i;
            continue;
          }
        }
        if (def.passes_gradient) {
          fresh[i] = g;
        } else {
          fresh[i] = std::exchange(reusable, false) ? g : new_like_on(heap, g);
          a.dx[i] = fresh[i]->data;
        }
      }
      if (wanted == 0) return false;
      if (!def.passes_gradient || a.add != 0) {
        a.dtype = g->dtype();
        a.n = static_cast<size_t>(g->numel);
        a.g = g->data;
        const auto* versions = reinterpret_cast<const uint32_t*>(saved + n.n_saved);
        const auto attrs = align16(reinterpret_cast<uintptr_t>(versions + n.n_saved));
        def.backward_aligned(reinterpret_cast<const void*>(attrs), a);
      }
    } catch (...) {
      for (ArrayRep* r : fresh) {
        if (r != nullptr && r != g) destroy_array_on(heap, r);
      }
      throw;
    }

    Node* const next = edges[0].node();
    const bool alone =
        fresh[0] == g && (n_in == 1 || fresh[n_in - 1] == nullptr) && edges[0].output() == 0;
    if (alone && first == Pass::kNone && next->heap == heap && !next->is_leaf()) [[likely]] {
      pass_.enqueue(next->seq, at);  // which may run out of memory, and so comes first
      pass_.slots_[at].node = edges[0].release();
      next->slot = at;
    } else if (alone && first != Pass::kNone && !pass_.slots_[first].is.queued) {
      pass_.start(*next, first);
      pass_.slots_[first].grad = std::move(pass_.slots_[at].grad);
      give_up(at);
    } else {
      deliver(n, at, fresh, n_in);
    }
    dismantle<n_in>(n);
    return true;
  }

  // Hands on the gradients in `fresh`, each of which is g or a new one, and gives up the slot.
  void deliver(Node& n, uint32_t at, ArrayRep* const* fresh, int n_in) {
    Array g = std::move(pass_.slots_[at].grad).take_dense();
    Array dx[2];
    for (int i = 0; i < n_in; ++i) dx[i] = fresh[i] == g.rep() ? g : Array::adopt(fresh[i]);
    g = Array();
    for (int i = 0; i < n_in; ++i) {
      if (dx[i].defined()) pass_.accumulate(n.edges()[i], Gradient(std::move(dx[i])));
    }
    give_up(at);
  }

  // The slot of a node that is dismantled.
  void give_up(uint32_t at) {
    pass_.free_.push_back(at);
    pass_.slots_[at].is = {};
    pass_.slots_[at].node = nullptr;
  }

  // Data of the saved arrays, null for those that were not saved; false where one was overwritten
  // or is not what `g` is the gradient of.
  template <int n_in>
  static bool values_of(const Node& n, const ArrayRep* g, const void** data) {
    const int64_t numel = g->numel;
    const uint8_t dtype = g->tag0;
    const auto* const saved =
        reinterpret_cast<const Array*>(reinterpret_cast<const Edge*>(&n + 1) + n_in);
    const int n_saved = n.n_saved;
    const auto* const version = reinterpret_cast<const uint32_t*>(saved + n_saved);
#pragma GCC unroll 3
    for (int i = 0; i <= n_in; ++i) {
      if (i == n_in && n_saved == n_in) break;
      const ArrayRep* r = saved[i].rep();
      const void* at = nullptr;
      if (r != nullptr) {
        if (r->root->version.load(std::memory_order_relaxed) != version[i] || r->numel != numel ||
            r->tag0 != dtype) {
          return false;
        }
        at = r->data;
      }
      data[i] = at;
    }
    return true;
  }

  // A buffer of this pass alone, like `g`, to add to in place.
  [[gnu::always_inline]] bool is_sum(const Gradient& sum, const ArrayRep* g) const {
    const ArrayRep* s = sum.dense_part().rep();
    return s != nullptr && sum.is_dense() && s->root == s && s->tags() == g->tags() &&
           s->numel == g->numel && is_unique_on(pass_.own_heap_, s);
  }

  // Ends a node that was played and has no slot any more: what nobody else holds is freed.
  template <int n_in>
  void dismantle(Node& n) {
    ThreadHeap* const heap = pass_.own_heap_;
    if (!is_unique_on(heap, &n)) [[unlikely]] {
      Pass::clear(n);
      if (release_on(heap, &n)) release_last(&n);
      return;
    }
    auto* const edges = reinterpret_cast<Edge*>(&n + 1);
    auto* const saved = reinterpret_cast<Array*>(edges + n_in);
#pragma GCC unroll 2
    for (int i = 0; i < n_in; ++i) {
      Node* m = edges[i].node();
      if (m != nullptr && release_on(heap, m)) [[unlikely]]
        release_last(m);
    }
#pragma GCC unroll 3
    for (int i = 0; i <= n_in; ++i) {
      if (i == n_in && n.n_saved == n_in) break;
      ArrayRep* r = saved[i].rep();
      if (r != nullptr && release_on(heap, r)) destroy_array_on(heap, r);
    }
    deallocate_on(heap, &n);
  }

  Pass& pass_;
};

}  // namespace ebb::detail
