// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/registry.h"

// What the families of ops share: broadcasting, and running a rule where the fused form does not
// apply. Not for users.
namespace ebb::ops {

/// Strides with which `a` is read at every index of `shape`, to which it broadcasts: 0 where its
/// size is 1 or it has no such dimension. Fills strides[0, shape.rank()).
void broadcast_strides(const Array& a, const Shape& shape, int64_t* strides);

/// The common shape of two inputs; ShapeError naming both where they do not fit.
Shape broadcast(const OpDoc& doc, const Shape& a, const Shape& b);

/// Brings two operands to their common type.
struct Promoted {
  Promoted(const Tensor& a, const Tensor& b, Where where);
  Tensor a;
  Tensor b;
};

/// A number as an operand of `x`: of its type, unless a fraction or bool is involved, which make
/// float32. Throws ValueError where x holds integers of a type that the number does not fit; as in
/// PyTorch a negative one wraps beside uint8.
Tensor scalar_for(const Tensor& x, double value);
/// A number to compare the elements of `x` with: never one that has wrapped.
Tensor scalar_to_compare(const Tensor& x, double value);

/// Sums `g` over what was broadcast, so that it has the shape of input i.
Tensor unbroadcast(const Saved& s, const Tensor& g, int i);

/// For a backward_values that meets a case it has no fused form for: runs the rule on constants.
void run_rule(Grads (*rule)(const Saved&, const OutGrads&), const Saved& s, const ArrayGrads& g,
              GradSink& sink);

/// A buffer like `g` for a result of the same size: `g` itself where nobody else has it, else new.
Array reuse_or_new(const Array& g);

}  // namespace ebb::ops
