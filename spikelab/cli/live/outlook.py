"""The look at all recordings, again and again, in a thread of its own: a dead disk holds up nobody who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from spikelab.cli.live.batch import in_order, summary, with_time_left
from spikelab.cli.live.recording import Reader
from spikelab.cli.live.view import Kind, View, id_of
from spikelab.cli.outcomes import page_of
from spikelab.cli.results import Found, found_below
from spikelab.spike_sorting.roster import Roster
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision.deadline import Deadline, NoAnswerError

T = TypeVar("T")

INTERVAL_S = 1.0
_IDLE_S = 15.0
"""Nobody has asked for so long: nobody looks, and the disks are left alone."""
_PATIENCE_S = 3.0
_SEARCH_SHARE = 0.05
"""Largest share of the time that goes into the search for new folders."""
_SEARCH_S = 3.0
_DAMAGED = (ValueError, TypeError, LookupError, AttributeError)


class Question(Generic[T]):
    """Something that a disk is asked again and again, and that a late answer still answers.

    Parameters
    ----------
    disk : Deadline
        Of the disk.
    function : callable
        Asks it.
    """

    def __init__(self, disk: Deadline, function: Callable[[], T]) -> None:
        self._disk = disk
        self._function = function
        self._late: Future[T] | None = None

    def ask(self) -> T:
        """Return the answer, also one that comes late to an earlier call.

        Raises
        ------
        OSError
            There is none yet, or it is that the disk cannot be read.
        """
        late = self._late
        if late is not None and late.done():
            self._late = None
            return late.result()
        try:
            return self._disk.call(self._function)
        except NoAnswerError as error:
            self._late = error.late or late
            raise


@dataclass(frozen=True)
class Snapshot:
    """All recordings at one time.

    Parameters
    ----------
    read_s : float
        When they were read, on the monotonic clock.
    views : tuple of View
        The recordings, what needs eyes first.
    n_parallel : int
        How many are in flight at once.
    n_gpus : int
        On how many GPUs they are sorted; 0: that sets no limit.
    """

    read_s: float
    views: tuple[View, ...]
    n_parallel: int
    n_gpus: int

    def to_dict(self, report_link: Callable[[str], str]) -> dict[str, Any]:
        """Return plain JSON values, with the link to the report of each recording that has one, by its id."""
        batch = summary(self.views, self.n_parallel, self.n_gpus)
        return {
            "age_s": round(time.monotonic() - self.read_s, 1),
            "batch": asdict(batch),
            "recordings": [
                {**asdict(view), "report": report_link(view.id) if view.has_report else None} for view in self.views
            ],
        }


class Outlook:
    """Reads all recordings in and below some folders once a second, for as long as somebody asks.

    Parameters
    ----------
    folders : sequence of Path
        Results folders, or folders above them; absolute.
    glance_s : float, default 2
        How long a disk may take to answer (s).
    """

    def __init__(self, folders: Sequence[Path], glance_s: float = 2.0) -> None:
        self._folders = tuple(folders)
        self._glance_s = glance_s
        self._disks: dict[Path, Deadline] = {}
        self._searches = {folder: Question(self._disk(folder), partial(found_below, folder)) for folder in folders}
        self._found: dict[Path, Found] = {}
        self._search_at_s = 0.0
        self._batches: Mapping[Path, Roster] = {}
        self._questions: dict[Path, Question[View]] = {}
        self._last: dict[Path, View] = {}
        self._snapshot: Snapshot | None = None
        self._changed = threading.Condition()
        self._asked_s = float("-inf")
        self._closed = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="spikelab-watch", daemon=True)
        self._thread.start()

    @property
    def folders(self) -> tuple[Path, ...]:
        """What is looked at."""
        return self._folders

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._wanted.set()

    def latest(self) -> Snapshot | None:
        """Return the last look; None where there is none yet although a while was waited for it."""
        self._asked_s = time.monotonic()
        self._wanted.set()
        with self._changed:
            self._changed.wait_for(self._is_fresh, _PATIENCE_S)
            return self._snapshot

    def _is_fresh(self) -> bool:
        return self._snapshot is not None and time.monotonic() - self._snapshot.read_s < 2 * INTERVAL_S

    def report_of(self, known_id: str) -> Path | None:
        """Return the report of the recording with this id; None where there is none.

        Raises
        ------
        OSError
            The disk does not answer.
        """
        views = self._snapshot.views if self._snapshot else ()
        results = next((Path(view.folder) for view in views if view.id == known_id), None)
        if results is None:
            return None
        return self._disk(results.parent).call(partial(page_of, RunFolder(results, results)))

    def bytes_of(self, page: Path) -> bytes:
        """Return what a report contains, unless it leads elsewhere.

        Raises
        ------
        OSError
            It cannot be read, or the disk does not answer.
        """

        def read() -> bytes:
            if page.is_symlink():
                msg = f"{page} is a link"
                raise OSError(msg)
            return page.read_bytes()

        return Deadline(f"the disk of {page}", 10 * self._glance_s).call(read)

    def _disk(self, folder: Path) -> Deadline:
        return self._disks.setdefault(folder, Deadline(f"the disk of {folder}", self._glance_s))

    # ---------------------------------------------------------------------------------------------- the look

    def _look_on(self) -> None:
        while not self._closed.is_set():
            if time.monotonic() - self._asked_s > _IDLE_S:
                self._wanted.clear()
                self._wanted.wait()
                continue
            self.look()
            self._closed.wait(INTERVAL_S)

    def look(self) -> Snapshot:
        """Read everything once, and return it."""
        self._search()
        self._batches = self._rosters()
        for results in self._results():
            self._last[results] = self._view(results)
        views = in_order(with_time_left([self._last[results] for results in self._results()]))
        at_work = [roster for roster in self._batches.values() if not roster.is_dead]
        n_parallel = max((roster.n_parallel for roster in at_work), default=1)
        n_gpus = max((roster.n_gpus for roster in at_work), default=0)
        snapshot = Snapshot(time.monotonic(), tuple(views), n_parallel, n_gpus)
        with self._changed:
            self._snapshot = snapshot
            self._changed.notify_all()
        return snapshot

    def _search(self) -> None:
        """Look for folders that are new, as often as that is cheap."""
        now = time.monotonic()
        if now < self._search_at_s:
            return
        for folder, question in self._searches.items():
            with suppress(OSError):  # what is known of it stays
                self._found[folder] = question.ask()
        spent = time.monotonic() - now
        self._search_at_s = now + max(_SEARCH_S, spent / _SEARCH_SHARE)

    def _rosters(self) -> Mapping[Path, Roster]:
        """Return the batch of each recording, the latest of several."""
        rosters = [roster for found in self._found.values() for roster in found.rosters]
        rosters.sort(key=lambda roster: roster.began_at)
        return {results: roster for roster in rosters for results in roster.results if self._is_asked_for(results)}

    def _is_asked_for(self, results: Path) -> bool:
        return any(results.is_relative_to(folder) for folder in self._folders)

    def _results(self) -> list[Path]:
        found = [results for found in self._found.values() for results in found.results]
        # In the order of the batch, then what it does not know.
        return list(dict.fromkeys([*self._batches, *found]))

    def _view(self, results: Path) -> View:
        if results not in self._questions:
            reader = Reader(results)
            self._questions[results] = Question(
                self._disk(results.parent), lambda: reader.read(self._batches.get(results))
            )
        try:
            return self._questions[results].ask()
        except OSError as error:
            return self._unread(results, "silent", str(error))
        except _DAMAGED as error:
            return self._unread(results, "unknown", f"cannot be told: {type(error).__name__}: {error}")

    def _unread(self, results: Path, kind: Kind, problem: str) -> View:
        """Return what was known of a recording, with why nothing newer is."""
        known = self._last.get(results) or View(
            id=id_of(results), name=results.name, folder=str(results), kind=kind, status=""
        )
        return replace(known, kind=kind, status="no answer" if kind == "silent" else kind, notes=(problem,))
