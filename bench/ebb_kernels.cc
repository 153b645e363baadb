// SPDX-License-Identifier: Apache-2.0
// Kernels alone, on memory that exists: nothing is allocated, nothing recorded.
#include <ebb/ebb.h>

#include <cmath>
#include <functional>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb_workloads.h"
#include "specs.h"

namespace bench {
namespace {

namespace k = ebb::kernels;

constexpr int64_t kRepeats = 100;  // of a kernel in a step

// Three operands, and what is done to them.
class Kernel : public Workload {
 public:
  using Function = std::function<void(const float* a, const float* b, float* c)>;
  Kernel(int64_t a, int64_t b, int64_t c, Function f)
      : a_(values("kernel.a", {a})),
        b_(values("kernel.b", {b})),
        c_(ebb::zeros({c})),
        f_(std::move(f)) {
    // Within the domain of all functions, log's included.
    a_ = a_ * std::sqrt(static_cast<double>(a)) + 1.5;
  }
  void step(int64_t) override {
    for (int64_t i = 0; i < kRepeats; ++i) f_(a_.data<float>(), b_.data<float>(), out());
  }
  double loss() override { return c_.sum().item(); }
  int64_t ops() const override { return kRepeats; }
  int64_t check_steps() const override { return 1; }
  bool trains() const override { return false; }

 private:
  float* out() { return const_cast<float*>(c_.data<float>()); }

  ebb::Tensor a_;
  ebb::Tensor b_;
  ebb::Tensor c_;
  Function f_;
};

}  // namespace

std::vector<Entry> kernel_workloads() {
  std::vector<Entry> out;
  for (const int64_t n : kernel::kProductSizes) {
    out.push_back(entry<Kernel>(with_size("kernel.mm", n), n * n, n * n, n * n,
                                [n](const float* a, const float* b, float* c) {
                                  k::gemm(false, false, n, n, n, 1.0F, a, n, b, n, 0.0F, c, n);
                                }));
  }
  for (const int64_t n : kernel::kVectorSizes) {
    out.push_back(entry<Kernel>(with_size("kernel.mv", n), n * n, n, n,
                                [n](const float* a, const float* b, float* c) {
                                  k::gemv(false, n, n, 1.0F, a, n, b, 0.0F, c);
                                }));
    out.push_back(entry<Kernel>(with_size("kernel.mv_t", n), n * n, n, n,
                                [n](const float* a, const float* b, float* c) {
                                  k::gemv(true, n, n, 1.0F, a, n, b, 0.0F, c);
                                }));
    out.push_back(entry<Kernel>(
        with_size("kernel.ger", n), n, n, n * n,
        [n](const float* a, const float* b, float* c) { k::ger(n, n, 1e-3F, a, b, c, n); }));
  }
  const std::pair<const char*, k::Unary> functions[] = {{"exp", k::Unary::kExp},
                                                        {"log", k::Unary::kLog},
                                                        {"tanh", k::Unary::kTanh},
                                                        {"sigmoid", k::Unary::kSigmoid},
                                                        {"erf", k::Unary::kErf}};
  for (const auto& [name, function] : functions) {
    for (const int64_t n : kernel::kFunctionSizes) {
      out.push_back(entry<Kernel>(with_size(std::string("kernel.") + name, n), n, 1, n,
                                  [n, f = function](const float* a, const float*, float* c) {
                                    k::unary_kernels(f).forward32(a, c, static_cast<size_t>(n), {});
                                  }));
    }
  }
  for (const int64_t n : kernel::kSoftmaxSizes) {
    out.push_back(entry<Kernel>(with_size("kernel.softmax", n), n, 1, n,
                                [n](const float* a, const float*, float* c) {
                                  k::softmax_row(a, c, static_cast<size_t>(n));
                                }));
  }
  return out;
}

}  // namespace bench
