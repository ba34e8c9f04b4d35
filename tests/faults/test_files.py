"""P6 to P12: files. Crashes and faults at every file system call, full disks, readers, foreign code."""

from __future__ import annotations

import contextlib
import json
import os
import pickle  # noqa: TID251 - to write what must never be read
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest
from faults.harness import WHOLE, InNamespace, InNamespaces, JobOf, Tally, Undisturbed, slow

from spikelab.spike_sorting.sources import Source, identity

pytestmark = [pytest.mark.timeout(400), pytest.mark.strace]
WORKS = (
    "files",
    "folder",
    "stages",
    "stages over an older run",
    "journal",
    "npy",
    "spikedata",
    "binary",
    "checkpoints",
)
ERRORS = ("ENOSPC", "EIO", "EDQUOT")
MADE = {
    "files": {"openat", "write", "fsync", "rename", "close"},
    "folder": {"mkdir", "fsync", "rename", "unlinkat"},
    "stages": {"mkdir", "write", "fsync", "rename", "flock", "ftruncate"},
    "journal": {"openat", "write", "fsync", "close"},
    "spikedata": {"write", "fsync", "rename"},
    "hdf5": {"mkdir", "pwrite64", "fsync", "rename"},
    "binary": {"ftruncate", "fsync", "rename"},
    "checkpoints": {"write", "fsync", "rename"},
}
"""Calls without which a piece of work is not what it was taken for."""


PAYLOADS = {"npy", "spikedata", "binary", "checkpoints", "hdf5", "settings change after a crash"}
"""Works whose many calls are alike, or those of another work: points spread over them tell as much as all."""


def _points(quick: int, payload: int, works: Iterable[str]) -> list[object]:
    """Works with their numbers of points: a few in the quick set; in the whole one all, or some of a payload."""
    whole = [(work, payload if work in PAYLOADS else None) for work in works]
    quickly = [pytest.param(work, quick, id=f"{work}-quick") for work, _ in whole]
    return [*quickly, *(pytest.param(work, n, marks=slow, id=f"{work}-whole") for work, n in whole)]


