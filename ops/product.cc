// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/product.h"

#include <algorithm>

#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/strided.h"

namespace ebb::ops {

Matrices::Matrices(const Array& a, bool transpose) : array_(a), trans_(transpose) {
  const int r = a.rank();
  const int64_t rows = a.size(r - 2);
  const int64_t cols = a.size(r - 1);
  const int64_t down = a.stride(r - 2);
  const int64_t right = a.stride(r - 1);
  if ((right == 1 || cols <= 1) && (down >= std::max<int64_t>(cols, 1) || rows <= 1)) {
    ld_ = rows <= 1 ? std::max<int64_t>(cols, 1) : down;
  } else if (down == 1 && right >= rows) {
    trans_ = !trans_;
    ld_ = right;
  } else {
    copy_ = contiguous(a);
    ld_ = std::max<int64_t>(cols, 1);
  }
}

namespace {

// gemm, or what is faster where one of the operands is a vector.
template <class T>
void multiply(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
              const T* b, int64_t ldb, T beta, T* c) {
  const bool read = alpha != 0;  // else gemm knows that nothing is
  if (n == 1 && (tb || ldb == 1) && read) {
    kernels::gemv(ta, ta ? k : m, ta ? m : k, alpha, a, lda, b, beta, c);
  } else if (m == 1 && (!ta || lda == 1) && read) {
    kernels::gemv(!tb, tb ? n : k, tb ? k : n, alpha, b, ldb, a, beta, c);
  } else {
    kernels::gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, std::max<int64_t>(n, 1));
  }
}

// Strides of `a`, which has two axes more, at the leading axes of `shape`: 0 where it is repeated.
void batch_strides(const Array& a, const Shape& shape, int64_t* strides) {
  const int lead = shape.rank() - a.rank();
  for (int i = 0; i < shape.rank() - 2; ++i) {
    strides[i] = i < lead || a.size(i - lead) == 1 ? 0 : a.stride(i - lead);
  }
}

int64_t batch_size(const Array& a) {
  int64_t n = 1;
  for (int i = 0; i < a.rank() - 2; ++i) n *= a.size(i);
  return n;
}

}  // namespace

void run_mv(bool ta, const Array& a, const Array& x, const Array& y, double beta) {
  if (a.is_contiguous() && x.is_contiguous() && a.dtype() == kFloat32) [[likely]] {
    kernels::gemv(ta, a.size(0), a.size(1), 1.0f, a.data<float>(), a.size(1), x.data<float>(),
                  static_cast<float>(beta), y.mutable_data<float>());
    return;
  }
  const Matrices m(a, ta);
  const Array v = contiguous(x);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    const bool as_stored = m.trans() == ta;
    kernels::gemv(m.trans(), a.size(as_stored ? 0 : 1), a.size(as_stored ? 1 : 0), T{1},
                  m.data<T>(), m.ld(), v.data<T>(), static_cast<T>(beta), y.mutable_data<T>());
  });
}

void run_mm(bool ta, bool tb, const Array& a, const Array& b, const Array& c, double alpha,
            double beta) {
  const Matrices ma(a, ta);
  const Matrices mb(b, tb);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    multiply(ma.trans(), mb.trans(), c.size(0), c.size(1), a.size(ta ? 0 : 1),
             static_cast<T>(alpha), ma.data<T>(), ma.ld(), mb.data<T>(), mb.ld(),
             static_cast<T>(beta), c.mutable_data<T>());
  });
}

void run_matmul(const Array& a, const Array& b, const Array& c) {
  const int r = c.rank();
  if (r == 2) return run_mm(false, false, a, b, c);
  const int64_t k = a.size(a.rank() - 1);
  const int64_t n = c.size(r - 1);
  if (batch_size(b) == 1 && a.is_contiguous() && batch_size(a) == batch_size(c)) {
    // All rows of a meet the same matrix.
    const int64_t rows = batch_size(c) * c.size(r - 2);
    const int64_t strides[] = {b.stride(b.rank() - 2), b.stride(b.rank() - 1)};
    return run_mm(false, false, a.view_as({rows, k}), b.view({k, n}, strides, 0),
                  c.view_as({rows, n}));
  }
  const Matrices ma(a);
  const Matrices mb(b);
  const Shape shape = c.shape();
  int64_t sa[kMaxRank];
  int64_t sb[kMaxRank];
  batch_strides(ma.array(), shape, sa);
  batch_strides(mb.array(), shape, sb);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* pa = ma.data<T>();
    const T* pb = mb.data<T>();
    T* pc = c.mutable_data<T>();
    kernels::for_each_row<3>(static_cast<size_t>(r - 2), shape.data(), {c.strides(), sa, sb},
                             [&](const ptrdiff_t* at, size_t count, const ptrdiff_t* stride) {
                               for (size_t i = 0; i < count; ++i) {
                                 const auto step = static_cast<ptrdiff_t>(i);
                                 multiply(ma.trans(), mb.trans(), shape[r - 2], n, k, T{1},
                                          pa + at[1] + step * stride[1], ma.ld(),
                                          pb + at[2] + step * stride[2], mb.ld(), T{0},
                                          pc + at[0] + step * stride[0]);
                               }
                             });
  });
}

