// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// Elements picked by bool masks.
namespace ebb {
namespace ops {

namespace {

struct CountAttrs {
  int64_t count;  // of true elements
};

// Throws unless `mask` is bool and has the sizes of the first axes of x; gives the shape of the
// slices it picks.
Shape masked_shape(const OpDoc& doc, const Meta& x, const Meta& mask, int64_t count) {
  if (mask.dtype != kBool) {
    throw DTypeError(absl::StrCat(doc.name, ": mask is ", mask.str(), "; it must be bool"));
  }
  const int rank = mask.shape.rank();
  bool fits = rank <= x.shape.rank();
  for (int i = 0; i < rank && fits; ++i) fits = mask.shape[i] == x.shape[i];
  if (!fits || x.shape.rank() - rank == kMaxRank) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.shape.str(), ", mask is ",
                                  mask.shape.str(), "; it must have the sizes of x's first axes"));
  }
  Shape out{count};
  for (int i = rank; i < x.shape.rank(); ++i) out.push_back(x.shape[i]);
  return out;
}

const uint8_t* bytes_of(const Array& mask) { return reinterpret_cast<const uint8_t*>(mask.raw()); }

int64_t count_true(const Tensor& mask) {
  if (mask.dtype() != kBool) return 0;  // infer will say so
  const Array m = contiguous(mask.value());
  const uint8_t* on = bytes_of(m);
  int64_t count = 0;
  for (int64_t i = 0; i < m.numel(); ++i) count += on[i] != 0;
  return count;
}

// Calls f(slice of `whole`, slice of `packed`, bytes of a slice) for each true element of the mask.
// Both arrays are contiguous.
template <class F>
void for_each_true(const Array& mask, const Array& whole, const Array& packed, F&& f) {
  const Array m = contiguous(mask);
  const uint8_t* on = bytes_of(m);
  size_t bytes = size_of(whole.dtype());
  for (int i = m.rank(); i < whole.rank(); ++i) bytes *= static_cast<size_t>(whole.size(i));
  std::byte* w = whole.raw();
  std::byte* p = packed.raw();
  for (int64_t i = 0; i < m.numel(); ++i, w += bytes) {
    if (on[i] == 0) continue;
    f(w, p, bytes);
    p += bytes;
  }
}

// Indices of the true elements of a mask [n].
Array true_rows(const Array& mask, int64_t count) {
  const Array m = contiguous(mask);
  const uint8_t* on = bytes_of(m);
  Array ids = Array::empty(kInt64, {count});
  int64_t* to = ids.mutable_data<int64_t>();
  for (int64_t i = 0; i < m.numel(); ++i) {
    if (on[i] != 0) *to++ = i;
  }
  return ids;
}

void scatter_true(const Array& mask, const Array& whole, const Array& packed) {
  const Array from = contiguous(packed);
  for_each_true(mask, whole, from,
                [](std::byte* w, const std::byte* p, size_t bytes) { std::memcpy(w, p, bytes); });
}

}  // namespace

