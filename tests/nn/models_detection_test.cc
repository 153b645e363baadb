// SPDX-License-Identifier: Apache-2.0
// Feature pyramids, anchors, and RetinaNet: sizes, names and numbers as published; gradients;
// learning to find rectangles.
#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "ebb/nn/init.h"
#include "ebb/nn/models/retinanet.h"
#include "ebb/nn/optim/scheduler.h"
#include "ebb/ops/activation.h"
#include "ebb/ops/box.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/upsample.h"
#include "ebb/tests/nn/models_testing.h"

namespace ebb::nn::models {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<std::string> with_parameters(const std::vector<std::string>& layers) {
  std::vector<std::string> result;
  for (const std::string& layer : layers) {
    result.push_back(layer + ".weight");
    result.push_back(layer + ".bias");
  }
  return result;
}

TEST(ResNet, WithoutLastLayerGivesTheFeatures) {
  ResNetOptions options = resnet_small(1, 1, 0);
  const ResNet net(options);
  EXPECT_FALSE(net.fc.has_value());
  const Tensor x = randn({1, 8, 8});
  EXPECT_EQ(net(x).shape(), Shape({64}));
  for (const std::string& name : names(net)) EXPECT_NE(name.rfind("fc.", 0), 0u) << name;
  options.num_classes = -1;
  EXPECT_THROW(ResNet{options}, ValueError);
}

TEST(FeaturePyramid, HasThePublishedNamesAndShapes) {
  const std::vector<std::string> own = {"inner_blocks.0.0", "inner_blocks.1.0", "layer_blocks.0.0",
                                        "layer_blocks.1.0"};
  std::vector<std::string> all = own;
  all.insert(all.end(), {"extra_blocks.p6", "extra_blocks.p7"});
  const std::vector<Tensor> x = {randn({6, 9, 12}), randn({10, 5, 6})};
  const std::vector<Tensor> batch = {randn({2, 6, 9, 12}), randn({2, 10, 5, 6})};
  struct Case {
    ExtraLevels extra;
    std::vector<Shape> more;
  };
  for (const auto& [extra, more] :
       {Case{ExtraLevels::kNone, {}}, Case{ExtraLevels::kMaxPool, {{4, 3, 3}}},
        Case{ExtraLevels::kP6P7, {{4, 3, 3}, {4, 2, 2}}},
        Case{ExtraLevels::kP6P7FromFeatures, {{4, 3, 3}, {4, 2, 2}}}}) {
    const FeaturePyramidNetwork fpn({.in_channels = {6, 10}, .out_channels = 4, .extra = extra});
    EXPECT_THAT(names(fpn), ElementsAreArray(with_parameters(more.size() == 2 ? all : own)));
    std::vector<Shape> expected = {{4, 9, 12}, {4, 5, 6}};
    expected.insert(expected.end(), more.begin(), more.end());
    EXPECT_EQ(fpn.levels(), expected.size());
    std::vector<Shape> shapes;
    for (const Tensor& level : fpn(x)) shapes.push_back(level.shape());
    EXPECT_THAT(shapes, ElementsAreArray(expected));
    EXPECT_EQ(fpn(batch)[0].shape(), Shape({2, 4, 9, 12}));
    const auto copy = fpn.clone();
    EXPECT_EQ(static_cast<const FeaturePyramidNetwork&>(*copy)(x).back().to_vector<float>(),
              fpn(x).back().to_vector<float>());
    EXPECT_THROW(fpn(Span<const Tensor>(x).subspan(1)), ShapeError);
  }
  EXPECT_THROW(FeaturePyramidNetwork({.in_channels = {}}), ValueError);
  EXPECT_THROW(FeaturePyramidNetwork({.in_channels = {3, 0}}), ValueError);
}

TEST(FeaturePyramid, AddsWhatIsCoarser) {
  FeaturePyramidNetwork fpn({.in_channels = {1, 1}, .out_channels = 1});
  for (const auto& [name, p] : fpn.named_parameters()) {
    init::zeros_(p);
    // Every convolution passes on what it is given.
    if (name.find("inner") != std::string::npos && p.shape().rank() == 4) init::ones_(p);
    if (name.find("layer") != std::string::npos && p.shape().rank() == 4) {
      p.copy_from(reshape(from_vector(std::vector<float>{0, 0, 0, 0, 1, 0, 0, 0, 0}), p.shape()));
    }
  }
  const std::vector<Tensor> x = {randn({1, 4, 4}), randn({1, 2, 2})};
  const std::vector<Tensor> y = fpn(x);
  EXPECT_EQ(y[1].to_vector<float>(), x[1].to_vector<float>());
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t k = 0; k < 4; ++k) {
      EXPECT_FLOAT_EQ(y[0][0][i][k].item(), x[0][0][i][k].item() + x[1][0][i / 2][k / 2].item());
    }
  }
}

