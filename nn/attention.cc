// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/nn/init.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/position.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {

namespace {

bool same_tensor(const Tensor& a, const Tensor& b) {
  return &a == &b || (a.value().rep() == b.value().rep() && a.edge().node() == b.edge().node());
}

// embed_dim, where it and the others will do.
int64_t checked_size(int64_t embed_dim, int64_t num_heads,
                     const MultiheadAttentionOptions& options) {
  if (embed_dim < 1 || num_heads < 1 || options.kdim < 0 || options.vdim < 0) {
    throw ValueError(absl::StrCat("MultiheadAttention: embed_dim is ", embed_dim, ", num_heads ",
                                  num_heads, ", kdim ", options.kdim, ", vdim ", options.vdim,
                                  "; each must be at least 1"));
  }
  if (embed_dim % num_heads != 0) {
    throw ValueError(absl::StrCat("MultiheadAttention: embed_dim is ", embed_dim,
                                  "; it must be a multiple of num_heads=", num_heads));
  }
  if (options.rotary && embed_dim / num_heads % 2 != 0) {
    throw ValueError(absl::StrCat("MultiheadAttention: embed_dim is ", embed_dim, ", num_heads ",
                                  num_heads, "; rotary positions need heads of even width"));
  }
  if (!(options.dropout >= 0 && options.dropout <= 1)) {
    throw ValueError(
        absl::StrCat("MultiheadAttention: dropout is ", options.dropout, "; it must be in [0, 1]"));
  }
  return embed_dim;
}

// Copies [...,T,W] to a view of the same shape whose matrices lie in row-major order.
void copy_rows(const Array& from, const Array& to) {
  const int r = from.rank();
  const size_t bytes =
      static_cast<size_t>(from.size(r - 2) * from.size(r - 1)) * size_of(from.dtype());
  if (bytes == 0 || from.numel() == 0) return;
  const Shape lead(from.dims(), static_cast<size_t>(r - 2));
  int64_t index[kMaxRank] = {};
  for (int64_t n = 0; n < lead.numel(); ++n) {
    int64_t at[2] = {0, 0};
    for (int i = 0; i < r - 2; ++i) {
      at[0] += index[i] * from.stride(i);
      at[1] += index[i] * to.stride(i);
    }
    const auto size = static_cast<std::ptrdiff_t>(size_of(from.dtype()));
    std::memcpy(to.raw() + at[1] * size, from.raw() + at[0] * size, bytes);
    for (int i = r - 3; i >= 0 && ++index[i] == lead[i]; --i) index[i] = 0;
  }
}

}  // namespace

Tensor KeyValueCache::append(const Tensor& rows) {
  const Array from = contiguous(rows.array());
  const int r = from.rank();
  if (r < 2) {
    throw ShapeError(
        absl::StrCat("KeyValueCache: rows are ", from.shape().str(), "; they must be [...,T,W]"));
  }
  const int64_t count = from.size(r - 2);
  const auto with_length = [&](const Array& a, int64_t length) {
    Shape s = a.shape();
    s[s.rank() - 2] = length;
    return s;
  };
  if (length_ == 0) {
    const bool fits = room_.defined() && room_.dtype() == from.dtype() &&
                      with_length(room_, 0) == with_length(from, 0);
    if (!fits) room_ = Array();
  } else if (room_.dtype() != from.dtype() || with_length(room_, 0) != with_length(from, 0)) {
    throw ShapeError(absl::StrCat("KeyValueCache: rows are ", from.meta().str(), ", those before ",
                                  Meta{room_.dtype(), with_length(room_, length_)}.str(),
                                  "; only their number may differ"));
  }
  const auto part = [&](const Array& a, int64_t first, int64_t length) {
    return a.view(with_length(a, length), a.strides(), first * a.stride(r - 2));
  };
  const int64_t room = room_.defined() ? room_.size(r - 2) : 0;
  if (length_ + count > room) {
    constexpr int64_t kLeast = 64;
    const Array larger = Array::empty(
        from.dtype(), with_length(from, std::max({length_ + count, 2 * room, kLeast})));
    if (length_ > 0) {
      copy_rows(part(room_, 0, length_), part(larger, 0, length_));
    }
    room_ = larger;
  }
  copy_rows(from, part(room_, length_, count));
  length_ += count;
  return Tensor(part(room_, 0, length_));
}

