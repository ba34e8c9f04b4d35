"""Kilosort4's parameters: names, types, ranges, units and meaning, so that a wrong one is refused before anything runs.

A test holds this table against the installed Kilosort4, and another one the page docs/kilosort4.md against this table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from spikelab.spike_sorting._settings import closest
from spikelab.spike_sorting.backends.parameter import Parameter, count, number, positive

RUN_ARGUMENTS = ("do_CAR", "invert_sign", "clear_cache", "save_preprocessed_copy")
"""Arguments of ``run_kilosort`` rather than settings; all are True or False."""
SWITCHES = (*RUN_ARGUMENTS, "arrays_on_disk", "accelerated", "advise")
"""Everything that is True or False and no setting of Kilosort4."""
OUR_NUMBERS = ("min_spikes_to_cluster", "density_below", "censored_lag_ms")
"""Numbers that Kilosort4 has built in, or does not have, and that are parameters here."""
OURS = (*SWITCHES, *OUR_NUMBERS, "bad_channels", "torch_device")
"""Everything that ``kilosort_params`` takes besides Kilosort4's settings."""
HARMLESS = frozenset({"clear_cache", "arrays_on_disk"})
"""Those of ours that cost time and save memory: the spikes are the same."""


PARAMETERS: Mapping[str, Parameter] = {
    "n_chan_bin": Parameter(
        int,
        *(0, math.inf, None, "channels"),
        "Channels of the file. The recording says how many it has: a smaller number is refused.",
        excluded=(0,),
        optional=True,
    ),
    "fs": positive(30_000, "Hz", "Sampling rate. The recording says it: another one is refused."),
    "batch_size": count(60_000, "samples", "Length of the pieces that are worked on one after the other."),
    "nblocks": count(1, "blocks", "Parts of the probe that drift on their own; 0 leaves drift uncorrected.", low=0),
    "Th_universal": positive(9, "", "Threshold for detection with universal templates; lower finds smaller units."),
    "Th_learned": positive(8, "", "Threshold for detection with learned templates; lower finds more of their spikes."),
    "tmin": number(0, "s", "Start of what is sorted; the same as start_time_s."),
    "tmax": positive(math.inf, "s", "End of what is sorted; the same as end_time_s."),
    "nt": count(61, "samples", "Length of a waveform, odd: 2 ms and one sample at 30 kHz."),
    "shift": number(None, "samples' unit", "Added to the scaled samples.", low=-math.inf, optional=True),
    "scale": number(
        None, "", "Factor on the samples, for floats that are far from -100 to 100.", low=-math.inf, optional=True
    ),
    "batch_downsampling": count(1, "batches", "Only every n-th batch is sorted."),
    "artifact_threshold": number(
        math.inf, "samples' unit", "A batch with a sample beyond this, on either side of 0, is blanked."
    ),
    "nskip": count(25, "batches", "Every n-th batch is looked at for whitening."),
    "whitening_range": count(32, "channels", "Neighbours of a channel that it is whitened with."),
    "highpass_cutoff": number(300, "Hz", "Low edge of the pass band; freq_min unless given."),
    "binning_depth": positive(5, "um", "Height of a bin when drift is estimated."),
    "sig_interp": positive(20, "um", "Width over which signals are interpolated when drift is corrected."),
    "drift_smoothing": Parameter(
        list,
        *(0, math.inf, (0.5, 0.5, 0.5), "bins"),
        "Smoothing of the drift estimate over correlations, time and depth.",
        length=3,
    ),
    "nt0min": count(None, "samples", "Where in the waveform its peak lies; None: a third of nt.", low=0, optional=True),
    "dmin": positive(None, "um", "Vertical distance of universal templates; None: from the contacts.", optional=True),
    "dminx": positive(32, "um", "Horizontal distance of universal templates."),
    "min_template_size": positive(10, "um", "Width of the smallest universal template."),
    "template_sizes": count(5, "sizes", "Widths of universal templates, as multiples of the smallest."),
    "nearest_chans": count(10, "channels", "Channels around a template that are compared; at most those there are."),
    "nearest_templates": count(100, "templates", "Templates around a spike among which it is the largest."),
    "max_channel_distance": number(
        32, "um", "Templates farther than this from every contact are left out; None: 32.", low=1, optional=True
    ),
    "max_peels": count(100, "rounds", "Rounds of subtraction in a batch; more find more overlaps.", high=10_000),
    "templates_from_data": Parameter(
        bool, -math.inf, math.inf, True, "", "Shapes of universal templates come from the data; False needs nt=61."
    ),
    "n_templates": count(6, "shapes", "Shapes of universal templates that are taken from the data."),
    "n_pcs": count(6, "components", "Features of a spike on each channel."),
    "Th_single_ch": positive(6, "noise SD", "Threshold for the spikes from which those shapes are taken."),
    "acg_threshold": positive(0.2, "", "Refractory violations up to which a unit is good, over those of chance."),
    "ccg_threshold": positive(0.25, "", "Such violations between clusters up to which they are joined or not split."),
    "cluster_neighbors": count(10, "spikes", "Nearest neighbours of a spike in the graph of the clustering.", low=2),
    "cluster_downsampling": count(20, "spikes", "Every n-th spike is a landmark of the clustering."),
    "max_cluster_subset": Parameter(
        int,
        *(1, math.inf, 25_000, "spikes"),
        "Most landmarks of a clustering; None: no limit.",
        excluded=(math.inf,),
        optional=True,
    ),
    "x_centers": count(
        None,
        "centers",
        "Columns of centers for the clustering; on 2-D arrays one for every 200 to 300 um.",
        optional=True,
    ),
    "cluster_init_seed": count(5, "", "Seed of the start of the clustering."),
    "duplicate_spike_ms": number(
        0.25, "ms", "Spikes of one unit closer than this are one spike; more than 0.5 hides violations; 0: none."
    ),
    "position_limit": number(100, "um", "Distance of channels that count for a spike's position."),
}

