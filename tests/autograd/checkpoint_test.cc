// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "ebb/autograd/gradcheck.h"
#include "ebb/core/random.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Same value and same gradients by every input, with and without a graph, as without checkpoint.
template <class F>
void expect_same(F&& f, const std::vector<Tensor>& inputs) {
  const auto plain = [&](Span<const Tensor> x) { return f(x); };
  const auto kept = [&](Span<const Tensor> x) {
    return checkpoint([&](Span<const Tensor> z) { return f(z); }, x);
  };
  for (const bool create_graph : {false, true}) {
    const ValueAndGradients want = value_and_grad(plain, {.create_graph = create_graph})(inputs);
    const ValueAndGradients got = value_and_grad(kept, {.create_graph = create_graph})(inputs);
    EXPECT_EQ(got.value.item(), want.value.item());
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(got.gradient[i].to_vector<double>(), want.gradient[i].to_vector<double>())
          << "input " << i << ", create_graph " << create_graph;
    }
  }
  gradcheck(kept, inputs);
  gradgradcheck(kept, inputs);
}

TEST(Checkpoint, EqualsThePlainFunction) {
  expect_same([](Span<const Tensor> x) { return (exp(x[0]) * x[1] * x[1]).sum(); },
              {of({0.5, -1, 2}), of({1, 2, 3})});
}

TEST(Checkpoint, RecordsOneNode) {
  const Tensor x = variable(of({1, 2}));
  int calls = 0;
  const auto f = [&calls](const Tensor& z) {
    ++calls;
    return exp(z * z) * z;
  };
  const Tensor y = checkpoint(f, x);
  EXPECT_EQ(calls, 1);
  EXPECT_STREQ(y.edge().node()->def->doc.name, "checkpoint");
  EXPECT_EQ(y.edge().node()->edges()[0], x.edge());
  EXPECT_EQ(y.to_vector<double>(), f(x).to_vector<double>());
  grad(y.sum(), x);
  EXPECT_EQ(calls, 3);
}

TEST(Checkpoint, WithoutAGradientItIsACall) {
  const Tensor x = variable(of({1, 2}));
  EXPECT_FALSE(checkpoint([](const Tensor& z) { return z * 2; }, of({1})).requires_grad());
  EXPECT_FALSE(checkpoint([](const Tensor& z) { return z.detach(); }, x).requires_grad());
  const NoGradGuard off;
  EXPECT_FALSE(checkpoint([](const Tensor& z) { return z * 2; }, x).requires_grad());
}

TEST(Checkpoint, CapturedParametersGetTheirGradients) {
  const Parameter w(of({2, 3}));
  const Parameter b(of({1, 1}));
  const Tensor x = variable(of({5, 7}));
  const auto f = [w, b](const Tensor& z) { return (w * z + b) * w; };
  const Tensor y = checkpoint(f, x).sum();
  y.backward(true);
  EXPECT_THAT(w.grad().to_vector<double>(), ElementsAre(2 * 2 * 5 + 1, 2 * 3 * 7 + 1));
  EXPECT_THAT(b.grad().to_vector<double>(), ElementsAre(2, 3));
  EXPECT_THAT(x.grad().to_vector<double>(), ElementsAre(4, 9));
  EXPECT_THAT(grad(y, w, {.retain_graph = true}).to_vector<double>(), ElementsAre(21, 43));
  const Tensor g = grad(y, w, {.create_graph = true});
  EXPECT_THAT(grad(g.sum(), w).to_vector<double>(), ElementsAre(10, 14));
}

TEST(Checkpoint, CapturedResultsGetTheirGradients) {
  const Tensor x = variable(of({2}));
  const Tensor h = x * x;  // 4, captured
  const Tensor k = h * x;  // 8, captured too, and itself a function of h
  const auto f = [h, k](const Tensor& z) { return h * k * z; };
  const Tensor y = checkpoint(f, x);  // x^6
  const Tensor wanted[] = {x, h, k};
  const auto g = grad({{y}}, wanted, {.retain_graph = true});
  EXPECT_DOUBLE_EQ(g[0].item(), 6 * 32);
  // By h directly and through k, and by k: as without a checkpoint.
  EXPECT_DOUBLE_EQ(g[1].item(), 8 * 2 + 4 * 2 * 2);
  EXPECT_DOUBLE_EQ(g[2].item(), 4 * 2);
  const Tensor second = grad(y, x, {.create_graph = true});
  EXPECT_DOUBLE_EQ(second.item(), 6 * 32);
  EXPECT_DOUBLE_EQ(grad(second, x).item(), 30 * 16);
}

