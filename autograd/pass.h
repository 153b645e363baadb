// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/gather.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/short_way.h"
#include "ebb/core/credit.h"

// One playback of the tape: internal to engine.cc.
namespace ebb {

// The engine adds tensors while it makes a graph, and reaches that op, which lives above, by its
// definition.
namespace ops::registered {
extern const OpDef* const Add;
}

namespace detail {

template <class T>
using PoolVector = std::vector<T, PoolAllocator<T>>;

// Restores the state of recording, whatever a rule throws.
class TapeScope {
 public:
  TapeScope() : before_(tls_tape) { ++tls_tape.depth; }
  ~TapeScope() { tls_tape = before_; }
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  ThreadTape before_;
};

inline std::string place(const Node& n) {
  return absl::StrCat(n.def->doc.name, " called at ", n.where.file_name(), ":", n.where.line());
}

[[noreturn]] inline void throw_played(const Node& n) {
  throw GradError(
      absl::StrCat("backward: the tape was already played back at ", place(n),
                   ", and what it saved is freed; ask for retain_graph the first time"));
}

[[noreturn]] inline void throw_shape(const Node& n, int input, const Meta& got, const Meta& want) {
  throw GradError(absl::StrCat(place(n), ": input ", input, " is ", want.str(),
                               ", its backward rule gave it a gradient ", got.str()));
}

// The base of passes that make a graph: no backward_values there, hence no sink.
struct NoSink {
  virtual void add(int input, Tensor gradient) = 0;
  virtual bool defer(const DeferredProduct& product) = 0;
  virtual bool defers(int weight) = 0;

 protected:
  ~NoSink() = default;
};

template <class G>
G as_gradient(Tensor t) {
  if constexpr (std::is_same_v<G, Tensor>) {
    return t;
  } else {
    return Gradient(t.value());
  }
}

// One playback. G is Gradient where values alone are wanted, Tensor where a graph is made. The
// gradients in flight belong to the pass, never to a node, so that passes may nest and run side by
// side over the same nodes.
//
// NOTE [Finding a node's slot]
// A node that is waiting for its turn has a slot. The node remembers its number in `slot`, and the
// slot its node, so that a stale number shows by itself. Only the thread that owns the node's pool,
// and only its outermost pass, may use that memory; all others look the node up in a hash map.
template <class G>
class Pass final : public std::conditional_t<std::is_same_v<G, Gradient>, GradSink, NoSink> {
 public:
  static constexpr bool kGraph = std::is_same_v<G, Tensor>;

