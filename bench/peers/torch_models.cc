// SPDX-License-Identifier: Apache-2.0
// Training steps of models without recurrence in LibTorch.
#include <functional>
#include <optional>

#include "../specs.h"
#include "torch_workloads.h"

namespace bench {
namespace {

namespace F = torch::nn::functional;

std::vector<Tensor> tensors(const std::vector<std::vector<float>>& vectors) {
  std::vector<Tensor> out;
  for (const std::vector<float>& v : vectors) out.push_back(from_vector(v));
  return out;
}

// In place, for playback reads the result alone.
Tensor relu_in_place(Tensor x) { return x.relu_(); }
Tensor tanh_in_place(Tensor x) { return x.tanh_(); }

// How a dense layer is spelt: on a vector, or on a matrix of one row.
enum class Dense { kLinear, kAddmv, kRowLinear, kRowAddmm, kRowTransposed, kModule };
const std::pair<const char*, Dense> kDenseForms[] = {{"linear", Dense::kLinear},
                                                     {"addmv", Dense::kAddmv},
                                                     {"row,linear", Dense::kRowLinear},
                                                     {"row,addmm", Dense::kRowAddmm},
                                                     {"row,transposed", Dense::kRowTransposed},
                                                     {"nn::Linear", Dense::kModule}};
bool on_rows(Dense d) {
  return d == Dense::kRowLinear || d == Dense::kRowAddmm || d == Dense::kRowTransposed;
}

// A dense layer with its parameters.
class Layer {
 public:
  Layer(const std::string& name, int64_t in, int64_t out, Dense dense)
      : dense_(dense),
        weight_(trained(name + ".weight", {out, in})),
        bias_(trained(name + ".bias", {out})) {
    if (dense == Dense::kRowTransposed) {  // kept as the product takes it
      weight_ = trained(weight_.detach().t().contiguous());
    } else if (dense == Dense::kModule) {
      module_ = torch::nn::Linear(in, out);
      fill(name, *module_);
      weight_ = module_->weight;
      bias_ = module_->bias;
    }
  }
  Tensor operator()(const Tensor& x) {
    switch (dense_) {
      case Dense::kAddmv:
        return at::addmv(bias_, weight_, x);
      case Dense::kRowAddmm:
        return at::addmm(bias_, x, weight_.t());
      case Dense::kRowTransposed:
        return at::addmm(bias_, x, weight_);
      case Dense::kModule:
        return module_->forward(x);
      default:
        return at::linear(x, weight_, bias_);
    }
  }
  // The layer with its weights as constants.
  Layer detached() const {
    Layer l = *this;
    l.weight_ = weight_.detach();
    l.bias_ = bias_.detach();
    if (dense_ == Dense::kModule) l.dense_ = Dense::kLinear;
    return l;
  }
  void shift_bias(const Tensor& by) { bias_ = bias_ + by; }
  void list(std::vector<Tensor>& out) const { out.insert(out.end(), {weight_, bias_}); }

 private:
  Dense dense_;
  Tensor weight_;
  Tensor bias_;
  torch::nn::Linear module_{nullptr};
};

std::vector<Tensor> parameters(std::initializer_list<const Layer*> layers) {
  std::vector<Tensor> out;
  for (const Layer* l : layers) l->list(out);
  return out;
}

class Mlp : public Model {
 public:
  Mlp(const Style& style, Dense dense)
      : fc1_("mlp.fc1", mlp::kIn, mlp::kHidden1, dense),
        fc2_("mlp.fc2", mlp::kHidden1, mlp::kHidden2, dense),
        fc3_("mlp.fc3", mlp::kHidden2, mlp::kClasses, dense),
        sgd_(parameters({&fc1_, &fc2_, &fc3_}), mlp::kRate, style.gradients) {
    for (const mlp::Sample& s : mlp::samples()) {
      Tensor image = from_vector(s.image);
      // Where the loss takes one row, its target is a vector of one.
      Tensor label = torch::tensor(s.label);
      if (on_rows(dense)) {
        image = image.unsqueeze(0);
        label = label.unsqueeze(0);
      }
      samples_.push_back({image, label});
    }
  }
  void step(int64_t i) override {
    const auto& [image, label] = samples_[static_cast<size_t>(i)];
    const Tensor scores = fc3_(relu_in_place(fc2_(relu_in_place(fc1_(image)))));
    learn(at::nll_loss_nd(at::log_softmax(scores, -1), label), sgd_);
  }
  int64_t period() const override { return mlp::kSamples; }

