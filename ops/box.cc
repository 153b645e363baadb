// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/box.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb {
namespace ops {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Boxes column by column, with their areas, so that loops over them run in vector registers.
template <class T>
struct Columns {
  explicit Columns(int64_t n)
      : x1(static_cast<size_t>(n)), y1(x1.size()), x2(x1.size()), y2(x1.size()), area(x1.size()) {}
  // Row i is the box at `row`.
  void set(int64_t i, const T* row) {
    const auto k = static_cast<size_t>(i);
    x1[k] = row[0];
    y1[k] = row[1];
    x2[k] = row[2];
    y2[k] = row[3];
    area[k] = (row[2] - row[0]) * (row[3] - row[1]);
  }
  // What boxes i and k share.
  T iou(size_t i, const Columns& other, size_t k) const {
    const T w = std::min(x2[i], other.x2[k]) - std::max(x1[i], other.x1[k]);
    const T h = std::min(y2[i], other.y2[k]) - std::max(y1[i], other.y1[k]);
    const T common = std::max(w, T{0}) * std::max(h, T{0});
    return common / (area[i] + other.area[k] - common);
  }

  std::vector<T> x1, y1, x2, y2, area;
};

template <class T>
Columns<T> columns_of(const Array& boxes) {
  const Array rows = contiguous(boxes);
  Columns<T> result(rows.size(0));
  for (int64_t i = 0; i < rows.size(0); ++i) result.set(i, rows.data<T>() + 4 * i);
  return result;
}

void require_boxes(const char* op, const char* name, const Meta& boxes) {
  if (boxes.shape.rank() == 2 && boxes.shape[1] == 4) return;
  throw ShapeError(absl::StrCat(op, ": ", name, " is ", boxes.shape.str(), "; it must be [N,4]"));
}

// The corners of boxes, [N,4], as tensors that broadcast with those of others: of the first operand
// columns [N,1], of the second [M].
struct Corners {
  Corners(const Tensor& boxes, bool first) {
    for (int c = 0; c < 4; ++c) {
      at[c] = select(boxes, 1, c);
      if (first) at[c] = unsqueeze(at[c], 1);
    }
    for (int d = 0; d < 2; ++d) side[d] = at[d + 2] - at[d];
  }
  Tensor at[4];
  Tensor side[2];
};

// 1 where a > b, 1/2 where they are equal, as constants: how minimum and maximum share a gradient.
Tensor share_above(const Tensor& a, const Tensor& b) {
  return (sign(a.detach() - b.detach()) + 1) / 2;
}

}  // namespace

struct BoxIou {
  static constexpr OpDoc kDoc{"box_iou", "y = area of a[i] and b[j] / area of a[i] or b[j]",
                              "a:[N,4] b:[M,4] -> y:[N,M]"};
  struct Attrs {};
  static constexpr GradUses uses(int) { return {.in = kAll}; }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_boxes(kDoc.name, "boxes1", in[0]);
    require_boxes(kDoc.name, "boxes2", in[1]);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    return {{in[0].dtype, {in[0].shape[0], in[1].shape[0]}}};
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = 8 * static_cast<double>(out[0].shape.numel());
    return c;
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    visit_differentiable(in[0].dtype(), [&](auto t) {
      using T = decltype(t);
      const Columns<T> a = columns_of<T>(in[0]);
      const Columns<T> b = columns_of<T>(in[1]);
      T* y = out[0].template mutable_data<T>();
      for (size_t i = 0; i < a.area.size(); ++i) {
        for (size_t k = 0; k < b.area.size(); ++k) *y++ = a.iou(i, b, k);
      }
    });
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Corners a(s.in(0), true);
    const Corners b(s.in(1), false);
    Tensor over[2];  // the sides of the intersection, or what is missing to one
    for (int d = 0; d < 2; ++d) {
      over[d] = minimum(a.at[d + 2], b.at[d + 2]) - maximum(a.at[d], b.at[d]);
    }
    const Tensor width = clamp(over[0], 0, kInfinity);
    const Tensor height = clamp(over[1], 0, kInfinity);
    const Tensor common = width * height;
    const Tensor all = a.side[0] * a.side[1] + b.side[0] * b.side[1] - common;
    const Tensor by_area = -g[0] * common / square(all);
    const Tensor by_common = g[0] / all - by_area;
    // By the sides of the intersection, where there is one.
    Tensor by_over[2] = {by_common * height, by_common * width};
    for (int d = 0; d < 2; ++d) {
      by_over[d] = masked_fill(by_over[d], over[d].detach() < 0.0, 0);
    }
    auto gradient = [&](const Corners& own, const Corners& other, int64_t summed) {
      Tensor parts[4];
      for (int d = 0; d < 2; ++d) {
        const Tensor by_side = by_area * own.side[1 - d];
        parts[d] = -(by_over[d] * share_above(own.at[d], other.at[d]) + by_side).sum({summed});
        parts[d + 2] =
            (by_over[d] * share_above(other.at[d + 2], own.at[d + 2]) + by_side).sum({summed});
      }
      return stack(parts, 1);
    };
    return {s.needs(0) ? gradient(a, b, 1) : Tensor(), s.needs(1) ? gradient(b, a, 0) : Tensor()};
  }
};
EBB_OP(BoxIou)

