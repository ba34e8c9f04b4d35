"""Recordings are looked at in a process of their own."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spikelab.spike_sorting._exceptions import (
    EnvironmentSortFailure,
    HostOutOfMemoryError,
    IOStallError,
    RecordingUnreadableError,
)
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.elsewhere import look_at_all
from spikelab.spike_sorting.preflight.facts import look
from spikelab.spike_sorting.sources import Source

Make = Callable[..., Any]


@pytest.fixture
def misbehaving(make_job: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    """Return a function that makes a job whose recording cannot be opened without harm."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)

    def make(kind: str) -> Job:
        described = {"class": f"misbehaving.{kind}", "module": "misbehaving", "version": "1", "kwargs": {}}
        described |= {"annotations": {}, "relative_paths": False}
        return replace(make_job(name=kind), source=Source(description=json.dumps(described)))

    return make


def test_what_is_known_is_the_same_as_here(make_job: Make, maxwell: Path, tmp_path: Path) -> None:
    """The facts that another process finds are those that this one would: header, probe, errors, misfits."""
    jobs = [make_job(maxwell), make_job(maxwell, bad_channels=["nobody"]), make_job(tmp_path / "absent.raw.h5")]
    for there, here in zip(look_at_all(jobs), map(look, jobs), strict=True):
        assert (there.misfits, there.silent, str(there.error)) == (here.misfits, here.silent, str(here.error))
        assert type(there.error) is type(here.error)
        assert (there.header is None) == (here.header is None)
        if there.header is not None and here.header is not None:
            np.testing.assert_array_equal(there.header.locations_um, here.header.locations_um)
            assert {**there.header.to_dict()} == {**here.header.to_dict()}


def test_damage_that_crashes_a_library_costs_its_recording_only(
    make_job: Make, maxwell: Path, misbehaving: Callable[[str], Job]
) -> None:
    """P3, F29: a recording that ends the process that opens it is unreadable; the one after it is looked at all the
    same, and this process lives. One at which the process was killed from outside is not blamed."""
    jobs = [misbehaving("Crashes"), misbehaving("IsKilled"), make_job(maxwell)]
    crashing, killed, sound = look_at_all(jobs, kills=lambda: 7)
    assert isinstance(crashing.error, RecordingUnreadableError)
    assert "SIGSEGV" in str(crashing.error)
    assert isinstance(killed.error, EnvironmentSortFailure)
    assert "killed from outside" in str(killed.error)
    assert sound.error is None
    assert sound.header is not None


def test_a_kill_that_the_kernel_counted_is_a_lack_of_memory(misbehaving: Callable[[str], Job]) -> None:
    """P21: killed while the kernel's counter of such kills rose: memory ran out, as for a worker."""
    counted = itertools.count(7)
    (killed,) = look_at_all([misbehaving("IsKilled")], kills=lambda: next(counted))
    assert isinstance(killed.error, HostOutOfMemoryError)


def test_a_recording_that_does_not_answer_is_given_up(
    make_job: Make, maxwell: Path, misbehaving: Callable[[str], Job]
) -> None:
    """P16: a recording on a dead share is given up after a while, and nothing is left of the attempt."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    hangs = misbehaving("Hangs")
    hangs = replace(hangs, config=hangs.config.override(io_stall_s=6.0))
    hanging, sound = look_at_all([hangs, make_job(maxwell)])
    assert isinstance(hanging.error, IOStallError)
    assert sound.error is None
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_trouble_of_our_own_is_not_the_recordings(
    make_job: Make, maxwell: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """P21: where the process that looks cannot start, that is told of the environment, once, and not as damage."""
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    facts = look_at_all([make_job(maxwell, name="first"), make_job(maxwell, name="second")])
    assert [type(one.error) for one in facts] == [EnvironmentSortFailure] * 2
    assert "does not start" in str(facts[0].error)
