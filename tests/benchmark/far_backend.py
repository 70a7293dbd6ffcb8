#!/usr/bin/env python3
# Puts the benchmark's backend at a distance: a relay that holds back what passes, for the kernels
# that have no netem.
#
# Bytes and FINs arrive half a round trip after they were sent, in order. A connection is made by
# the kernel at once; so that it costs what it would cost, the relay turns to the backend, with what
# was sent meanwhile, one round trip and a half after it was accepted: that is when a server so far
# away would have it. An auth_http server tells nginx mail where the relay is; its answers are not
# delayed. SPDX-License-Identifier: Apache-2.0
"""far_backend.py ROUND_TRIP_MS IMAP_PORT POP3_PORT SMTP_PORT: prints its own ports as JSON."""

import asyncio
import json
import sys

PROTOCOLS = ("imap", "pop3", "smtp")


class Direction:
    """What one side sends; the other gets it `delay` seconds later, and not before `earliest`."""

    def __init__(self, reader, delay, earliest):
        self.reader, self.delay, self.earliest = reader, delay, earliest
        self.queue = asyncio.Queue()  # (when, bytes); b"" is a FIN

    async def read(self):
        loop = asyncio.get_running_loop()
        data = None
        while data != b"":
            try:
                data = await self.reader.read(65536)
            except OSError:
                data = b""
            self.queue.put_nowait((max(loop.time() + self.delay, self.earliest), data))

    async def write(self, writer):
        loop = asyncio.get_running_loop()
        data = None
        while data != b"":
            when, data = await self.queue.get()
            await asyncio.sleep(when - loop.time())
            try:
                if data:
                    writer.write(data)
                    await writer.drain()
                else:
                    writer.write_eof()
            except OSError:
                return


def relay(round_trip, port):
    async def serve(client_reader, client_writer):
        loop = asyncio.get_running_loop()
        there = loop.time() + 1.5 * round_trip
        to_backend = Direction(client_reader, round_trip / 2, there)
        reading = asyncio.create_task(to_backend.read())
        await asyncio.sleep(there - loop.time())
        backend_reader, backend_writer = await asyncio.open_connection("127.0.0.1", port)
        to_client = Direction(backend_reader, round_trip / 2, there)
        try:
            await asyncio.gather(reading, to_backend.write(backend_writer), to_client.read(),
                                 to_client.write(client_writer))
        finally:
            client_writer.close()
            backend_writer.close()
    return serve


def auth_http(ports):
    async def serve(reader, writer):
        protocol = "imap"
        while (line := (await reader.readline()).strip()):
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "auth-protocol":
                protocol = value.strip()
        writer.write(f"HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\n"
                     f"Auth-Port: {ports[protocol]}\r\n\r\n".encode())
        writer.close()
    return serve


async def main(round_trip, backend_ports):
    async def listen(serve):
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        return server, server.sockets[0].getsockname()[1]
    servers, ports = [], {}
    for protocol, port in zip(PROTOCOLS, backend_ports):
        server, ports[protocol] = await listen(relay(round_trip, port))
        servers.append(server)
    server, ports["auth_http"] = await listen(auth_http(ports))
    servers.append(server)
    print(json.dumps(ports), flush=True)
    # Until the benchmark closes our input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) / 1000, [int(port) for port in sys.argv[2:]]))
