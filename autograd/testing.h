// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "ebb/autograd/functional.h"
#include "ebb/autograd/op.h"
#include "ebb/autograd/tensor.h"

// Tests of ops: of the library's own, each of which must have samples here, and of a user's.
//
//   TEST(Swish, IsDifferentiableTwice) {
//     ebb::testing::check_op<Swish>({ebb::testing::normal({3, 4}), ebb::testing::scalar(1.5)});
//   }
//
// Works under any test framework: what is wrong is told by a CheckFailure that is thrown. Not for
// several threads at once. Link with ebb::testing.
namespace ebb::testing {

/// An op does not do what it should; the message says which, on which input, where and by how much.
class CheckFailure : public Error {
 public:
  using Error::Error;
};

// --- inputs ---------------------------------------------------------------------------------
// All are float64, contiguous, and hold numbers that float32 holds too, so that both types compute
// on the same input. Without a seed each call on a thread gives other numbers, in an order that
// starts anew with restart_inputs(), as it does before the samples of each op are made.
using Seed = std::optional<uint64_t>;

Tensor normal(const Shape& shape, Seed seed = {});
Tensor uniform(const Shape& shape, double lo, double hi, Seed seed = {});
/// In [0.5, 2].
Tensor positive(const Shape& shape, Seed seed = {});
/// In [lo, hi], and at least `gap` away from each of `kinks`.
Tensor uniform_away_from(const Shape& shape, double lo, double hi, const std::vector<double>& kinks,
                         double gap = 0.05, Seed seed = {});
/// In [-2, 2], no two closer than 2 / numel: for what sorts or selects.
Tensor distinct(const Shape& shape, Seed seed = {});
/// A symmetric positive definite matrix [n,n], or a batch [..., n, n], with eigenvalues in [1, 3].
Tensor positive_definite(const Shape& shape, Seed seed = {});
Tensor scalar(double value);
Tensor tensor(const Shape& shape, const std::vector<double>& values);
/// int64, in [lo, hi].
Tensor integers(const Shape& shape, int64_t lo, int64_t hi, Seed seed = {});
Tensor indices(const std::vector<int64_t>& values);
/// bool, true with probability 1/2.
Tensor booleans(const Shape& shape, Seed seed = {});
void restart_inputs(uint64_t seed = 0);

// --- references -----------------------------------------------------------------------------

/// An array as a plain reference sees it: row-major doubles, whatever the type.
struct RefArray {
  RefArray() = default;
  explicit RefArray(const Shape& s, double fill = 0)
      : shape(s), v(static_cast<size_t>(s.numel()), fill) {}
  RefArray(const Shape& s, std::vector<double> values) : shape(s), v(std::move(values)) {}

  int64_t numel() const { return static_cast<int64_t>(v.size()); }
  int64_t size(int i) const { return shape[i]; }
  /// Element at an index, one number a dimension.
  template <class... I>
  double& operator()(I... i) {
    return v[offset({static_cast<int64_t>(i)...})];
  }
  template <class... I>
  double operator()(I... i) const {
    return v[offset({static_cast<int64_t>(i)...})];
  }
  size_t offset(std::initializer_list<int64_t> index) const;

  Shape shape;
  std::vector<double> v;
};

RefArray to_ref(const Array& a);

namespace detail {

template <class F, class T>
inline constexpr int kArity =
    std::is_invocable_v<F&, Span<const T>>                            ? 0
    : std::is_invocable_v<F&, const T&>                               ? 1
    : std::is_invocable_v<F&, const T&, const T&>                     ? 2
    : std::is_invocable_v<F&, const T&, const T&, const T&>           ? 3
    : std::is_invocable_v<F&, const T&, const T&, const T&, const T&> ? 4
                                                                      : -1;

// A function of arrays, given as one of a Span or of up to four of them, that gives one or several.
template <class T>
class Function {
 public:
  Function() = default;
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Function> && kArity<F, T> >= 0)
      Function(F f)  // NOLINT(google-explicit-constructor)
      : call_([f = std::move(f)](Span<const T> x) mutable { return as_vector(invoke(f, x)); }) {}

