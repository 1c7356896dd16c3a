#!/usr/bin/env bash
# The ratio tables of docs/performance.md: Lariat beside redis-server, Valkey where it is installed, and memcached, in interleaved runs.
#
#     cargo build --release && benches/compare.sh [SECTION...]
#
# Sections, all of them by default: get set mget large workers memcached memory churn eviction growth expiry connections replication
# forwarding idle syscalls rest. ROUNDS (3) is how often all take turns, SCALE (100) per cent of the operations: the whole takes more than
# half an hour, with ROUNDS=1 SCALE=5 a few. LARIAT is the binary. The tables are beside redis-server 7.0.15: another version is refused
# unless REDIS_VERSION says that it is wanted.
#
# Needs redis-server with redis-benchmark, python3, and memcached and webdis for their rows (Debian has all). CPU is what the kernel
# accounts to the server's threads, so it hardly depends on what else the machine does; throughput and latency do. A figure in
# brackets is the median of the ratios of each round to the first column. Never compare two workers with one thread.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-3}
scale=${SCALE:-100}
lariat=${LARIAT:-target/release/lariat}
redis_version=${REDIS_VERSION:-7.0.15}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
scratch=$(mktemp -d)
ulimit -n 65536 2> /dev/null || ulimit -n "$(ulimit -Hn)"
source benches/compare/servers.sh
trap 'stop_all; rm -rf "$scratch"' EXIT

check_redis() {
    local found
    found=$(redis-server --version 2> /dev/null | sed -n 's/.* v=\([^ ]*\).*/\1/p') || true
    if [ "$found" != "$redis_version" ]; then
        echo "redis-server is ${found:-missing}, not $redis_version; for another version set REDIS_VERSION" >&2
        exit 1
    fi
    echo "redis-server $found"
}

operations() { echo $(($1 * scale / 100 > 1000 ? $1 * scale / 100 : 1000)); }
median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
us() { awk "BEGIN { printf \"%.2f us\", $1 / 1000 }"; }
resident_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
heading() { printf '\n**%s**\n\n' "$1"; }

# redis-server, Valkey, and Lariat with one worker and one shard.
start_usual() {
    start_redis redis-server
    if has valkey-server; then start_redis valkey-server; fi
    start_lariat lariat 1
}

# Runs something against a server, by its number: nanoseconds of its CPU for each operation.
cost() {
    local server=$1 count=$2 before
    shift 2
    before=$(cpu_ns "${pids[server]}")
    "$@" > "$scratch/out"
    echo $((($(cpu_ns "${pids[server]}") - before) / count))
}
redis_load() { redis-benchmark -p "${ports[$1]}" -n "$2" -c 50 -q "${@:3}"; }
own_load() {
    local how=--redis
    if [ "${names[$1]}" = memcached ]; then how=--memcached; fi
    "$lariat" bench "$how" "127.0.0.1:${ports[$1]}" -n "$2" "${@:3}"
}

# Notes some figures of a server, by its number, in one round.
note() {
    local server=$1 at=0 figure
    shift
    for figure in "$@"; do
        echo "$figure" >> "$scratch/noted-$server-$at"
        at=$((at + 1))
    done
}
# The median of one of them, by its place.
noted() { median < "$scratch/noted-$1-$2"; }

header() {
    local line="| $1" rule="|---" name
    for name in "${names[@]}"; do line+=" | $name" rule+="|---"; done
    printf '%s |\n%s|\n' "$line" "$rule"
}

# One row: a name, a number of operations, and with what (redis_load or own_load) and how they are sent.
row() {
    local name=$1 count load=$3 server base ns line
    count=$(operations "$2")
    shift 3
    rm -f "$scratch"/ns-* "$scratch"/ratio-*
    for _ in $(seq "$rounds"); do
        for server in "${!names[@]}"; do
            ns=$(cost "$server" "$count" "$load" "$server" "$count" "$@")
            if [ "$server" = 0 ]; then base=$ns; fi
            echo "$ns" >> "$scratch/ns-$server"
            awk "BEGIN { print $ns / $base }" >> "$scratch/ratio-$server"
        done
    done
    line="| $name"
    for server in "${!names[@]}"; do
        line+=" | $(us "$(median < "$scratch/ns-$server")")"
        if [ "$server" != 0 ]; then line+=$(printf ' (%.2f)' "$(median < "$scratch/ratio-$server")"); fi
    done
    echo "$line |"
}

