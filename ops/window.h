// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

// Numbers for each of the last D axes of a tensor, for ops that slide a window over them.
namespace ebb {

/// One number for all D axes, or one for each: 3, or {3, 5}.
template <int D>
class PerAxis {
 public:
  constexpr PerAxis(int64_t all) {  // NOLINT(google-explicit-constructor)
    for (int64_t& v : v_) v = all;
  }
  template <std::convertible_to<int64_t>... I>
  requires(D > 1 && sizeof...(I) == D) constexpr PerAxis(I... i)
      : v_{static_cast<int64_t>(i)...} {}  // NOLINT(google-explicit-constructor)

  constexpr int64_t operator[](int i) const { return v_[i]; }
  constexpr int64_t& operator[](int i) { return v_[i]; }
  constexpr const int64_t* begin() const { return v_; }
  constexpr const int64_t* end() const { return v_ + D; }
  constexpr bool operator==(const PerAxis&) const = default;

 private:
  int64_t v_[D];
};

/// As much padding as keeps the size where the stride is 1; where it is odd, the larger half comes
/// after the end.
struct SamePadding {};
inline constexpr SamePadding kSame{};
/// No padding.
struct ValidPadding {};
inline constexpr ValidPadding kValid{};

/// Padding on both sides of each axis: a number, one for each axis, kSame or kValid.
template <int D>
class Padding : public PerAxis<D> {
 public:
  constexpr Padding(int64_t all) : PerAxis<D>(all) {}  // NOLINT(google-explicit-constructor)
  template <std::convertible_to<int64_t>... I>
  requires(D > 1 && sizeof...(I) == D) constexpr Padding(I... i) : PerAxis<D>(i...) {}  // NOLINT
  constexpr Padding(const PerAxis<D>& each) : PerAxis<D>(each) {}                       // NOLINT
  constexpr Padding(SamePadding) : PerAxis<D>(0), same_(true) {}                        // NOLINT
  constexpr Padding(ValidPadding) : PerAxis<D>(0) {}                                    // NOLINT

  constexpr bool is_same() const { return same_; }

 private:
  bool same_ = false;
};

}  // namespace ebb
