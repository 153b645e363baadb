// SPDX-License-Identifier: Apache-2.0
// A direct convolution with its operands, and how it is done for results of few channels; compiled
// once for each instruction set, so the include guard toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_CONV_SPREAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_CONV_SPREAD_INL_H_
#undef EBB_OPS_KERNELS_CONV_SPREAD_INL_H_
#else
#define EBB_OPS_KERNELS_CONV_SPREAD_INL_H_
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "ebb/ops/kernels/conv_direct-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// A correlation with its operands: of `from` channels to `to` channels.
template <class T>
struct Task {
  const ConvPlan& plan;
  Correlation c;
  bool backward;  // w is read the other way round
  const T* x;
  const T* w;
  const T* bias;
  T* y;
  const T* packed = nullptr;  // the weights as correlate() packs them, where that was done before

  int64_t from() const { return backward ? plan.group_out : plan.group_in; }
  int64_t to() const { return backward ? plan.group_in : plan.group_out; }
  const int64_t* size() const { return backward ? plan.in : plan.out; }  // of y
  int64_t area() const { return backward ? plan.in_area : plan.out_area; }
  int64_t terms() const { return from() * c.taps(); }
};

// f(tap, offset in the kernel) for all taps of the correlation.
template <class F>
HWY_INLINE void for_each_tap(const ConvPlan& p, const Correlation& c, const F& f) {
  const Axis* a = c.axis;
  int64_t tap = 0;
  for (int64_t i = 0; i < a[0].taps; ++i) {
    for (int64_t j = 0; j < a[1].taps; ++j) {
      const int64_t row = ((a[0].first_tap + i * a[0].tap_step) * p.kernel[1] + a[1].first_tap +
                           j * a[1].tap_step) *
                          p.kernel[2];
      for (int64_t k = 0; k < a[2].taps; ++k) f(tap++, row + a[2].first_tap + k * a[2].tap_step);
    }
  }
}

// to[2 i] = from[i]
#if HWY_TARGET == HWY_AVX3
HWY_INLINE void store_every_other(const float* from, size_t n, float* to) {
  const hn::ScalableTag<float> d;
  constexpr size_t kN = kLanes<decltype(d)>;
  const hn::RebindToSigned<decltype(d)> di;
  const auto halves = hn::ShiftRight<1>(hn::Iota(di, 0));
  const auto lower = hn::IndicesFromVec(d, halves);
  const auto upper = hn::IndicesFromVec(d, hn::Add(halves, hn::Set(di, kN / 2)));
  const auto even = hn::MaskFromVec(hn::BitCast(
      d, hn::VecFromMask(di, hn::Eq(hn::And(hn::Iota(di, 0), hn::Set(di, 1)), hn::Zero(di)))));
  const auto store = [&](hn::Vec<decltype(d)> v, size_t count, float* at) HWY_ATTR {
    hn::BlendedStore(v, hn::And(even, hn::FirstN(d, std::min(kN, 2 * count))), d, at);
  };
  for (size_t i = 0; i < n; i += kN) {
    const size_t left = n - i;
    const auto v = left < kN ? load_n(d, from + i, left) : hn::LoadU(d, from + i);
    store(hn::TableLookupLanes(v, lower), left, to + 2 * i);
    if (left > kN / 2) store(hn::TableLookupLanes(v, upper), left - kN / 2, to + 2 * i + kN);
  }
}
#endif
template <class T>
HWY_INLINE void store_apart(const T* from, size_t n, size_t step, T* to) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (sizeof(T) == 4) {
    if (step == 2) return store_every_other(from, n, to);
  }
#endif
  for (size_t i = 0; i < n; ++i) to[i * step] = from[i];
}

// For results of few channels: rows of outputs are computed as they lie in what is seen of the
// source, with what lies between the rows, so that vectors are filled however short rows are. For
// sources that are read without a stride.
constexpr size_t kMostWide = 8;      // vectors of a block
constexpr size_t kMostChannels = 6;  // of a block
#if HWY_TARGET == HWY_AVX3
constexpr size_t kRegisters = 32;
// One less of three channels, which leaves registers for the source.
constexpr size_t most_vectors(size_t channels) {
  return std::min(channels == 3 ? 7 : kMostWide, 24 / channels);
}
#else
constexpr size_t kRegisters = 16;
constexpr size_t most_vectors(size_t channels) { return std::min(kMostWide, 12 / channels); }
#endif

