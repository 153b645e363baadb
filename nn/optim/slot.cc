// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/slot.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/outer.h"

namespace ebb::optim::detail {
namespace {

using ebb::detail::Node;

// Elements of a gradient that are multiplied out at a time: they stay in the first-level cache.
constexpr int64_t kBlock = 4096;
// Columns that are brought up to date at a time: a cache line's worth.
constexpr int64_t kColumnBlock = 16;
// Elements that are gathered at a time for it, on the stack: bringing up to date takes no memory,
// so that it can neither stop half-way nor fail in a destructor.
constexpr int64_t kGathered = 1024;
// Below this size, and where this part of the lines is touched, keeping book costs more than it
// saves.
constexpr int64_t kSmallest = 512;
constexpr int64_t kLeastRatio = 4;
// Bytes of a matrix from which on a pass over it counts.
constexpr size_t kLeastPass = size_t{64} << 10;

int64_t width_of(const Array& a) { return a.numel() / std::max<int64_t>(a.size(0), 1); }

// A record grows until bringing everything up to date costs little for each step in it.
int64_t capacity_for(int64_t numel) { return std::clamp<int64_t>(numel / 1024, 256, 4096); }

// The outer parts of a gradient as vectors, where each of them lies.
template <class T>
class Terms {
 public:
  explicit Terms(Span<const Outer> parts) {
    for (const Outer& o : parts) {
      collect(o.u, &u_);
      collect(o.v, &v_);
    }
  }
  size_t count() const { return u_.size(); }
  kernels::OuterTerms<T> all() const { return {u_.data(), v_.data(), count()}; }

 private:
  void collect(const Array& side, PoolVector<const T*>* to) {
    if (!side.is_contiguous()) return collect(copies_.emplace_back(contiguous(side)), to);
    const T* at = side.data<T>();
    if (side.rank() == 1) return to->push_back(at);
    for (int64_t r = 0; r < side.size(0); ++r, at += side.size(1)) to->push_back(at);
  }

  PoolVector<const T*> u_;
  PoolVector<const T*> v_;
  PoolVector<Array> copies_;
};

// Rows from which the work of laying out the vectors for a product pays.
constexpr int64_t kOuterRows = 32;

// w += factor * g, each kind of gradient by itself.
void add_gradient(double factor, const Gradient& g, const Array& value) {
  const Array& dense = g.dense_part();
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    const T f = static_cast<T>(factor);
    T* w = value.mutable_data<T>();
    if (dense.defined()) {
      if (dense.is_contiguous() && dense.dtype() == value.dtype()) {
        kernels::axpy(f, dense.data<T>(), w, static_cast<size_t>(value.numel()));
      } else {
        axpy_into(value, factor, dense);
      }
    }
    if (g.is_dense()) return;
    const int64_t width = width_of(value);
    for (const RowSparse& part : g.row_parts()) {
      const Array ids = contiguous(part.ids);
      const Array rows = contiguous(part.rows);
      for (int64_t i = 0; i < ids.numel(); ++i) {
        kernels::axpy(f, rows.data<T>() + i * width, w + ids.data<int64_t>()[i] * width,
                      static_cast<size_t>(width));
      }
    }
    for (const ColSparse& part : g.col_parts()) {
      const Array ids = contiguous(part.ids);
      const Array cols = contiguous(part.cols);
      const int64_t k = ids.numel();
      const T* from = cols.data<T>();
      for (int64_t i = 0; i < value.size(0); ++i, from += k) {
        for (int64_t j = 0; j < k; ++j) w[i * width + ids.data<int64_t>()[j]] += f * from[j];
      }
    }
    if (g.outer_parts().empty()) return;
    const int64_t m = value.size(0);
    if (m >= kOuterRows) {
      const Terms<T> terms(g.outer_parts());
      if (terms.count() >= kernels::kLeastOuterTerms && terms.count() <= kernels::kOuterTerms) {
        return kernels::add_outers(m, width, f, terms.all(), w, width);
      }
    }
    const Outer o = g.stacked_outer();
    if (o.u.size(0) == 1) {
      kernels::ger(m, width, f, o.u.data<T>(), o.v.data<T>(), w, width);
    } else {
      kernels::gemm(true, false, m, width, o.u.size(0), f, o.u.data<T>(), m, o.v.data<T>(), width,
                    T{1}, w, width);
    }
  });
}

