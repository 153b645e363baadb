// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

// Random numbers by counting: every number is a pure function of (seed, stream, kind, position), so
// a fill may be cut into chunks or shared between threads, as large ones are, and gives the same
// bits, and a saved state is three integers.
namespace ebb {

/// One block of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011): a keyed bijection of 128-bit counters.
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A stream of random numbers. Generators of different seeds, or of different names under one seed,
/// give unrelated streams.
///
/// The position counts *elements*: a draw of any kind moves it by one (`uniform_int` by one for
/// each candidate), and element p of one kind is unrelated to element p of another. A bulk fill
/// equals as many single draws, bit for bit. A stream repeats after 2^62 elements.
///
/// Not for cryptography. One object must not be used by two threads at once.
class Generator {
 public:
  /// What to store in order to go on exactly here.
  struct State {
    uint64_t key = 0;         // the seed
    uint64_t counter_hi = 0;  // the stream: a hash of its name
    uint64_t counter_lo = 0;  // elements drawn so far, below 2^62

    bool operator==(const State&) const = default;
  };

  explicit Generator(uint64_t seed, std::string_view stream = "");
  /// Goes on from a saved state. Throws ValueError where the position is 2^62 or more.
  explicit Generator(const State& state);

  const State& state() const { return state_; }
  /// Throws ValueError where the position is 2^62 or more.
  void set_state(const State& state);

  /// The stream of this name below this one, at its start. It depends on the seed and on both
  /// names, not on how much this generator has drawn: the same name gives the same stream again.
  Generator split(std::string_view name) const;

  /// Moves on by n elements in O(1): chunk [a, b) of a fill is a copy of the generator, skipped by
  /// a, filling b - a.
  void skip(uint64_t n);

  /// 32 or 64 random bits.
  uint32_t next32();
  uint64_t next64();

  /// Uniform in [0, 1), a multiple of 2^-53 or 2^-24.
  double uniform();
  float uniform_float();

  /// Standard normal by Box and Muller (1958): elements 2j and 2j+1 are the two ends of one pair.
  /// Not beyond 8.6 (float: 6.7) standard deviations.
  double normal();
  float normal_float();

  /// Uniform in [0, n) without bias (Lemire, "Fast random integer generation in an interval",
  /// 2019). Throws ValueError where n is 0.
  uint64_t uniform_int(uint64_t n);

  /// The numbers 0..n-1 in random order (Fisher and Yates). Throws ValueError where n < 0.
  std::vector<int64_t> permutation(int64_t n);

  /// Fills out[0..n) with uniform numbers in [lo, hi); with lo where lo == hi.
  /// Throws ValueError unless lo <= hi and hi - lo is finite.
  void fill_uniform(float* out, size_t n, float lo = 0, float hi = 1);
  void fill_uniform(double* out, size_t n, double lo = 0, double hi = 1);

  /// Fills out[0..n) with normal numbers. Throws ValueError unless both are finite and std >= 0.
  void fill_normal(float* out, size_t n, float mean = 0, float std = 1);
  void fill_normal(double* out, size_t n, double mean = 0, double std = 1);

  /// Fills out[0..n) with 1 with probability p (rounded to a multiple of 2^-32), else 0.
  /// Throws ValueError unless 0 <= p <= 1.
  void fill_bernoulli(uint8_t* out, size_t n, double p);

 private:
  uint64_t take(uint64_t n);

  State state_;
};

/// This thread's generator, from the process-wide seed (0 until `manual_seed`): stream "default" on
/// the process's first thread, "default/<k>" on the k-th other thread that asks. Those k depend on
/// which thread asks first; work that must repeat on several threads takes `split` by work item.
Generator& default_generator();

/// Sets the process-wide seed and restarts every thread's default generator: this thread's at once,
/// another's at its next call of `default_generator`. Safe to call from any thread.
void manual_seed(uint64_t seed);

}  // namespace ebb
