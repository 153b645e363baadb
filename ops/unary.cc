// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/unary.h"

#include "ebb/ops/unary_op.h"

namespace ebb {
namespace ops {

using kernels::Unary;

void run_unary(Unary op, const Array& x, const Array& y, const kernels::UnaryParams& p) {
  const kernels::UnaryKernels& k = kernels::unary_kernels(op);
  const auto n = static_cast<size_t>(x.numel());
  if (x.dtype() == kFloat32) {
    k.forward32(x.data<float>(), y.mutable_data<float>(), n, p);
  } else {
    k.forward64(x.data<double>(), y.mutable_data<double>(), n, p);
  }
}

void run_unary_backward(Unary op, const Array& g, const Array& x, const Array& y, const Array& dx,
                        const kernels::UnaryParams& p) {
  const kernels::UnaryKernels& k = kernels::unary_kernels(op);
  const auto n = static_cast<size_t>(g.numel());
  if (g.dtype() == kFloat32) {
    k.backward32(g.data<float>(), x.defined() ? x.data<float>() : nullptr,
                 y.defined() ? y.data<float>() : nullptr, dx.mutable_data<float>(), n, p);
  } else {
    k.backward64(g.data<double>(), x.defined() ? x.data<double>() : nullptr,
                 y.defined() ? y.data<double>() : nullptr, dx.mutable_data<double>(), n, p);
  }
}

struct Exp : UnaryOp<Exp, Unary::kExp> {
  static constexpr OpDoc kDoc{"exp", "y = e^x, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * s.out(0); }
};
EBB_OP(Exp)

struct Log : UnaryOp<Log, Unary::kLog> {
  static constexpr OpDoc kDoc{"log", "y = ln(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g / s.in(0); }
};
EBB_OP(Log)

struct Sqrt : UnaryOp<Sqrt, Unary::kSqrt> {
  static constexpr OpDoc kDoc{"sqrt", "y = sqrt(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return 0.5 * g / s.out(0); }
};
EBB_OP(Sqrt)

struct Square : UnaryOp<Square, Unary::kSquare> {
  static constexpr OpDoc kDoc{"square", "y = x^2, elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return 2 * g * s.in(0); }
};
EBB_OP(Square)

struct Tanh : UnaryOp<Tanh, Unary::kTanh> {
  static constexpr OpDoc kDoc{"tanh", "y = tanh(x), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) { return g * (1 - square(s.out(0))); }
};
EBB_OP(Tanh)

}  // namespace ops

Tensor exp(const Tensor& x, Where where) { return apply<ops::Exp>(At(x, where)); }
Tensor log(const Tensor& x, Where where) { return apply<ops::Log>(At(x, where)); }
Tensor sqrt(const Tensor& x, Where where) { return apply<ops::Sqrt>(At(x, where)); }
Tensor square(const Tensor& x, Where where) { return apply<ops::Square>(At(x, where)); }
Tensor tanh(const Tensor& x, Where where) { return apply<ops::Tanh>(At(x, where)); }

}  // namespace ebb
