#!/usr/bin/env bash
# Opens a report in a headless browser and looks for its plots in what the browser made of it.
#
#   hil/tests/report.sh CHROMIUM REPORT.html
set -euo pipefail

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
shown=$("$1" --headless --no-sandbox --disable-gpu --disable-background-networking \
    --user-data-dir="$profile" --dump-dom "file://$(realpath "$2")" 2>/dev/null)
for plot in "Time to first token, ms" "Tokens a second" "Memory, MB"; do
    grep -q "<svg role=\"img\" aria-label=\"$plot\".*<circle" <<<"$shown" || {
        echo "$0: the browser shows no plot of: $plot" >&2
        exit 1
    }
done
# Everything is in the page: a board may have no network.
if grep -Eq '(src|href)=' <<<"$shown"; then
    echo "$0: the page asks for something from elsewhere" >&2
    exit 1
fi
