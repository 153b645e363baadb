// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/recurrent.h"

#include "ebb/ops/kernels/recurrent.h"
#include "ebb/ops/kernels/unary.h"
#include "ebb/ops/recurrent_unit.h"
#include "ebb/ops/unary.h"

// Units with one state flowing in, a step or a sequence at a time.
namespace ebb {
namespace ops {

void lstm_rule(StepRule& s, const std::array<Tensor, 5>& gwork) {
  const auto [i, f, g, o, t] = chunk<5>(s.work, -1);
  const auto& p = s.peephole;
  const Tensor gt = plus(times(s.g, o), gwork[4]);
  const Tensor ao = through_sigmoid(plus(times(s.g, t), gwork[3]), o);
  const Tensor dc = plus(plus(s.gc, through_tanh(gt, t)), times(ao, p[2]));
  const Tensor ai = through_sigmoid(plus(times(dc, g), gwork[0]), i);
  const Tensor af = through_sigmoid(plus(times(dc, s.c), gwork[1]), f);
  const Tensor ag = through_tanh(plus(times(dc, i), gwork[2]), g);
  s.dinput = s.dhidden =
      cat({or_zeros(ai, i), or_zeros(af, f), or_zeros(ag, g), or_zeros(ao, o)}, -1);
  s.dc = plus(times(dc, f), plus(times(ai, p[0]), times(af, p[1])));
  if (!s.c_out.defined()) return;
  s.dpeephole = cat(
      {or_zeros(times(ai, s.c), i), or_zeros(times(af, s.c), f), or_zeros(times(ao, s.c_out), o)},
      -1);
}

struct LstmUnit {
  static constexpr int kGates = 4;
  static constexpr int kOutputs = 3;
  static constexpr int kWork = 2;  // i, f, g, o, tanh(c')
  static constexpr int kWidth = 5;
  static constexpr bool kState = true;
  static constexpr bool kReadsH = false;
  static constexpr bool kSplit = false;

  template <class T>
  static void forward(const StepForward<T>& s) {
    kernels::lstm<T>({s.n, 1, s.gates, &s.c, s.peephole, s.c_out, s.gates + 4 * s.n, s.y});
  }
  template <class T>
  static void backward(const StepBackward<T>& s) {
    kernels::lstm_backward<T>(
        {s.n, 1, s.work, &s.c, s.peephole, s.work + 4 * s.n, s.g, s.gc, s.dinput, &s.dc});
  }
  static void rule(StepRule& s) { lstm_rule(s, parts_of<5>(s.gwork)); }
};

struct LstmCell : RecurrentOp<LstmCell, LstmUnit, false> {
  static constexpr OpDoc kDoc{
      "lstm_cell", "h', c' = one step of a long short-term memory",
      "x:[..,d] h:[..,n] weight_ih:[4n,d] weight_hh:[4n,n] bias_ih:[4n] bias_hh:[4n] c:[..,n] "
      "peephole:[3n] -> h':[..,n] c':[..,n]"};
};
EBB_OP(LstmCell)

struct LstmLayer : RecurrentOp<LstmLayer, LstmUnit, true> {
  static constexpr OpDoc kDoc{
      "lstm_layer", "h, c = all steps of a long short-term memory",
      "x:[t,..,d] h:[..,n] weight_ih:[4n,d] weight_hh:[4n,n] bias_ih:[4n] bias_hh:[4n] c:[..,n] "
      "peephole:[3n] -> h:[t,..,n] c:[t,..,n]"};
};
EBB_OP(LstmLayer)

struct GruUnit {
  static constexpr int kGates = 3;
  static constexpr int kOutputs = 2;
  static constexpr int kWork = 1;  // r, z, n, and the part of n that r scales
  static constexpr int kWidth = 4;
  static constexpr bool kState = false;
  static constexpr bool kReadsH = true;
  static constexpr bool kSplit = true;