TEST(Checkpoint, TheInputCapturedAsWell) {
  const Tensor x = variable(of({3}));
  const Tensor y = checkpoint([x](const Tensor& z) { return z * z * x; }, x);
  EXPECT_DOUBLE_EQ(grad(y, x, {.retain_graph = true}).item(), 27);
  const Tensor g = grad(y, x, {.create_graph = true});
  EXPECT_DOUBLE_EQ(grad(g, x).item(), 18);
}

TEST(Checkpoint, HooksOnCapturedTensorsRunOnce) {
  const Tensor x = variable(of({3}));
  const Tensor h = x * x;
  std::vector<double> seen;
  h.register_hook([&](const Tensor& g) {
    seen.push_back(g.item());
    return Tensor();
  });
  const Tensor y = checkpoint([h](const Tensor& z) { return h * z; }, x) + h;
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 3 * 9 + 6);
  EXPECT_THAT(seen, ElementsAre(4));
}

TEST(Checkpoint, SeveralInputsAndOutputs) {
  const Tensor a = variable(of({2}));
  const Tensor b = variable(of({5}));
  const Tensor constant = of({10});
  const auto [sum, product] =
      checkpoint([](const Tensor& x, const Tensor& y,
                    const Tensor& c) { return std::pair(x + y + c, x * y * c); },
                 a, b, constant);
  EXPECT_DOUBLE_EQ(sum.item(), 17);
  EXPECT_DOUBLE_EQ(product.item(), 100);
  EXPECT_EQ(sum.edge().node(), product.edge().node());
  EXPECT_DOUBLE_EQ(grad(product, a, {.retain_graph = true}).item(), 50);
  EXPECT_DOUBLE_EQ(grad(sum, a, {.retain_graph = true}).item(), 1);
  EXPECT_DOUBLE_EQ(grad(sum * product, b).item(), 100 + 17 * 20);
}

TEST(Checkpoint, OutputsWithoutAGradientOrStraightFromTheInput) {
  const Tensor x = variable(of({2}));
  const std::vector<Tensor> y = checkpoint(
      [](const Tensor& z) {
        return std::vector<Tensor>{z, of({1}), Tensor(Array::zeros(kInt64, {3})), z * z};
      },
      x);
  EXPECT_FALSE(y[1].requires_grad());
  EXPECT_FALSE(y[2].requires_grad());
  EXPECT_DOUBLE_EQ(grad(y[0] * y[3], x).item(), 12);
}

TEST(Checkpoint, NoInputs) {
  const Parameter w(of({3}));
  const Tensor y = checkpoint([w](Span<const Tensor>) { return w * w; }, Span<const Tensor>());
  EXPECT_DOUBLE_EQ(grad(y, w).item(), 6);
}

TEST(Checkpoint, Nested) {
  const Parameter w(of({3}));
  const auto inner = [w](const Tensor& z) { return exp(z) * w; };
  const auto outer = [w, inner](const Tensor& z) {
    return checkpoint(inner, z * w) * z + checkpoint(inner, z);
  };
  const Tensor x = variable(of({0.5}));
  const auto all = [&](const auto& f) {
    const Tensor y = f(x);
    const Tensor wanted[] = {x, w};
    const auto g = grad({{y}}, wanted, {.create_graph = true});
    return std::vector<double>{y.item(),
                               g[0].item(),
                               g[1].item(),
                               grad(g[0], w, {.retain_graph = true}).item(),
                               grad(g[1], w, {.retain_graph = true}).item(),
                               grad(g[0], x).item()};
  };
  const auto plain = [&](const Tensor& z) { return inner(z * w) * z + inner(z); };
  const auto want = all(plain);
  const auto got = all([&](const Tensor& z) { return checkpoint(outer, z); });
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12 * std::abs(want[i]));
}