// A gradient with its parts laid open, to be multiplied out a few rows at a time.
class Blocks {
 public:
  explicit Blocks(Gradient& g) {
    g.coalesce();
    if (g.dense_part().defined()) dense_ = contiguous(g.dense_part());
    if (!g.row_parts().empty()) {
      rows_ = {contiguous(g.row_parts()[0].ids), contiguous(g.row_parts()[0].rows)};
    }
    if (!g.col_parts().empty()) {
      cols_ = {contiguous(g.col_parts()[0].ids), contiguous(g.col_parts()[0].cols)};
    }
    if (!g.outer_parts().empty()) outer_ = g.stacked_outer();
  }

  // Rows [first, first + count), each `width` wide; the calls go from the first row to the last.
  template <class T>
  void write(int64_t first, int64_t count, int64_t width, T* out) {
    const size_t bytes = static_cast<size_t>(count * width) * sizeof(T);
    const bool product_alone = outer_.u.defined() && !dense_.defined() && outer_.u.size(0) == 1;
    if (product_alone) {
      for (int64_t i = 0; i < count; ++i) {
        kernels::scale(outer_.u.template data<T>()[first + i], outer_.v.template data<T>(),
                       out + i * width, static_cast<size_t>(width));
      }
    } else if (dense_.defined()) {
      std::memcpy(out, dense_.data<T>() + first * width, bytes);
    } else {
      std::memset(out, 0, bytes);
    }
    if (outer_.u.defined() && !product_alone) {
      const int64_t m = outer_.u.size(1);
      kernels::gemm(true, false, count, width, outer_.u.size(0), T{1},
                    outer_.u.template data<T>() + first, m, outer_.v.template data<T>(), width,
                    T{1}, out, width);
    }
    if (rows_.ids.defined()) {
      const int64_t* ids = rows_.ids.template data<int64_t>();
      for (; row_ < rows_.ids.numel() && ids[row_] < first + count; ++row_) {
        kernels::add_into(rows_.rows.template data<T>() + row_ * width,
                          out + (ids[row_] - first) * width, static_cast<size_t>(width));
      }
    }
    if (cols_.ids.defined()) {
      const int64_t k = cols_.ids.numel();
      const int64_t* ids = cols_.ids.template data<int64_t>();
      const T* from = cols_.cols.template data<T>() + first * k;
      for (int64_t i = 0; i < count; ++i, from += k) {
        for (int64_t j = 0; j < k; ++j) out[i * width + ids[j]] += from[j];
      }
    }
  }

 private:
  Array dense_;
  RowSparse rows_;
  ColSparse cols_;
  Outer outer_;
  int64_t row_ = 0;  // the first of rows_ not yet written
};

// The only kind of sparse part that a gradient consists of: 0 rows, 1 columns, -1 neither.
int sparse_axis(const Gradient& g) {
  if (g.dense_part().defined() || !g.outer_parts().empty()) return -1;
  if (g.row_parts().empty() == g.col_parts().empty()) return -1;
  return g.row_parts().empty() ? 1 : 0;
}

}  // namespace

Slot::~Slot() {
  Leaf& leaf = parameter_.leaf();
  const ebb::detail::LeafLock lock(leaf);
  if (leaf.lazy == this) replay_all(leaf);  // else only the states are behind, and they go
}

void Slot::catch_up() {
  Leaf& leaf = parameter_.leaf();
  const ebb::detail::LeafLock lock(leaf);
  replay_all(leaf);
}

