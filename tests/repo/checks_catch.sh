#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Shows that layering.sh and hygiene.sh fail on what they are there to catch, and pass a clean tree.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
tree="$(mktemp -d)"
trap 'rm -rf "$tree"' EXIT
failures=0

# source PATH LINE...: writes a licensed source file into the tree.
source_file() {
  mkdir -p "$tree/$(dirname "$1")"
  printf '%s\n' "// SPDX-License-Identifier: Apache-2.0" "${@:2}" >"$tree/$1"
}

# passes CHECK, fails CHECK WORDS: runs a check on the tree, which is then emptied of what was added.
passes() {
  local said
  said="$("$here/$1" "$tree")" || { echo "$1 refuses a clean tree: $said"; failures=1; }
}
fails() {
  local said
  if said="$("$here/$1" "$tree")"; then
    echo "$1 accepts: $2"
    failures=1
  elif [[ "$said" != *"$2"* ]]; then
    echo "$1 says '$said' instead of '$2'"
    failures=1
  fi
}

source_file core/a.h '#include <vector>'
source_file ops/kernels/b.cc '#include "ebb/core/a.h"'
source_file autograd/c.cc '#include "ebb/core/a.h"' '#include "ebb/ops/kernels/b.h"' '#include "absl/types/span.h"'
source_file nn/optim/d.cc '#include "ebb/ops/loss.h"'
source_file examples/e/main.cc '#include <ebb/ebb.h>' '#include "local.h"'
source_file build/x/core/generated.cc '#include "ebb/nn/module.h"'
passes layering.sh
passes hygiene.sh

source_file core/up.cc '#include "ebb/autograd/tensor.h"'
fails layering.sh "core/up.cc includes ebb/autograd/tensor.h, which is a layer above it"
rm "$tree/core/up.cc"
source_file ops/kernels/up.cc '  # include <ebb/ops/loss.h>'
fails layering.sh "ops/kernels/up.cc includes ebb/ops/loss.h, which is a layer above it"
rm "$tree/ops/kernels/up.cc"
source_file ops/up.cc '#include "ebb/nn/module.h"'
fails layering.sh "ops/up.cc includes ebb/nn/module.h"
rm "$tree/ops/up.cc"
source_file nn/up.cc '#include "ebb/tests/util.h"'
fails layering.sh "nn/up.cc includes ebb/tests/util.h"
rm "$tree/nn/up.cc"
source_file core/near.cc '#include "a.h"'
fails layering.sh 'spell it "ebb/core/a.h"'
rm "$tree/core/near.cc"
source_file misc/f.cc '#include "ebb/core/a.h"'
fails layering.sh "misc/f.cc: this folder belongs to no layer"
rm "$tree/misc/f.cc"

printf '%s\n' "int x;" >"$tree/core/bare.cc"
fails hygiene.sh "core/bare.cc: line 1"
rm "$tree/core/bare.cc"
printf '%s\n' "#!/bin/sh" "echo" >"$tree/core/bare.sh"
fails hygiene.sh "core/bare.sh: line 1"
rm "$tree/core/bare.sh"
mapfile -t filler < <(seq -f '// %g' 649)
source_file core/long.cc "${filler[@]}"
fails hygiene.sh "core/long.cc: 650 lines"
rm "$tree/core/long.cc"

passes layering.sh
passes hygiene.sh
exit "$failures"
