#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that Ebb needs and this machine lacks (see docs/dependencies.md).
# Does nothing, and needs no rights, when all are there.
#
#   scripts/install_deps.sh [PACKAGE...]
#
# With arguments, these packages instead: what only some scripts need.
set -euo pipefail

required=(
  g++ cmake ninja-build
  libabsl-dev libopenblas-serial-dev libhwy-dev libpng-dev zlib1g-dev nlohmann-json3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
optional=(ccache)
if (($#)); then
  required=("$@")
  optional=()
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install_deps.sh: no apt-get here; Ebb needs what these Debian packages hold: ${required[*]}"
  exit 0
fi

is_installed() {
  [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

missing_of() {
  local package
  for package in "$@"; do
    is_installed "$package" || echo "$package"
  done
}

as_root() {
  if [[ "$(id -u)" == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "install_deps.sh: cannot run '$*': neither root nor sudo" >&2
    return 1
  fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

mapfile -t missing < <(missing_of "${required[@]}")
mapfile -t wanted < <(missing_of "${optional[@]}")

if ((${#missing[@]})); then
  # The package lists may be absent or older than the archive: then fetch them and try again.
  if ! apt_install "${missing[@]}"; then
    as_root apt-get update -q
    apt_install "${missing[@]}"
  fi
fi
if ((${#wanted[@]})); then
  apt_install "${wanted[@]}" || echo "install_deps.sh: going on without ${wanted[*]}" >&2
fi
