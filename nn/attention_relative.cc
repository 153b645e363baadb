// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/attention_relative.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/nn/position.h"
#include "ebb/ops/attention.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/position.h"
#include "ebb/ops/random.h"
#include "ebb/ops/shape.h"

namespace ebb::nn {
namespace {

// embed_dim, where it and the others will do.
int64_t checked(const char* name, int64_t embed_dim, int64_t num_heads, int64_t max_distance,
                const RelativeAttentionOptions& options) {
  if (embed_dim < 1 || num_heads < 1 || embed_dim % num_heads != 0) {
    throw ValueError(absl::StrCat(name, ": embed_dim is ", embed_dim, ", num_heads ", num_heads,
                                  "; both must be at least 1, embed_dim a multiple of num_heads"));
  }
  if (max_distance < 0 || max_distance > int64_t{1} << 61) {
    throw ValueError(absl::StrCat(name, ": max_distance is ", max_distance,
                                  "; it must not be negative or above 2^61"));
  }
  if (!(options.dropout >= 0 && options.dropout <= 1)) {
    throw ValueError(
        absl::StrCat(name, ": dropout is ", options.dropout, "; it must be in [0, 1]"));
  }
  return embed_dim;
}

void require_sequence(const char* name, const char* what, const Tensor& x, int64_t width) {
  if ((x.dim() != 2 && x.dim() != 3) || x.size(-1) != width) {
    throw ShapeError(absl::StrCat(name, ": ", what, " is ", x.shape().str(),
                                  "; it must be [T,E] or [N,T,E] with E=", width));
  }
}

// [...,T,H D] as [...,H,T,D].
Tensor by_heads(const Tensor& x, int64_t heads) {
  Shape shape = x.shape();
  shape[shape.rank() - 1] = heads;
  shape.push_back(x.size(-1) / heads);
  return transpose(reshape(x, shape), -3, -2);
}

// Scores [...,H,T,S] of positions with those that are hidden taken out.
Tensor hidden(const char* name, const Tensor& scores, const Tensor& mask) {
  if (!mask.defined()) return scores;
  if (mask.dtype() != kBool) {
    throw DTypeError(
        absl::StrCat(name, ": attn_mask is ", name_of(mask.dtype()), "; it must be bool"));
  }
  const Shape one{scores.size(-2), scores.size(-1)};
  const Shape all = scores.dim() == 4 ? Shape{scores.size(0), 1, one[0], one[1]} : one;
  if (mask.shape() != one && mask.shape() != all) {
    throw ShapeError(absl::StrCat(name, ": attn_mask is ", mask.shape().str(), "; it must be ",
                                  one.str(), one == all ? "" : absl::StrCat(" or ", all.str())));
  }
  return masked_fill(scores, mask, -std::numeric_limits<double>::infinity());
}

}  // namespace

RelativePositionAttention::RelativePositionAttention(int64_t embed_dim, int64_t num_heads,
                                                     int64_t max_distance,
                                                     RelativeAttentionOptions options) try
    : embed_dim_(checked("RelativePositionAttention", embed_dim, num_heads, max_distance, options)),
      num_heads_(num_heads),
      max_distance_(max_distance),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("RelativePositionAttention");
}

RelativePositionAttention::RelativePositionAttention(Module& parent, std::string name,
                                                     int64_t embed_dim, int64_t num_heads,
                                                     int64_t max_distance,
                                                     RelativeAttentionOptions options) try
    : Module(parent, std::move(name)),
      embed_dim_(checked("RelativePositionAttention", embed_dim, num_heads, max_distance, options)),
      num_heads_(num_heads),
      max_distance_(max_distance),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("RelativePositionAttention");
}

void RelativePositionAttention::start() {
  const Shape table{2 * max_distance_ + 1, embed_dim_ / num_heads_};
  key_distances = register_parameter("key_distances", zeros(table));
  value_distances = register_parameter("value_distances", zeros(table));
  init::xavier_uniform_(key_distances);
  init::xavier_uniform_(value_distances);
}

