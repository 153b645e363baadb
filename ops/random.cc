// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

namespace {

constexpr int64_t kChunk = 512;  // of numbers drawn at a time into a buffer on the stack

// Calls f(first, count) for consecutive chunks of n elements.
template <class F>
void for_chunks(int64_t n, F&& f) {
  for (int64_t at = 0; at < n; at += kChunk) f(at, std::min(kChunk, n - at));
}

struct DrawAttrs {
  Meta meta;
  Generator::State state;
};

}  // namespace

// An op without inputs that fills its output from a generator.
template <class Op>
struct Draw {
  using Attrs = DrawAttrs;
  static std::string describe(const Attrs& a) { return a.meta.str(); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 0);
    if (!is_differentiable(a.meta.dtype)) {
      throw DTypeError(absl::StrCat(Op::kDoc.name, ": the type is ", name_of(a.meta.dtype),
                                    "; it must be float32 or float64"));
    }
    return {a.meta};
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    Generator g(a.state);
    visit_differentiable(a.meta.dtype, [&](auto t) {
      Op::fill(g, out[0].mutable_data<decltype(t)>(), out[0].numel());
    });
  }
};

struct Rand : Draw<Rand> {
  static constexpr OpDoc kDoc{"rand", "y[i] uniform in [0, 1)", "-> y:shape"};
  template <class T>
  static void fill(Generator& g, T* y, int64_t n) {
    g.fill_uniform(y, static_cast<size_t>(n));
  }
};
EBB_OP(Rand)

struct Randn : Draw<Randn> {
  static constexpr OpDoc kDoc{"randn", "y[i] standard normal", "-> y:shape"};
  template <class T>
  static void fill(Generator& g, T* y, int64_t n) {
    g.fill_normal(y, static_cast<size_t>(n));
  }
};
EBB_OP(Randn)

struct Gumbel : Draw<Gumbel> {
  static constexpr OpDoc kDoc{"gumbel", "y[i] = -log(-log(u)), u uniform", "-> y:shape"};
  template <class T>
  static void fill(Generator& g, T* y, int64_t n) {
    // In double, for the upper tail is as fine as the grid of u.
    const auto log = kernels::unary_kernels(kernels::Unary::kLog).forward64;
    const auto log1p = kernels::unary_kernels(kernels::Unary::kLog1p).forward64;
    double u[kChunk];
    for_chunks(n, [&](int64_t at, int64_t count) {
      const auto size = static_cast<size_t>(count);
      g.fill_uniform(u, size);
      for (size_t i = 0; i < size; ++i) u[i] = -std::max(u[i], 0x1p-54);
      log1p(u, u, size, {});
      for (size_t i = 0; i < size; ++i) u[i] = -u[i];
      log(u, u, size, {});
      for (size_t i = 0; i < size; ++i) y[static_cast<size_t>(at) + i] = static_cast<T>(-u[i]);
    });
  }
};
EBB_OP(Gumbel)

struct StateAttrs {
  Generator::State state;
};

struct Bernoulli {
  static constexpr OpDoc kDoc{"bernoulli", "y[i] = 1 with probability p[i], else 0",
                              "p:[...] -> y:[...]"};
  using Attrs = StateAttrs;
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array probabilities = contiguous(in[0]);
    Generator g(a.state);
    visit_differentiable(probabilities.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* p = probabilities.data<T>();
      T* y = out[0].mutable_data<T>();
      for (int64_t i = 0; i < probabilities.numel(); ++i) {
        if (p[i] >= 0 && p[i] <= 1) continue;
        throw ValueError(absl::StrCat("bernoulli: p is ", in[0].shape().str(), "; its element ", i,
                                      " is ", p[i], ", outside [0, 1]"));
      }
      T u[kChunk];
      for_chunks(out[0].numel(), [&](int64_t at, int64_t count) {
        g.fill_uniform(u, static_cast<size_t>(count));
        for (int64_t i = 0; i < count; ++i) y[at + i] = u[i] < p[at + i] ? T{1} : T{0};
      });
    });
  }
};
EBB_OP(Bernoulli)

