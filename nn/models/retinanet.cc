// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/models/retinanet.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ebb/autograd/engine.h"
#include "ebb/nn/activation.h"
#include "ebb/nn/init.h"
#include "ebb/ops/box.h"
#include "ebb/ops/convert.h"
#include "ebb/ops/creation.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/index.h"
#include "ebb/ops/join.h"
#include "ebb/ops/loss.h"
#include "ebb/ops/reduce.h"
#include "ebb/ops/shape.h"
#include "ebb/ops/unary.h"

namespace ebb::nn::models {

namespace {

RetinaNetOptions checked(RetinaNetOptions o) {
  const size_t stages = o.backbone.layers.size();
  if (o.first_stage >= stages) {
    throw ValueError(absl::StrCat("RetinaNet: the first stage is ", o.first_stage,
                                  ", but the backbone has ", stages));
  }
  if (o.num_classes < 1 || o.head_convolutions < 0 || o.topk_candidates < 1 ||
      o.detections_per_image < 1) {
    throw ValueError(absl::StrCat("RetinaNet: ", o.num_classes, " classes, ", o.head_convolutions,
                                  " convolutions in the heads, ", o.topk_candidates,
                                  " candidates, ", o.detections_per_image,
                                  " detections; all must be at least 1, the convolutions 0"));
  }
  if (!(o.prior_probability > 0 && o.prior_probability < 1) ||
      !(o.score_threshold >= 0 && o.score_threshold < 1)) {
    throw ValueError(absl::StrCat("RetinaNet: the prior probability is ", o.prior_probability,
                                  ", the score threshold ", o.score_threshold,
                                  "; they must be in (0, 1) and [0, 1)"));
  }
  const auto is_share = [](double v) { return v >= 0 && v <= 1; };
  if (!is_share(o.nms_threshold) || !is_share(o.matching.low) || !is_share(o.matching.high) ||
      o.matching.low > o.matching.high) {
    throw ValueError(absl::StrCat("RetinaNet: the threshold of suppression is ", o.nms_threshold,
                                  ", those of matching ", o.matching.low, " and ", o.matching.high,
                                  "; they must be in [0, 1], the latter in order"));
  }
  if (!(is_share(o.focal_alpha) || o.focal_alpha == -1) || !(o.focal_gamma >= 0)) {
    throw ValueError(absl::StrCat("RetinaNet: focal_alpha is ", o.focal_alpha, ", focal_gamma ",
                                  o.focal_gamma, "; the first must be in [0, 1] or -1, the second ",
                                  "at least 0"));
  }
  o.backbone.num_classes = 0;
  return o;
}

// As many at every place of every level, since all share the heads.
int64_t anchors_everywhere(const AnchorGenerator& anchors, size_t levels) {
  if (anchors.levels() != levels) {
    throw ValueError(absl::StrCat("RetinaNet: anchors of ", anchors.levels(),
                                  " levels, but the pyramid has ", levels));
  }
  for (size_t i = 1; i < levels; ++i) {
    if (anchors.at_each_place(i) != anchors.at_each_place(0)) {
      throw ValueError(absl::StrCat("RetinaNet: ", anchors.at_each_place(0),
                                    " anchors at a place of level 0, but ",
                                    anchors.at_each_place(i), " of level ", i));
    }
  }
  return anchors.at_each_place(0);
}

void draw(const Conv2d& conv, double bias) {
  init::normal_(conv.weight, 0, 0.01);
  init::constant_(conv.bias, bias);
}

FeaturePyramidOptions pyramid_of(const ResNet& body, const RetinaNetOptions& o) {
  FeaturePyramidOptions pyramid{.out_channels = o.channels, .extra = o.extra};
  for (size_t s = o.first_stage; s < o.backbone.layers.size(); ++s) {
    pyramid.in_channels.push_back(body.channels(s));
  }
  return pyramid;
}

// What a head says, [anchors * numbers,H,W], as a row for each anchor, place by place.
Tensor rows_of(const Tensor& map, int64_t numbers) {
  const int64_t anchors = map.size(0) / numbers;
  const Tensor split = reshape(map, {anchors, numbers, map.size(1), map.size(2)});
  return reshape(permute(split, {2, 3, 0, 1}), {-1, numbers});
}

// The indices of the elements of x [n] that are above the threshold.
Tensor indices_above(const Tensor& x, double threshold) {
  std::vector<int64_t> ids;
  const Array values = contiguous(x).value();
  visit_differentiable(values.dtype(), [&](auto t) {
    const auto* v = values.data<decltype(t)>();
    for (int64_t i = 0; i < values.numel(); ++i) {
      if (v[i] > threshold) ids.push_back(i);
    }
  });
  return from_vector(ids);
}

Conv2dOptions same() { return {.padding = 1}; }

}  // namespace

RetinaNetOptions retinanet_resnet50_fpn(int64_t num_classes) {
  RetinaNetOptions options{.num_classes = num_classes};
  options.backbone.norm.kind = Normalization::Kind::kFrozen;
  return options;
}

RetinaNet::Backbone::Backbone(Module& parent, const RetinaNetOptions& options)
    : Module(parent, "backbone"),
      body(*this, "body", options.backbone),
      fpn(*this, "fpn", pyramid_of(body, options)) {}

RetinaNet::Head::Head(Module& parent, std::string name, const RetinaNetOptions& options)
    : Module(parent, std::move(name)) {
  for (int64_t i = 0; i < options.head_convolutions; ++i) {
    auto layer = std::make_unique<Sequential>();
    draw(layer->add<Conv2d>(options.channels, options.channels, 3, same()), 0);
    layer->add<ReLU>();
    conv.append(std::move(layer));
  }
}

RetinaNet::ClassificationHead::ClassificationHead(Module& parent, const RetinaNetOptions& options,
                                                  int64_t anchors)
    : Head(parent, "classification_head", options),
      cls_logits(*this, "cls_logits", options.channels, anchors * options.num_classes, 3, same()) {
  draw(cls_logits, -std::log((1 - options.prior_probability) / options.prior_probability));
}

RetinaNet::RegressionHead::RegressionHead(Module& parent, const RetinaNetOptions& options,
                                          int64_t anchors)
    : Head(parent, "regression_head", options),
      bbox_reg(*this, "bbox_reg", options.channels, anchors * 4, 3, same()) {
  draw(bbox_reg, 0);
}

RetinaNet::Heads::Heads(Module& parent, const RetinaNetOptions& options, int64_t anchors)
    : Module(parent, "head"),
      classification(*this, options, anchors),
      regression(*this, options, anchors) {}

RetinaNet::RetinaNet(RetinaNetOptions options) try
    : options_(checked(std::move(options))),
      anchors_(options_.anchors),
      backbone_(*this, options_),
      head_(*this, options_, anchors_everywhere(anchors_, backbone_.fpn.levels())) {
} catch (const Error&) {
  ebb::detail::rethrow_as("RetinaNet");
}

RetinaNet::RetinaNet(Module& parent, std::string name, RetinaNetOptions options) try
    : Module(parent, std::move(name)),
      options_(checked(std::move(options))),
      anchors_(options_.anchors),
      backbone_(*this, options_),
      head_(*this, options_, anchors_everywhere(anchors_, backbone_.fpn.levels())) {
} catch (const Error&) {
  ebb::detail::rethrow_as("RetinaNet");
}

RetinaNetOutput RetinaNet::operator()(At image) const {
  const ebb::detail::PlaceScope scope(image.where);
  const Tensor& x = *image.tensor;
  if (x.dim() != 3) {
    throw ShapeError(absl::StrCat("RetinaNet: the image is ", x.shape().str(),
                                  "; it must be [channels,height,width]"));
  }
  const std::vector<Tensor> stages = backbone_.body.stages(x);
  const std::vector<Tensor> levels =
      backbone_.fpn(Span<const Tensor>(stages).subspan(options_.first_stage));
  RetinaNetOutput out;
  for (size_t i = 0; i < levels.size(); ++i) {
    const Tensor& level = levels[i];
    const Tensor logits = head_.classification.cls_logits(head_.classification.features(level));
    const Tensor codes = head_.regression.bbox_reg(head_.regression.features(level));
    out.logits.push_back(rows_of(logits, options_.num_classes));
    out.codes.push_back(rows_of(codes, 4));
    out.anchors.push_back(
        cast(anchors_(i, level.size(1), level.size(2), x.size(1), x.size(2)), x.dtype()));
  }
  return out;
}

RetinaNetLoss RetinaNet::loss(At image, const Tensor& boxes, const Tensor& labels) const {
  const ebb::detail::PlaceScope scope(image.where);
  if (labels.dtype() != kInt64) {
    throw DTypeError(absl::StrCat(
        "RetinaNet: labels is ", Meta{labels.dtype(), labels.shape()}.str(), "; it must be int64"));
  }
  if (labels.dim() != 1 || boxes.shape() != Shape{labels.size(0), 4}) {
    throw ShapeError(absl::StrCat("RetinaNet: boxes is ", boxes.shape().str(), ", labels is ",
                                  labels.shape().str(), "; they must be [G,4] and [G]"));
  }
  const Tensor truth = contiguous(cast(boxes.detach(), image.tensor->dtype()));
  const std::vector<int64_t> classes = labels.to_vector<int64_t>();
  const std::vector<double> corners = cast(truth, kFloat64).to_vector<double>();
  for (size_t g = 0; g < classes.size(); ++g) {
    if (classes[g] < 0 || classes[g] >= options_.num_classes) {
      throw IndexError(absl::StrCat("RetinaNet: label ", classes[g], " of object ", g,
                                    "; it must be in [0, ", options_.num_classes, ")"));
    }
    const double* b = &corners[4 * g];
    if (!(b[0] < b[2] && b[1] < b[3] && std::isfinite((b[2] - b[0]) * (b[3] - b[1])))) {
      throw ValueError(absl::StrCat("RetinaNet: box ", g, " is ", b[0], ", ", b[1], ", ", b[2],
                                    ", ", b[3], "; it must have a finite area"));
    }
  }

  const RetinaNetOutput out = (*this)(image);
  const Tensor logits = cat(out.logits, 0);
  const Tensor anchors = cat(out.anchors, 0);
  const std::vector<int64_t> match =
      match_boxes(box_iou(truth, anchors), options_.matching).to_vector<int64_t>();

  std::vector<int64_t> found;    // anchors that stand for an object,
  std::vector<int64_t> object;   // which ones,
  std::vector<int64_t> counted;  // and all that say what they stand for
  for (size_t a = 0; a < match.size(); ++a) {
    if (match[a] != kBetween) counted.push_back(static_cast<int64_t>(a));
    if (match[a] < 0) continue;
    found.push_back(static_cast<int64_t>(a));
    object.push_back(match[a]);
  }
  const double count = std::max(1.0, static_cast<double>(found.size()));

  const Array targets = Array::zeros(logits.dtype(), logits.shape());
  visit_differentiable(targets.dtype(), [&](auto t) {
    auto* rows = targets.mutable_data<decltype(t)>();
    for (size_t i = 0; i < found.size(); ++i) {
      rows[found[i] * options_.num_classes + classes[static_cast<size_t>(object[i])]] = 1;
    }
  });
  Tensor scored = logits;
  Tensor wanted(targets);
  if (counted.size() < match.size()) {
    const Tensor ids = from_vector(counted);
    scored = index_select(scored, 0, ids);
    wanted = index_select(wanted, 0, ids);
  }
  RetinaNetLoss loss;
  loss.classification = sigmoid_focal_loss(scored, wanted, options_.focal_alpha,
                                           options_.focal_gamma, Reduction::kSum) /
                        count;
  const Tensor ids = from_vector(found);
  const Tensor aim =
      encode_boxes(index_select(truth, 0, from_vector(object)), index_select(anchors, 0, ids));
  loss.bbox_regression =
      l1_loss(index_select(cat(out.codes, 0), 0, ids), aim, {Reduction::kSum}) / count;
  return loss;
}

Detections RetinaNet::detect(At image) const {
  const NoGradGuard no_grad;
  const RetinaNetOutput out = (*this)(image);
  std::vector<Tensor> boxes;
  std::vector<Tensor> scores;
  std::vector<Tensor> labels;
  for (size_t i = 0; i < out.logits.size(); ++i) {
    // A class at an anchor is a candidate. Few are; the rest is only looked at.
    const Tensor all = flatten(sigmoid(out.logits[i]));
    const Tensor candidates = indices_above(all, options_.score_threshold);
    const auto [best, at] = topk(index_select(all, 0, candidates),
                                 std::min(options_.topk_candidates, candidates.size(0)));
    std::vector<int64_t> ids = index_select(candidates, 0, at).to_vector<int64_t>();
    std::vector<int64_t> classes;
    for (int64_t& id : ids) {
      classes.push_back(id % options_.num_classes);
      id /= options_.num_classes;
    }
    const Tensor rows = from_vector(ids);
    const Tensor decoded =
        decode_boxes(index_select(out.codes[i], 0, rows), index_select(out.anchors[i], 0, rows));
    boxes.push_back(clip_boxes_to_image(decoded, image.tensor->size(1), image.tensor->size(2)));
    scores.push_back(best);
    labels.push_back(from_vector(classes));
  }
  Detections all{cat(boxes, 0), cat(scores, 0), cat(labels, 0)};
  Tensor keep = batched_nms(all.boxes, all.scores, all.labels, options_.nms_threshold);
  keep = narrow(keep, 0, 0, std::min(options_.detections_per_image, keep.size(0)));
  return {index_select(all.boxes, 0, keep), index_select(all.scores, 0, keep),
          index_select(all.labels, 0, keep)};
}

}  // namespace ebb::nn::models
