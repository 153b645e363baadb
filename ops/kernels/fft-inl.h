// SPDX-License-Identifier: Apache-2.0
// Fourier transforms of as many signals as a vector has lanes, each in a lane of its own; compiled
// once for each instruction set, so the include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_FFT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_FFT_INL_H_
#undef EBB_OPS_KERNELS_FFT_INL_H_
#else
#define EBB_OPS_KERNELS_FFT_INL_H_
#endif

#include <algorithm>

#include "ebb/ops/kernels/fft_plan.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using FftD = hn::ScalableTag<float>;
using FftV = hn::Vec<FftD>;
constexpr ptrdiff_t kFftN = kLanes<FftD>;

struct FftComplex {
  FftV re, im;
};

// Complex vectors at equal distances.
struct FftRow {
  float* first;
  ptrdiff_t step;       // from one to the next
  ptrdiff_t imaginary;  // from the real part to the other

  HWY_INLINE FftComplex load(ptrdiff_t i) const {
    const float* const p = first + i * step;
    return {hn::LoadU(FftD(), p), hn::LoadU(FftD(), p + imaginary)};
  }
  HWY_INLINE void store(ptrdiff_t i, FftComplex v) const {
    float* const p = first + i * step;
    hn::StoreU(v.re, FftD(), p);
    hn::StoreU(v.im, FftD(), p + imaginary);
  }
};
// One after the other.
HWY_INLINE FftRow fft_row(float* p) { return {p, 2 * kFftN, kFftN}; }

HWY_INLINE FftComplex operator+(FftComplex a, FftComplex b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}
HWY_INLINE FftComplex operator-(FftComplex a, FftComplex b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}
// a - i b, or backwards a + i b.
template <bool kBack>
HWY_INLINE FftComplex minus_i(FftComplex a, FftComplex b) {
  if constexpr (kBack) return {hn::Sub(a.re, b.im), hn::Add(a.im, b.re)};
  return {hn::Add(a.re, b.im), hn::Sub(a.im, b.re)};
}
// a times the factor at w, or its conjugate.
template <bool kConjugate>
HWY_INLINE FftComplex turned(FftComplex a, const float* w) {
  const FftD d;
  const FftV c = hn::Set(d, w[0]);
  const FftV s = hn::Set(d, w[1]);
  if constexpr (kConjugate) {
    return {hn::MulAdd(a.im, s, hn::Mul(a.re, c)), hn::NegMulAdd(a.re, s, hn::Mul(a.im, c))};
  } else {
    return {hn::NegMulAdd(a.im, s, hn::Mul(a.re, c)), hn::MulAdd(a.re, s, hn::Mul(a.im, c))};
  }
}

// v = the transform of v, of length kRadix.
template <int kRadix, bool kBack>
HWY_INLINE void butterfly(FftComplex* v) {
  if constexpr (kRadix == 2) {
    const FftComplex sum = v[0] + v[1];
    v[1] = v[0] - v[1];
    v[0] = sum;
  } else if constexpr (kRadix == 3) {
    const FftD d;
    const FftV half = hn::Set(d, -0.5f);
    const FftV sine = hn::Set(d, 0.866025403784438647f);
    const FftComplex sum = v[1] + v[2];
    const FftComplex difference = v[1] - v[2];
    const FftComplex side{hn::Mul(difference.re, sine), hn::Mul(difference.im, sine)};
    const FftComplex middle{hn::MulAdd(sum.re, half, v[0].re), hn::MulAdd(sum.im, half, v[0].im)};
    v[0] = v[0] + sum;
    v[1] = minus_i<kBack>(middle, side);
    v[2] = minus_i<!kBack>(middle, side);
  } else {
    const FftComplex a = v[0] + v[2];
    const FftComplex b = v[0] - v[2];
    const FftComplex c = v[1] + v[3];
    const FftComplex e = v[1] - v[3];
    v[0] = a + c;
    v[1] = minus_i<kBack>(b, e);
    v[2] = a - c;
    v[3] = minus_i<!kBack>(b, e);
  }
}

// A pass over `parts` parts of length `length` each.
template <int kRadix, bool kBack>
HWY_NOINLINE void fft_pass(FftRow from, FftRow to, ptrdiff_t parts, ptrdiff_t length,
                           const float* factors) {
  const ptrdiff_t q = length / kRadix;
  FftComplex v[kRadix];
  for (ptrdiff_t part = 0; part < parts; ++part) {
    const ptrdiff_t first = part * length;
    // The factors of the first are 1.
    HWY_UNROLL(4)
    for (int m = 0; m < kRadix; ++m) v[m] = from.load(first + m * q);
    butterfly<kRadix, kBack>(v);
    HWY_UNROLL(4)
    for (int m = 0; m < kRadix; ++m) to.store(first + m * q, v[m]);
    const float* w = factors;
    for (ptrdiff_t j = 1; j < q; ++j) {
      w += 2 * (kRadix - 1);
      HWY_UNROLL(4)
      for (int m = 0; m < kRadix; ++m) {
        v[m] = from.load(first + j + m * q);
        if (kBack && m > 0) v[m] = turned<true>(v[m], w + 2 * (m - 1));
      }
      butterfly<kRadix, kBack>(v);
      HWY_UNROLL(4)
      for (int m = 0; m < kRadix; ++m) {
        if (!kBack && m > 0) v[m] = turned<false>(v[m], w + 2 * (m - 1));
        to.store(first + j + m * q, v[m]);
      }
    }
  }
}

