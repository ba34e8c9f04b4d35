"""What came of a recording: for machines, as a note, and as a page with plots; for failures too.

Everything is imported on first use: plotting costs time and memory that a batch of finished recordings never needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikelab.spike_sorting.report.quality import extract_unit_quality_stats
    from spikelab.spike_sorting.report.sorting_log import parse_sorting_log
    from spikelab.spike_sorting.report.write import generate_sorting_report, write_report

_HOMES = {
    "extract_unit_quality_stats": "quality",
    "generate_sorting_report": "write",
    "parse_sorting_log": "sorting_log",
    "write_report": "write",
}

__all__ = ["extract_unit_quality_stats", "generate_sorting_report", "parse_sorting_log", "write_report"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
