"""Checks of one recording: readable, complete, with a plausible sampling rate and geometry."""

from __future__ import annotations

from spikelab.spike_sorting.geometry import position_problems
from spikelab.spike_sorting.preflight import hdf5
from spikelab.spike_sorting.preflight.facts import RecordingFacts
from spikelab.spike_sorting.preflight.findings import Finding, about, of_error

_LOWEST_FS_HZ, _HIGHEST_FS_HZ = 1_000.0, 100_000.0
_GEOMETRY_ADVICE = (
    "Name the probe file of this recording in probe_path, put it beside the recording as probe.prb, .json or .mat, or "
    "attach the probe with recording.set_probe(probe); positions are in um."
)


def check_readable(facts: RecordingFacts) -> list[Finding]:
    """Find why the recording cannot be opened, decompressed or read."""
    return [] if facts.error is None else [of_error(facts.error, facts.job)]


def check_plugin_folders(facts: RecordingFacts) -> list[Finding]:
    """Find folders for HDF5 plugins that are not there."""
    return hdf5.check_plugin_folders(facts.job)


def check_settings_fit(facts: RecordingFacts) -> list[Finding]:
    """Find settings, and files of one recording, that do not fit the recording."""
    advice = "Correct the setting, or give the files that belong together."
    return [about(facts.job, "settings-misfit", "error", misfit, advice) for misfit in facts.misfits]


def check_segments(facts: RecordingFacts) -> list[Finding]:
    """Find recordings of several segments, which are not one stretch of time."""
    if facts.header is None or facts.header.n_segments == 1:
        return []
    message = f"the recording has {facts.header.n_segments} segments; expected one"
    advice = "Join them with spikeinterface.concatenate_recordings, or select one with select_segments."
    return [about(facts.job, "several-segments", "error", message, advice)]


def check_complete(facts: RecordingFacts) -> list[Finding]:
    """Find signs of a copy that was cut short."""
    findings = []
    advice = "Compare the file with its original, and copy it again if their sizes differ."
    if facts.header is not None and facts.header.n_stray_bytes:
        message = f"the file ends with {facts.header.n_stray_bytes} bytes of an incomplete sample"
        findings.append(about(facts.job, "file-cut", "warning", message, advice))
    if facts.silent:
        message = f"every channel is constant in {' and '.join(facts.silent)}: data are missing or nothing was recorded"
        findings.append(about(facts.job, "recording-silent", "warning", message, advice))
    return findings


def check_axes(facts: RecordingFacts) -> list[Finding]:
    """Find recordings with no channels or no samples, or with more channels than samples."""
    if facts.header is None or facts.misfits:
        return []
    n_channels, n_samples = facts.header.n_channels, facts.header.n_samples
    if n_channels == 0 or n_samples == 0:
        message = f"the recording has {n_channels} channels and {n_samples} samples"
        advice = "Check that this is the right file and stream, and that its copy is complete."
        return [about(facts.job, "recording-empty", "error", message, advice)]
    if n_channels <= n_samples:
        return []
    message = f"the recording has {n_channels} channels of {n_samples} samples each: its axes seem to be swapped"
    advice = "Write or read it as samples x channels; numpy: traces.T."
    return [about(facts.job, "axes-swapped", "error", message, advice)]


def check_sampling_rate(facts: RecordingFacts) -> list[Finding]:
    """Find sampling rates at which no spike can be seen, or that no amplifier has."""
    if facts.header is None:
        return []
    fs_Hz, low = facts.header.fs_Hz, facts.job.config.recording.freq_min
    if not _LOWEST_FS_HZ <= fs_Hz <= _HIGHEST_FS_HZ:
        message = f"the sampling rate is {fs_Hz:g} Hz; expected 1 to 100 kHz"
    elif fs_Hz <= 2 * low:
        message = f"the sampling rate of {fs_Hz:g} Hz leaves nothing above freq_min={low:g} Hz"
    else:
        return []
    advice = "Sort the wide-band stream rather than the LFP, and check that the rate is in Hz."
    return [about(facts.job, "sampling-rate", "error", message, advice)]


def check_geometry(facts: RecordingFacts) -> list[Finding]:
    """Find missing, unknown, shared or impossibly scaled positions of channels."""
    if facts.header is None or facts.header.n_channels == 0:
        return []
    places_um = facts.header.locations_um
    found = ["the recording has no probe geometry"]
    if places_um is not None:
        found = position_problems(places_um, facts.header.shanks)
    return [about(facts.job, "geometry", "error", message, _GEOMETRY_ADVICE) for message in found]
