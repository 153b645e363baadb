// SPDX-License-Identifier: Apache-2.0
// Steps on structured gradients against steps on the same gradients made dense.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ebb/autograd/array_ops.h"
#include "ebb/core/memory.h"
#include "ebb/core/random.h"
#include "ebb/nn/optim/missed.h"
#include "ebb/nn/optim/optim.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"
#include "ebb/tests/nn/optim_reference.h"

namespace ebb {
namespace {

using optim_testing::Case;
using optim_testing::set_gradient;

constexpr int64_t kRows = 48;
constexpr int64_t kCols = 36;
constexpr int kSteps = 1000;

Array normal(Generator& random, DType dtype, const Shape& shape) {
  Array a = Array::empty(dtype, shape);
  visit_differentiable(dtype, [&](auto t) {
    using T = decltype(t);
    random.fill_normal(a.mutable_data<T>(), static_cast<size_t>(a.numel()));
  });
  return a;
}

// A few ids below n, with repetitions; low ones often, high ones hardly ever.
Array some_ids(Generator& random, int64_t n, int64_t count) {
  Array ids = Array::empty(kInt64, {count});
  for (int64_t i = 0; i < count; ++i) {
    const double u = random.uniform();
    ids.mutable_data<int64_t>()[i] = static_cast<int64_t>(static_cast<double>(n) * u * u * u);
  }
  return ids;
}

double largest(const Array& a) {
  double m = 0;
  for (const double x : Tensor(a).to_vector<double>()) m = std::max(m, std::abs(x));
  return m;
}

// Both runs: the parameter that gets structured gradients, and the one that gets them dense.
struct Twins {
  Twins(const Case& c, DType dtype, const Array& start)
      : tolerance(dtype == kFloat64 ? 1e-9 : 1e-4),
        structured(Tensor(copy(start))),
        dense(Tensor(copy(start))),
        a(c.make({structured})),
        b(c.make({dense})) {}

  void set_lr(double lr) {
    a->set_lr(lr);
    b->set_lr(lr);
  }
  void step(Gradient g) {
    Gradient formed = g;
    set_gradient(dense, Gradient(copy(formed.dense())));
    set_gradient(structured, std::move(g));
    optim::clip_grad_norm({{structured}}, 3.0);
    optim::clip_grad_norm({{dense}}, 3.0);
    a->step();
    b->step();
  }
  // Reads through an op, so that the tape brings up to date what is read.
  void compare_rows(const Array& ids) {
    compare(index_select(structured, 0, Tensor(ids)).value(),
            index_select(dense, 0, Tensor(ids)).value());
  }
  void compare_all() { compare(structured->array(), dense->array()); }
  void compare(const Array& x, const Array& y) {
    const auto got = Tensor(x).to_vector<double>();
    const auto want = Tensor(y).to_vector<double>();
    scale = std::max(scale, largest(dense->array()));
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], tolerance * scale) << "element " << i;
    }
  }

  const double tolerance;
  Parameter structured;
  Parameter dense;
  std::unique_ptr<optim::Optimizer> a;
  std::unique_ptr<optim::Optimizer> b;
  double scale = 0;
};

struct Kind {
  const char* name;
  Gradient (*make)(Generator&, const Meta&);
};

Gradient rows(Generator& r, const Meta& m) {
  const Array ids = some_ids(r, m.shape[0], 4);
  return Gradient(m, RowSparse{ids, normal(r, m.dtype, {4, m.shape[1]})});
}
Gradient columns(Generator& r, const Meta& m) {
  const Array ids = some_ids(r, m.shape[1], 4);
  return Gradient(m, ColSparse{ids, normal(r, m.dtype, {m.shape[0], 4})});
}
Gradient product(Generator& r, const Meta& m) {
  return Gradient(m, Outer{normal(r, m.dtype, {m.shape[0]}), normal(r, m.dtype, {m.shape[1]})});
}
Gradient products(Generator& r, const Meta& m) {
  return Gradient(m,
                  Outer{normal(r, m.dtype, {3, m.shape[0]}), normal(r, m.dtype, {3, m.shape[1]})});
}
// So many that each is added where it lies.
Gradient many_products(Generator& r, const Meta& m) {
  Gradient g = products(r, m);
  for (int i = 0; i < 5; ++i) g.add(product(r, m));
  return g;
}
// Whatever comes: each kind alone, and sums of kinds.
Gradient anything(Generator& r, const Meta& m) {
  using Make = Gradient (*)(Generator&, const Meta&);
  static constexpr Make kMakes[] = {rows, columns, product, products};
  const uint64_t which = r.uniform_int(16);
  if (which < 6) return rows(r, m);
  if (which < 9) return columns(r, m);
  Gradient g = kMakes[which % 4](r, m);
  if (which >= 12) g.add(kMakes[(which / 2) % 4](r, m));
  if (which == 13) g.add(Gradient(normal(r, m.dtype, m.shape)));
  return g;
}

