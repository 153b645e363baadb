// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/recurrent.h"
#include "ebb/ops/recurrent.h"
#include "ebb/ops/recurrent_util.h"
#include "ebb/ops/unary.h"

// Tree-structured LSTMs (Tai, Socher, Manning 2015).
namespace ebb {
namespace ops {

namespace {

struct TreeAttrs {
  int children = 0;
  bool word = true;      // x and weight_ih are there
  bool bias_ih = true;   // of a child-sum cell: the bias
  bool bias_hh = false;  // the child-sum cell has none
};

constexpr int kWord = 0;
constexpr int kTreeIh = 1;
constexpr int kTreeHh = 2;
constexpr int kTreeBiasIh = 3;
constexpr int kTreeBiasHh = 4;

// Rows [first, first + count) of blocks of n rows, of any strides.
Array block_rows(const Array& w, int64_t first, int64_t count, int64_t n) {
  const int64_t strides[] = {w.stride(0), w.stride(1)};
  return w.view({count * n, w.size(1)}, strides, first * n * w.stride(0));
}

template <class T>
void add_rows(int64_t rows, int64_t n, const T* from, int64_t from_ld, T* to, int64_t to_ld) {
  for (int64_t r = 0; r < rows; ++r) {
    kernels::add_into(from + r * from_ld, to + r * to_ld, static_cast<size_t>(n));
  }
}

template <class T>
void copy_rows(int64_t rows, int64_t n, const T* from, int64_t from_ld, T* to, int64_t to_ld) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(to + r * to_ld, from + r * from_ld, static_cast<size_t>(n) * sizeof(T));
  }
}

}  // namespace

// The work output is i, f_1 .. f_k, g, o, tanh(c') of each row.
template <class Op, bool kSum>
struct TreeOp {
  using Attrs = TreeAttrs;
  static constexpr bool kAbsentInputs = true;
  static constexpr int kFirst = kSum ? 4 : 5;  // h_1, c_1, h_2, c_2, ... from here on

  static std::string describe(const Attrs& a) { return absl::StrCat("children=", a.children); }

  // All h, or all c, of the children, as a mask of inputs.
  static constexpr uint64_t states(int which) {
    uint64_t mask = detail::bit(63);
    for (int i = kFirst + which; i < 63; i += 2) mask |= detail::bit(i);
    return mask;
  }
  static constexpr GradUses uses(int input) {
    GradUses u{.in = states(1), .out = 0b100};
    if (input == kWord) u.in |= detail::bit(kTreeIh);
    if (input == kTreeIh) u.in |= detail::bit(kWord);
    if (input == kTreeHh) u.in |= states(0);
    if (input >= kFirst) u.in |= detail::bit(kTreeHh);
    return u;
  }

