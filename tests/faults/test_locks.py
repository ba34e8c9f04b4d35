"""P13 to P15: locks. One run per folder, kept by the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.harness import WHOLE, InNamespace, JobOf, Tally, Undisturbed, slow

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("n", [2, pytest.param(12, marks=slow)])
def test_of_two_starters_one_runs(
    n: int, undisturbed: Undisturbed, job_of: JobOf, in_namespace: InNamespace, tally: Tally
) -> None:
    """P13: of two that start at once exactly one runs, and the other is told who, where, and since when."""
    seen = in_namespace(
        "two_starters", job=job_of("run", "ignore signals", WHOLE), template=undisturbed.inter, n=n, limit_s=200
    )
    tally("P13", "two scripts start at once", n, min(seen["one_ran"], seen["told"]))
    longest_ms = 1000 * max(seen["free_s"])
    tally(
        "P14",
        "the holder is killed",
        n,
        sum(second < 1 for second in seen["free_s"]),
        f"free {longest_ms:.0f} ms later",
    )
    assert seen["one_ran"] == n
    assert seen["told"] == n
    assert seen["untouched"] == n, "the second run wrote into the folder of the first"
    assert max(seen["free_s"]) < 1


@pytest.mark.parametrize("seconds", [4.0, pytest.param(40.0, marks=slow)])
def test_there_is_never_more_than_one_inside(
    seconds: float, in_namespace: InNamespace, tmp_path: Path, seed: int, tally: Tally
) -> None:
    """P13: of several processes that fight for a folder, and are killed at random, never two are inside."""
    seen = in_namespace("contention", folder=str(tmp_path), seconds=seconds, n_fighters=3, seed=seed)
    tally(
        "P13", "three fight for a folder, killed at random", seen["n_entered"], seen["n_entered"] - seen["n_violated"]
    )
    assert seen["n_violated"] == 0
    assert seen["n_entered"] > 10
    assert seen["n_kills"] > 3


def test_a_child_keeps_the_folder_until_it_is_ended(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P14: a folder whose holder died while its child lives is taken over only after that child is ended."""
    seen = in_namespace("holder_and_child", folder=str(tmp_path / "run"), child="ours")
    tally("P14", "the holder dies, its child lives on", 1, seen["refused"] and seen["child_ended_before"])
    assert seen["refused"], "two runs held one folder"
    assert seen["child_ended_before"]


def test_a_stranger_with_the_lock_is_respected(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P14: a process that holds the lock without being known as ours is neither killed nor overlooked."""
    seen = in_namespace("holder_and_child", folder=str(tmp_path / "run"), child="a stranger")
    tally("P14", "the lock is held by a process without our cookie", 1, seen["refused"] and seen["spared"])
    assert seen["refused"]
    assert seen["spared"]
    assert seen["free_s"] < 1


def test_a_wrong_clock_kills_no_lock(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P17: a wall clock that jumps by an hour, a day or decades does not make a live holder look dead."""
    jumps_s = [sign * jump for jump in (3600.0, 86_400.0, 1.5e9) for sign in (1, -1)]
    seen = in_namespace("wrong_clock", folder=str(tmp_path / "run"), jumps_s=jumps_s)
    tally("P17", "a wall clock wrong by up to 48 years, at the lock", len(jumps_s), seen["refused"])
    assert seen["refused"] == len(jumps_s)
    assert seen["holder_lives"]


@pytest.mark.strace
@pytest.mark.parametrize("preflight", [True, False], ids=["with preflight", "without"])
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS"])
def test_no_locks_is_said(
    error: str, preflight: bool, job_of: JobOf, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P15: where flock fails, nothing is sorted, and the error names the folder and what to do."""
    job = job_of("run", settings={"preflight": preflight})
    seen = in_namespace("no_locks", job=job, error=error)
    # A preflight that fails for the machine ends the whole batch, by an exception.
    text = seen["complained"] if preflight else str(seen["records"])
    held = "lock" in text and "local" in text and str(tmp_path) in text
    tally("P15", f"flock fails with {error}", 1, held)
    assert held, text
    assert not any(record["status"] == "success" for record in seen["records"])
    assert not seen["left"]
