"""Settings: their names and defaults, their checks, their files."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle  # noqa: TID251 - what other processes are sent, not a file
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelab.spike_sorting import config as presets
from spikelab.spike_sorting._settings import FrozenMap, memory_bytes
from spikelab.spike_sorting.config import KILOSORT4, SortingPipelineConfig, flat_settings

CONTRACT: dict[str, dict[str, Any]] = {
    "recording": {
        "stream_id": None,
        "hdf5_plugin_path": None,
        "probe_path": None,
        "binary_fs": None,
        "binary_n_chan": None,
        "binary_dtype": "int16",
        "binary_offset": 0,
        "first_n_mins": None,
        "mea_y_max": None,
        "gain_to_uv": None,
        "offset_to_uv": None,
        "rec_chunks": None,
        "rec_chunks_s": None,
        "start_time_s": None,
        "end_time_s": None,
        "freq_min": 300.0,
        "freq_max": 6000.0,
        "bad_channels": "auto",
        "stim_times_ms": None,
    },
    "stimulation": {
        "stim_method": "polynomial",
        "stim_recenter": True,
        "stim_artifact_window_ms": 10.0,
        "stim_saturation_threshold": None,
        "stim_baseline_threshold": None,
        "stim_poly_order": 3,
        "stim_artifact_window_only": True,
        "stim_poly_clamp_factor": 10.0,
        "stim_max_offset_ms": 50.0,
        "stim_peak_mode": "abs_max",
        "stim_n_reference_channels": 8,
        "stim_prewindow_ms": 5.0,
        "stim_warn_offset_ms": 3.0,
        "stim_multi_peak": False,
        "stim_multi_peak_select": "first",
        "stim_multi_peak_threshold": 0.6,
        "stim_multi_peak_min_separation_ms": 2.0,
    },
    "sorter": {
        "sorter_name": "kilosort4",
        "kilosort_path": None,
        "kilosort_params": {},
        "use_docker": False,
        "container": "docker",
    },
    "rt_sort": {
        "rt_sort_model_path": None,
        "rt_sort_probe": "mea",
        "rt_sort_device": "auto",
        "rt_sort_num_processes": None,
        "rt_sort_recording_window_ms": None,
        "rt_sort_save_pickle": False,
        "rt_sort_delete_inter": True,
        "rt_sort_verbose": True,
        "rt_sort_params": {},
        "rt_sort_detection_window_s": None,
        "rt_sort_python": None,
    },
    "waveform": {
        "waveforms_ms_before": 2.0,
        "waveforms_ms_after": 2.0,
        "pos_peak_thresh": 2.0,
        "max_waveforms_per_unit": 300,
        "std_at_peak": True,
        "std_over_window_ms_before": 0.5,
        "std_over_window_ms_after": 1.5,
        "save_waveform_files": False,
    },
    "curation": {
        "curate_first": True,
        "curate_second": True,
        "curation_epoch": None,
        "fr_min": 0.05,
        "isi_viol_max": 1.0,
        "isi_violation_method": "percent",
        "snr_min": 5.0,
        "spikes_min_first": 30,
        "spikes_min_second": 50,
        "std_norm_max": 1.0,
        "redundancy_max": 60.0,
        "merge_duplicates": False,
    },
    "compilation": {
        "compile_to_mat": False,
        "compile_to_npz": False,
        "compile_waveforms": False,
        "save_electrodes": True,
        "save_raw_pkl": False,
        "include_failed_units": False,
    },
    "figures": {
        "create_figures": True,
        "create_unit_figures": False,
        "figure_format": "png",
        "dpi": 150,
        "font_size": 10.0,
        "color_kept": "#0072B2",
        "color_removed": "#D55E00",
        "label_kept": "kept",
        "label_removed": "removed",
    },
    "execution": {
        "n_jobs": None,
        "total_memory": None,
        "random_seed": 0,
        "recompute_recording": False,
        "recompute_sorting": False,
        "reextract_waveforms": False,
        "recurate_first": False,
        "recurate_second": False,
        "delete_inter": False,
        "keep_binary": False,
        "runner": "process",
        "preflight": True,
        "preflight_strict": False,
        "preflight_min_free_inter_gb": None,
        "preflight_min_free_results_gb": None,
        "preflight_min_available_ram_gb": None,
        "preflight_min_free_vram_gb": None,
        "canary_first_n_s": 0.0,
        "canary_min_recording_s": 0.0,
        "oom_retry_max": 3,
        "oom_retry_factor": 0.5,
        "host_ram_watchdog": True,
        "host_ram_warn_pct": 85.0,
        "host_ram_abort_pct": 92.0,
        "gpu_watchdog": True,
        "gpu_warn_pct": 85.0,
        "gpu_abort_pct": 95.0,
        "gpu_warn_temp_c": 85.0,
        "gpu_abort_temp_c": 92.0,
        "disk_watchdog": True,
        "disk_warn_free_gb": 5.0,
        "disk_abort_free_gb": 1.0,
        "io_stall_watchdog": True,
        "io_stall_s": 300.0,
        "sorter_inactivity_timeout": True,
        "sorter_inactivity_base_s": 600.0,
        "sorter_inactivity_per_min_s": 30.0,
        "sorter_inactivity_max_s": 7200.0,
        "prevent_system_sleep": True,
        "docker_image_expected_digest": None,
        "tee_log_policy": "keep",
        "generate_sorting_report": True,
    },
}


def _flat(config: SortingPipelineConfig) -> dict[str, Any]:
    return {name: getattr(getattr(config, group), field.name) for name, (group, field) in flat_settings().items()}


# ------------------------------------------------------------------------------------------ names and defaults


@pytest.mark.parametrize("group", CONTRACT)
def test_a_group_has_the_settings_of_the_contract(group: str) -> None:
    """Each group has exactly the settings of the contract, under their flat names, with their defaults."""
    ours = {name: value for name, value in _flat(SortingPipelineConfig()).items() if flat_settings()[name][0] == group}
    assert ours == CONTRACT[group]


def test_every_setting_has_a_flat_name_of_its_own() -> None:
    """No two settings share a flat name, and each is documented in one line."""
    config = SortingPipelineConfig()
    fields = [f for group in dataclasses.fields(config) for f in dataclasses.fields(getattr(config, group.name))]
    assert len(flat_settings()) == len(fields)
    assert all(field.metadata["doc"].endswith(".") and "\n" not in field.metadata["doc"] for field in fields)


@pytest.mark.parametrize(
    "preset,different",
    [
        ("KILOSORT2", {"sorter_name": "kilosort2"}),
        ("KILOSORT2_DOCKER", {"sorter_name": "kilosort2", "use_docker": True}),
        ("KILOSORT4", {}),
        ("KILOSORT4_DOCKER", {"use_docker": True}),
        ("RT_SORT_MEA", {"sorter_name": "rt_sort"}),
        ("RT_SORT_NEUROPIXELS", {"sorter_name": "rt_sort", "rt_sort_probe": "neuropixels"}),
    ],
)
def test_a_preset_differs_from_the_defaults_by_its_sorter_only(preset: str, different: dict[str, Any]) -> None:
    """Each preset is the defaults with its own sorter."""
    assert getattr(presets, preset) == SortingPipelineConfig.from_kwargs(**different)


@pytest.mark.parametrize(
    "sorter,expected",
    [(None, "kilosort4"), ("kilosort4", "kilosort4"), ("kilosort2", "kilosort2"), ("rt_sort", "rt_sort")],
)
def test_the_preset_of_a_sorter(sorter: str | None, expected: str) -> None:
    """The preset of a sorter selects that sorter; none means Kilosort4."""
    assert SortingPipelineConfig.preset(sorter).sorter.sorter_name == expected


def test_an_unknown_sorter_lists_the_available_ones() -> None:
    """An unknown sorter is answered with the available ones."""
    with pytest.raises(
        ValueError, match=r"Unknown sorter 'kilosort5', available: \['kilosort2', 'kilosort4', 'rt_sort'\]"
    ):
        SortingPipelineConfig.preset("kilosort5")


# --------------------------------------------------------------------------------------------------- override


def test_override_leaves_the_old_configuration() -> None:
    """An override is a new value."""
    changed = KILOSORT4.override(snr_min=6.0, waveforms_ms_before=1, kilosort_params={"Th_learned": 7})
    assert (changed.curation.snr_min, changed.waveform.ms_before) == (6.0, 1.0)
    assert changed.sorter.sorter_params == {"Th_learned": 7}
    assert SortingPipelineConfig() == KILOSORT4


@pytest.mark.parametrize(
    "name,hint",
    [("snr_mim", "; did you mean 'snr_min'?"), ("ms_before", "; did you mean 'waveforms_ms_before'?"), ("qqq", "$")],
)
def test_an_unknown_name_is_named_with_the_nearest(name: str, hint: str) -> None:
    """A misspelt setting is answered with the one that was probably meant."""
    with pytest.raises(TypeError, match=f"Unknown parameter '{name}'" + hint.replace("?", r"\?")):
        KILOSORT4.override(**{name: 1})


@pytest.mark.parametrize(
    "name,value,said",
    [
        ("snr_min", -1, "snr_min must be at least 0, got -1.0"),
        ("host_ram_warn_pct", 101, "host_ram_warn_pct must be between 0 and 100, got 101.0"),
        ("freq_min", 0, "freq_min must be above 0, got 0.0"),
        ("oom_retry_factor", 1.5, "oom_retry_factor must be above 0 and at most 0.95, got 1.5"),
        ("waveforms_ms_before", 0, "waveforms_ms_before must be above 0, got 0.0"),
        ("rec_chunks", [(-5, 10)], "rec_chunks must be at least 0, got -5"),
        ("fr_min", math.nan, "fr_min must be at least 0, got nan"),
        ("mea_y_max", math.nan, "mea_y_max must be .*, got nan"),
        ("gain_to_uv", math.inf, "gain_to_uv must be between .*, got inf"),
        ("gain_to_uv", 0, "gain_to_uv must not be 0"),
        ("kilosort_params", {"Th": [1, math.nan]}, "kilosort_params: a setting must not be NaN"),
        ("isi_violation_method", "ratio", r"isi_violation_method must be one of \['percent', 'hill'\], got 'ratio'"),
        ("bad_channels", "none of them", "bad_channels must be 'auto' or a list .*got 'none of them'"),
        ("rec_chunks", [(10, 10)], "start in rec_chunks must lie below end in rec_chunks, got 10 and 10"),
        ("rec_chunks_s", [(2, 1)], "start in rec_chunks_s must lie below end in rec_chunks_s, got 2 and 1"),
        ("rt_sort_recording_window_ms", (5, 1), "start in rt_sort_recording_window_ms must lie below"),
        ("freq_max", 200, "freq_min must lie below freq_max, got 300 and 200"),
        ("gpu_abort_pct", 80, "gpu_warn_pct must lie below gpu_abort_pct, got 85 and 80"),
        ("disk_abort_free_gb", 6, "disk_abort_free_gb must lie below disk_warn_free_gb"),
        ("total_memory", "lots", "total_memory must be .*got 'lots'"),
        ("total_memory", "0G", "total_memory must be .*above 0"),
        ("total_memory", -1, "total_memory must be .*got -1"),
    ],
)
def test_a_value_out_of_range_names_field_range_and_value(name: str, value: Any, said: str) -> None:
    """A value out of its range is refused when the configuration is built, with its name, range and value."""
    with pytest.raises(ValueError, match=said):
        KILOSORT4.override(**{name: value})


@pytest.mark.parametrize(
    "name,value,said",
    [
        ("snr_min", "high", "snr_min must be a number or None, got 'high' \\(str\\)"),
        ("snr_min", True, "snr_min must be a number or None, got True"),
        ("n_jobs", 2.5, "n_jobs must be a whole number or None, got 2.5"),
        ("preflight", 1, "preflight must be True or False, got 1"),
        ("rec_chunks", [(0, 1.5)], r"rec_chunks must be a list \(of \(a whole number, a whole number\)\) or None"),
        ("rec_chunks", [(0, 1, 2)], "rec_chunks must be a list"),
        ("rec_chunks", (0, 10), "rec_chunks must be a list"),
        ("kilosort_params", [1], "kilosort_params must be a mapping"),
        ("kilosort_params", {"Th": object()}, "kilosort_params: a setting must be a number"),
        ("sorter_name", 4, "sorter_name must be a text"),
    ],
)
def test_a_value_of_the_wrong_type_says_what_was_expected(name: str, value: Any, said: str) -> None:
    """A value of the wrong type is refused with its name, what was expected and what was found."""
    with pytest.raises(TypeError, match=said):
        KILOSORT4.override(**{name: value})


def test_settings_that_exclude_each_other() -> None:
    """Chunks are given in samples or in seconds, not in both."""
    with pytest.raises(ValueError, match="give rec_chunks or rec_chunks_s, not both"):
        KILOSORT4.override(rec_chunks=[(0, 1)], rec_chunks_s=[(0, 1)])


@pytest.mark.parametrize(
    "name,given_value,kept",
    [
        ("snr_min", np.float32(4), 4.0),
        ("snr_min", np.array(4), 4.0),
        ("snr_min", "none", None),
        ("isi_viol_max", "inf", math.inf),
        ("n_jobs", np.int64(3), 3),
        ("preflight", np.bool_(False), False),
        ("kilosort_path", Path("/opt/ks2"), "/opt/ks2"),
        ("rec_chunks", np.array([[0, 10], [20, 30]]), ((0, 10), (20, 30))),
        ("rec_chunks_s", [(0, 10), [20, "inf"]], ((0.0, 10.0), (20.0, math.inf))),
        ("stim_times_ms", np.arange(3), (0.0, 1.0, 2.0)),
        ("bad_channels", np.array(["a", "b"]), ("a", "b")),
        ("bad_channels", np.array([3, 5]), (3, 5)),
        ("bad_channels", ["none"], ("none",)),
        ("bad_channels", None, None),
        ("kilosort_params", {"bad": np.array([1, 2]), "p": Path("/x")}, {"bad": (1, 2), "p": "/x"}),
        ("color_kept", "none", "none"),
    ],
)
def test_what_people_have_at_hand_is_accepted(name: str, given_value: Any, kept: Any) -> None:
    """Numpy scalars and arrays, lists, paths and the words of files are taken, and kept as Python's own values."""
    value = _flat(KILOSORT4.override(**{name: given_value}))[name]
    assert value == kept
    if not isinstance(kept, dict):
        assert repr(value) == repr(kept)


