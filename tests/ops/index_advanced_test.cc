// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"
#include "moving.h"

// Several index tensors, brackets and masks.
namespace ebb {
namespace {

using testing::booleans;
using testing::counting;
using testing::element;
using testing::error_sample;
using testing::indices;
using testing::integers;
using testing::normal;
using testing::OpSamples;
using testing::Position;
using testing::RefArray;
using testing::RegisterSamples;
using testing::sample;

// Which axes of x have index tensors, and where the result has what they broadcast to.
struct Case {
  Shape x;
  std::vector<int> axes;
  std::vector<Shape> ids;
  Shape picks;
  int first;  // axis of the result where `picks` starts

  std::string name() const {
    std::string s = x.str();
    for (size_t k = 0; k < axes.size(); ++k) absl::StrAppend(&s, " ", axes[k], ids[k].str());
    return s;
  }
  Shape result() const {
    Shape out;
    for (int i = 0; i < x.rank(); ++i) {
      if (out.rank() == first) append(&out);
      if (std::find(axes.begin(), axes.end(), i) == axes.end()) out.push_back(x[i]);
    }
    if (out.rank() == first) append(&out);
    return out;
  }
  void append(Shape* out) const {
    if (picks.empty()) return;
    for (const int64_t d : picks) out->push_back(d);
  }
  // The place in x that a place of the result names.
  Position place(const Position& at, Span<const RefArray> tensors) const {
    const auto from = static_cast<size_t>(first);
    const auto count = static_cast<size_t>(picks.rank());
    Position rest(at.begin(), at.begin() + static_cast<ptrdiff_t>(from));
    rest.insert(rest.end(), at.begin() + static_cast<ptrdiff_t>(from + count), at.end());
    Position out;
    size_t next = 0;
    for (int i = 0; i < x.rank(); ++i) {
      const auto it = std::find(axes.begin(), axes.end(), i);
      if (it == axes.end()) {
        out.push_back(rest[next++]);
        continue;
      }
      const RefArray& t = tensors[static_cast<size_t>(it - axes.begin())];
      Position id_at;
      for (int d = 0; d < t.shape.rank(); ++d) {
        const auto p = from + count - static_cast<size_t>(t.shape.rank() - d);
        id_at.push_back(t.shape[d] == 1 ? 0 : at[p]);
      }
      out.push_back(testing::wrapped(testing::to_int(element(t, id_at)), x[i]));
    }
    return out;
  }
  std::vector<Tensor> make_ids() const {
    std::vector<Tensor> out;
    for (size_t k = 0; k < axes.size(); ++k) {
      out.push_back(integers(ids[k], -x[axes[k]], x[axes[k]] - 1));
    }
    return out;
  }
  // Index tensors with undefined ones between them.
  std::vector<Tensor> with_gaps(Span<const Tensor> tensors) const {
    std::vector<Tensor> out(static_cast<size_t>(axes.back() + 1));
    for (size_t k = 0; k < axes.size(); ++k) out[static_cast<size_t>(axes[k])] = tensors[k];
    return out;
  }
};

const Case kCases[] = {
    {{5, 3}, {0}, {{4}}, {4}, 0},
    {{5, 3}, {0}, {{2, 3}}, {2, 3}, 0},
    {{5, 3}, {0}, {{}}, {}, 0},
    {{5, 3}, {1}, {{2, 2}}, {2, 2}, 1},
    {{2, 5, 3}, {1}, {{4}}, {4}, 1},
    {{4, 3}, {0, 1}, {{5}, {5}}, {5}, 0},
    {{4, 3}, {0, 1}, {{2, 1}, {3}}, {2, 3}, 0},
    {{4, 3, 2}, {0, 1}, {{3}, {1}}, {3}, 0},
    {{2, 4, 3, 2}, {1, 2}, {{3}, {2, 1}}, {2, 3}, 1},
    {{4, 2, 3}, {0, 2}, {{5}, {5}}, {5}, 0},
    {{2, 3, 2, 4}, {1, 3}, {{2, 2}, {2}}, {2, 2}, 0},
    {{2, 3, 2}, {0, 1, 2}, {{3}, {}, {2, 1}}, {2, 3}, 0},
    {{4, 3}, {0}, {{0}}, {0}, 0},
    {{4, 3}, {0, 1}, {{0}, {1}}, {0}, 0},
    {{6}, {0}, {{9}}, {9}, 0},
};

const RegisterSamples kIndex{
    "index", [] {
      OpSamples s{.op = "index"};
      for (const Case& c : kCases) {
        std::vector<Tensor> in{normal(c.x)};
        for (Tensor& t : c.make_ids()) in.push_back(t);
        s.samples.push_back(sample(
            c.name(), in,
            [c](Span<const Tensor> x) {
              const auto items = c.with_gaps(x.subspan(1));
              return index(x[0], std::vector<IndexItem>(items.begin(), items.end()));
            },
            [c](Span<const RefArray> x) {
              return testing::ref_of(c.result(), [&](const Position& at) {
                return element(x[0], c.place(at, x.subspan(1)));
              });
            }));
      }
      const Tensor x = normal({3, 4});
      s.errors = {
          error_sample<IndexError>(
              "index", {x, indices({0, 1}), indices({0, 4})},
              [](const Tensor& t, const Tensor& i, const Tensor& j) {
                return index(t, {i, j});
              },
              "index: index 4 is outside [-4, 4) of axis 1 of x [3,4]"),
          error_sample<ShapeError>(
              "broadcast", {x, indices({0, 1}), indices({0, 1, 2})},
              [](const Tensor& t, const Tensor& i, const Tensor& j) {
                return index(t, {i, j});
              },
              "index: indices are [2], [3]; they do not broadcast to one shape"),
          error_sample<IndexError>(
              "too many", {x, indices({0})},
              [](const Tensor& t, const Tensor& i) {
                return index(t, {0, 0, i});
              },
              "index: x is [3,4], 3 axes are indexed"),
          error_sample<DTypeError>(
              "type", {x, normal({2})},
              [](const Tensor& t, const Tensor& i) { return index(t, {i}); },
              "index: indices are float64[2]; they must be int64 or int32"),
          error_sample<IndexError>(
              "mask", {x, booleans({4})},
              [](const Tensor& t, const Tensor& m) { return index(t, {m}); },
              "index: mask [4] does not fit axes 0 to 0 of x [3,4]"),
          error_sample<IndexError>(
              "scalar mask", {x, booleans({})},
              [](const Tensor& t, const Tensor& m) { return index(t, {m}); },
              "index: a mask is a scalar"),
          error_sample<IndexError>(
              "ellipsis twice", {x},
              [](const Tensor& t) {
                return index(t, {Ellipsis(), Ellipsis()});
              },
              "index: there is more than one Ellipsis"),
          error_sample<ShapeError>(
              "rank", {normal({1, 1, 1, 1, 1, 1, 1, 1}), integers({1, 1}, 0, 0)},
              [](const Tensor& t, const Tensor& i) { return index(t, {i}); },
              "index: x is [1,1,1,1,1,1,1,1], the indices [1,1]; the result would"),
      };
      return s;
    }};

template <class Op>
RefArray put(const Case& c, Span<const RefArray> x, Op op) {
  RefArray y = x[0];
  const RefArray& values = x[1];
  testing::for_each_position(c.result(), [&](const Position& at) {
    Position from(at.end() - values.shape.rank(), at.end());
    for (size_t i = 0; i < from.size(); ++i) {
      if (values.shape[static_cast<int>(i)] == 1) from[i] = 0;
    }
    op(element(y, c.place(at, x.subspan(2))), element(values, from));
  });
  return y;
}

const RegisterSamples kIndexPut{
    "index_put", [] {
      OpSamples s{.op = "index_put"};
      for (const Case& c : kCases) {
        for (const bool accumulate : {false, true}) {
          for (const Shape& values : {c.result(), Shape{}, Shape{1}}) {
            if (values.rank() > c.result().rank()) continue;
            std::vector<Tensor> in{normal(c.x), normal(values)};
            for (Tensor& t : c.make_ids()) in.push_back(t);
            s.samples.push_back(sample(
                absl::StrCat(c.name(), " ", values.str(), accumulate ? " add" : ""), in,
                [=](Span<const Tensor> x) {
                  return index_put(x[0], c.with_gaps(x.subspan(2)), x[1], accumulate);
                },
                [=](Span<const RefArray> x) {
                  return put(c, x, [=](double& y, double v) { y = accumulate ? y + v : v; });
                }));
          }
        }
      }
      const Tensor x = normal({3, 4});
      const auto call = [](const Tensor& t, const Tensor& v, const Tensor& i) {
        return index_put(t, {i}, v, true);
      };
      s.errors = {
          error_sample<ShapeError>(
              "values", {x, normal({3}), indices({0, 1})}, call,
              "index_put: x is [3,4], values are [3]; they must broadcast to [2,4]"),
          error_sample<DTypeError>("type", {x, integers({4}, 0, 1), indices({0})}, call,
                                   "index_put: x is float64[3,4], values are int64[4]"),
          error_sample<IndexError>("index", {x, normal({4}), indices({-4})}, call,
                                   "index_put: index -4 is outside [-3, 3) of axis 0"),
          error_sample<IndexError>("too many", {x, normal({4}), booleans({3, 4, 1})}, call,
                                   "index_put: x is [3,4], 3 axes are indexed"),
          error_sample<ValueError>(
              "none", {x, normal({4}), indices({0})},
              [](const Tensor& t, const Tensor& v, const Tensor&) {
                return index_put(t, {Tensor()}, v);
              },
              "index_put: no index tensor is given"),
          error_sample<DTypeError>(
              "half", {x, normal({4}), indices({0})},
              [](const Tensor& t, const Tensor& v, const Tensor& i) {
                return index_put(t.detach().to(kFloat16), {i}, v.detach().to(kFloat16), true);
              },
              "index_put: x is float16[3,4]"),
      };
      return s;
    }};

// Elements of x at which the mask, on its first axes, is true.
std::vector<double> selected(const RefArray& x, const RefArray& mask) {
  std::vector<double> out;
  const size_t inner = mask.v.empty() ? 0 : x.v.size() / mask.v.size();
  for (size_t k = 0; k < x.v.size(); ++k) {
    if (mask.v[k / inner] != 0) out.push_back(x.v[k]);
  }
  return out;
}

struct MaskCase {
  Shape x, mask;
};
const MaskCase kMasks[] = {{{3, 4}, {3, 4}}, {{5, 3}, {5}}, {{2, 3, 4}, {2, 3}}, {{6}, {6}},
                           {{}, {}},         {{2, 3}, {}},  {{0, 3}, {0}},       {{3, 0}, {3, 0}}};

const RegisterSamples kMaskedSelect{
    "masked_select", [] {
      OpSamples s{.op = "masked_select"};
      const auto add = [&](const std::string& name, const Shape& shape, const Tensor& mask) {
        s.samples.push_back(sample(
            name, {normal(shape), mask},
            [](const Tensor& x, const Tensor& m) { return masked_select(x, m); },
            [](const RefArray& x, const RefArray& m) {
              const auto count = static_cast<int64_t>(std::count(m.v.begin(), m.v.end(), 1.0));
              Shape out{count};
              for (int i = m.shape.rank(); i < x.shape.rank(); ++i) out.push_back(x.shape[i]);
              return RefArray(out, selected(x, m));
            }));
      };
      for (const auto& [x, mask] : kMasks) {
        add(absl::StrCat(x.str(), " ", mask.str()), x, booleans(mask));
      }
      add("all", {3, 2}, testing::tensor({3}, {1, 1, 1}).to(kBool));
      add("none", {3, 2}, testing::tensor({3}, {0, 0, 0}).to(kBool));
      std::vector<double> few(300, 0);
      few[5] = few[6] = few[200] = 1;
      add("few of many rows", {300, 4}, testing::tensor({300}, few).to(kBool));
      const auto call = [](const Tensor& x, const Tensor& m) { return masked_select(x, m); };
      s.errors = {
          error_sample<ShapeError>(
              "sizes", {normal({3, 4}), booleans({4})}, call,
              "masked_select: x is [3,4], mask is [4]; it must have the sizes of "
              "x's first axes"),
          error_sample<ShapeError>("rank", {normal({3}), booleans({3, 1})}, call,
                                   "masked_select: x is [3], mask is [3,1]"),
          error_sample<DTypeError>("type", {normal({3}), indices({1, 0, 1})}, call,
                                   "masked_select: mask is int64[3]; it must be bool"),
      };
      return s;
    }};

const RegisterSamples kMaskedScatter{
    "masked_scatter", [] {
      OpSamples s{.op = "masked_scatter"};
      for (const auto& [shape, mask_shape] : kMasks) {
        const Tensor mask = booleans(mask_shape);
        const Tensor x = normal(shape);
        s.samples.push_back(sample(
            absl::StrCat(shape.str(), " ", mask_shape.str()),
            {x, mask, normal(masked_select(x, mask).shape())},
            [](const Tensor& t, const Tensor& m, const Tensor& src) {
              return masked_scatter(t, m, src);
            },
            [](const RefArray& t, const RefArray& m, const RefArray& src) {
              RefArray y = t;
              const size_t inner = m.v.empty() ? 0 : t.v.size() / m.v.size();
              size_t next = 0;
              for (size_t k = 0; k < y.v.size(); ++k) {
                if (m.v[k / inner] != 0) y.v[k] = src.v[next++];
              }
              return y;
            }));
      }
      const auto call = [](const Tensor& x, const Tensor& m, const Tensor& src) {
        return masked_scatter(x, m, src);
      };
      const Tensor mask = testing::tensor({3}, {1, 0, 1}).to(kBool);
      s.errors = {
          error_sample<ShapeError>(
              "src", {normal({3, 4}), mask, normal({3, 4})}, call,
              "masked_scatter: x is [3,4], mask is [3] with 2 true elements, src "
              "is [3,4]; it must be [2,4]"),
          error_sample<DTypeError>("type", {normal({3}), mask, integers({2}, 0, 1)}, call,
                                   "masked_scatter: x is float64[3], src is int64[2]"),
      };
      return s;
    }};

const RegisterSamples kMaskedFill{
    "masked_fill", [] {
      OpSamples s{.op = "masked_fill"};
      const std::pair<Shape, Shape> shapes[] = {
          {{3, 4}, {3, 4}}, {{3, 4}, {4}}, {{3, 1}, {1, 4}}, {{4}, {3, 4}}, {{2, 3, 4}, {3, 1}},
          {{}, {}},         {{}, {3}},     {{3}, {}},        {{0, 4}, {4}}};
      for (const auto& [a, b] : shapes) {
        const auto reference = [](const RefArray& x, const RefArray& m, double value) {
          Shape out;
          broadcast_shapes(x.shape, m.shape, &out);
          const auto at = [&](const RefArray& r, const Position& p) {
            Position from(p.end() - r.shape.rank(), p.end());
            for (size_t i = 0; i < from.size(); ++i) {
              if (r.shape[static_cast<int>(i)] == 1) from[i] = 0;
            }
            return element(r, from);
          };
          return testing::ref_of(
              out, [&](const Position& p) { return at(m, p) != 0 ? value : at(x, p); });
        };
        s.samples.push_back(sample(
            absl::StrCat(a.str(), " ", b.str()), {normal(a), booleans(b)},
            [](const Tensor& x, const Tensor& m) { return x.masked_fill(m, -1.5); },
            [reference](const RefArray& x, const RefArray& m) { return reference(x, m, -1.5); }));
        s.samples.push_back(sample(
            absl::StrCat(a.str(), " ", b.str(), " tensor"), {normal(a), booleans(b), normal({})},
            [](const Tensor& x, const Tensor& m, const Tensor& v) { return masked_fill(x, m, v); },
            [reference](const RefArray& x, const RefArray& m, const RefArray& v) {
              return reference(x, m, v.v[0]);
            }));
      }
      s.errors = {
          error_sample<ShapeError>(
              "shapes", {normal({3, 4}), booleans({3})},
              [](const Tensor& x, const Tensor& m) { return masked_fill(x, m, 0); },
              "masked_fill: x is [3,4], mask is [3]; sizes must be equal or 1"),
          error_sample<DTypeError>(
              "mask", {normal({3}), indices({0, 1, 1})},
              [](const Tensor& x, const Tensor& m) { return masked_fill(x, m, 0); },
              "masked_fill: mask is int64[3]; it must be bool"),
          error_sample<ShapeError>(
              "value", {normal({3}), booleans({3}), normal({1})},
              [](const Tensor& x, const Tensor& m, const Tensor& v) {
                return masked_fill(x, m, v);
              },
              "masked_fill: x is [3], value is [1]; it must be a scalar"),
          error_sample<DTypeError>(
              "value type", {normal({3}), booleans({3}), integers({}, 0, 1)},
              [](const Tensor& x, const Tensor& m, const Tensor& v) {
                return masked_fill(x, m, v);
              },
              "masked_fill: x is float64[3], value is int64[]"),
      };
      return s;
    }};

TEST(IndexAdvanced, Brackets) {
  const Tensor x = counting({4, 3, 2});
  const auto list = [](const Tensor& t) { return t.to_vector<double>(); };
  using List = std::vector<double>;
  EXPECT_EQ(index(x, {}).value().rep(), x.value().rep());
  EXPECT_EQ(list(x.index({1, 2})), (List{10, 11}));
  EXPECT_EQ(list(x.index({1, 2, -1})), (List{11}));
  EXPECT_EQ(list(x.index({Ellipsis(), 1})), (List{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}));
  EXPECT_EQ(x.index({Ellipsis(), 1}).shape(), (Shape{4, 3}));
  EXPECT_EQ(list(x.index({Slice(2), 0, Slice()})), (List{12, 13, 18, 19}));
  EXPECT_EQ(list(x.index({Slice(Slice::kOpen, Slice::kOpen, -3), 0, 0})), (List{18, 0}));
  EXPECT_EQ(list(x.index({Slice(0, -1, 2), Slice(1, 2), 1})), (List{3, 15}));
  EXPECT_EQ(x.index({NewAxis(), Slice(), NewAxis(), 1}).shape(), (Shape{1, 4, 1, 2}));
  EXPECT_EQ(x.index({1, Ellipsis(), NewAxis()}).shape(), (Shape{3, 2, 1}));
  EXPECT_TRUE(testing::is_view_of(x.index({NewAxis(), Slice(1, 3), 2}), x));

  const Tensor ids = indices({2, 0});
  EXPECT_EQ(list(x.index({ids, 1})), (List{14, 15, 2, 3}));
  EXPECT_EQ(list(x.index({Slice(), ids, 1})), (List{5, 1, 11, 7, 17, 13, 23, 19}));
  EXPECT_EQ(x.index({0, Slice(), ids.slice(0, 1)}).shape(), (Shape{3, 1}));  // integers go first
  EXPECT_EQ(x.index({ids, NewAxis(), ids}).shape(), (Shape{2, 1, 2}));
  EXPECT_EQ(list(x[ids]), list(index_select(x, 0, ids)));
  EXPECT_EQ(x[integers({3, 5}, 0, 3)].shape(), (Shape{3, 5, 3, 2}));
}

TEST(IndexAdvanced, Masks) {
  const Tensor x = counting({4, 3, 2});
  const Tensor m = testing::tensor({4, 3}, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}).to(kBool);
  const std::vector<double> want{0, 1, 10, 11, 20, 21};
  EXPECT_EQ(x[m].to_vector<double>(), want);
  EXPECT_EQ(x.index({m}).to_vector<double>(), want);
  EXPECT_EQ(x.index({m, 1}).to_vector<double>(), (std::vector<double>{1, 11, 21}));
  EXPECT_EQ(x.index({m, indices({1, 0, 1})}).to_vector<double>(), (std::vector<double>{1, 10, 21}));
  const Tensor some = testing::tensor({3}, {0, 1, 1}).to(kBool);
  EXPECT_EQ(x.index({Slice(0, 2), some}).to_vector<double>(),
            (std::vector<double>{2, 3, 4, 5, 8, 9, 10, 11}));
  const Tensor y = index_put(x, {m}, testing::scalar(-1));
  EXPECT_EQ(x[m].numel(), 6);
  EXPECT_EQ(y[m].to_vector<double>(), (std::vector<double>(6, -1)));
  EXPECT_EQ(y[0][1][0].item(), 2);
}

TEST(IndexAdvanced, AllTypes) {
  const Tensor x = counting({3, 4});
  const Tensor ids = indices({2, 0});
  const Tensor m = testing::tensor({3}, {1, 0, 1}).to(kBool);
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return t.index({ids, ids}); });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return t[m]; });
  testing::expect_same_in_all_types(x, [&](const Tensor& t) { return index_put(t, {ids}, t[1]); });
  testing::expect_same_in_all_types(
      x, [&](const Tensor& t) { return masked_scatter(t, m, t.slice(0, 1)); });
  testing::expect_same_in_all_types(
      x, [&](const Tensor& t) { return masked_fill(t, m.unsqueeze(1), 1); });
}

