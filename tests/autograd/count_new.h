// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ebb::test {

/// Calls of operator new so far in this program, on all threads: count_new.cc replaces it.
int64_t news();

/// Resident memory of this process in bytes.
int64_t resident_bytes();

}  // namespace ebb::test
