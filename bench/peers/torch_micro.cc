// SPDX-License-Identifier: Apache-2.0
// Single ops and kernels in LibTorch.
#include <cmath>
#include <functional>

#include "../specs.h"
#include "torch_workloads.h"

namespace bench {
namespace {

using micro::kChain;
using micro::kSamples;

double total(const Tensor& x) { return x.defined() ? x.sum().item<float>() : 0; }

using Op = Tensor (*)(const Tensor& x, const Tensor& w);

Tensor add_op(const Tensor& x, const Tensor& w) { return at::add(x, w); }
Tensor mul_op(const Tensor& x, const Tensor& w) { return at::mul(x, w); }
Tensor tanh_op(const Tensor& x, const Tensor&) { return at::tanh(x); }

class Chain : public Workload {
 public:
  Chain(Op op, int64_t n) : op_(op), g_(torch::ones({n})) {
    for (int64_t k = 0; k < kSamples; ++k) xs_.push_back(trained(with_size("micro.x", k), {n}));
    w_ = trained(1 + values("micro.w", {n}) * 1e-3);
  }
  int64_t period() const override { return kSamples; }
  int64_t ops() const override { return kChain; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 protected:
  Tensor chain(const Tensor& x) const {
    Tensor y = op_(x, w_);
    for (int64_t i = 1; i < kChain; ++i) y = op_(y, w_);
    return y;
  }

  Op op_;
  Tensor w_;
  Tensor g_;
  std::vector<Tensor> xs_;
};

class Recorded : public Chain {
 public:
  using Chain::Chain;
  void step(int64_t i) override { y_ = chain(xs_[static_cast<size_t>(i)]); }
  bool pauses() const override { return true; }
  void between() override { y_ = Tensor(); }
  double loss() override { return total(y_); }

 private:
  Tensor y_;
};

enum class Playback { kBackward, kBackwardKept, kGrad };

class Whole : public Chain {
 public:
  Whole(Op op, int64_t n, Playback playback) : Chain(op, n), playback_(playback) { last_ = w_; }
  void step(int64_t i) override {
    if (playback_ == Playback::kGrad) {
      const Tensor& x = xs_[static_cast<size_t>(i)];
      const Tensor y = chain(x);
      grads_ = torch::autograd::grad({y}, {x, w_}, {g_}, torch::nullopt, false, true);
      return;
    }
    if (playback_ == Playback::kBackwardKept) {
      const torch::NoGradGuard no_grad;
      for (Tensor* t : {&last_, &w_}) {
        if (t->grad().defined()) t->mutable_grad().zero_();
      }
    } else {
      last_.mutable_grad().reset();
      w_.mutable_grad().reset();
    }
    last_ = xs_[static_cast<size_t>(i)];
    chain(last_).backward(g_);
  }
  double loss() override {
    if (playback_ == Playback::kGrad) return total(grads_[0]) + total(grads_[1]);
    return total(last_.grad()) + total(w_.grad());
  }

