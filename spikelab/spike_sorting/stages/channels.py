"""Gain and channels of the recording that is sorted: what the user says, and what its samples show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import NoGoodChannelsError, RecordingUnreadableError, SaturatedSignalError
from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.samples.verdict import Verdict, bad_told, judge, named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def prepared(recording: Any, options: RecordingConfig) -> tuple[Any, list[Remark]]:
    """Return `recording` with gain, with the channels that can be sorted alone, and with numbers alone.

    Parameters
    ----------
    recording : BaseRecording
        One segment, cut to the times that are sorted.
    options : RecordingConfig
        ``bad_channels="auto"`` leaves out what the samples show to be bad, and refuses a file that is read in a
        wrong way; a list or None is done as it says, and what else is seen is told.

    Raises
    ------
    RecordingUnreadableError
        There is no probe, or the file is read in a wrong way.
    NoGoodChannelsError, SaturatedSignalError
        No channel is left.
    ValueError
        ``bad_channels`` names a channel that is not there.
    """
    recording, of_gain = _with_gain(recording, options)
    if not recording.has_probe():
        msg = (
            "the recording has no probe geometry; name a probe file in probe_path, put one beside the recording, or "
            "attach a probe with recording.set_probe(probe)"
        )
        raise RecordingUnreadableError(msg)
    recording, of_settings = _as_set(recording, options)
    verdict = judge(recording, gain_is_known=not of_gain)
    acts = options.bad_channels == "auto"
    told = list(bad_told(verdict, recording.channel_ids, left_out=acts))
    if acts:
        recording, fill = _sortable(recording, verdict)
    else:
        fill = verdict.fill
        told += verdict.misread
    return _with_numbers(recording, fill), [*of_gain, *of_settings, *told, *verdict.remarks]


# ----------------------------------------------------------------------------------------- as the user says


def _with_gain(recording: Any, options: RecordingConfig) -> tuple[Any, list[Remark]]:
    """Set gain and offset where the user gave them, or where the file has none."""
    told: list[Remark] = []
    gain, offset = options.gain_to_uv, options.offset_to_uv
    if not recording.has_scaleable_traces() and gain is None:
        gain = 1.0
        told.append(remark("no-gain", "the file has no gain: amplitudes are in its own units"))
    if gain is None and offset is None:
        return recording, told
    recording = recording.clone()
    if gain is not None:
        recording.set_channel_gains(gain)
    if offset is not None or recording.get_channel_offsets() is None:
        recording.set_channel_offsets(offset or 0.0)
    return recording, told


def _as_set(recording: Any, options: RecordingConfig) -> tuple[Any, list[Remark]]:
    """Leave out the channels that the settings name."""
    told: list[Remark] = []
    if options.mea_y_max is not None:
        above = recording.get_channel_locations()[:, 1] > options.mea_y_max
        where = f"above y = {options.mea_y_max:g} um"
        recording, told = _without(recording, recording.channel_ids[above].tolist(), where)
    if options.bad_channels == "auto":
        return recording, told
    recording, named_ones = _without(recording, _named_channels(recording, options), "named in bad_channels")
    return recording, told + named_ones


def _without(recording: Any, channel_ids: Sequence[Any], why: str) -> tuple[Any, list[Remark]]:
    import numpy as np

    bad = recording.channel_ids[np.isin(recording.channel_ids, list(channel_ids))]
    if not bad.size:
        return recording, []
    if bad.size == recording.get_num_channels():
        msg = f"all {bad.size} channels are left out: {why}"
        raise NoGoodChannelsError(msg, total_channels=bad.size, bad_channels=[str(channel) for channel in bad])
    subject = "1 channel is" if bad.size == 1 else f"{bad.size} channels are"
    found = remark("channels-left-out", f"{subject} left out ({why}): {named(bad)}")
    return recording.remove_channels(bad), [found]


def _named_channels(recording: Any, options: RecordingConfig) -> list[Any]:
    wanted = [str(channel) for channel in options.bad_channels or ()]
    by_name = {str(channel): channel for channel in recording.channel_ids}
    if unknown := [name for name in wanted if name not in by_name]:
        msg = f"bad_channels names {unknown[0]!r}, which the recording does not have; it has {list(by_name)[:10]} ..."
        raise ValueError(msg)
    return [by_name[name] for name in wanted]


# ---------------------------------------------------------------------------------------- as the samples show


def _sortable(recording: Any, verdict: Verdict) -> tuple[Any, NDArray[np.float64] | None]:
    """Return the channels of `recording` that can be sorted, and what stands in them for a missing number."""
    if verdict.misread:
        raise RecordingUnreadableError(" ".join(map(str, verdict.misread)))
    bad = verdict.is_bad
    if bad.all():
        raise _nothing_left(recording, verdict)
    fill = None if verdict.fill is None else verdict.fill[~bad]
    return (recording.remove_channels(recording.channel_ids[bad]) if bad.any() else recording), fill


def _nothing_left(recording: Any, verdict: Verdict) -> SaturatedSignalError | NoGoodChannelsError:
    n, n_saturated = recording.get_num_channels(), int(verdict.bad["channels-saturated"].sum())
    told = "; ".join(one.message for one in bad_told(verdict, recording.channel_ids, left_out=True))
    msg = f"all {n} channels are left out: {told}"
    if 2 * n_saturated >= n:
        return SaturatedSignalError(msg, channels_saturated=n_saturated, total_channels=n)
    return NoGoodChannelsError(msg, total_channels=n, bad_channels=list(map(str, recording.channel_ids)))


def _with_numbers(recording: Any, fill: NDArray[np.float64] | None) -> Any:
    """Return a recording of floats without NaN and infinities, wherever they are: not every sample is looked at."""
    if fill is None:
        return recording
    from spikelab.spike_sorting.samples.repair import FiniteRecording

    return FiniteRecording(recording, fill.tolist())
