// SPDX-License-Identifier: Apache-2.0
#include "compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ebb::beside_torch {
namespace {

using torch_side::Input;
using torch_side::Kind;
using torch_side::Numbers;

int compared = 0;
int cancelled = 0;

class Tally : public ::testing::Environment {
 public:
  void TearDown() override {
    std::printf("%d configurations beside LibTorch; %d float32 results of numbers that cancel\n",
                compared, cancelled);
    // They are exceptions.
    if (compared > 1000) {
      EXPECT_LT(cancelled, compared / 50);
    }
  }
};
[[maybe_unused]] const auto* const kTally = ::testing::AddGlobalTestEnvironment(new Tally);

std::vector<double> doubles(const Tensor& t) { return t.to(kFloat64).to_vector<double>(); }

Input input_of(const Tensor& t, bool differentiated, std::optional<int64_t> batch_axis) {
  Input n;
  if (!t.defined()) {
    n.kind = Kind::kNone;
    return n;
  }
  n.kind = t.dtype() == kBool                               ? Kind::kBool
           : t.dtype() == kFloat32 || t.dtype() == kFloat64 ? Kind::kFloating
                                                            : Kind::kIndex;
  n.differentiated = differentiated && n.kind == Kind::kFloating;
  const Shape shape = t.shape();
  n.shape.assign(shape.begin(), shape.end());
  if (batch_axis) n.shape.insert(n.shape.begin() + *batch_axis, 1);
  n.v = doubles(t);
  return n;
}

double largest_of(const std::vector<double>& v, double least) {
  for (const double w : v) {
    if (std::isfinite(w)) least = std::max(least, std::abs(w));
  }
  return least;
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

double error_of(const std::vector<double>& v, const Numbers& exact) {
  double error = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    if (!same(v[i], exact.v[i])) error = std::max(error, std::abs(v[i] - exact.v[i]));
  }
  return error;
}

std::string difference(const std::string& what, const Tensor& got, const Numbers& want,
                       double tolerance, double least = 1e-3) {
  const auto v = doubles(got);
  if (v.size() != want.v.size()) {
    return absl::StrCat(what, " is ", got.shape().str(), ", LibTorch's has ", want.v.size(),
                        " elements");
  }
  const double largest = largest_of(want.v, least);
  for (size_t i = 0; i < v.size(); ++i) {
    if (std::abs(v[i] - want.v[i]) <= tolerance * largest || same(v[i], want.v[i])) continue;
    return absl::StrCat(what, " ", got.shape().str(), ": element ", i, " is ", v[i],
                        ", LibTorch's ", want.v[i], "; they differ by ",
                        std::abs(v[i] - want.v[i]) / largest, " of the largest");
  }
  return "";
}

// The same in float32, whose results may be what is left of larger numbers that cancel. Then ours
// must be as near to LibTorch's in float64 as 1e-5 of the largest number, or 16 roundings of the
// inputs' and cotangents', or twice the distance at which LibTorch's own in float32 are.
std::string difference32(const std::string& what, const Tensor& got, const Numbers& want,
                         double scale, const std::function<Numbers()>& exactly) {
  const std::string found = difference(what, got, want, 1e-5);
  if (found.empty()) return found;
  const Numbers exact = exactly();
  const auto v = doubles(got);
  if (v.size() != exact.v.size()) return found;
  const double ours = error_of(v, exact);
  const double theirs = error_of(want.v, exact);
  const double roundings = 16 * std::ldexp(scale, -24);
  if (ours <= std::max({1e-5 * largest_of(exact.v, 1e-3), roundings, 2 * theirs})) {
    ++cancelled;
    return "";
  }
  return absl::StrCat(found, "; ours is off by ", ours, ", LibTorch's by ", theirs);
}

std::string text_of(const Call& c, const std::vector<Tensor>& inputs) {
  std::string text = absl::StrCat(c.op, " ", c.dims, "d ", c.float64 ? "float64" : "float32");
  const auto list = [&](const char* name, const std::vector<int64_t>& v) {
    if (!v.empty()) absl::StrAppend(&text, ", ", name, " ", Shape(v.data(), v.size()).str());
  };
  list("kernel", c.kernel);
  list("stride", c.stride);
  list("padding", c.padding);
  list("dilation", c.dilation);
  list("output padding", c.output_padding);
  list("size", c.size);
  absl::StrAppend(&text, ", groups ", c.groups, ", ceil ", c.ceil_mode, ", factors ",
                  absl::StrJoin(c.factors, ","), ", mode ", c.mode, " ", c.padding_mode, ", align ",
                  c.align_corners, ", ", absl::StrJoin(c.numbers, ", ", absl::PairFormatter(" ")),
                  "; of");
  for (const Tensor& t : inputs) {
    absl::StrAppend(&text, " ", t.defined() ? t.shape().str() : "none",
                    !t.defined() || t.is_contiguous() ? "" : " as a view");
  }
  return text;
}

// x, or the same numbers on other memory: transposed, with others between, backwards. What is a
// leaf is differentiated through the view.
Tensor laid_out(const Tensor& x, int64_t how, bool differentiated) {
  const auto leaf = [&](const Tensor& t) { return differentiated ? variable(t) : t; };
  if (x.dim() == 0 || x.numel() == 0) return leaf(x);
  switch (how) {
    case 1: {
      const Tensor turned = transpose(x, 0, -1).contiguous();
      return transpose(leaf(turned), 0, -1);
    }
    case 2: {
      const Tensor more[] = {x.detach(), x.detach(), x.detach()};
      return leaf(cat(more, -1)).narrow(-1, x.size(-1), x.size(-1));
    }
    case 3:
      return flip(leaf(flip(x, {0}).contiguous()), {0});
    default:
      return leaf(x);
  }
}

struct Side {
  std::vector<Tensor> wanted;
  std::vector<Input> inputs;
};

void check(const Call& call, const std::vector<Tensor>& shown, const Side& side,
           const std::vector<Tensor>& y, size_t buffers, const Options& options) {
  const bool twice = call.float64 && options.second_order;
  const size_t results = y.size() - buffers;
  std::vector<Tensor> depending;
  std::vector<Tensor> v;
  std::vector<std::vector<double>> cotangents;
  for (size_t i = 0; i < results; ++i) {
    cotangents.emplace_back();
    if (!y[i].requires_grad()) continue;
    const Tensor c = testing::normal(y[i].shape()).to(y[i].dtype());
    depending.push_back(y[i]);
    v.push_back(twice ? variable(c) : c);
    cotangents.back() = doubles(c);
  }
  std::vector<Tensor> u;
  std::vector<std::vector<double>> second_cotangents;
  if (twice) {
    for (const Tensor& t : side.wanted) {
      u.push_back(testing::normal(t.shape()));
      second_cotangents.push_back(doubles(u.back()));
    }
  }

  torch_side::Result want;
  std::optional<torch_side::Result> exact;
  try {
    want = torch_side::run(call, side.inputs, cotangents, second_cotangents);
  } catch (const std::exception& e) {
    const std::string message = e.what();
    FAIL() << text_of(call, shown) << ": LibTorch throws " << message.substr(0, 400);
  }
  double scale = 1;
  for (const Input& in : side.inputs) scale = largest_of(in.v, scale);
  for (const auto& c : cotangents) scale = largest_of(c, scale);
  using Part = std::vector<Numbers> torch_side::Result::*;
  const auto difference_of = [&](const char* what, const Tensor& got, Part part, size_t i) {
    const std::string name = absl::StrCat(what, " ", i);
    const double least = part == &torch_side::Result::second ? 0.1 : 1e-3;
    if (call.float64) return difference(name, got, (want.*part)[i], 1e-10, least);
    return difference32(name, got, (want.*part)[i], scale, [&] {
      if (!exact) {
        Call wide = call;
        wide.float64 = true;
        exact = torch_side::run(wide, side.inputs, cotangents, {});
      }
      return ((*exact).*part)[i];
    });
  };

  ASSERT_EQ(want.y.size(), y.size()) << text_of(call, shown);
  for (size_t i = 0; i < y.size(); ++i) {
    if (!y[i].defined()) continue;  // a buffer that is not compared
    ASSERT_EQ(difference_of("result", y[i], &torch_side::Result::y, i), "") << text_of(call, shown);
  }
  if (depending.empty() || side.wanted.empty()) return;

  const auto dense = [](const Tensor& g, const Tensor& of) {
    return g.defined() ? g : zeros_like(of);
  };
  const auto first = grad(depending, side.wanted, {.create_graph = twice, .allow_unused = true}, v);
  ASSERT_EQ(first.size(), want.gradients.size()) << text_of(call, shown);
  for (size_t i = 0; i < first.size(); ++i) {
    ASSERT_EQ(difference_of("gradient", dense(first[i], side.wanted[i]),
                            &torch_side::Result::gradients, i),
              "")
        << text_of(call, shown);
  }
  if (!twice) return;

  std::vector<Tensor> gradients;
  std::vector<Tensor> factors;
  for (size_t i = 0; i < first.size(); ++i) {
    if (!first[i].defined() || !first[i].requires_grad()) continue;
    gradients.push_back(first[i]);
    factors.push_back(u[i]);
  }
  std::vector<Tensor> all = side.wanted;
  all.insert(all.end(), v.begin(), v.end());
  std::vector<Tensor> second(all.size());
  if (!gradients.empty()) second = grad(gradients, all, {.allow_unused = true}, factors);
  ASSERT_EQ(second.size(), want.second.size()) << text_of(call, shown);
  for (size_t i = 0; i < second.size(); ++i) {
    ASSERT_EQ(difference_of("second-order gradient", dense(second[i], all[i]),
                            &torch_side::Result::second, i),
              "")
        << text_of(call, shown);
  }
}

// The arguments in one type, as we take them and as LibTorch does.
std::vector<Tensor> arguments(const std::vector<In>& inputs, bool wide,
                              const std::vector<int64_t>& layouts, Side* side) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const In& in = inputs[i];
    Tensor x = in.value;
    if (x.defined()) {
      if (x.dtype() == kFloat64 && !wide) x = x.to(kFloat32);
      const bool differentiated =
          in.differentiated && (x.dtype() == kFloat32 || x.dtype() == kFloat64);
      x = laid_out(x, layouts[i], differentiated);
      if (differentiated) side->wanted.push_back(x);
    }
    side->inputs.push_back(input_of(x, in.differentiated, in.batch_axis));
    all.push_back(x);
  }
  return all;
}

