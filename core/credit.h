// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ebb::detail {

/// Gives back what the calling thread holds in advance of references to other threads' blocks (NOTE
/// [Credit] in memory.cc), and takes back what others have left for it. At the end of what may be
/// long without another op: of a playback, of a piece of parallel_for.
void settle_credits();

}  // namespace ebb::detail
