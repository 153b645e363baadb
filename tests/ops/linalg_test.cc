// SPDX-License-Identifier: Apache-2.0
// GCC 12 takes sizes beyond a shape's rank, which nobody reads, for read.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "ebb/ops/linalg.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::positive;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// The product of vectors, matrices and stacks of them, one sum at a time.
RefArray product(const RefArray& a, const RefArray& b) {
  const bool row = a.shape.rank() == 1;
  const bool column = b.shape.rank() == 1;
  const Shape sa = row ? Shape{1, a.size(0)} : a.shape;
  const Shape sb = column ? Shape{b.size(0), 1} : b.shape;
  const int ra = sa.rank();
  const int rb = sb.rank();
  const int64_t m = sa[ra - 2];
  const int64_t k = sa[ra - 1];
  const int64_t n = sb[rb - 1];
  Shape batch;
  broadcast_shapes(Shape(sa.data(), static_cast<size_t>(ra - 2)),
                   Shape(sb.data(), static_cast<size_t>(rb - 2)), &batch);
  Shape out = batch;
  if (!row) out.push_back(m);
  if (!column) out.push_back(n);
  RefArray y(out);
  // Number of the matrix of an operand that belongs to matrix i of the result.
  const auto matrix_of = [&](const Shape& s, int64_t i) {
    int64_t at = 0;
    int64_t stride = 1;
    for (int axis = batch.rank() - 1; axis >= 0; --axis) {
      const int own = axis - (batch.rank() - (s.rank() - 2));
      const int64_t index = i % batch[axis];
      i /= batch[axis];
      if (own < 0) continue;
      at += (s[own] == 1 ? 0 : index) * stride;
      stride *= s[own];
    }
    return at;
  };
  for (int64_t i = 0; i < batch.numel(); ++i) {
    const double* pa = a.v.data() + matrix_of(sa, i) * m * k;
    const double* pb = b.v.data() + matrix_of(sb, i) * k * n;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += pa[r * k + j] * pb[j * n + c];
        y.v[static_cast<size_t>((i * m + r) * n + c)] = sum;
      }
    }
  }
  return y;
}

using Product = Tensor (*)(const Tensor&, const Tensor&, Where);

struct ProductCase {
  Shape a;
  Shape b;
};

OpSamples product_samples(const std::string& op, Product f, const std::vector<ProductCase>& cases,
                          std::function<std::vector<ProductCase>(int64_t)> sized,
                          testing::Reference reference = &product) {
  const testing::Call call = [f](const Tensor& a, const Tensor& b) {
    return f(a, b, Where::current());
  };
  const auto make = [=](const ProductCase& c) {
    return Sample{.name = c.a.str() + " " + c.b.str(),
                  .inputs = {normal(c.a), normal(c.b)},
                  .call = call,
                  .reference = reference};
  };
  OpSamples s{.op = op};
  for (const ProductCase& c : cases) s.samples.push_back(make(c));
  s.sized = [=](int64_t n) {
    std::vector<Sample> all;
    for (const ProductCase& c : sized(n)) {
      all.push_back(make(c));
      // Sums of positive numbers, for a relative error that means something at any length.
      all.back().inputs = {positive(c.a), positive(c.b)};
    }
    return all;
  };
  s.no_scalar = "operands have axes";
  s.errors.push_back(error_sample<DTypeError>(
      "int64", {testing::integers(cases[0].a, 0, 3), testing::integers(cases[0].b, 0, 3)}, call,
      op + ": input 0 is int64" + cases[0].a.str() + "; it must be float32 or float64"));
  s.errors.push_back(error_sample<DTypeError>(
      "two types", {normal(cases[0].a), normal(cases[0].b).to(kFloat32)}, call,
      op + ": input 0 is float64" + cases[0].a.str() + ", input 1 is float32"));
  return s;
}

testing::ErrorSample misfit(const std::string& op, Product f, const Shape& a, const Shape& b,
                            const std::string& message) {
  return error_sample<ShapeError>(
      a.str() + " " + b.str(), {normal(a), normal(b)},
      [f](const Tensor& x, const Tensor& y) { return f(x, y, Where::current()); },
      op + ": " + message);
}