  static Metas infer(const Attrs& a, Span<const Meta> in) {
    require_inputs(Op::kDoc, in, static_cast<size_t>(kFirst + 2 * a.children));
    const bool hidden_known = a.children > 0;
    const Meta& lead = a.word ? in[kWord] : in[kFirst];
    const auto name_of = [](size_t i) -> std::string {
      if (i >= kFirst) {
        return absl::StrCat((i - kFirst) % 2 == 0 ? "h" : "c", " of child ", (i - kFirst) / 2);
      }
      constexpr const char* kNames[] = {"x", "weight_ih", "weight_hh", kSum ? "bias" : "bias_ih",
                                        "bias_hh"};
      return kNames[i];
    };
    const auto given = [&](size_t i) {
      if (i < kTreeHh) return a.word;
      if (i == kTreeHh) return hidden_known;
      return i >= kFirst || (i == kTreeBiasIh ? a.bias_ih : a.bias_hh);
    };
    for (size_t i = 0; i < in.size(); ++i) {
      if (!given(i) || (is_differentiable(in[i].dtype) && in[i].dtype == lead.dtype)) continue;
      throw DTypeError(absl::StrCat(Op::kDoc.name, ": ", name_of(a.word ? kWord : kFirst), " is ",
                                    lead.str(), ", ", name_of(i), " is ", in[i].str(),
                                    "; both must be float32 or float64"));
    }
    const Shape& w = hidden_known ? in[kTreeHh].shape : in[kTreeIh].shape;
    const int64_t k = a.children;
    const int64_t blocks = hidden_known && !kSum ? 3 + k : 4;
    const int64_t hidden = w.rank() == 2 ? w[0] / blocks : 0;
    const int64_t cols = !hidden_known ? w[1] : kSum ? hidden : k * hidden;
    if (w.rank() != 2 || hidden < 1 || w[0] != blocks * hidden || w[1] != cols) {
      throw ShapeError(absl::StrCat(Op::kDoc.name, ": ", hidden_known ? "weight_hh" : "weight_ih",
                                    " is ", w.str(), "; with ", k, " children it must be [", blocks,
                                    "*hidden,",
                                    !hidden_known ? "size"
                                    : kSum        ? "hidden"
                                                  : absl::StrCat(k, "*hidden"),
                                    "]"));
    }
    const Shape& like = lead.shape;
    if (like.rank() != 1 && like.rank() != 2) {
      throw ShapeError(absl::StrCat(Op::kDoc.name, ": ", name_of(a.word ? kWord : kFirst), " is ",
                                    like.str(), "; it must be [size] or [batch,size]"));
    }
    Meta h = lead;
    h.shape[like.rank() - 1] = hidden;
    const auto require = [&](size_t i, const Shape& want) {
      if (!given(i) || in[i].shape == want) return;
      throw ShapeError(absl::StrCat(Op::kDoc.name, ": ", name_of(a.word ? kWord : kFirst), " is ",
                                    like.str(), ", hidden is ", hidden, ", ", name_of(i), " is ",
                                    in[i].shape.str(), "; it must be ", want.str()));
    };
    if (a.word) require(kTreeIh, {4 * hidden, like[like.rank() - 1]});
    require(kTreeBiasIh, {4 * hidden});
    if (!kSum) require(kTreeBiasHh, {blocks * hidden});
    for (size_t i = kFirst; i < in.size(); ++i) require(i, h.shape);
    Metas out(3, h);
    out[2].shape[like.rank() - 1] *= 4 + k;
    return out;
  }

  static Cost cost(const Attrs& a, Span<const Meta> in, Span<const Meta> out) {
    Cost c = detail::default_cost(in, out);
    const Shape& h = out[0].shape;
    const auto hidden = static_cast<double>(h[h.rank() - 1]);
    const double rows = static_cast<double>(h.numel()) / hidden;
    const double blocks = a.children == 0 ? 3 : 4;
    if (a.word) {
      c.multiply_adds += rows * blocks * hidden * static_cast<double>(in[kTreeIh].shape[1]);
    }
    if (a.children > 0) {
      const double k = a.children;
      c.multiply_adds += rows * hidden * hidden * (kSum ? 3 + k : (3 + k) * k);
    }
    return c;
  }

  struct Sizes {
    int64_t batch;
    int64_t hidden;
    int64_t k;
    int64_t width() const { return (4 + k) * hidden; }  // of a row of the work
    int64_t gates() const { return (3 + k) * hidden; }
  };
  static Sizes sizes_of(const Attrs& a, const Array& work) {
    return {work.rank() == 2 ? work.size(0) : 1, work.size(work.rank() - 1) / (4 + a.children),
            a.children};
  }

  static void forward(const Attrs& a, Span<const Array> in, Span<Array> out) {
    visit_differentiable(out[0].dtype(), [&](auto t) { run<decltype(t)>(a, in, out); });
  }

