// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

// The lettering of Ebb's pictures: a stroke font of its own, so that plots need no font files. A
// glyph is a few lines and arcs drawn with a round pen, at any size.
namespace ebb::train {

struct Point {
  double x = 0;
  double y = 0;
};

/// Points joined by straight lines; a single point is a dot.
using Polyline = std::vector<Point>;

/// The pen's path for one line of UTF-8 text of the given size (em, pixels): the baseline starts at
/// (0, 0), y points down. Capitals are 0.7 em high, the pen should be about 0.09 em thick.
/// "^{...}" raises what is between the braces, "_{...}" lowers it. Characters that the font does
/// not have (it has ASCII and a few signs and Greek letters) are drawn as a small box.
std::vector<Polyline> text_path(std::string_view text, double size);

/// The width that the text advances by, in pixels.
double text_width(std::string_view text, double size);

}  // namespace ebb::train
