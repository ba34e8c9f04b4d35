"""The page and its data over HTTP: to this machine alone, or to whoever has the token; nothing can be changed."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from spikelab.cli.live.outlook import Outlook
from spikelab.spike_sorting.report.page import environment
from spikelab.spike_sorting.report.plain import encoded

_log = logging.getLogger(__name__)

_SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-modals; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"
)
"""A report has scripts of its own, and whoever writes to the folder has written them: they get no part of this page.

Nothing keeps a document from leading its own window elsewhere, with its address in hand: that opens this report alone.
"""


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Parameters
    ----------
    host : str
        Address or name that the server listens on.
    token : str or None
        What every request must carry; None: no token is needed, which only suits a loopback address.
    """

    host: str
    token: str | None

    @classmethod
    def to(cls, host: str, *, private: bool = False) -> Access:
        """Return who may ask a server on `host`.

        On a loopback address that is everybody on this machine; elsewhere, or when `private`, who has a new token.
        """
        return cls(host, secrets.token_urlsafe(24) if private or not is_loopback(host) else None)

    @cached_property
    def _names(self) -> frozenset[str]:
        names = {self.host.lower(), "localhost"}
        if self.token is not None:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return frozenset(names)

    def knows(self, host_header: str) -> bool:
        """Return whether a browser asked for this server by one of its names.

        A page elsewhere may have a name of its own lead here (DNS rebinding). It cannot do that with an address.
        """
        try:
            name = (urlsplit(f"//{host_header}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        return is_loopback(name) if self.token is None else _is_address(name)

    def admits(self, token: str) -> bool:
        """Return whether a request with `token` is answered."""
        return self.token is None or _is_same(token, self.token)

    def admits_to_report(self, known_id: str, key: str) -> bool:
        """Return whether a request with `key` is shown the report of the recording with this id, and nothing else."""
        return self.token is None or _is_same(key, self._key_of(known_id))

    def report_link(self, known_id: str) -> str:
        """Return where the page finds the report of the recording with this id; the token is not in it."""
        return f"report/{known_id}" + ("" if self.token is None else f"?key={self._key_of(known_id)}")

    def _key_of(self, known_id: str) -> str:
        return hmac.new((self.token or "").encode(), known_id.encode(), "sha256").hexdigest()


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine as only itself sees it."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class LiveServer(ThreadingHTTPServer):
    """Serves the page of an outlook.

    Parameters
    ----------
    outlook : Outlook
        What is shown.
    access : Access
        Who may ask.
    port : int
        Where it listens; 0 for any that is free.
    """

    daemon_threads = True

    def __init__(self, outlook: Outlook, access: Access, port: int) -> None:
        self.outlook = outlook
        self.access = access
        # The server reads it before it makes its socket.
        self.address_family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        super().__init__((access.host, port), Handler)

    def handle_error(self, *_request: Any, **_more: Any) -> None:
        """Log what goes wrong with one request, such as a client that goes away, and go on."""
        _log.debug("a request failed", exc_info=True)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host, port = self.access.host, self.server_address[1]
        if host in {"0.0.0.0", "::"}:  # every interface of this machine
            host = socket.gethostname()
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/" + (f"?token={self.access.token}" if self.access.token else "")


class Handler(BaseHTTPRequestHandler):
    """Answers one request: the page, its data, or the report of a recording."""

    server: LiveServer
    server_version = "spikelab"
    sys_version = ""
    timeout = 30.0  # for a client that connects and says nothing

    def do_GET(self) -> None:
        """Answer, when the request may be answered."""
        access, url = self.server.access, urlsplit(self.path)
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not access.knows(hosts[0]):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "This server is not known by that name.")
        elif url.path.startswith("/report/"):
            self._report(url.path.removeprefix("/report/"), _value_in(url.query, "key"))
        elif not access.admits(_value_in(url.query, "token")):
            self._refuse(HTTPStatus.FORBIDDEN, "Open the whole address that spikelab watch has printed.")
        elif url.path == "/":
            self._page()
        elif url.path == "/state.json":
            self._state()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        folders = [str(folder) for folder in self.server.outlook.folders]
        html = environment().get_template("live.html.j2").render(nonce=nonce, folders=folders)
        policy = {"Content-Security-Policy": _PAGE_POLICY.format(nonce=nonce)}
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", encoded(html), policy)

    def _state(self) -> None:
        snapshot = self.server.outlook.latest()
        if snapshot is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The folders have not been read yet.")
        else:
            state = snapshot.to_dict(self.server.access.report_link)
            self._send(HTTPStatus.OK, "application/json", json.dumps(state, allow_nan=False).encode())

    def _report(self, known_id: str, key: str) -> None:
        if not self.server.access.admits_to_report(known_id, key):
            self._refuse(HTTPStatus.FORBIDDEN, "Open reports from the page of spikelab watch.")
            return
        try:
            page = self.server.outlook.report_of(known_id)
            data = None if page is None else self.server.outlook.bytes_of(page)
        except OSError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"The report cannot be read: {error}")
            return
        if page is None or data is None:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such report.")
        else:
            kind = "text/html" if page.suffix == ".html" else "text/plain"
            self._send(HTTPStatus.OK, f"{kind}; charset=utf-8", data, {"Content-Security-Policy": _REPORT_POLICY})

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send(status, "text/plain; charset=utf-8", encoded(f"{reason}\n"))

    def _send(self, status: HTTPStatus, content_type: str, data: bytes, more: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {**_SAFE, **(more or {}), "Content-Type": content_type, "Content-Length": str(len(data))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: Any, **_more: Any) -> None:
        """Log who asked, not what: the token is in it."""
        _log.debug("%s asked", self.client_address[0])


def _value_in(query: str, name: str) -> str:
    try:
        return parse_qs(query, max_num_fields=8).get(name, [""])[0]
    except ValueError:
        return ""
