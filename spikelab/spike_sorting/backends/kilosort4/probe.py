"""Probes: Kilosort's dictionary and the files that hold one, both ways, and what does not fit a recording.

Kilosort describes a probe by ``chanMap`` (the channel of each contact, from 0 on), ``xc`` and ``yc`` (um), ``kcoords``
(its shank) and ``n_chan``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.backends.kilosort4.prb import format_prb, parse_prb
from spikelab.spike_sorting.supervision.publish import publish_json, publish_text, publish_with

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".prb", ".mat", ".json")
_REQUIRED = ("chanMap", "xc", "yc")
_CLOSEST_UM, _FARTHEST_UM = 1.0, 10_000.0
_UM_IN = {"um": 1.0, "mm": 1e3, "m": 1e6}


# ------------------------------------------------------------------------------------------ Kilosort's dictionary


def probe_dictionary(recording_or_probe: Any) -> dict[str, Any]:
    """Return Kilosort's probe dictionary: ``chanMap, xc, yc, kcoords, n_chan``.

    Parameters
    ----------
    recording_or_probe : BaseRecording, Probe or ProbeGroup
        A recording gives its channels in their order, with positions in um. A probe gives its contacts in the order
        of their channels, without those that have none; the unit of its positions becomes um.

    Returns
    -------
    dict
        chanMap : ndarray, shape (n_contacts,), int32; xc, yc : (n_contacts,), float32 (um);
        kcoords : (n_contacts,), float32, shanks numbered from 0 on; n_chan : int, channels of the data.

    Examples
    --------
    >>> from spikelab.simulation import make_probe
    >>> probe = probe_dictionary(make_probe("linear", 3))
    >>> probe["chanMap"].tolist(), probe["yc"].tolist(), probe["n_chan"]
    ([0, 1, 2], [0.0, 50.0, 100.0], 3)
    """
    import numpy as np

    if not hasattr(recording_or_probe, "get_channel_locations"):
        return _of_probes(_as_group(recording_or_probe).probes)
    recording = recording_or_probe
    n_channels = recording.get_num_channels()
    locations, groups = recording.get_channel_locations(), recording.get_property("group")
    shanks = np.zeros(n_channels) if groups is None else groups
    return _dictionary(np.arange(n_channels), locations[:, :2], shanks, n_channels)


def probe_from_dictionary(dictionary: Mapping[str, Any]) -> Any:
    """Return a probeinterface ProbeGroup of Kilosort's probe dictionary, for ``recording.set_probegroup``.

    Shanks become the shanks of one probe, or probes of their own where they share positions, as tetrodes may.

    Parameters
    ----------
    dictionary : mapping
        ``chanMap, xc, yc``, and ``kcoords`` and ``n_chan`` where they are known.

    Raises
    ------
    ValueError
        A key is missing, lengths differ, or contacts share a channel or a position; names them.
    """
    import numpy as np
    from probeinterface import ProbeGroup

    whole = complete_dictionary(dictionary)
    _raise_any(problems(whole))
    places = np.column_stack([whole["xc"], whole["yc"]]).astype(np.float64)
    shanks = whole["kcoords"]
    group = ProbeGroup()
    if len(np.unique(places, axis=0)) == len(places):
        group.add_probe(_probe(whole["chanMap"], places, shanks))
        return group
    for shank in np.unique(shanks):
        own = shanks == shank
        group.add_probe(_probe(whole["chanMap"][own], places[own], shanks[own]))
    return group


def complete_dictionary(dictionary: Mapping[str, Any]) -> dict[str, Any]:
    """Return `dictionary` with arrays of the types that Kilosort wants, and with what it left out.

    Raises
    ------
    ValueError
        A key is missing, an array has more than one dimension, a channel is no whole number, or lengths differ.
    """
    import numpy as np

    missing = [name for name in _REQUIRED if name not in dictionary]
    if missing:
        msg = f"a probe of Kilosort needs {', '.join(_REQUIRED)}; {', '.join(missing)} is missing"
        raise ValueError(msg)
    n_contacts = np.size(dictionary["chanMap"])
    arrays = {name: _numbers(name, dictionary[name]) for name in _REQUIRED}
    arrays["kcoords"] = _numbers("kcoords", dictionary.get("kcoords", np.zeros(n_contacts)))
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        msg = f"the lists of a probe must be of one length, got {lengths}"
        raise ValueError(msg)
    if not np.array_equal(arrays["chanMap"], np.rint(arrays["chanMap"])):
        msg = "chanMap must hold whole numbers: the channel of each contact"
        raise ValueError(msg)
    places = np.column_stack([arrays["xc"], arrays["yc"]])
    n_chan = dictionary.get("n_chan", n_contacts)
    return _dictionary(arrays["chanMap"], places, arrays["kcoords"], int(np.ravel(n_chan)[0]), renumber=False)


# ----------------------------------------------------------------------------------------------------- its files


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
    _raise_any(problems(dictionary))
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
        group = _as_group(probe)
    publish_with(path, lambda partial: write_probeinterface(partial, group))


# --------------------------------------------------------------------------------------------- what does not fit


def check_probe(probe: Any, n_channels: int) -> list[str]:
    """Return remarks on a `probe` that fits data of `n_channels`; raise ValueError with all that does not.

    Parameters
    ----------
    probe : BaseRecording, Probe, ProbeGroup or mapping
        A mapping is Kilosort's dictionary.
    n_channels : int
        Channels of the data.

    Returns
    -------
    list of str
        Channels without a contact: they are not sorted.
    """
    import numpy as np

    whole = complete_dictionary(probe) if isinstance(probe, Mapping) else probe_dictionary(probe)
    channels = whole["chanMap"]
    found = problems(whole)
    beyond = channels[channels >= n_channels]
    if beyond.size:
        found.append(
            f"contacts are on channels {_listed(beyond)}, but the data has {n_channels}, which count from 0: "
            "take 1 off each channel if the probe counts from 1"
        )
    if channels.size > n_channels:
        found.append(f"the probe has {channels.size} contacts, the data only {n_channels} channels")
    _raise_any(found)
    without = np.setdiff1d(np.arange(n_channels), channels)
    if not without.size:
        return []
    return [f"{without.size} of {n_channels} channels have no contact and are not sorted: {_listed(without)}"]


def problems(dictionary: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with Kilosort's complete probe dictionary in itself, one sentence each."""
    import numpy as np

    channels = dictionary["chanMap"]
    places = np.column_stack([dictionary["xc"], dictionary["yc"]]).astype(np.float64)
    if channels.size == 0:
        return ["the probe has no contact on a channel"]
    found = []
    numbers, counts = np.unique(channels, return_counts=True)
    if (counts > 1).any():
        found.append(f"several contacts are on channel {_listed(numbers[counts > 1])}")
    if (channels < 0).any():
        found.append(f"channels count from 0, got {_listed(channels[channels < 0])}")
    if not np.isfinite(places).all():
        return [*found, f"{int((~np.isfinite(places)).any(axis=1).sum())} contacts have no position (NaN or infinite)"]
    return found + position_problems(places, dictionary["kcoords"])


