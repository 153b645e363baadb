// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_fft_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_fft.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/fft-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

using detail::ConvFftPart;
using detail::ConvFftPlan;
using detail::ConvPlan;
using detail::Workspace;
using Lanes = ConvFftPlan::Lanes;

#if HWY_TARGET == HWY_SCALAR
constexpr int64_t kN = 1;

void forward(const ConvPlan&, const ConvFftPlan&, ConvFftPart, const float*, const float*,
             const float*, float*) {}
void grad_input(const ConvPlan&, const ConvFftPlan&, ConvFftPart, const float*, const float*,
                float*) {}
void grad_weight(const ConvPlan&, const ConvFftPlan&, ConvFftPart, const float*, const float*, bool,
                 float*) {}
#else

constexpr int64_t kN = kFftN;

// What a lane transforms: the part of a tile that exists; all else of it is zero.
struct Plane {
  const float* base;  // null: nothing exists
  int64_t origin;     // of the tile's first element, which may lie outside, from base on
  int64_t stride;
  int64_t rows[2], cols[2];  // first, and behind the last
};

// Where a lane of a result goes.
struct Target {
  float* to;  // null: nowhere
  int64_t stride;
  int64_t rows, cols;
  float bias;
};

struct Tile {
  int64_t row, col;
};

class Transform {
 public:
  Transform(const ConvFftPlan& plan, Workspace& workspace)
      : rows_(plan.rows),
        half_(plan.half),
        along_(detail::fft_plan(plan.half)),
        down_(detail::fft_plan(std::max<int64_t>(plan.rows, 4))),
        room_(fft_row(workspace.take<float>(static_cast<size_t>(room(plan))))),
        pitch_(2 * plan.half + kN),
        staged_(workspace.take<float>(static_cast<size_t>((kN + 1) * pitch_))) {}

  static int64_t room(const ConvFftPlan& plan) { return 2 * std::max(plan.rows, plan.half) * kN; }

  // The spectrum of kN planes; `to` has a place for each frequency.
  void forward(const Plane* planes, FftRow to) {
    const float* lanes[kN];
    std::fill_n(staged_, (kN + 1) * pitch_, 0.0f);
    int64_t first = rows_;
    int64_t last = 0;
    for (int64_t i = 0; i < kN; ++i) {
      if (planes[i].base == nullptr) continue;
      first = std::min(first, planes[i].rows[0]);
      last = std::max(last, planes[i].rows[1]);
    }
    last = std::max(first, last);
    for (int64_t row = first; row < last; ++row) {
      for (int64_t i = 0; i < kN; ++i) lanes[i] = row_of(planes[i], row, staged_ + i * pitch_);
      for (int64_t col = 0; col < 2 * half_; col += 4) {
        FftV v[4];
        for (int i = 0; i < 4; ++i) v[i] = four_columns(FftD(), lanes + i, col);
        transpose_four(v);
        for (int i = 0; i < 4; ++i) hn::StoreU(v[i], FftD(), room_.first + (col + i) * kN);
      }
      fft_forward(along_, room_, room_, room_);
      fft_split(along_, room_, {to.first + row * to.step, rows_ * to.step, to.imaginary});
    }
    for (int64_t k = 0; k <= half_ && rows_ > 1; ++k) {
      const FftRow column{to.first + k * rows_ * to.step, to.step, to.imaginary};
      if (first == 0 && last == rows_) {
        fft_forward(down_, column, room_, column);
        continue;
      }
      const FftComplex zero{hn::Zero(FftD()), hn::Zero(FftD())};
      for (int64_t row = 0; row < first; ++row) room_.store(row, zero);
      for (int64_t row = first; row < last; ++row) room_.store(row, column.load(row));
      for (int64_t row = last; row < rows_; ++row) room_.store(row, zero);
      fft_forward(down_, room_, room_, column);
    }
    if (rows_ == 1 && first == last) {
      const FftComplex zero{hn::Zero(FftD()), hn::Zero(FftD())};
      for (int64_t k = 0; k <= half_; ++k) to.store(k, zero);
    }
  }

