"""``spikelab clean``: remove what no result needs, and say what went."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from spikelab.cli.output import ExitCode, bytes_text, counted, make_console, say, say_whole, short_path
from spikelab.cli.results import find_results
from spikelab.spike_sorting._exceptions import ConcurrentSortError, DockerEnvironmentError
from spikelab.spike_sorting.outcome import SUCCESS
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.state import clean, run_of, run_state


def tell_clean(folders: Sequence[Path], *, dry_run: bool, as_json: bool = False) -> int:
    """Clean every results folder in or below `folders`, and print what went; return the exit code.

    Raises
    ------
    ConcurrentSortError
        One of them is being sorted; the others have been cleaned.
    """
    console, found = make_console(stderr=as_json), find_results(folders)
    cleaned = [_clean_or_tell(results, console, dry_run=dry_run) for results in found]
    if as_json:
        freed_bytes = {
            str(results): n_bytes for results, (n_bytes, error) in zip(found, cleaned, strict=True) if not error
        }
        left = {str(results): str(error) for results, (_, error) in zip(found, cleaned, strict=True) if error}
        document = {"dry_run": dry_run, "freed_bytes": freed_bytes, "left": left}
        say_whole(make_console(), json.dumps(document, indent=2))
    if len(cleaned) > 1:
        would, freed = "would free" if dry_run else "freed", sum(n_bytes for n_bytes, _ in cleaned)
        say(console, f"{counted(len(cleaned), 'results folder')}: {would} {bytes_text(freed)}", style="bold")
    errors = [error for _, error in cleaned if error is not None]
    for error in errors:
        if isinstance(error, ConcurrentSortError):
            raise error
    return ExitCode.SOME_FAILED if errors else ExitCode.DONE


def _clean_or_tell(results: Path, console: Console, *, dry_run: bool) -> tuple[int, Exception | None]:
    """Return how many bytes cleaning one results folder frees, and why it was left as it is."""
    try:
        return _clean_one(results, console, dry_run=dry_run), None
    except ConcurrentSortError as error:
        _tell_left(results, "running, left as it is", console)
        return 0, error
    except DockerEnvironmentError as error:
        _tell_left(results, f"left as it is: {error}", console)
        return 0, error
    except OSError as error:
        _tell_left(results, f"cannot be cleaned: {error.strerror} ({error.filename})", console)
        return 0, error


def _tell_left(results: Path, why: str, console: Console) -> None:
    say(console, Text.assemble(f"{short_path(results)}: ", (why, "yellow")))


def _clean_one(results: Path, console: Console, *, dry_run: bool) -> int:
    """Clean one results folder, or only say what would go; return how many bytes that frees."""
    try:
        run = run_of(results)
    except FileNotFoundError:  # the report of a recording that could not be read: nothing else was made
        say(console, f"{short_path(results)}: nothing to remove")
        return 0
    is_sorted = run_state(results).status == SUCCESS
    sizes = {path: size_bytes(path) for path in _entries(run)}
    gone = would_go(run) if dry_run else _gone(run, sizes)
    told = {path: sizes[path] for path in gone if path in sizes}
    freed = sum(told.values())
    would = "would remove" if dry_run else "removed"
    say(console, f"{short_path(results)}: {f'{would} {bytes_text(freed)}' if told else 'nothing to remove'}")
    for path, size in sorted(told.items(), key=lambda item: -item[1]):
        say(console, f"    {bytes_text(size):>9}  {short_path(path)}")
    if told and not is_sorted:
        say(
            console, "    This sort is not finished: without these it repeats the stage that it was in.", style="yellow"
        )
    return freed


def _gone(run: RunFolder, before: Iterable[Path]) -> list[Path]:
    clean(run.results)
    return [path for path in before if not path.exists() and not path.is_symlink()]


def would_go(run: RunFolder) -> list[Path]:
    """Return what ``state.clean`` would remove.

    What goes is decided by names alone, so it is tried on empty files of the same names.

    Raises
    ------
    ConcurrentSortError
        The run is still going on.
    """
    holder = run_state(run.results).holder
    if holder is not None:
        by = f"process {holder.get('pid')} on {holder.get('hostname')} since {holder.get('started_at')}"
        msg = f"{run.results} is being sorted by another run ({by})"
        raise ConcurrentSortError(msg)
    with TemporaryDirectory(prefix="spikelab-") as folder:
        trial = RunFolder(Path(folder, "inter"), Path(folder, "results"))
        pairs = dict(_mirrored(run.inter, trial.inter)) | dict(_mirrored(run.results, trial.results))
        trial.remove_disposable()
        return [path for path, copy in pairs.items() if not copy.exists()]


def _mirrored(folder: Path, into: Path) -> Iterator[tuple[Path, Path]]:
    into.mkdir()
    for path in _listed(folder):
        copy = into / path.name
        copy.touch()
        yield path, copy


def _entries(run: RunFolder) -> list[Path]:
    return [*_listed(run.inter), *_listed(run.results)]


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def size_bytes(path: Path) -> int:
    """Return what `path` and all below it take on the disk; links are not followed, holes do not count."""
    inside = (Path(name, file) for name, _, files in os.walk(path) for file in files)
    return sum(map(_own_bytes, inside)) if path.is_dir() and not path.is_symlink() else _own_bytes(path)


def _own_bytes(path: Path) -> int:
    try:
        stat = path.lstat()
    except FileNotFoundError:  # a run is at work there; its lock is found when anything is to be removed
        return 0
    return stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
