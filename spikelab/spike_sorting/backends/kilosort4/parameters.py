"""Kilosort4's parameters: names, types and ranges, so that a wrong one is refused before anything runs.

A test holds this table against the installed Kilosort4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikelab.spike_sorting._settings import closest

RUN_ARGUMENTS = ("do_CAR", "invert_sign", "clear_cache", "save_preprocessed_copy")
"""Arguments of ``run_kilosort`` rather than settings; all are True or False."""
SWITCHES = (*RUN_ARGUMENTS, "arrays_on_disk", "accelerated", "advise")
"""Everything that is True or False and no setting of Kilosort4."""
OURS = (*SWITCHES, "bad_channels", "torch_device")
"""Everything that ``kilosort_params`` takes besides Kilosort4's settings."""
HARMLESS = frozenset({"clear_cache", "arrays_on_disk"})
"""Those of ours that cost time and save memory: the spikes are the same."""


@dataclass(frozen=True)
class Parameter:
    """One setting of Kilosort4.

    Parameters
    ----------
    kind : type
        int, float, bool or list.
    low, high : float
        Allowed range, both ends included.
    excluded : tuple of float, default ()
        Values within the range that are not allowed.
    optional : bool, default False
        Whether None is allowed.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    excluded: tuple[float, ...] = ()
    optional: bool = False

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, or None."""
        number: Any = value
        if value is None:
            return None if self.optional else f"must be {self}"
        kinds: Mapping[type, tuple[type, ...]] = {float: (int, float), list: (list, tuple)}
        is_kind: bool = isinstance(value, kinds.get(self.kind, (self.kind,)))
        if not is_kind or (self.kind is not bool and isinstance(value, bool)):
            return f"must be {self}"
        if self.kind in {bool, list}:
            return None
        return None if self.low <= number <= self.high and number not in self.excluded else f"must be {self}"

    def __str__(self) -> str:
        names = {int: "a whole number", float: "a number", bool: "True or False", list: "a list of numbers"}
        if self.kind in {bool, list}:
            return names[self.kind]
        bounds = [f"at least {self.low:g}"] if math.isfinite(self.low) else []
        bounds += [f"at most {self.high:g}"] if math.isfinite(self.high) else []
        bounds += [f"not {value:g}" for value in self.excluded]
        none = ", or None" if self.optional else ""
        return ", ".join([names[self.kind], *bounds]) + none


_POSITIVE = Parameter(float, 0, excluded=(0,))
_FROM_ZERO = Parameter(float, 0)
_COUNT = Parameter(int, 1)

PARAMETERS: Mapping[str, Parameter] = {
    "n_chan_bin": Parameter(int, 0, excluded=(0,), optional=True),
    "fs": _POSITIVE,
    "batch_size": _COUNT,
    "nblocks": Parameter(int, 0),
    "Th_universal": _POSITIVE,
    "Th_learned": _POSITIVE,
    "tmin": _FROM_ZERO,
    "tmax": _POSITIVE,
    "nt": _COUNT,
    "shift": Parameter(float, optional=True),
    "scale": Parameter(float, optional=True),
    "batch_downsampling": _COUNT,
    "artifact_threshold": _FROM_ZERO,
    "nskip": _COUNT,
    "whitening_range": _COUNT,
    "highpass_cutoff": _FROM_ZERO,
    "binning_depth": _POSITIVE,
    "sig_interp": _POSITIVE,
    "drift_smoothing": Parameter(list),
    "nt0min": Parameter(int, 0, optional=True),
    "dmin": Parameter(float, 0, excluded=(0,), optional=True),
    "dminx": _POSITIVE,
    "min_template_size": _POSITIVE,
    "template_sizes": _COUNT,
    "nearest_chans": _COUNT,
    "nearest_templates": _COUNT,
    "max_channel_distance": Parameter(float, 1),
    "max_peels": Parameter(int, 1, 10_000),
    "templates_from_data": Parameter(bool),
    "n_templates": _COUNT,
    "n_pcs": _COUNT,
    "Th_single_ch": _POSITIVE,
    "acg_threshold": _POSITIVE,
    "ccg_threshold": _POSITIVE,
    "cluster_neighbors": Parameter(int, 2),
    "cluster_downsampling": _COUNT,
    "max_cluster_subset": Parameter(int, 1, excluded=(math.inf,), optional=True),
    "x_centers": Parameter(int, 1, optional=True),
    "cluster_init_seed": _COUNT,
    "duplicate_spike_ms": _FROM_ZERO,
    "position_limit": _FROM_ZERO,
}


def check_parameters(params: Mapping[str, Any]) -> None:
    """Raise ValueError when a parameter is unknown, of the wrong type or out of its range; names all of that."""
    for name, value in params.items():
        if name in SWITCHES and not isinstance(value, bool):
            msg = f"kilosort_params[{name!r}] must be True or False, got {value!r}"
            raise ValueError(msg)
        if name in OURS:
            continue
        if name not in PARAMETERS:
            known = [*PARAMETERS, *OURS]
            msg = f"Kilosort4 has no parameter {name!r}{closest(name, known)}; it takes {sorted(known)}"
            raise ValueError(msg)
        problem = PARAMETERS[name].problem(value)
        if problem is not None:
            msg = f"kilosort_params[{name!r}] {problem}, got {value!r}"
            raise ValueError(msg)
    if params.get("nt", 61) % 2 == 0:
        msg = f"kilosort_params['nt'] must be odd, got {params['nt']}"
        raise ValueError(msg)
