"""Recordings whose spikes are known, as recording systems would have written them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spikelab.simulation._spec import SimulationSpec, default_n_units
from spikelab.simulation.layouts import find_layout, place_contacts

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A simulated recording and the truth about it.

    Attributes
    ----------
    recording : spikeinterface.core.BaseRecording
        Integer samples with gains, offsets and a probe; lazy.
    sorting : spikeinterface.core.BaseSorting
        The true spike trains; a spike's sample index is that of its trough. Held in memory.
    unit_locations_um : ndarray, shape (n_units, 3), float32
        x and y on the probe, z the distance from its plane (um).
    templates_uV : ndarray, shape (n_units, n_samples, n_channels), float32
        Noise-free spikes (uV). For a drifting recording: those at displacement 0.
    peak_uV : ndarray, shape (n_units,), float64
        Absolute trough amplitude of each unit on its largest channel (uV), that is
        ``-templates_uV.min(axis=(1, 2))``.
    """

    recording: BaseRecording
    sorting: BaseSorting
    unit_locations_um: npt.NDArray[np.floating]
    templates_uV: npt.NDArray[np.floating]
    peak_uV: npt.NDArray[np.floating]


def simulate_recording(
    layout: str = "mea",
    *,
    n_channels: int | None = None,
    duration_s: float = 60.0,
    n_units: int | None = None,
    fs_Hz: float = 20_000.0,
    seed: int = 0,
    drift: bool = False,
    noise_uV: float = 8.0,
    peak_uV: tuple[float, float] = (60.0, 200.0),
    rate_Hz: tuple[float, float] = (1.0, 8.0),
    gain_uV: float = 0.195,
    offset_uV: float = 0.0,
    dtype: str = "int16",
) -> GroundTruth:
    """Return a recording with known spikes; the same arguments give the same samples.

    The recording is lazy: samples are computed when they are read, so its length costs no memory. It
    can be dumped to JSON or pickled (it is rebuilt from these arguments); the sorting lives in memory
    and is kept with ``truth.sorting.save(folder=...)``. Reading a recording often is faster from a
    copy on disk: ``truth.recording.save(folder=...)``.

    Parameters
    ----------
    layout : str, default: "mea"
        One of `LAYOUTS`.
    n_channels : int, optional
        Number of contacts; None takes the layout's own.
    duration_s : float, default: 60.0
        Length (s), rounded to whole samples.
    n_units : int, optional
        Number of units; None takes one for every three contacts, at least 4. 0 gives noise alone. On
        several shanks the units are shared out evenly.
    fs_Hz : float, default: 20000.0
        Sampling rate (Hz), at least 12000.
    seed : int, default: 0
        Decides everything random.
    drift : bool, default: False
        Move all units together along y, slowly up and down by 15 um around their locations: once in
        the recording, or once in 200 s in longer ones.
    noise_uV : float, default: 8.0
        Standard deviation of the white noise (uV).
    peak_uV : (float, float), default: (60.0, 200.0)
        Bounds of the units' absolute trough amplitude on their largest channel (uV); uniform, and
        truly reached: ``(110, 110)`` gives units of 110 uV. With drift: at displacement 0.
    rate_Hz : (float, float), default: (1.0, 8.0)
        Bounds of the units' firing rates (Hz); Poisson with 4 ms of refractoriness.
    gain_uV : float, default: 0.195
        Size of one step of the samples (uV).
    offset_uV : float, default: 0.0
        Voltage of the sample value 0 (uV). Maxwell: ``dtype="uint16", gain_uV=6.294,
        offset_uV=-512 * 6.294``.
    dtype : {"int16", "uint16"}, default: "int16"
        Of the samples, which are ``round((uV - offset_uV) / gain_uV)``, clipped to the dtype.

    Returns
    -------
    GroundTruth
        The recording and the truth about it.

    Raises
    ------
    ValueError
        An unknown layout, or a value outside of what is said above.

    Examples
    --------
    >>> from spikelab.simulation import simulate_recording
    >>> truth = simulate_recording("tetrode", duration_s=1.0, n_units=1, peak_uV=(110, 110))
    >>> truth.recording.get_traces().shape, str(truth.recording.dtype)
    ((20000, 4), 'int16')
    >>> float(truth.peak_uV[0])
    110.0
    """
    n_contacts = len(place_contacts(find_layout(layout), n_channels))
    spec = SimulationSpec(
        layout=layout,
        n_channels=n_contacts,
        duration_s=float(duration_s),
        n_units=default_n_units(n_contacts) if n_units is None else int(n_units),
        fs_Hz=float(fs_Hz),
        seed=int(seed),
        drift=bool(drift),
        noise_uV=float(noise_uV),
        peak_uV=peak_uV,
        rate_Hz=rate_Hz,
        gain_uV=float(gain_uV),
        offset_uV=float(offset_uV),
        dtype=str(dtype),
    )
    return _ground_truth(spec)


def _ground_truth(spec: SimulationSpec) -> GroundTruth:
    from spikelab.simulation._simulated import SimulatedRecording

    recording = SimulatedRecording(**asdict(spec))
    parts = recording.parts
    return GroundTruth(
        recording=recording,
        sorting=parts.sorting,
        unit_locations_um=parts.locations_um,
        templates_uV=parts.templates_uV,
        peak_uV=parts.peak_uV,
    )
