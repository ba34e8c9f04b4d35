"""``spikelab streams`` and ``spikelab report``: look at a recording, and at what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from spikelab.cli.outcomes import failed_text, found_text, remark_lines
from spikelab.cli.output import ExitCode, UsageProblem, make_console, say, say_whole, seconds_text, short_path
from spikelab.spike_sorting.config import RecordingConfig
from spikelab.spike_sorting.inputs import find_input
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.shanks import shanks_of
from spikelab.spike_sorting.sources import find_streams, open_source


@dataclass(frozen=True)
class StreamFacts:
    """What a person wants to know of a stream before sorting it.

    Parameters
    ----------
    name : str
        Its id; empty where the format has no streams.
    n_channels : int
        Channels.
    duration_s : float
        Length (s).
    fs_Hz : float
        Sampling rate (Hz).
    shanks : tuple of str
        Its shanks, where there are several: each can be sorted as a stream of its own.
    """

    name: str
    n_channels: int
    duration_s: float
    fs_Hz: float
    shanks: tuple[str, ...] = ()


def read_streams(file: Path, options: RecordingConfig) -> list[StreamFacts]:
    """Return the streams of `file`, from its headers alone, with the probe that `options` or a file beside it names.

    Raises
    ------
    RecordingUnreadableError
        The file is damaged, or of a kind nobody can read.
    """
    return [
        _facts(name, _opened(file, replace(options, stream_id=name or None))) for name in find_streams(file) or [""]
    ]


def _opened(file: Path, options: RecordingConfig) -> Any:
    found = find_input(file, options)
    if found.problem is not None:
        raise found.problem
    return open_source(found.source)[0]


def _facts(name: str, recording: Any) -> StreamFacts:
    return StreamFacts(
        name=name,
        n_channels=int(recording.get_num_channels()),
        duration_s=float(recording.get_total_duration()),
        fs_Hz=float(recording.sampling_frequency),
        shanks=tuple(shanks_of(recording)),
    )


def tell_streams(file: Path, options: RecordingConfig, *, as_json: bool) -> int:
    """Print the streams of `file` and how to sort them; return the exit code."""
    streams = read_streams(file, options)
    if as_json:
        say_whole(make_console(), json.dumps([asdict(stream) for stream in streams], indent=2))
        return ExitCode.DONE
    table = Table(box=None, pad_edge=False)
    table.add_column("stream")
    for heading in ("channels", "duration", "sampling rate"):
        table.add_column(heading, justify="right")
    table.add_column("shanks" if any(stream.shanks for stream in streams) else "")
    for stream in streams:
        rate = f"{stream.fs_Hz:,.0f} Hz"
        length, shanks = seconds_text(stream.duration_s), ", ".join(stream.shanks)
        table.add_row(stream.name or "(one)", str(stream.n_channels), length, rate, shanks)
    console = make_console()
    console.print(table)
    command = "multistream" if len(streams) > 1 else "sort"
    say_whole(console, Text(f"To sort: spikelab {command} {file}", style="dim"))
    return ExitCode.DONE


def tell_report(folder: Path, *, as_json: bool) -> int:
    """Write the report of every results folder in or below `folder` again, and print what it says in short."""
    from spikelab.spike_sorting.report import generate_batch_report, generate_sorting_report

    console = make_console(stderr=as_json)
    records = sorted(folder.rglob("recording_report.json"))
    if not records:
        msg = f"no recording_report.json in or below {folder}"
        raise UsageProblem(msg, "Name a results folder of spikelab, such as sorted_kilosort4/<recording>.")
    pages: list[dict[str, Any]] = []
    for record in records:
        page, result = generate_sorting_report(record.parent), _read_record(record)
        pages.append({**result.to_dict(), "report": str(page.absolute())})
        for line in _report_lines(result, page):
            say(console, line)
    together = generate_batch_report(folder) if len(records) > 1 else None
    if together is not None:
        say(console, f"all: {short_path(together)}")
    if as_json:
        document = {"records": pages, "report_of_all": None if together is None else str(together.absolute())}
        say_whole(make_console(), json.dumps(document, indent=2))
    return ExitCode.DONE


def _read_record(path: Path) -> RecordingResult:
    return RecordingResult.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _report_lines(result: RecordingResult, page: Path) -> Sequence[Text]:
    if result.succeeded:
        what = Text(found_text(result), style="green")
        if result.n_spikes is not None:
            what.append(f", {result.n_spikes:,} spikes kept")
    else:
        what = Text(failed_text(result), style="red")
    lines = [Text.assemble(f"{result.rec_name}: ", what)]
    if result.advice:
        lines.append(Text(f"    what to do: {result.advice}"))
    return [*lines, *remark_lines(result), Text(f"    {short_path(page)}")]
