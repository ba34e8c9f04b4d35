"""``spikelab watch``: a batch in a real browser, and who may ask the server for what."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from browser import open_page
from support import with_fake_sorter

from spikelab.cli.live.batch import summary, with_time_left
from spikelab.cli.live.command import make_server, usual_port
from spikelab.cli.live.outlook import Outlook
from spikelab.cli.live.recording import view_of
from spikelab.cli.live.server import Access, LiveServer
from spikelab.cli.live.view import View, id_of
from spikelab.cli.output import UsageProblem
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.roster import announced, read_rosters
from spikelab.spike_sorting.run_folder import RunFolder
from spikelab.spike_sorting.supervision import host
from spikelab.spike_sorting.supervision.curve import COLUMNS, last_row, read_curve
from spikelab.spike_sorting.supervision.lock import hold
from spikelab.spike_sorting.supervision.progress import ProgressFile
from spikelab.spike_sorting.supervision.publish import publish_json

HOSTILE = "<img src=x onerror=document.title='owned'>.raw.h5"
SORT = ("sort", "--sorter", "fake", "--on-error", "continue", "--set", "n_jobs=1", "--set", "create_figures=false")


def make_run(folder: Path, name: str) -> RunFolder:
    """Return the folders of a run that has claimed them."""
    run = RunFolder(folder / "inter_fake" / name, folder / "sorted_fake" / name)
    for path in (run.inter, run.results):
        path.mkdir(parents=True)
    run.claim({"path": name})
    return run


def make_ended(folder: Path, name: str, status: str = "success", **more: object) -> RunFolder:
    """Return the folders of a run that has ended."""
    run = make_run(folder, name)
    run.journal.write("run_started", run_id="1", recording=name, sorter="fake")
    result = RecordingResult(
        rec_name=name, rec_path=name, results_folder=str(run.results), status=status, **{"wall_time_s": 40.0, **more}
    )
    publish_json(run.report_json, {**result.to_dict(), "recording": {"duration_s": 20.0}})
    run.report_html.write_text("<!DOCTYPE html><title>report</title><body>the report of it</body>")
    run.journal.write("run_ended", status=status, wall_time_s=40.0)
    return run


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def serving(server: LiveServer) -> Iterator[LiveServer]:
    """Serve until the ``with`` block ends."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.outlook.close()
        thread.join()


