// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/anchors.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"

namespace ebb::nn::models {

AnchorGenerator::AnchorGenerator(AnchorOptions options) : options_(std::move(options)) {
  auto require_positive = [](const char* what, const std::vector<double>& values) {
    for (const double v : values) {
      if (!(v > 0) || std::isinf(v)) {
        throw ValueError(
            absl::StrCat("AnchorGenerator: ", what, " ", v, "; it must be above 0 and finite"));
      }
    }
  };
  const auto& [sizes, ratios] = options_;
  bool some = !sizes.empty() && !ratios.empty();
  for (const auto& level : sizes) {
    some = some && !level.empty();
    require_positive("size", level);
  }
  require_positive("aspect ratio", ratios);
  if (!some) throw ValueError("AnchorGenerator: a level without sizes, or no ratio");
}

int64_t AnchorGenerator::at_each_place(size_t level) const {
  if (level >= levels()) {
    throw IndexError(absl::StrCat("AnchorGenerator: level ", level, " of ", levels()));
  }
  return static_cast<int64_t>(options_.sizes[level].size() * options_.aspect_ratios.size());
}

Tensor AnchorGenerator::around_origin(size_t level) const {
  const Array boxes = Array::empty(kFloat32, {at_each_place(level), 4});
  float* out = boxes.mutable_data<float>();
  for (const double ratio : options_.aspect_ratios) {
    // In float32, as the published ones were computed: what is rounded may lie near a half.
    const float tall = std::sqrt(static_cast<float>(ratio));
    const float wide = 1 / tall;
    for (const double size : options_.sizes[level]) {
      const float x = std::nearbyint(wide * static_cast<float>(size) / 2);
      const float y = std::nearbyint(tall * static_cast<float>(size) / 2);
      for (const float v : {-x, -y, x, y}) *out++ = v;
    }
  }
  return Tensor(boxes);
}

Tensor AnchorGenerator::operator()(size_t level, int64_t rows, int64_t columns, int64_t height,
                                   int64_t width) const {
  if (rows < 1 || columns < 1 || height < 1 || width < 1) {
    throw ValueError(absl::StrCat("AnchorGenerator: ", rows, " x ", columns,
                                  " places in an image of ", height, " x ", width,
                                  "; each must be at least 1"));
  }
  const Tensor base = around_origin(level);
  const int64_t each = base.size(0);
  const Array places = Array::empty(kFloat32, {rows, columns, each, 4});  // which may be too many
  const Array boxes = places.view_as({rows * columns * each, 4});
  float* out = boxes.mutable_data<float>();
  const float* from = base.data<float>();
  for (int64_t row = 0; row < rows; ++row) {
    const auto y = static_cast<float>(row * (height / rows));
    for (int64_t column = 0; column < columns; ++column) {
      const auto x = static_cast<float>(column * (width / columns));
      for (int64_t k = 0; k < 4 * each; k += 2) {
        *out++ = from[k] + x;
        *out++ = from[k + 1] + y;
      }
    }
  }
  return Tensor(boxes);
}

Tensor match_boxes(const Tensor& fit, const MatchOptions& options) {
  if (fit.dim() != 2) {
    throw ShapeError(
        absl::StrCat("match_boxes: fit is ", fit.shape().str(), "; it must be [objects, anchors]"));
  }
  if (fit.dtype() != kFloat32 && fit.dtype() != kFloat64) {
    throw DTypeError(absl::StrCat("match_boxes: fit is ", Meta{fit.dtype(), fit.shape()}.str(),
                                  "; it must be float32 or float64"));
  }
  if (!(options.low <= options.high)) {
    throw ValueError(absl::StrCat("match_boxes: low is ", options.low, ", high ", options.high,
                                  "; low must not be above high"));
  }
  const auto objects = static_cast<size_t>(fit.size(0));
  const auto anchors = static_cast<size_t>(fit.size(1));
  const Array matches = Array::full(kInt64, {fit.size(1)}, kBackground);
  if (objects == 0) return Tensor(matches);
  int64_t* match = matches.mutable_data<int64_t>();
  visit_differentiable(fit.dtype(), [&](auto t) {
    using T = decltype(t);
    const Array values = contiguous(fit.value());
    std::vector<T> best(anchors, -1);      // the best fit of each anchor,
    std::vector<int64_t> object(anchors);  // with which object,
    std::vector<T> most(objects, -1);      // and the best of each object
    for (size_t g = 0; g < objects; ++g) {
      const T* row = values.data<T>() + g * anchors;
      for (size_t a = 0; a < anchors; ++a) {
        most[g] = row[a] > most[g] ? row[a] : most[g];
        if (row[a] > best[a]) {
          best[a] = row[a];
          object[a] = static_cast<int64_t>(g);
        }
      }
    }
    for (size_t a = 0; a < anchors; ++a) {
      if (best[a] >= static_cast<T>(options.high)) {
        match[a] = object[a];
      } else if (best[a] >= static_cast<T>(options.low)) {
        match[a] = kBetween;
      }
    }
    if (!options.allow_low_quality) return;
    for (size_t g = 0; g < objects; ++g) {
      if (!(most[g] > 0)) continue;
      const T* row = values.data<T>() + g * anchors;
      for (size_t a = 0; a < anchors; ++a) {
        if (row[a] == most[g]) match[a] = object[a];
      }
    }
  });
  return Tensor(matches);
}

}  // namespace ebb::nn::models
