// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/elementwise.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

using kernels::Binary;

namespace {

// out = op(a, b) over the shape of `out`, which a and b broadcast to.
void run_binary(Binary op, const Array& a, const Array& b, const Array& out) {
  const kernels::BinaryFn fn = kernels::binary_fn(a.dtype(), op);
  const auto n = static_cast<size_t>(out.numel());
  if (a.is_contiguous() && b.is_contiguous() && a.numel() == out.numel() &&
      b.numel() == out.numel()) {
    fn(a.raw(), 1, b.raw(), 1, out.raw(), n);
    return;
  }
  const Shape shape = out.shape();
  int64_t sa[kMaxRank];
  int64_t sb[kMaxRank];
  broadcast_strides(a, shape, sa);
  broadcast_strides(b, shape, sb);
  const auto in_size = static_cast<ptrdiff_t>(size_of(a.dtype()));
  const auto out_size = static_cast<ptrdiff_t>(size_of(out.dtype()));
  kernels::for_each_row<3>(static_cast<size_t>(shape.rank()), shape.data(), {out.strides(), sa, sb},
                           [&](const ptrdiff_t* at, size_t count, const ptrdiff_t* stride) {
                             fn(a.raw() + at[1] * in_size, stride[1], b.raw() + at[2] * in_size,
                                stride[2], out.raw() + at[0] * out_size, count);
                           });
}

// What all ops of two broadcast operands share.
template <class Op>
struct BinaryOp {
  struct Attrs {};
  static constexpr bool kElementwise = true;

  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 2);
    require_same_dtype(Op::kDoc, in);
    if (kernels::binary_fn(in[0].dtype, Op::kKernel) == nullptr) {
      throw DTypeError(absl::StrCat(Op::kDoc.name, ": not defined for ", name_of(in[0].dtype)));
    }
    return {{in[0].dtype, broadcast(Op::kDoc, in[0].shape, in[1].shape)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_binary(Op::kKernel, in[0], in[1], out[0]);
  }
  static void forward_aligned(const Attrs&, DType t, const void* const* in, void* out, size_t n) {
    kernels::binary_fn(t, Op::kKernel)(in[0], 1, in[1], 1, out, n);
  }
  // Operands of different types are converted first.
  static Tensor unaligned(Span<const Tensor* const> in, Where where) {
    constexpr Attrs kNoAttrs;
    if (!in[0]->value().defined() || !in[1]->value().defined() ||
        in[0]->dtype() == in[1]->dtype()) {
      return detail::apply_one(kOpDef<Op>, &kNoAttrs, in, where);
    }
    const Promoted p(*in[0], *in[1], where);
    const Tensor* const promoted[] = {&p.a, &p.b};
    return detail::apply_one(kOpDef<Op>, &kNoAttrs, promoted, where);
  }
};

// Both operands had the shape and layout of the gradient, so that its kernel runs straight through.
bool simple(const Saved& s, const Array& g) {
  return g.is_contiguous() && s.in_shape_is(0, g) && s.in_shape_is(1, g);
}

}  // namespace

