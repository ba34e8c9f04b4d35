"""Whether RT-Sort can be imported in this image, and torch computes: ``docker run --rm --network none IMAGE``."""

import inspect
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait spin, and a busy machine stands still

import torch
from spikelab.spike_sorting.rt_sort import detect_sequences
from torch import nn


def main() -> int:
    """Import it, and do what a detection model does: convolve."""
    parameters = inspect.signature(detect_sequences).parameters
    wanted = {"detection_model", "recording_window_ms", "device", "num_processes"}
    assert wanted <= set(parameters), f"this RT-Sort takes other arguments: {sorted(parameters)}"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = nn.Conv1d(1, 4, 21).to(device)(torch.zeros(2, 1, 200, device=device))
    assert found.shape == (2, 4, 180)
    sys.stdout.write(f"RT-Sort can be imported, torch {torch.__version__} computes on {device}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
