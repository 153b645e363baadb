// SPDX-License-Identifier: Apache-2.0
// What a second thread brings inside one convolution: microseconds of each pass, and of both
// gradients, on one thread and on two.
//
//   bench_conv_threads [--only TEXT] [--rounds N]
//
// Two threads need two cores: it must not be pinned to one. A round in which other processes took
// more than a tenth of a core is repeated; a line that never got a quiet one says so.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "conv_layers.h"
#include "ebb/core/parallel.h"
#include "ebb/ops/kernels/conv.h"
#include "program.h"

namespace bench {
namespace {

namespace k = ebb::kernels;

double now() { return seconds(CLOCK_MONOTONIC); }

// Median microseconds of a call over 15 ms.
double time(int threads, const std::function<void()>& call) {
  ebb::set_num_threads(threads);
  call();
  std::vector<double> us;
  for (const double start = now(); now() - start < 15e-3 || us.size() < 5;) {
    const double before = now();
    call();
    us.push_back(1e6 * (now() - before));
  }
  std::sort(us.begin(), us.end());
  return us[us.size() / 2];
}

void compare(const std::string& name, int rounds, const std::function<void()>& call) {
  constexpr double kQuiet = 0.1;
  double best = 1e9;
  double one = 0;
  double two = 0;
  for (int r = 0; r < rounds && best > kQuiet; ++r) {
    const OtherProcesses others;
    const double a = time(1, call);
    const double b = time(2, call);
    const double busy = others.cores();
    if (busy >= best) continue;
    best = busy;
    one = a;
    two = b;
  }
  std::printf("%-44s %10.1f %10.1f %7.2f%s\n", name.c_str(), one, two, one / two,
              best > kQuiet ? "  BUSY: other processes ran" : "");
  std::fflush(stdout);
}

void run(const conv::Layer& layer, const std::string& only, int rounds) {
  k::ConvShape s{layer.dims, 1, layer.in_channels, layer.out_channels, layer.groups, {}, {}, {}, {},
                 {},         {}};
  for (int d = 0; d < layer.dims; ++d) {
    s.in[d] = layer.in[d];
    s.kernel[d] = layer.kernel[d];
    s.stride[d] = layer.stride[d];
    s.dilation[d] = 1;
    s.pad[d] = layer.pad[d];
    s.out[d] = layer.out(d);
  }
  const std::vector<float> x = uniform("conv.x", layer.x_size(), 0, 1);
  const std::vector<float> w = uniform("conv.w", layer.w_size(), -0.25, 1);
  const std::vector<float> dy = uniform("conv.dy", layer.y_size(), 0, 1);
  std::vector<float> y(dy.size());
  std::vector<float> dx(x.size());
  std::vector<float> dw(w.size());
  const auto of_input = [&] { k::conv_grad_input(s, dy.data(), w.data(), dx.data()); };
  const auto of_weight = [&] { k::conv_grad_weight(s, x.data(), dy.data(), dw.data()); };
  const std::pair<const char*, std::function<void()>> passes[] = {
      {"forward", [&] { k::conv_forward(s, x.data(), w.data(), nullptr, y.data()); }},
      {"grad_input", of_input},
      {"grad_weight", of_weight},
      {"both_gradients", [&] { k::conv_gradients(s, of_input, of_weight); }}};
  for (const auto& [pass, call] : passes) {
    const std::string name = std::string(layer.name) + "." + pass;
    if (name.find(only) != std::string::npos) compare(name, rounds, call);
  }
}

int main_of(int argc, char** argv) {
  std::string only;
  int rounds = 5;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string argument = argv[i];
    if (argument == "--only") {
      only = argv[i + 1];
    } else if (argument == "--rounds") {
      rounds = std::max(1, std::atoi(argv[i + 1]));
    } else {
      throw std::runtime_error("unknown argument '" + argument + "'");
    }
  }
  std::printf("%-44s %10s %10s %7s\n", "us", "1 thread", "2 threads", "ratio");
  for (const conv::Layer& layer : conv::kLayers) run(layer, only, rounds);
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program("bench_conv_threads", 1, [&] { return bench::main_of(argc, argv); });
}
