// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

namespace {

// out = fn(a, b) over the shape of `out`, which a and b broadcast to.
void run_compare(kernels::CompareFn fn, const Array& a, const Array& b, const Array& out) {
  const Shape shape = out.shape();
  int64_t sa[kMaxRank];
  int64_t sb[kMaxRank];
  broadcast_strides(a, shape, sa);
  broadcast_strides(b, shape, sb);
  const auto size = static_cast<ptrdiff_t>(size_of(a.dtype()));
  auto* y = reinterpret_cast<uint8_t*>(out.raw());
  kernels::for_each_row<3>(static_cast<size_t>(shape.rank()), shape.data(), {out.strides(), sa, sb},
                           [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                             fn(a.raw() + at[1] * size, stride[1], b.raw() + at[2] * size,
                                stride[2], y + at[0], n);
                           });
}

template <class Op, kernels::Compare kernel>
struct CompareOp {
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 2);
    require_same_dtype(Op::kDoc, in);
    return {{kBool, broadcast(Op::kDoc, in[0].shape, in[1].shape)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_compare(kernels::compare_fn(in[0].dtype(), kernel), in[0], in[1], out[0]);
  }
};

void require_bool(const OpDoc& doc, Span<const Meta> in) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].dtype == kBool) continue;
    throw DTypeError(
        absl::StrCat(doc.name, ": input ", i, " is ", in[i].str(), "; it must be bool"));
  }
}

template <class Op, kernels::Logical kernel>
struct LogicalOp {
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 2);
    require_bool(Op::kDoc, in);
    return {{kBool, broadcast(Op::kDoc, in[0].shape, in[1].shape)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_compare(kernels::logical_fn(kernel), in[0], in[1], out[0]);
  }
};

}  // namespace

struct Eq : CompareOp<Eq, kernels::Compare::kEq> {
  static constexpr OpDoc kDoc{"eq", "y = a == b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Eq)

struct Ne : CompareOp<Ne, kernels::Compare::kNe> {
  static constexpr OpDoc kDoc{"ne", "y = a != b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Ne)

struct Lt : CompareOp<Lt, kernels::Compare::kLt> {
  static constexpr OpDoc kDoc{"lt", "y = a < b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Lt)

struct Le : CompareOp<Le, kernels::Compare::kLe> {
  static constexpr OpDoc kDoc{"le", "y = a <= b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Le)

struct Gt : CompareOp<Gt, kernels::Compare::kGt> {
  static constexpr OpDoc kDoc{"gt", "y = a > b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Gt)

struct Ge : CompareOp<Ge, kernels::Compare::kGe> {
  static constexpr OpDoc kDoc{"ge", "y = a >= b, elementwise", "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(Ge)

struct LogicalAnd : LogicalOp<LogicalAnd, kernels::Logical::kAnd> {
  static constexpr OpDoc kDoc{"logical_and", "y = a and b, elementwise",
                              "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(LogicalAnd)

struct LogicalOr : LogicalOp<LogicalOr, kernels::Logical::kOr> {
  static constexpr OpDoc kDoc{"logical_or", "y = a or b, elementwise",
                              "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(LogicalOr)

struct LogicalXor : LogicalOp<LogicalXor, kernels::Logical::kXor> {
  static constexpr OpDoc kDoc{"logical_xor", "y = either a or b, elementwise",
                              "a:[...] b:[...] -> y:[...]"};
};
EBB_OP(LogicalXor)

struct LogicalNot {
  static constexpr OpDoc kDoc{"logical_not", "y = not x, elementwise", "x:[...] -> y:[...]"};
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_bool(kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    kernels::logical_not(reinterpret_cast<const uint8_t*>(x.raw()), 1,
                         reinterpret_cast<uint8_t*>(out[0].raw()), static_cast<size_t>(x.numel()));
  }
};
EBB_OP(LogicalNot)

}  // namespace ops

namespace {

template <class Op>
Tensor compare(const Tensor& a, const Tensor& b, Where where) {
  const ops::Promoted p(a, b, where);
  return apply<Op>(At(p.a, where), p.b);
}

// With a number: an integer tensor is compared as float32 where the number has a fraction.
template <class Op>
Tensor compare(At a, double b) {
  return compare<Op>(*a.tensor, ops::scalar_to_compare(*a.tensor, b), a.where);
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Eq>(a, b, where); }
Tensor ne(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Ne>(a, b, where); }
Tensor lt(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Lt>(a, b, where); }
Tensor le(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Le>(a, b, where); }
Tensor gt(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Gt>(a, b, where); }
Tensor ge(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Ge>(a, b, where); }

Tensor logical_and(const Tensor& a, const Tensor& b, Where where) {
  return apply<ops::LogicalAnd>(At(a, where), b);
}
Tensor logical_or(const Tensor& a, const Tensor& b, Where where) {
  return apply<ops::LogicalOr>(At(a, where), b);
}
Tensor logical_xor(const Tensor& a, const Tensor& b, Where where) {
  return apply<ops::LogicalXor>(At(a, where), b);
}
Tensor logical_not(const Tensor& x, Where where) { return apply<ops::LogicalNot>(At(x, where)); }

Tensor operator<(At a, At b) { return lt(*a.tensor, *b.tensor, b.where); }
Tensor operator<=(At a, At b) { return le(*a.tensor, *b.tensor, b.where); }
Tensor operator>(At a, At b) { return gt(*a.tensor, *b.tensor, b.where); }
Tensor operator>=(At a, At b) { return ge(*a.tensor, *b.tensor, b.where); }
Tensor operator<(At a, double b) { return compare<ops::Lt>(a, b); }
Tensor operator<=(At a, double b) { return compare<ops::Le>(a, b); }
Tensor operator>(At a, double b) { return compare<ops::Gt>(a, b); }
Tensor operator>=(At a, double b) { return compare<ops::Ge>(a, b); }

}  // namespace ebb
