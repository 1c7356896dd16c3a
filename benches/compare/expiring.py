#!/usr/bin/env python3
"""Fills a server that speaks the Redis protocol with keys that expire within ten seconds, and returns when these begin.

    expiring.py PORT ENTRIES
"""
import random
import socket
import sys
import time

BATCH = 1000
LASTS = 10


def main():
    port, entries = map(int, sys.argv[1:3])
    stream = socket.create_connection(("127.0.0.1", port))
    value = b"v" * 64

    def fill(count, begin):
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            out = []
            for number in numbers:
                at = b"%d" % int((begin + random.random() * LASTS) * 1000)
                key = b"key:%012d" % number
                out.append(b"*5\r\n$3\r\nSET\r\n$16\r\n%s\r\n$64\r\n%s\r\n$4\r\nPXAT\r\n$%d\r\n%s\r\n" % (key, value, len(at), at))
            stream.sendall(b"".join(out))
            replies = b""
            while len(replies) < 5 * len(numbers):
                some = stream.recv(65536)
                if not some or some.startswith(b"-"):
                    sys.exit(f"the server says {some!r}")
                replies += some

    # How long it takes decides when the keys begin to expire: after the last was set.
    tried = min(entries, 50 * BATCH)
    start = time.time()
    fill(tried, start + 3600)
    begin = time.time() + (time.time() - start) * entries / tried * 2.5 + 3
    fill(entries, begin)
    if time.time() > begin:
        sys.exit("the first keys expired before the last was set")
    time.sleep(begin - time.time())


main()
