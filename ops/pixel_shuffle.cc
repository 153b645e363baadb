// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/upsample.h"

namespace ebb {
namespace ops {

namespace {

struct ShuffleAttrs {
  int64_t factor = 2;
};

// [N,C,H,W] of [N,C,H,W] or [C,H,W].
void as_batch(const Array& a, int64_t (&sizes)[4], int64_t (&strides)[4]) {
  const bool batched = a.rank() == 4;
  sizes[0] = batched ? a.size(0) : 1;
  strides[0] = batched ? a.stride(0) : 0;
  for (int i = 1; i < 4; ++i) {
    sizes[i] = a.size(a.rank() - 4 + i);
    strides[i] = a.stride(a.rank() - 4 + i);
  }
}

// The fine image `a` [N,C,H*r,W*r] seen as [N,C,r,r,H,W], the order of the coarse one's elements.
Array fine_view(const Array& a, int64_t r) {
  int64_t n[4];
  int64_t s[4];
  as_batch(a, n, s);
  const int64_t strides[] = {s[0], s[1], s[2], s[3], s[2] * r, s[3] * r};
  return a.view({n[0], n[1], r, r, n[2] / r, n[3] / r}, strides, 0);
}
// The coarse image `a` [N,C*r*r,H,W] seen as [N,C,r,r,H,W].
Array coarse_view(const Array& a, int64_t r) {
  int64_t n[4];
  int64_t s[4];
  as_batch(a, n, s);
  const int64_t strides[] = {s[0], s[1] * r * r, s[1] * r, s[1], s[2], s[3]};
  return a.view({n[0], n[1] / (r * r), r, r, n[2], n[3]}, strides, 0);
}
// copy_into() wants its result contiguous: seen as [N,C,H,r,W,r] the fine image is.
Array in_order_of_fine(const Array& six) {
  const int64_t strides[] = {six.stride(0), six.stride(1), six.stride(4),
                             six.stride(2), six.stride(5), six.stride(3)};
  return six.view({six.size(0), six.size(1), six.size(4), six.size(2), six.size(5), six.size(3)},
                  strides, 0);
}

void check(const OpDoc& doc, const ShuffleAttrs& a, const Shape& x, bool fits) {
  if (a.factor < 1 || a.factor > 1 << 15) {
    throw ValueError(absl::StrCat(doc.name, ": x is ", x.str(), ", the factor is ", a.factor,
                                  "; it must be in [1, ", 1 << 15, "]"));
  }
  if (!fits) {
    throw ShapeError(absl::StrCat(doc.name, ": x is ", x.str(), ", the factor is ", a.factor,
                                  "; it must be [C,H,W] or [N,C,H,W] in which ",
                                  doc.name == std::string("pixel_shuffle")
                                      ? "C is a multiple of its square"
                                      : "H and W are multiples of it"));
  }
}

bool is_image(const Shape& x) { return x.rank() == 3 || x.rank() == 4; }

Tensor unshuffle(const Tensor& x, int64_t factor);

}  // namespace

struct PixelShuffle {
  static constexpr OpDoc kDoc{"pixel_shuffle", "y[c,i*r+a,j*r+b] = x[c*r*r+a*r+b,i,j]",
                              "x:[n,c,h,w] -> y:[n,c/r/r,h*r,w*r]"};
  using Attrs = ShuffleAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("factor ", a.factor); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape y = in[0].shape;
    const int c = y.rank() - 3;
    check(kDoc, a, y, true);
    check(kDoc, a, y, is_image(y) && y[c] % (a.factor * a.factor) == 0);
    y[c] /= a.factor * a.factor;
    y[c + 1] *= a.factor;
    y[c + 2] *= a.factor;
    return {{in[0].dtype, y}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array from = in_order_of_fine(coarse_view(in[0], a.factor));
    copy_into(in_order_of_fine(fine_view(out[0], a.factor)), from);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {unshuffle(g[0], s.attrs<Attrs>().factor)};
  }
};
EBB_OP(PixelShuffle)

struct PixelUnshuffle {
  static constexpr OpDoc kDoc{"pixel_unshuffle", "y[c*r*r+a*r+b,i,j] = x[c,i*r+a,j*r+b]",
                              "x:[n,c,h,w] -> y:[n,c*r*r,h/r,w/r]"};
  using Attrs = ShuffleAttrs;
  static std::string describe(const Attrs& a) { return absl::StrCat("factor ", a.factor); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    Shape y = in[0].shape;
    const int c = y.rank() - 3;
    check(kDoc, a, y, true);
    check(kDoc, a, y, is_image(y) && y[c + 1] % a.factor == 0 && y[c + 2] % a.factor == 0);
    y[c] *= a.factor * a.factor;
    y[c + 1] /= a.factor;
    y[c + 2] /= a.factor;
    return {{in[0].dtype, y}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_into(coarse_view(out[0], a.factor), fine_view(in[0], a.factor));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {apply_with<PixelShuffle>(s.attrs<Attrs>(), At(g[0]))};
  }
};
EBB_OP(PixelUnshuffle)

namespace {

Tensor unshuffle(const Tensor& x, int64_t factor) {
  return apply_with<PixelUnshuffle>({factor}, At(x));
}

}  // namespace
}  // namespace ops

Tensor pixel_shuffle(const Tensor& x, int64_t upscale_factor, Where where) {
  return apply_with<ops::PixelShuffle>({upscale_factor}, At(x, where));
}
Tensor pixel_unshuffle(const Tensor& x, int64_t downscale_factor, Where where) {
  return apply_with<ops::PixelUnshuffle>({downscale_factor}, At(x, where));
}

}  // namespace ebb
