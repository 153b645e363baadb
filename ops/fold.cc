// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/fold.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

constexpr int64_t kLargest = int64_t{1} << 30;

struct FoldAttrs {
  int64_t kernel[2] = {1, 1};
  int64_t stride[2] = {1, 1};
  int64_t dilation[2] = {1, 1};
  int64_t pad[2] = {};
  int64_t image[2] = {64, 64};  // of fold
};

std::string pair_of(const int64_t (&v)[2]) { return Shape(v, 2).str(); }

std::string describe_windows(const FoldAttrs& a) {
  return absl::StrCat("kernel ", pair_of(a.kernel), ", stride ", pair_of(a.stride), ", padding ",
                      pair_of(a.pad), ", dilation ", pair_of(a.dilation));
}

// Places of a window along an axis of n elements, 0 or less for none.
int64_t places(const FoldAttrs& a, int d, int64_t n) {
  const int64_t room = n + 2 * a.pad[d] - a.dilation[d] * (a.kernel[d] - 1) - 1;
  return room < 0 ? 0 : room / a.stride[d] + 1;
}

// Throws where a number is out of its range or no window fits an image of that size.
void check_windows(const OpDoc& doc, const FoldAttrs& a, const Shape& x, const int64_t* image) {
  const std::string start =
      absl::StrCat(doc.name, ": x is ", x.str(), ", ", describe_windows(a), "; ");
  const auto check = [&](const char* what, const int64_t(&v)[2], int64_t least) {
    for (const int64_t n : v) {
      if (n >= least && n <= kLargest) continue;
      throw ValueError(absl::StrCat(start, "the ", what, " is ", n, "; it must be in [", least,
                                    ", ", kLargest, "]"));
    }
  };
  check("kernel", a.kernel, 1);
  check("stride", a.stride, 1);
  check("dilation", a.dilation, 1);
  check("padding", a.pad, 0);
  for (int d = 0; d < 2; ++d) {
    if (image[d] >= 1 && image[d] <= kLargest && places(a, d, image[d]) >= 1) continue;
    throw ShapeError(absl::StrCat(start, "no window fits an image of ", Shape(image, 2).str()));
  }
}

void check_addressable(const OpDoc& doc, const FoldAttrs& a, const Shape& x, const Shape& result) {
  int64_t bytes = 8;
  bool fits = true;
  for (const int64_t n : result) fits = fits && !__builtin_mul_overflow(bytes, n, &bytes);
  if (fits && bytes <= int64_t{1} << 47) return;
  throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", ", describe_windows(a),
                                "; the result would be ", result.str(),
                                ", more than can be addressed"));
}

// Calls f(column element, image element, n, stride) for runs of n neighbouring columns that lie in
// the image, of one image and its matrix: elements of a run are `stride` apart there. Elements of
// the matrix that are padding go to f(column element, -1, n, 0).
template <class F>
void for_runs(const FoldAttrs& a, int64_t channels, const int64_t* image, F&& f) {
  const int64_t rows = places(a, 0, image[0]);
  const int64_t columns = places(a, 1, image[1]);
  int64_t at = 0;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < a.kernel[0]; ++i) {
      for (int64_t j = 0; j < a.kernel[1]; ++j) {
        const int64_t x0 = j * a.dilation[1] - a.pad[1];
        const int64_t first =
            x0 >= 0 ? 0 : std::min(columns, (-x0 + a.stride[1] - 1) / a.stride[1]);
        const int64_t inside = x0 >= image[1] ? 0 : (image[1] - 1 - x0) / a.stride[1] + 1;
        const int64_t end = std::max(first, std::min(columns, inside));
        for (int64_t r = 0; r < rows; ++r, at += columns) {
          const int64_t y = r * a.stride[0] + i * a.dilation[0] - a.pad[0];
          if (y < 0 || y >= image[0]) {
            f(at, int64_t{-1}, columns, int64_t{0});
            continue;
          }
          if (first > 0) f(at, int64_t{-1}, first, int64_t{0});
          if (end > first) {
            f(at + first, (c * image[0] + y) * image[1] + x0 + first * a.stride[1], end - first,
              a.stride[1]);
          }
          if (end < columns) f(at + end, int64_t{-1}, columns - end, int64_t{0});
        }
      }
    }
  }
}

void run_unfold(const FoldAttrs& a, const Array& in, const Array& out) {
  const Array x = contiguous(in);
  const int r = x.rank();
  const int64_t image[2] = {x.size(r - 2), x.size(r - 1)};
  const int64_t batch = r == 4 ? x.size(0) : 1;
  const int64_t n_in = x.size(r - 3) * image[0] * image[1];
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* from = x.data<T>();
    T* to = out.mutable_data<T>();
    for (int64_t b = 0; b < batch; ++b, from += n_in, to += out.numel() / batch) {
      for_runs(a, x.size(r - 3), image, [&](int64_t at, int64_t x0, int64_t n, int64_t stride) {
        if (x0 < 0) {
          std::fill_n(to + at, n, T{0});
        } else {
          for (int64_t k = 0; k < n; ++k) to[at + k] = from[x0 + k * stride];
        }
      });
    }
  });
}

