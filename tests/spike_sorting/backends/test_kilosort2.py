"""Kilosort2 around its numerics: GNU Octave in MATLAB's place, and small functions of ours in Kilosort2's."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from support import KILOSORT2_STUB, REPOSITORY, put_matlab_on_path, simulate_maxwell

from spikelab.spike_sorting import (
    HostOutOfMemoryError,
    NoGoodChannelsError,
    SorterCrashedError,
    SorterNotInstalledError,
    SortRunReport,
    sort_recording,
)
from spikelab.spike_sorting._signatures import KILOSORT2_FUNCTIONS
from spikelab.spike_sorting.backends.kilosort2.backend import Kilosort2Backend
from spikelab.spike_sorting.backends.kilosort2.installation import Installation, find_installation
from spikelab.spike_sorting.backends.kilosort2.launch import command, run
from spikelab.spike_sorting.backends.kilosort2.parameters import PARAMETERS, check_parameters, smaller_batch
from spikelab.spike_sorting.config import KILOSORT2, SorterConfig
from spikelab.spike_sorting.supervision.progress import ProgressFile
from spikelab.testing import BackendContract

FAST: dict[str, Any] = {"sorter": "kilosort2", "preflight": False, "curate_first": False, "curate_second": False}


@pytest.fixture
def matlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_program: Callable[[str], Path]) -> Path:
    """A program `matlab` on the PATH, which is Octave."""
    require_program("octave-cli")
    return put_matlab_on_path(tmp_path / "matlab bin", monkeypatch)


@pytest.fixture
def kilosort2(tmp_path: Path) -> Path:
    """A folder with functions under Kilosort2's names, to be changed by the test."""
    return Path(shutil.copytree(KILOSORT2_STUB, tmp_path / "Kilosort 2, o'hara's"))


def fails_with(folder: Path, text: str) -> None:
    """Have the matching of templates end with an error that says `text`."""
    (folder / "learnAndSolve8b.m").write_text(f"function rez = learnAndSolve8b(rez)\nerror('{text}');\nend\n")


class TestContract(BackendContract):
    """Kilosort2 keeps the contract of all sorters."""

    sorter: ClassVar[str] = "kilosort2"
    options: ClassVar[dict[str, Any]] = {"kilosort_path": str(KILOSORT2_STUB), "kilosort_params": {"NT": 16_384}}
    result_files = (
        *("spike_times.npy", "spike_clusters.npy", "templates.npy", "channel_map.npy"),
        *("cluster_KSLabel.tsv", "cluster_ContamPct.tsv", "cluster_Amplitude.tsv"),
    )
    changes: ClassVar[dict[str, Any]] = {
        "kilosort_params": {"detect_threshold": 7, "NT": 32_768, "keep_good_only": True},
        "freq_min": 200.0,
    }
    wrong: ClassVar[dict[str, Any]] = {"kilosort_params": {"NT": 65_000, "wave_length": 60, "AUCsplit": 1.5}}
    missing: ClassVar[dict[str, Any]] = {"kilosort_path": "/nowhere"}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def machine(
        cls, tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], Path]
    ) -> Iterator[None]:
        """Octave is MATLAB."""
        require_program("octave-cli")
        with pytest.MonkeyPatch.context() as patch:
            put_matlab_on_path(tmp_path_factory.mktemp("matlab") / "bin", patch)
            yield

    def test_matlab_gets_its_parameters(self, done: Any) -> None:
        """Numbers arrive as MATLAB's own, double, with the values of the settings, defaults and those given."""
        log = (done.job.folder / "kilosort2.log").read_text(encoding="utf-8")
        seen = dict(re.findall(r"^ops\.(\w+): double (.+)$", log, re.MULTILINE))
        wanted = {"NT": "16384", "fshigh": "300", "Th": "[10 4]", "spkTh": "-6", "lam": "10", "NchanTOT": "8"}
        assert {name: seen.get(name) for name in wanted} == wanted
        assert set(re.findall(r"^ops\.\w+: (\w+)", log, re.MULTILINE)) == {"double"}

    def test_good_units_alone_come_back(self, done: Any, tmp_path: Path) -> None:
        """With keep_good_only, units that Kilosort2 does not call good are left out, with their spikes."""
        config = done.job.config.override(kilosort_params={"keep_good_only": True})
        Kilosort2Backend().sort(replace(done.job, folder=tmp_path, config=config))
        good, whole = Kilosort2Backend().read(tmp_path, done.n_samples), done.read()
        assert (tmp_path / "n_channels").read_text() == "8\n"
        assert set(whole.unit_properties["ks_label"]) == {"good", "mua"}
        assert set(good.unit_properties["ks_label"]) == {"good"}
        assert 0 < good.samples.size < whole.samples.size


