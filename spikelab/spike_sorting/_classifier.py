"""From an exception and a log to the classified failure that they are evidence of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spikelab.spike_sorting._exceptions import SpikeSortingClassifiedError
from spikelab.spike_sorting._signatures import SIGNATURES

_LOG_TAIL_BYTES = 1 << 18
_LOG_NAMES = ("kilosort4.log", "kilosort2.log", "rt_sort.log")
_SORTER_FOLDERS = ("", "sorter_output", "sort.partial/sorter_output", "sort/sorter_output")
"""Where below a sorter's, a stage's or an intermediate folder the sorter's log may lie."""
_RUN_LOG = "sorting.log"
"""What the workers printed, in the results folder."""
_MESSAGE_CHARS = 300


def classify_ks2_failure(output_folder: str | Path, exc: BaseException) -> SpikeSortingClassifiedError | None:
    """Return the classified failure of Kilosort2 behind `exc`, or None when it is not a known one.

    Parameters
    ----------
    output_folder : path
        Results, intermediate or sorter folder; its log is read as evidence.
    exc : BaseException
        What was raised; a classified error comes back unchanged.

    Examples
    --------
    >>> classify_ks2_failure(".", RuntimeError("found 0 good channels")).status
    'no_good_channels'
    """
    return classify("kilosort2", output_folder, exc)


def classify_ks4_failure(output_folder: str | Path, exc: BaseException) -> SpikeSortingClassifiedError | None:
    """Return the classified failure of Kilosort4 behind `exc`, or None; see `classify_ks2_failure`."""
    return classify("kilosort4", output_folder, exc)


def classify_rt_sort_failure(output_folder: str | Path, exc: BaseException) -> SpikeSortingClassifiedError | None:
    """Return the classified failure of RT-Sort behind `exc`, or None; see `classify_ks2_failure`."""
    return classify("rt_sort", output_folder, exc)


def classify(sorter: str, output_folder: str | Path, exc: BaseException) -> SpikeSortingClassifiedError | None:
    """Return the classified failure of `sorter` behind `exc`, or None."""
    for link in _chain(exc):
        if isinstance(link, SpikeSortingClassifiedError):
            return link
    log_path = _find_log(Path(output_folder))
    said = "\n".join(f"{type(link).__module__}.{type(link).__name__}: {link}" for link in _chain(exc))
    evidence = f"{_tail(log_path)}\n{said}"
    for row in SIGNATURES:
        if row.matches(evidence, sorter):
            known = {"sorter": sorter, "log_path": str(log_path) if log_path else None}
            known = {name: value for name, value in known.items() if name in row.error.detail_names()}
            message = f"{row.message} ({_brief(exc)})" if row.quotes else row.message
            return row.error(message, **{**known, **row.details, **row.read(evidence)})
    return None


def _brief(exc: BaseException) -> str:
    """Return the first line of what `exc` says, or its name when it says nothing."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0][:_MESSAGE_CHARS]


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield `exc` and everything that caused it or was being handled, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [exc]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__]


def _find_log(folder: Path) -> Path | None:
    """Return the sorter's log that was written last: an older one may be that of a finished attempt."""
    candidates = (folder / place / name for place in _SORTER_FOLDERS for name in _LOG_NAMES)
    logs = [path for path in candidates if path.is_file()]
    if logs:
        return max(logs, key=lambda path: path.stat().st_mtime_ns)
    run_log = folder / _RUN_LOG
    return run_log if run_log.is_file() else None


def _tail(path: Path | None) -> str:
    if path is None:
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")
