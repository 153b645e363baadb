// SPDX-License-Identifier: Apache-2.0
// A U-Net finds the digits in a scene, pixel by pixel; see README.md.
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
#include "scene.h"

ABSL_FLAG(std::string, data, EBB_EXAMPLE_DATA_DIR "/digits", "folder of MNIST's four files");
ABSL_FLAG(std::string, out, "out/segmentation", "folder for pictures and curves");
ABSL_FLAG(uint64_t, seed, 1, "seed of all random numbers");
ABSL_FLAG(bool, quick, false, "a short run that shows that all works");
ABSL_FLAG(int64_t, steps, 28000, "scenes to learn from, each seen once");
ABSL_FLAG(int64_t, test_scenes, 1000, "scenes of test digits for the result");
ABSL_FLAG(double, lr, 2e-3, "largest learning rate of Adam; it falls to 0 along a cosine");
ABSL_FLAG(int64_t, width, 16, "channels of the U-Net at full size");

namespace {

using ebb::Tensor;
using segmentation::kClasses;
using segmentation::kSide;
using segmentation::Scene;

constexpr int64_t kLogEvery = 250;
constexpr float kBackgroundWeight = 0.5f;
constexpr int kShown = 6;  // scenes in the picture

std::vector<ebb::data::LabelledImage> load(ebb::data::Split split) {
  std::vector<ebb::data::LabelledImage> digits;
  for (const auto& digit : ebb::data::idx(absl::GetFlag(FLAGS_data), split)) {
    digits.push_back(digit);
  }
  return digits;
}

// The class of each pixel.
std::vector<int64_t> masks(const ebb::nn::models::UNet& net, const Scene& scene) {
  const ebb::NoGradGuard no_grad;
  return argmax(net(scene.image), 0).to_vector<int64_t>();
}

// The class of each pixel as a colour: planes of red, green and blue.
std::vector<double> colours(const std::vector<int64_t>& labels) {
  std::vector<double> planes[3];
  for (const int64_t label : labels) {
    const bool blank = label == segmentation::kBackground;
    const auto c = blank ? ebb::train::Color{255, 255, 255} : ebb::train::series_color(label);
    planes[0].push_back(c.r / 255.0);
    planes[1].push_back(c.g / 255.0);
    planes[2].push_back(c.b / 255.0);
  }
  std::vector<double> all;
  for (const auto& plane : planes) all.insert(all.end(), plane.begin(), plane.end());
  return all;
}

void draw(const std::filesystem::path& out, const ebb::nn::models::UNet& net,
          const std::vector<Scene>& scenes) {
  std::vector<ebb::train::ImageRow> rows = {
      {.label = "scene"}, {.label = "U-Net"}, {.label = "truth"}};
  for (size_t i = 0; i < scenes.size() && i < kShown; ++i) {
    const Scene& scene = scenes[i];
    rows[0].tiles.push_back({scene.image.to_vector<double>(), kSide, kSide});
    rows[1].tiles.push_back({colours(masks(net, scene)), kSide, kSide, 3});
    rows[2].tiles.push_back({colours(scene.labels.to_vector<int64_t>()), kSide, kSide, 3});
  }
  ebb::io::write_png((out / "scenes.png").string(),
                     ebb::train::image_rows(rows, {.title = "Scenes of test digits"}));
}

int run() {
  const bool quick = absl::GetFlag(FLAGS_quick);
  const int64_t steps = quick ? 400 : absl::GetFlag(FLAGS_steps);
  const int64_t tests = quick ? 20 : absl::GetFlag(FLAGS_test_scenes);
  if (tests < 1) {
    throw ebb::ValueError("--test_scenes is " + std::to_string(tests) + "; it must be at least 1");
  }
  const std::filesystem::path out = absl::GetFlag(FLAGS_out);
  std::filesystem::create_directories(out);
  ebb::manual_seed(absl::GetFlag(FLAGS_seed));
  ebb::Generator chance = ebb::default_generator().split("training scenes");
  ebb::Generator test_chance = ebb::default_generator().split("test scenes");
  const auto train_digits = load(ebb::data::Split::kTrain);
  const auto test_digits = load(ebb::data::Split::kTest);
  std::vector<Scene> test;
  for (int64_t i = 0; i < tests; ++i) {
    test.push_back(segmentation::make_scene(test_digits, test_chance));
  }

  ebb::nn::models::UNetOptions options{
      .in_channels = 1, .num_classes = kClasses, .width = absl::GetFlag(FLAGS_width), .depth = 3};
  // Each channel by its own mean and variance in this very image, now and later.
  options.norm.batch.track_running_stats = false;
  ebb::nn::models::UNet net(options);
  ebb::optim::Adam adam(net.parameters(), {.lr = absl::GetFlag(FLAGS_lr)});
  ebb::optim::CosineAnnealingLR schedule(adam, {.t_max = steps, .warmup = steps / 50});

  std::vector<float> weight_of(kClasses, 1);
  weight_of[segmentation::kBackground] = kBackgroundWeight;  // nine pixels in ten
  const Tensor weights = ebb::from_vector(weight_of);

  ebb::train::Curves curves((out / "curves.csv").string(), {"loss"}, quick ? 25 : kLogEvery);
  ebb::train::Progress progress(steps, "U-Net");
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 1; step <= steps; ++step) {
    const Scene scene = segmentation::make_scene(train_digits, chance);
    const Tensor loss = cross_entropy(unsqueeze(net(scene.image), 0), unsqueeze(scene.labels, 0),
                                      {.weight = weights});
    adam.zero_grad();
    loss.backward();
    adam.step();
    schedule.step();
    curves.add(step, "loss", loss.item());
    progress.update(step, {{"loss", loss.item()}});
  }
  progress.finish();
  const std::chrono::duration<double> trained = std::chrono::steady_clock::now() - start;

  segmentation::Overlap overlap;
  for (const Scene& scene : test) {
    overlap.add(masks(net, scene), scene.labels.to_vector<int64_t>());
  }
  for (int64_t c = 0; c < kClasses; ++c) {
    std::printf("%s: IoU %.4f\n",
                c == segmentation::kBackground ? "background" : std::to_string(c).c_str(),
                overlap.of(c));
  }
  draw(out, net, test);
  ebb::io::write_png(
      (out / "curves.png").string(),
      ebb::train::line_plot(curves.series(),
                            {.title = "Loss a pixel", .x_label = "scenes seen", .log_y = true}));
  ebb::io::save(net, (out / "unet.safetensors").string());
  std::printf("pictures and curves are in %s\n", out.c_str());
  std::printf(
      "result: {\"mean_iou\": %.4f, \"ink_iou\": %.4f, \"scenes\": %lld, \"ms_per_step\": %.2f}\n",
      overlap.mean(), overlap.of_ink(), static_cast<long long>(steps),
      trained.count() * 1e3 / static_cast<double>(steps));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Segmentation of scenes of digits with a U-Net.");
  absl::ParseCommandLine(argc, argv);
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "segmentation: %s\n", e.what());
    return 1;
  }
}
