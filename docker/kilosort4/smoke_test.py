"""Whether what is in this image works: Kilosort4's modules, `ps`, and a whole sort of four seconds of noise and spikes.

Run as the command of the image, with no network and no spikelab: ``docker run --rm --network none IMAGE``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait spin, and a busy machine stands still

import numpy as np
import torch

FS_HZ, N_CHANNELS, DURATION_S = 20_000, 16, 4
EXPECTED = "4.1.7"


def recording(path: Path) -> None:
    """Write noise with three units in it, int16, channels side by side."""
    rng = np.random.default_rng(0)
    traces = rng.normal(0, 10, (FS_HZ * DURATION_S, N_CHANNELS))
    shape = -np.exp(-(((np.arange(40) - 12) / 4.0) ** 2)) + 0.4 * np.exp(-(((np.arange(40) - 22) / 6.0) ** 2))
    for channel in (2, 7, 12):
        for start in rng.choice(FS_HZ * DURATION_S - 100, 40 * DURATION_S, replace=False):
            for beside, share in ((-1, 0.4), (0, 1.0), (1, 0.4)):
                traces[start : start + 40, channel + beside] += 150 * share * shape
    traces.astype(np.int16).tofile(path)


def main() -> int:
    """Sort it, and say what this image has."""
    import kilosort
    from kilosort import run_kilosort

    assert kilosort.__version__ == EXPECTED, f"kilosort {kilosort.__version__}, expected {EXPECTED}"
    assert shutil.which("ps"), "no program 'ps': Kilosort4 ends in the middle of a sort without it (package procps)"
    subprocess.run(["ps", "-o", "thcount", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    probe = {
        "chanMap": np.arange(N_CHANNELS),
        "xc": np.zeros(N_CHANNELS, np.float32),
        "yc": 20 * np.arange(N_CHANNELS, dtype=np.float32),
        "kcoords": np.zeros(N_CHANNELS, np.float32),
        "n_chan": N_CHANNELS,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.bin"
        recording(path)
        settings = {"n_chan_bin": N_CHANNELS, "fs": FS_HZ, "nblocks": 0, "filename": str(path), "batch_size": 20_000}
        run_kilosort(settings, probe=probe, results_dir=Path(folder) / "out", data_dtype="int16", device=device)
        n_spikes = len(np.load(Path(folder) / "out" / "spike_times.npy"))
    assert n_spikes > 200, f"{n_spikes} spikes, of 480"
    sys.stdout.write(
        f"kilosort {kilosort.__version__}, torch {torch.__version__}, {device}: {n_spikes} of 480 spikes\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
