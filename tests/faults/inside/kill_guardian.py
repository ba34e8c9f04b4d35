"""Kill -9 of the guardian, alone or with the script that sorts: what is left is found and ended by its cookie."""

from __future__ import annotations

import json
from typing import Any

import nemesis


def main(job: dict[str, Any], template: str, script_too: bool) -> dict[str, Any]:
    nemesis.with_load_done(template, job["inter"])
    script = nemesis.start_sort(jobs=[job])
    nemesis.wait_until(lambda: nemesis.is_misbehaving(script, job["inter"], 4), 30, "misbehaviour")
    guardian = nemesis.guardian_of(script)
    started_by_us = nemesis.descendants(script.pid)
    guardian.send()
    if not script_too:
        said, _ = script.communicate(timeout=60)
        return {"left": nemesis.living(), "report": json.loads(said.splitlines()[-1])}
    script.kill()
    script.communicate()
    nemesis.wait_until(guardian.has_ended, 5, "end of the guardian")
    survivors = [pid for pid in nemesis.living() if pid in started_by_us]
    report = nemesis.sort_to_the_end(jobs=[job])
    return {
        "n_survivors": len(survivors),
        "left": nemesis.living(),
        "report": report,
        "content": nemesis.content(job["results"]),
    }


nemesis.run(main)
