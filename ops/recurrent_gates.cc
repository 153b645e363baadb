// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/norm.h"
#include "ebb/ops/kernels/recurrent.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/recurrent.h"
#include "ebb/ops/recurrent_unit.h"
#include "ebb/ops/unary.h"

// The LSTM unit alone, behind the sums of the products.
namespace ebb {
namespace ops {

namespace {

// Inputs 0 and 1 of both; the others are parameters.
constexpr int kGatesIn = 0;
constexpr int kStateIn = 1;

// Last sizes that fit: gates [..., 4n], c [..., n]; the metas of h', c' and the work [..., 5n].
Metas infer_gates(const OpDoc& doc, Span<const Meta> in, bool has_state) {
  const Shape& gates = in[0].shape;
  const int last = gates.rank() - 1;
  if (last < 0 || gates[last] < 4 || gates[last] % 4 != 0) {
    throw ShapeError(
        absl::StrCat(doc.name, ": gates is ", gates.str(), "; it must be [...,4*hidden]"));
  }
  Meta h = in[0];
  h.shape[last] /= 4;
  if (has_state && in[kStateIn].shape != h.shape) {
    throw ShapeError(absl::StrCat(doc.name, ": gates is ", gates.str(), ", c is ",
                                  in[kStateIn].shape.str(), "; it must be ", h.shape.str()));
  }
  Metas out(3, h);
  out[2].shape[last] *= 5;
  return out;
}

void require_alike(const OpDoc& doc, Span<const Meta> in, Span<const bool> given) {
  for (size_t i = 0; i < in.size(); ++i) {
    if (!given[i]) continue;
    require_floating(doc, {&in[i], 1});
    if (in[i].dtype == in[0].dtype) continue;
    throw DTypeError(absl::StrCat(doc.name, ": input 0 is ", in[0].str(), ", input ", i, " is ",
                                  in[i].str(), "; the types must be the same"));
  }
}

void require_parameter(const OpDoc& doc, const Meta& x, const char* name, const Shape& want) {
  if (x.shape == want) return;
  throw ShapeError(
      absl::StrCat(doc.name, ": ", name, " is ", x.shape.str(), "; it must be ", want.str()));
}

template <class T>
const T* data_or_null(const Array& a) {
  return a.defined() ? a.data<T>() : nullptr;
}
template <class T>
T* mutable_or_null(const Array& a) {
  return a.defined() ? a.mutable_data<T>() : nullptr;
}

}  // namespace

struct LstmGates {
  static constexpr OpDoc kDoc{"lstm_gates", "h', c' = the unit of a long short-term memory",
                              "gates:[..,4n] c:[..,n] peephole:[3n] -> h':[..,n] c':[..,n]"};
  struct Attrs {
    bool state = true;
    bool peephole = false;
  };
  static constexpr int kPeepholeIn = 2;
  static constexpr bool kAbsentInputs = true;

  static constexpr GradUses uses(int input) {
    return {.in = 0b110, .out = input == kPeepholeIn ? uint64_t{0b110} : uint64_t{0b100}};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 3);
    require_alike(kDoc, in, {true, a.state, a.peephole});
    Metas out = infer_gates(kDoc, in, a.state);
    const Shape& h = out[0].shape;
    if (a.peephole) {
      require_parameter(kDoc, in[kPeepholeIn], "peephole", {3 * h[h.rank() - 1]});
    }
    return out;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    copy_gates(in[kGatesIn], out[2]);
    const Array c = a.state ? contiguous(in[kStateIn]) : Array();
    const Array p = a.peephole ? contiguous(in[kPeepholeIn]) : Array();
    visit_differentiable(out[0].dtype(), [&](auto t) {
      using T = decltype(t);
      for_rows(out[0], [&](size_t n, int64_t row) {
        const T* from = a.state ? c.data<T>() + row : nullptr;
        T* const work = out[2].mutable_data<T>() + 5 * row;
        kernels::lstm<T>({n, 1, work, &from, data_or_null<T>(p), out[1].mutable_data<T>() + row,
                          work + 4 * n, out[0].mutable_data<T>() + row});
      });
    });
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    return detail::default_cost(in, out);
  }

