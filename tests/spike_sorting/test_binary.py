"""The flat binary that a sorter reads: the source itself, or a copy that holds the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeinterface.core import NumpyRecording
from support import simulate_maxwell

from spikelab.spike_sorting.backends import binary
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.conversion import choose_scaling, convert
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.sources import Source, open_source
from spikelab.spike_sorting.supervision.progress import ProgressFile, read_progress

N_SAMPLES, N_CHANNELS = 50_021, 5


def job_for(recording: Any, folder: Path, **execution: Any) -> SortJob:
    run = RunFolder(folder / "inter", folder / "results")
    run.inter.mkdir(exist_ok=True)
    config = KILOSORT4.override(**{"n_jobs": 1, **execution})
    return SortJob(recording, folder, run, config, ProgressFile(run.progress, "sort"))


def samples_of(flat: binary.FlatBinary) -> np.ndarray:
    return np.fromfile(flat.path, dtype=flat.dtype).reshape(-1, flat.n_channels)


def in_memory(traces: np.ndarray) -> Any:
    return NumpyRecording([traces], 20_000.0)


@pytest.fixture(scope="module")
def traces() -> np.ndarray:
    """Every sample differs from its neighbours in time and in space."""
    return np.arange(N_SAMPLES * N_CHANNELS, dtype=np.int64).reshape(N_SAMPLES, N_CHANNELS) * 7 % 60_000


@pytest.fixture(scope="module")
def saved(traces: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("saved") / "recording"
    return in_memory((traces - 30_000).astype("int16")).save(folder=folder, n_jobs=1, verbose=False)


class Large:
    """A recording of 100 channels that only says how long it is."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples

    def get_num_samples(self) -> int:
        return self.n_samples

    def get_num_channels(self) -> int:
        return 100


# ------------------------------------------------------------------------------------------ in processes


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_a_copy_by_several_processes_is_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_jobs: int
) -> None:
    """However many processes copy, and wherever their chunks meet, every sample is at its place."""
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file, duration_s=8, n_channels=9, n_units=2)
    (recording,) = open_source(Source((str(file),)))
    recording = recording.remove_channels(recording.channel_ids[3:5]).frame_slice(1_003, 158_002)
    # Or the recording would be too small for several processes, and for several chunks in each.
    monkeypatch.setattr(binary, "COPIED_BYTES_PER_PROCESS", 1_000_000)
    monkeypatch.setattr(binary, "_LARGEST_CHUNK_BYTES", 400_000)
    job = job_for(recording, tmp_path, n_jobs=n_jobs, total_memory="4G")
    kwargs = binary.job_kwargs(job.config.execution, recording, binary.COPIED_BYTES_PER_PROCESS)
    assert (kwargs["n_jobs"], kwargs["total_memory"]) == (n_jobs, f"{max(1, n_jobs * 2 // 5)}M")

    flat = binary.flat_binary(job, "key")
    assert flat == binary.FlatBinary(job.run.binary, "uint16", 7)
    np.testing.assert_array_equal(samples_of(flat), recording.get_traces())
    progress = read_progress(job.run.progress)
    assert progress is not None
    assert progress.step == "copy to binary"
    assert [path.name for path in job.run.inter.iterdir() if path.name.startswith(".")] == []


def test_small_recordings_are_copied_by_one_process() -> None:
    """The start of a process costs more than the work on less than half a gigabyte; n_jobs is the most."""
    execution = KILOSORT4.override(n_jobs=4, total_memory="32G").execution
    n_jobs = [binary.job_kwargs(execution, Large(n))["n_jobs"] for n in (10**5, 10**6, 2 * 10**6, 10**8)]
    assert n_jobs == [1, 1, 2, 4]


@pytest.mark.parametrize("total_memory,n_jobs", [("100M", 1), ("1G", 2), ("2G", 5), ("32G", 16)])
def test_so_many_processes_as_memory_allows(total_memory: str, n_jobs: int) -> None:
    """What the processes hold by themselves counts as well: with their chunks they stay within total_memory."""
    execution = KILOSORT4.override(n_jobs=16, total_memory=total_memory).execution
    assert binary.job_kwargs(execution, Large(10**9))["n_jobs"] == n_jobs


@pytest.mark.parametrize("total_memory,most_MB", [("1G", 125), (1_000_000_000, 125), ("40M", 5), ("1M", 1)])
def test_memory_is_shared_out(saved: Any, total_memory: str | int, most_MB: int) -> None:
    """The chunks in flight together stay within an eighth of total_memory, for they become floats."""
    execution = KILOSORT4.override(n_jobs=2, total_memory=total_memory).execution
    chunks = binary.job_kwargs(execution, saved)["total_memory"]
    assert chunks.endswith("M")
    assert 1 <= int(chunks.removesuffix("M")) <= most_MB


