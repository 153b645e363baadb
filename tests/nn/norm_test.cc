// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"

namespace ebb {
namespace {

std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

std::vector<std::string> names(const nn::Module& m) {
  std::vector<std::string> all;
  for (const auto& [name, t] : m.state_dict()) all.push_back(name);
  return all;
}

template <class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(GroupNormLayer, NormalisesGroupsOfOneSample) {
  nn::GroupNorm norm(2, 4, {.eps = 0});
  EXPECT_EQ(names(norm), (std::vector<std::string>{"bias", "weight"}));
  const Tensor x = testing::normal({4, 5, 5}).to(kFloat32);
  const Tensor y = norm(x);
  const Tensor groups = reshape(y, {2, 50});
  for (double m : doubles(mean(groups, 1))) EXPECT_NEAR(m, 0, 1e-6);
  for (double v : doubles(var(groups, 1, 0))) EXPECT_NEAR(v, 1, 1e-5);
  // A batch of two is each of the two.
  const Tensor two[] = {x, y};
  EXPECT_EQ(doubles(norm(stack(two))[0]), doubles(y));
  EXPECT_EQ(message_of([&] {
              norm(ones({4, 5}));
            }),
            "GroupNorm: x is [4,5]; it must be [4,*,*] or [N,4,*,*]");
  EXPECT_EQ(nn::GroupNorm(2, 4, {.dims = 0})(ones({4})).shape(), Shape({4}));
  EXPECT_THROW(nn::GroupNorm(3, 4), ValueError);
  EXPECT_THROW(nn::GroupNorm(0, 4), ValueError);
  EXPECT_TRUE(nn::GroupNorm(2, 4, {.affine = false}).parameters().empty());
}

TEST(BatchNormLayer, HasPyTorchsNamesAndFirstValues) {
  nn::BatchNorm2d norm(3);
  EXPECT_EQ(names(norm), (std::vector<std::string>{"bias", "num_batches_tracked", "running_mean",
                                                   "running_var", "weight"}));
  const nn::StateDict state = norm.state_dict();
  EXPECT_EQ(doubles(state.at("running_mean")), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(doubles(state.at("running_var")), (std::vector<double>{1, 1, 1}));
  EXPECT_EQ(state.at("num_batches_tracked").dtype(), kInt64);
  EXPECT_EQ(state.at("num_batches_tracked").dim(), 0);
  EXPECT_EQ(names(nn::BatchNorm2d(3, {.affine = false, .track_running_stats = false})).size(), 0u);
}

TEST(BatchNormLayer, MovesItsStatisticsInTrainingOnly) {
  nn::BatchNorm2d norm(2);
  const Tensor x = testing::normal({4, 2, 3, 3}).to(kFloat32);
  norm(x);
  norm(x);
  EXPECT_EQ(norm.num_batches_tracked.item<int64_t>(), 2);
  const auto mean_x = doubles(mean(x, {0, 2, 3}));
  const auto var_x = doubles(var(x, {0, 2, 3}));
  for (size_t c = 0; c < 2; ++c) {
    EXPECT_NEAR(doubles(norm.running_mean)[c], 0.19 * mean_x[c], 1e-6);
    EXPECT_NEAR(doubles(norm.running_var)[c], 0.81 + 0.19 * var_x[c], 1e-6);
  }
  norm.eval();
  const auto before = doubles(norm.running_mean);
  const Tensor y = norm(x);
  EXPECT_EQ(doubles(norm.running_mean), before);
  EXPECT_EQ(norm.num_batches_tracked.item<int64_t>(), 2);
  const Tensor want = (x - reshape(norm.running_mean, {2, 1, 1})) /
                      sqrt(reshape(norm.running_var, {2, 1, 1}) + 1e-5);
  for (size_t i = 0; i < 72; ++i) EXPECT_NEAR(doubles(y)[i], doubles(want)[i], 1e-5);
  // One sample is the batch of one.
  EXPECT_EQ(doubles(norm(x[0])), doubles(y[0]));
}

TEST(BatchNormLayer, WithoutMomentumStatisticsAreTheMeanOverBatches) {
  nn::BatchNorm1d norm(2, {.momentum = std::nullopt});
  double want = 0;
  for (int i = 0; i < 4; ++i) {
    const Tensor x = testing::normal({5, 2}).to(kFloat32);
    norm(x);
    want += doubles(mean(x, 0))[1] / 4;
  }
  EXPECT_NEAR(doubles(norm.running_mean)[1], want, 1e-6);
}

TEST(BatchNormLayer, TakesSamplesAndBatchesOfItsDimension) {
  EXPECT_EQ(nn::BatchNorm1d(3)(testing::normal({4, 3}).to(kFloat32)).shape(), Shape({4, 3}));
  EXPECT_EQ(nn::BatchNorm1d(3)(testing::normal({4, 3, 2}).to(kFloat32)).shape(), Shape({4, 3, 2}));
  EXPECT_EQ(nn::BatchNorm3d(2)(testing::normal({2, 2, 2, 2}).to(kFloat32)).shape(),
            Shape({2, 2, 2, 2}));
  EXPECT_EQ(message_of([] {
              nn::BatchNorm2d(3)(ones({4, 2, 2}));
            }),
            "BatchNorm2d: x is [4,2,2]; it must be [3,*,*] or [N,3,*,*]");
  EXPECT_EQ(message_of([] { nn::BatchNorm1d(3)(ones({3})); }),
            "batch_norm: x is [3], that is 1 number a channel; a variance needs at least 2");
  EXPECT_THROW(nn::BatchNorm2d(0), ValueError);
  EXPECT_THROW(nn::BatchNorm2d(3, {.momentum = 1.5}), ValueError);
  EXPECT_THROW(nn::BatchNorm2d(
                   3, {.track_running_stats = false, .statistics = nn::BatchStatistics::kRunning}),
               ValueError);
}

// A failed call counts nothing.
TEST(BatchNormLayer, AFailedCallChangesNothing) {
  nn::BatchNorm1d norm(3);
  EXPECT_THROW(norm(ones({1, 3})), ShapeError);
  EXPECT_EQ(norm.num_batches_tracked.item<int64_t>(), 0);
  EXPECT_EQ(doubles(norm.running_var), (std::vector<double>{1, 1, 1}));
}

// Vectors one at a time, each with one number a channel, normalised by the stream's statistics.
TEST(BatchNormLayer, RunningStatisticsServeOneVectorAtATime) {
  nn::BatchNorm1d norm(2, {.momentum = 0.01, .statistics = nn::BatchStatistics::kRunning});
  Generator g(7);
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < 4000; ++i) {
    const Tensor x = 3 + 2 * randn({2}, {}, g);
    const double y = doubles(norm(x))[0];
    if (i < 2000) continue;
    sum += y;
    squares += y * y;
  }
  EXPECT_NEAR(doubles(norm.running_mean)[0], 3, 0.5);
  EXPECT_NEAR(doubles(norm.running_var)[0], 4, 1.0);
  EXPECT_NEAR(sum / 2000, 0, 0.1);
  EXPECT_NEAR(squares / 2000, 1, 0.1);
  // In evaluation a vector comes out as in training, had it been counted.
  const Tensor x = ones({2});
  const auto trained = doubles(norm(x));
  norm.eval();
  EXPECT_EQ(doubles(norm(x)), trained);
}

TEST(BatchNormLayer, RunningVarianceIsThatOfTheWholeStream) {
  nn::BatchNorm1d norm(1, {.momentum = std::nullopt, .statistics = nn::BatchStatistics::kRunning});
  std::vector<double> all;
  for (int i = 0; i < 5; ++i) {
    const Tensor x = testing::normal({3, 1}).to(kFloat32);
    norm(x);
    for (double v : doubles(x)) all.push_back(v);
  }
  const Tensor stream = from_vector(all);
  EXPECT_NEAR(doubles(norm.running_mean)[0], mean(stream).item(), 1e-6);
  EXPECT_NEAR(doubles(norm.running_var)[0], var(stream, {}, 0).item(), 1e-5);
}

TEST(BatchNormLayer, LearnsAndIsStoredAndCloned) {
  nn::BatchNorm2d norm(2);
  const Tensor x = testing::normal({2, 4, 4}).to(kFloat32);
  square(norm(x) - 1).sum().backward();
  for (double g : doubles(norm.bias.grad())) EXPECT_NEAR(g, -32, 1e-4);
  const auto copy = norm.clone();
  auto& other = static_cast<nn::BatchNorm2d&>(*copy);
  EXPECT_EQ(doubles(other.running_mean), doubles(norm.running_mean));
  EXPECT_EQ(other.num_batches_tracked.item<int64_t>(), 1);
  norm.eval();
  other.eval();
  EXPECT_EQ(doubles(other(x)), doubles(norm(x)));
  norm.to(kFloat64);
  EXPECT_EQ(norm.running_mean.dtype(), kFloat64);
  EXPECT_EQ(norm.num_batches_tracked.dtype(), kInt64);
  EXPECT_EQ(norm(x.to(kFloat64)).dtype(), kFloat64);
}

TEST(InstanceNormLayer, NormalisesChannelsOfEachSample) {
  nn::InstanceNorm2d norm(3);
  EXPECT_TRUE(names(norm).empty());
  const Tensor x = testing::normal({2, 3, 4, 4}).to(kFloat32);
  const Tensor y = norm(x);
  for (double m : doubles(mean(y, {2, 3}))) EXPECT_NEAR(m, 0, 1e-6);
  EXPECT_EQ(doubles(norm(x[1])), doubles(y[1]));
  EXPECT_THROW(norm(ones({2, 4, 4})), ShapeError);
  nn::InstanceNorm1d tracked(3, {.affine = true, .track_running_stats = true});
  EXPECT_EQ(names(tracked).size(), 5u);
  const Tensor s = testing::normal({3, 6}).to(kFloat32);
  tracked(s);
  EXPECT_NEAR(doubles(tracked.running_mean)[2], 0.1 * doubles(mean(s, 1))[2], 1e-6);
  tracked.eval();
  const double mean0 = doubles(tracked.running_mean)[0];
  const double var0 = doubles(tracked.running_var)[0];
  EXPECT_NEAR(doubles(tracked(s))[0], (doubles(s)[0] - mean0) / std::sqrt(var0 + 1e-5), 1e-5);
}

TEST(RMSNormLayer, DividesByTheRootMeanSquare) {
  nn::RMSNorm norm({4});
  EXPECT_EQ(names(norm), (std::vector<std::string>{"weight"}));
  const Tensor y = norm(testing::normal({3, 4}).to(kFloat32));
  for (const double v : doubles(mean(square(y), 1))) EXPECT_NEAR(v, 1, 1e-5);
  EXPECT_THROW(norm(ones({3})), ShapeError);
  EXPECT_THROW(nn::RMSNorm(Shape{}), ValueError);
}

}  // namespace
}  // namespace ebb
