"""Why no spikes were found: silence, or samples, gain, polarity or geometry that are not what they were taken for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import InsufficientActivityError
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.geometry import position_problems
from spikelab.spike_sorting.samples.reading import misread_type, spread_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_N_WINDOWS, _WINDOW_S = 8, 0.25
_THRESHOLD, _BY_CHANCE = 5.0, 5.7e-7
"""A peak counts beyond so many times the noise; the share of samples of pure noise that are."""
_FEWEST_PEAKS = 10
_QUIETEST_UV, _LOUDEST_UV, _USUAL_UV = 0.5, 200.0, 8.0
_RAILED_FRAC, _MANY_CHANNELS_FRAC = 0.05, 0.25
_DEAD_TIME_S = 0.001
_LOWEST_SCALE, _HIGHEST_SCALE = 0.1, 1000.0
"""Noise of float samples beyond which Kilosort4 needs another scale."""


@dataclass(frozen=True, eq=False)
class Glance:
    """Some of a recording, as its file has it.

    Parameters
    ----------
    windows : tuple of ndarray, shape (n_samples, n_channels)
        Samples of the file, not scaled.
    fs_Hz : float
        Sampling rate.
    places_um : ndarray, shape (n_channels, 2), float64
        Positions.
    shanks : ndarray, shape (n_channels,)
        Shank of each channel.
    gain_uV, offset_uV : ndarray, shape (n_channels,) or (), float64
        Size of one step, and voltage of the sample value 0.
    band_Hz : tuple of float
        Band in which spikes are looked for.
    inverted : bool
        Whether the sorter was told to turn the signal over.
    """

    windows: tuple[NDArray[Any], ...]
    fs_Hz: float
    places_um: NDArray[np.float64]
    shanks: NDArray[Any]
    gain_uV: NDArray[np.float64]
    offset_uV: NDArray[np.float64]
    band_Hz: tuple[float, float] = (300.0, 6000.0)
    inverted: bool = False


@dataclass(frozen=True)
class Cause:
    """One thing that keeps spikes from being found.

    Parameters
    ----------
    about : str
        "dtype", "rail", "constant", "gain", "polarity", "geometry", "threshold" or "silence".
    message : str
        What was found.
    advice : str
        What to do, a sentence.
    """

    about: str
    message: str
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """What a glance shows.

    Parameters
    ----------
    seconds : float
        How much was looked at (s).
    noise_uV : float
        Median over the channels of the noise in the band (uV).
    n_negative, n_positive : int
        Peaks beyond 5 times the noise, over all channels, by the sign of the larger phase.
    n_by_chance : float
        Such peaks that noise alone would have.
    causes : tuple of Cause
        What was found, never empty: in a recording that seems right, that it is silent, or that it is not.
    """

    seconds: float
    noise_uV: float
    n_negative: int
    n_positive: int
    n_by_chance: float
    causes: tuple[Cause, ...] = ()

    @property
    def n_peaks(self) -> int:
        """Peaks of either sign."""
        return self.n_negative + self.n_positive

    @property
    def is_active(self) -> bool:
        """Whether the signal crosses the threshold more often than noise does."""
        return self.n_peaks >= _FEWEST_PEAKS and self.n_peaks > 5 * self.n_by_chance

    def __str__(self) -> str:
        active = ", which is no silence" if self.is_active else ""
        seen = (
            f"in {self.seconds:g} s of the recording the signal goes {_times(self.n_peaks)} "
            f"beyond {_THRESHOLD:g} times its noise of {self.noise_uV:.3g} uV{active}"
        )
        return f"{seen}; {'; '.join(cause.message for cause in self.causes)}"


def _times(number: float) -> str:
    return "once" if round(number) == 1 else f"{number:.0f} times"


def explained(error: InsufficientActivityError, job: SortJob) -> InsufficientActivityError:
    """Return `error` with what its recording shows, which is silence only where nothing else explains it."""
    diagnosis = diagnose(glance_at(job))
    details = {
        **error.details,
        "threshold_crossings": diagnosis.n_peaks,
        "findings": [asdict(cause) for cause in diagnosis.causes],
    }
    return InsufficientActivityError(f"{error}: {diagnosis}", **details)


def glance_at(job: SortJob) -> Glance:
    """Return two seconds of the recording of `job`, in windows all over it."""
    import numpy as np

    recording, settings = job.recording, job.config.recording
    fs_Hz, n_samples = float(recording.sampling_frequency), recording.get_num_samples()
    length = min(int(_WINDOW_S * fs_Hz), n_samples)
    starts = np.unique(np.linspace(0, n_samples - length, _N_WINDOWS, dtype=int)).tolist()
    if n_samples < _N_WINDOWS * length:
        starts, length = [0], n_samples
    gains, offsets, shanks = (
        recording.get_channel_gains(),
        recording.get_channel_offsets(),
        recording.get_property("group"),
    )
    return Glance(
        windows=tuple(recording.get_traces(start_frame=start, end_frame=start + length) for start in starts),
        fs_Hz=fs_Hz,
        places_um=np.asarray(recording.get_channel_locations()[:, :2], np.float64),
        shanks=np.zeros(recording.get_num_channels()) if shanks is None else shanks,
        gain_uV=np.asarray(1.0 if gains is None else gains, np.float64),
        offset_uV=np.asarray(0.0 if offsets is None else offsets, np.float64),
        band_Hz=(settings.freq_min, min(settings.freq_max, 0.45 * fs_Hz)),
        inverted=bool(job.config.sorter.sorter_params.get("invert_sign", False)),
    )


def diagnose(glance: Glance) -> Diagnosis:
    """Return what keeps spikes from being found in what `glance` shows.

    Samples that are not what they were taken for are told alone: gain and polarity of such samples mean nothing.
    """
    import numpy as np

    samples = np.concatenate(glance.windows)
    misread = [*_constant(samples), *(list(_railed(samples)) or _misread(samples))]
    geometry = _geometry(glance)
    noise_uV, n_negative, n_positive = _peaks(glance)
    seen = Diagnosis(
        seconds=len(samples) / glance.fs_Hz,
        noise_uV=noise_uV,
        n_negative=n_negative,
        n_positive=n_positive,
        n_by_chance=samples.size * _BY_CHANCE,
    )
    causes = [*misread, *geometry] if misread else [*_gain(samples, seen), *_polarity(seen, glance), *geometry]
    return Diagnosis(**{**vars(seen), "causes": tuple(causes or [_remaining(seen)])})


# ------------------------------------------------------------------------------------------------ the samples


def _constant(samples: NDArray[Any]) -> Iterator[Cause]:

    n_channels = samples.shape[1]
    n_constant = int((samples == samples[0]).all(axis=0).sum())
    if n_constant >= max(1, n_channels / 2):
        yield Cause(
            "constant",
            f"{n_constant} of {n_channels} channels are constant",
            "Check that the right stream was recorded and read, and that the file is complete.",
        )


def _misread(samples: NDArray[Any]) -> list[Cause]:
    """Return the way in which `samples` look like samples of another type, if they do."""
    said = misread_type(samples)
    if said is None:
        return []
    right = "the right data type, byte order, header and number of channels"
    advice = f"Read the file again with {right}, not as {samples.dtype}."
    return [Cause("dtype", said, advice)]


def _railed(samples: NDArray[Any]) -> Iterator[Cause]:
    """Yield that channels sit at the largest or smallest value of all: what has few values only is no rail."""
    import numpy as np

    low, high = samples.min(), samples.max()
    many = [len(np.unique(channel)) for channel in samples.T]
    at_rail = (samples == low).mean(axis=0) + (samples == high).mean(axis=0) > _RAILED_FRAC
    n_railed = int((at_rail & (np.asarray(many) > 100)).sum())
    if n_railed > _MANY_CHANNELS_FRAC * samples.shape[1]:
        yield Cause(
            "rail",
            f"{n_railed} of {samples.shape[1]} channels stay at a rail ({low:g} or {high:g})",
            "Check the electrodes, the ground and their contact with the fluid; the amplifier is at its rail.",
        )


# ------------------------------------------------------------------------------------------------- the signal


def _peaks(glance: Glance) -> tuple[float, int, int]:
    """Return the noise (uV), and how many peaks beyond the threshold are negative and positive."""
    import numpy as np

    filtered = [_filtered_uV(window, glance) for window in glance.windows]
    noise = np.median(np.abs(np.concatenate(filtered)), axis=0) / 0.6745
    distance = max(1, int(_DEAD_TIME_S * glance.fs_Hz))
    signs = [
        _peak_signs(window[:, channel], _THRESHOLD * noise[channel], distance)
        for window in filtered
        for channel in np.flatnonzero(noise > 0)
    ]
    negative = sum(int((sign < 0).sum()) for sign in signs)
    return float(np.median(noise)), negative, sum(sign.size for sign in signs) - negative


def _peak_signs(trace: NDArray[np.float64], height: float, distance: int) -> NDArray[np.float64]:
    """Return the sign of each event: that of its larger phase, as a spike's smaller one may cross too."""
    import numpy as np
    from scipy.signal import find_peaks

    at_peaks = trace[find_peaks(np.abs(trace), height=height, distance=distance)[0]]
    return np.asarray(np.sign(at_peaks), np.float64)


