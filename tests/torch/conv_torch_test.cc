// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "compare.h"

// Convolution, pooling, resampling and sampling beside LibTorch: 704 configurations.
namespace ebb::beside_torch {
namespace {

template <int D>
std::vector<int64_t> list(const PerAxis<D>& v) {
  return {v.begin(), v.end()};
}

Tensor bias_of(Span<const Tensor> in) { return in.size() > 2 ? in[2] : Tensor(); }

template <int D>
void compare_conv(Draw& draw, bool transposed) {
  ConvOptions<D> o;
  ConvTransposeOptions<D> up;
  o.groups = up.groups = draw(1, 3);
  Call c{.op = transposed ? "conv_transpose" : "conv", .dims = D, .groups = o.groups};
  const bool batched = draw.coin();
  const int64_t in = o.groups * draw(1, 4);
  const int64_t out = o.groups * draw(1, 4);
  Shape w = transposed ? Shape{in, out / o.groups} : Shape{out, in / o.groups};
  const int64_t most = D == 1 ? 40 : D == 2 ? 14 : 7;
  Shape x = sample_shape(draw, D, batched, in, 5, most);
  for (int d = 0; d < D; ++d) {
    o.stride[d] = up.stride[d] = draw(1, 3);
    o.dilation[d] = up.dilation[d] = draw(1, 2);
    w.push_back(draw(1, D == 3 ? 3 : 5));
    const int64_t span = o.dilation[d] * (w[2 + d] - 1) + 1;
    o.padding[d] = up.padding[d] = draw(0, 2);
    int64_t& n = x[x.rank() - D + d];
    n = std::max(n, span);
    up.output_padding[d] = draw(0, std::max(up.stride[d], up.dilation[d]) - 1);
    c.output_padding.push_back(transposed ? up.output_padding[d] : 0);
  }
  c.kernel = {w.begin() + 2, w.end()};
  c.stride = list(o.stride);
  c.padding = list<D>(o.padding);
  c.dilation = list(o.dilation);
  std::vector<Tensor> inputs = {testing::normal(x), testing::normal(w)};
  if (draw.coin()) inputs.push_back(testing::normal({out}));
  std::vector<In> sides = samples(inputs, true);
  if (!batched) sides[0].batch_axis = 0;
  compare(c, sides, [&](Span<const Tensor> t) {
    if constexpr (D == 1) {
      return transposed ? conv_transpose1d(t[0], t[1], bias_of(t), up)
                        : conv1d(t[0], t[1], bias_of(t), o);
    } else if constexpr (D == 2) {
      return transposed ? conv_transpose2d(t[0], t[1], bias_of(t), up)
                        : conv2d(t[0], t[1], bias_of(t), o);
    } else {
      return transposed ? conv_transpose3d(t[0], t[1], bias_of(t), up)
                        : conv3d(t[0], t[1], bias_of(t), o);
    }
  });
}

template <int D>
void compare_pool(Draw& draw) {
  const bool batched = draw.coin();
  const Shape shape = sample_shape(draw, D, batched, draw(1, 3), 6, D == 3 ? 8 : 15);
  const Tensor x = testing::distinct(shape);
  PerAxis<D> kernel = 1;
  MaxPoolOptions<D> max;
  AvgPoolOptions<D> avg;
  max.ceil_mode = avg.ceil_mode = draw.coin();
  avg.count_include_pad = draw.coin();
  for (int d = 0; d < D; ++d) {
    kernel[d] = draw(1, 3);
    max.stride[d] = avg.stride[d] = draw(1, 3);
    max.padding[d] = avg.padding[d] = draw(0, kernel[d] / 2);
    max.dilation[d] = draw(1, 2);
  }
  const Tensor positive = testing::positive(shape);
  Call c{.op = "max_pool", .dims = D};
  c.kernel = list(kernel);
  c.stride = list(max.stride);
  c.padding = list(max.padding);
  c.dilation = list(max.dilation);
  c.ceil_mode = max.ceil_mode;
  compare(c, samples({x}, batched), [&](Span<const Tensor> t) {
    if constexpr (D == 1) return max_pool1d(t[0], kernel, max);
    if constexpr (D == 2) return max_pool2d(t[0], kernel, max);
    if constexpr (D == 3) return max_pool3d(t[0], kernel, max);
  });
  c.op = "avg_pool";
  c.count_include_pad = avg.count_include_pad;
  if (D > 1 && draw(0, 2) == 0) {
    c.divisor = draw(1, 5);
    avg.divisor_override = c.divisor;
  }
  compare(c, samples({x}, batched), [&](Span<const Tensor> t) {
    if constexpr (D == 1) return avg_pool1d(t[0], kernel, avg);
    if constexpr (D == 2) return avg_pool2d(t[0], kernel, avg);
    if constexpr (D == 3) return avg_pool3d(t[0], kernel, avg);
  });
  if constexpr (D < 3) {
    c.op = "lp_pool";
    c.norm_type = static_cast<double>(draw(1, 3));
    const LPPoolOptions<D> lp{.stride = max.stride, .ceil_mode = max.ceil_mode};
    compare(c, samples({positive}, batched), [&](Span<const Tensor> t) {
      if constexpr (D == 1) return lp_pool1d(t[0], c.norm_type, kernel, lp);
      if constexpr (D == 2) return lp_pool2d(t[0], c.norm_type, kernel, lp);
    });
  }
  PerAxis<D> size = 1;
  for (int d = 0; d < D; ++d) size[d] = draw(1, 7);
  c.size = list(size);
  c.op = "adaptive_avg_pool";
  compare(c, samples({x}, batched), [&](Span<const Tensor> t) {
    if constexpr (D == 1) return adaptive_avg_pool1d(t[0], size);
    if constexpr (D == 2) return adaptive_avg_pool2d(t[0], size);
    if constexpr (D == 3) return adaptive_avg_pool3d(t[0], size);
  });
  c.op = "adaptive_max_pool";
  compare(c, samples({x}, batched), [&](Span<const Tensor> t) {
    if constexpr (D == 1) return adaptive_max_pool1d(t[0], size).values;
    if constexpr (D == 2) return adaptive_max_pool2d(t[0], size).values;
    if constexpr (D == 3) return adaptive_max_pool3d(t[0], size).values;
  });
}

// LibTorch's samples of images are for (W, H), those of volumes for (T, H, W).
template <int D>
void compare_fractional(Draw& draw) {
  const bool batched = draw.coin();
  // In three dimensions LibTorch wants an element more than the windows need.
  const Tensor x = testing::distinct(sample_shape(draw, D, batched, draw(1, 3), D + 5, 12));
  PerAxis<D> kernel = 1;
  PerAxis<D> size = 1;
  Shape offsets(x.shape().data(), static_cast<size_t>(x.dim() - D));
  offsets.push_back(D);
  for (int d = 0; d < D; ++d) {
    kernel[d] = draw(1, 3);
    size[d] = draw(2, 5);
  }
  Call c{.op = "fractional_max_pool", .dims = D};
  c.kernel = list(kernel);
  c.size = list(size);
  std::vector<In> inputs = samples({x, testing::uniform(offsets, 0.01, 0.99)}, batched);
  inputs[1].differentiated = false;
  compare(c, inputs, [&](Span<const Tensor> t) {
    if constexpr (D == 2) {
      return fractional_max_pool2d(t[0], kernel, size, flip(t[1], -1)).values;
    } else {
      return fractional_max_pool3d(t[0], kernel, size, t[1]).values;
    }
  });
}

template <int D>
void compare_unpool(Draw& draw) {
  const bool batched = draw.coin();
  const Tensor x = testing::distinct(sample_shape(draw, D, batched, draw(1, 3), 6, 9));
  PerAxis<D> kernel = 1;
  PerAxis<D> size = 1;
  for (int d = 0; d < D; ++d) {
    kernel[d] = draw(2, 3);
    size[d] = x.size(d - D);
  }
  ValuesIndices pooled;
  if constexpr (D == 1) pooled = max_pool1d_with_indices(x, kernel);
  if constexpr (D == 2) pooled = max_pool2d_with_indices(x, kernel);
  if constexpr (D == 3) pooled = max_pool3d_with_indices(x, kernel);
  Call c{.op = "max_unpool", .dims = D};
  c.stride = list(kernel);
  c.padding = std::vector<int64_t>(D, 0);
  c.size = list(size);
  compare(c, samples({pooled.values, pooled.indices}, batched), [&](Span<const Tensor> t) {
    const MaxUnpoolOptions<D> o{.output_size = size};
    if constexpr (D == 1) return max_unpool1d(t[0], t[1], kernel, o);
    if constexpr (D == 2) return max_unpool2d(t[0], t[1], kernel, o);
    if constexpr (D == 3) return max_unpool3d(t[0], t[1], kernel, o);
  });
}

void compare_fold(Draw& draw) {
  const bool batched = draw.coin();
  const int64_t channels = draw(1, 3);
  const Tensor x = testing::normal(sample_shape(draw, 2, batched, channels, 5, 9));
  PerAxis<2> kernel{draw(1, 3), draw(1, 3)};
  const UnfoldOptions o{.dilation = {draw(1, 2), draw(1, 2)},
                        .padding = {draw(0, 2), draw(0, 2)},
                        .stride = {draw(1, 2), draw(1, 2)}};
  Call c{.op = "unfold"};
  c.kernel = list(kernel);
  c.dilation = list(o.dilation);
  c.padding = list(o.padding);
  c.stride = list(o.stride);
  compare(c, samples({x}, batched), [&](Span<const Tensor> t) { return unfold(t[0], kernel, o); });
  const Tensor columns = testing::normal(unfold(x, kernel, o).shape());
  const PerAxis<2> size{x.size(-2), x.size(-1)};
  c.op = "fold";
  c.size = list(size);
  compare(c, samples({columns}, batched),
          [&](Span<const Tensor> t) { return fold(t[0], size, kernel, o); });
}

void compare_locally_connected(Draw& draw) {
  const bool batched = draw.coin();
  const int64_t channels = draw(1, 3);
  const int64_t out = draw(1, 3);
  const Shape x = sample_shape(draw, 2, batched, channels, 5, 7);
  PerAxis<2> kernel{draw(1, 3), draw(1, 3)};
  const UnfoldOptions o{.dilation = {draw(1, 2), draw(1, 2)},
                        .padding = {draw(0, 1), draw(0, 1)},
                        .stride = {draw(1, 2), draw(1, 2)}};
  const auto places = [&](int d) {
    return (x[x.rank() - 2 + d] + 2 * o.padding[d] - o.dilation[d] * (kernel[d] - 1) - 1) /
               o.stride[d] +
           1;
  };
  Call c{.op = "locally_connected"};
  c.kernel = list(kernel);
  c.dilation = list(o.dilation);
  c.padding = list(o.padding);
  c.stride = list(o.stride);
  const int64_t rows = places(0);
  const int64_t columns = places(1);
  std::vector<In> in = {In(testing::normal(x), true, batched ? std::optional<int64_t>() : 0),
                        In(testing::normal({rows, columns, out, channels, kernel[0], kernel[1]}))};
  if (draw.coin()) in.push_back(testing::normal({out, rows, columns}));
  compare(c, in,
          [&](Span<const Tensor> t) { return locally_connected2d(t[0], t[1], bias_of(t), o); });
}

void compare_interpolate(Draw& draw) {
  struct Kind {
    InterpolateMode mode;
    const char* name;
    int dims;
  };
  const int64_t any = draw(1, 3);
  const Kind kinds[] = {{InterpolateMode::kNearest, "nearest", static_cast<int>(any)},
                        {InterpolateMode::kNearestExact, "nearest-exact", static_cast<int>(any)},
                        {InterpolateMode::kArea, "area", static_cast<int>(any)},
                        {InterpolateMode::kLinear, "linear", 1},
                        {InterpolateMode::kBilinear, "bilinear", 2},
                        {InterpolateMode::kBicubic, "bicubic", 2},
                        {InterpolateMode::kTrilinear, "trilinear", 3}};
  const Kind k = kinds[draw(0, 6)];
  const bool batched = draw.coin();
  const int64_t channels = draw(1, 3);
  const Shape shape = sample_shape(draw, k.dims, batched, channels, 2, k.dims == 3 ? 6 : 9);
  InterpolateOptions o{.mode = k.mode, .dims = k.dims};
  Call c{.op = "interpolate", .dims = k.dims};
  c.mode = k.name;
  const bool nearest = k.dims == any && c.mode.substr(0, 7) == "nearest";
  const bool by_size = draw.coin();
  for (int d = 0; d < k.dims; ++d) {
    if (by_size) {
      o.size.push_back(draw(1, 11));
      c.size.push_back(o.size[d]);
    } else {
      // Quarters are exact in float32 too, in which LibTorch counts. Where the size stays it
      // copies, whatever the factor, as told in ops/upsample.h; and where it doubles, too, its
      // gradient of "nearest" forgets the factor, which its result heeds.
      const int64_t n = shape[shape.rank() - k.dims + d];
      int64_t quarters = draw(3, 11);
      while ((quarters != 4 && quarters * n / 4 == n) ||
             (nearest && (quarters == 4 || quarters * n / 4 == 2 * n))) {
        ++quarters;
      }
      o.scale_factor.push_back(static_cast<double>(quarters) / 4);
      c.factors.push_back(o.scale_factor.back());
    }
  }
  if (!nearest && c.mode != "area") o.align_corners = c.align_corners = draw.coin();
  compare(c, samples({testing::normal(shape)}, batched),
          [&](Span<const Tensor> t) { return interpolate(t[0], o); });
}

template <int D>
void compare_grid_sample(Draw& draw) {
  constexpr const char* kModes[] = {"bilinear", "nearest", "bicubic"};
  constexpr const char* kBorders[] = {"zeros", "border", "reflection"};
  const auto mode = static_cast<size_t>(draw(0, D == 2 ? 2 : 1));
  const auto border = static_cast<size_t>(draw(0, 2));
  const bool batched = draw.coin();
  GridSampleOptions o{static_cast<GridSampleMode>(mode), static_cast<GridPadding>(border),
                      draw.coin()};
  Call c{.op = "grid_sample", .dims = D};
  c.mode = kModes[mode];
  c.padding_mode = kBorders[border];
  c.align_corners = o.align_corners;
  const Tensor x = testing::normal(sample_shape(draw, D, batched, draw(1, 3), 2, 7));
  Shape grid;
  if (batched) grid.push_back(x.size(0));
  for (int d = 0; d < D; ++d) grid.push_back(draw(1, 5));
  grid.push_back(D);
  // In float32 a place may fall on the other side of an element.
  const Tensor places = testing::uniform(grid, -1.9, 1.9);
  const auto f = [&](Span<const Tensor> t) { return grid_sample(t[0], t[1], o); };
  compare(c, samples({x, places}, batched), f, {.float32 = false, .second_order = false});
  const Tensor near = testing::uniform_away_from(
      grid, -1.9, 1.9,
      [&] {
        std::vector<double> kinks;
        for (int d = 0; d < D; ++d) {
          const auto n = static_cast<double>(x.size(d - D));
          for (double u = -2 * n; u <= 4 * n; u += 0.5) {
            kinks.push_back(o.align_corners ? 2 * u / (n - 1) - 1 : (2 * u + 1) / n - 1);
          }
        }
        return kinks;
      }(),
      1e-4);
  compare(c, samples({x, near}, batched), f, {.second_order = false});
}

void compare_affine_grid(Draw& draw, int dims) {
  Shape theta{draw(1, 3), dims, dims + 1};
  Shape size{theta[0], 2};
  for (int d = 0; d < dims; ++d) size.push_back(draw(1, 6));
  Call c{.op = "affine_grid", .dims = dims};
  c.size = {size.begin(), size.end()};
  c.align_corners = draw.coin();
  compare(c, samples({testing::normal(theta)}, true),
          [&](Span<const Tensor> t) { return affine_grid(t[0], size, c.align_corners); });
}

TEST(BesideTorch, Convolution) {
  Draw draw("conv");
  repeat(30, [&] { compare_conv<1>(draw, false); });
  repeat(40, [&] { compare_conv<2>(draw, false); });
  repeat(20, [&] { compare_conv<3>(draw, false); });
}
TEST(BesideTorch, TransposedConvolution) {
  Draw draw("conv_transpose");
  repeat(30, [&] { compare_conv<1>(draw, true); });
  repeat(40, [&] { compare_conv<2>(draw, true); });
  repeat(20, [&] { compare_conv<3>(draw, true); });
}
TEST(BesideTorch, Pooling) {  // five kinds each
  Draw draw("pool");
  repeat(12, [&] { compare_pool<1>(draw); });
  repeat(20, [&] { compare_pool<2>(draw); });
  repeat(10, [&] { compare_pool<3>(draw); });
}
TEST(BesideTorch, FractionalPoolingAndUnpooling) {
  Draw draw("fractional");
  repeat(15, [&] { compare_fractional<2>(draw); });
  repeat(8, [&] { compare_fractional<3>(draw); });
  repeat(8, [&] { compare_unpool<1>(draw); });
  repeat(15, [&] { compare_unpool<2>(draw); });
  repeat(8, [&] { compare_unpool<3>(draw); });
}
TEST(BesideTorch, UnfoldFoldAndLocallyConnected) {
  Draw draw("fold");
  repeat(20, [&] { compare_fold(draw); });
  repeat(20, [&] { compare_locally_connected(draw); });
}
TEST(BesideTorch, Interpolation) {
  Draw draw("interpolate");
  repeat(80, [&] { compare_interpolate(draw); });
}
TEST(BesideTorch, GridSample) {
  Draw draw("grid_sample");
  repeat(40, [&] { compare_grid_sample<2>(draw); });
  repeat(20, [&] { compare_grid_sample<3>(draw); });
  repeat(5, [&] { compare_affine_grid(draw, 2); });
  repeat(5, [&] { compare_affine_grid(draw, 3); });
}

}  // namespace
}  // namespace ebb::beside_torch
