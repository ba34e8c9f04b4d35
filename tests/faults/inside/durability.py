"""The order of flushes: a file before it is renamed, a folder after a name in it changed. A kill cannot show it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nemesis
import syscalls


def main(work: str, folder: str) -> dict[str, Any]:
    trial, log = syscalls.Trial(work, Path(folder, "run")), Path(folder, "strace.log")
    trial.fresh()
    if trial.do(log, paths=True) != 0:
        raise RuntimeError(f"{work} fails undisturbed")
    return {"n_renames": len(re.findall(r"\brename", log.read_text())), "bad": problems(log.read_text())}


def problems(trace: str) -> list[str]:
    """Fold a trace with paths: a write makes a file dirty, a flush makes it clean, a rename waits for its folder."""
    dirty: set[str] = set()
    renamed: dict[str, str] = {}
    bad = []
    for line in trace.splitlines():
        if match := re.search(r"\bp?writev?(?:64)?\(\d+<([^>]+)>", line):
            dirty.add(match[1])
        elif match := re.search(r"\bf(?:data)?sync\(\d+<([^>]+)>\)\s+= 0", line):
            dirty.discard(match[1])
            renamed = {new: old for new, old in renamed.items() if str(Path(new).parent) != match[1]}
        elif match := re.search(r'\brename\w*\((?:AT_FDCWD\S*, )?"([^"]+)", (?:AT_FDCWD\S*, )?"([^"]+)".*= 0', line):
            old, new = match[1], match[2]
            bad += [
                f"renamed before it was flushed: {new}" for path in dirty if path == old or path.startswith(f"{old}/")
            ]
            dirty = {path for path in dirty if path != old and not path.startswith(f"{old}/")}
            if "partial" not in new and "outdated" not in new:
                renamed[new] = old
    # What is looked at by nobody after a power cut may be lost: the progress, and the status of a guardian.
    bad = [problem for problem in bad if "progress" not in problem]
    return bad + [f"its folder was never flushed: {new}" for new in renamed if "progress" not in new]


nemesis.run(main)
