"""People at a server without browsers: pages opened as a browser opens them, frames asked for as ``map.js`` asks."""

import asyncio
import contextlib
import json
import math
import re
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

#: Pixels of the map on a 1440 × 900 page, and what it asks for around them while it is dragged.
PLOT, MARGIN = (726, 470), 32
#: A page asks at most once in a frame of its screen.
TICK_S = 1 / 60
HOME = (-13.0, 13.0, -15.0, 15.0)


class Line:
    """A connection that is kept open, one request at a time."""

    def __init__(self, netloc: str, cookie: str = "") -> None:
        self.netloc, self.cookie = netloc, cookie
        self.set_cookies: SimpleCookie = SimpleCookie()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str, pace: float = 0) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; read at `pace` bytes a second, if any.

        Raises
        ------
        OSError, asyncio.IncompleteReadError
            The server closed the connection before its answer was whole.
        """
        if self._reader is None or self._writer is None or self._reader.at_eof():
            host, port = self.netloc.split(":")
            # a reader that takes little holds little: what it leaves stays with the sender
            limit = 2**16 if not pace else 4096
            self._reader, self._writer = await asyncio.open_connection(host, int(port), limit=limit)
        lines = [f"GET {path} HTTP/1.1", f"Host: {self.netloc}", "Accept-Encoding: identity"]
        self._writer.write("\r\n".join([*lines, *([f"Cookie: {self.cookie}"] * bool(self.cookie)), "", ""]).encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
            if name.lower() == "set-cookie":
                self.set_cookies.load(value)
        left, parts = int(headers.get("content-length", 0)), []
        while left:
            part = await self._reader.read(min(left, 2**18 if not pace else 1024))
            if not part:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(part)
            parts.append(part)
            if pace:
                await asyncio.sleep(len(part) / pace)
        return int(head[0].split()[1]), headers, b"".join(parts)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None


async def enter(url: str) -> tuple[str, str]:
    """``(netloc, cookie)`` of who opened a printed link, token included."""
    parts = urlsplit(url)
    line, path = Line(parts.netloc), f"/?{parts.query}"
    for _ in range(5):
        line.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in line.set_cookies.items())
        status, headers, _ = await line.get(path)
        if status not in (301, 302, 303, 307):
            break
        location = headers["location"]
        path = location if location.startswith("/") else f"/{location.removeprefix('./')}"
    line.close()
    if status != 200:
        raise RuntimeError(f"{url} answered {status}")
    return parts.netloc, line.cookie


@dataclass
class Person:
    """One browser tab: a page with its socket, and one frame in flight at a time.

    Attributes
    ----------
    frames_ms
        Milliseconds of every frame, from its request to its last byte.
    """

    netloc: str
    cookie: str
    query: dict[str, Any] = field(default_factory=dict)
    frames_ms: list[float] = field(default_factory=list)
    _socket: WebSocketClientConnection | None = None
    _reading: asyncio.Task[None] | None = None

    async def open(self, path: str = "/") -> float:
        """Open the page and its socket, and read the document as Bokeh does; seconds until the page's last byte."""
        line, began = Line(self.netloc, self.cookie), time.perf_counter()
        status, _, body = await line.get(path)
        took = time.perf_counter() - began
        line.close()
        found = re.search(rb'"token":\s*"([^"]+)"', body)
        if status != 200 or found is None:
            raise RuntimeError(f"the page answered {status}")
        headers = {"Cookie": self.cookie, "Origin": f"http://{self.netloc}"}
        asked = HTTPRequest(f"ws://{self.netloc}{path.partition('?')[0].rstrip('/')}/ws", headers=headers)
        self._socket = await websocket_connect(asked, subprotocols=["bokeh", found[1].decode()], max_message_size=2**28)
        await self._hear("ACK")
        for part in ({"msgtype": "PULL-DOC-REQ", "msgid": "1"}, {}, {}):  # header, metadata, content
            self._socket.write_message(json.dumps(part))
        await self._hear("PULL-DOC-REPLY")
        self._reading = asyncio.ensure_future(self._read())
        return took

    async def _hear(self, kind: str) -> None:
        """Read until a message of this kind begins."""
        assert self._socket is not None
        while (told := await self._socket.read_message()) is not None:
            if f'"{kind}"' in str(told[:200]):
                return
        raise RuntimeError("the socket was closed")

    async def _read(self) -> None:
        assert self._socket is not None
        while await self._socket.read_message() is not None:
            pass

    def look(self, at: float) -> str:
        """The frame's address while the mouse is where it is after `at` seconds of a drag."""
        x0, x1, y0, y1 = HOME
        dx, dy = (x1 - x0) / PLOT[0], (y1 - y0) / PLOT[1]
        mx, my = 120 * math.sin(at * 4) * dx, 60 * math.cos(at * 5.4) * dy
        asked = {
            "x0": x0 - mx - MARGIN * dx,
            "x1": x1 - mx + MARGIN * dx,
            "y0": y0 - my - MARGIN * dy,
            "y1": y1 - my + MARGIN * dy,
            "w": PLOT[0] + 2 * MARGIN,
            "h": PLOT[1] + 2 * MARGIN,
            "density": 1,
            "coarse": 1,
        }
        return f"/frame?{urlencode(self.query | asked)}"

    async def drag(self, seconds: float, phase: float = 0, pace: float = 0) -> None:
        """Drag the map: the next frame is asked for when the last is there, a frame of the screen later at least."""
        line, end = Line(self.netloc, self.cookie), time.perf_counter() + seconds
        try:
            while (began := time.perf_counter()) < end:
                status, _, _ = await line.get(self.look(began + phase), pace)
                if status != 200:
                    raise RuntimeError(f"a frame answered {status}")
                took = time.perf_counter() - began
                self.frames_ms.append(1000 * took)
                if took < TICK_S:
                    await asyncio.sleep(TICK_S - took)
        finally:
            line.close()

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._reading is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
