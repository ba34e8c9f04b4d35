"""A sort that may open few files, or start few processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import groups
import nemesis


def main(job: dict[str, Any], n_files: int | None = None, n_processes: int | None = None) -> dict[str, Any]:
    command = [sys.executable, str(nemesis.HERE / "sort.py"), json.dumps({"jobs": [job]})]
    with ExitStack() as stack:
        if n_files is not None:
            command = ["prlimit", f"--nofile={n_files}", *command]
        if n_processes is not None:
            # No limit of the user's: the kernel lets root start as many as it likes.
            try:
                stack.enter_context(groups.processes_limited(n_processes))
            except OSError as error:
                return {"skip": f"no control group of processes: {error}"}
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        seconds = time.monotonic() - started
    report = Path(job["results"], "recording_report.json")
    return {
        "seconds": seconds,
        "records": json.loads(done.stdout.splitlines()[-1])["records"] if done.stdout else [],
        "complained": done.stderr[-3000:],
        "told": report.read_text() if report.is_file() else "",
        "left": nemesis.living(),
        "content": nemesis.content(job["results"]),
    }


nemesis.run(main)
