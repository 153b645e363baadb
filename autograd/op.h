// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <iterator>
#include <new>
#include <string>
#include <type_traits>

#include "absl/container/inlined_vector.h"
#include "ebb/autograd/gradient.h"
#include "ebb/autograd/tensor.h"

// clang-format off
// An op is one struct. Ebb's own and a user's look alike:
//
//   struct Swish {
//     static constexpr OpDoc kDoc{"swish", "y = x * sigmoid(b x), elementwise", "x:[...] b:[] -> y:[...]"};
//     struct Attrs {};
//     static Metas infer(const Attrs&, Span<const Meta> in);
//     static void forward(const Attrs&, Span<const Array> in, Span<Array> out);
//     static Grads backward(const Saved& s, const OutGrads& g);
//   };
//   Tensor swish(const Tensor& x, const Tensor& b) { return apply<Swish>(x, b); }
//
// clang-format on
//  infer     shapes and types of the outputs, or an exception; called before anything is allocated.
//            What it says depends on its arguments alone, and is remembered: it is not asked each
//            time
//  forward   fills the outputs, which are contiguous and not initialised
//  backward  gradients of the inputs, as tensors: the rule, differentiable again. An op without it
//            passes no gradient.
// and, where wanted:
//  static void backward_values(const Saved&, const ArrayGrads&, GradSink&)
//            the same on arrays, fused: used whenever no graph is being made
//  static constexpr GradUses uses(int input)
//            what the gradient of an input reads, so that nothing else is saved; all by default.
//            Where it depends on the attributes: uses(const Attrs&, int input)
//  static Cost cost(const Attrs&, Span<const Meta> in, Span<const Meta> out)
//            work and traffic of the forward pass; by default an operation an output element, and
//            nothing for a view
//  static std::string describe(const Attrs&)
//            the attributes as the printed tape shows them
//  static constexpr bool kElementwise = true
//            outputs[0] has the type and shape of the inputs wherever they agree with each other
//            and are float32 or float64: then `infer` is not asked
//  static void forward_aligned(const Attrs&, DType, const void* const* in, void* out, size_t n)
//  static void backward_aligned(const Attrs&, const AlignedGrads&)
//            of an elementwise op of one or two inputs: forward and backward_values on n elements,
//            where all arrays have the same type and shape and lie in row-major order. The
//            shortest way through the tape: nothing else of the op is then called.
//  static constexpr bool kPassesGradient = true
//            of an elementwise op: the gradient of the output is that of each input
//  static constexpr bool kView = true
//            forward makes its outputs itself, as views of in[0]
//  static constexpr bool kKeepsStructure = true
//            backward_values gives in[0] a gradient of the structure that outputs[0] has
//  static uint64_t product_weights(const Saved&)
//            of which inputs, as bits, backward_values hands a product to GradSink::defer()
//  static bool reads_rows(const Attrs&)
//            of in[0] only the rows in[1] are read (an embedding): deferred updates touch only
//            those
namespace ebb {

/// Name, formula and shapes of an op, as `ebb_ops` prints them.
struct OpDoc {
  const char* name;
  const char* formula;
  const char* shapes;
};

// Few enough to need no memory of their own, as a rule.
using Metas = absl::InlinedVector<Meta, 4, detail::PoolAllocator<Meta>>;
using Outputs = absl::InlinedVector<Tensor, 4, detail::PoolAllocator<Tensor>>;
using Grads = absl::InlinedVector<Tensor, 4>;

/// Work and memory traffic of a forward pass.
struct Cost {
  double multiply_adds = 0;  ///< an operation that is no multiply-add counts as one
  double bytes = 0;          ///< read and written
};

/// What the gradient of one input reads: bit i for input (output) i, bit 63 for that and all above.
struct GradUses {
  uint64_t in = 0;      ///< values of inputs
  uint64_t out = 0;     ///< values of outputs
  uint64_t shapes = 0;  ///< shapes of inputs

