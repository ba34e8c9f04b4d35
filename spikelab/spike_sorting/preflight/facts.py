"""What the checks know of a recording: it is opened once, and a second at its start, middle and end is read.

Who wants to know what a sort will take has a probe of more seconds read, all over the recording.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError, SpikeSortingClassifiedError, error_from_dict
from spikelab.spike_sorting.backends.binary import SUPPORTED_DTYPES
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.joining import check_alike
from spikelab.spike_sorting.preflight.hdf5 import missing_filters
from spikelab.spike_sorting.samples.crossings import Activity, activity, channels_of_a_spike, spread_channels
from spikelab.spike_sorting.selection import Period, selected_periods
from spikelab.spike_sorting.sources import open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_READ_ERRORS = (OSError, ValueError, TypeError, LookupError, RuntimeError, AssertionError, EOFError, zlib.error)
"""What libraries raise for files that are damaged; RuntimeError is what compressors raise."""
_LARGEST_READ_VALUES = 1 << 25

SPIKES_PER_CHANNEL_S = 5.0
"""What is reckoned with where nobody knows.

Dense probes give about 2.6 (595 million spikes in seven days of 384 channels); twice that is assumed.
"""


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of a recording that could be opened.

    Parameters
    ----------
    fs_Hz : float
        Sampling rate.
    dtype : str
        Type of a sample.
    n_segments : int
        Segments of the file with the most.
    n_channels : int
        Channels that are left after ``mea_y_max`` and ``bad_channels``.
    n_samples : int
        Samples that are sorted.
    n_stray_bytes : int
        Bytes after the last whole sample of a flat binary file.
    is_flat_binary : bool
        Whether a sorter can read the file as it is.
    locations_um : ndarray of float64, shape (n_channels, 2 or 3), or None
        Positions of these channels; None without a probe.
    shanks : ndarray, shape (n_channels,)
        Which shank each channel belongs to.
    spikes_per_channel_s : float, default 5.0
        Spikes a second and channel that are reckoned with.
    """

    fs_Hz: float
    dtype: str
    n_segments: int
    n_channels: int
    n_samples: int
    n_stray_bytes: int
    is_flat_binary: bool
    locations_um: NDArray[np.float64] | None
    shanks: NDArray[Any]
    spikes_per_channel_s: float = SPIKES_PER_CHANNEL_S

    @property
    def duration_s(self) -> float:
        """Length of what is sorted (s)."""
        return self.n_samples / self.fs_Hz if self.fs_Hz > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        arrays = {
            "locations_um": None if self.locations_um is None else self.locations_um.tolist(),
            "shanks": self.shanks.tolist(),
        }
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, **arrays}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Header:
        """Return the header that `values` (from ``to_dict``) describes."""
        import numpy as np

        locations_um = values["locations_um"]
        arrays = {
            "locations_um": None if locations_um is None else np.array(locations_um, dtype=float),
            "shanks": np.array(values["shanks"]),
        }
        return cls(**{**values, **arrays})


def reckoning_with(header: Header, spikes_per_channel_s: float) -> Header:
    """Return `header` with another number of spikes to reckon with."""
    return replace(header, spikes_per_channel_s=spikes_per_channel_s)


