"""Writer of Maxwell ``.raw.h5`` files, uncompressed, in both layouts that SpikeInterface reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikelab._publish import published

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

NEW_LAYOUT, OLD_LAYOUT = "20190530", "20160704"
_OLD_FS_HZ = 20_000.0
_CENTRE, _TOP = 512, 1023
_MAPPING_DTYPE = np.dtype([("channel", "<i4"), ("electrode", "<i4"), ("x", "<f8"), ("y", "<f8")])
_CHUNK_VALUES, _BLOCK_VALUES = 2**19, 2**22
_KEY = re.compile(r"(well\d{3})(?:/(rec\d{4}))?")
_RECORDING_NAME = re.compile(r"rec\d{4}")


@dataclass(frozen=True, eq=False)
class _Well:
    """One recording of one well, checked, with what the file needs to know about it."""

    name: str
    recording_name: str
    recording: BaseRecording
    gain_uV: float
    shifts: npt.NDArray[np.int64]
    mapping: npt.NDArray[np.void]

    @property
    def label(self) -> str:
        return f"{self.name}/{self.recording_name}"


def write_maxwell(
    path: str | os.PathLike[str],
    wells: Mapping[str, BaseRecording] | BaseRecording,
    *,
    layout: str = NEW_LAYOUT,
    recording_name: str = "rec0000",
) -> Path:
    """Write a Maxwell file that SpikeInterface reads to the sample; the path gets the whole file or none.

    The file is written block by block under a temporary name beside `path`, then renamed over it.
    Maxwell files hold no offset. Signed samples, and unsigned ones with an offset, are shifted so that
    0 uV lies at 512, the middle of the 10-bit converter; unsigned ones with offset 0 are written as
    they are. The reader gives offset 0, so a shifted recording reads back 512 steps higher, as real
    recordings do.

    Parameters
    ----------
    path : path-like
        The file to write, usually ``*.raw.h5``; an existing file is replaced. Its folder must exist.
    wells : BaseRecording, or mapping of str to BaseRecording
        One recording (well000), or recordings by well: "well000" to "well999". A key such as
        "well000/rec0001" names the recording as well, for files with several recordings. Each has one
        segment, integer samples, one gain for all channels, an offset, and a probe. Channel ids that
        are whole numbers are kept, others become 0, 1, ...; the property "electrode" is kept, and is
        the channel number where there is none.
    layout : {"20190530", "20160704"}, default: "20190530"
        File version: with wells, or the old one with a single recording at 20 kHz.
    recording_name : str, default: "rec0000"
        Name of the recordings whose key has none; not used by the old layout.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        Unknown layout or name, no well, two wells in the old layout, or a recording that the format
        cannot hold: no probe, no gain, unequal gains, an offset that is not a whole number of steps,
        float samples, or samples outside of 0 to 1023 in the file.
    FileNotFoundError
        The folder of `path` does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from spikelab.simulation import simulate_recording, write_maxwell
    >>> folder = tempfile.mkdtemp()
    >>> truth = simulate_recording("mea", n_channels=4, duration_s=0.5, gain_uV=6.294)
    >>> write_maxwell(f"{folder}/demo.raw.h5", truth.recording).name
    'demo.raw.h5'
    """
    target = Path(path)
    plans = _plan(wells, layout, recording_name)
    if not target.parent.is_dir():
        message = f"Cannot write {target.name}: the folder {target.parent} does not exist. Create it first."
        raise FileNotFoundError(message)
    with published(target) as partial:
        _write_file(partial, plans, layout)
    return target


# -- what to write: everything that can be checked before a byte is written -----------------------


def _plan(wells: Mapping[str, BaseRecording] | BaseRecording, layout: str, recording_name: str) -> list[_Well]:
    named = dict(wells) if isinstance(wells, Mapping) else {"well000": wells}
    plans = [_plan_well(key, recording, recording_name) for key, recording in named.items()]
    _check_names(plans)
    _check_layout(plans, layout)
    return plans


def _plan_well(key: str, recording: BaseRecording, recording_name: str) -> _Well:
    name, own_name = _split_key(key)
    _check_readable(key, recording)
    gain_uV = _common_gain(key, recording)
    return _Well(
        name=name,
        recording_name=_checked_recording_name(own_name or recording_name),
        recording=recording,
        gain_uV=gain_uV,
        shifts=_shifts(key, recording, gain_uV),
        mapping=_mapping(key, recording),
    )


def _split_key(key: str) -> tuple[str, str | None]:
    match = _KEY.fullmatch(key)
    if match is None:
        message = f"Wells are named like 'well000' or 'well000/rec0000', but one is named {key!r}. Rename it."
        raise ValueError(message)
    return match[1], match[2]


def _checked_recording_name(name: str) -> str:
    if _RECORDING_NAME.fullmatch(name) is None:
        message = f"Recordings are named like 'rec0000', but recording_name is {name!r}. Rename it."
        raise ValueError(message)
    return name


def _check_names(plans: list[_Well]) -> None:
    if not plans:
        message = "A Maxwell file needs at least one well, but wells is empty. Pass {'well000': recording}."
        raise ValueError(message)
    labels = [plan.label for plan in plans]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        message = f"Each recording needs a place of its own, but {', '.join(twice)} was given twice."
        raise ValueError(message)


def _check_layout(plans: list[_Well], layout: str) -> None:
    if layout not in (NEW_LAYOUT, OLD_LAYOUT):
        message = f"layout must be {NEW_LAYOUT!r} or {OLD_LAYOUT!r}, but is {layout!r}."
        raise ValueError(message)
    if layout == OLD_LAYOUT:
        _check_fits_old(plans)


def _check_fits_old(plans: list[_Well]) -> None:
    if len(plans) > 1:
        message = (
            f"The old layout {OLD_LAYOUT!r} holds one recording, but {len(plans)} were given: "
            f"{', '.join(plan.label for plan in plans)}. Use layout {NEW_LAYOUT!r}, or one file each."
        )
        raise ValueError(message)
    fs_Hz = plans[0].recording.get_sampling_frequency()
    if fs_Hz != _OLD_FS_HZ:
        message = (
            f"The old layout {OLD_LAYOUT!r} is always read at {_OLD_FS_HZ:g} Hz, but the recording has "
            f"{fs_Hz:g} Hz. Use layout {NEW_LAYOUT!r}, or resample."
        )
        raise ValueError(message)


def _check_readable(key: str, recording: BaseRecording) -> None:
    if recording.get_num_segments() != 1:
        message = (
            f"{key}: expected one segment, found {recording.get_num_segments()}. "
            "Select one with recording.select_segments, or write one file each."
        )
        raise ValueError(message)
    if recording.get_num_samples() == 0:
        message = f"{key}: the recording has no samples, and a Maxwell file needs at least one."
        raise ValueError(message)
    _check_dtype(key, recording)
    if not recording.has_probe():
        message = f"{key}: the file needs electrode positions, but the recording has no probe. Call set_probe."
        raise ValueError(message)


def _check_dtype(key: str, recording: BaseRecording) -> None:
    dtype = recording.get_dtype()
    if dtype.kind not in "iu":
        message = (
            f"{key}: expected integer samples with gain and offset, found {dtype}. Quantise them first, "
            "for example with spikeinterface.preprocessing.astype."
        )
        raise ValueError(message)


def _common_gain(key: str, recording: BaseRecording) -> float:
    gains_uV = recording.get_channel_gains()
    if gains_uV is None or recording.get_channel_offsets() is None:
        message = f"{key}: no channel gain or no offset is set. Call set_channel_gains and set_channel_offsets."
        raise ValueError(message)
    if np.ptp(gains_uV) != 0 or not gains_uV[0] > 0:
        message = (
            f"{key}: a Maxwell file holds one gain above 0 for all channels, but the gains go from "
            f"{gains_uV.min():g} to {gains_uV.max():g} uV. Scale the channels to one gain first."
        )
        raise ValueError(message)
    return float(gains_uV[0])


def _shifts(key: str, recording: BaseRecording, gain_uV: float) -> npt.NDArray[np.int64]:
    """Return what is added to each channel's samples, shape (n_channels,)."""
    offsets_uV = np.asarray(recording.get_channel_offsets(), dtype=np.float64)
    exact = _CENTRE + offsets_uV / gain_uV
    if recording.get_dtype().kind == "u":
        exact[offsets_uV == 0] = 0
    shifts = np.rint(exact)
    if np.abs(exact - shifts).max() > 1e-3:
        message = (
            f"{key}: the file holds no offset, so it must be a whole number of steps of {gain_uV:g} uV, but "
            f"offsets of {offsets_uV.min():g} to {offsets_uV.max():g} uV were found. Quantise with offset 0."
        )
        raise ValueError(message)
    return shifts.astype(np.int64)


