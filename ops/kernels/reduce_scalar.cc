// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <type_traits>

#include "ebb/ops/kernels/reduce.h"

// Reductions that the compiler vectorises well enough or nobody can: those of integers and bool,
// tests against zero, indices of extremes off the fast path, and scans.
namespace ebb::kernels {
namespace {

// What a T is in memory. A bool is a byte of which any value but 0 is true.
template <class T>
using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;

template <class T>
T value(Stored<T> x) {
  if constexpr (std::is_same_v<T, bool>) {
    return x != 0;
  } else {
    return x;
  }
}

constexpr bool is_extreme(Reduce op) { return op == Reduce::kMax || op == Reduce::kMin; }
constexpr bool is_test(Reduce op) { return op == Reduce::kAny || op == Reduce::kAll; }

template <class T, Reduce op>
using Result = std::conditional_t<is_test(op), uint8_t,
                                  std::conditional_t<is_extreme(op), Stored<T>, int64_t>>;

template <class T, Reduce op>
constexpr Result<T, op> neutral() {
  if constexpr (op == Reduce::kProd || op == Reduce::kAll) return 1;
  if constexpr (op == Reduce::kMax) return static_cast<Stored<T>>(std::numeric_limits<T>::lowest());
  if constexpr (op == Reduce::kMin) return static_cast<Stored<T>>(std::numeric_limits<T>::max());
  return 0;
}

// Joins two results; sums and products wrap.
template <class T, Reduce op>
Result<T, op> join(Result<T, op> a, Result<T, op> b) {
  if constexpr (op == Reduce::kSum || op == Reduce::kCountNonzero) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
  if constexpr (op == Reduce::kProd) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  }
  if constexpr (op == Reduce::kMax) return a > b ? a : b;
  if constexpr (op == Reduce::kMin) return a < b ? a : b;
  if constexpr (op == Reduce::kAny) return a | b;
  if constexpr (op == Reduce::kAll) return a & b;
}

template <class T, Reduce op>
Result<T, op> result_of(Stored<T> x) {
  if constexpr (is_test(op) || op == Reduce::kCountNonzero) {
    return x != 0;
  } else {
    return static_cast<Result<T, op>>(value<T>(x));
  }
}

// Whether x is to be preferred to the extreme found so far. A NaN is, a second one is not.
template <ArgReduce op, class T>
bool better(T x, T best) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(best)) return false;
    if (std::isnan(x)) return true;
  }
  return op == ArgReduce::kArgMax ? x > best : x < best;
}

template <class T, Scan op>
void scan_row(const void* inv, ptrdiff_t si, void* outv, ptrdiff_t so, size_t n) {
  using Out = std::conditional_t<std::is_floating_point_v<T>, T, int64_t>;
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  const auto* in = static_cast<const Stored<T>*>(inv);
  Out* out = static_cast<Out*>(outv);
  Sum s = op == Scan::kCumSum ? 0 : 1;
  for (size_t i = 0; i < n; ++i) {
    const Sum x = static_cast<Sum>(value<T>(*in));
    s = op == Scan::kCumSum ? s + x : s * x;
    *out = static_cast<Out>(s);
    in += si;
    out += so;
  }
}

template <class T>
ScanFn scan_of(Scan op) {
  return op == Scan::kCumSum ? scan_row<T, Scan::kCumSum> : scan_row<T, Scan::kCumProd>;
}

}  // namespace

template <class T, Reduce op>
void detail::scalar_reduce_row(const void* inv, ptrdiff_t stride, size_t n, void* outv,
                               bool accumulate) {
  const auto* in = static_cast<const Stored<T>*>(inv);
  auto* out = static_cast<Result<T, op>*>(outv);
  Result<T, op> s = neutral<T, op>();
  if (stride == 1) {
    for (size_t i = 0; i < n; ++i) s = join<T, op>(s, result_of<T, op>(in[i]));
  } else {
    for (size_t i = 0; i < n; ++i, in += stride) s = join<T, op>(s, result_of<T, op>(*in));
  }
  *out = accumulate ? join<T, op>(*out, s) : s;
}

