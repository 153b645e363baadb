// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"

// Convolution over one to three axes, row-major and contiguous float and double; on several threads
// where there is so much to do that it pays, with the same result as on one. Shapes are taken as
// they are: who calls has checked that they fit together.
namespace ebb::kernels {

/// Cross-correlation over `dims` = 1..3 spatial axes; axis d of an array is entry d of the arrays
/// below, so one axis is entry 0.
///
/// x:[batch, in_channels, in...], w:[out_channels, in_channels/groups, kernel...] and
/// y:[batch, out_channels, out...]. y at o reads x at o * stride + k * dilation - pad, which is
/// zero outside [0, in): what padding there is behind the end follows from `out`, and may be more
/// or less than `pad`. pad and in may be such that some outputs read nothing but zeros. Any of the
/// sizes may be 0; stride and dilation are at least 1; groups divides both numbers of channels.
struct ConvShape {
  int dims;
  int64_t batch, in_channels, out_channels, groups;
  int64_t in[3], kernel[3], stride[3], dilation[3], pad[3], out[3];
};

/// y = w * x + bias; `bias` [out_channels] may be null. Overwrites y, which overlaps no operand; so
/// do the others.
void conv_forward(const ConvShape& s, const float* x, const float* w, const float* bias, float* y);
void conv_forward(const ConvShape& s, const double* x, const double* w, const double* bias,
                  double* y);

/// dx from the gradient of y. This is also transposed convolution, with y's part taken by its input
/// and x's by its output.
void conv_grad_input(const ConvShape& s, const float* dy, const float* w, float* dx);
void conv_grad_input(const ConvShape& s, const double* dy, const double* w, double* dx);

/// dw from the gradient of y.
void conv_grad_weight(const ConvShape& s, const float* x, const float* dy, float* dw);
void conv_grad_weight(const ConvShape& s, const double* x, const double* dy, double* dw);

/// Calls both, which take as long as the two gradients of `s` do and have nothing to do with each
/// other: at a time where that pays.
void conv_gradients(const ConvShape& s, absl::FunctionRef<void()> of_input,
                    absl::FunctionRef<void()> of_weight);

/// db [out_channels], the sums of dy.
void conv_grad_bias(const ConvShape& s, const float* dy, float* db);
void conv_grad_bias(const ConvShape& s, const double* dy, double* db);

enum class ConvPass { kForward, kGradInput, kGradWeight };

/// Bytes that a pass over elements of `element_size` bytes takes from the pool while it runs on
/// one thread: at most four times those of the weights and a megabyte. So does each of several.
size_t conv_workspace_bytes(const ConvShape& s, ConvPass pass, size_t element_size);

}  // namespace ebb::kernels
