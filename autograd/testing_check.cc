// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/gradcheck.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/autograd/testing_compare.h"
#include "ebb/ops/kernels/dispatch.h"
#include "hwy/targets.h"

// The checks of one sample.
namespace ebb::testing::detail {
namespace {

// The first difference between results of the same call. Gradients are measured against the largest
// of all inputs: where one was broadcast, its own is a sum that may come to nearly nothing.
std::string compare(const Result& got, const Result& want, double values, double gradients,
                    double floor) {
  if (got.values.size() != want.values.size()) {
    return absl::StrCat(got.values.size(), " results, expected ", want.values.size());
  }
  for (size_t j = 0; j < want.values.size(); ++j) {
    const std::string d = difference(got.values[j], want.values[j], {values, floor});
    if (!d.empty()) return absl::StrCat("result ", j, " ", want.values[j].shape().str(), ": ", d);
  }
  const Tolerance tolerance{gradients, 1, largest(want.gradients)};
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    if (!want.gradients[i].defined() || !got.gradients[i].defined()) continue;
    const std::string d = difference(got.gradients[i], want.gradients[i], tolerance);
    if (!d.empty()) {
      return absl::StrCat("gradient of input ", i, " ", want.gradients[i].shape().str(), ": ", d);
    }
  }
  return "";
}

std::string compare64(const Sample& s, const Result& got, const Result& want) {
  return compare(got, want, s.tolerance64, s.tolerance64, 1);
}

std::string compare32(const Sample& s, const Result& got, const Result& want) {
  for (size_t j = 0; j < want.values.size() && j < got.values.size(); ++j) {
    const DType expected = want.values[j].dtype() == kFloat64 ? kFloat32 : want.values[j].dtype();
    if (got.values[j].dtype() != expected) {
      return absl::StrCat("result ", j, " is ", got.values[j].meta().str(), ", expected ",
                          name_of(expected));
    }
  }
  const double gradient = s.gradient_tolerance32 > 0 ? s.gradient_tolerance32 : s.tolerance32;
  return compare(got, want, s.tolerance32, gradient, s.floor);
}

// Searches the tape a short way from the results for a node of the op.
bool tape_contains(Span<const Tensor> outputs, const char* op) {
  constexpr size_t kFar = 256;
  std::vector<const ebb::detail::Node*> nodes;
  const auto visit = [&](const ebb::detail::Edge& e) {
    if (!e || nodes.size() >= kFar) return;
    if (std::find(nodes.begin(), nodes.end(), e.node()) == nodes.end()) nodes.push_back(e.node());
  };
  for (const Tensor& t : outputs) visit(t.edge());
  for (size_t k = 0; k < nodes.size(); ++k) {
    if (std::string_view(nodes[k]->def->doc.name) == op) return true;
    for (int i = 0; i < nodes[k]->n_inputs; ++i) visit(nodes[k]->edges()[i]);
  }
  return false;
}

std::string check_tape(const OpDef& def, const Sample& s) {
  std::vector<Tensor> args;
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    args.push_back(is_variable(s, s.inputs, i) ? variable(s.inputs[i]) : s.inputs[i]);
  }
  const std::vector<Tensor> outputs = s.call(args);
  const bool tracked = std::any_of(outputs.begin(), outputs.end(),
                                   [](const Tensor& t) { return t.requires_grad(); });
  if (!s.no_gradient.empty()) {
    return tracked
               ? "a result carries a gradient, though the sample says none does: " + s.no_gradient
               : "";
  }
  if (!tracked) return "no result carries a gradient; if that is right, say why in no_gradient";
  // An op may take a short cut where there is nothing to do.
  const bool empty =
      std::all_of(outputs.begin(), outputs.end(), [](const Tensor& t) { return t.numel() == 0; });
  if (!empty && !tape_contains(outputs, def.doc.name)) {
    return absl::StrCat("no node '", def.doc.name, "' was recorded: does the sample call the op?");
  }
  const NoGradGuard off;
  for (const Tensor& y : s.call(args)) {
    if (y.requires_grad()) return "a result carries a gradient under NoGradGuard";
  }
  return "";
}

