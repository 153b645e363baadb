// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/font.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <numbers>

namespace ebb::train {
namespace {

// Glyphs are drawn on a grid of 20 units to the em, y up from the baseline: capitals are 14 high,
// small letters 10, descenders reach -4. Commands:
//   M x y                  lift the pen and go there
//   L x y                  line
//   C x1 y1 x2 y2 x y      cubic Bezier curve
//   A cx cy rx ry a b      line to, then arc of an ellipse from angle a to b (degrees, y up)
//   B cx cy rx ry a b      the same, but lift the pen first
//   O cx cy rx ry          ellipse
//   D x y                  dot
struct Glyph {
  char32_t code;
  double width;  // of the ink, without the space around it
  const char* path;
};

constexpr double kUnitsPerEm = 20;
constexpr double kSpacing = 3.7;  // between the ink of two glyphs
constexpr double kRaise = 6.5;    // of superscripts
constexpr double kLower = 3;      // of subscripts
constexpr double kScriptSize = 0.72;

// Sorted by code.
constexpr Glyph kGlyphs[] = {
    {U' ', 2.4, ""},
    {U'!', 0.4, "M0.2 14L0.2 4.6D0.2 0.2"},
    {U'"', 3.2, "M0 14L0 10.2M3.2 14L3.2 10.2"},
    {U'#', 9, "M3.4 13.5L1.8 0.5M7.6 13.5L6 0.5M0.3 9.4L9 9.4M0 4.6L8.7 4.6"},
    {U'$', 9, "B4.6 10.4 3.8 2.9 30 270A4.5 3.9 4.3 3.6 90 -150M4.6 15.6L4.6 -1.6"},
    {U'%', 12, "O2.5 11 2.5 3O9.5 3 2.5 3M9.9 14L2.1 0"},
    {U'&', 10,
     "M10 0L2.1 9.7A4.2 11.3 2.6 2.7 215 -40C5 7.9 0 7 0 3.6C0 1.3 1.7 0 3.8 0"
     "C6.8 0 8.8 2.6 9.3 6"},
    {U'\'', 0, "M0 14L0 10.2"},
    {U'(', 3, "M3 15.5C-0.9 10 -0.9 2.5 3 -3"},
    {U')', 3, "M0 15.5C3.9 10 3.9 2.5 0 -3"},
    {U'*', 5.6, "M2.8 14L2.8 8.2M0.2 12.6L5.4 9.6M5.4 12.6L0.2 9.6"},
    {U'+', 8.6, "M0 6L8.6 6M4.3 1.7L4.3 10.3"},
    {U',', 0.6, "M0.7 0.3L0 -2.4"},
    {U'-', 5.4, "M0 5.6L5.4 5.6"},
    {U'.', 0.4, "D0.2 0.2"},
    {U'/', 6, "M0 -1.5L6 15"},
    {U'0', 9, "O4.5 7 4.5 7"},
    {U'1', 9, "M1.6 11.4L5.2 14L5.2 0"},
    {U'2', 9, "B4.4 9.8 4.1 4.2 168 -35L0.3 0L8.8 0"},
    {U'3', 9, "B4.3 10.6 3.6 3.4 150 -90A4.3 3.6 4.4 3.6 90 -150"},
    {U'4', 9, "M6.7 0L6.7 14L0 4L9.2 4"},
    {U'5', 9, "M8 14L1.7 14L1 7.7A4.3 4.6 4.5 4.6 138 -150"},
    {U'6', 9, "O4.5 4.6 4.5 4.6M6.9 14C3.5 10.6 0 8.2 0 4.6"},
    {U'7', 9, "M0.2 14L8.8 14L3.2 0"},
    {U'8', 9, "O4.5 10.6 3.7 3.4O4.5 3.6 4.5 3.6"},
    {U'9', 9, "O4.5 9.4 4.5 4.6M2.1 0C5.5 3.4 9 5.8 9 9.4"},
    {U':', 0.4, "D0.2 0.4D0.2 8.6"},
    {U';', 0.8, "M0.8 0.3L0 -2.4D0.8 8.6"},
    {U'<', 8, "M8 10.8L0.4 6L8 1.2"},
    {U'=', 8.6, "M0 4L8.6 4M0 8L8.6 8"},
    {U'>', 8, "M0 10.8L7.6 6L0 1.2"},
    {U'?', 7.4, "B3.7 10.3 3.7 3.7 165 -55C4.4 6.2 3.7 5.7 3.7 4.5D3.7 0.2"},
    {U'@', 13.8,
     "O7 6.2 3 3.3M10 9.5L10 4.8A11.9 4.8 1.9 2.1 180 360L13.8 6.2"
     "A7 6.2 6.8 7.4 0 300"},
    {U'A', 11, "M0 0L5.5 14L11 0M1.9 4.8L9.1 4.8"},
    {U'B', 8.6, "M0 7.4L4.6 7.4A4.6 10.7 3.3 3.3 -90 90L0 14L0 0L4.7 0A4.7 3.7 3.9 3.7 -90 90"},
    {U'C', 11, "B6.5 7 6.5 7 46 314"},
    {U'D', 10.2, "M0 0L0 14L3.6 14A3.6 7 6.6 7 90 -90L0 0"},
    {U'E', 7.5, "M7.5 14L0 14L0 0L7.6 0M0 7.3L6.6 7.3"},
    {U'F', 7, "M7 14L0 14L0 0M0 7.2L6.2 7.2"},
    {U'G', 12, "B6.5 7 6.5 7 46 328L12 6.8L7.4 6.8"},
    {U'H', 9.6, "M0 0L0 14M9.6 0L9.6 14M0 7.3L9.6 7.3"},
    {U'I', 0, "M0 0L0 14"},
    {U'J', 5.8, "M5.8 14L5.8 3.8A2.3 3.8 3.5 3.8 0 -130"},
    {U'K', 9.2, "M0 0L0 14M8.8 14L0 5.4M3.3 8.6L9.2 0"},
    {U'L', 7, "M0 14L0 0L7 0"},
    {U'M', 12, "M0 0L0 14L6 4.4L12 14L12 0"},
    {U'N', 10, "M0 0L0 14L10 0L10 14"},
    {U'O', 13, "O6.5 7 6.5 7"},
    {U'P', 8.5, "M0 0L0 14L4.6 14A4.6 10.2 3.9 3.8 90 -90L0 6.4"},
    {U'Q', 13, "O6.5 7 6.5 7M8.6 3.6L12.8 -0.8"},
    {U'R', 9, "M0 0L0 14L4.6 14A4.6 10.2 3.9 3.8 90 -90L0 6.4M4.5 6.4L9 0"},
    {U'S', 9, "B4.6 10.6 3.9 3.4 30 270A4.5 3.6 4.5 3.6 90 -150"},
    {U'T', 10, "M0 14L10 14M5 14L5 0"},
    {U'U', 9.8, "M0 14L0 4.9A4.9 4.9 4.9 4.9 180 360L9.8 14"},
    {U'V', 11, "M0 14L5.5 0L11 14"},
    {U'W', 16, "M0 14L4 0L8 13L12 0L16 14"},
    {U'X', 10, "M0.3 14L10 0M9.7 14L0 0"},
    {U'Y', 10, "M0 14L5 6.6L10 14M5 6.6L5 0"},
    {U'Z', 9, "M0.3 14L8.8 14L0 0L9.1 0"},
    {U'[', 3, "M3 15.5L0 15.5L0 -3L3 -3"},
    {U'\\', 6, "M0 15L6 -1.5"},
    {U']', 3, "M0 15.5L3 15.5L3 -3L0 -3"},
    {U'^', 7, "M0 9L3.5 14L7 9"},
    {U'_', 9, "M0 -2.6L9 -2.6"},
    {U'`', 2, "M0 14L2 11.4"},
    {U'a', 8.8, "O4.4 5 4.4 5M8.8 10L8.8 0"},
    {U'b', 8.8, "M0 14L0 0O4.4 5 4.4 5"},
    {U'c', 7.9, "B4.6 5 4.6 5 46 314"},
    {U'd', 8.8, "O4.4 5 4.4 5M8.8 14L8.8 0"},
    {U'e', 9, "M0.1 5.2L9 5.2A4.5 5 4.5 5 2 315"},
    {U'f', 5.2, "M1.9 0L1.9 10.8A4.9 10.8 3 3.2 180 82M0 9.6L5 9.6"},
    {U'g', 8.8, "O4.4 5 4.4 5M8.8 10L8.8 -0.2A4.4 -0.2 4.4 3.9 0 -148"},
    {U'h', 8, "M0 14L0 0M0 5.9A4 5.9 4 4.1 180 0L8 0"},
    {U'i', 0.4, "M0.2 10L0.2 0D0.2 13.6"},
    {U'j', 2.6, "M2.4 10L2.4 -1.7A-0.2 -1.7 2.6 2.3 0 -85D2.4 13.6"},
    {U'k', 7.4, "M0 14L0 0M7 10L0 3.8M2.6 6.1L7.5 0"},
    {U'l', 0, "M0 14L0 0"},
    {U'm', 12.8,
     "M0 10L0 0M0 6.5A3.2 6.5 3.2 3.5 180 0L6.4 0M6.4 6.5A9.6 6.5 3.2 3.5 180 0L12.8 0"},
    {U'n', 8, "M0 10L0 0M0 5.9A4 5.9 4 4.1 180 0L8 0"},
    {U'o', 9.4, "O4.7 5 4.7 5"},
    {U'p', 8.8, "M0 10L0 -4O4.4 5 4.4 5"},
    {U'q', 8.8, "O4.4 5 4.4 5M8.8 10L8.8 -4"},
    {U'r', 4.6, "M0 10L0 0M0 5.6A3.9 5.6 3.9 4.4 180 80"},
    {U's', 7, "B3.6 7.5 3 2.5 32 270A3.5 2.5 3.5 2.5 90 -150"},
    {U't', 5, "M1.9 13.2L1.9 3A4.6 3 2.7 3 180 278M0 9.7L4.8 9.7"},
    {U'u', 8, "M0 10L0 4.1A4 4.1 4 4.1 180 360M8 10L8 0"},
    {U'v', 8.6, "M0 10L4.3 0L8.6 10"},
    {U'w', 13, "M0 10L3.3 0L6.5 9.4L9.7 0L13 10"},
    {U'x', 8, "M0.2 10L8 0M7.8 10L0 0"},
    {U'y', 8.6, "M0 10L4.35 0.2M8.6 10L2.6 -4"},
    {U'z', 7.4, "M0.2 10L7.2 10L0 0L7.5 0"},
    {U'{', 3.4, "M3.4 15.5C0.6 15.5 2.8 6.9 0 6.25C2.8 5.6 0.6 -3 3.4 -3"},
    {U'|', 0, "M0 15.5L0 -3"},
    {U'}', 3.4, "M0 15.5C2.8 15.5 0.6 6.9 3.4 6.25C0.6 5.6 2.8 -3 0 -3"},
    {U'~', 8.6, "M0 5C1.4 7.6 3 7.6 4.3 6C5.6 4.4 7.2 4.4 8.6 7"},
    {U'°', 4, "O2 12 2 2"},
    {U'±', 8.6, "M0 7.4L8.6 7.4M4.3 3.4L4.3 11.4M0 0.4L8.6 0.4"},
    {U'²', 5, "B2.5 11.7 2.3 2.3 170 -35L0.2 6.4L5 6.4"},
    {U'·', 0.4, "D0.2 6"},
    {U'×', 7, "M0.2 2.6L6.8 9.4M6.8 2.6L0.2 9.4"},
    {U'Δ', 11, "M0 0L5.5 14L11 0L0 0"},
    {U'Σ', 9, "M8.6 14L0.4 14L5.4 7L0 0L9 0"},
    {U'α', 9.4, "M9.4 10C7.6 4 6.4 0 3.8 0C1.4 0 0 2 0 5C0 8 1.6 10 3.8 10C6.6 10 7.2 5.6 9.4 0"},
    {U'β', 8.4, "M0 -4L0 10.2A3.8 10.2 3.8 3.8 180 -80M3 7.4L4.2 7.4A4.2 3.7 4.2 3.7 90 -145"},
    {U'γ', 8.6, "M0 9C1.6 11 3 9.6 4.3 1C4.6 -1 4.6 -4 4.3 -4C4 -4 4 -1 4.3 1L8.6 10"},
    {U'δ', 8.8, "O4.4 4.2 4.4 4.2M4.4 8.4C2 9.6 1.4 11 1.8 12.2C2.4 14.2 5.4 14.6 7.4 13.4"},
    {U'ε', 7.2, "B3.6 7.6 2.8 2.4 40 270A3.6 2.6 3.6 2.6 90 325"},
    {U'η', 8, "M0 10L0 0M0 5.9A4 5.9 4 4.1 180 0L8 -4"},
    {U'θ', 8.4, "O4.2 7 4.2 7M0 7L8.4 7"},
    {U'λ', 9, "M0.4 14C3.4 14.4 3.6 11.6 8.8 0M5.1 8L0 0"},
    {U'μ', 8, "M0 10L0 -4M0 4.1A4 4.1 4 4.1 180 360M8 10L8 0"},
    {U'π', 9.6, "M0 9.8L9.6 9.8M2.6 9.8C2.6 5 2.4 2.4 1.2 0M6.9 9.8L6.9 2A8.6 2 1.7 2 180 280"},
    {U'ρ', 8.8, "M0 -4L0 5O4.4 5 4.4 5"},
    {U'σ', 9.6, "O4.5 4.8 4.5 4.8M4.5 9.6L9.8 9.6"},
    {U'τ', 7.6, "M0 9.8L7.6 9.8M3.8 9.8L3.8 2.4A5.8 2.4 2 2.4 180 285"},
    {U'φ', 10, "O5 5 5 5M5 14L5 -4"},
    {U'ω', 11.6,
     "M1.6 10C0.4 8.4 0 6.6 0 4.8C0 2 1 0 2.9 0C4.8 0 5.8 1.8 5.8 6"
     "C5.8 1.8 6.8 0 8.7 0C10.6 0 11.6 2 11.6 4.8C11.6 6.6 11.2 8.4 10 10"},
    {U'–', 8, "M0 5.6L8 5.6"},
    {U'→', 11, "M0 6L11 6M7.4 9.6L11 6L7.4 2.4"},
    {U'∇', 11, "M0 14L11 14L5.5 0L0 14"},
    {U'−', 7.6, "M0 6L7.6 6"},
    {U'≈', 8.6,
     "M0 7C1.4 9.4 3 9.4 4.3 8C5.6 6.6 7.2 6.6 8.6 9M0 3C1.4 5.4 3 5.4 4.3 4"
     "C5.6 2.6 7.2 2.6 8.6 5"},
    {U'≤', 8, "M8 12L0.4 7.6L8 3.2M0.4 0.2L8 0.2"},
    {U'≥', 8, "M0 12L7.6 7.6L0 3.2M0 0.2L7.6 0.2"},
};

static_assert(std::is_sorted(std::begin(kGlyphs), std::end(kGlyphs),
                             [](const Glyph& a, const Glyph& b) { return a.code < b.code; }));

constexpr Glyph kMissing = {0, 8, "M0 0L0 14L8 14L8 0L0 0"};

// The letters U+00C0 to U+00FF, without their accents.
constexpr char kLatin[] = "AAAAAAACEEEEIIIIDNOOOOOxOUUUUYPsaaaaaaaceeeeiiiidnooooo/ouuuuypy";

const Glyph& find_glyph(char32_t code) {
  const auto* end = std::end(kGlyphs);
  const auto* at = std::lower_bound(std::begin(kGlyphs), end, code,
                                    [](const Glyph& g, char32_t c) { return g.code < c; });
  if (at != end && at->code == code) return *at;
  if (code >= 0xC0 && code <= 0xFF)
    return find_glyph(static_cast<unsigned char>(kLatin[code - 0xC0]));
  return kMissing;
}

// The next character of UTF-8 text; bytes that are no UTF-8 come out as themselves.
char32_t next_code(std::string_view text, size_t* at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte((*at)++);
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  if (more == 0 || *at + more > text.size()) return lead;
  char32_t code = lead & (0x3F >> more);
  for (int i = 0; i < more; ++i) {
    if ((byte(*at + i) & 0xC0) != 0x80) return lead;
    code = code << 6 | (byte(*at + i) & 0x3F);
  }
  *at += more;
  return code;
}

// Appends a glyph's path at `origin`, one grid unit being `unit` pixels.
class Pen {
 public:
  Pen(Point origin, double unit, std::vector<Polyline>* out)
      : origin_(origin), unit_(unit), out_(out) {}

