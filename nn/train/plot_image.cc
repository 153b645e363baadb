// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/nn/train/axis.h"
#include "ebb/nn/train/frame.h"
#include "ebb/nn/train/plot.h"

// Heat maps, and pictures made of pictures.
namespace ebb::train {
namespace {

constexpr double kFont = 16;
constexpr double kTitleFont = 20;
constexpr double kCapHeight = 0.7;
constexpr int kMargin = 14;
constexpr int64_t kMaxCells = 4000;   // of a heat map, in each direction
constexpr int64_t kMaxSide = 20000;   // of a picture, pixels
constexpr int64_t kUsualWidth = 800;  // what zooming aims at

struct Range {
  double lo = std::numeric_limits<double>::infinity();
  double hi = -std::numeric_limits<double>::infinity();

  bool empty() const { return lo > hi; }
};

Range drawable_range(Span<const double> values) {
  Range r;
  for (double v : values) {
    if (!Axis::drawable(v, false)) continue;
    r.lo = std::min(r.lo, v);
    r.hi = std::max(r.hi, v);
  }
  return r;
}

// (v - lo) / (hi - lo) without overflow; 0.5 where the range is empty or a point.
double fraction(double v, const Range& r) {
  const double width = r.hi / 2 - r.lo / 2;
  return width > 0 ? (v / 2 - r.lo / 2) / width : 0.5;
}

// ---- heat maps
// -----------------------------------------------------------------------------------

// Names of the rows or columns beside the cells, as many as there is room for.
struct CellLabels {
  std::vector<int64_t> at;
  std::vector<std::string> text;

