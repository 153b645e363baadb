// SPDX-License-Identifier: Apache-2.0
// A model trained one sample at a time, as a user would write it.
#include <gtest/gtest.h>

#include <filesystem>

#include "ebb/ebb.h"

namespace {

struct Net : ebb::nn::Module {
  ebb::nn::Linear hidden{*this, "hidden", 784, 128};
  ebb::nn::Linear out{*this, "out", 128, 10};
  ebb::Tensor operator()(const ebb::Tensor& x) { return out(relu(hidden(x))); }
};

TEST(Api, AModelOneSampleAtATime) {
  ebb::manual_seed(1);
  Net net;
  ebb::optim::SGD sgd(net.parameters(), {.lr = 0.001, .momentum = 0.9});
  auto images = ebb::data::idx(EBB_EXAMPLE_DATA_DIR, ebb::data::Split::kTrain);
  for (const auto& [image, label] : ebb::train::progress(images.shuffled())) {
    ebb::Tensor loss = cross_entropy(net(image.flatten()), label);
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  }
  const std::string path =
      (std::filesystem::path(::testing::TempDir()) / "ebb_api_net.safetensors").string();
  ebb::io::save(net, path);

  Net copy;
  ebb::io::load(copy, path);
  std::filesystem::remove(path);
  int right = 0;
  for (const auto& [image, label] : ebb::data::idx(EBB_EXAMPLE_DATA_DIR, ebb::data::Split::kTest)) {
    right += argmax(copy(image.flatten())).item<int64_t>() == label;
  }
  EXPECT_GT(right, 350) << "of 500";  // chance is 50
}

}  // namespace
