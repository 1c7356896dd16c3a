#!/usr/bin/env bash
# Is the LRU exact over sockets? Replays web12.trace, one request at a time, through each of the three nodes of
# config/cluster.toml, whose shipped capacity holds all of its 13,756 keys, and on the node of config/single.toml with three
# smaller capacities. Exits 1 unless the misses are those of a textbook LRU, to the last request.
#
#   cargo build --release && benches/replay.sh TRACE
#
# Starts nodes on loopback, ports 5971 to 5973, 6971 to 6973, 6981 to 6983 and 7971 to 7973, and ends them.
set -euo pipefail
cd "$(dirname "$0")/.."
trace=${1:?web12.trace, one key a line}
lariat=${LARIAT:-target/release/lariat}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
[ -r "$trace" ] || { echo "$trace cannot be read" >&2; exit 1; }
dir=$(mktemp -d)
pids=()
trap 'kill -9 "${pids[@]}" 2> /dev/null || true; rm -rf "$dir"' EXIT

# A shipped cluster file, on the ports of this script.
elsewhere() { sed -E 's/:(5|7)00([1-3])"/:\197\2"/; s/:640([1-3])"/:697\1"/; s/:650([1-3])"/:698\1"/' "config/$1.toml"; }
start() { LARIAT_LOG=error "$lariat" node --cluster "$dir/cluster.toml" --id "node-$1" & pids+=($!); disown $!; }
# Waits until $1 members are up and every slot has its copies.
whole() {
    for _ in $(seq 300); do
        state=$("$lariat" status --json --node http://127.0.0.1:5971 2> /dev/null || true)
        up=$(grep -o '"state":"up"' <<< "$state" | wc -l || true)
        if [ "$up" = "$1" ] && grep -q '"under_replicated_slots":0' <<< "$state"; then return; fi
        sleep 0.1
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
stop() {
    kill -9 "${pids[@]}" 2> /dev/null || true
    while kill -0 "${pids[@]}" 2> /dev/null; do sleep 0.02; done
    pids=()
}
# Replays through the node with number $2 and expects $3 misses.
replay() {
    result=$("$lariat" replay "$trace" --clear --json --node "http://127.0.0.1:597$2")
    misses=$(grep -o '"misses":[0-9]*' <<< "$result" | cut -d: -f2)
    echo "$1: $misses misses"
    [ "$misses" = "$3" ] || { echo "$1: expected $3 misses" >&2; wrong=1; }
}

wrong=0
elsewhere cluster > "$dir/cluster.toml"
for node in 1 2 3; do start $node; done
whole 3
for node in 1 2 3; do replay "three nodes, through node-$node" $node 13756; done
stop
while read -r capacity expected; do
    elsewhere single | sed "s/^capacity = .*/capacity = $capacity/" > "$dir/cluster.toml"
    start 1
    whole 1
    replay "one node, capacity $capacity" 1 "$expected"
    stop
done << 'END'
300 48747
1200 31690
3000 22482
END
exit $wrong
