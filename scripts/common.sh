# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the other scripts share. Sourced; sets `root` and `jobs`.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
jobs="$(nproc)"

# Lets ccache share objects between checkouts in different folders.
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1

die() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# build PRESET [TARGET...]: configures the preset and builds the targets, or everything.
build() {
  local preset="$1"
  shift
  (cd "$root" && cmake --preset "$preset" >/dev/null) || return
  cmake --build "$root/build/$preset" -j "$jobs" ${1:+--target "$@"}
}
