"""A sort on a file system that keeps no locks: every flock fails, in us and in all that we start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import nemesis


def main(job: dict[str, Any], error: str) -> dict[str, Any]:
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", f"inject=flock:error={error}"]
    command = [*tracer, sys.executable, str(nemesis.HERE / "sort.py"), json.dumps({"jobs": [job]})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    records = json.loads(done.stdout.splitlines()[-1])["records"] if done.stdout else []
    return {"records": records, "complained": done.stderr[-2000:], "left": nemesis.living()}


nemesis.run(main)
