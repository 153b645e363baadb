// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/matrix_stack.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/lapack.h"
#include "ebb/ops/shape.h"

namespace ebb::ops {

Stack::Stack(const Shape& shape) : rows(shape[shape.rank() - 2]), cols(shape[shape.rank() - 1]) {
  for (int i = 0; i < shape.rank() - 2; ++i) count *= shape[i];
}

void require_stack(const OpDoc& doc, Span<const Meta> in, bool square) {
  require_inputs(doc, in, 1);
  require_floating(doc, in);
  require_stack(doc, in[0].shape, "a", square);
}

void require_stack(const OpDoc& doc, const Shape& shape, const char* name, bool square) {
  const char* why = nullptr;
  if (shape.rank() < 2) {
    why = "a matrix, or a stack of them";
  } else if (square && shape[shape.rank() - 1] != shape[shape.rank() - 2]) {
    why = "square";
  } else if (std::max(shape[shape.rank() - 1], shape[shape.rank() - 2]) > kernels::kMaxLapackSize) {
    why = "at most 16384 in size";
  }
  if (why == nullptr) return;
  throw ShapeError(absl::StrCat(doc.name, ": ", name, " is ", shape.str(), "; it must be ", why));
}

Shape batch_of(const Shape& shape) {
  return Shape(shape.data(), static_cast<size_t>(std::max(shape.rank() - 2, 0)));
}

Shape with_matrix(Shape batch, int64_t rows, int64_t cols) {
  batch.push_back(rows);
  batch.push_back(cols);
  return batch;
}

std::string about_matrix(const OpDoc& doc, const Shape& shape, int64_t index) {
  return absl::StrCat(doc.name, ": a is ", shape.str(), "; ",
                      shape.rank() > 2 ? absl::StrCat("matrix ", index, " of it") : "it", " ");
}

void require_finite(const OpDoc& doc, const Array& a) {
  visit_differentiable(a.dtype(), [&](auto t) {
    const auto* p = a.data<decltype(t)>();
    if (std::all_of(p, p + a.numel(), [](auto x) { return std::isfinite(x); })) return;
    throw NumericError(
        absl::StrCat(doc.name, ": a is ", a.shape().str(), "; it holds NaN or infinity"));
  });
}

Tensor mt(const Tensor& x) { return transpose(x, -2, -1); }

Tensor identity(DType dtype, int64_t n) {
  const Array a = Array::zeros(dtype, {n, n});
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    for (int64_t i = 0; i < n; ++i) a.mutable_data<T>()[i * (n + 1)] = 1;
  });
  return Tensor(a);
}

}  // namespace ebb::ops