 private:
  Layer fc1_;
  Layer fc2_;
  Layer fc3_;
  Sgd sgd_;
  std::vector<std::pair<Tensor, Tensor>> samples_;
};

// How an image is laid out: [C,H,W], [1,C,H,W], or that with the channels last.
enum class Layout { kSingle, kBatch, kChannelsLast };
const std::pair<const char*, Layout> kLayouts[] = {{"image", Layout::kSingle},
                                                   {"batch", Layout::kBatch},
                                                   {"batch,channels-last", Layout::kChannelsLast}};

class LeNet : public Model {
 public:
  LeNet(const Style& style, Layout layout, Dense dense)
      : layout_(layout),
        rows_(on_rows(dense)),
        w1_(filters("lenet.conv1", {lenet::kConv1, 1, lenet::kKernel, lenet::kKernel})),
        b1_(trained("lenet.conv1.bias", {lenet::kConv1})),
        w2_(filters("lenet.conv2", {lenet::kConv2, lenet::kConv1, lenet::kKernel, lenet::kKernel})),
        b2_(trained("lenet.conv2.bias", {lenet::kConv2})),
        fc1_("lenet.fc1", lenet::kFlat, lenet::kHidden1, dense),
        fc2_("lenet.fc2", lenet::kHidden1, lenet::kHidden2, dense),
        fc3_("lenet.fc3", lenet::kHidden2, mlp::kClasses, dense) {
    std::vector<Tensor> all = parameters({&fc1_, &fc2_, &fc3_});
    all.insert(all.end(), {w1_, b1_, w2_, b2_});
    sgd_.emplace(all, lenet::kRate, style.gradients);
    for (const mlp::Sample& s : mlp::samples()) {
      Tensor image = from_vector(s.image, {1, lenet::kSide, lenet::kSide});
      Tensor label = torch::tensor(s.label);
      if (layout != Layout::kSingle) image = image.unsqueeze(0);
      if (layout == Layout::kChannelsLast) image = image.to(at::MemoryFormat::ChannelsLast);
      if (rows_) label = label.unsqueeze(0);
      samples_.push_back({image, label});
    }
  }
  void step(int64_t i) override {
    const auto& [image, label] = samples_[static_cast<size_t>(i)];
    const Tensor y = at::max_pool2d(relu_in_place(at::conv2d(image, w1_, b1_)), 2);
    Tensor z = at::max_pool2d(relu_in_place(at::conv2d(y, w2_, b2_)), 2);
    z = rows_ ? z.reshape({1, lenet::kFlat}) : z.reshape({lenet::kFlat});
    const Tensor scores = fc3_(relu_in_place(fc2_(relu_in_place(fc1_(z)))));
    learn(at::nll_loss_nd(at::log_softmax(scores, -1), label), *sgd_);
  }
  int64_t period() const override { return mlp::kSamples; }

 private:
  Tensor filters(const std::string& name, const std::vector<int64_t>& shape) const {
    const Tensor w = values(name + ".weight", shape);
    return trained(layout_ == Layout::kChannelsLast ? w.to(at::MemoryFormat::ChannelsLast) : w);
  }

