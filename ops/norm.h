// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ebb/autograd/tensor.h"

// Normalisation. Tensors are float32 or float64, of one type (DTypeError). An `eps` that is
// negative or not finite is a ValueError. Means are subtracted in two steps, so that numbers far
// from 0 keep their precision.
namespace ebb {

// --- of the last axes --------------------------------------------------------------------------

/// The last axes of x, of shape `normalized_shape`, brought to mean 0 and variance 1 (of the
/// population, with `eps` added), then times `weight` plus `bias`, both of that shape; either may
/// be undefined, but bias only with weight. Ba, Kiros and Hinton, "Layer normalization", 2016. One
/// op. Throws ShapeError where x does not end in normalized_shape, or that is empty, or weight or
/// bias differs from it; ValueError where there is a bias but no weight.
Tensor layer_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = Tensor(),
                  const Tensor& bias = Tensor(), double eps = 1e-5, Where where = Where::current());

/// The last axes of x, of shape `normalized_shape`, divided by the root of the mean of their
/// squares (with `eps` added to that mean; by default the machine epsilon of the type), then times
/// `weight`, if defined: Zhang and Sennrich, "Root mean square layer normalization", 2019. One op.
/// Throws ShapeError as layer_norm does.
Tensor rms_norm(const Tensor& x, const Shape& normalized_shape, const Tensor& weight = Tensor(),
                std::optional<double> eps = std::nullopt, Where where = Where::current());

// --- of channels -------------------------------------------------------------------------------
// x is one sample, or any number of them: `channel_axis`, counted from the end, holds the channels;
// what is behind it, such as height and width, belongs to them, and what is before it counts
// samples. -3 is right for images [C,H,W] and [N,C,H,W], -2 for sequences [C,L] and [N,C,L], -4 for
// volumes, -1 for vectors [C] and [N,C]. `weight` and `bias` are [C], and either may be undefined,
// but bias only with weight (ValueError). Throws ShapeError where sizes do not fit, ValueError
// where channel_axis is not negative.

/// The channels of each sample in `num_groups` groups of neighbours, each brought to mean 0 and
/// variance 1 (of the population, with `eps` added), then times weight plus bias: Wu and He, "Group
/// normalization", 2018. One op. Throws ShapeError where the groups do not divide the channels.
Tensor group_norm(const Tensor& x, int64_t num_groups, const Tensor& weight = Tensor(),
                  const Tensor& bias = Tensor(), double eps = 1e-5, int64_t channel_axis = -3,
                  Where where = Where::current());

/// Every channel brought to mean 0 and variance 1 over all samples: Ioffe and Szegedy, "Batch
/// normalization", 2015. With `training` by mean and variance of x itself; then *running_mean and
/// *running_var, where given, become (1 - momentum) times what they were plus momentum times those
/// of x, the variance with n - 1 for n numbers; momentum is in [0, 1] (ValueError). They are new
/// tensors: what a tape has saved of the old ones stays. Otherwise by *running_mean and
/// *running_var, both [C], through which gradients flow too. One op. Throws ShapeError where there
/// is only one number a channel to train on, ValueError where statistics are needed but not given.
Tensor batch_norm(const Tensor& x, Tensor* running_mean, Tensor* running_var,
                  const Tensor& weight = Tensor(), const Tensor& bias = Tensor(),
                  bool training = false, double momentum = 0.1, double eps = 1e-5,
                  int64_t channel_axis = -3, Where where = Where::current());

struct BatchNormOutput {
  Tensor output;
  Tensor mean;  ///< [C]
  Tensor var;   ///< [C], of the population
};

/// The same in training, with the statistics of x as outputs that pass gradients too.
BatchNormOutput batch_norm_train(const Tensor& x, const Tensor& weight = Tensor(),
                                 const Tensor& bias = Tensor(), double eps = 1e-5,
                                 int64_t channel_axis = -3, Where where = Where::current());

/// The same for each sample by itself: Ulyanov, Vedaldi and Lempitsky, "Instance normalization",
/// 2016. Running statistics move by the mean over the samples.
Tensor instance_norm(const Tensor& x, Tensor* running_mean = nullptr, Tensor* running_var = nullptr,
                     const Tensor& weight = Tensor(), const Tensor& bias = Tensor(),
                     bool use_input_stats = true, double momentum = 0.1, double eps = 1e-5,
                     int64_t channel_axis = -3, Where where = Where::current());

// --- of neighbours and by neighbours -----------------------------------------------------------

/// x_c / (k + alpha / size * sum of x_j^2)^beta over the `size` channels j nearest to c, size / 2
/// of them before it; channels beyond the ends count as 0. Krizhevsky, Sutskever and Hinton,
/// "ImageNet classification with deep convolutional neural networks", 2012, whose alpha is this
/// one's size-th part, as in PyTorch. One op. Throws ValueError where size is below 1.
Tensor local_response_norm(const Tensor& x, int64_t size, double alpha = 1e-4, double beta = 0.75,
                           double k = 1, int64_t channel_axis = -3, Where where = Where::current());

/// Generalised divisive normalisation: x_c / sqrt(beta_c + sum_j gamma_cj x_j^2) over all channels,
/// or, with `inverse`, x_c times that root. beta [C] and gamma [C,C] should keep what is under the
/// root positive. Balle, Laparra and Simoncelli, "Density modeling of images using a generalized
/// normalization transformation", 2016. One op.
Tensor gdn(const Tensor& x, const Tensor& beta, const Tensor& gamma, bool inverse = false,
           int64_t channel_axis = -3, Where where = Where::current());

/// Local contrast normalisation of images [C,H,W] or [N,C,H,W]: from each pixel the mean around it,
/// over all channels and weighted by a Gaussian of deviation `sigma` cut off at `radius` pixels, is
/// subtracted, then the rest divided by the root mean square around it, or by the mean of those
/// roots over the image where that is larger. Near a border only pixels of the image count.
/// Jarrett, Kavukcuoglu, Ranzato and LeCun, "What is the best multi-stage architecture for object
/// recognition?", 2009, who take a window of 9 pixels. `eps` is added under the root. Throws
/// ShapeError on another rank, ValueError where sigma is not positive or radius negative.
Tensor local_contrast_norm(const Tensor& x, int64_t radius = 4, double sigma = 2, double eps = 1e-8,
                           Where where = Where::current());

// --- of weights --------------------------------------------------------------------------------

/// g v / |v|, where |v| is taken over all axes but `axis`, and g has the size of v there and 1 in
/// all others; without an axis, over all, with g of rank 0: Salimans and Kingma, "Weight
/// normalization", 2016. One op. Throws ShapeError where g does not fit, IndexError on a bad axis.
Tensor weight_norm(const Tensor& v, const Tensor& g, std::optional<int64_t> axis = 0,
                   Where where = Where::current());

}  // namespace ebb
