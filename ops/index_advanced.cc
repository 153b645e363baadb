// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// Several index tensors at once, and the brackets that mix them with slices.
namespace ebb {
namespace ops {

namespace {

using Offsets = absl::InlinedVector<int64_t, 64, detail::PoolAllocator<int64_t>>;

// Where the parts of an indexed array lie in the result.
struct IndexPlan {
  Shape picks;    // what the index tensors broadcast to
  int first = 0;  // axis of the result at which it starts
  Shape result;
};

IndexPlan make_plan(const OpDoc& doc, const Shape& x, uint32_t axes, Span<const Meta> indices) {
  IndexPlan p;
  const int n = std::popcount(axes);
  if (n == 0 || static_cast<size_t>(n) != indices.size()) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", ", n, " axes are indexed by ",
                                  indices.size(), " index tensors"));
  }
  for (const Meta& m : indices) {
    require_indices(doc, m);
    if (broadcast_shapes(p.picks, m.shape, &p.picks)) continue;
    std::string shapes;
    for (const Meta& i : indices) {
      absl::StrAppend(&shapes, shapes.empty() ? "" : ", ", i.shape.str());
    }
    throw ShapeError(
        absl::StrCat(doc.name, ": indices are ", shapes, "; they do not broadcast to one shape"));
  }
  const int lowest = std::countr_zero(axes);
  const bool neighbours = (axes >> lowest) + 1 == 1u << n;
  p.first = neighbours ? lowest : 0;
  if (x.rank() - n + p.picks.rank() > kMaxRank) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", the indices ", p.picks.str(),
                                  "; the result would have more than ", kMaxRank, " axes"));
  }
  const auto add_rest = [&](int from, int to) {
    for (int i = from; i < to; ++i) {
      if ((axes >> i & 1) == 0) p.result.push_back(x[i]);
    }
  };
  add_rest(0, p.first);
  for (int64_t d : p.picks) p.result.push_back(d);
  add_rest(p.first, x.rank());
  return p;
}

// The picks out of `picked`, the axes of which that are in `axes` are indexed by `indices`, with
// `packed` of the shape of the result. `buffer` holds the offsets.
Picks make_picks(const IndexPlan& plan, uint32_t axes, Span<const Array> indices,
                 const Array& packed, const Array& picked, Offsets* buffer) {
  Picks p(nullptr, plan.picks.numel());
  const int rank = plan.picks.rank();
  int at = 0;
  for (int i = 0; i < picked.rank(); ++i) {
    if ((axes >> i & 1) != 0) continue;
    if (at == plan.first) at += rank;
    p.add_axis(picked.size(i), packed.stride(at), picked.stride(i));
    ++at;
  }
  // Slices of the packed array follow each other at one stride only where these axes lie like one;
  // callers see to it.
  p.packed_step = rank == 0 ? 0 : packed.stride(plan.first + rank - 1);
  if (indices.size() == 1) {
    p.ids = indices[0].data<int64_t>();
    p.scale = picked.stride(std::countr_zero(axes));
    return p;
  }
  buffer->assign(static_cast<size_t>(p.count), 0);
  int axis = -1;
  for (const Array& ids : indices) {
    while ((axes >> ++axis & 1) == 0) {
    }
    int64_t strides[kMaxRank];
    int64_t order[kMaxRank];
    broadcast_strides(ids, plan.picks, strides);
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      order[i] = step;
      step *= plan.picks[i];
    }
    const int64_t* from = ids.data<int64_t>();
    int64_t* to = buffer->data();
    const int64_t stride = picked.stride(axis);
    kernels::for_each_row<2>(static_cast<size_t>(rank), plan.picks.data(), {order, strides},
                             [&](const ptrdiff_t* o, size_t n, const ptrdiff_t* s) {
                               for (size_t k = 0; k < n; ++k) {
                                 const auto e = static_cast<ptrdiff_t>(k);
                                 to[o[0] + e * s[0]] += from[o[1] + e * s[1]] * stride;
                               }
                             });
  }
  p.ids = buffer->data();
  return p;
}

