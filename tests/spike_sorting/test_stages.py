"""What the stages say of a unit, with the true spikes in place of a sorter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
from support import violations

from spikelab.simulation import GroundTruth, simulate_recording
from spikelab.spike_sorting.backends.base import Sorting
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.jobs import Job, plan
from spikelab.spike_sorting.pipeline import STAGES
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.stages.sort import write_spikes
from spikelab.spike_sorting.stages.stage import ensure
from spikelab.spikedata import SpikeData


def true_sorting(truth: GroundTruth) -> Sorting:
    """Return the truth as a sorter would report it."""
    spikes = truth.sorting.to_spike_vector()
    n_units = len(truth.sorting.unit_ids)
    order = np.argsort(spikes["sample_index"], kind="stable")
    samples, units = spikes["sample_index"][order], spikes["unit_index"][order]
    labels = {"ks_label": ["good"] * n_units}
    return Sorting(samples.astype(np.int64), units.astype(np.int64), np.arange(n_units), labels)


def with_true_spikes(truth: GroundTruth, folder: Path, **overrides: object) -> tuple[SpikeData, Job]:
    """Run every stage but the sorter on a simulated recording, and return all units."""
    (job,) = plan(truth.recording, KILOSORT4.override(n_jobs=1, **overrides), results_folders=[folder / "results"])
    job.run.inter.mkdir(parents=True)
    job.run.results.mkdir(parents=True)

    def pretend(stage):
        (stage.folder / "sorter_output").mkdir()
        write_spikes(stage.folder / "spikes.npz", true_sorting(truth))
        return {"sorter": "truth", "version": "1"}

    for stage in STAGES:
        ensure(replace(stage, run=pretend) if stage.name == "sort" else stage, job, key="k")
    return SpikeData.load(job.run.assembled), job


@pytest.mark.parametrize(
    "dtype, gain_uV, offset_uV",
    [("int16", 0.195, 0.0), ("int16", 2.34, 120.0), ("uint16", 6.294, -512 * 6.294)],
)
def test_a_110_uV_spike_is_reported_as_110_uV(tmp_path, dtype, gain_uV, offset_uV):
    """Gain and offset are applied exactly once, whatever the file's."""
    truth = simulate_recording(
        "linear", n_channels=6, duration_s=8, n_units=3, peak_uV=(110, 110), noise_uV=4.0, seed=1,
        dtype=dtype, gain_uV=gain_uV, offset_uV=offset_uV, rate_Hz=(10, 12),
    )  # fmt: skip
    sd, _ = with_true_spikes(truth, tmp_path)
    amplitudes = np.array(sd.get_neuron_attribute("amplitude"))
    np.testing.assert_allclose(amplitudes, 110, rtol=0.1)
    per_spike = [abs(np.median(unit["spike_amplitudes"])) for unit in sd.neuron_attributes]
    np.testing.assert_allclose(per_spike, 110, rtol=0.1)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    truth = simulate_recording("mea", n_channels=20, duration_s=10, n_units=4, rate_Hz=(8, 10), seed=2)
    n_spikes = sorted(truth.sorting.count_num_spikes_per_unit().values())
    options = {"compile_to_npz": True, "compile_to_mat": True, "compile_waveforms": True, "include_failed_units": True}
    # One unit fails, and few of the spikes are sampled.
    chosen = {"spikes_min_first": n_spikes[0] + 1, "max_waveforms_per_unit": 30}
    options |= {"create_unit_figures": True, "dpi": 60}
    folder = tmp_path_factory.mktemp("assembled")
    sd, job = with_true_spikes(truth, folder, save_raw_pkl=True, **options, **chosen)
    return truth, sd, job


def test_times_rates_and_length_are_the_recordings(assembled):
    """Spike times, rates and length are those of the recording, not of the last spike."""
    truth, sd, _ = assembled
    fs_Hz = truth.recording.sampling_frequency
    assert sd.length == truth.recording.get_num_samples() / fs_Hz * 1000
    for index, unit in enumerate(truth.sorting.unit_ids):
        true_ms = truth.sorting.get_unit_spike_train(unit) / fs_Hz * 1000
        np.testing.assert_allclose(sd.train[index], true_ms)
        assert sd.rates()[index] == pytest.approx(len(true_ms) / 10)


