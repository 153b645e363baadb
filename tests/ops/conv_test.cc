// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/conv.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "conv_reference.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/registry.h"
#include "ebb/core/memory.h"
#include "ebb/core/parallel.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/join.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

template <int D>
using Case = testing::ConvCase<ConvOptions<D>>;

template <int D>
Sample conv_sample(const Case<D>& c) {
  return testing::conv_sample(c, "", c.weight[0], [](const auto& r, Span<const RefArray> in) {
    return conv_by_definition(r, in);
  });
}

// The errors that all three have in common, on a kernel of 3.
template <int D>
std::vector<testing::ErrorSample> conv_errors() {
  const std::string op = absl::StrCat("conv", D, "d: ");
  Shape x{4};
  Shape w{6, 4};
  Shape grouped{6, 2};
  std::string ones = "[1";
  for (int d = 0; d < D; ++d) {
    x.push_back(5);
    w.push_back(3);
    grouped.push_back(3);
    if (d > 0) ones += ",1";
  }
  ones += "]";
  const auto call = [](const ConvOptions<D>& o) {
    return [o](Span<const Tensor> in) { return testing::call_conv(in, o); };
  };
  const auto with = [](Shape s, int axis, int64_t n) {
    s[axis] = n;
    return s;
  };
  Shape deep = x;
  deep.push_back(5);
  deep.push_back(5);
  return {
      error_sample<ShapeError>("rank of x", {normal(deep), normal(w)}, call({}),
                               absl::StrCat("; x must have rank ", D + 1, ", or ", D + 2)),
      error_sample<ShapeError>("rank of the weight", {normal(x), normal(x)}, call({}),
                               absl::StrCat("weight must have rank ", D + 2, ", not ", D + 1)),
      error_sample<ShapeError>("channels", {normal(x), normal(with(w, 1, 3))}, call({}),
                               "x has 4 channels, which must be weight.size(1)=3 times groups=1"),
      error_sample<ShapeError>("groups of x", {normal(x), normal(with(w, 1, 1))},
                               call({.groups = 3}),
                               "x has 4 channels, which must be weight.size(1)=1 times groups=3"),
      error_sample<ShapeError>("groups of the result", {normal(x), normal(with(grouped, 0, 5))},
                               call({.groups = 2}),
                               "weight.size(0)=5 must be a multiple of groups=2"),
      error_sample<ValueError>("no group", {normal(x), normal(w)}, call({.groups = 0}),
                               "the number of groups is 0; it must be at least 1"),
      error_sample<ShapeError>("bias", {normal(x), normal(w), normal({4})}, call({}),
                               "bias must be [6]"),
      error_sample<ShapeError>("kernel too large", {normal(x), normal(with(w, D + 1, 8))},
                               call({.padding = 1}),
                               "; along axis -1 the kernel spans 8 of 5 + 2 elements"),
      error_sample<ShapeError>(
          "dilation too large", {normal(x), normal(w)}, call({.dilation = 3}),
          absl::StrCat("; along axis ", -D, " the kernel spans 7 of 5 + 0 elements")),
      error_sample<ShapeError>("no channels", {normal(with(x, 0, 0)), normal(with(w, 1, 0))},
                               call({}), absl::StrCat("x.size(", -D - 1, ") is 0")),
      error_sample<ShapeError>("no elements", {normal(with(x, D, 0)), normal(w)},
                               call({.padding = 2}), "x.size(-1) is 0; only a batch may be"),
      error_sample<ShapeError>("empty kernel", {normal(x), normal(with(w, 2, 0))}, call({}),
                               absl::StrCat("weight.size(", -D, ") is 0")),
      error_sample<ValueError>("stride", {normal(x), normal(w)}, call({.stride = 0}),
                               "the stride is 0; it must be in [1, "),
      error_sample<ValueError>("dilation", {normal(x), normal(w)}, call({.dilation = -1}),
                               "the dilation is -1; it must be in [1, "),
      error_sample<ValueError>("padding", {normal(x), normal(w)}, call({.padding = -1}),
                               "the padding is -1; it must be in [0, "),
      error_sample<ValueError>("absurd padding", {normal(x), normal(w)},
                               call({.padding = INT64_MAX / 2}),
                               absl::StrCat("the padding is ", INT64_MAX / 2)),
      error_sample<ValueError>("absurd dilation", {normal(x), normal(w)},
                               call({.padding = kSame, .dilation = INT64_MAX}),
                               absl::StrCat("the dilation is ", INT64_MAX)),
      error_sample<ValueError>("same with a stride", {normal(x), normal(w)},
                               call({.stride = 2, .padding = kSame}),
                               "padding kSame needs stride 1"),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 2), testing::integers(w, 0, 2)},
                               call({}), op + "input 0 is int64" + x.str()),
      error_sample<DTypeError>(
          "types", {normal(x), normal(w)},
          [](const Tensor& a, const Tensor& b) {
            const Tensor in[] = {a, b.detach().to(kFloat32)};
            return testing::call_conv(in, ConvOptions<D>{});
          },
          op + "input 0 is float64" + x.str() + ", input 1 is float32"),
  };
}

