"""A stand-in for the Docker daemon on a socket of its own: it answers as it is told, and keeps what it was asked."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}


@dataclass
class Story:
    """What the daemon has, and what becomes of its one container."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    printed: bytes = b""
    exit_code: int = 0
    ran_out_of_memory: bool = False
    refuses: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and message by the last word of a path; 0 hangs up without a word."""
    created: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels of containers that are there already."""


class _Daemon(BaseHTTPRequestHandler):
    story: Story
    started: threading.Event

    def do_GET(self) -> None:
        path = self._path()
        image = self.story.images.get(path.removeprefix("/images/").removesuffix("/json"))
        state = {"Pid": 1, "OOMKilled": self.story.ran_out_of_memory}
        known: dict[str, Any] = {
            "/version": VERSION,
            "/_ping": "OK",
            "/info": {"Runtimes": {"runc": {}}},
            "/containers/json": [{"Id": name} for name in self._labelled()],
        }
        for name in ("c1", *self.story.left):
            known[f"/containers/{name}/json"] = {
                "Id": name,
                "Name": f"/{name}",
                "Config": {"Tty": False},
                "State": state,
            }
        if self._refused(path):
            return
        if image is not None or path in known:
            self._say(image or known[path])
        else:
            self._say({"message": f"No such image: {path}"}, 404)

    def do_POST(self) -> None:
        path = self._path()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._refused(path):
            return
        if path.endswith("/create"):
            self.story.created.update(json.loads(body))
            self._say({"Id": "c1"}, 201)
        elif path.endswith("/attach"):
            self._print()
        elif path.endswith("/wait"):
            self._say({"StatusCode": self.story.exit_code})
        else:
            if path.endswith("/start"):
                self.started.set()
            self._say(None, 204)

    def do_DELETE(self) -> None:
        path = self._path()
        if not self._refused(path):
            self.story.left.pop(path.rpartition("/")[2], None)
            self._say(None, 204)

    def _labelled(self) -> list[str]:
        """Return the containers with all the labels that are asked for."""
        filters = json.loads(parse_qs(urlsplit(self.path).query).get("filters", ["{}"])[0])
        wanted = set(filters.get("label", ()))
        return [name for name, labels in self.story.left.items() if wanted <= {f"{k}={v}" for k, v in labels.items()}]

    def _path(self) -> str:
        path = self.path.partition("?")[0].removeprefix(f"/v{VERSION['ApiVersion']}")
        self.story.asked.append(f"{self.command} {path}")
        return path

    def _refused(self, path: str) -> bool:
        status, message = self.story.refuses.get(path.rpartition("/")[2], (200, ""))
        if status == 0:
            self.close_connection = True
        elif status >= 300:
            self._say({"message": message}, status)
        return status == 0 or status >= 300

    def _print(self) -> None:
        """Upgrade the connection, as the daemon does, and send what the program prints once it was started."""
        self.send_response(101, "UPGRADED")
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.started.wait(10)
        for start in range(0, len(self.story.printed), 7):
            piece = self.story.printed[start : start + 7]
            self.wfile.write(struct.pack(">BxxxL", 1, len(piece)) + piece)
        self.close_connection = True

    def _say(self, value: object, status: int = 200) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


@contextmanager
def docker_daemon(socket: Path, story: Story) -> Iterator[str]:
    """Answer on `socket` as `story` says; yield the value of DOCKER_HOST for it."""
    handler = type("Daemon", (_Daemon,), {"story": story, "started": threading.Event()})
    with socketserver.ThreadingUnixStreamServer(str(socket), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{socket}"
        finally:
            server.shutdown()
            thread.join()
