// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/einsum.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "ebb/ops/kernels/binary.h"
#include "ebb/ops/kernels/strided.h"
#include "ebb/ops/product.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"

namespace ebb {
namespace ops {

namespace {

// The labels of an operand's axes: letters, and '0'..'7' for the axes of an ellipsis, the last of
// which is '7' in every operand.
struct Labels {
  int8_t size = 0;
  char at[kMaxRank];

  char operator[](int i) const { return at[i]; }
  int find(char c) const { return static_cast<int>(std::find(at, at + size, c) - at); }
  bool has(char c) const { return find(c) < size; }
  void push_back(char c) { at[size++] = c; }
  bool operator==(const Labels& o) const {
    return size == o.size && std::equal(at, at + size, o.at);
  }
  std::string str() const { return std::string(at, static_cast<size_t>(size)); }
};

using LabelSet = std::bitset<128>;

LabelSet set_of(const Labels& l) {
  LabelSet s;
  for (int i = 0; i < l.size; ++i) s.set(static_cast<size_t>(l[i]));
  return s;
}
bool has(const LabelSet& s, char c) { return s.test(static_cast<size_t>(c)); }

}  // namespace

struct EinsumAttrs {
  absl::InlinedVector<Labels, 3> in;
  // May hold a label that no operand has, along which the result is constant, and one twice: then
  // the result is 0 off that diagonal. Users' equations do neither; gradients need both.
  Labels out;
  Shape out_sizes;  // -1 where the operands say it

  std::string str() const {
    std::string s;
    for (size_t i = 0; i < in.size(); ++i) absl::StrAppend(&s, i == 0 ? "" : ",", in[i].str());
    return absl::StrCat(s, "->", out.str());
  }
};

namespace {

using Sizes = std::array<int64_t, 128>;

template <class ShapeOf>
Sizes label_sizes(const EinsumAttrs& a, ShapeOf&& shape_of) {
  Sizes sizes;
  sizes.fill(-1);
  const auto meet = [&](char label, int64_t size) {
    int64_t& known = sizes[static_cast<size_t>(label)];
    if (known == -1 || known == 1) {
      known = size;
    } else if (size != known && size != 1) {
      std::string shapes;
      for (size_t i = 0; i < a.in.size(); ++i) {
        absl::StrAppend(&shapes, i == 0 ? "" : ", ", shape_of(i).str());
      }
      throw ShapeError(absl::StrCat("einsum: ", a.str(), " of ", shapes, "; label ",
                                    std::string(1, label), " has sizes ", known, " and ", size));
    }
  };
  for (size_t i = 0; i < a.in.size(); ++i) {
    const Shape shape = shape_of(i);
    for (int k = 0; k < shape.rank(); ++k) {
      const int first = a.in[i].find(a.in[i][k]);
      if (first < k && shape[first] != shape[k]) {
        throw ShapeError(absl::StrCat("einsum: ", a.str(), ": operand ", i, " is ", shape.str(),
                                      "; its axes ", first, " and ", k, " must be equal"));
      }
      meet(a.in[i][k], shape[k]);
    }
  }
  for (int k = 0; k < a.out.size; ++k) {
    if (a.out_sizes[k] >= 0) meet(a.out[k], a.out_sizes[k]);
  }
  return sizes;
}

// A factor of the sum, each of its labels once.
struct Factor {
  Array array;
  Labels labels;

