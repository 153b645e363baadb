// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/missed.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ebb/ops/kernels/binary.h"

namespace ebb::optim::detail {

void LinearMissed::replay(DType dtype, const Chunk& c, size_t n, int64_t from) {
  const LinearStep step = steps_.since(from);
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    if (partner_ >= 0) {
      kernels::mix(step.m, c.w<T>(), c.state<T>(partner_), n);
    } else if (step.m[0] != 1) {
      kernels::scale(static_cast<T>(step.m[0]), c.w<T>(), c.w<T>(), n);
    }
    for (int i = 0; i < kMaxStates; ++i) {
      if ((scaled_ >> i & 1) == 0) continue;
      kernels::scale(static_cast<T>(step.scale), c.state<T>(i), c.state<T>(i), n);
    }
  });
}

AdamMissed::AdamMissed(const AdamConstants& constants, int64_t capacity)
    : constants_(constants), decay_(constants.decays ? capacity : 1) {
  const auto n = static_cast<size_t>(capacity);
  steps_.reserve(n);
  a_.reserve(n);
  b_.reserve(n);
}

void AdamMissed::append(double rate, double scale, double decay) {
  steps_.push_back({rate, scale, 1 / scale});
  if (constants_.decays) decay_.push({decay});
  largest_rate_ = std::max(largest_rate_, rate);
  summed_from_ = -1;
}

void AdamMissed::clear() {
  steps_.clear();
  decay_.clear();
  largest_rate_ = 0;
  summed_from_ = -1;
}

// Fills sums_, a_ and b_ as NOTE [Missed steps of Adam] says.
void AdamMissed::sum_up(DType dtype, int64_t from) {
  const double kTolerance = dtype == kFloat32 ? 0x1p-26 : 0x1p-56;
  const AdamConstants& k = constants_;
  const double root = k.amsgrad ? 1 : std::sqrt(k.b2);  // by which B falls a step
  const double q = k.b1 / root;
  const auto missed = static_cast<double>(size() - from);

  kernels::AdamReplay& r = sums_;
  r = {};
  r.decay = k.decays ? decay_.since(from).value : 1;
  r.m_factor = std::pow(k.b1, missed);
  r.v_factor = std::pow(k.b2, missed);
  r.eps = k.eps;
  a_.clear();
  b_.clear();

  double later = r.decay;  // the factors of the steps after the current one
  double b1_power = 1;
  double root_power = 1;
  double inverse_root_power = 1;
  double q_power = q;
  double a_sum = 0;
  double first_b = 0;
  double inverse_b = 0;
  for (int64_t j = from; j < size(); ++j) {
    const Step& step = steps_[static_cast<size_t>(j)];
    if (k.decays) later /= decay_[j].value;
    b1_power *= k.b1;
    root_power *= root;
    inverse_root_power /= root;
    const double a = step.rate * b1_power * later;
    const double b = step.scale * root_power;
    inverse_b = step.inverse_scale * inverse_root_power;
    if (j == from) first_b = b;
    a_.push_back(a);
    b_.push_back(b);
    a_sum += a;
    // e_j by e_0, so that nothing depends on the size of eps.
    const double ratio = inverse_b * first_b;
    double term = a * inverse_b;
    for (double& s : r.series) {
      s += term;
      term *= ratio;
    }
    q_power *= q;
    if (q < 1 && first_b * largest_rate_ * q_power / (1 - q) <= kTolerance * a_sum) break;
  }
  r.a = a_.data();
  r.b = b_.data();
  r.count = a_.size();

  const double growth = inverse_b * first_b;  // of e, from the first term to the last
  r.largest = k.eps * inverse_b;
  double shrink = 1;
  for (double& s : r.series) {
    s *= shrink;
    shrink /= growth;
  }
  // Few terms are added up sooner than the series is evaluated.
  const bool use_series = r.count > 4 && growth < 16;
  r.series_from = use_series ? 128 * r.largest : std::numeric_limits<double>::infinity();
  summed_from_ = from;
  summed_dtype_ = dtype;
}

void AdamMissed::replay(DType dtype, const Chunk& c, size_t n, int64_t from) {
  if (summed_from_ != from || summed_dtype_ != dtype) sum_up(dtype, from);
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    kernels::adam_replay(sums_, c.w<T>(), c.state<T>(0), c.state<T>(1), c.state<T>(2), n);
  });
}

}  // namespace ebb::optim::detail
