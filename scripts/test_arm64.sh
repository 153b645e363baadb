#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the library and tests for 64-bit ARM (NEON) with Debian's cross compiler and runs them
# under QEMU. The machine's own packages stay as they are: those for ARM are unpacked in build/arm64.
# Takes a quarter of an hour, most of it emulation.
#
#   scripts/test_arm64.sh [TEST...]
#
# TEST  test programs to build and run; by default kernels_test
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ "${1:-}" != -h && "${1:-}" != --help ]] || { sed -n '3,9s/^# \{0,1\}//p' "$0" && exit 0; }
tests=("${@:-kernels_test}")
work="$root/build/arm64"
system="$work/system"

"$root/scripts/install_deps.sh" g++-aarch64-linux-gnu qemu-user cmake ninja-build nlohmann-json3-dev

if [[ ! -f "$work/unpacked" ]]; then
  mkdir -p "$system" "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
  touch "$work/apt/status"
  apt=(apt-get -q -o Dir::State="$work/apt/state" -o Dir::Cache="$work/apt/cache"
    -o Dir::State::status="$work/apt/status" -o Debug::NoLocking=1
    -o APT::Architecture=arm64 -o APT::Architectures=arm64)
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends --download-only libc6-dev libstdc++-12-dev \
    libabsl-dev libopenblas-serial-dev libhwy-dev libpng-dev zlib1g-dev nlohmann-json3-dev \
    libgtest-dev libgmock-dev
  for package in "$work"/apt/cache/archives/*.deb; do dpkg -x "$package" "$system"; done
  touch "$work/unpacked"
fi

cmake -S "$root" -B "$work/release" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_TOOLCHAIN_FILE="$root/cmake/toolchain-arm64.cmake" -DEBB_ARM64_SYSTEM="$system" \
  -DEBB_BUILD_BENCH=OFF -DEBB_BUILD_EXAMPLES=OFF
cmake --build "$work/release" -j "$jobs" --target "${tests[@]}"
# Death tests start their program once more, which the system would have to know how to emulate.
for test in "${tests[@]}"; do
  qemu-aarch64 -L "$system" "$work/release/bin/$test" --gtest_filter='-*DeathTest*'
done