  Layout layout_;
  bool rows_;
  Tensor w1_, b1_, w2_, b2_;
  Layer fc1_;
  Layer fc2_;
  Layer fc3_;
  std::optional<Sgd> sgd_;
  std::vector<std::pair<Tensor, Tensor>> samples_;
};

enum class IstaForm { kMv, kAddmv, kAddmvTransposed, kColumns };

class Ista : public Model {
 public:
  Ista(const Style& style, IstaForm form)
      : form_(form),
        w_(trained(from_vector(ista::dictionary(), {ista::kPixels, ista::kAtoms}))),
        samples_(tensors(ista::samples())),
        sgd_({w_}, ista::kRate, style.gradients) {
    if (form == IstaForm::kColumns) {
      for (Tensor& y : samples_) y = y.unsqueeze(1);
    }
  }
  void step(int64_t i) override {
    using namespace ista;
    const Tensor& y = samples_[static_cast<size_t>(i)];
    const bool columns = form_ == IstaForm::kColumns;
    Tensor z = columns ? torch::zeros({kAtoms, 1}) : torch::zeros({kAtoms});
    const Tensor wt = w_.t();
    for (int k = 0; k < kIterations; ++k) {
      Tensor moved;
      switch (form_) {
        case IstaForm::kMv:
          moved = z - kStep * at::mv(wt, at::mv(w_, z) - y);
          break;
        case IstaForm::kAddmv:
          moved = at::addmv(z, wt, at::addmv(y, w_, z, -1, 1), 1, -kStep);
          break;
        case IstaForm::kAddmvTransposed:
          // The residual with the other sign: no factor to carry.
          moved = at::addmv(z, wt, at::addmv(y, w_, z, 1, -1), 1, kStep);
          break;
        case IstaForm::kColumns:
          moved = at::addmm(z, wt, at::addmm(y, w_, z, -1, 1), 1, -kStep);
          break;
      }
      z = at::softshrink(moved, kStep * kLambda);
    }
    const Tensor residual = columns ? at::addmm(y, w_, z, -1, 1) : at::addmv(y, w_, z, -1, 1);
    const Tensor norm = z.abs().sum();
    learn(columns ? at::add(kLambda * norm, residual.square().sum(), 0.5)
                  : at::add(kLambda * norm, at::dot(residual, residual), 0.5),
          sgd_);
  }
  int64_t period() const override { return ista::kSamples; }

 private:
  IstaForm form_;
  Tensor w_;
  std::vector<Tensor> samples_;
  Sgd sgd_;
};

class LatentInference : public Model {
 public:
  // `constant`: the weights are no leaves while the code is inferred. `folded`: the sample is part
  // of the last layer's bias meanwhile, so that the layer gives the residual.
  LatentInference(const Style& style, Dense dense, bool constant, bool folded)
      : constant_(constant),
        folded_(folded),
        rows_(on_rows(dense)),
        fc1_("latent.fc1", latent::kCode, latent::kHidden, dense),
        fc2_("latent.fc2", latent::kHidden, latent::kOut, dense),
        samples_(tensors(latent::samples())),
        sgd_(parameters({&fc1_, &fc2_}), latent::kRate, style.gradients) {
    if (rows_) {
      for (Tensor& y : samples_) y = y.unsqueeze(0);
    }
  }
  void step(int64_t i) override {
    using namespace latent;
    const Tensor& y = samples_[static_cast<size_t>(i)];
    Layer first = constant_ ? fc1_.detached() : fc1_;
    Layer second = constant_ ? fc2_.detached() : fc2_;
    if (folded_) second.shift_bias(-y);
    Tensor z = rows_ ? torch::zeros({1, kCode}) : torch::zeros({kCode});
    z.requires_grad_(true);
    for (int k = 0; k < kInferenceSteps; ++k) {
      const Tensor e =
          folded_ ? energy(second(tanh_in_place(first(z))), z) : energy(y, z, first, second);
      const Tensor g = torch::autograd::grad({e}, {z})[0];
      const torch::NoGradGuard no_grad;
      z.add_(g, -kInferenceRate);
    }
    learn(energy(y, z.detach(), fc1_, fc2_), sgd_);
  }
  int64_t period() const override { return latent::kSamples; }

 private:
  static Tensor energy(const Tensor& y, const Tensor& z, Layer& first, Layer& second) {
    return at::add(at::mse_loss(second(tanh_in_place(first(z))), y, at::Reduction::Sum),
                   z.abs().sum(), latent::kSparsity);
  }
  static Tensor energy(const Tensor& residual, const Tensor& z) {
    return at::add(at::dot(residual, residual), z.abs().sum(), latent::kSparsity);
  }

