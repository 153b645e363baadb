// SPDX-License-Identifier: Apache-2.0
// The workloads in Ebb; see worker.h for how the driver asks for them.
#include <ebb/ebb.h>

#include <hwy/targets.h>

#include <cstdlib>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>

#include "ebb_workloads.h"
#include "specs.h"

namespace {

// Calls of operator new in this program, the library's and the standard library's included.
int64_t g_news = 0;

}  // namespace

void* operator new(size_t n) {
  ++g_news;
  if (void* p = std::malloc(n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace bench {

ebb::Tensor values(const std::string& name, const ebb::Shape& shape) {
  return ebb::from_vector(parameter(name, {shape.begin(), shape.end()}), shape);
}

void fill(const std::string& prefix, const ebb::nn::Module& module) {
  for (const auto& [name, p] : module.named_parameters()) {
    std::string plain = prefix + "." + name;
    if (const size_t layer = plain.find("_l0"); layer != std::string::npos) plain.erase(layer, 3);
    p.copy_from(values(plain, p.shape()));
  }
}

namespace {

// Before the first kernel chooses. Better targets are lower bits. (DisableTargets does not last.)
void limit_to_avx2() {
  hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~(HWY_AVX2 - 1));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  const int64_t best = hwy::SupportedTargets() & -hwy::SupportedTargets();
  if (best != HWY_AVX2) {
    throw std::runtime_error(std::string("asked for AVX2, and got ") + hwy::TargetName(best));
  }
}

Library library() {
  if (options().avx2) limit_to_avx2();
  Library l;
  for (auto* family :
       {&micro_workloads, &kernel_workloads, &model_workloads, &recurrent_workloads}) {
    std::vector<Entry> entries = family();
    std::move(entries.begin(), entries.end(), std::back_inserter(l.entries));
  }
  l.first_op = [] {
    const ebb::Tensor x = ebb::variable(ebb::ones({2}));
    (x * x).sum().backward();
  };
  l.allocations = [] {
    return std::array<int64_t, 2>{ebb::memory_stats().heap_allocations, g_news};
  };
  return l;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::serve(argc, argv, bench::library); }
