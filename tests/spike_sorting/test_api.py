"""Calls and their errors: what is refused before anything runs, and what a folder says afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FAKE_SORTER, simulate_maxwell, sort_in_subprocess

from spikelab.spike_sorting import (
    SorterNotInstalledError,
    SortRunReport,
    load_results,
    sort_multistream,
    sort_recording,
)
from spikelab.spike_sorting._not_yet import NOT_YET
from spikelab.spike_sorting.call_settings import resolve_config
from spikelab.spike_sorting.config import KILOSORT4, flat_settings
from spikelab.spike_sorting.jobs import plan, plan_streams


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "culture.raw.h5"
    simulate_maxwell(path, duration_s=4, n_channels=8, n_units=3)
    return path


@pytest.mark.parametrize(
    "call,error,said",
    [
        ({"sorter": "kilosort9"}, ValueError, "Unknown sorter 'kilosort9', available"),
        ({"sorter": "kilosort2", "config": KILOSORT4}, ValueError, "contradicts"),
        ({"snr_mim": 3}, TypeError, "Unknown parameter 'snr_mim'; did you mean 'snr_min'"),
        ({"snr_min": -1}, ValueError, "snr_min must be at least 0"),
        ({"results_folders": ["a", "b"]}, ValueError, "same length"),
        ({"kilosort_params": {"bogus": 1}}, ValueError, "no parameter 'bogus'"),
        ({"kilosort_params": {"tmin": 1}, "start_time_s": 2}, ValueError, "not both"),
        ({"on_error": "ignore"}, ValueError, "on_error"),
        ({"max_parallel": 0}, ValueError, "max_parallel"),
        ({"use_docker": True, "container": "apptainer"}, ValueError, "planned"),
        ({"include_failed_units": True}, ValueError, "neither is written; set compile_to_npz or compile_to_mat"),
        ({"sorter": "rt_sort"}, SorterNotInstalledError, "no package with RT-Sort"),
        ({"sorter": "rt_sort", "rt_sort_params": {"loose": 1}}, ValueError, "no parameter 'loose'"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_runs(file, call, error, said):
    """Each wrong call raises at once, says what is wrong, and leaves no folder."""
    with pytest.raises(error, match=said):
        sort_recording(file, **call)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_every_setting_is_read_or_refused():
    """A setting that nothing reads is refused when it is set, so that none is silently ignored."""
    package = Path(__file__).parents[2] / "spikelab"
    code = [path for path in package.rglob("*.py") if path.name not in {"config.py", "_not_yet.py"}]
    text = "\n".join(path.read_text() for path in code)
    later = {
        "docker_image",
        "kilosort_path",
        "figures",
    }  # of sorters that are refused as a whole, and of plots to come
    unread = [
        name
        for name, (group, field) in flat_settings().items()
        if f".{field.name}" not in text and f'"{field.name}"' not in text and name not in NOT_YET
        and not any(name.startswith(prefix) or group == prefix for prefix in later)
    ]  # fmt: skip
    assert unread == []


@given(st.sampled_from(sorted(NOT_YET)))
def test_settings_of_later_versions_pass_at_their_default(name):
    """The presets themselves are never refused."""
    group, field = flat_settings()[name]
    default = getattr(getattr(KILOSORT4, group), field.name)
    assert resolve_config(None, None, {name: default}) == KILOSORT4


def test_kilosort_times_become_ours():
    """Kilosort's tmin and tmax choose the part that every stage sees."""
    config = resolve_config(None, None, {"kilosort_params": {"tmin": 2, "tmax": 30.0, "nblocks": 0}})
    assert (config.recording.start_time_s, config.recording.end_time_s) == (2.0, 30.0)
    assert dict(config.sorter.sorter_params) == {"nblocks": 0}


def test_overrides_may_name_a_file_after_what_goes_into_it():
    """What is compiled and into which file may come in either order; only the settings of the call are checked."""
    config = KILOSORT4.override(compile_waveforms=True).override(compile_to_mat=True)
    assert resolve_config(config, None, {}) == config