  bool constant_;
  bool folded_;
  bool rows_;
  Layer fc1_;
  Layer fc2_;
  std::vector<Tensor> samples_;
  Sgd sgd_;
};

class GradientPenalty : public Model {
 public:
  // `named`: playback is told the weights that it is for, and leaves x alone.
  GradientPenalty(const Style& style, Dense dense, bool named)
      : named_(named),
        rows_(on_rows(dense)),
        fc1_("penalty.fc1", penalty::kIn, penalty::kHidden, dense),
        fc2_("penalty.fc2", penalty::kHidden, penalty::kHidden, dense),
        fc3_("penalty.fc3", penalty::kHidden, 1, dense),
        samples_(tensors(penalty::samples())),
        one_(torch::ones({1})),
        weights_(parameters({&fc1_, &fc2_, &fc3_})),
        sgd_(weights_, penalty::kRate, style.gradients) {
    if (rows_) one_ = one_.unsqueeze(0);
    for (Tensor& x : samples_) {
      if (rows_) x = x.unsqueeze(0);
      x.requires_grad_(true);
    }
  }
  void step(int64_t i) override {
    Tensor& x = samples_[static_cast<size_t>(i)];
    const Tensor e = fc3_(tanh_in_place(fc2_(tanh_in_place(fc1_(x)))));
    const Tensor g = torch::autograd::grad({e}, {x}, {one_}, true, true)[0];
    const Tensor loss = rows_ ? g.square().sum() : at::dot(g, g);
    if (named_) {
      loss.backward({}, c10::nullopt, false, weights_);
    } else {
      loss.backward();
      x.mutable_grad().reset();
    }
    sgd_.step();
    loss_ = loss.item<float>();
  }
  int64_t period() const override { return penalty::kSamples; }

 private:
  bool named_;
  bool rows_;
  Layer fc1_;
  Layer fc2_;
  Layer fc3_;
  std::vector<Tensor> samples_;
  Tensor one_;
  std::vector<Tensor> weights_;
  Sgd sgd_;
};

// ---- transformer
// ---------------------------------------------------------------------------------

enum class Attention { kBmm, kBaddbmm, kMatmul, kScaledDotProduct };

class TransformerBlock : public Model {
 public:
  // `transposed`: weights are kept as the products take them.
  TransformerBlock(const Style& style, Attention attention, bool transposed)
      : attention_(attention), transposed_(transposed) {
    using namespace transformer;
    const auto weight = [&](const char* name, std::vector<int64_t> shape) {
      Tensor t = trained(std::string("transformer.") + name, shape);
      if (transposed && shape.size() == 2) t = trained(t.detach().t().contiguous());
      parameters_.push_back(t);
      return t;
    };
    in_w_ = weight("self_attn.in_proj_weight", {3 * kWidth, kWidth});
    in_b_ = weight("self_attn.in_proj_bias", {3 * kWidth});
    out_w_ = weight("self_attn.out_proj.weight", {kWidth, kWidth});
    out_b_ = weight("self_attn.out_proj.bias", {kWidth});
    ff1_w_ = weight("linear1.weight", {kFeedForward, kWidth});
    ff1_b_ = weight("linear1.bias", {kFeedForward});
    ff2_w_ = weight("linear2.weight", {kWidth, kFeedForward});
    ff2_b_ = weight("linear2.bias", {kWidth});
    n1_w_ = weight("norm1.weight", {kWidth});
    n1_b_ = weight("norm1.bias", {kWidth});
    n2_w_ = weight("norm2.weight", {kWidth});
    n2_b_ = weight("norm2.bias", {kWidth});
    for (const Sample& s : samples()) {
      samples_.push_back(
          {from_vector(s.x, {kLength, kWidth}), from_vector(s.target, {kLength, kWidth})});
    }
    sgd_.emplace(parameters_, kRate, style.gradients);
  }
  void step(int64_t i) override {
    const auto& [x, target] = samples_[static_cast<size_t>(i)];
    const Tensor h = x + attend(norm(x, n1_w_, n1_b_));
    const Tensor inner = relu_in_place(dense(norm(h, n2_w_, n2_b_), ff1_w_, ff1_b_));
    const Tensor y = h + dense(inner, ff2_w_, ff2_b_);
    learn(at::mse_loss(y, target), *sgd_);
  }
  int64_t period() const override { return transformer::kSamples; }

