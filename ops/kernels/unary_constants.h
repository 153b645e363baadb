// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Coefficients of the functions in unary_math-inl.h: minimax fits of this project's own (Remez
// exchange at 45 digits), rounded to T.
namespace ebb::kernels::detail {

// The layout of T and the constants of each function in T's precision.
template <class T>
struct MathConstants;

template <>
struct MathConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr uint32_t kExponentBias = 127;
  static constexpr uint32_t kMantissaMask = 0x007FFFFF;
  static constexpr uint32_t kHighHalf = 0xFFFFF000;  // a square of the 12 bits it keeps is exact
  static constexpr float kTwoToMantissaBits = 0x1p23f;
  static constexpr float kRoundToInt = 0x1.8p23f;  // adding it leaves the nearest integer
  static constexpr float kDenormalScale = 0x1p24f;
  static constexpr float kDenormalExponent = 24;

  // e^x is 0 below kExpLow, infinite above kExpHigh, a normal number within +-kExpNormal.
  // kExpm1Low: e^x - 1 is -1 below.
  static constexpr float kExpLow = -104.5f;
  static constexpr float kExpHigh = 88.73f;
  static constexpr float kExpNormal = 87;
  static constexpr float kExpm1Low = -18;
  static constexpr float kLn2High = 0.693359375f;  // few bits: exact times an exponent
  static constexpr float kLn2Low = -2.12194440e-4f;
  // (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2.
  static constexpr float kExp[] = {0.5f, 0.16666530072689056f, 0.04166615754365921f,
                                   0.008368242532014847f, 0.0013974988833069801f};
  // m = 1 + f with f in [-1/3, 1/3]; (ln(1 + f) - f + f^2 / 2) / f^3.
  static constexpr float kLogSplit = 2.f / 3;
  static constexpr float kLog[] = {
      0.3333321511745453f,  -0.24999797344207764f, 0.20010405778884888f, -0.16680486500263214f,
      0.14005868136882782f, -0.12184260785579681f, 0.13984444737434387f, -0.1289169192314148f};
  static constexpr float kTanhOne = 9.5f;  // tanh is 1 from here on
  // erf(x) / x - 1 in x^2 for |x| <= kErfSplit.
  static constexpr float kErfSplit = 1.125f;
  static constexpr float kErf[] = {
      0.12837916612625122f,  -0.3761260211467743f,    0.11283256113529205f,  -0.026839224621653557f,
      0.005160266067832708f, -0.0007765709306113422f, 7.062343502184376e-05f};
  // erfc(x) in x - kErfcCentre for x in [kErfSplit, kErfOne]: absolute accuracy, to be subtracted
  // from 1. erf is 1 from kErfOne on.
  static constexpr float kErfOne = 3.93f;
  static constexpr float kErfcCentre = 2.5f;
  static constexpr float kErfc[] = {
      0.0004069413407705724f,  -0.0021782354451715946f, 0.005446251016110182f,
      -0.008350938558578491f,  0.008617943152785301f,   -0.00611289544031024f,
      0.0028120046481490135f,  -0.0005531014176085591f, -0.00028003097395412624f,
      0.00026394330780021846f, -6.499103619717062e-05f, -1.4843848475720733e-05f,
      9.678433343651704e-06f,  -9.848424724623328e-07f};
  // (x + k) e^(x^2 / 2) Phi(-x) in (x - k) / (x + k) for x in [0, kPhiZero]; Phi(-x) is 0 above.
  // k = kPhiShift is chosen so that the first coefficient is close to a float. erfc is 0 above
  // kErfcZero.
  static constexpr float kErfcZero = 10.2f;
  static constexpr float kPhiZero = 14.42f;
  static constexpr float kPhiShift = 3.66796875f;
  static constexpr float kPhi[] = {
      0.7484723925590515f,     -0.5811097025871277f,    0.3410046696662903f,
      -0.13989754021167755f,   0.030543092638254166f,   0.0032984171994030476f,
      -0.003995406907051802f,  0.00022779950813855976f, 0.0004917700425721705f,
      -3.599957562983036e-05f, -4.9179725465364754e-05f};
};

