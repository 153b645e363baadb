// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/frame.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"

namespace ebb::train {
namespace {

constexpr int kMinSide = 200, kMaxSide = 10000;

// Distances in units of the font size.
constexpr double kTitleSize = 1.25;
constexpr double kTitleRoom = 2.6;  // from the top edge to the plot area, with a title
constexpr double kTopRoom = 1.1;    // without one
constexpr double kTickGap = 0.55;   // between an axis and its numbers
constexpr double kLabelRoom = 1.9;  // for the label of an axis
constexpr double kEdge = 0.8;       // at the outer edges
constexpr double kCapHeight = 0.7;
constexpr double kLegendLine = 1.55;  // from one entry to the next
constexpr double kLegendSwatch = 1.7;
constexpr double kLegendPadding = 0.6;

double widest(const std::vector<std::string>& labels, double size) {
  double width = 0;
  for (const std::string& label : labels) width = std::max(width, text_width(label, size));
  return width;
}

// As many ticks as there is room for side by side.
Ticks fitting_ticks(const Axis& axis, double length, double font) {
  for (int count = 12; count > 1; --count) {
    Ticks ticks = axis.ticks(count);
    bool fits = true;
    for (size_t i = 0; i + 1 < ticks.at.size(); ++i) {
      const double distance =
          (axis.position(ticks.at[i + 1]) - axis.position(ticks.at[i])) * length;
      const double need =
          (text_width(ticks.labels[i], font) + text_width(ticks.labels[i + 1], font)) / 2;
      fits = fits && distance > need + font;
    }
    if (fits) return ticks;
  }
  return axis.ticks(1);
}

}  // namespace

double Frame::font_for(int width, int height) {
  return 17 * std::clamp(std::min(width / 960.0, height / 600.0), 0.7, 2.5);
}

Frame::Frame(int width, int height, const Axis& x, const Axis& y, const FrameText& text,
             double right)
    : canvas_((width < kMinSide || height < kMinSide || width > kMaxSide || height > kMaxSide)
                  ? throw ValueError(absl::StrCat("plot: ", width, " x ", height,
                                                  " pixels; both sides must be in [", kMinSide,
                                                  ", ", kMaxSide, "]"))
                  : Canvas(width, height, Ink::kPaper)),
      x_(x),
      y_(y),
      font_(font_for(width, height)) {
  const double top = (text.title.empty() ? kTopRoom : kTitleRoom) * font_;
  const double bottom =
      (kTickGap + kCapHeight + kEdge + (text.x_label.empty() ? 0 : kLabelRoom)) * font_;
  area_ = {0, std::round(top), 0, std::round(height - bottom)};
  const Ticks y_ticks = y_.ticks(std::max(2, static_cast<int>(area_.height() / (3.2 * font_))));
  const double left = widest(y_ticks.labels, font_) +
                      (kTickGap + kEdge + (text.y_label.empty() ? 0 : kLabelRoom)) * font_;
  // A plot stays usable where labels are absurdly wide.
  area_.x0 = std::round(std::min(left, 0.4 * width));
  area_.x1 = std::round(std::max(width - kEdge * font_ - right, area_.x0 + 0.2 * width));
  const Ticks x_ticks = fitting_ticks(x_, area_.width(), font_);
  if (!x_ticks.labels.empty()) {  // the last number may stand out on the right
    const double end = area_.x0 + x_.position(x_ticks.at.back()) * area_.width() +
                       text_width(x_ticks.labels.back(), font_) / 2 + 0.3 * font_;
    if (right == 0 && end > width) area_.x1 = std::round(area_.x1 - (end - width));
  }
  draw_y_axis(y_ticks, text.y_label);
  draw_x_axis(x_ticks, text.x_label);
  if (!text.title.empty()) {
    double size = kTitleSize * font_;
    const double room = width - area_.x0 - kEdge * font_;
    size = std::min(size, size * room / text_width(text.title, size));
    canvas_.text({area_.x0, (kEdge + kTitleSize * kCapHeight) * font_}, text.title,
                 {.size = size, .color = Ink::kTitle, .bold = true});
  }
}

Point Frame::place(double x, double y) const {
  return {area_.x0 + x_.position(x) * area_.width(), area_.y1 - y_.position(y) * area_.height()};
}

void Frame::draw_x_axis(const Ticks& ticks, const std::string& label) {
  const double baseline = area_.y1 + (kTickGap + kCapHeight) * font_;
  for (size_t i = 0; i < ticks.at.size(); ++i) {
    const double x = std::floor(area_.x0 + x_.position(ticks.at[i]) * area_.width()) + 0.5;
    canvas_.stroke(Polyline{{x, area_.y0}, {x, area_.y1}}, 1, Ink::kGrid);
    canvas_.stroke(Polyline{{x, area_.y1}, {x, area_.y1 + 0.28 * font_}}, 1, Ink::kAxis);
    canvas_.text({x, baseline}, ticks.labels[i],
                 {.size = font_, .color = Ink::kText, .align = Align::kCenter});
  }
  canvas_.fill({area_.x0, area_.y1, area_.x1, area_.y1 + 1}, Ink::kAxis);
  canvas_.text({(area_.x0 + area_.x1) / 2, baseline + kLabelRoom * font_}, label,
               {.size = font_ * 1.03, .color = Ink::kText, .align = Align::kCenter});
}

void Frame::draw_y_axis(const Ticks& ticks, const std::string& label) {
  for (size_t i = 0; i < ticks.at.size(); ++i) {
    const double y = std::floor(area_.y1 - y_.position(ticks.at[i]) * area_.height()) + 0.5;
    canvas_.stroke(Polyline{{area_.x0, y}, {area_.x1, y}}, 1, Ink::kGrid);
    canvas_.text({area_.x0 - kTickGap * font_, y + kCapHeight * font_ / 2}, ticks.labels[i],
                 {.size = font_, .color = Ink::kText, .align = Align::kEnd});
  }
  canvas_.text(
      {(kEdge + kCapHeight) * font_, (area_.y0 + area_.y1) / 2}, label,
      {.size = font_ * 1.03, .color = Ink::kText, .align = Align::kCenter, .upwards = true});
}

Point Frame::legend_size(const std::vector<LegendEntry>& entries, double font) {
  double width = 0;
  for (const LegendEntry& e : entries) width = std::max(width, text_width(e.name, font));
  return {width + (kLegendSwatch + 0.4 + 2 * kLegendPadding) * font,
          (kLegendLine * static_cast<double>(entries.size()) + 2 * kLegendPadding - 0.5) * font};
}

void Frame::legend(const std::vector<LegendEntry>& entries, Point at) {
  const Point size = legend_size(entries, font_);
  canvas_.fill({at.x, at.y, at.x + size.x, at.y + size.y}, Ink::kPaper, 0.86);
  const double x = at.x + kLegendPadding * font_;
  double baseline = at.y + (kLegendPadding + kCapHeight + 0.15) * font_;
  for (const LegendEntry& e : entries) {
    const double y = baseline - kCapHeight * font_ / 2;
    const Polyline sample = {{x, y}, {x + kLegendSwatch * font_, y}};
    if (!e.line) {
      canvas_.marker({x + kLegendSwatch * font_ / 2, y}, 0.33 * font_, e.marker, e.color);
    } else if (e.dashed) {
      canvas_.stroke_dashed(sample, 0.14 * font_, e.color, 0.4 * font_, 0.3 * font_);
    } else {
      canvas_.stroke(sample, 0.17 * font_, e.color);
    }
    canvas_.text({x + (kLegendSwatch + 0.4) * font_, baseline}, e.name,
                 {.size = font_, .color = Ink::kText});
    baseline += kLegendLine * font_;
  }
}

void Frame::no_data() {
  const double size = 1.2 * font_, half = text_width("no data", size) / 2;
  const Point at = {(area_.x0 + area_.x1) / 2, (area_.y0 + area_.y1) / 2};
  canvas_.fill({at.x - half, at.y - 1.2 * size, at.x + half, at.y + 0.6 * size}, Ink::kPaper);
  canvas_.text(at, "no data", {.size = size, .color = Ink::kFaintText, .align = Align::kCenter});
}

}  // namespace ebb::train