@dataclass(frozen=True, eq=False)
class RecordingFacts:
    """A job and what is known of its recording.

    Parameters
    ----------
    job : Job
        The job.
    header : Header or None
        None when the recording cannot be opened.
    error : SpikeSortingClassifiedError or None
        Why it cannot be opened or read.
    misfits : tuple of str
        What does not fit together: files of one recording, or settings and the recording.
    silent : tuple of str
        Which of the seconds that were read have one value per channel throughout.
    activity : Activity or None
        How busy the channels are in the seconds that were read.
    """

    job: Job
    header: Header | None = None
    error: SpikeSortingClassifiedError | None = None
    misfits: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    activity: Activity | None = None

    @property
    def spikes_per_channel_s(self) -> float | None:
        """Spikes a second and channel that the crossings seen are, with one that is seen on several counted once."""
        if self.activity is None or self.header is None:
            return None
        places_um = self.header.locations_um
        return self.activity.crossings_Hz / (1.0 if places_um is None else channels_of_a_spike(places_um))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the job."""
        return {
            "header": self.header.to_dict() if self.header else None,
            "error": self.error.to_dict() if self.error else None,
            "misfits": list(self.misfits),
            "silent": list(self.silent),
            "activity": self.activity.to_dict() if self.activity else None,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], job: Job) -> RecordingFacts:
        """Return the facts on `job` that `values` (from ``to_dict``) describe."""
        return cls(
            job,
            header=Header.from_dict(values["header"]) if values["header"] else None,
            error=error_from_dict(values["error"]) if values["error"] else None,
            misfits=tuple(values["misfits"]),
            silent=tuple(values["silent"]),
            activity=Activity(**values["activity"]) if values["activity"] else None,
        )


def look(job: Job, probe_s: float = 0.0) -> RecordingFacts:
    """Return what there is to know of the recording of `job`; what is wrong with it is in there, not raised.

    Parameters
    ----------
    job : Job
        The sort.
    probe_s : float, default 0.0
        Seconds, all over the recording, by which its activity is judged; 0 for those that are read anyway.
    """
    if job.problem is not None:
        return RecordingFacts(job, error=job.problem)
    lacking = None
    try:
        lacking = missing_filters(job)
        parts = [job.in_memory] if job.in_memory is not None else open_source(job.source)
        check_alike(parts, job.source.names or (job.name,))
        facts, periods = _described(job, parts)
        if lacking is not None:
            return replace(facts, error=lacking)
        facts = _read(facts, parts, periods)
        return _probed(facts, parts, periods, probe_s) if probe_s and facts.error is None else facts
    except SpikeSortingClassifiedError as error:
        return RecordingFacts(job, error=lacking or error)
    except _READ_ERRORS as error:
        return RecordingFacts(job, error=lacking or _unreadable(job, "it cannot be opened", error))


def _unreadable(job: Job, what: str, cause: Exception, offset: int | None = None) -> RecordingUnreadableError:
    msg = f"{job.path}: {what} ({type(cause).__name__}: {cause})"
    error = RecordingUnreadableError(msg, path=job.path, offset=offset)
    error.__cause__ = cause
    return error


# ------------------------------------------------------------------------------------------------- the header


def _described(job: Job, parts: Sequence[Any]) -> tuple[RecordingFacts, list[Period]]:
    first, n_samples = parts[0], sum(_n_samples(part) for part in parts)
    periods, outside = _periods(job, n_samples, first.sampling_frequency)
    kept, unknown = _kept_channels(job, first)
    header = Header(
        fs_Hz=float(first.sampling_frequency),
        dtype=str(first.dtype),
        n_segments=int(max(part.get_num_segments() for part in parts)),
        n_channels=int(kept.sum()),
        n_samples=int(sum(end - start for start, end in periods)),
        n_stray_bytes=int(sum(map(_n_stray_bytes, parts))),
        is_flat_binary=bool(
            len(parts) == 1 and kept.all() and periods == [(0, n_samples)] and _is_flat(first, job.in_memory)
        ),
        locations_um=first.get_channel_locations()[kept] if first.has_probe() else None,
        shanks=_shanks(first)[kept],
    )
    return RecordingFacts(job, header, misfits=(*outside, *unknown, *_epoch_misfit(job, parts, periods))), periods


def _n_samples(recording: Any) -> int:
    return sum(recording.get_num_samples(segment) for segment in range(recording.get_num_segments()))


def _periods(job: Job, n_samples: int, fs_Hz: float) -> tuple[list[Period], list[str]]:
    try:
        return selected_periods(n_samples, fs_Hz, job.config.recording), []
    except ValueError as error:
        return [(0, n_samples)], [str(error)]


def _epoch_misfit(job: Job, parts: Sequence[Any], periods: Sequence[Period]) -> list[str]:
    chosen, n_epochs = job.config.curation.curation_epoch, len(parts) if len(parts) > 1 else len(periods)
    if chosen is None or chosen < n_epochs:
        return []
    epochs = "epochs 0 to" if n_epochs > 1 else "epoch"
    return [f"curation_epoch is {chosen}, and the recording has {epochs} {n_epochs - 1}"]


def _kept_channels(job: Job, recording: Any) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which channels the settings leave, and what is wrong with them; flat ones are found later."""
    import numpy as np

    options = job.config.recording
    kept = np.ones(recording.get_num_channels(), dtype=bool)
    if options.mea_y_max is not None and recording.has_probe():
        kept &= ~(recording.get_channel_locations()[:, 1] > options.mea_y_max)
    named = {str(channel) for channel in options.bad_channels or ()} if options.bad_channels != "auto" else set()
    names = [str(channel) for channel in recording.channel_ids]
    kept &= ~np.isin(names, list(named))
    unknown = sorted(named - set(names))
    misfits = [f"bad_channels names {unknown[0]!r}, which the recording does not have"] if unknown else []
    if not kept.any():
        misfits.append(f"mea_y_max and bad_channels leave none of its {kept.size} channels")
    return kept, misfits


def _is_flat(recording: Any, in_memory: Any) -> bool:
    """Return whether a sorter can read the file as it is; a recording in memory is saved as such a file."""
    flat = in_memory is not None or recording.binary_compatible_with(time_axis=0, file_paths_length=1, file_offset=0)
    # Floats are copied: some may be no numbers, which no sorter stands.
    return bool(flat) and str(recording.dtype) in SUPPORTED_DTYPES and recording.dtype.kind != "f"


