"""Files that are sorted as one recording: whether they belong together, and the recording that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import RecordingsDifferError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAME_PLACE_UM = 1e-3


def joined(parts: Sequence[Any], names: Sequence[str]) -> Any:
    """Return recordings of one segment each as one, in their order; a single one is returned as it is.

    Parameters
    ----------
    parts : sequence of BaseRecording
        Recordings of one array, with one set of settings.
    names : sequence of str
        Their names, for messages.

    Raises
    ------
    RecordingsDifferError
        They are not alike; names the files and what differs.
    """
    check_alike(parts, names)
    if len(parts) == 1:
        return parts[0]
    import spikeinterface

    return spikeinterface.concatenate_recordings(list(parts))


def check_alike(parts: Sequence[Any], names: Sequence[str]) -> None:
    """Raise RecordingsDifferError unless `parts` are of one array with one set of settings."""
    told = [(name, "; ".join(differences(parts[0], part))) for part, name in zip(parts[1:], names[1:], strict=True)]
    wrong = [(name, what) for name, what in told if what]
    if wrong:
        listed = ". ".join(f"{name}: {what}" for name, what in wrong)
        msg = f"recordings that are sorted as one must be alike, and not all are like {names[0]}. {listed}"
        raise RecordingsDifferError(msg, path=wrong[0][0])


def differences(first: Any, other: Any) -> Iterator[str]:
    """Yield in what `other` differs from `first` where recordings that are sorted as one must be alike."""
    for what, here, there in (
        ("sampling rate", f"{first.sampling_frequency:.10g} Hz", f"{other.sampling_frequency:.10g} Hz"),
        ("data type", str(first.dtype), str(other.dtype)),
        ("number of channels", first.get_num_channels(), other.get_num_channels()),
    ):
        if here != there:
            yield f"the {what} is {there} and not {here}"
    if first.get_num_channels() == other.get_num_channels():
        yield from _of_channels(first, other)


def _of_channels(first: Any, other: Any) -> Iterator[str]:
    """Yield in how many of its channels `other` differs, with one of them as an example."""
    ids, theirs = ([str(channel) for channel in recording.channel_ids] for recording in (first, other))
    if ids != theirs:
        if sorted(ids) == sorted(theirs):
            yield "the channels are in another order"
        else:
            yield from _told("channels are others", ids, theirs, [a != b for a, b in zip(ids, theirs, strict=True)])
        return
    for what, unit, here, there in (
        ("gain", " uV per count", first.get_channel_gains(), other.get_channel_gains()),
        ("offset", " uV", first.get_channel_offsets(), other.get_channel_offsets()),
    ):
        if (here is None) != (there is None):
            yield f"it has {'no' if there is None else 'a'} {what}, unlike the first"
        elif here is not None:
            yield from _values_told(f"channels have another {what}", unit, ids, here, there)
    yield from _of_places(first, other, ids)


def _of_places(first: Any, other: Any, ids: Sequence[str]) -> Iterator[str]:
    import numpy as np

    if first.has_probe() != other.has_probe():
        yield f"it has {'a' if other.has_probe() else 'no'} probe, unlike the first"
    elif first.has_probe():
        here, there = first.get_channel_locations(), other.get_channel_locations()
        moved = np.abs(here - there).max(axis=1) > _SAME_PLACE_UM
        yield from _told("channels lie elsewhere", _places(here), _places(there), moved, ids)


def _places(locations_um: NDArray[np.floating]) -> list[str]:
    return [f"({', '.join(f'{value:g}' for value in place)}) um" for place in locations_um]


def _values_told(
    what: str, unit: str, ids: Sequence[str], here: NDArray[np.floating], there: NDArray[np.floating]
) -> Iterator[str]:
    import numpy as np

    ours, theirs = ([f"{value:g}{unit}" for value in values] for values in (here, there))
    yield from _told(what, ours, theirs, ~np.isclose(here, there, rtol=1e-6, atol=0), ids)


def _told(
    what: str, here: Sequence[str], there: Sequence[str], differs: Sequence[Any], ids: Sequence[str] | None = None
) -> Iterator[str]:
    """Yield "3 of 64 channels lie elsewhere (channel 7: (0, 20) um and not (0, 0) um)", where any does."""
    found = [index for index, is_other in enumerate(differs) if is_other]
    if found:
        index = found[0]
        named = f"channel {ids[index]}: " if ids is not None else ""
        yield f"{len(found)} of {len(here)} {what} ({named}{there[index]} and not {here[index]})"
