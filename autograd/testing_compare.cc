// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/testing_compare.h"

#include <cxxabi.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/autograd/engine.h"
#include "ebb/autograd/leaf.h"
#include "ebb/core/random.h"

namespace ebb::testing::detail {
namespace {

std::string element_name(const Shape& shape, size_t at) {
  Shape index = shape;
  auto k = static_cast<int64_t>(at);
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index[i] = k % shape[i];
    k /= shape[i];
  }
  return index.str();
}

std::string difference(const RefArray& got, const RefArray& want, const Tolerance& tolerance,
                       bool exact) {
  if (got.shape != want.shape) {
    return absl::StrCat("shape is ", got.shape.str(), ", expected ", want.shape.str());
  }
  double largest = tolerance.largest;
  for (const double w : want.v) {
    if (std::isfinite(w)) largest = std::max(largest, std::abs(w));
  }
  size_t failed = 0;
  size_t worst_at = 0;
  double worst = -1;
  for (size_t k = 0; k < want.v.size(); ++k) {
    const double g = got.v[k];
    const double w = want.v[k];
    if (g == w || (std::isnan(g) && std::isnan(w))) continue;
    double relative = INFINITY;
    if (std::isfinite(g) && std::isfinite(w)) {
      const double scale = std::max(std::abs(w), tolerance.floor * largest);
      if (!exact && scale > 0) relative = std::abs(g - w) / scale;
    }
    if (relative <= tolerance.relative) continue;
    ++failed;
    if (relative > worst) {
      worst = relative;
      worst_at = k;
    }
  }
  if (failed == 0) return "";
  return absl::StrFormat(
      "element %s is %.10g, expected %.10g: off by %.3g, relative %.3g, allowed %.3g; %d of %d "
      "elements fail",
      element_name(want.shape, worst_at), got.v[worst_at], want.v[worst_at],
      std::abs(got.v[worst_at] - want.v[worst_at]), worst, exact ? 0.0 : tolerance.relative, failed,
      want.v.size());
}

Array cotangent(const Array& y, size_t j) {
  Generator random(j, "cotangent");
  std::vector<double> v(static_cast<size_t>(y.numel()));
  for (double& x : v) x = static_cast<float>(random.normal());
  return cast(Array::of<double>(y.shape(), v), y.dtype());
}

}  // namespace

std::string difference(const Array& got, const Array& want, const Tolerance& tolerance) {
  return difference(to_ref(got), to_ref(want), tolerance, is_integral(want.dtype()));
}

std::string difference(const Array& got, const RefArray& want, const Tolerance& tolerance) {
  return difference(to_ref(got), want, tolerance, is_integral(got.dtype()));
}

double largest(Span<const Array> arrays) {
  double most = 0;
  for (const Array& a : arrays) {
    if (!a.defined()) continue;
    for (const double v : to_ref(a).v) {
      if (std::isfinite(v)) most = std::max(most, std::abs(v));
    }
  }
  return most;
}

bool identical(const Array& a, const Array& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  if (a.meta() != b.meta()) return false;
  const Array x = contiguous(a);
  const Array y = contiguous(b);
  return x.numel() == 0 ||
         std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.numel()) * size_of(x.dtype())) == 0;
}

bool is_variable(const Sample& s, Span<const Tensor> inputs, size_t i) {
  return inputs[i].defined() && is_differentiable(inputs[i].dtype()) &&
         std::find(s.constants.begin(), s.constants.end(), static_cast<int>(i)) ==
             s.constants.end();
}

Result evaluate(const Sample& s, Span<const Tensor> inputs, const How& how) {
  const EnableGradGuard on;
  std::vector<Tensor> args;
  std::vector<Tensor> leaves;
  std::vector<size_t> leaf_input;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool wanted = how.only_input < 0 || how.only_input == static_cast<int>(i);
    if (wanted && is_variable(s, inputs, i)) {
      args.push_back(variable(inputs[i]));
      leaves.push_back(args.back());
      leaf_input.push_back(i);
    } else {
      args.push_back(inputs[i]);
    }
  }
  Result r;
  std::vector<Tensor> from;
  std::vector<Tensor> start;
  const std::vector<Tensor> outputs = s.call(args);
  for (size_t j = 0; j < outputs.size(); ++j) {
    r.values.push_back(outputs[j].array());
    if (!outputs[j].requires_grad()) continue;
    r.tracked = true;
    if (how.only_output >= 0 && how.only_output != static_cast<int>(j)) continue;
    from.push_back(outputs[j]);
    start.push_back(Tensor(cotangent(outputs[j].value(), j)));
  }
  r.gradients.resize(inputs.size());
  std::vector<Tensor> found(leaves.size());
  if (!from.empty()) {
    if (how.playback == Playback::kBackward) {
      backward(from, start);
      for (size_t k = 0; k < leaves.size(); ++k) found[k] = leaves[k].grad();
    } else {
      found = grad(from, leaves,
                   {.create_graph = how.playback == Playback::kGraph, .allow_unused = true}, start);
    }
  }
  for (size_t k = 0; k < leaves.size(); ++k) {
    r.gradients[leaf_input[k]] =
        found[k].defined() ? found[k].array() : Array::zeros(leaves[k].dtype(), leaves[k].shape());
  }
  return r;
}