  // From a spectrum, which is overwritten, to what it is of, from element (row, col) on, round the
  // tile's end.
  void backward(FftRow from, Tile at, bool add, const Target* targets) {
    for (int64_t k = 0; k <= half_ && rows_ > 1; ++k) {
      const FftRow column{from.first + k * rows_ * from.step, from.step, from.imaginary};
      fft_backward(down_, column, room_, column);
    }
    HWY_ALIGN float bias[kN];
    float* lanes[kN];
    int64_t rows = 0;
    for (int64_t i = 0; i < kN; ++i) {
      bias[i] = targets[i].bias;
      if (targets[i].to != nullptr) rows = std::max(rows, targets[i].rows);
    }
    const FftV b = hn::Load(FftD(), bias);
    const FftV scale = hn::Set(FftD(), 1.0f / static_cast<float>(8 * rows_ * half_));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t source = (at.row + row) % rows_;
      fft_join(along_, {from.first + source * from.step, rows_ * from.step, from.imaginary}, room_);
      fft_backward(along_, room_, room_, room_);
      int64_t cols = 0;
      int64_t whole = 2 * half_;  // columns that all lanes have
      for (int64_t i = 0; i < kN; ++i) {
        const Target& t = targets[i];
        const bool exists = t.to != nullptr && row < t.rows;
        lanes[i] = exists ? t.to + row * t.stride : nullptr;
        cols = std::max(cols, exists ? t.cols : 0);
        whole = std::min(whole, exists && !add ? t.cols : 0);
      }
      for (int64_t col = 0; col < cols; col += 4) {
        FftV v[4];
        for (int i = 0; i < 4; ++i) {
          int64_t source_col = at.col + col + i;
          if (source_col >= 2 * half_) source_col -= 2 * half_;
          v[i] = hn::MulAdd(hn::LoadU(FftD(), room_.first + source_col * kN), scale, b);
        }
        transpose_four(v);
        if (col + 4 <= whole) {
          for (int i = 0; i < 4; ++i) store_four_columns(FftD(), v[i], lanes + i, col);
          continue;
        }
        HWY_ALIGN float numbers[4][kN];
        for (int i = 0; i < 4; ++i) hn::Store(v[i], FftD(), numbers[i]);
        for (int64_t i = 0; i < kN; ++i) {
          if (lanes[i] == nullptr) continue;
          const int64_t count = std::min<int64_t>(4, targets[i].cols - col);
          const float* const four = numbers[i % 4] + i / 4 * 4;
          for (int64_t j = 0; j < count; ++j) {
            lanes[i][col + j] = add ? lanes[i][col + j] + four[j] : four[j];
          }
        }
      }
    }
  }

 private:
  // A row of a tile, where it lies or in `staged`, which is zero beside the plane's columns.
  const float* row_of(const Plane& plane, int64_t row, float* staged) const {
    if (plane.base == nullptr || row < plane.rows[0] || row >= plane.rows[1]) {
      return staged_ + kN * pitch_;
    }
    const float* const from = plane.base + (plane.origin + row * plane.stride + plane.cols[0]);
    if (plane.cols[0] == 0 && plane.cols[1] == 2 * half_) return from;
    const int64_t count = plane.cols[1] - plane.cols[0];
    float* const to = staged + plane.cols[0];
    int64_t i = 0;
    for (; i + kN <= count; i += kN) hn::StoreU(hn::LoadU(FftD(), from + i), FftD(), to + i);
    if (i < count) {
      const FftV rest = load_n(FftD(), from + i, static_cast<size_t>(count - i));
      hn::StoreU(rest, FftD(), to + i);
    }
    return staged;
  }

  int64_t rows_, half_;
  const detail::FftPlan& along_;
  const detail::FftPlan& down_;
  FftRow room_;
  int64_t pitch_;
  float* staged_;  // a row for each lane, and one of zeros
};

