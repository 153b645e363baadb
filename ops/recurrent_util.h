// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/product.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

// What the recurrent ops share: one step of a unit or all steps of a sequence, from the matrix
// products to the gradients of the weights. Not for users.
//
// The unit of an op is a policy:
//   kGates    rows of the weights, in units of the hidden size
//   kOutputs  y, for an LSTM the states c, and what is kept for the gradient
//   kWork     which output that is, [..., kWidth * hidden]; the products are summed in its rows
//   kState    there is a state c beside h
//   kReadsH   the gradient reads the h that flowed in
//   kSplit    the products of x and of h are kept apart
//   forward, backward    a row of one step, by a kernel
//   rule                 the gradient of a step in tensors
namespace ebb::ops {

/// The inputs by number; all but x and the weights may be absent.
enum RecurrentInput : int { kX, kH, kWeightIh, kWeightHh, kBiasIh, kBiasHh, kC, kPeephole };
inline constexpr const char* kRecurrentNames[] = {"x",       "h",       "weight_ih", "weight_hh",
                                                  "bias_ih", "bias_hh", "c",         "peephole"};

struct RecurrentAttrs {
  uint8_t given = 0b111111;  // bit i: input i is there
  bool reverse = false;
  bool relu = false;  // of the plain unit: instead of tanh

  bool has(int input) const { return (given >> input & 1) != 0; }
};

/// The sizes of a call; `batch` is 1 where there is no such axis.
struct UnitSizes {
  int64_t steps;
  int64_t batch;
  int64_t hidden;

  int64_t rows() const { return steps * batch; }
};

/// One row of one step.
template <class T>
struct StepForward {
  size_t n;
  T* gates;         // sums of the products, in a row of the work output
  const T* hidden;  // where the unit is split: the product of h
  const T* h;       // null for 0, as c
  const T* c;
  const T* peephole;
  T* y;
  T* c_out;
  bool relu;
};

template <class T>
struct StepBackward {
  size_t n;
  const T* work;
  const T* h;
  const T* c;
  const T* peephole;
  const T* g;  // null for 0, as gc
  const T* gc;
  T* dinput;   // gradient of the product of x
  T* dhidden;  // of the product of h; dinput where the unit is not split
  T* dh;       // null where not wanted, as dc
  T* dc;
  bool relu;
};

/// One step in tensors, [hidden] or [batch, hidden]. An undefined gradient or state is 0.
struct StepRule {
  Tensor work;
  Tensor gwork;
  Tensor h;
  Tensor c;
  Tensor c_out;  // where the gradient of the peephole is wanted
  std::array<Tensor, 3> peephole;
  Tensor g;
  Tensor gc;
  bool relu;

  Tensor dinput;
  Tensor dhidden;
  Tensor dh;  // but for what comes through the product
  Tensor dc;
  Tensor dpeephole;  // [..., 3 * hidden]
};

// Sums and products in which an undefined tensor is 0.
inline Tensor plus(const Tensor& a, const Tensor& b) {
  return !a.defined() ? b : !b.defined() ? a : a + b;
}
inline Tensor times(const Tensor& a, const Tensor& b) {
  return a.defined() && b.defined() ? a * b : Tensor();
}
inline Tensor or_zeros(const Tensor& x, const Tensor& like) {
  return x.defined() ? x : Tensor(Array::zeros(like.dtype(), like.shape()));
}
/// g times the derivative of a function where its value is y.
inline Tensor through_sigmoid(const Tensor& g, const Tensor& y) { return times(g, y * (1.0 - y)); }
inline Tensor through_tanh(const Tensor& g, const Tensor& y) { return times(g, 1.0 - y * y); }
/// As many equal parts of the last axis; undefined ones of an undefined tensor.
template <size_t N>
std::array<Tensor, N> parts_of(const Tensor& x) {
  return x.defined() ? chunk<N>(x, -1) : std::array<Tensor, N>();
}

/// The step of an LSTM whose work is i, f, g, o, tanh(c'), the gradients of which are `gwork`.
void lstm_rule(StepRule& s, const std::array<Tensor, 5>& gwork);

/// `a` where it is contiguous, else a copy of it that is. Refers to `a`, which may be undefined,
/// and must outlive it.
class Dense {
 public:
  explicit Dense(const Array& a)
      : copy_(a.defined() && !a.is_contiguous() ? contiguous(a) : Array()),
        array_(copy_.defined() ? copy_ : a) {}
  Dense(const Dense&) = delete;
  Dense& operator=(const Dense&) = delete;