@pytest.mark.parametrize(
    "memory,n_bytes",
    [(5, 5), ("16G", 16_000_000_000), ("500 MB", 500_000_000), ("1.5k", 1500), ("2Gi", 2 * 1024**3), ("1GiB", 1024**3)],
)
def test_an_amount_of_memory(memory: str | int, n_bytes: int) -> None:
    """Memory is bytes, or a text with a unit of powers of 1000, with an i of 1024."""
    assert memory_bytes(memory) == n_bytes


# ------------------------------------------------------------------------------------------------ frozen values


def test_a_configuration_cannot_be_changed() -> None:
    """Nothing in a configuration can be assigned, at any depth."""
    config = KILOSORT4.override(kilosort_params={"a": {"b": [1]}}, rec_chunks=[(0, 1)])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.curation = None  # type: ignore[misc,assignment]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.curation.snr_min = 1.0  # type: ignore[misc]
    inner = config.sorter.sorter_params
    with pytest.raises(AttributeError, match="immutable"):
        inner.x = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        inner["a"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        inner["a"]["b"] = 1
    with pytest.raises(TypeError):
        inner["a"]["b"][0] = 1


def test_a_group_must_be_of_its_kind() -> None:
    """A group that is none is refused when the configuration is built."""
    with pytest.raises(TypeError, match="curation must be a CurationConfig"):
        SortingPipelineConfig(curation={"snr_min": 1})  # type: ignore[arg-type]


def test_equal_maps_have_equal_hashes() -> None:
    """A nested setting compares and hashes by value."""
    one, other = FrozenMap({"a": 1, "b": [2, {"c": 3}]}), FrozenMap({"b": (2, {"c": 3}), "a": 1.0})
    assert one == other
    assert hash(one) == hash(other)


# ------------------------------------------------------------------------------------- files, for any settings

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
_POSITIVE = st.floats(min_value=0, exclude_min=True, allow_nan=False)
_FROM_ZERO = st.floats(min_value=0, allow_nan=False)
_TEXT = st.text(st.characters(codec="utf-8"))
_PERIOD = st.tuples(st.integers(0, 1000), st.integers(1, 1000)).map(lambda pair: (pair[0], sum(pair)))
_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "stream_id": st.none() | _TEXT,
    "first_n_mins": st.none() | _POSITIVE,
    "gain_to_uv": st.none() | st.floats(-100, -0.001) | st.floats(0.001, 100),
    "rec_chunks": st.none() | st.lists(_PERIOD, max_size=3),
    "end_time_s": st.none() | _POSITIVE,
    "bad_channels": st.none() | st.just("auto") | st.lists(st.integers() | _TEXT, max_size=3),
    "stim_times_ms": st.none() | st.lists(st.floats(allow_nan=False), max_size=3),
    "sorter_name": st.sampled_from(["kilosort2", "kilosort4", "rt_sort"]),
    "use_docker": st.booleans() | _TEXT,
    "kilosort_params": st.dictionaries(_TEXT, _PLAIN, max_size=4),
    "rt_sort_params": st.dictionaries(_TEXT, _PLAIN, max_size=2),
    "rt_sort_recording_window_ms": st.none() | _PERIOD,
    "fr_min": st.none() | _FROM_ZERO,
    "isi_viol_max": st.none() | _FROM_ZERO,
    "spikes_min_first": st.none() | st.integers(min_value=0),
    "color_kept": _TEXT,
    "total_memory": st.none() | st.just("16G") | st.integers(min_value=1),
    "preflight": st.booleans(),
    "sorter_inactivity_max_s": _POSITIVE,
}
_CONFIGS = st.fixed_dictionaries({}, optional=_STRATEGIES).map(lambda flat: SortingPipelineConfig.from_kwargs(**flat))


