"""The folders of a run: markers, clean-up, the log's tail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikelab.spike_sorting._exceptions import ConcurrentSortError
from spikelab.spike_sorting.run_folder import EXPORT, RunFolder
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, hold
from spikelab.spike_sorting.supervision.publish import PARTIAL_SUFFIX


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    run.inter.mkdir()
    run.results.mkdir()
    return run


def _do(run: RunFolder, stage: str, key: str, files: dict[str, str]) -> None:
    """Do a stage that writes `files`."""
    run.forget([stage])
    partial = run.fresh_partial(stage)
    for name, text in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_text(text)
    run.finish(stage, key, partial, 1.5, {"n_units": 3})


FILES = {"recording.json": "{}", "sorter_output/spike_times.npy": "times"}


@pytest.mark.parametrize("stage", ["sort", EXPORT])
def test_a_finished_stage_says_so(run: RunFolder, stage: str) -> None:
    """A stage is done under its key, and no other, with its files in place and a marker that tells of them."""
    assert not run.is_done(stage, "key")
    _do(run, stage, "key", FILES)
    assert run.is_done(stage, "key")
    assert not run.is_done(stage, "another key")
    assert {name: (run.stage(stage) / name).read_text() for name in FILES} == FILES
    marker = run.read_marker(stage)
    assert marker is not None
    assert (marker["key"], marker["summary"], marker["wall_time_s"]) == ("key", {"n_units": 3}, 1.5)
    assert marker["files"] == {name: len(text) for name, text in FILES.items()}
    assert not list(run.inter.parent.rglob(f"*{PARTIAL_SUFFIX}*"))


@pytest.mark.parametrize("stage", ["sort", EXPORT])
@pytest.mark.parametrize("damage", ["gone", "longer", "shorter", "a folder"])
def test_a_stage_whose_files_changed_is_not_done(run: RunFolder, stage: str, damage: str) -> None:
    """A file that is missing, or of another size, makes its stage unfinished."""
    _do(run, stage, "key", FILES)
    file = run.stage(stage) / "sorter_output" / "spike_times.npy"
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage != "gone":
        file.write_text("times and more" if damage == "longer" else "tim")
    assert not run.is_done(stage, "key")


@pytest.mark.parametrize("marker", ["", "[]", "{", '{"key": "key"}', '{"key": "key", "files": 3}', "\xff"])
def test_a_damaged_marker_is_none(run: RunFolder, marker: str) -> None:
    """A marker that cannot be read means that the stage is not done."""
    _do(run, "sort", "key", FILES)
    run.marker("sort").write_bytes(marker.encode("latin-1"))
    assert not run.is_done("sort", "key")


@pytest.mark.parametrize("stage", ["sort", EXPORT])
def test_an_unfinished_stage_leaves_no_marker(run: RunFolder, stage: str) -> None:
    """Until `finish`, nothing says that a stage is done; what it wrote goes at the next start."""
    _do(run, stage, "old", FILES)
    run.forget([stage])
    partial = run.fresh_partial(stage)
    (partial / "recording.json").write_text("half")
    assert not run.is_done(stage, "old")
    assert not run.is_done(stage, "new")
    run.remove_leftovers()
    assert not partial.exists()


def test_a_partial_folder_is_fresh(run: RunFolder) -> None:
    """What an earlier attempt left is not mixed with the next one."""
    (run.fresh_partial("sort") / "old").touch()
    assert list(run.fresh_partial("sort").iterdir()) == []


def test_the_export_leaves_other_files_alone(run: RunFolder) -> None:
    """Export replaces its own files among those of the results folder."""
    (run.results / "notes.txt").write_text("mine")
    _do(run, EXPORT, "one", {"a.h5": "old", "b.json": "old"})
    _do(run, EXPORT, "two", {"a.h5": "new!"})
    assert (run.results / "a.h5").read_text() == "new!"
    assert (run.results / "notes.txt").read_text() == "mine"


def test_what_an_export_no_longer_writes_goes(run: RunFolder) -> None:
    """A file of an earlier export never stands beside the results of the next one, also after a crash between."""
    old = ("a.h5", "sorted.npz", "unit_figures/units/1.png", "unit_figures/all.png", "mine/b.h5")
    _do(run, EXPORT, "one", dict.fromkeys(old, "old"))
    (run.results / "mine" / "notes.txt").touch()
    run.forget([EXPORT])
    assert (run.results / "sorted.npz").exists()
    run.forget([EXPORT])
    foreign = [run.inter / "theirs", run.inter / "others"]
    for path in foreign:
        path.touch()
    noted = run.results / ".export.outdated.json"
    leading_out = [str(foreign[0]), f"../{run.inter.name}/others"]
    noted.write_text(json.dumps({"files": [*json.loads(noted.read_text())["files"], *leading_out]}))
    _do(run, EXPORT, "two", {"a.h5": "new"})
    assert all(path.exists() for path in foreign), "no name leads out of the folder"
    assert sorted(path.name for path in run.results.rglob("*")) == [".export.done.json", "a.h5", "mine", "notes.txt"]


def test_what_an_export_left_that_did_not_end_goes(run: RunFolder) -> None:
    """A file that was moved before a crash goes when the next export no longer writes it."""
    (run.results / "z.h5").mkdir()  # in the way of the last file
    with pytest.raises(OSError, match=r"z\.h5"):
        _do(run, EXPORT, "one", {"a.h5": "one", "sorted.npz": "one", "z.h5": "one"})
    assert (run.results / "sorted.npz").exists()
    (run.results / "z.h5").rmdir()
    run.remove_leftovers()
    _do(run, EXPORT, "two", {"z.h5": "two"})
    assert sorted(path.name for path in run.results.iterdir()) == [".export.done.json", "z.h5"]


def test_leftovers_are_removed_and_nothing_else(run: RunFolder) -> None:
    """Half-written files and folders go at the next start; in the results folder, only those that are ours."""
    _do(run, "sort", "key", FILES)
    _do(run, EXPORT, "key", {"a.h5": "x"})
    for path in (run.inter / f"load{PARTIAL_SUFFIX}", run.inter / f"sort.old{PARTIAL_SUFFIX}"):
        (path / "deep").mkdir(parents=True)
    (run.inter / f".job.123{PARTIAL_SUFFIX}.json").touch()
    (run.results / f".recording_report.123{PARTIAL_SUFFIX}.json").touch()
    (run.results / f".export{PARTIAL_SUFFIX}").mkdir()
    (run.results / f"download.raw.h5{PARTIAL_SUFFIX}").touch()
    run.remove_leftovers()
    assert sorted(path.name for path in run.inter.iterdir()) == ["sort", "sort.done.json"]
    assert sorted(path.name for path in run.results.iterdir()) == [
        ".export.done.json",
        "a.h5",
        f"download.raw.h5{PARTIAL_SUFFIX}",
    ]
    assert run.is_done("sort", "key")
    assert run.is_done(EXPORT, "key")


def test_the_lock_outlives_the_intermediate_files(run: RunFolder) -> None:
    """Removing the intermediate files keeps the lock, what tells of a container, and what links point to."""
    with hold([run.inter]):
        _do(run, "sort", "key", FILES)
        run.new_attempt()
        (run.inter / "link").symlink_to(run.results, target_is_directory=True)
        (run.results / "a.h5").touch()
        run.container_note.touch()
        run.remove_inter()
        assert {path.name for path in run.inter.iterdir()} == {LOCK_NAME, run.container_note.name}
        assert (run.results / "a.h5").exists()


def test_the_binary_goes_with_its_marker(run: RunFolder) -> None:
    """The flat copy and its marker are removed together, and twice is no error."""
    for path in (run.binary, run.binary.with_suffix(".done.json")):
        path.touch()
    run.remove_binary()
    run.remove_binary()
    assert list(run.inter.iterdir()) == []


def test_attempts_are_numbered(run: RunFolder) -> None:
    """Each attempt has a folder of its own; after 9 comes 10."""
    assert [run.new_attempt().name for _ in range(11)] == [str(number) for number in range(1, 12)]


def test_a_folder_knows_its_recording(run: RunFolder) -> None:
    """The results folder remembers for which recording it was used."""
    assert run.owner() is None
    run.claim({"files": ["/data/a.raw.h5"], "stream_id": None})
    assert run.owner() == {"files": ["/data/a.raw.h5"], "stream_id": None}
    assert RunFolder(run.inter, run.inter.parent / "absent").owner() is None


def test_the_journal_lies_in_the_results(run: RunFolder) -> None:
    """Events are written to events.jsonl, one JSON object a line."""
    run.journal.write("run_started", sorter="kilosort4")
    (line,) = (run.results / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["sorter"] == "kilosort4"


@pytest.mark.parametrize("stage", ["sort", EXPORT])
def test_a_run_that_lost_its_folder_publishes_nothing(run: RunFolder, stage: str) -> None:
    """What a run writes that another try has taken over from does not count, and what lies there stays."""
    _do(run, stage, "key", FILES)
    with hold([run.inter, run.results], "night.first"):
        partial = run.fresh_partial(stage)
        (partial / "recording.json").write_text("late")
        run.check_still_ours("night.first")
    with hold([run.inter, run.results], "night.second"), pytest.raises(ConcurrentSortError, match="taken over"):
        run.finish(stage, "late key", partial, 1.5, {}, "night.first")
    assert run.is_done(stage, "key")
    assert (run.stage(stage) / "recording.json").read_text() == FILES["recording.json"]
