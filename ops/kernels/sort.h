// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/core/dtype.h"

// The order of a row's elements. All types; NaN counts as the largest number, two NaN, and 0 and
// -0, as equal. Equal elements keep the order of their indices. Strides count elements.
namespace ebb::kernels {

/// Indices of in[i * stride], i < n, ascending by element or descending, to out[i * out_stride].
void argsort(DType type, const void* in, ptrdiff_t stride, size_t n, bool descending, int64_t* out,
             ptrdiff_t out_stride);

/// The first k of these indices, k <= n: in that order where `sorted`, else ascending by
/// themselves.
void argtopk(DType type, const void* in, ptrdiff_t stride, size_t n, size_t k, bool descending,
             bool sorted, int64_t* out, ptrdiff_t out_stride);

}  // namespace ebb::kernels
