"""Kilosort4 as we drive it is Kilosort4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spikeinterface

from spikelab.simulation import simulate_recording
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.kilosort4.backend import Kilosort4Backend
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.probes.dictionary import probe_dictionary
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.progress import ProgressFile

pytest.importorskip("kilosort")

PHY_ARRAYS = [
    *("amplitudes", "channel_map", "channel_positions", "channel_shanks", "kept_spikes", "ops", "pc_features"),
    *("pc_feature_ind", "similar_templates", "spike_clusters", "spike_templates", "spike_positions", "spike_times"),
    *("templates", "templates_ind", "whitening_mat", "whitening_mat_inv", "whitening_mat_dat"),
]
PHY_TABLES = ["Amplitude", "ContamPct", "KSLabel", "group"]


def sort_job(folder: Path, recording: spikeinterface.BaseRecording, **params: object) -> SortJob:
    """Return a job that sorts with Kilosort4's own defaults where `params` say nothing else."""
    run = RunFolder(inter=folder / "inter", results=folder / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = KILOSORT4.override(kilosort_params={"advise": False, **params}, n_jobs=1)
    return SortJob(recording, output, run, config, ProgressFile(run.progress, "sort"))


@pytest.fixture(scope="module", params=[0, 1], ids=["no drift", "drift"])
def sorted_twice(request, tmp_path_factory):
    """The same file sorted by us and by run_kilosort, with and without drift correction."""
    from kilosort import run_kilosort

    folder = tmp_path_factory.mktemp("ks4")
    truth = simulate_recording("linear", n_channels=12, duration_s=8, n_units=6, rate_Hz=(8, 15), seed=3)
    recording = truth.recording.save(folder=folder / "recording", verbose=False)
    job = sort_job(folder, recording, nblocks=request.param)
    Kilosort4Backend().sort(job)

    run_kilosort(
        {"n_chan_bin": 12, "fs": recording.sampling_frequency, "nblocks": request.param},
        probe=probe_dictionary(recording),
        filename=recording.get_binary_description()["file_paths"][0],
        results_dir=folder / "upstream",
    )
    return job, folder / "upstream"


@pytest.mark.parametrize("name", ["spike_times", "spike_clusters", "templates", "amplitudes", "spike_positions"])
def test_result_equals_run_kilosort(sorted_twice, name):
    """Our step by step run gives the spikes of upstream's own entry point on one file, all else to rounding."""
    job, upstream = sorted_twice
    ours, theirs = np.load(job.folder / f"{name}.npy"), np.load(upstream / f"{name}.npy")
    assert ours.size > 0
    if ours.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    else:
        np.testing.assert_array_equal(ours, theirs)


def test_all_files_for_phy_are_there(sorted_twice):
    """Everything that Kilosort4 documents for Phy is in the folder, and nothing points to an absolute path."""
    job, _ = sorted_twice
    expected = [*(f"{name}.npy" for name in PHY_ARRAYS), *(f"cluster_{name}.tsv" for name in PHY_TABLES), "params.py"]
    missing = [name for name in expected if not (job.folder / name).exists()]
    assert not missing
    params = dict(line.split(" = ") for line in (job.folder / "params.py").read_text().splitlines())
    assert not Path(params["dat_path"].strip("'")).is_absolute()


def test_the_overview_tells_of_drift_and_of_spikes(sorted_twice):
    """Beside Kilosort4's files lie times, depths and amplitudes of its spikes, and the drift of each batch, if any."""
    from spikelab.spike_sorting.backends.overview import OVERVIEW, read_overview

    job, upstream = sorted_twice
    overview = read_overview(job.folder / OVERVIEW)
    fs_Hz, n_samples = job.recording.sampling_frequency, job.recording.get_num_samples()
    samples = np.load(upstream / "spike_times.npy")
    inside = (samples >= 0) & (samples < n_samples)
    assert overview.n_spikes == len(samples)
    np.testing.assert_allclose(overview.time_s, samples[inside] / fs_Hz, atol=1e-4)
    np.testing.assert_allclose(overview.amplitude, np.load(upstream / "amplitudes.npy")[inside], rtol=1e-5)
    ops = np.load(upstream / "ops.npy", allow_pickle=True).item()
    if ops["dshift"] is None:
        assert overview.drift_um.size == overview.drift_time_s.size == 0
    else:
        np.testing.assert_allclose(overview.drift_um, ops["dshift"], atol=1e-4)
        np.testing.assert_allclose(overview.drift_time_s, (np.arange(len(ops["dshift"])) + 0.5) * 60_000 / fs_Hz)


def test_an_overview_of_many_spikes_is_a_sample(tmp_path):
    """Of a hundred thousand spikes at most 20,000 are drawn, the same ones each time, in order and evenly."""
    from spikelab.spike_sorting.backends.kilosort4.overview import make_overview

    n_spikes = 100_000
    np.save(tmp_path / "spike_times.npy", np.arange(n_spikes))
    np.save(tmp_path / "spike_positions.npy", np.zeros((n_spikes, 2)))
    np.save(tmp_path / "amplitudes.npy", np.arange(n_spikes))
    first, second = (make_overview(tmp_path, {"fs": 1000.0, "dshift": None}, 0, n_spikes) for _ in range(2))
    np.testing.assert_array_equal(first.time_s, second.time_s)
    assert 15_000 < first.time_s.size <= 20_000
    assert np.all(np.diff(first.time_s) > 0)
    assert first.time_s.mean() == pytest.approx(50, abs=1)
    np.testing.assert_allclose(first.amplitude / 1000, first.time_s, rtol=1e-5)


def test_flat_binary_is_read_where_it_lies(sorted_twice):
    """A recording that is one flat binary file already is not copied."""
    job, _ = sorted_twice
    assert not job.run.binary.exists()


def test_units_have_their_labels(sorted_twice):
    """Of each unit, Kilosort's label is read."""
    job, _ = sorted_twice
    sorting = Kilosort4Backend().read(job.folder, job.recording.get_num_samples())
    assert len(sorting.unit_properties["ks_label"]) == sorting.unit_ids.size > 0
    assert set(sorting.unit_properties["ks_label"]) <= {"good", "mua"}


def test_copy_is_made_once_and_redone_for_other_data(tmp_path):
    """A recording that is no flat binary is copied once; the copy holds its samples in its order."""
    from spikelab.spike_sorting.backends.binary import flat_binary

    truth = simulate_recording("linear", n_channels=8, duration_s=1, n_units=2)
    job = sort_job(tmp_path, truth.recording)
    binary = flat_binary(job, "key")
    first = binary.path.stat().st_mtime_ns
    samples = np.memmap(binary.path, dtype=binary.dtype, mode="r").reshape(-1, binary.n_channels)
    np.testing.assert_array_equal(samples, truth.recording.get_traces())
    assert flat_binary(job, "key").path.stat().st_mtime_ns == first
    assert flat_binary(job, "other").path.stat().st_mtime_ns != first


@pytest.mark.parametrize("n_done,arrays_on_disk", [*((n_done, False) for n_done in range(1, 8)), (3, True), (3, None)])
def test_continued_from_any_checkpoint_equals_undisturbed(sorted_twice, tmp_path, n_done, arrays_on_disk):
    """A sort that lost everything after its n-th step, and other draws in between, ends in the same spikes.

    So does one that goes on with its arrays on disk, for want of memory, or because it has to make do with little.
    """
    import shutil

    import torch

    job, _ = sorted_twice
    run = RunFolder(inter=tmp_path / "inter", results=tmp_path / "results")
    shutil.copytree(job.run.sorter_checkpoints, run.sorter_checkpoints)
    kept = sorted(run.sorter_checkpoints.glob("step*.pt"))
    assert len(kept) == 7
    for later in kept[n_done:]:
        later.unlink()
    output = run.inter / "output"
    output.mkdir()
    torch.rand(10)
    params = {**job.config.sorter.sorter_params, "arrays_on_disk": arrays_on_disk}
    if arrays_on_disk is None:
        del params["arrays_on_disk"]
    config = job.config.override(kilosort_params=params, total_memory=100_000)
    continued = SortJob(job.recording, output, run, config, ProgressFile(run.progress, "sort"))
    Kilosort4Backend().sort(continued)
    for name in ("spike_times", "spike_clusters", "templates", "amplitudes"):
        np.testing.assert_array_equal(np.load(output / f"{name}.npy"), np.load(job.folder / f"{name}.npy"))


def test_a_sort_that_goes_on_with_other_settings_equals_one_that_began_with_them(sorted_twice, tmp_path):
    """Steps after a checkpoint read the settings asked for now, not those that the checkpoint was made with."""
    import shutil

    job, _ = sorted_twice
    changed = {"cluster_downsampling": 3, "Th_learned": 20.0, "duplicate_spike_ms": 20.0}
    config = job.config.override(kilosort_params={**job.config.sorter.sorter_params, **changed})
    outputs = [tmp_path / name / "output" for name in ("anew", "continued")]
    for output in outputs:
        run = RunFolder(inter=output.parent, results=output.parent / "results")
        output.mkdir(parents=True)
        if output.parent.name == "continued":
            shutil.copytree(job.run.sorter_checkpoints, run.sorter_checkpoints)
        Kilosort4Backend().sort(SortJob(job.recording, output, run, config, ProgressFile(run.progress, "sort")))
    for name in ("spike_times", "spike_clusters", "templates", "kept_spikes"):
        anew, continued = (np.load(output / f"{name}.npy") for output in outputs)
        np.testing.assert_array_equal(anew, continued)
    assert len(np.load(outputs[0] / "spike_times.npy")) != len(np.load(job.folder / "spike_times.npy"))


def test_a_sort_in_little_memory_equals_one_in_memory(sorted_twice, tmp_path, monkeypatch):
    """With arrays that grow, are reordered and are cut in files, the spikes and the files for Phy are the same."""
    from spikelab.spike_sorting.backends.kilosort4 import spilling

    job, _ = sorted_twice
    shapes = []
    zeros = spilling.Spill.zeros

    def seen(spill, shape, dtype):
        shapes.append(tuple(shape))
        return zeros(spill, shape, dtype)

    def few(real):
        # Upstream starts with room for a million spikes.
        return lambda _, shape, *dtype: real((300, *shape[1:]) if shape[0] == 10**6 else shape, *dtype)

    import torch

    monkeypatch.setattr(spilling.Spill, "zeros", seen)
    monkeypatch.setattr(spilling._Numpy, "zeros", few(np.zeros), raising=False)
    monkeypatch.setattr(spilling._Torch, "zeros", few(torch.zeros), raising=False)
    run = RunFolder(inter=tmp_path / "inter", results=tmp_path / "results")
    output = run.inter / "output"
    output.mkdir(parents=True)
    config = job.config.override(total_memory=50_000)
    Kilosort4Backend().sort(SortJob(job.recording, output, run, config, ProgressFile(run.progress, "sort")))
    n_spikes, n_written = len(np.load(job.folder / "kept_spikes.npy")), len(np.load(job.folder / "spike_times.npy"))
    rows = [shape[0] for shape in shapes if len(shape) == 3]
    assert {600, n_spikes, n_written} <= set(rows)
    for name in ("spike_times", "spike_clusters", "templates", "amplitudes", "spike_positions", "pc_features"):
        np.testing.assert_array_equal(np.load(output / f"{name}.npy"), np.load(job.folder / f"{name}.npy"))
    assert not [path for path in run.sorter_checkpoints.iterdir() if path.suffix != ".pt"]


def test_a_changed_setting_goes_back_to_the_step_that_reads_it():
    """The keys of the steps before the first that reads a changed setting stay the same, all later ones change."""
    import torch

    from spikelab.spike_sorting.backends.binary import FlatBinary
    from spikelab.spike_sorting.backends.kilosort4.steps import STEPS, Request, step_keys

    probe = {"chanMap": np.arange(4)}

    def keys(**settings: object) -> list[str]:
        binary = FlatBinary(Path("recording.bin"), "int16", 4)
        return step_keys(Request(binary, "key", probe, 20_000.0, settings, torch.device("cpu"), Path()))

    for setting, step in [("batch_size", 0), ("cluster_downsampling", 3), ("Th_learned", 5), ("ccg_threshold", 7)]:
        same = [one == other for one, other in zip(keys(), keys(**{setting: 3}), strict=True)]
        assert same == [number < step for number in range(len(STEPS))], setting


def test_a_checkpoint_refuses_what_only_a_pickle_could_hold(tmp_path):
    """Only numbers, texts, arrays and tensors enter a checkpoint; anything else is an error that says where."""
    from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints

    with pytest.raises(TypeError, match="/ops/probe"):
        Checkpoints(tmp_path, ["key"]).save(0, {"ops": {"probe": object()}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_none(tmp_path, damage):
    """A checkpoint that was cut short, or of which one byte changed, is passed over for the one before."""
    import torch

    from spikelab.spike_sorting.backends.kilosort4.checkpoints import Checkpoints

    kept = Checkpoints(tmp_path, ["first", "second"])
    for step in (0, 1):
        kept.save(step, {"st": np.arange(1000) + step})
    path = tmp_path / "step1.pt"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[content.find(np.arange(500, 510).tobytes())] ^= 1
    path.write_bytes(content)
    step, values = kept.load_latest(torch.device("cpu"))
    assert step == 0
    np.testing.assert_array_equal(values["st"], np.arange(1000))
