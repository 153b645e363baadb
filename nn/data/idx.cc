// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/data/idx.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/core/shape.h"

namespace ebb::data {
namespace {

bool known(uint8_t type) { return type >= 0x08 && type <= 0x0E && type != 0x0A; }

[[noreturn]] void fail(const std::string& path, const std::string& cause) {
  throw IoError(path, "bad IDX file: " + cause);
}

void swap_bytes(std::vector<uint8_t>* bytes, size_t item) {
  for (size_t i = 0; i < bytes->size(); i += item) {
    std::reverse(bytes->data() + i, bytes->data() + i + item);
  }
}

}  // namespace

size_t idx_item_size(IdxType type) {
  switch (type) {
    case IdxType::kUInt8:
    case IdxType::kInt8:
      return 1;
    case IdxType::kInt16:
      return 2;
    case IdxType::kInt32:
    case IdxType::kFloat32:
      return 4;
    case IdxType::kFloat64:
      return 8;
  }
  throw ValueError(absl::StrCat("idx_item_size: unknown type ", static_cast<int>(type)));
}

int64_t IdxArray::numel() const {
  int64_t n = 1;
  for (const int64_t d : dims) n *= d;
  return n;
}

IdxArray read_idx(const std::string& path, size_t max_bytes) {
  io::InputFile file(path);
  uint8_t magic[4];
  if (file.read(magic, 4) != 4) fail(path, "shorter than its 4-byte magic number");
  if (magic[0] != 0 || magic[1] != 0) fail(path, "the magic number must begin with two zero bytes");
  if (!known(magic[2])) fail(path, absl::StrCat("unknown type byte ", static_cast<int>(magic[2])));
  const int rank = magic[3];
  if (rank < 1 || rank > kMaxRank) {
    fail(path, absl::StrCat("rank ", rank, " is outside [1, ", kMaxRank, "]"));
  }

  IdxArray out;
  out.type = static_cast<IdxType>(magic[2]);
  const size_t item = idx_item_size(out.type);
  // Zero sizes count as one here, so that the others stay bounded: nobody who multiplies some of
  // the sizes later meets an overflow.
  const uint64_t limit = std::min<uint64_t>(max_bytes, std::numeric_limits<int64_t>::max());
  uint64_t bound = item;
  for (int i = 0; i < rank; ++i) {
    uint8_t size[4];
    if (file.read(size, 4) != 4) fail(path, "truncated in its sizes");
    const uint64_t d = uint64_t{size[0]} << 24 | uint64_t{size[1]} << 16 | uint64_t{size[2]} << 8 |
                       uint64_t{size[3]};
    out.dims.push_back(static_cast<int64_t>(d));
    if (d > 0 && bound > limit / d) {
      fail(path, absl::StrCat("the sizes ", Shape(out.dims).str(), " with ", item,
                              " bytes an element are more than the allowed ", max_bytes, " bytes"));
    }
    bound *= std::max<uint64_t>(d, 1);
  }

  try {
    file.read_exactly(static_cast<size_t>(out.numel()) * item, &out.bytes);
  } catch (const IoError& e) {
    fail(path, absl::StrCat("sizes ", Shape(out.dims).str(), ": ", e.cause()));
  }
  uint8_t more;
  if (file.read(&more, 1) != 0) {
    fail(path, absl::StrCat("bytes left after the elements of sizes ", Shape(out.dims).str()));
  }
  out.bytes.shrink_to_fit();
  if constexpr (std::endian::native == std::endian::little) {
    if (item > 1) swap_bytes(&out.bytes, item);
  }
  return out;
}

}  // namespace ebb::data
