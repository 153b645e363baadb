// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ebb/ebb.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

// Scenes made of handwritten digits, with the class of each pixel known.
namespace segmentation {

inline constexpr int64_t kSide = 64;
inline constexpr int64_t kBackground = 10;  // after the ten digits
inline constexpr int64_t kClasses = 11;

struct Scene {
  ebb::Tensor image;   ///< [1,64,64], about 0 to 1
  ebb::Tensor labels;  ///< [64,64], int64
};

/// Two to five digits at random places over a background that varies slowly, and noise on all of
/// it. Digits do not touch; one that finds no room is left out. A digit is where its ink is more
/// than half.
inline Scene make_scene(const std::vector<ebb::data::LabelledImage>& digits,
                        ebb::Generator& chance) {
  constexpr double kNoise = 0.1;
  constexpr double kHill = 0.3;  // how much the background rises from one side to the other
  std::vector<float> image(kSide * kSide);
  std::vector<int64_t> labels(kSide * kSide, kBackground);
  const double slope_x = kHill * (2 * chance.uniform() - 1);
  const double slope_y = kHill * (2 * chance.uniform() - 1);
  for (int64_t i = 0; i < kSide; ++i) {
    for (int64_t j = 0; j < kSide; ++j) {
      const double u = static_cast<double>(j) / kSide - 0.5;
      const double v = static_cast<double>(i) / kSide - 0.5;
      image[static_cast<size_t>(i * kSide + j)] =
          static_cast<float>(0.5 * kHill + slope_x * u + slope_y * v);
    }
  }
  const uint64_t count = 2 + chance.uniform_int(4);
  std::vector<std::array<int64_t, 2>> corners;
  const auto is_free = [&](int64_t top, int64_t left) {
    constexpr int64_t kInk = 20;  // pixels that MNIST's digits fill, of 28
    return std::all_of(corners.begin(), corners.end(), [&](const auto& c) {
      return std::abs(c[0] - top) >= kInk || std::abs(c[1] - left) >= kInk;
    });
  };
  for (uint64_t k = 0; k < count; ++k) {
    const auto& [digit, label] = digits[chance.uniform_int(digits.size())];
    const int64_t size = digit.size(0);
    const auto room = static_cast<uint64_t>(kSide - size + 1);
    int64_t top = 0;
    int64_t left = 0;
    bool placed = false;
    for (int i = 0; i < 30 && !placed; ++i) {
      top = static_cast<int64_t>(chance.uniform_int(room));
      left = static_cast<int64_t>(chance.uniform_int(room));
      placed = is_free(top, left);
    }
    if (!placed) continue;
    corners.push_back({top, left});
    const float* ink = digit.value().data<float>();
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < size; ++j, ++ink) {
        const auto at = static_cast<size_t>((top + i) * kSide + left + j);
        image[at] = *ink + (1 - *ink) * image[at];
        if (*ink > 0.5f) labels[at] = label;
      }
    }
  }
  for (float& pixel : image) pixel += static_cast<float>(kNoise * chance.normal());
  return {ebb::from_vector(image, {1, kSide, kSide}), ebb::from_vector(labels, {kSide, kSide})};
}

/// How well masks fit: for each class the pixels that prediction and truth share, over those that
/// either has (Jaccard 1912), counted over many scenes.
class Overlap {
 public:
  void add(const std::vector<int64_t>& predicted, const std::vector<int64_t>& truth) {
    for (size_t i = 0; i < truth.size(); ++i) {
      const auto p = static_cast<size_t>(predicted[i]);
      const auto t = static_cast<size_t>(truth[i]);
      const bool ink = p != kBackground;
      const bool true_ink = t != kBackground;
      both_ink_ += ink && true_ink;
      either_ink_ += ink || true_ink;
      both_[t] += p == t;
      ++either_[t];
      either_[p] += p != t;
    }
  }
  double of(int64_t label) const {
    const auto c = static_cast<size_t>(label);
    return either_[c] == 0 ? 1 : static_cast<double>(both_[c]) / static_cast<double>(either_[c]);
  }
  /// Of ink of any class.
  double of_ink() const {
    return either_ink_ == 0 ? 1 : static_cast<double>(both_ink_) / static_cast<double>(either_ink_);
  }
  /// Over all classes, the background being one.
  double mean() const {
    double sum = 0;
    for (int64_t c = 0; c < kClasses; ++c) sum += of(c);
    return sum / kClasses;
  }

 private:
  std::array<int64_t, kClasses> both_{};
  std::array<int64_t, kClasses> either_{};
  int64_t both_ink_ = 0;
  int64_t either_ink_ = 0;
};

}  // namespace segmentation