TEST(FeaturePyramid, HasRightGradients) {
  FeaturePyramidNetwork fpn(
      {.in_channels = {2, 3}, .out_channels = 2, .extra = ExtraLevels::kP6P7});
  fpn.to(kFloat64);
  const std::vector<Tensor> x = {randn({2, 5, 4}, {.dtype = kFloat64}),
                                 randn({3, 3, 2}, {.dtype = kFloat64})};
  const auto loss = [&] {
    Tensor sum = zeros({}, {.dtype = kFloat64});
    for (const Tensor& level : fpn(x)) sum = sum + square(level).sum();
    return sum;
  };
  loss().backward();
  expect_gradients_everywhere(fpn);
  expect_right_gradients(fpn, loss);
}

TEST(Anchors, AreThePublishedOnes) {
  const AnchorGenerator anchors;
  EXPECT_EQ(anchors.levels(), 5u);
  EXPECT_EQ(anchors.at_each_place(0), 9);
  // Of area 32^2, 40^2, 50^2; sides by the roots of 1/2, 1, 2; halves of them rounded.
  EXPECT_THAT(anchors.around_origin(0).to_vector<float>(),
              ElementsAreArray({-23, -11, 23, 11, -28, -14, 28, 14, -35, -18, 35, 18,  //
                                -16, -16, 16, 16, -20, -20, 20, 20, -25, -25, 25, 25,  //
                                -11, -23, 11, 23, -14, -28, 14, 28, -18, -35, 18, 35}));
  EXPECT_THAT(anchors.around_origin(4)[8].to_vector<float>(),
              ElementsAreArray({-287, -574, 287, 574}));  // 812 / 2 = 406, times roots of 1/2 and 2
}

TEST(Anchors, StandAtEveryPlace) {
  const AnchorGenerator anchors({.sizes = {{8}, {16}}, .aspect_ratios = {1}});
  // 2 x 3 places in 17 x 24 pixels: 8 apart both ways.
  EXPECT_THAT(anchors(0, 2, 3, 17, 24).to_vector<float>(),
              ElementsAre(-4, -4, 4, 4, 4, -4, 12, 4, 12, -4, 20, 4,  //
                          -4, 4, 4, 12, 4, 4, 12, 12, 12, 4, 20, 12));
  EXPECT_THAT(anchors(1, 1, 1, 17, 24).to_vector<float>(), ElementsAre(-8, -8, 8, 8));
  EXPECT_THROW(anchors(2, 1, 1, 8, 8), IndexError);
  EXPECT_THROW(anchors(0, 0, 1, 8, 8), ValueError);
  EXPECT_THROW(anchors(0, int64_t{1} << 32, int64_t{1} << 32, 8, 8), Error);
  EXPECT_THROW(AnchorGenerator({.sizes = {{std::numeric_limits<double>::infinity()}}}), ValueError);
  EXPECT_THROW(AnchorGenerator({.sizes = {}}), ValueError);
  EXPECT_THROW(AnchorGenerator({.sizes = {{}}}), ValueError);
  EXPECT_THROW(AnchorGenerator({.aspect_ratios = {0}}), ValueError);
  EXPECT_THROW(AnchorGenerator({.aspect_ratios = {}}), ValueError);
}

