// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/canvas.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"

namespace ebb::train {
namespace {

constexpr int kMaxSide = 20000;

bool finite(Point p) { return std::isfinite(p.x) && std::isfinite(p.y); }

double distance_to_segment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length2 = dx * dx + dy * dy;
  double t = length2 > 0 ? ((p.x - a.x) * dx + (p.y - a.y) * dy) / length2 : 0;
  t = std::clamp(t, 0.0, 1.0);
  return std::hypot(p.x - (a.x + t * dx), p.y - (a.y + t * dy));
}

// Cuts the segment to `r` (Liang and Barsky 1984); false where nothing is left. Keeps far-away
// points from overflowing and from costing time.
bool cut_to(const Rect& r, Point* a, Point* b) {
  const double dx = b->x - a->x, dy = b->y - a->y;
  if (!std::isfinite(dx) || !std::isfinite(dy)) return false;
  double from = 0, until = 1;
  const double p[4] = {-dx, dx, -dy, dy};
  const double q[4] = {a->x - r.x0, r.x1 - a->x, a->y - r.y0, r.y1 - a->y};
  for (int i = 0; i < 4; ++i) {
    if (p[i] == 0) {
      if (q[i] < 0) return false;
    } else if (p[i] < 0) {
      from = std::max(from, q[i] / p[i]);
    } else {
      until = std::min(until, q[i] / p[i]);
    }
  }
  if (from > until) return false;
  const Point start = *a;
  *a = {start.x + from * dx, start.y + from * dy};
  *b = {start.x + until * dx, start.y + until * dy};
  return true;
}

// How much of the unit interval from `cell` on lies in [lo, hi).
double overlap(int cell, double lo, double hi) {
  return std::clamp(std::min(hi, cell + 1.0) - std::max<double>(lo, cell), 0.0, 1.0);
}

}  // namespace

Canvas::Canvas(int width, int height, Color background) : width_(width), height_(height) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) {
    throw ValueError(absl::StrCat("Canvas: ", width, " x ", height,
                                  " pixels; both sides must be in [1, ", kMaxSide, "]"));
  }
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  image_ = {width, height, 3, std::vector<uint8_t>(3 * pixels)};
  for (size_t i = 0; i < pixels; ++i) {
    image_.pixels[3 * i] = background.r;
    image_.pixels[3 * i + 1] = background.g;
    image_.pixels[3 * i + 2] = background.b;
  }
  cover_.resize(pixels);
  dirty_ = {width, height, 0, 0};
  reset_clip();
}

void Canvas::set_clip(const Rect& clip) {
  clip_ = {std::clamp<double>(clip.x0, 0, width_), std::clamp<double>(clip.y0, 0, height_),
           std::clamp<double>(clip.x1, 0, width_), std::clamp<double>(clip.y1, 0, height_)};
}

Canvas::Box Canvas::clipped(double x0, double y0, double x1, double y1) const {
  return {static_cast<int>(std::floor(std::clamp(x0, clip_.x0, clip_.x1))),
          static_cast<int>(std::floor(std::clamp(y0, clip_.y0, clip_.y1))),
          static_cast<int>(std::ceil(std::clamp(x1, clip_.x0, clip_.x1))),
          static_cast<int>(std::ceil(std::clamp(y1, clip_.y0, clip_.y1)))};
}

void Canvas::blend(int x, int y, Color color, double alpha) {
  uint8_t* p = &image_.pixels[3 * (static_cast<size_t>(y) * width_ + x)];
  const uint8_t c[3] = {color.r, color.g, color.b};
  for (int k = 0; k < 3; ++k)
    p[k] = static_cast<uint8_t>(std::lround(p[k] + alpha * (c[k] - p[k])));
}

