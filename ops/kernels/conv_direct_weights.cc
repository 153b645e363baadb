// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_direct_weights.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/blas_sums-inl.h"
#include "ebb/ops/kernels/conv_direct-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// ---- vectors of channels ----

// For a vector of output channels and more: dy is turned, so that all channels of an output are
// neighbours, and each weight of a strip of them is a sum over outputs.
template <class T>
struct Sizes {
  size_t out, terms, width;
  Boxes boxes;
  size_t seen;

  Sizes(const ConvPlan& p, const Correlation& c)
      : out(static_cast<size_t>(p.group_out)),
        terms(static_cast<size_t>(p.group_in * p.taps)),
        width(strip_width<T>(out)),
        boxes(c, p.group_in, kBoxOutputs, kBoxBytes / static_cast<int64_t>(sizeof(T)), false, 0),
        seen(static_cast<size_t>(boxes.elements * p.group_in)) {}
  size_t outputs() const {
    return static_cast<size_t>(boxes.size[0] * boxes.size[1] * boxes.size[2]);
  }
  // Sums of all strips, as the boxes are gone through once.
  size_t sums() const { return terms * strips_total<T>(out); }
  size_t bytes() const {
    return Workspace::rounded(seen * sizeof(T)) + Workspace::rounded(sums() * sizeof(T)) +
           Workspace::rounded(outputs() * width * sizeof(T)) +
           Workspace::rounded(outputs() * sizeof(int32_t)) +
           Workspace::rounded(terms * sizeof(int32_t));
  }
};

// Rows of a box of dy, turned.
template <class T>
HWY_INLINE void turn(const ConvPlan& p, const Box& box, const T* dy, size_t channels, size_t width,
                     T* to) {
  int64_t length = box.size[2];
  int64_t rows = box.size[1];
  int64_t planes = box.size[0];
  if (length == p.out[2]) {
    length *= rows;
    rows = 1;
    if (box.size[1] == p.out[1]) {
      length *= planes;
      planes = 1;
    }
  }
  for (int64_t i = 0; i < planes; ++i) {
    for (int64_t j = 0; j < rows; ++j, to += static_cast<size_t>(length) * width) {
      const T* from =
          dy + ((box.start[0] + i) * p.out[1] + box.start[1] + j) * p.out[2] + box.start[2];
      pack_transposed(from, p.out_area, static_cast<size_t>(length), channels, width, to);
    }
  }
}

template <class T>
HWY_NOINLINE void by_channels(const ConvPlan& p, const T* x, const T* dy, bool add, T* dw) {
  const Correlation c = forward_of(p);
  const Sizes<T> s(p, c);
  Workspace workspace(s.bytes());
  T* const seen = workspace.take<T>(s.seen);
  T* const sums = workspace.take<T>(s.sums());
  T* const turned = workspace.take<T>(s.outputs() * s.width);
  auto* const offsets = workspace.take<int32_t>(s.outputs());
  auto* const rows = workspace.take<int32_t>(s.terms);
  bool first = true;
  s.boxes.for_each(c, [&](const Box& box) HWY_ATTR {
    const Source<T> source = look(c, s.boxes, box, x, p.group_in, 0, seen);
    output_offsets(c, box, source, offsets);
    tap_offsets(c, source, p.group_in, rows);
    T* to = sums;
    for (size_t k = 0; k < s.out;) {
      const size_t width = strip_width<T>(s.out - k);
      const auto ld = static_cast<ptrdiff_t>(width);
      turn(p, box, dy + static_cast<int64_t>(k) * p.out_area, std::min(width, s.out - k), width,
           turned);
      const Gather<T> g{static_cast<size_t>(box.count()), offsets, ld, nullptr, !first};
      gather_rows(g, width, s.terms, source.data, rows, turned, to);
      to += s.terms * width;
      k += width;
    }
    first = false;
  });
  const T* from = sums;
  for (size_t k = 0; k < s.out;) {
    const size_t width = strip_width<T>(s.out - k);
    store_transposed(hn::ScalableTag<T>(), from, width, s.terms, std::min(width, s.out - k),
                     add ? T{1} : T{0}, dw + k * s.terms, static_cast<ptrdiff_t>(s.terms));
    from += s.terms * width;
    k += width;
  }
}

