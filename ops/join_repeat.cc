// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/join.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// One tensor joined with copies of itself, or with a border.
namespace ebb {
namespace ops {

namespace {

// `count` elements from `start` on along an axis.
Layout run_of(const Layout& whole, int axis, int64_t start, int64_t count) {
  Layout l = whole;
  l.shape[axis] = count;
  if (count != 0) l.offset += start * l.strides[axis];
  return l;
}

// Backwards along an axis that is not empty.
Layout reversed(const Layout& run, int axis) {
  Layout l = run;
  l.offset += (l.shape[axis] - 1) * l.strides[axis];
  l.strides[axis] = -l.strides[axis];
  return l;
}

// The first element of an axis, `count` times.
Layout repeated(const Layout& run, int axis, int64_t count) {
  Layout l = run;
  l.shape[axis] = count;
  l.strides[axis] = 0;
  return l;
}

Layout layout_of(const Array& a) { return Layout(a.shape(), a.strides()); }

// x as [outer, size of the axis, inner].
Shape three_axes(const Shape& shape, int axis) {
  Shape out{1, shape[axis], 1};
  for (int i = 0; i < axis; ++i) out[0] *= shape[i];
  for (int i = axis + 1; i < shape.rank(); ++i) out[2] *= shape[i];
  return out;
}

}  // namespace

struct Tile {
  static constexpr OpDoc kDoc{"tile", "y = x repeated reps[i] times along axis i",
                              "x:[d0,...,dr] -> y:[reps[0] d0,...,reps[r] dr]"};
  struct Attrs {
    Shape reps;  // one for each axis of y
  };
  static std::string describe(const Attrs& a) { return a.reps.str(); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  // x with axes of size 1 in front, as many as y has.
  static Shape aligned(const Attrs& a, const Shape& x) {
    Shape out;
    for (int i = x.rank(); i < a.reps.rank(); ++i) out.push_back(1);
    for (int64_t d : x) out.push_back(d);
    return out;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    if (a.reps.rank() < in[0].shape.rank()) {
      throw ShapeError(absl::StrCat("tile: x is ", in[0].shape.str(), ", there are ", a.reps.rank(),
                                    " numbers of times"));
    }
    Shape shape = aligned(a, in[0].shape);
    for (int i = 0; i < shape.rank(); ++i) {
      if (a.reps[i] < 0) {
        throw ValueError(absl::StrCat("tile: x is ", in[0].shape.str(), ", to be repeated ",
                                      a.reps.str(), " times; none may be negative"));
      }
      if (__builtin_mul_overflow(shape[i], a.reps[i], &shape[i])) {
        throw MemoryError(absl::StrCat("tile: x ", in[0].shape.str(), " repeated ", a.reps.str(),
                                       " times has too many elements"));
      }
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& y = out[0];
    if (y.numel() == 0) return;
    Layout done = layout_of(y);  // what is filled already
    done.shape = aligned(a, in[0].shape());
    copy_into(view_of(y, done), reshaped(in[0], done.shape));
    for (int i = y.rank() - 1; i >= 0; --i) {
      while (done.shape[i] < y.size(i)) {
        const int64_t have = done.shape[i];
        const int64_t more = std::min(have, y.size(i) - have);
        copy_into(view_of(y, run_of(done, i, have, more)), view_of(y, run_of(done, i, 0, more)));
        done.shape[i] += more;
      }
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape& reps = s.attrs<Attrs>().reps;
    Shape shape = g[0].shape();
    Tensor sum = g[0];
    for (int i = 0; i < reps.rank(); ++i) {
      if (reps[i] == 1) continue;
      if (reps[i] == 0) return {Tensor(zeros_view(s.in_dtype(0), s.in_shape(0)))};
      const Shape parts = three_axes(shape, i);
      const int64_t size = parts[1] / reps[i];
      sum = ebb::sum(reshape(sum, {parts[0], reps[i], size, parts[2]}), 1);
      shape[i] = size;
      sum = reshape(sum, shape);
    }
    return {reshape(sum, s.in_shape(0))};
  }
};
EBB_OP(Tile)

struct RepeatInterleave {
  static constexpr OpDoc kDoc{"repeat_interleave", "y = every slice of x repeated in place",
                              "x:[..,n,..] slices:[m] -> y:[..,m,..]"};
  struct Attrs {
    int axis;
    int64_t repeats;  // of every slice, where there is no second input
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " repeats=", a.repeats);
  }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    if (in.size() != 1) require_inputs(kDoc, in, 2);
    Shape shape = in[0].shape;
    if (in.size() == 2) {
      require_indices(kDoc, in[1]);
      shape[a.axis] = in[1].shape.numel();
    } else if (a.repeats < 0) {
      throw ValueError(absl::StrCat("repeat_interleave: x is ", shape.str(), ", repeats is ",
                                    a.repeats, "; it must not be negative"));
    } else if (__builtin_mul_overflow(shape[a.axis], a.repeats, &shape[a.axis])) {
      throw MemoryError(absl::StrCat("repeat_interleave: x ", in[0].shape.str(), " repeated ",
                                     a.repeats, " times has too many elements"));
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (in.size() == 2) {
      read_picks(picks_along(a.axis, in[1], out[0], in[0]), in[0], out[0]);
      return;
    }
    // Neighbouring slices of y are copies of one: write all first ones, then all second ones, ...
    Layout to = layout_of(out[0]);
    to.shape[a.axis] = in[0].size(a.axis);
    const int64_t step = to.strides[a.axis];
    to.strides[a.axis] *= a.repeats;
    for (int64_t i = 0; i < a.repeats; ++i) {
      copy_into(view_of(out[0], to), in[0]);
      to.offset += step;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = s.in_shape(0);
    if (s.n_inputs() == 2) {
      return {index_add(Tensor(zeros_view(s.in_dtype(0), shape)), a.axis, s.in(1), g[0])};
    }
    const Shape parts = three_axes(shape, a.axis);
    return {reshape(sum(reshape(g[0], {parts[0], parts[1], a.repeats, parts[2]}), 2), shape)};
  }
};
EBB_OP(RepeatInterleave)

struct Roll {
  static constexpr OpDoc kDoc{"roll", "y[..,(i + shift) mod n,..] = x[..,i,..]",
                              "x:[...] -> y:[...]"};
  struct Attrs {
    Shape shifts;  // one for each axis, in [0, size)
  };
  static std::string describe(const Attrs& a) { return a.shifts.str(); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (out[0].numel() == 0) return;
    move(a, 0, layout_of(in[0]), in[0], layout_of(out[0]), out[0]);
  }
  // Copies `from` to `to`, of the same shape, where the axes before `axis` are dealt with: each
  // shifted axis falls into two runs that change places.
  static void move(const Attrs& a, int axis, const Layout& from, const Array& x, const Layout& to,
                   const Array& y) {
    while (axis < from.shape.rank() && a.shifts[axis] == 0) ++axis;
    if (axis == from.shape.rank()) {
      copy_into(view_of(y, to), view_of(x, from));
      return;
    }
    const int64_t shift = a.shifts[axis];
    const int64_t rest = from.shape[axis] - shift;
    move(a, axis + 1, run_of(from, axis, 0, rest), x, run_of(to, axis, shift, rest), y);
    move(a, axis + 1, run_of(from, axis, rest, shift), x, run_of(to, axis, 0, shift), y);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Attrs back = s.attrs<Attrs>();
    for (int i = 0; i < back.shifts.rank(); ++i) {
      if (back.shifts[i] != 0) back.shifts[i] = g[0].shape()[i] - back.shifts[i];
    }
    return {apply_with<Roll>(back, g[0])};
  }
};
EBB_OP(Roll)

namespace {

const char* name_of_mode(PadMode mode) {
  constexpr const char* kNames[] = {"constant", "reflect", "replicate", "circular"};
  return kNames[static_cast<int>(mode)];
}

}  // namespace

struct Pad {
  static constexpr OpDoc kDoc{"pad", "y = x with a border, of a constant or of elements of x",
                              "x:[d0,...] -> y:[before0 + d0 + after0,...]"};
  struct Attrs {
    Shape before;  // one for each axis, none negative
    Shape after;
    PadMode mode;
    double value;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(a.before.str(), a.after.str(), " ", name_of_mode(a.mode));
  }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape = in[0].shape;
    if (a.before.rank() != shape.rank() || a.after.rank() != shape.rank()) {
      throw ShapeError(absl::StrCat("pad: x is ", shape.str(), ", there are borders for ",
                                    a.before.rank(), " axes"));
    }
    for (int i = 0; i < shape.rank(); ++i) {
      const int64_t n = shape[i];
      const int64_t most = std::max(a.before[i], a.after[i]);
      if ((a.mode == PadMode::kReflect && most > 0 && most >= n) ||
          (a.mode == PadMode::kReplicate && most > 0 && n == 0) ||
          (a.mode == PadMode::kCircular && most > n)) {
        throw ShapeError(absl::StrCat("pad: x is ", in[0].shape.str(), "; axis ", i, " of size ", n,
                                      " has not enough elements for ", a.before[i], " before and ",
                                      a.after[i], " after it in mode ", name_of_mode(a.mode)));
      }
      if (__builtin_add_overflow(a.before[i], a.after[i], &shape[i]) ||
          __builtin_add_overflow(shape[i], n, &shape[i])) {
        throw MemoryError(absl::StrCat("pad: x is ", in[0].shape.str(), "; ", a.before[i], " and ",
                                       a.after[i], " more are too many elements"));
      }
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    const Array& y = out[0];
    if (y.numel() == 0) return;
    if (a.mode == PadMode::kConstant) fill(y, a.value);
    // Axis by axis; `whole` covers the axes done so far with their borders, the others without.
    Layout whole = inner(a, layout_of(y), x.shape());
    copy_into(view_of(y, whole), x);
    if (a.mode == PadMode::kConstant) return;
    for (int i = 0; i < x.rank(); ++i) {
      const int64_t n = x.size(i);
      const int64_t before = a.before[i];
      const int64_t after = a.after[i];
      const auto copy_run = [&](int64_t at, int64_t count, const Layout& from) {
        if (count == 0) return;
        // `whole` starts at the first element of x, from which `at` counts.
        copy_into(view_of(y, run_of(whole, i, at, count)), view_of(y, from));
      };
      if (a.mode == PadMode::kReplicate) {
        copy_run(-before, before, repeated(whole, i, before));
        copy_run(n, after, repeated(run_of(whole, i, n - 1, 1), i, after));
      } else if (a.mode == PadMode::kCircular) {
        copy_run(-before, before, run_of(whole, i, n - before, before));
        copy_run(n, after, run_of(whole, i, 0, after));
      } else {
        copy_run(-before, before, reversed(run_of(whole, i, 1, before), i));
        copy_run(n, after, reversed(run_of(whole, i, n - 1 - after, after), i));
      }
      whole = run_of(whole, i, -before, before + n + after);
    }
  }
  static void fill(const Array& y, double value) {
    constexpr int64_t kRepeat[kMaxRank] = {};
    copy_into(y, Array::scalar(y.dtype(), value).view(y.shape(), kRepeat, 0));
  }
  // x in the middle of y.
  static Layout inner(const Attrs& a, Layout y, const Shape& x) {
    for (int i = 0; i < x.rank(); ++i) y = run_of(y, i, a.before[i], x[i]);
    return y;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = s.in_shape(0);
    Tensor y = g[0];
    // What the forward pass did, backwards: each border is added to where it was copied from.
    for (int i = shape.rank() - 1; i >= 0; --i) {
      const int64_t n = shape[i];
      const int64_t before = a.before[i];
      const int64_t after = a.after[i];
      if (before == 0 && after == 0) continue;
      Tensor x = narrow(y, i, before, n);
      if (a.mode != PadMode::kConstant) {
        // `border`, from `at` on in an axis that is 0 elsewhere.
        const auto add_at = [&](int64_t at, const Tensor& border) {
          x = x + slice_scatter(Tensor(zeros_view(x.dtype(), x.shape())), border, i, at,
                                at + border.size(i));
        };
        const Tensor front = narrow(y, i, 0, before);
        const Tensor back = narrow(y, i, before + n, after);
        if (a.mode == PadMode::kReplicate) {
          if (before != 0) add_at(0, sum(front, i, true));
          if (after != 0) add_at(n - 1, sum(back, i, true));
        } else if (a.mode == PadMode::kCircular) {
          if (before != 0) add_at(n - before, front);
          if (after != 0) add_at(0, back);
        } else {
          if (before != 0) add_at(1, flip(front, i));
          if (after != 0) add_at(n - 1 - after, flip(back, i));
        }
      }
      y = x;
    }
    return {y};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Shape shape = s.in_shape(0);
    if (a.mode == PadMode::kConstant) {
      sink.add(0, view_of(g[0], inner(a, layout_of(g[0]), shape)));
      return;
    }
    // As the rule, in one buffer.
    Array gy = contiguous(g.take(0));
    if (!gy.is_unique()) gy = copy(gy);
    Layout whole = layout_of(gy);
    for (int i = shape.rank() - 1; i >= 0; --i) {
      const int64_t n = shape[i];
      const int64_t before = a.before[i];
      const int64_t after = a.after[i];
      const auto add_run = [&](int64_t at, int64_t count, const Layout& to) {
        if (count != 0) add_strided(view_of(gy, to), view_of(gy, run_of(whole, i, at, count)));
      };
      const auto add_each = [&](int64_t at, int64_t count, int64_t to) {
        for (int64_t k = 0; k < count; ++k) add_run(at + k, 1, run_of(whole, i, to, 1));
      };
      whole = run_of(whole, i, before, n);
      if (a.mode == PadMode::kReplicate) {
        add_each(-before, before, 0);
        add_each(n, after, n - 1);
      } else if (a.mode == PadMode::kCircular) {
        add_run(-before, before, run_of(whole, i, n - before, before));
        add_run(n, after, run_of(whole, i, 0, after));
      } else if (n > 0) {
        add_run(-before, before, reversed(run_of(whole, i, 1, before), i));
        add_run(n, after, reversed(run_of(whole, i, n - 1 - after, after), i));
      }
    }
    sink.add(0, view_of(gy, whole));
  }
};
EBB_OP(Pad)

}  // namespace ops

Tensor tile(const Tensor& x, const Shape& reps, Where where) {
  Shape all;
  for (int i = reps.rank(); i < x.dim(); ++i) all.push_back(1);
  for (int64_t r : reps) all.push_back(r);
  return apply_with<ops::Tile>({all}, At(x, where));
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> axis,
                         Where where) {
  const Tensor from = axis && x.dim() != 0 ? x : flatten(x, 0, -1, where);
  const int at =
      normalize_axis(axis.value_or(0), x.dim() == 0 ? 0 : from.dim(), "repeat_interleave");
  return apply_with<ops::RepeatInterleave>({at, repeats}, At(from, where));
}

Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, std::optional<int64_t> axis,
                         Where where) {
  const Tensor from = axis && x.dim() != 0 ? x : flatten(x, 0, -1, where);
  const int at =
      normalize_axis(axis.value_or(0), x.dim() == 0 ? 0 : from.dim(), "repeat_interleave");
  if (repeats.dtype() != kInt64 && repeats.dtype() != kInt32) {
    throw DTypeError(absl::StrCat("repeat_interleave: repeats are ", repeats.value().meta().str(),
                                  "; they must be int64 or int32"));
  }
  const int64_t n = from.value().size(at);
  if (repeats.dim() != 1 || (repeats.numel() != n && repeats.numel() != 1)) {
    throw ShapeError(absl::StrCat("repeat_interleave: x is ", from.shape().str(), ", repeats are ",
                                  repeats.shape().str(), "; they must be [", n, "] or [1]"));
  }
  const Array counts = contiguous(cast(repeats.value(), kInt64));
  const int64_t* count = counts.data<int64_t>();
  int64_t total = 0;
  for (int64_t i = 0; i < counts.numel(); ++i) {
    if (count[i] < 0) {
      throw ValueError(absl::StrCat("repeat_interleave: x is ", from.shape().str(),
                                    ", repeats has ", count[i], "; none may be negative"));
    }
    if (__builtin_add_overflow(total, count[i], &total)) {
      throw MemoryError("repeat_interleave: repeats are too many elements");
    }
  }
  if (repeats.numel() == 1) {
    return apply_with<ops::RepeatInterleave>({at, count[0]}, At(from, where));
  }
  const Array ids = Array::empty(kInt64, {total});
  int64_t* to = ids.mutable_data<int64_t>();
  for (int64_t i = 0; i < n; ++i) to = std::fill_n(to, count[i], i);
  return apply_with<ops::RepeatInterleave>({at, 0}, At(from, where), Tensor(ids));
}

Tensor roll(const Tensor& x, Axes shifts, Axes axes, Where where) {
  if (axes.empty() && x.dim() != 1) {
    const Tensor flat = roll(flatten(x, 0, -1, where), shifts, 0, where);
    return reshape(flat, x.shape(), where);
  }
  const int n = axes.empty() ? 1 : axes.size();
  if (shifts.size() != n) {
    throw ValueError(absl::StrCat("roll: ", shifts.size(), " shifts for ", n, " axes"));
  }
  Shape all = x.shape();
  for (int i = 0; i < all.rank(); ++i) all[i] = 0;
  for (int i = 0; i < n; ++i) {
    const int axis = normalize_axis(axes.empty() ? 0 : axes[i], x.dim(), "roll");
    const int64_t size = x.dim() == 0 ? 0 : x.value().size(axis);
    if (size != 0) all[axis] = ((all[axis] + shifts[i] % size) % size + size) % size;
  }
  return apply_with<ops::Roll>({all}, At(x, where));
}

Tensor pad(const Tensor& x, Span<const int64_t> pads, PadMode mode, double value, Where where) {
  const int rank = x.dim();
  if (pads.size() % 2 != 0 || pads.size() > 2 * static_cast<size_t>(rank)) {
    throw ShapeError(absl::StrCat("pad: x is ", x.shape().str(), ", pads are ", pads.size(),
                                  " numbers; there must be two for each of the last axes"));
  }
  Shape zero = x.shape();
  for (int i = 0; i < rank; ++i) zero[i] = 0;
  ops::Pad::Attrs attrs{zero, zero, mode, value};
  Tensor y = x;
  for (size_t k = 0; k < pads.size(); k += 2) {
    const int axis = rank - 1 - static_cast<int>(k / 2);
    const int64_t n = x.value().size(axis);
    const int64_t first = std::max<int64_t>(-std::max(pads[k], -n - 1), 0);  // elements taken away
    const int64_t last = std::max<int64_t>(-std::max(pads[k + 1], -n - 1), 0);
    if (first + last > n) {
      throw ShapeError(absl::StrCat("pad: x is ", x.shape().str(), "; pads ", pads[k], " and ",
                                    pads[k + 1], " take away more of axis ", axis,
                                    " than there is"));
    }
    if (first + last > 0) y = narrow(y, axis, first, n - first - last, where);
    attrs.before[axis] = std::max<int64_t>(pads[k], 0);
    attrs.after[axis] = std::max<int64_t>(pads[k + 1], 0);
  }
  return apply_with<ops::Pad>(attrs, At(y, where));
}

}  // namespace ebb
