// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/plot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"

namespace ebb::train {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kHuge = 1e308;

Color pixel(const io::Image& image, int64_t x, int64_t y) {
  const uint8_t* p = &image.pixels[static_cast<size_t>(3 * (y * image.width + x))];
  return {p[0], p[1], p[2]};
}

bool similar(Color a, Color b, int tolerance) {
  return std::abs(a.r - b.r) <= tolerance && std::abs(a.g - b.g) <= tolerance &&
         std::abs(a.b - b.b) <= tolerance;
}

int64_t count_color(const io::Image& image, Color color, int tolerance = 0) {
  int64_t n = 0;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) n += similar(pixel(image, x, y), color, tolerance);
  }
  return n;
}

// The mean height of the pixels of this colour in each column, NaN where there are none.
std::vector<double> heights(const io::Image& image, Color color) {
  std::vector<double> out;
  for (int64_t x = 0; x < image.width; ++x) {
    double sum = 0, n = 0;
    for (int64_t y = 0; y < image.height; ++y) {
      if (!similar(pixel(image, x, y), color, 40)) continue;
      sum += static_cast<double>(y) + 0.5;
      ++n;
    }
    out.push_back(n > 0 ? sum / n : NAN);
  }
  return out;
}

// The largest distance of the finite points (i, y[i]) from the straight line through the first and
// the last of them.
double bend(const std::vector<double>& y) {
  size_t first = 0, last = y.size() - 1;
  while (first < y.size() && std::isnan(y[first])) ++first;
  while (last > first && std::isnan(y[last])) --last;
  if (last <= first + 10) return kInf;
  double worst = 0;
  for (size_t i = first; i <= last; ++i) {
    if (std::isnan(y[i])) continue;
    const double t = static_cast<double>(i - first) / static_cast<double>(last - first);
    worst = std::max(worst, std::abs(y[i] - (y[first] + t * (y[last] - y[first]))));
  }
  return worst;
}

TEST(LinePlot, DrawsACurveWhereItsNumbersAre) {
  const io::Image image = line_plot({Series{.y = {0, 1}}}, {.width = 400, .height = 300});
  EXPECT_EQ(image.width, 400);
  EXPECT_EQ(image.height, 300);
  EXPECT_EQ(image.channels, 3);
  const std::vector<double> rising = heights(image, series_color(0));
  EXPECT_LT(bend(rising), 1.5);
  const auto seen = [](double y) { return !std::isnan(y); };
  const double begin = *std::find_if(rising.begin(), rising.end(), seen);
  const double end = *std::find_if(rising.rbegin(), rising.rend(), seen);
  EXPECT_GT(begin, 220);
  EXPECT_LT(end, 60);
  EXPECT_GT(std::count_if(rising.begin(), rising.end(), seen), 300);
}

TEST(LinePlot, ALogarithmicAxisMakesPowersStraight) {
  Series power;
  for (int i = 0; i < 200; ++i) power.y.push_back(std::pow(10, i / 25.0 - 4));
  const io::Image log = line_plot({power}, {.log_y = true});
  EXPECT_LT(bend(heights(log, series_color(0))), 1.5);
  EXPECT_GT(bend(heights(line_plot({power}), series_color(0))), 50);
  Series other;
  for (int i = 0; i < 200; ++i) {
    other.x.push_back(power.y[i]);
    other.y.push_back(i);
  }
  EXPECT_LT(bend(heights(line_plot({other}, {.log_x = true}), series_color(0))), 1.5);
}

TEST(LinePlot, ManyPointsLookAsThemselves) {
  // 100000 points in 800 columns: each column shows the range of its points.
  Series noise, frame;
  Generator g(1);
  for (int i = 0; i < 100000; ++i) noise.y.push_back(g.uniform() + i / 50000.0);
  const io::Image image = line_plot({noise}, {.y_min = 0, .y_max = 3});
  std::vector<double> middle = heights(image, series_color(0));
  // The first and the last columns hold fewer points.
  middle.erase(middle.begin(), middle.begin() + 100);
  middle.resize(middle.size() - 100);
  EXPECT_LT(bend(middle), 12);
  // Dropping all points but the extremes of each column loses nothing: the whole band is filled.
  const double band = 500.0 / 3;  // one unit of about 500 pixels of height
  EXPECT_GT(static_cast<double>(count_color(image, series_color(0))), 0.8 * band * 800);
}

