#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds the release preset and runs every test, the install test included.
#
#   scripts/test.sh [--sanitize]
#
# --sanitize  also runs the whole suite under AddressSanitizer and UndefinedBehaviorSanitizer, and the
#             tests named *Thread* under ThreadSanitizer
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

sanitize=0
for argument in "$@"; do
  case "$argument" in
    --sanitize) sanitize=1 ;;
    -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$argument'; see --help" ;;
  esac
done

times=()
report() {
  ((${#times[@]})) && printf '%s\n' "" "stage                     seconds" "${times[@]}"
  return 0
}
trap report EXIT

# stage NAME COMMAND...: runs the command and remembers how long it took.
stage() {
  local name="$1" start=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  ((status)) && name+=" (failed)"
  times+=("$(printf '%-24s %8d' "$name" $((SECONDS - start)))")
  return "$status"
}

run_tests() {
  (cd "$root" && "${@:2}" ctest --preset "$1" -j "$jobs")
}

stage "install packages" "$root/scripts/install_deps.sh"
stage "build release" build release
stage "test release" run_tests release

if ((sanitize)); then
  export UBSAN_OPTIONS="print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
  # GCC 12's sanitizers cannot map their shadow memory under the address randomisation of newer kernels.
  fixed_addresses=()
  if setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed_addresses=(setarch "$(uname -m)" -R)
  fi
  for preset in asan tsan; do
    stage "build $preset" build "$preset"
    stage "test $preset" run_tests "$preset" "${fixed_addresses[@]}"
  done
fi
