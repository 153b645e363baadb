// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace ebb::kernels {

/// A family's kernels are compiled once for each instruction set; a `Dispatch` holds the table of
/// the set that this machine runs best. It is chosen at the first use, after which a call is a
/// load, a branch that is never taken, and one indirect call. Needs no static constructor.
class DispatchBase {
 public:
  DispatchBase(const DispatchBase&) = delete;
  DispatchBase& operator=(const DispatchBase&) = delete;

 protected:
  constexpr DispatchBase() = default;
  ~DispatchBase() = default;

  // Relaxed order will do: the tables are constants, there before the program starts.
  mutable std::atomic<const void*> table_{nullptr};

  void remember(const void* table) const {
    table_.store(table, std::memory_order_relaxed);
    if (known_.exchange(true)) return;
    next_ = head_.load();
    while (!head_.compare_exchange_weak(next_, this)) {
    }
  }

 private:
  friend void reset_dispatch();

  mutable std::atomic<bool> known_{false};
  mutable const DispatchBase* next_ = nullptr;
  inline static constinit std::atomic<const DispatchBase*> head_{nullptr};
};

/// `Table` is a struct of function pointers.
template <class Table>
class Dispatch final : public DispatchBase {
 public:
  constexpr explicit Dispatch(const Table* (*choose)()) : choose_(choose) {}

  const Table& operator*() const {
    const void* table = table_.load(std::memory_order_relaxed);
    if (table == nullptr) [[unlikely]] {
      table = choose_();
      remember(table);
    }
    return *static_cast<const Table*>(table);
  }
  const Table* operator->() const { return &**this; }

 private:
  const Table* (*choose_)();
};

/// Makes every family choose again at its next use. For tests that go through the instruction sets;
/// no other thread may be running kernels.
inline void reset_dispatch() {
  for (const DispatchBase* d = DispatchBase::head_.load(); d != nullptr; d = d->next_) {
    d->table_.store(nullptr, std::memory_order_relaxed);
  }
}

}  // namespace ebb::kernels
