// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "compare.h"

// Modules beside LibTorch's, with its parameters by their names: 234 configurations.
namespace ebb::beside_torch {
namespace {

std::optional<int64_t> batch_axis(bool batched, int64_t axis = 0) {
  return batched ? std::optional<int64_t>() : axis;
}

template <int D>
std::vector<int64_t> list(const PerAxis<D>& v) {
  return {v.begin(), v.end()};
}

template <int D>
void compare_conv(Draw& draw) {
  constexpr const char* kModes[] = {"zeros", "reflect", "replicate", "circular"};
  const bool batched = draw.coin();
  nn::ConvNdOptions<D> o;
  o.groups = draw(1, 2);
  o.bias = draw.coin();
  o.padding_mode = static_cast<PadMode>(draw(0, 3));
  const bool same = draw(0, 3) == 0;
  const int64_t in = o.groups * draw(1, 3);
  const int64_t out = o.groups * draw(1, 3);
  PerAxis<D> kernel = 1;
  for (int d = 0; d < D; ++d) {
    kernel[d] = draw(1, 3);
    o.stride[d] = same ? 1 : draw(1, 2);
    o.padding[d] = draw(0, 2);
    o.dilation[d] = draw(1, 2);
  }
  // Of kernels that are not cubes LibTorch's C++ pads the wrong axes, but with zeros.
  for (int d = 1; d < D && same && o.padding_mode != PadMode::kConstant; ++d) {
    kernel[d] = kernel[0];
    o.dilation[d] = o.dilation[0];
  }
  const Call c{.op = absl::StrCat("Conv", D, "d"),
               .dims = D,
               .kernel = list(kernel),
               .stride = list(o.stride),
               .padding = list<D>(o.padding),
               .dilation = list(o.dilation),
               .groups = o.groups,
               .mode = same ? "same" : "",
               .padding_mode = kModes[static_cast<int>(o.padding_mode)],
               .numbers = {{"in", in}, {"out", out}, {"bias", o.bias}}};
  if (same) o.padding = kSame;
  nn::ConvNd<D> conv(in, out, kernel, o);
  const Shape shape = sample_shape(draw, D, batched, in, 5, D == 3 ? 5 : 8);
  compare_module(c, conv, {In(testing::normal(shape), true, batch_axis(batched))},
                 [&](const Tensor& x) { return conv(x); });
}

template <int D>
void compare_conv_transpose(Draw& draw) {
  const bool batched = draw.coin();
  nn::ConvTransposeNdOptions<D> o;
  o.groups = draw(1, 2);
  o.bias = draw.coin();
  const int64_t in = o.groups * draw(1, 3);
  const int64_t out = o.groups * draw(1, 3);
  PerAxis<D> kernel = 1;
  for (int d = 0; d < D; ++d) {
    kernel[d] = draw(2, 3);
    o.stride[d] = draw(1, 2);
    o.padding[d] = draw(0, 1);
    o.dilation[d] = draw(1, 2);
    o.output_padding[d] = draw(0, o.stride[d] - 1);
  }
  const Call c{.op = absl::StrCat("ConvTranspose", D, "d"),
               .dims = D,
               .kernel = list(kernel),
               .stride = list(o.stride),
               .padding = list(o.padding),
               .dilation = list(o.dilation),
               .output_padding = list(o.output_padding),
               .groups = o.groups,
               .numbers = {{"in", in}, {"out", out}, {"bias", o.bias}}};
  nn::ConvTransposeNd<D> conv(in, out, kernel, o);
  const Shape shape = sample_shape(draw, D, batched, in, 2, 5);
  compare_module(c, conv, {In(testing::normal(shape), true, batch_axis(batched))},
                 [&](const Tensor& x) { return conv(x); });
}

// Four batches in training, each of other statistics, then one in evaluation; all at once in one
// graph.
template <class M, class O>
void compare_statistics(Draw& draw, Call c, int dims, O options) {
  const int64_t channels = draw(1, 4);
  const bool batched = dims == 1 || draw.coin();  // [C,L] would be taken for [N,C] by BatchNorm1d
  options.eps = draw.coin() ? 1e-5 : 1e-2;
  options.affine = draw.coin();
  options.track_running_stats = draw(0, 3) > 0;
  const bool by_count = std::is_same_v<O, nn::BatchNormOptions> && draw.coin();
  options.momentum = by_count ? std::optional<double>() : draw.between(0.05, 0.9);
  c.dims = dims;
  c.numbers = {{"channels", channels},
               {"eps", options.eps},
               {"affine", options.affine},
               {"track", options.track_running_stats},
               {"momentum", options.momentum.value_or(-1)}};
  M norm(channels, options);
  std::vector<In> in;
  for (int i = 0; i < 5; ++i) {
    const Shape shape = sample_shape(draw, dims, batched, channels, 3, 5);
    const double scale = draw.between(0.5, 2);
    const Tensor x = testing::normal(shape) * scale + draw.between(-2, 2);
    in.emplace_back(x.to(kFloat32).to(kFloat64), true, batch_axis(batched));
  }
  const auto f = [&](Span<const Tensor> x) {
    std::vector<Tensor> y;
    for (size_t i = 0; i < x.size(); ++i) {
      norm.train(i + 1 < x.size());
      y.push_back(norm(x[i]));
    }
    return y;
  };
  // LibTorch does not count the batches of InstanceNorm; ours does, as told in nn/norm.h.
  const bool instance = std::is_same_v<O, nn::InstanceNormOptions>;
  compare_module(c, norm, in, f, {.unlike = instance ? "num_batches_tracked" : ""});
}

TEST(TorchModules, Convolutions) {
  Draw draw("module conv");
  repeat(15, [&] { compare_conv<1>(draw); });
  repeat(15, [&] { compare_conv<2>(draw); });
  repeat(10, [&] { compare_conv<3>(draw); });
  repeat(6, [&] { compare_conv_transpose<1>(draw); });
  repeat(6, [&] { compare_conv_transpose<2>(draw); });
  repeat(4, [&] { compare_conv_transpose<3>(draw); });
}

TEST(TorchModules, NormsWithRunningStatistics) {
  Draw draw("module norm");
  const nn::BatchNormOptions batch;
  const nn::InstanceNormOptions instance;
  repeat(8, [&] {
    compare_statistics<nn::BatchNorm1d>(draw, {.op = "BatchNorm1d"}, 1, batch);
    compare_statistics<nn::BatchNorm2d>(draw, {.op = "BatchNorm2d"}, 2, batch);
    compare_statistics<nn::BatchNorm3d>(draw, {.op = "BatchNorm3d"}, 3, batch);
    compare_statistics<nn::InstanceNorm1d>(draw, {.op = "InstanceNorm1d"}, 1, instance);
    compare_statistics<nn::InstanceNorm2d>(draw, {.op = "InstanceNorm2d"}, 2, instance);
    compare_statistics<nn::InstanceNorm3d>(draw, {.op = "InstanceNorm3d"}, 3, instance);
  });
}

TEST(TorchModules, NormsWithout) {
  Draw draw("module group norm");
  repeat(10, [&] {
    const int dims = static_cast<int>(draw(1, 3));
    const bool batched = draw.coin();
    const bool affine = draw.coin();
    const int64_t groups = draw(1, 3);
    const int64_t channels = groups * draw(1, 3);
    const Tensor x = testing::normal(sample_shape(draw, dims, batched, channels, 4, 6));
    const std::vector<In> in = {In(x, true, batch_axis(batched))};
    nn::GroupNorm group(groups, channels, {.eps = 1e-3, .affine = affine, .dims = dims});
    compare_module({.op = "GroupNorm",
                    .groups = groups,
                    .numbers = {{"channels", channels}, {"eps", 1e-3}, {"affine", affine}}},
                   group, in, [&](const Tensor& t) { return group(t); });
    const int64_t width = x.size(-1);
    nn::LayerNorm layer({width}, {.eps = 1e-3, .elementwise_affine = affine});
    compare_module(
        {.op = "LayerNorm", .size = {width}, .numbers = {{"eps", 1e-3}, {"affine", affine}}}, layer,
        in, [&](const Tensor& t) { return layer(t); });
    nn::LocalResponseNorm response(3, {.alpha = 0.1, .beta = 0.6, .k = 2, .dims = dims});
    compare_module({.op = "LocalResponseNorm",
                    .numbers = {{"size", 3}, {"alpha", 0.1}, {"beta", 0.6}, {"k", 2}}},
                   response, in, [&](const Tensor& t) { return response(t); });
    const int64_t slopes = draw.coin() ? channels : 1;
    nn::PReLU prelu(slopes, {.dims = dims});
    compare_module({.op = "PReLU", .numbers = {{"channels", slopes}}}, prelu, in,
                   [&](const Tensor& t) { return prelu(t); });
  });
}

TEST(TorchModules, LinearAndEmbedding) {
  Draw draw("module linear");
  repeat(10, [&] {
    const int64_t in = draw(1, 9);
    const int64_t in2 = draw(1, 5);
    const int64_t out = draw(1, 9);
    const bool bias = draw.coin();
    const bool batched = draw.coin();
    Call c{.op = "Linear", .numbers = {{"in", in}, {"in2", in2}, {"out", out}, {"bias", bias}}};
    nn::Linear linear(in, out, {.bias = bias});
    const Shape shape = batched ? Shape{draw(1, 4), in} : Shape{in};
    compare_module(c, linear, {testing::normal(shape)}, [&](const Tensor& x) { return linear(x); });
    c.op = "Bilinear";
    nn::Bilinear bilinear(in, in2, out, {.bias = bias});
    compare_module(c, bilinear,
                   {In(testing::normal({in}), true, 0), In(testing::normal({in2}), true, 0)},
                   [&](const Tensor& x, const Tensor& y) { return bilinear(x, y); });

    const int64_t count = draw(1, 7);
    Call e{.op = "Embedding", .numbers = {{"count", count}, {"width", out}}};
    nn::EmbeddingOptions o;
    if (draw.coin()) {
      o.padding_idx = draw(0, count - 1);
      e.numbers["padding_idx"] = static_cast<double>(*o.padding_idx);
    }
    nn::Embedding embedding(count, out, o);
    const Shape of_ids = batched ? Shape{draw(1, 3), draw(1, 5)} : Shape{draw(1, 8)};
    compare_module(e, embedding, {testing::integers(of_ids, 0, count - 1)},
                   [&](const Tensor& ids) { return embedding(ids); });
  });
}

// LibTorch's layers are called with a batch of one where ours has no batch axis.
template <class M, class O>
void compare_recurrent(Draw& draw, const char* op, O o, bool relu = false) {
  const bool batched = draw.coin();
  const int64_t in = draw(1, 5);
  const int64_t hidden = draw(1, 6);
  o.num_layers = draw(1, 3);
  o.bias = draw.coin();
  o.batch_first = batched && draw.coin();
  o.bidirectional = draw.coin();
  const int64_t units = o.num_layers * (o.bidirectional ? 2 : 1);
  const int64_t steps = draw(1, 6);
  const int64_t n = draw(1, 3);
  const Call c{.op = op,
               .numbers = {{"in", in},
                           {"hidden", hidden},
                           {"layers", o.num_layers},
                           {"bias", o.bias},
                           {"batch_first", o.batch_first},
                           {"bidirectional", o.bidirectional},
                           {"relu", relu}}};
  M layer(in, hidden, o);
  const Shape x = !batched        ? Shape{steps, in}
                  : o.batch_first ? Shape{n, steps, in}
                                  : Shape{steps, n, in};
  const Shape h = batched ? Shape{units, n, hidden} : Shape{units, hidden};
  std::vector<In> inputs = {In(testing::normal(x), true, batch_axis(batched, 1))};
  constexpr bool kLstm = std::is_same_v<M, nn::LSTM>;
  if (draw.coin()) {
    for (int i = 0; i < (kLstm ? 2 : 1); ++i) {
      inputs.emplace_back(testing::normal(h), true, batch_axis(batched, 1));
    }
  }
  compare_module(c, layer, inputs, [&](Span<const Tensor> t) -> std::vector<Tensor> {
    const Tensor h0 = t.size() > 1 ? t[1] : Tensor();
    if constexpr (kLstm) {
      const auto y = layer(t[0], {h0, t.size() > 2 ? t[2] : Tensor()});
      return {y.output, y.state.h, y.state.c};
    } else {
      const auto y = layer(t[0], h0);
      return {y.output, y.h};
    }
  });
}

TEST(TorchModules, RecurrentLayers) {
  Draw draw("module recurrent");
  repeat(12, [&] {
    compare_recurrent<nn::LSTM>(draw, "LSTM", nn::RecurrentOptions{});
    compare_recurrent<nn::GRU>(draw, "GRU", nn::RecurrentOptions{});
    const bool relu = draw.coin();
    nn::RNNOptions o;
    if (relu) o.nonlinearity = nn::Nonlinearity::kRelu;
    compare_recurrent<nn::RNN>(draw, "RNN", o, relu);
  });
}

TEST(TorchModules, RecurrentCells) {
  Draw draw("module cells");
  repeat(8, [&] {
    const bool batched = draw.coin();
    const bool bias = draw.coin();
    const bool relu = draw.coin();
    const int64_t in = draw(1, 6);
    const int64_t hidden = draw(1, 9);
    const int64_t n = draw(1, 4);
    Call c{.op = "RNNCell",
           .numbers = {{"in", in}, {"hidden", hidden}, {"bias", bias}, {"relu", relu}}};
    const auto state = [&](int64_t width) {
      return In(testing::normal(batched ? Shape{n, width} : Shape{width}), true,
                batch_axis(batched));
    };
    nn::RNNCell rnn(
        in, hidden,
        {.bias = bias, .nonlinearity = relu ? nn::Nonlinearity::kRelu : nn::Nonlinearity::kTanh});
    compare_module(c, rnn, {state(in), state(hidden)},
                   [&](const Tensor& x, const Tensor& h) { return rnn(x, h); });
    c.op = "GRUCell";
    nn::GRUCell gru(in, hidden, {.bias = bias});
    compare_module(c, gru, {state(in), state(hidden)},
                   [&](const Tensor& x, const Tensor& h) { return gru(x, h); });
    c.op = "LSTMCell";
    nn::LSTMCell lstm(in, hidden, {.bias = bias});
    compare_module(c, lstm, {state(in), state(hidden), state(hidden)},
                   [&](const Tensor& x, const Tensor& h, const Tensor& s) -> std::vector<Tensor> {
                     const auto y = lstm(x, {h, s});
                     return {y.h, y.c};
                   });
  });
}

}  // namespace
}  // namespace ebb::beside_torch
