// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "ebb/tests/kernels/conv_testing.h"

namespace ebb::kernels {
namespace {

using testing::check;
using testing::Random;
using testing::square;

ConvShape draw(Random& random) {
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random.below(static_cast<size_t>(high - low + 1)));
  };
  ConvShape s{};
  s.dims = static_cast<int>(between(1, 3));
  s.batch = between(1, 3);
  s.groups = random.below(3) == 0 ? between(1, 4) : 1;
  const int64_t most = random.below(4) == 0 ? 40 : 9;
  s.in_channels = s.groups * between(1, most);
  s.out_channels = s.groups * between(1, most);
  if (random.below(6) == 0) {  // depthwise
    s.groups = s.in_channels;
    s.out_channels = s.groups * between(1, 2);
  }
  const int64_t side[] = {0, 70, 20, 8};
  for (int d = 0; d < s.dims; ++d) {
    do {
      s.kernel[d] = between(1, random.below(3) == 0 ? 7 : 3);
      s.stride[d] = random.below(2) == 0 ? 1 : between(1, 4);
      s.dilation[d] = random.below(3) == 0 ? between(1, 3) : 1;
      s.in[d] = between(1, side[s.dims]);
      s.pad[d] = random.below(3) == 0 ? between(0, 6) : s.kernel[d] / 2;
      const int64_t behind = random.below(3) == 0 ? between(-3, 5) : s.pad[d];
      s.out[d] =
          (s.in[d] + s.pad[d] + behind - s.dilation[d] * (s.kernel[d] - 1) - 1) / s.stride[d] + 1;
    } while (s.out[d] < 1);
  }
  return s;
}

