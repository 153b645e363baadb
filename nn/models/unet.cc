// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/unet.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/join.h"
#include "ebb/ops/pool.h"

namespace ebb::nn::models {

namespace {

// Two convolutions of 3x3, each with a norm and a rectifier behind it; `name` goes before theirs.
class Pair : public Layer {
 public:
  Pair(std::string name, int64_t in, int64_t out, const Normalization& norm)
      : name_(std::move(name)), in_(in), out_(out), norm_(norm) {
    for (int i = 0; i < 2; ++i) {
      convs_[i] = std::make_unique<Conv2d>(i == 0 ? in : out, out, 3,
                                           Conv2dOptions{.padding = 1, .bias = false});
      adopt(absl::StrCat(name_, "conv", i + 1), *convs_[i]);
      norms_[i] = make_norm2d(norm, out);
      adopt(absl::StrCat(name_, "norm", i + 1), *norms_[i]);
    }
  }
  Tensor forward(const Tensor& x) const override {
    const Tensor y = relu((*norms_[0])((*convs_[0])(x)));
    return relu((*norms_[1])((*convs_[1])(y)));
  }
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, name_, in_, out_, norm_);
  }

 private:
  std::string name_;
  int64_t in_;
  int64_t out_;
  Normalization norm_;
  std::unique_ptr<Conv2d> convs_[2];
  std::unique_ptr<Layer> norms_[2];
};

}  // namespace

UNet::UNet(UNetOptions options) : options_(options) { start(); }

UNet::UNet(Module& parent, std::string name, UNetOptions options)
    : Layer(parent, std::move(name)), options_(options) {
  start();
}

void UNet::start() try {
  const auto& [in_channels, num_classes, width, depth, norm] = options_;
  if (depth < 1 || depth > 16 || width < 1 || width > kWidest) {
    throw ValueError(absl::StrCat("UNet: depth is ", depth, ", width ", width,
                                  "; they must be in [1, 16] and [1, ", kWidest, "]"));
  }
  int64_t in = in_channels;
  for (int64_t i = 0; i < depth; ++i) {
    const int64_t out = width << i;
    encoders_.push_back(std::make_unique<Pair>(absl::StrCat("enc", i + 1), in, out, norm));
    adopt(absl::StrCat("encoder", i + 1), *encoders_.back());
    in = out;
  }
  bottleneck_ = std::make_unique<Pair>("bottleneck", in, 2 * in, norm);
  adopt("bottleneck", *bottleneck_);
  for (int64_t i = 0; i < depth; ++i) {
    const int64_t out = width << i;
    ups_.push_back(
        std::make_unique<ConvTranspose2d>(2 * out, out, 2, ConvTranspose2dOptions{.stride = 2}));
    decoders_.push_back(std::make_unique<Pair>(absl::StrCat("dec", i + 1), 2 * out, out, norm));
  }
  for (int64_t i = depth; i >= 1; --i) {
    adopt(absl::StrCat("upconv", i), *ups_[static_cast<size_t>(i - 1)]);
    adopt(absl::StrCat("decoder", i), *decoders_[static_cast<size_t>(i - 1)]);
  }
  conv_ = std::make_unique<Conv2d>(width, num_classes, 1);
  adopt("conv", *conv_);
} catch (const Error&) {
  ebb::detail::rethrow_as("UNet");
}

Tensor UNet::forward(const Tensor& x) const {
  const int64_t step = int64_t{1} << options_.depth;
  const int rank = x.dim();
  if (rank < 3 || x.size(-1) % step != 0 || x.size(-2) % step != 0) {
    throw ShapeError(absl::StrCat("UNet: x is ", x.shape().str(),
                                  "; it must be [C,H,W] or [N,C,H,W], H and W multiples of ",
                                  step));
  }
  std::vector<Tensor> seen;
  Tensor y = x;
  for (const auto& encoder : encoders_) {
    seen.push_back((*encoder)(y));
    y = max_pool2d(seen.back(), 2);
  }
  y = (*bottleneck_)(y);
  for (size_t i = encoders_.size(); i-- > 0;) {
    y = (*decoders_[i])(cat({(*ups_[i])(y), seen[i]}, -3));
  }
  return (*conv_)(y);
}

}  // namespace ebb::nn::models
