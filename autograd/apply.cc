// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/call.h"
#include "ebb/autograd/leaf.h"

namespace ebb {
namespace detail {

void catch_up(const OpDef& def, const void* attrs, Inputs in) {
  if (def.catches_up) return;
  for (size_t i = 0; i < in.size(); ++i) {
    Node* n = in[i]->edge().node();
    if (n == nullptr || (n->flags() & Node::kLazy) == 0) continue;
    const bool rows = i == 0 && def.reads_rows != nullptr && def.reads_rows(attrs);
    static_cast<Leaf*>(n)->catch_up(rows ? &in[1]->value() : nullptr);
  }
}

Tensor apply_one(const OpDef& def, const void* attrs, Inputs in, Where where) try {
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
} catch (const MemoryError&) {
  rethrow_as(def.doc.name);
}

void apply_all(const OpDef& def, const void* attrs, Inputs in, Outputs* result, Where where) try {
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
} catch (const MemoryError&) {
  rethrow_as(def.doc.name);
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
