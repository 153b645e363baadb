// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/tree_lstm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

using Vector = std::vector<double>;

Vector doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

void expect_near(const Vector& got, const Vector& want, double tolerance = 1e-12) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << i;
}

// Row i of w times x.
double dot_row(const Vector& w, size_t row, const Vector& x) {
  double s = 0;
  for (size_t j = 0; j < x.size(); ++j) s += w[row * x.size() + j] * x[j];
  return s;
}

struct Plain {
  Vector h, c;
};

Plain plain_binary(const nn::BinaryTreeLSTMCell& cell, const Vector& x, const Plain* left,
                   const Plain* right) {
  const auto n = static_cast<size_t>(cell.weight_hh.size(1)) / 2;
  const Vector w = doubles(cell.weight_ih);
  const Vector u = doubles(cell.weight_hh);
  const Vector bi = cell.bias_ih.defined() ? doubles(cell.bias_ih) : Vector(4 * n);
  const Vector bh = cell.bias_hh.defined() ? doubles(cell.bias_hh) : Vector(5 * n);
  Vector joined;
  if (left != nullptr) {
    joined = left->h;
    joined.insert(joined.end(), right->h.begin(), right->h.end());
  }
  Plain s{Vector(n), Vector(n)};
  for (size_t i = 0; i < n; ++i) {
    const auto word = [&](size_t block) {
      return x.empty() ? 0 : dot_row(w, block * n + i, x) + bi[block * n + i];
    };
    const auto children = [&](size_t block) {
      return left == nullptr ? 0 : dot_row(u, block * n + i, joined) + bh[block * n + i];
    };
    s.c[i] = sigmoid_of(word(0) + children(0)) * std::tanh(word(2) + children(3));
    if (left != nullptr) {
      s.c[i] += sigmoid_of(word(1) + children(1)) * left->c[i] +
                sigmoid_of(word(1) + children(2)) * right->c[i];
    }
    s.h[i] = sigmoid_of(word(3) + children(4)) * std::tanh(s.c[i]);
  }
  return s;
}

TEST(BinaryTreeLSTMCell, IsThePlainRecursion) {
  for (const bool bias : {true, false}) {
    nn::BinaryTreeLSTMCell cell(3, 4, {.bias = bias});
    cell.to(kFloat64);
    const Tensor x = testing::normal({3, 3});
    const nn::LSTMState a = cell.leaf(x[0]);
    const nn::LSTMState b = cell.leaf(x[1]);
    const nn::LSTMState ab = cell(a, b);
    const nn::LSTMState top = cell(x[2], ab, a);
    const Plain pa = plain_binary(cell, doubles(x[0]), nullptr, nullptr);
    const Plain pb = plain_binary(cell, doubles(x[1]), nullptr, nullptr);
    const Plain pab = plain_binary(cell, {}, &pa, &pb);
    const Plain ptop = plain_binary(cell, doubles(x[2]), &pab, &pa);
    expect_near(doubles(a.h), pa.h);
    expect_near(doubles(b.c), pb.c);
    expect_near(doubles(ab.h), pab.h);
    expect_near(doubles(top.h), ptop.h);
    expect_near(doubles(top.c), ptop.c);
  }
}

TEST(ChildSumTreeLSTMCell, IsThePlainRecursion) {
  for (const bool bias : {true, false}) {
    nn::ChildSumTreeLSTMCell cell(3, 4, {.bias = bias});
    cell.to(kFloat64);
    const Tensor x = testing::normal({3});
    const std::vector<nn::LSTMState> children = {
        cell.leaf(testing::normal({3})), cell.leaf(testing::normal({3})),
        cell(testing::normal({3}), {{cell.leaf(testing::normal({3}))}})};
    const nn::LSTMState s = cell(x, children);
    const size_t n = 4;
    const Vector w = doubles(cell.weight_ih);
    const Vector u = doubles(cell.weight_hh);
    const Vector b = bias ? doubles(cell.bias) : Vector(4 * n);
    Vector total(n);
    for (const auto& child : children) {
      for (size_t i = 0; i < n; ++i) total[i] += doubles(child.h)[i];
    }
    for (size_t i = 0; i < n; ++i) {
      const auto arg = [&](size_t block, const Vector& h) {
        return dot_row(w, block * n + i, doubles(x)) + dot_row(u, block * n + i, h) +
               b[block * n + i];
      };
      double c = sigmoid_of(arg(0, total)) * std::tanh(arg(2, total));
      for (const auto& child : children) {
        c += sigmoid_of(arg(1, doubles(child.h))) * doubles(child.c)[i];
      }
      EXPECT_NEAR(doubles(s.c)[i], c, 1e-12);
      EXPECT_NEAR(doubles(s.h)[i], sigmoid_of(arg(3, total)) * std::tanh(c), 1e-12);
    }
  }
}