  double widest(double font) const {
    double width = 0;
    for (const std::string& t : text) width = std::max(width, text_width(t, font));
    return width;
  }
};

CellLabels cell_labels(const std::vector<std::string>& names, int64_t count, double cell,
                       double room) {
  const int64_t fit = std::max<int64_t>(
      1, static_cast<int64_t>(std::floor(cell * static_cast<double>(count) / room)));
  CellLabels out;
  if (!names.empty()) {
    const int64_t step = (count + fit - 1) / fit;
    for (int64_t i = 0; i < count; i += std::max<int64_t>(step, 1)) {
      out.at.push_back(i);
      out.text.push_back(names[static_cast<size_t>(i)]);
    }
    return out;
  }
  if (count == 0) return out;
  const double last = static_cast<double>(count) - 1;
  const Ticks ticks =
      Axis(-0.5, last + 0.5, false).ticks(static_cast<int>(std::min<int64_t>(fit, 12)));
  for (const double v : ticks.at) {
    if (v != std::floor(v) || v < 0 || v > last) continue;
    out.at.push_back(static_cast<int64_t>(v));
    out.text.push_back(absl::StrCat(out.at.back()));
  }
  return out;
}

// The values at both ends of the colours.
Range color_range(Span<const double> values, const HeatMapOptions& options) {
  Range r = drawable_range(values);
  if (r.empty()) r = {0, 1};
  if (options.map == ColorMap::kDiverging && std::isnan(options.lo) && std::isnan(options.hi)) {
    const double largest = std::max(std::abs(r.lo), std::abs(r.hi));
    r = {-largest, largest};
  }
  if (Axis::drawable(options.lo, false)) r.lo = options.lo;
  if (Axis::drawable(options.hi, false)) r.hi = options.hi;
  // One value: a range around it, so that the bar has two ends.
  const std::vector<double> ends = {r.lo, r.hi}, *const list[] = {&ends};
  const Axis axis = Axis::around(list, false, 0);
  return {axis.lo(), axis.hi()};
}

void draw_color_bar(Canvas* canvas, const Rect& bar, const Axis& axis, const Ticks& ticks,
                    ColorMap map) {
  for (double y = bar.y0; y < bar.y1; ++y) {
    const double t = 1 - (y + 0.5 - bar.y0) / bar.height();
    canvas->fill({bar.x0, y, bar.x1, std::min(y + 1, bar.y1)}, map_color(map, t));
  }
  for (size_t i = 0; i < ticks.at.size(); ++i) {
    const double y = bar.y1 - axis.position(ticks.at[i]) * bar.height();
    canvas->stroke(Polyline{{bar.x1, y}, {bar.x1 + 5, y}}, 1, Ink::kAxis);
    canvas->text({bar.x1 + 9, y + kCapHeight * kFont / 2}, ticks.labels[i], {.size = kFont});
  }
}

// Black or white, whatever stands out.
Color contrast(Color c) {
  const double light = 0.299 * c.r + 0.587 * c.g + 0.114 * c.b;
  return light > 140 ? Ink::kTitle : Ink::kPaper;
}

}  // namespace

io::Image heat_map(Span<const double> values, int64_t rows, int64_t columns,
                   const HeatMapOptions& options) {
  const auto named = [](const std::vector<std::string>& names, int64_t count) {
    return names.empty() || names.size() == static_cast<size_t>(count);
  };
  if (rows > kMaxCells || columns > kMaxCells || options.cell < 0 || options.cell > 1000) {
    throw ValueError(absl::StrCat("heat_map: ", rows, " x ", columns, " cells of ", options.cell,
                                  " pixels; at most ", kMaxCells, " each way and 1000 pixels"));
  }
  if (rows < 0 || columns < 0 || static_cast<int64_t>(values.size()) != rows * columns ||
      !named(options.row_names, rows) || !named(options.column_names, columns)) {
    throw ShapeError(absl::StrCat(
        "heat_map: ", values.size(), " values, ", options.row_names.size(), " row names and ",
        options.column_names.size(), " column names for ", rows, " x ", columns, " cells"));
  }
  const int64_t longest = std::max<int64_t>({rows, columns, 1});
  const int64_t cell = options.cell > 0 ? options.cell : std::clamp<int64_t>(560 / longest, 1, 56);
  const double width = static_cast<double>(std::max<int64_t>(columns * cell, 40));
  const double height = static_cast<double>(std::max<int64_t>(rows * cell, 40));
  const double c = static_cast<double>(cell);

  const Range range = color_range(values, options);
  const Axis bar_axis(range.lo, range.hi, false);
  const Ticks bar_ticks = bar_axis.ticks(std::clamp(static_cast<int>(height / 50), 2, 7));
  const CellLabels row_labels = cell_labels(options.row_names, rows, c, 1.35 * kFont);
  CellLabels column_labels = cell_labels(options.column_names, columns, c,
                                         options.column_names.empty() ? 3.5 * kFont : 1.35 * kFont);
  // Names that are wider than their cells stand upright.
  const double column_step =
      column_labels.at.size() > 1
          ? c * static_cast<double>(column_labels.at[1] - column_labels.at[0])
          : width;
  const bool upright = column_labels.widest(kFont) + 0.5 * kFont > column_step;

  const double label_room = 1.9 * kFont;
  double x0 =
      kMargin + row_labels.widest(kFont) + 0.5 * kFont + (options.y_label.empty() ? 0 : label_room);
  const double y0 = kMargin + (options.title.empty() ? 0 : 1.9 * kTitleFont);
  double bar_text = 0;
  for (const std::string& label : bar_ticks.labels) {
    bar_text = std::max(bar_text, text_width(label, kFont));
  }
  const double bar_x = x0 + width + 1.3 * kFont, bar_width = 18;
  const double names_room =
      upright ? column_labels.widest(kFont) + 0.3 * kFont : kCapHeight * kFont;
  const double total_height =
      y0 + height + 0.6 * kFont + names_room + (options.x_label.empty() ? 0 : label_room) + kMargin;
  double total_width = bar_x + bar_width + 9 + bar_text + kMargin;
  total_width = std::max(total_width, x0 + text_width(options.title, kTitleFont) + kMargin);
  Canvas canvas(static_cast<int>(std::ceil(total_width)),
                static_cast<int>(std::ceil(total_height)));
  x0 = std::round(x0);
  const double top = std::round(y0);

  canvas.text({x0, kMargin + kCapHeight * kTitleFont}, options.title,
              {.size = kTitleFont, .color = Ink::kTitle, .bold = true});
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const double v = values[static_cast<size_t>(i * columns + j)];
      const Color color = map_color(options.map, fraction(v, range));
      const double x = x0 + c * static_cast<double>(j), y = top + c * static_cast<double>(i);
      canvas.fill({x, y, x + c, y + c}, color);
      if (!options.write_values || std::isnan(v)) continue;
      const std::string text = short_number(v);
      const double size =
          std::min(kFont, kFont * 0.85 * c / std::max(text_width(text, kFont), 1.0));
      if (size < 8) continue;
      canvas.text({x + c / 2, y + c / 2 + kCapHeight * size / 2}, text,
                  {.size = size, .color = contrast(color), .align = Align::kCenter});
    }
  }
  canvas.rectangle({x0 - 0.5, top - 0.5, x0 + width + 0.5, top + height + 0.5}, 1, Ink::kAxis);

  for (size_t k = 0; k < row_labels.at.size(); ++k) {
    const double y = top + c * (static_cast<double>(row_labels.at[k]) + 0.5);
    canvas.text({x0 - 0.5 * kFont, y + kCapHeight * kFont / 2}, row_labels.text[k],
                {.size = kFont, .align = Align::kEnd});
  }
  const double below = top + height + 0.6 * kFont;
  for (size_t k = 0; k < column_labels.at.size(); ++k) {
    const double x = x0 + c * (static_cast<double>(column_labels.at[k]) + 0.5);
    if (upright) {
      canvas.text({x + kCapHeight * kFont / 2, below}, column_labels.text[k],
                  {.size = kFont, .align = Align::kEnd, .upwards = true});
    } else {
      canvas.text({x, below + kCapHeight * kFont}, column_labels.text[k],
                  {.size = kFont, .align = Align::kCenter});
    }
  }
  canvas.text({x0 + width / 2, below + names_room + label_room - 0.3 * kFont}, options.x_label,
              {.size = kFont, .align = Align::kCenter});
  canvas.text({kMargin + kCapHeight * kFont, top + height / 2}, options.y_label,
              {.size = kFont, .align = Align::kCenter, .upwards = true});
  draw_color_bar(&canvas, {std::round(bar_x), top, std::round(bar_x) + bar_width, top + height},
                 bar_axis, bar_ticks, options.map);
  return std::move(canvas).take();
}