# ---------------------------------------------------------------------------------- what is not copied


def test_a_flat_binary_is_read_where_it_lies(saved: Any, tmp_path: Path) -> None:
    """A recording that is one whole flat file is not copied."""
    job = job_for(saved, tmp_path)
    flat = binary.flat_binary(job, "key")
    assert flat.path == Path(saved.get_binary_description()["file_paths"][0])
    assert (flat.dtype, flat.n_channels) == ("int16", N_CHANNELS)
    np.testing.assert_array_equal(samples_of(flat), saved.get_traces())
    assert list(job.run.inter.iterdir()) == []


@pytest.mark.parametrize("what", ["start", "end", "channels", "order", "header", "segments of files", "uV"])
def test_a_part_of_a_flat_binary_is_copied(saved: Any, tmp_path: Path, what: str) -> None:
    """Whatever is not exactly one whole file of samples is copied, so that the sorter sees what was chosen."""
    from spikeinterface.core import BinaryRecordingExtractor, concatenate_recordings
    from spikeinterface.preprocessing import scale

    source = Path(saved.get_binary_description()["file_paths"][0])
    with_header = tmp_path / "with_header.bin"
    with_header.write_bytes(bytes(100) + source.read_bytes())
    recording = {
        "start": lambda: saved.frame_slice(100, N_SAMPLES),
        "end": lambda: saved.frame_slice(0, 20_000),
        "channels": lambda: saved.select_channels(saved.channel_ids[:4]),
        "order": lambda: saved.select_channels(saved.channel_ids[::-1]),
        "header": lambda: BinaryRecordingExtractor(
            [with_header], 20_000.0, "int16", num_channels=N_CHANNELS, file_offset=100
        ),
        "segments of files": lambda: concatenate_recordings([saved, saved]),
        "uV": lambda: scale(saved, gain=0.5, dtype="float32").astype("int16"),
    }[what]()
    job = job_for(recording, tmp_path)
    flat = binary.flat_binary(job, "key")
    assert flat.path == job.run.binary
    np.testing.assert_array_equal(samples_of(flat), recording.get_traces())


# ----------------------------------------------------------------------------------------- other dtypes


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int8", "uint8", ">i2", ">u2"])
def test_samples_of_16_bits_and_less_keep_their_values(tmp_path: Path, dtype: str) -> None:
    """Every value of these types arrives as it is, in this machine's byte order."""
    limits = np.iinfo(dtype)
    traces = np.linspace(limits.min, limits.max, 4_000).round().astype(dtype).reshape(-1, 4)
    flat = binary.flat_binary(job_for(in_memory(traces), tmp_path), "key")
    assert flat.dtype == ("uint16" if dtype in {"uint16", ">u2"} else "int16")
    assert (flat.step, flat.remarks()) == (1.0, [])
    np.testing.assert_array_equal(samples_of(flat).astype(int), traces.astype(int))


def test_a_sorter_that_reads_signed_samples_alone(tmp_path: Path) -> None:
    """Unsigned samples are shifted by half of their range, to the last value, for a sorter that knows no others."""
    traces = np.arange(65_536).astype("uint16").reshape(-1, 4)
    flat = binary.flat_binary(job_for(in_memory(traces), tmp_path), "key", dtypes=("int16",))
    assert (flat.dtype, flat.remarks()) == ("int16", [])
    np.testing.assert_array_equal(samples_of(flat).astype(int) + 32_768, traces)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_wide_integers_that_fit_keep_their_values(tmp_path: Path, dtype: str) -> None:
    """Converters of 16 bits often come in wider types: nothing is scaled that need not be."""
    low = 0 if dtype.startswith("u") else -20_000
    traces = np.random.default_rng(0).integers(low, 20_000, (20_000, 4)).astype(dtype)
    flat = binary.flat_binary(job_for(in_memory(traces), tmp_path), "key")
    assert (flat.dtype, flat.step) == ("int16", 1.0)
    np.testing.assert_array_equal(samples_of(flat).astype(int), traces.astype(int))


@pytest.mark.parametrize("dtype,unit_uV", [("float32", 1.0), ("float32", 1e-6), ("float64", 1e-3), ("int32", 0.06)])
@pytest.mark.parametrize("offset_uV", [0.0, 40_000.0])
def test_other_samples_are_scaled_and_shifted(tmp_path: Path, dtype: str, unit_uV: float, offset_uV: float) -> None:
    """Volts, millivolts and 24 bits, with and without an offset, lose no more than a small part of their noise."""
    rng = np.random.default_rng(1)
    signal_uV = rng.normal(0, 5, (20_000, 4))
    signal_uV[::500] -= 3_000
    offsets = offset_uV * np.array([1, -1, 0, 0.5])
    scale = 1 / unit_uV if dtype == "int32" else unit_uV
    recorded = ((signal_uV + offsets) * scale).astype(dtype)
    flat = binary.flat_binary(job_for(in_memory(recorded), tmp_path), "key")
    assert flat.remarks() == []
    again_uV = samples_of(flat) * flat.step / scale
    wrong_uV = again_uV - recorded / scale
    assert np.ptp(wrong_uV, axis=0).max() <= 1.02 * flat.step / scale + 2e-2
    assert 5 / 40 < flat.step / scale < 5 / 20, "steps per noise"