fill() {
    local server
    for server in "${!names[@]}"; do redis_load "$server" 300000 -t set -P 16 -d 64 -r 100000 > /dev/null; done
}

pipelines() {
    start_usual
    fill
    heading "${1^^}, server CPU per operation"
    header pipeline
    row 1 300000 redis_load -t "$1" -d 64 -r 100000
    row 16 1500000 redis_load -t "$1" -d 64 -r 100000 -P 16
    row 64 1500000 redis_load -t "$1" -d 64 -r 100000 -P 64
}
section_get() { pipelines get; }
section_set() { pipelines set; }

section_mget() {
    local keys=()
    start_usual
    fill
    for _ in $(seq 100); do keys+=(key:__rand_int__); done
    heading "MGET of 100, server CPU per command"
    header command
    row "MGET of 100" 40000 redis_load -r 100000 MGET "${keys[@]}"
}

section_large() {
    local command
    start_usual
    heading "Large values, server CPU per operation"
    header command
    for command in set get; do
        row "${command^^} of 16 KiB" 60000 redis_load -t "$command" -d 16384 -r 1000
        row "${command^^} of 1 MiB" 2000 redis_load -t "$command" -d 1048576 -r 100
    done
}

# What a second worker costs, and what it brings: the load shares the machine's cores with the node.
section_workers() {
    local pipeline server
    start_lariat "1 worker" 1
    start_lariat "2 workers" 2
    fill
    heading "GET, one worker and two: server CPU per operation, then thousand operations a second"
    header pipeline
    for pipeline in 1 16; do
        row "$pipeline" $((pipeline == 1 ? 300000 : 1500000)) redis_load -t get -d 64 -r 100000 -P "$pipeline"
        rm -f "$scratch"/rate-*
        for _ in $(seq "$rounds"); do
            for server in 0 1; do
                redis_load "$server" "$(operations $((pipeline == 1 ? 300000 : 1500000)))" -t get -d 64 -r 100000 -P "$pipeline" --csv \
                    | awk -F'"' '/GET/ { print $4 / 1000 }' >> "$scratch/rate-$server"
            done
        done
        printf '| %s, thousand/s | %.0f | %.0f |\n' "$pipeline" "$(median < "$scratch/rate-0")" "$(median < "$scratch/rate-1")"
    done
}

# By `lariat bench`, which speaks both protocols.
section_memcached() {
    local pipeline
    has memcached || { echo "memcached is not installed"; return; }
    start_memcached -m 1024
    start_redis redis-server
    start_lariat lariat 1
    for server in "${!names[@]}"; do own_load "$server" 1 --fill > /dev/null; done
    heading "Beside memcached, server CPU per operation"
    header command
    for pipeline in 1 16 64; do
        row "get, pipeline $pipeline" $((pipeline == 1 ? 200000 : 1000000)) own_load -P $pipeline --ratio 1:0
        row "set, pipeline $pipeline" $((pipeline == 1 ? 200000 : 1000000)) own_load -P $pipeline --ratio 0:1
    done
}

section_memory() {
    local server entries line before=()
    entries=$(operations 1000000)
    if has memcached; then start_memcached -m 4096; fi
    start_usual
    heading "Resident bytes an entry beyond key and value, $entries entries of 16 B and 64 B"
    header "time to live"
    for ttl in none 1h; do
        if [ $ttl = 1h ]; then
            stop_all
            if has memcached; then start_memcached -m 4096; fi
            start_usual
        fi
        line="| $ttl"
        for server in "${!names[@]}"; do
            own_load "$server" 1 --keys 1 --ratio 0:1 > /dev/null
            before[server]=$(resident_kb "${pids[server]}")
            if [ $ttl = none ]; then
                own_load "$server" 1000 --keys "$entries" --fill > /dev/null
            else
                own_load "$server" 1000 --keys "$entries" --fill --ttl $ttl > /dev/null
            fi
            line+=$(awk "BEGIN { printf \" | %.1f B\", ($(resident_kb "${pids[server]}") - ${before[server]}) * 1024 / $entries - 80 }")
        done
        echo "$line |"
    done
}

# Samples of what a server has resident, until it is killed.
watch_resident() { while sleep 0.02; do resident_kb "$1"; done; }