// Differences along a direction, of the value and of the gradient's square.
template <class F>
void check_gradients(const nn::Module& m, const F& loss) {
  for (const auto& [name, p] : m.named_parameters()) {
    SCOPED_TRACE(name);
    const Tensor v(testing::normal(p.shape()));
    const Tensor start = p.tensor().detach() * 1.0;
    const auto slope = [&, &parameter = p] {
      return square(grad(loss(), parameter, {.create_graph = true})).sum();
    };
    const auto derivative = [&, &parameter = p](const auto& value) {
      constexpr double kStep = 1e-6;
      parameter.copy_from(start + kStep * v);
      const double above = value().item();
      parameter.copy_from(start - kStep * v);
      const double below = value().item();
      parameter.copy_from(start);
      return (above - below) / (2 * kStep);
    };
    const double first = (grad(loss(), p) * v).sum().item();
    EXPECT_NEAR(first, derivative(loss), 1e-6 * std::max(1.0, std::abs(first)));
    const double second = (grad(slope(), p) * v).sum().item();
    EXPECT_NEAR(second, derivative(slope), 1e-5 * std::max(1.0, std::abs(second)));
  }
}

TEST(TreeCells, HaveGradientsOfBothOrders) {
  const Tensor x = testing::normal({4, 2});
  nn::BinaryTreeLSTMCell binary(2, 3);
  binary.to(kFloat64);
  check_gradients(binary, [&] {
    const nn::LSTMState inner = binary(binary.leaf(x[0]), binary.leaf(x[1]));
    const nn::LSTMState top = binary(x[3], inner, binary.leaf(x[2]));
    return square(top.h).sum() + top.c.sum();
  });
  nn::ChildSumTreeLSTMCell sum(2, 3);
  sum.to(kFloat64);
  check_gradients(sum, [&] {
    const nn::LSTMState children[] = {sum.leaf(x[0]), sum.leaf(x[1]), sum.leaf(x[2])};
    const nn::LSTMState top = sum(x[3], children);
    return square(top.h).sum() + top.c.sum();
  });
}

TEST(TreeCells, TakeBatches) {
  nn::BinaryTreeLSTMCell binary(3, 4);
  nn::ChildSumTreeLSTMCell sum(3, 4);
  const Tensor x = randn({2, 3});
  const Tensor y = randn({2, 3});
  const nn::LSTMState a = binary(binary.leaf(x), binary.leaf(y));
  const nn::LSTMState b = sum(y, {{sum.leaf(x), sum.leaf(y)}});
  for (int64_t i = 0; i < 2; ++i) {
    expect_near(doubles(a.h[i]), doubles(binary(binary.leaf(x[i]), binary.leaf(y[i])).h), 1e-6);
    expect_near(doubles(b.h[i]), doubles(sum(y[i], {{sum.leaf(x[i]), sum.leaf(y[i])}}).h), 1e-6);
  }
}

TEST(TreeCells, CloneAndConvert) {
  nn::BinaryTreeLSTMCell binary(3, 4, {.bias = false});
  binary.to(kFloat64);
  const auto copy = binary.clone();
  const Tensor x = testing::normal({3});
  const auto& same = static_cast<const nn::BinaryTreeLSTMCell&>(*copy);
  EXPECT_EQ(doubles(same.leaf(x).h), doubles(binary.leaf(x).h));
  const nn::ChildSumTreeLSTMCell sum(3, 4);
  EXPECT_EQ(sum.clone()->state_dict().size(), 3u);
  EXPECT_EQ(copy->parameters().size(), 2u);
  EXPECT_THROW(nn::BinaryTreeLSTMCell(3, 0), ValueError);
  EXPECT_THROW(nn::ChildSumTreeLSTMCell(0, 3), ValueError);
  EXPECT_THROW(sum(Tensor(), {}), ValueError);
  EXPECT_THROW(sum(randn({4}), {}), ShapeError);
}

// Weights large enough that a playback computes products with them together.
TEST(BinaryTreeLSTMCell, GatheredProductsOfATree) {
  constexpr int64_t kIn = 40;
  constexpr int64_t kHidden = 64;
  nn::BinaryTreeLSTMCell cell(kIn, kHidden);
  cell.to(kFloat64);
  const Tensor words = variable(testing::normal({9, kIn}));
  const auto gradients = [&](bool gather, bool words_inside) {
    const GatherGuard guard(gather);
    std::vector<nn::LSTMState> open;
    for (int64_t i = 0; i < 9; ++i) open.push_back(cell.leaf(words[i]));
    Tensor loss;
    for (size_t at = 0; open.size() - at > 1; at += 2) {  // a queue makes a balanced tree
      open.push_back(words_inside
                         ? cell(words[static_cast<int64_t>(at / 2)], open[at], open[at + 1])
                         : cell(open[at], open[at + 1]));
      const Tensor term = square(open.back().h).sum();
      loss = loss.defined() ? loss + term : term;
    }
    loss.backward();
    Vector all = doubles(words.grad());
    words.zero_grad();
    for (const Parameter& p : cell.parameters()) {
      const Vector g = doubles(p.grad());
      all.insert(all.end(), g.begin(), g.end());
      p.zero_grad();
    }
    return all;
  };
  for (const bool inside : {false, true}) {
    const Vector got = gradients(true, inside);
    expect_near(got, gradients(false, inside));
    EXPECT_EQ(got, gradients(true, inside));
  }
}

}  // namespace
}  // namespace ebb
