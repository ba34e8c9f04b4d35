"""To and from Phy's folders, with Phy's own library and SpikeInterface as judges."""

from __future__ import annotations

import numpy as np
import pytest
from phylib.io.model import load_model
from spikeinterface.extractors import read_phy

from spikelab.spikedata import SpikeData


def test_phy_opens_what_is_written(measured, tmp_path):
    """Phy's own library finds spikes, templates, positions and the columns of the cluster view."""
    model = load_model(measured.to_phy(tmp_path / "phy"))
    samples, units = (
        measured.to_sorting().to_spike_vector()[["sample_index", "unit_index"]].tolist(),
        model.spike_clusters,
    )
    assert list(zip(model.spike_samples.tolist(), units.tolist(), strict=True)) == samples
    for unit, entries in enumerate(measured.neuron_attributes):
        template = model.get_template(unit)
        assert template.best_channel == entries["channel"]
        whole = model.sparse_templates.data[unit]
        np.testing.assert_allclose(whole, entries["template_full"], rtol=1e-6)
    assert model.metadata["snr"][0] == pytest.approx(measured.neuron_attributes[0]["snr"])
    assert model.similar_templates.shape == (4, 4)
    np.testing.assert_allclose(np.diag(model.similar_templates), 1.0, rtol=1e-5)


def test_phy_shows_the_traces_that_are_named(analyzer, measured, tmp_path):
    """With a flat file of the recording, Phy and a later from_phy read its samples."""
    counts = (analyzer.recording.get_traces() * 10).astype("int16")
    counts.tofile(tmp_path / "data.bin")
    params = measured.to_phy(tmp_path / "phy", dat_path=tmp_path / "data.bin")
    assert load_model(params).traces[500:510].tolist() == counts[500:510].tolist()
    back = SpikeData.from_phy(tmp_path / "phy")
    assert back.length == 5000.0
    assert back.raw_data[:, 500:510].T.tolist() == counts[500:510].tolist()


def test_the_way_there_and_back(measured, tmp_path):
    """Spikes, ids, silent units, length, templates, amplitudes and numbers survive a folder of Phy."""
    names = [{"unit_id": f"unit {k}", "spike_amplitudes": np.zeros(0)} for k in range(2)]
    silent = SpikeData([[], []], length=measured.length, neuron_attributes=names)
    both = measured.replace(
        train=[*silent.train[:1], *measured.train, *silent.train[1:]],
        neuron_attributes=[names[0], *measured.neuron_attributes, names[1]],
    )
    both.to_phy(tmp_path / "phy")
    back = SpikeData.from_phy(tmp_path / "phy")
    assert [str(own["unit_id"]) for own in back.neuron_attributes] == ["unit 0", "0", "1", "2", "3", "unit 1"]
    assert back.length == both.length
    for ours, theirs in zip(both.train, back.train, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-9)
    for ours, theirs in zip(both.neuron_attributes[1:5], back.neuron_attributes[1:5], strict=True):
        for name in ("template_full", "avg_waveform", "spike_amplitudes", "snr", "channel", "x", "y"):
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-6)
        np.testing.assert_allclose(theirs["position"], ours["position"], atol=50)


def test_spikeinterface_reads_the_same(measured, tmp_path):
    """SpikeInterface's reader of Phy folders finds the same samples."""
    measured.to_phy(tmp_path / "phy")
    sorting = read_phy(tmp_path / "phy")
    ours = measured.to_sorting()
    for theirs_id, ours_id in zip(sorting.unit_ids, ours.unit_ids, strict=True):
        assert sorting.get_unit_spike_train(theirs_id).tolist() == ours.get_unit_spike_train(ours_id).tolist()


