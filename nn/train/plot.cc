// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/plot.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/nn/train/axis.h"
#include "ebb/nn/train/frame.h"

// Line and scatter plots.
namespace ebb::train {
namespace {

constexpr double kLinePadding = 0.02;  // free space around the data, as a part of its range
constexpr double kLinePaddingY = 0.05;
constexpr double kScatterPadding = 0.06;

std::vector<double> counting(size_t n) {
  std::vector<double> x(n);
  std::iota(x.begin(), x.end(), 0.0);
  return x;
}

// The curve on the canvas, a piece for each run of points that can be drawn. Of the points in one
// column of pixels only the first, the lowest, the highest and the last make a difference.
std::vector<Polyline> curve(const Frame& frame, const std::vector<double>& x,
                            const std::vector<double>& y) {
  std::vector<Polyline> pieces;
  Point low, high, last;
  double column = NAN;
  bool open = false;
  const auto close_column = [&] {
    if (std::isnan(column)) return;
    Polyline& piece = pieces.back();
    for (const Point& p : {low, high, last}) {
      if (p.x != piece.back().x || p.y != piece.back().y) piece.push_back(p);
    }
    column = NAN;
  };
  for (size_t i = 0; i < y.size(); ++i) {
    const Point p = frame.place(x[i], y[i]);
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) {
      close_column();
      open = false;
      continue;
    }
    if (open && std::floor(p.x) == column) {
      if (p.y < low.y) low = p;
      if (p.y > high.y) high = p;
      last = p;
      continue;
    }
    close_column();
    if (!open) pieces.emplace_back();
    open = true;
    pieces.back().push_back(p);
    column = std::floor(p.x);
    low = high = last = p;
  }
  close_column();
  return pieces;
}

// How much of the drawn curves lies in the rectangle: points about 4 pixels apart along them.
int64_t crowd(const std::vector<std::vector<Polyline>>& curves, const Rect& r) {
  int64_t inside = 0;
  for (const std::vector<Polyline>& pieces : curves) {
    for (const Polyline& piece : pieces) {
      for (size_t i = 0; i < piece.size(); ++i) {
        const Point a = piece[i], b = piece[std::min(i + 1, piece.size() - 1)];
        const double length = std::hypot(b.x - a.x, b.y - a.y);
        const int steps = static_cast<int>(std::clamp(length / 4, 1.0, 1000.0));
        for (int k = 0; k < steps; ++k) {
          const double t = static_cast<double>(k) / steps;
          const double x = a.x + t * (b.x - a.x), y = a.y + t * (b.y - a.y);
          inside += x >= r.x0 && x < r.x1 && y >= r.y0 && y < r.y1;
        }
      }
    }
  }
  return inside;
}

// The place in the plot area where a legend of this size covers no curve; the least covered one
// where there is none, and then `*free` is false.
Point legend_place(const Frame& frame, const std::vector<std::vector<Polyline>>& curves, Point size,
                   bool* free) {
  const Rect& area = frame.area();
  const double inset = 0.5 * frame.font();
  const double left = area.x0 + inset, right = area.x1 - inset - size.x;
  const double top = area.y0 + inset, bottom = area.y1 - inset - size.y;
  const double middle = (left + right) / 2, center = (top + bottom) / 2;
  const Point candidates[] = {{right, top},    {left, top},   {right, bottom}, {left, bottom},
                              {right, center}, {middle, top}, {left, center},  {middle, bottom}};
  Point best = candidates[0];
  int64_t least = -1;
  for (const Point& at : candidates) {
    const int64_t n = crowd(curves, {at.x, at.y, at.x + size.x, at.y + size.y});
    if (least < 0 || n < least) {
      least = n;
      best = at;
    }
  }
  *free = least == 0 && size.x < 0.6 * area.width() && size.y < 0.8 * area.height();
  return best;
}

void draw_series(Frame* frame, const Series& s, const std::vector<Polyline>& pieces, Color color) {
  const double pen = 0.14 * frame->font();
  Canvas& canvas = frame->canvas();
  for (const Polyline& piece : pieces) {
    if (piece.size() == 1 && !s.markers) {
      canvas.marker(piece[0], pieces.size() == 1 ? 2.4 * pen : 1.3 * pen, Marker::kDisc, color);
    } else if (s.dashed) {
      canvas.stroke_dashed(piece, 0.85 * pen, color, 3.2 * pen, 2.6 * pen);
    }
  }
  if (!s.dashed) canvas.stroke(pieces, pen, color);
}

}  // namespace