def position_problems(places_um: NDArray[np.float64], shanks: NDArray[Any]) -> list[str]:
    """Return what is wrong with finite positions: shared within a shank, or not in um by their spacing.

    Parameters
    ----------
    places_um : ndarray, shape (n_contacts, 2), float64
        Positions (um).
    shanks : ndarray, shape (n_contacts,)
        Shank of each contact; several tetrodes may be described at one place.
    """
    import numpy as np

    numbers = np.unique(shanks, return_inverse=True)[1]
    n_places = len(np.unique(np.column_stack([numbers, places_um]), axis=0))
    if n_places < len(places_um):
        return [f"{len(places_um)} contacts share {n_places} positions; each contact of a shank needs its own"]
    spacing_um = _spacing(places_um)
    if spacing_um is None or _CLOSEST_UM <= spacing_um <= _FARTHEST_UM:
        return []
    guess = "they look like mm: multiply them by 1000" if spacing_um < _CLOSEST_UM else "they look like nm or pixels"
    return [f"neighbouring contacts are {spacing_um:g} um apart; positions must be in um, and {guess}"]


def _spacing(places_um: NDArray[np.float64]) -> float | None:
    """Return the median distance of a contact to the nearest one elsewhere, or None for a single place."""
    import numpy as np
    from scipy.spatial import cKDTree

    distinct = np.unique(places_um, axis=0)
    if len(distinct) < 2:
        return None
    return float(np.median(cKDTree(distinct).query(distinct, k=2)[0][:, 1]))


