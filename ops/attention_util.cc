// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/attention_util.h"

#include <bit>
#include <cmath>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb::ops {

namespace {

constexpr const char* kNames[3][3] = {
    {"query_key_value", "", ""}, {"query", "key_value", ""}, {"query", "key", "value"}};

const char* name(const AttentionAttrs& a, int input) {
  return input == a.parts ? "attn_mask" : kNames[a.parts - 1][input];
}

template <class... Why>
[[noreturn]] void misfit(const OpDoc& doc, const AttentionAttrs& a, Span<const Meta> in,
                         const Why&... why) {
  std::string message = absl::StrCat(doc.name, ": ");
  for (size_t i = 0; i < in.size(); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : ", ", name(a, static_cast<int>(i)), " is ",
                    in[i].shape.str());
  }
  throw ShapeError(absl::StrCat(message, "; ", why...));
}

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
  const Shape s = y.shape();
  Shape to(s.data(), static_cast<size_t>(s.rank() - 1));
  to[to.rank() - 1] = size_at(s, 1) * a.heads;
  return reshape(y, to);
}

}  // namespace

std::string describe_attention(const AttentionAttrs& a) {
  std::string s = absl::StrCat("scale=", a.scale);
  if (a.heads > 0) absl::StrAppend(&s, " heads=", a.heads);
  if (a.causal) absl::StrAppend(&s, " causal");
  if (a.alibi) absl::StrAppend(&s, " alibi");
  if (a.offset != 0) absl::StrAppend(&s, " query_offset=", a.offset);
  if (a.dropout > 0) absl::StrAppend(&s, " dropout=", a.dropout);
  return s;
}

double alibi_slope(int64_t h, int64_t heads) {
  // Powers of 2^(-8/n) for the largest power of two n, then every second one of those for 2n.
  const auto n = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  const double step = -8.0 / static_cast<double>(n);
  if (h < n) return std::exp2(step * static_cast<double>(h + 1));
  return std::exp2(step / 2 * static_cast<double>(2 * (h - n) + 1));
}

AttentionShapes infer_attention(const OpDoc& doc, const AttentionAttrs& a, Span<const Meta> in) {
  const auto parts = static_cast<size_t>(a.parts);
  require_inputs(doc, in, parts + (a.has_mask ? 1 : 0));
  require_floating(doc, in.first(parts));
  require_same_dtype(doc, in.first(parts));
  const DType dtype = in[0].dtype;
  const int64_t heads = std::max<int64_t>(a.heads, 1);
  for (int i = 0; i < a.parts; ++i) {
    const Shape& s = in[static_cast<size_t>(i)].shape;
    if (s.rank() < 2) misfit(doc, a, in, name(a, i), " must have rank 2 at least");
    const int64_t pieces = heads * parts_of_input(a, i);
    if (size_at(s, 1) % pieces != 0) {
      misfit(doc, a, in, name(a, i), ".size(-1)=", size_at(s, 1), " must be a multiple of ",
             pieces);
    }
  }
  const auto holder = [&](Role r) -> const Shape& {
    return in[static_cast<size_t>(input_of(a, r))].shape;
  };
  const auto width = [&](Role r) { return width_of(a, input_of(a, r), size_at(holder(r), 1)); };
  if (width(kQuery) != width(kKey)) {
    misfit(doc, a, in, "a query has ", width(kQuery), " elements, a key ", width(kKey));
  }
  const int64_t queries = size_at(holder(kQuery), 2);
  const int64_t keys = size_at(holder(kKey), 2);
  if (keys != size_at(holder(kValue), 2)) {
    misfit(doc, a, in, "key.size(-2)=", keys,
           " must equal value.size(-2)=", size_at(holder(kValue), 2));
  }
  Shape lead = leading(holder(kQuery));
  if (!broadcast_shapes(lead, leading(holder(kKey)), &lead) ||
      !broadcast_shapes(lead, leading(holder(kValue)), &lead)) {
    misfit(doc, a, in, "the axes before the last two must be equal or 1, from the last one on");
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
      throw DTypeError(absl::StrCat(doc.name, ": attn_mask is ", mask.str(),
                                    "; it must be bool or ", name_of(dtype)));
    }
    Shape joint;
    if (!broadcast_shapes(mask.shape, p, &joint) || joint != p) {
      misfit(doc, a, in, "attn_mask must broadcast to ", p.str());
    }
  }
  return {y, p};
}

