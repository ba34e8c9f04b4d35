"""Times of stimulation from files."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikelab.stim_sorting._inputs import checked_times

_PER_UNIT_MS = {"s": 1000.0, "sec": 1000.0, "seconds": 1000.0, "ms": 1.0, "us": 1e-3}


def read_stim_times(path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    r"""Return the times of stimulation in a file (ms).

    Parameters
    ----------
    path : path
        ``.npy``: one array of times (ms). ``.csv``, ``.tsv`` or ``.txt``: the column whose name speaks of time (such as
        ``time_ms`` or ``stim_time_s``, by which its unit is known), else the first one, in ms. Maxwell's
        ``.raw.h5`` and SpikeGLX's folders: their events, as SpikeInterface reads them.

    Returns
    -------
    ndarray, shape (n_events,), float64
        Times (ms from the start of the recording), in the order of the file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file holds no times, or SpikeInterface cannot read its events.

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
    readers: dict[str, Callable[[Path], Any]] = {
        ".npy": _from_npy, ".csv": _from_table, ".tsv": _from_table, ".txt": _from_table, ".h5": _from_maxwell
    }  # fmt: skip
    reader = _from_spikeglx if path.is_dir() else readers.get(path.suffix.lower())
    if reader is None:
        msg = (
            f"cannot read times of stimulation from {path}: expected a .npy, .csv, .tsv or .txt file, "
            "Maxwell's .raw.h5 or a folder of SpikeGLX"
        )
        raise ValueError(msg)
    try:
        times_ms = checked_times(reader(path))
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    return times_ms


def _from_npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _from_table(path: Path) -> list[float]:
    text = path.read_text(encoding="utf-8-sig")
    delimiter = next((sign for sign in (",", "\t", ";") if sign in text), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        msg = "the file is empty"
        raise ValueError(msg)
    names = None if _is_number(rows[0][0]) else [name.lower() for name in rows.pop(0)]
    column = 0
    if names is not None:
        column = next((number for number, name in enumerate(names) if "time" in name), 0)
    try:
        values = [float(row[column]) for row in rows]
    except (ValueError, IndexError) as error:
        msg = f"its column {column + 1} holds something that is no number: {error}"
        raise ValueError(msg) from error
    unit = names[column].rstrip(")]").replace("(", "_").replace("[", "_").split("_")[-1].strip() if names else "ms"
    return [value * _PER_UNIT_MS.get(unit, 1.0) for value in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_maxwell(path: Path) -> Any:
    from spikeinterface.extractors import read_maxwell_event

    return _event_times_ms(lambda: read_maxwell_event(path))


def _from_spikeglx(path: Path) -> Any:
    from spikeinterface.extractors import read_spikeglx_event

    return _event_times_ms(lambda: read_spikeglx_event(path))


def _event_times_ms(read: Callable[[], Any]) -> Any:
    """Return the times of all channels of events that SpikeInterface reads."""
    try:
        events = read()
        times_s = [np.asarray(events.get_event_times(channel)) for channel in events.channel_ids]
    except (OSError, LookupError, TypeError, AttributeError, NotImplementedError, AssertionError) as error:
        why = f"{type(error).__name__}: {error}"
        msg = f"SpikeInterface cannot read events from it ({why}); give the times as .csv or .npy"
        raise ValueError(msg) from error
    found = np.concatenate([np.empty(0), *times_s])
    if found.size == 0:
        msg = "SpikeInterface finds no events in it; give the times as .csv or .npy"
        raise ValueError(msg)
    return np.sort(found) * 1000.0
