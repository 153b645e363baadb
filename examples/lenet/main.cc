// SPDX-License-Identifier: Apache-2.0
// Trains LeNet-5 on handwritten digits, one image at a time; see README.md.
#include <ebb/ebb.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "distort.h"

ABSL_FLAG(std::string, data, EBB_EXAMPLE_DATA_DIR "/digits", "folder of MNIST's four files");
ABSL_FLAG(std::string, out, "out/lenet", "folder for pictures and curves");
ABSL_FLAG(uint64_t, seed, 1, "seed of all random numbers");
ABSL_FLAG(bool, quick, false, "a short run that shows that all works");
ABSL_FLAG(int, epochs, 20, "passes over the training images");
ABSL_FLAG(bool, distort, false, "train on images that are moved, turned, scaled and sheared");
ABSL_FLAG(double, lr, 0.01, "learning rate of the first step; it falls to 0 along a cosine");
ABSL_FLAG(double, weight_decay, 0, "pulls all parameters to 0, times the learning rate");

namespace {

using ebb::Tensor;
using ebb::data::LabelledImage;

constexpr double kMean = 0.1307;       // of MNIST's pixels
constexpr double kDeviation = 0.3081;  // of MNIST's pixels
constexpr int64_t kSide = 28;
constexpr int kLogEvery = 1000;
constexpr size_t kShown = 24;  // mistakes in the picture

struct Settings {
  bool quick = absl::GetFlag(FLAGS_quick);
  bool distort = absl::GetFlag(FLAGS_distort);
  int epochs = quick ? 2 : absl::GetFlag(FLAGS_epochs);
  double lr = absl::GetFlag(FLAGS_lr);
  double weight_decay = absl::GetFlag(FLAGS_weight_decay);
  std::filesystem::path out = absl::GetFlag(FLAGS_out);
};

// Images [1,28,28], brought to mean 0 and deviation 1.
std::vector<LabelledImage> load(const Settings& s, ebb::data::Split split) {
  const auto images = ebb::data::idx(absl::GetFlag(FLAGS_data), split);
  return standardized(s.quick ? images.take(2000) : images, kMean, kDeviation);
}

int64_t predicted(const ebb::nn::models::LeNet5& net, const Tensor& image) {
  const ebb::NoGradGuard no_grad;
  return argmax(net(image), 0).value().integer_item();
}

// Those that the network takes for something else.
std::vector<LabelledImage> mistakes(const ebb::nn::models::LeNet5& net,
                                    const std::vector<LabelledImage>& images) {
  std::vector<LabelledImage> wrong;
  for (const LabelledImage& s : images) {
    if (predicted(net, s.image) != s.label) wrong.push_back(s);
  }
  return wrong;
}

void draw_mistakes(const Settings& s, const ebb::nn::models::LeNet5& net,
                   const std::vector<LabelledImage>& wrong) {
  std::vector<ebb::train::ImageRow> rows;
  for (size_t i = 0; i < wrong.size() && i < kShown; ++i) {
    if (i % 8 == 0) rows.push_back({.label = "for"});
    const Tensor pixels = wrong[i].image * kDeviation + kMean;
    rows.back().tiles.push_back({pixels.to_vector<double>(), kSide, kSide});
    rows.back().label += " " + std::to_string(predicted(net, wrong[i].image));
  }
  if (rows.empty()) return;
  ebb::io::write_png((s.out / "mistakes.png").string(),
                     ebb::train::image_rows(rows, {.title = "Test images that were mistaken"}));
}

int run() {
  const Settings s;
  std::filesystem::create_directories(s.out);
  ebb::manual_seed(absl::GetFlag(FLAGS_seed));
  ebb::Generator order = ebb::default_generator().split("order");
  ebb::Generator chance = ebb::default_generator().split("distortions");
  const std::vector<LabelledImage> train = load(s, ebb::data::Split::kTrain);
  const std::vector<LabelledImage> test = load(s, ebb::data::Split::kTest);

  ebb::nn::models::LeNet5 net;
  ebb::optim::SGD sgd(net.parameters(), {.lr = s.lr, .weight_decay = s.weight_decay});
  const auto images = static_cast<int64_t>(train.size());
  const int64_t steps = images * s.epochs;
  ebb::optim::CosineAnnealingLR schedule(sgd, {.t_max = steps});

  ebb::train::Curves curves((s.out / "curves.csv").string(), {"loss", "test_error_percent"},
                            kLogEvery);
  ebb::train::Progress progress(steps, "LeNet-5");
  std::vector<LabelledImage> wrong;
  double error = 0;
  int64_t step = 0;
  std::chrono::duration<double> trained{0};
  for (int epoch = 0; epoch < s.epochs; ++epoch) {
    const auto start = std::chrono::steady_clock::now();
    for (const int64_t i : order.permutation(images)) {
      const auto& [image, label] = train[static_cast<size_t>(i)];
      const Tensor x = s.distort ? lenet::distorted(image, {}, -kMean / kDeviation, chance) : image;
      const Tensor loss = cross_entropy(net(x), label);
      sgd.zero_grad();
      loss.backward();
      sgd.step();
      schedule.step();
      curves.add(++step, "loss", loss.item());
      progress.update(step, {{"loss", loss.item()}, {"test error %", error}});
    }
    trained += std::chrono::steady_clock::now() - start;
    wrong = mistakes(net, test);
    error = 100.0 * static_cast<double>(wrong.size()) / static_cast<double>(test.size());
    curves.point(step, "test_error_percent", error);
  }
  progress.finish();

  ebb::io::write_png(
      (s.out / "curves.png").string(),
      ebb::train::line_plot(
          curves.series(),
          {.title = "LeNet-5, one image at a time", .x_label = "images seen", .log_y = true}));
  draw_mistakes(s, net, wrong);
  ebb::io::save(net, (s.out / "lenet.safetensors").string());
  std::printf("pictures and curves are in %s\n", s.out.c_str());
  std::printf(
      "result: {\"test_error_percent\": %.2f, \"mistakes\": %zu, \"epochs\": %d, "
      "\"us_per_step\": %.1f}\n",
      error, wrong.size(), s.epochs, trained.count() * 1e6 / static_cast<double>(steps));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("LeNet-5 on handwritten digits, one image at a time.");
  absl::ParseCommandLine(argc, argv);
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "lenet: %s\n", e.what());
    return 1;
  }
}
