// SPDX-License-Identifier: Apache-2.0
// Transforms of Winograd's convolution; compiled once for each instruction set, so the include
// guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_CONV_WINOGRAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_CONV_WINOGRAD_INL_H_
#undef EBB_OPS_KERNELS_CONV_WINOGRAD_INL_H_
#else
#define EBB_OPS_KERNELS_CONV_WINOGRAD_INL_H_
#endif

#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Correlation with three taps, m outputs from m + 2 inputs, takes m + 2 products instead of 3m
// [Winograd 1980, "Arithmetic complexity of computations"; Lavin and Gray 2016, "Fast algorithms
// for convolutional neural networks"]: inputs and taps are polynomials, multiplied by their values
// at m + 1 points and at infinity. The points are 0, 1, -1 for m = 2, and 2, -2 as well for m = 4.
// Turned round, the same points give the three taps' gradients from m gradients of outputs.
//
// Each of the structs below is one of the matrices, applied to kFrom vectors.

template <size_t kTile>
struct OfInput;  // B'
template <size_t kTile>
struct OfTaps;  // G
template <size_t kTile>
struct ToOutput;  // A'
template <size_t kTile>
struct OfGradient;  // G for m taps
template <size_t kTile>
struct ToTaps;  // A' for three outputs

template <>
struct OfInput<2> {
  static constexpr size_t kFrom = 4;
  static constexpr size_t kTo = 4;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D, const V* x, V* t) {
    t[0] = hn::Sub(x[0], x[2]);
    t[1] = hn::Add(x[1], x[2]);
    t[2] = hn::Sub(x[2], x[1]);
    t[3] = hn::Sub(x[1], x[3]);
  }
};
template <>
struct OfTaps<2> {
  static constexpr size_t kFrom = 3;
  static constexpr size_t kTo = 4;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* g, V* t) {
    const V half = hn::Set(d, 0.5f);
    const V even = hn::Mul(half, hn::Add(g[0], g[2]));
    t[0] = g[0];
    t[1] = hn::MulAdd(half, g[1], even);
    t[2] = hn::NegMulAdd(half, g[1], even);
    t[3] = g[2];
  }
};
template <>
struct ToOutput<2> {
  static constexpr size_t kFrom = 4;
  static constexpr size_t kTo = 2;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D, const V* m, V* y) {
    y[0] = hn::Add(m[0], hn::Add(m[1], m[2]));
    y[1] = hn::Sub(hn::Sub(m[1], m[2]), m[3]);
  }
};
template <>
struct OfGradient<2> {
  static constexpr size_t kFrom = 2;
  static constexpr size_t kTo = 4;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* y, V* t) {
    const V half = hn::Set(d, 0.5f);
    t[0] = y[0];
    t[1] = hn::Mul(half, hn::Add(y[0], y[1]));
    t[2] = hn::Mul(half, hn::Sub(y[0], y[1]));
    t[3] = y[1];
  }
};
template <>
struct ToTaps<2> {
  static constexpr size_t kFrom = 4;
  static constexpr size_t kTo = 3;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D, const V* m, V* g) {
    const V sum = hn::Add(m[1], m[2]);
    g[0] = hn::Add(m[0], sum);
    g[1] = hn::Sub(m[1], m[2]);
    g[2] = hn::Sub(sum, m[3]);
  }
};

