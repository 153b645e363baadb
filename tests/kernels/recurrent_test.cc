// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/recurrent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "ebb/tests/kernels/kernel_testing.h"

namespace ebb::kernels {
namespace {

using testing::for_each_target;
using testing::Guarded;
using testing::samples;

constexpr size_t kSizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 150};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

template <class T>
double at(const std::vector<T>& v, size_t i) {
  return v.empty() ? 0 : static_cast<double>(v[i]);
}

template <class T>
std::vector<T> maybe(bool there, size_t n, uint64_t seed) {
  return there ? samples<T>(n, seed) : std::vector<T>();
}

// A guarded copy whose pointer is null where there is nothing.
template <class T>
struct Optional {
  explicit Optional(const std::vector<T>& v) : there(!v.empty()), memory(v.size(), 0, v) {}
  const T* get() const { return there ? memory.data() : nullptr; }
  bool there;
  Guarded<T> memory;
};

template <class T>
void expect_close(const Guarded<T>& got, const std::vector<double>& want) {
  EXPECT_TRUE(got.intact());
  const double tolerance = 60 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], tolerance * std::max(1.0, std::abs(want[i])))
        << i;
  }
}

struct LstmCase {
  size_t n;
  size_t k;
  bool states = true;
  bool peephole = false;
  bool gh = true;
  bool gc = true;
};

template <class T>
void check_lstm(const LstmCase& t) {
  const size_t n = t.n;
  const size_t k = t.k;
  SCOPED_TRACE(::testing::Message()
               << n << " cells, " << k << " states " << t.states << ", peephole " << t.peephole);
  const auto gates = samples<T>((3 + k) * n, 1);
  const auto p = maybe<T>(t.peephole, 3 * n, 2);
  std::vector<std::vector<T>> c;
  for (size_t j = 0; j < k; ++j) c.push_back(maybe<T>(t.states, n, 3 + j));
  const auto gh = maybe<T>(t.gh, n, 20);
  const auto gc = maybe<T>(t.gc, n, 21);

  std::vector<double> acts((3 + k) * n), state(n), tanh_c(n), h(n);
  std::vector<double> dgates((3 + k) * n);
  std::vector<std::vector<double>> dc(k, std::vector<double>(n));
  for (size_t i = 0; i < n; ++i) {
    const auto act = [&](size_t part) -> double& { return acts[part * n + i]; };
    act(0) = sigmoid(at(gates, i) + (t.peephole ? at(p, i) * at(c[0], i) : 0));
    act(k + 1) = std::tanh(at(gates, (k + 1) * n + i));
    state[i] = act(0) * act(k + 1);
    for (size_t j = 0; j < k; ++j) {
      act(1 + j) = sigmoid(at(gates, (1 + j) * n + i) + at(p, n + i) * at(c[j], i));
      state[i] += act(1 + j) * at(c[j], i);
    }
    act(k + 2) = sigmoid(at(gates, (k + 2) * n + i) + at(p, 2 * n + i) * state[i]);
    tanh_c[i] = std::tanh(state[i]);
    h[i] = act(k + 2) * tanh_c[i];

    const double o = act(k + 2);
    const double ao = at(gh, i) * tanh_c[i] * o * (1 - o);
    const double d =
        at(gc, i) + at(gh, i) * o * (1 - tanh_c[i] * tanh_c[i]) + ao * at(p, 2 * n + i);
    const double ai = d * act(k + 1) * act(0) * (1 - act(0));
    dgates[i] = ai;
    dgates[(k + 1) * n + i] = d * act(0) * (1 - act(k + 1) * act(k + 1));
    dgates[(k + 2) * n + i] = ao;
    for (size_t j = 0; j < k; ++j) {
      const double f = act(1 + j);
      const double af = d * at(c[j], i) * f * (1 - f);
      dgates[(1 + j) * n + i] = af;
      dc[j][i] = d * f + ai * at(p, i) + af * at(p, n + i);
    }
  }

  Guarded<T> work(gates.size(), 0, gates);
  Guarded<T> got_state(n), got_tanh(n, 1), got_h(n, 3);
  const Optional<T> peephole(p);
  std::vector<std::unique_ptr<Optional<T>>> states;
  std::vector<const T*> before;
  for (const auto& v : c) {
    states.push_back(std::make_unique<Optional<T>>(v));
    before.push_back(states.back()->get());
  }
  lstm<T>({n, k, work.data(), before.data(), peephole.get(), got_state.data(), got_tanh.data(),
           got_h.data()});
  expect_close(work, acts);
  expect_close(got_state, state);
  expect_close(got_tanh, tanh_c);
  expect_close(got_h, h);

  Guarded<T> got_gates(dgates.size(), 1);
  const Optional<T> from_h(gh);
  std::vector<std::unique_ptr<Guarded<T>>> to;
  std::vector<T*> after;
  for (size_t j = 0; j < k; ++j) {
    // The gradient of the first state takes the place of that of c'.
    to.push_back(j == 0 && t.gc ? std::make_unique<Guarded<T>>(n, 0, gc)
                                : std::make_unique<Guarded<T>>(n));
    after.push_back(to.back()->data());
  }
  const Optional<T> own_gc(k == 0 ? gc : std::vector<T>());
  const T* from_c = !t.gc || n == 0 ? nullptr : k == 0 ? own_gc.get() : after[0];
  lstm_backward<T>({n, k, work.data(), before.data(), peephole.get(), got_tanh.data(), from_h.get(),
                    from_c, got_gates.data(), after.data()});
  expect_close(got_gates, dgates);
  for (size_t j = 0; j < k; ++j) expect_close(*to[j], dc[j]);
}

