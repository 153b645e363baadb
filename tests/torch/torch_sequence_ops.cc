// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "torch_ops.h"

// Attention and products.
namespace torch_side {
namespace {

using at::Tensor;

// query, key, value, mask; written out, as LibTorch 1.13 has it only for masks of one kind.
Outputs attention(const Call& c, const Tensors& in) {
  const double scale =
      c.numbers.count("scale") != 0 ? c.at("scale") : 1 / std::sqrt(in[0].size(-1));
  Tensor scores = at::matmul(in[0], in[1].transpose(-2, -1)) * scale;
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  if (in[3].defined()) {
    if (in[3].scalar_type() == at::kBool) {
      scores = scores.masked_fill(in[3].logical_not(), kNever);
    } else {
      scores = scores + in[3];
    }
  }
  if (c.flag("causal")) {
    const Tensor sees =
        at::ones({scores.size(-2), scores.size(-1)}, at::kBool).tril(c.integer("offset"));
    scores = scores.masked_fill(sees.logical_not(), kNever);
  }
  return at::matmul(at::softmax(scores, -1), in[2]);
}

}  // namespace

const Ops& sequence_ops() {
  static const Ops ops = {
      {"attention", attention},
      {"linear",
       [](const Call&, const Tensors& in) { return at::linear(in[0], in[1], optional(in, 2)); }},
  };
  return ops;
}

}  // namespace torch_side
