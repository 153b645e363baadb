// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/unary.h"
#include "ebb/ops/unary_op.h"

// Derivatives of functions by their output, each as one op: what a graph of gradients consists of
// is then as short as the network it came from.
namespace ebb {
namespace ops {

using kernels::Unary;

namespace {

// The operand as it is read at every index of `shape`.
Array spread(const Array& a, const Shape& shape) {
  int64_t strides[kMaxRank];
  broadcast_strides(a, shape, strides);
  return contiguous(a.view(shape, strides, 0));
}

// dx = g s(y), where s(y) is the slope of f at x for y = f(x). An Op has s' as bend().
template <class Op, Unary kernel>
struct Slope {
  struct Attrs {};
  static constexpr bool kElementwise = true;
  static constexpr GradUses uses(int input) { return {.in = input == 0 ? 0b10u : 0b11u}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 2);
    require_floating(Op::kDoc, in);
    require_same_dtype(Op::kDoc, in);
    return {{in[0].dtype, broadcast(Op::kDoc, in[0].shape, in[1].shape)}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Shape shape = out[0].shape();
    run_unary_backward(kernel, spread(in[0], shape), {}, spread(in[1], shape), out[0], {});
  }
  static void forward_aligned(const Attrs&, DType t, const void* const* in, void* out, size_t n) {
    kernels::run_unary_backward(kernel, t, in[0], nullptr, in[1], out, n, {});
  }
  static void backward_aligned(const Attrs&, const AlignedGrads& g) {
    const auto to_g = [&] {
      kernels::run_unary_backward(kernel, g.dtype, g.g, nullptr, g.saved[1], g.dx[0], g.n, {});
    };
    if (g.dx[0] != nullptr && g.dx[0] != g.g) to_g();
    if (g.dx[1] != nullptr) {
      const kernels::BinaryFn mul = kernels::binary_fn(g.dtype, kernels::Binary::kMul);
      visit_differentiable(g.dtype, [&](auto t) {
        using T = decltype(t);
        // g's own elements are overwritten last, with the product of all.
        auto* dy = static_cast<T*>(g.dx[1]);
        mul(g.g, 1, g.saved[0], 1, dy, g.n);
        Op::multiply_by_bend(dy, static_cast<const T*>(g.saved[1]), g.n);
      });
    }
    if (g.dx[0] == g.g) to_g();
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? unbroadcast(s, Op::call(g[0], s.in(1)), 0) : Tensor(),
            s.needs(1) ? unbroadcast(s, g[0] * s.in(0) * Op::bend(s.in(1)), 1) : Tensor()};
  }
};

}  // namespace

struct TanhBackward : Slope<TanhBackward, Unary::kTanh> {
  static constexpr OpDoc kDoc{"tanh_backward", "dx = g (1 - y^2), elementwise",
                              "g:[...] y:[...] -> dx:[...]"};
  static Tensor call(const Tensor& g, const Tensor& y) { return tanh_backward(g, y); }
  static Tensor bend(const Tensor& y) { return -2 * y; }
  template <class T>
  static void multiply_by_bend(T* t, const T* y, size_t n) {
    for (size_t i = 0; i < n; ++i) t[i] *= -2 * y[i];
  }
};
EBB_OP(TanhBackward)

struct SigmoidBackward : Slope<SigmoidBackward, Unary::kSigmoid> {
  static constexpr OpDoc kDoc{"sigmoid_backward", "dx = g y (1 - y), elementwise",
                              "g:[...] y:[...] -> dx:[...]"};
  static Tensor call(const Tensor& g, const Tensor& y) { return sigmoid_backward(g, y); }
  static Tensor bend(const Tensor& y) { return 1 - 2 * y; }
  template <class T>
  static void multiply_by_bend(T* t, const T* y, size_t n) {
    for (size_t i = 0; i < n; ++i) t[i] *= 1 - 2 * y[i];
  }
};
EBB_OP(SigmoidBackward)

}  // namespace ops

Tensor tanh_backward(const Tensor& g, const Tensor& y, Where where) {
  return apply<ops::TanhBackward>(At(g, where), y);
}
Tensor sigmoid_backward(const Tensor& g, const Tensor& y, Where where) {
  return apply<ops::SigmoidBackward>(At(g, where), y);
}

}  // namespace ebb
