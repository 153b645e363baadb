// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"

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
/// max(0, x) + min(0, alpha (e^(x / alpha) - 1)), smooth at 0: Barron 2017. alpha must not be 0:
/// ValueError.
Tensor celu(const Tensor& x, double alpha = 1.0, Where where = Where::current());
/// x cut to [0, 6]; the gradient at the bounds is 0.
Tensor relu6(const Tensor& x, Where where = Where::current());
/// x where x > threshold, else value, without gradient.
Tensor threshold(const Tensor& x, double threshold, double value, Where where = Where::current());
/// (x + 3) / 6 cut to [0, 1]; the gradient at +-3 is 0.
Tensor hardsigmoid(const Tensor& x, Where where = Where::current());
/// x hardsigmoid(x): Howard et al., "Searching for MobileNetV3", 2019. The gradient at -3 is 0, at
/// 3 it is 1 (in PyTorch 1.13 -1/2 and 3/2).
Tensor hardswish(const Tensor& x, Where where = Where::current());
/// x - tanh(x). Of small x it is off by an ulp of x, as it is a difference.
Tensor tanhshrink(const Tensor& x, Where where = Where::current());
/// x / (1 + |x|).
Tensor softsign(const Tensor& x, Where where = Where::current());
/// x moved by lambda toward 0, and 0 within: the proximal step of lambda |x|. lambda < 0 is a
/// ValueError.
Tensor softshrink(const Tensor& x, double lambda = 0.5, Where where = Where::current());
/// x where |x| > lambda, else 0. lambda < 0 is a ValueError.
Tensor hardshrink(const Tensor& x, double lambda = 0.5, Where where = Where::current());
/// x where x > 0, else x times a number drawn for it from U(lower, upper), or, not in training, the
/// mean of the two: Xu, Wang, Chen and Li, "Empirical evaluation of rectified activations", 2015.
/// lower > upper, or one that is not finite, is a ValueError.
Tensor rrelu(const Tensor& x, double lower = 1.0 / 8, double upper = 1.0 / 3, bool training = false,
             Generator& generator = default_generator(), Where where = Where::current());

/// x where x > 0, else weight x; the gradient of x at 0 is weight: He, Zhang, Ren and Sun, "Delving
/// deep into rectifiers", 2015. `weight` is [1], or [C] with a number for each channel, and
/// channel_axis as in ops/norm.h. One op. Throws ShapeError where the weight does not fit.
Tensor prelu(const Tensor& x, const Tensor& weight, int64_t channel_axis = -3,
             Where where = Where::current());

// Gates: the first half of x along `axis` times a function of the second half. One op each. An odd
// size is a ShapeError, a bad axis an IndexError.

/// By sigmoid: Dauphin, Fan, Auli and Grangier, "Language modeling with gated convolutional
/// networks", 2017.
Tensor glu(const Tensor& x, int64_t axis = -1, Where where = Where::current());
/// By relu, gelu and silu: Shazeer, "GLU variants improve Transformer", 2020.
Tensor reglu(const Tensor& x, int64_t axis = -1, Where where = Where::current());
Tensor geglu(const Tensor& x, int64_t axis = -1, Where where = Where::current());
Tensor swiglu(const Tensor& x, int64_t axis = -1, Where where = Where::current());

/// The largest of every `pieces` neighbours along `axis`, which gets the gradient: Goodfellow et
/// al., "Maxout networks", 2013. Throws ShapeError where pieces do not divide the size.
Tensor maxout(const Tensor& x, int64_t pieces, int64_t axis = -1, Where where = Where::current());

}  // namespace ebb