std::string check_reference(const Sample& s, const Result& base) {
  if (!s.reference) {
    return s.no_reference.empty() ? "no reference; if there can be none, say why in no_reference"
                                  : "";
  }
  std::vector<RefArray> in;
  for (const Tensor& x : s.inputs) in.push_back(x.defined() ? to_ref(x.array()) : RefArray());
  const std::vector<RefArray> want = s.reference(in);
  if (want.size() != base.values.size()) {
    return absl::StrCat(base.values.size(), " results, the reference has ", want.size());
  }
  for (size_t j = 0; j < want.size(); ++j) {
    const std::string d = difference(base.values[j], want[j], {s.tolerance64, s.floor});
    if (!d.empty()) return absl::StrCat("result ", j, " ", want[j].shape.str(), ": ", d);
  }
  return "";
}

// The sample as a function of what it is differentiated by.
template <class F>
void with_variables(const Sample& s, F&& f) {
  std::vector<size_t> at;
  std::vector<Tensor> variables;
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (!is_variable(s, s.inputs, i)) continue;
    at.push_back(i);
    variables.push_back(s.inputs[i]);
  }
  f(
      [&](Span<const Tensor> x) {
        std::vector<Tensor> all = s.inputs;
        for (size_t k = 0; k < at.size(); ++k) all[at[k]] = x[k];
        return s.call(all);
      },
      variables);
}

std::string check_forms(const Sample& s, const Result& base) {
  const auto compare_with = [&](const char* what, const How& how) -> std::string {
    const std::string d = compare64(s, evaluate(s, s.inputs, how), base);
    return d.empty() ? "" : absl::StrCat(what, " against grad(): ", d);
  };
  if (std::string d = compare_with("grad() with create_graph", {.playback = Playback::kGraph});
      !d.empty()) {
    return d;
  }
  if (std::string d = compare_with("backward()", {.playback = Playback::kBackward}); !d.empty()) {
    return d;
  }
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (!is_variable(s, s.inputs, i)) continue;
    for (const Playback p : {Playback::kValues, Playback::kGraph}) {
      const std::string d =
          compare_with(p == Playback::kGraph ? "where it is the only one, with create_graph,"
                                             : "where it is the only one,",
                       {.playback = p, .only_input = static_cast<int>(i)});
      if (!d.empty()) return d;
    }
  }
  return "";
}

// Gradients from single results must add up to that from all of them.
std::string check_single_outputs(const Sample& s, const Result& base) {
  if (base.values.size() < 2) return "";
  for (const Playback p : {Playback::kValues, Playback::kGraph}) {
    Result sum;
    for (size_t j = 0; j < base.values.size(); ++j) {
      Result r = evaluate(s, s.inputs, {.playback = p, .only_output = static_cast<int>(j)});
      if (j == 0) {
        sum = std::move(r);
        for (Array& g : sum.gradients) {
          if (g.defined()) g = copy(g);
        }
        continue;
      }
      for (size_t i = 0; i < r.gradients.size(); ++i) {
        if (r.gradients[i].defined()) add_into(sum.gradients[i], r.gradients[i]);
      }
    }
    const std::string d = compare64(s, sum, base);
    if (!d.empty()) {
      return absl::StrCat("sum of the gradients from each result alone",
                          p == Playback::kGraph ? ", with create_graph" : "", ": ", d);
    }
  }
  return "";
}

std::string check_layouts(const Sample& s, const Result& base) {
  const std::vector<Tensor> in32 = to_float32(s.inputs);
  for (const Layout& layout : layouts()) {
    for (size_t i = 0; i < s.inputs.size(); ++i) {
      if (!s.inputs[i].defined() || s.inputs[i].numel() == 0) continue;
      std::vector<Tensor> in = s.inputs;
      const Array other = layout.make(in[i].array());
      if (!other.defined()) continue;
      in[i] = Tensor(other);
      std::string d = compare64(s, evaluate(s, in), base);
      if (d.empty()) {
        d = compare64(s, evaluate(s, in, {.playback = Playback::kGraph}), base);
        if (!d.empty()) d = "with create_graph, " + d;
      }
      if (d.empty() && s.no_float32.empty()) {
        in = in32;
        in[i] = Tensor(layout.make(in[i].array()));
        d = compare32(s, evaluate(s, in), base);
        if (!d.empty()) d = "float32, " + d;
      }
      if (!d.empty()) return absl::StrCat("input ", i, " laid out as '", layout.name, "': ", d);
    }
  }
  return "";
}

