// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/join.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/shape_view.h"

// Joining tensors and taking them apart.
namespace ebb {
namespace ops {

namespace {

struct AxisAttrs {
  int axis;
};

std::string describe_axis(const AxisAttrs& a) { return absl::StrCat("axis=", a.axis); }

// `whole` from `at` on along an axis, `count` elements.
Layout run_of(const Array& whole, int axis, int64_t at, int64_t count) {
  Layout l(whole.shape(), whole.strides());
  l.shape[axis] = count;
  l.offset = count == 0 ? 0 : at * whole.stride(axis);
  return l;
}

// `whole` at one index of an axis.
Layout slice_of(const Array& whole, int axis, int64_t at) {
  Layout l;
  for (int i = 0; i < whole.rank(); ++i) {
    if (i != axis) l.push_back(whole.size(i), whole.stride(i));
  }
  l.offset = at * whole.stride(axis);
  return l;
}

// Copies `inputs` side by side into contiguous `out`; along an axis that they have, or one that
// they lack.
void join(Span<const Array> inputs, int axis, bool is_new, const Array& out) {
  const size_t item = size_of(out.dtype());
  int64_t outer = 1;
  for (int i = 0; i < axis; ++i) outer *= out.size(i);
  if (outer == 0) return;
  const size_t pitch = static_cast<size_t>(out.numel() / outer) * item;
  std::byte* to = out.raw();
  int64_t at = 0;
  for (const Array& a : inputs) {
    const int64_t width = is_new ? 1 : a.size(axis);
    const size_t bytes = static_cast<size_t>(a.numel() / outer) * item;
    if (bytes != 0 && a.is_contiguous()) {
      for (int64_t o = 0; o < outer; ++o) {
        std::memcpy(to + static_cast<size_t>(o) * pitch, a.raw() + static_cast<size_t>(o) * bytes,
                    bytes);
      }
    } else if (bytes != 0) {
      copy_into(view_of(out, is_new ? slice_of(out, axis, at) : run_of(out, axis, at, width)), a);
    }
    to += bytes;
    at += width;
  }
}

void require_some(const OpDoc& doc, Span<const Meta> in) {
  if (in.empty()) throw ValueError(absl::StrCat(doc.name, ": there is no tensor to join"));
  require_same_dtype(doc, in);
}

[[noreturn]] void misfit(const OpDoc& doc, Span<const Meta> in, size_t i, const char* rule) {
  throw ShapeError(absl::StrCat(doc.name, ": tensor 0 is ", in[0].shape.str(), ", tensor ", i,
                                " is ", in[i].shape.str(), "; ", rule));
}

}  // namespace

struct Cat {
  static constexpr OpDoc kDoc{"cat", "y = the inputs side by side along an axis",
                              "x0:[..,n0,..] x1:[..,n1,..] .. -> y:[..,n0+n1+..,..]"};
  using Attrs = AxisAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  // Where the piece of an input lies depends on the sizes of those before it.
  static constexpr GradUses uses(int input) {
    return {.shapes = input >= 62 ? kAll : (uint64_t{2} << input) - 1};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_some(kDoc, in);
    Shape shape = in[0].shape;
    if (shape.rank() == 0) misfit(kDoc, in, 0, "scalars have no axis to join along: stack them");
    for (size_t i = 1; i < in.size(); ++i) {
      const Shape& s = in[i].shape;
      bool fits = s.rank() == shape.rank();
      for (int d = 0; d < shape.rank() && fits; ++d) fits = d == a.axis || s[d] == shape[d];
      if (!fits) misfit(kDoc, in, i, "all sizes but that of the axis must be equal");
      shape[a.axis] += s[a.axis];
    }
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    join(in, a.axis, false, out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    Grads grads(static_cast<size_t>(s.n_inputs()));
    for_each_piece(s, axis, [&](int i, int64_t at, int64_t size) {
      grads[static_cast<size_t>(i)] = narrow(g[0], axis, at, size);
    });
    return grads;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    for_each_piece(s, axis, [&](int i, int64_t at, int64_t size) {
      sink.add(i, view_of(g[0], run_of(g[0], axis, at, size)));
    });
  }
  // Calls f(input, where it starts, its size) for the inputs that want a gradient.
  template <class F>
  static void for_each_piece(const Saved& s, int axis, F&& f) {
    int last = s.n_inputs() - 1;
    while (!s.needs(last)) --last;  // sizes behind it may not have been saved
    int64_t at = 0;
    for (int i = 0; i <= last; ++i) {
      const int64_t size = s.in_shape(i)[axis];
      if (s.needs(i)) f(i, at, size);
      at += size;
    }
  }
};
EBB_OP(Cat)

struct Stack {
  static constexpr OpDoc kDoc{"stack", "y = the inputs side by side along a new axis",
                              "x0:[..,..] .. x(n-1):[..,..] -> y:[..,n,..]"};
  using Attrs = AxisAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_some(kDoc, in);
    for (size_t i = 1; i < in.size(); ++i) {
      if (in[i].shape != in[0].shape) misfit(kDoc, in, i, "the shapes must be equal");
    }
    if (in[0].shape.rank() == kMaxRank) misfit(kDoc, in, 0, "that is the largest rank");
    Shape shape = in[0].shape;
    shape.push_back(0);
    for (int d = shape.rank() - 1; d > a.axis; --d) shape[d] = shape[d - 1];
    shape[a.axis] = static_cast<int64_t>(in.size());
    return {{in[0].dtype, shape}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    join(in, a.axis, true, out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads grads(static_cast<size_t>(s.n_inputs()));
    for (int i = 0; i < s.n_inputs(); ++i) {
      if (s.needs(i)) grads[static_cast<size_t>(i)] = select(g[0], s.attrs<Attrs>().axis, i);
    }
    return grads;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    for (int i = 0; i < s.n_inputs(); ++i) {
      if (s.needs(i)) sink.add(i, view_of(g[0], slice_of(g[0], s.attrs<Attrs>().axis, i)));
    }
  }
};
EBB_OP(Stack)

namespace {

using Sizes = absl::InlinedVector<int64_t, 4, detail::PoolAllocator<int64_t>>;

// What ops share that give pieces of an axis, which
//   static Sizes sizes(const Attrs&, const Shape& shape);
// lists, or an exception, and of which there are
//   static int64_t pieces(const Attrs&, const Shape& shape); Attrs has a member `axis`.
template <class Op, class A>
struct PiecesOp {
  using Attrs = A;
  static constexpr bool kView = true;
  static constexpr GradUses uses(int) { return {.shapes = 1}; }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, 1);
    const int64_t count = Op::pieces(a, in[0].shape);  // before they are listed
    if (count > UINT16_MAX) {
      throw ValueError(absl::StrCat(Op::kDoc.name, ": x is ", in[0].shape.str(), "; ", count,
                                    " pieces are more than ", UINT16_MAX));
    }
    const Sizes sizes = Op::sizes(a, in[0].shape);
    Metas out;
    out.reserve(sizes.size());
    Meta piece = in[0];
    for (int64_t size : sizes) {
      piece.shape[a.axis] = size;
      out.push_back(piece);
    }
    return out;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    int64_t at = 0;
    size_t j = 0;
    for (int64_t size : Op::sizes(a, in[0].shape())) {
      out[j++] = view_of(in[0], run_of(in[0], a.axis, at, size));
      at += size;
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const int axis = s.attrs<Attrs>().axis;
    Shape shape = s.in_shape(0);
    TensorList pieces;
    int j = 0;
    for (int64_t size : Op::sizes(s.attrs<Attrs>(), s.in_shape(0))) {
      shape[axis] = size;
      pieces.push_back(g.has(j) ? g[j] : Tensor(zeros_view(s.in_dtype(0), shape)));
      ++j;
    }
    return {cat(pieces, axis)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    const Shape shape = s.in_shape(0);
    Array gx = Array::empty(s.in_dtype(0), shape);
    int64_t at = 0;
    int j = 0;
    for (int64_t size : Op::sizes(s.attrs<Attrs>(), shape)) {
      const Array to = view_of(gx, run_of(gx, axis, at, size));
      copy_into(to, g.has(j) ? g[j] : zeros_view(gx.dtype(), to.shape()));
      at += size;
      ++j;
    }
    sink.add(0, std::move(gx));
  }
};

// As many times `size` as goes into n, and the rest; once 0 where there is nothing.
int64_t count_of(int64_t n, int64_t size) { return n == 0 ? 1 : (n - 1) / size + 1; }
Sizes equal_sizes(int64_t n, int64_t size) {
  Sizes out(static_cast<size_t>(count_of(n, size)), size);
  out.back() = n - size * static_cast<int64_t>(out.size() - 1);
  return out;
}

struct SplitAttrs {
  int axis;
  int64_t size;  // of every piece; where it is 0 the sizes are listed
  Sizes list;
};
struct ChunkAttrs {
  int axis;
  int64_t chunks = 1;
};

}  // namespace

struct Split : PiecesOp<Split, SplitAttrs> {
  static constexpr OpDoc kDoc{"split", "y0, y1, .. = pieces of x of given sizes along an axis",
                              "x:[..,n0+n1+..,..] -> y0:[..,n0,..] y1:[..,n1,..] .."};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " sizes=",
                        a.size != 0 ? std::to_string(a.size) : std::to_string(a.list.size()));
  }
  static int64_t pieces(const Attrs& a, const Shape& shape) {
    return a.size != 0 ? count_of(shape[a.axis], a.size) : static_cast<int64_t>(a.list.size());
  }
  static Sizes sizes(const Attrs& a, const Shape& shape) {
    if (a.size != 0) return equal_sizes(shape[a.axis], a.size);
    int64_t left = shape[a.axis];
    for (int64_t n : a.list) left = n < 0 || n > left ? -1 : left - n;
    if (left != 0) {
      std::string sizes;
      for (int64_t n : a.list) absl::StrAppend(&sizes, sizes.empty() ? "" : ",", n);
      throw ShapeError(absl::StrCat("split: x is ", shape.str(), "; the sizes {", sizes,
                                    "} must add up to that of axis ", a.axis));
    }
    return a.list;
  }
};
EBB_OP(Split)

struct Chunk : PiecesOp<Chunk, ChunkAttrs> {
  static constexpr OpDoc kDoc{"chunk", "y0, y1, .. = as many pieces of x of the same size",
                              "x:[..,n,..] -> y0:[..,m,..] y1:[..,m,..] .."};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("axis=", a.axis, " chunks=", a.chunks);
  }
  static int64_t pieces(const Attrs& a, const Shape& shape) {
    const int64_t n = shape[a.axis];
    return n == 0 ? a.chunks : count_of(n, (n - 1) / a.chunks + 1);
  }
  static Sizes sizes(const Attrs& a, const Shape& shape) {
    const int64_t n = shape[a.axis];
    if (n == 0) return Sizes(static_cast<size_t>(a.chunks), 0);
    return equal_sizes(n, (n - 1) / a.chunks + 1);
  }
};
EBB_OP(Chunk)

struct Unbind {
  static constexpr OpDoc kDoc{"unbind", "y0, y1, .. = the slices of x along an axis",
                              "x:[..,n,..] -> y0:[..,..] .. y(n-1):[..,..]"};
  static constexpr bool kView = true;
  using Attrs = AxisAttrs;
  static std::string describe(const Attrs& a) { return describe_axis(a); }
  static constexpr GradUses uses(int) { return {.shapes = 1}; }
  static Shape slice_shape(const Attrs& a, const Shape& from) {
    Shape shape;
    for (int i = 0; i < from.rank(); ++i) {
      if (i != a.axis) shape.push_back(from[i]);
    }
    return shape;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    const int64_t n = in[0].shape[a.axis];
    if (n > UINT16_MAX) {
      throw ValueError(absl::StrCat("unbind: x is ", in[0].shape.str(), "; ", n,
                                    " pieces are more than ", UINT16_MAX));
    }
    return Metas(static_cast<size_t>(n), Meta{in[0].dtype, slice_shape(a, in[0].shape)});
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    for (size_t j = 0; j < out.size(); ++j) {
      out[j] = view_of(in[0], slice_of(in[0], a.axis, static_cast<int64_t>(j)));
    }
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor zeros(zeros_view(s.in_dtype(0), slice_shape(a, s.in_shape(0))));
    TensorList pieces;
    for (int j = 0; j < s.n_outputs(); ++j) pieces.push_back(g.has(j) ? g[j] : zeros);
    return {stack(pieces, a.axis)};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const int axis = s.attrs<Attrs>().axis;
    Array gx = Array::empty(s.in_dtype(0), s.in_shape(0));
    for (int j = 0; j < s.n_outputs(); ++j) {
      const Array to = view_of(gx, slice_of(gx, axis, j));
      copy_into(to, g.has(j) ? g[j] : zeros_view(gx.dtype(), to.shape()));
    }
    sink.add(0, std::move(gx));
  }
};
EBB_OP(Unbind)

namespace {

template <class Op>
Tensor join_tensors(Span<const Tensor> tensors, int64_t axis, int extra_axes, Where where) {
  const char* name = Op::kDoc.name;
  bool one_type = true;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined()) {
      throw ValueError(absl::StrCat(name, ": tensor ", i, " is undefined"));
    }
    one_type &= tensors[i].dtype() == tensors[0].dtype();
  }
  TensorList converted;
  if (!one_type) {
    DType type = tensors[0].dtype();
    for (const Tensor& t : tensors) type = promote_types(type, t.dtype());
    for (const Tensor& t : tensors) converted.push_back(cast(t, type, where));
    tensors = converted;
  }
  // Where there is no tensor infer says so.
  return apply_span<Op>(
      {tensors.empty() ? 0 : normalize_axis(axis, tensors[0].dim() + extra_axes, name)}, tensors,
      where);
}

