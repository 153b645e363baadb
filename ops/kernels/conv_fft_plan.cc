// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/conv_fft_plan.h"

#include <algorithm>
#include <optional>

#include "ebb/ops/kernels/fft_plan.h"

namespace ebb::kernels::detail {
namespace {

// For an image.
double multiply_adds(const ConvPlan& p) {
  return static_cast<double>(p.groups * p.group_out * p.group_in * p.taps) *
         static_cast<double>(p.out_area);
}

int64_t parts(int64_t n, int64_t of) { return (n + of - 1) / of; }

double passes(int64_t length) {
  double n = 0;
  while (length > 1) {
    length /= length % 3 == 0 ? 3 : length % 4 == 0 ? 4 : 2;
    ++n;
  }
  return n;
}

// Whether the axis fits a plan: one tile of n sees all there is.
bool one_tile(const ConvPlan& p, int axis, int64_t n) {
  return n >= p.pad[axis] + p.in[axis] && n >= p.out[axis] + p.kernel[axis] - 1 - p.pad[axis] &&
         n >= p.out[axis] && n >= p.kernel[axis];
}

// As above of the input gradient.
ConvPlan turned_round(const ConvPlan& p) {
  ConvPlan q = p;
  for (int axis = 0; axis < 3; ++axis) {
    std::swap(q.in[axis], q.out[axis]);
    q.pad[axis] = p.kernel[axis] - 1 - p.pad[axis];
  }
  return q;
}

size_t bytes_of(const ConvFftPlan& plan, int64_t n) {
  const ConvFftSizes sizes = conv_fft_sizes(plan, n);
  const int64_t vectors =
      plan.frequencies() *
      (conv_fft_step(sizes.single) + conv_fft_step(sizes.lanes) + conv_fft_step(sizes.result));
  const int64_t room = 2 * std::max(plan.rows, plan.half) * n;  // a row or column at work
  const int64_t staged = (n + 1) * (2 * plan.half + n);         // rows with zeros around them
  return static_cast<size_t>(vectors * n + room + staged) * sizeof(float) + 8 * Workspace::kLine;
}

}  // namespace

ConvFftSizes conv_fft_sizes(const ConvFftPlan& plan, int64_t n) {
  switch (plan.lanes) {
    case ConvFftPlan::Lanes::kU:
      return {parts(plan.v_part * plan.k_part, n), plan.k_part * parts(plan.u_part, n),
              plan.v_part * parts(plan.u_part, n)};
    case ConvFftPlan::Lanes::kV:
      return {parts(plan.u_part * plan.k_part, n), plan.k_part * parts(plan.v_part, n),
              plan.u_part * parts(plan.v_part, n)};
    default:
      return {plan.v_part * plan.k_part, plan.u_part * plan.k_part, plan.v_part * plan.u_part};
  }
}

namespace {

class Search {
 public:
  Search(const ConvPlan& p, ConvPass pass, int64_t n, size_t bound)
      : p_(pass == ConvPass::kGradInput ? turned_round(p) : p), pass_(pass), n_(n), bound_(bound) {}

  ConvFftPlan run() {
    best_.bytes = 0;
    const int64_t down = p_.kernel[1] == 1 && p_.pad[1] == 0 ? 1 : 0;
    for (const int64_t half : kFftLengths) {
      if (!axis_pays(2, 2 * half)) continue;
      if (down == 1) {
        try_size(1, half);
        continue;
      }
      for (const int64_t rows : kFftLengths) {
        if (axis_pays(1, rows)) try_size(rows, half);
      }
    }
    return best_;
  }

 private:
  // Not so short that a tile gives little, nor longer than what there is.
  bool axis_pays(int axis, int64_t n) const {
    if (one_tile(p_, axis, n)) {
      if (found_[axis] == 0) found_[axis] = n;
      return n == found_[axis];
    }
    return n >= p_.kernel[axis] + p_.kernel[axis] / 3 && n <= 8 * p_.kernel[axis] &&
           n < p_.out[axis] + p_.kernel[axis] - 1;
  }