  const Array& operator*() const { return array_; }
  const Array* operator->() const { return &array_; }

 private:
  const Array copy_;
  const Array& array_;
};

/// to [rows, out] += x [rows, in] w' for the weight w [out, in].
template <class T>
void add_product(int64_t rows, int64_t in, int64_t out, const T* x, const Matrices& w, T* to,
                 int64_t ld) {
  if (rows == 1) {
    kernels::gemv(w.trans(), w.trans() ? in : out, w.trans() ? out : in, T{1}, w.data<T>(), w.ld(),
                  x, T{1}, to);
  } else {
    kernels::gemm(false, !w.trans(), rows, out, in, T{1}, x, in, w.data<T>(), w.ld(), T{1}, to, ld);
  }
}

/// to [rows, in] = g [rows, out] w + beta to: the gradient of x.
template <class T>
void product_back(int64_t rows, int64_t in, int64_t out, const T* g, const Matrices& w, T beta,
                  T* to) {
  if (rows == 1) {
    kernels::gemv(!w.trans(), w.trans() ? in : out, w.trans() ? out : in, T{1}, w.data<T>(), w.ld(),
                  g, beta, to);
  } else {
    kernels::gemm(false, w.trans(), rows, in, out, T{1}, g, out, w.data<T>(), w.ld(), beta, to, in);
  }
}

/// The sum of the biases that are there, or 0, in every row.
template <class T>
void fill_rows(int64_t rows, int64_t n, const T* bias, const T* other, T* to, int64_t ld) {
  if (rows == 0) return;
  const size_t bytes = static_cast<size_t>(n) * sizeof(T);
  if (bias == nullptr) std::swap(bias, other);
  if (bias == nullptr) {
    std::memset(to, 0, bytes);
  } else {
    std::memcpy(to, bias, bytes);
  }
  if (other != nullptr) kernels::add_into(other, to, static_cast<size_t>(n));
  for (int64_t r = 1; r < rows; ++r) std::memcpy(to + r * ld, to, bytes);
}

/// All axes but the last as one; a vector stays one.
Array matrix_of(const Array& a);
/// Sum over all axes but the last.
Array column_sums(const Array& a);
/// Rows [first, first + count) of a contiguous matrix.
Array row_range(const Array& a, int64_t first, int64_t count);
Tensor matrix_of(const Tensor& x);

/// Shapes and types of the inputs of a unit with that many gates, or an exception; the shape of y.
Meta infer_unit(const OpDoc& doc, const RecurrentAttrs& a, Span<const Meta> in, int gates,
                bool sequence);

template <class Op, class Unit, bool kSequence>
struct RecurrentOp {
  using Attrs = RecurrentAttrs;
  static constexpr int kInputs = Unit::kState ? 8 : 6;
  static constexpr bool kAbsentInputs = true;

