// SPDX-License-Identifier: Apache-2.0
// Learns a dictionary of 256 atoms for 28x28 images, one image at a time, and an encoder that
// predicts the sparse codes; see README.md.
#include <ebb/ebb.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "psd.h"

ABSL_FLAG(std::string, data, EBB_EXAMPLE_DATA_DIR, "folder of an IDX set named as MNIST's");
ABSL_FLAG(std::string, out, "out/sparse_coding", "folder for pictures and curves");
ABSL_FLAG(uint64_t, seed, 1, "seed of all random numbers");
ABSL_FLAG(bool, quick, false, "a short run that shows that all works");
ABSL_FLAG(double, lambda, 0.3, "weight of |z|_1");
ABSL_FLAG(double, alpha, 0.5, "weight of the encoder's error");
ABSL_FLAG(int, learn_steps, 30000, "images seen while the dictionary is learned");
ABSL_FLAG(int, encode_steps, 37500, "images seen by the encoder once the dictionary is fixed");
ABSL_FLAG(int, test_images, 500, "held-out images for the result");

namespace {

using ebb::Tensor;

constexpr int64_t kSide = 28;  // pixels of an image
constexpr int64_t kAtoms = 256;
constexpr int kLayers = 3;
constexpr int kLogEvery = 250;
constexpr double kActive = 1e-6;  // |z| above this is active
constexpr int kShown = 12;        // images in the picture of reconstructions

struct Settings {
  double lambda = absl::GetFlag(FLAGS_lambda);
  double alpha = absl::GetFlag(FLAGS_alpha);
  bool quick = absl::GetFlag(FLAGS_quick);
  int learn_steps = quick ? 400 : absl::GetFlag(FLAGS_learn_steps);
  int encode_steps = quick ? 400 : absl::GetFlag(FLAGS_encode_steps);
  int test_images = quick ? 20 : absl::GetFlag(FLAGS_test_images);
  std::filesystem::path out = absl::GetFlag(FLAGS_out);
};

// All images as vectors of pixels in [0,1].
std::vector<Tensor> load(ebb::data::Split split) {
  std::vector<Tensor> images;
  for (const auto& [image, label] : ebb::data::idx(absl::GetFlag(FLAGS_data), split)) {
    images.push_back(image.flatten());
  }
  return images;
}

double active_fraction(const Tensor& z) {
  return (abs(z) > kActive).to(ebb::kFloat32).mean().item();
}

constexpr const char* kNames[] = {"energy", "active_fraction", "prediction_error"};

// What is logged of each step.
void log(ebb::train::Curves& curves, int step, double energy, double active, double error) {
  const double values[] = {energy, active, error};
  for (size_t i = 0; i < std::size(kNames); ++i) curves.add(step, kNames[i], values[i]);
}

void plot(const std::filesystem::path& out, const ebb::train::Curves& curves) {
  ebb::io::write_png((out / "energy.png").string(),
                     ebb::train::line_plot({&curves.series("energy"), 1},
                                           {.title = "Energy of the code used",
                                            .x_label = "images seen",
                                            .y_label = "1/2 |y-Wz|^2 + lambda |z|"}));
  ebb::io::write_png((out / "sparsity.png").string(),
                     ebb::train::line_plot({&curves.series("active_fraction"), 1},
                                           {.title = "Fraction of active atoms",
                                            .x_label = "images seen",
                                            .y_label = "|z| > 1e-6"}));
}

// The image of each step: every pass over the set in a new order.
class Order {
 public:
  explicit Order(const std::vector<Tensor>& images)
      : images_(images), rng_(ebb::default_generator().split("order")) {}
  const Tensor& next() {
    if (at_ == order_.size()) {
      order_ = rng_.permutation(static_cast<int64_t>(images_.size()));
      at_ = 0;
    }
    return images_[static_cast<size_t>(order_[at_++])];
  }