template <int D>
OpSamples conv_samples(const std::vector<Case<D>>& cases,
                       std::function<std::vector<Case<D>>(int64_t)> sized) {
  OpSamples s{.op = absl::StrCat("conv", D, "d")};
  for (const Case<D>& c : cases) s.samples.push_back(conv_sample<D>(c));
  s.sized = [sized](int64_t n) {
    std::vector<Sample> all;
    for (const Case<D>& c : sized(n)) all.push_back(conv_sample<D>(c));
    return all;
  };
  s.sizes = {0, 1, 2, 3, 5, 8, 13, 14, 15, 16, 17, 30, 33, 62, 65, 129};
  s.errors = conv_errors<D>();
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kConv1d{"conv1d", [] {
                                return conv_samples<1>(
                                    {{{2, 5}, {3, 2, 3}},
                                     {{2, 5}, {3, 2, 3}, {}, true},
                                     {{2, 2, 5}, {3, 2, 2}, {.stride = 2}, true},
                                     {{4, 6}, {2, 2, 3}, {.padding = 2, .groups = 2}, true},
                                     {{3, 7}, {3, 1, 3}, {.dilation = 2, .groups = 3}},
                                     {{1, 8}, {1, 1, 3}, {.stride = 3, .padding = 1}},
                                     {{2, 1}, {2, 2, 1}, {}, true},
                                     {{1, 2}, {1, 1, 2}, {.padding = 4}},
                                     {{0, 2, 5}, {3, 2, 3}, {}, true}},
                                    [](int64_t n) -> std::vector<Case<1>> {
                                      return {{{2, n + 3}, {3, 2, 3}, {}, true},
                                              {{2, n + 5}, {2, 1, 5}, {.groups = 2}},
                                              {{3, n + 1}, {2, 3, 1}}};
                                    });
                              }};

const RegisterSamples kConv2d{
    "conv2d", [] {
      return conv_samples<2>({{{2, 4, 5}, {3, 2, 3, 2}},
                              {{2, 4, 5}, {3, 2, 3, 2}, {}, true},
                              {{2, 2, 4, 4}, {2, 2, 3, 3}, {.padding = 1}, true},
                              {{1, 5, 6}, {2, 1, 2, 3}, {.stride = {2, 3}, .padding = {1, 2}}},
                              {{4, 4, 3}, {4, 2, 2, 2}, {.groups = 2}, true},
                              {{3, 4, 4}, {6, 1, 3, 3}, {.padding = 1, .groups = 3}, true},
                              {{2, 6, 5}, {1, 2, 2, 2}, {.stride = 2, .dilation = {3, 2}}},
                              {{3, 3, 3}, {2, 3, 1, 1}, {}, true},
                              {{3, 4, 4}, {2, 3, 1, 1}, {.stride = 2}},
                              {{1, 2, 2}, {1, 1, 2, 2}, {.padding = 3}},
                              {{0, 2, 4, 4}, {3, 2, 3, 3}, {}, true}},
                             [](int64_t n) -> std::vector<Case<2>> {
                               return {{{3, 5, n + 3}, {4, 3, 3, 3}, {.padding = 1}, true},
                                       {{2, 6, n + 5}, {2, 1, 5, 5}, {.groups = 2}},
                                       {{n + 1, 3, 4}, {5, n + 1, 3, 3}, {.padding = 1}},
                                       {{2, 4, n + 2}, {n + 1, 2, 1, 1}},
                                       {{3, 7, n + 7}, {2, 3, 7, 7}, {.stride = 2, .padding = 3}}};
                             });
    }};

const RegisterSamples kConv3d{
    "conv3d", [] {
      return conv_samples<3>(
          {{{2, 3, 2, 3}, {2, 2, 2, 2, 2}, {}, true},
           {{2, 1, 2, 3, 3}, {2, 1, 1, 2, 3}, {.padding = {0, 1, 1}}},
           {{2, 3, 3, 2}, {2, 1, 2, 2, 1}, {.stride = {1, 2, 1}, .groups = 2}, true},
           {{1, 5, 3, 3}, {1, 1, 3, 2, 2}, {.padding = {1, 0, 1}, .dilation = {2, 1, 2}}},
           {{0, 1, 2, 2, 2}, {1, 1, 2, 2, 2}, {}, true}},
          [](int64_t n) -> std::vector<Case<3>> {
            return {{{2, 3, 4, n + 3}, {2, 2, 3, 3, 3}, {.padding = 1}, true}};
          });
    }};

// ---- the gradient by the weight
// ------------------------------------------------------------------

template <int D>
Tensor call_grad_weight(const Tensor& x, const Tensor& dy, const PerAxis<D>& kernel,
                        const ConvOptions<D>& o) {
  if constexpr (D == 1) return conv1d_grad_weight(x, dy, kernel, o);
  if constexpr (D == 2) return conv2d_grad_weight(x, dy, kernel, o);
  if constexpr (D == 3) return conv3d_grad_weight(x, dy, kernel, o);
}

template <int D>
OpSamples grad_weight_samples(const std::vector<Case<D>>& cases) {
  OpSamples s{.op = absl::StrCat("conv", D, "d_grad_weight")};
  for (const Case<D>& c : cases) {
    const auto r = testing::ref_conv(c.options);
    PerAxis<D> kernel = 1;
    for (int d = 0; d < D; ++d) kernel[d] = c.weight[2 + d];
    s.samples.push_back({.name = absl::StrCat(c.x.str(), " ", c.weight.str(), " ", r.str()),
                         .inputs = {normal(c.x), normal(conv_result(r, c.x, c.weight))},
                         .call =
                             [o = c.options, kernel](const Tensor& x, const Tensor& dy) {
                               return call_grad_weight(x, dy, kernel, o);
                             },
                         .reference =
                             [r, w = c.weight](const RefArray& x, const RefArray& dy) {
                               return conv_grad_weight_by_definition(r, w, x, dy);
                             }});
  }
  Shape x{4};
  Shape dy{6};
  std::string threes = "[3";
  for (int d = 0; d < D; ++d) {
    x.push_back(5);
    dy.push_back(3);
    if (d > 0) threes += ",3";
  }
  threes += "]";
  const auto call = [](int64_t kernel, const ConvOptions<D>& o) {
    return [kernel, o](const Tensor& a, const Tensor& b) {
      return call_grad_weight(a, b, PerAxis<D>(kernel), o);
    };
  };
  s.errors = {
      error_sample<ShapeError>("size", {normal(x), normal(x)}, call(3, {}),
                               "of a kernel " + threes + " dy must be [4,3"),
      error_sample<ShapeError>("rank", {normal(x), normal({1, 2, 3, 4, 5, 6})}, call(3, {}),
                               absl::StrCat("dy must have rank ", D + 1, ", not 6")),
      error_sample<ShapeError>("groups", {normal(x), normal(dy)}, call(3, {.groups = 3}),
                               "the channels 4 and 6 must be multiples of groups=3"),
      error_sample<ShapeError>("kernel", {normal(x), normal(dy)}, call(0, {}), "the kernel is [0"),
      error_sample<ValueError>("stride", {normal(x), normal(dy)}, call(3, {.stride = -2}),
                               "the stride is -2"),
      error_sample<DTypeError>("types", {normal(x), testing::integers(dy, 0, 2)}, call(3, {}),
                               "_grad_weight: input 1 is int64"),
  };
  s.no_scalar = "there is a channel axis";
  return s;
}

const RegisterSamples kConv1dGradWeight{
    "conv1d_grad_weight", [] {
      return grad_weight_samples<1>({{{2, 5}, {3, 2, 3}},
                                     {{2, 2, 6}, {2, 2, 2}, {.stride = 2, .padding = 1}},
                                     {{4, 6}, {2, 2, 3}, {.dilation = 2, .groups = 2}},
                                     {{0, 2, 5}, {3, 2, 3}}});
    }};
const RegisterSamples kConv2dGradWeight{
    "conv2d_grad_weight", [] {
      return grad_weight_samples<2>(
          {{{2, 4, 5}, {3, 2, 3, 2}},
           {{2, 2, 4, 4}, {2, 2, 3, 3}, {.padding = 1}},
           {{2, 5, 6}, {2, 1, 2, 2}, {.stride = {2, 3}, .padding = {0, 1}, .groups = 2}},
           {{1, 6, 5}, {1, 1, 2, 2}, {.stride = 2, .dilation = {3, 2}}},
           {{0, 2, 4, 4}, {3, 2, 3, 3}}});
    }};
const RegisterSamples kConv3dGradWeight{
    "conv3d_grad_weight", [] {
      return grad_weight_samples<3>({{{2, 3, 2, 3}, {2, 2, 2, 2, 2}},
                                     {{2, 1, 2, 3, 3}, {1, 1, 1, 2, 3}, {.padding = {0, 1, 1}}},
                                     {{0, 1, 2, 2, 2}, {1, 1, 2, 2, 2}}});
    }};

// ---- what the samples do not say
// -----------------------------------------------------------------

TEST(Conv, SamePaddingKeepsTheSizeForEvenKernelsToo) {
  for (const int64_t k : {1, 2, 3, 4}) {
    for (const int64_t dilation : {1, 2, 3}) {
      const Tensor x = normal({2, 9, 7});
      const Tensor w = normal({3, 2, k, k});
      const Tensor y = conv2d(x, w, {}, {.padding = kSame, .dilation = dilation});
      ASSERT_EQ(y.shape(), (Shape{3, 9, 7})) << k << " " << dilation;
      const int64_t total = dilation * (k - 1);
      const int64_t before = total / 2;
      const Tensor padded = pad(x, {before, total - before, before, total - before});
      const Tensor want = conv2d(padded, w, {}, {.padding = kValid, .dilation = dilation});
      const auto a = y.to_vector<double>();
      const auto b = want.to_vector<double>();
      for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-12);
    }
  }
}

