// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/op_util.h"

// The shape that all elementwise ops of one floating input share. An op of this kind names its
// kernel, and gives the rule of its derivative in tensors:
//
//   struct Exp : UnaryOp<Exp, kernels::Unary::kExp> {
//     static constexpr OpDoc kDoc{"exp", "y = e^x, elementwise", "x:[...] -> y:[...]"};
//     static Tensor derivative(const Saved& s, const Tensor& g) { return g * s.out(0); }
//   };
//
// The rule may read the input or the output, whichever the kernel's derivative reads
// (kernels::unary_info), for that is what is saved.
namespace ebb::ops {

/// Attributes of an op without any.
struct NoAttrs {
  operator kernels::UnaryParams() const { return {}; }  // NOLINT(google-explicit-constructor)
};

/// y = f(x) for contiguous x and y of the same type and number of elements.
void run_unary(kernels::Unary op, const Array& x, const Array& y, const kernels::UnaryParams& p);
/// dx = g f'(x); of x and y the one that the kernel reads is defined.
void run_unary_backward(kernels::Unary op, const Array& g, const Array& x, const Array& y,
                        const Array& dx, const kernels::UnaryParams& p);

template <class Op, kernels::Unary kernel, class A = NoAttrs>
struct UnaryOp {
  using Attrs = A;
  static constexpr bool kElementwise = true;

  static constexpr GradUses uses(int) {
    return {.in = kernels::backward_reads_input(kernel) ? 1u : 0u,
            .out = kernels::backward_reads_output(kernel) ? 1u : 0u};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_floating(Op::kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_unary(kernel, contiguous(in[0]), out[0], a);
  }
  static void forward_aligned(const Attrs& a, DType t, const void* const* in, void* out, size_t n) {
    kernels::run_unary(kernel, t, in[0], out, n, a);
  }
  static void backward_aligned(const Attrs& a, const AlignedGrads& g) {
    kernels::run_unary_backward(kernel, g.dtype, g.g, g.saved[0], g.saved[1], g.dx[0], g.n, a);
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {Op::derivative(s, g[0])}; }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    Array gy = contiguous(g.take(0));
    const Array dx = reuse_or_new(gy);
    run_unary_backward(
        kernel, gy, kernels::backward_reads_input(kernel) ? contiguous(s.in_array(0)) : Array(),
        kernels::backward_reads_output(kernel) ? s.out_array(0) : Array(), dx, s.attrs<Attrs>());
    sink.add(0, dx);
  }
};

}  // namespace ebb::ops
