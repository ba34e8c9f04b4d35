"""Small pieces of work on files, done with the functions that the package itself uses, and copies with planted bugs.

Each begins as a run begins, by removing leftovers, and does what is not done yet: done again after any crash, it
must end in the state of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.sources import Source
from spikelab.spike_sorting.stages.sort import read_spikes, write_spikes
from spikelab.spike_sorting.stages.stage import Stage, StageRun, ensure
from spikelab.spike_sorting.supervision import publish as publishing
from spikelab.spike_sorting.supervision.journal import Journal
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.publish import publish, publish_folder, publish_json, remove_partials

Work = Callable[[Path], None]
PAYLOAD = bytes(range(256)) * 1200


# ----------------------------------------------------------------------------------------------- single files


def prepare_files(folder: Path) -> None:
    """Leave an older result in place."""
    folder.mkdir()
    (folder / "data.bin").write_bytes(b"old" * 1000)
    (folder / "report.json").write_text('{"version": 0}')


def publish_files(folder: Path) -> None:
    """Replace a large file and a small one."""
    remove_partials(folder)
    publish(folder / "data.bin", PAYLOAD)
    publish_json(folder / "report.json", {"version": 1})


def prepare_folder(folder: Path) -> None:
    """Leave an older folder in place."""
    (folder / "stage").mkdir(parents=True)
    (folder / "stage" / "old.bin").write_bytes(b"old")


def replace_folder(folder: Path) -> None:
    """Replace a folder by one with three files and a folder of its own."""
    remove_partials(folder)
    partial = folder / "stage.partial"
    _fill(partial)
    publish_folder(partial, folder / "stage")


def _fill(partial: Path) -> None:
    (partial / "deeper").mkdir(parents=True, exist_ok=True)
    for name in ("a.bin", "b.bin", "deeper/c.bin"):
        (partial / name).write_bytes(PAYLOAD[: 1000 * len(name)])


# --------------------------------------------------------------------------------------------------- a pipeline


def run_stages(folder: Path) -> None:
    """Do three stages as the pipeline does them, under the locks, the last one into the results folder."""
    run = RunFolder(folder / "inter", folder / "results")
    with hold((run.inter, run.results), "a run"):
        run.remove_leftovers()
        run.claim({"files": ["somewhere"]})
        job = Job("culture", Source(), run, SortingPipelineConfig())
        for stage in _STAGES:
            ensure(stage, job, f"key of {stage.name}")


def prepare_older_run(folder: Path) -> None:
    """Leave a finished run under other settings, with a file that the new one no longer writes."""
    run = RunFolder(folder / "inter", folder / "results")
    with hold((run.inter, run.results), "an older run"):
        run.remove_leftovers()
        job = Job("culture", Source(), run, SortingPipelineConfig())
        older = (*_STAGES[:2], Stage(EXPORT, "finish", 1, lambda _: None, _export_older))
        for stage in older:
            ensure(stage, job, f"older key of {stage.name}")


def change_settings(folder: Path) -> None:
    """Sort under other settings first; after a crash only under the new ones: nobody asks for the other ones again."""
    begun = folder / "begun"
    if not begun.exists():
        folder.mkdir(exist_ok=True)
        begun.touch()
        prepare_older_run(folder)
    run_stages(folder)


def _sort(stage: StageRun) -> dict[str, Any]:
    from spikelab.spike_sorting.backends.base import Sorting

    spikes = Sorting(np.arange(2000), np.arange(2000) % 5, np.arange(5), {"label": list("abcde")})
    write_spikes(stage.folder / "spikes.npz", spikes)
    return {"n_units": 5}


def _curate(stage: StageRun) -> dict[str, Any]:
    spikes = read_spikes(stage.job.run.stage("sort"))
    (stage.folder / "history.json").write_text(json.dumps({"n": int(spikes.samples.size)}))
    return {}


def _export(stage: StageRun) -> dict[str, Any]:
    for name in ("spikedata_curated.h5", "curation_history.json", "figures/overview.png"):
        (stage.folder / name).parent.mkdir(exist_ok=True)
        (stage.folder / name).write_bytes(PAYLOAD[: 5000 + len(name)])
    return {"n_units": 5}


def _export_older(stage: StageRun) -> dict[str, Any]:
    (stage.folder / "sorted.npz").write_bytes(b"older")
    (stage.folder / "spikedata_curated.h5").write_bytes(b"older")
    return {}


_STAGES = (
    Stage("sort", "sort", 1, lambda _: None, _sort),
    Stage("curate", "finish", 1, lambda _: None, _curate),
    Stage(EXPORT, "finish", 1, lambda _: None, _export),
)


# ---------------------------------------------------------------------------------------- journal and formats


def write_journal(folder: Path) -> None:
    """Append five events."""
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "events.jsonl")
    for number in range(5):
        journal.write("stage_started", stage=f"stage {number}", padding="x" * 200)


def save_spikedata(folder: Path) -> None:
    """Replace a file of units."""
    from spikelab.spikedata import SpikeData

    remove_partials(folder, hidden_only=True)
    trains = [np.arange(10.0 * (k + 1), 3000.0, 7.5 + k) for k in range(6)]
    units = [{"unit_id": k, "template": np.full((12, 40), k / 7), "label": f"unit {k}"} for k in range(6)]
    SpikeData(trains, length=3000.0, neuron_attributes=units, metadata={"fs_Hz": 20_000.0}).save(
        folder / "spikedata_curated.h5"
    )


def prepare_spikedata(folder: Path) -> None:
    """Leave an older file of units."""
    from spikelab.spikedata import SpikeData

    folder.mkdir()
    SpikeData([np.arange(5.0)], length=10.0).save(folder / "spikedata_curated.h5")


def save_checkpoints(folder: Path) -> None:
    """Keep what Kilosort4 knows after two steps, and go on from the last one that is there."""
    import torch

    from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints

    if folder.exists():
        remove_partials(folder)
    kept = Checkpoints(folder, ["first", "second"])
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - Kilosort4 draws from it, and checkpoints carry its state
    latest = kept.load_latest(torch.device("cpu"))
    for step in range(0 if latest is None else latest[0] + 1, 2):
        kept.save(step, {"wall": torch.arange(30_000.0) * step, "bounds": np.arange(50), "step": step})


def save_array(folder: Path) -> None:
    """Do one stage that leaves an array, in the way of the stage waveforms."""
    run = RunFolder(folder, folder)
    folder.mkdir(exist_ok=True)
    run.remove_leftovers()
    stage = Stage("waveforms", "finish", 1, lambda _: None, _waveforms)
    ensure(stage, Job("culture", Source(), run, SortingPipelineConfig()), "key")


def _waveforms(stage: StageRun) -> dict[str, Any]:
    # As the stage waveforms does: np.save itself says nothing when the last bytes do not fit.
    content = io.BytesIO()
    np.save(content, np.arange(20_000.0).reshape(100, 200))
    (stage.folder / "unfiltered_templates.npy").write_bytes(content.getbuffer())
    return {}


def save_hdf5(folder: Path) -> None:
    """Do one stage that leaves an HDF5 file which the library itself wrote to the disk."""
    run = RunFolder(folder, folder)
    folder.mkdir(exist_ok=True)
    run.remove_leftovers()
    ensure(Stage("units", "finish", 1, lambda _: None, _hdf5), Job("a", Source(), run, SortingPipelineConfig()), "key")


def _hdf5(stage: StageRun) -> dict[str, Any]:
    import h5py

    with h5py.File(stage.folder / "units.h5", "w", track_order=True) as file:
        for number in range(4):
            file.create_dataset(f"unit{number}", data=np.arange(20_000.0), chunks=(5000,), track_times=False)
    return {}


def copy_recording(folder: Path) -> None:
    """Make the flat binary that a sorter reads, through a memory map."""
    from spikeinterface.core import NumpyRecording

    from spikelab.spike_sorting.backends.base import SortJob
    from spikelab.spike_sorting.backends.binary import flat_binary
    from spikelab.spike_sorting.supervision.progress import ProgressFile

    run = RunFolder(folder, folder)
    folder.mkdir(exist_ok=True)
    run.remove_leftovers()
    config = SortingPipelineConfig().override(n_jobs=1)
    recording = NumpyRecording([np.arange(400_000, dtype="int16").reshape(-1, 8)], 20_000.0)
    with contextlib.redirect_stderr(io.StringIO()):
        flat_binary(SortJob(recording, folder, run, config, ProgressFile(run.progress, "sort")), "key")


def warmed_up(work: Work) -> Work:
    """Return what begins `work` without a folder, after it was done once elsewhere: imports are not what is tried."""

    @cache
    def once() -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            work(Path(elsewhere))

    return lambda _folder: once()


def nothing(folder: Path) -> None:
    """Start without a folder."""


# ------------------------------------------------------------------------------------------------ planted bugs


def _finish_marker_first(self: RunFolder, name: str, key: str, partial: Path, *_: object) -> None:
    """Bug: the marker is there before the files are."""
    files = {path.relative_to(partial).as_posix(): path.stat().st_size for path in partial.rglob("*") if path.is_file()}
    publish_json(self.marker(name), {"stage": name, "key": key, "files": files})
    for file in files:
        target = self.stage(name) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        (partial / file).replace(target)
    shutil.rmtree(partial)


def _is_done_when_marked(self: RunFolder, name: str, key: str) -> bool:
    """Bug: the marker is believed without a look at the files."""
    return (self.read_marker(name) or {}).get("key") == key


def _publish_in_place(path: Path, data: bytes) -> None:
    """Bug: what exists counts as done, and is written where it is read."""
    if not path.exists() or path.read_bytes().startswith((b"old", b'{"version": 0')):
        path.write_bytes(data)


def _publish_without_flush(path: Path, data: bytes) -> None:
    """Bug: errors of the flush are swallowed, as SpikeLab does."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    with contextlib.suppress(OSError):
        publishing.sync_file(partial)
    partial.replace(path)
    publishing.sync_folder(path.parent)


