"""The settings of a call: from a configuration, a sorter and overrides to what is sorted with."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from spikelab.spike_sorting._not_yet import check_supported
from spikelab.spike_sorting._settings import flat_name
from spikelab.spike_sorting.config import SortingPipelineConfig, StimulationConfig


def resolve_config(
    config: SortingPipelineConfig | None, sorter: str | None, overrides: dict[str, Any]
) -> SortingPipelineConfig:
    """Return the settings of a call.

    Raises
    ------
    ValueError
        `sorter` is unknown, or contradicts `config`; a setting is not supported by this version, or says what goes
        into files that no other setting asks for.
    TypeError
        An override is unknown.
    """
    resolved = unchecked_config(config, sorter, overrides)
    check_supported(resolved)
    _check_compiled_into(resolved)
    return resolved


def resolve_stim_config(
    config: SortingPipelineConfig | None, sorter: str | None, stim_times_ms: Any, overrides: dict[str, Any]
) -> SortingPipelineConfig:
    """Return the settings of a call for one recording with stimulation, whose options go by their own names, too.

    Raises
    ------
    ValueError
        As `resolve_config`; there are no times; an option is given under both of its names.
    TypeError
        An override is unknown, or says what is to happen to several recordings.
    """
    for name in ("on_error", "max_parallel"):
        if name in overrides:
            msg = f"sort_stim_recording has no {name}: it sorts one recording, and raises what goes wrong with it"
            raise TypeError(msg)
    flat_names = {field.name: flat_name(field) for field in dataclasses.fields(StimulationConfig)}
    settings = {"stim_times_ms": stim_times_ms}
    for name, value in overrides.items():
        flat = flat_names.get(name, name)
        if flat in settings:
            msg = f"{name} and {flat} are one setting: give it once"
            raise ValueError(msg)
        settings[flat] = value
    resolved = resolve_config(config, sorter, settings)
    if resolved.recording.stim_times_ms is None:
        msg = "stim_times_ms must be times (ms) or a file with them, got None; sort_recording sorts without"
        raise ValueError(msg)
    return resolved


def unchecked_config(
    config: SortingPipelineConfig | None, sorter: str | None, overrides: dict[str, Any]
) -> SortingPipelineConfig:
    """Return settings that more overrides may follow: what only fits together in the end is not looked at.

    Raises
    ------
    ValueError
        `sorter` is unknown, or contradicts `config`.
    TypeError
        An override is unknown.
    """
    chosen = SortingPipelineConfig.preset(sorter) if config is None or sorter is not None else config
    if config is not None:
        if config.sorter.sorter_name != chosen.sorter.sorter_name:
            msg = f"sorter={sorter!r} contradicts config, which says {config.sorter.sorter_name!r}; give one of them"
            raise ValueError(msg)
        chosen = config
    return _with_stim_times(_with_kilosort_layout(_with_kilosort_times(chosen.override(**overrides))))


def _check_compiled_into(config: SortingPipelineConfig) -> None:
    """Raise ValueError where something is to be compiled, and no file to compile it into.

    Here and not where the values are made: overrides may come one after the other.
    """
    options = config.compilation
    asked = [name for name in ("compile_waveforms", "include_failed_units") if getattr(options, name)]
    if asked and not (options.compile_to_npz or options.compile_to_mat):
        given = " and ".join(f"{name}=True" for name in asked)
        msg = f"{given}: for sorted.npz or sorted.mat, and neither is written; set compile_to_npz or compile_to_mat too"
        raise ValueError(msg)


def _with_stim_times(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Read the times of stimulation from their file: a changed file is another setting."""
    times = config.recording.stim_times_ms
    if isinstance(times, str):
        from spikelab.stim_sorting.files import read_stim_times

        return config.override(stim_times_ms=read_stim_times(times))
    if times is not None and math.inf in map(abs, times):
        msg = "stim_times_ms must be finite numbers (ms), got an infinite one"
        raise ValueError(msg)
    return config


def _with_kilosort_times(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Turn Kilosort's tmin and tmax into ours, so that every stage sees the same part of the recording."""
    params = dict(config.sorter.sorter_params)
    moved: dict[str, Any] = {}
    for theirs, ours in (("tmin", "start_time_s"), ("tmax", "end_time_s")):
        value = params.pop(theirs, None)
        if value is None or value in {0, float("inf")}:
            continue
        if getattr(config.recording, ours) is not None:
            msg = f"give {ours} or kilosort_params[{theirs!r}], not both"
            raise ValueError(msg)
        moved[ours] = value
    return config.override(kilosort_params=params, **moved)


def _with_kilosort_layout(config: SortingPipelineConfig) -> SortingPipelineConfig:
    """Read flat binary files as Kilosort's own settings say, where ours say nothing."""
    theirs = {"binary_fs": "fs", "binary_n_chan": "n_chan_bin"}
    params = config.sorter.sorter_params
    taken = {
        ours: params[name]
        for ours, name in theirs.items()
        if params.get(name) is not None and getattr(config.recording, ours) is None
    }
    return config.override(**taken)
