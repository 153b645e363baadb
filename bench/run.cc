// SPDX-License-Identifier: Apache-2.0
// Runs the workloads of a group in Ebb and, if asked, in a peer, alternating between the two round
// by round in processes of their own, and prints a table.
//
//   bench_run [--peer WORKER] [--tcmalloc LIBRARY] [--json FILE] [--only TEXT] [--ud DIR]
//             [--isa avx2] [--rounds N] [--verbose] micro|models|kernels
//
// Both sides must reach the same loss, or there is no figure. The peer may have a workload in
// several forms: all are tried, and the best of those that are close is kept. See
// docs/performance.md.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "bounds.h"
#include "child.h"
#include "program.h"

namespace bench {
namespace {

struct Settings {
  std::string group;
  std::string ebb;   // path of Ebb's worker
  std::string peer;  // and of the peer's; empty without
  std::string json;
  std::string only;
  std::string ud;
  std::string tcmalloc;  // its library: the peer is tried with it, too
  std::string isa;       // empty for the best that the machine has, or "avx2"
  int rounds = 7;
  bool verbose = false;
};

constexpr double kRoundMicroseconds = 60e3;  // a round lasts at least so long
constexpr double kTrialMicroseconds = 40e3;
constexpr double kClose = 1.15;  // forms this much slower than the best in trial stay in
constexpr size_t kFinalists = 3;
constexpr double kLossTolerance = 1e-3;  // relative

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Workers of one program that wait for a workload.
class Workers {
 public:
  // With `fork`, a worker can be used again. Without, each is a fresh process that loads the
  // library itself: for memory, of which a fork shares some with its parent. `preload` is a library
  // that takes the place of malloc, or empty.
  Workers(const std::string& program, const Settings& s, bool fork, const std::string& preload = "")
      : fork_(fork) {
    if (!preload.empty()) command_ = {"env", "LD_PRELOAD=" + preload};
    command_.push_back(program);
    if (fork) command_.push_back("--fork");
    if (!s.ud.empty()) command_.insert(command_.end(), {"--ud", s.ud});
    if (!s.isa.empty()) command_.push_back("--" + s.isa);
  }

  std::unique_ptr<Child> take() {
    if (idle_.empty()) return std::make_unique<Child>(command_);
    std::unique_ptr<Child> child = std::move(idle_.back());
    idle_.pop_back();
    return child;
  }
  void give_back(std::unique_ptr<Child> child) {
    if (fork_) idle_.push_back(std::move(child));
  }

 private:
  bool fork_;
  std::vector<std::string> command_;
  std::vector<std::unique_ptr<Child>> idle_;
};

// One workload in one form, in a process of its own.
class Contender {
 public:
  Contender(Workers& workers, const std::string& name, const std::string& form_name)
      : form(form_name), workers_(workers), child_(workers.take()) {
    const std::vector<double> a = child_->ask("load " + name + " " + form);
    period_ = static_cast<int64_t>(a.at(0));
    ops_ = a.at(1);
    check_steps = static_cast<int64_t>(a.at(2));
    trains = a.at(3) != 0;
    uneven = a.at(4) != 0;
  }

  ~Contender() {
    try {
      child_->ask("unload");
      workers_.give_back(std::move(child_));
    } catch (const std::exception&) {
      // It is dead, and its error was reported when it was asked for something.
    }
  }
  Contender(const Contender&) = delete;
  Contender& operator=(const Contender&) = delete;

  // Losses of sample 0 before and after training.
  std::vector<double> check(int64_t steps) { return child_->ask("check " + std::to_string(steps)); }

  // Chooses how many steps make a round. Gives the time of a step so found.
  double calibrate(double round_us) {
    time(period_ > 1 ? 2 : 1);  // the first steps are slower
    int64_t n = 1;
    double t = time(n);
    while (t < round_us / 4) {
      n = std::max(
          2 * n, std::min(static_cast<int64_t>(static_cast<double>(n) * round_us / t / 3), 64 * n));
      t = time(n);
    }
    const double step = t / static_cast<double>(n);
    steps_ = std::max<int64_t>(1, std::lround(round_us / step));
    return step;
  }
  // All samples, the same number of times.
  void whole_periods() { steps_ = (steps_ + period_ - 1) / period_ * period_; }

  // Microseconds of a step, and of one op of it, in one round.
  void round() {
    time(std::max<int64_t>(1, steps_ / 8));  // brings its data back into the caches
    us.push_back(time(steps_) / static_cast<double>(steps_) / ops_);
  }