// Which factor is conjugate.
enum class Conjugate { kNone, kSingle, kLanes };

// For every frequency, result[m] (+)= sum over k of single[m,k] lanes[k]: kRows at a time.
// kBroadcast: a number of `single` meets all lanes, else each its own.
struct Product {
  const float* single;  // of the first m
  ptrdiff_t row;        // from one m to the next
  ptrdiff_t number;     // from one k to the next
  ptrdiff_t imaginary;
  const float* lanes;
  ptrdiff_t vector;  // from one k to the next
  float* result;
  ptrdiff_t out;  // from one m to the next
  int64_t k;
  bool add;
};

template <Conjugate kWhich, bool kBroadcast, int kRows>
HWY_INLINE void product_rows(const Product& p) {
  const FftD d;
  FftV re[kRows], im[kRows];
  HWY_UNROLL(8)
  for (int m = 0; m < kRows; ++m) {
    re[m] = p.add ? hn::LoadU(d, p.result + m * p.out) : hn::Zero(d);
    im[m] = p.add ? hn::LoadU(d, p.result + m * p.out + kN) : hn::Zero(d);
  }
  const float* single = p.single;
  const float* lanes = p.lanes;
  for (int64_t k = 0; k < p.k; ++k, single += p.number, lanes += p.vector) {
    const FftV br = hn::LoadU(d, lanes);
    const FftV bi = hn::LoadU(d, lanes + kN);
    HWY_UNROLL(8)
    for (int m = 0; m < kRows; ++m) {
      const float* const a = single + m * p.row;
      const FftV ar = kBroadcast ? hn::Set(d, a[0]) : hn::LoadU(d, a);
      const FftV ai = kBroadcast ? hn::Set(d, a[p.imaginary]) : hn::LoadU(d, a + p.imaginary);
      re[m] = hn::MulAdd(ar, br, re[m]);
      re[m] = kWhich == Conjugate::kNone ? hn::NegMulAdd(ai, bi, re[m]) : hn::MulAdd(ai, bi, re[m]);
      im[m] =
          kWhich == Conjugate::kLanes ? hn::NegMulAdd(ar, bi, im[m]) : hn::MulAdd(ar, bi, im[m]);
      im[m] =
          kWhich == Conjugate::kSingle ? hn::NegMulAdd(ai, br, im[m]) : hn::MulAdd(ai, br, im[m]);
    }
  }
  HWY_UNROLL(8)
  for (int m = 0; m < kRows; ++m) {
    hn::StoreU(re[m], d, p.result + m * p.out);
    hn::StoreU(im[m], d, p.result + m * p.out + kN);
  }
}

template <Conjugate kWhich, bool kBroadcast>
HWY_INLINE void product(Product p, int64_t rows) {
  constexpr int kMost = kN == 16 ? 8 : 4;
  for (; rows >= kMost; rows -= kMost) {
    product_rows<kWhich, kBroadcast, kMost>(p);
    p.single += kMost * p.row;
    p.result += kMost * p.out;
  }
  const auto rest = [&](auto count) HWY_ATTR {
    constexpr int kRows = decltype(count)::value;
    if ((rows & kRows) == 0) return;
    product_rows<kWhich, kBroadcast, kRows>(p);
    p.single += kRows * p.row;
    p.result += kRows * p.out;
  };
  if constexpr (kMost == 8) rest(std::integral_constant<int, 4>());
  rest(std::integral_constant<int, 2>());
  rest(std::integral_constant<int, 1>());
}

template <Conjugate kWhich>
HWY_NOINLINE void products(const ConvFftPlan& plan, Product p, ptrdiff_t single_step,
                           ptrdiff_t lanes_step, ptrdiff_t result_step, int64_t rows,
                           int64_t vectors) {
  const bool broadcast = plan.lanes != Lanes::kChannels;
  const int64_t n = plan.frequencies();
  for (int64_t f = 0; f < n; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      Product q = p;
      q.lanes += j * 2 * kN;
      q.result += j * 2 * kN;
      if (broadcast) {
        product<kWhich, true>(q, rows);
      } else {
        product<kWhich, false>(q, rows);
      }
    }
    p.single += single_step;
    p.lanes += lanes_step;
    p.result += result_step;
  }
}