namespace {

Meta meta_of(const Tensor& t) { return {t.dtype(), t.shape()}; }

// Throws unless the last axis of `boxes` holds four floating-point numbers.
void require_quadruples(const char* op, const char* name, const Tensor& boxes) {
  if (boxes.dim() < 1 || boxes.size(-1) != 4) {
    throw ShapeError(absl::StrCat(op, ": ", name, " is ", boxes.shape().str(),
                                  "; its last axis must be of size 4"));
  }
  if (boxes.dtype() != kFloat32 && boxes.dtype() != kFloat64) {
    throw DTypeError(absl::StrCat(op, ": ", name, " is ", meta_of(boxes).str(),
                                  "; it must be float32 or float64"));
  }
}

// Throws unless two tensors of quadruples are of one type, broadcast, and go with these weights.
void require_pair(const char* op, const Tensor& a, const Tensor& b, const BoxWeights& weights) {
  if (a.dtype() != b.dtype()) {
    throw DTypeError(absl::StrCat(op, ": got ", meta_of(a).str(), " and ", meta_of(b).str(),
                                  "; the types must be the same"));
  }
  Shape common;
  if (!broadcast_shapes(a.shape(), b.shape(), &common)) {
    throw ShapeError(absl::StrCat(op, ": got ", a.shape().str(), " and ", b.shape().str(),
                                  "; sizes must be equal or 1, from the last axis on"));
  }
  for (const double w : weights) {
    if (w != 0 && std::isfinite(w)) continue;
    throw ValueError(absl::StrCat(op, ": the weights are ", absl::StrJoin(weights, ", "),
                                  "; they must be finite and not 0"));
  }
}

// The boxes that are left of one group, from the best on, side by side in arrays: a box meets all
// that come after it in one loop, which the compiler makes one of vectors.
template <class T>
class Remaining {
 public:
  // Box i has rank ranks[i] and lies at rows + 4 * order[rank].
  Remaining(const T* rows, const int64_t* order, std::vector<int64_t> ranks)
      : boxes_(static_cast<int64_t>(ranks.size())),
        ranks_(std::move(ranks)),
        dropped_(ranks_.size()) {
    for (size_t i = 0; i < ranks_.size(); ++i) {
      boxes_.set(static_cast<int64_t>(i), rows + 4 * order[ranks_[i]]);
    }
  }

  // Calls f(rank) for each box that is kept.
  template <class F>
  void keep_best(T limit, const F& f) {
    size_t n = ranks_.size();
    size_t gone = 0;  // dropped behind box i, or before it since they were last taken out
    for (size_t i = 0; i < n; ++i) {
      if (dropped_[i] != 0) continue;
      f(ranks_[i]);
      gone += drop(i, n, limit);
      if (4 * gone < n - i) continue;
      n = close_ranks(i + 1, n);
      gone = 0;
    }
  }

 private:
  // As wide as T, so that a vector of numbers gives a vector of these.
  using Flag = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

