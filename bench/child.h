// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace bench {

/// A worker process (worker.h), at the driver's end. What the worker reports as an error, and its
/// death, are std::runtime_error.
class Child {
 public:
  explicit Child(const std::vector<std::string>& command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Sends a line, gives the numbers behind "ok".
  std::vector<double> ask(const std::string& command);
  /// Sends a line, gives all lines before "end".
  std::vector<std::string> ask_list(const std::string& command);

 private:
  void send(const std::string& line);
  std::string receive();

  std::string name_;
  pid_t pid_ = -1;
  FILE* to_ = nullptr;
  FILE* from_ = nullptr;
};

/// Runs a program to its end and gives what it wrote to its standard error and output, together.
/// Throws std::runtime_error where it cannot be run or does not give 0.
std::string run_to_end(const std::vector<std::string>& command);

}  // namespace bench
