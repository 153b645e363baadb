// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "ebb/autograd/tensor.h"

namespace ebb {

struct GradOptions {
  /// Record the playback itself, so that its results can be differentiated again.
  bool create_graph = false;
  /// Keep the tape for another playback; by default where create_graph is set. Threads that play
  /// back over shared nodes at the same time must all keep it.
  std::optional<bool> retain_graph = std::nullopt;
  /// Give an undefined tensor for an input that the outputs do not depend on, rather than throw.
  bool allow_unused = false;
};

/// Gradient of the scalar `output` by `input`, a tensor that requires a gradient: a leaf or any
/// intermediate result. Nothing is added to any `.grad()`. Throws GradError where output does not
/// require a gradient, is no scalar, or does not depend on input.
Tensor grad(const Tensor& output, const Tensor& input, const GradOptions& options = {});

/// Gradients of sum_k <grad_outputs[k], outputs[k]> by each of `inputs`. `grad_outputs` is empty
/// where every output is a scalar (then 1), else one tensor of the output's shape for each.
std::vector<Tensor> grad(Span<const Tensor> outputs, Span<const Tensor> inputs,
                         const GradOptions& options = {}, Span<const Tensor> grad_outputs = {});

/// backward() from several outputs at once: gradients are added to the leaves. `gradients` as for
/// grad().
void backward(Span<const Tensor> outputs, Span<const Tensor> gradients = {},
              bool retain_graph = false);

/// True while ops on this thread are recorded.
bool is_grad_enabled();

/// Nothing is recorded on this thread while one of these lives.
class NoGradGuard {
 public:
  NoGradGuard();
  ~NoGradGuard();
  NoGradGuard(const NoGradGuard&) = delete;
  NoGradGuard& operator=(const NoGradGuard&) = delete;

 private:
  bool before_;
};

/// Recording is on while one of these lives, even inside a NoGradGuard.
class EnableGradGuard {
 public:
  EnableGradGuard();
  ~EnableGradGuard();
  EnableGradGuard(const EnableGradGuard&) = delete;
  EnableGradGuard& operator=(const EnableGradGuard&) = delete;

 private:
  bool before_;
};

/// While one of these lives, playbacks on this thread compute, or do not compute, products of the
/// transpose of one large weight with several vectors together (by default they do): the gradients
/// of x_1, x_2, ... where `mv(w, x_i)`, `linear` or the cell of a tree was called for each of them.
/// The sums are rounded in another order. For comparison.
class GatherGuard {
 public:
  explicit GatherGuard(bool enabled);
  ~GatherGuard();
  GatherGuard(const GatherGuard&) = delete;
  GatherGuard& operator=(const GatherGuard&) = delete;

 private:
  bool before_;
};

/// While one of these lives, every value and every gradient computed on this thread is searched
/// for NaN and infinity; the NumericError names the op and the line of the user's program that
/// called it. Slow: for finding a fault.
class AnomalyGuard {
 public:
  explicit AnomalyGuard(bool enabled = true);
  ~AnomalyGuard();
  AnomalyGuard(const AnomalyGuard&) = delete;
  AnomalyGuard& operator=(const AnomalyGuard&) = delete;

 private:
  bool before_;
};

}  // namespace ebb
