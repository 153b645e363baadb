// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/pool.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/pool.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace {

// Of a whole plane; the elements before and after the padded window are cut off.
HWY_INLINE int64_t first_output(int64_t start, int64_t stride) {
  return start >= 0 ? 0 : (-start + stride - 1) / stride;
}
// The first output whose element start + o * stride is not below n.
HWY_INLINE int64_t end_output(int64_t start, int64_t stride, int64_t n, int64_t out) {
  return start >= n ? 0 : std::min(out, (n - 1 - start) / stride + 1);
}

bool is_halving(const PoolShape& s) {
  const auto plain = [&](int d, int64_t k) {
    return s.kernel[d] == k && s.stride[d] == k && s.pad[d] == 0 && s.dilation[d] == 1;
  };
  return plain(0, 1) && plain(1, 2) && plain(2, 2) && s.in[1] >= 2 * s.out[1] &&
         s.in[2] >= 2 * s.out[2];
}

// Calls f(d, o) for whole vectors from element 0 of n on, with shorter ones where no long one is
// left: rows of images are short. Returns where the first element is that none took.
template <class D, class F>
HWY_INLINE int64_t by_vectors(D d, int64_t o, int64_t n, const F& f) {
  constexpr auto kN = static_cast<int64_t>(kLanes<D>);
  for (; o + kN <= n; o += kN) f(d, o);
  if constexpr (kN * sizeof(hn::TFromD<D>) > 16) o = by_vectors(hn::Half<D>(), o, n, f);
  return o;
}

// ---- the largest
// ---------------------------------------------------------------------------------

template <class T>
HWY_INLINE T larger(T a, T b) {
  return b > a || b != b ? b : a;
}
template <class V>
HWY_INLINE V larger_lanes(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(b, a), hn::IsNaN(b)), b, a);
}

// y[o] = larger(y[o], x[o * stride]).
template <class T>
HWY_INLINE void larger_row(const T* x, int64_t stride, T* y, int64_t n) {
  const hn::ScalableTag<T> d;
  constexpr auto kN = static_cast<int64_t>(kLanes<decltype(d)>);
  int64_t o = 0;
  if (stride == 1) {
    for (; o + kN <= n; o += kN) {
      hn::StoreU(larger_lanes(hn::LoadU(d, y + o), hn::LoadU(d, x + o)), d, y + o);
    }
  } else if (stride == 2) {
    // The last vector would read one element more than there need be.
    for (; o + kN < n; o += kN) {
      hn::Vec<decltype(d)> even;
      hn::Vec<decltype(d)> odd;
      hn::LoadInterleaved2(d, x + 2 * o, even, odd);
      hn::StoreU(larger_lanes(hn::LoadU(d, y + o), even), d, y + o);
    }
  }
  for (; o < n; ++o) y[o] = larger(y[o], x[o * stride]);
}

// Windows of 2 x 2 side by side, of one row of them.
template <class T>
HWY_INLINE void max_halving_row(const T* x, int64_t width, T* y, int64_t n) {
  int64_t o = by_vectors(hn::ScalableTag<T>(), 0, n, [&](auto d, int64_t at) HWY_ATTR {
    hn::Vec<decltype(d)> v[4];
    hn::LoadInterleaved2(d, x + 2 * at, v[0], v[1]);
    hn::LoadInterleaved2(d, x + width + 2 * at, v[2], v[3]);
    hn::StoreU(larger_lanes(larger_lanes(v[0], v[1]), larger_lanes(v[2], v[3])), d, y + at);
  });
  for (; o < n; ++o) {
    const T* w = x + 2 * o;
    y[o] = larger(larger(w[0], w[1]), larger(w[width], w[width + 1]));
  }
}

