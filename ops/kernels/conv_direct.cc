// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ebb/ops/kernels/conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/conv_direct.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/conv_direct-inl.h"
#include "ebb/ops/kernels/conv_spread-inl.h"
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

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

// ---- choice ----

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
