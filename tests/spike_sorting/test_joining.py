"""Files that are sorted as one must be alike; what differs is named with its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from probeinterface import generate_linear_probe
from spikeinterface.core import NumpyRecording

from spikelab.spike_sorting import RecordingsDifferError
from spikelab.spike_sorting.joining import check_alike, joined

Change = Callable[[Any], Any]


def recording(
    n_samples: int = 30, fs_Hz: float = 20_000.0, dtype: str = "int16", first: int = 0, last_at: float = 60.0
) -> Any:
    """Return samples of four channels that count on from `first`."""
    traces = np.arange(first, first + n_samples * 4).reshape(n_samples, 4).astype(dtype)
    made = NumpyRecording([traces], fs_Hz, channel_ids=["a", "b", "c", "d"])
    made.set_channel_gains(0.5)
    made.set_channel_offsets(0.0)
    probe = generate_linear_probe(4, ypitch=20)
    probe.contact_positions[3] = (0, last_at)
    probe.set_device_channel_indices(np.arange(4))
    made.set_probe(probe)
    return made


def with_gain(made: Any) -> Any:
    made.set_channel_gains([0.5, 0.5, 0.195, 0.5])
    return made


def without_gain(made: Any) -> Any:
    made.delete_property("gain_to_uV")
    return made


def renamed(made: Any) -> Any:
    return made.rename_channels(["a", "b", "x", "d"])


DIFFERENT: dict[str, tuple[Change, str]] = {
    "rate": (lambda _: recording(fs_Hz=10_000.0), "the sampling rate is 10000 Hz and not 20000 Hz"),
    "type": (lambda _: recording(dtype="float32"), "the data type is float32 and not int16"),
    "channels": (lambda made: made.remove_channels(["b"]), "the number of channels is 3 and not 4"),
    "names": (renamed, "1 of 4 channels are others (x and not c)"),
    "order": (lambda made: made.select_channels(["a", "b", "d", "c"]), "the channels are in another order"),
    "gain": (
        with_gain,
        "1 of 4 channels have another gain (channel c: 0.195 uV per count and not 0.5 uV per count)",
    ),
    "no gain": (without_gain, "it has no gain, unlike the first"),
    "places": (
        lambda _: recording(last_at=65.0),
        "1 of 4 channels lie elsewhere (channel d: (0, 65) um and not (0, 60) um)",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_differs_is_named_with_its_file(what: str) -> None:
    """Whatever differs, the error names the file, the first one, and both values."""
    change, said = DIFFERENT[what]
    parts = [recording(), recording(), change(recording())]
    with pytest.raises(RecordingsDifferError) as caught:
        check_alike(parts, ["one.h5", "two.h5", "three.h5"])
    assert f"not all are like one.h5. three.h5: {said}" in str(caught.value)
    assert caught.value.path == "three.h5"
    assert "two.h5" not in str(caught.value)


def test_every_file_that_differs_is_named() -> None:
    """Several files and several differences are told at once."""
    parts = [recording(), recording(fs_Hz=1e4), recording(fs_Hz=3e4, dtype="int32")]
    with pytest.raises(ValueError, match=r"two: the sampling rate.*three: the sampling rate.*; the data type"):
        joined(parts, ["one", "two", "three"])


def test_files_of_any_length_are_joined_in_their_order() -> None:
    """Samples follow each other without a gap, whatever the lengths; one recording alone stays itself."""
    lengths = (30, 1, 500)
    parts = [recording(n, first=1000 * k) for k, n in enumerate(lengths)]
    whole = joined(parts, ["b", "a", "c"])
    assert whole.get_num_samples() == sum(lengths)
    np.testing.assert_array_equal(whole.get_traces(), np.concatenate([part.get_traces() for part in parts]))
    assert joined(parts[:1], ["b"]) is parts[0]
