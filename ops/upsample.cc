// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/upsample.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/ops/kernels/upsample.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"
#include "ebb/ops/upsample_util.h"

namespace ebb {
namespace ops {

namespace {

constexpr const char* kModes[] = {"nearest",   "nearest-exact", "linear", "bilinear",
                                  "trilinear", "bicubic",       "area"};
const char* name_of(InterpolateMode m) { return kModes[static_cast<int>(m)]; }

int taps_of(InterpolateMode m) {
  if (m == InterpolateMode::kNearest || m == InterpolateMode::kNearestExact) return 1;
  return m == InterpolateMode::kBicubic ? 4 : 2;
}

std::string describe_map(const InterpolateAttrs& a) {
  std::string text = absl::StrCat(name_of(a.mode), a.align_corners ? " with aligned corners" : "",
                                  ", size ", list_of(a.size, a.dims));
  if (a.factor[2] != 0) {
    absl::StrAppend(&text, ", factors {", absl::StrJoin(a.factor + 3 - a.dims, a.factor + 3, ","),
                    "}");
  }
  return text;
}

// The size of axis i of n elements afterwards; 0 or less, or more than can be, where there is none.
int64_t size_after(const InterpolateAttrs& a, int i, int64_t n) {
  if (a.size[i] != 0) return a.size[i];
  const double size = std::floor(static_cast<double>(n) * a.factor[i]);
  return size > 0 && size < 0x1p62 ? static_cast<int64_t>(size) : size > 0 ? INT64_MAX : 0;
}

// Keys' cubic convolution: weights of the elements at -1, 0, 1, 2 for the place t in [0, 1].
void cubic_weights(double t, double* w) {
  constexpr double kA = -0.75;
  const auto near = [](double x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; };
  const auto far = [](double x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; };
  w[0] = far(t + 1);
  w[1] = near(t);
  w[2] = near(1 - t);
  w[3] = far(2 - t);
}

// Elements and weights for each element of an axis afterwards.
template <class T>
struct Taps {
  Taps(const InterpolateAttrs& a, int i, int64_t in, int64_t out)
      : taps(i < 3 - a.dims ? 1 : taps_of(a.mode)),
        index(Array::empty(kInt64, {out * taps})),
        weight(Array::empty(dtype_of<T>, {out * taps})),
        axis{in, out, taps, index.data<int64_t>(), weight.data<T>()} {
    auto* at = index.mutable_data<int64_t>();
    auto* w = weight.mutable_data<T>();
    const auto n = static_cast<double>(in);
    double scale = a.factor[i] != 0 ? 1 / a.factor[i] : n / static_cast<double>(out);
    if (a.align_corners) scale = out > 1 ? (n - 1) / static_cast<double>(out - 1) : 0;
    for (int64_t o = 0; o < out; ++o, at += taps, w += taps) {
      const auto place = static_cast<double>(o);
      if (taps == 1) {
        *w = 1;
        if (a.factor[i] != 0 || a.mode == InterpolateMode::kNearestExact) {
          const double offset = a.mode == InterpolateMode::kNearestExact ? 0.5 : 0;
          *at = std::min(static_cast<int64_t>(std::floor((place + offset) * scale)), in - 1);
        } else {
          *at = o * in / out;  // exactly
        }
        continue;
      }
      double from = a.align_corners ? place * scale : (place + 0.5) * scale - 0.5;
      if (taps == 2) {
        from = std::clamp(from, 0.0, n - 1);
        at[0] = static_cast<int64_t>(from);
        at[1] = std::min(at[0] + 1, in - 1);
        const double t = from - static_cast<double>(at[0]);
        w[0] = static_cast<T>(1 - t);
        w[1] = static_cast<T>(t);
        continue;
      }
      const double first = std::floor(from);
      double weights[4];
      cubic_weights(from - first, weights);
      for (int k = 0; k < 4; ++k) {
        at[k] = std::clamp<int64_t>(static_cast<int64_t>(first) + k - 1, 0, in - 1);
        w[k] = static_cast<T>(weights[k]);
      }
    }
  }
  int64_t taps;
  Array index;
  Array weight;
  kernels::ResampleAxis<T> axis;
};

// Resamples x to y, or with `backward` brings the gradient y back to x.
void run(const InterpolateAttrs& a, bool backward, const Array& x, const Array& y) {
  const auto s = kernel_shape(a.dims, x.shape(), y.shape());
  if (s.planes == 0) return;
  visit_differentiable(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const Taps<T> taps[] = {
        {a, 0, s.in[0], s.out[0]}, {a, 1, s.in[1], s.out[1]}, {a, 2, s.in[2], s.out[2]}};
    const kernels::ResampleAxis<T> axes[] = {taps[0].axis, taps[1].axis, taps[2].axis};
    if (backward) {
      kernels::resample_backward(s.planes, axes, y.data<T>(), x.mutable_data<T>());
    } else {
      kernels::resample(s.planes, axes, x.data<T>(), y.mutable_data<T>());
    }
  });
}

Cost resampling_cost(const InterpolateAttrs& a, Span<const Meta> in, Span<const Meta> out,
                     const Shape& y) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds =
      static_cast<double>(y.numel()) * std::pow(static_cast<double>(taps_of(a.mode)), a.dims);
  return c;
}

Shape shape_after(const OpDoc& doc, const InterpolateAttrs& a, const Meta& x) {
  int64_t sizes[3] = {1, 1, 1};
  for (int i = 3 - a.dims; i < 3; ++i) {
    sizes[i] = size_after(a, i, x.shape[x.shape.rank() - 3 + i]);
    if (sizes[i] >= 1) continue;
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.shape.str(), ", ", describe_map(a),
                                  "; the sizes must be positive"));
  }
  const Shape y = with_sizes(x.shape, a.dims, sizes);
  check_addressable(doc, x.shape, y, x.dtype);
  return y;
}

}  // namespace

