// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/checkpoint.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/segment.h"
#include "ebb/core/random.h"

namespace ebb::detail {
namespace {

// What is computed again.
struct Segment {
  SegmentFunction f;
  Generator::State random;      // at the start
  size_t n_args = 0;            // of the node's inputs; behind them is what f captured
  std::vector<Meta> outputs;    // of all that f gives
  std::vector<size_t> tracked;  // those of them that are the node's outputs
};

// The numbers that f draws are those of `state`; afterwards the generator is as it was.
class RandomScope {
 public:
  explicit RandomScope(const Generator::State& state) : before_(default_generator().state()) {
    default_generator().set_state(state);
  }
  ~RandomScope() { default_generator().set_state(before_); }
  RandomScope(const RandomScope&) = delete;
  RandomScope& operator=(const RandomScope&) = delete;

 private:
  Generator::State before_;
};

using EdgeSet = absl::flat_hash_set<std::pair<const Node*, uint16_t>>;

// The edges by which the tape of `outputs` leaves the part that was recorded after `clock`, other
// than to `args`; each once, in an order that depends on the tape alone.
//
// A node counts as recorded since then if its clock says so and its memory is this thread's: the
// clocks of other threads are not comparable.
std::vector<Edge> edges_out(Span<const Tensor> outputs, Span<const Tensor> args, uint64_t clock) {
  absl::flat_hash_set<const Node*> seen;
  EdgeSet found;
  for (const Tensor& t : args) {
    if (t.edge()) found.emplace(t.edge().node(), t.edge().output());
  }
  std::vector<Edge> out;
  std::vector<const Node*> stack;
  const auto visit = [&](const Edge& e) {
    const Node* n = e.node();
    if (n == nullptr) return;
    const bool inside = !n->is_leaf() && n->seq > clock && n->heap == tls_heap;
    if (!inside) {
      if (found.emplace(n, e.output()).second) out.push_back(e);
    } else if (seen.insert(n).second) {
      stack.push_back(n);
    }
  };
  for (const Tensor& t : outputs) visit(t.edge());
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    for (int i = 0; i < n->n_inputs; ++i) visit(n->edges()[i]);
  }
  return out;
}

std::string place(const Node& n) {
  return absl::StrCat("checkpoint called at ", n.where.file_name(), ":", n.where.line());
}

// f, run again inside a backward rule.
struct Rerun {
  Rerun(const Saved& s, bool graph);

  std::vector<Tensor> args;     // the node's first inputs
  std::vector<Tensor> outputs;  // the node's outputs
  std::vector<Edge> wanted;     // in terms of this run
  std::vector<int> input_of;    // which of the node's inputs they are
  std::vector<Edge> stops;
};

struct Checkpoint {
  static constexpr OpDoc kDoc{"checkpoint", "y = f(x), computed again for the gradient",
                              "x:[...]... -> y:[...]..."};
  static constexpr bool kView = true;
  static constexpr bool kAbsentInputs = true;  // the results that f captured
  struct Attrs {
    Attrs(std::shared_ptr<const Segment> s, Span<const Array> o)
        : segment(std::move(s)), outputs(o) {}
    // The node keeps the segment; the outputs are for the call alone.
    Attrs(const Attrs& o) : segment(o.segment) {}
    Attrs& operator=(const Attrs&) = delete;

