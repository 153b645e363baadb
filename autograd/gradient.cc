// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/gradient.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"

namespace ebb {

namespace {
template <class T>
using PoolVector = std::vector<T, detail::PoolAllocator<T>>;
// Most gradients in flight have one part, which needs no room of its own.
template <class T>
using PartVector = absl::InlinedVector<T, 1, detail::PoolAllocator<T>>;
}  // namespace

struct Gradient::Parts {
  Meta meta;
  PartVector<RowSparse> rows;
  PartVector<ColSparse> cols;
  PartVector<Outer> outer;
  int64_t outer_rank = 0;  // products in all of `outer`
};

namespace {

int64_t rank_of(const Outer& o) { return o.u.rank() == 1 ? 1 : o.u.size(0); }

// Elements of one row of a table of that shape.
int64_t row_size(const Shape& shape) {
  int64_t n = 1;
  for (int i = 1; i < shape.rank(); ++i) n *= shape[i];
  return n;
}

// Calls f with a value of the C++ type behind a floating dtype.
template <class F>
void visit(DType t, F&& f) {
  visit_differentiable(t, std::forward<F>(f));
}

// to[ids[i]] += rows[i]
void scatter_rows(const Array& to, const RowSparse& part) {
  const Array ids = contiguous(part.ids);
  const Array rows = contiguous(part.rows);
  const int64_t width = row_size(to.shape());
  visit(to.dtype(), [&](auto t) {
    using T = decltype(t);
    const int64_t* id = ids.data<int64_t>();
    for (int64_t i = 0; i < ids.numel(); ++i) {
      kernels::add_into(rows.data<T>() + i * width, to.mutable_data<T>() + id[i] * width,
                        static_cast<size_t>(width));
    }
  });
}

// to[:, ids[j]] += cols[:, j]
void scatter_cols(const Array& to, const ColSparse& part) {
  const Array ids = contiguous(part.ids);
  const Array cols = contiguous(part.cols);
  const int64_t k = ids.numel();
  const int64_t n = to.size(1);
  visit(to.dtype(), [&](auto t) {
    using T = decltype(t);
    const int64_t* id = ids.data<int64_t>();
    for (int64_t i = 0; i < to.size(0); ++i) {
      const T* from = cols.data<T>() + i * k;
      T* row = to.mutable_data<T>() + i * n;
      for (int64_t j = 0; j < k; ++j) row[id[j]] += from[j];
    }
  });
}

// to += u' v
void add_outer(const Array& to, const Outer& part) {
  const Array u = contiguous(part.u);
  const Array v = contiguous(part.v);
  const int64_t m = to.size(0);
  const int64_t n = to.size(1);
  const int64_t r = rank_of(part);
  visit(to.dtype(), [&](auto t) {
    using T = decltype(t);
    if (r == 1) {
      kernels::ger(m, n, T{1}, u.data<T>(), v.data<T>(), to.mutable_data<T>(), n);
    } else {
      kernels::gemm(true, false, m, n, r, T{1}, u.data<T>(), m, v.data<T>(), n, T{1},
                    to.mutable_data<T>(), n);
    }
  });
}

// Sum over r, s of <u_r, u_s> <v_r, v_s>: the squared Frobenius norm of the sum of u_r v_r'.
double outer_squared_norm(const Outer& o) {
  const int64_t r = rank_of(o);
  const int64_t m = o.u.numel() / std::max<int64_t>(r, 1);
  const int64_t n = o.v.numel() / std::max<int64_t>(r, 1);
  double total = 0;
  visit(o.u.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* u = o.u.data<T>();
    const T* v = o.v.data<T>();
    const auto dot = [](const T* a, const T* b, int64_t len) {
      double s = 0;
      for (int64_t i = 0; i < len; ++i) s += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      return s;
    };
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        const double term = dot(u + i * m, u + j * m, m) * dot(v + i * n, v + j * n, n);
        total += i == j ? term : 2 * term;
      }
    }
  });
  return std::max(total, 0.0);
}

}  // namespace

Gradient::Parts& Gradient::parts(const Meta& meta) {
  if (parts_ == nullptr) {
    parts_ = new (detail::PoolAllocator<Parts>().allocate(1)) Parts;
    parts_->meta = meta;
  }
  return *parts_;
}

void Gradient::drop_parts() {
  if (parts_ == nullptr) return;
  parts_->~Parts();
  detail::PoolAllocator<Parts>().deallocate(parts_, 1);
  parts_ = nullptr;
}

