// SPDX-License-Identifier: Apache-2.0
// Times the convolutions of conv_layers.h in Ebb and, if asked, in peers, alternating between them
// round by round in processes of their own, and prints a table.
//
//   bench_conv [--peer NAME=WORKER]... [--json FILE] [--only TEXT] [--isa avx2] [--rounds N]
//
// A peer may have a workload in several forms; the best in trial is kept. All must give the same
// result. Ratios are the peer's time over Ebb's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "child.h"
#include "conv_layers.h"
#include "program.h"

namespace bench {
namespace {

constexpr double kRoundMicroseconds = 15e3;
constexpr double kTrialMicroseconds = 10e3;
constexpr double kTolerance = 1e-3;  // of sums over results, relative
constexpr const char* kModes[] = {"unchanged", "written"};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// A library, in a process that forks one for each workload.
class Side {
 public:
  Side(std::string name, const std::string& program, bool avx2) : name_(std::move(name)) {
    std::vector<std::string> command = {program, "--fork"};
    if (avx2) command.emplace_back("--avx2");
    child_ = std::make_unique<Child>(command);
    for (const std::string& line : child_->ask_list("list")) {
      const std::string form = line.substr(line.find(' ') + 1);
      if (std::find(forms_.begin(), forms_.end(), form) == forms_.end()) forms_.push_back(form);
    }
  }
  const std::string& name() const { return name_; }
  const std::string& form() const { return form_; }

  // Loads the workload in its best form. Gives its result.
  double load(const std::string& workload) {
    form_.clear();
    double best = 0;
    if (forms_.size() > 1) {
      for (const std::string& form : forms_) {
        double us;
        try {
          begin(workload, form);
          us = calibrate(kTrialMicroseconds);
        } catch (const std::runtime_error&) {
          child_->ask("unload");  // it does not have this form
          continue;
        }
        child_->ask("unload");
        if (form_.empty() || us < best) {
          best = us;
          form_ = form;
        }
      }
      if (form_.empty()) throw std::runtime_error(workload + ": " + name_ + " has none");
    } else {
      form_ = forms_[0];
    }
    begin(workload, form_);
    const double result = child_->ask("check " + std::to_string(check_steps_)).at(1);
    calibrate(kRoundMicroseconds);
    us_.clear();
    return result;
  }
  void unload() { child_->ask("unload"); }
  void round() {
    time(1 + steps_ / 8);  // brings its data back into the caches
    us_.push_back(time(steps_) / static_cast<double>(steps_) / ops_);
  }
  double result() const { return median(us_); }

 private:
  void begin(const std::string& workload, const std::string& form) {
    const std::vector<double> a = child_->ask("load " + workload + " " + form);
    ops_ = a.at(1);
    check_steps_ = static_cast<int64_t>(a.at(2));
  }
  double calibrate(double round_us) {
    time(1);
    int64_t n = 1;
    double t = time(n);
    while (t < round_us / 4) {
      n *= 2;
      t = time(n);
    }
    const double step = t / static_cast<double>(n);
    steps_ = std::max<int64_t>(1, std::lround(round_us / step));
    return step;
  }
  double time(int64_t steps) { return child_->ask("time 0 " + std::to_string(steps)).at(0); }