TEST(LinePlot, DrawsEverySeriesAndItsLegend) {
  std::vector<Series> series;
  for (int i = 0; i < 5; ++i) series.push_back({.y = {double(i), double(i)}});
  const io::Image bare = line_plot(series);
  for (Series& s : series) s.name = "name";
  const io::Image named = line_plot(series);
  for (int i = 0; i < 5; ++i) {
    EXPECT_GT(count_color(bare, series_color(i)), 700) << i;
    EXPECT_GT(count_color(named, series_color(i)), 500) << i;
  }
  EXPECT_NE(bare, named);
  // Dashes cover a part of the line; markers are wider than it.
  const int64_t whole = count_color(line_plot({Series{.y = {1, 1}}}), series_color(0));
  const int64_t dashed =
      count_color(line_plot({Series{.y = {1, 1}, .dashed = true}}), series_color(0));
  EXPECT_LT(dashed, 3 * whole / 4);
  EXPECT_GT(dashed, whole / 4);
  EXPECT_GT(count_color(line_plot({Series{.y = {1, 1}, .markers = true}}), series_color(0)),
            whole + 50);
}

// The legend goes where no curve is, or beside the plot: every pixel of a curve stays.
TEST(LinePlot, TheLegendCoversNoCurve) {
  const Color axis = {156, 163, 175};
  int inside = 0, beside = 0;
  for (int trial = 0; trial < 20; ++trial) {
    Generator g(trial);
    std::vector<Series> series(3);
    for (Series& s : series) {  // straight lines, or noise all over the place
      const double slope = trial % 2 == 0 ? g.normal() : 0, noise = trial % 2 == 0 ? 0.05 : 1;
      for (int i = 0; i < 200; ++i) s.y.push_back(slope * i / 100 + noise * g.uniform());
    }
    const LineOptions size = {.width = 600, .height = 400};
    const io::Image bare = line_plot(series, size);
    for (Series& s : series) s.name = "a name that takes room";
    const io::Image named = line_plot(series, size);
    // A legend beside the plot makes the axis shorter; else the layout is the same.
    if (count_color(named, axis) < count_color(bare, axis) - 100) {
      ++beside;
      continue;
    }
    ++inside;
    for (int64_t y = 0; y < bare.height; ++y) {
      for (int64_t x = 0; x < bare.width; ++x) {
        const Color c = pixel(bare, x, y);
        for (int k = 0; k < 3; ++k) {
          if (similar(c, series_color(k), 20)) {
            ASSERT_EQ(pixel(named, x, y), c) << trial;
          }
        }
      }
    }
  }
  EXPECT_GT(inside, 3);
  EXPECT_GT(beside, 3);
}

TEST(LinePlot, LimitsCutTheCurve) {
  const io::Image image = line_plot({Series{.y = {0, 1000, 0}}}, {.y_min = 0, .y_max = 1});
  const std::vector<double> rise = heights(image, series_color(0));
  for (double y : rise) {
    if (!std::isnan(y)) {
      EXPECT_GT(y, 5);
      EXPECT_LT(y, 575);
    }
  }
}

