#!/usr/bin/env bash
# Does the hot set survive? Replays the first half of a trace, then the next 5,000 requests, with something in between.
#
#   benches/hotset.sh TRACE [CAPACITY] [WHAT...]
#
# CAPACITY (2000) is of each node, copies included, and every cluster keeps two copies, or as many as COPIES says. WHAT, all by
# default:
#
#   three    three nodes and nothing in between
#   two      two nodes and nothing in between: as much room as the rows below have afterwards, or before
#   kill     one of three nodes is killed
#   leave    one of three nodes leaves
#   return   two of three nodes, one was killed before the first half, and it comes back
#   join     two nodes, and one that their file does not list joins them
#
# With two copies a cluster of two holds a third less than one of three, and nothing that a node does can make up for that: what `kill` and
# `leave` lose against `two` is lost order, the rest is lost room. `return` and `join` have what two nodes held, and more room from
# then on, once every slot is where the ring wants it.
# Starts nodes on loopback, ports 5951 to 5953 and 7951 to 7953, and ends them.
set -euo pipefail
cd "$(dirname "$0")/.."
trace=${1:?a trace, one key a line}
capacity=${2:-2000}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- three two kill leave return join
lariat=${LARIAT_BIN:-target/release/lariat}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
dir=$(mktemp -d)
pids=()
trap 'kill -9 "${pids[@]}" 2> /dev/null || true; rm -rf "$dir"' EXIT

lines=$(wc -l < "$trace")
head -n $((lines / 2)) "$trace" > "$dir/first"
sed -n "$((lines / 2 + 1)),$((lines / 2 + 5000))p" "$trace" > "$dir/next"
export LARIAT_NODE=http://127.0.0.1:5951

# Writes the cluster file of $1 nodes.
listing() {
    printf '[cluster]\nname = "hotset"\nreplication_factor = %s\n[caches.default]\ncapacity = %s\n' "${COPIES:-2}" "$capacity"
    for i in $(seq "$1"); do
        printf '[[nodes]]\nid = "n%s"\nhttp = "127.0.0.1:595%s"\npeer = "127.0.0.1:795%s"\n' "$i" "$i" "$i"
    done
}
# Starts node $1; what follows are further arguments.
start() {
    "$lariat" node --cluster "$dir/cluster.toml" --id "n$1" "${@:2}" 2> "$dir/n$1.log" & pids[$1]=$!
    disown $!
}
join() { LARIAT_HTTP=127.0.0.1:595$1 LARIAT_PEER=127.0.0.1:795$1 start "$1" --join 127.0.0.1:7951; }
# Waits until the cluster has $1 members that are up and every slot has its copies, and what follows is in its state too.
whole() {
    for _ in $(seq 600); do
        state=$("$lariat" status --json 2> /dev/null || true)
        up=$(grep -o '"state":"up"' <<< "$state" | wc -l || true)
        [ "$up" = "$1" ] && grep -q '"under_replicated_slots":0' <<< "$state" && grep -q "${2:-}" <<< "$state" && return
        sleep 0.1
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
# The same, and every slot is where the ring wants it; that is told as it was seen within the last second.
filled() { whole "$1"; sleep 1.5; whole "$1" '"slots_left":0'; }
ratio() { "$lariat" replay "$1" --json 2> /dev/null | grep -o '"hit_ratio":[0-9.]*' | cut -d: -f2; }
points() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%+.1f points", 100 * (a - b) }'; }

for what in "$@"; do
    nodes=3
    case $what in two | join) nodes=2 ;; esac
    listing $nodes > "$dir/cluster.toml"
    for i in $(seq $nodes); do start "$i"; done
    whole $nodes
    if [ "$what" = return ]; then kill -9 "${pids[3]}"; whole 2; fi
    first=$(ratio "$dir/first")
    case $what in
        three | two) ;;
        kill) kill -9 "${pids[3]}" ;;
        leave) kill "${pids[3]}"; while kill -0 "${pids[3]}" 2> /dev/null; do sleep 0.1; done ;;
        return) start 3; filled 3 ;;
        join) join 3; filled 3 ;;
        *) echo "$what: no such row" >&2; exit 1 ;;
    esac
    next=$(ratio "$dir/next")
    printf '%s: first half %.4f, next 5,000 %.4f' "$what" "$first" "$next"
    [ "$what" = three ] && three=$next
    [ "$what" = two ] && two=$next
    [ -n "${three:-}" ] && printf ', against three %s' "$(points "$next" "$three")"
    [ -n "${two:-}" ] && printf ', against two %s' "$(points "$next" "$two")"
    printf '\n'
    kill -9 "${pids[@]}" 2> /dev/null || true
    while kill -0 "${pids[@]}" 2> /dev/null; do sleep 0.1; done
    pids=()
done
