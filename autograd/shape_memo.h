// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>

#include "ebb/autograd/op.h"

// What ops inferred lately: internal to apply.cc.
namespace ebb::detail {

// NOTE [Remembered shapes]
// A program without fixed shapes repeats its shapes all the same: a cell is called on one size of
// state, whatever the tree. What infer() says depends on the attributes and on the types and shapes
// of the inputs and on nothing else, so that each thread keeps its last results in a small table,
// and an op that is called again as before gets its outputs without asking: this costs a tenth of
// what the asking does. Only results are kept, never errors. Ops of many inputs, of attributes with
// a copy constructor, or of arrays of high rank are asked each time.
class ShapeMemo {
 public:
  struct Output {
    uint32_t tags;
    uint16_t size_class;
    uint16_t at;  // where the elements start
    size_t bytes;
    int64_t numel;
    int64_t sizes[8];  // dimensions, then strides
  };

  class Entry {
   public:
    uint32_t n_out;

    /// A new array for output j; `heap` is that of the calling thread.
    [[gnu::always_inline]] Array make(ThreadHeap* heap, size_t j) const {
      // A copy, for an allocation may free what other threads left here, and with it run the user's
      // code, which may call ops.
      const Output o = out[j];
#ifndef EBB_NO_POOL
      Block* const block = allocate_class(heap, o.size_class);
#else
      Block* const block = allocate_on(heap, o.bytes);
#endif
      return Array::adopt(make_root(block, o.at, o.tags, o.numel, o.sizes));
    }

   private:
    friend class ShapeMemo;

    [[gnu::always_inline]] bool is(const OpDef& d, const void* a, Span<const Array> in) const {
      if (def != &d || n_in != in.size()) return false;
      const int64_t* dim = dims;
      for (size_t i = 0; i < in.size(); ++i) {
        const ArrayRep* r = in[i].rep();
        if (r == nullptr) {
          if (tags[i] != 0) return false;
          continue;
        }
        if (tags[i] != r->tags()) return false;
        for (int k = 0; k < r->rank(); ++k) {
          if (*dim++ != r->dims()[k]) return false;
        }
      }
      return d.attrs_size == 0 || std::memcmp(attrs, a, d.attrs_size) == 0;
    }

    const OpDef* def;
    uint32_t n_in;
    uint32_t tags[6];  // 0 for an input that is absent
    int64_t dims[10];  // of all inputs
    std::byte attrs[32];
    Output out[2];
  };

  /// What is known of the outputs of an op that is called in this way; null where nothing is.
  [[gnu::always_inline]] static const Entry* find(const OpDef& def, const void* attrs,
                                                  Span<const Array> in) {
    const Entry& e = entries_[index(def, in)];
    return e.is(def, attrs, in) ? &e : nullptr;
  }

  /// Remembers what was inferred, if it is of a kind that is remembered.
  static void keep(const OpDef& def, const void* attrs, Span<const Array> in, Span<const Meta> out);

 private:
  static constexpr int kIndexBits = 6;

  [[gnu::always_inline]] static size_t index(const OpDef& def, Span<const Array> in) {
    uint64_t h = reinterpret_cast<uintptr_t>(&def) >> 4;
    for (const Array& a : in) {
      h *= 31;
      if (a.defined()) h += static_cast<uint64_t>(a.numel());
    }
    return (h * 0x9E3779B97F4A7C15u) >> (64 - kIndexBits);
  }

  static constinit thread_local Entry entries_[1 << kIndexBits];
};

}  // namespace ebb::detail
