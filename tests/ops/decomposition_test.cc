// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/decomposition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "decomposition_reference.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::positive_definite;
using testing::RegisterSamples;

// Cholesky and Banachiewicz.
Matrix cholesky_of(const Matrix& a) {
  Matrix l(a.rows, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a(i, j);
      for (int64_t k = 0; k < j; ++k) sum -= l(i, k) * l(j, k);
      l(i, j) = i == j ? std::sqrt(sum) : sum / l(j, j);
    }
  }
  return l;
}

// Gram and Schmidt, each column twice.
void gram_schmidt(const Matrix& a, Matrix* q, Matrix* r) {
  const int64_t k = std::min(a.rows, a.cols);
  *q = Matrix(a.rows, k);
  *r = Matrix(k, a.cols);
  for (int64_t c = 0; c < a.cols; ++c) {
    std::vector<double> x(static_cast<size_t>(a.rows));
    for (int64_t i = 0; i < a.rows; ++i) x[static_cast<size_t>(i)] = a(i, c);
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < std::min(c, k); ++j) {
        double dot = 0;
        for (int64_t i = 0; i < a.rows; ++i) dot += (*q)(i, j) * x[static_cast<size_t>(i)];
        for (int64_t i = 0; i < a.rows; ++i) x[static_cast<size_t>(i)] -= dot * (*q)(i, j);
        (*r)(j, c) += dot;
      }
    }
    if (c >= k) continue;
    const double norm = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
    (*r)(c, c) = norm;
    for (int64_t i = 0; i < a.rows; ++i) (*q)(i, c) = x[static_cast<size_t>(i)] / norm;
  }
}

// Makes the element of largest magnitude of a column positive; true where that changed its sign.
bool point_up(Matrix* m, int64_t c) {
  int64_t at = 0;
  for (int64_t i = 0; i < m->rows; ++i) {
    if (std::abs((*m)(i, c)) > std::abs((*m)(at, c))) at = i;
  }
  if ((*m)(at, c) >= 0) return false;
  for (int64_t i = 0; i < m->rows; ++i) (*m)(i, c) = -(*m)(i, c);
  return true;
}

// The columns of `a` made orthogonal by rotations in pairs (Hestenes, 1958): u s v' = a for a with
// at least as many rows as columns.
void jacobi_svd(Matrix a, Matrix* u, std::vector<double>* s, Matrix* v) {
  const int64_t n = a.cols;
  Matrix w = unit(n);
  for (int sweep = 0; sweep < 60; ++sweep) {
    for (int64_t p = 0; p < n; ++p) {
      for (int64_t q = p + 1; q < n; ++q) {
        double pp = 0, qq = 0, pq = 0;
        for (int64_t i = 0; i < a.rows; ++i) {
          pp += a(i, p) * a(i, p);
          qq += a(i, q) * a(i, q);
          pq += a(i, p) * a(i, q);
        }
        const double angle = 0.5 * std::atan2(2 * pq, pp - qq);
        const auto rotate = [&](Matrix& m) {
          for (int64_t i = 0; i < m.rows; ++i) {
            const double x = m(i, p);
            const double y = m(i, q);
            m(i, p) = std::cos(angle) * x + std::sin(angle) * y;
            m(i, q) = -std::sin(angle) * x + std::cos(angle) * y;
          }
        };
        rotate(a);
        rotate(w);
      }
    }
  }
  std::vector<double> norms(static_cast<size_t>(n));
  for (int64_t c = 0; c < n; ++c) {
    for (int64_t i = 0; i < a.rows; ++i) norms[static_cast<size_t>(c)] += a(i, c) * a(i, c);
    norms[static_cast<size_t>(c)] = std::sqrt(norms[static_cast<size_t>(c)]);
  }
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
    return norms[static_cast<size_t>(x)] > norms[static_cast<size_t>(y)];
  });
  *u = Matrix(a.rows, n);
  *v = Matrix(n, n);
  s->clear();
  for (int64_t c = 0; c < n; ++c) {
    const int64_t from = order[static_cast<size_t>(c)];
    s->push_back(norms[static_cast<size_t>(from)]);
    for (int64_t i = 0; i < a.rows; ++i) (*u)(i, c) = a(i, from) / s->back();
    for (int64_t i = 0; i < n; ++i) (*v)(i, c) = w(i, from);
  }
}

// --- samples ----------------------------------------------------------------------------------

Tensor symmetric(const Tensor& x) { return (x + transpose(x, -2, -1)) * 0.5; }

