// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/graph_print.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

namespace ebb {
namespace {

using detail::Edge;
using detail::Leaf;
using detail::Node;

// The nodes to show, inputs before what uses them, with what can be told about each.
class Tape {
 public:
  Tape(const Tensor& t, int64_t max_nodes) {
    find(t, max_nodes);
    for (size_t k = 0; k < nodes_.size(); ++k) number_[nodes_[k]] = k;
    metas_.resize(nodes_.size());
    for (size_t k = 0; k < nodes_.size(); ++k) metas_[k] = outputs_of(*nodes_[k]);
    auto& last = metas_[number_.at(t.edge().node())];
    last.resize(std::max<size_t>(last.size(), t.edge().output() + 1u));
    last[t.edge().output()] = t.value().meta();
  }

  const std::vector<const Node*>& nodes() const { return nodes_; }

  // -1 beyond the limit.
  int64_t number(const Node* n) const {
    const auto it = number_.find(n);
    return it == number_.end() ? -1 : static_cast<int64_t>(it->second);
  }

  std::string name(const Edge& e) const {
    if (!e) return "-";
    const int64_t k = number(e.node());
    if (k < 0) return "...";
    return e.node()->n_outputs() > 1 ? absl::StrCat("%", k, ":", e.output()) : absl::StrCat("%", k);
  }

  // "matmul transpose_a" or, for a leaf, its name.
  static std::string title(const Node& n) {
    std::string s = n.def->doc.name;
    if (n.is_leaf()) {
      const auto& leaf = static_cast<const Leaf&>(n);
      if (!leaf.name.empty()) absl::StrAppend(&s, " \"", leaf.name, "\"");
    } else if (n.def->describe != nullptr) {
      absl::StrAppend(&s, " {", n.def->describe(n.attrs()), "}");
    }
    return s;
  }

  std::string shapes(const Node& n) const {
    const auto& metas = metas_[number_.at(&n)];
    if (metas.empty()) return "";
    return absl::StrJoin(metas, " ", [](std::string* out, const std::optional<Meta>& m) {
      absl::StrAppend(out, m.has_value() ? m->str() : "?");
    });
  }

  static std::string saved(const Node& n) {
    std::vector<std::string> parts;
    for (int i = 0; i < n.n_saved; ++i) {
      const Array& a = n.saved()[i];
      if (!a.defined() || !a.has_data()) continue;
      const bool in = n.def->saves_in && i < n.n_inputs;
      const int at = in || !n.def->saves_in ? i : i - n.n_inputs;
      parts.push_back(absl::StrCat(in ? "in " : "out ", at, " ", a.meta().str()));
    }
    return absl::StrJoin(parts, ", ");
  }

  static bool played(const Node& n) { return (n.flags() & Node::kPlayed) != 0; }

 private:
  // Breadth first, so that the limit keeps what is nearest to the result.
  void find(const Tensor& t, int64_t max_nodes) {
    absl::flat_hash_set<const Node*> seen;
    const auto visit = [&](const Node* n) {
      if (n == nullptr || static_cast<int64_t>(nodes_.size()) >= max_nodes) return;
      if (seen.insert(n).second) nodes_.push_back(n);
    };
    nodes_.push_back(t.edge().node());
    seen.insert(t.edge().node());
    for (size_t k = 0; k < nodes_.size(); ++k) {
      const Node* n = nodes_[k];
      for (int i = 0; i < n->n_inputs; ++i) visit(n->edges()[i].node());
    }
    // In the order of recording, leaves first; among equals in the order found.
    std::vector<std::pair<size_t, const Node*>> found;
    for (const Node* n : nodes_) found.emplace_back(found.size(), n);
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      const auto key = [](const auto& f) {
        return std::pair(f.second->is_leaf() ? 0 : f.second->seq, f.first);
      };
      return key(a) < key(b);
    });
    std::transform(found.begin(), found.end(), nodes_.begin(),
                   [](const auto& f) { return f.second; });
  }

  std::optional<Meta> input_meta(const Node& n, int i) const {
    if (n.def->saves_in && n.saved()[i].defined()) return n.saved()[i].meta();
    const Edge& e = n.edges()[i];
    const int64_t k = e ? number(e.node()) : -1;
    if (k < 0 || e.output() >= metas_[static_cast<size_t>(k)].size()) return std::nullopt;
    return metas_[static_cast<size_t>(k)][e.output()];
  }

