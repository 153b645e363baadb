// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>

#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"
#include "ebb/ops/kernels/blas.h"

// Batching during playback, after Neubig, Goldberg and Dyer 2017, "On-the-fly operation batching in
// dynamic computation graphs": internal to pass.h.
namespace ebb::detail {

/// A weight from this size on is gathered for: a smaller one stays in a cache near enough.
inline constexpr size_t kGatherBytes = size_t{128} << 10;
/// So many vectors share a pass over the weight; more gain nothing, and wait in memory.
inline constexpr size_t kGatherMost = 64;
/// A longer tape is played as it is: to look at all of it first takes memory.
inline constexpr size_t kGatherNodes = size_t{1} << 16;

/// Whether other nodes than `n` may have saved its input i too. Their references are among those of
/// the array, so that a weight used once is told by this alone; references that another thread
/// counts are not read, and may be any number.
inline bool may_be_shared(const Node& n, int i) {
  const ArrayRep* r = n.saved()[i].rep()->root;
  if (r->heap != tls_heap) return true;
  const Node* from = n.edges()[i].node();
  const bool held =
      from != nullptr && from->is_leaf() && static_cast<const Leaf*>(from)->value().rep() == r;
  return r->local + (r->shared.load(std::memory_order_relaxed) >> 2) > (held ? 2 : 1);
}

/// Products W'v that rules have deferred, in groups of one weight each. A playback that has one
/// plays all nodes that do not depend on them, those of the highest `seq` first; then it computes
/// the products of a group at once, and goes on with what they lead to.
///
/// NOTE [Order of a playback that gathers]
/// By `seq` alone, a node is complete when it comes up. Here nodes are passed over, so each counts
/// the edges that lead to it from nodes not yet played, and the products it waits for; it may be
/// played at 0. What is gathered follows from the tape alone, never from addresses or from other
/// threads' references; so do the orders of all sums.
template <class Pass>
class Gather {
 public:
  explicit Gather(Pass& pass) : pass_(pass) {}

  /// Whether input i of a node is a weight that may be worth it.
  static bool is_candidate(const Node& n, int i) {
    const Array& w = n.saved()[i];
    return w.defined() && w.has_data() && w.rank() == 2 &&
           static_cast<size_t>(w.numel()) * size_of(w.dtype()) >= kGatherBytes &&
           may_be_shared(n, i);
  }
  /// Whether one of its inputs is.
  static bool is_candidate(const Node& n) {
    for (int i = 0; i < n.n_inputs; ++i) {
      if (is_candidate(n, i)) return true;
    }
    return false;
  }

  /// Looks at all that node `first`, which is next, and the others that are queued lead to. False
  /// where there is nothing to gather, or something that only the plain order serves.
  bool plan(uint32_t first) {
    PoolVector<uint32_t> order;  // inputs before what uses them
    order.reserve(kFirstNodes);
    pass_.slots_.reserve(kFirstNodes);
    if (!visit(first, &order)) return false;
    if (pass_.has_next_ && !visit(pass_.next_.slot, &order)) return false;
    for (const auto& r : pass_.ready_) {
      if (!visit(r.slot, &order)) return false;
    }
    for (auto at = order.rbegin(); at != order.rend(); ++at) count(*at);
    bool pays = false;
    for (Weight& w : weights_) {
      // In a chain of uses each has a level to itself.
      w.pays = w.uses > 1 && w.highest - w.lowest + 1 < w.uses;
      pays = pays || w.pays;
    }
    if (!pays) return false;
    PoolVector<typename Pass::Ready> queued(pass_.ready_);
    if (pass_.has_next_) queued.push_back(pass_.next_);
    pass_.ready_.clear();
    pass_.has_next_ = false;
    for (const auto& r : queued) {
      if (holds(r.slot)) {
        ++held_;
      } else {
        pass_.enqueue(r);
      }
    }
    return true;
  }

  /// Whether a node that got its first gradient has to wait for others. It is queued later then.
  bool hold(uint32_t slot) {
    const bool wait = holds(slot);
    held_ += wait;
    return wait;
  }

