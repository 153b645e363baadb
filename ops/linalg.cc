// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/linalg.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

[[noreturn]] void misfit(const OpDoc& doc, Span<const Meta> in, const char* rule) {
  throw ShapeError(absl::StrCat(doc.name, ": a is ", in[0].shape.str(), ", b is ",
                                in[1].shape.str(), "; ", rule));
}

void require_ranks(const OpDoc& doc, Span<const Meta> in, int a, int b, const char* rule) {
  require_inputs(doc, in, 2);
  require_floating(doc, in);
  require_same_dtype(doc, in);
  if (in[0].shape.rank() != a || in[1].shape.rank() != b) misfit(doc, in, rule);
}

// A matrix as the kernels take it: where it is the transpose of one in row-major order, that one
// and a flag, so that no transposed copy is made.
struct MatrixArg {
  explicit MatrixArg(const Array& a) : array(a) {
    const int64_t rows = a.size(0);
    const int64_t cols = a.size(1);
    if ((a.stride(1) == 1 || cols <= 1) && (a.stride(0) >= cols || rows <= 1)) {
      ld = rows <= 1 ? std::max<int64_t>(cols, 1) : a.stride(0);
    } else if (a.stride(0) == 1 && a.stride(1) >= rows) {
      trans = true;
      ld = a.stride(1);
    } else {
      array = contiguous(a);
      ld = std::max<int64_t>(cols, 1);
    }
  }
  Array array;
  bool trans = false;
  int64_t ld;
};

void run_mv(const Array& a, const Array& x, const Array& y) {
  const MatrixArg m(a);
  const Array v = contiguous(x);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    const int64_t rows = m.trans ? a.size(1) : a.size(0);
    const int64_t cols = m.trans ? a.size(0) : a.size(1);
    kernels::gemv(m.trans, rows, cols, T{1}, m.array.data<T>(), m.ld, v.data<T>(), T{0},
                  y.mutable_data<T>());
  });
}

void run_mm(const Array& a, const Array& b, const Array& c) {
  const MatrixArg ma(a);
  const MatrixArg mb(b);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::gemm(ma.trans, mb.trans, a.size(0), b.size(1), a.size(1), T{1}, ma.array.data<T>(),
                  ma.ld, mb.array.data<T>(), mb.ld, T{0}, c.mutable_data<T>(),
                  std::max<int64_t>(b.size(1), 1));
  });
}

}  // namespace

struct Mv {
  static constexpr OpDoc kDoc{"mv", "y = a x", "a:[m,k] x:[k] -> y:[m]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return {.in = detail::bit(1 - input)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    constexpr const char* kRule = "they must be [m,k] and [k]";
    require_ranks(kDoc, in, 2, 1, kRule);
    if (in[0].shape[1] != in[1].shape[0]) misfit(kDoc, in, kRule);
    return {{in[0].dtype, {in[0].shape[0]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_mv(in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    const auto m = static_cast<double>(in[0].shape[0]);
    const auto k = static_cast<double>(in[0].shape[1]);
    return {m * k, (m * k + m + k) * static_cast<double>(size_of(in[0].dtype))};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? outer(g[0], s.in(1)) : Tensor(),
            s.needs(1) ? mv(t(s.in(0)), g[0]) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& gy = g[0];
    if (s.needs(1)) {
      const Array& a = s.in_array(0);
      Array gx = Array::empty(a.dtype(), {a.size(1)});
      run_mv(transposed(a), gy, gx);
      sink.add(1, std::move(gx));
    }
    if (s.needs(0)) {
      const Array& x = s.in_array(1);
      sink.add(0, Gradient({x.dtype(), {gy.size(0), x.size(0)}}, Outer{gy, x}));
    }
  }
};
EBB_OP(Mv)

struct Mm {
  static constexpr OpDoc kDoc{"mm", "y = a b", "a:[m,k] b:[k,n] -> y:[m,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return {.in = detail::bit(1 - input)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    constexpr const char* kRule = "they must be [m,k] and [k,n]";
    require_ranks(kDoc, in, 2, 2, kRule);
    if (in[0].shape[1] != in[1].shape[0]) misfit(kDoc, in, kRule);
    return {{in[0].dtype, {in[0].shape[0], in[1].shape[1]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_mm(in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    const auto m = static_cast<double>(in[0].shape[0]);
    const auto k = static_cast<double>(in[0].shape[1]);
    const auto n = static_cast<double>(in[1].shape[1]);
    return {m * k * n, (m * k + k * n + m * n) * static_cast<double>(size_of(in[0].dtype))};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? mm(g[0], t(s.in(1))) : Tensor(),
            s.needs(1) ? mm(t(s.in(0)), g[0]) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array& gy = g[0];
    // Each is a sum of as many rank-one products as the other operand has rows or columns; the
    // gradient multiplies them out as soon as that is cheaper.
    if (s.needs(0)) {
      const Array& b = s.in_array(1);
      sink.add(0, Gradient({b.dtype(), {gy.size(0), b.size(0)}},
                           Outer{transposed(gy), transposed(b)}));
    }
    if (s.needs(1)) {
      const Array& a = s.in_array(0);
      sink.add(1, Gradient({a.dtype(), {a.size(1), gy.size(1)}}, Outer{a, gy}));
    }
  }
};
EBB_OP(Mm)

struct OuterProduct {
  static constexpr OpDoc kDoc{"outer", "y[i,j] = u[i] v[j]", "u:[m] v:[n] -> y:[m,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return {.in = detail::bit(1 - input)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, 1, 1, "they must be vectors");
    return {{in[0].dtype, {in[0].shape[0], in[1].shape[0]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array u = contiguous(in[0]);
    const Array v = contiguous(in[1]);
    visit_differentiable(u.dtype(), [&](auto t) {
      using T = decltype(t);
      const int64_t n = v.size(0);
      for (int64_t i = 0; i < u.size(0); ++i) {
        kernels::scale(u.data<T>()[i], v.data<T>(), out[0].mutable_data<T>() + i * n,
                       static_cast<size_t>(n));
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? mv(g[0], s.in(1)) : Tensor(),
            s.needs(1) ? mv(t(g[0]), s.in(0)) : Tensor()};
  }
};
EBB_OP(OuterProduct)

}  // namespace ops

Tensor mv(const Tensor& a, const Tensor& x, Where where) { return apply<ops::Mv>(At(a, where), x); }
Tensor mm(const Tensor& a, const Tensor& b, Where where) { return apply<ops::Mm>(At(a, where), b); }
Tensor outer(const Tensor& u, const Tensor& v, Where where) {
  return apply<ops::OuterProduct>(At(u, where), v);
}

}  // namespace ebb
