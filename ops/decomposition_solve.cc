// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/ops/decomposition.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/lapack.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/matrix_stack.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// Linear systems, by triangular and LU factors.
namespace ebb {
namespace ops {

namespace {

// The shape that a right-hand side counts as: a vector is a column, or a row on the left of a.
Shape as_matrix(const Shape& b, bool left) {
  if (b.rank() != 1) return b;
  return left ? Shape{b[0], 1} : Shape{1, b[0]};
}

// The shape of x in a x = b, or x a = b, as matrices.
Shape solution_shape(const Shape& a, const Shape& b, bool left) {
  const Stack s(as_matrix(b, left));
  Shape batch;
  broadcast_shapes(batch_of(a), batch_of(as_matrix(b, left)), &batch);
  return with_matrix(batch, s.rows, s.cols);
}

// Checks a and b; gives the shape of x.
Shape infer_solution(const OpDoc& doc, Span<const Meta> in, bool left) {
  require_inputs(doc, in, 2);
  require_floating(doc, in);
  require_same_dtype(doc, in);
  const Shape& a = in[0].shape;
  const Shape& b = in[1].shape;
  require_stack(doc, a, "a", true);
  if (b.rank() == 0) {
    throw ShapeError(absl::StrCat(doc.name, ": b is a scalar; it must be a vector or a matrix"));
  }
  const Shape matrix = as_matrix(b, left);
  const int axis = left ? -2 : -1;
  const int64_t n = a[a.rank() - 1];
  if (matrix[matrix.rank() + axis] != n) {
    throw ShapeError(absl::StrCat(doc.name, ": a is ", a.str(), ", b is ", b.str(), "; b.size(",
                                  b.rank() == 1 ? -1 : axis, ")=", matrix[matrix.rank() + axis],
                                  " must equal a.size(-1)=", n));
  }
  Shape batch;
  if (!broadcast_shapes(batch_of(a), batch_of(matrix), &batch)) {
    throw ShapeError(absl::StrCat(doc.name, ": a is ", a.str(), ", b is ", b.str(),
                                  "; the axes before the last two must be equal or 1"));
  }
  if (b.rank() > 1) return solution_shape(a, b, left);
  batch.push_back(n);
  return batch;
}

// b, or a gradient of x, with its vectors as matrices.
Tensor as_matrices(const Tensor& x, const Shape& b, bool left) {
  return b.rank() == 1 ? unsqueeze(x, left ? -1 : -2) : x;
}

// The gradient of b, from that of b as matrices, repeated to the shape of x.
Tensor gradient_of_b(const Tensor& g, const Shape& b, bool left) {
  const Tensor sum = sum_to(g, as_matrix(b, left));
  return b.rank() == 1 ? reshape(sum, b) : sum;
}

void copy_broadcast(const Array& to, const Array& from) {
  int64_t strides[kMaxRank];
  broadcast_strides(from, to.shape(), strides);
  copy_into(to, from.view(to.shape(), strides, 0));
}

Cost solve_cost(double scale, Span<const Meta> in, Span<const Meta> out) {
  Cost c = detail::default_cost(in, out);
  const Stack a(in[0].shape);
  const auto n = static_cast<double>(a.rows);
  c.multiply_adds = scale * static_cast<double>(a.count) * n * n * n;
  if (in.size() > 1) c.multiply_adds += static_cast<double>(out[0].shape.numel()) * n;
  return c;
}

// Factors the matrices of `lu`, which hold those of a, in place. With `op` that needs an inverse, a
// singular one is a NumericError.
void factor(const OpDoc& op, const Array& lu, int32_t* pivots, bool may_be_singular) {
  const Stack s(lu.shape());
  visit_differentiable(lu.dtype(), [&](auto t) {
    for (int64_t i = 0; i < s.count; ++i) {
      auto* a = lu.mutable_data<decltype(t)>() + i * s.numel();
      const int64_t zero = kernels::lu(s.rows, a, pivots + i * s.rows);
      if (zero == 0 || may_be_singular) continue;
      throw NumericError(
          absl::StrCat(about_matrix(op, lu.shape(), i), "is singular: pivot ", zero - 1, " is 0"));
    }
  });
}

using Pivots = std::vector<int32_t, detail::PoolAllocator<int32_t>>;

}  // namespace

struct TriangularSolve {
  static constexpr OpDoc kDoc{"triangular_solve", "op(a) x = b, or x op(a) = b, a triangular",
                              "a:[...,n,n] b:[...,n,k] -> x:[...,n,k]"};
  using Attrs = TriangularSolveOptions;
  static std::string describe(const Attrs& a) {
    return absl::StrCat(a.upper ? "upper" : "lower", a.left ? " left" : " right",
                        a.transpose ? " transpose" : "", a.unitriangular ? " unitriangular" : "");
  }
  static constexpr GradUses uses(int input) {
    return {.in = 1, .out = input == 0 ? 1u : 0u, .shapes = 0b10};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    return {{in[0].dtype, infer_solution(kDoc, in, a.left)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = solve_cost(0, in, out);
    c.multiply_adds /= 2;
    return c;
  }
  static void forward(const Attrs& attrs, Span<const Array> in, Span<Array> out) {
    const Array a = contiguous(in[0]);
    const Stack s(a.shape());
    if (!attrs.unitriangular) require_pivots(a, s);
    const Shape shape = solution_shape(a.shape(), in[1].shape(), attrs.left);
    const Shape b = as_matrix(in[1].shape(), attrs.left);
    const Array x = out[0].view_as(shape);
    copy_broadcast(x, in[1].rank() == 1 ? contiguous(in[1]).view_as(b) : in[1]);
    const Stack sx(shape);
    visit_differentiable(a.dtype(), [&](auto t) {
      using T = decltype(t);
      for_broadcast_stacks(shape, a.shape(), b, [&](int64_t i, int64_t j, int64_t) {
        kernels::triangular_solve(attrs.left, attrs.upper, attrs.transpose, attrs.unitriangular,
                                  sx.rows, sx.cols, a.data<T>() + j * s.numel(),
                                  x.mutable_data<T>() + i * sx.numel());
      });
    });
  }
  static void require_pivots(const Array& a, const Stack& s) {
    visit_differentiable(a.dtype(), [&](auto t) {
      const auto* p = a.data<decltype(t)>();
      for (int64_t i = 0; i < s.count * s.rows; ++i) {
        if (p[i / s.rows * s.numel() + i % s.rows * (s.cols + 1)] != 0) continue;
        throw NumericError(absl::StrCat(about_matrix(kDoc, a.shape(), i / s.rows),
                                        "is singular: pivot ", i % s.rows, " is 0"));
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& attrs = s.attrs<Attrs>();
    const Tensor a = s.in(0);
    const Shape b = s.in_shape(1);
    Attrs other = attrs;
    other.transpose = !attrs.transpose;
    const Tensor gb = triangular_solve(a, as_matrices(g[0], b, attrs.left), other);
    Grads result(2);
    if (s.needs(0)) {
      const Tensor x = as_matrices(s.out(0), b, attrs.left);
      const bool plain = attrs.left != attrs.transpose;
      const Tensor p = attrs.left ? matmul(plain ? gb : x, mt(plain ? x : gb))
                                  : matmul(mt(plain ? gb : x), plain ? x : gb);
      const int64_t offset = attrs.unitriangular ? 1 : 0;
      result[0] = sum_to(-(attrs.upper ? triu(p, offset) : tril(p, -offset)), a.shape());
    }
    if (s.needs(1)) result[1] = gradient_of_b(gb, b, attrs.left);
    return result;
  }
};
EBB_OP(TriangularSolve)

struct Solve {
  static constexpr OpDoc kDoc{"solve", "a x = b; also the factors of a",
                              "a:[...,n,n] b:[...,n,k] -> x:[...,n,k] lu:[...,n,n] pivots:[...,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) {
    return {.in = 1, .out = input == 0 ? 0b111u : 0b110u, .shapes = 0b10};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    const Shape x = infer_solution(kDoc, in, true);
    Shape pivots = in[0].shape;
    return {{in[0].dtype, x},
            in[0],
            {kInt32, Shape(pivots.data(), static_cast<size_t>(pivots.rank() - 1))}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return solve_cost(1.0 / 3, in, out.first(1));
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_into(out[1], in[0]);
    factor(kDoc, out[1], out[2].mutable_data<int32_t>(), false);
    substitute(false, out[1], out[2], in[1], in[1].rank() == 1, out[0]);
  }
  // x = a^-1 b, or a'^-1 b, by the factors; b and x of vectors or of matrices.
  static void substitute(bool transpose, const Array& lu, const Array& pivots, const Array& b,
                         bool vectors, const Array& x) {
    Shape from = b.shape();
    Shape to = x.shape();
    if (vectors) {
      from.push_back(1);
      to.push_back(1);
    }
    const Array out = x.view_as(to);
    copy_broadcast(out, vectors ? contiguous(b).view_as(from) : b);
    const Stack s(lu.shape());
    const Stack sx(to);
    visit_differentiable(lu.dtype(), [&](auto t) {
      using T = decltype(t);
      for_broadcast_stacks(to, lu.shape(), from, [&](int64_t i, int64_t j, int64_t) {
        kernels::lu_solve(transpose, s.rows, sx.cols, lu.data<T>() + j * s.numel(),
                          pivots.data<int32_t>() + j * s.rows,
                          out.mutable_data<T>() + i * sx.numel());
      });
    });
  }
  // From the gradient of b, as matrices.
  static Grads gradients(const Saved& s, const Tensor& gb) {
    const Shape b = s.in_shape(1);
    Grads result(2);
    if (s.needs(0)) {
      result[0] = sum_to(-matmul(gb, mt(as_matrices(s.out(0), b, true))), s.in_shape(0));
    }
    if (s.needs(1)) result[1] = gradient_of_b(gb, b, true);
    return result;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return gradients(s, solve(mt(s.in(0)), as_matrices(g[0], s.in_shape(1), true)));
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const bool vectors = s.in_shape(1).rank() == 1;
    const Array gb = Array::empty_like(g[0]);
    substitute(true, s.out_array(1), s.out_array(2), g[0], vectors, gb);
    const Grads result = gradients(s, as_matrices(Tensor(gb), s.in_shape(1), true));
    for (int i = 0; i < 2; ++i) {
      const Tensor& r = result[static_cast<size_t>(i)];
      if (r.defined()) sink.add(i, r.value());
    }
  }
};
EBB_OP(Solve)

struct Inverse {
  static constexpr OpDoc kDoc{"inverse", "a y = 1", "a:[...,n,n] -> y:[...,n,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.out = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_stack(kDoc, in, true);
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return solve_cost(1, in, out);
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Stack s(in[0].shape());
    Pivots pivots(static_cast<size_t>(s.count * s.rows));
    copy_into(out[0], in[0]);
    factor(kDoc, out[0], pivots.data(), false);
    visit_differentiable(in[0].dtype(), [&](auto t) {
      for (int64_t i = 0; i < s.count; ++i) {
        kernels::lu_inverse(s.rows, out[0].mutable_data<decltype(t)>() + i * s.numel(),
                            pivots.data() + i * s.rows);
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor y = mt(s.out(0));
    return {-matmul(matmul(y, g[0]), y)};
  }
};
EBB_OP(Inverse)

namespace {

// Sign and logarithm of the absolute value of each determinant.
void run_slogdet(const OpDoc& doc, const Array& a, const Array& sign, const Array& logabs) {
  const Stack s(a.shape());
  Pivots pivots(static_cast<size_t>(s.count * s.rows));
  const Array lu = copy(a);
  factor(doc, lu, pivots.data(), true);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    for (int64_t i = 0; i < s.count; ++i) {
      const T* factors = lu.data<T>() + i * s.numel();
      double sum = 0;
      double direction = 1;
      for (int64_t k = 0; k < s.rows; ++k) {
        const T pivot = factors[k * (s.cols + 1)];
        const bool flips = (pivot < 0) != (pivots[static_cast<size_t>(i * s.rows + k)] != k);
        direction *= pivot == 0 ? 0 : flips ? -1 : 1;
        sum += std::log(std::abs(static_cast<double>(pivot)));
      }
      sign.mutable_data<T>()[i] = static_cast<T>(std::isnan(sum) ? sum : direction);
      logabs.mutable_data<T>()[i] = static_cast<T>(sum);
    }
  });
}

Metas infer_determinants(const OpDoc& doc, Span<const Meta> in, size_t outputs) {
  require_stack(doc, in, true);
  return Metas(outputs, Meta{in[0].dtype, batch_of(in[0].shape)});
}

Tensor logdet_gradient(const Saved& s, const Tensor& g) {
  return unsqueeze(unsqueeze(g, -1), -1) * mt(inverse(s.in(0)));
}

}  // namespace

struct Logdet {
  static constexpr OpDoc kDoc{"logdet", "y = log det a", "a:[...,n,n] -> y:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return infer_determinants(kDoc, in, 1); }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return solve_cost(1.0 / 3, in, out);
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array sign = Array::empty_like(out[0]);
    run_slogdet(kDoc, in[0], sign, out[0]);
    visit_differentiable(sign.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t i = 0; i < sign.numel(); ++i) {
        if (sign.data<T>()[i] < 0) out[0].mutable_data<T>()[i] = std::nan("");
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {logdet_gradient(s, g[0])}; }
};
EBB_OP(Logdet)

struct Slogdet {
  static constexpr OpDoc kDoc{"slogdet", "sign = sign(det a), y = log |det a|",
                              "a:[...,n,n] -> sign:[...] y:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return infer_determinants(kDoc, in, 2); }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return solve_cost(1.0 / 3, in, out);
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_slogdet(kDoc, in[0], out[0], out[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {g.has(1) ? logdet_gradient(s, g[1]) : Tensor()};
  }
};
EBB_OP(Slogdet)

}  // namespace ops

Tensor triangular_solve(const Tensor& a, const Tensor& b, const TriangularSolveOptions& options,
                        Where where) {
  return apply_with<ops::TriangularSolve>(options, At(a, where), b);
}

Tensor solve(const Tensor& a, const Tensor& b, Where where) {
  return std::move(apply_multi<ops::Solve>({}, At(a, where), b)[0]);
}

Tensor inverse(const Tensor& a, Where where) { return apply<ops::Inverse>(At(a, where)); }
Tensor logdet(const Tensor& a, Where where) { return apply<ops::Logdet>(At(a, where)); }

SlogdetResult slogdet(const Tensor& a, Where where) {
  auto out = apply_multi<ops::Slogdet>({}, At(a, where));
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace ebb