TEST(Match, ByHand) {
  const Tensor fit = from_vector(std::vector<float>{0.9f, 0.45f, 0.3f, 0.0f, 0.1f,  //
                                                    0.2f, 0.44f, 0.3f, 0.2f, 0.1f},
                                 {2, 5});
  EXPECT_THAT(match_boxes(fit, {.allow_low_quality = false}).to_vector<int64_t>(),
              ElementsAre(0, kBetween, kBackground, kBackground, kBackground));
  // The best of object 1 is anchor 1, which fits object 0 better still.
  EXPECT_THAT(match_boxes(fit).to_vector<int64_t>(),
              ElementsAre(0, 0, kBackground, kBackground, kBackground));
  EXPECT_THAT(match_boxes(zeros({0, 3})).to_vector<int64_t>(),
              ElementsAre(kBackground, kBackground, kBackground));
  EXPECT_THAT(match_boxes(zeros({1, 2})).to_vector<int64_t>(),
              ElementsAre(kBackground, kBackground));  // an object out of reach
  EXPECT_THROW(match_boxes(zeros({3})), ShapeError);
  EXPECT_THROW(match_boxes(zeros({1, 3}, {.dtype = kInt64})), DTypeError);
  EXPECT_THROW(match_boxes(fit, {.high = 0.3, .low = 0.4}), ValueError);
}

TEST(Match, DoesWhatItsDefinitionSays) {
  default_generator() = Generator(8);
  for (int trial = 0; trial < 20; ++trial) {
    const int64_t objects = 1 + trial % 4;
    const int64_t anchors = 12;
    // Few values, so that there are ties.
    const Tensor fit = floor(rand({objects, anchors}) * 10) / 10;
    const std::vector<int64_t> match = match_boxes(fit).to_vector<int64_t>();
    auto at = [&](int64_t g, int64_t a) { return fit.data<float>()[g * anchors + a]; };
    for (int64_t a = 0; a < anchors; ++a) {
      int64_t best = 0;
      bool wanted = false;  // by an object that nothing fits better
      for (int64_t g = 0; g < objects; ++g) {
        if (at(g, a) > at(best, a)) best = g;
        float most = 0;
        for (int64_t k = 0; k < anchors; ++k) most = std::max(most, at(g, k));
        wanted = wanted || (at(g, a) == most && most > 0);
      }
      const float value = at(best, a);
      const int64_t expected = value >= 0.5f || wanted ? best
                               : value >= 0.4f         ? kBetween
                                                       : kBackground;
      EXPECT_EQ(match[static_cast<size_t>(a)], expected) << trial << " " << a;
    }
  }
}

TEST(RetinaNet, HasThePublishedSizes) {
  EXPECT_EQ(count(RetinaNet()), 34014999);
  RetinaNetOptions options = retinanet_resnet50_fpn();
  options.backbone.norm.kind = Normalization::Kind::kBatch;
  EXPECT_EQ(count(RetinaNet(options)), 34014999 + 2 * 26560);  // channels of ResNet-50's norms
}