const RegisterSamples kDot{
    "dot", [] {
      OpSamples s =
          product_samples("dot", &dot, {{{5}, {5}}, {{1}, {1}}, {{0}, {0}}}, [](int64_t n) {
            return std::vector<ProductCase>{{{n}, {n}}};
          });
      s.errors.push_back(misfit("dot", &dot, {3}, {4},
                                "a is [3], b is [4]; a.size(-1)=3 must equal b.size(-1)=4"));
      s.errors.push_back(
          misfit("dot", &dot, {3, 3}, {3}, "a is [3,3], b is [3]; a must have rank 1, not 2"));
      return s;
    }};

const RegisterSamples kOuter{
    "outer", [] {
      OpSamples s = product_samples(
          "outer", &outer, {{{3}, {4}}, {{1}, {1}}, {{0}, {4}}, {{3}, {0}}},
          [](int64_t n) {
            return std::vector<ProductCase>{{{3}, {n}}, {{n}, {3}}};
          },
          [](const RefArray& u, const RefArray& v) {
            RefArray y(Shape{u.size(0), v.size(0)});
            for (int64_t i = 0; i < u.size(0); ++i) {
              for (int64_t j = 0; j < v.size(0); ++j) y(i, j) = u(i) * v(j);
            }
            return y;
          });
      s.errors.push_back(
          misfit("outer", &outer, {3}, {4, 1}, "u is [3], v is [4,1]; v must have rank 1, not 2"));
      return s;
    }};

const RegisterSamples kMv{
    "mv", [] {
      OpSamples s = product_samples(
          "mv", &mv, {{{3, 4}, {4}}, {{1, 1}, {1}}, {{0, 3}, {3}}, {{3, 0}, {0}}, {{7, 5}, {5}}},
          [](int64_t n) {
            return std::vector<ProductCase>{{{3, n}, {n}}, {{n, 3}, {3}}};
          });
      s.errors.push_back(misfit("mv", &mv, {3, 4}, {5},
                                "a is [3,4], x is [5]; a.size(-1)=4 must equal x.size(-1)=5"));
      s.errors.push_back(
          misfit("mv", &mv, {3}, {3}, "a is [3], x is [3]; a must have rank 2, not 1"));
      return s;
    }};

const RegisterSamples kMm{
    "mm", [] {
      OpSamples s = product_samples("mm", &mm,
                                    {{{3, 4}, {4, 2}},
                                     {{1, 4}, {4, 3}},
                                     {{3, 4}, {4, 1}},
                                     {{0, 3}, {3, 2}},
                                     {{2, 0}, {0, 3}},
                                     {{3, 2}, {2, 0}},
                                     {{9, 2}, {2, 8}}},
                                    [](int64_t n) {
                                      return std::vector<ProductCase>{
                                          {{3, n}, {n, 2}}, {{n, 3}, {3, 2}}, {{2, 3}, {3, n}},
                                          {{n, 1}, {1, 2}}, {{1, 3}, {3, n}}, {{1, n}, {n, 2}}};
                                    });
      s.errors.push_back(misfit("mm", &mm, {3, 4}, {5, 6},
                                "a is [3,4], b is [5,6]; a.size(-1)=4 must equal b.size(-2)=5"));
      s.errors.push_back(
          misfit("mm", &mm, {3, 4}, {4}, "a is [3,4], b is [4]; b must have rank 2, not 1"));
      return s;
    }};

const RegisterSamples kBmm{
    "bmm", [] {
      OpSamples s = product_samples(
          "bmm", &bmm,
          {{{2, 3, 4}, {2, 4, 2}},
           {{1, 1, 1}, {1, 1, 1}},
           {{0, 2, 3}, {0, 3, 2}},
           {{2, 3, 0}, {2, 0, 2}},
           {{3, 1, 2}, {3, 2, 1}}},
          [](int64_t n) {
            return std::vector<ProductCase>{{{2, 3, n}, {2, n, 2}}, {{n, 2, 3}, {n, 3, 1}}};
          });
      s.errors.push_back(
          misfit("bmm", &bmm, {2, 3, 4}, {3, 4, 2},
                 "a is [2,3,4], b is [3,4,2]; a.size(-3)=2 must equal b.size(-3)=3"));
      s.errors.push_back(
          misfit("bmm", &bmm, {2, 3, 4}, {2, 5, 2},
                 "a is [2,3,4], b is [2,5,2]; a.size(-1)=4 must equal b.size(-2)=5"));
      s.errors.push_back(
          misfit("bmm", &bmm, {3, 4}, {4, 2}, "a is [3,4], b is [4,2]; a must have rank 3, not 2"));
      return s;
    }};

