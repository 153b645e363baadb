// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "decomposition_reference.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/decomposition.h"

// Linear systems, inverse and determinant.
namespace ebb {
namespace {

using testing::positive_definite;
using testing::RegisterSamples;

// x of op(a) x = b or x op(a) = b for b with its vectors as matrices; stacks as in for_stack, b of
// the rank of x.
RefArray solve_reference(const RefArray& a, const RefArray& b, bool left,
                         const std::function<Matrix(Matrix)>& op) {
  const bool vector = b.shape.rank() == 1;
  Shape sb = b.shape;
  if (vector) sb = left ? Shape{b.size(0), 1} : Shape{1, b.size(0)};
  const int ra = a.shape.rank();
  const int rb = sb.rank();
  Shape batch;
  broadcast_shapes(Shape(a.shape.data(), static_cast<size_t>(ra - 2)),
                   Shape(sb.data(), static_cast<size_t>(rb - 2)), &batch);
  const int64_t n = a.size(ra - 1);
  const int64_t rows = sb[rb - 2];
  const int64_t cols = sb[rb - 1];
  Shape out = batch;
  if (vector) {
    out.push_back(n);
  } else {
    out.push_back(rows);
    out.push_back(cols);
  }
  RefArray x(out);
  const auto matrix_at = [&](const Shape& s, int64_t i) {
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
    Matrix ma(n, n);
    Matrix mb(rows, cols);
    std::copy_n(a.v.begin() + matrix_at(a.shape, i) * n * n, n * n, ma.v.begin());
    std::copy_n(b.v.begin() + matrix_at(sb, i) * rows * cols, rows * cols, mb.v.begin());
    ma = op(ma);
    const Matrix y = left ? gauss(ma, mb) : transposed(gauss(transposed(ma), transposed(mb)));
    std::copy(y.v.begin(), y.v.end(), x.v.begin() + i * rows * cols);
  }
  return x;
}

struct SolveCase {
  Shape a;
  Shape b;
};
const SolveCase kLeft[] = {{{3, 3}, {3, 2}},
                           {{3, 3}, {3}},
                           {{2, 3, 3}, {3, 2}},
                           {{3, 3}, {2, 3, 2}},
                           {{2, 1, 3, 3}, {2, 3, 1}},
                           {{2, 3, 3}, {3}},
                           {{1, 1}, {1}},
                           {{0, 0}, {0, 2}},
                           {{0, 0}, {0}},
                           {{3, 3}, {3, 0}},
                           {{0, 2, 2}, {2, 2}},
                           {{5, 5}, {5, 4}}};
const SolveCase kRight[] = {
    {{3, 3}, {2, 3}},          {{3, 3}, {3}},    {{2, 3, 3}, {2, 3}}, {{3, 3}, {2, 2, 3}},
    {{2, 1, 3, 3}, {2, 1, 3}}, {{2, 3, 3}, {3}}, {{0, 0}, {2, 0}}};

const RegisterSamples kTriangularSolve{
    "triangular_solve", [] {
      OpSamples s{.op = "triangular_solve"};
      for (int bits = 0; bits < 16; ++bits) {
        const TriangularSolveOptions o{.upper = (bits & 1) != 0,
                                       .left = (bits & 2) != 0,
                                       .transpose = (bits & 4) != 0,
                                       .unitriangular = (bits & 8) != 0};
        const auto op = [o](Matrix a) {
          for (int64_t i = 0; i < a.rows; ++i) {
            for (int64_t j = 0; j < a.cols; ++j) {
              if (o.upper ? j < i : j > i) a(i, j) = 0;
              if (i == j && o.unitriangular) a(i, j) = 1;
            }
          }
          return o.transpose ? transposed(a) : a;
        };
        for (const SolveCase& c :
             o.left ? Span<const SolveCase>(kLeft) : Span<const SolveCase>(kRight)) {
          s.samples.push_back(sample(
              c.a.str() + " " + c.b.str() + " options " + std::to_string(bits),
              {positive_definite(c.a), normal(c.b)},
              [=](const Tensor& a, const Tensor& b) { return triangular_solve(a, b, o); },
              [=](const RefArray& a, const RefArray& b) {
                return solve_reference(a, b, o.left, op);
              }));
        }
      }
      const testing::Call call = [](const Tensor& a, const Tensor& b) {
        return triangular_solve(a, b);
      };
      const testing::Call right = [](const Tensor& a, const Tensor& b) {
        return triangular_solve(a, b, {.left = false});
      };
      s.errors.push_back(error_sample<NumericError>(
          "singular", {testing::tensor({2, 2}, {1, 2, 3, 0}), normal({2})}, call,
          "triangular_solve: a is [2,2]; it is singular: pivot 1 is 0"));
      s.errors.push_back(error_sample<NumericError>(
          "in a stack", {testing::tensor({2, 1, 1}, {1, 0}), normal({1})}, call,
          "triangular_solve: a is [2,1,1]; matrix 1 of it is singular: pivot 0 is 0"));
      s.errors.push_back(error_sample<ShapeError>(
          "sizes", {normal({2, 2}), normal({3, 1})}, call,
          "triangular_solve: a is [2,2], b is [3,1]; b.size(-2)=3 must equal a.size(-1)=2"));
      s.errors.push_back(error_sample<ShapeError>(
          "sizes from the right", {normal({2, 2}), normal({2, 3})}, right,
          "triangular_solve: a is [2,2], b is [2,3]; b.size(-1)=3 must equal a.size(-1)=2"));
      s.errors.push_back(error_sample<ShapeError>("scalar", {normal({2, 2}), normal({})}, call,
                                                  "triangular_solve: b is a scalar"));
      s.errors.push_back(
          error_sample<ShapeError>("not square", {normal({2, 3}), normal({3})}, call,
                                   "triangular_solve: a is [2,3]; it must be square"));
      s.errors.push_back(error_sample<DTypeError>("two types",
                                                  {normal({2, 2}), testing::integers({2}, 0, 1)},
                                                  call, "triangular_solve: input 1 is int64[2]"));
      s.no_scalar = "a is a matrix";
      return s;
    }};

const RegisterSamples kSolve{
    "solve", [] {
      OpSamples s{.op = "solve"};
      for (const SolveCase& c : kLeft) {
        s.samples.push_back(sample(
            c.a.str() + " " + c.b.str(), {positive_definite(c.a), normal(c.b)},
            [](const Tensor& a, const Tensor& b) { return solve(a, b); },
            [](const RefArray& a, const RefArray& b) {
              return solve_reference(a, b, true, [](Matrix m) { return m; });
            }));
      }
      s.samples.push_back(sample(
          "rows swapped", {testing::tensor({3, 3}, {0, 2, 1, 4, 1, 0, 1, 3, -1}), normal({3, 2})},
          [](const Tensor& a, const Tensor& b) { return solve(a, b); },
          [](const RefArray& a, const RefArray& b) {
            return solve_reference(a, b, true, [](Matrix m) { return m; });
          }));
      const testing::Call call = [](const Tensor& a, const Tensor& b) { return solve(a, b); };
      s.errors.push_back(error_sample<NumericError>(
          "singular", {testing::tensor({2, 2}, {1, 2, 2, 4}), normal({2})}, call,
          "solve: a is [2,2]; it is singular: pivot 1 is 0"));
      s.errors.push_back(error_sample<ShapeError>(
          "sizes", {normal({2, 2}), normal({3})}, call,
          "solve: a is [2,2], b is [3]; b.size(-1)=3 must equal a.size(-1)=2"));
      s.errors.push_back(error_sample<ShapeError>(
          "stacks", {normal({2, 2, 2}), normal({3, 2, 2})}, call,
          "solve: a is [2,2,2], b is [3,2,2]; the axes before the last two must be equal or 1"));
      s.errors.push_back(error_sample<ShapeError>("not square", {normal({2, 3}), normal({3})}, call,
                                                  "solve: a is [2,3]; it must be square"));
      s.errors.push_back(
          error_sample<DTypeError>("two types", {normal({2, 2}), normal({2}).to(kFloat32)}, call,
                                   "solve: input 0 is float64[2,2], input 1 is float32[2]"));
      s.no_scalar = "a is a matrix";
      return s;
    }};

const RegisterSamples kInverse{
    "inverse", [] {
      OpSamples s{.op = "inverse"};
      const testing::Call call = [](const Tensor& x) { return inverse(x); };
      const testing::Reference reference = [](const RefArray& x) {
        return for_stack(x, [](const Matrix& a) -> std::vector<Result> {
          return {result(gauss(a, unit(a.rows)))};
        });
      };
      for (const Shape& shape : kSquare) {
        s.samples.push_back(sample(shape.str(), {positive_definite(shape)}, call, reference));
      }
      s.samples.push_back(sample("rows swapped",
                                 {testing::tensor({3, 3}, {0, 2, 1, 4, 1, 0, 1, 3, -1})}, call,
                                 reference));
      require_square_errors(&s, call);
      s.errors.push_back(
          error_sample<NumericError>("singular", {testing::tensor({2, 2}, {0, 0, 0, 0})}, call,
                                     "inverse: a is [2,2]; it is singular: pivot 0 is 0"));
      return s;
    }};

double determinant(const Matrix& a) {
  double det = 1;
  gauss(a, Matrix(a.rows, 0), &det);
  return det;
}

const RegisterSamples kLogdet{
    "logdet", [] {
      OpSamples s{.op = "logdet"};
      const testing::Call call = [](const Tensor& x) { return logdet(x); };
      for (const Shape& shape : kSquare) {
        s.samples.push_back(
            sample(shape.str(), {positive_definite(shape)}, call, [](const RefArray& x) {
              return for_stack(x, [](const Matrix& a) -> std::vector<Result> {
                return {{{}, {std::log(determinant(a))}}};
              });
            }));
      }
      require_square_errors(&s, call);
      return s;
    }};

const RegisterSamples kSlogdet{
    "slogdet", [] {
      OpSamples s{.op = "slogdet"};
      const testing::Call call = [](const Tensor& x) {
        const SlogdetResult r = slogdet(x);
        return std::vector<Tensor>{r.sign, r.logabsdet};
      };
      const testing::Reference reference = [](const RefArray& x) {
        return for_stack(x, [](const Matrix& a) -> std::vector<Result> {
          const double det = determinant(a);
          return {{{}, {det < 0 ? -1.0 : 1.0}}, {{}, {std::log(std::abs(det))}}};
        });
      };
      for (const Shape& shape : kSquare) {
        s.samples.push_back(sample(shape.str(), {positive_definite(shape)}, call, reference));
      }
      s.samples.push_back(
          sample("negative", {testing::tensor({2, 2}, {1, 2, 3, 4})}, call, reference));
      s.samples.push_back(sample("rows swapped",
                                 {testing::tensor({3, 3}, {0, 2, 1, 4, 1, 0, 1, 3, -1})}, call,
                                 reference));
      require_square_errors(&s, call);
      return s;
    }};

TEST(Decomposition, DeterminantThatHasNoLogarithm) {
  const Tensor singular = variable(testing::tensor({2, 2}, {1, 2, 2, 4}));
  EXPECT_EQ(logdet(singular).item(), -INFINITY);
  EXPECT_EQ(slogdet(singular).sign.item(), 0);
  EXPECT_EQ(slogdet(singular).logabsdet.item(), -INFINITY);
  EXPECT_TRUE(std::isnan(logdet(testing::tensor({1, 1}, {-2})).item()));
  EXPECT_TRUE(std::isnan(slogdet(testing::tensor({1, 1}, {NAN})).sign.item()));
  try {
    grad(logdet(singular), singular);
    FAIL() << "the gradient of a singular matrix should throw";
  } catch (const NumericError& e) {
    EXPECT_STREQ(e.what(), "inverse: a is [2,2]; it is singular: pivot 1 is 0");
  }
}

}  // namespace
}  // namespace ebb
