#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the benchmarks on one core.
#
#   scripts/bench.sh [micro|models|kernels|all] [--peers] [--json FILE]
#
# --peers      runs the same work in the peer too, where the benchmark has one
# --json FILE  writes the figures there, as a list of one object per workload
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

names=(micro)
json=""
options=()
while (($#)); do
  case "$1" in
    micro | models | kernels) names=("$1") ;;
    all) names=(micro models kernels) ;;
    --peers) options+=(--peers) ;;
    --json)
      (($# > 1)) || die "--json needs a file"
      json="$2"
      shift
      ;;
    -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1'; see --help" ;;
  esac
  shift
done

"$root/scripts/install_deps.sh"
build release "${names[@]/#/bench_}"

# The last core this process may use: the first one also serves most interrupts.
core="$(sed -n 's/^Cpus_allowed_list:.*[^0-9]\([0-9]*\)$/\1/p' /proc/self/status)"
parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
files=()
for name in "${names[@]}"; do
  part=()
  if [[ -n "$json" ]]; then
    files+=("$parts/$name.json")
    part=(--json "$parts/$name.json")
  fi
  taskset -c "$core" "$root/build/release/bin/bench_$name" "${options[@]}" "${part[@]}"
done
if [[ -n "$json" ]]; then
  cmake -P "$root/cmake/merge_json_lists.cmake" "$json" "${files[@]}"
fi
