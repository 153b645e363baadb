// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/shape_view.h"

// Loops over indexed elements, shared by the ops that index. "Picked" is the array that indices
// point into, "packed" the one in which the elements that they name lie side by side. Not for
// users.
namespace ebb::ops {

/// Throws DTypeError unless input i of an op, its index tensor, is int64.
void require_indices(const OpDoc& doc, const Meta& indices);

/// `indices` (int64 or int32) as contiguous int64 in [0, x.size(axis)), negative ones brought
/// there. Throws IndexError, DTypeError. `axis` is normalised; a scalar counts as having size 1.
Tensor checked_indices(const Tensor& indices, const Tensor& x, int axis, const char* op);

/// A bool mask on the axes [axis, axis + mask.dim()) of x as index tensors, one an axis, appended
/// to `out`. Throws IndexError where the sizes differ.
void append_mask_indices(const Tensor& mask, const Tensor& x, int axis, const char* op,
                         absl::InlinedVector<Tensor, kMaxRank>* out);

/// Indices that a gradient may keep beyond the playback: a copy where the caller holds them too,
/// and might write them before the gradient is applied.
Array lasting_ids(const Array& ids);

/// Whether the gradient of `count` slices of an axis had better stay sparse, in an array of
/// `shape`: where they are few, and it is large.
bool sparse_pays(int64_t count, int64_t axis_size, const Shape& shape);

/// Work of moving elements of `moved` and reading `indices`.
Cost cost_of_moving(const Meta& moved, Span<const Meta> indices);

/// Calls f(T{}) with the unsigned type of `item` bytes, to move elements of any type.
template <class F>
void visit_item(size_t item, F&& f) {
  switch (item) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

/// y[i sy] = x[i sx] for i < n.
template <class T>
void copy_row(const T* x, ptrdiff_t sx, T* y, ptrdiff_t sy, size_t n) {
  if (n == 1) {
    *y = *x;
  } else if (sx == 1 && sy == 1) {
    std::memcpy(y, x, n * sizeof(T));
  } else {
    for (; n > 0; --n, x += sx, y += sy) *y = *x;
  }
}

/// Whole slices, picked by `count` offsets ids[b] * scale (in elements) into the picked array;
/// slice b lies at b * packed_step of the packed one. `rest` are the sizes of a slice.
struct Picks {
  Picks(const int64_t* i, int64_t n) : ids(i), count(n) {}

  const int64_t* ids;
  int64_t count;
  int64_t scale = 1;
  int64_t packed_step = 1;
  Shape rest;
  int64_t packed[kMaxRank];  // strides of the sizes in `rest`
  int64_t picked[kMaxRank];

  void add_axis(int64_t size, int64_t packed_stride, int64_t picked_stride) {
    rest.push_back(size);
    packed[rest.rank() - 1] = packed_stride;
    picked[rest.rank() - 1] = picked_stride;
  }
};

/// Slices of one axis, picked by contiguous `ids` [k]; packed.size(axis) is k.
Picks picks_along(int axis, const Array& ids, const Array& packed, const Array& picked);

/// Calls row(packed offset, its stride, picked offset, its stride, n) for every row of the slices.
template <class Row>
void for_each_pick(const Picks& p, Row&& row) {
  kernels::for_each_row<2>(
      static_cast<size_t>(p.rest.rank()), p.rest.data(), {p.packed, p.picked},
      [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
        const bool short_steps = std::abs(p.packed_step) < std::abs(stride[0]);
        if (n > 1 && short_steps) {  // the slices of the packed array lie side by side
          for (size_t i = 0; i < n; ++i) {
            const ptrdiff_t to = at[0] + static_cast<ptrdiff_t>(i) * stride[0];
            const ptrdiff_t from = at[1] + static_cast<ptrdiff_t>(i) * stride[1];
            for (int64_t b = 0; b < p.count; ++b) {
              row(to + b * p.packed_step, ptrdiff_t{1}, from + p.ids[b] * p.scale, ptrdiff_t{1},
                  size_t{1});
            }
          }
          return;
        }
        for (int64_t b = 0; b < p.count; ++b) {
          row(at[0] + b * p.packed_step, stride[0], at[1] + p.ids[b] * p.scale, stride[1], n);
        }
      });
}

/// packed = picked, at the picks.
void read_picks(const Picks& p, const Array& picked, const Array& packed);
/// picked = packed, at the picks.
void write_picks(const Picks& p, const Array& packed, const Array& picked);
/// picked += alpha * packed, at the picks; arithmetic types.
void add_picks(const Picks& p, double alpha, const Array& packed, const Array& picked);

/// Single elements along an axis: element i of the packed array, of the shape `shape` or broadcast
/// to it, belongs to the place of the picked array at which the axis has the index indices[i].
struct Along {
  Along(int axis, const Shape& shape, const Array& indices, const Array& packed,
        const Array& picked);

  Shape shape;
  const int64_t* ids;
  int64_t index_strides[kMaxRank];
  int64_t packed_strides[kMaxRank];
  int64_t picked_strides[kMaxRank];
  int64_t step;
};

/// Calls f(offset of the index, packed offset, picked offset) for every element; in row-major order
/// where the indices are contiguous and of the whole shape.
template <class F>
void for_each_along(const Along& a, F&& f) {
  kernels::for_each_row<3>(static_cast<size_t>(a.shape.rank()), a.shape.data(),
                           {a.index_strides, a.packed_strides, a.picked_strides},
                           [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                             ptrdiff_t index = at[0];
                             ptrdiff_t packed = at[1];
                             ptrdiff_t picked = at[2];
                             for (; n > 0; --n) {
                               f(index, packed, picked + a.ids[index] * a.step);
                               index += stride[0];
                               packed += stride[1];
                               picked += stride[2];
                             }
                           });
}

/// packed = picked.
void read_along(const Along& a, const Array& picked, const Array& packed);
/// picked = packed.
void write_along(const Along& a, const Array& packed, const Array& picked);
/// picked += packed; arithmetic types.
void add_along(const Along& a, const Array& packed, const Array& picked);

}  // namespace ebb::ops
