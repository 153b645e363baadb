// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>

// What the programs of this folder share that measure or drive others.
namespace bench {

/// The result of main(): what `body` gives, or `failed` where it throws, after its message under
/// the program's name.
template <class Body>
int run_program(const char* name, int failed, const Body& body) {
  try {
    return body();
  } catch (const std::exception& e) {
    std::cerr << name << ": " << e.what() << '\n';
    return failed;
  }
}

inline double seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// How busy other processes are while it lives.
class OtherProcesses {
 public:
  /// Cores that they have kept busy since this was made, as a mean; 0 where the system does not
  /// tell.
  double cores() const {
    const double worked = busy() - start_busy_;
    const double own = seconds(CLOCK_PROCESS_CPUTIME_ID) - start_own_;
    return worked == 0 ? 0 : (worked - own) / (seconds(CLOCK_MONOTONIC) - start_);
  }

 private:
  // Seconds that all cores have worked since the start of the machine.
  static double busy() {
    std::ifstream in("/proc/stat");
    std::string word;
    double user = 0;
    double nice = 0;
    double system = 0;
    if (!(in >> word >> user >> nice >> system) || word != "cpu") return 0;
    return (user + nice + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  const double start_ = seconds(CLOCK_MONOTONIC);
  const double start_own_ = seconds(CLOCK_PROCESS_CPUTIME_ID);
  const double start_busy_ = busy();
};

}  // namespace bench