  bool defers(const Node& n, int weight) {
    const Array& w = n.saved()[weight];
    const Weight* known = weight_of(w);
    return known != nullptr && known->pays && Matrix(w, false).has_rows();
  }

  /// The rule of `n` offers a product.
  bool defer(const Node& n, const DeferredProduct& p) {
    Weight* weight = weight_of(n.saved()[p.weight]);
    if (weight == nullptr || !weight->pays || !Matrix(p).has_rows()) return false;
    if (weight->last != &n) ++weight->gathered;
    weight->last = &n;
    Group& g = group_of(p, *weight);
    g.vectors.push_back(contiguous(p.v));
    for (int i = 0, input = p.input; i < p.parts; ++i, input += p.step) {
      const Edge& e = n.edges()[input];
      const bool wanted = e && (!pass_.targeted_ || pass_.needed(e.node()));
      g.targets.push_back(wanted ? e : Edge());
      if (wanted && !e.node()->is_leaf()) ++info(pass_.find_or_add(e.node())).waits;
    }
    if (g.vectors.size() == kGatherMost) multiply(g);
    return true;
  }

  /// Node `n` was played.
  void settle(const Node& n) {
    release_inputs(n);
    while (!dead_.empty()) {  // complete, but nothing came
      const uint32_t slot = dead_.back();
      dead_.pop_back();
      if (!pass_.slots_[slot].is.stop) release_inputs(*pass_.slots_[slot].node);
      pass_.free_slot(slot);
    }
  }

  /// When no node is ready: makes some so. False where none is left.
  bool go_on() {
    Group* best = nullptr;
    for (Group& g : groups_) {
      if (!g.vectors.empty() && (best == nullptr || before(g, *best))) best = &g;
    }
    if (best != nullptr) {
      multiply(*best);
      return true;
    }
    if (held_ == 0) return false;
    // A rule has played back part of this tape itself, so that what it led to was not counted off.
    // The plain order finds out what is wrong.
    uint32_t last = Pass::kNone;
    for (uint32_t s = 0; s < pass_.slots_.size(); ++s) {
      if (!holds(s) || !pass_.slots_[s].is.queued) continue;
      if (last == Pass::kNone || pass_.slots_[s].node->seq > pass_.slots_[last].node->seq) last = s;
    }
    info_[last].waits = 0;
    admit(last);
    return true;
  }

 private:
  template <class T>
  using PoolVector = std::vector<T, PoolAllocator<T>>;

  static constexpr size_t kFirstNodes = 256;  // that there is room for from the beginning

  // Of a node, by its slot.
  struct Info {
    uint32_t waits = 0;
    uint32_t level = 0;  // most uses of weights on the way from an output
    uint64_t above = 0;  // weights whose uses lead to it
    bool seen = false;
  };
  struct Weight {
    const std::byte* data;
    uint64_t bit;
    uint32_t uses = 0;
    uint32_t lowest = UINT32_MAX;
    uint32_t highest = 0;
    bool chained = false;  // a use depends on another one
    bool pays = false;
    uint32_t gathered = 0;  // uses whose products are, or were, in a group
    const Node* last = nullptr;

    bool complete() const { return gathered >= uses; }
  };
  // W as the rows of its array, or of its transpose.
  struct Matrix {
    explicit Matrix(const DeferredProduct& p) : Matrix(p.w, p.transposed) {}
    Matrix(const Array& w, bool transposed)
        : m(w.size(transposed)),
          n(w.size(!transposed)),
          trans(w.stride(!transposed) != 1),
          unit(w.stride(trans != transposed ? 0 : 1)),
          ld(w.stride(trans != transposed ? 1 : 0)) {}
    // Not spread any other way.
    bool has_rows() const { return unit == 1 && ld >= (trans ? m : n); }

    int64_t m;
    int64_t n;
    bool trans;
    int64_t unit;
    int64_t ld;
  };
  struct Group {
    Array w;
    bool transposed;
    uint32_t version;
    int parts;
    size_t weight;
    PoolVector<Array> vectors;
    PoolVector<Edge> targets;  // `parts` for each vector
  };