struct Multinomial {
  static constexpr OpDoc kDoc{"multinomial", "y[i] = j with probability weights[j] / sum",
                              "weights:[...,k] -> y:[...,n]"};
  struct Attrs {
    Generator::State state;
    int64_t n;
    bool replacement;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("n=", a.n, a.replacement ? " with" : " without", " replacement");
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    Shape shape = in[0].shape;
    if (shape.rank() != 1 && shape.rank() != 2) {
      throw ShapeError(
          absl::StrCat("multinomial: weights are ", shape.str(), "; they must be [k] or [m,k]"));
    }
    int64_t& k = shape[shape.rank() - 1];
    if (a.n < 0 || (!a.replacement && a.n > k)) {
      throw ValueError(absl::StrCat("multinomial: weights are ", shape.str(), "; ", a.n,
                                    " samples cannot be drawn",
                                    a.n < 0 ? "" : " without replacement"));
    }
    k = a.n;
    return {{kInt64, shape}};
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const double k = static_cast<double>(in[0].shape.numel());
    const double per_sample = std::log2(std::max(k, 2.0));
    c.multiply_adds = k + per_sample * (a.replacement ? static_cast<double>(a.n) : k);
    return c;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array weights = contiguous(in[0]);
    const int64_t k = weights.size(weights.rank() - 1);
    const int64_t rows = weights.rank() == 2 ? weights.size(0) : 1;
    Generator g(a.state);
    PoolVector<double> w(static_cast<size_t>(k));
    int64_t* y = out[0].mutable_data<int64_t>();
    visit_differentiable(weights.dtype(), [&](auto t) {
      const auto* p = weights.data<decltype(t)>();
      for (int64_t r = 0; r < rows && a.n > 0; ++r, p += k, y += a.n) {
        std::copy_n(p, k, w.begin());
        require_weights(a, in[0].shape(), r, w);
        if (a.replacement) {
          draw_with(g, w, y, a.n);
        } else {
          draw_without(g, w, y, a.n);
        }
      }
    });
  }

 private:
  template <class T>
  using PoolVector = std::vector<T, detail::PoolAllocator<T>>;

  static void require_weights(const Attrs& a, const Shape& shape, int64_t row,
                              const PoolVector<double>& w) {
    const auto fail = [&](const std::string& why) {
      throw ValueError(absl::StrCat("multinomial: weights are ", shape.str(), "; ", why,
                                    shape.rank() == 2 ? absl::StrCat(" in row ", row) : ""));
    };
    int64_t positive = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      if (!(w[i] >= 0) || std::isinf(w[i])) {
        fail(absl::StrCat("element ", i, " is ", w[i]));
      }
      positive += w[i] > 0;
    }
    if (positive == 0) fail("none is positive");
    if (!a.replacement && positive < a.n) {
      fail(absl::StrCat("only ", positive, " of them are positive, too few for ", a.n,
                        " samples without replacement"));
    }
  }

  // Where a uniform number falls among the running sums.
  static void draw_with(Generator& g, PoolVector<double>& w, int64_t* y, int64_t n) {
    const double largest = *std::max_element(w.begin(), w.end());
    double total = 0;
    int64_t last = 0;  // of the positive weights
    for (size_t i = 0; i < w.size(); ++i) {
      if (w[i] > 0) last = static_cast<int64_t>(i);
      total += w[i] / largest;  // so that the sum of finite weights is finite
      w[i] = total;
    }
    for (int64_t i = 0; i < n; ++i) {
      const auto at = std::upper_bound(w.begin(), w.end(), g.uniform() * total);
      y[i] = std::min<int64_t>(at - w.begin(), last);
    }
  }

  // The n smallest of exponential variables with the weights as their rates.
  static void draw_without(Generator& g, PoolVector<double>& w, int64_t* y, int64_t n) {
    const double largest = *std::max_element(w.begin(), w.end());
    PoolVector<std::pair<double, int64_t>> keys;  // of positive weights only: keys may overflow
    keys.reserve(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      const double u = g.uniform();
      if (!(w[i] > 0)) continue;
      const double rate = std::max(w[i] / largest, std::numeric_limits<double>::denorm_min());
      keys.emplace_back(-std::log1p(-u) / rate, static_cast<int64_t>(i));
    }
    std::partial_sort(keys.begin(), keys.begin() + n, keys.end());
    for (int64_t i = 0; i < n; ++i) y[i] = keys[static_cast<size_t>(i)].second;
  }
};
EBB_OP(Multinomial)

