// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ebb/autograd/tensor.h"

// Normalisation. Tensors are float32 or float64, of one type (DTypeError). Means are subtracted in
// two steps, so that numbers far from 0 keep their precision.
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
/// of x, the variance with n - 1 for n numbers. They are new tensors: what a tape has saved of the
/// old ones stays. Otherwise by *running_mean and *running_var, both [C], through which gradients
/// flow too. One op. Throws ShapeError where there is only one number a channel to train on,
/// ValueError where statistics are needed but not given.
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

}  // namespace ebb