MultiheadAttention::MultiheadAttention(int64_t embed_dim, int64_t num_heads,
                                       MultiheadAttentionOptions options) try
    : out_proj(*this, "out_proj", checked_size(embed_dim, num_heads, options), embed_dim,
               {.bias = options.bias}),
      embed_dim_(embed_dim),
      num_heads_(num_heads),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("MultiheadAttention");
}

MultiheadAttention::MultiheadAttention(Module& parent, std::string name, int64_t embed_dim,
                                       int64_t num_heads, MultiheadAttentionOptions options) try
    : Module(parent, std::move(name)),
      out_proj(*this, "out_proj", checked_size(embed_dim, num_heads, options), embed_dim,
               {.bias = options.bias}),
      embed_dim_(embed_dim),
      num_heads_(num_heads),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("MultiheadAttention");
}

void MultiheadAttention::start() {
  const int64_t e = embed_dim_;
  if (options_.kdim == 0) options_.kdim = e;
  if (options_.vdim == 0) options_.vdim = e;
  const auto make = [&](const char* name, const Shape& shape) {
    Parameter p = register_parameter(name, zeros(shape));
    init::xavier_uniform_(p);
    return p;
  };
  if (options_.kdim == e && options_.vdim == e) {
    in_proj_weight = make("in_proj_weight", {3 * e, e});
  } else {
    q_proj_weight = make("q_proj_weight", {e, e});
    k_proj_weight = make("k_proj_weight", {e, options_.kdim});
    v_proj_weight = make("v_proj_weight", {e, options_.vdim});
  }
  if (!options_.bias) return;
  in_proj_bias = register_parameter("in_proj_bias", zeros({3 * e}));
  init::zeros_(out_proj.bias);
}

// The projections `first` to `first` + `count` of query, key and value, side by side.
Tensor MultiheadAttention::project(const Tensor& x, int first, int count) const {
  const auto rows = [&](const Parameter& p) {
    return count == 3 ? p.tensor() : narrow(p, 0, first * embed_dim_, count * embed_dim_);
  };
  const Parameter* const apart[] = {&q_proj_weight, &k_proj_weight, &v_proj_weight};
  const Tensor weight = packed() ? rows(in_proj_weight) : apart[first]->tensor();
  return in_proj_bias.defined() ? linear(x, weight, rows(in_proj_bias)) : linear(x, weight);
}

// Projections with their first columns turned by the positions, of which the first is `position`.
Tensor MultiheadAttention::turned(const Tensor& projected, int64_t columns,
                                  int64_t position) const {
  if (!options_.rotary) return projected;
  return rotary_embedding(projected, embed_dim_ / num_heads_,
                          {.offset = position, .base = options_.rotary_base, .columns = columns});
}

// The masks as one that scaled_dot_product_attention takes, true where a query sees a key;
// undefined where there is none. Samples come first in query and key.
Tensor MultiheadAttention::mask_of(const MultiheadAttentionCall& call, const Tensor& query,
                                   int64_t cols) const {
  const bool batched = query.dim() == 3;
  const int64_t n = batched ? query.size(0) : 1;
  const int64_t rows = query.size(-2);
  const auto require = [&](const char* name, const Tensor& mask, const Shape& want,
                           const Shape& other) {
    if (mask.shape() != want && mask.shape() != other) {
      throw ShapeError(absl::StrCat("MultiheadAttention: ", name, " is ", mask.shape().str(),
                                    "; it must be ", want.str(),
                                    want == other ? "" : absl::StrCat(" or ", other.str())));
    }
    if (mask.dtype() != kBool && mask.dtype() != query.dtype()) {
      throw DTypeError(absl::StrCat("MultiheadAttention: ", name, " is ", name_of(mask.dtype()),
                                    "; it must be bool or ", name_of(query.dtype())));
    }
  };
  Tensor attn = call.attn_mask;
  if (attn.defined()) {
    require("attn_mask", attn, {rows, cols}, {n * num_heads_, rows, cols});
    if (attn.dim() == 3 && batched) attn = reshape(attn, {n, num_heads_, rows, cols});
  }
  Tensor padding = call.key_padding_mask;
  if (padding.defined()) {
    const Shape want = batched ? Shape{n, cols} : Shape{cols};
    require("key_padding_mask", padding, want, want);
    if (batched) padding = reshape(padding, {n, 1, 1, cols});
  }
  if (!attn.defined() || !padding.defined()) {
    const Tensor& one = attn.defined() ? attn : padding;
    return one.defined() && one.dtype() == kBool ? logical_not(one) : one;
  }
  if (attn.dtype() == kBool && padding.dtype() == kBool) {
    return logical_not(logical_or(attn, padding));
  }
  // A bool mask beside a floating one is one of -infinity.
  const auto floating = [&](const Tensor& mask) {
    if (mask.dtype() != kBool) return mask;
    return masked_fill(zeros(mask.shape(), {.dtype = query.dtype()}), mask,
                       -std::numeric_limits<double>::infinity());
  };
  return floating(attn) + floating(padding);
}

