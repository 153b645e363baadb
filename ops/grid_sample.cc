// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/grid_sample.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/kernels/grid_sample.h"
#include "ebb/ops/linalg.h"
#include "ebb/ops/op_util.h"
#include "ebb/ops/pool_util.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

using kernels::GridAxis;

kernels::GridTaps taps_of(GridSampleMode m) {
  if (m == GridSampleMode::kNearest) return kernels::GridTaps::kNearest;
  return m == GridSampleMode::kBicubic ? kernels::GridTaps::kCubic : kernels::GridTaps::kLinear;
}
int tap_count(GridSampleMode m) {
  if (m == GridSampleMode::kNearest) return 1;
  return m == GridSampleMode::kBicubic ? 4 : 2;
}

// Axes of x that the grid names.
int dims_of(const Shape& grid) { return static_cast<int>(grid[grid.rank() - 1]); }

// Sizes of a call; axes that an image lacks have size 1.
struct Sizes {
  Sizes(const Shape& x, const Shape& grid) : dims(dims_of(grid)) {
    const int first = x.rank() - dims;
    batch = first == 2 ? x[0] : 1;
    channels = x[first - 1];
    for (int d = 0; d < dims; ++d) in[3 - dims + d] = x[first + d];
    for (int d = 0; d < dims; ++d) places *= grid[grid.rank() - 1 - dims + d];
    plane = in[0] * in[1] * in[2];
  }
  int dims;
  int64_t batch;
  int64_t channels;
  int64_t in[3] = {1, 1, 1};
  int64_t plane;       // elements of x a channel
  int64_t places = 1;  // of the grid, a sample
};

// An image has two axes, a volume three.
int first_axis(const Sizes& s) { return s.dims == 3 ? 0 : 1; }

// Calls f(sample, place, axes) for every place of the grid.
template <class F>
void for_each_place(const GridSampleOptions& o, const Sizes& s, const Array& grid, F&& f) {
  visit_differentiable(grid.dtype(), [&](auto t) {
    const auto* at = grid.data<decltype(t)>();
    GridAxis axes[3];
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t place = 0; place < s.places; ++place, at += s.dims) {
        for (int i = first_axis(s); i < 3; ++i) {
          axes[i] =
              kernels::grid_axis(taps_of(o.mode), static_cast<kernels::GridBorder>(o.padding_mode),
                                 o.align_corners, s.in[i], static_cast<double>(at[2 - i]));
        }
        f(n, place, axes);
      }
    }
  });
}

// Calls f(i, j, k, element of the plane) for the taps that lie in the image.
template <class F>
void for_each_tap(const Sizes& s, const GridAxis (&a)[3], F&& f) {
  for (int i = 0; i < a[0].taps; ++i) {
    for (int j = 0; j < a[1].taps; ++j) {
      for (int k = 0; k < a[2].taps; ++k) {
        if (a[0].index[i] < 0 || a[1].index[j] < 0 || a[2].index[k] < 0) continue;
        f(i, j, k, (a[0].index[i] * s.in[1] + a[1].index[j]) * s.in[2] + a[2].index[k]);
      }
    }
  }
}

