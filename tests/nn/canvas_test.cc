// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/canvas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"
#include "ebb/nn/train/axis.h"
#include "ebb/nn/train/colors.h"
#include "ebb/nn/train/font.h"

namespace ebb::train {
namespace {

using ::testing::ElementsAre;

constexpr Color kBlack = {0, 0, 0};
constexpr double kInf = std::numeric_limits<double>::infinity();

Color pixel(const io::Image& image, int64_t x, int64_t y) {
  const uint8_t* p = &image.pixels[static_cast<size_t>(3 * (y * image.width + x))];
  return {p[0], p[1], p[2]};
}

// How much black there is on white, in pixels.
double ink(const io::Image& image) {
  double sum = 0;
  for (size_t i = 0; i < image.pixels.size(); i += 3) sum += 1 - image.pixels[i] / 255.0;
  return sum;
}

template <class Draw>
io::Image drawn(int width, int height, Draw draw) {
  Canvas canvas(width, height);
  draw(canvas);
  return std::move(canvas).take();
}

TEST(Canvas, FillCoversPartsOfPixels) {
  const io::Image image = drawn(4, 4, [](Canvas& c) { c.fill({1, 1.5, 2.25, 3}, kBlack); });
  EXPECT_EQ(pixel(image, 1, 2), kBlack);
  EXPECT_EQ(pixel(image, 1, 1).r, 128);  // half
  EXPECT_EQ(pixel(image, 2, 2).r, 191);  // a quarter
  EXPECT_EQ(pixel(image, 3, 2).r, 255);
  EXPECT_EQ(pixel(image, 1, 3).r, 255);
  EXPECT_NEAR(ink(image), 1.25 * 1.5, 0.02);
}

TEST(Canvas, AStrokeHasTheAreaOfItsPen) {
  Generator g(1);
  for (int trial = 0; trial < 30; ++trial) {
    const Point a = {20 + 60 * g.uniform(), 20 + 60 * g.uniform()};
    const Point b = {20 + 60 * g.uniform(), 20 + 60 * g.uniform()};
    const double pen = 1.5 + 6 * g.uniform();
    const io::Image image = drawn(100, 100, [&](Canvas& c) { c.stroke({a, b}, pen, kBlack); });
    const double length = std::hypot(b.x - a.x, b.y - a.y);
    const double area = length * pen + 3.14159265 / 4 * pen * pen;
    EXPECT_NEAR(ink(image), area, 0.03 * area + 0.5);
  }
}

TEST(Canvas, CrossingLinesOfOneStrokeAreOneShape) {
  const std::vector<Polyline> cross = {
      {{5, 15}, {25, 15}}, {{15, 5}, {15, 25}}, {{5, 5}, {25, 25}}};
  const io::Image image = drawn(30, 30, [&](Canvas& c) { c.stroke(cross, 4, kBlack, 0.5); });
  std::set<uint8_t> shades(image.pixels.begin(), image.pixels.end());
  EXPECT_EQ(*shades.begin(), 128);  // nowhere darker than laid on once
}

TEST(Canvas, NothingLeavesTheClip) {
  const auto draw_everything = [](Canvas& c) {
    c.stroke({{-50, -50}, {150, 150}}, 9, kBlack);
    c.stroke_dashed({{150, -50}, {-50, 150}}, 5, kBlack, 7, 3);
    c.fill({-10, 30, 200, 40}, kBlack);
    c.marker({30, 30}, 12, Marker::kDisc, kBlack);
    c.text({-20, 50}, "Wide text across", {.size = 30, .color = kBlack});
    c.rectangle({10, 10, 90, 90}, 3, kBlack);
    c.blit({2, 2, 1, {0, 0, 0, 0}}, 25, 25, 20);
  };
  const io::Image clipped = drawn(100, 100, [&](Canvas& c) {
    c.set_clip({20, 30, 60, 70});
    draw_everything(c);
  });
  const io::Image whole = drawn(100, 100, draw_everything);
  for (int y = 0; y < 100; ++y) {
    for (int x = 0; x < 100; ++x) {
      const bool inside = x >= 20 && x < 60 && y >= 30 && y < 70;
      ASSERT_EQ(pixel(clipped, x, y), inside ? pixel(whole, x, y) : Color(255, 255, 255))
          << x << "," << y;
    }
  }
}

TEST(Canvas, PointsThatAreNotFiniteOrFarAwayAreHarmless) {
  const double nan = std::nan("");
  const io::Image image = drawn(50, 50, [&](Canvas& c) {
    for (double bad : {nan, kInf, -kInf}) {
      c.stroke({{bad, 5}, {10, 10}}, 2, kBlack);
      c.stroke({{5, 5}, {10, bad}}, 2, kBlack);
      c.stroke({{bad, bad}}, 2, kBlack);
      c.stroke_dashed({{0, bad}, {10, 10}}, 2, kBlack, 3, 3);
      c.marker({bad, 5}, 5, Marker::kSquare, kBlack);
      c.fill({bad, 0, 10, 10}, kBlack);
      c.fill({0, 0, 10, bad}, kBlack);
    }
    c.stroke({{-1e300, 80}, {1e300, 80}}, 2, kBlack);
    c.stroke({{1e300, 1e300}, {-1e300, -1e290}}, 2, kBlack);
    c.marker({1e18, -1e18}, 5, Marker::kCross, kBlack);
    c.stroke(Polyline(), 2, kBlack);
  });
  EXPECT_EQ(ink(image), 0);
  // A line that comes from far away and goes far away is drawn where it passes.
  const io::Image through = drawn(50, 50, [&](Canvas& c) {
    c.stroke_dashed({{-1e12, 25}, {1e12, 25}}, 4, kBlack, 6, 4);
  });
  EXPECT_NEAR(ink(through), 50 * 4, 40);
  EXPECT_EQ(ink(drawn(50, 50,
                      [](Canvas& c) {
                        c.stroke({{-1e9, 25}, {1e9, 25}}, 2, kBlack);
                      })),
            100);
}

TEST(Canvas, DashesFillTheirShare) {
  const io::Image image = drawn(400, 20, [](Canvas& c) {
    c.stroke_dashed({{10, 10}, {390, 10}}, 1, kBlack, 12, 8);
  });
  EXPECT_NEAR(ink(image), 380 * 0.6 + 19, 10);  // and the round ends
  // The pattern goes on around corners: many short pieces are as one long one.
  Polyline pieces;
  for (int i = 0; i <= 380; ++i) pieces.push_back({10.0 + i, 10});
  const io::Image same =
      drawn(400, 20, [&](Canvas& c) { c.stroke_dashed(pieces, 1, kBlack, 12, 8); });
  EXPECT_EQ(same, image);
}

TEST(Canvas, MarkersAreRoundTheirCentreAndOfSimilarArea) {
  for (Marker m :
       {Marker::kDisc, Marker::kSquare, Marker::kTriangle, Marker::kDiamond, Marker::kCross}) {
    const io::Image image = drawn(60, 60, [m](Canvas& c) { c.marker({30, 30}, 10, m, kBlack); });
    EXPECT_GT(ink(image), 130) << static_cast<int>(m);
    EXPECT_LT(ink(image), 340) << static_cast<int>(m);
    EXPECT_EQ(pixel(image, 30, 30), kBlack);
    double x = 0, y = 0;
    for (int i = 0; i < 60; ++i) {
      for (int j = 0; j < 60; ++j) {
        const double dark = 1 - pixel(image, i, j).r / 255.0;
        x += dark * (i + 0.5 - 30);
        y += dark * (j + 0.5 - 30);
      }
    }
    EXPECT_NEAR(x / ink(image), 0, 0.1);
    EXPECT_NEAR(y / ink(image), 0, 1);
  }
}

TEST(Canvas, BlitScalesPixels) {
  const io::Image grey = {2, 1, 1, {10, 200}}, rgb = {1, 1, 3, {1, 2, 3}};
  const io::Image image = drawn(7, 4, [&](Canvas& c) {
    c.blit(grey, 1, 1, 2);
    c.blit(rgb, 5, 0);
  });
  EXPECT_EQ(pixel(image, 1, 1), Color(10, 10, 10));
  EXPECT_EQ(pixel(image, 2, 2), Color(10, 10, 10));
  EXPECT_EQ(pixel(image, 3, 1), Color(200, 200, 200));
  EXPECT_EQ(pixel(image, 5, 0), Color(1, 2, 3));
  EXPECT_EQ(pixel(image, 5, 1), Color(255, 255, 255));
}

TEST(Canvas, RejectsSizes) {
  EXPECT_THROW(Canvas(0, 10), ValueError);
  EXPECT_THROW(Canvas(10, -1), ValueError);
  EXPECT_THROW(Canvas(20001, 10), ValueError);
}

// ---- lettering
// -----------------------------------------------------------------------------------

TEST(Font, EveryCharacterHasAShapeOfItsOwn) {
  std::set<std::string> seen;
  for (char c = ' '; c < 0x7F; ++c) {
    std::string shape;
    for (const Polyline& line : text_path(std::string(1, c), 100)) {
      for (const Point& p : line) {
        shape += std::to_string(p.x) + "," + std::to_string(p.y) + " ";
        EXPECT_GE(p.x, 0) << c;
        EXPECT_LE(p.x, text_width(std::string(1, c), 100)) << c;
        EXPECT_GE(p.y, -85) << c;
        EXPECT_LE(p.y, 25) << c;
      }
      shape += "|";
    }
    EXPECT_EQ(shape.empty(), c == ' ') << c;
    EXPECT_TRUE(seen.insert(shape).second) << c;
  }
}

TEST(Font, WidthsAddUpAndScale) {
  EXPECT_EQ(text_width("", 20), 0);
  EXPECT_NEAR(text_width("loss 0.5", 20), text_width("loss", 20) + text_width(" 0.5", 20), 1e-9);
  EXPECT_NEAR(text_width("loss", 40), 2 * text_width("loss", 20), 1e-9);
  // Digits are equally wide, so that numbers stand below each other.
  for (char c = '0'; c <= '9'; ++c) {
    EXPECT_EQ(text_width(std::string(1, c), 20), text_width("0", 20));
  }
}

TEST(Font, ScriptsAreSmallAndShifted) {
  const auto extent = [](const std::string& text) {
    double top = 0, bottom = -100;
    for (const Polyline& line : text_path(text, 20)) {
      for (const Point& p : line) {
        top = std::min(top, p.y);
        bottom = std::max(bottom, p.y);
      }
    }
    return std::pair(top, bottom);
  };
  EXPECT_LT(text_width("^{2}", 20), text_width("2", 20));
  EXPECT_LT(extent("^{2}").second, extent("2").second - 4);
  EXPECT_GT(extent("_{2}").second, extent("2").second + 2);
  EXPECT_EQ(text_width("a^{", 20), text_width("a", 20));
  EXPECT_EQ(text_path("}", 20).size(), 1u);  // a brace on its own is a brace
}

TEST(Font, TakesAnyBytes) {
  EXPECT_EQ(text_width("é", 20), text_width("e", 20));
  EXPECT_NE(text_width("μ", 20), text_width("m", 20));
  EXPECT_EQ(text_width("漢", 20), text_width("字", 20));  // the box
  Generator g(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string text(g.uniform_int(12), ' ');
    for (char& c : text) c = static_cast<char>(g.next32());
    ASSERT_TRUE(std::isfinite(text_width(text, 20)));
    for (const Polyline& line : text_path(text, 20)) ASSERT_FALSE(line.empty());
  }
}

TEST(Font, TextStandsWhereItIsPut) {
  const auto bounds = [](const io::Image& image) {
    Rect r = {1e9, 1e9, -1, -1};
    for (int y = 0; y < image.height; ++y) {
      for (int x = 0; x < image.width; ++x) {
        if (pixel(image, x, y).r > 200) continue;
        r = {std::min<double>(r.x0, x), std::min<double>(r.y0, y), std::max<double>(r.x1, x + 1),
             std::max<double>(r.y1, y + 1)};
      }
    }
    return r;
  };
  const auto text = [&](TextStyle style) {
    style.size = 20;
    style.color = kBlack;
    return bounds(drawn(200, 200, [&](Canvas& c) { c.text({100, 100}, "HHHH", style); }));
  };
  const double width = text_width("HHHH", 20);
  const Rect start = text({}), center = text({.align = Align::kCenter});
  const Rect end = text({.align = Align::kEnd});
  EXPECT_NEAR(start.x0, 101, 2);
  EXPECT_NEAR(start.y1, 101, 1);
  EXPECT_NEAR(start.height(), 16, 2);
  EXPECT_NEAR((center.x0 + center.x1) / 2, 100, 1);
  EXPECT_NEAR(end.x1, 99, 2);
  EXPECT_NEAR(start.width(), width, 4);
  const Rect up = text({.align = Align::kCenter, .upwards = true});
  EXPECT_NEAR((up.y0 + up.y1) / 2, 100, 1);
  EXPECT_NEAR(up.height(), width, 4);
  EXPECT_NEAR(up.x1, 101, 1);  // letters stand to the left of the line
  EXPECT_GT(ink(drawn(200, 50,
                      [](Canvas& c) {
                        c.text({9, 30}, "x", {.bold = true});
                      })),
            ink(drawn(200, 50, [](Canvas& c) {
              c.text({9, 30}, "x", {});
            })));
}

// ---- colours
// -------------------------------------------------------------------------------------

double luminance(Color c) { return 0.299 * c.r + 0.587 * c.g + 0.114 * c.b; }

TEST(Colors, MapsRunEvenly) {
  for (ColorMap map : {ColorMap::kSequential, ColorMap::kGrey}) {
    for (int i = 0; i < 100; ++i) {
      EXPECT_LT(luminance(map_color(map, i / 100.0)), luminance(map_color(map, (i + 1) / 100.0)));
    }
  }
  for (int i = 0; i <= 50; ++i) {
    const Color low = map_color(ColorMap::kDiverging, i / 100.0);
    const Color high = map_color(ColorMap::kDiverging, 1 - i / 100.0);
    EXPECT_NEAR(luminance(low), luminance(high), 16);
    EXPECT_LE(low.r, low.b);
    EXPECT_GE(high.r, high.b);
  }
  for (int i = 0; i < 200; ++i) {  // no jumps
    for (ColorMap map : {ColorMap::kSequential, ColorMap::kDiverging}) {
      const Color a = map_color(map, i / 200.0), b = map_color(map, (i + 1) / 200.0);
      EXPECT_LE(std::max({std::abs(a.r - b.r), std::abs(a.g - b.g), std::abs(a.b - b.b)}), 8) << i;
    }
  }
}

TEST(Colors, ClampAndCycle) {
  EXPECT_EQ(map_color(ColorMap::kGrey, -3), Color(0, 0, 0));
  EXPECT_EQ(map_color(ColorMap::kGrey, kInf), Color(255, 255, 255));
  EXPECT_EQ(map_color(ColorMap::kSequential, std::nan("")),
            map_color(ColorMap::kGrey, std::nan("")));
  std::set<std::vector<int>> seen;
  for (int i = 0; i < 10; ++i) {
    const Color c = series_color(i);
    EXPECT_TRUE(seen.insert({c.r, c.g, c.b}).second);
    EXPECT_EQ(series_color(i + 10), c);
  }
}

// ---- axes
// ----------------------------------------------------------------------------------------

Axis around(const std::vector<double>& v, bool log = false, double padding = 0, double lo = NAN,
            double hi = NAN) {
  const std::vector<double>* list[] = {&v};
  return Axis::around(list, log, padding, lo, hi);
}

TEST(Axis, TakesTheRangeOfWhatCanBeDrawn) {
  EXPECT_EQ(around({3, -1, NAN, kInf, 2}).lo(), -1);
  EXPECT_EQ(around({3, -1, NAN, kInf, 2}).hi(), 3);
  EXPECT_NEAR(around({0, 10}, false, 0.1).lo(), -1, 1e-12);
  EXPECT_NEAR(around({0, 10, 1000}, true, 0).lo(), 10, 1e-9);  // zero has no logarithm
  EXPECT_EQ(around({3, 5}, false, 0.1, 0).lo(), 0);
  EXPECT_NEAR(around({3, 5}, false, 0.1, 0).hi(), 5.5, 1e-12);
  EXPECT_EQ(around({3, 5}, false, 0.1, 0, 1).hi(), 1);
  EXPECT_NEAR(around({1, 1000}, true, 0).position(10), 1.0 / 3, 1e-12);
  EXPECT_EQ(around({0, 8}).position(2), 0.25);
  EXPECT_TRUE(std::isnan(around({0, 8}).position(NAN)));
  EXPECT_TRUE(std::isnan(around({1, 8}, true).position(0)));
}

TEST(Axis, HasAWidthWhateverTheData) {
  const double tiny = std::numeric_limits<double>::denorm_min(), huge = 1e308;
  for (bool log : {false, true}) {
    for (const std::vector<double>& v : std::vector<std::vector<double>>{{},
                                                                         {NAN},
                                                                         {0},
                                                                         {5},
                                                                         {-5},
                                                                         {tiny},
                                                                         {tiny, -tiny},
                                                                         {huge},
                                                                         {huge, -huge},
                                                                         {1e300},
                                                                         {1e300, -1e300},
                                                                         {1e-300},
                                                                         {1e-300, 1e300},
                                                                         {1, 1 + 1e-15},
                                                                         {1e9, 1e9 + 1e-6}}) {
      for (double lo : {double{NAN}, 0.0, 2.0, 1e300, kInf}) {
        for (double hi : {double{NAN}, 0.0, 2.0, -1e300}) {
          const Axis a = around(v, log, 0.05, lo, hi);
          ASSERT_LT(a.lo(), a.hi());
          const double position = a.position(a.lo() / 2 + a.hi() / 2);
          ASSERT_TRUE(position >= 0 && position <= 1) << a.lo() << " " << a.hi();
          for (int count : {1, 2, 7, 12}) {
            const Ticks t = a.ticks(count);
            ASSERT_EQ(t.at.size(), t.labels.size());
            ASSERT_LE(t.at.size(), static_cast<size_t>(3 * count + 5));
          }
        }
      }
    }
  }
}

// The number that a label stands for.
double read_label(std::string label) {
  const auto replace = [&label](const std::string& from, const std::string& to) {
    for (size_t at; (at = label.find(from)) != std::string::npos;) {
      label.replace(at, from.size(), to);
    }
  };
  replace("−", "-");
  replace("·10^{", "e");
  replace("10^{", "1e");
  replace("}", "");
  replace("k", "e3");
  replace("M", "e6");
  size_t used = 0;
  const double v = std::stod(label, &used);
  EXPECT_EQ(used, label.size()) << label;
  return v;
}

TEST(Axis, TicksAreRoundAndLabelledTrue) {
  Generator g(5);
  for (int trial = 0; trial < 3000; ++trial) {
    const bool log = trial % 3 == 0;
    const double scale = std::pow(10, 24 * g.uniform() - 12);
    double lo = scale * (log ? g.uniform() + 1e-3 : g.normal());
    double hi = log ? lo * std::pow(10, 0.3 + 8 * g.uniform()) : lo + scale * (g.uniform() + 1e-2);
    const int count = 2 + static_cast<int>(g.uniform_int(10));
    const Axis axis(lo, hi, log);
    const Ticks t = axis.ticks(count);
    ASSERT_GE(t.at.size(), 1u) << lo << " " << hi << " " << count;
    ASSERT_LE(t.at.size(), static_cast<size_t>(std::max(count + 2, 5)))
        << lo << " " << hi << " " << count;
    const double slack = 1e-8 * (hi - lo);
    for (size_t i = 0; i < t.at.size(); ++i) {
      ASSERT_GE(t.at[i], lo - slack);
      ASSERT_LE(t.at[i], hi + slack);
      ASSERT_NEAR(read_label(t.labels[i]), t.at[i], 1e-6 * (hi - lo) + 1e-9 * std::abs(t.at[i]))
          << t.labels[i];
    }
    std::set<std::string> distinct(t.labels.begin(), t.labels.end());
    ASSERT_EQ(distinct.size(), t.labels.size());
    for (size_t i = 2; !log && i < t.at.size(); ++i) {
      ASSERT_NEAR(t.at[i] - t.at[i - 1], t.at[1] - t.at[0], slack);
    }
  }
}

TEST(Axis, WritesNumbersAsPeopleDo) {
  const auto labels = [](double lo, double hi, bool log, int count) {
    return Axis(lo, hi, log).ticks(count).labels;
  };
  EXPECT_THAT(labels(0, 1, false, 5), ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(labels(-10, 10, false, 4), ElementsAre("−10", "−5", "0", "5", "10"));
  EXPECT_THAT(labels(0, 60000, false, 3), ElementsAre("0", "20k", "40k", "60k"));
  EXPECT_THAT(labels(0, 3e7, false, 3), ElementsAre("0", "10M", "20M", "30M"));
  EXPECT_THAT(labels(0, 2e-5, false, 2), ElementsAre("0", "1·10^{−5}", "2·10^{−5}"));
  EXPECT_THAT(labels(1e6, 1e6 + 2, false, 2), ElementsAre("1000000", "1000001", "1000002"));
  EXPECT_THAT(labels(0.1, 10, true, 6), ElementsAre("0.1", "0.2", "0.5", "1", "2", "5", "10"));
  EXPECT_THAT(labels(1e-9, 1, true, 3), ElementsAre("10^{−5}", "10^{0}"));
  EXPECT_THAT(labels(1e-6, 1, true, 6), ElementsAre("10^{−6}", "10^{−5}", "10^{−4}", "10^{−3}",
                                                    "10^{−2}", "10^{−1}", "10^{0}"));
  EXPECT_EQ(short_number(-0.5), "−0.5");
  EXPECT_EQ(short_number(1234567), "1.235e+06");
}

}  // namespace
}  // namespace ebb::train
