// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "ebb/core/random.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/product.h"

// What the two ops of attention share: the one that keeps its weights, and the one that computes
// them again. Not for users.
namespace ebb::ops {

struct AttentionAttrs {
  double scale = 1;
  double dropout = 0;
  Generator::State state;  // of the dropout
  int64_t heads = 0;       // side by side in the last axis; 0: that is one head
  int64_t offset = 0;      // query i stands where key i + offset does
  int parts = 3;           // inputs that query, key and value come in
  bool has_mask = false;   // as the input after them
  bool causal = false;
  bool alibi = false;
};

enum Role { kQuery, kKey, kValue };

// The input that holds it, and which part of that input's last axis.
inline int input_of(const AttentionAttrs& a, Role r) {
  return static_cast<int>(std::min(static_cast<unsigned>(r), static_cast<unsigned>(a.parts) - 1));
}
inline int position_of(const AttentionAttrs& a, Role r) { return r - input_of(a, r); }
inline int parts_of_input(const AttentionAttrs& a, int input) {
  return input == a.parts - 1 ? 4 - a.parts : 1;
}
inline int64_t width_of(const AttentionAttrs& a, int input, int64_t last_size) {
  return last_size / (parts_of_input(a, input) * std::max<int64_t>(a.heads, 1));
}

inline int64_t size_at(const Shape& s, int axis_from_end) { return s[s.rank() - axis_from_end]; }
inline Shape leading(const Shape& s) { return Shape(s.data(), static_cast<size_t>(s.rank() - 2)); }

std::string describe_attention(const AttentionAttrs& a);

/// Shapes of the result and of the weights; all errors of inputs are thrown here.
struct AttentionShapes {
  Shape output;
  Shape weights;
};
AttentionShapes infer_attention(const OpDoc& doc, const AttentionAttrs& a, Span<const Meta> in);
Cost attention_cost(const AttentionAttrs& a, Span<const Meta> in, Span<const Meta> out);

/// The rule: gradients of the inputs from those of the result and of the weights `p`, either of
/// which may be undefined.
Grads attention_rule(const Saved& s, const Tensor& gy, const Tensor& gp, const Tensor& p);

/// Slope of head h of `heads`.
double alibi_slope(int64_t h, int64_t heads);

// Where the matrices of one of query, key, value and output lie: one for each index of `lead`, the
// leading axes of the weights, of which the last counts the heads, if there are any.
class Heads {
 public:
  // Of an array that has nothing but this matrix in its last axis, as the output.
  Heads(const AttentionAttrs& a, const Array& array, const Shape& lead)
      : Heads(a, array, 0, array.size(array.rank() - 1) / std::max<int64_t>(a.heads, 1), lead) {}
  // Of an input that holds `role`.
  Heads(const AttentionAttrs& a, const Array& array, Role role, const Shape& lead)
      : Heads(a, array, position_of(a, role),
              width_of(a, input_of(a, role), array.size(array.rank() - 1)), lead) {}

  int64_t offset(const int64_t* index) const {
    int64_t at = first_;
    for (int i = 0; i < rank_; ++i) at += index[i] * strides_[i];
    return at;
  }
  /// The matrix from `row` on.
  template <class T>
  const T* at(const int64_t* index, int64_t row = 0) const {
    return matrices_.data<T>() + offset(index) + row * row_stride();
  }
  int64_t row_stride() const { return trans() ? 1 : ld(); }
  bool trans() const { return matrices_.trans(); }
  int64_t ld() const { return matrices_.ld(); }
  int64_t width() const { return width_; }

 private:
  // `position`: which of the parts of that width in the last axis.
  Heads(const AttentionAttrs& a, const Array& array, int position, int64_t width, const Shape& lead)
      : matrices_(array), width_(width) {
    const Array& m = matrices_.array();
    const int r = m.rank();
    const int axes = lead.rank() - (a.heads > 0 ? 1 : 0);
    for (int i = 0; i < axes; ++i) {
      const int at = i - (axes - (r - 2));
      strides_[i] = at < 0 || m.size(at) == 1 ? 0 : m.stride(at);
    }
    const int64_t column = matrices_.trans() ? matrices_.ld() : 1;
    if (a.heads > 0) strides_[axes] = width * column;
    first_ = position * std::max<int64_t>(a.heads, 1) * width * column;
    rank_ = lead.rank();
  }

