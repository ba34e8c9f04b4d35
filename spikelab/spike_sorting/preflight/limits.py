"""Limits of this user's processes: open files, and processes and threads."""

from __future__ import annotations

from spikelab.spike_sorting.preflight.batch import Batch
from spikelab.spike_sorting.preflight.findings import Finding

LIMITS = {
    "Max open files": ("limit-nofile", 1024, "ulimit -n"),
    "Max processes": ("limit-nproc", 1024, "ulimit -u"),
}
"""Limit by the kernel's name: code, least value that is enough for a sort with its pools, and how to raise it."""


def check_limits(batch: Batch) -> list[Finding]:
    """Find limits that a sort with its worker processes and threads may run into."""
    limits = batch.machine.limits()
    findings = []
    for name, (code, least, command) in LIMITS.items():
        value = limits.get(name)
        if value is not None and value < least:
            message = f"the limit {name.removeprefix('Max ')!r} of this shell is {value}; expected {least} or more"
            advice = f"Run `{command} {least}` in this shell first; when that is refused, ask the administrator."
            findings.append(Finding(code, "warning", message, advice))
    return findings
