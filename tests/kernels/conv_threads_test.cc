// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "ebb/core/parallel.h"
#include "ebb/tests/kernels/conv_testing.h"

namespace ebb::kernels {
namespace {

using testing::square;

class Threads {
 public:
  explicit Threads(int n) : before_(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

template <class T>
std::vector<T> run(const ConvShape& s, ConvPass pass, const std::vector<T>& x,
                   const std::vector<T>& w, const std::vector<T>& dy, const std::vector<T>& bias) {
  const size_t n = pass == ConvPass::kForward     ? dy.size()
                   : pass == ConvPass::kGradInput ? x.size()
                                                  : w.size();
  std::vector<T> result(n, std::numeric_limits<T>::quiet_NaN());
  if (pass == ConvPass::kForward) {
    conv_forward(s, x.data(), w.data(), bias.data(), result.data());
  } else if (pass == ConvPass::kGradInput) {
    conv_grad_input(s, dy.data(), w.data(), result.data());
  } else {
    conv_grad_weight(s, x.data(), dy.data(), result.data());
  }
  return result;
}

// Every pass gives the same bits on any number of threads, none of which takes more memory than one
// alone may.
template <class T>
void check_threads(const ConvShape& s) {
  SCOPED_TRACE(testing::describe(s));
  const auto x = testing::numbers<T>(testing::x_size(s), 1);
  const auto w = testing::numbers<T>(testing::w_size(s), 2);
  const auto dy = testing::numbers<T>(testing::y_size(s), 3);
  const auto bias = testing::numbers<T>(static_cast<size_t>(s.out_channels), 4);
  for (const ConvPass pass : {ConvPass::kForward, ConvPass::kGradInput, ConvPass::kGradWeight}) {
    const size_t bytes = 4 * sizeof(T) * testing::w_size(s) + (size_t{1} << 20);
    std::vector<T> alone;
    {
      const Threads one(1);
      alone = run(s, pass, x, w, dy, bias);
    }
    for (const int n : {2, 3, 5}) {
      const Threads several(n);
      std::vector<T> together;
      reset_peak_memory();
      const int64_t live = memory_stats().live_bytes;
      together = run(s, pass, x, w, dy, bias);
      EXPECT_LE(memory_stats().peak_bytes - live, static_cast<int64_t>(bytes) * n);
      EXPECT_EQ(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(T)), 0)
          << "pass " << static_cast<int>(pass) << ", " << n << " threads";
    }
  }
}

template <class T = float>
void check_targets(const ConvShape& s) {
  testing::for_each_target([&] { check_threads<T>(s); });
}

TEST(ConvThreads, Winograd) {
  check_targets(square(1, 64, 64, 1, 56, 56, 3, 1, 1));
  check_targets(square(1, 40, 90, 1, 60, 50, 3, 1, 1));
  check_targets(square(3, 32, 48, 1, 40, 40, 3, 1, 1));
  // A share's transformed weights are all kept, those of the whole are not.
  check_targets(square(1, 96, 64, 1, 56, 56, 3, 1, 1));
  check_targets(square(1, 96, 80, 1, 56, 56, 3, 1, 1));
  // Shares that would not be whole blocks of channels.
  check_targets(square(1, 128, 96, 1, 36, 36, 3, 1, 1));
  check_targets(square(1, 256, 96, 1, 20, 20, 3, 1, 1));
  check_targets(square(1, 146, 112, 1, 51, 38, 3, 1, 1));
  check_targets(
      {3, 2, 28, 80, 1, {10, 12, 13}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 2}, {7, 12, 15}});
  check_targets(square(1, 400, 368, 1, 8, 8, 3, 1, 1));  // few tiles
}

TEST(ConvThreads, Direct) {
  check_targets(square(1, 3, 64, 1, 112, 112, 7, 2, 3));
  check_targets(square(1, 40, 70, 1, 56, 56, 3, 2, 1));
  check_targets({1, 1, 70, 96, 1, {4000}, {5}, {1}, {1}, {2}, {4000}});
  check_targets<double>(square(1, 33, 64, 1, 40, 40, 3, 1, 1));
  check_targets(
      {3, 1, 20, 48, 1, {12, 20, 20}, {3, 3, 3}, {1, 2, 1}, {1, 1, 1}, {1, 1, 1}, {12, 10, 20}});
}

TEST(ConvThreads, Product) {
  check_targets(square(1, 64, 208, 1, 56, 56, 1, 1, 0));
  check_targets(square(1, 96, 32, 1, 100, 100, 1, 1, 0));
  check_targets(square(1, 64, 48, 1, 100, 100, 1, 1, 0));
}

TEST(ConvThreads, GroupsAndImages) {
  check_targets(square(1, 64, 64, 64, 224, 224, 3, 1, 1));
  check_targets(square(1, 60, 60, 4, 56, 56, 5, 2, 2));
  check_targets(square(5, 24, 24, 1, 40, 40, 5, 2, 2));
}

TEST(ConvThreads, Fft) {
  check_targets(square(1, 16, 20, 1, 56, 56, 15, 1, 7));
  check_targets(square(1, 40, 36, 1, 56, 56, 9, 1, 4));
  check_targets(square(2, 40, 40, 40, 56, 50, 31, 1, 15));
  check_targets({1, 1, 16, 16, 1, {4096}, {256}, {1}, {1}, {128}, {4097}});
}

}  // namespace
}  // namespace ebb::kernels