const RegisterSamples kMatmul{
    "matmul", [] {
      OpSamples s = product_samples(
          "matmul", &matmul,
          {{{4}, {4}},
           {{3, 4}, {4}},
           {{4}, {4, 3}},
           {{3, 4}, {4, 2}},
           {{2, 3, 4}, {4}},
           {{4}, {2, 4, 3}},
           {{2, 3, 4}, {4, 2}},
           {{3, 4}, {2, 4, 2}},
           {{2, 3, 4}, {2, 4, 2}},
           {{2, 1, 3, 2}, {3, 2, 2}},
           {{1, 2, 3}, {2, 3, 2}},
           {{2, 2, 1, 3}, {1, 3, 2}},
           {{0}, {0}},
           {{2, 0}, {0, 3}},
           {{2, 3, 0}, {0, 2}},
           {{0, 3, 2}, {2, 2}},
           {{2, 3, 2}, {2, 0}}},
          [](int64_t n) {
            return std::vector<ProductCase>{
                {{n}, {n}},          {{3, n}, {n}},       {{n}, {n, 3}},    {{3}, {3, n}},
                {{2, n, 3}, {3, 2}}, {{2, 3, n}, {n, 2}}, {{n, 2, 3}, {3}}, {{2, 3}, {2, 3, n}}};
          });
      s.errors.push_back(misfit("matmul", &matmul, {3, 4}, {5, 6},
                                "a is [3,4], b is [5,6]; a.size(-1)=4 must equal b.size(-2)=5"));
      s.errors.push_back(misfit("matmul", &matmul, {3, 4}, {5},
                                "a is [3,4], b is [5]; a.size(-1)=4 must equal b.size(-1)=5"));
      s.errors.push_back(
          misfit("matmul", &matmul, {}, {5}, "a is [], b is [5]; neither may be a scalar"));
      s.errors.push_back(
          misfit("matmul", &matmul, {2, 3, 4}, {3, 4, 2},
                 "a is [2,3,4], b is [3,4,2]; the axes before the last two must be equal or 1"));
      return s;
    }};

const RegisterSamples kAddmm{
    "addmm", [] {
      OpSamples s{.op = "addmm"};
      const auto add = [&](const Shape& input, const Shape& a, const Shape& b,
                           const AddmmOptions& o) {
        s.samples.push_back({.name = input.str() + " " + a.str() + " " + b.str(),
                             .inputs = {normal(input), normal(a), normal(b)},
                             .call = [o](const Tensor& i, const Tensor& x,
                                         const Tensor& y) { return addmm(i, x, y, o); },
                             .reference =
                                 [o](const RefArray& i, const RefArray& x, const RefArray& y) {
                                   RefArray r = product(x, y);
                                   const int64_t n = r.size(1);
                                   for (int64_t k = 0; k < r.numel(); ++k) {
                                     const int rank = i.shape.rank();
                                     int64_t at = 0;
                                     if (rank > 0 && i.size(rank - 1) != 1) at += k % n;
                                     if (rank > 1 && i.size(0) != 1) at += k / n * i.size(1);
                                     double& v = r.v[static_cast<size_t>(k)];
                                     v = o.alpha * v +
                                         (o.beta == 0 ? 0 : o.beta * i.v[static_cast<size_t>(at)]);
                                   }
                                   return r;
                                 }});
      };
      add({3, 2}, {3, 4}, {4, 2}, {});
      add({2}, {3, 4}, {4, 2}, {.beta = 0.5, .alpha = -2});
      add({3, 1}, {3, 4}, {4, 2}, {.beta = -1});
      add({}, {3, 4}, {4, 2}, {.alpha = 3});
      add({1, 2}, {3, 0}, {0, 2}, {});
      add({2}, {0, 4}, {4, 2}, {});
      add({2}, {1, 3}, {3, 2}, {.beta = 2, .alpha = 0.5});
      add({3, 2}, {3, 4}, {4, 2}, {.beta = 0});
      const testing::Call call = [](const Tensor& i, const Tensor& x, const Tensor& y) {
        return addmm(i, x, y);
      };
      s.errors.push_back(error_sample<ShapeError>(
          "sizes", {normal({2}), normal({3, 4}), normal({5, 2})}, call,
          "addmm: input is [2], a is [3,4], b is [5,2]; a.size(-1)=4 must equal b.size(-2)=5"));
      s.errors.push_back(error_sample<ShapeError>(
          "input", {normal({3}), normal({3, 4}), normal({4, 2})}, call,
          "addmm: input is [3], a is [3,4], b is [4,2]; input must broadcast to [3,2]"));
      s.errors.push_back(error_sample<ShapeError>(
          "larger input", {normal({2, 3, 2}), normal({3, 4}), normal({4, 2})}, call,
          "input must broadcast to [3,2]"));
      s.errors.push_back(error_sample<ShapeError>(
          "rank", {normal({2}), normal({4}), normal({4, 2})}, call, "a must have rank 2, not 1"));
      s.errors.push_back(error_sample<DTypeError>(
          "int64", {testing::integers({2}, 0, 2), normal({3, 4}), normal({4, 2})}, call,
          "addmm: input 0 is int64[2]"));
      return s;
    }};

