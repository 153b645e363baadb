// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

// Memory: per-thread pools of size classes, and reference counts that cost no atomic instruction on
// the thread that made the object.
//
// NOTE [Biased reference counts] after Choi, Shull, Torrellas 2018, "Biased Reference Counting".
// Every block belongs to the heap (pool) it came from, and the thread that runs this heap counts
// its own references in `local` with plain instructions. All other threads count in `shared`
// atomically; that count may go negative, for a reference counted by the owner may be dropped by
// somebody else. The number of references is local + shared.
//  - local reaches 0: the owner *merges*, that is marks `shared` as holding the whole count, and
//    from then on it too counts there. Nobody else holds a reference if shared is 0 as well.
//  - shared goes negative before that: the block is queued at its heap once; the owner drains the
//    queue when it needs memory, adds local to shared, and frees what has come to 0.
// A thread that ends leaves its heap to the next thread that needs one; so a heap is never
// destroyed, and a block may outlive its thread, and even the end of main.
namespace ebb {

/// Bytes in use and allocations made, over all threads.
struct MemoryStats {
  int64_t live_bytes;        ///< in arrays and tape nodes that are alive
  int64_t peak_bytes;        ///< the largest live_bytes since the start or reset_peak_memory();
                             ///< with several threads the sum of each thread's own largest
  int64_t reserved_bytes;    ///< taken from the system: live, plus what the pools keep for reuse
  int64_t heap_allocations;  ///< times that memory was asked of the system; constant in a warm loop
};

MemoryStats memory_stats();
void reset_peak_memory();

/// Allocations that would take live_bytes over `bytes` throw MemoryError from then on; what exists
/// stays as it is. 0 means no limit. While a limit is set, allocation is slower (it takes a lock).
void set_memory_limit(int64_t bytes);

/// Gives blocks that the calling thread's pool, and pools without a thread, keep for reuse back to
/// the system. Small blocks (up to 4 KB with their header) stay.
void release_cached_memory();

namespace detail {

struct ThreadHeap;

enum class BlockKind : uint8_t { kFree, kArray, kNode };

/// What every pooled object starts with.
struct Block {
  ThreadHeap* heap;             // constant for the life of the block
  uint32_t local;               // see NOTE [Biased reference counts]
  std::atomic<int32_t> shared;  // 4 * count + 2 * queued + merged
  Block* next;                  // in a free list or a heap's queue
  uint16_t size_class;
  BlockKind kind;
  // The rest of the word belongs to what the block holds, so that no space is lost to padding.
  uint8_t tag0;
  uint8_t tag1;
  uint8_t tag2;
  uint16_t tag3;
};
static_assert(sizeof(Block) == 32);

inline constexpr int kGranule = 64;  // of sizes and alignment: one cache line
inline constexpr int kFineClasses = 17;
inline constexpr int kClasses = kFineClasses + 4 * 38;

/// The pool of one thread.
struct ThreadHeap {
  Block* free[kClasses];
  std::atomic<int64_t> live;       // bytes; written by the owner alone
  std::atomic<int64_t> watermark;  // live beyond this takes the slow path: the peak, or a limit
  std::atomic<Block*> queue;       // pushed to by other threads
  std::atomic<bool> abandoned;
  std::byte* chunk;  // what is left to carve small blocks from
  size_t chunk_left;
  ThreadHeap* next_heap;       // all heaps, for the statistics
  ThreadHeap* next_abandoned;  // those without a thread
  uint64_t clock;  // the tape's Lamport clock: stays with the heap, so that no node in it is ahead
};

extern constinit thread_local ThreadHeap* tls_heap;

Block* allocate_slow(size_t bytes);
void retain_shared(Block* b);
bool release_shared(Block* b);
bool release_last_local(Block* b);
void deallocate_elsewhere(Block* b);

/// 64-byte classes up to 1 KB, then four to each doubling.
constexpr int size_class_of(size_t bytes) {
  if (bytes <= 1024) return static_cast<int>((bytes + kGranule - 1) / kGranule);
  const int e = 63 - __builtin_clzll(bytes - 1);
  return kFineClasses + (e - 10) * 4 + static_cast<int>(((bytes - 1) >> (e - 2)) & 3);
}
constexpr size_t class_bytes(int size_class) {
  if (size_class < kFineClasses) return static_cast<size_t>(size_class) * kGranule;
  const int k = size_class - kFineClasses;
  return static_cast<size_t>(5 + k % 4) << (k / 4 + 8);
}

// class_bytes() as a table.
inline constexpr auto kClassBytes = [] {
  std::array<int64_t, kClasses> bytes{};
  for (size_t c = 0; c < bytes.size(); ++c) {
    bytes[c] = static_cast<int64_t>(class_bytes(static_cast<int>(c)));
  }
  return bytes;
}();

// What follows comes in two forms: `_on` takes the heap of the calling thread, which is worth
// looking up once where much is allocated or counted.

/// A block of a class for the calling thread, whose heap is `h`, or null.
[[gnu::always_inline]] inline Block* allocate_class(ThreadHeap* h, size_t c) {
  if (h != nullptr) [[likely]] {
    Block* b = h->free[c];
    const int64_t live = h->live.load(std::memory_order_relaxed) + kClassBytes[c];
    if (b != nullptr && live <= h->watermark.load(std::memory_order_relaxed)) [[likely]] {
      h->live.store(live, std::memory_order_relaxed);
      h->free[c] = b->next;
      b->local = 1;
      b->shared.store(0, std::memory_order_relaxed);
      return b;
    }
  }
  return allocate_slow(static_cast<size_t>(kClassBytes[c]));
}

/// A block of at least `bytes`, aligned to 64, with one reference held by the caller. Throws
/// MemoryError.
[[gnu::always_inline]] inline Block* allocate_on(ThreadHeap* h, size_t bytes) {
#ifndef EBB_NO_POOL
  if (bytes <= 1024) [[likely]]
    return allocate_class(h, (bytes + kGranule - 1) / kGranule);
#else
  (void)h;
#endif
  return allocate_slow(bytes);
}
inline Block* allocate(size_t bytes) { return allocate_on(tls_heap, bytes); }

/// Returns the memory of a block whose contents are destroyed.
[[gnu::always_inline]] inline void deallocate_on(ThreadHeap* h, Block* b) {
#ifndef EBB_NO_POOL
  if (b->heap == h) [[likely]] {
    const size_t c = b->size_class;
    b->kind = BlockKind::kFree;
    b->next = h->free[c];
    h->free[c] = b;
    h->live.store(h->live.load(std::memory_order_relaxed) - kClassBytes[c],
                  std::memory_order_relaxed);
    return;
  }
#else
  (void)h;
#endif
  deallocate_elsewhere(b);
}
inline void deallocate(Block* b) { deallocate_on(tls_heap, b); }

/// Whether the owner of `h` counts its references in `local`.
[[gnu::always_inline]] inline bool counts_on(const ThreadHeap* h, const Block* b) {
  // Said of both, so that neither is compiled as a jump away.
  return __builtin_expect(b->heap == h, 1) && __builtin_expect(b->local != 0, 1);
}

[[gnu::always_inline]] inline void retain_on(const ThreadHeap* h, Block* b) {
  if (counts_on(h, b)) [[likely]] {
    ++b->local;
  } else {
    retain_shared(b);
  }
}
inline void retain(Block* b) { retain_on(tls_heap, b); }

/// Drops a reference; true where it was the last and the caller has to destroy the contents.
[[gnu::always_inline]] inline bool release_on(const ThreadHeap* h, Block* b) {
  if (counts_on(h, b)) [[likely]] {
    if (--b->local != 0) return false;
    if (b->shared.load(std::memory_order_acquire) == 0) [[likely]]
      return true;
    return release_last_local(b);
  }
  return release_shared(b);
}
inline bool release(Block* b) { return release_on(tls_heap, b); }

/// True where the caller's is the only reference.
[[gnu::always_inline]] inline bool is_unique_on(const ThreadHeap* h, const Block* b) {
  // Both counts in one load: local is 1, shared is 0.
  using Word [[gnu::may_alias]] = uint64_t;
  static_assert(offsetof(Block, shared) == offsetof(Block, local) + 4 &&
                offsetof(Block, local) % 8 == 0 && std::endian::native == std::endian::little);
  return b->heap == h &&
         __atomic_load_n(reinterpret_cast<const Word*>(&b->local), __ATOMIC_ACQUIRE) == 1;
}
inline bool is_unique(const Block* b) { return is_unique_on(tls_heap, b); }

/// Destroys what a block holds and returns its memory, whatever its kind.
void destroy(Block* b);

/// Standard allocator that draws from the pools, for the vectors of the hot path.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(size_t n) {
    static_assert(alignof(T) <= sizeof(Block));
    Block* b = detail::allocate(sizeof(Block) + n * sizeof(T));
    return reinterpret_cast<T*>(b + 1);
  }
  void deallocate(T* p, size_t) { detail::deallocate(reinterpret_cast<Block*>(p) - 1); }
  bool operator==(const PoolAllocator&) const = default;
};

/// For BlockKind::kNode; defined with the tape, whose nodes only it can take apart.
void destroy_node(Block* b);

}  // namespace detail
}  // namespace ebb
