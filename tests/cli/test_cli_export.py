"""``spikelab export``, on the files of a finished sort."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spikedata import SpikeData

WAVEFORM = np.outer(np.hanning(20), [-80.0, -20.0]).astype(np.float32)
CHANNELS = {"fs_Hz": 20_000.0, "channel_ids": [0, 1], "channel_locations": [[0.0, 0.0], [0.0, 20.0]]}


def units(n: int) -> SpikeData:
    train = np.arange(10.0, 990.0, 40.0)
    return SpikeData(
        [train + k for k in range(n)],
        length=1000.0,
        neuron_attributes=[
            {
                "unit_id": 3 + k,
                "template_full": WAVEFORM,
                "channel": 0,
                "x": 0.0,
                "y": 0.0,
                "position": [0.0, 5.0],
                "amplitude": 80.0,
                "spike_amplitudes": np.full(train.size, -80.0),
            }
            for k in range(n)
        ],
        metadata=CHANNELS,
    )


def finish(folder: Path, name: str) -> RunFolder:
    """Leave what a sort leaves that found three units and kept two."""
    run = RunFolder(folder / "inter_fake" / name, folder / "sorted_fake" / name)
    for made in (run.results, run.assembled.parent):
        made.mkdir(parents=True)
    run.claim({"files": [name]})
    units(2).save(run.curated)
    units(3).save(run.assembled)
    run.marker(EXPORT).write_text("{}")
    return run


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)
    return finish(tmp_path, "a")


def test_phy_and_nwb_read_back_as_the_units_kept(spikelab, run):
    """A folder for Phy and an NWB file have the spikes and ids of the units kept, beside the results."""
    assert spikelab("export", "phy", run.results).stdout == "sorted_fake/a/a_phy\n"
    about = ("--start", "2026-05-17T14:30+02:00", "--subject", "subject_id=r1", "--location", "CA1")
    written = spikelab("export", "nwb", run.results, *about)
    assert (written.exit_code, written.stdout) == (0, "sorted_fake/a/a.nwb\n"), written.output
    for back in (SpikeData.from_phy(run.results / "a_phy"), SpikeData.from_nwb(run.results / "a.nwb")):
        assert back.get_neuron_attribute("unit_id").tolist() == [3, 4]
        for found, true in zip(back.train, units(2).train, strict=True):
            np.testing.assert_allclose(found, true, atol=0.05)
    with h5py.File(run.results / "a.nwb") as file:
        assert set(file["general/extracellular_ephys/electrodes/location"].asstr()) == {"CA1"}
    assert "2026-05-17T14:30:00+02:00" in back.metadata["session_start_time"]


def test_phy_gets_the_traces_where_they_were_kept(spikelab, run):
    """The copy that the sorter has read is named in params.py, with its own type."""
    run.sorter_output.mkdir(parents=True)
    (run.sorter_output / "params.py").write_text("n_channels_dat = 2\ndtype = 'uint16'\nsample_rate = 20000.0\n")
    np.arange(40_000, dtype=np.uint16).tofile(run.binary)
    spikelab("export", "phy", run.results)
    raw = SpikeData.from_phy(run.results / "a_phy").raw_data
    assert np.asarray(raw[:, 19_999:]).tolist() == [[39_998], [39_999]]


def test_nothing_is_taken_from_another_sort(spikelab, run):
    """Where other results have used the same intermediate folder since, none of it is exported."""
    run.sorter_output.mkdir(parents=True)
    (run.sorter_output / "params.py").write_text("n_channels_dat = 2\ndtype = 'uint16'\nsample_rate = 20000.0\n")
    np.arange(40_000, dtype=np.uint16).tofile(run.binary)
    run.analyzer.mkdir(parents=True)
    run.marker("sort").write_text('{"key": "another"}')
    units(3).replace(metadata={**CHANNELS, "config_digest": "another"}).save(run.assembled)
    assert spikelab("export", "phy", run.results).exit_code == 0
    assert "dat_path = ''\n" in (run.results / "a_phy" / "params.py").read_text()
    for format_, says in (("pynapple", "gone from"), ("analyzer", "was used for another sort since")):
        refused = spikelab("export", format_, run.results, "--all-units")
        assert refused.exit_code == 1
        assert says in refused.stdout


def test_pynapple_opens_what_is_written(spikelab, run):
    """pynapple loads the group, with units by their ids; --out and --all-units say where, and which; --json tells."""
    import pynapple

    told = json.loads(spikelab("export", "pynapple", ".", "--out", "out", "--all-units", "--json").stdout)
    assert told == {"exported": {str(run.results): str(Path("out/a_pynapple.npz").absolute())}, "failed": {}}
    group = pynapple.load_file("out/a_pynapple.npz")
    assert list(group.keys()) == [3, 4, 5]
    np.testing.assert_allclose(group[5].t, units(3).train[2] / 1000)


@pytest.mark.parametrize("kind, begins", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures_are_of_the_kind_that_is_asked_for(spikelab, run, kind, begins):
    """There is a picture of each unit, of their places and of their spikes."""
    assert spikelab("export", "figures", run.results, "--format", kind).exit_code == 0
    drawn = {path.name: path.read_bytes()[: len(begins)] for path in (run.results / "a_figures").iterdir()}
    assert drawn == dict.fromkeys((f"{name}.{kind}" for name in ("unit_3", "unit_4", "units", "raster")), begins)


def test_one_that_cannot_be_exported_leaves_the_others(spikelab, run, tmp_path):
    """Of a batch, a sort that did not finish is told with the reason, the others are exported, and the code is 1."""
    finish(tmp_path, "b").marker(EXPORT).unlink()
    result = spikelab("export", "phy", tmp_path)
    assert result.exit_code == 1
    assert "sorted_fake/b: not exported: " in result.stdout
    assert "did not finish" in result.stdout
    assert (run.results / "a_phy" / "params.py").is_file()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["phy", "."], "a_phy is there already"),
        (["nwb", "sorted_fake"], "--start 2026-05-17T14:30"),
        (["nwb", "sorted_fake", "--start", "yesterday"], "yesterday"),
        (["nwb", "sorted_fake", "--start", "2026-05-17", "--subject", "r1"], "takes key=value"),
        (["nwb", "sorted_fake", "--start", "2026-05-17", "--subject", "breed=x"], "unrecognized argument: 'breed'"),
        (["pynapple", "sorted_fake", "other", "--out", "out"], "several results are named a"),
        (["phy", "inter_fake"], "neither is nor holds a results folder"),
    ],
)
def test_wrong_calls_are_told_and_write_nothing(spikelab, run, tmp_path, arguments, said):
    """What is there is not replaced, two results never become one, and what is missing is named; the code is 2."""
    (run.results / "a_phy").mkdir()
    finish(tmp_path / "other", "a")
    before = sorted(tmp_path.rglob("*"))
    result = spikelab("export", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
    assert sorted(tmp_path.rglob("*")) == before


def test_units_that_are_gone_and_sorts_without_units_are_told(spikelab, run):
    """All units need the intermediate files or spikedata_raw.h5; an analyzer needs its own; figures need units."""
    run.assembled.unlink()
    assert "save_raw_pkl=true" in spikelab("export", "phy", run.results, "--all-units").stdout
    assert "is gone with the intermediate files" in spikelab("export", "analyzer", run.results).stdout
    units(0).save(run.curated)
    for format_ in ("figures", "pynapple"):
        result = spikelab("export", format_, run.results)
        assert result.exit_code == 1
        assert "units" in result.stdout
