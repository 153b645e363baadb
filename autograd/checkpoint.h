// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ebb/autograd/tensor.h"

namespace ebb {
namespace detail {

using SegmentFunction = std::function<std::vector<Tensor>(Span<const Tensor>)>;

std::vector<Tensor> checkpoint(SegmentFunction f, Span<const Tensor> inputs, Where where);

template <class F, size_t... I>
auto call_with(F& f, Span<const Tensor> x, std::index_sequence<I...>) {
  return f(x[I]...);
}

// What f gives, as a vector and back: a tensor, a vector of them, or a pair, tuple or array.
template <class R>
std::vector<Tensor> to_tensors(R&& r) {
  if constexpr (std::is_same_v<R, std::vector<Tensor>>) {
    return std::move(r);
  } else if constexpr (std::is_same_v<R, Tensor>) {
    std::vector<Tensor> one;
    one.push_back(std::move(r));
    return one;
  } else {
    return std::apply(
        [](auto&&... t) {
          std::vector<Tensor> all;
          (all.push_back(std::move(t)), ...);
          return all;
        },
        std::move(r));
  }
}
template <class R>
R from_tensors(std::vector<Tensor> all) {
  if constexpr (std::is_same_v<R, std::vector<Tensor>>) {
    return all;
  } else if constexpr (std::is_same_v<R, Tensor>) {
    return std::move(all[0]);
  } else {
    return [&]<size_t... I>(std::index_sequence<I...>) { return R{std::move(all[I])...}; }
    (std::make_index_sequence<std::tuple_size_v<R>>());
  }
}

}  // namespace detail

/// Gradient checkpointing (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory
/// cost", 2016): gives f(inputs...) and remembers only its inputs; what lies between is computed
/// again, by calling f once more, when gradients are wanted. Costs one more forward pass of f.
///
/// f takes the tensors and gives a tensor, a vector of tensors, or a pair, tuple or array of them.
/// It may read parameters and other tensors that it captures; gradients reach them too, of any
/// order. Captures outlive the call: capture by value what does not live as long as the tape.
/// Random numbers from `default_generator()` are drawn again as they were. Apart from them f must
/// do the same both times, on the calling thread: GradError at playback where the second run gives
/// other shapes or reads other tensors, or where an input or parameter was overwritten.
template <class F, class... T>
requires std::is_invocable_v<F&, const Tensor&, const T&...>
auto checkpoint(F f, At first, const T&... rest) {
  const Tensor inputs[] = {*first.tensor, static_cast<const Tensor&>(rest)...};
  using Order = std::make_index_sequence<1 + sizeof...(T)>;
  using R = decltype(detail::call_with(f, Span<const Tensor>(), Order()));
  auto run = [f = std::move(f)](Span<const Tensor> x) mutable {
    return detail::to_tensors<R>(detail::call_with(f, x, Order()));
  };
  return detail::from_tensors<R>(detail::checkpoint(std::move(run), inputs, first.where));
}

/// The same for any number of inputs, none included: f takes a Span<const Tensor>.
template <class F>
requires std::is_invocable_v<F&, Span<const Tensor>>
auto checkpoint(F f, Span<const Tensor> inputs, Where where = Where::current()) {
  using R = std::invoke_result_t<F&, Span<const Tensor>>;
  auto run = [f = std::move(f)](Span<const Tensor> x) mutable {
    return detail::to_tensors<R>(f(x));
  };
  return detail::from_tensors<R>(detail::checkpoint(std::move(run), inputs, where));
}

}  // namespace ebb