  std::vector<T> operator()(Span<const T> x) const { return call_(x); }
  explicit operator bool() const { return static_cast<bool>(call_); }

 private:
  template <class F>
  static auto invoke(F& f, Span<const T> x) {
    if constexpr (kArity<F, T> == 0) {
      return f(x);
    } else if constexpr (kArity<F, T> == 1) {
      return f(x[0]);
    } else if constexpr (kArity<F, T> == 2) {
      return f(x[0], x[1]);
    } else if constexpr (kArity<F, T> == 3) {
      return f(x[0], x[1], x[2]);
    } else {
      return f(x[0], x[1], x[2], x[3]);
    }
  }
  template <class R>
  static std::vector<T> as_vector(R r) {
    if constexpr (std::is_convertible_v<R, T>) {
      std::vector<T> one;
      one.push_back(std::move(r));
      return one;
    } else {
      return std::vector<T>(std::make_move_iterator(r.begin()), std::make_move_iterator(r.end()));
    }
  }

  std::function<std::vector<T>(Span<const T>)> call_;
};

}  // namespace detail

/// What a sample calls: f(a), f(a, b), ... of tensors, or f(Span<const Tensor>).
using Call = detail::Function<Tensor>;
/// The same on RefArrays.
using Reference = detail::Function<RefArray>;

// --- samples --------------------------------------------------------------------------------

/// One way to call an op. Every check applies unless a reason against it is stated.
///
/// Differences of values are measured against the expected element, or `floor` times the largest
/// expected element of the array, whichever is larger: 1 compares arrays as a whole, 1e-3 element
/// by element but for those near 0. Differences of gradients are measured against the largest
/// element of the gradients of all inputs.
struct Sample {
  std::string name = {};
  std::vector<Tensor> inputs = {};
  Call call = {};
  Reference reference = {};
  double tolerance64 = 1e-12;  ///< float64 against the reference; of one form of the gradient
                               ///< against another; of one layout or instruction set against others
  double tolerance32 = 1e-5;   ///< float32 against float64
  double gradient_tolerance32 = 0;  ///< the same of gradients; 0: as tolerance32
  double floor = 1;
  std::vector<int> constants = {};  ///< floating inputs that are not differentiated

  std::string no_reference = {};  ///< no value to compare with, because ...
  std::string no_gradient = {};   ///< results carry no gradient, because ...
  std::string no_numeric = {};    ///< differences of values do not tell the gradient, because ...
  std::string no_second_order = {};  ///< the gradient is not differentiable, because ...
  std::string no_float32 = {};       ///< float32 is not comparable with float64, because ...
  std::string no_views = {};         ///< the layout of an input matters, because ...
};

/// A call that must throw exactly an E whose message contains `message`, and change nothing.
struct ErrorSample {
  std::string name;
  std::vector<Tensor> inputs;
  Call call;
  const std::type_info* kind;
  std::string message;
};
template <class E>
ErrorSample error_sample(std::string name, std::vector<Tensor> inputs, Call call,
                         std::string message) {
  return {std::move(name), std::move(inputs), std::move(call), &typeid(E), std::move(message)};
}

/// Sizes that reach the tails of vector loops and both sides of the usual crossovers:
/// 0..70, 255..257, 1023..1025. Fewer under a sanitizer, or where EBB_TEST_THIN is set.
std::vector<int64_t> sweep_sizes();

/// All that is known about one op.
struct OpSamples {
  std::string op = {};
  std::vector<Sample> samples = {};
  std::vector<ErrorSample> errors = {};
  /// Samples of about n elements, checked for value, float32 and instruction sets, but not by
  /// differences; called for each of `sizes`.
  std::function<std::vector<Sample>(int64_t n)> sized = {};
  std::vector<int64_t> sizes = sweep_sizes();

