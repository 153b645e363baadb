// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/kernels/unary.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ebb/ops/kernels/unary_exp.cc"
#include "hwy/foreach_target.h"
// foreach_target comes first: it includes this file once for each target.
#include "ebb/ops/kernels/unary-inl.h"
#include "ebb/ops/kernels/unary_exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ebb::kernels::HWY_NAMESPACE {
namespace unary {
namespace {

constexpr detail::UnaryTable<detail::kUnaryExpCount> kExpTable{{EBB_UNARY_EXP(EBB_UNARY_KERNELS)}};

}  // namespace
}  // namespace unary

const detail::UnaryTable<detail::kUnaryExpCount>* unary_exp_table() { return &unary::kExpTable; }

}  // namespace ebb::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ebb::kernels {

HWY_EXPORT(unary_exp_table);

constinit const Dispatch<detail::UnaryTable<detail::kUnaryExpCount>> detail::unary_exp{
    [] { return HWY_DYNAMIC_DISPATCH(unary_exp_table)(); }};

}  // namespace ebb::kernels
#endif