constexpr Kind kKinds[] = {{"rows", rows},
                           {"columns", columns},
                           {"product", product},
                           {"products", many_products},
                           {"anything", anything}};

class Structured : public ::testing::TestWithParam<Case> {
 protected:
  static void run(DType dtype, const Kind& kind, int steps) {
    SCOPED_TRACE(kind.name);
    SCOPED_TRACE(name_of(dtype));
    const Case& c = GetParam();
    Generator random(7);
    const Meta meta{dtype, {kRows, kCols}};
    Twins twins(c, dtype, normal(random, dtype, meta.shape));
    for (int t = 1; t <= steps; ++t) {
      twins.set_lr(c.lr * (1 + 0.5 * std::sin(0.1 * t)));
      twins.step(kind.make(random, meta));
      if (t % 3 == 0) twins.compare_rows(some_ids(random, kRows, 3));
      if (t % 211 == 0) twins.compare_all();
      if (HasFatalFailure()) return;
    }
    twins.compare_all();
  }
};

TEST_P(Structured, EqualsDenseInFloat64) {
  for (const Kind& kind : kKinds) run(kFloat64, kind, kSteps);
}

TEST_P(Structured, EqualsDenseInFloat32) {
  for (const Kind& kind : kKinds) run(kFloat32, kind, kSteps);
}

TEST_P(Structured, StateIsUpToDateWhenSaved) {
  const Case& c = GetParam();
  Generator random(3);
  const Meta meta{kFloat64, {kRows, kCols}};
  Twins twins(c, kFloat64, normal(random, kFloat64, meta.shape));
  for (int t = 0; t < 20; ++t) twins.step(rows(random, meta));
  const auto got = twins.a->state_dict();
  const auto want = twins.b->state_dict();
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [key, value] : want) {
    const auto x = got.at(key).to_vector<double>();
    const auto y = value.to_vector<double>();
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-9 * largest(value.array()));
  }
  // Goes on from there as if nothing had happened.
  twins.a->load_state_dict(got);
  for (int t = 0; t < 20; ++t) twins.step(rows(random, meta));
  twins.compare_all();
}

TEST_P(Structured, IsLeftUpToDateWhenTheOptimiserGoes) {
  const Case& c = GetParam();
  Generator random(5);
  const Meta meta{kFloat64, {kRows, kCols}};
  Twins twins(c, kFloat64, normal(random, kFloat64, meta.shape));
  for (int t = 0; t < 10; ++t) twins.step(rows(random, meta));
  twins.a.reset();
  EXPECT_EQ(twins.structured.leaf().lazy, nullptr);
  EXPECT_EQ(twins.structured.leaf().flags() & detail::Node::kLazy, 0);
  twins.compare_all();
}

// An optimiser of another kind takes turns; what the first has put off comes before.
TEST_P(Structured, AnotherOptimiserFindsTheParameterUpToDate) {
  const Case& c = GetParam();
  Generator random(6);
  const Meta meta{kFloat64, {kRows, kCols}};
  Twins twins(c, kFloat64, normal(random, kFloat64, meta.shape));
  optim::SGD other_a({twins.structured}, {.lr = 0.01, .momentum = 0.5});
  optim::SGD other_b({twins.dense}, {.lr = 0.01, .momentum = 0.5});
  for (int t = 0; t < 60; ++t) {
    twins.step(rows(random, meta));
    if (t % 4 == 0) {
      other_a.step();
      other_b.step();
    }
  }
  twins.compare_all();
}

TEST_P(Structured, TakesNoMemoryOfTheSystem) {
#ifdef EBB_NO_POOL
  GTEST_SKIP() << "without a pool every array is an allocation";
#endif
  const Case& c = GetParam();
  Generator random(8);
  const Meta meta{kFloat32, {kRows, kCols}};
  const Parameter p{Tensor(normal(random, kFloat32, meta.shape))};
  const auto optimizer = c.make({p});
  const auto run = [&](int steps) {
    for (int t = 0; t < steps; ++t) {
      set_gradient(p, kKinds[t % 4].make(random, meta));
      optimizer->step();
      index_select(p, 0, Tensor(some_ids(random, kRows, 3)));
      optimizer->zero_grad();
    }
  };
  run(300);
  const int64_t before = memory_stats().heap_allocations;
  run(100);
  EXPECT_EQ(memory_stats().heap_allocations, before);
}