const RegisterSamples kCholesky{
    "cholesky", [] {
      OpSamples s{.op = "cholesky"};
      for (const Shape& shape : kSquare) {
        for (const bool upper : {false, true}) {
          s.samples.push_back(sample(
              shape.str() + (upper ? " upper" : " lower"), {positive_definite(shape)},
              [=](const Tensor& x) { return cholesky(symmetric(x), upper); },
              [=](const RefArray& x) {
                return for_stack(x, [=](const Matrix& a) -> std::vector<Result> {
                  const Matrix l = cholesky_of(symmetrized(a));
                  return {result(upper ? transposed(l) : l)};
                });
              }));
        }
      }
      const testing::Call call = [](const Tensor& x) { return cholesky(x); };
      require_square_errors(&s, call);
      s.errors.push_back(error_sample<NumericError>(
          "indefinite", {testing::tensor({3, 3}, {1, 0, 0, 0, -1, 0, 0, 0, 1})}, call,
          "cholesky: a is [3,3]; it is not positive definite: pivot 1 is not positive"));
      s.errors.push_back(error_sample<NumericError>(
          "in a stack", {testing::tensor({2, 1, 1}, {1, 0})}, call,
          "cholesky: a is [2,1,1]; matrix 1 of it is not positive definite: pivot 0"));
      return s;
    }};

const Shape kAnyMatrix[] = {{3, 3},    {4, 2},    {2, 4}, {1, 1}, {3, 1},    {1, 3},
                            {2, 3, 2}, {2, 2, 3}, {0, 3}, {3, 0}, {0, 2, 2}, {5, 4}};

void require_matrix_errors(OpSamples* s, const testing::Call& call) {
  s->no_scalar = "the argument is a matrix";
  s->errors.push_back(
      error_sample<ShapeError>("vector", {normal({3})}, call,
                               s->op + ": a is [3]; it must be a matrix, or a stack of them"));
  s->errors.push_back(error_sample<DTypeError>("int64", {testing::integers({2, 2}, 0, 3)}, call,
                                               s->op + ": input 0 is int64[2,2]"));
  s->errors.push_back(
      error_sample<ShapeError>("too large", {normal({20000, 1})}, call,
                               s->op + ": a is [20000,1]; it must be at most 16384 in size"));
}

const RegisterSamples kQr{
    "qr", [] {
      OpSamples s{.op = "qr"};
      const testing::Call call = [](const Tensor& x) {
        const QrResult r = qr(x);
        return std::vector<Tensor>{r.q, r.r};
      };
      for (const Shape& shape : kAnyMatrix) {
        s.samples.push_back(sample(shape.str(), {normal(shape)}, call, [](const RefArray& x) {
          return for_stack(x, [](const Matrix& a) -> std::vector<Result> {
            Matrix q(0, 0);
            Matrix r(0, 0);
            gram_schmidt(a, &q, &r);
            return {result(q), result(r)};
          });
        }));
      }
      require_matrix_errors(&s, call);
      return s;
    }};

std::vector<Result> svd_reference(const Matrix& a) {
  const bool tall = a.rows >= a.cols;
  Matrix u(0, 0);
  Matrix v(0, 0);
  std::vector<double> s;
  jacobi_svd(tall ? a : transposed(a), &u, &s, &v);
  if (!tall) std::swap(u, v);
  for (int64_t c = 0; c < u.cols; ++c) {
    if (!point_up(&u, c)) continue;
    for (int64_t i = 0; i < v.rows; ++i) v(i, c) = -v(i, c);
  }
  return {result(u), {{static_cast<int64_t>(s.size())}, s}, result(transposed(v))};
}

const RegisterSamples kSvd{
    "svd", [] {
      OpSamples s{.op = "svd"};
      const testing::Call call = [](const Tensor& x) {
        const SvdResult r = svd(x);
        return std::vector<Tensor>{r.u, r.s, r.vh};
      };
      for (const Shape& shape : kAnyMatrix) {
        s.samples.push_back(sample(shape.str(), {normal(shape)}, call,
                                   [](const RefArray& x) { return for_stack(x, svd_reference); }));
      }
      require_matrix_errors(&s, call);
      s.errors.push_back(error_sample<NumericError>("NaN", {testing::tensor({1, 2}, {1, NAN})},
                                                    call,
                                                    "svd: a is [1,2]; it holds NaN or infinity"));
      return s;
    }};

std::vector<Result> eigh_reference(const Matrix& any) {
  const Matrix a = symmetrized(any);
  // Eigenvectors are singular vectors; shifted, all eigenvalues are positive and keep their order.
  double shift = 0;
  for (const double v : a.v) shift += std::abs(v);
  Matrix moved = a;
  for (int64_t i = 0; i < a.rows; ++i) moved(i, i) += shift;
  Matrix u(0, 0);
  Matrix v(0, 0);
  std::vector<double> s;
  jacobi_svd(moved, &u, &s, &v);
  Matrix vectors(a.rows, a.rows);
  std::vector<double> w;
  for (int64_t c = 0; c < a.rows; ++c) {
    const int64_t from = a.rows - 1 - c;
    for (int64_t i = 0; i < a.rows; ++i) vectors(i, c) = v(i, from);
    point_up(&vectors, c);
    w.push_back(s[static_cast<size_t>(from)] - shift);
  }
  return {{{a.rows}, w}, result(vectors)};
}

