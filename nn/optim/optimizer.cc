// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/optimizer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/nn/optim/rule.h"
#include "ebb/nn/optim/slot.h"

namespace ebb::optim {

using detail::OptionVisitor;
using detail::Rule;
using detail::Slot;

namespace detail {

void require_option(bool ok, const char* rule, const char* option, double value, const char* must) {
  if (ok) return;
  throw ValueError(absl::StrCat(rule, ": ", option, " is ", value, "; it must be ", must));
}

}  // namespace detail

Optimizer::Optimizer() = default;
Optimizer::~Optimizer() = default;

void Optimizer::add_rule(std::vector<Parameter> parameters, std::shared_ptr<Rule> rule) {
  rule->validate();
  if (parameters.empty()) throw ValueError(absl::StrCat(rule->name(), ": there are no parameters"));
  std::set<const ebb::detail::Leaf*> known;
  for (const Group& g : groups_) {
    for (const auto& s : g.slots) known.insert(&s->parameter().leaf());
  }
  Group group{std::move(rule), {}};
  for (Parameter& p : parameters) {
    if (!p.defined()) {
      throw ValueError(absl::StrCat(group.rule->name(), ": a parameter is undefined"));
    }
    if (!known.insert(&p.leaf()).second) {
      throw ValueError(absl::StrCat(group.rule->name(), ": parameter ", p.leaf().name, " ",
                                    p.shape().str(), " is given twice"));
    }
    group.slots.push_back(std::make_unique<Slot>(std::move(p), *group.rule));
  }
  groups_.push_back(std::move(group));
}

void Optimizer::require_group(size_t group) const {
  if (group < groups_.size()) return;
  throw IndexError(absl::StrCat(groups_[0].rule->name(), ": group ", group, " is outside [0, ",
                                groups_.size(), ")"));
}

void Optimizer::step() {
  for (const Group& g : groups_) g.rule->validate();
  for (const Group& g : groups_) {
    const double factor = g.rule->plain_factor();
    for (const auto& s : g.slots) {
      if (factor == 0 || !s->step_plainly(factor)) s->step();
    }
  }
}

void Optimizer::zero_grad() {
  for (const Group& g : groups_) {
    for (const auto& s : g.slots) s->parameter().zero_grad();
  }
}

void Optimizer::catch_up() {
  for (const Group& g : groups_) {
    for (const auto& s : g.slots) s->catch_up();
  }
}

double Optimizer::lr(size_t group) const {
  require_group(group);
  return groups_[group].rule->lr();
}

void Optimizer::set_lr(size_t group, double lr) {
  require_group(group);
  groups_[group].rule->lr() = lr;
}

void Optimizer::set_lr(double lr) {
  for (const Group& g : groups_) g.rule->lr() = lr;
}

double* Optimizer::momentum(size_t group) {
  require_group(group);
  return groups_[group].rule->momentum();
}

std::vector<Parameter> Optimizer::parameters(size_t group) const {
  require_group(group);
  std::vector<Parameter> out;
  for (const auto& s : groups_[group].slots) out.push_back(s->parameter());
  return out;
}

// ---- state by name
// -------------------------------------------------------------------------------

template <class F>
void Optimizer::for_each_slot(F&& f) const {
  std::multiset<std::string> names;
  for (const Group& g : groups_) {
    for (const auto& s : g.slots) names.insert(s->parameter().leaf().name);
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (size_t i = 0; i < groups_[g].slots.size(); ++i) {
      const std::string& name = groups_[g].slots[i]->parameter().leaf().name;
      const bool unique = !name.empty() && names.count(name) == 1;
      f(groups_[g], *groups_[g].slots[i],
        absl::StrCat("state.", unique ? name : absl::StrCat(g, ".", i), "."));
    }
  }
}

namespace {

class Saver final : public OptionVisitor {
 public:
  Saver(nn::StateDict* out, std::string prefix) : out_(out), prefix_(std::move(prefix)) {}
  void number(const char* name, double& value) override {
    (*out_)[prefix_ + name] = Tensor(Array::scalar(kFloat64, value));
  }
  void flag(const char* name, bool& value) override {
    (*out_)[prefix_ + name] = Tensor(Array::scalar(kBool, value));
  }

 private:
  nn::StateDict* out_;
  std::string prefix_;
};

// Looks up what is to be loaded, and remembers what was asked for.
class Source {
 public:
  Source(const nn::StateDict& state, const char* rule) : state_(state), rule_(rule) {}

