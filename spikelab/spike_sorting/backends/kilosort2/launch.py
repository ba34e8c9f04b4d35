"""Kilosort2's files, written by SpikeInterface, and MATLAB on them: a child whose every line is read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._settings import thaw
from spikelab.spike_sorting.backends.child import Execute, as_child, check_ended, run_logged
from spikelab.spike_sorting.backends.kilosort2.installation import Installation
from spikelab.spike_sorting.supervision.progress import Reporter

LOG = "kilosort2.log"
"""What MATLAB printed, in the folder of the sorter."""
_NAME = "kilosort2"
_BATCHES = re.compile(r"(\d+) / (\d+) batches(?:, \d+ units)?")
_STEPS = (
    ("Determining good channels", "looking for good channels"),
    ("Computing whitening matrix", "whitening"),
    ("Loading raw data and applying filters", "filtering"),
    ("Finished preprocessing", "clustering of batches"),
    ("optimizing templates", "template matching"),
    ("Finished splitting", "thresholds"),
    ("Saving results to Phy", "saving"),
)
"""What Kilosort2 prints, and what it does from there on."""


def write_inputs(recording: Any, params: Mapping[str, Any], folder: Path, binary: Path, *, with_scripts: bool) -> None:
    """Write what Kilosort2 reads into `folder`: the map of channels, the options, and the scripts that start it.

    Parameters
    ----------
    recording : BaseRecording
        What is in `binary`.
    params : mapping
        Kilosort2's parameters, all of them.
    folder : Path
        Folder of the sorter.
    binary : Path
        Samples, int16, channels side by side.
    with_scripts : bool
        Whether MATLAB runs them; a compiled Kilosort2 has its own.
    """
    from spikeinterface.sorters.external import kilosort2

    sorter = kilosort2.Kilosort2Sorter
    checked = sorter._check_params(recording, folder, dict(thaw(params)))
    sorter._generate_channel_map_file(recording, folder)
    sorter._generate_ops_file(recording, checked, folder, binary)
    if with_scripts:
        external = Path(kilosort2.__file__).parent
        for script in (external / "kilosort2_master.m", *sorted((external.parent / "utils").glob("*NPY*.m"))):
            shutil.copy(script, folder)


def run(installation: Installation, folder: Path, progress: Reporter, execute: Execute | None = None) -> None:
    """Run Kilosort2 on the inputs in `folder`.

    Parameters
    ----------
    installation : Installation
        What runs it.
    folder : Path
        Folder of the sorter.
    progress : Reporter
        Where to say how far it is.
    execute : callable or None, default None
        Runs the program; None: as a child of this process.

    Raises
    ------
    SpikeSortingClassifiedError
        It failed: classified by what it printed, or SorterCrashedError.
    """
    # MATLAB's copyfile fails where the user's shell is fish.
    in_child = partial(as_child, folder, {**os.environ, "MATLAB_SHELL": "/bin/sh"})
    ended = run_logged(
        command(installation, folder), folder / LOG, execute or in_child, lambda line: _report(line, progress)
    )
    check_ended(ended, _NAME, "Kilosort2", folder / LOG)


def command(installation: Installation, folder: Path) -> list[str]:
    """Return the program and its arguments; no shell reads them, so that folders may have any name.

    Examples
    --------
    >>> command(Installation("matlab", Path("/opt/ks2"), ""), Path("/data/o'hara"))[-1]
    "kilosort2_master('/data/o''hara','/opt/ks2')"
    """
    if installation.folder is None:
        return [installation.program, str(folder)]
    call = f"{_NAME}_master({_matlab_text(folder)},{_matlab_text(installation.folder)})"
    # With -batch, MATLAB ends with an error where -r would wait at a prompt for somebody to type.
    return [installation.program, "-nosplash", "-nodisplay", "-batch", call]


def _matlab_text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _report(line: str, progress: Reporter) -> None:
    """Say how far Kilosort2 is, where `line` tells."""
    for said, step in _STEPS:
        if said in line:
            progress.report(step)
            return
    if batches := _BATCHES.search(line):
        done, n_batches = int(batches[1]), int(batches[2])
        step = "template matching" if "units" in batches[0] else "clustering of batches"
        progress.report(step, min(1.0, done / max(1, n_batches)))
