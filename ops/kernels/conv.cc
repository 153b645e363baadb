// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/conv.h"

#include <algorithm>

#include "ebb/core/parallel.h"
#include "ebb/ops/kernels/blas.h"
#include "ebb/ops/kernels/conv_fft_plan.h"
#include "ebb/ops/kernels/conv_plan.h"
#include "ebb/ops/kernels/reduce.h"

namespace ebb::kernels {
namespace {

using detail::ConvPlan;

// The outputs o in [first, last) for which tap k reads inside x.
struct Range {
  int64_t first, last;
};
Range inside(const ConvPlan& p, int axis, int64_t k) {
  const int64_t shift = k * p.dilation[axis] - p.pad[axis];  // o * stride + shift in [0, in)
  const int64_t s = p.stride[axis];
  const int64_t first = shift >= 0 ? 0 : (-shift + s - 1) / s;
  const int64_t last = shift >= p.in[axis] ? 0 : (p.in[axis] - shift + s - 1) / s;
  return {first, std::min(last, p.out[axis])};
}

// f(w, x, y, n) for the rows of y that each weight of a group reaches in one image, and the first
// element of x that each reads, at distances of the last stride.
template <class F>
void for_each_row(const ConvPlan& p, const F& f) {
  int64_t weight = 0;
  for (int64_t o = 0; o < p.group_out; ++o) {
    for (int64_t i = 0; i < p.group_in; ++i) {
      for (int64_t k0 = 0; k0 < p.kernel[0]; ++k0) {
        const Range r0 = inside(p, 0, k0);
        for (int64_t k1 = 0; k1 < p.kernel[1]; ++k1) {
          const Range r1 = inside(p, 1, k1);
          for (int64_t k2 = 0; k2 < p.kernel[2]; ++k2, ++weight) {
            const Range r2 = inside(p, 2, k2);
            if (r2.first >= r2.last) continue;
            const int64_t x2 = r2.first * p.stride[2] + k2 * p.dilation[2] - p.pad[2];
            for (int64_t o0 = r0.first; o0 < r0.last; ++o0) {
              const int64_t x0 = o0 * p.stride[0] + k0 * p.dilation[0] - p.pad[0];
              for (int64_t o1 = r1.first; o1 < r1.last; ++o1) {
                const int64_t x1 = o1 * p.stride[1] + k1 * p.dilation[1] - p.pad[1];
                f(weight, i * p.in_area + (x0 * p.in[1] + x1) * p.in[2] + x2,
                  o * p.out_area + (o0 * p.out[1] + o1) * p.out[2] + r2.first, r2.last - r2.first);
              }
            }
          }
        }
      }
    }
  }
}

// Whether Winograd's form is the quickest.
bool winograd_pays(const ConvPlan& p) {
  for (int axis = 0; axis < 3; ++axis) {
    if (p.stride[axis] != 1 || p.dilation[axis] != 1) return false;
  }
  constexpr int64_t kLeastChannels = 8;
  return p.kernel[1] == 3 && p.kernel[2] == 3 && p.group_in >= kLeastChannels &&
         p.group_out >= kLeastChannels;
}

// What one thread does of a pass: a range each of images, groups and channels of a group, of which
// no more than one is a part of all there is. Sums of an element are made by one thread in the same
// order whatever the ranges, so that results do not depend on the number of threads.
struct Share {
  int64_t image[2], group[2], channel[2];
};

// f(p, x, w, y, channel) for each image and group of a share, with where its parts of the operands
// begin. Channels are output channels, of which p has as many as the share.
template <class F>
void for_each_group(const ConvPlan& p, const Share& share, const F& f) {
  ConvPlan q = p;
  const int64_t first = share.channel[0];
  q.group_out = share.channel[1] - first;
  for (int64_t i = share.image[0]; i < share.image[1]; ++i) {
    for (int64_t g = share.group[0]; g < share.group[1]; ++g) {
      const int64_t channel = g * p.group_out + first;
      f(q, (i * p.groups + g) * p.group_in * p.in_area, channel * p.group_in * p.taps,
        (i * p.groups * p.group_out + channel) * p.out_area, channel);
    }
  }
}

// ---- plain loops, which need no memory ----

template <class T>
void plain_forward(const ConvPlan& p, const T* x, const T* w, const T* bias, T* y) {
  for (int64_t c = 0; c < p.group_out; ++c) {
    std::fill_n(y + c * p.out_area, p.out_area, bias == nullptr ? T{0} : bias[c]);
  }
  const int64_t step = p.stride[2];
  for_each_row(p, [=](int64_t weight, int64_t from, int64_t to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[to + i] += w[weight] * x[from + i * step];
  });
}

template <class T>
void plain_grad_input(const ConvPlan& p, const T* dy, const T* w, T* dx) {
  std::fill_n(dx, p.group_in * p.in_area, T{0});
  const int64_t step = p.stride[2];
  for_each_row(p, [=](int64_t weight, int64_t to, int64_t from, int64_t n) {
    for (int64_t i = 0; i < n; ++i) dx[to + i * step] += w[weight] * dy[from + i];
  });
}

template <class T>
void plain_grad_weight(const ConvPlan& p, const T* x, const T* dy, bool add, T* dw) {
  if (!add) std::fill_n(dw, p.group_out * p.group_in * p.taps, T{0});
  const int64_t step = p.stride[2];
  for_each_row(p, [=](int64_t weight, int64_t from, int64_t to, int64_t n) {
    T sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += dy[to + i] * x[from + i * step];
    dw[weight] += sum;
  });
}

// ---- 1x1: products of the matrices as they lie ----

bool is_product(const ConvPlan& p) {
  for (int axis = 0; axis < 3; ++axis) {
    if (p.kernel[axis] != 1 || p.stride[axis] != 1 || p.pad[axis] != 0 ||
        p.out[axis] != p.in[axis]) {
      return false;
    }
  }
  return true;
}

template <class T>
void product_forward(const ConvPlan& p, const T* x, const T* w, const T* bias, T* y) {
  for (int64_t c = 0; bias != nullptr && c < p.group_out; ++c) {
    std::fill_n(y + c * p.out_area, p.out_area, bias[c]);
  }
  gemm(false, false, p.group_out, p.out_area, p.group_in, T{1}, w, p.group_in, x, p.in_area,
       bias == nullptr ? T{0} : T{1}, y, p.out_area);
}

// ---- choice ----

// What is quickest, as measured beside each other at one sample (bench_conv; AVX-512 and AVX2):
//  - a channel by itself, 3x3 or 5x5: depthwise, which is bound by memory where images are large
//  - 1x1: a product of matrices; 10 to 30% quicker than the direct form, but for the input gradient
//    of a large image, where packing for the product is not hidden
//  - 3x3 with stride 1 and 8 channels and more on both sides: Winograd's form, 1.3 to 2.5 times as
//    quick as the direct one could be at the peak of the core, down to images of 8x8. With a kernel
//    of any depth too: 3x3x3 on 16 channels takes 0.3 times what it does directly
//    Images of at most four tiles of 4x4 (up to 8x8 or 4x16) go a way of their own within it: 1.2
//    to 3 times as quick as the general one with AVX-512, 0.93 to 2.7 times with AVX2
//  - an input gradient of few channels and a small image: folded, 2 times as quick as direct
//  - large kernels: by Fourier transforms, where they are estimated to be quicker than the direct
//    form: most of 9x9 and above and of 1-D ones of 32 and above, 2 to 10 times as quick
//  - all else directly
//  - plain loops where the memory of the others would not be within bounds: taps far apart

constexpr int64_t kLargeImage = 1024;  // outputs of a channel

enum class Method { kPlain, kDirect, kWinograd, kDepthwise, kFold, kProduct, kFft };

struct Choice {
  Method method;
  size_t bytes;
  detail::ConvFftPlan fft = {};  // of that method
};

template <class T>
Choice choose(const ConvPlan& p, ConvPass pass) {
  const size_t bound =
      4 * sizeof(T) * static_cast<size_t>(p.groups * p.group_out * p.group_in * p.taps) +
      (size_t{1} << 20);
  const auto fits = [bound](size_t bytes) {
    return bytes <= bound && detail::Workspace::taken(bytes) <= bound;
  };
  if (is_product(p) && p.group_in > 1 && p.group_out > 1 &&
      (pass != ConvPass::kGradInput || p.out_area < kLargeImage)) {
    return {Method::kProduct, 0};
  }
  if constexpr (sizeof(T) == 4) {
    if (detail::conv_depthwise->handles(p)) return {Method::kDepthwise, 0};
    if (winograd_pays(p)) {
      const size_t bytes = pass == ConvPass::kGradWeight
                               ? detail::conv_winograd_weights->workspace(p)
                               : detail::conv_winograd->workspace(p, pass == ConvPass::kGradInput);
      if (fits(bytes)) return {Method::kWinograd, detail::Workspace::taken(bytes)};
    }
    if (pass == ConvPass::kGradInput && detail::conv_fold->pays(p)) {
      const size_t bytes = detail::conv_fold->workspace(p);
      if (fits(bytes)) return {Method::kFold, detail::Workspace::taken(bytes)};
    }
    if (detail::conv_fft_may_pay(p)) {
      const detail::ConvFftPlan plan = detail::choose_conv_fft(p, pass, bound);
      if (plan.bytes != 0) return {Method::kFft, detail::Workspace::taken(plan.bytes), plan};
    }
  }
  const size_t bytes = pass == ConvPass::kGradWeight
                           ? detail::of_type<T>(*detail::conv_direct_weights).workspace(p)
                           : detail::of_type<T>(*detail::conv_direct).workspace(p, pass);
  if (fits(bytes)) return {Method::kDirect, detail::Workspace::taken(bytes)};
  return {Method::kPlain, 0};
}

// ---- threads ----

// Multiply-adds that take one thread 125 us and more, as measured with AVX-512 where they are
// fastest. Another thread has work 60 us after it is asked, so that two of this size take 1.3 times
// less.
constexpr double kShare = 1.5e7;

double multiply_adds(const ConvPlan& p) {
  return static_cast<double>(p.batch * p.groups * p.group_out * p.group_in * p.taps) *
         static_cast<double>(p.out_area);
}

// Threads that pay, at most as many as there are.
int64_t useful_threads(const ConvPlan& p, const Choice& choice) {
  constexpr double kCycles = 5.5e5;  // the same of estimated cycles
  const auto images = static_cast<double>(p.batch);
  double shares = multiply_adds(p) / kShare;
  if (choice.method == Method::kWinograd) shares /= 2.5;
  if (choice.method == Method::kFft) shares = images * choice.fft.cost / kCycles;
  if (shares < 2) return 1;
  return std::min<int64_t>(num_threads(), static_cast<int64_t>(std::min(shares, 1e6)));
}

constexpr int64_t kUnit = 32;  // channels that no thread shares with another: Winograd's blocks

// Whether the channels of a group can go to several threads: not where a share by itself would go
// another way, and not where the order of sums follows from their number.
template <class T>
bool splits_channels(const ConvPlan& p, ConvPass pass, Method method, int64_t parts) {
  // The weights of a range of input channels do not lie together.
  if (pass == ConvPass::kGradInput || p.group_out % kUnit != 0) return false;
  if (pass == ConvPass::kGradWeight && method != Method::kDirect) return false;
  // Products with few columns have ways of their own, by the number of rows.
  constexpr int64_t kColumns = 64;
  if (method == Method::kProduct && p.out_area < kColumns) return false;
  const auto share = [&](int64_t units) {
    ConvPlan q = p;
    q.group_out = units * kUnit;
    return q;
  };
  const int64_t units = p.group_out / kUnit;
  const ConvPlan smallest = share(units / parts);
  const ConvPlan largest = share((units + parts - 1) / parts);
  if (choose<T>(smallest, pass).method != method || choose<T>(largest, pass).method != method) {
    return false;
  }
  if (method != Method::kWinograd) return true;
  return detail::conv_winograd->depth(smallest) == detail::conv_winograd->depth(p);
}

// Calls run(share) for shares that make up the pass, on several threads where that pays. Weight
// gradients are sums over images.
template <class T, class F>
void for_each_share(const ConvPlan& p, ConvPass pass, const Choice& choice, const F& run) {
  const Share all{{0, p.batch}, {0, p.groups}, {0, p.group_out}};
  int64_t parts = useful_threads(p, choice);
  if (parts == 1) return run(all);
  const bool images = pass != ConvPass::kGradWeight && p.batch >= parts;
  const bool groups = !images && p.groups >= parts;
  if (!images && !groups) {
    parts = std::min(parts, p.group_out / kUnit);
    if (parts < 2 || !splits_channels<T>(p, pass, choice.method, parts)) return run(all);
  }
  parallel_for(parts, 1, [&](int64_t first, int64_t last) {
    Share share = all;
    int64_t(&range)[2] = images ? share.image : groups ? share.group : share.channel;
    const int64_t n = range[1];
    const int64_t unit = images || groups ? 1 : kUnit;
    const int64_t units = (n + unit - 1) / unit;
    range[0] = units * first / parts * unit;
    range[1] = std::min(n, units * last / parts * unit);
    run(share);
  });
}

// f(image's x and y, part, parts) for the images of a pass by Fourier transforms.
template <class F>
void for_each_fft_part(const ConvPlan& p, const Choice& choice, const F& f) {
  const int64_t parts = useful_threads(p, choice);
  parallel_for(parts, 1, [&](int64_t first, int64_t last) {
    const bool all = first == 0 && last == parts;
    for (int64_t j = first; j < (all ? 1 : last); ++j) {
      for (int64_t i = 0; i < p.batch; ++i) {
        f(i * p.groups * p.group_in * p.in_area, i * p.groups * p.group_out * p.out_area,
          detail::ConvFftPart{j, all ? 1 : parts});
      }
    }
  });
}

// ---- passes ----

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y) {
  const ConvPlan p(s);
  if (p.group_out * p.out_area == 0) return;
  const Choice choice = choose<T>(p, ConvPass::kForward);
  const Method method = choice.method;
  if constexpr (sizeof(T) == 4) {
    if (method == Method::kFft) {
      return for_each_fft_part(p, choice, [&](int64_t xi, int64_t yi, detail::ConvFftPart part) {
        choice.fft.by->forward(p, choice.fft, part, x + xi, w, bias, y + yi);
      });
    }
  }
  const auto group = [&](const ConvPlan& q, int64_t xi, int64_t wi, int64_t yi, int64_t channel) {
    const T* const b = bias == nullptr ? nullptr : bias + channel;
    if constexpr (sizeof(T) == 4) {
      if (method == Method::kWinograd) {
        return detail::conv_winograd->forward(q, x + xi, w + wi, b, y + yi);
      }
      if (method == Method::kDepthwise) {
        return detail::conv_depthwise->forward(q, x + xi, w + wi, b, y + yi);
      }
    }
    if (method == Method::kDirect) {
      return detail::of_type<T>(*detail::conv_direct).forward(q, x + xi, w + wi, b, y + yi);
    }
    if (method == Method::kProduct) return product_forward(q, x + xi, w + wi, b, y + yi);
    plain_forward(q, x + xi, w + wi, b, y + yi);
  };
  for_each_share<T>(p, ConvPass::kForward, choice,
                    [&](const Share& share) { for_each_group(p, share, group); });
}

template <class T>
void grad_input(const ConvShape& s, const T* dy, const T* w, T* dx) {
  const ConvPlan p(s);
  if (p.group_in * p.in_area == 0) return;
  const Choice choice = choose<T>(p, ConvPass::kGradInput);
  const Method method = choice.method;
  if constexpr (sizeof(T) == 4) {
    if (method == Method::kFft) {
      return for_each_fft_part(p, choice, [&](int64_t xi, int64_t yi, detail::ConvFftPart part) {
        choice.fft.by->grad_input(p, choice.fft, part, dy + yi, w, dx + xi);
      });
    }
  }
  const auto group = [&](const ConvPlan& q, int64_t xi, int64_t wi, int64_t yi, int64_t) {
    const T* const dyi = dy + yi;
    if constexpr (sizeof(T) == 4) {
      if (method == Method::kWinograd) {
        return detail::conv_winograd->grad_input(q, dyi, w + wi, dx + xi);
      }
      if (method == Method::kDepthwise) {
        return detail::conv_depthwise->grad_input(q, dyi, w + wi, dx + xi);
      }
      if (method == Method::kFold) return detail::conv_fold->grad_input(q, dyi, w + wi, dx + xi);
    }
    if (method == Method::kDirect) {
      return detail::of_type<T>(*detail::conv_direct).grad_input(q, dyi, w + wi, dx + xi);
    }
    if (method == Method::kProduct) {
      return gemm(true, false, q.group_in, q.out_area, q.group_out, T{1}, w + wi, q.group_in, dyi,
                  q.out_area, T{0}, dx + xi, q.out_area);
    }
    plain_grad_input(q, dyi, w + wi, dx + xi);
  };
  for_each_share<T>(p, ConvPass::kGradInput, choice,
                    [&](const Share& share) { for_each_group(p, share, group); });
}

template <class T>
void grad_weight(const ConvShape& s, const T* x, const T* dy, T* dw) {
  const ConvPlan p(s);
  const int64_t size = s.out_channels * p.group_in * p.taps;
  if (size == 0) return;
  if (p.batch * p.out_area == 0) {
    std::fill_n(dw, size, T{0});
    return;
  }
  const Choice choice = choose<T>(p, ConvPass::kGradWeight);
  const Method method = choice.method;
  if constexpr (sizeof(T) == 4) {
    if (method == Method::kFft) {
      return for_each_fft_part(p, choice, [&](int64_t xi, int64_t yi, detail::ConvFftPart part) {
        choice.fft.by->grad_weight(p, choice.fft, part, x + xi, dy + yi, yi != 0, dw);
      });
    }
  }
  const auto group = [&](const ConvPlan& q, int64_t xi, int64_t wi, int64_t yi, int64_t) {
    const bool add = yi >= s.out_channels * p.out_area;  // the first image sets it
    if constexpr (sizeof(T) == 4) {
      if (method == Method::kWinograd) {
        return detail::conv_winograd_weights->grad_weight(q, x + xi, dy + yi, add, dw + wi);
      }
      if (method == Method::kDepthwise) {
        return detail::conv_depthwise->grad_weight(q, x + xi, dy + yi, add, dw + wi);
      }
    }
    if (method == Method::kDirect) {
      return detail::of_type<T>(*detail::conv_direct_weights)
          .grad_weight(q, x + xi, dy + yi, add, dw + wi);
    }
    if (method == Method::kProduct) {
      return gemm(false, true, q.group_out, q.group_in, q.out_area, T{1}, dy + yi, q.out_area,
                  x + xi, q.in_area, add ? T{1} : T{0}, dw + wi, q.group_in);
    }
    plain_grad_weight(q, x + xi, dy + yi, add, dw + wi);
  };
  for_each_share<T>(p, ConvPass::kGradWeight, choice,
                    [&](const Share& share) { for_each_group(p, share, group); });
}

template <class T>
void grad_bias(const ConvShape& s, const T* dy, T* db) {
  const ConvPlan p(s);
  if (s.batch == 0) std::fill_n(db, s.out_channels, T{0});
  const ReduceRowFn add = reduce_row_fn(dtype_of<T>, Reduce::kSum);
  for (int64_t i = 0; i < s.batch; ++i) {
    for (int64_t c = 0; c < s.out_channels; ++c, dy += p.out_area) {
      add(dy, 1, static_cast<size_t>(p.out_area), db + c, i != 0);
    }
  }
}

}  // namespace