  double time(int64_t steps) {
    const double t = time_from(next_, steps);
    next_ += steps;
    return t;
  }
  double time_from(int64_t first, int64_t steps) {
    return child_->ask("time " + std::to_string(first) + " " + std::to_string(steps)).at(0);
  }

  double result() const { return median(us); }
  std::vector<double> memory() { return child_->ask("memory"); }
  std::vector<double> allocations(int64_t steps) {
    return child_->ask("allocations " + std::to_string(steps));
  }
  int64_t period() const { return period_; }

  std::string form;
  int64_t check_steps = 0;
  bool trains = false;
  bool uneven = false;
  std::vector<double> us;  // of each round

 private:
  Workers& workers_;
  std::unique_ptr<Child> child_;
  int64_t period_ = 1;
  double ops_ = 1;
  int64_t steps_ = 1;
  int64_t next_ = 0;
};

using Forms = std::map<std::string, std::vector<std::string>>;

struct Listing {
  std::vector<std::string> names;  // in order
  Forms forms;
};

Listing list(Workers& workers) {
  Listing out;
  std::unique_ptr<Child> child = workers.take();
  const std::vector<std::string> lines = child->ask_list("list");
  workers.give_back(std::move(child));
  for (const std::string& line : lines) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    auto& forms = out.forms[name];
    if (forms.empty()) out.names.push_back(name);
    forms.push_back(line.substr(space + 1));
  }
  return out;
}

bool in_group(const std::string& name, const std::string& group) {
  const bool micro = name.rfind("micro.", 0) == 0;
  const bool kernel = name.rfind("kernel.", 0) == 0;
  if (group == "micro") return micro;
  if (group == "kernels") return kernel;
  return !micro && !kernel;
}

struct Row {
  std::string workload;
  double ebb_us = 0;
  double peer_us = 0;
  std::string form;
  double bound_us = 0;
  double ebb_peak_mb = 0;
  double peer_peak_mb = 0;
  double ebb_resident_mb = 0;
  double peer_resident_mb = 0;
  double pool_allocations = 0;  // in a step
  double heap_allocations = 0;
  double spread = 0;  // of Ebb's rounds: (slowest - fastest) / median

  double ratio() const { return peer_us == 0 ? 0 : peer_us / ebb_us; }
  nlohmann::json json() const {
    return {{"workload", workload},
            {"ebb_us", ebb_us},
            {"peer_us", peer_us},
            {"peer", "libtorch"},
            {"peer_form", form},
            {"ratio", ratio()},
            {"bound_us", bound_us},
            {"ebb_peak_mb", ebb_peak_mb},
            {"peer_peak_mb", peer_peak_mb},
            {"ebb_resident_mb", ebb_resident_mb},
            {"peer_resident_mb", peer_resident_mb},
            {"ebb_pool_allocations", pool_allocations},
            {"ebb_heap_allocations", heap_allocations}};
  }
};

double relative(double a, double b) {
  return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-30});
}

// Throws unless the losses before and after show that parameters have changed.
void require_training(const std::string& workload, const Contender& ebb,
                      const std::vector<double>& losses) {
  if (!ebb.trains || relative(losses.at(0), losses.at(1)) > kLossTolerance) return;
  throw std::runtime_error(workload + ": training does not change the loss, " +
                           std::to_string(losses[0]) + " to " + std::to_string(losses[1]));
}

// Throws where the two sides do not compute the same.
void require_equal(const std::string& workload, const std::vector<double>& ours,
                   const std::vector<double>& theirs, const std::string& form) {
  for (size_t i = 0; i < 2; ++i) {
    if (relative(ours.at(i), theirs.at(i)) <= kLossTolerance) continue;
    throw std::runtime_error(workload + ": the loss " +
                             (i == 0 ? "at the start" : "after training") + " is " +
                             std::to_string(ours[i]) + " in Ebb and " + std::to_string(theirs[i]) +
                             " in the peer's form " + form);
  }
}

// The peer's workers, with the allocator that they have.
struct Peer {
  std::string allocator;  // behind the names of forms
  Workers forked;
  Workers fresh;
};

struct Sides {
  Workers ebb;
  std::vector<Peer> peers;  // the first one is tried with all forms, the others with the best of it
};

// A form of the peer in the race for the fastest.
struct Trial {
  double us;
  Peer* peer;
  std::string form;
  std::unique_ptr<Contender> contender;
};