absl::InlinedVector<Meta, 4> metas_of(Span<const Array> arrays) {
  absl::InlinedVector<Meta, 4> metas;
  for (const Array& a : arrays) metas.push_back(a.meta());
  return metas;
}

struct IndexAttrs {
  uint32_t axes;  // bit i where axis i has an index tensor
};
struct IndexPutAttrs {
  uint32_t axes;
  bool accumulate;
};

// An op called with a tensor or two, and index tensors behind them.
Tensor apply_indexed(const OpDef& def, const void* attrs, Span<const Tensor* const> lead,
                     Span<const Tensor> indices, Where where) {
  absl::InlinedVector<const Tensor*, 2 + kMaxRank> in(lead.begin(), lead.end());
  for (const Tensor& t : indices) in.push_back(&t);
  return detail::apply_one(def, attrs, in, where);
}

// The index tensors that a node saved, which start at input `first`.
absl::InlinedVector<Tensor, kMaxRank> saved_indices(const Saved& s, int first) {
  absl::InlinedVector<Tensor, kMaxRank> out;
  for (int i = first; i < s.n_inputs(); ++i) out.push_back(s.in(i));
  return out;
}

}  // namespace

struct IndexPut {
  static constexpr OpDoc kDoc{"index_put", "y = x; y[i0[b],i1[b],..] = or += values[b,..]",
                              "x:[...] values:[b..,..] i0:[b..] i1:[b..] .. -> y:[...]"};
  using Attrs = IndexPutAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axes=", a.axes, a.accumulate ? " accumulate" : "");
  }
  static constexpr GradUses uses(int input) {
    return {.in = kAll << 2, .shapes = input == 1 ? 0b10u : 0u};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    if (in[0].dtype != in[1].dtype ||
        (a.accumulate && (in[0].dtype == kFloat16 || in[0].dtype == kBFloat16))) {
      throw DTypeError(absl::StrCat("index_put: x is ", in[0].str(), ", values are ", in[1].str(),
                                    "; they must be of the same type, to accumulate one with "
                                    "arithmetic"));
    }
    const IndexPlan plan = make_plan(kDoc, in[0].shape, a.axes, in.subspan(2));
    Shape out;
    if (!broadcast_shapes(in[1].shape, plan.result, &out) || out != plan.result) {
      throw ShapeError(absl::StrCat("index_put: x is ", in[0].shape.str(), ", values are ",
                                    in[1].shape.str(), "; they must broadcast to ",
                                    plan.result.str()));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    Cost c = cost_of_moving(in[0], in.subspan(1));
    c.multiply_adds = static_cast<double>(in[1].shape.numel());
    return c;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto indices = in.subspan(2);
    const IndexPlan plan = make_plan(kDoc, in[0].shape(), a.axes, metas_of(indices));
    int64_t strides[kMaxRank];
    broadcast_strides(in[1], plan.result, strides);
    const Array values = contiguous(in[1].view(plan.result, strides, 0));
    Offsets offsets;
    copy_into(out[0], in[0]);
    const Picks p = make_picks(plan, a.axes, indices, values, out[0], &offsets);
    if (a.accumulate) {
      add_picks(p, 1, values, out[0]);
    } else {
      write_picks(p, values, out[0]);
    }
  }
  // 1 for every pick whose write is the last to its place, 0 for those that are overwritten, in a
  // shape that broadcasts to the result; undefined where none is.
  static Tensor last_writes(const Attrs& a, const Shape& shape, DType dtype,
                            Span<const Tensor> indices) {
    absl::InlinedVector<Array, kMaxRank> ids;
    for (const Tensor& t : indices) ids.push_back(t.value());
    const IndexPlan plan = make_plan(kDoc, shape, a.axes, metas_of(ids));
    const Array places = Array::empty(kInt64, shape);  // only what is written is read
    const Array packed(zeros_view(dtype, plan.result));
    Offsets offsets;
    const Picks p = make_picks(plan, a.axes, ids, packed, places, &offsets);
    int64_t* by = places.mutable_data<int64_t>();
    for (int64_t b = 0; b < p.count; ++b) by[p.ids[b] * p.scale] = b;
    Shape won_shape = plan.picks;
    for (int i = plan.first + plan.picks.rank(); i < plan.result.rank(); ++i)
      won_shape.push_back(1);
    const Array won = Array::empty(dtype, won_shape);
    bool all = true;
    visit_differentiable(dtype, [&](auto t) {
      using T = decltype(t);
      for (int64_t b = 0; b < p.count; ++b) {
        const bool last = by[p.ids[b] * p.scale] == b;
        won.mutable_data<T>()[b] = last ? T{1} : T{0};
        all &= last;
      }
    });
    return all ? Tensor() : Tensor(won);
  }
  static Grads backward(const Saved& s, const OutGrads& g);
};
EBB_OP(IndexPut)

