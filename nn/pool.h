// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/module.h"
#include "ebb/ops/pool.h"

// Pooling layers, on a sample [C,...] or a batch [N,C,...]; see ops/pool.h for what they compute
// and what their options mean. They have no parameters.
namespace ebb::nn {

/// What the layers share that slide a window over their input: its size and their options.
template <int D, class Options, class Base = Layer>
class WindowLayer : public Base {
 public:
  explicit WindowLayer(PerAxis<D> kernel, const Options& options = {})
      : kernel_(kernel), options_(options) {}
  WindowLayer(Module& parent, std::string name, PerAxis<D> kernel, const Options& options = {})
      : Base(parent, std::move(name)), kernel_(kernel), options_(options) {}

 protected:
  PerAxis<D> kernel_;
  Options options_;
};

/// The largest element of each window.
template <int D>
class MaxPoolNd : public WindowLayer<D, MaxPoolOptions<D>> {
 public:
  using WindowLayer<D, MaxPoolOptions<D>>::WindowLayer;
  Tensor forward(const Tensor& x) const override {
    if constexpr (D == 1) return max_pool1d(x, this->kernel_, this->options_);
    if constexpr (D == 2) return max_pool2d(x, this->kernel_, this->options_);
    if constexpr (D == 3) return max_pool3d(x, this->kernel_, this->options_);
  }
  /// With the indices that MaxUnpool takes; PyTorch's return_indices.
  ValuesIndices with_indices(const Tensor& x, Where where = Where::current()) const {
    if constexpr (D == 1) return max_pool1d_with_indices(x, this->kernel_, this->options_, where);
    if constexpr (D == 2) return max_pool2d_with_indices(x, this->kernel_, this->options_, where);
    if constexpr (D == 3) return max_pool3d_with_indices(x, this->kernel_, this->options_, where);
  }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, this->kernel_, this->options_);
  }
};
using MaxPool1d = MaxPoolNd<1>;
using MaxPool2d = MaxPoolNd<2>;
using MaxPool3d = MaxPoolNd<3>;

/// The elements put back where a MaxPool of the same windows found them.
template <int D>
class MaxUnpoolNd : public WindowLayer<D, MaxUnpoolOptions<D>, Module> {
 public:
  using WindowLayer<D, MaxUnpoolOptions<D>, Module>::WindowLayer;
  /// An output size other than 0 takes the place of that of the options.
  Tensor operator()(const Tensor& x, const Tensor& indices, const PerAxis<D>& output_size = 0,
                    Where where = Where::current()) const {
    MaxUnpoolOptions<D> o = this->options_;
    if (output_size != PerAxis<D>(0)) o.output_size = output_size;
    if constexpr (D == 1) return max_unpool1d(x, indices, this->kernel_, o, where);
    if constexpr (D == 2) return max_unpool2d(x, indices, this->kernel_, o, where);
    if constexpr (D == 3) return max_unpool3d(x, indices, this->kernel_, o, where);
  }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, this->kernel_, this->options_);
  }
};
using MaxUnpool1d = MaxUnpoolNd<1>;
using MaxUnpool2d = MaxUnpoolNd<2>;
using MaxUnpool3d = MaxUnpoolNd<3>;

/// The mean of each window.
template <int D>
class AvgPoolNd : public WindowLayer<D, AvgPoolOptions<D>> {
 public:
  using WindowLayer<D, AvgPoolOptions<D>>::WindowLayer;
  Tensor forward(const Tensor& x) const override {
    if constexpr (D == 1) return avg_pool1d(x, this->kernel_, this->options_);
    if constexpr (D == 2) return avg_pool2d(x, this->kernel_, this->options_);
    if constexpr (D == 3) return avg_pool3d(x, this->kernel_, this->options_);
  }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, this->kernel_, this->options_);
  }
};
using AvgPool1d = AvgPoolNd<1>;
using AvgPool2d = AvgPoolNd<2>;
using AvgPool3d = AvgPoolNd<3>;

/// The Lp norm of each window.
template <int D>
class LPPoolNd : public Layer {
 public:
  LPPoolNd(double norm_type, PerAxis<D> kernel, const LPPoolOptions<D>& options = {})
      : norm_type_(norm_type), kernel_(kernel), options_(options) {}
  LPPoolNd(Module& parent, std::string name, double norm_type, PerAxis<D> kernel,
           const LPPoolOptions<D>& options = {})
      : Layer(parent, std::move(name)), norm_type_(norm_type), kernel_(kernel), options_(options) {}
  Tensor forward(const Tensor& x) const override {
    if constexpr (D == 1) return lp_pool1d(x, norm_type_, kernel_, options_);
    if constexpr (D == 2) return lp_pool2d(x, norm_type_, kernel_, options_);
    if constexpr (D == 3) return lp_pool3d(x, norm_type_, kernel_, options_);
  }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, norm_type_, kernel_, options_);
  }

 private:
  double norm_type_;
  PerAxis<D> kernel_;
  LPPoolOptions<D> options_;
};
using LPPool1d = LPPoolNd<1>;
using LPPool2d = LPPoolNd<2>;
using LPPool3d = LPPoolNd<3>;