std::string check_float32(const Sample& s, const Result& base) {
  const std::vector<Tensor> in = to_float32(s.inputs);
  const Result values = evaluate(s, in);
  std::string d = compare32(s, values, base);
  if (!d.empty() || !s.no_gradient.empty()) return d;
  d = compare32(s, evaluate(s, in, {.playback = Playback::kGraph}), base);
  return d.empty() ? "" : "with create_graph, " + d;
}

}  // namespace

void check_sample(const OpDef& def, const Sample& s, Report& report) {
  std::vector<Array> before;
  for (const Tensor& x : s.inputs) before.push_back(x.defined() ? copy(x.array()) : Array());

  std::optional<Result> base;
  report.run(s.name, "call", [&] {
    base = evaluate(s, s.inputs);
    return "";
  });
  if (!base.has_value()) return;
  report.run(s.name, "value against the reference", [&] { return check_reference(s, *base); });
  report.run(s.name, "tape", [&] { return check_tape(def, s); });
  if (s.no_gradient.empty()) {
    if (s.no_numeric.empty()) {
      report.run(s.name, "gradient", [&] {
        with_variables(s, [](auto&& f, const auto& x) { gradcheck(f, x); });
        return "";
      });
    }
    if (s.no_numeric.empty() && s.no_second_order.empty()) {
      report.run(s.name, "second-order gradient", [&] {
        with_variables(s, [](auto&& f, const auto& x) { gradgradcheck(f, x); });
        return "";
      });
    }
    report.run(s.name, "forms of the gradient", [&] { return check_forms(s, *base); });
    report.run(s.name, "results one by one", [&] { return check_single_outputs(s, *base); });
  }
  if (s.no_views.empty()) {
    report.run(s.name, "layout", [&] { return check_layouts(s, *base); });
  }
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (s.inputs[i].defined() && !identical(s.inputs[i].array(), before[i])) {
      report.add(s.name, "inputs", absl::StrCat("input ", i, " was overwritten"));
    }
  }
}

void check_sized(const Sample& s, Report& report) {
  report.run(s.name, "value against the reference",
             [&] { return check_reference(s, evaluate(s, s.inputs)); });
  if (!s.no_gradient.empty()) return;
  report.run(s.name, "forms of the gradient", [&] {
    const Result graph = evaluate(s, s.inputs, {.playback = Playback::kGraph});
    return compare64(s, evaluate(s, s.inputs), graph);
  });
}

void check_targets(Span<const Sample> samples, Report& report) {
  std::vector<Result> base;
  for (const Sample& s : samples) {
    base.emplace_back();
    report.run(s.name, "call", [&] {
      base.back() = evaluate(s, s.inputs);
      return "";
    });
  }
  const struct Restore {
    ~Restore() {
      hwy::SetSupportedTargetsForTest(0);
      kernels::reset_dispatch();
    }
  } restore;
  std::vector<char> failed(samples.size());  // on one target, which tells enough
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    kernels::reset_dispatch();
    const std::string name = hwy::TargetName(target);
    for (size_t k = 0; k < samples.size() && !report.full(); ++k) {
      const Sample& s = samples[k];
      if (base[k].values.empty() || failed[k] != 0) continue;
      bool fine = report.run(s.name, "float64 on " + name,
                             [&] { return compare64(s, evaluate(s, s.inputs), base[k]); });
      if (fine && s.no_float32.empty()) {
        fine = report.run(s.name, "float32 on " + name, [&] { return check_float32(s, base[k]); });
      }
      failed[k] = !fine;
    }
  }
}

}  // namespace ebb::testing::detail