  // Drops what shares more than `limit` with box i of those behind; how many.
  size_t drop(size_t i, size_t n, T limit) {
    const T* x1 = boxes_.x1.data();
    const T* y1 = boxes_.y1.data();
    const T* x2 = boxes_.x2.data();
    const T* y2 = boxes_.y2.data();
    const T* area = boxes_.area.data();
    Flag* dropped = dropped_.data();
    const T left = x1[i], top = y1[i], right = x2[i], bottom = y2[i], own = area[i];
    Flag count = 0;
    for (size_t k = i + 1; k < n; ++k) {
      const T w = std::min(right, x2[k]) - std::max(left, x1[k]);
      const T h = std::min(bottom, y2[k]) - std::max(top, y1[k]);
      const T common = std::max(w, T{0}) * std::max(h, T{0});
      const Flag now = common / (own + area[k] - common) > limit ? 1 : 0;
      count += now & ~dropped[k];
      dropped[k] |= now;
    }
    return static_cast<size_t>(count);
  }

  // Takes the dropped ones out of [first, n); where the rest ends.
  size_t close_ranks(size_t first, size_t n) {
    size_t to = first;
    for (size_t k = first; k < n; ++k) {
      if (dropped_[k] != 0) continue;
      for (auto* column : {&boxes_.x1, &boxes_.y1, &boxes_.x2, &boxes_.y2, &boxes_.area}) {
        (*column)[to] = (*column)[k];
      }
      ranks_[to++] = ranks_[k];
    }
    std::fill(dropped_.begin() + static_cast<ptrdiff_t>(first),
              dropped_.begin() + static_cast<ptrdiff_t>(to), Flag{0});
    return to;
  }

  Columns<T> boxes_;
  std::vector<int64_t> ranks_;
  std::vector<Flag> dropped_;
};

// `groups` may be undefined: then all boxes are of one.
template <class T>
std::vector<int64_t> kept(const Array& boxes, const Array& order, const Array& groups,
                          double threshold) {
  const int64_t n = boxes.size(0);
  const Array rows = contiguous(boxes);
  const int64_t* best = order.data<int64_t>();
  absl::flat_hash_map<int64_t, std::vector<int64_t>> members;  // ranks, from the best on
  for (int64_t rank = 0; rank < n; ++rank) {
    members[groups.defined() ? groups.data<int64_t>()[best[rank]] : 0].push_back(rank);
  }
  std::vector<uint8_t> stays(static_cast<size_t>(n));
  for (auto& [group, ranks] : members) {
    Remaining<T>(rows.data<T>(), best, std::move(ranks))
        .keep_best(static_cast<T>(threshold),
                   [&](int64_t rank) { stays[static_cast<size_t>(rank)] = 1; });
  }
  std::vector<int64_t> result;
  for (int64_t rank = 0; rank < n; ++rank) {
    if (stays[static_cast<size_t>(rank)] != 0) result.push_back(best[rank]);
  }
  return result;
}

Tensor suppressed(const char* op, const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                  double threshold) {
  require_boxes(op, "boxes", meta_of(boxes));
  require_quadruples(op, "boxes", boxes);
  const int64_t n = boxes.size(0);
  if (scores.shape() != Shape{n} || (idxs.defined() && idxs.shape() != Shape{n})) {
    throw ShapeError(absl::StrCat(op, ": boxes is ", boxes.shape().str(), ", scores is ",
                                  scores.shape().str(),
                                  idxs.defined() ? ", idxs is " + idxs.shape().str() : "",
                                  "; there must be one for each box"));
  }
  if (scores.dtype() != boxes.dtype() ||
      (idxs.defined() && idxs.dtype() != kInt64 && idxs.dtype() != kInt32)) {
    throw DTypeError(absl::StrCat(op, ": boxes is ", meta_of(boxes).str(), ", scores is ",
                                  meta_of(scores).str(),
                                  idxs.defined() ? ", idxs is " + meta_of(idxs).str() : "",
                                  "; scores must be of the type of boxes, idxs int64 or int32"));
  }
  if (std::isnan(threshold)) throw ValueError(absl::StrCat(op, ": iou_threshold is NaN"));
  for (const double score : cast(scores.detach(), kFloat64).to_vector<double>()) {
    if (std::isnan(score)) throw ValueError(absl::StrCat(op, ": a score is NaN"));
  }
  const Array order = contiguous(argsort(scores.detach(), 0, /*descending=*/true).value());
  Array groups;
  if (idxs.defined()) groups = contiguous(cast(idxs, kInt64).value());
  const std::vector<int64_t> keep = boxes.dtype() == kFloat64
                                        ? kept<double>(boxes.value(), order, groups, threshold)
                                        : kept<float>(boxes.value(), order, groups, threshold);
  return Tensor(Array::of<int64_t>({static_cast<int64_t>(keep.size())}, keep));
}

// Middle and size of boxes along axis d, 0 or 1.
struct Extent {
  Extent(const Tensor& boxes, int d) {
    const Tensor low = select(boxes, -1, d);
    size = select(boxes, -1, d + 2) - low;
    middle = low + 0.5 * size;
  }
  Tensor middle;
  Tensor size;
};

}  // namespace
}  // namespace ops