# ------------------------------------------------------------------------------------------------ whole sorts


def test_a_recording_is_sorted_in_folders_of_any_name(tmp_path: Path, matlab: Path, kilosort2: Path) -> None:
    """Kilosort2 gets the recording, its options and its channels, and its spikes come back as units."""
    folder = tmp_path / "a \"quoted\" lab, o'hara's $HOME"
    folder.mkdir()
    file = folder / "culture.raw.h5"
    truth = simulate_maxwell(file)
    report = SortRunReport()
    (sd,) = sort_recording([file], kilosort_path=str(kilosort2), out_report=report, **FAST)
    assert sd is not None
    assert 6 <= sd.N <= truth.recording.get_num_channels()
    found = np.sort(np.concatenate(sd.train))
    true = np.sort(np.concatenate([truth.sorting.get_unit_spike_train(unit) for unit in truth.sorting.unit_ids]))
    near = np.abs(found[np.searchsorted(found, true / 20).clip(max=found.size - 1)] - true / 20)
    assert np.median(near) < 1, "spikes are not where they were put (ms)"
    (record,) = report.records
    results = Path(record.results_folder)
    assert record.status == "success"
    assert "Finished preprocessing" in (results / "sorting.log").read_text(encoding="utf-8")
    output = folder / "inter_kilosort2" / file.name / "sort" / "sorter_output"
    assert {path.name for path in output.glob("*.m")} == set()
    assert (output / "kilosort2.log").is_file()


def test_the_same_call_again_runs_no_matlab(tmp_path: Path, matlab: Path, kilosort2: Path) -> None:
    """What Kilosort2 has sorted stays sorted, and a changed parameter sorts anew."""
    file = tmp_path / "a.raw.h5"
    simulate_maxwell(file, duration_s=4)
    options = {**FAST, "kilosort_path": str(kilosort2), "runner": "inline"}
    (first,) = sort_recording([file], **options)
    matlab.write_text("#!/bin/sh\nexit 9\n")
    (second,) = sort_recording([file], **options)
    assert first is not None
    assert second is not None
    assert [times.tolist() for times in first.train] == [times.tolist() for times in second.train]
    with pytest.raises(SorterCrashedError) as caught:
        sort_recording([file], kilosort_params={"detect_threshold": 7}, **options)
    assert caught.value.exit_name == "exit code 9"


def test_a_silent_channel_does_not_shift_the_others(tmp_path: Path, matlab: Path, kilosort2: Path) -> None:
    """Kilosort2 leaves out channels; what it calls channel 0 may be channel 1 of the recording."""
    from spikeinterface.core import NumpyRecording

    simulated = simulate_maxwell(tmp_path / "x.raw.h5", duration_s=4).recording
    traces = simulated.get_traces().copy()
    traces[:, 0] = 512
    recording = NumpyRecording(traces, simulated.sampling_frequency, channel_ids=simulated.channel_ids)
    recording.set_probegroup(simulated.get_probegroup())
    recording.set_channel_gains(simulated.get_channel_gains())
    recording.set_channel_offsets(simulated.get_channel_offsets())
    options = {**FAST, "kilosort_path": str(kilosort2), "runner": "inline", "bad_channels": None}
    (sd,) = sort_recording(recording, results_folders=tmp_path / "out", **options)
    assert sd is not None
    assert sd.N > 3
    assert all(unit["ks_channel"] == unit["unit_id"] + 1 for unit in sd.neuron_attributes)