Tensor RelativePositionAttention::operator()(const Tensor& x, const RelativeAttentionCall& call,
                                             Where where) const try {
  constexpr const char* kName = "RelativePositionAttention";
  const ebb::detail::PlaceScope scope(where);
  require_sequence(kName, "x", x, embed_dim_);
  const int64_t length = x.size(-2);
  const int64_t width = embed_dim_ / num_heads_;
  const Tensor qkv = in_proj(x);
  if (length == 0) return out_proj(narrow(qkv, -1, 0, embed_dim_));  // nobody attends
  const Tensor distances = clipped_distances(length, length, max_distance_);

  // Each query meets each vector of the table once, and every pair of positions picks its product.
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const Tensor query = by_heads(narrow(qkv, -1, 0, embed_dim_), num_heads_);
  const Tensor of_table = matmul(query, transpose(key_distances, 0, 1)) * scale;
  const Tensor positions = relative_shift(index_select(of_table, -1, distances), length);
  const Generator::State before = default_generator().state();
  const double dropped = is_training() ? options_.dropout : 0;
  const AttentionOutput attended =
      multi_head_attention(std::vector<Tensor>{qkv}, num_heads_,
                           {.attn_mask = hidden(kName, positions, call.attn_mask),
                            .dropout_p = dropped,
                            .is_causal = call.is_causal,
                            .keep_weights = true});
  Tensor weights = attended.weights;
  if (dropped > 0) {  // as the values met them
    Generator same(before);
    weights = dropout(weights, dropped, true, same);
  }

  // And the weights of all pairs of a distance are added up before they meet its vector.
  const Tensor by_distance = relative_unshift(weights);
  Shape table = by_distance.shape();
  table[table.rank() - 1] = 2 * max_distance_ + 1;
  const Tensor sums = index_add(zeros(table, {.dtype = x.dtype()}), -1, distances, by_distance);
  const Tensor more = transpose(matmul(sums, value_distances), -3, -2);
  return out_proj(attended.output + reshape(more, x.shape()));
} catch (const Error&) {
  ebb::detail::rethrow_as("RelativePositionAttention");
}

TransformerXLAttention::TransformerXLAttention(int64_t embed_dim, int64_t num_heads,
                                               RelativeAttentionOptions options) try
    : embed_dim_(checked("TransformerXLAttention", embed_dim, num_heads, 0, options)),
      num_heads_(num_heads),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerXLAttention");
}

TransformerXLAttention::TransformerXLAttention(Module& parent, std::string name, int64_t embed_dim,
                                               int64_t num_heads,
                                               RelativeAttentionOptions options) try
    : Module(parent, std::move(name)),
      embed_dim_(checked("TransformerXLAttention", embed_dim, num_heads, 0, options)),
      num_heads_(num_heads),
      options_(options) {
  start();
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerXLAttention");
}

void TransformerXLAttention::start() {
  const Shape shape{num_heads_, embed_dim_ / num_heads_};
  r_w_bias = register_parameter("r_w_bias", zeros(shape));
  r_r_bias = register_parameter("r_r_bias", zeros(shape));
}

Tensor TransformerXLAttention::operator()(const Tensor& x, const Tensor& memory,
                                          const RelativeAttentionCall& call, Where where) const
    try {
  constexpr const char* kName = "TransformerXLAttention";
  const ebb::detail::PlaceScope scope(where);
  require_sequence(kName, "x", x, embed_dim_);
  if (memory.defined()) {
    require_sequence(kName, "memory", memory, embed_dim_);
    if (memory.dim() != x.dim() || (x.dim() == 3 && memory.size(0) != x.size(0))) {
      throw ShapeError(absl::StrCat(kName, ": x is ", x.shape().str(), ", memory ",
                                    memory.shape().str(), "; they may differ in length only"));
    }
  }
  const int64_t length = x.size(-2);
  const int64_t past = memory.defined() ? memory.size(-2) : 0;
  const int64_t keys = past + length;

  // Keys and values of the memory come without queries; those of x in one product.
  const int64_t e = embed_dim_;
  const Tensor qkv = qkv_net(x);
  const Tensor query = narrow(qkv, -1, 0, e);
  if (length == 0) return o_net(query);  // nobody attends
  Tensor key_value = narrow(qkv, -1, e, 2 * e);
  if (past > 0) {
    const Tensor weight = narrow(qkv_net.weight, 0, e, 2 * e);
    const Tensor of_memory = options_.bias
                                 ? linear(memory, weight, narrow(qkv_net.bias, 0, e, 2 * e))
                                 : linear(memory, weight);
    key_value = cat(std::vector<Tensor>{of_memory, key_value}, -2);
  }

  // Distances from the last query to the first key down to that from the first query to the last.
  const Tensor ascending =
      sinusoidal_positional_encoding(length + keys - 1, e, {.dtype = x.dtype()}, 10000, 1 - length);
  const Tensor r = by_heads(r_net(flip(ascending, {0})), num_heads_);  // [H,T+S-1,D]
  const double scale = 1 / std::sqrt(static_cast<double>(e / num_heads_));
  const Tensor with_v = by_heads(query + reshape(r_r_bias, {e}), num_heads_);
  const Tensor positions = relative_shift(matmul(with_v, transpose(r, -2, -1)) * scale, keys);

  const std::vector<Tensor> inputs{query + reshape(r_w_bias, {e}), key_value};
  const AttentionOutput attended =
      multi_head_attention(inputs, num_heads_,
                           {.attn_mask = hidden(kName, positions, call.attn_mask),
                            .dropout_p = is_training() ? options_.dropout : 0,
                            .is_causal = call.is_causal,
                            .query_offset = past,
                            .keep_weights = true});
  return o_net(attended.output);
} catch (const Error&) {
  ebb::detail::rethrow_as("TransformerXLAttention");
}

}  // namespace ebb::nn
