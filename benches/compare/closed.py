#!/usr/bin/env python3
"""A closed loop over the Redis protocol, for compare.sh: what redis-benchmark cannot send.

    closed.py keys PORT COUNT                                  keys that the node behind this cluster port owns, one a line
    closed.py get|set|wait PORT DATABASE CONNECTIONS REQUESTS  sends requests for the keys on stdin, in turn

`wait` is SET and `WAIT 1 0` in one write, answered when both are. Prints the median and the 99th percentile of the latencies in
microseconds. Any error ends it.
"""
import selectors
import socket
import sys
import time

VALUE = b"v" * 64


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def connect(port):
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def ask(stream, request, lines):
    """Sends a request and reads so many lines; a value is a line."""
    stream.sendall(request)
    return read(stream, lines)


def read(stream, lines):
    reply = stream.recv(65536)
    while reply.count(b"\r\n") < lines:
        if reply.startswith(b"-") or not reply:
            break
        reply += stream.recv(65536)
    return reply


def keys(port, count):
    stream, number, found = connect(port), 0, 0
    while found < count:
        key = b"key:%012d" % number
        number += 1
        reply = ask(stream, command(b"EXISTS", key), 1)
        if reply.startswith(b":"):
            print(key.decode())
            found += 1
        elif not reply.startswith(b"-MOVED"):
            sys.exit(f"the cluster port says {reply!r}")


def main():
    if sys.argv[1] == "keys":
        return keys(int(sys.argv[2]), int(sys.argv[3]))
    what = sys.argv[1]
    port, database, connections, requests = map(int, sys.argv[2:6])
    make = {
        "get": lambda key: command(b"GET", key),
        "set": lambda key: command(b"SET", key, VALUE),
        "wait": lambda key: command(b"SET", key, VALUE) + command(b"WAIT", b"1", b"0"),
    }[what]
    expected = {
        "get": b"$%d\r\n%s\r\n" % (len(VALUE), VALUE),
        "set": b"+OK\r\n",
        "wait": b"+OK\r\n:1\r\n",
    }[what]
    lines = expected.count(b"\r\n")
    todo = [make(line.strip().encode()) for line in sys.stdin]
    selector, sent, latencies = selectors.DefaultSelector(), 0, []
    began = {}
    for _ in range(connections):
        stream = connect(port)
        if database:
            ask(stream, command(b"SELECT", b"%d" % database), 1)
        selector.register(stream, selectors.EVENT_READ)
        began[stream] = time.perf_counter()
        stream.sendall(todo[sent % len(todo)])
        sent += 1
    while len(latencies) < requests:
        for key, _ in selector.select():
            stream = key.fileobj
            reply = read(stream, lines)
            if reply != expected:
                sys.exit(f"{what} was answered {reply!r}")
            now = time.perf_counter()
            latencies.append(now - began[stream])
            if sent < requests:
                began[stream] = now
                stream.sendall(todo[sent % len(todo)])
                sent += 1
    latencies.sort()
    print(*(round(latencies[int(len(latencies) * at)] * 1e6) for at in (0.5, 0.99)))


main()
