// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/rmsprop.h"

#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

class RmspropRule final : public detail::RuleOf<RMSpropOptions> {
  static constexpr int kSquare = 0;
  static constexpr int kMean = 1;
  static constexpr int kVelocity = 2;

 public:
  using RuleOf::RuleOf;

  const char* name() const override { return "RMSprop"; }
  double* momentum() override { return &options.momentum; }
  void visit_options(detail::OptionVisitor& v) override {
    v.number("lr", options.lr);
    v.number("alpha", options.alpha);
    v.number("eps", options.eps);
    v.number("weight_decay", options.weight_decay);
    v.number("momentum", options.momentum);
    v.flag("centered", options.centered);
    v.flag("maximize", options.maximize);
  }
  void validate() const override {
    const RMSpropOptions& o = options;
    detail::require_option(o.lr >= 0, name(), "lr", o.lr, ">= 0");
    detail::require_option(o.alpha >= 0, name(), "alpha", o.alpha, ">= 0");
    detail::require_option(o.eps >= 0, name(), "eps", o.eps, ">= 0");
    detail::require_option(o.weight_decay >= 0, name(), "weight_decay", o.weight_decay, ">= 0");
    detail::require_option(o.momentum >= 0, name(), "momentum", o.momentum, ">= 0");
  }

  Span<const char* const> states() const override {
    static constexpr const char* kNames[] = {"square_avg", "grad_avg", "momentum_buffer"};
    return kNames;
  }
  int n_lasting_states() const override { return 1; }
  bool uses_state(int i) const override {
    return i == kSquare || (i == kMean ? options.centered : options.momentum > 0);
  }

  void begin(int64_t, bool) override {
    const RMSpropOptions& o = options;
    step_ = {o.lr, o.alpha, o.weight_decay, o.maximize ? -1.0 : 1.0, o.eps, o.momentum};
  }
  void update(DType dtype, const detail::Chunk& c, size_t n) const override {
    detail::visit(dtype, [&](auto t) {
      using T = decltype(t);
      kernels::rmsprop_update(step_, c.w<T>(), c.g<T>(), c.state<T>(kSquare), c.state<T>(kMean),
                              c.state<T>(kVelocity), n);
    });
  }
  // With eps = 0 an element without gradient so far becomes 0 / 0.
  detail::Idle idle() const override {
    if (step_.weight_decay != 0 || step_.eps == 0) return detail::Idle::kNonlinear;
    return step_.momentum > 0 ? detail::Idle::kValue : detail::Idle::kState;
  }

  std::unique_ptr<detail::Missed> new_missed(int64_t capacity) const override {
    return std::make_unique<detail::LinearMissed>(partner(), scaled(), capacity);
  }
  bool fits(const detail::Missed& m) const override {
    return static_cast<const detail::LinearMissed&>(m).is_for(partner(), scaled());
  }
  void append_to(detail::Missed& m) const override {
    detail::LinearStep l;
    l.scale = step_.alpha;
    if (step_.momentum > 0) {
      l.m[3] = step_.momentum;
      l.m[1] = -step_.lr * step_.momentum;
    }
    static_cast<detail::LinearMissed&>(m).append(l);
  }

 private:
  int partner() const { return step_.momentum > 0 ? kVelocity : -1; }
  unsigned scaled() const { return options.centered ? 0b11u : 0b01u; }

  kernels::RmspropStep step_{};
};

}  // namespace

static detail::MadeRule<RMSpropOptions> make_rule(const RMSpropOptions& options) {
  return detail::made<RmspropRule>(options);
}

template class OptimizerOf<RMSpropOptions>;

}  // namespace ebb::optim