// Spectra of one of the three kinds.
struct Spectra {
  Spectra(int64_t vectors, const ConvFftPlan& plan, Workspace& workspace)
      : step(detail::conv_fft_step(vectors) * kN),
        first(workspace.take<float>(static_cast<size_t>(plan.frequencies() * step))) {}
  ptrdiff_t step;  // between frequencies
  float* first;
};

// A pass over one image and a group, or kN channels that are groups by themselves.
//   image(c, t), other(k, u), target(u, v)
class Pass {
 public:
  Pass(const ConvFftPlan& plan, Conjugate which, Tile at)
      : plan_(plan),
        sizes_(detail::conv_fft_sizes(plan, kN)),
        workspace_(plan.bytes),
        transform_(plan, workspace_),
        single_(sizes_.single, plan, workspace_),
        lanes_(sizes_.lanes, plan, workspace_),
        result_(sizes_.result, plan, workspace_),
        which_(which),
        at_(at) {}

  // kv(k, v), ku(k, u) and uv(u, v), each with the channel's number behind if lanes are channels.
  template <class KV, class KU, class UV>
  void run(ConvFftPart part, const KV& kv, const KU& ku, const UV& uv, bool add) {
    kv_held_ = ku_held_ = Held();
    // Of what lanes run over, threads take whole vectors; best of what they do not.
    const bool split_v = plan_.lanes == Lanes::kV ? plan_.u < part.count : plan_.v >= part.count;
    const auto range = [&](int64_t n, bool split, bool lanes) {
      const int64_t unit = lanes ? kN : 1;
      const int64_t units = (n + unit - 1) / unit;
      const int64_t first = split ? units * part.index / part.count * unit : 0;
      const int64_t last = split ? units * (part.index + 1) / part.count * unit : n;
      return Range{first, std::min(last, n)};
    };
    const Range us = range(plan_.u, !split_v, plan_.lanes == Lanes::kU);
    const Range vs = range(plan_.v, split_v, plan_.lanes == Lanes::kV);
    for (int64_t u = us.first; u < us.last; u += plan_.u_part) {
      const int64_t u_count = std::min(plan_.u_part, us.last - u);
      for (int64_t v = vs.first; v < vs.last; v += plan_.v_part) {
        const int64_t v_count = std::min(plan_.v_part, vs.last - v);
        for (int64_t k = 0; k < plan_.k; k += plan_.k_part) {
          const int64_t k_count = std::min(plan_.k_part, plan_.k - k);
          step(k, k_count, u, u_count, v, v_count, kv, ku);
        }
        store(u, u_count, v, v_count, uv, add);
      }
    }
  }

 private:
  struct Range {
    int64_t first, last;
  };

  // Ranges of tiles and channels that spectra are there of.
  struct Held {
    int64_t k = -1, other = -1;
    bool is(int64_t a, int64_t b) {
      if (k == a && other == b) return true;
      k = a;
      other = b;
      return false;
    }
  };

