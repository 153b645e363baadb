// SPDX-License-Identifier: Apache-2.0
// Recurrent and recursive networks in LibTorch.
#include <algorithm>
#include <functional>
#include <optional>

#include "../specs.h"
#include "torch_workloads.h"

namespace bench {
namespace {

// Blocks i, f, g, o of rows in the order i, f, o, g.
Tensor reordered(const Tensor& t, int64_t hidden) {
  const auto b = t.split(hidden, 0);
  return torch::cat({b[0], b[1], b[3], b[2]}, 0);
}

// The sigmoid of the first gates and the tanh of the last ones, in place where the sums are nobody
// else's. The parts are "unsafe" in that they are not tracked as views, as in LibTorch's own cells.
std::pair<Tensor, Tensor> squash(const Tensor& sums, int64_t sigmoids, int64_t tanhs, bool own) {
  auto parts = at::unsafe_split_with_sizes(sums, {sigmoids, tanhs}, -1);
  if (own) return {parts[0].sigmoid_(), parts[1].tanh_()};
  return {at::sigmoid(parts[0]), at::tanh(parts[1])};
}

}  // namespace

Gates::Gates(const std::string& name, const std::string& suffix, int64_t in, int64_t hidden_size,
             bool joined)
    : hidden(hidden_size) {
  const int64_t h = hidden;
  const Tensor ih = reordered(values(name + ".weight_ih" + suffix, {4 * h, in}), h);
  const Tensor hh = reordered(values(name + ".weight_hh" + suffix, {4 * h, h}), h);
  if (joined) {
    w = trained(torch::cat({ih, hh}, 1));
  } else {
    w = trained(ih);
    u = trained(hh);
  }
  bias = trained(reordered(
      values(name + ".bias_ih" + suffix, {4 * h}) + values(name + ".bias_hh" + suffix, {4 * h}),
      h));
}

void Gates::advance(const Tensor& sums, Tensor& h, Tensor& c, bool own) const {
  const auto [squashed, g] = squash(sums, 3 * hidden, hidden, own);
  const auto ifo = at::unsafe_chunk(squashed, 3, -1);
  c = c.defined() ? at::addcmul(ifo[0] * g, ifo[1], c) : ifo[0] * g;
  h = ifo[2] * at::tanh(c);
}

void Gates::list(std::vector<Tensor>& out) const {
  out.push_back(w);
  if (u.defined()) out.push_back(u);
}

namespace {

Tensor nll(const Tensor& scores, const Tensor& target) {
  return at::nll_loss_nd(at::log_softmax(scores, -1), target, {}, at::Reduction::Sum);
}

// ---- language models
// -----------------------------------------------------------------------------

enum class Cell {
  kJoined,       // one product with [x, h]
  kJoinedRow,    // the same on matrices of one row
  kInputsFirst,  // W x of all steps in one product, U h at each step
  kModule,       // nn::LSTMCell
  kSequence,     // nn::LSTM
};
bool in_rows(Cell c) { return c == Cell::kJoinedRow || c == Cell::kModule; }

struct LmForm {
  const char* name;
  Cell cell;
  bool sparse;
};
constexpr LmForm kLmForms[] = {{"joined", Cell::kJoined, false},
                               {"joined,sparse", Cell::kJoined, true},
                               {"joined-row,sparse", Cell::kJoinedRow, true},
                               {"inputs-first", Cell::kInputsFirst, false},
                               {"inputs-first,sparse", Cell::kInputsFirst, true},
                               {"nn::LSTMCell,sparse", Cell::kModule, true}};
constexpr LmForm kSequenceForms[] = {{"nn::LSTM", Cell::kSequence, false},
                                     {"nn::LSTM,sparse", Cell::kSequence, true}};

class Language : public Model {
 public:
  Language(const Style& style, const LanguageModel& m, const LmForm& form, bool stacked)
      : m_(m), form_(form), stacked_(stacked) {
    const std::string name = m.name;
    table_ = trained(name + ".embedding.weight", {m.vocabulary, m.embedding});
    out_w_ = trained(name + ".out.weight", {m.vocabulary, m.hidden});
    out_b_ = trained(name + ".out.bias", {m.vocabulary});
    std::vector<Tensor> parameters = {table_, out_w_, out_b_};
    std::vector<Tensor> doubled;
    if (form.cell == Cell::kModule) {
      cell_ = torch::nn::LSTMCell(m.embedding, m.hidden);
      fill(name + ".lstm", *cell_);
      for (const Tensor& p : cell_->parameters()) parameters.push_back(p);
    } else if (form.cell == Cell::kSequence) {
      lstm_ = torch::nn::LSTM(m.embedding, m.hidden);
      fill(name + ".lstm", *lstm_);
      for (const Tensor& p : lstm_->parameters()) parameters.push_back(p);
    } else {
      gates_.emplace(name + ".lstm", "", m.embedding, m.hidden, form.cell != Cell::kInputsFirst);
      gates_->list(parameters);
      doubled.push_back(gates_->bias);
    }
    for (const std::vector<int64_t>& s : sequences(m)) {
      const Tensor all = torch::tensor(s);
      Tensor targets = all.narrow(0, 1, m.length).clone();
      std::vector<Tensor> each;
      for (int64_t t = 0; t < m.length; ++t) {
        each.push_back(in_rows(form.cell) ? targets.narrow(0, t, 1) : targets[t]);
      }
      samples_.push_back({all.narrow(0, 0, m.length).clone(), targets, each});
    }
    sgd_.emplace(parameters, m.rate, style.gradients, doubled);
  }