  std::string no_empty = {};   ///< no sample has an input without elements, because ...
  std::string no_scalar = {};  ///< no sample has an input of rank 0, because ...
  std::string no_errors = {};  ///< no call is an error, because ...
};

/// Registers the samples of an op of the library, as a constant at namespace scope in its family's
/// test file. They are made when they are needed.
class RegisterSamples {
 public:
  RegisterSamples(std::string op, std::function<OpSamples()> make);
};
/// The names with samples, in no particular order; a name registered twice is there twice.
std::vector<std::string> ops_with_samples();
/// Makes the samples of an op: those of all its registrations together. Throws CheckFailure where
/// there is none, or one names another op.
OpSamples samples_of(const std::string& op);

// --- families -------------------------------------------------------------------------------

struct Range {
  double lo = -3;
  double hi = 3;
};

struct FamilyOptions {
  double tolerance64 = 1e-12;
  double tolerance32 = 1e-5;
  double gradient_tolerance32 = 0;
  double floor = 1e-3;
  std::vector<double> kinks = {};  ///< where f is not smooth: inputs keep 0.05 away
  std::string no_gradient = {};
  std::string no_second_order = {};
  bool integers_allowed = false;  ///< otherwise an int64 input must be a DTypeError
};

/// y = f(x), element by element, on shapes of rank 0 to 3, empty ones, repeated rows, and the
/// sweep.
OpSamples unary_samples(const std::string& op, std::function<Tensor(const Tensor&)> f,
                        std::function<double(double)> reference, Range range = {},
                        const FamilyOptions& options = {});

/// y = f(a, b), element by element, with all kinds of broadcasting too. Shapes that do not fit must
/// be a ShapeError that names both. The kinks, if any, must be {0}: then a and b are at least 0.05
/// apart wherever they meet.
OpSamples binary_samples(const std::string& op,
                         std::function<Tensor(const Tensor&, const Tensor&)> f,
                         std::function<double(double, double)> reference, Range a = {},
                         Range b = {}, const FamilyOptions& options = {});

struct ReductionOptions {
  double tolerance64 = 1e-12;
  double tolerance32 = 1e-5;
  double gradient_tolerance32 = 0;
  std::string no_gradient = {};
  std::string no_second_order = {};
  bool several_axes = true;     ///< takes more than one axis at a time
  bool empty_is_error = false;  ///< of no numbers there is no result; add an error_sample for that
};

/// y = f(x, axes, keepdim), where `reference` reduces a list of numbers, no two of which are equal.
/// An axis out of range must be an IndexError, one named twice a ValueError.
OpSamples reduction_samples(const std::string& op,
                            std::function<Tensor(const Tensor&, Axes, bool)> f,
                            std::function<double(Span<const double>)> reference, Range range = {},
                            const ReductionOptions& options = {});

// --- checks ---------------------------------------------------------------------------------

/// Runs every check there is on an op of the library. Throws CheckFailure with all that failed.
void check_samples(const OpDef& def, const OpSamples& samples);

namespace detail {
void check_one(const OpDef& def, Sample sample);
}  // namespace detail

/// Checks a user's own op on `inputs` (float64; integer types as they are): gradients of first and
/// second order, backward_values against backward, float32 against float64 on every instruction
/// set, strided inputs, documentation and cost, and that running out of memory harms nothing.
/// `options` is a sample without inputs and call; a reference may be given there, but need not.
template <class Op>
void check_op(std::vector<Tensor> inputs, const typename Op::Attrs& attrs = {},
              Sample options = {}) {
  options.inputs = std::move(inputs);
  options.call = [attrs = std::make_shared<const typename Op::Attrs>(attrs)](Span<const Tensor> x) {
    std::vector<const Tensor*> in;
    for (const Tensor& t : x) in.push_back(&t);
    Outputs out;
    ebb::detail::apply_all(kOpDef<Op>, attrs.get(), in, &out, Where::current());
    return out;
  };
  detail::check_one(kOpDef<Op>, std::move(options));
}

}  // namespace ebb::testing
