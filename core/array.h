// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "ebb/core/dtype.h"
#include "ebb/core/memory.h"
#include "ebb/core/shape.h"

namespace ebb {

namespace detail {

/// Header of an array: one pool block holds it, the sizes, the strides and, unless it is a view,
/// the elements too. A view refers to the root: the array that holds the elements.
struct ArrayRep : Block {
  std::byte* data;
  ArrayRep* root;  // itself where this is the root
  int64_t numel;
  std::atomic<uint32_t> version;  // of a root: how often its elements were overwritten

  DType dtype() const { return static_cast<DType>(tag0); }
  int rank() const { return tag1; }
  bool contiguous() const { return tag2 != 0; }
  /// Kind, type, rank and order in one word, to compare and copy.
  uint32_t tags() const {
    static_assert(offsetof(Block, tag2) == offsetof(Block, kind) + 3);
    uint32_t word;
    std::memcpy(&word, &kind, sizeof(word));
    return word;
  }
  const int64_t* dims() const { return reinterpret_cast<const int64_t*>(this + 1); }
  int64_t* dims() { return reinterpret_cast<int64_t*>(this + 1); }
  const int64_t* strides() const { return dims() + rank(); }
  int64_t* strides() { return dims() + rank(); }
};
static_assert(sizeof(ArrayRep) == 64);

[[gnu::always_inline]] inline void destroy_array_on(ThreadHeap* h, ArrayRep* r) {
  ArrayRep* root = r->root;
  deallocate_on(h, r);
  if (root != r && release_on(h, root)) deallocate_on(h, root);
}
[[gnu::noinline]] inline void destroy_array(ArrayRep* r) { destroy_array_on(tls_heap, r); }

constexpr size_t header_bytes(int rank) {
  return sizeof(ArrayRep) + 2 * sizeof(int64_t) * static_cast<size_t>(rank);
}
// Elements start on a cache line of their own.
constexpr size_t data_offset(int rank) {
  return (header_bytes(rank) + kGranule - 1) / kGranule * kGranule;
}

/// The tags of an array in row-major order.
inline uint32_t row_major_tags(DType dtype, int rank) {
  const uint8_t bytes[] = {static_cast<uint8_t>(BlockKind::kArray), static_cast<uint8_t>(dtype),
                           static_cast<uint8_t>(rank), 1};
  uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

/// Fills the header of a root that lies `at` bytes before its elements, which are in row-major
/// order. `tags` are those of any such array, `sizes` its sizes and then its strides.
[[gnu::always_inline]] inline ArrayRep* make_root(Block* block, std::ptrdiff_t at, uint32_t tags,
                                                  int64_t numel, const int64_t* sizes) {
  auto* const r = static_cast<ArrayRep*>(block);
  std::memcpy(&r->kind, &tags, sizeof(tags));
  r->data = reinterpret_cast<std::byte*>(r) + at;
  r->root = r;
  r->numel = numel;
  r->version.store(0, std::memory_order_relaxed);
  const int rank = r->rank();
  if (rank == 1) [[likely]] {
    std::memcpy(r->dims(), sizes, 2 * sizeof(int64_t));
  } else {
    for (int i = 0; i < 2 * rank; ++i) r->dims()[i] = sizes[i];
  }
  return r;
}

/// A new root of the type, sizes and strides of `from`, which is contiguous and has elements. `h`
/// is the heap of the calling thread.
[[gnu::always_inline]] inline ArrayRep* new_like_on(ThreadHeap* h, const ArrayRep* from) {
  Block* block;
  std::ptrdiff_t at;
#ifndef EBB_NO_POOL
  if (from->root == from) [[likely]] {
    at = from->data - reinterpret_cast<const std::byte*>(from);
    block = allocate_class(h, from->size_class);
  } else
#endif
  {
    const size_t header = data_offset(from->rank());
    at = static_cast<std::ptrdiff_t>(header);
    block = allocate_on(h, header + static_cast<size_t>(from->numel) * size_of(from->dtype()));
  }
  return make_root(block, at, from->tags(), from->numel, from->dims());
}
inline ArrayRep* new_like(const ArrayRep* from) { return new_like_on(tls_heap, from); }

/// Whether both have the same type and sizes and lie in row-major order.
inline bool aligned(const ArrayRep* a, const ArrayRep* b) {
  if (a->tags() != b->tags() || !a->contiguous() || a->numel != b->numel) return false;
  if (a->rank() <= 1) [[likely]]
    return true;
  for (int i = 0; i < a->rank(); ++i) {
    if (a->dims()[i] != b->dims()[i]) return false;
  }
  return true;
}

}  // namespace detail

/// Element type and shape: what is known of an array before it exists.
struct Meta {
  DType dtype = DType::kFloat32;
  Shape shape;

  bool operator==(const Meta&) const = default;
  /// "float32[2,3]"
  std::string str() const;
};

/// A handle to a strided n-dimensional array; copies share the elements. It carries no gradient:
/// that is `Tensor`. Strides count elements and may be 0 (broadcast) or negative.
class Array {
 public:
  Array() = default;
  Array(const Array& o) : rep_(o.rep_) {
    if (rep_ != nullptr) detail::retain(rep_);
  }
  Array(Array&& o) noexcept : rep_(std::exchange(o.rep_, nullptr)) {}
  Array& operator=(const Array& o) {
    Array copy(o);
    std::swap(rep_, copy.rep_);
    return *this;
  }
  Array& operator=(Array&& o) noexcept {
    std::swap(rep_, o.rep_);
    return *this;
  }
  [[gnu::always_inline]] ~Array() {
    if (rep_ != nullptr && detail::release(rep_)) detail::destroy_array(rep_);
  }

