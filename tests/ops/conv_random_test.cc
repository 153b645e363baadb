// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "conv_reference.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/random.h"

// Every combination of stride, padding, dilation and groups, with all else drawn at random, against
// convolution by its definition: results and all gradients, in both types.
namespace ebb {
namespace {

using testing::RefArray;
using testing::RefConv;

class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(seed, "conv") {}
  int64_t operator()(int64_t low, int64_t high) {  // both included
    return low + static_cast<int64_t>(generator_.uniform() * static_cast<double>(high - low + 1));
  }

 private:
  Generator generator_;
};

// Empty, or what is wrong.
std::string compare(const char* what, const Tensor& got, const RefArray& want, double tolerance) {
  if (got.shape() != want.shape) {
    return absl::StrCat(what, " is ", got.shape().str(), ", expected ", want.shape.str());
  }
  const auto v = got.to(kFloat64).to_vector<double>();
  double largest = 1e-30;
  for (const double w : want.v) largest = std::max(largest, std::abs(w));
  for (size_t i = 0; i < v.size(); ++i) {
    if (std::abs(v[i] - want.v[i]) <= tolerance * largest) continue;
    return absl::StrCat(what, " ", want.shape.str(), ": element ", i, " is ", v[i], ", expected ",
                        want.v[i]);
  }
  return "";
}

// The results of one call with cotangent `v`, and of its playback, against the references.
template <class Call>
void check(const std::string& name, const Call& call, const std::vector<Tensor>& in,
           const Tensor& v, const RefArray& y, const std::vector<RefArray>& gradients) {
  for (const DType type : {kFloat64, kFloat32}) {
    const double tolerance = type == kFloat64 ? 1e-12 : 1e-5;
    std::vector<Tensor> leaves;
    for (const Tensor& t : in) leaves.push_back(variable(t.to(type)));
    const Tensor result = call(Span<const Tensor>(leaves));
    ASSERT_EQ(compare("the result", result, y, tolerance), "") << name << " " << name_of(type);
    const auto found = grad({result}, leaves, {}, {v.to(type)});
    const char* names[] = {"dx", "dw", "db"};
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(compare(names[i], found[i], gradients[i], tolerance), "")
          << name << " " << name_of(type);
    }
  }
}

RefArray bias_gradient(int dims, const RefArray& dy) {
  const int at = dy.shape.rank() - dims - 1;
  RefArray db(Shape{dy.shape[at]});
  int64_t inner = 1;
  for (int i = at + 1; i < dy.shape.rank(); ++i) inner *= dy.shape[i];
  for (size_t i = 0; i < dy.v.size(); ++i) {
    db.v[i / static_cast<size_t>(inner) % db.v.size()] += dy.v[i];
  }
  return db;
}

struct Drawn {
  Shape x;
  Shape weight;
  bool bias;
};

// Shapes that fit, for a convolution or, `transposed`, for its transpose.
template <int D, class Options>
Drawn shapes_for(const Options& o, bool transposed, Draw& draw) {
  Drawn s;
  const int64_t a = o.groups * draw(1, 3);
  const int64_t b = draw(1, 3);
  if (draw(0, 2) == 0) s.x.push_back(draw(1, 3));
  s.x.push_back(a);
  s.weight = transposed ? Shape{a, b} : Shape{o.groups * b, a / o.groups};
  for (int d = 0; d < D; ++d) {
    const int64_t kernel = draw(1, D == 3 ? 3 : 5);
    const int64_t span = o.dilation[d] * (kernel - 1) + 1;
    int64_t least = 1;
    if (transposed) {
      while ((least - 1) * o.stride[d] - 2 * o.padding[d] + span < 1) ++least;
    } else {
      least = std::max<int64_t>(1, span - 2 * o.padding[d]);
    }
    s.weight.push_back(kernel);
    s.x.push_back(least + draw(0, D == 1 ? 20 : D == 2 ? 7 : 3));
  }
  s.bias = draw(0, 1) == 1;
  return s;
}

std::vector<Tensor> inputs_of(const Drawn& s, int64_t channels) {
  std::vector<Tensor> in = {testing::normal(s.x), testing::normal(s.weight)};
  if (s.bias) in.push_back(testing::normal({channels}));
  return in;
}

template <int D>
void sweep() {
  Draw draw(D);
  testing::restart_inputs(D);
  for (int64_t combination = 0; combination < 3 * 4 * 3 * 3; ++combination) {
    ConvOptions<D> o;
    ConvTransposeOptions<D> up;
    o.groups = up.groups = combination / 36 + 1;
    for (int d = 0; d < D; ++d) {  // the first axis goes through all, the others are drawn
      o.stride[d] = up.stride[d] = d == 0 ? combination % 3 + 1 : draw(1, 3);
      o.padding[d] = up.padding[d] = d == 0 ? combination / 3 % 4 : draw(0, 3);
      o.dilation[d] = up.dilation[d] = d == 0 ? combination / 12 % 3 + 1 : draw(1, 3);
      up.output_padding[d] = draw(0, std::max(up.stride[d], up.dilation[d]) - 1);
    }
    {
      const Drawn s = shapes_for<D>(o, false, draw);
      const RefConv r = testing::ref_conv(o);
      const auto in = inputs_of(s, s.weight[0]);
      std::vector<RefArray> refs;
      for (const Tensor& t : in) refs.push_back(testing::to_ref(t.array()));
      const RefArray y = conv_by_definition(r, refs);
      const Tensor v = testing::normal(y.shape);
      const RefArray dy = testing::to_ref(v.array());
      std::vector<RefArray> gradients = {conv_grad_input_by_definition(r, s.x, dy, refs[1]),
                                         conv_grad_weight_by_definition(r, s.weight, refs[0], dy)};
      if (s.bias) gradients.push_back(bias_gradient(D, dy));
      const std::string name = absl::StrCat(s.x.str(), " ", s.weight.str(), " ", r.str());
      check(
          name, [&](Span<const Tensor> x) { return testing::call_conv(x, o); }, in, v, y,
          gradients);
      if (::testing::Test::HasFatalFailure()) return;
    }
    const Drawn s = shapes_for<D>(up, true, draw);
    const RefConv r = testing::ref_conv(up);
    const auto in = inputs_of(s, s.weight[1] * up.groups);
    std::vector<RefArray> refs;
    for (const Tensor& t : in) refs.push_back(testing::to_ref(t.array()));
    const RefArray y = conv_transpose_by_definition(r, refs);
    const Tensor v = testing::normal(y.shape);
    const RefArray dy = testing::to_ref(v.array());
    // The transpose of a transpose: x takes the part of the convolution's result.
    RefArray dx(s.x);
    for_each_term(r, y.shape, s.weight, s.x,
                  [&](size_t from, size_t w, size_t to) { dx.v[to] += dy.v[from] * refs[1].v[w]; });
    std::vector<RefArray> gradients = {dx,
                                       conv_grad_weight_by_definition(r, s.weight, dy, refs[0])};
    if (s.bias) gradients.push_back(bias_gradient(D, dy));
    const std::string name = absl::StrCat("transposed ", s.x.str(), " ", s.weight.str(), " ",
                                          r.str(), " o", up.output_padding[0]);
    check(
        name, [&](Span<const Tensor> x) { return testing::call_conv(x, up); }, in, v, y, gradients);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(ConvSweep, OneAxis) { sweep<1>(); }
TEST(ConvSweep, TwoAxes) { sweep<2>(); }
TEST(ConvSweep, ThreeAxes) { sweep<3>(); }

}  // namespace
}  // namespace ebb
