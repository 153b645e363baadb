// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/linalg.h"

#include <algorithm>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/call.h"
#include "ebb/autograd/leaf.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/product.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

// "mm: a is [3,4], b is [5,6]; " and what is wrong.
template <class... Why>
[[noreturn]] void misfit(const OpDoc& doc, Span<const Meta> in, Span<const char* const> names,
                         const Why&... why) {
  std::string message = absl::StrCat(doc.name, ": ");
  for (size_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : ", ", names[i], " is ", in[i].shape.str());
  }
  throw ShapeError(absl::StrCat(message, "; ", why...));
}

constexpr const char* kAb[] = {"a", "b"};

void require_ranks(const OpDoc& doc, Span<const Meta> in, Span<const char* const> names,
                   std::initializer_list<int> ranks) {
  require_inputs(doc, in, ranks.size());
  require_floating(doc, in);
  require_same_dtype(doc, in);
  size_t i = 0;
  for (const int r : ranks) {
    if (in[i].shape.rank() != r) {
      misfit(doc, in, names, names[i], " must have rank ", r, ", not ", in[i].shape.rank());
    }
    ++i;
  }
}

// Axis `i` of input x and axis `j` of input y, counted from the last, must be of one size.
void require_equal(const OpDoc& doc, Span<const Meta> in, Span<const char* const> names, size_t x,
                   int i, size_t y, int j) {
  const int64_t a = in[x].shape[in[x].shape.rank() + i];
  const int64_t b = in[y].shape[in[y].shape.rank() + j];
  if (a == b) return;
  misfit(doc, in, names, names[x], ".size(", i, ")=", a, " must equal ", names[y], ".size(", j,
         ")=", b);
}

// Of a product that sums over k terms for each element of the result.
Cost product_cost(Span<const Meta> in, Span<const Meta> out, int64_t k) {
  Cost c = detail::default_cost(in, out);
  c.multiply_adds = static_cast<double>(out[0].shape.numel()) * static_cast<double>(k);
  return c;
}

int64_t last_size(const Shape& s) { return s[s.rank() - 1]; }

constexpr GradUses uses_other(int input) { return {.in = detail::bit(1 - input)}; }

// All axes but the last joined to one.
Shape rows_of(const Shape& s) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < s.rank(); ++i) rows *= s[i];
  return {rows, last_size(s)};
}
Array rows_of(const Array& a) { return contiguous(a).view_as(rows_of(a.shape())); }
Tensor rows_of(const Tensor& x) { return x.dim() == 2 ? x : reshape(x, rows_of(x.shape())); }

Tensor with_shape(const Tensor& x, const Shape& shape) {
  return x.shape() == shape ? x : reshape(x, shape);
}

}  // namespace

