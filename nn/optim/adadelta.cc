// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/adadelta.h"

#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

class AdadeltaRule final : public detail::RuleOf<AdadeltaOptions> {
 public:
  using RuleOf::RuleOf;

  const char* name() const override { return "Adadelta"; }
  void visit_options(detail::OptionVisitor& v) override {
    v.number("lr", options.lr);
    v.number("rho", options.rho);
    v.number("eps", options.eps);
    v.number("weight_decay", options.weight_decay);
    v.flag("maximize", options.maximize);
  }
  void validate() const override {
    const AdadeltaOptions& o = options;
    detail::require_option(o.lr >= 0, name(), "lr", o.lr, ">= 0");
    detail::require_option(o.rho >= 0 && o.rho <= 1, name(), "rho", o.rho, "in [0, 1]");
    detail::require_option(o.eps >= 0, name(), "eps", o.eps, ">= 0");
    detail::require_option(o.weight_decay >= 0, name(), "weight_decay", o.weight_decay, ">= 0");
  }

  Span<const char* const> states() const override {
    static constexpr const char* kNames[] = {"square_avg", "acc_delta"};
    return kNames;
  }
  int n_lasting_states() const override { return 2; }

  void begin(int64_t, bool) override {
    const AdadeltaOptions& o = options;
    step_ = {o.lr, o.rho, o.weight_decay, o.maximize ? -1.0 : 1.0, o.eps};
  }
  void update(DType dtype, const detail::Chunk& c, size_t n) const override {
    detail::visit(dtype, [&](auto t) {
      using T = decltype(t);
      kernels::adadelta_update(step_, c.w<T>(), c.g<T>(), c.state<T>(0), c.state<T>(1), n);
    });
  }
  // With eps = 0 an element without gradient so far becomes 0 / 0.
  detail::Idle idle() const override {
    return step_.weight_decay == 0 && step_.eps > 0 ? detail::Idle::kState
                                                    : detail::Idle::kNonlinear;
  }

  std::unique_ptr<detail::Missed> new_missed(int64_t capacity) const override {
    return std::make_unique<detail::LinearMissed>(-1, 0b11u, capacity);
  }
  bool fits(const detail::Missed&) const override { return true; }
  void append_to(detail::Missed& m) const override {
    detail::LinearStep l;
    l.scale = step_.rho;
    static_cast<detail::LinearMissed&>(m).append(l);
  }

 private:
  kernels::AdadeltaStep step_{};
};

}  // namespace

static detail::MadeRule<AdadeltaOptions> make_rule(const AdadeltaOptions& options) {
  return detail::made<AdadeltaRule>(options);
}

template class OptimizerOf<AdadeltaOptions>;

}  // namespace ebb::optim
