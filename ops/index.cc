// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

Array zeros_with(const Array& like, int axis, int64_t size) {
  Shape shape = like.shape();
  shape[axis] = size;
  return Array::zeros(like.dtype(), shape);
}

}  // namespace

struct SliceAttrs {
  int axis;
  int64_t start;  // of the first element; stays within the axis
  int64_t count;
  int64_t step;
  int64_t size;  // of the axis before
};

struct Slice : ViewOp<Slice, SliceAttrs> {
  static constexpr OpDoc kDoc{"slice", "y[..,i,..] = x[..,start + i step,..]",
                              "x:[..,n,..] -> y:[..,m,..]"};
  static constexpr bool kKeepsStructure = true;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " start=", a.start, " count=", a.count, " step=", a.step);
  }
  static Layout layout(const Attrs& a, const Shape& shape, const int64_t* strides) {
    Layout l(shape, strides);
    l.shape[a.axis] = a.count;
    l.offset = a.count == 0 ? 0 : a.start * strides[a.axis];
    l.strides[a.axis] *= a.step;
    return l;
  }
  static Grads backward(const Saved& s, const OutGrads& g);
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink);
};
EBB_OP(Slice)

struct SliceScatter {
  static constexpr OpDoc kDoc{"slice_scatter",
                              "y = x but for y[..,start + i step,..] = src[..,i,..]",
                              "x:[..,n,..] src:[..,m,..] -> y:[..,n,..]"};
  using Attrs = SliceAttrs;
  static std::string describe(const Attrs& a) { return Slice::describe(a); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_same_dtype(kDoc, in);
    Shape want = in[0].shape;
    want[a.axis] = a.count;
    if (in[1].shape != want) {
      throw ShapeError(absl::StrCat("slice_scatter: x is ", in[0].shape.str(), ", src is ",
                                    in[1].shape.str(), "; the slice is ", want.str()));
    }
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
    copy_into(Slice::view(a, out[0]), in[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Grads grads(2);
    if (s.needs(0)) {
      Shape shape = g[0].shape();
      shape[a.axis] = a.count;
      grads[0] = apply_with<SliceScatter>(a, g[0], Tensor(zeros_view(g[0].dtype(), shape)));
    }
    if (s.needs(1)) grads[1] = apply_with<Slice>(a, g[0]);
    return grads;
  }
};
EBB_OP(SliceScatter)

namespace {

// `part`, of which axis `axis` is the run that `a` describes, in the middle of zeros.
Array widened(const Array& part, const SliceAttrs& a, int axis) {
  SliceAttrs at = a;
  at.axis = axis;
  Array whole = zeros_with(part, axis, a.size);
  copy_into(Slice::view(at, whole), part);
  return whole;
}

// Indices into the run as indices into the whole axis; all of the run where `ids` is undefined.
Array widened_ids(const Array& ids, const SliceAttrs& a) {
  const int64_t n = ids.defined() ? ids.numel() : a.count;
  const Array from = ids.defined() ? contiguous(ids) : ids;
  Array out = Array::empty(kInt64, {n});
  int64_t* to = out.mutable_data<int64_t>();
  for (int64_t i = 0; i < n; ++i) {
    to[i] = a.start + a.step * (ids.defined() ? from.data<int64_t>()[i] : i);
  }
  return out;
}

// The gradient of what the slice was taken of, from the gradient of the slice. A sample that is
// read step by step, or a table read by the row, must not cost its size each time: a short run out
// of many elements stays sparse.
Gradient of_whole(const SliceAttrs& a, const Gradient& g) {
  Meta meta = g.meta();
  const bool is_matrix = meta.shape.rank() == 2;
  meta.shape[a.axis] = a.size;
  if (g.is_dense()) {
    const Array& dense = g.dense_part();
    const bool sparse = sparse_pays(a.count, a.size, meta.shape);
    if (sparse && a.axis == 0) return Gradient(meta, RowSparse{widened_ids({}, a), dense});
    if (sparse && is_matrix) return Gradient(meta, ColSparse{widened_ids({}, a), dense});
    return widened(dense, a, a.axis);
  }
  Gradient out;
  if (g.dense_part().defined()) out.add(widened(g.dense_part(), a, a.axis));
  for (const RowSparse& p : g.row_parts()) {
    out.add(Gradient(meta, a.axis == 0 ? RowSparse{widened_ids(p.ids, a), p.rows}
                                       : RowSparse{p.ids, widened(p.rows, a, a.axis)}));
  }
  for (const ColSparse& p : g.col_parts()) {
    out.add(Gradient(meta, a.axis == 0 ? ColSparse{p.ids, widened(p.cols, a, 0)}
                                       : ColSparse{widened_ids(p.ids, a), p.cols}));
  }
  for (const Outer& p : g.outer_parts()) {
    out.add(Gradient(meta, a.axis == 0 ? Outer{widened(p.u, a, p.u.rank() - 1), p.v}
                                       : Outer{p.u, widened(p.v, a, p.v.rank() - 1)}));
  }
  return out;
}

// A tensor of zeros like g, but for axis `axis` of another size.
Tensor zeros_around(const Tensor& g, int axis, int64_t size) {
  Shape shape = g.shape();
  shape[axis] = size;
  return Tensor(zeros_view(g.dtype(), shape));
}

}  // namespace

Grads Slice::backward(const Saved& s, const OutGrads& g) {
  const Attrs& a = s.attrs<Attrs>();
  return {apply_with<SliceScatter>(a, zeros_around(g[0], a.axis, a.size), g[0])};
}

void Slice::backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
  sink.add(0, of_whole(s.attrs<Attrs>(), g.structured(0)));
}

struct SelectAttrs {
  int axis;
  int64_t index;
  int64_t size;  // of the axis
};

struct Select : ViewOp<Select, SelectAttrs> {
  static constexpr OpDoc kDoc{"select", "y[..,..] = x[..,index,..]", "x:[..,n,..] -> y:[..,..]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " index=", a.index);
  }
  static Layout layout(const Attrs& a, const Shape& shape, const int64_t* strides) {
    Layout l;
    for (int i = 0; i < shape.rank(); ++i) {
      if (i != a.axis) l.push_back(shape[i], strides[i]);
    }
    l.offset = a.index * strides[a.axis];
    return l;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const SliceAttrs a = as_slice(s.attrs<Attrs>());
    const Tensor run = unsqueeze(g[0], a.axis);
    return {apply_with<SliceScatter>(a, zeros_around(run, a.axis, a.size), run)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const SliceAttrs a = as_slice(s.attrs<Attrs>());
    const Array& gy = g[0];
    Layout l;
    for (int i = 0; i <= gy.rank(); ++i) {
      if (i == a.axis) l.push_back(1, 0);
      if (i < gy.rank()) l.push_back(gy.size(i), gy.stride(i));
    }
    sink.add(0, of_whole(a, view_of(gy, l)));
  }
  static SliceAttrs as_slice(const Attrs& a) { return {a.axis, a.index, 1, 1, a.size}; }
};
EBB_OP(Select)

struct AxisAttrs {
  int axis;
};

struct IndexSelect {
  static constexpr OpDoc kDoc{"index_select", "y[..,i,..] = x[..,indices[i],..]",
                              "x:[..,n,..] indices:[k] -> y:[..,k,..]"};
  using Attrs = AxisAttrs;
  static bool reads_rows(const Attrs& a) { return a.axis == 0; }
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_indices(kDoc, in[1]);
    if (in[1].shape.rank() != 1) {
      throw ShapeError(absl::StrCat("index_select: x is ", in[0].shape.str(), ", indices are ",
                                    in[1].shape.str(), "; they must be [k]"));
    }
    Shape shape = in[0].shape;
    shape[a.axis] = in[1].shape[0];
    return {{in[0].dtype, shape}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    read_picks(picks_along(a.axis, in[1], out[0], in[0]), in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    return {index_add(Tensor(zeros_view(g[0].dtype(), s.in_shape(0))), axis, s.in(1), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    const Meta meta{s.in_dtype(0), s.in_shape(0)};
    const Array& ids = s.in_array(1);
    if (axis == 0) {
      sink.add(0, Gradient(meta, RowSparse{lasting_ids(ids), g[0]}));
    } else if (meta.shape.rank() == 2) {
      sink.add(0, Gradient(meta, ColSparse{lasting_ids(ids), g[0]}));
    } else {
      Array gx = Array::zeros(meta.dtype, meta.shape);
      add_picks(picks_along(axis, ids, g[0], gx), 1, g[0], gx);
      sink.add(0, std::move(gx));
    }
  }
};
EBB_OP(IndexSelect)

struct IndexAdd {
  static constexpr OpDoc kDoc{"index_add", "y = x; y[..,indices[i],..] += alpha src[..,i,..]",
                              "x:[..,n,..] indices:[k] src:[..,k,..] -> y:[..,n,..]"};
  struct Attrs {
    int axis;
    double alpha;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " alpha=", a.alpha);
  }
  static constexpr GradUses uses(int input) { return {.in = input == 2 ? 0b010u : 0u}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_indices(kDoc, in[1]);
    if (in[0].dtype != in[2].dtype || in[0].dtype == kFloat16 || in[0].dtype == kBFloat16) {
      throw DTypeError(absl::StrCat("index_add: x is ", in[0].str(), ", src is ", in[2].str(),
                                    "; they must be of the same type, with arithmetic"));
    }
    Shape want = in[0].shape;
    if (in[1].shape.rank() == 1) want[a.axis] = in[1].shape[0];
    if (in[1].shape.rank() != 1 || in[2].shape != want) {
      throw ShapeError(absl::StrCat("index_add: x is ", in[0].shape.str(), ", indices are ",
                                    in[1].shape.str(), ", src is ", in[2].shape.str(),
                                    "; indices must be [k], and src like x with size k along axis ",
                                    a.axis));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    Cost c = cost_of_moving(in[0], in.subspan(1));
    c.multiply_adds = static_cast<double>(in[2].shape.numel());
    return c;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
    add_picks(picks_along(a.axis, in[1], in[2], out[0]), a.alpha, in[2], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Grads grads(3);
    if (s.needs(0)) grads[0] = g[0];
    if (s.needs(2)) {
      const Tensor rows = apply_with<IndexSelect>({a.axis}, g[0], s.in(1));
      grads[2] = a.alpha == 1 ? rows : affine(rows, a.alpha, 0);
    }
    return grads;
  }
};
EBB_OP(IndexAdd)

namespace {

// The run of an axis that Python's x[start:stop:step] names.
SliceAttrs resolve_slice(const char* op, const Tensor& x, int64_t axis, int64_t start, int64_t stop,
                         int64_t step) {
  if (x.dim() == 0) throw IndexError(absl::StrCat(op, ": x is a scalar"));
  const int at = normalize_axis(axis, x.dim(), op);
  if (step == 0) throw ValueError(absl::StrCat(op, ": the step is 0"));
  const int64_t n = x.value().size(at);
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? n : n - 1;
  const auto cut = [&](int64_t i) { return std::clamp(i < 0 && i >= -n ? i + n : i, low, high); };
  const int64_t first = cut(start);
  const int64_t last = step < 0 && stop == INT64_MAX ? low : cut(stop);
  const int64_t span = step > 0 ? last - first : first - last;
  // Unsigned, for the step may be the lowest number there is.
  const uint64_t pace = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const int64_t count =
      span <= 0 ? 0 : static_cast<int64_t>((static_cast<uint64_t>(span) - 1) / pace) + 1;
  return {at, count > 0 ? first : 0, count, count > 1 ? step : 1, n};
}

}  // namespace
}  // namespace ops

Tensor slice(const Tensor& x, int64_t axis, int64_t start, int64_t stop, int64_t step,
             Where where) {
  return apply_with<ops::Slice>(ops::resolve_slice("slice", x, axis, start, stop, step),
                                At(x, where));
}

Tensor slice_scatter(const Tensor& x, const Tensor& src, int64_t axis, int64_t start, int64_t stop,
                     int64_t step, Where where) {
  return apply_with<ops::SliceScatter>(
      ops::resolve_slice("slice_scatter", x, axis, start, stop, step), At(x, where), src);
}

Tensor narrow(const Tensor& x, int64_t axis, int64_t start, int64_t length, Where where) {
  if (x.dim() == 0) throw IndexError("narrow: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "narrow");
  const int64_t n = x.value().size(at);
  const int64_t first = start < 0 ? start + n : start;
  if (first < 0 || first > n || length < 0 || length > n - first) {
    throw IndexError(absl::StrCat("narrow: ", length, " elements from ", start,
                                  " on are not within axis ", at, " of x ", x.shape().str()));
  }
  return apply_with<ops::Slice>({at, length == 0 ? 0 : first, length, 1, n}, At(x, where));
}

Tensor select(const Tensor& x, int64_t axis, int64_t index, Where where) {
  if (x.dim() == 0) throw IndexError("select: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "select");
  const int64_t n = x.value().size(at);
  if (index < -n || index >= n) {
    throw IndexError(absl::StrCat("select: index ", index, " is outside [", -n, ", ", n,
                                  ") of axis ", at, " of x ", x.shape().str()));
  }
  return apply_with<ops::Select>({at, index < 0 ? index + n : index, n}, At(x, where));
}

Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices, Where where) {
  if (x.dim() == 0) throw IndexError("index_select: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "index_select");
  const Tensor ids = ops::checked_indices(indices, x, at, "index_select");
  return apply_with<ops::IndexSelect>({at}, At(x, where), ids);
}

Tensor index_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
                 double alpha, Where where) {
  if (x.dim() == 0) throw IndexError("index_add: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "index_add");
  const Tensor ids = ops::checked_indices(indices, x, at, "index_add");
  return apply_with<ops::IndexAdd>({at, alpha}, At(x, where), ids, src);
}

Tensor Tensor::slice(int64_t axis, int64_t start, int64_t stop, int64_t step, Where where) const {
  return ebb::slice(*this, axis, start, stop, step, where);
}
Tensor Tensor::narrow(int64_t axis, int64_t start, int64_t length, Where where) const {
  return ebb::narrow(*this, axis, start, length, where);
}
Tensor Tensor::select(int64_t axis, int64_t index, Where where) const {
  return ebb::select(*this, axis, index, where);
}
Tensor Tensor::operator[](Index i) const { return ebb::select(*this, 0, i.value, i.where); }

}  // namespace ebb
