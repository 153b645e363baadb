#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds an example and runs it with the full data and the settings that a
# result in docs/results.md was measured with.
#
#   scripts/reproduce.sh NAME [--data DIR] [--out DIR] [--seed N]
#
# NAME                what it needs
# sparse_coding       nothing; with --data MNIST's or another set's four files
# lenet               --data DIR with MNIST's four files; about a minute
# lenet_distorted     the same
# garments            nothing: Debian's dataset-fashion-mnist is installed; about 25 minutes
# segmentation        --data DIR with MNIST's four files; about 3 minutes
# char_lm_lstm        nothing; about 15 minutes
# char_lm_transformer nothing; about 8 minutes
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { sed -n '3,17s/^# \{0,1\}//p' "$0"; }

(($#)) || { usage >&2 && exit 2; }
name="$1"
shift
data=""
out="$root/out/$name"
options=()
while (($#)); do
  case "$1" in
    --data | --out | --seed)
      (($# > 1)) || die "$1 needs an argument"
      case "$1" in
        --data) data="$2" ;;
        --out) out="$2" ;;
        --seed) options+=(--seed "$2") ;;
      esac
      shift
      ;;
    *) die "unknown argument '$1'; see --help" ;;
  esac
  shift
done

needs_mnist() {
  [[ -n "$data" ]] || die "$name needs --data DIR with MNIST's four files"
}

program="$name"
case "$name" in
  sparse_coding) ;;
  lenet) needs_mnist ;;
  lenet_distorted)
    needs_mnist
    program=lenet
    options+=(--distort)
    ;;
  garments)
    if [[ -z "$data" ]]; then
      "$root/scripts/install_deps.sh" dataset-fashion-mnist
      data=/usr/share/datasets/fashion-mnist
    fi
    ;;
  segmentation) needs_mnist ;;
  char_lm_lstm)
    program=char_lm
    options+=(--model lstm --width 256 --length 64 --epochs 8)
    ;;
  char_lm_transformer)
    program=char_lm
    options+=(--model transformer --width 128 --layers 4 --length 128 --epochs 6)
    ;;
  -h | --help) usage && exit 0 ;;
  *) die "there is no result named '$name'; see --help" ;;
esac
[[ -z "$data" ]] || options+=(--data "$data")

"$root/scripts/install_deps.sh"
build release "$program"
mkdir -p "$out"
"$root/build/release/bin/$program" --out "$out" "${options[@]}"
