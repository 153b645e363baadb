// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/io/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"
#include "temp_dir.h"

namespace ebb::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void spit(const std::string& path, const std::string& text) {
  std::remove(path.c_str());  // some file systems flush a file that is overwritten
  std::ofstream(path, std::ios::binary) << text;
}

std::string as_string(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

// One gzip member.
std::string gzip(const std::string& text) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&z, text.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string random_text(size_t n) {
  Generator g(n, "text");
  std::string out(n, ' ');
  for (char& c : out) c = static_cast<char>('a' + g.uniform_int(20));
  return out;
}

// The IoError that `f` throws; its path must be `path`.
template <class F>
std::string cause_of(const std::string& path, F&& f) {
  try {
    f();
  } catch (const IoError& e) {
    EXPECT_EQ(e.path(), path);
    return e.cause();
  }
  ADD_FAILURE() << "no IoError";
  return "";
}

TEST(AtomicWrite, WritesAndReplaces) {
  testing::TempDir dir;
  const std::string path = dir.file("a.bin");
  atomic_write(path, "first");
  EXPECT_EQ(slurp(path), "first");
  const std::vector<uint8_t> bytes = {0, 255, 10, 13, 0};
  atomic_write(path, bytes);
  EXPECT_EQ(read_file(path), bytes);
  atomic_write(path, "");
  EXPECT_EQ(slurp(path), "");
  const std::string big = random_text(300001);
  atomic_write(path, [&](AtomicFile& file) {
    for (size_t at = 0; at < big.size();) {
      const size_t count = std::min<size_t>(big.size() - at, 1 + at % 9973);
      file.write(big.data() + at, count);
      at += count;
    }
    EXPECT_EQ(file.size(), big.size());
  });
  EXPECT_EQ(slurp(path), big);
  EXPECT_THAT(dir.names(), ElementsAre("a.bin"));
}

TEST(AtomicWrite, WorksInTheCurrentDirectory) {
  testing::TempDir dir;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  atomic_write("plain", "text");
  std::filesystem::current_path(before);
  EXPECT_EQ(slurp(dir.file("plain")), "text");
}

TEST(AtomicWrite, WithoutCommitNothingChanges) {
  testing::TempDir dir;
  const std::string path = dir.file("a");
  {
    AtomicFile file(path);
    file.write("x");
    EXPECT_EQ(dir.names().size(), 1u);
  }
  EXPECT_THAT(dir.names(), ElementsAre());
  atomic_write(path, "old");
  EXPECT_THROW(atomic_write(path,
                            [](AtomicFile& file) {
                              file.write("new");
                              throw std::runtime_error("stop");
                            }),
               std::runtime_error);
  EXPECT_EQ(slurp(path), "old");
  EXPECT_THAT(dir.names(), ElementsAre("a"));
  AtomicFile file(path);
  file.commit();
  EXPECT_THROW(file.commit(), IoError);
}

TEST(AtomicWrite, KeepsPermissionsAndFollowsLinks) {
  testing::TempDir dir;
  const std::string path = dir.file("a"), link = dir.file("link");
  atomic_write(path, "1");
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  const mode_t mask = umask(0);
  umask(mask);
  EXPECT_EQ(info.st_mode & 0777u, 0666u & ~mask);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  ASSERT_EQ(symlink("a", link.c_str()), 0);
  atomic_write(link, "2");
  EXPECT_EQ(slurp(path), "2");
  ASSERT_EQ(lstat(link.c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0640u);
}

TEST(AtomicWrite, NamesPathAndCause) {
  testing::TempDir dir;
  const std::string missing = dir.file("no/such/file");
  EXPECT_THAT(cause_of(missing, [&] { atomic_write(missing, "x"); }),
              HasSubstr("No such file or directory"));
  EXPECT_THAT(cause_of(dir.path(), [&] { atomic_write(dir.path(), "x"); }),
              HasSubstr("not a regular file"));
  EXPECT_THAT(cause_of("/dev/null", [&] { atomic_write("/dev/null", "x"); }),
              HasSubstr("not a regular file"));
  EXPECT_THAT(cause_of("", [&] { atomic_write("", "x"); }), HasSubstr("no file name"));
  const std::string dangling = dir.file("dangling");
  ASSERT_EQ(symlink("nowhere", dangling.c_str()), 0);
  EXPECT_THAT(cause_of(dangling, [&] { atomic_write(dangling, "x"); }), HasSubstr("symbolic link"));
  const std::string long_name = dir.file(std::string(300, 'n'));
  EXPECT_THAT(cause_of(long_name, [&] { atomic_write(long_name, "x"); }),
              HasSubstr("File name too long"));
  EXPECT_THAT(dir.names(), ElementsAre("dangling"));
  const std::string longest = dir.file(std::string(255, 'n'));
  atomic_write(longest, "x");
  EXPECT_EQ(slurp(longest), "x");
}

TEST(AtomicWrite, RemovesWhatDeadProcessesLeftAndNothingElse) {
  testing::TempDir dir;
  AtomicFile living(dir.file("a"));
  living.write("living");
  spit(dir.file(".a.99999-1.ebb-tmp"), "litter");
  spit(dir.file(".b.99999-1.ebb-tmp"), "another target's");
  spit(dir.file(".a.txt"), "the user's");
  atomic_write(dir.file("a"), "second");
  EXPECT_EQ(dir.names().size(), 4u);
  living.commit();
  EXPECT_THAT(dir.names(), UnorderedElementsAre("a", ".b.99999-1.ebb-tmp", ".a.txt"));
  EXPECT_EQ(slurp(dir.file("a")), "living");
}

TEST(AtomicWrite, ThreadsThatWriteOneFileLeaveAWholeOne) {
  testing::TempDir dir;
  const std::string path = dir.file("a");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&path, t] {
      for (int i = 0; i < 20; ++i) {
        atomic_write(path, std::string(1000 * (t + 1), static_cast<char>('a' + t)));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  const std::string text = slurp(path);
  ASSERT_FALSE(text.empty());
  EXPECT_EQ(text, std::string(1000 * (text[0] - 'a' + 1), text[0]));
  EXPECT_THAT(dir.names(), ElementsAre("a"));
}

// Runs `body` in a child process and returns its wait status.
template <class F>
int in_child(F&& body) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      _exit(body());
    } catch (...) {
      _exit(99);
    }
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// A limit on the file's size fails in `write` just as a full disk does, and after a part of the
// bytes were taken.
TEST(AtomicWrite, AFullDiskLeavesTheOldFile) {
  testing::TempDir dir;
  const std::string path = dir.file("a");
  atomic_write(path, "old");
  const std::string big = random_text(1 << 20);
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{300000, 300000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    try {
      atomic_write(path, big);
    } catch (const IoError& e) {
      if (e.path() != path || e.cause() != "cannot write: File too large") return 3;
      return dir.names() == std::vector<std::string>{"a"} ? 0 : 4;
    }
    return 5;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(slurp(path), "old");
  EXPECT_THAT(dir.names(), ElementsAre("a"));
}

TEST(AtomicWrite, AKilledWriterLeavesTheOldFileOrTheNew) {
  testing::TempDir dir;
  const std::string path = dir.file("a");
  const auto version = [](int i) {
    return std::string(20000 + 50000 * (i % 5), static_cast<char>('a' + i % 5));
  };
  atomic_write(path, version(0));
  Generator g(1, "kill");
  int killed_amid = 0;
  for (int trial = 0; trial < 40 || (killed_amid == 0 && trial < 1000); ++trial) {
    const pid_t child = fork();
    if (child == 0) {
      for (int i = 0;; ++i) atomic_write(path, version(i));
    }
    ASSERT_GT(child, 0);
    usleep(static_cast<useconds_t>(g.uniform_int(6000)));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const std::string text = slurp(path);
    ASSERT_FALSE(text.empty());
    ASSERT_EQ(text, version(text[0] - 'a')) << "after trial " << trial;
    const size_t litter = dir.names().size() - 1;
    ASSERT_LE(litter, 1u);  // the next writer removes it
    killed_amid += litter > 0;
  }
  EXPECT_GT(killed_amid, 0) << "no writer was killed at work: the test has shown nothing";
  atomic_write(path, "end");
  EXPECT_THAT(dir.names(), ElementsAre("a"));
}

TEST(ReadFile, ReadsWithALimit) {
  testing::TempDir dir;
  const std::string path = dir.file("a");
  for (size_t n : {0u, 1u, 65535u, 65536u, 65537u, 262143u, 262144u, 262145u, 1000000u}) {
    const std::string text = random_text(n);
    spit(path, text);
    EXPECT_EQ(as_string(read_file(path)), text);
    EXPECT_EQ(read_text(path, n), text);
    EXPECT_EQ(as_string(read_file(path, n)), text);
    if (n > 0) {
      EXPECT_THAT(cause_of(path, [&] { read_file(path, n - 1); }),
                  HasSubstr("more than the allowed " + std::to_string(n - 1) + " bytes"));
    }
  }
  // Without an end, and without a size known in advance.
  EXPECT_THAT(cause_of("/dev/zero", [&] { read_file("/dev/zero", 100000); }), HasSubstr("100000"));
  EXPECT_FALSE(read_text("/proc/self/status").empty());
}

TEST(ReadFile, NamesPathAndCause) {
  testing::TempDir dir;
  const std::string path = dir.file("none");
  for (auto* read : {&read_file, &read_gzip}) {
    EXPECT_THAT(cause_of(path, [&] { read(path, 10); }), HasSubstr("No such file or directory"));
    EXPECT_THAT(cause_of(dir.path(), [&] { read(dir.path(), 10); }), HasSubstr("is a directory"));
  }
}

TEST(ReadGzip, ReadsPlainGzipAndSeveralMembers) {
  testing::TempDir dir;
  const std::string path = dir.file("a.gz");
  for (size_t n : {0u, 1u, 1000u, 262144u, 700000u}) {
    const std::string text = random_text(n), more = random_text(1234);
    spit(path, text);
    EXPECT_EQ(as_string(read_gzip(path)), text);
    spit(path, gzip(text));
    EXPECT_EQ(as_string(read_gzip(path)), text);
    EXPECT_EQ(as_string(read_gzip(path, n)), text);
    EXPECT_EQ(as_string(read_file(path)), gzip(text));
    spit(path, gzip(text) + gzip("") + gzip(more));
    EXPECT_EQ(read_text(path), text + more);
  }
  spit(path, "\x1f");
  EXPECT_EQ(as_string(read_gzip(path)), "\x1f");
}

TEST(ReadGzip, StopsADecompressionBomb) {
  testing::TempDir dir;
  const std::string path = dir.file("bomb.gz");
  const std::string bomb = gzip(std::string(size_t{64} << 20, '\0'));
  ASSERT_LT(bomb.size(), 100000u);
  std::string many;
  for (int i = 0; i < 32; ++i) many += bomb;
  spit(path, many);
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  EXPECT_THAT(cause_of(path, [&] { read_gzip(path, 1 << 20); }),
              HasSubstr("decompresses to more than the allowed 1048576 bytes"));
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // KiB
}

TEST(ReadGzip, EveryTruncationAndEveryFlippedBitIsAnErrorOrHarmless) {
  testing::TempDir dir;
  const std::string path = dir.file("a.gz");
  const std::string text = random_text(100), good = gzip(text);
  for (size_t n = 2; n < good.size(); ++n) {
    spit(path, good.substr(0, n));
    EXPECT_THAT(cause_of(path, [&] { read_gzip(path); }), HasSubstr("gzip stream")) << n;
  }
  spit(path, good + "trailing");
  EXPECT_THAT(cause_of(path, [&] { read_gzip(path); }), HasSubstr("corrupt gzip stream"));
  int errors = 0;
  for (size_t i = 16; i < 8 * good.size(); ++i) {
    std::string bad = good;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << i % 8));
    spit(path, bad);
    try {
      EXPECT_EQ(as_string(read_gzip(path, 100000)), text);  // header fields that carry no data
    } catch (const IoError&) {
      ++errors;
    }
  }
  EXPECT_GT(errors, static_cast<int>(8 * (good.size() - 10)) - 8);
}

TEST(InputFile, ReadsInPiecesAndDoesNotTrustSizes) {
  testing::TempDir dir;
  const std::string path = dir.file("a.gz");
  const std::string text = random_text(100000);
  spit(path, gzip(text));
  InputFile file(path);
  EXPECT_TRUE(file.compressed());
  char head[5];
  ASSERT_EQ(file.read(head, 5), 5u);
  EXPECT_EQ(std::string(head, 5), text.substr(0, 5));
  std::vector<uint8_t> rest;
  InputFile moved = std::move(file);
  moved.read_exactly(50000, &rest);
  EXPECT_EQ(as_string(rest), text.substr(5, 50000));
  EXPECT_EQ(cause_of(path, [&] { moved.read_exactly(size_t{1} << 50, &rest); }),
            "truncated: 1125899906842624 bytes expected, 49995 found");
  EXPECT_LT(rest.capacity(), size_t{8} << 20);
  EXPECT_EQ(moved.read(head, 5), 0u);
}

}  // namespace
}  // namespace ebb::io
