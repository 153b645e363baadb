// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/engine.h"

#include <utility>

#include "ebb/autograd/pass.h"
#include "ebb/autograd/segment.h"

namespace ebb {
namespace detail {
namespace {

void require_tracked(const Tensor& t, const char* what) {
  if (!t.defined()) throw GradError(absl::StrCat("grad: ", what, " is undefined"));
  if (t.requires_grad()) return;
  throw GradError(absl::StrCat("grad: ", what, " ", t.value().meta().str(),
                               " does not require a gradient: it depends on no parameter or "
                               "variable, or was computed under NoGradGuard"));
}

// What the playback starts with at output k.
template <class G>
G start_gradient(Span<const Tensor> outputs, Span<const Tensor> gradients, size_t k) {
  const Array& y = outputs[k].value();
  if (gradients.empty() || !gradients[k].defined()) {
    if (y.numel() != 1) {
      throw GradError(absl::StrCat("grad: output is ", y.meta().str(),
                                   ", not a scalar; say with which gradient to start"));
    }
    return as_gradient<G>(Tensor(Array::full(y.dtype(), y.shape(), 1)));
  }
  const Array& g = gradients[k].value();
  if (!g.same_shape(y) || g.dtype() != y.dtype()) {
    throw ShapeError(absl::StrCat("grad: output is ", y.meta().str(), ", its gradient is ",
                                  g.meta().str(), "; they must be alike"));
  }
  // A gradient that stays at a leaf must not share elements with what the caller may write.
  return as_gradient<G>(Pass<G>::kGraph ? gradients[k] : Tensor(copy(g)));
}

void require_starts(Span<const Tensor> outputs, Span<const Tensor> gradients) {
  if (!gradients.empty() && gradients.size() != outputs.size()) {
    throw ShapeError(absl::StrCat("grad: ", outputs.size(), " outputs, ", gradients.size(),
                                  " gradients to start with"));
  }
  for (const Tensor& t : outputs) require_tracked(t, "output");
}

template <class G>
void grad_pass(Span<const Tensor> outputs, Span<const Tensor> inputs, Span<const Tensor> gradients,
               bool retain, Span<Tensor> result) {
  Pass<G> pass(retain);
  pass.aim(outputs, inputs);
  for (size_t k = 0; k < outputs.size(); ++k) {
    pass.seed(outputs[k], start_gradient<G>(outputs, gradients, k));
  }
  pass.run([&](const Node* node, int output, G& g) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Edge& e = inputs[i].edge();
      if (e.node() != node || e.output() != output) continue;
      if constexpr (Pass<G>::kGraph) {
        result[i] = g;
      } else {
        result[i] = Tensor(g.dense());
      }
    }
  });
}

// The gradients of the inputs to `result`, one each.
void grad_into(Span<const Tensor> outputs, Span<const Tensor> inputs, const GradOptions& options,
               Span<const Tensor> gradients, Span<Tensor> result) {
  require_starts(outputs, gradients);
  for (const Tensor& t : inputs) require_tracked(t, "input");
  const bool retain = options.retain_graph.value_or(options.create_graph);
  if (options.create_graph) {
    grad_pass<Tensor>(outputs, inputs, gradients, retain, result);
  } else {
    grad_pass<Gradient>(outputs, inputs, gradients, retain, result);
  }
  for (size_t i = 0; i < result.size() && !options.allow_unused; ++i) {
    if (result[i].defined()) continue;
    throw GradError(absl::StrCat("grad: the outputs do not depend on input ", i, " (",
                                 inputs[i].value().meta().str(),
                                 "); allow_unused gives an undefined gradient for it"));
  }
}

template <class G>
std::vector<G> partial_pass(Span<const Tensor> outputs, Span<G> gradients, Span<const Edge> wanted,
                            Span<const Edge> stops, bool retain) {
  std::vector<G> result(wanted.size());
  Pass<G> pass(retain);
  pass.aim_partial(outputs, wanted, stops);
  for (size_t k = 0; k < outputs.size(); ++k) pass.seed(outputs[k], std::move(gradients[k]));
  pass.run([&](const Node* node, int output, G& g) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i].node() == node && wanted[i].output() == output) result[i] = g;
    }
  });
  return result;
}

}  // namespace

std::vector<Gradient> partial_gradients(Span<const Tensor> outputs, Span<Gradient> gradients,
                                        Span<const Edge> wanted, Span<const Edge> stops) {
  return partial_pass<Gradient>(outputs, gradients, wanted, stops, false);
}

std::vector<Tensor> partial_gradients(Span<const Tensor> outputs, Span<Tensor> gradients,
                                      Span<const Edge> wanted, Span<const Edge> stops) {
  return partial_pass<Tensor>(outputs, gradients, wanted, stops, true);
}

}  // namespace detail

std::vector<Tensor> grad(Span<const Tensor> outputs, Span<const Tensor> inputs,
                         const GradOptions& options, Span<const Tensor> grad_outputs) {
  std::vector<Tensor> result(inputs.size());
  detail::grad_into(outputs, inputs, options, grad_outputs, absl::MakeSpan(result));
  return result;
}

Tensor grad(const Tensor& output, const Tensor& input, const GradOptions& options) {
  Tensor result;
  detail::grad_into({&output, 1}, {&input, 1}, options, {}, {&result, 1});
  return result;
}

void backward(Span<const Tensor> outputs, Span<const Tensor> gradients, bool retain_graph) {
  using namespace detail;
  require_starts(outputs, gradients);
  Pass<Gradient> pass(retain_graph);
  for (size_t k = 0; k < outputs.size(); ++k) {
    pass.seed(outputs[k], start_gradient<Gradient>(outputs, gradients, k));
  }
  pass.run([](const Node*, int, Gradient&) {});
}

void Tensor::backward(bool retain_graph) const {
  ebb::backward(Span<const Tensor>(this, 1), {}, retain_graph);
}

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  ebb::backward(Span<const Tensor>(this, 1), Span<const Tensor>(&gradient, 1), retain_graph);
}

bool is_grad_enabled() { return detail::tls_tape.grad_enabled; }

NoGradGuard::NoGradGuard() : before_(std::exchange(detail::tls_tape.grad_enabled, false)) {}
NoGradGuard::~NoGradGuard() { detail::tls_tape.grad_enabled = before_; }

EnableGradGuard::EnableGradGuard() : before_(std::exchange(detail::tls_tape.grad_enabled, true)) {}
EnableGradGuard::~EnableGradGuard() { detail::tls_tape.grad_enabled = before_; }

GatherGuard::GatherGuard(bool enabled) : before_(std::exchange(detail::tls_tape.gather, enabled)) {}
GatherGuard::~GatherGuard() { detail::tls_tape.gather = before_; }

AnomalyGuard::AnomalyGuard(bool enabled)
    : before_(std::exchange(detail::tls_tape.anomaly, enabled)) {}
AnomalyGuard::~AnomalyGuard() { detail::tls_tape.anomaly = before_; }

}  // namespace ebb