void Canvas::fill(const Rect& rect, Color color, double alpha) {
  if (!finite({rect.x0, rect.y0}) || !finite({rect.x1, rect.y1})) return;
  const Box box = clipped(rect.x0, rect.y0, rect.x1, rect.y1);
  for (int y = box.y0; y < box.y1; ++y) {
    const double rows = overlap(y, rect.y0, rect.y1);
    for (int x = box.x0; x < box.x1; ++x) {
      blend(x, y, color, alpha * rows * overlap(x, rect.x0, rect.x1));
    }
  }
}

void Canvas::cover(int x, int y, double amount) {
  float& c = cover_[static_cast<size_t>(y) * width_ + x];
  c = std::max(c, static_cast<float>(amount));
}

void Canvas::cover_segment(Point a, Point b, double radius) {
  const double reach = radius + 0.5;
  const Rect near = {clip_.x0 - reach, clip_.y0 - reach, clip_.x1 + reach, clip_.y1 + reach};
  if (!finite(a) || !finite(b) || !cut_to(near, &a, &b)) return;
  // A pen thinner than a pixel is drawn paler instead.
  const double strength = std::min(1.0, 2 * radius);
  const double edge = std::max(radius, 0.5) + 0.5;
  if (a.y > b.y) std::swap(a, b);
  const Box box =
      clipped(std::min(a.x, b.x) - edge, a.y - edge, std::max(a.x, b.x) + edge, b.y + edge);
  dirty_ = {std::min(dirty_.x0, box.x0), std::min(dirty_.y0, box.y0), std::max(dirty_.x1, box.x1),
            std::max(dirty_.y1, box.y1)};
  const double dy = b.y - a.y;
  for (int y = box.y0; y < box.y1; ++y) {
    // Only the part of the segment that is near this row can reach its pixels.
    const double row = y + 0.5;
    const double from = dy > 0 ? std::clamp((row - edge - a.y) / dy, 0.0, 1.0) : 0;
    const double until = dy > 0 ? std::clamp((row + edge - a.y) / dy, 0.0, 1.0) : 1;
    const double x0 = a.x + from * (b.x - a.x), x1 = a.x + until * (b.x - a.x);
    const Box span = clipped(std::min(x0, x1) - edge, row, std::max(x0, x1) + edge, row);
    for (int x = span.x0; x < span.x1; ++x) {
      const double amount = edge - distance_to_segment({x + 0.5, row}, a, b);
      if (amount > 0) cover(x, y, strength * std::min(amount, 1.0));
    }
  }
}

void Canvas::paint_cover(Color color, double alpha) {
  for (int y = dirty_.y0; y < dirty_.y1; ++y) {
    for (int x = dirty_.x0; x < dirty_.x1; ++x) {
      float& c = cover_[static_cast<size_t>(y) * width_ + x];
      if (c > 0) blend(x, y, color, alpha * c);
      c = 0;
    }
  }
  dirty_ = {width_, height_, 0, 0};
}

void Canvas::stroke(Span<const Polyline> lines, double pen, Color color, double alpha) {
  for (const Polyline& line : lines) {
    if (line.size() == 1) cover_segment(line[0], line[0], pen / 2);
    for (size_t i = 0; i + 1 < line.size(); ++i) cover_segment(line[i], line[i + 1], pen / 2);
  }
  paint_cover(color, alpha);
}

void Canvas::stroke(const Polyline& line, double pen, Color color, double alpha) {
  stroke(Span<const Polyline>(&line, 1), pen, color, alpha);
}

