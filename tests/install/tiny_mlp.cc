// SPDX-License-Identifier: Apache-2.0
// A whole training program, to see what Ebb costs its user: time to compile, size of the binary.
#include <ebb/ebb.h>

#include <cstdio>

struct Net : ebb::nn::Module {
  ebb::nn::Linear hidden{*this, "hidden", 2, 16};
  ebb::nn::Linear out{*this, "out", 16, 2};
  ebb::Tensor operator()(const ebb::Tensor& x) { return out(tanh(hidden(x))); }
};

int main() {
  ebb::manual_seed(1);
  Net net;
  ebb::optim::SGD sgd(net.parameters(), {.lr = 0.01, .momentum = 0.9});
  int right = 0;
  constexpr int kSteps = 4000;
  for (int step = 0; step < kSteps; ++step) {
    const ebb::Tensor x = 2.0 * ebb::rand({2}) - 1.0;
    const int64_t label = x[0].item() * x[1].item() > 0;  // exclusive or of the signs
    const ebb::Tensor y = net(x);
    right += step >= kSteps / 2 && (y[1].item() > y[0].item()) == (label == 1);
    const ebb::Tensor loss = cross_entropy(y, label);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  }
  const double accuracy = 2.0 * right / kSteps;
  std::printf("accuracy %.3f\n", accuracy);
  return accuracy > 0.9 ? 0 : 1;
}
