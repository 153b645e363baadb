// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ebb/core/shape.h"

namespace ebb::io {

/// 8-bit pixels, row by row from the top, the channels of a pixel side by side: pixel (x, y) starts
/// at `(y * width + x) * channels`. 1 channel is grey (0 black), 3 are red, green and blue.
struct Image {
  int64_t width = 0;
  int64_t height = 0;
  int64_t channels = 1;
  std::vector<uint8_t> pixels;

  bool operator==(const Image&) const = default;
};

/// The largest picture that the readers below accept unless told otherwise, in bytes of pixels.
inline constexpr size_t kDefaultMaxPixelBytes = size_t{1} << 28;

/// Reads a PNG file as grey or RGB: palettes are looked up, 16 bits become 8, other depths are
/// scaled to 8, an alpha channel is dropped. Throws IoError on anything that is not a whole PNG,
/// before memory is taken where the header's size cannot be true or is above `max_bytes`.
Image read_png(const std::string& path, size_t max_bytes = kDefaultMaxPixelBytes);

/// The same from memory; `name` stands for the path in errors.
Image decode_png(Span<const uint8_t> file, const std::string& name,
                 size_t max_bytes = kDefaultMaxPixelBytes);

/// Writes the picture, whole or not at all. Throws ShapeError where the fields of `image` do not
/// fit together, IoError where the file cannot be written.
void write_png(const std::string& path, const Image& image);

/// The file's bytes. Throws ShapeError as above, MemoryError where libpng fails.
std::vector<uint8_t> encode_png(const Image& image);

}  // namespace ebb::io