  Matrices matrices_;
  int64_t width_;  // columns of the matrix
  int64_t strides_[kMaxRank];
  int64_t first_;
  int rank_;
};

// Calls f(count, index) for all indices of `lead` in row-major order.
template <class F>
void for_each_index(const Shape& lead, F&& f) {
  int64_t index[kMaxRank] = {};
  const int64_t n = lead.numel();
  for (int64_t k = 0; k < n; ++k) {
    f(k, index);
    for (int i = lead.rank() - 1; i >= 0 && ++index[i] == lead[i]; --i) index[i] = 0;
  }
}

// A mask as it is read at every index of the weights.
struct MaskView {
  MaskView(const Array& array, const Shape& weights) : mask(array), lead(weights.rank() - 2) {
    if (mask.defined()) broadcast_strides(mask, weights, strides);
  }
  template <class M>
  const M* at(const int64_t* index) const {
    const M* p = mask.data<M>();
    for (int i = 0; i < lead; ++i) p += index[i] * strides[i];
    return p;
  }
  int64_t down() const { return strides[lead]; }
  int64_t right() const { return strides[lead + 1]; }

  Array mask;
  int lead;
  int64_t strides[kMaxRank];
};

/// The weights of one call, block of queries by block.
class AttentionWeights {
 public:
  /// `weights`: their shape. Inputs as the op got them.
  AttentionWeights(const AttentionAttrs& a, const Array& query, const Array& key, const Array& mask,
                   const Shape& weights)
      : a_(a),
        lead_(leading(weights)),
        rows_(size_at(weights, 2)),
        cols_(size_at(weights, 1)),
        query_(a, query, kQuery, lead_),
        key_(a, key, kKey, lead_),
        mask_(mask, weights) {}

  const Shape& lead() const { return lead_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  const Heads& query() const { return query_; }
  const Heads& key() const { return key_; }

  /// Weights of the rows [first, first + count) of matrix number `matrix`, at `index`, before
  /// dropout: to p, of whose rows, `cols` long, only the first visible() elements are written.
  template <class T>
  void compute(const int64_t* index, int64_t first, int64_t count, T* p) const;
  /// What dropout leaves of them, scaled; the same numbers as dropout() draws.
  template <class T>
  void drop(int64_t matrix, int64_t first, int64_t count, const T* p, T* kept) const;
  /// Keys that some row before `end` sees.
  int64_t visible(int64_t end) const { return visible(a_, end, cols_); }
  static int64_t visible(const AttentionAttrs& a, int64_t end, int64_t cols) {
    return a.causal ? std::clamp<int64_t>(end + a.offset, 0, cols) : cols;
  }

 private:
  const AttentionAttrs& a_;
  Shape lead_;
  int64_t rows_;
  int64_t cols_;
  Heads query_;
  Heads key_;
  MaskView mask_;
};

/// The gradient of one call, block of queries by block: what comes of its weights in query, key,
/// value and mask.
class AttentionGradient {
 public:
  /// `shape`: that of the weights; in blocks of `block` rows.
  AttentionGradient(const Saved& s, const Array& gy, const Shape& shape, int64_t block);

  bool needs_scores() const { return needs_scores_; }
  /// From weights p and what dropout left of them, of the rows [first, first + count) of matrix
  /// number `matrix`, at `index`; gw, the gradient of p, may be null.
  template <class T>
  void add(int64_t matrix, const int64_t* index, int64_t first, int64_t count, const T* p,
           const T* kept, const T* gw);
  void give(GradSink& sink);

 private:
  // The gradient of an input while it is put together from its parts and heads.
  struct Target {
    Array array;        // undefined where nobody wants it
    bool sums = false;  // several heads, samples or blocks share elements
  };
  const Target& to(Role r) const { return targets_[static_cast<size_t>(input_of(a_, r))]; }

  const Saved& s_;
  const AttentionAttrs& a_;
  Shape shape_;
  int64_t rows_;
  int64_t cols_;
  bool needs_mask_;
  bool needs_scores_;
  std::array<Target, 3> targets_;
  std::optional<Heads> from_;  // the gradient of the result
  std::array<std::optional<Heads>, 3> values_;
  std::array<std::optional<Heads>, 3> grads_;
  Array scores_;  // the gradient of the scores: of all of them for the mask, else of a block
};

}  // namespace ebb::ops
