"""Which part of a recording is sorted: what the pipeline sorts is what a slice cut by hand holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import with_fake_sorter

from spikelab.simulation import simulate_recording, write_maxwell

pytestmark = pytest.mark.timeout(180)

_SCRIPT = """
import json, sys
from pathlib import Path
from spikelab.spike_sorting import sort_recording
recording, cases = json.loads(sys.argv[1])
plain = {"curate_first": False, "curate_second": False, "preflight": False, "n_jobs": 1}
def described(sd):
    names = ("n_samples", "channel_ids", "channel_locations", "rec_chunks_ms", "rec_chunk_names", "epoch_name")
    about = {name: sd.metadata[name] for name in names if name in sd.metadata}
    about["channel_locations"] = about["channel_locations"].tolist()
    trains = {str(unit["unit_id"]): train.tolist() for unit, train in zip(sd.neuron_attributes, sd.train)}
    return {"length": sd.length, "trains": trains, **about}
for number, options in enumerate(cases):
    folders = {"results_folders": [f"results{number}"], "intermediate_folders": [f"inter{number}"]}
    try:
        sds = sort_recording(recording, sorter="fake", **plain, **folders, **options)
        print(json.dumps([described(sd) for sd in sds]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""
FS_kHz = 20
FLAT = 4
"""Index of a channel without signal."""


@dataclass(frozen=True)
class Case:
    """Settings, and what they leave: periods in seconds, and channels by index."""

    options: dict[str, Any]
    periods_s: tuple[tuple[float, float], ...] = ((0, 6),)
    without: tuple[int, ...] = (FLAT,)


TWO_S = ((0.5, 2.5), (3.5, 5.5))
CASES = {
    "everything": Case({}),
    "first_n_mins": Case({"first_n_mins": 0.05}, ((0, 3),)),
    "first_n_mins, more than there is": Case({"first_n_mins": 10}),
    "rec_chunks": Case({"rec_chunks": [[10_000, 50_000], [70_000, 110_000]]}, TWO_S),
    "rec_chunks_s": Case({"rec_chunks_s": TWO_S}, TWO_S),
    "start and end": Case({"start_time_s": 1.5, "end_time_s": 4.25}, ((1.5, 4.25),)),
    "start": Case({"start_time_s": 4.0}, ((4, 6),)),
    "tmin and tmax of Kilosort": Case({"kilosort_params": {"tmin": 1.5, "tmax": 4.25}}, ((1.5, 4.25),)),
    "all of them": Case(
        {"rec_chunks_s": TWO_S, "start_time_s": 1.0, "end_time_s": 5.0, "first_n_mins": 0.04},
        ((1.0, 2.5), (3.5, 4.4)),
    ),
    "mea_y_max": Case({"mea_y_max": 70.0}, without=(FLAT, 8, 9)),
    "bad_channels": Case({"bad_channels": ["11", "17"], "start_time_s": 3.0}, ((3, 6),), without=(1, 7)),
    "bad_channels of numbers": Case({"bad_channels": [11, 17], "mea_y_max": 70.0}, without=(1, 7, 8, 9)),
    "no bad channels": Case({"bad_channels": None}, without=()),
}
WRONG = {
    "a chunk beyond the end": ({"rec_chunks": [[0, 50_000], [100_000, 130_000]]}, "130000"),
    "chunks that overlap": ({"rec_chunks_s": [[0, 3], [2, 4]]}, "overlap"),
    "a start beyond the end": ({"start_time_s": 60.0}, "leave nothing"),
    "a channel that is not there": ({"bad_channels": ["99"]}, "'99'"),
}


def simulated(seconds: float, seed: int = 0) -> Any:
    """Ten channels, 10 um apart, named 10 to 19; one of them is flat."""
    from spikeinterface.core import NumpyRecording

    source = simulate_recording(
        "linear", n_channels=10, n_units=5, duration_s=seconds, peak_uV=(90, 150), rate_Hz=(8, 16), seed=seed,
        dtype="uint16", gain_uV=3.147, offset_uV=-512 * 3.147,
    ).recording  # fmt: skip
    traces = source.get_traces().copy()
    traces[:, FLAT] = 512
    recording = NumpyRecording([traces], source.sampling_frequency, channel_ids=[str(10 + k) for k in range(10)])
    recording.set_dummy_probe_from_locations(np.stack([np.zeros(10), 10.0 * np.arange(10)], axis=1))
    recording.set_channel_gains(3.147)
    recording.set_channel_offsets(-512 * 3.147)
    return recording


def run(recording: Path, cases: list[dict[str, Any]], folder: Path) -> list[Any]:
    """Sort a recording under each set of options in turn, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([str(recording), cases])],
        cwd=folder, env=with_fake_sorter(), capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def recording() -> Any:
    return simulated(6)


@pytest.fixture(scope="module")
def file(recording: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maxwell(tmp_path_factory.mktemp("selection") / "culture.raw.h5", recording)


@pytest.fixture(scope="module")
def inline(file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every case, sorted in one process, so that packages are imported once."""
    options = [{"runner": "inline", **case.options} for case in CASES.values()]
    wrong = [{"runner": "inline", **options} for options, _ in WRONG.values()]
    said = run(file, options + wrong, tmp_path_factory.mktemp("inline"))
    return dict(zip([*CASES, *WRONG], said, strict=True))


def troughs_ms(traces: np.ndarray) -> dict[str, list[float]]:
    """Return what the fake sorter must find in a slice: troughs below six times the noise, by channel."""
    traces = traces.astype(np.float32)
    traces -= np.median(traces, axis=0)
    below = traces < -6 * np.median(np.abs(traces), axis=0) / 0.6745
    found = {str(k): 1 + np.flatnonzero(below[1:, k] & ~below[:-1, k]) for k in range(below.shape[1])}
    return {k: (samples / FS_kHz).tolist() for k, samples in found.items() if samples.size}


def cut_by_hand(recording: Any, case: Case) -> tuple[np.ndarray, list[int], list[list[float]]]:
    """Return traces, channels and epochs (ms) that a case leaves of the recording."""
    kept = [k for k in range(10) if k not in case.without]
    traces = recording.get_traces()
    slices = [traces[round(start * 20_000) : round(end * 20_000), kept] for start, end in case.periods_s]
    borders = np.cumsum([0, *(len(piece) / FS_kHz for piece in slices)]).tolist()
    return np.concatenate(slices), kept, [list(pair) for pair in pairwise(borders)]


def check(sd: dict[str, Any], recording: Any, case: Case) -> None:
    traces, kept, epochs_ms = cut_by_hand(recording, case)
    assert sd["n_samples"] == len(traces)
    assert sd["length"] == len(traces) / FS_kHz
    assert sd["channel_ids"] == [str(10 + k) for k in kept]
    assert sd["channel_locations"] == recording.get_channel_locations()[kept].tolist()
    assert sd["rec_chunks_ms"] == epochs_ms
    expected = troughs_ms(traces)
    assert len(expected) >= 3
    assert sd["trains"].keys() == expected.keys()
    assert all(np.allclose(sd["trains"][unit], times) for unit, times in expected.items())


@pytest.mark.parametrize("name", CASES)
def test_what_is_sorted_is_the_slice(inline: dict[str, Any], recording: Any, name: str) -> None:
    """Spike times, length, epochs and channels are those of the same slice cut by hand."""
    (sd,) = inline[name]
    check(sd, recording, CASES[name])
    parts = len(CASES[name].periods_s)
    names = ["culture.raw.h5"] if parts == 1 else [f"culture.raw.h5 part {k + 1}" for k in range(parts)]
    assert sd["rec_chunk_names"] == names


@pytest.mark.parametrize("name", ["all of them", "bad_channels of numbers"])
def test_workers_sort_the_same_slice(file: Path, recording: Any, tmp_path: Path, name: str) -> None:
    """The settings reach the worker processes unchanged."""
    ((sd,),) = run(file, [CASES[name].options], tmp_path)
    check(sd, recording, CASES[name])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_selection_says_what_is_wrong(inline: dict[str, Any], name: str) -> None:
    """A selection that does not fit the recording fails with a message that names what does not fit."""
    _, text = inline[name]
    assert WRONG[name][1] in text


def test_a_selection_of_a_folder_is_split_at_the_borders_of_its_files(tmp_path: Path) -> None:
    """Times count over the whole of a folder, and each file gets back what is left of it."""
    folder = tmp_path / "day"
    folder.mkdir()
    parts = [simulated(3, 1), simulated(2, 2)]
    for name, part in zip(("part9", "part10"), parts, strict=True):
        write_maxwell(folder / f"{name}.raw.h5", part)
    cut, early = run(
        folder,
        [{"runner": "inline", "start_time_s": 1.0, "end_time_s": 5.0}, {"runner": "inline", "first_n_mins": 0.04}],
        tmp_path,
    )
    assert [sd["length"] for sd in cut] == [2000, 2000]
    assert [sd["epoch_name"] for sd in cut] == ["part9.raw.h5", "part10.raw.h5"]
    assert [sd["length"] for sd in early] == [2400, 0]
    whole = np.concatenate([part.get_traces() for part in parts])
    kept = [k for k in range(10) if k != FLAT]
    expected = troughs_ms(whole[20_000:100_000, kept])
    for sd, (start, end) in zip(cut, [(0, 2000), (2000, 4000)], strict=True):
        for unit, times in expected.items():
            mine = [time - start for time in times if start <= time < end]
            assert np.allclose(sd["trains"][unit], mine)