  template <class T>
  static void run(const Attrs& a, Span<const Array> in, Span<Array> out) {
    const Sizes z = sizes_of(a, out[2]);
    const int64_t n = z.hidden;
    T* const work = out[2].mutable_data<T>();
    const Array bias_hh = a.bias_hh ? contiguous(in[kTreeBiasHh]) : Array();
    fill_rows<T>(z.batch, z.gates(), a.bias_hh ? bias_hh.data<T>() : nullptr, nullptr, work,
                 z.width());
    if (a.bias_ih) {
      const Array bias = contiguous(in[kTreeBiasIh]);
      for (int64_t r = 0; r < z.batch; ++r) spread(z, bias.data<T>(), work + r * z.width());
    }
    if (a.word) add_word<T>(z, in, work);
    if (a.children > 0) {
      if (kSum) {
        add_child_sum<T>(z, in, work);
      } else {
        const Array h = joined<T>(z, in.subspan(kFirst));
        add_product(z.batch, z.k * n, z.gates(), h.data<T>(), Matrices(in[kTreeHh]), work,
                    z.width());
      }
    }
    absl::InlinedVector<Array, 4, detail::PoolAllocator<Array>> c;
    for (int64_t j = 0; j < z.k; ++j) c.push_back(contiguous(in[at_child(j) + 1]));
    absl::InlinedVector<const T*, 4, detail::PoolAllocator<const T*>> state(c.size());
    for (int64_t r = 0; r < z.batch; ++r) {
      for (size_t j = 0; j < c.size(); ++j) state[j] = c[j].template data<T>() + r * n;
      T* const row = work + r * z.width();
      kernels::lstm<T>({static_cast<size_t>(n), c.size(), row, state.data(), nullptr,
                        out[1].mutable_data<T>() + r * n, row + z.gates(),
                        out[0].mutable_data<T>() + r * n});
    }
  }

  static size_t at_child(int64_t j) { return static_cast<size_t>(kFirst + 2 * j); }

  // Blocks i, f, g, o added to i, f_1 .. f_k, g, o.
  template <class T>
  static void spread(const Sizes& z, const T* from, T* to) {
    const auto n = static_cast<size_t>(z.hidden);
    const auto k = static_cast<size_t>(z.k);
    kernels::add_into(from, to, n);
    for (size_t j = 0; j < k; ++j) kernels::add_into(from + n, to + (1 + j) * n, n);
    kernels::add_into(from + 2 * n, to + (1 + k) * n, 2 * n);
  }

  template <class T>
  static void add_word(const Sizes& z, Span<const Array> in, T* work) {
    const int64_t n = z.hidden;
    const Array& w = in[kTreeIh];
    const Array x = contiguous(in[kWord]);
    const int64_t size = w.size(1);
    const T* from = x.data<T>();
    if (z.k == 1) {
      return add_product(z.batch, size, 4 * n, from, Matrices(w), work, z.width());
    }
    const Array i = block_rows(w, 0, 1, n);
    const Array go = block_rows(w, 2, 2, n);
    add_product(z.batch, size, n, from, Matrices(i), work, z.width());
    add_product(z.batch, size, 2 * n, from, Matrices(go), work + (1 + z.k) * n, z.width());
    if (z.k == 0) return;
    const Array f = block_rows(w, 1, 1, n);
    const Array sums = Array::zeros(w.dtype(), {z.batch, n});
    add_product(z.batch, size, n, from, Matrices(f), sums.mutable_data<T>(), n);
    for (int64_t j = 0; j < z.k; ++j) {
      add_rows(z.batch, n, sums.data<T>(), n, work + (1 + j) * n, z.width());
    }
  }

  // [h_1 .. h_k] of each row.
  template <class T>
  static Array joined(const Sizes& z, Span<const Array> children) {
    const Array all =
        Array::empty(children[0].dtype(), children[0].rank() == 1 ? Shape{z.k * z.hidden}
                                                                  : Shape{z.batch, z.k * z.hidden});
    for (int64_t j = 0; j < z.k; ++j) {
      const Array h = contiguous(children[static_cast<size_t>(2 * j)]);
      copy_rows(z.batch, z.hidden, h.data<T>(), z.hidden, all.mutable_data<T>() + j * z.hidden,
                z.k * z.hidden);
    }
    return all;
  }
  // The rows of h_1, then those of h_2, ...: [k * batch, hidden].
  template <class T>
  static Array stacked(const Sizes& z, Span<const Array> children) {
    const Array all = Array::empty(children[0].dtype(), {z.k * z.batch, z.hidden});
    for (int64_t j = 0; j < z.k; ++j) {
      const Array h = contiguous(children[static_cast<size_t>(2 * j)]);
      std::memcpy(all.mutable_data<T>() + j * z.batch * z.hidden, h.data<T>(),
                  static_cast<size_t>(h.numel()) * sizeof(T));
    }
    return all;
  }

