// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/dispatch.h"

// Sums of outer products added to a matrix: what the gradient of a weight used on several vectors
// does to it. One thread, any alignment, T = float or double.
namespace ebb::kernels {

/// Terms u v': vectors of m and of n elements, wherever each of them lies.
template <class T>
struct OuterTerms {
  const T* const* u;
  const T* const* v;
  size_t count;
};

namespace detail {

template <class T>
using AddOutersFn = void (*)(size_t m, size_t n, T alpha, const OuterTerms<T>& terms, T* a,
                             ptrdiff_t lda);
struct OuterTables {
  AddOutersFn<float> f32;
  AddOutersFn<double> f64;
};
extern constinit const Dispatch<OuterTables> outer;

}  // namespace detail

/// Terms that are summed before anything is added, in one pass over A; more take several passes,
/// and a matrix product of the vectors as rows is faster then. So it is for the fewest.
inline constexpr size_t kOuterTerms = 64;
inline constexpr size_t kLeastOuterTerms = 5;

/// A += alpha * (the sum of the terms) with A [m,n], whose rows are `lda` apart. A overlaps none of
/// the vectors.
template <class T>
void add_outers(int64_t m, int64_t n, T alpha, const OuterTerms<T>& terms, T* a, int64_t lda) {
  const auto rows = static_cast<size_t>(m);
  const auto cols = static_cast<size_t>(n);
  if constexpr (sizeof(T) == sizeof(float)) {
    detail::outer->f32(rows, cols, alpha, terms, a, lda);
  } else {
    detail::outer->f64(rows, cols, alpha, terms, a, lda);
  }
}

}  // namespace ebb::kernels
