// SPDX-License-Identifier: Apache-2.0
// What one recorded op costs: chains of ops on small arrays, recorded, played back and freed.
//
//   bench_micro [Google Benchmark's own flags]
//
// A chain has 1,000 ops. `recorded` is the forward pass alone with the tape kept; the whole is
// forward, backward and freeing the tape. The leaves exist before the clock starts; nothing else
// is excluded. Figures are for one op: medians of five repetitions. bench_run has the same chains
// beside a peer.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/unary.h"

namespace {

using ebb::Tensor;

constexpr int kChain = 1000;

Tensor leaf(const ebb::Shape& shape, double value) {
  return ebb::variable(Tensor(ebb::Array::full(ebb::kFloat32, shape, value)));
}

struct AddOp {
  static Tensor apply(const Tensor& x, const Tensor& w) { return add(x, w); }
};
struct MulOp {
  static Tensor apply(const Tensor& x, const Tensor& w) { return mul(x, w); }
};
struct TanhOp {
  static Tensor apply(const Tensor& x, const Tensor&) { return tanh(x); }
};

template <class Op>
Tensor chain(const Tensor& x, const Tensor& w) {
  Tensor y = Op::apply(x, w);
  for (int i = 1; i < kChain; ++i) y = Op::apply(y, w);
  return y;
}

void finish(benchmark::State& state, int ops) {
  state.SetItemsProcessed(state.iterations() * ops);
  state.counters["us_per_op"] =
      benchmark::Counter(static_cast<double>(ops) * 1e-6 * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class Op>
void recorded(benchmark::State& state) {
  const Tensor x = leaf({state.range(0)}, 0.5);
  const Tensor w = leaf({state.range(0)}, 1.0);
  Tensor y;
  for (auto _ : state) {
    state.PauseTiming();
    y = Tensor();  // the tape before goes outside the clock
    state.ResumeTiming();
    y = chain<Op>(x, w);
    benchmark::DoNotOptimize(y.value().raw());
  }
  finish(state, kChain);
}

template <class Op>
void whole(benchmark::State& state) {
  const Tensor x = leaf({state.range(0)}, 0.5);
  const Tensor w = leaf({state.range(0)}, 1.0);
  const Tensor g(ebb::Array::full(ebb::kFloat32, {state.range(0)}, 1.0));
  for (auto _ : state) {
    Tensor y = chain<Op>(x, w);
    y.backward(g);
    y = Tensor();
    x.zero_grad();
    w.zero_grad();
  }
  finish(state, kChain);
}

// One matrix-vector product with its backward pass: the gradient of the matrix stays a product.
void matrix_vector(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor w = leaf({n, n}, 0.01);
  const Tensor x = leaf({n}, 1.0);
  const Tensor g(ebb::Array::full(ebb::kFloat32, {n}, 1.0));
  for (auto _ : state) {
    mv(w, x).backward(g);
    w.zero_grad();
    x.zero_grad();
  }
  finish(state, 1);
}

void matrix_product(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor a(ebb::Array::full(ebb::kFloat32, {n, n}, 0.01));
  const Tensor b(ebb::Array::full(ebb::kFloat32, {n, n}, 0.01));
  for (auto _ : state) benchmark::DoNotOptimize(mm(a, b).value().raw());
  finish(state, 1);
}

void register_all() {
  const std::vector<int64_t> sizes = {1, 16, 64, 256, 1024, 4096, 65536};
  const auto add_chain = [&](const char* name, void (*forward)(benchmark::State&),
                             void (*all)(benchmark::State&)) {
    for (int64_t n : sizes) {
      benchmark::RegisterBenchmark((std::string("micro.") + name + ".recorded").c_str(), forward)
          ->Arg(n);
      benchmark::RegisterBenchmark((std::string("micro.") + name).c_str(), all)->Arg(n);
    }
  };
  add_chain("add", recorded<AddOp>, whole<AddOp>);
  add_chain("mul", recorded<MulOp>, whole<MulOp>);
  add_chain("tanh", recorded<TanhOp>, whole<TanhOp>);
  for (int64_t n : {64, 256, 1024}) {
    benchmark::RegisterBenchmark("micro.matrix_vector", matrix_vector)->Arg(n);
  }
  for (int64_t n : {8, 16, 32, 64, 128, 256}) {
    benchmark::RegisterBenchmark("micro.matrix_product", matrix_product)->Arg(n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string repetitions = "--benchmark_repetitions=5";
  std::string aggregates = "--benchmark_report_aggregates_only=true";
  std::string min_time = "--benchmark_min_time=0.05";
  std::vector<char*> args = {argv[0], repetitions.data(), aggregates.data(), min_time.data()};
  args.insert(args.end(), argv + 1, argv + argc);
  int count = static_cast<int>(args.size());
  benchmark::Initialize(&count, args.data());
  if (benchmark::ReportUnrecognizedArguments(count, args.data())) return 1;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
