// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ebb/nn/train/csv.h"
#include "ebb/nn/train/plot.h"

namespace ebb::train {

/// What a run logs: numbers by name and step, as a CSV file that grows while the run goes on, and
/// as curves to draw at its end.
///
///   train::Curves curves("out/curves.csv", {"loss", "test_error"}, 1000);
///   curves.add(step, "loss", loss.item());        // each step; the mean of 1000 is a point
///   curves.point(step, "test_error", error);      // now and then
///   io::write_png("out/curves.png", line_plot(curves.series(), {.log_y = true}));
class Curves {
 public:
  /// `window`: of how many numbers add() takes the mean. Throws ValueError where it is below 1,
  /// there is no name, or one is there twice; IoError where the file cannot be made.
  Curves(const std::string& path, std::vector<std::string> names, int64_t window = 1);

  /// A number of a step. With the last of each window, their mean becomes a point at that step.
  /// Throws ValueError on an unknown name, IoError where the row cannot be written.
  void add(int64_t step, std::string_view name, double value);
  /// A point by itself. Throws as add().
  void point(int64_t step, std::string_view name, double value);

  /// The points so far of all names, in their order.
  const std::vector<Series>& series() const { return series_; }
  /// The points of one. Throws ValueError.
  const Series& series(std::string_view name) const { return series_[find(name)]; }

 private:
  struct Sum {
    double value = 0;
    int64_t count = 0;
  };
  size_t find(std::string_view name) const;

  int64_t window_;
  std::vector<Series> series_;
  std::vector<Sum> sums_;
  CsvWriter csv_;
};

}  // namespace ebb::train