# What is resident while large values come and go; memcached finds no room for some.
section_churn() {
    local server connections count line watch
    count=$(operations 2500)
    start_redis redis-server --maxmemory 512mb --maxmemory-policy allkeys-lru
    start_lariat lariat 1 $'capacity = 20_000_000\nmax_bytes = "512MiB"\nmax_value = "4MiB"'
    heading "Resident, of a bound of 512 MiB, while $count values of 32 KiB to 2 MiB are set: median and most"
    header connections
    for connections in 1 50; do
        line="| $connections"
        for server in "${!names[@]}"; do
            watch_resident "${pids[server]}" > "$scratch/resident" &
            watch=$!
            own_load "$server" "$count" -c "$connections" --ratio 0:1 --value-size 32KiB-2MiB > /dev/null
            kill "$watch"
            wait "$watch" 2> /dev/null || true
            line+=$(sort -n "$scratch/resident" | awk '{ all[NR] = $1 / 524288 }
                END { printf " | %.2f, %.2f", all[int((NR + 1) / 2)], all[NR] }')
        done
        echo "$line |"
    done
}

# Every set of a new key throws another out. Redis evicts the oldest of five it looks at, Lariat the oldest.
section_eviction() {
    local server
    start_redis redis-server --maxmemory 64mb --maxmemory-policy allkeys-lru
    if has valkey-server; then start_redis valkey-server --maxmemory 64mb --maxmemory-policy allkeys-lru; fi
    start_lariat lariat 1 $'capacity = 20_000_000\nmax_bytes = "64MiB"'
    for server in "${!names[@]}"; do own_load "$server" 1 --keys 1000000 --fill > /dev/null; done
    heading "Eviction churn: SET of new keys at a bound of 64 MiB, server CPU per operation"
    header pipeline
    row 1 300000 redis_load -t set -d 64 -r 1000000000
    row 16 1000000 redis_load -t set -d 64 -r 1000000000 -P 16
    row 64 1000000 redis_load -t set -d 64 -r 1000000000 -P 64
}

# The longest that a client waits for a set while a server grows to 10 million entries.
section_growth() {
    local server entries known us
    entries=$(operations 10000000)
    heading "Growing to $entries entries, SET latency of 10 connections at pipeline 8: medians of $rounds rounds"
    rm -f "$scratch"/noted-*
    for _ in $(seq "$rounds"); do
        start_usual
        known=("${names[@]}")
        for server in "${!names[@]}"; do
            # Of twice as many keys that are asked for at random, 1.39 times as many sets leave half.
            own_load "$server" $((entries * 139 / 100)) -c 10 -P 8 --keys $((2 * entries)) --ratio 0:1 --json > "$scratch/growth"
            latencies set "$scratch/growth" > "$scratch/latencies"
            read -r -a us < "$scratch/latencies"
            note "$server" "$(redis-cli -p "${ports[server]}" dbsize)" "${us[@]}"
            # One at a time: both together are some gigabytes.
            kill "${pids[server]}"
        done
        stop_all
    done
    echo "| server | entries | p50 | p99.9 | longest |"
    echo "|---|---|---|---|---|"
    for server in "${!known[@]}"; do
        echo "| ${known[server]} | $(noted "$server" 0) | $(noted "$server" 1) us | $(noted "$server" 3) us | $(noted "$server" 4) ms |"
    done
}

# What `lariat bench --json` measured of sets or gets: p50, p99, p99.9 in microseconds, the longest in milliseconds.
latencies() {
    python3 - "$@" << 'END'
import json, sys
us = json.load(open(sys.argv[2]))[f"{sys.argv[1]}_latency_us"]
print(us["p50"], us["p99"], us["p999"], f"{us['max'] / 1000:.1f}")
END
}

# Five million keys that expire within ten seconds while gets go on.
section_expiry() {
    local server entries known cpu began took us
    entries=$(operations 5000000)
    heading "$entries keys expire within 10 s, under 2,000 GETs a second: medians of $rounds rounds"
    rm -f "$scratch"/noted-*
    for _ in $(seq "$rounds"); do
        start_usual
        known=("${names[@]}")
        for server in "${!names[@]}"; do
            python3 benches/compare/expiring.py "${ports[server]}" "$entries"
            cpu=$(cpu_ns "${pids[server]}")
            began=$(date +%s%N)
            "$lariat" bench --redis "127.0.0.1:${ports[server]}" --rate 2000 -d 12s --keys "$entries" --ratio 1:0 --json > "$scratch/expiry" &
            local load=$!
            while [ "$(redis-cli -p "${ports[server]}" dbsize)" != 0 ] && [ $(($(date +%s%N) - began)) -lt 120000000000 ]; do sleep 0.2; done
            took=$((($(date +%s%N) - began) / 1000000))
            wait $load
            cpu=$(($(cpu_ns "${pids[server]}") - cpu))
            latencies get "$scratch/expiry" > "$scratch/latencies"
            read -r -a us < "$scratch/latencies"
            note "$server" "$(awk "BEGIN { printf \"%.2f\", $cpu / 1e9 }")" "$(awk "BEGIN { printf \"%.1f\", $took / 1e3 }")" "${us[@]}"
            kill "${pids[server]}"
        done
        stop_all
    done
    echo "| server | CPU for expiry and GETs | last key gone after | GET p50 | p99 | longest |"
    echo "|---|---|---|---|---|---|"
    for server in "${!known[@]}"; do
        echo "| ${known[server]} | $(noted "$server" 0) s | $(noted "$server" 1) s | $(noted "$server" 2) us | $(noted "$server" 3) us | $(noted "$server" 5) ms |"
    done
}

section_connections() {
    local server line before
    if has memcached; then start_memcached -m 1024; fi
    start_usual
    heading "5,000 connections: resident memory of an idle one, then server CPU per GET when all of them ask"
    header what
    line="| idle"
    for server in "${!names[@]}"; do
        before=$(resident_kb "${pids[server]}")
        python3 - "${ports[server]}" > "$scratch/opened" << 'END' &
import socket, sys, time
streams = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(5000)]
print("opened", flush=True)
time.sleep(600)
END
        local opener=$!
        until grep -q opened "$scratch/opened" 2> /dev/null; do kill -0 $opener; sleep 0.1; done
        sleep 0.5
        line+=$(awk "BEGIN { printf \" | %.1f KB\", ($(resident_kb "${pids[server]}") - $before) * 1.024 / 5000 }")
        kill $opener
        wait $opener 2> /dev/null || true
        rm -f "$scratch/opened"
    done
    echo "$line |"
    for server in "${!names[@]}"; do own_load "$server" 1 --fill > /dev/null; done
    row "GET, 5,000 connections" 200000 own_load -c 5000 --ratio 1:0
}

