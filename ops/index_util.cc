// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/index_util.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/binary.h"

namespace ebb::ops {

void require_indices(const OpDoc& doc, const Meta& indices) {
  if (indices.dtype == kInt64) return;
  throw DTypeError(
      absl::StrCat(doc.name, ": indices are ", indices.str(), "; they must be int64 or int32"));
}

Tensor checked_indices(const Tensor& indices, const Tensor& x, int axis, const char* op) {
  if (indices.dtype() != kInt64 && indices.dtype() != kInt32) {
    throw DTypeError(absl::StrCat(op, ": indices are ", indices.value().meta().str(),
                                  "; they must be int64 or int32"));
  }
  const int64_t size = x.dim() == 0 ? 1 : x.value().size(axis);
  Array ids = contiguous(cast(indices.value(), kInt64));
  const int64_t* p = ids.data<int64_t>();
  bool negative = false;
  for (int64_t i = 0; i < ids.numel(); ++i) {
    if (p[i] < -size || p[i] >= size) {
      throw IndexError(absl::StrCat(op, ": index ", p[i], " is outside [", -size, ", ", size,
                                    ") of axis ", axis, " of x ", x.shape().str()));
    }
    negative |= p[i] < 0;
  }
  if (!negative) return Tensor(std::move(ids));
  Array shifted = Array::empty_like(ids);
  int64_t* out = shifted.mutable_data<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) out[i] = p[i] < 0 ? p[i] + size : p[i];
  return Tensor(std::move(shifted));
}

void append_mask_indices(const Tensor& mask, const Tensor& x, int axis, const char* op,
                         absl::InlinedVector<Tensor, kMaxRank>* out) {
  const Shape shape = mask.shape();
  for (int i = 0; i < shape.rank(); ++i) {
    if (axis + i < x.dim() && x.value().size(axis + i) == shape[i]) continue;
    throw IndexError(absl::StrCat(op, ": mask ", shape.str(), " does not fit axes ", axis, " to ",
                                  axis + shape.rank() - 1, " of x ", x.shape().str()));
  }
  const Array m = contiguous(mask.value());
  const auto* on = reinterpret_cast<const uint8_t*>(m.raw());
  int64_t count = 0;
  for (int64_t i = 0; i < m.numel(); ++i) count += on[i] != 0;
  int64_t* to[kMaxRank];
  for (int d = 0; d < shape.rank(); ++d) {
    const Array ids = Array::empty(kInt64, {count});
    to[d] = ids.mutable_data<int64_t>();
    out->push_back(Tensor(ids));
  }
  for (int64_t i = 0; i < m.numel(); ++i) {
    if (on[i] == 0) continue;
    int64_t at = i;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      *to[d]++ = at % shape[d];
      at /= shape[d];
    }
  }
}

Array lasting_ids(const Array& ids) { return ids.is_unique() ? ids : copy(ids); }

bool sparse_pays(int64_t count, int64_t axis_size, const Shape& shape) {
  constexpr int64_t kLarge = 1024;  // elements
  constexpr int64_t kFew = 8;       // at most this part of the axis
  return count <= axis_size / kFew && shape.numel() >= kLarge;
}

Cost cost_of_moving(const Meta& moved, Span<const Meta> indices) {
  const auto n = static_cast<double>(moved.shape.numel());
  Cost c{n, 2 * n * static_cast<double>(size_of(moved.dtype))};
  for (const Meta& m : indices) {
    c.bytes += static_cast<double>(m.shape.numel()) * static_cast<double>(size_of(m.dtype));
  }
  return c;
}

Picks picks_along(int axis, const Array& ids, const Array& packed, const Array& picked) {
  Picks p(ids.data<int64_t>(), ids.numel());
  for (int i = 0; i < picked.rank(); ++i) {
    if (i == axis) {
      p.scale = picked.stride(i);
      p.packed_step = packed.stride(i);
    } else {
      p.add_axis(picked.size(i), packed.stride(i), picked.stride(i));
    }
  }
  return p;
}