  void draw(const char* path) {
    for (const char* p = path; *p != '\0';) {
      const char command = *p++;
      double v[6];
      const int count = command == 'C' || command == 'A' || command == 'B' ? 6
                        : command == 'O'                                   ? 4
                                                                           : 2;
      for (int i = 0; i < count; ++i) {
        char* end = nullptr;
        v[i] = std::strtod(p, &end);
        p = end;
      }
      switch (command) {
        case 'M':
          begin(v[0], v[1]);
          break;
        case 'D':
          begin_arc(v[0], v[1], kDot, kDot, 0, 360);
          break;
        case 'L':
          to(v[0], v[1]);
          break;
        case 'C':
          curve(v);
          break;
        case 'A':
          arc(v[0], v[1], v[2], v[3], v[4], v[5]);
          break;
        case 'B':
          begin_arc(v[0], v[1], v[2], v[3], v[4], v[5]);
          break;
        default:
          begin_arc(v[0], v[1], v[2], v[3], 0, 360);
      }
    }
  }

 private:
  static constexpr int kCurveSteps = 12;
  static constexpr double kArcStep = 15;  // degrees
  static constexpr double kDot = 0.35;    // how much wider than the pen a dot is

  void begin(double x, double y) {
    out_->emplace_back();
    to(x, y);
  }