std::vector<int64_t> layouts_of(const std::vector<In>& inputs) {
  static Draw draw("layouts");
  std::vector<int64_t> layouts;
  for (size_t i = 0; i < inputs.size(); ++i) {
    layouts.push_back(draw.coin() ? draw(1, 3) : 0);
  }
  return layouts;
}

std::vector<bool> widths(const Options& options) {
  std::vector<bool> wide;
  if (options.float64) wide.push_back(true);
  if (options.float32) wide.push_back(false);
  return wide;
}

nn::StateDict with_noise(const nn::StateDict& state) {
  nn::StateDict noisy;
  for (const auto& [name, t] : state) {
    if (t.dtype() != kFloat32 && t.dtype() != kFloat64) {
      noisy[name] = t;
      continue;
    }
    const bool variance = name.size() >= 3 && name.substr(name.size() - 3) == "var";
    const Tensor noise = variance ? testing::uniform(t.shape(), 0, 1) : testing::normal(t.shape());
    noisy[name] = (t.to(kFloat64) + noise * 0.25).to(kFloat32);
  }
  return noisy;
}

}  // namespace

Draw::Draw(std::string_view name)
    : generator_(
          [] {
            const char* const seed = std::getenv("EBB_TORCH_SEED");
            return seed == nullptr ? 7 : std::strtoull(seed, nullptr, 10);
          }(),
          name) {}