template <class T>
void check_all_lstm() {
  for (const size_t n : kSizes) {
    for (size_t k = 0; k < 4; ++k) check_lstm<T>({n, k});
    check_lstm<T>({n, 1, false});
    check_lstm<T>({n, 1, true, n > 0});
    check_lstm<T>({n, 1, false, n > 0});
    check_lstm<T>({n, 1, true, n > 0, false, true});
    check_lstm<T>({n, 2, true, false, true, false});
  }
}

TEST(LstmKernel, IsItsFormula) {
  for_each_target([] {
    check_all_lstm<float>();
    check_all_lstm<double>();
  });
}

TEST(LstmKernel, LeavesOutWhatIsNotWanted) {
  for_each_target([] {
    const auto gates = samples<float>(4 * 9, 1);
    const auto c = samples<float>(9, 2);
    const auto run = [&](bool all) {
      Guarded<float> work(36, 0, gates), state(9), tanh_c(9), h(9);
      const float* before = c.data();
      lstm<float>({9, 1, work.data(), &before, nullptr, state.data(), all ? tanh_c.data() : nullptr,
                   all ? h.data() : nullptr});
      return std::vector<float>(state.data(), state.data() + 9);
    };
    EXPECT_EQ(run(true), run(false));
  });
}

template <class T>
void check_gru(size_t n, bool has_h) {
  SCOPED_TRACE(::testing::Message() << n << " cells, state " << has_h);
  const auto a = samples<T>(4 * n, 1);
  const auto b = samples<T>(3 * n, 2);
  const auto h = maybe<T>(has_h, n, 3);
  const auto g = samples<T>(n, 4);
  std::vector<double> acts(4 * n), out(n), da(3 * n), db(3 * n), dh(n);
  for (size_t i = 0; i < n; ++i) {
    const double r = sigmoid(at(a, i) + at(b, i));
    const double z = sigmoid(at(a, n + i) + at(b, n + i));
    const double q = at(b, 2 * n + i);
    const double m = std::tanh(at(a, 2 * n + i) + r * q);
    acts[i] = r;
    acts[n + i] = z;
    acts[2 * n + i] = m;
    acts[3 * n + i] = q;
    out[i] = (1 - z) * m + z * at(h, i);
    const double dm = at(g, i) * (1 - z) * (1 - m * m);
    da[i] = db[i] = dm * q * r * (1 - r);
    da[n + i] = db[n + i] = at(g, i) * (at(h, i) - m) * z * (1 - z);
    da[2 * n + i] = dm;
    db[2 * n + i] = dm * r;
    dh[i] = at(g, i) * z;
  }
  Guarded<T> work(4 * n, 0, a);
  Guarded<T> hidden(3 * n, 0, b);
  const Optional<T> before(h);
  Guarded<T> got(n);
  gru<T>({n, work.data(), hidden.data(), before.get(), got.data()});
  expect_close(work, acts);
  expect_close(got, out);
  Guarded<T> got_a(3 * n), got_b(3 * n, 1), grad(n, 0, g);
  gru_backward<T>(
      {n, work.data(), before.get(), grad.data(), got_a.data(), got_b.data(), grad.data()});
  expect_close(got_a, da);
  expect_close(got_b, db);
  expect_close(grad, dh);
  Guarded<T> again(n, 0, g);
  gru_backward<T>(
      {n, work.data(), before.get(), again.data(), got_a.data(), got_b.data(), nullptr});
  expect_close(got_a, da);
}

TEST(GruKernel, IsItsFormula) {
  for_each_target([] {
    for (const size_t n : kSizes) {
      for (const bool has_h : {false, true}) {
        check_gru<float>(n, has_h && n > 0);
        check_gru<double>(n, has_h && n > 0);
      }
    }
  });
}

}  // namespace
}  // namespace ebb::kernels
