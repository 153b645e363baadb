// SPDX-License-Identifier: Apache-2.0
#include "ebb/ops/box.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "ebb/autograd/gradcheck.h"
#include "ebb/autograd/testing.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/random.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

// Boxes against plain loops.
namespace ebb {
namespace {

using ::testing::ElementsAre;
using testing::error_sample;
using testing::OpSamples;
using testing::RefArray;
using testing::RegisterSamples;
using testing::Sample;
using testing::tensor;

// Boxes [n,4] around the middle of a square, most of which meet; corners differ pairwise.
Tensor some_boxes(int64_t n) {
  const std::vector<double> v = testing::distinct({n, 4}).to_vector<double>();
  std::vector<double> boxes;
  for (size_t i = 0; i < v.size(); i += 4) {
    boxes.insert(boxes.end(),
                 {v[i], v[i + 1], v[i] + 1.25 + v[i + 2] / 4, v[i + 1] + 1.5 + v[i + 3] / 4});
  }
  return tensor({n, 4}, boxes);
}

double iou(const double* a, const double* b) {
  const double w = std::max(0.0, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const double h = std::max(0.0, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const double area_a = (a[2] - a[0]) * (a[3] - a[1]);
  const double area_b = (b[2] - b[0]) * (b[3] - b[1]);
  return w * h / (area_a + area_b - w * h);
}

const RegisterSamples kIou{
    "box_iou", [] {
      OpSamples s{.op = "box_iou"};
      const auto make = [](int64_t n, int64_t m) {
        return Sample{.name = std::to_string(n) + " and " + std::to_string(m),
                      .inputs = {some_boxes(n), some_boxes(m)},
                      .call = [](const Tensor& a, const Tensor& b) { return box_iou(a, b); },
                      .reference =
                          [](const RefArray& a, const RefArray& b) {
                            RefArray y({a.size(0), b.size(0)});
                            for (int64_t i = 0; i < a.size(0); ++i) {
                              for (int64_t k = 0; k < b.size(0); ++k) {
                                y(i, k) = iou(&a.v[static_cast<size_t>(4 * i)],
                                              &b.v[static_cast<size_t>(4 * k)]);
                              }
                            }
                            return y;
                          }};
      };
      for (const auto& [n, m] : std::vector<std::pair<int64_t, int64_t>>{
               {3, 4}, {1, 1}, {1, 6}, {5, 1}, {0, 3}, {2, 0}}) {
        s.samples.push_back(make(n, m));
      }
      s.sized = [=](int64_t n) { return std::vector<Sample>{make(2, n), make(n, 3)}; };
      s.sizes = {1, 3, 7, 8, 9, 17, 33, 64, 65};
      s.no_scalar = "boxes are rows";
      const auto call = [](const Tensor& a, const Tensor& b) { return box_iou(a, b); };
      s.errors = {
          error_sample<ShapeError>("rank", {some_boxes(2), testing::normal({4})}, call,
                                   "box_iou: boxes2 is [4]; it must be [N,4]"),
          error_sample<ShapeError>("size", {testing::normal({2, 3}), some_boxes(2)}, call,
                                   "box_iou: boxes1 is [2,3]; it must be [N,4]"),
          error_sample<DTypeError>("int64", {some_boxes(2), testing::integers({2, 4}, 0, 3)}, call,
                                   "box_iou: input 1 is int64[2,4]")};
      return s;
    }};

TEST(Box, AreaByHand) {
  const Tensor boxes = tensor({2, 4}, {0, 0, 2, 3, -1, 1, 1, 1.5});
  EXPECT_THAT(box_area(boxes).to_vector<double>(), ElementsAre(6, 1));
  EXPECT_THROW(box_area(testing::normal({4, 3})), ShapeError);
  EXPECT_THROW(box_area(testing::integers({2, 4}, 0, 3)), DTypeError);
}

TEST(Box, IouByHand) {
  const Tensor a = tensor({1, 4}, {0, 0, 2, 2});
  const Tensor b = tensor({4, 4}, {0, 0, 2, 2, 1, 1, 3, 3, 2, 0, 4, 2, 0.5, 0.5, 1.5, 1.5});
  EXPECT_THAT(box_iou(a, b).to_vector<double>(), ElementsAre(1, 1.0 / 7, 0, 0.25));
  const Tensor none = tensor({1, 4}, {1, 1, 1, 1});
  EXPECT_EQ(box_iou(a, none).item(), 0);
  EXPECT_TRUE(std::isnan(box_iou(none, none).item()));
}

TEST(Box, ClippedToTheImage) {
  const Tensor boxes = tensor({2, 4}, {-3, -1, 5, 9, 2, 3, 30, 4});
  EXPECT_THAT(clip_boxes_to_image(boxes, 8, 10).to_vector<double>(),
              ElementsAre(0, 0, 5, 8, 2, 3, 10, 4));
}

// Suppression straight from its definition: a box stays where no better one that stays is too near.
std::vector<int64_t> naive_nms(const std::vector<double>& boxes, const std::vector<double>& scores,
                               const std::vector<int64_t>& groups, double threshold) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t i, int64_t k) {
    const double a = scores[static_cast<size_t>(i)];
    const double b = scores[static_cast<size_t>(k)];
    return a > b || (a == b && i < k);
  });
  std::vector<int64_t> kept;
  for (const int64_t i : order) {
    const bool free = std::all_of(kept.begin(), kept.end(), [&](int64_t k) {
      return groups[static_cast<size_t>(i)] != groups[static_cast<size_t>(k)] ||
             !(iou(&boxes[static_cast<size_t>(4 * i)], &boxes[static_cast<size_t>(4 * k)]) >
               threshold);
    });
    if (free) kept.push_back(i);
  }
  return kept;
}

TEST(Nms, KeepsWhatTheDefinitionKeeps) {
  for (const int64_t n : {0, 1, 2, 10, 100, 700}) {
    Tensor boxes = some_boxes(n);
    // So many that the dropped ones are taken out on the way, and some of them points or not boxes.
    if (n == 700) {
      boxes = cat(
          {boxes, zeros({20, 4}, {.dtype = kFloat64}), full({10, 4}, NAN, {.dtype = kFloat64})});
      boxes = narrow(boxes, 0, 30, n);
    }
    // Scores of few values: ties go by index.
    const Tensor scores = cast(testing::integers({n}, 0, 9), kFloat64) / 10;
    const Tensor groups = testing::integers({n}, 0, 2);
    const std::vector<int64_t> one(static_cast<size_t>(n), 0);
    for (const double threshold : {0.0, 0.3, 0.5, 0.9}) {
      EXPECT_EQ(nms(boxes, scores, threshold).to_vector<int64_t>(),
                naive_nms(boxes.to_vector<double>(), scores.to_vector<double>(), one, threshold));
      const std::vector<int64_t> expected =
          naive_nms(boxes.to_vector<double>(), scores.to_vector<double>(),
                    groups.to_vector<int64_t>(), threshold);
      EXPECT_EQ(batched_nms(boxes, scores, groups, threshold).to_vector<int64_t>(), expected);
      EXPECT_EQ(batched_nms(cast(boxes, kFloat32), cast(scores, kFloat32), cast(groups, kInt32),
                            threshold)
                    .to_vector<int64_t>(),
                expected);
    }
  }
}

TEST(Nms, ReadsViewsAndRefusesWhatDoesNotFit) {
  const Tensor boxes = some_boxes(6);
  const Tensor scores = testing::distinct({6});
  const Tensor turned = flip(boxes, {0});
  std::vector<int64_t> expected = nms(boxes, scores, 0.4).to_vector<int64_t>();
  for (int64_t& i : expected) i = 5 - i;
  EXPECT_EQ(nms(turned, flip(scores, {0}), 0.4).to_vector<int64_t>(), expected);
  EXPECT_THROW(nms(boxes, testing::normal({5}), 0.5), ShapeError);
  EXPECT_THROW(nms(testing::normal({6, 3}), scores, 0.5), ShapeError);
  EXPECT_THROW(nms(boxes, cast(scores, kFloat32), 0.5), DTypeError);
  EXPECT_THROW(nms(testing::integers({6, 4}, 0, 1), scores, 0.5), DTypeError);
  EXPECT_THROW(batched_nms(boxes, scores, testing::integers({5}, 0, 1), 0.5), ShapeError);
  EXPECT_THROW(batched_nms(boxes, scores, scores, 0.5), DTypeError);
  EXPECT_THROW(batched_nms(boxes, scores, Tensor(), 0.5), ValueError);
  EXPECT_THROW(nms(boxes, scores, std::nan("")), ValueError);
  EXPECT_THROW(nms(boxes, scores * std::nan(""), 0.5), ValueError);
  EXPECT_THROW(encode_boxes(boxes, cast(boxes, kFloat32)), DTypeError);
  EXPECT_THROW(decode_boxes(boxes, cast(boxes, kFloat32)), DTypeError);
}

TEST(BoxCode, ByHand) {
  const Tensor proposal = tensor({1, 4}, {10, 20, 14, 28});  // middle 12, 24; 4 by 8
  const Tensor box = tensor({1, 4}, {12, 20, 14, 36});       // middle 13, 28; 2 by 16
  EXPECT_THAT(encode_boxes(box, proposal).to_vector<double>(),
              ElementsAre(0.25, 0.5, std::log(0.5), std::log(2.0)));
  EXPECT_THAT(encode_boxes(box, proposal, {10, 10, 5, 5}).to_vector<double>(),
              ElementsAre(2.5, 5, 5 * std::log(0.5), 5 * std::log(2.0)));
  const Tensor huge = decode_boxes(tensor({1, 4}, {0, 0, 100, 4}), proposal);
  const double width = 4 * (1000.0 / 16);
  const double height = 8 * std::exp(4.0);
  const std::vector<double> v = huge.to_vector<double>();
  EXPECT_NEAR(v[0], 12 - width / 2, 1e-12);
  EXPECT_NEAR(v[1], 24 - height / 2, 1e-12);
  EXPECT_NEAR(v[2], 12 + width / 2, 1e-12);
  EXPECT_NEAR(v[3], 24 + height / 2, 1e-12);
  EXPECT_THROW(encode_boxes(box, testing::normal({1, 3})), ShapeError);
  EXPECT_THROW(decode_boxes(testing::integers({1, 4}, 0, 1), proposal), DTypeError);
}

TEST(BoxCode, DecodingUndoesEncoding) {
  const Tensor boxes = some_boxes(20);
  const Tensor proposals = some_boxes(20);
  const BoxWeights weights = {10, 9, 5, 4};
  const Tensor back = decode_boxes(encode_boxes(boxes, proposals, weights), proposals, weights);
  EXPECT_LT(abs(back - boxes).max().item(), 1e-12);
}

TEST(BoxCode, IsDifferentiableTwice) {
  const std::vector<Tensor> inputs = {some_boxes(3), some_boxes(3)};
  const auto encode = [](const std::vector<Tensor>& x) { return encode_boxes(x[0], x[1]); };
  const auto decode = [](const std::vector<Tensor>& x) { return decode_boxes(x[0], x[1]); };
  gradcheck(encode, inputs);
  gradgradcheck(encode, inputs);
  gradcheck(decode, inputs);
  gradgradcheck(decode, inputs);
}

}  // namespace
}  // namespace ebb