_INSTEAD: Mapping[str, str] = {
    "filename": "the recording is what sort_recording is given",
    "data_dir": "the recording is what sort_recording is given",
    "file_object": "the recording is what sort_recording is given",
    "data_dtype": "set binary_dtype for flat binary files; other recordings know their data type",
    "results_dir": "use results_folders",
    "probe": "write_probe('probe.json', probe) makes the file that probe_path takes",
    "probe_name": "name the probe file in probe_path, a setting of its own",
    "probe_path": "name the probe file in probe_path, a setting of its own",
    "shank_idx": "all shanks are sorted; leave the channels of others out with recording.select_channels",
    "device": "use torch_device",
    "duplicate_spike_bins": "use duplicate_spike_ms",
    "verbose_log": "the log is kept as it is",
    "verbose_console": "the log is kept as it is",
}
"""What else `run_kilosort` takes or took, and what to do here."""
_OUR_NUMBERS: Mapping[str, Parameter] = {
    "min_spikes_to_cluster": count(1000, "spikes", "Spikes around a centre from which on they are clustered."),
    "density_below": count(0, "spikes", "Spikes around a centre below which their density decides; 0: never.", low=0),
    "censored_lag_ms": Parameter(
        float, 0, 5, 0.0, "ms", "Lags too short to tell two spikes apart, left out when clusters are merged; 0: none."
    ),
}


def check_parameters(params: Mapping[str, Any]) -> None:
    """Raise ValueError when a parameter is unknown, of the wrong type or out of its range; names all of that."""
    for name, value in params.items():
        problem = _ours_problem(name, value) if name in OURS else _setting(name).problem(value)
        if problem is not None:
            msg = f"kilosort_params[{name!r}] {problem}, got {value!r}"
            raise ValueError(msg)
    nt = params.get("nt", 61)
    if nt % 2 == 0:
        msg = f"kilosort_params['nt'] must be odd, got {nt}"
        raise ValueError(msg)
    if not params.get("templates_from_data", True) and nt != 61:
        msg = f"kilosort_params['nt'] must be 61 without templates_from_data, got {nt}"
        raise ValueError(msg)


