"""The way of a recording, with real Kilosort4: first sort, resume, crash, change, failure."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import FAST, Sorted, kill_worker, simulate_maxwell, sort_in_subprocess

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting import (
    ConcurrentSortError,
    RecordingUnreadableError,
    SortRunReport,
    SpikeSortingClassifiedError,
    load_results,
    sort_recording,
)
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.pipeline import PHASES, STAGES
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.progress import read_progress

pytestmark = pytest.mark.timeout(300)
NAMES = [stage.name for stage in STAGES]


def content(sorted_: Sorted) -> dict[str, bytes]:
    """Return the results that must not change when nothing does."""
    names = ("spikedata_curated.h5", "spikedata_raw.h5", "curation_history.json")
    return {name: (sorted_.results / name).read_bytes() for name in names}


def again(sorted_: Sorted, **overrides: object) -> tuple[list[str], SortRunReport]:
    """Sort again; return the stages that ran, and the report."""
    before = len(events(sorted_))
    report = SortRunReport()
    sort_recording(sorted_.file, out_report=report, **{**FAST, "save_raw_pkl": True, **overrides})
    ran = [event["stage"] for event in events(sorted_)[before:] if event["event"] == "stage_finished"]
    return ran, report


def events(sorted_: Sorted) -> list[dict]:
    return RunFolder(sorted_.inter, sorted_.results).journal.read()


@pytest.fixture(scope="module")
def undisturbed(sorted_once):
    return content(sorted_once)


# ------------------------------------------------------------------------------------------------ first sort


def test_units_are_those_of_the_truth(sorted_once):
    """Each unit found is a true one: times within 0.3 ms, 110 uV within 10 %, and most true units are found."""
    sd = load_results(sorted_once.results)
    fs_Hz = sorted_once.truth.recording.sampling_frequency
    truth = [
        sorted_once.truth.sorting.get_unit_spike_train(unit) / fs_Hz * 1000
        for unit in sorted_once.truth.sorting.unit_ids
    ]
    matched = set()
    for train, unit in zip(sd.train, sd.neuron_attributes, strict=True):
        offsets = [np.abs(true[np.abs(true[None] - train[:, None]).argmin(axis=1)] - train) for true in truth]
        shares = [np.mean(offset <= 0.3) for offset in offsets]
        best = int(np.argmax(shares))
        if shares[best] > 0.9 and len(train) > 0.8 * len(truth[best]):
            matched.add(best)
            assert unit["amplitude"] == pytest.approx(110, rel=0.1)
            assert sd.rates()[unit["unit_id"] == np.array(sd.get_neuron_attribute("unit_id"))][0] == pytest.approx(
                len(truth[best]) / 10, rel=0.2
            )
    assert len(matched) >= len(truth) - 2
    assert sd.length == 10_000


def test_orchestrator_never_imports_torch(sorted_once):
    """The process that called sort_recording has not imported torch or kilosort, and its environment is its own."""
    modules = sorted_once.said["modules"]
    assert "spikelab.spike_sorting.pipeline" in modules
    assert not [name for name in modules if name.split(".")[0] in {"torch", "kilosort", "matplotlib"}]
    assert sorted_once.said["environment"].get("OMP_WAIT_POLICY") == os.environ.get("OMP_WAIT_POLICY")


def test_results_folder_is_complete(sorted_once):
    """Everything that the contract names is in the results folder."""
    for name in (
        "spikedata_curated.h5", "spikedata_raw.h5", "sorting_report.md", "sorting_report.html",
        "recording_report.json", "config_used.json", "events.jsonl", "sorting.log", "curation_history.json",
        "sort_overview.npz",
    ):  # fmt: skip
        assert (sorted_once.results / name).stat().st_size > 0, name
    (record,) = sorted_once.said["report"]["records"]
    assert record["status"] == "success"
    page = (sorted_once.results / "sorting_report.html").read_text(encoding="utf-8")
    assert "Depth of single spikes" in page
    assert "contamination (%)" in page
    for unit in load_results(sorted_once.results).neuron_attributes:
        assert unit["ks_label"] in {"good", "mua"}
        assert unit["ks_contam_pct"] >= 0
    assert record["n_curated_units"] == load_results(sorted_once.results).N
    assert set(record["stage_timings_s"]) == set(NAMES)
    assert SortRunReport.load(sorted_once.results).all_succeeded


def test_the_log_has_no_progress_bars(sorted_once):
    """How far each step is goes to whoever watches, and never into the log, whatever upstream would draw."""
    log = RunFolder(sorted_once.inter, sorted_once.results).log.read_text(encoding="utf-8")
    assert "stage export" in log
    assert "\r" not in log
    assert not [line for line in log.splitlines() if "%|" in line or "it/s" in line]


def test_nothing_is_downloaded(sorted_once, tmp_path, monkeypatch):
    """Neither a pool of processes nor whoever opens the analyzer fetches Maxwell's plugin from the network."""
    import pickle  # noqa: TID251 - as multiprocessing does

    import spikeinterface

    from spikelab.spike_sorting.stages.load import read_recording

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HDF5_PLUGIN_PATH", raising=False)
    run = RunFolder(sorted_once.inter, sorted_once.results)
    recording, _ = read_recording(run.recording)
    sent = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(sent.get_traces(end_frame=100), recording.get_traces(end_frame=100))
    analyzer = spikeinterface.load_sorting_analyzer(run.analyzer)
    assert analyzer.has_recording()
    assert not list(tmp_path.iterdir())


