// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

constexpr double kEps = 1e-3;

// Numbers with the same key are normalised together; c is the channel.
struct Place {
  int64_t n;
  int64_t c;
};

// Calls f(i, place) for every number of x.
template <class F>
void for_each(const Shape& x, int64_t axis, const F& f) {
  int64_t len = 1;
  for (int i = x.rank() + static_cast<int>(axis) + 1; i < x.rank(); ++i) len *= x[i];
  const int64_t channels = x[x.rank() + static_cast<int>(axis)];
  for (int64_t i = 0; i < x.numel(); ++i) {
    f(static_cast<size_t>(i), Place{i / len / channels, i / len % channels});
  }
}

// By the definition; `key` says what is normalised together.
template <class Key>
std::vector<RefArray> reference(Span<const RefArray> in, int64_t axis, const Key& key,
                                bool statistics = false) {
  const RefArray& x = in[0];
  std::vector<double> sum(1000), squares(1000), count(1000);
  for_each(x.shape, axis, [&](size_t i, Place p) {
    sum[key(p)] += x.v[i];
    ++count[key(p)];
  });
  for_each(x.shape, axis, [&](size_t i, Place p) {
    squares[key(p)] += std::pow(x.v[i] - sum[key(p)] / count[key(p)], 2);
  });
  RefArray y = x;
  for_each(x.shape, axis, [&](size_t i, Place p) {
    const size_t k = key(p);
    const auto c = static_cast<size_t>(p.c);
    y.v[i] = (x.v[i] - sum[k] / count[k]) / std::sqrt(squares[k] / count[k] + kEps);
    if (in.size() > 1) y.v[i] *= in[1].v[c];
    if (in.size() > 2) y.v[i] += in[2].v[c];
  });
  if (!statistics) return {y};
  RefArray mean(Shape{x.shape[x.shape.rank() + static_cast<int>(axis)]});
  RefArray var = mean;
  for (size_t k = 0; k < mean.v.size(); ++k) {
    mean.v[k] = sum[k] / count[k];
    var.v[k] = squares[k] / count[k];
  }
  return {y, mean, var};
}

std::vector<Tensor> inputs(const Shape& x, int64_t axis, int parameters) {
  std::vector<Tensor> in{normal(x)};
  const Shape channels{x[x.rank() + static_cast<int>(axis)]};
  for (int i = 0; i < parameters; ++i) in.push_back(normal(channels));
  return in;
}
Tensor nth(Span<const Tensor> in, size_t i) { return i < in.size() ? in[i] : Tensor(); }

void set_tolerances(Sample* s) {
  // Of few numbers the distances from the mean may nearly cancel.
  s->tolerance64 = 1e-10;
  s->tolerance32 = 1e-4;
}

Sample group_sample(const Shape& x, int64_t groups, int64_t axis, int parameters) {
  Sample s{.name = absl::StrCat(x.str(), " groups ", groups, " axis ", axis, " with ", parameters),
           .inputs = inputs(x, axis, parameters)};
  s.call = [=](Span<const Tensor> in) {
    return group_norm(in[0], groups, nth(in, 1), nth(in, 2), kEps, axis);
  };
  const int64_t channels = x[x.rank() + static_cast<int>(axis)];
  s.reference = [=](Span<const RefArray> in) {
    return reference(in, axis, [=](Place p) {
      return static_cast<size_t>(p.n * groups + p.c / std::max<int64_t>(channels / groups, 1));
    });
  };
  set_tolerances(&s);
  return s;
}

template <class E, class F>
testing::ErrorSample error(std::string name, std::vector<Tensor> in, F f, std::string message) {
  return error_sample<E>(std::move(name), std::move(in), std::move(f), std::move(message));
}

