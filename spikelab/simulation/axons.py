"""Recordings in which action potentials travel: from the axon initial segment along branching axons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from spikelab.simulation._spec import SimulationSpec, as_range, check_at_least, default_n_units
from spikelab.simulation.layouts import find_layout, place_contacts
from spikelab.simulation.recordings import GroundTruth

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class AxonSpec(SimulationSpec):
    """Everything that decides the samples of a recording with axons; plain values that JSON can hold."""

    velocity_m_per_s: tuple[float, float]
    length_um: tuple[float, float]
    branch_interval_um: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("branch_interval_um", self.branch_interval_um, 20.0)
        for name in ("velocity_m_per_s", "length_um"):
            object.__setattr__(self, name, as_range(name, getattr(self, name)))


@dataclass(frozen=True, eq=False)
class Axon:
    """The axon of one unit, as points along its branches.

    Attributes
    ----------
    points_um : ndarray, shape (n_points, 3), float64
        x and y on the probe, z the distance from its plane (um). The first one is the axon initial segment.
    distance_um : ndarray, shape (n_points,), float64
        Way from the initial segment to each point, along the axon (um).
    parent : ndarray, shape (n_points,), int64
        The point before each point; -1 for the first.
    thickness : ndarray, shape (n_points,), float64
        1 on the trunk, less with each branching: what the amplitude is multiplied with.
    velocity_m_per_s : float
        How fast action potentials travel (m/s).
    """

    points_um: Floats
    distance_um: Floats
    parent: npt.NDArray[np.int64]
    thickness: Floats
    velocity_m_per_s: float


@dataclass(frozen=True, eq=False)
class AxonTruth(GroundTruth):
    """A simulated recording with travelling action potentials, and the truth about it.

    A spike's sample index in `sorting` is that of its trough on the root electrode.

    Attributes
    ----------
    axons : tuple of Axon
        One for each unit.
    root_channels : ndarray, shape (n_units,), int64
        Index of the channel on which each unit is largest.
    delays_ms : ndarray, shape (n_units, n_channels), float64
        How long after the trough on the root electrode that on each channel comes (ms), wherever the channel
        sees anything: `templates_uV` says how much it sees.
    distance_um : ndarray, shape (n_units, n_channels), float64
        Way along the axon from what the root electrode sees to what the channel sees (um).
    """

    axons: tuple[Axon, ...]
    root_channels: npt.NDArray[np.int64]
    delays_ms: Floats
    distance_um: Floats


def simulate_axons(
    layout: str = "mea",
    *,
    n_channels: int | None = None,
    duration_s: float = 60.0,
    n_units: int | None = None,
    fs_Hz: float = 20_000.0,
    seed: int = 0,
    noise_uV: float = 8.0,
    peak_uV: tuple[float, float] = (60.0, 200.0),
    rate_Hz: tuple[float, float] = (1.0, 8.0),
    velocity_m_per_s: tuple[float, float] = (0.3, 1.0),
    length_um: tuple[float, float] = (150.0, 600.0),
    branch_interval_um: float = 150.0,
    gain_uV: float = 0.195,
    offset_uV: float = 0.0,
    dtype: str = "int16",
) -> AxonTruth:
    """Return a recording of travelling action potentials; the same arguments give the same samples.

    Each unit has an axon that winds and branches over the array, inwards at first. A spike begins at the axon
    initial segment, where it is largest, and runs along all branches at one speed. An electrode sees the piece of the
    axon that is loudest where it lies, at the time at which the spike passes there: near the initial segment a trough
    with a slow hump after it, along the axon a smaller and narrower one between two humps. Everything else is as in
    `simulate_recording`: the recording is lazy, can be dumped to JSON, and is rebuilt from these arguments.

    What is left out: cell bodies and dendrites, axons that become slower with each branching, and electrodes that
    see two branches at once.

    Parameters
    ----------
    layout : str, default: "mea"
        One of `LAYOUTS`. Axons need room: ``n_channels=256`` or more on a grid.
    n_channels, duration_s, n_units, fs_Hz, seed, noise_uV, rate_Hz, gain_uV, offset_uV, dtype
        As in `simulate_recording`.
    peak_uV : (float, float), default: (60.0, 200.0)
        Bounds of the units' absolute trough amplitude on the root electrode (uV); uniform, and truly reached.
    velocity_m_per_s : (float, float), default: (0.3, 1.0)
        Bounds of the units' conduction velocities (m/s): those of unmyelinated axons.
    length_um : (float, float), default: (150.0, 600.0)
        Bounds of the way from the initial segment to the ends of an axon (um).
    branch_interval_um : float, default: 150.0
        Mean way between two branchings (um), at least 20.

    Returns
    -------
    AxonTruth
        The recording and the truth about it.

    Raises
    ------
    ValueError
        An unknown layout, or a value outside of what is said above.

    Examples
    --------
    >>> from spikelab.simulation import simulate_axons
    >>> truth = simulate_axons(n_channels=256, duration_s=1.0, n_units=2, velocity_m_per_s=(0.5, 0.5))
    >>> truth.delays_ms.shape, float(truth.delays_ms[0, truth.root_channels[0]])
    ((2, 256), 0.0)
    >>> bool((abs(truth.distance_um / 500.0 - truth.delays_ms) < 1e-9).all())  # 0.5 m/s are 500 um in a ms
    True
    """
    n_contacts = len(place_contacts(find_layout(layout), n_channels))
    spec = AxonSpec(
        layout=layout,
        n_channels=n_contacts,
        duration_s=float(duration_s),
        n_units=default_n_units(n_contacts) if n_units is None else int(n_units),
        fs_Hz=float(fs_Hz),
        seed=int(seed),
        drift=False,
        noise_uV=float(noise_uV),
        peak_uV=peak_uV,
        rate_Hz=rate_Hz,
        gain_uV=float(gain_uV),
        offset_uV=float(offset_uV),
        dtype=str(dtype),
        velocity_m_per_s=velocity_m_per_s,
        length_um=length_um,
        branch_interval_um=float(branch_interval_um),
    )
    return _axon_truth(spec)


def _axon_truth(spec: AxonSpec) -> AxonTruth:
    from spikelab.simulation._propagating import AxonalRecording

    recording = AxonalRecording(**asdict(spec))
    parts, footprints = recording.parts, recording.parts.footprints
    return AxonTruth(
        recording=recording,
        sorting=parts.sorting,
        unit_locations_um=parts.locations_um,
        templates_uV=parts.templates_uV,
        peak_uV=parts.peak_uV,
        axons=tuple(footprint.axon for footprint in footprints),
        root_channels=np.array([footprint.root for footprint in footprints], dtype=np.int64),
        delays_ms=_stack([footprint.delay_ms for footprint in footprints], spec.n_channels),
        distance_um=_stack([footprint.distance_um for footprint in footprints], spec.n_channels),
    )


def _stack(rows: Sequence[Floats], width: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


# ------------------------------------------------------------------------------------------------ growing

_STEP_UM = 5.0
_TURN_RAD, _AIM_RAD = 0.12, 0.8
_FORK_RAD = (0.35, 0.9)
_THINNING, _THINNEST = 0.75, 0.35
_LEAST_BRANCH_UM = 40.0
_FIRST_FORK_UM = 50.0


def grow_axon(spec: AxonSpec, rng: np.random.Generator, origin_um: Floats, middle_um: Floats) -> Axon:
    """Return an axon that begins at `origin_um`, shape (3,): a walk that winds, with forks.

    It sets off more or less towards the middle of the array: of one that leaves it at once, nothing would be seen.

    Parameters
    ----------
    spec : AxonSpec
        Lengths, branchings and velocities.
    rng : numpy.random.Generator
        Decides everything random.
    origin_um : ndarray, shape (3,)
        The axon initial segment (um).
    middle_um : ndarray, shape (2,)
        The middle of the array (um).
    """
    inwards_um = middle_um - origin_um[:2]
    angle_rad = math.atan2(inwards_um[1], inwards_um[0]) + float(rng.normal(0, _AIM_RAD))
    velocity = float(rng.uniform(*spec.velocity_m_per_s))
    tips = [_Tip(parent=-1, way_um=0.0, thickness=1.0, angle_rad=angle_rad)]
    grown: list[_Tip] = []
    points: list[Floats] = []
    end_um = float(rng.uniform(*spec.length_um))
    while tips:
        tip, here_um = tips.pop(), origin_um
        if tip.parent >= 0:
            here_um = points[tip.parent] + _STEP_UM * np.array([math.cos(tip.angle_rad), math.sin(tip.angle_rad), 0.0])
        grown.append(tip)
        points.append(here_um)
        if tip.way_um + _STEP_UM <= end_um:
            tips.extend(_next_tips(spec, rng, tip, len(grown) - 1, end_um))
    return Axon(
        points_um=np.array(points),
        distance_um=np.array([tip.way_um for tip in grown]),
        parent=np.array([tip.parent for tip in grown], dtype=np.int64),
        thickness=np.array([tip.thickness for tip in grown]),
        velocity_m_per_s=velocity,
    )


@dataclass(frozen=True)
class _Tip:
    parent: int
    way_um: float
    thickness: float
    angle_rad: float


def _next_tips(spec: AxonSpec, rng: np.random.Generator, tip: _Tip, index: int, end_um: float) -> list[_Tip]:
    """Return the one or two pieces that follow a piece."""
    way_um, angle_rad = tip.way_um + _STEP_UM, tip.angle_rad + float(rng.normal(0, _TURN_RAD))
    has_room = way_um >= _FIRST_FORK_UM and end_um - way_um >= _LEAST_BRANCH_UM
    # Without the bound on thickness, long axons would branch without end.
    may_fork = has_room and tip.thickness > _THINNEST
    if not (may_fork and rng.random() < _STEP_UM / spec.branch_interval_um):
        return [_Tip(index, way_um, tip.thickness, angle_rad)]
    aside_rad = float(rng.uniform(*_FORK_RAD) * rng.choice([-1.0, 1.0]))
    thinner = tip.thickness * _THINNING
    return [_Tip(index, way_um, thinner, angle_rad + turn) for turn in (aside_rad, -aside_rad / 2)]
