// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/functional.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/segment.h"

namespace ebb::detail {
namespace {

// The rows of a Jacobian, joined: n inputs of shape [...] give [lead..., ...], lead of n elements.
struct StackRows {
  static constexpr OpDoc kDoc{"stack_rows", "y[i] = x_i", "x_0:[...] ... x_n:[...] -> y:[n,...]"};
  struct Attrs {
    Shape lead;
  };
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    Meta out{in[0].dtype, a.lead};
    for (int64_t d : in[0].shape) out.shape.push_back(d);
    return {out};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    std::byte* at = out[0].raw();
    for (const Array& a : in) {
      const Array row = contiguous(a);
      const size_t bytes = static_cast<size_t>(row.numel()) * size_of(row.dtype());
      if (bytes != 0) std::memcpy(at, row.raw(), bytes);
      at += bytes;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int lead = s.attrs<Attrs>().lead.rank();
    Shape shape{s.n_inputs()};
    for (int i = lead; i < g[0].dim(); ++i) shape.push_back(g[0].shape()[i]);
    const Tensor rows = g[0].reshape(shape);
    Grads grads;
    for (int k = 0; k < s.n_inputs(); ++k) {
      grads.push_back(s.needs(k) ? rows[k] : Tensor());
    }
    return grads;
  }
};

Tensor stack_rows(const std::vector<Tensor>& rows, const Shape& lead) {
  if (lead.empty()) return rows[0];
  return apply_span<StackRows>({lead}, rows);
}

Tensor zeros_like(const Tensor& x) { return Tensor(Array::zeros(x.dtype(), x.shape())); }

// A call of f on arguments of its own.
struct Run {
  Run(Function f, Span<const Tensor> x, const FunctionalOptions& options) {
    const EnableGradGuard on;
    for (const Tensor& t : x) args.push_back(as_argument(t, options.create_graph));
    outputs = f(args);
  }
  const Tensor& scalar(const char* name) const {
    if (outputs.size() == 1 && outputs[0].numel() == 1) return outputs[0];
    throw GradError(absl::StrCat(name, ": f(x) ",
                                 outputs.size() == 1
                                     ? absl::StrCat("is ", outputs[0].value().meta().str())
                                     : absl::StrCat("are ", outputs.size(), " tensors"),
                                 "; it must be one scalar"));
  }

  std::vector<Tensor> args;
  std::vector<Tensor> outputs;
};

void require_alike(const char* name, const char* what, Span<const Tensor> x, Span<const Tensor> v) {
  if (x.size() != v.size()) {
    throw ShapeError(
        absl::StrCat(name, ": ", what, " is of ", x.size(), " tensors, v of ", v.size()));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    if (v[i].defined() && x[i].value().meta() == v[i].value().meta()) continue;
    throw ShapeError(absl::StrCat(name, ": ", what, " is ", x[i].value().meta().str(), ", v is ",
                                  v[i].defined() ? v[i].value().meta().str() : "undefined",
                                  "; they must be alike"));
  }
}

// Gradients of sum_k <v_k, outputs_k> by each input; zeros where there is no dependence.
std::vector<Tensor> pull(Span<const Tensor> outputs, Span<const Tensor> inputs,
                         Span<const Tensor> v, bool create_graph, bool retain = false) {
  std::vector<Tensor> from;
  std::vector<Tensor> start;
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (!outputs[k].requires_grad()) continue;
    from.push_back(outputs[k]);
    start.push_back(v[k]);
  }
  std::vector<Tensor> result(inputs.size());
  if (!from.empty()) {
    result = grad(from, inputs,
                  {.create_graph = create_graph,
                   .retain_graph = retain || create_graph,
                   .allow_unused = true},
                  start);
  }
  for (size_t i = 0; i < result.size(); ++i) {
    if (!result[i].defined()) result[i] = zeros_like(inputs[i]);
  }
  return result;
}

std::vector<Tensor> gradient(const Tensor& y, Span<const Tensor> inputs, bool create_graph) {
  const Tensor one(Array::full(y.dtype(), y.shape(), 1));
  return pull(span_of(y), inputs, span_of(one), create_graph);
}

// d y / d input, one playback an element of y.
std::vector<Tensor> rows_of(const Tensor& y, Span<const Tensor> inputs, bool create_graph) {
  const Shape lead = y.shape();
  const int64_t n = y.numel();
  std::vector<Shape> shapes;
  for (const Tensor& x : inputs) {
    Shape s = lead;
    for (int64_t d : x.shape()) s.push_back(d);
    shapes.push_back(s);
  }
  // Rows are written where they belong as they come, unless they have a history to keep.
  std::vector<std::vector<Tensor>> rows(inputs.size());
  std::vector<Array> whole(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!create_graph || n == 0) whole[i] = Array::zeros(inputs[i].dtype(), shapes[i]);
  }
  for (int64_t k = 0; k < n && y.requires_grad(); ++k) {
    Array one = Array::zeros(y.dtype(), {n});
    visit_differentiable(y.dtype(), [&](auto t) { one.mutable_data<decltype(t)>()[k] = 1; });
    const Tensor start(one.view_as(lead));
    const auto row = pull(span_of(y), inputs, span_of(start), create_graph, k + 1 < n);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (create_graph) {
        rows[i].push_back(row[i]);
        continue;
      }
      const Array flat = contiguous(row[i].array());
      const size_t bytes = static_cast<size_t>(flat.numel()) * size_of(flat.dtype());
      if (bytes != 0)
        std::memcpy(whole[i].raw() + static_cast<size_t>(k) * bytes, flat.raw(), bytes);
    }
  }
  std::vector<Tensor> result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!rows[i].empty()) {
      result.push_back(stack_rows(rows[i], lead));
    } else {
      if (!whole[i].defined()) whole[i] = Array::zeros(inputs[i].dtype(), shapes[i]);
      result.push_back(Tensor(std::move(whole[i])));
    }
  }
  return result;
}

}  // namespace

