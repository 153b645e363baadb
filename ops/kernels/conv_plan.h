// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ebb/core/memory.h"
#include "ebb/ops/kernels/conv.h"
#include "ebb/ops/kernels/dispatch.h"

namespace ebb::kernels::detail {

/// A convolution with three axes, whatever it has: those that it lacks come first and are of size
/// one. The last axis is the one along which elements are neighbours.
struct ConvPlan {
  explicit ConvPlan(const ConvShape& s)
      : batch(s.batch),
        groups(s.groups),
        group_in(s.in_channels / s.groups),
        group_out(s.out_channels / s.groups) {
    for (int d = 0; d < s.dims; ++d) {
      const int axis = 3 - s.dims + d;
      in[axis] = s.in[d];
      kernel[axis] = s.kernel[d];
      stride[axis] = s.stride[d];
      dilation[axis] = s.dilation[d];
      pad[axis] = s.pad[d];
      out[axis] = s.out[d];
    }
    taps = kernel[0] * kernel[1] * kernel[2];
    in_area = in[0] * in[1] * in[2];
    out_area = out[0] * out[1] * out[2];
  }

  bool operator==(const ConvPlan&) const = default;

  int64_t batch, groups;
  int64_t group_in, group_out;  ///< channels of a group
  int64_t in[3] = {1, 1, 1};
  int64_t kernel[3] = {1, 1, 1};
  int64_t stride[3] = {1, 1, 1};
  int64_t dilation[3] = {1, 1, 1};
  int64_t pad[3] = {0, 0, 0};
  int64_t out[3] = {1, 1, 1};
  int64_t taps;
  int64_t in_area, out_area;  ///< elements of a channel
};

/// Memory from the pool for the time of a call, handed out piece by piece.
class Workspace {
 public:
  static constexpr size_t kLine = 64;
  static constexpr size_t rounded(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

  /// What the pool gives for so many bytes.
  static constexpr size_t taken(size_t bytes) {
    return ebb::detail::class_bytes(ebb::detail::size_class_of(kLine + bytes));
  }

  explicit Workspace(size_t bytes)
      : block_(ebb::detail::allocate(kLine + bytes)),
        next_(reinterpret_cast<std::byte*>(block_) + kLine) {}
  ~Workspace() { ebb::detail::deallocate(block_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// n elements at the start of a cache line, of which nothing is known.
  template <class T>
  T* take(size_t n) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += rounded(n * sizeof(T));
    return p;
  }

  /// What has been handed out since the mark is there to be handed out again.
  std::byte* mark() const { return next_; }
  void rewind(std::byte* mark) { next_ = mark; }

 private:
  ebb::detail::Block* block_;
  std::byte* next_;
};

/// Winograd's convolution of float: 3x3 with stride 1 over the last two axes, and any kernel with
/// stride 1 over the one before.
struct WinogradTable {
  /// Bytes that a call takes from the pool: of the forward pass, or of the input gradient.
  size_t (*workspace)(const ConvPlan& p, bool backward);
  /// Input channels that the forward pass adds up at a time.
  size_t (*depth)(const ConvPlan& p);
  // One image and one group each.
  void (*forward)(const ConvPlan& p, const float* x, const float* w, const float* bias, float* y);
  void (*grad_input)(const ConvPlan& p, const float* dy, const float* w, float* dx);
};
extern constinit const Dispatch<WinogradTable> conv_winograd;

/// The same for the weight gradient.
struct WinogradWeightsTable {
  size_t (*workspace)(const ConvPlan& p);
  void (*grad_weight)(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw);
};
extern constinit const Dispatch<WinogradWeightsTable> conv_winograd_weights;

/// Correlation as products of what lies at two tables of offsets: any geometry.
template <class T>
struct DirectTable {
  /// Of the forward pass and the input gradient. More than there can be where offsets are too far.
  size_t (*workspace)(const ConvPlan& p, ConvPass pass);
  // One image and one group each.
  void (*forward)(const ConvPlan& p, const T* x, const T* w, const T* bias, T* y);
  void (*grad_input)(const ConvPlan& p, const T* dy, const T* w, T* dx);
};
struct DirectTables {
  DirectTable<float> f32;
  DirectTable<double> f64;
};
extern constinit const Dispatch<DirectTables> conv_direct;

/// The same for the weight gradient.
template <class T>
struct DirectWeightsTable {
  size_t (*workspace)(const ConvPlan& p);
  void (*grad_weight)(const ConvPlan& p, const T* x, const T* dy, bool add, T* dw);
};
struct DirectWeightsTables {
  DirectWeightsTable<float> f32;
  DirectWeightsTable<double> f64;
};
extern constinit const Dispatch<DirectWeightsTables> conv_direct_weights;

/// One channel of an image, and of what comes of it.
struct ConvPlane {
  ptrdiff_t height, width;
  ptrdiff_t out_height, out_width;
  ptrdiff_t pad_row, pad_col;
};

/// A channel by itself: 3x3 and 5x5 with stride 1, over two axes, of float. Needs no memory.
struct DepthwiseTable {
  bool (*handles)(const ConvPlan& p);
  // One image and one group each.
  void (*forward)(const ConvPlan& p, const float* x, const float* w, const float* bias, float* y);
  void (*grad_input)(const ConvPlan& p, const float* dy, const float* w, float* dx);
  void (*grad_weight)(const ConvPlan& p, const float* x, const float* dy, bool add, float* dw);
};
extern constinit const Dispatch<DepthwiseTable> conv_depthwise;

/// The input gradient to few channels of a small image: two axes, stride 1, float.
struct FoldTable {
  bool (*pays)(const ConvPlan& p);
  size_t (*workspace)(const ConvPlan& p);
  /// One image and one group.
  void (*grad_input)(const ConvPlan& p, const float* dy, const float* w, float* dx);
};
extern constinit const Dispatch<FoldTable> conv_fold;

}  // namespace ebb::kernels::detail
