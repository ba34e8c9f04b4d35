"""Which settings of Kilosort4 suit a probe and a recording, each with the reason for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import FrozenMap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

VERSION = 2
"""Raised by hand when the same recording gets other settings: earlier sorts are then not taken for new ones."""

_FEW_CHANNELS = 64
"""Up to here Kilosort's guide calls a probe small."""
_TOO_FEW_FOR_MEDIAN = 16
"""On fewer channels a spike is on so many of them that their median is the spike itself."""
_SPARSE_UM = 50.0
_LONG_UM = 2000.0
_CENTRES_UM = 250.0
_LARGEST_BATCH = 400_000
_UPSTREAM_BATCH = 60_000
_FEW_SPIKES = 60
"""Two clusters of the smallest size that their density shows."""
_UPSTREAM_FIRST, _UPSTREAM_DOWNSAMPLING = 200, 20
"""Clusters with which Kilosort4 begins around a centre, and every which spike it compares the others with."""
_UPSTREAM_NT = 61
_OVERLAP_MS = 1.0
"""Spikes closer than this overlap where they are largest."""


@dataclass(frozen=True)
class Recommendation:
    """A setting that suits a recording.

    Parameters
    ----------
    name : str
        Its name in ``kilosort_params``.
    value : object
        What it should be.
    reason : str
        Why, in one sentence.
    """

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Recommendations:
    """Settings that suit a recording, and what is worth knowing of those that were given.

    Parameters
    ----------
    settings : tuple of Recommendation
        Settings that should differ from Kilosort4's defaults, or that its guide says to look at.
    warnings : tuple of str
        What is wrong with the settings that were given.
    """

    settings: tuple[Recommendation, ...]
    warnings: tuple[str, ...] = ()

    @property
    def values(self) -> FrozenMap:
        """The settings by name, as ``kilosort_params`` takes them."""
        return FrozenMap({setting.name: setting.value for setting in self.settings})

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain values: one {name, value, reason} for each setting."""
        return [{"name": one.name, "value": one.value, "reason": one.reason} for one in self.settings]


def recommend_settings(
    probe: Any,
    fs_Hz: float,
    duration_s: float,
    dtype: str = "int16",
    *,
    gain_uV: float | None = None,
    given: Mapping[str, Any] | None = None,
) -> Recommendations:
    """Return the settings of Kilosort4 that suit a recording, each with the reason for it.

    Nothing is read but what is given here: the same arguments give the same settings. ``sort_recording`` uses them
    where ``kilosort_params`` says nothing else, unless it says ``{"advise": False}``.

    Parameters
    ----------
    probe : mapping, probeinterface.Probe, or array-like of shape (n_channels, 2)
        Kilosort's probe dictionary (``xc, yc, kcoords``), a probe, or positions of one shank (um).
    fs_Hz : float
        Sampling rate (Hz).
    duration_s : float
        Length of what is sorted (s).
    dtype : str, default "int16"
        Type of the samples.
    gain_uV : float, optional
        What a sample value of 1 stands for (uV); read for samples that are no whole numbers.
    given : mapping, optional
        Settings that are decided already: none of them is recommended, and the others take them into account.

    Returns
    -------
    Recommendations
        The settings, and warnings about those in `given`.

    Raises
    ------
    ValueError
        The probe has no channel, positions that are no numbers, or sampling rate or duration are not above 0.

    Examples
    --------
    >>> from spikelab.spike_sorting import recommend_settings
    >>> tetrode = [(0, 0), (25, 0), (0, 25), (25, 25)]
    >>> advice = recommend_settings(tetrode, fs_Hz=30_000.0, duration_s=600.0)
    >>> advice.values["do_CAR"], advice.values["nearest_chans"]
    (False, 4)
    >>> advice.settings[0].reason
    'Drift cannot be estimated on 4 channels.'
    """
    if not (fs_Hz > 0 and duration_s > 0):
        msg = f"fs_Hz and duration_s must be above 0, got {fs_Hz} and {duration_s}"
        raise ValueError(msg)
    geometry = Geometry(*_positions(probe))
    known = dict(given or {})
    rules = (
        _drift(geometry),
        _time(fs_Hz, known),
        _batches(geometry, int(duration_s * fs_Hz)),
        _neighbours(geometry),
        _template_places(geometry),
        _preprocessing(geometry),
        _clustering(known),
        _merging(),
        _units_of_voltage(dtype, gain_uV),
    )
    settings = (setting for rule in rules for setting in rule if setting.name not in known)
    return Recommendations(tuple(settings), tuple(_warnings(known, fs_Hz)))


def batch_size(n_channels: int, n_samples: int) -> int:
    """Return how many samples a batch should have: more on a small probe, and never so many that a batch is all.

    Kilosort4 leaves the last batch out when it measures noise: with a single one nothing is left.
    """
    if n_samples < 2 * _UPSTREAM_BATCH:
        return max(1, n_samples // 3)
    largest = min(_LARGEST_BATCH, _UPSTREAM_BATCH * _FEW_CHANNELS // max(n_channels, 1), n_samples // 4)
    return max(_UPSTREAM_BATCH, largest)


# ------------------------------------------------------------------------------------------------- the probe


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the contacts of a probe are.

    Parameters
    ----------
    positions_um : ndarray, shape (n_channels, 2), float64
        x and y (um).
    shanks : ndarray, shape (n_channels,)
        Which shank each is on.
    """

    positions_um: NDArray[np.float64]
    shanks: NDArray[Any]

    @property
    def n_channels(self) -> int:
        """Contacts of all shanks."""
        return len(self.positions_um)

    @cached_property
    def of_shanks(self) -> list[NDArray[np.float64]]:
        """Positions on each shank (um)."""
        import numpy as np

        return [self.positions_um[self.shanks == shank] for shank in np.unique(self.shanks)]

    @cached_property
    def spacing_um(self) -> float:
        """Median distance of a contact from the nearest one on its shank (um); 0 where no shank has two."""
        import numpy as np

        distances = np.concatenate([_nearest_um(shank) for shank in self.of_shanks])
        return float(np.median(distances)) if distances.size else 0.0

    @cached_property
    def lateral_um(self) -> float:
        """Median distance of neighbouring columns of one shank (um); 0 where each shank is one column."""
        import numpy as np

        steps = np.concatenate([np.diff(_distinct(shank[:, 0])) for shank in self.of_shanks])
        return float(np.median(steps)) if steps.size else 0.0

    @cached_property
    def vertical_um(self) -> float:
        """Median distance of neighbouring rows of one shank (um); 0 where each shank is one row."""
        import numpy as np

        steps = np.concatenate([np.diff(_distinct(shank[:, 1])) for shank in self.of_shanks])
        return float(np.median(steps)) if steps.size else 0.0

    @property
    def width_um(self) -> float:
        """Width of the widest shank (um)."""
        return max(_extent_um(shank[:, 0]) for shank in self.of_shanks)

    @property
    def height_um(self) -> float:
        """Height of the highest shank (um)."""
        return max(_extent_um(shank[:, 1]) for shank in self.of_shanks)


