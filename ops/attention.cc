// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/product.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

struct AttentionAttrs {
  double scale = 1;
  double dropout = 0;
  Generator::State state;  // of the dropout
  int64_t heads = 0;       // side by side in the last axis; 0: that is one head
  int parts = 3;           // inputs that query, key and value come in
  bool has_mask = false;   // as the input after them
  bool causal = false;
};

enum Role { kQuery, kKey, kValue };

// The input that holds it, and which part of that input's last axis.
int input_of(const AttentionAttrs& a, Role r) { return std::min<int>(r, a.parts - 1); }
int position_of(const AttentionAttrs& a, Role r) { return r - input_of(a, r); }
int parts_of_input(const AttentionAttrs& a, int input) {
  return input == a.parts - 1 ? 4 - a.parts : 1;
}
int64_t width_of(const AttentionAttrs& a, int input, int64_t last_size) {
  return last_size / (parts_of_input(a, input) * std::max<int64_t>(a.heads, 1));
}

int64_t size_at(const Shape& s, int axis_from_end) { return s[s.rank() - axis_from_end]; }

Shape leading(const Shape& s) { return Shape(s.data(), static_cast<size_t>(s.rank() - 2)); }

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
  template <class T>
  const T* at(const int64_t* index) const {
    return matrices_.data<T>() + offset(index);
  }
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

// Applies the mask to the scores of a row, of which n are there. Whether one of them is left.
template <class T>
bool mask_row(const MaskView& m, const int64_t* index, int64_t row, T* scores, int64_t n) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  const int64_t step = m.right();
  if (m.mask.dtype() == kBool) {
    const bool* sees = m.at<bool>(index) + row * m.down();
    bool any = false;
    for (int64_t j = 0; j < n; ++j) {
      if (!sees[j * step]) scores[j] = kNone;
      any |= scores[j] != kNone;
    }
    return any;
  }
  const T* bias = m.at<T>(index) + row * m.down();
  bool any = false;
  for (int64_t j = 0; j < n; ++j) {
    scores[j] += bias[j * step];
    any |= scores[j] != kNone;  // NaN is something
  }
  return any;
}

// Scores of one head to weights.
template <class T>
void weigh(const AttentionAttrs& a, const MaskView& mask, const int64_t* index, T* p, int64_t rows,
           int64_t cols) {
  if (cols == 0) return;
  for (int64_t i = 0; i < rows; ++i, p += cols) {
    const int64_t n = a.causal ? std::min(i + 1, cols) : cols;
    if (a.has_mask && !mask_row(mask, index, i, p, n)) {
      std::fill_n(p, cols, T{0});
      continue;
    }
    kernels::softmax_row(p, p, static_cast<size_t>(n));
    std::fill(p + n, p + cols, T{0});
  }
}

// The weights that dropout leaves, scaled; the same numbers as dropout() draws.
template <class T>
void drop(const AttentionAttrs& a, Generator& g, const T* p, T* kept, int64_t n) {
  constexpr int64_t kChunk = 512;
  const T scales[] = {0, a.dropout == 1 ? T{0} : static_cast<T>(1 / (1 - a.dropout))};
  uint8_t keep[kChunk];
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    g.fill_bernoulli(keep, static_cast<size_t>(count), 1 - a.dropout);
    for (int64_t i = 0; i < count; ++i) kept[at + i] = p[at + i] * scales[keep[i]];
  }
}

// The gradient of the weights from that of those which dropout left. Where a weight is 0 by itself
// its gradient goes nowhere, so any value will do.
template <class T>
void undrop(const AttentionAttrs& a, const T* kept, T* g, int64_t n) {
  const T scale = a.dropout == 1 ? T{0} : static_cast<T>(1 / (1 - a.dropout));
  for (int64_t i = 0; i < n; ++i) g[i] *= kept[i] != 0 ? scale : T{0};
}

Tensor dropped(const AttentionAttrs& a, const Tensor& x) {
  if (a.dropout == 0) return x;
  Generator g(a.state);
  return dropout(x, a.dropout, true, g);
}

