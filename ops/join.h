// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "ebb/autograd/tensor.h"

// Joining tensors, taking them apart, repeating and padding; of any type. Axes may be negative,
// counting from the last. A bad axis is an IndexError, sizes that do not fit a ShapeError.
namespace ebb {

/// What an op of several outputs gives.
using TensorList = absl::InlinedVector<Tensor, 4>;

/// Tensors side by side along an axis: `cat({a, b})`. They have the same sizes in all other axes,
/// and rank 1 at least; where types differ all are converted to the widest. None is a ValueError.
Tensor cat(Span<const Tensor> tensors, int64_t axis = 0, Where where = Where::current());
/// Tensors of one shape side by side along a new axis, in [-rank-1, rank].
Tensor stack(Span<const Tensor> tensors, int64_t axis = 0, Where where = Where::current());

// The pieces are views; taken together they are one op, whose gradient is put together once. There
// can be 65535 of them, more is a ValueError.

/// Pieces of `size` elements of an axis, the last one of what is left. A size below 1 is a
/// ValueError.
TensorList split(const Tensor& x, int64_t size, int64_t axis = 0, Where where = Where::current());
/// Pieces of the given sizes, which add up to that of the axis.
TensorList split(const Tensor& x, Span<const int64_t> sizes, int64_t axis = 0,
                 Where where = Where::current());
/// `chunks` pieces of the same size, rounded up; as in PyTorch, the last one may be smaller, and
/// there may be fewer. Below 1 is a ValueError.
TensorList chunk(const Tensor& x, int64_t chunks, int64_t axis = 0, Where where = Where::current());
/// All slices of an axis, which is dropped: the opposite of stack.
TensorList unbind(const Tensor& x, int64_t axis = 0, Where where = Where::current());

/// N pieces of exactly the same size, by name: `auto [i, f, g, o] = chunk<4>(gates)`.
template <size_t N>
std::array<Tensor, N> chunk(const Tensor& x, int64_t axis = 0, Where where = Where::current());

/// x repeated reps[i] times along axis i; of different lengths, the shorter of shape and reps is
/// filled up with ones in front. A negative number is a ValueError.
Tensor tile(const Tensor& x, const Shape& reps, Where where = Where::current());
/// Each element repeated in place, along an axis, or without one along the flattened x. A negative
/// number is a ValueError.
Tensor repeat_interleave(const Tensor& x, int64_t repeats, std::optional<int64_t> axis = {},
                         Where where = Where::current());
/// The same with a number for each slice of the axis: `repeats` is int64 or int32, [n] or [1].
Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, std::optional<int64_t> axis = {},
                         Where where = Where::current());
/// x moved on by shifts[i] along axes[i]; what leaves at the end comes back at the front. Without
/// axes along the flattened x, and there is one shift. As many axes as shifts, else a ValueError.
Tensor roll(const Tensor& x, Axes shifts, Axes axes = {}, Where where = Where::current());

enum class PadMode : uint8_t {
  kConstant,
  kReflect,    ///< mirrored at the border element, which is not repeated: c b | a b c | b a
  kReplicate,  ///< the border element repeated: a a | a b c | c c
  kCircular,   ///< from the other end: b c | a b c | a b
};

/// x with elements added before and after: `pads` are (before, after) of the last axis, then of the
/// one before it, and so on, as in PyTorch; a negative number takes elements away. `value` fills in
/// mode kConstant. Throws ShapeError where kReflect is asked for size or more elements, kCircular
/// for more than size, kReplicate for any of an empty axis, or more are taken than there are.
Tensor pad(const Tensor& x, Span<const int64_t> pads, PadMode mode = PadMode::kConstant,
           double value = 0, Where where = Where::current());

namespace detail {
void chunk_exactly(const Tensor& x, int64_t axis, Where where, Span<Tensor> out);
}  // namespace detail

template <size_t N>
std::array<Tensor, N> chunk(const Tensor& x, int64_t axis, Where where) {
  std::array<Tensor, N> out;
  detail::chunk_exactly(x, axis, where, Span<Tensor>(out.data(), N));
  return out;
}

}  // namespace ebb