  void to(double x, double y) {
    at_ = {x, y};
    out_->back().push_back({origin_.x + unit_ * x, origin_.y - unit_ * y});
  }

  void curve(const double v[6]) {
    const Point start = at_;
    for (int i = 1; i <= kCurveSteps; ++i) {
      const double t = static_cast<double>(i) / kCurveSteps, s = 1 - t;
      const double a = s * s * s, b = 3 * s * s * t, c = 3 * s * t * t, d = t * t * t;
      to(a * start.x + b * v[0] + c * v[2] + d * v[4],
         a * start.y + b * v[1] + c * v[3] + d * v[5]);
    }
  }

  static Point on_arc(double cx, double cy, double rx, double ry, double degrees) {
    const double radians = degrees * (std::numbers::pi / 180);
    return {cx + rx * std::cos(radians), cy + ry * std::sin(radians)};
  }

  void arc(double cx, double cy, double rx, double ry, double from, double until) {
    const int steps = std::max(1, static_cast<int>(std::ceil(std::abs(until - from) / kArcStep)));
    for (int i = 0; i <= steps; ++i) {
      const Point p = on_arc(cx, cy, rx, ry, from + (until - from) * i / steps);
      to(p.x, p.y);
    }
  }

  void begin_arc(double cx, double cy, double rx, double ry, double from, double until) {
    const Point p = on_arc(cx, cy, rx, ry, from);
    begin(p.x, p.y);
    arc(cx, cy, rx, ry, from, until);
  }