TEST(RetinaNet, HasThePublishedNames) {
  RetinaNetOptions options = retinanet_resnet50_fpn(3);
  options.backbone.width = 2;
  options.channels = 2;
  std::vector<std::string> parameters;
  std::vector<std::string> buffers;
  auto pair = [&](const std::string& convolution, const std::string& norm) {
    parameters.push_back(convolution + ".weight");
    for (const char* b : {".weight", ".bias", ".running_mean", ".running_var"}) {
      buffers.push_back(norm + b);
    }
  };
  pair("backbone.body.conv1", "backbone.body.bn1");
  const int blocks[] = {3, 4, 6, 3};
  for (int layer = 0; layer < 4; ++layer) {
    for (int block = 0; block < blocks[layer]; ++block) {
      const std::string prefix = absl::StrCat("backbone.body.layer", layer + 1, ".", block, ".");
      for (int i = 1; i <= 3; ++i) {
        pair(absl::StrCat(prefix, "conv", i), absl::StrCat(prefix, "bn", i));
      }
      if (block == 0) pair(prefix + "downsample.0", prefix + "downsample.1");
    }
  }
  std::vector<std::string> layers;
  for (const char* part : {"inner_blocks", "layer_blocks"}) {
    for (int i = 0; i < 3; ++i) layers.push_back(absl::StrCat("backbone.fpn.", part, ".", i, ".0"));
  }
  layers.push_back("backbone.fpn.extra_blocks.p6");
  layers.push_back("backbone.fpn.extra_blocks.p7");
  for (const char* head : {"classification", "regression"}) {
    for (int i = 0; i < 4; ++i)
      layers.push_back(absl::StrCat("head.", head, "_head.conv.", i, ".0"));
    layers.push_back(
        absl::StrCat("head.", head, "_head.", head[0] == 'c' ? "cls_logits" : "bbox_reg"));
  }
  for (const std::string& name : with_parameters(layers)) parameters.push_back(name);
  parameters.insert(parameters.end(), buffers.begin(), buffers.end());
  const RetinaNet net(options);
  EXPECT_THAT(names(net), ::testing::UnorderedElementsAreArray(parameters));

  const RetinaNetOutput out = net(randn({3, 100, 130}));
  ASSERT_EQ(out.logits.size(), 5u);
  const int64_t places[] = {13 * 17, 7 * 9, 4 * 5, 2 * 3, 1 * 2};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(out.logits[i].shape(), Shape({9 * places[i], 3}));
    EXPECT_EQ(out.codes[i].shape(), Shape({9 * places[i], 4}));
    EXPECT_EQ(out.anchors[i].shape(), Shape({9 * places[i], 4}));
    // The prior probability, before anything was learnt.
    EXPECT_NEAR(sigmoid(out.logits[i]).mean().item(), 0.01, 1e-4);
  }
}

// A detector of small rectangles in images of 64 pixels.
RetinaNetOptions tiny() {
  RetinaNetOptions options;
  options.backbone = {.layers = {1, 1}, .width = 8, .in_channels = 1};
  options.backbone.norm = {.kind = Normalization::Kind::kGroup, .groups = 4};
  options.first_stage = 0;
  options.channels = 16;
  options.extra = ExtraLevels::kNone;
  options.anchors = {.sizes = {{12, 16}, {22, 30}}, .aspect_ratios = {0.5, 1, 2}};
  options.head_convolutions = 1;
  options.num_classes = 2;
  return options;
}

struct Scene {
  Tensor image;   // [1,64,64]
  Tensor boxes;   // [G,4]
  Tensor labels;  // [G]
};

// One or two rectangles on noise, bright (class 1) or dark (class 0), that do not meet.
Scene draw(Generator& generator) {
  Array pixels = Array::empty(kFloat32, {1, 64, 64});
  float* p = pixels.mutable_data<float>();
  generator.fill_normal(p, 64 * 64, 0.0f, 0.2f);
  std::vector<float> boxes;
  std::vector<int64_t> labels;
  auto below = [&](int64_t n) {
    return static_cast<int64_t>(generator.uniform_int(static_cast<uint64_t>(n)));
  };
  const int64_t objects = 1 + below(2);
  for (int64_t g = 0; g < objects; ++g) {
    const int64_t width = 12 + below(17);
    const int64_t height = 12 + below(17);
    const int64_t x = 32 * g + below(33 - width);  // each in a half of its own
    const int64_t y = below(65 - height);
    const int64_t label = below(2);
    for (int64_t i = y; i < y + height; ++i) {
      for (int64_t k = x; k < x + width; ++k) p[i * 64 + k] += label == 1 ? 1.0f : -1.0f;
    }
    for (const int64_t v : {x, y, x + width, y + height}) boxes.push_back(static_cast<float>(v));
    labels.push_back(label);
  }
  return {Tensor(pixels), from_vector(boxes, {objects, 4}), from_vector(labels)};
}