template <class T>
void max(const PoolShape& s, const T* x, T* y) {
  const int64_t size = s.in[0] * s.in[1] * s.in[2];
  const int64_t width = s.in[2];
  if (is_halving(s)) {
    for (int64_t p = 0; p < s.planes; ++p, x += size) {
      for (int64_t a = 0; a < s.out[0] * s.out[1]; ++a, y += s.out[2]) {
        const int64_t row = a / s.out[1] * s.in[1] + a % s.out[1] * 2;
        max_halving_row(x + row * width, width, y, s.out[2]);
      }
    }
    return;
  }
  for (int64_t p = 0; p < s.planes; ++p, x += size) {
    for (int64_t a = 0; a < s.out[0]; ++a) {
      for (int64_t b = 0; b < s.out[1]; ++b, y += s.out[2]) {
        std::fill_n(y, s.out[2], -std::numeric_limits<T>::infinity());
        for (int64_t i = 0; i < s.kernel[0]; ++i) {
          const int64_t ia = a * s.stride[0] - s.pad[0] + i * s.dilation[0];
          if (ia < 0 || ia >= s.in[0]) continue;
          for (int64_t j = 0; j < s.kernel[1]; ++j) {
            const int64_t ib = b * s.stride[1] - s.pad[1] + j * s.dilation[1];
            if (ib < 0 || ib >= s.in[1]) continue;
            const T* row = x + (ia * s.in[1] + ib) * width;
            for (int64_t k = 0; k < s.kernel[2]; ++k) {
              const int64_t start = k * s.dilation[2] - s.pad[2];
              const int64_t from = first_output(start, s.stride[2]);
              const int64_t to = end_output(start, s.stride[2], width, s.out[2]);
              if (from >= to) continue;
              larger_row(row + start + from * s.stride[2], s.stride[2], y + from, to - from);
            }
          }
        }
      }
    }
  }
}

// Calls f(output, index) for every element of every window, window by window in row-major order,
// with indices in the plane.
template <class F>
HWY_INLINE void for_window_elements(const PoolShape& s, const F& f) {
  int64_t o = 0;
  for (int64_t a = 0; a < s.out[0]; ++a) {
    for (int64_t b = 0; b < s.out[1]; ++b) {
      for (int64_t c = 0; c < s.out[2]; ++c, ++o) {
        for (int64_t i = 0; i < s.kernel[0]; ++i) {
          const int64_t ia = a * s.stride[0] - s.pad[0] + i * s.dilation[0];
          if (ia < 0 || ia >= s.in[0]) continue;
          for (int64_t j = 0; j < s.kernel[1]; ++j) {
            const int64_t ib = b * s.stride[1] - s.pad[1] + j * s.dilation[1];
            if (ib < 0 || ib >= s.in[1]) continue;
            const int64_t row = (ia * s.in[1] + ib) * s.in[2];
            for (int64_t k = 0; k < s.kernel[2]; ++k) {
              const int64_t ic = c * s.stride[2] - s.pad[2] + k * s.dilation[2];
              if (ic >= 0 && ic < s.in[2]) f(o, row + ic);
            }
          }
        }
      }
    }
  }
}

template <class T>
void max_indices(const PoolShape& s, const T* x, T* y, int64_t* index) {
  const int64_t n_in = s.in[0] * s.in[1] * s.in[2];
  const int64_t n_out = s.out[0] * s.out[1] * s.out[2];
  for (int64_t p = 0; p < s.planes; ++p, x += n_in, y += n_out, index += n_out) {
    std::fill_n(index, n_out, int64_t{-1});
    for_window_elements(s, [&](int64_t o, int64_t at) {
      const T v = x[at];
      if (index[o] >= 0 && !(v > y[o]) && !(v != v && y[o] == y[o])) return;
      y[o] = v;
      index[o] = at;
    });
  }
}

template <class T>
HWY_INLINE void max_halving_backward_row(const T* x, int64_t width, const T* y, const T* g, T* dx,
                                         int64_t n) {
  int64_t o = by_vectors(hn::ScalableTag<T>(), 0, n, [&](auto d, int64_t at) HWY_ATTR {
    using V = hn::Vec<decltype(d)>;
    V v[4];
    hn::LoadInterleaved2(d, x + 2 * at, v[0], v[1]);
    hn::LoadInterleaved2(d, x + width + 2 * at, v[2], v[3]);
    const V largest = hn::LoadU(d, y + at);
    V left = hn::LoadU(d, g + at);  // 0 once an element has taken it
    HWY_UNROLL(4)
    for (V& e : v) {
      const auto takes = hn::Or(hn::Eq(e, largest), hn::IsNaN(e));
      e = hn::IfThenElseZero(takes, left);
      left = hn::IfThenZeroElse(takes, left);
    }
    hn::StoreInterleaved2(v[0], v[1], d, dx + 2 * at);
    hn::StoreInterleaved2(v[2], v[3], d, dx + width + 2 * at);
  });
  for (; o < n; ++o) {
    T left = g[o];
    for (const int64_t at : {2 * o, 2 * o + 1, width + 2 * o, width + 2 * o + 1}) {
      const bool takes = x[at] == y[o] || x[at] != x[at];
      dx[at] = takes ? left : T{0};
      if (takes) left = 0;
    }
  }
}

