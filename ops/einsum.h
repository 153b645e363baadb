// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "ebb/autograd/tensor.h"

namespace ebb {

/// Einstein summation: sums of products over labelled axes, as in NumPy and PyTorch.
///
///   einsum("ij,jk->ik", {a, b})        matrix product
///   einsum("bij,bjk->bik", {a, b})     of each pair in two stacks
///   einsum("ii->i", {a})               diagonal; a label twice in an operand
///   einsum("...ij->...ji", {a})        transpose of the last two axes
///   einsum("ij,ik,jl", {a, b, c})      implicit result "kl": labels that occur once, in ASCII
///   order
///
/// One letter labels one axis; `...` stands for the axes that are left over, which broadcast and,
/// in an implicit result, come first. Labels that the result lacks are summed over. An axis of
/// size 1 broadcasts to the size that its label has elsewhere. Spaces are ignored.
///
/// Operands are float32 or float64, of one type. They are contracted in pairs, the pair first whose
/// product is smallest beside its operands; each is a matrix product where an axis is summed over.
/// Throws ValueError where the equation is malformed or names another number of operands,
/// ShapeError where it does not fit their ranks or a label has two sizes, DTypeError.
Tensor einsum(std::string_view equation, Span<const Tensor> operands,
              Where where = Where::current());

}  // namespace ebb