TEST(LinePlot, SurvivesAnyNumbers) {
  const std::vector<std::vector<double>> lists = {{},
                                                  {NAN},
                                                  {kInf, -kInf},
                                                  {0},
                                                  {5, 5, 5},
                                                  {1, NAN, 3, kInf, 4, 5},
                                                  {kHuge, -kHuge, 1},
                                                  {1e300, -1e300},
                                                  {5e-324, 0},
                                                  {-1, -2, -3},
                                                  {1e9, 1e9 + 1e-6},
                                                  {0, 0, 0}};
  Generator g(3);
  for (const std::vector<double>& y : lists) {
    for (bool log : {false, true}) {
      for (bool dashed : {false, true}) {
        const Series s{.name = "s", .y = y, .dashed = dashed, .markers = !dashed};
        const io::Image image = line_plot({s, Series{.y = {}}}, {.title = "t",
                                                                 .x_label = "x",
                                                                 .y_label = "y",
                                                                 .log_x = log,
                                                                 .log_y = log,
                                                                 .width = 300,
                                                                 .height = 220});
        ASSERT_EQ(image.pixels.size(), 300u * 220u * 3u);
      }
    }
  }
  EXPECT_EQ(line_plot({}).width, 960);
  // One point is a visible dot, one among gaps too.
  EXPECT_GT(count_color(line_plot({Series{.y = {3}}}), series_color(0)), 30);
  EXPECT_GT(count_color(line_plot({Series{.y = {NAN, 3, NAN}}}), series_color(0)), 30);
}

TEST(LinePlot, RejectsWhatDoesNotFit) {
  EXPECT_THROW(line_plot({Series{.y = {1, 2}, .x = {1}}}), ShapeError);
  EXPECT_THROW(line_plot({}, {.width = 199}), ValueError);
  EXPECT_THROW(line_plot({}, {.height = 10001}), ValueError);
  EXPECT_NO_THROW(line_plot({Series{.name = std::string(300, 'w'), .y = {1, 2}}},
                            {.title = std::string(300, 'w'),
                             .x_label = std::string(300, 'w'),
                             .y_label = std::string(300, 'w'),
                             .width = 200,
                             .height = 200}));
}

TEST(ScatterPlot, DrawsEachClassInItsColour) {
  std::vector<double> x, y;
  std::vector<int64_t> labels;
  for (int i = 0; i < 30; ++i) {
    x.push_back(i % 6);
    y.push_back(i / 6);
    labels.push_back(i % 3);
  }
  const io::Image image = scatter_plot(x, y, labels, {.class_names = {"a", "b", "c"}});
  std::vector<int64_t> counts;
  for (int k = 0; k < 3; ++k) counts.push_back(count_color(image, series_color(k), 30));
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 300);
  EXPECT_LT(*std::max_element(counts.begin(), counts.end()),
            2 * *std::min_element(counts.begin(), counts.end()));
}

TEST(ScatterPlot, EqualAxesShowACircleAsACircle) {
  std::vector<double> x, y;
  for (int i = 0; i < 720; ++i) {
    x.push_back(5 + 3 * std::cos(i * 3.14159265 / 360));
    y.push_back(3 * std::sin(i * 3.14159265 / 360));
  }
  const auto shape = [&](bool equal) {
    const io::Image image =
        scatter_plot(x, y, {}, {.equal_axes = equal, .radius = 2, .width = 900, .height = 400});
    int64_t x0 = 1 << 20, x1 = 0, y0 = 1 << 20, y1 = 0;
    for (int64_t v = 0; v < image.height; ++v) {
      for (int64_t u = 0; u < image.width; ++u) {
        if (!similar(pixel(image, u, v), series_color(0), 40)) continue;
        x0 = std::min(x0, u), x1 = std::max(x1, u), y0 = std::min(y0, v), y1 = std::max(y1, v);
      }
    }
    return static_cast<double>(x1 - x0) / static_cast<double>(y1 - y0);
  };
  EXPECT_NEAR(shape(true), 1, 0.02);
  EXPECT_GT(shape(false), 1.5);
}

TEST(ScatterPlot, SurvivesAnyNumbersAndRejectsWhatDoesNotFit) {
  EXPECT_EQ(scatter_plot({}, {}).width, 800);
  scatter_plot({NAN, kInf, 1}, {1, 2, kHuge}, {0, 1, 1000000}, {.equal_axes = true});
  scatter_plot({1}, {2}, {}, {.equal_axes = true});
  scatter_plot({1, 1}, {1e300, -1e300}, {}, {.equal_axes = true});
  EXPECT_THROW(scatter_plot({1, 2}, {1}), ShapeError);
  EXPECT_THROW(scatter_plot({1, 2}, {1, 2}, {0}), ShapeError);
  EXPECT_THROW(scatter_plot({1}, {1}, {-1}), ValueError);
  EXPECT_THROW(scatter_plot({1}, {1}, {}, {.width = 1}), ValueError);
}

