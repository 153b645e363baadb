// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"
#include "torch_side.h"

// Ops and modules beside LibTorch, 2,610 configurations in all: their results, the gradients of
// these, and in float64 the gradients of the gradients too, wherever LibTorch has them. In float64
// they must be equal to 1e-10 of the largest number, in float32 to 1e-5, but for what is left of
// larger numbers that cancel. Some of the inputs are views: transposed, cut out of more, turned
// round.
namespace ebb::beside_torch {

using torch_side::Call;

/// Random choices, the same in every run, unless EBB_TORCH_SEED asks for others.
class Draw {
 public:
  explicit Draw(std::string_view name);
  int64_t operator()(int64_t low, int64_t high) {  // both included
    return low + static_cast<int64_t>(generator_.uniform() * static_cast<double>(high - low + 1));
  }
  double between(double low, double high) { return low + generator_.uniform() * (high - low); }
  bool coin() { return generator_.uniform() < 0.5; }

 private:
  Generator generator_;
};

struct In {
  In(Tensor t, bool d = true, std::optional<int64_t> axis = {})  // NOLINT
      : value(std::move(t)), differentiated(d), batch_axis(axis) {}

  Tensor value;                       ///< float64, integers or bools; undefined: left out
  bool differentiated;                ///< if it is floating
  std::optional<int64_t> batch_axis;  ///< where LibTorch's has an axis of 1 more
};
/// A constant.
inline In fixed(Tensor t, std::optional<int64_t> axis = {}) {
  return In(std::move(t), false, axis);
}

struct Options {
  bool float32 = true;
  bool float64 = true;
  bool second_order = true;
  std::string unlike = {};  ///< the name of a buffer that is not compared
};

/// Compares f of the inputs with the call. Results that need no gradient are compared alone.
void compare(Call call, const std::vector<In>& inputs, const testing::Call& f,
             const Options& options = {});

/// The same of a module: parameters and buffers go over by their names, LibTorch's first values to
/// ours, and those with noise added, as ours then has them, to LibTorch's. Buffers are compared
/// after the call.
void compare_module(Call call, nn::Module& module, const std::vector<In>& inputs,
                    const testing::Call& f, const Options& options = {});

/// All inputs of an op with their batch axis first, of which unbatched ones have none.
std::vector<In> samples(const std::vector<Tensor>& inputs, bool batched);

/// [C,...] with `dims` axes of sizes from low to high, or a batch of up to three of them.
Shape sample_shape(Draw& draw, int dims, bool batched, int64_t channels, int64_t low, int64_t high);

/// So often, or until something fails.
void repeat(int times, const std::function<void()>& f);

}  // namespace ebb::beside_torch
