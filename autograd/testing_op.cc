// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/autograd/testing_compare.h"

// The checks of an op as a whole.
namespace ebb::testing::detail {
namespace {

// What a call that throws must leave as it was.
class Unharmed {
 public:
  explicit Unharmed(Span<const Tensor> inputs)
      : inputs_(inputs), tape_(ebb::detail::tls_tape), clock_(ebb::detail::lamport_clock()) {
    for (const Tensor& x : inputs) {
      copies_.push_back(x.defined() ? copy(x.value()) : Array());
      versions_.push_back(x.defined() ? x.value().version() : 0);
    }
    live_ = memory_stats().live_bytes;
  }

  // Empty, or what has changed. A call that failed for want of memory may have recorded something
  // that is gone again.
  std::string changed(bool recorded_is_harm) const {
    const int64_t live = memory_stats().live_bytes;
    if (live != live_) return absl::StrCat("live_bytes went from ", live_, " to ", live);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!inputs_[i].defined()) continue;
      const Array& a = inputs_[i].value();
      if (!identical(a, copies_[i]) || a.version() != versions_[i]) {
        return absl::StrCat("input ", i, " was overwritten");
      }
    }
    const ebb::detail::ThreadTape& now = ebb::detail::tls_tape;
    if (recorded_is_harm && ebb::detail::lamport_clock() != clock_) return "something was recorded";
    if (now.grad_enabled != tape_.grad_enabled || now.anomaly != tape_.anomaly ||
        now.placed != tape_.placed || now.depth != tape_.depth) {
      return "the state of recording has changed";
    }
    return "";
  }

 private:
  Span<const Tensor> inputs_;
  ebb::detail::ThreadTape tape_;
  uint64_t clock_;
  std::vector<Array> copies_;
  std::vector<uint32_t> versions_;
  int64_t live_;
};

// Leaves of all inputs that can be differentiated, but for the `constants`.
std::vector<Tensor> as_variables(Span<const Tensor> inputs, Span<const int> constants = {}) {
  std::vector<Tensor> args;
  for (const Tensor& x : inputs) {
    const bool can = x.defined() && is_differentiable(x.dtype());
    args.push_back(can ? variable(x) : x);
  }
  for (int i : constants) args[static_cast<size_t>(i)] = inputs[static_cast<size_t>(i)];
  return args;
}

std::string run_error(const ErrorSample& e) {
  const std::vector<Tensor> args = as_variables(e.inputs);
  const Unharmed before(args);
  const std::string kind = type_name(*e.kind);
  bool thrown = false;
  std::string problem;
  try {
    (void)e.call(args);
  } catch (const std::exception& got) {
    thrown = true;
    if (typeid(got) != *e.kind) {
      problem = absl::StrCat("threw ", type_name(typeid(got)), ", expected ", kind,
                             "; it says: ", got.what());
    } else if (!absl::StrContains(got.what(), e.message)) {
      problem =
          absl::StrCat("the ", kind, " says '", got.what(), "', which lacks '", e.message, "'");
    }
  }
  if (!thrown) return absl::StrCat("nothing was thrown, expected ", kind);
  if (!problem.empty()) return problem;
  const std::string changed = before.changed(true);
  return changed.empty() ? "" : "after the " + kind + " " + changed;
}

// The limit is raised from "nothing more" until `call` succeeds. Every failure on the way must be a
// MemoryError that changed nothing.
std::string run_limited(Span<const Tensor> args, const std::function<void()>& call, int* failures) {
  const struct NoLimit {
    ~NoLimit() { set_memory_limit(0); }
  } restore;
  constexpr int64_t kStep = 64;
  constexpr int64_t kFine = 64 * kStep;
  for (int64_t extra = 1; extra < (int64_t{1} << 40);) {
    const Unharmed before(args);
    set_memory_limit(memory_stats().live_bytes + extra);
    try {
      call();
      return "";
    } catch (const MemoryError&) {
      set_memory_limit(0);
      ++*failures;
    } catch (const std::exception& e) {
      return absl::StrCat("with ", extra, " bytes left it threw ", type_name(typeid(e)),
                          " instead of MemoryError: ", e.what());
    }
    const std::string changed = before.changed(false);
    if (!changed.empty()) return absl::StrCat("MemoryError with ", extra, " bytes left: ", changed);
    extra = extra < kStep ? kStep : extra < kFine ? extra + kStep : extra * 2;
  }
  return "it never has enough memory";
}

bool shares_with_inputs(Span<const Tensor> outputs, Span<const Tensor> inputs) {
  return std::all_of(outputs.begin(), outputs.end(), [&](const Tensor& y) {
    return std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& x) {
      return x.defined() && x.value().rep() == y.value().rep();
    });
  });
}

// In and out of the op's own node, where it gave the sample's results directly.
struct DirectCall {
  const void* attrs = nullptr;
  std::vector<Meta> in;
  std::vector<Meta> out;
};

std::optional<DirectCall> direct_call(const OpDef& def, Span<const Tensor> args,
                                      Span<const Tensor> outputs) {
  if (outputs.empty()) return std::nullopt;
  static const std::max_align_t kNone{};
  DirectCall c;
  const ebb::detail::Node* n = outputs[0].edge().node();
  if (n != nullptr) {
    const bool same = std::strcmp(n->def->doc.name, def.doc.name) == 0;
    // There may be more outputs, which the op keeps for its gradient.
    if (!same || n->n_inputs != args.size() || n->n_outputs() < static_cast<int>(outputs.size())) {
      return std::nullopt;
    }
    c.attrs = n->attrs();
  } else if (def.attrs_size == 0 && def.backward == nullptr) {
    c.attrs = &kNone;
  } else {
    return std::nullopt;
  }
  for (const Tensor& x : args) c.in.push_back(x.defined() ? x.value().meta() : Meta{});
  for (const Tensor& y : outputs) c.out.push_back(y.value().meta());
  return c;
}

}  // namespace