void read_picks(const Picks& p, const Array& picked, const Array& packed) {
  visit_item(size_of(picked.dtype()), [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(picked.raw());
    T* to = reinterpret_cast<T*>(packed.raw());
    for_each_pick(p, [=](ptrdiff_t i, ptrdiff_t si, ptrdiff_t j, ptrdiff_t sj, size_t n) {
      copy_row(from + j, sj, to + i, si, n);
    });
  });
}

void write_picks(const Picks& p, const Array& packed, const Array& picked) {
  visit_item(size_of(picked.dtype()), [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(packed.raw());
    T* to = reinterpret_cast<T*>(picked.raw());
    for_each_pick(p, [=](ptrdiff_t i, ptrdiff_t si, ptrdiff_t j, ptrdiff_t sj, size_t n) {
      copy_row(from + i, si, to + j, sj, n);
    });
  });
}

namespace {

// y[i sy] += alpha x[i sx] for i < n.
template <class T>
void add_row(T alpha, const T* x, ptrdiff_t sx, T* y, ptrdiff_t sy, size_t n) {
  if constexpr (is_differentiable(dtype_of<T>)) {
    if (n > 1 && sx == 1 && sy == 1) {
      if (alpha == 1) {
        kernels::add_into(x, y, n);
      } else {
        kernels::axpy(alpha, x, y, n);
      }
      return;
    }
  }
  for (; n > 0; --n, x += sx, y += sy) *y = static_cast<T>(*y + alpha * *x);
}

}  // namespace

void add_picks(const Picks& p, double alpha, const Array& packed, const Array& picked) {
  visit_arithmetic(picked.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* from = packed.data<T>();
    T* to = picked.mutable_data<T>();
    const T factor = static_cast<T>(alpha);
    for_each_pick(p, [=](ptrdiff_t i, ptrdiff_t si, ptrdiff_t j, ptrdiff_t sj, size_t n) {
      add_row(factor, from + i, si, to + j, sj, n);
    });
  });
}

Along::Along(int axis, const Shape& s, const Array& indices, const Array& packed,
             const Array& picked)
    : shape(s), ids(indices.data<int64_t>()), step(s.rank() == 0 ? 0 : picked.stride(axis)) {
  const auto stride = [](const Array& a, int i) { return a.size(i) == 1 ? 0 : a.stride(i); };
  for (int i = 0; i < shape.rank(); ++i) {
    index_strides[i] = stride(indices, i);
    packed_strides[i] = stride(packed, i);
    picked_strides[i] = i == axis ? 0 : stride(picked, i);
  }
}

void read_along(const Along& a, const Array& picked, const Array& packed) {
  visit_item(size_of(picked.dtype()), [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(picked.raw());
    T* to = reinterpret_cast<T*>(packed.raw());
    for_each_along(a, [=](ptrdiff_t, ptrdiff_t i, ptrdiff_t j) { to[i] = from[j]; });
  });
}

void write_along(const Along& a, const Array& packed, const Array& picked) {
  visit_item(size_of(picked.dtype()), [&](auto t) {
    using T = decltype(t);
    const T* from = reinterpret_cast<const T*>(packed.raw());
    T* to = reinterpret_cast<T*>(picked.raw());
    for_each_along(a, [=](ptrdiff_t, ptrdiff_t i, ptrdiff_t j) { to[j] = from[i]; });
  });
}

void add_along(const Along& a, const Array& packed, const Array& picked) {
  visit_arithmetic(picked.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* from = packed.data<T>();
    T* to = picked.mutable_data<T>();
    for_each_along(
        a, [=](ptrdiff_t, ptrdiff_t i, ptrdiff_t j) { to[j] = static_cast<T>(to[j] + from[i]); });
  });
}

}  // namespace ebb::ops
