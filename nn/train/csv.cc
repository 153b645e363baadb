// SPDX-License-Identifier: Apache-2.0
#include "ebb/nn/train/csv.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ebb/core/error.h"
#include "ebb/nn/io/file.h"

namespace ebb::train {
namespace {

// std::to_chars without a precision: the shortest decimal that reads back as `value`.
template <class T>
std::string shortest(T value) {
  char buffer[32];
  const std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return {buffer, end.ptr};
}

void append_quoted(const std::string& text, std::string* line) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    *line += text;
    return;
  }
  *line += '"';
  for (const char c : text) {
    if (c == '"') *line += '"';
    *line += c;
  }
  *line += '"';
}

std::string join(const std::vector<std::string>& cells) {
  // A single empty cell would be an empty line, which readers skip.
  if (cells.size() == 1 && cells[0].empty()) return "\"\"\n";
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += ',';
    append_quoted(cells[i], &line);
  }
  line += '\n';
  return line;
}

// Splits the record that starts at `*at` and moves `*at` behind its line end; false, with `*at`
// unchanged, where the text ends first.
bool read_record(std::string_view text, size_t* at, std::vector<std::string>* cells) {
  cells->assign(1, "");
  bool quoted = false;
  for (size_t i = *at; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        cells->back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        cells->back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      cells->emplace_back();
    } else if (c == '\n') {
      std::string& last = cells->back();
      if (!last.empty() && last.back() == '\r') last.pop_back();
      *at = i + 1;
      return true;
    } else {
      cells->back() += c;
    }
  }
  return false;
}

void check_distinct(const std::vector<std::string>& columns, const std::string& path) {
  for (size_t i = 0; i < columns.size(); ++i) {
    if (std::find(columns.begin(), columns.begin() + i, columns[i]) != columns.begin() + i) {
      throw ValueError(absl::StrCat("CsvWriter: ", path, ": column ", columns[i], " named twice"));
    }
  }
}

[[noreturn]] void throw_io(const std::string& path, const char* what, int error) {
  throw IoError(path, absl::StrCat(what, ": ", std::generic_category().message(error)));
}

}  // namespace

CsvValue::CsvValue(double value) : text_(shortest(value)) {}
CsvValue::CsvValue(float value) : text_(shortest(value)) {}

CsvWriter::CsvWriter(std::string path, CsvOptions options)
    : path_(std::move(path)), columns_(std::move(options.columns)) {
  check_distinct(columns_, path_);
  if (options.append) resume();
  const int mode = O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | (options.append ? 0 : O_TRUNC);
  fd_ = open(path_.c_str(), mode, 0666);
  if (fd_ < 0) throw_io(path_, "cannot open", errno);
  if (options.append && ftruncate(fd_, size_) != 0) {
    const int error = errno;
    close(fd_);
    throw_io(path_, "cannot cut off an unfinished row", error);
  }
}

CsvWriter::~CsvWriter() {
  if (fd_ >= 0) close(fd_);
}

// Takes the header of an existing file, and its size up to the last whole row.
void CsvWriter::resume() {
  struct stat info;
  if (stat(path_.c_str(), &info) != 0 && errno == ENOENT) return;
  const std::string text = io::read_text(path_);
  size_t at = 0;
  std::vector<std::string> cells;
  if (!read_record(text, &at, &cells)) return;  // not even a header: starts anew
  if (!columns_.empty() && columns_ != cells) {
    throw IoError(path_,
                  absl::StrCat("cannot append: the file has columns ", absl::StrJoin(cells, ","),
                               ", the log has ", absl::StrJoin(columns_, ",")));
  }
  columns_ = cells;
  header_written_ = true;
  while (read_record(text, &at, &cells)) {
  }
  size_ = static_cast<int64_t>(at);
}

void CsvWriter::row(Span<const CsvCell> cells) {
  if (columns_.empty()) {
    std::vector<std::string> columns;
    for (const CsvCell& cell : cells) columns.emplace_back(cell.column);
    check_distinct(columns, path_);
    columns_ = std::move(columns);
  }
  std::vector<std::string> line(columns_.size());
  std::vector<bool> filled(columns_.size());
  for (const CsvCell& cell : cells) {
    const size_t i = std::find(columns_.begin(), columns_.end(), cell.column) - columns_.begin();
    if (i == columns_.size() || filled[i]) {
      const absl::string_view name(cell.column.data(), cell.column.size());
      throw ValueError(absl::StrCat("CsvWriter: ", path_, ": column ", name,
                                    i == columns_.size() ? " is not in the header " : " twice in ",
                                    absl::StrJoin(columns_, ",")));
    }
    filled[i] = true;
    line[i] = cell.value.text();
  }
  write_line(join(line));
}

void CsvWriter::row(Span<const CsvValue> values) {
  if (columns_.empty() || values.size() != columns_.size()) {
    throw ValueError(absl::StrCat("CsvWriter: ", path_, ": a row of ", values.size(),
                                  " values under ", columns_.size(), " columns"));
  }
  std::vector<std::string> line;
  for (const CsvValue& value : values) line.push_back(value.text());
  write_line(join(line));
}

void CsvWriter::write_line(std::string line) {
  if (columns_.empty())
    throw ValueError(absl::StrCat("CsvWriter: ", path_, ": a row without cells"));
  if (!header_written_) line.insert(0, join(columns_));
  for (size_t done = 0; done < line.size();) {
    const ssize_t count = write(fd_, line.data() + done, line.size() - done);
    if (count < 0) {
      if (errno == EINTR) continue;
      const int error = errno;
      // Where not even this works, `append` cuts it off.
      if (ftruncate(fd_, size_) != 0) throw_io(path_, "cannot write, half a row is left", error);
      throw_io(path_, "cannot write", error);
    }
    done += static_cast<size_t>(count);
  }
  header_written_ = true;
  size_ += static_cast<int64_t>(line.size());
}

}  // namespace ebb::train
