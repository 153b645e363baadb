// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/join.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Tensors repeated, rolled and padded.
namespace ebb {
namespace {

using testing::counting;
using testing::element;
using testing::error_sample;
using testing::indices;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::ref_of;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::sample;

const RegisterSamples kTile{
    "tile", [] {
      OpSamples s{.op = "tile"};
      const struct {
        Shape x, reps, result;
      } cases[] = {{{3}, {2}, {6}},
                   {{2, 3}, {3, 2}, {6, 6}},
                   {{2, 3}, {2}, {2, 6}},
                   {{2}, {3, 1}, {3, 2}},
                   {{2, 1, 3}, {1, 5, 2}, {2, 5, 6}},
                   {{}, {2, 3}, {2, 3}},
                   {{}, {}, {}},
                   {{2, 3}, {0, 2}, {0, 6}},
                   {{0, 2}, {3, 2}, {0, 4}},
                   {{2, 2, 2}, {3, 1, 7}, {6, 2, 14}}};
      for (const auto& c : cases) {
        s.samples.push_back(sample(
            absl::StrCat(c.x.str(), " ", c.reps.str()), {normal(c.x)},
            [reps = c.reps](const Tensor& x) { return tile(x, reps); },
            [shape = c.result](const RefArray& x) {
              return ref_of(shape, [&](const Position& at) {
                Position from(at.end() - x.shape.rank(), at.end());
                for (size_t i = 0; i < from.size(); ++i) from[i] %= x.shape[static_cast<int>(i)];
                return element(x, from);
              });
            }));
      }
      s.errors = {
          error_sample<ValueError>(
              "negative", {normal({2, 3})},
              [](const Tensor& x) {
                return tile(x, {2, -1});
              },
              "tile: x is [2,3], to be repeated [2,-1] times; none may be negative"),
          error_sample<MemoryError>(
              "overflow", {normal({3})}, [](const Tensor& x) { return tile(x, {INT64_MAX}); },
              "tile: x [3] repeated [9223372036854775807] times has too many elements"),
      };
      return s;
    }};

RefArray ref_repeat(const RefArray& x, int axis, const std::vector<int64_t>& counts) {
  std::vector<int64_t> from;
  for (size_t i = 0; i < counts.size(); ++i) {
    from.insert(from.end(), static_cast<size_t>(counts[i]), static_cast<int64_t>(i));
  }
  Shape shape = x.shape;
  shape[axis] = static_cast<int64_t>(from.size());
  return ref_of(shape, [&](Position at) {
    auto& i = at[static_cast<size_t>(axis)];
    i = from[static_cast<size_t>(i)];
    return element(x, at);
  });
}

const RegisterSamples kRepeatInterleave{
    "repeat_interleave", [] {
      OpSamples s{.op = "repeat_interleave"};
      const auto by_number = [&](const Shape& shape, int64_t n, std::optional<int64_t> axis) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", n, " ", axis.value_or(99)), {normal(shape)},
            [=](const Tensor& x) { return repeat_interleave(x, n, axis); },
            [=](const RefArray& x) {
              const RefArray flat(Shape{x.numel()}, x.v);
              if (!axis || shape.rank() == 0) {
                return ref_repeat(flat, 0, std::vector<int64_t>(x.v.size(), n));
              }
              const auto at = static_cast<int>(testing::wrapped(*axis, shape.rank()));
              return ref_repeat(x, at, std::vector<int64_t>(static_cast<size_t>(shape[at]), n));
            }));
      };
      by_number({3, 2}, 2, 0);
      by_number({3, 2}, 3, -1);
      by_number({3, 2}, 2, {});
      by_number({2, 3, 2}, 2, 1);
      by_number({4}, 0, 0);
      by_number({}, 3, {});
      by_number({}, 2, 0);
      by_number({0, 2}, 2, 0);
      const auto by_list = [&](const Shape& shape, const std::vector<int64_t>& n,
                               std::optional<int64_t> axis) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " list ", axis.value_or(99)), {normal(shape), indices(n)},
            [=](const Tensor& x, const Tensor& r) { return repeat_interleave(x, r, axis); },
            [=](const RefArray& x, const RefArray&) {
              const RefArray from = axis ? x : RefArray(Shape{x.numel()}, x.v);
              const auto at = static_cast<int>(axis.value_or(0));
              std::vector<int64_t> counts = n;
              if (counts.size() == 1) counts.assign(static_cast<size_t>(from.shape[at]), n[0]);
              return ref_repeat(from, at, counts);
            }));
      };
      by_list({3, 2}, {2, 0, 3}, 0);
      by_list({2, 3}, {1, 2, 0}, 1);
      by_list({2, 2}, {1, 0, 2, 1}, {});
      by_list({2, 2}, {3}, 1);
      by_list({2, 2}, {0, 0}, 0);
      const Tensor x = normal({3, 2});
      const auto call = [](const Tensor& t, const Tensor& n) { return repeat_interleave(t, n, 0); };
      s.errors = {
          error_sample<ValueError>(
              "negative", {x}, [](const Tensor& t) { return repeat_interleave(t, -1, 0); },
              "repeat_interleave: x is [3,2], repeats is -1; it must not be "
              "negative"),
          error_sample<ValueError>("negative in list", {x, indices({1, -2, 1})}, call,
                                   "repeat_interleave: x is [3,2], repeats has -2; none may be "
                                   "negative"),
          error_sample<ShapeError>(
              "length", {x, indices({1, 2})}, call,
              "repeat_interleave: x is [3,2], repeats are [2]; they must be [3] "
              "or [1]"),
          error_sample<DTypeError>("type", {x, normal({3})}, call,
                                   "repeat_interleave: repeats are float64[3]"),
          error_sample<IndexError>(
              "axis", {x}, [](const Tensor& t) { return repeat_interleave(t, 1, 2); },
              "repeat_interleave: axis 2 is outside [-2, 2)"),
          error_sample<MemoryError>(
              "overflow", {x}, [](const Tensor& t) { return repeat_interleave(t, INT64_MAX, 0); },
              "times has too many elements"),
      };
      return s;
    }};

