// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/dropout.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/random.h"

namespace ebb {

namespace {

void require_probability(const char* op, double p) {
  if (p >= 0 && p <= 1) return;
  throw ValueError(absl::StrCat(op, ": p is ", p, ", outside [0, 1]"));
}

// The shape of a number for each channel of each sample, to broadcast against x.
Shape per_channel(const char* op, const Tensor& x, int64_t channel_axis) {
  const int behind = ops::axes_behind(op, channel_axis);
  Shape shape = x.shape();
  if (shape.rank() <= behind) {
    throw ShapeError(absl::StrCat(op, ": x is ", shape.str(), "; it has no axis ", channel_axis,
                                  " of channels"));
  }
  for (int i = shape.rank() - behind; i < shape.rank(); ++i) shape[i] = 1;
  return shape;
}

// 1 with probability 1 - p, else 0.
Tensor keep(const Tensor& x, const Shape& shape, double p, Generator& generator) {
  return bernoulli(full(shape, 1 - p, {.dtype = x.dtype()}), generator);
}

Tensor alpha_dropped(const Tensor& x, const Tensor& kept, double p, Where where) {
  // What selu approaches: minus its scale times its alpha.
  constexpr double kFloor = -1.7580993408473766;
  if (p == 1) return mul(x, full({}, 0.0, {.dtype = x.dtype()}), where);
  const double scale = 1 / std::sqrt((1 - p) * (1 + p * kFloor * kFloor));
  const double shift = -scale * p * kFloor;
  // kept ? scale x + shift : scale floor + shift.
  const Tensor offset = affine(kept, -scale * kFloor, scale * kFloor + shift);
  return add(mul(x, affine(kept, scale, 0), where), offset, where);
}

}  // namespace

Tensor feature_dropout(const Tensor& x, double p, bool training, int64_t channel_axis,
                       Generator& generator, Where where) try {
  require_probability("feature_dropout", p);
  const Shape shape = per_channel("feature_dropout", x, channel_axis);
  if (!training || p == 0) return x;
  const double scale = p == 1 ? 0 : 1 / (1 - p);
  return mul(x, affine(keep(x, shape, p, generator), scale, 0), where);
} catch (const Error&) {
  detail::rethrow_as("feature_dropout");
}

Tensor alpha_dropout(const Tensor& x, double p, bool training, Generator& generator,
                     Where where) try {
  require_probability("alpha_dropout", p);
  if (!training || p == 0) return x;
  return alpha_dropped(x, keep(x, x.shape(), p, generator), p, where);
} catch (const Error&) {
  detail::rethrow_as("alpha_dropout");
}

Tensor feature_alpha_dropout(const Tensor& x, double p, bool training, int64_t channel_axis,
                             Generator& generator, Where where) try {
  require_probability("feature_alpha_dropout", p);
  const Shape shape = per_channel("feature_alpha_dropout", x, channel_axis);
  if (!training || p == 0) return x;
  return alpha_dropped(x, keep(x, shape, p, generator), p, where);
} catch (const Error&) {
  detail::rethrow_as("feature_alpha_dropout");
}

}  // namespace ebb