// One window: its gradient goes to the first element that is the largest.
template <class T>
HWY_INLINE void max_window_backward(const PoolShape& s, int64_t a, int64_t b, int64_t c, const T* x,
                                    T y, T g, T* dx) {
  for (int64_t i = 0; i < s.kernel[0]; ++i) {
    const int64_t ia = a * s.stride[0] - s.pad[0] + i * s.dilation[0];
    if (ia < 0 || ia >= s.in[0]) continue;
    for (int64_t j = 0; j < s.kernel[1]; ++j) {
      const int64_t ib = b * s.stride[1] - s.pad[1] + j * s.dilation[1];
      if (ib < 0 || ib >= s.in[1]) continue;
      const int64_t row = (ia * s.in[1] + ib) * s.in[2];
      for (int64_t k = 0; k < s.kernel[2]; ++k) {
        const int64_t ic = c * s.stride[2] - s.pad[2] + k * s.dilation[2];
        if (ic < 0 || ic >= s.in[2]) continue;
        if (x[row + ic] != y && x[row + ic] == x[row + ic]) continue;
        dx[row + ic] += g;
        return;
      }
    }
  }
}

// As many neighbouring windows as a vector has lanes, at distances of 1 or 2: tap by tap they see
// elements that are no other's in turn.
template <int kStride, class T>
HWY_INLINE void max_windows_backward(const PoolShape& s, int64_t a, int64_t b, int64_t c,
                                     const T* x, const T* y, const T* g, T* dx) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const V largest = hn::LoadU(d, y);
  V left = hn::LoadU(d, g);
  const auto take = [&](V v) HWY_ATTR {
    const auto takes = hn::Or(hn::Eq(v, largest), hn::IsNaN(v));
    const V taken = hn::IfThenElseZero(takes, left);
    left = hn::IfThenZeroElse(takes, left);
    return taken;
  };
  for (int64_t i = 0; i < s.kernel[0]; ++i) {
    const int64_t ia = a * s.stride[0] - s.pad[0] + i * s.dilation[0];
    if (ia < 0 || ia >= s.in[0]) continue;
    for (int64_t j = 0; j < s.kernel[1]; ++j) {
      const int64_t ib = b * s.stride[1] - s.pad[1] + j * s.dilation[1];
      if (ib < 0 || ib >= s.in[1]) continue;
      int64_t at = (ia * s.in[1] + ib) * s.in[2] + c * kStride - s.pad[2];
      for (int64_t k = 0; k < s.kernel[2]; ++k, at += s.dilation[2]) {
        if constexpr (kStride == 1) {
          hn::StoreU(hn::Add(hn::LoadU(d, dx + at), take(hn::LoadU(d, x + at))), d, dx + at);
        } else {
          V v;
          V gradient;
          V between;
          hn::LoadInterleaved2(d, x + at, v, between);
          hn::LoadInterleaved2(d, dx + at, gradient, between);
          hn::StoreInterleaved2(hn::Add(gradient, take(v)), between, d, dx + at);
        }
      }
    }
  }
}

template <class T>
void max_backward(const PoolShape& s, const T* x, const T* y, const T* g, T* dx) {
  constexpr auto kN = static_cast<int64_t>(kLanes<hn::ScalableTag<T>>);
  const int64_t n_in = s.in[0] * s.in[1] * s.in[2];
  const int64_t width = s.in[2];
  const bool halving = is_halving(s);
  const bool covered = halving && s.in[1] == 2 * s.out[1] && width == 2 * s.out[2];
  if (!covered) std::fill_n(dx, s.planes * n_in, T{0});
  // Windows from `first` on, before `end`, lie in the row; with a stride of 2 a vector of them
  // reads an element more.
  const int64_t stride = s.stride[2];
  const int64_t span = s.dilation[2] * (s.kernel[2] - 1) + (stride == 2 ? 2 : 1);
  const int64_t first = first_output(-s.pad[2], stride);
  const int64_t room = width + s.pad[2] - span;
  const int64_t end = room < 0 ? 0 : std::min(s.out[2], room / stride + 1);
  for (int64_t p = 0; p < s.planes; ++p, x += n_in, dx += n_in) {
    for (int64_t a = 0; a < s.out[0]; ++a) {
      for (int64_t b = 0; b < s.out[1]; ++b, y += s.out[2], g += s.out[2]) {
        if (halving) {
          const int64_t at = (a * s.in[1] + 2 * b) * width;
          max_halving_backward_row(x + at, width, y, g, dx + at, s.out[2]);
          continue;
        }
        for (int64_t c = 0; c < s.out[2];) {
          if (stride <= 2 && c >= first && c + kN <= end) {
            if (stride == 1) {
              max_windows_backward<1>(s, a, b, c, x, y + c, g + c, dx);
            } else {
              max_windows_backward<2>(s, a, b, c, x, y + c, g + c, dx);
            }
            c += kN;
          } else {
            max_window_backward(s, a, b, c, x, y[c], g[c], dx);
            ++c;
          }
        }
      }
    }
  }
}

