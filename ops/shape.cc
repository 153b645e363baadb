// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/shape.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/call.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape_view.h"

namespace ebb {
namespace ops {

namespace {

// Strides that show the elements of x, in row-major order, in the shape `to`, which has as many;
// false where there are none. Works on the smallest groups of neighbouring axes of either side that
// hold equally many elements: x's group has to lie like one axis.
bool reshape_strides(const Array& x, const Shape& to, int64_t* strides) {
  int i = 0;
  const auto next_axis = [&] {
    while (x.size(i) == 1) ++i;
    return i++;
  };
  for (int j = 0; j < to.rank();) {
    const int first = j;
    int64_t want = to[j++];
    if (want == 1) {
      strides[first] = 0;
      continue;
    }
    int axis = next_axis();
    int64_t have = x.size(axis);
    while (have != want) {
      if (have > want) {
        want *= to[j++];
        continue;
      }
      const int outer = axis;
      axis = next_axis();
      if (x.stride(outer) != x.stride(axis) * x.size(axis)) return false;
      have *= x.size(axis);
    }
    int64_t stride = x.stride(axis);
    for (int k = j - 1; k >= first; --k) {
      strides[k] = stride;
      stride *= to[k];
    }
  }
  return true;
}

}  // namespace

Array reshaped(const Array& x, const Shape& shape) {
  if (x.is_contiguous() || x.numel() == 0) return x.view_as(shape);
  int64_t strides[kMaxRank];
  if (reshape_strides(x, shape, strides)) return x.view(shape, strides, 0);
  Array out = Array::empty(x.dtype(), shape);
  copy_into(out.view_as(x.shape()), x);
  return out;
}

Array zeros_view(DType dtype, const Shape& shape) {
  constexpr int64_t kStrides[kMaxRank] = {};
  return Array::scalar(dtype, 0).view(shape, kStrides, 0);
}

void add_strided(const Array& to, const Array& from) {
  visit_differentiable(to.dtype(), [&](auto t) {
    using T = decltype(t);
    T* out = to.mutable_data<T>();
    const T* in = from.data<T>();
    kernels::for_each_row<2>(static_cast<size_t>(to.rank()), to.dims(),
                             {to.strides(), from.strides()},
                             [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                               T* y = out + at[0];
                               const T* x = in + at[1];
                               if (stride[0] == 1 && stride[1] == 1) {
                                 kernels::add_into(x, y, n);
                                 return;
                               }
                               for (; n > 0; --n, y += stride[0], x += stride[1]) *y += *x;
                             });
  });
}

namespace {

// What ops share that give the elements in the same order in another shape, named by
//   static Shape target(const Attrs&, const Shape& from);
// which throws where there is none.
template <class Op, class A>
struct ReshapeOp {
  using Attrs = A;
  static constexpr bool kView = true;
  static constexpr GradUses uses(int) { return {.shapes = 1}; }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    return {{in[0].dtype, Op::target(a, in[0].shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    out[0] = reshaped(in[0], Op::target(a, in[0].shape()));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {reshape(g[0], s.in_shape(0))};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    sink.add(0, reshaped(g.take(0), s.in_shape(0)));
  }
};

struct ShapeAttrs {
  Shape shape;
};
struct AxisAttrs {
  int axis;
};
struct AxisPair {
  int first;
  int last;
};
struct MaskAttrs {
  uint32_t axes;  // bit i for axis i
};

std::string axes_of_mask(uint32_t mask) {
  Shape axes;
  for (int i = 0; i < kMaxRank; ++i) {
    if ((mask >> i & 1) != 0) axes.push_back(i);
  }
  return absl::StrCat("axes=", axes.str());
}

}  // namespace

struct Reshape : ReshapeOp<Reshape, ShapeAttrs> {
  static constexpr OpDoc kDoc{"reshape", "y = the elements of x in row-major order, newly shaped",
                              "x:[...] -> y:shape"};
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  // With the size that is -1 worked out.
  static Shape target(const Attrs& a, const Shape& from) {
    Shape out = a.shape;
    int free = -1;
    int64_t known = 1;
    bool fits = true;
    for (int i = 0; i < out.rank(); ++i) {
      if (out[i] == -1 && free < 0) {
        free = i;
      } else if (out[i] < 0) {
        throw ShapeError(absl::StrCat("reshape: x is ", from.str(), "; ", out.str(),
                                      " has more than one size to work out, or a negative one"));
      } else {
        fits &= !__builtin_mul_overflow(known, out[i], &known);
      }
    }
    const int64_t n = from.numel();
    if (free >= 0) {
      fits &= known != 0;
      out[free] = fits ? n / known : 0;
      known *= out[free];
    }
    if (!fits || known != n) {
      throw ShapeError(absl::StrCat("reshape: x is ", from.str(), " with ", n,
                                    " elements, which do not fill ", a.shape.str()));
    }
    return out;
  }
};
EBB_OP(Reshape)

struct Flatten : ReshapeOp<Flatten, AxisPair> {
  static constexpr OpDoc kDoc{"flatten", "y = x with the axes first to last joined",
                              "x:[..,m,..,n,..] -> y:[..,m*..*n,..]"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axes=", a.first, "..", a.last);
  }
  static Shape target(const Attrs& a, const Shape& from) {
    Shape to;
    for (int i = 0; i < a.first; ++i) to.push_back(from[i]);
    int64_t joined = 1;
    for (int i = a.first; i <= a.last && i < from.rank(); ++i) joined *= from[i];
    to.push_back(joined);
    for (int i = a.last + 1; i < from.rank(); ++i) to.push_back(from[i]);
    return to;
  }
};
EBB_OP(Flatten)

struct Squeeze : ReshapeOp<Squeeze, MaskAttrs> {
  static constexpr OpDoc kDoc{"squeeze", "y = x without axes of size 1",
                              "x:[..,1,..] -> y:[..,..]"};
  static std::string describe(const Attrs& a) { return axes_of_mask(a.axes); }
  static Shape target(const Attrs& a, const Shape& from) {
    Shape to;
    for (int i = 0; i < from.rank(); ++i) {
      if (from[i] != 1 || (a.axes >> i & 1) == 0) to.push_back(from[i]);
    }
    return to;
  }
};
EBB_OP(Squeeze)

struct Unsqueeze : ReshapeOp<Unsqueeze, AxisAttrs> {
  static constexpr OpDoc kDoc{"unsqueeze", "y = x with an axis of size 1 put in",
                              "x:[..,..] -> y:[..,1,..]"};
  static std::string describe(const Attrs& a) { return absl::StrCat("axis=", a.axis); }
  static Shape target(const Attrs& a, const Shape& from) {
    if (from.rank() == kMaxRank) {
      throw ShapeError(absl::StrCat("unsqueeze: x is ", from.str(), ", of the largest rank"));
    }
    Shape to = from;
    to.push_back(1);
    for (int i = from.rank(); i > a.axis; --i) to[i] = from[i - 1];
    to[a.axis] = 1;
    return to;
  }
};
EBB_OP(Unsqueeze)

struct Permute : ViewOp<Permute, ShapeAttrs> {  // the axes, normalised, are in `shape`
  static constexpr OpDoc kDoc{"permute", "axis i of y is axis axes[i] of x",
                              "x:[d0,...,dr] -> y:[d_axes[0],...,d_axes[r]]"};
  static constexpr bool kKeepsStructure = true;
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  static Layout layout(const Attrs& a, const Shape& shape, const int64_t* strides) {
    if (a.shape.rank() != shape.rank()) {
      throw ShapeError(
          absl::StrCat("permute: x is ", shape.str(), ", ", a.shape.rank(), " axes are named"));
    }
    Layout l;
    for (int64_t axis : a.shape) l.push_back(shape[static_cast<int>(axis)], strides[axis]);
    return l;
  }
  static Attrs inverse(const Attrs& a) {
    Attrs inv = a;
    for (int i = 0; i < a.shape.rank(); ++i) inv.shape[static_cast<int>(a.shape[i])] = i;
    return inv;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Permute>(inverse(s.attrs<Attrs>()), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    if (a.shape == Shape{1, 0}) {
      sink.add(0, g.structured(0).t());  // keeps the structure of a weight's gradient
    } else {
      sink.add(0, view(inverse(a), g[0]));
    }
  }
};
EBB_OP(Permute)

struct Transpose : ViewOp<Transpose, AxisPair> {
  static constexpr OpDoc kDoc{"transpose", "y = x with two axes swapped",
                              "x:[..,m,..,n,..] -> y:[..,n,..,m,..]"};
  static constexpr bool kKeepsStructure = true;
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axes=", a.first, ",", a.last);
  }
  static Layout layout(const Attrs& a, const Shape& shape, const int64_t* strides) {
    Layout l(shape, strides);
    if (shape.rank() != 0) {
      std::swap(l.shape[a.first], l.shape[a.last]);
      std::swap(l.strides[a.first], l.strides[a.last]);
    }
    return l;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Transpose>(s.attrs<Attrs>(), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Gradient& gy = g.structured(0);
    if (a.first == a.last) {
      sink.add(0, gy);
    } else if (gy.meta().shape.rank() == 2) {
      sink.add(0, gy.t());
    } else {
      sink.add(0, view(a, g[0]));
    }
  }
};
EBB_OP(Transpose)

struct Expand {
  static constexpr OpDoc kDoc{"expand", "y = x, sizes of 1 repeated", "x:[...] -> y:shape"};
  static constexpr bool kView = true;
  using Attrs = ShapeAttrs;
  static std::string describe(const Attrs& a) { return a.shape.str(); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Shape target(const Attrs& a, const Shape& from) {
    const int lead = a.shape.rank() - from.rank();
    Shape out = a.shape;
    bool fits = lead >= 0;
    for (int i = 0; i < out.rank() && fits; ++i) {
      const int64_t have = i < lead ? 1 : from[i - lead];
      if (out[i] == -1 && i >= lead) out[i] = have;
      fits = out[i] >= 0 && (have == 1 || have == out[i]);
    }
    if (!fits) {
      throw ShapeError(
          absl::StrCat("expand: x is ", from.str(), ", which does not repeat to ", a.shape.str()));
    }
    (void)checked_numel(out, sizeof(double));
    return out;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {{in[0].dtype, target(a, in[0].shape)}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Shape shape = target(a, in[0].shape());
    int64_t strides[kMaxRank];
    broadcast_strides(in[0], shape, strides);
    out[0] = in[0].view(shape, strides, 0);
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {sum_to(g[0], s.in_shape(0))}; }
};
EBB_OP(Expand)

struct Flip : ViewOp<Flip, MaskAttrs> {
  static constexpr OpDoc kDoc{"flip", "y[..,i,..] = x[..,n-1-i,..] along the named axes",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return axes_of_mask(a.axes); }
  static Layout layout(const Attrs& a, const Shape& shape, const int64_t* strides) {
    Layout l(shape, strides);
    for (int i = 0; i < shape.rank(); ++i) {
      if ((a.axes >> i & 1) == 0 || shape[i] < 2) continue;
      l.offset += (shape[i] - 1) * strides[i];
      l.strides[i] = -strides[i];
    }
    return l;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<Flip>(s.attrs<Attrs>(), g[0])};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    sink.add(0, view(s.attrs<Attrs>(), g[0]));
  }
};
EBB_OP(Flip)

}  // namespace ops

Tensor reshape(const Tensor& x, const Shape& shape, Where where) {
  return apply_with<ops::Reshape>({shape}, At(x, where));
}

Tensor flatten(const Tensor& x, int64_t start_axis, int64_t end_axis, Where where) {
  const int first = normalize_axis(start_axis, x.dim(), "flatten");
  const int last = normalize_axis(end_axis, x.dim(), "flatten");
  if (first > last) {
    throw IndexError(absl::StrCat("flatten: start axis ", start_axis, " comes after end axis ",
                                  end_axis, " of x ", x.shape().str()));
  }
  return apply_with<ops::Flatten>({first, last}, At(x, where));
}

Tensor permute(const Tensor& x, Axes axes, Where where) {
  (void)axes.mask(x.dim(), "permute");  // throws where one is outside or named twice
  Shape order;
  for (int i = 0; i < axes.size(); ++i)
    order.push_back(normalize_axis(axes[i], x.dim(), "permute"));
  return apply_with<ops::Permute>({order}, At(x, where));
}

Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1, Where where) {
  const int a = normalize_axis(axis0, x.dim(), "transpose");
  const int b = normalize_axis(axis1, x.dim(), "transpose");
  return apply_with<ops::Transpose>({a, b}, At(x, where));
}

Tensor t(const Tensor& x, Where where) {
  if (x.dim() < 2) return x;
  if (x.dim() > 2) {
    throw ShapeError(absl::StrCat("t: x is ", x.shape().str(), ", not a matrix"));
  }
  return apply_with<ops::Transpose>({0, 1}, At(x, where));
}

Tensor expand(const Tensor& x, const Shape& shape, Where where) {
  return detail::apply_compiled<ops::Expand>({shape}, where, x);
}

Tensor squeeze(const Tensor& x, Axes axes, Where where) {
  return apply_with<ops::Squeeze>({axes.mask(x.dim(), "squeeze")}, At(x, where));
}

Tensor unsqueeze(const Tensor& x, int64_t axis, Where where) {
  return apply_with<ops::Unsqueeze>({normalize_axis(axis, x.dim() + 1, "unsqueeze")}, At(x, where));
}

Tensor flip(const Tensor& x, Axes axes, Where where) {
  return apply_with<ops::Flip>({axes.mask(x.dim(), "flip")}, At(x, where));
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
Tensor Tensor::squeeze(Axes axes, Where where) const { return ebb::squeeze(*this, axes, where); }
Tensor Tensor::unsqueeze(int64_t axis, Where where) const {
  return ebb::unsqueeze(*this, axis, where);
}

}  // namespace ebb
