"""Our table of Kilosort4's parameters is the installed Kilosort4's, and what the user gives reaches it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend, sort_request
from spikelab.spike_sorting.backends.kilosort4.parameters import (
    PARAMETERS,
    check_against_recording,
    check_parameters,
    parameters_table,
)
from spikelab.spike_sorting.call_settings import _with_kilosort_times
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

INSTALLED = pytest.importorskip("kilosort.parameters")
THEIRS = {**INSTALLED.MAIN_PARAMETERS, **INSTALLED.EXTRA_PARAMETERS}
N_CHANNELS, FS_HZ = 12, 20_000.0


# -------------------------------------------------------------------------------------------------- the table


def test_names_are_those_of_the_installed_version():
    """No parameter of the installed Kilosort4 is missing, and none of ours is unknown to it."""
    assert set(PARAMETERS) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_type_range_and_default_are_theirs(name):
    """Type, range, excluded values and default agree, and the default is allowed."""
    ours, theirs = PARAMETERS[name], THEIRS[name]
    assert ours.kind is theirs["type"]
    if ours.kind in {int, float}:
        assert (ours.low, ours.high) == (theirs["min"], theirs["max"])
    assert list(ours.excluded) == theirs["exclude"]
    default = list(ours.default) if ours.kind is list else ours.default
    assert default == theirs["default"]
    assert ours.problem(theirs["default"]) is None


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_every_parameter_says_what_it_is(name):
    """Each has one line of meaning, and where its numbers have a unit, that too."""
    parameter = PARAMETERS[name]
    assert parameter.meaning.endswith(".")
    assert "\n" not in parameter.meaning
    if re.search(r"_(ms|um)$|distance|^(tmin|tmax|fs)$", name):
        assert parameter.unit


def test_the_page_has_the_table():
    """docs/kilosort4.md has the table as the code has it."""
    page = (REPOSITORY / "docs" / "kilosort4.md").read_text(encoding="utf-8")
    assert parameters_table() in page, "put what parameters_table() returns into docs/kilosort4.md"


# ----------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "params,said",
    [
        ({"Th_lerned": 8}, "did you mean 'Th_learned'"),
        ({"Th_learned": 0}, "not 0"),
        ({"Th_learned": "8"}, "a number"),
        ({"Th_learned": math.nan}, "at least 0"),
        ({"nblocks": 1.5}, "whole number"),
        ({"nblocks": True}, "whole number"),
        ({"batch_size": None}, "at least 1"),
        ({"max_peels": 20_000}, "at most 10000"),
        ({"nt": 60}, "odd"),
        ({"nt": 81, "templates_from_data": False}, "must be 61"),
        ({"templates_from_data": 1}, "True or False"),
        ({"drift_smoothing": [0.5, 0.5]}, "a list of 3 numbers"),
        ({"drift_smoothing": [0.5, "a", 0.5]}, "a list of 3 numbers"),
        ({"drift_smoothing": [0.5, -1, 0.5]}, "at least 0"),
        ({"bad_channels": [0, -1]}, "channel indices from 0 on"),
        ({"bad_channels": 3}, "channel indices from 0 on"),
        ({"do_CAR": 1}, "True or False"),
        ({"torch_device": 0}, "a device of torch"),
        ({"device": "cuda"}, "use torch_device"),
        ({"probe_path": "a.prb"}, "name the probe file in probe_path, a setting of its own"),
        ({"duplicate_spike_bins": 7}, "use duplicate_spike_ms"),
        ({"filename": "a.bin"}, "sort_recording"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(params, said):
    """An unknown name, a wrong type and a value out of range are each refused, with what would be right."""
    with pytest.raises(ValueError, match=re.escape(said)):
        check_parameters(params)


@pytest.mark.parametrize("name", sorted(name for name, one in PARAMETERS.items() if one.kind in {int, float}))
def test_just_outside_of_a_range_is_refused_and_the_range_told(name):
    """The first value below each finite low end, and each excluded value, is refused with the ends of the range."""
    parameter = PARAMETERS[name]
    outside = [parameter.low - 1, *parameter.excluded] if math.isfinite(parameter.low) else []
    for value in outside:
        with pytest.raises(ValueError, match=re.escape(str(parameter))):
            check_parameters({name: parameter.kind(value) if math.isfinite(value) else value})


def test_right_parameters_pass():
    """What Kilosort4 allows is allowed, infinity and None included."""
    check_parameters({"tmax": math.inf, "dmin": None, "nblocks": 0, "do_CAR": False, "Th_learned": 7})
    check_parameters({"max_channel_distance": None, "bad_channels": None, "torch_device": "cuda:1"})


@pytest.mark.parametrize(
    "params,said",
    [
        ({"fs": 30_000}, "the recording has 20000 Hz"),
        ({"n_chan_bin": 11}, "the recording has 12 channels"),
        ({"bad_channels": [3, 12]}, "0 to 11"),
        ({"bad_channels": list(range(12))}, "names all 12 channels"),
    ],
)
def test_what_contradicts_the_recording_is_refused(params, said):
    """A sampling rate, a number of channels or a channel that the recording does not have is told, not ignored."""
    with pytest.raises(ValueError, match=re.escape(said)):
        check_against_recording(params, N_CHANNELS, FS_HZ)


def test_what_agrees_with_the_recording_passes():
    """Settings of a run of Kilosort4 on the same file pass, with a channel more than are sorted."""
    check_against_recording({"fs": 20_000, "n_chan_bin": 13, "bad_channels": [0]}, N_CHANNELS, FS_HZ)


# ------------------------------------------------------------------------------------------- what reaches Kilosort


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of 12 channels in one flat file."""
    truth = simulate_recording("linear", n_channels=N_CHANNELS, duration_s=1, n_units=2, fs_Hz=FS_HZ)
    return truth.recording.save(folder=tmp_path_factory.mktemp("recording") / "saved", verbose=False)


