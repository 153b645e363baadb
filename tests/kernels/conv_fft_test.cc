// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ebb/ops/kernels/conv_fft_plan.h"
#include "ebb/tests/kernels/conv_testing.h"

namespace ebb::kernels {
namespace {

using detail::conv_fft;
using detail::ConvFftPlan;
using detail::ConvPlan;
using testing::check;
using testing::Guarded;
using testing::Random;
using testing::square;

constexpr double kTolerance = 1e-5;  // of the largest result
constexpr size_t kMuch = size_t{1} << 28;

struct Expected {
  explicit Expected(const ConvShape& s)
      : y(testing::y_size(s)), dx(testing::x_size(s)), dw(testing::w_size(s)) {}
  std::vector<double> y, dx, dw;
};

// All passes by way of Fourier transforms whether that pays or not, with as much memory as `bound`.
// Gives the number of passes that there is a plan for.
int check_fft(const ConvShape& s, size_t bound) {
  SCOPED_TRACE(testing::describe(s));
  using testing::numbers;
  const Guarded<float> x(testing::x_size(s), 0, numbers<float>(testing::x_size(s), 1));
  const Guarded<float> w(testing::w_size(s), 0, numbers<float>(testing::w_size(s), 2));
  const Guarded<float> dy(testing::y_size(s), 0, numbers<float>(testing::y_size(s), 3));
  const auto channels = static_cast<size_t>(s.out_channels);
  const Guarded<float> bias(channels, 0, numbers<float>(channels, 4));
  const std::vector<float> before = numbers<float>(testing::w_size(s), 5);
  Expected expected(s);
  const size_t plane = testing::product(s.out, s.dims);
  for (size_t i = 0; i < expected.y.size(); ++i) expected.y[i] = bias[i / plane];
  for (size_t i = 0; i < expected.dw.size(); ++i) expected.dw[i] = before[i];
  testing::for_each_product(s, [&](size_t xi, size_t wi, size_t yi) {
    expected.y[yi] += static_cast<double>(x[xi]) * w[wi];
    expected.dx[xi] += static_cast<double>(dy[yi]) * w[wi];
    expected.dw[wi] += static_cast<double>(dy[yi]) * x[xi];
  });
  const std::vector<float> nans(
      std::max({testing::x_size(s), testing::y_size(s), testing::w_size(s)}),
      std::numeric_limits<float>::quiet_NaN());
  const ConvPlan p(s);
  int plans = 0;
  testing::for_each_target([&] {
    const auto run = [&](ConvPass pass, const auto& f) {
      const ConvFftPlan plan = conv_fft->plan(p, pass, bound);
      if (plan.bytes == 0) return;
      ++plans;
      reset_peak_memory();
      const int64_t live = memory_stats().live_bytes;
      f(plan);
      EXPECT_LE(memory_stats().peak_bytes - live, static_cast<int64_t>(bound));
    };
    run(ConvPass::kForward, [&](const ConvFftPlan& plan) {
      Guarded<float> y(testing::y_size(s), 0, nans);
      conv_fft->forward(p, plan, {0, 1}, x.data(), w.data(), bias.data(), y.data());
      EXPECT_LE(testing::error(y, expected.y), kTolerance) << "forward";
      EXPECT_TRUE(y.intact());
    });
    run(ConvPass::kGradInput, [&](const ConvFftPlan& plan) {
      Guarded<float> dx(testing::x_size(s), 0, nans);
      conv_fft->grad_input(p, plan, {0, 1}, dy.data(), w.data(), dx.data());
      EXPECT_LE(testing::error(dx, expected.dx), kTolerance) << "input gradient";
      EXPECT_TRUE(dx.intact());
    });
    run(ConvPass::kGradWeight, [&](const ConvFftPlan& plan) {
      Guarded<float> dw(testing::w_size(s), 0, before);
      conv_fft->grad_weight(p, plan, {0, 1}, x.data(), dy.data(), true, dw.data());
      EXPECT_LE(testing::error(dw, expected.dw), kTolerance) << "weight gradient";
      EXPECT_TRUE(dw.intact());
    });
  });
  return plans;
}

// Channels beside and beyond a vector's lanes, groups, kernels along one axis or of two sizes,
// padding on neither side or one, much or little memory.
TEST(ConvFft, RandomGeometries) {
  Random random(11);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.below(static_cast<size_t>(high - low + 1)));
  };
  int plans = 0;
  for (int i = 0; i < 120; ++i) {
    ConvShape s{};
    s.dims = i % 3 == 0 ? 1 : 2;
    s.batch = 1;
    s.groups = i % 4 == 0 ? between(1, 20) : 1;
    const bool single = s.groups > 1 && i % 8 == 0;
    s.in_channels = s.groups * (single ? 1 : between(1, s.groups > 1 ? 3 : 19));
    s.out_channels = s.groups * (single ? 1 : between(1, s.groups > 1 ? 3 : 19));
    for (int d = 0; d < s.dims; ++d) {
      do {
        s.kernel[d] = between(1, s.dims == 1 ? 60 : 12);
        s.stride[d] = s.dilation[d] = 1;
        s.in[d] = between(1, s.dims == 1 ? 300 : 30);
        s.pad[d] = random.below(3) == 0 ? between(0, 9) : s.kernel[d] / 2;
        const int64_t behind = random.below(3) == 0 ? between(-3, 5) : s.pad[d];
        s.out[d] = s.in[d] + s.pad[d] + behind - s.kernel[d] + 1;
      } while (s.out[d] < 1);
    }
    const size_t bound = i % 2 == 0 ? kMuch : size_t{1} << between(15, 19);
    plans += check_fft(s, bound);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GE(plans, 300);
}

// A tile may see the padding of one side beyond the other.
TEST(ConvFft, OneTile) {
  for (const int64_t pad : {0, 1, 3, 6}) {
    for (const int64_t side : {10, 13, 15, 16, 17, 20}) {
      EXPECT_GT(check_fft(square(1, 2, 3, 1, side, side, 7, 1, pad), kMuch), 0);
    }
  }
}

TEST(ConvFft, TakesNoStepsOrDilation) {
  ConvShape s = square(1, 20, 20, 1, 60, 60, 15, 2, 7);
  EXPECT_EQ(conv_fft->plan(ConvPlan(s), ConvPass::kForward, kMuch).bytes, 0u);
  s.stride[0] = s.stride[1] = 1;
  s.dilation[0] = 2;
  EXPECT_EQ(conv_fft->plan(ConvPlan(s), ConvPass::kForward, kMuch).bytes, 0u);
}

// What conv_forward() and the others choose, within their workspace.
TEST(ConvFft, Chosen) {
  const ConvShape shapes[] = {square(1, 16, 16, 1, 40, 40, 15, 1, 7),
                              square(2, 17, 17, 17, 40, 37, 21, 1, 10),
                              square(1, 3, 4, 1, 32, 32, 31, 1, 15),  // too few for 16 lanes
                              {1, 2, 8, 8, 1, {1000}, {128}, {1}, {1}, {64}, {1001}}};
  for (const ConvShape& s : shapes) {
    for (const ConvPass pass : {ConvPass::kForward, ConvPass::kGradInput, ConvPass::kGradWeight}) {
      const size_t bound = 4 * sizeof(float) * testing::w_size(s) + (size_t{1} << 20);
      const ConvFftPlan plan = detail::choose_conv_fft(ConvPlan(s), pass, bound);
      ASSERT_NE(plan.bytes, 0u) << testing::describe(s);
      if (s.in_channels == 3) {
        EXPECT_LE(plan.by->lanes, 8) << testing::describe(s);
      }
    }
    check<float>(s, true, kTolerance);
  }
}

}  // namespace
}  // namespace ebb::kernels