TEST(HeatMap, ColoursItsCells) {
  const std::vector<double> values = {0, 0.25, 0.5, 0.75, 1, NAN};
  for (ColorMap map : {ColorMap::kSequential, ColorMap::kGrey}) {
    const io::Image image = heat_map(values, 2, 3, {.map = map, .cell = 20});
    for (double v : values) {
      const int64_t n = count_color(image, map_color(map, v));
      EXPECT_GE(n, v == 1 ? 350 : 380) << v;  // a frame is drawn along the edge
      if (!(map == ColorMap::kGrey && v == 1)) {
        EXPECT_LE(n, 520) << v;  // and the colour bar has each colour too
      }
    }
  }
  // The first row is on top, columns go to the right.
  const io::Image image = heat_map({0, 1, 0.5, 0.5}, 2, 2, {.map = ColorMap::kGrey, .cell = 30});
  int64_t left = -1, top = -1;
  for (int64_t y = 0; y < image.height && top < 0; ++y) {
    for (int64_t x = 0; x + 29 < image.width; ++x) {
      bool run = true;
      for (int64_t k = 0; k < 25 && run; ++k) run = pixel(image, x + k, y) == Color();
      if (!run) continue;
      left = x, top = y;
      break;
    }
  }
  ASSERT_GE(top, 0);
  EXPECT_EQ(pixel(image, left + 15, top + 15), Color(0, 0, 0));
  EXPECT_EQ(pixel(image, left + 45, top + 15), Color(255, 255, 255));
  EXPECT_EQ(pixel(image, left + 15, top + 45), Color(128, 128, 128));
}

TEST(HeatMap, TheMiddleOfDivergingColoursIsZero) {
  const Color white = map_color(ColorMap::kDiverging, 0.5);
  EXPECT_GT(
      count_color(heat_map({-1, 0, 9}, 1, 3, {.map = ColorMap::kDiverging, .cell = 20}), white),
      350);
  EXPECT_LT(count_color(heat_map({-1, 0, 9}, 1, 3,
                                 {.map = ColorMap::kDiverging, .lo = -1, .hi = 9, .cell = 20}),
                        white),
            100);
}

TEST(HeatMap, WritesNamesAndValues) {
  const std::vector<double> v = {1, 2, 3, 4};
  const io::Image plain = heat_map(v, 2, 2);
  const io::Image named =
      heat_map(v, 2, 2, {.row_names = {"one", "two"}, .column_names = {"a very long name", "b"}});
  EXPECT_GT(named.width, plain.width);
  EXPECT_GT(named.height, plain.height + 50);  // the long name stands upright
  EXPECT_NE(heat_map(v, 2, 2, {.write_values = true}), plain);
}

TEST(HeatMap, SurvivesAnyNumbersAndRejectsWhatDoesNotFit) {
  for (ColorMap map : {ColorMap::kSequential, ColorMap::kDiverging, ColorMap::kGrey}) {
    for (const std::vector<double>& v : std::vector<std::vector<double>>{{NAN, NAN},
                                                                         {0, 0},
                                                                         {7, 7},
                                                                         {kInf, -kInf},
                                                                         {kHuge, -kHuge},
                                                                         {1e300, -1e300},
                                                                         {5e-324, 0},
                                                                         {1, 1 + 1e-15}}) {
      for (double lo : {double{NAN}, 3.0, kInf}) {
        const io::Image image =
            heat_map(v, 1, 2, {.title = "t", .map = map, .lo = lo, .write_values = true});
        ASSERT_GT(image.width, 0);
      }
    }
    heat_map({}, 0, 0, {.map = map});
    heat_map({}, 0, 5, {.map = map});
    heat_map({}, 5, 0, {.map = map});
  }
  heat_map(std::vector<double>(4000), 4000, 1);
  EXPECT_THROW(heat_map({1, 2, 3}, 2, 2), ShapeError);
  EXPECT_THROW(heat_map({1}, -1, -1), ShapeError);
  EXPECT_THROW(heat_map({1, 2}, 1, 2, {.row_names = {"a", "b"}}), ShapeError);
  EXPECT_THROW(heat_map({1, 2}, 1, 2, {.column_names = {"a"}}), ShapeError);
  EXPECT_THROW(heat_map({}, 4001, 0), ValueError);
  EXPECT_THROW(heat_map({1}, 1, 1, {.cell = 1001}), ValueError);
}

