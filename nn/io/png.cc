// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/png.h"

#include <png.h>

#include <csetjmp>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/nn/io/file.h"

// libpng reports an error by a longjmp to the setjmp of whoever called it. A jump must not pass an
// object with a destructor, so each function below that calls setjmp has plain locals only, reads
// none of them after a jump, and returns false on an error; what it works on belongs to its caller.
namespace ebb::io {
namespace {

struct Failure {
  char message[200] = "";
};

void on_error(png_structp png, png_const_charp message) {
  Failure* failure = static_cast<Failure*>(png_get_error_ptr(png));
  std::strncpy(failure->message, message, sizeof(failure->message) - 1);
  png_longjmp(png, 1);
}

// libpng goes on after a warning, and so do we.
void on_warning(png_structp, png_const_charp) {}

struct Reader {
  explicit Reader(Span<const uint8_t> bytes)
      : file(bytes),
        png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning)),
        info(png != nullptr ? png_create_info_struct(png) : nullptr) {}
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Span<const uint8_t> file;
  size_t at = 0;
  Failure failure;
  png_structp png;
  png_infop info;
};

void read_bytes(png_structp png, png_bytep out, size_t n) {
  Reader* reader = static_cast<Reader*>(png_get_io_ptr(png));
  if (n > reader->file.size() - reader->at) png_error(png, "truncated");
  std::memcpy(out, reader->file.data() + reader->at, n);
  reader->at += n;
}

bool read_header(Reader* reader) {
  if (setjmp(png_jmpbuf(reader->png))) return false;
  png_structp png = reader->png;
  png_set_read_fn(png, reader, read_bytes);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(png, size_t{1} << 23);
  png_read_info(png, reader->info);
  return true;
}

bool read_pixels(Reader* reader, uint8_t* pixels, size_t stride) {
  if (setjmp(png_jmpbuf(reader->png))) return false;
  png_structp png = reader->png;
  png_set_expand(png);
  png_set_scale_16(png);
  png_set_strip_alpha(png);
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, reader->info);  // takes memory for two rows
  const size_t height = png_get_image_height(png, reader->info);
  for (int pass = 0; pass < passes; ++pass) {
    for (size_t y = 0; y < height; ++y) png_read_row(png, pixels + y * stride, nullptr);
  }
  png_read_end(png, nullptr);
  return true;
}

struct Writer {
  Writer()
      : png(png_create_write_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning)),
        info(png != nullptr ? png_create_info_struct(png) : nullptr) {}
  ~Writer() { png_destroy_write_struct(&png, &info); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  std::vector<uint8_t> file;
  Failure failure;
  png_structp png;
  png_infop info;
};

bool append(std::vector<uint8_t>* file, const uint8_t* bytes, size_t n) noexcept {
  try {
    file->insert(file->end(), bytes, bytes + n);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void write_bytes(png_structp png, png_bytep bytes, size_t n) {
  Writer* writer = static_cast<Writer*>(png_get_io_ptr(png));
  if (!append(&writer->file, bytes, n)) png_error(png, "out of memory");
}

void flush_nothing(png_structp) {}

bool write_all(Writer* writer, const Image* image) {
  if (setjmp(png_jmpbuf(writer->png))) return false;
  png_structp png = writer->png;
  png_set_write_fn(png, writer, write_bytes, flush_nothing);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_IHDR(png, writer->info, static_cast<png_uint_32>(image->width),
               static_cast<png_uint_32>(image->height), 8,
               image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, writer->info);
  const size_t stride = static_cast<size_t>(image->width * image->channels);
  const size_t height = static_cast<size_t>(image->height);
  for (size_t y = 0; y < height; ++y) png_write_row(png, image->pixels.data() + y * stride);
  png_write_end(png, nullptr);
  return true;
}

}  // namespace

Image decode_png(Span<const uint8_t> file, const std::string& name, size_t max_bytes) {
  constexpr size_t kSignature = 8;
  if (file.size() < kSignature || png_sig_cmp(file.data(), 0, kSignature) != 0) {
    throw IoError(name, "not a PNG file");
  }
  Reader reader(file);
  if (reader.info == nullptr) throw IoError(name, "libpng cannot start");
  if (!read_header(&reader)) throw IoError(name, absl::StrCat("bad PNG: ", reader.failure.message));

  Image image;
  image.width = png_get_image_width(reader.png, reader.info);
  image.height = png_get_image_height(reader.png, reader.info);
  const bool colour = (png_get_color_type(reader.png, reader.info) & PNG_COLOR_MASK_COLOR) != 0;
  image.channels = colour ? 3 : 1;
  const std::string size = absl::StrCat(image.width, " x ", image.height);
  // Each side is below 2^31, so that neither product overflows.
  const uint64_t pixels = static_cast<uint64_t>(image.width) * static_cast<uint64_t>(image.height);
  if (pixels > max_bytes / static_cast<uint64_t>(image.channels)) {
    throw IoError(name, absl::StrCat("bad PNG: ", size, " pixels are more than the allowed ",
                                     max_bytes, " bytes"));
  }
  // Deflate makes at most 1032 bytes of one; the stored pixels take at least one bit each.
  constexpr uint64_t kMaxExpansion = 1032;
  if (pixels / 8 / kMaxExpansion > file.size()) {
    throw IoError(name, absl::StrCat("bad PNG: too short for ", size, " pixels"));
  }
  try {
    image.pixels.resize(pixels * static_cast<uint64_t>(image.channels));
    const size_t stride = static_cast<size_t>(image.width * image.channels);
    if (!read_pixels(&reader, image.pixels.data(), stride)) {
      throw IoError(name, absl::StrCat("bad PNG: ", reader.failure.message));
    }
  } catch (const std::bad_alloc&) {
    throw IoError(name, size + " pixels do not fit in memory");
  }
  return image;
}

Image read_png(const std::string& path, size_t max_bytes) {
  return decode_png(read_file(path), path, max_bytes);
}

std::vector<uint8_t> encode_png(const Image& image) {
  const bool sides = image.width > 0 && image.height > 0 && image.width <= PNG_UINT_31_MAX &&
                     image.height <= PNG_UINT_31_MAX;
  if (!sides || (image.channels != 1 && image.channels != 3) ||
      image.pixels.size() / static_cast<uint64_t>(image.channels) !=
          static_cast<uint64_t>(image.width) * static_cast<uint64_t>(image.height) ||
      image.pixels.size() % static_cast<uint64_t>(image.channels) != 0) {
    throw ShapeError(absl::StrCat(
        "write_png: the image is ", image.width, " x ", image.height, " with ", image.channels,
        " channels and ", image.pixels.size(),
        " bytes; needs sides in [1, 2^31), 1 or 3 channels, and width * height * channels bytes"));
  }
  Writer writer;
  if (writer.info == nullptr || !write_all(&writer, &image)) {
    throw MemoryError(absl::StrCat("write_png: ", writer.failure.message));
  }
  return std::move(writer.file);
}

void write_png(const std::string& path, const Image& image) {
  atomic_write(path, encode_png(image));
}

}  // namespace ebb::io
