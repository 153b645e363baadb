// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/autograd/tensor.h"

// What training minimises. `input` is what a model gave, float32 or float64; it carries a gradient,
// and so do targets of its type. Class weights and the like are constants: one that requires a
// gradient while recording is on is a GradError. Shapes are never broadcast unless it says so: one
// that does not fit is a ShapeError, a wrong type a DTypeError, an option out of range a
// ValueError. At a kink of max(0, z) the gradient is that of z, as of torch.clamp_min.
namespace ebb {

/// What becomes of the losses of the elements (or samples): all of them as they are, their mean,
/// their sum. The mean of none is NaN.
enum class Reduction : uint8_t { kNone, kMean, kSum };

struct LossOptions {
  Reduction reduction = Reduction::kMean;
};

/// (input - target)^2, element by element.
Tensor mse_loss(const Tensor& input, const Tensor& target, const LossOptions& options = {},
                Where where = Where::current());

/// |input - target|, element by element; the gradient where they are equal is 0.
Tensor l1_loss(const Tensor& input, const Tensor& target, const LossOptions& options = {},
               Where where = Where::current());

struct HuberOptions {
  Reduction reduction = Reduction::kMean;
  double delta = 1;  ///< > 0
};
/// With d = input - target, element by element: d^2 / 2 where |d| <= delta, else
/// delta (|d| - delta / 2). Huber 1964.
Tensor huber_loss(const Tensor& input, const Tensor& target, const HuberOptions& options = {},
                  Where where = Where::current());

struct SmoothL1Options {
  Reduction reduction = Reduction::kMean;
  double beta = 1;  ///< >= 0; 0 is l1_loss
};
/// huber_loss with delta = beta, divided by beta. Girshick 2015.
Tensor smooth_l1_loss(const Tensor& input, const Tensor& target,
                      const SmoothL1Options& options = {}, Where where = Where::current());

struct BceOptions {
  Tensor weight = {};  ///< factor of each loss; broadcasts to input
  Reduction reduction = Reduction::kMean;
  Tensor pos_weight = {};  ///< factor of what target = 1 contributes; broadcasts to input
};
/// Binary cross entropy of logits: -(p t ln s(x) + (1 - t) ln(1 - s(x))), s the sigmoid, p the
/// pos_weight or 1, element by element; finite for all finite logits. The mean is over the number
/// of elements, whatever the weights.
Tensor bce_with_logits(const Tensor& input, const Tensor& target, const BceOptions& options = {},
                       Where where = Where::current());

/// Binary cross entropy of logits that counts the less the surer the right answer is: -a q^gamma (t
/// ln s(x) + (1 - t) ln(1 - s(x))), s the sigmoid, q = t (1 - s(x)) + (1 - t) s(x), element by
/// element, where a is alpha for target 1 and 1 - alpha for target 0, or 1 throughout where alpha
/// is -1. For the many places of an image at which there is nothing. Finite for all finite logits.
/// Throws ValueError where alpha is neither -1 nor in [0, 1], gamma is negative, or a target is
/// outside [0, 1]. Lin, Goyal, Girshick, He, Dollar 2017, "Focal loss for dense object detection".
Tensor sigmoid_focal_loss(const Tensor& input, const Tensor& target, double alpha = 0.25,
                          double gamma = 2, Reduction reduction = Reduction::kNone,
                          Where where = Where::current());

struct KlDivOptions {
  Reduction reduction = Reduction::kMean;
  bool log_target = false;  ///< target holds ln of the probabilities
};
/// Kullback-Leibler divergence, element by element: t (ln t - input), where input holds ln of the
/// model's probabilities; 0 where t is 0, and so is the gradient of the target there. kMean is over
/// elements: the divergence of a distribution is the kSum.
Tensor kl_div(const Tensor& input, const Tensor& target, const KlDivOptions& options = {},
              Where where = Where::current());

struct MarginOptions {
  double margin = 0;
  Reduction reduction = Reduction::kMean;
};
/// max(0, margin - target input), element by element; target 1 or -1 of the type of input.
/// Cortes, Vapnik 1995.
Tensor hinge_loss(const Tensor& input, const Tensor& target,
                  const MarginOptions& options = {.margin = 1}, Where where = Where::current());

/// max(0, margin - target (input1 - input2)), element by element: target 1 wants input1 the larger,
/// -1 the smaller.
Tensor margin_ranking_loss(const Tensor& input1, const Tensor& input2, const Tensor& target,
                           const MarginOptions& options = {}, Where where = Where::current());

struct TripletOptions {
  double margin = 1;
  double p = 2;       ///< of the norm
  double eps = 1e-6;  ///< added to each difference
  bool swap = false;  ///< the negative's distance to the positive counts where it is the smaller
  Reduction reduction = Reduction::kMean;
};
/// max(0, margin + d(anchor, positive) - d(anchor, negative)) along the last axis, d(a, b) the
/// p-norm of a - b + eps: [...,D] each to [...]. Balntas et al. 2016.
Tensor triplet_margin_loss(const Tensor& anchor, const Tensor& positive, const Tensor& negative,
                           const TripletOptions& options = {}, Where where = Where::current());

/// With c the cosine between input1 and input2 along the last axis, [...,D] each: 1 - c where
/// target [...] is 1, max(0, c - margin) where it is -1, 0 elsewhere. 1e-12 is added to squared
/// lengths.
Tensor cosine_embedding_loss(const Tensor& input1, const Tensor& input2, const Tensor& target,
                             const MarginOptions& options = {}, Where where = Where::current());

struct CrossEntropyOptions {
  Tensor weight = {};           ///< [C], factor of each class
  int64_t ignore_index = -100;  ///< samples of this class count for nothing
  Reduction reduction = Reduction::kMean;
  double label_smoothing = 0;  ///< in [0, 1]: how much of the target is spread over all classes
};
/// -ln softmax(input)[target] for scores of C classes: input [C], [N,C] or [N,C,d1,...], target []
/// or [N] or [N,d1,...] of integers; an index outside [0, C) is an IndexError. Or target holds
/// probabilities and has the shape and type of input: -sum_c target_c ln softmax(input)_c. The mean
/// is weighted: over the sum of the weights of the target classes that are not ignored; with
/// probabilities over the number of samples.
Tensor cross_entropy(const Tensor& input, const Tensor& target,
                     const CrossEntropyOptions& options = {}, Where where = Where::current());
/// Of one sample: input [C], its class.
Tensor cross_entropy(const Tensor& input, int64_t target, const CrossEntropyOptions& options = {},
                     Where where = Where::current());

struct NllOptions {
  Tensor weight = {};           ///< [C], factor of each class
  int64_t ignore_index = -100;  ///< samples of this class count for nothing
  Reduction reduction = Reduction::kMean;
};
/// -input[target] for log-probabilities, as log_softmax gives: shapes, weights and mean as for
/// cross_entropy with class indices.
Tensor nll_loss(const Tensor& input, const Tensor& target, const NllOptions& options = {},
                Where where = Where::current());
/// Of one sample: input [C], its class.
Tensor nll_loss(const Tensor& input, int64_t target, const NllOptions& options = {},
                Where where = Where::current());

struct CtcOptions {
  int64_t blank = 0;  ///< the class that stands for nothing
  Reduction reduction = Reduction::kMean;
  bool zero_infinity = false;  ///< targets longer than their input can say count for nothing
};
/// Connectionist temporal classification: -ln of the probability of all ways to say `targets` in T
/// steps, where each step says a class or the blank, repeats are merged, and blanks dropped.
/// Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification", 2006.
///
/// log_probs are log-probabilities, as log_softmax gives: [T,C] of one sequence with targets [S],
/// or [T,N,C] of N with targets [N,S], padded, or all in a row, [sum of the lengths]. Targets are
/// int64 or int32 and never the blank. Lengths are integers, [] or [1] of one sequence, [N] of
/// several; without them sequences are as long as the tensor. The mean divides each loss by the
/// target's length (at least 1) and then by N. A sequence too short for its target has an infinite
/// loss and a gradient of NaN, or with zero_infinity 0 for both. The gradient is that by log_probs
/// themselves, minus the expected number of times a step says a class. Throws ShapeError,
/// DTypeError, IndexError on a label outside [0, C), ValueError on a label that is blank, a bad
/// blank, or a length out of range.
Tensor ctc_loss(const Tensor& log_probs, const Tensor& targets,
                const Tensor& input_lengths = Tensor(), const Tensor& target_lengths = Tensor(),
                const CtcOptions& options = {}, Where where = Where::current());

}  // namespace ebb
