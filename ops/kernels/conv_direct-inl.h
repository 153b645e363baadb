// SPDX-License-Identifier: Apache-2.0
// What the direct convolutions share; compiled once for each instruction set, so the include guard
// toggles instead of staying set.
#if defined(EBB_OPS_KERNELS_CONV_DIRECT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EBB_OPS_KERNELS_CONV_DIRECT_INL_H_
#undef EBB_OPS_KERNELS_CONV_DIRECT_INL_H_
#else
#define EBB_OPS_KERNELS_CONV_DIRECT_INL_H_
#endif

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "ebb/ops/kernels/blas_micro-inl.h"
#include "ebb/ops/kernels/blas_pack-inl.h"
#include "ebb/ops/kernels/conv_plan.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvPlan;
using detail::Workspace;

// One axis of a correlation: output o takes the taps first_tap + j * tap_step, j < taps, times the
// source at o * stride + first + j * step. It is element place + o * place_step of the result: an
// input gradient is a correlation for each remainder of the place by the stride.
struct Axis {
  int64_t outputs;
  int64_t size;  // of the source
  int64_t taps, first_tap, tap_step;
  int64_t stride, first, step;
  int64_t place, place_step;

  int64_t lowest() const { return step < 0 ? first + (taps - 1) * step : first; }
  int64_t span() const { return taps == 0 ? 1 : (step < 0 ? -step : step) * (taps - 1) + 1; }
  // Elements of the source that n outputs see, from the first to the last.
  int64_t extent(int64_t n) const { return (n - 1) * stride + span(); }
  bool inside() const { return taps == 0 || (lowest() >= 0 && lowest() + extent(outputs) <= size); }
};

struct Correlation {
  Axis axis[3];
  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  int64_t outputs() const { return axis[0].outputs * axis[1].outputs * axis[2].outputs; }
  bool inside() const { return axis[0].inside() && axis[1].inside() && axis[2].inside(); }
};

inline Correlation forward_of(const ConvPlan& p) {
  Correlation c;
  for (int d = 0; d < 3; ++d) {
    c.axis[d] = {p.out[d], p.in[d], p.kernel[d], 0, 1, p.stride[d], -p.pad[d], p.dilation[d], 0, 1};
  }
  return c;
}

// The part of the input gradient whose places leave `rest` when divided by the stride.
inline Axis backward_axis(const ConvPlan& p, int d, int64_t rest) {
  const int64_t s = p.stride[d];
  const auto quotient = [&](int64_t tap) { return rest + p.pad[d] - tap * p.dilation[d]; };
  Axis a{rest < p.in[d] ? (p.in[d] - rest + s - 1) / s : 0, p.out[d], 0, 0, 1, 1, 0, 0, rest, s};
  const auto fits = [&](int64_t tap) { return quotient(tap) % s == 0; };
  int64_t tap = 0;
  while (tap < p.kernel[d] && tap < s && !fits(tap)) ++tap;
  if (tap >= p.kernel[d] || !fits(tap)) return a;
  a.first_tap = tap;
  while (a.tap_step * p.dilation[d] % s != 0) ++a.tap_step;
  a.taps = (p.kernel[d] - tap + a.tap_step - 1) / a.tap_step;
  a.first = quotient(tap) / s;
  a.step = -a.tap_step * p.dilation[d] / s;
  return a;
}

// f(correlation) for every part of the input gradient.
template <class F>
void for_each_backward(const ConvPlan& p, const F& f) {
  Correlation c;
  for (int64_t i = 0; i < p.stride[0]; ++i) {
    c.axis[0] = backward_axis(p, 0, i);
    for (int64_t j = 0; j < p.stride[1]; ++j) {
      c.axis[1] = backward_axis(p, 1, j);
      for (int64_t k = 0; k < p.stride[2]; ++k) {
        c.axis[2] = backward_axis(p, 2, k);
        if (c.outputs() != 0) f(c);
      }
    }
  }
}

