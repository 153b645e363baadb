// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "ebb/ops/kernels/dispatch.h"
#include "hwy/targets.h"

// What the tests of the kernels share.
namespace ebb::kernels::testing {

/// Calls f once for each instruction set that was compiled and that this machine has, with the
/// kernels of that set in place.
template <class F>
void for_each_target(const F& f) {
  const auto use = [](int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    reset_dispatch();
  };
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    use(target);
    f();
  }
  use(0);
}

/// An array that ends `gap` elements before a page that may not be touched, with a pattern before
/// it and in the gap: reading or writing past the end faults (gap 0), and writing before the start
/// or into the gap is seen by intact(). The size and the gap together give every alignment.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t n, size_t gap = 0) : n_(n) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t used = (n + gap) * sizeof(T) + kPattern;
    body_ = (used + page - 1) / page * page;
    size_ = body_ + page;
    memory_ = take(size_);
    if (memory_ == nullptr) {
      void* p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) throw std::bad_alloc();
      memory_ = static_cast<std::byte*>(p);
      if (mprotect(memory_ + body_, page, PROT_NONE) != 0) throw std::bad_alloc();
    }
    data_ = reinterpret_cast<T*>(memory_ + body_ - (n + gap) * sizeof(T));
    std::memset(start() - kPattern, kByte, kPattern + (n + gap) * sizeof(T));
  }
  Guarded(size_t n, size_t gap, const std::vector<T>& values) : Guarded(n, gap) {
    for (size_t i = 0; i < n; ++i) data_[i] = values[i];
  }
  ~Guarded() { spare().emplace_back(size_, memory_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return n_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

  bool intact() const {
    for (const std::byte* p = start() - kPattern; p < start(); ++p) {
      if (*p != std::byte{kByte}) return false;
    }
    for (const std::byte* p = start() + n_ * sizeof(T); p < memory_ + body_; ++p) {
      if (*p != std::byte{kByte}) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kPattern = 64;
  static constexpr unsigned char kByte = 0xAB;

  // Mapped memory is kept for the next array of its size: mapping is slow.
  static std::vector<std::pair<size_t, std::byte*>>& spare() {
    static std::vector<std::pair<size_t, std::byte*>> s;
    return s;
  }
  static std::byte* take(size_t size) {
    auto& s = spare();
    for (size_t i = 0; i < s.size(); ++i) {
      if (s[i].first != size) continue;
      std::byte* p = s[i].second;
      s[i] = s.back();
      s.pop_back();
      return p;
    }
    return nullptr;
  }
  std::byte* start() const { return reinterpret_cast<std::byte*>(data_); }

  size_t n_;
  size_t body_;
  size_t size_;
  std::byte* memory_;
  T* data_;
};

/// Numbers that are the same on every machine [Marsaglia 2003, "Xorshift RNGs"].
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  size_t below(size_t n) { return static_cast<size_t>((next() >> 11) % n); }
  /// In [-1, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }

 private:
  uint64_t state_;
};

/// A value of T: for floating types in (-4, 4), with `special` now and then NaN, infinity or a zero
/// of either sign; for integers small, with `special` now and then an extreme; 0 or any other byte
/// for bool (as uint8_t).
template <class T>
T sample(Random& random, bool special) {
  const size_t pick = random.below(16);
  if constexpr (std::is_floating_point_v<T>) {
    constexpr T kInf = std::numeric_limits<T>::infinity();
    constexpr T kSpecial[] = {0, T(-0.0), kInf, -kInf, std::numeric_limits<T>::quiet_NaN()};
    if (special && pick < 5) return kSpecial[pick];
    return static_cast<T>(random.unit() * 4);
  } else {
    using Limits = std::numeric_limits<T>;
    constexpr T kSpecial[] = {Limits::min(), Limits::max(), static_cast<T>(Limits::min() + 1)};
    if (special && pick < 3) return kSpecial[pick];
    return static_cast<T>(static_cast<int>(random.below(11)) - 5);
  }
}

template <class T>
std::vector<T> samples(size_t n, uint64_t seed, bool special = false) {
  Random random(seed);
  std::vector<T> v(n);
  for (T& x : v) x = sample<T>(random, special);
  return v;
}

/// Equal, or both NaN; zeros of either sign are equal.
template <class T>
bool same(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  }
  return a == b;
}

}  // namespace ebb::kernels::testing