def ask(server: LiveServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Return status, body and headers of an answer."""
    address = server.server_address[:2]
    with closing(HTTPConnection(*address, timeout=20)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())


def state_of(server: LiveServer) -> dict:
    status, body, _ = ask(server, "/state.json")
    assert status == 200, body
    return json.loads(body)


def by_name(state: dict) -> dict[str, dict]:
    return {one["name"]: one for one in state["recordings"]}


# ------------------------------------------------------------------------------------------- in a real browser


@pytest.fixture
def batch(tmp_path, recording) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A batch at work: one recording hangs in its sorter, one waits, one is none; and one was sorted before."""
    make_ended(tmp_path, "done.raw.h5", n_units=9, n_curated_units=7, n_spikes=1234)
    (tmp_path / HOSTILE).write_bytes(b"not HDF5")
    for name in ("first.raw.h5", "second.raw.h5"):
        shutil.copy(recording, tmp_path / name)
    hang = ("--set", 'kilosort_params={behaviour = "hang"}')
    command = [sys.executable, "-c", "from spikelab.cli import main; main()", *SORT, *hang]
    with subprocess.Popen(
        [*command, HOSTILE, "first.raw.h5", "second.raw.h5"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=with_fake_sorter(),
    ) as process:
        yield tmp_path, process
        process.kill()
        process.stdout.read()


@pytest.mark.chromium
def test_a_batch_is_watched_from_its_first_recording_to_its_death(batch, tmp_path_factory):
    """A browser shows who runs, waits, failed and is done; it lives through a restart, and sees when the batch dies."""
    folder, process = batch
    results = folder / "sorted_fake"
    access, port = Access.to("127.0.0.1"), 0
    with open_page(tmp_path_factory.mktemp("browser")) as page:
        with serving(make_server(Outlook([folder]), access, port)) as server:
            url, port = server.url, server.server_address[1]
            page.open(url)
            seen = page.wait_for("sort: threshold", 60)
            for words in ("1 of 4 recordings sorted", HOSTILE, "What to do: ", "RecordingUnreadableError", "waiting"):
                assert words in seen
            assert "warn above 85, stop above 92 %" in page.wait_for("stop above")
            assert "stages.stage: stage sort" in page.wait_for("stage sort")
            with (results / "first.raw.h5" / "sorting.log").open("a") as log:
                log.write("<script>document.title = 'owned'</script>\n")
            page.wait_for("<script>document.title = 'owned'</script>")
            assert page.evaluate("document.title") == "1 of 4 recordings sorted, 1 running"
            kinds = "[...document.querySelectorAll('details.rec')].map((one) => [one.className, one.open])"
            assert page.evaluate(kinds) == [
                ["rec running", True],
                ["rec failed", True],
                ["rec waiting", False],
                ["rec sorted", False],
            ]
            page.evaluate("document.querySelector('.rec.sorted > summary').click()")
            assert "Open the report" in page.wait_for("Open the report")
            before = contents(results / "done.raw.h5")
        assert "does not answer" in page.wait_for("spikelab watch does not answer")
        page.complaints.clear()  # that nobody answered
        with serving(make_server(Outlook([folder]), access, port)) as server:
            until = time.monotonic() + 20
            while page.evaluate("!document.getElementById('alarm').hidden") and time.monotonic() < until:
                time.sleep(0.1)
            assert page.evaluate("document.getElementById('alarm').hidden")
            assert page.evaluate("document.querySelector('.rec.sorted').open"), "what the reader opened stays open"
            page.complaints.clear()  # a last call that nobody answered
            process.kill()
            process.wait()
            seen = page.wait_for("The process that ran this batch is gone: 1 of 4 recordings sorted")
            seen = page.wait_for("did not finish; it was at sort: threshold")
            assert "not begun" in seen
            assert "The same command continues where it stopped." in seen
            assert page.complaints == []
            assert state_of(server)["batch"]["standing"] == "gone"
    assert contents(results / "done.raw.h5") == before


# --------------------------------------------------------------------------------------------- who may ask what


def test_only_this_machine_is_answered_and_only_by_its_names(tmp_path):
    """On a loopback address no token is needed, other names for it are refused, and nothing can be changed."""
    with serving(make_server(Outlook([tmp_path]), Access.to("127.0.0.1"), 0)) as server:
        assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"
        status, body, headers = ask(server, "/")
        assert status == 200
        assert "state.json" in body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
        assert state_of(server)["batch"]["standing"] == "empty"
        assert ask(server, "/", Host="localhost:9000")[0] == 200  # through a tunnel
        for name in ("evil.example", "127.0.0.1.evil.example", "192.168.0.7", "[", ""):
            assert ask(server, "/state.json", Host=name)[0] == 421, name
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            assert ask(server, "/state.json", method)[0] == 501, method
        for path in ("/etc/passwd", "/report/", "/report/..%2f..%2fetc%2fpasswd", f"/report/{id_of(tmp_path)}", "/x"):
            assert ask(server, path)[0] == 404, path


def test_other_users_of_this_machine_can_be_kept_out(tmp_path):
    """Asked to be private, a page on a loopback address needs the token, and is still known by no foreign name."""
    with serving(make_server(Outlook([tmp_path]), Access.to("127.0.0.1", private=True), 0)) as server:
        opened = server.url.removeprefix(f"http://127.0.0.1:{server.server_address[1]}")
        assert opened.startswith("/?token=")
        assert ask(server, "/")[0] == ask(server, "/state.json")[0] == 403
        assert ask(server, opened)[0] == ask(server, opened, Host="localhost:9000")[0] == 200
        assert ask(server, opened, Host="evil.example")[0] == 421


def test_elsewhere_the_token_opens_the_page(tmp_path):
    """On another address every request needs the token that is in the printed one."""
    with serving(make_server(Outlook([tmp_path]), Access.to("0.0.0.0"), 0)) as server:
        token = server.access.token
        assert server.url.endswith(f"/?token={token}")
        assert len(token) >= 32
        for path in ("/", "/state.json"):
            assert ask(server, path)[0] == 403
            assert ask(server, f"{path}?token={token[:-1]}")[0] == 403
            assert ask(server, f"{path}?token={token}")[0] == 200, path
        assert ask(server, f"/?token={token}", Host="evil.example")[0] == 421
        assert ask(server, f"/?token={token}", Host=f"{socket.gethostname()}:80")[0] == 200
    assert Access.to("0.0.0.0").token != token


def test_a_report_does_not_know_the_token(tmp_path):
    """Its address, which its scripts can read, opens this report and nothing else."""
    for name in ("one.raw.h5", "other.raw.h5"):
        make_ended(tmp_path, name)
    with serving(make_server(Outlook([tmp_path]), Access.to("127.0.0.1", private=True), 0)) as server:
        token = server.access.token
        recordings = by_name(json.loads(ask(server, f"/state.json?token={token}")[1]))
        one, other = (f"/{recordings[name]['report']}" for name in ("one.raw.h5", "other.raw.h5"))
        assert token not in one
        path, key = one.split("?key=")
        assert ask(server, one)[0] == ask(server, other)[0] == 200
        for refused in (path, f"{path}?key=", f"{path}?key={key[:-1]}", f"{other.partition('?')[0]}?key={key}"):
            assert ask(server, refused)[0] == 403, refused
        for page in ("/", "/state.json"):
            assert ask(server, f"{page}?key={key}")[0] == ask(server, f"{page}?token={key}")[0] == 403


def test_a_folder_whose_name_is_no_text_is_watched(tmp_path):
    """Names with bytes that are no UTF-8, as other systems leave them on a shared disk, are shown by their codes."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    make_ended(folder, "done.raw.h5")
    with serving(make_server(Outlook([folder]), Access.to("127.0.0.1"), 0)) as server:
        status, body, _ = ask(server, "/")
        assert status == 200
        assert "caf\\udce9" in body
        (found,) = state_of(server)["recordings"]
        assert found["folder"].endswith("caf\udce9/sorted_fake/done.raw.h5")
        assert ask(server, f"/{found['report']}")[0] == 200


def test_a_report_is_served_without_rights(tmp_path):
    """The report of a known recording is shown as it is, in a sandbox; one that leads elsewhere is not."""
    run = make_ended(tmp_path, "done.raw.h5")
    with serving(make_server(Outlook([run.results]), Access.to("127.0.0.1"), 0)) as server:
        (link,) = (f"/{one['report']}" for one in state_of(server)["recordings"])
        status, body, headers = ask(server, link)
        assert (status, body) == (200, run.report_html.read_text())
        assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
        run.report_html.unlink()
        (tmp_path / "secret").write_text("secret")
        run.report_html.symlink_to(tmp_path / "secret")
        status, body, _ = ask(server, link)
        assert status == 503
        assert "secret" not in body.replace(str(tmp_path), "")


def test_the_same_folders_are_served_at_the_same_port(tmp_path, spikelab):
    """A page finds a server that is started anew; a second one takes another port, and one that is taken is told."""
    outlook = Outlook([tmp_path])
    with make_server(outlook, Access.to("127.0.0.1"), 0) as first:
        assert first.server_address[1] == usual_port([tmp_path])
        with make_server(outlook, Access.to("127.0.0.1"), 0) as second:
            assert second.server_address[1] != first.server_address[1]
        with pytest.raises(UsageProblem, match="cannot be listened on"):
            make_server(outlook, Access.to("127.0.0.1"), first.server_address[1])
    outlook.close()
    refused = spikelab("watch", tmp_path, "--host", "203.0.113.7")
    assert refused.exit_code == 2
    assert "--host must be an address of this machine" in " ".join(refused.stderr.split())


@pytest.mark.parametrize("is_private", [False, True])
def test_the_command_prints_where_to_look_and_ends_with_ctrl_c(tmp_path, is_private):
    """The address is a whole line, with the port and the token that are asked for; an interrupt ends it with 130."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    options = ["--open", "--port", str(port), *["--private"] * is_private]
    command = [sys.executable, "-c", "from spikelab.cli import main; main()", "watch", tmp_path, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = [process.stdout.readline() for _ in range(2)]
        assert str(tmp_path) in said[0]
        url = urlsplit(said[1].strip())
        assert url.netloc == f"127.0.0.1:{port}"
        assert bool(url.query) == is_private
        with closing(HTTPConnection(url.netloc, timeout=20)) as connection:
            connection.request("GET", f"/state.json?{url.query}")
            assert connection.getresponse().status == 200
        process.send_signal(2)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""


# ------------------------------------------------------------------------------------------------ what is told


def test_a_dead_disk_holds_up_nobody(tmp_path):
    """A folder that does not answer is told as such, with what was known; the others are read, and so is it again."""
    dead, fine = make_run(tmp_path / "dead", "one"), make_ended(tmp_path / "fine", "two")
    os.mkfifo(dead.journal.path)  # whoever opens it waits for a writer
    outlook = Outlook([tmp_path], glance_s=0.2)
    began = time.monotonic()
    looks = [{view.name: view for view in outlook.look().views} for _ in range(3)]
    assert time.monotonic() - began < 5
    assert [(look["one"].kind, look["two"].kind) for look in looks] == [("silent", "sorted")] * 3
    assert "did not answer within 0.2 s" in looks[-1]["one"].notes[0]
    descriptor = os.open(dead.journal.path, os.O_WRONLY)
    dead.journal.path.unlink()
    os.close(descriptor)
    until = time.monotonic() + 10
    while (view := {view.name: view for view in outlook.look().views}["one"]).kind == "silent":
        assert time.monotonic() < until
    assert view.kind == "unknown"
    assert fine.results.is_dir()
    outlook.close()


def test_what_a_run_has_met_is_told(tmp_path):
    """A running one says its step, attempt, what was made smaller, what the watch warns of, and its gauges."""
    run = make_run(tmp_path, "rec")
    limits = {"host_ram_warn_pct": 10.0, "host_ram_abort_pct": 99.0, "disk_watchdog": False}
    publish_json(run.config_used, {"config": {"execution": limits}})
    values = dict.fromkeys(COLUMNS, "") | {"host_ram_pct": "50", "run_ram_gb": "3.5", "gpu_temp_c": "95"}
    row = ",".join(["1.0", *values.values()])
    run.curve.write_text(",".join(["elapsed_s", *COLUMNS]) + f"\n{row}\n2.0,9")
    assert last_row(run.curve) == read_curve(run.curve)[-1]
    warning = Remark("no-gain", "the file has no gain", "Set gain_to_uv.")
    publish_json(run.marker("load"), {"key": "k", "summary": {"duration_s": 60.0, "warnings": [warning.to_dict()]}})
    run.log.write_text("old\r50 %\r\x1b[31m<b>new</b>\n")
    with hold([run.inter, run.results], "cookie"):
        run.journal.write("run_started", run_id="1", recording="rec", sorter="fake")
        for _ in range(2):
            run.journal.write("worker_started", phase="sort", attempt="1", gpu="GPU 1")
        run.journal.write("retry", phase="sort", remark="ran out of memory; batch_size = 4", changed={})
        for kind, sensor in (("warned", "host_ram_pct"), ("warned", "gpu_temp_c"), ("cleared", "gpu_temp_c")):
            run.journal.write("watch", kind=kind, sensor=sensor, value=1.0, detail=f"{sensor} is high", watched_s=1.0)
        run.journal.write(
            "estimated", wall_time_s={"low": 50.0, "likely": 100.0, "high": 200.0}, stages_s={"sort": 60.0}
        )
        run.journal.write("throughput_collapsed", stage="sort", estimated_s=60.0, expected_s=240.0)
        publish_json(run.progress, {"stage": "sort", "step": "merging", "fraction": 0.5, "n_spikes": 12, "left_s": 30})
        view = view_of(run.results)
    assert (view.kind, view.stage, view.step, view.fraction, view.n_spikes) == ("running", "sort", "merging", 0.5, 12)
    assert (view.attempt, view.gpu, view.recorded_s, view.step_left_s) == (2, "GPU 1", 60.0, 30)
    assert view.changes == ("Ran out of memory; batch_size = 4.",)
    assert view.warnings[:2] == (str(warning), "host_ram_pct is high.")
    assert view.warnings[2].startswith("Stage sort takes at least 4 min at its pace; 1 min were estimated.")
    assert view.estimated_s == 100.0 + 180.0
    assert view.log == ("<b>new</b>",)
    gauges = {gauge.name: gauge for gauge in view.gauges}
    assert set(gauges) == {"memory", "GPU temperature"}
    assert (gauges["memory"].level, gauges["memory"].warn, gauges["memory"].stop) == ("warn", 0.1, 0.99)
    assert gauges["memory"].value == "50 %, 3.5 GB here"
    assert gauges["GPU temperature"].level == "stop"
    assert dict(view.stages)["load"] == "done"
    assert dict(view.stages)["sort"] == "now"
    after = view_of(run.results)
    assert (after.kind, after.status) == ("gone", "did not finish")


def test_a_run_that_waits_says_for_what(tmp_path):
    """Its step is what it waits for, also where only the journal could be written; it has no GPU and no readings."""
    run = make_run(tmp_path, "rec")
    run.curve.write_text(",".join(["elapsed_s", *COLUMNS]) + "\n1.0" + ",50" * len(COLUMNS) + "\n")
    with hold([run.inter, run.results], "cookie"):
        run.journal.write("run_started", run_id="1", recording="rec", sorter="fake")
        run.journal.write("worker_started", phase="prepare", attempt="1")
        run.journal.write("worker_ended", phase="prepare", exit="finished", wall_time_s=1.0, status="success")
        run.journal.write("waiting", phase="sort", reason="waiting for a GPU (GPU 0 by process 7)")
        view = view_of(run.results)
        assert (view.stage, view.step, view.gpu) == ("sort", "waiting for a GPU (GPU 0 by process 7)", None)
        assert view.gauges == ()
        ProgressFile(run.progress, "sort").report("waiting for cores and memory")
        assert view_of(run.results).step == "waiting for cores and memory"
        run.progress.unlink()
        run.journal.write("worker_started", phase="sort", attempt="2", gpu="GPU 0")
        view = view_of(run.results)
    assert (view.step, view.gpu) == ("", "GPU 0")
    assert view.gauges


@pytest.mark.chromium
def test_the_page_names_the_gpu(tmp_path):
    """The line of a recording that is sorted on a GPU says on which."""
    run = make_run(tmp_path, "rec")
    with hold([run.inter, run.results], "cookie"), open_page(tmp_path / "browser") as page:
        run.journal.write("run_started", run_id="1", recording="rec", sorter="fake")
        run.journal.write("worker_started", phase="sort", attempt="1", gpu="GPU 1")
        publish_json(run.progress, {"stage": "sort", "step": "merging"})
        with serving(make_server(Outlook([tmp_path]), Access.to("127.0.0.1"), 0)) as server:
            page.open(server.url)
            page.wait_for("sort: merging, on GPU 1")


def test_a_failure_is_told_with_advice(tmp_path):
    """A failed one says its class, message and advice, and what was found on the way."""
    run = make_ended(
        tmp_path,
        "rec",
        "gpu_out_of_memory",
        error_class="GPUOutOfMemoryError",
        error_message="out of memory",
        advice="Use a larger GPU.",
        stage="sort",
        retries_used=3,
    )
    view = view_of(run.results)
    assert (view.kind, view.status, view.attempt) == ("failed", "failed: gpu out of memory", 4)
    assert view.failure.title == "GPUOutOfMemoryError in stage sort"
    assert (view.failure.message, view.failure.advice) == ("out of memory", "Use a larger GPU.")
    assert dict(view.stages)["sort"] == "failed"


def test_damaged_files_are_no_reason_to_stop(tmp_path):
    """What a crash or another program has left is told as unknown, and the others are shown."""
    run = make_run(tmp_path, "torn")
    run.journal.path.write_text('{"no": "event"}\n')
    make_ended(tmp_path, "fine")
    outlook = Outlook([tmp_path])
    views = {view.name: view.kind for view in outlook.look().views}
    outlook.close()
    assert views == {"torn": "unknown", "fine": "sorted"}


def test_who_waits_is_known_from_the_roster(tmp_path):
    """A batch at work tells which recordings wait, also those that failed before; a dead one leaves them not begun."""
    folder = tmp_path / "sorted_fake"
    make_ended(tmp_path, "failed", "recording_unreadable")
    make_ended(tmp_path, "done")
    outlook = Outlook([tmp_path])

    def kinds() -> dict[str, str]:
        outlook._search_at_s = 0.0
        return {view.name: view.kind for view in outlook.look().views}

    with announced([folder / name for name in ("new", "failed", "done")], n_parallel=2):
        assert kinds() == {"new": "waiting", "failed": "waiting", "done": "sorted"}
        (roster,) = read_rosters(folder)
        assert outlook.look().n_parallel == 2
        assert outlook.look().n_gpus == roster.n_gpus == 0
        dead = {
            **json.loads(roster.path.read_text()),
            "identity": "another boot",
            "recordings": ["new", "../escape", "..", ""],
        }
    assert kinds() == {"failed": "failed", "done": "sorted"}
    publish_json(folder / ".spikelab_batch_0.json", dead)
    assert kinds() == {"new": "gone", "failed": "failed", "done": "sorted"}
    publish_json(folder / ".spikelab_batch_0.json", {**dead, "pid": -1})
    assert kinds() == {"new": "gone", "failed": "failed", "done": "sorted"}
    with announced([folder / "later"], n_parallel=1, n_gpus=4):
        (roster,) = read_rosters(folder)
        assert roster.results == (folder / "later",), "what a dead batch left goes with the next"
        kinds()
        assert outlook.look().n_gpus == roster.n_gpus == 4
    publish_json(folder / ".spikelab_batch_0.json", {**dead, "n_gpus": "many"})
    assert read_rosters(folder) == []
    outlook.close()


@pytest.mark.parametrize(
    "kinds, standing, headline",
    [
        ([], "empty", "No sort yet"),
        (["sorted", "sorted"], "finished", "Finished: 2 recordings sorted"),
        (["sorted", "failed"], "finished", "Finished: 1 of 2 recordings sorted"),
        (["sorted", "waiting"], "running", "1 of 2 recordings sorted"),
        (["gone", "sorted"], "gone", "The process that ran this batch is gone: 1 of 2 recordings sorted"),
    ],
)
def test_the_headline_tells_where_the_batch_stands(kinds, standing, headline):
    """A batch is at work, over, or left by its process; it is over once nothing waits or runs."""
    batch = summary([View(id=str(k), name="", folder="", kind=kind, status="") for k, kind in enumerate(kinds)])
    assert (batch.standing, batch.headline) == (standing, headline)


def test_the_time_left_is_what_the_sorted_ones_say():
    """Seconds of work per second of recording count, else the estimate; nothing is promised for one that lags."""

    def view(kind: str, **more: float) -> View:
        return View(id="", name="", folder="", kind=kind, status="", **more)

    def left(*views: View, n_parallel: int = 1, n_gpus: int = 0) -> float | None:
        return summary(with_time_left(views), n_parallel, n_gpus).left_s

    done, waiting = view("sorted", elapsed_s=100.0, recorded_s=50.0), view("waiting")
    running = view("running", elapsed_s=30.0, recorded_s=25.0, estimated_s=500.0)
    assert left(done, running, waiting) == 20.0 + 100.0
    assert left(done, running, waiting, waiting, n_parallel=2) == 110.0
    assert left(done, running, waiting, n_parallel=4) == 100.0
    assert left(running, waiting) == 470.0 + 500.0
    assert left(view("running", elapsed_s=30.0), waiting) is None
    assert left(done, view("running", elapsed_s=300.0, recorded_s=25.0)) is None
    assert left(done, view("running", elapsed_s=300.0, recorded_s=25.0, step_left_s=7.0)) == 7.0
    assert left(done, view("running", elapsed_s=300.0, recorded_s=25.0), waiting, waiting) == 200.0
    assert left(done) is None


def test_the_time_left_counts_gpus_where_they_are_fewer_than_recordings():
    """Sorts have a GPU one after the other, however many recordings are in flight; what is sorted needs none."""

    def view(kind: str, **more: float) -> View:
        return View(id="", name="", folder="", kind=kind, status="", **more)

    def left(*views: View, n_gpus: int) -> float | None:
        return summary(with_time_left(views), 3, n_gpus).left_s

    done, waiting = view("sorted", elapsed_s=100.0, recorded_s=50.0, sort_frac=0.75), view("waiting")
    before = view("running", elapsed_s=20.0, recorded_s=50.0, stages=(("load", "now"), ("sort", "todo")))
    behind = view("running", elapsed_s=80.0, recorded_s=50.0, stages=(("sort", "done"), ("waveforms", "now")))
    assert left(done, waiting, waiting, waiting, n_gpus=0) == 100.0
    assert left(done, waiting, waiting, waiting, n_gpus=1) == 225.0
    assert left(done, waiting, waiting, waiting, n_gpus=2) == 112.5
    assert left(done, before, behind, waiting, n_gpus=1) == 0.75 * (80.0 + 100.0)
    estimated = view("running", elapsed_s=0.0, estimated_s=200.0, sort_frac=0.5)
    assert left(estimated, waiting, waiting, n_gpus=1) == 0.5 * 600.0
    assert left(view("sorted", elapsed_s=100.0), waiting, waiting, n_gpus=1) == 100.0, (
        "who knows no shares sets no limit"
    )


def test_a_process_elsewhere_is_not_taken_for_dead(tmp_path):
    """Only a process of this machine can be proven gone."""
    folder = tmp_path / "sorted_fake"
    folder.mkdir()
    card = {**host.process_card(), "hostname": "another", "n_parallel": 1, "recordings": ["rec"], "schema": 1}
    publish_json(folder / ".spikelab_batch_0.json", card)
    assert view_of(folder / "rec", read_rosters(folder)[0]).kind == "waiting"