@settings(max_examples=150, deadline=None)
@given(config=_CONFIGS)
def test_any_configuration_survives_its_files(config: SortingPipelineConfig, tmp_path_factory: Any) -> None:
    """TOML, strict JSON, pickle and copies give back an equal configuration with an equal hash."""
    toml = config.to_toml(tmp_path_factory.getbasetemp() / "any.toml")
    as_json = json.dumps(config.to_dict(), sort_keys=True, allow_nan=False)
    for again in (
        SortingPipelineConfig.from_toml(toml),
        SortingPipelineConfig.from_dict(json.loads(as_json)),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
        config.override(**_flat(config)),
    ):
        assert again == config
        assert hash(again) == hash(config)
        assert json.dumps(again.to_dict(), sort_keys=True) == as_json


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    """A file of a few lines is a configuration; None is written "none"."""
    file = tmp_path / "mine.toml"
    file.write_text(
        '[curation]\nsnr_min = 6\nfr_min = "none"\nisi_viol_max = inf\n[sorter.sorter_params]\nTh = [9, 8]\n'
    )
    expected = KILOSORT4.override(snr_min=6.0, fr_min=None, isi_viol_max=math.inf, kilosort_params={"Th": [9, 8]})
    assert SortingPipelineConfig.from_toml(file) == expected


