// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <list>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ebb::train {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Style = ProgressOptions::Style;

double now = 0;
double test_clock() { return now; }

// A stream in memory.
class Stream {
 public:
  Stream() : file_(open_memstream(&data_, &size_)) { now = 1000; }
  ~Stream() {
    std::fclose(file_);
    std::free(data_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  ProgressOptions options(Style style, double min_interval = -1) const {
    return {.out = file_, .min_interval = min_interval, .style = style, .clock = test_clock};
  }
  std::string text() {
    std::fflush(file_);
    return {data_, size_};
  }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
  std::FILE* file_;
};

// Sets an environment variable for the life of the object.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = std::make_unique<std::string>(old);
    setenv(name, value, 1);
  }
  ~Environment() {
    if (old_ != nullptr) {
      setenv(name_, old_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::unique_ptr<std::string> old_;
};

TEST(Progress, WritesPlainLinesNowAndThen) {
  Stream out;
  {
    Progress bar(480, "train", out.options(Style::kAuto));
    for (int i = 1; i <= 480; ++i) {
      now += 0.0625;
      bar.update(i, {{"loss", 1.0 / i}, {"acc", 0.5}});
    }
  }
  EXPECT_EQ(out.text(),
            "train: 160/480 (33%), 16.0/s, 0:10, 0:20 left, loss 0.00625, acc 0.5\n"
            "train: 320/480 (66%), 16.0/s, 0:20, 0:10 left, loss 0.003125, acc 0.5\n"
            "train: 480/480 (100%), 16.0/s, 0:30, 0:00 left, loss 0.002083, acc 0.5\n"
            "train: 480/480 (100%), 16.0/s, 0:30, loss 0.002083, acc 0.5\n");
}

TEST(Progress, RewritesOneLineOnATerminal) {
  const Environment locale("LC_ALL", "C");
  Stream out;
  Progress bar(4, "eval", out.options(Style::kTerminal, 1));
  now += 0.5;
  bar.update(1);
  EXPECT_EQ(out.text(), "");
  now += 0.5;
  bar.update(2, {{"loss", 0.25}});
  EXPECT_EQ(out.text(),
            "\reval [############............]  50%  2/4  2.0/s  0:01<0:01  loss 0.25\x1b[K");
  now += 1;
  bar.update(4);
  bar.finish();
  EXPECT_THAT(out.text(), EndsWith("100%  4/4  2.0/s  0:02  loss 0.25\x1b[K\n"));
  const std::string before = out.text();
  bar.finish();
  bar.update(3);
  EXPECT_EQ(out.text(), before);
}

TEST(Progress, DrawsEighthsWhereTheLocaleCan) {
  const Environment locale("LC_ALL", "de_DE.UTF-8");
  Stream out;
  Progress bar(192, "", out.options(Style::kTerminal, 0));
  now += 1;
  bar.update(13);
  EXPECT_THAT(out.text(), HasSubstr("▕█▋" + std::string(22, ' ') + "▏"));
}

// However long the label and the metrics, no drawing is wider than the terminal.
TEST(Progress, NeverWraps) {
  for (const char* locale : {"C", "C.UTF-8"}) {
    const Environment environment("LC_ALL", locale);
    for (size_t length : {0u, 10u, 40u, 60u, 78u, 79u, 80u, 81u, 300u}) {
      Stream out;
      {
        Progress bar(100, std::string(length, 'x'), out.options(Style::kTerminal, 0));
        now += 1;
        bar.update(50, {{"loss", -1.2345e-10}, {"größe", 2.0}});
      }
      std::string line;
      for (const char c : out.text()) {
        if (c == '\r') line.clear();
        line += c;
        if (line.ends_with("\x1b[K")) {
          size_t width = 0;
          for (const char d : line) width += (static_cast<unsigned char>(d) & 0xC0) != 0x80;
          ASSERT_LE(width - 4, 79u) << line;  // without \r and the escape sequence
        }
      }
    }
  }
}

TEST(Progress, ShowsRatesAndTimes) {
  Stream out;
  Progress bar(0, "", out.options(Style::kPlain, 0));
  now += 1000;
  bar.update(10);
  EXPECT_EQ(out.text(), "10, 100s each, 16:40\n");
  now += 4000;
  bar.update(500'000'000);
  EXPECT_THAT(out.text(), EndsWith("500000000, 125.0k/s, 1:23:20\n"));
  now += 100000;
  bar.finish();
  EXPECT_THAT(out.text(), EndsWith("500000000, 4762/s, 1d 05:10\n"));
}

TEST(Progress, ARecentChangeOfSpeedCountsMore) {
  Stream out;
  Progress bar(100000, "", out.options(Style::kPlain, 1));
  for (int i = 1; i <= 100; ++i) {
    ++now;
    bar.update(i);
  }
  for (int i = 1; i <= 20; ++i) {
    ++now;
    bar.update(100 + 100 * i);
  }
  // The mean is 17.5/s, the new speed 100/s; after 20 s with a memory of 5 s: 100 - 99 exp(-4).
  EXPECT_THAT(out.text(), HasSubstr("98.2/s, 2:00"));
}

TEST(Progress, AResumedRunCountsItsOwnStepsOnly) {
  Stream out;
  ProgressOptions options = out.options(Style::kPlain, 0);
  options.start = 1000;
  Progress bar(2000, "", options);
  now += 10;
  bar.update(1100);
  EXPECT_EQ(out.text(), "1100/2000 (55%), 10.0/s, 0:10, 1:30 left\n");
}

TEST(Progress, SurvivesOddNumbers) {
  Stream out;
  {
    Progress bar(10, "odd\nlabel", out.options(Style::kPlain, 0));
    bar.update(0, {{"nan", std::nan("")}, {"inf", -INFINITY}});  // no time has passed
    now += 1;
    bar.update(20);
    bar.update(-5);
  }
  EXPECT_THAT(out.text(), StartsWith("odd label: 0/10 (0%), -/s, 0:00, --:-- left, nan nan"));
  EXPECT_THAT(out.text(), HasSubstr("20/10 (200%)"));
  Stream silent;
  { Progress(-3, "x", silent.options(Style::kSilent, 0)).update(1); }
  EXPECT_EQ(silent.text(), "");
  Stream bar;
  {
    Progress p(10, "", bar.options(Style::kTerminal, 0));
    now += 1;
    p.update(30);
    now += 1;
    p.update(-30);
  }
  EXPECT_THAT(bar.text(), HasSubstr("300%  30/10"));
}

// A pseudoterminal 40 columns wide: its kind and its width are found out.
TEST(Progress, KnowsATerminal) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(grantpt(master), 0);
  ASSERT_EQ(unlockpt(master), 0);
  const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  ASSERT_GE(slave, 0);
  winsize size{};
  size.ws_col = 40;
  size.ws_row = 10;
  ASSERT_EQ(ioctl(slave, TIOCSWINSZ, &size), 0);
  std::FILE* out = fdopen(slave, "w");
  now = 0;
  {
    Progress bar(100, std::string(100, 'y'), {.out = out, .clock = test_clock});
    now += 1;
    bar.update(50);
  }
  std::fclose(out);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(master, part, sizeof part)) > 0;) text.append(part, n);
  close(master);
  EXPECT_THAT(text, StartsWith("\r" + std::string(39, 'y') + "\x1b[K\r"));
}

