// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "ebb/autograd/tensor.h"
#include "ebb/core/random.h"

namespace ebb::data {

/// A set of samples that are made when they are asked for: a size and a function from 0..size-1.
/// A range, to be gone through by `for`. Copies share the source; shuffling, taking and choosing
/// give another set over the same one.
template <class Sample>
class Dataset {
 public:
  /// `at(i)` makes sample i. Throws ValueError where size < 0.
  Dataset(int64_t size, std::function<Sample(int64_t)> at)
      : source_(std::make_shared<std::function<Sample(int64_t)>>(std::move(at))) {
    if (size < 0) throw ValueError("dataset: the size is " + std::to_string(size));
    order_.resize(static_cast<size_t>(size));
    std::iota(order_.begin(), order_.end(), int64_t{0});
  }

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  /// Throws IndexError.
  Sample operator[](int64_t i) const {
    if (i < 0 || i >= size()) {
      throw IndexError("dataset: sample " + std::to_string(i) + " of " + std::to_string(size()));
    }
    return (*source_)(order_[static_cast<size_t>(i)]);
  }

  /// The same samples in random order.
  Dataset shuffled(Generator& generator = default_generator()) const {
    return subset(generator.permutation(size()));
  }
  /// The first n, or all where there are fewer.
  Dataset take(int64_t n) const {
    Dataset d = *this;
    d.order_.resize(static_cast<size_t>(std::clamp<int64_t>(n, 0, size())));
    return d;
  }
  /// The samples of these numbers, in that order. Throws IndexError.
  Dataset subset(const std::vector<int64_t>& numbers) const {
    Dataset d = *this;
    d.order_.clear();
    for (int64_t i : numbers) {
      if (i < 0 || i >= size()) {
        throw IndexError("dataset: sample " + std::to_string(i) + " of " + std::to_string(size()));
      }
      d.order_.push_back(order_[static_cast<size_t>(i)]);
    }
    return d;
  }
  /// The samples as `f` changes them, each time they are asked for.
  template <class F>
  auto map(F f) const {
    using Result = std::invoke_result_t<F, Sample>;
    return Dataset<Result>(size(),
                           [self = *this, f = std::move(f)](int64_t i) { return f(self[i]); });
  }

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Sample;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Sample;

    Iterator() = default;
    Iterator(const Dataset* set, int64_t i) : set_(set), i_(i) {}
    Sample operator*() const { return (*set_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    void operator++(int) { ++i_; }
    bool operator==(const Iterator& o) const { return i_ == o.i_; }

   private:
    const Dataset* set_ = nullptr;
    int64_t i_ = 0;
  };
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size()}; }

 private:
  std::shared_ptr<std::function<Sample(int64_t)>> source_;
  std::vector<int64_t> order_;
};

enum class Split { kTrain, kTest };

/// A picture [height, width], float32 in [0, 1], and its class.
struct LabelledImage {
  Tensor image;
  int64_t label;
};

/// An IDX set in the files of MNIST's names: train-images-idx3-ubyte and train-labels-idx1-ubyte
/// (t10k-... for kTest), with or without .gz. `where` is a folder, or the name of one in the folder
/// that the environment variable EBB_DATA names. Throws IoError, with path and cause, where a file
/// is missing, damaged, or does not fit its partner.
Dataset<LabelledImage> idx(const std::string& where, Split split);

/// The pictures of a set as networks take them, all in memory: [1,height,width], brought to mean 0
/// and deviation 1 by those of the pixels of the set it is of.
std::vector<LabelledImage> standardized(const Dataset<LabelledImage>& images, double mean,
                                        double deviation);

}  // namespace ebb::data
