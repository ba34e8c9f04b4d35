"""Which stages a changed setting makes again: those that read it, and all that depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spikelab.spike_sorting.config import KILOSORT4, SortingPipelineConfig, flat_settings
from spikelab.spike_sorting.pipeline import STAGES
from spikelab.spike_sorting.stages.stage import stage_keys

NAMES = [stage.name for stage in STAGES]
CHANGED: dict[str, dict[str, Any]] = {
    "load": {
        "first_n_mins": 1.0,
        "mea_y_max": 100.0,
        "gain_to_uv": 2.0,
        "offset_to_uv": 3.0,
        "rec_chunks": [(0, 10)],
        "rec_chunks_s": [(0.0, 1.0)],
        "start_time_s": 1.0,
        "end_time_s": 2.0,
        "bad_channels": None,
        "stim_times_ms": [10.0],
    },
    "sort": {"kilosort_params": {"Th_learned": 7.5}, "freq_min": 301.0, "use_docker": True},
    "waveforms": {
        "freq_max": 6001.0,
        "waveforms_ms_before": 1.5,
        "waveforms_ms_after": 1.5,
        "max_waveforms_per_unit": 200,
        "save_waveform_files": True,
    },
    "assemble": {
        "pos_peak_thresh": 3.0,
        "std_at_peak": False,
        "std_over_window_ms_before": 0.4,
        "std_over_window_ms_after": 1.4,
    },
    "curate": {
        "curate_first": False,
        "curate_second": False,
        "curation_epoch": 0,
        "fr_min": 0.1,
        "isi_viol_max": 2.0,
        "isi_violation_method": "hill",
        "snr_min": 6.0,
        "spikes_min_first": 31,
        "spikes_min_second": 51,
        "std_norm_max": 2.0,
        "redundancy_max": 50.0,
        "merge_duplicates": True,
    },
    "export": {
        "compile_to_mat": True,
        "compile_to_npz": True,
        "compile_waveforms": True,
        "save_electrodes": False,
        "save_raw_pkl": True,
        "include_failed_units": True,
        "create_unit_figures": True,
    },
}
"""A changed value of each setting, by the first stage that reads it."""
SEEDED = {"random_seed": 1}
"""Kilosort4 and the choice of waveforms draw from it."""
OF_OTHERS = ("figures", "rt_sort", "stimulation")
"""Groups that change how the report looks, that Kilosort4 does not know, or that nothing reads without stimulation."""
OUTSIDE = {
    *("stream_id", "hdf5_plugin_path", "sorter_name", "kilosort_path", "container"),
    *("probe_path", "binary_fs", "binary_n_chan", "binary_dtype", "binary_offset"),
}
"""In the recording's identity, in the name of the sorter, or about where things are; checked elsewhere."""


def keys(config: SortingPipelineConfig) -> Mapping[str, str]:
    return stage_keys(STAGES, config, {"size": 1}, {"file": "culture.raw.h5"})


def made_again(config: SortingPipelineConfig) -> list[str]:
    before, after = keys(KILOSORT4), keys(config)
    return [name for name in NAMES if before[name] != after[name]]


@pytest.mark.parametrize(
    "first,name,value", [(first, name, value) for first, group in CHANGED.items() for name, value in group.items()]
)
def test_a_changed_setting_makes_its_stage_again_and_all_after_it(first: str, name: str, value: Any) -> None:
    """P8: one changed setting makes the first stage that reads it again, and all that depend on that, and no other."""
    assert made_again(KILOSORT4.override(**{name: value})) == NAMES[NAMES.index(first) :]


def test_pictures_of_units_are_drawn_again_when_they_are_to_look_otherwise() -> None:
    """P8: how figures look matters to the export where it draws some."""
    drawing = KILOSORT4.override(create_unit_figures=True)
    before, after = keys(drawing), keys(drawing.override(dpi=151))
    assert [name for name in NAMES if before[name] != after[name]] == ["export"]


def test_the_seed_is_read_where_something_is_drawn() -> None:
    """P8: another seed makes everything again from sorting on."""
    assert made_again(KILOSORT4.override(**SEEDED)) == NAMES[NAMES.index("sort") :]


def others() -> list[tuple[str, Any]]:
    """Return each setting of how the work is done, watched and shown, with another value."""
    found = []
    for name, (group, field) in flat_settings().items():
        if group in {"execution", *OF_OTHERS} and name not in {*SEEDED, *CHANGED["export"]}:
            found.append((name, other_value(getattr(getattr(KILOSORT4, group), field.name), str(field.type), name)))
    return found


def other_value(value: Any, annotation: str, name: str) -> Any:
    """Return a value that the setting takes and does not have."""
    choices = {
        "figure_format": "svg",
        "runner": "inline",
        "tee_log_policy": "gzip_on_success",
        "rt_sort_probe": "neuropixels",
    }
    choices |= {"stim_method": "blank", "stim_peak_mode": "up_edge", "stim_multi_peak_select": "last"}
    if name in choices:
        return choices[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + (1 if isinstance(value, int) else -value / 100 if value else 0.5)
    if name == "rt_sort_recording_window_ms":
        return (0.0, 10.0)
    if "FrozenMap" in annotation:
        return {"threshold": 1}
    return 1 if "int" in annotation or "float" in annotation else "cpu"


@pytest.mark.parametrize("name,value", others())
def test_how_it_is_done_makes_nothing_again(name: str, value: Any) -> None:
    """P8: limits, checks, processes, figures and the settings of other sorters make no stage again."""
    changed = KILOSORT4.override(**{name: value})
    assert changed != KILOSORT4
    assert made_again(changed) == []


def test_no_setting_is_forgotten() -> None:
    """Each setting is in one of the tables above: a new one needs a word on what it makes again."""
    known = {name for group in CHANGED.values() for name in group} | {name for name, _ in others()}
    assert known | set(SEEDED) | OUTSIDE == set(flat_settings())


@pytest.mark.parametrize("number", range(len(STAGES)))
def test_a_new_version_of_a_stage_makes_it_again(number: int) -> None:
    """P8: a raised version makes a stage again, and all that depend on it; so does another recording everything."""
    from dataclasses import replace

    newer = [replace(stage, version=stage.version + (k == number)) for k, stage in enumerate(STAGES)]
    before = keys(KILOSORT4)
    after = stage_keys(newer, KILOSORT4, {"size": 1}, {"file": "culture.raw.h5"})
    assert [name for name in NAMES if before[name] != after[name]] == NAMES[number:]
    other = stage_keys(STAGES, KILOSORT4, {"size": 2}, {"file": "culture.raw.h5"})
    assert not set(other.values()) & set(before.values())
