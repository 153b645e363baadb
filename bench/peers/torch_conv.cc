// SPDX-License-Identifier: Apache-2.0
// The convolutions of conv_layers.h in LibTorch: the functions that its layers and its autograd
// call, with oneDNN behind them or without, and with channels first or last.
#include <malloc.h>
#include <torch/torch.h>

#include <cstdlib>
#include <string>
#include <tuple>

#include "../conv_layers.h"
#include "../worker.h"

namespace bench {
namespace {

using torch::Tensor;

class Conv : public conv::ConvWorkload {
 public:
  Conv(const conv::Layer& layer, conv::Pass pass, bool written, bool onednn, bool channels_last)
      : ConvWorkload(layer, written), pass_(pass) {
    at::globalContext().setUserEnabledMkldnn(onednn);
    std::vector<int64_t> x_shape = {1, layer.in_channels};
    std::vector<int64_t> w_shape = {layer.out_channels, layer.in_channels / layer.groups};
    std::vector<int64_t> y_shape = {1, layer.out_channels};
    for (int d = 0; d < layer.dims; ++d) {
      x_shape.push_back(layer.in[d]);
      w_shape.push_back(layer.kernel[d]);
      y_shape.push_back(layer.out(d));
      stride_.push_back(layer.stride[d]);
      pad_.push_back(layer.pad[d]);
      dilation_.push_back(1);
    }
    const auto tensor = [&](const std::vector<float>& v, const std::vector<int64_t>& shape) {
      const Tensor t =
          torch::from_blob(const_cast<float*>(v.data()), shape, torch::kFloat32).clone();
      if (!channels_last) return t;
      return t.contiguous(layer.dims == 3 ? at::MemoryFormat::ChannelsLast3d
                                          : at::MemoryFormat::ChannelsLast);
    };
    x_ = tensor(x(), x_shape);
    w_ = tensor(w(), w_shape);
    dy_ = tensor(dy(), y_shape);
  }

 private:
  void run() override {
    const torch::NoGradGuard no_grad;
    const std::vector<int64_t> none(stride_.size(), 0);
    const bool t = layer_.transposed;
    // The weight of a transposed layer is the one of the convolution that it turns round.
    if (pass_ == (t ? conv::Pass::kGradInput : conv::Pass::kForward)) {
      result_ =
          at::convolution(t ? dy_ : x_, w_, {}, stride_, pad_, dilation_, t, none, layer_.groups);
      return;
    }
    const bool weight = pass_ == conv::Pass::kGradWeight;
    const auto gradients =
        at::convolution_backward(t ? x_ : dy_, t ? dy_ : x_, w_, c10::nullopt, stride_, pad_,
                                 dilation_, t, none, layer_.groups, {!weight, weight, false});
    result_ = weight ? std::get<1>(gradients) : std::get<0>(gradients);
  }
  std::vector<float> result() override {
    const Tensor r = result_.contiguous();
    return {r.data_ptr<float>(), r.data_ptr<float>() + r.numel()};
  }
  void write() override { turn(w_.data_ptr<float>(), layer_.w_size()); }

  conv::Pass pass_;
  std::vector<int64_t> stride_, pad_, dilation_;
  Tensor x_, w_, dy_, result_;
};

Library library() {
  // See torch_worker.cc.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  mallopt(M_TOP_PAD, 64 << 20);
  torch::set_num_threads(1);
  at::set_num_interop_threads(1);
  Library l;
  for (const bool onednn : {true, false}) {
    for (const bool last : {false, true}) {
      const std::string form =
          std::string(onednn ? "onednn" : "native") + (last ? ",channels_last" : "");
      conv::add_entries(l.entries, form,
                        [=](const conv::Layer& layer, conv::Pass pass, bool written) {
                          if (last && layer.dims == 1) throw std::runtime_error("no such layout");
                          return std::make_unique<Conv>(layer, pass, written, onednn, last);
                        });
    }
  }
  l.first_op = [] { torch::ones({2}).sum(); };
  l.allocations = [] { return std::array<int64_t, 2>{0, 0}; };
  return l;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::serve(argc, argv, bench::library); }
