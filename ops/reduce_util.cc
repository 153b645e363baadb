// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/reduce_util.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/copy.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/shape.h"

namespace ebb::ops {

namespace {

// Strides of the contiguous result, at each axis of the input: 0 along those that are reduced.
void reduced_strides(const Shape& shape, uint32_t mask, int64_t* strides) {
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    const bool reduced = (mask >> i & 1) != 0;
    strides[i] = reduced ? 0 : stride;
    if (!reduced) stride *= shape[i];
  }
}

using Plan = kernels::StridedPlan<2>;  // of the input and the result

void erase_dim(Plan* plan, size_t at) {
  --plan->rank;
  for (size_t d = at; d < plan->rank; ++d) {
    plan->dims[d] = plan->dims[d + 1];
    plan->strides[d] = plan->strides[d + 1];
  }
}

}  // namespace

Shape reduced_shape(const Shape& shape, uint32_t mask, bool keepdim) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if ((mask >> i & 1) == 0) {
      out.push_back(shape[i]);
    } else if (keepdim) {
      out.push_back(1);
    }
  }
  return out;
}

int64_t reduced_count(const Shape& shape, uint32_t mask) {
  int64_t n = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if ((mask >> i & 1) != 0) n *= shape[i];
  }
  return n;
}

std::string describe_axes(uint32_t mask, bool keepdim) {
  if (mask == ~0u) return keepdim ? "all axes keepdim" : "all axes";
  std::string s = "axes=[";
  const char* separator = "";
  for (int i = 0; i < kMaxRank; ++i) {
    if ((mask >> i & 1) == 0) continue;
    absl::StrAppend(&s, separator, i);
    separator = ",";
  }
  return absl::StrCat(s, keepdim ? "] keepdim" : "]");
}

Cost reduction_cost(Span<const Meta> in, Span<const Meta> out) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(in[0].shape.numel());
  return c;
}

void require_reducible(const OpDoc& doc, kernels::Reduce op, const Meta& x) {
  if (kernels::reduce_row_fn(x.dtype, op) != nullptr) return;
  throw DTypeError(
      absl::StrCat(doc.name, ": not defined for ", name_of(x.dtype), "; x is ", x.str()));
}

void require_nonempty(const OpDoc& doc, const Shape& x, uint32_t mask) {
  if (reduced_count(x, mask) != 0) return;
  throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", ", describe_axes(mask, false),
                                "; there are no elements to compare"));
}

namespace {

// The sizes of a contiguous array of which the last axes are reduced, or the first.
struct Matrix {
  // `inner`: the axes of `mask` are the last ones.
  static std::optional<Matrix> of(const Array& x, uint32_t mask, bool inner) {
    const uint32_t all = (1u << x.rank()) - 1;
    mask &= all;
    const int outer = std::popcount(inner ? all & ~mask : mask);
    const uint32_t first = (1u << outer) - 1;
    if (!x.is_contiguous() || mask != (inner ? all & ~first : first)) return std::nullopt;
    Matrix m;
    for (int i = 0; i < x.rank(); ++i) (i < outer ? m.rows : m.cols) *= x.size(i);
    return m;
  }
  int64_t rows = 1;
  int64_t cols = 1;
};

}  // namespace

