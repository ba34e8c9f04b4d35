"""What a job is projected to take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight.facts import Header
from spikelab.spike_sorting.preflight.projection import Projection, project

Make = Callable[..., Any]


def test_copy_is_exact_and_goes_after_success(make_job: Make, header: Make) -> None:
    """A source that is no flat binary costs a copy of its size, which is free again after success."""
    projected = project(make_job(), header(n_channels=100, n_samples=10**7))
    assert projected.copies_gb == pytest.approx(100 * 10**7 * 2 / 1e9)
    assert projected.disk_inter_gb > projected.transient_gb > projected.copies_gb


def test_flat_binary_needs_no_copy(make_job: Make, header: Make) -> None:
    """A source that the sorter reads as it is costs no copy."""
    assert project(make_job(), header(is_flat_binary=True)).copies_gb == 0


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float64", "int32"])
def test_copy_has_the_type_that_sorters_read(make_job: Make, header: Make, dtype: str) -> None:
    """The copy has 16 bits, whatever the recording has."""
    assert project(make_job(), header(dtype=dtype)).copies_gb == pytest.approx(4 * 12e6 * 2 / 1e9)


def test_recording_in_memory_is_copied_first(make_job: Make, header: Make) -> None:
    """A recording that only this process has is written to the intermediate folder, and stays there."""
    projected = project(make_job(in_memory=object()), header(is_flat_binary=True))
    assert projected.copies_gb == pytest.approx(4 * 12e6 * 2 / 1e9)
    assert projected.transient_gb < projected.copies_gb


def test_kept_copy_is_not_free_again(make_job: Make, header: Make) -> None:
    """With keep_binary, only checkpoints go after success; with delete_inter, everything."""
    kept = project(make_job(keep_binary=True), header())
    everything = project(make_job(delete_inter=True), header())
    assert kept.transient_gb + kept.copies_gb == pytest.approx(project(make_job(), header()).transient_gb)
    assert everything.transient_gb == everything.disk_inter_gb


def _of(job: Job, values: Header) -> Projection:
    return project(job, values)


@pytest.mark.parametrize(
    "setting, field",
    [
        ({"save_waveform_files": True}, "disk_inter_gb"),
        ({"save_raw_pkl": True}, "disk_results_gb"),
        ({"compile_to_mat": True}, "disk_results_gb"),
        ({"compile_to_mat": True, "compile_waveforms": True}, "disk_results_gb"),
        ({"kilosort_params": {"batch_size": 600_000}}, "ram_gb"),
        ({"kilosort_params": {"batch_size": 600_000}}, "vram_gb"),
        ({"kilosort_params": {"save_preprocessed_copy": True}}, "disk_inter_gb"),
    ],
)
def test_settings_that_cost_more_are_projected_to(
    make_job: Make, header: Make, setting: dict[str, Any], field: str
) -> None:
    """A setting that writes more files or works on more at once raises the projection."""
    dense = header(n_channels=64)
    assert getattr(_of(make_job(**setting), dense), field) > getattr(_of(make_job(), dense), field)


def test_numbers_are_those_that_users_report(make_job: Make, header: Make) -> None:
    """1,024 channels take about 14 GB of GPU memory, and an hour of Neuropixels some tens of GB of disk and memory."""
    assert project(make_job(), header(n_channels=1024)).vram_gb == pytest.approx(14, rel=0.05)
    probe = project(make_job(), header(n_channels=384, fs_Hz=30_000.0, n_samples=30_000 * 3600))
    assert 80 < probe.copies_gb < 90
    assert 90 < probe.disk_inter_gb < 150
    assert 4 < probe.ram_gb < 32


@pytest.mark.parametrize(
    "setting, free_gb, is_in_memory",
    [
        ({}, None, True),
        ({}, 1000, True),
        ({}, 16, False),
        ({"total_memory": "8G"}, None, False),
        ({"total_memory": "800G"}, 1000, True),
        ({"kilosort_params": {"arrays_on_disk": True}}, 1000, False),
        ({"kilosort_params": {"arrays_on_disk": False}}, 16, True),
    ],
)
def test_memory_holds_features_only_where_the_sort_does(
    make_job: Make, header: Make, setting: dict[str, Any], free_gb: int | None, is_in_memory: bool
) -> None:
    """Features that Kilosort4 leaves on disk do not count, but what it holds of each spike and of a centre does."""
    day = header(n_channels=384, fs_Hz=30_000.0, n_samples=30_000 * 24 * 3600)
    free_bytes = None if free_gb is None else free_gb * 10**9
    ram_gb = project(make_job(**setting), day, free_bytes).ram_gb
    features_gb = 5 * 384 * 24 * 3600 * 240 / 1e9
    assert (ram_gb > 2 * features_gb) is is_in_memory
    assert ram_gb > 5 * 384 * 24 * 3600 * 64 / 1e9