struct Dot {
  static constexpr OpDoc kDoc{"dot", "y = sum_i a[i] b[i]", "a:[n] b:[n] -> y:[]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return uses_other(input); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, kAb, {1, 1});
    require_equal(kDoc, in, kAb, 0, -1, 1, -1);
    return {{in[0].dtype, {}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_dot(in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[0].shape[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? g[0] * s.in(1) : Tensor(), s.needs(1) ? g[0] * s.in(0) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const double scale = g[0].item();
    for (int i = 0; i < 2; ++i) {
      if (s.needs(i)) sink.add(i, scaled(s.in_array(1 - i), scale));
    }
  }
};
EBB_OP(Dot)

struct OuterProduct {
  static constexpr OpDoc kDoc{"outer", "y[i,j] = u[i] v[j]", "u:[m] v:[n] -> y:[m,n]"};
  struct Attrs {};
  static constexpr const char* kNames[] = {"u", "v"};
  static constexpr GradUses uses(int input) { return uses_other(input); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, kNames, {1, 1});
    return {{in[0].dtype, {in[0].shape[0], in[1].shape[0]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_outer(in[0], in[1], out[0]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? mv(g[0], s.in(1)) : Tensor(),
            s.needs(1) ? mv(t(g[0]), s.in(0)) : Tensor()};
  }
};
EBB_OP(OuterProduct)

struct Mv {
  static constexpr OpDoc kDoc{"mv", "y = a x", "a:[m,k] x:[k] -> y:[m]"};
  struct Attrs {};
  static constexpr const char* kNames[] = {"a", "x"};
  static constexpr GradUses uses(int input) { return uses_other(input); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, kNames, {2, 1});
    require_equal(kDoc, in, kNames, 0, -1, 1, -1);
    return {{in[0].dtype, {in[0].shape[0]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_mv(false, in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[0].shape[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? outer(g[0], s.in(1)) : Tensor(),
            s.needs(1) ? mv(t(s.in(0)), g[0]) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    mv_gradients(s, g[0], sink);
  }
  static uint64_t product_weights(const Saved& s) { return s.needs(1) ? detail::bit(0) : 0; }
};
EBB_OP(Mv)

struct Mm {
  static constexpr OpDoc kDoc{"mm", "y = a b", "a:[m,k] b:[k,n] -> y:[m,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return uses_other(input); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, kAb, {2, 2});
    require_equal(kDoc, in, kAb, 0, -1, 1, -2);
    return {{in[0].dtype, {in[0].shape[0], in[1].shape[1]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_mm(false, false, in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[0].shape[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? mm(g[0], t(s.in(1))) : Tensor(),
            s.needs(1) ? mm(t(s.in(0)), g[0]) : Tensor()};
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    mm_gradients(s, g[0], sink);
  }
};
EBB_OP(Mm)

struct Bmm {
  static constexpr OpDoc kDoc{"bmm", "y[i] = a[i] b[i]", "a:[b,m,k] b:[b,k,n] -> y:[b,m,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) { return uses_other(input); }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_ranks(kDoc, in, kAb, {3, 3});
    require_equal(kDoc, in, kAb, 0, -3, 1, -3);
    require_equal(kDoc, in, kAb, 0, -1, 1, -2);
    return {{in[0].dtype, {in[0].shape[0], in[0].shape[1], in[1].shape[2]}}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    run_matmul(in[0], in[1], out[0]);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[0].shape[2]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    return {s.needs(0) ? bmm(g[0], transpose(s.in(1), 1, 2)) : Tensor(),
            s.needs(1) ? bmm(transpose(s.in(0), 1, 2), g[0]) : Tensor()};
  }
};
EBB_OP(Bmm)

struct Matmul {
  static constexpr OpDoc kDoc{"matmul", "y = a b, over the last two axes",
                              "a:[...,m,k] b:[...,k,n] -> y:[...,m,n]"};
  struct Attrs {};
  static constexpr GradUses uses(int input) {
    return {.in = detail::bit(1 - input), .shapes = detail::bit(input)};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    const Shape& a = in[0].shape;
    const Shape& b = in[1].shape;
    if (a.rank() == 0 || b.rank() == 0) misfit(kDoc, in, kAb, "neither may be a scalar");
    require_equal(kDoc, in, kAb, 0, -1, 1, b.rank() == 1 ? -1 : -2);
    const auto leading = [](const Shape& s) {
      return Shape(s.data(), static_cast<size_t>(std::max(s.rank() - 2, 0)));
    };
    Shape out;
    if (!broadcast_shapes(leading(a), leading(b), &out)) {
      misfit(kDoc, in, kAb,
             "the axes before the last two must be equal or 1, from the last one on");
    }
    if (a.rank() > 1) out.push_back(a[a.rank() - 2]);
    if (b.rank() > 1) out.push_back(last_size(b));
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array& a = in[0];
    const Array& b = in[1];
    if (b.rank() == 1) {
      if (a.rank() == 1) return run_dot(a, b, out[0]);
      if (a.rank() == 2) return run_mv(false, a, b, out[0]);
    } else if (a.rank() == 1 && b.rank() == 2) {
      return run_mv(true, b, a, out[0]);
    }
    Shape shape = out[0].shape();
    if (b.rank() == 1) shape.push_back(1);
    if (a.rank() == 1) {
      shape.push_back(last_size(shape));
      shape[shape.rank() - 2] = 1;
    }
    run_matmul(row(a), column(b), out[0].view_as(shape));
  }
  // A vector on the left as a matrix of one row, one on the right as a column.
  static Array row(const Array& a) {
    const int64_t strides[] = {0, a.stride(0)};
    return a.rank() == 1 ? a.view({1, a.size(0)}, strides, 0) : a;
  }
  static Array column(const Array& b) {
    const int64_t strides[] = {b.stride(0), 1};
    return b.rank() == 1 ? b.view({b.size(0), 1}, strides, 0) : b;
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, last_size(in[0].shape));
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Shape a = s.in_shape(0);
    const Shape b = s.in_shape(1);
    if (a.rank() == 1 && b.rank() == 1) {
      return {s.needs(0) ? g[0] * s.in(1) : Tensor(), s.needs(1) ? g[0] * s.in(0) : Tensor()};
    }
    // Both as matrices, and the gradient with them.
    Tensor gy = g[0];
    if (a.rank() == 1) gy = unsqueeze(gy, -2);
    if (b.rank() == 1) gy = unsqueeze(gy, -1);
    Grads result(2);
    if (s.needs(0)) {
      const Tensor mb = b.rank() == 1 ? unsqueeze(s.in(1), 1) : s.in(1);
      const Shape to = a.rank() == 1 ? Shape{1, a[0]} : a;
      result[0] = with_shape(sum_to(matmul(gy, transpose(mb, -2, -1)), to), a);
    }
    if (s.needs(1)) {
      Tensor ma = a.rank() == 1 ? unsqueeze(s.in(0), 0) : s.in(0);
      if (b.rank() <= 2 && ma.dim() > 2) {  // one product of all rows, rather than a sum of many
        ma = rows_of(ma);
        gy = rows_of(gy);
      }
      const Shape to = b.rank() == 1 ? Shape{b[0], 1} : b;
      result[1] = with_shape(sum_to(matmul(transpose(ma, -2, -1), gy), to), b);
    }
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Shape a = s.in_shape(0);
    const Shape b = s.in_shape(1);
    const Array& gy = g[0];
    if (a.rank() == 1 && b.rank() == 1) return Dot::backward_values(s, g, sink);
    if (a.rank() == 2 && b.rank() == 1) return mv_gradients(s, gy, sink);
    if (a.rank() == 2 && b.rank() == 2) return mm_gradients(s, gy, sink);
    if (a.rank() == 1 && b.rank() == 2) {
      if (s.needs(0)) transpose_times(true, s, 1, gy, 0, sink);
      if (s.needs(1)) sink.add(1, product_gradient(s, 1, {s.in_array(0), 0}, {gy}));
      return;
    }
    if (a.rank() == 1 || b.rank() != 2) return run_rule(&backward, s, g, sink);
    if (s.needs(0)) {
      Array ga = Array::empty(gy.dtype(), a);
      run_mm(false, true, rows_of(gy), s.in_array(1), rows_of(ga));
      sink.add(0, std::move(ga));
    }
    if (s.needs(1)) {
      sink.add(1, product_gradient(s, 1, {rows_of(s.in_array(0)), 0}, {rows_of(gy)}));
    }
  }
  static uint64_t product_weights(const Saved& s) {
    const int a = s.in_shape(0).rank();
    const int b = s.in_shape(1).rank();
    if (a == 2 && b == 1) return s.needs(1) ? detail::bit(0) : 0;
    return a == 1 && b == 2 && s.needs(0) ? detail::bit(1) : 0;
  }
};
EBB_OP(Matmul)

struct Addmm {
  static constexpr OpDoc kDoc{"addmm", "y = beta input + alpha a b",
                              "input:[...] a:[m,k] b:[k,n] -> y:[m,n]"};
  using Attrs = AddmmOptions;
  static constexpr const char* kNames[] = {"input", "a", "b"};
  static std::string describe(const Attrs& a) {
    return absl::StrCat("beta=", a.beta, " alpha=", a.alpha);
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.shapes = 0b001} : GradUses{.in = detail::bit(3 - input)};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_ranks(kDoc, in, kNames, {in[0].shape.rank(), 2, 2});
    require_equal(kDoc, in, kNames, 1, -1, 2, -2);
    const Shape out{in[1].shape[0], in[2].shape[1]};
    Shape joint;
    if (!broadcast_shapes(in[0].shape, out, &joint) || joint != out) {
      misfit(kDoc, in, kNames, "input must broadcast to ", out.str());
    }
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    if (a.beta != 0) {
      int64_t strides[kMaxRank];
      broadcast_strides(in[0], out[0].shape(), strides);
      copy_into(out[0], in[0].view(out[0].shape(), strides, 0));
    }
    run_mm(false, false, in[1], in[2], out[0], a.alpha, a.beta);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[1].shape[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    Grads result(3);
    if (s.needs(0)) {
      const Tensor sum = sum_to(g[0], s.in_shape(0));
      result[0] = a.beta == 1 ? sum : sum * a.beta;
    }
    if (!s.needs(1) && !s.needs(2)) return result;
    const Tensor gy = a.alpha == 1 ? g[0] : g[0] * a.alpha;
    if (s.needs(1)) result[1] = mm(gy, t(s.in(2)));
    if (s.needs(2)) result[2] = mm(t(s.in(1)), gy);
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    if (s.needs(0)) {
      const Tensor sum = sum_to(Tensor(g[0]), s.in_shape(0));
      sink.add(0, a.beta == 1 ? sum.value() : scaled(sum.value(), a.beta));
    }
    mm_gradients(s, g[0], sink, 1, a.alpha);
  }
};
EBB_OP(Addmm)

struct Linear {
  static constexpr OpDoc kDoc{"linear", "y = x weight' + bias",
                              "x:[...,k] weight:[n,k] bias:[n] -> y:[...,n]"};
  struct Attrs {};
  static constexpr const char* kNames[] = {"x", "weight", "bias"};
  static constexpr GradUses uses(int input) {
    return input < 2 ? GradUses{.in = detail::bit(1 - input)} : GradUses{};
  }
  static Metas infer(const Attrs&, Span<const Meta> in) {
    const bool has_bias = in.size() == 3;
    require_inputs(kDoc, in, has_bias ? 3 : 2);
    const Span<const char* const> names = Span<const char* const>(kNames).first(in.size());
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    if (in[0].shape.rank() == 0) misfit(kDoc, in, names, "x may not be a scalar");
    if (in[1].shape.rank() != 2) misfit(kDoc, in, names, "weight must have rank 2");
    require_equal(kDoc, in, names, 0, -1, 1, -1);
    if (has_bias) {
      if (in[2].shape.rank() != 1) misfit(kDoc, in, names, "bias must have rank 1");
      require_equal(kDoc, in, names, 2, -1, 1, -2);
    }
    Shape out = in[0].shape;
    out[out.rank() - 1] = in[1].shape[0];
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs&, Span<const Array> in, Span<Array> out) {
    const Array& y = out[0];
    const bool has_bias = in.size() == 3;
    if (has_bias) {
      if (y.rank() == 1) {
        copy_into(y, in[2]);
      } else {
        int64_t strides[kMaxRank] = {};
        strides[y.rank() - 1] = in[2].stride(0);
        copy_into(y, in[2].view(y.shape(), strides, 0));
      }
    }
    const double beta = has_bias ? 1 : 0;
    if (y.rank() == 1) return run_mv(false, in[1], in[0], y, beta);
    run_mm(false, true, rows_of(in[0]), in[1], rows_of(y), 1, beta);
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return product_cost(in, out, in[1].shape[1]);
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    Grads result(static_cast<size_t>(s.n_inputs()));
    if (s.needs(0)) result[0] = matmul(g[0], s.in(1));
    if (s.needs(1)) {
      const Tensor x = s.in(0);
      result[1] = x.dim() == 1 ? outer(g[0], x) : mm(t(rows_of(g[0])), rows_of(x));
    }
    if (s.n_inputs() == 3 && s.needs(2)) result[2] = sum_to(g[0], {g[0].size(-1)});
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const bool vector = g[0].rank() == 1;
    const Array gy = vector ? g[0] : rows_of(g[0]);
    if (s.needs(0) && vector) {
      transpose_times(false, s, 1, gy, 0, sink);
    } else if (s.needs(0)) {
      const Array& w = s.in_array(1);
      Shape shape = g[0].shape();
      shape[shape.rank() - 1] = w.size(1);
      Array gx = Array::empty(w.dtype(), shape);
      run_mm(false, false, gy, w, rows_of(gx));
      sink.add(0, std::move(gx));
    }
    if (s.needs(1)) {
      const Array& x = s.in_array(0);
      sink.add(1, product_gradient(s, 1, {gy}, {vector ? x : rows_of(x), 0}));
    }
    if (s.n_inputs() < 3 || !s.needs(2)) return;
    if (vector) return sink.add(2, gy);
    Array sum = Array::zeros(gy.dtype(), {gy.size(1)});
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      const auto n = static_cast<size_t>(gy.size(1));
      const T* row = gy.data<T>();
      for (int64_t i = 0; i < gy.size(0); ++i, row += n) {
        kernels::add_into(row, sum.mutable_data<T>(), n);
      }
    });
    sink.add(2, std::move(sum));
  }
  static uint64_t product_weights(const Saved& s) {
    const bool vector = !s.has_in_shape(0) || s.in_shape(0).rank() == 1;
    return vector && s.needs(0) ? detail::bit(1) : 0;
  }
};
EBB_OP(Linear)

namespace {

bool is_lazy(const Tensor& t) {
  const detail::Node* n = t.edge().node();
  return n != nullptr && (n->flags() & detail::Node::kLazy) != 0;
}

// Linear on a vector, which adds to the weight the product that an optimiser has put off while it
// reads it.
constexpr OpDef kLinearUpdating = [] {
  OpDef d = make_op_def<Linear>();
  d.catches_up = true;
  d.forward = [](const void* attrs, Span<const Array> in, Span<Array> out) {
    detail::Leaf& leaf = **static_cast<detail::Leaf* const*>(attrs);
    const detail::LeafLock lock(leaf);
    if (leaf.lazy == nullptr) return Linear::forward({}, in, out);  // another thread was here
    const bool has_bias = in.size() == 3;
    if (has_bias) copy_into(out[0], in[2]);
    leaf.lazy->catch_up_and_multiply(leaf, contiguous(in[0]), out[0], has_bias ? 1 : 0);
  };
  return d;
}();

// Undefined where the op has to go its usual way.
Tensor linear_updating(const Tensor& x, const Tensor& weight, const Tensor& bias, Where where) {
  auto* leaf = static_cast<detail::Leaf*>(weight.edge().node());
  if (!leaf->owes_product() || x.dim() != 1 || is_lazy(x) || is_lazy(bias) ||
      weight.value().rep() != leaf->value().rep()) {  // a tensor from before set_value()
    return {};
  }
  const Tensor* in[] = {&x, &weight, &bias};
  return detail::apply_one(kLinearUpdating, &leaf, {in, bias.defined() ? 3u : 2u}, where);
}

}  // namespace

}  // namespace ops

Tensor dot(const Tensor& a, const Tensor& b, Where where) {
  return detail::apply_compiled<ops::Dot>({}, where, a, b);
}
Tensor outer(const Tensor& u, const Tensor& v, Where where) {
  return detail::apply_compiled<ops::OuterProduct>({}, where, u, v);
}
Tensor mv(const Tensor& a, const Tensor& x, Where where) {
  return detail::apply_compiled<ops::Mv>({}, where, a, x);
}
Tensor mm(const Tensor& a, const Tensor& b, Where where) {
  return detail::apply_compiled<ops::Mm>({}, where, a, b);
}
Tensor bmm(const Tensor& a, const Tensor& b, Where where) {
  return apply<ops::Bmm>(At(a, where), b);
}
Tensor matmul(const Tensor& a, const Tensor& b, Where where) {
  return detail::apply_compiled<ops::Matmul>({}, where, a, b);
}
Tensor addmm(const Tensor& input, const Tensor& a, const Tensor& b, const AddmmOptions& options,
             Where where) {
  return apply_with<ops::Addmm>(options, At(input, where), a, b);
}
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Where where) {
  if (ops::is_lazy(weight)) {
    Tensor y = ops::linear_updating(x, weight, bias, where);
    if (y.defined()) return y;
  }
  if (!bias.defined()) return detail::apply_compiled<ops::Linear>({}, where, x, weight);
  return detail::apply_compiled<ops::Linear>({}, where, x, weight, bias);
}

Tensor Tensor::matmul(const Tensor& other, Where where) const {
  return ebb::matmul(*this, other, where);
}

}  // namespace ebb
