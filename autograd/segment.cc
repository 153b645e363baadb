// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/segment.h"

#include "ebb/autograd/leaf.h"
#include "ebb/autograd/op.h"

namespace ebb::detail {
namespace {

struct Argument {
  static constexpr OpDoc kDoc{"argument", "y = x", "x:[...] -> y:[...]"};
  static constexpr bool kView = true;
  struct Attrs {};
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) { out[0] = in[0]; }
  static Grads backward(const Saved&, const OutGrads& g) { return {g[0]}; }
};

}  // namespace

Tensor as_argument(const Tensor& x, bool graph) {
  if (graph && x.requires_grad()) return apply<Argument>(x);
  return variable(x);
}

}  // namespace ebb::detail