void conv_forward(const ConvShape& s, const float* x, const float* w, const float* bias, float* y) {
  forward(s, x, w, bias, y);
}
void conv_forward(const ConvShape& s, const double* x, const double* w, const double* bias,
                  double* y) {
  forward(s, x, w, bias, y);
}
void conv_grad_input(const ConvShape& s, const float* dy, const float* w, float* dx) {
  grad_input(s, dy, w, dx);
}
void conv_grad_input(const ConvShape& s, const double* dy, const double* w, double* dx) {
  grad_input(s, dy, w, dx);
}
void conv_grad_weight(const ConvShape& s, const float* x, const float* dy, float* dw) {
  grad_weight(s, x, dy, dw);
}
void conv_grad_weight(const ConvShape& s, const double* x, const double* dy, double* dw) {
  grad_weight(s, x, dy, dw);
}
void conv_grad_bias(const ConvShape& s, const float* dy, float* db) { grad_bias(s, dy, db); }
void conv_grad_bias(const ConvShape& s, const double* dy, double* db) { grad_bias(s, dy, db); }

void conv_gradients(const ConvShape& s, absl::FunctionRef<void()> of_input,
                    absl::FunctionRef<void()> of_weight) {
  if (num_threads() == 1 || multiply_adds(ConvPlan(s)) < kShare) {
    of_input();
    of_weight();
    return;
  }
  parallel_for(2, 1, [&](int64_t first, int64_t last) {
    if (first == 0) of_input();
    if (last == 2) of_weight();
  });
}

size_t conv_workspace_bytes(const ConvShape& s, ConvPass pass, size_t element_size) {
  const ConvPlan p(s);
  return element_size == sizeof(float) ? choose<float>(p, pass).bytes
                                       : choose<double>(p, pass).bytes;
}

}  // namespace ebb::kernels
