// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/data/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "ebb/ebb.h"
#include "ebb/nn/io/file.h"
#include "temp_dir.h"

namespace ebb {
namespace {

data::Dataset<int64_t> squares(int64_t n) {
  return {n, [](int64_t i) { return i * i; }};
}

std::vector<int64_t> all(const data::Dataset<int64_t>& d) { return {d.begin(), d.end()}; }

TEST(Dataset, IsARangeWithASize) {
  EXPECT_EQ(all(squares(4)), (std::vector<int64_t>{0, 1, 4, 9}));
  EXPECT_EQ(squares(4)[3], 9);
  EXPECT_THROW(squares(4)[4], IndexError);
  EXPECT_THROW(squares(-1), ValueError);
}

TEST(Dataset, ShufflesReproducibly) {
  Generator g(1);
  Generator h(1);
  const auto a = all(squares(100).shuffled(g));
  EXPECT_EQ(a, all(squares(100).shuffled(h)));
  EXPECT_NE(a, all(squares(100).shuffled(g)));
  EXPECT_NE(a, all(squares(100)));
  auto sorted = a;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, all(squares(100)));
}

TEST(Dataset, TakesChoosesAndMaps) {
  EXPECT_EQ(all(squares(5).take(2)), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(all(squares(5).subset({3, 1})), (std::vector<int64_t>{9, 1}));
  EXPECT_EQ(all(squares(5).subset({3, 1}).subset({1})), (std::vector<int64_t>{1}));
  EXPECT_THROW(squares(5).subset({5}), IndexError);
  EXPECT_EQ(squares(3).map([](int64_t i) { return 0.5 * static_cast<double>(i); })[2], 2.0);
}

TEST(IdxDataset, ReadsTheEmbeddedImages) {
  const auto train = data::idx(EBB_EXAMPLE_DATA_DIR, data::Split::kTrain);
  const auto test = data::idx(EBB_EXAMPLE_DATA_DIR, data::Split::kTest);
  EXPECT_EQ(train.size(), 2500);
  EXPECT_EQ(test.size(), 500);
  std::vector<int> classes(10);
  for (const auto& [image, label] : test) {
    ASSERT_EQ(image.shape(), Shape({28, 28}));
    ++classes.at(static_cast<size_t>(label));
    EXPECT_GE(min(image).item(), 0);
    EXPECT_LE(max(image).item(), 1);
  }
  EXPECT_EQ(classes, std::vector<int>(10, 50));
}

TEST(IdxDataset, StandardizedForNetworks) {
  const auto test = data::idx(EBB_EXAMPLE_DATA_DIR, data::Split::kTest).take(20);
  const std::vector<data::LabelledImage> images = data::standardized(test, 0.25, 0.5);
  ASSERT_EQ(images.size(), 20u);
  for (int64_t i = 0; i < 20; ++i) {
    const auto& [image, label] = images[static_cast<size_t>(i)];
    EXPECT_EQ(image.shape(), Shape({1, 28, 28}));
    EXPECT_EQ(label, test[i].label);
    const std::vector<float> before = test[i].image.to_vector<float>();
    const std::vector<float> after = image.to_vector<float>();
    for (size_t k = 0; k < before.size(); ++k) {
      ASSERT_FLOAT_EQ(after[k], (before[k] - 0.25f) / 0.5f);
    }
  }
}

TEST(IdxDataset, FindsNamedSetsAndReportsWhatIsMissing) {
  ASSERT_EQ(setenv("EBB_DATA", EBB_EXAMPLE_DATA_DIR "/..", 1), 0);
  EXPECT_EQ(data::idx("data", data::Split::kTest).size(), 500);
  ASSERT_EQ(unsetenv("EBB_DATA"), 0);
  EXPECT_THROW(data::idx("no-such-set", data::Split::kTest), IoError);
}

TEST(IdxDataset, PartnersMustFit) {
  const testing::TempDir dir;
  const std::vector<uint8_t> image = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7};
  const std::vector<uint8_t> labels = {0, 0, 8, 1, 0, 0, 0, 2, 1, 2};
  io::atomic_write(dir.file("train-images-idx3-ubyte"), image);
  io::atomic_write(dir.file("train-labels-idx1-ubyte"), labels);
  EXPECT_THROW(data::idx(dir.path(), data::Split::kTrain), IoError);
  io::atomic_write(dir.file("train-labels-idx1-ubyte"), image);
  EXPECT_THROW(data::idx(dir.path(), data::Split::kTrain), IoError);
}

}  // namespace
}  // namespace ebb
