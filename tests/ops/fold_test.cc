// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/fold.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/gradcheck.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/conv.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/shape.h"
#include "moving.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;

struct Case {
  Shape x;
  PerAxis<2> kernel;
  UnfoldOptions options = {};
};

const std::vector<Case> kCases = {
    {{2, 4, 5}, {2, 3}},
    {{2, 2, 3, 4}, 2, {.padding = 1}},
    {{1, 5, 6}, {2, 3}, {.padding = {1, 2}, .stride = {2, 3}}},
    {{2, 6, 5}, 2, {.dilation = {3, 2}, .stride = {1, 2}}},
    {{1, 1, 1}, 1},
    {{1, 1, 2}, {3, 2}, {.padding = {4, 3}}},
    {{0, 2, 3, 3}, 2},
};

// Calls f(image element, column element) for all of them that are no padding.
template <class F>
void for_each_pair(const Case& c, Shape* columns, F&& f) {
  const int r = c.x.rank();
  const int64_t batch = r == 4 ? c.x[0] : 1;
  const int64_t channels = c.x[r - 3], height = c.x[r - 2], width = c.x[r - 1];
  int64_t places[2];
  for (int d = 0; d < 2; ++d) {
    const int64_t n = d == 0 ? height : width;
    places[d] = (n + 2 * c.options.padding[d] - c.options.dilation[d] * (c.kernel[d] - 1) - 1) /
                    c.options.stride[d] +
                1;
  }
  const int64_t rows = channels * c.kernel[0] * c.kernel[1];
  const int64_t l = places[0] * places[1];
  *columns = r == 4 ? Shape{batch, rows, l} : Shape{rows, l};
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t at = 0; at < l; ++at) {
        const int64_t ch = row / (c.kernel[0] * c.kernel[1]);
        const int64_t i = at / places[1] * c.options.stride[0] - c.options.padding[0] +
                          row / c.kernel[1] % c.kernel[0] * c.options.dilation[0];
        const int64_t j = at % places[1] * c.options.stride[1] - c.options.padding[1] +
                          row % c.kernel[1] * c.options.dilation[1];
        if (i < 0 || i >= height || j < 0 || j >= width) continue;
        f(static_cast<size_t>(((n * channels + ch) * height + i) * width + j),
          static_cast<size_t>((n * rows + row) * l + at));
      }
    }
  }
}

Shape columns_of(const Case& c) {
  Shape s;
  for_each_pair(c, &s, [](size_t, size_t) {});
  return s;
}

std::vector<testing::ErrorSample> common_errors(const std::string& op, const Shape& x,
                                                Tensor (*f)(const Tensor&, PerAxis<2>,
                                                            const UnfoldOptions&)) {
  const auto call = [f](PerAxis<2> k, const UnfoldOptions& o) {
    return [=](const Tensor& t) { return f(t, k, o); };
  };
  return {
      error_sample<ShapeError>("rank", {normal({3})}, call(2, {}), op + ": x is [3]; it must be "),
      error_sample<ShapeError>("window", {normal(x)}, call(7, {.padding = 1}),
                               "kernel [7,7], stride [1,1], padding [1,1], dilation [1,1]; no "
                               "window fits an image of [4,4]"),
      error_sample<ValueError>("kernel", {normal(x)}, call(0, {}), "the kernel is 0"),
      error_sample<ValueError>("stride", {normal(x)}, call(2, {.stride = {1, 0}}),
                               "the stride is 0"),
      error_sample<ValueError>("padding", {normal(x)}, call(2, {.padding = -1}),
                               "the padding is -1"),
      error_sample<ValueError>("absurd dilation", {normal(x)}, call(2, {.dilation = INT64_MAX}),
                               absl::StrCat("the dilation is ", INT64_MAX)),
      error_sample<DTypeError>("integers", {testing::integers(x, 0, 1)}, call(2, {}),
                               op + ": input 0 is int64"),
  };
}

const RegisterSamples kUnfold{
    "unfold", [] {
      OpSamples s{.op = "unfold"};
      for (const Case& c : kCases) {
        s.samples.push_back(
            {.name = c.x.str(),
             .inputs = {normal(c.x)},
             .call = [=](const Tensor& x) { return unfold(x, c.kernel, c.options); },
             .reference =
                 [=](const RefArray& x) {
                   RefArray y(columns_of(c));
                   Shape shape;
                   for_each_pair(c, &shape,
                                 [&](size_t image, size_t column) { y.v[column] = x.v[image]; });
                   return y;
                 }});
      }
      s.errors = common_errors(
          "unfold", {2, 4, 4},
          [](const Tensor& x, PerAxis<2> k, const UnfoldOptions& o) { return unfold(x, k, o); });
      s.errors.push_back(error_sample<ShapeError>(
          "absurd padding", {normal({2, 4, 4})},
          [](const Tensor& x) { return unfold(x, 2, {.padding = 1 << 29}); },
          "more than can be addressed"));
      s.no_scalar = "there is a channel axis";
      return s;
    }};

