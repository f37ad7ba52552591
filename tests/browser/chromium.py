"""Debian's headless Chromium for tests: unpacked into the cache as the lab's trees are, spoken to over two pipes.

It runs in that tree (chroot), so nothing is installed on the machine. With `network=False` it has a network namespace of its own
with nothing in it: a page that needs any network can't get it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from coebench.lab import trees
from coebench.lab.cache import Artefact

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--user-data-dir=/tmp/profile",
    "about:blank",
)


def tree() -> Artefact:
    return trees.debian("chromium-tree", "minbase", ("chromium-headless-shell", "fonts-dejavu-core"))


class Chromium:
    """One browser with one page. Everything that the page asks of a network, and every error, is kept."""

    def __init__(self, root: Path, *, network: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="coebench-chromium-"))
        to_read, to = os.pipe()
        out, out_write = os.pipe()
        # A read-only tree with a writable /tmp: mounts in a namespace of its own, which ends with the browser.
        script = [
            "mount --make-rprivate /",
            f'mount -t tmpfs tmpfs "{root}/tmp"',
            f'mount -t proc proc "{root}/proc"',
            f'mount --bind /dev "{root}/dev"',
            f"exec 3<&{to_read} 4>&{out_write}",
            f'exec chroot "{root}" /usr/bin/env -i HOME=/tmp PATH=/usr/bin:/bin LC_ALL=C.UTF-8 chromium-headless-shell "$@"',
        ]
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"]), "bash", "-ec"]
        self._log = open(self._folder / "log", "wb")  # noqa: SIM115 (closed with the browser)
        self._process = subprocess.Popen(
            [*command, "\n".join(script), "bash", *FLAGS],
            pass_fds=(to_read, out_write),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(to_read)
        os.close(out_write)
        self._to, self._out = to, out
        self._buffer = b""
        self._number = 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.page(f"{domain}.enable")

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol and its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(30)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def page(self, method: str, **params: Any) -> dict[str, Any]:
        return self.call(method, self._session, **params)

    def _next(self, timeout: float) -> dict[str, Any]:
        """The next message; events are kept as they pass."""
        end = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            if not select.select([self._out], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium said nothing for {timeout:g} s: {self.log()}")
            part = os.read(self._out, 1 << 20)
            if not part:
                raise RuntimeError(f"Chromium ended: {self.log()}")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._event(message)
        return message

    def _event(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("exception", params)))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        self._events.append(message)

    def show(self, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """A window of this width, on a device that prefers dark or light."""
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.page("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, url: str) -> None:
        """Load a page and wait for its load event. What was seen of an earlier one is forgotten."""
        self.requests.clear()
        self.errors.clear()
        self._events.clear()
        self.page("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" for e in self._events):
            self._next(30)

    def content(self, html: str) -> None:
        """Load a document that comes from nowhere: the file itself, without a server."""
        self.open("data:text/html;charset=utf-8;base64," + base64.b64encode(html.encode()).decode())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.page("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def until(self, script: str, timeout: float = 20) -> Any:
        """Wait until an expression is true in the page: it looks after each frame that it draws."""
        promise = (
            f"new Promise((yes, no) => {{ const end = Date.now() + {timeout * 1000}; const look = () => {{ let v = ({script}); "
            "if (v) yes(v); else if (Date.now() > end) no(new Error('never true')); else setTimeout(look, 20) }; look() })"
        )
        return self.run(promise)

    def picture(self, *, clip: tuple[int, int] | None = None, kind: str = "png") -> bytes:
        """The page as PNG or WebP; `clip`: (from, height) in px of it, else all of it."""
        width = self.run("document.documentElement.clientWidth")
        top, height = clip or (0, self.run("document.documentElement.scrollHeight"))
        area = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        shot = self.page("Page.captureScreenshot", format=kind, clip=area, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-1000:]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        os.close(self._to)
        os.close(self._out)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
