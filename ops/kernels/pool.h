// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/dispatch.h"

// Pooling of contiguous float and double over up to three axes; one or two of them are the last
// ones of three, the others have size 1, kernel 1, stride 1 and no padding. Arrays do not overlap.
namespace ebb::kernels {

struct PoolShape {
  int64_t planes;  ///< batch times channels
  int64_t in[3], out[3];
  int64_t kernel[3], stride[3], pad[3], dilation[3];
};

/// The elements along an axis that a window sees, and by how many its sum is divided.
struct PoolWindow {
  int64_t begin;
  int64_t end;
  int64_t count;
};

/// Window o of an axis that `out` windows cover evenly, overlapping where they must.
inline PoolWindow adaptive_window(int64_t in, int64_t out, int64_t o) {
  const int64_t begin = o * in / out;
  const int64_t end = ((o + 1) * in - 1) / out + 1;
  return {begin, end, end - begin};
}

namespace detail {

template <class T>
struct PoolTable {
  void (*max)(const PoolShape& s, const T* x, T* y);
  void (*max_indices)(const PoolShape& s, const T* x, T* y, int64_t* index);
  void (*max_backward)(const PoolShape& s, const T* x, const T* y, const T* g, T* dx);
  void (*average)(const PoolShape& s, bool count_padding, int64_t divisor, const T* x, T* y);
  void (*average_backward)(const PoolShape& s, bool count_padding, int64_t divisor, const T* g,
                           T* dx);
  void (*adaptive_average)(const PoolShape& s, const T* x, T* y);
  void (*adaptive_average_backward)(const PoolShape& s, const T* g, T* dx);
};
struct PoolTables {
  PoolTable<float> f32;
  PoolTable<double> f64;
};
extern constinit const Dispatch<PoolTables> pool;

}  // namespace detail

/// y: the largest element of each window; NaN if there is one. No window is without elements.
template <class T>
void max_pool(const PoolShape& s, const T* x, T* y) {
  detail::of_type<T>(*detail::pool).max(s, x, y);
}
/// The same with the index of the element in its plane: of the first of several or of NaNs.
template <class T>
void max_pool(const PoolShape& s, const T* x, T* y, int64_t* index) {
  detail::of_type<T>(*detail::pool).max_indices(s, x, y, index);
}
/// dx from the gradient of y = max_pool(x): to the element that the index names. Overwrites dx.
template <class T>
void max_pool_backward(const PoolShape& s, const T* x, const T* y, const T* g, T* dx) {
  detail::of_type<T>(*detail::pool).max_backward(s, x, y, g, dx);
}

/// Sums over windows, divided by `divisor`, or where that is 0 by the number of elements: with
/// padding, or of x alone. Reads no dilation.
template <class T>
void avg_pool(const PoolShape& s, bool count_padding, int64_t divisor, const T* x, T* y) {
  detail::of_type<T>(*detail::pool).average(s, count_padding, divisor, x, y);
}
/// The transpose of that map. Overwrites dx.
template <class T>
void avg_pool_backward(const PoolShape& s, bool count_padding, int64_t divisor, const T* g, T* dx) {
  detail::of_type<T>(*detail::pool).average_backward(s, count_padding, divisor, g, dx);
}

/// Means over adaptive windows; reads planes, in and out of the shape.
template <class T>
void adaptive_avg_pool(const PoolShape& s, const T* x, T* y) {
  detail::of_type<T>(*detail::pool).adaptive_average(s, x, y);
}
/// The transpose of that map. Overwrites dx.
template <class T>
void adaptive_avg_pool_backward(const PoolShape& s, const T* g, T* dx) {
  detail::of_type<T>(*detail::pool).adaptive_average_backward(s, g, dx);
}

/// The largest element of any windows, with its index in its plane: window(d, plane, o) is that of
/// output o along axis d. As max_pool otherwise.
template <class T, class Window>
void max_over_windows(const PoolShape& s, const Window& window, const T* x, T* y, int64_t* index) {
  const int64_t size = s.in[0] * s.in[1] * s.in[2];
  for (int64_t p = 0; p < s.planes; ++p, x += size) {
    for (int64_t a = 0; a < s.out[0]; ++a) {
      const PoolWindow wa = window(0, p, a);
      for (int64_t b = 0; b < s.out[1]; ++b) {
        const PoolWindow wb = window(1, p, b);
        for (int64_t c = 0; c < s.out[2]; ++c, ++y, ++index) {
          const PoolWindow wc = window(2, p, c);
          int64_t best = (wa.begin * s.in[1] + wb.begin) * s.in[2] + wc.begin;
          for (int64_t i = wa.begin; i < wa.end; ++i) {
            for (int64_t j = wb.begin; j < wb.end; ++j) {
              const int64_t row = (i * s.in[1] + j) * s.in[2];
              for (int64_t k = row + wc.begin; k < row + wc.end; ++k) {
                if (x[k] > x[best] || (x[k] != x[k] && x[best] == x[best])) best = k;
              }
            }
          }
          *y = x[best];
          *index = best;
        }
      }
    }
  }
}

/// y[p,o] = x[p, index[p,o]], for planes of n_in and n_out elements.
template <class T>
void gather_planes(int64_t planes, int64_t n_in, int64_t n_out, const T* x, const int64_t* index,
                   T* y) {
  for (int64_t p = 0; p < planes; ++p, x += n_in, y += n_out, index += n_out) {
    for (int64_t o = 0; o < n_out; ++o) y[o] = x[index[o]];
  }
}
/// Its transpose: y[p, index[p,o]] += x[p,o] for planes of n_in and n_out elements, after all of y
/// was set to 0.
template <class T>
void scatter_planes(int64_t planes, int64_t n_in, int64_t n_out, const T* x, const int64_t* index,
                    T* y) {
  std::fill_n(y, planes * n_out, T{0});
  for (int64_t p = 0; p < planes; ++p, x += n_in, index += n_in, y += n_out) {
    for (int64_t i = 0; i < n_in; ++i) y[index[i]] += x[i];
  }
}

}  // namespace ebb::kernels
