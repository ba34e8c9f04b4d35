"""Shanks of a probe as streams: each can be sorted as a recording of its own, ``shank0``, or ``imec0.ap/shank0``."""

from __future__ import annotations

import re
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError

_NAMED = re.compile(r"(?:(?P<stream>.+)/)?(?P<shank>shank[^/]+)")


def split_shank(stream_id: str | None) -> tuple[str | None, str | None]:
    """Return the stream and the shank that `stream_id` names, each None where it names none.

    Examples
    --------
    >>> split_shank("imec0.ap/shank1"), split_shank("shank1"), split_shank("well000")
    (('imec0.ap', 'shank1'), (None, 'shank1'), ('well000', None))
    """
    found = _NAMED.fullmatch(stream_id or "")
    return (found["stream"], found["shank"]) if found else (stream_id, None)


def join_shank(stream_id: str | None, shank: str) -> str:
    """Return the id of `shank` of a stream, which is None where the recording has no streams."""
    return f"{stream_id}/{shank}" if stream_id else shank


def shanks_of(recording: Any) -> list[str]:
    """Return the shanks of a recording in the order of its channels; none where it has one, or no probe."""
    groups = recording.get_property("group") if recording.has_probe() else None
    names = list(dict.fromkeys(map(_name, groups))) if groups is not None else []
    return names if len(names) > 1 else []


def of_shank(recording: Any, shank: str | None, name: str) -> Any:
    """Return the channels of `shank` alone, or `recording` itself where that is None.

    Raises
    ------
    RecordingUnreadableError
        The recording `name` has no such shank; lists those that it has.
    """
    if shank is None:
        return recording
    present = shanks_of(recording)
    if shank not in present:
        msg = f"{name} has no {shank}; it has {present or 'one shank, or no probe that says of several'}"
        raise RecordingUnreadableError(msg, path=name)
    groups = recording.get_property("group")
    return recording.select_channels(recording.channel_ids[[_name(group) == shank for group in groups]])


def _name(group: Any) -> str:
    return f"shank{group}"