struct Spread {
  size_t terms;
  const int32_t* offsets;  // in the source
  const int32_t* weights;  // offsets of the first channel's weights
  ptrdiff_t w_row;         // between channels
  ptrdiff_t ldc;
};
using SpreadFn = void (*)(const Spread& g, const float* x, const float* w, const float* bias,
                          float* c);

// C[r][i] = sum over terms p of w[r][p] * x[offsets[p] + i]
template <size_t kRows, size_t kVectors>
HWY_NOINLINE void spread_block(const Spread& g, const float* x, const float* w, const float* bias,
                               float* c) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kN = kLanes<decltype(d)>;
  V sum[kRows][kVectors];
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r) {
    const V start = bias == nullptr ? hn::Zero(d) : hn::Set(d, bias[r]);
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) sum[r][v] = start;
  }
  for (size_t p = 0; p < g.terms; ++p) {
    const float* const from = x + g.offsets[p];
    const float* const weight = w + g.weights[p];
    const auto value = [&](size_t r) HWY_ATTR {
      return hn::Set(d, weight[static_cast<ptrdiff_t>(r) * g.w_row]);
    };
    // One operand is held as a whole, the other comes by and by: the source, or where the sums
    // leave too few registers for that, the weights.
    if constexpr (kRows * kVectors + kVectors + 1 > kRegisters) {
      V values[kRows];
      HWY_UNROLL(8)
      for (size_t r = 0; r < kRows; ++r) values[r] = value(r);
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) {
        const V row = hn::LoadU(d, from + v * kN);
        HWY_UNROLL(8)
        for (size_t r = 0; r < kRows; ++r) sum[r][v] = hn::MulAdd(values[r], row, sum[r][v]);
      }
    } else {
      V row[kVectors];
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, from + v * kN);
      HWY_UNROLL(8)
      for (size_t r = 0; r < kRows; ++r) {
        const V factor = value(r);
        HWY_UNROLL(8)
        for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows; ++r, c += g.ldc) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, c + v * kN);
  }
}

template <size_t kRows, size_t... kVector>
constexpr std::array<SpreadFn, kMostWide> spreads(std::index_sequence<kVector...>) {
  return {spread_block<kRows, kVector + 1>...};
}
template <size_t... kRow>
constexpr auto all_spreads(std::index_sequence<kRow...>) {
  return std::array<std::array<SpreadFn, kMostWide>, sizeof...(kRow)>{
      spreads<kRow + 1>(std::make_index_sequence<most_vectors(kRow + 1)>())...};
}
// By channels - 1 and vectors - 1.
inline constexpr auto kSpreads = all_spreads(std::make_index_sequence<kMostChannels>());

struct SpreadSizes {
  static constexpr size_t kN = kLanes<hn::ScalableTag<float>>;
  Boxes boxes;
  size_t seen, row;  // `row`: elements of a channel of the sums

  explicit SpreadSizes(const Task<float>& t)
      : boxes(t.c, t.from(), kBoxOutputs * 8, kBoxBytes / static_cast<int64_t>(sizeof(float)), true,
              0) {
    // The last vector of a box reaches beyond it: the source is read in a copy only.
    seen = static_cast<size_t>(boxes.elements * t.from()) + kN;
    const auto pitch = t.c.axis[2].extent(boxes.size[2]);
    row = (static_cast<size_t>(boxes.size[1] * pitch) + kN - 1) / kN * kN;
  }
  size_t bytes(const Task<float>& t) const {
    const auto terms = static_cast<size_t>(t.terms());
    return Workspace::rounded(seen * sizeof(float)) +
           Workspace::rounded(row * kMostChannels * sizeof(float)) +
           2 * Workspace::rounded(terms * sizeof(int32_t));
  }
};

