// SPDX-License-Identifier: Apache-2.0
// Kernels that a network computes: Jia, De Brabandere, Tuytelaars, Van Gool, "Dynamic filter
// networks", 2016; Ha, Dai, Le, "HyperNetworks", 2017.
#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

using testing::normal;

struct Hyper : nn::Module {
  nn::Linear hidden{*this, "hidden", 3, 8};
  nn::Linear kernel{*this, "kernel", 8, 2 * 1 * 3 * 3};
  Tensor weight(const Tensor& z) const { return reshape(kernel(tanh(hidden(z))), {2, 1, 3, 3}); }
  Tensor operator()(const Tensor& x, const Tensor& z) const {
    return conv2d(x, weight(z), {}, {.padding = 1});
  }
};

void expect_close(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  const auto x = a.to_vector<double>();
  const auto y = b.to_vector<double>();
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-11) << i;
}

TEST(DynamicFilter, IsDifferentiableTwiceThroughTheNetworkThatMakesIt) {
  Hyper hyper;
  hyper.to(kFloat64);
  const auto f = [&](Span<const Tensor> in) { return std::vector<Tensor>{hyper(in[0], in[1])}; };
  const std::vector<Tensor> inputs = {normal({1, 4, 4}), normal({3})};
  gradcheck(f, inputs);
  gradgradcheck(f, inputs);

  // By what the network has learned: against a difference of the gradient along v.
  const Parameter& w = hyper.hidden.weight;
  const auto slope = [&](bool graph) {
    const Tensor y = square(hyper(inputs[0], inputs[1])).sum();
    return grad(y, w, {.create_graph = graph});
  };
  const Tensor v = normal(w.shape());
  const Tensor second = grad((slope(true) * v).sum(), w);
  const Tensor start = w.tensor().detach() * 1.0;
  constexpr double kStep = 1e-6;
  w.copy_from(start + kStep * v);
  const Tensor above = slope(false);
  w.copy_from(start - kStep * v);
  const Tensor below = slope(false);
  const auto a = second.to_vector<double>();
  const auto b = ((above - below) / (2 * kStep)).to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_NEAR(a[i], b[i], 1e-6 * std::max(1.0, std::abs(b[i])));
}

// A batch in which each sample has kernels of its own is one convolution in as many groups.
TEST(DynamicFilter, OfABatchIsAGroupedConvolution) {
  const int64_t n = 3;
  const Tensor x = variable(normal({n, 2, 5, 6}));
  const Tensor w = variable(normal({n, 4, 2, 3, 3}));
  const Tensor v = normal({n, 4, 5, 6});
  const Tensor y = reshape(conv2d(reshape(x, {n * 2, 5, 6}), reshape(w, {n * 4, 2, 3, 3}), {},
                                  {.padding = 1, .groups = n}),
                           {n, 4, 5, 6});
  TensorList each;
  for (int64_t i = 0; i < n; ++i) each.push_back(conv2d(x[i], w[i], {}, {.padding = 1}));
  const Tensor want = stack(each);
  expect_close(y, want);
  const auto got = grad({y}, {x, w}, {}, {v});
  const auto expected = grad({want}, {x, w}, {}, {v});
  expect_close(got[0], expected[0]);
  expect_close(got[1], expected[1]);
}

}  // namespace
}  // namespace ebb
