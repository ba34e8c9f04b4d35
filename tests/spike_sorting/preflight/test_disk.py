"""Free disk and inodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.disk import check_inodes, check_space
from spikelab.spike_sorting.preflight.facts import RecordingFacts
from spikelab.spike_sorting.preflight.findings import Finding
from spikelab.spike_sorting.preflight.machine import Disk, read_disk
from spikelab.spike_sorting.preflight.projection import project

Make = Callable[..., Any]

_ON_A_SMALL_DISK = """
import json, sys
from pathlib import Path
import numpy as np
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight import Machine, checks, disk, folders, selftest
from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.facts import Header, RecordingFacts
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source
top = Path(sys.argv[1])
(top / "full").write_bytes(b"0" * int(sys.argv[2]))
run = RunFolder(top / "inter", top / "sorted")
header = Header(2e4, "int16", 1, 4, 10**6, 0, False, np.zeros((4, 2)), np.zeros(4))
batch = Batch((RecordingFacts(Job("a", Source(), run, KILOSORT4), header),), Machine())
checks = (disk.check_space, disk.check_inodes, folders.check_writable, selftest.check_machinery)
print(json.dumps([finding.to_dict() for check in checks for finding in check(batch)]))
print(json.dumps(sorted(path.name for path in top.iterdir())))
"""


def _disk(free_gb: float, inodes: int | None = 10**6, volume: int = 1) -> Callable[[Path], Disk]:
    return lambda folder: Disk(volume, int(free_gb * 1e9), inodes)


def _told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.level, finding.subject) for finding in findings]


def test_enough_space_is_no_finding(make_batch: Make, make_job: Make) -> None:
    """A job that fits is not spoken of."""
    assert check_space(make_batch(make_job(), disk=_disk(100))) == []


def test_levels_follow_the_projection(make_batch: Make, make_job: Make, header: Make) -> None:
    """Less than the projected need is an error of this recording, less than 1.5 times a warning."""
    job = make_job()
    projected = project(job, header())
    need = projected.disk_inter_gb + projected.disk_results_gb
    for factor, level in ((0.95, "error"), (1.2, "warning")):
        found = check_space(make_batch(job, disk=_disk(need * factor)))
        assert _told(found) == [("disk-space", level, "culture")]
        assert f"{need:.3g} GB" in found[0].message
    assert check_space(make_batch(job, disk=_disk(need * 1.6))) == []


def test_folders_on_two_volumes_are_judged_apart(make_batch: Make, make_job: Make) -> None:
    """A full results disk is found although the intermediate disk is empty."""

    def disk(folder: Path) -> Disk:
        return Disk(2, 1000, None) if folder.name == "sorted" else Disk(1, 10**12, None)

    job = make_job()
    job.run.results.parent.mkdir(parents=True)
    (found,) = check_space(make_batch(job, disk=disk))
    assert str(job.run.results.parent) in found.message
    assert "preflight_min_free_results_gb" in found.advice


def test_no_estimate_asks_for_more_than_20_gb_but_a_copy_does(make_batch: Make, make_job: Make, header: Make) -> None:
    """A huge flat recording asks for 20 GB and 2 GB at most; one that must be copied, for its size."""
    huge = {"n_channels": 384, "fs_Hz": 30_000.0, "n_samples": 30_000 * 36_000}
    flat, copied = header(**huge, is_flat_binary=True), header(**huge)
    assert check_space(make_batch(make_job(), header=flat, disk=_disk(22.5))) == []
    (found,) = check_space(make_batch(make_job(), header=copied, disk=_disk(500)))
    assert (found.level, "829 GB" in found.message or "831 GB" in found.message) == ("error", True)


def test_given_values_replace_the_projection_and_never_scale(make_batch: Make, make_job: Make) -> None:
    """A value of the user's is the limit itself, however large the recordings, however many."""
    given = {"preflight_min_free_inter_gb": 50, "preflight_min_free_results_gb": 0}
    jobs = [make_job(name=name, **given) for name in "abc"]
    assert check_space(make_batch(*jobs, disk=_disk(51))) == []
    found = check_space(make_batch(*jobs, disk=_disk(49)))
    assert _told(found) == [("disk-space", "error", name) for name in "abc"]
    assert "preflight_min_free_inter_gb asks for 50 GB" in found[0].message


def test_jobs_on_one_volume_add_up(make_batch: Make, make_job: Make, header: Make) -> None:
    """Recordings that fit alone but not together are an error of the batch, told once."""
    jobs = [make_job(name=name, keep_binary=True) for name in "abcdefgh"]
    projected = project(jobs[0], header())
    each = projected.disk_inter_gb + projected.disk_results_gb
    assert _told(check_space(make_batch(*jobs, disk=_disk(each * 3)))) == [("disk-space-together", "error", "machine")]
    assert check_space(make_batch(*jobs, disk=_disk(each * 12.5))) == []


