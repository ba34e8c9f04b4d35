"""The promises in one sentence each, and the table of how they were tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

PROMISES = {
    "P1": "When the program that sorts is killed, nothing of it runs on.",
    "P2": "Every stop ends, also of a sorter that does not listen; one that cannot be killed is named.",
    "P3": "One sorter's death never ends the batch.",
    "P4": "Only what the run started is ever signalled.",
    "P5": "Ctrl-C and SIGTERM stop in time, with a report.",
    "P6": "A reader sees the old result or the new one, never a part; after power loss too.",
    "P7": "A write that did not reach the disk is an error; the old result is left, or, unflushed, the new one.",
    "P8": "A finished stage is not run again; an unfinished one always is.",
    "P9": "After any crash the same call finishes, with the result of an undisturbed run.",
    "P10": "What a crash left is removed at the next start.",
    "P11": "Loading a result never runs code from it.",
    "P12": "The recording is never written, and a changed one is noticed.",
    "P13": "Two runs never write one folder; the second is told who, where, since when.",
    "P14": "A folder is free exactly when the last process of its run is gone.",
    "P15": "Where a folder cannot be locked, the run says so.",
    "P16": "A hang is noticed; quiet work is left alone.",
    "P17": "A jump of the wall clock neither trips nor disarms anything.",
    "P18": "A blind sensor warns once and kills nothing.",
    "P19": "Out of memory is retried with less, a limited number of times; a stop for the whole machine is final.",
    "P20": "A recording that keeps killing its sorter is blamed, not the machine.",
    "P21": "One outcome per recording, in order, with a code, advice, the exit's name and the last log lines.",
    "P22": "The journal explains every stop, and replaying it gives the reported status.",
    "P23": "There is a report for failures too.",
}


def write_table(tallies: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: one row per promise and fault, repeated trials summed."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for tally in tallies:
        row = rows.setdefault((tally["promise"], tally["fault"]), [0, 0, ""])
        row[0] += tally["tried"]
        row[1] += tally["held"]
        row[2] = tally["remark"] or row[2]
    yield "| | promise | fault | tried | held | |"
    yield "|---|---|---|---:|---:|---|"
    told: set[str] = set()
    for (promise, fault), (tried, held, remark) in sorted(rows.items(), key=lambda item: int(item[0][0][1:])):
        sentence = "" if promise in told else PROMISES[promise]
        told.add(promise)
        yield f"| {promise} | {sentence} | {fault} | {tried} | {held} | {remark} |"