// A box of outputs.
struct Box {
  int64_t start[3];
  int64_t size[3];
  int64_t count() const { return size[0] * size[1] * size[2]; }
};

// How outputs are cut into boxes, and the memory for what a box sees of the source: none where it
// can be read where it lies.
struct Boxes {
  int64_t size[3];
  bool in_place;
  int64_t elements = 0;  // of a channel that a box sees

  // At most `most` outputs and `source` elements of the source, where that is possible. With
  // `slack` elements to follow each row, or with `copied`, nothing is read where it lies.
  Boxes(const Correlation& c, int64_t channels, int64_t most, int64_t source, bool copied,
        int64_t slack)
      : in_place(!copied && c.inside()) {
    for (int d = 0; d < 3; ++d) size[d] = std::max<int64_t>(1, c.axis[d].outputs);
    const auto seen = [&] {
      int64_t n = channels;
      for (int d = 0; d < 3; ++d) n *= c.axis[d].extent(size[d]) + (d == 2 ? slack : 0);
      return n;
    };
    const auto fits = [&] { return size[0] * size[1] * size[2] <= most && seen() <= source; };
    for (int d = 0; d < 3; ++d) {
      for (int64_t parts = 2; !fits() && size[d] > 1; ++parts) {
        size[d] = (c.axis[d].outputs + parts - 1) / parts;
      }
    }
    if (!in_place) elements = seen() / std::max<int64_t>(1, channels);
  }

  template <class F>
  void for_each(const Correlation& c, const F& f) const {
    Box b;
    for (b.start[0] = 0; b.start[0] < c.axis[0].outputs; b.start[0] += size[0]) {
      b.size[0] = std::min(size[0], c.axis[0].outputs - b.start[0]);
      for (b.start[1] = 0; b.start[1] < c.axis[1].outputs; b.start[1] += size[1]) {
        b.size[1] = std::min(size[1], c.axis[1].outputs - b.start[1]);
        for (b.start[2] = 0; b.start[2] < c.axis[2].outputs; b.start[2] += size[2]) {
          b.size[2] = std::min(size[2], c.axis[2].outputs - b.start[2]);
          f(b);
        }
      }
    }
  }
};

// What a box sees of the source: elements lie at `data` + channel * channel + i * plane + j * row
// + k, i, j, k counted from what output 0 of the box sees first.
template <class T>
struct Source {
  const T* data;
  int64_t channel, plane, row;
};

// `copy` has room for the box; zeros surround the image there, and `slack` of them end each row.
template <class T>
HWY_NOINLINE Source<T> look(const Correlation& c, const Boxes& boxes, const Box& box, const T* x,
                            int64_t channels, int64_t slack, T* copy) {
  int64_t first[3];
  int64_t extent[3];
  int64_t from[3];
  int64_t to[3];  // of what exists, counted from `first`
  for (int d = 0; d < 3; ++d) {
    const Axis& a = c.axis[d];
    first[d] = box.start[d] * a.stride + a.lowest();
    extent[d] = a.extent(box.size[d]);
    from[d] = std::clamp<int64_t>(-first[d], 0, extent[d]);
    to[d] = std::clamp(a.size - first[d], from[d], extent[d]);
  }
  const int64_t row = c.axis[2].size;
  const int64_t plane = c.axis[1].size * row;
  const int64_t area = c.axis[0].size * plane;
  x += first[0] * plane + first[1] * row + first[2];
  if (boxes.in_place) return {x, area, plane, row};
  const int64_t wide = extent[2] + slack;
  T* out = copy;
  for (int64_t n = 0; n < channels; ++n, x += area) {
    for (int64_t i = 0; i < extent[0]; ++i) {
      if (i < from[0] || i >= to[0]) {
        std::fill_n(out, extent[1] * wide, T{0});
        out += extent[1] * wide;
        continue;
      }
      for (int64_t j = 0; j < extent[1]; ++j, out += wide) {
        if (j < from[1] || j >= to[1] || from[2] == to[2]) {
          std::fill_n(out, wide, T{0});
          continue;
        }
        const T* in = x + i * plane + j * row;
        for (int64_t k = 0; k < from[2]; ++k) out[k] = 0;
        const auto width = static_cast<size_t>(to[2] - from[2]);
        in += from[2];
        map<1>(hn::ScalableTag<T>(), width, out + from[2],
               [=](auto t, size_t k) HWY_ATTR { return hn::LoadU(t, in + k); });
        for (int64_t k = to[2]; k < wide; ++k) out[k] = 0;
      }
    }
  }
  return {copy, extent[0] * extent[1] * wide, extent[1] * wide, wide};
}