// ---- tiles
// ---------------------------------------------------------------------------------------

namespace {

// The tile's numbers as bytes; NaN is mid grey.
io::Image tile_image(Span<const double> values, int64_t channels, int64_t height, int64_t width,
                     TileScale scale) {
  Range range{0, 1};
  if (scale != TileScale::kUnit) range = drawable_range(values);
  if (scale == TileScale::kSigned) {
    const double largest = range.empty() ? 1 : std::max(std::abs(range.lo), std::abs(range.hi));
    range = {-largest, largest};
  }
  io::Image image{width, height, channels, std::vector<uint8_t>(values.size())};
  const int64_t plane = height * width;
  for (int64_t i = 0; i < plane; ++i) {
    for (int64_t k = 0; k < channels; ++k) {
      double t = fraction(values[static_cast<size_t>(k * plane + i)], range);
      t = std::isnan(t) ? 0.5 : std::clamp(t, 0.0, 1.0);
      image.pixels[static_cast<size_t>(i * channels + k)] =
          static_cast<uint8_t>(std::lround(255 * t));
    }
  }
  return image;
}

// Checks the size of a picture that is to be made.
void check_side(const char* what, double width, double height) {
  if (width > static_cast<double>(kMaxSide) || height > static_cast<double>(kMaxSide)) {
    throw ValueError(absl::StrCat(what, ": the picture would be ", std::ceil(width), " x ",
                                  std::ceil(height), " pixels; at most ", kMaxSide, " each way"));
  }
}

int64_t automatic_zoom(double numbers_wide) {
  return std::clamp<int64_t>(
      static_cast<int64_t>(static_cast<double>(kUsualWidth) / std::max(numbers_wide, 1.0)), 1, 16);
}

// For a picture about 1.5 times as wide as high, and a last row as full as may be.
int64_t automatic_columns(int64_t tiles, int64_t height, int64_t width) {
  const double aspect = 1.5 * static_cast<double>(height) / static_cast<double>(width);
  const double ideal = std::sqrt(static_cast<double>(tiles) * aspect);
  const auto rounded = [tiles](double v) {
    return std::clamp<int64_t>(std::llround(v), 1, std::max<int64_t>(tiles, 1));
  };
  int64_t best = rounded(ideal);
  const auto unused = [tiles](int64_t columns) { return (columns - tiles % columns) % columns; };
  for (int64_t c = rounded(0.75 * ideal); c <= rounded(1.4 * ideal); ++c) {
    const bool nearer =
        std::abs(static_cast<double>(c) - ideal) < std::abs(static_cast<double>(best) - ideal);
    if (unused(c) < unused(best) || (unused(c) == unused(best) && nearer)) best = c;
  }
  return best;
}

double title_room(const std::string& title) { return title.empty() ? 0 : 1.9 * kTitleFont; }

void draw_title(Canvas* canvas, double x, const std::string& title) {
  canvas->text({x, kMargin + kCapHeight * kTitleFont}, title,
               {.size = kTitleFont, .color = Ink::kTitle, .bold = true});
}

}  // namespace

