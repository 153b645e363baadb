// SPDX-License-Identifier: Apache-2.0
#include "ebb/core/error.h"

#include <exception>
#include <typeinfo>

namespace ebb::detail {

namespace {

// Throws a K with this message where `e` is just that.
template <class... K>
void throw_as_one_of(const Error& e, const std::string& message) {
  (void(typeid(e) == typeid(K) ? throw K(message) : 0), ...);
}

}  // namespace

void rethrow_as(std::string_view op) {
  try {
    throw;
  } catch (const Error& e) {
    const std::string_view message = e.what();
    const bool named = message.substr(0, op.size()) == op && message.substr(op.size(), 1) == ":";
    if (!named) {
      throw_as_one_of<Error, ShapeError, DTypeError, IndexError, ValueError, GradError,
                      NumericError, MemoryError>(e, std::string(op).append(": ").append(message));
    }
    throw;
  }
}

}  // namespace ebb::detail