// Offsets into a source of the outputs of a box, row by row.
template <class T>
HWY_INLINE void output_offsets(const Correlation& c, const Box& box, const Source<T>& s,
                               int32_t* to) {
  for (int64_t i = 0; i < box.size[0]; ++i) {
    for (int64_t j = 0; j < box.size[1]; ++j) {
      const int64_t at = i * c.axis[0].stride * s.plane + j * c.axis[1].stride * s.row;
      const auto step = static_cast<int32_t>(c.axis[2].stride);
      auto offset = static_cast<int32_t>(at);
      for (int64_t k = 0; k < box.size[2]; ++k, offset += step) *to++ = offset;
    }
  }
}

// Offsets of all taps of the channels.
template <class T>
HWY_INLINE void tap_offsets(const Correlation& c, const Source<T>& s, int64_t channels,
                            int32_t* to) {
  const Axis* a = c.axis;
  const auto relative = [](const Axis& axis, int64_t tap) {
    return axis.first - axis.lowest() + tap * axis.step;
  };
  for (int64_t n = 0; n < channels; ++n) {
    for (int64_t i = 0; i < a[0].taps; ++i) {
      for (int64_t j = 0; j < a[1].taps; ++j) {
        const int64_t at = n * s.channel + relative(a[0], i) * s.plane + relative(a[1], j) * s.row;
        for (int64_t k = 0; k < a[2].taps; ++k) {
          *to++ = static_cast<int32_t>(at + relative(a[2], k));
        }
      }
    }
  }
}

// ---- the innermost loop ----

template <class T>
struct Gather {
  size_t terms;
  const int32_t* offsets;  // of the terms
  ptrdiff_t ldc;
  const T* init;  // what the sums start from: a row of as many columns as C, or null for zeros
  bool add;       // to what C holds, instead
};

template <class T>
using GatherFn = void (*)(const Gather<T>& g, const T* x, const int32_t* rows, const T* b, T* c);

