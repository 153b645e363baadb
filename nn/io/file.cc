// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"

namespace ebb::io {
namespace {

constexpr size_t kBufferSize = size_t{1} << 16;
constexpr size_t kFirstChunk = size_t{1} << 14;

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void throw_io(const std::string& path, const char* what, int error) {
  throw IoError(path, std::string(what) + ": " + reason(error));
}

// The file name's place in a path: everything up to and with the last slash is the directory.
size_t name_start(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? 0 : slash + 1;
}

std::string directory_of(const std::string& path) {
  const size_t start = name_start(path);
  return start == 0 ? "." : path.substr(0, start);
}

// What the temporary files of one target begin with. File names end at 255 bytes; two long names
// that share a prefix may clean up each other's litter, which harms neither.
std::string temporary_prefix(const std::string& target) {
  return absl::StrCat(".", target.substr(name_start(target), 200), ".");
}
constexpr char kTemporarySuffix[] = ".ebb-tmp";

// A living writer holds a lock on its temporary file, so one that can be locked is litter. Failing
// to clean up is no error of the write.
void remove_litter(const std::string& target) {
  const std::string directory = directory_of(target);
  const std::string prefix = temporary_prefix(target);
  DIR* listing = opendir(directory.c_str());
  if (listing == nullptr) return;
  while (const dirent* entry = readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(prefix) || !name.ends_with(kTemporarySuffix)) continue;
    const int fd =
        openat(dirfd(listing), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlinkat(dirfd(listing), entry->d_name, 0);
    close(fd);
  }
  closedir(listing);
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), target_(path_) {
  struct stat info;
  mode_t mode = 0;
  if (lstat(target_.c_str(), &info) == 0) {
    if (S_ISLNK(info.st_mode)) {
      char resolved[PATH_MAX];
      if (realpath(target_.c_str(), resolved) == nullptr || stat(resolved, &info) != 0) {
        fail("cannot follow the symbolic link", errno);
      }
      target_ = resolved;
    }
    if (!S_ISREG(info.st_mode)) throw IoError(path_, "cannot replace: not a regular file");
    if (access(target_.c_str(), W_OK) != 0) fail("cannot replace", errno);
    mode = info.st_mode & 0777;
  } else if (errno != ENOENT) {
    fail("cannot create", errno);
  } else if (name_start(target_) == target_.size()) {
    throw IoError(path_, "cannot create: no file name");
  }
  buffer_.reserve(kBufferSize);
  remove_litter(target_);
  open_temporary(mode);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::open_temporary(unsigned mode) {
  static std::atomic<uint64_t> count{0};
  const std::string stem =
      absl::StrCat(directory_of(target_), "/", temporary_prefix(target_), getpid(), "-");
  for (;;) {
    temporary_ = absl::StrCat(stem, count.fetch_add(1), kTemporarySuffix);
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) {
      const int error = errno;
      temporary_.clear();
      if (error == EEXIST) continue;  // of a process of the same number on another machine
      fail("cannot create", error);
    }
    // Between `open` and `flock` another process may have taken the file for litter. A file system
    // without locks has no such process either.
    flock(fd_, LOCK_EX);
    struct stat info;
    if (fstat(fd_, &info) == 0 && info.st_nlink == 0) {
      close(fd_);
      continue;
    }
    break;
  }
  if (mode != 0 && fchmod(fd_, mode) != 0) {
    const int error = errno;
    discard();  // the destructor does not run for a constructor that throws
    fail("cannot set the permissions", error);
  }
}

void AtomicFile::fail(const char* what, int error) const { throw_io(path_, what, error); }

void AtomicFile::discard() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::write(const void* data, size_t size) {
  const char* from = static_cast<const char*>(data);
  size_ += size;
  while (size > 0) {
    const size_t count = std::min(size, kBufferSize - buffer_.size());
    buffer_.insert(buffer_.end(), from, from + count);
    from += count;
    size -= count;
    if (buffer_.size() == kBufferSize) flush();
  }
}

void AtomicFile::flush() {
  const char* from = buffer_.data();
  for (size_t left = buffer_.size(); left > 0;) {
    const ssize_t count = ::write(fd_, from, left);
    if (count < 0) {
      if (errno == EINTR) continue;
      const int error = errno;
      discard();
      fail("cannot write", error);
    }
    from += count;
    left -= static_cast<size_t>(count);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  if (fd_ < 0) throw IoError(path_, "cannot commit: already committed, or an earlier write failed");
  flush();
  if (fsync(fd_) != 0) {
    const int error = errno;
    discard();
    fail("cannot write", error);
  }
  if (rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    discard();
    fail("cannot replace", error);
  }
  temporary_.clear();
  close(fd_);
  fd_ = -1;
  const int directory = open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    if (errno == EACCES) return;  // a directory that may be written but not listed
    fail("written, but its directory cannot be made durable", errno);
  }
  // EINVAL: a file system that does not sync directories.
  const int error = fsync(directory) == 0 || errno == EINVAL ? 0 : errno;
  close(directory);
  if (error != 0) fail("written, but its directory cannot be made durable", error);
}

void atomic_write(const std::string& path, Span<const uint8_t> bytes) {
  AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

void atomic_write(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void atomic_write(const std::string& path, const std::function<void(AtomicFile&)>& writer) {
  AtomicFile file(path);
  writer(file);
  file.commit();
}

// ---- reading
// -------------------------------------------------------------------------------------

struct InputFile::Impl {
  std::string path;
  int fd = -1;
  bool compressed = false;
  bool at_end = false;     // of the file on disk
  bool in_member = false;  // between a gzip member's header and its checksum
  z_stream stream{};       // next_in, avail_in: what is left of `input`, raw files too
  std::vector<Bytef> input = std::vector<Bytef>(kBufferSize);

  ~Impl() {
    if (fd >= 0) close(fd);
    if (compressed) inflateEnd(&stream);
  }

  // Refills `input`, keeping what is left of it, until it holds `want` bytes or the file ends.
  void fill(size_t want) {
    if (stream.avail_in > 0) std::memmove(input.data(), stream.next_in, stream.avail_in);
    stream.next_in = input.data();
    while (stream.avail_in < want && !at_end) {
      const ssize_t count =
          ::read(fd, input.data() + stream.avail_in, input.size() - stream.avail_in);
      if (count < 0) {
        if (errno == EINTR) continue;
        throw_io(path, "cannot read", errno);
      }
      if (count == 0) at_end = true;
      stream.avail_in += static_cast<uInt>(count);
    }
  }

  size_t read_raw(uint8_t* out, size_t n) {
    size_t done = 0;
    while (done < n) {
      if (stream.avail_in == 0) fill(1);
      if (stream.avail_in == 0) break;
      const size_t count = std::min<size_t>(n - done, stream.avail_in);
      std::memcpy(out + done, stream.next_in, count);
      stream.next_in += count;
      stream.avail_in -= static_cast<uInt>(count);
      done += count;
    }
    return done;
  }

  size_t inflate_some(uint8_t* out, size_t n) {
    size_t done = 0;
    while (done < n) {
      if (stream.avail_in == 0) fill(1);
      if (!in_member) {
        if (stream.avail_in == 0) break;  // after the last member
        if (inflateReset(&stream) != Z_OK) throw IoError(path, "cannot reset the gzip decoder");
        in_member = true;
      } else if (stream.avail_in == 0) {
        throw IoError(path, "truncated gzip stream");
      }
      stream.next_out = out + done;
      const uInt room = static_cast<uInt>(std::min<size_t>(n - done, UINT_MAX));
      stream.avail_out = room;
      const int status = inflate(&stream, Z_NO_FLUSH);
      done += room - stream.avail_out;
      if (status == Z_STREAM_END) {
        in_member = false;
      } else if (status == Z_MEM_ERROR) {
        throw IoError(path, "not enough memory to decompress");
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw IoError(path, std::string("corrupt gzip stream: ") +
                                (stream.msg != nullptr ? stream.msg : "invalid data"));
      }
    }
    return done;
  }
};

InputFile::InputFile(std::string path, Format format) : impl_(std::make_unique<Impl>()) {
  impl_->path = std::move(path);
  impl_->fd = open(impl_->path.c_str(), O_RDONLY | O_CLOEXEC);
  if (impl_->fd < 0) throw_io(impl_->path, "cannot open", errno);
  struct stat info;
  if (fstat(impl_->fd, &info) != 0) throw_io(impl_->path, "cannot open", errno);
  if (S_ISDIR(info.st_mode)) throw IoError(impl_->path, "cannot open: is a directory");
  if (format == Format::kRaw) return;
  impl_->fill(2);
  const Bytef* head = impl_->stream.next_in;
  if (impl_->stream.avail_in < 2 || head[0] != 0x1F || head[1] != 0x8B) return;
  // 16: expect a gzip header; 15: the largest window.
  if (inflateInit2(&impl_->stream, 16 + 15) != Z_OK) {
    throw IoError(impl_->path, "cannot start the gzip decoder");
  }
  impl_->compressed = true;
}

InputFile::~InputFile() = default;
InputFile::InputFile(InputFile&&) noexcept = default;
InputFile& InputFile::operator=(InputFile&&) noexcept = default;

const std::string& InputFile::path() const { return impl_->path; }
bool InputFile::compressed() const { return impl_->compressed; }

size_t InputFile::read(void* out, size_t n) {
  uint8_t* to = static_cast<uint8_t*>(out);
  return impl_->compressed ? impl_->inflate_some(to, n) : impl_->read_raw(to, n);
}

void InputFile::read_exactly(size_t n, std::vector<uint8_t>* out) {
  for (size_t left = n; left > 0;) {
    const size_t start = out->size();
    const size_t count = std::min(left, std::max(start, kFirstChunk));
    try {
      out->resize(start + count);
    } catch (const std::bad_alloc&) {
      throw IoError(impl_->path, "does not fit in memory");
    }
    const size_t got = read(out->data() + start, count);
    left -= got;
    if (got < count) {
      throw IoError(impl_->path,
                    absl::StrCat("truncated: ", n, " bytes expected, ", n - left, " found"));
    }
  }
}

namespace {

template <class Container>
Container read_all(const std::string& path, size_t max_bytes, InputFile::Format format) {
  InputFile file(path, format);
  Container out;
  size_t size = 0;
  try {
    for (;;) {
      // One byte more than allowed tells a file that ends there from one that goes on.
      const size_t limit = max_bytes == SIZE_MAX ? SIZE_MAX : max_bytes + 1;
      out.resize(std::min(limit, size + std::max(size, kFirstChunk)));
      const size_t got = file.read(out.data() + size, out.size() - size);
      size += got;
      if (size > max_bytes) {
        throw IoError(path, absl::StrCat(file.compressed() ? "decompresses to" : "has",
                                         " more than the allowed ", max_bytes, " bytes"));
      }
      if (size < out.size()) break;
    }
    out.resize(size);
    out.shrink_to_fit();
  } catch (const std::bad_alloc&) {
    throw IoError(path, "does not fit in memory");
  }
  return out;
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, size_t max_bytes) {
  return read_all<std::vector<uint8_t>>(path, max_bytes, InputFile::Format::kRaw);
}

std::vector<uint8_t> read_gzip(const std::string& path, size_t max_bytes) {
  return read_all<std::vector<uint8_t>>(path, max_bytes, InputFile::Format::kAuto);
}

std::string read_text(const std::string& path, size_t max_bytes) {
  return read_all<std::string>(path, max_bytes, InputFile::Format::kAuto);
}

}  // namespace ebb::io
