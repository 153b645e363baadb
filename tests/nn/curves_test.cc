// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/curves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ebb/core/error.h"
#include "ebb/nn/io/file.h"
#include "temp_dir.h"

namespace ebb::train {
namespace {

using ::testing::ElementsAre;

TEST(Curves, MeansOfWindowsAndSinglePointsGoToTheFileAndTheSeries) {
  const testing::TempDir dir;
  const std::string path = dir.file("curves.csv");
  Curves curves(path, {"loss", "error"}, 2);
  for (int step = 1; step <= 5; ++step) curves.add(step, "loss", step * 1.5);
  curves.point(5, "error", 0.25);
  EXPECT_EQ(io::read_text(path), "step,loss,error\n2,2.25,\n4,5.25,\n5,,0.25\n");
  EXPECT_THAT(curves.series("loss").x, ElementsAre(2, 4));
  EXPECT_THAT(curves.series("loss").y, ElementsAre(2.25, 5.25));
  EXPECT_THAT(curves.series()[1].y, ElementsAre(0.25));
  EXPECT_EQ(line_plot(curves.series()).width, 960);
}

TEST(Curves, EachNameHasAWindowOfItsOwn) {
  const testing::TempDir dir;
  Curves curves(dir.file("curves.csv"), {"a", "b"}, 3);
  for (int step = 1; step <= 3; ++step) {
    curves.add(step, "a", step);
    if (step > 1) curves.add(step, "b", step);
  }
  EXPECT_THAT(curves.series("a").y, ElementsAre(2));
  EXPECT_TRUE(curves.series("b").y.empty());
}

TEST(Curves, BadNamesAndWindowsAreErrors) {
  const testing::TempDir dir;
  const std::string path = dir.file("curves.csv");
  EXPECT_THROW(Curves(path, {}), ValueError);
  EXPECT_THROW(Curves(path, {"a"}, 0), ValueError);
  EXPECT_THROW(Curves(path, {"a", "a"}), ValueError);
  EXPECT_THROW(Curves(path, {"step"}), ValueError);
  EXPECT_THROW(Curves(dir.file("no/such/folder.csv"), {"a"}), IoError);
  Curves curves(path, {"a"});
  EXPECT_THROW(curves.add(1, "b", 0), ValueError);
  EXPECT_THROW(curves.point(1, "b", 0), ValueError);
  EXPECT_THROW((void)curves.series("b"), ValueError);
}

}  // namespace
}  // namespace ebb::train
