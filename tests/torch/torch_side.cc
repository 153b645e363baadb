// SPDX-License-Identifier: Apache-2.0
#include "torch_side.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <stdexcept>

namespace torch_side {
namespace {

using at::Tensor;

c10::optional<at::ArrayRef<double>> factors_of(const Call& c) {
  if (c.factors.empty()) return c10::nullopt;
  return at::ArrayRef<double>(c.factors);
}
at::OptionalIntArrayRef size_of(const Call& c) {
  if (c.size.empty()) return c10::nullopt;
  return at::IntArrayRef(c.size);
}

Tensor interpolate(const Call& c, const Tensor& x) {
  const auto size = size_of(c);
  const auto f = factors_of(c);
  if (c.mode == "linear") return at::upsample_linear1d(x, size, c.align_corners, f);
  if (c.mode == "bilinear") return at::upsample_bilinear2d(x, size, c.align_corners, f);
  if (c.mode == "bicubic") return at::upsample_bicubic2d(x, size, c.align_corners, f);
  if (c.mode == "trilinear") return at::upsample_trilinear3d(x, size, c.align_corners, f);
  if (c.mode == "nearest") {
    if (c.dims == 1) return at::upsample_nearest1d(x, size, f);
    return c.dims == 2 ? at::upsample_nearest2d(x, size, f) : at::upsample_nearest3d(x, size, f);
  }
  if (c.dims == 1) return at::_upsample_nearest_exact1d(x, size, f);
  return c.dims == 2 ? at::_upsample_nearest_exact2d(x, size, f)
                     : at::_upsample_nearest_exact3d(x, size, f);
}

Tensor lp_pool(const Call& c, const Tensor& x) {
  // torch.nn.functional.lp_pool2d, which C++ has only with torch/nn.
  const Tensor powers = x.pow(c.norm_type);
  const Tensor mean = c.dims == 1 ? at::avg_pool1d(powers, c.kernel, c.stride, 0, c.ceil_mode)
                                  : at::avg_pool2d(powers, c.kernel, c.stride, 0, c.ceil_mode);
  double k = 1;
  for (const int64_t n : c.kernel) k *= static_cast<double>(n);
  return (at::sign(mean) * at::relu(at::abs(mean))).mul(k).pow(1 / c.norm_type);
}

Tensor call_op(const Call& c, const std::vector<Tensor>& in) {
  const c10::optional<Tensor> bias =
      in.size() > 2 ? c10::optional<Tensor>(in[2]) : c10::optional<Tensor>();
  if (c.op == "conv") {
    return at::convolution(in[0], in[1], bias, c.stride, c.padding, c.dilation, false,
                           c.output_padding, c.groups);
  }
  if (c.op == "conv_transpose") {
    return at::convolution(in[0], in[1], bias, c.stride, c.padding, c.dilation, true,
                           c.output_padding, c.groups);
  }
  const Tensor& x = in[0];
  const c10::optional<int64_t> divisor =
      c.divisor == 0 ? c10::optional<int64_t>() : c10::optional<int64_t>(c.divisor);
  if (c.op == "max_pool") {
    if (c.dims == 1) {
      return at::max_pool1d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
    }
    return c.dims == 2 ? at::max_pool2d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode)
                       : at::max_pool3d(x, c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
  }
  if (c.op == "avg_pool") {
    if (c.dims == 1) {
      return at::avg_pool1d(x, c.kernel, c.stride, c.padding, c.ceil_mode, c.count_include_pad);
    }
    return c.dims == 2 ? at::avg_pool2d(x, c.kernel, c.stride, c.padding, c.ceil_mode,
                                        c.count_include_pad, divisor)
                       : at::avg_pool3d(x, c.kernel, c.stride, c.padding, c.ceil_mode,
                                        c.count_include_pad, divisor);
  }
  if (c.op == "lp_pool") return lp_pool(c, x);
  if (c.op == "adaptive_avg_pool") {
    if (c.dims == 1) return at::adaptive_avg_pool1d(x, c.size);
    return c.dims == 2 ? at::adaptive_avg_pool2d(x, c.size) : at::adaptive_avg_pool3d(x, c.size);
  }
  if (c.op == "adaptive_max_pool") {
    if (c.dims == 1) return std::get<0>(at::adaptive_max_pool1d(x, c.size));
    return std::get<0>(c.dims == 2 ? at::adaptive_max_pool2d(x, c.size)
                                   : at::adaptive_max_pool3d(x, c.size));
  }
  if (c.op == "fractional_max_pool") {
    return std::get<0>(c.dims == 2 ? at::fractional_max_pool2d(x, c.kernel, c.size, in[1])
                                   : at::fractional_max_pool3d(x, c.kernel, c.size, in[1]));
  }
  if (c.op == "max_unpool") {
    const Tensor indices = in[1].detach().to(at::kLong);
    return c.dims == 2 ? at::max_unpool2d(x, indices, c.size)
                       : at::max_unpool3d(x, indices, c.size, c.stride, c.padding);
  }
  if (c.op == "unfold") return at::im2col(x, c.kernel, c.dilation, c.padding, c.stride);
  if (c.op == "fold") return at::col2im(x, c.size, c.kernel, c.dilation, c.padding, c.stride);
  if (c.op == "interpolate") return interpolate(c, x);
  if (c.op == "affine_grid") return at::affine_grid_generator(x, c.size, c.align_corners);
  if (c.op == "grid_sample") {
    const int64_t mode = c.mode == "bilinear" ? 0 : c.mode == "nearest" ? 1 : 2;
    const int64_t border = c.padding_mode == "zeros" ? 0 : c.padding_mode == "border" ? 1 : 2;
    return at::grid_sampler(x, in[1], mode, border, c.align_corners);
  }
  throw std::runtime_error("no such op: " + c.op);
}

Numbers numbers_of(const Tensor& t) {
  const Tensor d = t.detach().to(at::kDouble).contiguous();
  return {d.sizes().vec(),
          std::vector<double>(d.data_ptr<double>(), d.data_ptr<double>() + d.numel())};
}

}  // namespace

Result run(const Call& call, const std::vector<Numbers>& inputs,
           const std::vector<double>& cotangent, size_t constants) {
  const auto type = call.float64 ? at::kDouble : at::kFloat;
  std::vector<Tensor> in;
  std::vector<Tensor> wanted;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& v = inputs[i].v;
    Tensor t = at::tensor(v, at::kDouble).view(inputs[i].shape).to(type).clone();
    if (i < constants) wanted.push_back(t.requires_grad_());
    in.push_back(t);
  }
  Result r;
  const Tensor y = call_op(call, in);
  r.y = numbers_of(y);
  if (static_cast<int64_t>(cotangent.size()) != y.numel()) return r;
  const Tensor v = at::tensor(cotangent, at::kDouble).view(y.sizes()).to(type);
  for (const Tensor& g : torch::autograd::grad({y}, wanted, {v})) {
    r.gradients.push_back(numbers_of(g));
  }
  return r;
}

}  // namespace torch_side
