// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compare.h"

// Activations, gates and probabilities beside LibTorch: 385 configurations.
namespace ebb::beside_torch {
namespace {

Shape any_shape(Draw& draw) {
  Shape s;
  const int64_t rank = draw(0, 4);
  for (int64_t i = 0; i < rank; ++i) s.push_back(draw(1, i == rank - 1 ? 19 : 5));
  return s;
}

// An activation at random shapes, where inputs keep away from its kinks, and at the kinks, where
// there is no gradient of second order to agree on.
void compare_activation(Draw& draw, const Call& c, const std::vector<double>& kinks,
                        const testing::Call& f, const Options& options = {}) {
  const Shape shape = any_shape(draw);
  compare(c, samples({testing::uniform_away_from(shape, -4, 4, kinks)}, true), f, options);
  if (!kinks.empty()) {
    compare(c, samples({testing::tensor({static_cast<int64_t>(kinks.size())}, kinks)}, true), f,
            {.float64 = options.float64, .second_order = false});
  }
}

TEST(BesideTorch, Activations) {
  Draw draw("activation");
  const auto plain = [&](const char* op, const std::vector<double>& kinks,
                         Tensor (*f)(const Tensor&, Where), const Options& options = {}) {
    compare_activation(
        draw, {.op = op}, kinks, [f](const Tensor& x) { return f(x, Where::current()); }, options);
  };
  repeat(6, [&] {
    plain("relu", {0}, relu);
    plain("selu", {0}, selu);
    plain("silu", {}, silu);
    plain("mish", {}, mish);
    plain("sigmoid", {}, sigmoid);
    plain("tanh", {}, tanh);
    plain("logsigmoid", {}, logsigmoid);
    plain("relu6", {0, 6}, relu6);
    // In float64 LibTorch 1.13 takes float32's sixth in the gradient of this one, and cannot
    // differentiate it twice.
    plain("hardsigmoid", {-3, 3}, hardsigmoid, {.float64 = false});
    plain("hardsigmoid_formula", {-3, 3}, hardsigmoid);
    // At -3 and 3 it takes -1/2 and 3/2 for the gradient of this one, we 0 and 1, as told in
    // ops/activation.h.
    compare_activation(draw, {.op = "hardswish"}, {}, [](const Tensor& x) { return hardswish(x); });
    plain("tanhshrink", {}, tanhshrink);
    plain("softsign", {0}, softsign);
    compare_activation(draw, {.op = "gelu", .mode = "none"}, {},
                       [](const Tensor& x) { return gelu(x); });
    compare_activation(draw, {.op = "gelu", .mode = "tanh"}, {},
                       [](const Tensor& x) { return gelu(x, GeluForm::kTanh); });
  });
}

TEST(BesideTorch, ActivationsWithNumbers) {
  Draw draw("numbers");
  const auto of_one = [&](const char* op, const char* name, double low, double high,
                          Tensor (*f)(const Tensor&, double, Where)) {
    // A number that float32 holds: LibTorch's gradient of celu rounds it to that.
    const double a = static_cast<float>(draw.between(low, high));
    compare_activation(draw, {.op = op, .numbers = {{name, a}}}, {0},
                       [f, a](const Tensor& x) { return f(x, a, Where::current()); });
  };
  repeat(6, [&] {
    of_one("leaky_relu", "slope", 0.01, 0.9, leaky_relu);
    of_one("elu", "alpha", 0.2, 2, elu);
    of_one("celu", "alpha", 0.2, 2, celu);
    const double lambda = static_cast<double>(draw(1, 6)) / 4;
    compare_activation(draw, {.op = "softshrink", .numbers = {{"lambda", lambda}}},
                       {-lambda, lambda}, [&](const Tensor& x) { return softshrink(x, lambda); });
    compare_activation(draw, {.op = "hardshrink", .numbers = {{"lambda", lambda}}},
                       {-lambda, lambda}, [&](const Tensor& x) { return hardshrink(x, lambda); });
    const double beta = draw.between(0.3, 3);
    compare_activation(draw, {.op = "softplus", .numbers = {{"beta", beta}, {"threshold", 4}}}, {},
                       [&](const Tensor& x) { return softplus(x, beta, 4); });
    const double low = static_cast<double>(draw(-8, 0)) / 4;
    const double high = low + static_cast<double>(draw(1, 8)) / 4;
    compare_activation(draw, {.op = "hardtanh", .numbers = {{"low", low}, {"high", high}}},
                       {low, high}, [&](const Tensor& x) { return hardtanh(x, low, high); });
    compare_activation(draw, {.op = "clamp", .numbers = {{"low", low}, {"high", high}}},
                       {low, high}, [&](const Tensor& x) { return clamp(x, low, high); });
    compare_activation(draw, {.op = "threshold", .numbers = {{"threshold", low}, {"value", high}}},
                       {low}, [&](const Tensor& x) { return threshold(x, low, high); });
    const double lower = draw.between(0, 0.3);
    const double upper = lower + draw.between(0, 0.5);
    compare_activation(draw, {.op = "rrelu", .numbers = {{"lower", lower}, {"upper", upper}}}, {0},
                       [&](const Tensor& x) { return rrelu(x, lower, upper); });
  });
}

// LibTorch's channels are the second axis.
TEST(BesideTorch, PReLU) {
  Draw draw("prelu");
  repeat(25, [&] {
    const int dims = static_cast<int>(draw(0, 3));
    const bool batched = draw.coin();
    const int64_t channels = draw(1, 5);
    const Shape shape = sample_shape(draw, dims, batched, channels, 1, 6);
    std::vector<In> in = samples({testing::uniform_away_from(shape, -2, 2, {0}),
                                  testing::normal({draw.coin() ? channels : 1})},
                                 true);
    if (!batched) in[0].batch_axis = 0;
    compare({.op = "prelu"}, in,
            [&](const Tensor& x, const Tensor& w) { return prelu(x, w, -1 - dims); });
  });
}

TEST(BesideTorch, Gates) {
  Draw draw("gates");
  repeat(12, [&] {
    Shape shape = any_shape(draw);
    if (shape.rank() == 0) shape.push_back(draw(1, 9));
    const int64_t axis = -draw(1, shape.rank());
    const int at = shape.rank() + static_cast<int>(axis);
    Call c{.op = "glu", .numbers = {{"axis", axis}, {"pieces", draw(1, 4)}}};
    const int64_t pieces = c.integer("pieces");
    const int64_t n = shape[at];
    shape[at] = n * pieces;
    c.op = "maxout";
    compare(c, samples({testing::distinct(shape)}, true),
            [&](const Tensor& x) { return maxout(x, pieces, axis); });
    shape[at] = 2 * n;
    const auto gate = [&](const char* op, Tensor (*f)(const Tensor&, int64_t, Where)) {
      c.op = op;
      compare(c, samples({testing::uniform_away_from(shape, -3, 3, {0})}, true),
              [&](const Tensor& x) { return f(x, axis, Where::current()); });
    };
    gate("glu", glu);
    gate("reglu", reglu);
    gate("geglu", geglu);
    gate("swiglu", swiglu);
  });
}

TEST(BesideTorch, Probabilities) {
  Draw draw("softmax");
  repeat(15, [&] {
    Shape shape = any_shape(draw);
    if (shape.rank() == 0) shape.push_back(draw(1, 70));
    const int64_t axis = draw(-shape.rank(), shape.rank() - 1);
    const double scale = draw.coin() ? 1 : 30;
    const Tensor x = (testing::normal(shape) * scale).to(kFloat32).to(kFloat64);
    const auto over = [&](const char* op, Tensor (*f)(const Tensor&, int64_t, Where)) {
      compare({.op = op, .numbers = {{"axis", axis}}}, samples({x}, true),
              [&](const Tensor& t) { return f(t, axis, Where::current()); });
    };
    over("softmax", softmax);
    over("log_softmax", log_softmax);
    over("softmin", softmin);

    // The noise that gumbel_softmax draws, drawn before; in one type, as another draws others.
    const double tau = draw.between(0.4, 2);
    const bool hard = draw.coin();
    Generator ours(11, "gumbel");
    Generator theirs = ours;
    const Tensor noise = gumbel(shape, {.dtype = kFloat64}, theirs);
    compare(
        {.op = "gumbel_softmax", .numbers = {{"axis", axis}, {"tau", tau}, {"hard", hard ? 1 : 0}}},
        {In(testing::normal(shape)), fixed(noise)},
        [&](const Tensor& t, const Tensor&) {
          Generator again = ours;
          return gumbel_softmax(t, tau, hard, axis, again);
        },
        {.float32 = false});
  });
}

}  // namespace
}  // namespace ebb::beside_torch
