// SPDX-License-Identifier: Apache-2.0
// What ops inferred is remembered by their shapes and attributes, and by nothing less.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/memory.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

thread_local int asked = 0;

/// The first `count` elements of each row, and how many there are: an op that counts how often it
/// is asked for its shapes.
struct Heads {
  static constexpr OpDoc kDoc{"heads", "y = x[..., :count], n = numel(y)",
                              "x:[...,k] -> y:[...,count] n:[]"};
  struct Attrs {
    int64_t count = 1;
  };
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    ++asked;
    require_inputs(kDoc, in, 1);
    Meta y = in[0];
    const int last = y.shape.rank() - 1;
    if (last < 0 || y.shape[last] < a.count) throw ShapeError("heads: too few");
    y.shape[last] = a.count;
    return {y, {kInt64, {}}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const int64_t k = in[0].size(in[0].rank() - 1);
    for (int64_t i = 0; i < out[0].numel(); ++i) {
      out[0].mutable_data<double>()[i] = in[0].data<double>()[i / a.count * k + i % a.count];
    }
    *out[1].mutable_data<int64_t>() = out[0].numel();
  }
};

Outputs heads(const Tensor& x, int64_t count) { return apply_multi<Heads>({count}, x); }

Tensor numbers(const Shape& shape) {
  Array a = Array::empty(kFloat64, shape);
  for (int64_t i = 0; i < a.numel(); ++i) a.mutable_data<double>()[i] = static_cast<double>(i);
  return Tensor(std::move(a));
}

TEST(ShapeMemo, AsksOnceForTheSameShapes) {
  asked = 0;
  for (int i = 0; i < 3; ++i) {
    const Outputs y = heads(numbers({2, 3}), 2);
    EXPECT_EQ(y[0].shape(), Shape({2, 2}));
    EXPECT_EQ(y[0].value().at({{1, 1}}), 4);
    EXPECT_EQ(y[1].dtype(), kInt64);
    EXPECT_EQ(y[1].value().integer_item(), 4);
  }
  EXPECT_EQ(asked, 1);
}

TEST(ShapeMemo, TellsShapesOfTheSameSizeAttributesAndTypesApart) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(heads(numbers({2, 6}), 2)[0].shape(), Shape({2, 2}));
    EXPECT_EQ(heads(numbers({2, 6}), 5)[0].shape(), Shape({2, 5}));
    EXPECT_EQ(heads(numbers({3, 4}), 2)[0].shape(), Shape({3, 2}));
    EXPECT_EQ(heads(numbers({12}), 2)[0].shape(), Shape({2}));
    EXPECT_EQ(heads(numbers({1, 12}), 2)[0].shape(), Shape({1, 2}));
    const Tensor sum = numbers({3, 4}).sum(0);
    EXPECT_EQ(sum.shape(), Shape({4}));
    EXPECT_EQ(numbers({3, 4}).sum(1).shape(), Shape({3}));
    EXPECT_EQ(numbers({3, 4}).sum(1, true).shape(), Shape({3, 1}));
    EXPECT_EQ((numbers({3, 1}) * numbers({4})).shape(), Shape({3, 4}));
    EXPECT_EQ((numbers({3, 1}) * numbers({1, 4})).shape(), Shape({3, 4}));
    const Tensor floats = numbers({3, 4}).to(kFloat32);
    EXPECT_EQ(floats.dtype(), kFloat32);
    EXPECT_EQ(floats.sum(0).dtype(), kFloat32);
    EXPECT_EQ(mv(numbers({3, 4}), numbers({4})).shape(), Shape({3}));
    EXPECT_EQ(mv(t(numbers({4, 3})), numbers({4})).shape(), Shape({3}));
  }
}

TEST(ShapeMemo, KeepsNoErrors) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(heads(numbers({4, 3}), 3)[0].shape(), Shape({4, 3}));
    EXPECT_THROW(heads(numbers({3, 4}), 5), ShapeError);
    EXPECT_THROW(heads(numbers({4, 3}), 4), ShapeError);
    EXPECT_THROW(heads(numbers({}), 1), ShapeError);
    EXPECT_THROW(mv(numbers({3, 4}), numbers({3})), ShapeError);
    EXPECT_EQ(mv(numbers({3, 4}), numbers({4})).shape(), Shape({3}));
    EXPECT_THROW(mv(numbers({3, 4}), numbers({4}).to(kFloat32)), DTypeError);
    EXPECT_THROW(mv(numbers({3, 4}), Tensor()), ValueError);
  }
}

TEST(ShapeMemo, ManyShapesPassThroughIt) {
  for (int round = 0; round < 2; ++round) {
    for (int64_t n = 1; n < 300; ++n) {
      const Outputs y = heads(numbers({n}), (n + 1) / 2);
      ASSERT_EQ(y[0].numel(), (n + 1) / 2);
      ASSERT_EQ(y[1].value().integer_item(), (n + 1) / 2);
    }
  }
}

TEST(ShapeMemo, ArraysOfAnyRankAndNoElements) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(heads(numbers({1, 2, 1, 2, 1, 2, 1, 2}), 1)[0].shape(),
              Shape({1, 2, 1, 2, 1, 2, 1, 1}));
    EXPECT_EQ(heads(numbers({0, 4}), 3)[0].shape(), Shape({0, 3}));
    EXPECT_EQ(heads(numbers({4}), 0)[0].shape(), Shape({0}));
  }
}

TEST(ShapeMemo, GradientsOfRememberedCallsAreThoseOfTheFirst) {
  const Tensor x = variable(numbers({2, 3}));
  const Tensor w = variable(numbers({4, 3}));
  Tensor first;
  for (int i = 0; i < 3; ++i) {
    const Tensor g = grad(square(linear(x, w)).sum(), w);
    if (i == 0) first = g;
    for (int64_t k = 0; k < g.numel(); ++k) {
      EXPECT_EQ(g.value().data<double>()[k], first.value().data<double>()[k]);
    }
  }
}

TEST(ShapeMemo, ThreadsRememberByThemselves) {
  asked = 0;
  heads(numbers({5, 7}), 4);
  std::thread([] {
    for (int i = 0; i < 2; ++i) EXPECT_EQ(heads(numbers({5, 7}), 4)[0].shape(), Shape({5, 4}));
    EXPECT_EQ(asked, 1);
  }).join();
  EXPECT_EQ(asked, 1);
}

TEST(ShapeMemo, AllocationsOfRememberedShapesMayFail) {
  const Tensor x = numbers({1 << 10, 64});
  heads(x, 64);
  set_memory_limit(memory_stats().live_bytes + (1 << 18));
  EXPECT_THROW(heads(x, 64), MemoryError);
  set_memory_limit(0);
  EXPECT_EQ(heads(x, 64)[0].shape(), Shape({1 << 10, 64}));
}

}  // namespace
}  // namespace ebb