void Slot::step() {
  Leaf& leaf = parameter_.leaf();
  const ebb::detail::LeafLock lock(leaf);
  Gradient& g = leaf.grad;
  if (!g.defined()) return;
  // What another optimiser has put off comes first.
  if (leaf.lazy != nullptr && (leaf.lazy != this || is_product())) {
    leaf.lazy->catch_up(leaf, nullptr);
  }
  const Array value = leaf.value();
  if (value.numel() == 0) return;

  if (states_[0].defined() && states_[0].dtype() != value.dtype()) {
    replay_all(leaf);
    for (Array& s : states_) {
      if (s.defined()) s = cast(s, value.dtype());
    }
  }
  const bool fresh = make_states(value);
  rule_.begin(steps_ + 1, fresh);
  const Idle idle = rule_.idle();
  const bool behind = missed_ != nullptr && missed_->size() > 0;
  if (behind && (idle == Idle::kNothing || !rule_.fits(*missed_))) replay_all(leaf);

  if (!value.is_contiguous()) {
    replay_all(leaf);
    update_strided(g, value);
  } else if (const double factor = rule_.plain_factor(); factor != 0) {
    add_gradient(factor, g, value);
  } else if (const int axis = sparse_axis(g); axis >= 0 && idle != Idle::kNonlinear) {
    g.coalesce();
    const Array ids = axis == 0 ? g.row_parts()[0].ids : g.col_parts()[0].ids;
    const Array part = axis == 0 ? g.row_parts()[0].rows : g.col_parts()[0].cols;
    const bool few = value.numel() >= kSmallest && ids.numel() * kLeastRatio <= value.size(axis);
    if (few || idle == Idle::kNothing) {
      update_lines(leaf, axis, ids, contiguous(part));
    } else {
      replay_all(leaf);
      update_blocks(g, value);
    }
  } else {
    replay_all(leaf);
    update_all(g, value);
  }
  ++steps_;
  value.bump_version();
}

bool Slot::step_plainly(double factor) {
  Leaf& leaf = parameter_.leaf();
  const ebb::detail::LeafLock lock(leaf);
  const Array& value = leaf.value();
  if (leaf.lazy != nullptr || missed_ != nullptr || !value.is_contiguous()) return false;
  for (const Array& s : states_) {
    if (s.defined()) return false;
  }
  if (!leaf.grad.defined() || value.numel() == 0) return true;
  if (!value.is_unique() || !put_off(leaf, factor, leaf.grad)) {
    add_gradient(factor, leaf.grad, value);
  }
  ++steps_;
  value.bump_version();
  return true;
}

// True where a state had to be made.
bool Slot::make_states(const Array& value) {
  bool fresh = false;
  const auto names = rule_.states();
  for (int i = 0; i < static_cast<int>(names.size()); ++i) {
    if (!rule_.uses_state(i)) {
      if (states_[i].defined()) {
        replay_all(parameter_.leaf());
        states_[i] = Array();
      }
    } else if (!states_[i].defined()) {
      replay_all(parameter_.leaf());
      states_[i] = Array::full(value.dtype(), value.shape(), rule_.initial_state(i));
      fresh = true;
    } else if (!states_[i].same_shape(value)) {
      throw ShapeError(absl::StrCat(rule_.name(), ": parameter ", parameter_.leaf().name, " is ",
                                    value.shape().str(), ", its state is ",
                                    states_[i].shape().str()));
    }
  }
  return fresh;
}

Chunk Slot::chunk(const Array& value) const {
  Chunk c;
  c.value = value.raw();
  for (int i = 0; i < kMaxStates; ++i) {
    if (states_[i].defined()) c.states[i] = states_[i].raw();
  }
  return c;
}

Chunk Slot::chunk_at(const Array& value, int64_t element) const {
  const ptrdiff_t offset = element * static_cast<ptrdiff_t>(size_of(value.dtype()));
  Chunk c = chunk(value);
  c.value += offset;
  for (std::byte*& s : c.states) {
    if (s != nullptr) s += offset;
  }
  return c;
}

// ---- steps -----------------------------------------------------------------------------------