  void try_size(int64_t rows, int64_t half) {
    ConvFftPlan plan{};
    plan.rows = rows;
    plan.half = half;
    const int64_t cols = 2 * half;
    plan.out_rows = rows == 1 ? 1 : one_tile(p_, 1, rows) ? p_.out[1] : rows - p_.kernel[1] + 1;
    plan.out_cols = one_tile(p_, 2, cols) ? p_.out[2] : cols - p_.kernel[2] + 1;
    plan.tiles_down = parts(p_.out[1], plan.out_rows);
    plan.tiles_across = parts(p_.out[2], plan.out_cols);
    const int64_t tiles = plan.tiles_down * plan.tiles_across;
    using Lanes = ConvFftPlan::Lanes;
    const bool weights = pass_ == ConvPass::kGradWeight;
    if (p_.group_in == 1 && p_.group_out == 1) {
      plan.lanes = Lanes::kChannels;
      plan.k = weights ? tiles : 1;
      plan.u = 1;
      plan.v = weights ? 1 : tiles;
      try_parts(plan);
    }
    const bool forward = pass_ == ConvPass::kForward;
    plan.k = weights ? tiles : forward ? p_.group_in : p_.group_out;
    plan.u = weights || forward ? p_.group_out : p_.group_in;
    plan.v = weights ? p_.group_in : tiles;
    for (const Lanes lanes : {Lanes::kU, Lanes::kV}) {
      plan.lanes = lanes;
      try_parts(plan);
    }
  }

  // Everything at a time, so that nothing is transformed twice; or as much as there is room for.
  void try_parts(ConvFftPlan plan) {
    plan.k_part = plan.k;
    plan.u_part = plan.u;
    plan.v_part = plan.v;
    if (best_.bytes != 0 && cost(plan, false) >= best_.cost) return;
    if (consider(plan) && best_.bytes <= kNear) return;
    const bool weights = pass_ == ConvPass::kGradWeight;
    const int64_t tiles = weights ? plan.k : plan.v;
    const int64_t channels = weights ? plan.v : plan.k;
    for (const int64_t u : {plan.u, 2 * n_, n_}) {
      for (const int64_t c : {channels, n_, int64_t{4}, int64_t{1}}) {
        if (u > plan.u || c > channels) continue;
        plan.u_part = u;
        (weights ? plan.v_part : plan.k_part) = c;
        // Tiles are split in any number of parts, channels in few.
        for (int64_t count = 1;; count += (count + 3) / 4) {
          const int64_t part = parts(tiles, count);
          (weights ? plan.k_part : plan.v_part) = part;
          if (consider(plan) || part == 1) break;
        }
      }
    }
  }

  // Whether it fits.
  bool consider(const ConvFftPlan& plan) {
    const size_t bytes = bytes_of(plan, n_);
    if (Workspace::taken(bytes) > bound_) return false;
    const double c = cost(plan, bytes > kNear);
    if (best_.bytes == 0 || c < best_.cost) {
      best_ = plan;
      best_.cost = c;
      best_.bytes = bytes;
    }
    return true;
  }

  double cost(const ConvFftPlan& plan, bool far) const {
    const auto d = [](int64_t x) { return static_cast<double>(x); };
    const bool by_channel = plan.lanes == ConvFftPlan::Lanes::kChannels;
    const bool weights = pass_ == ConvPass::kGradWeight;
    const int64_t u_parts = parts(plan.u, plan.u_part);
    const int64_t v_parts = parts(plan.v, plan.v_part);
    const int64_t k_parts = parts(plan.k, plan.k_part);
    // Batches of transforms: images in, the other factor, and what comes out.
    const auto batches = [&](int64_t lanes, int64_t others, bool single) {
      return single ? parts(lanes * others, n_) : parts(lanes, n_) * others;
    };
    const bool u_lanes = plan.lanes == ConvFftPlan::Lanes::kU;
    int64_t kv, ku, uv, steps;
    if (by_channel) {
      kv = plan.k * plan.v;
      ku = plan.k * plan.u;
      uv = plan.u * plan.v;
      steps = plan.k * plan.u * plan.v;
    } else {
      kv = batches(plan.v, plan.k, u_lanes);
      ku = batches(plan.u, plan.k, !u_lanes);
      uv = u_lanes ? batches(plan.u, plan.v, false) : batches(plan.v, plan.u, false);
      steps = plan.k * uv;
    }
    if (v_parts * k_parts > 1) kv *= u_parts;
    if (k_parts > 1) ku *= v_parts;
    const double row = d(2 * plan.half) * (kRow + kRowPass * passes(plan.half));
    const double columns = plan.rows == 1 ? 0
                                          : d(plan.half + 1) * d(plan.rows) *
                                                (kColumn + kColumnPass * passes(plan.rows));
    const auto transform = [&](int64_t rows) {
      return d(std::min(rows, plan.rows)) * row + columns;
    };
    const int64_t kernel = plan.rows == 1 ? 1 : p_.kernel[1];
    const double all =
        d(kv) * transform(plan.rows) + d(ku) * transform(weights ? plan.out_rows : kernel) +
        d(uv) * transform(weights ? kernel : plan.out_rows) +
        (kStep * d(steps) + kSum * d(uv * k_parts) + (far ? kFar * d(kv + ku + uv * k_parts) : 0)) *
            d(plan.frequencies());
    return kCycles[n_ == 16] * all * d(by_channel ? parts(p_.groups, n_) : p_.groups);
  }