struct Interpolate {
  static constexpr OpDoc kDoc{"interpolate", "y = x resampled along its last axes",
                              "x:[n,c,h,w] -> y:[n,c,h',w']"};
  using Attrs = InterpolateAttrs;
  static std::string describe(const Attrs& a) { return describe_map(a); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, a.dims, in);
    return {{in[0].dtype, shape_after(kDoc, a, in[0])}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run(a, false, contiguous(in[0]), out[0]);
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return resampling_cost(a, in, out, out[0].shape);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {interpolate_backward(s.attrs<Attrs>(), g[0], s.in_shape(0))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    Array gx = Array::empty(g[0].dtype(), s.in_shape(0));
    run(s.attrs<Attrs>(), true, gx, contiguous(g[0]));
    sink.add(0, std::move(gx));
  }
};
EBB_OP(Interpolate)

struct InterpolateBackward {
  static constexpr OpDoc kDoc{"interpolate_backward", "the transpose of interpolate",
                              "g:[n,c,h',w'] -> dx:[n,c,h,w]"};
  using Attrs = InterpolateBackwardAttrs;
  static std::string describe(const Attrs& a) {
    return absl::StrCat(describe_map(a), ", input size ", list_of(a.in, a.dims));
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    check_pooled(kDoc, a.dims, in, "g");
    const Meta x{in[0].dtype, with_sizes(in[0].shape, a.dims, a.in)};
    check_pooled(kDoc, a.dims, {&x, 1});
    check_addressable(kDoc, in[0].shape, x.shape, x.dtype);
    const Shape want = shape_after(kDoc, a, x);
    if (in[0].shape != want) {
      throw ShapeError(absl::StrCat(kDoc.name, ": g is ", in[0].shape.str(), ", ", describe(a),
                                    "; g must be ", want.str()));
    }
    return {x};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    run(a, true, out[0], contiguous(in[0]));
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    return resampling_cost(a, in, out, in[0].shape);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Interpolate>(s.attrs<Attrs>(), At(g[0]))};
  }
};
EBB_OP(InterpolateBackward)