TEST(ProgressRange, WalksThroughAnyKindOfRange) {
  Stream out;
  const ProgressOptions quiet = out.options(Style::kSilent);
  std::vector<int> numbers = {1, 2, 3};
  for (int& n : progress(numbers, "", quiet)) n *= 2;
  EXPECT_THAT(numbers, ElementsAre(2, 4, 6));

  const std::list<std::pair<std::string, int>> pairs = {{"a", 1}, {"b", 2}};
  std::string letters;
  for (const auto& [letter, number] : progress(pairs, "", quiet)) {
    letters += letter + std::to_string(number);
  }
  EXPECT_EQ(letters, "a1b2");

  int sum = 0;
  for (int i : progress(std::views::iota(0, 10), "", quiet)) sum += i;
  EXPECT_EQ(sum, 45);
  int array[] = {1, 2, 3};
  for (int i : progress(array, "", quiet)) sum += i;
  EXPECT_EQ(sum, 51);
  for (int i : progress(std::array<int, 0>{}, "", quiet)) sum += i;
  EXPECT_EQ(sum, 51);

  // A temporary, of a type that can only be moved.
  std::vector<std::unique_ptr<int>> owners;
  owners.push_back(std::make_unique<int>(5));
  owners.push_back(std::make_unique<int>(6));
  for (const auto& p : progress(std::move(owners), "", quiet)) sum += *p;
  EXPECT_EQ(sum, 62);

  // A range whose elements are made on the way.
  std::vector<int> squares;
  for (int s : progress(numbers | std::views::transform([](int n) { return n * n; }), "", quiet)) {
    squares.push_back(s);
  }
  EXPECT_THAT(squares, ElementsAre(4, 16, 36));
}

TEST(ProgressRange, CountsWhatIsDone) {
  Stream out;
  {
    auto steps = progress(std::vector<int>(4), "steps", out.options(Style::kPlain, 0));
    for (int unused : steps) {
      now += 1;
      steps.set("loss", unused + 0.5);
    }
  }
  EXPECT_EQ(out.text(),
            "steps: 1/4 (25%), 1.0/s, 0:01, 0:03 left, loss 0.5\n"
            "steps: 2/4 (50%), 1.0/s, 0:02, 0:02 left, loss 0.5\n"
            "steps: 3/4 (75%), 1.0/s, 0:03, 0:01 left, loss 0.5\n"
            "steps: 4/4 (100%), 1.0/s, 0:04, 0:00 left, loss 0.5\n"
            "steps: 4/4 (100%), 1.0/s, 0:04, loss 0.5\n");
}

TEST(ProgressRange, ALoopLeftEarlyDoesNotClaimToBeDone) {
  Stream out;
  const auto run = [&] {
    for (int i : progress(std::vector<int>{0, 1, 2, 3}, "", out.options(Style::kPlain))) {
      now += 1;
      if (i == 2) throw std::runtime_error("stop");
    }
  };
  EXPECT_THROW(run(), std::runtime_error);
  EXPECT_EQ(out.text(), "2/4 (50%), 1.5s each, 0:03\n");
}

}  // namespace
}  // namespace ebb::train
