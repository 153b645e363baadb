// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/graph_print.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "ebb/autograd/leaf.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/unary.h"
#include "test_ops.h"

namespace ebb {
namespace {

using test::of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The places without folder and line, which are this machine's and this file's.
std::string without_places(const std::string& s) {
  return std::regex_replace(s, std::regex("  at [^\n]*/graph_print_test.cc:[0-9]+"), "");
}

TEST(TapeToString, ShowsOpsEdgesShapesAndWhatIsSaved) {
  const Parameter w(of({2, 3}));
  w.leaf().name = "w";
  const Tensor x = of({4, 5});
  const Tensor y = exp(w * x) + w;
  EXPECT_EQ(without_places(tape_to_string(y)),
            "%0 = leaf \"w\" float64[2]\n"
            "%1 = mul(%0, -) float64[2]  saves in 1 float64[2]\n"
            "%2 = exp(%1) float64[2]  saves out 0 float64[2]\n"
            "%3 = add(%2, %0) float64[2]\n");
}

TEST(TapeToString, NamesTheLine) {
  const Tensor x = variable(of({1}));
  const auto line = std::source_location::current().line() + 1;
  const Tensor y = exp(x);
  EXPECT_THAT(tape_to_string(y), HasSubstr("graph_print_test.cc:" + std::to_string(line) + "\n"));
}

TEST(TapeToString, SeveralOutputsAndAttributes) {
  const Tensor a = variable(of({1}));
  const auto y = apply_multi<test::SumAndDifference>({}, a, of({2}));
  const Tensor p = apply_with<test::Polynomial>({{1, 2, 3}}, y[1]);
  EXPECT_EQ(without_places(tape_to_string(p)),
            "%0 = leaf float64[]\n"
            "%1 = sum_and_difference(%0, -) ? ?\n"
            "%2 = polynomial {degree 2}(%1:1) float64[]  saves in 0 float64[]\n");
}

TEST(TapeToString, IsTheSameEachTime) {
  const auto text = [] {
    const Tensor x = variable(of({1, 2}));
    const Tensor h = exp(x) * x;
    return tape_to_string(h * h + x);
  };
  EXPECT_EQ(text(), text());
}

TEST(TapeToString, LimitKeepsWhatIsNearest) {
  const Tensor x = variable(of({1}));
  Tensor y = x;
  for (int i = 0; i < 1'000'000; ++i) y = y + 1.0;
  const std::string s = tape_to_string(exp(y), {.max_nodes = 3});
  EXPECT_EQ(std::count(s.begin(), s.end(), '\n'), 3);
  EXPECT_THAT(s, AllOf(HasSubstr("%0 = affine {"), HasSubstr("(...)"), HasSubstr("%2 = exp(%1)")));
}

TEST(TapeToString, ConstantsAndPlayedTapes) {
  EXPECT_EQ(tape_to_string(of({1, 2})), "constant float64[2]\n");
  EXPECT_EQ(tape_to_string(Tensor()), "constant undefined\n");
  const Tensor x = variable(of({1}));
  const Tensor y = exp(x) * x;
  y.backward();
  EXPECT_THAT(tape_to_string(y), HasSubstr("%0 = mul(played)"));
}

TEST(TapeToDot, IsAGraph) {
  const Parameter w(of({2, 3}));
  w.leaf().name = "a \"quoted\" name";
  const Tensor y = exp(w * 2.0) + w;
  const std::string s = tape_to_dot(y);
  EXPECT_THAT(s, AllOf(HasSubstr("digraph tape {"), HasSubstr("\\\"a \\\"quoted\\\" name\\\""),
                       HasSubstr("n0 -> n1;"), HasSubstr("n2 -> n3;"), HasSubstr("n0 -> n3;")));
  EXPECT_EQ(std::count(s.begin(), s.end(), '{'), std::count(s.begin(), s.end(), '}'));
  EXPECT_THAT(tape_to_dot(y, {.max_nodes = 1}), HasSubstr("[label=\"...\""));
  EXPECT_THAT(tape_to_dot(of({1})), Not(HasSubstr("n0")));
}

}  // namespace
}  // namespace ebb
