// SPDX-License-Identifier: Apache-2.0
#include "torch_ops.h"

namespace torch_side {
namespace {

using at::Tensor;

Tensor reduced(const Tensor& t, int64_t reduction) {
  if (reduction == at::Reduction::None) return t;
  return reduction == at::Reduction::Mean ? t.mean() : t.sum();
}

Tensor sigmoid_focal_loss(const Call& c, const Tensors& in) {
  const Tensor& t = in[1];
  const Tensor p = in[0].sigmoid();
  const Tensor q = t * (1 - p) + (1 - t) * p;
  const double alpha = c.at("alpha");
  const Tensor bce = at::binary_cross_entropy_with_logits(in[0], t, {}, {}, at::Reduction::None);
  const Tensor factor = alpha < 0 ? at::ones_like(t) : alpha * t + (1 - alpha) * (1 - t);
  return factor * q.pow(c.at("gamma")) * bce;
}

int64_t reduction(const Call& c) { return c.integer("reduction"); }

}  // namespace

const Ops& loss_ops() {
  static const Ops ops = {
      {"mse_loss",
       [](const Call& c, const Tensors& in) { return at::mse_loss(in[0], in[1], reduction(c)); }},
      {"l1_loss",
       [](const Call& c, const Tensors& in) { return at::l1_loss(in[0], in[1], reduction(c)); }},
      {"huber_loss",
       [](const Call& c, const Tensors& in) {
         return at::huber_loss(in[0], in[1], reduction(c), c.at("delta"));
       }},
      {"smooth_l1_loss",
       [](const Call& c, const Tensors& in) {
         return at::smooth_l1_loss(in[0], in[1], reduction(c), c.at("beta"));
       }},
      {"bce_with_logits",
       [](const Call& c, const Tensors& in) {
         return at::binary_cross_entropy_with_logits(in[0], in[1], optional(in, 2), optional(in, 3),
                                                     reduction(c));
       }},
      {"sigmoid_focal_loss",
       [](const Call& c, const Tensors& in) {
         return reduced(sigmoid_focal_loss(c, in), reduction(c));
       }},
      {"kl_div",
       [](const Call& c, const Tensors& in) {
         return at::kl_div(in[0], in[1], reduction(c), c.flag("log_target"));
       }},
      {"hinge_loss",
       [](const Call& c, const Tensors& in) {
         return reduced((c.at("margin") - in[0] * in[1]).clamp_min(0), reduction(c));
       }},
      {"margin_ranking_loss",
       [](const Call& c, const Tensors& in) {
         return at::margin_ranking_loss(in[0], in[1], in[2], c.at("margin"), reduction(c));
       }},
      {"triplet_margin_loss",
       [](const Call& c, const Tensors& in) {
         return at::triplet_margin_loss(in[0], in[1], in[2], c.at("margin"), c.at("p"), 1e-6,
                                        c.flag("swap"), reduction(c));
       }},
      {"cosine_embedding_loss",
       [](const Call& c, const Tensors& in) {
         return at::cosine_embedding_loss(in[0], in[1], in[2], c.at("margin"), reduction(c));
       }},
      {"cross_entropy",
       [](const Call& c, const Tensors& in) {
         return at::cross_entropy_loss(in[0], in[1], optional(in, 2), reduction(c),
                                       c.integer("ignore_index"), c.at("smoothing"));
       }},
      {"nll_loss",
       [](const Call& c, const Tensors& in) {
         return at::nll_loss_nd(in[0], in[1], optional(in, 2), reduction(c),
                                c.integer("ignore_index"));
       }},
      // LibTorch's gradient takes for granted that the scores are a log_softmax's, whose own
      // gradient it includes in part; together they are right.
      {"ctc_loss",
       [](const Call& c, const Tensors& in) {
         return at::ctc_loss(at::log_softmax(in[0], -1), in[1], in[2], in[3], c.integer("blank"),
                             reduction(c), c.flag("zero_infinity"));
       }},
  };
  return ops;
}

}  // namespace torch_side