  int64_t size(char c) const { return array.size(labels.find(c)); }
  int64_t stride(char c) const { return array.stride(labels.find(c)); }
};

// Drops axes that broadcast, and takes the diagonal where a label occurs twice. View.
Factor distinct(const Array& a, const Labels& labels, const Sizes& sizes) {
  Factor f;
  Shape shape;
  int64_t strides[kMaxRank];
  bool same = true;
  for (int k = 0; k < labels.size && same; ++k) {
    same = a.size(k) == sizes[static_cast<size_t>(labels[k])] && labels.find(labels[k]) == k;
  }
  if (same) return {a, labels};
  for (int k = 0; k < labels.size; ++k) {
    const char c = labels[k];
    if (a.size(k) != sizes[static_cast<size_t>(c)]) continue;
    const int seen = f.labels.find(c);
    if (seen < f.labels.size) {
      strides[seen] += a.stride(k);
      continue;
    }
    strides[f.labels.size] = a.stride(k);
    f.labels.push_back(c);
    shape.push_back(a.size(k));
  }
  f.array = a.view(shape, strides, 0);
  return f;
}

// The sum over the labels that are not kept.
Factor sum_over_others(const Factor& f, const LabelSet& keep) {
  Factor out;
  absl::InlinedVector<int64_t, kMaxRank> axes;
  for (int k = 0; k < f.labels.size; ++k) {
    if (has(keep, f.labels[k])) {
      out.labels.push_back(f.labels[k]);
    } else {
      axes.push_back(k);
    }
  }
  if (axes.empty()) return f;
  out.array = sum(Tensor(f.array), Axes(Span<const int64_t>(axes))).value();
  return out;
}

// f with its axes in the order of `labels`, 0 as the stride of those it lacks. View.
Array arranged(const Factor& f, const Labels& labels, const Sizes& sizes) {
  if (f.labels == labels) return f.array;
  Shape shape;
  int64_t strides[kMaxRank];
  for (int k = 0; k < labels.size; ++k) {
    strides[k] = f.labels.has(labels[k]) ? f.stride(labels[k]) : 0;
    shape.push_back(sizes[static_cast<size_t>(labels[k])]);
  }
  return f.array.view(shape, strides, 0);
}

// An array whose axes are the labels of three groups in turn, as one of three axes: a view where
// the strides allow, else a copy.
Array grouped(const Array& a, const int (&counts)[3]) {
  Shape shape;
  int64_t strides[3];
  int axis = 0;
  const bool empty = a.numel() == 0;
  for (int g = 0; g < 3; ++g) {
    int64_t size = 1;
    int64_t stride = 1;
    for (int k = counts[g] - 1; k >= 0; --k) {
      const int64_t d = a.size(axis + k);
      if (d == 1) continue;
      if (size == 1) {
        stride = a.stride(axis + k);
      } else if (a.stride(axis + k) != stride * size && !empty) {
        return grouped(copy(a), counts);
      }
      size *= d;
    }
    axis += counts[g];
    shape.push_back(size);
    strides[g] = stride;
  }
  return a.view(shape, strides, 0);
}

// The labels of a product in the order of `wanted`, those that it lacks last.
Labels in_order(const LabelSet& set, const Labels& wanted, const Labels& a, const Labels& b) {
  Labels out;
  for (const Labels* from : {&wanted, &a, &b}) {
    for (int k = 0; k < from->size; ++k) {
      if (!has(set, (*from)[k]) || out.has((*from)[k])) continue;
      if (out.size == kMaxRank) {
        throw ShapeError("einsum: an intermediate product would have more than 8 axes");
      }
      out.push_back((*from)[k]);
    }
  }
  return out;
}

Array empty_for(const Labels& labels, const Sizes& sizes, DType dtype) {
  Shape shape;
  for (int k = 0; k < labels.size; ++k) shape.push_back(sizes[static_cast<size_t>(labels[k])]);
  return Array::empty(dtype, shape);
}

// Where nothing is summed over: element by element.
Factor product(const Factor& a, const Factor& b, const Labels& labels, const Sizes& sizes,
               const Array& target) {
  const Array y = target.defined() ? target : empty_for(labels, sizes, a.array.dtype());
  const Array x = arranged(a, labels, sizes);
  const Array z = arranged(b, labels, sizes);
  const kernels::BinaryFn mul = kernels::binary_fn(y.dtype(), kernels::Binary::kMul);
  const auto item = static_cast<ptrdiff_t>(size_of(y.dtype()));
  kernels::for_each_row<3>(static_cast<size_t>(y.rank()), y.dims(),
                           {y.strides(), x.strides(), z.strides()},
                           [&](const ptrdiff_t* at, size_t n, const ptrdiff_t* stride) {
                             mul(x.raw() + at[1] * item, stride[1], z.raw() + at[2] * item,
                                 stride[2], y.raw() + at[0] * item, n);
                           });
  return {y, labels};
}

// The sum over the labels that are not kept of a times b. Where its axes come out in the order of
// `wanted`, it is made in `target`, if that is defined.
Factor contract(Factor a, Factor b, const LabelSet& keep, const Labels& wanted, const Sizes& sizes,
                const Array& target) {
  a = sum_over_others(a, keep | set_of(b.labels));
  b = sum_over_others(b, keep | set_of(a.labels));
  const LabelSet both = set_of(a.labels) & set_of(b.labels);
  const LabelSet all = set_of(a.labels) | set_of(b.labels);
  const Labels labels = in_order(all & keep, wanted, a.labels, b.labels);
  const auto fits = [&](const Labels& l) { return target.defined() && l == wanted; };
  if ((both & ~keep).none()) {
    return product(a, b, labels, sizes, fits(labels) ? target : Array());
  }
  // The operand to which the first axis that they do not share belongs goes to the left.
  for (int k = 0; k < labels.size; ++k) {
    if (has(both, labels[k])) continue;
    if (b.labels.has(labels[k])) std::swap(a, b);
    break;
  }
  Labels left;   // shared, of a, summed
  Labels right;  // shared, summed, of b
  Labels result;
  int counts_a[3] = {};
  int counts_b[3] = {};
  const auto take = [&](const Labels& from, auto&& belongs, int group_a, int group_b, bool kept) {
    for (int k = 0; k < from.size; ++k) {
      const char c = from[k];
      if (!belongs(c)) continue;
      if (group_a >= 0) {
        left.push_back(c);
        ++counts_a[group_a];
      }
      if (group_b >= 0) {
        right.push_back(c);
        ++counts_b[group_b];
      }
      if (kept) result.push_back(c);
    }
  };
  take(
      labels, [&](char c) { return has(both, c); }, 0, 0, true);
  take(
      labels, [&](char c) { return !has(both, c) && a.labels.has(c); }, 1, -1, true);
  take(
      a.labels, [&](char c) { return has(both, c) && !has(keep, c); }, 2, 1, false);
  take(
      labels, [&](char c) { return !has(both, c) && b.labels.has(c); }, -1, 2, true);
  const Array x = grouped(arranged(a, left, sizes), counts_a);
  const Array z = grouped(arranged(b, right, sizes), counts_b);
  const Array y = fits(result) ? target : empty_for(result, sizes, x.dtype());
  run_matmul(x, z, y.view_as({x.size(0), x.size(1), z.size(2)}));
  return {y, result};
}

int64_t size_of_all(const LabelSet& set, const Sizes& sizes) {
  int64_t n = 1;
  for (size_t c = 0; c < set.size(); ++c) {
    if (set.test(c)) n *= sizes[c];
  }
  return n;
}

// What has to remain of factors i and j: the labels that the result or another factor has.
LabelSet kept_labels(Span<const LabelSet> factors, size_t i, size_t j, const LabelSet& out) {
  LabelSet keep = out;
  for (size_t k = 0; k < factors.size(); ++k) {
    if (k != i && k != j) keep |= factors[k];
  }
  return keep;
}

// The pair of factors to contract next.
std::pair<size_t, size_t> next_pair(Span<const LabelSet> factors, const LabelSet& out,
                                    const Sizes& sizes) {
  std::pair<size_t, size_t> best{0, 1};
  if (factors.size() == 2) return best;
  int64_t best_growth = INT64_MAX;
  for (size_t i = 0; i < factors.size(); ++i) {
    for (size_t j = i + 1; j < factors.size(); ++j) {
      const LabelSet made = (factors[i] | factors[j]) & kept_labels(factors, i, j, out);
      const int64_t growth = size_of_all(made, sizes) - size_of_all(factors[i], sizes) -
                             size_of_all(factors[j], sizes);
      if (growth >= best_growth) continue;
      best_growth = growth;
      best = {i, j};
    }
  }
  return best;
}

// The result's own elements that may be other than 0, each label once.
Factor diagonal_target(const Array& out, const Labels& labels) {
  Sizes sizes;
  for (int k = 0; k < labels.size; ++k) sizes[static_cast<size_t>(labels[k])] = out.size(k);
  return distinct(out, labels, sizes);
}

}  // namespace

struct Einsum {
  static constexpr OpDoc kDoc{"einsum", "y = sum of the operands' product over labels y lacks",
                              "x0:[...] x1:[...] ... -> y:[...]"};
  using Attrs = EinsumAttrs;
  static std::string describe(const Attrs& a) { return a.str(); }
  static constexpr GradUses uses(int input) {
    return {.in = input < 63 ? kAll ^ detail::bit(input) : kAll, .shapes = detail::bit(input)};
  }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(kDoc, in, a.in.size());
    require_floating(kDoc, in);
    require_same_dtype(kDoc, in);
    const Sizes sizes = label_sizes(a, [&](size_t i) { return in[i].shape; });
    Shape out;
    for (int k = 0; k < a.out.size; ++k) out.push_back(sizes[static_cast<size_t>(a.out[k])]);
    return {{in[0].dtype, out}};
  }

  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const Sizes sizes = label_sizes(a, [&](size_t i) { return in[i].shape; });
    absl::InlinedVector<LabelSet, 3> factors;
    for (const Labels& l : a.in) factors.push_back(set_of(l));
    const LabelSet result = set_of(a.out);
    c.multiply_adds = 0;
    while (factors.size() > 1) {
      const auto [i, j] = next_pair(factors, result, sizes);
      c.multiply_adds += static_cast<double>(size_of_all(factors[i] | factors[j], sizes));
      factors[i] = (factors[i] | factors[j]) & kept_labels(factors, i, j, result);
      factors.erase(factors.begin() + static_cast<ptrdiff_t>(j));
    }
    if ((factors[0] & ~result).any()) {
      c.multiply_adds += static_cast<double>(size_of_all(factors[0], sizes));
    }
    return c;
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Sizes sizes = label_sizes(a, [&](size_t i) { return in[i].shape(); });
    const LabelSet result = set_of(a.out);
    absl::InlinedVector<Factor, 3> factors;
    absl::InlinedVector<LabelSet, 3> sets;
    for (size_t i = 0; i < in.size(); ++i) {
      factors.push_back(distinct(in[i], a.in[i], sizes));
      sets.push_back(set_of(factors.back().labels));
    }
    const Factor target = diagonal_target(out[0], a.out);
    const bool off_diagonal = target.labels.size < a.out.size;
    while (factors.size() > 1) {
      const auto [i, j] = next_pair(sets, result, sizes);
      const LabelSet keep = kept_labels(sets, i, j, result);
      const bool last = factors.size() == 2 && !off_diagonal;
      factors[i] = contract(std::move(factors[i]), std::move(factors[j]), keep, target.labels,
                            sizes, last ? out[0] : Array());
      sets[i] = set_of(factors[i].labels);
      factors.erase(factors.begin() + static_cast<ptrdiff_t>(j));
      sets.erase(sets.begin() + static_cast<ptrdiff_t>(j));
    }
    const Factor f = sum_over_others(factors[0], result);
    if (f.array.shares_storage(out[0])) return;
    if (off_diagonal && out[0].numel() != 0) {
      std::memset(out[0].raw(), 0, static_cast<size_t>(out[0].numel()) * size_of(out[0].dtype()));
    }
    copy_into(target.array, arranged(f, target.labels, sizes));
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const auto n = static_cast<int>(a.in.size());
    const Sizes sizes = label_sizes(a, [&](size_t i) { return s.in_shape(static_cast<int>(i)); });
    Grads grads(a.in.size());
    for (int i = 0; i < n; ++i) {
      if (!s.needs(i)) continue;
      // The gradient takes the operand's place.
      EinsumAttrs b{a.in, {}, {}};
      const Labels& own = a.in[static_cast<size_t>(i)];
      const Shape shape = s.in_shape(i);
      b.in[static_cast<size_t>(i)] = a.out;
      for (int k = 0; k < own.size; ++k) {
        if (shape[k] != sizes[static_cast<size_t>(own[k])]) continue;  // was repeated: summed over
        b.out.push_back(own[k]);
        b.out_sizes.push_back(shape[k]);
      }
      absl::InlinedVector<Tensor, 3> operands;
      for (int j = 0; j < n; ++j) operands.push_back(j == i ? g[0] : s.in(j));
      Tensor gi = apply_span<Einsum>(b, operands);
      grads[static_cast<size_t>(i)] = b.out.size == own.size ? gi : reshape(gi, shape);
    }
    return grads;
  }
};
EBB_OP(Einsum)