@pytest.mark.parametrize(
    "said, error, told",
    [
        ("found 0 good channels", NoGoodChannelsError, "found no good channel"),
        ("License checkout failed. License Manager Error -1", SorterNotInstalledError, "License Manager Error -1"),
        ("Out of memory. Type HELP MEMORY for your options.", HostOutOfMemoryError, "Type HELP MEMORY"),
        ("Undefined function mexWtW2", SorterNotInstalledError, "Undefined function mexWtW2"),
        ("an index is out of bounds", SorterCrashedError, "an index is out of bounds"),
    ],
)
def test_what_matlab_says_decides_what_the_failure_is(
    tmp_path: Path, matlab: Path, kilosort2: Path, said: str, error: type[Exception], told: str
) -> None:
    """A failure has the class of its cause, and its log with it."""
    fails_with(kilosort2, said)
    file = tmp_path / "a.raw.h5"
    simulate_maxwell(file, duration_s=2)
    with pytest.raises(error) as caught:
        sort_recording([file], kilosort_path=str(kilosort2), runner="inline", oom_retry_max=0, **FAST)
    if isinstance(caught.value, SorterCrashedError):
        assert said in caught.value.log_tail
    report = tmp_path / "sorted_kilosort2" / file.name / "sorting_report.md"
    assert told in str(caught.value)
    assert told in report.read_text(encoding="utf-8")


def test_memory_that_runs_out_is_answered_with_shorter_batches(tmp_path: Path, matlab: Path, kilosort2: Path) -> None:
    """After a canary that says little, a sort that runs out of memory is done with a shorter NT; lost spikes are told.

    The stub runs out with long batches, and loses spikes where batches meet, as Kilosort2 does.
    """
    matching = kilosort2 / "learnAndSolve8b.m"
    found = "    rez.st3 = sortrows(spikes);\n"
    runs_out = (
        "if rez.ops.NT > 4000\n error('Out of memory on device. To view more detail, use ''gpuDevice()''.');\nend\n"
    )
    at_border = "place = mod(spikes(:, 1) - 1 + 50, rez.ops.NT - rez.ops.ntbuff);\nspikes = spikes(place > 100, :);\n"
    matching.write_text(matching.read_text().replace(found, runs_out + at_border + found))
    file = tmp_path / "a.raw.h5"
    simulate_maxwell(file, n_units=12)
    canary = {"canary_first_n_s": 1.0, "canary_min_recording_s": 5.0, "oom_retry_factor": 0.05}
    report = SortRunReport()
    sort_recording([file], kilosort_path=str(kilosort2), out_report=report, **canary, **FAST)
    (record,) = report.records
    assert record.status == "success"
    assert {told.code for told in record.warnings} == {"canary-failed", "retried-smaller"}
    assert "tried again with NT = 3264: the result may differ" in " ".join(told.message for told in record.warnings)
    assert [(one.phase, one.status) for one in record.attempts] == [
        *(("prepare", "success"), ("sort", "oom_gpu"), ("sort", "success"), ("finish", "success")),
    ]
    assert "batch-borders" in {told.code for told in record.suspicions}


def test_matlab_dies_with_its_caller(tmp_path: Path, matlab: Path, kilosort2: Path) -> None:
    """Whoever kills the process that sorts leaves no MATLAB behind, and nothing that MATLAB has started."""
    pid_file, child_file = tmp_path / "pid", tmp_path / "child"
    (kilosort2 / "learnAndSolve8b.m").write_text(
        f"function rez = learnAndSolve8b(rez)\nsystem('sleep 600 & echo $! > {child_file}');"
        f" file = fopen('{pid_file}', 'w'); fprintf(file, '%d\\n', getpid());"
        " fclose(file);\nwhile true\n pause(1);\nend\nend\n"
    )
    file = tmp_path / "a.raw.h5"
    simulate_maxwell(file, duration_s=2)
    options = {**FAST, "kilosort_path": str(kilosort2)}
    script = f"from spikelab import sort_recording; sort_recording([{str(file)!r}], **{options!r})"
    with subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as caller:
        octave = psutil.Process(wait_for(lambda: pid_file.exists() and int(pid_file.read_text() or 0)))
        child = psutil.Process(int(child_file.read_text()))
        caller.kill()
        _, alive = psutil.wait_procs([octave, child], timeout=30)
    assert alive == []


def wait_for(ready: Callable[[], Any], timeout_s: float = 90) -> Any:
    """Return what `ready` says as soon as it is true."""
    until = time.monotonic() + timeout_s
    while not (said := ready()):
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)
    return said


@pytest.mark.parametrize(
    "script, name", [("exit 139", "SIGSEGV"), ("kill -9 $$", "SIGKILL"), ("exit 9", "exit code 9")]
)
def test_the_exit_of_matlab_has_a_name(tmp_path: Path, script: str, name: str) -> None:
    """A signal is told by its name, also where a shell between has made a number of it: retries go by it."""
    program = tmp_path / "matlab"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    progress = ProgressFile(tmp_path / "progress.json", "sort")
    with pytest.raises(SorterCrashedError) as caught:
        run(Installation(str(program), tmp_path, ""), tmp_path, progress)
    assert caught.value.exit_name == name


