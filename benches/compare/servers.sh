# Servers for compare.sh, which sources this: they listen on loopback, on free ports, and are noted in `names`, `ports` and `pids`.
# shellcheck shell=bash disable=SC2154

names=()
ports=()
pids=()

stop_all() {
    kill "${pids[@]}" 2> /dev/null || true
    wait 2> /dev/null || true
    names=() ports=() pids=()
}

has() { command -v "$1" > /dev/null; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Nanoseconds that all threads of these processes have run.
cpu_ns() {
    local pid
    for pid in "$@"; do cat /proc/"$pid"/task/*/schedstat; done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# Notes a server that was just started, and waits until it takes connections.
started() {
    names+=("$1") ports+=("$2") pids+=("$3")
    for _ in $(seq 400); do
        if (exec 3<> "/dev/tcp/127.0.0.1/$2") 2> /dev/null; then return; fi
        sleep 0.05
    done
    echo "$1 does not answer on port $2" >&2
    exit 1
}

# redis-server or valkey-server, with more of its settings.
start_redis() {
    local port program=$1
    shift
    port=$(free_port)
    "$program" --port "$port" --bind 127.0.0.1 --save "" --maxclients 20000 --dir "$scratch" "$@" > /dev/null &
    started "$program" "$port" $!
}

start_memcached() {
    local port
    port=$(free_port)
    memcached -u nobody -l 127.0.0.1 -p "$port" -U 0 -t 1 -c 20000 "$@" &
    started memcached "$port" $!
}

# A node by itself: its name here, its workers and shards, the settings of its cache.
start_lariat() {
    local port file workers=$2
    port=$(free_port)
    file="$scratch/$port.toml"
    cat > "$file" << END
[[nodes]]
id = "node-1"
http = "127.0.0.1:$(free_port)"
peer = "127.0.0.1:$(free_port)"
redis = "127.0.0.1:$port"
[node]
workers = $workers
shards = $workers
max_connections = 20_000
[caches.default]
${3:-capacity = 20_000_000
max_bytes = \"8GiB\"}
END
    LARIAT_LOG=warn "$lariat" node --cluster "$file" &
    started "$1" "$port" $!
}

# Nodes that know each other, with one worker each. Their caches by database: 0 has two copies and waits for both, 1 has two and
# does not wait, 2 has one. Ports for cluster-aware clients go into `cluster_ports`.
start_cluster() {
    local count=$1 file="$scratch/cluster.toml" http=() redis=() node state
    cluster_ports=()
    printf '[cluster]\nname = "compare"\nreplication_factor = 2\n' > "$file"
    for node in $(seq "$count"); do
        http+=("$(free_port)") redis+=("$(free_port)") cluster_ports+=("$(free_port)")
        printf '[[nodes]]\nid = "node-%s"\nhttp = "127.0.0.1:%s"\npeer = "127.0.0.1:%s"\nredis = "127.0.0.1:%s"\nredis_cluster = "127.0.0.1:%s"\n' \
            "$node" "${http[-1]}" "$(free_port)" "${redis[-1]}" "${cluster_ports[-1]}" >> "$file"
    done
    cat >> "$file" << END
[node]
workers = 1
shards = 1
[caches.default]
capacity = 1_000_000
[caches.async]
capacity = 1_000_000
acks = "async"
redis_db = 1
[caches.single]
capacity = 1_000_000
replication_factor = 1
redis_db = 2
END
    for node in $(seq "$count"); do
        LARIAT_LOG=error "$lariat" node --cluster "$file" --id "node-$node" 2>> "$scratch/nodes.log" &
        started "lariat, node $node" "${redis[node - 1]}" $!
    done
    for _ in $(seq 300); do
        state=$("$lariat" status --json --node "http://127.0.0.1:${http[0]}" 2> /dev/null || true)
        if [ "$(grep -o '"state":"up"' <<< "$state" | wc -l)" = "$count" ] \
            && grep -q '"under_replicated_slots":0' <<< "$state"; then return; fi
        sleep 0.1
    done
    echo "the cluster did not become whole" >&2
    exit 1
}