def test_copies_that_go_after_success_count_for_the_jobs_in_flight(
    make_batch: Make, make_job: Make, header: Make
) -> None:
    """Copies of finished recordings are gone: more recordings in flight need more; what failures leave is told."""
    jobs = [make_job(name=name) for name in "abcdefgh"]
    projected = project(jobs[0], header())
    each = projected.disk_inter_gb + projected.disk_results_gb
    disk = _disk(each * 5)
    assert _told(check_space(make_batch(*jobs, disk=disk))) == [("disk-space-together", "info", "machine")]
    flying = check_space(make_batch(*jobs, disk=disk, n_parallel=8))
    assert _told(flying) == [("disk-space-together", "error", "machine")]
    assert check_space(make_batch(*jobs, disk=_disk(each * 8.1))) == []


def test_a_job_that_cannot_fit_does_not_blame_the_others(make_machine: Make, make_job: Make, header: Make) -> None:
    """The one that is too large is named, and the rest is judged without it."""
    facts = (
        RecordingFacts(make_job(name="small"), header()),
        RecordingFacts(make_job(name="large"), header(n_samples=10**9)),
    )
    found = check_space(Batch(facts, make_machine(disk=_disk(3))))
    assert _told(found) == [("disk-space", "error", "large")]


def test_what_an_earlier_call_wrote_is_not_needed_again(make_batch: Make, make_job: Make, header: Make) -> None:
    """A resumed job needs only the rest, and a hole in a file is no work done."""
    job = make_job()
    projected = project(job, header())
    disk = _disk(projected.disk_inter_gb)
    job.run.inter.mkdir(parents=True)
    with job.run.binary.open("wb") as file:
        file.truncate(int(projected.disk_inter_gb * 1e9))
    assert _told(check_space(make_batch(job, disk=disk))) == [("disk-space", "error", "culture")]
    job.run.binary.write_bytes(bytes(int(projected.disk_inter_gb * 0.8e9)))
    assert check_space(make_batch(job, disk=disk)) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this system has no other user to be")
def test_what_cannot_be_looked_at_is_not_counted(make_batch: Make, make_job: Make) -> None:
    """P2: a folder of one recording that may not be entered keeps no other recording from its start."""
    with TemporaryDirectory() as made:
        inter, me = Path(made, "inter"), os.geteuid()
        Path(made).chmod(0o755)
        inter.mkdir()
        (inter / "recording.bin").touch()
        inter.chmod(0o444)
        job = make_job()
        batch = make_batch(replace(job, run=replace(job.run, inter=inter)), disk=_disk(100))
        if me == 0:
            os.seteuid(65534)
        try:
            found = check_space(batch)
        finally:
            os.seteuid(me)
            inter.chmod(0o755)
    assert found == []


def test_recording_that_cannot_be_opened_is_not_judged(make_machine: Make, make_job: Make) -> None:
    """Without a header there is no projection, and no invented finding."""
    assert check_space(Batch((RecordingFacts(make_job()),), make_machine(disk=_disk(0)))) == []


@pytest.mark.parametrize("inodes, level", [(100, "error"), (500, "warning"), (600, None), (None, None)])
def test_inodes(make_batch: Make, make_job: Make, inodes: int | None, level: str | None) -> None:
    """Too few for one recording is an error, too few for all a warning; a file system that has no count is fine."""
    found = check_inodes(make_batch(make_job(name="a"), make_job(name="b"), disk=_disk(100, inodes)))
    assert [finding.level for finding in found] == ([level] if level else [])


def test_reading_of_a_real_disk(tmp_path: Path) -> None:
    """The reading of this machine names a volume with room on it."""
    assert read_disk(tmp_path).free_bytes > 0
    assert read_disk(tmp_path).volume == tmp_path.stat().st_dev


def _on_a_small_disk(unshare: Path, folder: Path, options: str, n_bytes: int) -> tuple[dict[str, Any], list[str]]:
    mount = f'mount -t tmpfs -o {options} none "$1" && exec "$0" -c "$2" "$1" {n_bytes}'
    command = [str(unshare), "-rm", "sh", "-c", mount, sys.executable, str(folder), _ON_A_SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of one's own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]
    findings, names = map(json.loads, done.stdout.splitlines())
    return {one["code"]: one for one in findings}, names


def test_a_really_full_disk(require_program: Make, tmp_path: Path) -> None:
    """On a full file system the checks say so, in every way that a run would feel, and leave nothing there."""
    found, names = _on_a_small_disk(require_program("unshare"), tmp_path, "size=1m", 1 << 20)
    assert found["disk-space"]["level"] == "error"
    assert "No space left" in found["folder-not-writable"]["message"]
    assert names == ["full"]


def test_really_few_inodes(require_program: Make, tmp_path: Path) -> None:
    """On a file system with few inodes left the check counts them."""
    found, names = _on_a_small_disk(require_program("unshare"), tmp_path, "size=200m,nr_inodes=40", 10)
    assert list(found) == ["inodes-low"]
    assert found["inodes-low"]["level"] == "error"
    assert names == ["full"]
