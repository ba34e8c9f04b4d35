"""Memory control groups of Linux, versions 1 and 2: what a container, Slurm or systemd allows a process.

Everything is read from /proc and from the mounted control groups; where there are none, there is no group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60
"""Version 1 says so with a number near 2^63."""


@dataclass(frozen=True)
class _Files:
    """Names of one version's files and of the page cache in ``memory.stat``."""

    usage: str
    limit: str
    events: str
    cache: str


_V1 = _Files("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control", "total_inactive_file")
_V2 = _Files("memory.current", "memory.max", "memory.events", "inactive_file")


@dataclass(frozen=True)
class MemoryGroup:
    """A memory control group.

    Parameters
    ----------
    folder : Path
        Where the kernel shows it.
    root : Path
        Where its hierarchy is mounted.
    is_v2 : bool
        Whether it is of version 2.
    """

    folder: Path
    root: Path
    is_v2: bool

    @property
    def _files(self) -> _Files:
        return _V2 if self.is_v2 else _V1

    def used_bytes(self) -> int:
        """Return the memory that the group cannot give back: without the page cache that is not in use."""
        usage = int((self.folder / self._files.usage).read_text(encoding="ascii"))
        return max(0, usage - _table(self.folder / "memory.stat").get(self._files.cache, 0))

    def limit_bytes(self) -> int | None:
        """Return what the group may use, or None when it has no limit of its own."""
        try:
            text = (self.folder / self._files.limit).read_text(encoding="ascii").strip()
        except OSError:  # the root of a hierarchy has none, and some may not be looked into
            return None
        return int(text) if text.isdigit() and int(text) < _UNLIMITED else None

    def oom_kills(self) -> int | None:
        """Return how many of its processes the kernel has killed for lack of memory, where it counts them."""
        try:
            return _table(self.folder / self._files.events).get("oom_kill")
        except OSError:
            return None

    def limited(self) -> list[MemoryGroup]:
        """Return this group and those around it that have a limit, innermost first."""
        folders = [self.folder, *self.folder.parents]
        around = folders[: folders.index(self.root) + 1] if self.root in folders else folders[:1]
        groups = [MemoryGroup(folder, self.root, self.is_v2) for folder in around]
        return [group for group in groups if group.limit_bytes() is not None]


def memory_group(pid: int | None = None, *, proc: Path = Path("/proc")) -> MemoryGroup | None:
    """Return the memory control group of the process `pid` (None: of this one), or None where there is none.

    Parameters
    ----------
    pid : int or None, default None
        A process.
    proc : Path, default Path("/proc")
        Where the kernel shows its processes.
    """
    try:
        membership = (proc / str(pid or "self") / "cgroup").read_text(encoding="utf-8")
        mounts = (proc / "self" / "mountinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in membership.splitlines())}
    v1 = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    for line in mounts.splitlines():
        root, point, kind, options = _mount(line)
        if kind == "cgroup" and v1 is not None and "memory" in options:
            return _existing(MemoryGroup(point / _below(v1, root), point, is_v2=False))
        if kind == "cgroup2" and v1 is None and "" in paths:
            return _existing(MemoryGroup(point / _below(paths[""], root), point, is_v2=True))
    return None


def _existing(group: MemoryGroup) -> MemoryGroup | None:
    """Return the group where the kernel shows its memory: not in a hierarchy without the memory controller."""
    for folder in (group.folder, group.root):
        candidate = MemoryGroup(folder, group.root, group.is_v2)
        if (folder / candidate._files.usage).is_file():
            return candidate
    return None


def _mount(line: str) -> tuple[str, Path, str, list[str]]:
    """Return root, mount point, type and options of a line of ``mountinfo``."""
    before, _, after = line.partition(" - ")
    fields = before.split()
    kind, _, options = after.split(" ", 2)
    return fields[3], Path(_unescaped(fields[4])), kind, options.split(",")


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _below(path: str, root: str) -> str:
    """Return `path` relative to what is mounted of the hierarchy."""
    return path.removeprefix(root).lstrip("/") if root != "/" else path.lstrip("/")


def _table(path: Path) -> Mapping[str, int]:
    """Return the lines "name number" of a file."""
    pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
