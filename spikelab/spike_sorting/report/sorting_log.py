"""What a sorting log says, in whatever state a crash left it."""

from __future__ import annotations

import re
from typing import Any

STAGES = ("load", "sort", "waveforms", "assemble", "curate", "review", "export")
"""The stages of a sort, in order."""

_N_LAST, _N_LISTED, _LONGEST = 30, 20, 500
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_STAGE = re.compile(rf"\bstages?\W+({'|'.join(STAGES)})\b", re.IGNORECASE)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|\b\w*Warning:")
_ERROR = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b|^(?:[\w.]+\.)?\w*(?:Error|Exception)\b(?::|$)")


def parse_sorting_log(text: str) -> dict[str, Any]:
    r"""Return what deserves attention in the text of a sorting log.

    Parameters
    ----------
    text : str
        The log, or its end. Progress bars that overwrote their line count with what stood there last.

    Returns
    -------
    dict
        ``stages``: stages that are named, in order of appearance; ``warnings`` and ``errors``: the last 20 different
        lines of each; ``last_lines``: the last 30 lines.

    Examples
    --------
    >>> parse_sorting_log("10%\r100%\nRuntimeWarning: few spikes\n")["last_lines"]
    ['100%', 'RuntimeWarning: few spikes']
    """
    lines = _lines(text)
    return {
        "stages": list(dict.fromkeys(found.group(1).lower() for found in map(_STAGE.search, lines) if found)),
        "warnings": _last_different(line for line in lines if _WARNING.search(line)),
        "errors": _last_different(line for line in lines if _ERROR.search(line)),
        "last_lines": lines[-_N_LAST:],
    }


def _lines(text: str) -> list[str]:
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    cleaned = (_ESCAPES.sub("", line).rstrip() for line in lines)
    return [line if len(line) <= _LONGEST else line[:_LONGEST] + " ..." for line in cleaned if line]


def _last_different(lines: Any) -> list[str]:
    return list(dict.fromkeys(lines))[-_N_LISTED:]
