"""``spikelab compare``: which units several sorters have found in one recording."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from spikelab._publish import published
from spikelab.cli.output import ExitCode, UsageProblem, counted, make_console, say, say_table, say_whole, short_path
from spikelab.cli.results import find_results

if TYPE_CHECKING:
    from spikelab.spikedata.agreement import Agreement, PairAgreement


def tell_agreement(
    paths: Sequence[Path], *, delta_ms: float, min_agreement: float, out: Path | None, as_json: bool
) -> int:
    """Print how the results in `paths` agree, write the table of their units to `out`; return the exit code."""
    from spikelab.spike_sorting.comparing import compare_results

    if out is not None and not out.absolute().parent.is_dir():
        msg = f"{out} cannot be written: {out.absolute().parent} is no folder"
        raise UsageProblem(msg, "Make it, or name another one.")
    try:
        agreement = compare_results(_results(paths), delta_ms=delta_ms, min_agreement=min_agreement)
    except (FileNotFoundError, ValueError) as error:
        raise UsageProblem(str(error)) from error
    console = make_console()
    if out is not None:
        with published(out) as partial:
            agreement.table().to_csv(partial, index=False)
    if as_json:
        say_whole(console, json.dumps(agreement.to_dict(), indent=2))
        return ExitCode.DONE
    _say_sortings(agreement, console)
    for pair in agreement.pairs:
        _say_pair(pair, console)
    if len(agreement.names) > 2:
        _say_counts(agreement, console)
    if out is not None:
        say(console, f"\nEach unit, with its id in each sorting: {short_path(out)}")
    return ExitCode.DONE


def _results(paths: Sequence[Path]) -> list[str]:
    """Return files as they are, and for each folder the results in and below it, as short as they can be named."""
    found: list[Path] = []
    for path in paths:
        found += [path] if path.is_file() else find_results([path])
    return [short_path(path) for path in found]


def _say_sortings(agreement: Agreement, console: Console) -> None:
    table = _table("sorting", "units", "spikes")
    for name in agreement.names:
        table.add_row(name, str(agreement.n_units[name]), f"{agreement.n_spikes[name]:,}")
    say_table(console, table)
    say(
        console,
        f"Spikes within {agreement.delta_ms:g} ms are one spike; units match whose agreement, the spikes in common of "
        f"all that either has, is {agreement.min_agreement:g} or more.",
        style="dim",
    )


def _say_pair(pair: PairAgreement, console: Console) -> None:
    one, other = pair.names
    say(console, f"\n{one} and {other}: {counted(len(pair.matches), 'unit')} matched", style="bold")
    if len(pair.matches):
        table = _table(one, other, "agreement", f"spikes of {one}", f"of {other}", "in common")
        for row in pair.matches.itertuples():
            counts = (f"{n:,}" for n in (row.n_spikes, row.n_spikes_other, row.n_matched))
            table.add_row(str(row.unit_id), str(row.match), f"{row.agreement:.2f}", *counts)
        say_table(console, table)
    for name, ids in zip(pair.names, pair.unmatched, strict=True):
        if ids:
            say(console, f"only in {name}: {', '.join(map(str, ids))}")


def _say_counts(agreement: Agreement, console: Console) -> None:
    say(console, "\nAll together", style="bold")
    table = _table("found by", "units")
    for k in range(len(agreement.names), 0, -1):
        who = f"all {k}" if k == len(agreement.names) else f"{k} of them"
        table.add_row(who, str(agreement.n_found_by(k)))
    say_table(console, table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table
