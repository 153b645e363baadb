// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/softmax.h"

#include <cmath>
#include <limits>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/reduce.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/softmax.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "ebb/ops/kernels/unary_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};
struct MaxLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Max(a, b);
  }
};

// The largest element. Of rows with NaN, anything: the sum of exponentials tells of NaN.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE T max_of(D d, const T* x, size_t n) {
  constexpr size_t kN = kLanes<D>;
  const auto lowest = hn::Set(d, -kInfinity<T>);
  auto m0 = lowest;
  auto m1 = lowest;
  size_t i = 0;
  for (; i + 2 * kN <= n; i += 2 * kN) {
    m0 = MaxLanes()(hn::LoadU(d, x + i), m0);
    m1 = MaxLanes()(hn::LoadU(d, x + i + kN), m1);
  }
  if (i + kN <= n) {
    m0 = MaxLanes()(hn::LoadU(d, x + i), m0);
    i += kN;
  }
  if (i < n) {
    m1 = MaxLanes()(hn::IfThenElse(hn::FirstN(d, n - i), load_n(d, x + i, n - i), lowest), m1);
  }
  return reduce_lanes(d, MaxLanes()(m0, m1), MaxLanes());
}

// The sum of exp(x[i] - max), each of which goes to out[i] too if kStore.
template <bool kStore, class D, typename T = hn::TFromD<D>>
HWY_INLINE T sum_exp(D d, const T* x, T max, T* out, size_t n) {
  constexpr size_t kN = kLanes<D>;
  constexpr size_t kBlock = 64 * kN;  // summed in T; the sums of blocks are added up in double
  const auto shift = hn::Set(d, max);
  double sum = 0;
  size_t i = 0;
  while (i < n) {
    const size_t end = n - i > kBlock ? i + kBlock : n;
    auto s = hn::Zero(d);
    for (; i + kN <= end; i += kN) {
      const auto e = vec::exp(d, hn::Sub(hn::LoadU(d, x + i), shift));
      if constexpr (kStore) hn::StoreU(e, d, out + i);
      s = hn::Add(s, e);
    }
    if (i < end) {
      const auto e = vec::exp(d, hn::Sub(load_n(d, x + i, end - i), shift));
      if constexpr (kStore) store_n(e, d, out + i, end - i);
      s = hn::Add(s, hn::IfThenElseZero(hn::FirstN(d, end - i), e));
      i = end;
    }
    sum += static_cast<double>(reduce_lanes(d, s, AddLanes()));
  }
  return static_cast<T>(sum);
}

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void fill_nan(D d, T* out, size_t n) {
  map<1>(d, n, out, [](auto t, size_t) HWY_ATTR {
    return hn::Set(t, std::numeric_limits<hn::TFromD<decltype(t)>>::quiet_NaN());
  });
}

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void softmax_of(D d, const T* x, T* out, size_t n) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 4) {
    if (n <= kN / 2) return softmax_of(hn::Half<D>(), x, out, n);
  }
  const T max = max_of(d, x, n);
  if (!std::isfinite(max)) return fill_nan(d, out, n);
  const T scale = 1 / sum_exp<true>(d, x, max, out, n);
  map(d, n, out,
      [=](auto t, size_t i) HWY_ATTR { return hn::Mul(hn::LoadU(t, out + i), hn::Set(t, scale)); });
}

template <class T>
void softmax(const T* x, T* out, size_t n) {
  softmax_of(hn::ScalableTag<T>(), x, out, n);
}

template <class D, typename T = hn::TFromD<D>>
HWY_INLINE void log_softmax_of(D d, const T* x, T* out, size_t n) {
  constexpr size_t kN = kLanes<D>;
  if constexpr (kN > 4) {
    if (n <= kN / 2) return log_softmax_of(hn::Half<D>(), x, out, n);
  }
  const T max = max_of(d, x, n);
  if (!std::isfinite(max)) return fill_nan(d, out, n);
  const T log_sum = std::log(sum_exp<false>(d, x, max, out, n));
  map(d, n, out, [=](auto t, size_t i) HWY_ATTR {
    return hn::Sub(hn::Sub(hn::LoadU(t, x + i), hn::Set(t, max)), hn::Set(t, log_sum));
  });
}

template <class T>
void log_softmax(const T* x, T* out, size_t n) {
  log_softmax_of(hn::ScalableTag<T>(), x, out, n);
}

template <class T>
T logsumexp(const T* x, size_t n) {
  const hn::ScalableTag<T> d;
  const T max = max_of(d, x, n);
  const T shift = std::isfinite(max) ? max : T{0};
  return shift + std::log(sum_exp<false>(d, x, shift, static_cast<T*>(nullptr), n));
}

template <class T>
void softmax_backward(const T* y, const T* g, T* out, size_t n) {
  const T s = dot(g, y, n);
  map(hn::ScalableTag<T>(), n, out, [=](auto d, size_t i) HWY_ATTR {
    return hn::Mul(hn::LoadU(d, y + i), hn::Sub(hn::LoadU(d, g + i), hn::Set(d, s)));
  });
}

template <class T>
void log_softmax_backward(const T* y, const T* g, T* out, size_t n) {
  const T s = sum(g, n);
  map<1>(hn::ScalableTag<T>(), n, out, [=](auto d, size_t i) HWY_ATTR {
    const auto e = vec::exp(d, hn::LoadU(d, y + i));
    return hn::NegMulAdd(e, hn::Set(d, s), hn::LoadU(d, g + i));
  });
}

template <class T>
constexpr detail::SoftmaxTable<T> table() {
  return {softmax<T>, log_softmax<T>, logsumexp<T>, softmax_backward<T>, log_softmax_backward<T>};
}
constexpr detail::SoftmaxTables kTables{table<float>(), table<double>()};

}  // namespace

const detail::SoftmaxTables* softmax_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(softmax_tables);

constinit const Dispatch<detail::SoftmaxTables> detail::softmax{
    [] { return HWY_DYNAMIC_DISPATCH(softmax_tables)(); }};

}  // namespace ebb::kernels
#endif
