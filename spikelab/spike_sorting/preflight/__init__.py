"""Checks before anything runs: small functions that return findings, each with a code and what to do."""

from spikelab.spike_sorting.preflight.findings import Finding, error_from, findings_for, raise_for
from spikelab.spike_sorting.preflight.machine import Machine
from spikelab.spike_sorting.preflight.run import run_preflight

__all__ = ["Finding", "Machine", "error_from", "findings_for", "raise_for", "run_preflight"]
