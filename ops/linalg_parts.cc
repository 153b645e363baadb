// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

// The parts of a matrix: triangles and diagonals.
namespace ebb {
namespace ops {

namespace {

void require_matrices(const OpDoc& doc, Span<const Meta> in) {
  require_inputs(doc, in, 1);
  if (in[0].shape.rank() >= 2) return;
  throw ShapeError(
      absl::StrCat(doc.name, ": x is ", in[0].shape.str(), "; it must have two axes at least"));
}

int64_t diagonal_size(int64_t rows, int64_t cols, int64_t offset) {
  return std::max<int64_t>(
      std::min(rows + std::min<int64_t>(offset, 0), cols - std::max<int64_t>(offset, 0)), 0);
}

// The diagonal of a matrix, as a view.
Array diagonal_of(const Array& a, int64_t offset) {
  const int64_t n = diagonal_size(a.size(0), a.size(1), offset);
  const int64_t strides[] = {a.stride(0) + a.stride(1)};
  if (n == 0) return a.view({0}, strides, 0);
  return a.view({n}, strides, offset < 0 ? -offset * a.stride(0) : offset * a.stride(1));
}

void fill_zero(const Array& a) {
  if (a.numel() != 0) std::memset(a.raw(), 0, static_cast<size_t>(a.numel()) * size_of(a.dtype()));
}

}  // namespace

struct OffsetAttrs {
  int64_t offset;
};

template <class Op, bool upper>
struct Triangle {
  using Attrs = OffsetAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("offset=", a.offset); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_matrices(Op::kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (out[0].numel() == 0) return;
    const Array x = contiguous(in[0]);
    const int64_t rows = x.size(x.rank() - 2);
    const int64_t cols = x.size(x.rank() - 1);
    const auto item = static_cast<int64_t>(size_of(x.dtype()));
    const std::byte* from = x.raw();
    std::byte* to = out[0].raw();
    const int64_t offset = std::clamp(a.offset, -rows, cols);
    for (int64_t i = 0; i < x.numel() / cols; ++i) {
      // The row is x before element `cut` and 0 from there on, or the other way round.
      const int64_t cut = std::clamp<int64_t>(i % rows + offset + (upper ? 0 : 1), 0, cols);
      const auto left = static_cast<size_t>(cut * item);
      const auto right = static_cast<size_t>((cols - cut) * item);
      if (upper) {
        std::memset(to, 0, left);
        std::memcpy(to + left, from + left, right);
      } else {
        std::memcpy(to, from, left);
        std::memset(to + left, 0, right);
      }
      from += cols * item;
      to += cols * item;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Op>(s.attrs<Attrs>(), g[0])};
  }
};

struct Tril : Triangle<Tril, false> {
  static constexpr OpDoc kDoc{"tril", "y[..,i,j] = x[..,i,j] where j <= i + offset, else 0",
                              "x:[...,m,n] -> y:[...,m,n]"};
};
EBB_OP(Tril)

struct Triu : Triangle<Triu, true> {
  static constexpr OpDoc kDoc{"triu", "y[..,i,j] = x[..,i,j] where j >= i + offset, else 0",
                              "x:[...,m,n] -> y:[...,m,n]"};
};
EBB_OP(Triu)

struct Diag {
  static constexpr OpDoc kDoc{"diag", "y = the matrix with diagonal x, or the diagonal of x",
                              "x:[n] -> y:[n+|offset|,n+|offset|], x:[m,n] -> y:[k]"};
  struct Attrs {
    int64_t offset;
    // Of the matrix made from a vector; -1 for the smallest, which is square. The gradient of a
    // diagonal has that of the matrix it came from.
    int64_t rows = -1;
    int64_t cols = -1;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("offset=", a.offset); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    const Shape& x = in[0].shape;
    if (x.rank() == 2) return {{in[0].dtype, {diagonal_size(x[0], x[1], a.offset)}}};
    if (x.rank() != 1) {
      throw ShapeError(absl::StrCat("diag: x is ", x.str(), "; it must be a vector or a matrix"));
    }
    if (a.rows >= 0) return {{in[0].dtype, {a.rows, a.cols}}};
    constexpr int64_t kLimit = int64_t{1} << 31;
    if (a.offset >= kLimit || a.offset <= -kLimit) {
      throw ShapeError(
          absl::StrCat("diag: x is ", x.str(), "; offset ", a.offset, " makes too large a matrix"));
    }
    const int64_t n = x[0] + std::abs(a.offset);
    return {{in[0].dtype, {n, n}}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (in[0].rank() == 2) {
      copy_into(out[0], diagonal_of(in[0], a.offset));
    } else {
      fill_zero(out[0]);
      copy_into(diagonal_of(out[0], a.offset), in[0]);
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int64_t offset = s.attrs<Attrs>().offset;
    const Shape x = s.in_shape(0);
    if (x.rank() == 1) return {diag(g[0], offset)};
    return {apply_with<Diag>({offset, x[0], x[1]}, g[0])};
  }
};
EBB_OP(Diag)

struct Trace {
  static constexpr OpDoc kDoc{"trace", "y = sum_i x[i,i]", "x:[m,n] -> y:[]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    const Meta& x = in[0];
    if (x.shape.rank() != 2) {
      throw ShapeError(absl::StrCat("trace: x is ", x.shape.str(), "; it must be a matrix"));
    }
    if (!is_differentiable(x.dtype) && !is_integral(x.dtype)) {
      throw DTypeError(absl::StrCat("trace: x is ", x.str(), "; convert it to float32 first"));
    }
    return {{is_integral(x.dtype) ? kInt64 : x.dtype, {}}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    const auto n = static_cast<double>(diagonal_size(in[0].shape[0], in[0].shape[1], 0));
    return {n, n * static_cast<double>(size_of(in[0].dtype)) +
                   static_cast<double>(size_of(out[0].dtype))};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array d = diagonal_of(in[0], 0);
    visit_arithmetic(d.dtype(), [&](auto t) {
      using T = decltype(t);
      using Sum = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
      Sum sum = 0;
      const T* p = d.data<T>();
      for (int64_t i = 0; i < d.size(0); ++i) sum += static_cast<Sum>(p[i * d.stride(0)]);
      using Result = std::conditional_t<std::is_floating_point_v<T>, T, int64_t>;
      *out[0].mutable_data<Result>() = static_cast<Result>(sum);
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape x = s.in_shape(0);
    return {apply_with<Diag>({0, x[0], x[1]}, expand(g[0], {std::min(x[0], x[1])}))};
  }
};
EBB_OP(Trace)

}  // namespace ops

Tensor tril(const Tensor& x, int64_t offset, Where where) {
  return apply_with<ops::Tril>({offset}, At(x, where));
}
Tensor triu(const Tensor& x, int64_t offset, Where where) {
  return apply_with<ops::Triu>({offset}, At(x, where));
}
Tensor diag(const Tensor& x, int64_t offset, Where where) {
  return apply_with<ops::Diag>({offset}, At(x, where));
}
Tensor trace(const Tensor& x, Where where) { return apply<ops::Trace>(At(x, where)); }

}  // namespace ebb