  // Calls f(n, i) for the elements from i on of each row of [..., n].
  template <class F>
  static void for_rows(const Array& like, F&& f) {
    const int64_t n = like.size(like.rank() - 1);
    for (int64_t i = 0; i < like.numel(); i += n) f(static_cast<size_t>(n), i);
  }
  // Rows [..., 4n] to the first parts of rows [..., 5n].
  static void copy_gates(const Array& gates, const Array& work) {
    const Array from = contiguous(gates);
    const auto bytes = static_cast<size_t>(from.size(from.rank() - 1)) * size_of(from.dtype());
    const size_t rows = static_cast<size_t>(from.numel() / from.size(from.rank() - 1));
    for (size_t r = 0; r < rows; ++r) {
      std::memcpy(work.raw() + r * (bytes / 4 * 5), from.raw() + r * bytes, bytes);
    }
  }
  static Shape gates_shape(const Array& work) {
    Shape shape = work.shape();
    int64_t& last = shape[shape.rank() - 1];
    last = last / 5 * 4;
    return shape;
  }
  static Shape state_shape(const Array& work) {
    Shape shape = work.shape();
    shape[shape.rank() - 1] /= 5;
    return shape;
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const bool needs_peephole = a.peephole && s.needs(kPeepholeIn);
    StepRule step{};
    step.work = s.out(2);
    step.c = a.state ? s.in(kStateIn) : Tensor();
    step.c_out = needs_peephole ? s.out(1) : Tensor();
    if (a.peephole) step.peephole = chunk<3>(s.in(kPeepholeIn));
    step.g = g[0];
    step.gc = g[1];
    lstm_rule(step, parts_of<5>(g[2]));
    Grads result{step.dinput, a.state && s.needs(kStateIn) ? step.dc : Tensor(), Tensor()};
    if (needs_peephole) {
      result[2] = sum_to(step.dpeephole, {step.dpeephole.size(-1)});
    }
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (g.has(2)) return run_rule(&backward, s, g, sink);
    const Attrs& a = s.attrs<Attrs>();
    const Array& work = s.out_array(2);
    const DType dtype = work.dtype();
    const Array gh = g.has(0) ? contiguous(g[0]) : Array();
    const Array gc = g.has(1) ? contiguous(g[1]) : Array();
    const Array c = a.state ? contiguous(s.in_array(kStateIn)) : Array();
    const Array p = a.peephole ? contiguous(s.in_array(kPeepholeIn)) : Array();
    const bool needs_peephole = a.peephole && s.needs(kPeepholeIn);
    const Array dgates = Array::empty(dtype, gates_shape(work));
    const Array dc =
        a.state && s.needs(kStateIn) ? Array::empty(dtype, state_shape(work)) : Array();
    const Array dp = needs_peephole ? Array::zeros(dtype, p.shape()) : Array();
    visit_differentiable(dtype, [&](auto t) {
      using T = decltype(t);
      const T* const c_in = data_or_null<T>(c);
      const T* const c_out = needs_peephole ? s.out_array(1).data<T>() : nullptr;
      const T* const from_h = data_or_null<T>(gh);
      const T* const from_c = data_or_null<T>(gc);
      T* const to_c = mutable_or_null<T>(dc);
      const Array like = Array::shape_only(c.defined() ? c : gh.defined() ? gh : gc);
      for_rows(like, [&](size_t n, int64_t row) {
        const T* const in = c_in == nullptr ? nullptr : c_in + row;
        T* const out = to_c == nullptr ? nullptr : to_c + row;
        const T* const from = work.data<T>() + 5 * row;
        T* const to = dgates.mutable_data<T>() + 4 * row;
        kernels::lstm_backward<T>({n, 1, from, &in, data_or_null<T>(p), from + 4 * n,
                                   from_h == nullptr ? nullptr : from_h + row,
                                   from_c == nullptr ? nullptr : from_c + row, to, &out});
        if (!needs_peephole) return;
        T* const sum = dp.mutable_data<T>();
        const auto add = [&](const T* x, const T* y, T* part) {
          kernels::addcmul(part, T{1}, x, y, part, n);
        };
        if (in != nullptr) {
          add(to, in, sum);
          add(to + n, in, sum + n);
        }
        add(to + 3 * n, c_out + row, sum + 2 * n);
      });
    });
    sink.add(kGatesIn, dgates);
    if (dc.defined()) sink.add(kStateIn, dc);
    if (needs_peephole) sink.add(kPeepholeIn, dp);
  }
};
EBB_OP(LstmGates)

struct LstmNormGates {
  static constexpr OpDoc kDoc{"lstm_norm_gates",
                              "h', c' = the unit of an LSTM, h' = o tanh(layer_norm(c'))",
                              "gates:[..,4n] c:[..,n] weight:[n] bias:[n] -> h':[..,n] c':[..,n]"};
  struct Attrs {
    bool state = true;
    double eps = 1e-5;
  };
  static constexpr int kWeight = 2;
  static constexpr int kBias = 3;
  static constexpr bool kAbsentInputs = true;