  /// Elements are not initialised. Throws MemoryError, and ShapeError on a negative size.
  static Array empty(DType dtype, const Shape& shape);
  static Array empty(const Meta& meta) { return empty(meta.dtype, meta.shape); }
  /// Type and shape of `o`, contiguous, not initialised.
  static Array empty_like(const Array& o);
  static Array zeros(DType dtype, const Shape& shape);
  /// Every element `value`, converted to `dtype`. Throws ValueError where it is an integer type
  /// that does not hold the number; a negative one wraps in uint8, as in PyTorch.
  static Array full(DType dtype, const Shape& shape, double value);
  static Array scalar(DType dtype, double value) { return full(dtype, {}, value); }
  /// Contiguous copy of `values`; their count must be the shape's.
  template <class T>
  static Array of(const Shape& shape, Span<const T> values);
  /// An array with type and shape but no elements: what a tape node keeps where its backward rule
  /// needs only the shape.
  static Array shape_only(const Array& o);

  bool defined() const { return rep_ != nullptr; }
  explicit operator bool() const { return defined(); }

  DType dtype() const { return rep_->dtype(); }
  int rank() const { return rep_->rank(); }
  int64_t numel() const { return rep_->numel; }
  int64_t size(int i) const { return rep_->dims()[i]; }
  int64_t stride(int i) const { return rep_->strides()[i]; }
  const int64_t* dims() const { return rep_->dims(); }
  const int64_t* strides() const { return rep_->strides(); }
  Shape shape() const { return Shape(rep_->dims(), static_cast<size_t>(rep_->rank())); }
  Meta meta() const { return {dtype(), shape()}; }
  /// Elements lie in row-major order without gaps.
  bool is_contiguous() const { return rep_->contiguous(); }
  bool has_data() const { return rep_->data != nullptr; }
  bool same_shape(const Array& o) const {
    if (rank() != o.rank()) return false;
    for (int i = 0; i < rank(); ++i) {
      if (size(i) != o.size(i)) return false;
    }
    return true;
  }

  /// First element, of the C++ type that matches dtype(). Throws DTypeError on another.
  template <class T>
  const T* data() const {
    check_type(dtype_of<T>);
    return reinterpret_cast<const T*>(rep_->data);
  }
  /// For writing. Who writes elements that a tape may have saved calls bump_version(), by which the
  /// playback finds out.
  template <class T>
  T* mutable_data() const {
    check_type(dtype_of<T>);
    return reinterpret_cast<T*>(rep_->data);
  }
  std::byte* raw() const { return rep_->data; }

  /// A view of the same elements: `offset` in elements from this array's first. The caller answers
  /// for its staying within the root.
  Array view(const Shape& shape, const int64_t* strides, int64_t offset) const;
  /// A view with row-major strides; this array must be contiguous and of as many elements.
  Array view_as(const Shape& shape) const;

  /// How often the elements were overwritten since the root was made.
  uint32_t version() const { return root()->version.load(std::memory_order_relaxed); }
  void bump_version() const {
    auto& v = root()->version;
    v.store(v.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  bool shares_storage(const Array& o) const { return root() == o.root(); }
  /// This handle is the only one to elements that no view shares, so they may be reused.
  bool is_unique() const { return rep_->root == rep_ && detail::is_unique(rep_); }

  /// Element at `index` (one number a dimension, in range), as double.
  double at(Span<const int64_t> index) const;
  /// The only element, as double. Throws ShapeError where there is not exactly one.
  double item() const;
  /// The same as an integer: exact for all 64 bits; floating values are cut toward zero.
  int64_t integer_item() const;

  detail::ArrayRep* rep() const { return rep_; }
  /// Takes over the caller's reference.
  static Array adopt(detail::ArrayRep* rep) { return Array(rep); }
  detail::ArrayRep* release() { return std::exchange(rep_, nullptr); }

 private:
  explicit Array(detail::ArrayRep* rep) : rep_(rep) {}
  detail::ArrayRep* root() const { return rep_->root; }
  void check_type(DType want) const {
    if (want != dtype()) throw_type(want);
  }
  [[noreturn]] void throw_type(DType want) const;
  void check_one() const;

  detail::ArrayRep* rep_ = nullptr;
};

/// Elements and shape as nested lists, the middle of long dimensions left out:
/// "[[1, 2], [3, 4]] float32[2,2]".
std::string to_string(const Array& a);

template <class T>
Array Array::of(const Shape& shape, Span<const T> values) {
  Array a = empty(dtype_of<T>, shape);
  if (a.numel() != static_cast<int64_t>(values.size())) {
    throw ShapeError("array: " + std::to_string(values.size()) + " values do not fill " +
                     shape.str());
  }
  if (!values.empty()) std::memcpy(a.raw(), values.data(), values.size() * sizeof(T));
  return a;
}

}  // namespace ebb
