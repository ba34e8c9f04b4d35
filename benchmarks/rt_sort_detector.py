"""What the detection models of RT-Sort find on simulated recordings that they were not trained on, and a threshold.

The recordings are like those of the training, with a seed of their own, and noisier and denser ones. A trough counts
as found where the score has a peak within 0.3 ms of it; a peak that is near no trough is a false detection. Run it from
the repository: ``python benchmarks/rt_sort_detector.py [--figure FILE.png]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _machine import machine

from spikelab.simulation import simulate_axons, simulate_recording
from spikelab.spike_sorting.backends.rt_sort.detector import load_detector
from spikelab.spike_sorting.backends.rt_sort.labels import Extent, read_labelled
from spikelab.spike_sorting.backends.rt_sort.model_folder import bundled_model
from spikelab.spike_sorting.backends.rt_sort.scoring import Curve, roc

SEED = 9001
DURATION_S, N_CHANNELS = 10.0, 32
FALSE_HZ = (0.1, 1.0, 5.0)
THRESHOLDS = (0.1, 0.275)
RATE_HZ = (2.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    print(f"{machine()}\n")
    heads = " | ".join(f"{rate:g}/s" for rate in FALSE_HZ)
    print(f"| recordings | model | troughs | by model: {heads} | by threshold: {heads} | at 0.1 | at 0.275 |")
    print(f"|---|---|---:|{'---:|' * (2 * len(FALSE_HZ) + len(THRESHOLDS))}")
    curves = {}
    for what, probe, truth in kinds():
        recording = read_labelled(truth, Extent(DURATION_S, N_CHANNELS), np.random.default_rng(SEED))
        probabilities = load_detector(bundled_model(probe)).probabilities(recording.traces)
        by_model, by_threshold = roc([recording], [probabilities]), roc([recording], [-recording.traces])
        curves[what] = by_model, by_threshold
        shares = [f"{curve.found_at(rate):.1%}" for curve in (by_model, by_threshold) for rate in FALSE_HZ]
        at = [_at(by_model, threshold) for threshold in THRESHOLDS]
        cells = [what, probe, f"{len(recording.clear.samples):,}", *shares, *at]
        print(f"| {' | '.join(cells)} |", flush=True)
    if arguments.figure:
        draw(curves, arguments.figure)


def kinds() -> Iterator[tuple[str, Any, Any]]:
    """Yield a name, the model for it, and the recording."""
    common = {"duration_s": DURATION_S, "rate_Hz": RATE_HZ, "peak_uV": (30.0, 200.0), "seed": SEED}
    grid = {**common, "n_channels": 100, "n_units": 20}
    probe = {**common, "n_channels": 64, "n_units": 16, "fs_Hz": 30_000.0}
    yield "grid, axons", "mea", simulate_axons("mea", **grid)
    yield "grid, no axons", "mea", simulate_recording("mea", **grid)
    yield "grid, axons, noise 14 uV", "mea", simulate_axons("mea", **{**grid, "noise_uV": 14.0})
    dense = {**grid, "n_units": 50, "rate_Hz": (5.0, 20.0)}
    yield "grid, axons, 50 units", "mea", simulate_axons("mea", **dense)
    yield "Neuropixels 1, no axons", "neuropixels", simulate_recording("neuropixels1", **probe)
    yield "Neuropixels 1, axons", "neuropixels", simulate_axons("neuropixels1", **probe)


def _at(curve: Curve, threshold: float) -> str:
    """Return what is found at a probability, and how many false ones a second and channel."""
    k = np.searchsorted(-curve.threshold, -threshold, side="right") - 1
    return f"{curve.found_frac[k]:.1%}, {curve.false_Hz[k]:.1f}/s"


def draw(curves: dict[str, tuple[Curve, Curve]], path: Path) -> None:
    """Draw what is found over the rate of false detections."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(9, 5.4), sharex=True, sharey=True, layout="constrained")
    for panel, (what, (by_model, by_threshold)) in zip(panels.flat, curves.items(), strict=True):
        panel.plot(by_model.false_Hz, by_model.found_frac, label="model", color="#0b5394")
        panel.plot(by_threshold.false_Hz, by_threshold.found_frac, label="threshold", color="#b45f06", ls="--")
        panel.set(title=what, xscale="log", xlim=(0.03, 30), ylim=(0.4, 1))
        panel.grid(alpha=0.3)
    panels[0, 0].legend(loc="lower right")
    figure.supxlabel("false detections (1/s and channel)")
    figure.supylabel("share of troughs found")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
