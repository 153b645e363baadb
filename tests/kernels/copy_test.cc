// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::Random;
using testing::samples;

using Dims = std::vector<int64_t>;

int64_t count(const Dims& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1},
                         [](auto a, auto b) { return a * b; });
}

// The smallest and the largest offset that strides reach, plus one: [low, high).
std::pair<int64_t, int64_t> range(const Dims& dims, const Dims& strides) {
  int64_t low = 0;
  int64_t high = 1;
  for (size_t d = 0; d < dims.size(); ++d) {
    (strides[d] < 0 ? low : high) += strides[d] * (dims[d] - 1);
  }
  return {low, high};
}

int64_t offset(const Dims& dims, const Dims& strides, int64_t i) {
  int64_t o = 0;
  for (size_t d = dims.size(); d-- > 0; i /= dims[d]) o += i % dims[d] * strides[d];
  return o;
}

// Strides that are dense in the given order of the dims, the last of it innermost.
Dims dense(const Dims& dims, const std::vector<size_t>& order, int64_t step = 1) {
  Dims s(dims.size());
  for (size_t i = order.size(); i-- > 0;) {
    s[order[i]] = step;
    step *= dims[order[i]];
  }
  return s;
}

template <class T>
void check_copy(const Dims& dims, const Dims& src_strides, const Dims& dst_strides) {
  const int64_t total = count(dims);
  if (total == 0) {
    copy_strided(sizeof(T), dims.size(), dims.data(), nullptr, src_strides.data(), nullptr,
                 dst_strides.data());
    return;
  }
  const auto [src_low, src_high] = range(dims, src_strides);
  const auto [dst_low, dst_high] = range(dims, dst_strides);
  const auto src_size = static_cast<size_t>(src_high - src_low);
  const auto dst_size = static_cast<size_t>(dst_high - dst_low);
  const Guarded<T> src(src_size, 0, samples<T>(src_size, 3, true));
  std::vector<T> expected(dst_size, T{42});
  Guarded<T> dst(dst_size, 0, expected);
  for (int64_t i = 0; i < total; ++i) {
    expected[static_cast<size_t>(offset(dims, dst_strides, i) - dst_low)] =
        src[static_cast<size_t>(offset(dims, src_strides, i) - src_low)];
  }
  copy_strided(sizeof(T), dims.size(), dims.data(), src.data() - src_low, src_strides.data(),
               dst.data() - dst_low, dst_strides.data());
  for (size_t i = 0; i < dst_size; ++i) ASSERT_EQ(dst[i], expected[i]) << i;
  ASSERT_TRUE(dst.intact());

  const T value = src[0];
  for (int64_t i = 0; i < total; ++i) {
    expected[static_cast<size_t>(offset(dims, dst_strides, i) - dst_low)] = value;
  }
  fill_strided(sizeof(T), dims.size(), dims.data(), &value, dst.data() - dst_low,
               dst_strides.data());
  for (size_t i = 0; i < dst_size; ++i) ASSERT_EQ(dst[i], expected[i]) << i;
  ASSERT_TRUE(dst.intact());
}

template <class T>
void check_all_copies() {
  check_copy<T>({}, {}, {});
  check_copy<T>({0}, {1}, {1});
  check_copy<T>({3, 0}, {1, 0}, {1, 3});
  for (int64_t n = 1; n <= 70; ++n) {
    check_copy<T>({n}, {1}, {1});
    check_copy<T>({n}, {3}, {1});
    check_copy<T>({n}, {-1}, {1});
    check_copy<T>({n}, {0}, {1});
    check_copy<T>({n}, {1}, {-2});
    check_copy<T>({n, 3}, {1, n}, {3, 1});      // narrow transpositions
    check_copy<T>({n, 9}, {1, n + 1}, {9, 1});  // and wider
    check_copy<T>({n, 40}, {1, n}, {41, 1});
    check_copy<T>({2, n, 33, 1}, {33 * n, 1, n, 5}, {33 * n, 33, 1, 7});
  }
  Random random(11);
  for (int trial = 0; trial < 400; ++trial) {
    const size_t rank = random.below(6);
    Dims dims(rank);
    for (auto& d : dims) d = 1 + static_cast<int64_t>(random.below(trial % 10 == 0 ? 12 : 5));
    std::vector<size_t> order(rank);
    std::iota(order.begin(), order.end(), 0);
    const auto shuffled = [&] {
      for (size_t i = rank; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
      return dense(dims, order, 1 + static_cast<int64_t>(random.below(2)));
    };
    Dims src = shuffled();
    Dims dst = shuffled();
    for (auto& s : src) s *= random.below(3) == 0 ? static_cast<int64_t>(random.below(2)) - 1 : 1;
    for (auto& s : dst) s *= random.below(5) == 0 ? -1 : 1;
    check_copy<T>(dims, src, dst);
  }
}

TEST(Copy, EveryItemSizeAndManyStrides) {
  check_all_copies<uint8_t>();
  check_all_copies<uint16_t>();
  for_each_target([] {
    check_all_copies<uint32_t>();
    check_all_copies<uint64_t>();
  });
}

TEST(Copy, LargeTransposition) {
  const Dims dims{130, 257};
  check_copy<uint32_t>(dims, {1, 130}, {257, 1});
  check_copy<uint64_t>(dims, {1, 131}, {257, 1});
  check_copy<uint8_t>(dims, {1, 130}, {260, 1});
}

template <class T>
void check_rows(size_t cols) {
  constexpr size_t kRows = 6;
  const size_t ld = cols + 2;
  const std::vector<int64_t> ids = {5, 0, 3, 3, 1, 5, 5};
  const size_t n = ids.size();
  const auto table = samples<T>((kRows - 1) * ld + cols, cols + 1);
  const Guarded<T> in(table.size(), 0, table);
  Guarded<T> rows(n * cols, 1);
  gather_rows(in.data(), static_cast<ptrdiff_t>(ld * sizeof(T)), ids.data(), n, cols * sizeof(T),
              rows.data());
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < cols; ++j) {
      ASSERT_EQ(rows[i * cols + j], table[static_cast<size_t>(ids[i]) * ld + j]);
    }
  }
  ASSERT_TRUE(rows.intact());

  Guarded<T> out(table.size(), 0, table);
  std::vector<T> expected = table;
  scatter_add_rows(rows.data(), ids.data(), n, cols, out.data(), static_cast<ptrdiff_t>(ld));
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < cols; ++j) {
      expected[static_cast<size_t>(ids[i]) * ld + j] += rows[i * cols + j];
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(out[i], expected[i]);
  ASSERT_TRUE(out.intact());
}

TEST(Copy, GatherAndScatterAddRows) {
  for_each_target([] {
    for (size_t cols = 1; cols <= 70; ++cols) {
      check_rows<float>(cols);
      check_rows<double>(cols);
    }
  });
  gather_rows(nullptr, 4, nullptr, 0, 4, nullptr);
  scatter_add_rows<float>(nullptr, nullptr, 0, 4, nullptr, 4);
}

}  // namespace
}  // namespace ebb::kernels