  explicit Pass(bool retain)
      : own_heap_(tls_tape.depth == 0 ? tls_heap : nullptr),
        retain_(retain),
        brief_(!kGraph && !retain && !tls_tape.anomaly) {
    slots_.reserve(16);
    ready_.reserve(16);
    leaves_.reserve(16);
  }
  ~Pass() {
    for (Slot& s : slots_) {
      if (s.node != nullptr) drop(s);
    }
    if (tls_tape.depth == 0) settle_credits();
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  // Restricts the pass to what leads from `outputs` to `inputs`.
  void aim(Span<const Tensor> outputs, Span<const Tensor> inputs) {
    targeted_ = true;
    lowest_ = UINT64_MAX;
    for (const Tensor& t : inputs) lowest_ = std::min(lowest_, t.edge().node()->seq);
    for (const Tensor& t : inputs) {
      Slot& s = slots_[find_or_add(t.edge().node())];
      s.is.target = s.is.needed = true;
    }
    for (const Tensor& t : outputs) mark(t.edge().node());
  }

  // Restricts the pass to what leads from `outputs` to `wanted`, and ends it there and at `stops`:
  // what they were computed from is not played, and their hooks are left to the pass that goes on.
  void aim_partial(Span<const Tensor> outputs, Span<const Edge> wanted, Span<const Edge> stops) {
    targeted_ = true;
    for (const Edge& e : stops) slots_[find_or_add(e.node())].is.stop = true;
    for (const Edge& e : wanted) {
      Slot& s = slots_[find_or_add(e.node())];
      s.is.stop = s.is.target = s.is.needed = true;
    }
    for (const Tensor& t : outputs) mark(t.edge().node());
  }

  // Starts from an output.
  void seed(const Tensor& output, G gradient) { accumulate(output.edge(), std::move(gradient)); }

  // Runs until nothing is left. `at_target(node, output, gradient)` sees the gradients of
  // restricted passes; leaves of others add them up.
  template <class F>
  void run(F&& at_target) {
    const TapeScope scope;
    tls_tape.grad_enabled = kGraph;
    tls_tape.placed = kGraph;
    tls_tape.in_rule = true;
    do {
      while (has_next_) {
        const uint32_t s = take_next();
        if constexpr (!kGraph) {
          if (ShortWay(*this).play(s)) continue;
        }
        play(s, at_target);
      }
    } while (gathers() && gather_->go_on());
    for (size_t i = 0; i < leaves_.size(); ++i) finish_leaf(leaves_[i], at_target);
  }

  void add(int input, G gradient) override {
    const Node& n = *current_;
    if (input < 0 || input >= n.n_inputs) {
      throw GradError(absl::StrCat(n.def->doc.name,
                                   ": its backward rule gave a gradient for input ", input, " of ",
                                   n.n_inputs));
    }
    const Edge& e = n.edges()[input];
    if (!e || !gradient.defined()) return;
    if (n.def->saves_in && n.saved()[input].defined() && !alike(gradient, n.saved()[input])) {
      throw_shape(n, input, meta_of(gradient), n.saved()[input].meta());
    }
    if ((needs_[input >> 6] >> (input & 63) & 1) == 0) return;
    if (anomaly_) [[unlikely]]
      check(gradient);
    accumulate(e, std::move(gradient));
  }

  bool defer(const DeferredProduct& product) override {
    return gathers() && gather_->defer(*current_, product);
  }
  bool defers(int weight) override { return gathers() && gather_->defers(*current_, weight); }

 private:
  friend class Gather<Pass>;
  friend class ShortWay<Pass>;
  using Gatherer = std::conditional_t<kGraph, NoGather, Gather<Pass>>;

  struct alignas(32) Slot {
    Node* node = nullptr;  // counted
    G grad;                // of output 0
    PoolVector<G> others;  // of the outputs above, where there are any
    struct Marks {
      bool target = false;   // an input that was asked for
      bool stop = false;     // the pass does not go beyond it
      bool needed = false;   // leads to a target, or is one
      bool visited = false;  // by mark()
      bool queued = false;
      bool ends() const {  // the gradient does not just go on
        uint16_t both;
        std::memcpy(&both, this, sizeof(both));
        return both != 0;
      }
    } is;
  };
  struct Ready {
    uint64_t seq;
    uint32_t order;  // among equals, which other threads' nodes may be: first come, first played
    uint32_t slot;
    bool operator<(const Ready& o) const { return seq != o.seq ? seq < o.seq : order > o.order; }
  };

  bool marks(const Node* n) const { return n->heap == own_heap_; }

  static constexpr uint32_t kNone = UINT32_MAX;

  [[gnu::always_inline]] uint32_t find(Node* n) const {
    if (marks(n)) [[likely]] {
      const uint32_t s = n->slot;
      return s < n_slots_ && slots_[s].node == n ? s : kNone;
    }
    const auto it = foreign_.find(n);
    return it == foreign_.end() ? kNone : it->second;
  }

  uint32_t find_or_add(Node* n) {
    const uint32_t s = find(n);
    return s != kNone ? s : add_slot(n);
  }

  uint32_t add_slot(Node* n) {
    uint32_t s;
    if (!free_.empty()) {
      s = free_.back();
      free_.pop_back();
    } else {
      slots_.emplace_back();
      s = n_slots_++;
    }
    if (marks(n)) [[likely]] {
      n->slot = s;
    } else {
      foreign_[n] = s;
    }
    retain(n);
    slots_[s].node = n;
    return s;
  }

  bool needed(Node* n) const {
    const uint32_t s = find(n);
    return s != kNone && slots_[s].is.needed;
  }

  // Sets `needed` on every node between `root` and the targets, inputs before what uses them.
  void mark(Node* root) {
    struct Frame {
      uint32_t slot;
      uint32_t edge;
    };
    PoolVector<Frame> stack;
    const auto visit = [&](Node* n) {
      const uint32_t s = find_or_add(n);
      if (slots_[s].is.visited) return s;
      slots_[s].is.visited = true;
      // Nobody knows what lies beyond a node that was played back: to be asked for it is an error.
      if (played(*n) && !may_end_at(s)) slots_[s].is.needed = true;
      if (!n->is_leaf() && !slots_[s].is.stop) stack.push_back({s, 0});
      return s;
    };
    if (root->seq >= lowest_) visit(root);
    while (!stack.empty()) {
      const Frame f = stack.back();
      const Node* n = slots_[f.slot].node;
      if (f.edge == n->n_inputs) {
        stack.pop_back();
        if (slots_[f.slot].is.needed && !stack.empty()) slots_[stack.back().slot].is.needed = true;
        continue;
      }
      ++stack.back().edge;
      Node* child = n->edges()[f.edge].node();
      if (child == nullptr || child->seq < lowest_) continue;
      if (slots_[visit(child)].is.needed) slots_[f.slot].is.needed = true;
    }
  }

  void accumulate(const Edge& e, G&& gradient) {
    Node* n = e.node();
    const uint32_t at = find_or_add(n);
    Slot& s = slots_[at];
    if (!s.is.queued) start(*n, at);
    G* to = &s.grad;
    if (e.output() != 0) {
      if (s.others.empty()) s.others.resize(static_cast<size_t>(n->n_outputs() - 1));
      to = &s.others[e.output() - 1u];
    }
    if (to->defined() && !alike(*to, gradient)) {
      throw GradError(absl::StrCat("backward: a result of ", place(*n), " got gradients ",
                                   meta_of(*to).str(), " and ", meta_of(gradient).str(),
                                   ": a backward rule gave one the wrong shape or type"));
    }
    if (!to->defined()) {
      *to = std::move(gradient);
    } else if constexpr (kGraph) {
      const Tensor* in[] = {to, &gradient};
      constexpr struct {
      } kNoAttrs;
      *to = apply_one(*ops::registered::Add, &kNoAttrs, in, tls_tape.where);
    } else {
      to->add(std::move(gradient));
    }
  }

  // Puts a node, whose slot that is, where it will be played: its first gradient is there.
  void start(const Node& n, uint32_t at) {
    slots_[at].is.queued = true;
    if (n.is_leaf()) {
      leaves_.push_back(at);
    } else if (!gathers() || !gather_->hold(at)) {
      enqueue(n.seq, at);
    }
  }

  // The next node is kept apart from the heap of the others: in a chain the heap stays empty.
  [[gnu::always_inline]] void enqueue(uint64_t seq, uint32_t slot) {
    const uint32_t order = order_++;
    if (has_next_) {
      push({seq, order, slot});
      return;
    }
    has_next_ = true;
    next_.seq = seq;
    next_.order = order;
    next_.slot = slot;
  }
  void enqueue(const Ready& again) {
    if (has_next_) return push(again);
    has_next_ = true;
    next_ = again;
  }
  [[gnu::noinline]] void push(Ready r) {
    if (next_ < r) std::swap(next_, r);
    ready_.push_back(r);
    std::push_heap(ready_.begin(), ready_.end());
  }

  uint32_t take_next() {
    const uint32_t s = next_.slot;
    has_next_ = !ready_.empty();
    if (has_next_) {
      std::pop_heap(ready_.begin(), ready_.end());
      next_ = ready_.back();
      ready_.pop_back();
    }
    return s;
  }

  static bool played(const Node& n) { return (n.flags() & Node::kPlayed) != 0; }

  // Nothing that was asked for can lie beyond the node, whether or not it was played back before.
  bool may_end_at(uint32_t s) const {
    return targeted_ && (slots_[s].is.stop || slots_[s].node->seq <= lowest_);
  }

  void require_unplayed(uint32_t at) const {
    const Node& n = *slots_[at].node;
    if (played(n) && !may_end_at(at)) throw_played(n);
  }

  static void require_versions(const Node& n) {
    for (int i = 0; i < n.n_saved; ++i) {
      const Array& a = n.saved()[i];
      if (!a.defined() || !a.has_data() || a.version() == n.versions()[i]) continue;
      throw GradError(absl::StrCat("backward: a value that ", place(n),
                                   " saved was overwritten since (version ", n.versions()[i],
                                   " is now ", a.version(), ")"));
    }
  }

  template <class F>
  void play(uint32_t at, F&& at_target) {
    Node& n = *slots_[at].node;
    require_unplayed(at);
    if (n.def->product_weights != nullptr && !planned_) plan_gather(n, at);
    if (n.extras != nullptr || slots_[at].is.target) {
      finish_gradients(n, at, at_target);
      require_unplayed(at);  // a hook may have played it
    }
    if (!slots_[at].is.stop && play_rule_of(n, at)) {
      if (gathers()) gather_->settle(n);
      // What nobody else holds goes as a whole with its slot.
      if (!retain_ && !is_unique(&n)) clear(n);
    }
    free_slot(at);
  }

  bool gathers() const { return !kGraph && gather_.has_value(); }

  // At the first node that uses a large weight: whether the products with it are to be gathered.
  void plan_gather(const Node& n, uint32_t at) {
    if (tls_tape.depth > 1 || anomaly_ || !tls_tape.gather || !Gatherer::is_candidate(n)) return;
    planned_ = true;
    if (!gather_.emplace(*this).plan(at)) gather_.reset();
    brief_ = brief_ && !gathers();
  }

  // False where the node leads to nothing that is needed.
  bool play_rule_of(Node& n, uint32_t at) {
    const size_t words = (n.n_inputs + 63u) / 64;
    uint64_t inline_needs[1] = {0};
    PoolVector<uint64_t> many(words > 1 ? words : 0);
    uint64_t* needs = words > 1 ? many.data() : inline_needs;
    bool leads_on = !targeted_;
    for (int i = 0; i < n.n_inputs; ++i) {
      Node* input = n.edges()[i].node();
      if (input == nullptr || (targeted_ && !needed(input))) continue;
      needs[i >> 6] |= uint64_t{1} << (i & 63);
      leads_on = true;
    }
    if (!leads_on) return false;
    require_versions(n);
    Node* const node_before = std::exchange(current_, &n);
    const uint64_t* const needs_before = std::exchange(needs_, needs);
    const Saved saved(n, needs, kGraph);
    if constexpr (kGraph) {
      tls_tape.where = n.where;
      play_rule(n, saved, at);
    } else {
      play_values(n, saved, at);
    }
    current_ = node_before;
    needs_ = needs_before;
    return true;
  }

  void play_values(Node& n, const Saved& saved, uint32_t at) {
    if (n.def->backward_values == nullptr) {
      play_rule(n, saved, at);
    } else if (n.n_outputs() == 1) {
      Gradient g = std::move(slots_[at].grad);  // the slots may move while the rule runs
      n.def->backward_values(saved, ArrayGrads({&g, 1}), *this);
    } else {
      auto all = take_gradients(n, at);
      n.def->backward_values(saved, ArrayGrads(absl::MakeSpan(all)), *this);
    }
  }

  void play_rule(Node& n, const Saved& saved, uint32_t at) {
    if (n.n_outputs() == 1) {
      G own = std::move(slots_[at].grad);  // the slots may move while the rule runs
      const Tensor g = as_tensor(std::move(own));
      return add_all(n, n.def->backward(saved, OutGrads({&g, 1})));
    }
    Outputs grads;
    for (G& g : take_gradients(n, at)) grads.push_back(as_tensor(std::move(g)));
    add_all(n, n.def->backward(saved, OutGrads(grads)));
  }

  static Tensor as_tensor(G&& g) {
    if constexpr (kGraph) {
      return std::move(g);
    } else {
      return g.defined() ? Tensor(std::move(g).take_dense()) : Tensor();
    }
  }

  // What a rule gave, to the inputs.
  void add_all(const Node& n, Grads&& result) {
    if (result.size() > n.n_inputs) {
      throw GradError(absl::StrCat(n.def->doc.name, ": its backward rule gave ", result.size(),
                                   " gradients for ", n.n_inputs, " inputs"));
    }
    for (size_t i = 0; i < result.size(); ++i) {
      if constexpr (kGraph) {
        add(static_cast<int>(i), std::move(result[i]));
      } else if (result[i].defined()) {
        add(static_cast<int>(i), Gradient(result[i].value()));
      }
    }
  }

  G* gradient_of(uint32_t at, int output) {
    Slot& slot = slots_[at];
    if (output == 0) return &slot.grad;
    const auto k = static_cast<size_t>(output - 1);
    return k < slot.others.size() ? &slot.others[k] : nullptr;
  }

  absl::InlinedVector<G, 4, PoolAllocator<G>> take_gradients(const Node& n, uint32_t at) {
    absl::InlinedVector<G, 4, PoolAllocator<G>> all(static_cast<size_t>(n.n_outputs()));
    for (int j = 0; j < n.n_outputs(); ++j) {
      G* g = gradient_of(at, j);
      if (g != nullptr) all[static_cast<size_t>(j)] = std::move(*g);
    }
    return all;
  }

  // Hooks, then what was asked for, on the complete gradients of a node. Either may run a pass of
  // its own, but not move the slots of this one.
  template <class F>
  void finish_gradients(Node& n, uint32_t at, F&& at_target) {
    for (int j = 0; j < n.n_outputs(); ++j) {
      G* g = gradient_of(at, j);
      if (g == nullptr || !g->defined()) continue;
      // Where the pass stops, the rest of the gradient comes from elsewhere.
      if (n.extras != nullptr && !slots_[at].is.stop) run_hooks(n, j, g);
      if (slots_[at].is.target) at_target(&n, j, *g);
    }
  }

  void run_hooks(Node& n, int output, G* g) {
    const auto hooks = n.extras->hooks;  // a hook may remove itself
    for (const auto& h : hooks) {
      if (h.output != output) continue;
      Tensor r;
      {
        const UserCode scope;
        if constexpr (kGraph) {
          r = h.call(*g);
        } else {
          r = h.call(Tensor(g->dense()));
        }
      }
      if (!r.defined()) continue;
      if (meta_of(*g) != r.value().meta()) {
        throw GradError(absl::StrCat("backward: a hook on a result of ", place(n), " got ",
                                     meta_of(*g).str(), " and gave ", r.value().meta().str()));
      }
      *g = as_gradient<G>(std::move(r));
    }
  }

  template <class F>
  void finish_leaf(uint32_t at, F&& at_target) {
    auto& leaf = static_cast<Leaf&>(*slots_[at].node);
    require_shape(leaf, slots_[at].grad);
    finish_gradients(leaf, at, at_target);
    if constexpr (!kGraph) {
      if (!targeted_) {
        const LeafLock lock(leaf);
        leaf.grad.add(std::move(slots_[at].grad));
      }
    }
    free_slot(at);
  }

  static Meta meta_of(const G& g) {
    if constexpr (kGraph) {
      return g.value().meta();
    } else {
      return g.meta();
    }
  }

  static bool alike(const Array& a, const Array& b) {
    return a.dtype() == b.dtype() && a.same_shape(b);
  }
  static bool alike(const G& g, const Array& a) {
    if constexpr (kGraph) {
      return alike(g.value(), a);
    } else {
      return g.is_dense() ? alike(g.dense_part(), a) : g.meta() == a.meta();
    }
  }
  static bool alike(const G& a, const G& b) {
    if constexpr (kGraph) {
      return alike(a.value(), b.value());
    } else {
      return a.is_dense() ? alike(b, a.dense_part()) : a.meta() == b.meta();
    }
  }

  static void require_shape(const Leaf& leaf, const G& g) {
    if (alike(g, leaf.value())) return;
    throw GradError(absl::StrCat("backward: the gradient of leaf ", leaf.name, " ",
                                 leaf.value().meta().str(), " came out as ", meta_of(g).str(),
                                 ": a backward rule gave it the wrong shape or type"));
  }

  void check(G& gradient) {
    if constexpr (kGraph) {
      check_finite(gradient.value(), current_->def->doc.name, "gradient", current_->where);
    } else {
      check_finite(gradient.dense(), current_->def->doc.name, "gradient", current_->where);
    }
  }

  static void clear(Node& n) {
    n.set_flag(Node::kPlayed);
    for (int i = 0; i < n.n_saved; ++i) n.saved()[i] = Array();
    for (int i = 0; i < n.n_inputs; ++i) n.edges()[i] = Edge();
  }

  void free_slot(uint32_t at) {
    Slot& s = slots_[at];
    s.grad = G();
    if (!s.others.empty()) s.others.clear();
    s.is = {};
    if (!marks(s.node)) foreign_.erase(s.node);
    free_.push_back(at);
    drop(s);
  }

  static void drop(Slot& s) {
    Node* n = std::exchange(s.node, nullptr);
    if (detail::release(n)) release_last(n);
  }

  ThreadHeap* const own_heap_;  // whose nodes remember their slots; null in a nested pass
  const bool retain_;
  bool brief_;  // the short way may be gone
  const bool anomaly_ = tls_tape.anomaly;
  bool targeted_ = false;
  bool planned_ = false;
  uint64_t lowest_ = 0;  // `seq` of the oldest target: what is older leads to none
  bool has_next_ = false;
  uint32_t order_ = 0;
  Ready next_{};
  Node* current_ = nullptr;          // whose rule runs
  const uint64_t* needs_ = nullptr;  // which of its inputs, as bits, get their gradients
  PoolVector<Slot> slots_;
  uint32_t n_slots_ = 0;  // slots_.size()
  PoolVector<uint32_t> free_;
  PoolVector<Ready> ready_;
  PoolVector<uint32_t> leaves_;
  absl::flat_hash_map<Node*, uint32_t> foreign_;
  std::optional<Gatherer> gather_;
};

}  // namespace detail
}  // namespace ebb
