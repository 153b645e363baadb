#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# layering.sh ROOT: fails when a source includes a file of a layer above its own. From the bottom up:
# core, ops/kernels, autograd, ops, nn, programs (examples, tests, bench).
set -euo pipefail
cd "$1"

find . -type d \( -name 'build*' -o -name .git -o -name out \) -prune -o \
    -type f \( -name '*.h' -o -name '*.cc' \) -print0 |
  xargs -0 -r grep -HEo '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]+[">]' |
  awk '
    function layer(path) {
      if (path ~ /^core\//) return 0
      if (path ~ /^ops\/kernels\//) return 1
      if (path ~ /^autograd\//) return 2
      if (path ~ /^ops\//) return 3
      if (path ~ /^nn\// || path == "ebb.h") return 4
      if (path ~ /^(examples|tests|bench)\//) return 5
      return -1
    }
    {
      colon = index($0, ":")
      from = substr($0, 1, colon - 1)
      sub(/^\.\//, "", from)
      to = substr($0, colon + 1)
      quoted = to ~ /"/
      gsub(/^[^"<]*["<]|[">]$/, "", to)
      if (to !~ /^ebb\//) {
        # A neighbour under its bare name: found by luck of the include path, and missed by the check below.
        folder = from
        sub(/[^\/]*$/, "", folder)
        if (quoted && layer(from) < 5 && (getline line < (folder to)) >= 0) {
          print from " includes \"" to "\": spell it \"ebb/" folder to "\""
          bad = 1
        }
        next
      }
      sub(/^ebb\//, "", to)
      ++arrows
      if (layer(from) < 0) {
        print from ": this folder belongs to no layer"
        bad = 1
      } else if (layer(to) < 0) {
        print from " includes ebb/" to ", which belongs to no layer"
        bad = 1
      } else if (layer(to) > layer(from)) {
        print from " includes ebb/" to ", which is a layer above it"
        bad = 1
      }
    }
    END {
      if (!arrows) {
        print "no include of ebb/ found: is this the root of the project?"
        bad = 1
      }
      exit bad
    }'
