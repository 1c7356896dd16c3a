#!/bin/sh
# The table of docs/reliability.md, all rows in one go: `chaos/table.sh [SHARE] [SEED]`.
#
# SHARE is in percent of the counts below: 100 should take some 28 minutes, 1 does each fault once. Those of clocks need
# libfaketime (apt-get install faketime). Rows go to stdout as
# Markdown, everything else to stderr. Each row has a time of its own after which it is given up. Exit 0: no row was given
# up, and none has a violation. LARIAT_CHAOS is the tool, a release build unless it says otherwise.
set -u

share=${1:-100}
seed=${2:-7}
tool=${LARIAT_CHAOS:-target/release/lariat-chaos}
[ -x "$tool" ] || { echo "no $tool: cargo build --release -p lariat -p lariat-chaos" >&2; exit 2; }
case "$share$seed" in *[!0-9]*) echo "usage: chaos/table.sh [SHARE] [SEED], both numbers" >&2; exit 2 ;; esac
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
bad=0

# row FAULT ACKS RUNS SECONDS-PER-RUN [OPTION...]
row() {
    fault=$1 acks=$2 seconds=$4
    runs=$(( ($3 * share + 99) / 100 ))
    [ "$runs" -gt 0 ] || runs=1
    # A run takes its seconds; twice that and two minutes is a row that hangs.
    limit=$(( runs * seconds * 2 + 120 ))
    shift 4
    timeout "$limit" "$tool" run --seed "$seed" --seconds 5 --fault "$fault" \
        --acks "$acks" --kills "$runs" "$@" >"$out" 2>&1
    code=$?
    cat "$out" >&2
    if [ "$code" -ne 0 ]; then
        bad=1
        echo "$fault, acks $acks: exit $code after at most $limit s, see above" >&2
    fi
    # Only rows of figures: the tool's own heading is printed once, below.
    grep '^| [A-Z]' "$out" || echo "| $fault | $acks | no figures: exit $code | | | | | | | | | |"
}

echo "Commit $(git rev-parse --short HEAD), \`chaos/table.sh $share $seed\`, $(date -u +%F), $(nproc) cores."
echo
echo '| fault | acks | runs | acknowledged | unknown | lost | stale max ms | doubled | resurrected | differing | other | without writes p50 / p99 / max ms |'
echo '|---|---|---|---|---|---|---|---|---|---|---|---|'
row kill all 100 4
for acks in all async; do
    [ "$acks" = all ] || row kill async 20 4
    row coordinator "$acks" 10 5
    row restart "$acks" 10 3
    row pause1 "$acks" 5 4
    row pause5 "$acks" 3 8
    row panic "$acks" 5 3
    row stall "$acks" 5 5
    row two-in-sequence "$acks" 3 8
    row cut "$acks" 5 7
    row cut-one-way "$acks" 6 7
    row bridge "$acks" 5 7
    row flap "$acks" 3 10
    row drain "$acks" 5 4
    row sigterm "$acks" 5 4
done
row pause30 all 2 33
row flap all 3 10 --cut reset
row drain-back all 5 3
row rolling all 3 9
row clock all 5 15
row clock async 3 15
row clock-restart all 3 14
row join all 5 6
row join async 3 6
row kill-importing all 3 8
row kill-joining all 3 8
row kill-giving all 3 6
row kill-coordinating all 3 8
row two-at-once all 2 8
row all all 2 8
row sigterm-all all 2 8
exit "$bad"