MultiheadAttentionOutput MultiheadAttention::operator()(const Tensor& query, const Tensor& key,
                                                        const Tensor& value,
                                                        const MultiheadAttentionCall& call,
                                                        Where where) const try {
  const ebb::detail::PlaceScope scope(where);
  const int64_t e = embed_dim_;
  const int rank = query.dim();
  const auto fits = [&](const Tensor& x, int64_t width) {
    if (x.dim() != rank || x.size(-1) != width) return false;
    return rank == 2 ||
           x.size(options_.batch_first ? 0 : 1) == query.size(options_.batch_first ? 0 : 1);
  };
  if ((rank != 2 && rank != 3) || !fits(query, e) || !fits(key, options_.kdim) ||
      !fits(value, options_.vdim)) {
    throw ShapeError(absl::StrCat("MultiheadAttention: query is ", query.shape().str(), ", key is ",
                                  key.shape().str(), ", value is ", value.shape().str(),
                                  "; they must be [T,", e, "], [S,", options_.kdim, "], [S,",
                                  options_.vdim, "], or have one axis more of the same size, the ",
                                  options_.batch_first ? "first" : "second"));
  }
  const bool swap = rank == 3 && !options_.batch_first;
  const auto samples_first = [&](const Tensor& x) { return swap ? transpose(x, 0, 1) : x; };
  const bool shared_keys = packed() && same_tensor(key, value);
  const Tensor q = samples_first(query);
  const bool one = same_tensor(query, key);
  const Tensor k = shared_keys && one ? q : samples_first(key);
  const bool self = shared_keys && one;
  if (call.cache != nullptr && !self) {
    throw ValueError(
        "MultiheadAttention: with a cache query, key and value must be one tensor, and as wide as "
        "embed_dim");
  }
  const int64_t position = call.cache != nullptr ? call.cache->length() : 0;
  absl::InlinedVector<Tensor, 3> inputs;
  if (self) {
    inputs.push_back(turned(project(q, 0, 3), 2 * e, position));
  } else {
    inputs.push_back(turned(project(q, 0, 1), e, 0));
    inputs.push_back(turned(project(k, 1, shared_keys ? 2 : 1), e, 0));
    if (!shared_keys) inputs.push_back(project(samples_first(value), 2, 1));
  }
  if (call.cache != nullptr) {
    inputs.push_back(call.cache->append(narrow(inputs[0], -1, e, 2 * e)));
    inputs[0] = narrow(inputs[0], -1, 0, e);
  }
  const int64_t cols = call.cache != nullptr ? call.cache->length() : k.size(-2);
  const int64_t weights_count = q.numel() / e * num_heads_ * cols;
  AttentionOptions options{.dropout_p = is_training() ? options_.dropout : 0,
                           .is_causal = call.is_causal,
                           .alibi = options_.alibi,
                           .query_offset = position,
                           .keep_weights = call.need_weights || weights_count <= kKeptWeights};
  if (call.attn_mask.defined() || call.key_padding_mask.defined()) {
    options.attn_mask = mask_of(call, q, cols);
  }
  const Generator::State before = default_generator().state();
  AttentionOutput attended = multi_head_attention(inputs, num_heads_, options);
  Tensor y = out_proj(attended.output);
  if (swap) y = transpose(y, 0, 1);
  if (!call.need_weights) return {std::move(y), Tensor()};
  Tensor weights = std::move(attended.weights);
  if (options.dropout_p > 0) {  // as the values met them
    Generator same(before);
    weights = dropout(weights, options.dropout_p, true, same);
  }
  if (call.average_attn_weights) weights = mean(weights, -3);
  return {std::move(y), std::move(weights)};
} catch (const Error&) {
  ebb::detail::rethrow_as("MultiheadAttention");
}

std::unique_ptr<Module> MultiheadAttention::clone() const {
  return clone_as(*this, embed_dim_, num_heads_, options_);
}

}  // namespace ebb::nn
