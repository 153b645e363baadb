// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/memory.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/array.h"
#include "ebb/core/credit.h"
#include "ebb/core/error.h"

namespace ebb {
namespace detail {

constinit thread_local ThreadHeap* tls_heap = nullptr;

namespace {

constexpr int32_t kMerged = 1;
constexpr int32_t kQueued = 2;
constexpr int32_t kOne = 4;
constexpr size_t kSmallBlock = 4096;
constexpr size_t kChunk = 64 * 1024;

// Guards the two lists of heaps.
constinit std::mutex heaps_mutex;
ThreadHeap* all_heaps = nullptr;
ThreadHeap* abandoned_heaps = nullptr;
std::atomic<int64_t> memory_limit{0};
std::atomic<int64_t> reserved{0};
std::atomic<int64_t> system_allocations{0};

int64_t first_watermark() { return memory_limit.load(std::memory_order_relaxed) != 0 ? -1 : 0; }

ThreadHeap* new_heap() {
  auto* h = new ThreadHeap();  // value-initialised: all zero
  h->watermark.store(first_watermark(), std::memory_order_relaxed);
  h->next_heap = all_heaps;
  all_heaps = h;
  return h;
}

ThreadHeap* take_heap() {
  const std::lock_guard lock(heaps_mutex);
  ThreadHeap* h = abandoned_heaps;
  if (h == nullptr) return new_heap();
  abandoned_heaps = h->next_abandoned;
  h->abandoned.store(false, std::memory_order_relaxed);
  return h;
}

void abandon_heap(ThreadHeap* h) {
  const std::lock_guard lock(heaps_mutex);
  h->next_abandoned = abandoned_heaps;
  abandoned_heaps = h;
  h->abandoned.store(true, std::memory_order_release);
}

void drain(ThreadHeap* h);
bool retake_and_drain(ThreadHeap* h);

// A block that was pushed while `abandoned` was being set is drained by one of the two: the fences
// here and in push() leave no order in which neither sees the other.
void leave(ThreadHeap* h) {
  do {
    abandon_heap(h);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (h->queue.load(std::memory_order_relaxed) == nullptr) return;
  } while (retake_and_drain(h));
}

// Leaves the thread's heap to the next thread. Objects that die later on this thread (statics,
// other thread_locals) find tls_heap null and go the way of a foreign thread.
struct HeapGuard {
  bool armed = false;
  ~HeapGuard() {
    ThreadHeap* h = tls_heap;
    if (h == nullptr) return;
    settle_credits();
    drain(h);
    tls_heap = nullptr;
    leave(h);
  }
};
thread_local HeapGuard heap_guard;

ThreadHeap* attach() {
  tls_heap = take_heap();
  heap_guard.armed = true;  // odr-use: constructs the guard, whose destructor leaves the heap
  return tls_heap;
}

// Runs the queue of a heap without a thread, as its owner for the moment; false where it has one
// again, whose it is to drain.
bool retake_and_drain(ThreadHeap* h) {
  {
    const std::lock_guard lock(heaps_mutex);
    ThreadHeap** at = &abandoned_heaps;
    while (*at != nullptr && *at != h) at = &(*at)->next_abandoned;
    if (*at == nullptr) return false;
    *at = h->next_abandoned;
    h->abandoned.store(false, std::memory_order_relaxed);
  }
  ThreadHeap* mine = tls_heap;
  tls_heap = h;
  drain(h);
  tls_heap = mine;
  return true;
}

void push(ThreadHeap* h, Block* b) {
  Block* head = h->queue.load(std::memory_order_relaxed);
  do {
    b->next = head;
  } while (!h->queue.compare_exchange_weak(head, b, std::memory_order_release,
                                           std::memory_order_relaxed));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (h->abandoned.load(std::memory_order_acquire) && retake_and_drain(h)) leave(h);
}

// Adds the owner's count to the shared one. True where the block is dead.
bool merge_queued(Block* b) {
  // Cleared first: once merged, another thread may drop the last reference and free the block.
  const auto local = static_cast<int32_t>(std::exchange(b->local, 0));
  int32_t seen = b->shared.load(std::memory_order_acquire);
  int32_t want;
  do {
    want = (seen & ~kQueued) | kMerged;
    if ((seen & kMerged) == 0) want += local * kOne;
  } while (!b->shared.compare_exchange_weak(seen, want, std::memory_order_acq_rel,
                                            std::memory_order_acquire));
  return want == kMerged;
}

void drain(ThreadHeap* h) {
  // Destroying a block may queue others at this very heap, hence the outer loop.
  while (Block* b = h->queue.exchange(nullptr, std::memory_order_acquire)) {
    while (b != nullptr) {
      Block* next = b->next;
      if (b->kind == BlockKind::kFree) {
        deallocate(b);
      } else if (merge_queued(b)) {
        destroy(b);
      }
      b = next;
    }
  }
}

int64_t live_of_all() {
  int64_t live = 0;
  for (ThreadHeap* h = all_heaps; h != nullptr; h = h->next_heap) {
    live += h->live.load(std::memory_order_relaxed);
  }
  return live;
}

bool fits(ThreadHeap* h, int64_t bytes, int64_t limit, int64_t* total) {
  const std::lock_guard lock(heaps_mutex);
  *total = live_of_all();
  if (*total + bytes > limit) return false;
  h->live.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

// Counts `bytes` as live, or throws where a limit forbids it.
void account(ThreadHeap* h, int64_t bytes) {
  const int64_t live = h->live.load(std::memory_order_relaxed) + bytes;
  if (live > h->watermark.load(std::memory_order_relaxed)) {
    const int64_t limit = memory_limit.load(std::memory_order_relaxed);
    if (limit != 0) {
      int64_t total;
      if (fits(h, bytes, limit, &total)) return;
      settle_credits();  // others may have freed some of ours, or wait for us
      if (fits(h, bytes, limit, &total)) return;
      throw MemoryError(absl::StrCat("memory: ", bytes, " bytes more than the ", total,
                                     " in use would pass the limit of ", limit));
    }
    h->watermark.store(live, std::memory_order_relaxed);
  }
  h->live.fetch_add(bytes, std::memory_order_relaxed);
}

void* system_allocate(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, kGranule, bytes) != 0) {
    release_cached_memory();
    if (posix_memalign(&p, kGranule, bytes) != 0) {
      throw MemoryError(absl::StrCat("memory: the system has no ", bytes, " bytes left"));
    }
  }
  system_allocations.fetch_add(1, std::memory_order_relaxed);
  return p;
}

Block* new_block(ThreadHeap* h, int size_class, size_t bytes) {
  std::byte* p;
#ifndef EBB_NO_POOL
  bytes = class_bytes(size_class);
  if (bytes <= kSmallBlock) {
    if (h->chunk_left < bytes) {
      h->chunk = static_cast<std::byte*>(system_allocate(kChunk));
      reserved.fetch_add(kChunk, std::memory_order_relaxed);
      h->chunk_left = kChunk;
    }
    p = h->chunk;
    h->chunk += bytes;
    h->chunk_left -= bytes;
  } else {
    p = static_cast<std::byte*>(system_allocate(bytes));
    reserved.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  }
#else
  p = static_cast<std::byte*>(system_allocate(bytes));
  reserved.fetch_add(static_cast<int64_t>(class_bytes(size_class)), std::memory_order_relaxed);
#endif
  auto* b = new (p) Block;
  b->heap = h;
  b->size_class = static_cast<uint16_t>(size_class);
  return b;
}

void start(Block* b) {
  b->local = 1;
  b->shared.store(0, std::memory_order_relaxed);
}

}  // namespace

Block* allocate_slow(size_t bytes) {
  if (bytes > (size_t{1} << 46)) {
    throw MemoryError(absl::StrCat("memory: ", bytes, " bytes are more than any machine has"));
  }
  ThreadHeap* h = tls_heap != nullptr ? tls_heap : attach();
  const int c = size_class_of(bytes);
  if (h->free[c] == nullptr && h->queue.load(std::memory_order_relaxed) != nullptr) drain(h);
  account(h, static_cast<int64_t>(class_bytes(c)));
  Block* b = h->free[c];
  if (b != nullptr) {
    h->free[c] = b->next;
  } else {
    try {
      b = new_block(h, c, bytes);
    } catch (...) {
      h->live.fetch_sub(static_cast<int64_t>(class_bytes(c)), std::memory_order_relaxed);
      throw;
    }
  }
  start(b);
  return b;
}

void deallocate_elsewhere(Block* b) {
#ifdef EBB_NO_POOL
  const auto bytes = static_cast<int64_t>(class_bytes(b->size_class));
  b->heap->live.fetch_sub(bytes, std::memory_order_relaxed);
  reserved.fetch_sub(bytes, std::memory_order_relaxed);
  std::free(b);
#else
  b->kind = BlockKind::kFree;
  push(b->heap, b);
#endif
}

namespace {

// NOTE [Credit] A thread that often counts references to another's block, as to a shared parameter
// in every op, is granted kGrant of them at once and hands them out without an atomic instruction.
// When all have come back it gives them back; and what it still has, because references went to
// other threads, when a playback, a piece of parallel_for or the thread ends.
// The owner's plain count lies in the line that all others read. So such a block is queued at its
// heap, for the owner to merge (see memory.h) and to go by credit too.
struct Credit {
  Block* block;  // compared only, where nothing is left: it may be dead
  int32_t left;
  int32_t granted;  // since nothing was
  int32_t uses;
};
constexpr int32_t kOften = 16;
constexpr int32_t kGrant = 1024;
constinit thread_local Credit credits[16] = {};
constinit thread_local bool has_credits = false;  // perhaps

bool release_many(Block* b, int32_t n);

void give_back(Credit& c) {
  const Credit old = std::exchange(c, Credit{});
  if (old.block != nullptr && old.left != 0 && release_many(old.block, old.left))
    destroy(old.block);
}

// Asks the owner to count by credit too: its own count lies in the line that all others read.
void share_equally(Block* b) {
  int32_t seen = b->shared.load(std::memory_order_relaxed);
  do {
    if ((seen & (kMerged | kQueued)) != 0) return;
  } while (!b->shared.compare_exchange_weak(seen, seen | kQueued, std::memory_order_acq_rel,
                                            std::memory_order_relaxed));
  push(b->heap, b);
}

inline Credit& credit_of(const Block* b) {
  return credits[(reinterpret_cast<uintptr_t>(b) >> 6) % 16];
}

}  // namespace

void settle_credits() {
  if (std::exchange(has_credits, false)) {
    for (Credit& c : credits) give_back(c);
  }
  ThreadHeap* h = tls_heap;
  if (h != nullptr && h->queue.load(std::memory_order_relaxed) != nullptr) drain(h);
}

void retain_shared(Block* b) {
  Credit& c = credit_of(b);
  if (c.block != b && tls_heap != nullptr) {
    give_back(c);
    has_credits = true;
    if (c.block == nullptr) c.block = b;  // or else what was destroyed has taken the place
  }
  if (c.block != b || (c.uses < kOften && ++c.uses < kOften)) {
    b->shared.fetch_add(kOne, std::memory_order_relaxed);
    return;
  }
  if (c.left == 0) {
    if (c.granted == 0) share_equally(b);
    b->shared.fetch_add(kOne * kGrant, std::memory_order_relaxed);
    c.left = kGrant;
    c.granted += kGrant;
  }
  --c.left;
}

bool release_shared(Block* b) {
  Credit& c = credit_of(b);
  if (c.block != b || c.granted == 0) return release_many(b, 1);
  if (++c.left != c.granted) return false;
  c.granted = 0;
  return release_many(b, std::exchange(c.left, 0));
}

namespace {
bool release_many(Block* b, int32_t n) {
  int32_t seen = b->shared.load(std::memory_order_relaxed);
  int32_t want;
  do {
    want = seen - kOne * n;
    if (want < 0 && (seen & (kMerged | kQueued)) == 0) want |= kQueued;
  } while (!b->shared.compare_exchange_weak(seen, want, std::memory_order_acq_rel,
                                            std::memory_order_relaxed));
  if ((seen & kQueued) == 0 && (want & kQueued) != 0) {
    push(b->heap, b);
    return false;
  }
  return want == kMerged;
}
}  // namespace

bool release_last_local(Block* b) {
  const int32_t seen = b->shared.fetch_or(kMerged, std::memory_order_acq_rel);
  // A queued block is freed by whoever drains the queue.
  return (seen & ~kMerged) == 0;
}

void destroy(Block* b) {
  if (b->kind == BlockKind::kArray) {
    destroy_array(static_cast<ArrayRep*>(b));
  } else {
    destroy_node(b);
  }
}

}  // namespace detail

