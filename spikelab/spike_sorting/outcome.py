"""What came of a recording, and of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError, UnclassifiedSortError
from spikelab.spike_sorting.remarks import Remark, remarks_from

if TYPE_CHECKING:
    import pandas as pd

SUCCESS = "success"
INTERRUPTED = "interrupted"
SKIPPED = "skipped"
FAILED = "failed"


@dataclass(frozen=True)
class Attempt:
    """One try of one phase in one worker process.

    Parameters
    ----------
    phase : str
        Group of stages that the worker had to do.
    exit_name : str
        How the worker ended: "exit 0", "SIGKILL".
    wall_time_s : float
        How long it ran.
    status : str
        "success", or the status of the error.
    step : str or None
        What it was doing when it failed.
    gpu : str or None
        GPU that it had: "GPU 1", by the number that the driver gives it.
    """

    phase: str
    exit_name: str
    wall_time_s: float
    status: str
    step: str | None = None
    gpu: str | None = None


@dataclass(frozen=True, kw_only=True)
class RecordingResult:
    """The outcome of one recording.

    Parameters
    ----------
    rec_name, rec_path : str
        Name and source of the recording.
    results_folder : str
        Where everything lies.
    analyzer_folder : str or None
        SpikeInterface's ``SortingAnalyzer`` of all units, for ``spikeinterface.load_sorting_analyzer``; None after a
        failure, and where intermediate files are not kept.
    status : str
        "success", "interrupted", "skipped", "failed", or the status of the classified error.
    wall_time_s : float
        Time that this call took for the recording.
    n_units, n_curated_units, n_spikes : int or None
        Units found, units kept, spikes of the units kept.
    category, advice, error_class, error_message : str or None
        Family of the failure, what to do, its class and text.
    stage : str or None
        Stage in which it failed.
    retries_used : int
        Attempts after the first.
    log_path : str or None
        The log, packed where ``tee_log_policy`` says so; None where it says that none is kept.
    peak_host_ram_pct, peak_gpu_used_pct, min_disk_free_gb : float or None
        Extremes while it was sorted, where they were measured.
    stage_timings_s : mapping
        Seconds per stage, of the run that did it.
    estimated_s : mapping of str to float, or None
        What it was expected to take before it started (s): "low", "likely" and "high".
    attempts : tuple of Attempt
        Worker processes of this call.
    suspicions : tuple of Remark
        What came out and deserves a look although the sort succeeded.
    warnings : tuple of Remark
        What was found in the recording, on the machine and on the way.
    """

    rec_name: str
    rec_path: str
    results_folder: str
    status: str
    wall_time_s: float = 0.0
    n_units: int | None = None
    n_curated_units: int | None = None
    n_spikes: int | None = None
    category: str | None = None
    advice: str | None = None
    error_class: str | None = None
    error_message: str | None = None
    stage: str | None = None
    retries_used: int = 0
    log_path: str | None = None
    analyzer_folder: str | None = None
    peak_host_ram_pct: float | None = None
    peak_gpu_used_pct: float | None = None
    min_disk_free_gb: float | None = None
    stage_timings_s: Mapping[str, float] = field(default_factory=dict)
    estimated_s: Mapping[str, float] | None = None
    attempts: tuple[Attempt, ...] = ()
    suspicions: tuple[Remark, ...] = ()
    warnings: tuple[Remark, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether there is a sorted recording."""
        return self.status == SUCCESS

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RecordingResult:
        """Return the result that `values` (from ``to_dict``) describes; unknown keys are ignored."""
        kept = _known(cls, values)
        kept["attempts"] = tuple(Attempt(**_known(Attempt, attempt)) for attempt in kept.get("attempts", ()))
        for name in ("suspicions", "warnings"):
            kept[name] = remarks_from(kept.get(name, ()))
        return cls(**kept)


def _known(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `values` that are fields of the dataclass `cls`."""
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in values.items() if name in names}


@dataclass(frozen=True)
class Outcome:
    """A result with the error behind it, if any."""

    result: RecordingResult
    error: BaseException | None = None


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return the fields of a RecordingResult that tell of `error`."""
    if isinstance(error, (SpikeSortingClassifiedError, UnclassifiedSortError)):
        status, category, advice = error.status, error.category, error.advice
    elif isinstance(error, KeyboardInterrupt):
        status, category, advice = INTERRUPTED, None, "Call again: it continues where it stopped."
    else:
        status, category, advice = FAILED, "unclassified", UnclassifiedSortError.advice
    return {
        "status": status,
        "category": category,
        "advice": advice,
        "error_class": type(error).__name__,
        "error_message": str(error),
    }


class SortRunReport:
    """The outcomes of a batch, in the order of its recordings.

    Examples
    --------
    >>> report = SortRunReport()
    >>> report.all_succeeded
    False
    """

    def __init__(self, records: Iterable[RecordingResult] = ()) -> None:
        self.records: list[RecordingResult] = list(records)

    def add(self, record: RecordingResult) -> None:
        """Append the outcome of one recording."""
        self.records.append(record)

    @property
    def succeeded(self) -> list[RecordingResult]:
        """Records of sorted recordings."""
        return [record for record in self.records if record.succeeded]

    @property
    def failed(self) -> list[RecordingResult]:
        """Records of all others."""
        return [record for record in self.records if not record.succeeded]

    @property
    def all_succeeded(self) -> bool:
        """Whether there is a record, and no failed one."""
        return bool(self.records) and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "records": [record.to_dict() for record in self.records],
            "n_total": len(self.records),
            "n_succeeded": len(self.succeeded),
            "n_failed": len(self.failed),
        }

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per recording; the columns are the fields of `RecordingResult`."""
        import pandas as pd

        columns = [f.name for f in fields(RecordingResult)]
        return pd.DataFrame([record.to_dict() for record in self.records], columns=columns)

    @classmethod
    def load(cls, folder: str | Path) -> SortRunReport:
        """Read the report of one results folder, or of all results folders below `folder`, in order of their paths.

        Raises
        ------
        FileNotFoundError
            There is no ``recording_report.json`` in or below `folder`.
        ValueError
            One of them is no report; names the file.
        """
        paths = sorted(Path(folder).rglob("recording_report.json"))
        if not paths:
            msg = f"no recording_report.json in or below {folder}; was it sorted by spikelab?"
            raise FileNotFoundError(msg)
        return cls(_read_record(path) for path in paths)


def _read_record(path: Path) -> RecordingResult:
    try:
        return RecordingResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, TypeError, ValueError) as error:
        msg = f"{path} is no recording report of spikelab ({error}); remove it, or sort the recording again"
        raise ValueError(msg) from error