struct Add : BinaryOp<Add> {
  static constexpr OpDoc kDoc{"add", "y = a + b, elementwise", "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kAdd;
  static constexpr bool kPassesGradient = true;
  static constexpr bool kAccumulates = true;
  static constexpr GradUses uses(int) { return {}; }
  static void backward_aligned(const Attrs&, const AlignedGrads& g) {
    for (int i = 0; i < 2; ++i) {
      if ((g.add >> i & 1) == 0) continue;
      kernels::binary_fn(g.dtype, Binary::kAdd)(g.dx[i], 1, g.g, 1, g.dx[i], g.n);
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, g[0], 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, g[0], 1) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (s.has_in_shape(0) || s.has_in_shape(1)) return run_rule(&backward, s, g, sink);
    if (s.needs(0) && s.needs(1)) sink.add(0, g[0]);
    sink.add(s.needs(1) ? 1 : 0, g.take(0));
  }
};
EBB_OP(Add)

struct Sub : BinaryOp<Sub> {
  static constexpr OpDoc kDoc{"sub", "y = a - b, elementwise", "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kSub;
  static constexpr GradUses uses(int) { return {}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, g[0], 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, -g[0], 1) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (s.has_in_shape(0) || s.has_in_shape(1)) return run_rule(&backward, s, g, sink);
    if (s.needs(0)) sink.add(0, g[0]);
    if (s.needs(1)) sink.add(1, scaled(g[0], -1));
  }
};
EBB_OP(Sub)

struct Mul : BinaryOp<Mul> {
  static constexpr OpDoc kDoc{"mul", "y = a * b, elementwise", "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kMul;
  static constexpr bool kAccumulates = true;
  static constexpr GradUses uses(int input) { return {.in = detail::bit(1 - input)}; }
  static void backward_aligned(const Attrs&, const AlignedGrads& g) {
    if (g.dtype == kFloat32) [[likely]] {
      run_backward<float>(g);
    } else {
      run_backward<double>(g);
    }
  }
  template <class T>
  static void run_backward(const AlignedGrads& g) {
    const auto* gy = static_cast<const T*>(g.g);
    const auto* a = static_cast<const T*>(g.saved[0]);
    const auto* b = static_cast<const T*>(g.saved[1]);
    auto* da = static_cast<T*>(g.dx[0]);
    auto* db = static_cast<T*>(g.dx[1]);
    if (da != nullptr && db != nullptr && da != db) [[likely]] {
      return kernels::mul_backward(gy, a, b, da, (g.add & 1) != 0, db, (g.add & 2) != 0, g.n);
    }
    const auto one = [&](const T* factor, T* to, uint32_t add) {
      if (to == nullptr) return;
      if (add == 0) {
        kernels::binary_fn(g.dtype, Binary::kMul)(gy, 1, factor, 1, to, g.n);
      } else {
        kernels::addcmul(to, T{1}, gy, factor, to, g.n);
      }
    };
    one(b, da, g.add & 1);
    one(a, db, g.add & 2);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, g[0] * s.in(1), 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, g[0] * s.in(0), 1) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (!simple(s, g[0])) return run_rule(&backward, s, g, sink);
    Array gy = g.take(0);
    if (s.needs(0)) {
      const Array& b = s.in_array(1);
      // The gradient's own buffer serves the last of the results.
      Array ga = s.needs(1) ? Array::empty_like(gy) : reuse_or_new(gy);
      run_binary(Binary::kMul, gy, b, ga);
      sink.add(0, std::move(ga));
    }
    if (s.needs(1)) {
      Array gb = reuse_or_new(gy);
      run_binary(Binary::kMul, gy, s.in_array(0), gb);
      sink.add(1, std::move(gb));
    }
  }
};
EBB_OP(Mul)

struct Div : BinaryOp<Div> {
  static constexpr OpDoc kDoc{"div", "y = a / b, elementwise", "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kDiv;
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b10} : GradUses{.in = 0b10, .out = 0b1};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor ga = g[0] / s.in(1);
    return {s.needs(0) ? unbroadcast(s, ga, 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, -ga * s.out(0), 1) : Tensor()};
  }
};
EBB_OP(Div)

