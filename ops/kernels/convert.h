// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "ebb/core/dtype.h"

namespace ebb::kernels {

/// out[i] = in[i] as the other type, for contiguous rows of n.
using ConvertFn = void (*)(const void* in, void* out, size_t n);

/// The conversion between any two types, a type and itself included. Between floating types it
/// rounds to nearest, ties to even, and once: float64 to float16 is not rounded to float32 on the
/// way. Floating to integer drops the fraction; NaN gives 0 and what is out of range the nearest
/// limit. Integer to a smaller integer wraps. To bool: whether it is not 0 (NaN is not 0); any byte
/// but 0 of a bool is true and converts to 1. `out` may be `in` if both types have the same size.
ConvertFn convert_fn(DType from, DType to);

inline void convert(DType from, const void* in, DType to, void* out, size_t n) {
  convert_fn(from, to)(in, out, n);
}

}  // namespace ebb::kernels
