"""Train the detection network of RT-Sort on recordings whose spikes are known or sorted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import InsufficientActivityError, SorterNotInstalledError
from spikelab.spike_sorting.backends.rt_sort.model_folder import TRAINING
from spikelab.spike_sorting.supervision.publish import publish_folder, publish_json

if TYPE_CHECKING:
    from spikelab.spike_sorting.backends.rt_sort.detector import Detector
    from spikelab.spike_sorting.backends.rt_sort.labels import Labelled, Source

_HELD_OUT_FRAC, _FALSE_HZ = 0.1, 1.0

Tell = Callable[[int, float], None]


@dataclass(frozen=True)
class DetectorTraining:
    """A detection model, and how it was trained; the same is in its ``training.json``.

    Attributes
    ----------
    folder : Path
        Has ``init_dict.json`` and ``state_dict.pt``: what ``rt_sort_model_path`` takes.
    fs_Hz : float
        Sampling rate of the recordings (Hz).
    n_recordings, n_channels, n_troughs : int
        What it was trained on: recordings, their channels, and clear troughs in these.
    n_steps, seed : int
        As asked for.
    loss : float
        Cross-entropy over the last tenth of the steps.
    found_frac, found_by_threshold_frac : float
        Share of the clear troughs that the model finds, at one false detection a second and channel, in the last tenth
        of each recording, which it was not trained on; and share that a plain threshold finds there.
    cpu_s : float
        Time that the processor took for all of it (s).
    versions : mapping of str to str
        Packages that decide the result.
    """

    folder: Path
    fs_Hz: float
    n_recordings: int
    n_channels: int
    n_troughs: int
    n_steps: int
    seed: int
    loss: float
    found_frac: float
    found_by_threshold_frac: float
    cpu_s: float
    versions: Mapping[str, str]


def train_detector(
    sources: Sequence[Source],
    folder: str | Path,
    *,
    n_steps: int = 1000,
    seed: int = 0,
    duration_s: float = 30.0,
    n_channels: int = 64,
    tell: Tell | None = None,
) -> DetectorTraining:
    """Train a detection model for RT-Sort, and put it into a new folder as a whole.

    The network learns where spikes have their troughs: on each channel on which the mean of a unit's spikes is at
    least 2 interquartile ranges deep, at the sample of that trough. What is fainter, and deep troughs that no unit
    explains, count neither as spikes nor as noise. It runs on the CPU and needs torch
    (``pip install 'spikelab[rtsort]'``); 1,000 steps take about a minute.

    Parameters
    ----------
    sources : sequence of path, GroundTruth or (recording, sorting)
        What to learn from: results folders of spikelab (the recording must still be there), simulations, SpikeInterface
        recordings with their sortings. All of one sampling rate, such as that of the recordings to be sorted.
    folder : str or Path
        Where the model goes. It must not exist, or be empty.
    n_steps : int, default: 1000
        Steps of training.
    seed : int, default: 0
        Decides everything random: the same seed gives the same model on the same machine.
    duration_s : float, default: 30.0
        How much of each recording is read, from its start (s).
    n_channels : int, default: 64
        At most so many channels of each recording, drawn at random.
    tell : callable, optional
        Is called after each step with its number and its loss.

    Returns
    -------
    DetectorTraining
        Where the model is, and how it was trained.

    Raises
    ------
    ValueError
        There are no sources, they are none of the above, shorter than a second or silent, they have different sampling
        rates, or the folder is taken.
    InsufficientActivityError
        No unit has a clear trough on any channel.
    RecordingUnreadableError
        The recording of a results folder is no longer there.
    SorterNotInstalledError
        There is no torch.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from spikelab.simulation import simulate_axons
    >>> from spikelab.spike_sorting.backends.rt_sort import train_detector
    >>> truth = simulate_axons(n_channels=36, duration_s=4.0, rate_Hz=(5, 10))
    >>> with TemporaryDirectory() as folder:
    ...     training = train_detector([truth], f"{folder}/model", n_steps=5)
    ...     sorted(path.name for path in training.folder.iterdir())
    ['init_dict.json', 'state_dict.pt', 'training.json']
    """
    started_s, folder = time.process_time(), Path(folder).absolute()
    _check_call(sources, folder, n_steps)
    recordings = _read(sources, duration_s, n_channels, seed)

    from spikelab.spike_sorting.backends.rt_sort.detector import save_detector
    from spikelab.spike_sorting.backends.rt_sort.fitting import Schedule, fit

    learnt, held_out = zip(*[recording.split(_HELD_OUT_FRAC) for recording in recordings], strict=True)
    detector, loss = fit(learnt, Schedule(n_steps), seed, tell or _silent)
    found_frac, found_by_threshold_frac = _found(detector, held_out)
    training = DetectorTraining(
        folder=folder,
        fs_Hz=recordings[0].fs_Hz,
        n_recordings=len(recordings),
        n_channels=sum(len(recording.traces) for recording in recordings),
        n_troughs=sum(len(recording.clear.samples) for recording in recordings),
        n_steps=n_steps,
        seed=seed,
        loss=round(loss, 5),
        found_frac=found_frac,
        found_by_threshold_frac=found_by_threshold_frac,
        cpu_s=round(time.process_time() - started_s, 1),
        versions={name: version(name) for name in ("spikelab", "torch", "numpy", "spikeinterface")},
    )
    _publish(folder, lambda partial: save_detector(detector, partial), training)
    return training


def _silent(_step: int, _loss: float) -> None:
    pass


def _check_call(sources: Sequence[Source], folder: Path, n_steps: int) -> None:
    if find_spec("torch") is None:
        msg = "training needs torch, which is not installed; pip install 'spikelab[rtsort]'"
        raise SorterNotInstalledError(msg, sorter="rt_sort", missing="torch")
    if not sources:
        msg = "expected at least one recording to learn from, found none"
        raise ValueError(msg)
    if n_steps < 1:
        msg = f"n_steps must be at least 1, but is {n_steps}"
        raise ValueError(msg)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        msg = f"expected a new or an empty folder for the model, but there is something in {folder}"
        raise ValueError(msg)


def _read(sources: Sequence[Source], duration_s: float, n_channels: int, seed: int) -> list[Labelled]:
    import numpy as np

    from spikelab.spike_sorting.backends.rt_sort.labels import Extent, read_labelled

    extent, rng = Extent(duration_s=duration_s, n_channels=n_channels), np.random.default_rng(seed)
    recordings = [read_labelled(source, extent, rng) for source in sources]
    rates = sorted({recording.fs_Hz for recording in recordings})
    if len(rates) > 1:
        msg = f"expected recordings of one sampling rate, found {' Hz, '.join(f'{rate:g}' for rate in rates)} Hz"
        raise ValueError(msg)
    if not any(len(recording.clear.samples) for recording in recordings):
        msg = "no unit has a clear trough on any channel: there is nothing to learn from"
        raise InsufficientActivityError(msg, sorter="rt_sort", units_at_failure=0)
    return recordings


def _found(detector: Detector, held_out: Sequence[Labelled]) -> tuple[float, float]:
    """Return which shares of the clear troughs the network and a threshold find."""
    from spikelab.spike_sorting.backends.rt_sort.scoring import roc

    curves = (
        roc(held_out, [detector.probabilities(recording.traces) for recording in held_out]),
        roc(held_out, [-recording.traces for recording in held_out]),
    )
    by_network, by_threshold = (round(curve.found_at(_FALSE_HZ), 4) for curve in curves)
    return by_network, by_threshold


def _publish(folder: Path, save: Callable[[Path], None], training: DetectorTraining) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    save(partial)
    publish_json(partial / TRAINING, _record(training))
    publish_folder(partial, folder)


def _record(training: DetectorTraining) -> dict[str, Any]:
    values = asdict(training)
    del values["folder"]
    return {"schema": 1, **values}