// ---- vectors of outputs ----

// For few channels: each weight is a dot product over the outputs, several of them at a time so
// that what is loaded meets more than one. For a source that is read without a stride.
constexpr size_t kTaps = 4;  // whose sums end in one vector
#if HWY_TARGET == HWY_AVX3
constexpr size_t kMostChannels = 6;
#else
constexpr size_t kMostChannels = 3;
#endif
constexpr size_t kN = kLanes<hn::ScalableTag<float>>;

struct Dots {
  int64_t rows;             // of outputs
  size_t vectors;           // of a row
  ptrdiff_t x_row, dy_row;  // between rows
  ptrdiff_t channel;        // of dy
};
using DotsFn = void (*)(const Dots& g, const float* x, const int32_t* taps, const float* dy,
                        bool add, float* sums, size_t ld);

template <size_t kChannels>
HWY_NOINLINE void dots(const Dots& g, const float* x, const int32_t* taps, const float* dy,
                       bool add, float* sums, size_t ld) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  V sum[kChannels][kTaps];
  const float* from[kTaps];
  HWY_UNROLL(4)
  for (size_t t = 0; t < kTaps; ++t) {
    from[t] = x + taps[t];
    HWY_UNROLL(8)
    for (size_t k = 0; k < kChannels; ++k) sum[k][t] = hn::Zero(d);
  }
  for (int64_t i = 0; i < g.rows; ++i, dy += g.dy_row) {
    for (size_t j = 0; j < g.vectors; ++j) {
      V gradient[kChannels];
      HWY_UNROLL(8)
      for (size_t k = 0; k < kChannels; ++k) {
        gradient[k] = hn::LoadU(d, dy + static_cast<ptrdiff_t>(k) * g.channel + j * kN);
      }
      HWY_UNROLL(4)
      for (size_t t = 0; t < kTaps; ++t) {
        const V value = hn::LoadU(d, from[t] + j * kN);
        HWY_UNROLL(8)
        for (size_t k = 0; k < kChannels; ++k) {
          sum[k][t] = hn::MulAdd(gradient[k], value, sum[k][t]);
        }
      }
    }
    HWY_UNROLL(4)
    for (size_t t = 0; t < kTaps; ++t) from[t] += g.x_row;
  }
  HWY_UNROLL(8)
  for (size_t k = 0; k < kChannels; ++k, sums += ld) {
    store_four_sums(d, sum[k][0], sum[k][1], sum[k][2], sum[k][3], 1.0f, add ? 1.0f : 0.0f, sums);
  }
}

template <size_t... kChannel>
constexpr auto all_dots(std::index_sequence<kChannel...>) {
  return std::array<DotsFn, sizeof...(kChannel)>{dots<kChannel + 1>...};
}
inline constexpr auto kDots = all_dots(std::make_index_sequence<kMostChannels>());

// Rows are filled up with zeros to whole vectors, on both sides: what a zero meets must be a
// number.
struct DotsSizes {
  Boxes boxes;
  int64_t slack;
  size_t terms, sums, seen, gradients;

  DotsSizes(const ConvPlan& p, const Correlation& c)
      : boxes(c, p.group_in + p.group_out, kBoxOutputs * 8,
              kBoxBytes / static_cast<int64_t>(sizeof(float)), true, kN),
        slack(kN),
        terms(static_cast<size_t>(p.group_in * p.taps)),
        sums((terms + kTaps - 1) / kTaps * kTaps),
        seen(static_cast<size_t>(boxes.elements * p.group_in)),
        gradients(static_cast<size_t>(boxes.size[0] * boxes.size[1] * (boxes.size[2] + slack) *
                                      p.group_out)) {}
  size_t bytes(const ConvPlan& p) const {
    return Workspace::rounded(seen * sizeof(float)) +
           Workspace::rounded(gradients * sizeof(float)) +
           Workspace::rounded(sums * static_cast<size_t>(p.group_out) * sizeof(float)) +
           Workspace::rounded(sums * sizeof(int32_t));
  }
};

