// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/png.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <sys/resource.h>

#include <string>
#include <utility>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"
#include "ebb/nn/io/file.h"
#include "temp_dir.h"

namespace ebb::io {
namespace {

using ::testing::HasSubstr;

Image random_image(int64_t width, int64_t height, int64_t channels) {
  Image image{width, height, channels, {}};
  image.pixels.resize(static_cast<size_t>(width * height * channels));
  Generator g(static_cast<uint64_t>(width * 1000 + height), "image");
  for (uint8_t& p : image.pixels) p = static_cast<uint8_t>(g.next32());
  return image;
}

std::string cause_of(Span<const uint8_t> bytes, size_t max_bytes = kDefaultMaxPixelBytes) {
  try {
    decode_png(bytes, "name", max_bytes);
  } catch (const IoError& e) {
    EXPECT_EQ(e.path(), "name");
    return e.cause();
  }
  return "no error";
}

// A PNG of another kind, written by libpng's simplified interface.
std::vector<uint8_t> foreign_png(png_uint_32 format, uint32_t width, uint32_t height,
                                 const void* pixels, const void* colormap = nullptr,
                                 uint32_t entries = 0) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = format;
  image.colormap_entries = entries;
  std::vector<uint8_t> out(1 << 16);
  png_alloc_size_t size = out.size();
  EXPECT_NE(png_image_write_to_memory(&image, out.data(), &size, 0, pixels, 0, colormap), 0)
      << image.message;
  out.resize(size);
  return out;
}

TEST(Png, WhatIsWrittenIsRead) {
  testing::TempDir dir;
  const std::string path = dir.file("a.png");
  for (int64_t channels : {1, 3}) {
    for (auto [w, h] : {std::pair{1, 1}, {1, 7}, {9, 1}, {28, 28}, {301, 77}}) {
      const Image image = random_image(w, h, channels);
      write_png(path, image);
      EXPECT_EQ(read_png(path), image) << w << " x " << h << " x " << channels;
    }
  }
}

TEST(Png, OtherReadersSeeTheSamePixels) {
  const Image image = random_image(13, 5, 3);
  const std::vector<uint8_t> file = encode_png(image);
  png_image other{};
  other.version = PNG_IMAGE_VERSION;
  ASSERT_NE(png_image_begin_read_from_memory(&other, file.data(), file.size()), 0);
  EXPECT_EQ(other.width, 13u);
  EXPECT_EQ(other.height, 5u);
  other.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(other));
  ASSERT_NE(png_image_finish_read(&other, nullptr, pixels.data(), 0, nullptr), 0);
  EXPECT_EQ(pixels, image.pixels);
}

TEST(Png, OtherKindsBecomeGreyOrRgb) {
  const uint8_t rgba[] = {10, 20, 30, 255, 40, 50, 60, 128};
  Image got = decode_png(foreign_png(PNG_FORMAT_RGBA, 2, 1, rgba), "rgba");
  EXPECT_EQ(got.channels, 3);
  EXPECT_EQ(got.pixels, (std::vector<uint8_t>{10, 20, 30, 40, 50, 60}));

  const uint8_t grey_alpha[] = {10, 255, 20, 0};
  got = decode_png(foreign_png(PNG_FORMAT_GA, 2, 1, grey_alpha), "grey and alpha");
  EXPECT_EQ(got.channels, 1);
  EXPECT_EQ(got.pixels[0], 10);

  const uint8_t colours[] = {1, 2, 3, 200, 100, 50}, indices[] = {1, 0, 1};
  got = decode_png(foreign_png(PNG_FORMAT_RGB_COLORMAP, 3, 1, indices, colours, 2), "palette");
  EXPECT_EQ(got.channels, 3);
  EXPECT_EQ(got.pixels, (std::vector<uint8_t>{200, 100, 50, 1, 2, 3, 200, 100, 50}));

  const uint16_t deep[] = {0, 65535};
  got = decode_png(foreign_png(PNG_FORMAT_LINEAR_Y, 2, 1, deep), "16 bits");
  EXPECT_EQ(got.channels, 1);
  EXPECT_EQ(got.pixels, (std::vector<uint8_t>{0, 255}));
}

// Adam7: the pixels of seven passes land in their places.
TEST(Png, ReadsInterlacedFiles) {
  const Image image = random_image(21, 19, 3);
  std::vector<uint8_t> file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &file,
      [](png_structp p, png_bytep bytes, size_t n) {
        auto* out = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(p));
        out->insert(out->end(), bytes, bytes + n);
      },
      nullptr);
  png_set_IHDR(png, info, 21, 19, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  for (int pass = png_set_interlace_handling(png); pass > 0; --pass) {
    for (int y = 0; y < 19; ++y) png_write_row(png, &image.pixels[y * 21 * 3]);
  }
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  EXPECT_EQ(decode_png(file, "interlaced"), image);
}

