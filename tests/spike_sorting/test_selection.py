"""Which samples are sorted, against slices of an arange cut by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.selection import Epoch, epochs_of, selected_periods

FS_HZ = 100.0


@st.composite
def _requests(draw: st.DrawFn) -> tuple[list[int], dict[str, Any]]:
    """Return the lengths of some files, and what is to be sorted of them."""
    lengths = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4))
    n_samples = sum(lengths)
    wanted: dict[str, Any] = {}
    if draw(st.booleans()):
        edges = sorted(draw(st.sets(st.integers(0, n_samples), min_size=2, max_size=8)))
        wanted["rec_chunks"] = list(zip(edges[::2], edges[1::2], strict=False))
    if draw(st.booleans()):
        wanted["start_time_s"] = draw(st.integers(0, n_samples)) / FS_HZ
    if draw(st.booleans()):
        wanted["end_time_s"] = wanted.get("start_time_s", 0.0) + draw(st.integers(1, 2 * n_samples)) / FS_HZ
    if draw(st.booleans()):
        wanted["first_n_mins"] = draw(st.integers(1, 2 * n_samples)) / FS_HZ / 60
    return lengths, wanted


def _cut_by_hand(n_samples: int, wanted: dict[str, Any]) -> np.ndarray:
    """Return the samples that are left, sample by sample."""
    samples = np.arange(n_samples)
    if "rec_chunks" in wanted:
        samples = np.concatenate([np.arange(start, end) for start, end in wanted["rec_chunks"]])
    times_s = samples / FS_HZ
    inside = (times_s >= wanted.get("start_time_s", 0.0) - 1e-9) & (times_s < wanted.get("end_time_s", np.inf) - 1e-9)
    n_first = wanted.get("first_n_mins", np.inf) * 60 * FS_HZ
    return samples[inside][np.arange(inside.sum()) < n_first - 1e-6]


@given(request=_requests())
def test_periods_and_epochs_are_what_a_hand_would_cut(request: tuple[list[int], dict[str, Any]]) -> None:
    """Periods hold exactly the chosen samples, and each epoch holds exactly those of its file or chunk."""
    lengths, wanted = request
    recording, names = np.arange(sum(lengths)), [f"file {k}" for k in range(len(lengths))]
    expected = _cut_by_hand(recording.size, wanted)
    if not expected.size:
        with pytest.raises(ValueError, match="leave nothing of the recording"):
            selected_periods(recording.size, FS_HZ, RecordingConfig(**wanted))
        return
    periods = selected_periods(recording.size, FS_HZ, RecordingConfig(**wanted))
    cut = np.concatenate([recording[start:end] for start, end in periods])
    np.testing.assert_array_equal(cut, expected)

    epochs = epochs_of(lengths, names, periods)
    assert [epoch.start for epoch in epochs] == [0, *(epoch.end for epoch in epochs[:-1])]
    assert epochs[-1].end == cut.size
    if len(lengths) > 1:
        borders = np.cumsum([0, *lengths])
        for epoch, name, low, high in zip(epochs, names, borders[:-1], borders[1:], strict=True):
            assert epoch.name == name
            np.testing.assert_array_equal(cut[epoch.start : epoch.end], cut[(cut >= low) & (cut < high)])
    else:
        for epoch, (start, end) in zip(epochs, periods, strict=True):
            np.testing.assert_array_equal(cut[epoch.start : epoch.end], recording[start:end])


def test_seconds_are_samples() -> None:
    """Chunks in seconds are those in samples, and infinity is the end of the recording."""
    in_s = RecordingConfig(rec_chunks_s=[(0.1, 0.5), (1, math.inf)])
    in_samples = RecordingConfig(rec_chunks=[(10, 50), (100, 300)])
    assert selected_periods(300, FS_HZ, in_s) == selected_periods(300, FS_HZ, in_samples) == [(10, 50), (100, 300)]
    endless = RecordingConfig(end_time_s=math.inf, first_n_mins=math.inf)
    assert selected_periods(300, FS_HZ, endless) == [(0, 300)]


def test_the_first_minutes_count_what_is_left() -> None:
    """Chunks are cut by the times first, and the first minutes count over what is left."""
    wanted = RecordingConfig(rec_chunks=[(0, 100), (200, 300)], start_time_s=0.5, first_n_mins=1 / 60)
    assert selected_periods(300, FS_HZ, wanted) == [(50, 100), (200, 250)]


def test_epochs_are_named() -> None:
    """The chunks of one file are its parts; files keep their names, also when nothing of one is left."""
    assert epochs_of([300], ["a.raw.h5"], [(0, 300)]) == [Epoch("a.raw.h5", 0, 300)]
    parts = epochs_of([300], ["a.raw.h5"], [(10, 30), (50, 100)])
    assert parts == [Epoch("a.raw.h5 part 1", 0, 20), Epoch("a.raw.h5 part 2", 20, 70)]
    files = epochs_of([100, 100, 100], ["a", "b", "c"], [(50, 100), (200, 210)])
    assert files == [Epoch("a", 0, 50), Epoch("b", 50, 50), Epoch("c", 50, 60)]


@pytest.mark.parametrize(
    "wanted,said",
    [
        ({"rec_chunks": [(0, 301)]}, r"samples 0 to 301 ends after the recording, which has 300 samples \(3 s\)"),
        ({"rec_chunks": [(0, 100), (50, 200)]}, "in order and must not overlap"),
        ({"rec_chunks": [(100, 200), (0, 50)]}, "in order and must not overlap"),
        ({"start_time_s": 3}, "leave nothing of the recording, which lasts 3 s"),
        ({"first_n_mins": 1e-9}, "leave nothing of the recording"),
    ],
)
def test_impossible_choices_are_refused(wanted: dict[str, Any], said: str) -> None:
    """Chunks beyond the end, out of order or overlapping, and times that leave nothing, are errors."""
    with pytest.raises(ValueError, match=said):
        selected_periods(300, FS_HZ, RecordingConfig(**wanted))