namespace {

// One comma-separated term of an equation.
struct Term {
  Labels before;  // the ellipsis
  Labels after;
  bool ellipsis = false;
};

[[noreturn]] void malformed(std::string_view equation, const std::string& why) {
  throw ValueError(absl::StrCat("einsum: \"", std::string(equation), "\": ", why));
}

Term parse_term(std::string_view term, std::string_view equation) {
  Term t;
  for (size_t i = 0; i < term.size(); ++i) {
    const char c = term[i];
    if (c == ' ') continue;
    if (c == '.') {
      if (t.ellipsis || term.substr(i, 3) != "...") {
        malformed(equation, "a dot is only allowed in one `...` an operand");
      }
      t.ellipsis = true;
      i += 2;
      continue;
    }
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
      malformed(equation, absl::StrCat("'", std::string(1, c), "' is not a letter"));
    }
    if (t.before.size + t.after.size == kMaxRank) {
      malformed(equation, "more than 8 labels for one operand");
    }
    (t.ellipsis ? t.after : t.before).push_back(c);
  }
  return t;
}

// The term's labels with its ellipsis standing for `axes` axes.
Labels spelt_out(const Term& t, int axes) {
  Labels l = t.before;
  for (int k = 0; k < axes; ++k) l.push_back(static_cast<char>('0' + kMaxRank - axes + k));
  for (int k = 0; k < t.after.size; ++k) l.push_back(t.after[k]);
  return l;
}