  static std::string describe(const Attrs& a) {
    return absl::StrCat(a.reverse ? "reverse" : "", a.relu ? "relu" : "");
  }
  static constexpr GradUses uses(int input) {
    using detail::bit;
    GradUses u{.out = bit(Unit::kWork)};
    if (Unit::kReadsH) u |= {.in = bit(kH), .out = kSequence ? bit(0) : 0};
    if (Unit::kState) u |= {.in = bit(kC) | bit(kPeephole), .out = kSequence ? bit(1) : 0};
    if (kSequence) u.in |= bit(kWeightHh);
    if (input == kX) u.in |= bit(kWeightIh);
    if (input == kH) u.in |= bit(kWeightHh);
    if (input == kWeightIh) u.in |= bit(kX);
    if (input == kWeightHh) u |= {.in = bit(kH), .out = kSequence ? bit(0) : 0};
    if (input == kPeephole) u.out |= bit(1);
    return u;
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, kInputs);
    const Meta y = infer_unit(Op::kDoc, a, in, Unit::kGates, kSequence);
    Metas out(Unit::kOutputs, y);
    out[Unit::kWork].shape[y.shape.rank() - 1] *= Unit::kWidth;
    return out;
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const Shape& w = in[kWeightHh].shape;
    const double rows = static_cast<double>(out[0].shape.numel()) / static_cast<double>(w[1]);
    c.multiply_adds += rows * static_cast<double>(w.numel() + in[kWeightIh].shape.numel());
    return c;
  }

  // A row or matrix of the work output, or of one like y.
  static UnitSizes sizes_of(const Array& work) {
    const int batch_axis = kSequence ? 1 : 0;
    return {kSequence ? work.size(0) : 1, work.rank() == batch_axis + 2 ? work.size(batch_axis) : 1,
            work.size(work.rank() - 1) / Unit::kWidth};
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    visit_differentiable(in[kX].dtype(), [&](auto t) { run_steps<decltype(t)>(a, in, out); });
  }

