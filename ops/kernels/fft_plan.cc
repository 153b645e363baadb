// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/fft_plan.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <numbers>
#include <vector>

namespace ebb::kernels::detail {
namespace {

struct Tables {
  FftPlan plan;
  std::vector<float> factors;
  std::vector<int32_t> place;
  std::vector<float> halves;
};

void add_root(double angle, std::vector<float>* to) {
  to->push_back(static_cast<float>(std::cos(angle)));
  to->push_back(static_cast<float>(std::sin(angle)));
}

std::unique_ptr<Tables> make(int64_t length) {
  auto t = std::make_unique<Tables>();
  FftPlan& p = t->plan;
  p.length = length;
  p.passes = 0;
  int64_t begin[FftPlan::kMostPasses];
  t->place.assign(static_cast<size_t>(length), 0);
  int64_t step = 1;  // between coefficients that differ in the next digit only
  for (int64_t l = length; l > 1;) {
    const int radix = l % 3 == 0 ? 3 : l % 4 == 0 ? 4 : 2;
    const int64_t part = l / radix;
    begin[p.passes] = static_cast<int64_t>(t->factors.size());
    p.radix[p.passes++] = radix;
    for (int64_t j = 0; j < part; ++j) {
      for (int64_t m = 1; m < radix; ++m) {
        add_root(-2 * std::numbers::pi * static_cast<double>(j * m) / static_cast<double>(l),
                 &t->factors);
      }
    }
    for (int64_t k = 0; k < length; ++k) {
      t->place[static_cast<size_t>(k)] += static_cast<int32_t>(k / step % radix * part);
    }
    step *= radix;
    l = part;
  }
  for (int64_t k = 0; k <= length / 2; ++k) {
    add_root(-std::numbers::pi * static_cast<double>(k) / static_cast<double>(length), &t->halves);
  }
  for (int i = 0; i < p.passes; ++i) p.factors[i] = t->factors.data() + begin[i];
  p.place = t->place.data();
  p.halves = t->halves.data();
  return t;
}

}  // namespace

const FftPlan& fft_plan(int64_t length) {
  // Never destroyed: a thread may still be at work when the program ends.
  struct Entry {
    std::once_flag once;
    std::unique_ptr<Tables> tables;
  };
  static Entry* const entries = new Entry[kFftLengthCount];
  const auto* const end = kFftLengths + kFftLengthCount;
  Entry& e = entries[std::lower_bound(kFftLengths, end, length) - kFftLengths];
  std::call_once(e.once, [&] { e.tables = make(length); });
  return e.tables->plan;
}

}  // namespace ebb::kernels::detail