# Adds a case to the next table of closed.py: a name, the operation, the database, the port, the servers that are counted.
closed_case() { cases+=("$1|$2|$3|$4|${*:5}"); }

# The table: CPU with 50 connections, latency with one. The ratio is to the first case.
closed_table() {
    local at count before ns base name what database port counted latency
    count=$(operations 40000)
    rm -f "$scratch"/closed-*
    for _ in $(seq "$rounds"); do
        for at in "${!cases[@]}"; do
            IFS='|' read -r name what database port counted <<< "${cases[at]}"
            read -r -a counted <<< "$counted"
            before=$(cpu_ns "${counted[@]}")
            python3 benches/compare/closed.py "$what" "$port" "$database" 50 "$count" < "$scratch/keys" > /dev/null
            ns=$((($(cpu_ns "${counted[@]}") - before) / count))
            if [ "$at" = 0 ]; then base=$ns; fi
            echo "$ns" >> "$scratch/closed-ns-$at"
            awk "BEGIN { print $ns / $base }" >> "$scratch/closed-ratio-$at"
            python3 benches/compare/closed.py "$what" "$port" "$database" 1 "$(operations 5000)" < "$scratch/keys" > "$scratch/latency"
            read -r -a latency < "$scratch/latency"
            echo "${latency[0]}" >> "$scratch/closed-p50-$at"
            echo "${latency[1]}" >> "$scratch/closed-p99-$at"
        done
    done
    printf '| operation | CPU, all processes | latency p50 | p99 |\n|---|---|---|---|\n'
    for at in "${!cases[@]}"; do
        printf '| %s | %s (%.2f) | %s us | %s us |\n' "${cases[at]%%|*}" "$(us "$(median < "$scratch/closed-ns-$at")")" \
            "$(median < "$scratch/closed-ratio-$at")" "$(median < "$scratch/closed-p50-$at")" "$(median < "$scratch/closed-p99-$at")"
    done
    cases=()
}
cases=()