// [...,n,H w] to [...,H,n,w], and back.
Tensor split_heads(const AttentionAttrs& a, const Tensor& x) {
  if (a.heads == 0) return x;
  Shape shape = x.shape();
  const int64_t width = size_at(shape, 1) / a.heads;
  shape[shape.rank() - 1] = a.heads;
  shape.push_back(width);
  return transpose(reshape(x, shape), -3, -2);
}
Tensor join_heads(const AttentionAttrs& a, const Tensor& x) {
  if (a.heads == 0) return x;
  const Tensor y = transpose(x, -3, -2);
  return reshape(y, [&] {
    const Shape s = y.shape();
    Shape to(s.data(), static_cast<size_t>(s.rank() - 1));
    to[to.rank() - 1] = size_at(s, 1) * a.heads;
    return to;
  }());
}

constexpr const char* kNames[3][3] = {
    {"query_key_value", "", ""}, {"query", "key_value", ""}, {"query", "key", "value"}};

}  // namespace

struct Attention {
  static constexpr OpDoc kDoc{"scaled_dot_product_attention",
                              "y = p value, p = softmax(scale query key' + mask)",
                              "query:[...,t,d] key:[...,s,d] value:[...,s,e] mask:[...,t,s] -> "
                              "y:[...,t,e] p:[...,t,s]"};
  using Attrs = AttentionAttrs;
  static std::string describe(const Attrs& a) {
    std::string s = absl::StrCat("scale=", a.scale);
    if (a.heads > 0) absl::StrAppend(&s, " heads=", a.heads);
    if (a.causal) absl::StrAppend(&s, " causal");
    if (a.dropout > 0) absl::StrAppend(&s, " dropout=", a.dropout);
    return s;
  }
  static GradUses uses(const Attrs& a, int input) {
    const auto holding = [&](Role r) { return detail::bit(input_of(a, r)); };
    GradUses u{.out = 0b110, .shapes = detail::bit(input)};
    const bool mask = input == a.parts;
    const bool q = input == input_of(a, kQuery);
    const bool k = input == input_of(a, kKey);
    if (q || k || mask) u.in |= holding(kValue);
    if (q) u.in |= holding(kKey);
    if (k) u.in |= holding(kQuery);
    return u;
  }

  template <class... Why>
  [[noreturn]] static void misfit(const Attrs& a, Span<const Meta> in, const Why&... why) {
    std::string message = absl::StrCat(kDoc.name, ": ");
    for (size_t i = 0; i < in.size(); ++i) {
      absl::StrAppend(&message, i == 0 ? "" : ", ", name(a, static_cast<int>(i)), " is ",
                      in[i].shape.str());
    }
    throw ShapeError(absl::StrCat(message, "; ", why...));
  }
  static const char* name(const Attrs& a, int input) {
    return input == a.parts ? "attn_mask" : kNames[a.parts - 1][input];
  }

