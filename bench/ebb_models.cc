// SPDX-License-Identifier: Apache-2.0
// Training steps of models without recurrence, written as a user of Ebb would.
#include <ebb/ebb.h>

#include "ebb_workloads.h"
#include "specs.h"

namespace bench {
namespace {

using ebb::Tensor;

std::vector<Tensor> tensors(const std::vector<std::vector<float>>& vectors) {
  std::vector<Tensor> out;
  for (const std::vector<float>& v : vectors) out.push_back(ebb::from_vector(v));
  return out;
}

class Mlp : public Model {
 public:
  Mlp() {
    fill("mlp", net_);
    for (const mlp::Sample& s : mlp::samples()) {
      samples_.push_back({ebb::from_vector(s.image), s.label});
    }
  }
  void step(int64_t i) override {
    const auto& [image, label] = samples_[static_cast<size_t>(i)];
    const Tensor loss = cross_entropy(net_(image), label);
    learn(loss, sgd_);
  }
  int64_t period() const override { return mlp::kSamples; }

 private:
  struct Net : ebb::nn::Module {
    ebb::nn::Linear fc1{*this, "fc1", mlp::kIn, mlp::kHidden1};
    ebb::nn::Linear fc2{*this, "fc2", mlp::kHidden1, mlp::kHidden2};
    ebb::nn::Linear fc3{*this, "fc3", mlp::kHidden2, mlp::kClasses};
    Tensor operator()(const Tensor& x) { return fc3(relu(fc2(relu(fc1(x))))); }
  };
  Net net_;
  ebb::optim::SGD sgd_{net_.parameters(), {.lr = mlp::kRate}};
  std::vector<std::pair<Tensor, int64_t>> samples_;
};

class LeNet : public Model {
 public:
  LeNet() {
    fill("lenet", net_);
    for (const mlp::Sample& s : mlp::samples()) {
      samples_.push_back({ebb::from_vector(s.image, {1, lenet::kSide, lenet::kSide}), s.label});
    }
  }
  void step(int64_t i) override {
    const auto& [image, label] = samples_[static_cast<size_t>(i)];
    const Tensor loss = cross_entropy(net_(image), label);
    learn(loss, sgd_);
  }
  int64_t period() const override { return mlp::kSamples; }

 private:
  struct Net : ebb::nn::Module {
    ebb::nn::Conv2d conv1{*this, "conv1", 1, lenet::kConv1, lenet::kKernel};
    ebb::nn::Conv2d conv2{*this, "conv2", lenet::kConv1, lenet::kConv2, lenet::kKernel};
    ebb::nn::Linear fc1{*this, "fc1", lenet::kFlat, lenet::kHidden1};
    ebb::nn::Linear fc2{*this, "fc2", lenet::kHidden1, lenet::kHidden2};
    ebb::nn::Linear fc3{*this, "fc3", lenet::kHidden2, mlp::kClasses};
    Tensor operator()(const Tensor& x) {
      const Tensor y = max_pool2d(relu(conv1(x)), 2);
      const Tensor z = max_pool2d(relu(conv2(y)), 2).flatten();
      return fc3(relu(fc2(relu(fc1(z)))));
    }
  };
  Net net_;
  ebb::optim::SGD sgd_{net_.parameters(), {.lr = lenet::kRate}};
  std::vector<std::pair<Tensor, int64_t>> samples_;
};

class Ista : public Model {
 public:
  Ista() : samples_(tensors(ista::samples())) {}
  void step(int64_t i) override {
    const Tensor& y = samples_[static_cast<size_t>(i)];
    Tensor z = ebb::zeros({ista::kAtoms});
    for (int k = 0; k < ista::kIterations; ++k) {
      const Tensor gradient = mv(w_->t(), mv(w_, z) - y);
      z = softshrink(z - ista::kStep * gradient, ista::kStep * ista::kLambda);
    }
    const Tensor loss = 0.5 * square(mv(w_, z) - y).sum() + ista::kLambda * abs(z).sum();
    learn(loss, sgd_);
  }
  int64_t period() const override { return ista::kSamples; }

