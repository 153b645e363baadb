// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

// The kinds of error that Ebb throws. Every public function reports bad input by one of these; the
// message names the op, its arguments and their shapes, as in
//   matmul: a is [3,4], b is [5,6]; a.size(-1)=4 must equal b.size(-2)=5
namespace ebb {

/// Root of all of Ebb's exceptions.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Arguments whose shapes do not fit together, or do not fit the op.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// An element type that the op does not take, or two that differ where they must not.
class DTypeError : public Error {
 public:
  using Error::Error;
};

/// An index, axis or dimension outside its range.
class IndexError : public Error {
 public:
  using Error::Error;
};

/// An argument of the right shape and type whose value is not allowed.
class ValueError : public Error {
 public:
  using Error::Error;
};

/// Misuse of the tape: no gradient to be had, a tape played twice, a saved value overwritten.
class GradError : public Error {
 public:
  using Error::Error;
};

/// A computation that cannot go on: a singular matrix, NaN or infinity where anomaly mode looks.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// The memory limit (`set_memory_limit`) or the machine's memory is exhausted. Every tensor is as
/// it was. A playback or an optimiser step that it cuts short has done a part of its work:
/// gradients may have arrived at some leaves, and the tape is played so far.
class MemoryError : public Error {
 public:
  using Error::Error;
};

/// A file that cannot be read or written, or whose contents are not what they should be.
class IoError : public Error {
 public:
  IoError(std::string path, std::string cause)
      : Error(path + ": " + cause), path_(std::move(path)), cause_(std::move(cause)) {}

  const std::string& path() const { return path_; }
  const std::string& cause() const { return cause_; }

 private:
  std::string path_;
  std::string cause_;
};

namespace detail {

/// Within a handler: throws the error that it handles again, as one of the same kind whose message
/// begins with the name of what the user called. What is made of other ops, or asks for memory,
/// says so by it. An error that begins so already, has a path, or is of a kind of the user's own
/// stays as it is.
[[noreturn]] void rethrow_as(std::string_view op);

}  // namespace detail
}  // namespace ebb
