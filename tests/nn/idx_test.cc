// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/data/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"
#include "temp_dir.h"

namespace ebb::data {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

Bytes header(uint8_t type, const std::vector<uint32_t>& dims) {
  Bytes out = {0, 0, type, static_cast<uint8_t>(dims.size())};
  for (uint32_t d : dims) {
    for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<uint8_t>(d >> shift));
  }
  return out;
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Idx : public ::testing::Test {
 protected:
  IdxArray read(const Bytes& bytes, size_t max_bytes = io::kDefaultMaxBytes) {
    std::remove(path_.c_str());  // some file systems flush a file that is overwritten
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return read_idx(path_, max_bytes);
  }

  std::string cause_of(const Bytes& bytes, size_t max_bytes = io::kDefaultMaxBytes) {
    try {
      read(bytes, max_bytes);
    } catch (const IoError& e) {
      EXPECT_EQ(e.path(), path_);
      return e.cause();
    }
    return "no error";
  }

  testing::TempDir dir_;
  const std::string path_ = dir_.file("a.idx");
};

template <class T>
std::vector<T> values(const IdxArray& a) {
  std::vector<T> out(a.bytes.size() / sizeof(T));
  std::memcpy(out.data(), a.bytes.data(), a.bytes.size());
  return out;
}

TEST_F(Idx, ReadsEveryTypeInHostOrder) {
  IdxArray a = read(header(0x08, {2, 3}) + Bytes{1, 2, 3, 4, 5, 255});
  EXPECT_EQ(a.type, IdxType::kUInt8);
  EXPECT_EQ(a.dims, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a.numel(), 6);
  EXPECT_EQ(a.bytes, (Bytes{1, 2, 3, 4, 5, 255}));
  a = read(header(0x09, {1}) + Bytes{0x80});
  EXPECT_EQ(values<int8_t>(a), std::vector<int8_t>{-128});
  a = read(header(0x0B, {2}) + Bytes{0x01, 0x02, 0xff, 0xfe});
  EXPECT_EQ(values<int16_t>(a), (std::vector<int16_t>{0x0102, -2}));
  a = read(header(0x0C, {2}) + Bytes{0x01, 0x02, 0x03, 0x04, 0xff, 0xff, 0xff, 0xfd});
  EXPECT_EQ(values<int32_t>(a), (std::vector<int32_t>{0x01020304, -3}));
  a = read(header(0x0D, {1, 1, 2}) + Bytes{0x3f, 0x80, 0, 0, 0xc0, 0x49, 0x0f, 0xdb});
  EXPECT_EQ(values<float>(a), (std::vector<float>{1.0f, -3.14159274f}));
  a = read(header(0x0E, {1}) + Bytes{0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18});
  EXPECT_EQ(values<double>(a), std::vector<double>{3.141592653589793});
  EXPECT_EQ(read(header(0x08, {0, 28, 28})).numel(), 0);
  EXPECT_EQ(read(header(0x08, {1, 1, 1, 1, 1, 1, 1, 1}) + Bytes{9}).bytes, Bytes{9});
}

TEST_F(Idx, ReadsGzip) {
  const Bytes plain = header(0x08, {1000, 300}) + Bytes(300000, 7);
  gzFile gz = gzopen(path_.c_str(), "wb");
  ASSERT_EQ(gzwrite(gz, plain.data(), static_cast<unsigned>(plain.size())),
            static_cast<int>(plain.size()));
  ASSERT_EQ(gzclose(gz), Z_OK);
  const IdxArray a = read_idx(path_);
  EXPECT_EQ(a.dims, (std::vector<int64_t>{1000, 300}));
  EXPECT_EQ(a.bytes, Bytes(300000, 7));

  Bytes cut = io::read_file(path_);
  cut.resize(cut.size() - 9);
  EXPECT_THAT(cause_of(cut), HasSubstr("truncated"));
}

TEST_F(Idx, NamesWhatIsWrong) {
  const Bytes good = header(0x08, {2, 2}) + Bytes{1, 2, 3, 4};
  EXPECT_EQ(cause_of(good), "no error");
  EXPECT_THAT(cause_of({}), HasSubstr("magic"));
  EXPECT_THAT(cause_of({0, 0, 8}), HasSubstr("magic"));
  EXPECT_THAT(cause_of({1, 0, 8, 1, 0, 0, 0, 0}), HasSubstr("two zero bytes"));
  for (uint8_t type : {0x00, 0x07, 0x0A, 0x0F, 0xff}) {
    EXPECT_THAT(cause_of(header(type, {1}) + Bytes(8, 0)),
                HasSubstr("unknown type byte " + std::to_string(type)));
  }
  EXPECT_THAT(cause_of(header(0x08, {}) + Bytes{1}), HasSubstr("rank 0"));
  EXPECT_THAT(cause_of(header(0x08, std::vector<uint32_t>(9, 1)) + Bytes{1}), HasSubstr("rank 9"));
  EXPECT_THAT(cause_of({0, 0, 8, 2, 0, 0, 0, 1, 0, 0}), HasSubstr("truncated in its sizes"));
  EXPECT_EQ(cause_of(header(0x08, {2, 2}) + Bytes{1, 2, 3}),
            "bad IDX file: sizes [2,2]: truncated: 4 bytes expected, 3 found");
  EXPECT_THAT(cause_of(good + Bytes{5}), HasSubstr("bytes left after the elements"));
  EXPECT_THAT(cause_of(header(0x08, {0}) + Bytes{5}), HasSubstr("bytes left after the elements"));
  EXPECT_THAT(cause_of(good, 3), HasSubstr("more than the allowed 3 bytes"));
  EXPECT_EQ(cause_of(good, 4), "no error");
  try {
    read_idx(dir_.file("none"));
    ADD_FAILURE() << "no IoError";
  } catch (const IoError& e) {
    EXPECT_EQ(e.path(), dir_.file("none"));
    EXPECT_THAT(e.cause(), HasSubstr("No such file"));
  }
}

TEST_F(Idx, AHugeClaimIsRefusedBeforeMemoryIsTaken) {
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  const uint32_t max = 0xffffffff;
  EXPECT_THAT(cause_of(header(0x08, {max, max, max})), HasSubstr("allowed"));
  EXPECT_THAT(cause_of(header(0x0E, {max, max, max, max}), SIZE_MAX), HasSubstr("allowed"));
  // 2^64 elements and 2^61 elements of 8 bytes, where a product that wraps around would be 0.
  EXPECT_THAT(cause_of(header(0x08, {1u << 31, 1u << 31, 4}), SIZE_MAX), HasSubstr("allowed"));
  EXPECT_THAT(cause_of(header(0x0E, {1u << 31, 1u << 30}), SIZE_MAX), HasSubstr("allowed"));
  // More than an int64_t counts.
  EXPECT_THAT(cause_of(header(0x08, {1u << 31, 1u << 31, 3}), SIZE_MAX), HasSubstr("allowed"));
  // An empty array does not excuse the other sizes.
  EXPECT_THAT(cause_of(header(0x08, {0, max, max, max}), SIZE_MAX), HasSubstr("allowed"));
  // Within the limit, but not in the file.
  EXPECT_THAT(cause_of(header(0x08, {max, 1000}) + Bytes{1, 2}, SIZE_MAX), HasSubstr("truncated"));
  EXPECT_THAT(cause_of(header(0x08, {1u << 29}) + Bytes{1, 2}), HasSubstr("truncated"));
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // KiB
}

TEST_F(Idx, MutatedFilesGiveAnErrorOrAWholeArray) {
  Generator g(3, "mutations");
  const Bytes good = header(0x0B, {3, 2, 2}) + Bytes(24, 5);
  int valid = 0, errors = 0;
  for (int trial = 0; trial < 1500; ++trial) {
    Bytes bad = good;
    switch (g.uniform_int(3)) {
      case 0:
        bad.resize(g.uniform_int(bad.size() + 8));
        break;
      case 1:
        bad.erase(bad.begin() + static_cast<int64_t>(g.uniform_int(bad.size())));
        break;
      default:
        break;
    }
    for (uint64_t k = g.uniform_int(4); k > 0 && !bad.empty(); --k) {
      const uint64_t at = g.uniform_int(std::min<size_t>(bad.size(), 20));
      bad[at] = static_cast<uint8_t>(g.uniform_int(2) ? g.next32() : g.uniform_int(16));
    }
    try {
      const IdxArray a = read(bad, 1 << 20);
      ASSERT_GE(a.dims.size(), 1u);
      ASSERT_EQ(a.bytes.size(), static_cast<size_t>(a.numel()) * idx_item_size(a.type));
      ++valid;
    } catch (const IoError& e) {
      ASSERT_EQ(e.path(), path_);
      ++errors;
    }
  }
  EXPECT_GT(valid, 50);
  EXPECT_GT(errors, 700);
}

}  // namespace
}  // namespace ebb::data
