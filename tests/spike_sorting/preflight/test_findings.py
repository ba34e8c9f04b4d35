"""What findings amount to: an error that says everything, or none."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from spikelab.spike_sorting._exceptions import PreflightError, RecordingUnreadableError, SorterNotInstalledError
from spikelab.spike_sorting.jobs import Job
from spikelab.spike_sorting.preflight import Finding, error_from, findings_for, raise_for
from spikelab.spike_sorting.preflight.findings import about, of_error

WARNING = Finding("ram-low", "warning", "1 GB is free", "Close programs.")
INFO = Finding("gpu-none", "info", "no GPU", "Nothing.")


def test_nothing_wrong_raises_nothing() -> None:
    """Information and warnings let a sort start."""
    raise_for([])
    raise_for([WARNING, INFO])


def test_strict_counts_warnings() -> None:
    """With strict, a warning ends the start, and information still does not."""
    raise_for([INFO], strict=True)
    with pytest.raises(PreflightError, match="1 GB is free"):
        raise_for([WARNING, INFO], strict=True)


def test_a_single_reason_raises_its_own_error() -> None:
    """One reason with an error of its own is that error, details and all, whatever is warned of besides."""
    error = SorterNotInstalledError("no kilosort", sorter="kilosort4", missing="kilosort")
    with pytest.raises(SorterNotInstalledError) as raised:
        raise_for([WARNING, of_error(error)])
    assert raised.value is error


def test_several_reasons_are_told_together(make_job: Callable[..., Job]) -> None:
    """Several reasons become one error that names every recording, with its advice and as plain values."""
    findings = [
        WARNING,
        of_error(RecordingUnreadableError("cut short", path="a"), make_job(name="a")),
        of_error(RecordingUnreadableError("is a text", path="b"), make_job(name="b")),
    ]
    with pytest.raises(PreflightError) as raised:
        raise_for(findings)
    text = str(raised.value)
    assert all(
        part in text for part in ("2 reasons", "a: cut short", "b: is a text", "1 GB is free", "Close programs.")
    )
    assert text.index("cut short") < text.index("1 GB is free"), "errors come first"
    assert [one["code"] for one in raised.value.findings or ()] == [one.code for one in findings]
    json.dumps(raised.value.to_dict(), allow_nan=False)


def test_a_reason_without_its_own_error_is_a_preflight_error() -> None:
    """One reason that no classified error stands for is told as a failed check."""
    with pytest.raises(PreflightError, match="disk-space"):
        raise_for([Finding("disk-space", "error", "full", "Free some.")])


def test_findings_of_a_recording_are_told_from_those_of_another_with_its_name(make_job: Callable[..., Job]) -> None:
    """Two files of one name in different folders keep their findings apart, and the machine's are nobody's."""
    one, other = make_job(name="day1/rec.h5"), make_job(name="day2/rec.h5")
    findings = [WARNING, about(one, "x", "error", "bad", "Fix."), about(other, "y", "warning", "odd", "Look.")]
    assert [finding.code for finding in findings_for(findings, one)] == ["x"]
    assert [finding.code for finding in findings_for(findings, other)] == ["y"]
    assert findings_for(findings, None) == [WARNING]
    assert error_from(findings_for(findings, other)) is None