def _positions(probe: Any) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return positions (n_channels, 2) and shanks (n_channels,) of a probe in any of its forms."""
    import numpy as np

    if isinstance(probe, Mapping):
        positions_um = np.column_stack([np.asarray(probe[name], dtype=float).ravel() for name in ("xc", "yc")])
        shanks = np.asarray(probe.get("kcoords", np.zeros(len(positions_um)))).ravel()
    elif hasattr(probe, "contact_positions"):
        positions_um = np.asarray(probe.contact_positions, dtype=float)[:, :2]
        shanks = np.asarray(probe.shank_ids) if probe.shank_ids is not None else np.zeros(len(positions_um))
    else:
        positions_um = np.asarray(probe, dtype=float)
        shanks = np.zeros(len(positions_um))
    if positions_um.ndim != 2 or positions_um.shape[1] != 2 or not len(positions_um):
        msg = f"the probe must have positions of shape (n_channels, 2), found {positions_um.shape}"
        raise ValueError(msg)
    if not np.isfinite(positions_um).all() or len(shanks) != len(positions_um):
        msg = f"each of the {len(positions_um)} channels must have a position in um and a shank, found {len(shanks)}"
        raise ValueError(msg)
    return positions_um, shanks


def _nearest_um(positions_um: ArrayLike) -> NDArray[np.float64]:
    """Return the distance of each contact from the nearest other one; empty for a single contact."""
    import numpy as np

    places = np.asarray(positions_um, dtype=float)
    if len(places) < 2:
        return np.empty(0)
    nearest = np.empty(len(places))
    for number, place in enumerate(places):  # contact by contact: all pairs of a large array are gigabytes
        squares = ((places - place) ** 2).sum(axis=1)
        squares[number] = np.inf
        nearest[number] = squares.min()
    return np.sqrt(nearest)


def _extent_um(coordinates: NDArray[np.float64]) -> float:
    return float(coordinates.max() - coordinates.min())


def _distinct(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coordinates rising, with those that differ by less than 2 um taken as one."""
    import numpy as np

    rising = np.unique(coordinates)
    chosen: NDArray[np.float64] = rising[np.append(True, np.diff(rising) >= 2.0)]
    return chosen


