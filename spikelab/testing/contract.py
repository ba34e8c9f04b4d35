"""What every sorter promises to the rest of spikelab, as tests that those of a backend inherit."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest

from spikelab.spike_sorting._exceptions import BiologicalSortFailure, SorterCrashedError, SorterNotInstalledError
from spikelab.spike_sorting.backends import get_backend
from spikelab.spike_sorting.backends.base import Shortage, Sorting, check_sorting
from spikelab.spike_sorting.config import SortingPipelineConfig, available_sorters
from spikelab.spike_sorting.supervision.progress import read_progress
from spikelab.testing._damage import CUTS, NEWLINE_ONLY, cut, one_row_less
from spikelab.testing._settings import differences, each, with_options
from spikelab.testing._sorts import Sorted, backend_environment, killed_sort, sort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spikelab.simulation import GroundTruth

_HARD_PLACE = "a \"quoted\" lab, o'hara's $HOME; 50 %"
"""Folders of people have such names."""
_STAGE_SAYS = {"sorter", "version", "n_units", "n_spikes", "direct"}
"""What the stage notes by itself."""
_MOST_RUNGS = 500


@dataclass(frozen=True, eq=False)
class _Given:
    """A recording on disk, the samples of its true spikes, and the files that it consists of."""

    recording: Any
    samples: NDArray[np.int64]
    files: Mapping[Path, tuple[int, int]]


class BackendContract:
    """The promises of a sorter's backend; tests of one inherit them all.

    A subclass, whose name pytest collects, says which sorter it is about. Sorts are real, on a recording of seconds;
    most tests share one.

    Attributes
    ----------
    sorter : str
        Its name.
    options : mapping, default {}
        Settings, by flat name, with which it sorts here: quick ones, and what says where it is on this machine.
    result_files : sequence of str, default ()
        Files that `read` needs, by their names in the sorter's folder: each is damaged in turn. Damage of any other
        one must not change what is read.
    changes : mapping, default {}
        Settings, by flat name, that change what it finds: ``{"kilosort_params": {"threshold": 7}}``. Each is looked at
        by itself, as are those below.
    harmless : mapping, default {}
        Settings that change memory or time, and no spike.
    wrong : mapping, default {}
        Settings of which each is impossible.
    missing : mapping, default {}
        Settings of which each names a place where the sorter is not.
    params : str, default "kilosort_params"
        The setting that holds the sorter's own parameters.

    Examples
    --------
    >>> class TestMine(BackendContract):
    ...     sorter = "mine"
    ...     result_files = ("samples.npy", "units.npy")
    ...     changes = {"kilosort_params": {"threshold": 7.0}}
    ...     wrong = {"kilosort_params": {"threshold": -1.0}}
    """

    sorter: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    result_files: ClassVar[Sequence[str]] = ()
    changes: ClassVar[Mapping[str, Any]] = {}
    harmless: ClassVar[Mapping[str, Any]] = {}
    wrong: ClassVar[Mapping[str, Any]] = {}
    missing: ClassVar[Mapping[str, Any]] = {}
    params: ClassVar[str] = "kilosort_params"

    # ---------------------------------------------------------------------------- what a subclass may replace

    @classmethod
    def config(cls) -> SortingPipelineConfig:
        """Return the settings with which it sorts here."""
        return with_options(SortingPipelineConfig.preset(cls.sorter).override(n_jobs=1), cls.options)

    @classmethod
    def simulate(cls, n_units: int) -> GroundTruth:
        """Return a recording that it sorts within seconds, with so many units of a few spikes a second, or none."""
        from spikelab.simulation import simulate_recording

        return simulate_recording(
            "linear", n_channels=8, duration_s=4, n_units=n_units, rate_Hz=(10, 15), peak_uV=(110, 110), seed=3
        )

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls) -> Iterator[None] | None:
        """Have on this machine what the sorter needs, for as long as its tests run; nothing by default."""
        return None

    # ---------------------------------------------------------------------------------------- what tests share

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder whose name shells and interpreters stumble over."""
        folder = tmp_path_factory.mktemp(cls.__name__) / _HARD_PLACE
        folder.mkdir()
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def given(cls, folder: Path) -> _Given:
        """Return a recording on disk, and what is known of it."""
        truth = cls.simulate(4)
        trains = [truth.sorting.get_unit_spike_train(unit) for unit in truth.sorting.unit_ids]
        recording = truth.recording.save(folder=folder / "recording", verbose=False)
        return _Given(recording, np.sort(np.concatenate(trains)), _state(folder / "recording"))

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls, folder: Path, given: _Given) -> Iterator[Sorted]:
        """Sort the recording once, from a folder of no importance, with a place for temporary files."""
        for name in ("here", "temporary"):
            (folder / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder / "here")
            patch.setattr(tempfile, "tempdir", str(folder / "temporary"))
            patch.setenv("TMPDIR", str(folder / "temporary"))
            before = dict(os.environ)
            done = sort(folder / "run", given.recording, cls.config())
            assert dict(os.environ) == before, "the environment of the process is no place for settings"
            yield done

    # --------------------------------------------------------------------------------------- what it says of itself

    def test_it_is_found_by_its_name(self) -> None:
        """The name leads to the backend, which calls itself by it; each look makes another one."""
        assert self.sorter in available_sorters()
        one, other = get_backend(self.sorter), get_backend(self.sorter)
        assert one.name == self.sorter
        assert vars(one) == vars(other), "a backend has no state: what it knows is in folders and settings"

    def test_it_says_which_version_is_installed(self) -> None:
        """Both ways to ask give the same version."""
        config, backend = self.config(), get_backend(self.sorter)
        version = backend.check_installed(config)
        assert isinstance(version, str)
        assert version
        assert backend.installed(config) == version

    def test_it_says_what_is_missing(self) -> None:
        """Where the sorter is not, there is no version, and an error that says what to install."""
        backend = get_backend(self.sorter)
        for name, options in each(self.missing):
            config = with_options(self.config(), options)
            assert backend.installed(config) is None, name
            with pytest.raises(SorterNotInstalledError) as caught:
                backend.check_installed(config)
            assert caught.value.missing, name

    def test_unknown_parameters_are_refused(self) -> None:
        """A parameter that it does not have is a ValueError that names it, and not one that nobody reads."""
        backend = get_backend(self.sorter)
        backend.check_params(self.config())
        with pytest.raises(ValueError, match="no_such_parameter"):
            backend.check_params(with_options(self.config(), {self.params: {"no_such_parameter": 1}}))

    def test_impossible_values_are_refused(self) -> None:
        """Each impossible value is a ValueError that names its parameter."""
        for name, options in each(self.wrong):
            with pytest.raises(ValueError, match=name):
                get_backend(self.sorter).check_params(with_options(self.config(), options))

    def test_its_settings_are_plain(self) -> None:
        """Settings survive a JSON file, and are the same whenever they are asked for."""
        settings = get_backend(self.sorter).settings(self.config())
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings
        assert get_backend(self.sorter).settings(self.config()) == settings

    def test_its_settings_tell_other_results_apart(self) -> None:
        """What changes spikes changes the settings, and what does not leaves them: results are kept by them."""
        backend, config = get_backend(self.sorter), self.config()
        settings = backend.settings(config)
        for name, options in each(self.changes):
            changed = with_options(config, options)
            backend.check_params(changed)
            assert backend.settings(changed) != settings, name
        for name, options in each({"n_jobs": 2, **self.harmless}):
            assert backend.settings(with_options(config, options)) == settings, name

    def test_it_says_what_it_computes_on(self) -> None:
        """It computes on the CPU, or on a GPU that it waits for, and says so for settings of all kinds."""
        for _, options in each({"n_jobs": 1, **self.changes, **self.harmless, **self.missing}):
            device = get_backend(self.sorter).device(with_options(self.config(), options))
            assert re.fullmatch(r"auto|cpu|gpu|cuda(:\d+)?", device), device

    def test_its_environment_is_text(self) -> None:
        """What its worker needs in the environment are texts, whatever the settings."""
        for config in (self.config(), *(shrunk for shrunk, _ in self._rungs("host"))):
            environment = backend_environment(config)
            assert all(isinstance(text, str) for item in environment.items() for text in item)

    # ------------------------------------------------------------------------------------------------------- a sort

    def test_its_files_are_read_back(self, done: Sorted) -> None:
        """What it leaves is read as spikes of units, in order, within the recording."""
        sorting = done.read()
        check_sorting(sorting, done.n_samples, self.sorter)
        assert sorting.samples.dtype == sorting.units.dtype == np.int64
        assert sorting.samples.size > 0
        assert np.array_equal(np.unique(sorting.units), np.arange(sorting.unit_ids.size)), "units without spikes"
        assert np.unique(sorting.unit_ids).size == sorting.unit_ids.size

    def test_its_spikes_are_where_they_were_put(self, done: Sorted, given: _Given) -> None:
        """Times are samples of the recording: most spikes lie within half a millisecond of a true one."""
        found, true = done.read().samples, given.samples
        after = np.searchsorted(true, found).clip(1, true.size - 1)
        distance = np.minimum(np.abs(true[after] - found), np.abs(true[after - 1] - found))
        assert np.median(distance) / done.job.recording.sampling_frequency <= 0.5e-3

    def test_what_it_notes_is_plain(self, done: Sorted) -> None:
        """What a sort returns goes into a JSON file, beside what the pipeline says itself."""
        noted = dict(done.noted or {})
        assert json.loads(json.dumps(noted, allow_nan=False)) == noted
        assert not _STAGE_SAYS & noted.keys()

    def test_it_says_how_far_it_is(self, done: Sorted) -> None:
        """Progress is written: steps by name, and shares of them from 0 to 1."""
        assert done.seen
        assert read_progress(done.job.run.progress) is not None
        assert all(progress.step for progress in done.seen)
        assert all(progress.fraction is None or 0 <= progress.fraction <= 1 for progress in done.seen)

    def test_it_leaves_nothing_elsewhere(self, done: Sorted, given: _Given, folder: Path) -> None:
        """Files are written into the run's intermediate folder, not beside the recording or where one happens to be."""
        assert {path.name for path in folder.iterdir()} <= {"recording", "here", "temporary", "run"}
        assert list((folder / "here").iterdir()) == []
        assert list((folder / "temporary").iterdir()) == []
        assert [path.name for path in (folder / "run").iterdir()] == [done.job.run.inter.name]
        assert _state(folder / "recording") == given.files

    def test_reading_changes_nothing(self, done: Sorted) -> None:
        """Results may lie in a folder in which nobody may write."""
        before = _state(done.job.folder)
        done.read()
        assert _state(done.job.folder) == before

    def test_cut_files_are_refused(self, done: Sorted) -> None:
        """A file that is missing, empty or cut is an error that names it, never other spikes."""
        assert self.result_files, "name the files that are read"
        whole = done.read()
        for name, how in product(self.result_files, CUTS.keys() - {NEWLINE_ONLY}):
            with cut(done.job.folder / name, how), pytest.raises(SorterCrashedError, match=re.escape(name)):
                done.read()
        for file, how in product(_files(done.job.folder), CUTS):
            with cut(file, how):
                assert _same_or_refused(done, whole), f"{file.name}, {how}: other spikes are read"

    def test_files_that_disagree_are_refused(self, done: Sorted) -> None:
        """Arrays that do not fit together are an error, never other spikes."""
        whole = done.read()
        for file in done.job.folder.rglob("*.npy"):
            with one_row_less(file):
                assert _same_or_refused(done, whole), f"{file.name} without its last row: other spikes are read"

    def test_the_same_again_gives_the_same(self, done: Sorted, given: _Given, tmp_path: Path) -> None:
        """The same settings find the same spikes, wherever they do it."""
        again = sort(tmp_path, given.recording, self.config())
        assert _same(again.read(), done.read())

    def test_what_was_killed_half_way_ends_the_same(
        self, done: Sorted, folder: Path, given: _Given, tmp_path: Path
    ) -> None:
        """A sort whose process was killed, and that is called again, finds what an undisturbed one finds."""
        exited = killed_sort(tmp_path, folder / "recording", self.config(), *_half_way(done))
        assert exited.name == "SIGKILL", (tmp_path / "killed.log").read_text(encoding="utf-8")[-2000:]
        assert _same(sort(tmp_path, given.recording, self.config()).read(), done.read())

    def test_a_silent_recording_is_told_as_such(self, tmp_path: Path) -> None:
        """A recording without a spike ends in the class of failures that are the recording's, with its report."""
        from spikelab.spike_sorting import SortRunReport, sort_recording

        silent = self.simulate(0).recording.save(folder=tmp_path / "silent", verbose=False)
        config = self.config().override(runner="inline", preflight=False)
        report = SortRunReport()
        with pytest.raises(BiologicalSortFailure):
            sort_recording([silent], config=config, results_folders=[tmp_path / "out"], out_report=report)
        assert (tmp_path / "out" / "sorting_report.md").is_file()

    # -------------------------------------------------------------------------------------------------- less memory

    @pytest.mark.parametrize("of", ["gpu", "host"])
    def test_it_shrinks_until_it_cannot(self, done: Sorted, of: Literal["gpu", "host"]) -> None:
        """Out of memory in any step, it offers less until there is no less, and says exactly what it changes."""
        backend, steps = get_backend(self.sorter), dict.fromkeys(("", *(progress.step for progress in done.seen)))
        for step, factor in product(steps, (0.5, 0.9)):
            config, seen = self.config(), [self.config()]
            for shrunk_config, shrunk in self._rungs(of, step, factor):
                assert differences(config, shrunk_config) == dict(shrunk.changed), step
                assert shrunk_config not in seen, f"{step}: it goes in circles"
                backend.check_params(shrunk_config)
                is_same = backend.settings(shrunk_config) == backend.settings(config)
                assert is_same != shrunk.changes_result, f"{step}: {dict(shrunk.changed)}"
                config = shrunk_config
                seen.append(config)

    def _rungs(
        self, of: Literal["gpu", "host"], step: str = "", factor: float = 0.5
    ) -> Iterator[tuple[SortingPipelineConfig, Any]]:
        """Yield what it offers when memory runs out again and again, until it offers nothing."""
        config = self.config()
        shortage = Shortage(of, step, factor, (2000.0, 1000.0), asked=config.sorter.sorter_params)
        for _ in range(_MOST_RUNGS):
            shrunk = get_backend(self.sorter).smaller(config, shortage)
            if shrunk is None:
                return
            config = shrunk.config
            yield config, shrunk
        pytest.fail(f"{step or 'any step'}: it never ends")


def _half_way(done: Sorted) -> tuple[str, int]:
    """Return the step in the middle, and which of its reports is the place for a kill: files have been begun."""
    steps = list(dict.fromkeys(progress.step for progress in done.seen))
    if len(steps) > 1:
        return steps[len(steps) // 2], 1
    return steps[0], min(2, len(done.seen))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def _same_or_refused(done: Sorted, whole: Sorting) -> bool:
    try:
        return _same(done.read(), whole)
    except SorterCrashedError:
        return True


def _same(one: Sorting, other: Sorting) -> bool:
    arrays = ("samples", "units", "unit_ids")
    are_same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    return are_same and dict(one.unit_properties) == dict(other.unit_properties)
