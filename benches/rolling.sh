#!/usr/bin/env bash
# A rolling restart under load: 2,000 operations a second over the Redis protocol through one of the three nodes of
# config/cluster.toml, in an open loop, while others end by SIGTERM and start again, one after the other.
#
#   cargo build --release && benches/rolling.sh [NODE ASKED] [NODES RESTARTED...]
#
# Without arguments node-1 is asked and node-3 and node-2 are restarted. Uses the ports of config/cluster.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
lariat=${LARIAT:-target/release/lariat}
asked=${1:-1}
shift || true
restarted=("${@:-3}")
[ $# -gt 0 ] || restarted=(3 2)
declare -A pids
trap 'kill -9 "${pids[@]}" 2> /dev/null || true' EXIT

start() { LARIAT_LOG=error "$lariat" node --cluster config/cluster.toml --id "node-$1" & pids[$1]=$!; disown $!; }
whole() {
    for _ in $(seq 300); do
        state=$("$lariat" status --json --node "http://127.0.0.1:500$asked" 2> /dev/null || true)
        up=$(grep -o '"state":"up"' <<< "$state" | wc -l || true)
        if [ "$up" = 3 ] && grep -q '"under_replicated_slots":0' <<< "$state"; then return; fi
        sleep 0.1
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

for node in 1 2 3; do start $node; done
whole
"$lariat" bench --redis "127.0.0.1:640$asked" -c 8 --rate 2000 -d 40s --keys 100000 --fill --ratio 1:1 &
load=$!
sleep 5
for node in "${restarted[@]}"; do
    began=$(date +%s%N)
    kill "${pids[$node]}"
    while kill -0 "${pids[$node]}" 2> /dev/null; do sleep 0.02; done
    echo "node-$node has left after $(ms "$began") ms"
    start "$node"
    whole
    echo "node-$node is back and every slot has its copies after $(ms "$began") ms"
    sleep 4
done
wait $load