void check_error(const ErrorSample& e, Report& report) {
  report.run(e.name, "error", [&] { return run_error(e); });
}

void check_doc(const OpDef& def, Report& report) {
  const auto missing = [](const char* s) { return s == nullptr || *s == '\0'; };
  if (missing(def.doc.name)) report.add("", "documentation", "kDoc has no name");
  if (missing(def.doc.formula)) report.add("", "documentation", "kDoc has no formula");
  if (missing(def.doc.shapes)) report.add("", "documentation", "kDoc has no shapes");
}

void check_cost(const OpDef& def, Span<const Sample> samples, Report& report) {
  int seen = 0;
  bool could_be_seen = def.attrs_size == 0 && def.backward == nullptr;
  for (const Sample& s : samples) {
    report.run(s.name, "cost", [&]() -> std::string {
      const std::vector<Tensor> args = as_variables(s.inputs, s.constants);
      const std::vector<Tensor> outputs = s.call(args);
      could_be_seen = could_be_seen || s.no_gradient.empty();
      const auto c = direct_call(def, args, outputs);
      if (!c.has_value()) return "";
      ++seen;
      const Cost cost = def.cost(c->attrs, c->in, c->out);
      if (!std::isfinite(cost.multiply_adds) || !std::isfinite(cost.bytes) ||
          cost.multiply_adds < 0 || cost.bytes < 0) {
        return absl::StrCat(cost.multiply_adds, " multiply-adds and ", cost.bytes, " bytes");
      }
      const bool empty = std::all_of(c->out.begin(), c->out.end(),
                                     [](const Meta& m) { return m.shape.numel() == 0; });
      if (!empty && !def.view && cost.multiply_adds + cost.bytes <= 0) {
        return "a call that gives something costs nothing";
      }
      return "";
    });
  }
  if (seen == 0 && could_be_seen) {
    report.add("", "cost", "no sample's results come directly from the op, to ask for their cost");
  }
}

void check_memory_limit(const Sample& s, Report& report) {
  report.run(s.name, "memory limit", [&]() -> std::string {
    const std::vector<Tensor> args = as_variables(s.inputs, s.constants);
    std::vector<Tensor> outputs = s.call(args);  // once before, so that tables made once exist
    const bool shared = shares_with_inputs(outputs, args);
    outputs.clear();
    int failures = 0;
    std::string problem = run_limited(
        args, [&] { (void)s.call(args); }, &failures);
    if (!problem.empty()) return problem;
    if (failures == 0 && !shared) return "it does not throw MemoryError when there is none left";
    if (!s.no_gradient.empty()) return "";

    const Result want = evaluate(s, s.inputs);
    problem = run_limited(
        args, [&] { (void)evaluate(s, s.inputs); }, &failures);
    if (!problem.empty()) return "gradient: " + problem;
    const Result after = evaluate(s, s.inputs);
    for (size_t i = 0; i < want.gradients.size(); ++i) {
      if (identical(want.gradients[i], after.gradients[i])) continue;
      return absl::StrCat("the gradient of input ", i, " is another one afterwards");
    }
    return "";
  });
}

void check_one(const OpDef& def, Sample sample) {
  Report report(def.doc.name);
  if (sample.name.empty()) sample.name = "given";
  if (!sample.reference && sample.no_reference.empty()) {
    sample.no_reference = "a user's op need not have one";
  }
  check_doc(def, report);
  check_sample(def, sample, report);
  check_targets({&sample, 1}, report);
  check_cost(def, {&sample, 1}, report);
  check_memory_limit(sample, report);
  report.finish();
}

}  // namespace ebb::testing::detail

namespace ebb::testing {

void check_samples(const OpDef& def, const OpSamples& s) {
  detail::Report report(def.doc.name);
  detail::check_doc(def, report);
  if (s.samples.empty()) report.add("", "samples", "there are none");

  bool empty = false;
  bool scalar = false;
  for (const Sample& sample : s.samples) {
    for (const Tensor& x : sample.inputs) {
      empty = empty || (x.defined() && x.numel() == 0);
      scalar = scalar || (x.defined() && x.dim() == 0);
    }
  }
  const auto demand = [&](bool there, const std::string& reason, const char* what,
                          const char* where) {
    if (there || !reason.empty()) return;
    report.add("", "samples", absl::StrCat(what, "; if there can be none, say why in ", where));
  };
  demand(empty, s.no_empty, "none has an input without elements", "no_empty");
  demand(scalar, s.no_scalar, "none has an input of rank 0", "no_scalar");
  demand(!s.errors.empty(), s.no_errors, "no call is an error", "no_errors");

  for (const Sample& sample : s.samples) detail::check_sample(def, sample, report);
  detail::check_targets(s.samples, report);
  if (s.sized) {
    std::vector<Sample> all;
    for (const int64_t n : s.sizes) {
      for (Sample& sample : s.sized(n)) all.push_back(std::move(sample));
    }
    for (const Sample& sample : all) detail::check_sized(sample, report);
    detail::check_targets(all, report);
  }
  for (const ErrorSample& e : s.errors) detail::check_error(e, report);
  detail::check_cost(def, s.samples, report);
  for (const Sample& sample : s.samples) {
    const bool useful = std::any_of(sample.inputs.begin(), sample.inputs.end(),
                                    [](const Tensor& x) { return x.defined() && x.numel() > 1; });
    if (!useful && &sample != &s.samples.back()) continue;
    detail::check_memory_limit(sample, report);
    break;
  }
  report.finish();
}

}  // namespace ebb::testing
