"""Simulated recordings to train the detection network on: spikes that travel along axons, and spikes that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from spikelab.simulation import GroundTruth

Probe = Literal["mea", "neuropixels"]


@dataclass(frozen=True)
class Simulation:
    """One recording.

    Attributes
    ----------
    layout : str
        Layout of the channels.
    n_channels, n_units : int
        Size.
    has_axons : bool
        Whether spikes travel.
    """

    layout: str
    n_channels: int
    n_units: int
    has_axons: bool


_RECORDINGS: Mapping[Probe, tuple[float, tuple[Simulation, ...]]] = MappingProxyType(
    {
        "mea": (
            20_000.0,
            (
                Simulation("mea", 100, 20, has_axons=True),
                Simulation("mea", 64, 16, has_axons=False),
                Simulation("mea", 144, 20, has_axons=True),
                Simulation("mea", 36, 12, has_axons=False),
            ),
        ),
        "neuropixels": (
            30_000.0,
            (
                Simulation("neuropixels1", 96, 24, has_axons=False),
                Simulation("neuropixels2", 64, 16, has_axons=False),
                Simulation("neuropixels1", 64, 16, has_axons=True),
                Simulation("linear", 32, 10, has_axons=False),
            ),
        ),
    }
)
_RATE_HZ, _PEAK_UV = (2.0, 10.0), (30.0, 200.0)


def training_recordings(probe: Probe, duration_s: float, seed: int) -> list[GroundTruth]:
    """Return simulated recordings, lazy; the same arguments give the same samples, other seeds others.

    Parameters
    ----------
    probe : {"mea", "neuropixels"}
        Kind of probe: dense grids at 20 kHz, or long probes at 30 kHz.
    duration_s : float
        Length of each (s).
    seed : int
        Decides everything random.
    """
    import numpy as np

    fs_Hz, simulations = _RECORDINGS[probe]
    seeds = np.random.SeedSequence(seed).generate_state(len(simulations))
    return [
        _simulate(simulation, duration_s, fs_Hz, int(own)) for simulation, own in zip(simulations, seeds, strict=True)
    ]


def _simulate(simulation: Simulation, duration_s: float, fs_Hz: float, seed: int) -> GroundTruth:
    from spikelab.simulation import simulate_axons, simulate_recording

    simulate = simulate_axons if simulation.has_axons else simulate_recording
    return simulate(
        simulation.layout,
        n_channels=simulation.n_channels,
        n_units=simulation.n_units,
        duration_s=duration_s,
        fs_Hz=fs_Hz,
        seed=seed,
        peak_uV=_PEAK_UV,
        rate_Hz=_RATE_HZ,
    )