std::vector<Tensor> vjp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options) {
  const Run run(f, x, options);
  require_alike("vjp", "f(x)", run.outputs, v);
  return pull(run.outputs, run.args, v, options.create_graph);
}

std::vector<Tensor> jvp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options) {
  require_alike("jvp", "x", x, v);
  const Run run(f, x, options);
  // The gradient by x is linear in the cotangent, so its derivative by that is the transpose: what
  // the cotangent itself is does not matter.
  std::vector<Tensor> tracked;
  std::vector<Tensor> cotangents;
  for (const Tensor& y : run.outputs) {
    if (!y.requires_grad()) continue;
    tracked.push_back(y);
    cotangents.push_back(variable(zeros_like(y)));
  }
  const auto pulled = pull(tracked, run.args, cotangents, true);
  auto products = pull(pulled, cotangents, v, options.create_graph);
  std::vector<Tensor> result;
  size_t next = 0;
  for (const Tensor& y : run.outputs) {
    result.push_back(y.requires_grad() ? std::move(products[next++]) : zeros_like(y));
  }
  return result;
}

std::vector<Tensor> hvp(Function f, Span<const Tensor> x, Span<const Tensor> v,
                        const FunctionalOptions& options) {
  require_alike("hvp", "x", x, v);
  const Run run(f, x, options);
  const auto g = gradient(run.scalar("hvp"), run.args, true);
  return pull(g, run.args, v, options.create_graph);
}

std::vector<Tensor> jacobian(Function f, Span<const Tensor> x, const FunctionalOptions& options) {
  const Run run(f, x, options);
  if (run.outputs.size() != 1) {
    throw GradError(
        absl::StrCat("jacobian: f(x) are ", run.outputs.size(), " tensors; it must be one"));
  }
  return rows_of(run.outputs[0], run.args, options.create_graph);
}

std::vector<std::vector<Tensor>> hessian(Function f, Span<const Tensor> x,
                                         const FunctionalOptions& options) {
  const Run run(f, x, options);
  std::vector<std::vector<Tensor>> result;
  for (const Tensor& g : gradient(run.scalar("hessian"), run.args, true)) {
    result.push_back(rows_of(g, run.args, options.create_graph));
  }
  return result;
}

ValueAndGradients value_and_grad(Function f, Span<const Tensor> x,
                                 const FunctionalOptions& options) {
  const Run run(f, x, options);
  const Tensor& y = run.scalar("value_and_grad");
  auto g = gradient(y, run.args, options.create_graph);
  return {options.create_graph ? y : y.detach(), std::move(g)};
}

}  // namespace ebb::detail