// ---- means
// ---------------------------------------------------------------------------------------

template <class T>
HWY_INLINE T sum_row(const T* x, int64_t n) {
  const hn::ScalableTag<T> d;
  constexpr auto kN = static_cast<int64_t>(kLanes<decltype(d)>);
  T total = 0;
  int64_t i = 0;
  if (n >= kN) {
    auto v = hn::LoadU(d, x);
    for (i = kN; i + kN <= n; i += kN) v = hn::Add(v, hn::LoadU(d, x + i));
    total = reduce_lanes(d, v, [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); });
  }
  for (; i < n; ++i) total += x[i];
  return total;
}

// Sums over windows, each times 1 / the product of its counts, or `factor` where that is not 0.
template <class T, class Window>
HWY_INLINE void means(const PoolShape& s, const Window& window, T factor, const T* x, T* y) {
  const int64_t size = s.in[0] * s.in[1] * s.in[2];
  for (int64_t p = 0; p < s.planes; ++p, x += size) {
    for (int64_t a = 0; a < s.out[0]; ++a) {
      const PoolWindow wa = window(0, a);
      for (int64_t b = 0; b < s.out[1]; ++b) {
        const PoolWindow wb = window(1, b);
        for (int64_t c = 0; c < s.out[2]; ++c) {
          const PoolWindow wc = window(2, c);
          // Rows that follow each other without a gap count as one.
          const bool joined = wc.end - wc.begin == s.in[2];
          T total = 0;
          for (int64_t i = wa.begin; i < wa.end; ++i) {
            const T* from = x + (i * s.in[1] + wb.begin) * s.in[2] + wc.begin;
            const int64_t rows = wb.end - wb.begin;
            if (joined) {
              total += sum_row(from, rows * s.in[2]);
            } else {
              for (int64_t j = 0; j < rows; ++j) {
                total += sum_row(from + j * s.in[2], wc.end - wc.begin);
              }
            }
          }
          const T f = factor != 0 ? factor : T{1} / static_cast<T>(wa.count * wb.count * wc.count);
          *y++ = total * f;
        }
      }
    }
  }
}

template <class T, class Window>
HWY_INLINE void means_backward(const PoolShape& s, const Window& window, T factor, const T* g,
                               T* dx) {
  const int64_t size = s.in[0] * s.in[1] * s.in[2];
  std::fill_n(dx, s.planes * size, T{0});
  for (int64_t p = 0; p < s.planes; ++p, dx += size) {
    for (int64_t a = 0; a < s.out[0]; ++a) {
      const PoolWindow wa = window(0, a);
      for (int64_t b = 0; b < s.out[1]; ++b) {
        const PoolWindow wb = window(1, b);
        for (int64_t c = 0; c < s.out[2]; ++c) {
          const PoolWindow wc = window(2, c);
          const T f = factor != 0 ? factor : T{1} / static_cast<T>(wa.count * wb.count * wc.count);
          const T v = *g++ * f;
          for (int64_t i = wa.begin; i < wa.end; ++i) {
            for (int64_t j = wb.begin; j < wb.end; ++j) {
              T* row = dx + (i * s.in[1] + j) * s.in[2];
              for (int64_t k = wc.begin; k < wc.end; ++k) row[k] += v;
            }
          }
        }
      }
    }
  }
}

template <class T>
HWY_INLINE void mean_halving_row(const T* x, int64_t width, T factor, T* y, int64_t n) {
  int64_t o = by_vectors(hn::ScalableTag<T>(), 0, n, [&](auto d, int64_t at) HWY_ATTR {
    hn::Vec<decltype(d)> v[4];
    hn::LoadInterleaved2(d, x + 2 * at, v[0], v[1]);
    hn::LoadInterleaved2(d, x + width + 2 * at, v[2], v[3]);
    const auto sum = hn::Add(hn::Add(v[0], v[1]), hn::Add(v[2], v[3]));
    hn::StoreU(hn::Mul(sum, hn::Set(d, factor)), d, y + at);
  });
  for (; o < n; ++o) {
    const T* w = x + 2 * o;
    y[o] = ((w[0] + w[1]) + (w[width] + w[width + 1])) * factor;
  }
}

