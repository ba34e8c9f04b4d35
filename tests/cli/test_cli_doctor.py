"""The doctor, on machines that are made up and on this one."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest

from spikelab.cli.checks import satisfies
from spikelab.cli.doctor import can_sort, examine, tell_health, verdict
from spikelab.cli.facts import Facts, ask_kilosort, hdf5_plugins
from spikelab.cli.gpu_check import check_gpu
from spikelab.cli.output import make_console
from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.preflight.machine import DockerAnswer, Driver, Gpu, Torch

GB = 10**9
RTX_3090 = Gpu("RTX 3090", (8, 6), 24 * GB, 23 * GB)
RTX_5090 = Gpu("RTX 5090", (12, 0), 32 * GB, 31 * GB)
CUDA_TORCH = Torch(cuda_build="12.8", usable=("RTX 3090",), architectures=("sm_80", "sm_90"))

HEALTHY = Facts(
    python="3.11.7",
    executable="/env/bin/python",
    versions={
        "spikelab": "0.1.0",
        "numpy": "2.1.0",
        "spikeinterface": "0.105.3",
        "probeinterface": "0.4.2",
        "torch": "2.13.0+cu128",
        "kilosort": "4.1.7",
        "docker": None,
    },
    wanted={
        "numpy": "<3,>=2",
        "spikeinterface": "<0.106,>=0.105",
        "probeinterface": "<0.5,>=0.4",
        "torch": "<3,>=2.4",
        "kilosort": "<4.2,>=4.1.7",
    },
    torch=CUDA_TORCH,
    driver=Driver("570.86", (12, 8), (RTX_3090,)),
    hdf5_folders={"/plugins": ("libcompression.so",)},
    free_bytes={"/data": 500 * GB},
    n_cores=16,
    n_usable_cores=16,
    memory_bytes=64 * GB,
    available_bytes=60 * GB,
)


def with_version(name: str, found: str | None) -> Facts:
    return replace(HEALTHY, versions={**HEALTHY.versions, name: found})


def with_gpu(gpu: Gpu, cuda: tuple[int, int] = (12, 8), **torch: object) -> Facts:
    return replace(HEALTHY, driver=Driver("570.86", cuda, (gpu,)), torch=replace(CUDA_TORCH, **torch))


def finding_of(facts: Facts, name: str):
    return next(finding for finding in examine(facts) if finding.name == name)


def test_a_healthy_machine_has_nothing_to_do():
    """Where all is well there is no advice, and the exit code is 0."""
    assert [(f.name, f.advice) for f in examine(HEALTHY) if f.level != "ok"] == []
    assert can_sort(HEALTHY)


def test_a_gpu_with_a_torch_for_the_cpu_is_the_worst_silent_fault():
    """The doctor names the idle GPU and the exact commands for the torch that uses it; a sort can still run."""
    facts = with_gpu(RTX_3090, cuda_build=None, usable=(), architectures=())
    finding = check_gpu(facts)
    assert finding.level == "problem"
    assert "torch is for the CPU only" in finding.found
    assert finding.advice.endswith(
        "\n/env/bin/python -m pip uninstall -y torch"
        "\n/env/bin/python -m pip install 'torch<3,>=2.4' --index-url https://download.pytorch.org/whl/cu128"
    )
    assert can_sort(facts)


def test_a_gpu_newer_than_torch_cannot_sort():
    """A GPU that torch has no code for would be chosen and fail: that is not ready."""
    facts = with_gpu(RTX_5090, usable=("RTX 5090",))
    finding = check_gpu(facts)
    assert finding.level == "problem"
    assert "no code for this GPU" in finding.advice
    assert "cu128" in finding.advice
    assert not can_sort(facts)


def test_a_gpu_that_is_not_used_is_named():
    """Beside a GPU that torch can use an old card is a note, whichever comes first; alone it is a problem."""
    screen = Gpu("GT 710", (3, 5), GB, GB)
    both = replace(CUDA_TORCH, usable=("GT 710", "RTX 3090"))
    facts = replace(HEALTHY, driver=Driver("570.86", (12, 8), (screen, RTX_3090)), torch=both)
    finding = check_gpu(facts)
    assert finding.level == "note"
    assert finding.found.startswith(
        "RTX 3090 (24 GB, driver 570.86) and 1 more, usable by torch, but for the GT 710 (GPU 0)"
    )
    assert (can_sort(facts), verdict(facts).plain) == (True, "Kilosort4 can sort here, on the GPU (RTX 3090).")
    alone = replace(facts, hidden_gpus="0", torch=replace(both, usable=("GT 710",)))
    assert (check_gpu(alone).level, can_sort(alone)) == ("problem", False)


def test_a_driver_older_than_torch_is_named():
    """A torch for a later CUDA than the driver runs: update one or exchange the other."""
    facts = with_gpu(RTX_3090, (12, 4), cuda_build="13.0", usable=())
    finding = check_gpu(facts)
    assert finding.level == "problem"
    assert "Update the driver, or exchange torch:" in finding.advice
    assert "cu126" in finding.advice


def test_a_gpu_that_is_hidden_on_purpose_is_a_note():
    """CUDA_VISIBLE_DEVICES="" explains why torch sees none."""
    facts = replace(with_gpu(RTX_3090, usable=()), hidden_gpus="")
    assert (check_gpu(facts).level, can_sort(facts)) == ("note", True)


def test_a_machine_without_a_gpu_can_sort():
    """No driver is no problem, only slow."""
    facts = replace(HEALTHY, driver=None, torch=Torch())
    assert (check_gpu(facts).level, can_sort(facts)) == ("note", True)


@pytest.mark.parametrize(
    "name, found", [("kilosort", None), ("kilosort", "4.0.33"), ("torch", None), ("spikeinterface", "0.104.1")]
)
def test_a_package_that_is_missing_or_untested_is_a_problem_with_its_command(name, found):
    """The advice is the command that installs a tested version with this interpreter."""
    facts = with_version(name, found)
    finding = finding_of(facts, name)
    assert finding.level == "problem"
    assert finding.advice.endswith(f"\n/env/bin/python -m pip install '{name}{HEALTHY.wanted[name]}'")
    assert not can_sort(facts)


def test_a_torch_that_cannot_be_imported_is_told_in_its_own_words():
    """The last line of torch's own error is shown."""
    facts = replace(HEALTHY, torch=Torch(error="ImportError: libcudnn.so.9: not found"))
    assert "libcudnn.so.9" in finding_of(facts, "torch").found
    assert not can_sort(facts)