  template <class T>
  static void add_child_sum(const Sizes& z, Span<const Array> in, T* work) {
    const int64_t n = z.hidden;
    const int64_t state = z.batch * n;
    const Array& w = in[kTreeHh];
    const Array h = stacked<T>(z, in.subspan(kFirst));
    const T* from = h.data<T>();
    const Array i = block_rows(w, 0, 1, n);
    const Array f = block_rows(w, 1, 1, n);
    const Array go = block_rows(w, 2, 2, n);
    if (z.batch == 1) {
      add_product(z.k, n, n, from, Matrices(f), work + n, n);
    } else {
      const Matrices m(f);
      for (int64_t j = 0; j < z.k; ++j) {
        add_product(z.batch, n, n, from + j * state, m, work + (1 + j) * n, z.width());
      }
    }
    T* const sum = h.mutable_data<T>();  // in place of h_1, which was read
    for (int64_t j = 1; j < z.k; ++j) {
      kernels::add_into(from + j * state, sum, static_cast<size_t>(state));
    }
    add_product(z.batch, n, n, from, Matrices(i), work, z.width());
    add_product(z.batch, n, 2 * n, from, Matrices(go), work + (1 + z.k) * n, z.width());
  }

  static uint64_t product_weights(const Saved& s) {
    const Attrs& a = s.attrs<Attrs>();
    if (s.out_array(2).rank() != 1) return 0;
    uint64_t weights = a.word && s.needs(kWord) ? detail::bit(kTreeIh) : 0;
    if (kSum) return weights;
    for (int64_t j = 0; j < a.children; ++j) {
      if (s.needs(static_cast<int>(at_child(j)))) weights |= detail::bit(kTreeHh);
    }
    return weights;
  }
  static void backward_values(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    if (g.has(2)) return run_rule(&backward, s, g, sink);
    visit_differentiable(s.out_array(2).dtype(), [&](auto t) { play<decltype(t)>(s, g, sink); });
  }

  template <class T>
  static void play(const Saved& s, const ArrayGrads& g, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const Array& work = s.out_array(2);
    const DType dtype = work.dtype();
    const Sizes z = sizes_of(a, work);
    const int64_t n = z.hidden;
    const auto with_last = [&](int64_t last) {
      return work.rank() == 1 ? Shape{last} : Shape{z.batch, last};
    };
    const Array gh = g.has(0) ? contiguous(g[0]) : Array();
    const Array gc = g.has(1) ? contiguous(g[1]) : Array();
    const Array dgates = Array::empty(dtype, with_last(z.gates()));
    absl::InlinedVector<Array, 4, detail::PoolAllocator<Array>> c;
    absl::InlinedVector<Array, 4, detail::PoolAllocator<Array>> dc;
    bool needs_h = false;
    for (int64_t j = 0; j < z.k; ++j) {
      const int at = static_cast<int>(at_child(j));
      c.push_back(contiguous(s.in_array(at + 1)));
      dc.push_back(s.needs(at + 1) ? Array::empty(dtype, with_last(n)) : Array());
      needs_h = needs_h || s.needs(at);
    }
    absl::InlinedVector<const T*, 4, detail::PoolAllocator<const T*>> state(c.size());
    absl::InlinedVector<T*, 4, detail::PoolAllocator<T*>> dstate(c.size());
    for (int64_t r = 0; r < z.batch; ++r) {
      for (size_t j = 0; j < c.size(); ++j) {
        state[j] = c[j].template data<T>() + r * n;
        dstate[j] = dc[j].defined() ? dc[j].template mutable_data<T>() + r * n : nullptr;
      }
      const T* const row = work.data<T>() + r * z.width();
      kernels::lstm_backward<T>({static_cast<size_t>(n), c.size(), row, state.data(), nullptr,
                                 row + z.gates(), gh.defined() ? gh.data<T>() + r * n : nullptr,
                                 gc.defined() ? gc.data<T>() + r * n : nullptr,
                                 dgates.mutable_data<T>() + r * z.gates(), dstate.data()});
    }
    for (int64_t j = 0; j < z.k; ++j) {
      const auto at = static_cast<size_t>(j);
      if (dc[at].defined()) sink.add(static_cast<int>(at_child(j)) + 1, std::move(dc[at]));
    }
    if (a.word || a.bias_ih) play_word<T>(s, z, dgates, sink);
    if (a.children == 0) return;
    if (a.bias_hh && s.needs(kTreeBiasHh)) sink.add(kTreeBiasHh, column_sums(dgates));
    if (kSum) {
      play_child_sum<T>(s, z, dgates, needs_h, sink);
    } else {
      play_nary<T>(s, z, dgates, needs_h, sink);
    }
  }

