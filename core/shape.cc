// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/shape.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ebb {

std::string Shape::str() const {
  return absl::StrCat("[", absl::StrJoin(begin(), end(), ","), "]");
}

void Shape::throw_rank(size_t rank) {
  throw ShapeError(absl::StrCat("shape: rank ", rank, " is above the largest, ", kMaxRank));
}

namespace {

[[noreturn, gnu::cold]] void throw_size(const Shape& shape) {
  for (int64_t d : shape) {
    if (d < 0) throw ShapeError(absl::StrCat("shape: ", shape.str(), " has a negative size"));
  }
  throw MemoryError(absl::StrCat("shape: ", shape.str(), " has too many elements"));
}

}  // namespace

int64_t checked_numel(const Shape& shape, size_t item_size) {
  // Half the address space, so that sizes in bytes and pointer differences stay representable.
  constexpr int64_t kMostBytes = std::numeric_limits<int64_t>::max() / 2;
  auto n = static_cast<int64_t>(item_size);
  bool fits = true;
  bool zero = false;
  for (int64_t d : shape) {
    fits &= d >= 0 && !__builtin_mul_overflow(n, d, &n) && n <= kMostBytes;
    zero |= d == 0;
  }
  if (fits) [[likely]]
    return shape.numel();
  // A size of 0 makes up for any others but a negative one.
  if (!zero || *std::min_element(shape.begin(), shape.end()) < 0) throw_size(shape);
  return 0;
}

bool broadcast_shapes(const Shape& a, const Shape& b, Shape* out) {
  const int rank = std::max(a.rank(), b.rank());
  int64_t dims[kMaxRank];
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank());
    const int ib = i - (rank - b.rank());
    const int64_t da = ia < 0 ? 1 : a[ia];
    const int64_t db = ib < 0 ? 1 : b[ib];
    if (da != db && da != 1 && db != 1) return false;
    dims[i] = da == 1 ? db : da;
  }
  *out = Shape(dims, static_cast<size_t>(rank));
  return true;
}

int normalize_axis(int64_t axis, int rank, const char* op) {
  const int64_t range = std::max(rank, 1);
  if (axis < -range || axis >= range) {
    throw IndexError(absl::StrCat(op, ": axis ", axis, " is outside [", -range, ", ", range, ")"));
  }
  return static_cast<int>(axis < 0 ? axis + range : axis);
}

uint32_t Axes::mask(int rank, const char* op) const {
  if (empty()) return (1u << rank) - 1;
  uint32_t mask = 0;
  for (int64_t axis : axes_) {
    const uint32_t bit = 1u << normalize_axis(axis, rank, op);
    if (mask & bit) throw ValueError(absl::StrCat(op, ": axis ", axis, " is named twice"));
    mask |= bit;
  }
  return rank == 0 ? 0 : mask;
}

}  // namespace ebb