INSTANTIATE_TEST_SUITE_P(Optim, Structured, ::testing::ValuesIn(optim_testing::all_cases()),
                         [](const auto& of) { return of.param.name; });

// ---- through the tape
// ----------------------------------------------------------------------------

// A table that is read by rows and, transposed, as the output matrix, and a matrix that is used on
// a vector: gradients as they come from backward(), against the same made dense.
TEST(StructuredOnTheTape, TiedWeightsEqualDense) {
  constexpr int64_t kWords = 60;
  constexpr int64_t kSize = 12;
  for (const Case& c : optim_testing::all_cases()) {
    SCOPED_TRACE(c.name);
    Generator random(9);
    const Array table = scaled(normal(random, kFloat64, {kWords, kSize}), 0.3);
    const Array matrix = scaled(normal(random, kFloat64, {kSize, kSize}), 0.3);
    const auto train = [&](bool structured) {
      Generator ids(10);
      const Parameter embedding{Tensor(copy(table))};
      const Parameter hidden{Tensor(copy(matrix))};
      const std::vector<Parameter> all{embedding, hidden};
      const auto optimizer = c.make(all);
      for (int t = 0; t < 60; ++t) {
        optimizer->set_lr(0.1 * c.lr * (1 + 0.5 * std::cos(t)));
        const Array words = some_ids(ids, kWords, 3);
        const Tensor x = index_select(embedding, 0, Tensor(words));
        const Tensor h = tanh(mv(hidden, sum(x, 0)));
        Tensor loss = square(h).sum();
        // Every other step leaves the output out, so that only rows get a gradient.
        if (t % 2 == 0) loss = loss + square(mm(unsqueeze(h, 0), embedding->t())).sum();
        optimizer->zero_grad();
        loss.backward();
        if (!structured) {
          for (const Parameter& p : all) p.leaf().grad.dense();
        }
        optim::clip_grad_norm(all, 1.0);
        optimizer->step();
      }
      auto out = embedding->to_vector<double>();
      const auto more = hidden->to_vector<double>();
      out.insert(out.end(), more.begin(), more.end());
      return out;
    };
    const auto got = train(true);
    const auto want = train(false);
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-9) << i;
  }
}

TEST(StructuredOnTheTape, ARowUpdateTouchesOnlyItsRows) {
  // Rows of NaN spread over everything that reads them: the step must not.
  constexpr int64_t kHuge = 4000;
  Array values = Array::full(kFloat32, {kHuge, 8}, 1);
  const Parameter p{Tensor(values)};
  optim::SGD sgd({p}, {.lr = 0.5});
  index_select(p, 0, Tensor(Array::full(kInt64, {2}, 7))).sum().backward();
  ASSERT_EQ(p.leaf().grad.row_parts().size(), 1u);
  sgd.step();
  EXPECT_EQ(p->value().at({7, 3}), 0);
  EXPECT_EQ(p->value().at({8, 3}), 1);
  EXPECT_EQ(p.leaf().lazy, nullptr) << "nothing to put off without momentum or decay";
}

TEST(StructuredOnTheTape, RowsAreBroughtUpToDateWhenRead) {
  const Parameter p{Tensor(Array::full(kFloat64, {100, 8}, 1))};
  optim::SGD sgd({p}, {.lr = 0.1, .weight_decay = 1});
  const Meta meta{kFloat64, {100, 8}};
  for (int t = 0; t < 3; ++t) {
    set_gradient(
        p, Gradient(meta, RowSparse{Array::full(kInt64, {1}, 5), Array::zeros(kFloat64, {1, 8})}));
    sgd.step();
  }
  const double want = 0.9 * 0.9 * 0.9;
  EXPECT_EQ(p->value().at({40, 0}), 1) << "put off";
  EXPECT_NE(p.leaf().flags() & detail::Node::kLazy, 0);
  const Tensor row = index_select(p, 0, Tensor(Array::full(kInt64, {1}, -60)));
  EXPECT_NEAR(row.value().at({0, 0}), want, 1e-15);
  EXPECT_NEAR(p->value().at({40, 0}), want, 1e-15);
  EXPECT_EQ(p->value().at({41, 0}), 1);
  EXPECT_NEAR(p.tensor().array().at({41, 0}), want, 1e-15);
  EXPECT_EQ(p.leaf().flags() & detail::Node::kLazy, 0);
  EXPECT_EQ(p.leaf().lazy, nullptr);
  // Copies over it count as reads: nothing put off may come after.
  set_gradient(
      p, Gradient(meta, RowSparse{Array::full(kInt64, {1}, 5), Array::zeros(kFloat64, {1, 8})}));
  sgd.step();
  p.copy_from(Tensor(Array::full(kFloat64, {100, 8}, 3)));
  EXPECT_EQ(p.tensor().array().at({41, 0}), 3);
}

