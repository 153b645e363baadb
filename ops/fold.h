// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"
#include "ebb/ops/window.h"

// The windows of an image as columns of a matrix, and back: what turns a convolution, or a layer
// like it, into a matrix product. float32 or float64 (DTypeError). What does not fit is a
// ShapeError, a number out of its range a ValueError; both name the numbers.
namespace ebb {

struct UnfoldOptions {
  PerAxis<2> dilation = 1;
  PerAxis<2> padding = 0;  ///< zeros
  PerAxis<2> stride = 1;
};

/// The window at each place as a column, channel by channel: x [C,H,W] or [N,C,H,W] to [C*KH*KW,L]
/// or [N,C*KH*KW,L], where L is the number of places, row by row. Also called im2col.
Tensor unfold(const Tensor& x, PerAxis<2> kernel, const UnfoldOptions& options = {},
              Where where = Where::current());

/// The sum of columns in the places they would come from, the transpose of unfold: x [C*KH*KW,L] or
/// [N,C*KH*KW,L] to [C,H,W] or [N,C,H,W] for `output_size` {H,W}. Also called col2im.
Tensor fold(const Tensor& x, PerAxis<2> output_size, PerAxis<2> kernel,
            const UnfoldOptions& options = {}, Where where = Where::current());

/// A convolution whose kernel is another one at each place: x [C,H,W] or [N,C,H,W], weight
/// [H',W',O,C,KH,KW], bias [O,H',W'] or undefined, to [O,H',W'] or [N,O,H',W'] (LeCun,
/// "Generalization and network design strategies", 1989; Gregor and LeCun, "Emergence of
/// complex-like cells in a temporal product network with local receptive fields", 2010). Throws
/// ShapeError where weight or bias does not fit x.
Tensor locally_connected2d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                           const UnfoldOptions& options = {}, Where where = Where::current());

struct LocallyConnected1dOptions {
  int64_t dilation = 1;
  int64_t padding = 0;
  int64_t stride = 1;
};
/// The same along one axis: x [C,L] or [N,C,L], weight [L',O,C,K], bias [O,L'].
Tensor locally_connected1d(const Tensor& x, const Tensor& weight, const Tensor& bias = Tensor(),
                           const LocallyConnected1dOptions& options = {},
                           Where where = Where::current());

}  // namespace ebb