const RegisterSamples kEigh{
    "eigh", [] {
      OpSamples s{.op = "eigh"};
      for (const Shape& shape : kSquare) {
        for (const bool upper : {false, true}) {
          s.samples.push_back(sample(
              shape.str() + (upper ? " upper" : " lower"), {normal(shape)},
              [=](const Tensor& x) {
                const EighResult r = eigh(symmetric(x), upper);
                return std::vector<Tensor>{r.eigenvalues, r.eigenvectors};
              },
              [](const RefArray& x) { return for_stack(x, eigh_reference); }));
        }
      }
      const testing::Call call = [](const Tensor& x) { return eigh(x).eigenvalues; };
      require_square_errors(&s, call);
      s.errors.push_back(error_sample<NumericError>("infinity",
                                                    {testing::tensor({1, 1}, {INFINITY})}, call,
                                                    "eigh: a is [1,1]; it holds NaN or infinity"));
      return s;
    }};

// --- what samples do not show -----------------------------------------------------------------

TEST(Decomposition, OnlyOneTriangleIsRead) {
  const Tensor a = testing::tensor({2, 2}, {4, NAN, 2, 5});
  EXPECT_EQ(cholesky(a).to_vector<double>(), (std::vector<double>{2, 0, 1, 2}));
  EXPECT_EQ(cholesky(t(a), true).to_vector<double>(), (std::vector<double>{2, 1, 0, 2}));
  const Tensor x = triangular_solve(a, testing::tensor({2}, {4, 12}), {.upper = false});
  EXPECT_EQ(x.to_vector<double>(), (std::vector<double>{1, 2}));
  const Tensor lower = testing::tensor({2, 2}, {2, 100, 1, 2});
  EXPECT_NEAR(eigh(lower).eigenvalues.to_vector<double>()[0], 1, 1e-12);
  EXPECT_NEAR(eigh(t(lower), true).eigenvalues.to_vector<double>()[1], 3, 1e-12);
}

TEST(Decomposition, GradientOfASymmetricArgumentIsSymmetric) {
  const Tensor a = variable(positive_definite({4, 4}));
  for (const Tensor& y : {cholesky(a), cholesky(a, true), eigh(a).eigenvectors}) {
    const Tensor g = grad(sum(y * y * y), a);
    EXPECT_EQ(g.to_vector<double>(), t(g).to_vector<double>());
  }
}

TEST(Decomposition, GradientOfSingularValuesDoesNotNeedThemToDiffer) {
  const Tensor a = variable(eye(3, {.dtype = kFloat64}));
  const Tensor g = grad(sum(svd(a).s), a);
  const std::vector<double> one = eye(3).to_vector<double>();
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(g.to_vector<double>()[i], one[i], 1e-14);
}

TEST(Decomposition, LargeMatricesMultiplyBack) {
  const Tensor a = normal({150, 90});
  const auto same = [](const Tensor& x, const Tensor& y) {
    const std::vector<double> p = x.to_vector<double>();
    const std::vector<double> q = y.to_vector<double>();
    ASSERT_EQ(p.size(), q.size());
    for (size_t i = 0; i < p.size(); ++i) ASSERT_NEAR(p[i], q[i], 1e-11) << i;
  };
  const SvdResult s = svd(a);
  same(matmul(s.u * s.s, s.vh), a);
  const QrResult r = qr(a);
  same(matmul(r.q, r.r), a);
  same(matmul(t(r.q), r.q), eye(90, {.dtype = kFloat64}));
  const Tensor gram = matmul(t(a), a);
  const EighResult e = eigh(gram);
  same(matmul(e.eigenvectors * e.eigenvalues, t(e.eigenvectors)) * 0.01, gram * 0.01);
  const Tensor l = cholesky(gram);
  same(matmul(l, t(l)), gram);
  same(matmul(inverse(gram), gram), eye(90, {.dtype = kFloat64}));
  same(matmul(gram, solve(gram, t(a))) * 0.1, t(a) * 0.1);
}

TEST(DecompositionThread, ManyThreadsGetTheResultsOfOne) {
  const Tensor a = normal({40, 40});
  const Tensor b = normal({40, 3});
  const std::vector<double> s = svd(a).s.to_vector<double>();
  const std::vector<double> x = solve(a, b).to_vector<double>();
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int& w : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        w += svd(a).s.to_vector<double>() != s;
        w += solve(a, b).to_vector<double>() != x;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace ebb