@contextlib.contextmanager
def _patched(target: Any, **replaced: Any) -> Iterator[None]:
    before = {name: getattr(target, name) for name in replaced}
    for name, value in replaced.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


def stages_marker_first(folder: Path) -> None:
    """Do the stages with two bugs."""
    with _patched(RunFolder, finish=_finish_marker_first, is_done=_is_done_when_marked):
        run_stages(folder)


def files_in_place(folder: Path) -> None:
    """Publish with a bug."""
    _publish_in_place(folder / "data.bin", PAYLOAD)
    _publish_in_place(folder / "report.json", b'{"version": 1}')


def files_flush_ignored(folder: Path) -> None:
    """Publish with a bug."""
    _publish_without_flush(folder / "data.bin", PAYLOAD)


def files_without_file_sync(folder: Path) -> None:
    """Publish with a bug."""
    with _patched(publishing, sync_file=lambda _: None):
        publish_files(folder)


def files_without_folder_sync(folder: Path) -> None:
    """Publish with a bug."""
    with _patched(publishing, sync_folder=lambda _: None):
        publish_files(folder)


WORKS: dict[str, tuple[Work, Work]] = {
    "files": (prepare_files, publish_files),
    "folder": (prepare_folder, replace_folder),
    "stages": (nothing, run_stages),
    "stages over an older run": (prepare_older_run, run_stages),
    "settings change after a crash": (nothing, change_settings),
    "journal": (nothing, write_journal),
    "npy": (nothing, save_array),
    "spikedata": (prepare_spikedata, save_spikedata),
    "hdf5": (warmed_up(save_hdf5), save_hdf5),
    "binary": (warmed_up(copy_recording), copy_recording),
    "checkpoints": (nothing, save_checkpoints),
    "bug: marker first": (nothing, stages_marker_first),
    "bug: exists is done": (prepare_files, files_in_place),
    "bug: flush ignored": (prepare_files, files_flush_ignored),
    "bug: no fsync": (prepare_files, files_without_file_sync),
    "bug: no folder fsync": (prepare_files, files_without_folder_sync),
}