def _mapping(key: str, recording: BaseRecording) -> npt.NDArray[np.void]:
    channels = _channel_numbers(recording)
    electrodes = recording.get_property("electrode")
    mapping = np.zeros(len(channels), dtype=_MAPPING_DTYPE)
    mapping["channel"] = channels
    mapping["electrode"] = channels if electrodes is None else electrodes
    mapping["x"], mapping["y"] = _locations(key, recording).T
    return mapping


def _locations(key: str, recording: BaseRecording) -> npt.NDArray[np.float64]:
    locations_um = np.asarray(recording.get_channel_locations(axes="xy"), dtype=np.float64)
    if len(np.unique(locations_um, axis=0)) != len(locations_um):
        message = f"{key}: each electrode needs a position of its own, but some share one. Correct the probe."
        raise ValueError(message)
    return locations_um


def _channel_numbers(recording: BaseRecording) -> list[int]:
    """Return the ids as numbers, or 0, 1, ... where they are not distinct int32 numbers from 0 on."""
    ids = [str(channel_id) for channel_id in recording.channel_ids]
    if all(re.fullmatch(r"\d{1,9}", channel_id) for channel_id in ids):
        numbers = [int(channel_id) for channel_id in ids]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(len(ids)))


# -- writing --------------------------------------------------------------------------------------