    std::shared_ptr<const Segment> segment;
    Span<const Array> outputs;
  };
  // Running f again takes all of its arguments, those without a gradient too.
  static constexpr GradUses uses(int) { return {.in = kAll}; }
  static Metas infer(const Attrs& a, Span<const Meta>) {
    Metas m;
    for (const Array& y : a.outputs) m.push_back(y.meta());
    return m;
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    std::copy(a.outputs.begin(), a.outputs.end(), out.begin());
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Rerun run(s, true);
    std::vector<Tensor> from;
    std::vector<Tensor> start;
    for (int j = 0; j < s.n_outputs(); ++j) {
      if (!g.has(j)) continue;
      from.push_back(run.outputs[static_cast<size_t>(j)]);
      start.push_back(g[j]);
    }
    auto found = partial_gradients(from, absl::MakeSpan(start), run.wanted, run.stops);
    Grads result(static_cast<size_t>(s.n_inputs()));
    for (size_t i = 0; i < found.size(); ++i) {
      result[static_cast<size_t>(run.input_of[i])] = std::move(found[i]);
    }
    return result;
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Rerun run(s, false);
    std::vector<Tensor> from;
    std::vector<Gradient> start;
    for (int j = 0; j < s.n_outputs(); ++j) {
      if (!g.has(j)) continue;
      from.push_back(run.outputs[static_cast<size_t>(j)]);
      start.push_back(Gradient(g.take(j)));
    }
    auto found = partial_gradients(from, absl::MakeSpan(start), run.wanted, run.stops);
    for (size_t i = 0; i < found.size(); ++i) sink.add(run.input_of[i], std::move(found[i]));
  }
};

[[noreturn]] void throw_differs(const Saved& s, const std::string& how) {
  throw GradError(absl::StrCat("backward: ", place(s.node()), ": the second run of the function ",
                               how, "; it must do the same both times, on one thread"));
}

Rerun::Rerun(const Saved& s, bool graph) {
  const Segment& segment = *s.attrs<Checkpoint::Attrs>().segment;
  const Edge* edges = s.node().edges();
  const int n_args = static_cast<int>(segment.n_args);

  const EnableGradGuard on;
  const UserCode scope;
  const RandomScope random(segment.random);
  for (int i = 0; i < n_args; ++i) {
    Tensor x = s.has_in_shape(i) ? s.in(i) : Tensor();
    args.push_back(edges[i] ? as_argument(x, graph) : std::move(x));
  }
  const uint64_t clock = lamport_clock();
  std::vector<Tensor> all = segment.f(args);

  if (all.size() != segment.outputs.size()) {
    throw_differs(
        s, absl::StrCat("gave ", all.size(), " tensors, the first ", segment.outputs.size()));
  }
  for (size_t j = 0; j < all.size(); ++j) {
    const Meta meta = all[j].value().meta();
    if (meta == segment.outputs[j]) continue;
    throw_differs(s, absl::StrCat("gave ", meta.str(), ", the first ", segment.outputs[j].str()));
  }
  for (const size_t j : segment.tracked) {
    if (!all[j].requires_grad()) throw_differs(s, "gave a result without a gradient");
    outputs.push_back(std::move(all[j]));
  }

  stops.assign(edges + n_args, edges + s.n_inputs());
  EdgeSet missing;
  for (const Edge& e : stops) missing.emplace(e.node(), e.output());
  for (const Edge& e : edges_out(outputs, args, clock)) {
    if (missing.erase({e.node(), e.output()}) != 0) continue;
    if (e.node()->is_leaf()) continue;  // one that f made for itself is another one in each run
    throw_differs(
        s, absl::StrCat("read a result of ", e.node()->def->doc.name, " that the first did not"));
  }
  if (!missing.empty()) {
    throw_differs(s, absl::StrCat("did not read a ", missing.begin()->first->def->doc.name,
                                  " that the first did"));
  }

  for (int i = 0; i < s.n_inputs(); ++i) {
    if (!edges[i] || !s.needs(i)) continue;
    wanted.push_back(i < n_args ? args[static_cast<size_t>(i)].edge() : edges[i]);
    input_of.push_back(i);
  }
}

}  // namespace

std::vector<Tensor> checkpoint(SegmentFunction f, Span<const Tensor> inputs, Where where) {
  if (!tls_tape.grad_enabled) return f(inputs);
  auto segment = std::make_shared<Segment>();
  segment->random = default_generator().state();
  segment->n_args = inputs.size();

  std::vector<Tensor> result;
  std::vector<Edge> captured;
  {
    std::vector<Tensor> args;
    for (const Tensor& x : inputs) args.push_back(x.requires_grad() ? as_argument(x, false) : x);
    const uint64_t clock = lamport_clock();
    std::vector<Tensor> outputs = f(args);
    captured = edges_out(outputs, args, clock);
    for (size_t j = 0; j < outputs.size(); ++j) {
      segment->outputs.push_back(outputs[j].value().meta());
      if (outputs[j].requires_grad()) segment->tracked.push_back(j);
      result.push_back(Tensor(outputs[j].value()));
    }
  }  // the tape of this run is gone from here on
  if (segment->tracked.empty()) return result;
  // A leaf that nobody else refers to was made by f for itself.
  std::erase_if(captured, [](const Edge& e) { return e.node()->is_leaf() && is_unique(e.node()); });

  std::vector<Tensor> all(inputs.begin(), inputs.end());
  for (Edge& e : captured) {
    Node* n = e.node();
    // The value of a parameter is saved for the sake of its version; of a result the tape knows
    // none.
    all.push_back(n->is_leaf() ? static_cast<Leaf*>(n)->self : Tensor(Array(), std::move(e)));
  }
  std::vector<const Tensor*> in;
  for (const Tensor& t : all) in.push_back(&t);
  std::vector<Array> values;
  for (const size_t j : segment->tracked) values.push_back(result[j].value());

  segment->f = std::move(f);
  const auto& tracked = segment->tracked;
  const Checkpoint::Attrs attrs(segment, values);
  Outputs recorded;
  apply_all(kOpDef<Checkpoint>, &attrs, in, &recorded, where);
  for (size_t k = 0; k < tracked.size(); ++k) result[tracked[k]] = std::move(recorded[k]);
  return result;
}

}  // namespace ebb::detail