template <bool kBack>
HWY_INLINE void fft_pass(int radix, FftRow from, FftRow to, ptrdiff_t parts, ptrdiff_t length,
                         const float* factors) {
  if (radix == 4) {
    fft_pass<4, kBack>(from, to, parts, length, factors);
  } else if (radix == 3) {
    fft_pass<3, kBack>(from, to, parts, length, factors);
  } else {
    fft_pass<2, kBack>(from, to, parts, length, factors);
  }
}

// The transform, coefficient k at plan.place[k]. `from` and `to` may be the same; what happens in
// between is done in `room`.
inline void fft_forward(const detail::FftPlan& plan, FftRow from, FftRow room, FftRow to) {
  ptrdiff_t parts = 1;
  ptrdiff_t length = plan.length;
  for (int i = 0; i < plan.passes; ++i) {
    fft_pass<false>(plan.radix[i], i == 0 ? from : room, i == plan.passes - 1 ? to : room, parts,
                    length, plan.factors[i]);
    parts *= plan.radix[i];
    length /= plan.radix[i];
  }
}

// And back, times the length.
inline void fft_backward(const detail::FftPlan& plan, FftRow from, FftRow room, FftRow to) {
  ptrdiff_t parts = plan.length;
  ptrdiff_t length = 1;
  for (int i = plan.passes - 1; i >= 0; --i) {
    parts /= plan.radix[i];
    length *= plan.radix[i];
    fft_pass<true>(plan.radix[i], i == plan.passes - 1 ? from : room, i == 0 ? to : room, parts,
                   length, plan.factors[i]);
  }
}

// Coefficients 0..h, in order and twice as large, of 2h real vectors, from the transform of those
// as h complex ones.
inline void fft_split(const detail::FftPlan& plan, FftRow from, FftRow to) {
  const ptrdiff_t h = plan.length;
  const FftD d;
  const FftComplex zero = from.load(0);
  const FftV two = hn::Set(d, 2.0f);
  to.store(0, {hn::Mul(two, hn::Add(zero.re, zero.im)), hn::Zero(d)});
  to.store(h, {hn::Mul(two, hn::Sub(zero.re, zero.im)), hn::Zero(d)});
  for (ptrdiff_t k = 1; k <= h - k; ++k) {
    const FftComplex a = from.load(plan.place[k]);
    const FftComplex b = from.load(plan.place[h - k]);
    const FftComplex even{hn::Add(a.re, b.re), hn::Sub(a.im, b.im)};
    const FftComplex odd{hn::Add(a.im, b.im), hn::Sub(b.re, a.re)};
    const FftComplex o = turned<false>(odd, plan.halves + 2 * k);
    to.store(k, even + o);
    const FftComplex rest = even - o;
    to.store(h - k, {rest.re, hn::Neg(rest.im)});
  }
}

// The other way round, and twice as large again.
inline void fft_join(const detail::FftPlan& plan, FftRow from, FftRow to) {
  const ptrdiff_t h = plan.length;
  const FftComplex first = from.load(0);
  const FftComplex last = from.load(h);
  to.store(0, {hn::Add(first.re, last.re), hn::Sub(first.re, last.re)});
  for (ptrdiff_t k = 1; k <= h - k; ++k) {
    const FftComplex a = from.load(k);
    const FftComplex b = from.load(h - k);
    const FftComplex even{hn::Add(a.re, b.re), hn::Sub(a.im, b.im)};
    const FftComplex odd =
        turned<true>({hn::Sub(a.re, b.re), hn::Add(a.im, b.im)}, plan.halves + 2 * k);
    to.store(plan.place[k], {hn::Sub(even.re, odd.im), hn::Add(even.im, odd.re)});
    to.store(plan.place[h - k], {hn::Add(even.re, odd.im), hn::Sub(odd.re, even.im)});
  }
}

#if HWY_TARGET != HWY_SCALAR
// Columns 0..3 of lanes `lane`, `lane` + 4 and so on, four lanes' worth to a block.
template <class D>
HWY_INLINE hn::Vec<D> four_columns(D d, const float* const* lanes, ptrdiff_t column) {
  if constexpr (kLanes<D> == 4) {
    return hn::LoadU(d, lanes[0] + column);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, four_columns(half, lanes + kLanes<D> / 2, column),
                       four_columns(half, lanes, column));
  }
}
template <class D>
HWY_INLINE void store_four_columns(D d, hn::Vec<D> v, float* const* lanes, ptrdiff_t column) {
  if constexpr (kLanes<D> == 4) {
    hn::StoreU(v, d, lanes[0] + column);
  } else {
    const hn::Half<D> half;
    store_four_columns(half, hn::LowerHalf(half, v), lanes, column);
    store_four_columns(half, hn::UpperHalf(half, v), lanes + kLanes<D> / 2, column);
  }
}

// Transposes each of the 4x4 matrices that four vectors are.
HWY_INLINE void transpose_four(FftV* v) {
  const FftD d;
  const hn::RepartitionToWide<FftD> pairs;
  const auto lo01 = hn::BitCast(pairs, hn::InterleaveLower(d, v[0], v[1]));
  const auto lo23 = hn::BitCast(pairs, hn::InterleaveLower(d, v[2], v[3]));
  const auto hi01 = hn::BitCast(pairs, hn::InterleaveUpper(d, v[0], v[1]));
  const auto hi23 = hn::BitCast(pairs, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(pairs, lo01, lo23));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(pairs, lo01, lo23));
  v[2] = hn::BitCast(d, hn::InterleaveLower(pairs, hi01, hi23));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(pairs, hi01, hi23));
}
#endif

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_FFT_INL_H_
