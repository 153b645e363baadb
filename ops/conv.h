// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"
#include "ebb/ops/window.h"

// Convolution over the last one, two or three axes, batched or not. Tensors are float32 or float64,
// of one type (DTypeError). What does not fit is an error that names the numbers: ShapeError for
// shapes and groups and for results without elements or beyond counting, ValueError for a stride,
// dilation, padding or number of groups out of its range. All gradients are convolutions again and
// may be differentiated to any order.
//
// Of D axes, with p of padding, dilation d, stride s and a kernel of k elements, an axis of n has
//   floor((n + 2 p - d (k - 1) - 1) / s) + 1
// elements afterwards.
namespace ebb {

template <int D>
struct ConvOptions {
  PerAxis<D> stride = 1;    ///< of the window over x
  Padding<D> padding = 0;   ///< zeros around x; kSame and kValid too, kSame with stride 1 alone
  PerAxis<D> dilation = 1;  ///< distance of the kernel's elements in x
  int64_t groups = 1;       ///< channels in so many groups, each seen by its own kernels alone
};

/// y[o] = bias[o] + sum over c of weight[o,c] * x[c], where * is cross-correlation: x [C,L] or
/// [N,C,L], weight [O,C/groups,K], bias [O] or undefined to [O,L'] or [N,O,L'].
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
              const ConvOptions<1>& options = {}, Where where = Where::current());
/// The same over images: x [C,H,W] or [N,C,H,W], weight [O,C/groups,KH,KW].
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
              const ConvOptions<2>& options = {}, Where where = Where::current());
/// The same over volumes: x [C,T,H,W] or [N,C,T,H,W], weight [O,C/groups,KT,KH,KW].
Tensor conv3d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
              const ConvOptions<3>& options = {}, Where where = Where::current());

template <int D>
struct ConvTransposeOptions {
  PerAxis<D> stride = 1;          ///< of the window over the result
  PerAxis<D> padding = 0;         ///< taken off both ends of the result
  PerAxis<D> output_padding = 0;  ///< added to the result's end; below stride or dilation
  int64_t groups = 1;
  PerAxis<D> dilation = 1;
};

/// The gradient of conv1d by its x, as a map of its own (Zeiler, Krishnan, Taylor, Fergus,
/// "Deconvolutional networks", 2010): x [C,L] or [N,C,L], weight [C,O/groups,K], bias [O] or
/// undefined to [O,L'] or [N,O,L'] with
///   L' = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.
Tensor conv_transpose1d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                        const ConvTransposeOptions<1>& options = {},
                        Where where = Where::current());
/// The same over images: x [C,H,W] or [N,C,H,W], weight [C,O/groups,KH,KW].
Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                        const ConvTransposeOptions<2>& options = {},
                        Where where = Where::current());
/// The same over volumes: x [C,T,H,W] or [N,C,T,H,W], weight [C,O/groups,KT,KH,KW].
Tensor conv_transpose3d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                        const ConvTransposeOptions<3>& options = {},
                        Where where = Where::current());

/// The gradient of conv1d by its weight, given that of its result: x [C,L] or [N,C,L] and dy [O,L']
/// or [N,O,L'] to [O,C/groups,K]. Throws ShapeError where dy has not the shape of conv1d's result.
Tensor conv1d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<1> kernel,
                          const ConvOptions<1>& options = {}, Where where = Where::current());
/// The same of conv2d: x [C,H,W] or [N,C,H,W] and dy [O,..] or [N,O,..] to [O,C/groups,KH,KW].
Tensor conv2d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<2> kernel,
                          const ConvOptions<2>& options = {}, Where where = Where::current());
/// The same of conv3d.
Tensor conv3d_grad_weight(const Tensor& x, const Tensor& dy, PerAxis<3> kernel,
                          const ConvOptions<3>& options = {}, Where where = Where::current());

}  // namespace ebb
