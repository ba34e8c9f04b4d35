"""The lazy recording behind `simulate_recording`. Imports SpikeInterface: import it where it is used."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from spikeinterface.core import BaseRecording, BaseRecordingSegment, BaseSorting, NumpySorting
from spikeinterface.core.core_tools import ms_to_samples
from spikeinterface.core.generate import (
    InjectTemplatesRecording,
    generate_sorting,
    generate_templates,
    generate_unit_locations,
)
from spikeinterface.generation.drift_tools import DriftingTemplates, InjectDriftingTemplatesRecording
from spikeinterface.generation.drifting_generator import generate_displacement_vector
from spikeinterface.generation.noise_tools import NoiseGeneratorRecording

from spikelab.simulation._spec import SimulationSpec, quantise
from spikelab.simulation.layouts import make_probe

Floats = npt.NDArray[np.floating]

_MS_BEFORE, _MS_AFTER = 1.0, 3.0
_MARGIN_UM, _MIN_Z_UM, _MAX_Z_UM = 10.0, 5.0, 30.0
_DISTANCES_UM = (20.0, 12.0, 6.0, None)
_DRIFT_UM, _DRIFT_STEP_UM, _DRIFT_PERIOD_S = 15.0, 1.0, 200.0
_NOISE_BLOCK_S = 0.1


@dataclass(frozen=True, eq=False)
class Parts:
    """What the samples are made of, before quantisation.

    Attributes
    ----------
    recording_uV : BaseRecording
        Float traces, lazy (uV).
    sorting : BaseSorting
        The true spikes.
    locations_um : ndarray, shape (n_units, 3), float32
    templates_uV : ndarray, shape (n_units, n_samples, n_channels), float32
    peak_uV : ndarray, shape (n_units,), float64
    """

    recording_uV: BaseRecording
    sorting: BaseSorting
    locations_um: Floats
    templates_uV: Floats
    peak_uV: Floats


class SimulatedRecording(BaseRecording):  # type: ignore[misc]  # SpikeInterface is untyped
    """Integer samples of a simulation, computed when they are read.

    Rebuilt from the fields of a `SimulationSpec` alone, which is why it can be dumped to JSON and sent
    to other processes although SpikeInterface's in-memory sorting cannot.

    Parameters
    ----------
    **parameters
        The fields of `SimulationSpec`.
    """

    spec_type: type[SimulationSpec] = SimulationSpec

    def __init__(self, **parameters: Any) -> None:
        spec = self.spec_type(**parameters)
        self.parts = self._build(spec)
        parent = self.parts.recording_uV
        super().__init__(spec.fs_Hz, parent.channel_ids, spec.dtype)
        self.add_recording_segment(_QuantisedSegment(parent.segments[0], spec))
        self.set_probe(make_probe(spec.layout, spec.n_channels))
        self.set_channel_gains(spec.gain_uV)
        self.set_channel_offsets(spec.offset_uV)
        self._kwargs = asdict(spec)

    def _build(self, spec: Any) -> Parts:
        return build(spec)


class _QuantisedSegment(BaseRecordingSegment):  # type: ignore[misc]  # SpikeInterface is untyped
    def __init__(self, parent: BaseRecordingSegment, spec: SimulationSpec) -> None:
        super().__init__(sampling_frequency=spec.fs_Hz)
        self._parent_uV = parent
        self._spec = spec

    def get_num_samples(self) -> int:
        return self._spec.n_samples

    def get_traces(
        self, start_frame: int | None = None, end_frame: int | None = None, channel_indices: Any = None
    ) -> npt.NDArray[np.integer]:
        start = 0 if start_frame is None else start_frame
        end = self._spec.n_samples if end_frame is None else end_frame
        traces_uV = self._parent_uV.get_traces(start, end, channel_indices)
        return quantise(traces_uV, self._spec.gain_uV, self._spec.offset_uV, self._spec.dtype)


def build(spec: SimulationSpec) -> Parts:
    """Return the parts of the simulation that the spec describes; equal specs give equal parts."""
    locations_um = place_units(spec)
    peak_uV = draw_peaks(spec)
    unscaled = _templates_at(spec, locations_um)
    scale = peak_uV / -unscaled.min(axis=(1, 2))
    templates_uV = _scaled(unscaled, scale)
    sorting = generate_spikes(spec)
    sorting.set_property("gt_unit_locations", locations_um)
    if spec.drift and spec.n_units:
        recording_uV = _inject_drifting(spec, sorting, locations_um, scale)
    else:
        recording_uV = _inject(spec, sorting, templates_uV)
    return Parts(recording_uV, sorting, locations_um, templates_uV, peak_uV)


def draw_peaks(spec: SimulationSpec) -> Floats:
    """Return the absolute trough amplitude of each unit on its largest channel (uV)."""
    return np.random.default_rng(spec.seed_of("peaks")).uniform(*spec.peak_uV, spec.n_units)


def generate_spikes(spec: SimulationSpec) -> BaseSorting:
    """Return the true spikes: Poisson trains with a refractory period."""
    if spec.n_units == 0:
        return NumpySorting.from_unit_dict([{}], spec.fs_Hz)
    return generate_sorting(
        num_units=spec.n_units,
        sampling_frequency=spec.fs_Hz,
        durations=[spec.n_samples / spec.fs_Hz],
        firing_rates=spec.rate_Hz,
        refractory_period_ms=4.0,
        seed=spec.seed_of("spikes"),
    )


def place_units(spec: SimulationSpec, max_z_um: float = _MAX_Z_UM) -> Floats:
    """Place the units shank by shank: over the whole probe, most would lie between the shanks."""
    shanks_um = _contacts_by_shank(make_probe(spec.layout, spec.n_channels))
    shares = np.array_split(np.arange(spec.n_units), len(shanks_um))
    placed = [
        _place_near(contacts_um, len(share), max_z_um, spec.seed_of(f"locations {shank}"))
        for shank, (contacts_um, share) in enumerate(zip(shanks_um, shares, strict=True))
    ]
    return np.concatenate(placed)


def _contacts_by_shank(probe: Any) -> list[Floats]:
    positions_um = probe.contact_positions
    if probe.shank_ids is None:
        return [positions_um]
    return [positions_um[probe.shank_ids == shank] for shank in np.unique(probe.shank_ids)]


def _place_near(contacts_um: Floats, n_units: int, max_z_um: float, seed: int) -> Floats:
    """Return locations, shape (n_units, 3), um, as far from each other as so many units can be."""
    drawn = (_draw_locations(contacts_um, n_units, distance_um, max_z_um, seed) for distance_um in _DISTANCES_UM)
    return next(locations_um for locations_um in drawn if locations_um is not None)


def _draw_locations(
    contacts_um: Floats, n_units: int, distance_um: float | None, max_z_um: float, seed: int
) -> Floats | None:
    """Return locations at least `distance_um` from each other, or None when there is no room for that."""
    try:
        locations_um: Floats = generate_unit_locations(
            n_units,
            contacts_um,
            margin_um=_MARGIN_UM,
            minimum_z=_MIN_Z_UM,
            maximum_z=max_z_um,
            minimum_distance=distance_um,
            distance_strict=True,
            seed=seed,
        )
    except ValueError:
        return None
    return locations_um


def _templates_at(spec: SimulationSpec, locations_um: Floats) -> Floats:
    """Return unscaled templates; the unit's waveform and decay depend on the seed, not on where it is."""
    templates: Floats = generate_templates(
        make_probe(spec.layout, spec.n_channels).contact_positions,
        locations_um,
        spec.fs_Hz,
        _MS_BEFORE,
        _MS_AFTER,
        seed=spec.seed_of("templates"),
    )
    return templates


