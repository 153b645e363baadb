// SPDX-License-Identifier: Apache-2.0
#include "child.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace bench {
namespace {

struct Pipe {
  int read = -1;
  int write = -1;
};

Pipe make_pipe() {
  int ends[2];
  // Closed on exec: a worker must not hold the ends of another one.
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  return {ends[0], ends[1]};
}

// Starts a program; its standard output, and error if asked, goes to `out`.
pid_t start(const std::vector<std::string>& command, const Pipe& in, const Pipe& out,
            bool with_error) {
  std::vector<char*> arguments;
  for (const std::string& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    dup2(in.read, STDIN_FILENO);
    dup2(out.write, STDOUT_FILENO);
    if (with_error) dup2(out.write, STDERR_FILENO);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(in.read);
  close(out.write);
  return pid;
}

bool read_line(FILE* from, std::string& line) {
  line.clear();
  for (int c = std::fgetc(from); c != EOF; c = std::fgetc(from)) {
    if (c == '\n') return true;
    line += static_cast<char>(c);
  }
  return false;
}

}  // namespace

Child::Child(const std::vector<std::string>& command) : name_(command.at(0)) {
  std::signal(SIGPIPE, SIG_IGN);  // a dead worker is an error when it is read from
  const Pipe in = make_pipe();
  const Pipe out = make_pipe();
  pid_ = start(command, in, out, false);
  to_ = fdopen(in.write, "w");
  from_ = fdopen(out.read, "r");
}

Child::~Child() {
  std::fclose(to_);
  std::fclose(from_);
  waitpid(pid_, nullptr, 0);
}

void Child::send(const std::string& line) {
  std::fputs((line + "\n").c_str(), to_);
  std::fflush(to_);
}

std::string Child::receive() {
  std::string line;
  if (!read_line(from_, line)) throw std::runtime_error(name_ + " has died");
  if (line.rfind("error ", 0) == 0) throw std::runtime_error(line.substr(6));
  return line;
}

std::vector<double> Child::ask(const std::string& command) {
  send(command);
  std::istringstream in(receive());
  std::string ok;
  in >> ok;
  if (ok != "ok") throw std::runtime_error(name_ + " gave no answer to '" + command + "'");
  std::vector<double> numbers;
  // By strtod, for a loss may be "nan".
  for (std::string word; in >> word;) numbers.push_back(std::strtod(word.c_str(), nullptr));
  return numbers;
}

std::vector<std::string> Child::ask_list(const std::string& command) {
  send(command);
  std::vector<std::string> lines;
  for (std::string line = receive(); line != "end"; line = receive()) lines.push_back(line);
  return lines;
}

std::string run_to_end(const std::vector<std::string>& command) {
  const Pipe in = make_pipe();
  const Pipe out = make_pipe();
  const pid_t pid = start(command, in, out, true);
  close(in.write);
  std::string text;
  FILE* from = fdopen(out.read, "r");
  for (int c = std::fgetc(from); c != EOF; c = std::fgetc(from)) text += static_cast<char>(c);
  std::fclose(from);
  int status = 0;
  waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw std::runtime_error(command.at(0) + " failed: " + text);
  }
  return text;
}

}  // namespace bench
