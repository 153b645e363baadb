// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <vector>

#include "ebb/core/array.h"

namespace ebb {

/// Where in the user's program an op was called. Public functions take it as a last argument with
/// a default, so that anomaly mode and the printed tape can name the line.
using Where = std::source_location;

struct OpDef;
class Tensor;

namespace detail {

struct Node;
struct Leaf;

/// One output of a node, counted. Pointer and output number share a word, which keeps a tensor at
/// 16 bytes: user addresses of the 64-bit machines we run on have 48 bits.
class Edge {
 public:
  Edge() = default;
  Edge(Node* node, uint16_t output) : bits_(pack(node, output)) {
    if (node != nullptr) retain_node();
  }
  Edge(const Edge& o) : bits_(o.bits_) {
    if (bits_ != 0) retain_node();
  }
  Edge(Edge&& o) noexcept : bits_(std::exchange(o.bits_, 0)) {}
  Edge& operator=(const Edge& o) {
    Edge copy(o);
    std::swap(bits_, copy.bits_);
    return *this;
  }
  Edge& operator=(Edge&& o) noexcept {
    std::swap(bits_, o.bits_);
    return *this;
  }
  ~Edge() {
    if (bits_ != 0) release_node();
  }

  Node* node() const { return reinterpret_cast<Node*>(bits_ & kPointer); }
  uint16_t output() const { return static_cast<uint16_t>(bits_ >> 48); }
  explicit operator bool() const { return bits_ != 0; }
  bool operator==(const Edge&) const = default;

  /// Takes over the caller's reference to the node.
  static Edge adopt(Node* node, uint16_t output) { return Edge(pack(node, output)); }
  /// The same edge, whose node the caller has counted once more.
  static Edge adopt(const Edge& o) { return Edge(o.bits_); }
  /// Hands the reference to the caller.
  Node* release() { return reinterpret_cast<Node*>(std::exchange(bits_, 0) & kPointer); }

 private:
  explicit Edge(uint64_t bits) : bits_(bits) {}
  static constexpr uint64_t kPointer = (uint64_t{1} << 48) - 1;
  static uint64_t pack(Node* node, uint16_t output) {
    return reinterpret_cast<uint64_t>(node) | (static_cast<uint64_t>(output) << 48);
  }
  inline void retain_node();
  inline void release_node();

  uint64_t bits_ = 0;
};

/// What few nodes have.
struct NodeExtras {
  /// Called with the gradient of an output when it is complete; what they return replaces it,
  /// unless undefined.
  struct Hook {
    uint16_t output;
    uint64_t id;
    std::function<Tensor(const Tensor&)> call;
  };
  std::vector<Hook> hooks;
};

/// An op that was recorded, in one pool slot: this header, then the edges to its inputs, the saved
/// arrays, their versions, and the op's attributes. A node saves arrays, never tensors, so that no
/// cycle of references can form. A leaf is a node too (leaf.h).
struct Node : Block {
  enum Flag : uint8_t {
    kLeaf = 1,     // a Leaf
    kLazy = 2,     // a Leaf with updates that are not applied yet
    kPlayed = 4,   // its saved arrays and edges are gone
    kAligned = 8,  // the inputs of an elementwise op had the type, shape and order of its output
  };

  const OpDef* def;
  uint64_t seq;  // Lamport clock at the recording: above that of every input
  Where where;
  NodeExtras* extras;
  uint32_t slot;  // of the pass in flight; see NOTE [Finding a node's slot] in pass.h
  uint16_t n_inputs;
  uint16_t n_saved;

  // Another thread may clear kLazy under the leaf's mutex: who no longer sees it sees the values
  // too.
  uint8_t flags() const { return __atomic_load_n(&tag0, __ATOMIC_ACQUIRE); }
  void set_flag(Flag f) { __atomic_fetch_or(&tag0, f, __ATOMIC_RELEASE); }
  void clear_flag(Flag f) { __atomic_fetch_and(&tag0, static_cast<uint8_t>(~f), __ATOMIC_RELEASE); }
  bool is_leaf() const { return (flags() & kLeaf) != 0; }
  int n_outputs() const { return tag3; }

  Edge* edges() { return reinterpret_cast<Edge*>(this + 1); }
  const Edge* edges() const { return reinterpret_cast<const Edge*>(this + 1); }
  Array* saved() { return reinterpret_cast<Array*>(edges() + n_inputs); }
  const Array* saved() const { return reinterpret_cast<const Array*>(edges() + n_inputs); }
  uint32_t* versions() { return reinterpret_cast<uint32_t*>(saved() + n_saved); }
  const uint32_t* versions() const { return reinterpret_cast<const uint32_t*>(saved() + n_saved); }
  /// Saved arrays are those of the inputs, if the op saves any, then those of the outputs.
  void* attrs() { return const_cast<void*>(std::as_const(*this).attrs()); }
  const void* attrs() const {
    const auto end = reinterpret_cast<uintptr_t>(versions() + n_saved);
    return reinterpret_cast<const void*>((end + 15) & ~uintptr_t{15});
  }
};
static_assert(sizeof(Node) == 72);
static_assert(sizeof(Array) == 8 && sizeof(Edge) == 8);

void release_last(Node* node);
[[noreturn]] void throw_undefined(const char* what);

inline void Edge::retain_node() { detail::retain(node()); }
inline void Edge::release_node() {
  Node* n = node();
  if (detail::release(n)) release_last(n);
}

/// The state of recording on one thread.
struct ThreadTape {
  bool grad_enabled = true;
  bool anomaly = false;
  bool placed = false;   // what is recorded now is placed at `where`, not where it was called
  bool in_rule = false;  // a backward rule runs, which anomaly mode judges by what it gives
  bool gather = true;    // playbacks compute products with the same weight together
  int depth = 0;         // of passes in flight
  Where where;

  /// The first three are as they usually are.
  bool usual() const {
    uint32_t word;
    std::memcpy(&word, this, sizeof(word));
    return (word & 0xFFFFFF) == 1;
  }
};
extern constinit thread_local ThreadTape tls_tape;

/// While it lives, what is recorded is placed at `where`: at the line that called a layer, not at
/// the layer's own. The outermost counts.
class PlaceScope {
 public:
  explicit PlaceScope(Where where) : before_(tls_tape.placed) {
    if (before_) return;
    tls_tape.placed = true;
    tls_tape.where = where;
  }
  ~PlaceScope() { tls_tape.placed = before_; }
  PlaceScope(const PlaceScope&) = delete;
  PlaceScope& operator=(const PlaceScope&) = delete;

 private:
  const bool before_;
};

/// While it lives, a playback runs the user's code (a hook, a checkpointed function), which is
/// watched and placed as outside.
class UserCode {
 public:
  UserCode()
      : in_rule_(std::exchange(tls_tape.in_rule, false)),
        placed_(std::exchange(tls_tape.placed, false)) {}
  ~UserCode() {
    tls_tape.in_rule = in_rule_;
    tls_tape.placed = placed_;
  }
  UserCode(const UserCode&) = delete;
  UserCode& operator=(const UserCode&) = delete;

 private:
  const bool in_rule_;
  const bool placed_;
};

/// This thread's Lamport clock: no node of its heap, whichever thread made it, is above.
inline uint64_t lamport_clock() { return tls_heap != nullptr ? tls_heap->clock : 0; }

}  // namespace detail
}  // namespace ebb
