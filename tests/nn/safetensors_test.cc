// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "ebb/ebb.h"
#include "ebb/nn/io/file.h"
#include "temp_dir.h"

namespace ebb {
namespace {

using testing::TempDir;

// A file with this header and that many bytes of data.
std::vector<uint8_t> file_of(const std::string& header, size_t data) {
  constexpr size_t kLength = 8;
  std::vector<uint8_t> bytes(kLength + header.size() + data);
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, kLength);
  std::memcpy(bytes.data() + kLength, header.data(), header.size());
  return bytes;
}

std::string cause_of(const std::vector<uint8_t>& bytes) {
  const TempDir dir;
  io::atomic_write(dir.file("x.safetensors"), bytes);
  try {
    io::read_safetensors(dir.file("x.safetensors"));
    return "no error";
  } catch (const IoError& e) {
    EXPECT_EQ(e.path(), dir.file("x.safetensors"));
    return e.cause();
  }
}

TEST(SafeTensors, RoundTripOfEveryType) {
  const TempDir dir;
  io::SafeTensors out;
  for (int t = 0; t < kDTypeCount; ++t) {
    const auto dtype = static_cast<DType>(t);
    out.tensors[name_of(dtype)] = tensor({{1, 0, 1}, {0, 1, 1}}).to(dtype);
  }
  out.tensors["scalar"] = tensor(2.5);
  out.tensors["empty"] = zeros({0, 3});
  out.tensors["view"] = tensor({{1, 2}, {3, 4}}).t();
  out.metadata["who"] = "a test";
  io::write_safetensors(dir.file("a"), out);
  const io::SafeTensors in = io::read_safetensors(dir.file("a"));
  ASSERT_EQ(in.tensors.size(), out.tensors.size());
  for (const auto& [name, t] : out.tensors) {
    const Tensor& back = in.tensors.at(name);
    EXPECT_EQ(back.dtype(), t.dtype()) << name;
    EXPECT_EQ(back.shape(), t.shape()) << name;
    EXPECT_EQ(back.to(kFloat64).to_vector<double>(), t.to(kFloat64).to_vector<double>()) << name;
  }
  EXPECT_EQ(in.metadata, out.metadata);
}

TEST(SafeTensors, HostileFiles) {
  EXPECT_NE(cause_of({1, 2, 3}).find("truncated"), std::string::npos);
  std::vector<uint8_t> huge = file_of("{}", 0);
  huge[6] = 0xff;
  EXPECT_NE(cause_of(huge).find("its header claims"), std::string::npos);
  EXPECT_NE(cause_of(file_of("{", 0)).find("no JSON"), std::string::npos);
  EXPECT_NE(cause_of(file_of("[]", 0)).find("no JSON object"), std::string::npos);
  const auto entry = [](const std::string& type, const std::string& shape, const std::string& at) {
    return R"("a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + at + "}";
  };
  const std::string good = entry("F32", "[2]", "[0,8]");
  EXPECT_EQ(cause_of(file_of("{" + good + "}", 8)), "no error");
  EXPECT_NE(cause_of(file_of("{" + good + "," + good + "}", 8)).find("'a' twice"),
            std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + good + "}", 9)).find("behind the last"), std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + good + "}", 7)).find("must lie within"), std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + entry("F32", "[2]", "[4,8]") + "}", 8)).find("offsets 4 to 8"),
            std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + entry("F32", "[2]", "[8,0]") + "}", 8)).find("offsets 8 to 0"),
            std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + entry("F8", "[2]", "[0,2]") + "}", 2)).find("type F8"),
            std::string::npos);
  EXPECT_NE(cause_of(file_of("{" + entry("F32", "[-2]", "[0,8]") + "}", 8)).find("no number"),
            std::string::npos);
  EXPECT_NE(
      cause_of(
          file_of("{" + entry("F32", "[4611686018427387904,4611686018427387904]", "[0,0]") + "}",
                  0))
          .find("past all bounds"),
      std::string::npos);
  EXPECT_NE(cause_of(file_of(R"({"a":[[[[[[1]]]]]]})", 0)).find("nested"), std::string::npos);
  EXPECT_NE(cause_of(file_of(std::string(200000, '['), 0)).find("header"), std::string::npos);
  const std::string overlap =
      "{" + good + "," + R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  EXPECT_NE(cause_of(file_of(overlap, 12)).find("begins at 4"), std::string::npos);
}