RefArray linear_reference(Span<const RefArray> in) {
  const RefArray& x = in[0];
  const RefArray& w = in[1];
  Shape out = x.shape;
  out[out.rank() - 1] = w.size(0);
  RefArray y(out);
  const int64_t k = w.size(1);
  const int64_t n = w.size(0);
  for (int64_t i = 0; i < y.numel(); ++i) {
    double sum = in.size() > 2 ? in[2](i % n) : 0;
    for (int64_t j = 0; j < k; ++j) sum += x.v[static_cast<size_t>(i / n * k + j)] * w(i % n, j);
    y.v[static_cast<size_t>(i)] = sum;
  }
  return y;
}

const RegisterSamples kLinear{
    "linear", [] {
      OpSamples s{.op = "linear"};
      const testing::Call call = [](Span<const Tensor> in) {
        return in.size() == 2 ? linear(in[0], in[1]) : linear(in[0], in[1], in[2]);
      };
      const auto make = [=](const Shape& x, const Shape& w, bool bias, auto&& numbers) {
        Sample sample{.name = x.str() + " " + w.str() + (bias ? " bias" : ""),
                      .inputs = {numbers(x), numbers(w)},
                      .call = call,
                      .reference = &linear_reference};
        if (bias) sample.inputs.push_back(numbers(Shape{w[0]}));
        return sample;
      };
      const auto any = [](const Shape& shape) { return normal(shape); };
      const auto above_zero = [](const Shape& shape) { return positive(shape); };
      for (const bool bias : {true, false}) {
        s.samples.push_back(make({4}, {3, 4}, bias, any));
        s.samples.push_back(make({2, 4}, {3, 4}, bias, any));
        s.samples.push_back(make({2, 3, 2}, {4, 2}, bias, any));
        s.samples.push_back(make({1, 1}, {1, 1}, bias, any));
        s.samples.push_back(make({0, 4}, {3, 4}, bias, any));
        s.samples.push_back(make({0}, {3, 0}, bias, any));
        s.samples.push_back(make({2, 0}, {3, 0}, bias, any));
        s.samples.push_back(make({2, 3}, {0, 3}, bias, any));
        s.samples.push_back(make({9}, {8, 9}, bias, any));
      }
      s.sized = [=](int64_t n) {
        return std::vector<Sample>{
            make({n}, {3, n}, true, above_zero), make({3}, {n, 3}, true, above_zero),
            make({2, n}, {3, n}, true, above_zero), make({n, 3}, {2, 3}, true, above_zero),
            make({2, 3}, {n, 3}, false, above_zero)};
      };
      s.no_scalar = "operands have axes";
      const auto error = [&](const std::string& name, std::vector<Tensor> in,
                             const std::string& message) {
        s.errors.push_back(
            error_sample<ShapeError>(name, std::move(in), call, "linear: " + message));
      };
      error("sizes", {normal({4}), normal({3, 5})},
            "x is [4], weight is [3,5]; x.size(-1)=4 must equal weight.size(-1)=5");
      error(
          "bias", {normal({2, 4}), normal({3, 4}), normal({4})},
          "x is [2,4], weight is [3,4], bias is [4]; bias.size(-1)=4 must equal weight.size(-2)=3");
      error("bias of rank 0", {normal({4}), normal({3, 4}), normal({})},
            "x is [4], weight is [3,4], "
            "bias is []; bias must have rank 1");
      error("weight", {normal({4}), normal({4})},
            "x is [4], weight is [4]; weight must have rank 2");
      error("scalar", {normal({}), normal({3, 4})},
            "x is [], weight is [3,4]; x may not be a scalar");
      s.errors.push_back(error_sample<DTypeError>("int64",
                                                  {normal({4}), testing::integers({3, 4}, 0, 2)},
                                                  call, "linear: input 1 is int64[3,4]"));
      return s;
    }};

