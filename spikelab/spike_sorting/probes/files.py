"""Files of probes, read and written: ``.prb``, Kilosort's ``.mat`` and ``.json``, and probeinterface's ``.json``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.probes.dictionary import (
    as_group,
    complete_dictionary,
    probe_dictionary,
    probe_from_dictionary,
    problems,
    raise_any,
)
from spikelab.spike_sorting.probes.prb import format_prb, parse_prb
from spikelab.spike_sorting.supervision.publish import publish_json, publish_text, publish_with

SUFFIXES = (".prb", ".mat", ".json")


def read_probe(path: str | Path) -> Any:
    """Return the probe in a file as a probeinterface ProbeGroup; no code in the file is run.

    Parameters
    ----------
    path : path
        ``.prb``, Kilosort's ``.mat`` or ``.json``, or probeinterface's ``.json``.

    Raises
    ------
    ValueError
        The file is of none of these formats, incomplete, or contradicts itself.

    Examples
    --------
    >>> recording.set_probegroup(read_probe("probe.prb"))  # doctest: +SKIP
    """
    path = Path(path)
    readers = {".prb": _read_prb, ".mat": _read_mat, ".json": _read_json}
    if path.suffix.lower() not in readers:
        msg = f"{path} is no known probe file; expected one of {', '.join(SUFFIXES)}"
        raise ValueError(msg)
    try:
        return readers[path.suffix.lower()](path)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        msg = f"{path} cannot be read as a probe: {error}"
        raise ValueError(msg) from error


def holds_probe(path: Path) -> bool:
    """Return whether a file that ends like a probe file is one: ``.json`` and ``.mat`` may hold anything."""
    if path.suffix.lower() == ".prb":
        return True
    if path.suffix.lower() == ".json":
        text = path.read_text(encoding="utf-8", errors="replace")
        return '"chanMap"' in text or '"probeinterface"' in text
    try:
        return "chanMap" in _load_mat(path)
    except ValueError:
        return False


def write_probe(path: str | Path, probe: Any, *, probeinterface: bool = False) -> None:
    """Write `probe` to the file `path`, or leave the old file and raise.

    Parameters
    ----------
    path : path
        ``.prb``, ``.mat`` or ``.json``; the ending says the format.
    probe : BaseRecording, Probe, ProbeGroup or mapping
        A mapping is Kilosort's dictionary. All but probeinterface's own format keep channels, positions and shanks,
        and leave out the shape of contacts, their names, and those without a channel.
    probeinterface : bool, default False
        Write a ``.json`` in probeinterface's format rather than in Kilosort's.

    Raises
    ------
    ValueError
        The ending is of none of these formats, or the probe contradicts itself.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or (probeinterface and suffix != ".json"):
        expected = ".json" if probeinterface else ", ".join(SUFFIXES)
        msg = f"a probe is written to a file that ends in {expected}, got {path.name!r}"
        raise ValueError(msg)
    if probeinterface:
        _write_probeinterface(path, probe)
        return
    dictionary = complete_dictionary(probe) if isinstance(probe, Mapping) else probe_dictionary(probe)
    raise_any(problems(dictionary))
    if suffix == ".prb":
        publish_text(path, format_prb(dictionary))
    elif suffix == ".json":
        publish_json(path, {name: _plain(value) for name, value in dictionary.items()})
    else:
        publish_with(path, lambda partial: _write_mat(partial, dictionary))


def _read_prb(path: Path) -> Any:
    return probe_from_dictionary(parse_prb(path.read_text(encoding="utf-8")))


def _read_json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    values = json.loads(text)
    if isinstance(values, Mapping) and "chanMap" in values:
        return probe_from_dictionary(values)
    if isinstance(values, Mapping) and values.get("specification") == "probeinterface":
        from probeinterface import read_probeinterface

        return read_probeinterface(path)
    msg = "it is neither Kilosort's (no chanMap) nor probeinterface's (no specification)"
    raise ValueError(msg)


def _read_mat(path: Path) -> Any:
    import numpy as np

    values = _load_mat(path)
    missing = [name for name in ("chanMap", "xcoords", "ycoords") if name not in values]
    if missing:
        msg = f"{', '.join(missing)} is missing; it holds {sorted(values)}"
        raise ValueError(msg)
    channels = np.ravel(values["chanMap"]).astype(np.int64) - 1  # MATLAB counts from 1
    connected = np.ravel(values.get("connected", np.ones(channels.size))).astype(bool)
    columns = {
        "xc": values["xcoords"],
        "yc": values["ycoords"],
        "kcoords": values.get("kcoords", np.zeros_like(channels)),
    }
    arrays = {name: np.ravel(value) for name, value in columns.items()}
    lengths = {"chanMap": channels.size, "connected": connected.size, **{k: v.size for k, v in arrays.items()}}
    if len(set(lengths.values())) > 1:
        msg = f"its lists must be of one length, got {lengths}"
        raise ValueError(msg)
    chosen = {name: value[connected] for name, value in arrays.items()}
    return probe_from_dictionary({"chanMap": channels[connected], "n_chan": channels.size, **chosen})


def _load_mat(path: Path) -> dict[str, Any]:
    """Return the arrays of a MATLAB file of any version; those from 7.3 on are HDF5."""
    import h5py
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    names = ("chanMap", "xcoords", "ycoords", "kcoords", "connected")
    content = io.BytesIO(path.read_bytes())
    try:
        values = loadmat(content, variable_names=names)
        return {name: values[name] for name in names if name in values}
    except NotImplementedError:
        with h5py.File(content, "r") as file:
            return {name: np.asarray(file[name]) for name in names if name in file}
    except (MatReadError, IndexError, OSError) as error:
        msg = f"it is no whole MATLAB file ({error})"
        raise ValueError(msg) from error


def _write_mat(path: Path, dictionary: Mapping[str, Any]) -> None:
    """Write the names that Kilosort reads, as columns; contacts without a channel are not among them."""
    import numpy as np
    from scipy.io import savemat

    channels = dictionary["chanMap"].astype(np.float64)
    columns = {
        "chanMap": channels + 1,
        "chanMap0ind": channels,
        "connected": np.ones(channels.size, dtype=bool),
        "xcoords": dictionary["xc"].astype(np.float64),
        "ycoords": dictionary["yc"].astype(np.float64),
        "kcoords": dictionary["kcoords"].astype(np.float64),
    }
    savemat(path, {name: values.reshape(-1, 1) for name, values in columns.items()})


def _write_probeinterface(path: Path, probe: Any) -> None:
    from probeinterface import write_probeinterface

    if isinstance(probe, Mapping):
        group = probe_from_dictionary(probe)
    elif hasattr(probe, "get_probegroup"):
        group = probe.get_probegroup()
    else:
        group = as_group(probe)
    publish_with(path, lambda partial: write_probeinterface(partial, group))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
