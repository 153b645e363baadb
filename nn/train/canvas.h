// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ebb/core/shape.h"
#include "ebb/nn/io/png.h"
#include "ebb/nn/train/font.h"

namespace ebb::train {

struct Color {
  uint8_t r = 0;
  uint8_t g = 0;
  uint8_t b = 0;

  bool operator==(const Color&) const = default;
};

/// A rectangle of pixels, [x0, x1) x [y0, y1).
struct Rect {
  double x0 = 0;
  double y0 = 0;
  double x1 = 0;
  double y1 = 0;

  double width() const { return x1 - x0; }
  double height() const { return y1 - y0; }
};

enum class Align { kStart, kCenter, kEnd };

struct TextStyle {
  double size = 17;
  Color color = {55, 65, 81};
  bool bold = false;
  Align align = Align::kStart;  // of the given point along the text
  bool upwards = false;         // turned by 90 degrees, to be read from the right
};

/// The shapes of markers, told apart without colour.
enum class Marker { kDisc, kSquare, kTriangle, kDiamond, kCross };

/// An RGB picture to draw on, with smooth edges. Coordinates are pixels from the top left corner;
/// the centre of the first pixel is (0.5, 0.5). What lies outside the clip is not drawn, however
/// far out it is; points that are not finite draw nothing.
class Canvas {
 public:
  /// Throws ValueError unless both sides are in [1, 20000].
  Canvas(int width, int height, Color background = {255, 255, 255});

  int width() const { return width_; }
  int height() const { return height_; }
  Rect bounds() const { return {0, 0, static_cast<double>(width_), static_cast<double>(height_)}; }

  /// Limits drawing to a part of the picture.
  void set_clip(const Rect& clip);
  void reset_clip() { set_clip(bounds()); }

  void fill(const Rect& rect, Color color, double alpha = 1);
  /// Lines with round ends and joins. All of them are one shape: where they cross, the colour is
  /// not laid on twice.
  void stroke(Span<const Polyline> lines, double pen, Color color, double alpha = 1);
  void stroke(const Polyline& line, double pen, Color color, double alpha = 1);
  /// A line broken into dashes and gaps of the given lengths, both above 0.
  void stroke_dashed(const Polyline& line, double pen, Color color, double dash, double gap);
  void rectangle(const Rect& rect, double pen, Color color);
  void marker(Point center, double radius, Marker shape, Color color, double alpha = 1);
  /// Text on the baseline through `at`.
  void text(Point at, std::string_view text, const TextStyle& style);
  /// Copies a picture, its top left corner at (x, y), each pixel `scale` wide.
  void blit(const io::Image& image, int x, int y, int scale = 1);

  /// The picture.
  io::Image take() && { return std::move(image_); }

 private:
  // Pixels [x0, x1) x [y0, y1).
  struct Box {
    int x0, y0, x1, y1;
  };
  Box clipped(double x0, double y0, double x1, double y1) const;
  void cover_segment(Point a, Point b, double radius);
  void cover(int x, int y, double amount);
  void blend(int x, int y, Color color, double alpha);
  void paint_cover(Color color, double alpha);

  int width_;
  int height_;
  io::Image image_;
  Rect clip_;
  std::vector<float> cover_;  // of the shape being drawn, 0 elsewhere
  Box dirty_;                 // where it may be above 0
};

}  // namespace ebb::train
