"""Which samples are sorted, and where each file or chunk of them lies afterwards. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from spikelab.spike_sorting.config import RecordingConfig

Period = tuple[int, int]


@dataclass(frozen=True)
class Epoch:
    """A named part of the sorted recording.

    Parameters
    ----------
    name : str
        Name of the file, or of the chunk.
    start, end : int
        Samples of the recording that was sorted, end excluded.
    """

    name: str
    start: int
    end: int


def selected_periods(n_samples: int, fs_Hz: float, settings: RecordingConfig) -> list[Period]:
    """Return the periods that are sorted, in samples of the recording as it was read.

    Chunks are cut to ``start_time_s``-``end_time_s``, and ``first_n_mins`` counts over what is left.

    Raises
    ------
    ValueError
        A chunk ends after the recording, or nothing is left.
    """
    periods = _chunks(n_samples, fs_Hz, settings)
    start = _sample(settings.start_time_s or 0.0, fs_Hz, n_samples)
    end = n_samples if settings.end_time_s is None else _sample(settings.end_time_s, fs_Hz, n_samples)
    periods = [cut for period in periods if (cut := _intersection(period, (start, end)))]
    if settings.first_n_mins is not None:
        periods = _first(periods, _sample(settings.first_n_mins * 60, fs_Hz, n_samples))
    if not periods:
        msg = (
            f"the chosen times leave nothing of the recording, which lasts {n_samples / fs_Hz:g} s; "
            "check rec_chunks, start_time_s, end_time_s and first_n_mins"
        )
        raise ValueError(msg)
    return periods


def _sample(time_s: float, fs_Hz: float, n_samples: int) -> int:
    """Return the sample at a time; infinity is the end of the recording."""
    return n_samples if math.isinf(time_s) else round(time_s * fs_Hz)


def epochs_of(file_lengths: Sequence[int], names: Sequence[str], periods: Sequence[Period]) -> list[Epoch]:
    """Return where each file lies in the concatenation of `periods`; of one file, where each period lies.

    Parameters
    ----------
    file_lengths : sequence of int
        Samples of each file, in the order of concatenation.
    names : sequence of str
        Their names.
    periods : sequence of (int, int)
        From `selected_periods`.
    """
    if len(file_lengths) == 1:
        lengths = [end - start for start, end in periods]
        labels = names if len(periods) == 1 else [f"{names[0]} part {k + 1}" for k in range(len(periods))]
    else:
        lengths = _kept_per_file(file_lengths, periods)
        labels = names
    epochs, position = [], 0
    for name, length in zip(labels, lengths, strict=True):
        epochs.append(Epoch(name, position, position + length))
        position += length
    return epochs


def _kept_per_file(file_lengths: Sequence[int], periods: Sequence[Period]) -> list[int]:
    kept, position = [], 0
    for length in file_lengths:
        file = (position, position + length)
        cuts = (_intersection(period, file) for period in periods)
        kept.append(sum(cut[1] - cut[0] for cut in cuts if cut))
        position += length
    return kept


def _chunks(n_samples: int, fs_Hz: float, settings: RecordingConfig) -> list[Period]:
    if settings.rec_chunks is not None:
        chunks = [(start, end) for start, end in settings.rec_chunks]
    elif settings.rec_chunks_s is not None:
        chunks = [(round(start * fs_Hz), _sample(end, fs_Hz, n_samples)) for start, end in settings.rec_chunks_s]
    else:
        chunks = [(0, n_samples)]
    for start, end in chunks:
        if end > n_samples:
            msg = (
                f"the chunk of samples {start} to {end} ends after the recording, which has {n_samples} samples "
                f"({n_samples / fs_Hz:g} s)"
            )
            raise ValueError(msg)
    if any(later[0] < earlier[1] for earlier, later in pairwise(chunks)):
        msg = f"rec_chunks must be in order and must not overlap, got {chunks} (samples)"
        raise ValueError(msg)
    return chunks


def _intersection(one: Period, other: Period) -> Period | None:
    start, end = max(one[0], other[0]), min(one[1], other[1])
    return (start, end) if start < end else None


def _first(periods: Sequence[Period], n_samples: int) -> list[Period]:
    kept, left = [], n_samples
    for start, end in periods:
        if left > 0:
            kept.append((start, min(end, start + left)))
            left -= end - start
    return kept
