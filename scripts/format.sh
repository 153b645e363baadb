#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats every C++ file with clang-format 14.
#
#   scripts/format.sh [--check]
#
# --check  changes nothing and fails when a file is not formatted
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mode=(-i)
case "${1:-}" in
  "") ;;
  --check) mode=(--dry-run -Werror) ;;
  -h | --help) sed -n '3,7s/^# \{0,1\}//p' "$0" && exit 0 ;;
  *) die "unknown argument '$1'; see --help" ;;
esac

formatter="$(command -v clang-format-14 || command -v clang-format)" || die "clang-format is not installed"
cd "$root"
find . \( -path ./build -o -path ./.git \) -prune -o \( -name '*.h' -o -name '*.cc' \) -print0 |
  xargs -0 -r -P "$jobs" -n 16 "$formatter" "${mode[@]}"
