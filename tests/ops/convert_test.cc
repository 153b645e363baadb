// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/convert.h"

#include <gtest/gtest.h>

#include "ebb/autograd/testing.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace {

using testing::OpSamples;
using testing::RegisterSamples;

const testing::Reference kSame = [](const testing::RefArray& x) { return x; };

OpSamples to_samples() {
  OpSamples s{.op = "to", .no_errors = "every type converts to every other"};
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5}}) {
    s.samples.push_back({.name = shape.str(),
                         .inputs = {testing::normal(shape)},
                         .call = [](const Tensor& x) { return x.to(kFloat32).to(x.dtype()); },
                         .reference = kSame,
                         .no_numeric = "differences are rounded to float32",
                         .no_float32 = "float32 is not converted"});
  }
  return s;
}
const RegisterSamples kTo{"to", to_samples};

OpSamples contiguous_samples() {
  OpSamples s{.op = "contiguous",
              .no_scalar = "a scalar is contiguous",
              .no_errors = "every tensor has a contiguous copy"};
  for (const Shape& shape : {Shape{4, 3}, Shape{2, 0}, Shape{5, 2}}) {
    s.samples.push_back({.name = shape.str(),
                         .inputs = {testing::normal(shape)},
                         .call = [](const Tensor& x) { return contiguous(transpose(x, 0, 1)); },
                         .reference =
                             [](const testing::RefArray& x) {
                               testing::RefArray y({x.size(1), x.size(0)});
                               for (int64_t i = 0; i < x.size(0); ++i) {
                                 for (int64_t j = 0; j < x.size(1); ++j) y(j, i) = x(i, j);
                               }
                               return y;
                             }});
  }
  return s;
}
const RegisterSamples kContiguous{"contiguous", contiguous_samples};

TEST(Convert, EveryPairOfTypes) {
  for (int from = 0; from < kDTypeCount; ++from) {
    for (int to = 0; to < kDTypeCount; ++to) {
      const Tensor x = testing::tensor({3}, {0, 1, 1}).to(static_cast<DType>(from));
      const Tensor y = x.to(static_cast<DType>(to));
      EXPECT_EQ(y.dtype(), static_cast<DType>(to));
      EXPECT_EQ(y.to(kFloat64).to_vector<double>(), (std::vector<double>{0, 1, 1}))
          << name_of(x.dtype()) << " to " << name_of(y.dtype());
    }
  }
}

}  // namespace
}  // namespace ebb
