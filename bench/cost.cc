// SPDX-License-Identifier: Apache-2.0
// Figures that no clock is needed for, or no peer: instructions of a recorded op, counted by
// valgrind, and the start of a process.
//
//   bench_cost [--json FILE]
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "child.h"
#include "program.h"

namespace bench {
namespace {

constexpr int64_t kFloats = 64;
// The difference of two lengths leaves out what a tape costs once.
constexpr int64_t kShort = 1000;
constexpr int64_t kLong = 3000;
constexpr int kStarts = 25;

std::string beside(const std::string& program) {
  return std::filesystem::canonical("/proc/self/exe").parent_path() / program;
}

// Instructions that bench_count executes in user mode.
int64_t instructions(const std::string& op, int64_t ops, const std::string& kind) {
  const std::string out =
      run_to_end({"valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                  "--toggle-collect=measured", beside("bench_count"), op, std::to_string(kFloats),
                  std::to_string(ops), kind});
  const std::string label = "Collected : ";
  const size_t at = out.find(label);
  if (at == std::string::npos) throw std::runtime_error("valgrind gave no count: " + out);
  return std::stoll(out.substr(at + label.size()));
}

double per_op(const std::string& op, const std::string& kind) {
  return static_cast<double>(instructions(op, kLong, kind) - instructions(op, kShort, kind)) /
         static_cast<double>(kLong - kShort);
}

// Milliseconds of processor time that a program takes from its start to its end.
double start_ms(const std::string& program) {
  std::vector<double> ms;
  for (int i = 0; i < kStarts; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      execl(program.c_str(), program.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    rusage usage{};
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status != 0) {
      throw std::runtime_error(program + " failed");
    }
    const auto milliseconds = [](const timeval& t) {
      return 1e3 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_usec);
    };
    ms.push_back(milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime));
  }
  std::nth_element(ms.begin(), ms.begin() + kStarts / 2, ms.end());
  return ms[kStarts / 2];
}

int main_of(const std::string& json) {
  auto rows = nlohmann::json::array();
  std::printf("\n%-34s %12s %28s\n", "instructions of one op, 64 floats", "recorded",
              "forward + backward + free");
  for (const std::string op : {"add", "mul", "tanh"}) {
    const double recorded = per_op(op, "recorded");
    const double whole = per_op(op, "whole");
    std::printf("%-34s %12.1f %28.1f\n", op.c_str(), recorded, whole);
    rows.push_back({{"workload", "count." + op + ".recorded"}, {"instructions", recorded}});
    rows.push_back({{"workload", "count." + op}, {"instructions", whole}});
  }
  const double ebb = start_ms(beside("bench_first_op"));
  const double blas = start_ms(beside("bench_first_blas"));
  std::printf("\nstart to the end of the first op: %.1f ms, of which loading OpenBLAS %.1f ms\n",
              ebb, blas);
  rows.push_back({{"workload", "start"}, {"ebb_us", 1e3 * ebb}, {"openblas_us", 1e3 * blas}});
  if (!json.empty()) {
    std::ofstream out(json);
    out << rows.dump(1) << '\n';
    if (!out) throw std::runtime_error("cannot write " + json);
  }
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  const std::string option = argc == 3 ? argv[1] : "";
  if (argc != 1 && option != "--json") {
    std::cerr << "usage: bench_cost [--json FILE]\n";
    return 2;
  }
  return bench::run_program("bench_cost", 1,
                            [&] { return bench::main_of(argc == 3 ? argv[2] : ""); });
}
