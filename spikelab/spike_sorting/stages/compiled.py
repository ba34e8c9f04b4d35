"""What ``sorted.npz`` and ``sorted.mat`` hold: plain arrays, which numpy and MATLAB read without spikelab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spikelab.spike_sorting.config import SortingPipelineConfig
    from spikelab.spikedata import SpikeData

_SCALARS = (bool, int, float, str)
_MOST_CHANNELS = 16
"""Channels of which a unit's waveforms are compiled: those where it is largest. More would be noise, and gigabytes."""


def compiled_arrays(sd: SpikeData, kept: Sequence[bool], *, with_electrodes: bool) -> dict[str, Any]:
    """Return units as plain arrays: spike times with unit borders, templates, and one value per unit.

    Parameters
    ----------
    sd : SpikeData
        The units.
    kept : sequence of bool
        Whether each of them passed curation.
    with_electrodes : bool
        Whether to name the electrode of each unit, where the format has electrodes.

    Returns
    -------
    dict of str to ndarray
        As listed in ``docs/files.md``.
    """
    import numpy as np

    arrays = {
        "spike_times_ms": np.concatenate([np.empty(0), *sd.train]),
        "spike_times_index": np.cumsum([len(train) for train in sd.train], dtype=np.int64),
        "length_ms": np.float64(sd.length),
        "fs_Hz": np.float64(sd.metadata["fs_Hz"]),
        "channel_ids": np.asarray(sd.metadata["channel_ids"]),
        "channel_locations_um": np.asarray(sd.metadata["channel_locations"], dtype=np.float64),
        "kept": np.asarray(kept, dtype=bool),
        **_per_unit(sd),
    }
    if not with_electrodes:
        arrays.pop("electrode", None)
    return arrays


def _per_unit(sd: SpikeData) -> dict[str, Any]:
    """Return what all units have: attributes of one value, positions, templates, and the amplitude of each spike."""
    import numpy as np

    shared = [name for name in _names(sd) if all(name in unit for unit in sd.neuron_attributes)]
    columns = {name: [unit[name] for unit in sd.neuron_attributes] for name in shared}
    arrays = {name: np.asarray(known) for name, values in columns.items() if (known := _scalars(values)) is not None}
    for name, stored in (("position_um", "position"), ("templates_uV", "template_full")):
        if stored in columns and len({np.shape(values) for values in columns[stored]}) == 1:
            arrays[name] = np.stack(columns[stored])
    if "spike_amplitudes" in columns:
        arrays["spike_amplitudes_uV"] = np.concatenate(columns["spike_amplitudes"]).astype(np.float32)
    return arrays


def _names(sd: SpikeData) -> list[str]:
    return list(sd.neuron_attributes[0]) if sd.N else []


def _scalars(values: Sequence[Any]) -> list[Any] | None:
    """Return numbers, unknown ones as NaN, or texts, so that an array of them needs no pickle; else None."""
    import numpy as np

    known = [value for value in values if value is not None]
    are_texts = {isinstance(value, str) for value in known}
    if len(are_texts) != 1 or not all(isinstance(value, (*_SCALARS, np.generic)) for value in known):
        return None
    missing = "" if are_texts == {True} else float("nan")
    return [missing if value is None else value for value in values]


def waveform_arrays(sd: SpikeData, analyzer: Any, traces: Any, config: SortingPipelineConfig) -> dict[str, Any]:
    """Return waveforms of the spikes that were sampled for templates, on the channels where each unit is largest.

    Parameters
    ----------
    sd : SpikeData
        The units that are compiled.
    analyzer : SortingAnalyzer
        With the sample of spikes, and templates.
    traces : BaseRecording
        Filtered, in uV.
    config : SortingPipelineConfig
        How the work is split.

    Returns
    -------
    dict of str to ndarray
        ``waveforms_uV`` (n_waveforms, n_samples, n_near) float32, unit after unit; ``waveforms_index`` (n_units,) where
        those of each unit end; ``waveforms_time_ms`` (n_waveforms,) the time of each; ``waveforms_channels``
        (n_units, n_near) the channels, as indices from 0.
    """
    import numpy as np
    from spikeinterface.core.waveform_tools import extract_waveforms_to_single_buffer

    from spikelab.spike_sorting.backends.binary import job_kwargs

    templates = analyzer.get_extension("templates")
    near = _near_channels(templates.get_data("average"))
    own, unit_of = _indices_of(sd, analyzer)
    chosen = _sampled_spikes(analyzer, list(unit_of))
    mask = np.zeros((len(analyzer.unit_ids), len(analyzer.channel_ids)), dtype=bool)
    for index, unit in unit_of.items():
        mask[index, near[own[unit]]] = True
    waveforms = extract_waveforms_to_single_buffer(
        traces,
        chosen,
        templates.nbefore,
        templates.nafter,
        mode="shared_memory",
        return_in_uV=False,
        dtype="float32",
        sparsity_mask=mask,
        copy=True,
        job_name="waveforms",
        **job_kwargs(config.execution, traces),
    )
    # They come in the order of time, and go in that of the units.
    units = np.array([unit_of[index] for index in chosen["unit_index"].tolist()], dtype=np.int64)
    order = np.argsort(units, kind="stable")
    return {
        "waveforms_uV": waveforms[order],
        "waveforms_index": np.cumsum(np.bincount(units, minlength=sd.N)),
        "waveforms_time_ms": chosen["sample_index"][order] / traces.sampling_frequency * 1000.0,
        "waveforms_channels": near[own],
    }


def _near_channels(average: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each template (units, samples, channels) the channels on which it is largest, in rising order."""
    import numpy as np

    reach = np.ptp(average, axis=1)
    n_near = min(_MOST_CHANNELS, reach.shape[1])
    largest = np.argsort(-reach, axis=1, kind="stable")[:, :n_near]
    return np.sort(largest, axis=1).astype(np.int64)


def parts_of(unit: Mapping[str, Any]) -> Sequence[Any]:
    """Return the ids of the sorter's units of which a unit was merged; its own where it was not."""
    return unit.get("merged_from") or [unit["unit_id"]]


def _indices_of(sd: SpikeData, analyzer: Any) -> tuple[list[int], dict[int, int]]:
    """Return the analyzer's index of each unit, and the unit of each index that has a part in one: units may merge."""
    index_of = {str(unit_id): index for index, unit_id in enumerate(analyzer.unit_ids)}
    own = [index_of[str(unit["unit_id"])] for unit in sd.neuron_attributes]
    unit_of = {
        index_of[str(part)]: number for number, unit in enumerate(sd.neuron_attributes) for part in parts_of(unit)
    }
    return own, unit_of


def _sampled_spikes(analyzer: Any, wanted: Sequence[int]) -> NDArray[np.void]:
    import numpy as np

    sampled: NDArray[np.void] = analyzer.get_extension("random_spikes").get_random_spikes()
    return sampled[np.isin(sampled["unit_index"], wanted)]
