#!/usr/bin/env bash
# Server CPU per operation over the Redis protocol, in interleaved runs: redis-server, Valkey where it is installed, Lariat with one
# worker and one shard, and Lariat with two of each. Prints the median of each, and the median of the paired ratios to redis-server.
#
#     cargo build --release && benches/compare.sh [rounds] [thousands of operations]
#
# Needs redis-server and redis-benchmark. CPU is what the kernel accounts to the server's threads, so it hardly depends on what
# else the machine does; throughput would. Never compare two workers with one thread: that column is for what the second costs.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-3}
thousands=${2:-400}
lariat=${LARIAT:-target/release/lariat}
scratch=$(mktemp -d)
names=()
ports=()
pids=()
trap 'kill "${pids[@]}" 2> /dev/null; wait 2> /dev/null; rm -rf "$scratch"' EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Nanoseconds that all threads of a process have run.
cpu_ns() {
    cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# Notes a server that was just started, and waits until it answers.
started() {
    names+=("$1") ports+=("$2") pids+=("$3")
    for _ in $(seq 200); do
        if redis-cli -p "$2" ping > /dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "$1 does not answer on port $2" >&2
    exit 1
}

start_redis() {
    local port
    port=$(free_port)
    "$1" --port "$port" --bind 127.0.0.1 --save "" --dir "$scratch" > /dev/null &
    started "$1" "$port" $!
}

start_lariat() {
    local port workers=$1 file="$scratch/cluster-$1.toml"
    port=$(free_port)
    cat > "$file" << END
[[nodes]]
id = "node-1"
http = "127.0.0.1:$(free_port)"
peer = "127.0.0.1:$(free_port)"
redis = "127.0.0.1:$port"
[node]
workers = $workers
shards = $workers
[caches.default]
capacity = 1_000_000
max_bytes = "2GiB"
END
    LARIAT_LOG=warn "$lariat" node --cluster "$file" &
    started "lariat, workers $workers" "$port" $!
}

# Runs redis-benchmark against a server: nanoseconds of its CPU per operation.
run() {
    local server=$1 operations=$2 before after
    shift 2
    before=$(cpu_ns "${pids[server]}")
    redis-benchmark -p "${ports[server]}" -n "$operations" -c 50 -q "$@" > /dev/null
    after=$(cpu_ns "${pids[server]}")
    echo $(((after - before) / operations))
}

median() {
    sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

# One row of the table: a name, a number of operations, and what redis-benchmark is told.
row() {
    local name=$1 operations=$2 server base ns line
    shift 2
    rm -f "$scratch"/ns-* "$scratch"/ratio-*
    for _ in $(seq "$rounds"); do
        for server in "${!names[@]}"; do
            ns=$(run "$server" "$operations" "$@")
            if [ "$server" = 0 ]; then base=$ns; fi
            echo "$ns" >> "$scratch/ns-$server"
            awk "BEGIN { print $ns / $base }" >> "$scratch/ratio-$server"
        done
    done
    line="| $name"
    for server in "${!names[@]}"; do
        line+=$(printf ' | %.2f us' "$(awk "BEGIN { print $(median < "$scratch/ns-$server") / 1000 }")")
        if [ "$server" != 0 ]; then line+=$(printf ' (%.2f)' "$(median < "$scratch/ratio-$server")"); fi
    done
    echo "$line |"
}

start_redis redis-server
if command -v valkey-server > /dev/null; then start_redis valkey-server; fi
start_lariat 1
start_lariat 2
for server in "${!names[@]}"; do
    run "$server" 300000 -t set -P 16 -d 64 -r 100000 > /dev/null
done

header="| command" rule="|---"
for name in "${names[@]}"; do header+=" | $name" rule+="|---"; done
echo "$header |"
echo "$rule|"
operations=$((thousands * 1000))
for command in get set; do
    row "${command^^}" "$operations" -t "$command" -d 64 -r 100000
    row "${command^^}, pipeline 16" $((operations * 4)) -t "$command" -d 64 -r 100000 -P 16
    row "${command^^}, pipeline 64" $((operations * 4)) -t "$command" -d 64 -r 100000 -P 64
done
keys=()
for _ in $(seq 100); do keys+=(key:__rand_int__); done
row "MGET of 100" $((operations / 10)) -r 100000 MGET "${keys[@]}"
for command in set get; do
    row "${command^^} of 16 KiB" $((operations / 4)) -t "$command" -d 16384 -r 1000
    row "${command^^} of 1 MiB" $((operations / 100)) -t "$command" -d 1048576 -r 100
done