TEST(Png, RejectsImagesThatDoNotFitTogether) {
  testing::TempDir dir;
  const std::string path = dir.file("a.png");
  for (const Image& bad :
       {Image{}, Image{2, 2, 1, {1, 2, 3}}, Image{1, 1, 2, {1, 2}}, Image{-1, -1, 1, {1}},
        Image{1, 1, 3, {1, 2, 3, 4}}, Image{int64_t{1} << 32, int64_t{1} << 32, 1, {}},
        Image{1, 1, 0, {}}, Image{1, 1, -1, {1}}}) {
    EXPECT_THROW(write_png(path, bad), ShapeError);
  }
  EXPECT_TRUE(dir.names().empty());
  EXPECT_THROW(write_png(dir.file("no/a.png"), random_image(2, 2, 1)), IoError);
}

TEST(Png, NamesPathAndCause) {
  testing::TempDir dir;
  try {
    read_png(dir.file("none.png"));
    ADD_FAILURE() << "no IoError";
  } catch (const IoError& e) {
    EXPECT_EQ(e.path(), dir.file("none.png"));
    EXPECT_THAT(e.cause(), HasSubstr("No such file"));
  }
  EXPECT_EQ(cause_of({}), "not a PNG file");
  EXPECT_EQ(cause_of({1, 2, 3, 4, 5, 6, 7, 8, 9}), "not a PNG file");
  const std::vector<uint8_t> file = encode_png(random_image(10, 20, 3));
  EXPECT_THAT(cause_of(file, 599), HasSubstr("more than the allowed 599 bytes"));
  EXPECT_EQ(cause_of(file, 600), "no error");
}

TEST(Png, EveryTruncationIsAnError) {
  const std::vector<uint8_t> file = encode_png(random_image(10, 20, 3));
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_NE(cause_of(Span<const uint8_t>(file.data(), n)), "no error") << n;
  }
}

uint32_t crc32_of(const uint8_t* p, size_t n) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < n; ++i) {
    crc ^= p[i];
    for (int k = 0; k < 8; ++k) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

void put_be32(uint8_t* p, uint32_t v) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(v >> (24 - 8 * i));
}

// The header is the first chunk: length, "IHDR", then width at 16 and height at 20, CRC at 29.
std::vector<uint8_t> with_size(std::vector<uint8_t> file, uint32_t width, uint32_t height) {
  put_be32(&file[16], width);
  put_be32(&file[20], height);
  put_be32(&file[29], crc32_of(&file[12], 17));
  return file;
}

TEST(Png, AHugeClaimIsRefusedBeforeMemoryIsTaken) {
  const std::vector<uint8_t> file = encode_png(random_image(4, 4, 1));
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  EXPECT_THAT(cause_of(with_size(file, 0x7fffffff, 0x7fffffff)), HasSubstr("allowed"));
  EXPECT_THAT(cause_of(with_size(file, 0x7fffffff, 0x7fffffff), SIZE_MAX), HasSubstr("too short"));
  EXPECT_THAT(cause_of(with_size(file, 100000, 100000), SIZE_MAX), HasSubstr("too short"));
  EXPECT_NE(cause_of(with_size(file, 0, 4)), "no error");
  EXPECT_NE(cause_of(with_size(file, 0x80000000, 4)), "no error");
  EXPECT_NE(cause_of(with_size(file, 4, 5)), "no error");
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // KiB
}

TEST(Png, MutatedFilesGiveAnErrorOrAnImage) {
  Generator g(1, "mutations");
  const std::vector<uint8_t> good = encode_png(random_image(9, 6, 3));
  const uint8_t colours[] = {1, 2, 3, 200, 100, 50}, indices[] = {1, 0, 1};
  const std::vector<uint8_t> palette =
      foreign_png(PNG_FORMAT_RGB_COLORMAP, 3, 1, indices, colours, 2);
  int errors = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    std::vector<uint8_t> bad = trial % 2 ? good : palette;
    for (uint64_t k = 1 + g.uniform_int(3); k > 0; --k) {
      bad[g.uniform_int(bad.size())] = static_cast<uint8_t>(g.next32());
    }
    if (trial % 4 < 2) put_be32(&bad[29], crc32_of(&bad[12], 17));
    try {
      const Image image = decode_png(bad, "mutated", 1 << 20);
      ASSERT_TRUE(image.channels == 1 || image.channels == 3);
      ASSERT_EQ(image.pixels.size(),
                static_cast<size_t>(image.width * image.height * image.channels));
    } catch (const IoError&) {
      ++errors;
    }
  }
  EXPECT_GT(errors, 1000);
}

}  // namespace
}  // namespace ebb::io
