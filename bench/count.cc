// SPDX-License-Identifier: Apache-2.0
// A program to count the instructions of, under valgrind --tool=callgrind
// --toggle-collect=measured; see cost.cc. Every kind of run first builds, plays back and frees a
// tape of the same length, so that memory is warm, and then calls measured(), whose instructions
// are those that count.
//
//   bench_count add|mul|tanh FLOATS OPS recorded|whole
//
// recorded  the tape again, kept until the process ends
// whole     the tape again, played back and freed
#include <ebb/ebb.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

extern "C" void measured();

namespace {

using ebb::Tensor;

// What measured() does.
std::function<void()> work;

template <class Op>
int run(int64_t floats, int64_t ops, const std::string& kind, Op op) {
  const Tensor x = ebb::variable(ebb::full({floats}, 0.5));
  const Tensor w = ebb::variable(ebb::full({floats}, 1.0));
  const Tensor g = ebb::ones({floats});
  Tensor y;
  const auto record = [&] {
    y = op(x, w);
    for (int64_t i = 1; i < ops; ++i) y = op(y, w);
  };
  const auto whole = [&] {
    record();
    y.backward(g);
    y = Tensor();
    x.zero_grad();
    w.zero_grad();
  };
  whole();
  if (kind == "recorded") {
    work = record;
  } else {
    work = whole;
  }
  measured();
  std::_Exit(0);  // nothing more is freed
}

}  // namespace

extern "C" [[gnu::noinline]] void measured() { work(); }

int main(int argc, char** argv) {
  const std::string op = argc == 5 ? argv[1] : "";
  if (argc == 5) {
    const int64_t floats = std::atoll(argv[2]);
    const int64_t ops = std::atoll(argv[3]);
    const std::string kind = argv[4];
    if (op == "add") return run(floats, ops, kind, [](auto& x, auto& w) { return add(x, w); });
    if (op == "mul") return run(floats, ops, kind, [](auto& x, auto& w) { return mul(x, w); });
    if (op == "tanh") return run(floats, ops, kind, [](auto& x, auto&) { return tanh(x); });
  }
  std::cerr << "usage: bench_count add|mul|tanh FLOATS OPS recorded|whole\n";
  return 2;
}
