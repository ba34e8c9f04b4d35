"""Metrics, labels and thresholds of others: SpikeInterface's numbers, on any SpikeData."""

from __future__ import annotations

import numpy as np
import pytest

from spikelab.curation import bombcell_labels, compute_quality_metrics, curation_summary
from spikelab.curation.presets import LABELS, THRESHOLDS
from spikelab.simulation import simulate_recording
from spikelab.spike_sorting._exceptions import EmptyWaveformMetricsError
from spikelab.spikedata import SpikeData


@pytest.fixture(scope="module")
def truth():
    """Ten seconds with known units."""
    return simulate_recording("linear", n_channels=6, duration_s=10, n_units=3, rate_Hz=(20, 40), seed=3)


@pytest.fixture(scope="module")
def sd(truth):
    """The units with their raw data."""
    return SpikeData.from_sorting(truth.sorting, truth.recording)


def carrying(**columns):
    n_units = len(next(iter(columns.values())))
    attributes = [{name: values[unit] for name, values in columns.items()} for unit in range(n_units)]
    return SpikeData([[1.0]] * n_units, length=10.0, neuron_attributes=attributes)


def test_metrics_are_spikeinterfaces(sd, truth):
    """Of trains alone, and of the filtered traces, the numbers are those of an analyzer of the same data."""
    from spikeinterface.core import create_sorting_analyzer
    from spikeinterface.preprocessing import bandpass_filter, scale_to_uV

    names = ["isi_violations_ratio", "sliding_rp_violation", "amplitude_median", "noise_cutoff", "num_positive_peaks"]
    filtered = bandpass_filter(scale_to_uV(truth.recording), 300, 6000, dtype="float32")
    analyzer = create_sorting_analyzer(truth.sorting, filtered, sparse=False, format="memory")
    analyzer.compute(["random_spikes", "templates", "noise_levels", "spike_amplitudes"], progress_bar=False)
    chosen = ["isi_violation", "sliding_rp_violation", "amplitude_median", "noise_cutoff"]
    analyzer.compute({"quality_metrics": {"metric_names": chosen}, "template_metrics": {}}, progress_bar=False)
    theirs = analyzer.get_metrics_extension_data()
    measured, metrics = compute_quality_metrics(sd, names)
    for name in names:
        np.testing.assert_allclose(metrics[name], theirs[name].astype(float), rtol=1e-3, err_msg=name)
        np.testing.assert_array_equal(measured.get_neuron_attribute(name), metrics[name])
    bare = SpikeData(sd.train, length=sd.length, metadata={"fs_Hz": sd.metadata["fs_Hz"]})
    assert bare.compute_quality_metrics(names[:2])[1]["isi_violations_ratio"] == pytest.approx(metrics[names[0]])
    with pytest.raises(EmptyWaveformMetricsError, match=r"amplitude_median must .*with_raw_data"):
        bare.compute_quality_metrics(names)


def test_raw_data_of_a_part_are_read_where_they_belong(sd):
    """Raw data that begin later than the recording, with an axis of times, give what the same part alone gives."""
    names = ["amplitude_median", "firing_rate"]
    fs_kHz = sd.raw_fs_Hz / 1000.0
    first = round(4000.0 * fs_kHz)
    part = sd.raw_data[:, first:]
    axis_ms = (first + np.arange(part.shape[1])) / fs_kHz
    late = sd.with_raw_data(part, axis_ms)
    alone = SpikeData([t[t >= 4000.0] - 4000.0 for t in sd.train], length=sd.length - 4000.0, metadata=sd.metadata)
    metrics, expected = late.compute_quality_metrics(names)[1], alone.with_raw_data(part, fs_kHz)
    expected = expected.compute_quality_metrics(names[:1])[1]
    np.testing.assert_allclose(metrics["amplitude_median"], expected["amplitude_median"], rtol=1e-6)
    whole = sd.compute_quality_metrics(names[1:])[1]
    np.testing.assert_allclose(metrics["firing_rate"], whole["firing_rate"], err_msg="not over the whole recording")


def test_what_units_carry_is_taken_as_it_is():
    """No metric is measured that all units have."""
    sd = carrying(presence_ratio=[0.5, 0.95], nn_hit_rate=[0.1, 0.9])
    metrics = sd.compute_quality_metrics(["presence_ratio", "nn_hit_rate"])[1]
    assert metrics["presence_ratio"].tolist() == [0.5, 0.95]
    assert metrics["nn_hit_rate"].tolist() == [0.1, 0.9]
    with pytest.raises(ValueError, match=r"'presense' is neither .*presence_ratio.*can be measured"):
        sd.compute_quality_metrics(["presense"])