def _filtered_uV(window: NDArray[Any], glance: Glance) -> NDArray[np.float64]:
    import numpy as np
    from scipy.signal import butter, sosfiltfilt

    finite = np.nan_to_num(window, posinf=0.0, neginf=0.0).astype(np.float64)
    trace = finite * glance.gain_uV + glance.offset_uV
    if len(trace) < 30:  # shorter than the filter's own ends
        return np.asarray(trace - np.median(trace, axis=0), np.float64)
    band = butter(3, glance.band_Hz, "bandpass", fs=glance.fs_Hz, output="sos")
    return np.asarray(sosfiltfilt(band, trace, axis=0), np.float64)


def _gain(samples: NDArray[Any], seen: Diagnosis) -> Iterator[Cause]:
    if not _QUIETEST_UV <= seen.noise_uV <= _LOUDEST_UV:
        decades = round(math.log10(max(seen.noise_uV, 1e-12) / _USUAL_UV))
        off = f"{10 ** abs(decades):g} times too {'large' if decades > 0 else 'small'}"
        yield Cause(
            "gain",
            f"noise is 2 to 30 uV as a rule, so that the gain seems some {off}",
            "Set gain_to_uv to the microvolts of one step of the file.",
        )
    spread = spread_of(samples)
    if samples.dtype.kind == "f" and not _LOWEST_SCALE <= spread <= _HIGHEST_SCALE:
        yield Cause(
            "gain",
            f"the samples are {samples.dtype} with a spread of {spread:.2g}, and Kilosort4 wants about 10",
            f"Set kilosort_params={{'scale': {10 / spread if spread else 1.0:.1g}}}.",
        )


