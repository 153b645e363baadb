// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/activation.h"

#include <cmath>
#include "ebb/ops/activation_util.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

// Activations of more than one number: halves of which one gates the other, and slopes that are
// learned.
namespace ebb {
namespace ops {

using kernels::Unary;

namespace {

// y = a f(b) for the two halves a and b of x along an axis.
template <class Op, Unary kernel>
struct Gated {
  struct Attrs {
    int axis = 0;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_floating(Op::kDoc, in);
    Shape shape = in[0].shape;
    if (shape.rank() == 0 || shape[a.axis] % 2 != 0) {
      throw ShapeError(absl::StrCat(Op::kDoc.name, ": x is ", shape.str(), "; its size along axis ",
                                    a.axis, " must be even"));
    }
    shape[a.axis] /= 2;
    return {{in[0].dtype, shape}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 2;  // the gate, and the product
    return c;
  }
  // Numbers in one half without a gap.
  static int64_t run_of(const Attrs& a, const Shape& half) {
    int64_t n = 1;
    for (int i = a.axis; i < half.rank(); ++i) n *= half[i];
    return n;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array& y = out[0];
    const int64_t n = run_of(a, y.shape());
    const kernels::BinaryFn mul = kernels::binary_fn(x.dtype(), kernels::Binary::kMul);
    const auto bytes = static_cast<int64_t>(size_of(x.dtype()));
    for (int64_t at = 0; at < y.numel(); at += n) {
      const std::byte* from = x.raw() + 2 * at * bytes;
      std::byte* to = y.raw() + at * bytes;
      kernels::run_unary(kernel, x.dtype(), from + n * bytes, to, static_cast<size_t>(n), {});
      mul(from, 1, to, 1, to, static_cast<size_t>(n));
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    const Tensor x = s.in(0);
    const int64_t half = x.size(axis) / 2;
    const Tensor a = narrow(x, axis, 0, half);
    const Tensor b = narrow(x, axis, half, half);
    const Tensor parts[] = {g[0] * Op::gate(b), g[0] * a * Op::slope(b)};
    return {cat(parts, axis)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array x = contiguous(s.in_array(0));
    const Array gy = contiguous(g[0]);
    const Array dx = Array::empty_like(x);
    const int64_t run = run_of(s.attrs<Attrs>(), gy.shape());
    const auto n = static_cast<size_t>(run);
    const DType dtype = x.dtype();
    const kernels::BinaryFn mul = kernels::binary_fn(dtype, kernels::Binary::kMul);
    const auto bytes = static_cast<int64_t>(size_of(dtype));
    for (int64_t at = 0; at < gy.numel(); at += run) {
      const std::byte* from = gy.raw() + at * bytes;
      const std::byte* a = x.raw() + 2 * at * bytes;
      const std::byte* b = a + run * bytes;
      std::byte* da = dx.raw() + 2 * at * bytes;
      std::byte* db = da + run * bytes;
      // In da the gate, until its own gradient is known.
      kernels::run_unary(kernel, dtype, b, da, n, {});
      mul(from, 1, a, 1, db, n);
      kernels::run_unary_backward(kernel, dtype, db, b, da, db, n, {});
      mul(from, 1, da, 1, da, n);
    }
    sink.add(0, dx);
  }
};

}  // namespace

struct Glu : Gated<Glu, Unary::kSigmoid> {
  static constexpr OpDoc kDoc{"glu", "y = a sigmoid(b), a and b the halves of x along an axis",
                              "x:[..,2n,..] -> y:[..,n,..]"};
  static Tensor gate(const Tensor& b) { return sigmoid(b); }
  static Tensor slope(const Tensor& b) {
    const Tensor p = sigmoid(b);
    return p * (1 - p);
  }
};
EBB_OP(Glu)

struct Reglu : Gated<Reglu, Unary::kRelu> {
  static constexpr OpDoc kDoc{"reglu", "y = a max(b, 0), a and b the halves of x along an axis",
                              "x:[..,2n,..] -> y:[..,n,..]"};
  static Tensor gate(const Tensor& b) { return relu(b); }
  static Tensor slope(const Tensor& b) { return indicator(b > 0, b); }
};
EBB_OP(Reglu)

struct Geglu : Gated<Geglu, Unary::kGelu> {
  static constexpr OpDoc kDoc{"geglu", "y = a gelu(b), a and b the halves of x along an axis",
                              "x:[..,2n,..] -> y:[..,n,..]"};
  static Tensor gate(const Tensor& b) { return gelu(b); }
  static Tensor slope(const Tensor& b) { return gelu_slope(b); }
};
EBB_OP(Geglu)

struct Swiglu : Gated<Swiglu, Unary::kSilu> {
  static constexpr OpDoc kDoc{"swiglu", "y = a silu(b), a and b the halves of x along an axis",
                              "x:[..,2n,..] -> y:[..,n,..]"};
  static Tensor gate(const Tensor& b) { return silu(b); }
  static Tensor slope(const Tensor& b) { return silu_slope(b); }
};
EBB_OP(Swiglu)

struct Prelu {
  static constexpr OpDoc kDoc{"prelu", "y = x > 0 ? x : weight x",
                              "x:[..,c,...] weight:[c] -> y:[..,c,...]"};
  struct Attrs {
    int behind = 2;  // axes behind that of the channels
  };
  static constexpr const char* kParameters[] = {"weight"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("channel_axis=", -1 - a.behind);
  }
  static constexpr GradUses uses(int input) {
    return {.in = input == 0 ? 0b11u : 0b01u, .shapes = input == 0 ? 0u : 0b10u};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    if (in[1].shape != Shape{1}) require_channels(kDoc, in, a.behind, kParameters);
    return {in[0]};
  }
  // A slope for all is that of a single channel.
  static Channels channels(const Attrs& a, const Shape& x, int64_t weights) {
    return weights == 1 ? Channels(1, 1, x.numel()) : Channels(x, a.behind);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array w = contiguous(in[1]);
    const Channels e = channels(a, x.shape(), w.numel());
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t row = 0; row < e.samples * e.channels; ++row) {
        const double slope = w.data<T>()[row % e.channels];
        kernels::run_unary(Unary::kLeakyRelu, x.dtype(), x.data<T>() + row * e.len,
                           out[0].mutable_data<T>() + row * e.len, static_cast<size_t>(e.len),
                           {.a = slope});
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Tensor below = indicator(x <= 0, x);
    Grads result(2);
    if (s.needs(0)) {
      const Shape shape = x.shape();
      const int64_t weights = s.in_shape(1)[0];
      Shape spread;  // the weight's, to broadcast against x
      if (!shape.empty()) spread.push_back(weights);
      for (int i = 0; i < a.behind && weights != 1; ++i) spread.push_back(1);
      result[0] = g[0] * (1 - below + below * reshape(s.in(1), spread));
    }
    if (s.needs(1)) {
      const Channels e = channels(a, x.shape(), s.in_shape(1)[0]);
      result[1] = sum(reshape(g[0] * x * below, {e.samples, e.channels, e.len}), {0, 2});
    }
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array x = contiguous(s.in_array(0));
    const Array gy = contiguous(g.take(0));
    const Array w = s.needs(0) ? contiguous(s.in_array(1)) : Array();
    const int64_t weights = s.in_shape(1)[0];
    const Channels e = channels(s.attrs<Attrs>(), x.shape(), weights);
    const Array gw = s.needs(1) ? Array::zeros(x.dtype(), {weights}) : Array();
    const Array gx = s.needs(0) ? reuse_or_new(gy) : Array();
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t row = 0; row < e.samples * e.channels; ++row) {
        const T* from = gy.data<T>() + row * e.len;
        const T* at = x.data<T>() + row * e.len;
        const int64_t c = row % e.channels;
        if (s.needs(1)) gw.mutable_data<T>()[c] += sum_below(from, at, e.len);
        if (!s.needs(0)) continue;
        kernels::run_unary_backward(Unary::kLeakyRelu, x.dtype(), from, at, nullptr,
                                    gx.mutable_data<T>() + row * e.len, static_cast<size_t>(e.len),
                                    {.a = static_cast<double>(w.data<T>()[c])});
      }
    });
    if (s.needs(1)) sink.add(1, gw);
    if (s.needs(0)) sink.add(0, gx);
  }
  // The sum of g x where x <= 0, in lanes, a block at a time in T.
  template <class T>
  static T sum_below(const T* g, const T* x, int64_t n) {
    constexpr int64_t kLanes = 16;
    constexpr int64_t kBlock = 1024;
    double total = 0;
    for (int64_t first = 0; first < n; first += kBlock) {
      const int64_t end = std::min(n, first + kBlock);
      T lanes[kLanes] = {};
      int64_t i = first;
      for (; i + kLanes <= end; i += kLanes) {
        for (int64_t k = 0; k < kLanes; ++k) lanes[k] += x[i + k] > 0 ? T{0} : g[i + k] * x[i + k];
      }
      for (; i < end; ++i) lanes[i % kLanes] += x[i] > 0 ? T{0} : g[i] * x[i];
      for (T lane : lanes) total += lane;
    }
    return static_cast<T>(total);
  }
};
EBB_OP(Prelu)

}  // namespace ops

Tensor glu(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Glu>({normalize_axis(axis, x.dim(), "glu")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("glu");
}
Tensor reglu(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Reglu>({normalize_axis(axis, x.dim(), "reglu")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("reglu");
}
Tensor geglu(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Geglu>({normalize_axis(axis, x.dim(), "geglu")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("geglu");
}
Tensor swiglu(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Swiglu>({normalize_axis(axis, x.dim(), "swiglu")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("swiglu");
}

Tensor prelu(const Tensor& x, const Tensor& weight, int64_t channel_axis, Where where) {
  return apply_with<ops::Prelu>({ops::axes_behind("prelu", channel_axis)}, At(x, where), weight);
}

Tensor maxout(const Tensor& x, int64_t pieces, int64_t axis, Where where) try {
  Shape shape = x.shape();
  const int at = normalize_axis(axis, shape.rank(), "maxout");
  if (pieces < 1 || shape.rank() == 0 || shape[at] % pieces != 0) {
    throw ShapeError(absl::StrCat("maxout: x is ", shape.str(), ", pieces is ", pieces,
                                  "; the size along axis ", at, " must be a multiple of pieces"));
  }
  Shape split(shape.data(), static_cast<size_t>(at));
  split.push_back(shape[at] / pieces);
  split.push_back(pieces);
  for (int i = at + 1; i < shape.rank(); ++i) split.push_back(shape[i]);
  return max(reshape(x, split, where), at + 1, false, where).values;
} catch (const Error&) {
  detail::rethrow_as("maxout");
}

Tensor rrelu(const Tensor& x, double lower, double upper, bool training, Generator& generator,
             Where where) try {
  if (!(lower <= upper) || !std::isfinite(upper - lower)) {
    throw ValueError(absl::StrCat("rrelu: lower is ", lower, ", upper is ", upper,
                                  "; lower must not be above, and both be finite"));
  }
  if (!training) return leaky_relu(x, (lower + upper) / 2, where);
  const Tensor slopes =
      affine(rand(x.shape(), {.dtype = x.dtype()}, generator), upper - lower, lower);
  return mul(x, ebb::where(x > 0, full_like(x, 1.0), slopes), where);
} catch (const Error&) {
  detail::rethrow_as("rrelu");
}

}  // namespace ebb