const RegisterSamples kFold{
    "fold", [] {
      OpSamples s{.op = "fold"};
      for (const Case& c : kCases) {
        const int r = c.x.rank();
        const PerAxis<2> size{c.x[r - 2], c.x[r - 1]};
        s.samples.push_back(
            {.name = c.x.str(),
             .inputs = {normal(columns_of(c))},
             .call = [=](const Tensor& x) { return fold(x, size, c.kernel, c.options); },
             .reference =
                 [=](const RefArray& x) {
                   RefArray y(c.x);
                   Shape shape;
                   for_each_pair(c, &shape,
                                 [&](size_t image, size_t column) { y.v[image] += x.v[column]; });
                   return y;
                 }});
      }
      s.errors = common_errors(
          "fold", {8, 9},
          [](const Tensor& x, PerAxis<2> k, const UnfoldOptions& o) { return fold(x, 4, k, o); });
      s.errors.push_back(error_sample<ShapeError>(
          "columns", {normal({8, 10})}, [](const Tensor& x) { return fold(x, 4, 2); },
          "x.size(-2)=8 must be a multiple of 4 and x.size(-1)=10 must be 9"));
      s.errors.push_back(error_sample<ShapeError>(
          "rows", {normal({2, 7, 9})}, [](const Tensor& x) { return fold(x, 4, 2); },
          "x.size(-2)=7 must be a multiple of 4"));
      s.no_scalar = "there is a channel axis";
      return s;
    }};

TEST(Unfold, MakesAConvolutionAProduct) {
  const Tensor x = normal({3, 6, 7});
  const Tensor w = normal({4, 3, 3, 2});
  const Tensor y = mm(reshape(w, {4, 18}), unfold(x, {3, 2}, {.padding = 1, .stride = 2}));
  const Tensor want = conv2d(x, w, {}, {.stride = 2, .padding = 1});
  const auto a = y.to_vector<double>();
  const auto b = want.to_vector<double>();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12);
}

// ---- locally connected
// ---------------------------------------------------------------------------

TEST(LocallyConnected, HasAKernelForEachPlace) {
  for (const bool batched : {false, true}) {
    const Tensor x = batched ? normal({2, 2, 5, 6}) : normal({2, 5, 6});
    const Tensor w = normal({3, 3, 4, 2, 3, 2});
    const Tensor b = normal({4, 3, 3});
    const UnfoldOptions options{.padding = {1, 0}, .stride = 2};
    const Tensor y = locally_connected2d(x, w, b, options);
    const RefArray rx = testing::to_ref(x.array());
    const RefArray rw = testing::to_ref(w.array());
    const RefArray rb = testing::to_ref(b.array());
    const RefArray ry = testing::to_ref(y.array());
    ASSERT_EQ(ry.shape, batched ? (Shape{2, 4, 3, 3}) : (Shape{4, 3, 3}));
    for (int64_t n = 0; n < (batched ? 2 : 1); ++n) {
      for (int64_t o = 0; o < 4; ++o) {
        for (int64_t i = 0; i < 3; ++i) {
          for (int64_t j = 0; j < 3; ++j) {
            double want = rb(o, i, j);
            for (int64_t c = 0; c < 2; ++c) {
              for (int64_t p = 0; p < 3; ++p) {
                for (int64_t q = 0; q < 2; ++q) {
                  const int64_t row = 2 * i + p - 1;
                  const int64_t column = 2 * j + q;
                  if (row < 0 || row >= 5) continue;
                  want +=
                      rw(i, j, o, c, p, q) * (batched ? rx(n, c, row, column) : rx(c, row, column));
                }
              }
            }
            EXPECT_NEAR(batched ? ry(n, o, i, j) : ry(o, i, j), want, 1e-12);
          }
        }
      }
    }
  }
}

TEST(LocallyConnected, IsDifferentiableTwice) {
  const auto two = [](Span<const Tensor> x) {
    return std::vector<Tensor>{locally_connected2d(x[0], x[1], x[2])};
  };
  const auto one = [](Span<const Tensor> x) {
    return std::vector<Tensor>{locally_connected1d(x[0], x[1], x[2], {.padding = 1})};
  };
  const std::vector<Tensor> in2 = {normal({1, 3, 3}), normal({2, 2, 2, 1, 2, 2}),
                                   normal({2, 2, 2})};
  gradcheck(two, in2);
  gradgradcheck(two, in2);
  const std::vector<Tensor> in1 = {normal({2, 2, 3}), normal({3, 2, 2, 3}), normal({2, 3})};
  gradcheck(one, in1);
  gradgradcheck(one, in1);
}

TEST(LocallyConnected, WithEqualKernelsIsAConvolution) {
  const Tensor x = normal({2, 7});
  const Tensor w = normal({3, 2, 3});
  const Tensor y = locally_connected1d(x, expand(w, {5, 3, 2, 3}));
  const Tensor want = conv1d(x, w);
  const auto a = y.to_vector<double>();
  const auto b = want.to_vector<double>();
  ASSERT_EQ(y.shape(), want.shape());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-12);
}

TEST(LocallyConnected, SaysWhatDoesNotFit) {
  const auto message = [](auto&& f) {
    try {
      f();
    } catch (const ShapeError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(message([] {
              (void)locally_connected2d(normal({1, 4, 4}), normal({2, 2, 2, 1, 2, 2}));
            }),
            "locally_connected2d: x is [1,4,4], weight is [2,2,2,1,2,2]; x has 3 x 3 windows");
  EXPECT_NE(message([] {
              (void)locally_connected2d(normal({3, 4, 4}), normal({3, 3, 2, 1, 2, 2}));
            }).find("x must be [1,H,W] or [N,1,H,W]"),
            std::string::npos);
  EXPECT_NE(message([] {
              (void)locally_connected1d(normal({3}), normal({3, 3}));
            }).find("they must be [C,L]"),
            std::string::npos);
}

}  // namespace
}  // namespace ebb
