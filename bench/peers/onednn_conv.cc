// SPDX-License-Identifier: Apache-2.0
// The convolutions of conv_layers.h in oneDNN. Primitives, memory and scratchpad are made once.
// Operands and results are in the plain layout; what oneDNN would rather have is made of them in
// every call, but for weights that do not change.
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "../conv_layers.h"
#include "../worker.h"

namespace bench {
namespace {

using dnnl::memory;
using Dims = memory::dims;

const dnnl::engine& engine() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

// One operand in the plain layout, and in the one that the primitive asks for.
class Operand {
 public:
  Operand(const memory::desc& plain, const memory::desc& wanted)
      : plain_(plain, engine()), wanted_(plain_) {
    if (plain == wanted) return;
    wanted_ = memory(wanted, engine());
    in_ = dnnl::reorder(plain_, wanted_);
    out_ = dnnl::reorder(wanted_, plain_);
    differs_ = true;
  }
  float* data() { return static_cast<float*>(plain_.get_data_handle()); }
  const memory& wanted() const { return wanted_; }
  void bring_in(dnnl::stream& s) {
    if (differs_) in_.execute(s, plain_, wanted_);
  }
  void bring_out(dnnl::stream& s) {
    if (differs_) out_.execute(s, wanted_, plain_);
  }

 private:
  memory plain_;
  memory wanted_;
  dnnl::reorder in_, out_;
  bool differs_ = false;
};

class Conv : public conv::ConvWorkload {
 public:
  // `any`: oneDNN chooses the layouts. `direct`: no other algorithm.
  Conv(const conv::Layer& layer, conv::Pass pass, bool written, bool any, bool direct)
      : ConvWorkload(layer, written), pass_(pass), stale_(written), stream_(engine()) {
    Dims x_dims = {1, layer.in_channels};
    Dims y_dims = {1, layer.out_channels};
    Dims w_dims = {layer.out_channels / layer.groups, layer.in_channels / layer.groups};
    if (layer.groups > 1) w_dims.insert(w_dims.begin(), layer.groups);
    Dims stride, pad;
    for (int d = 0; d < layer.dims; ++d) {
      x_dims.push_back(layer.in[d]);
      y_dims.push_back(layer.out(d));
      w_dims.push_back(layer.kernel[d]);
      stride.push_back(layer.stride[d]);
      pad.push_back(layer.pad[d]);
    }
    const auto plain = [](const Dims& dims) {
      Dims strides(dims.size());
      memory::dim step = 1;
      for (size_t i = dims.size(); i-- > 0; step *= dims[i]) strides[i] = step;
      return memory::desc(dims, memory::data_type::f32, strides);
    };
    const auto asked = [&](const Dims& dims) {
      return any ? memory::desc(dims, memory::data_type::f32, memory::format_tag::any)
                 : plain(dims);
    };
    const auto algorithm =
        direct ? dnnl::algorithm::convolution_direct : dnnl::algorithm::convolution_auto;
    const dnnl::convolution_forward::desc forward_desc(dnnl::prop_kind::forward_training, algorithm,
                                                       asked(x_dims), asked(w_dims), asked(y_dims),
                                                       stride, pad, pad);
    const dnnl::convolution_forward::primitive_desc forward(forward_desc, engine());
    if (pass == conv::Pass::kForward) {
      primitive_ = dnnl::convolution_forward(forward);
      set_operands(plain(x_dims), forward.src_desc(), plain(w_dims), forward.weights_desc(),
                   plain(y_dims), forward.dst_desc());
      arguments_ = {{DNNL_ARG_SRC, x_->wanted()},
                    {DNNL_ARG_WEIGHTS, w_->wanted()},
                    {DNNL_ARG_DST, y_->wanted()}};
    } else if (pass == conv::Pass::kGradInput) {
      const dnnl::convolution_backward_data::primitive_desc backward(
          {algorithm, asked(x_dims), asked(w_dims), asked(y_dims), stride, pad, pad}, engine(),
          forward);
      primitive_ = dnnl::convolution_backward_data(backward);
      set_operands(plain(x_dims), backward.diff_src_desc(), plain(w_dims), backward.weights_desc(),
                   plain(y_dims), backward.diff_dst_desc());
      arguments_ = {{DNNL_ARG_DIFF_SRC, x_->wanted()},
                    {DNNL_ARG_WEIGHTS, w_->wanted()},
                    {DNNL_ARG_DIFF_DST, y_->wanted()}};
    } else {
      const dnnl::convolution_backward_weights::primitive_desc backward(
          {algorithm, asked(x_dims), asked(w_dims), asked(y_dims), stride, pad, pad}, engine(),
          forward);
      primitive_ = dnnl::convolution_backward_weights(backward);
      set_operands(plain(x_dims), backward.src_desc(), plain(w_dims), backward.diff_weights_desc(),
                   plain(y_dims), backward.diff_dst_desc());
      arguments_ = {{DNNL_ARG_SRC, x_->wanted()},
                    {DNNL_ARG_DIFF_WEIGHTS, w_->wanted()},
                    {DNNL_ARG_DIFF_DST, y_->wanted()}};
    }
    w_->bring_in(stream_);
    stream_.wait();
  }

 private:
  void set_operands(const memory::desc& x_plain, const memory::desc& x_wanted,
                    const memory::desc& w_plain, const memory::desc& w_wanted,
                    const memory::desc& y_plain, const memory::desc& y_wanted) {
    x_ = std::make_unique<Operand>(x_plain, x_wanted);
    w_ = std::make_unique<Operand>(w_plain, w_wanted);
    y_ = std::make_unique<Operand>(y_plain, y_wanted);
    const auto fill = [](Operand& to, const std::vector<float>& from) {
      std::copy(from.begin(), from.end(), to.data());
    };
    fill(*x_, x());
    fill(*w_, w());
    fill(*y_, dy());
  }

  void run() override {
    if (pass_ != conv::Pass::kGradInput) x_->bring_in(stream_);
    if (pass_ != conv::Pass::kGradWeight && stale_) w_->bring_in(stream_);
    if (pass_ != conv::Pass::kForward) y_->bring_in(stream_);
    primitive_.execute(stream_, arguments_);
    out().bring_out(stream_);
    stream_.wait();
  }
  Operand& out() {
    return pass_ == conv::Pass::kForward ? *y_ : pass_ == conv::Pass::kGradInput ? *x_ : *w_;
  }
  std::vector<float> result() override {
    const int64_t n = pass_ == conv::Pass::kForward     ? layer_.y_size()
                      : pass_ == conv::Pass::kGradInput ? layer_.x_size()
                                                        : layer_.w_size();
    return {out().data(), out().data() + n};
  }
  void write() override {
    if (pass_ != conv::Pass::kGradWeight) turn(w_->data(), layer_.w_size());
  }

  conv::Pass pass_;
  bool stale_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unique_ptr<Operand> x_, w_, y_;
  std::unordered_map<int, memory> arguments_;
};

Library library() {
  Library l;
  for (const bool any : {true, false}) {
    for (const bool direct : {true, false}) {
      const std::string form = std::string(any ? "any" : "plain") + (direct ? ",direct" : ",auto");
      conv::add_entries(l.entries, form,
                        [=](const conv::Layer& layer, conv::Pass pass, bool written) {
                          return std::make_unique<Conv>(layer, pass, written, any, direct);
                        });
    }
  }
  l.first_op = [] { engine(); };
  l.allocations = [] { return std::array<int64_t, 2>{0, 0}; };
  return l;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::serve(argc, argv, bench::library); }