  // dgates with the gradients of f_1 .. f_k added up: blocks i, f, g, o.
  template <class T>
  static Array gathered(const Sizes& z, const Array& dgates) {
    if (z.k == 1) return dgates;
    const int64_t n = z.hidden;
    const Array out =
        Array::empty(dgates.dtype(), dgates.rank() == 1 ? Shape{4 * n} : Shape{z.batch, 4 * n});
    for (int64_t r = 0; r < z.batch; ++r) {
      const T* from = dgates.data<T>() + r * z.gates();
      T* to = out.mutable_data<T>() + r * 4 * n;
      copy_rows(1, n, from, 0, to, 0);
      copy_rows(1, 2 * n, from + (1 + z.k) * n, 0, to + 2 * n, 0);
      std::memset(to + n, 0, static_cast<size_t>(n) * sizeof(T));
      for (int64_t j = 1; j <= z.k; ++j) {
        kernels::add_into(from + j * n, to + n, static_cast<size_t>(n));
      }
    }
    return out;
  }

  template <class T>
  static void play_word(const Saved& s, const Sizes& z, const Array& dgates, GradSink& sink) {
    const Attrs& a = s.attrs<Attrs>();
    const bool needs_x = a.word && s.needs(kWord);
    const bool needs_w = a.word && s.needs(kTreeIh);
    const bool needs_b = a.bias_ih && s.needs(kTreeBiasIh);
    if (!needs_x && !needs_w && !needs_b) return;
    const int64_t n = z.hidden;
    const Array d = gathered<T>(z, dgates);
    if (needs_x && !defer_word(s, z, d, sink)) {
      const Array& w = s.in_array(kTreeIh);
      const int64_t size = w.size(1);
      Array gx = Array::empty(w.dtype(), d.rank() == 1 ? Shape{size} : Shape{z.batch, size});
      if (z.k > 0 || z.batch > 1) {
        product_back(z.batch, size, 4 * n, d.data<T>(), Matrices(w), T{0}, gx.mutable_data<T>());
      } else {  // a leaf has no f
        const Array i = block_rows(w, 0, 1, n);
        const Array go = block_rows(w, 2, 2, n);
        product_back(1, size, n, d.data<T>(), Matrices(i), T{0}, gx.mutable_data<T>());
        product_back(1, size, 2 * n, d.data<T>() + 2 * n, Matrices(go), T{1}, gx.mutable_data<T>());
      }
      sink.add(kWord, std::move(gx));
    }
    if (needs_w) {
      sink.add(kTreeIh, product_gradient(s, kTreeIh, {d}, {contiguous(s.in_array(kWord)), kWord}));
    }
    if (needs_b) sink.add(kTreeBiasIh, column_sums(d));
  }