const RegisterSamples kGroupNorm{
    "group_norm", [] {
      OpSamples s{.op = "group_norm"};
      s.samples = {group_sample({4, 3, 2}, 2, -3, 2),    group_sample({4, 3, 2}, 2, -3, 1),
                   group_sample({4, 3, 2}, 4, -3, 0),    group_sample({4, 3, 2}, 1, -3, 2),
                   group_sample({2, 4, 3, 3}, 2, -3, 2), group_sample({2, 6, 5}, 3, -2, 2),
                   group_sample({6}, 2, -1, 2),          group_sample({3, 6}, 2, -1, 2),
                   group_sample({6}, 3, -1, 0),          group_sample({2, 4, 2, 1, 3}, 2, -4, 2),
                   group_sample({0, 4, 2, 2}, 2, -3, 2), group_sample({4, 0, 2}, 2, -3, 2),
                   group_sample({2, 3, 4, 1}, 1, -3, 2)};
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 1) all = {group_sample({4, 1, n}, 2, -3, 2), group_sample({2, 2, n}, 2, -2, 0)};
        return all;
      };
      s.errors = {
          error<ShapeError>(
              "groups", {normal({6, 2, 2})}, [](const Tensor& x) { return group_norm(x, 4); },
              "group_norm: x is [6,2,2] with 6 channels at axis -3; that must be a multiple of "
              "num_groups=4"),
          error<ShapeError>(
              "none", {normal({6, 2, 2})}, [](const Tensor& x) { return group_norm(x, 0); },
              "num_groups=0"),
          error<ShapeError>(
              "rank", {normal({6, 2})}, [](const Tensor& x) { return group_norm(x, 2); },
              "group_norm: x is [6,2]; it has no axis -3 of channels"),
          error<ShapeError>(
              "weight", {normal({6, 2, 2}), normal({2})},
              [](const Tensor& x, const Tensor& w) { return group_norm(x, 2, w); },
              "group_norm: x is [6,2,2] with its channels at axis -3, weight is [2]; it must be "
              "[6]"),
          error<ShapeError>(
              "bias", {normal({6, 2, 2}), normal({6}), normal({6, 1})},
              [](const Tensor& x, const Tensor& w, const Tensor& b) {
                return group_norm(x, 2, w, b);
              },
              "bias is [6,1]; it must be [6]"),
          error<ValueError>(
              "bias alone", {normal({6, 2, 2}), normal({6})},
              [](const Tensor& x, const Tensor& b) { return group_norm(x, 2, Tensor(), b); },
              "group_norm: there is a bias but no weight"),
          error<ValueError>(
              "axis", {normal({6, 2, 2})},
              [](const Tensor& x) { return group_norm(x, 2, Tensor(), Tensor(), 1e-5, 1); },
              "group_norm: channel_axis is 1; it is counted from the end, in [-8, -1]"),
          error<DTypeError>(
              "integers", {testing::integers({4, 2, 2}, 0, 3)},
              [](const Tensor& x) { return group_norm(x, 2); },
              "group_norm: input 0 is int64[4,2,2]")};
      s.no_scalar = "there are no channels";
      return s;
    }};

Sample instance_sample(const Shape& x, int64_t axis, int parameters) {
  Sample s{.name = absl::StrCat(x.str(), " axis ", axis, " with ", parameters),
           .inputs = inputs(x, axis, parameters)};
  s.call = [=](Span<const Tensor> in) {
    return instance_norm(in[0], nullptr, nullptr, nth(in, 1), nth(in, 2), true, 0, kEps, axis);
  };
  const int64_t channels = x[x.rank() + static_cast<int>(axis)];
  s.reference = [=](Span<const RefArray> in) {
    return reference(in, axis, [=](Place p) { return static_cast<size_t>(p.n * channels + p.c); });
  };
  set_tolerances(&s);
  return s;
}

const RegisterSamples kInstanceNorm{
    "instance_norm", [] {
      OpSamples s{.op = "instance_norm"};
      s.samples = {instance_sample({4, 3, 2}, -3, 2),    instance_sample({4, 3, 2}, -3, 1),
                   instance_sample({4, 3, 2}, -3, 0),    instance_sample({2, 4, 3, 3}, -3, 2),
                   instance_sample({2, 6, 5}, -2, 2),    instance_sample({2, 2, 2, 1, 3}, -4, 2),
                   instance_sample({0, 4, 2, 2}, -3, 2), instance_sample({0, 5, 2}, -3, 2)};
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 1) all = {instance_sample({3, n}, -2, 2)};
        return all;
      };
      s.errors = {
          error<ShapeError>(
              "one number", {normal({6, 1, 1})}, [](const Tensor& x) { return instance_norm(x); },
              "instance_norm: x is [6,1,1], that is 1 number a channel and sample; a variance "
              "needs at least 2"),
          error<ShapeError>(
              "rank", {normal({6, 2})}, [](const Tensor& x) { return instance_norm(x); },
              "instance_norm: x is [6,2]; it has no axis -3 of channels"),
          error<ValueError>(
              "no statistics", {normal({6, 2, 2})},
              [](const Tensor& x) {
                return instance_norm(x, nullptr, nullptr, Tensor(), Tensor(), false);
              },
              "instance_norm: running_mean and running_var must be given"),
          error<ValueError>(
              "one statistic", {normal({6, 2, 2}), normal({6})},
              [](const Tensor& x, Tensor mean) { return instance_norm(x, &mean, nullptr); },
              "instance_norm: running_mean and running_var come together"),
      };
      s.no_scalar = "there are no channels";
      return s;
    }};

