// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ebb/nn/train/axis.h"
#include "ebb/nn/train/canvas.h"

// What plots with axes share: margins, title, axes, grid and legend.
namespace ebb::train {

/// The colours of everything but the data.
struct Ink {
  static constexpr Color kTitle = {17, 24, 39};
  static constexpr Color kText = {55, 65, 81};
  static constexpr Color kFaintText = {107, 114, 128};
  static constexpr Color kAxis = {156, 163, 175};
  static constexpr Color kGrid = {229, 231, 235};
  static constexpr Color kPaper = {255, 255, 255};
};

struct FrameText {
  std::string title;
  std::string x_label;
  std::string y_label;
};

struct LegendEntry {
  std::string name;
  Color color;
  bool line = false;  // a piece of line, else a marker
  bool dashed = false;
  Marker marker = Marker::kDisc;
};

/// A canvas with a plot area framed by two axes.
class Frame {
 public:
  /// Lays out and draws everything but data and legend; `right` pixels are kept free beside the
  /// plot area. Throws ValueError unless both sides are in [200, 10000].
  Frame(int width, int height, const Axis& x, const Axis& y, const FrameText& text,
        double right = 0);

  Canvas& canvas() { return canvas_; }
  const Rect& area() const { return area_; }
  /// Size of ordinary text, pixels.
  double font() const { return font_; }
  /// Where a data point is; NaN coordinates where it cannot be drawn.
  Point place(double x, double y) const;

  /// The size of a legend's box.
  static Point legend_size(const std::vector<LegendEntry>& entries, double font);
  /// The font size of a frame of this size.
  static double font_for(int width, int height);
  /// Draws the legend, its top left corner at `at`.
  void legend(const std::vector<LegendEntry>& entries, Point at);
  /// Says in the plot area that there is nothing to see.
  void no_data();

 private:
  void draw_x_axis(const Ticks& ticks, const std::string& label);
  void draw_y_axis(const Ticks& ticks, const std::string& label);

  Canvas canvas_;
  Axis x_;
  Axis y_;
  double font_;
  Rect area_;
};

}  // namespace ebb::train