HWY_NOINLINE void correlate_few(const Task<float>& t, Workspace& workspace) {
  const SpreadSizes s(t);
  constexpr size_t kN = SpreadSizes::kN;
  auto* const seen = workspace.take<float>(s.seen);
  auto* const sums = workspace.take<float>(s.row * kMostChannels);
  const auto terms = static_cast<size_t>(t.terms());
  auto* const offsets = workspace.take<int32_t>(terms);
  auto* const weights = workspace.take<int32_t>(terms);
  const auto to = static_cast<size_t>(t.to());
  {
    int32_t* at = weights;
    for (int64_t n = 0; n < t.from(); ++n) {
      const int64_t start = n * t.plan.taps * (t.backward ? t.to() : 1);
      for_each_tap(t.plan, t.c,
                   [&](int64_t, int64_t tap) { *at++ = static_cast<int32_t>(start + tap); });
    }
  }
  Spread g{terms, offsets, weights, t.backward ? t.plan.taps : t.terms(),
           static_cast<ptrdiff_t>(s.row)};
  const int64_t* const size = t.size();
  const Axis* a = t.c.axis;
  s.boxes.for_each(t.c, [&](const Box& box) HWY_ATTR {
    const Source<float> source = look(t.c, s.boxes, box, t.x, t.from(), 0, seen);
    std::fill_n(seen + source.channel * t.from(), kN, 0.0f);
    tap_offsets(t.c, source, t.from(), offsets);
    const auto flat = static_cast<size_t>((box.size[1] - 1) * source.row + box.size[2]);
    const size_t vectors = (flat + kN - 1) / kN;
    for (int64_t i = 0; i < box.size[0]; ++i) {
      const float* x = source.data + i * a[0].stride * source.plane;
      Heights channels = Heights::cut<kMostChannels>(to);
      for (size_t k = 0; k < to;) {
        const size_t count = channels.next();
        const float* w = t.w + static_cast<ptrdiff_t>(k) * g.w_row;
        const float* bias = t.bias == nullptr ? nullptr : t.bias + k;
        Heights widths = Heights::cut(vectors, most_vectors(count));
        for (size_t v = 0; v < vectors;) {
          const size_t wide = widths.next();
          kSpreads[count - 1][wide - 1](g, x + v * kN, w, bias, sums + v * kN);
          v += wide;
        }
        const int64_t plane = a[0].place + (box.start[0] + i) * a[0].place_step;
        for (size_t r = 0; r < count; ++r) {
          float* y = t.y + static_cast<int64_t>(k + r) * t.area() + plane * size[1] * size[2];
          for (int64_t j = 0; j < box.size[1]; ++j) {
            const float* from = sums + r * s.row + j * source.row;
            float* out = y + (a[1].place + (box.start[1] + j) * a[1].place_step) * size[2] +
                         a[2].place + box.start[2] * a[2].place_step;
            if (a[2].place_step == 1) {
              map<1>(hn::ScalableTag<float>(), static_cast<size_t>(box.size[2]), out,
                     [=](auto d, size_t q) HWY_ATTR { return hn::LoadU(d, from + q); });
            } else {
              store_apart(from, static_cast<size_t>(box.size[2]),
                          static_cast<size_t>(a[2].place_step), out);
            }
          }
        }
        k += count;
      }
    }
  });
}

// Whether vectors of outputs are fuller than vectors of channels; only for float.
template <class T>
bool by_outputs(const Task<T>& t) {
  if constexpr (sizeof(T) != sizeof(float)) return false;
  const Axis* a = t.c.axis;
  if (a[1].stride != 1 || a[2].stride != 1 || t.c.outputs() == 0) return false;
  constexpr int64_t kN = kLanes<hn::ScalableTag<float>>;
  const int64_t flat = (a[1].outputs - 1) * a[2].extent(a[2].outputs) + a[2].outputs;
  const int64_t vectors = (flat + kN - 1) / kN * a[0].outputs;
  return vectors * t.to() < (t.to() + kN - 1) / kN * t.c.outputs();
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_CONV_SPREAD_INL_H_
