// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/adagrad.h"

#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

class AdagradRule final : public detail::RuleOf<AdagradOptions> {
 public:
  using RuleOf::RuleOf;

  const char* name() const override { return "Adagrad"; }
  void visit_options(detail::OptionVisitor& v) override {
    v.number("lr", options.lr);
    v.number("lr_decay", options.lr_decay);
    v.number("weight_decay", options.weight_decay);
    v.number("initial_accumulator_value", options.initial_accumulator_value);
    v.number("eps", options.eps);
    v.flag("maximize", options.maximize);
  }
  void validate() const override {
    const AdagradOptions& o = options;
    detail::require_option(o.lr >= 0, name(), "lr", o.lr, ">= 0");
    detail::require_option(o.lr_decay >= 0, name(), "lr_decay", o.lr_decay, ">= 0");
    detail::require_option(o.weight_decay >= 0, name(), "weight_decay", o.weight_decay, ">= 0");
    detail::require_option(o.initial_accumulator_value >= 0, name(), "initial_accumulator_value",
                           o.initial_accumulator_value, ">= 0");
    detail::require_option(o.eps >= 0, name(), "eps", o.eps, ">= 0");
  }

  Span<const char* const> states() const override {
    static constexpr const char* kNames[] = {"sum"};
    return kNames;
  }
  int n_lasting_states() const override { return 1; }
  double initial_state(int) const override { return options.initial_accumulator_value; }

  void begin(int64_t step, bool) override {
    const AdagradOptions& o = options;
    step_ = {o.lr / (1 + static_cast<double>(step - 1) * o.lr_decay), o.weight_decay,
             o.maximize ? -1.0 : 1.0, o.eps};
  }
  void update(DType dtype, const detail::Chunk& c, size_t n) const override {
    detail::visit(dtype, [&](auto t) {
      using T = decltype(t);
      kernels::adagrad_update(step_, c.w<T>(), c.g<T>(), c.state<T>(0), n);
    });
  }
  // With eps = 0 an element without gradient so far becomes 0 / 0.
  detail::Idle idle() const override {
    return step_.weight_decay == 0 && step_.eps > 0 ? detail::Idle::kNothing
                                                    : detail::Idle::kNonlinear;
  }

 private:
  kernels::AdagradStep step_{};
};

}  // namespace

static detail::MadeRule<AdagradOptions> make_rule(const AdagradOptions& options) {
  return detail::made<AdagradRule>(options);
}

template class OptimizerOf<AdagradOptions>;

}  // namespace ebb::optim
