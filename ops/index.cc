// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

// x with axes [0, axis), axis and (axis, rank) as three: what indexing along one axis sees.
struct AxisView {
  AxisView(const Shape& shape, int axis) {
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    size = shape[axis];
    for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
  int64_t outer = 1;
  int64_t size = 1;
  int64_t inner = 1;
};

}  // namespace

struct SliceAttrs {
  int axis;
  int64_t start;  // of the first element; stays within the axis
  int64_t count;
  int64_t step;
};

struct Slice {
  static constexpr OpDoc kDoc{"slice", "y[..,i,..] = x[..,start + i step,..]",
                              "x:[..,n,..] -> y:[..,m,..]"};
  static constexpr bool kView = true;
  using Attrs = SliceAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " start=", a.start, " count=", a.count, " step=", a.step);
  }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape = in[0].shape;
    shape[a.axis] = a.count;
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Shape shape = in[0].shape();
    int64_t strides[kMaxRank];
    std::copy_n(in[0].strides(), shape.rank(), strides);
    shape[a.axis] = a.count;
    const int64_t offset = a.count == 0 ? 0 : a.start * strides[a.axis];
    strides[a.axis] *= a.step;
    out[0] = in[0].view(shape, strides, offset);
  }
  static Grads backward(const Saved& s, const OutGrads& g);
};
EBB_OP(Slice)

// The gradient of a slice: zero everywhere else.
struct SliceBackward {
  static constexpr OpDoc kDoc{"slice_backward", "x[..,start + i step,..] = y[..,i,..], else 0",
                              "y:[..,m,..] -> x:[..,n,..]"};
  struct Attrs {
    SliceAttrs slice;
    int64_t size;
  };
  static std::string describe(const Attrs& a) { return Slice::describe(a.slice); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape = in[0].shape;
    shape[a.slice.axis] = a.size;
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    std::memset(out[0].raw(), 0, static_cast<size_t>(out[0].numel()) * size_of(out[0].dtype()));
    Array part;
    Slice::forward(a.slice, out, {&part, 1});
    copy_into(part, in[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Slice>(s.attrs<Attrs>().slice, g[0])};
  }
};
EBB_OP(SliceBackward)

Grads Slice::backward(const Saved& s, const OutGrads& g) {
  const Attrs& a = s.attrs<Attrs>();
  return {apply_with<SliceBackward>({a, s.in_shape(0)[a.axis]}, g[0])};
}

struct Select {
  static constexpr OpDoc kDoc{"select", "y[..,..] = x[..,index,..]", "x:[..,n,..] -> y:[..,..]"};
  static constexpr bool kView = true;
  struct Attrs {
    int axis;
    int64_t index;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " index=", a.index);
  }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape;
    for (int i = 0; i < in[0].shape.rank(); ++i) {
      if (i != a.axis) shape.push_back(in[0].shape[i]);
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Shape shape;
    int64_t strides[kMaxRank];
    for (int i = 0; i < in[0].rank(); ++i) {
      if (i == a.axis) continue;
      strides[shape.rank()] = in[0].stride(i);
      shape.push_back(in[0].size(i));
    }
    out[0] = in[0].view(shape, strides, a.index * in[0].stride(a.axis));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    return {apply_with<SliceBackward>({{a.axis, a.index, 1, 1}, s.in_shape(0)[a.axis]},
                                      unsqueeze(g[0], a.axis))};
  }
};
EBB_OP(Select)

struct IndexSelect {
  static constexpr OpDoc kDoc{"index_select", "y[..,i,..] = x[..,indices[i],..]",
                              "x:[..,n,..] indices:[k] -> y:[..,k,..]"};
  struct Attrs {
    int axis;
  };
  static bool reads_rows(const Attrs& a) { return a.axis == 0; }
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    if (in[1].dtype != kInt64 || in[1].shape.rank() != 1) {
      throw DTypeError(absl::StrCat("index_select: indices are ", in[1].str(),
                                    "; they must be int64[k]"));
    }
    Shape shape = in[0].shape;
    shape[a.axis] = in[1].shape[0];
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array ids = contiguous(in[1]);
    const AxisView v(x.shape(), a.axis);
    const int64_t k = ids.numel();
    const auto row = static_cast<size_t>(v.inner) * size_of(x.dtype());
    for (int64_t o = 0; o < v.outer; ++o) {
      for (int64_t i = 0; i < k; ++i) {
        const int64_t from = o * v.size + ids.data<int64_t>()[i];
        std::memcpy(out[0].raw() + static_cast<size_t>(o * k + i) * row,
                    x.raw() + static_cast<size_t>(from) * row, row);
      }
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g);
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    const Shape shape = s.in_shape(0);
    const Meta meta{g[0].dtype(), shape};
    if (axis == 0) {
      sink.add(0, Gradient(meta, RowSparse{s.in_array(1), g[0]}));
    } else if (shape.rank() == 2) {
      sink.add(0, Gradient(meta, ColSparse{s.in_array(1), g[0]}));
    } else {
      run_rule(&backward, s, g, sink);
    }
  }
};
EBB_OP(IndexSelect)

