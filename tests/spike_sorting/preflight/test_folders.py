"""Folders: writable, and on a file system that keeps locks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spikelab.spike_sorting.preflight.folders import check_file_system, check_writable, kind_of, nearest_folder
from spikelab.spike_sorting.preflight.machine import Mount, read_mounts
from spikelab.spike_sorting.run_folder import RunFolder

Make = Callable[..., Any]


def _job_in(make_job: Make, folder: Path) -> Any:
    return replace(make_job(), run=RunFolder(folder / "inter" / "a", folder / "sorted" / "a"))


@pytest.mark.usefixtures("nothing_left")
def test_folders_that_are_not_there_yet(make_batch: Make, make_job: Make) -> None:
    """The nearest folder that exists is tried, and nothing is made or left."""
    assert check_writable(make_batch(make_job())) == []


def test_existing_folder_keeps_its_files(make_batch: Make, make_job: Make) -> None:
    """A folder with results is tried in place, and its files stay as they are."""
    job = make_job()
    job.run.results.mkdir(parents=True)
    (job.run.results / "spikedata_curated.h5").write_bytes(b"precious")
    assert check_writable(make_batch(job)) == []
    assert [path.name for path in job.run.results.iterdir()] == ["spikedata_curated.h5"]


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_read_only_folder(make_batch: Make, make_job: Make, tmp_path: Path) -> None:
    """A folder without write permission is an error."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert len(check_writable(make_batch(_job_in(make_job, locked)))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_file_system_that_takes_no_files(make_batch: Make, make_job: Make) -> None:
    """Where the kernel refuses, even for root, the recording gets an error for each of its folders."""
    job = _job_in(make_job, Path("/proc/spikelab"))
    found = check_writable(make_batch(job))
    assert [(one.code, one.level, one.subject) for one in found] == [("folder-not-writable", "error", job.name)] * 2
    assert str(job.run.inter) in found[0].message


def test_file_in_the_way(make_batch: Make, make_job: Make, tmp_path: Path) -> None:
    """A file where a folder has to be is an error, and stays."""
    (tmp_path / "taken").write_text("a file")
    found = check_writable(make_batch(_job_in(make_job, tmp_path / "taken")))
    assert all("Not a directory" in finding.message for finding in found)
    assert len(found) == 2
    assert (tmp_path / "taken").read_text() == "a file"


def test_one_bad_folder_is_not_the_problem_of_others(make_batch: Make, make_job: Make, tmp_path: Path) -> None:
    """Each finding belongs to the recording whose folder it is."""
    (tmp_path / "taken").write_text("a file")
    good, bad = make_job(name="good"), _job_in(make_job, tmp_path / "taken")
    found = check_writable(make_batch(good, bad))
    assert {finding.results_folder for finding in found} == {str(bad.run.results)}


def test_nearest_folder(tmp_path: Path) -> None:
    """The nearest folder is the path itself, or the first above it that exists."""
    assert nearest_folder(tmp_path) == tmp_path
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre"])
def test_shares_are_warned_of(make_batch: Make, make_job: Make, tmp_path: Path, kind: str) -> None:
    """On a share each folder is warned of, with the documented fallback."""
    mounts = (Mount("/", "ext4"), Mount(str(tmp_path), kind))
    found = check_file_system(make_batch(make_job(), mounts=lambda: mounts))
    assert [(finding.code, finding.level) for finding in found] == [("network-file-system", "warning")] * 2
    assert kind in found[0].message
    assert "intermediate_folders and results_folders on a local disk" in found[0].advice


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "apfs", "overlay", "fuse.fuse-overlayfs", "fuseblk"])
def test_local_disks_are_fine(make_batch: Make, make_job: Make, tmp_path: Path, kind: str) -> None:
    """A disk of this machine keeps locks."""
    assert check_file_system(make_batch(make_job(), mounts=lambda: (Mount(str(tmp_path), kind),))) == []


def test_kind_is_that_of_the_mount_on_top(tmp_path: Path) -> None:
    """The nearest mount counts, of two in one place the later one, and names that only begin alike do not."""
    data = tmp_path / "data"
    mounts = [Mount("/", "ext4"), Mount(str(data), "ext4"), Mount(str(data), "nfs4"), Mount(f"{data}2", "cifs")]
    assert kind_of(data / "lab" / "a", mounts) == "nfs4"
    assert kind_of(tmp_path / "data2" / "a", mounts) == "cifs"
    assert kind_of(tmp_path / "other", mounts) == "ext4"
    assert kind_of(data, []) == ""


def test_links_are_followed(tmp_path: Path) -> None:
    """A link to a share lies on the share."""
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    assert kind_of(tmp_path / "link" / "a", [Mount("/", "ext4"), Mount(str(tmp_path / "share"), "cifs")]) == "cifs"


def test_real_mounts_know_the_temporary_folder(tmp_path: Path) -> None:
    """The reading of this machine says on what a folder lies."""
    assert kind_of(tmp_path, read_mounts())