void run_reduce(kernels::Reduce op, const Array& x, uint32_t mask, const Array& out) {
  const kernels::ReduceRowFn row = kernels::reduce_row_fn(x.dtype(), op);
  if (mask == (1u << x.rank()) - 1 && x.is_contiguous()) {
    row(x.raw(), 1, static_cast<size_t>(x.numel()), out.raw(), false);
    return;
  }
  const kernels::ReduceColsFn cols = kernels::reduce_cols_fn(x.dtype(), op);
  const auto in_size = static_cast<ptrdiff_t>(size_of(x.dtype()));
  const auto out_size = static_cast<ptrdiff_t>(size_of(out.dtype()));
  if (const auto m = Matrix::of(x, mask, true)) {
    for (int64_t i = 0; i < m->rows; ++i) {
      row(x.raw() + i * m->cols * in_size, 1, static_cast<size_t>(m->cols),
          out.raw() + i * out_size, false);
    }
    return;
  }
  if (const auto m = Matrix::of(x, mask, false)) {
    cols(x.raw(), m->cols, static_cast<size_t>(m->rows), static_cast<size_t>(m->cols), out.raw(),
         false);
    return;
  }
  int64_t out_strides[kMaxRank];
  reduced_strides(x.shape(), mask, out_strides);
  Plan plan(static_cast<size_t>(x.rank()), x.dims(), {x.strides(), out_strides});

  // One dim is left to the kernels: the innermost that is reduced, which is all of them as a rule,
  // for neighbours were merged. Where there are more, their results are added up in `out`.
  size_t n_reduced = 0;
  size_t at = 0;
  for (size_t d = plan.rank; d-- > 0;) {
    if (plan.strides[d][1] != 0) continue;
    ++n_reduced;
    at = d;
  }
  const bool accumulate = n_reduced > 1;
  if (accumulate || plan.empty) {
    for (int64_t i = 0; i < out.numel(); ++i) {
      row(nullptr, 0, 0, out.raw() + i * out_size, false);  // the neutral element
    }
  }
  if (plan.empty) return;
  size_t length = 1;
  ptrdiff_t stride = 1;
  if (n_reduced != 0) {
    length = plan.dims[at];
    stride = plan.strides[at][0];
    erase_dim(&plan, at);
  }
  kernels::for_each_row(plan, [&](const ptrdiff_t* offset, size_t n, const ptrdiff_t* step) {
    const std::byte* from = x.raw() + offset[0] * in_size;
    std::byte* to = out.raw() + offset[1] * out_size;
    if (n > 1 && at > 0 && step[0] == 1 && step[1] == 1) {
      cols(from, stride, length, n, to, accumulate);
      return;
    }
    for (size_t i = 0; i < n; ++i) {
      row(from, stride, length, to, accumulate);
      from += step[0] * in_size;
      to += step[1] * out_size;
    }
  });
}

Array spread(const Array& y, const Shape& shape, uint32_t mask) {
  int64_t strides[kMaxRank];
  reduced_strides(shape, mask, strides);
  return y.view(shape, strides, 0);
}

Array spread_gradient(const Array& g, const Shape& shape, uint32_t mask) {
  // Up to here a gradient without gaps, whose buffer the next op may take over, is worth filling.
  constexpr int64_t kFill = 16384;
  if (shape.numel() > kFill) return spread(contiguous(g), shape, mask);
  const Array out = Array::empty(g.dtype(), shape);
  if (g.numel() != 1) {
    copy_into(out, spread(contiguous(g), shape, mask));
    return out;
  }
  visit_differentiable(g.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::fill(*g.data<T>(), out.mutable_data<T>(), static_cast<size_t>(out.numel()));
  });
  return out;
}

Tensor keep_axes(const Tensor& y, const Shape& shape, const ReduceAttrs& a) {
  return a.keepdim || a.mask == 0 ? y : reshape(y, reduced_shape(shape, a.mask, true));
}

namespace {

// An operand of for_each_slice: its strides along the axes that are kept and along those that are
// reduced, these behind one place for the last of the kept.
struct SlicedArray {
  std::byte* from;
  int64_t kept[kMaxRank];
  int64_t reduced[kMaxRank + 1];
  Array buffer;  // undefined where the rows lie without gaps
  bool written;
};

}  // namespace

