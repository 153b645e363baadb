// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ebb::kernels {

/// dst[i] = src[i] over `dims` [rank], for elements of `item_size` bytes: 1, 2, 4 or 8. Strides
/// count elements; those of `src` may be 0 (broadcast) or negative, those of `dst` negative. The
/// operands do not overlap. rank <= 8.
void copy_strided(size_t item_size, size_t rank, const int64_t* dims, const void* src,
                  const int64_t* src_strides, void* dst, const int64_t* dst_strides);

/// Sets every element over `dims` to the one at `value`; as copy_strided otherwise.
void fill_strided(size_t item_size, size_t rank, const int64_t* dims, const void* value, void* dst,
                  const int64_t* dst_strides);

/// out[i, :] = in[ids[i], :] for i < n, for rows of `row_bytes`; `in` has rows `in_stride` bytes
/// apart, `out` is contiguous. The ids are in range: the caller has checked.
void gather_rows(const void* in, ptrdiff_t in_stride, const int64_t* ids, size_t n,
                 size_t row_bytes, void* out);

/// out[ids[i], :] += rows[i, :] for i < n in this order, so an id may occur more than once; T =
/// float or double. Rows of `cols`; those of `rows` are contiguous, those of `out` `ld` elements
/// apart. The ids are in range.
template <class T>
void scatter_add_rows(const T* rows, const int64_t* ids, size_t n, size_t cols, T* out,
                      ptrdiff_t ld);

}  // namespace ebb::kernels
