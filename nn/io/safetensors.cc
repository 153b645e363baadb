// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "ebb/autograd/array_ops.h"
#include "ebb/nn/io/file.h"

namespace ebb::io {

namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

// The largest header that is read: far above that of any real model.
constexpr uint64_t kMaxHeader = 100'000'000;
// Elements start at a multiple of this.
constexpr size_t kAlignment = 8;
constexpr const char* kMetadata = "__metadata__";

struct TypeName {
  DType dtype;
  const char* name;
};
constexpr TypeName kTypes[] = {{kFloat32, "F32"}, {kFloat64, "F64"},  {kInt64, "I64"},
                               {kInt32, "I32"},   {kUInt8, "U8"},     {kBool, "BOOL"},
                               {kFloat16, "F16"}, {kBFloat16, "BF16"}};

const char* type_name(DType t) {
  return std::find_if(std::begin(kTypes), std::end(kTypes),
                      [t](const TypeName& n) { return n.dtype == t; })
      ->name;
}

// Parses the header strictly: no name twice, nothing nested deeper and no list longer than it has
// to be. What offends is refused at once: to go on to the end would take memory for all of it.
json parse_header(const std::string& path, const char* begin, const char* end) {
  std::vector<absl::flat_hash_set<std::string>> names;  // of the objects that are open
  int listed = 0;                                       // values of the list that is open
  constexpr int kDeepest = 4;
  constexpr int kLongest = kMaxRank;
  const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > kDeepest) throw IoError(path, "its header is nested too deeply");
    if (event == json::parse_event_t::array_start) {
      listed = 0;
    } else if (event == json::parse_event_t::value && ++listed > kLongest &&
               depth == kDeepest - 1) {
      throw IoError(path,
                    absl::StrCat("its header has a list of more than ", kLongest, " numbers"));
    } else if (event == json::parse_event_t::object_start) {
      names.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      names.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& name = value.get_ref<const std::string&>();
      if (!names.back().insert(name).second) {
        throw IoError(path, absl::StrCat("its header has '", name, "' twice"));
      }
    }
    return true;
  };
  json header;
  try {
    header = json::parse(begin, end, watch);
  } catch (const json::exception& e) {
    throw IoError(path, absl::StrCat("its header is no JSON: ", e.what()));
  }
  if (!header.is_object()) throw IoError(path, "its header is no JSON object");
  return header;
}

uint64_t number(const std::string& path, const std::string& name, const json& value) {
  if (!value.is_number_unsigned()) {
    throw IoError(path, absl::StrCat("tensor '", name, "' has a size or offset that is no number"));
  }
  return value.get<uint64_t>();
}

struct Entry {
  std::string name;
  DType dtype;
  Shape shape;
  uint64_t begin;
  uint64_t end;
};

Entry parse_entry(const std::string& path, const std::string& name, const json& value,
                  uint64_t data_bytes) {
  const auto bad = [&](const std::string& cause) -> IoError {
    return {path, absl::StrCat("tensor '", name, "' ", cause)};
  };
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || !value["dtype"].is_string() ||
      !value["shape"].is_array() || !value["data_offsets"].is_array() ||
      value["data_offsets"].size() != 2) {
    throw bad("lacks dtype, shape or data_offsets");
  }
  const auto& type = value["dtype"].get_ref<const std::string&>();
  const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const TypeName& n) { return type == n.name; });
  if (known == std::end(kTypes)) throw bad(absl::StrCat("is of type ", type, ", which Ebb lacks"));
  Entry e{.name = name, .dtype = known->dtype, .shape = {}, .begin = 0, .end = 0};
  if (value["shape"].size() > kMaxRank) throw bad("has more than 8 dimensions");
  for (const json& d : value["shape"]) {
    const uint64_t size = number(path, name, d);
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      throw bad("has a size past all bounds");
    }
    e.shape.push_back(static_cast<int64_t>(size));
  }
  e.begin = number(path, name, value["data_offsets"][0]);
  e.end = number(path, name, value["data_offsets"][1]);
  uint64_t bytes = 0;
  try {
    bytes = static_cast<uint64_t>(checked_numel(e.shape, size_of(e.dtype))) * size_of(e.dtype);
  } catch (const Error&) {
    throw bad("has a size past all bounds");
  }
  if (e.begin > e.end || e.end > data_bytes || e.end - e.begin != bytes) {
    throw bad(absl::StrCat("has offsets ", e.begin, " to ", e.end, "; its ", bytes,
                           " bytes must lie within the ", data_bytes, " there are"));
  }
  return e;
}

