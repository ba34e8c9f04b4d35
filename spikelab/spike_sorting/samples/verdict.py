"""The look at a recording before it is sorted: what is wrong with it, and what follows from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.remarks import CODES, Remark, remark
from spikelab.spike_sorting.samples import channels, reading
from spikelab.spike_sorting.samples.channels import Measured
from spikelab.spike_sorting.samples.glance import Glance, glance_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BAND_HZ = (300.0, 6000.0)
"""Where noise is compared; not that of the settings, which a loaded recording does not depend on."""
_QUIETEST_UV, _LOUDEST_UV = 0.5, 200.0
_SHORT_S = 5.0
_MOST_NAMED = 20


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a look at the samples shows.

    Parameters
    ----------
    bad : mapping of str to ndarray of bool, shape (n_channels,)
        Channels that cannot be sorted, each by one code.
    misread : tuple of Remark
        Signs that the file is read in a wrong way: what else is seen means nothing then.
    remarks : tuple of Remark
        What does not keep the recording from being sorted.
    fill : ndarray of float64, shape (n_channels,), or None
        The middle of each channel, for samples without a number; None for types of samples that always are one.
    """

    bad: Mapping[str, NDArray[np.bool_]]
    misread: tuple[Remark, ...]
    remarks: tuple[Remark, ...]
    fill: NDArray[np.float64] | None

    @property
    def is_bad(self) -> NDArray[np.bool_]:
        """Which channels cannot be sorted."""
        import numpy as np

        return np.asarray(np.logical_or.reduce(list(self.bad.values())), np.bool_)


def judge(recording: Any, *, gain_is_known: bool = True) -> Verdict:
    """Return what is wrong with `recording`, a single segment with a probe, from windows all over it.

    Parameters
    ----------
    recording : BaseRecording
        What is to be sorted.
    gain_is_known : bool, default True
        Whether noise can be told in microvolts.

    Examples
    --------
    >>> from spikelab.simulation import simulate_recording
    >>> verdict = judge(simulate_recording("tetrode", duration_s=6.0).recording)
    >>> verdict.is_bad.any(), verdict.remarks
    (np.False_, ())
    """
    import numpy as np

    glance = glance_at(recording)
    measured = channels.measure(glance, _BAND_HZ)
    bad = channels.bad_channels(glance, measured, np.asarray(recording.get_channel_locations(), np.float64))
    found = Verdict(bad, (), (), _middles(glance))
    good = ~found.is_bad
    misread = tuple(_misread(glance, measured, good))
    told = () if misread or not good.any() else tuple(_told(recording, measured, good, gain_is_known=gain_is_known))
    return Verdict(bad, misread, told, found.fill)


def _middles(glance: Glance) -> NDArray[np.float64] | None:
    import numpy as np

    if glance.windows[0].dtype.kind != "f":
        return None
    samples = np.concatenate([window[:: max(1, len(window) // 100)] for window in glance.windows])
    samples = np.where(np.isfinite(samples), samples, np.nan).astype(np.float64)
    samples[:, np.isnan(samples).all(axis=0)] = 0.0
    return np.asarray(np.nanmedian(samples, axis=0), np.float64)


def _misread(glance: Glance, measured: Measured, good: NDArray[np.bool_]) -> Iterator[Remark]:
    import numpy as np

    if not good.any() and (measured.flat | measured.stuck | (measured.rail >= channels.SATURATED_FRAC)).all():
        return
    # What is read wrongly is so in all columns: where none is good, all of them tell of it.
    glance = glance.of_channels(good) if good.any() and not good.all() else glance
    samples = np.concatenate(glance.windows)
    if samples.dtype.kind == "f":
        # Samples without a number are told for themselves.
        samples = np.where(np.isfinite(samples), samples, 0)
    said = reading.misread_type(samples)
    if said is not None:
        yield remark("samples-misread", said)
    elif good.all() and (likely := reading.likely_n_channels(glance)) is not None:
        found = f"the samples repeat every {likely} values, and are read as {glance.n_channels} channels"
        yield remark("channel-count", found)


def _told(recording: Any, measured: Measured, good: NDArray[np.bool_], *, gain_is_known: bool) -> Iterator[Remark]:
    import numpy as np

    seconds = recording.get_num_samples() / recording.sampling_frequency
    if seconds < _SHORT_S:
        yield remark("recording-short", f"the recording lasts {seconds:.3g} s")
    lost = measured.lost[good]
    if lost.any():
        found = f"{lost.mean():.2g} of the samples looked at, on {_channels(lost > 0)}, are NaN or infinite"
        yield remark("samples-not-finite", found)
    _, clipped = channels.saturated_and_clipped(measured.rail)
    if (clipped & good).any():
        names = named(recording.channel_ids[clipped & good])
        yield remark("channels-clipped", f"{_channels(clipped & good)} touch the end of their range: {names}")
    if gain_is_known:
        noise_uV = float(np.median((measured.noise * np.abs(recording.get_channel_gains()))[good]))
        if not _QUIETEST_UV <= noise_uV <= _LOUDEST_UV:
            yield remark("gain-unlikely", f"the noise is {noise_uV:.2g} uV; 2 to 30 uV are usual")


def _channels(mask: NDArray[np.bool_]) -> str:
    n = int(mask.sum())
    return "1 channel" if n == 1 else f"{n} channels"


def bad_told(verdict: Verdict, channel_ids: NDArray[Any], *, left_out: bool) -> Iterator[Remark]:
    """Yield what is said of the bad channels, which are left out, or kept because the user says so."""
    for code, words in channels.CHECKS_OF_CHANNELS.items():
        mask = verdict.bad[code]
        if mask.any():
            what = "left out" if left_out else "kept, because bad_channels says so"
            found = f"{_channels(mask)} {words} {'is' if mask.sum() == 1 else 'are'} {what}: {named(channel_ids[mask])}"
            yield remark(code, found, CODES[code].advice if left_out else "")


def named(channel_ids: NDArray[Any]) -> str:
    """Return the names of channels, the first twenty of many."""
    listed = ", ".join(map(str, channel_ids[:_MOST_NAMED]))
    return listed + (", ..." if len(channel_ids) > _MOST_NAMED else "")
