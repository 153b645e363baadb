// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/unary.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "ebb/tests/kernels/unary_reference.h"
#include "hwy/targets.h"

namespace ebb::kernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
template <class T>
using Limits = std::numeric_limits<T>;

template <class T>
void forward(const UnaryKernels& k, const T* x, T* y, size_t n, const UnaryParams& p) {
  if constexpr (sizeof(T) == 4) {
    k.forward32(x, y, n, p);
  } else {
    k.forward64(x, y, n, p);
  }
}
template <class T>
void backward(const UnaryKernels& k, const T* g, const T* x, const T* y, T* dx, size_t n,
              const UnaryParams& p) {
  if constexpr (sizeof(T) == 4) {
    k.backward32(g, x, y, dx, n, p);
  } else {
    k.backward64(g, x, y, dx, n, p);
  }
}

// Calls f once for each instruction set this machine has, with the kernels of that set in place.
template <class F>
void for_each_target(const F& f) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    reset_dispatch();
    f();
    hwy::SetSupportedTargetsForTest(0);
    reset_dispatch();
  }
}

// ---- error --------------------------------------------------------------------------------------

// Of what has no exponent, the least there is.
template <class T>
Real ulp(Real v) {
  const int exponent = v == 0 || std::isnan(v) ? Limits<T>::min_exponent : std::ilogb(v);
  return std::ldexp(Real{1},
                    std::max(exponent, Limits<T>::min_exponent - 1) - Limits<T>::digits + 1);
}

// Infinity counts as the number that would follow the largest: a value just below the point of
// overflow may become either.
template <class T>
Real bounded(Real v) {
  const Real end = std::ldexp(Real{1}, Limits<T>::max_exponent);
  return std::isnan(v) ? v : std::clamp(v, -end, end);
}

// |y - exact|; 0 if both are NaN, infinity if one is.
template <class T>
Real difference(T y, Real exact) {
  if (std::isnan(y) || std::isnan(exact)) {
    return std::isnan(y) && std::isnan(exact) ? 0 : reference::kInfinity;
  }
  return std::fabs(bounded<T>(y) - bounded<T>(exact));
}

// ---- points -------------------------------------------------------------------------------------

// Where some function changes its formula, has a kink or leaves its domain.
constexpr double kPlaces[] = {
    0,      0.25,  0.3466, 0.4142136, 0.5,    0.5493, 0.625,  0.6667, 0.7,    0.7071, 0.75,
    1,      1.125, 1.3333, 1.4142,    1.5708, 2,      2.4142, 3.1416, 3.93,   6,      10,
    10.2,   14.42, 17.3,   20,        27.3,   27.4,   38.6,   40,     88.722, 88.73,  89.4,
    103.97, 104.5, 126,    127,       128,    149,    150,    709.78, 709.79, 710.47, 745.13,
    746,    1022,  1023,   1024,      1074,   1075,   1.6e6,  1e20,   1e30,   kInf,   kNaN};

template <class T>
void add_places(std::vector<T>& points) {
  std::vector<T> places(std::begin(kPlaces), std::end(kPlaces));
  places.insert(places.end(), {Limits<T>::min(), Limits<T>::max(), Limits<T>::epsilon()});
  for (const T place : places) {
    for (int step = -4; step <= 4; ++step) {
      const T x = std::bit_cast<T>(static_cast<Bits<T>>(std::bit_cast<Bits<T>>(place) + step));
      points.push_back(x);
      points.push_back(-x);
    }
  }
}

template <class T>
std::vector<T> make_points();

// A sweep of all bit patterns.
template <>
std::vector<float> make_points<float>() {
  std::vector<float> points;
  constexpr uint64_t kStride = 128 * 257;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += kStride) {
    points.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  add_places(points);
  return points;
}