io::Image line_plot(Span<const Series> series, const LineOptions& options) {
  std::vector<std::vector<double>> counted(series.size());
  std::vector<const std::vector<double>*> xs, ys;
  std::vector<LegendEntry> legend;
  for (size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    if (!s.x.empty() && s.x.size() != s.y.size()) {
      throw ShapeError(absl::StrCat("line_plot: series ", i, " (", s.name, ") has ", s.x.size(),
                                    " x and ", s.y.size(), " y"));
    }
    if (s.x.empty()) counted[i] = counting(s.y.size());
    xs.push_back(s.x.empty() ? &counted[i] : &s.x);
    ys.push_back(&s.y);
    if (!s.name.empty()) {
      legend.push_back({.name = s.name,
                        .color = series_color(static_cast<int64_t>(i)),
                        .line = true,
                        .dashed = s.dashed});
    }
  }
  const Axis x = Axis::around(xs, options.log_x, kLinePadding, options.x_min, options.x_max);
  const Axis y = Axis::around(ys, options.log_y, kLinePaddingY, options.y_min, options.y_max);
  const FrameText text = {options.title, options.x_label, options.y_label};

  Frame frame(options.width, options.height, x, y, text);
  std::vector<std::vector<Polyline>> curves;
  const auto place_curves = [&] {
    curves.clear();
    for (size_t i = 0; i < series.size(); ++i) curves.push_back(curve(frame, *xs[i], *ys[i]));
  };
  place_curves();
  const Point size = Frame::legend_size(legend, frame.font());
  bool inside = true;
  Point at;
  if (!legend.empty()) {
    at = legend_place(frame, curves, size, &inside);
    if (!inside && size.x < 0.4 * options.width) {
      frame = Frame(options.width, options.height, x, y, text, size.x);
      place_curves();
      at = {frame.area().x1 + 0.2 * frame.font(), frame.area().y0};
    }
  }

  Canvas& canvas = frame.canvas();
  const Rect& area = frame.area();
  const double reach = 0.3 * frame.font();  // of the pen, and of markers on the edge
  canvas.set_clip({area.x0 - reach, area.y0 - reach, area.x1 + reach, area.y1 + reach});
  bool any = false;
  // The first series is drawn last: it is the one the picture is about.
  for (size_t i = series.size(); i-- > 0;) {
    const Color color = series_color(static_cast<int64_t>(i));
    draw_series(&frame, series[i], curves[i], color);
    any = any || !curves[i].empty();
    if (!series[i].markers) continue;
    for (size_t k = 0; k < ys[i]->size(); ++k) {
      canvas.marker(frame.place((*xs[i])[k], (*ys[i])[k]), 0.27 * frame.font(), Marker::kDisc,
                    color);
    }
  }
  canvas.reset_clip();
  if (!any) frame.no_data();
  if (!legend.empty()) frame.legend(legend, at);
  return std::move(canvas).take();
}

io::Image scatter_plot(Span<const double> x, Span<const double> y, Span<const int64_t> labels,
                       const ScatterOptions& options) {
  if (x.size() != y.size() || (!labels.empty() && labels.size() != x.size())) {
    throw ShapeError(absl::StrCat("scatter_plot: ", x.size(), " x, ", y.size(), " y and ",
                                  labels.size(), " labels"));
  }
  int64_t classes = 1;
  for (const int64_t label : labels) {
    if (label < 0) throw ValueError(absl::StrCat("scatter_plot: class ", label, " is negative"));
    classes = std::max(classes, label + 1);
  }
  const std::vector<double> xs(x.begin(), x.end()), ys(y.begin(), y.end());
  const std::vector<double>*const x_list[] = {&xs}, *const y_list[] = {&ys};
  Axis x_axis = Axis::around(x_list, false, kScatterPadding);
  Axis y_axis = Axis::around(y_list, false, kScatterPadding);

  // After ten classes the colours repeat with another marker.
  const auto marker_of = [](int64_t label) { return static_cast<Marker>(label / 10 % 5); };
  std::vector<LegendEntry> legend;
  for (size_t i = 0; i < options.class_names.size(); ++i) {
    legend.push_back({.name = options.class_names[i],
                      .color = series_color(static_cast<int64_t>(i)),
                      .marker = marker_of(static_cast<int64_t>(i))});
  }
  const double font = Frame::font_for(options.width, options.height);
  const double right = legend.empty() ? 0 : Frame::legend_size(legend, font).x;
  const FrameText text = {options.title, options.x_label, options.y_label};
  Frame frame(options.width, options.height, x_axis, y_axis, text, right);
  if (options.equal_axes) {
    // Widens the axis whose unit is longer.
    const double per_x = frame.area().width() / (x_axis.hi() - x_axis.lo());
    const double per_y = frame.area().height() / (y_axis.hi() - y_axis.lo());
    const auto widened = [](const Axis& a, double factor) {
      const double middle = (a.lo() + a.hi()) / 2, half = (a.hi() - a.lo()) / 2 * factor;
      return Axis(middle - half, middle + half, false);
    };
    if (per_x > per_y) x_axis = widened(x_axis, per_x / per_y);
    if (per_y > per_x) y_axis = widened(y_axis, per_y / per_x);
    frame = Frame(options.width, options.height, x_axis, y_axis, text, right);
  }

  Canvas& canvas = frame.canvas();
  const double count = static_cast<double>(std::max<size_t>(x.size(), 1));
  const double radius = options.radius > 0
                            ? options.radius
                            : std::clamp(90 / std::sqrt(count), 2.2, 5.0) * (font / 15);
  const double alpha = x.size() > 300 ? 0.72 : 0.9;
  bool any = false;
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t label = labels.empty() ? 0 : labels[i];
    const Point p = frame.place(x[i], y[i]);
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
    any = true;
    canvas.marker(p, radius, marker_of(label), series_color(label), alpha);
  }
  if (!any) frame.no_data();
  if (!legend.empty()) frame.legend(legend, {frame.area().x1 + 0.2 * font, frame.area().y0});
  return std::move(canvas).take();
}

}  // namespace ebb::train
