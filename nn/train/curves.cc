// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/curves.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ebb/core/error.h"

namespace ebb::train {

namespace {

std::vector<std::string> with_step(const std::vector<std::string>& names, int64_t window) {
  if (names.empty()) throw ValueError("Curves: there are no names");
  if (window < 1) {
    throw ValueError(absl::StrCat("Curves: the window is ", window, "; it must be at least 1"));
  }
  std::vector<std::string> columns = {"step"};
  columns.insert(columns.end(), names.begin(), names.end());
  return columns;
}

}  // namespace

Curves::Curves(const std::string& path, std::vector<std::string> names, int64_t window)
    : window_(window), sums_(names.size()), csv_(path, {.columns = with_step(names, window)}) {
  for (std::string& name : names) series_.push_back({.name = std::move(name)});
}

size_t Curves::find(std::string_view name) const {
  for (size_t i = 0; i < series_.size(); ++i) {
    if (series_[i].name == name) return i;
  }
  throw ValueError(absl::StrCat("Curves: '", std::string(name), "' is not one of the names"));
}

void Curves::add(int64_t step, std::string_view name, double value) {
  Sum& sum = sums_[find(name)];
  sum.value += value;
  if (++sum.count < window_) return;
  const Sum full = std::exchange(sum, {});
  point(step, name, full.value / static_cast<double>(full.count));
}

void Curves::point(int64_t step, std::string_view name, double value) {
  Series& s = series_[find(name)];
  csv_.row({{"step", step}, {name, value}});
  s.x.push_back(static_cast<double>(step));
  s.y.push_back(value);
}

}  // namespace ebb::train
