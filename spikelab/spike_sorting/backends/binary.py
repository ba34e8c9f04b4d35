"""A flat binary file of the recording, for sorters that read one: the source itself, or a copy made once."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikelab.spike_sorting._settings import memory_bytes
from spikelab.spike_sorting.backends.base import SortJob
from spikelab.spike_sorting.backends.conversion import Scaling, choose_scaling, convert
from spikelab.spike_sorting.config import ExecutionConfig
from spikelab.spike_sorting.remarks import Remark, remark
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.publish import publish_json, publish_with

if TYPE_CHECKING:
    from numpy.typing import NDArray

COPYING = "copy to binary"
"""Name of this step in the progress of a sort."""
SUPPORTED_DTYPES = ("int16", "uint16", "int32", "float32")
"""Types of whole files that are read where they lie."""
_COPIED_AS_THEY_ARE = frozenset({"int16", "uint16"})
_ITEM_BYTES = 2
_BYTES_PER_PROCESS = 500_000_000
COPIED_BYTES_PER_PROCESS = 2_000_000_000
"""A copy is done with so many bytes, as floats, in the time that the start of a process takes."""
_LARGEST_CHUNK_BYTES = 20_000_000
_FLOATS_PER_CHUNK = 8
"""Chunks are converted and filtered as floats, so that they take about so many times their own size."""
_PROCESS_BYTES = 200_000_000
"""What a process holds before its first chunk: Python, numpy, SpikeInterface and a reader."""
_BLOCK = 512
"""Samples and channels that are turned, and samples that are written, at a time."""
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
"""The file system does not know how."""


@dataclass(frozen=True)
class FlatBinary:
    """Samples in time order, channels side by side.

    Parameters
    ----------
    path : Path
        The file.
    dtype : str
        Type of a sample.
    n_channels : int
        Channels in the file.
    step : float, default 1.0
        How many of the recording's own unit one step of the file is.
    n_saturated : int, default 0
        Samples that lay beyond the range of the file's type.
    """

    path: Path
    dtype: str
    n_channels: int
    step: float = 1.0
    n_saturated: int = 0

    def remarks(self) -> list[Remark]:
        """Return what deserves a look."""
        if not self.n_saturated:
            return []
        many = "1 sample is" if self.n_saturated == 1 else f"{self.n_saturated:,} samples are"
        reach = f"{32_767 * self.step:.4g} (in the unit of the file) from the middle of their channel"
        return [remark("conversion-saturated", f"{many} farther than {reach}, and became that in the copy")]


def flat_binary(job: SortJob, key: str, dtypes: Sequence[str] = SUPPORTED_DTYPES) -> FlatBinary:
    """Return the recording as a flat binary: its own file where that is one, else a copy of 16 bits, made once.

    Parameters
    ----------
    job : SortJob
        What to sort.
    key : str
        Key of the recording: a copy made under another is replaced.
    dtypes : sequence of str, default all that Kilosort4 reads
        Types of samples that the sorter reads.
    """
    own = _own_file(job.recording)
    return own if own is not None and own.dtype in dtypes else _copy(job, key, dtypes)


def _own_file(recording: Any) -> FlatBinary | None:
    if not recording.binary_compatible_with(time_axis=0, file_paths_length=1, file_offset=0):
        return None
    described = recording.get_binary_description()
    dtype = str(described["dtype"])
    if dtype not in SUPPORTED_DTYPES or described["num_channels"] != recording.get_num_channels():
        return None
    return FlatBinary(Path(described["file_paths"][0]), dtype, described["num_channels"])


def _native_name(dtype: Any) -> str:
    """Return the name of a type in this machine's byte order."""
    return str(dtype.newbyteorder("=").name)


def _copy(job: SortJob, key: str, dtypes: Sequence[str]) -> FlatBinary:
    recording, path = job.recording, job.run.binary
    name, n_channels = _native_name(recording.dtype), recording.get_num_channels()
    dtype = name if name in _COPIED_AS_THEY_ARE and name in dtypes else "int16"
    n_bytes = recording.get_num_samples() * n_channels * _ITEM_BYTES
    wanted = {"key": key, "n_bytes": n_bytes, "dtype": dtype}
    marker = path.with_suffix(".done.json")
    done = _read_marker(marker)
    if not (wanted.items() <= done.items() and path.is_file() and path.stat().st_size == n_bytes):
        marker.unlink(missing_ok=True)
        scaling = None if dtype == name else choose_scaling(recording)
        counts: list[int] = []
        publish_with(path, lambda partial: counts.append(write_samples(job, recording, partial, dtype, scaling)))
        done = {**wanted, "step": scaling.step if scaling else 1.0, "n_saturated": sum(counts)}
        publish_json(marker, done)
    return FlatBinary(path, dtype, n_channels, done["step"], done["n_saturated"])


