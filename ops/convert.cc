// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/convert.h"

#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

struct To {
  static constexpr OpDoc kDoc{"to", "y = x with elements of another type", "x:[...] -> y:[...]"};
  struct Attrs {
    DType dtype;
  };
  static std::string describe(const Attrs& a) { return name_of(a.dtype); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {{a.dtype, in[0].shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], cast(in[0], a.dtype));
  }
  static Grads backward(const Saved& s, const OutGrads& g) { return {cast(g[0], s.in_dtype(0))}; }
};
EBB_OP(To)

struct Contiguous {
  static constexpr OpDoc kDoc{"contiguous", "y = x in row-major order", "x:[...] -> y:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    return {in[0]};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    copy_into(out[0], in[0]);
  }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0]}; }
};
EBB_OP(Contiguous)

}  // namespace ops

Tensor cast(const Tensor& x, DType dtype, Where where) {
  if (x.dtype() == dtype) return x;
  return apply_with<ops::To>({dtype}, At(x, where));
}

Tensor contiguous(const Tensor& x, Where where) {
  if (x.is_contiguous()) return x;
  return apply<ops::Contiguous>(At(x, where));
}

Tensor Tensor::to(DType dtype, Where where) const { return ebb::cast(*this, dtype, where); }
Tensor Tensor::contiguous(Where where) const { return ebb::contiguous(*this, where); }

}  // namespace ebb