  constexpr GradUses& operator|=(const GradUses& o) {
    in |= o.in;
    out |= o.out;
    shapes |= o.shapes;
    return *this;
  }
};
inline constexpr uint64_t kAll = ~uint64_t{0};

/// What backward_aligned reads and writes: rows of n elements of one type.
struct AlignedGrads {
  DType dtype;
  size_t n;
  const void* g;         ///< gradient of the output
  const void* saved[3];  ///< the inputs, then the output; null where uses() does not name it
  /// Gradients of the inputs, null where nobody wants them. One of them may be `g` itself, which is
  /// to be written last.
  void* dx[2];
  /// Bit i: dx[i] holds a sum that the gradient is added to. Only where the op has
  ///   static constexpr bool kAccumulates = true
  uint32_t add;
};

class Saved;
class OutGrads;
class ArrayGrads;
class GradSink;

/// An op as the engine sees it; made from its struct by make_op_def.
struct OpDef {
  OpDoc doc;
  Metas (*infer)(const void* attrs, Span<const Meta> in);
  void (*forward)(const void* attrs, Span<const Array> in, Span<Array> out);
  Grads (*backward)(const Saved&, const OutGrads&);                     // may be null
  void (*backward_values)(const Saved&, const ArrayGrads&, GradSink&);  // may be null
  GradUses (*uses)(const void* attrs, int input);
  static constexpr size_t kFirst = 3;
  // Of the first inputs together, by the bits of those that want a gradient.
  GradUses first_uses[1 << kFirst];
  bool uses_by_attrs;  // then first_uses does not hold
  void (*backward_aligned)(const void* attrs, const AlignedGrads& grads);  // may be null
  Cost (*cost)(const void* attrs, Span<const Meta> in, Span<const Meta> out);
  std::string (*describe)(const void* attrs);      // may be null
  void (*default_attrs)(void* to);                 // may be null
  void (*copy_attrs)(void* to, const void* from);  // null: memcpy
  void (*destroy_attrs)(void* attrs);              // null: nothing to do
  uint16_t attrs_size;
  bool (*reads_rows)(const void* attrs);        // may be null
  uint64_t (*product_weights)(const Saved& s);  // may be null
  bool elementwise;
  bool passes_gradient;
  bool accumulates;
  bool view;
  bool keeps_structure;
  bool saves_in;       // the gradient of some input reads an input's value or shape
  bool saves_out;      // ... or an output's value
  bool absent_inputs;  // inputs without a value are allowed
  bool catches_up;     // forward itself brings inputs with updates put off up to date
};

namespace detail {

/// The bit of input or output i in a mask of GradUses; none below 0.
constexpr uint64_t bit(int i) { return i < 0 ? 0 : uint64_t{1} << (i < 63 ? i : 63); }

template <class Op>
concept UsesByAttrs = requires(const typename Op::Attrs& a) {
  Op::uses(a, 0);
};

// For an op whose uses depend on the attributes, all that may be.
template <class Op>
constexpr GradUses uses_of(int input) {
  if constexpr (requires { Op::uses(0); }) {
    return Op::uses(input);
  } else {
    return {.in = kAll, .out = kAll, .shapes = kAll};
  }
}

template <class Op>
concept HasForwardAligned = requires {
  &Op::forward_aligned;
};

Cost default_cost(Span<const Meta> in, Span<const Meta> out);

}  // namespace detail

template <class Op>
constexpr OpDef make_op_def() {
  using Attrs = typename Op::Attrs;
  OpDef d{};
  d.doc = Op::kDoc;
  d.infer = [](const void* a, Span<const Meta> in) {
    return Op::infer(*static_cast<const Attrs*>(a), in);
  };
  d.forward = [](const void* a, Span<const Array> in, Span<Array> out) {
    Op::forward(*static_cast<const Attrs*>(a), in, out);
  };
  if constexpr (requires { &Op::backward; }) d.backward = &Op::backward;
  if constexpr (requires { &Op::backward_values; }) d.backward_values = &Op::backward_values;
  d.uses_by_attrs = detail::UsesByAttrs<Op>;
  d.uses = [](const void* a, int input) {
    if constexpr (detail::UsesByAttrs<Op>) {
      return Op::uses(*static_cast<const Attrs*>(a), input);
    } else {
      return detail::uses_of<Op>(input);
    }
  };
  if constexpr (requires { &Op::cost; }) {
    d.cost = [](const void* a, Span<const Meta> in, Span<const Meta> out) {
      return Op::cost(*static_cast<const Attrs*>(a), in, out);
    };
  } else if constexpr (requires { Op::kView; }) {
    d.cost = [](const void*, Span<const Meta>, Span<const Meta>) { return Cost{}; };
  } else {
    d.cost = [](const void*, Span<const Meta> in, Span<const Meta> out) {
      return detail::default_cost(in, out);
    };
  }
  if constexpr (requires { &Op::describe; }) {
    d.describe = [](const void* a) { return Op::describe(*static_cast<const Attrs*>(a)); };
  }
  if constexpr (std::is_default_constructible_v<Attrs>) {
    d.default_attrs = [](void* to) { new (to) Attrs{}; };
  }
  if constexpr (!std::is_trivially_copyable_v<Attrs>) {
    d.copy_attrs = [](void* to, const void* from) {
      new (to) Attrs(*static_cast<const Attrs*>(from));
    };
    d.destroy_attrs = [](void* a) { static_cast<Attrs*>(a)->~Attrs(); };
  }
  static_assert(alignof(Attrs) <= 16 && sizeof(Attrs) <= UINT16_MAX);
  d.attrs_size = std::is_empty_v<Attrs> ? 0 : sizeof(Attrs);
  if constexpr (requires { Op::kElementwise; }) d.elementwise = Op::kElementwise;
  if constexpr (requires { Op::kPassesGradient; }) d.passes_gradient = Op::kPassesGradient;
  if constexpr (requires { Op::kAccumulates; }) d.accumulates = Op::kAccumulates;
  if constexpr (detail::HasForwardAligned<Op>) static_assert(Op::kElementwise);
  if constexpr (requires { &Op::backward_aligned; }) {
    d.backward_aligned = [](const void* a, const AlignedGrads& g) {
      Op::backward_aligned(*static_cast<const Attrs*>(a), g);
    };
  }
  if constexpr (requires { Op::kView; }) d.view = Op::kView;
  if constexpr (requires { Op::kAbsentInputs; }) d.absent_inputs = Op::kAbsentInputs;
  if constexpr (requires { Op::kKeepsStructure; }) d.keeps_structure = Op::kKeepsStructure;
  if constexpr (requires { &Op::product_weights; }) d.product_weights = &Op::product_weights;
  if constexpr (requires { &Op::reads_rows; }) {
    d.reads_rows = [](const void* a) { return Op::reads_rows(*static_cast<const Attrs*>(a)); };
  }
  for (int i = 0; i < 64; ++i) {
    const GradUses u = detail::uses_of<Op>(i);
    d.saves_in |= u.in != 0 || u.shapes != 0 || d.elementwise;
    d.saves_out |= u.out != 0;
    for (size_t wanted = 0; wanted < std::size(d.first_uses) && i < int{OpDef::kFirst}; ++wanted) {
      if ((wanted >> i & 1) != 0) d.first_uses[wanted] |= u;
    }
  }
  return d;
}

template <class Op>
inline constexpr OpDef kOpDef = make_op_def<Op>();

/// What a backward rule may read: the saved values of its node, which inputs want a gradient, and
/// the attributes. While a graph is being made the tensors carry their history, else they do not.
class Saved {
 public:
  Saved(const detail::Node& node, const uint64_t* needs, bool graph)
      : node_(&node), needs_(needs), graph_(graph) {}

