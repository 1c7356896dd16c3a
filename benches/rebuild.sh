#!/usr/bin/env bash
# How long is a node filled again, how much travels, and what do requests notice? Three nodes with two copies hold
# ENTRIES x 3 / 2 keys of 16 B with values of 64 B, so ENTRIES each. 2,000 operations a second, half of them writes, go over the
# Redis protocol through the first node in an open loop, while nothing happens, while the third is killed and the others make
# the copies that are missing, and while it starts again and is filled with its ENTRIES.
#
#   cargo build --release && benches/rebuild.sh [ENTRIES] [SECONDS]
#
# ENTRIES is 1000000, SECONDS, for which each load goes on, 20. Starts nodes on loopback, ports 5961 to 5963, 6961 to 6963 and
# 7961 to 7963, and ends them.
set -euo pipefail
cd "$(dirname "$0")/.."
entries=${1:-1000000}
seconds=${2:-20}
keys=$((entries * 3 / 2))
lariat=${LARIAT:-target/release/lariat}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
dir=$(mktemp -d)
declare -A pids
trap 'kill -9 "${pids[@]}" 2> /dev/null || true; rm -rf "$dir"' EXIT

{
    printf '[cluster]\nname = "rebuild"\nreplication_factor = 2\n[caches.default]\ncapacity = %s\n' $((entries * 2))
    for i in 1 2 3; do
        printf '[[nodes]]\nid = "n%s"\nhttp = "127.0.0.1:596%s"\npeer = "127.0.0.1:796%s"\nredis = "127.0.0.1:696%s"\n' $i $i $i $i
    done
} > "$dir/cluster.toml"

start() { LARIAT_LOG=error "$lariat" node --cluster "$dir/cluster.toml" --id "n$1" & pids[$1]=$!; disown $!; }
# Waits until $1 members are up, and every slot has its copies and is where the ring wants it.
whole() {
    for _ in $(seq 3000); do
        state=$("$lariat" status --json --node http://127.0.0.1:5961 2> /dev/null || true)
        up=$(grep -o '"state":"up"' <<< "$state" | wc -l || true)
        [ "$up" = "$1" ] && grep -q '"under_replicated_slots":0' <<< "$state" && grep -q '"slots_left":0' <<< "$state" && return
        sleep 0.02
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
# Of the first two nodes, which nothing happens to: bytes of imports that they sent.
sent() {
    for i in 1 2; do curl -s "http://127.0.0.1:596$i/metrics"; done |
        awk '/^lariat_import_bytes_total/ { bytes += $2 } END { printf "%d", bytes }'
}
entries_of() { curl -s "http://127.0.0.1:596$1/metrics" | awk '/^lariat_curr_items[{ ]/ { n += $2 } END { printf "%d", n }'; }
figure() { grep -o '"latency_us":{[^}]*}' "$dir/load" | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }

# phase WHAT MEMBERS COMMAND...: puts the load on, does something after a second, waits until the cluster has that many
# members and is whole, and until the load has ended.
phase() {
    what=$1 members=$2
    shift 2
    "$lariat" bench --redis 127.0.0.1:6961 -c 8 --rate 2000 -d "${seconds}s" --keys "$keys" --ratio 1:1 --json > "$dir/load" &
    load=$!
    sleep 1
    before=$(sent) began=$(date +%s%N)
    "$@"
    whole "$members"
    took=$((($(date +%s%N) - began) / 1000000))
    bytes=$(($(sent) - before))
    errors=0
    wait $load || errors=1
    printf '| %s | %s ms | %s MB | %s | %s | %s | %s | %s |\n' "$what" "$took" "$(awk -v b=$bytes 'BEGIN { printf "%.0f", b / 1e6 }')" \
        "$(entries_of 1)" "$(figure p50)" "$(figure p99)" "$(figure p999)" "$(figure max)"
    [ $errors = 0 ] || { echo "$what: errors:"; cat "$dir/load"; }
}

for node in 1 2 3; do start $node; done
whole 3
"$lariat" bench --redis 127.0.0.1:6961 -c 8 -P 32 --keys "$keys" --fill -n 1000 > /dev/null
echo "$keys keys, entries of each node: $(entries_of 1), $(entries_of 2), $(entries_of 3)"
echo
echo '| meanwhile | whole again after | sent | entries of the first node | p50 us | p99 us | p99.9 us | longest us |'
echo '|---|---|---|---|---|---|---|---|'
phase 'nothing' 3 true
phase 'the third is killed' 2 kill -9 "${pids[3]}"
phase 'it starts again and is filled' 3 start 3
echo
echo "entries of the node that was filled: $(entries_of 3)"
