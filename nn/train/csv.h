// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "ebb/core/shape.h"

namespace ebb::train {

/// One cell of a CSV row: a number in the shortest form that reads back as the same value, or text.
class CsvValue {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a row is written as {{"step", 10}, {"loss", 0.5}}.
  template <std::integral T>
  CsvValue(T value) : CsvValue(Exact{}, value) {}
  CsvValue(double value);
  CsvValue(float value);
  CsvValue(std::string_view text) : text_(text) {}
  CsvValue(const std::string& text) : text_(text) {}
  CsvValue(const char* text) : text_(text) {}
  // NOLINTEND(google-explicit-constructor)

  const std::string& text() const { return text_; }

 private:
  struct Exact {};
  template <std::unsigned_integral T>
  CsvValue(Exact, T value) : text_(std::to_string(static_cast<unsigned long long>(value))) {}
  template <std::signed_integral T>
  CsvValue(Exact, T value) : text_(std::to_string(static_cast<long long>(value))) {}

  std::string text_;
};

struct CsvCell {
  std::string_view column;
  CsvValue value;
};

struct CsvOptions {
  /// The header. Empty: the columns of the first row.
  std::vector<std::string> columns = {};
  /// Goes on with an existing file: keeps its rows and its header, and cuts off a row that a killed
  /// process left unfinished. Otherwise the file starts empty.
  bool append = false;
};

/// A log as a CSV file (RFC 4180, with '\n' at line ends). Each row is handed to the system at
/// once, so that whoever follows the file sees it. The header is written with the first row.
class CsvWriter {
 public:
  /// Throws ValueError on a column named twice; IoError where the file cannot be opened, or where
  /// its header differs from the given columns.
  explicit CsvWriter(std::string path, CsvOptions options = {});
  ~CsvWriter();
  CsvWriter(const CsvWriter&) = delete;
  CsvWriter& operator=(const CsvWriter&) = delete;

  /// Writes a row; a column without a cell stays empty. Throws ValueError on a column that is not
  /// in the header or is named twice, IoError where the row cannot be written; the file then ends
  /// with the row before.
  void row(Span<const CsvCell> cells);
  void row(std::initializer_list<CsvCell> cells) { row(Span<const CsvCell>(cells)); }

  /// Writes a row of as many values as there are columns, in their order. Throws as above.
  void row(Span<const CsvValue> values);
  void row(std::initializer_list<CsvValue> values) { row(Span<const CsvValue>(values)); }

  const std::string& path() const { return path_; }
  const std::vector<std::string>& columns() const { return columns_; }

 private:
  void resume();
  void write_line(std::string line);

  std::string path_;
  std::vector<std::string> columns_;
  bool header_written_ = false;
  int fd_ = -1;
  int64_t size_ = 0;
};

}  // namespace ebb::train
