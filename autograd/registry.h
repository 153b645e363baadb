// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ebb/autograd/op.h"

// Every op of Ebb's own is followed, in its family's .cc, by one line `EBB_OP(Struct)`. The build
// collects these lines into the list that registered_ops() gives; there are no static constructors,
// which a static library would drop.
#define EBB_OP(Op)                                    \
  namespace registered {                              \
  extern const OpDef* const Op;                       \
  constinit const OpDef* const Op = &kOpDef<ops::Op>; \
  }

namespace ebb {

/// All ops of the library, in the order of their files.
Span<const OpDef* const> registered_ops();

/// The op of that name; null where there is none.
const OpDef* find_op(std::string_view name);

/// What a call of the op costs whose inputs have the shapes of its documentation, with every size
/// 64, and default attributes; nothing where no such call is possible.
std::optional<Cost> example_cost(const OpDef& def);

/// One line an op: name, formula, shapes, and what example_cost() gives.
std::string op_table();

}  // namespace ebb