// Of a tie each operand gets half; NaN on either side sends the gradient to both.
struct Minimum : BinaryOp<Minimum> {
  static constexpr OpDoc kDoc{"minimum", "y = min(a, b), elementwise",
                              "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kMinimum;
  static constexpr GradUses uses(int) { return {.in = 0b11}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor tie = 0.5 * cast(eq(s.in(0), s.in(1)), g[0].dtype());
    const Tensor above = cast(s.in(0) > s.in(1), g[0].dtype());
    const Tensor below = cast(s.in(0) < s.in(1), g[0].dtype());
    return {s.needs(0) ? unbroadcast(s, g[0] * (1 - above - tie), 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, g[0] * (1 - below - tie), 1) : Tensor()};
  }
};
EBB_OP(Minimum)

struct Maximum : BinaryOp<Maximum> {
  static constexpr OpDoc kDoc{"maximum", "y = max(a, b), elementwise",
                              "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kMaximum;
  static constexpr GradUses uses(int) { return {.in = 0b11}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor tie = 0.5 * cast(eq(s.in(0), s.in(1)), g[0].dtype());
    const Tensor above = cast(s.in(0) > s.in(1), g[0].dtype());
    const Tensor below = cast(s.in(0) < s.in(1), g[0].dtype());
    return {s.needs(0) ? unbroadcast(s, g[0] * (1 - below - tie), 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, g[0] * (1 - above - tie), 1) : Tensor()};
  }
};
EBB_OP(Maximum)

// dy/da = b a^(b-1), dy/db = y ln(a). Where a factor is 0 by itself, the other may be infinite; it
// is kept finite there, so that the product and its derivatives are 0 and not NaN.
struct Pow : BinaryOp<Pow> {
  static constexpr OpDoc kDoc{"pow", "y = a^b, elementwise", "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kPow;
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b11} : GradUses{.in = 0b11, .out = 0b1};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor a = s.in(0);
    const Tensor b = s.in(1);
    Tensor ga;
    Tensor gb;
    if (s.needs(0)) {
      const Tensor one_less = where(eq(b, zero(b)), zero(b), b - 1);
      ga = unbroadcast(s, g[0] * b * pow(a, one_less), 0);
    }
    if (s.needs(1)) {
      const Tensor at_zero = logical_and(eq(a, zero(a)), b >= 0);
      gb = unbroadcast(s, g[0] * s.out(0) * log(where(at_zero, one(a), a)), 1);
    }
    return {ga, gb};
  }

 private:
  static Tensor zero(const Tensor& like) { return scalar_for(like, 0); }
  static Tensor one(const Tensor& like) { return scalar_for(like, 1); }
};
EBB_OP(Pow)

struct Atan2 : BinaryOp<Atan2> {
  static constexpr OpDoc kDoc{"atan2", "angle of the point (x, y), in (-pi, pi], elementwise",
                              "y:[...] x:[...] -> angle:[...]"};
  static constexpr Binary kKernel = Binary::kAtan2;
  static constexpr GradUses uses(int) { return {.in = 0b11}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor y = s.in(0);
    const Tensor x = s.in(1);
    const Tensor scaled = g[0] / (square(x) + square(y));
    return {s.needs(0) ? unbroadcast(s, scaled * x, 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, -scaled * y, 1) : Tensor()};
  }
};
EBB_OP(Atan2)

struct Fmod : BinaryOp<Fmod> {
  static constexpr OpDoc kDoc{"fmod", "y = a - b trunc(a / b), elementwise",
                              "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kFmod;
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{} : GradUses{.in = 0b11};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, g[0], 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, -g[0] * trunc(s.in(0) / s.in(1)), 1) : Tensor()};
  }
};
EBB_OP(Fmod)

struct Remainder : BinaryOp<Remainder> {
  static constexpr OpDoc kDoc{"remainder", "y = a - b floor(a / b), elementwise",
                              "a:[...] b:[...] -> y:[...]"};
  static constexpr Binary kKernel = Binary::kRemainder;
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{} : GradUses{.in = 0b11};
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, g[0], 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, -g[0] * floor(s.in(0) / s.in(1)), 1) : Tensor()};
  }
};
EBB_OP(Remainder)

