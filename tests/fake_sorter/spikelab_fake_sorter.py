"""A sorter that sorts in milliseconds, and misbehaves as it is told: a third party's backend, found by entry point.

Put this folder on PYTHONPATH. It finds troughs by a threshold, one unit per channel, always the same; its
parameters say what else it does: {"behaviour": "hang", "attempts": 1} hangs in the first attempt only.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_QUIET = ("behaviour", "attempts", "batch_size", "seconds", "megabytes", "place", "how", "torch_device")
"""Parameters that change nothing in what is found."""


class FakeSorter:
    """Threshold detection, one unit per channel."""

    name = "fake"

    def installed(self, config: Any) -> str | None:
        return "1.0"

    def check_installed(self, config: Any) -> str:
        return "1.0"

    def check_params(self, config: Any) -> None:
        if unknown := set(config.sorter.sorter_params) - {*_QUIET, "marker"}:
            msg = f"the fake sorter has no parameter {unknown}"
            raise ValueError(msg)

    def settings(self, config: Any) -> Mapping[str, Any]:
        return {key: value for key, value in config.sorter.sorter_params.items() if key not in _QUIET}

    def device(self, config: Any) -> str:
        return str(config.sorter.sorter_params.get("torch_device", "auto"))

    def sort(self, job: Any) -> Mapping[str, str]:
        import numpy as np

        params = job.config.sorter.sorter_params
        attempt = _count_attempt(job.run.inter / "fake_attempts")
        job.progress.report("threshold", 0.0)
        if attempt <= params.get("attempts", 10**9):
            _BEHAVIOURS[params.get("behaviour", "ok")](job)
        traces = job.recording.get_traces().astype(np.float32)
        traces -= np.median(traces, axis=0)
        noise = np.median(np.abs(traces), axis=0) / 0.6745
        below = traces < -6 * noise
        sample, channel = np.nonzero(below[1:] & ~below[:-1])
        np.save(job.folder / "samples.npy", sample + 1)
        np.save(job.folder / "channels.npy", channel)
        job.progress.report("threshold", 1.0, len(sample))
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        return {} if seen is None else {"cuda_visible_devices": seen}

    def read(self, folder: Path, n_samples: int) -> Any:
        import numpy as np

        from spikelab.spike_sorting.backends.base import Sorting, check_sorting
        from spikelab.spike_sorting.backends.phy_files import load_array

        samples = load_array(folder / "samples.npy", "fake")
        unit_ids, units = np.unique(load_array(folder / "channels.npy", "fake"), return_inverse=True)
        return check_sorting(Sorting(samples, units, unit_ids, {}), n_samples, "fake")

    def smaller(self, config: Any, shortage: Any) -> Any:
        from spikelab.spike_sorting.backends.base import Shrunk

        now = config.sorter.sorter_params.get("batch_size", 8)
        if now <= 1:
            return None
        params = {**config.sorter.sorter_params, "batch_size": now // 2}
        return Shrunk(config.override(kilosort_params=params), {"batch_size": now // 2}, changes_result=False)

    def environment(self, config: Any) -> Mapping[str, str]:
        return {}


def _count_attempt(folder: Path) -> int:
    folder.mkdir(exist_ok=True)
    number = 1 + len(list(folder.iterdir()))
    (folder / str(number)).touch()
    return number


def _hang(_job: Any) -> None:
    while True:
        signal.pause()


def _spin(_job: Any) -> None:
    while True:
        pass


def _work_quietly(_job: Any) -> None:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        pass


def _crawl(job: Any) -> None:
    """Do a twentieth in three seconds, and the rest at once: for a while, a minute seems to be left."""
    time.sleep(3.2)
    job.progress.report("threshold", 0.05)
    time.sleep(2.5)


def _ignore_signals(job: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _hang(job)


def _leave_children(job: Any) -> None:
    """Start a child, and one of another session, that both ignore SIGTERM and outlive their parent."""
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    for session in (False, True):
        subprocess.Popen([sys.executable, "-c", program], start_new_session=session)
    _hang(job)


def _leak(_job: Any) -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1) * 20_000_000))
        time.sleep(0.02)


def _fill_disk(job: Any) -> None:
    with (job.folder / "huge.bin").open("wb") as file:
        while True:
            file.write(b"x" * 1_000_000)
            file.flush()


def _deadlock(_job: Any) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _flood(job: Any) -> None:
    """Write one line without an end, of bytes that are no text, and die of something else."""
    piece = b"\xff\xfe\x80no end " * 100_000
    for _ in range(job.config.sorter.sorter_params.get("megabytes", 1000)):
        os.write(1, piece[:1_000_000])
    os._exit(3)


def _draw_bars(_job: Any) -> None:
    """Overwrite one line ten thousand times, as progress bars do, and die of something else."""
    for number in range(10_000):
        sys.stdout.write(f"\r{number / 100:.2f} % |{'#' * (number // 250):<40}|")
    sys.stdout.flush()
    os.write(1, b"\nthe last \xe9\xff words\n")
    os._exit(3)


def _shout(_job: Any) -> None:
    """Write a megabyte to stderr, more than any pipe holds."""
    sys.stderr.write("x" * 1_000_000 + "\n")


def _meddle(job: Any) -> None:
    """Do to a folder of the run what people and mounts do, and sort on."""
    params = job.config.sorter.sorter_params
    _MEDDLING[params["how"]](getattr(job.run, params["place"]))


def _make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def _put_file_there(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.write_text("a file")


def _fill_with_later_version(folder: Path) -> None:
    """Make every JSON file that of a later version, with things that nobody knows yet, and add others."""
    for path in folder.glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99, "added": {"later": [1]}}))
    with (folder / "events.jsonl").open("a") as events:
        events.write('{"event": "later", "of": 99}\n["not even an object"]\n')
    (folder / "later.done.json").write_text('{"schema": 99}')
    (folder / "later").mkdir()


_MEDDLING: Mapping[str, Callable[[Path], Any]] = {
    "deleted": shutil.rmtree,
    "renamed": lambda folder: folder.rename(folder.with_name("moved")),
    "read-only": _make_read_only,
    "a file": _put_file_there,
    "later version": _fill_with_later_version,
}


def _leave_container(job: Any) -> None:
    """Note down a container, as if it had been started; in the folder that is named `place`, where one is."""
    from spikelab.spike_sorting.backends.containers.leftovers import Note

    if job.config.sorter.sorter_params.get("place") in {None, job.run.inter.name}:
        Note({"spikelab.run": "1"}).write(job.run.container_note)


def _append(job: Any) -> None:
    """Write on at the end of a file, as a recording that has not ended does."""
    with Path(job.config.sorter.sorter_params["place"]).open("ab") as file:
        file.write(b"more")


def _need_spikes(job: Any) -> None:
    """Fail as sorters do that find nothing in what they are given."""
    from spikelab.spike_sorting import InsufficientActivityError

    traces = job.recording.get_traces().astype("float32")
    if (traces.min(axis=0) > traces.mean(axis=0) - 8 * traces.std(axis=0)).all():
        raise InsufficientActivityError("no spikes", sorter="fake", units_at_failure=0)


def _raise(error: Callable[[], BaseException]) -> Callable[[Any], None]:
    def behave(_job: Any) -> None:
        raise error()

    return behave


_BEHAVIOURS: Mapping[str, Callable[[Any], Any]] = {
    "ok": lambda _job: None,
    "sleep": lambda job: time.sleep(job.config.sorter.sorter_params.get("seconds", 2)),
    "hang": _hang,
    "deadlock": _deadlock,
    "flood": _flood,
    "draw bars": _draw_bars,
    "shout": _shout,
    "meddle": _meddle,
    "append to": _append,
    "leave container": _leave_container,
    "touch": lambda job: Path(job.config.sorter.sorter_params["place"]).touch(),
    "spin": _spin,
    "crawl": _crawl,
    "work quietly": _work_quietly,
    "ignore signals": _ignore_signals,
    "leave children": _leave_children,
    "leak": _leak,
    "fill disk": _fill_disk,
    "segfault": lambda _job: ctypes.string_at(0),
    "abort": lambda _job: os.abort(),
    "exit 0": lambda _job: os._exit(0),
    "exit 3": lambda _job: os._exit(3),
    "kill": lambda _job: os.kill(os.getpid(), signal.SIGKILL),
    "gpu oom": _raise(lambda: RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "host oom": _raise(lambda: MemoryError("Unable to allocate 12.0 GiB for an array")),
    "need spikes": _need_spikes,
    "unknown": _raise(lambda: ZeroDivisionError("nobody has seen this before")),
}
