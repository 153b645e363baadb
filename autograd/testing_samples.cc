// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/testing.h"

// The registry of samples, and the families whose samples are alike.
namespace ebb::testing {
namespace {

struct Registration {
  std::string op;
  std::function<OpSamples()> make;
};

// A function's static: registrations are constants of other files, in no particular order.
std::vector<Registration>& registrations() {
  static std::vector<Registration> all;
  return all;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(EBB_NO_POOL)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

std::vector<int64_t> sweep_sizes() {
  static const bool thin = kSanitized || std::getenv("EBB_TEST_THIN") != nullptr;
  if (thin) return {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 257, 1025};
  std::vector<int64_t> sizes;
  for (int64_t n = 0; n <= 70; ++n) sizes.push_back(n);
  for (const int64_t n : {255, 256, 257, 1023, 1024, 1025}) sizes.push_back(n);
  return sizes;
}

RegisterSamples::RegisterSamples(std::string op, std::function<OpSamples()> make) {
  registrations().push_back({std::move(op), std::move(make)});
}

std::vector<std::string> ops_with_samples() {
  std::vector<std::string> names;
  for (const Registration& r : registrations()) names.push_back(r.op);
  return names;
}

OpSamples samples_of(const std::string& op) {
  OpSamples all;
  bool found = false;
  restart_inputs();
  for (const Registration& r : registrations()) {
    if (r.op != op) continue;
    OpSamples s = r.make();
    if (s.op != op) {
      throw CheckFailure(absl::StrCat("samples registered for '", op, "' are of '", s.op, "'"));
    }
    if (!found) {
      all = std::move(s);
      found = true;
      continue;
    }
    for (Sample& x : s.samples) all.samples.push_back(std::move(x));
    for (ErrorSample& e : s.errors) all.errors.push_back(std::move(e));
    if (s.sized && all.sized) {
      if (s.sizes != all.sizes) {
        throw CheckFailure(absl::StrCat(op, ": two registrations sweep over different sizes"));
      }
      all.sized = [a = std::move(all.sized), b = std::move(s.sized)](int64_t n) {
        std::vector<Sample> both = a(n);
        for (Sample& x : b(n)) both.push_back(std::move(x));
        return both;
      };
    } else if (s.sized) {
      all.sized = std::move(s.sized);
      all.sizes = std::move(s.sizes);
    }
    if (all.no_empty.empty()) all.no_empty = s.no_empty;
    if (all.no_scalar.empty()) all.no_scalar = s.no_scalar;
    if (all.no_errors.empty()) all.no_errors = s.no_errors;
  }
  if (!found) {
    throw CheckFailure(absl::StrCat(
        op, ": the op has no samples; its family's file in tests/ops must register some, with ",
        "const RegisterSamples kName(\"", op, "\", [] { ... })"));
  }
  return all;
}

// --- families -------------------------------------------------------------------------------
namespace {

template <class Options>
Sample family_sample(std::string name, std::vector<Tensor> inputs, Call call, Reference reference,
                     const Options& o) {
  Sample s;
  s.name = std::move(name);
  s.inputs = std::move(inputs);
  s.call = std::move(call);
  s.reference = std::move(reference);
  s.tolerance64 = o.tolerance64;
  s.tolerance32 = o.tolerance32;
  s.gradient_tolerance32 = o.gradient_tolerance32;
  s.no_gradient = o.no_gradient;
  s.no_second_order = o.no_second_order;
  return s;
}

// `row` [n], m times below each other.
Tensor repeat_rows(const Tensor& row, int64_t m) {
  const int64_t strides[] = {0, 1};
  return Tensor(copy(row.array().view({m, row.size(0)}, strides, 0)));
}

std::string pair_name(const Shape& a, const Shape& b) {
  return absl::StrCat(a.str(), " ", b.str());
}

// Where the elements of `shape`, broadcast to `to`, are read at flat position k of `to`.
size_t broadcast_at(const Shape& shape, const Shape& to, int64_t k) {
  int64_t index[kMaxRank];
  for (int i = to.rank() - 1; i >= 0; --i) {
    index[i] = k % to[i];
    k /= to[i];
  }
  size_t at = 0;
  const int lead = to.rank() - shape.rank();
  for (int i = 0; i < shape.rank(); ++i) {
    at = at * static_cast<size_t>(shape[i]) +
         (shape[i] == 1 ? 0 : static_cast<size_t>(index[i + lead]));
  }
  return at;
}

// Numbers in the range on a grid of step 0.2, moved by `shift` and up to 0.05: those of shift 0 and
// 0.1 are never closer to each other than 0.05.
Tensor on_grid(const Shape& shape, Range range, double shift) {
  const Tensor cell = integers(shape, 0, static_cast<int64_t>((range.hi - range.lo) / 0.2) - 1);
  const Tensor jitter = uniform(shape, 0, 0.05);
  std::vector<double> v;
  for (int64_t k = 0; k < cell.numel(); ++k) {
    v.push_back(range.lo + 0.2 * static_cast<double>(cell.data<int64_t>()[k]) + shift +
                jitter.data<double>()[k]);
  }
  return tensor(shape, v);
}

}  // namespace

OpSamples unary_samples(const std::string& op, std::function<Tensor(const Tensor&)> f,
                        std::function<double(double)> reference, Range range,
                        const FamilyOptions& options) {
  const auto make = [=](const std::string& name, Tensor x) {
    Sample s = family_sample(
        name, {std::move(x)}, [f](const Tensor& t) { return f(t); },
        [reference](const RefArray& t) {
          RefArray y = t;
          for (double& v : y.v) v = reference(v);
          return y;
        },
        options);
    s.floor = options.floor;
    return s;
  };
  const auto input = [=](const Shape& shape) {
    return uniform_away_from(shape, range.lo, range.hi, options.kinks);
  };
  OpSamples all;
  all.op = op;
  for (const Shape& shape : {Shape{3, 4}, Shape{}, Shape{1}, Shape{2, 3, 2}, Shape{0, 3}}) {
    all.samples.push_back(make(shape.str(), input(shape)));
  }
  all.samples.push_back(make("equal rows", repeat_rows(input({4}), 3)));
  if (!options.kinks.empty()) {  // where all forms of the gradient must make the same choice
    const auto count = static_cast<int64_t>(options.kinks.size());
    Sample s = make("kinks", tensor({count}, options.kinks));
    s.no_numeric = "the derivative jumps";
    all.samples.push_back(std::move(s));
  }
  all.sized = [=](int64_t n) {
    return std::vector<Sample>{make(absl::StrCat("size ", n), input({n}))};
  };
  if (options.integers_allowed) {
    all.no_errors = "takes every type and shape";
  } else {
    all.errors.push_back(error_sample<DTypeError>(
        "int64", {integers({3}, 0, 2)}, [f](const Tensor& t) { return f(t); },
        op + ": input 0 is int64[3]"));
  }
  return all;
}

OpSamples binary_samples(const std::string& op,
                         std::function<Tensor(const Tensor&, const Tensor&)> f,
                         std::function<double(double, double)> reference, Range a, Range b,
                         const FamilyOptions& options) {
  if (!options.kinks.empty() && options.kinks != std::vector<double>{0}) {
    throw ValueError(op + ": the kinks of binary_samples can only be {0}");
  }
  const auto call = [f](const Tensor& x, const Tensor& y) { return f(x, y); };
  const auto make = [=](const std::string& name, Tensor x, Tensor y) {
    Sample s = family_sample(
        name, {std::move(x), std::move(y)}, call,
        [reference](const RefArray& p, const RefArray& q) {
          Shape shape;
          broadcast_shapes(p.shape, q.shape, &shape);
          RefArray r(shape);
          for (int64_t k = 0; k < r.numel(); ++k) {
            r.v[static_cast<size_t>(k)] = reference(p.v[broadcast_at(p.shape, shape, k)],
                                                    q.v[broadcast_at(q.shape, shape, k)]);
          }
          return r;
        },
        options);
    s.floor = options.floor;
    return s;
  };
  const bool kinks = !options.kinks.empty();
  const auto first = [=](const Shape& s) {
    return kinks ? on_grid(s, a, 0) : uniform(s, a.lo, a.hi);
  };
  const auto second = [=](const Shape& s) {
    return kinks ? on_grid(s, b, 0.1) : uniform(s, b.lo, b.hi);
  };
  const auto pair = [=](const Shape& x, const Shape& y) {
    return make(pair_name(x, y), first(x), second(y));
  };
  OpSamples all;
  all.op = op;
  const std::pair<Shape, Shape> shapes[] = {
      {{3, 4}, {3, 4}},    {{3, 4}, {4}}, {{4}, {3, 4}}, {{3, 1}, {1, 4}}, {{2, 3, 4}, {3, 1}},
      {{2, 1, 3}, {4, 1}}, {{2, 3}, {}},  {{}, {2, 3}},  {{}, {}},         {{0, 4}, {4}},
      {{0}, {1}},          {{1, 1}, {2}}};
  for (const auto& [x, y] : shapes) all.samples.push_back(pair(x, y));
  all.samples.push_back(
      make("equal rows", repeat_rows(first({4}), 3), repeat_rows(second({4}), 3)));
  all.sized = [=](int64_t n) {
    return std::vector<Sample>{pair({n}, {n}), pair({n}, {}), pair({}, {n}), pair({2, n}, {n}),
                               pair({n, 2}, {n, 1})};
  };
  all.errors.push_back(error_sample<ShapeError>("shapes", {first({3, 4}), second({5})}, call,
                                                op + ": a is [3,4], b is [5]"));
  return all;
}

OpSamples reduction_samples(const std::string& op,
                            std::function<Tensor(const Tensor&, Axes, bool)> f,
                            std::function<double(Span<const double>)> reference, Range range,
                            const ReductionOptions& options) {
  const auto make = [=](const Shape& shape, Axes axes, bool keepdim) {
    const uint32_t mask = axes.mask(shape.rank(), op.c_str());
    std::string name = shape.str();
    if (!axes.empty()) absl::StrAppend(&name, " axes");
    for (int i = 0; i < axes.size(); ++i) absl::StrAppend(&name, " ", axes[i]);
    if (keepdim) absl::StrAppend(&name, " keepdim");
    std::vector<double> v = distinct(shape).to_vector<double>();
    for (double& x : v) x = range.lo + (x + 2) / 4 * (range.hi - range.lo);
    return family_sample(
        name, {tensor(shape, v)}, [=](const Tensor& x) { return f(x, axes, keepdim); },
        [=](const RefArray& x) {
          Shape kept;  // with size 1 where an axis is reduced
          Shape out;
          for (int i = 0; i < x.shape.rank(); ++i) {
            const bool reduced = (mask >> i & 1) != 0;
            kept.push_back(reduced ? 1 : x.shape[i]);
            if (!reduced || keepdim) out.push_back(reduced ? 1 : x.shape[i]);
          }
          std::vector<std::vector<double>> lists(static_cast<size_t>(kept.numel()));
          for (int64_t k = 0; k < x.numel(); ++k) {
            lists[broadcast_at(kept, x.shape, k)].push_back(x.v[static_cast<size_t>(k)]);
          }
          RefArray y(out);
          for (size_t k = 0; k < lists.size(); ++k) y.v[k] = reference(lists[k]);
          return y;
        },
        options);
  };
  OpSamples all;
  all.op = op;
  all.samples = {make({3, 4}, {}, false), make({3, 4}, 0, false),    make({3, 4}, -1, false),
                 make({3, 4}, 1, true),   make({2, 3, 4}, 1, false), make({2, 3, 4}, -3, true),
                 make({}, {}, false),     make({1}, 0, false),       make({2, 1, 3}, 1, false),
                 make({0, 3}, 1, false)};
  if (options.several_axes) {
    all.samples.push_back(make({2, 3, 4}, {0, 2}, false));
    all.samples.push_back(make({2, 3, 4}, {0, -2}, true));
    all.samples.push_back(make({2, 3, 4}, {}, true));
  }
  if (!options.empty_is_error) {
    all.samples.push_back(make({0, 3}, 0, false));
    all.samples.push_back(make({0}, {}, false));
  }
  all.sized = [=](int64_t n) {
    std::vector<Sample> sized;
    if (n == 0 && options.empty_is_error) return sized;
    sized = {make({n}, {}, false), make({3, n}, 1, false), make({n, 3}, 0, false)};
    return sized;
  };
  const auto call = [f](Axes axes) {
    return [f, axes](const Tensor& x) { return f(x, axes, false); };
  };
  all.errors.push_back(error_sample<IndexError>("axis", {distinct({3, 4})}, call(2),
                                                op + ": axis 2 is outside [-2, 2)"));
  if (options.several_axes) {
    all.errors.push_back(
        error_sample<ValueError>("axis twice", {distinct({3, 4})}, call({1, -1}), op + ": axis"));
  }
  return all;
}

}  // namespace ebb::testing