  template <class KV, class KU>
  void step(int64_t k, int64_t ks, int64_t u, int64_t us, int64_t v, int64_t vs, const KV& kv,
            const KU& ku) {
    const bool u_lanes = plan_.lanes != Lanes::kV;
    const auto kv_at = [&](int64_t i, int64_t j, int64_t c) { return kv(k + i, v + j, c); };
    const auto ku_at = [&](int64_t i, int64_t j, int64_t c) { return ku(k + i, u + j, c); };
    if (!kv_held_.is(k, v)) u_lanes ? take_single(vs, ks, kv_at) : take_lanes(ks, vs, kv_at);
    if (!ku_held_.is(k, u)) u_lanes ? take_lanes(ks, us, ku_at) : take_single(us, ks, ku_at);
    const bool channels = plan_.lanes == Lanes::kChannels;
    const int64_t rows = u_lanes ? vs : us;
    const int64_t vectors = channels ? 1 : (u_lanes ? us : vs) + kN - 1;
    const int64_t across = channels ? 1 : vectors / kN;
    Product p{};
    p.single = single_.first;
    p.number = channels ? 2 * kN : 1;
    p.row = ks * p.number;
    p.imaginary = channels ? kN : single_imaginary();
    p.lanes = lanes_.first;
    p.vector = across * 2 * kN;
    p.result = result_.first;
    p.out = across * 2 * kN;
    p.k = ks;
    p.add = k > 0;
    const auto go = [&](auto f) {
      f(plan_, p, single_.step, lanes_.step, result_.step, rows, across);
    };
    if (which_ == Conjugate::kNone) {
      go(products<Conjugate::kNone>);
    } else if (which_ == Conjugate::kSingle) {
      go(products<Conjugate::kSingle>);
    } else {
      go(products<Conjugate::kLanes>);
    }
  }

  ptrdiff_t single_imaginary() const { return sizes_.single * kN; }

  // plane(k, m, channel) for m and k, k first in memory.
  template <class F>
  void take_single(int64_t ms, int64_t ks, const F& plane) {
    Plane planes[kN];
    if (plan_.lanes == Lanes::kChannels) return take_channels(single_, ms, ks, plane);
    for (int64_t first = 0; first < ms * ks; first += kN) {
      for (int64_t i = 0; i < kN; ++i) {
        const int64_t at = first + i;
        planes[i] = at < ms * ks ? plane(at % ks, at / ks, 0) : Plane{};
      }
      transform_.forward(planes, {single_.first + first, single_.step, single_imaginary()});
    }
  }
  template <class F>
  void take_lanes(int64_t ks, int64_t ns, const F& plane) {
    Plane planes[kN];
    if (plan_.lanes == Lanes::kChannels) return take_channels(lanes_, ns, ks, plane);
    float* to = lanes_.first;
    for (int64_t k = 0; k < ks; ++k) {
      for (int64_t first = 0; first < ns; first += kN, to += 2 * kN) {
        for (int64_t i = 0; i < kN; ++i) {
          planes[i] = first + i < ns ? plane(k, first + i, 0) : Plane{};
        }
        transform_.forward(planes, {to, lanes_.step, kN});
      }
    }
  }
  template <class F>
  void take_channels(const Spectra& s, int64_t ms, int64_t ks, const F& plane) {
    Plane planes[kN];
    float* to = s.first;
    for (int64_t m = 0; m < ms; ++m) {
      for (int64_t k = 0; k < ks; ++k, to += 2 * kN) {
        for (int64_t i = 0; i < kN; ++i) planes[i] = plane(k, m, i);
        transform_.forward(planes, {to, s.step, kN});
      }
    }
  }

  template <class F>
  void store(int64_t u, int64_t us, int64_t v, int64_t vs, const F& target, bool add) {
    Target targets[kN];
    float* from = result_.first;
    const auto put = [&] {
      transform_.backward({from, result_.step, kN}, at_, add, targets);
      from += 2 * kN;
    };
    if (plan_.lanes == Lanes::kChannels) {
      for (int64_t j = 0; j < vs; ++j) {
        for (int64_t i = 0; i < kN; ++i) targets[i] = target(u, v + j, i);
        put();
      }
      return;
    }
    const bool u_lanes = plan_.lanes == Lanes::kU;
    const int64_t rows = u_lanes ? vs : us;
    const int64_t lanes = u_lanes ? us : vs;
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t first = 0; first < lanes; first += kN) {
        for (int64_t i = 0; i < kN; ++i) {
          const int64_t j = first + i;
          if (j >= lanes) {
            targets[i] = Target{};
          } else {
            targets[i] = u_lanes ? target(u + j, v + m, 0) : target(u + m, v + j, 0);
          }
        }
        put();
      }
    }
  }

  const ConvFftPlan& plan_;
  detail::ConvFftSizes sizes_;
  Workspace workspace_;
  Transform transform_;
  Spectra single_, lanes_, result_;
  Conjugate which_;
  Tile at_;
  Held kv_held_, ku_held_;
};