TEST(Conv, RandomGeometries) {
  Random random(7);
  for (int i = 0; i < 300; ++i) {
    const ConvShape s = draw(random);
    check<float>(s, i % 2 == 0);
    check<double>(s, i % 2 == 0);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Conv, NothingToCompute) {
  for (const int64_t batch : {0, 1}) {
    for (const int64_t in : {0, 3}) {
      for (const int64_t out : {0, 2}) {
        check<float>({2, batch, in, out, 1, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {4, 4}});
      }
    }
  }
  // Outputs that read only padding.
  check<float>({1, 1, 2, 3, 1, {3}, {2}, {1}, {1}, {9}, {20}});
  check<float>({2, 1, 2, 3, 1, {0, 3}, {2, 1}, {1, 1}, {1, 1}, {2, 0}, {3, 3}});
}

// 3x3 with stride 1: channels that do and do not fill vectors, images of all sizes from one tile's
// part on, and so many channels that transformed weights are not kept and tiles go in several
// rectangles. Winograd's form costs accuracy; 1e-4 of the largest value is promised.
TEST(Conv, Winograd) {
  for (const int64_t channels : {7, 8, 9, 16, 33}) {
    for (const int64_t height : {1, 2, 3, 4, 5, 8, 13}) {
      for (const int64_t pad : {0, 1, 2, 3}) {
        const int64_t width = height < 3 ? 9 : height + pad;
        if (height + 2 * pad < 3) continue;
        check<float>(square(1, channels, channels + pad, 1, height, width, 3, 1, pad), true, 1e-5);
      }
    }
  }
  check<float>(square(2, 8, 20, 1, 9, 10, 3, 1, 1), true, 1e-5);
  check<float>(square(2, 24, 48, 3, 7, 6, 3, 1, 1), false, 1e-5);
  check<float>(square(1, 70, 75, 1, 7, 7, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 150, 140, 1, 5, 6, 3, 1, 1), true, 1e-5);
  for (const int64_t width : {4, 8, 12, 16}) {  // few tiles
    check<float>(square(2, 72, 82, 2, 4, width, 3, 1, 1), true, 1e-5);
    check<float>(square(1, 64, 50, 1, width, 4, 3, 1, 0), false, 1e-5);
    check<float>(square(1, 33, 64, 1, 3, width - 1, 3, 1, 2), true, 1e-5);
  }
  check<float>(square(1, 256, 128, 1, 7, 7, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 24, 20, 1, 52, 51, 3, 1, 1), true, 1e-5);
  check<float>(square(1, 10, 9, 1, 3, 700, 3, 1, 1), true, 1e-5);
}

// Three axes, of which the first is summed in the transformed domain: kernels of any depth, images
// that are cut into runs of slices, slices that see nothing but padding.
TEST(Conv, WinogradOfSlices) {
  const auto volume = [](int64_t batch, int64_t in, int64_t out, int64_t groups,
                         const int64_t(&size)[3], int64_t depth, int64_t before, int64_t pad) {
    ConvShape s{3, batch, in, out, groups, {}, {depth, 3, 3}, {1, 1, 1}, {1, 1, 1}, {}, {0, 0, 0}};
    const int64_t front[] = {before, pad, pad};
    for (int d = 0; d < 3; ++d) {
      s.in[d] = size[d];
      s.pad[d] = front[d];
      s.out[d] = size[d] + 2 * front[d] - s.kernel[d] + 1;
    }
    return s;
  };
  for (const int64_t depth : {1, 2, 3, 5}) {
    for (const int64_t before : {0, 1, 2, 4}) {
      for (const int64_t slices : {1, 2, 6}) {
        if (slices + 2 * before < depth) continue;
        for (const int64_t channels : {8, 9, 16}) {
          check<float>(volume(1, channels, 17, 1, {slices, 5, 6}, depth, before, 1), true, 1e-5);
        }
      }
    }
  }
  check<float>(volume(1, 16, 16, 1, {16, 9, 10}, 3, 1, 1), true, 1e-5);
  check<float>(volume(2, 20, 36, 2, {4, 8, 7}, 3, 1, 2), false, 1e-5);
  check<float>(volume(1, 70, 40, 1, {5, 12, 13}, 3, 1, 1), true, 1e-5);
  check<float>(volume(1, 24, 40, 1, {13, 20, 20}, 3, 1, 0), true, 1e-5);
  ConvShape uneven = volume(1, 12, 10, 1, {7, 9, 9}, 3, 1, 1);
  uneven.out[0] = 5;
  uneven.out[1] = 11;
  check<float>(uneven, true, 1e-5);
}

TEST(Conv, Depthwise) {
  for (const int64_t side : {3, 5}) {
    for (const int64_t width : {1, 2, 7, 8, 9, 14, 16, 17, 18, 32, 35, 49}) {
      for (const int64_t height : {1, 5, 7, 8, 15}) {
        for (const int64_t pad : {int64_t{0}, side / 2, side - 1, side + 2}) {
          if (std::min(width, height) + 2 * pad < side) continue;
          check<float>(square(1, 3, 3, 3, height, width, side, 1, pad), width % 2 == 0);
        }
      }
    }
  }
  check<float>(square(1, 2, 2, 2, 19, 83, 3, 1, 1));
  check<float>(square(1, 2, 2, 2, 19, 83, 5, 1, 2));
  check<float>(square(1, 2, 2, 2, 12, 130, 3, 1, 17));
  ConvShape cut = square(1, 2, 2, 2, 14, 60, 5, 1, 2);  // rows and columns that nothing reads
  cut.out[0] = 4;
  cut.out[1] = 37;
  check<float>(cut);
  check<float>(square(2, 3, 3, 3, 9, 20, 3, 1, 1));
  check<float>(square(1, 4, 8, 4, 9, 20, 3, 1, 1));
  check<float>(square(1, 4, 4, 4, 9, 20, 3, 2, 1));
  check<double>(square(1, 4, 4, 4, 9, 20, 3, 1, 1));
}

// Sums too long for one go, weights in several strips, images in several boxes; few channels, for
// which vectors are of outputs.
TEST(Conv, Direct) {
  for (const int64_t in : {1, 6, 130}) {
    for (const int64_t out : {1, 3, 6, 16, 17, 40}) {
      check<float>(square(1, in, out, 1, 11, 9, 3, 2, 1));
      check<float>(square(1, in, out, 1, 12, 12, 5, 1, 0));
      check<float>(square(1, in, out, 1, 6, 7, 1, 1, 0));
    }
  }
  check<double>(square(1, 130, 20, 1, 11, 9, 3, 2, 1));
  check<float>(square(1, 3, 20, 1, 90, 90, 7, 2, 3));
  check<float>(square(1, 1, 6, 1, 150, 140, 5, 1, 2));
  check<float>(square(2, 6, 1, 1, 28, 28, 5, 1, 2));
  check<float>(square(1, 40, 5, 1, 40, 41, 3, 1, 1));
  check<float>({1, 1, 20, 40, 1, {3000}, {5}, {1}, {2}, {4}, {3000}});
  check<float>(
      {3, 1, 16, 16, 1, {9, 10, 11}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {9, 10, 11}});
  // Taps so far apart that no workspace would hold what a box sees.
  check<float>({1, 1, 2, 3, 1, {5}, {2}, {1}, {3000000}, {3000000}, {5}});
}

// Input gradients with a part for each remainder by the stride, some of which have no taps or no
// elements: their weights are packed at once where they are few.
TEST(Conv, Strided) {
  for (const int64_t in : {16, 17, 40}) {
    for (const int64_t out : {3, 40}) {
      for (int64_t kernel = 1; kernel <= 5; ++kernel) {
        for (int64_t stride = 2; stride <= 4; ++stride) {
          check<float>(square(1, in, out, 1, 9, 12, kernel, stride, kernel / 2));
        }
      }
      check<float>({2, 1, in, out, 1, {11, 14}, {4, 3}, {2, 3}, {3, 2}, {2, 0}, {3, 4}}, true);
      check<float>({2, 2, in, out, 1, {11, 3}, {3, 4}, {2, 5}, {2, 1}, {2, 1}, {6, 1}});
    }
  }
  check<double>(square(1, 17, 40, 1, 9, 12, 3, 2, 1));
  check<float>(square(2, 34, 34, 2, 9, 12, 4, 2, 1), true);
  check<float>(square(1, 250, 24, 1, 9, 12, 5, 2, 2));
}

// Kernels of every width whose input gradient is products that are folded, and vectors of it that
// no output reaches.
TEST(Conv, Folded) {
  for (int64_t kernel = 1; kernel <= 12; ++kernel) {
    for (const int64_t width : {kernel, kernel + 3, int64_t{16}, int64_t{33}}) {
      check<float>(square(1, 3, 10, 1, kernel + 2, width, kernel, 1, kernel / 3), width == 16);
    }
  }
  check<float>({1, 1, 3, 20, 1, {100}, {2}, {1}, {80}, {0}, {20}});
  check<float>({2, 1, 3, 20, 1, {9, 100}, {2, 2}, {1, 1}, {7, 80}, {0, 0}, {2, 20}});
  ConvShape cut = square(1, 3, 10, 1, 20, 60, 5, 1, 2);
  cut.out[0] = 4;
  cut.out[1] = 7;
  check<float>(cut);
}

// Images whose rows are runs of all lengths, some of which come in twos, one of them left over.
TEST(Conv, ShortRuns) {
  for (int64_t width = 3; width <= 10; ++width) {
    for (const int64_t height : {1, 2, 3, 5}) {
      for (const int64_t channels : {16, 17, 32}) {
        check<float>(square(1, 5, channels, 1, height, width, 5, 1, 2), width % 2 == 0);
        check<double>(square(1, 5, channels, 1, height, width, 5, 1, 2));
      }
    }
  }
}

// The plain loops, which need no memory, are for what cannot be told in offsets.
TEST(Conv, LongSignalsAreNotLeftToPlainLoops) {
  for (const ConvShape& s : {ConvShape{1, 1, 64, 64, 1, {16384}, {3}, {1}, {1}, {1}, {16384}},
                             ConvShape{1, 1, 512, 512, 1, {3200}, {3}, {2}, {1}, {1}, {1600}}}) {
    for (const ConvPass pass : {ConvPass::kForward, ConvPass::kGradInput, ConvPass::kGradWeight}) {
      EXPECT_GT(conv_workspace_bytes(s, pass, sizeof(float)), 0u) << testing::describe(s);
      EXPECT_GT(conv_workspace_bytes(s, pass, sizeof(double)), 0u) << testing::describe(s);
    }
  }
}

}  // namespace
}  // namespace ebb::kernels
