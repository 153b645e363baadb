// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ebb::train {
namespace {

// Seconds over which older speed is forgotten.
constexpr double kRateMemory = 5;

double monotonic_seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Whether the user's locale can show block characters. POSIX: the first of these that is set and
// not empty decides.
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view locale = value;
    return locale.find("UTF-8") != std::string_view::npos ||
           locale.find("utf8") != std::string_view::npos;
  }
  return false;
}

int columns_of(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

// "0:07", "12:34", "3:25:00", "2d 03:25".
std::string duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "--:--";
  const int64_t s = std::llround(seconds);
  if (s < 3600) return absl::StrFormat("%d:%02d", s / 60, s % 60);
  if (s < 86400) return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  return absl::StrFormat("%dd %02d:%02d", s / 86400, s / 3600 % 24, s / 60 % 60);
}

std::string speed(double rate) {
  if (!(rate > 0) || !std::isfinite(rate)) return "-/s";
  if (rate >= 1e6) return absl::StrFormat("%.1fM/s", rate / 1e6);
  if (rate >= 1e4) return absl::StrFormat("%.1fk/s", rate / 1e3);
  if (rate >= 100) return absl::StrFormat("%.0f/s", rate);
  if (rate >= 1) return absl::StrFormat("%.1f/s", rate);
  return absl::StrFormat("%.3gs each", 1 / rate);
}

// Control characters would break the line.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text;
}

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The first `columns` characters of UTF-8 text.
std::string cut(const std::string& text, int columns) {
  int width = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!continues_character(text[i]) && ++width > columns) return text.substr(0, i);
  }
  return text;
}

int width_of(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); }));
}

std::string bar(double fraction, int width, bool blocks) {
  const double filled = std::clamp(fraction, 0.0, 1.0) * width;
  const int full = static_cast<int>(filled);
  if (!blocks) {
    return absl::StrCat("[", std::string(full, '#'), std::string(width - full, '.'), "]");
  }
  std::string out;
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  for (int i = 0; i < full; ++i) out += "█";
  const int eighth = full < width ? static_cast<int>((filled - full) * 8) : 0;
  out += kEighths[eighth];
  out.append(static_cast<size_t>(width - full - (eighth > 0)), ' ');
  return absl::StrCat("▕", out, "▏");
}

}  // namespace

Progress::Progress(int64_t total, std::string label, ProgressOptions options)
    : total_(std::max<int64_t>(total, 0)),
      label_(printable(std::move(label))),
      options_(options),
      done_(options.start) {
  if (options_.out == nullptr) options_.out = stderr;
  if (options_.clock == nullptr) options_.clock = monotonic_seconds;
  if (options_.style == ProgressOptions::Style::kAuto) {
    options_.style = isatty(fileno(options_.out)) ? ProgressOptions::Style::kTerminal
                                                  : ProgressOptions::Style::kPlain;
  }
  const bool terminal = options_.style == ProgressOptions::Style::kTerminal;
  if (options_.min_interval < 0) options_.min_interval = terminal ? 0.1 : 10;
  bar_of_blocks_ = locale_is_utf8();
  begin_ = drawn_at_ = options_.clock();
  drawn_done_ = done_;
}

Progress::~Progress() { finish(); }

void Progress::update(int64_t done, Span<const Metric> metrics) {
  if (finished_) return;
  done_ = done;
  for (const Metric& m : metrics) set(m.name, m.value);
  const double now = options_.clock();
  if (now - drawn_at_ >= options_.min_interval) draw(now, false);
}

void Progress::set(std::string_view name, double value) {
  for (auto& [key, old] : metrics_) {
    if (key == name) {
      old = value;
      return;
    }
  }
  metrics_.emplace_back(printable(std::string(name)), value);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  draw(options_.clock(), true);
}

void Progress::draw(double now, bool last) {
  if (options_.style == ProgressOptions::Style::kSilent) return;
  const double elapsed = now - begin_, since = now - drawn_at_;
  if (last) {
    rate_ = elapsed > 0 ? static_cast<double>(done_ - options_.start) / elapsed : 0;
  } else if (since > 0) {
    // The plain mean at first, then an exponential one.
    const double weight = std::max(since / elapsed, 1 - std::exp(-since / kRateMemory));
    rate_ += weight * (static_cast<double>(done_ - drawn_done_) / since - rate_);
  }
  drawn_at_ = now;
  drawn_done_ = done_;
  std::string line;
  if (options_.style == ProgressOptions::Style::kTerminal) {
    const int columns = columns_of(options_.out);
    // In the last column some terminals wrap. "\x1b[K" clears what a longer line left.
    line = absl::StrCat("\r", cut(terminal_line(now, last, columns), columns - 1), "\x1b[K");
    if (last) line += '\n';
  } else {
    line = plain_line(now, last) + "\n";
  }
  std::fwrite(line.data(), 1, line.size(), options_.out);
  std::fflush(options_.out);
}

std::string Progress::terminal_line(double now, bool last, int columns) const {
  std::string rest;
  if (total_ > 0) {
    absl::StrAppend(&rest, absl::StrFormat(" %3d%%  %d/%d", 100 * done_ / total_, done_, total_));
  } else {
    absl::StrAppend(&rest, " ", done_);
  }
  absl::StrAppend(&rest, "  ", speed(rate_), "  ", duration(now - begin_));
  if (!last && total_ > 0) {
    absl::StrAppend(&rest, "<", duration(static_cast<double>(total_ - done_) / rate_));
  }
  for (const auto& [name, value] : metrics_) {
    absl::StrAppend(&rest, "  ", name, absl::StrFormat(" %.4g", value));
  }
  std::string line = label_.empty() ? "" : label_ + " ";
  // The bar takes what room there is, and goes first where there is none.
  const int room = columns - 1 - width_of(line) - width_of(rest) - 2;
  if (total_ > 0 && room >= 5) {
    const double fraction = static_cast<double>(done_) / static_cast<double>(total_);
    line += bar(fraction, std::min(room, 24), bar_of_blocks_);
  }
  return line + rest;
}

std::string Progress::plain_line(double now, bool last) const {
  std::string line = label_.empty() ? "" : label_ + ": ";
  absl::StrAppend(&line, done_);
  if (total_ > 0) absl::StrAppend(&line, "/", total_, " (", 100 * done_ / total_, "%)");
  absl::StrAppend(&line, ", ", speed(rate_), ", ", duration(now - begin_));
  if (!last && total_ > 0) {
    absl::StrAppend(&line, ", ", duration(static_cast<double>(total_ - done_) / rate_), " left");
  }
  for (const auto& [name, value] : metrics_) {
    absl::StrAppend(&line, ", ", name, absl::StrFormat(" %.4g", value));
  }
  return line;
}

}  // namespace ebb::train
