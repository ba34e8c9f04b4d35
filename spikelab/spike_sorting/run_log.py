"""The log of a run, which may be larger than the memory: its end, and what becomes of it after a success."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from spikelab.spike_sorting.supervision.publish import publish_with

_TAIL_BYTES = 1 << 16


def log_tail(log: Path, n_lines: int = 30) -> str:
    """Return the last lines of `log`, as they would stand in a terminal; empty where there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    # A progress bar overwrites its line: only what stood there last counts.
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    return "\n".join([line for line in lines if line.strip()][-n_lines:])


def settled_log(log: Path, policy: str) -> Path | None:
    """Return where `log` lies once `settle_log` has been at it, or None where there is none then."""
    packed = _packed(log)
    if policy == "delete_on_success":
        return None
    if policy == "gzip_on_success" and log.is_file():
        return packed
    return next((path for path in (log, packed) if path.is_file()), None)


def settle_log(log: Path, policy: str) -> None:
    """Keep the `log` of a successful sort, delete it, or pack it, as `policy` (``tee_log_policy``) says."""
    packed = _packed(log)
    if policy == "delete_on_success":
        log.unlink(missing_ok=True)
        packed.unlink(missing_ok=True)
    elif policy == "gzip_on_success" and log.is_file():
        publish_with(packed, lambda partial: _pack(log, partial))
        log.unlink()


def _packed(log: Path) -> Path:
    return log.with_name(f"{log.name}.gz")


def _pack(log: Path, packed: Path) -> None:
    """Compress piece by piece: a log may be larger than the memory."""
    with (
        log.open("rb") as file,
        packed.open("wb") as target,
        gzip.GzipFile("", "wb", fileobj=target, mtime=0) as compressed,
    ):
        shutil.copyfileobj(file, compressed, 1 << 20)
