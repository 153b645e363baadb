// SPDX-License-Identifier: Apache-2.0
#include "torch_ops.h"

// Normalisation. Running statistics are given and come back as results.
namespace torch_side {
namespace {

using at::Tensor;

// x, weight, bias, running mean, running variance; `which` may keep or forget the last two.
Outputs with_statistics(const Call& c, const Tensors& in, bool instance) {
  const bool batch = c.flag("training");
  const Tensor mean = in[3].defined() ? in[3].clone() : in[3];
  const Tensor var = in[4].defined() ? in[4].clone() : in[4];
  const auto some = [](const Tensor& t) {
    return t.defined() ? c10::optional<Tensor>(t) : c10::nullopt;
  };
  const Tensor y = instance
                       ? at::instance_norm(in[0], some(in[1]), some(in[2]), some(mean), some(var),
                                           batch, c.at("momentum"), c.at("eps"), false)
                       : at::batch_norm(in[0], some(in[1]), some(in[2]), some(mean), some(var),
                                        batch, c.at("momentum"), c.at("eps"), false);
  Outputs out(y);
  // In evaluation a gradient flows through them.
  if (batch && mean.defined()) {
    out.push_back(mean.detach());
    out.push_back(var.detach());
  }
  return out;
}

// LibTorch 1.13 has it in torch/nn only: a mean over neighbouring channels, those beyond the ends
// taken for 0.
Tensor local_response_norm(const Call& c, const Tensors& in) {
  const Tensor& x = in[0];
  const int64_t size = c.integer("size");
  const Tensor square = x.mul(x).unsqueeze(1);
  std::vector<int64_t> flat = {x.size(0), 1, x.size(1), -1};
  const Tensor padded = at::constant_pad_nd(square.reshape(flat), {0, 0, size / 2, (size - 1) / 2});
  const Tensor mean = at::avg_pool2d(padded, {size, 1}, {1, 1}).reshape(x.sizes());
  return x / (mean * c.at("alpha") + c.at("k")).pow(c.at("beta"));
}

Tensor rms_norm(const Call& c, const Tensors& in) {
  std::vector<int64_t> axes;
  for (size_t i = 0; i < c.size.size(); ++i) axes.push_back(-1 - static_cast<int64_t>(i));
  const Tensor y = in[0] * ((in[0] * in[0]).mean(axes, true) + c.at("eps")).rsqrt();
  return in[1].defined() ? y * in[1] : y;
}

Tensor gdn(const Call& c, const Tensors& in) {
  const Tensor& x = in[0];
  std::vector<int64_t> along(static_cast<size_t>(x.dim()), 1);
  along[1] = -1;
  const Tensor sum = at::matmul(in[2], (x * x).flatten(2)).reshape(x.sizes()) + in[1].view(along);
  return c.flag("inverse") ? x * sum.sqrt() : x * sum.rsqrt();
}

}  // namespace

const Ops& norm_ops() {
  static const Ops ops = {
      {"batch_norm",
       [](const Call& c, const Tensors& in) { return with_statistics(c, in, false); }},
      {"instance_norm",
       [](const Call& c, const Tensors& in) { return with_statistics(c, in, true); }},
      {"group_norm",
       [](const Call& c, const Tensors& in) {
         return at::group_norm(in[0], c.groups, optional(in, 1), optional(in, 2), c.at("eps"),
                               false);
       }},
      {"layer_norm",
       [](const Call& c, const Tensors& in) {
         return at::layer_norm(in[0], c.size, optional(in, 1), optional(in, 2), c.at("eps"), false);
       }},
      {"rms_norm", rms_norm},
      {"local_response_norm", local_response_norm},
      {"gdn", gdn},
      {"weight_norm_formula",
       [](const Call& c, const Tensors& in) {
         return in[0] * (in[1] / at::norm_except_dim(in[0], 2, c.integer("axis")));
       }},
      {"weight_norm",
       [](const Call& c, const Tensors& in) {
         return at::_weight_norm(in[0], in[1], c.integer("axis"));
       }},
  };
  return ops;
}

}  // namespace torch_side