// --- parts of a matrix ------------------------------------------------------------------------

using Part = Tensor (*)(const Tensor&, int64_t, Where);

OpSamples triangle_samples(const std::string& op, Part f, bool upper) {
  OpSamples s{.op = op};
  for (const Shape& shape : {Shape{3, 4}, Shape{4, 3}, Shape{2, 3, 3}, Shape{1, 1}, Shape{0, 3},
                             Shape{3, 0}, Shape{2, 2, 2, 3}}) {
    for (const int64_t offset : {0, 1, -1, 2, -2, 7, -7}) {
      s.samples.push_back({.name = shape.str() + " " + std::to_string(offset),
                           .inputs = {normal(shape)},
                           .call = [=](const Tensor& x) { return f(x, offset, Where::current()); },
                           .reference =
                               [=](const RefArray& x) {
                                 RefArray y = x;
                                 const int64_t m = x.size(x.shape.rank() - 2);
                                 const int64_t n = x.size(x.shape.rank() - 1);
                                 for (int64_t k = 0; k < x.numel(); ++k) {
                                   const int64_t d = k % n - k / n % m;
                                   if (upper ? d < offset : d > offset)
                                     y.v[static_cast<size_t>(k)] = 0;
                                 }
                                 return y;
                               }});
    }
  }
  const testing::Call call = [f](const Tensor& x) { return f(x, 0, Where::current()); };
  s.no_scalar = "x is a matrix";
  s.errors.push_back(error_sample<ShapeError>("vector", {normal({3})}, call,
                                              op + ": x is [3]; it must have two axes at least"));
  return s;
}

const RegisterSamples kTril{"tril", [] { return triangle_samples("tril", &tril, false); }};
const RegisterSamples kTriu{"triu", [] { return triangle_samples("triu", &triu, true); }};

const RegisterSamples kDiag{
    "diag", [] {
      OpSamples s{.op = "diag"};
      for (const Shape& shape : {Shape{4}, Shape{1}, Shape{0}, Shape{3, 3}, Shape{2, 4},
                                 Shape{4, 2}, Shape{0, 3}, Shape{3, 0}}) {
        for (const int64_t offset : {0, 1, -1, 2, -2, 9, -9}) {
          s.samples.push_back({.name = shape.str() + " " + std::to_string(offset),
                               .inputs = {normal(shape)},
                               .call = [=](const Tensor& x) { return diag(x, offset); },
                               .reference =
                                   [=](const RefArray& x) {
                                     const int64_t down = std::max<int64_t>(-offset, 0);
                                     const int64_t right = std::max<int64_t>(offset, 0);
                                     if (x.shape.rank() == 1) {
                                       const int64_t n = x.numel() + down + right;
                                       RefArray y(Shape{n, n});
                                       for (int64_t i = 0; i < x.numel(); ++i)
                                         y(i + down, i + right) = x(i);
                                       return y;
                                     }
                                     std::vector<double> v;
                                     for (int64_t i = 0;
                                          i + down < x.size(0) && i + right < x.size(1); ++i) {
                                       v.push_back(x(i + down, i + right));
                                     }
                                     return RefArray(Shape{static_cast<int64_t>(v.size())}, v);
                                   }});
        }
      }
      s.no_scalar = "x is a vector or a matrix";
      s.errors.push_back(error_sample<ShapeError>(
          "stack", {normal({2, 3, 3})}, [](const Tensor& x) { return diag(x); },
          "diag: x is [2,3,3]; it must be a vector or a matrix"));
      s.errors.push_back(error_sample<ShapeError>(
          "offset", {normal({2})}, [](const Tensor& x) { return diag(x, INT64_MIN); },
          "diag: x is [2]; offset -9223372036854775808 makes too large a matrix"));
      return s;
    }};