TEST(StructuredOnTheTape, OptionsMayChangeOnTheWay) {
  Generator random(12);
  const Meta meta{kFloat64, {kRows, kCols}};
  const Array start = normal(random, kFloat64, meta.shape);
  const Parameter a{Tensor(copy(start))};
  const Parameter b{Tensor(copy(start))};
  optim::SGD sa({a}, {.lr = 0.01, .momentum = 0.9, .weight_decay = 0.01});
  optim::SGD sb({b}, {.lr = 0.01, .momentum = 0.9, .weight_decay = 0.01});
  const Parameter c{Tensor(copy(start))};
  const Parameter d{Tensor(copy(start))};
  optim::AdamW ac({c}, {.lr = 0.01});
  optim::AdamW ad({d}, {.lr = 0.01});
  for (int t = 0; t < 200; ++t) {
    for (optim::SGD* s : {&sa, &sb}) {
      s->options().momentum = t % 50 < 25 ? 0.9 : 0.8;
      s->options().nesterov = t % 20 < 10;
      s->options().weight_decay = t < 100 ? 0.01 : 0;
    }
    for (optim::AdamW* s : {&ac, &ad}) {
      s->options().betas[0] = t % 60 < 30 ? 0.9 : 0.85;
      s->options().weight_decay = t % 80 < 40 ? 0.01 : 0;
      s->options().amsgrad = t >= 120;
    }
    Gradient g = rows(random, meta);
    const Array dense = copy(Gradient(g).dense());
    set_gradient(a, g);
    set_gradient(b, Gradient(dense));
    set_gradient(c, g);
    set_gradient(d, Gradient(dense));
    sa.step();
    sb.step();
    ac.step();
    ad.step();
  }
  const auto near = [](const Parameter& x, const Parameter& y) {
    const auto got = x->to_vector<double>();
    const auto want = y->to_vector<double>();
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-9) << i;
  };
  near(a, b);
  near(c, d);
}

// ---- many missed steps of Adam at once
// -----------------------------------------------------------

