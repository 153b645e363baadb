// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/nn/module.h"
#include "ebb/ops/pool.h"

// Pooling layers, on a sample [C,...] or a batch [N,C,...]; see ops/pool.h for what they compute
// and what their options mean. They have no parameters.
namespace ebb::nn {

namespace detail {

inline Tensor call_max_pool(const Tensor& x, const PerAxis<1>& k, const MaxPoolOptions<1>& o) {
  return max_pool1d(x, k, o);
}
inline Tensor call_max_pool(const Tensor& x, const PerAxis<2>& k, const MaxPoolOptions<2>& o) {
  return max_pool2d(x, k, o);
}
inline Tensor call_max_pool(const Tensor& x, const PerAxis<3>& k, const MaxPoolOptions<3>& o) {
  return max_pool3d(x, k, o);
}
inline Tensor call_avg_pool(const Tensor& x, const PerAxis<1>& k, const AvgPoolOptions<1>& o) {
  return avg_pool1d(x, k, o);
}
inline Tensor call_avg_pool(const Tensor& x, const PerAxis<2>& k, const AvgPoolOptions<2>& o) {
  return avg_pool2d(x, k, o);
}
inline Tensor call_avg_pool(const Tensor& x, const PerAxis<3>& k, const AvgPoolOptions<3>& o) {
  return avg_pool3d(x, k, o);
}

}  // namespace detail

/// The largest element of each window.
template <int D>
class MaxPoolNd : public Layer {
 public:
  explicit MaxPoolNd(PerAxis<D> kernel, const MaxPoolOptions<D>& options = {})
      : kernel_(kernel), options_(options) {}
  MaxPoolNd(Module& parent, std::string name, PerAxis<D> kernel,
            const MaxPoolOptions<D>& options = {})
      : Layer(parent, std::move(name)), kernel_(kernel), options_(options) {}
  Tensor forward(const Tensor& x) const override {
    return detail::call_max_pool(x, kernel_, options_);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, kernel_, options_); }

 private:
  PerAxis<D> kernel_;
  MaxPoolOptions<D> options_;
};
using MaxPool1d = MaxPoolNd<1>;
using MaxPool2d = MaxPoolNd<2>;
using MaxPool3d = MaxPoolNd<3>;

/// The mean of each window.
template <int D>
class AvgPoolNd : public Layer {
 public:
  explicit AvgPoolNd(PerAxis<D> kernel, const AvgPoolOptions<D>& options = {})
      : kernel_(kernel), options_(options) {}
  AvgPoolNd(Module& parent, std::string name, PerAxis<D> kernel,
            const AvgPoolOptions<D>& options = {})
      : Layer(parent, std::move(name)), kernel_(kernel), options_(options) {}
  Tensor forward(const Tensor& x) const override {
    return detail::call_avg_pool(x, kernel_, options_);
  }
  std::unique_ptr<Module> clone() const override { return clone_as(*this, kernel_, options_); }

 private:
  PerAxis<D> kernel_;
  AvgPoolOptions<D> options_;
};
using AvgPool1d = AvgPoolNd<1>;
using AvgPool2d = AvgPoolNd<2>;
using AvgPool3d = AvgPoolNd<3>;

}  // namespace ebb::nn