  Point origin_;
  double unit_;
  std::vector<Polyline>* out_;
  Point at_;
};

// Lays the text out; draws it where `out` is not null. Returns the advance.
double lay_out(std::string_view text, double size, std::vector<Polyline>* out) {
  double x = 0;
  double rise = 0;  // of the script that the text is in, grid units
  for (size_t i = 0; i < text.size();) {
    if (rise == 0 && (text.substr(i, 2) == "^{" || text.substr(i, 2) == "_{")) {
      rise = text[i] == '^' ? kRaise : -kLower;
      i += 2;
      continue;
    }
    if (rise != 0 && text[i] == '}') {
      rise = 0;
      ++i;
      continue;
    }
    const Glyph& glyph = find_glyph(next_code(text, &i));
    const double unit = size / kUnitsPerEm * (rise != 0 ? kScriptSize : 1);
    if (out != nullptr) {
      const double baseline = -rise * size / kUnitsPerEm;
      Pen({x + unit * kSpacing / 2, baseline}, unit, out).draw(glyph.path);
    }
    x += unit * (glyph.width + kSpacing);
  }
  return x;
}

}  // namespace

std::vector<Polyline> text_path(std::string_view text, double size) {
  std::vector<Polyline> out;
  lay_out(text, size, &out);
  return out;
}

double text_width(std::string_view text, double size) { return lay_out(text, size, nullptr); }

}  // namespace ebb::train