TEST(RetinaNet, LearnsToFindRectangles) {
  default_generator() = Generator(1);
  Generator generator(2);
  const RetinaNet net(tiny());
  const int steps = 2000;
  optim::Adam adam(net.parameters(), {.lr = 3e-3});
  optim::CosineAnnealingLR rate(adam, {.t_max = steps, .warmup = 100});
  for (int step = 0; step < steps; ++step) {
    const Scene scene = draw(generator);
    adam.zero_grad();
    const auto [classification, regression] = net.loss(scene.image, scene.boxes, scene.labels);
    (classification + regression).backward();
    adam.step();
    rate.step();
  }
  double overlap = 0;
  double objects = 0;
  double found = 0;
  double wrong = 0;  // sure, but no object of that class is there
  for (int i = 0; i < 50; ++i) {
    const Scene scene = draw(generator);
    const auto [boxes, scores, labels] = net.detect(scene.image);
    const Tensor iou = box_iou(scene.boxes, boxes);
    std::vector<double> best(static_cast<size_t>(scene.boxes.size(0)));
    for (int64_t d = 0; d < boxes.size(0) && scores[d].item() > 0.5; ++d) {
      bool right = false;
      for (int64_t g = 0; g < scene.boxes.size(0); ++g) {
        if (labels[d].value().integer_item() != scene.labels[g].value().integer_item()) continue;
        const double value = iou[g][d].item();
        best[static_cast<size_t>(g)] = std::max(best[static_cast<size_t>(g)], value);
        right = right || value > 0.5;
      }
      if (!right) ++wrong;
    }
    for (const double value : best) {
      overlap += value;
      if (value > 0.5) ++found;
      ++objects;
    }
  }
  EXPECT_GT(overlap / objects, 0.8);
  EXPECT_GT(found / objects, 0.95);
  EXPECT_LT(wrong / objects, 0.05);
  RecordProperty("overlap", absl::StrCat(overlap / objects));
}

TEST(RetinaNet, LossIsThatOfItsParts) {
  default_generator() = Generator(13);
  Generator generator(3);
  RetinaNet net(tiny());
  net.to(kFloat64);
  for (const auto& [name, p] : net.named_parameters()) {  // so that codes and logits differ
    if (name.find("cls_logits.w") != std::string::npos) init::normal_(p, 0, 0.3);
    if (name.find("bbox_reg.w") != std::string::npos) init::normal_(p, 0, 0.1);
  }
  const Scene scene = draw(generator);
  const Tensor image = cast(scene.image, kFloat64);
  const auto [classification, regression] = net.loss(image, scene.boxes, scene.labels);
  const RetinaNetOutput out = net(image);
  const Tensor anchors = cat(out.anchors, 0);
  const std::vector<double> x = cat(out.logits, 0).to_vector<double>();
  const std::vector<double> codes = cat(out.codes, 0).to_vector<double>();
  const Tensor boxes = cast(scene.boxes, kFloat64);
  const std::vector<int64_t> match = match_boxes(box_iou(boxes, anchors)).to_vector<int64_t>();
  double focal = 0;
  double absolute = 0;
  double objects = 0;
  for (size_t a = 0; a < match.size(); ++a) {
    if (match[a] == kBetween) continue;
    for (size_t c = 0; c < 2; ++c) {
      const double p = 1 / (1 + std::exp(-x[2 * a + c]));
      const bool is =
          match[a] >= 0 && scene.labels[match[a]].value().integer_item() == static_cast<int64_t>(c);
      focal -= is ? 0.25 * (1 - p) * (1 - p) * std::log(p) : 0.75 * p * p * std::log(1 - p);
    }
    if (match[a] < 0) continue;
    ++objects;
    const std::vector<double> aim =
        encode_boxes(boxes[match[a]], anchors[static_cast<int64_t>(a)]).to_vector<double>();
    for (size_t k = 0; k < 4; ++k) absolute += std::abs(codes[4 * a + k] - aim[k]);
  }
  ASSERT_GT(objects, 0);
  EXPECT_NEAR(classification.item(), focal / objects, 1e-9 * focal);
  EXPECT_NEAR(regression.item(), absolute / objects, 1e-9 * absolute);
  expect_right_gradients(net, [&, &scene = scene] {
    const auto [a, b] = net.loss(image, scene.boxes, scene.labels);
    return a + b;
  });
}

TEST(RetinaNet, AnImageOfNothingTeachesToSeeNothing) {
  const RetinaNet net(tiny());
  const Tensor image = randn({1, 64, 64});
  const auto [classification, regression] =
      net.loss(image, zeros({0, 4}), zeros({0}, {.dtype = kInt64}));
  EXPECT_GT(classification.item(), 0);
  EXPECT_EQ(regression.item(), 0);
  (classification + regression).backward();
  EXPECT_EQ(net.detect(image).boxes.shape(), Shape({0, 4}));  // at first all scores are near 0.01
}