// C[r][v] = sum over terms p of x[rows[r] + offsets[p]] * b[p][v]: a product of matrices, of which
// the first is wherever two tables of offsets say. So nothing is unfolded. Rows come in runs of
// kRun neighbours, each one element behind the one before: only the first of a run is looked up,
// which saves the registers for the other addresses.
template <class D, size_t kRows, size_t kVectors, size_t kRun, typename T = hn::TFromD<D>>
HWY_NOINLINE void gather_block(const Gather<T>& g, const T* x, const int32_t* rows, const T* b,
                               T* c) {
  using V = hn::Vec<D>;
  constexpr size_t kN = kLanes<D>;
  // What two runs add up does not depend on there being two of them.
  constexpr size_t kC = kChains<(kRun == 1 ? kRows : kRun), kVectors>;
  const D d;
  V sum[kC][kRows][kVectors];
  const T* run[kRows / kRun];
  HWY_UNROLL(8)
  for (size_t r = 0; r < kRows / kRun; ++r) run[r] = x + rows[r * kRun];
  HWY_UNROLL(16)
  for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      sum[0][r][v] = g.add ? hn::LoadU(d, c + static_cast<ptrdiff_t>(r) * g.ldc + v * kN)
                     : g.init != nullptr ? hn::LoadU(d, g.init + v * kN)
                                         : hn::Zero(d);
      HWY_UNROLL(4)
      for (size_t s = 1; s < kC; ++s) sum[s][r][v] = hn::Zero(d);
    }
  }
  const int32_t* offset = g.offsets;
  const int32_t* const end = offset + g.terms;
  const auto step = [&](V(&to)[kRows][kVectors]) HWY_ATTR {
    const ptrdiff_t at = *offset++;
    V y[kVectors];
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) y[v] = hn::LoadU(d, b + v * kN);
    b += kVectors * kN;
    HWY_UNROLL(16)
    for (size_t r = 0; r < kRows; ++r) {
      const V value = hn::Set(d, run[r / kRun][at + static_cast<ptrdiff_t>(r % kRun)]);
      HWY_UNROLL(8)
      for (size_t v = 0; v < kVectors; ++v) to[r][v] = hn::MulAdd(value, y[v], to[r][v]);
    }
  };
  if constexpr (kC == 1) {
    while (offset != end) step(sum[0]);
  } else {
    while (end - offset >= static_cast<ptrdiff_t>(kC)) {
      HWY_UNROLL(4)
      for (size_t s = 0; s < kC; ++s) step(sum[s]);
    }
    while (offset != end) step(sum[0]);
  }
  HWY_UNROLL(16)
  for (size_t r = 0; r < kRows; ++r, c += g.ldc) {
    HWY_UNROLL(8)
    for (size_t v = 0; v < kVectors; ++v) {
      HWY_UNROLL(4)
      for (size_t s = 1; s < kC; ++s) sum[0][r][v] = hn::Add(sum[0][r][v], sum[s][r][v]);
      hn::StoreU(sum[0][r][v], d, c + v * kN);
    }
  }
}

#if HWY_TARGET == HWY_AVX3
constexpr size_t kMostRun1 = 16;  // rows in runs of a block one vector wide
constexpr size_t kMostRun2 = 12;  // and two
#else
constexpr size_t kMostRun1 = 8;
constexpr size_t kMostRun2 = kMaxRows2;
#endif
constexpr size_t kLeastRun = 4;

// Blocks of rows that have nothing to do with each other, of a run, of two runs.
template <class D, size_t kVectors, size_t... kRow>
constexpr auto gathers_of_rows(std::index_sequence<kRow...>) {
  return std::array{gather_block<D, kRow + 1, kVectors, 1>...};
}
template <class D, size_t kVectors, size_t... kRow>
constexpr auto gathers_of_a_run(std::index_sequence<kRow...>) {
  return std::array{gather_block<D, kRow + 1, kVectors, kRow + 1>...};
}
template <class D, size_t kVectors, size_t... kRow>
constexpr auto gathers_of_two_runs(std::index_sequence<kRow...>) {
  return std::array<GatherFn<hn::TFromD<D>>, sizeof...(kRow)>{
      gather_block<D, 2 * (kLeastRun + kRow), kVectors, kLeastRun + kRow>...};
}

// The blocks of C that are `kVectors` wide, by rows - 1, or by what a run has more than the least.
template <class D, size_t kVectors>
struct Gathers {
  static constexpr size_t kMostRows = kVectors == 2 ? kMaxRows2 : kMaxRows1;
  static constexpr size_t kMostInRuns = kVectors == 2 ? kMostRun2 : kMostRun1;
  // Rows of a run where two go together, which takes 32 registers.
  static constexpr size_t kMostOfTwo = HWY_TARGET == HWY_AVX3 ? kMostInRuns / 2 : 0;
  static constexpr size_t kTwoRuns = kMostOfTwo < kLeastRun ? 0 : kMostOfTwo - kLeastRun + 1;
  static constexpr auto kOfRows =
      gathers_of_rows<D, kVectors>(std::make_index_sequence<kMostRows>());
  static constexpr auto kOfARun =
      gathers_of_a_run<D, kVectors>(std::make_index_sequence<kMostInRuns>());
  static constexpr auto kOfTwoRuns =
      gathers_of_two_runs<D, kVectors>(std::make_index_sequence<kTwoRuns>());