io::Image mosaic(Span<const double> values, int64_t height, int64_t width,
                 const MosaicOptions& options) {
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide ||
      static_cast<int64_t>(values.size()) % (height * width) != 0) {
    throw ShapeError(absl::StrCat("mosaic: ", values.size(), " values are no tiles of [", height,
                                  ",", width, "]"));
  }
  if (options.columns < 0 || options.gap < 0 || options.zoom < 0) {
    throw ValueError(absl::StrCat("mosaic: columns=", options.columns, ", zoom=", options.zoom,
                                  " and gap=", options.gap, " must not be negative"));
  }
  const int64_t size = height * width, tiles = static_cast<int64_t>(values.size()) / size;
  const int64_t columns =
      options.columns > 0 ? options.columns : automatic_columns(tiles, height, width);
  const int64_t rows = std::max<int64_t>((tiles + columns - 1) / columns, 1);
  const int64_t zoom =
      options.zoom > 0 ? options.zoom
                       : automatic_zoom(static_cast<double>(columns) * static_cast<double>(width));
  const double step_x = static_cast<double>(width) * zoom + options.gap;
  const double step_y = static_cast<double>(height) * zoom + options.gap;
  const double inner = step_x * columns - options.gap;
  const double total_width = 2 * kMargin + std::max(inner, text_width(options.title, kTitleFont));
  const double top = kMargin + title_room(options.title);
  const double total_height = top + step_y * rows - options.gap + kMargin;
  check_side("mosaic", total_width, total_height);

  Canvas canvas(static_cast<int>(std::ceil(total_width)),
                static_cast<int>(std::ceil(total_height)));
  draw_title(&canvas, kMargin, options.title);
  for (int64_t i = 0; i < tiles; ++i) {
    const io::Image tile =
        tile_image(values.subspan(static_cast<size_t>(i * size), static_cast<size_t>(size)), 1,
                   height, width, options.scale);
    const double row = std::floor(static_cast<double>(i) / static_cast<double>(columns));
    const double column = static_cast<double>(i % columns);
    canvas.blit(tile, static_cast<int>(kMargin + step_x * column),
                static_cast<int>(top + step_y * row), static_cast<int>(zoom));
  }
  return std::move(canvas).take();
}

