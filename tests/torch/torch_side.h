// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

// LibTorch as the tests see it: plain numbers in and out, for its headers and ours do not go into
// one file.
namespace torch_side {

/// What a tensor's elements are there; `kNone` is a tensor that is left out.
enum class Kind { kFloating, kIndex, kBool, kNone };

struct Numbers {
  std::vector<int64_t> shape = {};
  std::vector<double> v = {};
};

struct Input : Numbers {
  Kind kind = Kind::kFloating;
  bool differentiated = false;
  std::string name = {};  ///< of a module's parameter or buffer; arguments have none
};

/// What an op may want to know; each reads its own.
struct Call {
  std::string op;  ///< conv, conv_transpose, max_pool, ..., or a module: Linear, LSTM, ...
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
  std::map<std::string, double> numbers = {};  ///< what is not a window's, by name

  /// A number that the test must have set.
  double at(const std::string& name) const { return numbers.at(name); }
  int64_t integer(const std::string& name) const { return static_cast<int64_t>(numbers.at(name)); }
  bool flag(const std::string& name) const { return numbers.at(name) != 0; }
};

struct Result {
  std::vector<Numbers> y;  ///< the results of the op, then a module's buffers
  /// Of the differentiated inputs, of sum(y * cotangent).
  std::vector<Numbers> gradients;
  /// Of the differentiated inputs and then of the cotangents, of sum(gradient * second cotangent).
  std::vector<Numbers> second;
};

/// Runs a call. There is a cotangent for each result, of as many elements or, where no gradient is
/// wanted, empty; and one of second order for each gradient, or none at all. Throws
/// std::runtime_error where LibTorch does, or a module lacks one of the names.
Result run(const Call& call, const std::vector<Input>& inputs,
           const std::vector<std::vector<double>>& cotangents,
           const std::vector<std::vector<double>>& second_cotangents);

/// All parameters and buffers of the module that `call` names, as LibTorch initialises them.
std::map<std::string, Numbers> state_of(const Call& call);

}  // namespace torch_side
