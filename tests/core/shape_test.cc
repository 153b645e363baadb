// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/shape.h"

#include <gtest/gtest.h>

#include <vector>

namespace ebb {
namespace {

template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Shape, HoldsItsSizes) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s.numel(), 24);
  EXPECT_EQ(s[2], 4);
  EXPECT_EQ(s.str(), "[2,3,4]");
  EXPECT_EQ(std::vector<int64_t>(s.begin(), s.end()), (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(Shape{}.str(), "[]");
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_TRUE(Shape{}.empty());
  EXPECT_EQ((Shape{5, 0, 7}.numel()), 0);
}

TEST(Shape, ComparesSizesInUseOnly) {
  Shape a{1, 2, 3};
  a = Shape{1, 2};
  EXPECT_EQ(a, (Shape{1, 2}));
  EXPECT_NE(a, (Shape{1, 2, 3}));
  EXPECT_NE(a, (Shape{1, 3}));
  Shape b = a;
  b[1] = 9;
  EXPECT_EQ(a[1], 2);
}

TEST(Shape, RankIsLimited) {
  Shape s{1, 2, 3, 4, 5, 6, 7};
  s.push_back(8);
  EXPECT_EQ(s.rank(), 8);
  EXPECT_EQ(message_of<ShapeError>([&] { s.push_back(9); }),
            "shape: rank 9 is above the largest, 8");
  EXPECT_EQ(s.rank(), 8);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  EXPECT_THROW(Shape(std::vector<int64_t>(20, 1)), ShapeError);
}

TEST(CheckedNumel, RejectsWhatNoArrayCanHave) {
  EXPECT_EQ(checked_numel({2, 3}, 8), 6);
  EXPECT_EQ(checked_numel({}, 8), 1);
  EXPECT_EQ(message_of<ShapeError>([] {
              checked_numel({2, -1}, 4);
            }),
            "shape: [2,-1] has a negative size");
  EXPECT_THROW(checked_numel({0, -1}, 4), ShapeError);
  EXPECT_THROW(checked_numel({INT64_MAX, 2}, 1), MemoryError);
  EXPECT_THROW(checked_numel({INT64_MAX / 4}, 8), MemoryError) << "its size in bytes overflows";
  EXPECT_THROW(checked_numel({1LL << 32, 1LL << 32, 1LL << 32}, 4), MemoryError);
  EXPECT_EQ(checked_numel({0, INT64_MAX}, 8), 0);
  EXPECT_EQ(checked_numel({INT64_MAX, 0}, 1), 0);
}

TEST(BroadcastShapes, FollowsNumPy) {
  const auto both = [](const Shape& a, const Shape& b) {
    Shape ab;
    Shape ba;
    EXPECT_TRUE(broadcast_shapes(a, b, &ab)) << a.str() << b.str();
    EXPECT_TRUE(broadcast_shapes(b, a, &ba)) << a.str() << b.str();
    EXPECT_EQ(ab, ba);
    return ab;
  };
  EXPECT_EQ(both({3, 4}, {3, 4}), (Shape{3, 4}));
  EXPECT_EQ(both({3, 4}, {4}), (Shape{3, 4}));
  EXPECT_EQ(both({3, 1}, {1, 4}), (Shape{3, 4}));
  EXPECT_EQ(both({}, {2, 3}), (Shape{2, 3}));
  EXPECT_EQ(both({}, {}), Shape{});
  EXPECT_EQ(both({2, 1, 4}, {3, 1}), (Shape{2, 3, 4}));
  EXPECT_EQ(both({0}, {1}), Shape{0}) << "a size of 1 stretches to 0 too";
  EXPECT_EQ(both({2, 0}, {2, 1}), (Shape{2, 0}));
  Shape out;
  EXPECT_FALSE(broadcast_shapes({3}, {4}, &out));
  EXPECT_FALSE(broadcast_shapes({0}, {2}, &out));
  EXPECT_FALSE(broadcast_shapes({2, 3}, {2}, &out));
}

TEST(NormalizeAxis, CountsFromTheEndToo) {
  EXPECT_EQ(normalize_axis(0, 3, "op"), 0);
  EXPECT_EQ(normalize_axis(-1, 3, "op"), 2);
  EXPECT_EQ(normalize_axis(-3, 3, "op"), 0);
  EXPECT_EQ(normalize_axis(-1, 0, "op"), 0) << "of a scalar, as in PyTorch";
  EXPECT_EQ(message_of<IndexError>([] { normalize_axis(3, 2, "sum"); }),
            "sum: axis 3 is outside [-2, 2)");
  EXPECT_THROW(normalize_axis(-3, 2, "sum"), IndexError);
  EXPECT_THROW(normalize_axis(1, 0, "sum"), IndexError);
  EXPECT_THROW(normalize_axis(INT64_MIN, 2, "sum"), IndexError);
}

TEST(Axes, NamesAxesByBits) {
  EXPECT_EQ(Axes(0).mask(3, "op"), 0b001u);
  EXPECT_EQ(Axes(-1).mask(3, "op"), 0b100u);
  EXPECT_EQ((Axes{0, 2}.mask(3, "op")), 0b101u);
  EXPECT_EQ(Axes().mask(3, "op"), 0b111u) << "none named means all";
  EXPECT_EQ(Axes().mask(0, "op"), 0u);
  EXPECT_EQ(Axes(0).mask(0, "op"), 0u);
  EXPECT_EQ(Axes().mask(8, "op"), 0xffu);
  EXPECT_EQ(message_of<ValueError>([] {
              Axes{1, -1}.mask(2, "sum");
            }),
            "sum: axis -1 is named twice");
  EXPECT_THROW(Axes(5).mask(2, "sum"), IndexError);
}

}  // namespace
}  // namespace ebb
