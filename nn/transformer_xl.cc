// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/transformer_xl.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/nn/transformer_util.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

Tensor TransformerXLLayer::operator()(const Tensor& x, const Tensor& memory, Where where) const {
  const ebb::detail::PlaceScope scope(where);
  // Of the memory attention sees what it sees of x: normalised where that comes first.
  Tensor seen = memory;
  if (memory.defined()) seen = options_.norm_first ? norm1(memory.detach()) : memory.detach();
  const Tensor y = detail::residual(options_, is_training(), x, norm1,
                                    [&](const Tensor& part) { return self_attn(part, seen); });
  return detail::residual(options_, is_training(), y, norm2, [&](const Tensor& part) {
    return detail::feed_forward(options_, is_training(), part, linear1, linear2);
  });
}

SegmentMemory::SegmentMemory(int64_t capacity) : capacity_(capacity) {
  if (capacity < 0) {
    throw ValueError(
        absl::StrCat("SegmentMemory: capacity is ", capacity, "; it must not be negative"));
  }
}

void SegmentMemory::append(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> next;
  for (size_t i = 0; i < inputs.size() && capacity_ > 0; ++i) {
    Tensor all = inputs[i].detach();
    if (i < states_.size()) all = cat(std::vector<Tensor>{states_[i], all}, -2);
    const int64_t extra = std::max<int64_t>(0, all.size(-2) - capacity_);
    // Copied: the caller may use the buffer of its input again.
    next.push_back(Tensor(copy(narrow(all, -2, extra, all.size(-2) - extra).value())));
  }
  states_ = std::move(next);
}

TransformerXL::TransformerXL(int64_t d_model, int64_t nhead, int64_t num_layers,
                             TransformerOptions options)
    : d_model_(d_model), nhead_(nhead), options_(options) {
  start(num_layers);
}

TransformerXL::TransformerXL(Module& parent, std::string name, int64_t d_model, int64_t nhead,
                             int64_t num_layers, TransformerOptions options)
    : Module(parent, std::move(name)), d_model_(d_model), nhead_(nhead), options_(options) {
  start(num_layers);
}

void TransformerXL::start(int64_t num_layers) try {
  if (num_layers < 1) {
    throw ValueError(
        absl::StrCat("TransformerXL: num_layers is ", num_layers, "; it must be at least 1"));
  }
  for (int64_t i = 0; i < num_layers; ++i) layers.emplace_back(d_model_, nhead_, options_.layer);
  if (!options_.final_norm) return;
  norm = std::make_unique<LayerNorm>(*this, "norm", Shape{d_model_},
                                     LayerNormOptions{.eps = options_.layer.layer_norm_eps});
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerXL");
}

Tensor TransformerXL::operator()(const Tensor& x, SegmentMemory* memory, Where where) const try {
  const ebb::detail::PlaceScope scope(where);
  std::vector<Tensor> inputs;
  Tensor y = x;
  for (const TransformerXLLayer& layer : layers) {
    inputs.push_back(y);
    y = layer(y, memory != nullptr ? memory->of_layer(inputs.size() - 1) : Tensor());
  }
  if (memory != nullptr) memory->append(inputs);
  return norm != nullptr ? (*norm)(y) : y;
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerXL");
}

}  // namespace ebb::nn
