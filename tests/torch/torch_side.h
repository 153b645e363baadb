// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

// LibTorch as the tests see it: plain numbers in and out, for its headers and ours do not go into
// one file.
namespace torch_side {

struct Numbers {
  std::vector<int64_t> shape;
  std::vector<double> v;
};

/// What an op may want to know; each reads its own.
struct Call {
  std::string op;  ///< conv, conv_transpose, max_pool, ...
  int dims = 2;
  bool float64 = false;  ///< else in float32
  std::vector<int64_t> kernel = {}, stride = {}, padding = {}, dilation = {}, output_padding = {};
  int64_t groups = 1;
  bool ceil_mode = false;
  bool count_include_pad = true;
  int64_t divisor = 0;
  double norm_type = 2;
  std::vector<int64_t> size = {};
  std::vector<double> factors = {};
  std::string mode = {};
  std::string padding_mode = {};
  bool align_corners = false;
};

struct Result {
  Numbers y;
  std::vector<Numbers> gradients;  ///< of the inputs, of sum(y * cotangent)
};

/// Runs a call on inputs that all have a batch axis in front. `cotangent` [numel of y] may be empty
/// where gradients are not wanted; the inputs from `constants` on are not differentiated. Throws
/// std::runtime_error where LibTorch does.
Result run(const Call& call, const std::vector<Numbers>& inputs,
           const std::vector<double>& cotangent, size_t constants = 8);

}  // namespace torch_side