template <>
std::vector<double> make_points<double>() {
  std::vector<double> points;
  uint64_t state = 1;
  const auto next = [&state] {  // SplitMix64: G. L. Steele et al., OOPSLA 2014
    uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  };
  const auto uniform = [&next] {
    return 2 * std::ldexp(static_cast<double>(next() >> 11), -53) - 1;
  };
  for (int i = 0; i < 10000; ++i) {
    points.push_back(std::bit_cast<double>(next()));
    for (const double range : {1.5, 40.0, 760.0}) points.push_back(range * uniform());
    points.push_back(std::exp(60 * uniform()));
    points.push_back(1 + uniform() * std::exp(-30 * std::fabs(uniform())));
    // As near to a multiple of pi / 2 as a double is.
    points.push_back(static_cast<double>(next() % 1000000) * 1.5707963267948966);
  }
  add_places(points);
  return points;
}

template <class T>
const std::vector<T>& points() {
  static const std::vector<T> kPoints = make_points<T>();
  return kPoints;
}

// A parameter as the kernel sees it.
template <class T>
Real as_used(Unary op, double a) {
  return op == Unary::kPowScalar ? a : static_cast<T>(a);
}

class UnaryTest : public testing::TestWithParam<int> {
 protected:
  const Unary op_ = static_cast<Unary>(GetParam());
  const UnaryInfo& info_ = unary_info(op_);
  const UnaryReference reference_ = unary_reference(op_);

  void SetUp() override {
    ASSERT_NE(reference_.value, nullptr) << info_.name << " lacks a reference";
  }

  template <class T>
  void expect_values(double max_ulp) const {
    // What is lost where a factor of the result passes through the denormal numbers.
    constexpr Real kDenormals =
        (sizeof(T) == 4 ? 64 : 1024) * static_cast<Real>(Limits<T>::denorm_min());
    const std::vector<T>& x = points<T>();
    for (const UnaryParams& p : reference_.params) {
      SCOPED_TRACE(testing::Message() << "a=" << p.a << " b=" << p.b);
      const Real a = as_used<T>(op_, p.a), b = as_used<T>(op_, p.b);
      std::vector<Real> exact(x.size()), allowed(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        exact[i] = reference_.value(x[i], a, b);
        Real unit = ulp<T>(bounded<T>(exact[i]));
        if (reference_.magnifies && p.a != 1 && std::isfinite(x[i])) {
          unit = std::max(unit, std::fabs(reference_.derivative(x[i], a, b)) * ulp<T>(x[i]));
        }
        allowed[i] = max_ulp * unit + kDenormals;
      }
      for_each_target([&] {
        std::vector<T> y(x.size());
        forward(unary_kernels(op_), x.data(), y.data(), x.size(), p);
        for (size_t i = 0; i < x.size(); ++i) {
          ASSERT_LE(difference(y[i], exact[i]), allowed[i])
              << "x=" << x[i] << ": " << y[i] << ", not " << exact[i];
        }
      });
    }
  }

  template <class T>
  void expect_derivatives() const {
    constexpr Real kUlp = 6;
    const std::vector<T>& x = points<T>();
    std::vector<T> g(x.size());
    for (size_t i = 0; i < x.size(); ++i) g[i] = T{1} - T(i % 3);
    for (const UnaryParams& p : reference_.params) {
      SCOPED_TRACE(testing::Message() << "a=" << p.a << " b=" << p.b);
      const Real a = as_used<T>(op_, p.a), b = as_used<T>(op_, p.b);
      const bool magnifies = reference_.magnifies && p.a != 1;
      const Real scale = magnifies ? 1 : reference_.derivative_scale;
      std::vector<Real> exact(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        // Of what follows from y, nothing is expected where there is no y; and f' may overflow
        // early.
        const Real y = reference_.value(x[i], a, b);
        exact[i] = reference_.derivative(x[i], a, b);
        const bool defined =
            std::fabs(y) <= Limits<T>::max() && std::fabs(exact[i]) <= Limits<T>::max() / 8;
        if (!defined) exact[i] = reference::kInfinity;
      }
      for_each_target([&] {
        std::vector<T> y(x.size()), dx(x.size());
        forward(unary_kernels(op_), x.data(), y.data(), x.size(), p);
        const T* read_x = backward_reads_input(op_) ? x.data() : nullptr;
        const T* read_y = backward_reads_output(op_) ? y.data() : nullptr;
        backward(unary_kernels(op_), g.data(), read_x, read_y, dx.data(), x.size(), p);
        for (size_t i = 0; i < x.size(); ++i) {
          if (exact[i] == reference::kInfinity) continue;
          const Real unit = ulp<T>(std::max(std::fabs(exact[i]), scale));
          ASSERT_LE(difference(dx[i], exact[i] * g[i]), kUlp * unit + Limits<T>::min())
              << "x=" << x[i] << " g=" << g[i] << ": " << dx[i] << ", not " << exact[i] * g[i];
        }
      });
    }
  }
};

