#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs Ebb and uses it as a stranger would: a project of his own with an op of his own
# (examples/custom_op), and a program of less than 40 lines that must compile fast and stay small.
#
#   tests/install/run.sh BUILD_DIR     BUILD_DIR: a built tree, such as build/release
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
build_dir="$(cd "$1" && pwd)"

readonly kMaxLines=39
readonly kMaxCompileMs=4000     # processor time, so that a busy machine does not fail the test
readonly kMaxBytes=$((5 * 1000 * 1000))

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
prefix="$work/prefix"
unset CMAKE_CXX_COMPILER_LAUNCHER

fail() {
  echo "install test: $*" >&2
  exit 1
}

cmake --install "$build_dir" --prefix "$prefix" >/dev/null

# Installed headers include installed headers only.
while IFS=: read -r header include; do
  included="${include#*[\"<]}"
  [[ -e "$prefix/include/${included%[\">]}" ]] || fail "${header#"$prefix/"} has $include, which is not installed"
done < <(grep -rHEo '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]ebb/[^">]+[">]' "$prefix/include" || true)

# configure SOURCE BUILD: as the user's own project, release, against the prefix.
configure() {
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" >"$2.log" 2>&1 ||
    { cat "$2.log" && fail "$1 does not configure"; }
}

if [[ -e "$root/examples/custom_op/CMakeLists.txt" ]]; then
  # A copy, so that nothing beside it in the checkout can help.
  cp -r "$root/examples/custom_op" "$work/custom_op_source"
  configure "$work/custom_op_source" "$work/custom_op"
  cmake --build "$work/custom_op" || fail "custom_op does not build"
  "$work/custom_op/custom_op" || fail "custom_op does not run"
else
  echo "install test: no examples/custom_op"
fi

if [[ -e "$here/tiny_mlp.cc" ]]; then
  lines="$(wc -l <"$here/tiny_mlp.cc")"
  ((lines <= kMaxLines)) || fail "tiny_mlp.cc has $lines lines, at most $kMaxLines allowed"
  mkdir "$work/tiny_source"
  cp "$here/tiny_mlp.cc" "$work/tiny_source/"
  cp "$here/tiny_mlp.cmake" "$work/tiny_source/CMakeLists.txt"
  configure "$work/tiny_source" "$work/tiny"

  object="CMakeFiles/tiny_mlp.dir/tiny_mlp.cc.o"
  TIMEFORMAT="%U %S"
  { time cmake --build "$work/tiny" --target "$object" >"$work/compile.log" 2>&1; } 2>"$work/time" ||
    { cat "$work/compile.log" && fail "tiny_mlp.cc does not compile"; }
  compile_ms="$(awk '{ printf "%d", 1000 * ($1 + $2) }' "$work/time")"
  cmake --build "$work/tiny" >"$work/link.log" 2>&1 ||
    { cat "$work/link.log" && fail "tiny_mlp does not link"; }
  "$work/tiny/tiny_mlp" || fail "tiny_mlp does not run"
  strip "$work/tiny/tiny_mlp"
  bytes="$(stat -c %s "$work/tiny/tiny_mlp")"

  echo "install test: tiny_mlp: $lines lines, compiled in $compile_ms ms, $bytes bytes stripped"
  ((compile_ms < kMaxCompileMs)) || fail "compiling took $compile_ms ms, must be under $kMaxCompileMs"
  ((bytes < kMaxBytes)) || fail "the program has $bytes bytes, must be under $kMaxBytes"
else
  echo "install test: no tests/install/tiny_mlp.cc"
fi