const RegisterSamples kTrace{
    "trace", [] {
      OpSamples s{.op = "trace"};
      for (const Shape& shape :
           {Shape{3, 3}, Shape{2, 4}, Shape{4, 2}, Shape{1, 1}, Shape{0, 3}, Shape{0, 0}}) {
        s.samples.push_back({.name = shape.str(),
                             .inputs = {normal(shape)},
                             .call = [](const Tensor& x) { return trace(x); },
                             .reference =
                                 [](const RefArray& x) {
                                   RefArray y(Shape{});
                                   for (int64_t i = 0; i < std::min(x.size(0), x.size(1)); ++i) {
                                     y.v[0] += x(i, i);
                                   }
                                   return y;
                                 }});
      }
      s.no_scalar = "x is a matrix";
      const testing::Call call = [](const Tensor& x) { return trace(x); };
      s.errors.push_back(error_sample<ShapeError>("vector", {normal({3})}, call,
                                                  "trace: x is [3]; it must be a matrix"));
      s.errors.push_back(error_sample<DTypeError>(
          "float16", {normal({2, 2})}, [](const Tensor& x) { return trace(x.to(kFloat16)); },
          "trace: x is float16[2,2]; convert it to float32 first"));
      return s;
    }};

// --- what samples do not show -----------------------------------------------------------------

TEST(Linalg, PartsOfOtherTypes) {
  const Tensor x = arange(1, 10).reshape({3, 3});
  EXPECT_EQ(tril(x).to_vector<int64_t>(), (std::vector<int64_t>{1, 0, 0, 4, 5, 0, 7, 8, 9}));
  EXPECT_EQ(triu(x.to(kUInt8), 1).to_vector<uint8_t>(),
            (std::vector<uint8_t>{0, 2, 3, 0, 0, 6, 0, 0, 0}));
  EXPECT_EQ(diag(x.to(kFloat16), -1).to_vector<float>(), (std::vector<float>{4, 8}));
  EXPECT_EQ(trace(x).dtype(), kInt64);
  EXPECT_EQ(trace(x).item(), 15);
  EXPECT_EQ(trace(eye(3, {.dtype = kBool})).item(), 3);
}

TEST(Linalg, MethodAndOptionalBias) {
  const Tensor a = normal({2, 3});
  const Tensor b = normal({3, 2});
  EXPECT_EQ(a.matmul(b).to_vector<double>(), matmul(a, b).to_vector<double>());
  const Tensor none;
  EXPECT_EQ(linear(a, t(b), none).to_vector<double>(), matmul(a, b).to_vector<double>());
}

TEST(Linalg, InputWithFactorZeroIsNotRead) {
  const Tensor nan = full({2, 2}, NAN, {.dtype = kFloat64});
  const Tensor a = normal({2, 3});
  const Tensor b = normal({3, 2});
  EXPECT_EQ(addmm(nan, a, b, {.beta = 0}).to_vector<double>(), mm(a, b).to_vector<double>());
  EXPECT_TRUE(std::isnan(addmm(nan, a, b).to_vector<double>()[0]));

  // Nor are the factors of a product with factor 0, vectors or matrices.
  const Tensor input = normal({2, 2});
  const Tensor column = full({2, 1}, NAN, {.dtype = kFloat64});
  const Tensor row = full({1, 2}, NAN, {.dtype = kFloat64});
  const std::vector<double> as_it_is = input.to_vector<double>();
  EXPECT_EQ(addmm(input, nan, nan, {.alpha = 0}).to_vector<double>(), as_it_is);
  EXPECT_EQ(addmm(input, column, row, {.alpha = 0}).to_vector<double>(), as_it_is);
  const Tensor tall = normal({2, 1});
  EXPECT_EQ(addmm(tall, nan, column, {.alpha = 0}).to_vector<double>(), tall.to_vector<double>());
  const Tensor wide = normal({1, 2});
  EXPECT_EQ(addmm(wide, row, nan, {.alpha = 0}).to_vector<double>(), wide.to_vector<double>());
  EXPECT_EQ(addmm(wide, row, nan, {.beta = 0, .alpha = 0}).to_vector<double>(),
            std::vector<double>(2, 0.0));
}