// An image of which tiles are transformed with `pad` elements in front of them.
struct Image {
  const float* x;
  int64_t rows, cols;  // of a channel
  int64_t pad_row, pad_col;
  int64_t tile_rows, tile_cols;  // what is taken of a tile
};

Plane tile_of(const ConvFftPlan& plan, const Image& image, int64_t channel, int64_t tile) {
  const int64_t row = tile / plan.tiles_across * plan.out_rows - image.pad_row;
  const int64_t col = tile % plan.tiles_across * plan.out_cols - image.pad_col;
  Plane plane{
      image.x + channel * image.rows * image.cols, row * image.cols + col, image.cols, {}, {}};
  plane.rows[0] = std::max<int64_t>(0, -row);
  plane.rows[1] = std::max(plane.rows[0], std::min(image.tile_rows, image.rows - row));
  plane.cols[0] = std::max<int64_t>(0, -col);
  plane.cols[1] = std::min(image.tile_cols, image.cols - col);
  if (plane.cols[1] <= plane.cols[0] || plane.rows[0] >= image.tile_rows) return Plane{};
  return plane;
}

Target target_of(const ConvFftPlan& plan, float* y, int64_t rows, int64_t cols, int64_t channel,
                 int64_t tile, float bias) {
  const int64_t row = tile / plan.tiles_across * plan.out_rows;
  const int64_t col = tile % plan.tiles_across * plan.out_cols;
  return {y + channel * rows * cols + row * cols + col, cols, std::min(plan.out_rows, rows - row),
          std::min(plan.out_cols, cols - col), bias};
}

// The factor with u: weights, or the gradient of y.
Conjugate conjugate(const ConvFftPlan& plan) {
  return plan.lanes == Lanes::kV ? Conjugate::kSingle : Conjugate::kLanes;
}

// f(first channel of x, of y, weight, channels, part) for every group, or for every kN of those of
// one channel: for those of a part, or, where there are fewer than parts, for a part of each.
template <class F>
void for_each_batch(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const F& f) {
  const int64_t step = plan.lanes == Lanes::kChannels ? kN : 1;
  const int64_t batches = (p.groups + step - 1) / step;
  const bool whole = batches >= part.count;
  const int64_t first = whole ? batches * part.index / part.count : 0;
  const int64_t last = whole ? batches * (part.index + 1) / part.count : batches;
  for (int64_t g = first * step; g < std::min(last * step, p.groups); g += step) {
    f(g * p.group_in, g * p.group_out, g * p.group_out * p.group_in * p.taps,
      std::min(step, p.groups - g), whole ? ConvFftPart{0, 1} : part);
  }
}

