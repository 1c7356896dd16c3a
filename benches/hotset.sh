#!/usr/bin/env bash
# Does the hot set survive? Replays the first half of a trace through three nodes, then the next 5,000 requests, once with
# nothing in between, once after a node was killed, once after one has left, and once after one has come back.
#
#   benches/hotset.sh TRACE [CAPACITY]
#
# CAPACITY (2000) is of each node, copies included. Starts nodes on loopback, ports 5951 to 5953 and 7951 to 7953, and ends them.
set -euo pipefail
cd "$(dirname "$0")/.."
trace=${1:?a trace, one key a line}
capacity=${2:-2000}
lariat=${LARIAT_BIN:-target/release/lariat}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
dir=$(mktemp -d)
pids=()
trap 'kill -9 "${pids[@]}" 2> /dev/null || true; rm -rf "$dir"' EXIT

lines=$(wc -l < "$trace")
head -n $((lines / 2)) "$trace" > "$dir/first"
sed -n "$((lines / 2 + 1)),$((lines / 2 + 5000))p" "$trace" > "$dir/next"
{
    printf '[cluster]\nname = "hotset"\nreplication_factor = 2\n[caches.default]\ncapacity = %s\n' "$capacity"
    for i in 1 2 3; do
        printf '[[nodes]]\nid = "n%s"\nhttp = "127.0.0.1:595%s"\npeer = "127.0.0.1:795%s"\n' $i $i $i
    done
} > "$dir/cluster.toml"
export LARIAT_NODE=http://127.0.0.1:5951

start() { "$lariat" node --cluster "$dir/cluster.toml" --id "n$1" 2> "$dir/n$1.log" & pids[$1]=$!; disown $!; }
# Waits until the cluster has $1 members that are up and every slot has its copies.
whole() {
    for _ in $(seq 600); do
        state=$("$lariat" status --json 2> /dev/null || true)
        up=$(grep -o '"state":"up"' <<< "$state" | wc -l || true)
        [ "$up" = "$1" ] && grep -q '"under_replicated_slots":0' <<< "$state" && return
        sleep 0.1
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
ratio() { "$lariat" replay "$1" --json | grep -o '"hit_ratio":[0-9.]*' | cut -d: -f2; }

for what in nothing kill leave return; do
    for i in 1 2 3; do start $i; done
    whole 3
    if [ $what = return ]; then kill -9 "${pids[3]}"; whole 2; fi
    first=$(ratio "$dir/first")
    case $what in
        kill) kill -9 "${pids[3]}" ;;
        leave) kill "${pids[3]}"; while kill -0 "${pids[3]}" 2> /dev/null; do sleep 0.1; done ;;
        return) start 3; whole 3; sleep 3 ;;
    esac
    echo "$what: first half $first, next 5,000 $(ratio "$dir/next")"
    kill -9 "${pids[@]}" 2> /dev/null || true
    while kill -0 "${pids[@]}" 2> /dev/null; do sleep 0.1; done
    pids=()
done
