// SPDX-License-Identifier: Apache-2.0
#include "worker.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace bench {
namespace {

// Time of this process on its core, in user and system mode. Alone on a core, that is the time that
// passes; beside others it is still the time that the work took. Workers have one thread.
struct Clock {
  using duration = std::chrono::nanoseconds;
  static duration now() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }
};

Options g_options;

// A figure of this process in bytes, such as VmHWM: its largest resident set.
int64_t process_bytes(const std::string& key) {
  std::ifstream in("/proc/self/status");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(key + ":", 0) == 0) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  throw std::runtime_error("/proc/self/status has no " + key);
}

// Makes VmHWM start again from what is resident now.
void reset_peak() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5\n";
  out.close();
  if (!out) throw std::runtime_error("cannot reset the peak of resident memory");
}

double microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

class Server {
 public:
  explicit Server(const Library& library) : library_(library) {
    library_.first_op();
    reset_peak();
    start_bytes_ = process_bytes("VmRSS");
  }

  // The answer to one command.
  std::string answer(const std::string& line) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    std::ostringstream out;
    out.precision(12);
    if (command == "load") {
      std::string name;
      std::string form;
      in >> name >> form;
      load(name, form);
      out << "ok " << workload_->period() << ' ' << workload_->ops() << ' '
          << workload_->check_steps() << ' ' << workload_->trains() << ' ' << workload_->uneven();
    } else if (command == "check") {
      out << "ok " << check(number(in));
    } else if (command == "time") {
      const int64_t first = number(in);
      out << "ok " << time(first, number(in));
    } else if (command == "memory") {
      const int64_t resident = process_bytes("VmHWM");
      out << "ok " << resident - start_bytes_ << ' ' << resident;
    } else if (command == "allocations") {
      const int64_t steps = number(in);
      const auto before = library_.allocations();
      run(0, steps);
      const auto after = library_.allocations();
      out << "ok " << after[0] - before[0] << ' ' << after[1] - before[1];
    } else if (command == "unload") {
      out << "ok";
    } else {
      throw std::runtime_error("unknown command '" + command + "'");
    }
    return out.str();
  }

 private:
  static int64_t number(std::istringstream& in) {
    int64_t n = 0;
    if (!(in >> n)) throw std::runtime_error("a number is missing");
    return n;
  }

  void load(const std::string& name, const std::string& form) {
    if (workload_) throw std::runtime_error("a worker loads one workload only");
    for (const Entry& e : library_.entries) {
      if (e.name == name && e.form == form) {
        workload_ = e.make();
        return;
      }
    }
    throw std::runtime_error("there is no workload " + name + " in form " + form);
  }

  Workload& workload() {
    if (!workload_) throw std::runtime_error("no workload is loaded");
    return *workload_;
  }

  void run(int64_t first, int64_t steps) {
    Workload& w = workload();
    for (int64_t i = first; i < first + steps; ++i) {
      w.step(i % w.period());
      w.between();
    }
  }

  std::string check(int64_t steps) {
    Workload& w = workload();
    std::ostringstream out;
    out.precision(12);
    for (int64_t i = 0; i <= steps; ++i) {
      // Sample 0 comes first and last.
      w.step(i == steps ? 0 : i % w.period());
      if (i == 0) out << w.loss() << ' ';
      if (i == steps) out << w.loss();
      w.between();
    }
    return out.str();
  }

  double time(int64_t first, int64_t steps) {
    Workload& w = workload();
    if (!w.pauses()) {
      const auto start = Clock::now();
      run(first, steps);
      return microseconds(Clock::now() - start);
    }
    Clock::duration sum{};
    for (int64_t i = first; i < first + steps; ++i) {
      const auto start = Clock::now();
      w.step(i % w.period());
      sum += Clock::now() - start;
      w.between();
    }
    return microseconds(sum);
  }

  const Library& library_;
  std::unique_ptr<Workload> workload_;
  int64_t start_bytes_ = 0;
};

// Writes what `work` gives, or the error that it ends in.
template <class F>
void answer(const std::string& line, F&& work) {
  std::string text;
  try {
    text = work();
  } catch (const std::exception& e) {
    text = e.what();
    for (char& c : text) {
      if (c == '\n') c = ' ';
    }
    text = "error " + line + ": " + text;
  }
  std::cout << text << std::endl;
}

std::string list(const Library& library) {
  std::string text;
  for (const Entry& e : library.entries) text += e.name + ' ' + e.form + '\n';
  return text + "end";
}

// From the command that loads the workload to the one that unloads it, or the end of the input.
void serve_workload(const Library& library, std::string line) {
  Server server(library);
  do {
    answer(line, [&] { return server.answer(line); });
  } while (line != "unload" && std::getline(std::cin, line));
}

}  // namespace

const Options& options() { return g_options; }

int serve(int argc, char** argv, const std::function<Library()>& make_library) {
  bool forks = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--ud" && i + 1 < argc) {
      g_options.ud = argv[++i];
    } else if (argument == "--avx2") {
      g_options.avx2 = true;
    } else if (argument == "--fork") {
      forks = true;
    } else {
      std::cerr << "usage: " << argv[0] << " [--ud DIR] [--avx2] [--fork]\n";
      return 2;
    }
  }
  try {
    const Library library = make_library();
    std::string line;
    while (std::getline(std::cin, line)) {
      if (line.rfind("load ", 0) != 0) {
        answer(line, [&] { return list(library); });
      } else if (!forks) {
        serve_workload(library, line);
        return 0;
      } else if (const pid_t child = fork(); child == 0) {
        // It has the driver's ear until it ends: nobody else reads meanwhile.
        serve_workload(library, line);
        _exit(0);
      } else {
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
          std::cout << "error the worker has died" << std::endl;
        }
      }
    }
    return 0;
  } catch (const std::exception& e) {
    std::cerr << argv[0] << ": " << e.what() << '\n';
    return 1;
  }
}

}  // namespace bench
