// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/strided.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::Random;
using Offsets = std::array<ptrdiff_t, 3>;
using Strides = std::vector<int64_t>;

// The offsets of every element, by plain counting.
std::vector<Offsets> all_offsets(const Strides& dims, const std::array<Strides, 3>& strides) {
  std::vector<Offsets> out;
  std::vector<int64_t> index(dims.size(), 0);
  const int64_t total =
      std::accumulate(dims.begin(), dims.end(), int64_t{1}, [](auto a, auto b) { return a * b; });
  for (int64_t i = 0; i < total; ++i) {
    Offsets o{};
    int64_t rest = i;
    for (size_t d = dims.size(); d-- > 0;) {
      for (size_t k = 0; k < 3; ++k) o[k] += (rest % dims[d]) * strides[k][d];
      rest /= dims[d];
    }
    out.push_back(o);
  }
  return out;
}

struct Visit {
  std::vector<Offsets> offsets;
  size_t rows = 0;
};

Visit visit(const Strides& dims, const std::array<Strides, 3>& s) {
  Visit v;
  for_each_row<3>(dims.size(), dims.data(), {s[0].data(), s[1].data(), s[2].data()},
                  [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* step) {
                    ++v.rows;
                    for (size_t i = 0; i < n; ++i) {
                      Offsets o;
                      for (size_t k = 0; k < 3; ++k)
                        o[k] = at[k] + static_cast<ptrdiff_t>(i) * step[k];
                      v.offsets.push_back(o);
                    }
                  });
  return v;
}

Strides dense(const Strides& dims) {
  Strides s(dims.size());
  int64_t step = 1;
  for (size_t d = dims.size(); d-- > 0;) {
    s[d] = step;
    step *= dims[d];
  }
  return s;
}

TEST(Strided, VisitsEveryElementOnceWhateverTheStrides) {
  Random random(1);
  for (int trial = 0; trial < 3000; ++trial) {
    const size_t rank = random.below(kMaxRank + 1);
    Strides dims(rank);
    for (auto& d : dims) d = static_cast<int64_t>(random.below(rank > 4 ? 3 : 5));
    if (random.below(4) != 0) {
      for (auto& d : dims) d = std::max<int64_t>(d, 1);
    }
    std::array<Strides, 3> strides;
    for (Strides& s : strides) {
      // Dense in a random order of the dims, then some broadcast and some turned round.
      Strides order(rank);
      std::iota(order.begin(), order.end(), 0);
      for (size_t i = rank; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
      s.resize(rank);
      int64_t step = 1 + static_cast<int64_t>(random.below(2));
      for (const int64_t d : order) {
        s[static_cast<size_t>(d)] = step;
        step *= std::max<int64_t>(dims[static_cast<size_t>(d)], 1);
      }
      if (random.below(2) == 0) {
        for (auto& x : s) x *= std::array<int64_t, 4>{1, 1, 0, -1}[random.below(4)];
      }
    }
    auto expected = all_offsets(dims, strides);
    auto got = visit(dims, strides).offsets;
    std::sort(expected.begin(), expected.end());
    std::sort(got.begin(), got.end());
    ASSERT_EQ(got, expected) << "trial " << trial;
  }
}

TEST(Strided, OneRowForWhatIsContiguous) {
  const Strides dims{3, 1, 4, 5};
  const Strides s = dense(dims);
  EXPECT_EQ(visit(dims, {s, s, s}).rows, 1u);
  // In a common order of the dims that is not the usual one, too.
  const Strides permuted{1, 7, 15, 3};
  EXPECT_EQ(visit(dims, {permuted, permuted, permuted}).rows, 1u);
  // A bias over the rows of a matrix; the rows cannot be merged.
  EXPECT_EQ(visit({6, 8}, {Strides{8, 1}, Strides{8, 1}, Strides{0, 1}}).rows, 6u);
  // A scale for each channel: the picture's dims merge.
  EXPECT_EQ(visit({4, 5, 6}, {Strides{30, 6, 1}, Strides{30, 6, 1}, Strides{1, 0, 0}}).rows, 4u);
}

TEST(Strided, ScalarIsOneRowOfOneAndEmptyIsNone) {
  const Visit scalar = visit({}, {});
  EXPECT_EQ(scalar.rows, 1u);
  EXPECT_EQ(scalar.offsets.size(), 1u);
  const Visit ones = visit({1, 1}, {Strides{5, 9}, Strides{0, 0}, Strides{-1, 2}});
  EXPECT_EQ(ones.rows, 1u);
  EXPECT_EQ(ones.offsets, std::vector<Offsets>{Offsets{}});
  EXPECT_EQ(visit({3, 0, 2}, {dense({3, 0, 2}), Strides{0, 0, 0}, Strides{1, 2, 3}}).rows, 0u);
  EXPECT_EQ(visit({0}, {Strides{1}, Strides{1}, Strides{1}}).rows, 0u);
}

TEST(Strided, InnerStrideOfADenseFirstOperandIsOne) {
  const Strides dims{4, 5, 6};
  const std::array<Strides, 3> s{Strides{5, 1, 20}, dense(dims), Strides{0, 3, 1}};
  for_each_row<3>(3, dims.data(), {s[0].data(), s[1].data(), s[2].data()},
                  [](const ptrdiff_t*, size_t n, const ptrdiff_t* step) {
                    EXPECT_EQ(step[0], 1);
                    EXPECT_EQ(n, 5u);
                  });
}

TEST(Strided, RemoveTakesADimOut) {
  const Strides dims{4, 5, 6};
  const Strides a{30, 6, 1};
  const Strides b{1, 4, 20};
  StridedPlan<2> plan(3, dims.data(), {a.data(), b.data()});
  ASSERT_EQ(plan.rank, 3u);
  plan.remove(0);
  EXPECT_EQ(plan.rank, 2u);
  EXPECT_EQ(plan.dims[0], 5u);
  EXPECT_EQ(plan.dims[1], 4u);
  EXPECT_EQ(plan.strides[0], (std::array<ptrdiff_t, 2>{6, 4}));
  EXPECT_EQ(plan.strides[1], (std::array<ptrdiff_t, 2>{30, 1}));
}

}  // namespace
}  // namespace ebb::kernels
