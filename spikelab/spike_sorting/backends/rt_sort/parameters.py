"""RT-Sort's thresholds, by its own names: defaults for multi-electrode arrays, and what differs for Neuropixels.

Those for arrays are the defaults of the published code; those for Neuropixels are the ones with which SpikeInterface
runs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from spikelab.spike_sorting.backends.parameter import Parameter, count, known_parameter, number, positive


def _share(default: float, meaning: str) -> Parameter:
    return Parameter(float, 0, 1, default, "", meaning)


def _percent(default: float, meaning: str) -> Parameter:
    return Parameter(float, 0, 100, default, "percent", meaning)


PARAMETERS: Mapping[str, Parameter] = {
    "stringent_thresh": _share(0.275, "Probability above which the model's output is a spike that starts a sequence."),
    "loose_thresh": _share(0.1, "Probability above which it belongs to a sequence that started elsewhere."),
    "inference_scaling_numerator": positive(
        12.6, "", "Traces are scaled by this over their interquartile range before the model sees them.", optional=True
    ),
    "ms_before": positive(0.5, "ms", "How far a spike may travel before the root electrode sees it."),
    "ms_after": positive(0.5, "ms", "How far a spike may travel after the root electrode has seen it."),
    "pre_median_ms": positive(50, "ms", "Stretch over which the median of a channel is taken."),
    "inner_radius": positive(50, "um", "Electrodes within it must see a spike of a sequence."),
    "outer_radius": positive(100, "um", "Electrodes within it can be part of a sequence."),
    "min_elecs_for_array_noise_n": count(100, "electrodes", "Seen on so many at once, it is noise of the array."),
    "min_elecs_for_array_noise_f": _share(0.1, "The same, as a share of all electrodes."),
    "min_elecs_for_seq_noise_n": count(300, "electrodes", "A sequence on so many is noise."),
    "min_elecs_for_seq_noise_f": _share(0.05, "The same, as a share of all electrodes."),
    "min_activity_root_cocs": count(2, "electrodes", "Inner electrodes that must see a spike with the root."),
    "min_activity_hz": number(0.05, "Hz", "Lowest rate of such spikes on a root electrode."),
    "max_n_components_latency": count(4, "components", "Most groups of latencies that a sequence is split into."),
    "min_coc_n": count(10, "spikes", "Fewest spikes of a group after a split.", low=0),
    "min_coc_p": _percent(10, "Smallest share of spikes of a group after a split."),
    "min_extend_comp_p": _percent(50, "Share of spikes kept in a split from which on its neighbours are tried, too."),
    "elec_patience": count(6, "electrodes", "Electrodes tried without a split before no more are."),
    "split_coc_clusters_amps": Parameter(bool, -math.inf, math.inf, True, "", "Split groups by amplitude, too."),
    "min_amp_dist_p": _share(0.1, "Dip test: amplitudes with a smaller p are split."),
    "max_n_components_amp": count(4, "components", "Most groups of amplitudes that a sequence is split into."),
    "min_loose_elec_prob": _share(0.03, "Average outputs of the model below it count as none."),
    "min_inner_loose_detections": count(3, "electrodes", "Inner electrodes that two sequences must share.", low=0),
    "min_loose_detections_n": count(4, "electrodes", "Electrodes that must see a spike of a sequence.", low=0),
    "min_loose_detections_r_spikes": _share(1 / 3, "The same, as a share of the sequence's electrodes."),
    "min_loose_detections_r_sequences": _share(1 / 3, "Share of electrodes that sequences must have in common."),
    "max_latency_diff_spikes": positive(3.5, "samples", "Largest difference of latencies, spike to sequence."),
    "max_latency_diff_sequences": positive(3.5, "samples", "Largest difference of latencies that are merged."),
    "clip_latency_diff_factor": positive(2, "", "Differences of latencies are clipped at so many times the largest."),
    "max_amp_median_diff_spikes": positive(0.65, "", "Largest relative difference of amplitudes, spike to sequence."),
    "max_amp_median_diff_sequences": positive(0.65, "", "Largest relative difference of amplitudes that are merged."),
    "clip_amp_median_diff_factor": positive(
        2, "", "Differences of amplitudes are clipped at so many times the largest."
    ),
    "max_root_amp_median_std_spikes": positive(2.5, "SD", "Largest difference of root amplitudes, spike to sequence."),
    "max_root_amp_median_std_sequences": positive(
        math.inf, "SD", "Largest difference of root amplitudes that are merged."
    ),
    "repeated_detection_overlap_time": positive(0.2, "", "Spikes of one sequence so close together are one."),
    "min_seq_spikes_n": count(10, "spikes", "Fewest spikes of a sequence.", low=0),
    "min_seq_spikes_hz": number(0.05, "Hz", "Lowest rate of a sequence."),
    "relocate_root_min_amp": positive(0.8, "", "An earlier electrode of this relative amplitude becomes the root."),
    "relocate_root_max_latency": Parameter(
        float, -math.inf, 0, -2, "samples", "Latency at or below which an electrode can become the root."
    ),
}
_NEUROPIXELS: Mapping[str, Any] = {
    "stringent_thresh": 0.175,
    "loose_thresh": 0.075,
    "inference_scaling_numerator": 15.4,
    "min_elecs_for_seq_noise_n": 50,
    "max_latency_diff_spikes": 2.5,
    "max_latency_diff_sequences": 2.5,
    "max_amp_median_diff_spikes": 0.45,
    "max_amp_median_diff_sequences": 0.45,
    "max_root_amp_median_std_sequences": 2.5,
}
_INSTEAD: Mapping[str, str] = {
    "recording_window_ms": "use rt_sort_recording_window_ms",
    "detection_model": "use rt_sort_model_path or rt_sort_probe",
    "device": "use rt_sort_device",
    "num_processes": "use rt_sort_num_processes",
    "delete_inter": "use rt_sort_delete_inter",
    "verbose": "use rt_sort_verbose",
    "inter_path": "it works in the intermediate folder of the sort",
}
"""What RT-Sort's function takes besides, and what to do here."""


def thresholds(probe: Literal["mea", "neuropixels"], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all thresholds: those of the kind of probe, and over them what the user has given.

    Examples
    --------
    >>> thresholds("neuropixels", {"loose_thresh": 0.08})["stringent_thresh"]
    0.175
    """
    defaults = {name: parameter.default for name, parameter in PARAMETERS.items()}
    return {**defaults, **(_NEUROPIXELS if probe == "neuropixels" else {}), **given}


def check_parameters(params: Mapping[str, Any], probe: Literal["mea", "neuropixels"] = "mea") -> None:
    """Raise ValueError when a threshold is unknown, of the wrong type, out of its range or at odds with another."""
    for name, value in params.items():
        problem = _parameter(name).problem(value)
        if problem is not None:
            msg = f"rt_sort_params[{name!r}] {problem}, got {value!r}"
            raise ValueError(msg)
    used = thresholds(probe, params)
    for smaller, larger in (("loose_thresh", "stringent_thresh"), ("inner_radius", "outer_radius")):
        if used[smaller] > used[larger]:
            msg = f"rt_sort_params: {smaller} must not lie above {larger}, got {used[smaller]:g} and {used[larger]:g}"
            raise ValueError(msg)


def _parameter(name: str) -> Parameter:
    return known_parameter(name, PARAMETERS, _INSTEAD, setting="rt_sort_params", sorter="RT-Sort")
