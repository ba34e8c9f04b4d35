"""A whole sort under strace: how is the recording opened?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nemesis


def main(job: dict[str, Any], template: str) -> dict[str, Any]:
    nemesis.with_load_done(template, job["inter"])
    log = Path(job["inter"]).with_name("strace.log")
    tracer = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log), "-e", "trace=open,openat,truncate,unlink,rename"]
    command = [*tracer, sys.executable, str(nemesis.HERE / "sort.py"), json.dumps({"jobs": [job]})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    status = json.loads(done.stdout.splitlines()[-1])["records"][0]["status"]
    if status != "success":
        raise RuntimeError(status)
    lines = [line for line in log.read_text(errors="replace").splitlines() if f'"{job["file"]}"' in line]
    return {"n_opened": len(lines), "writing": [line for line in lines if not re.search(r"openat?\(.*O_RDONLY", line)]}


nemesis.run(main)
