// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/init.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/ops/decomposition.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb::nn::init {

namespace {

struct Fans {
  explicit Fans(const Parameter& p, const char* what) {
    const Shape shape = p.shape();
    if (shape.rank() < 2) {
      throw ShapeError(absl::StrCat(what, ": the parameter is ", shape.str(),
                                    "; fan in and fan out need two axes at least"));
    }
    double rest = 1;
    for (int i = 2; i < shape.rank(); ++i) rest *= static_cast<double>(shape[i]);
    out = static_cast<double>(shape[0]) * rest;
    in = static_cast<double>(shape[1]) * rest;
  }
  double in;
  double out;
};

// Overwrites p with what `fill(T* elements, n)` makes, which throws before it writes.
template <class F>
void overwrite(const Parameter& p, F&& fill) {
  const auto fill_all = [&](const Array& values) {
    visit_differentiable(values.dtype(), [&](auto t) {
      using T = decltype(t);
      fill(values.mutable_data<T>(), static_cast<size_t>(values.numel()));
    });
  };
  const Array& own = p.leaf().value();
  if (own.is_contiguous()) {
    p.leaf().catch_up();
    fill_all(own);
    own.bump_version();
    return;
  }
  const Array values = Array::empty(p.dtype(), p.shape());
  fill_all(values);
  p.copy_from(Tensor(values));
}

thread_local bool skipping = false;

// Whether the elements of p stay as they are; the generator is then where drawing them leaves it.
bool skipped(const Parameter& p, Generator& generator) {
  if (skipping) generator.skip(static_cast<uint64_t>(p.numel()));
  return skipping;
}

}  // namespace

SkipGuard::SkipGuard() : before_(std::exchange(skipping, true)) {}
SkipGuard::~SkipGuard() { skipping = before_; }

void constant_(const Parameter& p, double value) {
  p.copy_from(Tensor(Array::full(p.dtype(), p.shape(), value)));
}

void uniform_(const Parameter& p, double low, double high, Generator& generator) {
  if (skipped(p, generator)) return;
  overwrite(p, [&]<class T>(T* out, size_t n) {
    generator.fill_uniform(out, n, static_cast<T>(low), static_cast<T>(high));
  });
}

void normal_(const Parameter& p, double mean, double std, Generator& generator) {
  if (skipped(p, generator)) return;
  overwrite(p, [&]<class T>(T* out, size_t n) {
    generator.fill_normal(out, n, static_cast<T>(mean), static_cast<T>(std));
  });
}

double calculate_gain(std::string_view nonlinearity, double param) {
  if (nonlinearity == "linear" || nonlinearity == "sigmoid") return 1;
  if (nonlinearity == "tanh") return 5.0 / 3;
  if (nonlinearity == "relu") return std::sqrt(2.0);
  if (nonlinearity == "leaky_relu") return std::sqrt(2 / (1 + param * param));
  if (nonlinearity == "selu") return 0.75;
  throw ValueError(absl::StrCat("calculate_gain: '", std::string(nonlinearity),
                                "' is none of linear, sigmoid, tanh, relu, leaky_relu, selu"));
}

void xavier_uniform_(const Parameter& p, double gain, Generator& generator) {
  const Fans fans(p, "xavier_uniform_");
  const double bound = gain * std::sqrt(6 / (fans.in + fans.out));
  uniform_(p, -bound, bound, generator);
}

void xavier_normal_(const Parameter& p, double gain, Generator& generator) {
  const Fans fans(p, "xavier_normal_");
  normal_(p, 0, gain * std::sqrt(2 / (fans.in + fans.out)), generator);
}

void kaiming_uniform_(const Parameter& p, double a, Fan fan, Generator& generator) {
  const Fans fans(p, "kaiming_uniform_");
  const double n = fan == Fan::kIn ? fans.in : fans.out;
  const double bound = calculate_gain("leaky_relu", a) * std::sqrt(3 / n);
  uniform_(p, -bound, bound, generator);
}

void kaiming_normal_(const Parameter& p, double a, Fan fan, Generator& generator) {
  const Fans fans(p, "kaiming_normal_");
  const double n = fan == Fan::kIn ? fans.in : fans.out;
  normal_(p, 0, calculate_gain("leaky_relu", a) / std::sqrt(n), generator);
}

void orthogonal_(const Parameter& p, double gain, Generator& generator) {
  const Shape shape = p.shape();
  if (shape.rank() < 2) {
    throw ShapeError(absl::StrCat("orthogonal_: the parameter is ", shape.str(),
                                  "; it needs two axes at least"));
  }
  if (skipped(p, generator)) return;
  const NoGradGuard no_grad;
  const int64_t rows = shape[0];
  const int64_t columns = rows == 0 ? 0 : p.numel() / rows;
  const bool wide = columns > rows;
  const Array noise = Array::empty(kFloat64, wide ? Shape{columns, rows} : Shape{rows, columns});
  generator.fill_normal(noise.mutable_data<double>(), static_cast<size_t>(noise.numel()), 0.0, 1.0);
  const auto [q, r] = qr(Tensor(noise));
  // Uniform over all such matrices only with the signs of R's diagonal put back (Mezzadri 2007).
  const Tensor columns_of_q = q * sign(diag(r));
  p.copy_from(reshape(gain * (wide ? columns_of_q.t() : columns_of_q), shape));
}

void sparse_(const Parameter& p, double sparsity, double std, Generator& generator) {
  if (p.shape().rank() != 2) {
    throw ShapeError(
        absl::StrCat("sparse_: the parameter is ", p.shape().str(), "; it must be a matrix"));
  }
  if (!(sparsity >= 0 && sparsity <= 1)) {
    throw ValueError(absl::StrCat("sparse_: sparsity is ", sparsity, "; it must be in [0, 1]"));
  }
  const int64_t rows = p.size(0);
  const int64_t columns = p.size(1);
  const auto zeros = static_cast<int64_t>(std::ceil(sparsity * static_cast<double>(rows)));
  overwrite(p, [&]<class T>(T* out, size_t n) {
    generator.fill_normal(out, n, T{0}, static_cast<T>(std));
    for (int64_t j = 0; j < columns; ++j) {
      const std::vector<int64_t> order = generator.permutation(rows);
      for (int64_t i = 0; i < zeros; ++i) out[order[static_cast<size_t>(i)] * columns + j] = 0;
    }
  });
}

}  // namespace ebb::nn::init