  // Outputs: the result, the weights, and with dropout those that are left.
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    const auto parts = static_cast<size_t>(a.parts);
    require_inputs(kDoc, in, parts + (a.has_mask ? 1 : 0));
    require_floating(kDoc, in.first(parts));
    require_same_dtype(kDoc, in.first(parts));
    const DType dtype = in[0].dtype;
    const int64_t heads = std::max<int64_t>(a.heads, 1);
    for (int i = 0; i < a.parts; ++i) {
      const Shape& s = in[static_cast<size_t>(i)].shape;
      if (s.rank() < 2) misfit(a, in, name(a, i), " must have rank 2 at least");
      const int64_t pieces = heads * parts_of_input(a, i);
      if (size_at(s, 1) % pieces != 0) {
        misfit(a, in, name(a, i), ".size(-1)=", size_at(s, 1), " must be a multiple of ", pieces);
      }
    }
    const auto holder = [&](Role r) -> const Shape& {
      return in[static_cast<size_t>(input_of(a, r))].shape;
    };
    const auto width = [&](Role r) { return width_of(a, input_of(a, r), size_at(holder(r), 1)); };
    if (width(kQuery) != width(kKey)) {
      misfit(a, in, "a query has ", width(kQuery), " elements, a key ", width(kKey));
    }
    const int64_t queries = size_at(holder(kQuery), 2);
    const int64_t keys = size_at(holder(kKey), 2);
    if (keys != size_at(holder(kValue), 2)) {
      misfit(a, in, "key.size(-2)=", keys,
             " must equal value.size(-2)=", size_at(holder(kValue), 2));
    }
    Shape lead = leading(holder(kQuery));
    if (!broadcast_shapes(lead, leading(holder(kKey)), &lead) ||
        !broadcast_shapes(lead, leading(holder(kValue)), &lead)) {
      misfit(a, in, "the axes before the last two must be equal or 1, from the last one on");
    }
    Shape y = lead;
    y.push_back(queries);
    y.push_back(heads * width(kValue));
    Shape p = lead;
    if (a.heads > 0) p.push_back(a.heads);
    p.push_back(queries);
    p.push_back(keys);
    if (a.has_mask) {
      const Meta& mask = in[parts];
      if (mask.dtype != kBool && mask.dtype != dtype) {
        throw DTypeError(absl::StrCat(kDoc.name, ": attn_mask is ", mask.str(),
                                      "; it must be bool or ", name_of(dtype)));
      }
      Shape joint;
      if (!broadcast_shapes(mask.shape, p, &joint) || joint != p) {
        misfit(a, in, "attn_mask must broadcast to ", p.str());
      }
    }
    Metas out{{dtype, y}, {dtype, p}};
    if (a.dropout > 0) out.push_back({dtype, p});
    return out;
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const auto keys = static_cast<double>(size_at(out[1].shape, 1));
    // Both products, of equal widths as a rule, and the softmax.
    c.multiply_adds = 2 * keys * static_cast<double>(out[0].shape.numel()) +
                      4 * static_cast<double>(out[1].shape.numel());
    return c;
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto parts = static_cast<size_t>(a.parts);
    const auto holder = [&](Role r) -> const Array& {
      return in[static_cast<size_t>(input_of(a, r))];
    };
    const Shape shape = out[1].shape();
    const Shape lead = leading(shape);
    const int64_t rows = size_at(shape, 2);
    const int64_t cols = size_at(shape, 1);
    const Heads q(a, holder(kQuery), kQuery, lead);
    const Heads k(a, holder(kKey), kKey, lead);
    const Heads v(a, holder(kValue), kValue, lead);
    const Heads y(a, out[0], lead);
    const MaskView mask(a.has_mask ? in[parts] : Array(), shape);
    Generator g(a.state);
    visit_differentiable(out[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_index(lead, [&](int64_t count, const int64_t* index) {
        T* p = out[1].mutable_data<T>() + count * rows * cols;
        kernels::gemm(q.trans(), !k.trans(), rows, cols, q.width(), static_cast<T>(a.scale),
                      q.at<T>(index), q.ld(), k.at<T>(index), k.ld(), T{0}, p,
                      std::max<int64_t>(cols, 1));
        weigh(a, mask, index, p, rows, cols);
        if (a.dropout > 0) {
          T* kept = out[2].mutable_data<T>() + count * rows * cols;
          drop(a, g, p, kept, rows * cols);
          p = kept;
        }
        kernels::gemm(false, v.trans(), rows, y.width(), cols, T{1}, p, std::max<int64_t>(cols, 1),
                      v.at<T>(index), v.ld(), T{0}, out[0].mutable_data<T>() + y.offset(index),
                      y.ld());
      });
    });
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const auto needs = [&](Role r) { return s.needs(input_of(a, r)); };
    const bool needs_mask = a.has_mask && s.needs(a.parts);
    const auto part = [&](Role r) {
      const int input = input_of(a, r);
      Tensor x = s.in(input);
      if (const int parts = parts_of_input(a, input); parts > 1) {
        const int64_t width = x.size(-1) / parts;
        x = narrow(x, -1, position_of(a, r) * width, width);
      }
      return split_heads(a, x);
    };
    const Tensor p = s.out(1);
    Tensor gy;
    if (g.has(0)) gy = split_heads(a, g[0]);
    std::array<Tensor, 3> grads;
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (needs(kQuery) || needs(kKey) || needs_mask) {
      Tensor gp;
      if (g.has(0)) gp = dropped(a, matmul(gy, transpose(part(kValue), -2, -1)));
      if (g.has(1)) gp = gp.defined() ? gp + g[1] : g[1];
      if (gp.defined()) {
        const Tensor weighted = gp * p;
        const Tensor gs = weighted - p * sum(weighted, -1, true);
        if (needs(kQuery)) grads[kQuery] = matmul(gs, part(kKey)) * a.scale;
        if (needs(kKey)) {
          grads[kKey] = matmul(transpose(gs, -2, -1), part(kQuery)) * a.scale;
        }
        if (needs_mask) result[static_cast<size_t>(a.parts)] = sum_to(gs, s.in_shape(a.parts));
      }
    }
    if (needs(kValue) && g.has(0)) {
      grads[kValue] = matmul(transpose(dropped(a, p), -2, -1), gy);
    }
    for (int i = 0; i < a.parts; ++i) {
      if (!s.needs(i)) continue;
      absl::InlinedVector<Tensor, 3> pieces;
      for (int r = i; r < i + parts_of_input(a, i); ++r) {
        const Tensor& grad = grads[static_cast<size_t>(r)];
        if (grad.defined()) {
          pieces.push_back(join_heads(a, grad));
        } else if (!pieces.empty()) {
          pieces.push_back(
              zeros_like(pieces.back()));  // of the values, where only weights were used
        }
      }
      if (pieces.empty()) continue;
      const Tensor joined = pieces.size() == 1 ? pieces[0] : cat(pieces, -1);
      result[static_cast<size_t>(i)] = sum_to(joined, s.in_shape(i));
    }
    return result;
  }

  // The gradient of an input while it is put together from its parts and heads.
  struct Target {
    Array array;        // undefined where nobody wants it
    bool sums = false;  // several heads or samples share a matrix
  };
  static Target target(const Attrs& a, const Saved& s, int input, const Shape& lead, DType dtype) {
    if (!s.needs(input)) return {};
    const Shape shape = s.in_shape(input);
    const int64_t batch = lead.numel() / std::max<int64_t>(a.heads, 1);
    const bool sums = leading(shape).numel() != batch;
    return {sums ? Array::zeros(dtype, shape) : Array::empty(dtype, shape), sums};
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    // Without a gradient of the output there is little to fuse.
    if (!g.has(0)) return run_rule(&backward, s, g, sink);
    const Array& gy = g[0];
    const Array gw = g.has(1) ? contiguous(g[1]) : Array();
    const Array& weights = s.out_array(1);
    const Array& kept = a.dropout > 0 ? s.out_array(2) : weights;
    const Shape shape = weights.shape();
    const Shape lead = leading(shape);
    const int64_t rows = size_at(shape, 2);
    const int64_t cols = size_at(shape, 1);
    const bool needs_mask = a.has_mask && s.needs(a.parts);

    std::array<Target, 3> targets;
    for (int i = 0; i < a.parts; ++i) {
      targets[static_cast<size_t>(i)] = target(a, s, i, lead, weights.dtype());
    }
    const auto to = [&](Role r) -> const Target& {
      return targets[static_cast<size_t>(input_of(a, r))];
    };
    const bool needs_scores = to(kQuery).array.defined() || to(kKey).array.defined() || needs_mask;
    // Gradient of the scores: of all of them for the mask, else of one head at a time.
    Array scores;
    if (needs_mask) {
      scores = Array::empty(weights.dtype(), shape);
    } else if (needs_scores) {
      scores = Array::empty(weights.dtype(), {rows, cols});
    }
    const Heads from(a, gy, lead);
    std::array<std::optional<Heads>, 3> values;
    std::array<std::optional<Heads>, 3> grads;
    for (const Role r : {kQuery, kKey, kValue}) {
      const auto at = static_cast<size_t>(r);
      const bool read = r == kValue   ? needs_scores
                        : r == kQuery ? to(kKey).array.defined()
                                      : to(kQuery).array.defined();
      if (read) values[at].emplace(a, s.in_array(input_of(a, r)), r, lead);
      if (to(r).array.defined()) grads[at].emplace(a, to(r).array, r, lead);
    }
    const auto& [q, k, v] = values;

    visit_differentiable(weights.dtype(), [&](auto t) {
      using T = decltype(t);
      const auto scale = static_cast<T>(a.scale);
      const int64_t n = rows * cols;
      const int64_t ld = std::max<int64_t>(cols, 1);
      // The part of a gradient that comes from this head.
      const auto product = [&](Role r, bool ta, bool tb, int64_t m, int64_t depth, T alpha,
                               const T* x, int64_t ldx, const T* y, int64_t ldy,
                               const int64_t* index) {
        const Target& into = to(r);
        const Heads& h = *grads[static_cast<size_t>(r)];
        kernels::gemm(ta, tb, m, h.width(), depth, alpha, x, ldx, y, ldy, into.sums ? T{1} : T{0},
                      into.array.mutable_data<T>() + h.offset(index), h.ld());
      };
      for_each_index(lead, [&](int64_t count, const int64_t* index) {
        const T* out = from.at<T>(index);
        if (grads[kValue]) {
          product(kValue, true, from.trans(), cols, rows, T{1}, kept.data<T>() + count * n, ld, out,
                  from.ld(), index);
        }
        if (!needs_scores) return;
        const T* p = weights.data<T>() + count * n;
        T* gs = scores.mutable_data<T>() + (needs_mask ? count * n : 0);
        kernels::gemm(from.trans(), !v->trans(), rows, cols, v->width(), T{1}, out, from.ld(),
                      v->at<T>(index), v->ld(), T{0}, gs, ld);
        if (a.dropout > 0) undrop(a, kept.data<T>() + count * n, gs, n);
        if (gw.defined()) {
          kernels::add_into(gw.data<T>() + count * n, gs, static_cast<size_t>(n));
        }
        for (int64_t i = 0; i < n; i += cols) {
          kernels::softmax_backward_row(p + i, gs + i, gs + i, static_cast<size_t>(cols));
        }
        if (grads[kQuery]) {
          product(kQuery, false, k->trans(), rows, cols, scale, gs, ld, k->at<T>(index), k->ld(),
                  index);
        }
        if (grads[kKey]) {
          product(kKey, true, q->trans(), cols, rows, scale, gs, ld, q->at<T>(index), q->ld(),
                  index);
        }
      });
    });
    for (int i = 0; i < a.parts; ++i) {
      Array& grad = targets[static_cast<size_t>(i)].array;
      if (grad.defined()) sink.add(i, std::move(grad));
    }
    if (needs_mask) {
      sink.add(a.parts, sum_to(Tensor(std::move(scores)), s.in_shape(a.parts)).value());
    }
  }
};
EBB_OP(Attention)

