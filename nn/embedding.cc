// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/embedding.h"

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/embedding.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

Embedding::Embedding(int64_t count, int64_t dim, EmbeddingOptions options) : options_(options) {
  start(count, dim);
}

Embedding::Embedding(Module& parent, std::string name, int64_t count, int64_t dim,
                     EmbeddingOptions options)
    : Module(parent, std::move(name)), options_(options) {
  start(count, dim);
}

void Embedding::start(int64_t count, int64_t dim) try {
  if (count < 1 || dim < 1) {
    throw ValueError(
        absl::StrCat("Embedding: the sizes are ", count, ", ", dim, "; each must be at least 1"));
  }
  const auto& pad = options_.padding_idx;
  if (pad && (*pad < 0 || *pad >= count)) {
    throw IndexError(absl::StrCat("Embedding: padding_idx ", *pad, " is outside [0, ", count, ")"));
  }
  weight = register_parameter("weight", zeros({count, dim}));
  init::normal_(weight);
  if (!pad) return;
  const Tensor own_row = eq(unsqueeze(arange(count), 1), Tensor(Array::scalar(kInt64, *pad)));
  weight.copy_from(where(own_row, Tensor(Array::scalar(kFloat32, 0)), weight));
} catch (const Error&) {
  ebb::detail::rethrow_as("Embedding");
}

Tensor Embedding::rows(const Tensor& flat) const {
  const Tensor found = index_select(weight, 0, flat);
  if (!options_.padding_idx) return found;
  // The padding row reads as itself, but passes no gradient on.
  // A negative id counts from the end, and may be the padding row too.
  const auto pad = static_cast<double>(*options_.padding_idx);
  const Tensor ids = flat.to(kInt64);
  const Tensor from_front(Array::scalar(kInt64, pad));
  const Tensor from_end(Array::scalar(kInt64, pad - static_cast<double>(weight.size(0))));
  const Tensor is_pad = logical_or(eq(ids, from_front), eq(ids, from_end));
  return where(unsqueeze(is_pad, 1), found.detach(), found);
}

Tensor Embedding::operator()(int64_t id, Where where) const try {
  if (!options_.padding_idx) return take_row(weight, id, where);
  const ebb::detail::PlaceScope scope(where);
  const Tensor flat(Array::scalar(kInt64, static_cast<double>(id)).view_as({1}));
  return select(rows(flat), 0, 0);
} catch (const Error&) {
  ebb::detail::rethrow_as("Embedding");
}

Tensor Embedding::operator()(const Tensor& ids, Where where) const try {
  const ebb::detail::PlaceScope scope(where);
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return reshape(rows(reshape(ids, {-1})), shape);
} catch (const Error&) {
  ebb::detail::rethrow_as("Embedding");
}

std::unique_ptr<Module> Embedding::clone() const {
  return clone_as(*this, weight.size(0), weight.size(1), options_);
}

}  // namespace ebb::nn
