// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/norm_channel.h"
#include "ebb/ops/norm.h"
#include "ebb/ops/norm_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

struct WeightNorm {
  static constexpr OpDoc kDoc{"weight_norm", "w = g v / |v|, |v| over all axes but one",
                              "v:[n,...] g:[n,1,...] -> w:[n,...]"};
  struct Attrs {
    int axis = 0;  // negative: none, the norm is that of all
  };
  static std::string describe(const Attrs& a) {
    return a.axis < 0 ? "of all" : absl::StrCat("axis=", a.axis);
  }
  static constexpr GradUses uses(int input) {
    return {.in = input == 0 ? 0b11u : 0b01u, .shapes = input == 0 ? 0u : 0b10u};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    const Shape& v = in[0].shape;
    Shape want;
    if (a.axis >= 0) {
      for (int i = 0; i < v.rank(); ++i) want.push_back(i == a.axis ? v[i] : 1);
    }
    if (in[1].shape != want) {
      throw ShapeError(absl::StrCat("weight_norm: v is ", v.str(), ", g is ", in[1].shape.str(),
                                    "; it must be ", want.str()));
    }
    return {in[0]};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds *= 2;
    return c;
  }
  static Channels extents(const Attrs& a, const Shape& v) {
    return a.axis < 0 ? Channels(1, 1, v.numel()) : Channels(v, v.rank() - 1 - a.axis);
  }
  // Calls f(offset, channel) for all rows without gaps.
  template <class F>
  static void for_each_row(const Channels& e, const F& f) {
    for (int64_t row = 0; row < e.samples * e.channels; ++row) {
      f(row * e.len, static_cast<size_t>(row % e.channels));
    }
  }
  // Adds v'other of each channel to out.
  template <class T>
  static void products(const T* v, const T* other, const Channels& e, double* out) {
    for_each_row(e, [&](int64_t at, size_t c) {
      double sums[2] = {0, 0};
      kernels::gradient_sums_row(v + at, T{0}, other + at, static_cast<size_t>(e.len), sums);
      out[c] += sums[1];
    });
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array v = contiguous(in[0]);
    const Array g = contiguous(in[1]);
    const Channels e = extents(a, v.shape());
    absl::InlinedVector<double, 64> squares(static_cast<size_t>(e.channels));
    visit_differentiable(v.dtype(), [&](auto t) {
      using T = decltype(t);
      products(v.data<T>(), v.data<T>(), e, squares.data());
      for_each_row(e, [&](int64_t at, size_t c) {
        const auto by = static_cast<T>(static_cast<double>(g.data<T>()[c]) / std::sqrt(squares[c]));
        kernels::shift_scale_row(v.data<T>() + at, T{0}, by, T{0}, out[0].mutable_data<T>() + at,
                                 static_cast<size_t>(e.len));
      });
    });
  }
  static Grads backward(const Saved& s, const OutGrads& gw) {
    const Shape shape = s.in_shape(1);
    const Tensor v = s.in(0);
    const Tensor inverse = rsqrt(sum_to(square(v), shape));
    const Tensor direction = v * inverse;
    const Tensor along = sum_to(gw[0] * direction, shape);
    Grads result(2);
    if (s.needs(1)) result[1] = along;
    if (s.needs(0)) result[0] = s.in(1) * inverse * (gw[0] - direction * along);
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& grads, GradSink& sink) {
    const Array v = contiguous(s.in_array(0));
    const Array g = s.needs(0) ? contiguous(s.in_array(1)) : Array();
    const Array gw = contiguous(grads.take(0));
    const Channels e = extents(s.attrs<Attrs>(), v.shape());
    const Array gg = s.needs(1) ? Array::empty(v.dtype(), s.in_shape(1)) : Array();
    const Array gv = s.needs(0) ? reuse_or_new(gw) : Array();
    const auto channels = static_cast<size_t>(e.channels);
    absl::InlinedVector<double, 64> squares(channels);
    absl::InlinedVector<double, 64> along(channels);
    visit_differentiable(v.dtype(), [&](auto t) {
      using T = decltype(t);
      products(v.data<T>(), v.data<T>(), e, squares.data());
      products(v.data<T>(), gw.data<T>(), e, along.data());
      if (s.needs(1)) {
        for (size_t c = 0; c < channels; ++c) {
          gg.mutable_data<T>()[c] = static_cast<T>(along[c] / std::sqrt(squares[c]));
        }
      }
      if (!s.needs(0)) return;
      for_each_row(e, [&](int64_t at, size_t c) {
        const auto by = static_cast<T>(static_cast<double>(g.data<T>()[c]) / std::sqrt(squares[c]));
        const auto back = static_cast<T>(along[c] / squares[c]);
        const T* from = gw.data<T>() + at;
        const T* direction = v.data<T>() + at;
        T* to = gv.mutable_data<T>() + at;
        for (int64_t i = 0; i < e.len; ++i) to[i] = by * (from[i] - back * direction[i]);
      });
    });
    if (s.needs(1)) sink.add(1, gg);
    if (s.needs(0)) sink.add(0, gv);
  }
};
EBB_OP(WeightNorm)

}  // namespace ops

Tensor weight_norm(const Tensor& v, const Tensor& g, std::optional<int64_t> axis, Where where) try {
  const int at = axis ? normalize_axis(*axis, v.dim(), "weight_norm") : -1;
  return apply_with<ops::WeightNorm>({at}, At(v, where), g);
} catch (const Error&) {
  detail::rethrow_as("weight_norm");
}

}  // namespace ebb
