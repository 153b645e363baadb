// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ebb/nn/module.h"

namespace ebb::nn {

struct LinearOptions {
  bool bias = true;
};

/// y = W x + b: [in] to [out], or [..., in] to [..., out]. Parameters `weight` [out, in] and `bias`
/// [out], drawn from U(-1/sqrt(in), 1/sqrt(in)).
class Linear : public Layer {
 public:
  /// Throws ValueError where a size is below 1.
  Linear(int64_t in, int64_t out, LinearOptions options = {});
  Linear(Module& parent, std::string name, int64_t in, int64_t out, LinearOptions options = {});

  Tensor forward(const Tensor& x) const override;
  std::unique_ptr<Module> clone() const override;

  Parameter weight;
  Parameter bias;  ///< undefined without

 private:
  void start(int64_t in, int64_t out, LinearOptions options);
};

/// y[k] = x1' W[k] x2 + b[k]: [in1] and [in2] to [out]. Parameters `weight` [out, in1, in2] and
/// `bias` [out], drawn from U(-1/sqrt(in1), 1/sqrt(in1)).
class Bilinear : public Module {
 public:
  /// Throws ValueError where a size is below 1.
  Bilinear(int64_t in1, int64_t in2, int64_t out, LinearOptions options = {});
  Bilinear(Module& parent, std::string name, int64_t in1, int64_t in2, int64_t out,
           LinearOptions options = {});

  /// Throws ShapeError where the vectors do not fit the weight.
  Tensor operator()(const Tensor& x1, const Tensor& x2, Where where = Where::current()) const;
  std::unique_ptr<Module> clone() const override;

  Parameter weight;
  Parameter bias;

 private:
  void start(int64_t in1, int64_t in2, int64_t out, LinearOptions options);
};

}  // namespace ebb::nn