struct Dropout {
  static constexpr OpDoc kDoc{"dropout", "y[i] = 0 with probability p, else x[i] / (1 - p)",
                              "x:[...] -> y:[...]"};
  struct Attrs {
    double p;
    Generator::State state;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("p=", a.p); }
  static constexpr GradUses uses(int) { return {.out = 0b10}; }
  // A second output holds the mask, a bit an element.
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    require_probability(a.p);
    return {in[0], {kUInt8, {(in[0].shape.numel() + 7) / 8}}};
  }
  static void require_probability(double p) {
    if (p >= 0 && p <= 1) return;
    throw ValueError(absl::StrCat("dropout: p is ", p, ", outside [0, 1]"));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Generator g(a.state);
    uint8_t* bits = out[1].mutable_data<uint8_t>();
    for_chunks(out[0].numel(), [&](int64_t at, int64_t count) {
      uint8_t keep[kChunk] = {};
      g.fill_bernoulli(keep, static_cast<size_t>(count), 1 - a.p);
      for (int64_t i = 0; i < count; i += 8) {
        uint64_t flags;  // eight bytes of 0 or 1
        std::memcpy(&flags, keep + i, 8);
        // The product moves the last bit of byte k to bit 56 + k.
        bits[(at + i) / 8] = static_cast<uint8_t>(flags * 0x0102040810204080 >> 56);
      }
    });
    multiply(a, contiguous(in[0]), out[1], out[0]);
  }
  // y = x times the mask over 1 - p; y may be x.
  static void multiply(const Attrs& a, const Array& x, const Array& mask, const Array& y) {
    const uint8_t* bits = mask.data<uint8_t>();
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = x.data<T>();
      T* to = y.mutable_data<T>();
      const T scales[] = {0, a.p == 1 ? T{0} : static_cast<T>(1 / (1 - a.p))};
      const int64_t n = x.numel();
      int64_t i = 0;
      for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; ++k) to[i + k] = from[i + k] * scales[bits[i / 8] >> k & 1];
      }
      for (; i < n; ++i) to[i] = from[i] * scales[bits[i / 8] >> i % 8 & 1];
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_multi<Dropout>(s.attrs<Attrs>(), g[0])[0]};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array gy = contiguous(g.take(0));
    Array gx = reuse_or_new(gy);
    multiply(s.attrs<Attrs>(), gy, s.out_array(1), gx);
    sink.add(0, std::move(gx));
  }
};
EBB_OP(Dropout)

namespace {

template <class Op>
Tensor draw(const Shape& shape, DType dtype, Generator& generator, Where where) {
  const DrawAttrs attrs{{dtype, shape}, generator.state()};
  Tensor y = apply_span<Op>(attrs, {}, where);
  generator.skip(static_cast<uint64_t>(y.numel()));
  return y;
}

}  // namespace
}  // namespace ops

Tensor rand(const Shape& shape, const TensorOptions& options, Generator& generator, Where where) {
  return ops::draw<ops::Rand>(shape, options.dtype.value_or(kFloat32), generator, where);
}
Tensor randn(const Shape& shape, const TensorOptions& options, Generator& generator, Where where) {
  return ops::draw<ops::Randn>(shape, options.dtype.value_or(kFloat32), generator, where);
}
Tensor gumbel(const Shape& shape, const TensorOptions& options, Generator& generator, Where where) {
  return ops::draw<ops::Gumbel>(shape, options.dtype.value_or(kFloat32), generator, where);
}
Tensor rand_like(const Tensor& x, const TensorOptions& options, Generator& generator, Where where) {
  return ops::draw<ops::Rand>(x.shape(), options.dtype.value_or(x.dtype()), generator, where);
}
Tensor randn_like(const Tensor& x, const TensorOptions& options, Generator& generator,
                  Where where) {
  return ops::draw<ops::Randn>(x.shape(), options.dtype.value_or(x.dtype()), generator, where);
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, const TensorOptions& options,
               Generator& generator) {
  if (low >= high) {
    throw ValueError(absl::StrCat("randint: there is no integer in [", low, ", ", high, ")"));
  }
  const DType dtype = options.dtype.value_or(kInt64);
  if (dtype != kInt64) {  // throws where the type does not hold an end
    for (const int64_t end : {low, high - 1}) Array::scalar(dtype, static_cast<double>(end));
  }
  const Array y = Array::empty(kInt64, shape);
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  int64_t* p = y.mutable_data<int64_t>();
  for (int64_t i = 0; i < y.numel(); ++i) {
    p[i] = static_cast<int64_t>(static_cast<uint64_t>(low) + generator.uniform_int(span));
  }
  return Tensor(cast(y, dtype));
}

Tensor randperm(int64_t n, Generator& generator) { return from_vector(generator.permutation(n)); }

Tensor bernoulli(const Tensor& p, Generator& generator, Where where) {
  Tensor y = apply_with<ops::Bernoulli>({generator.state()}, At(p, where));
  generator.skip(static_cast<uint64_t>(y.numel()));
  return y;
}

Tensor multinomial(const Tensor& weights, int64_t n, bool replacement, Generator& generator,
                   Where where) {
  Tensor y = apply_with<ops::Multinomial>({generator.state(), n, replacement}, At(weights, where));
  const int64_t drawn = replacement ? y.numel() : n == 0 ? 0 : weights.numel();
  generator.skip(static_cast<uint64_t>(drawn));
  return y;
}

Tensor dropout(const Tensor& x, double p, bool training, Generator& generator, Where where) {
  ops::Dropout::require_probability(p);
  if (!training || p == 0) return x;
  Tensor y = std::move(apply_multi<ops::Dropout>({p, generator.state()}, At(x, where))[0]);
  generator.skip(static_cast<uint64_t>(y.numel()));
  return y;
}

}  // namespace ebb