template <class T, Reduce op>
void detail::scalar_reduce_cols(const void* inv, ptrdiff_t ld, size_t rows, size_t cols, void* outv,
                                bool accumulate) {
  const auto* in = static_cast<const Stored<T>*>(inv);
  auto* out = static_cast<Result<T, op>*>(outv);
  if (!accumulate) {
    for (size_t j = 0; j < cols; ++j) out[j] = neutral<T, op>();
  }
  for (size_t i = 0; i < rows; ++i, in += ld) {
    for (size_t j = 0; j < cols; ++j) out[j] = join<T, op>(out[j], result_of<T, op>(in[j]));
  }
}

template <class T, ArgReduce op>
int64_t detail::scalar_arg_row(const void* inv, ptrdiff_t stride, size_t n) {
  const auto* in = static_cast<const Stored<T>*>(inv);
  T best = value<T>(*in);
  int64_t at = 0;
  for (size_t i = 1; i < n; ++i) {
    in += stride;
    const T x = value<T>(*in);
    if (better<op>(x, best)) {
      best = x;
      at = static_cast<int64_t>(i);
    }
  }
  return at;
}

template <class T, ArgReduce op>
void detail::scalar_arg_cols(const void* inv, ptrdiff_t ld, size_t rows, size_t cols,
                             int64_t* out) {
  const auto* in = static_cast<const Stored<T>*>(inv);
  for (size_t j = 0; j < cols; ++j) out[j] = 0;
  for (size_t i = 1; i < rows; ++i) {
    const auto* x = in + static_cast<ptrdiff_t>(i) * ld;
    for (size_t j = 0; j < cols; ++j) {
      const T best = value<T>(in[static_cast<ptrdiff_t>(out[j]) * ld + static_cast<ptrdiff_t>(j)]);
      if (better<op>(value<T>(x[j]), best)) out[j] = static_cast<int64_t>(i);
    }
  }
}

#define EBB_SCALAR_REDUCE(T, op)                                                                  \
  template void detail::scalar_reduce_row<T, Reduce::op>(const void*, ptrdiff_t, size_t, void*,   \
                                                         bool);                                   \
  template void detail::scalar_reduce_cols<T, Reduce::op>(const void*, ptrdiff_t, size_t, size_t, \
                                                          void*, bool)
#define EBB_SCALAR_ARG(T, op)                                                                     \
  template int64_t detail::scalar_arg_row<T, ArgReduce::op>(const void*, ptrdiff_t, size_t);      \
  template void detail::scalar_arg_cols<T, ArgReduce::op>(const void*, ptrdiff_t, size_t, size_t, \
                                                          int64_t*)
#define EBB_SCALAR_REDUCE_ANY_TYPE(T)  \
  EBB_SCALAR_REDUCE(T, kAny);          \
  EBB_SCALAR_REDUCE(T, kAll);          \
  EBB_SCALAR_REDUCE(T, kCountNonzero); \
  EBB_SCALAR_ARG(T, kArgMax);          \
  EBB_SCALAR_ARG(T, kArgMin)
#define EBB_SCALAR_REDUCE_INTEGER(T) \
  EBB_SCALAR_REDUCE(T, kSum);        \
  EBB_SCALAR_REDUCE(T, kProd);       \
  EBB_SCALAR_REDUCE(T, kMax);        \
  EBB_SCALAR_REDUCE(T, kMin)

EBB_SCALAR_REDUCE_ANY_TYPE(float);
EBB_SCALAR_REDUCE_ANY_TYPE(double);
EBB_SCALAR_REDUCE_ANY_TYPE(int64_t);
EBB_SCALAR_REDUCE_ANY_TYPE(int32_t);
EBB_SCALAR_REDUCE_ANY_TYPE(uint8_t);
EBB_SCALAR_REDUCE_ANY_TYPE(bool);
EBB_SCALAR_REDUCE_INTEGER(int64_t);
EBB_SCALAR_REDUCE_INTEGER(int32_t);
EBB_SCALAR_REDUCE_INTEGER(uint8_t);
EBB_SCALAR_REDUCE_INTEGER(bool);

ScanFn scan_fn(DType t, Scan op) {
  switch (t) {
    case DType::kFloat32:
      return scan_of<float>(op);
    case DType::kFloat64:
      return scan_of<double>(op);
    case DType::kInt64:
      return scan_of<int64_t>(op);
    case DType::kInt32:
      return scan_of<int32_t>(op);
    case DType::kUInt8:
      return scan_of<uint8_t>(op);
    case DType::kBool:
      return scan_of<bool>(op);
    default:
      return nullptr;
  }
}

}  // namespace ebb::kernels