void Slot::update_all(Gradient& g, const Array& value) {
  if (!g.is_dense()) return update_blocks(g, value);
  const Array dense = contiguous(g.dense_part());
  Chunk c = chunk(value);
  c.gradient = dense.raw();
  rule_.update(value.dtype(), c, static_cast<size_t>(value.numel()));
}

void Slot::update_blocks(Gradient& g, const Array& value) {
  const int64_t rows = value.size(0);
  const int64_t width = width_of(value);
  const int64_t block = std::clamp<int64_t>(kBlock / width, 1, rows);
  const Array scratch = Array::empty(value.dtype(), {block, width});
  Blocks blocks(g);
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    for (int64_t first = 0; first < rows; first += block) {
      const int64_t count = std::min(block, rows - first);
      blocks.write(first, count, width, scratch.mutable_data<T>());
      Chunk c = chunk_at(value, first * width);
      c.gradient = scratch.raw();
      rule_.update(value.dtype(), c, static_cast<size_t>(count * width));
    }
  });
}

// A parameter that is a strided view of somebody's elements.
void Slot::update_strided(Gradient& g, const Array& value) {
  const Array dense = copy(value);
  update_all(g, dense);
  copy_into(value, dense);
}

void Slot::update_lines(Leaf& leaf, int axis, const Array& ids, const Array& gradient) {
  const Array value = leaf.value();
  const bool tracked = rule_.idle() != Idle::kNothing;
  if (tracked) {
    track(leaf, axis);
    for (int64_t i = 0; i < ids.numel(); ++i) replay_line(value, ids.data<int64_t>()[i]);
  }
  if (axis == 0) {
    update_rows(value, ids, gradient);
  } else {
    update_columns(value, ids, gradient);
  }
  if (!tracked) return;
  rule_.append_to(*missed_);
  for (int64_t i = 0; i < ids.numel(); ++i) {
    done_[static_cast<size_t>(ids.data<int64_t>()[i])] = static_cast<uint32_t>(missed_->size());
  }
  if (missed_->size() == capacity_for(value.numel())) {
    replay_all(leaf);
  } else if (rule_.idle() == Idle::kValue) {
    leaf.lazy = this;
    leaf.set_flag(Node::kLazy);
  }
}

void Slot::update_rows(const Array& value, const Array& ids, const Array& gradient) {
  const int64_t width = width_of(value);
  const ptrdiff_t bytes = width * static_cast<ptrdiff_t>(size_of(value.dtype()));
  for (int64_t i = 0; i < ids.numel(); ++i) {
    Chunk c = chunk_at(value, ids.data<int64_t>()[i] * width);
    c.gradient = gradient.raw() + i * bytes;
    rule_.update(value.dtype(), c, static_cast<size_t>(width));
  }
}

namespace {

// Elements of a matrix that lie apart, brought together for the kernels: the value and each state.
template <class T>
class Gathered {
 public:
  // `buffer` holds (kMaxStates + 1) * size elements.
  Gathered(const Chunk& whole, T* buffer, int64_t size)
      : whole_(whole), size_(size), buffer_(buffer) {
    chunk_.value = slot(0);
    for (int i = 0; i < kMaxStates; ++i) {
      if (whole.states[i] != nullptr) chunk_.states[i] = slot(i + 1);
    }
  }

  // Copies with f(of the matrix, of the row of elements) for each array.
  template <class F>
  void copy(F&& f) {
    f(whole_.w<T>(), chunk_.w<T>());
    for (int i = 0; i < kMaxStates; ++i) {
      if (whole_.states[i] != nullptr) f(whole_.state<T>(i), chunk_.state<T>(i));
    }
  }
  Chunk& chunk() { return chunk_; }

 private:
  std::byte* slot(int i) { return reinterpret_cast<std::byte*>(buffer_ + i * size_); }

  const Chunk whole_;
  const int64_t size_;
  T* const buffer_;
  Chunk chunk_;
};

}  // namespace

