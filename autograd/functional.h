// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "ebb/autograd/tensor.h"

// Derivatives of functions rather than of results. `f` is any callable:
//   of one tensor    f(const Tensor&), where the argument is given as a tensor;
//   of several       f(Span<const Tensor>) or f(const std::vector<Tensor>&), where it is given as
//                    a vector or span. Results then have one entry for each argument.
// f is called once, with recording on and on arguments of its own: whatever else it reads,
// parameters and the arguments' other uses included, counts as constant for the derivative.
// Arguments must be float32 or float64; what does not influence the result has derivative 0.
namespace ebb {

struct FunctionalOptions {
  /// Record the derivative, so that it can be differentiated again: by the arguments' own history,
  /// by `v`, and by whatever f reads. By default results have no history.
  bool create_graph = false;
};

struct ValueAndGradient {
  Tensor value;
  Tensor gradient;
};
struct ValueAndGradients {
  Tensor value;
  std::vector<Tensor> gradient;  ///< one for each argument
};

namespace detail {

using Function = absl::FunctionRef<std::vector<Tensor>(Span<const Tensor>)>;

std::vector<Tensor> vjp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options);
std::vector<Tensor> jvp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options);
std::vector<Tensor> hvp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options);
std::vector<Tensor> jacobian(Function f, Span<const Tensor> x, const FunctionalOptions& options);
std::vector<std::vector<Tensor>> hessian(Function f, Span<const Tensor> x,
                                         const FunctionalOptions& options);
ValueAndGradients value_and_grad(Function f, Span<const Tensor> x,
                                 const FunctionalOptions& options);

template <class R>
std::vector<Tensor> as_vector(R&& r) {
  if constexpr (std::is_convertible_v<R, Tensor>) {
    std::vector<Tensor> one;
    one.push_back(std::forward<R>(r));
    return one;
  } else if constexpr (std::is_same_v<std::remove_cvref_t<R>, std::vector<Tensor>>) {
    return std::forward<R>(r);
  } else {
    return std::vector<Tensor>(r.begin(), r.end());
  }
}

template <class F>
decltype(auto) call_many(F& f, Span<const Tensor> x) {
  if constexpr (std::is_invocable_v<F&, Span<const Tensor>>) {
    return f(x);
  } else {
    return f(std::vector<Tensor>(x.begin(), x.end()));
  }
}

// f in the one form that the functions above take.
template <class F>
auto of_one(F& f) {
  return [&f](Span<const Tensor> x) { return as_vector(f(x[0])); };
}
template <class F>
auto of_many(F& f) {
  return [&f](Span<const Tensor> x) { return as_vector(call_many(f, x)); };
}

inline Span<const Tensor> span_of(const Tensor& t) { return {&t, 1}; }

template <class F>
inline constexpr bool kGivesTensor =
    std::is_convertible_v<std::invoke_result_t<F&, const Tensor&>, Tensor>;

// What value_and_grad gives.
template <class F>
class GradientOf {
 public:
  GradientOf(F f, const FunctionalOptions& options) : f_(std::move(f)), options_(options) {}

  ValueAndGradient operator()(const Tensor& x) {
    ValueAndGradients r = value_and_grad(of_one(f_), span_of(x), options_);
    return {std::move(r.value), std::move(r.gradient[0])};
  }
  ValueAndGradients operator()(Span<const Tensor> x) {
    return value_and_grad(of_many(f_), x, options_);
  }

 private:
  F f_;
  FunctionalOptions options_;
};

}  // namespace detail

