// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ebb/autograd/testing.h"

// What the checks of testing.h are built from; not for users.
namespace ebb::testing::detail {

struct Tolerance {
  double relative;
  double floor;        // as Sample::floor
  double largest = 0;  // counts as the largest expected element where that is smaller
};

/// Empty where `got` is `want` within the tolerance, else one line that says where not and by how
/// much. Integers and what is not finite must be equal; types may differ.
std::string difference(const Array& got, const Array& want, const Tolerance& tolerance);
std::string difference(const Array& got, const RefArray& want, const Tolerance& tolerance);

/// The largest finite magnitude in any of them.
double largest(Span<const Array> arrays);

/// Bit for bit, with type and shape.
bool identical(const Array& a, const Array& b);

/// How gradients are asked for.
enum class Playback {
  kValues,    // grad(): backward_values where the op has it
  kGraph,     // grad() with create_graph: the rule
  kBackward,  // backward() and .grad()
};

struct How {
  Playback playback = Playback::kValues;
  int only_input = -1;   // the one that is differentiated; -1: all
  int only_output = -1;  // the one that the gradient starts from; -1: all
};

struct Result {
  std::vector<Array> values;
  std::vector<Array> gradients;  // by input; undefined for those that have none
  bool tracked = false;          // some result carries a gradient
};

/// True where input i of the sample is one to differentiate by.
bool is_variable(const Sample& s, Span<const Tensor> inputs, size_t i);

/// Calls the sample's function on `inputs` (which keep their layout) and plays back from random
/// cotangents, which depend on the number and shape of the result alone.
Result evaluate(const Sample& s, Span<const Tensor> inputs, const How& how = {});

/// The inputs, float64 converted to float32.
std::vector<Tensor> to_float32(Span<const Tensor> inputs);

/// Another layout of the same values. Undefined where it would not differ.
struct Layout {
  const char* name;
  Array (*make)(const Array& a);
};
Span<const Layout> layouts();

/// Collects what fails, each with where it happened.
class Report {
 public:
  explicit Report(std::string op) : op_(std::move(op)) {}

  /// `problem` empty: nothing happened.
  void add(const std::string& sample, const std::string& check, const std::string& problem);
  /// Runs `check`; an exception out of it is a failure too. False where it failed.
  bool run(const std::string& sample, const std::string& name,
           const std::function<std::string()>& check);
  bool full() const { return failures_.size() >= kMost; }
  /// Throws CheckFailure where anything failed.
  void finish() const;

 private:
  static constexpr size_t kMost = 12;
  std::string op_;
  std::vector<std::string> failures_;
};

/// Value, gradients, forms of the gradient and layouts, in float64 and float32.
void check_sample(const OpDef& def, const Sample& s, Report& report);
/// What a sample of a sweep over sizes is checked for on the instruction set in use.
void check_sized(const Sample& s, Report& report);
/// Values and gradients of both types on every instruction set against the one in use.
void check_targets(Span<const Sample> samples, Report& report);

void check_error(const ErrorSample& e, Report& report);
void check_doc(const OpDef& def, Report& report);
void check_cost(const OpDef& def, Span<const Sample> samples, Report& report);
void check_memory_limit(const Sample& s, Report& report);

/// "ebb::ShapeError" of an exception.
std::string type_name(const std::type_info& type);

}  // namespace ebb::testing::detail