void Slot::update_columns(const Array& value, const Array& ids, const Array& gradient) {
  const int64_t n = value.size(1);
  const int64_t k = ids.numel();
  const int64_t block = std::clamp<int64_t>(kBlock / std::max<int64_t>(k, 1), 1, value.size(0));
  const int64_t* id = ids.data<int64_t>();
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    const Array buffer = Array::empty(value.dtype(), {kMaxStates + 1, block * k});
    Gathered<T> gathered(chunk(value), buffer.mutable_data<T>(), block * k);
    for (int64_t first = 0; first < value.size(0); first += block) {
      const int64_t count = std::min(block, value.size(0) - first);
      const auto each = [&](auto&& f) {
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < k; ++j) f((first + i) * n + id[j], i * k + j);
        }
      };
      gathered.copy([&](const T* whole, T* part) {
        each([&](int64_t from, int64_t to) { part[to] = whole[from]; });
      });
      gathered.chunk().gradient = gradient.raw() + static_cast<size_t>(first * k) * sizeof(T);
      rule_.update(value.dtype(), gathered.chunk(), static_cast<size_t>(count * k));
      gathered.copy([&](T* whole, const T* part) {
        each([&](int64_t to, int64_t from) { whole[to] = part[from]; });
      });
    }
  });
}

// ---- what was put off
// ----------------------------------------------------------------------------

// See NOTE [A product put off]. Who has another handle to the elements would not find out; so
// nobody else may hold them.
bool Slot::put_off(Leaf& leaf, double factor, const Gradient& g) {
  const Array& value = leaf.value();
  const auto outer = g.outer_parts();
  if (outer.size() != 1 || outer[0].u.numel() != value.size(0) ||
      outer[0].u.dtype() != value.dtype() || g.dense_part().defined() || !g.row_parts().empty() ||
      !g.col_parts().empty() ||
      static_cast<size_t>(value.numel()) * size_of(value.dtype()) < kLeastPass) {
    return false;
  }
  // Copies, for the user may hold the vectors too: the one is often the gradient of a bias.
  product_ = {factor, copy(outer[0].u), copy(outer[0].v)};
  leaf.lazy = this;
  leaf.set_flag(Node::kLazy);
  return true;
}

void Slot::add_product(const Array& value) {
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::ger(value.size(0), value.size(1), static_cast<T>(product_.factor),
                 product_.u.data<T>(), product_.v.data<T>(), value.mutable_data<T>(),
                 value.size(1));
  });
  product_ = {};
}

void Slot::catch_up_and_multiply(Leaf& leaf, const Array& x, const Array& y, double beta) {
  const Array& value = leaf.value();
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::ger_gemv(value.size(0), value.size(1), static_cast<T>(product_.factor),
                      product_.u.data<T>(), product_.v.data<T>(), value.mutable_data<T>(),
                      value.size(1), x.data<T>(), static_cast<T>(beta), y.mutable_data<T>());
  });
  product_ = {};
  nothing_is_put_off(leaf);
}

void Slot::nothing_is_put_off(Leaf& leaf) {
  if (leaf.lazy != this) return;
  leaf.lazy = nullptr;
  leaf.clear_flag(Node::kLazy);
}

// Makes ready to keep book of lines along `axis`.
void Slot::track(Leaf& leaf, int axis) {
  const Array& value = leaf.value();
  const auto lines = static_cast<size_t>(value.size(axis));
  if (missed_ != nullptr && axis_ == axis && done_.size() == lines && rule_.fits(*missed_)) return;
  replay_all(leaf);
  if (missed_ == nullptr || !rule_.fits(*missed_)) {
    missed_ = rule_.new_missed(capacity_for(value.numel()));
  }
  axis_ = axis;
  done_.assign(lines, 0);
}

