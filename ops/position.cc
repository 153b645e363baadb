// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/position.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

struct RotaryEmbedding {
  static constexpr OpDoc kDoc{"rotary_embedding", "pairs of a row's numbers turned by its position",
                              "x:[...,t,e] -> y:[...,t,e]"};
  struct Attrs {
    int64_t head_dim = 2;
    int64_t offset = 0;
    double base = 10000;
    int64_t columns = -1;  // -1: all
    bool interleaved = false;
    bool back = false;  // turns the other way
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("head_dim=", a.head_dim, " offset=", a.offset, " base=", a.base,
                        a.columns < 0 ? "" : absl::StrCat(" columns=", a.columns),
                        a.interleaved ? " interleaved" : "", a.back ? " back" : "");
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    const Shape& x = in[0].shape;
    if (x.rank() < 2 || x[x.rank() - 1] % a.head_dim != 0) {
      throw ShapeError(absl::StrCat("rotary_embedding: x is ", x.str(), "; it must be [...,T,n * ",
                                    a.head_dim, "]"));
    }
    if (a.columns < -1 || a.columns > x[x.rank() - 1] ||
        (a.columns > 0 && a.columns % a.head_dim != 0)) {
      throw ValueError(absl::StrCat("rotary_embedding: x is ", x.str(), ", columns ", a.columns,
                                    "; they must be a multiple of head_dim=", a.head_dim,
                                    " and no more than there are"));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 2;
    return c;
  }
  // y may be x.
  static void run(const Attrs& a, const Array& x, const Array& y) {
    const int64_t width = x.size(x.rank() - 1);
    const int64_t length = x.size(x.rank() - 2);
    const int64_t columns = a.columns < 0 ? width : a.columns;
    const auto pairs = static_cast<size_t>(a.head_dim / 2);
    const int64_t next = a.interleaved ? 1 : a.head_dim / 2;  // to the other of a pair
    const int64_t step = a.interleaved ? 2 : 1;               // to the next pair
    if (x.numel() == 0) return;
    const int64_t sequences = x.numel() / (length * width);
    // Angles grow by the same amount from row to row, so that their sine and cosine are turned on
    // rather than computed anew; in double, errors stay far below float's.
    absl::InlinedVector<double, 64> by_cos(pairs), by_sin(pairs), cos(pairs), sin(pairs);
    for (size_t i = 0; i < pairs; ++i) {
      const double part = 2 * static_cast<double>(i) / static_cast<double>(a.head_dim);
      const double angle = (a.back ? -1 : 1) * std::pow(a.base, -part);
      by_cos[i] = std::cos(angle);
      by_sin[i] = std::sin(angle);
      cos[i] = std::cos(angle * static_cast<double>(a.offset));
      sin[i] = std::sin(angle * static_cast<double>(a.offset));
    }
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      absl::InlinedVector<T, 64> c(pairs), s(pairs);
      for (int64_t row = 0; row < length; ++row) {
        for (size_t i = 0; i < pairs; ++i) {
          c[i] = static_cast<T>(cos[i]);
          s[i] = static_cast<T>(sin[i]);
          const double turned = cos[i] * by_cos[i] - sin[i] * by_sin[i];
          sin[i] = sin[i] * by_cos[i] + cos[i] * by_sin[i];
          cos[i] = turned;
        }
        for (int64_t n = 0; n < sequences; ++n) {
          const T* from = x.data<T>() + (n * length + row) * width;
          T* to = y.mutable_data<T>() + (n * length + row) * width;
          for (int64_t head = 0; head < columns; head += a.head_dim) {
            for (size_t i = 0; i < pairs; ++i) {
              const int64_t at = head + static_cast<int64_t>(i) * step;
              const T u = from[at];
              const T v = from[at + next];
              to[at] = u * c[i] - v * s[i];
              to[at + next] = v * c[i] + u * s[i];
            }
          }
          if (to != from) std::copy(from + columns, from + width, to + columns);
        }
      }
    });
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run(a, contiguous(in[0]), out[0]);
  }
  static Attrs reversed(Attrs a) {
    a.back = !a.back;
    return a;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<RotaryEmbedding>(reversed(s.attrs<Attrs>()), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array gy = contiguous(g.take(0));
    const Array gx = reuse_or_new(gy);
    run(reversed(s.attrs<Attrs>()), gy, gx);
    sink.add(0, gx);
  }
};
EBB_OP(RotaryEmbedding)

struct RelativeShift {
  static constexpr OpDoc kDoc{"relative_shift", "y[i,j] = x[i, j - i + t - 1]",
                              "x:[...,t,t+s-1] -> y:[...,t,s]"};
  struct Attrs {
    int64_t keys = 1;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("keys=", a.keys); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    Shape shape = in[0].shape;
    const int r = shape.rank();
    if (a.keys < 0 || r < 2 || shape[r - 1] != shape[r - 2] + a.keys - 1) {
      throw ShapeError(absl::StrCat("relative_shift: x is ", shape.str(), ", keys is ", a.keys,
                                    "; x must be [...,T,T+keys-1]"));
    }
    shape[r - 1] = a.keys;
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array& x = in[0];
    const int r = x.rank();
    const int64_t rows = x.size(r - 2);
    if (out[0].numel() == 0) return;
    // The rows of x, each begun one element earlier than the one before.
    absl::InlinedVector<int64_t, kMaxRank> strides(x.strides(), x.strides() + r);
    const int64_t along = x.stride(r - 1);
    strides[static_cast<size_t>(r - 2)] -= along;
    copy_into(out[0], x.view(out[0].shape(), strides.data(), (rows - 1) * along));
  }
  static Grads backward(const Saved&, const OutGrads& g);
};
EBB_OP(RelativeShift)