INSTANTIATE_TEST_SUITE_P(All, UnaryTest, testing::Range(0, kUnaryCount), [](const auto& test) {
  return std::string(unary_info(static_cast<Unary>(test.param)).name);
});

TEST_P(UnaryTest, ValueFloat32) { expect_values<float>(info_.ulp32); }
TEST_P(UnaryTest, ValueFloat64) { expect_values<double>(info_.ulp64); }
TEST_P(UnaryTest, DerivativeFloat32) { expect_derivatives<float>(); }
TEST_P(UnaryTest, DerivativeFloat64) { expect_derivatives<double>(); }

// The reference's derivative is that of its value: the central difference, away from kinks, which
// show in that the one-sided differences disagree.
TEST_P(UnaryTest, ReferenceDerivative) {
  int compared = 0;
  for (const UnaryParams& p : reference_.params) {
    for (int i = 0; i < 940; ++i) {
      const Real x = -9.987L + 0.0213L * i;
      constexpr Real kStep = 1e-6L;
      const Real left = reference_.value(x - kStep, p.a, p.b);
      const Real middle = reference_.value(x, p.a, p.b);
      const Real right = reference_.value(x + kStep, p.a, p.b);
      if (!std::isfinite(left) || !std::isfinite(right)) continue;
      const Real slope = (right - left) / (2 * kStep);
      const Real bend = std::fabs(right - 2 * middle + left) / kStep;
      if (bend > 1e-3L * (1 + std::fabs(slope))) continue;
      ++compared;
      ASSERT_NEAR(reference_.derivative(x, p.a, p.b), slope, 1e-6L * (1 + std::fabs(slope)))
          << "x=" << x;
    }
  }
  EXPECT_GT(compared, 50);
}

// ---- memory -------------------------------------------------------------------------------------

// An array that ends where the program's memory ends: one element more read or written is a crash.
template <class T>
class AtTheEdge {
 public:
  explicit AtTheEdge(const std::vector<T>& values)
      : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), n_(values.size()) {
    void* const pages =
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(static_cast<char*>(pages) + page_, page_, PROT_NONE) != 0) {
      throw std::bad_alloc();
    }
    memory_ = static_cast<unsigned char*>(pages);
    std::fill_n(memory_, page_, kCanary);
    std::copy(values.begin(), values.end(), data());
  }
  ~AtTheEdge() { munmap(memory_, 2 * page_); }
  AtTheEdge(const AtTheEdge&) = delete;
  AtTheEdge& operator=(const AtTheEdge&) = delete;

  T* data() { return reinterpret_cast<T*>(memory_ + page_) - n_; }
  bool front_is_intact() {
    return std::all_of(memory_, reinterpret_cast<unsigned char*>(data()),
                       [](unsigned char c) { return c == kCanary; });
  }

 private:
  static constexpr unsigned char kCanary = 0xA5;
  size_t page_, n_;
  unsigned char* memory_ = nullptr;
};

template <class T>
bool same(T a, T b) {
  return std::bit_cast<Bits<T>>(a) == std::bit_cast<Bits<T>>(b) || (std::isnan(a) && std::isnan(b));
}