class Race {
 public:
  Race(const Settings& s, const std::string& workload) : settings_(s), workload_(workload) {}

  // Times a form for a moment. Those that are far slower than the best leave.
  void enter(Peer& peer, const std::string& form) {
    auto c = std::make_unique<Contender>(peer.forked, workload_, form);
    double us = c->calibrate(kTrialMicroseconds);
    // Samples may differ in size: every form sees the same ones.
    if (c->period() > 1 && us > kTrialMicroseconds / 8) us = c->time_from(0, 4) / 4;
    if (settings_.verbose) {
      std::fprintf(stderr, "  %-50s %12.2f us a step\n", (form + peer.allocator).c_str(), us);
    }
    trials_.push_back({us, &peer, form, std::move(c)});
    std::sort(trials_.begin(), trials_.end(), [](auto& a, auto& b) { return a.us < b.us; });
    if (trials_.size() > kFinalists) trials_.pop_back();
    while (trials_.back().us > kClose * trials_.front().us) trials_.pop_back();
  }
  std::vector<Trial>& trials() { return trials_; }

 private:
  const Settings& settings_;
  std::string workload_;
  std::vector<Trial> trials_;  // the fastest first
};

// The peer in the forms that may be the best.
std::vector<Trial> finalists(const Settings& s, Sides& sides, const std::string& name,
                             const std::vector<std::string>& forms) {
  Race race(s, name);
  for (const std::string& form : forms) race.enter(sides.peers[0], form);
  std::vector<std::string> best;
  for (const Trial& t : race.trials()) best.push_back(t.form);
  for (size_t i = 1; i < sides.peers.size(); ++i) {
    for (const std::string& form : best) race.enter(sides.peers[i], form);
  }
  return std::move(race.trials());
}

Row measure(const Settings& s, Sides& sides, const std::string& name,
            const std::vector<std::string>& forms) {
  Row row;
  row.workload = name;
  row.bound_us = bound_us(name, s.ud);
  Contender ebb(sides.ebb, name, "-");
  const std::vector<double> ours = ebb.check(ebb.check_steps);
  require_training(name, ebb, ours);
  const std::vector<Trial> peers = finalists(s, sides, name, forms);
  // A fresh process that trains for the same steps shows the same loss, and its memory.
  const Trial* checked = nullptr;
  const auto check = [&](const Trial& t) {
    Contender fresh(t.peer->fresh, name, t.form);
    require_equal(name, ours, fresh.check(ebb.check_steps), t.form);
    const std::vector<double> memory = fresh.memory();
    row.form = t.form + t.peer->allocator;
    row.peer_peak_mb = memory.at(0) / 1e6;
    row.peer_resident_mb = memory.at(1) / 1e6;
    checked = &t;
  };
  if (!peers.empty()) check(peers.front());

  std::vector<Contender*> all = {&ebb};
  for (const Trial& t : peers) all.push_back(t.contender.get());
  for (Contender* c : all) {
    c->calibrate(kRoundMicroseconds);
    if (ebb.uneven) c->whole_periods();
  }
  for (int r = 0; r < s.rounds; ++r) {
    for (Contender* c : all) c->round();
  }

  row.ebb_us = ebb.result();
  const auto [low, high] = std::minmax_element(ebb.us.begin(), ebb.us.end());
  row.spread = (*high - *low) / row.ebb_us;
  const std::vector<double> memory = ebb.memory();
  row.ebb_peak_mb = memory.at(0) / 1e6;
  row.ebb_resident_mb = memory.at(1) / 1e6;
  const int64_t steps = 2 * ebb.period();
  const std::vector<double> allocations = ebb.allocations(steps);
  row.pool_allocations = allocations.at(0) / static_cast<double>(steps);
  row.heap_allocations = allocations.at(1) / static_cast<double>(steps);
  const Trial* best = checked;
  for (const Trial& t : peers) {
    if (t.contender->result() < best->contender->result()) best = &t;
  }
  if (best != nullptr) {
    row.peer_us = best->contender->result();
    if (best != checked) check(*best);
  }
  return row;
}

std::string cell(double v, int width) {
  char text[40];
  if (v == 0) {
    std::snprintf(text, sizeof(text), "%*s", width, "-");
  } else {
    const int digits = std::abs(v) >= 1000 ? 0 : std::abs(v) >= 100 ? 1 : std::abs(v) >= 1 ? 2 : 4;
    std::snprintf(text, sizeof(text), "%*.*f", width, digits, v);
  }
  return text;
}