io::Image image_rows(Span<const ImageRow> rows, const ImageRowsOptions& options) {
  if (options.gap < 0 || options.zoom < 0) {
    throw ValueError(absl::StrCat("image_rows: zoom=", options.zoom, " and gap=", options.gap,
                                  " must not be negative"));
  }
  // The largest tile of each column and of each row, in numbers.
  std::vector<int64_t> column_widths, row_heights;
  double label_width = 0;
  for (const ImageRow& row : rows) {
    label_width = std::max(label_width, text_width(row.label, kFont));
    row_heights.push_back(1);
    for (size_t j = 0; j < row.tiles.size(); ++j) {
      const Tile& t = row.tiles[j];
      if (t.height < 1 || t.width < 1 || t.height > kMaxSide || t.width > kMaxSide ||
          (t.channels != 1 && t.channels != 3) ||
          static_cast<int64_t>(t.values.size()) != t.channels * t.height * t.width) {
        throw ShapeError(absl::StrCat("image_rows: row ", row.label, ", tile ", j, ": ",
                                      t.values.size(), " values for [", t.channels, ",", t.height,
                                      ",", t.width, "]; needs 1 or 3 channels"));
      }
      if (column_widths.size() <= j) column_widths.push_back(1);
      column_widths[j] = std::max(column_widths[j], t.width);
      row_heights.back() = std::max(row_heights.back(), t.height);
    }
  }
  double numbers_wide = 0;
  for (int64_t w : column_widths) numbers_wide += static_cast<double>(w);
  const int64_t zoom = options.zoom > 0 ? options.zoom : automatic_zoom(numbers_wide);

  const bool header = !options.column_labels.empty();
  const double left = kMargin + (label_width > 0 ? label_width + 0.7 * kFont : 0);
  std::vector<double> xs = {left};
  for (int64_t w : column_widths)
    xs.push_back(xs.back() + static_cast<double>(w * zoom) + options.gap);
  std::vector<double> ys = {kMargin + title_room(options.title) + (header ? 1.4 * kFont : 0)};
  for (int64_t h : row_heights)
    ys.push_back(ys.back() + static_cast<double>(h * zoom) + options.gap);
  const double total_width =
      std::max(xs.back() - options.gap, kMargin + text_width(options.title, kTitleFont)) + kMargin;
  const double total_height = std::max(ys.back() - options.gap, ys[0]) + kMargin;
  check_side("image_rows", total_width, total_height);

  Canvas canvas(static_cast<int>(std::ceil(total_width)),
                static_cast<int>(std::ceil(total_height)));
  draw_title(&canvas, kMargin, options.title);
  for (size_t j = 0; j < std::min(options.column_labels.size(), column_widths.size()); ++j) {
    canvas.text({xs[j] + static_cast<double>(column_widths[j] * zoom) / 2, ys[0] - 0.5 * kFont},
                options.column_labels[j], {.size = kFont, .align = Align::kCenter});
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const double middle = ys[i] + static_cast<double>(row_heights[i] * zoom) / 2;
    canvas.text({left - 0.7 * kFont, middle + kCapHeight * kFont / 2}, rows[i].label,
                {.size = kFont, .align = Align::kEnd});
    for (size_t j = 0; j < rows[i].tiles.size(); ++j) {
      const Tile& t = rows[i].tiles[j];
      canvas.blit(tile_image(t.values, t.channels, t.height, t.width, rows[i].scale),
                  static_cast<int>(xs[j]), static_cast<int>(ys[i]), static_cast<int>(zoom));
    }
  }
  return std::move(canvas).take();
}

namespace {

io::Image arranged(Span<const io::Image> images, int gap, bool across, const char* what) {
  int64_t along = 0, widest = 1;
  for (const io::Image& image : images) {
    if ((image.channels != 1 && image.channels != 3) || image.width < 1 || image.height < 1 ||
        image.width > kMaxSide || image.height > kMaxSide ||
        static_cast<int64_t>(image.pixels.size()) != image.width * image.height * image.channels) {
      throw ShapeError(absl::StrCat(what, ": an image of ", image.width, " x ", image.height,
                                    " with ", image.channels, " channels and ", image.pixels.size(),
                                    " bytes"));
    }
    along += (along > 0 ? gap : 0) + (across ? image.width : image.height);
    widest = std::max(widest, across ? image.height : image.width);
  }
  along = std::max<int64_t>(along, 1);
  check_side(what, static_cast<double>(across ? along : widest),
             static_cast<double>(across ? widest : along));
  Canvas canvas(static_cast<int>(across ? along : widest),
                static_cast<int>(across ? widest : along));
  int at = 0;
  for (const io::Image& image : images) {
    canvas.blit(image, across ? at : 0, across ? 0 : at);
    at += static_cast<int>(across ? image.width : image.height) + gap;
  }
  return std::move(canvas).take();
}

}  // namespace

io::Image side_by_side(Span<const io::Image> images, int gap) {
  return arranged(images, gap, true, "side_by_side");
}

io::Image stacked(Span<const io::Image> images, int gap) {
  return arranged(images, gap, false, "stacked");
}

}  // namespace ebb::train
