// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/ops/attention_util.h"

namespace ebb {
namespace ops {

namespace {

// Queries that are taken together where each sees another number of keys: the more, the better for
// the products; the fewer, the less is computed that nobody sees.
constexpr int64_t kCausalBlock = 64;

// Calls f(first, count) for blocks of rows.
template <class F>
void for_each_block(int64_t rows, int64_t block, const F& f) {
  for (int64_t first = 0; first < rows; first += block) f(first, std::min(block, rows - first));
}

template <class T>
void attend_rows(const AttentionWeights& weights, const Heads& value, const Heads& y, T* to,
                 const int64_t* index, int64_t first, int64_t count, const T* kept) {
  kernels::gemm(false, value.trans(), count, y.width(), weights.visible(first + count), T{1}, kept,
                std::max<int64_t>(weights.cols(), 1), value.at<T>(index), value.ld(), T{0},
                to + y.offset(index) + first * y.ld(), y.ld());
}

}  // namespace

// Keeps the weights.
struct Attention {
  static constexpr OpDoc kDoc{"scaled_dot_product_attention",
                              "y = p value, p = softmax(scale query key' + mask)",
                              "query:[...,t,d] key:[...,s,d] value:[...,s,e] mask:[...,t,s] -> "
                              "y:[...,t,e] p:[...,t,s]"};
  using Attrs = AttentionAttrs;
  static std::string describe(const Attrs& a) { return describe_attention(a); }
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
  // Outputs: the result, the weights, and with dropout those that are left.
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    const AttentionShapes shapes = infer_attention(kDoc, a, in);
    const DType dtype = in[0].dtype;
    Metas out{{dtype, shapes.output}, {dtype, shapes.weights}};
    if (a.dropout > 0) out.push_back({dtype, shapes.weights});
    return out;
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return attention_cost(a, in, out);
  }
  static int64_t block_of(const Attrs& a, int64_t rows) {
    return std::max<int64_t>(a.causal ? std::min(rows, kCausalBlock) : rows, 1);
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const auto holder = [&](Role r) -> const Array& {
      return in[static_cast<size_t>(input_of(a, r))];
    };
    const AttentionWeights weights(a, holder(kQuery), holder(kKey),
                                   a.has_mask ? in[static_cast<size_t>(a.parts)] : Array(),
                                   out[1].shape());
    const Heads v(a, holder(kValue), kValue, weights.lead());
    const Heads y(a, out[0], weights.lead());
    const int64_t rows = weights.rows();
    const int64_t cols = weights.cols();
    visit_differentiable(out[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_index(weights.lead(), [&](int64_t count, const int64_t* index) {
        for_each_block(rows, block_of(a, rows), [&](int64_t first, int64_t n) {
          const int64_t at = (count * rows + first) * cols;
          T* p = out[1].mutable_data<T>() + at;
          weights.compute(index, first, n, p);
          T* kept = p;
          if (a.dropout > 0) {
            kept = out[2].mutable_data<T>() + at;
            weights.drop(count, first, n, p, kept);
          }
          // Nobody has written what no query of the block sees.
          const int64_t sees = weights.visible(first + n);
          for (int64_t i = 0; i < n && sees < cols; ++i) {
            std::fill(p + i * cols + sees, p + (i + 1) * cols, T{0});
            if (kept != p) std::fill(kept + i * cols + sees, kept + (i + 1) * cols, T{0});
          }
          attend_rows(weights, v, y, out[0].mutable_data<T>(), index, first, n, kept);
        });
      });
    });
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    return attention_rule(s, g.has(0) ? g[0] : Tensor(), g.has(1) ? g[1] : Tensor(), s.out(1));
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    // Without a gradient of the output there is little to fuse.
    if (!g.has(0)) return run_rule(&backward, s, g, sink);
    const Array gw = g.has(1) ? contiguous(g[1]) : Array();
    const Array& weights = s.out_array(1);
    const Array& kept = a.dropout > 0 ? s.out_array(2) : weights;
    const Shape shape = weights.shape();
    const int64_t rows = size_at(shape, 2);
    const int64_t cols = size_at(shape, 1);
    const int64_t block = block_of(a, rows);
    AttentionGradient gradient(s, g[0], shape, block);
    visit_differentiable(weights.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_index(leading(shape), [&](int64_t count, const int64_t* index) {
        for_each_block(rows, block, [&](int64_t first, int64_t n) {
          const int64_t at = (count * rows + first) * cols;
          gradient.add(count, index, first, n, weights.data<T>() + at, kept.data<T>() + at,
                       gw.defined() ? gw.data<T>() + at : nullptr);
        });
      });
    });
    gradient.give(sink);
  }
};
EBB_OP(Attention)

