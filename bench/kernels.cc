// SPDX-License-Identifier: Apache-2.0
// What the kernels reach of what the core can do: matrix products as a share of the peak of its
// multiply-adds, matrix-vector products as a share of the bandwidth of the cache level they fit in,
// elementwise functions in nanoseconds.
//
//   bench_kernels [--target NAME] [--filter TEXT] [--rounds N] [--peers] [--json FILE]
//
// --target  the instruction set to use, as Highway names it: AVX2, AVX3, SSE4
// --filter  only the workloads whose name contains the text
// --peers   OpenBLAS beside the products
//
// The limits are measured with the same instruction set, in turns with the kernel, and so is the
// peer: what else the machine does then meets all of them. Figures are processor time, medians of
// the rounds.
#include <cblas.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/core/memory.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/norm.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/kernels/unary.h"
#include "hwy/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/bench/kernels.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::bench::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// `steps` times 12 multiply-adds that do not wait for each other. Returns their number.
double multiply_adds(size_t steps, float* sink) {
  constexpr size_t kChains = 12;
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.9999f);
  const auto term = hn::Set(d, 0.5f);
  hn::Vec<decltype(d)> x[kChains];
  HWY_UNROLL(12)
  for (size_t i = 0; i < kChains; ++i) x[i] = hn::Set(d, static_cast<float>(i));
  for (size_t s = 0; s < steps; ++s) {
    HWY_UNROLL(12)
    for (size_t i = 0; i < kChains; ++i) x[i] = hn::MulAdd(x[i], factor, term);
  }
  HWY_UNROLL(12)
  for (size_t i = 1; i < kChains; ++i) x[0] = hn::Add(x[0], x[i]);
  *sink = hn::GetLane(x[0]);
  return static_cast<double>(steps * kChains * hn::Lanes(d));
}

// Reads n floats.
void read(const float* p, size_t n, float* sink) {
  constexpr size_t kChains = 8;
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<decltype(d)> s[kChains];
  HWY_UNROLL(8)
  for (size_t i = 0; i < kChains; ++i) s[i] = hn::Zero(d);
  for (size_t i = 0; i + kChains * lanes <= n; i += kChains * lanes) {
    HWY_UNROLL(8)
    for (size_t j = 0; j < kChains; ++j) s[j] = hn::Add(s[j], hn::LoadU(d, p + i + j * lanes));
  }
  HWY_UNROLL(8)
  for (size_t i = 1; i < kChains; ++i) s[0] = hn::Add(s[0], s[i]);
  *sink = hn::GetLane(s[0]);
}

// Reads n floats and writes them back.
void update(float* p, size_t n) {
  constexpr size_t kUnroll = 4;
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto factor = hn::Set(d, 0.999f);
  for (size_t i = 0; i + kUnroll * lanes <= n; i += kUnroll * lanes) {
    HWY_UNROLL(4)
    for (size_t j = 0; j < kUnroll; ++j) {
      float* at = p + i + j * lanes;
      hn::StoreU(hn::Mul(hn::LoadU(d, at), factor), d, at);
    }
  }
}

}  // namespace

double call_multiply_adds(size_t steps, float* sink) { return multiply_adds(steps, sink); }
void call_read(const float* p, size_t n, float* sink) { read(p, n, sink); }
void call_update(float* p, size_t n) { update(p, n); }

}  // namespace ebb::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::bench {
namespace {

HWY_EXPORT(call_multiply_adds);
HWY_EXPORT(call_read);
HWY_EXPORT(call_update);

// Does its work so many times.
using Work = std::function<void(size_t)>;

template <class F>
Work repeated(const F& f) {
  return [f](size_t times) {
    for (size_t i = 0; i < times; ++i) f();
  };
}

struct Options {
  std::string filter, json;
  int rounds = 15;
  bool peers = false;
};

// Of this process: what else runs on the core does not count.
double seconds_now() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// Seconds of the processor that a call takes, by each of `works`, which take turns of about 200 us.
std::vector<double> measure(const std::vector<Work>& works, int rounds) {
  constexpr double kTurn = 2e-4;
  std::vector<size_t> calls;
  for (const Work& work : works) {
    work(1);
    size_t n = 1;
    for (double took = 0; took < kTurn / 2;) {
      const double start = seconds_now();
      work(n);
      took = seconds_now() - start;
      if (took < kTurn / 2) n *= 2;
    }
    calls.push_back(n);
  }
  std::vector<std::vector<double>> times(works.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t w = 0; w < works.size(); ++w) {
      works[w](1);  // brings its data back into the cache
      const double start = seconds_now();
      works[w](calls[w]);
      times[w].push_back((seconds_now() - start) / static_cast<double>(calls[w]));
    }
  }
  std::vector<double> out;
  for (auto& t : times) out.push_back(median(std::move(t)));
  return out;
}

