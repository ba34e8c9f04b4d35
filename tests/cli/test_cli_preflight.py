"""``spikelab preflight``, and what ``sort`` tells before it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import FakeGpus

from spikelab.cli.preflight import Examination, examine
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.costs import Estimate, Range, Workload
from spikelab.spike_sorting.jobs import plan
from spikelab.spike_sorting.preflight import Machine, run_preflight
from spikelab.spike_sorting.preflight.machine import Driver, Gpu, Torch
from spikelab.spike_sorting.schedule import Flight
from spikelab.spike_sorting.supervision.slots import GpuSlots

NO_FOLDER = ("--set", "hdf5_plugin_path=no/such/folder")
TOO_MUCH = ("--set", "preflight_min_free_inter_gb=1e6")


@pytest.fixture
def folder(tmp_path, recording, monkeypatch) -> Path:
    """A folder with two sound recordings, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.raw.h5", "b.raw.h5"):
        shutil.copy(recording, tmp_path / name)
    return tmp_path


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_nothing_speaks_against_a_sound_recording(folder, spikelab, fake):
    """The needs of each recording are listed, nothing is left behind, and the exit code is 0."""
    before = everything_below(folder)
    done = spikelab("preflight", "a.raw.h5", "b.raw.h5", *fake)
    assert done.exit_code == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["recording", "time", "intermediate", "results", "memory", "on", "a", "GPU"]
    assert [line.split()[0] for line in lines[1:3]] == ["a.raw.h5", "b.raw.h5"]
    assert "of disk at one time" in done.stdout
    assert lines[-1].startswith("Nothing speaks against a start")
    assert everything_below(folder) == before


def test_what_speaks_against_a_start_exits_with_3(folder, broken, spikelab, fake):
    """A recording that cannot be read is named with what to do; the others would be sorted."""
    done = spikelab("preflight", "a.raw.h5", broken.name, *fake)
    assert done.exit_code == 3
    assert "error    broken.raw.h5 [recording-unreadable]" in done.stdout.splitlines()
    assert "    what to do: Check that the file is complete" in done.stdout
    assert "1 of 2 recordings cannot be sorted (1 error); the rest can." in done.stdout


def test_a_warning_counts_when_it_is_asked_to(folder, spikelab, fake):
    """A warning leaves the exit code 0, and makes it 3 with preflight_strict."""
    lenient = spikelab("preflight", "a.raw.h5", *fake, *NO_FOLDER)
    strict = spikelab("preflight", "a.raw.h5", *fake, *NO_FOLDER, "--set", "preflight_strict=true")
    assert "warning  a.raw.h5 [hdf5-plugin-folder-missing]" in lenient.stdout
    assert (lenient.exit_code, strict.exit_code) == (0, 3)


def test_preflight_speaks_json(folder, broken, spikelab, fake):
    """--json prints one document: ready or not, findings, and the needs of each recording."""
    done = spikelab("preflight", "a.raw.h5", broken.name, *fake, "--json")
    document = json.loads(done.stdout)
    assert document["ready"] is False
    (error,) = [finding for finding in document["findings"] if finding["level"] == "error"]
    assert (error["code"], error["subject"]) == ("recording-unreadable", "broken.raw.h5")
    first, second = document["recordings"]
    assert first["projected"]["disk_inter_gb"] > 0
    assert (second["projected"], second["sorted_before"]) == (None, False)


def test_an_estimate_tells_time_disk_and_memory(folder, broken, spikelab, fake):
    """Each recording has its line, or why not; --json has the ranges, and the exit code says that one is missing."""
    told, done = spikelab("estimate", "a.raw.h5", broken.name, *fake), spikelab("estimate", "a.raw.h5", *fake, "--json")
    assert (told.exit_code, done.exit_code) == (1, 0)
    assert "Nothing was sorted here yet" in told.stdout
    assert "broken.raw.h5: " in told.stdout
    (one,) = json.loads(done.stdout)
    assert 0 < one["wall_time_s"]["low"] < one["wall_time_s"]["likely"] < one["wall_time_s"]["high"]
    assert one["probe_s"] == pytest.approx(4.0)
    assert not (folder / "sorted_fake").exists()


def test_all_streams_of_a_file_are_checked(plate, spikelab, fake):
    """A plate is checked well by well, although sorting it takes another command."""
    done = spikelab("preflight", plate, *fake, "--json")
    assert [one["stream_id"] for one in json.loads(done.stdout)["recordings"]] == ["well000", "well001"]


def test_preflight_finds_what_the_sort_finds(folder, broken):
    """The command and the sort run the same checks on the same recordings."""
    jobs = plan([folder / "a.raw.h5", broken], KILOSORT4.override(hdf5_plugin_path="no/such/folder"))
    assert list(examine(jobs, 2).findings) == run_preflight(jobs, n_parallel=2)


def test_recordings_that_run_together_add_up(folder):
    """What goes after success counts once for each recording in flight."""
    jobs = plan([folder / "a.raw.h5", folder / "b.raw.h5"], KILOSORT4)
    one, two = examine(jobs, 1), examine(jobs, 2)
    (transient_gb,) = {projection.transient_gb for projection in one.projections.values()}
    assert transient_gb > 0
    assert two.most_disk_gb() - one.most_disk_gb() == pytest.approx(transient_gb)