struct MaskedSelect {
  static constexpr OpDoc kDoc{"masked_select",
                              "y = the slices of x at which mask is true, in order",
                              "x:[m..,..] mask:[m..] -> y:[count,..]"};
  using Attrs = CountAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("count=", a.count); }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    return {{in[0].dtype, masked_shape(kDoc, in[0], in[1], a.count)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    for_each_true(in[1], contiguous(in[0]), out[0],
                  [](const std::byte* w, std::byte* p, size_t bytes) { std::memcpy(p, w, bytes); });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {masked_scatter(Tensor(zeros_view(s.in_dtype(0), s.in_shape(0))), s.in(1), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Meta meta{s.in_dtype(0), s.in_shape(0)};
    const Array& mask = s.in_array(1);
    const int64_t count = s.attrs<Attrs>().count;
    if (mask.rank() == 1 && sparse_pays(count, mask.size(0), meta.shape)) {
      sink.add(0, Gradient(meta, RowSparse{true_rows(mask, count), g[0]}));
      return;
    }
    Array gx = Array::zeros(meta.dtype, meta.shape);
    scatter_true(mask, gx, g[0]);
    sink.add(0, std::move(gx));
  }
};
EBB_OP(MaskedSelect)

struct MaskedScatter {
  static constexpr OpDoc kDoc{
      "masked_scatter", "y = x with the slices at which mask is true taken from src, in order",
      "x:[m..,..] mask:[m..] src:[count,..] -> y:[m..,..]"};
  using Attrs = CountAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("count=", a.count); }
  static constexpr GradUses uses(int) { return {.in = 0b010}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    if (in[0].dtype != in[2].dtype) {
      throw DTypeError(absl::StrCat("masked_scatter: x is ", in[0].str(), ", src is ", in[2].str(),
                                    "; the types must be the same"));
    }
    const Shape want = masked_shape(kDoc, in[0], in[1], a.count);
    if (in[2].shape != want) {
      throw ShapeError(absl::StrCat("masked_scatter: x is ", in[0].shape.str(), ", mask is ",
                                    in[1].shape.str(), " with ", a.count, " true elements, src is ",
                                    in[2].shape.str(), "; it must be ", want.str()));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    return cost_of_moving(in[0], in.subspan(1));
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
    scatter_true(in[1], out[0], in[2]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor mask = s.in(1);
    Grads grads(3);
    if (s.needs(0)) {
      Shape aligned = mask.shape();  // with the axes that it lacks
      while (aligned.rank() < g[0].dim()) aligned.push_back(1);
      grads[0] = masked_fill(g[0], reshape(mask, aligned), 0);
    }
    if (s.needs(2)) grads[2] = masked_select(g[0], mask);
    return grads;
  }
};
EBB_OP(MaskedScatter)

struct MaskedFill {
  static constexpr OpDoc kDoc{"masked_fill", "y = mask ? value : x, broadcast",
                              "x:[...] mask:[...] value:[] -> y:[...]"};
  struct Attrs {
    double value;   // where there is no third input
    bool inverted;  // the mask is
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("value=", a.value); }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b10, .shapes = 0b01} : GradUses{.in = 0b10};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    if (in.size() != 2) require_inputs(kDoc, in, 3);
    if (in[1].dtype != kBool) {
      throw DTypeError(absl::StrCat("masked_fill: mask is ", in[1].str(), "; it must be bool"));
    }
    if (in.size() == 3 && in[2].dtype != in[0].dtype) {
      throw DTypeError(absl::StrCat("masked_fill: x is ", in[0].str(), ", value is ", in[2].str(),
                                    "; the types must be the same"));
    }
    if (in.size() == 3 && in[2].shape.rank() != 0) {
      throw ShapeError(absl::StrCat("masked_fill: x is ", in[0].shape.str(), ", value is ",
                                    in[2].shape.str(), "; it must be a scalar"));
    }
    Shape out;
    if (!broadcast_shapes(in[0].shape, in[1].shape, &out)) {
      throw ShapeError(absl::StrCat("masked_fill: x is ", in[0].shape.str(), ", mask is ",
                                    in[1].shape.str(),
                                    "; sizes must be equal or 1, from the last dimension on"));
    }
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Shape shape = out[0].shape();
    const Array value = in.size() == 3 ? in[2] : Array::scalar(in[0].dtype(), a.value);
    int64_t sx[kMaxRank];
    int64_t sm[kMaxRank];
    broadcast_strides(in[0], shape, sx);
    broadcast_strides(in[1], shape, sm);
    const size_t item = size_of(in[0].dtype());
    const auto bytes = static_cast<ptrdiff_t>(item);
    const kernels::WhereFn where = kernels::where_fn(item);
    kernels::for_each_row<3>(static_cast<size_t>(shape.rank()), shape.data(),
                             {out[0].strides(), sx, sm},
                             [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                               const std::byte* x = in[0].raw() + at[1] * bytes;
                               const uint8_t* mask = bytes_of(in[1]) + at[2];
                               std::byte* y = out[0].raw() + at[0] * bytes;
                               if (a.inverted) {
                                 where(mask, stride[2], x, stride[1], value.raw(), 0, y, n);
                               } else {
                                 where(mask, stride[2], value.raw(), 0, x, stride[1], y, n);
                               }
                             });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const bool inverted = s.attrs<Attrs>().inverted;
    Grads grads(static_cast<size_t>(s.n_inputs()));
    if (s.needs(0)) {
      grads[0] = sum_to(apply_with<MaskedFill>({0, inverted}, g[0], s.in(1)), s.in_shape(0));
    }
    if (s.n_inputs() == 3 && s.needs(2)) {
      grads[2] = sum(apply_with<MaskedFill>({0, !inverted}, g[0], s.in(1)));
    }
    return grads;
  }
};
EBB_OP(MaskedFill)

}  // namespace ops

Tensor masked_select(const Tensor& x, const Tensor& mask, Where where) {
  return apply_with<ops::MaskedSelect>({ops::count_true(mask)}, At(x, where), mask);
}

Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& src, Where where) {
  return apply_with<ops::MaskedScatter>({ops::count_true(mask)}, At(x, where), mask, src);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value, Where where) {
  return apply_with<ops::MaskedFill>({value, false}, At(x, where), mask);
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value, Where where) {
  return apply_with<ops::MaskedFill>({0, false}, At(x, where), mask, value);
}

Tensor Tensor::operator[](At picks) const {
  const Tensor& t = *picks.tensor;
  if (t.dtype() == kBool) return ebb::masked_select(*this, t, picks.where);
  return ebb::index(*this, {t}, picks.where);
}
Tensor Tensor::masked_fill(const Tensor& mask, double value, Where where) const {
  return ebb::masked_fill(*this, mask, value, where);
}

}  // namespace ebb
