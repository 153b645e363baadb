// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/core/random.h"
#include "ebb/ops/creation.h"

// Random tensors, drawn from a Generator; by default from this thread's (manual_seed). An op holds
// the generator's state, so that its value is a function of its arguments alone, and moves the
// generator on by as many numbers as it drew: one an element unless said otherwise, none where it
// throws. The type of what is drawn is float32 or float64 (DTypeError).
namespace ebb {

/// Uniform in [0, 1).
Tensor rand(const Shape& shape, const TensorOptions& options = {},
            Generator& generator = default_generator(), Where where = Where::current());
/// Standard normal.
Tensor randn(const Shape& shape, const TensorOptions& options = {},
             Generator& generator = default_generator(), Where where = Where::current());
/// Standard Gumbel: -log(-log(u)), u uniform. The largest of x + gumbel is at i with probability
/// softmax(x)[i] (Gumbel, 1954).
Tensor gumbel(const Shape& shape, const TensorOptions& options = {},
              Generator& generator = default_generator(), Where where = Where::current());

/// Of the shape of x, and of its type unless another is asked for.
Tensor rand_like(const Tensor& x, const TensorOptions& options = {},
                 Generator& generator = default_generator(), Where where = Where::current());
Tensor randn_like(const Tensor& x, const TensorOptions& options = {},
                  Generator& generator = default_generator(), Where where = Where::current());

/// Integers uniform in [low, high); int64 unless another type is asked for. Throws ValueError where
/// low >= high.
Tensor randint(int64_t low, int64_t high, const Shape& shape, const TensorOptions& options = {},
               Generator& generator = default_generator());
/// 0..n-1 in random order, int64. Throws ValueError where n < 0.
Tensor randperm(int64_t n, Generator& generator = default_generator());

/// 1 with probability p[i], else 0, of the shape and type of p. No gradient. Throws ValueError
/// where an element is not in [0, 1].
Tensor bernoulli(const Tensor& p, Generator& generator = default_generator(),
                 Where where = Where::current());

/// n indices, int64 [n], each drawn with a probability in proportion to `weights` [k]; of weights
/// [m,k] as many for each row: [m,n]. Without replacement each is drawn once at most, by Efraimidis
/// and Spirakis, "Weighted random sampling with a reservoir", 2006. No gradient. Draws one number a
/// sample, without replacement one a weight. Throws ShapeError, and ValueError where a weight is
/// negative or not finite, all are 0, or, without replacement, fewer than n are positive.
Tensor multinomial(const Tensor& weights, int64_t n, bool replacement = false,
                   Generator& generator = default_generator(), Where where = Where::current());

/// While training: x with each element set to 0 with probability p, the others times 1 / (1 - p)
/// (Srivastava et al., "Dropout", 2014); all 0 where p is 1. Else x. The gradient keeps a bit an
/// element. Throws ValueError unless 0 <= p <= 1.
Tensor dropout(const Tensor& x, double p = 0.5, bool training = true,
               Generator& generator = default_generator(), Where where = Where::current());

}  // namespace ebb
