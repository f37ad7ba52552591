"""HTTP/1.1 over asyncio streams: as much of it as this scheduler serves and asks.

Written out here so that the scheduler needs nothing but Python itself and starts within a tenth of a second.
"""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

HEAD_LIMIT = 1 << 16
BODY_LIMIT = 1 << 24


class Malformed(Exception):
    """What came in is not the HTTP that is understood here."""


@dataclass
class Request:
    method: str
    path: str
    """Decoded, without the query."""
    query: dict[str, list[str]]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    client: str

    def flag(self, name: str, default: bool = False) -> bool:
        values = self.query.get(name)
        return default if not values else values[-1].lower() in ("true", "1", "")

    def values(self, name: str) -> list[str]:
        """All values of ``name``, given repeatedly or separated by commas."""
        return [part for value in self.query.get(name, ()) for part in value.split(",") if part]


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    """Sent piece by piece until it ends, in place of ``body``."""


def as_json(value: Any, status: int = 200, **headers: str) -> Response:
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, json.dumps(value, separators=(",", ":")).encode(), headers=names)


Handler = Callable[[Request], Awaitable[Response]]


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """First line and headers of the next message; None if the other side has closed."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise Malformed("ended inside the headers") from None
        return None
    except asyncio.LimitOverrunError:
        raise Malformed("headers too long") from None
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return first, headers


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readline()
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            if not line:
                return  # closed between two chunks
            raise Malformed(f"no chunk size: {line!r}") from None
        data = await reader.readexactly(size + 2)
        if size == 0:
            return
        yield data[:-2]


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str], until_close: bool = False) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts, size = [], 0
        async for part in chunks(reader):
            size += len(part)
            if size > BODY_LIMIT:
                raise Malformed("body too long")
            parts.append(part)
        return b"".join(parts)
    if "content-length" in headers:
        try:
            length = int(headers["content-length"])
        except ValueError:
            raise Malformed("Content-Length is not a number") from None
        if not 0 <= length <= BODY_LIMIT:
            raise Malformed("body too long")
        return await reader.readexactly(length)
    return await reader.read(BODY_LIMIT) if until_close else b""


class Server:
    """Hands every request to one handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        self._server = await asyncio.start_server(self._connection, host, port, limit=HEAD_LIMIT)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _no_delay(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ConnectionError):
            pass
        except Malformed as error:
            _write(writer, as_json({"message": str(error)}, 400), close=True)
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await read_head(reader)
        if head is None:
            return False
        first, headers = head
        try:
            method, target, version = first.split(" ")
        except ValueError:
            raise Malformed("no request line") from None
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await read_body(reader, headers)
        path, _, query = target.partition("?")
        request = Request(
            method,
            urllib.parse.unquote(path),
            urllib.parse.parse_qs(query, keep_blank_values=True),
            headers,
            body,
            str((writer.get_extra_info("peername") or ("?",))[0]),
        )
        response = await self._handler(request)
        connection = headers.get("connection", "").lower()
        close = connection == "close" or (version == "HTTP/1.0" and connection != "keep-alive")
        if response.stream is None:
            _write(writer, response, close, head_only=method == "HEAD")
            await writer.drain()
            return not close
        _write(writer, response, close=False)
        gone = asyncio.ensure_future(reader.read())  # ends when the other side does
        try:
            async for part in _until(response.stream, gone):
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()
        finally:
            gone.cancel()
        return False


async def _until(stream: AsyncIterator[bytes], gone: asyncio.Future[bytes]) -> AsyncIterator[bytes]:
    """The parts of ``stream`` until it or the listener ends."""
    iterator = stream.__aiter__()
    try:
        while True:
            following = asyncio.ensure_future(anext(iterator))
            await asyncio.wait((following, gone), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                try:
                    await following
                except (asyncio.CancelledError, StopAsyncIteration):
                    pass
                return
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _write(writer: asyncio.StreamWriter, response: Response, close: bool, head_only: bool = False) -> None:
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {response.status} {reason}", f"Content-Type: {response.kind}"]
    if response.stream is None:
        lines.append(f"Content-Length: {len(response.body)}")
    else:
        lines += ["Transfer-Encoding: chunked", "Cache-Control: no-cache"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if close:
        lines.append("Connection: close")
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head_only else response.body))


def _no_delay(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    _no_delay(writer)
    return reader, writer


def request_bytes(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status_of(first: str) -> int:
    """The status in the first line of a response."""
    try:
        return int(first.split(" ", 2)[1])
    except (IndexError, ValueError):
        raise Malformed(f"no status line: {first!r}") from None


async def get(host: str, port: int, path: str, timeout: float) -> tuple[int, dict[str, str], bytes]:
    """One GET on a connection of its own.  Raises OSError, TimeoutError or Malformed."""

    async def exchange() -> tuple[int, dict[str, str], bytes]:
        reader, writer = await connect(host, port)
        try:
            headers = [("Host", f"{host}:{port}"), ("User-Agent", "coebench"), ("Connection", "close")]
            writer.write(request_bytes("GET", path, headers))
            head = await read_head(reader)
            if head is None:
                raise ConnectionError("closed without an answer")
            return status_of(head[0]), head[1], await read_body(reader, head[1], until_close=True)
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the answer is incomplete") from error
        finally:
            writer.close()

    return await asyncio.wait_for(exchange(), timeout)