def write_samples(
    job: SortJob, recording: Any, path: Path, dtype: str, scaling: Scaling | None = None, header: bytes = b""
) -> int:
    """Copy `recording` into `path`, chunk by chunk in several processes; return how many samples saturate.

    Parameters
    ----------
    job : SortJob
        Whose progress and limits count.
    recording : BaseRecording
        What is written; it may be the job's, filtered.
    path : Path
        File to write.
    dtype : str
        Type of a sample in the file.
    scaling : Scaling or None, default None
        How samples become integers.
    header : bytes, default none
        What the file begins with.
    """
    import numpy as np
    from spikeinterface.core import TimeSeriesChunkExecutor

    n_samples = recording.get_num_samples()
    with path.open("wb") as file:
        n_bytes = n_samples * recording.get_num_channels() * np.dtype(dtype).itemsize
        reserve(file.fileno(), len(header) + n_bytes)
        file.write(header)
    copied = n_saturated = 0

    def count(of_chunk: tuple[int, int]) -> None:
        nonlocal copied, n_saturated
        copied += of_chunk[0]
        n_saturated += of_chunk[1]
        job.progress.report(COPYING, copied / n_samples)

    executor = TimeSeriesChunkExecutor(
        recording,
        _copy_chunk,
        _open_copy,
        (recording, str(path), dtype, scaling, len(header)),
        gather_func=count,
        job_name=COPYING,
        **job_kwargs(job.config.execution, recording, COPIED_BYTES_PER_PROCESS),
    )
    executor.run()
    return n_saturated


def reserve(descriptor: int, n_bytes: int) -> None:
    """Take the space of a file now, so that a disk that is too full says so at once.

    It would do so after an hour of copying, and under a memory map it would kill the process without a word.
    """
    os.ftruncate(descriptor, n_bytes)
    if n_bytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, n_bytes)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise


def _open_copy(recording: Any, path: str, dtype: str, scaling: Scaling | None, offset: int) -> dict[str, Any]:
    return {"recording": recording, "path": Path(path), "dtype": dtype, "scaling": scaling, "offset": offset}


def _copy_chunk(_segment: int, start: int, end: int, opened: dict[str, Any]) -> tuple[int, int]:
    """Write a chunk to its place; a memory map would count as memory, and turn a failing disk into a signal."""
    import numpy as np

    traces = opened["recording"].get_traces(start_frame=start, end_frame=end)
    n_saturated = 0
    if opened["scaling"] is not None:
        traces, n_saturated = convert(traces, opened["scaling"])
    with opened["path"].open("r+b", buffering=0) as file:
        file.seek(opened["offset"] + start * traces.shape[1] * np.dtype(opened["dtype"]).itemsize)
        for first in range(0, len(traces), _BLOCK):
            data = _side_by_side(traces[first : first + _BLOCK], opened["dtype"])
            left = data.reshape(-1).view(np.uint8).data
            while left:
                left = left[file.write(left) :]
    return end - start, n_saturated


def _side_by_side(traces: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return `traces` (n_samples, n_channels) with the channels of a sample side by side.

    Many formats keep each channel by itself. Turned block by block, they stay within the caches.
    """
    import numpy as np

    if traces.flags.c_contiguous:
        return np.asarray(traces, dtype=dtype)
    turned = np.empty(traces.shape, dtype)
    for channel in range(0, traces.shape[1], _BLOCK):
        turned[:, channel : channel + _BLOCK] = traces[:, channel : channel + _BLOCK]
    return turned


def job_kwargs(
    execution: ExecutionConfig, recording: Any, bytes_per_process: int = _BYTES_PER_PROCESS
) -> dict[str, Any]:
    """Return how SpikeInterface splits its work on `recording`: processes, and memory for their chunks.

    Parameters
    ----------
    execution : ExecutionConfig
        The most processes, and what memory they may take together.
    recording : BaseRecording
        What is worked on.
    bytes_per_process : int, default 500 MB
        How much of it, as floats, keeps a process busy long enough to be worth its start.
    """
    n_jobs = n_processes(execution, recording.get_num_samples() * recording.get_num_channels(), bytes_per_process)
    chunks_bytes = min(_memory_bytes(execution) // _FLOATS_PER_CHUNK, n_jobs * _LARGEST_CHUNK_BYTES)
    return {
        "n_jobs": n_jobs,
        "total_memory": f"{max(1, chunks_bytes // 10**6)}M",
        "progress_bar": True,
        "pool_engine": "process",
        "mp_context": "spawn",
    }


def n_processes(execution: ExecutionConfig, n_values: int, bytes_per_process: int = _BYTES_PER_PROCESS) -> int:
    """Return how many processes work on a recording of `n_values`, all channels together; see `job_kwargs`."""
    n_fitting = max(1, _memory_bytes(execution) // (_PROCESS_BYTES + _FLOATS_PER_CHUNK * _LARGEST_CHUNK_BYTES))
    return min(execution.n_jobs or host.usable_cores(), 1 + 4 * n_values // bytes_per_process, n_fitting)


def _memory_bytes(execution: ExecutionConfig) -> int:
    return memory_bytes(execution.total_memory or host.available_memory_bytes() // 2)


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        read = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return read if isinstance(read, dict) and {"step", "n_saturated"} <= read.keys() else {}
