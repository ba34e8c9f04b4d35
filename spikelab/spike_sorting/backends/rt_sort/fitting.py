"""The training of the detection network on labelled traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spikelab.spike_sorting.backends.rt_sort.detector import MARGIN, WINDOW, Detector
from spikelab.spike_sorting.backends.rt_sort.labels import Events, Labelled

_TARGET = WINDOW - 2 * MARGIN
_NEAR_MS = 0.5
_UNEXPLAINED_IQR = 3.5
_WEIGHT_OF_TROUGHS = 3.0
_FINAL_RATE = 0.02


@dataclass(frozen=True)
class Schedule:
    """How long and how fast the network learns.

    Attributes
    ----------
    n_steps : int
        Steps of the optimiser (Adam).
    n_windows : int
        Windows of 200 samples in a step: half of them around a trough, half anywhere.
    rate : float
        Learning rate at the start; it falls as a cosine.
    """

    n_steps: int = 1000
    n_windows: int = 256
    rate: float = 1e-2


def fit(
    recordings: Sequence[Labelled], schedule: Schedule, seed: int, tell: Callable[[int, float], None]
) -> tuple[Detector, float]:
    """Return a trained network, and its loss over the last tenth of the steps.

    Parameters
    ----------
    recordings : sequence of Labelled
        Each of them is drawn from equally often.
    schedule : Schedule
    seed : int
        Decides everything random: on one machine, with one number of threads, the same seed gives the same network.
    tell : callable
        Is called after each step with its number and its loss.
    """
    rng = np.random.default_rng(seed)
    pools = [_Pool(recording) for recording in recordings]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector()
    optimiser = torch.optim.Adam(detector.parameters(), schedule.rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, schedule.n_steps, eta_min=_FINAL_RATE * schedule.rate
    )
    losses: list[float] = []
    for step in range(schedule.n_steps):
        loss = _loss(detector, *_batch(pools, schedule.n_windows, rng))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        falling.step()
        losses.append(loss.item())
        tell(step + 1, losses[-1])
    return detector.eval(), float(np.mean(losses[-max(1, schedule.n_steps // 10) :]))


def _loss(detector: Detector, windows: Tensor, troughs: Tensor, weights: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(
        detector(windows[:, None]), troughs, weights, pos_weight=torch.tensor(_WEIGHT_OF_TROUGHS)
    )


def _batch(pools: Sequence[_Pool], n_windows: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    shares = np.bincount(rng.integers(len(pools), size=n_windows), minlength=len(pools))
    drawn = [pool.draw(int(share), rng) for pool, share in zip(pools, shares, strict=True) if share]
    windows, troughs, weights = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*drawn, strict=True))
    return windows, troughs, weights


class _Pool:
    """Windows of one recording."""

    def __init__(self, recording: Labelled) -> None:
        self.recording = recording
        self.near = round(_NEAR_MS * recording.fs_Hz / 1000)
        n_channels, n_samples = recording.traces.shape
        self.trough = _marked(recording.clear, n_channels, n_samples)
        self.uncertain = _marked(recording.faint, n_channels, n_samples)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], ...]:
        """Return windows, shape (n, 200), and what is to be said of their middle samples, with weights."""
        n_channels, n_samples = self.recording.traces.shape
        channels = rng.integers(n_channels, size=n)
        first = rng.integers(n_samples - WINDOW + 1, size=n)
        clear, half = self.recording.clear, n // 2
        if len(clear.samples):
            chosen = rng.integers(len(clear.samples), size=half)
            channels[:half] = clear.channels[chosen]
            first[:half] = clear.samples[chosen] - MARGIN - rng.integers(_TARGET, size=half)
        first = np.clip(first, 0, n_samples - WINDOW)
        at = (channels[:, np.newaxis], first[:, np.newaxis] + np.arange(WINDOW))
        windows, trough = self.recording.traces[at], self.trough[at]
        # A deep trough that no unit explains is most likely a spike that the labels miss: nothing is said of it.
        unexplained = (windows < -_UNEXPLAINED_IQR) & ~_widened(trough, self.near)
        uncertain = _widened(self.uncertain[at] | unexplained, self.near // 2) & ~trough
        middle = slice(MARGIN, WINDOW - MARGIN)
        return windows, trough[:, middle].astype(np.float32), (~uncertain[:, middle]).astype(np.float32)


def _marked(events: Events, n_channels: int, n_samples: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros((n_channels, n_samples), dtype=np.bool_)
    inside = (events.samples >= 0) & (events.samples < n_samples)
    marked[events.channels[inside], events.samples[inside]] = True
    return marked


def _widened(marked: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Return what is marked, and so many samples on both sides of it."""
    from scipy.ndimage import maximum_filter1d

    widened: npt.NDArray[np.bool_] = maximum_filter1d(marked.view(np.uint8), 2 * by + 1, axis=1).astype(np.bool_)
    return widened
