// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/conv_util.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/core/parallel.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/reduce.h"

namespace ebb::ops {

namespace {

// Numbers below this may be multiplied by each other, and four such products added up.
constexpr int64_t kLargest = int64_t{1} << 30;

std::string list(const int64_t* v, int n) { return Shape(v, static_cast<size_t>(n)).str(); }

std::string inputs(const OpDoc& doc, Span<const Meta> in, Span<const char* const> names) {
  std::string text = absl::StrCat(doc.name, ": ");
  for (size_t i = 0; i < in.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", names[i], " is ", in[i].shape.str());
  }
  return text;
}

}  // namespace

std::string describe(const ConvAttrs& a) {
  std::string text =
      absl::StrCat("stride ", list(a.stride, a.dims), ", padding ", list(a.pad, a.dims));
  if (!std::equal(a.pad, a.pad + a.dims, a.pad_after)) {
    absl::StrAppend(&text, " and ", list(a.pad_after, a.dims), " after");
  }
  absl::StrAppend(&text, ", dilation ", list(a.dilation, a.dims), ", groups ", a.groups);
  return text;
}

void conv_misfit(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                 Span<const char* const> names, const std::string& why) {
  throw ShapeError(absl::StrCat(inputs(doc, in, names), ", ", describe(a), "; ", why));
}

void check_conv(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, int rank1) {
  require_floating(doc, in);
  require_same_dtype(doc, in);
  const auto refuse = [&](const std::string& why) {
    throw ValueError(absl::StrCat(inputs(doc, in, names), ", ", describe(a), "; ", why));
  };
  const auto check = [&](const char* what, const int64_t* v, int64_t least) {
    for (int d = 0; d < a.dims; ++d) {
      if (v[d] >= least && v[d] <= kLargest) continue;
      refuse(absl::StrCat(what, " is ", v[d], "; it must be in [", least, ", ", kLargest, "]"));
    }
  };
  check("the stride", a.stride, 1);
  check("the dilation", a.dilation, 1);
  check("the padding", a.pad, 0);
  check("the padding", a.pad_after, -kLargest);
  if (a.groups < 1) {
    refuse(absl::StrCat("the number of groups is ", a.groups, "; it must be at least 1"));
  }
  if (a.same && !std::all_of(a.stride, a.stride + a.dims, [](int64_t s) { return s == 1; })) {
    refuse("padding kSame needs stride 1");
  }
  const int rank = in[0].shape.rank();
  if (rank != a.dims + 1 && rank != a.dims + 2) {
    conv_misfit(doc, a, in, names,
                absl::StrCat(names[0], " must have rank ", a.dims + 1, ", or ", a.dims + 2,
                             " with a batch"));
  }
  const int want1 = rank1 != 0 ? rank1 : rank;
  if (in[1].shape.rank() != want1) {
    conv_misfit(doc, a, in, names,
                absl::StrCat(names[1], " must have rank ", want1, ", not ", in[1].shape.rank()));
  }
  for (size_t i = 0; i < 2; ++i) {
    for (const int64_t n : in[i].shape) {
      if (n <= kLargest) continue;
      conv_misfit(doc, a, in, names, absl::StrCat("sizes above ", kLargest, " are not supported"));
    }
  }
}

void check_axes(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, size_t which) {
  const Shape& s = in[which].shape;
  for (int i = s.rank() - a.dims - 1; i < s.rank(); ++i) {
    if (s[i] != 0) continue;
    conv_misfit(doc, a, in, names,
                absl::StrCat(names[which], ".size(", i - s.rank(), ") is 0; only a batch may be"));
  }
}

void check_bias(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                Span<const char* const> names, int64_t channels) {
  if (in.size() < 3 || in[2].shape == Shape{channels}) return;
  conv_misfit(doc, a, in, names, absl::StrCat("bias must be ", Shape{channels}.str()));
}

Metas checked_result(const OpDoc& doc, const ConvAttrs& a, Span<const Meta> in,
                     Span<const char* const> names, const Shape& out) {
  int64_t bytes = static_cast<int64_t>(size_of(in[0].dtype));
  bool fits = true;
  for (int i = 0; i < out.rank(); ++i) {
    if (out[i] < 1 && i >= out.rank() - a.dims - 1) {
      conv_misfit(doc, a, in, names, absl::StrCat("the result would be ", out.str()));
    }
    fits = fits && !__builtin_mul_overflow(bytes, out[i], &bytes);
  }
  if (!fits || bytes > int64_t{1} << 47) {
    conv_misfit(doc, a, in, names,
                absl::StrCat("the result would be ", out.str(), ", more than can be addressed"));
  }
  return {{in[0].dtype, out}};
}

void resolve_same(ConvAttrs& a, const int64_t* kernel) {
  for (int d = 0; d < a.dims; ++d) {
    int64_t total;
    if (__builtin_mul_overflow(a.dilation[d], kernel[d] - 1, &total)) total = 2 * kLargest + 2;
    a.pad[d] = std::max<int64_t>(total, 0) / 2;
    a.pad_after[d] = std::max<int64_t>(total, 0) - a.pad[d];
  }
}

kernels::ConvShape kernel_shape(const ConvAttrs& a, const Shape& x, const Shape& weight,
                                const Shape& y) {
  kernels::ConvShape s{};
  s.dims = a.dims;
  s.batch = is_batched(a, x.rank()) ? x[0] : 1;
  s.in_channels = x[x.rank() - a.dims - 1];
  s.out_channels = y[y.rank() - a.dims - 1];
  s.groups = a.groups;
  for (int d = 0; d < 3; ++d) {
    const bool there = d < a.dims;
    s.in[d] = there ? x[x.rank() - a.dims + d] : 1;
    s.out[d] = there ? y[y.rank() - a.dims + d] : 1;
    s.kernel[d] = there ? weight[2 + d] : 1;
    s.stride[d] = there ? a.stride[d] : 1;
    s.dilation[d] = there ? a.dilation[d] : 1;
    s.pad[d] = there ? a.pad[d] : 0;
  }
  return s;
}

void run_conv(const kernels::ConvShape& s, const Array& x, const Array& w, const Array& bias,
              const Array& y) {
  const Array cx = contiguous(x);
  const Array cw = contiguous(w);
  const Array cb = bias.defined() ? contiguous(bias) : Array();
  visit_differentiable(y.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::conv_forward(s, cx.data<T>(), cw.data<T>(), cb.defined() ? cb.data<T>() : nullptr,
                          y.mutable_data<T>());
  });
}