std::vector<Tensor> to_float32(Span<const Tensor> inputs) {
  std::vector<Tensor> out;
  for (const Tensor& x : inputs) {
    const bool convert = x.defined() && x.dtype() == kFloat64;
    out.push_back(convert ? Tensor(cast(x.array(), kFloat32)) : x);
  }
  return out;
}

void Report::add(const std::string& sample, const std::string& check, const std::string& problem) {
  if (problem.empty() || full()) return;
  failures_.push_back(absl::StrCat(sample.empty() ? "" : absl::StrCat("sample '", sample, "', "),
                                   check, ": ", problem));
}

bool Report::run(const std::string& sample, const std::string& name,
                 const std::function<std::string()>& check) {
  if (full()) return true;
  std::string problem;
  try {
    problem = check();
  } catch (const std::exception& e) {
    problem = absl::StrCat("threw ", type_name(typeid(e)), ": ", e.what());
  }
  add(sample, name, problem);
  return problem.empty();
}

void Report::finish() const {
  if (failures_.empty()) return;
  throw CheckFailure(absl::StrCat(op_, ": ", failures_.size(), full() ? " or more" : "",
                                  " checks failed\n  ", absl::StrJoin(failures_, "\n  ")));
}

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? name.get() : type.name();
}

// --- layouts --------------------------------------------------------------------------------
namespace {

void row_major(const Shape& shape, int64_t* strides) {
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
}

// Calls f with the offsets of every element under two sets of strides.
template <class F>
void for_each_element(const Shape& shape, const int64_t* a, const int64_t* b, F&& f) {
  int64_t index[kMaxRank] = {};
  for (int64_t k = shape.numel(); k > 0; --k) {
    int64_t at_a = 0;
    int64_t at_b = 0;
    for (int i = 0; i < shape.rank(); ++i) {
      at_a += index[i] * a[i];
      at_b += index[i] * b[i];
    }
    f(at_a, at_b);
    for (int i = shape.rank() - 1; i >= 0 && ++index[i] == shape[i]; --i) index[i] = 0;
  }
}

// The values of `a` at these strides and offset among `total` elements; what lies between would
// show: NaN, or an index out of any range.
Array laid_out(const Array& a, const int64_t* strides, int64_t offset, int64_t total) {
  const Shape shape = a.shape();
  const size_t item = size_of(a.dtype());
  const Array base = Array::empty(a.dtype(), {total});
  const int junk = is_floating(a.dtype()) ? 0xff : a.dtype() == kBool ? 1 : 0x7f;
  std::memset(base.raw(), junk, static_cast<size_t>(total) * item);
  Array view = base.view(shape, strides, offset);
  for_each_element(shape, strides, a.strides(), [&](int64_t to, int64_t from) {
    std::memcpy(view.raw() + to * static_cast<int64_t>(item),
                a.raw() + from * static_cast<int64_t>(item), item);
  });
  return view;
}

Array inner_stride(const Array& a) {
  int64_t strides[kMaxRank];
  row_major(a.shape(), strides);
  for (int i = 0; i < a.rank(); ++i) strides[i] *= 2;
  return laid_out(a, strides, 1, 2 * a.numel() + 1);
}

Array transposed_storage(const Array& a) {
  if (a.rank() < 2) return {};
  int64_t strides[kMaxRank];
  int64_t stride = 1;
  for (int i = 0; i < a.rank(); ++i) {
    strides[i] = stride;
    stride *= a.size(i);
  }
  return laid_out(a, strides, 0, a.numel());
}

Array padded(const Array& a) {
  if (a.rank() == 0) return {};
  Shape outer = a.shape();
  for (int i = 0; i < a.rank(); ++i) outer[i] += 2;
  int64_t strides[kMaxRank];
  row_major(outer, strides);
  int64_t offset = 0;
  for (int i = 0; i < a.rank(); ++i) offset += strides[i];
  return laid_out(a, strides, offset, outer.numel());
}

Array reversed(const Array& a) {
  if (a.rank() == 0) return {};
  int64_t strides[kMaxRank];
  row_major(a.shape(), strides);
  for (int i = 0; i < a.rank(); ++i) strides[i] = -strides[i];
  return laid_out(a, strides, a.numel() - 1, a.numel());
}

// A dimension along which the elements do not change gets stride 0.
Array repeated(const Array& a) {
  const Array c = contiguous(a);
  const Shape shape = c.shape();
  const size_t item = size_of(c.dtype());
  int64_t strides[kMaxRank];
  row_major(shape, strides);
  bool any = false;
  for (int dim = 0; dim < shape.rank(); ++dim) {
    if (shape[dim] < 2) continue;
    int64_t first[kMaxRank];
    std::copy_n(strides, shape.rank(), first);
    first[dim] = 0;
    int64_t here[kMaxRank];
    row_major(shape, here);
    bool same = true;
    for_each_element(shape, here, first, [&](int64_t x, int64_t y) {
      same = same && std::memcmp(c.raw() + x * static_cast<int64_t>(item),
                                 c.raw() + y * static_cast<int64_t>(item), item) == 0;
    });
    if (!same) continue;
    strides[dim] = 0;
    any = true;
  }
  return any ? c.view(shape, strides, 0) : Array();
}

constexpr Layout kLayouts[] = {{"inner stride 2", &inner_stride},
                               {"transposed", &transposed_storage},
                               {"padded", &padded},
                               {"reversed", &reversed},
                               {"stride 0", &repeated}};

}  // namespace

Span<const Layout> layouts() { return kLayouts; }

}  // namespace ebb::testing::detail
