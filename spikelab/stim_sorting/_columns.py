"""Tables of times: which column has them, and in which unit, by the names of the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

_PER_MS = {
    1e3: ("s", "sec", "secs", "second", "seconds"),
    1.0: ("ms", "msec", "msecs", "millisecond", "milliseconds"),
    1e-3: ("us", "usec", "usecs", "µs", "μs", "microsecond", "microseconds"),
    1e-6: ("ns", "nsec", "nanosecond", "nanoseconds"),
}
_MS_PER_UNIT = {name: factor for factor, names in _PER_MS.items() for name in names}
_COUNTS = frozenset(("sample", "samples", "frame", "frames", "tick", "ticks", "index", "idx", "hz", "khz"))
_LONG = frozenset(("m", "min", "mins", "minute", "minutes", "h", "hr", "hrs", "hour", "hours"))
_DATES = frozenset(("d", "day", "days", "date", "datetime"))
_OTHER_UNITS = _COUNTS | _LONG | _DATES
"""What a time may be given in that says no number of ms, or hardly any: it is refused rather than guessed."""
_WORDS_OF_TIMES = frozenset(("onset", "onsets", "start", "starts", "t"))
_WORDS_OF_LENGTHS = frozenset(("duration", "durations", "width", "widths", "length", "interval", "period", "latency"))


def times_in_table(text: str) -> list[float]:
    r"""Return the times in a table of text (ms).

    The column is the first whose name speaks of times, else the only one whose name has a unit of time, else the only
    one; without names, the first. The unit is that of its name, else ms.

    Raises
    ------
    ValueError
        There are no rows; a value is no number; the name has another unit, or no column can be told from others.

    Examples
    --------
    >>> times_in_table("pulse,onset_s\n1,0.5\n2,1.5\n")
    [500.0, 1500.0]
    """
    # In the first line alone: where cells are set apart otherwise, a comma is one of decimals, and no number here.
    delimiter = next((sign for sign in ("\t", ";", ",") if sign in text.strip().partition("\n")[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        msg = "the file is empty"
        raise ValueError(msg)
    names = None if _is_number(rows[0][0]) else rows.pop(0)
    if not rows:
        msg = "the table has a line of names, and no times"
        raise ValueError(msg)
    column = 0 if names is None else _column_of_times(names)
    factor = 1.0 if names is None else _ms_per_unit(names[column])
    try:
        return [float(row[column]) * factor for row in rows]
    except (ValueError, IndexError) as error:
        msg = f"its column {column + 1} holds something that is no number: {error}"
        raise ValueError(msg) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case: "stimTime (ms)" has stim, time and ms."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _unit(name: str) -> str | None:
    """Return the unit in a name: one that is known, else another one, else None."""
    words = _words(name)
    known = [word for word in words if word in _MS_PER_UNIT]
    other = [word for word in words if word in _OTHER_UNITS]
    return (known or other)[-1] if known or other else None


def _ms_per_unit(name: str) -> float:
    unit = _unit(name)
    if unit is not None and unit not in _MS_PER_UNIT:
        msg = (
            f"its column {name!r} is in {unit!r}, which are no times in s, ms, us or ns: give them in one of those, "
            "under a name such as time_ms"
        )
        raise ValueError(msg)
    return 1.0 if unit is None else _MS_PER_UNIT[unit]


def _column_of_times(names: Sequence[str]) -> int:
    """Return the number of the column that has the times."""
    all_columns = [number for number, name in enumerate(names) if name] or [0]
    columns = [number for number in all_columns if not _WORDS_OF_LENGTHS & set(_words(names[number]))] or all_columns
    named = [number for number in columns if "time" in names[number].lower()]
    named = named or [number for number in columns if _WORDS_OF_TIMES & set(_words(names[number]))]
    if named:
        # A count of samples beside the time itself is passed over.
        return next((number for number in named if _unit(names[number]) not in _OTHER_UNITS), named[0])
    with_unit = [number for number in columns if _unit(names[number]) in _MS_PER_UNIT]
    possible = with_unit or [number for number in columns if _unit(names[number]) is None] or columns[:1]
    if len(possible) > 1:
        listed = ", ".join(repr(names[number]) for number in possible)
        msg = f"any of its columns {listed} may be the times of the events: call theirs time_ms, or leave others out"
        raise ValueError(msg)
    return possible[0]