Cost attention_cost(const AttentionAttrs& a, Span<const Meta> in, Span<const Meta> out) {
  const auto sizes = [&](Role r) -> const Shape& {
    return in[static_cast<size_t>(input_of(a, r))].shape;
  };
  const Shape& y = out[0].shape;
  const auto heads = static_cast<double>(std::max<int64_t>(a.heads, 1));
  const auto width = static_cast<double>(width_of(a, 0, size_at(sizes(kQuery), 1)));
  double weights = heads * static_cast<double>(size_at(sizes(kKey), 2));
  for (int i = 0; i + 1 < y.rank(); ++i) weights *= static_cast<double>(y[i]);
  Cost c = detail::default_cost(in, out);
  // Both products, and the softmax.
  c.multiply_adds = weights * (width + static_cast<double>(size_at(y, 1)) / heads + 4);
  return c;
}

Grads attention_rule(const Saved& s, const Tensor& gy_joined, const Tensor& gw, const Tensor& p) {
  const AttentionAttrs& a = s.attrs<AttentionAttrs>();
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
  Tensor gy;
  if (gy_joined.defined()) gy = split_heads(a, gy_joined);
  std::array<Tensor, 3> grads;
  Grads result(static_cast<size_t>(s.n_inputs()));
  if (needs(kQuery) || needs(kKey) || needs_mask) {
    Tensor gp;
    if (gy.defined()) gp = dropped(a, matmul(gy, transpose(part(kValue), -2, -1)));
    if (gw.defined()) gp = gp.defined() ? gp + gw : gw;
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
  if (needs(kValue) && gy.defined()) {
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
        pieces.push_back(zeros_like(pieces.back()));  // of the values, where only weights were used
      }
    }
    if (pieces.empty()) continue;
    const Tensor joined = pieces.size() == 1 ? pieces[0] : cat(pieces, -1);
    result[static_cast<size_t>(i)] = sum_to(joined, s.in_shape(i));
  }
  return result;
}

template <class T>
void AttentionWeights::compute(const int64_t* index, int64_t first, int64_t count, T* p) const {
  const int64_t n = visible(first + count);
  if (n == 0) return;
  kernels::gemm(query_.trans(), !key_.trans(), count, n, query_.width(), static_cast<T>(a_.scale),
                query_.at<T>(index, first), query_.ld(), key_.at<T>(index), key_.ld(), T{0}, p,
                cols_);
  double slope = 0;
  if (a_.alibi) {
    const int last = lead_.rank() - 1;
    slope = last < 0 ? alibi_slope(0, 1) : alibi_slope(index[last], lead_[last]);
  }
  for (int64_t i = first; i < first + count; ++i, p += cols_) {
    const int64_t sees = visible(i + 1);
    if (a_.alibi) {
      for (int64_t j = 0; j < sees; ++j) {
        p[j] -= static_cast<T>(slope * static_cast<double>(std::abs(i + a_.offset - j)));
      }
    }
    if (sees == 0 || (a_.has_mask && !mask_row(mask_, index, i, p, sees))) {
      std::fill_n(p, n, T{0});
      continue;
    }
    kernels::softmax_row(p, p, static_cast<size_t>(sees));
    std::fill(p + sees, p + n, T{0});
  }
}

template <class T>
void AttentionWeights::drop(int64_t matrix, int64_t first, int64_t count, const T* p,
                            T* kept) const {
  constexpr int64_t kChunk = 512;
  const T scales[] = {0, a_.dropout == 1 ? T{0} : static_cast<T>(1 / (1 - a_.dropout))};
  const int64_t n = visible(first + count);
  uint8_t keep[kChunk];
  Generator g(a_.state);
  g.skip(static_cast<uint64_t>((matrix * rows_ + first) * cols_));
  for (int64_t i = 0; i < count; ++i, p += cols_, kept += cols_) {
    for (int64_t at = 0; at < n; at += kChunk) {
      const int64_t m = std::min(kChunk, n - at);
      g.fill_bernoulli(keep, static_cast<size_t>(m), 1 - a_.dropout);
      for (int64_t j = 0; j < m; ++j) kept[at + j] = p[at + j] * scales[keep[j]];
    }
    g.skip(static_cast<uint64_t>(cols_ - n));
  }
}