def test_binary_copy_goes_after_success(sorted_once):
    """The copy that Kilosort4 read is gone, and nothing half-written is left."""
    assert not RunFolder(sorted_once.inter, sorted_once.results).binary.exists()
    assert not list(sorted_once.inter.rglob("*partial*"))


# ---------------------------------------------------------------------------------------------------- resume


def test_same_call_again_runs_nothing(sorted_once, undisturbed):
    """The same call returns the same result, bit for bit, in under 5 s, without a stage or a worker."""
    started = time.monotonic()
    ran, report = again(sorted_once)
    assert time.monotonic() - started < 5
    assert ran == []
    assert report.all_succeeded
    assert report.records[0].attempts == ()
    assert content(sorted_once) == undisturbed


def test_a_changed_threshold_redoes_curation_only(sorted_once, undisturbed):
    """One changed curation threshold runs curate and what follows, and the way back restores the first result."""
    ran, _ = again(sorted_once, snr_min=500.0)
    assert ran == ["curate", "review", "export"]
    assert load_results(sorted_once.results).N == 0
    ran, _ = again(sorted_once)
    assert ran == ["curate", "review", "export"]
    assert content(sorted_once) == undisturbed


@pytest.mark.parametrize(
    "flag, first",
    [("reextract_waveforms", "waveforms"), ("recurate_first", "curate"), ("recurate_second", "curate")],
)
def test_recompute_flags_redo_from_their_stage_on(sorted_once, undisturbed, flag, first):
    """A recompute flag runs its stage and all that depend on it, once, with the same result."""
    ran, _ = again(sorted_once, **{flag: True})
    assert ran == NAMES[NAMES.index(first) :]
    assert content(sorted_once) == undisturbed


def killed_in(sorted_: Sorted, name: str, step: str = "") -> RunFolder:
    """Redo from the stage `name` on in a worker of our own, and kill it once it is there."""
    run = RunFolder(sorted_.inter, sorted_.results)
    run.forget(NAMES[NAMES.index(name) :])
    phase = next(stage.phase for stage in STAGES if stage.name == name)
    exited = kill_worker(run, phase, lambda progress: progress.stage == name and step in progress.step)
    assert exited.name in {"SIGKILL", "exit 0"}
    return run


@pytest.mark.parametrize("name", NAMES)
def test_killed_in_a_stage_continues_to_the_same_result(sorted_once, undisturbed, name):
    """SIGKILL of the worker in any stage, then the same call: what an undisturbed run would have given."""
    killed_in(sorted_once, name)
    ran, report = again(sorted_once)
    assert report.all_succeeded
    assert set(ran) <= set(NAMES[NAMES.index(name) :])
    assert content(sorted_once) == undisturbed


