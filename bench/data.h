// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

// Numbers for weights and samples that are the same in every program: pure functions of a name and
// a position. C++17, and free of any library, as all that the peers' programs share with Ebb's.
namespace bench {

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes all bits.
inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// The random sequence of a name.
class Stream {
 public:
  explicit Stream(std::string_view name) {
    for (const char c : name) key_ = mix(key_ ^ static_cast<unsigned char>(c));
  }
  /// In [0, 1).
  double operator[](int64_t i) const {
    return static_cast<double>(mix(key_ ^ mix(static_cast<uint64_t>(i))) >> 11) * 0x1p-53;
  }
  /// In [0, n).
  int64_t index(int64_t i, int64_t n) const {
    return static_cast<int64_t>((*this)[i] * static_cast<double>(n));
  }

 private:
  uint64_t key_ = 0;
};

/// n numbers, evenly spread over [low, high).
inline std::vector<float> uniform(std::string_view name, int64_t n, double low, double high) {
  const Stream stream(name);
  std::vector<float> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    out[static_cast<size_t>(i)] = static_cast<float>(low + (high - low) * stream[i]);
  }
  return out;
}

/// Initial values of a layer: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
inline std::vector<float> initial(std::string_view name, int64_t n, int64_t fan_in) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return uniform(name, n, -bound, bound);
}

}  // namespace bench
