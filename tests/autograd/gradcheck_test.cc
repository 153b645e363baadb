// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/gradcheck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ebb/ops/elementwise.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::AllOf;
using ::testing::HasSubstr;

// y = x^3 with a first derivative that is wrong by the factor given, or only its own derivative.
struct Cube : test::OneInput {
  static constexpr OpDoc kDoc{"cube", "y = x^3", "x:[...] -> y:[...]"};
  struct Attrs {
    double first = 1;
    bool second = true;
  };
  static constexpr GradUses uses(int) { return {.in = 1}; }
  static Metas infer(const Attrs&, Span<const Meta> in) { return {in[0]}; }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    for (int64_t k = 0; k < in[0].numel(); ++k) {
      const double x = in[0].data<double>()[k];
      out[0].mutable_data<double>()[k] = x * x * x;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor x = s.in(0);
    const Tensor other = a.second ? x : x.detach();  // a factor that forgets where it came from
    return {g[0] * x * other * (3 * a.first)};
  }
};

Tensor cube(const Tensor& x, Cube::Attrs attrs) { return apply_with<Cube>(attrs, x); }

template <class F>
std::string failure(F&& f) {
  try {
    f();
  } catch (const GradError& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(GradCheck, AcceptsRightGradients) {
  const auto f = [](const Tensor& x) { return exp(x) * x / (1 + x * x); };
  const Tensor x = of({-1.5, 0.25, 2});
  EXPECT_LT(gradcheck(f, x), 1e-9);
  EXPECT_LT(gradgradcheck(f, x), 1e-9);
}

TEST(GradCheck, NumericValuesAreAccurate) {
  // 1/x at 0.1 has a fifth derivative of 10^8: plain differences would not do.
  const auto f = [](const Tensor& x) { return 1.0 / x; };
  EXPECT_LT(gradcheck(f, of({0.1, -0.2})), 1e-8);
  const auto large = [](const Tensor& x) { return x * x; };
  EXPECT_LT(gradcheck(large, of({1e6, -3e5})), 1e-9);
}

TEST(GradCheck, SeesAFirstDerivativeOffByAFewMillionths) {
  EXPECT_THAT(failure([] {
                gradcheck([](const Tensor& x) { return cube(x, {1 + 3e-6}); }, of({1, 2}));
              }),
              AllOf(HasSubstr("gradcheck: input 0 float64[2], element [1] at 2: numeric "),
                    HasSubstr("analytic"), HasSubstr("1 of 2 elements fail")));
  gradcheck([](const Tensor& x) { return cube(x, {1 + 3e-7}); }, of({1, 2}));
  gradcheck([](const Tensor& x) { return cube(x, {1 + 3e-6}); }, of({1, 2}), {.rtol = 1e-5});
}

TEST(GradCheck, SeesAWrongSecondDerivative) {
  const auto f = [](const Tensor& x) { return cube(x, {.second = false}); };
  EXPECT_LT(gradcheck(f, of({1, 2})), 1e-9);
  EXPECT_THAT(failure([&] {
                gradgradcheck(f, of({1, 2}));
              }),
              HasSubstr("gradgradcheck: input 0 float64[2]"));
}

TEST(GradCheck, NamesInputAndCotangent) {
  const auto f = [](Span<const Tensor> x) { return x[0] + cube(x[1], {1.01}); };
  const std::vector<Tensor> x = {of({1}), of({2, 3})};
  EXPECT_THAT(failure([&] { gradcheck(f, x); }), HasSubstr("input 1 float64[2]"));
  // A rule that is not linear in its cotangent.
  const auto hooked = [](const Tensor& z) {
    const Tensor y = z * 1;
    if (y.requires_grad()) y.register_hook([](const Tensor& g) { return (g * g).detach(); });
    return y * 2;
  };
  EXPECT_THAT(failure([&] {
                gradgradcheck(hooked, of({1, 2}));
              }),
              HasSubstr("cotangent of result 0"));
}

TEST(GradCheck, MissingGradientIsSeen) {
  EXPECT_THAT(failure([] {
                gradcheck([](const Tensor& x) { return x * x.detach(); }, of({1, 2}));
              }),
              HasSubstr("elements fail"));
  EXPECT_THAT(failure([] {
                gradcheck([](const Tensor& x) { return x.detach() * 3; }, of({1, 2}));
              }),
              HasSubstr("analytic 0"));
}

TEST(GradCheck, NotANumberFails) {
  EXPECT_THAT(failure([] {
                gradcheck([](const Tensor& x) { return log(x); }, of({1, -2}));
              }),
              HasSubstr("element [1]"));
}

TEST(GradCheck, IntegersAreLeftAloneAndFloat32Refused) {
  const Tensor ids(Array::zeros(kInt64, {2}));
  const std::vector<Tensor> x = {of({1, 2}), ids};
  gradcheck([](Span<const Tensor> z) { return std::vector<Tensor>{z[0] * 2, z[1]}; }, x);
  try {
    gradcheck([](const Tensor& z) { return z * 2; }, Tensor(Array::zeros(kFloat32, {2})));
    FAIL();
  } catch (const DTypeError& e) {
    EXPECT_THAT(e.what(), HasSubstr("input 0 is float32[2]"));
  }
}

TEST(GradCheck, NothingToCheck) {
  EXPECT_EQ(gradcheck([](const Tensor& x) { return x * 2; }, Tensor(Array::zeros(kFloat64, {0}))),
            0);
  EXPECT_EQ(gradgradcheck([](const Tensor&) { return of({1}); }, of({1, 2})), 0);
}

TEST(GradCheck, InputsStayAsTheyWere) {
  const Tensor x = of({1, 2});
  gradcheck([](const Tensor& z) { return z * z; }, x);
  EXPECT_EQ(x.to_vector<double>(), (std::vector<double>{1, 2}));
  EXPECT_EQ(x.value().version(), 0u);
}

}  // namespace
}  // namespace ebb
