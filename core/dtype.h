// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ebb {

/// Element type of an array. float32 is the default; float64 serves checks; the integers and bool
/// serve indices and masks; float16 and bfloat16 are storage types, converted before arithmetic.
enum class DType : uint8_t {
  kFloat32,
  kFloat64,
  kInt64,
  kInt32,
  kUInt8,
  kBool,
  kFloat16,
  kBFloat16,
};
inline constexpr int kDTypeCount = 8;

inline constexpr DType kFloat32 = DType::kFloat32;
inline constexpr DType kFloat64 = DType::kFloat64;
inline constexpr DType kInt64 = DType::kInt64;
inline constexpr DType kInt32 = DType::kInt32;
inline constexpr DType kUInt8 = DType::kUInt8;
inline constexpr DType kBool = DType::kBool;
inline constexpr DType kFloat16 = DType::kFloat16;
inline constexpr DType kBFloat16 = DType::kBFloat16;

/// IEEE 754 binary16, storage only.
struct float16 {
  uint16_t bits;
};

/// The upper half of an IEEE 754 binary32, storage only.
struct bfloat16 {
  uint16_t bits;
};

/// Bytes per element.
constexpr size_t size_of(DType t) {
  constexpr uint8_t kSize[kDTypeCount] = {4, 8, 8, 4, 1, 1, 2, 2};
  return kSize[static_cast<int>(t)];
}

/// "float32", "int64", ... : the names NumPy and PyTorch use.
constexpr const char* name_of(DType t) {
  constexpr const char* kName[kDTypeCount] = {"float32", "float64", "int64",   "int32",
                                              "uint8",   "bool",    "float16", "bfloat16"};
  return kName[static_cast<int>(t)];
}

/// True for the types that carry gradients.
constexpr bool is_differentiable(DType t) { return t <= DType::kFloat64; }
constexpr bool is_floating(DType t) { return is_differentiable(t) || t >= DType::kFloat16; }
constexpr bool is_integral(DType t) { return t >= DType::kInt64 && t <= DType::kBool; }

/// The DType of a C++ type; undefined for types that are none.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kInt64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kUInt8;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::kBool;
};
template <>
struct DTypeOf<float16> {
  static constexpr DType value = DType::kFloat16;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::kBFloat16;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

/// Calls `f(T{})` with the C++ type of float32 or float64; false for any other type.
template <class F>
constexpr bool visit_differentiable(DType t, F&& f) {
  switch (t) {
    case DType::kFloat32:
      f(float{});
      return true;
    case DType::kFloat64:
      f(double{});
      return true;
    default:
      return false;
  }
}

/// Calls `f(T{})` with the C++ type of an arithmetic dtype (bool as `bool`); false for the storage
/// types float16 and bfloat16.
template <class F>
constexpr bool visit_arithmetic(DType t, F&& f) {
  switch (t) {
    case DType::kInt64:
      f(int64_t{});
      return true;
    case DType::kInt32:
      f(int32_t{});
      return true;
    case DType::kUInt8:
      f(uint8_t{});
      return true;
    case DType::kBool:
      f(bool{});
      return true;
    default:
      return visit_differentiable(t, f);
  }
}

}  // namespace ebb
