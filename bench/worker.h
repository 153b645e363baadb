// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

// A worker is a program that runs workloads in one library. The driver (run.cc) talks to it by
// lines on its standard input and output, so that two libraries never share a process: neither
// their memory nor their caches and threads mix. A worker loads one workload in its life; or, with
// --fork, a child that it forks does, so that a library that is slow to start does so once.
//
//   list                  the workloads it has: "NAME FORM" a line, then "end"
//   load NAME FORM        "ok PERIOD OPS CHECK_STEPS TRAINS UNEVEN"
//   check STEPS           "ok BEFORE AFTER": the loss of sample 0 before and after so many steps
//   time FIRST STEPS      "ok MICROSECONDS" that the steps took, on samples FIRST, FIRST + 1, ...
//   memory                "ok PEAK RESIDENT" in bytes: the peak beyond the start, and in all
//   allocations STEPS     "ok POOL HEAP": blocks asked of the system, by the library's own count,
//                         and calls of operator new
//   unload                "ok": the end of the process, or of the child
// What fails answers "error MESSAGE".
namespace bench {

/// One program: its parameters, its samples and its training step.
class Workload {
 public:
  virtual ~Workload() = default;
  /// One training step on sample number i.
  virtual void step(int64_t i) = 0;
  /// What the step gave, to compare libraries by: the loss, or a sum over results.
  virtual double loss() = 0;
  /// Undoes what a step left, outside the clock. Only of workloads that `pauses`.
  virtual void between() {}
  virtual bool pauses() const { return false; }
  /// Samples there are.
  virtual int64_t period() const { return 1; }
  /// Whether samples differ in size, so that only whole periods compare.
  virtual bool uneven() const { return false; }
  /// Times are given for one of so many equal parts of a step.
  virtual int64_t ops() const { return 1; }
  /// Steps after which the losses are compared.
  virtual int64_t check_steps() const { return 100; }
  /// Whether steps change the loss of a sample, that is whether it trains.
  virtual bool trains() const { return true; }
};

struct Entry {
  std::string name;
  std::string form;  ///< how the program is written, where it can be in several ways
  std::function<std::unique_ptr<Workload>()> make;
};

/// What a worker is made of.
struct Library {
  std::vector<Entry> entries;
  /// The first op of the process: what it costs is the library's start, not the workload's.
  std::function<void()> first_op;
  /// Blocks that the library has asked of the system, and calls of operator new, so far.
  std::function<std::array<int64_t, 2>()> allocations;
};

/// Options for all workloads of this process, from the command line.
struct Options {
  std::string ud;     ///< folder with train.conllu; empty where there is none
  bool avx2 = false;  ///< no instruction set beyond AVX2
};
const Options& options();

/// Answers commands until the input ends. The result of main.
int serve(int argc, char** argv, const std::function<Library()>& make_library);

}  // namespace bench
