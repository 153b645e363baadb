// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "ebb/nn/module.h"

// Layers that normalise; the functions and the papers are in ops/norm.h. Parameters `weight`, of
// ones, and `bias`, of zeros, are undefined where the options leave them out.
namespace ebb::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  bool elementwise_affine = true;
};

/// Brings the last axes, of shape `normalized_shape`, to mean 0 and variance 1, then times `weight`
/// plus `bias`, both of that shape: Ba, Kiros, Hinton 2016.
class LayerNorm : public Layer {
 public:
  /// Throws ValueError where normalized_shape is empty.
  explicit LayerNorm(const Shape& normalized_shape, LayerNormOptions options = {});
  LayerNorm(Module& parent, std::string name, const Shape& normalized_shape,
            LayerNormOptions options = {});
  /// Throws ShapeError where x does not end in normalized_shape.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, shape_, options_); }

  Parameter weight;
  Parameter bias;

 private:
  void start();

  Shape shape_;
  LayerNormOptions options_;
};

struct RMSNormOptions {
  std::optional<double> eps = std::nullopt;  ///< by default the machine epsilon of the type
  bool elementwise_affine = true;
};

/// Divides the last axes, of shape `normalized_shape`, by their root mean square, then times
/// `weight`, of that shape: Zhang, Sennrich 2019.
class RMSNorm : public Layer {
 public:
  /// Throws ValueError where normalized_shape is empty.
  explicit RMSNorm(const Shape& normalized_shape, RMSNormOptions options = {});
  RMSNorm(Module& parent, std::string name, const Shape& normalized_shape,
          RMSNormOptions options = {});
  /// Throws ShapeError where x does not end in normalized_shape.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, shape_, options_); }

  Parameter weight;

 private:
  void start();

  Shape shape_;
  RMSNormOptions options_;
};

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;
  /// Axes behind the channels: 2 for images [C,H,W] and [N,C,H,W], 1 for sequences, 3 for volumes,
  /// 0 for vectors. (PyTorch takes the second axis for the channels and knows no single sample.)
  int dims = 2;
};

/// Brings groups of neighbouring channels to mean 0 and variance 1, in each sample by itself, then
/// times `weight` [C] plus `bias` [C]: Wu, He 2018.
class GroupNorm : public Layer {
 public:
  /// Throws ValueError where a size is below 1, dims is outside [0, 6], or the groups do not divide
  /// the channels.
  GroupNorm(int64_t num_groups, int64_t num_channels, GroupNormOptions options = {});
  GroupNorm(Module& parent, std::string name, int64_t num_groups, int64_t num_channels,
            GroupNormOptions options = {});
  /// x [C, dims axes] or [N, C, dims axes]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, num_groups_, num_channels_, options_);
  }

  Parameter weight;
  Parameter bias;

 private:
  void start();

  int64_t num_groups_;
  int64_t num_channels_;
  GroupNormOptions options_;
};

/// By what a BatchNorm normalises in training.
enum class BatchStatistics : uint8_t {
  /// Mean and variance of what it is given, as in the paper and PyTorch. Of one image they are
  /// those of its pixels; of one vector there are none.
  kBatch,
  /// The running ones, once this sample is counted in; no gradient flows through them. For one
  /// sample at a time: the statistics are those of the stream of samples, and training computes
  /// what evaluation does. The variance counts how the samples' means differ too (West 1979, with
  /// weights that fade), so that vectors of one number a channel will do.
  kRunning,
};

struct BatchNormOptions {
  double eps = 1e-5;
  /// How far running statistics move toward those of a batch; none: they are the mean over all
  /// batches so far.
  std::optional<double> momentum = 0.1;
  bool affine = true;
  bool track_running_stats = true;  ///< else those of the batch are used in evaluation too
  BatchStatistics statistics = BatchStatistics::kBatch;
};

struct InstanceNormOptions {
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;
  bool affine = false;
  bool track_running_stats = false;
};

/// What BatchNorm and InstanceNorm share. Buffers `running_mean` [C] of zeros, `running_var` [C] of
/// ones and `num_batches_tracked`, an int64, where statistics are tracked; a call in training mode
/// replaces them: for one thread at a time. (PyTorch's InstanceNorm does not count its batches.)
class StatisticsNorm : public Layer {
 public:
  Parameter weight;
  Parameter bias;
  mutable Tensor running_mean;  ///< undefined where not tracked
  mutable Tensor running_var;
  mutable Tensor num_batches_tracked;

 protected:
  StatisticsNorm() = default;
  StatisticsNorm(Module& parent, std::string name) : Layer(parent, std::move(name)) {}
  void start(const char* layer, int64_t num_features, bool affine, bool track,
             std::optional<double> momentum);
  bool tracks() const { return running_mean.defined(); }
  // The share that the next batch has in the running statistics.
  double next_share(std::optional<double> momentum) const;
  void count_batch() const;

  int64_t num_features_ = 0;
};

/// Brings every channel to mean 0 and variance 1, in training by the statistics of the batch (or
/// see BatchStatistics) and in evaluation by running ones, then times `weight` [C] plus `bias` [C]:
/// Ioffe, Szegedy 2015. A single sample is a batch of one. `kDims` axes are behind the channels.
template <int kDims>
class BatchNorm : public StatisticsNorm {
 public:
  /// Throws ValueError where num_features is below 1 or momentum outside [0, 1], or the running
  /// statistics are to be used but are not tracked.
  explicit BatchNorm(int64_t num_features, BatchNormOptions options = {});
  BatchNorm(Module& parent, std::string name, int64_t num_features, BatchNormOptions options = {});
  /// x [C, kDims axes] or [N, C, kDims axes]; BatchNorm1d, as PyTorch, takes a matrix for [N,C],
  /// and also a vector [C]. Throws ShapeError, also where there is one number a channel and the
  /// statistics are to be those of the batch.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, num_features_, options_);
  }

 private:
  void move_statistics(const Tensor& x, int64_t channel_axis) const;

  BatchNormOptions options_;
};
using BatchNorm1d = BatchNorm<1>;
using BatchNorm2d = BatchNorm<2>;
using BatchNorm3d = BatchNorm<3>;
extern template class BatchNorm<1>;
extern template class BatchNorm<2>;
extern template class BatchNorm<3>;

/// Brings every channel of every sample to mean 0 and variance 1; with affine, times `weight` [C]
/// plus `bias` [C]; with track_running_stats, by running statistics in evaluation: Ulyanov,
/// Vedaldi, Lempitsky 2016. `kDims` axes are behind the channels.
template <int kDims>
class InstanceNorm : public StatisticsNorm {
 public:
  /// Throws ValueError where num_features is below 1 or momentum outside [0, 1].
  explicit InstanceNorm(int64_t num_features, InstanceNormOptions options = {});
  InstanceNorm(Module& parent, std::string name, int64_t num_features,
               InstanceNormOptions options = {});
  /// x [C, kDims axes] or [N, C, kDims axes]. Throws ShapeError.
  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override {
    return clone_as(*this, num_features_, options_);
  }

 private:
  InstanceNormOptions options_;
};
using InstanceNorm1d = InstanceNorm<1>;
using InstanceNorm2d = InstanceNorm<2>;
using InstanceNorm3d = InstanceNorm<3>;
extern template class InstanceNorm<1>;
extern template class InstanceNorm<2>;
extern template class InstanceNorm<3>;

}  // namespace ebb::nn