  template <class T>
  static void forward(const StepForward<T>& s) {
    kernels::gru<T>({s.n, s.gates, s.hidden, s.h, s.y});
  }
  template <class T>
  static void backward(const StepBackward<T>& s) {
    kernels::gru_backward<T>({s.n, s.work, s.h, s.g, s.dinput, s.dhidden, s.dh});
  }
  static void rule(StepRule& s) {
    const auto [r, z, n, q] = chunk<4>(s.work, -1);
    const auto gwork = parts_of<4>(s.gwork);
    const Tensor step = s.h.defined() ? s.h - n : -n;  // h' = n + z step
    const Tensor an = or_zeros(through_tanh(plus(times(s.g, 1.0 - z), gwork[2]), n), n);
    const Tensor ar = through_sigmoid(plus(an * q, gwork[0]), r);
    const Tensor az = or_zeros(through_sigmoid(plus(times(s.g, step), gwork[1]), z), z);
    s.dinput = cat({ar, az, an}, -1);
    s.dhidden = cat({ar, az, plus(an * r, gwork[3])}, -1);
    s.dh = times(s.g, z);
  }
};

struct GruCell : RecurrentOp<GruCell, GruUnit, false> {
  static constexpr OpDoc kDoc{
      "gru_cell", "h' = one step of a gated recurrent unit",
      "x:[..,d] h:[..,n] weight_ih:[3n,d] weight_hh:[3n,n] bias_ih:[3n] bias_hh:[3n] -> h':[..,n]"};
};
EBB_OP(GruCell)

struct GruLayer : RecurrentOp<GruLayer, GruUnit, true> {
  static constexpr OpDoc kDoc{"gru_layer", "h = all steps of a gated recurrent unit",
                              "x:[t,..,d] h:[..,n] weight_ih:[3n,d] weight_hh:[3n,n] bias_ih:[3n] "
                              "bias_hh:[3n] -> h:[t,..,n]"};
};
EBB_OP(GruLayer)

struct RnnUnit {
  static constexpr int kGates = 1;
  static constexpr int kOutputs = 1;
  static constexpr int kWork = 0;
  static constexpr int kWidth = 1;
  static constexpr bool kState = false;
  static constexpr bool kReadsH = false;
  static constexpr bool kSplit = false;

