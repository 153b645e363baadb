// SPDX-License-Identifier: Apache-2.0
#include "ebb/autograd/registry.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace ebb {
namespace {

constexpr int64_t kExampleSize = 64;

// "m" and "..." stand for 64, "3" for 3.
int64_t example_size(std::string_view dim) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(dim.data(), dim.data() + dim.size(), n);
  return error == std::errc() && end == dim.data() + dim.size() ? n : kExampleSize;
}

// The shapes left of the arrow of "a:[m,k] b:[k,n] -> y:[m,n]".
std::vector<Shape> documented_inputs(std::string_view shapes) {
  shapes = shapes.substr(0, shapes.find("->"));
  std::vector<Shape> inputs;
  for (size_t at = shapes.find(":["); at != std::string_view::npos; at = shapes.find(":[", at)) {
    at += 2;
    const size_t end = shapes.find(']', at);
    if (end == std::string_view::npos) break;
    Shape shape;
    const std::string_view dims = shapes.substr(at, end - at);
    for (const absl::string_view dim :
         absl::StrSplit(absl::string_view(dims.data(), dims.size()), ',', absl::SkipEmpty())) {
      if (shape.rank() < kMaxRank) shape.push_back(example_size({dim.data(), dim.size()}));
    }
    inputs.push_back(shape);
  }
  return inputs;
}

// Attributes with their default values.
class DefaultAttrs {
 public:
  explicit DefaultAttrs(const OpDef& def)
      : def_(def), room_(def.attrs_size / sizeof(std::max_align_t) + 1) {
    def.default_attrs(room_.data());
  }
  ~DefaultAttrs() {
    if (def_.destroy_attrs != nullptr) def_.destroy_attrs(room_.data());
  }
  DefaultAttrs(const DefaultAttrs&) = delete;
  DefaultAttrs& operator=(const DefaultAttrs&) = delete;
  const void* get() const { return room_.data(); }

 private:
  const OpDef& def_;
  std::vector<std::max_align_t> room_;
};

}  // namespace

const OpDef* find_op(std::string_view name) {
  const auto ops = registered_ops();
  const auto it =
      std::find_if(ops.begin(), ops.end(), [&](const OpDef* d) { return name == d->doc.name; });
  return it == ops.end() ? nullptr : *it;
}

std::optional<Cost> example_cost(const OpDef& def) {
  constexpr size_t kMostInputs = 5;
  constexpr DType kTypes[] = {kFloat32, kInt64, kBool};
  const std::vector<Shape> shapes = documented_inputs(def.doc.shapes);
  if (def.default_attrs == nullptr || shapes.size() > kMostInputs) return std::nullopt;
  const DefaultAttrs attrs(def);
  // The documentation does not say which inputs are indices or masks: the op itself does.
  size_t choices = 1;
  for (size_t i = 0; i < shapes.size(); ++i) choices *= std::size(kTypes);
  for (size_t choice = 0; choice < choices; ++choice) {
    std::vector<Meta> in;
    size_t rest = choice;
    for (const Shape& s : shapes) {
      in.push_back({kTypes[rest % std::size(kTypes)], s});
      rest /= std::size(kTypes);
    }
    try {
      const Metas out = def.infer(attrs.get(), in);
      return def.cost(attrs.get(), in, out);
    } catch (const Error&) {
      continue;
    }
  }
  return std::nullopt;
}

std::string op_table() {
  std::vector<const OpDef*> ops(registered_ops().begin(), registered_ops().end());
  std::sort(ops.begin(), ops.end(), [](const OpDef* a, const OpDef* b) {
    return std::string_view(a->doc.name) < b->doc.name;
  });
  size_t width = 0;
  for (const OpDef* d : ops) width = std::max(width, std::string_view(d->doc.name).size());
  std::string out;
  for (const OpDef* d : ops) {
    const std::optional<Cost> cost = example_cost(*d);
    absl::StrAppendFormat(&out, "%-*s  %s  |  %s  |  %s\n", static_cast<int>(width), d->doc.name,
                          d->doc.formula, d->doc.shapes,
                          cost.has_value() ? absl::StrFormat("%.6g multiply-adds, %.6g bytes",
                                                             cost->multiply_adds, cost->bytes)
                                           : "cost depends on its attributes");
  }
  return out;
}

}  // namespace ebb
