// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/testing.h"
#include "ebb/core/random.h"

namespace ebb::testing {
namespace {

thread_local uint64_t next_input = 0;

Generator generator(Seed seed) {
  return Generator(seed.has_value() ? *seed : next_input++,
                   seed.has_value() ? "seeded" : "counted");
}

// A float64 tensor of the numbers that `next` gives, rounded to float32.
template <class F>
Tensor filled(const Shape& shape, F&& next) {
  Array a = Array::empty(kFloat64, shape);
  for (int64_t k = 0; k < a.numel(); ++k) {
    a.mutable_data<double>()[k] = static_cast<float>(next());
  }
  return Tensor(std::move(a));
}

}  // namespace

void restart_inputs(uint64_t seed) { next_input = seed; }

Tensor normal(const Shape& shape, Seed seed) {
  Generator g = generator(seed);
  return filled(shape, [&] { return g.normal(); });
}

Tensor uniform(const Shape& shape, double lo, double hi, Seed seed) {
  Generator g = generator(seed);
  return filled(shape, [&] { return lo + (hi - lo) * g.uniform(); });
}

Tensor positive(const Shape& shape, Seed seed) { return uniform(shape, 0.5, 2, seed); }

Tensor uniform_away_from(const Shape& shape, double lo, double hi, const std::vector<double>& kinks,
                         double gap, Seed seed) {
  Generator g = generator(seed);
  return filled(shape, [&] {
    constexpr int kTries = 10000;
    for (int i = 0; i < kTries; ++i) {
      const double x = lo + (hi - lo) * g.uniform();
      const bool near =
          std::any_of(kinks.begin(), kinks.end(), [&](double k) { return std::abs(x - k) < gap; });
      if (!near) return x;
    }
    throw ValueError(absl::StrCat("uniform_away_from: nothing in [", lo, ", ", hi,
                                  "] is that far from the kinks"));
  });
}

Tensor distinct(const Shape& shape, Seed seed) {
  Generator g = generator(seed);
  const int64_t n = shape.numel();
  const std::vector<int64_t> order = g.permutation(n);
  const double step = 4.0 / static_cast<double>(std::max<int64_t>(n, 1));
  auto at = order.begin();
  return filled(
      shape, [&] { return -2 + step * (static_cast<double>(*at++) + 0.25 + 0.5 * g.uniform()); });
}

Tensor positive_definite(const Shape& shape, Seed seed) {
  const int rank = shape.rank();
  if (rank < 2 || shape[rank - 1] != shape[rank - 2]) {
    throw ShapeError(absl::StrCat("positive_definite: ", shape.str(), " is not square"));
  }
  const int64_t n = shape[rank - 1];
  const int64_t count = n == 0 ? 0 : shape.numel() / (n * n);
  Generator g = generator(seed);
  Array out = Array::empty(kFloat64, shape);
  std::vector<double> v(static_cast<size_t>(n));
  for (int64_t b = 0; b < count; ++b) {
    // A reflection on either side of a diagonal leaves its eigenvalues as they are.
    double norm = 0;
    for (double& x : v) {
      x = g.normal();
      norm += x * x;
    }
    double* a = out.mutable_data<double>() + b * n * n;
    std::vector<double> d(static_cast<size_t>(n));
    for (double& x : d) x = 1 + 2 * g.uniform();
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) {
          const auto h = [&](int64_t r) {
            return (r == k ? 1.0 : 0.0) -
                   2 * v[static_cast<size_t>(r)] * v[static_cast<size_t>(k)] / norm;
          };
          sum += h(i) * d[static_cast<size_t>(k)] * h(j);
        }
        a[i * n + j] = a[j * n + i] = static_cast<float>(sum);
      }
    }
  }
  return Tensor(std::move(out));
}

Tensor scalar(double value) { return Tensor(Array::scalar(kFloat64, static_cast<float>(value))); }

Tensor tensor(const Shape& shape, const std::vector<double>& values) {
  if (shape.numel() != static_cast<int64_t>(values.size())) {
    throw ShapeError(absl::StrCat("tensor: ", values.size(), " values do not fill ", shape.str()));
  }
  auto at = values.begin();
  return filled(shape, [&] { return *at++; });
}

Tensor integers(const Shape& shape, int64_t lo, int64_t hi, Seed seed) {
  Generator g = generator(seed);
  Array a = Array::empty(kInt64, shape);
  for (int64_t k = 0; k < a.numel(); ++k) {
    a.mutable_data<int64_t>()[k] =
        lo + static_cast<int64_t>(g.uniform_int(static_cast<uint64_t>(hi - lo + 1)));
  }
  return Tensor(std::move(a));
}

Tensor indices(const std::vector<int64_t>& values) {
  return Tensor(Array::of<int64_t>({static_cast<int64_t>(values.size())}, values));
}

Tensor booleans(const Shape& shape, Seed seed) {
  Generator g = generator(seed);
  Array a = Array::empty(kBool, shape);
  for (int64_t k = 0; k < a.numel(); ++k) {
    a.mutable_data<bool>()[k] = g.uniform_int(2) != 0;
  }
  return Tensor(std::move(a));
}

size_t RefArray::offset(std::initializer_list<int64_t> index) const {
  size_t at = 0;
  int i = 0;
  for (const int64_t k : index) {
    if (i >= shape.rank() || k < 0 || k >= shape[i]) {
      throw IndexError(
          absl::StrCat("reference: index ", k, " of dimension ", i, " is outside ", shape.str()));
    }
    at = at * static_cast<size_t>(shape[i++]) + static_cast<size_t>(k);
  }
  if (i != shape.rank()) {
    throw IndexError(absl::StrCat("reference: ", i, " indices for ", shape.str()));
  }
  return at;
}

RefArray to_ref(const Array& a) {
  RefArray r(a.shape());
  const Array c = cast(contiguous(a), kFloat64);
  std::copy_n(c.data<double>(), r.v.size(), r.v.begin());
  return r;
}

}  // namespace ebb::testing
