// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/core/dtype.h"
#include "ebb/ops/kernels/dispatch.h"

// Elementwise functions of one variable and their derivatives.
namespace ebb::kernels {

// One line for each function: its name; what the derivative reads; the error in float32 and in
// float64; y = f(x), where a and b are the parameters.
//
// The errors are bounds, in units in the last place of the exact value, on what was measured with
// every instruction set: float32 over a sweep of all bit patterns, float64 over millions of points
// of all sizes and around every boundary. Beside that a factor that passes through the denormal
// numbers may cost 64 (float64: 1024) of the smallest of them.
//   (c)  That many ulp of the value or of the change of the value from one x to the next, whichever
//        is larger: the function magnifies the rounding of its own argument.
//
// A derivative is within 6 ulp of itself; but where it is a difference that may cancel (of
// hardswish, tanh, sigmoid, expm1, silu, mish, gelu) or (c) applies, within 6 ulp of 1.
//
// A NaN gives NaN, but x^0 = 1; +-infinity gives the limit. Where f has a kink, the derivative is
// PyTorch's choice, noted here. Softshrink's and Hardshrink's a is not negative.
//
// To add a function: a line here, a struct of the same name in the .cc of the group, and what it is
// in plain arithmetic in tests/kernels/unary_reference.h.
// clang-format off

// Arithmetic, rounding and piecewise functions: unary_basic.cc.
#define EBB_UNARY_BASIC(OP)                                                                        \
  OP(Neg,        kNothing, 0,   0)   /* -x */                                                      \
  OP(Abs,        kInput,   0,   0)   /* |x|; f'(0) = 0 */                                          \
  OP(Sign,       kNothing, 0,   0)   /* -1, 0 or 1; f' = 0 */                                      \
  OP(Square,     kInput,   0.5, 0.5) /* x^2 */                                                     \
  OP(Sqrt,       kOutput,  0.5, 0.5) /* sqrt(x) */                                                 \
  OP(Rsqrt,      kOutput,  1.5, 1.5) /* 1 / sqrt(x) */                                             \
  OP(Reciprocal, kOutput,  0.5, 0.5) /* 1 / x */                                                   \
  OP(Relu,       kOutput,  0,   0)   /* max(x, 0); f'(0) = 0 */                                    \
  OP(LeakyRelu,  kInput,   0.5, 0.5) /* x > 0 ? x : a x; f'(0) = a */                              \
  OP(Hardtanh,   kInput,   0,   0)   /* min(max(x, a), b); f'(a) = f'(b) = 0 */                    \
  OP(Clamp,      kInput,   0,   0)   /* min(max(x, a), b); f'(a) = f'(b) = 1 */                    \
  OP(Softshrink, kInput,   0.5, 0.5) /* x - a above a, x + a below -a, else 0; f'(+-a) = 0 */      \
  OP(Hardshrink, kInput,   0,   0)   /* x where |x| > a, else 0; f'(+-a) = 0 */                    \
  OP(Threshold,  kInput,   0,   0)   /* x above a, else b; f'(a) = 0 */                            \
  OP(Hardsigmoid, kInput,  1,   1)   /* (x + 3) / 6 cut to [0, 1]; f'(+-3) = 0 */                  \
  OP(Hardswish,  kInput,   2,   2)   /* x hardsigmoid(x); f'(-3) = 0, f'(3) = 1 */                 \
  OP(Softsign,   kInput,   1.5, 1.5) /* x / (1 + |x|) */                                           \
  OP(Affine,     kNothing, 1,   1)   /* a x + b (c) */                                             \
  OP(Floor,      kNothing, 0,   0)   /* f' = 0, as of the next three */                            \
  OP(Ceil,       kNothing, 0,   0)                                                                 \
  OP(Round,      kNothing, 0,   0)   /* to the nearest integer, halves to the even one */          \
  OP(Trunc,      kNothing, 0,   0)

// Exponential, logarithm and what is made of them: unary_exp.cc.
#define EBB_UNARY_EXP(OP)                                                                          \
  OP(Exp,        kOutput,  1,   1)   /* e^x */                                                     \
  OP(Exp2,       kOutput,  1.1, 1.2) /* 2^x */                                                     \
  OP(Expm1,      kOutput,  1.8, 1.7) /* e^x - 1 */                                                 \
  OP(Log,        kInput,   0.9, 1)   /* ln(x) */                                                   \
  OP(Log1p,      kInput,   1,   1)   /* ln(1 + x) */                                               \
  OP(Tanh,       kOutput,  2,   1.9)                                                               \
  OP(Sigmoid,    kOutput,  1.9, 1.9) /* 1 / (1 + e^-x) */                                          \
  OP(LogSigmoid, kInput,   1.9, 1.8) /* -ln(1 + e^-x) */                                           \
  OP(Softplus,   kInput,   2.5, 2.4) /* ln(1 + e^(a x)) / a; x where a x > b; (c) if a != 1 */     \
  OP(Silu,       kInput,   2.8, 2.8) /* x sigmoid(x) */                                            \
  OP(Mish,       kInput,   4,   4.3) /* x tanh(ln(1 + e^x)): D. Misra, 2019 */                     \
  OP(Elu,        kInput,   1.7, 1.7) /* x > 0 ? x : a (e^x - 1); f'(0) = a */                      \
  OP(Celu,       kInput,   2.2, 2.2) /* x > 0 ? x : a (e^(x / a) - 1) (c); f'(0) = 1 */            \
  OP(Selu,       kInput,   2,   1.9) /* elu, scaled: G. Klambauer et al., 2017; f'(0) = 1.758 */   \
  OP(Erf,        kInput,   1.7, 1.5) /* 2 / sqrt(pi) times the integral of e^(-t^2) to x */        \
  OP(Gelu,       kInput,   4.3, 4.3) /* x Phi(x), Phi the normal distribution's */                 \
  OP(GeluTanh,   kInput,   3,   3.3) /* x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (c) */

// Functions whose float32 form computes in double: unary_double.cc.
#define EBB_UNARY_DOUBLE(OP)                                                                       \
  OP(Sin,        kInput,   0.6, 1)                                                                 \
  OP(Cos,        kInput,   0.6, 1.1)                                                               \
  OP(Tan,        kOutput,  0.6, 2.4)                                                               \
  OP(Asin,       kInput,   0.6, 2.8)                                                               \
  OP(Acos,       kInput,   0.6, 2.5)                                                               \
  OP(Atan,       kInput,   0.6, 2)                                                                 \
  OP(Sinh,       kInput,   0.6, 1.8)                                                               \
  OP(Cosh,       kInput,   0.6, 1.6)                                                               \
  OP(Asinh,      kInput,   0.6, 1.9)                                                               \
  OP(Acosh,      kInput,   0.6, 2.6)                                                               \
  OP(Atanh,      kInput,   0.6, 2)                                                                 \
  OP(Erfc,       kInput,   0.6, 5.6) /* 1 - erf(x) */                                              \
  OP(Log2,       kInput,   0.6, 1.7)                                                               \
  OP(Log10,      kInput,   0.6, 1.9)                                                               \
  OP(PowScalar,  kInput,   1.4, 1.4) /* x^a; a = 0, 1, 2, 3, -1, 1/2 without exp and log */
// clang-format on

#define EBB_UNARY_OPS(OP) EBB_UNARY_BASIC(OP) EBB_UNARY_EXP(OP) EBB_UNARY_DOUBLE(OP)

/// Unary::kExp and so on, one for each line above.
enum class Unary : uint8_t {
#define EBB_UNARY_ENUM(name, reads, ulp32, ulp64) k##name,
  EBB_UNARY_OPS(EBB_UNARY_ENUM)
#undef EBB_UNARY_ENUM
      kCount
};
inline constexpr int kUnaryCount = static_cast<int>(Unary::kCount);

enum class UnaryReads : uint8_t { kNothing, kInput, kOutput };

struct UnaryInfo {
  const char* name;  ///< as in the list: "Exp"
  UnaryReads reads;  ///< which of x and y the derivative reads
  double ulp32;      ///< bound on the error in float32, see above
  double ulp64;      ///< and in float64
};

namespace detail {
inline constexpr UnaryInfo kUnaryInfo[] = {
#define EBB_UNARY_INFO(name, reads, ulp32, ulp64) {#name, UnaryReads::reads, ulp32, ulp64},
    EBB_UNARY_OPS(EBB_UNARY_INFO)
#undef EBB_UNARY_INFO
};
}  // namespace detail

constexpr const UnaryInfo& unary_info(Unary op) { return detail::kUnaryInfo[static_cast<int>(op)]; }
constexpr bool backward_reads_input(Unary op) { return unary_info(op).reads == UnaryReads::kInput; }
constexpr bool backward_reads_output(Unary op) {
  return unary_info(op).reads == UnaryReads::kOutput;
}

/// The parameters of the functions that have any.
struct UnaryParams {
  double a = 0;
  double b = 0;
};

/// y[i] = f(x[i]) for i < n. y may be x; other overlaps are not allowed.
using UnaryFn32 = void (*)(const float* x, float* y, size_t n, const UnaryParams& p);
using UnaryFn64 = void (*)(const double* x, double* y, size_t n, const UnaryParams& p);

/// dx[i] = g[i] f'(x[i]) for i < n, where y[i] = f(x[i]). Of x and y, those that are not read
/// (`backward_reads_input`, `backward_reads_output`) may be null. dx may be any of the others; no
/// other overlap is allowed. Where f' is 0 by definition, dx is 0 even if g is not finite.
using UnaryBwd32 = void (*)(const float* g, const float* x, const float* y, float* dx, size_t n,
                            const UnaryParams& p);
using UnaryBwd64 = void (*)(const double* g, const double* x, const double* y, double* dx, size_t n,
                            const UnaryParams& p);

/// Pointers need only the alignment of their element. An element's result depends on nothing but
/// the element: neither its place nor n nor its neighbours.
struct UnaryKernels {
  UnaryFn32 forward32;
  UnaryFn64 forward64;
  UnaryBwd32 backward32;
  UnaryBwd64 backward64;
};

namespace detail {
#define EBB_UNARY_ONE(name, reads, ulp32, ulp64) +1  // NOLINT(bugprone-macro-parentheses)
inline constexpr int kUnaryBasicCount = EBB_UNARY_BASIC(EBB_UNARY_ONE);
inline constexpr int kUnaryExpCount = EBB_UNARY_EXP(EBB_UNARY_ONE);
inline constexpr int kUnaryDoubleCount = EBB_UNARY_DOUBLE(EBB_UNARY_ONE);
#undef EBB_UNARY_ONE

template <int kCount>
struct UnaryTable {
  UnaryKernels ops[kCount];
};
extern constinit const Dispatch<UnaryTable<kUnaryBasicCount>> unary_basic;
extern constinit const Dispatch<UnaryTable<kUnaryExpCount>> unary_exp;
extern constinit const Dispatch<UnaryTable<kUnaryDoubleCount>> unary_double;
}  // namespace detail

/// The kernels of `op` for this machine.
inline const UnaryKernels& unary_kernels(Unary op) {
  int i = static_cast<int>(op);
  if (i < detail::kUnaryBasicCount) return detail::unary_basic->ops[i];
  i -= detail::kUnaryBasicCount;
  if (i < detail::kUnaryExpCount) return detail::unary_exp->ops[i];
  return detail::unary_double->ops[i - detail::kUnaryExpCount];
}

/// y = op(x) on n elements of float32 or float64.
inline void run_unary(Unary op, DType t, const void* x, void* y, size_t n, const UnaryParams& p) {
  const UnaryKernels& k = unary_kernels(op);
  if (t == kFloat32) {
    k.forward32(static_cast<const float*>(x), static_cast<float*>(y), n, p);
  } else {
    k.forward64(static_cast<const double*>(x), static_cast<double*>(y), n, p);
  }
}

/// dx = g op'(x) on n elements of float32 or float64; of x and y the one that the kernel does not
/// read may be null.
inline void run_unary_backward(Unary op, DType t, const void* g, const void* x, const void* y,
                               void* dx, size_t n, const UnaryParams& p) {
  const UnaryKernels& k = unary_kernels(op);
  if (t == kFloat32) {
    k.backward32(static_cast<const float*>(g), static_cast<const float*>(x),
                 static_cast<const float*>(y), static_cast<float*>(dx), n, p);
  } else {
    k.backward64(static_cast<const double*>(g), static_cast<const double*>(x),
                 static_cast<const double*>(y), static_cast<double*>(dx), n, p);
  }
}

}  // namespace ebb::kernels
