"""``spikelab sort``, ``multistream``, ``streams`` and ``report``, as far as they go without sorting."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import typer
from probeinterface import write_prb
from recording_files import write_spikeglx

from spikelab.cli.output import exit_codes
from spikelab.cli.planning import Places, plan_streams
from spikelab.simulation import simulate_recording
from spikelab.spike_sorting._exceptions import ConcurrentSortError, SaturatedSignalError, SorterNotInstalledError
from spikelab.spike_sorting.config import KILOSORT4


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_streams_lists_the_wells(spikelab, plate):
    """Every well has a line with its channels, duration and rate, and the command that sorts them."""
    result = spikelab("streams", plate)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["well000", "9", "0", "s", "20,000", "Hz"] in rows
    assert ["well001", "9", "0", "s", "20,000", "Hz"] in rows
    assert f"spikelab multistream {plate}" in result.stdout


def test_streams_for_scripts(spikelab, plate):
    """--json has one entry for each well, in numbers."""
    (first, second) = json.loads(spikelab("streams", plate, "--json").stdout)
    assert first == {"name": "well000", "n_channels": 9, "duration_s": 0.5, "fs_Hz": 20_000.0, "shanks": []}
    assert second["name"] == "well001"


def test_streams_of_a_broken_file_is_a_message(spikelab, broken):
    """A damaged file gives its classified message and advice, no traceback, and 1."""
    result = spikelab("streams", broken)
    assert result.exit_code == 1
    assert "recording_unreadable" in result.stderr
    assert "What to do" in result.stderr


def test_a_file_with_wells_is_pointed_to_multistream(spikelab, plate):
    """sort refuses a plate and names the commands that take it."""
    result = spikelab("sort", plate)
    assert result.exit_code == 2
    assert "well000, well001" in result.stderr
    assert "spikelab multistream" in result.stderr
    assert "--set stream_id=well000" in result.stderr


def test_a_dry_run_writes_nothing(spikelab, plate):
    """A dry run names recordings, streams, folders and changed settings, and leaves the disk as it was."""
    before = files_below(plate.parent)
    result = spikelab("multistream", plate, "--dry-run", "--set", "snr_min=6")
    assert result.exit_code == 0
    for part in ("well000", "well001", "sorted_kilosort4/plate.raw.h5_well001", "snr_min = 6.0"):
        assert part in result.stdout
    assert "stream_id" not in result.stdout
    assert files_below(plate.parent) == before


def test_a_dry_run_speaks_json(spikelab, plate, tmp_path):
    """--dry-run --json prints one document with every recording's folders."""
    places = ("--results", tmp_path / "out", "--intermediate", tmp_path / "fast")
    result = spikelab("multistream", plate, "--streams", "well001", "--dry-run", "--json", *places)
    (recording,) = json.loads(result.stdout)["recordings"]
    assert recording["stream_id"] == "well001"
    assert recording["results_folder"] == str(tmp_path / "out" / "plate.raw.h5_well001")
    assert recording["intermediate_folder"] == str(tmp_path / "fast" / "plate.raw.h5_well001")


