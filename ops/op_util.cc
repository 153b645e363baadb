// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/op_util.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/reduce.h"

namespace ebb::ops {

void broadcast_strides(const Array& a, const Shape& shape, int64_t* strides) {
  const int lead = shape.rank() - a.rank();
  for (int i = 0; i < lead; ++i) strides[i] = 0;
  for (int i = lead; i < shape.rank(); ++i) {
    strides[i] = a.size(i - lead) == 1 ? 0 : a.stride(i - lead);
  }
}

Shape broadcast(const OpDoc& doc, const Shape& a, const Shape& b) {
  Shape out;
  if (broadcast_shapes(a, b, &out)) return out;
  throw ShapeError(absl::StrCat(doc.name, ": a is ", a.str(), ", b is ", b.str(),
                                "; sizes must be equal or 1, from the last dimension on"));
}

Tensor unbroadcast(const Saved& s, const Tensor& g, int i) {
  return s.has_in_shape(i) ? sum_to(g, s.in_shape(i)) : g;
}

void run_rule(Grads (*rule)(const Saved&, const OutGrads&), const Saved& s, const ArrayGrads& g,
              GradSink& sink) {
  Outputs grads;
  for (int j = 0; j < s.n_outputs(); ++j) grads.push_back(g.has(j) ? Tensor(g[j]) : Tensor());
  const Grads result = rule(s, OutGrads(grads));
  for (size_t i = 0; i < result.size(); ++i) {
    if (result[i].defined()) sink.add(static_cast<int>(i), Gradient(result[i].value()));
  }
}

Array reuse_or_new(const Array& g) { return g.is_unique() ? g : Array::empty_like(g); }

}  // namespace ebb::ops
