"""A SpikeInterface recording as JSON, from which another process can open it, and what such a text tells."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from spikelab.spike_sorting._exceptions import RecordingUnreadableError

READ_ERRORS = (OSError, ValueError, TypeError, LookupError, NotImplementedError, AssertionError)
"""What the readers of others raise for files that are damaged, or of a kind that they do not know."""
_DOWNLOADER = "MaxwellRecordingExtractor"


def is_recording(item: object) -> bool:
    """Return whether `item` is a SpikeInterface recording, without importing SpikeInterface."""
    return hasattr(item, "get_traces") and hasattr(item, "get_num_segments")


def describe(recording: Any) -> str:
    """Return `recording` as JSON from which another process can open it."""
    from spikeinterface.core.core_tools import SIJsonEncoder

    values = recording.to_dict(recursive=True, include_annotations=True, include_properties=True)
    return json.dumps(_told_not_to_download(json.loads(json.dumps(values, cls=SIJsonEncoder))), sort_keys=True)


def _told_not_to_download(value: Any) -> Any:
    """Maxwell's reader fetches a plugin from the network whenever it is opened, unless told not to."""
    if isinstance(value, list):
        return [_told_not_to_download(item) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {key: _told_not_to_download(item) for key, item in value.items()}
    if str(cleaned.get("class", "")).endswith(_DOWNLOADER):
        cleaned["kwargs"]["install_maxwell_plugin"] = False
    return cleaned


def load_description(description: str) -> Any:
    """Return the recording that `description` (from `describe`) describes.

    Raises
    ------
    RecordingUnreadableError
        What it reads is no longer there.
    """
    import spikeinterface

    try:
        _check_classes(json.loads(description))
        return without_downloads(spikeinterface.load(json.loads(description)))
    except READ_ERRORS as error:
        path = min(map(str, described_paths(description)), default=None)
        msg = f"the recording can no longer be opened from its description ({type(error).__name__}: {error})"
        raise RecordingUnreadableError(msg, path=path) from error


def _check_classes(value: Any) -> None:
    """Raise ValueError unless everything that a description makes is an extractor: it calls whatever it names."""
    from spikeinterface.core.base import BaseExtractor

    if isinstance(value, dict):
        named = value.get("class")
        if isinstance(named, str) and "kwargs" in value:
            cls = _class_of(named)
            if not (isinstance(cls, type) and issubclass(cls, BaseExtractor)):
                msg = f"the description names {named!r}, which is no extractor of recordings"
                raise ValueError(msg)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_classes(item)


def _class_of(dotted: str) -> Any:
    """Return what a dotted name stands for, or None when nothing installed has it."""
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(import_module(module), name, None) if module else None
    except ImportError:
        return None


def without_downloads(recording: Any) -> Any:
    """Return `recording`, whose copies in other processes and files will not fetch a plugin from the network.

    Maxwell's reader does not remember that it was told not to; whoever opens it again, from a pickle or from the
    description that an analyzer keeps, would.
    """
    waiting = [recording]
    while waiting:
        extractor = waiting.pop()
        if isinstance(extractor, (list, tuple)):
            waiting += extractor
        elif isinstance(extractor, dict):
            waiting += extractor.values()
        elif is_recording(extractor):
            if type(extractor).__name__ == _DOWNLOADER:
                extractor._kwargs["install_maxwell_plugin"] = False
            waiting += extractor._kwargs.values()
    return recording


def described_path(recording: Any) -> Path | None:
    """Return a file that `recording` reads, or None when it is not backed by one."""
    if not recording.check_serializability("json"):
        return None
    return min(described_paths(describe(recording)), default=None)


def described_stream(description: str) -> str | None:
    """Return the stream that a described recording reads, where its format has streams."""
    found: list[str] = []
    _collect_streams(json.loads(description), found)
    return found[0] if found else None


def _collect_streams(value: Any, found: list[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect_streams(item, found)
    elif isinstance(value, dict):
        if isinstance(value.get("stream_id"), str):
            found.append(value["stream_id"])
        for item in value.values():
            _collect_streams(item, found)


def described_paths(description: str | None) -> set[Path]:
    """Return the existing absolute paths among the arguments of the readers in a description."""
    found: set[Path] = set()
    _collect_paths(json.loads(description) if description else None, found)
    return found


def _collect_paths(value: Any, found: set[Path]) -> None:
    if isinstance(value, dict):
        # Annotations and properties may hold any text: only what a reader is called with names its files.
        value = list((value["kwargs"] if "class" in value and "kwargs" in value else value).values())
    if isinstance(value, list):
        for item in value:
            _collect_paths(item, found)
    elif isinstance(value, str) and Path(value).is_absolute() and Path(value).exists():
        found.add(Path(value))
