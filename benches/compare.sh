#!/usr/bin/env bash
# Server CPU per operation over the Redis protocol: Lariat with one worker and one shard beside redis-server, in interleaved
# runs. Prints the median of each and the median of the paired ratios.
#
#     cargo build --release && benches/compare.sh [rounds] [thousands of operations]
#
# Needs redis-server and redis-benchmark. CPU is what the kernel accounts to the server's threads, so it hardly depends on what
# else the machine does; throughput would.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-3}
thousands=${2:-400}
lariat=${LARIAT:-target/release/lariat}
scratch=$(mktemp -d)
servers=()
trap 'kill "${servers[@]}" 2> /dev/null; wait 2> /dev/null; rm -rf "$scratch"' EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_for() {
    for _ in $(seq 200); do
        if redis-cli -p "$1" ping > /dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "nothing answers on port $1" >&2
    exit 1
}

# Nanoseconds that all threads of a process have run.
cpu_ns() {
    cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

redis_port=$(free_port)
redis-server --port "$redis_port" --bind 127.0.0.1 --save "" --dir "$scratch" > /dev/null &
redis_pid=$!
servers+=("$redis_pid")

lariat_port=$(free_port)
cat > "$scratch/cluster.toml" << END
[[nodes]]
id = "node-1"
http = "127.0.0.1:$(free_port)"
peer = "127.0.0.1:$(free_port)"
redis = "127.0.0.1:$lariat_port"
[node]
workers = 1
shards = 1
[caches.default]
capacity = 1_000_000
max_bytes = "1GiB"
END
LARIAT_LOG=warn "$lariat" node --cluster "$scratch/cluster.toml" &
lariat_pid=$!
servers+=("$lariat_pid")
wait_for "$redis_port"
wait_for "$lariat_port"

# One run against one server: nanoseconds of its CPU per operation.
run() {
    local port=$1 pid=$2 command=$3 pipeline=$4 operations=$5 before after
    before=$(cpu_ns "$pid")
    redis-benchmark -p "$port" -t "$command" -n "$operations" -P "$pipeline" -c 50 -d 64 -r 100000 -q > /dev/null
    after=$(cpu_ns "$pid")
    echo $(((after - before) / operations))
}

median() {
    sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

for port in "$redis_port" "$lariat_port"; do
    redis-benchmark -p "$port" -t set -n 300000 -P 16 -c 50 -d 64 -r 100000 -q > /dev/null
done

echo "| command | pipeline | redis-server, us | lariat, us | ratio |"
echo "|---|---|---|---|---|"
for command in get set; do
    for pipeline in 1 16 64; do
        operations=$((thousands * 1000))
        if [ "$pipeline" -gt 1 ]; then operations=$((operations * 4)); fi
        : > "$scratch/redis" && : > "$scratch/lariat" && : > "$scratch/ratio"
        for _ in $(seq "$rounds"); do
            a=$(run "$redis_port" "$redis_pid" "$command" "$pipeline" "$operations")
            b=$(run "$lariat_port" "$lariat_pid" "$command" "$pipeline" "$operations")
            echo "$a" >> "$scratch/redis"
            echo "$b" >> "$scratch/lariat"
            awk "BEGIN { print $b / $a }" >> "$scratch/ratio"
        done
        printf '| %s | %d | %.2f | %.2f | %.2f |\n' "${command^^}" "$pipeline" \
            "$(awk "BEGIN { print $(median < "$scratch/redis") / 1000 }")" \
            "$(awk "BEGIN { print $(median < "$scratch/lariat") / 1000 }")" \
            "$(median < "$scratch/ratio")"
    done
done
