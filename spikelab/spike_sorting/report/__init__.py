"""What came of a recording: for machines, as a note, and as a page with plots; for failures too.

Everything is imported on first use: plotting costs time and memory that a batch of finished recordings never needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spikelab._lazy import lazy_exports

if TYPE_CHECKING:
    from spikelab.spike_sorting.report.batch import generate_batch_report, write_batch_report
    from spikelab.spike_sorting.report.quality import extract_unit_quality_stats
    from spikelab.spike_sorting.report.sorting_log import parse_sorting_log
    from spikelab.spike_sorting.report.write import generate_sorting_report, write_report

_HOMES = {
    "extract_unit_quality_stats": "quality",
    "generate_batch_report": "batch",
    "generate_sorting_report": "write",
    "parse_sorting_log": "sorting_log",
    "write_batch_report": "batch",
    "write_report": "write",
}

__all__ = [
    "extract_unit_quality_stats",
    "generate_batch_report",
    "generate_sorting_report",
    "parse_sorting_log",
    "write_batch_report",
    "write_report",
]


__getattr__, __dir__ = lazy_exports(__name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()})
