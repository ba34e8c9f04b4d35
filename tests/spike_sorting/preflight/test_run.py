"""The whole of it: everything that can be known before the start, told at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting._exceptions import PreflightError, RecordingUnreadableError
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job, plan
from spikelab.spike_sorting.preflight import Machine, error_from, findings_for, raise_for, run_preflight
from spikelab.spike_sorting.preflight.checks import BATCH_CHECKS, RECORDING_CHECKS
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Mount, Torch

Make = Callable[..., Any]

_HERE = """
import json, os, sys
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.preflight import run_preflight
before = dict(os.environ)
findings = run_preflight(plan(sys.argv[1:], KILOSORT4))
print(json.dumps({"codes": [one.code for one in findings], "torch": "torch" in sys.modules,
                  "same": before == dict(os.environ)}))
"""


@pytest.fixture
def night(maxwell: Path, tmp_path: Path) -> tuple[Job, ...]:
    """Two sound recordings and one that was cut short, in their folder."""
    folder = tmp_path / "lab 1"
    folder.mkdir()
    for name in ("a.raw.h5", "c.raw.h5"):
        shutil.copy(maxwell, folder / name)
    (folder / "b.raw.h5").write_bytes(maxwell.read_bytes()[:50_000])
    return plan([folder / f"{name}.raw.h5" for name in "abc"], KILOSORT4)


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_damaged_recording_is_found_and_stops_no_other(
    night: tuple[Job, ...], make_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    """Of three recordings the damaged one gets an error, the others nothing, and nothing is left behind."""
    before = _files(tmp_path)
    findings = run_preflight(night, machine=make_machine())
    assert [(one.code, one.subject) for one in findings if one.level != "info"] == [
        ("recording-unreadable", "b.raw.h5")
    ]
    assert [error_from(findings_for(findings, job)) for job in (night[0], night[2])] == [None, None]
    assert isinstance(error_from(findings_for(findings, night[1])), RecordingUnreadableError)
    assert error_from(findings_for(findings, None)) is None
    with pytest.raises(RecordingUnreadableError):
        raise_for(findings)
    assert _files(tmp_path) == before


def test_everything_is_told_at_once(
    night: tuple[Job, ...], make_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    """Problems of the machine, of folders and of recordings come in one error, each with its advice."""
    gpu = Gpu("RTX 4090", (8, 9), 24 * 10**9, 10**9)
    machine = make_machine(
        driver=lambda: Driver("570", (12, 8), (gpu,)),
        torch=Torch,
        mounts=lambda: (Mount(str(tmp_path), "nfs4"),),
        limits=lambda: {"Max open files": 256},
        available_ram_bytes=lambda: 10**9,
    )
    findings = run_preflight(night, machine=machine)
    expected = {"torch-cpu-only", "vram-low", "ram-low", "network-file-system", "limit-nofile", "recording-unreadable"}
    assert {finding.code for finding in findings} == expected
    with pytest.raises(PreflightError) as raised:
        raise_for(findings, strict=True)
    assert all(finding.message in str(raised.value) and finding.advice for finding in findings)
    assert len(raised.value.findings or ()) == len(findings)


def test_no_jobs_no_findings() -> None:
    """A batch that is finished costs nothing."""
    assert run_preflight([], machine=Machine(disk=lambda folder: pytest.fail("asked"))) == []


def test_each_recording_is_opened_once(make_job: Make, make_machine: Callable[..., Machine], maxwell: Path) -> None:
    """However many checks look at it, a recording is read three times: at its start, middle and end."""
    import spikeinterface

    reads: list[tuple[int, int]] = []

    class Counting(spikeinterface.NumpyRecording):  # type: ignore[misc]
        def get_traces(self, *args: Any, **options: Any) -> Any:
            reads.append((options["start_frame"], options["end_frame"]))
            return super().get_traces(*args, **options)

    from spikeinterface.extractors import read_maxwell

    source = read_maxwell(maxwell, install_maxwell_plugin=False)
    recording = Counting([source.get_traces()], 20_000.0)
    recording.set_probe(source.get_probe())
    run_preflight([make_job(in_memory=recording)], machine=make_machine())
    assert reads == [(0, 20_000), (40_000, 60_000), (60_000, 80_000)]


def test_this_machine(night: tuple[Job, ...], tmp_path: Path) -> None:
    """On the real machine, in a script: torch is not imported, the environment stays, and nothing is left."""
    before = _files(tmp_path)
    files = [str(tmp_path / "lab 1" / f"{name}.raw.h5") for name in "abc"]
    done = subprocess.run([sys.executable, "-c", _HERE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert (said["torch"], said["same"]) == (False, True)
    assert "recording-unreadable" in said["codes"]
    assert not any(code.startswith("selftest") for code in said["codes"])
    assert _files(tmp_path) == before


def test_every_check_is_registered_and_named() -> None:
    """Each check of each file is in the registry: adding a function is not enough, forgetting it is not possible."""
    import spikelab.spike_sorting.preflight.checks as registry

    subjects = ("disk", "docker", "folders", "gpu", "limits", "memory", "recording", "rt_sort", "selftest", "sorter")
    written = {
        function
        for subject in subjects
        for name, function in vars(getattr(registry, subject)).items()
        if name.startswith("check_") and function.__module__.endswith(subject)
    }
    assert written == {*BATCH_CHECKS, *RECORDING_CHECKS}
    assert all(check.__doc__ for check in written)
