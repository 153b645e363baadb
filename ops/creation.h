// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "ebb/autograd/tensor.h"

// Tensors from nothing. All are constants; variable() and Parameter make what is learned.
namespace ebb {

struct TensorOptions {
  /// Element type; by default float32, or what suits the numbers given.
  std::optional<DType> dtype = std::nullopt;
};

/// A number as an argument that remembers what it was: integers make int64 tensors, floating
/// numbers float32, bool bool, unless a dtype is asked for.
class Number {
 public:
  template <std::floating_point T>
  constexpr Number(T v)  // NOLINT(google-explicit-constructor)
      : dtype_(kFloat32), floating_(static_cast<double>(v)) {}
  template <std::integral T>
  constexpr Number(T v)  // NOLINT(google-explicit-constructor)
      : dtype_(std::same_as<T, bool> ? kBool : kInt64), integer_(static_cast<int64_t>(v)) {}

  /// The type of a tensor made of it.
  DType dtype() const { return dtype_; }
  bool is_floating() const { return dtype_ == kFloat32; }
  template <class T>
  T as() const {
    return is_floating() ? static_cast<T>(floating_) : static_cast<T>(integer_);
  }

 private:
  DType dtype_;
  double floating_ = 0;
  int64_t integer_ = 0;
};

/// Every element `value`.
Tensor full(const Shape& shape, Number value, const TensorOptions& options = {},
            Where where = Where::current());
Tensor zeros(const Shape& shape, const TensorOptions& options = {});
Tensor ones(const Shape& shape, const TensorOptions& options = {});
/// Elements are not initialised.
Tensor empty(const Shape& shape, const TensorOptions& options = {});

/// Of the shape of x, and of its type unless another is asked for.
Tensor full_like(const Tensor& x, Number value, const TensorOptions& options = {});
Tensor zeros_like(const Tensor& x, const TensorOptions& options = {});
Tensor ones_like(const Tensor& x, const TensorOptions& options = {});
Tensor empty_like(const Tensor& x, const TensorOptions& options = {});

/// start, start + step, ... before end. Throws ValueError where step is 0 or leads away from end,
/// or a number is not finite; DTypeError for bool.
Tensor arange(Number start, Number end, Number step = 1, const TensorOptions& options = {},
              Where where = Where::current());
Tensor arange(Number start, Number end, const TensorOptions& options,
              Where where = Where::current());
/// 0, 1, ... before end.
Tensor arange(Number end, const TensorOptions& options = {}, Where where = Where::current());

/// `steps` numbers from start to end, both included, evenly spaced; start alone where steps is 1.
/// Throws ValueError where steps is negative, DTypeError for bool.
Tensor linspace(double start, double end, int64_t steps, const TensorOptions& options = {},
                Where where = Where::current());

/// The identity [n,n], or [n,m] with ones on its diagonal. Throws ShapeError on a negative size.
Tensor eye(int64_t n, const TensorOptions& options = {}, Where where = Where::current());
Tensor eye(int64_t n, int64_t m, const TensorOptions& options = {}, Where where = Where::current());

/// A number, or nested lists of them, as an argument of tensor().
class NestedList {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> NestedList(T v)
      : numbers_{Number(v)} {}  // NOLINT(google-explicit-constructor)
  /// Throws ShapeError where the lists of one level differ in length.
  NestedList(std::initializer_list<NestedList> list);  // NOLINT(google-explicit-constructor)

  const Shape& shape() const { return shape_; }
  /// In row-major order.
  const std::vector<Number>& numbers() const { return numbers_; }

 private:
  Shape shape_;
  std::vector<Number> numbers_;
};

/// A tensor of the numbers given: tensor(3.5) is a scalar, tensor({1, 2, 3}) a vector of int64,
/// tensor({{1., 2.}, {3., 4.}}) a matrix of float32. Throws ShapeError where lists of one level
/// differ in length.
Tensor tensor(const NestedList& values, const TensorOptions& options = {});

/// A copy of `values`, of their own type, as a vector or of the given shape. Throws ShapeError
/// where they do not fill it.
template <class T>
Tensor from_vector(const std::vector<T>& values) {
  return Tensor(Array::of<T>({static_cast<int64_t>(values.size())}, values));
}
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape) {
  return Tensor(Array::of<T>(shape, values));
}

}  // namespace ebb
