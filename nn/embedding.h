// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "ebb/nn/module.h"

namespace ebb::nn {

struct EmbeddingOptions {
  /// This row is 0 and stays so: no gradient reaches it.
  std::optional<int64_t> padding_idx = std::nullopt;
};

/// A table of vectors, `weight` [count, dim], drawn from N(0, 1). The gradient touches the rows
/// that were read, and so does the optimiser.
class Embedding : public Module {
 public:
  /// Throws ValueError where a size is below 1, IndexError where padding_idx is not in [0, count).
  Embedding(int64_t count, int64_t dim, EmbeddingOptions options = {});
  Embedding(Module& parent, std::string name, int64_t count, int64_t dim,
            EmbeddingOptions options = {});

  /// The row of one id: [dim]. A negative id counts from the end, other than in PyTorch. Throws
  /// IndexError.
  Tensor operator()(int64_t id, Where where = Where::current()) const;
  /// The rows of integer ids of any shape: [..., dim]. Throws IndexError, DTypeError.
  Tensor operator()(const Tensor& ids, Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Parameter weight;

 private:
  void start(int64_t count, int64_t dim);
  Tensor rows(const Tensor& flat) const;

  EmbeddingOptions options_;
};

}  // namespace ebb::nn