# ------------------------------------------------------------------------------------------- what goes in


def test_the_functions_are_those_of_spikeinterface_s_script() -> None:
    """What is looked for in the folder of Kilosort2 is what the script calls, and nothing less."""
    from spikeinterface.sorters.external import kilosort2

    script = Path(kilosort2.__file__).with_name("kilosort2_master.m").read_text(encoding="utf-8")
    called = set(re.findall(r"^\s*(?:rez\s*=\s*)?(\w+)\((?:rez|ops)\b", script, re.MULTILINE))
    assert called == set(KILOSORT2_FUNCTIONS)


def test_parameters_are_those_of_spikeinterface() -> None:
    """Our table has each parameter of SpikeInterface's Kilosort2, with its default, but for those it explains."""
    from spikeinterface.sorters import Kilosort2Sorter

    theirs = Kilosort2Sorter._default_params
    instead = {"skip_kilosort_preprocessing", "delete_tmp_files", "delete_recording_dat"}
    assert PARAMETERS.keys() == theirs.keys() - instead
    ours = {name: list(p.default) if p.kind is list else p.default for name, p in PARAMETERS.items()}
    assert ours == {name: theirs[name] for name in ours}
    assert "sorter_output_folder" in inspect.signature(Kilosort2Sorter._generate_ops_file).parameters


def test_the_page_lists_each_parameter() -> None:
    """docs/kilosort2.md has each parameter with what it means."""
    page = (REPOSITORY / "docs" / "kilosort2.md").read_text(encoding="utf-8")
    missing = [name for name, p in PARAMETERS.items() if f"| `{name}` |" not in page or p.meaning not in page]
    assert not missing


