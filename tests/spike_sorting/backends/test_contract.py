"""Every sorter keeps the contract: ours, and one that an entry point adds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support import (
    FAKE_SORTER,
    KILOSORT2_STUB,
    REPOSITORY,
    RT_SORT_STANDIN,
    FakeGpus,
    make_interpreter,
    make_model,
    put_matlab_on_path,
    simulate_maxwell,
    tomllib,
)

from spikelab.spike_sorting.config import SortingPipelineConfig
from spikelab.spike_sorting.schedule import devices_for
from spikelab.spike_sorting.supervision.slots import GpuSlots
from spikelab.testing import BackendContract


class TestFake(BackendContract):
    """The fake sorter, found by its entry point."""

    sorter: ClassVar[str] = "fake"
    result_files = ("samples.npy", "channels.npy")
    changes: ClassVar[dict[str, Any]] = {"kilosort_params": {"marker": 1}}
    harmless: ClassVar[dict[str, Any]] = {"kilosort_params": {"batch_size": 2}}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls) -> Iterator[None]:
        """Its folder is on the path of this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(FAKE_SORTER)
            yield


_PAGE = (REPOSITORY / "docs" / "developing.md").read_text(encoding="utf-8").split("## A sorter of your own")[1]
_BACKEND, _PROJECT, _TESTS = re.findall(r"```(?:python|toml)\n(.+?)```", _PAGE.split("\n## ")[0], re.DOTALL)
_FOUND: dict[str, Any] = {}
exec(_TESTS, _FOUND)


class TestTroughs(_FOUND["TestTroughs"]):
    """The sorter of a third party that docs/developing.md prints, with its tests, as it is once installed."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """It is installed."""
        site_packages = tmp_path_factory.mktemp("site-packages")
        (site_packages / "troughs.py").write_text(_BACKEND)
        information = site_packages / "troughs-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: troughs\nVersion: 1.0\n")
        groups = tomllib.loads(_PROJECT)["project"]["entry-points"]
        lines = [line for name, points in groups.items() for line in (f"[{name}]", *map(" = ".join, points.items()))]
        (information / "entry_points.txt").write_text("\n".join(lines))
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(site_packages)
            yield

    def test_it_takes_no_gpu_from_others(self) -> None:
        """A sorter that computes on the CPU gets no GPU where there are some; another one may have any."""
        config = self.config()
        slots = GpuSlots(FakeGpus(2))
        assert devices_for(slots, "sort", config) == ()
        assert len(devices_for(slots, "sort", SortingPipelineConfig.preset("kilosort4"))) == 2


class TestKilosort4(BackendContract):
    """Kilosort4 on the CPU."""

    sorter: ClassVar[str] = "kilosort4"
    options: ClassVar[dict[str, Any]] = {"kilosort_params": {"nblocks": 0, "torch_device": "cpu"}}
    result_files = (
        *("spike_times.npy", "spike_clusters.npy"),
        *("cluster_KSLabel.tsv", "cluster_ContamPct.tsv", "cluster_Amplitude.tsv"),
    )
    changes: ClassVar[dict[str, Any]] = {
        "kilosort_params": {"Th_learned": 9.5, "advise": False},
        "random_seed": 2,
        "freq_min": 200.0,
    }
    harmless: ClassVar[dict[str, Any]] = {"kilosort_params": {"clear_cache": True, "arrays_on_disk": True}}
    wrong: ClassVar[dict[str, Any]] = {"kilosort_params": {"Th_learned": -1, "nt": 60, "torch_device": 3}}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls) -> None:
        """It is not there in an installation without extras."""
        pytest.importorskip("kilosort")


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the page's script sorts, where it is run; the fake sorter is there."""
    simulate_maxwell(tmp_path / "session1.raw.h5", n_channels=8, duration_s=4, n_units=4, seed=3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FAKE_SORTER)
    return tmp_path / "session1.raw.h5"


def test_one_script_sorts_with_all_of_them(
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    require_program: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The script of docs/comparing.md sorts with each sorter and compares them; called again, it sorts nothing."""
    pytest.importorskip("kilosort")
    require_program("octave-cli")
    put_matlab_on_path(recording.parent / "matlab", monkeypatch)
    python = make_interpreter(recording.parent / "rt_sort", RT_SORT_STANDIN, Path(np.__file__).parents[1])
    model = {"rt_sort_model_path": make_model(recording.parent / "model"), "rt_sort_device": "cpu"}
    page = (REPOSITORY / "docs" / "comparing.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    fast = "runner='inline', preflight=False, curate_first=False, curate_second=False, create_figures=False, n_jobs=1"
    script = script.replace('"kilosort4": {}', '"kilosort4": {"kilosort_params": {"nblocks": 0}}, "fake": {}')
    script = script.replace("/opt/Kilosort2", str(KILOSORT2_STUB)).replace("**settings", f"**settings, {fast}")
    script = script.replace('"/opt/rt_sort/bin/python"', f"{python!r}, **{model!r}")
    found: dict[str, Any] = {}
    exec(script, found)
    printed = capsys.readouterr().out
    assert all(f"{sorter}: success\n" in printed for sorter in found["sorters"])
    agreement = found["agreement"]
    assert agreement.names == ["kilosort4", "fake", "kilosort2", "rt_sort"]
    assert agreement.n_found_by(4) == agreement.n_units["kilosort4"] > 1

    places = [Path(folder) for folder in found["finished"]]
    for place in places:
        assert json.loads((place / "recording_report.json").read_text())["status"] == "success"
        assert (place / "sorting_report.html").is_file()
    before = {path: path.stat().st_mtime_ns for path in recording.parent.rglob("*.done.json")}
    assert len(before) > 3 * len(places)
    exec(script, found)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert found["agreement"].to_dict() == agreement.to_dict()
