// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/creation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ebb/ops/op_util.h"

namespace ebb {
namespace ops {

namespace {

// y[i] = f(i) as a T, of whatever type y is; the storage types by way of float32.
template <class F>
void generate(const Array& y, F&& f) {
  const auto fill = [&](const Array& to, auto t) {
    using T = decltype(t);
    T* p = to.mutable_data<T>();
    for (int64_t i = 0; i < to.numel(); ++i) p[i] = f(t, i);
  };
  if (visit_arithmetic(y.dtype(), [&](auto t) { fill(y, t); })) return;
  const Array wide = Array::empty(kFloat32, y.shape());
  fill(wide, float{});
  copy_into(y, cast(wide, y.dtype()));
}

void require_numeric(const OpDoc& doc, DType dtype) {
  if (dtype != kBool) return;
  throw DTypeError(absl::StrCat(doc.name, ": the type may not be bool"));
}

}  // namespace

struct Full {
  static constexpr OpDoc kDoc{"full", "y = value everywhere", "-> y:shape"};
  struct Attrs {
    Shape shape;
    DType dtype;
    Number value;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat(a.shape.str(), " ", a.value.as<double>());
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 0);
    return {{a.dtype, a.shape}};
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    generate(out[0], [&](auto t, int64_t) { return a.value.as<decltype(t)>(); });
  }
};
EBB_OP(Full)

struct Arange {
  static constexpr OpDoc kDoc{"arange", "y[i] = start + i step, before end", "-> y:[n]"};
  struct Attrs {
    Number start;
    Number end;
    Number step;
    DType dtype;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("start=", a.start.as<double>(), " end=", a.end.as<double>(),
                        " step=", a.step.as<double>());
  }
  static bool is_floating(const Attrs& a) {
    return a.start.is_floating() || a.end.is_floating() || a.step.is_floating();
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 0);
    require_numeric(kDoc, a.dtype);
    const auto start = a.start.as<double>();
    const auto end = a.end.as<double>();
    const auto step = a.step.as<double>();
    const char* why = nullptr;
    if (!std::isfinite(start) || !std::isfinite(end) || !std::isfinite(step)) {
      why = "the numbers must be finite";
    } else if (step == 0) {
      why = "step may not be 0";
    } else if (start != end && (start < end) != (step > 0)) {
      why = "step leads away from end";
    }
    if (why != nullptr) {
      throw ValueError(absl::StrCat("arange: from ", start, " to ", end, " by ", step, "; ", why));
    }
    return {{a.dtype, {count(a)}}};
  }
  static int64_t count(const Attrs& a) {
    if (is_floating(a)) {
      const double n = std::ceil((a.end.as<double>() - a.start.as<double>()) / a.step.as<double>());
      constexpr double kMost = 9.2e18;  // the array will not be had anyway, but the number must fit
      return static_cast<int64_t>(std::min(n, kMost));
    }
    const auto start = a.start.as<int64_t>();
    const auto end = a.end.as<int64_t>();
    if (start == end) return 0;
    // Unsigned, for the difference of two numbers may not fit.
    const auto step = static_cast<uint64_t>(a.step.as<int64_t>());
    const bool up = start < end;
    const uint64_t span =
        static_cast<uint64_t>(up ? end : start) - static_cast<uint64_t>(up ? start : end);
    return static_cast<int64_t>(
        std::min<uint64_t>((span - 1) / (up ? step : 0 - step) + 1, INT64_MAX));
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    if (is_floating(a)) {
      const auto start = a.start.as<double>();
      const auto step = a.step.as<double>();
      generate(out[0], [=](auto t, int64_t i) {
        return static_cast<decltype(t)>(start + static_cast<double>(i) * step);
      });
    } else {
      const auto start = a.start.as<int64_t>();
      const auto step = a.step.as<int64_t>();
      generate(out[0],
               [=](auto t, int64_t i) { return static_cast<decltype(t)>(start + i * step); });
    }
  }
};
EBB_OP(Arange)

struct Linspace {
  static constexpr OpDoc kDoc{"linspace", "y[i] = start + i (end - start) / (n - 1)", "-> y:[n]"};
  struct Attrs {
    double start;
    double end;
    int64_t steps;
    DType dtype;
  };
  static std::string describe(const Attrs& a) {
    return absl::StrCat("start=", a.start, " end=", a.end, " steps=", a.steps);
  }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 0);
    require_numeric(kDoc, a.dtype);
    if (a.steps < 0) throw ValueError(absl::StrCat("linspace: steps is ", a.steps));
    return {{a.dtype, {a.steps}}};
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    const auto last = static_cast<double>(a.steps - 1);
    const double step = a.steps > 1 ? (a.end - a.start) / last : 0;
    // From both ends, so that both are exact.
    generate(out[0], [&](auto t, int64_t i) {
      const double v = i < (a.steps + 1) / 2 ? a.start + static_cast<double>(i) * step
                                             : a.end - static_cast<double>(a.steps - 1 - i) * step;
      return static_cast<decltype(t)>(v);
    });
  }
};
EBB_OP(Linspace)