void for_each_slice(uint32_t mask, std::initializer_list<SliceOperand> operands,
                    absl::FunctionRef<void(std::byte* const* rows, int64_t i)> f) {
  constexpr size_t kMost = 4;
  constexpr int64_t kCopyBytes = 16384;  // of rows that are copied together
  const Array& first = *operands.begin()->array;
  const auto item = static_cast<int64_t>(size_of(first.dtype()));
  const size_t count = operands.size();
  if (const auto m = Matrix::of(first, mask, true)) {
    const bool dense = std::all_of(operands.begin(), operands.end(),
                                   [](const SliceOperand& o) { return o.array->is_contiguous(); });
    std::byte* rows[kMost];
    for (size_t k = 0; k < count; ++k) rows[k] = operands.begin()[k].array->raw();
    for (int64_t i = 0; dense && i < m->rows; ++i) {
      f(rows, i);
      for (size_t k = 0; k < count; ++k) rows[k] += m->cols * item;
    }
    if (dense) return;
  }
  Shape kept;
  int64_t dims[kMaxRank + 1];
  size_t rank = 1;
  int64_t n = 1;
  SlicedArray arrays[kMost];
  for (int i = 0; i < first.rank(); ++i) {
    const bool reduced = (mask >> i & 1) != 0;
    for (size_t k = 0; k < count; ++k) {
      const int64_t stride = operands.begin()[k].array->stride(i);
      (reduced ? arrays[k].reduced[rank] : arrays[k].kept[kept.rank()]) = stride;
    }
    if (!reduced) {
      kept.push_back(first.size(i));
    } else if (first.size(i) != 1) {
      dims[rank++] = first.size(i);
      n *= first.size(i);
    }
  }
  if (kept.numel() == 0) return;
  int64_t row_strides[kMaxRank + 1];
  row_strides[0] = n;
  for (int64_t stride = 1, d = static_cast<int64_t>(rank); --d > 0; stride *= dims[d]) {
    row_strides[d] = stride;
  }
  const int outer = std::max(kept.rank() - 1, 0);  // axes around the last one
  const int64_t last = kept.empty() ? 1 : kept[outer];

  int64_t block = last;
  for (size_t k = 0; k < count; ++k) {
    const SliceOperand& o = operands.begin()[k];
    SlicedArray& a = arrays[k];
    a.from = o.array->raw();
    a.written = o.written;
    a.reduced[0] = kept.empty() ? 0 : a.kept[outer];
    if (n == 0 || std::equal(a.reduced + 1, a.reduced + rank, row_strides + 1)) continue;
    block = std::clamp<int64_t>(kCopyBytes / (n * item), 1, last);
    a.buffer = Array::empty(first.dtype(), {block, n});
  }
  const size_t skip = kept.empty() ? 1 : 0;  // all eight axes may be reduced
  const auto copy = [&](const std::byte* from, const int64_t* from_strides, std::byte* to,
                        const int64_t* to_strides) {
    kernels::copy_strided(static_cast<size_t>(item), rank - skip, dims + skip, from,
                          from_strides + skip, to, to_strides + skip);
  };

  int64_t index[kMaxRank] = {0};
  int64_t i = 0;
  for (;;) {
    for (int64_t begin = 0; begin < last; begin += block) {
      dims[0] = std::min(block, last - begin);
      std::byte* rows[kMost];
      int64_t steps[kMost];
      for (size_t k = 0; k < count; ++k) {
        const SlicedArray& a = arrays[k];
        rows[k] = a.from + begin * a.reduced[0] * item;
        steps[k] = a.reduced[0] * item;
        if (!a.buffer.defined()) continue;
        if (!a.written) copy(rows[k], a.reduced, a.buffer.raw(), row_strides);
        rows[k] = a.buffer.raw();
        steps[k] = n * item;
      }
      for (int64_t r = 0; r < dims[0]; ++r) {
        f(rows, i++);
        for (size_t k = 0; k < count; ++k) rows[k] += steps[k];
      }
      for (size_t k = 0; k < count; ++k) {
        const SlicedArray& a = arrays[k];
        if (!a.buffer.defined() || !a.written) continue;
        copy(a.buffer.raw(), row_strides, a.from + begin * a.reduced[0] * item, a.reduced);
      }
    }
    int d = outer;
    while (--d >= 0) {
      for (size_t k = 0; k < count; ++k) arrays[k].from += arrays[k].kept[d] * item;
      if (++index[d] < kept[d]) break;
      for (size_t k = 0; k < count; ++k) arrays[k].from -= arrays[k].kept[d] * kept[d] * item;
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

}  // namespace ebb::ops
