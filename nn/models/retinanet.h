// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ebb/nn/models/anchors.h"
#include "ebb/nn/models/feature_pyramid.h"
#include "ebb/nn/models/resnet.h"

// A detector of objects in images: Lin, Goyal, Girshick, He, Dollar 2017, "Focal loss for dense
// object detection". Boxes are as in ops/box.h. Names of parameters are those of PyTorch's
// torchvision, whose weights fit.
namespace ebb::nn::models {

struct RetinaNetOptions {
  /// Without its last layer, whatever it says.
  ResNetOptions backbone = resnet50();
  size_t first_stage = 1;  ///< of the backbone's stages that the pyramid sees
  int64_t channels = 256;  ///< of pyramid and heads
  ExtraLevels extra = ExtraLevels::kP6P7;
  AnchorOptions anchors = {};  ///< sizes of as many levels as the pyramid has
  int64_t head_convolutions = 4;
  int64_t num_classes = 91;  ///< of COCO as torchvision counts them: 0 is none of them
  /// What the classes' probabilities are at first, so that the many places at which there is
  /// nothing do not drown all else.
  double prior_probability = 0.01;

  // In training.
  MatchOptions matching = {};
  double focal_alpha = 0.25;
  double focal_gamma = 2;

  // In detection.
  double score_threshold = 0.05;   ///< what scores less is nothing
  int64_t topk_candidates = 1000;  ///< of each level, before suppression
  double nms_threshold = 0.5;
  int64_t detections_per_image = 300;
};

/// The published one, on ResNet-50 with frozen norms: 34,014,999 parameters with 91 classes. The
/// weights that torchvision publishes were trained with a `backbone.norm.batch.eps` of 0.
RetinaNetOptions retinanet_resnet50_fpn(int64_t num_classes = 91);

/// What a RetinaNet says of each of A anchors, level by level.
struct RetinaNetOutput {
  std::vector<Tensor> logits;   ///< of each level, [A_l,num_classes]
  std::vector<Tensor> codes;    ///< of each level, [A_l,4]: boxes, as encode_boxes codes them
  std::vector<Tensor> anchors;  ///< of each level, [A_l,4]
};

/// The two parts of its loss, scalars; their sum is what training minimises.
struct RetinaNetLoss {
  Tensor classification;
  Tensor bbox_regression;
};

/// What was found, best first.
struct Detections {
  Tensor boxes;   ///< [D,4], in pixels
  Tensor scores;  ///< [D], probabilities
  Tensor labels;  ///< [D], int64
};

///   nn::models::RetinaNet net{nn::models::retinanet_resnet50_fpn()};
///   auto [classification, boxes] = net.loss(image, truth_boxes, truth_labels);
///   (classification + boxes).backward();
class RetinaNet : public Module {
 public:
  /// Throws ValueError where a number is out of its range, or the anchors' levels are not the
  /// pyramid's.
  explicit RetinaNet(RetinaNetOptions options = retinanet_resnet50_fpn());
  RetinaNet(Module& parent, std::string name, RetinaNetOptions options = retinanet_resnet50_fpn());

  /// Of one image [in_channels,H,W], of the size in which it is to be looked at and with its
  /// channels brought to what the backbone was trained on; torchvision's preparation, a shorter
  /// side of 800 pixels, is the caller's. Throws ShapeError.
  RetinaNetOutput operator()(At image) const;
  /// Of an image with objects in boxes [G,4] that are of the classes `labels` [G], int64; G may be
  /// 0. The focal loss of all anchors but those between, and the absolute differences of the codes
  /// of those that stand for an object, each sum over the number of the latter. Throws ShapeError;
  /// DTypeError unless labels is int64; IndexError on a label outside [0, num_classes); ValueError
  /// on a box without area.
  RetinaNetLoss loss(At image, const Tensor& boxes, const Tensor& labels) const;
  /// The objects of an image; without gradients.
  Detections detect(At image) const;
  std::unique_ptr<Module> clone() const override { return clone_as(*this, options_); }

 private:
  // Body and pyramid; a head that classifies and one that places: torchvision's modules.
  struct Backbone : Module {
    Backbone(Module& parent, const RetinaNetOptions& options);
    ResNet body;
    FeaturePyramidNetwork fpn;
  };
  struct Head : Module {
    Head(Module& parent, std::string name, const RetinaNetOptions& options);
    Tensor features(const Tensor& level) const { return conv(level); }
    Sequential conv{*this, "conv"};
  };
  struct ClassificationHead : Head {
    ClassificationHead(Module& parent, const RetinaNetOptions& options, int64_t anchors);
    Conv2d cls_logits;
  };
  struct RegressionHead : Head {
    RegressionHead(Module& parent, const RetinaNetOptions& options, int64_t anchors);
    Conv2d bbox_reg;
  };
  struct Heads : Module {
    Heads(Module& parent, const RetinaNetOptions& options, int64_t anchors);
    ClassificationHead classification;
    RegressionHead regression;
  };

  RetinaNetOptions options_;
  AnchorGenerator anchors_;
  Backbone backbone_;
  Heads head_;
};

}  // namespace ebb::nn::models
