"""Events that amplifiers recorded on digital lines: when each line went up."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

_MAXWELL_WITH_EVENTS = "20160704"
_MAXWELL_FS_HZ = 20_000.0
_HIGHEST_NIDQ_LINE = 7
_INSTEAD = "give the times as .csv or .npy"


def maxwell_events_ms(path: Path, line: str | None) -> Times:
    """Return when a line of a Maxwell file went up (ms from its first sample).

    Raises
    ------
    ValueError
        The file is of a layout without known events, or has none, or several lines have some and none is chosen.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        msg = f"it cannot be read as HDF5 ({error}); {_INSTEAD}"
        raise ValueError(msg) from error
    with file:
        version = file["version"][0].decode() if "version" in file else "unknown"
        if version != _MAXWELL_WITH_EVENTS:
            msg = (
                f"SpikeInterface reads events from Maxwell files of version {_MAXWELL_WITH_EVENTS} only, and this one "
                f"is {version}; {_INSTEAD}"
            )
            raise ValueError(msg)
        if "bits" not in file:
            msg = f"the Maxwell file holds no events ('bits'); {_INSTEAD}"
            raise ValueError(msg)
        frames, states = (np.asarray(file["bits"][name], dtype=np.int64) for name in ("frameno", "bits"))
        # With numpy 2, SpikeInterface 0.105 loses the upper half of the first frame's number: minutes of time.
        low, high = file["sig"][-2:, 0].astype(np.int64)
    risen = states & ~np.append(0, states[:-1])
    times_ms = (frames - (high << 16 | low)) / _MAXWELL_FS_HZ * 1000
    bits = range(int(states.max(initial=0)).bit_length())
    return _one_line({str(bit): times_ms[risen >> bit & 1 == 1] for bit in bits}, line)


def spikeglx_events_ms(folder: Path, line: str | None) -> Times:
    """Return when a digital line of the NI card went up (ms from the first sample of its file).

    Raises
    ------
    ValueError
        There are no such files, gates or triggers are several, the line is none that can be read, or it never went up;
        or several lines have events and none is chosen.
    """
    from spikeinterface.extractors import read_spikeglx_event

    try:
        events = read_spikeglx_event(folder)
    except (OSError, LookupError, TypeError, AttributeError, NotImplementedError) as error:
        msg = f"SpikeInterface cannot read events from it ({type(error).__name__}: {error}); {_INSTEAD}"
        raise ValueError(msg) from error
    ids = {str(channel).rpartition("#")[2]: channel for channel in events.channel_ids}
    if not ids:
        msg = (
            "SpikeInterface reads events of SpikeGLX from the digital lines of the NI card, and there is no "
            f".nidq.bin with any in this folder; {_INSTEAD}"
        )
        raise ValueError(msg)
    if (n_segments := events.get_num_segments()) != 1:
        msg = f"the folder holds {n_segments} gates or triggers, and events are read from one: {_INSTEAD}"
        raise ValueError(msg)
    names = ids if line is None else [_known(line, ids)]
    return _one_line({name: _went_up_ms(events, ids[name]) for name in names}, line)


def _went_up_ms(events: Any, channel: Any) -> Times:
    """Return when a line of the NI card went up; what SpikeInterface gives has both edges."""
    number = int(str(channel).rpartition("XD")[2])
    if number > _HIGHEST_NIDQ_LINE:
        msg = (
            f"SpikeInterface reads the digital lines XD0 to XD{_HIGHEST_NIDQ_LINE} of the NI card, and XD{number} was "
            f"recorded: choose one of the others by read_stim_times(path, line=...), or {_INSTEAD}"
        )
        raise ValueError(msg)
    edges = events.get_events(channel)
    times_ms: Times = edges["time"][np.char.endswith(edges["label"], " ON")] * 1000.0
    return times_ms


def _one_line(lines: dict[str, Times], line: str | None) -> Times:
    """Return the times of the line that was chosen, or of the only one that has some."""
    active = {name: times_ms for name, times_ms in lines.items() if times_ms.size}
    if not active:
        msg = f"no digital line went up in it; {_INSTEAD}"
        raise ValueError(msg)
    if line is not None:
        return active[_known(line, active)]
    if len(active) > 1:
        found = ", ".join(f"{name!r} ({times_ms.size})" for name, times_ms in active.items())
        msg = (
            f"several digital lines have events: {found}. Choose one with read_stim_times(path, line=...), "
            "and give the times that it returns"
        )
        raise ValueError(msg)
    (times_ms,) = active.values()
    return times_ms


def _known(line: str, names: Iterable[str]) -> str:
    if line not in names:
        msg = f"there is no event on the digital line {line!r}; expected one of: {', '.join(names)}"
        raise ValueError(msg)
    return line
