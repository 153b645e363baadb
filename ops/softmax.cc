// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/softmax.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/softmax.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

namespace {

// What the two have in common; the derived op names the kernels of a row.
template <class Op>
struct SoftmaxOp {
  struct Attrs {
    int axis = 0;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static constexpr GradUses uses(int) { return {.out = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_floating(Op::kDoc, in);
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 4;  // the largest, the exponential, the sum, the scaling
    return c;
  }
  static size_t length(const Array& x, int axis) {
    return x.rank() == 0 ? 1 : static_cast<size_t>(x.size(axis));
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const size_t n = length(in[0], a.axis);
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_slice_of<T>(
          1u << a.axis, [&](const T* x, T* y, int64_t) { Op::template row<T>(x, y, n); },
          reads(in[0]), writes(out[0]));
    });
  }
  // The sum along the axis, which stays.
  static Tensor axis_sum(const Tensor& x, int axis) {
    Shape shape = x.shape();
    if (shape.empty()) return x;
    shape[axis] = 1;
    return sum_to(x, shape);
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    const Array& y = s.out_array(0);
    const size_t n = length(y, axis);
    const Array gy = g.take(0);
    const Array dx = reuse_or_new(gy);
    visit_differentiable(y.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_slice_of<T>(
          1u << axis,
          [&](const T* py, const T* pg, T* to, int64_t) {
            Op::template backward_row<T>(py, pg, to, n);
          },
          reads(y), reads(gy), writes(dx));
    });
    sink.add(0, dx);
  }
};

}  // namespace

struct Softmax : SoftmaxOp<Softmax> {
  static constexpr OpDoc kDoc{"softmax", "y_i = e^x_i / sum_j e^x_j along an axis",
                              "x:[..,n,..] -> y:[..,n,..]"};
  template <class T>
  static void row(const T* x, T* y, size_t n) {
    kernels::softmax_row(x, y, n);
  }
  template <class T>
  static void backward_row(const T* y, const T* g, T* dx, size_t n) {
    kernels::softmax_backward_row(y, g, dx, n);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Tensor y = s.out(0);
    const Tensor gy = g[0] * y;
    return {gy - y * axis_sum(gy, s.attrs<Attrs>().axis)};
  }
};
EBB_OP(Softmax)

struct LogSoftmax : SoftmaxOp<LogSoftmax> {
  static constexpr OpDoc kDoc{"log_softmax", "y_i = x_i - ln(sum_j e^x_j) along an axis",
                              "x:[..,n,..] -> y:[..,n,..]"};
  template <class T>
  static void row(const T* x, T* y, size_t n) {
    kernels::log_softmax_row(x, y, n);
  }
  template <class T>
  static void backward_row(const T* y, const T* g, T* dx, size_t n) {
    kernels::log_softmax_backward_row(y, g, dx, n);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {g[0] - exp(s.out(0)) * axis_sum(g[0], s.attrs<Attrs>().axis)};
  }
};
EBB_OP(LogSoftmax)

}  // namespace ops

Tensor softmax(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::Softmax>({normalize_axis(axis, x.dim(), "softmax")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("softmax");
}

Tensor log_softmax(const Tensor& x, int64_t axis, Where where) try {
  return apply_with<ops::LogSoftmax>({normalize_axis(axis, x.dim(), "log_softmax")}, At(x, where));
} catch (const Error&) {
  detail::rethrow_as("log_softmax");
}

Tensor Tensor::softmax(int64_t axis, Where where) const { return ebb::softmax(*this, axis, where); }
Tensor Tensor::log_softmax(int64_t axis, Where where) const {
  return ebb::log_softmax(*this, axis, where);
}

}  // namespace ebb