@pytest.mark.parametrize(
    "preset, columns, passed",
    [
        (
            "ibl",
            {"sliding_rp_violation": [0.1, 0.2, 0.0, np.nan], "noise_cutoff": [1.0, 1.0, 9.0, 1.0],
             "amplitude_median": [-60.0, 60.0, 60.0, 60.0]},
            [True, False, False, False],
        ),
        (
            "allen",
            {"isi_violations_ratio": [0.5, 0.6, 0.0, 0.1], "amplitude_cutoff": [0.01, 0.01, 0.2, 0.0],
             "presence_ratio": [0.9, 1.0, 1.0, 0.5]},
            [True, False, False, False],
        ),
    ],
)  # fmt: skip
def test_presets_are_the_known_thresholds(preset, columns, passed):
    """sd.curate(preset=...) judges each metric of the preset on all units; limits pass, what is unknown does not."""
    sd = carrying(**columns)
    curated, results = sd.curate(preset=preset)
    assert list(results) == list(THRESHOLDS[preset])
    assert np.all([result["passed"] for result in results.values()], axis=0).tolist() == passed
    assert sum(passed) == curated.N
    for name, result in results.items():
        np.testing.assert_array_equal(result["metric"], columns[name])


def test_a_preset_measures_what_is_missing(sd, capfd):
    """On units with raw data presets work as they are, with other criteria beside them, and say nothing."""
    curated, results = sd.curate(preset="ibl", min_spikes=1)
    assert list(results) == ["spike_count", *THRESHOLDS["ibl"]]
    assert all(result["metric"].shape == (sd.N,) for result in results.values())
    assert curated.N <= sd.N
    assert "amplitude_median" not in curated.neuron_attributes[0]
    assert capfd.readouterr() == ("", "")


def test_bombcells_labels_are_spikeinterfaces(sd):
    """Each unit gets one of the labels, and "good" ones stay; the metric is the number of the label."""
    labels = bombcell_labels(sd)
    assert set(labels) <= set(LABELS)
    curated, results = sd.curate(preset="bombcell")
    assert results["bombcell"]["passed"].tolist() == [label == "good" for label in labels]
    assert results["bombcell"]["metric"].tolist() == [LABELS.index(label) for label in labels]
    assert labels.count("good") == curated.N


def test_presets_are_checked():
    """An unknown preset names the known ones, a metric twice and missing raw data say so; no units pass."""
    with pytest.raises(ValueError, match=r"preset must be one of \['allen', 'ibl', 'bombcell'\], got 'steinmetz'"):
        SpikeData([[1.0]]).curate(preset="steinmetz")
    with pytest.raises(ValueError, match="'presence_ratio' is asked for twice"):
        carrying(isi_violations_ratio=[0.1], amplitude_cutoff=[0.1], presence_ratio=[1.0]).curate(
            preset="allen", metrics={"presence_ratio": (">=", 0.9)}
        )
    for preset in ("ibl", "bombcell"):
        with pytest.raises(EmptyWaveformMetricsError, match="with_raw_data"):
            SpikeData([[1.0]], length=10.0).curate(preset=preset)
        assert SpikeData([], length=10.0).curate(preset=preset)[0].N == 0


def test_the_summary_tells_what_each_criterion_did():
    """Removed by each, by each alone, and left after each, with the range of the metric."""
    sd = carrying(a=[1.0, 5.0, 9.0, np.nan], b=[9.0, 1.0, 9.0, 1.0])
    results = sd.curate(metrics={"a": (">=", 4.0), "b": (">", 2.0)})[1]
    table = curation_summary(results)
    assert table.index.tolist() == ["a", "b"]
    assert table.loc["a"].tolist() == [4, 2, 2, 1, 2, 1.0, 5.0, 9.0]
    assert table.loc["b"].tolist() == [4, 2, 2, 1, 1, 1.0, 5.0, 9.0]
    assert curation_summary({}).empty
    with pytest.raises(ValueError, match=r"'a': 4, 'b': 2"):
        curation_summary({"a": results["a"], "b": sd[:2].curate(metrics={"b": (">", 2.0)})[1]["b"]})