struct Eye {
  static constexpr OpDoc kDoc{"eye", "y[i,j] = 1 where i = j, else 0", "-> y:[n,m]"};
  struct Attrs {
    int64_t rows;
    int64_t cols;
    DType dtype;
  };
  static std::string describe(const Attrs& a) { return Shape({a.rows, a.cols}).str(); }
  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, 0);
    if (a.rows < 0 || a.cols < 0) {
      throw ShapeError(
          absl::StrCat("eye: ", Shape({a.rows, a.cols}).str(), "; sizes may not be negative"));
    }
    return {{a.dtype, {a.rows, a.cols}}};
  }
  static void forward(const Attrs& a, Span<const Array>, Span<Array> out) {
    const size_t item = size_of(a.dtype);
    std::memset(out[0].raw(), 0, static_cast<size_t>(out[0].numel()) * item);
    const int64_t strides[] = {a.cols + 1};
    const int64_t n = std::min(a.rows, a.cols);
    copy_into(out[0].view({n}, strides, 0), Array::full(a.dtype, {n}, 1));
  }
};
EBB_OP(Eye)

namespace {

template <class Op>
Tensor create(const typename Op::Attrs& attrs, Where where) {
  return apply_span<Op>(attrs, {}, where);
}

TensorOptions like(const Tensor& x, const TensorOptions& options) {
  return {options.dtype.value_or(x.dtype())};
}

}  // namespace
}  // namespace ops

Tensor full(const Shape& shape, Number value, const TensorOptions& options, Where where) {
  return ops::create<ops::Full>({shape, options.dtype.value_or(value.dtype()), value}, where);
}

Tensor zeros(const Shape& shape, const TensorOptions& options) {
  return Tensor(Array::zeros(options.dtype.value_or(kFloat32), shape));
}
Tensor ones(const Shape& shape, const TensorOptions& options) {
  return Tensor(Array::full(options.dtype.value_or(kFloat32), shape, 1));
}
Tensor empty(const Shape& shape, const TensorOptions& options) {
  return Tensor(Array::empty(options.dtype.value_or(kFloat32), shape));
}

Tensor full_like(const Tensor& x, Number value, const TensorOptions& options) {
  return full(x.shape(), value, ops::like(x, options));
}
Tensor zeros_like(const Tensor& x, const TensorOptions& options) {
  return zeros(x.shape(), ops::like(x, options));
}
Tensor ones_like(const Tensor& x, const TensorOptions& options) {
  return ones(x.shape(), ops::like(x, options));
}
Tensor empty_like(const Tensor& x, const TensorOptions& options) {
  return empty(x.shape(), ops::like(x, options));
}

Tensor arange(Number start, Number end, Number step, const TensorOptions& options, Where where) {
  ops::Arange::Attrs a{start, end, step, kInt64};
  a.dtype = options.dtype.value_or(ops::Arange::is_floating(a) ? kFloat32 : kInt64);
  return ops::create<ops::Arange>(a, where);
}
Tensor arange(Number start, Number end, const TensorOptions& options, Where where) {
  return arange(start, end, 1, options, where);
}
Tensor arange(Number end, const TensorOptions& options, Where where) {
  return arange(0, end, 1, options, where);
}

Tensor linspace(double start, double end, int64_t steps, const TensorOptions& options,
                Where where) {
  return ops::create<ops::Linspace>({start, end, steps, options.dtype.value_or(kFloat32)}, where);
}

Tensor eye(int64_t n, const TensorOptions& options, Where where) {
  return eye(n, n, options, where);
}
Tensor eye(int64_t n, int64_t m, const TensorOptions& options, Where where) {
  return ops::create<ops::Eye>({n, m, options.dtype.value_or(kFloat32)}, where);
}

NestedList::NestedList(std::initializer_list<NestedList> list) {
  shape_.push_back(static_cast<int64_t>(list.size()));
  for (const NestedList& l : list) {
    const Shape& first = list.begin()->shape_;
    if (l.shape_ != first) {
      throw ShapeError(absl::StrCat("tensor: a list holds one of shape ", first.str(),
                                    " and one of shape ", l.shape_.str()));
    }
    numbers_.insert(numbers_.end(), l.numbers_.begin(), l.numbers_.end());
  }
  if (list.size() == 0) return;
  for (const int64_t d : list.begin()->shape_) shape_.push_back(d);
}

Tensor tensor(const NestedList& values, const TensorOptions& options) {
  const std::vector<Number>& numbers = values.numbers();
  bool any_floating = numbers.empty();
  bool all_bool = true;
  for (const Number& n : numbers) {
    any_floating |= n.is_floating();
    all_bool &= n.dtype() == kBool;
  }
  const DType natural = any_floating ? kFloat32 : all_bool ? kBool : kInt64;
  Array out = Array::empty(options.dtype.value_or(natural), values.shape());
  ops::generate(
      out, [&](auto t, int64_t i) { return numbers[static_cast<size_t>(i)].as<decltype(t)>(); });
  return Tensor(std::move(out));
}

}  // namespace ebb
