// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ebb/core/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/window.h"

// Pooling: what windows over the last one, two or three axes of x see, put together to one number.
// x is [C,...] or, batched, [N,C,...], float32 or float64 (DTypeError). What does not fit is an
// error that names the numbers: ShapeError for shapes and for results without elements, ValueError
// for a window, stride, dilation or padding out of its range. All may be differentiated to any
// order.
//
// Of n elements, with p of padding, dilation d, stride s and windows of k there are
//   floor((n + 2 p - d (k - 1) - 1) / s) + 1
// windows; with ceil_mode the division is rounded up, but no window starts behind the elements and
// the padding in front. A padding is at most half of a window, so that every window sees elements.
namespace ebb {

template <int D>
struct MaxPoolOptions {
  PerAxis<D> stride = 0;   ///< 0: that of the window, side by side
  PerAxis<D> padding = 0;  ///< never the largest
  PerAxis<D> dilation = 1;
  bool ceil_mode = false;
};

/// The largest element of each window; NaN if there is one. The gradient goes to the first of equal
/// largest elements. x [C,L] or [N,C,L]. Throws ValueError where padding and dilation leave a
/// window without an element.
Tensor max_pool1d(const Tensor& x, PerAxis<1> kernel, const MaxPoolOptions<1>& options = {},
                  Where where = Where::current());
/// x [C,H,W] or [N,C,H,W].
Tensor max_pool2d(const Tensor& x, PerAxis<2> kernel, const MaxPoolOptions<2>& options = {},
                  Where where = Where::current());
/// x [C,T,H,W] or [N,C,T,H,W].
Tensor max_pool3d(const Tensor& x, PerAxis<3> kernel, const MaxPoolOptions<3>& options = {},
                  Where where = Where::current());

/// The same with the indices, int64: those of the elements in the last axes taken as one, of the
/// first of several or of NaNs.
ValuesIndices max_pool1d_with_indices(const Tensor& x, PerAxis<1> kernel,
                                      const MaxPoolOptions<1>& options = {},
                                      Where where = Where::current());
ValuesIndices max_pool2d_with_indices(const Tensor& x, PerAxis<2> kernel,
                                      const MaxPoolOptions<2>& options = {},
                                      Where where = Where::current());
ValuesIndices max_pool3d_with_indices(const Tensor& x, PerAxis<3> kernel,
                                      const MaxPoolOptions<3>& options = {},
                                      Where where = Where::current());

template <int D>
struct MaxUnpoolOptions {
  PerAxis<D> stride = 0;  ///< 0: that of the window
  PerAxis<D> padding = 0;
  /// The size of the result, which max_pool's rounding leaves open; 0: (n - 1) s - 2 p + k.
  PerAxis<D> output_size = 0;
};

/// The elements of x put where the indices of max_pool1d_with_indices say, and 0 elsewhere (Zeiler
/// and Fergus, "Visualizing and understanding convolutional networks", 2014). `indices` is int64,
/// of the shape of x. Where one place is named twice the last element stays, and only it has a
/// gradient. Throws IndexError where an index is outside the result.
Tensor max_unpool1d(const Tensor& x, const Tensor& indices, PerAxis<1> kernel,
                    const MaxUnpoolOptions<1>& options = {}, Where where = Where::current());
Tensor max_unpool2d(const Tensor& x, const Tensor& indices, PerAxis<2> kernel,
                    const MaxUnpoolOptions<2>& options = {}, Where where = Where::current());
Tensor max_unpool3d(const Tensor& x, const Tensor& indices, PerAxis<3> kernel,
                    const MaxUnpoolOptions<3>& options = {}, Where where = Where::current());

template <int D>
struct AvgPoolOptions {
  PerAxis<D> stride = 0;   ///< 0: that of the window
  PerAxis<D> padding = 0;  ///< zeros
  bool ceil_mode = false;
  bool count_include_pad = true;  ///< padding counts where the mean is taken
  std::optional<int64_t> divisor_override = std::nullopt;  ///< of the sum, instead of the count
};

/// The mean of each window. Where ceil_mode lets a window reach beyond the padding, what is there
/// does not count. Throws ValueError where divisor_override is 0.
Tensor avg_pool1d(const Tensor& x, PerAxis<1> kernel, const AvgPoolOptions<1>& options = {},
                  Where where = Where::current());
Tensor avg_pool2d(const Tensor& x, PerAxis<2> kernel, const AvgPoolOptions<2>& options = {},
                  Where where = Where::current());
Tensor avg_pool3d(const Tensor& x, PerAxis<3> kernel, const AvgPoolOptions<3>& options = {},
                  Where where = Where::current());

template <int D>
struct LPPoolOptions {
  PerAxis<D> stride = 0;  ///< 0: that of the window
  bool ceil_mode = false;
};

/// (sum of x^p)^(1/p) over each window (Sermanet, Chintala, LeCun, "Convolutional neural networks
/// applied to house numbers digit classification", 2012); p = `norm_type` > 0, else a ValueError.
/// As in PyTorch x^p is not |x|^p: for odd p a sum may be negative, and the result is NaN then;
/// and of windows cut short in ceil_mode the mean counts for what they lack. The gradient is 0
/// where the sum is.
Tensor lp_pool1d(const Tensor& x, double norm_type, PerAxis<1> kernel,
                 const LPPoolOptions<1>& options = {}, Where where = Where::current());
Tensor lp_pool2d(const Tensor& x, double norm_type, PerAxis<2> kernel,
                 const LPPoolOptions<2>& options = {}, Where where = Where::current());
Tensor lp_pool3d(const Tensor& x, double norm_type, PerAxis<3> kernel,
                 const LPPoolOptions<3>& options = {}, Where where = Where::current());

/// Means over windows of about equal size, as many as asked for: window o of `out` over n elements
/// is [floor(o n / out), ceil((o + 1) n / out)). An output size of 0 keeps that of x.
Tensor adaptive_avg_pool1d(const Tensor& x, PerAxis<1> output_size, Where where = Where::current());
Tensor adaptive_avg_pool2d(const Tensor& x, PerAxis<2> output_size, Where where = Where::current());
Tensor adaptive_avg_pool3d(const Tensor& x, PerAxis<3> output_size, Where where = Where::current());

/// The largest elements of the same windows, with their indices as max_pool1d_with_indices has.
ValuesIndices adaptive_max_pool1d(const Tensor& x, PerAxis<1> output_size,
                                  Where where = Where::current());
ValuesIndices adaptive_max_pool2d(const Tensor& x, PerAxis<2> output_size,
                                  Where where = Where::current());
ValuesIndices adaptive_max_pool3d(const Tensor& x, PerAxis<3> output_size,
                                  Where where = Where::current());

/// The largest elements of windows of `kernel` elements, `output_size` of them at distances that
/// vary pseudo-randomly between the two integers around n / output_size (Graham, "Fractional
/// max-pooling", 2014). `samples` [C,D] or [N,C,D], in [0, 1) and of the type of x, are the offsets
/// of the D axes in their order; undefined, they are drawn uniformly. A window of output o starts
/// at floor((o + u) a) - floor(u a) with a = (n - kernel) / (output_size - 1), the last one at
/// n - kernel. Throws ShapeError where output_size + kernel - 1 > n.
ValuesIndices fractional_max_pool1d(const Tensor& x, PerAxis<1> kernel, PerAxis<1> output_size,
                                    const Tensor& samples = Tensor(),
                                    Generator& generator = default_generator(),
                                    Where where = Where::current());
ValuesIndices fractional_max_pool2d(const Tensor& x, PerAxis<2> kernel, PerAxis<2> output_size,
                                    const Tensor& samples = Tensor(),
                                    Generator& generator = default_generator(),
                                    Where where = Where::current());
ValuesIndices fractional_max_pool3d(const Tensor& x, PerAxis<3> kernel, PerAxis<3> output_size,
                                    const Tensor& samples = Tensor(),
                                    Generator& generator = default_generator(),
                                    Where where = Where::current());

}  // namespace ebb
