#!/usr/bin/env bash
# Where the time of a GET goes: shares of a node's CPU by `perf`, grouped, beside the shares that redis-server spends in the kernel.
#
#     cargo build --release && benches/profile.sh [PIPELINE...]
#
# Pipelines 1, 16 and 64 by default. One worker, one shard, 100,000 keys of 64 bytes, 50 connections of redis-benchmark. Needs perf,
# redis-server and python3. Functions that the compiler has put into their callers count as these.
set -euo pipefail
cd "$(dirname "$0")/.."

lariat=${LARIAT:-target/release/lariat}
scratch=$(mktemp -d)
source benches/compare/servers.sh
trap 'stop_all; rm -rf "$scratch"' EXIT
has perf || { echo "perf is missing" >&2; exit 1; }

start_redis redis-server
start_lariat lariat 1
for port in "${ports[@]}"; do
    redis-benchmark -p "$port" -t set -n 400000 -P 64 -r 100000 -d 64 -q > /dev/null
done

# Samples of one server while it answers so many gets.
sample() {
    perf record -q -F 1999 -o "$scratch/perf" -p "${pids[$1]}" -- \
        redis-benchmark -p "${ports[$1]}" -t get -n "$2" -P "$3" -r 100000 -c 50 -q > /dev/null 2>&1
    perf report -i "$scratch/perf" --stdio -F overhead,dso,symbol 2> /dev/null | grep -v '^#'
}

echo "| pipeline | redis-server's kernel | kernel | looking for entries | deciding and writing | commands | runtime and rest |"
echo "|---|---|---|---|---|---|---|"
[ $# -gt 0 ] || set -- 1 16 64
for pipeline in "$@"; do
    count=$((pipeline > 8 ? 4000000 : 400000))
    kernel=$(sample 0 $count "$pipeline" | awk '/kernel|\[k\]/ { sum += $1 } END { printf "%.0f %%", sum }')
    sample 1 $count "$pipeline" | awk -v pipeline="$pipeline" -v redis="$kernel" '
        { share = $1 + 0 }
        /\[k\]/ { kernel += share; next }
        /[Ll]ru|memcmp/ { look += share; next }
        /[Ss]hard/ { decide += share; next }
        /lariat::redis|slot_of/ { commands += share; next }
        { rest += share }
        END {
            printf "| %s | %s | %.0f %% | %.0f %% | %.0f %% | %.0f %% | %.0f %% |\n",
                pipeline, redis, kernel, look, decide, commands, rest
        }'
done