MemoryStats memory_stats() {
  detail::settle_credits();
  const std::lock_guard lock(detail::heaps_mutex);
  MemoryStats s{};
  s.live_bytes = detail::live_of_all();
  for (auto* h = detail::all_heaps; h != nullptr; h = h->next_heap) {
    s.peak_bytes += std::max<int64_t>(h->watermark.load(std::memory_order_relaxed),
                                      h->live.load(std::memory_order_relaxed));
  }
  s.reserved_bytes = detail::reserved.load(std::memory_order_relaxed);
  s.heap_allocations = detail::system_allocations.load(std::memory_order_relaxed);
  return s;
}

void reset_peak_memory() {
  const std::lock_guard lock(detail::heaps_mutex);
  if (detail::memory_limit.load(std::memory_order_relaxed) != 0) return;
  for (auto* h = detail::all_heaps; h != nullptr; h = h->next_heap) {
    h->watermark.store(h->live.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

void set_memory_limit(int64_t bytes) {
  if (bytes < 0) throw ValueError(absl::StrCat("set_memory_limit: ", bytes, " is negative"));
  const std::lock_guard lock(detail::heaps_mutex);
  detail::memory_limit.store(bytes, std::memory_order_relaxed);
  for (auto* h = detail::all_heaps; h != nullptr; h = h->next_heap) {
    h->watermark.store(bytes != 0 ? -1 : h->live.load(std::memory_order_relaxed),
                       std::memory_order_relaxed);
  }
}

void release_cached_memory() {
  using namespace detail;
  const auto trim = [](ThreadHeap* h) {
    for (int c = size_class_of(kSmallBlock + 1); c < kClasses; ++c) {
      while (Block* b = h->free[c]) {
        h->free[c] = b->next;
        reserved.fetch_sub(static_cast<int64_t>(class_bytes(c)), std::memory_order_relaxed);
        std::free(b);
      }
    }
  };
  if (tls_heap != nullptr) {
    drain(tls_heap);
    trim(tls_heap);
  }
  const std::lock_guard lock(heaps_mutex);
  for (ThreadHeap* h = abandoned_heaps; h != nullptr; h = h->next_abandoned) trim(h);
}

}  // namespace ebb