// The gradient of index_select: what several indices name adds up.
struct IndexSelectBackward {
  static constexpr OpDoc kDoc{"index_select_backward", "x[..,indices[i],..] += y[..,i,..]",
                              "y:[..,k,..] indices:[k] -> x:[..,n,..]"};
  struct Attrs {
    int axis;
    int64_t size;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static constexpr GradUses uses(int) { return {.in = 0b10}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    Shape shape = in[0].shape;
    shape[a.axis] = a.size;
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array y = contiguous(in[0]);
    const Array ids = contiguous(in[1]);
    const AxisView v(out[0].shape(), a.axis);
    const int64_t k = ids.numel();
    std::memset(out[0].raw(), 0, static_cast<size_t>(out[0].numel()) * size_of(out[0].dtype()));
    visit_differentiable(y.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t o = 0; o < v.outer; ++o) {
        for (int64_t i = 0; i < k; ++i) {
          const int64_t to = o * v.size + ids.data<int64_t>()[i];
          kernels::add_into(y.data<T>() + (o * k + i) * v.inner,
                            out[0].mutable_data<T>() + to * v.inner,
                            static_cast<size_t>(v.inner));
        }
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<IndexSelect>({s.attrs<Attrs>().axis}, g[0], s.in(1))};
  }
};
EBB_OP(IndexSelectBackward)

Grads IndexSelect::backward(const Saved& s, const OutGrads& g) {
  const int axis = s.attrs<Attrs>().axis;
  return {apply_with<IndexSelectBackward>({axis, s.in_shape(0)[axis]}, g[0], s.in(1))};
}

namespace {

// int64 indices in [0, size), negative ones brought there.
Tensor checked_indices(const Tensor& indices, int64_t size, const char* op) {
  if (indices.dtype() != kInt64 && indices.dtype() != kInt32) {
    throw DTypeError(absl::StrCat(op, ": indices are ", indices.value().meta().str(),
                                  "; they must be int64 or int32"));
  }
  const Array from = contiguous(cast(indices.array(), kInt64));
  bool negative = false;
  for (int64_t i = 0; i < from.numel(); ++i) {
    const int64_t id = from.data<int64_t>()[i];
    if (id < -size || id >= size) {
      throw IndexError(absl::StrCat(op, ": index ", id, " is outside [", -size, ", ", size, ")"));
    }
    negative |= id < 0;
  }
  if (!negative) return Tensor(from);
  const Array ids = clone(from);
  int64_t* p = ids.mutable_data<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) p[i] += p[i] < 0 ? size : 0;
  return Tensor(ids);
}

}  // namespace
}  // namespace ops

Tensor slice(const Tensor& x, int64_t axis, int64_t start, int64_t stop, int64_t step,
             Where where) {
  if (x.dim() == 0) throw IndexError("slice: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "slice");
  if (step == 0) throw ValueError("slice: the step is 0");
  const int64_t n = x.size(at);
  // The bounds as Python cuts them.
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? n : n - 1;
  const auto cut = [&](int64_t i) {
    return std::clamp(i < 0 && i >= -n ? i + n : i, low, high);
  };
  const int64_t first = cut(start);
  const int64_t last = cut(stop);
  const int64_t span = step > 0 ? last - first : first - last;
  // Unsigned, for the step may be the lowest number there is.
  const uint64_t pace = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const int64_t count =
      span <= 0 ? 0 : static_cast<int64_t>((static_cast<uint64_t>(span) - 1) / pace) + 1;
  return apply_with<ops::Slice>({at, first, count, count > 1 ? step : 1}, At(x, where));
}

Tensor select(const Tensor& x, int64_t axis, int64_t index, Where where) {
  if (x.dim() == 0) throw IndexError("select: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "select");
  const int64_t n = x.size(at);
  if (index < -n || index >= n) {
    throw IndexError(absl::StrCat("select: index ", index, " is outside [", -n, ", ", n,
                                  ") of axis ", at, " of ", x.shape().str()));
  }
  return apply_with<ops::Select>({at, index < 0 ? index + n : index}, At(x, where));
}

Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices, Where where) {
  if (x.dim() == 0) throw IndexError("index_select: x is a scalar");
  const int at = normalize_axis(axis, x.dim(), "index_select");
  const Tensor ids = ops::checked_indices(indices, x.size(at), "index_select");
  return apply_with<ops::IndexSelect>({at}, At(x, where), ids);
}

Tensor Tensor::operator[](Index i) const { return select(*this, 0, i.value, i.where); }

Tensor Tensor::slice(int64_t axis, int64_t start, int64_t stop, int64_t step, Where where) const {
  return ebb::slice(*this, axis, start, stop, step, where);
}

}  // namespace ebb
