"""Whole sorts in containers of a real daemon: Kilosort4, Kilosort2 by Octave, shortage of memory, and kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import FAST, REPOSITORY, simulate_maxwell

from spikelab.spike_sorting import SorterCrashedError, SortRunReport, sort_recording

pytestmark = [
    pytest.mark.docker,
]

COMPILED = """#!/bin/sh
# Takes what the compiled Kilosort2 takes, and has Octave do it with functions under Kilosort2's names.
cd "$1"
exec octave-cli --no-init-file --no-site-file --quiet --eval "addpath('{code}'); kilosort2_master(pwd(), '{code}')"
"""
HUNGRY = """
    if rez.ops.NT > 40000
        huge = ones(20000, 5000);
    end
"""
"""Takes 0.8 GB for batches as they are, and nothing for shorter ones."""


@pytest.fixture
def compiled(tmp_path: Path, mounted: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program `ks2_compiled`, seen in containers at the place where they look for programs."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    monkeypatch.setenv("SPIKELAB_CONTAINER_BIND", os.pathsep.join([*mounted, str(folder)]))
    return folder


@pytest.fixture
def image2(client: Any, image: str, compiled: Path) -> Iterator[str]:
    """The empty image, with that folder in its search path."""
    (path,) = (line for line in client.images.get(image).attrs["Config"]["Env"] if line.startswith("PATH="))
    container = client.containers.create(image, "true")
    made = container.commit("spikelab-test/ks2", compiled.parent.name.lower(), changes=f"ENV {path}:{compiled}")
    container.remove()
    yield made.tags[0]
    client.images.remove(made.tags[0], force=True)


def program(folder: Path, text: str) -> None:
    """Have `text` be the program that containers run."""
    (folder / "ks2_compiled").write_text(text, encoding="utf-8")
    (folder / "ks2_compiled").chmod(0o755)


def by_octave(folder: Path) -> Path:
    """Have Octave be it, with our functions in Kilosort2's place; return where these are."""
    from spikeinterface.sorters.external import kilosort2

    code = Path(shutil.copytree(REPOSITORY / "tests" / "kilosort2_stub", folder / "code"))
    external = Path(kilosort2.__file__).parent
    for script in (external / "kilosort2_master.m", *(external.parent / "utils").glob("*NPY*.m")):
        shutil.copy(script, code)
    program(folder, COMPILED.format(code=code))
    return code


def left(client: Any, inter: Path) -> list[Any]:
    """Return the containers of a run."""
    return list(client.containers.list(all=True, ignore_removed=True, filters={"label": f"spikelab.folder={inter}"}))


def test_kilosort4_sorts_in_a_container_as_it_does_outside(
    client: Any, image: str, mounted: list[str], tmp_path: Path
) -> None:
    """The same recording comes back with its units, the version and the digest of the image noted, and steps told."""
    pytest.importorskip("kilosort")
    file = tmp_path / "culture.raw.h5"
    simulate_maxwell(file)
    report = SortRunReport()
    (sd,) = sort_recording(
        [file],
        use_docker=image,
        docker_image_expected_digest=client.images.get(image).id,
        preflight_strict=False,
        out_report=report,
        **{**FAST, "kilosort_params": {"nblocks": 0, "torch_device": "cpu"}},
    )
    assert sd is not None
    assert sd.N >= 3
    (record,) = report.records
    log = Path(record.results_folder, "sorting.log").read_text(encoding="utf-8")
    assert "Detecting spikes" in log, "what is printed in the container is not in the log"
    assert "spikelab-progress" not in log
    sorter = json.loads(Path(record.results_folder, "recording_report.json").read_text(encoding="utf-8"))["sorter"]
    assert sorter["version"].startswith("4.1.")
    assert sorter["image"] == {"name": image, "digest": client.images.get(image).id}
    inter = tmp_path / "inter_kilosort4" / file.name
    assert left(client, inter) == []
    assert not (inter / "container.json").exists()


def test_a_shortage_in_a_container_is_overcome_with_shorter_batches(
    client: Any, image2: str, compiled: Path, tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    """Kilosort2, compiled, is killed at its limit, known to have run out of memory, and sorts with a smaller NT."""
    require_program("octave-cli")
    matching = by_octave(compiled) / "learnAndSolve8b.m"
    first, rest = matching.read_text(encoding="utf-8").split("\n", 1)
    matching.write_text(first + HUNGRY + rest, encoding="utf-8")
    file = tmp_path / "o'hara's culture.raw.h5"
    simulate_maxwell(file, duration_s=4)
    report = SortRunReport()
    (sd,) = sort_recording(
        [file],
        sorter="kilosort2",
        use_docker=image2,
        total_memory="500M",
        curate_first=False,
        curate_second=False,
        n_jobs=1,
        out_report=report,
    )
    assert sd is not None
    assert sd.N > 3
    (record,) = report.records
    sorts = [attempt.status for attempt in record.attempts if attempt.phase == "sort"]
    assert sorts == ["oom_host_ram", "success"]
    assert "memory limit of 0.5 GB" in " ".join(str(warning) for warning in record.warnings)
    assert left(client, tmp_path / "inter_kilosort2" / file.name) == []


_SCRIPT = """
import json, sys
from spikelab.spike_sorting import sort_recording
sort_recording([sys.argv[1]], **json.loads(sys.argv[2]))
"""


@pytest.mark.timeout(300)
def test_no_container_outlives_whoever_started_it(client: Any, image2: str, compiled: Path, tmp_path: Path) -> None:
    """kill -9 of worker, of script, and of script and guardian: the container ends at once, or at the next start."""
    program(compiled, "#!/bin/sh\necho it hangs\nexec sleep 600\n")
    file = tmp_path / "a.raw.h5"
    simulate_maxwell(file, duration_s=2)
    inter = tmp_path / "inter_kilosort2" / file.name
    options = {"sorter": "kilosort2", "use_docker": image2, "preflight": False, "n_jobs": 1}
    call = (str(file), json.dumps(options))

    with _sorting(*call) as script:
        _hanging(client, inter)
        (worker,) = _below(script.pid, "spike_sorting.worker", but="guardian.py")
        worker.kill()
        _, said = script.communicate(timeout=60)
    assert "SorterCrashedError" in said
    assert left(client, inter) == []

    with _sorting(*call) as script:
        _hanging(client, inter)
        script.kill()
    _wait_until(lambda: not left(client, inter))

    with _sorting(*call) as script:
        container = _hanging(client, inter)
        (guardian,) = _below(script.pid, "guardian.py")
        script.send_signal(signal.SIGSTOP)
        guardian.kill()
        script.kill()
    assert [one.id for one in left(client, inter)] == [container.id]
    program(compiled, "#!/bin/sh\nexit 3\n")
    with pytest.raises(SorterCrashedError, match="exit code 3"):
        sort_recording([file], **options)
    assert left(client, inter) == []


@contextmanager
def _sorting(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A script that sorts, and is gone when the test is done with it."""
    command = [sys.executable, "-c", _SCRIPT, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as script:
        try:
            yield script
        finally:
            script.kill()


def _hanging(client: Any, inter: Path) -> Any:
    """Return the container of a run once its program hangs."""

    def found() -> Any:
        return next((one for one in left(client, inter) if b"it hangs" in one.logs()), None)

    return _wait_until(found)


def _below(pid: int, words: str, but: str = "nothing") -> list[psutil.Process]:
    commands = {child: _command(child) for child in psutil.Process(pid).children(recursive=True)}
    return [child for child, command in commands.items() if words in command and but not in command]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _wait_until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    give_up_s = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up_s, "it never happened"
        time.sleep(0.05)
    return found
