// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_direct.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
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

// f(first output of a run, its first element in a channel of y) for the runs of a box's outputs
// that are neighbours in y, all `length` long. The last axis has no gaps.
template <class F>
HWY_INLINE void for_each_run(const Correlation& c, const Box& box, const int64_t* size,
                             const F& f) {
  const Axis* a = c.axis;
  const auto whole = [&](int d) {
    return a[d].place_step == 1 && box.size[d] == size[d] && a[d - 1].place_step == 1;
  };
  int64_t length = box.size[2];
  int64_t rows = box.size[1];
  int64_t planes = box.size[0];
  if (whole(2)) {
    length *= rows;
    rows = 1;
    if (whole(1)) {
      length *= planes;
      planes = 1;
    }
  }
  const auto place = [&](int d, int64_t i) {
    return a[d].place + (box.start[d] + i) * a[d].place_step;
  };
  int64_t at = 0;
  for (int64_t i = 0; i < planes; ++i) {
    for (int64_t j = 0; j < rows; ++j, at += length) {
      f(at, length, (place(0, i) * size[1] + place(1, j)) * size[2] + place(2, 0));
    }
  }
}

// ---- vectors of channels ----

// For results of a vector of channels and more: outputs lie row by row in the sums, each with all
// channels of a strip, and are turned on the way to y. So images may be of any width, and taps at
// any distance.
template <class T>
struct Sizes {
  size_t to, terms, total;  // `total`: channels with those that fill the last strip
  size_t chunk;             // terms at a time
  bool kept;                // whether all packed weights are
  bool gaps;                // whether outputs are no neighbours in y
  Boxes boxes;
  size_t seen, packed, width;

  explicit Sizes(const Task<T>& t)
      : to(static_cast<size_t>(t.to())),
        terms(static_cast<size_t>(t.terms())),
        total(strips_total<T>(to)),
        boxes(t.c, t.from(), kBoxOutputs, kBoxBytes / static_cast<int64_t>(sizeof(T)), false, 0) {
    width = std::min(total, strip_width<T>(to));
    const size_t least = static_cast<size_t>(t.c.taps());
    chunk = std::min(terms, least == 0 ? 1 : std::max<size_t>(1, kChunkTerms / least) * least);
    kept = keeps(to, terms);
    seen = static_cast<size_t>(boxes.elements * t.from());
    packed = t.packed != nullptr ? 0 : kept ? terms * total : chunk * width;
    gaps = t.c.axis[2].place_step != 1;
  }
  static bool keeps(size_t to, size_t terms) {
    const size_t total = strips_total<T>(to);
    return total < to + to / 2 || terms * total * sizeof(T) <= kBoxBytes;
  }
  size_t outputs() const {
    return static_cast<size_t>(boxes.size[0] * boxes.size[1] * boxes.size[2]);
  }
  size_t bytes(const Task<T>& t) const {
    const size_t taps = static_cast<size_t>(t.c.taps());
    return Workspace::rounded(seen * sizeof(T)) + Workspace::rounded(packed * sizeof(T)) +
           Workspace::rounded(outputs() * width * sizeof(T)) * (gaps ? 2 : 1) +
           Workspace::rounded(total * sizeof(T)) + Workspace::rounded(outputs() * sizeof(int32_t)) +
           Workspace::rounded(terms * sizeof(int32_t)) +
           (t.backward ? Workspace::rounded(t.plan.taps * width * sizeof(T)) +
                             Workspace::rounded(taps * sizeof(int32_t))
                       : 0);
  }
};