struct IndexTensors {
  static constexpr OpDoc kDoc{"index", "y[b,..] = x[i0[b],i1[b],..]",
                              "x:[...] i0:[b..] i1:[b..] .. -> y:[b..,..]"};
  using Attrs = IndexAttrs;
  static bool reads_rows(const Attrs& a) { return a.axes == 1; }
  static std::string describe(const Attrs& a) { return absl::StrCat("axes=", a.axes); }
  static constexpr GradUses uses(int) { return {.in = kAll << 1, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    return {{in[0].dtype, make_plan(kDoc, in[0].shape, a.axes, in.subspan(1)).result}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto indices = in.subspan(1);
    const IndexPlan plan = make_plan(kDoc, in[0].shape(), a.axes, metas_of(indices));
    Offsets offsets;
    read_picks(make_picks(plan, a.axes, indices, out[0], in[0], &offsets), in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const IndexPutAttrs a{s.attrs<Attrs>().axes, true};
    const Tensor zeros(zeros_view(s.in_dtype(0), s.in_shape(0)));
    const Tensor* lead[] = {&zeros, &g[0]};
    return {apply_indexed(kOpDef<IndexPut>, &a, lead, saved_indices(s, 1), Where::current())};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const uint32_t axes = s.attrs<Attrs>().axes;
    const Meta meta{s.in_dtype(0), s.in_shape(0)};
    const int rank = meta.shape.rank();
    const bool columns = axes == 2 && rank == 2;
    if (axes == 1 || columns) {
      const Array ids = reshaped(lasting_ids(s.in_array(1)), {s.in_array(1).numel()});
      if (columns) {
        sink.add(0, Gradient(meta, ColSparse{ids, reshaped(g[0], {meta.shape[0], ids.numel()})}));
        return;
      }
      Shape rows = meta.shape;
      rows[0] = ids.numel();
      sink.add(0, Gradient(meta, RowSparse{ids, reshaped(g[0], rows)}));
      return;
    }
    absl::InlinedVector<Array, kMaxRank> indices;
    for (int i = 1; i < s.n_inputs(); ++i) indices.push_back(s.in_array(i));
    const IndexPlan plan = make_plan(kDoc, meta.shape, axes, metas_of(indices));
    Offsets offsets;
    const Array gy = contiguous(g[0]);
    Array gx = Array::zeros(meta.dtype, meta.shape);
    add_picks(make_picks(plan, axes, indices, gy, gx, &offsets), 1, gy, gx);
    sink.add(0, std::move(gx));
  }
};
EBB_OP(IndexTensors)

Grads IndexPut::backward(const Saved& s, const OutGrads& g) {
  const Attrs& a = s.attrs<Attrs>();
  const auto indices = saved_indices(s, 2);
  Grads grads(2);
  if (s.needs(0)) {
    grads[0] = g[0];
    if (!a.accumulate) {
      const Tensor zero(Array::scalar(g[0].dtype(), 0));
      const Tensor* lead[] = {&g[0], &zero};
      grads[0] = apply_indexed(kOpDef<IndexPut>, &a, lead, indices, Where::current());
    }
  }
  if (s.needs(1)) {
    const IndexAttrs at{a.axes};
    const Tensor* lead[] = {&g[0]};
    Tensor picked = apply_indexed(kOpDef<IndexTensors>, &at, lead, indices, Where::current());
    if (!a.accumulate) {
      const Tensor last = last_writes(a, g[0].shape(), g[0].dtype(), indices);
      if (last.defined()) picked = picked * last;
    }
    grads[1] = sum_to(picked, s.in_shape(1));
  }
  return grads;
}

}  // namespace ops

namespace {

using Indices = absl::InlinedVector<Tensor, kMaxRank>;

// The tensor `t` as an index of the axes of x from `axis` on: one, or as many as a mask has.
// Returns how many.
int append_index(const Tensor& t, const Tensor& x, int axis, const char* op, Indices* out) {
  if (t.dtype() == kBool) {
    if (t.dim() == 0) throw IndexError(absl::StrCat(op, ": a mask is a scalar"));
    ops::append_mask_indices(t, x, axis, op, out);
    return t.dim();
  }
  out->push_back(ops::checked_indices(t, x, axis, op));
  return 1;
}

[[noreturn]] void too_many(const char* op, const Tensor& x, int used) {
  throw IndexError(absl::StrCat(op, ": x is ", x.shape().str(), ", ", used, " axes are indexed"));
}

}  // namespace

Tensor index(const Tensor& x, Span<const IndexItem> items, Where where) {
  int used = 0;
  bool ellipsis = false;
  for (const IndexItem& i : items) {
    if (i.kind == IndexItem::kEllipsis && std::exchange(ellipsis, true)) {
      throw IndexError("index: there is more than one Ellipsis");
    }
    const bool mask = i.kind == IndexItem::kTensor && i.tensor.dtype() == kBool;
    used += mask ? i.tensor.dim() : i.kind != IndexItem::kEllipsis && i.kind != IndexItem::kNewAxis;
  }
  if (used > x.dim()) too_many("index", x, used);

  // Views first, for they say which axis each index tensor belongs to.
  Tensor y = x;
  Indices indices;
  uint32_t axes = 0;
  int axis = 0;
  for (const IndexItem& i : items) {
    switch (i.kind) {
      case IndexItem::kInteger:
        y = select(y, axis, i.slice.start, where);
        break;
      case IndexItem::kSlice: {
        const Slice& s = i.slice;
        const bool open = s.start == Slice::kOpen;
        if (!open || s.stop != Slice::kOpen || s.step != 1) {
          y = slice(y, axis,
                    !open        ? s.start
                    : s.step < 0 ? -1
                                 : 0,
                    s.stop == Slice::kOpen ? INT64_MAX : s.stop, s.step, where);
        }
        ++axis;
        break;
      }
      case IndexItem::kNewAxis:
        y = unsqueeze(y, axis++, where);
        break;
      case IndexItem::kEllipsis:
        axis += x.dim() - used;
        break;
      case IndexItem::kTensor: {
        const int n = append_index(i.tensor, y, axis, "index", &indices);
        axes |= ((1u << n) - 1) << axis;
        axis += n;
        break;
      }
    }
  }
  if (indices.empty()) return y;
  const ops::IndexAttrs attrs{axes};
  const Tensor* lead[] = {&y};
  return ops::apply_indexed(kOpDef<ops::IndexTensors>, &attrs, lead, indices, where);
}

Tensor index_put(const Tensor& x, Span<const Tensor> indices, const Tensor& values, bool accumulate,
                 Where where) {
  Indices all;
  ops::IndexPutAttrs attrs{0, accumulate};
  int axis = 0;
  for (const Tensor& t : indices) {
    const bool mask = t.defined() && t.dtype() == kBool;
    const int n = mask ? t.dim() : 1;
    if (axis + n > x.dim()) too_many("index_put", x, axis + n);
    if (t.defined()) {
      append_index(t, x, axis, "index_put", &all);
      attrs.axes |= ((1u << n) - 1) << axis;
    }
    axis += n;
  }
  if (all.empty()) throw ValueError("index_put: no index tensor is given");
  const Tensor* lead[] = {&x, &values};
  return ops::apply_indexed(kOpDef<ops::IndexPut>, &attrs, lead, all, where);
}

Tensor Tensor::index(Span<const IndexItem> items, Where where) const {
  return ebb::index(*this, items, where);
}

}  // namespace ebb
