"""To and from NWB files, with pynwb and nwbinspector as judges."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest
from nwbinspector import Importance, inspect_nwbfile
from pynwb import NWBHDF5IO, NWBFile

from spikelab.spikedata import SpikeData

WHEN = datetime(2024, 5, 17, 14, 30, tzinfo=timezone.utc)
MOUSE = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P60D"}


def by_hand(**parts):
    attributes = [
        {"unit_id": 4, "label": "good", "snr": 5.0, "spike_amplitudes": np.array([1.0, 2.0]), "odd": {"a": 1}},
        {"unit_id": 9, "label": "mua", "snr": np.nan, "spike_amplitudes": np.zeros(0), "some": 1},
    ]
    metadata = {
        "fs_Hz": 20_000.0,
        "rec_chunks_ms": [[0.0, 600.0], [600.0, 1000.0]],
        "rec_chunk_names": ["a", "b\udce9"],
    }
    made = {"length": 1000.0, "neuron_attributes": attributes, "metadata": metadata}
    return SpikeData([[100.0, 250.5], []], **{**made, **parts})


def test_inspector_and_pynwb_find_a_good_file(measured, tmp_path):
    """Nothing that nwbinspector calls critical or a violation, and pynwb reads spikes, templates and electrodes."""
    path = tmp_path / "a.nwb"
    measured.to_nwb(path, session_start_time=WHEN, subject=MOUSE, location="VISp", lab="a lab")
    harmless = {Importance.BEST_PRACTICE_SUGGESTION}
    assert not [found.message for found in inspect_nwbfile(nwbfile_path=path) if found.importance not in harmless]
    with NWBHDF5IO(path, "r") as io:
        file = io.read()
        assert file.session_start_time == WHEN
        assert file.units.resolution == 1 / 20_000
        assert len(file.electrodes) == 12
        assert file.electrodes["rel_y"][:].tolist() == measured.metadata["channel_locations"][:, 1].tolist()
        for unit, times in enumerate(measured.train):
            np.testing.assert_allclose(file.units["spike_times"][unit], times / 1000.0)
            np.testing.assert_allclose(
                file.units["waveform_mean"][unit], measured.neuron_attributes[unit]["template_full"] * 1e-6, rtol=1e-6
            )
        assert file.units["obs_intervals"][0].tolist() == [[0.0, 5.0]]


def test_the_way_there_and_back(measured, tmp_path):
    """Spikes, span, ids, templates and columns survive."""
    measured.to_nwb(tmp_path / "a.nwb", session_start_time=WHEN)
    back = SpikeData.from_nwb(tmp_path / "a.nwb")
    assert (back.length, back.start_time, back.metadata["fs_Hz"]) == (5000.0, 0.0, 20_000.0)
    for ours, theirs in zip(measured.train, back.train, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-9)
    for ours, theirs in zip(measured.neuron_attributes, back.neuron_attributes, strict=True):
        assert theirs["unit_id"] == ours["unit_id"]
        for name in ("template", "template_channels", "avg_waveform", "position", "spike_amplitudes", "snr", "channel"):
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5)


def test_hand_made_units_epochs_and_odd_values(tmp_path):
    """Silent units, epochs and per-spike values survive; what NWB has no place for is left out, or told by its code."""
    by_hand().to_nwb(tmp_path / "a.nwb", session_start_time=WHEN)
    back = SpikeData.from_nwb(tmp_path / "a.nwb")
    assert [train.tolist() for train in back.train] == [[100.0, 250.5], []]
    first, second = back.neuron_attributes
    assert first["spike_amplitudes"].tolist() == [1.0, 2.0]
    assert (first["unit_id"], first["label"], first["snr"]) == (4, "good", 5.0)
    assert (second["unit_id"], second["label"]) == (9, "mua")
    assert not {"odd", "some"} & {*first, *second}
    epochs = [(part.length, part.metadata["epoch_name"]) for part in back.split_epochs()]
    assert epochs == [(600.0, "a"), (400.0, "b\\udce9")]
    back.to_nwb(tmp_path / "b.nwb")  # the date is in the metadata now


def test_positions_and_waveforms_of_hand_made_units_survive(tmp_path):
    """Places as tuples and an average waveform alone are enough: what merging needs is there again."""
    waveforms = np.random.default_rng(0).normal(0, 50, (2, 3, 40))
    attributes = [{"position": (5.0 * unit, 20.0), "avg_waveform": waveforms[unit]} for unit in range(2)]
    where = {"fs_Hz": 20_000.0, "channel_locations": [[0.0, 0.0], [0.0, 20.0], [0.0, 40.0]]}
    by_hand(neuron_attributes=attributes, metadata=where).to_nwb(tmp_path / "a.nwb", session_start_time=WHEN)
    back = SpikeData.from_nwb(tmp_path / "a.nwb")
    for unit, entries in enumerate(back.neuron_attributes):
        assert entries["position"].tolist() == [5.0 * unit, 20.0]
        np.testing.assert_allclose(entries["avg_waveform"], waveforms[unit], rtol=1e-5)
    assert back.curate_by_merge_duplicates()[0].N == 2


def test_what_nwb_demands_is_asked_for(tmp_path):
    """A missing date, time zone, rate or a negative start is named, and no file is left."""
    path = tmp_path / "a.nwb"
    with pytest.raises(ValueError, match=r"when the session began, with its time zone.*found None"):
        by_hand().to_nwb(path)
    with pytest.raises(ValueError, match="time zone"):
        by_hand().to_nwb(path, session_start_time=datetime(2024, 5, 17))  # noqa: DTZ001
    with pytest.raises(ValueError, match="fs_Hz"):
        by_hand(metadata={}).to_nwb(path, session_start_time=WHEN)
    with pytest.raises(ValueError, match=r"starts at -5\.0 ms; shift it"):
        by_hand(start_time=-5.0).to_nwb(path, session_start_time=WHEN)
    with pytest.raises(ValueError, match=r"must end in \.nwb"):
        by_hand().to_nwb(tmp_path / "a.h5", session_start_time=WHEN)
    assert not list(tmp_path.iterdir())


def test_a_file_of_somebody_else(tmp_path):
    """Units without intervals, electrodes or templates come in; a file without units is refused by name."""
    path = tmp_path / "theirs.nwb"
    file = NWBFile("theirs", "id", WHEN)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    with pytest.raises(ValueError, match=r"theirs\.nwb has no table of units"):
        SpikeData.from_nwb(path)
    file = NWBFile("theirs", "id", WHEN)
    file.add_unit_column("quality", "by hand")
    file.add_unit(spike_times=[0.5, 1.5], quality="good", id=3)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    sd = SpikeData.from_nwb(path)
    assert (sd.train[0].tolist(), sd.length) == ([500.0, 1500.0], 1500.0)
    assert sd.neuron_attributes == [{"unit_id": 3, "quality": "good"}]
    assert SpikeData.from_nwb(path, length=9000.0).length == 9000.0


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_nwb_is_refused(tmp_path, content):
    """Foreign bytes are a ValueError that names the file, and a missing file is missing."""
    path = tmp_path / "bad.nwb"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        SpikeData.from_nwb(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.nwb cannot be read as NWB"):
        SpikeData.from_nwb(path)