def _scaled(templates: Floats, scale: Floats) -> Floats:
    return (templates * scale[:, np.newaxis, np.newaxis]).astype(np.float32)


def _n_before(spec: SimulationSpec) -> int:
    """Return the sample of each template's trough, counted as SpikeInterface counts."""
    n_before: int = ms_to_samples(_MS_BEFORE, spec.fs_Hz)
    return n_before


def noise(spec: SimulationSpec) -> BaseRecording:
    """Return white noise, lazy (uV)."""
    return NoiseGeneratorRecording(
        num_channels=spec.n_channels,
        sampling_frequency=spec.fs_Hz,
        # SpikeInterface truncates duration x rate; half a sample more keeps the last sample.
        durations=[(spec.n_samples + 0.5) / spec.fs_Hz],
        noise_levels=spec.noise_uV,
        seed=spec.seed_of("noise"),
        strategy="on_the_fly",
        noise_block_size=round(_NOISE_BLOCK_S * spec.fs_Hz),
    )


def _inject(spec: SimulationSpec, sorting: BaseSorting, templates_uV: Floats) -> BaseRecording:
    return InjectTemplatesRecording(sorting, templates_uV, nbefore=_n_before(spec), parent_recording=noise(spec))


def _inject_drifting(spec: SimulationSpec, sorting: BaseSorting, locations_um: Floats, scale: Floats) -> BaseRecording:
    _, vectors_um, unit_factor, rate_Hz, steps_um = _displacements(spec, locations_um)
    moved = [_scaled(_templates_at(spec, _move(locations_um, step_um)), scale) for step_um in steps_um]
    return InjectDriftingTemplatesRecording(
        sorting=sorting,
        parent_recording=noise(spec),
        drifting_templates=_drifting_templates(spec, np.stack(moved), steps_um),
        displacement_vectors=[vectors_um],
        displacement_sampling_frequency=rate_Hz,
        displacement_unit_factor=unit_factor,
        num_samples=[spec.n_samples],
    )


def _drifting_templates(spec: SimulationSpec, moved_uV: Floats, steps_um: Floats) -> DriftingTemplates:
    return DriftingTemplates.from_precomputed_templates(
        moved_uV, steps_um, spec.fs_Hz, _n_before(spec), make_probe(spec.layout, spec.n_channels)
    )


def _move(locations_um: Floats, step_um: Floats) -> Floats:
    moved = locations_um.copy()
    moved[:, :2] += step_um
    return moved


def _displacements(spec: SimulationSpec, locations_um: Floats) -> Any:
    """Return SpikeInterface's displacement data: a rigid zigzag along y that starts in the middle."""
    # A whole second more: the displacement must outlast the recording and not be empty.
    duration_s = math.ceil(spec.duration_s) + 1.0
    zigzag = {"drift_mode": "zigzag", "t_start_drift": 0.0, "period_s": min(duration_s, _DRIFT_PERIOD_S)}
    return generate_displacement_vector(
        duration_s,
        locations_um[:, :2],
        drift_start_um=[0.0, _DRIFT_UM],
        drift_stop_um=[0.0, -_DRIFT_UM],
        drift_step_um=_DRIFT_STEP_UM,
        motion_list=[zigzag],
        seed=spec.seed_of("drift"),
    )