void Canvas::stroke_dashed(const Polyline& line, double pen, Color color, double dash, double gap) {
  const Rect near = {clip_.x0 - pen, clip_.y0 - pen, clip_.x1 + pen, clip_.y1 + pen};
  const double period = dash + gap;
  double phase = 0;  // of the pattern, where the segment begins
  for (size_t i = 0; i + 1 < line.size(); ++i) {
    Point a = line[i], b = line[i + 1];
    const double whole = std::hypot(b.x - a.x, b.y - a.y);
    if (!std::isfinite(whole)) continue;
    const double begin = phase;
    phase = std::fmod(phase + whole, period);
    if (!cut_to(near, &a, &b)) continue;
    const double length = std::hypot(b.x - a.x, b.y - a.y);
    const auto on = [&](double d) {
      const double t = std::clamp(d / length, 0.0, 1.0);
      return Point{a.x + (b.x - a.x) * t, a.y + (b.y - a.y) * t};
    };
    // The dash that the visible part begins in or before may have begun outside.
    double at = -std::fmod(begin + std::hypot(a.x - line[i].x, a.y - line[i].y), period);
    for (; at < length; at += period) {
      if (at + dash > 0) cover_segment(on(at), on(at + dash), pen / 2);
    }
  }
  paint_cover(color, 1);
}

void Canvas::rectangle(const Rect& r, double pen, Color color) {
  stroke(Polyline{{r.x0, r.y0}, {r.x1, r.y0}, {r.x1, r.y1}, {r.x0, r.y1}, {r.x0, r.y0}}, pen,
         color);
}

void Canvas::marker(Point center, double radius, Marker shape, Color color, double alpha) {
  if (!finite(center)) return;
  const Box box = clipped(center.x - radius - 2, center.y - radius - 2, center.x + radius + 2,
                          center.y + radius + 2);
  dirty_ = box;
  for (int y = box.y0; y < box.y1; ++y) {
    for (int x = box.x0; x < box.x1; ++x) {
      const double dx = x + 0.5 - center.x, dy = y + 0.5 - center.y;
      // Signed distance from the edge, negative inside; sizes give all shapes a similar area.
      double d = 0;
      switch (shape) {
        case Marker::kDisc:
          d = std::hypot(dx, dy) - radius;
          break;
        case Marker::kSquare:
          d = std::max(std::abs(dx), std::abs(dy)) - 0.88 * radius;
          break;
        case Marker::kTriangle:
          d = std::max(dy - 0.75 * radius, 0.866 * std::abs(dx) - 0.5 * dy - 0.62 * radius);
          break;
        case Marker::kDiamond:
          d = (std::abs(dx) + std::abs(dy) - 1.25 * radius) * 0.7071;
          break;
        case Marker::kCross:
          d = std::max(std::abs(std::abs(dx) - std::abs(dy)) * 0.7071 - 0.34 * radius,
                       std::max(std::abs(dx), std::abs(dy)) - 0.95 * radius);
          break;
      }
      cover(x, y, std::clamp(0.5 - d, 0.0, 1.0));
    }
  }
  paint_cover(color, alpha);
}

void Canvas::text(Point at, std::string_view text, const TextStyle& style) {
  const double width = text_width(text, style.size);
  const double shift = style.align == Align::kCenter ? width / 2
                       : style.align == Align::kEnd  ? width
                                                     : 0;
  std::vector<Polyline> path = text_path(text, style.size);
  for (Polyline& line : path) {
    for (Point& p : line) {
      const double along = p.x - shift;
      p = style.upwards ? Point{at.x + p.y, at.y - along} : Point{at.x + along, at.y + p.y};
    }
  }
  stroke(path, style.size * (style.bold ? 0.125 : 0.088), style.color);
}

void Canvas::blit(const io::Image& image, int x, int y, int scale) {
  const Box box = clipped(x, y, x + static_cast<double>(image.width) * scale,
                          y + static_cast<double>(image.height) * scale);
  for (int py = box.y0; py < box.y1; ++py) {
    for (int px = box.x0; px < box.x1; ++px) {
      const size_t source = static_cast<size_t>((py - y) / scale * image.width + (px - x) / scale) *
                            static_cast<size_t>(image.channels);
      uint8_t* to = &image_.pixels[3 * (static_cast<size_t>(py) * width_ + px)];
      for (int k = 0; k < 3; ++k) to[k] = image.pixels[source + (image.channels == 3 ? k : 0)];
    }
  }
}

}  // namespace ebb::train
