"""What a check says: a code, how bad it is, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spikelab.spike_sorting._exceptions import PreflightError, SpikeSortingClassifiedError
from spikelab.spike_sorting.jobs import Job

Level = Literal["error", "warning", "info"]

MACHINE = "machine"
"""Subject of what concerns every recording."""

_ORDER: tuple[Level, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    code : str
        Name of the finding, for programs.
    level : {"error", "warning", "info"}
        "error": the sort cannot succeed; "warning": it may fail or be worse than it could be.
    message : str
        What was expected and what was found.
    advice : str
        What to do.
    subject : str, default "machine"
        Name of the recording, or "machine".
    results_folder : str or None, default None
        Results folder of that recording: no two recordings share one, whatever their names.
    error : SpikeSortingClassifiedError or None, default None
        The error that the sort would end with, where there is a specific one.
    """

    code: str
    level: Level
    message: str
    advice: str
    subject: str = MACHINE
    results_folder: str | None = None
    error: SpikeSortingClassifiedError | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("code", "level", "message", "advice", "subject", "results_folder")
        return {name: getattr(self, name) for name in names}


def of_error(error: SpikeSortingClassifiedError, job: Job | None = None, advice: str | None = None) -> Finding:
    """Return `error`, which the sort of `job` or of every recording would end with, as a finding."""
    return Finding(
        code=error.status.replace("_", "-"),
        level="error",
        message=str(error),
        advice=advice or error.advice,
        subject=job.name if job else MACHINE,
        results_folder=str(job.run.results) if job else None,
        error=error,
    )


def about(job: Job, code: str, level: Level, message: str, advice: str) -> Finding:
    """Return a finding on the recording of `job`."""
    return Finding(code, level, message, advice, job.name, str(job.run.results))


def findings_for(findings: Iterable[Finding], job: Job | None) -> list[Finding]:
    """Return the findings on the recording of `job`; with None, those on the machine."""
    folder = str(job.run.results) if job else None
    return [finding for finding in findings if finding.results_folder == folder]


def error_from(findings: Sequence[Finding], *, strict: bool = False) -> SpikeSortingClassifiedError | None:
    """Return the error that `findings` amount to, or None when nothing speaks against a start.

    Parameters
    ----------
    findings : sequence of Finding
        From ``run_preflight``: all, or those of one recording.
    strict : bool, default False
        Whether warnings count as errors.

    Returns
    -------
    SpikeSortingClassifiedError or None
        The specific error when there is one reason and it has one, else a PreflightError with all findings.
    """
    fatal = [finding for finding in findings if finding.level == "error" or (strict and finding.level == "warning")]
    if not fatal:
        return None
    if len(fatal) == 1 and fatal[0].error is not None:
        return fatal[0].error
    return PreflightError(_told(findings, len(fatal)), findings=[finding.to_dict() for finding in findings])


def raise_for(findings: Sequence[Finding], *, strict: bool = False) -> None:
    """Raise what `error_from` returns.

    Raises
    ------
    SorterNotInstalledError, HDF5PluginMissingError, DockerEnvironmentError, RecordingUnreadableError
        The one reason not to start is of this kind.
    PreflightError
        There are several reasons, or one without an error of its own.
    """
    error = error_from(findings, strict=strict)
    if error is not None:
        raise error


def _told(findings: Sequence[Finding], n_fatal: int) -> str:
    reasons = "1 reason" if n_fatal == 1 else f"{n_fatal} reasons"
    told = [finding for finding in findings if finding.level != "info"]
    ordered = sorted(told, key=lambda finding: _ORDER.index(finding.level))
    lines = [f"{one.level}: {one.subject}: {one.message} -> {one.advice} [{one.code}]" for one in ordered]
    return "\n  ".join([f"{reasons} not to start:", *lines])