// Computes the weights again.
struct LeanAttention {
  static constexpr OpDoc kDoc{"scaled_dot_product_attention_lean",
                              "y = softmax(scale query key' + mask) value",
                              "query:[...,t,d] key:[...,s,d] value:[...,s,e] mask:[...,t,s] -> "
                              "y:[...,t,e]"};
  using Attrs = AttentionAttrs;
  static std::string describe(const Attrs& a) { return describe_attention(a); }
  static GradUses uses(const Attrs& a, int input) {
    const auto holding = [&](Role r) { return detail::bit(input_of(a, r)); };
    GradUses u{.in = holding(kQuery) | holding(kKey)};
    if (a.has_mask) u.in |= detail::bit(a.parts);
    u.in |= holding(kValue);  // of whose own gradient only the shape is needed
    u.shapes = detail::bit(input);
    return u;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    return {{in[0].dtype, infer_attention(kDoc, a, in).output}};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return attention_cost(a, in, out);
  }
  // So many rows that their weights stay in a cache.
  static int64_t block_of(int64_t rows, int64_t cols) {
    constexpr int64_t kWeights = 32 * 1024;
    const int64_t fit = kWeights / std::max<int64_t>(cols, 1);
    return std::clamp<int64_t>(std::min(std::max<int64_t>(fit, 16), kCausalBlock), 1,
                               std::max<int64_t>(rows, 1));
  }
  static Shape weights_shape(const Attrs& a, Span<const Array> in) {
    Metas metas;
    for (const Array& x : in) metas.push_back(x.meta());
    return infer_attention(kDoc, a, metas).weights;
  }
  // Calls f(weights, count, index, first, n, p, kept) for all blocks, with the weights in p.
  template <class T, class F>
  static void for_each_block_of(const Attrs& a, Span<const Array> in, const Shape& shape,
                                const F& f) {
    const auto holder = [&](Role r) -> const Array& {
      return in[static_cast<size_t>(input_of(a, r))];
    };
    const AttentionWeights weights(a, holder(kQuery), holder(kKey),
                                   a.has_mask ? in[static_cast<size_t>(a.parts)] : Array(), shape);
    const int64_t block = block_of(weights.rows(), weights.cols());
    const Shape scratch{a.dropout > 0 ? 2 : 1, block, weights.cols()};
    const Array room = Array::empty(dtype_of<T>, scratch);
    T* p = room.mutable_data<T>();
    T* kept = a.dropout > 0 ? p + block * weights.cols() : p;
    for_each_index(weights.lead(), [&](int64_t count, const int64_t* index) {
      for_each_block(weights.rows(), block, [&](int64_t first, int64_t n) {
        weights.compute(index, first, n, p);
        if (kept != p) weights.drop(count, first, n, p, kept);
        f(weights, count, index, first, n, p, kept);
      });
    });
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Shape shape = weights_shape(a, in);
    const Heads v(a, in[static_cast<size_t>(input_of(a, kValue))], kValue, leading(shape));
    const Heads y(a, out[0], leading(shape));
    visit_differentiable(out[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_block_of<T>(a, in, shape,
                           [&](const AttentionWeights& weights, int64_t, const int64_t* index,
                               int64_t first, int64_t n, const T*, const T* kept) {
                             attend_rows(weights, v, y, out[0].mutable_data<T>(), index, first, n,
                                         kept);
                           });
    });
  }

  // With the weights of the op that keeps them, and its derivatives.
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Outputs in;
    for (int i = 0; i < s.n_inputs(); ++i) in.push_back(s.in(i));
    const Outputs again = in.size() == 1   ? apply_multi<Attention>(a, in[0])
                          : in.size() == 2 ? apply_multi<Attention>(a, in[0], in[1])
                          : in.size() == 3 ? apply_multi<Attention>(a, in[0], in[1], in[2])
                                           : apply_multi<Attention>(a, in[0], in[1], in[2], in[3]);
    return attention_rule(s, g[0], Tensor(), again[1]);
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    absl::InlinedVector<Array, 4> in;
    for (int i = 0; i < s.n_inputs(); ++i) in.push_back(s.in_array(i));
    const Shape shape = weights_shape(a, in);
    AttentionGradient gradient(s, g[0], shape, block_of(size_at(shape, 2), size_at(shape, 1)));
    visit_differentiable(g[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_block_of<T>(a, in, shape,
                           [&](const AttentionWeights&, int64_t count, const int64_t* index,
                               int64_t first, int64_t n, const T* p, const T* kept) {
                             gradient.add<T>(count, index, first, n, p, kept, nullptr);
                           });
    });
    gradient.give(sink);
  }
};
EBB_OP(LeanAttention)

