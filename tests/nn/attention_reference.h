// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

// Attention and what is built of it in plain float64 loops, and derivatives by differences.
namespace ebb::testing {

inline std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

inline void expect_near(const Tensor& a, const Tensor& b, double tolerance = 1e-12) {
  ASSERT_EQ(a.shape(), b.shape());
  const auto x = doubles(a);
  const auto y = doubles(b);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], tolerance) << i;
}

/// A matrix as plain loops see it.
struct Matrix {
  Matrix(int64_t r, int64_t c) : rows(r), cols(c), v(static_cast<size_t>(r * c)) {}
  explicit Matrix(const Tensor& t) : Matrix(t.dim() == 1 ? 1 : t.size(0), t.size(-1)) {
    v = doubles(t);
  }
  double& operator()(int64_t i, int64_t j) { return v[static_cast<size_t>(i * cols + j)]; }
  double operator()(int64_t i, int64_t j) const { return v[static_cast<size_t>(i * cols + j)]; }
  Tensor tensor() const { return ebb::Tensor(Array::of<double>({rows, cols}, v)); }

  int64_t rows, cols;
  std::vector<double> v;
};

inline Matrix plain_linear(const Matrix& x, const Matrix& w, const Matrix& b) {
  Matrix y(x.rows, w.rows);
  for (int64_t i = 0; i < y.rows; ++i) {
    for (int64_t j = 0; j < y.cols; ++j) {
      y(i, j) = b(0, j);
      for (int64_t k = 0; k < x.cols; ++k) y(i, j) += x(i, k) * w(j, k);
    }
  }
  return y;
}

inline Matrix plain_norm(const Matrix& x, const nn::LayerNorm& norm) {
  const Matrix w(norm.weight);
  const Matrix b(norm.bias);
  Matrix y = x;
  const auto n = static_cast<double>(x.cols);
  for (int64_t i = 0; i < x.rows; ++i) {
    double mean = 0;
    double var = 0;
    for (int64_t j = 0; j < x.cols; ++j) mean += x(i, j) / n;
    for (int64_t j = 0; j < x.cols; ++j) var += (x(i, j) - mean) * (x(i, j) - mean) / n;
    for (int64_t j = 0; j < x.cols; ++j) {
      y(i, j) = (x(i, j) - mean) / std::sqrt(var + 1e-5) * w(0, j) + b(0, j);
    }
  }
  return y;
}

inline Matrix plain_sum(const Matrix& a, const Matrix& b) {
  Matrix y = a;
  for (size_t i = 0; i < y.v.size(); ++i) y.v[i] += b.v[i];
  return y;
}

/// score(head, i, j, s): the score with its masks; -infinity where i does not see j.
using Masking = std::function<double(int64_t, int64_t, int64_t, double)>;
inline double see_all(int64_t, int64_t, int64_t, double score) { return score; }
inline double see_past(int64_t, int64_t i, int64_t j, double score) {
  return j <= i ? score : -INFINITY;
}

