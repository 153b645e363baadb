// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

// Ops that the tests of the engine record, and that a user might have written.
namespace ebb::test {

/// A float64 vector, or a scalar where there is one value.
inline Tensor of(std::initializer_list<double> values) {
  const std::vector<double> v(values);
  const Shape shape = v.size() == 1 ? Shape{} : Shape{static_cast<int64_t>(v.size())};
  return Tensor(Array::of<double>(shape, v));
}

/// What ops of one input that keep its type and shape have in common.
struct OneInput {
  struct Attrs {};
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
};

inline void copy_to(const Array& from, const Array& to) {
  for (int64_t k = 0; k < from.numel(); ++k) {
    to.mutable_data<double>()[k] = from.data<double>()[k];
  }
}

/// y0 = a + b, y1 = a - b.
struct SumAndDifference {
  static constexpr OpDoc kDoc{"sum_and_difference", "y0 = a + b, y1 = a - b",
                              "a:[...] b:[...] -> y0:[...] y1:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0], in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    for (int64_t k = 0; k < in[0].numel(); ++k) {
      const double a = in[0].data<double>()[k];
      const double b = in[1].data<double>()[k];
      out[0].mutable_data<double>()[k] = a + b;
      out[1].mutable_data<double>()[k] = a - b;
    }
  }
  static Grads backward(const Saved&, const OutGrads& g) {
    if (!g.has(0)) return {g[1], -g[1]};
    if (!g.has(1)) return {g[0], g[0]};
    return {g[0] + g[1], g[0] - g[1]};
  }
};

/// y = sum_i (i + 1) x_i^2 of any number of inputs.
struct WeightedSum {
  static constexpr OpDoc kDoc{"weighted_sum", "y = sum_i (i + 1) x_i^2", "x_0:[] ... -> y:[]"};
  struct Attrs {};
  static constexpr GradUses uses(int i) { return {.in = detail::bit(i)}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    double sum = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      sum += static_cast<double>(i + 1) * in[i].item() * in[i].item();
    }
    *out[0].mutable_data<double>() = sum;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads grads;
    for (int i = 0; i < s.n_inputs(); ++i) {
      grads.push_back(s.needs(i) ? g[0] * s.in(i) * (2.0 * (i + 1)) : Tensor());
    }
    return grads;
  }
};

/// y = sum_k c_k x^k, with coefficients in an attribute that is not trivially copyable.
struct Polynomial : OneInput {
  static constexpr OpDoc kDoc{"polynomial", "y = sum_k c_k x^k", "x:[...] -> y:[...]"};
  struct Attrs {
    std::vector<double> c;
  };
  static std::string describe(const Attrs& a) { return "degree " + std::to_string(a.c.size() - 1); }
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    for (int64_t k = 0; k < in[0].numel(); ++k) {
      double y = 0;
      for (size_t i = a.c.size(); i-- > 0;) y = y * in[0].data<double>()[k] + a.c[i];
      out[0].mutable_data<double>()[k] = y;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Attrs d;
    const Attrs& a = s.attrs<Attrs>();
    for (size_t i = 1; i < a.c.size(); ++i) d.c.push_back(static_cast<double>(i) * a.c[i]);
    if (d.c.empty()) d.c.push_back(0);
    return {g[0] * apply_with<Polynomial>(d, s.in(0))};
  }
};

/// Shares ownership of something.
struct Counted : OneInput {
  static constexpr OpDoc kDoc{"counted", "y = x", "x:[...] -> y:[...]"};
  struct Attrs {
    std::shared_ptr<int> count;
  };
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0]}; }
};

struct ThrowingRule : OneInput {
  static constexpr OpDoc kDoc{"throwing", "y = x", "x:[...] -> y:[...]"};
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved&, const OutGrads&) { throw NumericError("no derivative here"); }
};

struct UndeclaredUse : OneInput {
  static constexpr OpDoc kDoc{"undeclared", "y = x", "x:[...] -> y:[...]"};
  static constexpr GradUses uses(int) { return {}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {g[0] * s.in(0)}; }
};

struct WrongShape : OneInput {
  static constexpr OpDoc kDoc{"wrong_shape", "y = x", "x:[...] -> y:[...]"};
  static constexpr GradUses uses(int) { return {}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved&, const OutGrads&) { return {of({1, 2, 3})}; }
};

struct TooMany : OneInput {
  static constexpr OpDoc kDoc{"too_many", "y = x", "x:[...] -> y:[...]"};
  static constexpr GradUses uses(int) { return {}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(in[0], out[0]);
  }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0], g[0]}; }
};

/// y = x^2, counting which form of its gradient is asked for.
struct TwoForms : OneInput {
  static constexpr OpDoc kDoc{"two_forms", "y = x^2", "x:[...] -> y:[...]"};
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    for (int64_t k = 0; k < in[0].numel(); ++k) {
      const double x = in[0].data<double>()[k];
      out[0].mutable_data<double>()[k] = x * x;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    ++rules;
    return {g[0] * s.in(0) * 2};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    ++values;
    const Array gx = Array::empty_like(s.in_array(0));
    for (int64_t k = 0; k < gx.numel(); ++k) {
      gx.mutable_data<double>()[k] = 2 * g[0].data<double>()[k] * s.in_array(0).data<double>()[k];
    }
    sink.add(0, gx);
  }
  static inline int rules = 0;
  static inline int values = 0;
};

/// y = 3 x^2, which rule and value both get from grad() of x^3.
struct InnerGradient : OneInput {
  static constexpr OpDoc kDoc{"inner_gradient", "y = d/dx x^3", "x:[] -> y:[]"};
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Tensor cube_gradient(const Tensor& x, bool create_graph) {
    const EnableGradGuard on;
    return grad(x * x * x, x, {.create_graph = create_graph});
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_to(cube_gradient(variable(Tensor(in[0])), false).array(), out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const bool graph = is_grad_enabled();
    const EnableGradGuard on;
    // A node between, so that derivatives stop at this op's own use of the input.
    const Tensor x = graph ? s.in(0) * 1 : variable(s.in(0));
    const Tensor second = grad(cube_gradient(x, true), x, {.create_graph = graph});
    return {g[0] * second};
  }
};

}  // namespace ebb::test
