// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace bench {

/// The least time in microseconds that one step of a workload can take on the reference machine,
/// one core of a Zen 3 processor: the bytes of weights that must move, over the bandwidth of the
/// cache that all its weights fit in, plus two operations for each multiply-add, over the peak. 0
/// where none is defined. `ud` is the folder of the tagger's corpus. See bounds.cc for what must
/// move.
double bound_us(const std::string& workload, const std::string& ud);

}  // namespace bench
