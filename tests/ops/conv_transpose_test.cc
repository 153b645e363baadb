// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "conv_reference.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

template <int D>
using Case = testing::ConvCase<ConvTransposeOptions<D>>;

template <int D>
Sample transpose_sample(const Case<D>& c) {
  const auto r = testing::ref_conv(c.options);
  return testing::conv_sample(c, " o" + Shape(r.output_padding, size_t{D}).str(),
                              c.weight[1] * c.options.groups,
                              [](const auto& numbers, Span<const RefArray> in) {
                                return conv_transpose_by_definition(numbers, in);
                              });
}

template <int D>
OpSamples transpose_samples(const std::vector<Case<D>>& cases,
                            std::function<std::vector<Case<D>>(int64_t)> sized) {
  OpSamples s{.op = absl::StrCat("conv_transpose", D, "d")};
  for (const Case<D>& c : cases) s.samples.push_back(transpose_sample<D>(c));
  s.sized = [sized](int64_t n) {
    std::vector<Sample> all;
    for (const Case<D>& c : sized(n)) all.push_back(transpose_sample<D>(c));
    return all;
  };
  s.sizes = {0, 1, 2, 3, 5, 8, 13, 16, 17, 33, 65};
  Shape x{4};
  Shape w{4, 6};
  for (int d = 0; d < D; ++d) {
    x.push_back(3);
    w.push_back(3);
  }
  const auto with = [](Shape shape, int axis, int64_t n) {
    shape[axis] = n;
    return shape;
  };
  const auto call = [](const ConvTransposeOptions<D>& o) {
    return [o](Span<const Tensor> in) { return testing::call_conv(in, o); };
  };
  s.errors = {
      error_sample<ShapeError>("rank", {normal({3}), normal(w)}, call({}),
                               absl::StrCat("x must have rank ", D + 1, ", or ", D + 2)),
      error_sample<ShapeError>("channels", {normal(with(x, 0, 5)), normal(w)}, call({}),
                               "x has 5 channels, which must be weight.size(0)=4"),
      error_sample<ShapeError>("groups", {normal(x), normal(w)}, call({.groups = 3}),
                               "and a multiple of groups=3"),
      error_sample<ShapeError>("bias", {normal(x), normal(w), normal({6})}, call({.groups = 2}),
                               "bias must be [12]"),
      error_sample<ShapeError>("nothing left", {normal(x), normal(w)}, call({.padding = 3}),
                               "the result would be [6,-1"),
      error_sample<ValueError>("output padding", {normal(x), normal(w)},
                               call({.stride = 2, .output_padding = 2}),
                               absl::StrCat("the output padding is 2 along axis ", -D,
                                            "; it must be in [0, 2), below the stride, 2")),
      error_sample<ValueError>("stride", {normal(x), normal(w)}, call({.stride = 0}),
                               "the stride is 0; it must be in [1, "),
      error_sample<ShapeError>("no elements", {normal(with(x, D, 0)), normal(w)}, call({}),
                               "x.size(-1) is 0; only a batch may be"),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 2), testing::integers(w, 0, 2)},
                               call({}), s.op + ": input 0 is int64"),
  };
  if (D == 3) {
    s.errors.push_back(error_sample<ShapeError>(
        "absurd stride", {normal(x), normal(w)}, call({.stride = 1 << 29}),
        "the result would be [6,1073741827,1073741827,1073741827], more than can be addressed"));
  }
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kConvTranspose1d{
    "conv_transpose1d", [] {
      return transpose_samples<1>(
          {{{2, 4}, {2, 3, 3}},
           {{2, 2, 3}, {2, 2, 2}, {.stride = 2}, true},
           {{4, 3}, {4, 1, 3}, {.stride = 2, .padding = 1, .output_padding = 1, .groups = 2}, true},
           {{1, 3}, {1, 1, 2}, {.output_padding = 2, .dilation = 3}},
           {{2, 1}, {2, 2, 1}, {}, true},
           {{0, 2, 4}, {2, 3, 3}, {}, true}},
          [](int64_t n) {
            return std::vector<Case<1>>{{{2, n + 1}, {2, 2, 4}, {.stride = 2, .padding = 1}, true}};
          });
    }};
const RegisterSamples kConvTranspose2d{
    "conv_transpose2d", [] {
      return transpose_samples<2>(
          {{{2, 3, 4}, {2, 3, 2, 3}},
           {{2, 2, 3, 2}, {2, 1, 2, 2}, {.stride = 2}, true},
           {{2, 2, 3}, {2, 2, 3, 4}, {.stride = {2, 1}, .padding = {1, 2}}, true},
           {{4, 2, 2}, {4, 2, 2, 2}, {.stride = {2, 3}, .output_padding = {1, 2}, .groups = 2}},
           {{1, 3, 3}, {1, 1, 2, 2}, {.padding = 1, .output_padding = {0, 2}, .dilation = {1, 3}}},
           {{3, 2, 2}, {3, 2, 1, 1}, {}, true},
           {{0, 2, 3, 3}, {2, 1, 2, 2}, {}, true}},
          [](int64_t n) {
            return std::vector<Case<2>>{
                {{3, 4, n + 1}, {3, 2, 4, 4}, {.stride = 2, .padding = 1}, true},
                {{3, 4, n + 1}, {3, 2, 3, 3}, {.padding = 1}}};
          });
    }};
const RegisterSamples kConvTranspose3d{
    "conv_transpose3d", [] {
      return transpose_samples<3>(
          {{{2, 2, 2, 3}, {2, 1, 2, 2, 1}, {}, true},
           {{2, 1, 2, 2, 2}, {1, 2, 2, 2, 2}, {.stride = {1, 2, 1}, .padding = {1, 0, 1}}},
           {{2, 2, 1, 2}, {2, 1, 1, 2, 2}, {.stride = 2, .output_padding = 1, .groups = 2}, true},
           {{0, 1, 2, 2, 2}, {1, 1, 2, 2, 2}, {}}},
          [](int64_t n) {
            return std::vector<Case<3>>{{{2, 2, 2, n + 1}, {2, 2, 2, 2, 2}, {.stride = 2}, true}};
          });
    }};

}  // namespace
}  // namespace ebb