# What strace counts, for each operation; a write wakes another thread of the node.
section_syscalls() {
    local pipeline server line count tracer
    has strace || { echo "strace is not installed"; return; }
    start_redis redis-server
    start_lariat lariat 1
    start_lariat "lariat, 2 workers" 2
    fill
    heading "System calls for each GET"
    header pipeline
    for pipeline in 1 16 64; do
        count=$(operations $((pipeline * 20000)))
        line="| $pipeline"
        for server in "${!names[@]}"; do
            strace -f -c -p "${pids[server]}" -o "$scratch/calls" 2> /dev/null &
            tracer=$!
            sleep 0.5
            redis_load "$server" "$count" -t get -d 64 -r 100000 -P "$pipeline" > /dev/null
            kill -INT $tracer
            wait $tracer || true
            line+=" | $(awk -v count="$count" '$4 ~ /^[0-9]+$/ && $NF != "total" && $4 / count >= 0.0005 {
                printf "%s%s %.3f", separator, $NF, $4 / count; separator = ", " }' "$scratch/calls")"
        done
        echo "$line |"
    done
}

# Requests go to the primary of their keys: what is added is the copy.
section_replication() {
    start_redis redis-server
    start_redis redis-server
    redis-cli -p "${ports[1]}" replicaof 127.0.0.1 "${ports[0]}" > /dev/null
    start_redis redis-server
    start_lariat lariat 1
    start_cluster 2
    for _ in $(seq 100); do
        if redis-cli -p "${ports[1]}" info replication | grep -q master_link_status:up; then break; fi
        sleep 0.1
    done
    python3 benches/compare/closed.py keys "${cluster_ports[0]}" 10000 > "$scratch/keys"
    heading "Replicated writes: 50 connections for CPU, one connection for latency, 64 bytes"
    closed_case "redis-server alone, SET" set 0 "${ports[2]}" "${pids[2]}"
    closed_case "redis-server and a replica, SET" set 0 "${ports[0]}" "${pids[0]}" "${pids[1]}"
    closed_case "redis-server and a replica, SET and WAIT 1" wait 0 "${ports[0]}" "${pids[0]}" "${pids[1]}"
    closed_case "lariat alone, SET" set 0 "${ports[3]}" "${pids[3]}"
    closed_case "lariat, two nodes, one copy, SET" set 2 "${ports[4]}" "${pids[4]}" "${pids[5]}"
    closed_case "lariat, two copies, acks = async, SET" set 1 "${ports[4]}" "${pids[4]}" "${pids[5]}"
    closed_case "lariat, two copies, acks = all, SET" set 0 "${ports[4]}" "${pids[4]}" "${pids[5]}"
    closed_table
    heading "Reads beside them"
    closed_case "redis-server alone, GET" get 0 "${ports[2]}" "${pids[2]}"
    closed_case "lariat alone, GET" get 0 "${ports[3]}" "${pids[3]}"
    closed_case "lariat, two nodes, one copy, GET" get 2 "${ports[4]}" "${pids[4]}" "${pids[5]}"
    closed_case "lariat, two copies, GET" get 0 "${ports[4]}" "${pids[4]}" "${pids[5]}"
    closed_table
}

section_forwarding() {
    start_cluster 2
    python3 benches/compare/closed.py keys "${cluster_ports[0]}" 10000 > "$scratch/keys"
    heading "Going to the owner, and being forwarded there: 50 connections for CPU, one for latency"
    local what
    for what in set get; do
        closed_case "${what^^} at the owner" $what 2 "${ports[0]}" "${pids[@]}"
        closed_case "${what^^} through the other node" $what 2 "${ports[1]}" "${pids[@]}"
    done
    closed_table
}

section_idle() {
    local server before line seconds=10
    start_redis redis-server
    if has memcached; then start_memcached; fi
    start_lariat lariat 1
    start_cluster 3
    sleep 2
    heading "CPU of an idle server"
    header "what"
    for server in "${!names[@]}"; do before[server]=$(cpu_ns "${pids[server]}"); done
    sleep $seconds
    line="| ms a second"
    for server in "${!names[@]}"; do
        line+=$(awk "BEGIN { printf \" | %.2f\", ($(cpu_ns "${pids[server]}") - ${before[server]}) / 1e6 / $seconds }")
    done
    echo "$line |"
}

# REST beside an actix-web handler and webdis.
section_rest() {
    heading "A request over HTTP"
    cargo bench --quiet --bench node -- cpu
}

sections=("$@")
if [ $# = 0 ]; then
    sections=(get set mget large workers memcached memory churn eviction growth expiry connections replication forwarding idle syscalls rest)
fi
check_redis
for section in "${sections[@]}"; do
    declare -F "section_$section" > /dev/null || { echo "there is no section '$section'" >&2; exit 2; }
    "section_$section"
    stop_all
done