// The interpolation in the tensors of the rule: it is a polynomial of each place's distances from
// the elements before it, while which elements these are does not vary.
struct Rule {
  Rule(const GridSampleOptions& o, const Sizes& sizes, const Tensor& grid_, const Shape& out)
      : s(sizes), taps(tap_count(o.mode)) {
    const DType type = grid_.dtype();
    const Array values = ebb::contiguous(grid_.value());
    Shape shape(out);  // [..,1,places..]: the same for all channels
    shape[out.rank() - s.dims - 1] = 1;
    Array offset[3];
    Array slope[3];
    const Array no_number = Array::zeros(kBool, {values.numel()});
    bool any = false;
    for (int i = first_axis(s); i < 3; ++i) {
      offset[i] = Array::empty(type, shape);
      slope[i] = Array::empty(type, shape);
      for (int k = 0; k < taps; ++k) {
        index[i][k] = Array::empty(kInt64, shape);
        exists[i][k] = Array::empty(type, shape);
      }
    }
    visit_differentiable(type, [&](auto t) {
      using T = decltype(t);
      const T* c = values.data<T>();
      for_each_place(o, s, values, [&](int64_t n, int64_t place, const GridAxis(&axes)[3]) {
        const int64_t at = n * s.places + place;
        for (int i = first_axis(s); i < 3; ++i) {
          const GridAxis& a = axes[i];
          const double coordinate = static_cast<double>(c[at * s.dims + 2 - i]);
          slope[i].template mutable_data<T>()[at] = static_cast<T>(a.fraction_slope);
          const bool counts = std::isfinite(coordinate);
          if (!counts) no_number.mutable_data<bool>()[at * s.dims + 2 - i] = any = true;
          const double rest = counts ? a.fraction_slope * coordinate : 0;
          offset[i].template mutable_data<T>()[at] = static_cast<T>(a.fraction - rest);
          for (int k = 0; k < taps; ++k) {
            index[i][k].template mutable_data<int64_t>()[at] = std::max<int64_t>(a.index[k], 0);
            exists[i][k].template mutable_data<T>()[at] = a.index[k] < 0 ? T{0} : T{1};
          }
        }
      });
    });
    // Where a coordinate is none its slope is 0, but 0 times it would not be.
    const Tensor grid =
        any ? masked_fill(grid_, Tensor(no_number.view_as(grid_.shape())), 0) : grid_;
    for (int i = first_axis(s); i < 3 && taps > 1; ++i) {
      const Tensor c = reshape(select(grid, -1, 2 - i), shape);
      slopes[i] = Tensor(slope[i]);
      set_weights(i, slopes[i] * c + Tensor(offset[i]));
    }
  }

  void set_weights(int i, const Tensor& t) {
    if (taps == 2) {
      weight[i][0] = 1 - t;
      weight[i][1] = t;
      return;
    }
    constexpr double kA = -0.75;
    const auto near = [](const Tensor& x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; };
    const auto near_slope = [](const Tensor& x) { return (3 * (kA + 2) * x - 2 * (kA + 3)) * x; };
    const auto far = [](const Tensor& x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; };
    const auto far_slope = [](const Tensor& x) { return (3 * kA * x - 10 * kA) * x + 8 * kA; };
    weight[i][0] = far(1 + t);
    weight[i][1] = near(t);
    weight[i][2] = near(1 - t);
    weight[i][3] = far(2 - t);
    by_fraction[i][0] = far_slope(1 + t);
    by_fraction[i][1] = near_slope(t);
    by_fraction[i][2] = -near_slope(1 - t);
    by_fraction[i][3] = -far_slope(2 - t);
  }

  // The weight of a tap along an axis, or with `slope` what it changes by the coordinate; 0
  // outside.
  Tensor part(int i, int k, bool slope) const {
    const Tensor there(exists[i][k]);
    if (taps == 1) return there;
    if (!slope) return there * weight[i][k];
    if (taps == 2) return there * slopes[i] * (k == 0 ? -1.0 : 1.0);
    return there * slopes[i] * by_fraction[i][k];
  }
  // Product of the weights of taps k; along axis `slope_of` what it changes.
  Tensor product(const int (&k)[3], int slope_of) const {
    Tensor p;
    for (int i = first_axis(s); i < 3; ++i) {
      const Tensor w = part(i, k[i], i == slope_of);
      p = p.defined() ? p * w : w;
    }
    return p;
  }
  // Elements of the planes of x, for all channels.
  Tensor elements(const int (&k)[3], const Shape& out) const {
    Array flat = Array::zeros(kInt64, index[2][0].shape());
    auto* to = flat.mutable_data<int64_t>();
    for (int i = first_axis(s); i < 3; ++i) {
      const auto* from = index[i][k[i]].data<int64_t>();
      for (int64_t at = 0; at < flat.numel(); ++at) to[at] = to[at] * s.in[i] + from[at];
    }
    return expand(Tensor(flat), out);
  }
  template <class F>
  void for_each_combination(F&& f) const {
    int k[3] = {};
    for (k[0] = 0; k[0] < (s.dims == 3 ? taps : 1); ++k[0]) {
      for (k[1] = 0; k[1] < taps; ++k[1]) {
        for (k[2] = 0; k[2] < taps; ++k[2]) f(static_cast<const int(&)[3]>(k));
      }
    }
  }

  const Sizes& s;
  int taps;
  Array index[3][4];
  Array exists[3][4];
  Tensor slopes[3];
  Tensor weight[3][4];
  Tensor by_fraction[3][4];
};

