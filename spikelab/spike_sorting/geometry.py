"""Where channels are: positions that no sorter can make sense of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CLOSEST_UM, _FARTHEST_UM = 1.0, 10_000.0
"""Neighbours nearer or farther than this are given in another unit."""


def position_problems(places_um: NDArray[np.float64], shanks: NDArray[Any]) -> list[str]:
    """Return what is wrong with the positions of channels: unknown, shared within a shank, or not in um.

    Parameters
    ----------
    places_um : ndarray, shape (n_channels, 2 or 3), float64
        Positions (um).
    shanks : ndarray, shape (n_channels,)
        Shank of each channel; several tetrodes may be described at one place.
    """
    import numpy as np

    unknown = int((~np.isfinite(places_um)).any(axis=1).sum())
    if unknown:
        return [f"{unknown} of {len(places_um)} channels have no position (NaN or infinite)"]
    return _shared(places_um, shanks) or _out_of_scale(places_um)


def _shared(places_um: NDArray[np.float64], shanks: NDArray[Any]) -> list[str]:
    import numpy as np

    n_channels = len(places_um)
    if n_channels > 1 and (places_um == places_um[0]).all():
        return [f"all {n_channels} channels have the position {places_um[0].tolist()}"]
    numbers = np.unique(shanks, return_inverse=True)[1]
    n_places = len(np.unique(np.column_stack([numbers, places_um]), axis=0))
    if n_places == n_channels:
        return []
    return [f"{n_channels} channels share {n_places} positions; each channel of a shank needs its own"]


def _out_of_scale(places_um: NDArray[np.float64]) -> list[str]:
    spacing_um = _spacing_um(places_um)
    if spacing_um is None or _CLOSEST_UM <= spacing_um <= _FARTHEST_UM:
        return []
    guess = "they look like mm: multiply them by 1000" if spacing_um < _CLOSEST_UM else "they look like nm or pixels"
    return [f"neighbouring channels are {spacing_um:g} um apart; positions must be in um, and {guess}"]


def _spacing_um(places_um: NDArray[np.float64]) -> float | None:
    """Return the median distance of a channel to the nearest one elsewhere, or None for a single place."""
    import numpy as np
    from scipy.spatial import cKDTree

    distinct = np.unique(places_um, axis=0)
    if len(distinct) < 2:
        return None
    return float(np.median(cKDTree(distinct).query(distinct, k=2)[0][:, 1]))
