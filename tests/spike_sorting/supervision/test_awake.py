"""The machine is kept awake while it sorts, and not a moment longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spikelab.spike_sorting.supervision.awake import KEEPERS, stay_awake

KEEPER = KEEPERS.get(sys.platform, ("",))[0]


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the keeper's name that runs what it is given and says when; returns where it says so."""
    if not KEEPER:
        pytest.skip("this platform keeps itself awake by other means")
    program = tmp_path / KEEPER
    record = tmp_path / "record"
    program.write_text(
        f'#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\necho $$ begins >> {record}\n"$@"\necho ends >> {record}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return record


def test_the_keeper_lives_as_long_as_the_block(keeper: Path):
    """The program holds the lock inside the block and has ended after it."""
    with stay_awake() as works:
        assert works
        assert "ends" not in keeper.read_text()
        pid = int(keeper.read_text().split()[0])
        assert os.getsid(pid) != os.getsid(0)  # a Ctrl-C in the terminal does not reach it
    assert keeper.read_text().split("\n")[1] == "ends"


def test_the_keeper_ends_with_us(keeper: Path):
    """A process that is killed inside the block leaves no keeper behind."""
    code = (
        "import sys, time\nfrom spikelab.spike_sorting.supervision.awake import stay_awake\n"
        "with stay_awake() as works:\n    print(works, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    give_up = time.monotonic() + 10
    while "ends" not in keeper.read_text():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\nexec sleep 60\n", "no program\n"])
def test_a_keeper_that_fails_costs_one_line(keeper: Path, script: str, caplog: pytest.LogCaptureFixture):
    """A refusal, a keeper that hangs and one that cannot be started are told once, and sorting goes on."""
    (keeper.parent / KEEPER).write_text(script)
    caplog.set_level("INFO")
    with stay_awake() as works:
        assert not works
    assert sum("may go to sleep" in record.message for record in caplog.records) == 1


def test_no_keeper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Where there is no such program, one line says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    caplog.set_level("INFO")
    with stay_awake() as works:
        assert not works or sys.platform == "win32"
    assert sum("may go to sleep" in record.message for record in caplog.records) == (sys.platform != "win32")


def test_off_is_off(keeper: Path):
    """When it is not wanted, nothing is started."""
    with stay_awake(enabled=False) as works:
        assert not works
    assert not keeper.exists()
