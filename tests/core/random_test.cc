// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/parallel.h"

namespace ebb {
namespace {

using Block = std::array<uint32_t, 4>;

// The known answers that Salmon et al. publish with Random123 (file kat_vectors).
TEST(Philox, AgreesWithTheKnownAnswersOfRandom123) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// What the layout of key and counter means, and with it every published seed.
TEST(Generator, DrawsTheWordsOfPhiloxAtItsStateInOrder) {
  const uint64_t key = 0x299f31d0a4093822, stream = 0x0370734413198a2e;
  // 32-bit words: four a block, kind 0.
  const uint64_t block = 0x05a308d3243f6a88;
  Generator g(Generator::State{key, stream, 4 * block & ((uint64_t{1} << 62) - 1)});
  const uint64_t low = block & ((uint64_t{1} << 60) - 1);
  const Block words = philox4x32_10(
      {static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0x13198a2e, 0x03707344},
      {0xa4093822, 0x299f31d0});
  for (int j = 0; j < 4; ++j) EXPECT_EQ(g.next32(), words[j]) << j;
  // 64-bit words: two a block, kind 1 in the top bits of the low counter.
  Generator h(Generator::State{key, stream, 0});
  const Block wide = philox4x32_10({0, 1u << 30, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  EXPECT_EQ(h.next64(), uint64_t{wide[1]} << 32 | wide[0]);
  EXPECT_EQ(h.next64(), uint64_t{wide[3]} << 32 | wide[2]);
  EXPECT_EQ(h.state().counter_lo, 2u);
}

TEST(Generator, StreamsAreStableFromReleaseToRelease) {
  EXPECT_EQ(Generator(0).state().counter_hi, Generator(17, "").state().counter_hi);
  EXPECT_EQ(Generator(17).state().key, 17u);
  Generator g(1, "weights");
  const std::vector<uint32_t> first = {g.next32(), g.next32(), g.next32()};
  EXPECT_EQ(first, (std::vector<uint32_t>{0xaf1f5843, 0x90aa0815, 0xde0890f7}));
}

TEST(Generator, NamesAndSeedsGiveDifferentStreams) {
  std::set<uint64_t> seen;
  const auto add = [&](Generator g) { return seen.insert(g.next64()).second; };
  const Generator root(3);
  for (uint64_t seed = 0; seed < 100; ++seed) EXPECT_TRUE(add(Generator(seed)));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(add(Generator(3, "s" + std::to_string(i))));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(add(root.split("s" + std::to_string(i))));
  EXPECT_TRUE(add(root.split("a").split("b")));
  EXPECT_TRUE(add(root.split("b").split("a")));
  EXPECT_TRUE(add(root.split("ab")));
  EXPECT_TRUE(add(Generator(3, "a").split("b")));
  EXPECT_TRUE(add(root.split("")));
}

TEST(Generator, SplitDependsOnTheNameAndNotOnThePosition) {
  Generator g(5);
  const Generator before = g.split("dropout");
  g.next64();
  EXPECT_EQ(g.split("dropout").state(), before.state());
}

template <class T, class Fill, class Draw>
void expect_fill_equals_draws(Fill fill, Draw draw) {
  // Starts at, before and after the edges of a block and of a group of blocks.
  for (uint64_t start : {0u, 1u, 2u, 3u, 5u, 15u, 16u, 31u, 1001u}) {
    for (size_t n : {0u, 1u, 2u, 3u, 4u, 7u, 16u, 17u, 33u, 130u}) {
      Generator bulk(11, "fill"), single(11, "fill");
      bulk.skip(start);
      single.skip(start);
      std::vector<T> got(n + 1, T{77}), want(n + 1, T{77});
      fill(bulk, got.data(), n);
      for (size_t i = 0; i < n; ++i) want[i] = draw(single);
      ASSERT_EQ(got, want) << "start " << start << ", n " << n;
      ASSERT_EQ(bulk.state(), single.state());
    }
  }
}

TEST(Generator, AFillIsAsManySingleDraws) {
  expect_fill_equals_draws<float>([](Generator& g, float* p, size_t n) { g.fill_uniform(p, n); },
                                  [](Generator& g) { return g.uniform_float(); });
  expect_fill_equals_draws<double>([](Generator& g, double* p, size_t n) { g.fill_uniform(p, n); },
                                   [](Generator& g) { return g.uniform(); });
  expect_fill_equals_draws<float>([](Generator& g, float* p, size_t n) { g.fill_normal(p, n); },
                                  [](Generator& g) { return g.normal_float(); });
  expect_fill_equals_draws<double>([](Generator& g, double* p, size_t n) { g.fill_normal(p, n); },
                                   [](Generator& g) { return g.normal(); });
  expect_fill_equals_draws<uint8_t>(
      [](Generator& g, uint8_t* p, size_t n) { g.fill_bernoulli(p, n, 0.375); },
      [](Generator& g) { return uint8_t{g.next32() < 0x60000000u}; });
}

TEST(Generator, ChunksDoNotMatter) {
  const size_t n = 1000;
  std::vector<double> whole(n), parts(n);
  Generator(7).fill_normal(whole.data(), n, -2, 3);
  Generator cutter(99);
  for (int trial = 0; trial < 50; ++trial) {
    Generator g(7);
    std::fill(parts.begin(), parts.end(), 0);
    for (size_t at = 0; at < n;) {
      const size_t count = std::min<size_t>(n - at, cutter.uniform_int(60));
      g.fill_normal(parts.data() + at, count, -2, 3);
      at += count;
    }
    ASSERT_EQ(whole, parts);
  }
  // From the back, as threads that start late would.
  for (size_t at = n; at > 0;) {
    const size_t count = std::min<size_t>(at, 37);
    at -= count;
    Generator g(7);
    g.skip(at);
    g.fill_normal(parts.data() + at, count, -2, 3);
  }
  EXPECT_EQ(whole, parts);
}

TEST(Generator, LargeFillsAreTheSameOnAnyNumberOfThreads) {
  const int before = num_threads();
  constexpr size_t kCount = 150'001;
  const auto expect_same = [](auto zero, const auto& fill) {
    using T = decltype(zero);
    std::vector<T> small(kCount), large(kCount);
    Generator g(8);
    g.skip(3);
    for (size_t at = 0; at < kCount;) {
      const size_t count = std::min<size_t>(kCount - at, 1000);
      fill(g, small.data() + at, count);
      at += count;
    }
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      Generator same(8);
      same.skip(3);
      fill(same, large.data(), kCount);
      EXPECT_EQ(small, large);
      EXPECT_EQ(same.state(), g.state());
    }
  };
  const auto uniform = [](Generator& g, auto* p, size_t n) { g.fill_uniform(p, n, -2, 3); };
  const auto normal = [](Generator& g, auto* p, size_t n) { g.fill_normal(p, n, -2, 3); };
  expect_same(0.0f, uniform);
  expect_same(0.0, uniform);
  expect_same(0.0f, normal);
  expect_same(0.0, normal);
  expect_same(uint8_t{0},
              [](Generator& g, uint8_t* p, size_t n) { g.fill_bernoulli(p, n, 0.375); });
  set_num_threads(before);
}

TEST(Generator, ResumesFromASavedState) {
  static_assert(std::is_trivially_copyable_v<Generator::State>);
  Generator g(21, "data");
  g.normal();
  g.normal_float();
  const Generator::State saved = g.state();
  const double a = g.normal(), b = g.uniform();
  Generator h(0);
  h.set_state(saved);
  EXPECT_EQ(h.normal(), a);
  EXPECT_EQ(h.uniform(), b);
  EXPECT_EQ(h.state(), g.state());
  EXPECT_NE(h.state(), saved);
  EXPECT_EQ(Generator(saved).normal(), a);

  const Generator::State bad{1, 2, uint64_t{1} << 62};
  EXPECT_THROW(Generator{bad}, ValueError);
  EXPECT_THROW(h.set_state(bad), ValueError);
  EXPECT_EQ(h.state(), g.state());
}

TEST(Generator, WrapsAroundAtTheEndOfAStream) {
  const uint64_t last = (uint64_t{1} << 62) - 1;
  Generator g(Generator::State{1, 2, last - 2}), fresh(Generator::State{1, 2, 0});
  std::vector<float> around(6), start(3);
  g.fill_uniform(around.data(), around.size());
  fresh.fill_uniform(start.data(), start.size());
  EXPECT_TRUE(std::equal(start.begin(), start.end(), around.begin() + 3));
  EXPECT_EQ(g.state().counter_lo, 3u);
}

TEST(Generator, UniformStaysInsideItsInterval) {
  const size_t n = 200000;
  std::vector<float> f(n);
  Generator g(2);
  // Here lo + u (hi - lo) rounds up to hi in about a quarter of all draws.
  const float lo = 1.0f, hi = std::nextafter(std::nextafter(1.0f, 2.0f), 2.0f);
  g.fill_uniform(f.data(), n, lo, hi);
  EXPECT_EQ(*std::min_element(f.begin(), f.end()), lo);
  EXPECT_LT(*std::max_element(f.begin(), f.end()), hi);
  g.fill_uniform(f.data(), n, 4.5f, 4.5f);
  EXPECT_EQ(f, std::vector<float>(n, 4.5f));
  g.fill_uniform(f.data(), n);
  EXPECT_GE(*std::min_element(f.begin(), f.end()), 0.0f);
  EXPECT_LT(*std::max_element(f.begin(), f.end()), 1.0f);
}

// The chi-squared statistic of `counts` against equal expectation, in standard deviations from its
// mean; |z| > 5 happens by chance once in a few million.
double chi_squared_z(const std::vector<int64_t>& counts) {
  double total = 0;
  for (int64_t c : counts) total += static_cast<double>(c);
  const double expected = total / static_cast<double>(counts.size());
  double chi2 = 0;
  for (int64_t c : counts) {
    const double d = static_cast<double>(c) - expected;
    chi2 += d * d / expected;
  }
  const double freedom = static_cast<double>(counts.size()) - 1;
  return (chi2 - freedom) / std::sqrt(2 * freedom);
}

TEST(Generator, UniformIntIsUnbiased) {
  Generator g(3);
  for (uint64_t n : {1u, 2u, 6u, 10u, 1000u}) {
    std::vector<int64_t> counts(n);
    for (int i = 0; i < 200000; ++i) {
      const uint64_t v = g.uniform_int(n);
      ASSERT_LT(v, n);
      ++counts[v];
    }
    if (n > 1) {
      EXPECT_LT(std::abs(chi_squared_z(counts)), 5) << n;
    }
  }
  // With n = 3 * 2^62, plain `next64() % n` would hit the lowest third twice as often.
  const uint64_t big = uint64_t{3} << 62;
  std::vector<int64_t> thirds(3);
  for (int i = 0; i < 100000; ++i) ++thirds[g.uniform_int(big) >> 62];
  EXPECT_LT(std::abs(chi_squared_z(thirds)), 5);
}

TEST(Generator, UniformFillsTheUnitSquareEvenly) {
  const size_t n = 1 << 18;
  std::vector<float> f(n);
  std::vector<double> d(n);
  Generator g(4);
  g.fill_uniform(f.data(), n);
  g.fill_uniform(d.data(), n);
  std::vector<int64_t> pairs(32 * 32), wide(32 * 32);
  for (size_t i = 0; i + 1 < n; i += 2) {
    ++pairs[static_cast<size_t>(f[i] * 32) * 32 + static_cast<size_t>(f[i + 1] * 32)];
    ++wide[static_cast<size_t>(d[i] * 32) * 32 + static_cast<size_t>(d[i + 1] * 32)];
  }
  EXPECT_LT(std::abs(chi_squared_z(pairs)), 5);
  EXPECT_LT(std::abs(chi_squared_z(wide)), 5);
}

// Kolmogorov's distance of a sample from the normal distribution, times sqrt(n): above 2.3 once in
// 20000 samples.
template <class T>
double kolmogorov(std::vector<T> sample, double mean, double std) {
  std::sort(sample.begin(), sample.end());
  double distance = 0;
  const double n = static_cast<double>(sample.size());
  for (size_t i = 0; i < sample.size(); ++i) {
    const double cdf = 0.5 * std::erfc(-(sample[i] - mean) / std / std::sqrt(2.0));
    distance = std::max({distance, std::abs(cdf - static_cast<double>(i) / n),
                         std::abs(cdf - static_cast<double>(i + 1) / n)});
  }
  return distance * std::sqrt(n);
}

TEST(Generator, NormalIsNormal) {
  const size_t n = 200000;
  std::vector<float> f(n);
  std::vector<double> d(n);
  Generator g(6);
  g.fill_normal(f.data(), n, 2.0f, 0.5f);
  g.fill_normal(d.data(), n, -1.0, 3.0);
  EXPECT_LT(kolmogorov(f, 2.0, 0.5), 2.3);
  EXPECT_LT(kolmogorov(d, -1.0, 3.0), 2.3);
  // Both ends of a Box-Muller pair come from one radius, yet neither they nor their squares may
  // be correlated.
  double corr = 0, squares = 0, fourth = 0;
  for (size_t i = 0; i < n; i += 2) {
    const double a = (d[i] + 1) / 3, b = (d[i + 1] + 1) / 3;
    corr += a * b;
    squares += (a * a - 1) * (b * b - 1);
    fourth += a * a * a * a + b * b * b * b;
  }
  const double pairs = static_cast<double>(n) / 2;
  EXPECT_LT(std::abs(corr / pairs), 5 / std::sqrt(pairs));
  EXPECT_LT(std::abs(squares / pairs), 5 * 2 / std::sqrt(pairs));
  EXPECT_NEAR(fourth / static_cast<double>(n), 3, 5 * std::sqrt(96.0 / static_cast<double>(n)));
  for (double x : d) ASSERT_TRUE(std::isfinite(x));
  g.fill_normal(f.data(), n, 4.0f, 0.0f);
  EXPECT_EQ(f, std::vector<float>(n, 4.0f));
}

// A normal number right after a uniform one must not be bounded by it.
TEST(Generator, DrawsOfDifferentKindsAreUnrelated) {
  Generator g(8);
  const int n = 100000;
  double uniform_normal = 0, float_normal = 0, int_float = 0;
  for (int i = 0; i < n; ++i) {
    const double u = g.uniform() - 0.5, z = g.normal();
    uniform_normal += u * (z * z - 1);
    const double v = g.uniform_float() - 0.5, y = g.normal_float();
    float_normal += v * (y * y - 1);
    const double k = static_cast<double>(g.uniform_int(12)) - 5.5;
    int_float += k * (g.uniform_float() - 0.5);
  }
  const double sigma = std::sqrt(n * 2.0 / 12);
  EXPECT_LT(std::abs(uniform_normal), 5 * sigma);
  EXPECT_LT(std::abs(float_normal), 5 * sigma);
  EXPECT_LT(std::abs(int_float), 5 * std::sqrt(n * (143.0 / 12) / 12));
}

TEST(Generator, BernoulliHasItsProbability) {
  const size_t n = 100000;
  std::vector<uint8_t> b(n);
  Generator g(9);
  for (double p : {0.0, 1e-3, 0.3, 0.999, 1.0}) {
    g.fill_bernoulli(b.data(), n, p);
    const double ones = static_cast<double>(std::count(b.begin(), b.end(), 1));
    EXPECT_EQ(static_cast<size_t>(ones) + static_cast<size_t>(std::count(b.begin(), b.end(), 0)),
              n);
    EXPECT_LE(std::abs(ones - p * n), 5 * std::sqrt(p * (1 - p) * n)) << p;
  }
}

TEST(Generator, PermutationsAreUniform) {
  Generator g(10);
  EXPECT_TRUE(g.permutation(0).empty());
  EXPECT_EQ(g.permutation(1), std::vector<int64_t>{0});
  std::vector<int64_t> counts(24);
  for (int i = 0; i < 48000; ++i) {
    const std::vector<int64_t> p = g.permutation(4);
    std::vector<int64_t> sorted = p;
    std::sort(sorted.begin(), sorted.end());
    ASSERT_EQ(sorted, (std::vector<int64_t>{0, 1, 2, 3}));
    int64_t code = 0;  // Lehmer's
    for (int a = 0; a < 4; ++a) {
      int64_t smaller = 0;
      for (int b = a + 1; b < 4; ++b) smaller += p[b] < p[a];
      code = code * (4 - a) + smaller;
    }
    ++counts[static_cast<size_t>(code)];
  }
  EXPECT_LT(std::abs(chi_squared_z(counts)), 5);
}

TEST(Generator, RejectsBadArguments) {
  Generator g(1);
  const Generator::State before = g.state();
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  double d[2];
  float f[2];
  uint8_t b[2];
  EXPECT_THROW(g.uniform_int(0), ValueError);
  EXPECT_THROW(g.permutation(-1), ValueError);
  EXPECT_THROW(g.fill_uniform(d, 2, 1, 0), ValueError);
  EXPECT_THROW(g.fill_uniform(d, 2, nan, 0), ValueError);
  EXPECT_THROW(g.fill_uniform(d, 2, -1e308, 1e308), ValueError);
  EXPECT_THROW(g.fill_uniform(f, 2, 0, static_cast<float>(inf)), ValueError);
  EXPECT_THROW(g.fill_normal(d, 2, 0, -1), ValueError);
  EXPECT_THROW(g.fill_normal(d, 2, inf, 1), ValueError);
  EXPECT_THROW(g.fill_normal(f, 2, 0, static_cast<float>(nan)), ValueError);
  EXPECT_THROW(g.fill_bernoulli(b, 2, -0.1), ValueError);
  EXPECT_THROW(g.fill_bernoulli(b, 2, 1.1), ValueError);
  EXPECT_THROW(g.fill_bernoulli(b, 2, nan), ValueError);
  EXPECT_EQ(g.state(), before);
}

TEST(DefaultGenerator, RepeatsAfterManualSeed) {
  manual_seed(42);
  EXPECT_EQ(default_generator().state(), Generator(42, "default").state());
  Generator& g = default_generator();
  const uint64_t a = g.next64();
  manual_seed(43);
  EXPECT_NE(g.next64(), a);
  manual_seed(42);
  EXPECT_EQ(g.next64(), a);  // a reference stays good
}

TEST(DefaultGenerator, ThreadsHaveTheirOwnStreams) {
  manual_seed(5);
  const int kThreads = 4;
  std::vector<uint64_t> streams(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&streams, t] {
      streams[t] = default_generator().state().counter_hi;
      for (int i = 0; i < 1000; ++i) default_generator().next32();
    });
  }
  for (std::thread& t : threads) t.join();
  streams.push_back(default_generator().state().counter_hi);
  EXPECT_EQ(std::set<uint64_t>(streams.begin(), streams.end()).size(), streams.size());
}

TEST(DefaultGenerator, SeedingRestartsOtherThreads) {
  std::atomic<int> stage{0};
  uint64_t first = 0, second = 0, other = 0;
  manual_seed(1);
  std::thread worker([&] {
    first = default_generator().next64();
    stage = 1;
    while (stage != 2) std::this_thread::yield();
    second = default_generator().next64();
    stage = 3;
    while (stage != 4) std::this_thread::yield();
    other = default_generator().next64();
  });
  while (stage != 1) std::this_thread::yield();
  manual_seed(1);
  stage = 2;
  while (stage != 3) std::this_thread::yield();
  manual_seed(2);
  stage = 4;
  worker.join();
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
}

TEST(DefaultGenerator, ThreadsMaySeedAtAnyTime) {
  std::vector<std::thread> threads;
  std::atomic<int> outside{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&outside, t] {
      for (int i = 0; i < 500; ++i) {
        if (i % 50 == 0) manual_seed(static_cast<uint64_t>(t));
        const double u = default_generator().uniform();
        if (!(u >= 0 && u < 1)) ++outside;
        if (default_generator().state().key > 3) ++outside;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(outside, 0);
  manual_seed(0);
}

}  // namespace
}  // namespace ebb