TEST(Checkpoint, GradInside) {
  // The inner gradient is part of what is computed again.
  const auto f = [](const Tensor& z) {
    const Tensor v = variable(z);  // a leaf of f's own
    const Tensor slope = grad(v * v * v, v, {.create_graph = true});
    return slope * z + grad(z * z, z, {.create_graph = true});
  };
  const Tensor x = variable(of({2}));
  const Tensor y = checkpoint(f, x);
  EXPECT_DOUBLE_EQ(y.item(), 12 * 2 + 4);
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 12 + 2);
}

TEST(Checkpoint, InsideARuleThatAsksForGrad) {
  const Tensor x = variable(of({2}));
  const Tensor y = apply<test::InnerGradient>(
      checkpoint([](const Tensor& z) { return apply<test::InnerGradient>(z); }, x));  // 3 (3 x^2)^2
  EXPECT_DOUBLE_EQ(y.item(), 3 * 144);
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 108 * 8);
}

TEST(Checkpoint, RandomNumbersAreDrawnAgain) {
  manual_seed(7);
  std::vector<double> drawn;
  const auto f = [&drawn](const Tensor& z) {
    drawn.push_back(default_generator().normal());
    return z * drawn.back();
  };
  const Tensor x = variable(of({1}));
  const Tensor y = checkpoint(f, x);
  const double after_forward = default_generator().normal();
  const auto state = default_generator().state();
  const double g = grad(y, x).item();
  ASSERT_EQ(drawn.size(), 2u);
  EXPECT_EQ(drawn[0], drawn[1]);
  EXPECT_EQ(g, drawn[0]);
  EXPECT_EQ(default_generator().state(), state) << "playback draws no numbers of its own";
  EXPECT_NE(after_forward, drawn[0]);
}

TEST(Checkpoint, MemoryDrops) {
  constexpr int64_t kSize = 1 << 14;
  constexpr int kSegments = 16;
  constexpr int kOps = 16;  // each saves an array of kSize doubles
  const auto segment = [](const Tensor& z) {
    Tensor y = z;
    for (int i = 0; i < kOps; ++i) y = exp(y * -1);
    return y;
  };
  const auto peak = [&](bool keep) {
    const Tensor x = variable(Tensor(Array::full(kFloat64, {kSize}, 0.5)));
    const int64_t before = memory_stats().live_bytes;
    reset_peak_memory();
    Tensor y = x;
    for (int i = 0; i < kSegments; ++i) y = keep ? checkpoint(segment, y) : segment(y);
    const int64_t recorded = memory_stats().live_bytes - before;
    const double g = grad(y.sum(), x).to_vector<double>()[0];
    const int64_t all = memory_stats().peak_bytes - before;
    return std::tuple(recorded, all, g);
  };
  const auto [plain_recorded, plain_peak, plain_gradient] = peak(false);
  const auto [kept_recorded, kept_peak, kept_gradient] = peak(true);
  EXPECT_EQ(kept_gradient, plain_gradient);
  constexpr int64_t kArray = kSize * sizeof(double);
  EXPECT_GT(plain_recorded, kSegments * kOps * kArray);
  EXPECT_LT(kept_recorded, (kSegments + 5) * kArray);
  EXPECT_LT(kept_peak, (kSegments + kOps + 12) * kArray);
  EXPECT_LT(kept_peak * 4, plain_peak);
}

TEST(Checkpoint, KeepsTheStructureOfGradients) {
  const Parameter table(Tensor(Array::zeros(kFloat32, {1000, 4})));
  const Tensor ids(Array::of<int64_t>({2}, std::vector<int64_t>{3, 999}));
  const Tensor x = variable(Tensor(Array::full(kFloat32, {2, 4}, 2)));
  const auto f = [table, ids](const Tensor& z) { return index_select(table, 0, ids) * z; };
  checkpoint(f, x).sum().backward();
  EXPECT_FALSE(table.leaf().grad.is_dense());
  EXPECT_EQ(table.leaf().grad.row_parts().size(), 1u);
  EXPECT_EQ(table.grad().sum().item(), 16);
}

