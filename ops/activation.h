// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"

// The nonlinearities of neural networks, element by element, on floating tensors; any other type is
// a DTypeError. At a kink the gradient is PyTorch's choice, given where it is not 0.
namespace ebb {

/// max(x, 0).
Tensor relu(const Tensor& x, Where where = Where::current());
/// x where x > 0, else slope * x; the gradient at 0 is slope.
Tensor leaky_relu(const Tensor& x, double slope = 0.01, Where where = Where::current());
/// x where x > 0, else alpha (e^x - 1): Clevert, Unterthiner, Hochreiter 2016; alpha at 0.
Tensor elu(const Tensor& x, double alpha = 1.0, Where where = Where::current());
/// elu scaled so that activations keep mean 0 and variance 1: Klambauer et al. 2017.
Tensor selu(const Tensor& x, Where where = Where::current());
/// How gelu is computed: by erf, or by the tanh that approximates it.
enum class GeluForm { kErf, kTanh };
/// x P(Z <= x), Z normal: Hendrycks, Gimpel 2016.
Tensor gelu(const Tensor& x, GeluForm form = GeluForm::kErf, Where where = Where::current());
/// x sigmoid(x): Elfwing, Uchibe, Doya 2017.
Tensor silu(const Tensor& x, Where where = Where::current());
/// x tanh(softplus(x)): Misra 2019.
Tensor mish(const Tensor& x, Where where = Where::current());
/// 1 / (1 + e^-x).
Tensor sigmoid(const Tensor& x, Where where = Where::current());
/// ln(sigmoid(x)), exact for large negative x.
Tensor logsigmoid(const Tensor& x, Where where = Where::current());
/// ln(1 + e^(beta x)) / beta; x itself where beta x > threshold. beta must not be 0: ValueError.
Tensor softplus(const Tensor& x, double beta = 1.0, double threshold = 20.0,
                Where where = Where::current());
/// x cut to [low, high]; the gradient at the bounds is 0. low > high is a ValueError.
Tensor hardtanh(const Tensor& x, double low = -1.0, double high = 1.0,
                Where where = Where::current());
/// x cut to [low, high]; the gradient at the bounds is 1. Infinite bounds leave a side open.
/// low > high is a ValueError.
Tensor clamp(const Tensor& x, double low, double high, Where where = Where::current());
/// x / (1 + |x|).
Tensor softsign(const Tensor& x, Where where = Where::current());
/// x moved by lambda toward 0, and 0 within: the proximal step of lambda |x|. lambda < 0 is a
/// ValueError.
Tensor softshrink(const Tensor& x, double lambda = 0.5, Where where = Where::current());
/// x where |x| > lambda, else 0. lambda < 0 is a ValueError.
Tensor hardshrink(const Tensor& x, double lambda = 0.5, Where where = Where::current());

}  // namespace ebb
