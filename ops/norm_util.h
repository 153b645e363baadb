// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"

// What the normalisations share. Not for users.
namespace ebb::ops {

/// The shape of x in terms of its channels.
struct Channels {
  int64_t samples;
  int64_t channels;
  int64_t len;  ///< numbers a channel of one sample

  /// `behind`: axes behind the channels, fewer than x has.
  Channels(const Shape& x, int behind) : samples(1), channels(x[x.rank() - 1 - behind]), len(1) {
    for (int i = 0; i < x.rank() - 1 - behind; ++i) samples *= x[i];
    for (int i = x.rank() - behind; i < x.rank(); ++i) len *= x[i];
  }
  Channels(int64_t n, int64_t c, int64_t l) : samples(n), channels(c), len(l) {}
};

/// Axes behind `channel_axis`. Throws ValueError unless that is negative.
int axes_behind(const char* op, int64_t channel_axis);

/// Throws ShapeError where x has no axis with `behind` others behind it, or one of the other
/// inputs, which go by `names`, is not [C].
void require_channels(const OpDoc& doc, Span<const Meta> in, int behind,
                      Span<const char* const> names);

/// Throws ValueError where there is a bias but no weight.
void require_weight(const char* op, const Tensor& weight, const Tensor& bias);
/// Throws ValueError where eps is negative or not finite.
void require_eps(const char* op, double eps);

/// x without its mean over the axes, which is subtracted in two steps: once rounded, then what is
/// left. The first one is a constant, as a constant shift changes nothing.
Tensor centred(const Tensor& x, const Axes& axes);

/// Calls op<Op>(attrs, x, ...) with weight and bias where there are any.
template <class Op>
Tensor apply_affine(const typename Op::Attrs& attrs, At x, const Tensor& weight,
                    const Tensor& bias) {
  require_weight(Op::kDoc.name, weight, bias);
  if (bias.defined()) return apply_with<Op>(attrs, x, weight, bias);
  if (weight.defined()) return apply_with<Op>(attrs, x, weight);
  return apply_with<Op>(attrs, x);
}

}  // namespace ebb::ops
