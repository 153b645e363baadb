// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/pool_util.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"

namespace ebb::ops {

namespace {

constexpr int64_t kLargest = int64_t{1} << 30;

std::string start_of(const OpDoc& doc, const PoolAttrs& a, const Shape& x) {
  return absl::StrCat(doc.name, ": x is ", x.str(), ", ", describe(a), "; ");
}

// The number of windows along an axis; 0 or less where there is none.
int64_t windows(const PoolAttrs& a, int i, int64_t n) {
  const int64_t room = n + 2 * a.pad[i] - a.dilation[i] * (a.kernel[i] - 1) - 1;
  if (room < 0 && (!a.ceil_mode || room <= -a.stride[i])) return 0;
  int64_t count = (room + (a.ceil_mode ? a.stride[i] - 1 : 0)) / a.stride[i] + 1;
  if (a.ceil_mode && (count - 1) * a.stride[i] >= n + a.pad[i]) --count;
  return count;
}

// Only with less than `dilation` elements can the elements of a window all be padding.
bool sees_nothing(const PoolAttrs& a, int i, int64_t n) {
  if (n >= a.dilation[i]) return false;
  const int64_t count = windows(a, i, n);
  for (int64_t o = 0; o < count && o * a.stride[i] < a.pad[i]; ++o) {
    const int64_t start = o * a.stride[i] - a.pad[i];
    const int64_t first = (-start + a.dilation[i] - 1) / a.dilation[i];
    if (first >= a.kernel[i] || start + first * a.dilation[i] >= n) return true;
  }
  return false;
}

Shape flat_shape(const Shape& s, int dims) {
  Shape flat(s.data(), static_cast<size_t>(s.rank() - dims));
  int64_t n = 1;
  for (int i = s.rank() - dims; i < s.rank(); ++i) n *= s[i];
  flat.push_back(n);
  return flat;
}

}  // namespace

std::string describe(const AdaptivePoolAttrs& a, int dims) {
  return absl::StrCat("output size ", list_of(a.out, dims));
}

std::string list_of(const int64_t (&v)[3], int dims) {
  return Shape(v + 3 - dims, static_cast<size_t>(dims)).str();
}

std::string describe(const PoolAttrs& a) {
  return absl::StrCat("kernel ", list_of(a.kernel, a.dims), ", stride ", list_of(a.stride, a.dims),
                      ", padding ", list_of(a.pad, a.dims), ", dilation ",
                      list_of(a.dilation, a.dims), a.ceil_mode ? ", ceil_mode" : "");
}

void check_pooled(const OpDoc& doc, int dims, Span<const Meta> in, const char* name) {
  require_floating(doc, in.first(1));
  const Shape& s = in[0].shape;
  if (s.rank() != dims + 1 && s.rank() != dims + 2) {
    throw ShapeError(absl::StrCat(doc.name, ": ", name, " is ", s.str(), "; it must have rank ",
                                  dims + 1, ", or ", dims + 2, " with a batch"));
  }
  for (int i = s.rank() - dims - 1; i < s.rank(); ++i) {
    if (s[i] >= 1 && s[i] <= kLargest) continue;
    throw ShapeError(absl::StrCat(doc.name, ": ", name, " is ", s.str(), "; size(", i - s.rank(),
                                  ")=", s[i], " must be in [1, ", kLargest, "]"));
  }
}

void check_windows(const OpDoc& doc, const PoolAttrs& a, const Shape& x) {
  const auto check = [&](const char* what, int64_t v, int64_t least, int64_t most,
                         const char* why) {
    if (v >= least && v <= most) return;
    throw ValueError(absl::StrCat(start_of(doc, a, x), "the ", what, " is ", v, "; it must be in [",
                                  least, ", ", most, "]", why));
  };
  for (int i = 3 - a.dims; i < 3; ++i) {
    check("kernel", a.kernel[i], 1, kLargest, "");
    check("stride", a.stride[i], 1, kLargest, "");
    check("dilation", a.dilation[i], 1, kLargest, "");
    check("padding", a.pad[i], 0, (a.dilation[i] * (a.kernel[i] - 1) + 1) / 2,
          ", at most half of a window");
  }
}

Shape pooled_shape(const OpDoc& doc, const PoolAttrs& a, const Shape& x) {
  check_windows(doc, a, x);
  Shape out = x;
  for (int i = 3 - a.dims; i < 3; ++i) {
    const int axis = x.rank() - 3 + i;
    out[axis] = windows(a, i, x[axis]);
    if (out[axis] > 0) continue;
    throw ShapeError(absl::StrCat(start_of(doc, a, x), "along axis ", i - 3, " a window spans ",
                                  a.dilation[i] * (a.kernel[i] - 1) + 1, " of ", x[axis], " + ",
                                  2 * a.pad[i], " elements"));
  }
  for (int i = 3 - a.dims; i < 3; ++i) {
    if (!sees_nothing(a, i, x[x.rank() - 3 + i])) continue;
    throw ValueError(absl::StrCat(start_of(doc, a, x), "along axis ", i - 3,
                                  " there is a window that sees nothing but padding"));
  }
  return out;
}

Shape adaptive_shape(const OpDoc& doc, int dims, const int64_t (&sizes)[3], const Meta& x) {
  Shape out = x.shape;
  for (int i = 3 - dims; i < 3; ++i) {
    const int axis = out.rank() - 3 + i;
    if (sizes[i] > 0) out[axis] = sizes[i];
    if (sizes[i] >= 0 && sizes[i] <= kLargest) continue;
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.shape.str(), ", the output size is ",
                                  list_of(sizes, dims), "; each must be in [0, ", kLargest, "]"));
  }
  check_addressable(doc, x.shape, out, x.dtype);
  return out;
}