  // The gradient of a vector x, from the gradient d of blocks i, f, g, o; a leaf has no f.
  static bool defer_word(const Saved& s, const Sizes& z, const Array& d, GradSink& sink) {
    if (d.rank() != 1 || !sink.defers(kTreeIh)) return false;
    const int64_t n = z.hidden;
    const Array& w = s.in_array(kTreeIh);
    if (z.k > 0) return sink.defer({kTreeIh, w, d, kWord});
    const int64_t stride = 1;
    return sink.defer({kTreeIh, block_rows(w, 0, 1, n), d.view({n}, &stride, 0), kWord}) &&
           sink.defer({kTreeIh, block_rows(w, 2, 2, n), d.view({2 * n}, &stride, 2 * n), kWord});
  }

  static absl::InlinedVector<Array, 4, detail::PoolAllocator<Array>> saved_children(
      const Saved& s) {
    absl::InlinedVector<Array, 4, detail::PoolAllocator<Array>> h;
    for (int i = kFirst; i < s.n_inputs(); i += 2) {
      h.push_back(s.in_array(i));
      h.emplace_back();  // where its c would be
    }
    return h;
  }

  template <class T>
  static void play_nary(const Saved& s, const Sizes& z, const Array& dgates, bool needs_h,
                        GradSink& sink) {
    const int64_t n = z.hidden;
    if (s.needs(kTreeHh)) {
      sink.add(kTreeHh, product_gradient(s, kTreeHh, {dgates}, {joined<T>(z, saved_children(s))}));
    }
    if (!needs_h) return;
    if (dgates.rank() == 1 && sink.defer({kTreeHh, s.in_array(kTreeHh), dgates, kFirst, false,
                                          static_cast<int>(z.k), 2})) {
      return;
    }
    const Array dh = Array::empty(dgates.dtype(), {z.batch, z.k * n});
    product_back(z.batch, z.k * n, z.gates(), dgates.data<T>(), Matrices(s.in_array(kTreeHh)), T{0},
                 dh.mutable_data<T>());
    const int64_t strides[] = {z.k * n, 1};
    for (int64_t j = 0; j < z.k; ++j) {
      const int at = static_cast<int>(at_child(j));
      if (!s.needs(at)) continue;
      const bool vector = dgates.rank() == 1;
      sink.add(at, dh.view(vector ? Shape{n} : Shape{z.batch, n}, vector ? strides + 1 : strides,
                           j * n));
    }
  }

  template <class T>
  static void play_child_sum(const Saved& s, const Sizes& z, const Array& dgates, bool needs_h,
                             GradSink& sink) {
    const int64_t n = z.hidden;
    const int64_t state = z.batch * n;
    if (s.needs(kTreeHh)) {
      // A child's own i, f, g, o: of f_k its part, of the others all.
      const Array each = Array::empty(dgates.dtype(), {z.k * z.batch, 4 * n});
      for (int64_t j = 0; j < z.k; ++j) {
        for (int64_t r = 0; r < z.batch; ++r) {
          const T* from = dgates.data<T>() + r * z.gates();
          T* to = each.mutable_data<T>() + (j * z.batch + r) * 4 * n;
          copy_rows(1, n, from, 0, to, 0);
          copy_rows(1, n, from + (1 + j) * n, 0, to + n, 0);
          copy_rows(1, 2 * n, from + (1 + z.k) * n, 0, to + 2 * n, 0);
        }
      }
      sink.add(kTreeHh, product_gradient(s, kTreeHh, {each}, {stacked<T>(z, saved_children(s))}));
    }
    if (!needs_h) return;
    const Array& w = s.in_array(kTreeHh);
    const Array i = block_rows(w, 0, 1, n);
    const Array f = block_rows(w, 1, 1, n);
    const Array go = block_rows(w, 2, 2, n);
    const Array common = Array::empty(dgates.dtype(), {z.batch, n});
    // Blocks of all rows, side by side for the products.
    Array side;
    const auto block = [&](int64_t first, int64_t count) -> const T* {
      const T* from = dgates.data<T>() + first * n;
      if (z.batch == 1) return from;
      side = Array::empty(dgates.dtype(), {z.batch, count * n});
      copy_rows(z.batch, count * n, from, z.gates(), side.template mutable_data<T>(), count * n);
      return side.template data<T>();
    };
    product_back(z.batch, n, n, block(0, 1), Matrices(i), T{0}, common.mutable_data<T>());
    product_back(z.batch, n, 2 * n, block(1 + z.k, 2), Matrices(go), T{1},
                 common.mutable_data<T>());
    const Matrices m(f);
    for (int64_t j = 0; j < z.k; ++j) {
      const int at = static_cast<int>(at_child(j));
      if (!s.needs(at)) continue;
      Array dh = Array::empty_like(s.in_array(at + 1));
      std::memcpy(dh.mutable_data<T>(), common.data<T>(), static_cast<size_t>(state) * sizeof(T));
      product_back(z.batch, n, n, block(1 + j, 1), m, T{1}, dh.mutable_data<T>());
      sink.add(at, std::move(dh));
    }
  }

