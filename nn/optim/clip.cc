// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/optim/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ebb/autograd/array_ops.h"
#include "ebb/nn/optim/rule.h"
#include "ebb/ops/kernels/binary.h"

namespace ebb::optim {
namespace {

// Calls f(gradient) for every parameter that has one.
template <class F>
void for_gradients(Span<const Parameter> parameters, F&& f) {
  for (const Parameter& p : parameters) {
    const ebb::detail::LeafLock lock(p.leaf());
    if (p.leaf().grad.defined()) f(p.leaf().grad);
  }
}

// Sum of |x|^p, or the largest |x|.
double power_sum(const Array& a, double p) {
  const Array x = contiguous(a);
  double total = 0;
  detail::visit(x.dtype(), [&](auto t) {
    for (const auto v :
         Span<const decltype(t)>(x.data<decltype(t)>(), static_cast<size_t>(x.numel()))) {
      const double size = std::abs(static_cast<double>(v));
      if (std::isinf(p)) {
        total = size <= total ? total : size;
      } else {
        total += std::pow(size, p);
      }
    }
  });
  return total;
}

double norm(Span<const Parameter> parameters, double p) {
  double total = 0;
  for_gradients(parameters, [&](Gradient& g) {
    if (p == 2) {
      total += g.squared_norm();
    } else {
      const double s = power_sum(g.dense(), p);
      if (std::isinf(p)) {
        total = s <= total ? total : s;
      } else {
        total += s;
      }
    }
  });
  return std::isinf(p) ? total : p == 2 ? std::sqrt(total) : std::pow(total, 1 / p);
}

// In place where nobody else holds the array.
void scale(Gradient& g, double factor) {
  const Array& dense = g.dense_part();
  if (!g.is_dense() || !dense.is_unique() || !dense.is_contiguous()) {
    g = g.scaled(factor);
    return;
  }
  detail::visit(dense.dtype(), [&](auto t) {
    using T = decltype(t);
    T* p = dense.mutable_data<T>();
    kernels::scale(static_cast<T>(factor), p, p, static_cast<size_t>(dense.numel()));
  });
}

Array clamped(const Array& a, double limit) {
  Array out = copy(a);
  detail::visit(out.dtype(), [&](auto t) {
    using T = decltype(t);
    T* p = out.mutable_data<T>();
    for (int64_t i = 0; i < out.numel(); ++i) {
      p[i] = std::clamp(p[i], static_cast<T>(-limit), static_cast<T>(limit));
    }
  });
  return out;
}

}  // namespace

double grad_norm(Span<const Parameter> parameters) { return norm(parameters, 2); }

double clip_grad_norm(Span<const Parameter> parameters, double max_norm,
                      const ClipOptions& options) {
  const double p = options.norm_type;
  detail::require_option(max_norm >= 0, "clip_grad_norm", "max_norm", max_norm, ">= 0");
  detail::require_option(p > 0, "clip_grad_norm", "norm_type", p, "> 0");
  const double total = norm(parameters, p);
  if (options.error_if_nonfinite && !std::isfinite(total)) {
    throw NumericError("clip_grad_norm: the norm of the gradients is " + std::to_string(total));
  }
  const double factor = max_norm / (total + 1e-6);
  // NaN goes into the gradients, so that it is seen.
  if (factor >= 1) return total;
  for_gradients(parameters, [&](Gradient& g) { scale(g, factor); });
  return total;
}

void clip_grad_value(Span<const Parameter> parameters, double limit) {
  detail::require_option(limit >= 0, "clip_grad_value", "limit", limit, ">= 0");
  for_gradients(parameters, [&](Gradient& g) {
    const Meta meta = g.meta();
    const bool sparse_alone = !g.dense_part().defined() && g.outer_parts().empty();
    if (sparse_alone && g.col_parts().empty()) {
      g.coalesce();
      const RowSparse part = g.row_parts()[0];
      g = Gradient(meta, RowSparse{part.ids, clamped(part.rows, limit)});
    } else if (sparse_alone && g.row_parts().empty()) {
      g.coalesce();
      const ColSparse part = g.col_parts()[0];
      g = Gradient(meta, ColSparse{part.ids, clamped(part.cols, limit)});
    } else {
      g = Gradient(clamped(g.dense(), limit));
    }
  });
}

}  // namespace ebb::optim