namespace {

// Calls `refuse` with what is wrong with the options; gives the number of axes to resample.
int axes_of(const Tensor& x, const InterpolateOptions& o) {
  const auto refuse = [&](const std::string& why) {
    throw ValueError(absl::StrCat("interpolate: x is ", x.shape().str(), ", size ", o.size.str(),
                                  ", scale_factor {", absl::StrJoin(o.scale_factor, ","), "}, ",
                                  name_of(o.mode), "; ", why));
  };
  const bool by_size = !o.size.empty();
  if (by_size == !o.scale_factor.empty()) refuse("exactly one of size and scale_factor is needed");
  const int given = by_size ? o.size.rank() : static_cast<int>(o.scale_factor.size());
  for (const double f : o.scale_factor) {
    if (!(f > 0) || std::isinf(f)) refuse("the factors must be positive and finite");
  }
  int dims = given;
  switch (o.mode) {
    case InterpolateMode::kLinear:
      dims = 1;
      break;
    case InterpolateMode::kBilinear:
    case InterpolateMode::kBicubic:
      dims = 2;
      break;
    case InterpolateMode::kTrilinear:
      dims = 3;
      break;
    default:
      if (o.align_corners) refuse("align_corners is not for this mode");
      if (o.dims != 0) {
        dims = o.dims;
      } else if (given == 1 && x.dim() == 5) {
        dims = 3;
      } else if (given == 1 && (x.dim() == 3 || x.dim() == 4)) {
        dims = 0;  // [C,H,W] or [N,C,L], [C,T,H,W] or [N,C,H,W]?
      }
  }
  if (dims == 0) refuse("there must be one number for each axis, or `dims`, to say how many");
  if (o.dims != 0 && o.dims != dims) refuse(absl::StrCat("dims is ", o.dims));
  if (dims < 1 || dims > 3 || (given != 1 && given != dims)) {
    refuse(absl::StrCat("there must be 1 number or ", std::clamp(dims, 1, 3)));
  }
  return dims;
}

}  // namespace
}  // namespace ops

Tensor interpolate(const Tensor& x, const InterpolateOptions& o, Where where) try {
  ops::InterpolateAttrs a;
  a.dims = ops::axes_of(x, o);
  a.mode = o.mode;
  a.align_corners = o.align_corners;
  for (int d = 0; d < a.dims; ++d) {
    const int i = 3 - a.dims + d;
    if (o.size.empty()) {
      a.size[i] = 0;
      a.factor[i] = o.scale_factor[o.scale_factor.size() == 1 ? 0 : static_cast<size_t>(d)];
    } else {
      a.size[i] = o.size[o.size.rank() == 1 ? 0 : d];
      // 0 stands for the factor, which is none.
      if (a.size[i] == 0) a.size[i] = -1;
    }
  }
  const bool from_sizes = o.recompute_scale_factor || o.mode == InterpolateMode::kArea;
  if (from_sizes && o.size.empty() && x.dim() >= a.dims) {
    for (int i = 3 - a.dims; i < 3; ++i) {
      a.size[i] = ops::size_after(a, i, x.size(i - 3));
      if (a.size[i] == 0) a.size[i] = -1;
      a.factor[i] = 0;
    }
  }
  if (o.mode != InterpolateMode::kArea) return apply_with<ops::Interpolate>(a, At(x, where));
  if (a.dims == 1) return adaptive_avg_pool1d(x, a.size[2], where);
  if (a.dims == 2) return adaptive_avg_pool2d(x, {a.size[1], a.size[2]}, where);
  return adaptive_avg_pool3d(x, {a.size[0], a.size[1], a.size[2]}, where);
} catch (const Error&) {
  detail::rethrow_as("interpolate");
}

Tensor interpolate_backward(const ops::InterpolateAttrs& attrs, const Tensor& g, const Shape& x,
                            Where where) {
  ops::InterpolateBackwardAttrs a;
  static_cast<ops::InterpolateAttrs&>(a) = attrs;
  for (int i = 3 - a.dims; i < 3; ++i) {
    const int axis = x.rank() - 3 + i;
    if (axis >= 0) a.in[i] = x[axis];
  }
  return apply_with<ops::InterpolateBackward>(a, At(g, where));
}

}  // namespace ebb
