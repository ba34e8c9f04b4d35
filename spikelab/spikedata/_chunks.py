"""The epochs of a concatenated recording, as the metadata say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Span = tuple[float, float]

CHUNKS, NAMES = "rec_chunks_ms", "rec_chunk_names"
BLANKED, STIM_TIMES = "blanked_ms", "stim_times_ms"
"""Metadata: (start, end) in ms of each recording that was joined, and what each is called."""


def read_chunks(metadata: Mapping[str, Any]) -> tuple[list[Span], list[str]]:
    """Return spans (ms) and names of the epochs of a concatenated recording.

    Raises
    ------
    ValueError
        When there are none, they are no pairs (start, end), or names and spans differ in number.
    """
    if metadata.get(CHUNKS) is None:
        msg = (
            f"splitting needs metadata[{CHUNKS!r}], a list of (start_ms, end_ms), one per recording; it is "
            "set when recordings are concatenated for sorting, or by hand"
        )
        raise ValueError(msg)
    spans = _as_spans(metadata[CHUNKS])
    stored = metadata.get(NAMES)
    names = [f"epoch_{i}" for i in range(len(spans))] if stored is None else [str(name) for name in stored]
    if len(names) != len(spans):
        msg = f"metadata[{NAMES!r}] must name each of the {len(spans)} epochs, found {len(names)}"
        raise ValueError(msg)
    return spans, names


def _as_spans(chunks: Any) -> list[Span]:
    try:
        table = np.asarray(chunks, dtype=np.float64).reshape(len(chunks), 2)
    except (TypeError, ValueError) as error:
        msg = f"metadata[{CHUNKS!r}] must be a list of (start_ms, end_ms), got {chunks!r:.80}"
        raise ValueError(msg) from error
    return [(float(start), float(end)) for start, end in table]