// Elements of every size, against one step after the other in long double.
TEST(MissedSteps, OfAdamAreDoneAtOnce) {
  struct Setting {
    optim::detail::AdamConstants constants;
    double weight_decay;
  };
  const Setting settings[] = {
      {{0.9, 0.999, 1e-8, false, false}, 0},  {{0.9, 0.999, 1e-8, true, false}, 0},
      {{0.9, 0.999, 1e-8, false, true}, 0.1}, {{0.9, 0.98, 1e-9, false, true}, 0.01},
      {{0.99, 0.9, 1e-8, false, false}, 0},   {{0.5, 0.1, 1e-8, false, false}, 0},
      {{0.9, 0.999, 1e-3, false, false}, 0},  {{0.9, 0.9, 0.1, true, true}, 0.5},
  };
  constexpr int kMissed = 3000;
  constexpr size_t kSize = 45;
  for (const Setting& s : settings) {
    const auto& k = s.constants;
    SCOPED_TRACE(::testing::Message() << k.b1 << " " << k.b2 << " " << k.eps << k.amsgrad);
    optim::detail::AdamMissed missed(k, kMissed);
    std::vector<double> lr;
    for (int j = 0; j < kMissed; ++j) {
      const int t = j + 11;
      lr.push_back(0.01 * (1 + std::sin(0.05 * j)));
      missed.append(lr.back() / (1 - std::pow(k.b1, t)), 1 / std::sqrt(1 - std::pow(k.b2, t)),
                    1 - lr.back() * s.weight_decay);
    }
    for (const int from : {0, 1500, kMissed - 200, kMissed - 20, kMissed - 3, kMissed - 1}) {
      std::vector<double> w, m, v, v_max;
      for (size_t i = 0; i < kSize; ++i) {
        const double size = std::pow(10.0, 3 - static_cast<double>(i % 15));
        w.push_back(static_cast<double>(i) - 20);
        m.push_back(i % 7 == 0 ? 0 : i % 2 == 0 ? size : -size);
        v.push_back(i % 7 == 0 ? 0 : 3 * size * size);
        v_max.push_back(4 * v.back());
      }
      std::vector<double> want;
      for (size_t i = 0; i < kSize; ++i) {
        long double x = w[i];
        long double a = m[i];
        long double b = v[i];
        for (int j = from; j < kMissed; ++j) {
          const long double rate = lr[static_cast<size_t>(j)];
          x -= rate * s.weight_decay * x;
          a *= k.b1;
          b *= k.b2;
          const long double top = k.amsgrad ? v_max[i] : b;
          x -= rate / (1 - std::pow(k.b1, j + 11.0L)) * a /
               (std::sqrt(top / (1 - std::pow(k.b2, j + 11.0L))) + k.eps);
        }
        want.push_back(static_cast<double>(x));
      }
      std::vector<float> wf(w.begin(), w.end()), mf(m.begin(), m.end()), vf(v.begin(), v.end()),
          xf(v_max.begin(), v_max.end());
      const auto chunk = [&](auto& cw, auto& cm, auto& cv, auto& cx) {
        optim::detail::Chunk c;
        c.value = reinterpret_cast<std::byte*>(cw.data());
        c.states[0] = reinterpret_cast<std::byte*>(cm.data());
        c.states[1] = reinterpret_cast<std::byte*>(cv.data());
        if (k.amsgrad) c.states[2] = reinterpret_cast<std::byte*>(cx.data());
        return c;
      };
      missed.replay(kFloat64, chunk(w, m, v, v_max), kSize, from);
      missed.replay(kFloat32, chunk(wf, mf, vf, xf), kSize, from);
      for (size_t i = 0; i < kSize; ++i) {
        EXPECT_NEAR(w[i], want[i], 1e-13 * (std::abs(want[i]) + 30)) << from << " " << i;
        EXPECT_NEAR(wf[i], want[i], 1e-5 * (std::abs(want[i]) + 30)) << from << " " << i;
      }
      EXPECT_NEAR(m[1], -100 * std::pow(k.b1, kMissed - from), 1e-12 * std::abs(m[1]) + 1e-300);
    }
  }
}

// A table of which a few rows are used, at settings for which nothing but time ends the sum.
TEST(MissedSteps, OfAdamLeaveRowsAloneThatNeverMoved) {
  const Meta meta{kFloat32, {64, 8}};
  for (const auto& betas : {std::array{0.9, 0.2}, std::array{0.5, 0.25}, std::array{0.9, 0.999}}) {
    const Parameter p{Tensor(Array::full(kFloat32, meta.shape, 1))};
    optim::Adam adam({p}, {.betas = betas});
    for (int t = 0; t < 250; ++t) {
      set_gradient(p, Gradient(meta, RowSparse{Array::full(kInt64, {1}, 5),
                                               Array::full(kFloat32, {1, 8}, 1)}));
      adam.step();
    }
    EXPECT_EQ(p.tensor().array().at({40, 3}), 1) << betas[0] << " " << betas[1];
  }
}

TEST(MissedSteps, NeedNoMemory) {
  Generator random(4);
  const Meta meta{kFloat64, {256, 512}};
  Twins twins(optim_testing::adam_case("Adam", {.lr = 0.1}), kFloat64,
              normal(random, kFloat64, meta.shape));
  const auto touch = [&](int64_t column, int times) {
    for (int i = 0; i < times; ++i) {
      twins.step(Gradient(
          meta, ColSparse{Array::full(kInt64, {1}, column), normal(random, kFloat64, {256, 1})}));
    }
  };
  touch(1, 3);
  touch(3, 5);
  set_memory_limit(memory_stats().live_bytes);
  EXPECT_NO_THROW(twins.structured.tensor().array());
  set_memory_limit(0);
  twins.compare_all();
  touch(5, 3);
  set_memory_limit(memory_stats().live_bytes);
  twins.a.reset();  // brings up to date too
  set_memory_limit(0);
  twins.compare_all();
}

TEST(MissedSteps, ProductsAreThoseOfAllMapsSince) {
  struct Text {
    std::string s;
    Text then(const Text& later) const { return {s + later.s}; }
  };
  optim::detail::Products<Text> products(40);
  std::string all;
  for (int n = 1; n <= 40; ++n) {
    const std::string one(1, static_cast<char>('0' + n));
    products.push({one});
    all += one;
    for (size_t from = 0; from <= all.size(); ++from) {
      ASSERT_EQ(products.since(static_cast<int64_t>(from)).s, all.substr(from));
    }
  }
}

}  // namespace
}  // namespace ebb