  void step(int64_t i) override {
    const Sample& s = samples_[static_cast<size_t>(i)];
    const Tensor x = at::embedding(table_, s.inputs, -1, false, form_.sparse);
    if (stacked_) {
      const Tensor states =
          form_.cell == Cell::kSequence ? sequence(x) : at::stack(steps(x, nullptr, nullptr));
      learn(nll(at::addmm(out_b_, states.view({m_.length, m_.hidden}), out_w_.t()), s.targets),
            *sgd_);
      return;
    }
    std::vector<Tensor> losses;
    if (form_.cell == Cell::kSequence) {
      const auto states = sequence(x).view({m_.length, m_.hidden}).unbind(0);
      for (size_t t = 0; t < states.size(); ++t) losses.push_back(token(states[t], s.each[t]));
    } else {
      steps(x, &s, &losses);
    }
    learn(at::stack(losses).sum(), *sgd_);
  }
  int64_t period() const override { return m_.samples; }

 private:
  struct Sample {
    Tensor inputs;
    Tensor targets;
    std::vector<Tensor> each;
  };

  // The loss of one token.
  Tensor token(const Tensor& h, const Tensor& target) const {
    return nll(h.dim() == 1 ? at::addmv(out_b_, out_w_, h) : at::linear(h, out_w_, out_b_), target);
  }

  Tensor sequence(const Tensor& x) { return std::get<0>(lstm_->forward(x.unsqueeze(1))); }

  // Step by step: the states, or the losses where `losses` is given.
  std::vector<Tensor> steps(const Tensor& x, const Sample* s, std::vector<Tensor>* losses) {
    std::vector<Tensor> states;
    Tensor h;
    Tensor c;
    const bool rows = in_rows(form_.cell);
    std::vector<Tensor> inputs;
    if (form_.cell == Cell::kInputsFirst) {
      inputs = at::addmm(gates_->bias, x, gates_->w.t()).unbind(0);
    } else {
      inputs = rows ? x.split(1, 0) : x.unbind(0);
    }
    if (form_.cell != Cell::kInputsFirst && form_.cell != Cell::kModule) {
      h = torch::zeros(rows ? std::vector<int64_t>{1, m_.hidden} : std::vector<int64_t>{m_.hidden});
    }
    for (size_t t = 0; t < inputs.size(); ++t) {
      switch (form_.cell) {
        case Cell::kJoined:
          gates_->advance(at::addmv(gates_->bias, gates_->w, at::cat({inputs[t], h})), h, c, true);
          break;
        case Cell::kJoinedRow:
          gates_->advance(at::linear(at::cat({inputs[t], h}, 1), gates_->w, gates_->bias), h, c,
                          true);
          break;
        case Cell::kInputsFirst:
          gates_->advance(h.defined() ? at::addmv(inputs[t], gates_->u, h) : inputs[t], h, c,
                          h.defined());
          break;
        default:
          std::tie(h, c) = h.defined() ? cell_->forward(inputs[t], std::make_tuple(h, c))
                                       : cell_->forward(inputs[t]);
      }
      if (losses != nullptr) {
        losses->push_back(token(h, s->each[t]));
      } else {
        states.push_back(h);
      }
    }
    return states;
  }