  static std::string describe(const Attrs& a) { return absl::StrCat("eps=", a.eps); }
  static constexpr GradUses uses(int) { return {.in = 0b0110, .out = 0b110}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 4);
    require_alike(kDoc, in, {true, a.state, true, true});
    Metas out = infer_gates(kDoc, in, a.state);
    const Shape& h = out[0].shape;
    require_parameter(kDoc, in[kWeight], "weight", {h[h.rank() - 1]});
    require_parameter(kDoc, in[kBias], "bias", {h[h.rank() - 1]});
    return out;
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    LstmGates::copy_gates(in[kGatesIn], out[2]);
    const Array c = a.state ? contiguous(in[kStateIn]) : Array();
    const Array weight = contiguous(in[kWeight]);
    const Array bias = contiguous(in[kBias]);
    const DType dtype = out[0].dtype();
    const auto mul = kernels::binary_fn(dtype, kernels::Binary::kMul);
    visit_differentiable(dtype, [&](auto t) {
      using T = decltype(t);
      LstmGates::for_rows(out[0], [&](size_t n, int64_t row) {
        const T* from = a.state ? c.data<T>() + row : nullptr;
        T* const work = out[2].mutable_data<T>() + 5 * row;
        T* const to = out[1].mutable_data<T>() + row;
        kernels::lstm<T>({n, 1, work, &from, nullptr, to, nullptr, nullptr});
        T* const normal = work + 4 * n;
        kernels::layer_norm_row(static_cast<const T*>(to), weight.data<T>(), bias.data<T>(), normal,
                                n, a.eps);
        tanh_row(normal, n);
        mul(work + 3 * n, 1, normal, 1, out[0].mutable_data<T>() + row, n);
      });
    });
  }
  static void tanh_row(float* x, size_t n) {
    kernels::unary_kernels(kernels::Unary::kTanh).forward32(x, x, n, {});
  }
  static void tanh_row(double* x, size_t n) {
    kernels::unary_kernels(kernels::Unary::kTanh).forward64(x, x, n, {});
  }
  // g times the derivative of `op` where its value is y, in place.
  static void back_row(kernels::Unary op, float* g, const float* y, size_t n) {
    kernels::unary_kernels(op).backward32(g, nullptr, y, g, n, {});
  }
  static void back_row(kernels::Unary op, double* g, const double* y, size_t n) {
    kernels::unary_kernels(op).backward64(g, nullptr, y, g, n, {});
  }
  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds += 4 * static_cast<double>(out[0].shape.numel());
    return c;
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    StepRule step{};
    step.work = s.out(2);
    step.c = a.state ? s.in(kStateIn) : Tensor();
    step.gc = g[1];
    auto gwork = parts_of<5>(g[2]);
    const auto parts = chunk<5>(step.work, -1);
    const Tensor& o = parts[3];
    const Tensor& t = parts[4];
    gwork[3] = plus(gwork[3], times(g[0], t));
    const Tensor at = through_tanh(plus(times(g[0], o), std::exchange(gwork[4], Tensor())), t);
    Grads result(4);
    if (at.defined()) {
      const Tensor c = s.out(1);
      const Tensor weight = s.in(kWeight);
      const Tensor centred = c - mean(c, -1, true);
      const Tensor scale = rsqrt(affine(mean(square(centred), -1, true), 1, a.eps));
      const Tensor z = centred * scale;
      const Tensor h = at * weight;
      step.gc = plus(step.gc, scale * (h - mean(h, -1, true) - z * mean(h * z, -1, true)));
      if (s.needs(kWeight)) result[kWeight] = sum_to(at * z, weight.shape());
      if (s.needs(kBias)) result[kBias] = sum_to(at, weight.shape());
    }
    lstm_rule(step, gwork);
    result[kGatesIn] = step.dinput;
    if (a.state && s.needs(kStateIn)) result[kStateIn] = step.dc;
    return result;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (g.has(2)) return run_rule(&backward, s, g, sink);
    const Attrs& a = s.attrs<Attrs>();
    const Array& work = s.out_array(2);
    const Array& c_out = s.out_array(1);
    const DType dtype = work.dtype();
    const Array gh = g.has(0) ? contiguous(g[0]) : Array();
    const Array gc = g.has(1) ? contiguous(g[1]) : Array();
    const Array c = a.state ? contiguous(s.in_array(kStateIn)) : Array();
    const Array weight = contiguous(s.in_array(kWeight));
    const Array dgates = Array::empty(dtype, LstmGates::gates_shape(work));
    const Array dc = Array::empty_like(c_out);  // of c', then of c
    const Array dweight = Array::zeros(dtype, weight.shape());
    const Array dbias = Array::zeros(dtype, weight.shape());
    const auto mul = kernels::binary_fn(dtype, kernels::Binary::kMul);
    visit_differentiable(dtype, [&](auto t) {
      using T = decltype(t);
      LstmGates::for_rows(c_out, [&](size_t n, int64_t row) {
        const T* const from = work.data<T>() + 5 * row;
        T* const to = dgates.mutable_data<T>() + 4 * row;
        T* const state = dc.mutable_data<T>() + row;
        const T* const in = c.defined() ? c.data<T>() + row : nullptr;
        if (gh.defined()) {
          mul(gh.data<T>() + row, 1, from + 3 * n, 1, state, n);
          back_row(kernels::Unary::kTanh, state, from + 4 * n, n);
          kernels::add_into(static_cast<const T*>(state), dbias.mutable_data<T>(), n);
          kernels::layer_norm_backward_row(c_out.data<T>() + row, weight.data<T>(),
                                           static_cast<const T*>(state), state,
                                           dweight.mutable_data<T>(), n, a.eps);
        } else {
          std::memset(state, 0, n * sizeof(T));
        }
        if (gc.defined()) kernels::add_into(gc.data<T>() + row, state, n);
        kernels::lstm_backward<T>({n, 1, from, &in, nullptr, nullptr, nullptr, state, to, &state});
        if (!gh.defined()) return;
        mul(gh.data<T>() + row, 1, from + 4 * n, 1, to + 3 * n, n);
        back_row(kernels::Unary::kSigmoid, to + 3 * n, from + 3 * n, n);
      });
    });
    if (s.needs(kGatesIn)) sink.add(kGatesIn, dgates);
    if (a.state && s.needs(kStateIn)) sink.add(kStateIn, dc);
    if (s.needs(kWeight)) sink.add(kWeight, dweight);
    if (s.needs(kBias)) sink.add(kBias, dbias);
  }
};
EBB_OP(LstmNormGates)

}  // namespace ops

LSTMState lstm_gates(const Tensor& gates, const Tensor& c, const Tensor& peephole, Where where) {
  auto out =
      apply_multi<ops::LstmGates>({c.defined(), peephole.defined()}, At(gates, where), c, peephole);
  return {std::move(out[0]), std::move(out[1])};
}

LSTMState lstm_norm_gates(const Tensor& gates, const Tensor& c, const Tensor& weight,
                          const Tensor& bias, double eps, Where where) {
  auto out = apply_multi<ops::LstmNormGates>({c.defined(), eps}, At(gates, where), c, weight, bias);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace ebb