template <class T>
void expect_same_everywhere(Unary op, const UnaryParams& p) {
  constexpr size_t kMost = 67;
  std::vector<T> x, g, y(kMost), dx(kMost);
  for (size_t i = 0; i < kMost; ++i) {
    const T place = static_cast<T>(kPlaces[(i * 5) % std::size(kPlaces)]);
    x.push_back(i % 2 == 0 ? place : static_cast<T>(-0.37) * place + static_cast<T>(0.01) * T(i));
    g.push_back(static_cast<T>(0.5) + T(i % 7));
  }
  const UnaryKernels& kernels = unary_kernels(op);
  for (size_t i = 0; i < kMost; ++i) {
    forward(kernels, &x[i], &y[i], 1, p);
    backward(kernels, &g[i], &x[i], &y[i], &dx[i], 1, p);
  }
  // The end of the page moves the start through all alignments of an element.
  for (size_t n = 0; n <= kMost; ++n) {
    const auto first_n = [n](const std::vector<T>& v) {
      return std::vector<T>(v.begin(), v.begin() + n);
    };
    AtTheEdge<T> in(first_n(x)), out(std::vector<T>(n, T{-1}));
    forward(kernels, in.data(), out.data(), n, p);
    AtTheEdge<T> gradient(first_n(g)), dout(std::vector<T>(n, T{-1}));
    backward(kernels, gradient.data(), in.data(), out.data(), dout.data(), n, p);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_PRED2(same<T>, out.data()[i], y[i]) << "n=" << n << " i=" << i << " x=" << x[i];
      ASSERT_PRED2(same<T>, dout.data()[i], dx[i]) << "n=" << n << " i=" << i << " x=" << x[i];
      ASSERT_PRED2(same<T>, in.data()[i], x[i]);
    }
    EXPECT_TRUE(out.front_is_intact() && dout.front_is_intact()) << "n=" << n;

    // dx over g, dx over what the derivative reads, y over x.
    AtTheEdge<T> over_x(first_n(x)), over_y(first_n(y));
    T* const over = backward_reads_output(op) ? over_y.data() : over_x.data();
    backward(kernels, gradient.data(), over_x.data(), over_y.data(), over, n, p);
    backward(kernels, gradient.data(), in.data(), out.data(), gradient.data(), n, p);
    forward(kernels, in.data(), in.data(), n, p);
    for (size_t i = 0; i < n; ++i) {
      ASSERT_PRED2(same<T>, over[i], dx[i]) << "n=" << n << " i=" << i;
      ASSERT_PRED2(same<T>, gradient.data()[i], dx[i]) << "n=" << n << " i=" << i;
      ASSERT_PRED2(same<T>, in.data()[i], y[i]) << "n=" << n << " i=" << i;
    }
  }
}

TEST_P(UnaryTest, NeitherPlaceNorLengthMatters) {
  for_each_target([&] {
    for (const UnaryParams& p : reference_.params) {
      expect_same_everywhere<float>(op_, p);
      expect_same_everywhere<double>(op_, p);
      if (HasFatalFailure()) return;
    }
  });
}

// A vector load at every byte offset: elements of T, but not vectors, are aligned.
TEST_P(UnaryTest, UnalignedPointers) {
  const UnaryParams p = reference_.params.front();
  for_each_target([&] {
    std::vector<float> x(64 + 16), expected(64), y(64 + 16);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.01f * static_cast<float>(i) + 0.1f;
    for (size_t offset = 0; offset < 16; ++offset) {
      for (size_t i = 0; i < 64; ++i) {
        forward(unary_kernels(op_), &x[offset + i], &expected[i], 1, p);
      }
      forward(unary_kernels(op_), x.data() + offset, y.data() + (15 - offset), 64, p);
      for (size_t i = 0; i < 64; ++i) {
        ASSERT_PRED2(same<float>, y[15 - offset + i], expected[i]) << "offset=" << offset;
      }
    }
  });
}

// ---- special values -----------------------------------------------------------------------------

struct Special {
  Unary op;
  double x, y;
  UnaryParams p = {};
};