  template <typename T = hn::TFromD<D>>
  static HWY_INLINE void rows(const Gather<T>& g, size_t rows, const T* x, const int32_t* offsets,
                              const T* b, T* c) {
    Heights heights = Heights::cut(rows, kMostRows);
    for (size_t i = 0; i < rows;) {
      const size_t height = heights.next();
      kOfRows[height - 1](g, x, offsets + i, b, c + static_cast<ptrdiff_t>(i) * g.ldc);
      i += height;
    }
  }
  template <typename T = hn::TFromD<D>>
  static HWY_INLINE void runs(const Gather<T>& g, size_t rows, size_t run, const T* x,
                              const int32_t* offsets, const T* b, T* c) {
    const auto at = [&](size_t i) { return c + static_cast<ptrdiff_t>(i) * g.ldc; };
    size_t start = 0;
    if constexpr (kTwoRuns > 0) {
      if (run <= kMostOfTwo) {
        const auto fn = kOfTwoRuns[run - kLeastRun];
        for (; rows - start >= 2 * run; start += 2 * run) fn(g, x, offsets + start, b, at(start));
      }
    }
    for (; start < rows; start += run) {
      Heights heights = Heights::cut(run, kMostInRuns);
      for (size_t i = start; i < start + run;) {
        const size_t height = heights.next();
        kOfARun[height - 1](g, x, offsets + i, b, at(i));
        i += height;
      }
    }
  }
};

// `rows` rows of C, which is one or two vectors wide.
template <class T>
HWY_INLINE void gather_rows(const Gather<T>& g, size_t width, size_t rows, const T* x,
                            const int32_t* offsets, const T* b, T* c) {
  using D = hn::ScalableTag<T>;
  if (width == 2 * kLanes<D>) {
    Gathers<D, 2>::rows(g, rows, x, offsets, b, c);
  } else {
    Gathers<D, 1>::rows(g, rows, x, offsets, b, c);
  }
}

// The same of `rows` rows that come in runs of `run`, which is at least kLeastRun.
template <class T>
HWY_INLINE void gather_runs(const Gather<T>& g, size_t width, size_t rows, size_t run, const T* x,
                            const int32_t* offsets, const T* b, T* c) {
  using D = hn::ScalableTag<T>;
  if (width == 2 * kLanes<D>) {
    Gathers<D, 2>::runs(g, rows, run, x, offsets, b, c);
  } else {
    Gathers<D, 1>::runs(g, rows, run, x, offsets, b, c);
  }
}

// The widths of strips of channels: two vectors, and one at the end if that is enough.
template <class T>
constexpr size_t strip_width(size_t left) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  return left > kN ? 2 * kN : kN;
}
template <class T>
constexpr size_t strips_total(size_t channels) {
  constexpr size_t kN = kLanes<hn::ScalableTag<T>>;
  return channels / (2 * kN) * (2 * kN) +
         (channels % (2 * kN) == 0 ? 0 : strip_width<T>(channels % (2 * kN)));
}

constexpr int64_t kBoxOutputs = 1024;
constexpr int64_t kBoxBytes = 256 << 10;  // of the source that a box sees
constexpr size_t kChunkTerms = 1024;      // of a sum at a time: their weights stay in the L2 cache

// Whether offsets can be told in 32 bits. Rows may be filled up to whole vectors.
inline bool near_enough(const Correlation& c, int64_t channels) {
  constexpr double kFilling = 64;
  auto n = static_cast<double>(channels);
  for (int d = 0; d < 3; ++d) {
    const Axis& a = c.axis[d];
    n *= static_cast<double>(std::max(a.size, a.extent(a.outputs))) + (d == 2 ? kFilling : 0);
  }
  return n < std::numeric_limits<int32_t>::max();
}

}  // namespace
}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // EBB_OPS_KERNELS_CONV_DIRECT_INL_H_