def test_saturation_is_counted_and_told(tmp_path: Path) -> None:
    """What 16 bits cannot hold becomes their end, on either side, and the run says how often; the rest stays exact."""
    rng = np.random.default_rng(2)
    traces = rng.normal(0, 5, (60_000, 4)).astype("float32")
    traces[5_000:5_010] = 1e6
    traces[8_000, 2], traces[8_001, 2], traces[8_002, 2] = -np.inf, np.nan, -1e7
    flat = binary.flat_binary(job_for(in_memory(traces), tmp_path, total_memory="4M"), "key")
    assert flat.n_saturated == 10 * 4 + 2
    (told,) = flat.remarks()
    assert (told.code, told.message[:10]) == ("conversion-saturated", "42 samples")
    copied = samples_of(flat)
    assert (copied[5_000:5_010] == 32_767).all()
    assert copied[8_000:8_003, 2].tolist() == [-32_768, 0, -32_768]
    assert np.abs(copied[20_000:] * flat.step - traces[20_000:]).max() < 0.2
    again = binary.flat_binary(job_for(in_memory(traces), tmp_path), "key")
    assert again == flat, "a copy that is used again still tells"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), decades=st.floats(-7, 6), spread=st.floats(0.0, 5.0))
def test_a_scaling_holds_the_noise_and_counts_what_it_cannot(seed: int, decades: float, spread: float) -> None:
    """Whatever the unit and however wide the tails: no sample is off by more than half a step unless it is counted."""
    rng = np.random.default_rng(seed)
    traces = rng.normal(0, 1, (3_000, 3)) * (1 + rng.pareto(1.5, (3_000, 3)) * 10**spread / 1e3) * 10**decades
    traces = traces.astype("float64")
    scaling = choose_scaling(in_memory(traces))
    stored, n_beyond = convert(traces, scaling)
    off = np.abs(stored * scaling.step + np.array(scaling.centres) - traces)
    assert (off > 0.5001 * scaling.step).sum() == n_beyond
    noise = np.median(np.abs(np.diff(traces, axis=0))) / 0.6745 / np.sqrt(2)
    assert scaling.step <= 0.3 * noise


def test_a_flat_recording_has_a_scaling_too() -> None:
    """Where nothing ever changes there is no noise to measure the step by."""
    scaling = choose_scaling(in_memory(np.full((1_000, 2), 3.5, "float32")))
    assert convert(np.full((10, 2), 3.5, "float32"), scaling)[0].tolist() == [[0, 0]] * 10


# ------------------------------------------------------------------------------------------ copied once


def test_a_copy_is_made_once(saved: Any, tmp_path: Path) -> None:
    """A finished copy is used again; one of another recording, or one that is cut short, is not."""
    job = job_for(saved.frame_slice(10, 1_000), tmp_path)

    def copied(key: str) -> bool:
        before = job.run.binary.stat().st_mtime_ns if job.run.binary.exists() else None
        flat = binary.flat_binary(job, key)
        np.testing.assert_array_equal(samples_of(flat), job.recording.get_traces())
        return flat.path.stat().st_mtime_ns != before

    assert copied("a")
    assert not copied("a")
    assert copied("b")
    job.run.binary.write_bytes(job.run.binary.read_bytes()[:-2])
    assert copied("b")
    job.run.binary.with_suffix(".done.json").write_text("{")
    assert copied("b")
    assert not copied("b")


def test_a_copy_that_fails_leaves_nothing(saved: Any, tmp_path: Path) -> None:
    """An error in the middle leaves neither a half-written copy nor a marker, and is the reader's own."""

    class BrokenDisk(Exception):
        pass

    recording = saved.frame_slice(0, 40_000)
    segment = recording.segments[0]
    read = segment.get_traces

    def get_traces(start_frame: int, end_frame: int, channel_indices: Any) -> np.ndarray:
        if end_frame > 20_000:
            raise BrokenDisk
        return read(start_frame, end_frame, channel_indices)

    segment.get_traces = get_traces
    job = job_for(recording, tmp_path, total_memory="8M")
    with pytest.raises(BrokenDisk):
        binary.flat_binary(job, "key")
    assert [path.name for path in job.run.inter.iterdir()] in ([], ["progress.json"])
