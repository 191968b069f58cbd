"""Calls http://HOST:PORT/PATH in three ways that Python applications use.

Prints one line per way: name, status, body, peer address as getpeername tells it.
"""

import asyncio
import http.client
import socket
import sys

host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def report(name, status, body, peer):
    print(f"{name} {status} {body.decode().strip()} {peer[0]}:{peer[1]}", flush=True)


def with_http_client():
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    report("http.client", response.status, response.read(), connection.sock.getpeername())


async def with_asyncio():
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    head, _, body = answer.partition(b"\r\n\r\n")
    report("asyncio", int(head.split()[1]), body, writer.get_extra_info("peername"))
    writer.close()


def with_mapped_address():
    address = "::ffff:" + socket.gethostbyname(host)
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
        s.settimeout(10)
        s.connect((address, port))
        s.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        report("mapped", int(head.split()[1]), body, s.getpeername())


with_http_client()
asyncio.run(with_asyncio())
with_mapped_address()