constexpr int64_t kMargin = 14;

TEST(Mosaic, PutsTilesInTheirPlaces) {
  std::vector<double> values;
  for (int i = 0; i < 5 * 6; ++i) values.push_back(i / 29.0);
  const io::Image image = mosaic(values, 2, 3, {.columns = 2, .zoom = 1, .gap = 4});
  EXPECT_EQ(image.width, 2 * kMargin + 2 * 3 + 4);
  EXPECT_EQ(image.height, 2 * kMargin + 3 * 2 + 2 * 4);
  for (int64_t tile = 0; tile < 6; ++tile) {
    for (int64_t y = 0; y < 2; ++y) {
      for (int64_t x = 0; x < 3; ++x) {
        const int64_t px = kMargin + tile % 2 * 7 + x, py = kMargin + tile / 2 * 6 + y;
        const size_t i = static_cast<size_t>(tile * 6 + y * 3 + x);
        const long grey = i < values.size() ? std::lround(255 * values[i]) : 255;
        EXPECT_EQ(pixel(image, px, py).r, grey) << tile << " " << x << " " << y;
      }
    }
  }
  const io::Image zoomed = mosaic(values, 2, 3, {.columns = 2, .zoom = 3, .gap = 4});
  EXPECT_EQ(zoomed.width, 2 * kMargin + 2 * 9 + 4);
  EXPECT_EQ(pixel(zoomed, kMargin + 8, kMargin + 5), pixel(image, kMargin + 2, kMargin + 1));
}

TEST(Mosaic, ChoosesColumnsThatFillTheLastRow) {
  for (auto [tiles, columns] : {std::pair{64, 8}, {60, 10}, {100, 10}, {1, 1}, {7, 4}, {0, 1}}) {
    const io::Image image =
        mosaic(std::vector<double>(static_cast<size_t>(tiles) * 4), 2, 2, {.zoom = 1, .gap = 0});
    EXPECT_EQ(image.width, 2 * kMargin + 2 * columns) << tiles;
  }
}

TEST(Mosaic, ScalesEachTileOnItsOwn) {
  const std::vector<double> values = {-1, 0, 2, 1, -10, 0, 20, 10};
  const auto greys = [&](TileScale scale) {
    const io::Image image =
        mosaic(values, 2, 2, {.scale = scale, .columns = 1, .zoom = 1, .gap = 0});
    std::vector<int> out;
    for (int64_t i = 0; i < 8; ++i) {
      out.push_back(pixel(image, kMargin + i % 2, kMargin + i / 2).r);
    }
    return out;
  };
  EXPECT_EQ(greys(TileScale::kUnit), (std::vector<int>{0, 0, 255, 255, 0, 0, 255, 255}));
  EXPECT_EQ(greys(TileScale::kSigned), (std::vector<int>{64, 128, 255, 191, 64, 128, 255, 191}));
  EXPECT_EQ(greys(TileScale::kRange), (std::vector<int>{0, 85, 255, 170, 0, 85, 255, 170}));
}

