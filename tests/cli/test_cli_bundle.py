"""What the doctor says of sorts that there are, and what it packs for a bug report."""

from __future__ import annotations

import getpass
import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spikelab.cli.doctor import bundle_up, examine
from spikelab.cli.facts import Facts
from spikelab.cli.output import make_console
from spikelab.cli.redaction import Redactor
from spikelab.cli.runs import Run, runs_below
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.lock import LOCK_NAME, hold
from spikelab.spike_sorting.supervision.publish import publish_json


@pytest.fixture
def runs(tmp_path) -> dict[str, RunFolder]:
    """A finished run with leftovers, one that died, and one more."""
    made = {}
    for name in ("done", "died", "busy"):
        run = made[name] = RunFolder(tmp_path / "inter_fake" / name, tmp_path / "sorted_fake" / name)
        for folder in (run.inter, run.results):
            folder.mkdir(parents=True)
        run.claim({"path": name})
        run.journal.write("run_started", run_id="1", recording=name, sorter="fake")
    made["done"].journal.write("run_ended", status="success", wall_time_s=1.0)
    (made["done"].inter / "sort_checkpoints").mkdir()
    (made["done"].inter / "sort_checkpoints" / "features.npy").write_bytes(b"x" * 2_000_000)
    return made


def findings(facts: Facts) -> dict[str, tuple[str, str, str]]:
    return {one.name: (one.level, one.found, one.advice) for one in examine(facts)}


def test_sorts_are_told_with_what_to_do(tmp_path, runs):
    """Who holds a folder, what did not finish and what only takes room have a line each, with a command."""
    with hold([runs["busy"].results], "cookie"):
        found, unseen = runs_below([tmp_path])
        told = findings(Facts(runs=found))
    assert unseen == {}
    level, held, _ = told["locks"]
    assert (level, "1 recording being sorted: busy: process " in held) == ("ok", True)
    assert told["unfinished"][1:] == (
        "1 sort: died",
        "Their process is gone: the same command continues where it stopped.",
    )
    level, left, advice = told["leftovers"]
    assert (level, left) == ("note", "2.0 MB that no result needs, in 1 folder")
    assert advice.splitlines()[1] == f"spikelab clean '{runs['done'].results}'"
    orphan = Run("/data/rec", "running", "process 7", is_orphan=True)
    level, held, advice = findings(Facts(runs=(orphan,), unseen={"/dead": "the disk does not answer"}))["locks"]
    assert (level, "what a crash left" in held) == ("note", True)
    assert "the same sort again" in advice


@pytest.mark.parametrize("has, level", [(True, "ok"), (False, "note")])
def test_kilosort2_is_only_noted(has, level):
    """MATLAB is for Kilosort2 alone, so that its absence is a note, in the words of the sorter."""
    said = findings(Facts(kilosort2="matlab is here" if has else "there is no program 'matlab'", has_kilosort2=has))
    assert said["Kilosort2, MATLAB"][0] == level
    assert "matlab" in "".join(said["Kilosort2, MATLAB"])


def test_the_bundle_has_what_is_needed_and_no_names(tmp_path, runs, monkeypatch):
    """The zip has versions, settings, journal and the end of the log; no home, user or host name is anywhere in it."""
    run, user, machine = runs["died"], getpass.getuser(), socket.gethostname()
    secret = f"{Path.home()}/data of {user} on {machine}, /home/colleague/x, mail ada@example.org, from 10.1.2.3"
    run.log.write_text("y" * 600_000 + f"\nthe last words: {secret}\n")
    publish_json(run.config_used, {"packages": {"numpy": "2.1"}, "path": str(Path.home() / "rec.h5")})
    card = {**host.process_card(), "hostname": "far-away-rig"}
    (run.results / LOCK_NAME).write_text(json.dumps(card))
    run.journal.write("watch", detail="stalled on far-away-rig")
    attempt = run.new_attempt()
    publish_json(attempt / "exit.json", {"message": secret})
    monkeypatch.chdir(tmp_path)
    console = make_console()
    console.file = io.StringIO()
    bundle_up(Facts(versions={"numpy": "2.1"}, runs=runs_below([tmp_path])[0]), console)
    (path,) = tmp_path.glob("spikelab_bundle_*.zip")
    assert f"For a bug report: {path.name}, with 3 sorts." in console.file.getvalue()
    with zipfile.ZipFile(path) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    (died,) = {name.split("/")[1] for name in texts if name.endswith("_died/events.jsonl")}
    assert "leftovers" in texts["doctor.txt"]
    assert "numpy==" in texts["packages.txt"]
    assert json.loads(texts["facts.json"])["versions"]["numpy"]
    log = texts[f"runs/{died}/sorting.log"]
    assert len(log) < 525_000
    assert "the last words: ~/data of USER on HOST, /home/USER/x, mail MAIL, from ADDRESS" in log
    assert json.loads(texts[f"runs/{died}/config_used.json"])["path"] == "~/rec.h5"
    assert json.loads(texts[f"runs/{died}/attempts/1/exit.json"])["message"].startswith("~/data")
    everything = "\n".join([*texts, *(text for name, text in texts.items() if name != "packages.txt")])
    for name in (str(Path.home()) + "/", "far-away-rig", "colleague", "ada@", "10.1.2.3"):
        assert name not in everything, name


@pytest.mark.parametrize(
    "text, redacted",
    [
        ("/data/ada/x and /data/adamant/x", "~/x and /data/adamant/x"),
        (r"C:\\Users\\Bob\\x.h5", r"C:\\Users\\USER\\x.h5"),
        ("/Users/bob/x, 'Ada's file ada_1.h5, canada", "/Users/USER/x, 'USER's file USER_1.h5, canada"),
        ('{"hostname": "anybody", "n": 1}', '{"hostname": "HOST", "n": 1}'),
        ("RIG7.lab.org, rig7:", "HOST, HOST:"),
        ("GPU 0: held by process 7 (user grace)", "GPU 0: held by process 7 (user USER)"),
        ('"/data/jos\\u00e9/x" of jos\\u00e9 and josé', '"/data/USER/x" of USER and USER'),
        (r'{"description": "{\"path\": \"/data/jos\\u00e9/x\"}"}', r'{"description": "{\"path\": \"/data/USER/x\"}"}'),
        (r"C:\Users\Bob Bobson\x.h5, /run/media/bob/disk/x", r"C:\Users\USER\x.h5, /run/media/USER/disk/x"),
        ("fe80::1ff:fe23:4567:890a, 1:22:333:4444:5:6:7:8", "ADDRESS, ADDRESS"),
        ("torch 2.13.0, 3.5 s, 12:30:01", "torch 2.13.0, 3.5 s, 12:30:01"),
    ],
)
def test_names_are_taken_out_wherever_they_stand(text, redacted):
    """Homes, users and hosts go, in paths, words and JSON; what only looks alike stays."""
    assert Redactor(["ada", "josé"], ["rig7", "rig7.lab.org"], ["/data/ada"])(text) == redacted


_NAMELESS = """
import codecs, os, stringprep
from spikelab.cli.redaction import Redactor
codecs.lookup("idna")  # that user may not read what this interpreter still has to load
os.setuid(54321)
print(Redactor.of_this_machine()("/home/ada/x"))
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become a user without a name")
def test_a_user_without_a_name_can_make_a_bundle():
    """In a container, a user is often a number alone; what is in the paths is taken out all the same."""
    environment = {key: value for key, value in os.environ.items() if key not in {"LOGNAME", "USER", "LNAME"}}
    environment |= {"HOME": "/", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _NAMELESS], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "/home/USER/x\n"), done.stderr[-2000:]
