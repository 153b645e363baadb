// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/locally_connected.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/creation.h"

namespace ebb::nn {

template <int D>
LocallyConnectedNd<D>::LocallyConnectedNd(int64_t in_channels, int64_t out_channels,
                                          PerAxis<D> input_size, PerAxis<D> kernel,
                                          const LocallyConnectedNdOptions<D>& options)
    : size_(input_size), kernel_(kernel), options_(options) {
  start(in_channels, out_channels);
}

template <int D>
LocallyConnectedNd<D>::LocallyConnectedNd(Module& parent, std::string name, int64_t in_channels,
                                          int64_t out_channels, PerAxis<D> input_size,
                                          PerAxis<D> kernel,
                                          const LocallyConnectedNdOptions<D>& options)
    : Layer(parent, std::move(name)), size_(input_size), kernel_(kernel), options_(options) {
  start(in_channels, out_channels);
}

template <int D>
void LocallyConnectedNd<D>::start(int64_t in_channels, int64_t out_channels) try {
  const auto& o = options_;
  constexpr int64_t kLargest = int64_t{1} << 30;
  Shape places;
  bool fine = in_channels >= 1 && out_channels >= 1;
  for (int d = 0; d < D; ++d) {
    for (const int64_t n : {size_[d], kernel_[d], o.stride[d], o.dilation[d], o.padding[d] + 1}) {
      fine = fine && n >= 1 && n <= kLargest;
    }
    const int64_t room =
        fine ? size_[d] + 2 * o.padding[d] - o.dilation[d] * (kernel_[d] - 1) - 1 : -1;
    fine = fine && room >= 0;
    places.push_back(fine ? room / o.stride[d] + 1 : 0);
  }
  if (!fine) {
    const auto text = [](const PerAxis<D>& v) { return Shape(v.begin(), size_t{D}).str(); };
    throw ValueError(
        absl::StrCat("LocallyConnected", D, "d: ", in_channels, " to ", out_channels,
                     " channels of ", text(size_), ", kernel ", text(kernel_), ", stride ",
                     text(o.stride), ", padding ", text(o.padding), ", dilation ", text(o.dilation),
                     "; all must be at least 1, the padding 0, and a window must fit"));
  }
  Shape w = places;
  w.push_back(out_channels);
  w.push_back(in_channels);
  for (const int64_t k : kernel_) w.push_back(k);
  weight = register_parameter("weight", zeros(w));
  if (o.bias) {
    Shape b{out_channels};
    for (const int64_t n : places) b.push_back(n);
    bias = register_parameter("bias", zeros(b));
  }
  reset_parameters();
} catch (const Error&) {
  ebb::detail::rethrow_as(absl::StrCat("LocallyConnected", D, "d"));
}

template <int D>
void LocallyConnectedNd<D>::reset_parameters() {
  double fan_in = static_cast<double>(weight.size(D + 1));
  for (const int64_t k : kernel_) fan_in *= static_cast<double>(k);
  const double bound = 1 / std::sqrt(fan_in);
  init::uniform_(weight, -bound, bound);
  if (bias.defined()) init::uniform_(bias, -bound, bound);
}

template <int D>
Tensor LocallyConnectedNd<D>::forward(const Tensor& x) const {
  const Tensor b = bias.defined() ? bias.tensor() : Tensor();
  if constexpr (D == 1) {
    return locally_connected1d(x, weight, b,
                               {.dilation = options_.dilation[0],
                                .padding = options_.padding[0],
                                .stride = options_.stride[0]});
  } else {
    return locally_connected2d(
        x, weight, b,
        {.dilation = options_.dilation, .padding = options_.padding, .stride = options_.stride});
  }
}

template <int D>
std::unique_ptr<Module> LocallyConnectedNd<D>::clone() const {
  return clone_as(*this, weight.size(D + 1), weight.size(D), size_, kernel_, options_);
}

template class LocallyConnectedNd<1>;
template class LocallyConnectedNd<2>;

}  // namespace ebb::nn