int axis_of(const Tensor& x, int64_t axis, const char* op) {
  if (x.dim() == 0) throw IndexError(absl::StrCat(op, ": x is a scalar"));
  return normalize_axis(axis, x.dim(), op);
}

template <class Op>
TensorList take_apart(const typename Op::Attrs& attrs, const Tensor& x, Where where) {
  auto out = apply_multi<Op>(attrs, At(x, where));
  return TensorList(std::make_move_iterator(out.begin()), std::make_move_iterator(out.end()));
}

}  // namespace
}  // namespace ops

Tensor cat(Span<const Tensor> tensors, int64_t axis, Where where) {
  return ops::join_tensors<ops::Cat>(tensors, axis, 0, where);
}

Tensor stack(Span<const Tensor> tensors, int64_t axis, Where where) {
  return ops::join_tensors<ops::Stack>(tensors, axis, 1, where);
}

TensorList split(const Tensor& x, int64_t size, int64_t axis, Where where) {
  const int at = ops::axis_of(x, axis, "split");
  if (size < 1)
    throw ValueError(absl::StrCat("split: the size is ", size, "; it must be positive"));
  return ops::take_apart<ops::Split>({at, size, {}}, x, where);
}

TensorList split(const Tensor& x, Span<const int64_t> sizes, int64_t axis, Where where) {
  const int at = ops::axis_of(x, axis, "split");
  return ops::take_apart<ops::Split>({at, 0, ops::Sizes(sizes.begin(), sizes.end())}, x, where);
}

TensorList chunk(const Tensor& x, int64_t chunks, int64_t axis, Where where) {
  const int at = ops::axis_of(x, axis, "chunk");
  if (chunks < 1) {
    throw ValueError(absl::StrCat("chunk: ", chunks, " chunks; there must be one at least"));
  }
  return ops::take_apart<ops::Chunk>({at, chunks}, x, where);
}

TensorList unbind(const Tensor& x, int64_t axis, Where where) {
  return ops::take_apart<ops::Unbind>({ops::axis_of(x, axis, "unbind")}, x, where);
}

void detail::chunk_exactly(const Tensor& x, int64_t axis, Where where, Span<Tensor> out) {
  const int at = ops::axis_of(x, axis, "chunk");
  const auto n = static_cast<int64_t>(out.size());
  if (x.value().size(at) % n != 0) {
    throw ShapeError(absl::StrCat("chunk: x is ", x.shape().str(), ", which has no ", n,
                                  " equal parts along axis ", at));
  }
  auto pieces = apply_multi<ops::Chunk>({at, n}, At(x, where));
  std::move(pieces.begin(), pieces.end(), out.begin());
}

}  // namespace ebb
