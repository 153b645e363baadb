// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "ebb/core/array.h"

namespace ebb {
namespace {

#ifdef EBB_NO_POOL
constexpr bool kPool = false;
#else
constexpr bool kPool = true;
#endif

int64_t live() { return memory_stats().live_bytes; }

TEST(SizeClasses, HoldWhatIsAskedAndWasteLittle) {
  using detail::class_bytes;
  using detail::size_class_of;
  int last = 0;
  for (size_t n = 1; n < (1 << 20); n += n < 5000 ? 1 : 977) {
    const int c = size_class_of(n);
    ASSERT_GE(class_bytes(c), n);
    ASSERT_EQ(class_bytes(c) % 64, 0u);
    ASSERT_LT(c > 1 ? class_bytes(c - 1) : 0, n) << "a smaller class would do";
    ASSERT_LE(class_bytes(c), n > 1024 ? n + n / 4 : n + 63);
    ASSERT_GE(c, last);
    last = c;
  }
  EXPECT_LT(size_class_of(size_t{1} << 46), detail::kClasses);
}

TEST(MemoryStats, CountWhatIsAlive) {
  const int64_t before = live();
  {
    const Array a = Array::zeros(kFloat32, {1000});
    EXPECT_GE(live() - before, 4000);
    EXPECT_LE(live() - before, 5200);
    const Array b = a;
    const int64_t with_one = live();
    const Array c = Array::zeros(kFloat32, {1000});
    EXPECT_EQ(live() - with_one, with_one - before);
  }
  EXPECT_EQ(live(), before);
}

TEST(MemoryStats, PeakIsTheLargest) {
  reset_peak_memory();
  const int64_t before = memory_stats().peak_bytes;
  { const Array a = Array::zeros(kFloat32, {100000}); }
  EXPECT_GE(memory_stats().peak_bytes - before, 400000);
  { const Array a = Array::zeros(kFloat32, {1000}); }
  EXPECT_GE(memory_stats().peak_bytes - before, 400000) << "which a smaller one leaves as it is";
  reset_peak_memory();
  EXPECT_LT(memory_stats().peak_bytes - before, 100000);
  EXPECT_GE(memory_stats().reserved_bytes, live());
}

TEST(Pool, ReusesWhatWasFreed) {
  if (!kPool) GTEST_SKIP() << "built without the pool";
  const auto step = [] {
    std::vector<Array> arrays;
    arrays.reserve(64);
    for (int i = 0; i < 64; ++i) arrays.push_back(Array::empty(kFloat32, {1 << (i % 16)}));
  };
  step();
  const int64_t allocations = memory_stats().heap_allocations;
  const int64_t reserved = memory_stats().reserved_bytes;
  for (int i = 0; i < 100; ++i) step();
  EXPECT_EQ(memory_stats().heap_allocations, allocations);
  EXPECT_EQ(memory_stats().reserved_bytes, reserved);
}

TEST(Pool, BlocksDoNotOverlap) {
  std::mt19937 random(1);
  std::vector<Array> arrays;
  for (int round = 0; round < 5000; ++round) {
    if (arrays.size() > 100 || (!arrays.empty() && random() % 3 == 0)) {
      const size_t at = random() % arrays.size();
      const Array a = arrays[at];
      const uint8_t first = a.numel() > 0 ? a.data<uint8_t>()[0] : 0;
      for (int64_t k = 0; k < a.numel(); ++k) ASSERT_EQ(a.data<uint8_t>()[k], first);
      arrays[at] = arrays.back();
      arrays.pop_back();
    } else {
      const auto n = static_cast<int64_t>(random() % 5000);
      arrays.push_back(Array::empty(kUInt8, {n}));
      std::memset(arrays.back().raw(), round % 251, static_cast<size_t>(n));
    }
  }
}

TEST(ReleaseCachedMemory, GivesLargeBlocksBack) {
  if (!kPool) GTEST_SKIP() << "built without the pool";
  release_cached_memory();
  const int64_t before = memory_stats().reserved_bytes;
  { const Array a = Array::zeros(kFloat32, {1 << 20}); }
  EXPECT_GE(memory_stats().reserved_bytes - before, 4 << 20);
  release_cached_memory();
  EXPECT_EQ(memory_stats().reserved_bytes, before);
  const Array again = Array::full(kFloat32, {1 << 20}, 3);
  EXPECT_EQ(again.at({(1 << 20) - 1}), 3);
}

class MemoryLimit : public ::testing::Test {
 protected:
  ~MemoryLimit() override { set_memory_limit(0); }
};

TEST_F(MemoryLimit, StopsAllocationsAndHarmsNothing) {
  const Array a = Array::full(kFloat32, {1000}, 7);
  const int64_t before = live();
  set_memory_limit(before + 10000);
  try {
    (void)Array::zeros(kFloat32, {10000});
    FAIL() << "40000 bytes were given";
  } catch (const MemoryError& e) {
    EXPECT_NE(
        std::string(e.what()).find("would pass the limit of " + std::to_string(before + 10000)),
        std::string::npos)
        << e.what();
  }
  EXPECT_EQ(live(), before);
  EXPECT_EQ(a.at({999}), 7);
  {
    const Array fits = Array::zeros(kFloat32, {1000});
    EXPECT_THROW((void)Array::zeros(kFloat32, {2000}), MemoryError);
  }
  const Array now = Array::zeros(kFloat32, {2000});
  EXPECT_EQ(now.at({0}), 0);
}

TEST_F(MemoryLimit, CountsCachedBlocksAsFree) {
  { const Array a = Array::zeros(kFloat32, {100000}); }
  set_memory_limit(live() + 1000);
  EXPECT_THROW((void)Array::zeros(kFloat32, {100000}), MemoryError);
  set_memory_limit(live() + 600000);
  EXPECT_EQ(Array::zeros(kFloat32, {100000}).at({5}), 0);
}

TEST_F(MemoryLimit, SmallBlocksAreCountedToo) {
  std::vector<Array> arrays;
  arrays.reserve(2000);
  set_memory_limit(live() + 64 * 1024);
  EXPECT_THROW(
      {
        for (int i = 0; i < 2000; ++i) arrays.push_back(Array::scalar(kFloat32, i));
      },
      MemoryError);
  EXPECT_GT(arrays.size(), 200u);
  EXPECT_LE(arrays.size(), 64u * 1024 / 64);
  set_memory_limit(0);
  arrays.push_back(Array::scalar(kFloat32, 1));
  EXPECT_EQ(arrays.back().item(), 1);
}

TEST_F(MemoryLimit, BelowWhatIsInUse) {
  const Array a = Array::zeros(kFloat32, {1000});
  set_memory_limit(1);
  EXPECT_THROW((void)Array::scalar(kFloat32, 1), MemoryError);
  EXPECT_EQ(a.at({0}), 0);
}

TEST_F(MemoryLimit, HoldsForOtherThreadsToo) {
  set_memory_limit(live() + 100000);
  bool thrown = false;
  std::thread([&] {
    try {
      (void)Array::zeros(kFloat32, {100000});
    } catch (const MemoryError&) {
      thrown = true;
    }
  }).join();
  EXPECT_TRUE(thrown);
}

TEST_F(MemoryLimit, MayNotBeNegative) { EXPECT_THROW(set_memory_limit(-1), ValueError); }

TEST(Memory, MoreThanTheMachineHas) {
  const int64_t before = live();
  EXPECT_THROW((void)Array::empty(kFloat64, {int64_t{1} << 44}), MemoryError);
  EXPECT_EQ(live(), before);
}

// --- counts across threads -------------------------------------------------------------------

TEST(CountsThread, LastReferenceDroppedElsewhere) {
  const int64_t before = live();
  for (int i = 0; i < 100; ++i) {
    Array a = Array::full(kFloat32, {100}, i);
    std::thread([b = std::move(a), i] { EXPECT_EQ(b.at({50}), i); }).join();
  }
  (void)Array::zeros(kFloat32, {100});
  release_cached_memory();  // takes in what other threads have handed back
  EXPECT_EQ(live(), before);
}

TEST(CountsThread, OwnerDropsFirst) {
  std::atomic<int> stage{0};
  Array shared = Array::full(kFloat32, {10}, 3);
  std::thread other([&, mine = shared] {
    stage = 1;
    while (stage != 2) std::this_thread::yield();
    const Array more = mine;  // counted after the owner has let go
    EXPECT_EQ(more.at({9}), 3);
  });
  while (stage != 1) std::this_thread::yield();
  shared = Array();
  stage = 2;
  other.join();
}

TEST(CountsThread, UniqueOnlyForTheOnlyHolder) {
  const Array a = Array::zeros(kFloat32, {10});
  EXPECT_TRUE(a.is_unique());
  std::atomic<int> stage{0};
  std::thread other([&] {
    Array b = a;
    stage = 1;
    while (stage != 2) std::this_thread::yield();
    b = Array();
    stage = 3;
  });
  while (stage != 1) std::this_thread::yield();
  EXPECT_FALSE(a.is_unique());
  stage = 2;
  other.join();
  EXPECT_TRUE(a.is_unique());
}

// What was handed back to the heap of a dead thread just before it died is taken in by the thread
// that adopts it: so many threads, alive at once, adopt as many.
void drain_heaps(int count) {
  std::atomic<int> attached{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) {
    threads.emplace_back([&] {
      { const Array a = Array::scalar(kFloat32, 0); }
      release_cached_memory();
      ++attached;
      while (attached < count) std::this_thread::yield();
    });
  }
  for (std::thread& t : threads) t.join();
  release_cached_memory();
}

// References go round between threads at random; no count may be lost.
TEST(CountsThread, RandomExchange) {
  constexpr int kThreads = 4;
  drain_heaps(kThreads + 2);
  const int64_t before = live();
  constexpr int kSlots = 32;
  {
    struct Slot {
      std::atomic_flag busy = ATOMIC_FLAG_INIT;
      Array array;
    };
    std::vector<Slot> slots(kSlots);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<uint32_t>(t));
        std::vector<Array> mine(8);
        for (int i = 0; i < 20000; ++i) {
          Array& a = mine[random() % mine.size()];
          const uint32_t what = random() % 4;
          if (what == 0) {
            const auto n = static_cast<int64_t>(1 + random() % 300);
            a = Array::full(kInt32, {n}, static_cast<double>(n));
          } else if (what == 1) {
            a = mine[random() % mine.size()];
          } else {
            Slot& s = slots[random() % kSlots];
            while (s.busy.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
            std::swap(s.array, a);
            s.busy.clear(std::memory_order_release);
          }
          if (a.defined() && a.at({a.numel() - 1}) != static_cast<double>(a.numel())) ++wrong;
        }
      });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(wrong, 0);
  }
  drain_heaps(kThreads + 2);
  EXPECT_EQ(live(), before);
}

TEST(CountsThread, HeapsOfDeadThreadsAreReused) {
  if (!kPool) GTEST_SKIP() << "built without the pool";
  const auto work = [] {
    std::vector<Array> arrays;
    for (int i = 0; i < 100; ++i) arrays.push_back(Array::zeros(kFloat32, {100}));
  };
  for (int i = 0; i < 4; ++i) std::thread(work).join();
  const int64_t reserved = memory_stats().reserved_bytes;
  for (int i = 0; i < 50; ++i) std::thread(work).join();
  EXPECT_EQ(memory_stats().reserved_bytes, reserved);
}

}  // namespace
}  // namespace ebb