def test_each_unit_carries_what_the_contract_names(assembled):
    """Every attribute of the contract is there, of the right shape, for every unit."""
    truth, sd, _ = assembled
    n_channels = truth.recording.get_num_channels()
    for unit in sd.neuron_attributes:
        missing = {
            "unit_id", "channel", "channel_id", "x", "y", "position", "template", "template_full", "avg_waveform",
            "amplitude", "snr", "std_norm", "has_pos_peak", "spike_amplitudes", "presence_ratio",
        } - set(unit)  # fmt: skip
        assert not missing
        assert unit["template_full"].shape == (80, n_channels)
        assert unit["avg_waveform"].shape == (n_channels, 80)
        assert unit["template"].shape == (80, len(unit["template_channels"]))
        assert unit["snr"] > 3
        assert 0 < unit["std_norm"] < 1


def test_units_lie_where_they_are(assembled):
    """A unit's largest channel is the one nearest to its true place, and its position is near it."""
    truth, sd, _ = assembled
    locations = truth.recording.get_channel_locations()
    for unit, true_um in zip(sd.neuron_attributes, truth.unit_locations_um, strict=True):
        nearest = np.argmin(np.linalg.norm(locations - true_um[:2], axis=1))
        assert np.linalg.norm(locations[unit["channel"]] - locations[nearest]) < 25
        assert np.linalg.norm(unit["position"] - true_um[:2]) < 40


def test_metadata_names_the_recording(assembled):
    """Metadata carry rate, geometry, sorter and epochs."""
    truth, sd, job = assembled
    assert sd.metadata["fs_Hz"] == truth.recording.sampling_frequency
    assert np.shape(sd.metadata["channel_locations"]) == (20, 2)
    assert sd.metadata["sorter"] == "kilosort4"
    assert sd.metadata["rec_chunks_ms"] == [[0.0, 10_000.0]]
    assert sd.metadata["rec_chunk_names"] == [job.name]


def test_analyzer_opens_in_spikeinterface(assembled):
    """The analyzer in the intermediate folder opens with SpikeInterface, with its recording, and computes on."""
    _, sd, job = assembled
    analyzer = spikeinterface.load_sorting_analyzer(job.run.analyzer)
    assert analyzer.has_recording()
    assert analyzer.get_num_units() == sd.N
    assert analyzer.get_extension("templates").get_data("average").shape[0] == sd.N


def test_each_unit_kept_has_its_picture(assembled):
    """create_unit_figures draws the units kept, at the resolution of the settings, as PNG unless SVG is asked for."""
    from struct import unpack

    _, _, job = assembled
    curated = SpikeData.load(job.run.curated)
    pictures = {path.stem: path.read_bytes() for path in (job.run.results / "unit_figures").glob("*.png")}
    assert set(pictures) == {f"unit_{unit['unit_id']}" for unit in curated.neuron_attributes}
    for picture in pictures.values():
        assert unpack(">II", picture[16:24]) == (540, 324)  # 9 by 5.4 inches at 60 dpi