TEST(Mosaic, SurvivesAnyNumbersAndRejectsWhatDoesNotFit) {
  for (TileScale scale : {TileScale::kUnit, TileScale::kSigned, TileScale::kRange}) {
    for (const std::vector<double>& v :
         std::vector<std::vector<double>>{{},
                                          {NAN, NAN, NAN, NAN},
                                          {0, 0, 0, 0},
                                          {kInf, -kInf, kHuge, -kHuge},
                                          {3, 3, 3, 3},
                                          {NAN, 1, 2, 3}}) {
      ASSERT_GT(mosaic(v, 2, 2, {.title = "t", .scale = scale}).width, 0);
    }
  }
  EXPECT_THROW(mosaic({1, 2, 3}, 2, 2), ShapeError);
  EXPECT_THROW(mosaic({1}, 0, 1), ShapeError);
  EXPECT_THROW(mosaic({1}, int64_t{1} << 40, int64_t{1} << 40), ShapeError);
  EXPECT_THROW(mosaic({1}, 1, 1, {.columns = -1}), ValueError);
  EXPECT_THROW(mosaic({1}, 1, 1, {.zoom = 100000}), ValueError);
  EXPECT_THROW(mosaic({1}, 1, 1, {.columns = int64_t{1} << 60}), ValueError);
}

TEST(ImageRows, PutsRowsBelowEachOther) {
  Tile grey{.values = {0, 1}, .height = 1, .width = 2};
  Tile rgb{.values = {1, 0, 0.2, 1, 0, 0.4}, .height = 1, .width = 2, .channels = 3};
  const io::Image image = image_rows({ImageRow{.tiles = {grey, grey}}, ImageRow{.tiles = {rgb}}},
                                     {.zoom = 2, .gap = 3});
  EXPECT_EQ(image.width, 2 * kMargin + 4 + 3 + 4);
  EXPECT_EQ(image.height, 2 * kMargin + 2 + 3 + 2);
  EXPECT_EQ(pixel(image, kMargin + 1, kMargin), Color(0, 0, 0));
  EXPECT_EQ(pixel(image, kMargin + 7, kMargin), Color(0, 0, 0));
  EXPECT_EQ(pixel(image, kMargin + 9, kMargin), Color(255, 255, 255));
  EXPECT_EQ(pixel(image, kMargin, kMargin + 5), Color(255, 51, 0));
  EXPECT_EQ(pixel(image, kMargin + 3, kMargin + 6), Color(0, 255, 102));
  const io::Image labelled = image_rows({ImageRow{.label = "label", .tiles = {grey}}},
                                        {.title = "t", .column_labels = {"a", "b", "c"}});
  EXPECT_GT(labelled.width, 2 * kMargin + 40);
  EXPECT_THROW(image_rows({ImageRow{.tiles = {Tile{.values = {1}, .height = 1, .width = 2}}}}),
               ShapeError);
  EXPECT_THROW(image_rows({ImageRow{
                   .tiles = {Tile{.values = {1, 2}, .height = 1, .width = 1, .channels = 2}}}}),
               ShapeError);
  EXPECT_THROW(image_rows({ImageRow{.tiles = {grey}}}, {.zoom = 20000}), ValueError);
  EXPECT_GT(image_rows({}).width, 0);
  EXPECT_GT(image_rows({ImageRow{}}).width, 0);
}

TEST(Arrangement, PutsPicturesNextToEachOther) {
  const io::Image a{2, 1, 1, {10, 20}}, b{1, 2, 3, {1, 2, 3, 4, 5, 6}};
  const io::Image across = side_by_side({a, b}, 5), down = stacked({a, b}, 5);
  EXPECT_EQ(across.width, 8);
  EXPECT_EQ(across.height, 2);
  EXPECT_EQ(pixel(across, 1, 0), Color(20, 20, 20));
  EXPECT_EQ(pixel(across, 7, 1), Color(4, 5, 6));
  EXPECT_EQ(pixel(across, 4, 0), Color(255, 255, 255));
  EXPECT_EQ(down.width, 2);
  EXPECT_EQ(down.height, 8);
  EXPECT_EQ(pixel(down, 0, 7), Color(4, 5, 6));
  EXPECT_EQ(side_by_side({}).width, 1);
  EXPECT_THROW(stacked({io::Image{2, 2, 1, {1}}}), ShapeError);
}

}  // namespace
}  // namespace ebb::train
