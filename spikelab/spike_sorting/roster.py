"""Which recordings a batch is going to sort, for those who look on: a small file beside their results folders.

A recording that waits for its turn has no folder yet. The file is there for as long as the batch runs; one that a
crash left behind is known by its process, and goes with the next batch.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.deadline import Deadline
from spikelab.spike_sorting.supervision.publish import publish_json

PREFIX = ".spikelab_batch_"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roster:
    """The recordings of a batch whose results lie in one folder.

    Parameters
    ----------
    path : Path
        The file.
    card : mapping
        The process that runs the batch: pid, identity, hostname, started_at.
    n_parallel : int
        Recordings in flight at once.
    n_gpus : int
        GPUs on which they are sorted, one on each at a time; 0 where that sets no limit, or is not known.
    results : tuple of Path
        Results folder of each recording, in order.
    """

    path: Path
    card: Mapping[str, Any]
    n_parallel: int
    n_gpus: int
    results: tuple[Path, ...]

    @property
    def is_dead(self) -> bool:
        """Whether the process of the batch is proven gone."""
        return host.is_dead(self.card)

    @property
    def began_at(self) -> str:
        """When the batch began (UTC)."""
        return str(self.card.get("started_at") or "")


@contextmanager
def announced(results: Sequence[Path], n_parallel: int, n_gpus: int = 0) -> Iterator[None]:
    """Keep rosters of a batch beside its `results` folders while the ``with`` block runs.

    Nothing depends on them: where one cannot be written in time, there is none.
    """
    name = f"{PREFIX}{uuid.uuid4().hex}.json"
    folders: dict[Path, list[str]] = {}
    for folder in results:
        folders.setdefault(folder.parent, []).append(folder.name)
    for folder, names in folders.items():
        _try(folder, partial(_write, folder / name, {"n_parallel": n_parallel, "n_gpus": n_gpus, "recordings": names}))
    try:
        yield
    finally:
        for folder in folders:
            _try(folder, partial(_unlink, folder / name))


def read_rosters(folder: Path) -> list[Roster]:
    """Return the rosters that lie in `folder`; what is none of ours is left out."""
    found = (_read(path) for path in sorted(folder.glob(f"{PREFIX}*.json")))
    return [roster for roster in found if roster is not None]


def _read(path: Path) -> Roster | None:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in card["recordings"]]
        n_parallel, n_gpus = max(1, int(card["n_parallel"])), max(0, int(card.get("n_gpus", 0)))
    except (OSError, ValueError, TypeError, LookupError):
        return None
    # A name leads nowhere else, whoever wrote it.
    beside = (name for name in names if name not in {"", ".."} and Path(name).name == name)
    return Roster(path, card, n_parallel, n_gpus, tuple(path.parent / name for name in beside))


def _write(path: Path, batch: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in read_rosters(path.parent):
        if left.is_dead:
            _unlink(left.path)
    publish_json(path, {"schema": 1, **host.process_card(), **batch})


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _try(folder: Path, function: partial[None]) -> None:
    try:
        Deadline(f"the disk of {folder}").call(function)
    except OSError as error:
        _log.info("who looks on does not see which recordings wait: %s", error)
