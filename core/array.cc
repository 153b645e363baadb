// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/array.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ebb/core/half.h"

namespace ebb {

using detail::ArrayRep;
using detail::Block;
using detail::BlockKind;
using detail::data_offset;
using detail::header_bytes;

namespace {

constexpr int64_t kMostBytes = int64_t{1} << 40;  // above, sizes are looked at closely

ArrayRep* new_rep(size_t bytes, DType dtype, int rank) {
  auto* r = static_cast<ArrayRep*>(detail::allocate(bytes));
  r->kind = BlockKind::kArray;
  r->tag0 = static_cast<uint8_t>(dtype);
  r->tag1 = static_cast<uint8_t>(rank);
  r->tag2 = 1;
  r->root = r;
  new (&r->version) std::atomic<uint32_t>(0);
  return r;
}

void set_row_major(ArrayRep* r) {
  int64_t stride = 1;
  int64_t* strides = r->strides();
  const int64_t* dims = r->dims();
  for (int i = r->rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= dims[i];
  }
}

void check_fits(DType dtype, double value) {
  const double most = dtype == kUInt8 ? 255 : dtype == kInt32 ? 0x1p31 - 1 : 0x1p63;
  const double least = dtype == kUInt8 ? -255 : dtype == kInt32 ? -0x1p31 : -0x1p63;
  if (value >= least && value <= most && value != 0x1p63) return;
  throw ValueError(absl::StrCat(name_of(dtype), " does not hold the number ", value));
}

bool row_major(const ArrayRep* r) {
  if (r->numel <= 1) return true;
  int64_t stride = 1;
  for (int i = r->rank() - 1; i >= 0; --i) {
    if (r->dims()[i] != 1 && r->strides()[i] != stride) return false;
    stride *= r->dims()[i];
  }
  return true;
}

int64_t integer_element(const ArrayRep* r, int64_t offset) {
  const std::byte* p = r->data + offset * static_cast<int64_t>(size_of(r->dtype()));
  int64_t v = 0;
  visit_arithmetic(r->dtype(), [&](auto t) {
    v = static_cast<int64_t>(*reinterpret_cast<const decltype(t)*>(p));
  });
  return v;
}

double element(const ArrayRep* r, int64_t offset) {
  const std::byte* p = r->data + offset * static_cast<int64_t>(size_of(r->dtype()));
  double v = 0;
  if (visit_arithmetic(r->dtype(), [&](auto t) {
        v = static_cast<double>(*reinterpret_cast<const decltype(t)*>(p));
      })) {
    return v;
  }
  return r->dtype() == DType::kFloat16 ? to_float(*reinterpret_cast<const float16*>(p))
                                       : to_float(*reinterpret_cast<const bfloat16*>(p));
}

}  // namespace

std::string Meta::str() const { return absl::StrCat(name_of(dtype), shape.str()); }

Array Array::empty(DType dtype, const Shape& shape) {
  const int rank = shape.rank();
  const size_t item = size_of(dtype);
  int64_t sizes[2 * kMaxRank];
  int64_t numel = 1;
  bool fits = true;
  for (int i = rank - 1; i >= 0; --i) {
    sizes[i] = shape[i];
    sizes[rank + i] = numel;
    fits = fits && shape[i] >= 0 && !__builtin_mul_overflow(numel, shape[i], &numel);
  }
  if (!fits || numel > kMostBytes / static_cast<int64_t>(item)) [[unlikely]]
    numel = checked_numel(shape, item);
  const size_t at = data_offset(rank);
  detail::Block* const block = detail::allocate(at + static_cast<size_t>(numel) * item);
  return adopt(detail::make_root(block, static_cast<std::ptrdiff_t>(at),
                                 detail::row_major_tags(dtype, rank), numel, sizes));
}

Array Array::empty_like(const Array& o) {
  const ArrayRep* from = o.rep_;
  if (from->contiguous() && from->data != nullptr) [[likely]]
    return adopt(detail::new_like(from));
  const int rank = from->rank();
  const size_t at = data_offset(rank);
  ArrayRep* r =
      new_rep(at + static_cast<size_t>(from->numel) * size_of(from->dtype()), from->dtype(), rank);
  r->data = reinterpret_cast<std::byte*>(r) + at;
  r->numel = from->numel;
  std::copy_n(from->dims(), rank, r->dims());
  set_row_major(r);
  return adopt(r);
}

Array Array::zeros(DType dtype, const Shape& shape) {
  Array a = empty(dtype, shape);
  std::memset(a.raw(), 0, static_cast<size_t>(a.numel()) * size_of(dtype));
  return a;
}

Array Array::full(DType dtype, const Shape& shape, double value) {
  if (is_integral(dtype) && dtype != kBool) check_fits(dtype, value);
  Array a = empty(dtype, shape);
  const auto n = static_cast<size_t>(a.numel());
  if (!visit_arithmetic(dtype, [&](auto t) {
        using T = decltype(t);
        // By way of int64, for a negative number does not convert to an unsigned type.
        const T v =
            dtype == kUInt8 ? static_cast<T>(static_cast<int64_t>(value)) : static_cast<T>(value);
        std::fill_n(a.mutable_data<T>(), n, v);
      })) {
    const auto bits = dtype == DType::kFloat16 ? to_float16(static_cast<float>(value)).bits
                                               : to_bfloat16(static_cast<float>(value)).bits;
    std::fill_n(reinterpret_cast<uint16_t*>(a.raw()), n, bits);
  }
  return a;
}

Array Array::shape_only(const Array& o) {
  const ArrayRep* from = o.rep_;
  ArrayRep* r = new_rep(header_bytes(from->rank()), from->dtype(), from->rank());
  r->data = nullptr;
  r->numel = from->numel;
  std::copy_n(from->dims(), from->rank(), r->dims());
  set_row_major(r);
  return adopt(r);
}

Array Array::view(const Shape& shape, const int64_t* strides, int64_t offset) const {
  const int rank = shape.rank();
  ArrayRep* r = new_rep(header_bytes(rank), dtype(), rank);
  r->data = rep_->data + offset * static_cast<int64_t>(size_of(dtype()));
  r->numel = shape.numel();
  std::copy_n(shape.data(), rank, r->dims());
  std::copy_n(strides, rank, r->strides());
  r->tag2 = row_major(r);
  r->root = root();
  detail::retain(r->root);
  return adopt(r);
}

Array Array::view_as(const Shape& shape) const {
  int64_t strides[kMaxRank];
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return view(shape, strides, 0);
}

double Array::at(Span<const int64_t> index) const {
  int64_t offset = 0;
  for (size_t i = 0; i < index.size(); ++i) offset += index[i] * stride(static_cast<int>(i));
  return element(rep_, offset);
}

void Array::check_one() const {
  if (numel() == 1) return;
  throw ShapeError(absl::StrCat("item: ", shape().str(), " has ", numel(), " elements, not one"));
}

double Array::item() const {
  check_one();
  return element(rep_, 0);
}

int64_t Array::integer_item() const {
  check_one();
  return is_integral(dtype()) ? integer_element(rep_, 0) : static_cast<int64_t>(element(rep_, 0));
}

void Array::throw_type(DType want) const {
  throw DTypeError(absl::StrCat("data: array is ", meta().str(), ", asked for ", name_of(want)));
}

namespace {

void print(const Array& a, int dim, int64_t offset, std::string* out) {
  constexpr int64_t kEdge = 3;  // elements shown at either end of a long dimension
  if (dim == a.rank()) {
    if (a.dtype() == DType::kBool) {
      *out += integer_element(a.rep(), offset) != 0 ? "true" : "false";
    } else if (is_integral(a.dtype())) {
      absl::StrAppend(out, integer_element(a.rep(), offset));
    } else {
      absl::StrAppendFormat(out, "%.*g", a.dtype() == DType::kFloat64 ? 8 : 5,
                            element(a.rep(), offset));
    }
    return;
  }
  *out += '[';
  const int64_t n = a.size(dim);
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) *out += ", ";
    if (n > 4 * kEdge && i == kEdge) {
      *out += "..., ";
      i = n - kEdge;
    }
    print(a, dim + 1, offset + i * a.stride(dim), out);
  }
  *out += ']';
}

}  // namespace

std::string to_string(const Array& a) {
  if (!a.defined()) return "undefined";
  std::string out;
  if (a.has_data()) {
    print(a, 0, 0, &out);
    out += ' ';
  }
  return out + a.meta().str();
}

}  // namespace ebb
