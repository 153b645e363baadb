// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ebb/core/shape.h"

namespace ebb::train {

/// A named number shown beside the bar, such as a loss.
struct Metric {
  std::string_view name;
  double value;
};

struct ProgressOptions {
  enum class Style { kAuto, kTerminal, kPlain, kSilent };

  /// Where to write; null is stderr.
  std::FILE* out = nullptr;
  /// Least seconds between two drawings; negative: 0.1 on a terminal, 10 elsewhere.
  double min_interval = -1;
  /// kAuto: one line drawn again and again where `out` is a terminal, whole lines elsewhere.
  Style style = Style::kAuto;
  /// What was done before this run began; it does not count for the rate.
  int64_t start = 0;
  /// Seconds on a clock that never goes back; null is the system's. For tests.
  double (*clock)() = nullptr;
};

/// Shows how far a loop has come, its rate, its latest metrics and the time left. An update that
/// draws nothing costs a look at the clock. For one thread.
class Progress {
 public:
  /// `total` steps; a total that is not positive is unknown, and no time left is shown.
  explicit Progress(int64_t total, std::string label = "", ProgressOptions options = {});
  /// Finishes: also where a loop was left early or by an exception.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` steps of the total are finished. The metrics replace those of the same name.
  void update(int64_t done, Span<const Metric> metrics = {});
  void update(int64_t done, std::initializer_list<Metric> metrics) {
    update(done, Span<const Metric>(metrics));
  }

  /// Sets one metric, to be shown with the next drawing.
  void set(std::string_view name, double value);

  /// Draws the last line, with the overall time and rate. Later calls do nothing.
  void finish();

 private:
  void draw(double now, bool last);
  std::string terminal_line(double now, bool last, int columns) const;
  std::string plain_line(double now, bool last) const;

  const int64_t total_;
  const std::string label_;
  ProgressOptions options_;
  bool bar_of_blocks_ = false;
  bool finished_ = false;
  int64_t done_;
  double begin_;
  double drawn_at_;     // the last drawing, or the beginning
  int64_t drawn_done_;  // steps at that time
  double rate_ = 0;     // steps per second, the recent ones weighted most
  std::vector<std::pair<std::string, double>> metrics_;
};

/// What `progress` returns: the range, counted while it is walked through.
template <class Range>
class ProgressRange {
  using Inner = decltype(std::ranges::begin(std::declval<Range&>()));
  using InnerEnd = decltype(std::ranges::end(std::declval<Range&>()));

 public:
  ProgressRange(Range&& range, std::string label, ProgressOptions options)
      : range_(std::forward<Range>(range)),
        bar_(static_cast<int64_t>(std::ranges::size(range_)), std::move(label), options) {}

  struct End {
    InnerEnd end;
  };

  class Iterator {
   public:
    Iterator(Inner at, ProgressRange* owner) : at_(std::move(at)), owner_(owner) {}

    decltype(auto) operator*() const { return *at_; }
    Iterator& operator++() {
      ++at_;
      owner_->bar_.update(++owner_->done_);
      return *this;
    }
    bool operator==(const End& end) const { return at_ == end.end; }

   private:
    Inner at_;
    ProgressRange* owner_;
  };

  Iterator begin() { return {std::ranges::begin(range_), this}; }
  End end() { return {std::ranges::end(range_)}; }

  /// Sets a metric to be shown: `auto steps = progress(samples, "train");` and in the loop over
  /// `steps`, `steps.set("loss", loss)`.
  void set(std::string_view name, double value) { bar_.set(name, value); }

 private:
  Range range_;  // the range itself where it was a temporary, else a reference
  Progress bar_;
  int64_t done_ = 0;
};

/// Walks through any sized range and shows how far it is:
///   for (const auto& [image, label] : progress(images.shuffled(), "train")) ...
/// A temporary range lives as long as the result.
template <class Range>
ProgressRange<Range> progress(Range&& range, std::string label = "", ProgressOptions options = {}) {
  return {std::forward<Range>(range), std::move(label), options};
}

}  // namespace ebb::train
