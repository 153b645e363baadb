// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/ops/conv.h"
#include "ebb/ops/join.h"

// Convolutional layers, on a sample [C,...] or a batch [N,C,...]; see ops/conv.h for what they
// compute. Sizes, kernels and names are PyTorch's, and so are the first values: weight and bias are
// drawn from U(-b, b), b = 1/sqrt(fan in) (He et al. 2015, for a slope of sqrt 5).
namespace ebb::nn {

template <int D>
struct ConvNdOptions {
  PerAxis<D> stride = 1;
  Padding<D> padding = 0;  ///< a number, one for each axis, kSame or kValid
  PerAxis<D> dilation = 1;
  int64_t groups = 1;
  bool bias = true;
  PadMode padding_mode = PadMode::kConstant;  ///< what the padding holds; kConstant: zeros
};

/// Convolution over D axes: [C,...] to [O,...]. Parameters `weight` [O,C/groups,kernel...] and
/// `bias` [O].
///   Conv2d{*this, "c1", 3, 64, 7, {.stride = 2, .padding = 3}}
template <int D>
class ConvNd : public Layer {
 public:
  /// Throws ValueError where a size is below 1, the channels are no multiples of the groups, or a
  /// number of the options is out of its range.
  ConvNd(int64_t in_channels, int64_t out_channels, PerAxis<D> kernel,
         const ConvNdOptions<D>& options = {});
  ConvNd(Module& parent, std::string name, int64_t in_channels, int64_t out_channels,
         PerAxis<D> kernel, const ConvNdOptions<D>& options = {});

  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override;
  /// Draws weight and bias anew.
  void reset_parameters();
  const ConvNdOptions<D>& options() const { return options_; }

  Parameter weight;
  Parameter bias;  ///< undefined without

 private:
  void start(int64_t in_channels, int64_t out_channels, const PerAxis<D>& kernel);
  PerAxis<D> kernel() const;

  ConvNdOptions<D> options_;
};

using Conv1d = ConvNd<1>;
using Conv2d = ConvNd<2>;
using Conv3d = ConvNd<3>;
using Conv1dOptions = ConvNdOptions<1>;
using Conv2dOptions = ConvNdOptions<2>;
using Conv3dOptions = ConvNdOptions<3>;

template <int D>
struct ConvTransposeNdOptions {
  PerAxis<D> stride = 1;
  PerAxis<D> padding = 0;
  PerAxis<D> output_padding = 0;
  int64_t groups = 1;
  bool bias = true;
  PerAxis<D> dilation = 1;
};

/// Transposed convolution over D axes: [C,...] to [O,...]. Parameters `weight`
/// [C,O/groups,kernel...] and `bias` [O]; as in PyTorch, fan in is O/groups times the kernel's
/// elements.
template <int D>
class ConvTransposeNd : public Layer {
 public:
  /// Throws as ConvNd does.
  ConvTransposeNd(int64_t in_channels, int64_t out_channels, PerAxis<D> kernel,
                  const ConvTransposeNdOptions<D>& options = {});
  ConvTransposeNd(Module& parent, std::string name, int64_t in_channels, int64_t out_channels,
                  PerAxis<D> kernel, const ConvTransposeNdOptions<D>& options = {});

  using Layer::operator();
  /// With the output padding that makes the last axes of the result this large. Throws ValueError
  /// where none does.
  Tensor operator()(At x, const PerAxis<D>& output_size) const;
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override;
  /// Draws weight and bias anew.
  void reset_parameters();
  const ConvTransposeNdOptions<D>& options() const { return options_; }

  Parameter weight;
  Parameter bias;  ///< undefined without

 private:
  void start(int64_t in_channels, int64_t out_channels, const PerAxis<D>& kernel);
  Tensor call(const Tensor& x, const PerAxis<D>& output_padding) const;

  ConvTransposeNdOptions<D> options_;
};

using ConvTranspose1d = ConvTransposeNd<1>;
using ConvTranspose2d = ConvTransposeNd<2>;
using ConvTranspose3d = ConvTransposeNd<3>;
using ConvTranspose1dOptions = ConvTransposeNdOptions<1>;
using ConvTranspose2dOptions = ConvTransposeNdOptions<2>;
using ConvTranspose3dOptions = ConvTransposeNdOptions<3>;

}  // namespace ebb::nn
