// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

namespace {

template <class Op, kernels::Compare kernel>
struct CompareOp {
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 2);
    require_same_dtype(Op::kDoc, in);
    return {{kBool, broadcast(Op::kDoc, in[0].shape, in[1].shape)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const kernels::CompareFn fn = kernels::compare_fn(in[0].dtype(), kernel);
    const Shape shape = out[0].shape();
    int64_t sa[kMaxRank];
    int64_t sb[kMaxRank];
    broadcast_strides(in[0], shape, sa);
    broadcast_strides(in[1], shape, sb);
    const auto size = static_cast<ptrdiff_t>(size_of(in[0].dtype()));
    auto* y = reinterpret_cast<uint8_t*>(out[0].raw());
    kernels::for_each_row<3>(
        static_cast<size_t>(shape.rank()), shape.data(), {out[0].strides(), sa, sb},
        [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
          fn(in[0].raw() + at[1] * size, stride[1], in[1].raw() + at[2] * size, stride[2],
             y + at[0], n);
        });
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

}  // namespace ops

namespace {

template <class Op>
Tensor compare(const Tensor& a, const Tensor& b, Where where) {
  const ops::Promoted p(a, b, where);
  return apply<Op>(At(p.a, where), p.b);
}

// With a number: in float64 where x is an integer, so that fractions compare as they should.
template <class Op>
Tensor compare(At a, double b) {
  return compare<Op>(*a.tensor, ops::scalar_for(*a.tensor, b), a.where);
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Eq>(a, b, where); }
Tensor ne(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Ne>(a, b, where); }
Tensor lt(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Lt>(a, b, where); }
Tensor le(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Le>(a, b, where); }
Tensor gt(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Gt>(a, b, where); }
Tensor ge(const Tensor& a, const Tensor& b, Where where) { return compare<ops::Ge>(a, b, where); }

Tensor operator<(At a, At b) { return lt(*a.tensor, *b.tensor, b.where); }
Tensor operator<=(At a, At b) { return le(*a.tensor, *b.tensor, b.where); }
Tensor operator>(At a, At b) { return gt(*a.tensor, *b.tensor, b.where); }
Tensor operator>=(At a, At b) { return ge(*a.tensor, *b.tensor, b.where); }
Tensor operator<(At a, double b) { return compare<ops::Lt>(a, b); }
Tensor operator<=(At a, double b) { return compare<ops::Le>(a, b); }
Tensor operator>(At a, double b) { return compare<ops::Gt>(a, b); }
Tensor operator>=(At a, double b) { return compare<ops::Ge>(a, b); }

}  // namespace ebb