  static Grads backward(const Saved& s, const OutGrads& g) {
    const Attrs& a = s.attrs<Attrs>();
    const auto k = static_cast<size_t>(a.children);
    const TensorList work = chunk(s.out(2), a.children + 4, -1);
    TensorList gwork(k + 4);
    if (g.has(2)) gwork = chunk(g[2], a.children + 4, -1);
    const Tensor& i = work[0];
    const Tensor& u = work[k + 1];
    const Tensor& o = work[k + 2];
    const Tensor& t = work[k + 3];
    const Tensor gt = plus(times(g[0], o), gwork[k + 3]);
    const Tensor ao = or_zeros(through_sigmoid(plus(times(g[0], t), gwork[k + 2]), o), o);
    const Tensor dc = plus(g[1], through_tanh(gt, t));
    const Tensor ai = or_zeros(through_sigmoid(plus(times(dc, u), gwork[0]), i), i);
    const Tensor au = or_zeros(through_tanh(plus(times(dc, i), gwork[k + 1]), u), u);
    Grads result(static_cast<size_t>(s.n_inputs()));
    TensorList af;
    Tensor sum;
    TensorList h;
    for (size_t j = 0; j < k; ++j) {
      const int at = static_cast<int>(at_child(static_cast<int64_t>(j)));
      const Tensor& f = work[1 + j];
      af.push_back(or_zeros(through_sigmoid(plus(times(dc, s.in(at + 1)), gwork[1 + j]), f), f));
      sum = plus(sum, af.back());
      if (s.needs(at + 1)) result[static_cast<size_t>(at) + 1] = times(dc, f);
      if (s.needs(kTreeHh)) h.push_back(s.in(at));
    }
    const auto product = [](const Tensor& x, const Tensor& y) {
      return x.dim() == 1 ? outer(x, y) : mm(ebb::t(x), y);
    };
    if (a.word || a.bias_ih) {
      const Tensor d = cat({ai, or_zeros(sum, ai), au, ao}, -1);
      if (a.word && s.needs(kWord)) result[kWord] = matmul(d, s.in(kTreeIh));
      if (a.word && s.needs(kTreeIh)) result[kTreeIh] = product(d, s.in(kWord));
      if (a.bias_ih && s.needs(kTreeBiasIh)) result[kTreeBiasIh] = sum_to(d, {d.size(-1)});
    }
    if (k == 0) return result;
    if constexpr (kSum) {
      for (size_t j = 0; j < k; ++j) {
        const auto at = at_child(static_cast<int64_t>(j));
        const Tensor d = cat({ai, af[j], au, ao}, -1);
        if (s.needs(static_cast<int>(at))) result[at] = matmul(d, s.in(kTreeHh));
        if (s.needs(kTreeHh)) result[kTreeHh] = plus(result[kTreeHh], product(d, h[j]));
      }
    } else {
      TensorList all{ai};
      all.insert(all.end(), af.begin(), af.end());
      all.push_back(au);
      all.push_back(ao);
      const Tensor d = cat(all, -1);
      if (a.bias_hh && s.needs(kTreeBiasHh)) result[kTreeBiasHh] = sum_to(d, {d.size(-1)});
      if (s.needs(kTreeHh)) result[kTreeHh] = product(d, cat(h, -1));
      Tensor dh;
      for (size_t j = 0; j < k; ++j) {
        const auto at = at_child(static_cast<int64_t>(j));
        if (!s.needs(static_cast<int>(at))) continue;
        if (!dh.defined()) dh = matmul(d, s.in(kTreeHh));
        const int64_t n = ai.size(-1);
        result[at] = narrow(dh, -1, static_cast<int64_t>(j) * n, n);
      }
    }
    return result;
  }
};

