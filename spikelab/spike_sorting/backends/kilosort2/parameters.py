"""Kilosort2's parameters, by the names that SpikeInterface gives them; a test holds the table against it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spikelab.spike_sorting.backends.parameter import Parameter, count, known_parameter, number, positive

_STEP = 32
"""The lengths of batches and of what they overlap in are multiples of it: Kilosort2's kernels work in such blocks."""
_SHORTEST_OVERLAPS = 4
"""A batch is longer than so many overlaps."""
_MOMENTUM = (20.0, 400.0)


def _switch(default: bool, meaning: str) -> Parameter:
    return Parameter(bool, -math.inf, math.inf, default, "", meaning)


PARAMETERS: Mapping[str, Parameter] = {
    "detect_threshold": positive(6, "noise SD", "Threshold for the spikes from which shapes are taken."),
    "projection_threshold": Parameter(
        list, 0, math.inf, (10, 4), "", "Thresholds of template matching: first passes, last pass.", length=2
    ),
    "preclust_threshold": positive(8, "noise SD", "Threshold of the clustering of single batches."),
    "whiteningRange": count(32, "channels", "Neighbours of a channel that it is whitened with."),
    "momentum": Parameter(
        list, 1, math.inf, _MOMENTUM, "spikes", "Spikes over which a template is averaged, first and last.", length=2
    ),
    "car": _switch(True, "Subtract the median over channels."),
    "minFR": number(0.1, "Hz", "Templates that fire less are dropped on the way."),
    "minfr_goodchannels": number(0.1, "Hz", "Channels with fewer crossings are left out; 0 keeps all."),
    "freq_min": positive(150, "Hz", "Low edge of the pass band; the setting freq_min unless given."),
    "sigmaMask": positive(30, "um", "Width over which a template is masked."),
    "lam": number(10, "", "Penalty on unusual amplitudes; 0: none."),
    "nPCs": count(3, "components", "Components of a spike on each channel."),
    "ntbuff": count(64, "samples", "Overlap of batches; a multiple of 32."),
    "nfilt_factor": count(4, "templates", "Most templates per good channel."),
    "NT": count(None, "samples", "Length of a batch; a multiple of 32. None: 65536 + ntbuff.", optional=True),
    "AUCsplit": Parameter(float, 0, 1, 0.9, "", "How well a split must separate two clusters."),
    "wave_length": count(61, "samples", "Length of a waveform, odd.", high=81),
    "keep_good_only": _switch(False, "Return only units that Kilosort2 calls good."),
    "scaleproc": positive(None, "", "Factor on whitened samples; None: 200.", optional=True),
    "save_rez_to_mat": _switch(False, "Keep Kilosort2's own variables in rez.mat."),
}
_INSTEAD: Mapping[str, str] = {
    "skip_kilosort_preprocessing": "Kilosort2 filters by itself here",
    "delete_tmp_files": "files that no result needs are deleted",
    "delete_recording_dat": "use keep_binary",
    "batch_size": "use NT",
}
"""What SpikeInterface takes besides, or Kilosort4, and what to do here."""


def check_parameters(params: Mapping[str, Any]) -> None:
    """Raise ValueError when a parameter is unknown, of the wrong type or out of its range."""
    for name, value in params.items():
        problem = _parameter(name).problem(value)
        if problem is not None:
            msg = f"kilosort_params[{name!r}] {problem}, got {value!r}"
            raise ValueError(msg)
    _check_blocks(params)
    if params.get("wave_length", 61) % 2 == 0:
        msg = f"kilosort_params['wave_length'] must be odd, got {params['wave_length']}"
        raise ValueError(msg)


def _check_blocks(params: Mapping[str, Any]) -> None:
    overlap, length = params.get("ntbuff", 64), params.get("NT")
    for name, value in (("ntbuff", overlap), ("NT", length)):
        if value is not None and value % _STEP:
            msg = (
                f"kilosort_params[{name!r}] must be a multiple of {_STEP}, got {value}; {value // _STEP * _STEP} is one"
            )
            raise ValueError(msg)
    if length is not None and length <= _SHORTEST_OVERLAPS * overlap:
        msg = f"kilosort_params['NT'] must be more than four times ntbuff, {_SHORTEST_OVERLAPS * overlap}, got {length}"
        raise ValueError(msg)


def batch_length(params: Mapping[str, Any]) -> int:
    """Return the length of a batch (samples)."""
    return int(params.get("NT") or 65_536 + params.get("ntbuff", 64))


def batch_step(params: Mapping[str, Any]) -> int:
    """Return the distance between the starts of two batches (samples)."""
    return batch_length(params) - int(params.get("ntbuff", 64))


def smaller_batch(params: Mapping[str, Any], factor: float) -> int | None:
    """Return the next smaller length of a batch that Kilosort2 takes, or None when it would be too small to help."""
    then = int(batch_length(params) * factor) // _STEP * _STEP
    return then if then >= max(64 * _STEP, _SHORTEST_OVERLAPS * params.get("ntbuff", 64) + _STEP) else None


def _parameter(name: str) -> Parameter:
    return known_parameter(name, PARAMETERS, _INSTEAD, setting="kilosort_params", sorter="Kilosort2")