@pytest.mark.parametrize(
    "text,said",
    [
        ("[curation]\nsnr_min = = 5\n", r"mine.toml: .*line 2"),
        (
            "[curation]\nsnr_mim = 5\n",
            r"mine.toml, line 2: \[curation\] has no setting 'snr_mim'; did you mean 'snr_min'\?",
        ),
        ("[curation]\nsnr_min = -5\n", r"mine.toml, line 2: \[curation\] snr_min must be at least 0, got -5"),
        (
            '[curation]\nsnr_min = "high"\n',
            r"mine.toml, line 2: \[curation\] snr_min must be a number or None, got 'high'",
        ),
        (
            "[curations]\nsnr_min = 5\n",
            r"mine.toml, line 1: unknown group \[curations\]; did you mean 'curation'\?; the groups are",
        ),
        (
            "snr_min = 5\n",
            r"mine.toml, line 1: setting 'snr_min' stands outside of its group; write it .* under \[curation\]",
        ),
        ("curation = 5\n", r"mine.toml, line 1: \[curation\] must be a group of settings, got 5"),
        ("[waveform]\nms_before = 0\n", r"mine.toml, line 2: \[waveform\] waveforms_ms_before must be above 0"),
        (
            "# ours\n[waveform]\nms_after = 1\n\n[ execution ]\nn_jobs = 2\n'io_stall_s' = 0\n[waveform.x]\ny = 1",
            r"mine.toml, line 8: \[waveform\] has no setting 'x'",
        ),
        (
            "[waveform]\nms_after = 1\n\n[ execution ]\nn_jobs = 2\n'io_stall_s' = 0\n",
            r"mine.toml, line 6: \[execution\] io_stall_s must be above 0",
        ),
        ("[sorter]\nsorter_params.Th = nan\n", r"mine.toml: \[sorter\] .*NaN"),
        (
            "[recording]\nfreq_max = 200\n",
            r"mine.toml, line 2: \[recording\] freq_min must lie below freq_max",
        ),
        (b"\xff\xfe", r"mine.toml: it is no text in utf-8 .* save it with that encoding"),
        ("[curation]\nsnr_min = 5\nsnr_min = 6\n", r"mine.toml: .*line 3.*: 'snr_min = 6'"),
    ],
)
def test_an_error_in_a_file_names_file_and_setting(text: str | bytes, said: str, tmp_path: Path) -> None:
    """What is wrong with a file is said with the file, the line, the group and the setting."""
    file = tmp_path / "mine.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        SortingPipelineConfig.from_toml(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is an OSError with its path."""
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        SortingPipelineConfig.from_toml(tmp_path / "absent.toml")