# The HDF5 library tells of some errors only, which is why no file of ours is written by it: a crash it survives.
@pytest.mark.parametrize("work,n_points", _points(12, 50, [*WORKS, "settings change after a crash", "hdf5"]))
def test_a_crash_at_any_call_is_recovered(
    work: str, n_points: int | None, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P9: SIGKILL at any file system call, then the same again: the state of an undisturbed run."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault="SIGKILL", n_points=n_points, limit_s=380)
    tally("P9", f"SIGKILL at a file system call: {work}", seen["fired"], seen["fired"] - len(seen["bad"]))
    assert not seen["bad"]
    assert MADE.get(work, set()) <= set(seen["calls"])
    assert seen["fired"] > 0.9 * seen["tried"], "too few kills took place"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("work,n_points", _points(4, 25, WORKS))
def test_a_failing_call_is_an_error(
    work: str, error: str, n_points: int | None, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P7: a full disk, a quota or a broken disk at any call is an error that leaves the old result, and passes."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault=error, n_points=n_points, limit_s=380)
    tally("P7", f"{error} at a file system call: {work}", seen["fired"], seen["fired"] - len(seen["bad"]))
    assert not seen["bad"]
    assert seen["fired"] > 0.9 * seen["tried"], "too few faults took place"


@slow
def test_a_share_that_forgets_its_files_is_an_error(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P15: a share that has forgotten a file that it gave us (ESTALE) is an error, and the next call finishes."""
    work = "stages over an older run"
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault="ESTALE", n_points=None, limit_s=380)
    tally("P15", f"ESTALE at a file system call: {work}", seen["fired"], seen["fired"] - len(seen["bad"]))
    assert not seen["bad"]
    assert seen["fired"] > 0.9 * seen["tried"], "too few faults took place"


@pytest.mark.parametrize(
    "work,fault",
    [("bug: marker first", "SIGKILL"), ("bug: exists is done", "SIGKILL"), ("bug: flush ignored", "EIO")],
)
def test_planted_bugs_are_found(work: str, fault: str, in_namespace: InNamespace, tmp_path: Path) -> None:
    """A harness that never fails proves nothing: it finds bugs that were planted."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault=fault, n_points=20, limit_s=200)
    assert seen["bad"], "the planted bug was not found"


@pytest.mark.parametrize("work", ["files", "folder", "stages", "stages over an older run", "spikedata", "checkpoints"])
def test_flushed_before_and_after_a_rename(work: str, in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P6: after power loss too: each file is flushed before its rename, and its folder after."""
    seen = in_namespace("durability", work=work, folder=str(tmp_path))
    tally(
        "P6",
        "power loss, by the order of flushes around each rename",
        seen["n_renames"],
        seen["n_renames"] - len(seen["bad"]),
    )
    assert not seen["bad"]
    assert seen["n_renames"]


@pytest.mark.parametrize("work", ["bug: no fsync", "bug: no folder fsync"])
def test_missing_flushes_are_found(work: str, in_namespace: InNamespace, tmp_path: Path) -> None:
    """A harness that never fails proves nothing: it finds missing flushes."""
    assert in_namespace("durability", work=work, folder=str(tmp_path))["bad"]


def test_a_full_disk_leaves_the_old_result(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P7: a disk that is full, or out of inodes, or a limit of size: an error with the path, and the old result."""
    seen = in_namespace("small_disk", folder=str(tmp_path))
    refused = seen["refused"]
    tally(
        "P7", "full tmpfs, no inodes, RLIMIT_FSIZE, a memory map on a full tmpfs", len(refused), sum(refused.values())
    )
    assert all(refused.values()), refused


def test_an_event_that_is_told_to_be_written_is_there(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P7: on the last bytes of a disk, an event of the journal is written whole, or its writing is an error."""
    journal = in_namespace("small_disk", folder=str(tmp_path))["journal"]
    tally("P7", "events of the journal on the last bytes of a disk", journal["told"], journal["there"])
    assert journal["told"] > 10
    assert journal["told"] == journal["there"]


@pytest.mark.parametrize("n", [300, pytest.param(1000, marks=slow)])
def test_a_reader_never_sees_a_part(n: int, in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P6: a reader that looks all the time while a file is replaced sees only complete ones."""
    seen = in_namespace("readers", folder=str(tmp_path), n=n)
    tally("P6", f"reads while a writer publishes {n} times", seen["n_reads"], seen["n_reads"] - seen["n_torn"])
    assert seen["n_torn"] == 0
    assert seen["n_seen"] > n / 10, "the reader hardly ever looked while it was written"


# -------------------------------------------------------------------------------------- the whole pipeline


@pytest.mark.parametrize("n", [1, pytest.param(24, marks=[slow, pytest.mark.timeout(900)])])
def test_killed_until_it_finishes(
    n: int, job_of: JobOf, in_namespaces: InNamespaces, seed: int, tally: Tally, reference: dict[str, str]
) -> None:
    """P9: a sort that is killed at random instants until it finishes gives the result of an undisturbed one."""
    n_parts = 1 if n < 10 else 4
    parts = [{"job": job_of(f"part{k}", settings=WHOLE), "seed": seed + k, "n": n // n_parts} for k in range(n_parts)]
    trials = [
        trial for part in in_namespaces("chaos", parts, most_kills=3 if n < 10 else 6, limit_s=850) for trial in part
    ]
    kills = sum(trial["kills"] for trial in trials)
    same = [trial["status"] == "success" and trial["content"] == reference for trial in trials]
    tidy = [not trial["leftovers"] and trial["free"] for trial in trials]
    tally("P9", "whole sorts, kill -9 at random instants until finished", len(trials), sum(same), f"{kills} kills")
    tally("P10", "what those kills left, looked for after the end", len(trials), sum(tidy))
    # The export only copies: it is made again when the report had not been written.
    again = [stage for trial in trials for stage in trial["again"] if stage != "export"]
    tally("P8", "finished stages are left alone after those kills", kills, kills - len(again))
    assert all(same), trials
    assert all(tidy), trials
    assert not again, trials
    assert kills


# ------------------------------------------------------------------------------------------- foreign code


class _Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"import pathlib; pathlib.Path({str(self.path)!r}).touch()",)


def _spikes_npz(folder: Path, bad: _Malicious) -> Callable[[], object]:
    from spikelab.spike_sorting.stages.sort import read_spikes

    np.savez(folder / "spikes.npz", samples=np.array([bad], dtype=object), units=np.zeros(1), unit_ids=np.zeros(1))
    return lambda: read_spikes(folder)


def _sorter_output(folder: Path, bad: _Malicious) -> Callable[[], object]:
    from spikelab.spike_sorting.backends.kilosort4.results import read_results

    for name in ("spike_times", "spike_clusters"):
        np.save(folder / f"{name}.npy", np.array([bad], dtype=object))
    return lambda: read_results(folder, 1000)


def _results_pickle(folder: Path, bad: _Malicious) -> Callable[[], object]:
    from spikelab.spike_sorting import load_results

    (folder / "spikedata_curated.h5").write_bytes(pickle.dumps(bad))
    return lambda: load_results(folder)


def _results_hdf5(folder: Path, bad: _Malicious) -> Callable[[], object]:
    from spikelab.spikedata import SpikeData

    path = folder / "spikedata_curated.h5"
    SpikeData([np.arange(3.0)], length=10.0).save(path)
    with h5py.File(path, "r+") as file:
        file["units"]["payload"] = np.void(pickle.dumps(bad))
        file.attrs["payload"] = np.void(pickle.dumps(bad))
    return lambda: SpikeData.load(path, verify=False)


def _checkpoint(folder: Path, bad: _Malicious) -> Callable[[], object]:
    import torch

    from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints

    torch.save({"key": "first", "tree": "{}", "tensors": {}, "bad": bad}, folder / "step0.pt")
    return lambda: Checkpoints(folder, ["first"]).load_latest(torch.device("cpu"))


def _recording_json(folder: Path, bad: _Malicious) -> Callable[[], object]:
    from spikelab.spike_sorting.stages.load import read_recording

    recording = {"class": "os.mkdir", "kwargs": {"path": str(bad.path)}}
    recording |= {"module": "os", "version": "0", "relative_paths": False, "annotations": {}, "properties": {}}
    (folder / "recording.json").write_text(json.dumps({"schema": 1, "recording": recording, "epochs": []}))
    return lambda: read_recording(folder / "recording.json")


@pytest.mark.parametrize(
    "prepare",
    [
        *(_spikes_npz, _sorter_output, _results_pickle, _results_hdf5, _checkpoint),
        _recording_json,
    ],
)
def test_loading_runs_no_code(
    prepare: Callable[[Path, _Malicious], Callable[[], object]], tmp_path: Path, tally: Tally
) -> None:
    """P11: a pickle, or another way to name code, in place of a result is refused, or read as data; it never runs."""
    ran = tmp_path / "it ran"
    load = prepare(tmp_path, _Malicious(ran))
    with contextlib.suppress(Exception):
        load()
    tally("P11", prepare.__name__.strip("_").replace("_", " "), 1, not ran.exists())
    assert not ran.exists()


# -------------------------------------------------------------------------------------------- the recording


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def _flip_a_byte_and_keep_the_time(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(100)
        value = file.read(1)[0]
        file.seek(100)
        file.write(bytes([value ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [_append, _flip_a_byte_and_keep_the_time, _touch])
def test_a_changed_recording_is_noticed(change: Callable[[Path], None], tmp_path: Path, tally: Tally) -> None:
    """P12: the identity of a recording changes with its size, its time and its sampled content."""
    path = tmp_path / "culture.raw.h5"
    path.write_bytes(os.urandom(3_000_000))
    source = Source(files=(str(path),))
    before = identity(source)
    assert identity(source) == before
    change(path)
    tally("P12", change.__name__.strip("_").replace("_", " "), 1, identity(source) != before)
    assert identity(source) != before


def test_the_recording_is_only_read(
    undisturbed: Undisturbed, job_of: JobOf, in_namespace: InNamespace, tally: Tally
) -> None:
    """P12: no process of a sort, our own or the sorter's, opens the recording for writing."""
    changed_ns = Path(undisturbed.file).stat().st_mtime_ns
    seen = in_namespace("only_read", job=job_of("run"), template=undisturbed.inter)
    held = not seen["writing"] and Path(undisturbed.file).stat().st_mtime_ns == changed_ns
    tally("P12", "every openat of a whole sort", seen["n_opened"], seen["n_opened"] - len(seen["writing"]))
    assert seen["n_opened"] > 2
    assert held, seen