template <class T>
void expect_special_values() {
  const Special specials[] = {
      {Unary::kExp, -kInf, 0},
      {Unary::kExp, kInf, kInf},
      {Unary::kExp, 0, 1},
      {Unary::kExp2, 10, 1024},
      {Unary::kExp2, -3, 0.125},
      {Unary::kExpm1, -kInf, -1},
      {Unary::kLog, 0, -kInf},
      {Unary::kLog, 1, 0},
      {Unary::kLog, -1, kNaN},
      {Unary::kLog, -kInf, kNaN},
      {Unary::kLog, kInf, kInf},
      {Unary::kLog1p, -1, -kInf},
      {Unary::kLog1p, -2, kNaN},
      {Unary::kLog2, 8, 3},
      {Unary::kLog2, 0.25, -2},
      {Unary::kLog10, 1000, 3},
      {Unary::kSqrt, -1, kNaN},
      {Unary::kSqrt, kInf, kInf},
      {Unary::kRsqrt, 0, kInf},
      {Unary::kRsqrt, kInf, 0},
      {Unary::kReciprocal, 0, kInf},
      {Unary::kTanh, kInf, 1},
      {Unary::kTanh, -kInf, -1},
      {Unary::kSigmoid, 0, 0.5},
      {Unary::kSigmoid, -1000, 0},
      {Unary::kSigmoid, 1000, 1},
      {Unary::kLogSigmoid, -1000, -1000},
      {Unary::kLogSigmoid, 1000, 0},
      {Unary::kSoftplus, 1000, 1000, {1, 20}},
      {Unary::kSoftplus, 1000, 1000, {1, 5000}},
      {Unary::kSoftplus, -1000, 0, {1, 20}},
      {Unary::kSilu, -kInf, 0},
      {Unary::kSilu, kInf, kInf},
      {Unary::kMish, -kInf, 0},
      {Unary::kMish, kInf, kInf},
      {Unary::kGelu, -kInf, 0},
      {Unary::kGelu, kInf, kInf},
      {Unary::kGeluTanh, -kInf, 0},
      {Unary::kGeluTanh, kInf, kInf},
      {Unary::kElu, -kInf, -1, {1, 0}},
      {Unary::kCelu, -kInf, -2, {2, 0}},
      {Unary::kHardsigmoid, -kInf, 0},
      {Unary::kHardsigmoid, kInf, 1},
      {Unary::kHardswish, -kInf, 0},
      {Unary::kHardswish, kInf, kInf},
      {Unary::kThreshold, -kInf, 5, {1, 5}},
      {Unary::kErf, kInf, 1},
      {Unary::kErfc, -kInf, 2},
      {Unary::kErfc, kInf, 0},
      {Unary::kSoftsign, -kInf, -1},
      {Unary::kCos, 0, 1},
      {Unary::kSin, kInf, kNaN},
      {Unary::kCos, -kInf, kNaN},
      {Unary::kAsin, 1.5, kNaN},
      {Unary::kAcos, -1.5, kNaN},
      {Unary::kAcosh, 0.5, kNaN},
      {Unary::kAcosh, -1e10, kNaN},
      {Unary::kAtanh, 1, kInf},
      {Unary::kAtanh, -2, kNaN},
      {Unary::kRound, 2.5, 2},
      {Unary::kRound, -3.5, -4},
      {Unary::kClamp, 9, 1, {3, 1}},
      {Unary::kPowScalar, kNaN, 1, {0, 0}},
      {Unary::kPowScalar, -2, -8, {3, 0}},
      {Unary::kPowScalar, -2, -32, {5, 0}},
      {Unary::kPowScalar, -2, 0.0625, {-4, 0}},
      {Unary::kPowScalar, -2, kNaN, {1.5, 0}},
      {Unary::kPowScalar, 0, kInf, {-2, 0}},
      {Unary::kPowScalar, 0.5, 0, {kInf, 0}},
      {Unary::kPowScalar, -1, 1, {kInf, 0}},
  };
  for (const Special& s : specials) {
    const T x = static_cast<T>(s.x);
    T y = 7;
    forward(unary_kernels(s.op), &x, &y, 1, s.p);
    EXPECT_PRED2(same<T>, y == 0 ? T{0} : y, static_cast<T>(s.y))
        << unary_info(s.op).name << " of " << s.x;
  }
}