TEST(Checkpoint, ChainsOfCapturesAreFreedInALoop) {
  constexpr int kLong = 200'000;
  const int64_t before = memory_stats().live_bytes;
  {
    const Tensor x = variable(of({1}));
    Tensor y = x;
    for (int i = 0; i < kLong; ++i) {
      y = checkpoint([y](const Tensor& z) { return y + z; }, x);
    }
    EXPECT_DOUBLE_EQ(y.item(), kLong + 1);
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
}

std::string playback_message(const Tensor& y, const Tensor& x) {
  try {
    grad(y, x);
  } catch (const GradError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Checkpoint, SecondRunMustDoTheSame) {
  const Tensor x = variable(of({1, 2}));
  const Tensor h = x * 2;
  const Tensor other = x * 3;
  int calls = 0;
  const auto shape = [&calls](const Tensor& z) { return ++calls % 2 != 0 ? z : z[0]; };
  EXPECT_THAT(playback_message(checkpoint(shape, x).sum(), x), HasSubstr("checkpoint called at "));
  EXPECT_THAT(playback_message(checkpoint(shape, x).sum(), x),
              HasSubstr("the second run of the function gave float64[], the first float64[2]"));
  const auto reads = [&calls, h, other](const Tensor& z) {
    return ++calls % 2 != 0 ? z * h : z * other;
  };
  EXPECT_THAT(playback_message(checkpoint(reads, x).sum(), x),
              HasSubstr("read a result of affine that the first did not"));
  const auto less = [&calls, h](const Tensor& z) { return ++calls % 2 != 0 ? z * h : z * 2; };
  EXPECT_THAT(playback_message(checkpoint(less, x).sum(), x),
              HasSubstr("did not read a affine that the first did"));
}

TEST(Checkpoint, OverwrittenInputOrParameter) {
  const Parameter w(of({2}));
  const Parameter x(of({3}));
  const auto f = [w](const Tensor& z) { return w * z; };
  const Tensor y = checkpoint(f, x);
  w.copy_from(of({5}));
  EXPECT_THAT(playback_message(y, x), HasSubstr("checkpoint called at "));
  const Tensor again = checkpoint(f, x);
  x.copy_from(of({5}));
  EXPECT_THAT(playback_message(again, w), HasSubstr("was overwritten"));
}

TEST(Checkpoint, AnExceptionPassesThrough) {
  const Tensor x = variable(of({1}));
  int calls = 0;
  const auto f = [&calls](const Tensor& z) {
    if (++calls == 2) throw NumericError("the second time");
    return z * 2;
  };
  const Tensor y = checkpoint(f, x);
  const auto state = default_generator().state();
  EXPECT_THROW(grad(y, x, {.retain_graph = true}), NumericError);
  EXPECT_EQ(default_generator().state(), state);
  EXPECT_TRUE(is_grad_enabled());
  EXPECT_EQ(detail::tls_tape.depth, 0);
  EXPECT_DOUBLE_EQ(grad(y, x).item(), 2);
}

TEST(Checkpoint, PlayedBackOnAnotherThread) {
  manual_seed(3);
  const Parameter w(of({2}));
  const Tensor x = variable(of({3}));
  const Tensor h = x * w;
  const auto f = [w, h](const Tensor& z) { return z * h * w * default_generator().normal(); };
  const Tensor y = checkpoint(f, x);  // c x^2 w^2
  const double c = y.item() / 36;
  double gx = 0;
  double gw = 0;
  std::thread([&] {
    const Tensor wanted[] = {x, w};
    const auto g = grad({{y}}, wanted);
    gx = g[0].item();
    gw = g[1].item();
  }).join();
  EXPECT_NEAR(gx, c * 2 * 3 * 4, 1e-12 * std::abs(gx));
  EXPECT_NEAR(gw, c * 9 * 2 * 2, 1e-12 * std::abs(gw));
}

}  // namespace
}  // namespace ebb