def test_killed_in_a_step_of_kilosort4_continues_from_its_checkpoint(sorted_once, undisturbed):
    """SIGKILL within Kilosort4 costs one step: the next attempt goes on from there, to the same result.

    The other steps have their turn among the faults.
    """
    run = killed_in(sorted_once, "sort", "spike extraction")
    n_done = len(list(run.sorter_checkpoints.glob("step*.pt")))
    before = run.log.stat().st_size
    assert again(sorted_once)[1].all_succeeded
    with run.log.open("rb") as log:
        log.seek(before)
        assert (b"continuing after step" in log.read()) == (n_done > 0)
    assert content(sorted_once) == undisturbed


def test_a_changed_sorter_setting_redoes_from_sort_on(sorted_once):
    """One changed sorter setting runs from sort on, never load."""
    ran, _ = again(sorted_once, kilosort_params={"nblocks": 0, "Th_learned": 7.5})
    assert ran == NAMES[1:]
    again(sorted_once)


def test_a_replaced_file_redoes_everything(tmp_path):
    """A file replaced by another under the same name is sorted anew, from load on."""
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file, duration_s=5, n_units=3)
    sorted_ = Sorted(
        file, None, tmp_path / "sorted_kilosort4" / file.name, tmp_path / "inter_kilosort4" / file.name, {}
    )
    first, _ = again(sorted_)
    simulate_maxwell(file, duration_s=6, n_units=3, seed=8)
    second, _ = again(sorted_, delete_inter=True)
    assert first == second == NAMES
    assert load_results(sorted_.results).length == 6000
    assert [path.name for path in sorted_.inter.iterdir()] == [".spikelab.lock"]
    third, _ = again(sorted_, delete_inter=True)
    assert third == []


# --------------------------------------------------------------------------------- other ways to give a recording


def test_a_directory_is_sorted_as_one_and_split_back(tmp_path):
    """Three files of different length in a folder: three SpikeData, each from 0 to its own length, same units."""
    folder = tmp_path / "day 1"
    folder.mkdir()
    truths = {}
    for number, duration_s in ((1, 4), (2, 6), (10, 5)):
        path = folder / f"part{number}.raw.h5"
        truths[path.name] = simulate_maxwell(path, duration_s=duration_s, n_units=4, rate_Hz=(10, 12))
    epochs = sort_recording(folder, **FAST)
    assert [epoch.length for epoch in epochs] == [4000, 6000, 5000]
    assert len({epoch.N for epoch in epochs}) == 1
    assert epochs[0].N >= 2
    for epoch, truth in zip(epochs, truths.values(), strict=True):
        true_ms = np.sort(truth.sorting.to_spike_vector()["sample_index"]) / 20.0
        spikes_ms = np.concatenate(epoch.train)
        assert spikes_ms.min() >= 0
        assert spikes_ms.max() <= epoch.length
        nearest = np.abs(true_ms[None] - spikes_ms[:, None]).min(axis=1)
        assert np.mean(nearest <= 0.3) > 0.95, "spikes on the wrong side of a border"


def test_a_recording_in_memory_is_copied_and_sorted(tmp_path):
    """A recording without a file needs a results folder, is streamed there, and is found again by content."""
    from spikeinterface.core import NumpyRecording

    source = simulate_recording("linear", n_channels=12, duration_s=5, n_units=4, rate_Hz=(10, 12)).recording
    recording = NumpyRecording([source.get_traces()], source.sampling_frequency)
    recording.set_probe(source.get_probe())
    recording.set_channel_gains(0.195)
    recording.set_channel_offsets(0.0)
    with pytest.raises(ValueError, match="results_folders"):
        sort_recording(recording, **FAST)
    first, second = SortRunReport(), SortRunReport()
    (sd,) = sort_recording(recording, results_folders=[tmp_path / "out"], out_report=first, **FAST)
    (same,) = sort_recording(recording, results_folders=[tmp_path / "out"], out_report=second, **FAST)
    assert sd == same
    assert sd.N >= 2
    assert len(first.records[0].attempts) == len(PHASES)
    assert second.records[0].attempts == ()


