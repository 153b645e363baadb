// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/conv.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/creation.h"

namespace ebb::nn {

namespace {

template <int D>
std::string text_of(const PerAxis<D>& v) {
  return Shape(v.begin(), size_t{D}).str();
}

// Throws ValueError where a layer of these numbers cannot be.
template <int D>
void check(const std::string& layer, int64_t in, int64_t out, const PerAxis<D>& kernel,
           const PerAxis<D>& stride, const PerAxis<D>& padding, const PerAxis<D>& dilation,
           int64_t groups) {
  bool fine = in >= 1 && out >= 1 && groups >= 1 && in % groups == 0 && out % groups == 0;
  for (int d = 0; d < D; ++d) {
    fine = fine && kernel[d] >= 1 && stride[d] >= 1 && padding[d] >= 0 && dilation[d] >= 1;
  }
  if (fine) return;
  throw ValueError(
      absl::StrCat(layer, ": ", in, " to ", out, " channels in ", groups, " groups, kernel ",
                   text_of(kernel), ", stride ", text_of(stride), ", padding ", text_of(padding),
                   ", dilation ", text_of(dilation),
                   "; all must be at least 1, the padding 0, and the channels multiples of "
                   "the groups"));
}

// The parameters' common first values; fan in is that of the weight [out, in, ...].
void draw(const Parameter& weight, const Parameter& bias) {
  const double bound =
      1 / std::sqrt(static_cast<double>(weight.numel()) / static_cast<double>(weight.size(0)));
  init::uniform_(weight, -bound, bound);
  if (bias.defined()) init::uniform_(bias, -bound, bound);
}

template <int D>
Shape weight_shape(int64_t first, int64_t second, const PerAxis<D>& kernel) {
  Shape s{first, second};
  for (const int64_t k : kernel) s.push_back(k);
  return s;
}

template <int D>
PerAxis<D> kernel_of(const Parameter& weight) {
  PerAxis<D> k = 1;
  for (int d = 0; d < D; ++d) k[d] = weight.size(2 + d);
  return k;
}

Tensor optional(const Parameter& p) { return p.defined() ? p.tensor() : Tensor(); }

Tensor call(const Tensor& x, const Parameter& w, const Tensor& b, const ConvOptions<1>& o) {
  return conv1d(x, w, b, o);
}
Tensor call(const Tensor& x, const Parameter& w, const Tensor& b, const ConvOptions<2>& o) {
  return conv2d(x, w, b, o);
}
Tensor call(const Tensor& x, const Parameter& w, const Tensor& b, const ConvOptions<3>& o) {
  return conv3d(x, w, b, o);
}
Tensor call(const Tensor& x, const Parameter& w, const Tensor& b,
            const ConvTransposeOptions<1>& o) {
  return conv_transpose1d(x, w, b, o);
}
Tensor call(const Tensor& x, const Parameter& w, const Tensor& b,
            const ConvTransposeOptions<2>& o) {
  return conv_transpose2d(x, w, b, o);
}
Tensor call(const Tensor& x, const Parameter& w, const Tensor& b,
            const ConvTransposeOptions<3>& o) {
  return conv_transpose3d(x, w, b, o);
}

}  // namespace

template <int D>
ConvNd<D>::ConvNd(int64_t in_channels, int64_t out_channels, PerAxis<D> kernel,
                  const ConvNdOptions<D>& options)
    : options_(options) {
  start(in_channels, out_channels, kernel);
}

template <int D>
ConvNd<D>::ConvNd(Module& parent, std::string name, int64_t in_channels, int64_t out_channels,
                  PerAxis<D> kernel, const ConvNdOptions<D>& options)
    : Layer(parent, std::move(name)), options_(options) {
  start(in_channels, out_channels, kernel);
}

template <int D>
void ConvNd<D>::start(int64_t in_channels, int64_t out_channels, const PerAxis<D>& kernel) try {
  const auto& o = options_;
  const std::string layer = absl::StrCat("Conv", D, "d");
  check<D>(layer, in_channels, out_channels, kernel, o.stride, o.padding, o.dilation, o.groups);
  if (o.padding.is_same() && o.stride != PerAxis<D>(1)) {
    throw ValueError(absl::StrCat(layer, ": the stride is ", text_of(o.stride),
                                  "; padding kSame needs stride 1"));
  }
  weight = register_parameter("weight",
                              zeros(weight_shape(out_channels, in_channels / o.groups, kernel)));
  if (o.bias) bias = register_parameter("bias", zeros({out_channels}));
  reset_parameters();
} catch (const Error&) {
  ebb::detail::rethrow_as(absl::StrCat("Conv", D, "d"));
}

template <int D>
PerAxis<D> ConvNd<D>::kernel() const {
  return kernel_of<D>(weight);
}

template <int D>
void ConvNd<D>::reset_parameters() {
  draw(weight, bias);
}

template <int D>
Tensor ConvNd<D>::forward(const Tensor& x) const try {
  ConvOptions<D> o{.stride = options_.stride,
                   .padding = options_.padding,
                   .dilation = options_.dilation,
                   .groups = options_.groups};
  if (options_.padding_mode == PadMode::kConstant) return call(x, weight, optional(bias), o);
  o.padding = 0;
  int64_t pads[2 * D];  // of the last axis first
  for (int d = 0; d < D; ++d) {
    int64_t* p = pads + 2 * (D - 1 - d);
    p[0] = p[1] = options_.padding[d];
    if (!options_.padding.is_same()) continue;
    const int64_t total = options_.dilation[d] * (weight.size(2 + d) - 1);
    p[0] = total / 2;
    p[1] = total - p[0];
  }
  return call(pad(x, pads, options_.padding_mode), weight, optional(bias), o);
} catch (const Error&) {
  ebb::detail::rethrow_as(absl::StrCat("Conv", D, "d"));
}

template <int D>
std::unique_ptr<Module> ConvNd<D>::clone() const {
  return clone_as(*this, weight.size(1) * options_.groups, weight.size(0), kernel(), options_);
}

template <int D>
ConvTransposeNd<D>::ConvTransposeNd(int64_t in_channels, int64_t out_channels, PerAxis<D> kernel,
                                    const ConvTransposeNdOptions<D>& options)
    : options_(options) {
  start(in_channels, out_channels, kernel);
}

template <int D>
ConvTransposeNd<D>::ConvTransposeNd(Module& parent, std::string name, int64_t in_channels,
                                    int64_t out_channels, PerAxis<D> kernel,
                                    const ConvTransposeNdOptions<D>& options)
    : Layer(parent, std::move(name)), options_(options) {
  start(in_channels, out_channels, kernel);
}

template <int D>
void ConvTransposeNd<D>::start(int64_t in_channels, int64_t out_channels,
                               const PerAxis<D>& kernel) try {
  const auto& o = options_;
  check<D>(absl::StrCat("ConvTranspose", D, "d"), in_channels, out_channels, kernel, o.stride,
           o.padding, o.dilation, o.groups);
  for (int d = 0; d < D; ++d) {
    if (o.output_padding[d] >= 0 && o.output_padding[d] < std::max(o.stride[d], o.dilation[d])) {
      continue;
    }
    throw ValueError(absl::StrCat("ConvTranspose", D, "d: the output padding is ",
                                  text_of(o.output_padding), ", stride ", text_of(o.stride),
                                  ", dilation ", text_of(o.dilation),
                                  "; it must not be negative, and below stride or dilation"));
  }
  weight = register_parameter("weight",
                              zeros(weight_shape(in_channels, out_channels / o.groups, kernel)));
  if (o.bias) bias = register_parameter("bias", zeros({out_channels}));
  reset_parameters();
} catch (const Error&) {
  ebb::detail::rethrow_as(absl::StrCat("ConvTranspose", D, "d"));
}

template <int D>
void ConvTransposeNd<D>::reset_parameters() {
  draw(weight, bias);
}

template <int D>
Tensor ConvTransposeNd<D>::call(const Tensor& x, const PerAxis<D>& output_padding) const {
  return nn::call(x, weight, optional(bias),
                  ConvTransposeOptions<D>{.stride = options_.stride,
                                          .padding = options_.padding,
                                          .output_padding = output_padding,
                                          .groups = options_.groups,
                                          .dilation = options_.dilation});
}

template <int D>
Tensor ConvTransposeNd<D>::forward(const Tensor& x) const {
  return call(x, options_.output_padding);
}

template <int D>
Tensor ConvTransposeNd<D>::operator()(At x, const PerAxis<D>& output_size) const {
  const ebb::detail::PlaceScope scope(x.where);
  PerAxis<D> extra = 0;
  for (int d = 0; d < D && x.tensor->dim() >= D; ++d) {
    const int64_t least = (x.tensor->size(d - D) - 1) * options_.stride[d] -
                          2 * options_.padding[d] +
                          options_.dilation[d] * (weight.size(2 + d) - 1) + 1;
    extra[d] = output_size[d] - least;
    if (extra[d] >= 0 && extra[d] < std::max(options_.stride[d], options_.dilation[d])) continue;
    throw ValueError(absl::StrCat("ConvTranspose", D, "d: x is ", x.tensor->shape().str(),
                                  ", the output size is ", text_of(output_size), "; along axis ",
                                  d - D, " it can be from ", least, " to ",
                                  least + std::max(options_.stride[d], options_.dilation[d]) - 1));
  }
  return call(*x.tensor, extra);
}

template <int D>
std::unique_ptr<Module> ConvTransposeNd<D>::clone() const {
  return clone_as(*this, weight.size(0), weight.size(1) * options_.groups, kernel_of<D>(weight),
                  options_);
}

template class ConvNd<1>;
template class ConvNd<2>;
template class ConvNd<3>;
template class ConvTransposeNd<1>;
template class ConvTransposeNd<2>;
template class ConvTransposeNd<3>;

}  // namespace ebb::nn
