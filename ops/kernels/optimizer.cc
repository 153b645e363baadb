// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/optimizer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/optimizer.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Reads and writes whole vectors, or the first `left` lanes of one.
struct Whole {
  template <class D, typename T = hn::TFromD<D>>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    return hn::LoadU(d, p);
  }
  template <class D, typename T = hn::TFromD<D>>
  HWY_INLINE void store(hn::Vec<D> v, D d, T* p) const {
    hn::StoreU(v, d, p);
  }
};
struct Part {
  size_t left;
  template <class D, typename T = hn::TFromD<D>>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    return load_n(d, p, left);
  }
  template <class D, typename T = hn::TFromD<D>>
  HWY_INLINE void store(hn::Vec<D> v, D d, T* p) const {
    store_n(v, d, p, left);
  }
};

// f(access, i) for every vector of a row; the operands overlap nowhere but in place, so that each
// vector may be written as soon as it is computed.
template <class D, class F>
HWY_INLINE void sweep(D, size_t n, const F& f) {
  constexpr size_t kN = kLanes<D>;
  size_t i = 0;
  for (; i + kN <= n; i += kN) f(Whole(), i);
  if (i < n) f(Part{n - i}, i);
}

template <class T, bool kMomentum, bool kNesterov>
void sgd_row(const SgdStep& s, T* w, const T* g, T* velocity, size_t n) {
  const hn::ScalableTag<T> d;
  const auto lr = hn::Set(d, static_cast<T>(-s.lr));
  const auto sign = hn::Set(d, static_cast<T>(s.sign));
  const auto decay = hn::Set(d, static_cast<T>(s.weight_decay));
  const auto momentum = hn::Set(d, static_cast<T>(s.momentum));
  const auto keep = hn::Set(d, static_cast<T>(s.keep));
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto wi = at.load(d, w + i);
    auto gi = hn::MulAdd(decay, wi, hn::Mul(sign, at.load(d, g + i)));
    if constexpr (kMomentum) {
      const auto v = hn::MulAdd(momentum, at.load(d, velocity + i), hn::Mul(keep, gi));
      at.store(v, d, velocity + i);
      gi = kNesterov ? hn::MulAdd(momentum, v, gi) : v;
    }
    at.store(hn::MulAdd(lr, gi, wi), d, w + i);
  });
}

template <class T>
void sgd(const SgdStep& s, T* w, const T* g, T* velocity, size_t n) {
  if (velocity == nullptr) {
    sgd_row<T, false, false>(s, w, g, velocity, n);
  } else if (s.nesterov) {
    sgd_row<T, true, true>(s, w, g, velocity, n);
  } else {
    sgd_row<T, true, false>(s, w, g, velocity, n);
  }
}

template <class T, bool kMax>
void adam_row(const AdamStep& s, T* w, const T* g, T* m, T* v, T* v_max, size_t n) {
  const hn::ScalableTag<T> d;
  const auto set = [=](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const auto decay = set(s.decay);
  const auto l2 = set(s.l2);
  const auto sign = set(s.sign);
  const auto b1 = set(s.b1);
  const auto c1 = set(1 - s.b1);
  const auto b2 = set(s.b2);
  const auto c2 = set(1 - s.b2);
  const auto rate = set(-s.rate);
  const auto scale = set(s.scale);
  const auto eps = set(s.eps);
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto w0 = at.load(d, w + i);
    const auto gi = hn::MulAdd(l2, w0, hn::Mul(sign, at.load(d, g + i)));
    const auto mi = hn::MulAdd(b1, at.load(d, m + i), hn::Mul(c1, gi));
    auto vi = hn::MulAdd(b2, at.load(d, v + i), hn::Mul(hn::Mul(c2, gi), gi));
    at.store(mi, d, m + i);
    at.store(vi, d, v + i);
    if constexpr (kMax) {
      vi = hn::Max(at.load(d, v_max + i), vi);
      at.store(vi, d, v_max + i);
    }
    const auto below = hn::MulAdd(hn::Sqrt(vi), scale, eps);
    at.store(hn::MulAdd(rate, hn::Div(mi, below), hn::Mul(decay, w0)), d, w + i);
  });
}

