"""Calls http://HOST/ on many connections at once: load.py HOST CONNECTIONS SECONDS.

All connections are open before the first request is sent. Each then repeats its request until the seconds are
over, at least once. Prints one line of JSON: how often which status was seen.
"""

import asyncio
import collections
import json
import resource
import sys
import time

host, connections, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
statuses = collections.Counter()


async def call(reader, writer):
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    if b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
    else:
        await reader.readuntil(b"0\r\n\r\n")
    statuses[head.split()[1].decode()] += 1


async def load(reader, writer, end):
    while True:
        await asyncio.wait_for(call(reader, writer), 30)
        if time.monotonic() >= end:
            return writer.close()


async def main():
    opened = await asyncio.gather(*(asyncio.open_connection(host, 80) for _ in range(connections)))
    end = time.monotonic() + seconds
    await asyncio.gather(*(load(reader, writer, end) for reader, writer in opened))


_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, connections + 100), hard))
asyncio.run(main())
print(json.dumps(statuses))
