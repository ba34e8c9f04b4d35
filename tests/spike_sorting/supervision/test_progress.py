"""The progress of a worker."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.progress import MIN_INTERVAL_S, Progress, ProgressFile, left_s, read_progress


def test_nobody_has_reported_yet(tmp_path: Path) -> None:
    """Before the first report there is no progress."""
    assert read_progress(tmp_path / "progress.json") is None


def test_a_new_step_is_always_written_and_the_rest_now_and_then(tmp_path: Path) -> None:
    """Steps are never missed; within one step, a loop of thousands writes a few times a second."""
    path = tmp_path / "progress.json"
    progress = ProgressFile(path, "sort")
    progress.report("detect", 0.0)
    assert read_progress(path) == Progress("sort", "detect", 0.0)
    progress.report("detect", 0.1)
    assert read_progress(path) == Progress("sort", "detect", 0.0)
    progress.report("cluster", n_spikes=1234)
    assert read_progress(path) == Progress("sort", "cluster", None, 1234)
    time.sleep(MIN_INTERVAL_S)
    progress.report("cluster", 0.5, 1300)
    assert read_progress(path) == Progress("sort", "cluster", 0.5, 1300)

    written = set()
    started = time.monotonic()
    for k in range(20_000):
        progress.report("cluster", k / 20_000)
        written.add(path.stat().st_mtime_ns)
    assert len(written) <= 2 + (time.monotonic() - started) / MIN_INTERVAL_S


@pytest.mark.parametrize(
    "fraction, since, left",
    [(None, 0.0, None), (0.0, 0.0, None), (0.04, 0.0, None), (0.25, 0.0, 90.0), (1.0, 0.0, 0.0), (0.6, 0.5, 120.0)],
)
def test_what_is_left_follows_from_the_pace_within_the_step(
    fraction: float | None, since: float, left: float | None
) -> None:
    """After 30 s, the rest takes as long per share as what was done in that time; at the very start nobody knows."""
    assert left_s(fraction, since, 30.0) == (left if left is None else pytest.approx(left, abs=0.1))


def test_each_step_has_its_own_pace(tmp_path: Path) -> None:
    """The time that is left is that of the present step, however long those before it took."""
    path = tmp_path / "progress.json"
    progress = ProgressFile(path, "sort")
    progress.report("detect", 0.0)
    time.sleep(2 * MIN_INTERVAL_S)
    progress.report("cluster", 0.0)
    time.sleep(MIN_INTERVAL_S)
    progress.report("cluster", 0.5)
    told = read_progress(path)
    assert told is not None
    assert told.left_s is not None
    assert MIN_INTERVAL_S <= told.left_s < 2 * MIN_INTERVAL_S


@pytest.mark.parametrize("content", [b"", b'{"stage": "so', b"[1]", b'{"stage": "sort", "later": 1}', b"\xff", b"3"])
def test_what_is_no_progress_is_none(content: bytes, tmp_path: Path) -> None:
    """A file that cannot be read as progress is as none."""
    (tmp_path / "progress.json").write_bytes(content)
    assert read_progress(tmp_path / "progress.json") is None


def test_a_half_written_file_is_never_read(tmp_path: Path) -> None:
    """A reader that looks all the time sees whole reports only, each not older than the last."""
    path = tmp_path / "progress.json"
    code = """
import sys
from pathlib import Path
from spikelab.spike_sorting.supervision.progress import ProgressFile
progress = ProgressFile(Path(sys.argv[1]), "sort")
for k in range(3000):
    progress.report(str(k) + "." * (k % 200), 0.5, k)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        seen = [-1]
        while writer.poll() is None:
            if path.exists():
                progress = read_progress(path)
                assert progress is not None
                assert progress.n_spikes is not None
                seen.append(progress.n_spikes)
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 10


def test_a_share_of_nothing_is_not_known(tmp_path: Path) -> None:
    """A sorter that divides by zero costs its own number, and none of those who read it."""
    path = tmp_path / "progress.json"
    ProgressFile(path, "sort").report("detect", float("nan"))
    assert read_progress(path) == Progress("sort", "detect")