# ------------------------------------------------------------------------------------------------- the rules

_Rule = Iterator[Recommendation]


def _drift(geometry: Geometry) -> _Rule:
    n, spacing_um = geometry.n_channels, geometry.spacing_um
    if n <= _FEW_CHANNELS:
        yield Recommendation("nblocks", 0, f"Drift cannot be estimated on {n} channels.")
    elif spacing_um >= _SPARSE_UM:
        yield Recommendation("nblocks", 0, f"Drift cannot be estimated with contacts {spacing_um:.3g} um apart.")
    elif len(geometry.of_shanks) == 1 and geometry.height_um >= _LONG_UM:
        yield Recommendation(
            "nblocks", 5, f"Drift may differ along a shank of {geometry.height_um:.0f} um: it is estimated in 5 parts."
        )
    else:
        yield Recommendation("nblocks", 1, f"Drift can be estimated on {n} channels, as one for the whole probe.")


def _time(fs_Hz: float, given: Mapping[str, Any]) -> _Rule:
    from_data = given.get("templates_from_data", True)
    nt = 2 * max(1, round(fs_Hz / 1000)) + 1 if from_data else _UPSTREAM_NT
    nt = given.get("nt", nt)
    if nt == _UPSTREAM_NT:
        return
    yield Recommendation("nt", nt, f"{nt} samples are 2 ms of a spike at {fs_Hz:g} Hz.")
    yield Recommendation("nt0min", int(20 * nt / _UPSTREAM_NT), f"Spikes are aligned at a third of their {nt} samples.")
    yield Recommendation(
        "templates_from_data", True, f"Kilosort4's own templates have 61 samples, not {nt}: they come from the data."
    )


def _batches(geometry: Geometry, n_samples: int) -> _Rule:
    n, size = geometry.n_channels, batch_size(geometry.n_channels, n_samples)
    if size > _UPSTREAM_BATCH:
        reason = f"With {n} channels a batch can be longer, so that spikes enough are in it to learn templates from."
        yield Recommendation("batch_size", size, reason)
    elif size < _UPSTREAM_BATCH:
        yield Recommendation("batch_size", size, "The recording is so short that one batch would be all of it.")


