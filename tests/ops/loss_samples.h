// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/loss.h"

// Samples of losses that go element by element.
namespace ebb::testing {

inline constexpr Reduction kReductions[] = {Reduction::kMean, Reduction::kSum, Reduction::kNone};
inline const char* name_of(Reduction r) {
  return r == Reduction::kMean ? "mean" : r == Reduction::kSum ? "sum" : "none";
}

/// Losses of the samples, reduced as asked.
inline RefArray reduced(const RefArray& each, Reduction r) {
  if (r == Reduction::kNone) return each;
  double sum = 0;
  for (double v : each.v) sum += v;
  return RefArray({}, r == Reduction::kMean ? sum / static_cast<double>(each.numel()) : sum);
}

using Numbers = Span<const double>;
/// Makes the inputs of a loss, of one shape.
using Inputs = std::function<std::vector<Tensor>(const Shape&)>;
using Loss = std::function<Tensor(Span<const Tensor>, Reduction)>;

/// `reference` is the loss of one element, given those of the inputs.
inline OpSamples pointwise(const std::string& op, const Inputs& inputs, const Loss& loss,
                           const std::function<double(Numbers)>& reference,
                           const std::string& no_second_order = "") {
  OpSamples s{.op = op};
  const auto make = [=](const Shape& shape, Reduction r) {
    return Sample{.name = absl::StrCat(shape.str(), " ", name_of(r)),
                  .inputs = inputs(shape),
                  .call = [=](Span<const Tensor> x) { return loss(x, r); },
                  .reference =
                      [=](Span<const RefArray> x) {
                        RefArray each(x[0].shape);
                        for (size_t k = 0; k < each.v.size(); ++k) {
                          std::vector<double> v;
                          for (const RefArray& a : x) v.push_back(a.v[k]);
                          each.v[k] = reference(v);
                        }
                        return reduced(each, r);
                      },
                  .no_second_order = no_second_order};
  };
  for (const Reduction r : kReductions) {
    for (const Shape& shape : {Shape{3, 4}, Shape{}, Shape{2, 3, 2}}) {
      s.samples.push_back(make(shape, r));
    }
  }
  s.samples.push_back(make({0, 3}, Reduction::kSum));
  s.samples.push_back(make({0}, Reduction::kNone));
  s.sized = [=](int64_t n) {
    return std::vector<Sample>{make({n}, Reduction::kSum), make({n}, Reduction::kNone)};
  };
  std::vector<Tensor> other = inputs({3, 4});
  other.back() = inputs({4}).back();
  const auto call = [=](Span<const Tensor> x) { return loss(x, Reduction::kMean); };
  s.errors.push_back(
      error_sample<ShapeError>("shapes", other, call,
                               absl::StrCat(op, ": input 0 is [3,4], input ", other.size() - 1,
                                            " is [4]; the shapes must be equal")));
  other.back() = testing::integers({3, 4}, 0, 1);
  s.errors.push_back(error_sample<DTypeError>(
      "int64", other, call, absl::StrCat(op, ": input ", other.size() - 1, " is int64[3,4]")));
  return s;
}

/// Uniform inputs, each in its range.
inline Inputs between(double lo0, double hi0, double lo1, double hi1) {
  return [=](const Shape& shape) {
    return std::vector<Tensor>{testing::uniform(shape, lo0, hi0),
                               testing::uniform(shape, lo1, hi1)};
  };
}

}  // namespace ebb::testing