Shape with_sizes(const Shape& x, int dims, const int64_t (&sizes)[3]) {
  Shape s = x;
  for (int i = 3 - dims; i < 3; ++i) s[x.rank() - 3 + i] = sizes[i];
  return s;
}

void check_addressable(const OpDoc& doc, const Shape& x, const Shape& result, DType dtype) {
  int64_t bytes = static_cast<int64_t>(size_of(dtype));
  bool fits = true;
  for (const int64_t n : result) fits = fits && !__builtin_mul_overflow(bytes, n, &bytes);
  if (fits && bytes <= int64_t{1} << 47) return;
  throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), "; the result would be ",
                                result.str(), ", more than can be addressed"));
}

kernels::PoolShape kernel_shape(int dims, const Shape& x, const Shape& y) {
  kernels::PoolShape s{};
  s.planes = 1;
  for (int i = 0; i < x.rank() - dims; ++i) s.planes *= x[i];
  for (int i = 0; i < 3; ++i) {
    const bool there = i >= 3 - dims;
    s.in[i] = there ? x[x.rank() - 3 + i] : 1;
    s.out[i] = there ? y[y.rank() - 3 + i] : 1;
  }
  return s;
}

kernels::PoolShape kernel_shape(const PoolAttrs& a, const Shape& x, const Shape& y) {
  kernels::PoolShape s = kernel_shape(a.dims, x, y);
  for (int i = 0; i < 3; ++i) {
    s.kernel[i] = a.kernel[i];
    s.stride[i] = a.stride[i];
    s.pad[i] = a.pad[i];
    s.dilation[i] = a.dilation[i];
  }
  return s;
}

Tensor gather_planes(const Tensor& x, const Tensor& indices, int dims) {
  const Tensor flat = reshape(x, flat_shape(x.shape(), dims));
  const Tensor at = reshape(indices, flat_shape(indices.shape(), dims));
  return reshape(gather(flat, -1, at), indices.shape());
}

Tensor scatter_planes(const Tensor& g, const Tensor& indices, int dims, const Shape& shape) {
  const Tensor flat = reshape(g, flat_shape(g.shape(), dims));
  const Tensor at = reshape(indices, flat_shape(indices.shape(), dims));
  const Tensor none = zeros(flat_shape(shape, dims), {.dtype = g.dtype()});
  return reshape(scatter_add(none, -1, at, flat), shape);
}

}  // namespace ebb::ops
