// SPDX-License-Identifier: Apache-2.0
// Convolutions with large kernels: microseconds of each pass directly and by way of Fourier
// transforms, which of the two is chosen, and what the choices cost over the quickest.
//
//   bench_conv_forms [--random N] [--isa avx2]
//
// --random N  that many shapes drawn at random instead of the table of docs/performance.md
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "ebb/ops/kernels/conv.h"
#include "ebb/ops/kernels/conv_fft_plan.h"
#include "ebb/ops/kernels/conv_plan.h"
#include "hwy/targets.h"
#include "program.h"

namespace bench {
namespace {

namespace k = ebb::kernels;
namespace kd = ebb::kernels::detail;

// Least microseconds of a call over 8 ms.
double time(const std::function<void()>& call) {
  double best = 1e30;
  const double start = seconds(CLOCK_MONOTONIC);
  for (int n = 0; n < 3 || seconds(CLOCK_MONOTONIC) - start < 8e-3; ++n) {
    const double before = seconds(CLOCK_MONOTONIC);
    call();
    best = std::min(best, 1e6 * (seconds(CLOCK_MONOTONIC) - before));
  }
  return best;
}

// One group, so that the kernels can be called by themselves.
k::ConvShape shape(int dims, int64_t in, int64_t out, int64_t kernel, int64_t side) {
  k::ConvShape s{dims, 1, in, out, 1, {}, {}, {}, {}, {}, {}};
  for (int d = 0; d < dims; ++d) {
    s.in[d] = side;
    s.kernel[d] = kernel;
    s.stride[d] = s.dilation[d] = 1;
    s.pad[d] = kernel / 2;
    s.out[d] = side + 2 * s.pad[d] - kernel + 1;
  }
  return s;
}

class Costs {
 public:
  void add(double chosen, double best) {
    ++n_;
    sum_ += std::log(chosen / best);
    worst_ = std::max(worst_, chosen / best);
  }
  void print() const {
    std::printf("%d passes: what is chosen takes %.3f times the quickest, %.2f at the most\n", n_,
                std::exp(sum_ / n_), worst_);
  }

 private:
  int n_ = 0;
  double sum_ = 0;
  double worst_ = 1;
};

void compare(const k::ConvShape& s, Costs* costs) {
  const kd::ConvPlan p(s);
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  std::vector<float> x(size(p.group_in * p.in_area), 0.5F);
  std::vector<float> y(size(p.group_out * p.out_area), 0.25F);
  std::vector<float> w(size(p.group_in * p.group_out * p.taps), 0.125F);
  // As conv_forward() and the others are bound.
  const size_t bound = 4 * sizeof(float) * w.size() + (size_t{1} << 20);
  for (const k::ConvPass pass :
       {k::ConvPass::kForward, k::ConvPass::kGradInput, k::ConvPass::kGradWeight}) {
    std::vector<float> result(pass == k::ConvPass::kForward     ? y.size()
                              : pass == k::ConvPass::kGradInput ? x.size()
                                                                : w.size());
    const double direct = time([&] {
      if (pass == k::ConvPass::kForward) {
        kd::conv_direct->f32.forward(p, x.data(), w.data(), nullptr, result.data());
      } else if (pass == k::ConvPass::kGradInput) {
        kd::conv_direct->f32.grad_input(p, y.data(), w.data(), result.data());
      } else {
        kd::conv_direct_weights->f32.grad_weight(p, x.data(), y.data(), false, result.data());
      }
    });
    const auto transformed = [&](const kd::ConvFftPlan& plan) {
      if (plan.bytes == 0) return 1e30;
      return time([&] {
        if (pass == k::ConvPass::kForward) {
          plan.by->forward(p, plan, {0, 1}, x.data(), w.data(), nullptr, result.data());
        } else if (pass == k::ConvPass::kGradInput) {
          plan.by->grad_input(p, plan, {0, 1}, y.data(), w.data(), result.data());
        } else {
          plan.by->grad_weight(p, plan, {0, 1}, x.data(), y.data(), false, result.data());
        }
      });
    };
    const double longer = transformed(kd::conv_fft->plan(p, pass, bound));
    const kd::ConvFftTable* const table = kd::shorter_conv_fft();
    const double shorter = table == nullptr ? 1e30 : transformed(table->plan(p, pass, bound));
    const kd::ConvFftPlan plan =
        kd::conv_fft_may_pay(p) ? kd::choose_conv_fft(p, pass, bound) : kd::ConvFftPlan{};
    const double chosen = plan.bytes == 0 ? direct : plan.by == table ? shorter : longer;
    costs->add(chosen, std::min({direct, longer, shorter}));
    const char* const names[] = {"forward", "grad_input", "grad_weight"};
    const auto print = [](double us) {
      us < 1e30 ? std::printf(" %10.1f", us) : std::printf(" %10s", "-");
    };
    std::printf("%d-D %2d to %2d kernel %4d size %4d %-11s", s.dims, static_cast<int>(p.group_in),
                static_cast<int>(p.group_out), static_cast<int>(p.kernel[2]),
                static_cast<int>(p.in[2]), names[static_cast<int>(pass)]);
    print(direct);
    print(longer);
    print(shorter);
    std::printf("  %s\n", plan.bytes == 0 ? "direct" : plan.by == table ? "8 lanes" : "transforms");
  }
  std::fflush(stdout);
}

int main_of(int argc, char** argv) {
  int random = 0;
  for (int i = 1; i < argc; i += 2) {
    const std::string argument = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--random" && std::atoi(value.c_str()) > 0) {
      random = std::atoi(value.c_str());
    } else if (argument == "--isa" && value == "avx2") {
      hwy::SetSupportedTargetsForTest(HWY_AVX2 | HWY_SSE4 | HWY_SSSE3 | HWY_EMU128);
    } else {
      throw std::runtime_error("'" + argument + " " + value + "' is unknown");
    }
  }
  std::printf("%-49s %10s %10s %10s\n", "us", "direct", "transforms", "of 8 lanes");
  Costs costs;
  if (random == 0) {
    for (const int64_t channels : {4, 16, 64}) {
      for (const int64_t kernel : {7, 9, 11, 15, 21, 31}) {
        if (channels < 64 || kernel < 21) compare(shape(2, channels, channels, kernel, 56), &costs);
      }
    }
    for (const int64_t channels : {1, 16}) {
      for (const int64_t kernel : {31, 63, 255, 1023}) {
        compare(shape(1, channels, channels, kernel, 4096), &costs);
      }
    }
  }
  std::mt19937 draw(1);
  const auto one_of = [&](const std::vector<int64_t>& list) { return list[draw() % list.size()]; };
  const std::vector<int64_t> channels = {1, 2, 3, 4, 6, 8, 16, 32};
  while (random > 0) {
    const bool flat = draw() % 5 != 0;
    const k::ConvShape s =
        flat ? shape(2, one_of(channels), one_of(channels), one_of({5, 7, 9, 11, 15, 21, 31}),
                     one_of({16, 24, 32, 56, 64, 128, 224}))
             : shape(1, one_of(channels), one_of(channels), one_of({31, 63, 127, 255}),
                     one_of({1024, 4096}));
    const kd::ConvPlan p(s);
    const double multiply_adds =
        static_cast<double>(p.group_in * p.group_out * p.taps) * static_cast<double>(p.out_area);
    if (p.kernel[2] > p.in[2] || multiply_adds < 5e5 || multiply_adds > 3e8) continue;
    compare(s, &costs);
    --random;
  }
  costs.print();
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program("bench_conv_forms", 1, [&] { return bench::main_of(argc, argv); });
}