 private:
  Playback playback_;
  Tensor last_;
  torch::autograd::variable_list grads_;
};

class MatrixVector : public Workload {
 public:
  using Product = std::function<Tensor(const Tensor& w, const Tensor& x)>;
  MatrixVector(const Style& style, int64_t n, const Product& product)
      : style_(style), product_(product), w_(trained("micro.w", {n, n})), g_(torch::ones({n})) {
    for (int64_t k = 0; k < kSamples; ++k) xs_.push_back(trained(with_size("micro.x", k), {n}));
    last_ = w_;
  }
  void step(int64_t i) override {
    if (style_.gradients == Gradients::kKept) {
      const torch::NoGradGuard no_grad;
      for (Tensor* t : {&last_, &w_}) {
        if (t->grad().defined()) t->mutable_grad().zero_();
      }
    } else {
      last_.mutable_grad().reset();
      w_.mutable_grad().reset();
    }
    last_ = xs_[static_cast<size_t>(i)];
    product_(w_, last_).backward(g_);
  }
  double loss() override { return total(last_.grad()) + total(w_.grad()); }
  int64_t period() const override { return kSamples; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  Style style_;
  Product product_;
  Tensor w_;
  Tensor g_;
  std::vector<Tensor> xs_;
  Tensor last_;
};

class MatrixProduct : public Workload {
 public:
  MatrixProduct(const Style&, int64_t n, bool out) : out_(out), a_(values("micro.a", {n, n})) {
    for (int64_t k = 0; k < kSamples; ++k) bs_.push_back(values(with_size("micro.b", k), {n, n}));
    y_ = torch::empty({n, n});
  }
  void step(int64_t i) override {
    const Tensor& b = bs_[static_cast<size_t>(i)];
    if (out_) {
      at::mm_out(y_, a_, b);
    } else {
      y_ = at::mm(a_, b);
    }
  }
  double loss() override { return total(y_); }
  int64_t period() const override { return kSamples; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  bool out_;
  Tensor a_;
  std::vector<Tensor> bs_;
  Tensor y_;
};

class Slices : public Workload {
 public:
  explicit Slices(bool narrow) : narrow_(narrow) {
    for (int64_t k = 0; k < kSamples; ++k) {
      xs_.push_back(trained(with_size("micro.x", k), {micro::kSliceOf}));
    }
  }
  void step(int64_t i) override {
    const Tensor& x = xs_[static_cast<size_t>(i)];
    for (int64_t k = 0; k < kChain; ++k) {
      y_ = narrow_ ? x.narrow(0, k, micro::kSlice) : x.slice(0, k, k + micro::kSlice);
    }
  }
  double loss() override { return total(y_); }
  int64_t period() const override { return kSamples; }
  int64_t ops() const override { return kChain; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  bool narrow_;
  std::vector<Tensor> xs_;
  Tensor y_;
};

// A kernel on memory that exists, as far as LibTorch lets one.
class Kernel : public Workload {
 public:
  using Function = std::function<void(const Tensor& a, const Tensor& b, Tensor& c)>;
  Kernel(const Style&, std::vector<int64_t> a, std::vector<int64_t> b, std::vector<int64_t> c,
         Function f)
      : f_(std::move(f)) {
    int64_t n = 1;
    for (const int64_t s : a) n *= s;
    a_ = (values("kernel.a", {n}) * std::sqrt(static_cast<double>(n)) + 1.5).reshape(a);
    n = 1;
    for (const int64_t s : b) n *= s;
    b_ = values("kernel.b", {n}).reshape(b);
    c_ = torch::zeros(c);
  }
  void step(int64_t) override {
    const torch::NoGradGuard no_grad;
    for (int i = 0; i < kRepeats; ++i) f_(a_, b_, c_);
  }
  double loss() override { return c_.sum().item<float>(); }
  int64_t ops() const override { return kRepeats; }
  int64_t check_steps() const override { return 1; }
  bool trains() const override { return false; }