TEST(IndexAdvanced, GradientsAreSparse) {
  const Tensor x = variable(normal({300, 200}));
  const auto gradient_of = [&](const Tensor& y) -> Gradient& {
    x.zero_grad();
    y.sum().backward();
    return testing::gradient_at(x);
  };
  const Tensor ids = integers({2, 3}, 0, 199);
  EXPECT_EQ(gradient_of(x[ids]).row_parts().size(), 1u);
  EXPECT_EQ(gradient_of(x.index({Slice(), ids})).col_parts().size(), 1u);
  EXPECT_TRUE(gradient_of(x.index({ids, ids})).is_dense());
  std::vector<double> on(300, 0);
  on[7] = on[299] = 1;
  const Tensor mask = testing::tensor({300}, on).to(kBool);
  Gradient& g = gradient_of(x[mask]);
  ASSERT_EQ(g.row_parts().size(), 1u);
  EXPECT_EQ(Tensor(g.row_parts()[0].ids).to_vector<int64_t>(), (std::vector<int64_t>{7, 299}));
  EXPECT_EQ(x.grad()[299].to_vector<double>(), std::vector<double>(200, 1));
  EXPECT_TRUE(gradient_of(x[logical_not(mask)]).is_dense());
}

}  // namespace
}  // namespace ebb
