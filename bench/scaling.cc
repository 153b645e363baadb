// SPDX-License-Identifier: Apache-2.0
// How costs grow: the price of an op in tapes of a thousand to ten million of them, and what a
// second thread brings where both use the same parameters. Ebb alone.
//
//   bench_scaling [--json FILE] [--only TEXT] [--ops N] [--rounds N]
//
// Two threads need two cores: it must not be pinned to one. See docs/performance.md.
#include <ebb/ebb.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "program.h"

namespace bench {
namespace {

using ebb::Tensor;

struct Settings {
  std::string json;
  std::string only;
  int64_t ops = 10'000'000;  // of the longest tape
  int rounds = 9;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Seconds of a clock of the system.
// ---- length of the tape
// --------------------------------------------------------------------------

// Nanoseconds of one op.
struct TapeCost {
  double forward = 0;   // recorded
  double backward = 0;  // played back, freed as it goes
  double free = 0;      // freed without playback
};

// Builds a tape of `ops` ops on one float each, of which the last is given.
using Build = std::function<Tensor(const Tensor& x, const Tensor& w, int64_t ops)>;

Tensor chain(const Tensor& x, const Tensor& w, int64_t ops) {
  Tensor y = x;
  for (int64_t i = 0; i < ops; ++i) y = y * w;
  return y;
}

// Halves of the same tape that meet at the end, a level at a time: as wide as it is long.
Tensor levels(const Tensor& x, const Tensor& w, int64_t ops) {
  std::vector<Tensor> level;
  for (int64_t i = 0; i < (ops + 1) / 2; ++i) level.push_back(x * w);
  while (level.size() > 1) {
    size_t to = 0;
    for (size_t i = 0; i + 1 < level.size(); i += 2) level[to++] = level[i] + level[i + 1];
    if (level.size() % 2 != 0) level[to++] = std::move(level.back());
    level.resize(to);
  }
  return level[0];
}

// What `repeats` tapes of the same length cost, played back or dropped.
TapeCost pass(const Build& build, int64_t ops, int64_t repeats, bool play) {
  const Tensor x = ebb::variable(ebb::full({1}, 0.5));
  const Tensor w = ebb::variable(ebb::full({1}, 1.0));
  const Tensor g = ebb::ones({1});
  TapeCost sum;
  const auto timed = [](double& to, const auto& work) {
    const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    work();
    to += seconds(CLOCK_THREAD_CPUTIME_ID) - start;
  };
  for (int64_t i = 0; i < repeats; ++i) {
    Tensor y;
    timed(sum.forward, [&] { y = build(x, w, ops); });
    timed(play ? sum.backward : sum.free, [&] {
      if (play) y.backward(g);
      y = Tensor();
    });
    x.zero_grad();
    w.zero_grad();
  }
  const double scale = 1e9 / static_cast<double>(ops * repeats);
  return {sum.forward * scale, sum.backward * scale, sum.free * scale};
}

// Medians of rounds; `played` and `dropped` come apart, for the order in which a tape is freed is
// the order in which the next one finds its memory.
TapeCost warm(const Build& build, int64_t ops, int rounds) {
  const int64_t repeats = std::max<int64_t>(1, 200'000 / ops);
  std::vector<double> forward;
  std::vector<double> backward;
  std::vector<double> free;
  for (int r = 0; r < rounds; ++r) {
    const TapeCost c = pass(build, ops, repeats, true);
    forward.push_back(c.forward);
    backward.push_back(c.backward);
  }
  for (int r = 0; r < rounds; ++r) free.push_back(pass(build, ops, repeats, false).free);
  return {median(forward), median(backward), median(free)};
}

void print_tape(const std::string& name, const TapeCost& c, const TapeCost* base, double gb) {
  std::printf("%-32s %9.1f %9.1f %9.1f %8.1f", name.c_str(), c.forward, c.backward, c.free,
              c.forward + c.backward);
  if (base != nullptr) {
    std::printf("   %5.2f %5.2f %5.2f", c.forward / base->forward, c.backward / base->backward,
                c.free / base->free);
  } else {
    std::printf("   %5s %5s %5s", "-", "-", "-");
  }
  std::printf(" %7.3f\n", gb);
  std::fflush(stdout);
}

nlohmann::json tape_json(const std::string& name, const TapeCost& c, const TapeCost& base,
                         double gb) {
  return {{"workload", name},
          {"forward_ns", c.forward},
          {"backward_ns", c.backward},
          {"free_ns", c.free},
          {"forward_ratio", c.forward / base.forward},
          {"backward_ratio", c.backward / base.backward},
          {"free_ratio", c.free / base.free},
          {"peak_gb", gb}};
}

void run_tapes(const Settings& s, nlohmann::json& rows) {
  const std::pair<const char*, Build> shapes[] = {{"chain", chain}, {"levels", levels}};
  std::printf("\n%-32s %9s %9s %9s %8s   %17s %7s\n", "ns of one op on one float", "forward",
              "backward", "or free", "fwd+bwd", "times that of 1000", "peak GB");
  for (const auto& [shape, build] : shapes) {
    TapeCost base;
    std::vector<int64_t> lengths;
    for (int64_t n = 1000; n < s.ops; n *= 100) lengths.push_back(n);
    lengths.push_back(s.ops);
    for (const int64_t ops : lengths) {
      const std::string name = std::string("tape.") + shape + "." + std::to_string(ops);
      if (name.find(s.only) == std::string::npos) continue;
      ebb::reset_peak_memory();
      const TapeCost fresh = pass(build, ops, 1, true);  // memory comes from the system
      const double gb = static_cast<double>(ebb::memory_stats().peak_bytes) * 1e-9;
      const TapeCost c = warm(build, ops, ops >= 1'000'000 ? 3 : s.rounds);
      if (ops == lengths.front()) base = c;
      if (ops == lengths.back()) {
        print_tape(name + ".first", fresh, &base, gb);
        rows.push_back(tape_json(name + ".first", fresh, base, gb));
      }
      print_tape(name, c, &base, gb);
      rows.push_back(tape_json(name, c, base, gb));
    }
  }
}

// ---- threads
// -------------------------------------------------------------------------------------

// A model that several threads use at once. Each has its own samples.
class Shared {
 public:
  virtual ~Shared() = default;
  virtual Tensor loss(int64_t sample) = 0;
  virtual std::vector<ebb::Parameter> parameters() const = 0;
};

constexpr int64_t kSamples = 64;

class Mlp : public Shared {
 public:
  Mlp() {
    for (int64_t i = 0; i < kSamples; ++i) samples_.push_back(ebb::rand({784}));
  }
  Tensor loss(int64_t i) override {
    return cross_entropy(net_(samples_[static_cast<size_t>(i % kSamples)]), i % 10);
  }
  std::vector<ebb::Parameter> parameters() const override { return net_.parameters(); }

 private:
  struct Net : ebb::nn::Module {
    ebb::nn::Linear fc1{*this, "fc1", 784, 256};
    ebb::nn::Linear fc2{*this, "fc2", 256, 128};
    ebb::nn::Linear fc3{*this, "fc3", 128, 10};
    Tensor operator()(const Tensor& x) { return fc3(relu(fc2(relu(fc1(x))))); }
  };
  Net net_;
  std::vector<Tensor> samples_;
};

class CharLstm : public Shared {
 public:
  Tensor loss(int64_t i) override {
    Tensor sum = ebb::zeros({});
    ebb::nn::LSTMState state;
    for (int64_t t = 0; t < kLength; ++t) {
      const int64_t symbol = (i * 13 + t * t) % kSymbols;
      state = net_.lstm(net_.embedding(symbol), state);
      sum = sum + cross_entropy(net_.out(state.h), (symbol * 7 + 3) % kSymbols);
    }
    return sum;
  }
  std::vector<ebb::Parameter> parameters() const override { return net_.parameters(); }

 private:
  static constexpr int64_t kLength = 30;
  static constexpr int64_t kSymbols = 64;
  struct Net : ebb::nn::Module {
    ebb::nn::Embedding embedding{*this, "embedding", kSymbols, 64};
    ebb::nn::LSTMCell lstm{*this, "lstm", 64, 128};
    ebb::nn::Linear out{*this, "out", 128, kSymbols};
  };
  Net net_;
};

// Nothing but recording: every op uses the same parameter of 64 floats.
class Ops : public Shared {
 public:
  Tensor loss(int64_t i) override {
    Tensor y = samples_[static_cast<size_t>(i % kSamples)] * w_.tensor();
    for (int k = 1; k < 300; ++k) y = y * w_.tensor();
    return y.sum();
  }
  std::vector<ebb::Parameter> parameters() const override { return {w_}; }
  Ops() {
    for (int64_t i = 0; i < kSamples; ++i) samples_.push_back(ebb::rand({64}));
  }

 private:
  ebb::Parameter w_{ebb::ones({64})};
  std::vector<Tensor> samples_;
};

// What the threads share.
enum class Sharing {
  kNothing,  // a model each: what the machine gives at best
  kValues,   // one model; gradients by grad(), each thread its own
  kLeaves,   // one model; backward() adds the gradients of both at the leaves, under their mutex
};

// Samples between which the leaves' gradients are taken away: a minibatch, which the threads empty
// together.
constexpr int64_t kBatch = 64;

// The cores that this process may use.
std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> out;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return out;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) out.push_back(i);
  }
  return out;
}

// Keeps the calling thread to some cores.
void pin(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int c : cores) CPU_SET(c, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

// Threads that work side by side, each on a core of its own.
class Team {
 public:
  using Make = std::function<std::unique_ptr<Shared>()>;
  Team(const Make& make, Sharing sharing, size_t threads) : sharing_(sharing) {
    for (size_t t = 0; t < threads; ++t) {
      if (t == 0 || sharing == Sharing::kNothing) models_.push_back(make());
      members_.push_back({models_.back().get(), {}});
      for (const ebb::Parameter& p : models_.back()->parameters()) {
        members_.back().wanted.push_back(p.tensor());
      }
    }
  }

  struct Seconds {
    double wall = 0;
    double cpu = 0;  // of all threads
  };

  // What the threads on `cores`, as many as there are or fewer, take for `batches` together.
  Seconds run(const std::vector<int>& cores, int64_t batches) {
    std::barrier sync(static_cast<std::ptrdiff_t>(cores.size()));
    std::vector<std::thread> team;
    std::vector<double> cpu(cores.size());
    Seconds out;
    const auto member = [&](size_t t) {
      pin({cores[t]});
      work(t, 2, sync);  // brings its data into the caches
      const double start = seconds(CLOCK_MONOTONIC);
      const double start_cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
      work(t, batches, sync);
      cpu[t] = seconds(CLOCK_THREAD_CPUTIME_ID) - start_cpu;
      if (t == 0) out.wall = seconds(CLOCK_MONOTONIC) - start;
    };
    // The thread that made the model takes part.
    for (size_t t = 1; t < cores.size(); ++t) team.emplace_back(member, t);
    member(0);
    pin(allowed_);
    for (std::thread& t : team) t.join();
    for (const double c : cpu) out.cpu += c;
    return out;
  }

 private:
  struct Member {
    Shared* model;
    std::vector<Tensor> wanted;
  };

  void work(size_t t, int64_t batches, std::barrier<>& sync) {
    const Member& m = members_[t];
    for (int64_t b = 0; b < batches; ++b) {
      for (int64_t i = next_++; i < kBatch; i = next_++) {
        const Tensor loss = m.model->loss(b * kBatch + i);
        if (sharing_ == Sharing::kLeaves) {
          loss.backward();
        } else {
          grad({{loss}}, m.wanted, {.allow_unused = true});
        }
      }
      sync.arrive_and_wait();
      if (t == 0) {
        next_ = 0;
        if (sharing_ == Sharing::kLeaves) {
          for (const Tensor& w : m.wanted) w.zero_grad();
        }
      }
      sync.arrive_and_wait();
    }
  }

  const std::vector<int> allowed_ = allowed_cores();
  Sharing sharing_;
  std::vector<std::unique_ptr<Shared>> models_;
  std::vector<Member> members_;
  std::atomic<int64_t> next_ = 0;
};

constexpr double kQuiet = 0.03;  // share of two cores that others may take in a round that counts

// Each core alone and both together, in turns. Cores need not be equally fast (other machines may
// share their silicon), hence the mean of the two.
struct Round {
  double one_us;  // of a sample
  double two_us;
  double by_cpu;  // how two threads scale by what they work, waiting aside
  double others;
  double scaling() const { return one_us / two_us; }
};

Round measure(Team& team, const std::vector<int>& cores, int64_t batches) {
  const double samples = static_cast<double>(batches * kBatch);
  const OtherProcesses others;
  const Team::Seconds a = team.run({cores[0]}, batches);
  const Team::Seconds b = team.run({cores[1]}, batches);
  const Team::Seconds both = team.run(cores, 2 * batches);
  const double rate = (samples / a.wall + samples / b.wall) / 2;
  return {1e6 / rate, 1e6 * both.wall / (2 * samples), 2 * (a.cpu + b.cpu) / both.cpu,
          others.cores() / 2};
}

void run_threads(const Settings& s, const std::vector<int>& cores, nlohmann::json& rows) {
  const std::pair<const char*, Team::Make> models[] = {
      {"mlp", [] { return std::make_unique<Mlp>(); }},
      {"lstm_char", [] { return std::make_unique<CharLstm>(); }},
      {"ops", [] { return std::make_unique<Ops>(); }}};
  const std::pair<const char*, Sharing> kinds[] = {
      {".apart", Sharing::kNothing}, {".grad", Sharing::kValues}, {".backward", Sharing::kLeaves}};
  std::printf("\n%-32s %12s %12s %9s %9s %9s\n", "us of a sample", "1 thread", "2 threads",
              "scales", "by cpu", "others");
  for (const auto& [model, make] : models) {
    for (const auto& [suffix, sharing] : kinds) {
      const std::string name = std::string("threads.") + model + suffix;
      if (name.find(s.only) == std::string::npos) continue;
      Team team(make, sharing, 2);
      const auto batches =
          std::max<int64_t>(2, static_cast<int64_t>(0.1 / (team.run({cores[0]}, 4).wall / 4)));
      std::vector<Round> rounds;
      for (int r = 0; r < 4 * s.rounds; ++r) {
        rounds.push_back(measure(team, cores, batches));
        const auto quiet = std::count_if(rounds.begin(), rounds.end(),
                                         [](const Round& x) { return x.others < kQuiet; });
        if (quiet >= s.rounds) break;
      }
      std::sort(rounds.begin(), rounds.end(),
                [](const Round& a, const Round& b) { return a.others < b.others; });
      rounds.resize(std::min(rounds.size(), static_cast<size_t>(s.rounds)));
      const auto of = [&](const auto& part) {
        std::vector<double> v;
        for (const Round& r : rounds) v.push_back(part(r));
        return median(std::move(v));
      };
      const double one = of([](const Round& r) { return r.one_us; });
      const double two = of([](const Round& r) { return r.two_us; });
      const double scaling = of([](const Round& r) { return r.scaling(); });
      const double by_cpu = of([](const Round& r) { return r.by_cpu; });
      const double others = std::max(0.0, rounds.back().others);
      std::printf("%-32s %12.2f %12.2f %9.2f %9.2f %8.0f%%%s\n", name.c_str(), one, two, scaling,
                  by_cpu, 100 * others, others < kQuiet ? "" : "  BUSY: other processes ran");
      std::fflush(stdout);
      rows.push_back({{"workload", name},
                      {"one_thread_us", one},
                      {"two_threads_us", two},
                      {"scaling", scaling},
                      {"scaling_by_cpu", by_cpu},
                      {"others", others}});
    }
  }
}

int main_of(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 == argc) throw std::runtime_error("'" + argument + "' is unknown or needs a value");
    const std::string value = argv[++i];
    if (argument == "--json") {
      s.json = value;
    } else if (argument == "--only") {
      s.only = value;
    } else if (argument == "--ops") {
      s.ops = std::max<int64_t>(1000, std::atoll(value.c_str()));
    } else if (argument == "--rounds") {
      s.rounds = std::max(1, std::atoi(value.c_str()));
    } else {
      throw std::runtime_error("unknown argument '" + argument + "'");
    }
  }
  ebb::set_num_threads(1);  // the threads are those of this program
  auto rows = nlohmann::json::array();
  run_tapes(s, rows);
  const std::vector<int> cores = allowed_cores();
  if (cores.size() > 1) {
    run_threads(s, {cores[cores.size() - 1], cores[cores.size() - 2]}, rows);
  } else {
    std::cerr << "\nbench_scaling: SKIPPED threads.*: they need two cores, and this process may "
                 "use one\n";
  }
  if (!s.json.empty()) {
    std::ofstream out(s.json);
    out << rows.dump(1) << '\n';
    if (!out) throw std::runtime_error("cannot write " + s.json);
  }
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program("bench_scaling", 1, [&] { return bench::main_of(argc, argv); });
}