TEST(Linalg, NanPropagates) {
  const Tensor nan = full({1, 1}, NAN);
  const Tensor zero = zeros({1, 3});
  for (const double v : matmul(nan, zero).to_vector<double>()) EXPECT_TRUE(std::isnan(v));
}

// The gradient of a leaf, and how many products of vectors it is kept as.
struct Kept {
  size_t products = 0;
  std::vector<double> dense;
};
Kept gradient_of(const Parameter& p) {
  Gradient& g = p.leaf().grad;
  Kept k;
  if (!g.outer_parts().empty()) {
    k.products = static_cast<size_t>(g.stacked_outer().u.size(0));
  }
  k.dense = Tensor(g.dense()).to_vector<double>();
  return k;
}

TEST(Linalg, GradientOfAWeightUsedOnceStaysAProduct) {
  const Tensor w = normal({20, 30});
  const Tensor x = normal({30});
  const auto used = [&](auto&& f) {
    const Parameter p(Tensor(copy(w.array())));
    f(p).backward(ones({20}, {.dtype = kFloat64}));
    return gradient_of(p);
  };
  std::vector<double> expected;
  for (int i = 0; i < 20; ++i) {
    for (const double v : x.to_vector<double>()) expected.push_back(v);
  }
  const auto check = [&](const char* name, const Kept& k) {
    EXPECT_EQ(k.products, 1u) << name;
    EXPECT_EQ(k.dense, expected) << name;
  };
  check("mv", used([&](const Tensor& p) { return mv(p, x); }));
  check("matmul", used([&](const Tensor& p) { return matmul(p, x); }));
  check("matmul from the left", used([&](const Tensor& p) { return matmul(x, t(p)); }));
  check("linear", used([&](const Tensor& p) { return linear(x, p); }));
  check("mm", used([&](const Tensor& p) { return mm(p, x.unsqueeze(1)).reshape({20}); }));
  check("addmm", used([&](const Tensor& p) {
          return addmm(zeros({20, 1}, {.dtype = kFloat64}), p, x.unsqueeze(1)).reshape({20});
        }));
  check("linear of one row",
        used([&](const Tensor& p) { return linear(x.unsqueeze(0), p).reshape({20}); }));
}

TEST(Linalg, GradientOfAWeightUsedOftenIsDense) {
  const Parameter p(normal({8, 6}));
  linear(normal({5, 6}), p).backward(normal({5, 8}));
  EXPECT_EQ(gradient_of(p).products, 0u);  // 5 (8 + 6) > 8 * 6
  const Parameter q(normal({8, 6}));
  linear(normal({3, 6}), q).backward(normal({3, 8}));
  EXPECT_EQ(gradient_of(q).products, 3u);
}

TEST(Linalg, ScaledWeightKeepsTheProduct) {
  const Parameter p(normal({20, 30}));
  linear(normal({30}), p.tensor() * 0.5).backward(normal({20}));
  EXPECT_EQ(gradient_of(p).products, 1u);
}

TEST(Linalg, FactorsSurviveAStepOfTheOtherParameter) {
  const Parameter w(normal({4, 5}));
  const Tensor before = normal({5});
  const Parameter x(Tensor(copy(before.array())));
  const Tensor ones4 = ones({4}, {.dtype = kFloat64});
  mv(w, x).backward(ones4);
  mv(w, x->reshape({5})).backward(ones4);
  x.copy_from(zeros({5}));
  const std::vector<double> g = gradient_of(w).dense;
  for (size_t i = 0; i < g.size(); ++i) EXPECT_EQ(g[i], 2 * before.to_vector<double>()[i % 5]);
}

TEST(Linalg, TransposedOperandsGiveTheTransposedProduct) {
  const Tensor a = normal({70, 130});
  const Tensor b = normal({130, 90});
  const Tensor direct = mm(a, b);
  const Tensor swapped = t(mm(t(b), t(a)));
  const std::vector<double> x = direct.to_vector<double>();
  const std::vector<double> y = swapped.to_vector<double>();
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-12 * 40);
}

}  // namespace
}  // namespace ebb
