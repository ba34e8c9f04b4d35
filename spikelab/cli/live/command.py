"""``spikelab watch``: serve the page until Ctrl-C."""

from __future__ import annotations

import hashlib
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from spikelab.cli.live.outlook import Outlook
from spikelab.cli.live.server import Access, LiveServer, is_loopback
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole

_FIRST_PORT, _N_PORTS = 49152, 16384
"""Ports that nobody is given for good."""


def watch_folders(folders: Sequence[Path], *, host: str, port: int, private: bool, open_browser: bool) -> int:
    """Serve the page of all recordings in and below `folders` until Ctrl-C; return the exit code.

    Raises
    ------
    UsageProblem
        The address cannot be listened on.
    """
    absolute = list(dict.fromkeys(folder.absolute() for folder in folders))
    outlook = Outlook(absolute)
    with make_server(outlook, Access.to(host, private=private), port) as server:
        _tell(server, absolute)
        if open_browser and sys.stdout.isatty():
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        finally:
            outlook.close()
    return ExitCode.DONE


def make_server(outlook: Outlook, access: Access, port: int) -> LiveServer:
    """Return a server on `port`; for 0 on one that is the same each time for the same folders, where that is free.

    The page of a server that is started anew finds it again.

    Raises
    ------
    UsageProblem
        The address cannot be listened on.
    """
    try:
        if port == 0:
            try:
                return LiveServer(outlook, access, usual_port(outlook.folders))
            except OSError:  # taken: another one watches the same folders, or chance
                return LiveServer(outlook, access, 0)
        return LiveServer(outlook, access, port)
    except OSError as error:
        msg = f"{access.host}, port {port} cannot be listened on: {error.strerror or error}"
        raise UsageProblem(msg, "Name another --port, or none; --host must be an address of this machine.") from error


def usual_port(folders: Sequence[Path]) -> int:
    """Return the port that these folders are tried on first."""
    digest = hashlib.sha256("\0".join(map(str, folders)).encode("utf-8", "surrogateescape")).digest()
    return _FIRST_PORT + int.from_bytes(digest[:4], "big") % _N_PORTS


def _tell(server: LiveServer, folders: Sequence[Path]) -> None:
    console = make_console()
    say(console, f"Watching {', '.join(map(str, folders))}. Ctrl-C ends that; sorts go on.")
    say_whole(console, server.url)
    if not is_loopback(server.access.host):
        say(console, "Whoever has this address sees names, logs and reports; the connection is not encrypted.")