namespace {

AttentionOutput attend(Span<const Tensor> inputs, int64_t heads, const AttentionOptions& options,
                       Generator& generator, Where where) {
  constexpr const char* kName = Attention::kDoc.name;
  const double p = options.dropout_p;
  if (!(p >= 0 && p <= 1)) {
    throw ValueError(absl::StrCat(kName, ": dropout_p is ", p, ", outside [0, 1]"));
  }
  AttentionAttrs a;
  a.dropout = p;
  a.state = generator.state();
  a.heads = heads;
  a.parts = static_cast<int>(inputs.size());
  a.has_mask = options.attn_mask.defined();
  a.causal = options.is_causal;
  if (options.scale) {
    a.scale = *options.scale;
  } else if (inputs[0].dim() > 0) {
    const int64_t width = width_of(a, 0, inputs[0].size(-1));
    a.scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(width, 1)));
  }
  const auto run = [&](const auto&... rest) {
    auto out = apply_multi<Attention>(a, At(inputs[0], where), rest...);
    // As many numbers as there are weights.
    if (p > 0) generator.skip(static_cast<uint64_t>(out[1].numel()));
    return AttentionOutput{std::move(out[0]), std::move(out[1])};
  };
  const Tensor& mask = options.attn_mask;
  switch (inputs.size()) {
    case 1:
      return a.has_mask ? run(mask) : run();
    case 2:
      return a.has_mask ? run(inputs[1], mask) : run(inputs[1]);
    default:
      return a.has_mask ? run(inputs[1], inputs[2], mask) : run(inputs[1], inputs[2]);
  }
}

}  // namespace

}  // namespace ops

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionOptions& options, Generator& generator,
                                    Where where) {
  const Tensor inputs[] = {query, key, value};
  return ops::attend(inputs, 0, options, generator, where).output;
}

AttentionOutput multi_head_attention(Span<const Tensor> inputs, int64_t heads,
                                     const AttentionOptions& options, Generator& generator,
                                     Where where) {
  if (inputs.empty() || inputs.size() > 3 || heads < 1) {
    throw ValueError(absl::StrCat("multi_head_attention: ", inputs.size(), " inputs and ", heads,
                                  " heads; there must be one to three inputs and a head"));
  }
  return ops::attend(inputs, heads, options, generator, where);
}

}  // namespace ebb