namespace {

AttentionOutput attend(Span<const Tensor> inputs, int64_t heads, const AttentionOptions& options,
                       Generator& generator, Where where) {
  constexpr const char* kName = Attention::kDoc.name;
  const double p = options.dropout_p;
  if (!(p >= 0 && p <= 1)) {
    throw ValueError(absl::StrCat(kName, ": dropout_p is ", p, ", outside [0, 1]"));
  }
  if (options.scale && !std::isfinite(*options.scale)) {
    throw ValueError(absl::StrCat(kName, ": scale is ", *options.scale, "; it must be finite"));
  }
  constexpr int64_t kFarthest = int64_t{1} << 61;  // places of queries and keys stay countable
  if (options.query_offset < -kFarthest || options.query_offset > kFarthest) {
    throw ValueError(absl::StrCat(kName, ": query_offset is ", options.query_offset,
                                  "; it must be in [-2^61, 2^61]"));
  }
  AttentionAttrs a;
  a.dropout = p;
  a.state = generator.state();
  a.heads = heads;
  a.offset = options.query_offset;
  a.parts = static_cast<int>(inputs.size());
  a.has_mask = options.attn_mask.defined();
  a.causal = options.is_causal;
  a.alibi = options.alibi;
  if (options.scale) {
    a.scale = *options.scale;
  } else if (inputs[0].dim() > 0) {
    const int64_t width = width_of(a, 0, inputs[0].size(-1));
    a.scale = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(width, 1)));
  }
  const auto run = [&](const auto&... rest) {
    const At first(inputs[0], where);
    if (!options.keep_weights.value_or(true)) {
      Tensor y = apply_with<LeanAttention>(a, first, rest...);
      if (p > 0) {
        const int64_t matrices = leading(y.shape()).numel() * std::max<int64_t>(heads, 1);
        const int64_t keys = inputs[std::min<size_t>(1, inputs.size() - 1)].size(-2);
        generator.skip(static_cast<uint64_t>(matrices * y.size(-2) * keys));
      }
      return AttentionOutput{std::move(y), Tensor()};
    }
    auto out = apply_multi<Attention>(a, first, rest...);
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

// About as many weights as there will be; errors are the op's affair.
int64_t count_weights(const Tensor& query, const Tensor& key) {
  if (query.dim() < 2 || key.dim() < 2) return 0;
  const int64_t width = std::max<int64_t>(query.size(-1), 1);
  return query.numel() / width * key.size(-2);
}

}  // namespace

}  // namespace ops

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const AttentionOptions& options, Generator& generator,
                                    Where where) try {
  const Tensor inputs[] = {query, key, value};
  if (options.keep_weights) return ops::attend(inputs, 0, options, generator, where).output;
  AttentionOptions chosen = options;
  chosen.keep_weights = ops::count_weights(query, key) <= kKeptWeights;
  return ops::attend(inputs, 0, chosen, generator, where).output;
} catch (const Error&) {
  detail::rethrow_as("scaled_dot_product_attention");
}

AttentionOutput multi_head_attention(Span<const Tensor> inputs, int64_t heads,
                                     const AttentionOptions& options, Generator& generator,
                                     Where where) try {
  if (inputs.empty() || inputs.size() > 3 || heads < 1) {
    throw ValueError(absl::StrCat("multi_head_attention: ", inputs.size(), " inputs and ", heads,
                                  " heads; there must be one to three inputs and a head"));
  }
  return ops::attend(inputs, heads, options, generator, where);
} catch (const Error&) {
  detail::rethrow_as("multi_head_attention");
}

Tensor alibi_slopes(int64_t heads, const TensorOptions& options) try {
  if (heads < 1) {
    throw ValueError(absl::StrCat("alibi_slopes: heads is ", heads, "; it must be at least 1"));
  }
  const DType dtype = options.dtype.value_or(kFloat32);
  if (!is_differentiable(dtype)) {
    throw DTypeError(absl::StrCat("alibi_slopes: the type is ", name_of(dtype),
                                  "; it must be float32 or float64"));
  }
  Array slopes = Array::empty(dtype, {heads});
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    T* to = slopes.mutable_data<T>();
    for (int64_t h = 0; h < heads; ++h) to[h] = static_cast<T>(ops::alibi_slope(h, heads));
  });
  return Tensor(std::move(slopes));
} catch (const Error&) {
  detail::rethrow_as("alibi_slopes");
}

}  // namespace ebb
