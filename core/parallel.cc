// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/parallel.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ebb/core/credit.h"
#include "ebb/core/error.h"

namespace ebb {
namespace {

// One parallel_for in flight. Workers take ranges until none is left.
struct Job {
  absl::FunctionRef<void(int64_t, int64_t)> body;
  int64_t n;
  int64_t chunk;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};  // written by whoever sets `failed`
  int workers = 0;             // inside the job; guarded by the pool's mutex

  void run() {
    for (;;) {
      const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= n) return;
      try {
        body(begin, std::min(begin + chunk, n));
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
        next.store(n, std::memory_order_relaxed);
      }
    }
  }
};

thread_local bool inside = false;

class Pool {
 public:
  // Whether this is a child of the process that the threads are of: it has none of them.
  bool forked() const { return getpid() != process_; }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  void run(Job* job, int helpers) {
    if (forked()) {
      helpers = 0;
    } else {
      const std::lock_guard lock(mutex_);
      if (job_ != nullptr) {  // another thread has the pool: do without it
        helpers = 0;
      } else {
        helpers = std::min(helpers, start(helpers));
        if (helpers > 0) {
          job_ = job;
          wanted_ = helpers;
        }
      }
    }
    if (helpers > 0) work_.notify_all();
    inside = true;
    job->run();
    inside = false;
    if (helpers == 0) return;
    std::unique_lock lock(mutex_);
    job_ = nullptr;
    wanted_ = 0;
    done_.wait(lock, [&] { return job->workers == 0; });
  }

 private:
  // Threads there are after as many as are missing were made, or could be.
  int start(int wanted) {
    try {
      while (static_cast<int>(threads_.size()) < wanted) {
        threads_.emplace_back([this] { work(); });
      }
    } catch (const std::system_error&) {
    }
    return static_cast<int>(threads_.size());
  }

  void work() {
    inside = true;
    for (;;) {
      Job* job;
      {
        std::unique_lock lock(mutex_);
        work_.wait(lock, [&] { return stop_ || wanted_ > 0; });
        if (stop_) return;
        job = job_;
        --wanted_;
        ++job->workers;
      }
      job->run();
      detail::settle_credits();
      const std::lock_guard lock(mutex_);
      if (--job->workers == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  int wanted_ = 0;  // workers that may still join the job
  bool stop_ = false;
  const pid_t process_ = getpid();
};

// A child process leaves the pool alone at its end, too: what waits for threads would wait for
// ever.
struct PoolOwner {
  Pool* const pool = new Pool;
  ~PoolOwner() {
    if (!pool->forked()) delete pool;
  }
};

Pool& pool() {
  static const PoolOwner owner;
  return *owner.pool;
}

int default_threads() {
  int n = 0;
  const char* env = std::getenv("EBB_NUM_THREADS");
  if (env != nullptr && absl::SimpleAtoi(env, &n) && n >= 1) return n;
  // Of the machine's cores, those that the process may run on.
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int>& thread_count() {
  static std::atomic<int> n{default_threads()};
  return n;
}

}  // namespace

void set_num_threads(int n) {
  if (n < 1) throw ValueError(absl::StrCat("set_num_threads: ", n, " is below 1"));
  thread_count().store(n);
}

int num_threads() { return thread_count().load(); }

void parallel_for(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t pieces = (n + grain - 1) / grain;
  const int threads =
      inside || pieces == 1 ? 1 : static_cast<int>(std::min<int64_t>(pieces, num_threads()));
  if (threads == 1) {
    body(0, n);
    return;
  }
  // A few ranges for each thread, so that one that is held up does not hold up the rest.
  const int64_t chunk = std::max(grain, (n + threads * 4 - 1) / (threads * 4));
  Job job{body, n, chunk};
  pool().run(&job, threads - 1);
  if (job.failed) std::rethrow_exception(job.error);
}

}  // namespace ebb
