// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/array.h"

#include <gtest/gtest.h>

#include <cmath>
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

Array counting(const Shape& shape) {
  Array a = Array::empty(kFloat64, shape);
  for (int64_t k = 0; k < a.numel(); ++k) a.mutable_data<double>()[k] = static_cast<double>(k);
  return a;
}

TEST(Array, Undefined) {
  const Array a;
  EXPECT_FALSE(a.defined());
  EXPECT_FALSE(static_cast<bool>(a));
  EXPECT_EQ(to_string(a), "undefined");
}

TEST(Array, HasTypeShapeAndRowMajorStrides) {
  const Array a = Array::empty(kInt32, {2, 3, 4});
  EXPECT_EQ(a.dtype(), kInt32);
  EXPECT_EQ(a.rank(), 3);
  EXPECT_EQ(a.numel(), 24);
  EXPECT_EQ(a.shape(), (Shape{2, 3, 4}));
  EXPECT_EQ(a.stride(0), 12);
  EXPECT_EQ(a.stride(1), 4);
  EXPECT_EQ(a.stride(2), 1);
  EXPECT_TRUE(a.is_contiguous());
  EXPECT_EQ(a.meta().str(), "int32[2,3,4]");
  EXPECT_EQ(a.meta(), (Meta{kInt32, {2, 3, 4}}));
}

TEST(Array, ElementsAreAligned) {
  for (int rank = 0; rank <= kMaxRank; ++rank) {
    Shape s;
    for (int i = 0; i < rank; ++i) s.push_back(1);
    for (const DType t : {kFloat32, kBool, kFloat64}) {
      const Array a = Array::empty(t, s);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(a.raw()) % 64, 0u) << rank;
    }
  }
}

TEST(Array, FullConvertsToEveryType) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto t = static_cast<DType>(i);
    const Array a = Array::full(t, {5}, 1);
    EXPECT_EQ(a.dtype(), t);
    for (int64_t k = 0; k < 5; ++k) EXPECT_EQ(a.at({k}), 1) << name_of(t);
    EXPECT_EQ(Array::zeros(t, {3}).at({2}), 0);
  }
  EXPECT_EQ(Array::full(kFloat16, {}, 1.5).item(), 1.5);
  EXPECT_EQ(Array::full(kBFloat16, {}, -2.5).item(), -2.5);
  EXPECT_EQ(Array::scalar(kFloat32, 0.1).item(), static_cast<double>(0.1f));
}

TEST(Array, OfValues) {
  const std::vector<float> v = {1, 2, 3, 4, 5, 6};
  const Array a = Array::of<float>({2, 3}, v);
  EXPECT_EQ(a.at({1, 2}), 6);
  EXPECT_EQ(a.data<float>()[3], 4);
  EXPECT_EQ(message_of<ShapeError>([&] { Array::of<float>({7}, v); }),
            "array: 6 values do not fill [7]");
  EXPECT_EQ(Array::of<float>({0, 3}, {}).numel(), 0);
}

TEST(Array, DataChecksTheType) {
  const Array a = Array::zeros(kFloat32, {2, 3});
  EXPECT_EQ(message_of<DTypeError>([&] { (void)a.data<double>(); }),
            "data: array is float32[2,3], asked for float64");
  EXPECT_THROW(a.mutable_data<int64_t>(), DTypeError);
}

TEST(Array, ItemNeedsOneElement) {
  EXPECT_EQ(Array::full(kInt64, {1, 1}, 7).item(), 7);
  EXPECT_EQ(message_of<ShapeError>([] { Array::zeros(kInt64, {2}).item(); }),
            "item: [2] has 2 elements, not one");
  EXPECT_THROW(Array::zeros(kInt64, {0}).item(), ShapeError);
}

TEST(Array, ImpossibleSizes) {
  EXPECT_THROW(Array::empty(kFloat32, {-1}), ShapeError);
  EXPECT_THROW(Array::empty(kFloat64, {INT64_MAX}), MemoryError);
  EXPECT_THROW(Array::empty(kFloat64, {1LL << 50}), MemoryError);
}

TEST(Array, CopiesShareAndMovesLeaveNothing) {
  Array a = counting({3});
  EXPECT_TRUE(a.is_unique());
  Array b = a;
  EXPECT_FALSE(a.is_unique());
  EXPECT_TRUE(a.shares_storage(b));
  b.mutable_data<double>()[0] = 42;
  EXPECT_EQ(a.at({0}), 42);
  const Array c = std::move(b);
  EXPECT_FALSE(b.defined());  // NOLINT(bugprone-use-after-move)
  EXPECT_FALSE(a.is_unique());
  const Array& same = a;
  a = same;
  EXPECT_TRUE(a.defined());
  a = Array();
  EXPECT_TRUE(c.is_unique());
}