void Slot::catch_up(Leaf& leaf, const Array* ids) {
  if (ids == nullptr || axis_ != 0 || is_product()) return replay_all(leaf);
  if (missed_ == nullptr || missed_->size() == 0) return;
  const Array rows = contiguous(cast(*ids, kInt64));
  const auto lines = static_cast<int64_t>(done_.size());
  for (int64_t i = 0; i < rows.numel(); ++i) {
    const int64_t id = rows.data<int64_t>()[i];
    const int64_t line = id < 0 ? id + lines : id;
    if (line >= 0 && line < lines) replay_line(leaf.value(), line);
  }
}

void Slot::replay_line(const Array& value, int64_t line) {
  uint32_t& done = done_[static_cast<size_t>(line)];
  if (done == missed_->size()) return;
  if (axis_ == 0) {
    const int64_t width = width_of(value);
    missed_->replay(value.dtype(), chunk_at(value, line * width), static_cast<size_t>(width), done);
  } else {
    replay_columns(value, line, 1, done);
  }
  done = static_cast<uint32_t>(missed_->size());
}

void Slot::replay_all(Leaf& leaf) {
  if (is_product()) add_product(leaf.value());
  if (missed_ != nullptr && missed_->size() > 0) {
    Array value = leaf.value();
    if (states_[0].defined() && states_[0].dtype() != value.dtype()) {
      // Only the states are behind: else the value had been asked for before it changed its type.
      value = Array::empty_like(states_[0]);
    }
    if (axis_ == 0) {
      replay_all_rows(value);
    } else {
      replay_all_columns(value);
    }
    missed_->clear();
    std::fill(done_.begin(), done_.end(), 0u);
  }
  nothing_is_put_off(leaf);
}

void Slot::replay_all_rows(const Array& value) {
  const int64_t width = width_of(value);
  const auto size = static_cast<uint32_t>(missed_->size());
  // Neighbours that are as far behind go together.
  for (size_t first = 0, last; first < done_.size(); first = last) {
    last = first + 1;
    while (last < done_.size() && done_[last] == done_[first]) ++last;
    if (done_[first] == size) continue;
    missed_->replay(value.dtype(), chunk_at(value, static_cast<int64_t>(first) * width),
                    (last - first) * static_cast<size_t>(width), done_[first]);
  }
}

void Slot::replay_columns(const Array& value, int64_t first, int64_t count, int64_t from) {
  const int64_t n = value.size(1);
  const int64_t block = kGathered / count;
  visit(value.dtype(), [&](auto t) {
    using T = decltype(t);
    T buffer[(kMaxStates + 1) * kGathered];
    Gathered<T> gathered(chunk(value), buffer, block * count);
    for (int64_t row = 0; row < value.size(0); row += block) {
      const int64_t rows = std::min(block, value.size(0) - row);
      const auto each = [&](auto&& f) {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < count; ++j) f((row + i) * n + first + j, i * count + j);
        }
      };
      gathered.copy([&](const T* whole, T* part) {
        each([&](int64_t at, int64_t to) { part[to] = whole[at]; });
      });
      missed_->replay(value.dtype(), gathered.chunk(), static_cast<size_t>(rows * count), from);
      gathered.copy([&](T* whole, const T* part) {
        each([&](int64_t to, int64_t at) { whole[to] = part[at]; });
      });
    }
  });
}

void Slot::replay_all_columns(const Array& value) {
  const auto lines = static_cast<int64_t>(done_.size());
  for (int64_t first = 0, last; first < lines; first = last) {
    const uint32_t done = done_[static_cast<size_t>(first)];
    last = first + 1;
    while (last < lines && last - first < kColumnBlock &&
           done_[static_cast<size_t>(last)] == done) {
      ++last;
    }
    if (done < missed_->size()) replay_columns(value, first, last - first, done);
  }
}

void Slot::load(int64_t steps, Span<const Array> states) {
  Leaf& leaf = parameter_.leaf();
  const ebb::detail::LeafLock lock(leaf);
  steps_ = steps;
  for (size_t i = 0; i < states.size(); ++i) {
    states_[i] = states[i].defined() ? copy(cast(states[i], leaf.value().dtype())) : Array();
  }
}

}  // namespace ebb::optim::detail