  LanguageModel m_;
  LmForm form_;
  bool stacked_;
  Tensor table_;
  Tensor out_w_;
  Tensor out_b_;
  std::optional<Gates> gates_;
  torch::nn::LSTMCell cell_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  std::optional<Sgd> sgd_;
  std::vector<Sample> samples_;
};

// ---- trees
// ---------------------------------------------------------------------------------------

enum class Batching {
  kNone,    // node by node
  kLeaves,  // all leaves, and all nodes' classes, in one product each
  kLevels,  // besides, all nodes of one height
};

class Trees : public Model {
 public:
  Trees(const Style& style, Batching batching, bool sparse, bool rows)
      : batching_(batching), sparse_(sparse), rows_(rows) {
    using namespace tree;
    const auto blocks = [](const Tensor& t, std::initializer_list<int64_t> order) {
      const auto b = t.split(kHidden, 0);
      std::vector<Tensor> out;
      for (const int64_t k : order) out.push_back(b[static_cast<size_t>(k)]);
      return trained(torch::cat(out, 0));
    };
    table_ = trained("tree_lstm.embedding.weight", {kVocabulary, kEmbedding});
    // Gates whose sigmoid is taken stand first: i, o, g of leaves, i, f, f, o, g of inner nodes.
    leaf_w_ = blocks(values("tree_lstm.cell.weight_ih", {4 * kHidden, kEmbedding}), {0, 3, 2});
    leaf_b_ = blocks(values("tree_lstm.cell.bias_ih", {4 * kHidden}), {0, 3, 2});
    inner_w_ =
        blocks(values("tree_lstm.cell.weight_hh", {5 * kHidden, 2 * kHidden}), {0, 1, 2, 4, 3});
    inner_b_ = blocks(values("tree_lstm.cell.bias_hh", {5 * kHidden}), {0, 1, 2, 4, 3});
    out_w_ = trained("tree_lstm.out.weight", {kClasses, kHidden});
    out_b_ = trained("tree_lstm.out.bias", {kClasses});
    for (const Tree& t : samples()) samples_.push_back(prepared(t));
    sgd_.emplace(std::vector<Tensor>{table_, leaf_w_, leaf_b_, inner_w_, inner_b_, out_w_, out_b_},
                 kRate, style.gradients);
  }
  void step(int64_t i) override {
    const Sample& s = samples_[static_cast<size_t>(i)];
    learn(batching_ == Batching::kLevels ? by_levels(s) : by_nodes(s), *sgd_);
  }
  int64_t period() const override { return tree::kSamples; }

 private:
  struct Sample {
    tree::Tree nodes;
    Tensor words;                          // of all leaves
    std::vector<Tensor> labels;            // of each node
    Tensor all_labels;                     // in the order of the nodes
    std::vector<std::vector<int>> levels;  // nodes by height; leaves first
    Tensor level_labels;                   // in that order
    std::vector<Tensor> children;          // of each level above the leaves, [2 * nodes]: places of
                                           // left and right in that order
  };
  struct State {
    Tensor h;
    Tensor c;
  };

  Sample prepared(const tree::Tree& t) const {
    Sample s;
    s.nodes = t;
    std::vector<int> height(t.size(), 0);
    std::vector<int64_t> words;
    std::vector<int64_t> labels;
    for (size_t i = 0; i < t.size(); ++i) {
      if (t[i].left < 0) {
        words.push_back(t[i].word);
      } else {
        height[i] = 1 + std::max(height[static_cast<size_t>(t[i].left)],
                                 height[static_cast<size_t>(t[i].right)]);
      }
      if (s.levels.size() <= static_cast<size_t>(height[i])) s.levels.emplace_back();
      s.levels[static_cast<size_t>(height[i])].push_back(static_cast<int>(i));
      labels.push_back(t[i].label);
      const Tensor label = torch::tensor(t[i].label);
      s.labels.push_back(rows_ ? label.unsqueeze(0) : label);
    }
    s.words = torch::tensor(words);
    s.all_labels = torch::tensor(labels);
    std::vector<int64_t> place(t.size());
    std::vector<int64_t> ordered;
    for (const std::vector<int>& level : s.levels) {
      std::vector<int64_t> children;
      for (const int node : level) {
        const size_t n = static_cast<size_t>(node);
        place[n] = static_cast<int64_t>(ordered.size());
        ordered.push_back(t[n].label);
        if (t[n].left >= 0) {
          children.push_back(place[static_cast<size_t>(t[n].left)]);
          children.push_back(place[static_cast<size_t>(t[n].right)]);
        }
      }
      if (!children.empty()) s.children.push_back(torch::tensor(children));
    }
    s.level_labels = torch::tensor(ordered);
    return s;
  }

  static State leaf_state(const Tensor& sums, bool own) {
    const auto [squashed, g] = squash(sums, 2 * tree::kHidden, tree::kHidden, own);
    const auto io = at::unsafe_chunk(squashed, 2, -1);
    State s;
    s.c = io[0] * g;
    s.h = io[1] * at::tanh(s.c);
    return s;
  }
  static State inner_state(const Tensor& sums, const Tensor& left, const Tensor& right) {
    const auto [squashed, g] = squash(sums, 4 * tree::kHidden, tree::kHidden, true);
    const auto iffo = at::unsafe_chunk(squashed, 4, -1);
    State s;
    s.c = at::addcmul(at::addcmul(iffo[0] * g, iffo[1], left), iffo[2], right);
    s.h = iffo[3] * at::tanh(s.c);
    return s;
  }
  Tensor dense(const Tensor& x, const Tensor& w, const Tensor& b) const {
    return x.dim() == 1 ? at::addmv(b, w, x) : at::linear(x, w, b);
  }

