"""Simulated recordings, sorts of them, and what pyproject.toml says: shared by several tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

FAST = {"kilosort_params": {"nblocks": 0}, "n_jobs": 1}
"""Settings that sort a tiny recording in seconds."""

_SCRIPT = """
import json, os, sys
from spikelab.spike_sorting import SortRunReport, sort_recording
report = SortRunReport()
files, options = json.loads(sys.argv[1])
sort_recording(files, out_report=report, **options)
print(json.dumps({"modules": list(sys.modules), "report": report.to_dict(), "environment": dict(os.environ)}))
"""


@dataclass(frozen=True)
class Sorted:
    """A file, its truth, and where it was sorted."""

    file: Path
    truth: Any
    results: Path
    inter: Path
    said: dict[str, Any]


def simulate_maxwell(path: Path, layout: str = "linear", **options: Any) -> Any:
    """Write a small Maxwell file and return its truth."""
    from spikelab.simulation import simulate_recording, write_maxwell

    defaults = {"n_channels": 12, "duration_s": 10, "n_units": 6, "rate_Hz": (6, 12), "peak_uV": (110, 110), "seed": 5}
    scale = {"dtype": "uint16", "gain_uV": 3.147, "offset_uV": -512 * 3.147}
    truth = simulate_recording(layout, **{**defaults, **scale, **options})
    write_maxwell(path, truth.recording)
    return truth


def sort_in_subprocess(files: list[str], **options: Any) -> dict[str, Any]:
    """Sort in a fresh process, as a script would, and return what it saw."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([files, options])],
        capture_output=True,
        text=True,
        check=False,
        env=with_fake_sorter(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


FAKE_SORTER = Path(__file__).with_name("fake_sorter")


def with_fake_sorter(**environment: str) -> dict[str, str]:
    """Return an environment in which the sorter "fake" is found, as a third party's would be."""
    path = os.pathsep.join(filter(None, [str(FAKE_SORTER), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