TEST(SafeTensors, ElementsLieAtMultiplesOfTheirSize) {
  const TempDir dir;
  io::write_safetensors(
      dir.file("a"),
      {{{"a", ones({3}).to(kBool)}, {"b", ones({1}).to(kFloat64)}, {"c", ones({3}).to(kFloat16)}},
       {}});
  const std::vector<uint8_t> bytes = io::read_file(dir.file("a"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  const std::string header(bytes.begin() + 8, bytes.begin() + 8 + static_cast<int64_t>(length));
  EXPECT_NE(header.find(R"("b":{"data_offsets":[0,8])"), std::string::npos) << header;
  EXPECT_NE(header.find(R"("c":{"data_offsets":[8,14])"), std::string::npos);
  EXPECT_NE(header.find(R"("a":{"data_offsets":[14,17])"), std::string::npos);
}

TEST(SafeTensors, RefusesWhatTheFormatCannotHold) {
  const TempDir dir;
  const auto write = [&](const io::SafeTensors& s) { io::write_safetensors(dir.file("a"), s); };
  EXPECT_THROW(write({{{"__metadata__", ones({1})}}, {}}), ValueError);
  EXPECT_THROW(write({{{"a", Tensor()}}, {}}), ValueError);
  EXPECT_THROW(write({{{"\xff", ones({1})}}, {}}), ValueError);
  EXPECT_THROW(write({{}, {{"note", "\xc3"}}}), ValueError);
  EXPECT_TRUE(dir.names().empty());
}

// A header must not make the reader take more memory than it is long.
TEST(SafeTensors, OverlongListsAndDeepNestingAreRefusedAtOnce) {
  const TempDir dir;
  std::string list = R"({"a":{"dtype":"BOOL","shape":[1)";
  std::string nest;
  for (int i = 0; i < 100'000; ++i) {
    list += ",1";
    nest += R"({"a":)";
  }
  list += R"(],"data_offsets":[0,1]}})";
  const auto refusal = [&](const std::string& header) {
    io::atomic_write(dir.file("a"), file_of(header, 1));
    try {
      io::read_safetensors(dir.file("a"));
    } catch (const IoError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(refusal(list).find("a list of more than 8 numbers"), std::string::npos);
  EXPECT_NE(refusal(nest).find("nested too deeply"), std::string::npos);
}

TEST(SafeTensors, AnyByteButZeroIsTrue) {
  const TempDir dir;
  auto bytes = file_of(R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", 3);
  bytes[bytes.size() - 1] = 0xff;
  bytes[bytes.size() - 2] = 2;
  io::atomic_write(dir.file("a"), bytes);
  const Tensor a = io::read_safetensors(dir.file("a")).tensors.at("a");
  EXPECT_EQ(a.to(kInt64).to_vector<int64_t>(), (std::vector<int64_t>{0, 1, 1}));
}

TEST(SafeTensors, ABigFileTakesNoMoreMemoryThanItsTensors) {
  const TempDir dir;
  constexpr int64_t kElements = 4'000'000;
  {
    const nn::Linear big(kElements, 1, {.bias = false});
    reset_peak_memory();
    const int64_t before = memory_stats().peak_bytes;
    io::save(big, dir.file("a"));
    EXPECT_LT(memory_stats().peak_bytes, before + kElements / 4) << "saving copies nothing";
  }
  const int64_t before = memory_stats().live_bytes;
  reset_peak_memory();
  const auto contents = io::read_safetensors(dir.file("a"));
  EXPECT_LT(memory_stats().peak_bytes, before + 4 * kElements + kElements);
  EXPECT_EQ(contents.tensors.at("weight").numel(), kElements);
}

TEST(SafeTensors, MutatedFilesAreReadOrRefused) {
  const TempDir dir;
  io::write_safetensors(dir.file("a"), {{{"w", randn({3, 2})}, {"b", randn({2})}}, {}});
  const std::vector<uint8_t> good = io::read_file(dir.file("a"));
  Generator g(7);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint8_t> bytes = good;
    const auto edits = 1 + g.uniform_int(4);
    for (uint64_t k = 0; k < edits; ++k) {
      bytes[g.uniform_int(bytes.size())] = static_cast<uint8_t>(g.next32());
    }
    if (g.uniform_int(4) == 0) bytes.resize(g.uniform_int(bytes.size()) + 1);
    io::atomic_write(dir.file("b"), bytes);
    try {
      io::read_safetensors(dir.file("b"));
    } catch (const IoError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(SafeTensors, AModuleGoesOutAndIn) {
  const TempDir dir;
  nn::Linear a(3, 2);
  nn::Linear b(3, 2);
  io::save(a, dir.file("m"));
  io::load(b, dir.file("m"));
  EXPECT_EQ(a.weight->to_vector<float>(), b.weight->to_vector<float>());
  nn::Linear other(2, 2);
  const auto before = other.weight->to_vector<float>();
  EXPECT_THROW(io::load(other, dir.file("m")), ShapeError);
  EXPECT_EQ(other.weight->to_vector<float>(), before);
  EXPECT_THROW(io::load(b, dir.file("missing")), IoError);
  EXPECT_THROW(io::save(a, dir.file("no/such/folder")), IoError);
}

}  // namespace
}  // namespace ebb