def _write_file(path: Path, plans: list[_Well], layout: str) -> None:
    import h5py

    with h5py.File(path, "x") as file:
        file.create_dataset("version", data=np.array([layout.encode()], dtype="S8"))
        if layout == OLD_LAYOUT:
            _write_old(file, plans[0])
        else:
            for plan in plans:
                _write_new(file.create_group(f"wells/{plan.label}"), plan)


def _write_old(file: Any, plan: _Well) -> None:
    _write_settings(file.create_group("settings"), lsb=plan.gain_uV / 1e6)
    file.create_dataset("mapping", data=plan.mapping)
    _write_samples(file, "sig", plan)


def _write_new(group: Any, plan: _Well) -> None:
    fs_Hz = plan.recording.get_sampling_frequency()
    settings = group.create_group("settings")
    _write_settings(settings, sampling=fs_Hz, lsb=plan.gain_uV / 1e6, hpf=0.0)
    settings.create_dataset("mapping", data=plan.mapping)
    _write_samples(group, "groups/routed/raw", plan)


def _write_settings(group: Any, **settings: float) -> None:
    for name, value in settings.items():
        group.create_dataset(name, data=np.array([value], dtype=np.float64))


def _write_samples(group: Any, name: str, plan: _Well) -> None:
    """Write the samples block by block, so that the recording is never in memory as a whole."""
    n_samples, n_channels = plan.recording.get_num_samples(), plan.recording.get_num_channels()
    chunk = max(1, min(n_samples, _CHUNK_VALUES // n_channels))
    block = chunk * max(1, _BLOCK_VALUES // (chunk * n_channels))
    dataset = group.create_dataset(name, shape=(n_channels, n_samples), dtype="<u2", chunks=(n_channels, chunk))
    for start in range(0, n_samples, block):
        end = min(start + block, n_samples)
        dataset[:, start:end] = _file_samples(plan, start, end).T


def _file_samples(plan: _Well, start: int, end: int) -> npt.NDArray[np.uint16]:
    """Return the samples as the file holds them, shape (end - start, n_channels)."""
    traces = plan.recording.get_traces(start_frame=start, end_frame=end)
    shifted = traces.astype(np.int64) + plan.shifts
    if shifted.min() < 0 or shifted.max() > _TOP:
        message = (
            f"{plan.label}: a Maxwell file holds values from 0 to {_TOP}, but samples {start} to {end} would "
            f"become {shifted.min()} to {shifted.max()}. Use a larger gain; that of real files is gain_uV=6.294."
        )
        raise ValueError(message)
    samples: npt.NDArray[np.uint16] = shifted.astype(np.uint16)
    return samples