// The weights of terms [first, first + count), of whole channels, for `width` results from channel
// `channel` on: to[term][channel].
template <class T>
HWY_NOINLINE void pack(const Task<T>& t, size_t channel, size_t width, size_t first, size_t count,
                       const int32_t* taps, T* scratch, T* to) {
  const size_t exist = std::min(width, static_cast<size_t>(t.to()) - channel);
  if (!t.backward) {
    const auto row = static_cast<size_t>(t.terms());
    return pack_transposed(t.w + channel * row + first, static_cast<ptrdiff_t>(row), count, exist,
                           width, to);
  }
  if (count == 0) return;
  const auto all = static_cast<size_t>(t.plan.taps);
  const auto some = static_cast<size_t>(t.c.taps());
  const auto channels = static_cast<size_t>(t.to());
  for (size_t n = first / some; n < (first + count) / some; ++n, to += some * width) {
    const T* from = t.w + (n * channels + channel) * all;
    if (some == all) {
      pack_transposed(from, static_cast<ptrdiff_t>(all), all, exist, width, to);
      continue;
    }
    pack_transposed(from, static_cast<ptrdiff_t>(all), all, exist, width, scratch);
    for (size_t k = 0; k < some; ++k) {
      std::copy_n(scratch + static_cast<size_t>(taps[k]) * width, width, to + k * width);
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

template <class T>
HWY_NOINLINE void correlate(const Task<T>& t, Workspace& workspace) {
  const Sizes<T> s(t);
  T* const seen = workspace.take<T>(s.seen);
  T* const own = workspace.take<T>(s.packed);
  const T* const packed = t.packed != nullptr ? t.packed : own;
  T* const sums = workspace.take<T>(s.outputs() * s.width);
  T* const turned = s.gaps ? workspace.take<T>(s.outputs() * s.width) : nullptr;
  T* const bias = workspace.take<T>(s.total);
  auto* const rows = workspace.take<int32_t>(s.outputs());
  auto* const offsets = workspace.take<int32_t>(s.terms);
  T* scratch = nullptr;
  int32_t* taps = nullptr;
  if (t.backward && t.packed == nullptr) {
    scratch = workspace.take<T>(static_cast<size_t>(t.plan.taps) * s.width);
    taps = workspace.take<int32_t>(static_cast<size_t>(t.c.taps()));
    for_each_tap(t.plan, t.c,
                 [&](int64_t tap, int64_t at) { taps[tap] = static_cast<int32_t>(at); });
  }
  if (t.bias != nullptr) {
    std::copy_n(t.bias, s.to, bias);
    std::fill(bias + s.to, bias + s.total, T{0});
  }
  if (s.kept && t.packed == nullptr) {
    T* to = own;
    for (size_t k = 0; k < s.to;) {
      const size_t width = strip_width<T>(s.to - k);
      pack(t, k, width, 0, s.terms, taps, scratch, to);
      to += s.terms * width;
      k += width;
    }
  }
  const int64_t* const size = t.size();
  const auto area = static_cast<size_t>(t.area());
  Source<T> before{nullptr, -1, -1, -1};
  s.boxes.for_each(t.c, [&](const Box& box) HWY_ATTR {
    const Source<T> source = look(t.c, s.boxes, box, t.x, t.from(), 0, seen);
    const auto count = static_cast<size_t>(box.count());
    output_offsets(t.c, box, source, rows);
    const auto wide = static_cast<size_t>(box.size[2]);
    const bool runs = t.c.axis[2].stride == 1 && wide >= kLeastRun;
    if (source.row != before.row || source.plane != before.plane ||
        source.channel != before.channel) {
      tap_offsets(t.c, source, t.from(), offsets);
      before = source;
    }
    const T* kept = packed;
    for (size_t k = 0; k < s.to;) {
      const size_t width = strip_width<T>(s.to - k);
      const auto ld = static_cast<ptrdiff_t>(width);
      Gather<T> g{0, nullptr, ld, t.bias == nullptr ? nullptr : bias + k, false};
      size_t term = 0;
      do {
        g.terms = std::min(s.chunk, s.terms - term);
        g.offsets = offsets + term;
        if (!s.kept) pack(t, k, width, term, g.terms, taps, scratch, own);
        const T* const weights = s.kept ? kept + term * width : packed;
        if (runs) {
          gather_runs(g, width, count, wide, source.data, rows, weights, sums);
        } else {
          gather_rows(g, width, count, source.data, rows, weights, sums);
        }
        g.add = true;
        term += g.terms;
      } while (term < s.terms);
      kept += s.terms * width;
      const size_t exist = std::min(width, s.to - k);
      T* const y = t.y + k * area;
      for_each_run(t.c, box, size, [&](int64_t at, int64_t length, int64_t place) HWY_ATTR {
        const T* from = sums + static_cast<size_t>(at) * width;
        const auto n = static_cast<size_t>(length);
        const hn::ScalableTag<T> d;
        if (!s.gaps) {
          store_transposed(d, from, width, n, exist, T{0}, y + place, static_cast<ptrdiff_t>(area));
          return;
        }
        store_transposed(d, from, width, n, exist, T{0}, turned, length);
        const auto step = static_cast<size_t>(t.c.axis[2].place_step);
        for (size_t c = 0; c < exist; ++c) {
          store_apart(turned + c * n, n, step, y + c * area + static_cast<size_t>(place));
        }
      });
      k += width;
    }
  });
}

// ---- vectors of outputs ----

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

// ---- choice ----

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

template <class T>
size_t bytes_of(const Task<T>& t) {
  if constexpr (sizeof(T) == 4) {
    if (by_outputs(t)) return SpreadSizes(t).bytes(t);
  }
  return Sizes<T>(t).bytes(t);
}

template <class T>
void run(const Task<T>& t, Workspace& workspace) {
  if constexpr (sizeof(T) == 4) {
    if (by_outputs(t)) return correlate_few(t, workspace);
  }
  correlate(t, workspace);
}

template <class T>
void forward(const ConvPlan& p, const T* x, const T* w, const T* bias, T* y) {
  const Task<T> t{p, forward_of(p), false, x, w, bias, y};
  Workspace workspace(bytes_of(t));
  run(t, workspace);
}

// The parts of an input gradient, of which there is one for each remainder by the stride.
template <class T>
struct Parts {
  int number = 0;
  int with_taps = 0;
  int by_channels = 0;       // whose vectors are of channels,
  bool surrounded = false;   // and whether any of those sees padding
  size_t taps = 0;           // of all parts
  int64_t first[3], end[3];  // of dy with the padding that any of them sees

  explicit Parts(const ConvPlan& p) : first{0, 0, 0}, end{p.out[0], p.out[1], p.out[2]} {
    for_each_backward(p, [&](const Correlation& c) {
      ++number;
      with_taps += c.taps() != 0;
      taps += static_cast<size_t>(c.taps());
      if (!by_outputs(Task<T>{p, c, true, nullptr, nullptr, nullptr, nullptr})) {
        ++by_channels;
        surrounded = surrounded || !c.inside();
      }
      for (int d = 0; d < 3; ++d) {
        const Axis& a = c.axis[d];
        if (a.taps == 0) continue;
        first[d] = std::min(first[d], a.lowest());
        end[d] = std::max(end[d], a.lowest() + a.extent(a.outputs));
      }
    });
  }
};

// An image of dy with as much of the padding around it as all parts see: they share the copy where
// it is small. Those of few channels make copies of their own.
template <class T>
struct Surrounded {
  Correlation all;  // one part that sees what all see
  bool used;
  int64_t elements = 0;

  Surrounded(const ConvPlan& p, const Parts<T>& parts) {
    double size = static_cast<double>(p.group_out) * sizeof(T);
    for (int d = 0; d < 3; ++d) {
      const int64_t first = parts.first[d];
      all.axis[d] = {parts.end[d] - first, p.out[d], 1, 0, 1, 1, first, 1, 0, 1};
      size *= static_cast<double>(all.axis[d].outputs);
    }
    used = parts.number > 1 && parts.surrounded && size <= kBoxBytes;
    if (used) elements = p.group_out * all.outputs();
  }
  // What a part is within the copy.
  Correlation within(Correlation c) const {
    for (int d = 0; d < 3 && used; ++d) {
      c.axis[d].first -= all.axis[d].first;
      c.axis[d].size = all.axis[d].outputs;
    }
    return c;
  }
  size_t bytes() const { return Workspace::rounded(static_cast<size_t>(elements) * sizeof(T)); }
};

// The packed weights of all parts, one part behind the other. Each part has some of the taps, but
// to turn them all of them have to be turned, which is done once instead of for each part.
template <class T>
struct PackedParts {
  // Where the weights of a tap go: those of result `channel` and term n of a strip to `part` +
  // channel * terms + (n * taps + index) * width.
  struct Place {
    size_t part, taps, index;  // no taps: no part has it
  };
  bool used;
  size_t taps;  // of all parts

  PackedParts(const ConvPlan& p, const Parts<T>& parts)
      : used(parts.with_taps > 1 && parts.by_channels == parts.number &&
             Sizes<T>::keeps(to(p), from(p) * parts.taps)),
        taps(parts.taps) {}
  static size_t from(const ConvPlan& p) { return static_cast<size_t>(p.group_out); }
  static size_t to(const ConvPlan& p) { return static_cast<size_t>(p.group_in); }
  static size_t all(const ConvPlan& p) { return static_cast<size_t>(p.taps); }
  // Elements of a part.
  static size_t elements(const ConvPlan& p, size_t taps) {
    return from(p) * taps * strips_total<T>(to(p));
  }
  static size_t strip(const ConvPlan& p) {
    return std::min(strips_total<T>(to(p)), strip_width<T>(to(p)));
  }
  size_t bytes(const ConvPlan& p) const {
    if (!used) return 0;
    return Workspace::rounded(elements(p, taps) * sizeof(T)) +
           Workspace::rounded(all(p) * strip(p) * sizeof(T)) +
           Workspace::rounded(all(p) * sizeof(Place));
  }
  HWY_NOINLINE const T* pack(const ConvPlan& p, const T* w, Workspace& workspace) const {
    T* const packed = workspace.take<T>(elements(p, taps));
    T* const turned = workspace.take<T>(all(p) * strip(p));
    auto* const places = workspace.take<Place>(all(p));
    std::fill_n(places, all(p), Place{});
    size_t part = 0;
    for_each_backward(p, [&](const Correlation& c) {
      const auto some = static_cast<size_t>(c.taps());
      for_each_tap(p, c, [&](int64_t tap, int64_t at) {
        places[at] = {part, some, static_cast<size_t>(tap)};
      });
      part += elements(p, some);
    });
    for (size_t k = 0; k < to(p);) {
      const size_t width = strip_width<T>(to(p) - k);
      const size_t exist = std::min(width, to(p) - k);
      for (size_t n = 0; n < from(p); ++n) {
        pack_transposed(w + (n * to(p) + k) * all(p), static_cast<ptrdiff_t>(all(p)), all(p), exist,
                        width, turned);
        for (size_t tap = 0; tap < all(p); ++tap) {
          const auto& [start, some, index] = places[tap];
          if (some == 0) continue;
          std::copy_n(turned + tap * width, width,
                      packed + start + k * from(p) * some + (n * some + index) * width);
        }
      }
      k += width;
    }
    return packed;
  }
};

template <class T>
struct Backward {
  Surrounded<T> image;
  PackedParts<T> weights;

  explicit Backward(const ConvPlan& p) : Backward(p, Parts<T>(p)) {}
  Backward(const ConvPlan& p, const Parts<T>& parts) : image(p, parts), weights(p, parts) {}

  // More than there can be where offsets are too far.
  size_t bytes(const ConvPlan& p) const {
    size_t most = 0;
    for_each_backward(p, [&](const Correlation& c) {
      const Task<T> t{p, image.within(c), true, nullptr, nullptr, nullptr, nullptr};
      most = std::max(
          most, near_enough(t.c, t.from()) ? bytes_of(t) : std::numeric_limits<size_t>::max() / 2);
    });
    return most + image.bytes() + weights.bytes(p);
  }
};

template <class T>
void grad_input(const ConvPlan& p, const T* dy, const T* w, T* dx) {
  const Backward<T> shared(p);
  Workspace workspace(shared.bytes(p));
  if (shared.image.used) {
    const Correlation& all = shared.image.all;
    const Box whole{{0, 0, 0}, {all.axis[0].outputs, all.axis[1].outputs, all.axis[2].outputs}};
    T* const copy = workspace.take<T>(static_cast<size_t>(shared.image.elements));
    dy = look(all, Boxes(all, p.group_out, whole.count(), shared.image.elements, true, 0), whole,
              dy, p.group_out, 0, copy)
             .data;
  }
  const T* packed = shared.weights.used ? shared.weights.pack(p, w, workspace) : nullptr;
  std::byte* const mark = workspace.mark();
  for_each_backward(p, [&](const Correlation& c) {
    workspace.rewind(mark);
    run(Task<T>{p, shared.image.within(c), true, dy, w, nullptr, dx, packed}, workspace);
    if (packed != nullptr) packed += shared.weights.elements(p, static_cast<size_t>(c.taps()));
  });
}

template <class T>
size_t workspace(const ConvPlan& p, ConvPass pass) {
  if (pass == ConvPass::kGradInput) return Backward<T>(p).bytes(p);
  const Task<T> t{p, forward_of(p), false, nullptr, nullptr, nullptr, nullptr};
  return near_enough(t.c, t.from()) ? bytes_of(t) : std::numeric_limits<size_t>::max();
}

constexpr detail::DirectTables kTables{{workspace<float>, forward<float>, grad_input<float>},
                                       {workspace<double>, forward<double>, grad_input<double>}};

}  // namespace

const detail::DirectTables* direct_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(direct_tables);

constinit const Dispatch<detail::DirectTables> detail::conv_direct{
    [] { return HWY_DYNAMIC_DISPATCH(direct_tables)(); }};

}  // namespace ebb::kernels
#endif
