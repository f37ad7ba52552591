"""`compare --live-web PORT`: a page on loopback that follows the run: COEs side by side, with the report's own plots as far as
they are made of what was observed. Those of derived metrics (trials, by something, of each kind) come with the report.

The successor of the page of the demo of a million requests a second. The server sends parts of the page as they change, by
server-sent events; a browser without scripts sees the run as it was when it asked.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ...contract import BadInput
from .. import html, plots
from ..plots import svg
from ..plots.scale import quantity
from ..words import seconds
from .metrics import taken
from .state import Column, LiveState

EVERY = 1.0  # seconds between two looks at what has changed
PLOTS_EVERY = 2.0  # seconds between two drawings of the plots, at least
SHARE = 10  # … and as many times what the last drawing took: the run is measured on the same CPUs
FAREWELL = 2.0  # seconds that who looks has for taking in that it is over
POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
SCRIPT = Path(html.TEMPLATES / "live.js")


class LiveWeb:
    """Serves until closed. Drawing is done once for all who look, and not at all while nobody does."""

    def __init__(self, state: LiveState, port: int, address: str = "127.0.0.1") -> None:
        """Listen at once, so that a taken port is known before anything is created. Raises BadInput."""
        self._state = state
        self._changed = threading.Condition()
        self._parts: dict[str, str] = {}
        self._version = 0
        self._watching = 0
        self._closed = threading.Event()
        self._drawing = threading.Lock()
        self._plots = ""  # as drawn last
        self._plots_of = -1  # the state's `changes` then
        self._plots_due = 0.0
        web = self

        class Handler(_Handler):
            owner = web

        try:
            self._server = _Server((address, port), Handler)
        except (OSError, OverflowError) as e:
            raise BadInput(taken("--live-web", port, e)) from None
        self.port = self._server.server_port
        self.url = f"http://{address}:{self.port}/"
        # Threads are begun here, before the run enters any bay's network: they stay in this one.
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.2,), name="live-web", daemon=True),
            threading.Thread(target=self._draw_on, name="live-draw", daemon=True),
        ]
        for t in self._threads:
            t.start()

    def close(self) -> None:
        """Tell all who look that it is over, and end. Safe to call twice."""
        if self._closed.is_set():
            return
        if self._watching:
            with self._drawing:
                self._plots_due = 0.0
            self._draw()
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._watching, timeout=FAREWELL)
        self._server.shutdown()
        self._server.server_close()

    # drawing

    def _draw_on(self) -> None:
        seen = -1
        while not self._closed.wait(EVERY):
            with self._changed:
                watched = self._watching > 0
            behind = self._plots_of != self._state.changes
            if watched and (self._state.changes != seen or behind or self._state.trial is not None):
                seen = self._state.changes
                self._draw()

    def _draw(self) -> None:
        parts = self.parts()
        with self._changed:
            self._parts = parts
            self._version += 1
            self._changed.notify_all()

    def parts(self) -> dict[str, str]:
        """The parts of the page that change, by the id of the element that they fill. One that can't be drawn says so in its
        place: it may cost neither the others nor what comes later."""
        with self._drawing:
            return {name: _or_said(name, draw) for name, draw in self._painters()}

    def _painters(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        return (("status", self._draw_status), ("cards", self._draw_cards), ("plots", self._draw_plots))

    def _draw_status(self) -> str:
        state = self._state
        with state.lock:
            at = state.clock()
            told: dict[str, Any] = {
                "run": state.run,
                "done": len(state.done),
                "of": len(state.order),
                "trial": state.trial,
                "gone": seconds(max(0.0, at - state.began)) if state.began else "",
                "ended": state.ended,
                "warnings": state.warnings[-3:],
                "troubles": [(t, o) for t, o in state.done if o.status not in ("ok", "skipped")][-5:],
            }
        return html.render("live_status.html", **told)

    def _draw_cards(self) -> str:
        state = self._state
        with state.lock:
            called, at = state.called(), state.clock()
            cards = [_card(c, called[c.subject], i, state, at) for i, c in enumerate(state.columns.values())]
        return html.render("live_cards.html", cards=cards)

    def _draw_plots(self) -> str:
        state, begun = self._state, time.monotonic()
        with state.lock:
            changes = state.changes
            scenario = state.trial.scenario if state.trial else (state.done[-1][0].scenario if state.done else "")
        if changes == self._plots_of or begun < self._plots_due:
            return self._plots
        source = state.source(scenario)
        drawn: list[html.Plot] = []
        bad: list[str] = []
        for plot in plots.PLOTS:
            try:
                drawn += [html.Plot(f, svg.draw(f, 900), svg.draw(f, svg.NARROW), True) for f in plot(source)]
            except Exception as e:
                bad.append(f"{plot.__module__.rpartition('.')[2]}: {type(e).__name__}: {e}")
        self._plots, self._plots_of = html.render("live_plots.html", plots=drawn, bad=bad), changes
        ended = time.monotonic()
        self._plots_due = ended + max(PLOTS_EVERY, SHARE * (ended - begun))
        return self._plots

    def page(self) -> str:
        return html.render("live.html", parts=self.parts(), run=self._state.run)

    def events(self) -> Iterator[str]:
        """What changed, as it does: the data of server-sent events. The last one says that it is over."""
        sent: dict[str, str] = {}
        version = -1
        with self._changed:
            self._watching += 1
        try:
            self._draw()
            while True:
                with self._changed:
                    if self._version == version and not self._closed.is_set():
                        self._changed.wait(timeout=15)
                    version, parts, over = self._version, self._parts, self._closed.is_set()
                new = {k: v for k, v in parts.items() if sent.get(k) != v}
                sent = dict(parts)
                yield f"data: {json.dumps(new)}\n\n" if new else ": still here\n\n"
                if over:
                    yield "event: over\ndata: {}\n\n"
                    return
        finally:
            with self._changed:
                self._watching -= 1
                self._changed.notify_all()


def _or_said(name: str, draw: Callable[[], str]) -> str:
    try:
        return draw()
    except Exception as e:  # the run goes on, and so does the page
        return html.render("live_plots.html", plots=(), bad=[f"{name}: {type(e).__name__}: {e}"])


def _card(column: Column, called: str, colour: int, state: LiveState, at: float) -> dict[str, Any]:
    working = state.trial is not None and state.trial.subject == column.subject
    beat = column.beats[-1] if column.beats else None
    states = column.instances
    doing = f"{column.scenario}: {column.phase or 'begins'}" if working else column.at
    if column.since and column.at not in ("waiting", "done"):
        doing += f", {seconds(max(0.0, at - column.since))}"
    outcomes = column.outcomes
    return {
        "called": called,
        "colour": colour % 8,
        "working": working,
        "doing": doing,
        "rate": (quantity(beat.good, "1/s") if beat.good else "0/s") if beat else "–",
        "loop": beat.loop if beat else "",
        "p50": quantity(beat.p50, "ms") if beat and beat.p50 == beat.p50 else "–",
        "p99": quantity(beat.p99, "ms") if beat and beat.p99 == beat.p99 else "–",
        "bad": f"{beat.bad:.3g}/s" if beat else "–",
        "answering": len(column.answering),
        "instances": ", ".join(f"{n} {s}" for s, n in sorted(states.items())) or "none",
        "ok": outcomes["ok"],
        "not_ok": sum(outcomes.values()) - outcomes["ok"] - outcomes["skipped"],
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    owner: LiveWeb
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # A page of another site may not read this one by giving its own name this address.
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in ("127.0.0.1", "localhost"):
            self._answer(403, "text/plain", "This page is for this machine alone.\n")
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", self.owner.page())
        elif self.path == "/live.js":
            self._answer(200, "text/javascript; charset=utf-8", SCRIPT.read_text(encoding="utf-8"))
        elif self.path == "/events":
            self._events()
        else:
            self._answer(404, "text/plain", "There is only the page at /.\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")

    def _events(self) -> None:
        self.send_response(200)
        self._headers("text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for text in self.owner.events():
                self.wfile.write(text.encode())
                self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """A trial's display is not to be written over by who looks at it."""
