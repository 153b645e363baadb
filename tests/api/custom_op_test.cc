// SPDX-License-Identifier: Apache-2.0
// The op of examples/custom_op, with the one call that checks it.
#include <gtest/gtest.h>

#include "ebb/autograd/testing.h"
#include "ebb/ebb.h"
#include "ebb/examples/custom_op/swish.h"

namespace {

TEST(Swish, IsDifferentiableTwice) {
  ebb::testing::check_op<Swish>({ebb::testing::normal({3, 4}), ebb::testing::scalar(1.5)});
}

TEST(Swish, RefusesASlopeThatIsNoScalar) {
  try {
    swish(ebb::zeros({3}), ebb::zeros({2}));
    FAIL();
  } catch (const ebb::ShapeError& e) {
    EXPECT_STREQ(e.what(), "swish: b is [2]; it must be a scalar");
  }
}

}  // namespace