def _n_stray_bytes(recording: Any) -> int:
    """Return how many bytes a flat binary file has after its last whole sample: a copy may have been cut."""
    if not recording.binary_compatible_with(time_axis=0, file_paths_length=1):
        return 0
    described = recording.get_binary_description()
    size = Path(described["file_paths"][0]).stat().st_size - int(described.get("file_offset", 0))
    return int(size % (described["num_channels"] * recording.dtype.itemsize))


def _shanks(recording: Any) -> NDArray[Any]:
    import numpy as np

    groups = recording.get_property("group")
    return np.zeros(recording.get_num_channels()) if groups is None else np.asarray(groups)


# --------------------------------------------------------------------------------------------------- the data


def _read(facts: RecordingFacts, parts: Sequence[Any], periods: Sequence[Period]) -> RecordingFacts:
    """Read a second at the start, the middle and the end of each file, as far as it is sorted."""
    silent: list[str] = []
    busy: list[Any] = []
    channels = _judged_channels(facts.job, parts[0])
    for part, name, kept in _kept_of_files(facts.job, parts, periods):
        for label, start, end in _windows(kept, part):
            where = f"its {label} second" if len(parts) == 1 else f"the {label} second of {name}"
            try:
                traces = _traces(part, start, end)
            except _READ_ERRORS as error:
                return replace(facts, error=_unreadable(facts.job, f"{where} cannot be read", error, start))
            if _is_constant(traces):
                silent.append(where)
            busy.append(traces[:, channels])
    return replace(facts, silent=tuple(silent), activity=activity(busy, float(parts[0].sampling_frequency)))


def _probed(facts: RecordingFacts, parts: Sequence[Any], periods: Sequence[Period], probe_s: float) -> RecordingFacts:
    """Judge the activity by windows of a second, evenly over what is sorted of all files."""
    channels, fs_Hz = _judged_channels(facts.job, parts[0]), float(parts[0].sampling_frequency)
    stretches = [(part, *period) for part, _, kept in _kept_of_files(facts.job, parts, periods) for period in kept]
    windows = (_traces(part, start, end)[:, channels] for part, start, end in _probe_windows(stretches, fs_Hz, probe_s))
    try:
        return replace(facts, activity=activity(windows, fs_Hz))
    except _READ_ERRORS as error:
        return replace(facts, error=_unreadable(facts.job, "some of it cannot be read", error))


def _probe_windows(
    stretches: Sequence[tuple[Any, int, int]], fs_Hz: float, probe_s: float
) -> Iterator[tuple[Any, int, int]]:
    """Yield windows of a second of the stretches (recording, start, end), all of them where they are short."""
    length, total = max(1, int(fs_Hz)), sum(end - start for _, start, end in stretches)
    step = max(length, int(total / max(1.0, probe_s)))
    offset, places = 0, range((step - length) // 2, total, step)
    for part, start, end in stretches:
        here = (start + place - offset for place in places if 0 <= place - offset < end - start)
        yield from ((part, place, min(place + length, end)) for place in here)
        offset += end - start


def _judged_channels(job: Job, recording: Any) -> NDArray[np.intp]:
    return spread_channels(_kept_channels(job, recording)[0])


def _traces(recording: Any, start: int, end: int) -> Any:
    traces = recording.get_traces(segment_index=0, start_frame=start, end_frame=end)
    expected = (end - start, recording.get_num_channels())
    if traces.shape != expected:
        msg = f"expected samples x channels {expected}, got {traces.shape}"
        raise ValueError(msg)
    return traces


def _kept_of_files(
    job: Job, parts: Sequence[Any], periods: Sequence[Period]
) -> Iterator[tuple[Any, str, list[Period]]]:
    """Yield each file that is sorted with its name and the periods in its own samples."""
    offset = 0
    for part, name in zip(parts, job.source.names or (job.name,), strict=False):
        length = _n_samples(part)
        cuts = ((max(start - offset, 0), min(end - offset, length)) for start, end in periods)
        kept = [(start, end) for start, end in cuts if start < end]
        if kept and part.get_num_segments() == 1:
            yield part, name, kept
        offset += length


def _windows(periods: Sequence[Period], recording: Any) -> Iterator[tuple[str, int, int]]:
    n = max(1, min(int(recording.sampling_frequency), _LARGEST_READ_VALUES // max(1, recording.get_num_channels())))
    (first_start, first_end), (last_start, last_end) = periods[0], periods[-1]
    middle_start, middle_end = periods[len(periods) // 2]
    middle = (middle_start + middle_end) // 2
    yield "first", first_start, min(first_start + n, first_end)
    yield "middle", middle, min(middle + n, middle_end)
    yield "last", max(last_end - n, last_start), last_end


def _is_constant(traces: Any) -> bool:
    import numpy as np

    return bool(traces.size and np.all(np.ptp(traces, axis=0) == 0))
