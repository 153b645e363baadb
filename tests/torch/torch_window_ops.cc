// SPDX-License-Identifier: Apache-2.0
#include <stdexcept>

#include "torch_ops.h"

// What looks at an image through windows.
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

Tensor adaptive_avg_pool(const Call& c, const Tensor& x, const std::vector<int64_t>& size) {
  if (c.dims == 1) return at::adaptive_avg_pool1d(x, size);
  return c.dims == 2 ? at::adaptive_avg_pool2d(x, size) : at::adaptive_avg_pool3d(x, size);
}

Tensor interpolate(const Call& c, const Tensor& x) {
  if (c.mode == "area") {
    std::vector<int64_t> sizes = c.size;
    for (size_t i = 0; i < c.factors.size(); ++i) {
      const int64_t axis = x.dim() + static_cast<int64_t>(i - c.factors.size());
      sizes.push_back(static_cast<int64_t>(static_cast<double>(x.size(axis)) * c.factors[i]));
    }
    return adaptive_avg_pool(c, x, sizes);
  }
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

Tensor convolution(const Call& c, const Tensors& in, bool transposed) {
  return at::convolution(in[0], in[1], optional(in, 2), c.stride, c.padding, c.dilation, transposed,
                         c.output_padding, c.groups);
}

// A product at each place, of its window with its own weight [H',W',O,C,KH,KW].
Tensor locally_connected(const Call& c, const Tensors& in) {
  const Tensor& w = in[1];
  const Tensor columns = at::im2col(in[0], c.kernel, c.dilation, c.padding, c.stride);
  const Tensor y = at::einsum("nkl,lok->nol", {columns, w.flatten(3).flatten(0, 1)});
  const Tensor image = y.reshape({y.size(0), y.size(1), w.size(0), w.size(1)});
  return in.size() > 2 ? image + in[2] : image;
}

Tensor max_pool(const Call& c, const Tensors& in) {
  if (c.dims == 1) {
    return at::max_pool1d(in[0], c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
  }
  return c.dims == 2
             ? at::max_pool2d(in[0], c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode)
             : at::max_pool3d(in[0], c.kernel, c.stride, c.padding, c.dilation, c.ceil_mode);
}

Tensor avg_pool(const Call& c, const Tensors& in) {
  const Tensor& x = in[0];
  const c10::optional<int64_t> divisor =
      c.divisor == 0 ? c10::optional<int64_t>() : c10::optional<int64_t>(c.divisor);
  if (c.dims == 1) {
    return at::avg_pool1d(x, c.kernel, c.stride, c.padding, c.ceil_mode, c.count_include_pad);
  }
  return c.dims == 2 ? at::avg_pool2d(x, c.kernel, c.stride, c.padding, c.ceil_mode,
                                      c.count_include_pad, divisor)
                     : at::avg_pool3d(x, c.kernel, c.stride, c.padding, c.ceil_mode,
                                      c.count_include_pad, divisor);
}

Tensor adaptive_max_pool(const Call& c, const Tensors& in) {
  if (c.dims == 1) return std::get<0>(at::adaptive_max_pool1d(in[0], c.size));
  return std::get<0>(c.dims == 2 ? at::adaptive_max_pool2d(in[0], c.size)
                                 : at::adaptive_max_pool3d(in[0], c.size));
}

Tensor fractional_max_pool(const Call& c, const Tensors& in) {
  return std::get<0>(c.dims == 2 ? at::fractional_max_pool2d(in[0], c.kernel, c.size, in[1])
                                 : at::fractional_max_pool3d(in[0], c.kernel, c.size, in[1]));
}

Tensor max_unpool(const Call& c, const Tensors& in) {
  // Sequences are images of one row.
  if (c.dims == 1) {
    return at::max_unpool2d(in[0].unsqueeze(-2), in[1].unsqueeze(-2), {1, c.size[0]}).squeeze(-2);
  }
  return c.dims == 2 ? at::max_unpool2d(in[0], in[1], c.size)
                     : at::max_unpool3d(in[0], in[1], c.size, c.stride, c.padding);
}

Tensor grid_sample(const Call& c, const Tensors& in) {
  const int64_t mode = c.mode == "bilinear" ? 0 : c.mode == "nearest" ? 1 : 2;
  const int64_t border = c.padding_mode == "zeros" ? 0 : c.padding_mode == "border" ? 1 : 2;
  return at::grid_sampler(in[0], in[1], mode, border, c.align_corners);
}

}  // namespace

const Ops& window_ops() {
  static const Ops ops = {
      {"conv", [](const Call& c, const Tensors& in) { return convolution(c, in, false); }},
      {"conv_transpose", [](const Call& c, const Tensors& in) { return convolution(c, in, true); }},
      {"locally_connected", locally_connected},
      {"max_pool", max_pool},
      {"avg_pool", avg_pool},
      {"lp_pool", [](const Call& c, const Tensors& in) { return lp_pool(c, in[0]); }},
      {"adaptive_avg_pool",
       [](const Call& c, const Tensors& in) { return adaptive_avg_pool(c, in[0], c.size); }},
      {"adaptive_max_pool", adaptive_max_pool},
      {"fractional_max_pool", fractional_max_pool},
      {"max_unpool", max_unpool},
      {"unfold",
       [](const Call& c, const Tensors& in) {
         return at::im2col(in[0], c.kernel, c.dilation, c.padding, c.stride);
       }},
      {"fold",
       [](const Call& c, const Tensors& in) {
         return at::col2im(in[0], c.size, c.kernel, c.dilation, c.padding, c.stride);
       }},
      {"interpolate", [](const Call& c, const Tensors& in) { return interpolate(c, in[0]); }},
      {"affine_grid",
       [](const Call& c, const Tensors& in) {
         return at::affine_grid_generator(in[0], c.size, c.align_corners);
       }},
      {"grid_sample", grid_sample},
      {"pixel_shuffle",
       [](const Call& c, const Tensors& in) { return at::pixel_shuffle(in[0], c.size[0]); }},
      {"pixel_unshuffle",
       [](const Call& c, const Tensors& in) { return at::pixel_unshuffle(in[0], c.size[0]); }},
      {"pad",
       [](const Call& c, const Tensors& in) {
         const bool constant = c.mode == "constant";
         return at::pad(in[0], c.padding, c.mode,
                        constant ? c10::optional<double>(c.at("value")) : c10::nullopt);
       }},
  };
  return ops;
}

}  // namespace torch_side
