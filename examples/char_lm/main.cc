// SPDX-License-Identifier: Apache-2.0
// Learns to write like Shakespeare, character by character, with an LSTM or a Transformer; see
// README.md.
#include <ebb/ebb.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "model.h"

ABSL_FLAG(std::string, data, EBB_EXAMPLE_DATA_DIR "/shakespeare", "folder with input.txt[.gz]");
ABSL_FLAG(std::string, out, "out/char_lm", "folder for pictures, curves and the sample");
ABSL_FLAG(uint64_t, seed, 1, "seed of all random numbers");
ABSL_FLAG(bool, quick, false, "a short run that shows that all works");
ABSL_FLAG(std::string, model, "lstm", "lstm or transformer");
ABSL_FLAG(double, epochs, 8, "passes over the training text");
ABSL_FLAG(int64_t, width, 256, "numbers in a state or a position");
ABSL_FLAG(int64_t, layers, 1, "layers of the LSTM or the Transformer");
ABSL_FLAG(int64_t, length, 128, "characters of a training step");
ABSL_FLAG(double, dropout, 0.1, "part of the values that are dropped in training");
ABSL_FLAG(double, lr, 2e-3, "largest learning rate of Adam; it falls to 0 along a cosine");

namespace {

using char_lm::Tokens;

constexpr double kTrained = 0.9;  // of the text; the rest is scored
constexpr int64_t kSampleLength = 1000;
constexpr double kTemperature = 0.8;
constexpr double kClip = 1;  // of the gradient's norm

// The text as numbers of its characters.
struct Text {
  std::string characters;  // in the order of their numbers
  Tokens train;
  Tokens test;

  explicit Text(const std::filesystem::path& folder) {
    const auto plain = folder / "input.txt";
    const std::string text =
        ebb::io::read_text(std::filesystem::exists(plain) ? plain : folder / "input.txt.gz");
    characters = text;
    std::sort(characters.begin(), characters.end());
    characters.erase(std::unique(characters.begin(), characters.end()), characters.end());
    const Tokens all = numbers(text);
    const auto cut = all.begin() + static_cast<int64_t>(kTrained * static_cast<double>(all.size()));
    if (all.end() - cut <= 2 * char_lm::kContext) {
      throw ebb::ValueError("the text has " + std::to_string(all.size()) +
                            " characters, too few to score its last tenth");
    }
    train.assign(all.begin(), cut);
    test.assign(cut, all.end());
  }
  int64_t vocabulary() const { return static_cast<int64_t>(characters.size()); }

  Tokens numbers(const std::string& text) const {
    Tokens result;
    for (const char c : text) {
      result.push_back(std::lower_bound(characters.begin(), characters.end(), c) -
                       characters.begin());
    }
    return result;
  }
  std::string text(const Tokens& tokens) const {
    std::string result;
    for (const int64_t t : tokens) result += characters[static_cast<size_t>(t)];
    return result;
  }
};

double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

int run() {
  const bool quick = absl::GetFlag(FLAGS_quick);
  const std::string kind = absl::GetFlag(FLAGS_model);
  const std::filesystem::path out = absl::GetFlag(FLAGS_out);
  std::filesystem::create_directories(out);
  ebb::manual_seed(absl::GetFlag(FLAGS_seed));
  Text text(absl::GetFlag(FLAGS_data));
  if (quick) text.test.resize(std::min<size_t>(text.test.size(), 5000));

  if (kind != "lstm" && kind != "transformer") {
    throw ebb::ValueError("--model is '" + kind + "'; it must be lstm or transformer");
  }
  const auto make = kind == "lstm" ? char_lm::make_lstm : char_lm::make_transformer;
  const auto model =
      make(text.train, text.vocabulary(), absl::GetFlag(FLAGS_width), absl::GetFlag(FLAGS_layers),
           absl::GetFlag(FLAGS_length), absl::GetFlag(FLAGS_dropout));
  const auto parameters = model->module().parameters();
  ebb::optim::Adam adam(parameters, {.lr = absl::GetFlag(FLAGS_lr), .betas = {0.9, 0.99}});
  const double passes = quick ? 0.03 : absl::GetFlag(FLAGS_epochs);
  if (!(passes > 0)) {
    throw ebb::ValueError("--epochs is " + std::to_string(passes) + "; it must be positive");
  }
  const auto steps =
      std::max<int64_t>(1, static_cast<int64_t>(passes * static_cast<double>(model->pieces())));
  ebb::optim::CosineAnnealingLR schedule(adam, {.t_max = steps, .warmup = steps / 50});

  ebb::train::Curves curves((out / "curves.csv").string(), {"training", "held-out"},
                            std::max<int64_t>(1, steps / 200));
  ebb::train::Progress progress(steps, kind);
  double score = 0;
  std::chrono::duration<double> trained{0};
  auto start = std::chrono::steady_clock::now();
  for (int64_t step = 1; step <= steps; ++step) {
    const ebb::Tensor loss = model->next_loss();
    adam.zero_grad();
    loss.backward();
    ebb::optim::clip_grad_norm(parameters, kClip);
    adam.step();
    schedule.step();
    curves.add(step, "training", loss.item());
    if (step % std::max<int64_t>(1, steps / 10) == 0 || step == steps) {
      trained += std::chrono::steady_clock::now() - start;
      score = model->score(text.test);
      curves.point(step, "held-out", score);
      start = std::chrono::steady_clock::now();
    }
    progress.update(step, {{"loss", loss.item()}, {"held-out", score}});
  }
  progress.finish();

  ebb::io::write_png((out / "curves.png").string(),
                     ebb::train::line_plot(curves.series(), {.title = "Nats a character, " + kind,
                                                             .x_label = "training steps"}));
  const std::string written =
      text.text(model->sample(text.numbers("\n"), quick ? 200 : kSampleLength, kTemperature));
  ebb::io::atomic_write((out / "sample.txt").string(), written);
  ebb::io::save(model->module(), (out / (kind + ".safetensors")).string());
  std::printf("%s\n\nthe sample, curves and weights are in %s\n", written.c_str(), out.c_str());
  std::printf(
      "result: {\"nats_per_character\": %.4f, \"model\": \"%s\", \"steps\": %lld, "
      "\"seconds\": %.0f, \"peak_mb\": %.0f}\n",
      score, kind.c_str(), static_cast<long long>(steps), trained.count(), peak_mb());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("A language model of characters.");
  absl::ParseCommandLine(argc, argv);
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "char_lm: %s\n", e.what());
    return 1;
  }
}
