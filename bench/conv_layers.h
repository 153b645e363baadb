// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "data.h"
#include "worker.h"

// The convolutions that bench_conv times, and what all its workers share. One sample; a transposed
// convolution is given as the convolution that it turns round. C++17, and free of any library.
namespace bench::conv {

struct Layer {
  const char* name;
  int dims;
  int64_t in_channels, out_channels, groups;
  int64_t in[3], kernel[3], stride[3], pad[3];
  bool transposed;  ///< the forward pass is the gradient of `in`, and so on

  int64_t out(int d) const { return (in[d] + 2 * pad[d] - kernel[d]) / stride[d] + 1; }
  int64_t area(bool of_output) const {
    int64_t n = 1;
    for (int d = 0; d < dims; ++d) n *= of_output ? out(d) : in[d];
    return n;
  }
  int64_t x_size() const { return in_channels * area(false); }
  int64_t y_size() const { return out_channels * area(true); }
  int64_t w_size() const {
    int64_t n = out_channels * in_channels / groups;
    for (int d = 0; d < dims; ++d) n *= kernel[d];
    return n;
  }
  /// Of a pass, as one counts them without any trick.
  double multiply_adds() const {
    return static_cast<double>(w_size()) * static_cast<double>(area(true));
  }
};

// clang-format off
inline constexpr Layer kLayers[] = {
    {"lenet_1_6_5x5_28", 2, 1, 6, 1, {28, 28}, {5, 5}, {1, 1}, {2, 2}, false},
    {"lenet_6_16_5x5_12", 2, 6, 16, 1, {12, 12}, {5, 5}, {1, 1}, {0, 0}, false},
    {"3x3_16_32", 2, 16, 16, 1, {32, 32}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_32_16", 2, 32, 32, 1, {16, 16}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_64_8", 2, 64, 64, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_64_56", 2, 64, 64, 1, {56, 56}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_128_28", 2, 128, 128, 1, {28, 28}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_256_14", 2, 256, 256, 1, {14, 14}, {3, 3}, {1, 1}, {1, 1}, false},
    {"3x3_512_7", 2, 512, 512, 1, {7, 7}, {3, 3}, {1, 1}, {1, 1}, false},
    {"7x7s2_3_64_224", 2, 3, 64, 1, {224, 224}, {7, 7}, {2, 2}, {3, 3}, false},
    {"1x1_64_256_56", 2, 64, 256, 1, {56, 56}, {1, 1}, {1, 1}, {0, 0}, false},
    {"1x1_256_1024_14", 2, 256, 1024, 1, {14, 14}, {1, 1}, {1, 1}, {0, 0}, false},
    {"depthwise_32_112", 2, 32, 32, 32, {112, 112}, {3, 3}, {1, 1}, {1, 1}, false},
    {"depthwise_256_28", 2, 256, 256, 256, {28, 28}, {3, 3}, {1, 1}, {1, 1}, false},
    {"1d_k5_128_256", 1, 128, 128, 1, {256}, {5}, {1}, {2}, false},
    {"3d_3x3x3_16_16", 3, 16, 16, 1, {16, 16, 16}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, false},
    {"transposed_4x4s2_64_32_14", 2, 32, 64, 1, {28, 28}, {4, 4}, {2, 2}, {1, 1}, true},
    {"15x15_16_56", 2, 16, 16, 1, {56, 56}, {15, 15}, {1, 1}, {7, 7}, false},
    {"depthwise_31x31_32_56", 2, 32, 32, 32, {56, 56}, {31, 31}, {1, 1}, {15, 15}, false},
    {"1d_k256_16_4096", 1, 16, 16, 1, {4096}, {256}, {1}, {128}, false},
    {"31x31_4_64", 2, 4, 4, 1, {64, 64}, {31, 31}, {1, 1}, {15, 15}, false},
};
// clang-format on

enum class Pass { kForward, kGradInput, kGradWeight };
inline constexpr const char* kPassNames[] = {"forward", "grad_input", "grad_weight"};

/// Weights that the clock does not see being written; those of smaller layers are written within
/// it, as a look at the clock takes longer.
inline constexpr int64_t kWrittenApart = 4096;

/// A pass of a layer. `run` has the operands in x, w and dy and leaves its result in `result`, all
/// in the plain layout.
class ConvWorkload : public Workload {
 public:
  ConvWorkload(const Layer& layer, bool written)
      : layer_(layer),
        written_(written),
        apart_(written && layer.w_size() > kWrittenApart),
        repeats_(apart_                        ? 1
                 : layer.multiply_adds() < 1e7 ? 20
                                               : 1) {}
  void step(int64_t) final {
    for (int64_t i = 0; i < repeats_; ++i) {
      if (written_ && !apart_) write();
      run();
    }
  }
  void between() final {
    if (apart_) write();
  }
  bool pauses() const final { return apart_; }
  int64_t ops() const final { return repeats_; }
  int64_t check_steps() const final { return 3; }
  bool trains() const final { return false; }
  double loss() final {
    const std::vector<float> r = result();
    double sum = 0;
    for (size_t i = 0; i < r.size(); ++i) sum += r[i] * static_cast<double>(1 + i % 5);
    return sum;
  }

 protected:
  virtual void run() = 0;
  virtual std::vector<float> result() = 0;
  /// Gives new values to all weights: turned in sign.
  virtual void write() = 0;

  static void turn(float* w, int64_t n) {
    for (int64_t i = 0; i < n; ++i) w[i] = -w[i];
  }
  // Most of them positive, so that what cancels out is little.
  std::vector<float> x() const { return uniform("conv.x", layer_.x_size(), 0, 1); }
  std::vector<float> w() const { return uniform("conv.w", layer_.w_size(), -0.25, 1); }
  std::vector<float> dy() const { return uniform("conv.dy", layer_.y_size(), 0, 1); }

  Layer layer_;

 private:
  bool written_;
  bool apart_;
  int64_t repeats_;
};

/// "conv.LAYER.PASS.unchanged" and "....written" for every layer and pass; make(layer, pass,
/// written) gives the workload.
template <class F>
void add_entries(std::vector<Entry>& out, const std::string& form, const F& make) {
  for (const Layer& layer : kLayers) {
    for (int pass = 0; pass < 3; ++pass) {
      for (const bool written : {false, true}) {
        // A transposed layer runs the other pass of the convolution it turns round.
        const int of_convolution = layer.transposed && pass < 2 ? 1 - pass : pass;
        const auto p = static_cast<Pass>(of_convolution);
        out.push_back({std::string("conv.") + layer.name + "." + kPassNames[pass] +
                           (written ? ".written" : ".unchanged"),
                       form, [=] { return make(layer, p, written); }});
      }
    }
  }
}

}  // namespace bench::conv
