// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/einsum.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/linalg.h"

namespace ebb {
namespace {

using testing::error_sample;
using testing::normal;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;

// The sum over every label that the result lacks, of an equation without an ellipsis and with its
// result: one loop over all labels.
RefArray brute_force(const std::string& equation, Span<const RefArray> in) {
  std::vector<std::string> terms(1);
  for (const char c : equation.substr(0, equation.find("->"))) {
    if (c == ',') {
      terms.emplace_back();
    } else {
      terms.back() += c;
    }
  }
  const std::string out = equation.substr(equation.find("->") + 2);
  std::map<char, int64_t> sizes;
  for (size_t i = 0; i < in.size(); ++i) {
    for (size_t k = 0; k < terms[i].size(); ++k) {
      int64_t& size = sizes.try_emplace(terms[i][k], 1).first->second;
      if (in[i].size(static_cast<int>(k)) != 1) size = in[i].size(static_cast<int>(k));
    }
  }
  int64_t total = 1;
  for (const auto& [label, size] : sizes) total *= size;
  Shape shape;
  for (const char c : out) shape.push_back(sizes[c]);
  RefArray y(shape);
  std::map<char, int64_t> at;
  for (int64_t n = 0; n < total; ++n) {
    int64_t rest = n;
    for (const auto& [label, size] : sizes) {
      at[label] = rest % size;
      rest /= size;
    }
    double term = 1;
    for (size_t i = 0; i < in.size(); ++i) {
      int64_t k = 0;
      for (size_t axis = 0; axis < terms[i].size(); ++axis) {
        const int64_t size = in[i].size(static_cast<int>(axis));
        k = k * size + (size == 1 ? 0 : at[terms[i][axis]]);
      }
      term *= in[i].v[static_cast<size_t>(k)];
    }
    int64_t k = 0;
    for (const char c : out) k = k * sizes[c] + at[c];
    y.v[static_cast<size_t>(k)] += term;
  }
  return y;
}

struct Case {
  std::string equation;
  std::vector<Shape> shapes;
  std::string spelt_out = {};  // without ellipsis and with the result; the same where empty
};

const Case kCases[] = {
    // One operand: rearranging, summing, diagonals.
    {"ij->ji", {{2, 3}}},
    {"ij->", {{2, 3}}},
    {"ij->j", {{2, 3}}},
    {"ii->i", {{3, 3}}},
    {"ii->", {{3, 3}}},
    {"iij->ji", {{2, 2, 3}}},
    {"iji->j", {{2, 3, 2}}},
    {"->", {{}}},
    {"i->i", {{0}}},
    {"ij->i", {{2, 0}}},
    {"ba", {{2, 3}}, "ba->ab"},
    {"bA", {{2, 3}}, "bA->Ab"},
    {"ii", {{2, 2}}, "ii->"},
    // Two.
    {"ij,jk->ik", {{2, 3}, {3, 4}}},
    {"ij,jk", {{2, 3}, {3, 4}}, "ij,jk->ik"},
    {"ij,kj->ki", {{2, 3}, {4, 3}}},
    {"ji,jk->ik", {{3, 2}, {3, 4}}},
    {"i,i->", {{4}, {4}}},
    {"i,j->ij", {{2}, {3}}},
    {"i,j->ji", {{2}, {3}}},
    {"ij,ij->ij", {{2, 3}, {2, 3}}},
    {"ij,ji->ij", {{2, 3}, {3, 2}}},
    {"ij,ij->i", {{2, 3}, {2, 3}}},
    {"ij,ij->", {{2, 3}, {2, 3}}},
    {"ij,j->i", {{2, 3}, {3}}},
    {"ij,->ij", {{2, 3}, {}}},
    {"ij,k->", {{2, 3}, {2}}},
    {"ij,k->k", {{2, 3}, {2}}},
    {"bij,bjk->bik", {{2, 3, 2}, {2, 2, 4}}},
    {"bij,bjk->kib", {{2, 3, 2}, {2, 2, 4}}},
    {"bhqd,bhkd->bhqk", {{2, 2, 3, 2}, {2, 2, 2, 2}}},
    {"bqhd,bkhd->bhqk", {{2, 3, 2, 2}, {2, 2, 2, 2}}},
    {"ijkl,jlm->mik", {{2, 3, 2, 2}, {3, 2, 2}}},
    {"abc,cab->b", {{2, 3, 2}, {2, 2, 3}}},
    {"ii,ij->j", {{3, 3}, {3, 2}}},
    {"ij,jj->ij", {{2, 3}, {3, 3}}},
    {"ij,jk->ik", {{2, 0}, {0, 3}}},
    {"ij,jk->ik", {{0, 2}, {2, 3}}},
    {"ijk,jl->ikl", {{2, 0, 3}, {0, 2}}},
    // Axes of size 1 that broadcast.
    {"ij,ij->ij", {{2, 1}, {2, 3}}},
    {"ij,jk->ik", {{2, 1}, {3, 4}}},
    {"ij,jk->ik", {{1, 3}, {3, 1}}},
    {"i,i->", {{1}, {3}}},
    // Ellipsis.
    {"...ij->...ji", {{2, 3, 4}}, "bij->bji"},
    {"...", {{2, 3}}, "ij->ij"},
    {"i...->...", {{2, 3}}, "ij->j"},
    {"...->", {{2, 3}}, "ij->"},
    {"...i,i->...", {{2, 3, 2}, {2}}, "abi,i->ab"},
    {"...ij,...jk->...ik", {{2, 3, 2}, {2, 4}}, "bij,jk->bik"},
    {"...ij,...jk->...ik", {{2, 1, 3, 2}, {3, 2, 2}}, "abij,bjk->abik"},
    {"i...,j...->ij...", {{2, 3}, {4, 3}}, "ik,jk->ijk"},
    {"...i,...i", {{2, 3}, {2, 3}}, "bi,bi->b"},
    {" i j , j k -> i k ", {{2, 3}, {3, 4}}, "ij,jk->ik"},
    // Three and more.
    {"ij,jk,kl->il", {{2, 3}, {3, 2}, {2, 4}}},
    {"ij,ik,jl->kl", {{2, 3}, {2, 2}, {3, 2}}},
    {"i,i,i->i", {{3}, {3}, {3}}},
    {"i,j,k->kji", {{2}, {3}, {2}}},
    {"bi,ijk,bk->bj", {{2, 3}, {3, 2, 2}, {2, 2}}},
    {"ab,bc,cd,da->", {{2, 3}, {3, 2}, {2, 2}, {2, 2}}},
    {"ii,jj,ij->i", {{2, 2}, {3, 3}, {2, 3}}},
};

const RegisterSamples kEinsum{
    "einsum", [] {
      OpSamples s{.op = "einsum"};
      const auto make = [](const Case& c, auto&& numbers) {
        Sample sample;
        sample.name = c.equation;
        for (const Shape& shape : c.shapes) {
          sample.name += " " + shape.str();
          sample.inputs.push_back(numbers(shape));
        }
        sample.call = [equation = c.equation](Span<const Tensor> in) {
          return einsum(equation, in);
        };
        sample.reference = [equation = c.spelt_out.empty() ? c.equation : c.spelt_out](
                               Span<const RefArray> in) { return brute_force(equation, in); };
        return sample;
      };
      for (const Case& c : kCases) {
        s.samples.push_back(make(c, [](const Shape& shape) { return normal(shape); }));
      }
      s.sized = [=](int64_t n) {
        std::vector<Sample> all;
        for (const Case& c : {Case{"ij,jk->ik", {{3, n}, {n, 2}}}, Case{"i,i->i", {{n}, {n}}},
                              Case{"bi,bi->b", {{2, n}, {2, n}}}, Case{"ij->j", {{n, 2}}}}) {
          all.push_back(make(c, [](const Shape& shape) { return testing::positive(shape); }));
        }
        return all;
      };
      const auto error = [&]<class E>(std::type_identity<E>, const std::string& equation,
                                      std::vector<Shape> shapes, const std::string& message) {
        std::vector<Tensor> in;
        for (const Shape& shape : shapes) in.push_back(normal(shape));
        s.errors.push_back(error_sample<E>(
            equation, std::move(in),
            [equation](Span<const Tensor> x) { return einsum(equation, x); },
            "einsum: " + message));
      };
      const std::type_identity<ValueError> value;
      const std::type_identity<ShapeError> shape;
      error(value, "ij,jk", {{2, 3}}, "\"ij,jk\": names more operands than the 1 that are given");
      error(value, "ij", {{2, 3}, {3, 4}}, "\"ij\": names 1 operands, 2 are given");
      error(value, "i1->i", {{2, 3}}, "\"i1->i\": '1' is not a letter");
      error(value, "i-j", {{2, 3}}, "\"i-j\": '-' is not a letter");
      error(value, "ij->ik", {{2, 3}}, "\"ij->ik\": label k of the result is in no operand");
      error(value, "ij->ii", {{2, 3}}, "\"ij->ii\": label i is in the result twice");
      error(value, "..i", {{2, 3}}, "\"..i\": a dot is only allowed in one `...` an operand");
      error(value, "...i...", {{2, 3}},
            "\"...i...\": a dot is only allowed in one `...` an operand");
      error(value, "abcdefghi->a", {{2}}, "\"abcdefghi->a\": more than 8 labels for one operand");
      error(value, "abcde,fghij", {{1, 1, 1, 1, 1}, {1, 1, 1, 1, 1}},
            "\"abcde,fghij\": the result would have more than 8 axes");
      error(value, "...,ab->...ab", {{1, 1, 1, 1, 1, 1, 1}, {1, 1}},
            "\"...,ab->...ab\": the result would have more than 8 axes");
      error(shape, "ijk->i", {{2, 3}}, "\"ijk->i\": operand 0 is [2,3], its term has 3 labels");
      error(shape, "i->i", {{2, 3}}, "\"i->i\": operand 0 is [2,3], its term has 1 labels");
      error(shape, "ijk...->i", {{2, 3}},
            "\"ijk...->i\": operand 0 is [2,3], its term has 3 labels");
      error(shape, "ij,jk->ik", {{2, 3}, {4, 5}},
            "ij,jk->ik of [2,3], [4,5]; label j has sizes 3 and 4");
      error(shape, "ii->i", {{2, 3}}, "ii->i: operand 0 is [2,3]; its axes 0 and 1 must be equal");
      s.errors.push_back(error_sample<DTypeError>(
          "int64", {testing::integers({2}, 0, 3)},
          [](const Tensor& x) { return einsum("i->", {x}); }, "einsum: input 0 is int64[2]"));
      return s;
    }};

TEST(Einsum, TakesAListAndParameters) {
  const Parameter w(normal({3, 4}));
  const Tensor x = normal({4});
  EXPECT_EQ(einsum("ij,j->i", {w, x}).to_vector<double>(), mv(w, x).to_vector<double>());
}

TEST(Einsum, UndefinedOperandIsAnError) {
  EXPECT_THROW(einsum("i->i", {Tensor()}), ValueError);
  EXPECT_THROW(einsum("", {}), ValueError);
}

TEST(Einsum, LargerContractionsOfStridedOperands) {
  const Tensor a = normal({20, 30, 10});
  const Tensor b = normal({30, 25, 10});
  const Tensor y = einsum("ijb,jkb->bik", {a, b});
  const Tensor z = bmm(a.permute({2, 0, 1}), b.permute({2, 0, 1}));
  const std::vector<double> p = y.to_vector<double>();
  const std::vector<double> q = z.to_vector<double>();
  for (size_t i = 0; i < p.size(); ++i) ASSERT_NEAR(p[i], q[i], 1e-12 * 30);
}

}  // namespace
}  // namespace ebb
