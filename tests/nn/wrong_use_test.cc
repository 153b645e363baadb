// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "ebb/ebb.h"

// What is made of other ops, and layers, say by their own name what was wrong, whichever part of
// them noticed.
namespace ebb::nn {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr int64_t kLarge = int64_t{1} << 40;
const double kNan = std::nan("");

struct Case {
  const char* name;  // with which the message begins
  std::function<void()> call;
};

template <class E>
void expect_named(const std::vector<Case>& cases) {
  for (const auto& [name, call] : cases) {
    try {
      call();
      ADD_FAILURE() << name << " did not throw";
    } catch (const E& e) {
      const std::string message = e.what();
      EXPECT_EQ(message.rfind(std::string(name) + ": ", 0), 0u) << message;
    } catch (const std::exception& e) {
      ADD_FAILURE() << name << " threw another error: " << e.what();
    }
  }
}

TEST(WrongUse, AnUndefinedTensorIsToldOfByTheNameOfTheOp) {
  const Tensor none;
  const Tensor x = zeros({4, 6, 6});
  const Tensor scores = zeros({2});
  const Tensor boxes = zeros({2, 4});
  const Tensor log_probs = zeros({5, 4});
  expect_named<ValueError>({
      {"softmax", [&] { softmax(none, 0); }},
      {"log_softmax", [&] { log_softmax(none, 0); }},
      {"softmin", [&] { softmin(none, 0); }},
      {"sparsemax", [&] { sparsemax(none, 0); }},
      {"entmax15", [&] { entmax15(none, 0); }},
      {"entmax", [&] { entmax(none, 1.5, 0); }},
      {"gumbel_softmax", [&] { gumbel_softmax(none); }},
      {"glu", [&] { glu(none); }},
      {"reglu", [&] { reglu(none); }},
      {"geglu", [&] { geglu(none); }},
      {"swiglu", [&] { swiglu(none); }},
      {"maxout", [&] { maxout(none, 2); }},
      {"rrelu", [&] { rrelu(none); }},
      {"feature_dropout", [&] { feature_dropout(none); }},
      {"alpha_dropout", [&] { alpha_dropout(none); }},
      {"feature_alpha_dropout", [&] { feature_alpha_dropout(none); }},
      {"layer_norm", [&] { layer_norm(none, {6}); }},
      {"rms_norm", [&] { rms_norm(none, {6}); }},
      {"weight_norm", [&] { weight_norm(none, none); }},
      {"batch_norm_train", [&] { batch_norm_train(none); }},
      {"local_contrast_norm", [&] { local_contrast_norm(none); }},
      {"scaled_dot_product_attention", [&] { scaled_dot_product_attention(none, none, none); }},
      {"multi_head_attention", [&] { multi_head_attention({none}, 2); }},
      {"interpolate",
       [&] {
         interpolate(none, {.size = {2, 2}});
       }},
      {"locally_connected1d", [&] { locally_connected1d(none, x); }},
      {"locally_connected2d", [&] { locally_connected2d(none, x); }},
      {"ctc_loss", [&] { ctc_loss(log_probs, none); }},
      {"cross_entropy", [&] { cross_entropy(scores, none); }},
      {"take_row", [&] { take_row(none, 0); }},
      {"box_area", [&] { box_area(none); }},
      {"clip_boxes_to_image", [&] { clip_boxes_to_image(none, 3, 3); }},
      {"nms", [&] { nms(boxes, none, 0.5); }},
      {"batched_nms", [&] { batched_nms(none, scores, scores, 0.5); }},
      {"encode_boxes", [&] { encode_boxes(boxes, none); }},
      {"decode_boxes", [&] { decode_boxes(none, boxes); }},
      {"GroupNorm", [&] { GroupNorm(2, 4)(none); }},
      {"PositionalEncoding", [&] { PositionalEncoding(8)(none); }},
      {"MultiheadAttention", [&] { MultiheadAttention(8, 2)(none, none, none); }},
      {"RelativePositionAttention", [&] { RelativePositionAttention(8, 2, 3)(none); }},
      {"TransformerXLAttention", [&] { TransformerXLAttention(8, 2)(none); }},
      {"Conv2d", [&] { Conv2d(4, 4, 3, {.padding_mode = PadMode::kReflect})(none); }},
      {"Embedding", [&] { Embedding(5, 3)(none); }},
  });
}

TEST(WrongUse, OpsMadeOfOthersSayTheirOwnName) {
  const Tensor x = zeros({4, 6, 6});
  const Tensor line = zeros({4, 9});
  const Tensor kernels = zeros({7, 6, 4, 3});
  const Tensor integers = zeros({4, 6, 6}, {.dtype = kInt64});
  const Tensor boxes = zeros({2, 4});
  const Tensor q = zeros({5, 8});
  expect_named<ValueError>({
      {"locally_connected1d", [&] { locally_connected1d(line, kernels, {}, {.stride = 0}); }},
      {"locally_connected2d",
       [&] {
         locally_connected2d(x, zeros({4, 4, 2, 4, 3, 3}), {}, {.dilation = -1});
       }},
      {"clip_boxes_to_image", [&] { clip_boxes_to_image(boxes, -1, 3); }},
      {"encode_boxes",
       [&] {
         encode_boxes(boxes, boxes, {kNan, 1, 1, 1});
       }},
      {"decode_boxes",
       [&] {
         decode_boxes(boxes, boxes, {1, 0, 1, 1});
       }},
      {"resnet_small", [&] { models::resnet_small(0); }},
  });
  expect_named<ShapeError>({
      {"batch_norm_train", [&] { batch_norm_train(x, zeros({5})); }},
      {"multi_head_attention", [&] { multi_head_attention({q}, 2); }},
      {"encode_boxes",
       [&] {
         encode_boxes(boxes, zeros({3, 4}));
       }},
      {"Conv2d", [&] { Conv2d(4, 4, 3, {.padding = 6, .padding_mode = PadMode::kReflect})(x); }},
  });
  expect_named<DTypeError>({
      {"softmin", [&] { softmin(integers, 0); }},
      {"gumbel_softmax", [&] { gumbel_softmax(integers); }},
      {"feature_dropout", [&] { feature_dropout(integers); }},
      {"rrelu", [&] { rrelu(integers, 0.1, 0.2, true); }},
      {"local_contrast_norm", [&] { local_contrast_norm(integers); }},
      {"alibi_slopes", [&] { alibi_slopes(2, {.dtype = kInt64}); }},
  });
  expect_named<IndexError>({
      {"softmin", [&] { softmin(x, 3); }},
      {"Embedding", [&] { Embedding(5, 3)(5); }},
      {"Embedding",
       [&] {
         Embedding(5, 3)(tensor({1, 5}));
       }},
  });
}

TEST(WrongUse, NumbersThatAreNoneAreNotTaken) {
  const Tensor x = zeros({4, 6, 6});
  const Tensor w = ones({4});
  const Tensor row = ones({6});
  Tensor mean = zeros({4});
  Tensor var = ones({4});
  const Tensor q = zeros({5, 8});
  expect_named<ValueError>({
      {"layer_norm", [&] { layer_norm(x, {6}, row, row, kNan); }},
      {"layer_norm", [&] { layer_norm(x, {6}, row, row, -1); }},
      {"rms_norm", [&] { rms_norm(x, {6}, row, -1.0); }},
      {"group_norm", [&] { group_norm(x, 2, w, w, kNan); }},
      {"instance_norm", [&] { instance_norm(x, nullptr, nullptr, w, w, true, 0.1, kNan); }},
      {"batch_norm", [&] { batch_norm(x, &mean, &var, w, w, true, 0.1, -1); }},
      {"batch_norm", [&] { batch_norm(x, &mean, &var, w, w, false, 0.1, kNan); }},
      {"batch_norm", [&] { batch_norm(x, &mean, &var, w, w, true, kNan); }},
      {"instance_norm", [&] { instance_norm(x, &mean, &var, w, w, true, 2); }},
      {"local_response_norm", [&] { local_response_norm(x, 3, kNan); }},
      {"local_contrast_norm", [&] { local_contrast_norm(x, 4, 2, -1); }},
      {"scaled_dot_product_attention",
       [&] { scaled_dot_product_attention(q, q, q, {.scale = kNan}); }},
      {"scaled_dot_product_attention",
       [&] { scaled_dot_product_attention(q, q, q, {.is_causal = true, .query_offset = kMost}); }},
      {"gumbel_softmax", [&] { gumbel_softmax(x, INFINITY); }},
      {"rrelu", [&] { rrelu(x, 0, INFINITY, true); }},
      {"rotary_embedding", [&] { rotary_embedding(q, 4, {.base = INFINITY}); }},
      {"rotary_embedding", [&] { rotary_embedding(q, 4, {.columns = -2}); }},
      {"clipped_distances", [&] { clipped_distances(3, 3, kMost); }},
      {"clipped_distances", [&] { clipped_distances(kMost, kMost, 3); }},
      {"relative_position_buckets", [&] { relative_position_buckets(kMost, kMost); }},
      {"ConvTranspose2d", [&] { ConvTranspose2d(4, 4, 3, {.output_padding = -1}); }},
      {"ConvTranspose2d", [&] { ConvTranspose2d(4, 4, 3, {.output_padding = 1}); }},
      {"VGG", [&] { models::VGG({.num_classes = 0}); }},
      {"AlexNet", [&] { models::AlexNet({.dropout = kNan}); }},
      {"ResNet", [&] { models::ResNet({.width = kLarge}); }},
      {"VideoResNet", [&] { models::VideoResNet({.width = kMost}); }},
      {"UNet", [&] { models::UNet({.width = kMost}); }},
  });
}

TEST(WrongUse, WhatNoMachineHoldsIsToldOfByTheNameOfTheOp) {
  constexpr int64_t kHuge = int64_t{1} << 50;
  const Tensor x = zeros({4, 6, 6});
  expect_named<MemoryError>({
      {"pad",
       [&] {
         pad(x, {kHuge, kHuge});
       }},
      {"alibi_slopes", [&] { alibi_slopes(kHuge); }},
      {"clipped_distances", [&] { clipped_distances(kHuge, kHuge, 3); }},
      {"sinusoidal_positional_encoding", [&] { sinusoidal_positional_encoding(kHuge, kHuge); }},
      {"Linear", [&] { Linear(kHuge, 4); }},
      {"Conv2d", [&] { Conv2d(kHuge, 4, 3); }},
      {"Conv3d", [&] { Conv3d(4, 4, kHuge); }},
      {"ConvTranspose1d", [&] { ConvTranspose1d(4, kHuge, 3); }},
      {"Embedding", [&] { Embedding(kMost, kMost); }},
      {"LayerNorm", [&] { LayerNorm({kHuge}); }},
      {"BatchNorm2d", [&] { BatchNorm2d{kHuge}; }},
      {"LearnedPositions", [&] { LearnedPositions(kHuge, 4); }},
      {"RelativePositionAttention", [&] { RelativePositionAttention(8, 2, kHuge); }},
      {"LeNet5", [&] { models::LeNet5({.in_channels = kHuge}); }},
  });
}

TEST(WrongUse, MapsOfAPyramidAreOfOneBatch) {
  models::FeaturePyramidNetwork pyramid({.in_channels = {4, 8}, .out_channels = 6});
  const Tensor one[] = {zeros({1, 4, 8, 8}), zeros({2, 8, 4, 4})};
  const Tensor many[] = {zeros({2, 4, 8, 8}), zeros({1, 8, 4, 4})};
  const Tensor mixed[] = {zeros({2, 4, 8, 8}), zeros({8, 4, 4})};
  const Tensor fine[] = {zeros({2, 4, 8, 8}), zeros({2, 8, 4, 4})};
  expect_named<ShapeError>({{"FeaturePyramidNetwork", [&] { pyramid(one); }},
                            {"FeaturePyramidNetwork", [&] { pyramid(many); }},
                            {"FeaturePyramidNetwork", [&] { pyramid(mixed); }}});
  EXPECT_EQ(pyramid(fine)[0].shape(), Shape({2, 6, 8, 8}));
}

TEST(WrongUse, SequencesOfNoPositionsGiveNone) {
  const Shape none{0, 8};
  EXPECT_EQ(RelativePositionAttention(8, 2, 3)(zeros(none)).shape(), none);
  TransformerXLAttention attention(8, 2);
  EXPECT_EQ(attention(zeros(none)).shape(), none);
  EXPECT_EQ(attention(zeros(none), zeros({3, 8})).shape(), none);
  attention(zeros(none)).sum().backward();
  EXPECT_EQ(attention.qkv_net.weight.grad().shape(), Shape({24, 8}));
  SegmentMemory memory(4);
  EXPECT_EQ(TransformerXL(8, 2, 2)(zeros(none), &memory).shape(), none);
  EXPECT_EQ(RelativePositionBias(2)(0, 0).shape(), Shape({2, 0, 0}));
}

// A kind of error of the user's own, and one with a path, pass as they are.
TEST(WrongUse, RenamingKeepsTheKindOfAnError) {
  struct Own : ShapeError {
    using ShapeError::ShapeError;
  };
  const auto renamed = [](auto error) {
    try {
      try {
        throw error;
      } catch (const Error&) {
        ebb::detail::rethrow_as("outer");
      }
    } catch (const decltype(error)& e) {
      return std::string(e.what());
    }
  };
  EXPECT_EQ(renamed(Own("inner: x")), "inner: x");
  EXPECT_EQ(renamed(IoError("file", "cause")), "file: cause");
  EXPECT_EQ(renamed(ShapeError("outer: x")), "outer: x");
  EXPECT_EQ(renamed(ShapeError("outermost: x")), "outer: outermost: x");
  EXPECT_EQ(renamed(Error("x")), "outer: x");
  EXPECT_EQ(renamed(GradError("x")), "outer: x");
  EXPECT_EQ(renamed(NumericError("x")), "outer: x");
}

}  // namespace
}  // namespace ebb::nn
