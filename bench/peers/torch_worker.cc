// SPDX-License-Identifier: Apache-2.0
// The workloads in LibTorch; see worker.h for how the driver asks for them.
#include <malloc.h>

#include <iterator>
#include <stdexcept>
#include <string>

#include "../specs.h"
#include "torch_workloads.h"

namespace bench {

std::vector<Style> styles() {
  return {{Gradients::kFresh, true},
          {Gradients::kKept, true},
          {Gradients::kFresh, false},
          {Gradients::kKept, false}};
}

void Style::apply() const { at::globalContext().setUserEnabledMkldnn(onednn); }

Tensor from_vector(const std::vector<float>& v, const std::vector<int64_t>& shape) {
  return torch::from_blob(const_cast<float*>(v.data()), shape, torch::kFloat32).clone();
}

Tensor from_vector(const std::vector<float>& v) {
  return from_vector(v, {static_cast<int64_t>(v.size())});
}

Tensor values(const std::string& name, const std::vector<int64_t>& shape) {
  return from_vector(parameter(name, shape), shape);
}

Tensor trained(const Tensor& value) { return value.clone().requires_grad_(true); }

Tensor trained(const std::string& name, const std::vector<int64_t>& shape) {
  return values(name, shape).requires_grad_(true);
}

void fill(const std::string& prefix, torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& p : module.named_parameters()) {
    std::string name = p.key();
    const size_t layer = name.find("_l0");
    if (layer != std::string::npos) name.erase(layer, 3);
    p.value().copy_(values(prefix + "." + name, p.value().sizes().vec()));
  }
}

void Sgd::step() {
  const torch::NoGradGuard no_grad;
  step(parameters_, rate_);
  step(doubled_, 2 * rate_);
}

void Sgd::step(std::vector<Tensor>& parameters, double rate) const {
  for (Tensor& p : parameters) {
    Tensor& g = p.mutable_grad();
    if (!g.defined()) continue;
    p.add_(g, -rate);
    if (gradients_ == Gradients::kKept && !g.is_sparse()) {
      g.zero_();
    } else {
      g.reset();
    }
  }
}

namespace {

// That the environment has the effect for which the driver sets it.
void require_avx2() {
  const std::string config = at::show_config();
  if (config.find("CPU capability usage: AVX2") != std::string::npos) return;
  throw std::runtime_error("asked for AVX2, and LibTorch says: " + config);
}

Library library() {
  if (options().avx2) require_avx2();
  // Large gradients come from and go back to the heap rather than the system, as with the
  // allocators that PyTorch's tuning guide recommends: fresh pages would be cleared every time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  mallopt(M_TOP_PAD, 64 << 20);
  torch::set_num_threads(1);
  at::set_num_interop_threads(1);
  Library l;
  for (auto* family : {&micro_workloads, &kernel_workloads, &model_workloads, &recurrent_workloads,
                       &tagger_workloads}) {
    std::vector<Entry> entries = family();
    std::move(entries.begin(), entries.end(), std::back_inserter(l.entries));
  }
  l.first_op = [] {
    const Tensor x = torch::ones({2}).requires_grad_(true);
    (x * x).sum().backward();
  };
  l.allocations = [] { return std::array<int64_t, 2>{0, 0}; };
  return l;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::serve(argc, argv, bench::library); }