 private:
  static Tensor norm(const Tensor& x, const Tensor& w, const Tensor& b) {
    return at::layer_norm(x, {transformer::kWidth}, w, b, transformer::kEps);
  }
  Tensor dense(const Tensor& x, const Tensor& w, const Tensor& b) const {
    return transposed_ ? at::addmm(b, x, w) : at::linear(x, w, b);
  }
  Tensor attend(const Tensor& x) const {
    using namespace transformer;
    constexpr int64_t kHead = kWidth / kHeads;
    const double scale = 1 / std::sqrt(static_cast<double>(kHead));
    // [length, 3, heads, head] to three of [heads, length, head].
    const Tensor packed = dense(x, in_w_, in_b_);
    const auto parts = packed.view({kLength, 3, kHeads, kHead}).permute({1, 2, 0, 3}).unbind(0);
    Tensor out;
    switch (attention_) {
      case Attention::kBmm: {
        const Tensor p = at::softmax(at::bmm(parts[0] * scale, parts[1].transpose(1, 2)), -1);
        out = at::bmm(p, parts[2]);
        break;
      }
      case Attention::kBaddbmm: {
        const Tensor none = torch::empty({1, 1, 1});  // not read: its factor is 0
        const Tensor p =
            at::softmax(at::baddbmm(none, parts[0], parts[1].transpose(1, 2), 0, scale), -1);
        out = at::bmm(p, parts[2]);
        break;
      }
      case Attention::kMatmul: {
        const Tensor p = at::softmax(at::matmul(parts[0], parts[1].transpose(-2, -1)) * scale, -1);
        out = at::matmul(p, parts[2]);
        break;
      }
      case Attention::kScaledDotProduct:
        out = std::get<0>(at::_scaled_dot_product_attention(parts[0], parts[1], parts[2]));
        break;
    }
    return dense(out.transpose(0, 1).reshape({kLength, kWidth}), out_w_, out_b_);
  }

  Attention attention_;
  bool transposed_;
  std::vector<Tensor> parameters_;
  Tensor in_w_, in_b_, out_w_, out_b_, ff1_w_, ff1_b_, ff2_w_, ff2_b_, n1_w_, n1_b_, n2_w_, n2_b_;
  std::optional<Sgd> sgd_;
  std::vector<std::pair<Tensor, Tensor>> samples_;
};

}  // namespace

std::vector<Entry> model_workloads() {
  std::vector<Entry> out;
  for (const auto& [form_name, dense] : kDenseForms) {
    const std::string form = form_name;
    add_entries<Mlp>(out, "mlp", form, dense);
    add_entries<GradientPenalty>(out, "gradient_penalty", form, dense, false);
    add_entries<GradientPenalty>(out, "gradient_penalty", form + ",named", dense, true);
    add_entries<LatentInference>(out, "latent_inference", form + ",constant", dense, true, false);
  }
  for (const auto& [layout_name, layout] : kLayouts) {
    for (const auto& [dense_name, dense] : kDenseForms) {
      if (dense == Dense::kModule) continue;
      add_entries<LeNet>(out, "lenet", std::string(layout_name) + "," + dense_name, layout, dense);
    }
  }
  add_entries<LatentInference>(out, "latent_inference", "linear", Dense::kLinear, false, false);
  add_entries<LatentInference>(out, "latent_inference", "addmv,constant,folded", Dense::kAddmv,
                               true, true);
  add_entries<Ista>(out, "ista", "mv", IstaForm::kMv);
  add_entries<Ista>(out, "ista", "addmv", IstaForm::kAddmv);
  add_entries<Ista>(out, "ista", "addmv,negated", IstaForm::kAddmvTransposed);
  add_entries<Ista>(out, "ista", "addmm-columns", IstaForm::kColumns);
  const std::pair<const char*, Attention> attentions[] = {
      {"bmm", Attention::kBmm},
      {"baddbmm", Attention::kBaddbmm},
      {"matmul", Attention::kMatmul},
      {"scaled_dot_product", Attention::kScaledDotProduct}};
  for (const auto& [form, attention] : attentions) {
    add_entries<TransformerBlock>(out, "transformer_block", form, attention, false);
    add_entries<TransformerBlock>(out, "transformer_block", std::string(form) + ",transposed",
                                  attention, true);
  }
  return out;
}

}  // namespace bench
