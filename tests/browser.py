"""A real browser, driven over a pipe by the DevTools protocol: one page that lives as long as a test needs it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)

_BEGIN = """
import fcntl, os, sys
high = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
for pipe, wanted in zip(high, (3, 4)):
    os.dup2(pipe, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser reads from descriptor 3 and writes to 4, whatever numbers the pipes have here."""


class Page:
    """One page of a browser.

    Parameters
    ----------
    to_browser, from_browser : int
        Ends of the pipes.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out = os.fdopen(to_browser, "wb", buffering=0)
        self._in = os.fdopen(from_browser, "rb", buffering=0)
        self._pending = b""
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        """Errors, and what the browser refused to do or to load."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            piece = self._in.read(1 << 16)
            assert piece, "the browser has ended"
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])

    def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, url: str) -> None:
        """Go to an address."""
        self.send("Page.navigate", url=url)

    def text(self) -> str:
        """Return the text that a reader sees."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def wait_for(self, words: str, limit_s: float = 30.0) -> str:
        """Return the text of the page once `words` are in it."""
        until = time.monotonic() + limit_s
        while words not in (text := self.text()):
            assert time.monotonic() < until, f"{words!r} is not in:\n{text}"
            time.sleep(0.1)
        return text

    def screenshot(self, picture: Path, width: int, *, is_dark: bool = False) -> None:
        """Save the whole page as a PNG, so many pixels wide, in the light or the dark scheme."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": 100, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        height = self.evaluate("document.documentElement.scrollHeight")
        self.send("Emulation.setDeviceMetricsOverride", **{**size, "height": height})
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        picture.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self.send("Browser.close")
        self._out.close()
        self._in.close()


@contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """Yield an empty page of a new browser with this folder as its profile."""
    browser = next(filter(None, map(shutil.which, NAMES)))
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    pipes = (to_read, from_write)
    begin = [sys.executable, "-c", _BEGIN, *map(str, pipes)]
    process = subprocess.Popen(
        [*begin, browser, *_QUIET, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=pipes,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        page = Page(to_write, from_read)
        yield page
        page.close()
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