def test_as_many_are_reckoned_with_as_a_sort_takes(folder):
    """Without a number there is one recording more in flight than there are GPUs that the sorts can use."""
    jobs = plan([folder / "a.raw.h5", folder / "b.raw.h5"], KILOSORT4)
    gpus = (Gpu("GT 710", (3, 5), 10**9, 10**9, "GPU-000"), Gpu("RTX", (12, 0), 10**10, 10**10, "GPU-111"))
    torch = Torch("13.0", ("RTX", "GT 710"), ("111", "000"), ("sm_120",))
    machine = Machine(driver=lambda: Driver("580", (13, 0), gpus), torch=lambda: torch, environment={})
    examination = examine(jobs, None, GpuSlots(FakeGpus(2)), machine)
    assert examination.flight == Flight(2, 1)
    assert {(one.workload.device, one.workload.n_parallel) for one in examination.estimates.values()} == {("cuda", 2)}
    assert "gpu-left-out" in {finding.code for finding in examination.findings}


@pytest.mark.parametrize(
    "device, flight, likely_s",
    [
        ("cuda", Flight(2, 1), 4 * 80.0),  # sorts take turns on the GPU
        ("cuda", Flight(3, 2), 2 * 80.0),
        ("cuda", Flight(1, 2), 4 * 100.0),  # one after the other
        ("cpu", Flight(2, 0), 2 * 100.0),
        ("cuda", Flight(9, 9), 100.0),  # no less than the longest
    ],
)
def test_a_batch_takes_no_less_than_its_sorts_take_on_the_gpus(device, flight, likely_s):
    """More recordings in flight than GPUs make nothing faster that has to wait for one; ends of the range scale."""
    work = Workload("kilosort4", device, 64, 2e4, 60.0, 5.0, tracks_drift=False)
    one = Estimate(
        name="a", results_folder="a", workload=work, crossings_Hz=None, probe_s=30.0,
        wall_time_s=Range(50.0, 100.0, 200.0), stages_s={"sort": 80.0, "other": 20.0},
        disk_inter_gb=Range(1, 1, 1), disk_results_gb=Range(1, 1, 1), ram_gb=Range(1, 1, 1),
        vram_gb=None, n_former_runs=0,
    )  # fmt: skip
    examination = Examination((), frozenset(), (), {}, flight, {Path(name): one for name in "abcd"})
    assert examination.wall_time_s() == Range(likely_s / 2, likely_s, 2 * likely_s)


def test_sort_tells_its_findings_before_it_starts(folder, spikelab, fake):
    """A sort that nothing can come of says so in the form of preflight, and each recording in one line."""
    done = spikelab("sort", "a.raw.h5", "b.raw.h5", *fake, *TOO_MUCH)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Before the start: 2 errors.", "error    a.raw.h5, b.raw.h5 [disk-space]"]
    assert "[1/2] a.raw.h5: failed (preflight): disk-space, as found before the start" in lines
    assert "info" not in done.stdout
    assert done.stderr == ""


def test_a_sort_that_cannot_start_says_so_once(folder, spikelab, fake):
    """With --on-error raise the findings are told, then that nothing was started; the exit code is 3."""
    done = spikelab("sort", "a.raw.h5", "b.raw.h5", *fake, *TOO_MUCH, "--on-error", "raise")
    assert done.exit_code == 3
    assert done.stdout.count("preflight_min_free_inter_gb asks for") == 1
    assert "Nothing was started: 2 findings above speak against it." in done.stderr
    assert "asks for" not in done.stderr


def test_json_holds_the_findings(folder, spikelab, fake):
    """--json keeps standard output for the document, which has the findings, info too; stderr has the lines."""
    done = spikelab("sort", "a.raw.h5", *fake, *TOO_MUCH, "--json")
    document = json.loads(done.stdout)
    assert "disk-space" in {finding["code"] for finding in document["findings"]}
    assert document["records"][0]["status"] == "preflight"
    assert "error    a.raw.h5 [disk-space]" in done.stderr.splitlines()


def test_a_dry_run_tells_findings_and_needs(folder, spikelab, fake):
    """A dry run says what each recording takes and what speaks against it, and exits as the sort would."""
    done = spikelab("sort", "a.raw.h5", "b.raw.h5", *fake, *TOO_MUCH, "--dry-run")
    assert done.exit_code == 1
    assert done.stdout.count("  would take    ") == 2
    assert done.stdout.count("  would fail    see below") == 2
    assert "error    a.raw.h5, b.raw.h5 [disk-space]" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 of 2 recordings cannot be sorted (2 errors)."


def test_a_dry_run_finds_nothing_where_the_sort_does_not_look(folder, spikelab, fake):
    """With preflight=false the sort checks nothing, and the dry run does not say otherwise."""
    off = ("--set", "preflight=false")
    done = spikelab("sort", "a.raw.h5", *fake, *TOO_MUCH, *off, "--dry-run", "--json")
    assert (done.exit_code, json.loads(done.stdout)["findings"]) == (0, [])