/// Vector-Jacobian product: sum_k <v_k, d f_k(x) / dx>, of the shape of x. `v` has the shape of
/// f(x); where f gives several tensors it is a vector or span of as many.
/// Throws ShapeError where v does not fit f(x).
template <class F>
Tensor vjp(F&& f, const Tensor& x, const Tensor& v, const FunctionalOptions& options = {}) {
  return std::move(
      detail::vjp(detail::of_one(f), detail::span_of(x), detail::span_of(v), options)[0]);
}
template <class F>
Tensor vjp(F&& f, const Tensor& x, Span<const Tensor> v, const FunctionalOptions& options = {}) {
  return std::move(detail::vjp(detail::of_one(f), detail::span_of(x), v, options)[0]);
}
template <class F>
std::vector<Tensor> vjp(F&& f, Span<const Tensor> x, const Tensor& v,
                        const FunctionalOptions& options = {}) {
  return detail::vjp(detail::of_many(f), x, detail::span_of(v), options);
}
template <class F>
std::vector<Tensor> vjp(F&& f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options = {}) {
  return detail::vjp(detail::of_many(f), x, v, options);
}

/// Jacobian-vector product: the derivative of f at x in the direction v, which has the shape of x
/// (one for each argument where there are several); of the shape of f(x). Computed as the
/// derivative of the vector-Jacobian product, which is linear in its cotangent: about the cost of
/// two gradients. Throws ShapeError where v does not fit x.
template <class F>
auto jvp(F&& f, const Tensor& x, const Tensor& v, const FunctionalOptions& options = {}) {
  auto r = detail::jvp(detail::of_one(f), detail::span_of(x), detail::span_of(v), options);
  if constexpr (detail::kGivesTensor<F>) {
    return Tensor(std::move(r[0]));
  } else {
    return r;
  }
}
template <class F>
auto jvp(F&& f, Span<const Tensor> x, Span<const Tensor> v, const FunctionalOptions& options = {}) {
  using Result = decltype(detail::call_many(f, x));
  auto r = detail::jvp(detail::of_many(f), x, v, options);
  if constexpr (std::is_convertible_v<Result, Tensor>) {
    return Tensor(std::move(r[0]));
  } else {
    return r;
  }
}

/// Hessian-vector product of a scalar function: d/dx <df/dx, v>, of the shape of x. About the cost
/// of two gradients. Throws ShapeError where v does not fit x, GradError where f gives no scalar.
template <class F>
Tensor hvp(F&& f, const Tensor& x, const Tensor& v, const FunctionalOptions& options = {}) {
  return std::move(
      detail::hvp(detail::of_one(f), detail::span_of(x), detail::span_of(v), options)[0]);
}
template <class F>
std::vector<Tensor> hvp(F&& f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options = {}) {
  return detail::hvp(detail::of_many(f), x, v, options);
}

/// The Jacobian of f, which gives one tensor, at x: of shape [shape of f(x), shape of x], one for
/// each argument where there are several. As many playbacks as f(x) has elements.
/// Throws ShapeError where the result would have more than 8 dimensions.
template <class F>
Tensor jacobian(F&& f, const Tensor& x, const FunctionalOptions& options = {}) {
  return std::move(detail::jacobian(detail::of_one(f), detail::span_of(x), options)[0]);
}
template <class F>
std::vector<Tensor> jacobian(F&& f, Span<const Tensor> x, const FunctionalOptions& options = {}) {
  return detail::jacobian(detail::of_many(f), x, options);
}

/// The Hessian of a scalar function at x: of shape [shape of x, shape of x]; with several
/// arguments, entry [i][j] has shape [shape of x_i, shape of x_j]. As many playbacks as x has
/// elements. Throws as jacobian() and hvp().
template <class F>
Tensor hessian(F&& f, const Tensor& x, const FunctionalOptions& options = {}) {
  return std::move(detail::hessian(detail::of_one(f), detail::span_of(x), options)[0][0]);
}
template <class F>
std::vector<std::vector<Tensor>> hessian(F&& f, Span<const Tensor> x,
                                         const FunctionalOptions& options = {}) {
  return detail::hessian(detail::of_many(f), x, options);
}

/// A callable that gives a scalar function's value and its gradient by the arguments:
///   auto [value, gradient] = value_and_grad(f)(x);
/// It keeps a copy of f. Throws GradError where f gives no scalar.
template <class F>
auto value_and_grad(F f, const FunctionalOptions& options = {}) {
  return detail::GradientOf<F>(std::move(f), options);
}

}  // namespace ebb