def check_against_recording(params: Mapping[str, Any], n_channels: int, fs_Hz: float) -> None:
    """Raise ValueError when `params` say something else of the recording than it does itself.

    Parameters
    ----------
    params : mapping
        What passed `check_parameters`.
    n_channels : int
        Channels of the recording.
    fs_Hz : float
        Its sampling rate.
    """
    said_Hz, said = params.get("fs"), params.get("n_chan_bin")
    if said_Hz is not None and not math.isclose(said_Hz, fs_Hz, rel_tol=1e-3):
        msg = f"kilosort_params['fs'] is {said_Hz:g}, and the recording has {fs_Hz:g} Hz; correct it, or leave it out"
        raise ValueError(msg)
    if said is not None and said < n_channels:
        # More are all right: a file often has a channel for synchronisation, and dead ones have been left out.
        msg = f"kilosort_params['n_chan_bin'] is {said}, and the recording has {n_channels} channels; leave it out"
        raise ValueError(msg)
    _check_bad_channels(set(params.get("bad_channels") or ()), n_channels)


def _check_bad_channels(bad: set[int], n_channels: int) -> None:
    beyond = sorted(index for index in bad if index >= n_channels)
    if beyond:
        msg = f"kilosort_params['bad_channels'] has {beyond}; the channels of the recording are 0 to {n_channels - 1}"
        raise ValueError(msg)
    if bad and len(bad) == n_channels:
        msg = f"kilosort_params['bad_channels'] names all {n_channels} channels of the recording; leave some to sort"
        raise ValueError(msg)


def parameters_table() -> str:
    """Return the table of parameters as Markdown; docs/kilosort4.md holds it.

    Examples
    --------
    >>> parameters_table().splitlines()[0]
    '| name | type | range | default | unit | meaning |'
    """
    rows = [("name", "type", "range", "default", "unit", "meaning"), ("---",) * 6]
    for name, parameter in PARAMETERS.items():
        bounds = ", ".join(parameter.bounds())
        none = ", or None" if parameter.optional else ""
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        row = (f"`{name}`", parameter.type_name() + none, bounds, str(default), parameter.unit, parameter.meaning)
        rows.append(row)
    return "".join(f"{_table_row(row)}\n" for row in rows)


def _table_row(cells: Sequence[str]) -> str:
    return " ".join(["|", *(f"{cell} |" if cell else "|" for cell in cells)])


def _setting(name: str) -> Parameter:
    if name in PARAMETERS:
        return PARAMETERS[name]
    if name in _INSTEAD:
        msg = f"kilosort_params takes no {name!r}: {_INSTEAD[name]}"
        raise ValueError(msg)
    known = [*PARAMETERS, *OURS]
    msg = f"Kilosort4 has no parameter {name!r}{closest(name, known)}; it takes {sorted(known)}"
    raise ValueError(msg)


def _ours_problem(name: str, value: Any) -> str | None:
    if name in SWITCHES:
        return None if isinstance(value, bool) else "must be True or False"
    if name in _OUR_NUMBERS:
        return _OUR_NUMBERS[name].problem(value)
    if name == "bad_channels":
        are_indices = value is None or (isinstance(value, (list, tuple)) and all(map(_is_index, value)))
        return None if are_indices else "must be a list of channel indices from 0 on, or None"
    is_device = isinstance(value, str) and re.fullmatch(r"[a-z]+(:\d+)?", value)
    return None if is_device else "must be 'auto' or a device of torch such as 'cpu', 'cuda' or 'cuda:1'"


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
