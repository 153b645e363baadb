#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds the sparse coding example and runs it on the images that come with
# Ebb, or on full-size data.
#
#   scripts/demo.sh [--quick] [--data DIR] [--out DIR]
#
# --quick     a short run of a few seconds
# --data DIR  folder of the four IDX files (default: examples/data)
# --out DIR   where the pictures and curves go (default: out/sparse_coding)
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

data="$root/examples/data"
out="$root/out/sparse_coding"
options=()
while (($#)); do
  case "$1" in
    --quick) options+=(--quick) ;;
    --data | --out)
      (($# > 1)) || die "$1 needs a folder"
      if [[ "$1" == --data ]]; then data="$2"; else out="$2"; fi
      shift
      ;;
    -h | --help) sed -n '3,10s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1'; see --help" ;;
  esac
  shift
done

"$root/scripts/install_deps.sh"
build release sparse_coding
mkdir -p "$out"
"$root/build/release/bin/sparse_coding" --data "$data" --out "$out" "${options[@]}"

pictures=("$out"/*.png)
[[ -e "${pictures[0]}" ]] || die "the run left no picture in $out"
printf '\nPictures:\n'
printf '  %s\n' "${pictures[@]}"
