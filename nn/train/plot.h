// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ebb/core/shape.h"
#include "ebb/nn/io/png.h"
#include "ebb/nn/train/colors.h"

// Pictures of what a program did, for people to look at: each function returns an RGB image for
// `io::write_png`. Numbers that are not finite are left out; a plot of nothing is an empty frame.
namespace ebb::train {

/// For a limit of an axis: to be found from the data.
inline constexpr double kAutomatic = NAN;

// ---- plots with axes
// -----------------------------------------------------------------------------

struct Series {
  std::string name = {};  // in the legend; empty: not there
  std::vector<double> y = {};
  std::vector<double> x = {};  // as many as y; empty: 0, 1, 2, ...
  bool dashed = false;         // for references and targets
  bool markers = false;        // marks each point
};

struct LineOptions {
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  bool log_x = false;  // leaves out numbers <= 0
  bool log_y = false;
  double x_min = kAutomatic;
  double x_max = kAutomatic;
  double y_min = kAutomatic;
  double y_max = kAutomatic;
  int width = 960;  // pixels, 200 to 10000
  int height = 600;
};

/// Curves: each series is a line through its points in their order, broken where a number cannot
/// be drawn. Throws ShapeError where x and y of a series differ in length, ValueError on a size out
/// of range.
io::Image line_plot(Span<const Series> series, const LineOptions& options = {});

struct ScatterOptions {
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  std::vector<std::string> class_names = {};  // empty: no legend
  bool equal_axes = false;                    // one unit is as long on both axes
  double radius = 0;                          // of the points, pixels; 0: from their number
  int width = 800;
  int height = 640;
};

/// Points (x[i], y[i]) in the colour of class labels[i] >= 0; `labels` may be empty. Throws
/// ShapeError where lengths differ, ValueError on a negative class or a size out of range.
io::Image scatter_plot(Span<const double> x, Span<const double> y, Span<const int64_t> labels = {},
                       const ScatterOptions& options = {});

struct HeatMapOptions {
  std::string title = {};
  std::string x_label = {};
  std::string y_label = {};
  std::vector<std::string> row_names = {};  // empty: numbers
  std::vector<std::string> column_names = {};
  ColorMap map = ColorMap::kSequential;
  double lo = kAutomatic;     // the value at the lower end of the colours; with kDiverging and both
  double hi = kAutomatic;     // automatic, white is 0
  bool write_values = false;  // each number in its cell, where the cells are large enough
  int cell = 0;               // side of a cell, pixels; 0: from their number
};

/// A matrix as coloured cells, with a colour bar. `values` is row-major, `rows` x `columns`, the
/// first row on top; NaN is grey. Throws ShapeError where the count does not fit, ValueError
/// above 4000 rows or columns.
io::Image heat_map(Span<const double> values, int64_t rows, int64_t columns,
                   const HeatMapOptions& options = {});

// ---- pictures made of pictures
// -------------------------------------------------------------------

/// How the numbers of a tile become brightness.
enum class TileScale {
  kUnit,    // 0 is black, 1 is white
  kSigned,  // 0 is mid grey; the tile's own largest absolute value is black or white
  kRange,   // from the tile's own smallest to its own largest
};

struct MosaicOptions {
  std::string title = {};
  TileScale scale = TileScale::kUnit;
  int64_t columns = 0;  // tiles side by side; 0: a picture somewhat wider than high
  int zoom = 0;         // pixels per number; 0: a picture about 800 wide
  int gap = 2;          // pixels between tiles
};

/// Grey tiles side by side, such as filters or samples. `values` holds any number of tiles,
/// [n, height, width]. Throws ShapeError where the count does not fit, ValueError where the picture
/// would be larger than 20000 pixels.
io::Image mosaic(Span<const double> values, int64_t height, int64_t width,
                 const MosaicOptions& options = {});

/// One picture of a row: [channels, height, width], 1 channel (grey) or 3 (red, green, blue).
struct Tile {
  std::vector<double> values = {};
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 1;
};

struct ImageRow {
  std::string label = {};
  std::vector<Tile> tiles = {};
  TileScale scale = TileScale::kUnit;
};

struct ImageRowsOptions {
  std::string title = {};
  std::vector<std::string> column_labels = {};
  int zoom = 0;  // pixels per number; 0: a picture about 800 wide
  int gap = 6;
};

/// Rows of pictures to compare, such as inputs above their reconstructions, each with its label on
/// the left. Throws as `mosaic` does.
io::Image image_rows(Span<const ImageRow> rows, const ImageRowsOptions& options = {});

/// Finished pictures next to each other, or one above the other, on white. Throws ShapeError where
/// an image's fields do not fit together.
io::Image side_by_side(Span<const io::Image> images, int gap = 16);
io::Image stacked(Span<const io::Image> images, int gap = 16);

}  // namespace ebb::train