def test_the_report_is_filled_when_nothing_starts(file, tmp_path):
    """A recording that is missing ends the call, and the report says of each recording what became of it."""
    report = SortRunReport()
    with pytest.raises(Exception, match="missing"):
        sort_recording([file, tmp_path / "missing.raw.h5"], out_report=report)
    assert [record.status for record in report.records] == ["skipped", "recording_unreadable"]


def test_one_well_is_one_well(file):
    """A file with one well is the same recording, in the same folders, for both entry points."""
    (job,) = plan(file, KILOSORT4)
    assert plan_streams(file, KILOSORT4)["well000"].to_dict() == {
        **job.to_dict(),
        "config": KILOSORT4.override(stream_id="well000").to_dict(),
    }
    with pytest.raises(ValueError, match="well000"):
        sort_multistream(file, ["well007"])


# ----------------------------------------------------------------------------------------- folders afterwards


@pytest.fixture
def lab(file, tmp_path, monkeypatch):
    """A folder with a sorted recording, and the fake sorter in reach of its workers."""
    monkeypatch.setenv("PYTHONPATH", str(FAKE_SORTER))
    folder = tmp_path / "lab"
    folder.mkdir()
    shutil.copy2(file, folder)
    sort(folder / file.name)
    return folder


def sort(path: Path, **options: object) -> dict:
    defaults = {"sorter": "fake", "n_jobs": 1, "on_error": "continue", "curate_first": False, "curate_second": False}
    return sort_in_subprocess([str(path)], **{**defaults, **options})["report"]["records"][0]


def test_units_of_an_earlier_sort_do_not_pass_for_the_new_one(lab, file):
    """After a sort that failed, load_results says so instead of returning what lies there from before."""
    results = lab / "sorted_fake" / file.name
    assert load_results(results).N > 0
    record = sort(lab / file.name, kilosort_params={"behaviour": "unknown"}, recompute_sorting=True)
    assert record["status"] == "failed"
    with pytest.raises(FileNotFoundError, match="did not finish"):
        load_results(results)
    assert sort(lab / file.name)["status"] == "success"
    assert load_results(results).N > 0


def test_a_folder_that_moves_as_a_whole_keeps_its_results(lab, file, tmp_path):
    """Data and results that were moved together are found finished at the new place, as after a change of mount."""
    moved = shutil.move(lab, tmp_path / "archive")
    assert sort(Path(moved) / file.name)["attempts"] == []


def test_settings_of_cleaning_up_act_on_finished_sorts_too(lab, file):
    """delete_inter empties the intermediate folder of a sort that was finished before."""
    assert sort(lab / file.name, delete_inter=True)["attempts"] == []
    assert [path.name for path in (lab / "inter_fake" / file.name).iterdir()] == [".spikelab.lock"]


@pytest.mark.parametrize("policy,left", [("delete_on_success", []), ("gzip_on_success", ["sorting.log.gz"])])
def test_the_log_is_settled_as_asked(lab, file, policy, left):
    """The log of a success is deleted or packed when that is wanted."""
    sort(lab / file.name, tee_log_policy=policy, recompute_recording=True)
    logs = [path.name for path in (lab / "sorted_fake" / file.name).glob("sorting.log*")]
    assert logs == left


def test_recomputing_uses_nothing_from_before(lab, file):
    """recompute_recording makes the binary anew, recompute_sorting leaves no checkpoint to go on from."""
    inter = lab / "inter_fake" / file.name
    (inter / "sort_checkpoints").mkdir()
    (inter / "recording.bin").write_bytes(b"old")
    record = sort(lab / file.name, recompute_recording=True, keep_binary=True)
    assert [attempt["phase"] for attempt in record["attempts"]] == ["prepare", "sort", "finish"]
    assert not (inter / "sort_checkpoints").exists()
    assert not (inter / "recording.bin").exists()