// Aligned as Ebb's arrays are.
class Floats {
 public:
  explicit Floats(size_t n) : lines_((n + kLine - 1) / kLine) {}
  float* data() { return lines_.front().x; }
  const float* data() const { return lines_.front().x; }

 private:
  static constexpr size_t kLine = 16;
  struct alignas(64) Line {
    float x[kLine] = {};
  };
  std::vector<Line> lines_;
};

Floats numbers(size_t n, float from = -1, float to = 1) {
  Floats v(n);
  uint32_t state = 12345;
  for (size_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    v.data()[i] = from + (to - from) * static_cast<float>(state >> 8) * 0x1p-24f;
  }
  return v;
}

float g_sink;

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {
    std::printf("%-30s %12s %10s %8s %12s %7s\n", "workload", "ns", "", "of limit", "OpenBLAS ns",
                "ratio");
  }

  // A product of `multiply_adds`: how near the peak.
  template <class Ours, class Peer>
  void compute(const std::string& name, double multiply_adds, const Ours& ours, const Peer& peer) {
    constexpr size_t kSteps = 4000;
    double per_call = 0;
    const auto peak = [&] { per_call = HWY_DYNAMIC_DISPATCH(call_multiply_adds)(kSteps, &g_sink); };
    run(name, repeated(ours), repeated(peer), repeated(peak), [&](double seconds, double limit) {
      const double bound = limit * multiply_adds / per_call;
      std::printf(" %5.1f GF/s", 2e-9 * multiply_adds / seconds);
      return bound;
    });
  }

  // A pass over n floats, which are read, or read and written.
  template <class Ours, class Peer>
  void memory(const std::string& name, size_t n, bool writes, const Ours& ours, const Peer& peer) {
    Floats data = numbers(n);
    const auto pass = [&] {
      if (writes) {
        HWY_DYNAMIC_DISPATCH(call_update)(data.data(), n);
      } else {
        HWY_DYNAMIC_DISPATCH(call_read)(data.data(), n, &g_sink);
      }
    };
    run(name, repeated(ours), repeated(peer), repeated(pass), [&](double seconds, double limit) {
      const double bytes = static_cast<double>(n * sizeof(float)) * (writes ? 2 : 1);
      std::printf(" %5.1f GB/s", 1e-9 * bytes / seconds);
      return limit;
    });
  }

  template <class Ours>
  void plain(const std::string& name, size_t n, const Ours& ours) {
    run(name, repeated(ours), {}, {}, [&](double seconds, double) {
      std::printf(" %5.3f ns/1", 1e9 * seconds / static_cast<double>(n));
      return 0.0;
    });
  }

  void write() const {
    if (options_.json.empty()) return;
    std::ofstream out(options_.json);
    out << list_.dump(1) << '\n';
    if (!out) {
      std::cerr << "bench_kernels: cannot write " << options_.json << '\n';
      std::exit(1);
    }
  }

 private:
  template <class Bound>
  void run(const std::string& name, const Work& ours, const Work& peer, const Work& limit,
           const Bound& bound_of) {
    if (name.find(options_.filter) == std::string::npos) return;
    const bool with_peer = options_.peers && peer;
    std::vector<Work> works = {ours};
    if (limit) works.push_back(limit);
    if (with_peer) works.push_back(peer);
    const std::vector<double> t = measure(works, options_.rounds);
    std::printf("%-30s %12.1f", name.c_str(), 1e9 * t[0]);
    const double bound = bound_of(t[0], limit ? t[1] : 0);
    nlohmann::json row = {{"workload", "kernels." + name},
                          {"ebb_us", 1e6 * t[0]},
                          {"bound_us", 1e6 * bound},
                          {"ebb_peak_mb", static_cast<double>(memory_stats().peak_bytes) / 1e6}};
    std::printf(" %7.1f%%", 100 * bound / t[0]);
    if (with_peer) {
      std::printf(" %12.1f %7.2f", 1e9 * t.back(), t.back() / t[0]);
      row["peer"] = "openblas";
      row["peer_us"] = 1e6 * t.back();
      row["ratio"] = t.back() / t[0];
    }
    std::printf("\n");
    std::fflush(stdout);
    list_.push_back(std::move(row));
  }

  Options options_;
  nlohmann::json list_ = nlohmann::json::array();
};