def test_a_kilosort_that_cannot_be_imported_is_not_installed():
    """A package that is there and breaks when used is a problem."""
    facts = replace(HEALTHY, kilosort_error="ImportError: numba")
    assert "numba" in finding_of(facts, "kilosort").found
    assert not can_sort(facts)


@pytest.mark.parametrize("python, ready", [("3.9.18", False), ("3.10.0", True), ("3.13.2", True), ("3.14.0", False)])
def test_python_must_be_one_that_kilosort_runs_on(python, ready):
    """Versions outside of the tested range are refused."""
    assert can_sort(replace(HEALTHY, python=python)) is ready


@pytest.mark.parametrize(
    "folders, level", [(None, "note"), ({"/p": ()}, "note"), ({"/a": (), "/b": ("compression.dll",)}, "ok")]
)
def test_the_hdf5_plugin_is_looked_for_in_every_folder(folders, level):
    """Only compressed files need the plugin, so that its absence is a note."""
    assert finding_of(replace(HEALTHY, hdf5_folders=folders), "HDF5 plugins").level == level


@pytest.mark.parametrize("free, level", [(500 * GB, "ok"), (10 * GB, "note"), (GB // 2, "problem")])
def test_little_disk_is_noted_before_it_is_a_problem(free, level):
    """The fullest disk counts."""
    facts = replace(HEALTHY, free_bytes={"/data": 500 * GB, "/tmp": free})
    assert finding_of(facts, "disk").level == level


@pytest.mark.parametrize(
    "answer, level, words",
    [
        (None, "ok", "not installed"),
        (DockerAnswer(), "ok", "answers"),
        (DockerAnswer("daemon_down", "refused"), "note", "does not answer"),
        (DockerAnswer("permission_denied", "denied"), "note", "may not use"),
        (DockerAnswer("other", "its own words"), "note", "its own words"),
    ],
)
def test_docker_is_only_noted(answer, level, words):
    """Containers are optional, so that nothing about them is a problem; what is wrong has its own advice."""
    finding = finding_of(replace(HEALTHY, docker=answer), "Docker")
    assert (finding.level, bool(finding.advice)) == (level, level == "note")
    assert words in finding.found


def test_a_driver_that_fails_is_a_problem_in_its_own_words():
    """A driver that is there and does not answer is told, and Kilosort4 can still sort on the CPU."""
    facts = replace(HEALTHY, driver=Driver(problem="Driver/library version mismatch"), torch=Torch(cuda_build="12.8"))
    assert "version mismatch" in check_gpu(facts).found
    assert (check_gpu(facts).level, can_sort(facts)) == ("problem", True)


def test_the_holder_of_each_gpu_is_told():
    """Who sorts on which GPU is no problem, and has a line; a part of a GPU keeps the driver's name."""
    driver = replace(HEALTHY.driver, gpus=(replace(RTX_3090, uuid="GPU-a"), replace(RTX_3090, uuid="GPU-b")))
    facts = replace(HEALTHY, driver=driver, held_gpus={"GPU-b": "process 7 (user ada)", "MIG-c": "another sort"})
    finding = finding_of(facts, "GPU locks")
    assert finding.level == "ok"
    assert finding.found == "GPU 1: held by process 7 (user ada); MIG-c: held by another sort"
    assert "GPU locks" not in {one.name for one in examine(HEALTHY)}


@pytest.mark.parametrize(
    "found, wanted, fits",
    [
        ("4.1.7", "<4.2,>=4.1.7", True),
        ("4.1.10", "<4.2,>=4.1.7", True),
        ("4.2", "<4.2,>=4.1.7", False),
        ("4.1.6", "<4.2,>=4.1.7", False),
        ("2.13.0+cpu", "<3,>=2.4", True),
        ("1.0", "", True),
    ],
)
def test_versions_compare_by_number(found, wanted, fits):
    """4.1.10 comes after 4.1.7."""
    assert satisfies(found, wanted) is fits


@pytest.mark.parametrize(
    "program, said",
    [("import os; os.abort()", "exit -6"), ('raise ImportError("numba")', "ImportError: numba"), ("", None)],
)
def test_a_kilosort_that_breaks_does_not_break_the_doctor(program, said):
    """Kilosort is imported in a process of its own, and its last line is what is told."""
    assert ask_kilosort([sys.executable, "-c", program]) == said


def test_plugin_folders_are_read_from_the_variable(tmp_path):
    """Several folders are joined by the path separator; missing ones hold nothing."""
    (tmp_path / "libcompression.so").touch()
    (tmp_path / "readme.txt").touch()
    found = hdf5_plugins(f"{tmp_path}:/nowhere")
    assert found == {str(tmp_path): ("libcompression.so",), "/nowhere": ()}
    assert hdf5_plugins("") is None


def test_the_output_keeps_commands_in_one_piece():
    """On a narrow screen the advice still stands on one line, for copying."""
    console = make_console()
    console.file, console.width = io.StringIO(), 60
    console._force_terminal = True
    code = tell_health(with_version("kilosort", None), console)
    assert code == 3
    assert "/env/bin/python -m pip install 'kilosort<4.2,>=4.1.7'\n" in console.file.getvalue()


def test_the_doctor_says_of_this_machine_what_the_backend_says(spikelab_process, tmp_path):
    """On a real machine the exit code is 0 where Kilosort4 is installed as tested, else 3; with a bundle, too."""
    from spikelab.spike_sorting._exceptions import SorterNotInstalledError
    from spikelab.spike_sorting.backends import get_backend

    try:
        get_backend("kilosort4").check_installed(KILOSORT4)
        expected = 0
    except SorterNotInstalledError:
        expected = 3
    done = spikelab_process("doctor", "--bundle", cwd=tmp_path)
    assert done.returncode == expected, done.stdout
    for part in ("Python", version("numpy"), "torch", "GPU", "MATLAB", "disk", "memory"):
        assert part in done.stdout
    (bundle,) = tmp_path.iterdir()
    assert f"For a bug report: {bundle.name}, with 0 sorts." in done.stdout