struct Where_ {
  static constexpr OpDoc kDoc{"where", "y = condition ? a : b, elementwise",
                              "condition:[...] a:[...] b:[...] -> y:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return {.in = 0b001, .shapes = detail::bit(input)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    if (in[0].dtype != kBool) {
      throw DTypeError(absl::StrCat("where: the condition is ", in[0].str(), "; it must be bool"));
    }
    require_same_dtype(kDoc, in.subspan(1));
    const Shape ab = broadcast(kDoc, in[1].shape, in[2].shape);
    return {{in[1].dtype, broadcast(kDoc, in[0].shape, ab)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Shape shape = out[0].shape();
    int64_t strides[3][kMaxRank];
    for (size_t i = 0; i < 3; ++i) broadcast_strides(in[i], shape, strides[i]);
    const size_t item = size_of(out[0].dtype());
    const auto size = static_cast<ptrdiff_t>(item);
    const kernels::WhereFn fn = kernels::where_fn(item);
    const auto* condition = reinterpret_cast<const uint8_t*>(in[0].raw());
    kernels::for_each_row<4>(static_cast<size_t>(shape.rank()), shape.data(),
                             {out[0].strides(), strides[0], strides[1], strides[2]},
                             [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                               fn(condition + at[1], stride[1], in[1].raw() + at[2] * size,
                                  stride[2], in[2].raw() + at[3] * size, stride[3],
                                  out[0].raw() + at[0] * size, n);
                             });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor condition = s.in(0);
    const Tensor zero = scalar_for(g[0], 0);
    return {Tensor(), s.needs(1) ? unbroadcast(s, where(condition, g[0], zero), 1) : Tensor(),
            s.needs(2) ? unbroadcast(s, where(condition, zero, g[0]), 2) : Tensor()};
  }
};
EBB_OP(Where_)

struct Affine {
  static constexpr OpDoc kDoc{"affine", "y = scale * x + shift, elementwise", "x:[...] -> y:[...]"};
  static constexpr bool kKeepsStructure = true;
  static constexpr bool kElementwise = true;
  struct Attrs {
    double scale;
    double shift;
    bool divide = false;  // by the scale, for 49 * (1 / 49.0) is not 1
  };
  static std::string describe(const Attrs& a) {
    return a.divide ? absl::StrCat("x/", a.scale) : absl::StrCat(a.scale, "x+", a.shift);
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const void* data = x.raw();
    forward_aligned(a, x.dtype(), &data, out[0].raw(), static_cast<size_t>(x.numel()));
  }
  static void forward_aligned(const Attrs& a, DType t, const void* const* in, void* out, size_t n) {
    if (!a.divide) {
      kernels::run_unary(kernels::Unary::kAffine, t, in[0], out, n, {a.scale, a.shift});
      return;
    }
    visit_differentiable(t, [&](auto type) {
      const auto divisor = static_cast<decltype(type)>(a.scale);
      kernels::binary_fn(t, Binary::kDiv)(in[0], 1, &divisor, 0, out, n);
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    return {apply_with<Affine>({a.scale, 0, a.divide}, g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const double scale = a.divide ? 1 / a.scale : a.scale;
    if (a.divide && !std::isfinite(scale)) return run_rule(&backward, s, g, sink);
    // Keeps the structure of the gradient of a scaled weight.
    sink.add(0, g.structured(0).scaled(scale));
  }
};
EBB_OP(Affine)

Promoted::Promoted(const Tensor& x, const Tensor& y, Where where) : a(x), b(y) {
  const DType t = promote_types(x.dtype(), y.dtype());
  a = cast(x, t, where);
  b = cast(y, t, where);
}

namespace {

// The largest number of an integer type; -(that + 1) is the smallest, but for uint8.
double largest_of(DType t) { return t == kUInt8 ? 255 : t == kInt32 ? 0x1p31 - 1 : 0x1p63; }

bool is_whole(const Tensor& x, double value) {
  return is_integral(x.dtype()) && x.dtype() != kBool && value == std::floor(value);
}

}  // namespace

Tensor scalar_for(const Tensor& x, double value) {
  if (is_floating(x.dtype())) return Tensor(Array::scalar(x.dtype(), value));
  if (!is_whole(x, value)) return Tensor(Array::scalar(kFloat32, value));
  return Tensor(Array::scalar(x.dtype(), value));
}

// A number as an operand of a division, which makes float32 of integers.
static Tensor divisor_for(const Tensor& x, double value) {
  return Tensor(Array::scalar(is_floating(x.dtype()) ? x.dtype() : kFloat32, value));
}

Tensor scalar_to_compare(const Tensor& x, double value) {
  if (is_floating(x.dtype())) return Tensor(Array::scalar(x.dtype(), value));
  if (!is_whole(x, value)) return Tensor(Array::scalar(kFloat32, value));
  // All integers are on the same side of a number that int64 does not hold.
  if (std::abs(value) >= 0x1p63)
    return Tensor(Array::scalar(kFloat32, std::copysign(INFINITY, value)));
  const bool fits =
      value <= largest_of(x.dtype()) && value >= (x.dtype() == kUInt8 ? 0 : -largest_of(x.dtype()));
  return Tensor(Array::scalar(fits ? x.dtype() : kInt64, value));
}

}  // namespace ops

DType promote_types(DType a, DType b) {
  if (a == b) return a;
  // Rank of each DType in the order bool, uint8, int32, int64, float16, bfloat16, float32, float64.
  constexpr int kWidth[kDTypeCount] = {6, 7, 3, 2, 1, 0, 4, 5};
  const int wa = kWidth[static_cast<int>(a)];
  const int wb = kWidth[static_cast<int>(b)];
  if (wa + wb == 9 && (wa == 4 || wa == 5)) return kFloat32;  // the two 16-bit types
  return wa > wb ? a : b;
}

namespace {

template <class Op>
Tensor binary(const Tensor& a, const Tensor& b, Where where) {
  return apply<Op>(At(a, where), b);
}

using ops::scalar_for;

Tensor scale_shift(At x, double scale, double shift) {
  if (is_differentiable(x.tensor->dtype())) return affine(*x.tensor, scale, shift, x.where);
  const Tensor scaled =
      scale == 1 ? *x.tensor : mul(*x.tensor, scalar_for(*x.tensor, scale), x.where);
  return shift == 0 ? scaled : add(scaled, scalar_for(scaled, shift), x.where);
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b, Where where) { return binary<ops::Add>(a, b, where); }
Tensor sub(const Tensor& a, const Tensor& b, Where where) { return binary<ops::Sub>(a, b, where); }
Tensor mul(const Tensor& a, const Tensor& b, Where where) { return binary<ops::Mul>(a, b, where); }

Tensor div(const Tensor& a, const Tensor& b, Where where) {
  if (!is_integral(a.dtype()) || !is_integral(b.dtype())) return binary<ops::Div>(a, b, where);
  return binary<ops::Div>(cast(a, kFloat32, where), cast(b, kFloat32, where), where);
}

Tensor minimum(const Tensor& a, const Tensor& b, Where where) {
  return binary<ops::Minimum>(a, b, where);
}
Tensor maximum(const Tensor& a, const Tensor& b, Where where) {
  return binary<ops::Maximum>(a, b, where);
}
Tensor pow(const Tensor& a, const Tensor& b, Where where) { return binary<ops::Pow>(a, b, where); }
Tensor atan2(const Tensor& y, const Tensor& x, Where where) {
  return binary<ops::Atan2>(y, x, where);
}
Tensor fmod(const Tensor& a, const Tensor& b, Where where) {
  return binary<ops::Fmod>(a, b, where);
}
Tensor remainder(const Tensor& a, const Tensor& b, Where where) {
  return binary<ops::Remainder>(a, b, where);
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b, Where place) {
  if (a.dtype() == b.dtype()) return apply<ops::Where_>(At(condition, place), a, b);
  const ops::Promoted p(a, b, place);
  return apply<ops::Where_>(At(condition, place), p.a, p.b);
}

Tensor affine(const Tensor& x, double scale, double shift, Where where) {
  return apply_with<ops::Affine>({scale, shift, false}, At(x, where));
}

Tensor operator-(At x) { return scale_shift(x, -1, 0); }
Tensor operator+(At a, At b) { return add(*a.tensor, *b.tensor, b.where); }
Tensor operator-(At a, At b) { return sub(*a.tensor, *b.tensor, b.where); }
Tensor operator*(At a, At b) { return mul(*a.tensor, *b.tensor, b.where); }
Tensor operator/(At a, At b) { return div(*a.tensor, *b.tensor, b.where); }
Tensor operator+(At a, double b) { return scale_shift(a, 1, b); }
Tensor operator-(At a, double b) { return scale_shift(a, 1, -b); }
Tensor operator*(At a, double b) { return scale_shift(a, b, 0); }
Tensor operator/(At a, double b) {
  if (is_differentiable(a.tensor->dtype())) return apply_with<ops::Affine>({b, 0, true}, a);
  return div(*a.tensor, ops::divisor_for(*a.tensor, b), a.where);
}
Tensor operator+(double a, At b) { return scale_shift(b, 1, a); }
Tensor operator-(double a, At b) { return scale_shift(b, -1, a); }
Tensor operator*(double a, At b) { return scale_shift(b, a, 0); }
Tensor operator/(double a, At b) { return div(ops::divisor_for(*b.tensor, a), *b.tensor, b.where); }

}  // namespace ebb
