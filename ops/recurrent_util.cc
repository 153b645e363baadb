// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/recurrent_util.h"

namespace ebb::ops {

namespace {

Shape matrix_shape(const Shape& s) {
  if (s.rank() == 1) return s;
  int64_t rows = 1;
  for (int i = 0; i + 1 < s.rank(); ++i) rows *= s[i];
  return {rows, s[s.rank() - 1]};
}

}  // namespace

Array matrix_of(const Array& a) { return a.rank() <= 2 ? a : a.view_as(matrix_shape(a.shape())); }

Tensor matrix_of(const Tensor& x) { return x.dim() <= 2 ? x : reshape(x, matrix_shape(x.shape())); }

Array column_sums(const Array& a) {
  if (a.rank() == 1) return a;
  const int64_t n = a.size(a.rank() - 1);
  if (a.numel() == n) return a.view_as({n});
  const Array sum = Array::zeros(a.dtype(), {n});
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* row = a.data<T>();
    for (const T* end = row + a.numel(); row != end; row += n) {
      kernels::add_into(row, sum.mutable_data<T>(), static_cast<size_t>(n));
    }
  });
  return sum;
}

Array row_range(const Array& a, int64_t first, int64_t count) {
  const int64_t n = a.size(1);
  const int64_t strides[] = {n, 1};
  return a.view({count, n}, strides, count == 0 ? 0 : first * n);
}

Meta infer_unit(const OpDoc& doc, const RecurrentAttrs& a, Span<const Meta> in, int gates,
                bool sequence) {
  for (size_t i = 0; i < in.size(); ++i) {
    const int input = static_cast<int>(i);
    if (!a.has(input)) continue;
    if (!is_differentiable(in[i].dtype)) {
      throw DTypeError(absl::StrCat(doc.name, ": ", kRecurrentNames[i], " is ", in[i].str(),
                                    "; it must be float32 or float64"));
    }
    if (in[i].dtype != in[kX].dtype) {
      throw DTypeError(absl::StrCat(doc.name, ": x is ", in[kX].str(), ", ", kRecurrentNames[i],
                                    " is ", in[i].str(), "; the types must be the same"));
    }
  }
  const Shape& x = in[kX].shape;
  const Shape& w = in[kWeightHh].shape;
  const int least = sequence ? 2 : 1;
  if (x.rank() != least && x.rank() != least + 1) {
    throw ShapeError(
        absl::StrCat(doc.name, ": x is ", x.str(), "; it must be ",
                     sequence ? "[steps,size] or [steps,batch,size]" : "[size] or [batch,size]"));
  }
  if (sequence && x[0] == 0) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), "; there is no step"));
  }
  if (w.rank() != 2 || w[1] < 1 || w[0] != gates * w[1]) {
    throw ShapeError(absl::StrCat(doc.name, ": weight_hh is ", w.str(), "; it must be [", gates,
                                  "*hidden,hidden]"));
  }
  const int64_t hidden = w[1];
  const auto require = [&](int i, const Shape& want) {
    if (in[static_cast<size_t>(i)].shape == want || !a.has(i)) return;
    throw ShapeError(absl::StrCat(
        doc.name, ": x is ", x.str(), ", weight_hh is ", w.str(), ", ", kRecurrentNames[i], " is ",
        in[static_cast<size_t>(i)].shape.str(), "; it must be ", want.str()));
  };
  require(kWeightIh, {gates * hidden, x[x.rank() - 1]});
  Shape y = x;
  y[y.rank() - 1] = hidden;
  Shape state = y;
  if (sequence) state = Shape(y.data() + 1, static_cast<size_t>(y.rank() - 1));
  require(kH, state);
  require(kBiasIh, {gates * hidden});
  require(kBiasHh, {gates * hidden});
  if (in.size() > kC) {
    require(kC, state);
    require(kPeephole, {3 * hidden});
  }
  return {in[kX].dtype, y};
}

}  // namespace ebb::ops