/// The output of a MultiheadAttention with biases, in float64. `weights`: one [T,S] a head.
inline Matrix plain_attention(const nn::MultiheadAttention& m, int64_t heads, const Matrix& query,
                              const Matrix& key, const Matrix& value,
                              const Masking& masked = see_all,
                              std::vector<Matrix>* weights = nullptr) {
  const int64_t e = query.cols;
  const auto weight = [&](int part, const Parameter& apart) {
    return m.in_proj_weight.defined() ? Matrix(m.in_proj_weight->narrow(0, part * e, e))
                                      : Matrix(apart);
  };
  const auto bias = [&](int part) { return Matrix(m.in_proj_bias->narrow(0, part * e, e)); };
  const Matrix q = plain_linear(query, weight(0, m.q_proj_weight), bias(0));
  const Matrix k = plain_linear(key, weight(1, m.k_proj_weight), bias(1));
  const Matrix v = plain_linear(value, weight(2, m.v_proj_weight), bias(2));
  const int64_t width = e / heads;
  Matrix joined(query.rows, e);
  for (int64_t h = 0; h < heads; ++h) {
    Matrix p(q.rows, k.rows);
    for (int64_t i = 0; i < q.rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < k.rows; ++j) {
        double s = 0;
        for (int64_t c = h * width; c < (h + 1) * width; ++c) s += q(i, c) * k(j, c);
        p(i, j) = std::exp(masked(h, i, j, s / std::sqrt(static_cast<double>(width))));
        sum += p(i, j);
      }
      for (int64_t j = 0; j < k.rows; ++j) p(i, j) = sum == 0 ? 0 : p(i, j) / sum;
      for (int64_t c = h * width; c < (h + 1) * width; ++c) {
        for (int64_t j = 0; j < k.rows; ++j) joined(i, c) += p(i, j) * v(j, c);
      }
    }
    if (weights != nullptr) weights->push_back(p);
  }
  return plain_linear(joined, Matrix(m.out_proj.weight), Matrix(m.out_proj.bias));
}

/// Gives every parameter numbers of its own: zeros and ones would hide mistakes.
inline void scramble(nn::Module& m) {
  m.to(kFloat64);
  for (const Parameter& p : m.parameters()) p.copy_from(0.5 * normal(p.shape()));
}

/// The derivatives of |f()|^2 by every parameter of a float64 module, and the derivatives of the
/// squares of those, against differences along a random direction.
inline void check_module(const nn::Module& m, const std::function<Tensor()>& f) {
  const auto loss = [&] { return square(f()).sum(); };
  const std::vector<Parameter> parameters = m.parameters();
  std::vector<Tensor> leaves(parameters.begin(), parameters.end());
  const auto gradient_norm = [&](const GradOptions& options) {
    Tensor sum = zeros({}, {.dtype = kFloat64});
    for (const Tensor& g : grad(std::vector<Tensor>{loss()}, leaves, options)) {
      sum = sum + square(g).sum();
    }
    return sum;
  };
  const auto first = grad(std::vector<Tensor>{loss()}, leaves);
  const auto second = grad(std::vector<Tensor>{gradient_norm({.create_graph = true})}, leaves);
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor start = leaves[i].detach() * 1.0;
    const Tensor v = normal(start.shape());
    double values[2][2];
    for (const int side : {0, 1}) {
      parameters[i].copy_from(start + (side == 0 ? -kStep : kStep) * v);
      values[side][0] = loss().item();
      values[side][1] = gradient_norm({}).item();
    }
    parameters[i].copy_from(start);
    for (const int order : {0, 1}) {
      const double analytic = ((order == 0 ? first : second)[i] * v).sum().item();
      const double numeric = (values[1][order] - values[0][order]) / (2 * kStep);
      EXPECT_NEAR(analytic, numeric, 1e-5 * std::max(1.0, std::abs(analytic)))
          << "parameter " << i << ", order " << order + 1;
    }
  }
}

/// A copy has the same parameters under the same names, and shares none.
inline void check_clone(const nn::Module& m, const std::function<Tensor(const nn::Module&)>& run) {
  const Tensor y = run(m);
  const auto copy = m.clone();
  EXPECT_EQ(doubles(run(*copy)), doubles(y));
  const auto own = m.state_dict();
  const auto theirs = copy->state_dict();
  ASSERT_EQ(own.size(), theirs.size());
  for (const auto& [name, value] : own) EXPECT_EQ(doubles(theirs.at(name)), doubles(value)) << name;
  for (const Parameter& p : copy->parameters()) p.copy_from(zeros(p.shape()));
  EXPECT_EQ(doubles(run(m)), doubles(y));
  copy->load_state_dict(own);
  EXPECT_EQ(doubles(run(*copy)), doubles(y));
}

inline std::vector<std::string> names(const nn::Module& m) {
  std::vector<std::string> all;
  for (const auto& [name, p] : m.named_parameters()) all.push_back(name);
  return all;
}

}  // namespace ebb::testing