TEST(Conv, SamePaddingHasGradientsOfBothOrders) {
  OpSamples s{.op = "conv2d"};
  s.samples = {{.name = "even kernel",
                .inputs = {normal({1, 4, 3}), normal({2, 1, 2, 4})},
                .call =
                    [](const Tensor& x, const Tensor& w) {
                      return conv2d(x, w, {}, {.padding = kSame, .dilation = {1, 1}});
                    },
                .no_reference = "compared with padding above"}};
  s.no_empty = s.no_scalar = s.no_errors = "the op's samples have them";
  EXPECT_NO_THROW(testing::check_samples(*find_op("conv2d"), s));
}

TEST(Conv, ResultsTooLargeToAddressAreAnErrorThatNamesThem) {
  const Tensor x = zeros({1, 4, 4, 4});
  const Tensor w = zeros({1, 1, 1, 1, 1});
  try {
    (void)conv3d(x, w, {}, {.padding = 1 << 29});
    FAIL() << "nothing was thrown";
  } catch (const ShapeError& e) {
    EXPECT_NE(std::string(e.what()).find("padding [536870912,536870912,536870912]"),
              std::string::npos)
        << e.what();
    EXPECT_NE(std::string(e.what()).find("more than can be addressed"), std::string::npos);
  }
}

