"""Times of stimulation from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._columns import times_in_table
from spikelab.stim_sorting._digital_lines import maxwell_events_ms, spikeglx_events_ms
from spikelab.stim_sorting._inputs import checked_times


def read_stim_times(path: str | os.PathLike[str], *, line: str | None = None) -> npt.NDArray[np.float64]:
    r"""Return the times of stimulation in a file (ms).

    Parameters
    ----------
    path : path
        ``.npy``: one array of times (ms). ``.csv``, ``.tsv`` or ``.txt``: the first column whose name speaks of times
        (``stim_time_s``, ``onset``), else the only one with a unit of time, else the only one; without names, the first
        one. In s, ms, us or ns by its name, in ms without a unit there. Maxwell's
        ``.raw.h5`` of version 20160704: when its trigger input went up. A folder of SpikeGLX: when a digital line of
        the NI card (``.nidq.bin``, ``XD0`` to ``XD7``) went up, by its own clock.
    line : str or None, default None
        Digital line of a Maxwell or SpikeGLX recording, such as ``"XD1"``; None takes the only one that has events.

    Returns
    -------
    ndarray, shape (n_events,), float64
        Times (ms from the start of the recording), in the order of the file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file holds no times, or times in another unit, such as samples; it does not say which of its columns they
        are; SpikeInterface cannot read its events, or several lines have some and none is chosen.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikelab.stim_sorting import read_stim_times
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "pulses.csv")
    ...     _ = path.write_text("pulse,time_s\n1,0.5\n2,1.5\n")
    ...     read_stim_times(path).tolist()
    [500.0, 1500.0]
    """
    path = Path(path)
    if not path.exists():
        msg = f"there is no file of stimulation times at {path}"
        raise FileNotFoundError(msg)
    read = _reader(path, line)
    try:
        times_ms = checked_times(read())
    except (ValueError, EOFError) as error:  # the second is NumPy's word for an empty file
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    return times_ms


def _reader(path: Path, line: str | None) -> Callable[[], Any]:
    """Return what reads the times in a file or folder.

    Raises
    ------
    ValueError
        It is of no kind that can be read, or a line is chosen in a file that has none.
    """
    recordings = {".h5": maxwell_events_ms, "folder": spikeglx_events_ms}
    tables = {".npy": _from_npy, ".csv": _from_table, ".tsv": _from_table, ".txt": _from_table}
    kind = "folder" if path.is_dir() else path.suffix.lower()
    if kind in recordings:
        return partial(recordings[kind], path, line)
    if kind not in tables:
        msg = (
            f"cannot read times of stimulation from {path}: expected a .npy, .csv, .tsv or .txt file, "
            "Maxwell's .raw.h5 or a folder of SpikeGLX"
        )
        raise ValueError(msg)
    if line is not None:
        msg = f"line={line!r} chooses a digital line of a recording, and {path} is a file of times"
        raise ValueError(msg)
    return partial(tables[kind], path)


def _from_npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _from_table(path: Path) -> list[float]:
    return times_in_table(path.read_text(encoding="utf-8-sig"))