AttentionGradient::AttentionGradient(const Saved& s, const Array& gy, const Shape& shape,
                                     int64_t block)
    : s_(s),
      a_(s.attrs<AttentionAttrs>()),
      shape_(shape),
      rows_(size_at(shape, 2)),
      cols_(size_at(shape, 1)),
      needs_mask_(a_.has_mask && s.needs(a_.parts)) {
  const Shape lead = leading(shape);
  const DType dtype = gy.dtype();
  const int64_t batch = lead.numel() / std::max<int64_t>(a_.heads, 1);
  for (int i = 0; i < a_.parts; ++i) {
    if (!s.needs(i)) continue;
    const Shape to_shape = s.in_shape(i);
    // Several blocks add to the same keys and values, and some keys may be seen by none.
    const bool holds_keys = i + parts_of_input(a_, i) > 1;
    const bool partly =
        rows_ == 0 || block < rows_ || AttentionWeights::visible(a_, rows_, cols_) < cols_;
    const bool sums = leading(to_shape).numel() != batch || (partly && holds_keys);
    targets_[static_cast<size_t>(i)] = {
        sums ? Array::zeros(dtype, to_shape) : Array::empty(dtype, to_shape), sums};
  }
  needs_scores_ = to(kQuery).array.defined() || to(kKey).array.defined() || needs_mask_;
  if (needs_mask_) {
    scores_ = a_.causal ? Array::zeros(dtype, shape) : Array::empty(dtype, shape);
  } else if (needs_scores_) {
    scores_ = Array::empty(dtype, {std::min(block, rows_), cols_});
  }
  from_.emplace(a_, gy, lead);
  for (const Role r : {kQuery, kKey, kValue}) {
    const auto at = static_cast<size_t>(r);
    const bool read = r == kValue   ? needs_scores_
                      : r == kQuery ? to(kKey).array.defined()
                                    : to(kQuery).array.defined();
    if (read) values_[at].emplace(a_, s.in_array(input_of(a_, r)), r, lead);
    if (to(r).array.defined()) grads_[at].emplace(a_, to(r).array, r, lead);
  }
}

template <class T>
void AttentionGradient::add(int64_t matrix, const int64_t* index, int64_t first, int64_t count,
                            const T* p, const T* kept, const T* gw) {
  const auto& [q, k, v] = values_;
  const auto scale = static_cast<T>(a_.scale);
  const int64_t n = AttentionWeights::visible(a_, first + count, cols_);
  const int64_t ld = std::max<int64_t>(cols_, 1);
  // The part of a gradient that comes from this block, in m rows from `row` on.
  const auto product = [&](Role r, int64_t row, bool ta, bool tb, int64_t m, int64_t depth, T alpha,
                           const T* x, int64_t ldx, const T* y, int64_t ldy) {
    const Target& into = to(r);
    const Heads& h = *grads_[static_cast<size_t>(r)];
    kernels::gemm(ta, tb, m, h.width(), depth, alpha, x, ldx, y, ldy, into.sums ? T{1} : T{0},
                  into.array.mutable_data<T>() + h.offset(index) + row * h.ld(), h.ld());
  };
  const T* out = from_->at<T>(index, first);
  if (grads_[kValue]) {
    product(kValue, 0, true, from_->trans(), n, count, T{1}, kept, ld, out, from_->ld());
  }
  if (!needs_scores_) return;
  T* gs = scores_.mutable_data<T>() + (needs_mask_ ? (matrix * rows_ + first) * cols_ : 0);
  kernels::gemm(from_->trans(), !v->trans(), count, n, v->width(), T{1}, out, from_->ld(),
                v->at<T>(index), v->ld(), T{0}, gs, ld);
  // Where a weight is 0 by itself its gradient goes nowhere, so any value will do.
  const T left = a_.dropout == 1 ? T{0} : static_cast<T>(1 / (1 - a_.dropout));
  for (int64_t i = 0; i < count * cols_; i += cols_) {
    if (a_.dropout > 0) {
      for (int64_t j = i; j < i + n; ++j) gs[j] *= kept[j] != 0 ? left : T{0};
    }
    if (gw != nullptr) kernels::add_into(gw + i, gs + i, static_cast<size_t>(n));
    kernels::softmax_backward_row(p + i, gs + i, gs + i, static_cast<size_t>(n));
  }
  if (grads_[kQuery]) {
    product(kQuery, first, false, k->trans(), count, n, scale, gs, ld, k->at<T>(index), k->ld());
  }
  if (grads_[kKey]) {
    product(kKey, 0, true, q->trans(), n, count, scale, gs, ld, q->at<T>(index, first), q->ld());
  }
}

void AttentionGradient::give(GradSink& sink) {
  for (int i = 0; i < a_.parts; ++i) {
    Array& grad = targets_[static_cast<size_t>(i)].array;
    if (grad.defined()) sink.add(i, std::move(grad));
  }
  if (needs_mask_) {
    sink.add(a_.parts, sum_to(Tensor(std::move(scores_)), s_.in_shape(a_.parts)).value());
  }
}

#define EBB_INSTANTIATE(T)                                                                  \
  template void AttentionWeights::compute(const int64_t*, int64_t, int64_t, T*) const;      \
  template void AttentionWeights::drop(int64_t, int64_t, int64_t, const T*, T*) const;      \
  template void AttentionGradient::add(int64_t, const int64_t*, int64_t, int64_t, const T*, \
                                       const T*, const T*);
EBB_INSTANTIATE(float)
EBB_INSTANTIATE(double)
#undef EBB_INSTANTIATE

}  // namespace ebb::ops