  std::string name_;
  std::unique_ptr<Child> child_;
  std::vector<std::string> forms_;
  std::string form_;
  double ops_ = 1;
  int64_t check_steps_ = 1;
  int64_t steps_ = 1;
  std::vector<double> us_;
};

void print_line(const std::string& what, double multiply_adds, const std::vector<double>& us,
                const std::vector<std::string>& forms) {
  std::printf("  %-24s %10.2f %8.1f", what.c_str(), us[0], 2e-3 * multiply_adds / us[0]);
  for (size_t i = 1; i < us.size(); ++i) std::printf(" %12.2f %6.2f", us[i], us[i] / us[0]);
  for (const std::string& form : forms) std::printf("  %s", form.c_str());
  std::printf("\n");
  std::fflush(stdout);
}

struct Settings {
  std::vector<std::pair<std::string, std::string>> peers;
  std::string json;
  std::string only;
  std::string isa;
  int rounds = 7;
};

// Microseconds by side.
std::vector<double> measure(const Settings& s, std::vector<std::unique_ptr<Side>>& sides,
                            const std::string& workload, std::vector<std::string>& forms) {
  std::vector<double> results;
  for (auto& side : sides) results.push_back(side->load(workload));
  for (int round = 0; round < s.rounds; ++round) {
    for (auto& side : sides) side->round();
  }
  std::vector<double> us;
  for (auto& side : sides) {
    us.push_back(side->result());
    side->unload();
  }
  forms.clear();
  for (size_t i = 1; i < sides.size(); ++i) {
    forms.push_back(sides[i]->form());
    if (std::abs(results[i] - results[0]) > kTolerance * std::abs(results[0])) {
      throw std::runtime_error(workload + ": the result is " + std::to_string(results[0]) +
                               " in Ebb and " + std::to_string(results[i]) + " in " +
                               sides[i]->name());
    }
  }
  return us;
}

int run(const Settings& s) {
  const std::filesystem::path self = std::filesystem::canonical("/proc/self/exe");
  std::vector<std::unique_ptr<Side>> sides;
  const bool avx2 = s.isa == "avx2";
  sides.push_back(
      std::make_unique<Side>("ebb", (self.parent_path() / "bench_worker_conv").string(), avx2));
  for (const auto& [name, program] : s.peers) {
    sides.push_back(std::make_unique<Side>(name, program, avx2));
  }
  std::printf("%-26s %10s %8s", "layer", "ebb_us", "GFLOP/s");
  for (size_t i = 1; i < sides.size(); ++i) {
    std::printf(" %12s %6s", (sides[i]->name() + "_us").c_str(), "ratio");
  }
  std::printf("\n");
  auto rows = nlohmann::json::array();
  int failures = 0;
  for (const conv::Layer& layer : conv::kLayers) {
    if (("conv." + std::string(layer.name)).find(s.only) == std::string::npos) continue;
    std::printf("%s\n", layer.name);
    for (const char* mode : kModes) {
      std::vector<double> mean(sides.size(), 1);
      try {
        for (const char* pass : conv::kPassNames) {
          const std::string workload = std::string("conv.") + layer.name + "." + pass + "." + mode;
          std::vector<std::string> forms;
          const std::vector<double> us = measure(s, sides, workload, forms);
          print_line(std::string(pass) + " " + mode, layer.multiply_adds(), us, forms);
          for (size_t i = 0; i < us.size(); ++i) mean[i] *= std::cbrt(us[i]);
          for (size_t i = 1; i < us.size(); ++i) {
            rows.push_back({{"workload", workload},
                            {"ebb_us", us[0]},
                            {"peer_us", us[i]},
                            {"peer", sides[i]->name()},
                            {"peer_form", forms[i - 1]},
                            {"ratio", us[i] / us[0]}});
          }
          if (us.size() == 1) rows.push_back({{"workload", workload}, {"ebb_us", us[0]}});
        }
        print_line(std::string("mean ") + mode, layer.multiply_adds(), mean, {});
      } catch (const std::exception& e) {
        std::cerr << "bench_conv: " << e.what() << '\n';
        ++failures;
        break;
      }
    }
  }
  if (!s.json.empty()) {
    std::ofstream out(s.json);
    out << rows.dump(1) << '\n';
    if (!out) throw std::runtime_error("cannot write " + s.json);
  }
  return failures == 0 ? 0 : 1;
}

int main_of(int argc, char** argv) {
  Settings s;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 == argc) throw std::runtime_error(argument + " is unknown or needs a value");
    const std::string value = argv[++i];
    const size_t equals = value.find('=');
    if (argument == "--peer" && equals != std::string::npos) {
      s.peers.emplace_back(value.substr(0, equals), value.substr(equals + 1));
    } else if (argument == "--json") {
      s.json = value;
    } else if (argument == "--only") {
      s.only = value;
    } else if (argument == "--isa" && value == "avx2") {
      s.isa = value;
    } else if (argument == "--rounds") {
      s.rounds = std::max(1, std::atoi(value.c_str()));
    } else {
      throw std::runtime_error("unknown argument '" + argument + "'");
    }
  }
  for (const char* name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}) {
    setenv(name, "1", 1);
  }
  if (s.isa == "avx2") {  // see run.cc
    setenv("ATEN_CPU_CAPABILITY", "avx2", 1);
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);
    setenv("OPENBLAS_CORETYPE", "Haswell", 1);
  }
  return run(s);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_program("bench_conv", 2, [&] { return bench::main_of(argc, argv); });
}
