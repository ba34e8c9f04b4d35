"""``spikelab doctor --bundle``: a zip for a bug report, without names of people and machines."""

from __future__ import annotations

import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import distributions
from pathlib import Path

from spikelab.cli.facts import Facts
from spikelab.cli.output import UsageProblem
from spikelab.cli.redaction import Redactor
from spikelab.cli.runs import Run
from spikelab.spike_sorting.report.plain import to_plain
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.state import run_of
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, read_card
from spikelab.spike_sorting.supervision.publish import publish_with

_LAST_BYTES = 512 * 1024
"""Of a file, no more than its end."""
MOST_RUNS = 24
_DISK_S = 10.0
_ENVIRONMENT = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "HDF5_PLUGIN_PATH",
    "KILOSORT2_PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TMPDIR",
)
"""What may matter of it; the rest is nobody's business."""
_RESULTS = (
    "events.jsonl",
    "config_used.json",
    "recording_report.json",
    "sorting_report.md",
    "sorting.log",
    "watchdog.csv",
    "disk_exhaustion_report.json",
    "stimulation.json",
)
_ATTEMPT = ("job.json", "exit.json", "status.json")


def write_bundle(folder: Path, facts: Facts, told: str) -> Path:
    """Write the bundle into `folder`, and return its path.

    Parameters
    ----------
    folder : Path
        Where it goes.
    facts : Facts
        Readings of this machine, with the runs whose files go in.
    told : str
        What the doctor said.

    Raises
    ------
    UsageProblem
        It cannot be written there.
    """
    path = folder / f"spikelab_bundle_{datetime.now().astimezone():%Y%m%d_%H%M%S}.zip"
    sources = _latest(facts.runs)
    redact = Redactor.of_this_machine(filter(None, map(_Source.host, sources)))
    try:
        publish_with(path, partial(_fill, facts=facts, told=told, sources=sources, redact=redact))
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise UsageProblem(msg, "Call it in a folder that can be written to.") from error
    return path


@dataclass(frozen=True)
class _Source:
    """A run, and its disk, which may have stopped to answer since it was found."""

    run: RunFolder
    disk: Deadline

    @classmethod
    def of(cls, results: Path) -> _Source:
        disk = Deadline(f"the disk of {results}", _DISK_S)
        try:
            return cls(disk.call(partial(run_of, results)), disk)
        except OSError:
            return cls(RunFolder(results, results), disk)

    def changed_s(self) -> float:
        """Return when something happened last, to compare."""
        try:
            return self.disk.call(self.run.journal.path.stat).st_mtime
        except OSError:
            return 0.0

    def host(self) -> str:
        """Return the machine that worked on it last; empty where nothing says so."""
        try:
            return str(self.disk.call(partial(read_card, self.run.results / LOCK_NAME)).get("hostname") or "")
        except OSError:
            return ""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Return name and end of each file that tells something."""
        for name, path in self._paths():
            with suppress(OSError):
                yield name, self.disk.call(partial(_end_of, path))

    def _paths(self) -> Iterator[tuple[str, Path]]:
        run = self.run
        yield from ((name, run.results / name) for name in _RESULTS)
        yield "progress.json", run.progress
        for attempt in self._listed(run.inter / "attempts"):
            yield from ((f"attempts/{attempt.name}/{name}", attempt / name) for name in _ATTEMPT)
        for path in self._listed(run.inter):
            if path.name.endswith(".done.json"):
                yield f"markers/{path.name}", path

    def _listed(self, folder: Path) -> list[Path]:
        try:
            return self.disk.call(lambda: sorted(folder.iterdir()))
        except OSError:
            return []


def _latest(runs: Sequence[Run]) -> list[_Source]:
    """Return the runs that changed last."""
    sources = [_Source.of(Path(run.folder)) for run in runs]
    return sorted(sources, key=_Source.changed_s, reverse=True)[:MOST_RUNS]


def _fill(path: Path, *, facts: Facts, told: str, sources: Sequence[_Source], redact: Redactor) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in _about_machine(facts, told):
            bundle.writestr(name, redact(text))
        # Versions of four numbers look like addresses; there is nobody's name in them.
        bundle.writestr("packages.txt", _packages())
        for number, source in enumerate(sources, start=1):
            for name, text in source.texts():
                bundle.writestr(redact(f"runs/{number:02d}_{source.run.results.name}/{name}"), redact(text))


def _about_machine(facts: Facts, told: str) -> Iterator[tuple[str, str]]:
    yield "doctor.txt", told
    yield "facts.json", json.dumps(to_plain(asdict(facts)), indent=2)
    machine = {
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "python": sys.version,
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    }
    yield "machine.json", json.dumps(machine, indent=2)


def _packages() -> str:
    return "".join(sorted({f"{found.metadata['Name']}=={found.version}\n" for found in distributions()}, key=str.lower))


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        return file.read(_LAST_BYTES).decode("utf-8", errors="replace")
