// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "absl/strings/str_cat.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/reduce_util.h"
#include "ebb/ops/shape.h"

// Running sums and products along an axis, and the product of all elements, whose gradient is made
// of them. No gradient here divides: with y_i = x_0 ... x_i,
//
//   sum_k g_k dy_k/dx_i = y_{i-1} r_i,   r_i = g_i + x_{i+1} r_{i+1},
//
// where r is a linear recurrence run backward. The gradients of a linear recurrence are such
// recurrences again, so that derivatives of all orders are right at 0 too.
namespace ebb {
namespace ops {

namespace {

struct ScanAttrs {
  int axis = 0;
  bool reverse = false;  // from the last element to the first
};

std::string describe_scan(const ScanAttrs& a) {
  return absl::StrCat("axis=", a.axis, a.reverse ? " reverse" : "");
}

int64_t length_of(const Array& x, int axis) { return x.rank() == 0 ? 1 : x.size(axis); }

// Calls f(pointers to the line's first element in scanning order, strides, n) for all lines of
// arrays of T.
template <class T, class F, class... A>
void scan_lines(const ScanAttrs& a, const F& f, const A&... arrays) {
  constexpr size_t kN = sizeof...(A);
  const std::array<T*, kN> data{arrays.template mutable_data<T>()...};
  const int64_t n = length_of(std::get<0>(std::tie(arrays...)), a.axis);
  if (n == 0) return;
  for_each_line(
      a.axis,
      [&](const std::array<ptrdiff_t, kN>& offset, std::array<ptrdiff_t, kN> stride) {
        std::array<T*, kN> p;
        for (size_t k = 0; k < kN; ++k) {
          p[k] = data[k] + offset[k];
          if (!a.reverse) continue;
          p[k] += (n - 1) * stride[k];
          stride[k] = -stride[k];
        }
        f(p, stride, n);
      },
      arrays...);
}

void run_scan(kernels::Scan op, const Array& x, const ScanAttrs& a, const Array& out) {
  const kernels::ScanFn scan = kernels::scan_fn(x.dtype(), op);
  const auto in_size = static_cast<ptrdiff_t>(size_of(x.dtype()));
  const auto out_size = static_cast<ptrdiff_t>(size_of(out.dtype()));
  const int64_t n = length_of(x, a.axis);
  if (n == 0) return;
  for_each_line(
      a.axis,
      [&](const std::array<ptrdiff_t, 2>& offset, const std::array<ptrdiff_t, 2>& stride) {
        const std::byte* from = x.raw() + offset[0] * in_size;
        std::byte* to = out.raw() + offset[1] * out_size;
        if (a.reverse) {
          scan(from + (n - 1) * stride[0] * in_size, -stride[0],
               to + (n - 1) * stride[1] * out_size, -stride[1], static_cast<size_t>(n));
        } else {
          scan(from, stride[0], to, stride[1], static_cast<size_t>(n));
        }
      },
      x, out);
}

template <class Op, kernels::Scan kernel>
struct RunningOp {
  using Attrs = ScanAttrs;
  static std::string describe(const Attrs& a) { return describe_scan(a); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    require_reducible(Op::kDoc, kernels::Reduce::kSum, in[0]);
    return {{kernels::reduce_dtype(kernels::Reduce::kSum, in[0].dtype), in[0].shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_scan(kernel, in[0], a, out[0]);
  }
};

}  // namespace

struct CumSum : RunningOp<CumSum, kernels::Scan::kCumSum> {
  static constexpr OpDoc kDoc{"cumsum", "y_i = x_0 + ... + x_i along an axis",
                              "x:[..,n,..] -> y:[..,n,..]"};
  static constexpr GradUses uses(int) { return {}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    return {apply_with<CumSum>({a.axis, !a.reverse}, g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array gy = g.take(0);
    const Array dx = reuse_or_new(gy);
    run_scan(kernels::Scan::kCumSum, gy, {a.axis, !a.reverse}, dx);
    sink.add(0, dx);
  }
};
EBB_OP(CumSum)

struct ScanShift {
  static constexpr OpDoc kDoc{"scan_shift", "y_i = x_{i-1} along an axis, y_0 = a number",
                              "x:[..,n,..] -> y:[..,n,..]"};
  struct Attrs {
    ScanAttrs scan = {};
    double first = 0;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(describe_scan(a.scan), " first=", a.first);
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    return {in[0]};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      scan_lines<T>(
          a.scan,
          [&](std::array<T*, 2> p, std::array<ptrdiff_t, 2> step, int64_t n) {
            *p[1] = static_cast<T>(a.first);
            for (int64_t i = 1; i < n; ++i) p[1][i * step[1]] = p[0][(i - 1) * step[0]];
          },
          in[0], out[0]);
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const ScanAttrs& a = s.attrs<Attrs>().scan;
    return {scan_shift(g[0], a.axis, !a.reverse, 0)};
  }
};
EBB_OP(ScanShift)

Tensor scan_shift(const Tensor& x, int axis, bool reverse, double first) {
  return apply_with<ScanShift>({{axis, reverse}, first}, x);
}

struct LinearScan {
  static constexpr OpDoc kDoc{"linear_scan", "h_i = a_i h_{i-1} + b_i along an axis",
                              "a:[..,n,..] b:[..,n,..] -> h:[..,n,..]"};
  struct Attrs {
    ScanAttrs scan = {};
    bool lag = false;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(describe_scan(a.scan), a.lag ? " lag" : "");
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b01, .out = 1} : GradUses{.in = 0b01};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    if (in[0].shape != in[1].shape) {
      throw ShapeError(absl::StrCat("linear_scan: a is ", in[0].shape.str(), ", b is ",
                                    in[1].shape.str(), "; the shapes must be equal"));
    }
    return {in[0]};
  }
  static void forward(const Attrs& attrs, Span<const Array> in, Span<Array> out) {
    const int64_t lag = attrs.lag ? 1 : 0;
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      scan_lines<T>(
          attrs.scan,
          [&](std::array<T*, 3> p, std::array<ptrdiff_t, 3> step, int64_t n) {
            const auto [a, b, h] = p;
            double state = *b;
            *h = *b;
            for (int64_t i = 1; i < n; ++i) {
              state = b[i * step[1]] + static_cast<double>(a[(i - lag) * step[0]]) * state;
              h[i * step[2]] = static_cast<T>(state);
            }
          },
          in[0], in[1], out[0]);
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const auto& [scan, lag] = s.attrs<Attrs>();
    // What flows to b_i: that of h_i and what goes on to h_{i+1}.
    const Tensor r = linear_scan(s.in(0), g[0], scan.axis, !scan.reverse, !lag);
    if (!s.needs(0)) return {Tensor(), r};
    const Tensor h = s.out(0);
    return {lag ? scan_shift(r, scan.axis, !scan.reverse, 0) * h
                : r * scan_shift(h, scan.axis, scan.reverse, 0),
            r};
  }
};
EBB_OP(LinearScan)

Tensor linear_scan(const Tensor& a, const Tensor& b, int axis, bool reverse, bool lag) {
  return apply_with<LinearScan>({{axis, reverse}, lag}, a, b);
}

struct CumProd : RunningOp<CumProd, kernels::Scan::kCumProd> {
  static constexpr OpDoc kDoc{"cumprod", "y_i = x_0 * ... * x_i along an axis",
                              "x:[..,n,..] -> y:[..,n,..]"};
  static constexpr GradUses uses(int) { return {.in = 1, .out = 1}; }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor r = linear_scan(s.in(0), g[0], a.axis, !a.reverse, true);
    return {r * scan_shift(s.out(0), a.axis, a.reverse, 1)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& gy = g[0];
    const Array dx = Array::empty_like(gy);
    // The products before each element, once more: those in y may have left the range of float32,
    // from where the forward pass, in double, comes back.
    const Array scratch = Array::empty(kFloat64, {length_of(dx, a.axis)});
    auto* before = scratch.mutable_data<double>();
    visit_differentiable(dx.dtype(), [&](auto t) {
      using T = decltype(t);
      scan_lines<T>(
          {a.axis, !a.reverse},
          [&](std::array<T*, 3> p, std::array<ptrdiff_t, 3> step, int64_t n) {
            const auto [to, x, gp] = p;
            double product = 1;
            for (int64_t i = n; --i >= 0;) {
              before[i] = product;
              product *= x[i * step[1]];
            }
            double r = 0;
            for (int64_t i = 0; i < n; ++i) {
              const double factor = i == 0 ? 0.0 : static_cast<double>(x[(i - 1) * step[1]]);
              r = gp[i * step[2]] + factor * r;
              to[i * step[0]] = static_cast<T>(before[i] * r);
            }
          },
          dx, s.in_array(0), gy);
    });
    sink.add(0, dx);
  }
};
EBB_OP(CumProd)

struct Prod {
  static constexpr OpDoc kDoc{"prod", "y = product of x over axes",
                              "x:[...] -> y:[the other axes]"};
  using Attrs = ReduceAttrs;
  static std::string describe(const Attrs& a) { return describe_axes(a.mask, a.keepdim); }
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_reducible(kDoc, kernels::Reduce::kProd, in[0]);
    return {{kernels::reduce_dtype(kernels::Reduce::kProd, in[0].dtype),
             reduced_shape(in[0].shape, a.mask, a.keepdim)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run_reduce(kernels::Reduce::kProd, in[0], a.mask, out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return reduction_cost(in, out);
  }
  // dy/dx_i is the product of those before i and those after.
  static Grads backward(const Saved& s, const OutGrads& g) {
    const uint32_t mask = s.attrs<Attrs>().mask;
    const Tensor x = s.in(0);
    const Shape shape = x.shape();
    const int64_t n = reduced_count(shape, mask);
    if (shape.numel() == 0) return {expand(keep_axes(g[0], shape, s.attrs<Attrs>()), shape)};
    // The kept axes in front, as rows of the elements that are multiplied.
    Shape order;
    Shape back = shape;
    Shape moved;
    for (const bool reduced : {false, true}) {
      for (int i = 0; i < shape.rank(); ++i) {
        if (((mask >> i & 1) != 0) != reduced) continue;
        back[i] = order.rank();
        order.push_back(i);
        moved.push_back(shape[i]);
      }
    }
    const Shape rows{shape.numel() / n, n};
    const Tensor x2 =
        reshape(permute(x, Axes({order.data(), static_cast<size_t>(order.rank())})), rows);
    const auto others = [&](bool reverse) {
      return scan_shift(apply_with<CumProd>({1, reverse}, x2), 1, reverse, 1);
    };
    const Tensor dx = reshape(g[0], {rows[0], 1}) * (others(false) * others(true));
    return {permute(reshape(dx, moved), Axes({back.data(), static_cast<size_t>(back.rank())}))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const uint32_t mask = s.attrs<Attrs>().mask;
    const Array& x = s.in_array(0);
    const int64_t n = reduced_count(x.shape(), mask);
    const Array gy = contiguous(g[0]);
    const Array dx = Array::empty_like(x);
    const Array scratch = Array::empty(kFloat64, {n});  // a partial product may not fit float32
    auto* before = scratch.mutable_data<double>();
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_slice_of<T>(
          mask,
          [&](const T* row, T* to, int64_t j) {
            double product = 1;
            for (int64_t i = 0; i < n; ++i) {
              before[i] = product;
              product *= row[i];
            }
            double after = gy.data<T>()[j];
            for (int64_t i = n; --i >= 0;) {
              to[i] = static_cast<T>(before[i] * after);
              after *= row[i];
            }
          },
          reads(x), writes(dx));
    });
    sink.add(0, dx);
  }
};
EBB_OP(Prod)

}  // namespace ops

Tensor cumsum(const Tensor& x, int64_t axis, Where where) {
  return apply_with<ops::CumSum>({normalize_axis(axis, x.dim(), "cumsum"), false}, At(x, where));
}

Tensor cumprod(const Tensor& x, int64_t axis, Where where) {
  return apply_with<ops::CumProd>({normalize_axis(axis, x.dim(), "cumprod"), false}, At(x, where));
}

Tensor prod(const Tensor& x, Axes axes, bool keepdim, Where where) {
  return apply_with<ops::Prod>({axes.mask(x.dim(), "prod"), keepdim}, At(x, where));
}

Tensor Tensor::cumsum(int64_t axis, Where where) const { return ebb::cumsum(*this, axis, where); }
Tensor Tensor::cumprod(int64_t axis, Where where) const { return ebb::cumprod(*this, axis, where); }
Tensor Tensor::prod(Axes axes, bool keepdim, Where where) const {
  return ebb::prod(*this, axes, keepdim, where);
}

}  // namespace ebb