template <>
struct OfInput<4> {
  static constexpr size_t kFrom = 6;
  static constexpr size_t kTo = 6;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* x, V* t) {
    const V two = hn::Set(d, 2.0f);
    const V four = hn::Set(d, 4.0f);
    const V five = hn::Set(d, 5.0f);
    const V even1 = hn::NegMulAdd(four, x[2], x[4]);
    const V odd1 = hn::NegMulAdd(four, x[1], x[3]);
    const V even2 = hn::Sub(x[4], x[2]);
    const V odd2 = hn::Sub(x[3], x[1]);
    t[0] = hn::MulAdd(four, x[0], hn::NegMulAdd(five, x[2], x[4]));
    t[1] = hn::Add(even1, odd1);
    t[2] = hn::Sub(even1, odd1);
    t[3] = hn::MulAdd(two, odd2, even2);
    t[4] = hn::NegMulAdd(two, odd2, even2);
    t[5] = hn::MulAdd(four, x[1], hn::NegMulAdd(five, x[3], x[5]));
  }
};
template <>
struct OfTaps<4> {
  static constexpr size_t kFrom = 3;
  static constexpr size_t kTo = 6;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* g, V* t) {
    const V sixth = hn::Set(d, 1.0f / 6);
    const V twelfth = hn::Set(d, 1.0f / 12);
    const V even1 = hn::Mul(hn::Set(d, -1.0f / 6), hn::Add(g[0], g[2]));
    const V even2 = hn::MulAdd(sixth, g[2], hn::Mul(hn::Set(d, 1.0f / 24), g[0]));
    t[0] = hn::Mul(hn::Set(d, 0.25f), g[0]);
    t[1] = hn::NegMulAdd(sixth, g[1], even1);
    t[2] = hn::MulAdd(sixth, g[1], even1);
    t[3] = hn::MulAdd(twelfth, g[1], even2);
    t[4] = hn::NegMulAdd(twelfth, g[1], even2);
    t[5] = g[2];
  }
};
// OfTaps<4> with its rows divided by kTapScales, which takes fewer steps.
struct OfTapsUnscaled {
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* g, V* t) {
    const V two = hn::Set(d, 2.0f);
    const V even1 = hn::Add(g[0], g[2]);
    const V even2 = hn::MulAdd(hn::Set(d, 4.0f), g[2], g[0]);
    t[0] = g[0];
    t[1] = hn::Add(even1, g[1]);
    t[2] = hn::Sub(even1, g[1]);
    t[3] = hn::MulAdd(two, g[1], even2);
    t[4] = hn::NegMulAdd(two, g[1], even2);
    t[5] = g[2];
  }
};
inline constexpr double kTapScales[6] = {1.0 / 4, -1.0 / 6, -1.0 / 6, 1.0 / 24, 1.0 / 24, 1};
template <>
struct ToOutput<4> {
  static constexpr size_t kFrom = 6;
  static constexpr size_t kTo = 4;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* m, V* y) {
    const V even1 = hn::Add(m[1], m[2]);
    const V odd1 = hn::Sub(m[1], m[2]);
    const V even2 = hn::Add(m[3], m[4]);
    const V odd2 = hn::Sub(m[3], m[4]);
    y[0] = hn::Add(m[0], hn::Add(even1, even2));
    y[1] = hn::MulAdd(hn::Set(d, 2.0f), odd2, odd1);
    y[2] = hn::MulAdd(hn::Set(d, 4.0f), even2, even1);
    y[3] = hn::MulAdd(hn::Set(d, 8.0f), odd2, hn::Add(odd1, m[5]));
  }
};
template <>
struct OfGradient<4> {
  static constexpr size_t kFrom = 4;
  static constexpr size_t kTo = 6;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* y, V* t) {
    const V sixth = hn::Set(d, -1.0f / 6);
    const V four = hn::Set(d, 4.0f);
    const V even1 = hn::Mul(sixth, hn::Add(y[0], y[2]));
    const V odd1 = hn::Add(y[1], y[3]);
    const V even2 = hn::Mul(hn::Set(d, 1.0f / 24), hn::MulAdd(four, y[2], y[0]));
    const V odd2 = hn::MulAdd(four, y[3], y[1]);
    t[0] = hn::Mul(hn::Set(d, 0.25f), y[0]);
    t[1] = hn::MulAdd(sixth, odd1, even1);
    t[2] = hn::NegMulAdd(sixth, odd1, even1);
    t[3] = hn::MulAdd(hn::Set(d, 1.0f / 12), odd2, even2);
    t[4] = hn::NegMulAdd(hn::Set(d, 1.0f / 12), odd2, even2);
    t[5] = y[3];
  }
};
template <>
struct ToTaps<4> {
  static constexpr size_t kFrom = 6;
  static constexpr size_t kTo = 3;
  template <class D, class V = hn::Vec<D>>
  static HWY_INLINE void apply(D d, const V* m, V* g) {
    const V even1 = hn::Add(m[1], m[2]);
    const V even2 = hn::Add(m[3], m[4]);
    const V odd1 = hn::Sub(m[1], m[2]);
    const V odd2 = hn::Sub(m[3], m[4]);
    g[0] = hn::Add(m[0], hn::Add(even1, even2));
    g[1] = hn::MulAdd(hn::Set(d, 2.0f), odd2, odd1);
    g[2] = hn::MulAdd(hn::Set(d, 4.0f), even2, hn::Add(even1, m[5]));
  }
};

// Applies Map to the columns and then to the rows of a square of kFrom x kFrom vectors, which
// load(i, j) gives, and hands on the kTo x kTo results to store(i, j, v).
template <class Map, class D, class Load, class Store>
HWY_INLINE void transform_square(D d, const Load& load, const Store& store) {
  using V = hn::Vec<D>;
  constexpr size_t kFrom = Map::kFrom;
  constexpr size_t kTo = Map::kTo;
  V t[kTo][kFrom];
  HWY_UNROLL(8)
  for (size_t j = 0; j < kFrom; ++j) {
    V column[kFrom];
    V to[kTo];
    HWY_UNROLL(8)
    for (size_t i = 0; i < kFrom; ++i) column[i] = load(i, j);
    Map::apply(d, column, to);
    HWY_UNROLL(8)
    for (size_t i = 0; i < kTo; ++i) t[i][j] = to[i];
  }
  HWY_UNROLL(8)
  for (size_t i = 0; i < kTo; ++i) {
    V to[kTo];
    Map::apply(d, t[i], to);
    HWY_UNROLL(8)
    for (size_t j = 0; j < kTo; ++j) store(i, j, to[j]);
  }
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_CONV_WINOGRAD_INL_H_