void run_fold(const FoldAttrs& a, const Array& in, const Array& out) {
  const Array x = contiguous(in);
  const int r = out.rank();
  const int64_t image[2] = {out.size(r - 2), out.size(r - 1)};
  const int64_t batch = r == 4 ? out.size(0) : 1;
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* from = x.data<T>();
    T* to = out.mutable_data<T>();
    std::fill_n(to, out.numel(), T{0});
    for (int64_t b = 0; b < batch; ++b, from += x.numel() / batch, to += out.numel() / batch) {
      for_runs(a, out.size(r - 3), image, [&](int64_t at, int64_t x0, int64_t n, int64_t stride) {
        if (x0 < 0) return;
        for (int64_t k = 0; k < n; ++k) to[x0 + k * stride] += from[at + k];
      });
    }
  });
}

Tensor call_unfold(const FoldAttrs& a, const Tensor& x, Where where = Where::current());
Tensor call_fold(const FoldAttrs& a, const Tensor& x, Where where = Where::current());

}  // namespace

struct Unfold {
  static constexpr OpDoc kDoc{"unfold", "y[:,l] = the window of x at place l, channel by channel",
                              "x:[n,c,h,w] -> y:[n,c*kh*kw,l]"};
  using Attrs = FoldAttrs;
  static std::string describe(const Attrs& a) { return describe_windows(a); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    const Shape& x = in[0].shape;
    const int r = x.rank();
    if ((r != 3 && r != 4) || x[r - 3] < 1) {
      throw ShapeError(absl::StrCat(kDoc.name, ": x is ", x.str(),
                                    "; it must be [C,H,W] or [N,C,H,W] with a channel at least"));
    }
    check_windows(kDoc, a, x, x.data() + r - 2);
    Shape out;
    if (r == 4) out.push_back(x[0]);
    int64_t rows = x[r - 3];
    if (__builtin_mul_overflow(rows, a.kernel[0], &rows) ||
        __builtin_mul_overflow(rows, a.kernel[1], &rows)) {
      rows = INT64_MAX;
    }
    out.push_back(rows);
    out.push_back(places(a, 0, x[r - 2]) * places(a, 1, x[r - 1]));
    check_addressable(kDoc, a, x, out);
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (out[0].numel() > 0) run_unfold(a, in[0], out[0]);
  }
  static FoldAttrs folding(const Attrs& a, const Shape& x) {
    FoldAttrs f = a;
    f.image[0] = x[x.rank() - 2];
    f.image[1] = x[x.rank() - 1];
    return f;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {call_fold(folding(s.attrs<Attrs>(), s.in_shape(0)), g[0])};
  }
};
EBB_OP(Unfold)

struct Fold {
  static constexpr OpDoc kDoc{"fold", "y = sum of columns in the places unfold takes them from",
                              "x:[n,c*kh*kw,l] -> y:[n,c,h,w]"};
  using Attrs = FoldAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("output size ", pair_of(a.image), ", ", describe_windows(a));
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    const Shape& x = in[0].shape;
    const int r = x.rank();
    if (r != 2 && r != 3) {
      throw ShapeError(
          absl::StrCat(kDoc.name, ": x is ", x.str(), "; it must be [C*KH*KW,L] or [N,C*KH*KW,L]"));
    }
    check_windows(kDoc, a, x, a.image);
    int64_t window = 0;
    if (__builtin_mul_overflow(a.kernel[0], a.kernel[1], &window)) window = INT64_MAX;
    const int64_t l = places(a, 0, a.image[0]) * places(a, 1, a.image[1]);
    if (x[r - 2] < 1 || x[r - 2] % window != 0 || x[r - 1] != l) {
      throw ShapeError(absl::StrCat(kDoc.name, ": x is ", x.str(), ", ", describe(a),
                                    "; x.size(-2)=", x[r - 2], " must be a multiple of ", window,
                                    " and x.size(-1)=", x[r - 1], " must be ", l));
    }
    Shape out;
    if (r == 3) out.push_back(x[0]);
    out.push_back(x[r - 2] / window);
    out.push_back(a.image[0]);
    out.push_back(a.image[1]);
    check_addressable(kDoc, a, x, out);
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (out[0].numel() > 0) run_fold(a, in[0], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(in[0].shape.numel());
    return c;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {call_unfold(s.attrs<Attrs>(), g[0])};
  }
};
EBB_OP(Fold)

