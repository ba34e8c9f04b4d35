"""RT-Sort around its algorithm: an interpreter of its own, with a stand-in for the package that carries it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from support import RT_SORT_STANDIN, make_interpreter, make_model, simulate_maxwell

from spikelab.spike_sorting import (
    GPUOutOfMemoryError,
    HostOutOfMemoryError,
    ModelLoadingError,
    SorterCrashedError,
    SorterNotInstalledError,
    sort_recording,
)
from spikelab.spike_sorting.backends.base import Shortage
from spikelab.spike_sorting.backends.rt_sort import installation, provider
from spikelab.spike_sorting.backends.rt_sort.backend import RTSortBackend
from spikelab.spike_sorting.backends.rt_sort.environment import build_environment
from spikelab.spike_sorting.backends.rt_sort.model import Model
from spikelab.spike_sorting.backends.rt_sort.model_folder import bundled_model
from spikelab.spike_sorting.backends.rt_sort.parameters import PARAMETERS, check_parameters, thresholds
from spikelab.spike_sorting.config import RT_SORT_MEA, RT_SORT_NEUROPIXELS
from spikelab.testing import BackendContract


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the stand-in, and this one's numpy."""
    return make_interpreter(
        tmp_path_factory.mktemp("rt sort's own") / "env", RT_SORT_STANDIN, Path(np.__file__).parents[1]
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that the stand-in loads."""
    return make_model(tmp_path_factory.mktemp("model") / "a model")


@pytest.fixture
def options(interpreter: str, model: str) -> dict[str, Any]:
    """Settings that sort with the stand-in, in this process."""
    return {
        "sorter": "rt_sort",
        "rt_sort_python": interpreter,
        "rt_sort_model_path": model,
        "rt_sort_device": "cpu",
        "runner": "inline",
        "preflight": False,
        "curate_first": False,
        "curate_second": False,
        "n_jobs": 1,
    }


@pytest.fixture(scope="module")
def culture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Maxwell file."""
    file = tmp_path_factory.mktemp("lab") / "culture.raw.h5"
    simulate_maxwell(file, n_channels=8, n_units=4, duration_s=4, rate_Hz=(10, 15))
    return file


class TestContract(BackendContract):
    """RT-Sort keeps the contract of all sorters."""

    sorter: ClassVar[str] = "rt_sort"
    params: ClassVar[str] = "rt_sort_params"
    result_files = ("spike_samples.npy", "spike_labels.npy", "root_channels.npy", "templates.npy")
    changes: ClassVar[dict[str, Any]] = {
        "rt_sort_params": {"stringent_thresh": 0.3},
        "rt_sort_probe": "neuropixels",
        "rt_sort_detection_window_s": 2.0,
        "rt_sort_recording_window_ms": (0.0, 2000.0),
        "rt_sort_save_pickle": True,
        "freq_min": 200.0,
    }
    harmless: ClassVar[dict[str, Any]] = {
        "rt_sort_num_processes": 3,
        "rt_sort_verbose": False,
        "rt_sort_delete_inter": False,
    }
    wrong: ClassVar[dict[str, Any]] = {
        "rt_sort_params": {"stringent_thresh": 1.5, "loose_thresh": 0.5, "min_coc_n": 2.5},
        "rt_sort_device": "gpu",
        "kilosort_params": {"Th_learned": 8},
    }
    missing: ClassVar[dict[str, Any]] = {"rt_sort_python": "/nowhere/python"}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(cls, interpreter: str, model: str) -> Iterator[None]:
        """The stand-in is RT-Sort."""
        cls.options = {
            "rt_sort_python": interpreter,
            "rt_sort_model_path": model,
            "rt_sort_device": "cpu",
            "rt_sort_num_processes": 2,
        }
        yield
        cls.options = {}


# ------------------------------------------------------------------------------------------------ whole sorts


def sorted_with(culture: Path, tmp_path: Path, **options: Any) -> Any:
    """Return what a sort into a folder of its own finds."""
    inter = tmp_path / "inter"
    (sd,) = sort_recording([culture], results_folders=[tmp_path / "out"], intermediate_folders=[inter], **options)
    assert sd is not None
    return sd


def test_times_are_those_of_the_recording(culture: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """A window is sorted as if it were the whole, and its spikes lie where they are in the recording."""
    whole = sorted_with(culture, tmp_path / "a", **options)
    window = {"rt_sort_recording_window_ms": (1000, 3500), "rt_sort_detection_window_s": 2.0}
    kept = {"rt_sort_save_pickle": True, "rt_sort_delete_inter": False, "rt_sort_verbose": False}
    part = sorted_with(culture, tmp_path / "b", **{**options, **window, **kept})
    assert whole.length == part.length == 4000
    of_part = np.sort(np.concatenate(part.train))
    of_whole = np.sort(np.concatenate(whole.train))
    inside = of_whole[(of_whole >= 1005) & (of_whole < 3495)]
    assert of_part.min() >= 1000
    assert of_part.max() < 3500
    missed = [ms for ms in inside if np.abs(of_part - ms).min() > 0.1]
    assert len(missed) <= 0.05 * len(inside)
    channels = [unit["rt_root_channel"] for unit in part.neuron_attributes]
    assert channels == sorted(set(channels))
    output = tmp_path / "b" / "inter" / "sort" / "sorter_output"
    assert (output / "rt_sort.pickle").is_file()
    assert (output / "rt_sort_inter" / "traces.npy").is_file()
    assert "%|" not in (output / "rt_sort.log").read_text(encoding="utf-8")
    assert not (tmp_path / "a" / "inter" / "sort" / "sorter_output" / "rt_sort_inter").exists()


def test_an_interpreter_is_found_from_anywhere(
    culture: Path, tmp_path: Path, options: dict[str, Any], interpreter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that begins where the caller is, or a name on the PATH, is the same interpreter wherever it is started."""
    home = Path(interpreter).parent
    monkeypatch.chdir(home.parent)
    sd = sorted_with(culture, tmp_path, **{**options, "rt_sort_python": "bin/python"})
    assert sd.N > 0
    own = shutil.copy(interpreter, home / "python-of-rt-sort", follow_symlinks=False)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    assert installation.interpreter(RT_SORT_MEA.override(rt_sort_python="python-of-rt-sort")) == str(own)


@pytest.mark.parametrize(
    "how, error, said",
    [
        ("memory", HostOutOfMemoryError, "Unable to allocate"),
        ("gpu", GPUOutOfMemoryError, "CUDA out of memory"),
        ("unknown", SorterCrashedError, "nobody has seen this before"),
        ("segfault", SorterCrashedError, "SIGSEGV"),
        ("killed", SorterCrashedError, "SIGKILL: a process of RT-Sort's pool was killed"),
        ("no word", SorterCrashedError, "without a word"),
        ("broken", SorterNotInstalledError, "MaxwellRecordingExtractor"),
    ],
)
def test_failures_end_in_their_class(
    culture: Path,
    tmp_path: Path,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    error: type[Exception],
    said: str,
) -> None:
    """What ends RT-Sort is told in its own words and in the class of failures that it belongs to."""
    from spikeinterface.extractors import read_maxwell

    from spikelab.spike_sorting.backends.base import SortJob
    from spikelab.spike_sorting.config import SortingPipelineConfig
    from spikelab.spike_sorting.run_folder import RunFolder
    from spikelab.spike_sorting.supervision.progress import ProgressFile

    monkeypatch.setenv("FAKE_RT_SORT", how)
    run = RunFolder(tmp_path / "inter", tmp_path / "results")
    output = run.inter / "sort.partial" / "sorter_output"
    output.mkdir(parents=True)
    settings = {name: value for name, value in options.items() if name != "sorter"}
    config = SortingPipelineConfig.preset("rt_sort").override(**settings)
    job = SortJob(
        read_maxwell(culture, install_maxwell_plugin=False), output, run, config, ProgressFile(run.progress, "sort")
    )
    with pytest.raises(error, match=said):
        RTSortBackend().sort(job)
    log = output / "rt_sort.log"
    assert how != "segfault" or "reading address 0" in log.read_text(encoding="utf-8"), "its last words are lost"


def test_what_it_started_dies_with_the_worker(culture: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """A sort that is stopped leaves neither RT-Sort nor its children behind."""
    script = "import json, sys; from spikelab.spike_sorting import sort_recording; "
    script += "call = json.loads(sys.argv[1]); sort_recording(call.pop('files'), **call)"
    call = {**options, "runner": "process", "files": [str(culture)], "results_folders": [str(tmp_path / "out")]}
    environment = {**os.environ, "FAKE_RT_SORT": "hang"}
    sorting = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps({**call, "intermediate_folders": [str(tmp_path / "inter")]})],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        sleepers = until_there(tmp_path, sorting)
    finally:
        sorting.kill()
        sorting.wait()
    _, alive = psutil.wait_procs(sleepers, timeout=30)
    assert alive == []


def until_there(folder: Path, sorting: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait until RT-Sort hangs with a child, and return both."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert sorting.poll() is None
        below = psutil.Process(sorting.pid).children(recursive=True)
        found = [one for one in below if any(word in _command(one) for word in ("provider.py", "time.sleep(600)"))]
        if len(found) == 2:
            return found
        time.sleep(0.1)
    pytest.fail("RT-Sort was not started")


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# --------------------------------------------------------------------------------------- what is known before


def test_preflight_loads_the_model(culture: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Before anything runs, RT-Sort is imported and its model loaded: one of another architecture is known then."""
    other = make_model(tmp_path / "other", **{"conv.0.weight": 1.0})
    call = {**options, "preflight": True, "rt_sort_model_path": other, "results_folders": [tmp_path / "out"]}
    with pytest.raises(ModelLoadingError, match="Unexpected key"):
        sort_recording([culture], **call)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("absent", ["init_dict.json", "state_dict.pt"])
def test_preflight_names_the_file_that_a_model_lacks(
    culture: Path, tmp_path: Path, options: dict[str, Any], absent: str
) -> None:
    """A folder without one of the two files is no model, which is said before anything is started."""
    folder = Path(make_model(tmp_path / "model"))
    (folder / absent).unlink()
    call = {**options, "preflight": True, "rt_sort_model_path": str(folder), "results_folders": [tmp_path / "out"]}
    with pytest.raises(ModelLoadingError, match=absent) as caught:
        sort_recording([culture], **call)
    assert caught.value.model_path == str(folder)


def test_preflight_holds_the_window_against_the_recording(
    culture: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """A window that begins after the end is refused before anything runs."""
    from spikelab.spike_sorting import PreflightError

    call = {**options, "preflight": True, "rt_sort_recording_window_ms": (5000, 6000)}
    with pytest.raises(PreflightError, match="begins at 5000 ms, and the recording has 4000 ms"):
        sort_recording([culture], results_folders=[tmp_path / "out"], **call)
    with pytest.raises(PreflightError, match="holds no sample at 20000 Hz"):
        sort_recording(
            [culture], results_folders=[tmp_path / "out"], **{**call, "rt_sort_recording_window_ms": (1, 1.01)}
        )


def test_preflight_names_a_threshold_that_this_version_lacks(
    culture: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Versions differ in what they take: a threshold that was given and would be ignored is known before a sort."""
    call = {**options, "preflight": True, "rt_sort_params": {"elec_patience": 5}}
    with pytest.raises(SorterNotInstalledError, match="has no parameter elec_patience"):
        sort_recording([culture], results_folders=[tmp_path / "out"], **call)
    assert not (tmp_path / "out").exists()


def test_what_an_interpreter_lacks_is_named(tmp_path: Path) -> None:
    """No interpreter, one without RT-Sort, one without torch, and one with a SpikeInterface that is too new."""

    def said(python: str) -> SorterNotInstalledError:
        with pytest.raises(SorterNotInstalledError) as caught:
            RTSortBackend().check_installed(RT_SORT_MEA.override(rt_sort_python=python))
        assert "rt-sort-env" in caught.value.advice
        return caught.value

    assert said("/nowhere/python").missing == "rt_sort_python"
    assert said(shutil.which("false") or "/bin/false").missing == "rt_sort_python"
    assert said(make_interpreter(tmp_path / "empty")).missing == "rt_sort"
    partial = Path(shutil.copytree(RT_SORT_STANDIN, tmp_path / "partial"))
    shutil.rmtree(partial / "torch")
    python = make_interpreter(tmp_path / "no torch", partial)
    assert said(python).missing == "torch"
    shutil.copytree(RT_SORT_STANDIN / "torch", partial / "torch")
    (partial / "numpy").mkdir()
    (partial / "numpy" / "__init__.py").touch()
    (partial / "spikeinterface-0.104.9.dist-info").rename(partial / "spikeinterface-0.105.3.dist-info")
    metadata = partial / "spikeinterface-0.105.3.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: spikeinterface\nVersion: 0.105.3\n")
    assert said(make_interpreter(tmp_path / "too new", partial)).missing == "spikeinterface<0.105"


# -------------------------------------------------------------------------------------------------- the model


class _Hostile:
    """What runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_hostile_model_runs_nothing(tmp_path: Path) -> None:
    """Weights that would run a command when they are loaded are refused, and the command is not run."""
    torch = pytest.importorskip("torch")
    folder = Path(make_model(tmp_path / "model"))
    torch.save({"weights": _Hostile(tmp_path / "ran")}, folder / "state_dict.pt")
    with pytest.raises(provider.ModelProblem, match="as weights and nothing else"):
        provider.load_model(None, folder, tmp_path / "clean", "cpu")
    assert not (tmp_path / "ran").exists()


def test_a_tar_archive_is_refused_unread(tmp_path: Path) -> None:
    """Versions of torch that take such archives run what is in them: none is given one."""
    pytest.importorskip("torch")
    folder = Path(make_model(tmp_path / "model"))
    with tarfile.open(folder / "state_dict.pt", "w") as archive:
        archive.add(folder / "init_dict.json", "pickle")
    with pytest.raises(provider.ModelProblem, match="tar archive"):
        provider.load_model(None, folder, tmp_path / "clean", "cpu")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_damaged_weights_are_told_as_such(tmp_path: Path, content: bytes) -> None:
    """A file that is empty, cut, or of another kind is a problem of the model."""
    pytest.importorskip("torch")
    folder = Path(make_model(tmp_path / "model"))
    (folder / "state_dict.pt").write_bytes(content)
    with pytest.raises(provider.ModelProblem, match=r"state_dict\.pt"):
        provider.load_model(None, folder, tmp_path / "clean", "cpu")


@pytest.mark.parametrize("description", ["[1, 2]", '{"a": "__import__(\'os\')"}', '{"a": {"b": 1}}', "{"])
def test_a_description_holds_plain_values(tmp_path: Path, description: str) -> None:
    """What a package may do with a text from a stranger's file nobody knows: only numbers and names are handed on."""
    pytest.importorskip("torch")
    folder = Path(make_model(tmp_path / "model"))
    (folder / "init_dict.json").write_text(description)
    with pytest.raises(provider.ModelProblem, match=r"init_dict\.json"):
        provider.load_model(None, folder, tmp_path / "clean", "cpu")


# -------------------------------------------------------------------------------------------------- settings


def test_thresholds_are_those_of_the_probe() -> None:
    """The two presets differ in the kind of probe, and with it in thresholds; what is given goes first."""
    assert thresholds("mea", {})["stringent_thresh"] == 0.275
    assert thresholds("neuropixels", {})["stringent_thresh"] == 0.175
    assert thresholds("neuropixels", {"stringent_thresh": 0.2})["stringent_thresh"] == 0.2
    assert set(thresholds("neuropixels", {})) == set(PARAMETERS)
    for preset in (RT_SORT_MEA, RT_SORT_NEUROPIXELS):
        check_parameters(thresholds(preset.rt_sort.probe, {}), preset.rt_sort.probe)


def test_thresholds_are_those_of_spikeinterface() -> None:
    """Names are those with which SpikeInterface runs RT-Sort; so are the values for Neuropixels."""
    from spikeinterface.sorters.external.rt_sort import RTSortSorter

    theirs = RTSortSorter._default_params
    assert set(PARAMETERS) <= set(theirs)
    assert thresholds("neuropixels", {}) == {name: theirs[name] for name in PARAMETERS}


def test_it_shrinks_from_the_length_of_the_recording() -> None:
    """Fewer processes first; then the detection window, which begins at the recording's length where it was open."""
    backend, shortage = RTSortBackend(), Shortage("host", "detecting sequences", 0.5, duration_s=100.0)
    one = backend.smaller(RT_SORT_MEA.override(rt_sort_num_processes=2), shortage)
    assert one is not None
    assert (dict(one.changed), one.changes_result) == ({"rt_sort_num_processes": 1}, False)
    two = backend.smaller(one.config, shortage)
    assert two is not None
    assert (dict(two.changed), two.changes_result) == ({"rt_sort_detection_window_s": 50.0}, True)
    many = backend.smaller(RT_SORT_MEA.override(rt_sort_num_processes=64), shortage)
    assert many is not None
    assert dict(many.changed) == {"rt_sort_num_processes": 8}, "the window must come before the last attempt"
    of_gpu = Shortage("gpu", "detecting sequences", 0.5, duration_s=100.0)
    short = backend.smaller(RT_SORT_MEA.override(rt_sort_num_processes=64), of_gpu)
    assert short is not None, "further processes do not use the GPU"
    assert dict(short.changed) == {"rt_sort_detection_window_s": 50.0}


@pytest.mark.parametrize("duration_s,then_s", [(3600.0, 30.0), (45.0, 22.0), (0.0, 30.0), (21.0, None)])
def test_it_shrinks_from_the_window_that_is_sorted(duration_s: float, then_s: float | None) -> None:
    """Of a window of a long recording each retry is shorter than the one before: no attempt is the failed one again."""
    config = RT_SORT_MEA.override(rt_sort_num_processes=1, rt_sort_recording_window_ms=(1_000, 61_000))
    shrunk = RTSortBackend().smaller(config, Shortage("host", "detecting sequences", 0.5, duration_s=duration_s))
    assert (None if shrunk is None else shrunk.changed["rt_sort_detection_window_s"]) == then_s


@pytest.mark.parametrize("fs_Hz,codes", [(20_000.0, []), (20_500.0, []), (30_000.0, ["rt-sort-model-rate"])])
def test_a_model_of_another_sampling_rate_is_told(fs_Hz: float, codes: list[str], tmp_path: Path) -> None:
    """A model that was trained at another rate is named with both rates; one that does not say is not suspected."""
    told = Model(bundled_model("mea"), "named").remarks("mea", fs_Hz)
    assert [remark.code for remark in told] == codes
    assert all("20000 Hz, and the recording has 30000 Hz" in remark.message for remark in told)
    (tmp_path / "training.json").write_text("[]")
    assert Model(tmp_path, "named").remarks("mea", fs_Hz) == []


# ----------------------------------------------------------------------------------------------- the environment


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """An environment is built in a new folder, or in one that was begun, and nowhere else."""
    (tmp_path / "thesis.tex").write_text("Chapter 1")
    with pytest.raises(FileExistsError, match="name a new folder"):
        build_environment(tmp_path, print)
    with pytest.raises(FileExistsError, match="name a new folder"):
        build_environment(tmp_path / "thesis.tex", print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_build_that_failed_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip cannot install is told in its words; the same folder is built on, and what it then lacks is told.

    What lies on PYTHONPATH, where a sort does not look, does not count as installed.
    """
    metadata = tmp_path / "modules" / "no_such_package_anywhere-1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: no-such-package-anywhere\nVersion: 1\n")
    monkeypatch.setenv("PYTHONPATH", str(metadata.parents[1]), prepend=os.pathsep)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    requirements, said = tmp_path / "requirements.txt", list[str]()
    requirements.write_text("no-such-package-anywhere==1\n")
    monkeypatch.chdir(tmp_path)
    folder = Path("o'hara's env")
    with pytest.raises(SorterNotInstalledError, match="No matching distribution found for no-such-package") as caught:
        build_environment(folder, said.append, requirements)
    assert str(tmp_path / folder / "spikelab-rt-sort.log") in str(caught.value)
    assert said[0] == "making the environment"
    requirements.write_text("")
    with pytest.raises(SorterNotInstalledError, match="no package with RT-Sort"):
        build_environment(folder, said.append, requirements)
    again = list[str]()
    with pytest.raises(SorterNotInstalledError, match="no package with RT-Sort"):
        build_environment(folder, again.append, requirements)
    assert again == ["importing RT-Sort"]
