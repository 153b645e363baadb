// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ebb/nn/io/file.h"

// IDX, the format of MNIST and its kin (Y. LeCun, C. Cortes and C. Burges, "The MNIST database of
// handwritten digits"): two zero bytes, a type byte, the rank, each size as a big-endian uint32,
// then the elements in row-major order, big-endian.
namespace ebb::data {

/// The type byte of an IDX file.
enum class IdxType : uint8_t {
  kUInt8 = 0x08,
  kInt8 = 0x09,
  kInt16 = 0x0B,
  kInt32 = 0x0C,
  kFloat32 = 0x0D,
  kFloat64 = 0x0E,
};

/// Bytes of one element.
size_t idx_item_size(IdxType type);

/// The contents of an IDX file.
struct IdxArray {
  IdxType type = IdxType::kUInt8;
  std::vector<int64_t> dims;   // 1 to 8 of them, each >= 0
  std::vector<uint8_t> bytes;  // the elements, row-major, in this machine's byte order

  int64_t numel() const;
};

/// Reads an IDX file, plain or gzip. Throws IoError, with the path and what is wrong, on anything
/// that is not exactly one whole array, and where its elements take more than `max_bytes`. Memory
/// is taken as the elements arrive, never because the header says so.
IdxArray read_idx(const std::string& path, size_t max_bytes = io::kDefaultMaxBytes);

}  // namespace ebb::data
