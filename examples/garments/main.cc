// SPDX-License-Identifier: Apache-2.0
// Trains a residual network of 20 layers on pictures of clothes, one image at a time; see
// README.md.
#include <ebb/ebb.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"

ABSL_FLAG(std::string, data, EBB_EXAMPLE_DATA_DIR, "folder of Fashion-MNIST's four files");
ABSL_FLAG(std::string, out, "out/garments", "folder for pictures and curves");
ABSL_FLAG(uint64_t, seed, 1, "seed of all random numbers");
ABSL_FLAG(bool, quick, false, "a short run that shows that all works");
ABSL_FLAG(int, epochs, 24, "passes over the training images");
ABSL_FLAG(double, lr, 0.002, "largest learning rate; it falls to 0 along a cosine");
ABSL_FLAG(double, momentum, 0.9, "of SGD");
ABSL_FLAG(double, weight_decay, 2e-4, "pulls all parameters to 0, times the learning rate");
ABSL_FLAG(int, shift, 2, "training images are moved by up to so many pixels along each axis");

namespace {

using ebb::Tensor;
using ebb::data::LabelledImage;

constexpr double kMean = 0.2860;       // of Fashion-MNIST's pixels
constexpr double kDeviation = 0.3530;  // of Fashion-MNIST's pixels
constexpr int64_t kClasses = 10;
constexpr int64_t kLogEvery = 1000;
constexpr int kLargestShift = 27;  // leaves a pixel of the image
const std::vector<std::string> kNames = {"T-shirt", "trouser", "pullover", "dress", "coat",
                                         "sandal",  "shirt",   "sneaker",  "bag",   "boot"};

struct Settings {
  bool quick = absl::GetFlag(FLAGS_quick);
  int epochs = quick ? 1 : absl::GetFlag(FLAGS_epochs);
  double lr = absl::GetFlag(FLAGS_lr);
  int shift = absl::GetFlag(FLAGS_shift);
  std::filesystem::path out = absl::GetFlag(FLAGS_out);
};

// Images [1,28,28], brought to mean 0 and deviation 1.
std::vector<LabelledImage> load(const Settings& s, ebb::data::Split split) {
  const auto images = ebb::data::idx(absl::GetFlag(FLAGS_data), split);
  return standardized(s.quick ? images.take(1500) : images, kMean, kDeviation);
}

// The image mirrored or not and moved by up to `shift` pixels; what comes in is background.
Tensor varied(const Tensor& image, int shift, ebb::Generator& chance) {
  const auto draw = [&] {
    return static_cast<int64_t>(chance.uniform_int(2 * static_cast<uint64_t>(shift) + 1)) - shift;
  };
  const int64_t x = draw();
  const int64_t y = draw();
  const Tensor moved = pad(image, {x, -x, y, -y}, ebb::PadMode::kConstant, -kMean / kDeviation);
  return chance.uniform_int(2) == 0 ? moved : flip(moved, -1);
}

// counts[i][j]: images of class i taken for class j.
Tensor confusion(const ebb::nn::models::ResNet& net, const std::vector<LabelledImage>& images) {
  const ebb::NoGradGuard no_grad;
  std::vector<double> counts(kClasses * kClasses);
  for (const auto& [image, label] : images) {
    const int64_t taken = argmax(net(image), 0).value().integer_item();
    ++counts[static_cast<size_t>(label * kClasses + taken)];
  }
  return ebb::from_vector(counts, {kClasses, kClasses});
}

ebb::nn::models::ResNetOptions resnet20() {
  auto options = ebb::nn::models::resnet_small(3, 1, kClasses);
  // Statistics of a batch of one image would be those of the image; groups of channels are.
  options.norm.kind = ebb::nn::models::Normalization::Kind::kGroup;
  return options;
}

int run() {
  const Settings s;
  if (s.shift < 0 || s.shift > kLargestShift) {
    throw ebb::ValueError("--shift is " + std::to_string(s.shift) + "; it must be in [0, " +
                          std::to_string(kLargestShift) + "]");
  }
  std::filesystem::create_directories(s.out);
  ebb::manual_seed(absl::GetFlag(FLAGS_seed));
  ebb::Generator order = ebb::default_generator().split("order");
  ebb::Generator chance = ebb::default_generator().split("variation");
  const std::vector<LabelledImage> train = load(s, ebb::data::Split::kTrain);
  const std::vector<LabelledImage> test = load(s, ebb::data::Split::kTest);

  ebb::nn::models::ResNet net(resnet20());
  ebb::optim::SGD sgd(net.parameters(), {.lr = s.lr,
                                         .momentum = absl::GetFlag(FLAGS_momentum),
                                         .weight_decay = absl::GetFlag(FLAGS_weight_decay)});
  const auto images = static_cast<int64_t>(train.size());
  const int64_t steps = images * s.epochs;
  ebb::optim::CosineAnnealingLR schedule(sgd, {.t_max = steps, .warmup = steps / 50});

  ebb::train::Curves curves((s.out / "curves.csv").string(), {"loss", "test_error_percent"},
                            kLogEvery);
  ebb::train::Progress progress(steps, "ResNet-20");
  Tensor counts;
  double accuracy = 0;
  int64_t step = 0;
  std::chrono::duration<double> trained{0};
  for (int epoch = 0; epoch < s.epochs; ++epoch) {
    const auto start = std::chrono::steady_clock::now();
    for (const int64_t i : order.permutation(images)) {
      const auto& [image, label] = train[static_cast<size_t>(i)];
      const Tensor loss = cross_entropy(net(varied(image, s.shift, chance)), label);
      sgd.zero_grad();
      loss.backward();
      sgd.step();
      schedule.step();
      curves.add(++step, "loss", loss.item());
      progress.update(step, {{"loss", loss.item()}, {"accuracy %", accuracy}});
    }
    trained += std::chrono::steady_clock::now() - start;
    counts = confusion(net, test);
    accuracy = 100 * trace(counts).item() / static_cast<double>(test.size());
    curves.point(step, "test_error_percent", 100 - accuracy);
  }
  progress.finish();

  ebb::io::write_png(
      (s.out / "curves.png").string(),
      ebb::train::line_plot(
          curves.series(),
          {.title = "ResNet-20, one image at a time", .x_label = "images seen", .log_y = true}));
  ebb::io::write_png((s.out / "confusion.png").string(),
                     ebb::train::heat_map(counts.to_vector<double>(), kClasses, kClasses,
                                          {.title = "What test images are taken for",
                                           .x_label = "taken for",
                                           .y_label = "is",
                                           .row_names = kNames,
                                           .column_names = kNames,
                                           .write_values = true}));
  ebb::io::save(net, (s.out / "resnet20.safetensors").string());
  std::printf("pictures and curves are in %s\n", s.out.c_str());
  std::printf("result: {\"accuracy_percent\": %.2f, \"epochs\": %d, \"us_per_step\": %.1f}\n",
              accuracy, s.epochs, trained.count() * 1e6 / static_cast<double>(steps));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("ResNet-20 on pictures of clothes, one image at a time.");
  absl::ParseCommandLine(argc, argv);
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "garments: %s\n", e.what());
    return 1;
  }
}