// The tensors have to cover the data without gap or overlap; puts them in the order they lie in.
void require_cover(const std::string& path, std::vector<Entry>* all, uint64_t data_bytes) {
  std::vector<Entry>& entries = *all;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const Entry& e : entries) {
    if (e.begin != at) {
      throw IoError(path, absl::StrCat("tensor '", e.name, "' begins at ", e.begin,
                                       " where the one before ends at ", at));
    }
    at = e.end;
  }
  if (at != data_bytes) {
    throw IoError(path, absl::StrCat("it has ", data_bytes - at, " bytes behind the last tensor"));
  }
}

// Any byte but 0 is true; C++ knows no third value.
void normalize_bools(const Array& a) {
  auto* p = reinterpret_cast<uint8_t*>(a.raw());
  for (int64_t i = 0; i < a.numel(); ++i) p[i] = p[i] != 0 ? 1 : 0;
}

size_t bytes_of(const Array& a) { return static_cast<size_t>(a.numel()) * size_of(a.dtype()); }

}  // namespace

void write_safetensors(const std::string& path, const SafeTensors& contents) {
  // The largest elements first, so that all lie at multiples of their size.
  std::vector<std::pair<const std::string*, Array>> order;
  for (const auto& [name, tensor] : contents.tensors) {
    if (name == kMetadata) {
      throw ValueError("write_safetensors: no tensor may be named __metadata__");
    }
    if (!tensor.defined()) {
      throw ValueError(absl::StrCat("write_safetensors: tensor '", name, "' is undefined"));
    }
    order.emplace_back(&name, tensor.array());
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    const size_t item_a = size_of(a.second.dtype());
    const size_t item_b = size_of(b.second.dtype());
    return item_a != item_b ? item_a > item_b : *a.first < *b.first;
  });

  json header = json::object();
  if (!contents.metadata.empty()) header[kMetadata] = contents.metadata;
  uint64_t at = 0;
  for (const auto& [name, a] : order) {
    header[*name] = {{"dtype", type_name(a.dtype())},
                     {"shape", std::vector<int64_t>(a.dims(), a.dims() + a.rank())},
                     {"data_offsets", {at, at + bytes_of(a)}}};
    at += bytes_of(a);
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw ValueError("write_safetensors: a name or note is not UTF-8");
  }
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  const uint64_t length = text.size();
  atomic_write(path, [&](AtomicFile& file) {
    file.write(&length, sizeof(length));
    file.write(text.data(), text.size());
    for (const auto& [name, a] : order) file.write(contiguous(a).raw(), bytes_of(a));
  });
}

SafeTensors read_safetensors(const std::string& path) {
  InputFile file(path, InputFile::Format::kRaw);
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) throw IoError(path, error.message());
  uint64_t length = 0;
  if (file.read(&length, sizeof(length)) != sizeof(length)) {
    throw IoError(path, "truncated: it has no header");
  }
  if (length > kMaxHeader || size < sizeof(length) || length > size - sizeof(length)) {
    throw IoError(path, absl::StrCat("its header claims ", length, " bytes of ", size));
  }
  std::vector<uint8_t> text;
  file.read_exactly(length, &text);
  const auto* begin = reinterpret_cast<const char*>(text.data());
  const json header = parse_header(path, begin, begin + length);
  const uint64_t data_bytes = size - sizeof(length) - length;

  SafeTensors out;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadata) {
      if (!value.is_object()) throw IoError(path, "its metadata is no JSON object");
      for (const auto& [key, note] : value.items()) {
        if (!note.is_string()) throw IoError(path, "its metadata has more than text");
        out.metadata[key] = note.get<std::string>();
      }
      continue;
    }
    entries.push_back(parse_entry(path, name, value, data_bytes));
  }
  require_cover(path, &entries, data_bytes);
  for (const Entry& e : entries) {
    Array a = Array::empty(e.dtype, e.shape);
    if (file.read(a.raw(), bytes_of(a)) != bytes_of(a)) {
      throw IoError(path, absl::StrCat("truncated in tensor '", e.name, "'"));
    }
    if (e.dtype == kBool) normalize_bools(a);
    out.tensors[e.name] = Tensor(std::move(a));
  }
  return out;
}

void save(const nn::Module& module, const std::string& path) {
  SafeTensors contents{{}, {{"format", "ebb"}}};
  for (const auto& [name, p] : module.named_parameters()) {
    contents.tensors[name] = Tensor(p.tensor().array());
  }
  for (const auto& [name, b] : module.named_buffers()) contents.tensors[name] = b.detach();
  write_safetensors(path, contents);
}

void load(nn::Module& module, const std::string& path, bool strict) {
  module.load_state_dict(read_safetensors(path).tensors, strict);
}

}  // namespace ebb::io