  // Nothing more comes to a complete group; of the others one with chained uses, which may all
  // depend on those here; or else the one that shares the most.
  bool before(const Group& a, const Group& b) const {
    const Weight& wa = weights_[a.weight];
    const Weight& wb = weights_[b.weight];
    if (wa.complete() != wb.complete()) return wa.complete();
    if (wa.chained != wb.chained) return wa.chained;
    return a.vectors.size() > b.vectors.size();
  }

  Info& info(uint32_t slot) {
    if (info_.size() <= slot) info_.resize(std::max<size_t>(2 * slot, kFirstNodes));
    return info_[slot];
  }
  bool holds(uint32_t slot) const { return slot < info_.size() && info_[slot].waits != 0; }

  Weight* weight_of(const Array& w) {
    for (Weight& known : weights_) {
      if (known.data == w.raw()) return &known;
    }
    return nullptr;
  }

  // Calls f with the slots of the nodes that a node passes gradients to.
  template <class F>
  void for_inputs(const Node& n, const F& f) {
    for (int i = 0; i < n.n_inputs; ++i) {
      Node* input = n.edges()[i].node();
      if (input == nullptr || input->is_leaf()) continue;
      if (pass_.targeted_ && !pass_.needed(input)) continue;
      f(input);
    }
  }

  bool visit(uint32_t root, PoolVector<uint32_t>* order) {
    struct Frame {
      uint32_t slot;
      int edge;
    };
    PoolVector<Frame> stack;
    stack.reserve(kFirstNodes);
    const auto enter = [&](uint32_t slot) {
      Info& i = info(slot);
      if (i.seen) return true;
      i.seen = true;
      if (pass_.slots_[slot].node->extras != nullptr) return false;  // hooks see the plain order
      stack.push_back({slot, 0});
      return stack.size() + order->size() <= kGatherNodes;
    };
    if (!enter(root)) return false;
    while (!stack.empty()) {
      const Frame f = stack.back();
      const Node* n = pass_.slots_[f.slot].node;
      if (f.edge == n->n_inputs || pass_.slots_[f.slot].is.stop) {
        order->push_back(f.slot);
        stack.pop_back();
        continue;
      }
      ++stack.back().edge;
      Node* input = n->edges()[f.edge].node();
      if (input == nullptr || input->is_leaf()) continue;
      if (pass_.targeted_ && !pass_.needed(input)) continue;
      if (!enter(pass_.find_or_add(input))) return false;
    }
    return true;
  }

  // Counts a node's uses of weights and its edges, those of all that lead to it being counted.
  void count(uint32_t slot) {
    if (pass_.slots_[slot].is.stop) return;
    const Node& n = *pass_.slots_[slot].node;
    uint64_t above = info_[slot].above;
    uint32_t level = info_[slot].level;
    if (n.def->product_weights != nullptr && n.n_inputs <= 64 && !Pass::played(n)) {
      uint64_t needs = 0;
      for (int i = 0; i < n.n_inputs; ++i) {
        Node* input = n.edges()[i].node();
        if (input == nullptr || (pass_.targeted_ && !pass_.needed(input))) continue;
        needs |= uint64_t{1} << i;
      }
      for (uint64_t m = n.def->product_weights(Saved(n, &needs, false)); m != 0; m &= m - 1) {
        use(n, __builtin_ctzll(m), info_[slot], &above);
        level = info_[slot].level + 1;
      }
    }
    for_inputs(n, [&](Node* input) {
      Info& i = info_[pass_.find(input)];
      ++i.waits;
      i.above |= above;
      i.level = std::max(i.level, level);
    });
  }

  void use(const Node& n, int input, const Info& at, uint64_t* above) {
    if (!is_candidate(n, input)) return;
    const Array& w = n.saved()[input];
    Weight* weight = weight_of(w);
    if (weight == nullptr) {
      if (weights_.size() == 64) return;
      weights_.push_back({.data = w.raw(), .bit = uint64_t{1} << weights_.size()});
      weight = &weights_.back();
    }
    ++weight->uses;
    weight->lowest = std::min(weight->lowest, at.level);
    weight->highest = std::max(weight->highest, at.level);
    weight->chained = weight->chained || (at.above & weight->bit) != 0;
    *above |= weight->bit;
  }