TEST(UnarySpecialTest, Values) {
  for_each_target([] {
    expect_special_values<float>();
    expect_special_values<double>();
  });
}

TEST_P(UnaryTest, NaNStaysNaN) {
  for_each_target([&] {
    for (const UnaryParams& p : reference_.params) {
      const double x = op_ == Unary::kPowScalar && p.a == 0 ? 2 : kNaN;
      const float x32 = static_cast<float>(x);
      double y = 0;
      float y32 = 0;
      forward(unary_kernels(op_), &x, &y, 1, p);
      forward(unary_kernels(op_), &x32, &y32, 1, p);
      EXPECT_EQ(std::isnan(y), std::isnan(x)) << "a=" << p.a;
      EXPECT_EQ(std::isnan(y32), std::isnan(x)) << "a=" << p.a;
    }
  });
}

// No gradient passes where a function is constant, not even an infinite one.
TEST(UnarySpecialTest, ConstantPartsStopAnyGradient) {
  const Special specials[] = {
      {Unary::kSign, 3, 0},
      {Unary::kFloor, 0.5, 0},
      {Unary::kCeil, 0.5, 0},
      {Unary::kRound, 0.5, 0},
      {Unary::kTrunc, 0.5, 0},
      {Unary::kAbs, 0, 0},
      {Unary::kRelu, 0, 0},
      {Unary::kRelu, -2, 0},
      {Unary::kHardtanh, 1, 0, {-1, 1}},
      {Unary::kClamp, 2, 0, {-1, 1}},
      {Unary::kThreshold, 2, 0, {2, 1}},
      {Unary::kHardsigmoid, 3, 0},
      {Unary::kHardswish, -3, 0},
      {Unary::kSoftshrink, 0.5, 0, {0.5, 0}},
      {Unary::kHardshrink, -0.5, 0, {0.5, 0}},
      {Unary::kPowScalar, 2, 0, {0, 0}},
  };
  for_each_target([&] {
    for (const Special& s : specials) {
      for (const double g : {kInf, -kInf, kNaN}) {
        double y = 0, dx = 1;
        forward(unary_kernels(s.op), &s.x, &y, 1, s.p);
        backward(unary_kernels(s.op), &g, &s.x, &y, &dx, 1, s.p);
        EXPECT_EQ(dx, 0) << unary_info(s.op).name << " at " << s.x << ", g=" << g;
      }
    }
  });
}

// ---- dispatch -----------------------------------------------------------------------------------

TEST(UnaryDispatchTest, EachInstructionSetHasItsOwnKernels) {
  std::set<UnaryFn32> seen;
  for_each_target([&] { seen.insert(unary_kernels(Unary::kExp).forward32); });
  EXPECT_EQ(seen.size(), hwy::SupportedAndGeneratedTargets().size());
}

TEST(UnaryDispatchTest, TheListIsWhatTheKernelsAre) {
  std::set<std::string> names;
  for (int i = 0; i < kUnaryCount; ++i) {
    const Unary op = static_cast<Unary>(i);
    names.insert(unary_info(op).name);
    EXPECT_FALSE(backward_reads_input(op) && backward_reads_output(op));
    const UnaryKernels& k = unary_kernels(op);
    EXPECT_TRUE(k.forward32 && k.forward64 && k.backward32 && k.backward64) << unary_info(op).name;
  }
  EXPECT_EQ(names.size(), size_t{kUnaryCount});
  EXPECT_STREQ(unary_info(Unary::kNeg).name, "Neg");
  EXPECT_STREQ(unary_info(Unary::kExp).name, "Exp");
  EXPECT_STREQ(unary_info(Unary::kSin).name, "Sin");
  EXPECT_STREQ(unary_info(Unary::kPowScalar).name, "PowScalar");
}

}  // namespace
}  // namespace ebb::kernels