def _polarity(seen: Diagnosis, glance: Glance) -> Iterator[Cause]:
    upside = (seen.n_negative, seen.n_positive) if glance.inverted else (seen.n_positive, seen.n_negative)
    if seen.is_active and upside[0] > 2 * upside[1]:
        turned = ", after invert_sign" if glance.inverted else ""
        yield Cause(
            "polarity",
            f"{upside[0]} of these peaks are positive and {upside[1]} negative{turned}: the polarity seems wrong",
            "Leave invert_sign out." if glance.inverted else "Set kilosort_params={'invert_sign': True}.",
        )


def _geometry(glance: Glance) -> list[Cause]:
    import numpy as np

    if not np.isfinite(glance.places_um).all():
        found: Sequence[str] = ["some channels have no position"]
    else:
        found = position_problems(glance.places_um, glance.shanks)
    advice = "Attach the probe of this recording with recording.set_probegroup(probe); positions are in um."
    return [Cause("geometry", problem, advice) for problem in found]


def _remaining(seen: Diagnosis) -> Cause:
    """Return what is left once samples, gain, polarity and geometry are as they should be."""
    right = "data type, gain, polarity and geometry look right"
    if seen.is_active:
        return Cause(
            "threshold",
            f"{right}, so that settings seem to hide the spikes",
            "Lower Th_universal and Th_learned by one or two, and look at what else kilosort_params say.",
        )
    return Cause(
        "silence",
        f"noise alone would do so {_times(seen.n_by_chance)}, and {right}: the recording is silent",
        "The recording is too silent to sort: lower the detection thresholds, or skip it.",
    )
