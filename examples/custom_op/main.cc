// SPDX-License-Identifier: Apache-2.0
// Checks the op of swish.h with one call, then trains with it: a network of 16 swish units learns
// sin(x) on [-3, 3], and the slope b along with its weights.
#include <ebb/autograd/testing.h>
#include <ebb/ebb.h>

#include <cmath>
#include <cstdio>

#include "swish.h"

struct Net : ebb::nn::Module {
  ebb::nn::Linear in{*this, "in", 1, 16};
  ebb::nn::Linear out{*this, "out", 16, 1};
  ebb::Parameter slope = register_parameter("slope", ebb::full({}, 1.0));
  ebb::Tensor operator()(const ebb::Tensor& x) { return out(swish(in(x), slope)); }
};

int main() {
  // Values, first- and second-order gradients, the fused form, float32, strided inputs.
  ebb::testing::check_op<Swish>({ebb::testing::normal({3, 4}), ebb::testing::scalar(1.5)});
  std::puts("swish: all checks passed");

  ebb::manual_seed(1);
  Net net;
  ebb::optim::Adam adam(net.parameters(), {.lr = 0.01});
  double error = 0;
  constexpr int kSteps = 4000;
  constexpr int kLast = 500;  // over which the error is reported
  for (int step = 0; step < kSteps; ++step) {
    const ebb::Tensor x = 6.0 * ebb::rand({1}) - 3.0;
    const ebb::Tensor loss = square(net(x)[0] - std::sin(x.item()));
    adam.zero_grad();
    loss.backward();
    adam.step();
    if (step >= kSteps - kLast) error += loss.item() / kLast;
  }
  const double slope = net.slope.tensor().item();
  std::printf("result: {\"mean_squared_error\": %.6f, \"slope\": %.3f}\n", error, slope);
  return error < 0.01 ? 0 : 1;
}
