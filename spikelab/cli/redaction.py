"""Text without names of people and machines, for sending to somebody else."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

_HOMES = re.compile(r"""(?P<home>/homes?/|/Users/|/media/)[^/\\"'\s:,;)\]]+""")
"""Folders named after people, also those of their disks."""
_WINDOWS_HOMES = re.compile(r"""(?P<home>[A-Za-z]:(?:\\\\|\\|/)Users(?:\\\\|\\|/))[^/\\"'\r\n:,;)\]]+""")
_END_OF_NAME = r"""(?![^/\\"'\s:,;)\]])"""
_HOST_FIELDS = re.compile(r'("(?:hostname|host|node)"\s*:\s*)"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_LONG_ADDRESS = re.compile(
    r"(?<![\w:])(?:(?:[0-9A-Fa-f]{1,4}:){7}|(?:[0-9A-Fa-f]{1,4}:)+:(?:[0-9A-Fa-f]{1,4}:)*)[0-9A-Fa-f]{1,4}(?![\w:])"
)
_OWNER = re.compile(r"\(user [^)\n]+\)")
"""Of a process, as the doctor tells it: it may be anybody's."""
_MAC = re.compile(r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b")
_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_BOOT = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class Redactor:
    """Takes home folders, users, hosts and addresses out of text.

    Parameters
    ----------
    users, hosts : iterable of str
        Names that are taken out wherever they stand as words.
    homes : iterable of str
        Folders that become "~".

    Examples
    --------
    >>> Redactor(users=["ada"], hosts=["rig7"], homes=["/data/ada"])("/data/ada/x.h5 of ada on rig7, /home/bob/y")
    '~/x.h5 of USER on HOST, /home/USER/y'
    """

    def __init__(self, users: Iterable[str], hosts: Iterable[str], homes: Iterable[str]) -> None:
        self._homes = _any_of(homes, whole_words=False)
        self._users = _any_of(users, whole_words=True)
        self._hosts = _any_of(hosts, whole_words=True)

    @classmethod
    def of_this_machine(cls, more_hosts: Iterable[str] = ()) -> Redactor:
        """Return one that knows this user, this machine and `more_hosts`."""
        home, host = Path.home(), socket.gethostname()
        users = {_user(), home.name}
        return cls(users, {host, host.split(".")[0], socket.getfqdn(), *more_hosts} - {"localhost"}, [str(home)])

    def __call__(self, text: str) -> str:
        """Return `text` without them."""
        for pattern, instead in (
            (_MAIL, "MAIL"),
            (self._homes, "~"),
            (_HOMES, r"\g<home>USER"),
            (_WINDOWS_HOMES, r"\g<home>USER"),
            (_HOST_FIELDS, r'\g<1>"HOST"'),
            (_OWNER, "(user USER)"),
            (self._hosts, "HOST"),
            (self._users, "USER"),
            (_MAC, "MAC"),
            (_ADDRESS, "ADDRESS"),
            (_LONG_ADDRESS, "ADDRESS"),
            (_BOOT, "BOOT"),
        ):
            if pattern is not None:
                text = pattern.sub(instead, text)
        return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        return ""


def _any_of(names: Iterable[str], *, whole_words: bool) -> re.Pattern[str] | None:
    """Return what finds any of `names`, also as JSON writes them, the longest first."""
    spelled = {form for name in names if len(name) > 1 for form in _spellings(name)}
    if not spelled:
        return None
    either = "|".join(re.escape(form) for form in sorted(spelled, key=len, reverse=True))
    before, after = (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])") if whole_words else ("", _END_OF_NAME)
    return re.compile(f"{before}(?:{either}){after}", re.IGNORECASE)


def _spellings(name: str) -> Iterator[str]:
    """Return `name` as it is, as JSON writes it, and as JSON within JSON does, such as a recording in a job."""
    for _ in range(3):
        yield name
        name = json.dumps(name)[1:-1]
