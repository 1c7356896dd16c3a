"""redis-py against Lariat: one node, one node of a cluster, and a cluster-aware client, while a node is killed."""

import sys
import time

import redis
from redis.cluster import ClusterNode, RedisCluster

PATIENCE_S = 20


def check(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


def strings(r, k):
    """Strings: 26 commands."""
    check(r.set(k("a"), "1"), True)
    check(r.get(k("a")), b"1")
    check(r.set(k("a"), "2", nx=True), None)
    check(r.set(k("a"), "2", xx=True, get=True), b"1")
    check(r.set(k("a"), "3", ex=100), True)
    check(r.setnx(k("b"), "x"), True)
    check(r.set(k("c"), "y", px=100_000), True)
    check(r.psetex(k("d"), 100_000, "z"), True)
    check(r.getset(k("b"), "w"), b"x")
    check(r.getex(k("d"), persist=True), b"z")
    check(r.getdel(k("d")), b"z")
    check(r.mset({k("e"): "1", k("f"): "2"}), True)
    check(r.mget(k("e"), k("f"), k("none")), [b"1", b"2", None])
    check(r.msetnx({k("e"): "9", k("g"): "9"}), False)
    check(r.append(k("e"), "23"), 3)
    check(r.strlen(k("e")), 3)
    check(r.getrange(k("e"), 1, -1), b"23")
    check(r.substr(k("e"), 0, 0), b"1")
    check(r.setrange(k("e"), 2, "XYZ"), 5)
    check(r.get(k("e")), b"12XYZ")
    check(r.incr(k("n")), 1)
    check(r.incrby(k("n"), 41), 42)
    check(r.decr(k("n")), 41)
    check(r.decrby(k("n"), 1), 40)
    check(r.incrbyfloat(k("n"), 0.5), 40.5)
    value = bytes(range(256)) * 300
    check(r.set(k("bin"), value), True)
    check(r.get(k("bin")), value)


def keys(r, k):
    """Keys and their times: 24 commands."""
    check(r.exists(k("a"), k("b"), k("none")), 2)
    check(r.type(k("a")), b"string")
    check(r.touch(k("a"), k("b")), 2)
    check(r.rename(k("b"), k("h")), True)
    check(r.renamenx(k("h"), k("a")), False)
    check(r.copy(k("h"), k("i")), True)
    check(r.delete(k("h"), k("i")), 2)
    check(r.unlink(k("c")), 1)
    check(r.expire(k("e"), 100), True)
    check(r.expire(k("e"), 50, gt=True), False)
    check(90 < r.ttl(k("e")) <= 100, True)
    check(90_000 < r.pttl(k("e")) <= 100_000, True)
    check(r.persist(k("e")), True)
    check(r.ttl(k("e")), -1)
    check(r.ttl(k("none")), -2)
    check(r.pexpire(k("e"), 100_000), True)
    later = int(time.time()) + 1000
    check(r.expireat(k("e"), later), True)
    check(abs(r.expiretime(k("e")) - later) <= 1, True)
    check(r.pexpireat(k("e"), later * 1000), True)
    check(abs(r.pexpiretime(k("e")) - later * 1000) <= 1000, True)
    check(r.object("encoding", k("f")), b"int")
    check(r.memory_usage(k("f")) > 0, True)
    check(sorted(r.scan_iter(match=k("[ef]"), count=100)), [k("e").encode(), k("f").encode()])
    try:
        r.lpush(k("list"), "x")
        raise AssertionError("LPUSH should be refused")
    except redis.RedisError as error:
        # A cluster-aware client sees for itself that there is no such command.
        check("not supported" in str(error) or "doesn't exist" in str(error), True)


def node(r, k):
    """What tools ask a node for: 9 commands."""
    check(r.ping(), True)
    check(r.echo("hello"), b"hello")
    check(r.info("server")["redis_version"], "7.2.4")
    check(len(r.time()), 2)
    check(r.client_setname("py"), True)
    check(r.client_getname() in (b"py", "py"), True)
    check(r.client_id() > 0, True)
    check("get" in r.command(), True)
    check(r.config_get("maxmemory-policy"), {"maxmemory-policy": "allkeys-lru"})


def pipeline(r, k):
    """A pipeline is answered in order."""
    with r.pipeline(transaction=False) as p:
        for i in range(200):
            p.set(k(f"p{i}"), i)
        for i in range(200):
            p.get(k(f"p{i}"))
        check(p.execute()[200:], [str(i).encode() for i in range(200)])


def all_of(r, name, is_cluster):
    k = lambda key: f"{{{name}}}{key}"
    strings(r, k)
    keys(r, k)
    if not is_cluster:
        node(r, k)
    pipeline(r, k)
    check(r.dbsize() >= 200, True)
    flushed = r.flushall()
    check(all(flushed.values()) if is_cluster else flushed, True)
    check(r.dbsize(), 0)


def until(what, act):
    """Tries until it does not fail: during a failover commands may."""
    end = time.time() + PATIENCE_S
    while True:
        try:
            return act()
        except (redis.RedisError, OSError) as error:
            if time.time() > end:
                raise AssertionError(f"{what}: {error!r}") from error
            time.sleep(0.01)


def main():
    single, one, cluster = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
    host = lambda address: (address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1]))
    for protocol in (2, 3):
        for address in (single, one):
            plain = redis.Redis(*host(address), protocol=protocol)
            all_of(plain, f"py{protocol}", False)
    plain = redis.Redis(*host(one))
    nodes = [ClusterNode(*host(address)) for address in cluster]
    aware = RedisCluster(startup_nodes=nodes)
    check(len(aware.get_primaries()), 3)
    all_of(aware, "cluster", True)

    for i in range(300):
        check(aware.set(f"stays{i}", i), True)
    print("kill", flush=True)
    sys.stdin.readline()
    for i in range(300):
        check(until("get", lambda: plain.get(f"stays{i}")), str(i).encode())
        check(until("get, aware", lambda: aware.get(f"stays{i}")), str(i).encode())
        check(until("set, aware", lambda: aware.set(f"stays{i}", i + 1)), True)
        check(until("get", lambda: plain.get(f"stays{i}")), str(i + 1).encode())
    all_of(plain, "after", False)
    all_of(aware, "aware-after", True)
    print("done", flush=True)


main()
