"""A terminal that closes while a sort runs in it: exit code, report, what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import nemesis

IN_TERMINAL = ("env", "--default-signal=HUP", "setsid", "--ctty")
"""The kernel tells a program of this session when the terminal closes."""
WAYS = {
    "foreground": (*IN_TERMINAL, "spikelab"),
    "nohup": (*IN_TERMINAL, "nohup", "spikelab"),
    "left behind": ("env", "--default-signal=HUP", "setsid", "spikelab"),
    "no stdin": (*IN_TERMINAL, "sh", "-c", 'trap "" HUP; exec "$@" <&-', "sh", "spikelab"),
    "script": (*IN_TERMINAL, sys.executable, str(nemesis.HERE / "sort.py")),
}
"""Left behind: in the background of a shell that does not tell it (disown)."""


def main(job: dict[str, Any], template: str, way: str, config: str) -> dict[str, Any]:
    inter, results = job["inter"], job["results"]
    nemesis.with_load_done(template, inter)
    terminal, inside = os.openpty()
    os.set_blocking(terminal, False)
    sort = subprocess.Popen(
        _command(way, job, config),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=Path(config).parent,
    )
    os.close(inside)
    shown = bytearray()
    nemesis.wait_until(lambda: _read(terminal, shown) or nemesis.is_misbehaving(sort, inter), 30, "misbehaviour")
    os.close(terminal)
    sort.wait(timeout=60)
    nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of everything")
    # A process counts as ended when its first thread has; the others may hold its files for an instant more.
    nemesis.wait_until(lambda: all(map(nemesis.is_free, (inter, results))), 5, "the locks")
    report = Path(results, "recording_report.json")
    return {
        "returncode": sort.returncode,
        "report": json.loads(report.read_text()) if report.exists() else None,
        "content": nemesis.content(results),
        "shown": shown.decode(errors="replace")[-2000:],
    }


def _command(way: str, job: dict[str, Any], config: str) -> list[str]:
    programs = {"spikelab": str(Path(sys.executable).with_name("spikelab"))}
    command = [programs.get(word, word) for word in WAYS[way]]
    if way == "script":
        return [*command, json.dumps({"jobs": [job]})]
    folders = [str(Path(job[place]).parent) for place in ("results", "inter")]
    return [*command, "sort", job["file"], "--config", config, "--results", folders[0], "--intermediate", folders[1]]


def _read(terminal: int, shown: bytearray) -> None:
    """Take what was shown, as a terminal does: nobody waits for its reader."""
    with suppress(OSError):  # nothing to read just now, or nobody shows anything here, as under nohup
        while piece := os.read(terminal, 65536):
            shown.extend(piece)


nemesis.run(main)
