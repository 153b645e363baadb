// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/testing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"

// That the checks of ops find what is wrong with an op: one fault at a time.
namespace ebb {
namespace {

using ::testing::AllOf;
using testing::check_op;
using testing::CheckFailure;
using ::testing::HasSubstr;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::Sample;

enum class Fault {
  kNone,
  kRule,         // the rule is off by 1e-5
  kSecondOrder,  // the rule forgets where a factor came from
  kValues,       // backward_values is not the rule
  kOneInput,     // backward_values is wrong where only input 1 wants a gradient
  kUses,         // uses() does not name what the rule reads
  kFloat32,      // float32 is wrong at the end of a row
  kStrides,      // reads a strided input as if it were contiguous
  kInput,        // writes to its input
  kFormula,      // no formula
  kCost,         // the cost is not a number
  kLeak,         // keeps memory when there is none left
};

// y = a b, elementwise, in plain loops.
template <Fault fault>
struct Product {
  static constexpr OpDoc kDoc{"product", fault == Fault::kFormula ? "" : "y = a b, elementwise",
                              "a:[...] b:[...] -> y:[...]"};
  struct Attrs {};
  static constexpr GradUses uses(int i) {
    if (fault == Fault::kUses) return {.in = detail::bit(i)};
    return {.in = detail::bit(1 - i)};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    if (in[0].shape != in[1].shape) {
      throw ShapeError(
          absl::StrCat("product: a is ", in[0].shape.str(), ", b is ", in[1].shape.str()));
    }
    return {in[0]};
  }
  static Array plain(const Array& x) {
    if (fault != Fault::kStrides || x.is_contiguous()) return contiguous(x);
    int64_t strides[kMaxRank];
    int64_t stride = 1;
    for (int i = x.rank() - 1; i >= 0; --i) {
      strides[i] = stride;
      stride *= x.size(i);
    }
    return copy(x.view(x.shape(), strides, 0));
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    if constexpr (fault == Fault::kLeak) {
      try {
        (void)Array::empty_like(out[0]);
      } catch (const MemoryError&) {
        kept() = out[0];
        throw;
      }
    }
    const Array a = plain(in[0]);
    const Array b = plain(in[1]);
    visit_differentiable(a.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t k = 0; k < a.numel(); ++k) {
        T y = a.data<T>()[k] * b.data<T>()[k];
        if (fault == Fault::kFloat32 && sizeof(T) == 4 && k == a.numel() - 1) y += y / 1000;
        out[0].mutable_data<T>()[k] = y;
      }
      if (fault == Fault::kInput && a.numel() > 0) a.mutable_data<T>()[0] += 1;
    });
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const double factor = fault == Fault::kRule ? 1 + 1e-5 : 1;
    const Tensor a = s.needs(1) ? s.in(0) : Tensor();
    const Tensor b = s.needs(0) ? s.in(1) : Tensor();
    return {s.needs(0) ? g[0] * (fault == Fault::kSecondOrder ? b.detach() : b) * factor : Tensor(),
            s.needs(1) ? g[0] * a * factor : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Array gy = contiguous(g[0]);
    for (int i = 0; i < 2; ++i) {
      if (!s.needs(i)) continue;
      const Array other = contiguous(s.in_array(1 - i));
      const Array gx = Array::empty_like(gy);
      const bool wrong = (fault == Fault::kValues && i == 1) ||
                         (fault == Fault::kOneInput && i == 1 && !s.needs(0));
      const double factor = wrong ? 2 : fault == Fault::kRule ? 1 + 1e-5 : 1;
      visit_differentiable(gy.dtype(), [&](auto t) {
        using T = decltype(t);
        for (int64_t k = 0; k < gy.numel(); ++k) {
          gx.mutable_data<T>()[k] = static_cast<T>(factor * gy.data<T>()[k] * other.data<T>()[k]);
        }
      });
      sink.add(i, gx);
    }
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta>) {
    return {.multiply_adds =
                fault == Fault::kCost ? NAN : static_cast<double>(in[0].shape.numel())};
  }
  static Array& kept() {
    static Array a;
    return a;
  }
};

template <class F>
std::string failure(F&& f) {
  try {
    f();
  } catch (const CheckFailure& e) {
    return e.what();
  }
  return "nothing was found";
}

template <Fault fault>
std::string found() {
  testing::restart_inputs();
  return failure([] { check_op<Product<fault>>({normal({3, 4}), normal({3, 4})}); });
}

TEST(CheckOp, FindsEachFault) {
  EXPECT_EQ(found<Fault::kNone>(), "nothing was found");
  EXPECT_THAT(found<Fault::kRule>(), HasSubstr("sample 'given', gradient: "));
  EXPECT_THAT(found<Fault::kRule>(), HasSubstr("gradcheck: input 0 float64[3,4], element ["));
  EXPECT_THAT(found<Fault::kSecondOrder>(), HasSubstr("second-order gradient: "));
  EXPECT_THAT(found<Fault::kValues>(), HasSubstr("grad() with create_graph against grad(): "));
  EXPECT_THAT(found<Fault::kOneInput>(), HasSubstr("where it is the only one, against grad(): "));
  EXPECT_THAT(found<Fault::kUses>(), HasSubstr("reads input 1, which uses() does not name"));
  EXPECT_THAT(found<Fault::kFloat32>(),
              AllOf(HasSubstr("float32 on "), HasSubstr("result 0 [3,4]: element [2,3] is ")));
  EXPECT_THAT(found<Fault::kStrides>(), HasSubstr("layout: input 0 laid out as 'inner stride 2'"));
  EXPECT_THAT(found<Fault::kInput>(), HasSubstr("input 0 was overwritten"));
  EXPECT_THAT(found<Fault::kFormula>(), HasSubstr("kDoc has no formula"));
  EXPECT_THAT(found<Fault::kCost>(), HasSubstr("cost: nan multiply-adds"));
  EXPECT_THAT(found<Fault::kLeak>(), HasSubstr("live_bytes went from "));
  Product<Fault::kLeak>::kept() = Array();
}

TEST(CheckOp, ReferenceIsUsedWhereGiven) {
  const auto with = [](double factor) {
    return failure([=] {
      check_op<Product<Fault::kNone>>({normal({3}), normal({3})}, {},
                                      {.reference = [=](const RefArray& a, const RefArray& b) {
                                        RefArray y = a;
                                        for (size_t k = 0; k < y.v.size(); ++k)
                                          y.v[k] *= b.v[k] * factor;
                                        return y;
                                      }});
    });
  };
  EXPECT_EQ(with(1), "nothing was found");
  EXPECT_THAT(with(1 + 1e-10), HasSubstr("value against the reference: result 0 [3]: element ["));
}

TEST(CheckOp, AttributesAndReasons) {
  struct Options {
    static std::string run(Sample options) {
      return failure([&] {
        check_op<Product<Fault::kSecondOrder>>({normal({2}), normal({2})}, {}, std::move(options));
      });
    }
  };
  EXPECT_THAT(Options::run({}), HasSubstr("second-order"));
  EXPECT_EQ(Options::run({.no_second_order = "on purpose"}), "nothing was found");
  EXPECT_THAT(Options::run({.no_gradient = "wrongly claimed"}),
              HasSubstr("a result carries a gradient, though the sample says none does"));
}

// --- samples --------------------------------------------------------------------------------

using Good = Product<Fault::kNone>;

Tensor product(const Tensor& a, const Tensor& b) { return apply<Good>(a, b); }

Sample product_sample(const Shape& shape) {
  return {.name = shape.str(),
          .inputs = {normal(shape), normal(shape)},
          .call = &product,
          .reference = [](const RefArray& a, const RefArray& b) {
            RefArray y = a;
            for (size_t k = 0; k < y.v.size(); ++k) y.v[k] *= b.v[k];
            return y;
          }};
}

OpSamples good_samples() {
  OpSamples s;
  s.op = "product";
  for (const Shape& shape : {Shape{2, 3}, Shape{}, Shape{0, 2}}) {
    s.samples.push_back(product_sample(shape));
  }
  s.errors.push_back(testing::error_sample<ShapeError>("shapes", {normal({2}), normal({3})},
                                                       &product, "product: a is [2], b is [3]"));
  s.sized = [](int64_t n) { return std::vector<Sample>{product_sample({n})}; };
  return s;
}

std::string check(const OpSamples& s) {
  return failure([&] { testing::check_samples(kOpDef<Good>, s); });
}

TEST(CheckSamples, AcceptsGoodOnes) { EXPECT_EQ(check(good_samples()), "nothing was found"); }

TEST(CheckSamples, DemandsEmptyScalarAndErrors) {
  OpSamples s = good_samples();
  s.samples.resize(1);
  s.errors.clear();
  EXPECT_THAT(check(s), AllOf(HasSubstr("none has an input without elements"),
                              HasSubstr("none has an input of rank 0"),
                              HasSubstr("no call is an error; if there can be none, say why in "
                                        "no_errors")));
  s.no_empty = s.no_scalar = s.no_errors = "because";
  EXPECT_EQ(check(s), "nothing was found");
  s.samples.clear();
  EXPECT_THAT(check(s), HasSubstr("samples: there are none"));
}

TEST(CheckSamples, DemandsAReference) {
  OpSamples s = good_samples();
  s.samples[0].reference = {};
  EXPECT_THAT(check(s), HasSubstr("say why in no_reference"));
}

TEST(CheckSamples, DemandsTheOp) {
  OpSamples s = good_samples();
  s.samples[0].call = [](const Tensor& a, const Tensor& b) { return a * b; };
  EXPECT_THAT(check(s), HasSubstr("sample '[2,3]', tape: no node 'product' was recorded"));
}

TEST(CheckSamples, SweepsOverSizes) {
  OpSamples s = good_samples();
  s.sized = [](int64_t n) {
    Sample x = product_sample({n});
    const auto right = x.call;
    x.call = [right](Span<const Tensor> in) {
      std::vector<Tensor> y = right(in);
      // As a kernel would that forgets its tail.
      if (y[0].dtype() == kFloat32 && y[0].numel() == 17) y[0] = y[0] * 1.001;
      return y;
    };
    x.name = absl::StrCat("size ", n);
    return std::vector<Sample>{x};
  };
  EXPECT_THAT(check(s), HasSubstr("sample 'size 17', float32 on "));
}

TEST(CheckSamples, ErrorsMustBeExact) {
  OpSamples s = good_samples();
  s.errors[0].message = "product: a is [2], b is [4]";
  EXPECT_THAT(check(s), HasSubstr("sample 'shapes', error: the ebb::ShapeError says 'product: a is "
                                  "[2], b is [3]', which lacks 'product: a is [2], b is [4]'"));
  s.errors[0] =
      testing::error_sample<DTypeError>("shapes", {normal({2}), normal({3})}, &product, "");
  EXPECT_THAT(check(s), HasSubstr("threw ebb::ShapeError, expected ebb::DTypeError"));
  s.errors[0] = testing::error_sample<Error>("shapes", {normal({2}), normal({3})}, &product, "");
  EXPECT_THAT(check(s), HasSubstr("threw ebb::ShapeError, expected ebb::Error"));
  s.errors[0] = testing::error_sample<ShapeError>("fine", {normal({2}), normal({2})}, &product, "");
  EXPECT_THAT(check(s), HasSubstr("nothing was thrown, expected ebb::ShapeError"));
}

TEST(CheckSamples, ErrorsMustChangeNothing) {
  OpSamples s = good_samples();
  const auto with = [&](testing::Call call) {
    s.errors[0] =
        testing::error_sample<ShapeError>("late", {normal({2}), normal({3})}, std::move(call), "");
    return check(s);
  };
  EXPECT_THAT(with([](const Tensor& a, const Tensor& b) { return product(a * 2, b); }),
              HasSubstr("after the ebb::ShapeError something was recorded"));
  static Tensor kept;
  EXPECT_THAT(with([](const Tensor& a, const Tensor& b) {
                kept = Tensor(copy(a.array()));
                return product(a, b);
              }),
              HasSubstr("after the ebb::ShapeError live_bytes went from"));
  kept = Tensor();
  EXPECT_THAT(with([](const Tensor& a, const Tensor& b) {
                a.array().mutable_data<double>()[0] += 1;
                return product(a, b);
              }),
              HasSubstr("input 0 was overwritten"));
}

TEST(CheckSamples, MemoryErrorsMayNotBeSwallowed) {
  OpSamples s = good_samples();
  s.samples[0].call = [](const Tensor& a, const Tensor& b) {
    try {
      return product(a, b);
    } catch (const MemoryError&) {
      throw ValueError("something went wrong");
    }
  };
  EXPECT_THAT(check(s),
              HasSubstr("memory limit: with 1 bytes left it threw ebb::ValueError instead "
                        "of MemoryError"));
}

TEST(Families, UnaryAndBinaryAndReduction) {
  // The families' own references must be able to fail.
  const auto unary = testing::unary_samples(
      "affine", [](const Tensor& x) { return x * 2; }, [](double x) { return 2 * x; });
  EXPECT_GE(unary.samples.size(), 6u);
  EXPECT_EQ(unary.samples[1].inputs[0].dim(), 0);
  std::set<std::string> names;
  for (const Sample& s : unary.samples) names.insert(s.name);
  EXPECT_EQ(names.size(), unary.samples.size());
  const RefArray x({2}, {1.5, 4});
  EXPECT_EQ(unary.samples[0].reference({{x}})[0].v, (std::vector<double>{3, 8}));

  const auto binary = testing::binary_samples(
      "sub", [](const Tensor& a, const Tensor& b) { return a - b; },
      [](double a, double b) { return a - b; });
  const RefArray a({2, 1}, {10, 20});
  const RefArray b({3}, {1, 2, 3});
  const RefArray y = binary.samples[0].reference({{a, b}})[0];
  EXPECT_EQ(y.shape, Shape({2, 3}));
  EXPECT_EQ(y.v, (std::vector<double>{9, 8, 7, 19, 18, 17}));

  const auto sum = testing::reduction_samples(
      "sum", [](const Tensor& t, Axes axes, bool keepdim) { return t.sum(axes, keepdim); },
      [](Span<const double> v) {
        double s = 0;
        for (const double t : v) s += t;
        return s;
      });
  const RefArray m({3, 4}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  EXPECT_EQ(sum.samples[1].reference({{m}})[0].v, (std::vector<double>{15, 18, 21, 24}));
  const RefArray kept = sum.samples[3].reference({{m}})[0];
  EXPECT_EQ(kept.shape, Shape({3, 1}));
  EXPECT_EQ(kept.v, (std::vector<double>{10, 26, 42}));
}

// --- inputs ---------------------------------------------------------------------------------

TEST(Inputs, RepeatAndDiffer) {
  testing::restart_inputs();
  const auto a = normal({5}).to_vector<double>();
  const auto b = normal({5}).to_vector<double>();
  EXPECT_NE(a, b);
  testing::restart_inputs();
  EXPECT_EQ(normal({5}).to_vector<double>(), a);
  EXPECT_EQ(normal({5}, 7).to_vector<double>(), normal({5}, 7).to_vector<double>());
  EXPECT_NE(normal({5}, 7).to_vector<double>(), normal({5}, 8).to_vector<double>());
}

TEST(Inputs, AreWhatTheySay) {
  for (const double v : normal({100}).to_vector<double>()) {
    EXPECT_EQ(v, static_cast<double>(static_cast<float>(v)));
  }
  for (const double v : testing::positive({100}).to_vector<double>()) {
    EXPECT_TRUE(v >= 0.5 && v <= 2);
  }
  for (const double v : testing::uniform_away_from({200}, -1, 1, {0, 0.5}).to_vector<double>()) {
    EXPECT_GE(std::abs(v), 0.05 - 1e-7);
    EXPECT_GE(std::abs(v - 0.5), 0.05 - 1e-7);
  }
  EXPECT_THROW(testing::uniform_away_from({1}, 0, 0.01, {0}), ValueError);
  auto d = testing::distinct({50}).to_vector<double>();
  std::sort(d.begin(), d.end());
  for (size_t i = 1; i < d.size(); ++i) EXPECT_GE(d[i] - d[i - 1], 2.0 / 50 - 1e-6);
  std::set<int64_t> seen;
  for (const int64_t v : testing::integers({200}, -2, 3).to_vector<int64_t>()) {
    EXPECT_TRUE(v >= -2 && v <= 3);
    seen.insert(v);
  }
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_EQ(testing::booleans({4}).dtype(), kBool);
  const Tensor m = testing::positive_definite({3, 3});
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_GE(m.array().at({i, i}), 1 - 1e-6);
    for (int64_t j = 0; j < 3; ++j) EXPECT_EQ(m.array().at({i, j}), m.array().at({j, i}));
  }
  EXPECT_THROW(testing::positive_definite({2, 3}), ShapeError);
}

TEST(RefArrays, IndexChecked) {
  RefArray a({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(a(1, 2), 6);
  a(0, 1) = 20;
  EXPECT_EQ(a.v[1], 20);
  EXPECT_THROW(a(2, 0), IndexError);
  EXPECT_THROW(a(1), IndexError);
  EXPECT_THROW(a(0, 0, 0), IndexError);
}

}  // namespace
}  // namespace ebb