void compare(Call call, const std::vector<In>& inputs, const testing::Call& f,
             const Options& options) {
  ++compared;
  const auto layouts = layouts_of(inputs);
  for (const bool wide : widths(options)) {
    call.float64 = wide;
    Side side;
    const auto x = arguments(inputs, wide, layouts, &side);
    check(call, x, side, f(x), 0, options);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

void compare_module(Call call, nn::Module& module, const std::vector<In>& inputs,
                    const testing::Call& f, const Options& options) {
  ++compared;
  nn::StateDict state;
  for (const auto& [name, n] : torch_side::state_of(call)) {
    state[name] = testing::tensor(Shape(n.shape.data(), n.shape.size()), n.v);
  }
  // Strict: fails on a name too many, too few, or of another shape.
  try {
    module.load_state_dict(state);
  } catch (const Error& e) {
    FAIL() << call.op << ": LibTorch's parameters do not fit ours: " << e.what();
  }
  module.to(kFloat32);
  const nn::StateDict noisy = with_noise(module.state_dict());

  const auto layouts = layouts_of(inputs);
  for (const bool wide : widths(options)) {
    call.float64 = wide;
    module.to(wide ? kFloat64 : kFloat32);
    module.load_state_dict(noisy);
    Side side;
    const auto x = arguments(inputs, wide, layouts, &side);
    for (const auto& [name, p] : module.named_parameters()) {
      side.wanted.push_back(p);
      side.inputs.push_back(input_of(p, true, {}));
      side.inputs.back().name = name;
    }
    for (const auto& [name, b] : module.named_buffers()) {
      side.inputs.push_back(input_of(b, false, {}));
      side.inputs.back().name = name;
    }
    std::vector<Tensor> y = f(x);
    // LibTorch's stand in the order of their names.
    nn::StateDict buffers;
    for (const auto& [name, b] : module.named_buffers()) buffers[name] = b;
    for (const auto& [name, b] : buffers) y.push_back(name == options.unlike ? Tensor() : b);
    check(call, x, side, y, buffers.size(), options);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

std::vector<In> samples(const std::vector<Tensor>& inputs, bool batched) {
  std::vector<In> all;
  for (const Tensor& t : inputs) {
    all.emplace_back(t, true, batched ? std::optional<int64_t>() : 0);
  }
  return all;
}

Shape sample_shape(Draw& draw, int dims, bool batched, int64_t channels, int64_t low,
                   int64_t high) {
  Shape s;
  if (batched) s.push_back(draw(1, 3));
  s.push_back(channels);
  for (int d = 0; d < dims; ++d) s.push_back(draw(low, high));
  return s;
}

void repeat(int times, const std::function<void()>& f) {
  for (int i = 0; i < times && !::testing::Test::HasFatalFailure(); ++i) f();
}

}  // namespace ebb::beside_torch
