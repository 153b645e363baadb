// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/random.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"
#include "ebb/core/parallel.h"

namespace ebb {
namespace {

// The counter's low word is the block's number with the kind of the numbers in its top two bits, so
// that draws of different kinds never share a block whatever their order. Two kinds that shared
// words would be dependent: a normal that took its radius from a word already given out as a
// uniform number would be bounded by that number.
enum class Kind : uint64_t { kBits32 = 0, kBits64 = 1, kNormal32 = 2, kNormal64 = 3 };
constexpr int kPositionBits = 62;
constexpr uint64_t kPositionMask = (uint64_t{1} << kPositionBits) - 1;

constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

// Blocks computed at once: enough independent work to fill the multipliers, few enough for short
// fills and to stay in registers.
constexpr size_t kLanes = 4;

// Elements of each kind in one block.
template <Kind K>
constexpr uint64_t kPerBlock = (K == Kind::kBits32 || K == Kind::kNormal32) ? 4 : 2;

// The low half of the counter of a block.
template <Kind K>
uint64_t low_counter(uint64_t block) {
  return (block & (kPositionMask / kPerBlock<K>)) | static_cast<uint64_t>(K) << kPositionBits;
}

// kLanes consecutive blocks from block `first`; words[j][i] is word j of block first + i.
template <Kind K>
void philox_lanes(const Generator::State& s, uint64_t first, uint32_t (&words)[4][kLanes]) {
  uint32_t(&c0)[kLanes] = words[0];
  uint32_t(&c1)[kLanes] = words[1];
  uint32_t(&c2)[kLanes] = words[2];
  uint32_t(&c3)[kLanes] = words[3];
  for (size_t i = 0; i < kLanes; ++i) {
    const uint64_t low = low_counter<K>(first + i);
    c0[i] = static_cast<uint32_t>(low);
    c1[i] = static_cast<uint32_t>(low >> 32);
    c2[i] = static_cast<uint32_t>(s.counter_hi);
    c3[i] = static_cast<uint32_t>(s.counter_hi >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(s.key), k1 = static_cast<uint32_t>(s.key >> 32);
  for (int round = 0; round < kRounds; ++round, k0 += kWeyl0, k1 += kWeyl1) {
    for (size_t i = 0; i < kLanes; ++i) {
      const uint64_t p0 = uint64_t{kMul0} * c0[i];
      const uint64_t p1 = uint64_t{kMul1} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(p0);
    }
  }
}

template <Kind K>
std::array<uint32_t, 4> philox_block(const Generator::State& s, uint64_t block) {
  const uint64_t low = low_counter<K>(block);
  return philox4x32_10(
      {static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
       static_cast<uint32_t>(s.counter_hi), static_cast<uint32_t>(s.counter_hi >> 32)},
      {static_cast<uint32_t>(s.key), static_cast<uint32_t>(s.key >> 32)});
}

uint64_t join(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

float unit_float(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
double unit_double(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// Box and Muller's pair. The radius takes its uniform number from (0, 1], where the logarithm is
// finite.
void normal_pair(uint32_t radius, uint32_t angle, float out[2]) {
  const float u = (static_cast<float>(radius) + 1.0f) * 0x1p-32f;
  const float r = std::sqrt(-2.0f * std::log(u));
  const float phi = static_cast<float>(angle) * (2 * std::numbers::pi_v<float> * 0x1p-32f);
  out[0] = r * std::cos(phi);
  out[1] = r * std::sin(phi);
}

void normal_pair(uint64_t radius, uint64_t angle, double out[2]) {
  const double u = (static_cast<double>(radius >> 11) + 1.0) * 0x1p-53;
  const double r = std::sqrt(-2.0 * std::log(u));
  const double phi = unit_double(angle) * (2 * std::numbers::pi);
  out[0] = r * std::cos(phi);
  out[1] = r * std::sin(phi);
}

// The elements of one block, in their order.
template <Kind K>
struct Element;

template <>
struct Element<Kind::kBits32> {
  using Type = uint32_t;
  static void block(const uint32_t w[4], uint32_t out[4]) {
    for (int j = 0; j < 4; ++j) out[j] = w[j];
  }
};
template <>
struct Element<Kind::kBits64> {
  using Type = uint64_t;
  static void block(const uint32_t w[4], uint64_t out[2]) {
    out[0] = join(w[0], w[1]);
    out[1] = join(w[2], w[3]);
  }
};
template <>
struct Element<Kind::kNormal32> {
  using Type = float;
  static void block(const uint32_t w[4], float out[4]) {
    normal_pair(w[0], w[1], out);
    normal_pair(w[2], w[3], out + 2);
  }
};
template <>
struct Element<Kind::kNormal64> {
  using Type = double;
  static void block(const uint32_t w[4], double out[2]) {
    normal_pair(join(w[0], w[1]), join(w[2], w[3]), out);
  }
};

// Element `position` of kind K.
template <Kind K>
typename Element<K>::Type element(const Generator::State& s, uint64_t position) {
  typename Element<K>::Type out[kPerBlock<K>];
  Element<K>::block(philox_block<K>(s, position / kPerBlock<K>).data(), out);
  return out[position % kPerBlock<K>];
}

// Calls sink(offset, elements, count) with the elements [position, position + n) of kind K, a
// group of blocks at a time.
template <Kind K, class Sink>
void generate(const Generator::State& s, uint64_t position, size_t n, Sink&& sink) {
  using T = typename Element<K>::Type;
  constexpr size_t kPer = kPerBlock<K>;
  constexpr size_t kGroup = kPer * kLanes;
  uint32_t words[4][kLanes];
  T elements[kGroup];
  uint64_t block = position / kPer;
  size_t skipped = position % kPer;
  for (size_t done = 0; done < n;) {
    philox_lanes<K>(s, block, words);
    const size_t used = std::min(kLanes, (skipped + (n - done) + kPer - 1) / kPer);
    for (size_t i = 0; i < used; ++i) {
      const uint32_t w[4] = {words[0][i], words[1][i], words[2][i], words[3][i]};
      Element<K>::block(w, elements + kPer * i);
    }
    const size_t count = std::min(n - done, kGroup - skipped);
    sink(done, elements + skipped, count);
    done += count;
    skipped = 0;
    block += kLanes;
  }
}

// The same in pieces where there are many elements, on as many threads as there may be: each is a
// function of its position.
template <Kind K, class Sink>
void generate_shared(const Generator::State& s, uint64_t position, size_t n, const Sink& sink) {
  constexpr int64_t kPiece = 1 << 15;  // 0.1 ms or more
  const auto piece = [&](int64_t begin, int64_t end) {
    generate<K>(s, position + static_cast<uint64_t>(begin), static_cast<size_t>(end - begin),
                [&](size_t at, const auto* elements, size_t count) {
                  sink(static_cast<size_t>(begin) + at, elements, count);
                });
  };
  const auto all = static_cast<int64_t>(n);
  if (all <= kPiece) return piece(0, all);
  parallel_for(all, kPiece, piece);
}

// FNV-1a (Fowler, Noll and Vo) from a given basis, then the finaliser of SplitMix64 (Steele, Lea
// and Flood 2014). Part of what a seed means: a change changes every published result.
uint64_t hash_name(uint64_t basis, std::string_view name) {
  uint64_t h = basis;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
  return h ^ (h >> 31);
}
constexpr uint64_t kNameBasis = 0xCBF29CE484222325u;

void check_state(const Generator::State& s) {
  if (s.counter_lo > kPositionMask) {
    throw ValueError(
        absl::StrCat("Generator: position ", s.counter_lo, " in the state must be below 2^62"));
  }
}

template <class T>
void fill_uniform_checked(T lo, T hi) {
  if (!(lo <= hi) || !std::isfinite(hi - lo)) {
    throw ValueError(absl::StrCat("fill_uniform: lo=", lo, ", hi=", hi,
                                  "; needs lo <= hi and a finite hi - lo"));
  }
}

template <class T>
void fill_normal_checked(T mean, T std) {
  if (!std::isfinite(mean) || !std::isfinite(std) || std < 0) {
    throw ValueError(absl::StrCat("fill_normal: mean=", mean, ", std=", std,
                                  "; both must be finite and std >= 0"));
  }
}

// lo + u (hi - lo) may round up to hi, which the interval does not contain.
template <Kind K, class T, class Unit>
void fill_uniform_as(const Generator::State& s, uint64_t position, T* out, size_t n, T lo, T hi,
                     Unit unit) {
  const T width = hi - lo;
  const T last = std::nextafter(hi, lo);
  generate_shared<K>(s, position, n, [=](size_t at, const auto* bits, size_t count) {
    T* to = out + at;
    for (size_t i = 0; i < count; ++i) to[i] = std::min(lo + unit(bits[i]) * width, last);
  });
}

template <Kind K, class T>
void fill_normal_as(const Generator::State& s, uint64_t position, T* out, size_t n, T mean, T std) {
  generate_shared<K>(s, position, n, [=](size_t at, const T* z, size_t count) {
    T* to = out + at;
    for (size_t i = 0; i < count; ++i) to[i] = mean + std * z[i];
  });
}

// The process-wide seed. `epoch` tells a thread, by one load, that its generator is out of date.
struct Seed {
  std::mutex mutex;
  uint64_t value = 0;
  std::atomic<uint64_t> epoch{1};
  std::atomic<uint64_t> threads{0};
};

// Never destroyed: threads may outlive static objects.
Seed& process_seed() {
  static Seed& seed = *new Seed;
  return seed;
}

bool is_first_thread() { return syscall(SYS_gettid) == getpid(); }

struct ThreadGenerator {
  uint64_t ordinal = is_first_thread() ? 0 : 1 + process_seed().threads.fetch_add(1);
  uint64_t epoch = 0;
  Generator generator{0};
};

}  // namespace

std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * c[0];
    const uint64_t p1 = uint64_t{kMul1} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += kWeyl0;
    k[1] += kWeyl1;
  }
  return c;
}

Generator::Generator(uint64_t seed, std::string_view stream)
    : state_{.key = seed, .counter_hi = hash_name(kNameBasis, stream), .counter_lo = 0} {}

Generator::Generator(const State& state) : state_(state) { check_state(state); }

void Generator::set_state(const State& state) {
  check_state(state);
  state_ = state;
}

Generator Generator::split(std::string_view name) const {
  return Generator(State{.key = state_.key,
                         .counter_hi = hash_name(state_.counter_hi ^ kNameBasis, name),
                         .counter_lo = 0});
}

void Generator::skip(uint64_t n) { take(n); }

uint64_t Generator::take(uint64_t n) {
  const uint64_t position = state_.counter_lo;
  state_.counter_lo = (position + n) & kPositionMask;
  return position;
}

uint32_t Generator::next32() { return element<Kind::kBits32>(state_, take(1)); }
uint64_t Generator::next64() { return element<Kind::kBits64>(state_, take(1)); }
double Generator::uniform() { return unit_double(next64()); }
float Generator::uniform_float() { return unit_float(next32()); }
double Generator::normal() { return element<Kind::kNormal64>(state_, take(1)); }
float Generator::normal_float() { return element<Kind::kNormal32>(state_, take(1)); }

uint64_t Generator::uniform_int(uint64_t n) {
  if (n == 0) throw ValueError("uniform_int: n must be at least 1");
  __extension__ using Wide = unsigned __int128;
  Wide product = Wide{next64()} * n;
  if (static_cast<uint64_t>(product) < n) {
    // 2^64 mod n: the low parts below it belong to intervals that hold one candidate more.
    const uint64_t surplus = (0 - n) % n;
    while (static_cast<uint64_t>(product) < surplus) product = Wide{next64()} * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

std::vector<int64_t> Generator::permutation(int64_t n) {
  if (n < 0) throw ValueError(absl::StrCat("permutation: n=", n, " must not be negative"));
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(i)] = i;
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[uniform_int(i)]);
  return order;
}

void Generator::fill_uniform(float* out, size_t n, float lo, float hi) {
  fill_uniform_checked(lo, hi);
  fill_uniform_as<Kind::kBits32>(state_, take(n), out, n, lo, hi, unit_float);
}

void Generator::fill_uniform(double* out, size_t n, double lo, double hi) {
  fill_uniform_checked(lo, hi);
  fill_uniform_as<Kind::kBits64>(state_, take(n), out, n, lo, hi, unit_double);
}

void Generator::fill_normal(float* out, size_t n, float mean, float std) {
  fill_normal_checked(mean, std);
  fill_normal_as<Kind::kNormal32>(state_, take(n), out, n, mean, std);
}

void Generator::fill_normal(double* out, size_t n, double mean, double std) {
  fill_normal_checked(mean, std);
  fill_normal_as<Kind::kNormal64>(state_, take(n), out, n, mean, std);
}

void Generator::fill_bernoulli(uint8_t* out, size_t n, double p) {
  if (!(p >= 0 && p <= 1)) {
    throw ValueError(absl::StrCat("fill_bernoulli: p=", p, " must be in [0, 1]"));
  }
  const uint64_t threshold = static_cast<uint64_t>(std::round(p * 0x1p32));
  generate_shared<Kind::kBits32>(state_, take(n), n,
                                 [=](size_t at, const uint32_t* bits, size_t count) {
                                   uint8_t* to = out + at;
                                   for (size_t i = 0; i < count; ++i) to[i] = bits[i] < threshold;
                                 });
}

Generator& default_generator() {
  thread_local ThreadGenerator mine;
  Seed& seed = process_seed();
  if (mine.epoch != seed.epoch.load(std::memory_order_acquire)) {
    const std::lock_guard lock(seed.mutex);
    mine.generator = Generator(
        seed.value, mine.ordinal == 0 ? "default" : absl::StrCat("default/", mine.ordinal));
    mine.epoch = seed.epoch.load(std::memory_order_relaxed);
  }
  return mine.generator;
}

void manual_seed(uint64_t seed) {
  {
    const std::lock_guard lock(process_seed().mutex);
    process_seed().value = seed;
    process_seed().epoch.fetch_add(1, std::memory_order_release);
  }
  default_generator();
}

}  // namespace ebb
