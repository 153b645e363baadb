// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/decomposition.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/kernels/lapack.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/matrix_stack.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

// Of a factorisation that takes about `scale` n^3 multiply-adds for a matrix [n,n].
Cost cubic_cost(double scale, Span<const Meta> in, Span<const Meta> out) {
  Cost c = detail::default_cost(in, out);
  const Stack s(in[0].shape);
  const auto rows = static_cast<double>(s.rows);
  const auto cols = static_cast<double>(s.cols);
  c.multiply_adds = scale * static_cast<double>(s.count) * rows * cols * std::min(rows, cols);
  return c;
}

Tensor sum_of(const Tensor& a, const Tensor& b) {
  return !a.defined() ? b : !b.defined() ? a : a + b;
}

Tensor symmetric_part(const Tensor& x) { return (x + mt(x)) * 0.5; }

// A vector as what scales the columns of a matrix, or its rows.
Tensor over_columns(const Tensor& x) { return unsqueeze(x, -2); }
Tensor over_rows(const Tensor& x) { return unsqueeze(x, -1); }

[[noreturn]] void no_convergence(const OpDoc& doc, const Shape& shape, int64_t index) {
  throw NumericError(absl::StrCat(about_matrix(doc, shape, index), "did not converge"));
}

}  // namespace