Sample batch_sample(const Shape& x, int64_t axis, int parameters) {
  Sample s{.name = absl::StrCat(x.str(), " axis ", axis, " with ", parameters),
           .inputs = inputs(x, axis, parameters)};
  s.call = [=](Span<const Tensor> in) {
    BatchNormOutput out = batch_norm_train(in[0], nth(in, 1), nth(in, 2), kEps, axis);
    return std::vector<Tensor>{out.output, out.mean, out.var};
  };
  s.reference = [=](Span<const RefArray> in) {
    return reference(
        in, axis, [](Place p) { return static_cast<size_t>(p.c); }, true);
  };
  set_tolerances(&s);
  return s;
}

const RegisterSamples kBatchNorm{
    "batch_norm", [] {
      OpSamples s{.op = "batch_norm"};
      s.samples = {
          batch_sample({4, 3, 2}, -3, 2),    batch_sample({4, 3, 2}, -3, 1),
          batch_sample({4, 3, 2}, -3, 0),    batch_sample({2, 4, 3, 3}, -3, 2),
          batch_sample({3, 6, 5}, -2, 2),    batch_sample({5, 6}, -1, 2),
          batch_sample({2, 3, 4}, -1, 0),    batch_sample({2, 2, 2, 1, 3}, -4, 2),
          batch_sample({2, 0, 3, 3}, -3, 2), batch_sample({3, 4, 1, 1}, -3, 2),
      };
      s.sized = [](int64_t n) {
        std::vector<Sample> all;
        if (n > 1) all = {batch_sample({2, 2, n}, -2, 2), batch_sample({n, 3}, -1, 0)};
        return all;
      };
      s.errors = {
          error<ShapeError>(
              "one number", {normal({6, 1, 1})},
              [](const Tensor& x) {
                return batch_norm(x, nullptr, nullptr, Tensor(), Tensor(), true);
              },
              "batch_norm: x is [6,1,1], that is 1 number a channel; a variance needs at least 2"),
          error<ShapeError>(
              "running", {normal({6, 2, 2}), normal({6}), normal({5})},
              [](const Tensor& x, Tensor mean, Tensor var) {
                return batch_norm(x, &mean, &var, Tensor(), Tensor(), true);
              },
              "batch_norm: x is float64[6,2,2], running_var is float64[5]; it must be float64[6]"),
          error<ValueError>(
              "bias alone", {normal({6, 2, 2}), normal({6})},
              [](const Tensor& x, const Tensor& b) {
                return batch_norm(x, nullptr, nullptr, Tensor(), b, true);
              },
              "batch_norm: there is a bias but no weight"),
          error<DTypeError>(
              "integers", {testing::integers({4, 2, 2}, 0, 3)},
              [](const Tensor& x) {
                return batch_norm(x, nullptr, nullptr, Tensor(), Tensor(), true);
              },
              "batch_norm: input 0 is int64[4,2,2]")};
      s.no_scalar = "there are no channels";
      return s;
    }};

Sample eval_sample(const Shape& x, int64_t axis, int parameters) {
  const Shape channels{x[x.rank() + static_cast<int>(axis)]};
  Sample s{.name = absl::StrCat(x.str(), " axis ", axis, " with ", parameters),
           .inputs = {normal(x), normal(channels), testing::uniform(channels, 0.5, 2)}};
  for (int i = 0; i < parameters; ++i) s.inputs.push_back(normal(channels));
  s.call = [=](Span<const Tensor> in) {
    Tensor mean = in[1];
    Tensor var = in[2];
    return batch_norm(in[0], &mean, &var, nth(in, 3), nth(in, 4), false, 0, kEps, axis);
  };
  s.reference = [=](Span<const RefArray> in) {
    RefArray y = in[0];
    for_each(y.shape, axis, [&](size_t i, Place p) {
      const auto c = static_cast<size_t>(p.c);
      y.v[i] = (y.v[i] - in[1].v[c]) / std::sqrt(in[2].v[c] + kEps);
      if (in.size() > 3) y.v[i] *= in[3].v[c];
      if (in.size() > 4) y.v[i] += in[4].v[c];
    });
    return y;
  };
  return s;
}

const RegisterSamples kBatchNormEval{
    "batch_norm_eval", [] {
      OpSamples s{.op = "batch_norm_eval"};
      s.samples = {eval_sample({4, 3, 2}, -3, 2),    eval_sample({4, 3, 2}, -3, 1),
                   eval_sample({4, 3, 2}, -3, 0),    eval_sample({2, 4, 3, 3}, -3, 2),
                   eval_sample({6}, -1, 2),          eval_sample({5, 6}, -1, 0),
                   eval_sample({0, 4, 2, 2}, -3, 2), eval_sample({4, 0, 2}, -3, 1)};
      s.sized = [](int64_t n) { return std::vector<Sample>{eval_sample({2, n}, -2, 2)}; };
      s.errors = {
          error<ValueError>(
              "no statistics", {normal({6, 2, 2})},
              [](const Tensor& x) { return batch_norm(x, nullptr, nullptr); },
              "batch_norm: running_mean and running_var must be given"),
          error<ShapeError>(
              "statistic", {normal({6, 2, 2}), normal({6}), normal({5})},
              [](const Tensor& x, Tensor mean, Tensor var) { return batch_norm(x, &mean, &var); },
              "batch_norm_eval: x is [6,2,2] with its channels at axis -3, running_var is [5]; it "
              "must be [6]")};
      s.no_scalar = "there are no channels";
      return s;
    }};