  Group& group_of(const DeferredProduct& p, const Weight& weight) {
    for (Group& g : groups_) {
      const Array& w = g.w;
      if (w.raw() == p.w.raw() && w.same_shape(p.w) && w.stride(0) == p.w.stride(0) &&
          w.stride(1) == p.w.stride(1) && g.transposed == p.transposed && g.parts == p.parts) {
        return g;
      }
    }
    groups_.push_back({p.w,
                       p.transposed,
                       p.w.version(),
                       p.parts,
                       static_cast<size_t>(&weight - weights_.data()),
                       {},
                       {}});
    return groups_.back();
  }

  void release_inputs(const Node& n) {
    for_inputs(n, [&](Node* input) { arrive(pass_.find(input)); });
  }

  // Something that a node waited for is done.
  void arrive(uint32_t slot) {
    if (!holds(slot) || --info_[slot].waits != 0) return;
    if (pass_.slots_[slot].is.queued) {
      admit(slot);
    } else {
      dead_.push_back(slot);
    }
  }

  void admit(uint32_t slot) {
    --held_;
    pass_.enqueue(pass_.slots_[slot].node->seq, slot);
  }

  void multiply(Group& g) {
    if (g.w.version() != g.version) {
      throw GradError("backward: a weight that products wait for was overwritten meanwhile");
    }
    const PoolVector<Array> vectors = std::exchange(g.vectors, {});
    const PoolVector<Edge> targets = std::exchange(g.targets, {});
    const auto rows = static_cast<int64_t>(vectors.size());
    const Matrix w(g.w, g.transposed);
    Array products = Array::empty(g.w.dtype(), rows == 1 ? Shape{w.n} : Shape{rows, w.n});
    visit_differentiable(g.w.dtype(), [&](auto t) {
      using T = decltype(t);
      multiply(w, g.w.template data<T>(), vectors, products.template mutable_data<T>());
    });
    const size_t bytes = static_cast<size_t>(w.n / g.parts) * size_of(g.w.dtype());
    for (size_t i = 0; i < targets.size(); ++i) {
      const Edge& e = targets[i];
      if (!e) continue;
      Array part = products;
      if (targets.size() > 1) {
        part = Array::empty(g.w.dtype(), {w.n / g.parts});
        std::memcpy(part.raw(), products.raw() + i * bytes, bytes);
      }
      pass_.accumulate(e, Gradient(std::move(part)));
      if (!e.node()->is_leaf()) arrive(pass_.find(e.node()));
    }
  }

  template <class T>
  static void multiply(const Matrix& w, const T* data, const PoolVector<Array>& vectors, T* to) {
    if (vectors.size() == 1) {
      kernels::gemv(!w.trans, w.trans ? w.n : w.m, w.trans ? w.m : w.n, T{1}, data, w.ld,
                    vectors[0].template data<T>(), T{0}, to);
      return;
    }
    const auto rows = static_cast<int64_t>(vectors.size());
    const Array all = Array::empty(dtype_of<T>, {rows, w.m});
    T* row = all.template mutable_data<T>();
    for (const Array& v : vectors) {
      std::memcpy(row, v.raw(), static_cast<size_t>(w.m) * sizeof(T));
      row += w.m;
    }
    kernels::gemm(false, w.trans, rows, w.n, w.m, T{1}, all.template data<T>(), w.m, data, w.ld,
                  T{0}, to, w.n);
  }

  Pass& pass_;
  uint32_t held_ = 0;  // nodes that have a gradient and wait
  PoolVector<Info> info_;
  PoolVector<Weight> weights_;
  PoolVector<Group> groups_;
  PoolVector<uint32_t> dead_;
};

/// In place of it where a graph is made.
struct NoGather {
  template <class Pass>
  explicit NoGather(Pass&) {}
  static bool is_candidate(const Node&) { return false; }
  static bool plan(uint32_t) { return false; }
  static bool hold(uint32_t) { return false; }
  static bool defers(const Node&, int) { return false; }
  static bool defer(const Node&, const DeferredProduct&) { return false; }
  static void settle(const Node&) {}
  static bool go_on() { return false; }
};

}  // namespace ebb::detail
