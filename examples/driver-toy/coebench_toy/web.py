"""The toy's image of the workload `http`: answers every GET with 200 and says which instance and version it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

BODY = (b"coebench " * 68)[:611] + b"\n"


def answers() -> dict[bytes, bytes]:
    """Path → the whole answer."""
    instance, version = os.environ["COEBENCH_INSTANCE"], os.environ["COEBENCH_IMAGE_VERSION"]
    head = f"X-Coebench-Instance: {instance}\r\nX-Coebench-Version: {version}\r\nX-Coebench-Started: {time.time()}\r\n"

    def answer(body: bytes) -> bytes:
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body

    return {b"/": answer(BODY), b"/id": answer(f"{instance} {version}\n".encode()), b"/healthz": answer(b"ok\n")}


async def serve() -> None:
    known = answers()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(known.get(request.split(b" ", 2)[1], known[b"/"]))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", int(os.environ["COEBENCH_PORT"]), backlog=1024)
    print(f"listening on {os.environ['COEBENCH_PORT']}", flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
