// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"

// What the tests of ops that move elements share: plain references by position.
namespace ebb::testing {

using Position = std::vector<int64_t>;

inline double element(const RefArray& x, const Position& at) {
  int64_t k = 0;
  for (int i = 0; i < x.shape.rank(); ++i) k = k * x.shape[i] + at[static_cast<size_t>(i)];
  return x.v[static_cast<size_t>(k)];
}
inline double& element(RefArray& x, const Position& at) {
  int64_t k = 0;
  for (int i = 0; i < x.shape.rank(); ++i) k = k * x.shape[i] + at[static_cast<size_t>(i)];
  return x.v[static_cast<size_t>(k)];
}

/// Calls f(position) for every element of `shape` in row-major order.
template <class F>
void for_each_position(const Shape& shape, F&& f) {
  Position at(static_cast<size_t>(shape.rank()), 0);
  for (int64_t k = 0; k < shape.numel(); ++k) {
    f(std::as_const(at));
    for (size_t i = at.size(); i-- > 0;) {
      if (++at[i] < shape[static_cast<int>(i)]) break;
      at[i] = 0;
    }
  }
}

/// The array whose element at a position is f(position).
template <class F>
RefArray ref_of(const Shape& shape, F&& f) {
  RefArray y(shape);
  for_each_position(shape, [&](const Position& at) { element(y, at) = f(at); });
  return y;
}

inline int64_t to_int(double v) { return static_cast<int64_t>(v); }

/// A negative index or axis, counted from the end.
inline int64_t wrapped(int64_t i, int64_t n) { return i < 0 ? i + n : i; }

inline Sample sample(std::string name, std::vector<Tensor> inputs, Call call, Reference reference) {
  Sample s;
  s.name = std::move(name);
  s.inputs = std::move(inputs);
  s.call = std::move(call);
  s.reference = std::move(reference);
  return s;
}

/// 0, 1, 2, ... as float64.
inline Tensor counting(const Shape& shape) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>(i);
  return tensor(shape, v);
}

/// `call` moves the elements of its argument in every type as it does in float64; bool sees whether
/// they are odd.
template <class F>
void expect_same_in_all_types(const Tensor& x, F&& call) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto type = static_cast<DType>(i);
    Tensor in = x;
    if (type == kBool) {
      std::vector<double> v = x.to_vector<double>();
      for (double& e : v) e = static_cast<double>(to_int(e) % 2);
      in = tensor(x.shape(), v);
    }
    const Tensor got = call(cast(in, type));
    EXPECT_EQ(got.dtype(), type);
    const Tensor want = call(in);
    EXPECT_EQ(got.shape(), want.shape()) << name_of(type);
    EXPECT_EQ(cast(got, kFloat64).to_vector<double>(), want.to_vector<double>()) << name_of(type);
  }
}

inline bool is_view_of(const Tensor& y, const Tensor& x) {
  return y.value().shares_storage(x.value());
}

/// What has been added up at a leaf, with its structure.
inline Gradient& gradient_at(const Tensor& leaf) {
  return static_cast<ebb::detail::Leaf*>(leaf.edge().node())->grad;
}

}  // namespace ebb::testing