  // Type and shape of a node's outputs: saved, or what its op infers from the inputs known.
  std::vector<std::optional<Meta>> outputs_of(const Node& n) const {
    if (n.is_leaf()) return {static_cast<const Leaf&>(n).value().meta()};
    const auto count = static_cast<size_t>(n.n_outputs());
    std::vector<std::optional<Meta>> out(count);
    if (n.def->saves_out) {
      const int first = n.def->saves_in ? n.n_inputs : 0;
      for (size_t j = 0; j < count; ++j) {
        const Array& a = n.saved()[first + static_cast<int>(j)];
        if (a.defined()) out[j] = a.meta();
      }
    }
    std::vector<Meta> in;
    for (int i = 0; i < n.n_inputs; ++i) {
      const auto m = input_meta(n, i);
      // An elementwise op saves the shape of an input only where it is not the output's.
      if (m.has_value() && n.def->elementwise && !n.saved()[i].defined()) out[0] = m;
      if (m.has_value()) in.push_back(*m);
    }
    const bool complete =
        std::all_of(out.begin(), out.end(), [](const auto& m) { return m.has_value(); });
    if (complete || played(n) || in.size() != n.n_inputs) return out;
    try {
      const Metas metas = n.def->infer(n.attrs(), in);
      for (size_t j = 0; j < std::min<size_t>(count, metas.size()); ++j) out[j] = metas[j];
    } catch (const Error&) {
      // An op whose shapes are known to its call alone; they stay unknown.
    }
    return out;
  }

  std::vector<const Node*> nodes_;
  absl::flat_hash_map<const Node*, size_t> number_;
  std::vector<std::vector<std::optional<Meta>>> metas_;
};

std::string place(const Node& n) { return absl::StrCat(n.where.file_name(), ":", n.where.line()); }

std::string quoted(const std::string& s) {
  return absl::StrCat("\"", absl::StrReplaceAll(s, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
                      "\"");
}

}  // namespace

std::string tape_to_string(const Tensor& t, const TapePrintOptions& options) {
  if (!t.requires_grad()) {
    return absl::StrCat("constant ", t.defined() ? t.value().meta().str() : "undefined", "\n");
  }
  const Tape tape(t, options.max_nodes);
  std::string out;
  for (const Node* n : tape.nodes()) {
    absl::StrAppend(&out, "%", tape.number(n), " = ", Tape::title(*n));
    if (!n->is_leaf()) {
      std::vector<std::string> in;
      for (int i = 0; i < n->n_inputs; ++i) in.push_back(tape.name(n->edges()[i]));
      absl::StrAppend(&out, "(", Tape::played(*n) ? "played" : absl::StrJoin(in, ", "), ")");
    }
    const std::string shapes = tape.shapes(*n);
    if (!shapes.empty()) absl::StrAppend(&out, " ", shapes);
    const std::string saved = Tape::saved(*n);
    if (!saved.empty()) absl::StrAppend(&out, "  saves ", saved);
    if (!n->is_leaf()) absl::StrAppend(&out, "  at ", place(*n));
    out += '\n';
  }
  return out;
}

std::string tape_to_dot(const Tensor& t, const TapePrintOptions& options) {
  std::string out = "digraph tape {\n  node [shape=box, fontname=\"Helvetica\", fontsize=10];\n";
  if (t.requires_grad()) {
    const Tape tape(t, options.max_nodes);
    for (const Node* n : tape.nodes()) {
      std::string label = Tape::title(*n);
      const std::string shapes = tape.shapes(*n);
      if (!shapes.empty()) absl::StrAppend(&label, "\n", shapes);
      const std::string saved = Tape::saved(*n);
      if (!saved.empty()) absl::StrAppend(&label, "\nsaves ", saved);
      if (!n->is_leaf()) absl::StrAppend(&label, "\n", place(*n));
      const int64_t k = tape.number(n);
      absl::StrAppend(&out, "  n", k, " [label=", quoted(label),
                      n->is_leaf() ? ", style=filled, fillcolor=\"#dbe9f6\"];\n" : "];\n");
      for (int i = 0; i < n->n_inputs; ++i) {
        const Edge& e = n->edges()[i];
        if (!e) continue;
        const int64_t from = tape.number(e.node());
        if (from < 0) {
          absl::StrAppend(&out, "  more", k, "_", i, " [label=\"...\", shape=plaintext];\n  more",
                          k, "_", i, " -> n", k, ";\n");
        } else if (e.node()->n_outputs() > 1) {
          absl::StrAppend(&out, "  n", from, " -> n", k, " [label=\"", e.output(), "\"];\n");
        } else {
          absl::StrAppend(&out, "  n", from, " -> n", k, ";\n");
        }
      }
    }
  }
  return out + "}\n";
}

}  // namespace ebb