// The forward pass, and the input gradient, for which the image is dy.
void correlate(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, bool back,
               const float* x, const float* w, const float* bias, float* y) {
  const int64_t from = back ? p.group_out : p.group_in;
  const int64_t to = back ? p.group_in : p.group_out;
  const int64_t* const in = back ? p.out : p.in;
  const int64_t* const out = back ? p.in : p.out;
  const int64_t pad[] = {back ? p.kernel[1] - 1 - p.pad[1] : p.pad[1],
                         back ? p.kernel[2] - 1 - p.pad[2] : p.pad[2]};
  // The gradient is a convolution, whose first result is where the kernel's last row has met x's
  // first.
  const Tile at{back ? p.kernel[1] - 1 : 0, back ? p.kernel[2] - 1 : 0};
  Pass pass(plan, back ? Conjugate::kNone : conjugate(plan), at);
  for_each_batch(
      p, plan, part,
      [&](int64_t xc, int64_t yc, int64_t weight, int64_t channels, ConvFftPart share) {
        if (back) std::swap(xc, yc);
        const Image image{x + xc * in[1] * in[2], in[1], in[2], pad[0], pad[1], plan.rows,
                          2 * plan.half};
        const auto kv = [&](int64_t k, int64_t v, int64_t c) {
          return c < channels ? tile_of(plan, image, k + c, v) : Plane{};
        };
        const auto ku = [&](int64_t k, int64_t u, int64_t c) {
          if (c >= channels) return Plane{};
          const int64_t at_weight = (back ? k * to + u : u * from + k) + c;
          return Plane{
              w + weight + at_weight * p.taps, 0, p.kernel[2], {0, p.kernel[1]}, {0, p.kernel[2]}};
        };
        const auto uv = [&](int64_t u, int64_t v, int64_t c) {
          if (c >= channels) return Target{};
          return target_of(plan, y, out[1], out[2], yc + u + c, v,
                           bias == nullptr ? 0.0f : bias[yc + u + c]);
        };
        pass.run(share, kv, ku, uv, false);
      });
}

void forward(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* x,
             const float* w, const float* bias, float* y) {
  correlate(p, plan, part, false, x, w, bias, y);
}

void grad_input(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* dy,
                const float* w, float* dx) {
  correlate(p, plan, part, true, dy, w, nullptr, dx);
}

void grad_weight(const ConvPlan& p, const ConvFftPlan& plan, ConvFftPart part, const float* x,
                 const float* dy, bool add, float* dw) {
  Pass pass(plan, conjugate(plan), {0, 0});
  for_each_batch(p, plan, part,
                 [&](int64_t xc, int64_t yc, int64_t weight, int64_t channels, ConvFftPart share) {
                   const Image from{x + xc * p.in_area, p.in[1],   p.in[2],      p.pad[1],
                                    p.pad[2],           plan.rows, 2 * plan.half};
                   const Image to{dy + yc * p.out_area, p.out[1],     p.out[2], 0, 0,
                                  plan.out_rows,        plan.out_cols};
                   const auto kv = [&](int64_t k, int64_t v, int64_t c) {
                     return c < channels ? tile_of(plan, from, v + c, k) : Plane{};
                   };
                   const auto ku = [&](int64_t k, int64_t u, int64_t c) {
                     return c < channels ? tile_of(plan, to, u + c, k) : Plane{};
                   };
                   const auto uv = [&](int64_t u, int64_t v, int64_t c) {
                     if (c >= channels) return Target{};
                     float* const to_weight = dw + weight + (u * p.group_in + v + c) * p.taps;
                     return Target{to_weight, p.kernel[2], p.kernel[1], p.kernel[2], 0.0f};
                   };
                   pass.run(share, kv, ku, uv, add);
                 });
}

#endif

ConvFftPlan plan_of(const ConvPlan& p, ConvPass pass, size_t bound);

constexpr detail::ConvFftTable kTable{kN, plan_of, forward, grad_input, grad_weight};

ConvFftPlan plan_of(const ConvPlan& p, ConvPass pass, size_t bound) {
  if (kN == 1) return {};
  ConvFftPlan plan = detail::plan_conv_fft(p, pass, kN, bound);
  plan.by = &kTable;
  return plan;
}

}  // namespace

const detail::ConvFftTable* conv_fft_table() { return &kTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(conv_fft_table);

constinit const Dispatch<detail::ConvFftTable> detail::conv_fft{
    [] { return HWY_DYNAMIC_DISPATCH(conv_fft_table)(); }};

const detail::ConvFftTable* detail::shorter_conv_fft() {
#if HWY_TARGETS & HWY_AVX3 && HWY_TARGETS & HWY_AVX2
  if (conv_fft->lanes == 16) return N_AVX2::conv_fft_table();
#endif
  return nullptr;
}

}  // namespace ebb::kernels
#endif