TEST(Array, EmptyLikeIsContiguous) {
  const Array a = counting({2, 3});
  const int64_t strides[] = {1, 3};
  const Array t = a.view({3, 2}, strides, 0);
  const Array like = Array::empty_like(t);
  EXPECT_EQ(like.meta(), t.meta());
  EXPECT_TRUE(like.is_contiguous());
  EXPECT_EQ(like.stride(0), 2);
}

TEST(View, SharesElementsAndHoldsTheRoot) {
  Array v;
  {
    const Array a = counting({4, 5});
    const int64_t strides[] = {5, 2};
    const Array outer = a.view({2, 2}, strides, 6);
    const int64_t inner[] = {2};
    v = outer.view({2}, inner, 5);
    EXPECT_FALSE(a.is_unique());
    EXPECT_TRUE(v.shares_storage(a));
    EXPECT_FALSE(v.shares_storage(counting({2})));
  }
  // The base and the view between are gone; their elements are not.
  EXPECT_EQ(v.at({0}), 11);
  EXPECT_EQ(v.at({1}), 13);
  EXPECT_FALSE(v.is_unique()) << "a view's elements are never its own";
}

TEST(View, KnowsWhetherItIsContiguous) {
  const Array a = counting({4, 6});
  const auto view = [&](const Shape& shape, std::vector<int64_t> strides) {
    return a.view(shape, strides.data(), 0).is_contiguous();
  };
  EXPECT_TRUE(view({2, 6}, {6, 1}));
  EXPECT_FALSE(view({4, 3}, {6, 1}));
  EXPECT_FALSE(view({4, 3}, {6, 2}));
  EXPECT_FALSE(view({6, 4}, {1, 6}));
  EXPECT_FALSE(view({4, 6}, {0, 1}));
  EXPECT_TRUE(view({1, 6}, {17, 1})) << "the stride of a size of 1 is of no account";
  EXPECT_TRUE(view({}, {}));
  EXPECT_TRUE(view({0, 6}, {3, 5})) << "nor any of an array without elements";
}

TEST(View, NegativeAndZeroStrides) {
  const Array a = counting({2, 3});
  const int64_t reversed[] = {-3, -1};
  const Array r = a.view({2, 3}, reversed, 5);
  EXPECT_EQ(r.at({0, 0}), 5);
  EXPECT_EQ(r.at({1, 2}), 0);
  const int64_t repeated[] = {0, 1};
  EXPECT_EQ(a.view({4, 3}, repeated, 3).at({3, 1}), 4);
}

TEST(View, AsAnotherShape) {
  const Array a = counting({2, 6});
  const Array b = a.view_as({3, 4});
  EXPECT_EQ(b.at({2, 1}), 9);
  EXPECT_TRUE(b.is_contiguous());
  EXPECT_TRUE(b.shares_storage(a));
}

TEST(Version, LivesInTheRoot) {
  const Array a = counting({4});
  const int64_t strides[] = {2};
  const Array v = a.view({2}, strides, 0);
  const Array w = v.view({1}, strides, 1);
  EXPECT_EQ(w.version(), 0u);
  v.bump_version();
  EXPECT_EQ(a.version(), 1u);
  a.bump_version();
  EXPECT_EQ(w.version(), 2u);
  EXPECT_EQ(counting({4}).version(), 0u) << "also where it reuses the memory of another";
}

TEST(ShapeOnly, HasNoElements) {
  const Array a = counting({1000, 3});
  const int64_t before = memory_stats().live_bytes;
  const Array s = Array::shape_only(a);
  EXPECT_LE(memory_stats().live_bytes - before, 192);
  EXPECT_EQ(s.meta(), a.meta());
  EXPECT_FALSE(s.has_data());
  EXPECT_EQ(to_string(s), "float64[1000,3]");
}

TEST(ToString, NestsAndShortens) {
  EXPECT_EQ(to_string(counting({2, 2})), "[[0, 1], [2, 3]] float64[2,2]");
  EXPECT_EQ(to_string(Array::scalar(kFloat32, 0.5)), "0.5 float32[]");
  EXPECT_EQ(to_string(Array::full(kBool, {2}, 1)), "[true, true] bool[2]");
  EXPECT_EQ(to_string(Array::zeros(kInt64, {0})), "[] int64[0]");
  EXPECT_EQ(to_string(counting({20})), "[0, 1, 2, ..., 17, 18, 19] float64[20]");
  EXPECT_EQ(to_string(counting({12})), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] float64[12]");
}

}  // namespace
}  // namespace ebb