void accumulate(Tensor& sum, const Tensor& more) { sum = sum.defined() ? sum + more : more; }

}  // namespace

struct GridSample {
  static constexpr OpDoc kDoc{"grid_sample", "y[c,i,j] = x[c] at the place grid[i,j]",
                              "x:[n,c,h,w] grid:[n,h',w',2] -> y:[n,c,h',w']"};
  using Attrs = GridSampleOptions;
  static std::string describe(const Attrs& a) {
    constexpr const char* kModes[] = {"bilinear", "nearest", "bicubic"};
    constexpr const char* kPaddings[] = {"zeros", "border", "reflection"};
    return absl::StrCat(kModes[static_cast<int>(a.mode)], ", ",
                        kPaddings[static_cast<int>(a.padding_mode)],
                        a.align_corners ? ", aligned corners" : "");
  }
  static constexpr GradUses uses(int input) {
    return input == 0 ? GradUses{.in = 0b10, .shapes = 0b01} : GradUses{.in = 0b11};
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 2);
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    const Shape& x = in[0].shape;
    const Shape& grid = in[1].shape;
    const auto misfit = [&](const std::string& why) {
      throw ShapeError(
          absl::StrCat(kDoc.name, ": x is ", x.str(), ", grid is ", grid.str(), "; ", why));
    };
    const int64_t last = grid.rank() == 0 ? 0 : grid[grid.rank() - 1];
    if (last != 2 && last != 3) misfit("grid.size(-1) must be 2 or 3");
    const int dims = static_cast<int>(last);
    if (x.rank() != dims + 1 && x.rank() != dims + 2) {
      misfit(absl::StrCat("x must have rank ", dims + 1, ", or ", dims + 2, " with a batch"));
    }
    const bool batched = x.rank() == dims + 2;
    if (grid.rank() != x.rank() || (batched && grid[0] != x[0])) {
      misfit(batched ? "grid must have the same rank and the same batch"
                     : "grid must have that rank");
    }
    check_pooled(kDoc, dims, in);
    if (a.mode == GridSampleMode::kBicubic && dims == 3) {
      misfit("kBicubic is for images, not for volumes");
    }
    Shape out = x;
    for (int d = 0; d < dims; ++d) out[x.rank() - dims + d] = grid[grid.rank() - 1 - dims + d];
    check_addressable(kDoc, x, out, in[0].dtype);
    return {{in[0].dtype, out}};
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array x = contiguous(in[0]);
    const Array grid = contiguous(in[1]);
    const Sizes s(x.shape(), grid.shape());
    visit_differentiable(x.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_place(a, s, grid, [&](int64_t n, int64_t place, const GridAxis(&axes)[3]) {
        const T* from = x.data<T>() + n * s.channels * s.plane;
        T* y = out[0].template mutable_data<T>() + n * s.channels * s.places + place;
        for (int64_t c = 0; c < s.channels; ++c) y[c * s.places] = 0;
        for_each_tap(s, axes, [&](int i, int j, int k, int64_t at) {
          const T w = static_cast<T>(axes[0].weight[i] * axes[1].weight[j] * axes[2].weight[k]);
          for (int64_t c = 0; c < s.channels; ++c) {
            y[c * s.places] += w * from[c * s.plane + at];
          }
        });
      });
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(out[0].shape.numel());
    for (int d = 0; d < dims_of(in[1].shape); ++d) c.multiply_adds *= tap_count(a.mode);
    return c;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor grid = s.in(1);
    const Shape shape = s.needs(1) ? s.in(0).shape() : s.in_shape(0);
    const Sizes sizes(shape, grid.shape());
    const Shape out = g[0].shape();
    const Rule rule(a, sizes, grid, out);
    Grads result(2);
    Tensor by_axis[3];
    if (s.needs(1) && a.mode == GridSampleMode::kNearest) result[1] = zeros_like(grid);
    rule.for_each_combination([&](const int(&k)[3]) {
      const Tensor at = rule.elements(k, out);
      if (s.needs(0)) {
        accumulate(result[0], scatter_planes(g[0] * rule.product(k, -1), at, sizes.dims, shape));
      }
      if (!s.needs(1) || result[1].defined()) return;
      const Tensor seen =
          sum(g[0] * gather_planes(s.in(0), at, sizes.dims), Axes(-sizes.dims - 1), true);
      for (int i = first_axis(sizes); i < 3; ++i) accumulate(by_axis[i], seen * rule.product(k, i));
    });
    if (s.needs(1) && !result[1].defined()) {
      Tensor coordinates[3];
      Shape places(grid.shape().data(), static_cast<size_t>(grid.dim() - 1));
      for (int i = first_axis(sizes); i < 3; ++i) coordinates[2 - i] = reshape(by_axis[i], places);
      result[1] = stack({coordinates, static_cast<size_t>(sizes.dims)}, -1);
    }
    return result;
  }
  static void backward_values(const Saved& saved, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = saved.attrs<Attrs>();
    const Array grid = contiguous(saved.in_array(1));
    const Array gy = contiguous(g[0]);
    const bool needs_grid = saved.needs(1);
    const Array x = needs_grid ? contiguous(saved.in_array(0)) : Array();
    const Shape shape = needs_grid ? x.shape() : saved.in_shape(0);
    const Sizes s(shape, grid.shape());
    const Array gx = saved.needs(0) ? Array::zeros(gy.dtype(), shape) : Array();
    const Array gg = needs_grid ? Array::zeros(gy.dtype(), grid.shape()) : Array();
    visit_differentiable(gy.dtype(), [&](auto t) {
      using T = decltype(t);
      for_each_place(a, s, grid, [&](int64_t n, int64_t place, const GridAxis(&axes)[3]) {
        const T* from = gy.data<T>() + n * s.channels * s.places + place;
        const int64_t first = n * s.channels * s.plane;
        double slopes[3] = {};
        for_each_tap(s, axes, [&](int i, int j, int k, int64_t at) {
          const double wi = axes[0].weight[i];
          const double wj = axes[1].weight[j];
          const double wk = axes[2].weight[k];
          if (gx.defined()) {
            const T w = static_cast<T>(wi * wj * wk);
            T* to = gx.template mutable_data<T>() + first + at;
            for (int64_t c = 0; c < s.channels; ++c) to[c * s.plane] += w * from[c * s.places];
          }
          if (!gg.defined()) return;
          const T* value = x.data<T>() + first + at;
          double seen = 0;
          for (int64_t c = 0; c < s.channels; ++c) {
            seen +=
                static_cast<double>(value[c * s.plane]) * static_cast<double>(from[c * s.places]);
          }
          slopes[0] += seen * axes[0].slope[i] * wj * wk;
          slopes[1] += seen * wi * axes[1].slope[j] * wk;
          slopes[2] += seen * wi * wj * axes[2].slope[k];
        });
        if (!gg.defined()) return;
        T* to = gg.template mutable_data<T>() + (n * s.places + place) * s.dims;
        for (int i = first_axis(s); i < 3; ++i) to[2 - i] = static_cast<T>(slopes[i]);
      });
    });
    if (gx.defined()) sink.add(0, gx);
    if (gg.defined()) sink.add(1, gg);
  }
};
EBB_OP(GridSample)

