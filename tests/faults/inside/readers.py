"""Readers that never stop while a writer replaces a file and a folder, and is killed in the middle of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import nemesis

from spikelab.spike_sorting.supervision.publish import publish_json


def main(folder: str, n: int) -> dict[str, int]:
    path = Path(folder, "report.json")
    publish_json(path, _content(0))
    writer = os.fork()
    if writer == 0:
        for number in range(1, n + 1):
            publish_json(path, _content(number))
        os._exit(0)  # noqa: TID251 - a fork that must not run what its parent would at its end
    n_reads, n_torn, seen = 0, 0, set()
    while os.waitpid(writer, os.WNOHANG)[0] == 0:
        text = path.read_text()
        try:
            value = json.loads(text)
            n_torn += value != _content(value["number"])
            seen.add(value["number"])
        except ValueError:
            n_torn += 1
        n_reads += 1
        time.sleep(0)
    return {"n_reads": n_reads, "n_torn": n_torn, "n_seen": len(seen)}


def _content(number: int) -> dict[str, Any]:
    return {"number": number, "rows": [number] * 3000}


nemesis.run(main)
