"""Kilosort's probe dictionary from a recording."""

from __future__ import annotations

from typing import Any


def probe_dictionary(recording: Any) -> dict[str, Any]:
    """Return Kilosort's probe dictionary of `recording`: ``chanMap, xc, yc, kcoords, n_chan``.

    Parameters
    ----------
    recording : BaseRecording
        Recording with a probe; positions in um.
    """
    import numpy as np

    locations = recording.get_channel_locations()
    n_channels = recording.get_num_channels()
    return {
        "chanMap": np.arange(n_channels, dtype=np.int32),
        "xc": locations[:, 0].astype(np.float32),
        "yc": locations[:, 1].astype(np.float32),
        "kcoords": _shanks(recording, n_channels),
        "n_chan": n_channels,
    }


def _shanks(recording: Any, n_channels: int) -> Any:
    """Number the groups of channels: shanks, as SpikeInterface groups them when a probe is attached."""
    import numpy as np

    groups = recording.get_property("group")
    if groups is None:
        return np.zeros(n_channels, dtype=np.float32)
    return np.unique(groups, return_inverse=True)[1].astype(np.float32)