void print_header() {
  std::printf("%-26s %10s %10s %7s %10s %6s %11s %12s %8s %6s  %s\n", "workload", "ebb_us",
              "peer_us", "ratio", "bound_us", "bound%", "ebb_peak_mb", "peer_peak_mb", "alloc/st",
              "spread", "peer form");
}

void print(const Row& r) {
  std::printf("%-26s %s %s %s %s %s %s %s %s %5.0f%%  %s\n", r.workload.c_str(),
              cell(r.ebb_us, 10).c_str(), cell(r.peer_us, 10).c_str(), cell(r.ratio(), 7).c_str(),
              cell(r.bound_us, 10).c_str(), cell(100 * r.bound_us / r.ebb_us, 6).c_str(),
              cell(r.ebb_peak_mb, 11).c_str(), cell(r.peer_peak_mb, 12).c_str(),
              cell(r.pool_allocations + r.heap_allocations, 8).c_str(), 100 * r.spread,
              r.form.c_str());
  std::fflush(stdout);
}

int run(const Settings& s) {
  Sides sides = {Workers(s.ebb, s, false), {}};
  const Listing ours = list(sides.ebb);
  Listing theirs;
  if (!s.peer.empty()) {
    sides.peers.push_back({"", Workers(s.peer, s, true), Workers(s.peer, s, false)});
    theirs = list(sides.peers[0].forked);
  }
  if (!s.peer.empty() && !s.tcmalloc.empty()) {
    sides.peers.push_back(
        {",tcmalloc", Workers(s.peer, s, true, s.tcmalloc), Workers(s.peer, s, false, s.tcmalloc)});
  }
  auto rows = nlohmann::json::array();
  int failures = 0;
  print_header();
  for (const std::string& name : ours.names) {
    if (!in_group(name, s.group) || name.find(s.only) == std::string::npos) continue;
    try {
      const Row row = measure(s, sides, name, theirs.forms[name]);
      print(row);
      rows.push_back(row.json());
    } catch (const std::exception& e) {
      std::cerr << "bench_run: " << name << ": " << e.what() << '\n';
      ++failures;
    }
  }
  if (s.group == "models" && s.ud.empty()) {
    std::cerr << "\nbench_run: SKIPPED bilstm_tagger: it needs the folder of a corpus, --ud DIR\n";
  }
  if (!s.json.empty()) {
    std::ofstream out(s.json);
    out << rows.dump(1) << '\n';
    if (!out) throw std::runtime_error("cannot write " + s.json);
  }
  return failures == 0 ? 0 : 1;
}

// What libraries choose when they are loaded: LibTorch's own kernels, oneDNN's, OpenBLAS's on
// either side. Ebb's own kernels are told by the worker.
void limit_to_avx2() {
  setenv("ATEN_CPU_CAPABILITY", "avx2", 1);
  setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
  setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);
  setenv("OPENBLAS_CORETYPE", "Haswell", 1);
  setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2", 1);
}

int main_of(int argc, char** argv) {
  Settings s;
  const std::filesystem::path self = std::filesystem::canonical("/proc/self/exe");
  s.ebb = self.parent_path() / "bench_worker_ebb";
  const std::map<std::string, std::string*> texts = {
      {"--peer", &s.peer}, {"--json", &s.json},         {"--only", &s.only},
      {"--ud", &s.ud},     {"--tcmalloc", &s.tcmalloc}, {"--isa", &s.isa}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto text = texts.find(argument);
    if (argument == "--verbose") {
      s.verbose = true;
    } else if (text != texts.end() && i + 1 < argc) {
      *text->second = argv[++i];
    } else if (argument == "--rounds" && i + 1 < argc) {
      s.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (argument[0] != '-' && s.group.empty()) {
      s.group = argument;
    } else {
      std::cerr << "bench_run: unknown argument '" << argument << "'\n";
      return 2;
    }
  }
  if (s.group.empty()) s.group = "models";
  if (!s.isa.empty() && s.isa != "avx2") {
    std::cerr << "bench_run: --isa " << s.isa << ": only avx2 can be asked for\n";
    return 2;
  }
  // One thread each, before any worker starts.
  for (const char* name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}) {
    setenv(name, "1", 1);
  }
  if (s.isa == "avx2") limit_to_avx2();
  return run(s);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program("bench_run", 1, [&] { return bench::main_of(argc, argv); });
}
