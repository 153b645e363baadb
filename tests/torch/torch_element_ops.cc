// SPDX-License-Identifier: Apache-2.0
#include "torch_ops.h"

// Activations and probabilities.
namespace torch_side {
namespace {

using at::Tensor;

// An op of one tensor and nothing else.
template <Tensor (*kF)(const Tensor&)>
Outputs plain(const Call&, const Tensors& in) {
  return kF(in[0]);
}

Tensor gated(const Call& c, const Tensors& in, Tensor (*gate)(const Tensor&)) {
  const Tensors halves = in[0].chunk(2, c.integer("axis"));
  return halves[0] * gate(halves[1]);
}

Tensor maxout(const Call& c, const Tensors& in) {
  std::vector<int64_t> shape = in[0].sizes().vec();
  const int64_t axis = c.integer("axis") + in[0].dim();
  shape[axis] /= c.integer("pieces");
  shape.insert(shape.begin() + axis + 1, c.integer("pieces"));
  return std::get<0>(in[0].reshape(shape).max(axis + 1));
}

}  // namespace

const Ops& element_ops() {
  static const Ops ops = {
      {"relu", plain<at::relu>},
      {"selu", plain<at::selu>},
      {"silu", plain<at::silu>},
      {"mish", plain<at::mish>},
      {"sigmoid", plain<at::sigmoid>},
      {"tanh", plain<at::tanh>},
      {"logsigmoid", plain<at::log_sigmoid>},
      {"relu6", plain<at::relu6>},
      {"hardsigmoid", plain<at::hardsigmoid>},
      {"hardsigmoid_formula",
       [](const Call&, const Tensors& in) { return at::hardtanh(in[0] + 3, 0, 6) / 6; }},
      {"hardswish", plain<at::hardswish>},
      {"tanhshrink", [](const Call&, const Tensors& in) { return in[0] - in[0].tanh(); }},
      {"softsign", [](const Call&, const Tensors& in) { return in[0] / (in[0].abs() + 1); }},
      {"gelu", [](const Call& c, const Tensors& in) { return at::gelu(in[0], c.mode); }},
      {"leaky_relu",
       [](const Call& c, const Tensors& in) { return at::leaky_relu(in[0], c.at("slope")); }},
      {"elu", [](const Call& c, const Tensors& in) { return at::elu(in[0], c.at("alpha")); }},
      {"celu", [](const Call& c, const Tensors& in) { return at::celu(in[0], c.at("alpha")); }},
      {"softplus",
       [](const Call& c, const Tensors& in) {
         return at::softplus(in[0], c.at("beta"), c.at("threshold"));
       }},
      {"hardtanh",
       [](const Call& c, const Tensors& in) {
         return at::hardtanh(in[0], c.at("low"), c.at("high"));
       }},
      {"clamp",
       [](const Call& c, const Tensors& in) {
         return at::clamp(in[0], at::Scalar(c.at("low")), at::Scalar(c.at("high")));
       }},
      {"threshold",
       [](const Call& c, const Tensors& in) {
         return at::threshold(in[0], c.at("threshold"), c.at("value"));
       }},
      {"softshrink",
       [](const Call& c, const Tensors& in) { return at::softshrink(in[0], c.at("lambda")); }},
      {"hardshrink",
       [](const Call& c, const Tensors& in) { return at::hardshrink(in[0], c.at("lambda")); }},
      {"rrelu",
       [](const Call& c, const Tensors& in) {
         return at::rrelu(in[0], c.at("lower"), c.at("upper"), false);
       }},
      {"prelu", [](const Call&, const Tensors& in) { return at::prelu(in[0], in[1]); }},
      {"glu", [](const Call& c, const Tensors& in) { return at::glu(in[0], c.integer("axis")); }},
      {"reglu", [](const Call& c, const Tensors& in) { return gated(c, in, at::relu); }},
      {"geglu",
       [](const Call& c, const Tensors& in) {
         return gated(c, in, [](const Tensor& x) { return at::gelu(x); });
       }},
      {"swiglu", [](const Call& c, const Tensors& in) { return gated(c, in, at::silu); }},
      {"maxout", maxout},
      {"softmax",
       [](const Call& c, const Tensors& in) { return at::softmax(in[0], c.integer("axis")); }},
      {"log_softmax",
       [](const Call& c, const Tensors& in) { return at::log_softmax(in[0], c.integer("axis")); }},
      {"softmin",
       [](const Call& c, const Tensors& in) { return at::softmax(-in[0], c.integer("axis")); }},
      // The noise is given, and the choice that hard samples make is a constant.
      {"gumbel_softmax",
       [](const Call& c, const Tensors& in) {
         const int64_t axis = c.integer("axis");
         const Tensor soft = at::softmax((in[0] + in[1]) / c.at("tau"), axis);
         if (!c.flag("hard")) return soft;
         const Tensor one = at::zeros_like(soft).scatter(axis, soft.argmax(axis, true), 1.0);
         return one - soft.detach() + soft;
       }},
  };
  return ops;
}

}  // namespace torch_side
