// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "../worker.h"

namespace bench {

using torch::Tensor;

std::vector<Entry> micro_workloads();
std::vector<Entry> kernel_workloads();
std::vector<Entry> model_workloads();
std::vector<Entry> recurrent_workloads();
std::vector<Entry> tagger_workloads();

/// What becomes of gradients after a step.
enum class Gradients {
  kFresh,  ///< dropped: the next playback gives a new one, which is taken over without a copy
  kKept,   ///< set to zero: the next playback adds to it; no memory is asked for
};

/// Choices that any training loop has.
struct Style {
  Gradients gradients = Gradients::kFresh;
  bool onednn = true;
  std::string name() const {
    return std::string(gradients == Gradients::kFresh ? "fresh" : "kept") +
           (onednn ? "" : ",no-onednn");
  }
  /// Sets what holds for the process.
  void apply() const;
};
/// All of them.
std::vector<Style> styles();

/// The numbers of parameter() as a tensor without gradient.
Tensor values(const std::string& name, const std::vector<int64_t>& shape);
/// The same as a leaf that is trained.
Tensor trained(const std::string& name, const std::vector<int64_t>& shape);
Tensor trained(const Tensor& value);
Tensor from_vector(const std::vector<float>& v, const std::vector<int64_t>& shape);
Tensor from_vector(const std::vector<float>& v);

/// Gives all parameters of a module the values of parameter(), by "prefix.name".
void fill(const std::string& prefix, torch::nn::Module& module);

/// w -= rate * gradient, in place, without what torch::optim::SGD does beside that. `doubled` are
/// parameters that stand for the sum of two, and so move twice as far.
class Sgd {
 public:
  Sgd(std::vector<Tensor> parameters, double rate, Gradients gradients,
      std::vector<Tensor> doubled = {})
      : parameters_(std::move(parameters)),
        doubled_(std::move(doubled)),
        rate_(rate),
        gradients_(gradients) {}
  void step();

 private:
  void step(std::vector<Tensor>& parameters, double rate) const;

  std::vector<Tensor> parameters_;
  std::vector<Tensor> doubled_;
  double rate_;
  Gradients gradients_;
};

/// What all models share: the loss of the last step.
class Model : public Workload {
 public:
  double loss() override { return loss_; }

 protected:
  void learn(const Tensor& loss, Sgd& sgd) {
    loss.backward();
    sgd.step();
    loss_ = loss.item<float>();
  }
  double loss_ = 0;
};

/// The weights of an LSTM that is spelt by hand, its gates in the order i, f, o, g, so that three
/// of them go through one sigmoid; one bias in the place of two.
struct Gates {
  Gates(const std::string& name, const std::string& suffix, int64_t in, int64_t hidden_size,
        bool joined);
  /// The state after the gates' sums, [4*hidden] or [1,4*hidden]; they are overwritten where they
  /// are the cell's `own`.
  void advance(const Tensor& sums, Tensor& h, Tensor& c, bool own) const;
  void list(std::vector<Tensor>& out) const;

  int64_t hidden;
  Tensor w;     ///< [4*hidden,in], or with [..,in+hidden] where joined
  Tensor u;     ///< [4*hidden,hidden], undefined where joined
  Tensor bias;  ///< to be doubled
};

/// The workload `name` written as W(style, args...), in every style.
template <class W, class... A>
void add_entries(std::vector<Entry>& out, const std::string& name, const std::string& form,
                 A... args) {
  for (const Style& style : styles()) {
    const auto make = [style, args...]() -> std::unique_ptr<Workload> {
      style.apply();
      return std::make_unique<W>(style, args...);
    };
    out.push_back({name, form + "," + style.name(), make});
  }
}

}  // namespace bench
