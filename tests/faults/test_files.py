"""P6 to P12: files. Crashes and faults at every file system call, full disks, readers, foreign code."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.harness import InNamespace, Tally, slow

pytestmark = [pytest.mark.timeout(400), pytest.mark.strace]
FORMATS = ("files", "folder", "stages", "stages over an older run", "journal", "spikedata", "checkpoints")
ERRORS = ("ENOSPC", "EIO", "EDQUOT")


def _every(quick: int, whole: int | None) -> list[object]:
    """Points per piece of work: a few spread over it in the quick set."""
    return [quick, pytest.param(whole, marks=slow)]


@pytest.mark.parametrize("n_points", _every(25, None), ids=["quick", "whole"])
@pytest.mark.parametrize("work", FORMATS)
def test_a_crash_at_any_call_is_recovered(
    work: str, n_points: int | None, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P9: SIGKILL at any file system call, then the same again: the state of an undisturbed run."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault="SIGKILL", n_points=n_points, limit_s=380)
    tally("P9", f"SIGKILL at a file system call: {work}", seen["fired"], seen["fired"] - len(seen["bad"]))
    assert not seen["bad"]
    assert seen["fired"] > 0.9 * seen["tried"], "too few kills took place"


@pytest.mark.parametrize("n_points", _every(8, None), ids=["quick", "whole"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("work", FORMATS)
def test_a_failing_call_is_an_error(
    work: str, error: str, n_points: int, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P7: a full disk, a quota or a broken disk at any call is an error; the old result stays; the next run finishes."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault=error, n_points=n_points, limit_s=380)
    tally("P7", f"{error} at a file system call: {work}", seen["fired"], seen["fired"] - len(seen["bad"]))
    assert not seen["bad"]
    assert seen["fired"] > 0.9 * seen["tried"], "too few faults took place"


@pytest.mark.parametrize(
    "work,fault",
    [("bug: marker first", "SIGKILL"), ("bug: exists is done", "SIGKILL"), ("bug: flush ignored", "EIO")],
)
def test_planted_bugs_are_found(work: str, fault: str, in_namespace: InNamespace, tmp_path: Path) -> None:
    """A harness that never fails proves nothing: it finds bugs that were planted."""
    seen = in_namespace("syscalls", work=work, folder=str(tmp_path), fault=fault, n_points=40, limit_s=200)
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
