// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool.h"
#include "ebb/ops/pool_util.h"

namespace ebb {
namespace ops {

namespace {

struct UnpoolAttrs : PoolAttrs {
  int64_t out[3] = {};  // 0: as the windows say
};

// 1 for the last element that is put in each place, 0 for those before it.
Array last_writes(const Array& indices, int64_t planes, int64_t n_in, int64_t n_out, DType dtype) {
  const Array ids = contiguous(indices);
  const Array owner = Array::empty(kInt64, {n_out});
  Array last = Array::empty(dtype, ids.shape());
  const int64_t* at = ids.data<int64_t>();
  int64_t* by = owner.mutable_data<int64_t>();
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    T* to = last.mutable_data<T>();
    for (int64_t p = 0; p < planes; ++p, at += n_in, to += n_in) {
      for (int64_t i = 0; i < n_in; ++i) by[at[i]] = i;
      for (int64_t i = 0; i < n_in; ++i) to[i] = by[at[i]] == i ? T{1} : T{0};
    }
  });
  return last;
}

}  // namespace

template <int D>
struct MaxUnpool {
  using Attrs = PoolOf<UnpoolAttrs, D>;
  static constexpr OpDoc kDocs[3] = {
      {"max_unpool1d", "y = 0; y[indices[i]] = x[i]", "x:[n,c,l] indices:[n,c,l] -> y:[n,c,l']"},
      {"max_unpool2d", "y = 0; y[indices[i]] = x[i]",
       "x:[n,c,h,w] indices:[n,c,h,w] -> y:[n,c,h',w']"},
      {"max_unpool3d", "y = 0; y[indices[i]] = x[i]",
       "x:[n,c,t,h,w] indices:[n,c,t,h,w] -> y:[n,c,t',h',w']"}};
  static constexpr OpDoc kDoc = kDocs[D - 1];
  static std::string describe(const Attrs& a) {
    return absl::StrCat(ops::describe(a), ", output size ", list_of(a.out, D));
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b10} : GradUses{};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    check_pooled(kDoc, D, in);
    const Shape& x = in[0].shape;
    if (in[1].dtype != kInt64) {
      throw DTypeError(absl::StrCat(kDoc.name, ": indices is ", in[1].str(), "; it must be int64"));
    }
    if (in[1].shape != x) {
      throw ShapeError(absl::StrCat(kDoc.name, ": x is ", x.str(), ", indices is ",
                                    in[1].shape.str(), "; the shapes must be the same"));
    }
    check_windows(kDoc, a, x);
    Shape out = x;
    for (int i = 3 - D; i < 3; ++i) {
      const int axis = x.rank() - 3 + i;
      // Any size that the windows lead to x from, give or take a stride.
      const int64_t usual = (x[axis] - 1) * a.stride[i] - 2 * a.pad[i] + a.kernel[i];
      out[axis] = a.out[i] == 0 ? usual : a.out[i];
      if (out[axis] >= 1 && out[axis] > usual - a.stride[i] && out[axis] < usual + a.stride[i]) {
        continue;
      }
      throw ShapeError(absl::StrCat(kDoc.name, ": x is ", x.str(), ", ", ops::describe(a),
                                    ", the output size is ", list_of(a.out, D), "; along axis ",
                                    i - 3, " it must be positive and between ", usual - a.stride[i],
                                    " and ", usual + a.stride[i]));
    }
    check_addressable(kDoc, x, out, in[0].dtype);
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array indices = contiguous(in[1]);
    const auto s = kernel_shape(D, x.shape(), out[0].shape());
    const int64_t n_in = s.in[0] * s.in[1] * s.in[2];
    const int64_t n_out = s.out[0] * s.out[1] * s.out[2];
    const int64_t* at = indices.data<int64_t>();
    for (int64_t i = 0; i < indices.numel(); ++i) {
      if (at[i] >= 0 && at[i] < n_out) continue;
      throw IndexError(absl::StrCat(kDoc.name, ": element ", i, " of indices is ", at[i],
                                    ", outside [0, ", n_out, ")"));
    }
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      const T* from = x.data<T>();
      T* y = out[0].mutable_data<T>();
      std::fill_n(y, out[0].numel(), T{0});
      for (int64_t p = 0; p < s.planes; ++p, from += n_in, at += n_in, y += n_out) {
        for (int64_t i = 0; i < n_in; ++i) y[at[i]] = from[i];
      }
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads result(2);
    if (!s.needs(0)) return result;
    const Tensor indices = s.in(1);
    const auto shape = kernel_shape(D, indices.shape(), g[0].shape());
    const Tensor last(last_writes(indices.value(), shape.planes,
                                  shape.in[0] * shape.in[1] * shape.in[2],
                                  shape.out[0] * shape.out[1] * shape.out[2], g[0].dtype()));
    result[0] = gather_planes(g[0], indices, D) * last;
    return result;
  }
};
using MaxUnpool1d = MaxUnpool<1>;
using MaxUnpool2d = MaxUnpool<2>;
using MaxUnpool3d = MaxUnpool<3>;
EBB_OP(MaxUnpool1d)
EBB_OP(MaxUnpool2d)
EBB_OP(MaxUnpool3d)

namespace {

template <int D>
Tensor max_unpool(const Tensor& x, const Tensor& indices, const PerAxis<D>& kernel,
                  const MaxUnpoolOptions<D>& options, Where where) {
  typename MaxUnpool<D>::Attrs attrs;
  set_windows<D>(attrs, kernel, options.stride);
  set_axes(attrs.pad, options.padding);
  set_axes(attrs.out, options.output_size);
  return apply_with<MaxUnpool<D>>(attrs, At(x, where), indices);
}

}  // namespace
}  // namespace ops

Tensor max_unpool1d(const Tensor& x, const Tensor& indices, PerAxis<1> kernel,
                    const MaxUnpoolOptions<1>& options, Where where) {
  return ops::max_unpool(x, indices, kernel, options, where);
}
Tensor max_unpool2d(const Tensor& x, const Tensor& indices, PerAxis<2> kernel,
                    const MaxUnpoolOptions<2>& options, Where where) {
  return ops::max_unpool(x, indices, kernel, options, where);
}
Tensor max_unpool3d(const Tensor& x, const Tensor& indices, PerAxis<3> kernel,
                    const MaxUnpoolOptions<3>& options, Where where) {
  return ops::max_unpool(x, indices, kernel, options, where);
}

}  // namespace ebb
