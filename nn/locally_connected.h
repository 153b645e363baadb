// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"
#include "ebb/ops/fold.h"

// Layers of the windows of an image; see ops/fold.h for what they compute.
namespace ebb::nn {

/// The windows as columns: [C,H,W] to [C*KH*KW,L], or with a batch.
class Unfold : public Layer {
 public:
  explicit Unfold(PerAxis<2> kernel, const UnfoldOptions& options = {})
      : kernel_(kernel), options_(options) {}
  Unfold(Module& parent, std::string name, PerAxis<2> kernel, const UnfoldOptions& options = {})
      : Layer(parent, std::move(name)), kernel_(kernel), options_(options) {}
  Tensor forward(const Tensor& x) const override { return unfold(x, kernel_, options_); }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, kernel_, options_); }

 private:
  PerAxis<2> kernel_;
  UnfoldOptions options_;
};

/// The sum of columns in the places that Unfold takes them from: [C*KH*KW,L] to [C,H,W], or with a
/// batch.
class Fold : public Layer {
 public:
  Fold(PerAxis<2> output_size, PerAxis<2> kernel, const UnfoldOptions& options = {})
      : size_(output_size), kernel_(kernel), options_(options) {}
  Fold(Module& parent, std::string name, PerAxis<2> output_size, PerAxis<2> kernel,
       const UnfoldOptions& options = {})
      : Layer(parent, std::move(name)), size_(output_size), kernel_(kernel), options_(options) {}
  Tensor forward(const Tensor& x) const override { return fold(x, size_, kernel_, options_); }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, size_, kernel_, options_);
  }

 private:
  PerAxis<2> size_;
  PerAxis<2> kernel_;
  UnfoldOptions options_;
};

template <int D>
struct LocallyConnectedNdOptions {
  PerAxis<D> stride = 1;
  PerAxis<D> padding = 0;  ///< zeros
  PerAxis<D> dilation = 1;
  bool bias = true;
};

/// A convolution with a kernel of its own at each place, for inputs of one size alone: [C,...] to
/// [O,...], or with a batch. Parameters `weight` [places...,O,C,kernel...] and `bias`
/// [O,places...], drawn from U(-b, b), b = 1/sqrt(fan in).
template <int D>
class LocallyConnectedNd : public Layer {
 public:
  /// Throws ValueError where a size is below 1, a number of the options out of its range, or no
  /// window fits the input.
  LocallyConnectedNd(int64_t in_channels, int64_t out_channels, PerAxis<D> input_size,
                     PerAxis<D> kernel, const LocallyConnectedNdOptions<D>& options = {});
  LocallyConnectedNd(Module& parent, std::string name, int64_t in_channels, int64_t out_channels,
                     PerAxis<D> input_size, PerAxis<D> kernel,
                     const LocallyConnectedNdOptions<D>& options = {});

  /// Throws ShapeError where x has not the size that the layer was made for.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override;
  /// Draws weight and bias anew.
  void reset_parameters();

  Parameter weight;
  Parameter bias;  ///< undefined without

 private:
  void start(int64_t in_channels, int64_t out_channels);

  PerAxis<D> size_;
  PerAxis<D> kernel_;
  LocallyConnectedNdOptions<D> options_;
};

using LocallyConnected1d = LocallyConnectedNd<1>;
using LocallyConnected2d = LocallyConnectedNd<2>;

}  // namespace ebb::nn
