#!/usr/bin/env bash
# What heartbeats cost nodes that nobody asks for anything: CPU and context switches of one node by itself, and of three with the
# usual heartbeats, with a quarter of them and with three times as many.
#
#   cargo build --release && benches/idle.sh [SECONDS]
#
# Each is looked at for SECONDS (20), and all take turns ROUNDS (3) times; figures are medians. CPU is what the kernel accounts to all
# threads of a process, so it hardly depends on what else the machine does. One worker and one shard a node. With a quarter of the
# heartbeats a lease is four times as long, as it has to be, and so is what follows from it. LARIAT is the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
rounds=${ROUNDS:-3}
lariat=${LARIAT:-target/release/lariat}
[ -x "$lariat" ] || { echo "$lariat is missing: cargo build --release" >&2; exit 1; }
scratch=$(mktemp -d)
source benches/compare/servers.sh
trap 'stop_all; rm -rf "$scratch"' EXIT

switches() { cat /proc/"$1"/task/*/status | awk '/ctxt_switches/ { sum += $2 } END { print sum }'; }
per_second() { awk -v n="$1" -v s="$seconds" -v unit="$2" 'BEGIN { print n / unit / s }'; }
median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# Looks at all processes: CPU in us and context switches, a second each, go into files named by $1 and by what they are, the coordinator
# (process $2) or another member: of these the mean.
look() {
    local at who others=$((${#pids[@]} - 1)) cpu=() turns=()
    for at in "${!pids[@]}"; do
        cpu[at]=$(cpu_ns "${pids[at]}") turns[at]=$(switches "${pids[at]}")
    done
    sleep "$seconds"
    local ns=(0 0) count=(0 0)
    for at in "${!pids[@]}"; do
        who=$((at == $2 ? 0 : 1))
        ns[who]=$((ns[who] + $(cpu_ns "${pids[at]}") - cpu[at]))
        count[who]=$((count[who] + $(switches "${pids[at]}") - turns[at]))
    done
    per_second "${ns[0]}" 1000 >> "$scratch/$1-coordinator-cpu"
    per_second "${count[0]}" 1 >> "$scratch/$1-coordinator-switches"
    [ $others != 0 ] || return 0
    per_second "$((ns[1] / others))" 1000 >> "$scratch/$1-member-cpu"
    per_second "$((count[1] / others))" 1 >> "$scratch/$1-member-switches"
}

# Three nodes with a heartbeat every $1 ms.
cluster() {
    local lease=$(($1 > 60 ? $1 * 25 / 6 : 250)) http coordinator
    export LARIAT__CLUSTER__HEARTBEAT_INTERVAL=$1ms LARIAT__CLUSTER__LEASE=${lease}ms \
        LARIAT__CLUSTER__FAILURE_TIMEOUT=$((lease * 4))ms LARIAT__CLUSTER__REQUEST_TIMEOUT=$((lease * 5 + 4000))ms
    start_cluster 3
    sleep 2
    http=$(sed -n 's/^http = "\(.*\)"/\1/p;T;q' "$scratch/cluster.toml")
    coordinator=$("$lariat" status --json --node "http://$http" | grep -o '"coordinator":"node-[0-9]*"' | grep -o '[0-9]*')
    look "$1" $((coordinator - 1))
    stop_all
    unset LARIAT__CLUSTER__HEARTBEAT_INTERVAL LARIAT__CLUSTER__LEASE LARIAT__CLUSTER__FAILURE_TIMEOUT LARIAT__CLUSTER__REQUEST_TIMEOUT
}

beats=(20 60 240)
echo "load of the machine before: $(cut -d' ' -f1-3 /proc/loadavg)"
for _ in $(seq "$rounds"); do
    start_lariat alone 1
    sleep 2
    look alone 0
    stop_all
    for beat in "${beats[@]}"; do cluster "$beat"; done
done
echo "and after: $(cut -d' ' -f1-3 /proc/loadavg)"
echo

figure() { median < "$scratch/$1-$2"; }
line() { printf '%s | %.2f ms | %.0f' "$1" "$(figure "$2" "$3-cpu" | awk '{ print $1 / 1000 }')" "$(figure "$2" "$3-switches")"; }
echo '| | heartbeats every | CPU a second | context switches a second |'
echo '|---|---|---|---|'
echo "$(line '| one node | ' alone coordinator) |"
for who in coordinator member; do
    for beat in "${beats[@]}"; do
        [ $who = coordinator ] && what='the one of three that coordinates' || what='each of the others'
        echo "$(line "| $what | $beat ms" "$beat" $who) |"
    done
done
echo
# Of two rates, so that what does not beat with them falls out.
for who in coordinator member; do
    paste "$scratch/20-$who-cpu" "$scratch/240-$who-cpu" |
        awk '{ print ($1 - $2) / (1000 / 20 - 1000 / 240) }' | median |
        awk -v who=$who '{ printf "a heartbeat, by 20 and 240 ms: %.0f us of the %s'"'"'s CPU\n", $1, who }'
done