struct AffineGrid {
  static constexpr OpDoc kDoc{"affine_grid", "y[i,j] = theta (x_j, y_i, 1)",
                              "theta:[n,2,3] -> y:[n,h,w,2]"};
  struct Attrs {
    int dims = 2;
    bool align_corners = false;
    int64_t batch = 64;  // -1: none
    int64_t size[3] = {1, 64, 64};
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("size ", list_of(a.size, a.dims),
                        a.align_corners ? ", aligned corners" : "");
  }
  static constexpr GradUses uses(int) { return {}; }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 1);
    require_floating(kDoc, in);
    const Shape& theta = in[0].shape;
    Shape want;
    Shape out;
    if (a.batch >= 0) {
      want.push_back(a.batch);
      out.push_back(a.batch);
    }
    want.push_back(a.dims);
    want.push_back(a.dims + 1);
    if (theta != want) {
      throw ShapeError(absl::StrCat(kDoc.name, ": theta is ", theta.str(), ", the size is ",
                                    list_of(a.size, a.dims),
                                    " without batch and channels; theta "
                                    "must be ",
                                    want.str()));
    }
    for (int i = 3 - a.dims; i < 3; ++i) {
      if (a.size[i] < 1) {
        throw ShapeError(absl::StrCat(kDoc.name, ": the size is ", list_of(a.size, a.dims),
                                      " without batch and channels; it must be positive"));
      }
      out.push_back(a.size[i]);
    }
    out.push_back(a.dims);
    check_addressable(kDoc, theta, out, in[0].dtype);
    return {{in[0].dtype, out}};
  }
  // Place o of n, from -1 to 1.
  static double place(const Attrs& a, int64_t o, int64_t n) {
    const auto at = static_cast<double>(o);
    const auto size = static_cast<double>(n);
    if (!a.align_corners) return (2 * at + 1) / size - 1;
    return n == 1 ? 0 : 2 * at / (size - 1) - 1;
  }
  // [places, dims + 1]: x, y, .., 1.
  template <class T>
  static void fill_places(const Attrs& a, T* to) {
    for (int64_t i = 0; i < a.size[0]; ++i) {
      for (int64_t j = 0; j < a.size[1]; ++j) {
        for (int64_t k = 0; k < a.size[2]; ++k) {
          *to++ = static_cast<T>(place(a, k, a.size[2]));
          *to++ = static_cast<T>(place(a, j, a.size[1]));
          if (a.dims == 3) *to++ = static_cast<T>(place(a, i, a.size[0]));
          *to++ = 1;
        }
      }
    }
  }
  static Tensor places(const Attrs& a, DType type) {
    Array p = Array::empty(type, {a.size[0] * a.size[1] * a.size[2], a.dims + 1});
    visit_differentiable(type, [&](auto t) { fill_places(a, p.mutable_data<decltype(t)>()); });
    return Tensor(p);
  }
  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Array theta = contiguous(in[0]);
    const Array base = places(a, theta.dtype()).array();
    const int64_t columns = a.dims + 1;
    visit_differentiable(theta.dtype(), [&](auto t) {
      using T = decltype(t);
      T* y = out[0].mutable_data<T>();
      for (int64_t n = 0; n < std::max<int64_t>(a.batch, a.batch < 0 ? 1 : 0); ++n) {
        const T* map = theta.data<T>() + n * a.dims * columns;
        const T* from = base.data<T>();
        for (int64_t p = 0; p < base.size(0); ++p, from += columns) {
          for (int64_t d = 0; d < a.dims; ++d) {
            T sum = 0;
            for (int64_t k = 0; k < columns; ++k) sum += map[d * columns + k] * from[k];
            *y++ = sum;
          }
        }
      }
    });
  }
  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    c.multiply_adds = static_cast<double>(out[0].shape.numel() * (a.dims + 1));
    return c;
  }
  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const Tensor base = places(a, g[0].dtype());
    Shape rows;
    if (a.batch >= 0) rows.push_back(a.batch);
    rows.push_back(base.size(0));
    rows.push_back(a.dims);
    return {matmul(transpose(reshape(g[0], rows), -2, -1), base)};
  }
};
EBB_OP(AffineGrid)

}  // namespace ops