// ---- products -----------------------------------------------------------------------------------

void product(Bench& bench, const std::string& name, bool ta, bool tb, int64_t m, int64_t n,
             int64_t k, float beta = 0) {
  const auto a = numbers(static_cast<size_t>(m * k));
  const auto b = numbers(static_cast<size_t>(k * n));
  auto c = numbers(static_cast<size_t>(m * n));
  auto d = c;
  const int64_t lda = ta ? m : k;
  const int64_t ldb = tb ? k : n;
  bench.compute(
      name, static_cast<double>(m * n * k),
      [&] { kernels::gemm(ta, tb, m, n, k, 1.f, a.data(), lda, b.data(), ldb, beta, c.data(), n); },
      [&] {
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
                    static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.f, a.data(),
                    static_cast<int>(lda), b.data(), static_cast<int>(ldb), beta, d.data(),
                    static_cast<int>(n));
      });
}

void products(Bench& bench) {
  for (const int64_t n : {4, 8, 16, 32, 64, 128, 256, 512, 1024}) {
    product(bench, "gemm." + std::to_string(n), false, false, n, n, n);
  }
  for (const int64_t n : {16, 64, 128, 256, 512, 1024}) {
    product(bench, "gemm_nt." + std::to_string(n), false, true, n, n, n);
    product(bench, "gemm_tn." + std::to_string(n), true, false, n, n, n);
    product(bench, "gemm_tt." + std::to_string(n), true, true, n, n, n);
  }
  for (const int64_t few : {2, 4, 8, 16, 32}) {
    const std::string suffix = std::to_string(few) + "x512x512";
    product(bench, "few_rows." + suffix, false, false, few, 512, 512);
    product(bench, "few_rows_nt." + suffix, false, true, few, 512, 512);
    product(bench, "few_cols." + suffix, false, false, 512, few, 512);
    product(bench, "few_cols_tn." + suffix, true, false, 512, few, 512);
  }
  for (const int64_t k : {1, 2, 4, 8, 16, 30, 64}) {
    product(bench, "rank_k.512x128x" + std::to_string(k), true, false, 512, 128, k, 1);
    product(bench, "rank_k.64x64x" + std::to_string(k), true, false, 64, 64, k, 1);
    product(bench, "rank_k.1024x256x" + std::to_string(k), true, false, 1024, 256, k, 1);
  }
  product(bench, "gemm.32x512x128", false, false, 32, 512, 128);
  product(bench, "gemm_nt.32x512x128", false, true, 32, 512, 128);
  product(bench, "gemm_nt.32x128x512", false, true, 32, 128, 512);
  product(bench, "gemm_tn.512x128x32", true, false, 512, 128, 32, 1);
  product(bench, "gemm_nt.30x10000x256", false, true, 30, 10000, 256);
  product(bench, "gemm.30x256x10000", false, false, 30, 256, 10000);
  product(bench, "gemm_tn.10000x256x30", true, false, 10000, 256, 30, 1);
}

void matrix_vector(Bench& bench) {
  struct Size {
    int64_t m, n;
  };
  constexpr Size kSizes[] = {{32, 32},    {64, 64},     {128, 128},   {256, 256},
                             {512, 512},  {1024, 1024}, {2048, 2048}, {64, 2},
                             {1024, 128}, {450, 150},   {450, 300}};
  for (const auto [m, n] : kSizes) {
    const auto elements = static_cast<size_t>(m * n);
    const auto longer = static_cast<size_t>(std::max(m, n));
    const int rows = static_cast<int>(m);
    const int cols = static_cast<int>(n);
    auto a = numbers(elements);
    const auto x = numbers(longer);
    auto y = numbers(longer);
    const std::string size = m == n ? std::to_string(n) : absl::StrCat(m, "x", n);
    const auto gemv = [&, m = m, n = n](const std::string& name, bool turned) {
      bench.memory(
          name + size, elements, false,
          [&] { kernels::gemv(turned, m, n, 1.f, a.data(), n, x.data(), 0.f, y.data()); },
          [&] {
            cblas_sgemv(CblasRowMajor, turned ? CblasTrans : CblasNoTrans, rows, cols, 1, a.data(),
                        cols, x.data(), 1, 0, y.data(), 1);
          });
    };
    gemv("gemv.", false);
    gemv("gemv_t.", true);
    bench.memory(
        "ger." + size, elements, true,
        [&, m = m, n = n] { kernels::ger(m, n, 1e-6f, x.data(), y.data(), a.data(), n); },
        [&] {
          cblas_sger(CblasRowMajor, rows, cols, 1e-6f, x.data(), 1, y.data(), 1, a.data(), cols);
        });
  }
}

