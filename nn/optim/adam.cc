// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/adam.h"

#include <cmath>
#include <type_traits>

#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

// Adam, or AdamW.
template <class Options>
class AdamRule final : public detail::RuleOf<Options> {
  static constexpr bool kDecoupled = std::is_same_v<Options, AdamWOptions>;

 public:
  using detail::RuleOf<Options>::RuleOf;
  using detail::RuleOf<Options>::options;

  const char* name() const override { return kDecoupled ? "AdamW" : "Adam"; }
  double* momentum() override { return &options.betas[0]; }
  void visit_options(detail::OptionVisitor& v) override {
    v.number("lr", options.lr);
    v.number("beta1", options.betas[0]);
    v.number("beta2", options.betas[1]);
    v.number("eps", options.eps);
    v.number("weight_decay", options.weight_decay);
    v.flag("amsgrad", options.amsgrad);
    v.flag("maximize", options.maximize);
  }
  void validate() const override {
    const Options& o = options;
    detail::require_option(o.lr >= 0, name(), "lr", o.lr, ">= 0");
    for (const double b : o.betas) {
      detail::require_option(b >= 0 && b < 1, name(), "beta", b, "in [0, 1)");
    }
    detail::require_option(o.eps >= 0, name(), "eps", o.eps, ">= 0");
    detail::require_option(o.weight_decay >= 0, name(), "weight_decay", o.weight_decay, ">= 0");
  }

  Span<const char* const> states() const override {
    static constexpr const char* kNames[] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
    return kNames;
  }
  int n_lasting_states() const override { return 2; }
  bool uses_state(int i) const override { return i < 2 || options.amsgrad; }

  void begin(int64_t step, bool fresh) override {
    const Options& o = options;
    const auto t = static_cast<double>(step);
    late_state_ = fresh && step > 1;
    step_.decay = kDecoupled ? 1 - o.lr * o.weight_decay : 1;
    step_.l2 = kDecoupled ? 0 : o.weight_decay;
    step_.sign = o.maximize ? -1 : 1;
    step_.b1 = o.betas[0];
    step_.b2 = o.betas[1];
    step_.rate = o.lr / (1 - std::pow(step_.b1, t));
    step_.scale = 1 / std::sqrt(1 - std::pow(step_.b2, t));
    step_.eps = o.eps;
  }
  void update(DType dtype, const detail::Chunk& c, size_t n) const override {
    detail::visit(dtype, [&](auto t) {
      using T = decltype(t);
      kernels::adam_update(step_, c.w<T>(), c.g<T>(), c.state<T>(0), c.state<T>(1), c.state<T>(2),
                           n);
    });
  }
  detail::Idle idle() const override {
    // The record relies on v_max >= v, which one whole step brings about where AMSGrad was only now
    // asked for.
    const bool nonlinear =
        step_.l2 != 0 || step_.decay < 0.5 || step_.b1 == 0 || step_.b2 == 0 || late_state_;
    return nonlinear ? detail::Idle::kNonlinear : detail::Idle::kValue;
  }

  std::unique_ptr<detail::Missed> new_missed(int64_t capacity) const override {
    return std::make_unique<detail::AdamMissed>(constants(), capacity);
  }
  bool fits(const detail::Missed& m) const override {
    return static_cast<const detail::AdamMissed&>(m).constants() == constants();
  }
  void append_to(detail::Missed& m) const override {
    static_cast<detail::AdamMissed&>(m).append(step_.rate, step_.scale, step_.decay);
  }

 private:
  detail::AdamConstants constants() const {
    return {step_.b1, step_.b2, step_.eps, options.amsgrad,
            kDecoupled && options.weight_decay != 0};
  }

  kernels::AdamStep step_{};
  bool late_state_ = false;
};

}  // namespace

static detail::MadeRule<AdamOptions> make_rule(const AdamOptions& options) {
  return detail::made<AdamRule<AdamOptions>>(options);
}
static detail::MadeRule<AdamWOptions> make_rule(const AdamWOptions& options) {
  return detail::made<AdamRule<AdamWOptions>>(options);
}

template class OptimizerOf<AdamOptions>;
template class OptimizerOf<AdamWOptions>;

}  // namespace ebb::optim