# -------------------------------------------------------------------------------------------------- failures


@pytest.fixture(scope="module")
def silent_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("silent") / "silent.raw.h5"
    simulate_maxwell(file, n_units=0, duration_s=4, noise_uV=5.0)
    return file


def test_one_outcome_per_recording_in_order(sorted_once, silent_file, tmp_path):
    """With on_error='continue' a failed recording is None in its place, and each has a record and a report."""
    missing = tmp_path / "missing.raw.h5"
    report = SortRunReport()
    results = sort_recording(
        [silent_file, sorted_once.file, missing],
        on_error="continue",
        out_report=report,
        **{**FAST, "save_raw_pkl": True},
    )
    assert [result is None for result in results] == [True, False, True]
    assert [record.status for record in report.records][1:] == ["success", "recording_unreadable"]
    failed = report.records[0]
    assert failed.category == "biology", failed
    for record in report.failed:
        text = Path(record.results_folder, "sorting_report.md").read_text()
        assert record.advice in text
        assert json.loads(Path(record.results_folder, "recording_report.json").read_text())["status"] == record.status


def test_the_first_failure_is_raised(silent_file):
    """With on_error='raise' the classified error itself arrives at the caller."""
    with pytest.raises(SpikeSortingClassifiedError) as caught:
        sort_recording(silent_file, **FAST)
    assert caught.value.category == "biology"


def test_a_missing_file_is_known_before_anything_runs(sorted_once, tmp_path):
    """With on_error='raise' a missing file ends the call before the first recording is touched."""
    before = len(events(sorted_once))
    with pytest.raises(RecordingUnreadableError, match=r"missing\.raw\.h5"):
        sort_recording([sorted_once.file, tmp_path / "missing.raw.h5"], **FAST)
    assert len(events(sorted_once)) == before


def test_a_held_folder_is_refused_and_left_alone(sorted_once, undisturbed):
    """A second run of one recording is told who holds it, and writes nothing."""
    with hold([sorted_once.results]), pytest.raises(ConcurrentSortError, match=str(os.getpid())) as caught:
        again(sorted_once, snr_min=7.0)
    assert caught.value.holder_pid == os.getpid()
    assert content(sorted_once) == undisturbed


def test_ctrl_c_stops_the_worker_and_is_reported(tmp_path):
    """KeyboardInterrupt ends the sort within the grace period, leaves no process, and the report says so."""
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file, duration_s=6)
    script = "import sys; from spikelab.spike_sorting import sort_recording; sort_recording(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", script, str(file)], stderr=subprocess.PIPE)
    run = RunFolder(tmp_path / "inter_kilosort4" / file.name, tmp_path / "sorted_kilosort4" / file.name)
    while (progress := read_progress(run.progress)) is None or progress.stage != "sort":
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in error
    assert json.loads(run.report_json.read_text())["status"] == "interrupted"
    with hold([run.results, run.inter]):
        """The worker inherits the locks: that they are free shows that it is gone."""


def test_inline_runner_gives_the_same(sorted_once, tmp_path):
    """The runner for debugging does the same work in the caller's process."""
    file = shutil.copy2(sorted_once.file, tmp_path / sorted_once.file.name)
    options = {**FAST, "runner": "inline"}
    said = sort_in_subprocess([str(file)], **options)
    assert said["report"]["records"][0]["status"] == "success"
    assert "torch" in said["modules"]
    inline = load_results(tmp_path / "sorted_kilosort4" / file.name)
    expected = load_results(sorted_once.results)
    assert [list(train) for train in inline.train] == [list(train) for train in expected.train]


def test_job_survives_its_file(sorted_once):
    """A job read from its folder is the job that was written."""
    described = json.loads((sorted_once.inter / "attempts" / "1" / "job.json").read_text())["job"]
    assert Job.from_dict(described).to_dict() == described