const RegisterSamples kRoll{
    "roll", [] {
      OpSamples s{.op = "roll"};
      const auto add = [&](const Shape& shape, Axes shifts, Axes axes) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", shifts.size(), " ", axes.size()), {normal(shape)},
            [=](const Tensor& x) { return roll(x, shifts, axes); },
            [=](const RefArray& x) {
              RefArray y = axes.empty() ? RefArray(Shape{x.numel()}, x.v) : x;
              for (int k = 0; k < shifts.size(); ++k) {
                const auto at =
                    static_cast<int>(axes.empty() ? 0 : testing::wrapped(axes[k], shape.rank()));
                const int64_t n = y.shape[at];
                y = ref_of(y.shape, [&](Position p) {
                  auto& i = p[static_cast<size_t>(at)];
                  i = ((i - shifts[k]) % n + n) % n;
                  return element(y, p);
                });
              }
              return RefArray(shape, y.v);
            }));
      };
      add({5}, 2, 0);
      add({5}, -1, {});
      add({3, 4}, 1, 0);
      add({3, 4}, -6, -1);
      add({3, 4}, {1, 2}, {0, 1});
      add({3, 4}, 5, {});
      add({2, 3, 4}, {1, -1, 2}, {2, 0, 1});
      add({4, 2}, {1, 2}, {0, 0});
      add({4}, 0, 0);
      add({}, 3, {});
      add({0, 2}, 1, 0);
      s.errors = {
          error_sample<ValueError>(
              "numbers", {normal({3, 4})},
              [](const Tensor& x) {
                return roll(x, {1, 2}, 0);
              },
              "roll: 2 shifts for 1 axes"),
          error_sample<IndexError>(
              "axis", {normal({3, 4})}, [](const Tensor& x) { return roll(x, 1, 2); },
              "roll: axis 2 is outside [-2, 2)"),
      };
      return s;
    }};

// The index in [0, n) that position i of a padded axis shows; -1 for the constant.
int64_t source_of(int64_t i, int64_t n, PadMode mode) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PadMode::kConstant:
      return -1;
    case PadMode::kReflect:
      return i < 0 ? -i : 2 * (n - 1) - i;
    case PadMode::kReplicate:
      return i < 0 ? 0 : n - 1;
    default:
      return i < 0 ? i + n : i - n;
  }
}

RefArray ref_pad(const RefArray& x, const std::vector<int64_t>& pads, PadMode mode, double value) {
  RefArray y = x;
  for (size_t k = 0; k < pads.size(); k += 2) {
    const int axis = x.shape.rank() - 1 - static_cast<int>(k / 2);
    // What is taken away counts as if it had never been there.
    const int64_t cut = std::min<int64_t>(pads[k], 0);
    const int64_t n = y.shape[axis] + cut + std::min<int64_t>(pads[k + 1], 0);
    Shape shape = y.shape;
    shape[axis] = y.shape[axis] + pads[k] + pads[k + 1];
    const RefArray from = y;
    y = ref_of(shape, [&](Position at) {
      auto& i = at[static_cast<size_t>(axis)];
      i = source_of(i - std::max<int64_t>(pads[k], 0), n, mode);
      if (i < 0) return value;
      i -= cut;
      return element(from, at);
    });
  }
  return y;
}