namespace {

FoldAttrs attrs_of(const PerAxis<2>& kernel, const UnfoldOptions& o) {
  FoldAttrs a;
  for (int d = 0; d < 2; ++d) {
    a.kernel[d] = kernel[d];
    a.stride[d] = o.stride[d];
    a.dilation[d] = o.dilation[d];
    a.pad[d] = o.padding[d];
  }
  return a;
}

Tensor call_unfold(const FoldAttrs& a, const Tensor& x, Where where) {
  return apply_with<Unfold>(a, At(x, where));
}
Tensor call_fold(const FoldAttrs& a, const Tensor& x, Where where) {
  return apply_with<Fold>(a, At(x, where));
}

}  // namespace
}  // namespace ops

Tensor unfold(const Tensor& x, PerAxis<2> kernel, const UnfoldOptions& options, Where where) {
  return ops::call_unfold(ops::attrs_of(kernel, options), x, where);
}

Tensor fold(const Tensor& x, PerAxis<2> output_size, PerAxis<2> kernel,
            const UnfoldOptions& options, Where where) {
  ops::FoldAttrs a = ops::attrs_of(kernel, options);
  for (int d = 0; d < 2; ++d) a.image[d] = output_size[d];
  return ops::call_fold(a, x, where);
}

Tensor locally_connected2d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const UnfoldOptions& options, Where where) try {
  const detail::PlaceScope scope(where);
  const Shape w = weight.shape();
  const auto misfit = [&](const std::string& why) {
    throw ShapeError(absl::StrCat("locally_connected2d: x is ", x.shape().str(), ", weight is ",
                                  w.str(), bias.defined() ? ", bias is " + bias.shape().str() : "",
                                  "; ", why));
  };
  if (w.rank() != 6) misfit("weight must be [H',W',O,C,KH,KW]");
  const int r = x.dim();
  if ((r != 3 && r != 4) || x.size(r - 3) != w[3]) {
    misfit(absl::StrCat("x must be [", w[3], ",H,W] or [N,", w[3], ",H,W]"));
  }
  const ops::FoldAttrs a = ops::attrs_of({w[4], w[5]}, options);
  constexpr OpDoc kDoc{"locally_connected2d", "", ""};
  ops::check_windows(kDoc, a, x.shape(), x.value().dims() + r - 2);
  const int64_t rows = ops::places(a, 0, x.size(r - 2));
  const int64_t columns = ops::places(a, 1, x.size(r - 1));
  if (rows != w[0] || columns != w[1]) {
    misfit(absl::StrCat("x has ", rows, " x ", columns, " windows"));
  }
  if (bias.defined() && bias.shape() != Shape{w[2], w[0], w[1]}) {
    misfit(absl::StrCat("bias must be ", Shape{w[2], w[0], w[1]}.str()));
  }
  const int64_t l = rows * columns;
  const int64_t window = w[3] * w[4] * w[5];
  const Tensor kernels = reshape(weight, {l, w[2], window});
  const Tensor windows = unfold(x, {w[4], w[5]}, options);
  // Each place is a product of its own matrix.
  Tensor y;
  if (r == 3) {
    const Tensor parts = reshape(t(windows), {l, window, 1});
    y = reshape(t(reshape(bmm(kernels, parts), {l, w[2]})), {w[2], rows, columns});
  } else {
    const int64_t n = x.size(0);
    y = reshape(permute(bmm(kernels, permute(windows, {2, 1, 0})), {2, 1, 0}),
                {n, w[2], rows, columns});
  }
  return bias.defined() ? y + bias : y;
} catch (const Error&) {
  detail::rethrow_as("locally_connected2d");
}

Tensor locally_connected1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const LocallyConnected1dOptions& options, Where where) try {
  const detail::PlaceScope scope(where);
  const Shape w = weight.shape();
  if (w.rank() != 4 || (x.dim() != 2 && x.dim() != 3) || (bias.defined() && bias.dim() != 2)) {
    throw ShapeError(absl::StrCat("locally_connected1d: x is ", x.shape().str(), ", weight is ",
                                  w.str(), bias.defined() ? ", bias is " + bias.shape().str() : "",
                                  "; they must be [C,L] or [N,C,L], [L',O,C,K] and [O,L']"));
  }
  const Tensor image = unsqueeze(x, -2);
  const Tensor kernels = reshape(weight, {1, w[0], w[1], w[2], 1, w[3]});
  const Tensor plane = bias.defined() ? unsqueeze(bias, 1) : Tensor();
  return squeeze(locally_connected2d(image, kernels, plane,
                                     {.dilation = {1, options.dilation},
                                      .padding = {0, options.padding},
                                      .stride = {1, options.stride}}),
                 -2);
} catch (const Error&) {
  detail::rethrow_as("locally_connected1d");
}

}  // namespace ebb