TEST(RetinaNet, DetectionsAreTheBestThatDoNotMeet) {
  default_generator() = Generator(10);
  RetinaNetOptions options = tiny();
  options.topk_candidates = 40;
  options.detections_per_image = 7;
  RetinaNet net(options);
  for (const auto& [name, p] : net.named_parameters()) {
    if (name.find("classification") != std::string::npos && p.shape().rank() == 4) {
      init::normal_(p, 0, 0.2);
    }
  }
  const auto [boxes, scores, labels] = net.detect(randn({1, 64, 64}));
  ASSERT_EQ(boxes.shape(), Shape({7, 4}));
  const Tensor iou = box_iou(boxes, boxes);
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_GT(scores[i].item(), 0.05);
    EXPECT_LE(scores[i].item(), scores[std::max<int64_t>(i - 1, 0)].item());
    EXPECT_GE(boxes[i].min().item(), 0);
    EXPECT_LE(boxes[i].max().item(), 64);
    for (int64_t k = 0; k < i; ++k) {
      if (labels[i].value().integer_item() != labels[k].value().integer_item()) continue;
      EXPECT_LE(iou[i][k].item(), 0.5);
    }
  }
}

TEST(RetinaNet, IsCopiedAndStored) {
  RetinaNet net(tiny());
  for (const Parameter& p : net.parameters()) init::normal_(p, 0, 0.1);
  RetinaNet other(tiny());
  const Tensor image = randn({1, 64, 64});
  const std::vector<float> expected = net(image).logits[1].to_vector<float>();
  EXPECT_NE(other(image).logits[1].to_vector<float>(), expected);
  const auto copy = net.clone();
  EXPECT_EQ(static_cast<const RetinaNet&>(*copy)(image).logits[1].to_vector<float>(), expected);
  const ebb::testing::TempDir dir;
  io::save(net, dir.file("net.safetensors"));
  io::load(other, dir.file("net.safetensors"));
  EXPECT_EQ(other(image).logits[1].to_vector<float>(), expected);
}

TEST(RetinaNet, RefusesWhatDoesNotFit) {
  const RetinaNet net(tiny());
  const Tensor image = randn({1, 64, 64});
  const Tensor boxes = from_vector(std::vector<float>{0, 0, 10, 10}, {1, 4});
  const Tensor labels = from_vector(std::vector<int64_t>{1});
  EXPECT_THROW(net(randn({1, 1, 64, 64})), ShapeError);
  EXPECT_THROW(net(randn({3, 64, 64})), ShapeError);
  EXPECT_THROW(net.loss(image, zeros({2, 4}), labels), ShapeError);
  EXPECT_THROW(net.loss(image, boxes, from_vector(std::vector<float>{1})), DTypeError);
  EXPECT_THROW(net.loss(image, boxes, from_vector(std::vector<int64_t>{2})), IndexError);
  EXPECT_THROW(net.loss(image, boxes, from_vector(std::vector<int64_t>{-1})), IndexError);
  EXPECT_THROW(net.loss(image, zeros({1, 4}), labels), ValueError);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Tensor endless = from_vector(std::vector<float>{4, 4, kInfinity, kInfinity}, {1, 4});
  EXPECT_THROW(net.loss(image, endless, labels), ValueError);
  RetinaNetOptions options = tiny();
  options.extra = ExtraLevels::kMaxPool;  // more levels than there are anchors for
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.anchors.sizes[1].push_back(40);
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.first_stage = 2;
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.prior_probability = 0;
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.num_classes = 0;
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.nms_threshold = std::nan("");
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.matching = {.high = 0.3, .low = 0.4};
  EXPECT_THROW(RetinaNet{options}, ValueError);
  options = tiny();
  options.focal_gamma = -1;
  EXPECT_THROW(RetinaNet{options}, ValueError);
}

}  // namespace
}  // namespace ebb::nn::models