  static const kernels::UnaryKernels& function(bool relu) {
    return kernels::unary_kernels(relu ? kernels::Unary::kRelu : kernels::Unary::kTanh);
  }
  template <class T>
  static void forward(const StepForward<T>& s) {
    if constexpr (sizeof(T) == sizeof(float)) {
      function(s.relu).forward32(s.gates, s.y, s.n, {});
    } else {
      function(s.relu).forward64(s.gates, s.y, s.n, {});
    }
  }
  template <class T>
  static void backward(const StepBackward<T>& s) {
    if constexpr (sizeof(T) == sizeof(float)) {
      function(s.relu).backward32(s.g, nullptr, s.work, s.dinput, s.n, {});
    } else {
      function(s.relu).backward64(s.g, nullptr, s.work, s.dinput, s.n, {});
    }
  }
  static void rule(StepRule& s) {
    s.dinput = s.relu ? s.g * (s.work > 0.0).to(s.work.dtype()) : through_tanh(s.g, s.work);
    s.dhidden = s.dinput;
  }
};

struct RnnCell : RecurrentOp<RnnCell, RnnUnit, false> {
  static constexpr OpDoc kDoc{
      "rnn_cell", "h' = tanh(W x + b + U h + b'), or relu",
      "x:[..,d] h:[..,n] weight_ih:[n,d] weight_hh:[n,n] bias_ih:[n] bias_hh:[n] -> h':[..,n]"};
};
EBB_OP(RnnCell)

struct RnnLayer : RecurrentOp<RnnLayer, RnnUnit, true> {
  static constexpr OpDoc kDoc{
      "rnn_layer", "h = all steps of h' = tanh(W x + b + U h + b'), or relu",
      "x:[t,..,d] h:[..,n] weight_ih:[n,d] weight_hh:[n,n] bias_ih:[n] bias_hh:[n] -> h:[t,..,n]"};
};
EBB_OP(RnnLayer)

namespace {

RecurrentAttrs attrs_of(const Tensor& h, const Tensor& bias_ih, const Tensor& bias_hh,
                        bool reverse = false) {
  RecurrentAttrs a;
  const auto set = [&](int input, const Tensor& x) {
    if (!x.defined()) a.given = static_cast<uint8_t>(a.given & ~(1u << input));
  };
  set(kH, h);
  set(kBiasIh, bias_ih);
  set(kBiasHh, bias_hh);
  a.reverse = reverse;
  return a;
}

template <class Op>
LSTMState lstm(const Tensor& x, const LSTMState& state, const Tensor& weight_ih,
               const Tensor& weight_hh, const Tensor& bias_ih, const Tensor& bias_hh,
               const Tensor& peephole, bool reverse, Where where) {
  RecurrentAttrs a = attrs_of(state.h, bias_ih, bias_hh, reverse);
  if (state.c.defined()) a.given |= 1u << kC;
  if (peephole.defined()) a.given |= 1u << kPeephole;
  auto out = apply_multi<Op>(a, At(x, where), state.h, weight_ih, weight_hh, bias_ih, bias_hh,
                             state.c, peephole);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace
}  // namespace ops

LSTMState lstm_cell(const Tensor& x, const LSTMState& state, const Tensor& weight_ih,
                    const Tensor& weight_hh, const Tensor& bias_ih, const Tensor& bias_hh,
                    const Tensor& peephole, Where where) {
  return ops::lstm<ops::LstmCell>(x, state, weight_ih, weight_hh, bias_ih, bias_hh, peephole, false,
                                  where);
}

LSTMState lstm_layer(const Tensor& x, const LSTMState& state, const Tensor& weight_ih,
                     const Tensor& weight_hh, const Tensor& bias_ih, const Tensor& bias_hh,
                     bool reverse, const Tensor& peephole, Where where) {
  return ops::lstm<ops::LstmLayer>(x, state, weight_ih, weight_hh, bias_ih, bias_hh, peephole,
                                   reverse, where);
}

Tensor gru_cell(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                const Tensor& bias_ih, const Tensor& bias_hh, Where where) {
  return std::move(apply_multi<ops::GruCell>(ops::attrs_of(h, bias_ih, bias_hh), At(x, where), h,
                                             weight_ih, weight_hh, bias_ih, bias_hh)[0]);
}

Tensor gru_layer(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                 const Tensor& bias_ih, const Tensor& bias_hh, bool reverse, Where where) {
  return std::move(apply_multi<ops::GruLayer>(ops::attrs_of(h, bias_ih, bias_hh, reverse),
                                              At(x, where), h, weight_ih, weight_hh, bias_ih,
                                              bias_hh)[0]);
}

Tensor rnn_cell(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                const Tensor& bias_ih, const Tensor& bias_hh, Nonlinearity nonlinearity,
                Where where) {
  ops::RecurrentAttrs a = ops::attrs_of(h, bias_ih, bias_hh);
  a.relu = nonlinearity == Nonlinearity::kRelu;
  return apply_with<ops::RnnCell>(a, At(x, where), h, weight_ih, weight_hh, bias_ih, bias_hh);
}

Tensor rnn_layer(const Tensor& x, const Tensor& h, const Tensor& weight_ih, const Tensor& weight_hh,
                 const Tensor& bias_ih, const Tensor& bias_hh, bool reverse,
                 Nonlinearity nonlinearity, Where where) {
  ops::RecurrentAttrs a = ops::attrs_of(h, bias_ih, bias_hh, reverse);
  a.relu = nonlinearity == Nonlinearity::kRelu;
  return apply_with<ops::RnnLayer>(a, At(x, where), h, weight_ih, weight_hh, bias_ih, bias_hh);
}

}  // namespace ebb
