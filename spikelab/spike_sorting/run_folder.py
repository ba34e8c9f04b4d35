"""Every path of a run, and the markers that say which stages are finished.

No path of a run is joined anywhere else. A stage is finished when its marker says so: the marker carries the
stage's key and the size of every file, and is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.journal import Journal
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, check_still_ours
from spikelab.spike_sorting.supervision.publish import (
    PARTIAL_SUFFIX,
    publish_folder,
    publish_json,
    remove_partials,
    sync_file,
    sync_folder,
)

EXPORT = "export"
"""The one stage whose output lies in the results folder."""


@dataclass(frozen=True)
class RunFolder:
    """The two folders of a run: intermediate files, and results.

    Parameters
    ----------
    inter : Path
        Intermediate folder.
    results : Path
        Results folder.
    """

    inter: Path
    results: Path

    # ----------------------------------------------------------------------------------- intermediate files

    @property
    def progress(self) -> Path:
        """How far the worker is."""
        return self.inter / "progress.json"

    @property
    def input_copy(self) -> Path:
        """Copy of a recording that was given as an object in memory."""
        return self.inter / "input"

    @property
    def scratch(self) -> Path:
        """Where the run's programs put their temporary files."""
        return self.inter / "tmp"

    @property
    def binary(self) -> Path:
        """Flat binary copy of the recording, for sorters that need one."""
        return self.inter / "recording.bin"

    @property
    def container_note(self) -> Path:
        """What tells of a container of this run, as long as there may be one."""
        return self.inter / "container.json"

    @property
    def canary(self) -> Path:
        """Folder of the canary's own sort, for as long as that takes."""
        return self.inter / "canary"

    @property
    def container_notes(self) -> tuple[Path, Path]:
        """All that may tell of a container that was left: `container_note`, and that of the canary."""
        return self.container_note, self.canary / self.container_note.name

    @property
    def recording(self) -> Path:
        """The recording that is sorted, as a description."""
        return self.stage("load") / "recording.json"

    @property
    def stimulation(self) -> Path:
        """What became of the artifacts of stimulation, where there were any."""
        return self.recording.with_name("stimulation.json")

    @property
    def sorter_output(self) -> Path:
        """What the sorter wrote, in its own format."""
        return self.stage("sort") / "sorter_output"

    @property
    def sorter_overview(self) -> Path:
        """Drift and a sample of the spikes, where the sorter tells of them."""
        return self.sorter_output / self.overview.name

    @property
    def sorter_checkpoints(self) -> Path:
        """Where a sorter keeps what it knows after each of its steps."""
        return self.inter / "sort_checkpoints"

    @property
    def analyzer(self) -> Path:
        """The SortingAnalyzer; SpikeInterface's tools open it."""
        return self.stage("waveforms") / "analyzer"

    @property
    def assembled(self) -> Path:
        """All units, before curation."""
        return self.stage("assemble") / "spikedata_raw.h5"

    def stage(self, name: str) -> Path:
        """Folder of the stage `name`."""
        return self.results if name == EXPORT else self.inter / name

    def new_attempt(self) -> Path:
        """Create the folder of the next attempt, in which a worker leaves its exit."""
        attempts = self.inter / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.name) for path in attempts.iterdir() if path.name.isdigit()), default=0)
        attempt = attempts / str(number)
        attempt.mkdir()
        return attempt

    # --------------------------------------------------------------------------------------------- results

    @property
    def curated(self) -> Path:
        """The curated SpikeData."""
        return self.results / "spikedata_curated.h5"

    @property
    def raw(self) -> Path:
        """The uncurated SpikeData, on request."""
        return self.results / "spikedata_raw.h5"

    @property
    def stimulation_record(self) -> Path:
        """What became of the artifacts of stimulation, where there were any."""
        return self.results / self.stimulation.name

    @property
    def overview(self) -> Path:
        """Drift and a sample of the spikes, for the report."""
        return self.results / "sort_overview.npz"

    @property
    def curation_history(self) -> Path:
        """Which unit went when, and why."""
        return self.results / "curation_history.json"

    @property
    def config_used(self) -> Path:
        """Settings and versions of the run."""
        return self.results / "config_used.json"

    @property
    def report_json(self) -> Path:
        """The outcome for machines."""
        return self.results / "recording_report.json"

    @property
    def report_markdown(self) -> Path:
        """The outcome for people, as text."""
        return self.results / "sorting_report.md"

    @property
    def report_html(self) -> Path:
        """The outcome for people, with plots."""
        return self.results / "sorting_report.html"

    @property
    def log(self) -> Path:
        """Everything that the workers printed."""
        return self.results / "sorting.log"

    @property
    def curve(self) -> Path:
        """Memory, GPU and disk over time."""
        return self.results / "watchdog.csv"

    def threads_used(self) -> int | None:
        """Return how many threads the workers of an earlier call had, or None when there was none."""
        used = (_read_json(self.config_used) or {}).get("threads")
        return used if isinstance(used, int) else None

    def recorded_s(self) -> float:
        """Return how long the loaded recording lasts (s); 0 before it is loaded."""
        marker = self.read_marker("load") or {"summary": {}}
        return float(marker["summary"].get("duration_s", 0.0))

    def recorded_values(self) -> int:
        """Return how many values all channels of the loaded recording have together; 0 before it is loaded."""
        summary = (self.read_marker("load") or {"summary": {}})["summary"]
        return int(summary.get("n_samples", 0)) * int(summary.get("n_channels", 0))

    def reported_success(self) -> bool:
        """Return whether the report tells of a sort that succeeded."""
        return (_read_json(self.report_json) or {}).get("status") == "success"

    def remove_reports(self) -> None:
        """Remove what was reported of an earlier run."""
        for path in (self.report_json, self.report_markdown, self.report_html):
            path.unlink(missing_ok=True)

    @property
    def journal(self) -> Journal:
        """Events of the run, in order."""
        return Journal(self.results / "events.jsonl")

    # --------------------------------------------------------------------------------------------- belonging

    def claim(self, owner: Mapping[str, Any]) -> None:
        """Write down to which recording the results belong, and where their intermediate files are."""
        card = {"schema": 1, "owner": dict(owner), "intermediate_folder": str(self.inter)}
        publish_json(self.results / ".spikelab.json", card)

    def claimed_inter(self) -> Path | None:
        """Return the intermediate folder of the results, or None where there never was a run."""
        card = _read_json(self.results / ".spikelab.json")
        return Path(card["intermediate_folder"]) if card and "intermediate_folder" in card else None

    def owner(self) -> Mapping[str, Any] | None:
        """Return which recording the results folder was used for, or None for a fresh one."""
        card = _read_json(self.results / ".spikelab.json")
        return card.get("owner") if card else None

    # ----------------------------------------------------------------------------------------------- markers

    def marker(self, name: str) -> Path:
        """Path of the marker of the stage `name`."""
        return self.results / ".export.done.json" if name == EXPORT else self.inter / f"{name}.done.json"

    def read_marker(self, name: str) -> dict[str, Any] | None:
        """Return the marker of the stage `name`, or None when there is none that can be read."""
        return _read_json(self.marker(name))

    def still_has_sort(self, key: str | None) -> bool:
        """Return whether the intermediate files are of the sort with this key, the ``config_digest`` of its units.

        Results in another folder may have used the same intermediate folder for a sort of their own since.
        """
        return (self.read_marker("sort") or {}).get("key") == key

    def is_done(self, name: str, key: str) -> bool:
        """Return whether the stage `name` was finished under `key` and its files are as it left them."""
        marker = self.read_marker(name) or {}
        files = marker.get("files")
        return (
            marker.get("key") == key
            and isinstance(files, dict)
            and all(_has_size(self.stage(name) / file, size) for file, size in files.items())
        )

    def forget(self, names: Iterable[str]) -> None:
        """Remove the markers of the stages `names`, so that they are run again."""
        for name in names:
            if name == EXPORT and self.marker(name).exists():
                self.marker(name).replace(self._outdated)
            self.marker(name).unlink(missing_ok=True)

    @property
    def _outdated(self) -> Path:
        """Names what exports before the next one wrote, or were about to: what that one no longer writes goes."""
        return self.results / ".export.outdated.json"

    def fresh_partial(self, name: str) -> Path:
        """Return an empty folder for the stage `name` to write into."""
        partial = (
            self.stage(name) / f".{name}{PARTIAL_SUFFIX}" if name == EXPORT else self.inter / (name + PARTIAL_SUFFIX)
        )
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        return partial

    def check_still_ours(self, run_id: str | None) -> None:
        """Raise ConcurrentSortError where another run has taken the folders over; None: nobody could."""
        if run_id is not None:
            check_still_ours((self.inter, self.results), run_id)

    def finish(
        self,
        name: str,
        key: str,
        partial: Path,
        seconds: float,
        summary: Mapping[str, Any],
        run_id: str | None = None,
    ) -> None:
        """Put what the stage `name` wrote into its place and, last, write its marker.

        Raises
        ------
        ConcurrentSortError
            The folders are no longer those of the run `run_id`; what it wrote does not count.
        """
        files = {path.relative_to(partial).as_posix(): path.stat().st_size for path in _files_below(partial)}
        if name == EXPORT:
            self.check_still_ours(run_id)
            outdated = self._note_outdated(files)
            _move_files(partial, self.results)
            for file in filter(_stays_below, outdated - files.keys()):
                _remove_below(self.results, file)
        else:
            publish_folder(partial, self.stage(name), lambda: self.check_still_ours(run_id))
        self.check_still_ours(run_id)
        marker = {
            "stage": name,
            "key": key,
            "finished_at": host.utc_now(),
            "wall_time_s": round(seconds, 3),
            "summary": dict(summary),
            "files": files,
        }
        publish_json(self.marker(name), marker)
        if name == EXPORT:
            self._outdated.unlink(missing_ok=True)

    def _note_outdated(self, files: Iterable[str]) -> set[str]:
        """Write down, and return, what may lie in the results folder of exports so far, and of one that moves `files`.

        Without it, what a crash between two of them left there would be named nowhere.
        """
        known = {*(_read_json(self._outdated) or {}).get("files", ()), *files}
        publish_json(self._outdated, {"files": sorted(known)})
        return known

    # ---------------------------------------------------------------------------------------------- clean-up

    def remove_leftovers(self) -> None:
        """Remove what an earlier run left half-written; only for the holder of the locks."""
        remove_partials(self.inter)
        remove_partials(self.results, hidden_only=True)
        if self.marker(EXPORT).exists():
            self._outdated.unlink(missing_ok=True)

    def remove_scratch(self) -> None:
        """Remove the run's temporary files."""
        if self.scratch.exists():
            shutil.rmtree(self.scratch)

    def fresh_scratch(self) -> Path:
        """Return an empty folder for temporary files."""
        self.remove_scratch()
        self.scratch.mkdir(parents=True)
        return self.scratch

    def remove_checkpoints(self) -> None:
        """Remove what a sorter kept for the case that it is interrupted."""
        if self.sorter_checkpoints.exists():
            shutil.rmtree(self.sorter_checkpoints)

    def remove_binary(self) -> None:
        """Remove the flat binary copy and its marker."""
        for path in (self.binary, self.binary.with_suffix(".done.json")):
            path.unlink(missing_ok=True)

    def remove_disposable(self) -> list[Path]:
        """Remove what no finished stage and no result needs, and return it; only for the holder of the locks."""
        kept = {LOCK_NAME, self.container_note.name, self.input_copy.name, f"{self.input_copy.name}.digest"}
        stages = [path.name.removesuffix(".done.json") for path in self.inter.glob("*.done.json")]
        kept |= {name for stage in stages if stage != self.binary.stem for name in (stage, f"{stage}.done.json")}
        gone = [path for path in sorted(self.inter.iterdir()) if path.name not in kept]
        for path in gone:
            _remove(path)
        remove_partials(self.results, hidden_only=True)
        return gone

    def remove_inter(self) -> None:
        """Remove all intermediate files but the lock, which this run still holds, and what tells of a container."""
        notes = [note.relative_to(self.inter) for note in self.container_notes if note.exists()]
        kept = {LOCK_NAME, *(note.parts[0] for note in notes)}
        for path in self.inter.iterdir():
            if path.name not in kept:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _move_files(partial: Path, final: Path) -> None:
    for path in sorted(_files_below(partial)):
        sync_file(path)
        target = final / path.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    for folder in {final, *(final / path.relative_to(partial) for path in _folders_below(partial))}:
        sync_folder(folder)
    shutil.rmtree(partial)


def _stays_below(file: str) -> bool:
    """Return whether a name that was read, and that anybody may have written, leads nowhere out of its folder."""
    path = Path(file)
    return not path.is_absolute() and ".." not in path.parts


def _remove_below(folder: Path, file: str) -> None:
    """Remove a file below `folder`, and what that leaves empty there."""
    path = folder / file
    path.unlink(missing_ok=True)
    while (path := path.parent) != folder and path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def _files_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _folders_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_dir())


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None
