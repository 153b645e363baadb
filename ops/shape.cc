// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/shape.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/reduce.h"

namespace ebb {
namespace ops {

// The views of one input: its shape is all that their gradients need.
struct ViewOp {
  static constexpr bool kView = true;
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
};

struct Reshape : ViewOp {
  static constexpr OpDoc kDoc{"reshape", "y = the elements of x in row-major order, newly shaped",
                              "x:[...] -> y:shape"};
  struct Attrs {
    Shape shape;
  };
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {{in[0].dtype, resolve(in[0].shape, a.shape)}};
  }
  // With the size that is -1 worked out.
  static Shape resolve(const Shape& from, const Shape& to) {
    Shape out = to;
    int free = -1;
    int64_t known = 1;
    for (int i = 0; i < to.rank(); ++i) {
      if (to[i] == -1 && free < 0) {
        free = i;
      } else if (to[i] < 0) {
        throw ShapeError(absl::StrCat("reshape: ", to.str(), " has more than one size to work out, "
                                      "or a negative one"));
      } else {
        known *= to[i];
      }
    }
    const int64_t n = from.numel();
    if (free >= 0) out[free] = known == 0 ? 0 : n / known;
    if (out.numel() != n || (free >= 0 && known == 0)) {
      throw ShapeError(absl::StrCat("reshape: x is ", from.str(), " with ", n,
                                    " elements, which do not fill ", to.str()));
    }
    return out;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    out[0] = ebb::contiguous(in[0]).view_as(resolve(in[0].shape(), a.shape));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {reshape(g[0], s.in_shape(0))};
  }
};
EBB_OP(Reshape)

struct Permute : ViewOp {
  static constexpr OpDoc kDoc{"permute", "axis i of y is axis axes[i] of x",
                              "x:[d0,...,dr] -> y:[d_axes[0],...,d_axes[r]]"};
  struct Attrs {
    Shape axes;  // normalised
  };
  static std::string describe(const Attrs& a) { return a.axes.str(); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape = in[0].shape;
    for (int i = 0; i < shape.rank(); ++i) shape[i] = in[0].shape[static_cast<int>(a.axes[i])];
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Shape shape = in[0].shape();
    int64_t strides[kMaxRank];
    for (int i = 0; i < shape.rank(); ++i) {
      const int from = static_cast<int>(a.axes[i]);
      shape[i] = in[0].size(from);
      strides[i] = in[0].stride(from);
    }
    out[0] = in[0].view(shape, strides, 0);
  }
  static Shape inverse(const Shape& axes) {
    Shape inv = axes;
    for (int i = 0; i < axes.rank(); ++i) inv[static_cast<int>(axes[i])] = i;
    return inv;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Permute>({inverse(s.attrs<Attrs>().axes)}, g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Shape& axes = s.attrs<Attrs>().axes;
    if (axes == Shape{1, 0}) {
      sink.add(0, g.structured(0).t());  // keeps the structure of a weight's gradient
    } else {
      run_rule(&backward, s, g, sink);
    }
  }
};
EBB_OP(Permute)

struct Expand : ViewOp {
  static constexpr OpDoc kDoc{"expand", "y = x, sizes of 1 repeated", "x:[...] -> y:shape"};
  struct Attrs {
    Shape shape;
  };
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  static Shape resolve(const Shape& from, const Shape& to) {
    const int lead = to.rank() - from.rank();
    Shape out = to;
    bool fits = lead >= 0;
    for (int i = 0; i < to.rank() && fits; ++i) {
      const int64_t have = i < lead ? 1 : from[i - lead];
      if (out[i] == -1 && i >= lead) out[i] = have;
      fits = out[i] >= 0 && (have == 1 || have == out[i]);
    }
    if (!fits) {
      throw ShapeError(absl::StrCat("expand: x is ", from.str(), ", which does not repeat to ",
                                    to.str()));
    }
    return out;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {{in[0].dtype, resolve(in[0].shape, a.shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Shape shape = resolve(in[0].shape(), a.shape);
    int64_t strides[kMaxRank];
    broadcast_strides(in[0], shape, strides);
    out[0] = in[0].view(shape, strides, 0);
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {sum_to(g[0], s.in_shape(0))}; }
};
EBB_OP(Expand)

struct Unsqueeze : ViewOp {
  static constexpr OpDoc kDoc{"unsqueeze", "y = x with an axis of size 1 put in",
                              "x:[..,..] -> y:[..,1,..]"};
  struct Attrs {
    int axis;
  };
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape shape;
    for (int i = 0; i <= in[0].shape.rank(); ++i) {
      if (i == a.axis) shape.push_back(1);
      if (i < in[0].shape.rank()) shape.push_back(in[0].shape[i]);
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    Shape shape;
    int64_t strides[kMaxRank];
    for (int i = 0; i <= in[0].rank(); ++i) {
      if (i == a.axis) {
        strides[shape.rank()] = 0;
        shape.push_back(1);
      }
      if (i < in[0].rank()) {
        strides[shape.rank()] = in[0].stride(i);
        shape.push_back(in[0].size(i));
      }
    }
    out[0] = in[0].view(shape, strides, 0);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {reshape(g[0], s.in_shape(0))};
  }
};
EBB_OP(Unsqueeze)

}  // namespace ops

Tensor reshape(const Tensor& x, const Shape& shape, Where where) {
  return apply_with<ops::Reshape>({shape}, At(x, where));
}

Tensor flatten(const Tensor& x, int64_t start_axis, int64_t end_axis, Where where) {
  const Shape from = x.shape();
  const int first = normalize_axis(start_axis, from.rank(), "flatten");
  const int last = normalize_axis(end_axis, from.rank(), "flatten");
  if (first > last) {
    throw IndexError(absl::StrCat("flatten: start axis ", start_axis, " comes after end axis ",
                                  end_axis, " of ", from.str()));
  }
  Shape to;
  for (int i = 0; i < first; ++i) to.push_back(from[i]);
  int64_t joined = 1;
  for (int i = first; i <= last && i < from.rank(); ++i) joined *= from[i];
  to.push_back(joined);
  for (int i = last + 1; i < from.rank(); ++i) to.push_back(from[i]);
  return reshape(x, to, where);
}

Tensor permute(const Tensor& x, Axes axes, Where where) {
  const int rank = x.dim();
  if (axes.size() != rank) {
    throw ShapeError(absl::StrCat("permute: x is ", x.shape().str(), ", ", axes.size(),
                                  " axes are named"));
  }
  axes.mask(rank, "permute");  // throws where one is outside or named twice
  Shape order;
  for (int i = 0; i < rank; ++i) order.push_back(normalize_axis(axes[i], rank, "permute"));
  return apply_with<ops::Permute>({order}, At(x, where));
}

Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1, Where where) {
  const int rank = x.dim();
  const int a = normalize_axis(axis0, rank, "transpose");
  const int b = normalize_axis(axis1, rank, "transpose");
  Shape order;
  for (int i = 0; i < rank; ++i) order.push_back(i);
  if (rank > 0) std::swap(order[a], order[b]);
  return apply_with<ops::Permute>({order}, At(x, where));
}

Tensor t(const Tensor& x, Where where) {
  if (x.dim() < 2) return x;
  if (x.dim() > 2) {
    throw ShapeError(absl::StrCat("t: x is ", x.shape().str(), ", not a matrix"));
  }
  return transpose(x, 0, 1, where);
}

Tensor expand(const Tensor& x, const Shape& shape, Where where) {
  return apply_with<ops::Expand>({shape}, At(x, where));
}

Tensor unsqueeze(const Tensor& x, int64_t axis, Where where) {
  if (x.dim() == kMaxRank) {
    throw ShapeError(absl::StrCat("unsqueeze: x is ", x.shape().str(), ", of the largest rank"));
  }
  return apply_with<ops::Unsqueeze>({normalize_axis(axis, x.dim() + 1, "unsqueeze")},
                                    At(x, where));
}

Tensor Tensor::unsqueeze(int64_t axis, Where where) const {
  return ebb::unsqueeze(*this, axis, where);
}
Tensor Tensor::reshape(const Shape& shape, Where where) const {
  return ebb::reshape(*this, shape, where);
}
Tensor Tensor::flatten(int64_t start_axis, int64_t end_axis, Where where) const {
  return ebb::flatten(*this, start_axis, end_axis, where);
}
Tensor Tensor::t(Where where) const { return ebb::t(*this, where); }
Tensor Tensor::transpose(int64_t axis0, int64_t axis1, Where where) const {
  return ebb::transpose(*this, axis0, axis1, where);
}
Tensor Tensor::permute(Axes axes, Where where) const { return ebb::permute(*this, axes, where); }
Tensor Tensor::expand(const Shape& shape, Where where) const {
  return ebb::expand(*this, shape, where);
}

}  // namespace ebb