const RegisterSamples kPad{
    "pad", [] {
      OpSamples s{.op = "pad"};
      const auto add = [&](const Shape& shape, const std::vector<int64_t>& pads, PadMode mode,
                           double value) {
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", pads.size(), " mode ", static_cast<int>(mode)),
            {normal(shape)}, [=](const Tensor& x) { return pad(x, pads, mode, value); },
            [=](const RefArray& x) { return ref_pad(x, pads, mode, value); }));
      };
      for (const PadMode mode :
           {PadMode::kConstant, PadMode::kReflect, PadMode::kReplicate, PadMode::kCircular}) {
        add({4}, {2, 1}, mode, -1.5);
        add({3, 4}, {3, 3}, mode, 0);
        add({3, 4}, {1, 0, 2, 2}, mode, 2);
        add({2, 3, 3}, {2, 1, 0, 2, 1, 1}, mode, 0.5);
        add({5, 2}, {0, 0, 3, 2}, mode, 1);
        add({5}, {-1, 2}, mode, 1);
        add({5, 4}, {1, -2, -1, -1}, mode, 1);
        add({3, 2}, {0, 0}, mode, 1);
        add({0, 3}, {1, 1}, mode, 1);
      }
      add({3}, {-1, -2}, PadMode::kConstant, 1);
      add({0, 3}, {1, 1, 2, 1}, PadMode::kConstant, 3);
      add({3}, {7, 9}, PadMode::kReplicate, 0);
      add({3}, {3, 3}, PadMode::kCircular, 0);
      add({}, {}, PadMode::kConstant, 0);
      const auto call = [](const std::vector<int64_t>& pads, PadMode mode) {
        return [=](const Tensor& x) { return pad(x, pads, mode); };
      };
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<ShapeError>(
              "reflect", {x}, call({4, 0}, PadMode::kReflect),
              "pad: x is [3,4]; axis 1 of size 4 has not enough elements for 4 "
              "before and 0 after it in mode reflect"),
          error_sample<ShapeError>("circular", {x}, call({0, 5}, PadMode::kCircular),
                                   "for 0 before and 5 after it in mode circular"),
          error_sample<ShapeError>("replicate", {normal({0})}, call({1, 0}, PadMode::kReplicate),
                                   "in mode replicate"),
          error_sample<ShapeError>(
              "odd", {x}, call({1, 0, 2}, PadMode::kConstant),
              "pad: x is [3,4], pads are 3 numbers; there must be two for each"),
          error_sample<ShapeError>("too many", {x}, call({1, 0, 2, 0, 1, 1}, PadMode::kConstant),
                                   "pads are 6 numbers"),
          error_sample<ShapeError>("cut", {x}, call({-3, -2}, PadMode::kConstant),
                                   "pad: x is [3,4]; pads -3 and -2 take away more of axis 1 than "
                                   "there is"),
          error_sample<ShapeError>("cut by the lowest", {x},
                                   call({INT64_MIN, INT64_MIN}, PadMode::kConstant),
                                   "take away more"),
          error_sample<MemoryError>("overflow", {x}, call({INT64_MAX, 1}, PadMode::kConstant),
                                    "more are too many elements"),
      };
      s.sizes = {1, 2, 17, 1025};
      s.sized = [](int64_t n) {
        std::vector<Sample> out;
        for (const PadMode mode : {PadMode::kConstant, PadMode::kReplicate, PadMode::kCircular}) {
          const std::vector<int64_t> pads{1, 1, 1, 1};
          out.push_back(sample(
              absl::StrCat(n, " mode ", static_cast<int>(mode)), {normal({2, n})},
              [=](const Tensor& t) { return pad(t, pads, mode, 1); },
              [=](const RefArray& t) { return ref_pad(t, pads, mode, 1); }));
        }
        return out;
      };
      return s;
    }};

TEST(JoinRepeat, AllTypes) {
  const Tensor x = counting({2, 4});
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return tile(t, {2, 3}); });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return repeat_interleave(t, 2, 1); });
  testing::expect_same_in_all_types(x, [](const Tensor& t) {
    return repeat_interleave(t, indices({2, 1}), 0);
  });
  testing::expect_same_in_all_types(x, [](const Tensor& t) { return roll(t, {1, 1}, {0, 1}); });
  for (const PadMode mode :
       {PadMode::kConstant, PadMode::kReflect, PadMode::kReplicate, PadMode::kCircular}) {
    testing::expect_same_in_all_types(x, [=](const Tensor& t) {
      return pad(t, {2, 3, 1, 1}, mode, 1);
    });
  }
}

// Up to the largest rank.
TEST(JoinRepeat, RankEight) {
  const Shape shape{1, 2, 1, 2, 1, 2, 1, 2};
  const Tensor x = variable(counting(shape));
  const Tensor tiled = tile(x, {2, 1, 2, 1, 2, 1, 2, 2});
  EXPECT_EQ(tiled.shape(), (Shape{2, 2, 2, 2, 2, 2, 2, 4}));
  tiled.sum().backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>(16, 32)));
  x.zero_grad();
  repeat_interleave(x, 3, 7).sum().backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (std::vector<double>(16, 3)));
}

}  // namespace
}  // namespace ebb
