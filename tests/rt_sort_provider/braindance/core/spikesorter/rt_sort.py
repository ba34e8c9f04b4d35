"""RT-Sort's two functions over a threshold: one sequence for each channel on which enough spikes are largest."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from braindance.core.spikedetector.model import ModelSpikeSorter, _Traces

_log = logging.getLogger(__name__)
_HOW = os.environ.get("FAKE_RT_SORT", "")
_FEWEST, _NEAR = 5, 10
if _HOW == "broken":
    msg = "cannot import name 'MaxwellRecordingExtractor' from 'spikeinterface.extractors'"
    raise ImportError(msg)


class _Sorting:
    def __init__(self, trains: list[Any]) -> None:
        self.unit_ids = list(range(len(trains)))
        self._trains = trains

    def get_unit_spike_train(self, unit: int) -> Any:
        return self._trains[unit]


class RTSort:
    """Root electrodes, and what finds their spikes."""

    def __init__(self, sequences: list[int], model: Any, params: dict[str, Any], device: str = "cuda") -> None:
        if device != "cpu":
            msg = "Torch not compiled with CUDA enabled"
            raise AssertionError(msg)
        self._roots, self._model, self._params = sequences, model, params

    def get_seq_root_elecs(self) -> list[int]:
        return self._roots

    def save(self, pickle_path: Path) -> None:
        Path(pickle_path).write_bytes(b"sequences")

    def sort_offline(
        self,
        recording: Any,
        inter_path: Path | None = None,
        model_outputs: str | None = None,
        return_spikeinterface_sorter: bool = False,
        verbose: bool = False,
    ) -> _Sorting:
        assert return_spikeinterface_sorter
        traces = recording.get_traces()
        outputs = np.load(model_outputs) if model_outputs else _outputs(self._model, traces)
        return _Sorting([_spikes(traces, outputs, root) for root in self._roots])


def detect_sequences(
    recording: Any,
    inter_path: Path,
    detection_model: ModelSpikeSorter,
    recording_window_ms: tuple[float, float] | None = None,
    stringent_thresh: float = 0.275,
    min_seq_spikes_n: int = 10,
    delete_inter: bool = False,
    device: str = "cuda",
    num_processes: int | None = None,
    verbose: bool = True,
) -> RTSort | None:
    _misbehave()
    assert num_processes is not None
    traces = recording.get_traces()
    if recording_window_ms is not None:
        first, end = (round(ms * recording.sampling_frequency / 1000) for ms in recording_window_ms)
        traces = traces[first:end]
    network = detection_model.compile(traces.shape[1], device=device)
    outputs = _outputs(network, traces)
    inter_path.mkdir(parents=True)
    np.save(inter_path / "model_outputs.npy", outputs)
    _bar()
    fewest = max(_FEWEST, min_seq_spikes_n // 2)
    roots = [c for c in range(traces.shape[1]) if len(_spikes(traces, outputs, c)) >= fewest]
    _log.info("Detected %d preliminary propagation sequences", len(roots))
    return RTSort(roots, network, {"stringent_thresh": stringent_thresh}) if roots else None


def _outputs(network: Any, traces: Any) -> Any:
    scaled = _Traces((traces / _noise(traces)).astype(np.float16))
    return network(scaled).values


def _noise(traces: Any) -> Any:
    return np.median(np.abs(traces)) / 0.6745


def _spikes(traces: Any, outputs: Any, root: int) -> Any:
    """Return the samples at which `root` is the largest of all channels, and the largest of its own neighbours."""
    samples = np.flatnonzero((outputs[:, root] > 0) & (traces.argmin(axis=1) == root))
    largest = [t for t in samples if traces[t, root] <= traces[max(0, t - _NEAR) : t + _NEAR + 1, root].min()]
    return np.asarray(largest, dtype=np.int64)


def _bar() -> None:
    if os.environ.get("TQDM_DISABLE"):
        return
    for percent in (0, 50, 100):
        sys.stderr.write(f"\r{percent:3d}%|{'#' * (percent // 10):<10}| {percent}/100")
    sys.stderr.write("\n")


def _die(_: Any) -> None:
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _misbehave() -> None:
    if _HOW == "memory":
        msg = "Unable to allocate 12.0 GiB for an array with shape (100000, 32256) and data type float32"
        raise MemoryError(msg)
    if _HOW == "gpu":
        msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
        raise RuntimeError(msg)
    if _HOW == "unknown":
        msg = "nobody has seen this before"
        raise ZeroDivisionError(msg)
    if _HOW == "segfault":
        print("reading address 0")  # noqa: T201 - as RT-Sort does, which flushes nothing
        ctypes.string_at(0)
    if _HOW == "killed":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(_die, [None])
    if _HOW == "no word":
        os._exit(0)
    if _HOW == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        time.sleep(600)