  template <class T>
  static void run_steps(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const UnitSizes z = sizes_of(out[Unit::kWork]);
    const int64_t n = z.hidden;
    const int64_t width = n * Unit::kWidth;
    const int64_t gates = n * Unit::kGates;
    const int64_t state = z.batch * n;
    Array held[kInputs];  // contiguous forms
    const auto data = [&](int i) -> const T* {
      if (i >= kInputs || !a.has(i)) return nullptr;
      if (in[i].is_contiguous()) return in[i].template data<T>();
      held[i] = contiguous(in[i]);
      return held[i].template data<T>();
    };
    const T* x = data(kX);
    const T* h = data(kH);
    const T* c = data(kC);
    const T* peephole = data(kPeephole);
    const T* bias_ih = data(kBiasIh);
    const T* bias_hh = data(kBiasHh);
    const Matrices w_ih(in[kWeightIh]);
    const Matrices w_hh(in[kWeightHh]);
    T* const y = out[0].mutable_data<T>();
    T* const work = out[Unit::kWork].template mutable_data<T>();
    T* const cs = Unit::kState ? out[1].mutable_data<T>() : nullptr;
    Array scratch;
    T* hidden = nullptr;
    if (Unit::kSplit) {
      scratch = Array::empty(in[kX].dtype(), {z.batch, gates});
      hidden = scratch.mutable_data<T>();
    }

    fill_rows(z.rows(), gates, bias_ih, Unit::kSplit ? nullptr : bias_hh, work, width);
    add_product(z.rows(), in[kX].size(in[kX].rank() - 1), gates, x, w_ih, work, width);
    for (int64_t i = 0; i < z.steps; ++i) {
      const int64_t at = a.reverse ? z.steps - 1 - i : i;
      T* const sums = work + at * z.batch * width;
      if (Unit::kSplit) {
        fill_rows<T>(z.batch, gates, bias_hh, nullptr, hidden, gates);
        if (h != nullptr) add_product(z.batch, n, gates, h, w_hh, hidden, gates);
      } else if (h != nullptr) {
        add_product(z.batch, n, gates, h, w_hh, sums, width);
      }
      for (int64_t b = 0; b < z.batch; ++b) {
        const int64_t row = at * state + b * n;
        Unit::forward(StepForward<T>{
            static_cast<size_t>(n), sums + b * width, Unit::kSplit ? hidden + b * gates : nullptr,
            h == nullptr ? nullptr : h + b * n, c == nullptr ? nullptr : c + b * n, peephole,
            y + row, Unit::kState ? cs + row : nullptr, a.relu});
      }
      h = y + at * state;
      if (Unit::kState) c = cs + at * state;
    }
  }

  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    // A gradient of what is kept comes only from a gradient that was differentiated.
    if (Unit::kWork != 0 && g.has(Unit::kWork)) return run_rule(&backward, s, g, sink);
    visit_differentiable(s.out_array(Unit::kWork).dtype(),
                         [&](auto t) { play_steps<decltype(t)>(s, g, sink); });
  }

  template <class T>
  static void play_steps(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& work = s.out_array(Unit::kWork);
    const DType dtype = work.dtype();
    const UnitSizes z = sizes_of(work);
    const int64_t n = z.hidden;
    const int64_t gates = n * Unit::kGates;
    const int64_t state = z.batch * n;
    Shape shape = work.shape();
    shape[shape.rank() - 1] = gates;
    const Array dinput = Array::empty(dtype, shape);
    const Array dhidden = Unit::kSplit ? Array::empty(dtype, shape) : dinput;
    const Shape state_shape = shape_of_state(work, n);

    const Array none;
    const auto saved = [&](bool reads, int input) -> const Array& {
      return reads && a.has(input) ? s.in_array(input) : none;
    };
    const Dense gy(g.has(0) ? g[0] : none);
    const Dense gc(Unit::kState && g.has(1) ? g[1] : none);
    const Dense h0(saved(Unit::kReadsH, kH));
    const Dense c0(saved(Unit::kState, kC));
    const Dense peephole(saved(Unit::kState, kPeephole));
    const auto at_row = [](const Array& array, int64_t row) {
      return array.defined() ? array.template data<T>() + row : nullptr;
    };
    const bool several = z.steps > 1;
    const bool needs_h = a.has(kH) && s.needs(kH);
    const bool needs_c = Unit::kState && a.has(kC) && s.needs(kC);
    const Array dh = several || needs_h ? Array::empty(dtype, state_shape) : Array();
    const Array dc =
        Unit::kState && (several || needs_c) ? Array::empty(dtype, state_shape) : Array();
    const Array& y = kSequence && Unit::kReadsH ? s.out_array(0) : none;
    const Array& cs = kSequence && Unit::kState ? s.out_array(1) : none;

    std::optional<Matrices> w_hh;
    if (dh.defined()) w_hh.emplace(s.in_array(kWeightHh));
    for (int64_t i = z.steps - 1; i >= 0; --i) {
      const int64_t at = a.reverse ? z.steps - 1 - i : i;
      const int64_t before = a.reverse ? at + 1 : at - 1;
      const bool last = i == z.steps - 1;
      T* const dh_to = i > 0 || needs_h ? dh.mutable_data<T>() : nullptr;
      T* const dc_to = Unit::kState && (i > 0 || needs_c) ? dc.mutable_data<T>() : nullptr;
      for (int64_t b = 0; b < z.batch; ++b) {
        const int64_t row = at * z.batch + b;
        const auto flowing = [&](const Dense& first, const Array& all) {
          return i == 0 ? at_row(*first, b * n) : at_row(all, before * state + b * n);
        };
        const auto arriving = [&](const Dense& outside, const Array& carried) {
          return last ? at_row(*outside, row * n) : at_row(carried, b * n);
        };
        Unit::backward(StepBackward<T>{
            static_cast<size_t>(n), at_row(work, row * n * Unit::kWidth), flowing(h0, y),
            flowing(c0, cs), at_row(*peephole, 0), arriving(gy, dh), arriving(gc, dc),
            dinput.mutable_data<T>() + row * gates, dhidden.mutable_data<T>() + row * gates,
            dh_to == nullptr ? nullptr : dh_to + b * n, dc_to == nullptr ? nullptr : dc_to + b * n,
            a.relu});
      }
      if (i > 0 && gc->defined()) {
        kernels::add_into(at_row(*gc, before * state), dc_to, static_cast<size_t>(state));
      }
      if (dh_to == nullptr) continue;
      bool add = Unit::kSplit;  // whose kernel wrote what does not come through the product
      if (i > 0 && gy->defined()) {
        const T* from = at_row(*gy, before * state);
        if (add) {
          kernels::add_into(from, dh_to, static_cast<size_t>(state));
        } else {
          std::memcpy(dh_to, from, static_cast<size_t>(state) * sizeof(T));
        }
        add = true;
      }
      product_back(z.batch, n, gates, at_row(dhidden, at * z.batch * gates), *w_hh, T(add ? 1 : 0),
                   dh_to);
    }
    if (needs_h) sink.add(kH, dh);
    if (needs_c) sink.add(kC, dc);
    add_weight_gradients<T>(s, sink, z, dinput, dhidden);
    if constexpr (Unit::kState) {
      if (a.has(kPeephole) && s.needs(kPeephole)) add_peephole_gradient<T>(s, sink, z, dinput);
    }
  }

  static Shape shape_of_state(const Array& work, int64_t n) {
    Shape shape;
    for (int i = kSequence ? 1 : 0; i + 1 < work.rank(); ++i) shape.push_back(work.size(i));
    shape.push_back(n);
    return shape;
  }

  template <class T>
  static void add_weight_gradients(const Saved& s, GradSink& sink, const UnitSizes& z,
                                   const Array& dinput, const Array& dhidden) {
    const Attrs& a = s.attrs<Attrs>();
    const int64_t gates = z.hidden * Unit::kGates;
    if (s.needs(kX)) {
      const Matrices w(s.in_array(kWeightIh));
      const int64_t in = w.array().size(1);
      Shape shape = dinput.shape();
      shape[shape.rank() - 1] = in;
      Array gx = Array::empty(dinput.dtype(), shape);
      product_back(z.rows(), in, gates, dinput.data<T>(), w, T{0}, gx.mutable_data<T>());
      sink.add(kX, std::move(gx));
    }
    if (s.needs(kWeightIh)) {
      const Dense x(s.in_array(kX));
      if (dinput.rank() <= 2) {
        sink.add(kWeightIh, product_gradient(s, kWeightIh, {dinput}, {*x, kX}));
      } else {
        sink.add(kWeightIh,
                 product_gradient(s, kWeightIh, {matrix_of(dinput)}, {matrix_of(*x), kX}));
      }
    }
    if (s.needs(kWeightHh) && dinput.rank() == 1 && a.has(kH)) {
      const Dense h(s.in_array(kH));
      sink.add(kWeightHh, product_gradient(s, kWeightHh, {dhidden}, {*h, kH}));
    } else if (s.needs(kWeightHh)) {
      const int64_t first = z.batch * (z.steps - 1);  // rows but for those of one step
      const Array rows = dhidden.view_as({z.rows(), gates});
      if (a.has(kH) && z.steps == 1) {
        const Array h = contiguous(s.in_array(kH)).view_as({z.batch, z.hidden});
        sink.add(kWeightHh, product_gradient(s, kWeightHh, {rows}, {h, kH}));
      } else if (a.has(kH)) {
        const Array before = Array::empty(dinput.dtype(), {z.rows(), z.hidden});
        const Array y = s.out_array(0).view_as({z.rows(), z.hidden});
        const Array h = contiguous(s.in_array(kH));
        const auto copy_rows = [](const Array& to, const Array& from) {
          std::memcpy(to.raw(), from.raw(), static_cast<size_t>(from.numel()) * sizeof(T));
        };
        copy_rows(row_range(before, a.reverse ? first : 0, z.batch), h);
        copy_rows(row_range(before, a.reverse ? 0 : z.batch, first),
                  row_range(y, a.reverse ? z.batch : 0, first));
        sink.add(kWeightHh, product_gradient(s, kWeightHh, {rows}, {before}));
      } else if (z.steps == 1) {
        const Array nothing = Array::empty(dinput.dtype(), {0, z.hidden});
        sink.add(kWeightHh, product_gradient(s, kWeightHh, {row_range(rows, 0, 0)}, {nothing}));
      } else {
        const Array y = s.out_array(0).view_as({z.rows(), z.hidden});
        sink.add(kWeightHh,
                 product_gradient(s, kWeightHh, {row_range(rows, a.reverse ? 0 : z.batch, first)},
                                  {row_range(y, a.reverse ? z.batch : 0, first)}));
      }
    }
    const bool ih = a.has(kBiasIh) && s.needs(kBiasIh);
    const bool hh = a.has(kBiasHh) && s.needs(kBiasHh);
    if (!ih && !hh) return;
    const Array sum = ih || !Unit::kSplit ? column_sums(dinput) : Array();
    if (ih) sink.add(kBiasIh, sum);
    if (hh) sink.add(kBiasHh, Unit::kSplit ? column_sums(dhidden) : sum);
  }

  template <class T>
  static void add_peephole_gradient(const Saved& s, GradSink& sink, const UnitSizes& z,
                                    const Array& dgates) {
    const Attrs& a = s.attrs<Attrs>();
    const auto n = static_cast<size_t>(z.hidden);
    const Array sum = Array::zeros(dgates.dtype(), {3 * z.hidden});
    const Array c0 = a.has(kC) ? contiguous(s.in_array(kC)) : Array();
    T* const to = sum.mutable_data<T>();
    const T* const cs = s.out_array(1).data<T>();
    const auto add = [&](const T* x, const T* y, T* part) {
      kernels::addcmul(part, T{1}, x, y, part, n);
    };
    for (int64_t i = 0; i < z.steps; ++i) {
      const int64_t at = a.reverse ? z.steps - 1 - i : i;
      const int64_t before = a.reverse ? at + 1 : at - 1;
      for (int64_t b = 0; b < z.batch; ++b) {
        const T* row = dgates.data<T>() + (at * z.batch + b) * 4 * z.hidden;
        const T* c = i > 0          ? cs + (before * z.batch + b) * z.hidden
                     : c0.defined() ? c0.data<T>() + b * z.hidden
                                    : nullptr;
        if (c != nullptr) {
          add(row, c, to);
          add(row + n, c, to + n);
        }
        add(row + 3 * n, cs + (at * z.batch + b) * z.hidden, to + 2 * n);
      }
    }
    sink.add(kPeephole, sum);
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const UnitSizes z = sizes_of(s.out_array(Unit::kWork));
    const auto steps_of = [](const Tensor& x) {
      return !x.defined() ? TensorList() : kSequence ? unbind(x, 0) : TensorList{x};
    };
    const auto step_of = [](const TensorList& all, int64_t at) {
      return all.empty() ? Tensor() : all[static_cast<size_t>(at)];
    };
    const bool needs_peephole = Unit::kState && a.has(kPeephole) && s.needs(kPeephole);
    const TensorList work = steps_of(s.out(Unit::kWork));
    const TensorList gwork = steps_of(Unit::kWork != 0 ? g[Unit::kWork] : Tensor());
    const TensorList gy = steps_of(g[0]);
    const TensorList gc = steps_of(Unit::kState ? g[1] : Tensor());
    const TensorList ys = steps_of(kSequence && Unit::kReadsH ? s.out(0) : Tensor());
    const TensorList cs =
        steps_of(Unit::kState && (kSequence || needs_peephole) ? s.out(1) : Tensor());

    StepRule step;
    step.relu = a.relu;
    if (Unit::kState && a.has(kPeephole)) step.peephole = chunk<3>(s.in(kPeephole));
    TensorList dinput(static_cast<size_t>(z.steps));
    TensorList dhidden(dinput.size());
    TensorList dpeephole;
    Tensor dh;
    Tensor dc;
    for (int64_t i = z.steps - 1; i >= 0; --i) {
      const int64_t at = a.reverse ? z.steps - 1 - i : i;
      const int64_t before = a.reverse ? at + 1 : at - 1;
      const auto flowing = [&](bool reads, int input, const TensorList& all) {
        return !reads         ? Tensor()
               : i > 0        ? step_of(all, before)
               : a.has(input) ? s.in(input)
                              : Tensor();
      };
      step.work = work[static_cast<size_t>(at)];
      step.gwork = step_of(gwork, at);
      step.h = flowing(Unit::kReadsH, kH, ys);
      step.c = flowing(Unit::kState, kC, cs);
      step.c_out = needs_peephole ? step_of(cs, at) : Tensor();
      step.g = plus(step_of(gy, at), dh);
      step.gc = plus(step_of(gc, at), dc);
      Unit::rule(step);
      dinput[static_cast<size_t>(at)] = step.dinput;
      dhidden[static_cast<size_t>(at)] = step.dhidden;
      if (needs_peephole) dpeephole.push_back(step.dpeephole);
      dc = step.dc;
      if (i > 0 || (a.has(kH) && s.needs(kH))) {
        dh = plus(step.dh, matmul(step.dhidden, s.in(kWeightHh)));
      }
    }

    Grads result(kInputs);
    const int64_t gates = z.hidden * Unit::kGates;
    const Tensor di = matrix_of(kSequence ? stack(dinput) : dinput[0]);
    const Tensor dj = !Unit::kSplit ? di : matrix_of(kSequence ? stack(dhidden) : dhidden[0]);
    const auto product = [](const Tensor& u, const Tensor& v) {
      return u.dim() == 1 ? outer(u, v) : mm(t(u), v);
    };
    if (a.has(kH) && s.needs(kH)) result[kH] = dh;
    if (Unit::kState && a.has(kC) && s.needs(kC)) result[kC] = dc;
    if (s.needs(kX)) {
      Shape shape = s.out_array(Unit::kWork).shape();
      const Tensor w = s.in(kWeightIh);
      shape[shape.rank() - 1] = w.size(1);
      result[kX] = reshape(matmul(di, w), shape);
    }
    if (s.needs(kWeightIh)) result[kWeightIh] = product(di, matrix_of(s.in(kX)));
    if (s.needs(kWeightHh)) {
      TensorList before;
      if (a.has(kH)) before.push_back(reshape(s.in(kH), {z.batch, z.hidden}));
      if (z.steps > 1) {
        before.push_back(reshape(narrow(s.out(0), 0, a.reverse ? 1 : 0, z.steps - 1),
                                 {z.batch * (z.steps - 1), z.hidden}));
      }
      if (a.reverse) std::reverse(before.begin(), before.end());
      if (before.empty()) {
        result[kWeightHh] = Tensor(Array::zeros(di.dtype(), {gates, z.hidden}));
      } else {
        const int64_t skipped = a.has(kH) ? 0 : z.batch;
        const Tensor rows =
            narrow(reshape(dj, {z.rows(), gates}), 0, a.reverse ? 0 : skipped, z.rows() - skipped);
        result[kWeightHh] = mm(t(rows), cat(before));
      }
    }
    if (a.has(kBiasIh) && s.needs(kBiasIh)) result[kBiasIh] = sum_to(di, {gates});
    if (a.has(kBiasHh) && s.needs(kBiasHh)) result[kBiasHh] = sum_to(dj, {gates});
    if (needs_peephole) result[kPeephole] = sum_to(stack(dpeephole), {3 * z.hidden});
    return result;
  }
};

}  // namespace ebb::ops