EinsumAttrs parse(std::string_view equation, Span<const Tensor> operands) {
  const size_t arrow = equation.find("->");
  std::string_view left = equation.substr(0, arrow);
  EinsumAttrs a;
  int widest = 0;  // axes of the longest ellipsis
  std::array<int, 128> uses{};
  for (bool more = true; more;) {
    const size_t comma = left.find(',');
    const Term t = parse_term(left.substr(0, comma), equation);
    more = comma != std::string_view::npos;
    if (more) left.remove_prefix(comma + 1);
    const size_t i = a.in.size();
    if (i == operands.size()) {
      malformed(equation, absl::StrCat("names more operands than the ", i, " that are given"));
    }
    if (!operands[i].defined()) malformed(equation, absl::StrCat("operand ", i, " is undefined"));
    const int named = t.before.size + t.after.size;
    const int rest = operands[i].dim() - named;
    if (rest < 0 || (rest > 0 && !t.ellipsis)) {
      throw ShapeError(absl::StrCat("einsum: \"", std::string(equation), "\": operand ", i, " is ",
                                    operands[i].shape().str(), ", its term has ", named,
                                    " labels"));
    }
    widest = std::max(widest, rest);
    a.in.push_back(spelt_out(t, rest));
    for (int k = 0; k < a.in[i].size; ++k) ++uses[static_cast<size_t>(a.in[i][k])];
  }
  if (a.in.size() != operands.size()) {
    malformed(equation,
              absl::StrCat("names ", a.in.size(), " operands, ", operands.size(), " are given"));
  }
  Term out;
  if (arrow != std::string_view::npos) {
    out = parse_term(equation.substr(arrow + 2), equation);
    if (out.before.size + out.after.size + (out.ellipsis ? widest : 0) > kMaxRank) {
      malformed(equation, "the result would have more than 8 axes");
    }
    a.out = spelt_out(out, out.ellipsis ? widest : 0);
    for (int k = 0; k < a.out.size; ++k) {
      const std::string label(1, a.out[k]);
      if (uses[static_cast<size_t>(a.out[k])] == 0) {
        malformed(equation, absl::StrCat("label ", label, " of the result is in no operand"));
      }
      if (a.out.find(a.out[k]) != k) {
        malformed(equation, absl::StrCat("label ", label, " is in the result twice"));
      }
    }
  } else {
    for (char c = '0'; c <= 'z'; ++c) {
      const bool of_ellipsis = c <= '9';
      if (uses[static_cast<size_t>(c)] == 0 || (!of_ellipsis && uses[static_cast<size_t>(c)] > 1)) {
        continue;
      }
      if (a.out.size == kMaxRank) malformed(equation, "the result would have more than 8 axes");
      a.out.push_back(c);
    }
  }
  for (int k = 0; k < a.out.size; ++k) a.out_sizes.push_back(-1);
  return a;
}

}  // namespace
}  // namespace ops

Tensor einsum(std::string_view equation, Span<const Tensor> operands, Where where) {
  return apply_span<ops::Einsum>(ops::parse(equation, operands), operands, where);
}

}  // namespace ebb
