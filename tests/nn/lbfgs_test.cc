// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/lbfgs.h"

#include <gtest/gtest.h>

#include "ebb/tests/nn/optim_reference.h"

namespace ebb {
namespace {

using optim_testing::gradient;
using optim_testing::parameter;
using optim_testing::rosenbrock;
using optim_testing::rosenbrock_gradient;
using optim_testing::set_gradient;

double run_lbfgs(const std::vector<double>& start, const optim::LBFGSOptions& options, int calls,
                 int64_t* evaluations) {
  const Parameter p = parameter(start);
  optim::LBFGS lbfgs({p}, options);
  for (int i = 0; i < calls; ++i) {
    lbfgs.step([&] {
      lbfgs.zero_grad();
      const auto x = p->to_vector<double>();
      set_gradient(p, gradient(rosenbrock_gradient(x)));
      return rosenbrock(x);
    });
  }
  *evaluations = lbfgs.evaluations();
  return rosenbrock(p->to_vector<double>());
}

// From the classic start (-1.2, 1) the method is known to need some 35 to 45 iterations and about
// 50 evaluations to reach the minimum to full precision (Liu and Nocedal 1989 give 45 evaluations
// with 5 pairs for its extended form).
TEST(Lbfgs, SolvesRosenbrockFromTheClassicStart) {
  int64_t evaluations = 0;
  const double loss = run_lbfgs({-1.2, 1},
                                {.max_iter = 60,
                                 .tolerance_change = 1e-16,
                                 .history_size = 10,
                                 .line_search = optim::LineSearch::kStrongWolfe},
                                1, &evaluations);
  EXPECT_LT(loss, 1e-15);
  EXPECT_LE(evaluations, 60);
}

TEST(Lbfgs, SolvesRosenbrockInTwentyDimensions) {
  std::vector<double> start;
  for (int i = 0; i < 10; ++i) {
    start.push_back(-1.2);
    start.push_back(1);
  }
  int64_t evaluations = 0;
  const double loss = run_lbfgs(
      start,
      {.max_iter = 20, .tolerance_change = 1e-14, .line_search = optim::LineSearch::kStrongWolfe},
      20, &evaluations);
  EXPECT_LT(loss, 1e-10);
  EXPECT_LE(evaluations, 400);
}

TEST(Lbfgs, SolvesAQuadraticWithoutLineSearch) {
  const Parameter p = parameter({5, -3, 2}, kFloat32);
  optim::LBFGS lbfgs({p}, {.lr = 1, .max_iter = 30});
  const auto loss = lbfgs.step([&] {
    const auto x = p->to_vector<double>();
    std::vector<double> g(3);
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) {
      const double k = static_cast<double>(i + 1);
      g[i] = k * (x[i] - 1);
      sum += 0.5 * k * (x[i] - 1) * (x[i] - 1);
    }
    set_gradient(p, gradient(g, kFloat32));
    return sum;
  });
  EXPECT_DOUBLE_EQ(loss, 0.5 * (16 + 2 * 16 + 3));
  for (const double x : p->to_vector<double>()) EXPECT_NEAR(x, 1, 1e-5);
}

TEST(Lbfgs, GoesOnFromSavedState) {
  const optim::LBFGSOptions options{
      .max_iter = 5, .history_size = 4, .line_search = optim::LineSearch::kStrongWolfe};
  const auto closure = [](const Parameter& p) {
    return [p] {
      const auto x = p->to_vector<double>();
      set_gradient(p, gradient(rosenbrock_gradient(x)));
      return rosenbrock(x);
    };
  };
  const Parameter p = parameter({-1.2, 1, 0.5});
  optim::LBFGS first({p}, options);
  first.step(closure(p));
  first.step(closure(p));
  const Parameter q = parameter(p->to_vector<double>());
  optim::LBFGS second({q}, options);
  nn::StateDict state = first.state_dict();
  second.load_state_dict(state);
  first.step(closure(p));
  second.step(closure(q));
  const auto a = p->to_vector<double>();
  const auto b = q->to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-9);

  state.erase("scale");
  EXPECT_THROW(second.load_state_dict(state), ValueError);
  EXPECT_THROW(optim::LBFGS({parameter({1, 2})}).load_state_dict(first.state_dict()), ShapeError);
}

TEST(Lbfgs, GoesBackWhereTheClosureThrows) {
  const Parameter p = parameter({-1.2, 1});
  optim::LBFGS lbfgs({p}, {.line_search = optim::LineSearch::kStrongWolfe});
  int calls = 0;
  EXPECT_THROW(lbfgs.step([&]() -> double {
    if (++calls == 2) throw NumericError("closure");
    const auto x = p->to_vector<double>();
    set_gradient(p, gradient(rosenbrock_gradient(x)));
    return rosenbrock(x);
  }),
               NumericError);
  EXPECT_EQ(p->to_vector<double>(), (std::vector<double>{-1.2, 1}));
}

TEST(Lbfgs, RefusesBadArguments) {
  const Parameter p = parameter({1});
  EXPECT_THROW(optim::LBFGS({p}, {.lr = 0}), ValueError);
  EXPECT_THROW(optim::LBFGS({p}, {.max_iter = 0}), ValueError);
  EXPECT_THROW(optim::LBFGS({p}, {.history_size = 0}), ValueError);
  EXPECT_THROW(optim::LBFGS(std::vector<Parameter>()), ValueError);
  EXPECT_THROW(optim::LBFGS({p, p}), ValueError);
}

}  // namespace
}  // namespace ebb