TEST(BatchNormOp, MovesRunningStatistics) {
  const Tensor x = normal({2, 3, 2, 2});
  const Tensor mean = ebb::mean(x, {0, 2, 3});
  const Tensor var = ebb::var(x, {0, 2, 3});  // with n - 1
  Tensor running_mean = testing::tensor({3}, {1, 2, 3});
  Tensor running_var = testing::tensor({3}, {4, 5, 6});
  const Tensor old_mean = running_mean;
  batch_norm(x, &running_mean, &running_var, Tensor(), Tensor(), true, 0.25);
  for (int64_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(running_mean[c].item(), 0.75 * static_cast<double>(1 + c) + 0.25 * mean[c].item(),
                1e-12);
    EXPECT_NEAR(running_var[c].item(), 0.75 * static_cast<double>(4 + c) + 0.25 * var[c].item(),
                1e-12);
    EXPECT_EQ(old_mean[c].item(), static_cast<double>(1 + c));  // what a tape may hold
  }
}

TEST(InstanceNormOp, RunningStatisticsMoveByTheMeanOverSamples) {
  const Tensor x = normal({2, 3, 4});
  Tensor running_mean = testing::tensor({3}, {0, 0, 0});
  Tensor running_var = testing::tensor({3}, {0, 0, 0});
  instance_norm(x, &running_mean, &running_var, Tensor(), Tensor(), true, 1, kEps, -2);
  const Tensor mean = ebb::mean(x, {0, 2});
  const Tensor var = ebb::mean(ebb::var(x, 2), 0);
  for (int64_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(running_mean[c].item(), mean[c].item(), 1e-12);
    EXPECT_NEAR(running_var[c].item(), var[c].item(), 1e-12);
  }
}

// A weight of 0 hides x, but not from the gradients of weight and bias; and each gradient is the
// same whoever else wants one.
TEST(ChannelNormOps, GiveEachInputItsGradientAlone) {
  const Tensor in[] = {normal({2, 4, 3, 3}), normal({4}), normal({4})};
  const Tensor v = normal({2, 4, 3, 3});
  const std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)> ops[] = {
      [](const Tensor& x, const Tensor& w, const Tensor& b) { return group_norm(x, 2, w, b); },
      [](const Tensor& x, const Tensor& w, const Tensor& b) {
        return instance_norm(x, nullptr, nullptr, w, b);
      },
      [](const Tensor& x, const Tensor& w, const Tensor& b) {
        return batch_norm(x, nullptr, nullptr, w, b, true);
      },
      [](const Tensor& x, const Tensor& w, const Tensor& b) {
        Tensor mean = testing::tensor({4}, {1, 2, 3, 4});
        Tensor var = testing::tensor({4}, {2, 1, 2, 1});
        return batch_norm(x, &mean, &var, w, b);
      }};
  for (const auto& op : ops) {
    const Tensor all[] = {variable(in[0]), variable(in[1]), variable(in[2])};
    (op(all[0], all[1], all[2]) * v).sum().backward();
    for (int i = 0; i < 3; ++i) {
      const Tensor one = variable(in[i]);
      (op(i == 0 ? one : in[0], i == 1 ? one : in[1], i == 2 ? one : in[2]) * v).sum().backward();
      const auto got = one.grad().to_vector<double>();
      const auto want = all[i].grad().to_vector<double>();
      for (size_t k = 0; k < got.size(); ++k) EXPECT_NEAR(got[k], want[k], 1e-12);
    }
  }
}

// One channel is large and hardly varies, the other is not: what is added up to find the mean of a
// group must be near the mean of all, and is measured again where a first guess was not.
TEST(GroupNormOp, KeepsItsPrecisionFarFromZero) {
  std::vector<float> v(2 * 40);
  for (size_t i = 0; i < v.size(); ++i) {
    v[i] = 1e4f + 0.01f * static_cast<float>(std::cos(static_cast<double>(i * i)));
  }
  v[0] = 1e4f + 30;  // a first number that tells little of the others
  const Tensor x(Array::of<float>({2, 40}, v));
  const auto run = [&](DType type) {
    return group_norm(x.to(type), 1, Tensor(), Tensor(), 1e-9, -2).to_vector<double>();
  };
  const auto y = run(kFloat32);
  const auto want = run(kFloat64);
  for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], want[i], 1e-5);
}

}  // namespace
}  // namespace ebb
