// SPDX-License-Identifier: Apache-2.0
// Single ops: what recording and playing back costs. Leaves exist before the clock starts.
#include <ebb/ebb.h>

#include "ebb_workloads.h"
#include "specs.h"

namespace bench {
namespace {

using ebb::Tensor;
using micro::kChain;
using micro::kSamples;

Tensor leaf(const std::string& name, const ebb::Shape& shape) {
  return ebb::variable(values(name, shape));
}

double total(const Tensor& x) { return x.defined() ? x.sum().item() : 0; }

struct AddOp {
  static Tensor apply(const Tensor& x, const Tensor& w) { return add(x, w); }
};
struct MulOp {
  static Tensor apply(const Tensor& x, const Tensor& w) { return mul(x, w); }
};
struct TanhOp {
  static Tensor apply(const Tensor& x, const Tensor&) { return tanh(x); }
};

template <class Op>
Tensor chain(const Tensor& x, const Tensor& w) {
  Tensor y = Op::apply(x, w);
  for (int64_t i = 1; i < kChain; ++i) y = Op::apply(y, w);
  return y;
}

// The leaves of a chain: one of several starts, and a factor near 1.
class Chain : public Workload {
 public:
  explicit Chain(int64_t n) : w_(leaf("micro.w", {n})), g_(ebb::ones({n})) {
    for (int64_t k = 0; k < kSamples; ++k) xs_.push_back(leaf(with_size("micro.x", k), {n}));
    const ebb::NoGradGuard no_grad;
    w_ = ebb::variable(1 + w_.detach() * 1e-3);
  }
  int64_t period() const override { return kSamples; }
  int64_t ops() const override { return kChain; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 protected:
  const Tensor& x(int64_t i) const { return xs_[static_cast<size_t>(i)]; }

  Tensor w_;
  Tensor g_;
  std::vector<Tensor> xs_;
};

// Recorded, with the tape kept; the tape before is freed outside the clock.
template <class Op>
class Recorded : public Chain {
 public:
  using Chain::Chain;
  void step(int64_t i) override { y_ = chain<Op>(x(i), w_); }
  bool pauses() const override { return true; }
  void between() override { y_ = Tensor(); }
  double loss() override { return total(y_); }

 private:
  Tensor y_;
};

// Recorded, played back and freed.
template <class Op>
class Whole : public Chain {
 public:
  using Chain::Chain;
  void step(int64_t i) override {
    last_.zero_grad();
    w_.zero_grad();
    last_ = x(i);
    chain<Op>(last_, w_).backward(g_);
  }
  double loss() override { return total(last_.grad()) + total(w_.grad()); }

 private:
  Tensor last_ = w_;
};

// One product with its playback: the gradient of the matrix stays a product of two vectors.
class MatrixVector : public Workload {
 public:
  explicit MatrixVector(int64_t n) : w_(leaf("micro.w", {n, n})), g_(ebb::ones({n})) {
    for (int64_t k = 0; k < kSamples; ++k) xs_.push_back(leaf(with_size("micro.x", k), {n}));
  }
  void step(int64_t i) override {
    last_.zero_grad();
    w_.zero_grad();
    last_ = xs_[static_cast<size_t>(i)];
    mv(w_, last_).backward(g_);
  }
  double loss() override { return total(last_.grad()) + total(w_.grad()); }
  int64_t period() const override { return kSamples; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  Tensor w_;
  Tensor g_;
  std::vector<Tensor> xs_;
  Tensor last_ = w_;
};

class MatrixProduct : public Workload {
 public:
  explicit MatrixProduct(int64_t n) : a_(values("micro.a", {n, n})) {
    for (int64_t k = 0; k < kSamples; ++k) bs_.push_back(values(with_size("micro.b", k), {n, n}));
  }
  void step(int64_t i) override { y_ = mm(a_, bs_[static_cast<size_t>(i)]); }
  double loss() override { return total(y_); }
  int64_t period() const override { return kSamples; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  Tensor a_;
  std::vector<Tensor> bs_;
  Tensor y_;
};

// Recorded slices of one vector, of which the last is kept.
class Slices : public Workload {
 public:
  Slices() {
    for (int64_t k = 0; k < kSamples; ++k) {
      xs_.push_back(leaf(with_size("micro.x", k), {micro::kSliceOf}));
    }
  }
  void step(int64_t i) override {
    const Tensor& x = xs_[static_cast<size_t>(i)];
    for (int64_t k = 0; k < kChain; ++k) y_ = x.narrow(0, k, micro::kSlice);
  }
  double loss() override { return total(y_); }
  int64_t period() const override { return kSamples; }
  int64_t ops() const override { return kChain; }
  int64_t check_steps() const override { return 3; }
  bool trains() const override { return false; }

 private:
  std::vector<Tensor> xs_;
  Tensor y_;
};

}  // namespace

std::vector<Entry> micro_workloads() {
  std::vector<Entry> out;
  for (const int64_t n : micro::kSizes)
    out.push_back(entry<Whole<AddOp>>(with_size("micro.add", n), n));
  for (const int64_t n : micro::kSizes)
    out.push_back(entry<Whole<MulOp>>(with_size("micro.mul", n), n));
  for (const int64_t n : micro::kSizes)
    out.push_back(entry<Whole<TanhOp>>(with_size("micro.tanh", n), n));
  for (const int64_t n : micro::kSizes) {
    out.push_back(entry<Recorded<AddOp>>(with_size("micro.add.recorded", n), n));
    out.push_back(entry<Recorded<MulOp>>(with_size("micro.mul.recorded", n), n));
    out.push_back(entry<Recorded<TanhOp>>(with_size("micro.tanh.recorded", n), n));
  }
  for (const int64_t n : micro::kVectorSizes) {
    out.push_back(entry<MatrixVector>(with_size("micro.matrix_vector", n), n));
  }
  for (const int64_t n : micro::kProductSizes) {
    out.push_back(entry<MatrixProduct>(with_size("micro.matrix_product", n), n));
  }
  out.push_back(entry<Slices>("micro.slice"));
  return out;
}

}  // namespace bench