struct Cholesky {
  static constexpr OpDoc kDoc{"cholesky", "a = y y', y lower triangular; or a = y' y, y upper",
                              "a:[...,n,n] -> y:[...,n,n]"};
  struct Attrs {
    bool upper;
  };
  static std::string describe(const Attrs& a) { return a.upper ? "upper" : "lower"; }
  static constexpr GradUses uses(int) { return {.out = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_stack(kDoc, in, true);
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cubic_cost(1.0 / 6, in, out);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Stack s(in[0].shape());
    copy_into(out[0], in[0]);
    visit_differentiable(in[0].dtype(), [&](auto t) {
      for (int64_t i = 0; i < s.count; ++i) {
        auto* y = out[0].mutable_data<decltype(t)>() + i * s.numel();
        const int64_t minor = kernels::cholesky(a.upper, s.rows, y);
        if (minor == 0) continue;
        throw NumericError(absl::StrCat(about_matrix(kDoc, in[0].shape(), i),
                                        "is not positive definite: pivot ", minor - 1,
                                        " is not positive"));
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const bool upper = s.attrs<Attrs>().upper;
    const Tensor l = upper ? mt(s.out(0)) : s.out(0);
    const Tensor gl = upper ? mt(g[0]) : g[0];
    // The lower triangle of l' gl with its diagonal halved, between the inverses of l' and l.
    const Tensor m = matmul(mt(l), gl);
    const Tensor p = (tril(m) + tril(m, -1)) * 0.5;
    const Tensor x = triangular_solve(l, p, {.upper = false, .transpose = true});
    return {symmetric_part(triangular_solve(l, x, {.upper = false, .left = false}))};
  }
};
EBB_OP(Cholesky)

struct Qr {
  static constexpr OpDoc kDoc{"qr", "a = q r, q orthonormal, r upper triangular, r[i,i] >= 0",
                              "a:[...,m,n] -> q:[...,m,k] r:[...,k,n], k = min(m,n)"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.out = 0b11}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_stack(kDoc, in, false);
    const Stack s(in[0].shape);
    const Shape batch = batch_of(in[0].shape);
    const int64_t k = std::min(s.rows, s.cols);
    return {{in[0].dtype, with_matrix(batch, s.rows, k)},
            {in[0].dtype, with_matrix(batch, k, s.cols)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cubic_cost(2, in, out);
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Stack s(in[0].shape());
    const int64_t k = std::min(s.rows, s.cols);
    const Array a = copy(in[0]);
    visit_differentiable(a.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t i = 0; i < s.count; ++i) {
        kernels::qr(s.rows, s.cols, a.mutable_data<T>() + i * s.numel(),
                    out[0].mutable_data<T>() + i * s.rows * k,
                    out[1].mutable_data<T>() + i * k * s.cols);
      }
    });
  }
  // Of square or tall a.
  static Tensor tall(const Tensor& q, const Tensor& r, const Tensor& gq, const Tensor& gr) {
    Tensor m;
    if (gr.defined()) m = matmul(r, mt(gr));
    if (gq.defined()) m = sum_of(m, -matmul(mt(gq), q));
    const Tensor from_lower = tril(m) + mt(tril(m, -1));
    return triangular_solve(r, sum_of(gq, matmul(q, from_lower)),
                            {.upper = true, .left = false, .transpose = true});
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor q = s.out(0);
    const Tensor r = s.out(1);
    const int64_t k = r.size(-2);
    const int64_t n = r.size(-1);
    if (k == n) return {tall(q, r, g[0], g[1])};
    // a = [x y] with x square: x = q r_x, and y = q r_y passes on to q.
    const Tensor rx = slice(r, -1, 0, k);
    if (!g.has(1)) return {widened(tall(q, rx, g[0], Tensor()), n)};
    const Tensor gy = g[1] * Tensor(right_part(r.dtype(), k, n));
    const Tensor gq = sum_of(g[0], matmul(q, matmul(r, mt(gy))));
    return {widened(tall(q, rx, gq, slice(g[1], -1, 0, k)), n) + matmul(q, gy)};
  }
  // Zero columns at the right.
  static Tensor widened(const Tensor& x, int64_t n) {
    const Array left = Array::zeros(x.dtype(), {x.size(-1), n});
    copy_into(left.view({x.size(-1), x.size(-1)}, left.strides(), 0),
              identity(x.dtype(), x.size(-1)).value());
    return matmul(x, Tensor(left));
  }
  // 1 from column k on.
  static Array right_part(DType dtype, int64_t k, int64_t n) {
    const Array mask = Array::full(dtype, {n}, 1);
    copy_into(mask.view({k}, mask.strides(), 0), Array::zeros(dtype, {k}));
    return mask;
  }
};
EBB_OP(Qr)

struct Svd {
  static constexpr OpDoc kDoc{"svd", "a = u diag(s) vh, u and vh' orthonormal, s descending",
                              "a:[...,m,n] -> u:[...,m,k] s:[...,k] vh:[...,k,n], k = min(m,n)"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.out = 0b111}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_stack(kDoc, in, false);
    const Stack s(in[0].shape);
    const Shape batch = batch_of(in[0].shape);
    const int64_t k = std::min(s.rows, s.cols);
    Shape values = batch;
    values.push_back(k);
    return {{in[0].dtype, with_matrix(batch, s.rows, k)},
            {in[0].dtype, values},
            {in[0].dtype, with_matrix(batch, k, s.cols)}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cubic_cost(10, in, out);
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Stack s(in[0].shape());
    const int64_t k = std::min(s.rows, s.cols);
    const Array a = copy(in[0]);
    require_finite(kDoc, a);
    visit_differentiable(a.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t i = 0; i < s.count; ++i) {
        if (!kernels::svd(s.rows, s.cols, a.mutable_data<T>() + i * s.numel(),
                          out[0].mutable_data<T>() + i * s.rows * k,
                          out[1].mutable_data<T>() + i * k,
                          out[2].mutable_data<T>() + i * k * s.cols)) {
          no_convergence(kDoc, in[0].shape(), i);
        }
      }
    });
  }
  static Grads backward(const Saved& saved, const OutGrads& g) {
    const Tensor u = saved.out(0);
    const Tensor s = saved.out(1);
    const Tensor vh = saved.out(2);
    const int64_t k = s.size(-1);
    Tensor left;  // the gradient is left * vh, and for wide a + u * right
    Tensor right;
    if (g.has(1)) left = u * over_columns(g[1]);
    if (g.has(0) || g.has(2)) {
      // s_j^2 - s_i^2; on the diagonal, where it divides 0, it is 1.
      const Tensor gaps = (over_columns(s) - over_rows(s)) * (over_columns(s) + over_rows(s)) +
                          identity(s.dtype(), k);
      Tensor core;
      if (g.has(0)) {
        const Tensor m = matmul(mt(u), g[0]);
        core = (m - mt(m)) / gaps * over_columns(s);
        if (u.size(-2) > k) left = sum_of(left, (g[0] - matmul(u, m)) / over_columns(s));
      }
      if (g.has(2)) {
        const Tensor m = matmul(vh, mt(g[2]));
        core = sum_of(core, (m - mt(m)) / gaps * over_rows(s));
        if (vh.size(-1) > k) right = (g[2] - matmul(mt(m), vh)) / over_rows(s);
      }
      left = sum_of(left, matmul(u, core));
    }
    const Tensor ga = matmul(left, vh);
    return {right.defined() ? ga + matmul(u, right) : ga};
  }
};
EBB_OP(Svd)

struct Eigh {
  static constexpr OpDoc kDoc{"eigh", "a = v diag(w) v' for symmetric a, w ascending",
                              "a:[...,n,n] -> w:[...,n] v:[...,n,n]"};
  struct Attrs {
    bool upper;
  };
  static std::string describe(const Attrs& a) { return a.upper ? "upper" : "lower"; }
  static constexpr GradUses uses(int) { return {.out = 0b11}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_stack(kDoc, in, true);
    Shape values = batch_of(in[0].shape);
    values.push_back(Stack(in[0].shape).rows);
    return {{in[0].dtype, values}, in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return cubic_cost(5, in, out);
  }
  static void forward(const Attrs& attrs, Span<const Array> in, Span<Array> out) {
    const Stack s(in[0].shape());
    const Array a = copy(in[0]);
    require_finite(kDoc, a);
    visit_differentiable(a.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t i = 0; i < s.count; ++i) {
        if (!kernels::eigh(attrs.upper, s.rows, a.mutable_data<T>() + i * s.numel(),
                           out[0].mutable_data<T>() + i * s.rows,
                           out[1].mutable_data<T>() + i * s.numel())) {
          no_convergence(kDoc, in[0].shape(), i);
        }
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor w = s.out(0);
    const Tensor v = s.out(1);
    Tensor left;  // the gradient is the symmetric part of left * v'
    if (g.has(0)) left = v * over_columns(g[0]);
    if (g.has(1)) {
      const Tensor one = identity(w.dtype(), w.size(-1));
      const Tensor factors = 1.0 / (over_columns(w) - over_rows(w) + one) - one;
      left = sum_of(left, matmul(v, factors * matmul(mt(v), g[1])));
    }
    return {symmetric_part(matmul(left, mt(v)))};
  }
};
EBB_OP(Eigh)

}  // namespace ops

Tensor cholesky(const Tensor& a, bool upper, Where where) {
  return apply_with<ops::Cholesky>({upper}, At(a, where));
}

QrResult qr(const Tensor& a, Where where) {
  auto out = apply_multi<ops::Qr>({}, At(a, where));
  return {std::move(out[0]), std::move(out[1])};
}

SvdResult svd(const Tensor& a, Where where) {
  auto out = apply_multi<ops::Svd>({}, At(a, where));
  return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
}

EighResult eigh(const Tensor& a, bool upper, Where where) {
  auto out = apply_multi<ops::Eigh>({upper}, At(a, where));
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace ebb
