// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/types/span.h"
#include "ebb/core/error.h"

namespace ebb {

using absl::Span;

inline constexpr int kMaxRank = 8;

/// The sizes of an array along each dimension: at most 8, each >= 0. Rank 0 is a scalar.
/// Copies move only the dimensions in use, so that shapes are cheap to pass on the hot path.
class Shape {
 public:
  Shape() : rank_(0) {}
  Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), dims.size()) {}
  explicit Shape(Span<const int64_t> dims) : Shape(dims.data(), dims.size()) {}
  Shape(const int64_t* dims, size_t rank) : rank_(static_cast<uint8_t>(rank)) {
    if (rank > kMaxRank) throw_rank(rank);
    for (size_t i = 0; i < rank; ++i) dims_[i] = dims[i];
  }
  Shape(const Shape& o) : rank_(o.rank_) { copy(o); }
  Shape& operator=(const Shape& o) {
    rank_ = o.rank_;
    copy(o);
    return *this;
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t& operator[](int i) { return dims_[i]; }
  const int64_t* data() const { return dims_; }
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }
  bool empty() const { return rank_ == 0; }

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }

  /// Appends a dimension. Throws ShapeError beyond rank 8.
  void push_back(int64_t dim) {
    if (rank_ == kMaxRank) throw_rank(kMaxRank + 1);
    dims_[rank_++] = dim;
  }

  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if (dims_[i] != o.dims_[i]) return false;
    }
    return true;
  }
  bool operator!=(const Shape& o) const { return !(*this == o); }

  /// "[2,3,4]"; "[]" for a scalar.
  std::string str() const;

 private:
  void copy(const Shape& o) {
    for (int i = 0; i < o.rank_; ++i) dims_[i] = o.dims_[i];
  }
  [[noreturn]] static void throw_rank(size_t rank);

  int64_t dims_[kMaxRank];
  uint8_t rank_;
};

/// The element count of `shape`. Throws ShapeError on a negative size and MemoryError where the
/// count, or its size in bytes, overflows.
int64_t checked_numel(const Shape& shape, size_t item_size);

/// The shape that `a` and `b` broadcast to by NumPy's rule: sizes are matched from the last
/// dimension; each pair is equal or contains a 1. Returns false where they do not fit.
bool broadcast_shapes(const Shape& a, const Shape& b, Shape* out);

/// `axis` in [-rank, rank) to [0, rank); a scalar takes -1 and 0 as PyTorch does.
/// Throws IndexError: "sum: axis 3 is outside [-2, 2)".
int normalize_axis(int64_t axis, int rank, const char* op);

/// A list of axes as an argument: `sum(x, 0)`, `sum(x, {0, 2})`; empty means all of them.
class Axes {
 public:
  Axes() = default;
  Axes(int axis) : axes_{axis} {}      // NOLINT(google-explicit-constructor)
  Axes(int64_t axis) : axes_{axis} {}  // NOLINT(google-explicit-constructor)
  Axes(std::initializer_list<int64_t> axes) : axes_(axes) {}
  explicit Axes(Span<const int64_t> axes) : axes_(axes) {}

  bool empty() const { return axes_.empty(); }
  int size() const { return axes_.rank(); }
  int64_t operator[](int i) const { return axes_[i]; }

  /// Bit i is set where axis i is named; all of them where none is. Throws IndexError outside the
  /// range, ValueError where an axis is named twice.
  uint32_t mask(int rank, const char* op) const;

 private:
  Shape axes_;
};

}  // namespace ebb
