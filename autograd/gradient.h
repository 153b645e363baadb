// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "ebb/core/array.h"

namespace ebb {

/// Gradient of a matrix or table [n, ...] that is zero but for k rows: `rows[i]` belongs to row
/// `ids[i]`. A row may occur more than once; its entries add up.
struct RowSparse {
  Array ids;   ///< int64 [k], each in [0, n)
  Array rows;  ///< [k, ...]
};

/// Gradient of a matrix [m, n] that is zero but for k columns: column j of `cols` belongs to
/// column `ids[j]`.
struct ColSparse {
  Array ids;   ///< int64 [k], each in [0, n)
  Array cols;  ///< [m, k]
};

/// Gradient of a matrix [m, n] that is a product u' v: what a weight used on one vector gets.
struct Outer {
  Array u;  ///< [m], or [r, m] for a sum of r products
  Array v;  ///< [n], or [r, n]
};

/// The gradient that flows to a leaf: a sum of a dense array and structured parts, which cost what
/// is active rather than the size of the leaf. Dense where that is cheaper: a sum of products
/// whose vectors would take more room than the matrix is multiplied out.
class Gradient {
 public:
  Gradient() = default;
  Gradient(Array dense) : dense_(std::move(dense)) {}  // NOLINT(google-explicit-constructor)
  Gradient(const Meta& meta, RowSparse part);
  Gradient(const Meta& meta, ColSparse part);
  Gradient(const Meta& meta, Outer part);
  Gradient(const Gradient& o);
  Gradient& operator=(const Gradient& o);
  Gradient(Gradient&& o) noexcept
      : dense_(std::move(o.dense_)), parts_(std::exchange(o.parts_, nullptr)) {}
  Gradient& operator=(Gradient&& o) noexcept {
    std::swap(dense_, o.dense_);
    std::swap(parts_, o.parts_);
    return *this;
  }
  ~Gradient() {
    if (parts_ != nullptr) drop_parts();
  }

  bool defined() const { return dense_.defined() || parts_ != nullptr; }
  bool is_dense() const { return parts_ == nullptr; }
  Meta meta() const;

  /// Adds `o`, which has the same shape and type. Takes over o's buffers where nobody else has
  /// them.
  void add(Gradient&& o);

  /// The whole as one array; undefined stays undefined. The structured parts are gone afterwards,
  /// so that asking twice costs once.
  const Array& dense() {
    if (parts_ != nullptr) multiply_out();
    return dense_;
  }

  /// The same, handed over.
  Array take_dense() && {
    dense();
    return std::move(dense_);
  }

  /// The transpose of a matrix gradient.
  Gradient t() const;
  /// All of it times `factor`.
  Gradient scaled(double factor) const;

  /// Sum of the squares of all elements, as of the dense gradient: by Gram matrices of the factors
  /// where it is a sum of products, of the combined rows where it is row- or column-sparse.
  double squared_norm();

  // The parts, for an optimiser that can apply each kind by itself.
  const Array& dense_part() const { return dense_; }
  Span<const RowSparse> row_parts() const;
  Span<const ColSparse> col_parts() const;
  Span<const Outer> outer_parts() const;

  /// Joins the row-sparse parts to one with each row once, ids ascending; likewise columns.
  void coalesce();
  /// The outer parts stacked to one: u [r, m], v [r, n]. There must be one at least.
  Outer stacked_outer() const;

 private:
  struct Parts;
  Parts& parts(const Meta& meta);
  void drop_parts();
  void multiply_out();
  void own_dense();
  void collapse_outer();

  Array dense_;
  Parts* parts_ = nullptr;  // in a pool block
};

}  // namespace ebb
