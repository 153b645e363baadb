// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/join.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// Single elements picked along an axis by an index of their own.
namespace ebb {
namespace ops {

namespace {

struct AlongAttrs {
  int axis;
};

std::string describe_axis(const AlongAttrs& a) { return absl::StrCat("axis=", a.axis); }

// The tensor of zeros to which a rule adds what belongs to input i.
Tensor zeros_for(const Saved& s, int i) { return Tensor(zeros_view(s.in_dtype(i), s.in_shape(i))); }

[[noreturn]] void misfit(const OpDoc& doc, Span<const Meta> in, const char* rule) {
  std::string src;
  if (in.size() > 2) src = absl::StrCat(", src is ", in[2].shape.str());
  throw ShapeError(absl::StrCat(doc.name, ": x is ", in[0].shape.str(), ", indices are ",
                                in[1].shape.str(), src, "; ", rule));
}

// `a` is no larger than `b` in any axis but `axis`.
bool within(const Shape& a, const Shape& b, int axis) {
  for (int i = 0; i < a.rank(); ++i) {
    if (i != axis && a[i] > b[i]) return false;
  }
  return true;
}

}  // namespace

struct Gather {
  static constexpr OpDoc kDoc{"gather", "y[..,i,..] = x[..,indices[..,i,..],..]",
                              "x:[..,n,..] indices:[..,k,..] -> y:[..,k,..]"};
  using Attrs = AlongAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_indices(kDoc, in[1]);
    if (in[0].shape.rank() != in[1].shape.rank() || !within(in[1].shape, in[0].shape, a.axis)) {
      misfit(kDoc, in, "indices must have the rank of x and be no larger in any other axis");
    }
    return {{in[0].dtype, in[1].shape}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    read_along(Along(a.axis, in[1].shape(), in[1], out[0], in[0]), in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {scatter_add(zeros_for(s, 0), s.attrs<Attrs>().axis, s.in(1), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& ids = s.in_array(1);
    Array gx = Array::zeros(s.in_dtype(0), s.in_shape(0));
    add_along(Along(s.attrs<Attrs>().axis, ids.shape(), ids, g[0], gx), g[0], gx);
    sink.add(0, std::move(gx));
  }
};
EBB_OP(Gather)

struct TakeAlong {
  static constexpr OpDoc kDoc{"take_along", "y[..,i,..] = x[..,indices[..,i,..],..], broadcast",
                              "x:[..,n,..] indices:[..,k,..] -> y:[..,k,..]"};
  using Attrs = AlongAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_indices(kDoc, in[1]);
    Shape x = in[0].shape;
    Shape ids = in[1].shape;
    Shape out;
    bool fits = x.rank() == ids.rank();
    if (fits && x.rank() != 0) x[a.axis] = ids[a.axis];
    if (!fits || !broadcast_shapes(x, ids, &out)) {
      misfit(kDoc, in, "they must have the same rank and broadcast in all other axes");
    }
    return {{in[0].dtype, out}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    read_along(Along(a.axis, out[0].shape(), in[1], out[0], in[0]), in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    const Shape shape = s.in_shape(0);
    Shape whole = g[0].shape();  // x as it was broadcast
    if (whole.rank() != 0) whole[axis] = shape[axis];
    const Tensor sum = scatter_add(Tensor(zeros_view(g[0].dtype(), whole)), axis,
                                   expand(s.in(1), g[0].shape()), g[0]);
    return {sum_to(sum, shape)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    Array gx = Array::zeros(s.in_dtype(0), s.in_shape(0));
    add_along(Along(s.attrs<Attrs>().axis, g[0].shape(), s.in_array(1), g[0], gx), g[0], gx);
    sink.add(0, std::move(gx));
  }
};
EBB_OP(TakeAlong)

namespace {

// What scatter and scatter_add share: x, indices, src.
template <class Op>
struct ScatterOp {
  using Attrs = AlongAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 3);
    require_indices(Op::kDoc, in[1]);
    if (in[0].dtype != in[2].dtype) {
      throw DTypeError(absl::StrCat(Op::kDoc.name, ": x is ", in[0].str(), ", src is ", in[2].str(),
                                    "; the types must be the same"));
    }
    const Shape& ids = in[1].shape;
    if (ids.rank() != in[0].shape.rank() || ids.rank() != in[2].shape.rank() ||
        !within(ids, in[0].shape, a.axis) || !within(ids, in[2].shape, -1)) {
      misfit(Op::kDoc, in,
             "they must have the same rank, and indices be no larger than src, nor, in any other "
             "axis, than x");
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    Cost c = cost_of_moving(in[0], in.subspan(1));
    c.multiply_adds = static_cast<double>(in[1].shape.numel());
    return c;
  }
  // The gradient of src, of which indices may name only the beginning.
  static Tensor gradient_of_src(const Saved& s, const Tensor& picked) {
    const Shape src = s.in_shape(2);
    absl::InlinedVector<int64_t, 2 * kMaxRank> pads;
    for (int i = src.rank() - 1; i >= 0; --i) {
      pads.push_back(0);
      pads.push_back(src[i] - picked.shape()[i]);
    }
    return picked.shape() == src ? picked : pad(picked, pads);
  }
};

// 1 for every element whose write is the last to its place, 0 for those that are overwritten;
// undefined where none is.
Tensor last_writes(const Array& ids, int axis, const Shape& shape, DType dtype) {
  const Array last = Array::empty(kInt64, shape);  // only what is written is read
  const Array won = Array::empty(dtype, ids.shape());
  const Along a(axis, ids.shape(), ids, won, last);
  int64_t* by = last.mutable_data<int64_t>();
  for_each_along(a, [=](ptrdiff_t i, ptrdiff_t, ptrdiff_t j) { by[j] = i; });
  bool all = true;
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    T* to = won.mutable_data<T>();
    for_each_along(a, [&](ptrdiff_t i, ptrdiff_t k, ptrdiff_t j) {
      to[k] = by[j] == i ? T{1} : T{0};
      all &= by[j] == i;
    });
  });
  return all ? Tensor() : Tensor(won);
}

}  // namespace

struct Scatter : ScatterOp<Scatter> {
  static constexpr OpDoc kDoc{"scatter", "y = x; y[..,indices[..,i,..],..] = src[..,i,..]",
                              "x:[..,n,..] indices:[..,k,..] src:[..,k,..] -> y:[..,n,..]"};
  static constexpr GradUses uses(int input) {
    return input == 2 ? GradUses{.in = 0b010, .shapes = 0b100} : GradUses{.in = 0b010};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
    write_along(Along(a.axis, in[1].shape(), in[1], in[2], out[0]), in[2], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    const Tensor ids = s.in(1);
    Grads grads(3);
    if (s.needs(0)) grads[0] = scatter(g[0], axis, ids, 0);
    if (s.needs(2)) {
      const Tensor last = last_writes(ids.value(), axis, g[0].shape(), g[0].dtype());
      const Tensor picked = gather(g[0], axis, ids);
      grads[2] = gradient_of_src(s, last.defined() ? picked * last : picked);
    }
    return grads;
  }
};
EBB_OP(Scatter)

struct ScatterAdd : ScatterOp<ScatterAdd> {
  static constexpr OpDoc kDoc{"scatter_add", "y = x; y[..,indices[..,i,..],..] += src[..,i,..]",
                              "x:[..,n,..] indices:[..,k,..] src:[..,k,..] -> y:[..,n,..]"};
  static constexpr GradUses uses(int input) {
    return input == 2 ? GradUses{.in = 0b010, .shapes = 0b100} : GradUses{};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    if (in[0].dtype == kFloat16 || in[0].dtype == kBFloat16) {
      throw DTypeError(
          absl::StrCat("scatter_add: x is ", in[0].str(), "; the type must have arithmetic"));
    }
    return ScatterOp::infer(a, in);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
    add_along(Along(a.axis, in[1].shape(), in[1], in[2], out[0]), in[2], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads grads(3);
    if (s.needs(0)) grads[0] = g[0];
    if (s.needs(2)) grads[2] = gradient_of_src(s, gather(g[0], s.attrs<Attrs>().axis, s.in(1)));
    return grads;
  }
};
EBB_OP(ScatterAdd)

}  // namespace ops

Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices, Where where) {
  const int at = normalize_axis(axis, x.dim(), "gather");
  return apply_with<ops::Gather>({at}, At(x, where),
                                 ops::checked_indices(indices, x, at, "gather"));
}

Tensor take_along(const Tensor& x, const Tensor& indices, int64_t axis, Where where) {
  const int at = normalize_axis(axis, x.dim(), "take_along");
  return apply_with<ops::TakeAlong>({at}, At(x, where),
                                    ops::checked_indices(indices, x, at, "take_along"));
}

Tensor scatter(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
               Where where) {
  const int at = normalize_axis(axis, x.dim(), "scatter");
  return apply_with<ops::Scatter>({at}, At(x, where),
                                  ops::checked_indices(indices, x, at, "scatter"), src);
}

Tensor scatter(const Tensor& x, int64_t axis, const Tensor& indices, double value, Where where) {
  constexpr int64_t kRepeat[kMaxRank] = {};
  const Tensor src(Array::scalar(x.dtype(), value).view(indices.shape(), kRepeat, 0));
  return scatter(x, axis, indices, src, where);
}

Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& src,
                   Where where) {
  const int at = normalize_axis(axis, x.dim(), "scatter_add");
  return apply_with<ops::ScatterAdd>({at}, At(x, where),
                                     ops::checked_indices(indices, x, at, "scatter_add"), src);
}

Tensor Tensor::gather(int64_t axis, const Tensor& indices, Where where) const {
  return ebb::gather(*this, axis, indices, where);
}

}  // namespace ebb