def _raise_any(found: Sequence[str]) -> None:
    if found:
        msg = f"the probe cannot be used: {'; '.join(found)}"
        raise ValueError(msg)


def _listed(numbers: NDArray[Any], n: int = 8) -> str:
    shown = ", ".join(str(number) for number in numbers[:n].tolist())
    return f"{shown} and {numbers.size - n} more" if numbers.size > n else shown


# -------------------------------------------------------------------------------------------------------- pieces


def _dictionary(channels: Any, places: Any, shanks: Any, n_channels: int, *, renumber: bool = True) -> dict[str, Any]:
    import numpy as np

    numbers = np.unique(shanks, return_inverse=True)[1] if renumber else shanks
    return {
        "chanMap": np.asarray(channels).astype(np.int32),
        "xc": places[:, 0].astype(np.float32),
        "yc": places[:, 1].astype(np.float32),
        "kcoords": np.asarray(numbers).astype(np.float32),
        "n_chan": n_channels,
    }


def _of_probes(probes: Sequence[Any]) -> dict[str, Any]:
    import numpy as np

    channels, places, shanks = [], [], []
    for number, probe in enumerate(probes):
        if probe.device_channel_indices is None:
            msg = "the probe has no channels; tell them with probe.set_device_channel_indices"
            raise ValueError(msg)
        ids = probe.shank_ids if probe.shank_ids is not None else np.full(probe.get_contact_count(), "")
        channels.append(probe.device_channel_indices)
        places.append(probe.contact_positions[:, :2] * _UM_IN[probe.si_units])
        shanks += [(number, *_natural(str(shank))) for shank in ids]
    of_contact, at = np.concatenate(channels), np.concatenate(places)
    rank = {shank: index for index, shank in enumerate(sorted(set(shanks)))}
    numbers = np.array([rank[shank] for shank in shanks])
    wired = np.flatnonzero(of_contact >= 0)
    order = wired[np.argsort(of_contact[wired], kind="stable")]
    return _dictionary(of_contact[order], at[order], numbers[order], order.size)


def _natural(shank: str) -> tuple[int, int, str]:
    """Return a key that sorts the names of shanks with 10 after 2."""
    return (0, int(shank), "") if shank.isdecimal() else (1, 0, shank)


def _as_group(probe: Any) -> Any:
    from probeinterface import Probe, ProbeGroup

    if isinstance(probe, ProbeGroup):
        return probe
    if not isinstance(probe, Probe):
        msg = f"expected a recording, a probe or a group of probes, got a {type(probe).__name__}"
        raise TypeError(msg)
    group = ProbeGroup()
    group.add_probe(probe)
    return group


def _probe(channels: NDArray[Any], places: NDArray[np.float64], shanks: NDArray[Any]) -> Any:
    import numpy as np
    from probeinterface import Probe

    several = len(np.unique(shanks)) > 1
    probe: Any = Probe(ndim=2, si_units="um")
    probe.set_contacts(
        positions=places,
        shapes="circle",
        shape_params={"radius": 5},
        shank_ids=[f"{shank:g}" for shank in shanks] if several else None,
    )
    probe.set_device_channel_indices(channels)
    return probe


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    import numpy as np

    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim > 1:
        msg = f"{name} of a probe must be a plain list, got one of {array.ndim} dimensions"
        raise ValueError(msg)
    return array


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