template <>
struct MathConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr uint64_t kExponentBias = 1023;
  static constexpr uint64_t kMantissaMask = 0x000FFFFFFFFFFFFF;
  static constexpr uint64_t kHighHalf = 0xFFFFFFFFF8000000;
  static constexpr double kTwoToMantissaBits = 0x1p52;
  static constexpr double kRoundToInt = 0x1.8p52;
  static constexpr double kDenormalScale = 0x1p54;
  static constexpr double kDenormalExponent = 54;

  static constexpr double kExpLow = -746;
  static constexpr double kExpHigh = 709.79;
  static constexpr double kExpNormal = 708;
  static constexpr double kExpm1Low = -40;
  static constexpr double kLn2High = 0.6931471803691238;
  static constexpr double kLn2Low = 1.9082149292705877e-10;
  static constexpr double kExp[] = {0.5,
                                    0.16666666666666677,
                                    0.04166666666666671,
                                    0.008333333333320113,
                                    0.0013888888888841722,
                                    0.00019841269890398137,
                                    2.4801587441921403e-05,
                                    2.755723954904682e-06,
                                    2.75571484276075e-07,
                                    2.5110766675977076e-08,
                                    2.0960611636474662e-09};
  // m = 1 + f with m in [sqrt(1/2), sqrt(2)); (ln(1 + f) - 2 s) / s^3 in s^2, s = f / (2 + f).
  static constexpr double kLogSplit = 0.70710678118654757;
  static constexpr double kLog[] = {0.6666666666666737,  0.3999999999939293,  0.2857142874768038,
                                    0.22222197986788475, 0.18183596903803595, 0.15313166361054645,
                                    0.1480527798950889};
  static constexpr double kTanhOne = 20;
  static constexpr double kErfSplit = 1;
  static constexpr double kErf[] = {
      0.12837916709551256,     -0.37612638903183526,    0.11283791670944386,
      -0.02686617064313531,    0.005223977606275716,    -0.0008548325935657184,
      0.00012055293741363824,  -1.4924715099628724e-05, 1.6447162620643078e-06,
      -1.6206530267097807e-07, 1.3711841417505755e-08,  -7.780957961135493e-10};
  static constexpr double kErfcZero = 27.4;
  static constexpr double kPhiZero = 38.7;
  static constexpr double kPhiShift = 5.46875;
  static constexpr double kPhi[] = {
      0.7735160338239236,     -0.6840740808832836,     0.5332965551976908,
      -0.3639043059333304,    0.2146352726701638,      -0.10707000351481402,
      0.043387775399659434,   -0.013054784644897616,   0.0021213078333184978,
      0.0003363589960068281,  -0.0003170234109305652,  6.056394988298475e-05,
      1.8962099900397998e-05, -1.143725652504078e-05,  -8.877870761418076e-08,
      1.496482574874062e-06,  -1.8944467645955188e-07, -1.8889545874057884e-07,
      3.91204599580807e-08,   2.435727546762492e-08,   -4.312618264884203e-09,
      -2.4592470799547176e-09};

  // The functions below exist in double only.
  // (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2 for |r| <= pi / 4.
  static constexpr double kSin[] = {-0.1666666666666663,     0.00833333333332184,
                                    -0.00019841269829358541, 2.755731353852492e-06,
                                    -2.50507343918416e-08,   1.5895433486722214e-10};
  static constexpr double kCos[] = {0.041666666666666595,   -0.0013888888888873338,
                                    2.4801587288997478e-05, -2.755731421529649e-07,
                                    2.0875705114357234e-09, -1.1358732727201664e-11};
  // (atan(r) - r) / r^3 in r^2 for |r| <= sqrt(2) - 1.
  static constexpr double kAtan[] = {
      -0.3333333333333319,  0.19999999999952184, -0.14285714280054165, 0.11111110776303476,
      -0.09090897551010926, 0.07692056521814741, -0.06663061880348096, 0.05847581011432081,
      -0.05037908702163333, 0.03802891391704454, -0.01786797503602124};
  // (sinh(x) - x) / x^3 in x^2 for |x| <= 1.
  static constexpr double kSinh[] = {
      0.16666666666666669,  0.008333333333332912,   0.00019841269841593405, 2.7557319106760344e-06,
      2.50521309979339e-08, 1.6056659224114098e-10, 7.776599634273186e-13};
};

}  // namespace ebb::kernels::detail