@pytest.fixture(scope="module")
def compiled(assembled):
    """What sorted.npz holds, read without pickle."""
    with np.load(assembled[2].run.results / "sorted.npz", allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


def test_compiled_units_are_those_kept_and_then_those_that_failed(assembled, compiled):
    """include_failed_units appends the units that failed; kept says which is which, and every array has all of them."""
    _, sd, job = assembled
    curated = SpikeData.load(job.run.curated)
    ids = [unit["unit_id"] for unit in sd.neuron_attributes]
    assert 0 < curated.N < sd.N
    assert compiled["kept"].tolist() == [True] * curated.N + [False] * (sd.N - curated.N)
    assert sorted(compiled["unit_id"].tolist()) == sorted(ids)
    trains = np.split(compiled["spike_times_ms"], compiled["spike_times_index"][:-1])
    amplitudes = np.split(compiled["spike_amplitudes_uV"], compiled["spike_times_index"][:-1])
    for k, unit_id in enumerate(compiled["unit_id"].tolist()):
        unit = sd.neuron_attributes[ids.index(unit_id)]
        np.testing.assert_array_equal(trains[k], sd.train[ids.index(unit_id)])
        np.testing.assert_array_equal(amplitudes[k], unit["spike_amplitudes"])
        np.testing.assert_array_equal(compiled["templates_uV"][k], unit["template_full"])
        np.testing.assert_array_equal(compiled["position_um"][k], unit["position"])
        assert (compiled["snr"][k], compiled["ks_label"][k]) == (unit["snr"], "good")
    assert compiled["channel_locations_um"].shape == (20, 2)


def test_compiled_waveforms_are_those_of_the_recording(assembled, compiled):
    """Each waveform is the filtered recording around its spike, on the channels where its unit is largest."""
    from spikeinterface.preprocessing import bandpass_filter, scale_to_uV

    truth, _, job = assembled
    options = job.config
    band = (options.recording.freq_min, options.recording.freq_max)
    traces = bandpass_filter(scale_to_uV(truth.recording), *band, dtype="float32").get_traces()
    borders = [0, *compiled["waveforms_index"].tolist()]
    assert np.diff(borders).tolist() == [30] * len(compiled["unit_id"])
    assert compiled["waveforms_uV"].shape == (borders[-1], 80, 16)
    for k, (start, end) in enumerate(pairwise(borders)):
        near = compiled["waveforms_channels"][k]
        assert compiled["channel"][k] in near
        waveform, time_ms = compiled["waveforms_uV"][start:end].mean(axis=0), compiled["waveforms_time_ms"][start:end]
        cuts = [traces[round(time * 20) - 40 : round(time * 20) + 40, near] for time in time_ms]
        np.testing.assert_allclose(waveform, np.mean([cut for cut in cuts if len(cut) == 80], axis=0), atol=2)
        assert abs(waveform[40].min() + compiled["amplitude"][k]) < 0.3 * compiled["amplitude"][k]


def test_the_file_for_matlab_holds_the_same(assembled, compiled):
    """sorted.mat has the arrays of sorted.npz, under the same names."""
    from scipy.io import loadmat

    mat = loadmat(assembled[2].run.results / "sorted.mat")
    assert {name for name in mat if not name.startswith("__")} == set(compiled)
    for name, values in compiled.items():
        if values.dtype.kind in "biuf" and values.ndim != 1:
            np.testing.assert_array_equal(np.squeeze(mat[name]), np.squeeze(values))
        else:
            assert mat[name].shape[0] == values.size
    assert [text.strip() for text in mat["ks_label"]] == compiled["ks_label"].tolist()


def uncurated(**options):
    from spikelab.spike_sorting.config import CurationConfig

    none = {"fr_min": None, "isi_viol_max": None, "snr_min": None, "std_norm_max": None, "redundancy_max": None}
    return CurationConfig(**{**none, "spikes_min_first": None, "spikes_min_second": None, **options})


def test_pieces_of_a_unit_merge_between_the_stages(assembled):
    """Halves of a unit, each too few spikes for the second stage, become the unit again, and the history says so."""
    from spikelab.curation import apply_curation
    from spikelab.spike_sorting.stages.curate import curate_in_stages

    _, sd, _ = assembled
    whole, attributes = sd.train[0], sd.neuron_attributes[0]
    halves = []
    for k, unit_id in enumerate((attributes["unit_id"], 99)):
        amplitudes = attributes["spike_amplitudes"][k::2]
        halves.append({**attributes, "unit_id": unit_id, "spike_amplitudes": amplitudes})
    split = sd.replace(
        train=[whole[0::2], whole[1::2], *sd.train[1:]], neuron_attributes=[*halves, *sd.neuron_attributes[1:]]
    )
    options = uncurated(merge_duplicates=True, spikes_min_second=len(whole) - 5)
    merged, history = curate_in_stages(split, options)
    np.testing.assert_allclose(merged.train[0], whole, atol=0.5)
    assert sorted(merged.neuron_attributes[0]["merged_from"]) == sorted([attributes["unit_id"], 99])
    assert [len(merges) for merges in history["merges"].values()] == [1]
    assert violations(history, "curation_history") == []
    assert apply_curation(split, history).N == merged.N


def test_units_are_judged_by_one_epoch(assembled):
    """With curation_epoch a unit that is silent in that epoch goes, however much it fires in the others."""
    from spikelab.spike_sorting.stages.curate import curate_in_stages

    _, sd, _ = assembled
    early = [train[train < 5000] if k == 0 else train for k, train in enumerate(sd.train)]
    units = [{"unit_id": unit["unit_id"]} for unit in sd.neuron_attributes]
    halves = sd.replace(train=early, neuron_attributes=units, metadata={"rec_chunks_ms": [[0, 5000], [5000, 10_000]]})
    left = [curate_in_stages(halves, uncurated(fr_min=1.0, curation_epoch=epoch))[0].N for epoch in (None, 0, 1)]
    assert left == [sd.N, sd.N, sd.N - 1]


def test_curation_takes_the_weak_away_and_says_why(assembled):
    """Units that fail a criterion are gone from the curated data and listed in the history."""
    from spikelab.spike_sorting.config import CurationConfig
    from spikelab.spike_sorting.stages.curate import curate_in_stages

    _, sd, _ = assembled
    snr = sorted(unit["snr"] for unit in sd.neuron_attributes)
    curated, history = curate_in_stages(sd, CurationConfig(snr_min=snr[1], isi_viol_max=None, std_norm_max=None))
    assert curated.N == sd.N - 1
    weakest = min(sd.neuron_attributes, key=lambda unit: unit["snr"])["unit_id"]
    assert history["curated_final"] == [u["unit_id"] for u in curated.neuron_attributes]
    assert weakest not in history["curated_final"]
    assert len(history["initial"]) == sd.N


VIEW = """
import sys
from spikelab.spike_sorting import export_analyzer
results, merged, folder = sys.argv[1:]
export_analyzer(results, folder + "/kept")
export_analyzer(results, folder + "/all", all_units=True)
print(export_analyzer(merged, folder + "/merged"))
"""


def test_analyzer_for_viewers_has_the_units_kept_as_they_are(assembled, tmp_path):
    """export_analyzer gives units, also merged ones, with the traces and what spikeinterface-gui shows of them."""
    _, sd, job = assembled
    job.run.claim({})
    merged = RunFolder(job.run.inter, tmp_path / "results")
    shutil.copytree(job.run.results, merged.results)
    merged.config_used.write_text(json.dumps({"config": job.config.to_dict()}))
    one, two = sd.train[:2]
    sd.subset([0]).replace(
        train=[np.sort(np.concatenate([one, two]))],
        neuron_attributes=[{"unit_id": 0, "merged_from": [0, 1]}],
    ).save(merged.curated)
    # Not compiled: that takes longer than to compare four templates.
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", VIEW, job.run.results, merged.results, tmp_path]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'merged'}\n", done.stderr
    assert "serializable" not in done.stderr

    shown = {"unit_locations", "templates", "spike_amplitudes", "correlograms", "isi_histograms", "template_similarity"}
    viewed = {name: spikeinterface.load_sorting_analyzer(tmp_path / name) for name in ("kept", "all", "merged")}
    for analyzer in viewed.values():
        assert analyzer.has_recording()
        assert shown | {"noise_levels", "quality_metrics"} <= set(analyzer.get_loaded_extension_names())
    kept = SpikeData.load(job.run.curated).get_neuron_attribute("unit_id").tolist()
    assert viewed["kept"].unit_ids.tolist() == kept
    assert len(viewed["all"].unit_ids) == sd.N > len(kept)
    assert viewed["merged"].sorting.count_num_spikes_per_unit() == {0: one.size + two.size}
