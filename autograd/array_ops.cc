// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/array_ops.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/convert.h"
#include "ebb/ops/kernels/copy.h"
#include "ebb/ops/kernels/strided.h"

namespace ebb {

Array contiguous(const Array& a) { return a.is_contiguous() ? a : copy(a); }

Array copy(const Array& a) {
  Array out = Array::empty_like(a);
  copy_into(out, a);
  return out;
}

Array cast(const Array& a, DType dtype) {
  if (a.dtype() == dtype) return a;
  const Array from = contiguous(a);
  Array out = Array::empty(dtype, a.shape());
  kernels::convert(from.dtype(), from.raw(), dtype, out.raw(), static_cast<size_t>(from.numel()));
  return out;
}

void copy_into(const Array& to, const Array& from) {
  const size_t item = size_of(to.dtype());
  if (to.is_contiguous() && from.is_contiguous()) {
    if (to.numel() != 0) std::memmove(to.raw(), from.raw(), static_cast<size_t>(to.numel()) * item);
    return;
  }
  kernels::copy_strided(item, static_cast<size_t>(to.rank()), to.dims(), from.raw(), from.strides(),
                        to.raw(), to.strides());
}

namespace {

// Calls f(to, from, stride of from, n) for rows of `to`, which is contiguous.
template <class F>
void for_rows(const Array& to, const Array& from, F&& f) {
  visit_differentiable(to.dtype(), [&](auto t) {
    using T = decltype(t);
    T* out = to.mutable_data<T>();
    const T* in = from.data<T>();
    kernels::for_each_row<2>(static_cast<size_t>(to.rank()), to.dims(),
                             {to.strides(), from.strides()},
                             [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                               f(out + at[0], in + at[1], stride[1], n);
                             });
  });
}

}  // namespace

void add_into(const Array& to, const Array& from) {
  const kernels::BinaryFn add = kernels::binary_fn(to.dtype(), kernels::Binary::kAdd);
  if (from.is_contiguous()) {
    add(to.raw(), 1, from.raw(), 1, to.raw(), static_cast<size_t>(to.numel()));
    return;
  }
  for_rows(to, from, [add](auto* out, const auto* in, ptrdiff_t stride, size_t n) {
    add(out, 1, in, stride, out, n);
  });
}

void axpy_into(const Array& to, double factor, const Array& from) {
  for_rows(to, from, [factor](auto* out, const auto* in, ptrdiff_t stride, size_t n) {
    using T = std::remove_pointer_t<decltype(out)>;
    const T f = static_cast<T>(factor);
    if (stride == 1) {
      kernels::axpy(f, in, out, n);
      return;
    }
    for (size_t i = 0; i < n; ++i) out[i] += f * in[static_cast<ptrdiff_t>(i) * stride];
  });
}

Array scaled(const Array& a, double factor) {
  const Array from = contiguous(a);
  Array out = Array::empty_like(from);
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::scale(static_cast<T>(factor), from.data<T>(), out.mutable_data<T>(),
                   static_cast<size_t>(from.numel()));
  });
  return out;
}

Array transposed(const Array& a) {
  const int64_t strides[] = {a.stride(1), a.stride(0)};
  return a.view({a.size(1), a.size(0)}, strides, 0);
}

double squared_norm(const Array& a) {
  const Array x = contiguous(a);
  double total = 0;
  visit_differentiable(a.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* p = x.data<T>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      total += static_cast<double>(p[i]) * static_cast<double>(p[i]);
    }
  });
  return total;
}

namespace detail {

void check_finite(const Array& a, const char* op, const char* what, Where where) {
  if (!a.defined() || !is_differentiable(a.dtype())) return;
  const Array x = contiguous(a);
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* p = x.data<T>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      if (std::isfinite(p[i])) continue;
      throw NumericError(absl::StrCat(op, ": ", what, " ", x.shape().str(), " has ",
                                      std::isnan(p[i]) ? "NaN" : "infinity", " at element ", i,
                                      ", called at ", where.file_name(), ":", where.line()));
    }
  });
}

}  // namespace detail
}  // namespace ebb
