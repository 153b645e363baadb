// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ebb/core/shape.h"

// Files: written whole or not at all, read with a limit. Every failure is an IoError with the path
// and the system's reason.
namespace ebb::io {

/// What the readers below accept unless told otherwise: 1 GiB.
inline constexpr size_t kDefaultMaxBytes = size_t{1} << 30;

/// A file in the making. The bytes go to a hidden temporary file in the target's directory;
/// `commit` makes them durable and puts them under the target's name in one step. Whoever reads the
/// name, at any time and after a crash or power cut at any time, finds the old file or the new one,
/// whole. Without `commit` the target stays untouched and the temporary file goes with the object.
///
/// An existing target keeps its permission bits and must be a regular file that may be written; a
/// symbolic link is followed. What a killed process left behind is removed by the next AtomicFile
/// of the same target.
class AtomicFile {
 public:
  /// Creates the temporary file. Throws IoError.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends (buffered). Throws IoError: disk full, quota, file size limit, ...
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Throws IoError; the target is then the old one, except where only the last step failed, which
  /// makes the change of the directory durable and says so. Call once.
  void commit();

  const std::string& path() const { return path_; }
  /// Bytes written so far.
  uint64_t size() const { return size_; }

 private:
  void open_temporary(unsigned mode);
  void flush();
  void discard();
  [[noreturn]] void fail(const char* what, int error) const;

  std::string path_;       // as given, for messages
  std::string target_;     // behind symbolic links
  std::string temporary_;  // empty when there is none
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<char> buffer_;
};

/// Replaces the file's contents as AtomicFile does. Throws IoError; where `writer` throws, the
/// target stays untouched and the exception passes through.
void atomic_write(const std::string& path, Span<const uint8_t> bytes);
void atomic_write(const std::string& path, std::string_view text);
void atomic_write(const std::string& path, const std::function<void(AtomicFile&)>& writer);

/// A file read from front to back; with kAuto, one that begins as gzip does (RFC 1952, several
/// members too) is decompressed on the way.
class InputFile {
 public:
  enum class Format { kRaw, kAuto };

  /// Throws IoError where the file cannot be opened or is a directory.
  explicit InputFile(std::string path, Format format = Format::kAuto);
  ~InputFile();
  InputFile(InputFile&&) noexcept;
  InputFile& operator=(InputFile&&) noexcept;

  /// Reads up to n bytes; fewer only at the end. Throws IoError on a read error and on a corrupt or
  /// truncated gzip stream.
  size_t read(void* out, size_t n);

  /// Appends exactly n bytes to `out`, which grows as the bytes arrive: a size that a broken file
  /// claims is never allocated in advance. Throws IoError "truncated: ..." where fewer are left.
  void read_exactly(size_t n, std::vector<uint8_t>* out);

  const std::string& path() const;
  bool compressed() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The whole file, as it is. Throws IoError, also where it is longer than `max_bytes`.
std::vector<uint8_t> read_file(const std::string& path, size_t max_bytes = kDefaultMaxBytes);

/// The whole file, decompressed where it is gzip. Throws IoError, also where the *decompressed*
/// contents are longer than `max_bytes`, which guards against decompression bombs.
std::vector<uint8_t> read_gzip(const std::string& path, size_t max_bytes = kDefaultMaxBytes);

/// `read_gzip` for text.
std::string read_text(const std::string& path, size_t max_bytes = kDefaultMaxBytes);

}  // namespace ebb::io