HWY_NOINLINE void by_outputs(const ConvPlan& p, const float* x, const float* dy, bool add,
                             float* dw) {
  const Correlation c = forward_of(p);
  const DotsSizes s(p, c);
  Workspace workspace(s.bytes(p));
  auto* const seen = workspace.take<float>(s.seen);
  auto* const gradients = workspace.take<float>(s.gradients);
  const auto out = static_cast<size_t>(p.group_out);
  auto* const sums = workspace.take<float>(s.sums * out);
  auto* const taps = workspace.take<int32_t>(s.sums);
  std::fill_n(sums, s.sums * out, 0.0f);
  const hn::ScalableTag<float> d;
  s.boxes.for_each(c, [&](const Box& box) HWY_ATTR {
    const Source<float> source = look(c, s.boxes, box, x, p.group_in, s.slack, seen);
    tap_offsets(c, source, p.group_in, taps);
    for (size_t i = s.terms; i < s.sums; ++i) taps[i] = taps[0];
    const auto width = static_cast<size_t>(box.size[2]);
    const size_t vectors = (width + kN - 1) / kN;
    const size_t wide = vectors * kN;
    float* to = gradients;
    for (int64_t k = 0; k < p.group_out; ++k) {
      for (int64_t i = 0; i < box.size[0]; ++i) {
        for (int64_t j = 0; j < box.size[1]; ++j, to += wide) {
          const float* from = dy + k * p.out_area +
                              ((box.start[0] + i) * p.out[1] + box.start[1] + j) * p.out[2] +
                              box.start[2];
          map<1>(d, width, to, [=](auto t, size_t q) HWY_ATTR { return hn::LoadU(t, from + q); });
          std::fill(to + width, to + wide, 0.0f);
        }
      }
    }
    const auto rows = static_cast<ptrdiff_t>(wide);
    const Dots g{box.size[1], vectors, source.row * c.axis[1].stride, rows,
                 rows * box.size[0] * box.size[1]};
    for (int64_t i = 0; i < box.size[0]; ++i) {
      Heights channels = Heights::cut<kMostChannels>(out);
      for (size_t k = 0; k < out;) {
        const size_t count = channels.next();
        const float* gradient =
            gradients + static_cast<ptrdiff_t>(k) * g.channel + i * box.size[1] * rows;
        for (size_t t = 0; t < s.sums; t += kTaps) {
          kDots[count - 1](g, source.data + i * c.axis[0].stride * source.plane, taps + t, gradient,
                           true, sums + k * s.sums + t, s.sums);
        }
        k += count;
      }
    }
  });
  for (size_t k = 0; k < out; ++k, dw += s.terms) {
    const float* from = sums + k * s.sums;
    for (size_t i = 0; i < s.terms; ++i) dw[i] = add ? dw[i] + from[i] : from[i];
  }
}

// Whether vectors of outputs are fuller than vectors of channels.
bool outputs_fill_better(const ConvPlan& p) {
  if (p.stride[2] != 1) return false;
  const auto whole = [](int64_t n) {
    return (n + static_cast<int64_t>(kN) - 1) / static_cast<int64_t>(kN) * static_cast<int64_t>(kN);
  };
  return whole(p.out[2]) * p.group_out < p.out[2] * whole(p.group_out);
}

template <class T>
void grad_weight(const ConvPlan& p, const T* x, const T* dy, bool add, T* dw) {
  if constexpr (sizeof(T) == 4) {
    if (outputs_fill_better(p)) return by_outputs(p, x, dy, add, dw);
  }
  by_channels(p, x, dy, add, dw);
}

template <class T>
size_t workspace(const ConvPlan& p) {
  const Correlation c = forward_of(p);
  if (!near_enough(c, p.group_in)) return std::numeric_limits<size_t>::max();
  if constexpr (sizeof(T) == 4) {
    if (outputs_fill_better(p)) return DotsSizes(p, c).bytes(p);
  }
  return Sizes<T>(p, c).bytes();
}

constexpr detail::DirectWeightsTables kTables{{workspace<float>, grad_weight<float>},
                                              {workspace<double>, grad_weight<double>}};

}  // namespace

const detail::DirectWeightsTables* direct_weights_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(direct_weights_tables);

constinit const Dispatch<detail::DirectWeightsTables> detail::conv_direct_weights{
    [] { return HWY_DYNAMIC_DISPATCH(direct_weights_tables)(); }};

}  // namespace ebb::kernels
#endif