// ---- elementwise --------------------------------------------------------------------------------

constexpr size_t kSizes[] = {16, 64, 128, 1024, size_t{1} << 20};

void elementwise(Bench& bench) {
  struct Function {
    const char* name;
    kernels::Unary op;
    float from, to;
  };
  using kernels::Unary;
  constexpr Function kFunctions[] = {
      {"exp", Unary::kExp, -10, 10},        {"tanh", Unary::kTanh, -4, 4},
      {"log", Unary::kLog, 0.01f, 100},     {"sigmoid", Unary::kSigmoid, -10, 10},
      {"erf", Unary::kErf, -3, 3},          {"gelu", Unary::kGelu, -4, 4},
      {"relu", Unary::kRelu, -1, 1},        {"silu", Unary::kSilu, -10, 10},
      {"softplus", Unary::kSoftplus, -9, 9}};
  for (const Function& f : kFunctions) {
    for (const size_t n : kSizes) {
      const auto x = numbers(n, f.from, f.to);
      Floats y(n);
      const kernels::UnaryParams params{1, 20};
      const auto& kernel = kernels::unary_kernels(f.op);
      bench.plain(std::string(f.name) + "." + std::to_string(n), n,
                  [&] { kernel.forward32(x.data(), y.data(), n, params); });
    }
  }
  for (const auto op : {kernels::Binary::kAdd, kernels::Binary::kMul}) {
    for (const size_t n : kSizes) {
      const auto x = numbers(n);
      const auto z = numbers(n);
      Floats y(n);
      const std::string name = op == kernels::Binary::kAdd ? "add." : "mul.";
      bench.plain(name + std::to_string(n), n, [&] {
        kernels::binary_fn(DType::kFloat32, op)(x.data(), 1, z.data(), 1, y.data(), n);
      });
    }
  }
}

void rows(Bench& bench) {
  for (const size_t n : {size_t{10}, size_t{64}, size_t{1000}, size_t{10000}}) {
    const auto x = numbers(n, -5, 5);
    const auto w = numbers(n);
    Floats y(n);
    Floats gw(n);
    const std::string size = std::to_string(n);
    bench.plain("softmax." + size, n, [&] { kernels::softmax_row(x.data(), y.data(), n); });
    bench.plain("log_softmax." + size, n, [&] { kernels::log_softmax_row(x.data(), y.data(), n); });
    bench.plain("softmax_backward." + size, n,
                [&] { kernels::softmax_backward_row(x.data(), w.data(), y.data(), n); });
    bench.plain("log_softmax_backward." + size, n,
                [&] { kernels::log_softmax_backward_row(x.data(), w.data(), y.data(), n); });
    bench.plain("layer_norm." + size, n,
                [&] { kernels::layer_norm_row(x.data(), w.data(), w.data(), y.data(), n, 1e-5); });
    bench.plain("layer_norm_backward." + size, n, [&] {
      kernels::layer_norm_backward_row(x.data(), w.data(), w.data(), y.data(), gw.data(), n, 1e-5);
    });
  }
}

void use_target(const std::string& name) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name != hwy::TargetName(target)) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    kernels::reset_dispatch();
    return;
  }
  std::cerr << "bench_kernels: this machine or build has no " << name << '\n';
  std::exit(1);
}

int run(int argc, char** argv) {
  Options options;
  std::string target;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool more = i + 1 < argc;
    if (arg == "--peers") {
      options.peers = true;
    } else if (arg == "--filter" && more) {
      options.filter = argv[++i];
    } else if (arg == "--json" && more) {
      options.json = argv[++i];
    } else if (arg == "--rounds" && more) {
      options.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (arg == "--target" && more) {
      target = argv[++i];
    } else {
      std::cerr << "bench_kernels: unknown argument '" << arg << "'\n";
      return 1;
    }
  }
  if (!target.empty()) use_target(target);
  Bench bench(options);
  products(bench);
  matrix_vector(bench);
  elementwise(bench);
  rows(bench);
  bench.write();
  return 0;
}

}  // namespace
}  // namespace ebb::bench

int main(int argc, char** argv) { return ebb::bench::run(argc, argv); }
#endif
