// SPDX-License-Identifier: Apache-2.0
// The convolution kernels; see worker.h for how the driver asks for them.
#include <hwy/targets.h>

#include <stdexcept>
#include <string>

#include "conv_layers.h"
#include "ebb/core/memory.h"
#include "ebb/ops/kernels/conv.h"
#include "worker.h"

namespace bench {
namespace {

namespace k = ebb::kernels;

// 64-byte aligned, as Ebb's arrays are.
class Floats {
 public:
  explicit Floats(size_t n) : lines_((n + kLine - 1) / kLine) {}
  explicit Floats(const std::vector<float>& v) : Floats(v.size()) {
    std::copy(v.begin(), v.end(), data());
  }
  float* data() { return lines_.front().x; }

 private:
  static constexpr size_t kLine = 16;
  struct alignas(64) Line {
    float x[kLine] = {};
  };
  std::vector<Line> lines_;
};

class Conv : public conv::ConvWorkload {
 public:
  Conv(const conv::Layer& layer, conv::Pass pass, bool written)
      : ConvWorkload(layer, written),
        pass_(pass),
        x_(x()),
        w_(w()),
        dy_(dy()),
        size_(pass == conv::Pass::kForward     ? layer.y_size()
              : pass == conv::Pass::kGradInput ? layer.x_size()
                                               : layer.w_size()),
        result_(static_cast<size_t>(size_)) {
    shape_ = {layer.dims, 1, layer.in_channels, layer.out_channels, layer.groups, {}, {}, {}, {},
              {},         {}};
    for (int d = 0; d < layer.dims; ++d) {
      shape_.in[d] = layer.in[d];
      shape_.kernel[d] = layer.kernel[d];
      shape_.stride[d] = layer.stride[d];
      shape_.dilation[d] = 1;
      shape_.pad[d] = layer.pad[d];
      shape_.out[d] = layer.out(d);
    }
  }

 private:
  void run() override {
    float* to = result_.data();
    switch (pass_) {
      case conv::Pass::kForward:
        return k::conv_forward(shape_, x_.data(), w_.data(), nullptr, to);
      case conv::Pass::kGradInput:
        return k::conv_grad_input(shape_, dy_.data(), w_.data(), to);
      case conv::Pass::kGradWeight:
        return k::conv_grad_weight(shape_, x_.data(), dy_.data(), to);
    }
  }
  std::vector<float> result() override { return {result_.data(), result_.data() + size_}; }
  void write() override { turn(w_.data(), layer_.w_size()); }

  conv::Pass pass_;
  k::ConvShape shape_;
  Floats x_, w_, dy_;
  int64_t size_;
  Floats result_;
};

// Before the first kernel chooses. Better targets are lower bits.
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
  conv::add_entries(l.entries, "-", [](const conv::Layer& layer, conv::Pass pass, bool written) {
    return std::make_unique<Conv>(layer, pass, written);
  });
  l.first_op = [] {};
  l.allocations = [] { return std::array<int64_t, 2>{ebb::memory_stats().heap_allocations, 0}; };
  return l;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::serve(argc, argv, bench::library); }
