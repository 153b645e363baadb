// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/norm.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb::nn {

namespace {

Tensor value(const Parameter& p) { return p.defined() ? p.tensor() : Tensor(); }

void require_elements(const char* layer, const Shape& shape) {
  if (shape.rank() > 0 && shape.numel() >= 1) return;
  throw ValueError(absl::StrCat(layer, ": normalized_shape is ", shape.str(),
                                "; it must have at least one axis and one element"));
}

// x must be [C, dims axes] or have one axis more in front.
void require_sample(const char* layer, const Tensor& x, int64_t channels, int dims) try {
  const int rank = x.dim();
  if ((rank == dims + 1 || rank == dims + 2) && x.size(-1 - dims) == channels) return;
  std::string behind;
  for (int i = 0; i < dims; ++i) absl::StrAppend(&behind, ",*");
  throw ShapeError(absl::StrCat(layer, ": x is ", x.shape().str(), "; it must be [", channels,
                                behind, "] or [N,", channels, behind, "]"));
} catch (const Error&) {
  ebb::detail::rethrow_as(layer);
}

}  // namespace

LayerNorm::LayerNorm(const Shape& normalized_shape, LayerNormOptions options)
    : shape_(normalized_shape), options_(options) {
  start();
}

LayerNorm::LayerNorm(Module& parent, std::string name, const Shape& normalized_shape,
                     LayerNormOptions options)
    : Layer(parent, std::move(name)), shape_(normalized_shape), options_(options) {
  start();
}

void LayerNorm::start() try {
  require_elements("LayerNorm", shape_);
  if (!options_.elementwise_affine) return;
  weight = register_parameter("weight", ones(shape_));
  bias = register_parameter("bias", zeros(shape_));
} catch (const Error&) {
  ebb::detail::rethrow_as("LayerNorm");
}

Tensor LayerNorm::forward(const Tensor& x) const {
  if (!weight.defined()) return layer_norm(x, shape_, Tensor(), Tensor(), options_.eps);
  return layer_norm(x, shape_, weight, bias, options_.eps);
}

RMSNorm::RMSNorm(const Shape& normalized_shape, RMSNormOptions options)
    : shape_(normalized_shape), options_(options) {
  start();
}

RMSNorm::RMSNorm(Module& parent, std::string name, const Shape& normalized_shape,
                 RMSNormOptions options)
    : Layer(parent, std::move(name)), shape_(normalized_shape), options_(options) {
  start();
}

void RMSNorm::start() try {
  require_elements("RMSNorm", shape_);
  if (options_.elementwise_affine) weight = register_parameter("weight", ones(shape_));
} catch (const Error&) {
  ebb::detail::rethrow_as("RMSNorm");
}

Tensor RMSNorm::forward(const Tensor& x) const {
  return rms_norm(x, shape_, value(weight), options_.eps);
}

GroupNorm::GroupNorm(int64_t num_groups, int64_t num_channels, GroupNormOptions options)
    : num_groups_(num_groups), num_channels_(num_channels), options_(options) {
  start();
}

GroupNorm::GroupNorm(Module& parent, std::string name, int64_t num_groups, int64_t num_channels,
                     GroupNormOptions options)
    : Layer(parent, std::move(name)),
      num_groups_(num_groups),
      num_channels_(num_channels),
      options_(options) {
  start();
}

void GroupNorm::start() try {
  if (num_groups_ < 1 || num_channels_ < 1 || num_channels_ % num_groups_ != 0 ||
      options_.dims < 0 || options_.dims > kMaxRank - 2) {
    throw ValueError(absl::StrCat("GroupNorm: num_groups is ", num_groups_, ", num_channels ",
                                  num_channels_, ", dims ", options_.dims,
                                  "; num_channels must be a multiple of num_groups, both at least "
                                  "1, and dims in [0, ",
                                  kMaxRank - 2, "]"));
  }
  if (!options_.affine) return;
  weight = register_parameter("weight", ones({num_channels_}));
  bias = register_parameter("bias", zeros({num_channels_}));
} catch (const Error&) {
  ebb::detail::rethrow_as("GroupNorm");
}

Tensor GroupNorm::forward(const Tensor& x) const {
  require_sample("GroupNorm", x, num_channels_, options_.dims);
  const int64_t axis = -1 - options_.dims;
  if (!weight.defined()) {
    return group_norm(x, num_groups_, Tensor(), Tensor(), options_.eps, axis);
  }
  return group_norm(x, num_groups_, weight, bias, options_.eps, axis);
}

void StatisticsNorm::start(const char* layer, int64_t num_features, bool affine, bool track,
                           std::optional<double> momentum) try {
  if (num_features < 1 || (momentum && !(*momentum >= 0 && *momentum <= 1))) {
    throw ValueError(absl::StrCat(layer, ": num_features is ", num_features, ", momentum ",
                                  momentum.value_or(0), "; they must be at least 1 and in [0, 1]"));
  }
  num_features_ = num_features;
  if (affine) {
    weight = register_parameter("weight", ones({num_features}));
    bias = register_parameter("bias", zeros({num_features}));
  }
  if (!track) return;
  running_mean = zeros({num_features});
  running_var = ones({num_features});
  num_batches_tracked = full({}, 0);
  register_buffer("running_mean", &running_mean);
  register_buffer("running_var", &running_var);
  register_buffer("num_batches_tracked", &num_batches_tracked);
} catch (const Error&) {
  ebb::detail::rethrow_as(layer);
}