Tensor grid_sample(const Tensor& x, const Tensor& grid, const GridSampleOptions& options,
                   Where where) {
  return apply_with<ops::GridSample>(options, At(x, where), grid);
}

Tensor affine_grid(const Tensor& theta, const Shape& size, bool align_corners, Where where) {
  ops::AffineGrid::Attrs a;
  const int rows = theta.dim() < 2 ? 0 : static_cast<int>(theta.size(-2));
  const int rank = theta.dim() == 3 ? rows + 2 : rows + 1;
  if ((theta.dim() != 2 && theta.dim() != 3) || (rows != 2 && rows != 3) || size.rank() != rank) {
    throw ShapeError(absl::StrCat("affine_grid: theta is ", theta.shape().str(), ", the size is ",
                                  size.str(),
                                  "; they must be [2,3] and {C,H,W}, [N,2,3] and "
                                  "{N,C,H,W}, [3,4] and {C,T,H,W}, or [N,3,4] and {N,C,T,H,W}"));
  }
  a.dims = rows;
  a.align_corners = align_corners;
  a.batch = theta.dim() == 3 ? size[0] : -1;
  for (int i = 0; i < 3; ++i) a.size[i] = i < 3 - rows ? 1 : size[rank - 3 + i];
  return apply_with<ops::AffineGrid>(a, At(theta, where));
}

}  // namespace ebb