/// Means over so many windows, whatever the size of x; a size of 0 stays as it is.
template <int D>
class AdaptiveAvgPoolNd : public Layer {
 public:
  explicit AdaptiveAvgPoolNd(PerAxis<D> output_size) : size_(output_size) {}
  AdaptiveAvgPoolNd(Module& parent, std::string name, PerAxis<D> output_size)
      : Layer(parent, std::move(name)), size_(output_size) {}
  Tensor forward(const Tensor& x) const override {
    if constexpr (D == 1) return adaptive_avg_pool1d(x, size_);
    if constexpr (D == 2) return adaptive_avg_pool2d(x, size_);
    if constexpr (D == 3) return adaptive_avg_pool3d(x, size_);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, size_); }

 private:
  PerAxis<D> size_;
};
using AdaptiveAvgPool1d = AdaptiveAvgPoolNd<1>;
using AdaptiveAvgPool2d = AdaptiveAvgPoolNd<2>;
using AdaptiveAvgPool3d = AdaptiveAvgPoolNd<3>;

/// The largest elements of so many windows, whatever the size of x.
template <int D>
class AdaptiveMaxPoolNd : public Layer {
 public:
  explicit AdaptiveMaxPoolNd(PerAxis<D> output_size) : size_(output_size) {}
  AdaptiveMaxPoolNd(Module& parent, std::string name, PerAxis<D> output_size)
      : Layer(parent, std::move(name)), size_(output_size) {}
  Tensor forward(const Tensor& x) const override { return with_indices(x).values; }
  /// With the indices that MaxUnpool takes.
  ValuesIndices with_indices(const Tensor& x, Where where = Where::current()) const {
    if constexpr (D == 1) return adaptive_max_pool1d(x, size_, where);
    if constexpr (D == 2) return adaptive_max_pool2d(x, size_, where);
    if constexpr (D == 3) return adaptive_max_pool3d(x, size_, where);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, size_); }

 private:
  PerAxis<D> size_;
};
using AdaptiveMaxPool1d = AdaptiveMaxPoolNd<1>;
using AdaptiveMaxPool2d = AdaptiveMaxPoolNd<2>;
using AdaptiveMaxPool3d = AdaptiveMaxPoolNd<3>;

template <int D>
struct FractionalMaxPoolOptions {
  PerAxis<D> output_size = 0;  ///< how many windows,
  double output_ratio = 0;     ///< or how many as a part of the elements, in (0, 1)
};

/// The largest elements of windows at pseudo-random distances (Graham, 2014), drawn anew at each
/// call from the default generator.
template <int D>
class FractionalMaxPoolNd : public Layer {
 public:
  /// Throws ValueError unless exactly one of output_size and output_ratio is given.
  FractionalMaxPoolNd(PerAxis<D> kernel, const FractionalMaxPoolOptions<D>& options)
      : kernel_(kernel), options_(options) {
    check();
  }
  FractionalMaxPoolNd(Module& parent, std::string name, PerAxis<D> kernel,
                      const FractionalMaxPoolOptions<D>& options)
      : Layer(parent, std::move(name)), kernel_(kernel), options_(options) {
    check();
  }
  Tensor forward(const Tensor& x) const override { return with_indices(x).values; }
  /// With the indices that MaxUnpool takes.
  ValuesIndices with_indices(const Tensor& x, Where where = Where::current()) const {
    PerAxis<D> size = options_.output_size;
    for (int d = 0; d < D && options_.output_ratio > 0 && x.dim() >= D; ++d) {
      size[d] = static_cast<int64_t>(static_cast<double>(x.size(d - D)) * options_.output_ratio);
    }
    auto& g = default_generator();
    if constexpr (D == 1) return fractional_max_pool1d(x, kernel_, size, {}, g, where);
    if constexpr (D == 2) return fractional_max_pool2d(x, kernel_, size, {}, g, where);
    if constexpr (D == 3) return fractional_max_pool3d(x, kernel_, size, {}, g, where);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, kernel_, options_); }

 private:
  void check() const {
    const double ratio = options_.output_ratio;
    const bool by_size = options_.output_size != PerAxis<D>(0);
    if (by_size ? ratio == 0 : ratio > 0 && ratio < 1) return;
    throw ValueError("FractionalMaxPool: the output ratio is " + std::to_string(ratio) +
                     (by_size ? ", and an output size is given; one of them is enough"
                              : "; it must be in (0, 1) where no output size is given"));
  }

  PerAxis<D> kernel_;
  FractionalMaxPoolOptions<D> options_;
};
using FractionalMaxPool1d = FractionalMaxPoolNd<1>;
using FractionalMaxPool2d = FractionalMaxPoolNd<2>;
using FractionalMaxPool3d = FractionalMaxPoolNd<3>;

}  // namespace ebb::nn