// Each begins with an empty gradient, so that what a later step throws does not lose the parts.
Gradient::Gradient(const Meta& meta, RowSparse part) : Gradient() {
  parts(meta).rows.push_back(std::move(part));
}

Gradient::Gradient(const Meta& meta, ColSparse part) : Gradient() {
  parts(meta).cols.push_back(std::move(part));
}

Gradient::Gradient(const Meta& meta, Outer part) : Gradient() {
  Parts& p = parts(meta);
  p.outer_rank = rank_of(part);
  p.outer.push_back(std::move(part));
  collapse_outer();
}

Gradient::Gradient(const Gradient& o) : Gradient() {
  dense_ = o.dense_;
  if (o.parts_ != nullptr) parts(o.parts_->meta) = *o.parts_;
}

Gradient& Gradient::operator=(const Gradient& o) {
  Gradient copy(o);
  return *this = std::move(copy);
}

Meta Gradient::meta() const { return parts_ != nullptr ? parts_->meta : dense_.meta(); }

void Gradient::add(Gradient&& o) {
  if (o.dense_.defined()) {
    if (!dense_.defined()) {
      dense_ = std::move(o.dense_);
    } else if (dense_.is_unique()) {
      add_into(dense_, o.dense_);
    } else if (o.dense_.is_unique()) {
      add_into(o.dense_, dense_);
      dense_ = std::move(o.dense_);
    } else {
      dense_ = copy(dense_);
      add_into(dense_, o.dense_);
    }
  }
  if (o.parts_ == nullptr) return;
  if (parts_ == nullptr) {
    parts_ = std::exchange(o.parts_, nullptr);
    return;
  }
  const auto append = [](auto& to, auto& from) {
    if (from.size() == 1) {
      to.push_back(std::move(from[0]));
      return;
    }
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  };
  append(parts_->rows, o.parts_->rows);
  append(parts_->cols, o.parts_->cols);
  append(parts_->outer, o.parts_->outer);
  parts_->outer_rank += o.parts_->outer_rank;
  collapse_outer();
}

// Past this rank the factors take more room, and more time to multiply out, than the matrix.
void Gradient::collapse_outer() {
  if (parts_->outer.empty()) return;
  const int64_t m = parts_->meta.shape[0];
  const int64_t n = parts_->meta.shape[1];
  if (parts_->outer_rank * (m + n) <= m * n) return;
  own_dense();
  add_outer(dense_, stacked_outer());
  parts_->outer.clear();
  parts_->outer_rank = 0;
  if (parts_->rows.empty() && parts_->cols.empty()) drop_parts();
}

// Makes dense_ an array that nobody else holds.
void Gradient::own_dense() {
  if (!dense_.defined()) {
    dense_ = Array::zeros(parts_->meta.dtype, parts_->meta.shape);
  } else if (!dense_.is_unique()) {
    dense_ = copy(dense_);
  }
}

void Gradient::multiply_out() {
  // All that may run out of memory comes before anything is added, so that no part counts twice.
  own_dense();
  for (RowSparse& p : parts_->rows) p = {contiguous(p.ids), contiguous(p.rows)};
  for (ColSparse& p : parts_->cols) p = {contiguous(p.ids), contiguous(p.cols)};
  Outer outer;
  if (!parts_->outer.empty()) outer = stacked_outer();
  for (const RowSparse& p : parts_->rows) scatter_rows(dense_, p);
  for (const ColSparse& p : parts_->cols) scatter_cols(dense_, p);
  if (outer.u.defined()) add_outer(dense_, outer);
  drop_parts();
}

Gradient Gradient::t() const {
  Gradient out;
  if (dense_.defined()) out.dense_ = transposed(dense_);
  if (parts_ == nullptr) return out;
  Meta meta = parts_->meta;
  std::swap(meta.shape[0], meta.shape[1]);
  Parts& p = out.parts(meta);
  for (const RowSparse& r : parts_->rows) p.cols.push_back({r.ids, transposed(r.rows)});
  for (const ColSparse& c : parts_->cols) p.rows.push_back({c.ids, transposed(c.cols)});
  for (const Outer& o : parts_->outer) p.outer.push_back({o.v, o.u});
  p.outer_rank = parts_->outer_rank;
  return out;
}