 private:
  const std::vector<Tensor>& images_;
  ebb::Generator rng_;
  std::vector<int64_t> order_;
  size_t at_ = 0;
};

// Each a small window of the difference of two images, with a little noise: parts, that no two
// atoms share, and that learning then joins into longer strokes. From whole images they would stay
// whole.
Tensor first_atoms(Order& order) {
  constexpr double kWidth = 2;   // of the Gaussian window, in pixels
  constexpr double kBorder = 5;  // pixels in which nearly all images are blank
  const Tensor pixel = ebb::arange(kSide).to(ebb::kFloat32);
  const auto bell = [&](const Tensor& centre) {
    return exp(-square(pixel - centre) / (2 * kWidth * kWidth));
  };
  std::vector<Tensor> atoms;
  for (int64_t k = 0; k < kAtoms; ++k) {
    const Tensor centre = kBorder + (kSide - 2 * kBorder) * ebb::rand({2});
    const Tensor difference = order.next() - order.next();
    atoms.push_back((difference + 0.05 * ebb::randn(difference.shape())) *
                    outer(bell(centre[0]), bell(centre[1])).flatten());
  }
  return stack(atoms, 1);
}

// Full rate for the first half, then down to a fiftieth.
double decay(int step, int steps) { return std::clamp(2.0 * (steps - step) / steps, 0.02, 1.0); }

// Phase 1: for each image the code that minimises E, then one gradient step on W and the encoder.
// In the first quarter the encoder does not take part; then it starts as ISTA on the W there is.
void learn(const Settings& s, Order& order, psd::Dictionary& dictionary, psd::Encoder& encoder,
           ebb::train::Curves& curves) {
  constexpr double kDictionaryRate = 0.08;
  constexpr double kEncoderRate = 3e-4;
  ebb::optim::SGD sgd(dictionary.parameters(), {.lr = kDictionaryRate});
  ebb::optim::Adam adam(encoder.parameters(), {.lr = kEncoderRate});
  psd::Curvature curvature;
  const Tensor& w = dictionary.w();
  curvature(w, 20);
  const int silent = s.learn_steps / 4;
  Tensor code = ebb::zeros({kAtoms});
  ebb::train::Progress progress(s.learn_steps, "learning the dictionary");
  for (int step = 1; step <= s.learn_steps; ++step) {
    const Tensor& y = order.next();
    const double bound = curvature(w, 3);
    if (step == silent) encoder.start_as_ista(w, bound, s.lambda);
    const double alpha = step < silent ? 0 : s.alpha;
    const Tensor predicted = step < silent ? Tensor(ebb::zeros({kAtoms})) : encoder(y);
    const Tensor anchor = predicted.detach();
    const auto gradient = [&](const Tensor& z) {
      const Tensor g = mv(w.t(), mv(w, z) - y);
      return alpha == 0 ? g : g + alpha * (z - anchor);
    };
    const Tensor z = psd::fista(gradient, anchor,
                                {.lambda = s.lambda,
                                 .curvature = bound + alpha,
                                 .tolerance = 1e-3,
                                 .max_iterations = 200})
                         .z;
    const Tensor fit = psd::energy(w, y, z, s.lambda);
    const Tensor error = square(z - predicted).sum();
    const Tensor loss = alpha == 0 ? fit : fit + 0.5 * alpha * error;
    sgd.zero_grad();
    adam.zero_grad();
    loss.backward();
    sgd.set_lr(kDictionaryRate * decay(step, s.learn_steps));
    sgd.step();
    dictionary.normalize();
    if (step >= silent) {
      adam.set_lr(kEncoderRate * decay(step, s.learn_steps));
      adam.step();
    }
    log(curves, step, fit.item(), active_fraction(z), error.item());
    progress.update(step, {{"energy", fit.item()}});
  }
  progress.finish();
}

// Phase 2: the dictionary stays; the encoder learns to give codes of low energy by itself.
void encode(const Settings& s, Order& order, const psd::Dictionary& dictionary,
            psd::Encoder& encoder, ebb::train::Curves& curves) {
  constexpr double kRate = 2e-4;
  ebb::optim::Adam adam(encoder.parameters(), {.lr = kRate});
  const Tensor w = dictionary.w().detach();
  ebb::train::Progress progress(s.encode_steps, "teaching the encoder");
  for (int step = 1; step <= s.encode_steps; ++step) {
    const Tensor& y = order.next();
    const Tensor z = encoder(y);
    const Tensor loss = psd::energy(w, y, z, s.lambda);
    adam.zero_grad();
    loss.backward();
    adam.set_lr(kRate * std::max(0.01, 1.0 - static_cast<double>(step) / s.encode_steps));
    adam.step();
    log(curves, s.learn_steps + step, loss.item(), active_fraction(z), 0);
    progress.update(step, {{"energy", loss.item()}});
  }
  progress.finish();
}

struct Result {
  double explained_variance = 0;
  double active_fraction = 0;
  double lista_energy_ratio = 0;
  double fista_iterations_to_match = 0;
  double fista_iterations = 0;  // until converged
};

// All figures on held-out images, without the term of the encoder.
Result evaluate(const Settings& s, const std::vector<Tensor>& train,
                const std::vector<Tensor>& test, const psd::Dictionary& dictionary,
                const psd::Encoder& encoder) {
  const ebb::NoGradGuard no_grad;
  const Tensor w = dictionary.w().detach();
  const Tensor gram = mm(w.t(), w);
  psd::FistaOptions options{
      .lambda = s.lambda, .curvature = psd::Curvature()(w, 100), .tolerance = 1e-6};
  Tensor mean = ebb::zeros(train[0].shape());
  for (const Tensor& y : train) mean = mean + y / static_cast<double>(train.size());

  Result r;
  double residual = 0;
  double variance = 0;
  double energy_fista = 0;
  double energy_lista = 0;
  const int n = std::min<int>(s.test_images, static_cast<int>(test.size()));
  ebb::train::Progress progress(n, "held-out images");
  for (int i = 0; i < n; ++i) {
    const Tensor& y = test[static_cast<size_t>(i)];
    const Tensor correlation = mv(w.t(), y);
    const auto gradient = [&](const Tensor& z) { return mv(gram, z) - correlation; };
    const Tensor zero = ebb::zeros({kAtoms});
    const auto converged = psd::fista(gradient, zero, options);
    residual += square(y - mv(w, converged.z)).sum().item();
    variance += square(y - mean).sum().item();
    r.active_fraction += active_fraction(converged.z) / n;
    r.fista_iterations += static_cast<double>(converged.iterations) / n;
    energy_fista += psd::energy(w, y, converged.z, s.lambda).item();
    const double lista = psd::energy(w, y, encoder(y), s.lambda).item();
    energy_lista += lista;
    const auto reached = [&](const Tensor& z) {
      return psd::energy(w, y, z, s.lambda).item() <= lista;
    };
    r.fista_iterations_to_match +=
        static_cast<double>(psd::fista(gradient, zero, options, reached).iterations) / n;
    progress.update(i + 1, {});
  }
  progress.finish();
  r.explained_variance = 1 - residual / variance;
  r.lista_energy_ratio = energy_lista / energy_fista;
  return r;
}

void draw(const Settings& s, const std::vector<Tensor>& test, const psd::Dictionary& dictionary,
          const psd::Encoder& encoder) {
  const ebb::NoGradGuard no_grad;
  const Tensor w = dictionary.w().detach();
  ebb::io::write_png((s.out / "dictionary.png").string(),
                     ebb::train::mosaic(w.t().to_vector<double>(), kSide, kSide,
                                        {.title = "Dictionary: 256 atoms",
                                         .scale = ebb::train::TileScale::kSigned,
                                         .columns = 16}));
  std::vector<ebb::train::ImageRow> rows = {
      {.label = "image"}, {.label = "FISTA"}, {.label = "LISTA"}};
  const psd::FistaOptions options{
      .lambda = s.lambda, .curvature = psd::Curvature()(w, 100), .tolerance = 1e-4};
  for (int i = 0; i < kShown && i < static_cast<int>(test.size()); ++i) {
    const Tensor& y = test[static_cast<size_t>(i)];
    const auto gradient = [&](const Tensor& z) { return mv(w.t(), mv(w, z) - y); };
    const Tensor z = psd::fista(gradient, ebb::zeros({kAtoms}), options).z;
    rows[0].tiles.push_back({y.to_vector<double>(), kSide, kSide});
    rows[1].tiles.push_back({mv(w, z).to_vector<double>(), kSide, kSide});
    rows[2].tiles.push_back({mv(w, encoder(y)).to_vector<double>(), kSide, kSide});
  }
  ebb::io::write_png((s.out / "reconstructions.png").string(),
                     ebb::train::image_rows(rows, {.title = "Held-out images and their codes"}));
}

int run() {
  const Settings s;
  std::filesystem::create_directories(s.out);
  ebb::manual_seed(absl::GetFlag(FLAGS_seed));
  const std::vector<Tensor> train = load(ebb::data::Split::kTrain);
  const std::vector<Tensor> test = load(ebb::data::Split::kTest);
  const int64_t pixels = train.at(0).numel();

  psd::Dictionary dictionary(pixels, kAtoms);
  psd::Encoder encoder(pixels, kAtoms, kLayers);
  Order order(train);
  ebb::train::Curves curves((s.out / "curves.csv").string(), {std::begin(kNames), std::end(kNames)},
                            kLogEvery);
  dictionary.set(first_atoms(order));
  learn(s, order, dictionary, encoder, curves);
  encode(s, order, dictionary, encoder, curves);
  const Result r = evaluate(s, train, test, dictionary, encoder);
  draw(s, test, dictionary, encoder);
  plot(s.out, curves);
  ebb::io::save(dictionary, (s.out / "dictionary.safetensors").string());
  ebb::io::save(encoder, (s.out / "encoder.safetensors").string());

  std::printf("pictures and curves are in %s\n", s.out.c_str());
  std::printf(
      "result: {\"explained_variance\": %.4f, \"active_fraction\": %.4f, "
      "\"lista_energy_ratio\": %.4f, \"fista_iterations_to_match\": %.2f, "
      "\"fista_iterations\": %.1f}\n",
      r.explained_variance, r.active_fraction, r.lista_energy_ratio, r.fista_iterations_to_match,
      r.fista_iterations);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Sparse coding of images, one at a time.");
  absl::ParseCommandLine(argc, argv);
  try {
    return run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "sparse_coding: %s\n", e.what());
    return 1;
  }
}