void run_conv_grad_input(const kernels::ConvShape& s, const Array& dy, const Array& w,
                         const Array& dx) {
  const Array cg = contiguous(dy);
  const Array cw = contiguous(w);
  visit_differentiable(dx.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::conv_grad_input(s, cg.data<T>(), cw.data<T>(), dx.mutable_data<T>());
  });
}

void run_conv_grad_weight(const kernels::ConvShape& s, const Array& x, const Array& dy,
                          const Array& dw) {
  const Array cx = contiguous(x);
  const Array cg = contiguous(dy);
  visit_differentiable(dw.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::conv_grad_weight(s, cx.data<T>(), cg.data<T>(), dw.mutable_data<T>());
  });
}

void add_conv_gradients(const ConvAttrs& a, const Saved& s, bool transposed, const Array& g,
                        GradSink& sink) {
  const Array gy = contiguous(g);
  if (s.n_inputs() == 3 && s.needs(2)) sink.add(2, channel_sums(a, gy));
  if (!s.needs(0) && !s.needs(1)) return;
  const kernels::ConvShape shape = transposed
                                       ? kernel_shape(a, gy.shape(), s.in_shape(1), s.in_shape(0))
                                       : kernel_shape(a, s.in_shape(0), s.in_shape(1), gy.shape());
  const Array w = s.needs(0) ? contiguous(s.in_array(1)) : Array();
  const Array x = s.needs(1) ? contiguous(s.in_array(0)) : Array();
  Array gx, gw;
  const auto make_gx = [&] { gx = Array::empty(gy.dtype(), s.in_shape(0)); };
  const auto make_gw = [&] { gw = Array::empty(gy.dtype(), s.in_shape(1)); };
  if (s.needs(0) && s.needs(1) && num_threads() > 1) {
    // The memory of this thread, whoever computes them.
    make_gx();
    make_gw();
  }
  visit_differentiable(gy.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* const dy = gy.data<T>();
    const auto of_input = [&] {
      if (!gx.defined()) make_gx();
      if (transposed) {
        kernels::conv_forward(shape, dy, w.data<T>(), nullptr, gx.mutable_data<T>());
      } else {
        kernels::conv_grad_input(shape, dy, w.data<T>(), gx.mutable_data<T>());
      }
    };
    const auto of_weight = [&] {
      if (!gw.defined()) make_gw();
      const T* const from = x.data<T>();
      kernels::conv_grad_weight(shape, transposed ? dy : from, transposed ? from : dy,
                                gw.mutable_data<T>());
    };
    if (s.needs(0) && s.needs(1)) return kernels::conv_gradients(shape, of_input, of_weight);
    if (s.needs(0)) of_input();
    if (s.needs(1)) of_weight();
  });
  if (s.needs(0)) sink.add(0, std::move(gx));
  if (s.needs(1)) sink.add(1, std::move(gw));
}

Array channel_sums(const ConvAttrs& a, const Array& dy) {
  const Array g = contiguous(dy);
  kernels::ConvShape s{};
  s.dims = a.dims;
  s.batch = is_batched(a, g.rank()) ? g.size(0) : 1;
  s.out_channels = g.size(g.rank() - a.dims - 1);
  s.groups = a.groups;
  for (int d = 0; d < 3; ++d) s.out[d] = d < a.dims ? g.size(g.rank() - a.dims + d) : 1;
  Array db = Array::empty(g.dtype(), {s.out_channels});
  visit_differentiable(g.dtype(), [&](auto t) {
    using T = decltype(t);
    kernels::conv_grad_bias(s, g.data<T>(), db.mutable_data<T>());
  });
  return db;
}

Tensor channel_sums(const ConvAttrs& a, const Tensor& dy) {
  int64_t axes[4];
  size_t n = 0;
  for (int i = 0; i < dy.dim(); ++i) {
    if (i != dy.dim() - a.dims - 1) axes[n++] = i;
  }
  return sum(dy, Axes(Span<const int64_t>(axes, n)));
}

Cost conv_cost(Span<const Meta> in, Span<const Meta> out, double multiply_adds) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = multiply_adds;
  return c;
}

}  // namespace ebb::ops