# ------------------------------------------------------------------------------------------- what came of it


def state(work: str, folder: Path) -> dict[str, Any]:
    """Return what a run leaves, without dates, locks, and what tells of the attempts."""
    if work == "journal":
        # Events of a run that was cut off stay: they happened. The last five are those of the run that finished.
        return {"events": [event["stage"] for event in Journal(folder / "events.jsonl").read()][-5:]}
    if work == "checkpoints":
        return _checkpoints_state(folder)
    left_out = {".spikelab.lock", "events.jsonl", "progress.json"}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in left_out]
    return {path.relative_to(folder).as_posix(): _content(path) for path in paths}


def _content(path: Path) -> Any:
    if path.name.endswith(".done.json"):
        marker = json.loads(path.read_text())
        return [marker["key"], marker.get("files", marker.get("n_bytes"))]
    return hash(path.read_bytes())


def _checkpoints_state(folder: Path) -> dict[str, Any]:
    import torch

    from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints

    latest = Checkpoints(folder, ["first", "second"]).load_latest(torch.device("cpu"))
    if latest is None:
        return {}
    step, values = latest
    names = sorted(path.name for path in folder.iterdir())
    return {"step": step, "wall": values["wall"].tolist(), "bounds": values["bounds"].tolist(), "names": names}


def is_old_or_new(work: str, folder: Path, old: dict[str, Any], new: dict[str, Any], was_killed: bool) -> bool:
    """Whether every published thing is the old one or the new one.

    A folder is replaced by two renames: a kill between them leaves neither, and the next run makes it again.
    """
    now = {name: value for name, value in state(work, folder).items() if ".partial" not in name}
    if work == "folder" and not was_killed:
        return now in (old, new)
    if work not in {"files", "spikedata", "bug: exists is done", "bug: flush ignored"}:
        return True
    return all(now.get(name) in (old.get(name), new[name]) for name in new)
