// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ebb/autograd/functional.h"
#include "ebb/autograd/tensor.h"

// Is a gradient right? The answer compares it with differences of the function's values.
namespace ebb {

struct GradCheckOptions {
  /// Largest step away from an input's elements, relative to their size where that is above 1.
  /// The function must be smooth within it.
  double eps = 2e-3;
  /// Allowed difference, relative to the largest element of that input's gradient: 1e-6 where not
  /// given, 1e-5 for gradgradcheck.
  std::optional<double> rtol = std::nullopt;
  /// Allowed difference where the gradient is 0.
  double atol = 1e-9;
  /// Of the random direction in which the function's results are weighted.
  uint64_t seed = 0;
};

namespace detail {
double gradcheck(Function f, Span<const Tensor> inputs, const GradCheckOptions& options);
double gradgradcheck(Function f, Span<const Tensor> inputs, const GradCheckOptions& options);
}  // namespace detail

/// Checks the gradients of f (called as in functional.h) at `inputs`: those of type float64 against
/// central differences, extrapolated to step 0 (Ridders, "Accurate computation of F'(x) and
/// F'(x)F''(x)", 1982); inputs of integer types are left alone. f must give the same values at each
/// call. Costs 8 calls of f per element. Returns the largest difference found, relative as `rtol`.
/// Throws GradError that names the input, the element, the numeric and the analytic value;
/// DTypeError for an input of another floating type.
template <class F>
double gradcheck(F&& f, const Tensor& input, const GradCheckOptions& options = {}) {
  return detail::gradcheck(detail::of_one(f), detail::span_of(input), options);
}
template <class F>
double gradcheck(F&& f, Span<const Tensor> inputs, const GradCheckOptions& options = {}) {
  return detail::gradcheck(detail::of_many(f), inputs, options);
}

/// The same for the gradient of f, as a function of the inputs and of the cotangent that it starts
/// from: whether derivatives of second order are right.
template <class F>
double gradgradcheck(F&& f, const Tensor& input, const GradCheckOptions& options = {}) {
  return detail::gradgradcheck(detail::of_one(f), detail::span_of(input), options);
}
template <class F>
double gradgradcheck(F&& f, Span<const Tensor> inputs, const GradCheckOptions& options = {}) {
  return detail::gradgradcheck(detail::of_many(f), inputs, options);
}

}  // namespace ebb
