// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/activation.h"

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/unary_op.h"

namespace ebb {
namespace ops {

using kernels::Unary;

struct Relu : UnaryOp<Relu, Unary::kRelu> {
  static constexpr OpDoc kDoc{"relu", "y = max(x, 0), elementwise", "x:[...] -> y:[...]"};
  static Tensor derivative(const Saved& s, const Tensor& g) {
    return g * to(s.out(0) > 0, g.dtype());
  }
};
EBB_OP(Relu)

struct LeakyReluAttrs {
  double slope;
  operator kernels::UnaryParams() const { return {.a = slope}; }  // NOLINT
};
struct LeakyRelu : UnaryOp<LeakyRelu, Unary::kLeakyRelu, LeakyReluAttrs> {
  static constexpr OpDoc kDoc{"leaky_relu", "y = x > 0 ? x : slope * x, elementwise",
                              "x:[...] -> y:[...]"};
  static std::string describe(const Attrs& a) { return absl::StrCat("slope=", a.slope); }
  static Tensor derivative(const Saved& s, const Tensor& g) {
    const double slope = s.attrs<Attrs>().slope;
    return g * (slope + (1 - slope) * to(s.in(0) > 0, g.dtype()));
  }
};
EBB_OP(LeakyRelu)

}  // namespace ops

Tensor relu(const Tensor& x, Where where) { return apply<ops::Relu>(At(x, where)); }
Tensor leaky_relu(const Tensor& x, double slope, Where where) {
  return apply_with<ops::LeakyRelu>({slope}, At(x, where));
}

}  // namespace ebb