  Tensor by_nodes(const Sample& s) const {
    const Tensor words = at::embedding(table_, s.words, -1, false, sparse_);
    std::vector<Tensor> sums;
    if (batching_ == Batching::kLeaves) {
      const Tensor all = at::addmm(leaf_b_, words, leaf_w_.t());
      sums = rows_ ? all.split(1, 0) : all.unbind(0);
    } else {
      for (const Tensor& x : rows_ ? words.split(1, 0) : words.unbind(0)) {
        sums.push_back(dense(x, leaf_w_, leaf_b_));
      }
    }
    std::vector<State> states;
    std::vector<Tensor> losses;
    std::vector<Tensor> hidden;
    size_t leaf = 0;
    for (size_t i = 0; i < s.nodes.size(); ++i) {
      const tree::Node& n = s.nodes[i];
      if (n.left < 0) {
        states.push_back(leaf_state(sums[leaf++], batching_ != Batching::kLeaves));
      } else {
        const State& l = states[static_cast<size_t>(n.left)];
        const State& r = states[static_cast<size_t>(n.right)];
        states.push_back(inner_state(dense(at::cat({l.h, r.h}, -1), inner_w_, inner_b_), l.c, r.c));
      }
      if (batching_ == Batching::kLeaves) {
        hidden.push_back(states.back().h);
      } else {
        losses.push_back(nll(dense(states.back().h, out_w_, out_b_), s.labels[i]));
      }
    }
    if (batching_ != Batching::kLeaves) return at::stack(losses).sum();
    const Tensor h = rows_ ? at::cat(hidden) : at::stack(hidden);
    return nll(at::addmm(out_b_, h, out_w_.t()), s.all_labels);
  }

  Tensor by_levels(const Sample& s) const {
    const Tensor words = at::embedding(table_, s.words, -1, false, sparse_);
    State all = leaf_state(at::addmm(leaf_b_, words, leaf_w_.t()), true);
    for (const Tensor& children : s.children) {
      // [nodes, 2 * hidden]: left and right side by side.
      const Tensor h = at::index_select(all.h, 0, children).view({-1, 2 * tree::kHidden});
      const auto c = at::index_select(all.c, 0, children).view({-1, 2, tree::kHidden}).unbind(1);
      const State level = inner_state(at::addmm(inner_b_, h, inner_w_.t()), c[0], c[1]);
      all = {at::cat({all.h, level.h}), at::cat({all.c, level.c})};
    }
    return nll(at::addmm(out_b_, all.h, out_w_.t()), s.level_labels);
  }

  Batching batching_;
  bool sparse_;
  bool rows_;
  Tensor table_, leaf_w_, leaf_b_, inner_w_, inner_b_, out_w_, out_b_;
  std::optional<Sgd> sgd_;
  std::vector<Sample> samples_;
};

}  // namespace

std::vector<Entry> recurrent_workloads() {
  std::vector<Entry> out;
  for (const LanguageModel& m : {kLstmLm, kLstmChar}) {
    const std::string name = m.name;
    for (const LmForm& form : kLmForms) {
      // Of the large table a dense gradient is never the best.
      if (!form.sparse && m.vocabulary > 1000 && form.cell != Cell::kJoined) continue;
      add_entries<Language>(out, name, form.name, m, form, false);
    }
    for (const LmForm& form : kSequenceForms) {
      if (name == "lstm_lm") add_entries<Language>(out, name, form.name, m, form, false);
      add_entries<Language>(out, name + "_stacked", form.name, m, form, true);
    }
    const LmForm first = {"inputs-first,sparse", Cell::kInputsFirst, true};
    add_entries<Language>(out, name + "_stacked", first.name, m, first, true);
  }
  for (const bool rows : {false, true}) {
    for (const bool sparse : {false, true}) {
      const std::string form =
          std::string(rows ? "row,linear" : "addmv") + (sparse ? ",sparse" : "");
      add_entries<Trees>(out, "tree_lstm", form, Batching::kNone, sparse, rows);
      add_entries<Trees>(out, "tree_lstm_stacked", "leaves," + form, Batching::kLeaves, sparse,
                         rows);
    }
  }
  add_entries<Trees>(out, "tree_lstm_stacked", "levels", Batching::kLevels, false, true);
  add_entries<Trees>(out, "tree_lstm_stacked", "levels,sparse", Batching::kLevels, true, true);
  return out;
}

}  // namespace bench