  /// An input or output whose value was saved. Throws GradError where uses() does not name it.
  Tensor in(int i) const;
  Tensor out(int j) const;
  const Array& in_array(int i) const;
  const Array& out_array(int j) const;
  /// Shape and type of an input whose value or shape was saved. An elementwise op saves the shape
  /// of an input that was broadcast; where has_in_shape() is false, it is that of the output.
  bool has_in_shape(int i) const { return saved_in(i).defined(); }
  Shape in_shape(int i) const;
  /// Input i had this shape (for an elementwise op; others must have saved it).
  bool in_shape_is(int i, const Array& like) const {
    const Array& a = saved_in(i);
    return !a.defined() || a.same_shape(like);
  }
  DType in_dtype(int i) const;
  bool needs(int i) const { return (needs_[i >> 6] >> (i & 63) & 1) != 0; }
  int n_inputs() const { return node_->n_inputs; }
  int n_outputs() const { return node_->n_outputs(); }
  template <class Attrs>
  const Attrs& attrs() const {
    return *static_cast<const Attrs*>(node_->attrs());
  }
  const detail::Node& node() const { return *node_; }

 private:
  friend class ArrayGrads;
  const Array& saved_in(int i) const { return node_->def->saves_in ? node_->saved()[i] : kNone; }
  static const Array kNone;

  const detail::Node* node_;
  const uint64_t* needs_;
  bool graph_;
};

/// Gradients of a node's outputs, as tensors; absent where nothing depends on the output.
class OutGrads {
 public:
  explicit OutGrads(Span<const Tensor> grads) : grads_(grads) {}
  bool has(int j) const { return grads_[static_cast<size_t>(j)].defined(); }
  const Tensor& operator[](int j) const { return grads_[static_cast<size_t>(j)]; }