Gradient Gradient::scaled(double factor) const {
  Gradient out;
  if (dense_.defined()) out.dense_ = ebb::scaled(dense_, factor);
  if (parts_ == nullptr) return out;
  Parts& p = out.parts(parts_->meta);
  for (const RowSparse& r : parts_->rows) p.rows.push_back({r.ids, ebb::scaled(r.rows, factor)});
  for (const ColSparse& c : parts_->cols) p.cols.push_back({c.ids, ebb::scaled(c.cols, factor)});
  for (const Outer& o : parts_->outer) p.outer.push_back({ebb::scaled(o.u, factor), o.v});
  p.outer_rank = parts_->outer_rank;
  return out;
}

double Gradient::squared_norm() {
  if (parts_ != nullptr) {
    const int kinds = static_cast<int>(dense_.defined()) + !parts_->rows.empty() +
                      !parts_->cols.empty() + !parts_->outer.empty();
    if (kinds == 1 && !parts_->outer.empty()) {
      parts_->outer.assign(1, stacked_outer());
      return outer_squared_norm(parts_->outer[0]);
    }
    if (kinds == 1) {
      coalesce();
      return ebb::squared_norm(parts_->rows.empty() ? parts_->cols[0].cols : parts_->rows[0].rows);
    }
  }
  return dense().defined() ? ebb::squared_norm(dense_) : 0;
}

Span<const RowSparse> Gradient::row_parts() const {
  return parts_ != nullptr ? Span<const RowSparse>(parts_->rows) : Span<const RowSparse>();
}
Span<const ColSparse> Gradient::col_parts() const {
  return parts_ != nullptr ? Span<const ColSparse>(parts_->cols) : Span<const ColSparse>();
}
Span<const Outer> Gradient::outer_parts() const {
  return parts_ != nullptr ? Span<const Outer>(parts_->outer) : Span<const Outer>();
}

namespace {

// The ids of all parts, ascending and each once.
template <class Part>
PoolVector<int64_t> distinct_ids(const PartVector<Part>& parts) {
  PoolVector<int64_t> all;
  for (const Part& p : parts) {
    const Array ids = contiguous(p.ids);
    all.insert(all.end(), ids.data<int64_t>(), ids.data<int64_t>() + ids.numel());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// The ids of a part as positions in `distinct`.
Array positions(const Array& ids, const PoolVector<int64_t>& distinct) {
  const Array from = contiguous(ids);
  Array out = Array::empty(kInt64, from.shape());
  for (int64_t i = 0; i < from.numel(); ++i) {
    const auto at = std::lower_bound(distinct.begin(), distinct.end(), from.data<int64_t>()[i]);
    out.mutable_data<int64_t>()[i] = at - distinct.begin();
  }
  return out;
}

}  // namespace

void Gradient::coalesce() {
  if (parts_ == nullptr) return;
  const Meta& meta = parts_->meta;
  if (!parts_->rows.empty()) {
    const auto ids = distinct_ids(parts_->rows);
    Shape shape = meta.shape;
    shape[0] = static_cast<int64_t>(ids.size());
    const Array sum = Array::zeros(meta.dtype, shape);
    for (const RowSparse& p : parts_->rows) scatter_rows(sum, {positions(p.ids, ids), p.rows});
    parts_->rows.assign(1, {Array::of<int64_t>({shape[0]}, ids), sum});
  }
  if (!parts_->cols.empty()) {
    const auto ids = distinct_ids(parts_->cols);
    const auto k = static_cast<int64_t>(ids.size());
    const Array sum = Array::zeros(meta.dtype, {meta.shape[0], k});
    for (const ColSparse& p : parts_->cols) scatter_cols(sum, {positions(p.ids, ids), p.cols});
    parts_->cols.assign(1, {Array::of<int64_t>({k}, ids), sum});
  }
}

Outer Gradient::stacked_outer() const {
  const auto& parts = parts_->outer;
  const DType dtype = parts_->meta.dtype;
  const auto stack = [&](const Array Outer::*side, int64_t width) {
    if (parts.size() == 1 && (parts[0].*side).rank() == 2) return contiguous(parts[0].*side);
    Array out = Array::empty(dtype, {parts_->outer_rank, width});
    std::byte* at = out.raw();
    for (const Outer& o : parts) {
      const Array a = contiguous(o.*side);
      const size_t bytes = static_cast<size_t>(a.numel()) * size_of(dtype);
      if (bytes != 0) std::memcpy(at, a.raw(), bytes);
      at += bytes;
    }
    return out;
  };
  return {stack(&Outer::u, parts_->meta.shape[0]), stack(&Outer::v, parts_->meta.shape[1])};
}

}  // namespace ebb
