"""Two scripts start to sort into one folder at the same instant; one holder is killed."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import nemesis


def main(job: dict[str, Any], template: str, n: int) -> dict[str, Any]:
    found: dict[str, Any] = {"one_ran": 0, "told": 0, "untouched": 0, "free_s": []}
    for trial in range(n):
        inter, results = f"{job['inter']}{trial}", f"{job['results']}{trial}"
        nemesis.with_load_done(template, inter)
        mine = {**job, "inter": inter, "results": results}
        scripts = [nemesis.start_sort(jobs=[mine]) for _ in range(2)]
        nemesis.wait_until(lambda s=scripts: any(script.poll() is not None for script in s), 30, "a refusal")
        refused, holder = sorted(scripts, key=lambda script: script.poll() is None)
        record = json.loads(refused.communicate()[0].splitlines()[-1])["records"][0]
        found["one_ran"] += holder.poll() is None and record["status"] == "concurrent_sort"
        said = record["error_message"]
        found["told"] += f"process {holder.pid} on {socket.gethostname()} since 20" in said
        nemesis.wait_until(lambda h=holder, i=inter: nemesis.is_misbehaving(h, i), 30, "the holder's sorter")
        found["untouched"] += not Path(results, "recording_report.json").exists()
        started = time.monotonic()
        holder.kill()
        holder.communicate()
        nemesis.wait_until(lambda i=inter, r=results: nemesis.is_free(i) and nemesis.is_free(r), 5, "free folders")
        found["free_s"].append(time.monotonic() - started)
        nemesis.wait_until(lambda: not nemesis.living(), 5, "the end of everything")
    return {**found, "pid": os.getpid()}


nemesis.run(main)