double StatisticsNorm::next_share(std::optional<double> momentum) const {
  return momentum ? *momentum : 1 / (num_batches_tracked.item() + 1);
}

void StatisticsNorm::count_batch() const {
  num_batches_tracked = full({}, num_batches_tracked.item<int64_t>() + 1);
}

namespace {

constexpr const char* kBatchNames[] = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d"};
constexpr const char* kInstanceNames[] = {"InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"};

void require_tracking(const char* layer, const BatchNormOptions& o) {
  if (o.track_running_stats || o.statistics == BatchStatistics::kBatch) return;
  throw ValueError(absl::StrCat(layer, ": running statistics must be tracked to be used"));
}

}  // namespace

template <int kDims>
BatchNorm<kDims>::BatchNorm(int64_t num_features, BatchNormOptions options) : options_(options) {
  require_tracking(kBatchNames[kDims - 1], options);
  start(kBatchNames[kDims - 1], num_features, options.affine, options.track_running_stats,
        options.momentum);
}

template <int kDims>
BatchNorm<kDims>::BatchNorm(Module& parent, std::string name, int64_t num_features,
                            BatchNormOptions options)
    : StatisticsNorm(parent, std::move(name)), options_(options) {
  require_tracking(kBatchNames[kDims - 1], options);
  start(kBatchNames[kDims - 1], num_features, options.affine, options.track_running_stats,
        options.momentum);
}

// With a share m of the new batch: its mean differs by d from the running one, so that the mean
// moves by m d, and the variance about it is (1 - m) (var + m d^2) + m var of the batch.
template <int kDims>
void BatchNorm<kDims>::move_statistics(const Tensor& x, int64_t channel_axis) const {
  std::vector<int64_t> others;
  for (int64_t i = -x.dim(); i < 0; ++i) {
    if (i != channel_axis) others.push_back(i);
  }
  Tensor batch_mean = x.detach();
  Tensor batch_var = zeros_like(running_var);
  if (!others.empty()) {
    const Axes over{Span<const int64_t>(others)};
    batch_mean = mean(x.detach(), over);
    batch_var = var(x.detach(), over, 0);
  }
  const double m = next_share(options_.momentum);
  const Tensor d = batch_mean - running_mean;
  running_mean = running_mean + m * d;
  running_var = (1 - m) * (running_var + m * square(d)) + m * batch_var;
  count_batch();
}

template <int kDims>
Tensor BatchNorm<kDims>::forward(const Tensor& x) const {
  const bool vectors = kDims == 1 && x.dim() <= 2;
  require_sample(kBatchNames[kDims - 1], x, num_features_, vectors ? 0 : kDims);
  const int64_t axis = vectors ? -1 : -1 - kDims;
  const Tensor w = value(weight);
  const Tensor b = value(bias);
  if (options_.statistics == BatchStatistics::kRunning) {
    if (is_training() && x.numel() > 0) move_statistics(x, axis);
    return batch_norm(x, &running_mean, &running_var, w, b, false, 0, options_.eps, axis);
  }
  if (!tracks()) return batch_norm(x, nullptr, nullptr, w, b, true, 0, options_.eps, axis);
  const double share = is_training() ? next_share(options_.momentum) : 0;
  Tensor y =
      batch_norm(x, &running_mean, &running_var, w, b, is_training(), share, options_.eps, axis);
  if (is_training()) count_batch();
  return y;
}

template <int kDims>
InstanceNorm<kDims>::InstanceNorm(int64_t num_features, InstanceNormOptions options)
    : options_(options) {
  start(kInstanceNames[kDims - 1], num_features, options.affine, options.track_running_stats,
        options.momentum);
}

template <int kDims>
InstanceNorm<kDims>::InstanceNorm(Module& parent, std::string name, int64_t num_features,
                                  InstanceNormOptions options)
    : StatisticsNorm(parent, std::move(name)), options_(options) {
  start(kInstanceNames[kDims - 1], num_features, options.affine, options.track_running_stats,
        options.momentum);
}

template <int kDims>
Tensor InstanceNorm<kDims>::forward(const Tensor& x) const {
  require_sample(kInstanceNames[kDims - 1], x, num_features_, kDims);
  const Tensor w = value(weight);
  const Tensor b = value(bias);
  if (!tracks()) {
    return instance_norm(x, nullptr, nullptr, w, b, true, 0, options_.eps, -1 - kDims);
  }
  const double share = is_training() ? next_share(options_.momentum) : 0;
  Tensor y = instance_norm(x, &running_mean, &running_var, w, b, is_training(), share, options_.eps,
                           -1 - kDims);
  if (is_training()) count_batch();
  return y;
}

template class BatchNorm<1>;
template class BatchNorm<2>;
template class BatchNorm<3>;
template class InstanceNorm<1>;
template class InstanceNorm<2>;
template class InstanceNorm<3>;

}  // namespace ebb::nn