 private:
  ebb::Parameter w_{ebb::from_vector(ista::dictionary(), {ista::kPixels, ista::kAtoms})};
  ebb::optim::SGD sgd_{{w_}, {.lr = ista::kRate}};
  std::vector<Tensor> samples_;
};

class LatentInference : public Model {
 public:
  LatentInference() : samples_(tensors(latent::samples())) { fill("latent", decoder_); }
  void step(int64_t i) override {
    const Tensor& y = samples_[static_cast<size_t>(i)];
    Tensor z = ebb::zeros({latent::kCode});
    for (int k = 0; k < latent::kInferenceSteps; ++k) {
      const Tensor v = ebb::variable(z);
      z = z - latent::kInferenceRate * grad(energy(y, v), v);
    }
    const Tensor loss = energy(y, z);
    learn(loss, sgd_);
  }
  int64_t period() const override { return latent::kSamples; }

 private:
  struct Decoder : ebb::nn::Module {
    ebb::nn::Linear fc1{*this, "fc1", latent::kCode, latent::kHidden};
    ebb::nn::Linear fc2{*this, "fc2", latent::kHidden, latent::kOut};
    Tensor operator()(const Tensor& z) { return fc2(tanh(fc1(z))); }
  };
  Tensor energy(const Tensor& y, const Tensor& z) {
    return square(y - decoder_(z)).sum() + latent::kSparsity * abs(z).sum();
  }

  Decoder decoder_;
  ebb::optim::SGD sgd_{decoder_.parameters(), {.lr = latent::kRate}};
  std::vector<Tensor> samples_;
};

class GradientPenalty : public Model {
 public:
  GradientPenalty() : samples_(tensors(penalty::samples())) { fill("penalty", net_); }
  void step(int64_t i) override {
    const Tensor x = ebb::variable(samples_[static_cast<size_t>(i)]);
    const Tensor g = grad(net_(x).sum(), x, {.create_graph = true});
    const Tensor loss = square(g).sum();
    learn(loss, sgd_);
  }
  int64_t period() const override { return penalty::kSamples; }

 private:
  struct Energy : ebb::nn::Module {
    ebb::nn::Linear fc1{*this, "fc1", penalty::kIn, penalty::kHidden};
    ebb::nn::Linear fc2{*this, "fc2", penalty::kHidden, penalty::kHidden};
    ebb::nn::Linear fc3{*this, "fc3", penalty::kHidden, 1};
    Tensor operator()(const Tensor& x) { return fc3(tanh(fc2(tanh(fc1(x))))); }
  };
  Energy net_;
  ebb::optim::SGD sgd_{net_.parameters(), {.lr = penalty::kRate}};
  std::vector<Tensor> samples_;
};

class TransformerBlock : public Model {
 public:
  TransformerBlock() {
    using namespace transformer;
    fill("transformer", block_);
    for (const Sample& s : samples()) {
      samples_.push_back({ebb::from_vector(s.x, {kLength, kWidth}),
                          ebb::from_vector(s.target, {kLength, kWidth})});
    }
  }
  void step(int64_t i) override {
    const auto& [x, target] = samples_[static_cast<size_t>(i)];
    const Tensor loss = mse_loss(block_(x), target);
    learn(loss, sgd_);
  }
  int64_t period() const override { return transformer::kSamples; }

 private:
  ebb::nn::TransformerEncoderLayer block_{transformer::kWidth,
                                          transformer::kHeads,
                                          {.dim_feedforward = transformer::kFeedForward,
                                           .dropout = 0,
                                           .layer_norm_eps = transformer::kEps,
                                           .norm_first = true}};
  ebb::optim::SGD sgd_{block_.parameters(), {.lr = transformer::kRate}};
  std::vector<std::pair<Tensor, Tensor>> samples_;
};

}  // namespace

std::vector<Entry> model_workloads() {
  return {entry<Mlp>("mlp"),
          entry<LeNet>("lenet"),
          entry<Ista>("ista"),
          entry<LatentInference>("latent_inference"),
          entry<GradientPenalty>("gradient_penalty"),
          entry<TransformerBlock>("transformer_block")};
}

}  // namespace bench