template <class T>
HWY_INLINE void mean_halving_backward_row(const T* g, T factor, int64_t width, T* dx, int64_t n) {
  int64_t o = by_vectors(hn::ScalableTag<T>(), 0, n, [&](auto d, int64_t at) HWY_ATTR {
    const auto v = hn::Mul(hn::LoadU(d, g + at), hn::Set(d, factor));
    hn::StoreInterleaved2(v, v, d, dx + 2 * at);
    hn::StoreInterleaved2(v, v, d, dx + width + 2 * at);
  });
  for (; o < n; ++o) {
    const T v = g[o] * factor;
    dx[2 * o] = dx[2 * o + 1] = dx[width + 2 * o] = dx[width + 2 * o + 1] = v;
  }
}

struct FixedWindows {
  const PoolShape& s;
  bool count_padding;
  HWY_INLINE PoolWindow operator()(int d, int64_t o) const {
    const int64_t start = o * s.stride[d] - s.pad[d];
    const int64_t end = std::min(start + s.kernel[d], s.in[d] + s.pad[d]);
    PoolWindow w{std::max<int64_t>(start, 0), std::min(end, s.in[d]), 0};
    w.count = count_padding ? end - start : w.end - w.begin;
    return w;
  }
};
struct AdaptiveWindows {
  const PoolShape& s;
  HWY_INLINE PoolWindow operator()(int d, int64_t o) const {
    return adaptive_window(s.in[d], s.out[d], o);
  }
};

template <class T>
T factor_of(int64_t divisor) {
  return divisor == 0 ? T{0} : T{1} / static_cast<T>(divisor);
}

template <class T>
void average(const PoolShape& s, bool count_padding, int64_t divisor, const T* x, T* y) {
  if (!is_halving(s)) {
    return means(s, FixedWindows{s, count_padding}, factor_of<T>(divisor), x, y);
  }
  const T factor = factor_of<T>(divisor == 0 ? 4 : divisor);
  for (int64_t a = 0; a < s.planes * s.out[0] * s.out[1]; ++a, y += s.out[2]) {
    const int64_t row = a / s.out[1] * s.in[1] + a % s.out[1] * 2;
    mean_halving_row(x + row * s.in[2], s.in[2], factor, y, s.out[2]);
  }
}

template <class T>
void average_backward(const PoolShape& s, bool count_padding, int64_t divisor, const T* g, T* dx) {
  if (!is_halving(s)) {
    return means_backward(s, FixedWindows{s, count_padding}, factor_of<T>(divisor), g, dx);
  }
  const bool covered = s.in[1] == 2 * s.out[1] && s.in[2] == 2 * s.out[2];
  if (!covered) std::fill_n(dx, s.planes * s.in[0] * s.in[1] * s.in[2], T{0});
  const T factor = factor_of<T>(divisor == 0 ? 4 : divisor);
  for (int64_t a = 0; a < s.planes * s.out[0] * s.out[1]; ++a, g += s.out[2]) {
    const int64_t row = a / s.out[1] * s.in[1] + a % s.out[1] * 2;
    mean_halving_backward_row(g, factor, s.in[2], dx + row * s.in[2], s.out[2]);
  }
}

template <class T>
void adaptive_average(const PoolShape& s, const T* x, T* y) {
  means(s, AdaptiveWindows{s}, T{0}, x, y);
}
template <class T>
void adaptive_average_backward(const PoolShape& s, const T* g, T* dx) {
  means_backward(s, AdaptiveWindows{s}, T{0}, g, dx);
}

template <class T>
constexpr detail::PoolTable<T> kTable{max<T>,
                                      max_indices<T>,
                                      max_backward<T>,
                                      average<T>,
                                      average_backward<T>,
                                      adaptive_average<T>,
                                      adaptive_average_backward<T>};
constexpr detail::PoolTables kTables{kTable<float>, kTable<double>};

}  // namespace

const detail::PoolTables* pool_tables() { return &kTables; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(pool_tables);

constinit const Dispatch<detail::PoolTables> detail::pool{
    [] { return HWY_DYNAMIC_DISPATCH(pool_tables)(); }};

}  // namespace ebb::kernels
#endif
