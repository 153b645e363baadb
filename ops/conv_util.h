// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ebb/autograd/op.h"
#include "ebb/ops/conv.h"
#include "ebb/ops/kernels/conv.h"

// The three ops of a convolution and what they share. With x, w and the gradient dy of the result,
// all three are parts of one form that is linear in each of them, sum of dy conv(x, w): leaving out
// one of the three gives its gradient. So each op's gradients are the two others. Not for users.
namespace ebb::ops {

/// The geometry, from x to y of the convolution whichever of the ops it belongs to.
struct ConvAttrs {
  int dims = 0;
  bool same = false;  // kSame was asked for
  int64_t groups = 1;
  int64_t stride[3] = {1, 1, 1};
  int64_t dilation[3] = {1, 1, 1};
  int64_t pad[3] = {};
  int64_t pad_after[3] = {};  // may be negative in a gradient: elements at the end that no y reads
};
struct ConvTransposeAttrs : ConvAttrs {
  int64_t output_padding[3] = {};
};
struct ConvGradWeightAttrs : ConvAttrs {
  int64_t kernel[3] = {1, 1, 1};
};

/// Attributes with the number of axes set, for the ops of one.
template <class Attrs, int D>
struct OfDims : Attrs {
  OfDims() { this->dims = D; }
  explicit OfDims(const Attrs& a) : Attrs(a) {}
};

std::string describe(const ConvAttrs& a);

/// "conv2d: x is [3,5,5], weight is [4,2,3,3], stride [1,1], ...; " and why, as a ShapeError.
[[noreturn]] void conv_misfit(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                              Span<const char* const> names, const std::string& why);

/// Throws ValueError where a number of the geometry is out of its range, ShapeError where the rank
/// of input 0 or 1 does not fit.
void check_conv(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, int rank1);
/// Throws ShapeError where x, or dy, has no channels, or no elements along an axis.
void check_axes(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, size_t which);
/// Throws ShapeError where the bias, input 2 if there is one, is not [channels].
void check_bias(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, int64_t channels);
/// `out` in the type of the inputs; throws ShapeError where it has no elements but for an empty
/// batch, or more than can be addressed.
Metas checked_result(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                     Span<const char* const> names, const Shape& out);

/// Whether a tensor of that rank has a batch axis in front.
inline bool is_batched(const ConvAttrs& a, int rank) { return rank == a.dims + 2; }

/// Elements of the result along an axis; 0 or less where there are none.
inline int64_t conv_size(const ConvAttrs& a, int d, int64_t n, int64_t kernel) {
  const int64_t room = n + a.pad[d] + a.pad_after[d] - a.dilation[d] * (kernel - 1) - 1;
  return room < 0 ? 0 : room / a.stride[d] + 1;
}
/// Elements of x along an axis of which a result of `n` needs all.
inline int64_t conv_transpose_size(const ConvAttrs& a, int d, int64_t n, int64_t kernel) {
  return (n - 1) * a.stride[d] - a.pad[d] - a.pad_after[d] + a.dilation[d] * (kernel - 1) + 1;
}

/// For the kernels: shapes of x and y, with or without a batch axis, and of the weight.
kernels::ConvShape kernel_shape(const ConvAttrs& a, const Shape& x, const Shape& weight,
                                const Shape& y);

// The ops on arrays; all contiguous but the inputs, which may be anything.
void run_conv(const kernels::ConvShape& s, const Array& x, const Array& w, const Array& bias,
              const Array& y);
void run_conv_grad_input(const kernels::ConvShape& s, const Array& dy, const Array& w,
                         const Array& dx);
void run_conv_grad_weight(const kernels::ConvShape& s, const Array& x, const Array& dy,
                          const Array& dw);
/// Sums over all axes of dy [N,O,...] or [O,...] but that of the `channels`.
Array channel_sums(const ConvAttrs& a, const Array& dy);
Tensor channel_sums(const ConvAttrs& a, const Tensor& dy);
/// The gradients that are wanted of a convolution's {x, weight, bias}, or of a transposed one's.
void add_conv_gradients(const ConvAttrs& a, const Saved& s, bool transposed, const Array& gy,
                        GradSink& sink);

// The ops on tensors, for each other's rules.
Tensor call_conv(const ConvAttrs& a, const Tensor& x, const Tensor& w);
/// dx of the size of x's axes, `in`.
Tensor call_conv_transpose(const ConvAttrs& a, const Tensor& dy, const Tensor& w, const Shape& in);
Tensor call_conv_grad_weight(const ConvAttrs& a, const Tensor& x, const Tensor& dy,
                             const Shape& weight);

Cost conv_cost(Span<const Meta> in, Span<const Meta> out, double multiply_adds);

template <int D>
ConvAttrs attrs_of(const ConvOptions<D>& options) {
  ConvAttrs a;
  a.dims = D;
  a.same = options.padding.is_same();
  a.groups = options.groups;
  for (int d = 0; d < D; ++d) {
    a.stride[d] = options.stride[d];
    a.dilation[d] = options.dilation[d];
    a.pad[d] = a.pad_after[d] = options.padding[d];
  }
  return a;
}

/// Puts in the padding of kSame for a kernel of that size.
void resolve_same(ConvAttrs& a, const int64_t* kernel);

}  // namespace ebb::ops