void run_outer(const Array& u, const Array& v, const Array& y) {
  const Array row = contiguous(v);
  visit_differentiable(u.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::outer(u.size(0), v.size(0), u.data<T>(), u.stride(0), row.data<T>(),
                   y.mutable_data<T>());
  });
}

void run_dot(const Array& a, const Array& b, const Array& y) {
  const Array x = contiguous(a);
  const Array z = contiguous(b);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    *y.mutable_data<T>() = kernels::dot(x.data<T>(), z.data<T>(), static_cast<size_t>(x.numel()));
  });
}

namespace {

// Whether the gradient of that input reaches a leaf through nothing that would make it dense.
bool keeps_structure(const detail::Node& node, int input) {
  const detail::Node* n = node.edges()[input].node();
  while (n != nullptr && !n->is_leaf() && n->def->keeps_structure) n = n->edges()[0].node();
  return n != nullptr && n->is_leaf();
}

// A factor that outlives the playback. The elements of a leaf are overwritten by optimisers,
// perhaps before this gradient is applied, so they are copied; so are those of a constant, which
// may be a leaf's too (detach(), a view taken under NoGradGuard) or a buffer that the caller uses
// again.
Array lasting(const Saved& s, GradFactor f, bool columns) {
  const Array a = columns && f.vectors.rank() == 2 ? transposed(f.vectors) : f.vectors;
  if (f.input < 0) return a;
  const detail::Node* n = s.node().edges()[f.input].node();
  while (n != nullptr && !n->is_leaf() && n->def->view) n = n->edges()[0].node();
  return n == nullptr || n->is_leaf() ? copy(a) : a;
}

}  // namespace

Gradient product_gradient(const Saved& s, int input, GradFactor u, GradFactor v, bool columns) {
  const Array& a = u.vectors;
  const Array& b = v.vectors;
  const bool vectors = a.rank() == 1;
  const int of_size = vectors || columns ? 0 : 1;
  const int64_t r = vectors ? 1 : a.size(1 - of_size);
  const int64_t m = a.size(of_size);
  const int64_t n = b.size(of_size);
  const Meta meta{a.dtype(), {m, n}};
  // The product of two rows or columns takes hardly more room than its factors.
  const bool narrow = std::min(m, n) <= 2 && s.node().edges()[input].node()->is_leaf();
  if (!narrow && r * (m + n) <= m * n && keeps_structure(s.node(), input)) {
    return Gradient(meta, Outer{lasting(s, u, columns), lasting(s, v, columns)});
  }
  Array out = Array::empty(meta);
  if (vectors) {
    run_outer(a, b, out);
  } else {
    run_mm(!columns, columns, a, b, out);
  }
  return out;
}

void transpose_times(bool transposed, const Saved& s, int weight, const Array& g, int x,
                     GradSink& sink) {
  const Array& w = s.in_array(weight);
  if (sink.defer({weight, w, g, x, transposed})) return;
  Array gx = Array::empty(w.dtype(), {w.size(transposed ? 0 : 1)});
  run_mv(!transposed, w, g, gx);
  sink.add(x, std::move(gx));
}

void mv_gradients(const Saved& s, const Array& g, GradSink& sink) {
  if (s.needs(1)) transpose_times(false, s, 0, g, 1, sink);
  if (s.needs(0)) sink.add(0, product_gradient(s, 0, {g}, {s.in_array(1), 1}));
}

void mm_gradients(const Saved& s, const Array& g, GradSink& sink, int first, double alpha) {
  const Array gy = alpha == 1 ? g : scaled(g, alpha);
  const int second = first + 1;
  if (s.needs(first)) {
    sink.add(first, product_gradient(s, first, {gy}, {s.in_array(second), second}, true));
  }
  if (s.needs(second)) {
    sink.add(second, product_gradient(s, second, {s.in_array(first), first}, {gy}));
  }
}

}  // namespace ebb::ops
