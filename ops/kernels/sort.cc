// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/sort.h"

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <limits>
#include <utility>
#include <vector>

#include "ebb/core/half.h"
#include "ebb/core/memory.h"

// Every element becomes an unsigned key that has its order. Keys are put together with the index,
// so that no two are equal, and a sort need not be stable.
namespace ebb::kernels {
namespace {

template <class T>
using Buffer = std::vector<T, ebb::detail::PoolAllocator<T>>;

template <class U, class T>
U float_key(T x) {
  constexpr U kSign = U{1} << (8 * sizeof(U) - 1);
  if (x != x) return ~U{0};
  const U bits = std::bit_cast<U>(x + T{0});  // -0 + 0 = 0
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

uint32_t key_of(float x) { return float_key<uint32_t>(x); }
uint64_t key_of(double x) { return float_key<uint64_t>(x); }
uint64_t key_of(int64_t x) { return static_cast<uint64_t>(x) ^ (uint64_t{1} << 63); }
uint32_t key_of(int32_t x) { return static_cast<uint32_t>(x) ^ (uint32_t{1} << 31); }
uint32_t key_of(uint8_t x) { return x; }
uint32_t key_of(float16 x) { return key_of(to_float(x)); }
uint32_t key_of(bfloat16 x) { return key_of(to_float(x)); }

// A key of up to 32 bits, and an index below 2^32, in one word.
struct Packed {
  Packed() = default;
  Packed(uint32_t key, size_t i) : word(uint64_t{key} << 32 | i) {}
  uint64_t word;

  static constexpr int kKeyBytes = 4;
  uint64_t key() const { return word >> 32; }
  int64_t index() const { return static_cast<int64_t>(word & 0xffffffff); }
  auto operator<=>(const Packed&) const = default;
};

// Any other.
struct Wide {
  Wide() = default;
  Wide(uint64_t k, size_t i) : high(k), at(static_cast<int64_t>(i)) {}
  uint64_t high;
  int64_t at;

  static constexpr int kKeyBytes = 8;
  uint64_t key() const { return high; }
  int64_t index() const { return at; }
  auto operator<=>(const Wide&) const = default;
};

// Sorts entries whose indices ascend: bytes of the key from the lowest up, by counting.
template <class E>
void radix_sort(Buffer<E>* entries) {
  Buffer<E> other(entries->size());
  for (int byte = 0; byte < E::kKeyBytes; ++byte) {
    const auto digit = [byte](const E& e) { return e.key() >> (8 * byte) & 255; };
    std::array<size_t, 256> start{};
    for (const E& e : *entries) ++start[digit(e)];
    if (start[digit((*entries)[0])] == entries->size()) continue;  // the same in all of them
    size_t sum = 0;
    for (size_t& s : start) sum += std::exchange(s, sum);
    for (const E& e : *entries) other[start[digit(e)]++] = e;
    entries->swap(other);
  }
}

template <class E, class K>
void argsort_keys(const K& key, size_t n, int64_t* out, ptrdiff_t out_stride) {
  constexpr size_t kRadix = 512;  // entries from which on counting is faster than comparing
  Buffer<E> entries(n);
  for (size_t i = 0; i < n; ++i) entries[i] = E(key(i), i);
  if (n < kRadix) {
    std::sort(entries.begin(), entries.end());
  } else {
    radix_sort(&entries);
  }
  for (const E& e : entries) {
    *out = e.index();
    out += out_stride;
  }
}

template <class E, class K>
void argtopk_keys(const K& key, size_t n, size_t k, bool sorted, int64_t* out,
                  ptrdiff_t out_stride) {
  if (k == 0) return;
  // Collects what may belong to the first k, and throws out the rest whenever the buffer is full:
  // linear in n, and few elements get past the comparison with the worst that is in.
  const size_t room = std::min(n, 2 * k + 64);
  Buffer<E> best(room);
  size_t count = 0;
  const auto shrink = [&] {
    std::nth_element(best.begin(), best.begin() + static_cast<ptrdiff_t>(k - 1),
                     best.begin() + static_cast<ptrdiff_t>(count));
    count = k;
  };
  bool full = false;
  E worst{};
  for (size_t i = 0; i < n; ++i) {
    const E e(key(i), i);
    if (full && !(e < worst)) continue;
    best[count++] = e;
    if (count == room && i + 1 < n) {
      shrink();
      worst = best[k - 1];
      full = true;
    }
  }
  if (count > k) shrink();
  const auto end = best.begin() + static_cast<ptrdiff_t>(k);
  if (sorted) {
    std::sort(best.begin(), end);
  } else {
    std::sort(best.begin(), end, [](const E& a, const E& b) { return a.index() < b.index(); });
  }
  for (size_t i = 0; i < k; ++i, out += out_stride) *out = best[i].index();
}

// Calls f(E{}, key), where key(i) is the key of element i and E the entries to put it in.
template <class F>
void with_keys(DType type, const void* in, ptrdiff_t stride, size_t n, bool descending, F&& f) {
  const auto run = [&](auto t) {
    using T = decltype(t);
    using U = decltype(key_of(T{}));
    const T* x = static_cast<const T*>(in);
    const U flip = descending ? ~U{0} : U{0};
    const auto key = [=](size_t i) {
      return static_cast<U>(key_of(x[static_cast<ptrdiff_t>(i) * stride]) ^ flip);
    };
    if constexpr (sizeof(U) == sizeof(uint32_t)) {
      if (n <= std::numeric_limits<uint32_t>::max()) return f(Packed(), key);
    }
    f(Wide(), key);
  };
  switch (type) {
    case DType::kBool:
      return run(uint8_t{});
    case DType::kFloat16:
      return run(float16{});
    case DType::kBFloat16:
      return run(bfloat16{});
    default:
      visit_arithmetic(type, [&](auto t) {
        if constexpr (!std::is_same_v<decltype(t), bool>) run(t);
      });
  }
}

}  // namespace

void argsort(DType type, const void* in, ptrdiff_t stride, size_t n, bool descending, int64_t* out,
             ptrdiff_t out_stride) {
  with_keys(type, in, stride, n, descending,
            [&](auto e, const auto& key) { argsort_keys<decltype(e)>(key, n, out, out_stride); });
}

void argtopk(DType type, const void* in, ptrdiff_t stride, size_t n, size_t k, bool descending,
             bool sorted, int64_t* out, ptrdiff_t out_stride) {
  with_keys(type, in, stride, n, descending, [&](auto e, const auto& key) {
    argtopk_keys<decltype(e)>(key, n, k, sorted, out, out_stride);
  });
}

}  // namespace ebb::kernels
