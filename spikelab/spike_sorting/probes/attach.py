"""A probe file and a recording: whether the two fit, and the recording with the probe on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import ProbeMisfitError
from spikelab.spike_sorting.probes.dictionary import check_probe
from spikelab.spike_sorting.probes.files import SUFFIXES, holds_probe, read_probe


def attach_probe(recording: Any, path: str | os.PathLike[str]) -> tuple[Any, list[str]]:
    """Return `recording` with the probe in the file `path` on it, and remarks; the recording given is not changed.

    Channels without a contact are left out, and a remark says which.

    Raises
    ------
    ProbeMisfitError
        The file cannot be read as a probe, or its channels are not those of the recording.
    """
    try:
        group = read_probe(Path(path))
        remarks = check_probe(group, recording.get_num_channels())
    except (OSError, ValueError) as error:
        msg = f"the probe {path} does not fit the recording: {error}"
        raise ProbeMisfitError(msg, path=str(path)) from error
    return recording.select_channels_with_probegroup(group), remarks


def probe_beside(path: Path) -> Path | None:
    """Return the probe file that lies beside the recording `path`, or None.

    It has the recording's name or is called ``probe``, and ends in ``.prb``, ``.mat`` or ``.json``; in a folder of one
    recording, such as those of Neuralynx, it may lie within.

    Raises
    ------
    ProbeMisfitError
        There are several of one name, so that none can be chosen.
    """
    places = [path.parent, path] if path.is_dir() else [path.parent]
    names = dict.fromkeys([path.name, path.name.split(".")[0], path.stem, "probe"])
    for name in names:
        found = [place / f"{name}{suffix}" for place in places for suffix in SUFFIXES]
        found = [file for file in found if file != path and file.is_file() and holds_probe(file)]
        if len(found) > 1:
            listed = " and ".join(str(file) for file in found)
            msg = f"{listed} all lie beside {path}; choose one with probe_path"
            raise ProbeMisfitError(msg, path=str(path))
        if found:
            return found[0]
    return None
