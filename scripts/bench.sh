#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the benchmarks on one core; see docs/performance.md.
#
#   scripts/bench.sh [micro|models|kernels|all] [--peers] [--json FILE] [--only TEXT] [--ud DIR]
#                    [--isa avx2]
#
# --peers      also runs the same work in LibTorch, convolutions in oneDNN too, in turns, and prints
#              the ratio. Installs Debian's libtorch-dev and libdnnl-dev if they are missing, and
#              builds in build/peers
# --json FILE  writes the figures there, as a list of one object per workload
# --only TEXT  runs the workloads whose name contains the text
# --ud DIR     folder with train.conllu or train.conllu.xz (Universal Dependencies, English EWT),
#              which the tagger reads; without it the tagger is left out
# --isa avx2   neither side uses what a machine without AVX-512 does not have (micro, models and
#              kernels of both sides; not the programs that are Ebb's alone)
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

groups=(micro)
json=""
ud=""
only=""
isa=""
peers=0
while (($#)); do
  case "$1" in
    micro | models | kernels) groups=("$1") ;;
    all) groups=(micro models kernels) ;;
    --peers) peers=1 ;;
    --json | --only | --ud | --isa)
      (($# > 1)) || die "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) sed -n '3,16s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1'; see --help" ;;
  esac
  shift
done

"$root/scripts/install_deps.sh"
build release bench
bin="$root/build/release/bin"

run=()
run_conv=()
if ((peers)); then
  "$root/scripts/install_deps.sh" libtorch-dev libtcmalloc-minimal4 libdnnl-dev
  (cd "$root" && cmake -S . -B build/peers -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DEBB_BENCH_PEERS=ON -DEBB_BUILD_TESTS=OFF -DEBB_BUILD_EXAMPLES=OFF >/dev/null)
  cmake --build "$root/build/peers" -j "$jobs" --target bench_worker_libtorch \
    bench_worker_conv_libtorch bench_worker_conv_onednn
  for peer in libtorch onednn; do
    run_conv+=(--peer "$peer=$root/build/peers/bin/bench_worker_conv_$peer")
  done
  run+=(--peer "$root/build/peers/bin/bench_worker_libtorch" --tcmalloc libtcmalloc_minimal.so.4)
fi
[[ -z "$only" ]] || run+=(--only "$only") run_conv+=(--only "$only")
[[ -z "$isa" ]] || run+=(--isa "$isa") run_conv+=(--isa "$isa")

# The workers read plain text.
if [[ -f "$ud/train.conllu" ]]; then
  run+=(--ud "$ud")
elif [[ -f "$ud/train.conllu.xz" ]]; then
  command -v xz >/dev/null || "$root/scripts/install_deps.sh" xz-utils
  mkdir -p "$root/build/ud"
  xz -dc "$ud/train.conllu.xz" >"$root/build/ud/train.conllu"
  run+=(--ud "$root/build/ud")
fi

# The last core this process may use: the first one also serves most interrupts.
core="$(sed -n 's/^Cpus_allowed_list:.*[^0-9]\([0-9]*\)$/\1/p' /proc/self/status)"
parts="$(mktemp -d)"
trap 'rm -rf "$parts"' EXIT
failed=0
unpinned() {
  local name="$1"
  shift
  echo
  echo "== $name"
  "$bin/$1" "${@:2}" || failed=1
}
pinned() {
  local name="$1"
  shift
  echo
  echo "== $name"
  taskset -c "$core" "$bin/$1" "${@:2}" || failed=1
}

files=()
for group in "${groups[@]}"; do
  # Single ops and kernels by themselves come first.
  case "$group" in
    micro)
      if [[ -z "$only" ]]; then
        "$root/scripts/install_deps.sh" valgrind
        pinned "single ops, Google Benchmark" bench_micro
        pinned "instructions and start-up" bench_cost --json "$parts/cost.json"
        # Two threads need two cores.
        unpinned "long tapes, two threads" bench_scaling --json "$parts/scaling.json"
        files+=("$parts/cost.json" "$parts/scaling.json")
      fi
      ;;
    kernels)
      if [[ -z "$only" ]]; then
        pinned "kernels against the limits of the core" bench_kernels ${isa:+--target "${isa^^}"} \
          --json "$parts/limits.json"
        files+=("$parts/limits.json")
      fi
      pinned "convolutions" bench_conv "${run_conv[@]}" --json "$parts/conv.json"
      files+=("$parts/conv.json")
      ;;
  esac
  pinned "$group" bench_run "$group" "${run[@]}" --json "$parts/$group.json"
  files+=("$parts/$group.json")
done
if [[ -n "$json" ]]; then
  cmake -P "$root/cmake/merge_json_lists.cmake" "$json" "${files[@]}"
fi
exit "$failed"