struct NaryTreeLstmCell : TreeOp<NaryTreeLstmCell, false> {
  static constexpr OpDoc kDoc{
      "nary_tree_lstm_cell", "h', c' = a node of a tree with N children, of an LSTM",
      "x:[..,d] weight_ih:[4n,d] weight_hh:[(3+N)n,Nn] bias_ih:[4n] bias_hh:[(3+N)n] h_1:[..,n] "
      "c_1:[..,n] .. -> h':[..,n] c':[..,n]"};
};
EBB_OP(NaryTreeLstmCell)

struct ChildSumTreeLstmCell : TreeOp<ChildSumTreeLstmCell, true> {
  static constexpr OpDoc kDoc{
      "child_sum_tree_lstm_cell", "h', c' = a node of a tree with any children, of an LSTM",
      "x:[..,d] weight_ih:[4n,d] weight_hh:[4n,n] bias:[4n] h_1:[..,n] c_1:[..,n] .. -> h':[..,n] "
      "c':[..,n]"};
};
EBB_OP(ChildSumTreeLstmCell)

namespace {

using Inputs = absl::InlinedVector<const Tensor*, 12, detail::PoolAllocator<const Tensor*>>;

template <class Op>
LSTMState tree_node(const TreeAttrs& a, Inputs in, Span<const LSTMState> children, Where where) {
  const char* name = Op::kDoc.name;
  if (!a.word && children.empty()) {
    throw ValueError(absl::StrCat(name, ": there is neither x nor a child"));
  }
  for (size_t j = 0; j < children.size(); ++j) {
    if (!children[j].h.defined() || !children[j].c.defined()) {
      throw ValueError(absl::StrCat(name, ": the state of child ", j, " is undefined"));
    }
    in.push_back(&children[j].h);
    in.push_back(&children[j].c);
  }
  Outputs out;
  detail::apply_all(kOpDef<Op>, &a, in, &out, where);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace
}  // namespace ops

LSTMState nary_tree_lstm_cell(const Tensor& x, Span<const LSTMState> children,
                              const Tensor& weight_ih, const Tensor& weight_hh,
                              const Tensor& bias_ih, const Tensor& bias_hh, Where where) {
  const Tensor absent;
  const bool word = x.defined();
  const bool inner = !children.empty();
  const ops::TreeAttrs a{static_cast<int>(children.size()), word, word && bias_ih.defined(),
                         inner && bias_hh.defined()};
  return ops::tree_node<ops::NaryTreeLstmCell>(
      a,
      {&x, word ? &weight_ih : &absent, inner ? &weight_hh : &absent,
       a.bias_ih ? &bias_ih : &absent, a.bias_hh ? &bias_hh : &absent},
      children, where);
}

LSTMState child_sum_tree_lstm_cell(const Tensor& x, Span<const LSTMState> children,
                                   const Tensor& weight_ih, const Tensor& weight_hh,
                                   const Tensor& bias, Where where) {
  const Tensor absent;
  const bool word = x.defined();
  const ops::TreeAttrs a{static_cast<int>(children.size()), word, bias.defined(), false};
  return ops::tree_node<ops::ChildSumTreeLstmCell>(
      a, {&x, word ? &weight_ih : &absent, !children.empty() ? &weight_hh : &absent, &bias},
      children, where);
}

}  // namespace ebb