// Beyond the arrays that the caller sees, a pass takes at most four times the weights and 1 MB for
// each thread.
void check_memory(int threads) {
  struct Layer {
    Shape x;
    Shape w;
    ConvOptions<2> options;
  };
  for (const Layer& l : std::vector<Layer>{{{3, 32, 32}, {16, 3, 5, 5}, {}},
                                           {{16, 64, 64}, {16, 16, 3, 3}, {.padding = 1}},
                                           {{64, 56, 56}, {64, 64, 3, 3}, {.padding = 1}},
                                           {{256, 7, 7}, {256, 256, 3, 3}, {.padding = 1}},
                                           {{64, 28, 28}, {256, 64, 1, 1}, {}},
                                           {{3, 112, 112}, {64, 3, 7, 7}, {.stride = 2}},
                                           {{32, 56, 56}, {32, 1, 3, 3}, {.groups = 32}},
                                           {{4, 8, 16, 16}, {8, 8, 9, 9}, {.padding = 4}}}) {
    const Tensor x = variable(normal(l.x).to(kFloat32));
    const Tensor w = variable(normal(l.w).to(kFloat32));
    const int64_t weights = w.numel() * 4;
    const int64_t bound = (4 * weights + (1 << 20)) * threads;
    // What the pool gives for so many bytes: its sizes grow by a quarter.
    const auto rounded = [](int64_t bytes) { return bytes + bytes / 4 + 256; };
    Tensor y = conv2d(x, w, {}, l.options);
    const Tensor dy = ones_like(y);
    y = Tensor();
    int64_t before = memory_stats().live_bytes;
    reset_peak_memory();
    y = conv2d(x, w, {}, l.options);
    EXPECT_LE(memory_stats().peak_bytes - before - rounded(y.numel() * 4), rounded(bound))
        << l.x.str();

    before = memory_stats().live_bytes;
    reset_peak_memory();
    {
      const std::vector<Tensor> both = grad({y}, {x, w}, {}, {dy});
      EXPECT_LE(memory_stats().peak_bytes - before - rounded(x.numel() * 4) - rounded(weights),
                rounded(bound))
          << l.x.str();
    }
  }
}

TEST(Conv, NeedsLittleMemoryBesidesItsResults) {
  const int before = num_threads();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    check_memory(threads);
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace ebb