template <class T>
void adam(const AdamStep& s, T* w, const T* g, T* m, T* v, T* v_max, size_t n) {
  if (v_max == nullptr) {
    adam_row<T, false>(s, w, g, m, v, v_max, n);
  } else {
    adam_row<T, true>(s, w, g, m, v, v_max, n);
  }
}

template <class T>
void adagrad(const AdagradStep& s, T* w, const T* g, T* sum, size_t n) {
  const hn::ScalableTag<T> d;
  const auto rate = hn::Set(d, static_cast<T>(-s.rate));
  const auto decay = hn::Set(d, static_cast<T>(s.weight_decay));
  const auto sign = hn::Set(d, static_cast<T>(s.sign));
  const auto eps = hn::Set(d, static_cast<T>(s.eps));
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto wi = at.load(d, w + i);
    const auto gi = hn::MulAdd(decay, wi, hn::Mul(sign, at.load(d, g + i)));
    const auto total = hn::MulAdd(gi, gi, at.load(d, sum + i));
    at.store(total, d, sum + i);
    at.store(hn::MulAdd(rate, hn::Div(gi, hn::Add(hn::Sqrt(total), eps)), wi), d, w + i);
  });
}

template <class T>
void adadelta(const AdadeltaStep& s, T* w, const T* g, T* square, T* delta, size_t n) {
  const hn::ScalableTag<T> d;
  const auto lr = hn::Set(d, static_cast<T>(-s.lr));
  const auto rho = hn::Set(d, static_cast<T>(s.rho));
  const auto rest = hn::Set(d, static_cast<T>(1 - s.rho));
  const auto decay = hn::Set(d, static_cast<T>(s.weight_decay));
  const auto sign = hn::Set(d, static_cast<T>(s.sign));
  const auto eps = hn::Set(d, static_cast<T>(s.eps));
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto wi = at.load(d, w + i);
    const auto gi = hn::MulAdd(decay, wi, hn::Mul(sign, at.load(d, g + i)));
    const auto sq = hn::MulAdd(rho, at.load(d, square + i), hn::Mul(rest, hn::Mul(gi, gi)));
    const auto before = at.load(d, delta + i);
    const auto step =
        hn::Mul(hn::Div(hn::Sqrt(hn::Add(before, eps)), hn::Sqrt(hn::Add(sq, eps))), gi);
    at.store(sq, d, square + i);
    at.store(hn::MulAdd(rho, before, hn::Mul(rest, hn::Mul(step, step))), d, delta + i);
    at.store(hn::MulAdd(lr, step, wi), d, w + i);
  });
}

template <class T>
void rmsprop(const RmspropStep& s, T* w, const T* g, T* square, T* mean, T* velocity, size_t n) {
  const hn::ScalableTag<T> d;
  const auto lr = hn::Set(d, static_cast<T>(-s.lr));
  const auto alpha = hn::Set(d, static_cast<T>(s.alpha));
  const auto rest = hn::Set(d, static_cast<T>(1 - s.alpha));
  const auto decay = hn::Set(d, static_cast<T>(s.weight_decay));
  const auto sign = hn::Set(d, static_cast<T>(s.sign));
  const auto eps = hn::Set(d, static_cast<T>(s.eps));
  const auto momentum = hn::Set(d, static_cast<T>(s.momentum));
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto wi = at.load(d, w + i);
    const auto gi = hn::MulAdd(decay, wi, hn::Mul(sign, at.load(d, g + i)));
    auto sq = hn::MulAdd(alpha, at.load(d, square + i), hn::Mul(rest, hn::Mul(gi, gi)));
    at.store(sq, d, square + i);
    if (mean != nullptr) {
      const auto mi = hn::MulAdd(alpha, at.load(d, mean + i), hn::Mul(rest, gi));
      at.store(mi, d, mean + i);
      sq = hn::NegMulAdd(mi, mi, sq);
    }
    auto step = hn::Div(gi, hn::Add(hn::Sqrt(sq), eps));
    if (velocity != nullptr) {
      step = hn::MulAdd(momentum, at.load(d, velocity + i), step);
      at.store(step, d, velocity + i);
    }
    at.store(hn::MulAdd(lr, step, wi), d, w + i);
  });
}

