"""The log of a run: its end, and what becomes of it after a success."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from spikelab.spike_sorting.run_log import log_tail, settle_log, settled_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "sorting.log"


@pytest.mark.parametrize(
    "text,n_lines,tail",
    [
        (b"", 30, ""),
        (b"one\ntwo\n\n  \nthree\n", 2, "two\nthree"),
        (b"start\r\nend\r\n", 30, "start\nend"),
        (b"load\n  0%|   |\r 50%|## |\r100%|####|\nsort\n", 30, "load\n100%|####|\nsort"),
        (b"  0%|\r 50%|\r", 30, " 50%|"),
        (b"units: \xff\xfe5\n", 30, "units: \ufffd\ufffd5"),
        (b"caf\xc3\xa9 \xe2\x82", 30, "caf\u00e9 \ufffd"),
        (b"x" * 200_000 + b"\nlast\n", 1, "last"),
    ],
)
def test_the_tail_of_a_log_reads_as_in_a_terminal(log: Path, text: bytes, n_lines: int, tail: str) -> None:
    """Progress bars show their last state, empty lines and broken UTF-8 do no harm, and only the end is read."""
    log.write_bytes(text)
    assert log_tail(log, n_lines) == tail


def test_a_missing_log_has_no_tail(log: Path) -> None:
    """A run that failed before its first line has an empty tail."""
    assert log_tail(log) == ""


def test_a_large_log_is_packed_in_little_memory(log: Path) -> None:
    """A log of any size is packed piece by piece, whole, and only then removed."""
    content = bytes(range(256)) * 4000
    with log.open("wb") as file:
        for _ in range(40):
            file.write(content)
    tracemalloc.start()
    settle_log(log, "gzip_on_success")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000
    assert not log.exists()
    with gzip.open(log.with_name("sorting.log.gz")) as packed:
        assert all(packed.read(len(content)) == content for _ in range(40))
        assert packed.read() == b""


@pytest.mark.parametrize("before", [(), ("sorting.log",), ("sorting.log.gz",), ("sorting.log", "sorting.log.gz")])
@pytest.mark.parametrize("policy", ["keep", "gzip_on_success", "delete_on_success"])
def test_it_is_known_where_a_log_will_lie(log: Path, before: tuple[str, ...], policy: str) -> None:
    """What is told before it is settled, as in a report, is where it lies afterwards, packed by this call or before."""
    packed = log.with_name("sorting.log.gz")
    for name in before:
        log.with_name(name).write_bytes(b"words")
    told = settled_log(log, policy)
    settle_log(log, policy)
    assert told == next((path for path in (log, packed) if path.is_file()), None)
    if policy == "delete_on_success":
        assert told is None