def test_what_was_merged_by_hand_is_one_unit(measured, tmp_path):
    """After a merge in Phy the new cluster has both spikes and the mean template, and its remains are no units."""
    measured.to_phy(tmp_path / "phy")
    clusters = np.load(tmp_path / "phy" / "spike_clusters.npy")
    np.save(tmp_path / "phy" / "spike_clusters.npy", np.where(clusters < 2, 4, clusters))
    (tmp_path / "phy" / "cluster_group.tsv").write_text("cluster_id\tgroup\n2\tgood\n4\tmua\n")
    back = SpikeData.from_phy(tmp_path / "phy")
    assert [(own["unit_id"], own["group"]) for own in back.neuron_attributes if "group" in own] == [
        (2, "good"),
        (4, "mua"),
    ]
    sizes = [train.size for train in measured.train]
    assert [train.size for train in back.train] == [sizes[2], sizes[3], sizes[0] + sizes[1]]
    one, two = (own["template_full"] for own in measured.neuron_attributes[:2])
    mean = (one * sizes[0] + two * sizes[1]) / (sizes[0] + sizes[1])
    np.testing.assert_allclose(back.neuron_attributes[2]["template_full"], mean, rtol=1e-4, atol=1e-3)


def test_a_folder_by_hand_needs_little(tmp_path):
    """Spikes and places of channels are enough; what is missing is named."""
    sd = SpikeData([[1.0, 2.0], [1.0]], length=10.0)
    with pytest.raises(ValueError, match="fs_Hz"):
        sd.to_phy(tmp_path / "phy")
    with pytest.raises(ValueError, match=r'metadata\["channel_locations"\] must have shape \(channels, 2\)'):
        sd.to_phy(tmp_path / "phy", fs_Hz=1000.0)
    placed = sd.replace(metadata={"channel_locations": np.array([[0.0, 0.0], [0.0, 20.0]])})
    with pytest.raises(ValueError, match="without spikes"):
        placed.replace(train=[[], []]).to_phy(tmp_path / "phy", fs_Hz=1000.0)
    assert not list(tmp_path.iterdir())
    model = load_model(placed.to_phy(tmp_path / "phy", fs_Hz=1000.0))
    assert model.spike_samples.tolist() == [1, 1, 2]
    with pytest.raises(FileExistsError, match="holds files"):
        placed.to_phy(tmp_path / "phy", fs_Hz=1000.0)


def test_nothing_in_a_folder_is_run(tmp_path):
    """Code in params.py and pickles in arrays are never executed."""
    folder = tmp_path / "phy"
    SpikeData([[1.0, 2.0]], length=10.0, metadata={"channel_locations": np.zeros((1, 2))}).to_phy(folder, fs_Hz=1000.0)
    params = folder / "params.py"
    params.write_text(params.read_text() + f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\ndat_path = os.getcwd()\n")
    assert SpikeData.from_phy(folder).N == 1
    assert not (tmp_path / "ran").exists()
    np.save(folder / "spike_times.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"spike_times\.npy cannot be read as an array"):
        SpikeData.from_phy(folder)


@pytest.mark.parametrize(
    "name, content, error, words",
    [
        ("params.py", None, FileNotFoundError, "params.py is missing; a folder of Phy"),
        ("params.py", "this is no Python", ValueError, "must be lines such as"),
        ("params.py", "dtype = 'int16'", ValueError, "must have a line such as sample_rate"),
        ("spike_times.npy", None, FileNotFoundError, "spike_times.npy is missing"),
        ("spike_times.npy", np.zeros((2, 2)), ValueError, "vector of whole numbers"),
        ("spike_times.npy", np.array([0.5, 1.0]), ValueError, "vector of whole numbers"),
        ("spike_clusters.npy", np.zeros(3, int), ValueError, "one length, found 2 and 3"),
        ("amplitudes.npy", np.zeros(5), ValueError, "each of 2 spikes, found 5"),
        ("spike_times.npy", "not an array", ValueError, "cannot be read as an array"),
        ("cluster_group.tsv", b"cluster_id\tgroup\n1\t\xff\n", ValueError, "cannot be read as a table"),
        ("cluster_group.tsv", "cluster_id\tgroup\nfirst\tgood\n", ValueError, "numbers in its column cluster_id"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, name, content, error, words):
    """A file that is missing, damaged or does not fit is named with what is wrong."""
    folder = tmp_path / "phy"
    SpikeData([[1.0, 2.0]], length=10.0, metadata={"channel_locations": np.zeros((1, 2))}).to_phy(folder, fs_Hz=1000.0)
    path = folder / name
    path.unlink(missing_ok=True)
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=words):
        SpikeData.from_phy(folder)