def _neighbours(geometry: Geometry) -> _Rule:
    n = geometry.n_channels
    if n < 10:
        yield Recommendation("nearest_chans", n, f"The probe has {n} channels.")
    if n <= _FEW_CHANNELS and (geometry.spacing_um >= _SPARSE_UM or n < 10):
        reason = f"At most one template for each of the {n} channels keeps the computation stable on a small probe."
        yield Recommendation("nearest_templates", n, reason)


def _template_places(geometry: Geometry) -> _Rule:
    spacing_um, lateral_um = geometry.spacing_um, geometry.lateral_um
    if geometry.vertical_um:
        reason = f"Rows of contacts are {geometry.vertical_um:.3g} um apart."
        yield Recommendation("dmin", round(geometry.vertical_um, 3), reason)
    if spacing_um > 2 * 32:
        size_um = round(spacing_um / 3, 1)
        reason = f"Spikes must reach from one contact to the next, {spacing_um:.3g} um away."
        yield Recommendation("min_template_size", size_um, reason)
        yield Recommendation("max_channel_distance", round(spacing_um / 2, 1), reason)
    if lateral_um > 32:
        yield Recommendation("dminx", round(lateral_um, 3), f"Columns of contacts are {lateral_um:.3g} um apart.")
    if geometry.width_um >= _CENTRES_UM:
        n_centres = sum(max(1, round(_extent_um(shank[:, 0]) / _CENTRES_UM)) for shank in geometry.of_shanks)
        reason = f"An array {geometry.width_um:.0f} um wide is clustered in parts of about {_CENTRES_UM:.0f} um."
        yield Recommendation("x_centers", n_centres, reason)


def _preprocessing(geometry: Geometry) -> _Rule:
    n = geometry.n_channels
    if n < _TOO_FEW_FOR_MEDIAN:
        reason = f"A spike is on most of the {n} channels: the median over them would take it away."
        yield Recommendation("do_CAR", False, reason)


def _clustering(given: Mapping[str, Any]) -> _Rule:
    reason = "Kilosort4 makes one unit of all spikes near a place that has fewer than 1,000 of them."
    yield Recommendation("min_spikes_to_cluster", _FEW_SPIKES, reason)
    downsampling = given.get("cluster_downsampling", _UPSTREAM_DOWNSAMPLING)
    enough = _UPSTREAM_FIRST * downsampling
    reason = f"Of fewer than {enough} spikes near a place Kilosort4 compares too few: their density tells units apart."
    yield Recommendation("density_below", enough, reason)


def _merging() -> _Rule:
    reason = (
        "Of two spikes that overlap one is lost: that units avoid each other by less than 1 ms is no reason to merge."
    )
    yield Recommendation("censored_lag_ms", _OVERLAP_MS, reason)


def _units_of_voltage(dtype: str, gain_uV: float | None) -> _Rule:
    if str(dtype).startswith("float") and gain_uV is not None and gain_uV not in {0.0, 1.0}:
        reason = f"Samples of type {dtype} are brought to microvolts: Kilosort4 expects values of about -100 to 100."
        yield Recommendation("shift", 0.0, reason)
        yield Recommendation("scale", float(gain_uV), reason)


def _warnings(given: Mapping[str, Any], fs_Hz: float) -> Iterator[str]:
    duplicate_ms = given.get("duplicate_spike_ms", 0.25)
    if duplicate_ms > 0.5:
        yield (
            f"duplicate_spike_ms is {duplicate_ms:g} ms: above 0.5 ms it takes spikes away by which refractory periods "
            "are judged."
        )
    if given.get("templates_from_data") is False and given.get("nt", _UPSTREAM_NT) != _UPSTREAM_NT:
        yield f"templates_from_data is off, which needs nt=61, but nt is {given['nt']}: Kilosort4 will refuse it."
    elif given.get("templates_from_data") is False and abs(fs_Hz - 30_000) > 3_000:
        yield f"Kilosort4's own templates are for 30 kHz, this recording has {fs_Hz:g} Hz: let them come from the data."