  const Tensor* find(const std::string& key) {
    const auto it = state_.find(key);
    if (it == state_.end() || !it->second.defined()) return nullptr;
    used_.insert(key);
    return &it->second;
  }
  // Undefined, and noted, where it is missing.
  Array get(const std::string& key, const Shape& shape) {
    const Tensor* t = find(key);
    if (t == nullptr) {
      missing_.push_back(key);
      return {};
    }
    if (t->shape() != shape) {
      throw ShapeError(absl::StrCat(rule_, ": state ", key, " is ", t->shape().str(),
                                    "; it must be ", shape.str()));
    }
    return t->array();
  }
  void require_complete() const {
    std::vector<std::string> unknown;
    for (const auto& [key, value] : state_) {
      if (used_.count(key) == 0) unknown.push_back(key);
    }
    if (missing_.empty() && unknown.empty()) return;
    std::string message = absl::StrCat(rule_, ": the state does not fit;");
    if (!missing_.empty()) absl::StrAppend(&message, " missing: ", absl::StrJoin(missing_, ", "));
    if (!unknown.empty()) {
      absl::StrAppend(&message, missing_.empty() ? "" : ";",
                      " unexpected: ", absl::StrJoin(unknown, ", "));
    }
    throw ValueError(message);
  }

 private:
  const nn::StateDict& state_;
  const char* rule_;
  std::set<std::string> used_;
  std::vector<std::string> missing_;
};

// Two passes: the first only checks.
class Loader final : public OptionVisitor {
 public:
  Loader(Source* from, std::string prefix, bool write)
      : from_(from), prefix_(std::move(prefix)), write_(write) {}
  void number(const char* name, double& value) override {
    const Array a = from_->get(prefix_ + name, {});
    if (write_) value = a.item();
  }
  void flag(const char* name, bool& value) override {
    const Array a = from_->get(prefix_ + name, {});
    if (write_) value = a.item() != 0;
  }

 private:
  Source* from_;
  std::string prefix_;
  bool write_;
};

}  // namespace

void Optimizer::save_options(nn::StateDict* to) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    Saver saver(to, absl::StrCat("groups.", g, "."));
    groups_[g].rule->visit_options(saver);
  }
}

nn::StateDict Optimizer::state_dict() const {
  nn::StateDict out;
  save_options(&out);
  for_each_slot([&](const Group& g, Slot& s, const std::string& key) {
    if (s.steps() == 0) return;
    s.catch_up();
    out[key + "step"] = Tensor(Array::scalar(kInt64, static_cast<double>(s.steps())));
    const auto names = g.rule->states();
    for (size_t i = 0; i < names.size(); ++i) {
      const Array& a = s.state(static_cast<int>(i));
      if (a.defined()) out[key + names[i]] = Tensor(copy(a));
    }
  });
  return out;
}

void Optimizer::load_state_dict(const nn::StateDict& state) {
  Source from(state, groups_[0].rule->name());
  struct Found {
    Slot* slot;
    int64_t steps = 0;
    std::vector<Array> states;
  };
  std::vector<Found> all;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Loader check(&from, absl::StrCat("groups.", g, "."), false);
    groups_[g].rule->visit_options(check);
  }
  for_each_slot([&](const Group& g, Slot& s, const std::string& key) {
    const auto names = g.rule->states();
    Found found{&s, 0, std::vector<Array>(names.size())};
    if (from.find(key + "step") != nullptr) {
      const Array steps = from.get(key + "step", {});
      found.steps = steps.integer_item();
      if (found.steps < 0 || static_cast<double>(found.steps) != steps.item()) {
        throw ValueError(absl::StrCat(g.rule->name(), ": state ", key, "step is ", steps.item(),
                                      "; it must be a count"));
      }
      for (size_t i = 0; i < names.size(); ++i) {
        // Which of the others there are depends on the options with which they were stored.
        const bool lasting = static_cast<int>(i) < g.rule->n_lasting_states() && found.steps > 0;
        if (!lasting && from.find(key + names[i]) == nullptr) continue;
        found.states[i] = from.get(key + names[i], s.parameter().shape());
      }
    }
    all.push_back(std::move(found));
  });
  from.require_complete();

  catch_up();
  nn::StateDict before;
  const auto set_options = [&](const nn::StateDict& options) {
    Source source(options, groups_[0].rule->name());
    for (size_t g = 0; g < groups_.size(); ++g) {
      const std::string prefix = absl::StrCat("groups.", g, ".");
      Loader load(&source, prefix, true);
      groups_[g].rule->visit_options(load);
    }
  };
  save_options(&before);
  set_options(state);
  try {
    for (const Group& g : groups_) g.rule->validate();
  } catch (...) {
    set_options(before);
    throw;
  }
  for (const Found& f : all) f.slot->load(f.steps, f.states);
}

}  // namespace ebb::optim
