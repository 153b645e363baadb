// SPDX-License-Identifier: Apache-2.0
// Plain steps by one product, which wait for the next use of the matrix.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/error.h"
#include "ebb/nn/linear.h"
#include "ebb/nn/optim/optim.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace {

// Large enough to wait, with rows that end in part of a vector.
constexpr int64_t kOut = 133;
constexpr int64_t kIn = 151;

bool waits(const Parameter& p) { return (p.leaf().flags() & detail::Node::kLazy) != 0; }

struct Matrix {
  explicit Matrix(DType dtype = kFloat32)
      : start(cast(randn({kOut, kIn}), dtype)),
        x(cast(randn({kIn}), dtype)),
        w(Tensor(copy(start.array()))),
        sgd({w}, {.lr = 0.125}) {}

  // The gradient of the loss is u' x with u = 2 (w x).
  void step() {
    const Tensor loss = square(linear(x, w)).sum();
    sgd.zero_grad();
    loss.backward();
    sgd.step();
  }
  // What a first step makes of an element.
  double after(int64_t i, int64_t j) const { return before(i, j) - 0.125 * gradient(i, j); }
  double gradient(int64_t i, int64_t j) const {
    double dot = 0;
    for (int64_t k = 0; k < kIn; ++k) dot += before(i, k) * x.value().at({k});
    return 2 * dot * x.value().at({j});
  }
  double before(int64_t i, int64_t j) const { return start.value().at({i, j}); }

  Tensor start;
  Tensor x;
  Parameter w;
  optim::SGD sgd;
};

// Picks column 7 of a matrix.
Tensor column_7() {
  std::vector<float> v(kIn, 0);
  v[7] = 1;
  return from_vector(v);
}

TEST(ProductPutOff, IsDoneByTheNextLinear) {
  for (const DType dtype : {kFloat32, kFloat64}) {
    Matrix m(dtype);
    m.step();
    EXPECT_TRUE(waits(m.w));
    EXPECT_EQ(m.w->value().at({5, 7}), m.before(5, 7));
    const Tensor bias = cast(randn({kOut}), dtype);
    const Tensor y = linear(m.x, m.w, bias);
    EXPECT_FALSE(waits(m.w));
    EXPECT_EQ(m.w.leaf().lazy, nullptr);
    EXPECT_NEAR(m.w->value().at({5, 7}), m.after(5, 7), 1e-3);
    // The very same as of a matrix that is up to date.
    const Tensor again = linear(m.x, m.w, bias);
    EXPECT_EQ(y.to_vector<double>(), again.to_vector<double>());
  }
}

TEST(ProductPutOff, EqualsTheStepAtOnceBitForBit) {
  for (const DType dtype : {kFloat32, kFloat64}) {
    manual_seed(3);
    Matrix waiting(dtype);
    const Parameter w{Tensor(copy(waiting.start.array()))};
    const Array held = w.leaf().value();  // who holds the elements sees each step at once
    optim::SGD sgd({w}, {.lr = 0.125});
    for (int t = 0; t < 20; ++t) {
      const Tensor x = cast(0.1 * randn({kIn}), dtype);
      const auto step = [&](const Parameter& p, optim::SGD& o) {
        const Tensor loss = square(linear(x, p) - 1).sum();
        o.zero_grad();
        loss.backward();
        o.step();
        return loss.item();
      };
      ASSERT_EQ(step(waiting.w, waiting.sgd), step(w, sgd)) << t;
      ASSERT_TRUE(waits(waiting.w));
      ASSERT_FALSE(waits(w));
    }
    EXPECT_EQ(waiting.w->to_vector<double>(), w->to_vector<double>());
  }
}

