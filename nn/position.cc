// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/position.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/embedding.h"
#include "ebb/ops/index.h"
#include "ebb/ops/position.h"
#include "ebb/ops/random.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

namespace {

void require_sequence(const char* layer, const Tensor& x, int64_t d_model) try {
  if ((x.dim() == 2 || x.dim() == 3) && x.size(-1) == d_model) return;
  throw ShapeError(absl::StrCat(layer, ": x is ", x.shape().str(), "; it must be [T,", d_model,
                                "] or [N,T,", d_model, "]"));
} catch (const Error&) {
  ebb::detail::rethrow_as(layer);
}

}  // namespace

Tensor sinusoidal_positional_encoding(int64_t length, int64_t d_model, const TensorOptions& options,
                                      double base, int64_t start) try {
  if (length < 0 || d_model < 1 || !(base > 0)) {
    throw ValueError(absl::StrCat("sinusoidal_positional_encoding: length is ", length,
                                  ", d_model ", d_model, ", base ", base,
                                  "; they must be at least 0, at least 1 and positive"));
  }
  const DType dtype = options.dtype.value_or(kFloat32);
  if (!is_differentiable(dtype)) {
    throw DTypeError(absl::StrCat("sinusoidal_positional_encoding: the type is ", name_of(dtype),
                                  "; it must be float32 or float64"));
  }
  Array y = Array::empty(dtype, {length, d_model});
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    for (int64_t j = 0; j < d_model; j += 2) {
      // The angle grows by the same amount from row to row: its sine and cosine are turned on.
      const double step = std::pow(base, -static_cast<double>(j) / static_cast<double>(d_model));
      double sine = std::sin(static_cast<double>(start) * step);
      double cosine = std::cos(static_cast<double>(start) * step);
      const double by_sine = std::sin(step);
      const double by_cosine = std::cos(step);
      T* to = y.mutable_data<T>() + j;
      for (int64_t i = 0; i < length; ++i, to += d_model) {
        to[0] = static_cast<T>(sine);
        if (j + 1 < d_model) to[1] = static_cast<T>(cosine);
        const double turned = sine * by_cosine + cosine * by_sine;
        cosine = cosine * by_cosine - sine * by_sine;
        sine = turned;
      }
    }
  });
  return Tensor(std::move(y));
} catch (const Error&) {
  ebb::detail::rethrow_as("sinusoidal_positional_encoding");
}

PositionalEncoding::PositionalEncoding(int64_t d_model, PositionalEncodingOptions options)
    : d_model_(d_model), options_(options) {
  check();
}

PositionalEncoding::PositionalEncoding(Module& parent, std::string name, int64_t d_model,
                                       PositionalEncodingOptions options)
    : Layer(parent, std::move(name)), d_model_(d_model), options_(options) {
  check();
}

void PositionalEncoding::check() const {
  if (d_model_ >= 1 && options_.base > 0 && options_.dropout >= 0 && options_.dropout <= 1) return;
  throw ValueError(absl::StrCat("PositionalEncoding: d_model is ", d_model_, ", base ",
                                options_.base, ", dropout ", options_.dropout,
                                "; they must be at least 1, positive and in [0, 1]"));
}

Tensor PositionalEncoding::at(const Tensor& x, int64_t start) const {
  require_sequence("PositionalEncoding", x, d_model_);
  const Tensor encoding = sinusoidal_positional_encoding(x.size(-2), d_model_, {.dtype = x.dtype()},
                                                         options_.base, start);
  return dropout(x + encoding, options_.dropout, is_training());
}

LearnedPositions::LearnedPositions(int64_t max_length, int64_t d_model) {
  start(max_length, d_model);
}

LearnedPositions::LearnedPositions(Module& parent, std::string name, int64_t max_length,
                                   int64_t d_model)
    : Layer(parent, std::move(name)) {
  start(max_length, d_model);
}

void LearnedPositions::start(int64_t max_length, int64_t d_model) try {
  if (max_length < 1 || d_model < 1) {
    throw ValueError(absl::StrCat("LearnedPositions: max_length is ", max_length, ", d_model ",
                                  d_model, "; both must be at least 1"));
  }
  weight = register_parameter("weight", zeros({max_length, d_model}));
  init::normal_(weight, 0, 0.02);
} catch (const Error&) {
  ebb::detail::rethrow_as("LearnedPositions");
}

Tensor LearnedPositions::at(const Tensor& x, int64_t start) const {
  require_sequence("LearnedPositions", x, weight.size(1));
  const int64_t length = x.size(-2);
  if (start < 0 || length > weight.size(0) || start > weight.size(0) - length) {
    throw ShapeError(absl::StrCat("LearnedPositions: x is ", x.shape().str(), " from position ",
                                  start, " on; there are ", weight.size(0), " positions"));
  }
  return x + narrow(weight, 0, start, length);
}

RelativePositionBias::RelativePositionBias(int64_t heads, RelativePositionBiasOptions options)
    : options_(options) {
  start(heads);
}

RelativePositionBias::RelativePositionBias(Module& parent, std::string name, int64_t heads,
                                           RelativePositionBiasOptions options)
    : Module(parent, std::move(name)), options_(options) {
  start(heads);
}

void RelativePositionBias::start(int64_t heads) try {
  if (heads < 1) {
    throw ValueError(
        absl::StrCat("RelativePositionBias: heads is ", heads, "; it must be at least 1"));
  }
  relative_position_buckets(1, 1, options_.num_buckets, options_.max_distance,
                            options_.bidirectional);  // throws where the options do not fit
  weight = register_parameter("weight", zeros({options_.num_buckets, heads}));
  init::normal_(weight, 0, 1 / std::sqrt(static_cast<double>(heads)));
} catch (const Error&) {
  ebb::detail::rethrow_as("RelativePositionBias");
}

Tensor RelativePositionBias::operator()(int64_t queries, int64_t keys, bool aligned_at_end,
                                        Where where) const try {
  const ebb::detail::PlaceScope scope(where);
  if (queries == 0 && keys == 0) return zeros({weight.size(1), 0, 0}, {.dtype = weight.dtype()});
  // Queries at the end are the last of as many as there are keys.
  const int64_t before = aligned_at_end ? std::max<int64_t>(keys - queries, 0) : 0;
  const int64_t all = queries + before;
  const Tensor buckets = relative_position_buckets(all, keys, options_.num_buckets,
                                                   options_.max_distance, options_.bidirectional);
  // Of those distances, the ones from the last `queries` to all keys.
  const int64_t width = queries + keys - 1;
  const Tensor of_distance = index_select(weight, 0, narrow(buckets, 0, 0, width));
  const int64_t heads = weight.size(1);
  return relative_shift(expand(unsqueeze(t(of_distance), 1), {heads, queries, width}), keys);
} catch (const Error&) {
  ebb::detail::rethrow_as("RelativePositionBias");
}

}  // namespace ebb::nn