  // Short vectors leave more of the spectra in near caches.
  static constexpr double kCycles[] = {0.7, 1.0};

  static constexpr double kRow = 7;
  static constexpr double kRowPass = 3;
  static constexpr double kColumn = 6;
  static constexpr double kColumnPass = 6;
  static constexpr double kStep = 3;
  static constexpr double kSum = 16;
  static constexpr double kFar = 12;
  static constexpr size_t kNear = size_t{1} << 20;  // of the second cache

  ConvPlan p_;
  ConvPass pass_;
  int64_t n_;
  size_t bound_;
  mutable int64_t found_[3] = {};
  ConvFftPlan best_{};
};

}  // namespace

ConvFftPlan plan_conv_fft(const ConvPlan& p, ConvPass pass, int64_t n, size_t bound) {
  const bool takes = p.in[0] == 1 && p.out[0] == 1 && p.kernel[0] == 1 && p.pad[0] == 0 &&
                     p.stride[1] == 1 && p.stride[2] == 1 && p.dilation[1] == 1 &&
                     p.dilation[2] == 1 && p.in_area > 0 && p.out_area > 0 && p.group_in > 0 &&
                     p.group_out > 0;
  return takes ? Search(p, pass, n, bound).run() : ConvFftPlan{};
}

namespace {

// What the direct form takes with vectors of n lanes, estimated in the same cycles. As measured
// with AVX-512 and AVX2: few results leave it waiting for memory.
double direct_cycles(const ConvPlan& p, ConvPass pass, int64_t n) {
  const int64_t to = pass == ConvPass::kGradInput ? p.group_in : p.group_out;
  double each;
  if (pass == ConvPass::kGradWeight) {
    each = to <= 3 ? 0.072 : 0.036;
  } else {
    each = to == 1 ? 0.08 : to == 2 ? 0.048 : 0.038;
  }
  if (n != 16) each *= 1.85 * 8 / static_cast<double>(n);
  return each * multiply_adds(p);
}

ConvFftPlan search(const ConvPlan& p, ConvPass pass, size_t bound) {
  ConvFftPlan plan = conv_fft->plan(p, pass, bound);
  if (const ConvFftTable* const table = shorter_conv_fft()) {
    const ConvFftPlan shorter = table->plan(p, pass, bound);
    if (shorter.bytes != 0 && (plan.bytes == 0 || shorter.cost < plan.cost)) plan = shorter;
  }
  return plan.cost < direct_cycles(p, pass, conv_fft->lanes) ? plan : ConvFftPlan{};
}

}  // namespace

// A network asks for the same again and again, and a search takes microseconds: each thread
// remembers some.
ConvFftPlan choose_conv_fft(const ConvPlan& p, ConvPass pass, size_t bound) {
  struct Found {
    ConvPlan p;
    ConvPass pass;
    size_t bound;
    const ConvFftTable* table;
    ConvFftPlan plan;
  };
  constexpr int kBits = 5;
  thread_local std::optional<Found> found[1 << kBits];
  const ConvFftTable* const table = &*conv_fft;
  uint64_t mixed = static_cast<uint64_t>(pass);
  for (const int64_t part : {p.in_area, p.group_in, p.group_out, p.groups, p.taps}) {
    mixed = (mixed ^ static_cast<uint64_t>(part)) * 0x9E3779B97F4A7C15;
  }
  std::optional<Found>& last = found[mixed >> (64 - kBits)];
  if (!last || last->pass != pass || last->bound != bound || last->table != table || last->p != p) {
    last = Found{p, pass, bound, table, search(p, pass, bound)};
  }
  return last->plan;
}

bool conv_fft_may_pay(const ConvPlan& p) {
  constexpr int64_t kTaps = 30;
  constexpr double kMultiplyAdds = 5e5;
  return p.taps >= kTaps && multiply_adds(p) >= kMultiplyAdds;
}

}  // namespace ebb::kernels::detail
