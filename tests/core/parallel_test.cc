// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "ebb/core/array.h"
#include "ebb/core/error.h"

namespace ebb {
namespace {

class ParallelForThread : public ::testing::Test {
 protected:
  ParallelForThread() : before_(num_threads()) {}
  ~ParallelForThread() override { set_num_threads(before_); }

 private:
  int before_;
};

TEST_F(ParallelForThread, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 4, 7}) {
    set_num_threads(threads);
    for (const int64_t n : {0, 1, 2, 5, 63, 64, 65, 1000}) {
      for (const int64_t grain : {1, 7, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        std::mutex mutex;
        std::vector<std::pair<int64_t, int64_t>> ranges;
        parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
          const std::lock_guard lock(mutex);
          ranges.emplace_back(begin, end);
        });
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[static_cast<size_t>(i)], 1) << n << " " << i;
        for (const auto& [begin, end] : ranges) {
          ASSERT_LT(begin, end);
          ASSERT_TRUE(end == n || end - begin >= grain);
        }
        ASSERT_LE(ranges.size(), static_cast<size_t>(n <= grain ? 1 : n));
      }
    }
  }
}

TEST_F(ParallelForThread, UsesUpToSoManyThreads) {
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  // On a busy machine the others may be late, but not for ever.
  for (int round = 0; round < 2000 && ids.size() < 2; ++round) {
    parallel_for(3, 1, [&](int64_t, int64_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  }
  EXPECT_LE(ids.size(), 3u);
  EXPECT_GE(ids.size(), 2u);
  set_num_threads(1);
  const auto me = std::this_thread::get_id();
  parallel_for(100, 1, [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), me); });
}

TEST_F(ParallelForThread, SmallWorkStaysOnTheCaller) {
  set_num_threads(4);
  const auto me = std::this_thread::get_id();
  parallel_for(100, 100, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(std::this_thread::get_id(), me);
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 100);
  });
}

TEST_F(ParallelForThread, NestedCallsRunWhereTheyAre) {
  set_num_threads(4);
  std::atomic<int64_t> sum{0};
  std::atomic<int> elsewhere{0};
  parallel_for(8, 1, [&](int64_t begin, int64_t end) {
    const auto me = std::this_thread::get_id();
    parallel_for(10 * (end - begin), 1, [&](int64_t b, int64_t e) {
      if (std::this_thread::get_id() != me) ++elsewhere;
      sum += e - b;
    });
  });
  EXPECT_EQ(sum, 80);
  EXPECT_EQ(elsewhere, 0);
}

TEST_F(ParallelForThread, AnExceptionComesBack) {
  set_num_threads(4);
  for (int round = 0; round < 20; ++round) {
    try {
      parallel_for(64, 1, [](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          if (i == 40) throw ValueError("forty");
        }
      });
      FAIL();
    } catch (const ValueError& e) {
      EXPECT_STREQ(e.what(), "forty");
    }
  }
  std::atomic<int64_t> sum{0};
  parallel_for(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 64) << "the threads are there for the next call";
}

TEST_F(ParallelForThread, FromSeveralThreadsAtOnce) {
  set_num_threads(3);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<int64_t> sum{0};
        parallel_for(100, 5, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) sum += i;
        });
        if (sum != 4950) ++wrong;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(ParallelForThread, BodiesMayAllocate) {
  set_num_threads(4);
  std::vector<Array> made(64);
  for (int round = 0; round < 50; ++round) {
    parallel_for(64, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        made[static_cast<size_t>(i)] = Array::full(kInt64, {i + 1}, static_cast<double>(i));
      }
    });
  }
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(made[static_cast<size_t>(i)].at({i}), i);
}

TEST(Parallel, ThreadCountMustBePositive) {
  const int before = num_threads();
  EXPECT_GE(before, 1);
  EXPECT_THROW(set_num_threads(0), ValueError);
  EXPECT_THROW(set_num_threads(-3), ValueError);
  EXPECT_EQ(num_threads(), before);
}

// Forks with three threads at work a moment ago; 0 where the child's work and its end went well.
int status_of_forked_child() {
  set_num_threads(3);
  // All three are up before the fork: a thread that is just starting may hold a lock of the
  // sanitizers' allocator, which nobody would ever release in the child.
  std::atomic<int> begun = 0;
  parallel_for(3, 1, [&](int64_t, int64_t) {
    for (++begun; begun < 3;) std::this_thread::yield();
  });
  const pid_t child = fork();
  if (child < 0) return -1;
  if (child == 0) {
    alarm(20);
    std::atomic<int64_t> total = 0;
    parallel_for(1000, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
    std::exit(total == 1000 ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child ? status : -1;
}

// A child has none of its parent's threads, neither to work nor to wait for at its end. In a
// process of its own, where no other test's threads are.
TEST(ParallelDeathTest, AChildProcessWorksAlone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(_exit(status_of_forked_child() == 0 ? 0 : 1), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ebb