 private:
  Span<const Tensor> grads_;
};

/// The same on arrays, for backward_values.
class ArrayGrads {
 public:
  explicit ArrayGrads(Span<Gradient> grads) : grads_(grads) {}
  bool has(int j) const { return grads_[static_cast<size_t>(j)].defined(); }
  /// Dense, but not necessarily contiguous.
  const Array& operator[](int j) const { return grads_[static_cast<size_t>(j)].dense(); }
  /// With its structure, for rules that keep it (a transpose, a scaling).
  const Gradient& structured(int j) const { return grads_[static_cast<size_t>(j)]; }
  /// The dense gradient, handed over: its buffer may be reused where it is_unique().
  Array take(int j) const { return std::move(grads_[static_cast<size_t>(j)]).take_dense(); }

 private:
  Span<Gradient> grads_;
};

/// A product w'v, or w v where `transposed`, that is the gradient of an input; or of several, each
/// of which gets an equal part.
struct DeferredProduct {
  int weight;      ///< the input that is the weight, or that `w` is a part of
  const Array& w;  ///< a matrix
  const Array& v;  ///< a vector
  int input;
  bool transposed = false;
  int parts = 1;  ///< inputs `input`, `input` + `step`, ...
  int step = 0;
};

/// Where backward_values puts the gradients of the inputs that need one; the engine adds them up.
class GradSink {
 public:
  virtual void add(int input, Gradient gradient) = 0;
  /// Offers a product to be computed later, together with others of the same weight: from a weight
  /// larger than a cache they then all cost little more than one. False: it was not taken, and the
  /// rule computes it now.
  virtual bool defer(const DeferredProduct& product) = 0;
  /// Whether it takes products with this weight that is stored by rows or by columns, for rules to
  /// which it makes a difference: then a part of the weight and a part of a vector are taken too.
  virtual bool defers(int weight) = 0;

 protected:
  ~GradSink() = default;
};

namespace detail {

/// Runs `def` on the inputs and records it where a gradient is wanted. `attrs` is the op's Attrs.
Tensor apply_one(const OpDef& def, const void* attrs, Span<const Tensor* const> in, Where where);
/// The same for an op with forward_aligned, of 1 or 2 inputs; in aligned.h.
template <class Op, int n_in>
inline Tensor apply_aligned(const typename Op::Attrs& attrs, const Tensor* const (&in)[n_in],
                            Where where);
/// The same for an op of several outputs.
void apply_all(const OpDef& def, const void* attrs, Span<const Tensor* const> in, Outputs* out,
               Where where);

}  // namespace detail

/// Calls an op with attributes.
template <class Op, class... T>
[[gnu::always_inline]] inline Tensor apply_with(const typename Op::Attrs& attrs, At first,
                                                const T&... rest) {
  constexpr int kInputs = 1 + sizeof...(T);
  const Tensor* in[] = {first.tensor, &static_cast<const Tensor&>(rest)...};
  if constexpr (detail::HasForwardAligned<Op> && kInputs <= 2) {
    return detail::apply_aligned<Op, kInputs>(attrs, in, first.where);
  } else {
    return detail::apply_one(kOpDef<Op>, &attrs, in, first.where);
  }
}

/// Calls an op without attributes, or with default ones.
template <class Op, class... T>
[[gnu::always_inline]] inline Tensor apply(At first, const T&... rest) {
  const typename Op::Attrs attrs{};
  return apply_with<Op>(attrs, first, rest...);
}

/// Calls an op of several outputs.
template <class Op, class... T>
Outputs apply_multi(const typename Op::Attrs& attrs, At first, const T&... rest) {
  const Tensor* in[] = {first.tensor, &static_cast<const Tensor&>(rest)...};
  Outputs out;
  detail::apply_all(kOpDef<Op>, &attrs, in, &out, first.where);
  return out;
}

/// Calls an op of any number of inputs.
template <class Op>
Tensor apply_span(const typename Op::Attrs& attrs, Span<const Tensor> inputs,
                  Where where = Where::current()) {
  absl::InlinedVector<const Tensor*, 8, detail::PoolAllocator<const Tensor*>> in;
  in.reserve(inputs.size());
  for (const Tensor& t : inputs) in.push_back(&t);
  return detail::apply_one(kOpDef<Op>, &attrs, in, where);
}

/// Throws ShapeError where infer() got another number of inputs than the op takes, or DTypeError
/// where one of them is not float32 or float64: what most ops begin with.
void require_inputs(const OpDoc& doc, Span<const Meta> in, size_t n);
void require_floating(const OpDoc& doc, Span<const Meta> in);
void require_same_dtype(const OpDoc& doc, Span<const Meta> in);

}  // namespace ebb

#include "ebb/autograd/aligned.h"