TEST(ProductPutOff, IsDoneBeforeAnyOtherRead) {
  const std::vector<std::function<double(Matrix&)>> reads = {
      [](Matrix& m) {
        return m.w->array().at({5, 7});
      },
      [](Matrix& m) { return m.w->to_vector<double>()[5 * kIn + 7]; },
      [](Matrix& m) {
        return t(m.w).value().at({7, 5});
      },
      [](Matrix& m) {
        return (m.w * 1.0).value().at({5, 7});
      },
      [](Matrix& m) { return mv(m.w, column_7()).value().at({5}); },
      [](Matrix& m) {
        return linear(unsqueeze(column_7(), 0), m.w).value().at({0, 5});
      },
      [](Matrix& m) {
        return index_select(m.w, 0, Tensor(Array::full(kInt64, {1}, 5))).value().at({0, 7});
      },
      [](Matrix& m) {
        m.sgd.catch_up();
        return m.w->value().at({5, 7});
      },
      [](Matrix& m) {
        double got = 0;
        std::thread([&] { got = linear(column_7(), m.w).value().at({5}); }).join();
        return got;
      },
  };
  for (size_t i = 0; i < reads.size(); ++i) {
    SCOPED_TRACE(i);
    Matrix m;
    m.step();
    ASSERT_TRUE(waits(m.w));
    EXPECT_NEAR(reads[i](m), m.after(5, 7), 1e-3);
    EXPECT_FALSE(waits(m.w));
  }
}

TEST(ProductPutOff, IsDoneBeforeAnyWrite) {
  {
    Matrix m;
    m.step();
    m.w.copy_from(zeros({kOut, kIn}));
    EXPECT_EQ(m.w->array().at({5, 7}), 0) << "nothing may come after";
  }
  {  // another optimiser, or other options
    Matrix m;
    m.step();
    optim::SGD decay({m.w}, {.lr = 1, .weight_decay = 1});
    decay.step();
    EXPECT_NEAR(m.w->array().at({5, 7}), m.after(5, 7) - m.after(5, 7) - m.gradient(5, 7), 1e-3);
  }
  {  // a second step on the same gradient
    Matrix m;
    m.step();
    m.sgd.step();
    EXPECT_NEAR(m.w->array().at({5, 7}), 2 * m.after(5, 7) - m.before(5, 7), 2e-3);
  }
  {
    Matrix m;
    m.step();
    m.sgd.options().momentum = 0.5;
    m.sgd.step();
    EXPECT_NEAR(m.w->array().at({5, 7}), 2 * m.after(5, 7) - m.before(5, 7), 2e-3);
  }
}

TEST(ProductPutOff, IsDoneWhenTheOptimiserGoes) {
  Matrix m;
  {
    optim::SGD sgd({m.w}, {.lr = 0.125});
    square(linear(m.x, m.w)).sum().backward();
    sgd.step();
    ASSERT_TRUE(waits(m.w));
  }
  EXPECT_FALSE(waits(m.w));
  EXPECT_NEAR(m.w->value().at({5, 7}), m.after(5, 7), 1e-3);
}

TEST(ProductPutOff, StaysWhereTheNextUseIsAnError) {
  Matrix m;
  m.step();
  EXPECT_THROW(linear(zeros({kIn + 1}), m.w), ShapeError);
  EXPECT_THROW(linear(cast(m.x, kFloat64), m.w), DTypeError);
  EXPECT_TRUE(waits(m.w));
  EXPECT_NEAR(m.w->array().at({5, 7}), m.after(5, 7), 1e-3);
}

TEST(ProductPutOff, OnlyOfLargeMatricesThatNobodyElseHolds) {
  Matrix m;
  const Tensor alias = m.w->detach();
  m.step();
  EXPECT_FALSE(waits(m.w));
  EXPECT_NEAR(alias.value().at({5, 7}), m.after(5, 7), 1e-3);

  const Parameter small{randn({8, 8})};
  optim::SGD sgd({small}, {.lr = 0.1});
  linear(ones({8}), small).sum().backward();
  sgd.step();
  EXPECT_FALSE(waits(small));
}

TEST(ProductPutOff, AWriteIsFoundOutByWhatWasSavedBefore) {
  Matrix m;
  const Tensor h = variable(m.x);
  const Tensor y = linear(h, m.w);  // saves the weight for the gradient of h
  m.step();
  EXPECT_FALSE(waits(m.w));
  EXPECT_THROW(grad(y.sum(), h), GradError);
}

TEST(ProductPutOffThread, TwoThreadsMayBeTheFirstToReadIt) {
  Matrix m;
  m.step();
  std::vector<double> got[2];
  std::thread threads[2];
  for (int i = 0; i < 2; ++i) {
    threads[i] = std::thread([&, i] { got[i] = linear(m.x, m.w).to_vector<double>(); });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(got[0], got[1]);
  EXPECT_NEAR(m.w->value().at({5, 7}), m.after(5, 7), 1e-3);
}

}  // namespace
}  // namespace ebb
