"""The lazy recording behind `simulate_axons`. Imports SpikeInterface: import it where it is used."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from spikeinterface.core.generate import InjectTemplatesRecording

from spikelab.simulation._simulated import (
    Parts,
    SimulatedRecording,
    draw_peaks,
    generate_spikes,
    noise,
    place_units,
)
from spikelab.simulation.axons import Axon, AxonSpec, grow_axon
from spikelab.simulation.layouts import make_probe

Floats = npt.NDArray[np.floating]

_MS_BEFORE, _MS_AFTER = 1.0, 3.0
_MAX_Z_UM = 15.0
_REACH_UM = 20.0
_INITIAL_SEGMENT_UM, _LENGTH_CONSTANT_UM, _AXONAL_FRAC = 40.0, 500.0, 0.3
_WIDTH_FACTOR = (0.85, 1.2)


@dataclass(frozen=True)
class Shape:
    """A spike's trough and the humps on both sides of it.

    Attributes
    ----------
    before_ms, after_ms : float
        From the trough to where the hump begins, on either side (ms).
    hump_before, hump_after : float
        Height of the humps; 1 is 0.45 of the trough.
    """

    before_ms: float
    after_ms: float
    hump_before: float
    hump_after: float


_AT_INITIAL_SEGMENT = Shape(before_ms=0.18, after_ms=0.30, hump_before=0.1, hump_after=0.6)
_ON_AXON = Shape(before_ms=0.12, after_ms=0.15, hump_before=0.6, hump_after=0.5)


@dataclass(frozen=True, eq=False)
class Footprint:
    """What each channel sees of a unit.

    Attributes
    ----------
    axon : Axon
    root : int
        Channel on which the unit is largest.
    loudness : ndarray, shape (n_channels,)
        Trough amplitude, as a fraction of that on the root channel.
    distance_um : ndarray, shape (n_channels,)
        Way along the axon from what the root channel sees to what the channel sees (um).
    delay_ms : ndarray, shape (n_channels,)
        How long after the trough on the root channel that on this one comes (ms).
    axonal_frac : ndarray, shape (n_channels,)
        0 at the initial segment, 1 far from it.
    """

    axon: Axon
    root: int
    loudness: Floats
    distance_um: Floats
    delay_ms: Floats
    axonal_frac: Floats


@dataclass(frozen=True, eq=False)
class AxonalParts(Parts):
    """What the samples are made of, with what each channel sees of each unit."""

    footprints: tuple[Footprint, ...]


class AxonalRecording(SimulatedRecording):
    """Integer samples of a simulation with axons, computed when they are read.

    Parameters
    ----------
    **parameters
        The fields of `AxonSpec`.
    """

    spec_type = AxonSpec
    parts: AxonalParts

    def _build(self, spec: AxonSpec) -> AxonalParts:
        return build(spec)


def build(spec: AxonSpec) -> AxonalParts:
    """Return the parts of the simulation that the spec describes; equal specs give equal parts."""
    locations_um, peak_uV = place_units(spec, _MAX_Z_UM), draw_peaks(spec)
    rng = np.random.default_rng(spec.seed_of("axons"))
    contacts_um = make_probe(spec.layout, spec.n_channels).contact_positions
    middle_um = (contacts_um.min(axis=0) + contacts_um.max(axis=0)) / 2
    axons = [grow_axon(spec, rng, origin_um, middle_um) for origin_um in locations_um.astype(np.float64)]
    footprints = tuple(_footprint(axon, contacts_um) for axon in axons)
    times_ms, n_before = _template_times(spec, footprints)
    templates_uV = np.zeros((spec.n_units, times_ms.size, spec.n_channels), dtype=np.float32)
    for unit, (footprint, peak) in enumerate(zip(footprints, peak_uV, strict=True)):
        templates_uV[unit] = peak * _template(footprint, times_ms, float(rng.uniform(*_WIDTH_FACTOR)))
    sorting = generate_spikes(spec)
    sorting.set_property("gt_unit_locations", locations_um)
    recording_uV = InjectTemplatesRecording(sorting, templates_uV, nbefore=n_before, parent_recording=noise(spec))
    return AxonalParts(recording_uV, sorting, locations_um, templates_uV, peak_uV, footprints)


def _footprint(axon: Axon, contacts_um: Floats) -> Footprint:
    aside_um = np.linalg.norm(axon.points_um[:, np.newaxis, :2] - contacts_um, axis=2)
    apart_um = np.hypot(aside_um, axon.points_um[:, np.newaxis, 2])
    loudness = _source(axon)[:, np.newaxis] / (1 + (apart_um / _REACH_UM) ** 2)
    heard = loudness.argmax(axis=0)
    loudest = loudness.max(axis=0)
    root = int(loudest.argmax())
    distance_um = axon.distance_um[heard] - axon.distance_um[heard[root]]
    return Footprint(
        axon=axon,
        root=root,
        loudness=loudest / loudest[root],
        distance_um=distance_um,
        # 1 m/s is 1000 um in a ms.
        delay_ms=distance_um / (1000 * axon.velocity_m_per_s),
        axonal_frac=1 - np.exp(-axon.distance_um[heard] / _INITIAL_SEGMENT_UM),
    )


def _source(axon: Axon) -> Floats:
    """Return how loud each piece of an axon is: 1 at the initial segment, falling fast and then slowly."""
    fast = (1 - _AXONAL_FRAC) * np.exp(-axon.distance_um / _INITIAL_SEGMENT_UM)
    slow = _AXONAL_FRAC * np.exp(-axon.distance_um / _LENGTH_CONSTANT_UM)
    source: Floats = (fast + slow) * axon.thickness
    return source


def _template_times(spec: AxonSpec, footprints: tuple[Footprint, ...]) -> tuple[Floats, int]:
    """Return the time of each sample of all templates from the trough on the root channel (ms), and that trough."""
    earliest_ms = min((footprint.delay_ms.min() for footprint in footprints), default=0.0)
    latest_ms = max((footprint.delay_ms.max() for footprint in footprints), default=0.0)
    n_before = math.ceil((_MS_BEFORE - earliest_ms) * spec.fs_Hz / 1000)
    n_after = math.ceil((_MS_AFTER + latest_ms) * spec.fs_Hz / 1000)
    return np.arange(-n_before, n_after) / spec.fs_Hz * 1000, n_before


def _template(footprint: Footprint, times_ms: Floats, width: float) -> Floats:
    """Return the unit's spike with a trough of 1 on the root channel, shape (n_samples, n_channels)."""
    after_trough_ms = times_ms[:, np.newaxis] - footprint.delay_ms

    def between(name: str) -> Floats:
        at_start, on_axon = getattr(_AT_INITIAL_SEGMENT, name), getattr(_ON_AXON, name)
        mixed: Floats = at_start + footprint.axonal_frac * (on_axon - at_start)
        return mixed

    is_after = after_trough_ms > 0
    scale_ms = width * np.where(is_after, between("after_ms"), between("before_ms"))
    # The second derivative of a Gaussian on each side: flat at the trough, which stays where it is put.
    squared = (after_trough_ms / scale_ms) ** 2
    wave = (squared - 1) * np.exp(-squared / 2)
    humps = np.where(is_after, between("hump_after"), between("hump_before"))
    spike: Floats = footprint.loudness * np.where(wave > 0, humps * wave, wave)
    return spike
