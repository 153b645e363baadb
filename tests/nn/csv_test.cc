// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "ebb/core/error.h"
#include "ebb/core/random.h"
#include "ebb/nn/io/file.h"
#include "temp_dir.h"

namespace ebb::train {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Csv : public ::testing::Test {
 protected:
  std::string text() const { return io::read_text(path_); }

  testing::TempDir dir_;
  const std::string path_ = dir_.file("log.csv");
};

TEST_F(Csv, TakesTheHeaderFromTheFirstRow) {
  CsvWriter csv(path_);
  EXPECT_EQ(text(), "");
  csv.row({{"step", 1}, {"loss", 0.5}, {"note", "start"}});
  EXPECT_EQ(text(), "step,loss,note\n1,0.5,start\n");  // at once, not at the end
  csv.row({{"loss", 0.25}, {"step", int64_t{1} << 60}});
  EXPECT_EQ(text(), "step,loss,note\n1,0.5,start\n1152921504606846976,0.25,\n");
  EXPECT_THAT(csv.columns(), ElementsAre("step", "loss", "note"));
}

TEST_F(Csv, TakesAGivenHeader) {
  CsvWriter csv(path_, {.columns = {"a", "b"}});
  csv.row({1, "x"});
  csv.row({{"b", 2u}});
  csv.row({true, std::string("y")});
  EXPECT_EQ(text(), "a,b\n1,x\n,2\n1,y\n");
}

TEST_F(Csv, QuotesWhatNeedsQuotes) {
  CsvWriter csv(path_, {.columns = {"plain", "comma,here", "quote\"d"}});
  csv.row({"a b", "two\nlines", "carriage\rreturn"});
  csv.row({"", "\"", ","});
  EXPECT_EQ(text(),
            "plain,\"comma,here\",\"quote\"\"d\"\n"
            "a b,\"two\nlines\",\"carriage\rreturn\"\n"
            ",\"\"\"\",\",\"\n");
  CsvWriter one(dir_.file("one.csv"), {.columns = {"only"}});
  one.row({""});
  EXPECT_EQ(io::read_text(one.path()), "only\n\"\"\n");
}

TEST_F(Csv, NumbersReadBackExactly) {
  Generator g(1, "doubles");
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bits = g.next64();
    double d;
    std::memcpy(&d, &bits, sizeof d);
    if (!std::isfinite(d)) continue;
    const double back = std::strtod(CsvValue(d).text().c_str(), nullptr);
    ASSERT_EQ(std::memcmp(&back, &d, sizeof d), 0) << CsvValue(d).text();
    const uint32_t word = g.next32();
    float f;
    std::memcpy(&f, &word, sizeof f);
    if (!std::isfinite(f)) continue;
    ASSERT_EQ(std::strtof(CsvValue(f).text().c_str(), nullptr), f);
  }
  EXPECT_EQ(CsvValue(0.1).text(), "0.1");
  EXPECT_EQ(CsvValue(0.1f).text(), "0.1");
  EXPECT_EQ(CsvValue(std::nan("")).text(), "nan");
  EXPECT_EQ(CsvValue(-INFINITY).text(), "-inf");
  EXPECT_EQ(CsvValue(std::numeric_limits<uint64_t>::max()).text(), "18446744073709551615");
  EXPECT_EQ(CsvValue(std::numeric_limits<int64_t>::min()).text(), "-9223372036854775808");
}

TEST_F(Csv, StartsAnewOrAppends) {
  { CsvWriter(path_).row({{"a", 1}}); }
  { CsvWriter(path_, {.append = true}).row({{"a", 2}}); }
  EXPECT_EQ(text(), "a\n1\n2\n");
  { CsvWriter(path_, {.columns = {"a"}, .append = true}).row({3}); }
  EXPECT_EQ(text(), "a\n1\n2\n3\n");
  { CsvWriter(path_).row({{"b", 1}}); }
  EXPECT_EQ(text(), "b\n1\n");
  { CsvWriter(dir_.file("new.csv"), {.append = true}).row({{"c", 1}}); }
  EXPECT_EQ(io::read_text(dir_.file("new.csv")), "c\n1\n");
}

TEST_F(Csv, AppendCutsOffAnUnfinishedRow) {
  const std::string whole = "\"x,\n1\",y\r\n1,\"a\nb\"\n";
  for (const char* rest : {"", "2", "2,", "2,\"c\nd", "2,\"c\"", "2,\"c\"\""}) {
    io::atomic_write(path_, whole + rest);
    CsvWriter csv(path_, {.append = true});
    EXPECT_THAT(csv.columns(), ElementsAre("x,\n1", "y"));
    csv.row({3, 4});
    EXPECT_EQ(text(), whole + "3,4\n") << rest;
  }
  io::atomic_write(path_, "half a hea");
  CsvWriter csv(path_, {.append = true});
  csv.row({{"a", 1}});
  EXPECT_EQ(text(), "a\n1\n");
}

TEST_F(Csv, RejectsRowsThatDoNotFit) {
  EXPECT_THROW(CsvWriter(path_, {.columns = {"a", "b", "a"}}), ValueError);
  CsvWriter csv(path_);
  EXPECT_THROW(csv.row({1, 2}), ValueError);  // no header yet
  EXPECT_THROW(csv.row(Span<const CsvCell>()), ValueError);
  EXPECT_THROW(csv.row({{"a", 1}, {"a", 2}}), ValueError);
  csv.row({{"a", 1}, {"b", 2}});
  EXPECT_THROW(csv.row({{"c", 1}}), ValueError);
  EXPECT_THROW(csv.row({{"a", 1}, {"a", 2}}), ValueError);
  EXPECT_THROW(csv.row({1}), ValueError);
  EXPECT_THROW(csv.row({1, 2, 3}), ValueError);
  EXPECT_EQ(text(), "a,b\n1,2\n");
}

TEST_F(Csv, NamesPathAndCause) {
  const auto cause_of = [](const std::string& path, auto&& f) -> std::string {
    try {
      f();
    } catch (const IoError& e) {
      EXPECT_EQ(e.path(), path);
      return e.cause();
    }
    return "no error";
  };
  const std::string missing = dir_.file("no/such.csv");
  EXPECT_THAT(cause_of(missing, [&] { CsvWriter csv(missing); }), HasSubstr("No such file"));
  EXPECT_THAT(cause_of(dir_.path(), [&] { CsvWriter csv(dir_.path()); }),
              HasSubstr("Is a directory"));
  EXPECT_THAT(cause_of("/dev/full",
                       [&] {
                         CsvWriter csv("/dev/full");
                         csv.row({{"a", 1}});
                       }),
              HasSubstr("No space left on device"));
  io::atomic_write(path_, "a,b\n");
  EXPECT_EQ(cause_of(path_, [&] { CsvWriter csv(path_, {.columns = {"a"}, .append = true}); }),
            "cannot append: the file has columns a,b, the log has a");
}

TEST_F(Csv, AFullDiskLeavesWholeRows) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{50, 50};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    CsvWriter csv(path_, {.columns = {"text"}});
    csv.row({"0123456789"});
    try {
      csv.row({std::string(60, 'x')});
      _exit(3);
    } catch (const IoError&) {
    }
    csv.row({"short"});
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(text(), "text\n0123456789\nshort\n");
}

}  // namespace
}  // namespace ebb::train
