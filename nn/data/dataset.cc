// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/data/dataset.h"

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "ebb/nn/data/idx.h"
#include "ebb/ops/elementwise.h"
#include "ebb/ops/shape.h"

namespace ebb::data {

namespace {

namespace fs = std::filesystem;

fs::path folder_of(const std::string& where) {
  std::error_code ignored;
  const char* root = std::getenv("EBB_DATA");
  if (root != nullptr && !fs::is_directory(where, ignored)) return fs::path(root) / where;
  return where;
}

// The file with that name, plain or compressed.
std::string find(const fs::path& folder, const std::string& name) {
  std::error_code ignored;
  for (const char* suffix : {"", ".gz"}) {
    const fs::path path = folder / (name + suffix);
    if (fs::exists(path, ignored)) return path.string();
  }
  throw IoError((folder / name).string(),
                "there is no such file, nor one with .gz; name a folder with an IDX set, or one in "
                "the folder that EBB_DATA names");
}

}  // namespace

Dataset<LabelledImage> idx(const std::string& where, Split split) {
  const fs::path folder = folder_of(where);
  const std::string prefix = split == Split::kTrain ? "train" : "t10k";
  const std::string image_path = find(folder, prefix + "-images-idx3-ubyte");
  const std::string label_path = find(folder, prefix + "-labels-idx1-ubyte");
  const auto images = std::make_shared<const IdxArray>(read_idx(image_path));
  const auto labels = std::make_shared<const IdxArray>(read_idx(label_path));
  if (images->type != IdxType::kUInt8 || images->dims.size() != 3) {
    throw IoError(image_path, "these are not pictures: not bytes of three dimensions");
  }
  if (labels->type != IdxType::kUInt8 || labels->dims.size() != 1) {
    throw IoError(label_path, "these are not labels: not bytes of one dimension");
  }
  if (labels->dims[0] != images->dims[0]) {
    throw IoError(label_path, absl::StrCat("it has ", labels->dims[0], " labels for ",
                                           images->dims[0], " pictures"));
  }
  return Dataset<LabelledImage>(images->dims[0], [images, labels](int64_t i) {
    const int64_t height = images->dims[1];
    const int64_t width = images->dims[2];
    const auto pixels = static_cast<size_t>(height * width);
    const uint8_t* from = images->bytes.data() + static_cast<size_t>(i) * pixels;
    Array image = Array::empty(kFloat32, {height, width});
    float* to = image.mutable_data<float>();
    for (size_t k = 0; k < pixels; ++k) to[k] = static_cast<float>(from[k]) / 255.0F;
    return LabelledImage{Tensor(std::move(image)), labels->bytes[static_cast<size_t>(i)]};
  });
}

std::vector<LabelledImage> standardized(const Dataset<LabelledImage>& images, double mean,
                                        double deviation) {
  std::vector<LabelledImage> result;
  for (const auto& [image, label] : images) {
    result.push_back({unsqueeze((image - mean) / deviation, 0), label});
  }
  return result;
}

}  // namespace ebb::data
