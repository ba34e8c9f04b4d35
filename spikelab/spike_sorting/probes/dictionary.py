"""Probes: Kilosort's dictionary and probeinterface, both ways, and what does not fit a recording.

Kilosort describes a probe by ``chanMap`` (the channel of each contact, from 0 on), ``xc`` and ``yc`` (um), ``kcoords``
(its shank) and ``n_chan``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting.geometry import position_problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_REQUIRED = ("chanMap", "xc", "yc")
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
        return _of_probes(as_group(recording_or_probe).probes)
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
    raise_any(problems(whole))
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
    raise_any(found)
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
    return found + position_problems(places, dictionary["kcoords"])


def raise_any(found: Sequence[str]) -> None:
    """Raise ValueError with what was `found` wrong with a probe, if anything was."""
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


def as_group(probe: Any) -> Any:
    """Return a probe of probeinterface, or a group of them, as a group."""
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
