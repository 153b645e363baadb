#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# hygiene.sh ROOT: fails when a source lacks its licence line or has 650 lines or more.
set -euo pipefail
cd "$1"

readonly kMaxLines=649
find . -type d \( -name 'build*' -o -name .git -o -name out -o -name __pycache__ \) -prune -o \
    -type f \( -name '*.h' -o -name '*.cc' -o -name '*.cmake' -o -name '*.cmake.in' -o -name CMakeLists.txt \
    -o -name '*.sh' -o -name '*.py' -o -path './.ci/*' \) -print0 |
  xargs -0 -r awk -v max="$kMaxLines" '
    function finish() {
      if (file == "") return
      if (!licensed) { print file ": line 1 (2 after #!) must be the SPDX line"; bad = 1 }
      if (lines > max) { print file ": " lines " lines, at most " max " allowed"; bad = 1 }
    }
    FNR == 1 { finish(); file = FILENAME; licensed = 0; lines = 0; script = /^#!/; ++files }
    FNR == 1 + script && /^(\/\/|#) SPDX-License-Identifier: Apache-2\.0$/ { licensed = 1 }
    { lines = FNR }
    END {
      finish()
      if (!files) { print "no source found: is this the root of the project?"; bad = 1 }
      exit bad
    }'