template <class T>
void adam_replay(const AdamReplay& r, T* w, T* m, T* v, const T* v_max, size_t n) {
  // In float32 four terms of the series are exact to the last bit.
  constexpr int kTerms = sizeof(T) == sizeof(float) ? 4 : AdamReplay::kTerms;
  const hn::ScalableTag<T> d;
  const auto set = [=](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const auto decay = set(r.decay);
  const auto m_factor = set(r.m_factor);
  const auto v_factor = set(r.v_factor);
  const auto eps = set(r.eps);
  const auto from = set(r.series_from);
  const auto largest = set(-r.largest);
  const auto zero = hn::Zero(d);
  sweep(d, n, [&](const auto& at, size_t i) HWY_ATTR {
    const auto mi = at.load(d, m + i);
    const auto vi = at.load(d, v + i);
    const auto s = hn::Sqrt(v_max != nullptr ? at.load(d, v_max + i) : vi);
    const auto in_series = hn::Ge(s, from);
    auto sum = zero;
    // Where m is 0 the sum does not matter, unless eps and s are 0 too and it is 0 / 0.
    const auto idle = hn::And(hn::Eq(mi, zero), hn::Gt(hn::Add(s, eps), zero));
    if (hn::AllTrue(d, hn::Or(in_series, idle))) {
      const auto inverse = hn::IfThenElseZero(in_series, hn::Div(set(1), s));
      const auto y = hn::Mul(largest, inverse);
      sum = set(r.series[kTerms - 1]);
      for (int k = kTerms - 2; k >= 0; --k) sum = hn::MulAdd(sum, y, set(r.series[k]));
      sum = hn::Mul(sum, inverse);
    } else {
      for (size_t j = 0; j < r.count; ++j) {
        sum = hn::Add(sum, hn::Div(set(r.a[j]), hn::MulAdd(set(r.b[j]), s, eps)));
      }
    }
    // After very many steps with a small b2 the series' terms overflow, and 0 times them is NaN.
    sum = hn::IfThenZeroElse(idle, sum);
    at.store(hn::NegMulAdd(mi, sum, hn::Mul(decay, at.load(d, w + i))), d, w + i);
    at.store(hn::Mul(m_factor, mi), d, m + i);
    at.store(hn::Mul(v_factor, vi), d, v + i);
  });
}

template <class T>
void mix(const double* map, T* a, T* b, size_t n) {
  const hn::ScalableTag<T> d;
  const auto aa = hn::Set(d, static_cast<T>(map[0]));
  const auto ab = hn::Set(d, static_cast<T>(map[1]));
  const auto ba = hn::Set(d, static_cast<T>(map[2]));
  const auto bb = hn::Set(d, static_cast<T>(map[3]));
  sweep(d, n, [=](const auto& at, size_t i) HWY_ATTR {
    const auto ai = at.load(d, a + i);
    const auto bi = at.load(d, b + i);
    at.store(hn::MulAdd(aa, ai, hn::Mul(ab, bi)), d, a + i);
    at.store(hn::MulAdd(ba, ai, hn::Mul(bb, bi)), d, b + i);
  });
}

template <class T>
constexpr detail::OptimizerTable<T> rows() {
  return {sgd<T>, adam<T>, adagrad<T>, adadelta<T>, rmsprop<T>, adam_replay<T>, mix<T>};
}
constexpr detail::OptimizerTables kTables{rows<float>(), rows<double>()};

}  // namespace

const detail::OptimizerTables* optimizer_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(optimizer_tables);

constinit const Dispatch<detail::OptimizerTables> detail::optimizer{
    [] { return HWY_DYNAMIC_DISPATCH(optimizer_tables)(); }};

}  // namespace ebb::kernels
#endif