struct RelativeUnshift {
  static constexpr OpDoc kDoc{"relative_unshift", "y[i,d] = x[i, d + i - t + 1], or 0 outside",
                              "x:[...,t,s] -> y:[...,t,t+s-1]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    Shape shape = in[0].shape;
    const int r = shape.rank();
    if (r < 2 || shape[r - 2] + shape[r - 1] == 0) {
      throw ShapeError(absl::StrCat("relative_unshift: x is ", shape.str(),
                                    "; it must be [...,T,S] with a query or a key"));
    }
    shape[r - 1] += shape[r - 2] - 1;
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array& y = out[0];
    std::memset(y.raw(), 0, static_cast<size_t>(y.numel()) * size_of(y.dtype()));
    const Array x = contiguous(in[0]);
    const int r = x.rank();
    const int64_t rows = x.size(r - 2);
    const int64_t keys = x.size(r - 1);
    if (x.numel() == 0) return;
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = x.data<T>();
      T* to = y.mutable_data<T>();
      for (int64_t row = 0; row < x.numel() / keys; ++row) {
        std::copy_n(from + row * keys, keys, to + row * (rows + keys - 1) + rows - 1 - row % rows);
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape shape = s.in_shape(0);
    return {relative_shift(g[0], shape[shape.rank() - 1])};
  }
};
EBB_OP(RelativeUnshift)

Grads RelativeShift::backward(const Saved&, const OutGrads& g) { return {relative_unshift(g[0])}; }

namespace {

constexpr int64_t kFarthest = int64_t{1} << 61;  // sums of two distances can be counted

// f(d) for all distances d = key - query.
template <class F>
Tensor of_distances(const char* op, int64_t queries, int64_t keys, const F& f) {
  if (queries < 0 || keys < 0 || queries > kFarthest || keys > kFarthest) {
    throw ValueError(absl::StrCat(op, ": there are ", queries, " queries and ", keys,
                                  " keys; neither may be negative or above 2^61"));
  }
  const int64_t n = std::max<int64_t>(queries + keys - 1, 0);
  Array y = Array::empty(kInt64, {n});
  for (int64_t i = 0; i < n; ++i) y.mutable_data<int64_t>()[i] = f(i - (queries - 1));
  return Tensor(std::move(y));
}

}  // namespace

}  // namespace ops

Tensor rotary_embedding(const Tensor& x, int64_t head_dim, const RotaryOptions& o, Where where) {
  if (head_dim < 2 || head_dim % 2 != 0 || !(o.base > 0) || !std::isfinite(o.base)) {
    throw ValueError(absl::StrCat("rotary_embedding: head_dim is ", head_dim, ", base ", o.base,
                                  "; head_dim must be even and at least 2, base positive"));
  }
  return apply_with<ops::RotaryEmbedding>({head_dim, o.offset, o.base, o.columns, o.interleaved},
                                          At(x, where));
}

Tensor relative_shift(const Tensor& x, int64_t keys, Where where) {
  return apply_with<ops::RelativeShift>({keys}, At(x, where));
}

Tensor relative_unshift(const Tensor& x, Where where) {
  return apply<ops::RelativeUnshift>(At(x, where));
}

Tensor clipped_distances(int64_t queries, int64_t keys, int64_t max_distance) try {
  if (max_distance < 0 || max_distance > ops::kFarthest) {
    throw ValueError(absl::StrCat("clipped_distances: max_distance is ", max_distance,
                                  "; it must not be negative or above 2^61"));
  }
  return ops::of_distances("clipped_distances", queries, keys, [=](int64_t d) {
    return std::clamp(d, -max_distance, max_distance) + max_distance;
  });
} catch (const Error&) {
  detail::rethrow_as("clipped_distances");
}

Tensor relative_position_buckets(int64_t queries, int64_t keys, int64_t num_buckets,
                                 int64_t max_distance, bool bidirectional) try {
  const int64_t one_way = bidirectional ? num_buckets / 2 : num_buckets;
  const int64_t exact = one_way / 2;
  if (exact < 1 || max_distance <= exact) {
    throw ValueError(absl::StrCat("relative_position_buckets: num_buckets is ", num_buckets,
                                  ", max_distance ", max_distance, "; there must be at least ",
                                  bidirectional ? 4 : 2, " buckets, and a distance above ", exact,
                                  " for the last one"));
  }
  return ops::of_distances("relative_position_buckets", queries, keys, [=](int64_t d) {
    const int64_t first = bidirectional && d > 0 ? one_way : 0;
    const int64_t far = bidirectional ? std::abs(d) : std::max<int64_t>(-d, 0);
    if (far < exact) return first + far;
    const double part = std::log(static_cast<double>(far) / static_cast<double>(exact)) /
                        std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
    const auto wide = static_cast<int64_t>(part * static_cast<double>(one_way - exact));
    return first + std::min(exact + wide, one_way - 1);
  });
} catch (const Error&) {
  detail::rethrow_as("relative_position_buckets");
}

}  // namespace ebb
