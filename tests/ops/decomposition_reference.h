// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ebb/autograd/testing.h"

// What the tests of factorisations share: plain references on one matrix, stacks, samples.
namespace ebb {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::Sample;

struct Matrix {
  Matrix(int64_t m, int64_t n) : rows(m), cols(n), v(static_cast<size_t>(m * n)) {}
  double& operator()(int64_t i, int64_t j) { return v[static_cast<size_t>(i * cols + j)]; }
  double operator()(int64_t i, int64_t j) const { return v[static_cast<size_t>(i * cols + j)]; }
  int64_t rows;
  int64_t cols;
  std::vector<double> v;
};

inline Matrix transposed(const Matrix& a) {
  Matrix t(a.cols, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) t(j, i) = a(i, j);
  }
  return t;
}

inline Matrix symmetrized(const Matrix& a) {
  Matrix s = a;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.cols; ++j) s(i, j) = (a(i, j) + a(j, i)) / 2;
  }
  return s;
}

// Gauss and Jordan with full rows swapped; gives the determinant too.
inline Matrix gauss(Matrix a, Matrix b, double* det = nullptr) {
  const int64_t n = a.rows;
  double product = 1;
  for (int64_t c = 0; c < n; ++c) {
    int64_t p = c;
    for (int64_t i = c; i < n; ++i) {
      if (std::abs(a(i, c)) > std::abs(a(p, c))) p = i;
    }
    if (p != c) product = -product;
    for (int64_t j = 0; j < n; ++j) std::swap(a(c, j), a(p, j));
    for (int64_t j = 0; j < b.cols; ++j) std::swap(b(c, j), b(p, j));
    product *= a(c, c);
    for (int64_t i = 0; i < n; ++i) {
      if (i == c) continue;
      const double f = a(i, c) / a(c, c);
      for (int64_t j = 0; j < n; ++j) a(i, j) -= f * a(c, j);
      for (int64_t j = 0; j < b.cols; ++j) b(i, j) -= f * b(c, j);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < b.cols; ++j) b(i, j) /= a(i, i);
  }
  if (det != nullptr) *det = product;
  return b;
}

inline Matrix unit(int64_t n) {
  Matrix e(n, n);
  for (int64_t i = 0; i < n; ++i) e(i, i) = 1;
  return e;
}

// Applies f to each matrix of a stack; f gives the results of one, which are stacked again.
struct Result {
  Shape shape;
  std::vector<double> v;
};
inline std::vector<RefArray> for_stack(const RefArray& a,
                                       const std::function<std::vector<Result>(const Matrix&)>& f) {
  const int r = a.shape.rank();
  const int64_t m = a.size(r - 2);
  const int64_t n = a.size(r - 1);
  const Shape batch(a.shape.data(), static_cast<size_t>(r - 2));
  std::vector<RefArray> out;
  // One more, of zeros, tells the shapes where the stack is empty.
  for (int64_t i = 0; i <= batch.numel(); ++i) {
    Matrix one = m == n ? unit(n) : Matrix(m, n);
    if (i < batch.numel()) {
      std::copy_n(a.v.begin() + i * m * n, m * n, one.v.begin());
    } else if (i > 0) {
      break;
    }
    const std::vector<Result> results = f(one);
    out.resize(results.size());
    for (size_t k = 0; k < results.size(); ++k) {
      Shape shape = batch;
      for (const int64_t d : results[k].shape) shape.push_back(d);
      out[k].shape = shape;
      if (batch.numel() == 0) continue;
      out[k].v.insert(out[k].v.end(), results[k].v.begin(), results[k].v.end());
    }
  }
  return out;
}

inline Result result(const Matrix& m) { return {{m.rows, m.cols}, m.v}; }

inline Sample sample(std::string name, std::vector<Tensor> inputs, testing::Call call,
                     testing::Reference reference) {
  Sample s{.name = std::move(name),
           .inputs = std::move(inputs),
           .call = std::move(call),
           .reference = std::move(reference)};
  s.tolerance64 = 1e-10;
  s.tolerance32 = 1e-4;
  s.gradient_tolerance32 = 2e-3;
  return s;
}

inline const Shape kSquare[] = {{3, 3}, {1, 1}, {2, 3, 3}, {0, 0}, {0, 2, 2}, {2, 1, 4, 4}, {5, 5}};

inline void require_square_errors(OpSamples* s, const testing::Call& call) {
  s->no_scalar = "the argument is a matrix";
  s->errors.push_back(error_sample<ShapeError>("not square", {normal({2, 3})}, call,
                                               s->op + ": a is [2,3]; it must be square"));
  s->errors.push_back(
      error_sample<ShapeError>("vector", {normal({3})}, call,
                               s->op + ": a is [3]; it must be a matrix, or a stack of them"));
  s->errors.push_back(error_sample<DTypeError>("int64", {testing::integers({2, 2}, 0, 3)}, call,
                                               s->op + ": input 0 is int64[2,2]"));
}

}  // namespace ebb