@pytest.mark.parametrize(
    "params, said",
    [
        ({"NT": 65_000}, "multiple of 32"),
        ({"NT": 128}, "four times ntbuff"),
        ({"wave_length": 60}, "must be odd"),
        ({"wave_length": 83}, "at most 81"),
        ({"projection_threshold": [10]}, "list of 2 numbers"),
        ({"AUCsplit": 1.5}, "at most 1"),
        ({"Th_learned": 8}, "has no parameter"),
        ({"batch_size": 60_000}, "use NT"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any], said: str) -> None:
    """A parameter that Kilosort2 does not take is refused with what it takes."""
    with pytest.raises(ValueError, match=said):
        check_parameters(params)


def test_shorter_batches_stay_longer_than_their_overlap() -> None:
    """What is offered where memory ran out is what Kilosort2 takes, whatever the overlap of batches."""
    params: dict[str, Any] = {"ntbuff": 1024, "NT": 20_000}
    while (then := smaller_batch(params, 0.5)) is not None:
        params["NT"] = then
        check_parameters(params)
    assert params["NT"] < 10_000


def test_no_shell_reads_the_names_of_folders() -> None:
    """A quote in a folder is doubled, as MATLAB wants it; the compiled program takes the folder as it is."""
    folder = Path('/data/o\'hara "$HOME"')
    assert command(Installation("matlab", Path("/opt/ks2"), ""), folder)[-1] == (
        "kilosort2_master('/data/o''hara \"$HOME\"','/opt/ks2')"
    )
    assert command(Installation("/bin/ks2_compiled", None, ""), folder) == ["/bin/ks2_compiled", str(folder)]


# ---------------------------------------------------------------------------------------- where it is


def test_what_is_missing_is_named(tmp_path: Path, kilosort2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path, a wrong path and no MATLAB are told apart, each with what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KILOSORT2_PATH", raising=False)
    with pytest.raises(SorterNotInstalledError, match="kilosort_path") as nowhere:
        find_installation(SorterConfig(sorter_name="kilosort2"))
    assert nowhere.value.missing == "kilosort_path"
    with pytest.raises(SorterNotInstalledError, match="holds neither of"):
        find_installation(SorterConfig(sorter_name="kilosort2", sorter_path=str(tmp_path)))
    (kilosort2 / "clusterSingleBatches.m").unlink()
    with pytest.raises(SorterNotInstalledError, match="lacks clusterSingleBatches"):
        find_installation(SorterConfig(sorter_name="kilosort2", sorter_path=str(kilosort2)))
    with pytest.raises(SorterNotInstalledError, match="no program 'matlab'") as no_matlab:
        find_installation(SorterConfig(sorter_name="kilosort2", sorter_path=str(KILOSORT2_STUB)))
    assert no_matlab.value.missing == "matlab"


def test_cuda_code_that_is_not_compiled_is_named(kilosort2: Path, matlab: Path) -> None:
    """Where Kilosort2's CUDA code lies, it is compiled for this machine, or that is said before hours are lost."""
    (kilosort2 / "CUDA").mkdir()
    for name in ("mexWtW2.cu", "mexWtW2.mexw64"):
        (kilosort2 / "CUDA" / name).touch()
    sorter = SorterConfig(sorter_name="kilosort2", sorter_path=str(kilosort2))
    with pytest.raises(SorterNotInstalledError, match="run mexGPUall") as caught:
        find_installation(sorter)
    assert caught.value.missing == "compiled CUDA code of Kilosort2"
    (kilosort2 / "CUDA" / "mexWtW2.mexa64").touch()
    assert find_installation(sorter).folder == kilosort2


def test_the_environment_names_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KILOSORT2_PATH stands in for kilosort_path, and the commit that is checked out there is its version."""
    folder = Path(shutil.copytree(KILOSORT2_STUB, tmp_path / "ks2"))
    (folder / ".git" / "refs").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/kilosort2\n")
    (folder / ".git" / "refs" / "kilosort2").write_text("abc123\n")
    for name in ("matlab", "ks2_compiled"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KILOSORT2_PATH", str(folder))
    assert find_installation(KILOSORT2.sorter) == Installation(str(tmp_path / "matlab"), folder, "abc123")
    monkeypatch.delenv("KILOSORT2_PATH")
    assert find_installation(KILOSORT2.sorter).version == "compiled"


# ----------------------------------------------------------------------------------------- what comes out


def write_results(folder: Path) -> None:
    """Write consistent files of three units on four of five channels."""
    np.save(folder / "spike_times.npy", np.array([[5], [9], [20]], dtype=np.uint64))
    np.save(folder / "spike_clusters.npy", np.array([[0], [2], [1]], dtype=np.uint32))
    templates = np.zeros((3, 61, 4), dtype=np.float32)
    templates[[0, 1, 2], 20, [0, 3, 1]] = -1
    np.save(folder / "templates.npy", templates)
    np.save(folder / "channel_map.npy", np.array([[0], [1], [3], [4]], dtype=np.int32))
    (folder / "n_channels").write_text("5\n")
    for column, values in {"KSLabel": ("good", "mua", "good"), "ContamPct": (1, 2, 3), "Amplitude": (4, 5, 6)}.items():
        lines = "".join(f"{unit}\t{value}\n" for unit, value in enumerate(values))
        (folder / f"cluster_{column}.tsv").write_text(f"cluster_id\t{column}\n{lines}")


def test_results_are_read(tmp_path: Path) -> None:
    """Units keep Kilosort2's names and labels; channels are the recording's."""
    write_results(tmp_path)
    sorting = Kilosort2Backend().read(tmp_path, 21)
    assert sorting.samples.tolist() == [5, 9, 20]
    assert sorting.unit_properties["ks_channel"] == [0, 4, 1]
    (tmp_path / "only_good").touch()
    good = Kilosort2Backend().read(tmp_path, 21)
    assert good.unit_ids.tolist() == [0, 2]
    assert good.units.tolist() == [0, 1]


@pytest.mark.parametrize(
    "name, content",
    [
        ("spike_clusters.npy", np.array([0, 1, 7])),
        ("templates.npy", np.zeros((3, 61, 5))),
        ("channel_map.npy", np.array([0, 1, 1, 2])),
        ("channel_map.npy", np.array([-1, 0, 1, 2])),
        ("channel_map.npy", np.array([0, 1, 3, 5])),
    ],
)
def test_files_that_disagree_are_a_crash(tmp_path: Path, name: str, content: Any) -> None:
    """A sorter that leaves inconsistent files has crashed, whatever its exit code."""
    write_results(tmp_path)
    np.save(tmp_path / name, content)
    with pytest.raises(SorterCrashedError):
        Kilosort2Backend().read(tmp_path, 21)
