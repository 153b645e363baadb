// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/embedding.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/index.h"
#include "ebb/ops/index_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

// What index_select is to many rows, in as little as one row needs.
struct TakeRow {
  static constexpr OpDoc kDoc{"take_row", "y[..] = x[index,..]", "x:[n,..] index:[1] -> y:[..]"};
  struct Attrs {};
  static bool reads_rows(const Attrs&) { return true; }
  static constexpr GradUses uses(int) { return {.in = 0b10, .shapes = 0b01}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_indices(kDoc, in[1]);
    const Shape& x = in[0].shape;
    if (in[1].shape != Shape{1}) {
      throw ShapeError(absl::StrCat("take_row: x is ", x.str(), ", index is ", in[1].shape.str(),
                                    "; it must be [1]"));
    }
    return {{in[0].dtype, Shape(x.data() + 1, static_cast<size_t>(x.rank() - 1))}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cost_of_moving(out[0], in.subspan(1));
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    const ptrdiff_t at = *in[1].data<int64_t>() * x.stride(0);
    const size_t item = size_of(x.dtype());
    if (x.is_contiguous()) {
      const size_t bytes = static_cast<size_t>(out[0].numel()) * item;
      if (bytes != 0) std::memcpy(out[0].raw(), x.raw() + at * static_cast<ptrdiff_t>(item), bytes);
    } else {
      copy_into(out[0], x.view(out[0].shape(), x.strides() + 1, at));
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor zeros(zeros_view(g[0].dtype(), s.in_shape(0)));
    return {index_add(zeros, 0, s.in(1), unsqueeze(g[0], 0))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array row = contiguous(g[0]);
    Shape shape = s.in_shape(0);
    const Meta meta{row.dtype(), shape};
    shape[0] = 1;
    sink.add(0, Gradient(meta, RowSparse{lasting_ids(s.in_array(1)), row.view_as(shape)}));
  }
};
EBB_OP(TakeRow)

}  // namespace ops

Tensor take_row(const Tensor& x, int64_t index, Where where) try {
  if (x.dim() == 0) throw IndexError("take_row: x is a scalar");
  const int64_t n = x.value().size(0);
  if (index < -n || index >= n) {
    throw IndexError(absl::StrCat("take_row: index ", index, " is outside [", -n, ", ", n,
                                  ") of axis 0 of x ", x.shape().str()));
  }
  const Array id = Array::empty(kInt64, {1});
  *id.mutable_data<int64_t>() = index < 0 ? index + n : index;
  return apply<ops::TakeRow>(At(x, where), Tensor(id));
} catch (const Error&) {
  detail::rethrow_as("take_row");
}

Tensor take_row(const Tensor& x, const Tensor& index, Where where) try {
  if (x.dim() == 0) throw IndexError("take_row: x is a scalar");
  return apply<ops::TakeRow>(At(x, where), ops::checked_indices(index, x, 0, "take_row"));
} catch (const Error&) {
  detail::rethrow_as("take_row");
}

}  // namespace ebb