def _request(folder: Path, recording: Any, params: dict[str, Any]) -> Any:
    run = RunFolder(inter=folder / "inter", results=folder / "results")
    (run.inter / "output").mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params=params, n_jobs=1)
    Kilosort4Backend().check_params(config)
    job = SortJob(recording, run.inter / "output", run, config, ProgressFile(run.progress, "sort"))
    return sort_request(job)[0]


def _ops(folder: Path, recording: Any, params: dict[str, Any]) -> Any:
    from spikelab.spike_sorting.backends.kilosort4.steps import _initial_ops

    return _initial_ops(_request(folder, recording, params))


OTHER: dict[str, Any] = {
    "templates_from_data": False,
    "drift_smoothing": [0.1, 0.2, 0.3],
    "artifact_threshold": 500.0,
    "nt": 41,
    "nt0min": 15,
    "nearest_chans": 5,
    "shift": -3.0,
    "scale": 0.25,
}
"""Allowed values that are not the default, where adding one to it is none."""


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"n_chan_bin", "fs", "tmin", "tmax"}))
def test_every_setting_reaches_kilosort(tmp_path, recording, name):
    """A value that the user gives is the one that Kilosort4's steps read."""
    value = OTHER[name] if name in OTHER else (PARAMETERS[name].default or 1) + 1
    ops = _ops(tmp_path, recording, {name: value})
    assert ops["settings"][name] == value
    assert ops[name] == value


def test_settings_of_run_kilosort_are_accepted(tmp_path, recording):
    """n_chan_bin and fs as run_kilosort wants them may stay, and what the recording says counts."""
    ops = _ops(tmp_path, recording, {"n_chan_bin": 13, "fs": 20_000, "nblocks": 0})
    assert (ops["n_chan_bin"], ops["fs"], ops["nblocks"]) == (N_CHANNELS, FS_HZ, 0)


def test_arguments_of_run_kilosort_reach_it(tmp_path, recording):
    """do_CAR, invert_sign, bad_channels, clear_cache, save_preprocessed_copy and torch_device take effect."""
    params = {"do_CAR": False, "invert_sign": True, "bad_channels": [2, 5], "torch_device": "cpu"}
    request = _request(tmp_path, recording, {**params, "clear_cache": True, "save_preprocessed_copy": True})
    assert (request.clear_cache, request.save_preprocessed_copy, str(request.device)) == (True, True, "cpu")
    np.testing.assert_array_equal(request.probe["chanMap"], np.delete(np.arange(N_CHANNELS), [2, 5]))
    ops = _ops(tmp_path / "ops", recording, params)
    assert (ops["do_CAR"], ops["scale"], ops["Nchan"]) == (False, -1.0, N_CHANNELS - 2)


def test_tmin_and_tmax_are_our_times():
    """Kilosort's times become ours, so that every stage sees the same part of the recording."""
    config = _with_kilosort_times(KILOSORT4.override(kilosort_params={"tmin": 2, "tmax": 7.5, "nblocks": 0}))
    assert (config.recording.start_time_s, config.recording.end_time_s) == (2.0, 7.5)
    assert dict(config.sorter.sorter_params) == {"nblocks": 0}


def test_a_repeated_fact_changes_no_result():
    """Saying the sampling rate or the number of channels again does not make another sort of it."""
    backend, again = Kilosort4Backend(), {"fs": 20_000.0, "n_chan_bin": 12}
    assert backend.settings(KILOSORT4) == backend.settings(KILOSORT4.override(kilosort_params=again))