Tensor box_area(const Tensor& boxes, Where where) try {
  const detail::PlaceScope scope(where);
  ops::require_quadruples("box_area", "boxes", boxes);
  return ops::Extent(boxes, 0).size * ops::Extent(boxes, 1).size;
} catch (const Error&) {
  detail::rethrow_as("box_area");
}

Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2, Where where) {
  return apply<ops::BoxIou>(At(boxes1, where), boxes2);
}

Tensor clip_boxes_to_image(const Tensor& boxes, int64_t height, int64_t width, Where where) try {
  const detail::PlaceScope scope(where);
  ops::require_quadruples("clip_boxes_to_image", "boxes", boxes);
  if (height < 0 || width < 0) {
    throw ValueError(absl::StrCat("clip_boxes_to_image: height is ", height, ", width ", width,
                                  "; neither may be negative"));
  }
  Tensor corners[4];
  for (int c = 0; c < 4; ++c) {
    corners[c] = clamp(select(boxes, -1, c), 0, static_cast<double>(c % 2 == 0 ? width : height));
  }
  return stack(corners, -1);
} catch (const Error&) {
  detail::rethrow_as("clip_boxes_to_image");
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold, Where) try {
  return ops::suppressed("nms", boxes, scores, Tensor(), iou_threshold);
} catch (const Error&) {
  detail::rethrow_as("nms");
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                   double iou_threshold, Where) try {
  if (!idxs.defined()) throw ValueError("batched_nms: idxs is undefined");
  return ops::suppressed("batched_nms", boxes, scores, idxs, iou_threshold);
} catch (const Error&) {
  detail::rethrow_as("batched_nms");
}

Tensor encode_boxes(const Tensor& boxes, const Tensor& proposals, const BoxWeights& weights,
                    Where where) try {
  const detail::PlaceScope scope(where);
  ops::require_quadruples("encode_boxes", "boxes", boxes);
  ops::require_quadruples("encode_boxes", "proposals", proposals);
  ops::require_pair("encode_boxes", boxes, proposals, weights);
  Tensor codes[4];
  for (int d = 0; d < 2; ++d) {
    const ops::Extent box(boxes, d);
    const ops::Extent from(proposals, d);
    codes[d] = weights[static_cast<size_t>(d)] * ((box.middle - from.middle) / from.size);
    codes[d + 2] = weights[static_cast<size_t>(d + 2)] * log(box.size / from.size);
  }
  return stack(codes, -1);
} catch (const Error&) {
  detail::rethrow_as("encode_boxes");
}

Tensor decode_boxes(const Tensor& codes, const Tensor& proposals, const BoxWeights& weights,
                    Where where) try {
  const detail::PlaceScope scope(where);
  ops::require_quadruples("decode_boxes", "codes", codes);
  ops::require_quadruples("decode_boxes", "proposals", proposals);
  ops::require_pair("decode_boxes", codes, proposals, weights);
  const double most = std::log(1000.0 / 16);
  Tensor corners[4];
  for (int d = 0; d < 2; ++d) {
    const ops::Extent from(proposals, d);
    const auto code = [&](int c) { return select(codes, -1, c) / weights[static_cast<size_t>(c)]; };
    const Tensor middle = from.middle + code(d) * from.size;
    const Tensor half = 0.5 * exp(clamp(code(d + 2), -ops::kInfinity, most)) * from.size;
    corners[d] = middle - half;
    corners[d + 2] = middle + half;
  }
  return stack(corners, -1);
} catch (const Error&) {
  detail::rethrow_as("decode_boxes");
}

}  // namespace ebb