 private:
  static constexpr int kRepeats = 100;
  Tensor a_;
  Tensor b_;
  Tensor c_;
  Function f_;
};

}  // namespace

std::vector<Entry> micro_workloads() {
  std::vector<Entry> out;
  const std::pair<const char*, Op> ops[] = {{"add", add_op}, {"mul", mul_op}, {"tanh", tanh_op}};
  for (const auto& [name, op_of_name] : ops) {
    const Op op = op_of_name;
    for (const int64_t n : micro::kSizes) {
      const std::string whole = with_size(std::string("micro.") + name, n);
      const auto whole_entry = [&](const std::string& form, Playback p) {
        out.push_back({whole, form, [op, n, p] { return std::make_unique<Whole>(op, n, p); }});
      };
      whole_entry("backward,fresh", Playback::kBackward);
      whole_entry("backward,kept", Playback::kBackwardKept);
      whole_entry("autograd::grad", Playback::kGrad);
      out.push_back({with_size(std::string("micro.") + name + ".recorded", n),
                     "at::", [op, n] { return std::make_unique<Recorded>(op, n); }});
    }
  }
  const std::pair<const char*, MatrixVector::Product> products[] = {
      {"mv", [](const Tensor& w, const Tensor& x) { return at::mv(w, x); }},
      {"matmul", [](const Tensor& w, const Tensor& x) { return at::matmul(w, x); }},
      {"linear", [](const Tensor& w, const Tensor& x) { return at::linear(x, w); }},
      {"mm-row", [](const Tensor& w, const Tensor& x) { return at::mm(x.unsqueeze(0), w.t())[0]; }},
      {"mm-column",
       [](const Tensor& w, const Tensor& x) { return at::mm(w, x.unsqueeze(1)).squeeze(1); }}};
  for (const int64_t n : micro::kVectorSizes) {
    for (const auto& [form, product] : products) {
      add_entries<MatrixVector>(out, with_size("micro.matrix_vector", n), form, n, product);
    }
  }
  for (const int64_t n : micro::kProductSizes) {
    const std::string name = with_size("micro.matrix_product", n);
    for (const bool onednn : {true, false}) {
      const Style style = {Gradients::kFresh, onednn};
      const std::string suffix = onednn ? "" : ",no-onednn";
      for (const bool into : {false, true}) {
        out.push_back({name, (into ? "mm_out" : "mm") + suffix, [style, n, into] {
                         style.apply();
                         return std::make_unique<MatrixProduct>(style, n, into);
                       }});
      }
    }
  }
  out.push_back({"micro.slice", "slice", [] { return std::make_unique<Slices>(false); }});
  out.push_back({"micro.slice", "narrow", [] { return std::make_unique<Slices>(true); }});
  return out;
}

std::vector<Entry> kernel_workloads() {
  std::vector<Entry> out;
  using Size = std::vector<int64_t>;
  const auto add = [&](const std::string& name, const std::string& form, Size a, Size b, Size c,
                       const Kernel::Function& f) {
    for (const bool onednn : {true, false}) {
      const Style style = {Gradients::kFresh, onednn};
      out.push_back({name, form + (onednn ? "" : ",no-onednn"), [=] {
                       style.apply();
                       return std::make_unique<Kernel>(style, a, b, c, f);
                     }});
    }
  };
  for (const int64_t n : kernel::kProductSizes) {
    add(with_size("kernel.mm", n), "mm_out", {n, n}, {n, n}, {n, n},
        [](const Tensor& a, const Tensor& b, Tensor& c) { at::mm_out(c, a, b); });
  }
  for (const int64_t n : kernel::kVectorSizes) {
    add(with_size("kernel.mv", n), "mv_out", {n, n}, {n}, {n},
        [](const Tensor& a, const Tensor& b, Tensor& c) { at::mv_out(c, a, b); });
    add(with_size("kernel.mv_t", n), "mv_out", {n, n}, {n}, {n},
        [](const Tensor& a, const Tensor& b, Tensor& c) { at::mv_out(c, a.t(), b); });
    add(with_size("kernel.ger", n), "addr_", {n}, {n}, {n, n},
        [](const Tensor& a, const Tensor& b, Tensor& c) { c.addr_(a, b, 1, 1e-3); });
    add(with_size("kernel.ger", n), "addmm_", {n, 1}, {1, n}, {n, n},
        [](const Tensor& a, const Tensor& b, Tensor& c) { c.addmm_(a, b, 1, 1e-3); });
  }
  using Out = Tensor& (*)(Tensor&, const Tensor&);
  const std::pair<const char*, Out> functions[] = {{"exp", at::exp_out},
                                                   {"log", at::log_out},
                                                   {"tanh", at::tanh_out},
                                                   {"sigmoid", at::sigmoid_out},
                                                   {"erf", at::erf_out}};
  for (const auto& [name, function] : functions) {
    const Out f = function;
    for (const int64_t n : kernel::kFunctionSizes) {
      out.push_back(
          {with_size(std::string("kernel.") + name, n), std::string(name) + "_out", [n, f] {
             return std::make_unique<Kernel>(
                 Style{}, Size{n}, Size{1}, Size{n},
                 [f](const Tensor& a, const Tensor&, Tensor& c) { f(c, a); });
           }});
    }
  }
  for (const int64_t n : kernel::kSoftmaxSizes) {
    add(with_size("kernel.softmax", n), "softmax", {n}, {1}, {n},
        [](const Tensor& a, const Tensor&, Tensor& c) { c = at::_softmax(a, 0, false); });
    add(with_size("kernel.softmax", n), "softmax_out", {n}, {1}, {n},
        [](const Tensor& a, const Tensor&, Tensor& c) { at::_softmax_out(c, a, 0, false); });
  }
  return out;
}

}  // namespace bench
