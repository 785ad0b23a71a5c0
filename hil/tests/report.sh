#!/usr/bin/env bash
# Opens a page of runs in a headless browser and compares what is drawn on it with what should be, on
# standard input: a line for each figure, with the runs whose points stand inside its picture.
#
#   hil/tests/report.sh CHROMIUM PAGE.html [PICTURE.png] <<<"Time to first token, ms: this-run run-before"
set -euo pipefail

page=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
browser() {
    "$1" --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
        --window-size=1000,2400 --user-data-dir="$scratch/profile" "${@:2}" 2>/dev/null
}

# Everything is in the page: a board may have no network.
if grep -Eq '(src|href)=' "$page"; then
    echo "$0: the page asks for something from elsewhere" >&2
    exit 1
fi

# The page has no script: this one is put behind it to ask the browser where things have come to stand.
cat "$page" - >"$scratch/page.html" <<'SCRIPT'
<pre id="found"></pre>
<script>
const inside = (one, other) => one.width > 0 && one.height > 0 && one.left >= other.left &&
    one.right <= other.right && one.top >= other.top && one.bottom <= other.bottom;
const box = (element) => element.getBoundingClientRect();
const found = [];
for (const heading of document.querySelectorAll("h2")) {
    const legend = heading.nextElementSibling;
    const picture = legend.nextElementSibling;
    if (legend.className === "absent") found.push(`${heading.textContent}: not told`);
    if (legend.className !== "legend") continue;
    const unit = picture.getAttribute("aria-label").split(", ").pop();
    const words = [...picture.querySelectorAll("text")];
    const runs = ["this-run", "run-before"].filter((run) => {
        const points = [...picture.querySelectorAll(`g.${run} circle, g.${run} rect`)];
        return points.length && points.every((point) => inside(box(point), box(picture))) &&
            inside(box(legend.querySelector(`.${run}`)), box(legend));
    });
    const is_labelled = words.every((word) => inside(box(word), box(picture))) &&
        [unit, "seconds since the run began"].every((label) => words.some((word) => word.textContent === label));
    found.push(`${picture.getAttribute("aria-label")}: ${is_labelled ? "" : "without labels "}${runs.join(" ")}`);
}
document.getElementById("found").textContent = found.join("\n");
</script>
SCRIPT
browser "$1" --dump-dom "file://$scratch/page.html" >"$scratch/shown"
diff --label expected --label drawn -u - <(sed -n '/<pre id="found">/,/<\/pre>/p' "$scratch/shown" | sed 's/.*<pre id="found">//; s/<\/pre>.*//')
[ -z "${3:-}" ] || browser "$1" --screenshot="$3" "file://$page" >/dev/null
