// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/sgd.h"

#include "ebb/nn/optim/rule.h"

namespace ebb::optim {
namespace {

class SgdRule final : public detail::RuleOf<SGDOptions> {
 public:
  using RuleOf::RuleOf;

  const char* name() const override { return "SGD"; }
  double* momentum() override { return &options.momentum; }
  void visit_options(detail::OptionVisitor& v) override {
    v.number("lr", options.lr);
    v.number("momentum", options.momentum);
    v.number("dampening", options.dampening);
    v.number("weight_decay", options.weight_decay);
    v.flag("nesterov", options.nesterov);
    v.flag("maximize", options.maximize);
  }
  void validate() const override {
    const SGDOptions& o = options;
    detail::require_option(o.lr >= 0, name(), "lr", o.lr, ">= 0");
    detail::require_option(o.momentum >= 0, name(), "momentum", o.momentum, ">= 0");
    detail::require_option(o.weight_decay >= 0, name(), "weight_decay", o.weight_decay, ">= 0");
    detail::require_option(!o.nesterov || o.momentum > 0, name(), "momentum", o.momentum,
                           "> 0 with nesterov");
    detail::require_option(!o.nesterov || o.dampening == 0, name(), "dampening", o.dampening,
                           "0 with nesterov");
  }

  Span<const char* const> states() const override {
    static constexpr const char* kNames[] = {"momentum_buffer"};
    return kNames;
  }
  bool uses_state(int) const override { return options.momentum != 0; }

  void begin(int64_t, bool fresh) override {
    const SGDOptions& o = options;
    // The first gradient becomes the momentum undamped.
    step_ = {
        o.lr,      o.momentum, fresh ? 1 : 1 - o.dampening, o.weight_decay, o.maximize ? -1.0 : 1.0,
        o.nesterov};
  }
  void update(DType dtype, const detail::Chunk& c, size_t n) const override {
    detail::visit(dtype, [&](auto t) {
      using T = decltype(t);
      kernels::sgd_update(step_, c.w<T>(), c.g<T>(), c.state<T>(0), n);
    });
  }
  double plain_factor() const override {
    const SGDOptions& o = options;
    return o.momentum != 0 || o.weight_decay != 0 ? 0 : o.maximize ? o.lr : -o.lr;
  }
  detail::Idle idle() const override {
    return step_.momentum == 0 && step_.weight_decay == 0 ? detail::Idle::kNothing
                                                          : detail::Idle::kValue;
  }

  std::unique_ptr<detail::Missed> new_missed(int64_t capacity) const override {
    return std::make_unique<detail::LinearMissed>(partner(), 0u, capacity);
  }
  bool fits(const detail::Missed& m) const override {
    return static_cast<const detail::LinearMissed&>(m).is_for(partner(), 0);
  }
  void append_to(detail::Missed& m) const override {
    // The step with g = weight_decay * w.
    const kernels::SgdStep& s = step_;
    detail::LinearStep l;
    if (s.momentum == 0) {
      l.m[0] = 1 - s.lr * s.weight_decay;
    } else {
      l.m[2] = s.keep * s.weight_decay;
      l.m[3] = s.momentum;
      l.m[0] = 1 - s.lr * (s.nesterov ? s.weight_decay + s.momentum * l.m[2] : l.m[2]);
      l.m[1] = -s.lr * (s.nesterov ? s.momentum * l.m[3] : l.m[3]);
    }
    static_cast<detail::LinearMissed&>(m).append(l);
  }

 private:
  int partner() const { return step_.momentum != 0 ? 0 : -1; }

  kernels::SgdStep step_{};
};

}  // namespace

static detail::MadeRule<SGDOptions> make_rule(const SGDOptions& options) {
  return detail::made<SgdRule>(options);
}

template class OptimizerOf<SGDOptions>;

}  // namespace ebb::optim
