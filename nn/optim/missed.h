// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ebb/core/array.h"
#include "ebb/ops/kernels/optimizer.h"

// Steps that some rows of a parameter have missed because their gradient was zero, and how to do
// them all at once. Not for users.
namespace ebb::optim::detail {

template <class T>
using PoolVector = std::vector<T, ebb::detail::PoolAllocator<T>>;

inline constexpr int kMaxStates = 3;

/// Contiguous elements of a parameter, and what belongs to them.
struct Chunk {
  std::byte* value = nullptr;
  const std::byte* gradient = nullptr;
  std::byte* states[kMaxStates] = {};  // null where the rule has none

  template <class T>
  T* w() const {
    return reinterpret_cast<T*>(value);
  }
  template <class T>
  const T* g() const {
    return reinterpret_cast<const T*>(gradient);
  }
  template <class T>
  T* state(int i) const {
    return reinterpret_cast<T*>(states[i]);
  }
};

/// A record of consecutive steps of one parameter.
class Missed {
 public:
  virtual ~Missed() = default;
  virtual int64_t size() const = 0;
  virtual void clear() = 0;
  /// Does steps from, from + 1, ..., size() - 1 with gradient zero to n contiguous elements.
  virtual void replay(DType dtype, const Chunk& c, size_t n, int64_t from) = 0;
};

/// Products of consecutive maps, in a time that is logarithmic in their number: level j holds the
/// products of the aligned blocks of 2^j. A Map has `Map then(const Map& later) const`, and is the
/// identity by default.
template <class Map>
class Products {
 public:
  explicit Products(int64_t capacity) {
    for (int64_t n = capacity; n > 0; n /= 2) {
      levels_.emplace_back();
      levels_.back().reserve(static_cast<size_t>(n));
    }
  }

  int64_t size() const { return static_cast<int64_t>(levels_[0].size()); }
  void clear() {
    for (auto& level : levels_) level.clear();
  }
  void push(const Map& map) {
    levels_[0].push_back(map);
    for (size_t j = 0; j + 1 < levels_.size() && levels_[j].size() % 2 == 0; ++j) {
      const size_t n = levels_[j].size();
      levels_[j + 1].push_back(levels_[j][n - 2].then(levels_[j][n - 1]));
    }
  }
  /// Of all maps from `from` on.
  Map since(int64_t from) const {
    Map out;
    const auto end = static_cast<size_t>(size());
    for (auto at = static_cast<size_t>(from); at < end;) {
      size_t j = 0;
      while (j + 1 < levels_.size() && at % (size_t{2} << j) == 0 && at + (size_t{2} << j) <= end) {
        ++j;
      }
      out = out.then(levels_[j][at >> j]);
      at += size_t{1} << j;
    }
    return out;
  }
  const Map& operator[](int64_t i) const { return levels_[0][static_cast<size_t>(i)]; }

 private:
  PoolVector<PoolVector<Map>> levels_;
};

/// A step that is linear in the value w and one state b: (w, b) becomes
/// (m[0] w + m[1] b, m[2] w + m[3] b), and every other state is multiplied by `scale`.
struct LinearStep {
  double m[4] = {1, 0, 0, 1};
  double scale = 1;

  LinearStep then(const LinearStep& l) const {
    return {{l.m[0] * m[0] + l.m[1] * m[2], l.m[0] * m[1] + l.m[1] * m[3],
             l.m[2] * m[0] + l.m[3] * m[2], l.m[2] * m[1] + l.m[3] * m[3]},
            scale * l.scale};
  }
};

/// For rules without gradient that are linear: one 2x2 product for a whole row.
class LinearMissed final : public Missed {
 public:
  /// `partner` is the state b, or -1; `scaled` has bit i set for a state i that is multiplied.
  LinearMissed(int partner, unsigned scaled, int64_t capacity)
      : partner_(partner), scaled_(scaled), steps_(capacity) {}

  bool is_for(int partner, unsigned scaled) const {
    return partner == partner_ && scaled == scaled_;
  }
  void append(const LinearStep& step) { steps_.push(step); }

  int64_t size() const override { return steps_.size(); }
  void clear() override { steps_.clear(); }
  void replay(DType dtype, const Chunk& c, size_t n, int64_t from) override;

 private:
  const int partner_;
  const unsigned scaled_;
  Products<LinearStep> steps_;
};

/// What must stay the same for steps of Adam to be in one record.
struct AdamConstants {
  double b1;
  double b2;
  double eps;
  bool amsgrad;
  bool decays;
  bool operator==(const AdamConstants&) const = default;
};

/// NOTE [Missed steps of Adam]
/// Without gradient the moments shrink by b1 and b2 a step, and step j, the first being 0, moves an
/// element by  m A_j / (B_j s + eps)  with s = sqrt(v),  A_j = rate_j b1^(j+1)  and
/// B_j = b2^((j+1)/2) / sqrt(1 - b2^t);  for AMSGrad s = sqrt(v_max) and B_j has no power of b2.
/// All but s, m is the same for a row. Two things make the sum cheap:
///  - It ends early. With C_j = A_j / B_j the terms fall like q^j, q = b1 / sqrt(b2) (AMSGrad: b1).
///    B_j falls, so a term is at most C_j B_0 / (B_0 s + eps), and the sum at least
///    sum_j A_j / (B_0 s + eps): what is left after J terms is below the fraction
///    B_0 (sum of the C_j left) / (sum of the A_j done) of the sum, whatever the element.
///    kTolerance bounds that fraction.
///  - Where e_j = eps / B_j is small against s, as it is for nearly all elements,
///    A_j / (B_j s + eps) = C_j / s (1 - e_j/s + (e_j/s)^2 - ...), and sums over j of C_j e_j^k
///    serve the whole row. Used for s >= 128 e_j, where 8 terms give 2^-56 (float32: 4 and 2^-28).
/// Decoupled weight decay multiplies the value by the product of all factors, and A_j by that of
/// the factors of later steps.
class AdamMissed final : public Missed {
 public:
  AdamMissed(const AdamConstants& constants, int64_t capacity);

  const AdamConstants& constants() const { return constants_; }
  /// rate = lr / (1 - b1^t), scale = 1 / sqrt(1 - b2^t), decay = 1 - lr * weight_decay, which is in
  /// [1/2, 1].
  void append(double rate, double scale, double decay);

  int64_t size() const override { return static_cast<int64_t>(steps_.size()); }
  void clear() override;
  void replay(DType dtype, const Chunk& c, size_t n, int64_t from) override;

 private:
  struct Step {
    double rate;
    double scale;
    double inverse_scale;
  };
  struct Factor {
    double value = 1;
    Factor then(const Factor& later) const { return {value * later.value}; }
  };
  void sum_up(DType dtype, int64_t from);

  const AdamConstants constants_;
  PoolVector<Step> steps_;
  Products<Factor> decay_;  // empty where nothing decays
  double largest_rate_ = 0;

  // For rows that last moved before the same step, until another step is added.
  int64_t summed_from_ = -1;
  DType summed_dtype_ = kFloat32;
  PoolVector<double> a_;
  PoolVector<double> b_;
  kernels::AdamReplay sums_{};
};

}  // namespace ebb::optim::detail
