// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ebb::kernels::detail {

/// How a complex Fourier transform of a length 2^a or 3 2^a goes: in place, in passes of radix 3, 4
/// and 2, without bringing the result into order (Gentleman and Sande, 1966; the way back, whose
/// passes are these in reverse, takes it as it lies).
struct FftPlan {
  static constexpr int kMostPasses = 8;
  static constexpr int64_t kMostLength = 2048;

  int64_t length;
  int passes;
  int radix[kMostPasses];
  /// For pass i of radix r over parts of length l: cosine and sine of -2 pi j m / l, for each j < l
  /// / r those of m = 1..r-1.
  const float* factors[kMostPasses];
  /// Where the coefficient k lies.
  const int32_t* place;
  /// Cosine and sine of -pi k / length, which is what takes a transform of 2 length real numbers to
  /// this one, for k <= length / 2.
  const float* halves;
};

/// Made at the first use of a length, and kept.
const FftPlan& fft_plan(int64_t length);

/// Lengths that there are: up to 2048.
inline constexpr int64_t kFftLengths[] = {4,   6,   8,   12,  16,  24,  32,   48,   64,  96,
                                          128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
inline constexpr int kFftLengthCount = sizeof(kFftLengths) / sizeof(kFftLengths[0]);

}  // namespace ebb::kernels::detail
