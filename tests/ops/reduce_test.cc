// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/reduce.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/reduce_util.h"

namespace ebb {
namespace {

using testing::Call;
using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::Reference;
using testing::RegisterSamples;
using testing::Sample;
using Numbers = Span<const double>;

constexpr double kInf = std::numeric_limits<double>::infinity();

// --- sums
// -----------------------------------------------------------------------------------

double total(Numbers v) { return std::accumulate(v.begin(), v.end(), 0.0); }
double count(Numbers v) { return static_cast<double>(v.size()); }

testing::ErrorSample half_is_error(const std::string& op, Call call) {
  return error_sample<DTypeError>("float16", {cast(testing::normal({2}), kFloat16)},
                                  std::move(call), op + ": ");
}

using Reduction3 = Tensor (*)(const Tensor&, Axes, bool, Where);

OpSamples reduction(const std::string& op, Reduction3 f, double (*reference)(Numbers),
                    testing::Range range = {}, const testing::ReductionOptions& options = {}) {
  OpSamples s = testing::reduction_samples(
      op,
      [f](const Tensor& x, Axes axes, bool keepdim) {
        return f(x, axes, keepdim, Where::current());
      },
      reference, range, options);
  s.errors.push_back(
      half_is_error(op, [f](const Tensor& x) { return f(x, {}, false, Where::current()); }));
  return s;
}

// Long rows of numbers of one sign, or whose product stays near 1: nothing
// cancels or vanishes.
OpSamples reduction_of_long_rows(const std::string& op, Reduction3 f, double (*reference)(Numbers),
                                 testing::Range range, testing::Range long_range) {
  OpSamples s = reduction(op, f, reference, range);
  s.sized = reduction(op, f, reference, long_range, {.tolerance32 = 2e-5}).sized;
  return s;
}

const RegisterSamples kSum{"sum", [] {
                             return reduction_of_long_rows("sum", &sum, &total, {}, {0.5, 2});
                           }};
const RegisterSamples kMean{
    "mean", [] {
      OpSamples s = reduction_of_long_rows(
          "mean", &mean, [](Numbers v) { return total(v) / count(v); }, {}, {0.5, 2});
      s.errors.push_back(error_sample<DTypeError>(
          "int64", {testing::integers({3}, 0, 5)}, [](const Tensor& x) { return mean(x); },
          "mean: input 0 is int64[3]"));
      return s;
    }};

const RegisterSamples kSumTo{
    "sum_to", [] {
      OpSamples s{.op = "sum_to"};
      const auto add = [&](const Shape& from, const Shape& to) {
        s.samples.push_back({.name = absl::StrCat(from.str(), " to ", to.str()),
                             .inputs = {testing::normal(from)},
                             .call = [to](const Tensor& x) { return sum_to(x, to); },
                             .reference =
                                 [to](const RefArray& x) {
                                   RefArray y(to);
                                   const int lead = x.shape.rank() - to.rank();
                                   for (int64_t k = 0; k < x.numel(); ++k) {
                                     int64_t rest = k;
                                     int64_t at = 0;
                                     int64_t stride = 1;
                                     for (int i = x.shape.rank() - 1; i >= 0; --i) {
                                       const int64_t index = rest % x.shape[i];
                                       rest /= x.shape[i];
                                       if (i < lead) continue;
                                       at += to[i - lead] == 1 ? 0 : index * stride;
                                       stride *= to[i - lead];
                                     }
                                     y.v[static_cast<size_t>(at)] += x.v[static_cast<size_t>(k)];
                                   }
                                   return y;
                                 }});
      };
      add({3, 4}, {4});
      add({3, 4}, {3, 1});
      add({3, 4}, {1, 4});
      add({3, 4}, {});
      add({2, 3, 4}, {3, 1});
      add({2, 3, 4}, {1, 3, 1});
      add({2, 3, 1, 4}, {1, 1, 4});
      add({0, 3}, {3});
      add({2, 0}, {1, 0});
      add({1}, {});
      s.no_scalar = "a scalar has nothing to sum: x itself is the result";
      s.errors = {error_sample<ShapeError>(
          "shapes", {testing::normal({3, 4})}, [](const Tensor& x) { return sum_to(x, {3}); },
          "sum_to: [3] does not repeat to x, which is [3,4]")};
      return s;
    }};

// --- products and scans
// ---------------------------------------------------------------------

double product(Numbers v) {
  double p = 1;
  for (double x : v) p *= x;
  return p;
}

const RegisterSamples kProd{
    "prod", [] {
      OpSamples s = reduction_of_long_rows("prod", &prod, &product, {-1.5, 1.5}, {0.95, 1.05});
      const auto add = [&](const char* name, const Shape& shape, std::vector<double> v,
                           const Axes& axes) {
        Sample sample = s.samples[0];
        sample.name = name;
        sample.inputs = {testing::tensor(shape, v)};
        sample.call = [axes](const Tensor& x) { return prod(x, axes); };
        sample.reference = {};
        sample.no_reference = "the value is that of the other samples";
        s.samples.push_back(std::move(sample));
      };
      add("a zero", {4}, {2, 0, -3, 0.5}, {});
      add("two zeros", {4}, {2, 0, -3, 0}, {});
      add("three zeros", {4}, {0, 0, -3, 0}, {});
      add("zeros by rows", {3, 3}, {1, 0, 2, 3, 4, 5, 0, 0, 6}, 1);
      add("zeros by columns", {3, 3}, {1, 0, 2, 3, 4, 5, 0, 0, 6}, 0);
      return s;
    }};

// y[..,i,..] = f(x[..,0,..] ... x[..,i,..]), as plain loops over lines.
RefArray along(const RefArray& x, int axis, double (*f)(Numbers)) {
  RefArray y = x;
  if (x.shape.empty()) return y;
  int64_t inner = 1;
  for (int i = axis + 1; i < x.shape.rank(); ++i) inner *= x.shape[i];
  const int64_t n = x.shape[axis];
  for (int64_t k = 0; k < x.numel(); ++k) {
    const int64_t i = k / inner % n;
    std::vector<double> before;
    for (int64_t j = 0; j <= i; ++j)
      before.push_back(x.v[static_cast<size_t>(k - (i - j) * inner)]);
    y.v[static_cast<size_t>(k)] = f(before);
  }
  return y;
}

OpSamples running(const std::string& op, Tensor (*f)(const Tensor&, int64_t, Where),
                  double (*reference)(Numbers)) {
  OpSamples s{.op = op};
  const auto make = [=](const std::string& name, const Tensor& x, int axis) {
    const int at = axis < 0 ? axis + x.dim() : axis;
    return Sample{.name = absl::StrCat(name, " axis ", axis),
                  .inputs = {x},
                  .call = [=](const Tensor& t) { return f(t, axis, Where::current()); },
                  .reference = [=](const RefArray& t) { return along(t, at, reference); }};
  };
  const auto input = [](const Shape& shape) { return testing::uniform(shape, -1.5, 1.5); };
  s.samples = {make("vector", input({5}), 0),
               make("rows", input({3, 4}), 1),
               make("columns", input({3, 4}), 0),
               make("middle", input({2, 3, 4}), -2),
               make("scalar", testing::scalar(2), 0),
               make("empty", input({0}), 0),
               make("no lines", input({3, 0}), 0),
               make("one", input({1, 1}), 1),
               make("zeros", testing::tensor({5}, {2, 0, -3, 0, 4}), 0),
               make("leading zero", testing::tensor({2, 3}, {0, 2, 3, 1, 0, 5}), 1)};
  s.sized = [=](int64_t n) {
    return std::vector<Sample>{make("sized", testing::uniform({n}, -1, 1), 0),
                               make("sized", testing::uniform({n, 2}, -1, 1), 0)};
  };
  s.errors = {error_sample<IndexError>(
                  "axis", {input({3})}, [f](const Tensor& x) { return f(x, 1, Where::current()); },
                  op + ": axis 1 is outside [-1, 1)"),
              half_is_error(op, [f](const Tensor& x) { return f(x, 0, Where::current()); })};
  return s;
}

const RegisterSamples kCumSum{"cumsum", [] { return running("cumsum", &cumsum, &total); }};
const RegisterSamples kCumProd{"cumprod", [] { return running("cumprod", &cumprod, &product); }};

const RegisterSamples kLinearScan{
    "linear_scan", [] {
      OpSamples s{.op = "linear_scan"};
      for (const bool reverse : {false, true}) {
        for (const bool lag : {false, true}) {
          for (const int64_t n : {0, 1, 2, 6}) {
            s.samples.push_back(
                {.name = absl::StrCat(n, reverse ? " reverse" : "", lag ? " lag" : ""),
                 .inputs = {testing::normal({2, n}), testing::normal({2, n})},
                 .call = [=](const Tensor& a,
                             const Tensor& b) { return ops::linear_scan(a, b, 1, reverse, lag); },
                 .reference =
                     [=](const RefArray& a, const RefArray& b) {
                       RefArray h = b;
                       for (int64_t r = 0; r < 2; ++r) {
                         for (int64_t i = 1; i < n; ++i) {
                           const int64_t at = reverse ? n - 1 - i : i;
                           const int64_t before = reverse ? at + 1 : at - 1;
                           h(r, at) = a(r, lag ? before : at) * h(r, before) + b(r, at);
                         }
                       }
                       return h;
                     }});
          }
        }
      }
      s.samples.push_back(
          {.name = "scalar",
           .inputs = {testing::scalar(2), testing::scalar(3)},
           .call = [](const Tensor& a,
                      const Tensor& b) { return ops::linear_scan(a, b, 0, false, false); },
           .reference = [](const RefArray&, const RefArray& b) { return b; }});
      s.errors = {error_sample<ShapeError>(
          "shapes", {testing::normal({3}), testing::normal({4})},
          [](const Tensor& a, const Tensor& b) { return ops::linear_scan(a, b, 0, false, false); },
          "linear_scan: a is [3], b is [4]; the shapes must be equal")};
      return s;
    }};

const RegisterSamples kScanShift{
    "scan_shift", [] {
      OpSamples s{.op = "scan_shift"};
      for (const bool reverse : {false, true}) {
        for (const Shape& shape : {Shape{2, 5}, Shape{1, 1}, Shape{3, 0}, Shape{}}) {
          s.samples.push_back(
              {.name = absl::StrCat(shape.str(), reverse ? " reverse" : ""),
               .inputs = {testing::normal(shape)},
               .call =
                   [=](const Tensor& x) {
                     return ops::scan_shift(x, shape.rank() - 1 < 0 ? 0 : 1, reverse, 7);
                   },
               .reference =
                   [=](const RefArray& x) {
                     RefArray y(x.shape, 7);
                     const int64_t n = shape.empty() ? 1 : shape[1];
                     for (int64_t k = 0; k < x.numel(); ++k) {
                       const int64_t i = k % n;
                       const int64_t from = reverse ? i + 1 : i - 1;
                       if (from < 0 || from >= n) continue;
                       y.v[static_cast<size_t>(k)] = x.v[static_cast<size_t>(k - i + from)];
                     }
                     return y;
                   }});
        }
      }
      s.errors = {error_sample<DTypeError>(
          "int64", {testing::integers({3}, 0, 2)},
          [](const Tensor& x) { return ops::scan_shift(x, 0, false, 0); },
          "scan_shift: input 0 is int64[3]")};
      return s;
    }};

// --- extremes
// -------------------------------------------------------------------------------

double largest(Numbers v) { return *std::max_element(v.begin(), v.end()); }
double smallest(Numbers v) { return *std::min_element(v.begin(), v.end()); }
double where_largest(Numbers v) {
  return static_cast<double>(std::max_element(v.begin(), v.end()) - v.begin());
}
double where_smallest(Numbers v) {
  return static_cast<double>(std::min_element(v.begin(), v.end()) - v.begin());
}

OpSamples extreme(const std::string& op, Reduction3 f, double (*reference)(Numbers)) {
  OpSamples s = reduction(op, f, reference, {}, {.empty_is_error = true});
  s.errors.push_back(error_sample<ShapeError>(
      "empty", {testing::normal({2, 0})},
      [f](const Tensor& x) { return f(x, 1, false, Where::current()); },
      op + ": x is [2,0], axes=[1]; there are no elements to compare"));
  return s;
}

const RegisterSamples kMax{
    "max", [] {
      OpSamples s = extreme("max", static_cast<Reduction3>(&max), &largest);
      s.samples.push_back({.name = "ties",
                           .inputs = {testing::tensor({2, 3}, {1, 3, 3, 2, 2, 2})},
                           .call = [](const Tensor& x) { return max(x, {1}); },
                           .reference =
                               [](const RefArray&) {
                                 return RefArray({2}, std::vector<double>{3, 2});
                               },
                           .no_numeric = "the maximum has a kink at a tie"});
      return s;
    }};
const RegisterSamples kMin{"min",
                           [] { return extreme("min", static_cast<Reduction3>(&min), &smallest); }};

OpSamples arg_extreme(const std::string& op,
                      Tensor (*f)(const Tensor&, std::optional<int64_t>, bool, Where),
                      double (*reference)(Numbers)) {
  const auto call = [f](const Tensor& x, Axes axes, bool keepdim) {
    return axes.empty() ? f(x, std::nullopt, keepdim, Where::current())
                        : f(x, axes[0], keepdim, Where::current());
  };
  OpSamples s = testing::reduction_samples(
      op, call, reference, {},
      {.no_gradient = "the result is int64", .several_axes = false, .empty_is_error = true});
  s.errors.push_back(error_sample<ShapeError>(
      "empty", {testing::normal({0, 2})},
      [f](const Tensor& x) { return f(x, std::nullopt, false, Where::current()); },
      op + ": x is [0,2], all axes; there are no elements to compare"));
  s.errors.push_back(half_is_error(
      op, [f](const Tensor& x) { return f(x, std::nullopt, false, Where::current()); }));
  return s;
}

const RegisterSamples kArgMax{"argmax",
                              [] { return arg_extreme("argmax", &argmax, &where_largest); }};
const RegisterSamples kArgMin{"argmin",
                              [] { return arg_extreme("argmin", &argmin, &where_smallest); }};

OpSamples extreme_along(const std::string& op, const std::string& name, bool largest_of) {
  const auto call = [=](const Tensor& x, int axis, bool keepdim) {
    const ValuesIndices r = largest_of ? max(x, axis, keepdim) : min(x, axis, keepdim);
    return std::vector<Tensor>{r.values, r.indices};
  };
  OpSamples s{.op = op};
  const auto make = [=](const Shape& shape, int axis, bool keepdim) {
    return Sample{
        .name = absl::StrCat(shape.str(), " axis ", axis, keepdim ? " keepdim" : ""),
        .inputs = {testing::distinct(shape)},
        .call = [=](const Tensor& x) { return call(x, axis, keepdim); },
        .reference =
            [=](const RefArray& x) {
              const int at = axis < 0 ? axis + shape.rank() : axis;
              Shape out;
              int64_t inner = 1;
              int64_t n = 1;
              for (int i = 0; i < shape.rank(); ++i) {
                if (i > at) inner *= shape[i];
                if (i == at) n = shape[i];
                if (i != at || keepdim) out.push_back(i == at ? 1 : shape[i]);
              }
              RefArray values(out);
              RefArray indices(out);
              for (int64_t j = 0; j < values.numel(); ++j) {
                std::vector<double> line;
                for (int64_t i = 0; i < n; ++i) {
                  line.push_back(x.v[static_cast<size_t>((j / inner * n + i) * inner + j % inner)]);
                }
                const auto k = static_cast<size_t>(j);
                values.v[k] = largest_of ? largest(line) : smallest(line);
                indices.v[k] = largest_of ? where_largest(line) : where_smallest(line);
              }
              return std::vector<RefArray>{values, indices};
            }};
  };
  s.samples = {make({3, 4}, 1, false), make({3, 4}, 0, true),     make({2, 3, 4}, 1, false),
               make({5}, -1, false),   make({2, 3, 4}, -1, true), make({3, 0}, 0, false)};
  s.samples.push_back(make({}, 0, false));
  s.sized = [=](int64_t n) {
    if (n == 0) return std::vector<Sample>{};
    return std::vector<Sample>{make({n}, 0, false), make({n, 3}, 0, false), make({3, n}, 1, false)};
  };
  s.errors = {
      error_sample<IndexError>(
          "axis", {testing::normal({3})}, [=](const Tensor& x) { return call(x, 1, false); },
          name + ": axis 1 is outside [-1, 1)"),
      error_sample<ShapeError>(
          "empty", {testing::normal({2, 0})}, [=](const Tensor& x) { return call(x, 1, false); },
          op + ": x is [2,0], axes=[1]; there are no elements to compare")};
  return s;
}

const RegisterSamples kMaxAlong{"max_along",
                                [] { return extreme_along("max_along", "max", true); }};
const RegisterSamples kMinAlong{"min_along",
                                [] { return extreme_along("min_along", "min", false); }};

const RegisterSamples kAny{"any", [] {
                             return reduction("any", &any,
                                              [](Numbers v) -> double {
                                                return std::any_of(v.begin(), v.end(),
                                                                   [](double x) { return x != 0; });
                                              },
                                              {0, 0}, {.no_gradient = "the result is bool"});
                           }};
const RegisterSamples kAll{"all", [] {
                             return reduction("all", &all,
                                              [](Numbers v) -> double {
                                                return std::all_of(v.begin(), v.end(),
                                                                   [](double x) { return x != 0; });
                                              },
                                              {}, {.no_gradient = "the result is bool"});
                           }};

// --- statistics and norms
// -------------------------------------------------------------------

template <int kCorrection>
double variance(Numbers v) {
  const double mean = total(v) / count(v);
  double s = 0;
  for (double x : v) s += (x - mean) * (x - mean);
  return s / std::max(count(v) - kCorrection, 0.0);
}

using Variance = Tensor (*)(const Tensor&, Axes, double, bool, Where);

OpSamples variance_samples(const std::string& op, Variance f, double (*unbiased)(Numbers),
                           double (*biased)(Numbers), bool root) {
  const auto with = [&](double correction, double (*reference)(Numbers)) {
    return testing::reduction_samples(op,
                                      [=](const Tensor& x, Axes axes, bool keepdim) {
                                        return f(x, axes, correction, keepdim, Where::current());
                                      },
                                      reference, {-2, 2},
                                      {.tolerance64 = 1e-11, .tolerance32 = 2e-5});
  };
  OpSamples s = with(1, unbiased);
  s.errors.push_back(
      half_is_error(op, [f](const Tensor& x) { return f(x, {}, 1, false, Where::current()); }));
  for (Sample& sample : with(0, biased).samples) {
    sample.name += " biased";
    s.samples.push_back(std::move(sample));
  }
  // One number has no unbiased variance, and the root of 0 a kink.
  std::erase_if(s.samples, [&](const Sample& x) {
    const bool one = x.inputs[0].numel() == 1 || x.name.rfind("[2,1,3]", 0) == 0;
    const bool none = x.inputs[0].numel() == 0;
    return (one && (root || x.name.find("biased") == std::string::npos)) ||
           (none && x.name.rfind("[0,3] axes 1", 0) != 0);
  });
  s.no_scalar = "one number has no unbiased variance: checked below";
  const auto sized = s.sized;
  s.sized = [=](int64_t n) { return n < 2 ? std::vector<Sample>{} : sized(n); };
  return s;
}

const RegisterSamples kVar{
    "var", [] { return variance_samples("var", &var, &variance<1>, &variance<0>, false); }};
const RegisterSamples kStd{"std", [] {
                             return variance_samples(
                                 "std", &std, [](Numbers v) { return std::sqrt(variance<1>(v)); },
                                 [](Numbers v) { return std::sqrt(variance<0>(v)); }, true);
                           }};

const RegisterSamples kLogSumExp{"logsumexp", [] {
                                   return reduction("logsumexp", &logsumexp, [](Numbers v) {
                                     double s = 0;
                                     for (double x : v) s += std::exp(x);
                                     return std::log(s);
                                   });
                                 }};

OpSamples norm_samples(double p, double lo, double hi) {
  const auto reference = [p](Numbers v) {
    double s = p == -kInf ? kInf : 0;
    for (double x : v) {
      if (p == 0) s += x != 0;
      if (p == kInf) s = std::max(s, std::abs(x));
      if (p == -kInf) s = std::min(s, std::abs(x));
      if (p != 0 && !std::isinf(p)) s += std::pow(std::abs(x), p);
    }
    return p == 0 || std::isinf(p) ? s : std::pow(s, 1 / p);
  };
  OpSamples s = testing::reduction_samples(
      "norm", [p](const Tensor& x, Axes axes, bool keepdim) { return norm(x, p, axes, keepdim); },
      reference, {lo, hi},
      {.tolerance64 = 1e-11,
       .tolerance32 = 2e-5,
       .no_second_order = p == 0 ? "the gradient is a constant 0" : "",
       .empty_is_error = p < 0 || std::isinf(p)});
  for (Sample& sample : s.samples) sample.name = absl::StrCat("p=", p, " ", sample.name);
  return s;
}

const RegisterSamples kNorm{
    "norm", [] {
      OpSamples s = norm_samples(2, 0.1, 3);
      for (const double p : {0.0, 0.5, 1.0, 1.5, 3.0, 4.0, -1.0, -2.5, kInf, -kInf}) {
        for (Sample& sample : norm_samples(p, 0.3, 3).samples) {
          s.samples.push_back(std::move(sample));
        }
      }
      // The norm of one number has a kink at 0, and its second derivative is 0
      // elsewhere.
      s.errors.push_back(error_sample<ShapeError>(
          "empty", {testing::normal({2, 0})}, [](const Tensor& x) { return norm(x, kInf, 1); },
          "norm: x is [2,0], axes=[1]; there are no elements to compare"));
      s.errors.push_back(error_sample<ValueError>(
          "NaN", {testing::normal({2})},
          [](const Tensor& x) { return norm(x, std::numeric_limits<double>::quiet_NaN()); },
          "norm: p is NaN"));
      s.errors.push_back(error_sample<DTypeError>(
          "int64", {testing::integers({3}, 0, 2)}, [](const Tensor& x) { return norm(x); },
          "norm: input 0 is int64[3]"));
      return s;
    }};

OpSamples signed_power_samples(double q, bool odd) {
  OpSamples s = testing::unary_samples(
      "signed_power", [=](const Tensor& x) { return ops::signed_power(x, q, odd); },
      [=](double x) {
        if (x == 0 && (q < 0 || (q == 0 && odd))) return 0.0;
        return std::pow(std::abs(x), q) * (odd && x < 0 ? -1.0 : 1.0);
      },
      {-2, 2},
      {.tolerance64 = 1e-11,
       .tolerance32 = 2e-5,
       .kinks = {0},
       .no_second_order = q == 0 ? "the gradient is a constant 0" : ""});
  for (Sample& sample : s.samples) absl::StrAppend(&sample.name, " q=", q, odd ? " odd" : " even");
  return s;
}

const RegisterSamples kSignedPower{"signed_power", [] {
                                     OpSamples s = signed_power_samples(1.5, true);
                                     for (const double q : {-1.0, 0.0, 0.5, 2.0, 3.0}) {
                                       for (const bool odd : {false, true}) {
                                         for (Sample& x : signed_power_samples(q, odd).samples) {
                                           s.samples.push_back(std::move(x));
                                         }
                                       }
                                     }
                                     return s;
                                   }};

}  // namespace
}  // namespace ebb
