// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace ebb {

/// Threads that parallel_for may use, this one included. The default is the number of cores
/// that the process may use, or the environment variable EBB_NUM_THREADS. A child process, after
/// fork(), has one. Throws ValueError below 1.
void set_num_threads(int n);
int num_threads();

/// Calls `body(begin, end)` for consecutive ranges that together cover [0, n), each of at least
/// `grain` (the last may be shorter), on up to num_threads() threads; returns when all are done.
/// Where the ranges fall depends on n, grain and the number of threads, so a result that must not
/// depend on the number of threads may not depend on the ranges. Runs on the calling thread alone
/// where n <= grain or the call is made from inside another parallel_for. The first exception that
/// a body throws is rethrown here.
void parallel_for(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> body);

}  // namespace ebb