@pytest.fixture(scope="module")
def shanks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A probe of four shanks in a file without streams, and its probe file."""
    folder = tmp_path_factory.mktemp("shanks")
    recording = simulate_recording("neuropixels2", n_channels=16, duration_s=0.5, n_units=4).recording
    recording.save(folder=folder / "probe", n_jobs=1, verbose=False)
    write_prb(folder / "map.prb", recording.get_probegroup(), group_mode="by_shank")
    return folder / "probe", folder / "map.prb"


def test_streams_knows_probes_and_flat_files_as_a_sort_does(spikelab, shanks, tmp_path):
    """Shanks are those of the probe file that is given or lies beside; a flat file is told by the same settings."""
    path = tmp_path / "flat.dat"
    np.zeros((30_000, 16), dtype="int16").tofile(path)
    layout = ("--set", "binary_fs=30000", "--set", "binary_n_chan=16")
    refused = spikelab("streams", path)
    assert refused.exit_code == 1
    assert "set binary_fs" in " ".join(refused.stderr.split())
    (given,) = json.loads(spikelab("streams", path, *layout, "--set", f"probe_path={shanks[1]}", "--json").stdout)
    shutil.copy(shanks[1], tmp_path / "flat.prb")
    (beside,) = json.loads(spikelab("streams", path, *layout, "--json").stdout)
    assert beside == given
    assert (given["n_channels"], given["duration_s"]) == (16, 1.0)
    assert given["shanks"] == [f"shank{k}" for k in range(4)]


@pytest.mark.parametrize("n_streams", [0, 1])
def test_shanks_go_where_results_are_asked_for(shanks, tmp_path, n_streams):
    """With --results as without, a file of one stream or none has one recording for each shank, and all go there."""
    file, probe = shanks
    if n_streams:
        file = write_spikeglx(tmp_path, "run", np.zeros((1500, 16), dtype="int16"), 30_000.0)
    config, places = KILOSORT4.override(probe_path=str(probe)), Places(tmp_path / "out", tmp_path / "fast")
    beside, asked = (plan_streams(file, None, config, where) for where in (Places(), places))
    names = [f"{'imec0.ap/' * n_streams}shank{k}" for k in range(4)]
    assert [job.source.stream_id for job in asked] == [job.source.stream_id for job in beside] == names
    for job, same in zip(asked, beside, strict=True):
        assert job.run.results == tmp_path / "out" / same.run.results.name
        assert job.run.inter == tmp_path / "fast" / same.run.inter.name
    assert plan_streams(file, ["shank2"], config, places) == (asked[2],)


def test_results_of_files_with_one_name_are_refused(spikelab, plate, tmp_path):
    """Two recordings of one name cannot go to one --results folder; the message names both."""
    other = tmp_path / "other" / plate.name
    other.parent.mkdir()
    shutil.copy(plate, other)
    options = ("--set", "stream_id=well000", "--results", tmp_path / "out", "--dry-run")
    result = spikelab("sort", plate, other, *options)
    assert result.exit_code == 2
    assert "would share the folder" in result.stderr


def test_a_recording_that_is_given_twice_is_told_as_such(spikelab, recording, tmp_path):
    """With --results as without, the advice is to leave one out."""
    for options in ((), ("--results", tmp_path / "out")):
        result = spikelab("sort", recording, recording, "--dry-run", *options)
        assert result.exit_code == 2
        assert "given twice" in " ".join(result.stderr.split())


def test_settings_among_the_recordings_are_told_from_them(spikelab, recording, tmp_path):
    """A file of settings without its option is no recording that cannot be read."""
    (tmp_path / "lab.toml").write_text("[curation]\nsnr_min = 3\n")
    result = spikelab("sort", recording, tmp_path / "lab.toml", "--dry-run")
    assert result.exit_code == 2
    assert f"--config {tmp_path / 'lab.toml'}" in " ".join(result.stderr.split())


def test_a_dry_run_says_which_recording_would_fail(spikelab, broken):
    """A file that cannot be read shows in the dry run, with exit code 1."""
    result = spikelab("sort", broken, "--dry-run")
    assert result.exit_code == 1
    assert "would fail" in result.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--set", "snr_mim=6"], "did you mean 'snr_min'"),
        (["--set", "snr_min=-1"], "snr_min must be at least 0"),
        (["--sorter", "kilosort5"], "Unknown sorter 'kilosort5'"),
        (["--set", "kilosort_params.Th_lerned=7"], "Th_lerned"),
        (["--set", "container=apptainer"], "not part of this version"),
        (["--streams", "well007"], "has no stream 'well007'"),
        (["--parallel", "0"], "--parallel"),
        (["--on-error", "ignore"], "--on-error"),
        (["--config", "/nowhere.toml"], "does not exist"),
    ],
)
def test_a_wrong_call_exits_with_2_and_says_why(spikelab, plate, arguments, words):
    """Wrong options are refused before anything runs or is written."""
    before = files_below(plate.parent)
    result = spikelab("multistream", plate, *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert files_below(plate.parent) == before


def test_a_missing_file_is_a_wrong_call(spikelab, tmp_path):
    """A misspelt path is refused while the person is still there, and no folder is made for it."""
    result = spikelab("sort", tmp_path / "typo.raw.h5")
    assert result.exit_code == 2
    assert files_below(tmp_path) == []


def test_a_sorter_that_cannot_run_here_exits_with_3(spikelab, plate):
    """What every recording would fail with is said once, with what to do."""
    result = spikelab("multistream", plate, "--sorter", "rt_sort")
    assert result.exit_code == 3
    assert "sorter_not_installed" in result.stderr


def test_a_name_that_is_no_text_ends_nothing(spikelab_process, broken):
    """A name with bytes that are no UTF-8, as other systems leave them on a shared disk, is printed by its codes."""
    named = broken.with_name(os.fsdecode(b"caf\xe9.raw.h5"))
    broken.rename(named)
    told = spikelab_process("sort", named, "--sorter", "fake", PYTHONIOENCODING="utf-8:strict")
    assert told.returncode == 1, told.stderr
    assert "caf\\udce9.raw.h5: failed (recording_unreadable)" in told.stdout
    assert "report-incomplete" not in told.stdout


def test_failures_exit_with_1_and_speak_json(spikelab, broken):
    """Unreadable recordings have their reports; with --json standard output is one document and nothing else."""
    pytest.importorskip("kilosort")
    result = spikelab("sort", broken, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["n_total"], document["n_failed"]) == (1, 1)
    assert document["records"][0]["status"] == "recording_unreadable"
    assert "what to do" in result.stderr
    assert "0 of 1 recording sorted" in result.stderr


def test_the_first_failure_can_end_the_batch(spikelab, broken):
    """With --on-error raise a recording that cannot be read ends it before it begins, with its message."""
    pytest.importorskip("kilosort")
    result = spikelab("sort", broken, "--on-error", "raise")
    assert result.exit_code == 1
    assert "recording_unreadable" in result.stderr


def test_report_needs_results(spikelab, tmp_path):
    """A folder without a report is a wrong call."""
    result = spikelab("report", tmp_path)
    assert result.exit_code == 2
    assert "no recording_report.json" in result.stderr


@pytest.mark.parametrize(
    "error, code",
    [
        (SorterNotInstalledError("none"), 3),
        (ConcurrentSortError("held"), 3),
        (SaturatedSignalError("clips"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_their_exit_codes(error, code):
    """Environment 3, other classified failures 1, Ctrl-C 130."""
    with pytest.raises(typer.Exit) as caught, exit_codes():
        raise error
    assert caught.value.exit_code == code


def test_sigterm_stops_like_ctrl_c():
    """SIGTERM becomes the interrupt that the library answers with an orderly stop, and exits with 143."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as caught, exit_codes():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_of_spikelab_itself_keeps_its_traceback():
    """What is a fault in the program is not disguised as a wrong call."""
    with pytest.raises(ZeroDivisionError), exit_codes():
        _ = 1 / 0
