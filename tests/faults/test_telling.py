"""P21 to P23: what a person is told of a bad night."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults.harness import WHOLE, InNamespace, JobOf, Tally, Undisturbed, slow, sort_options
from support import simulate_maxwell

pytestmark = pytest.mark.timeout(300)

LIMITS = {**WHOLE, "sorter_inactivity_base_s": 3.0, "sorter_inactivity_per_min_s": 0.0, "oom_retry_max": 0}
EXPECTED = {
    "hang": ("sorter_timeout", "SorterTimeoutError", "SIGABRT"),
    "segfault": ("sorter_crashed", "SorterCrashedError", "SIGSEGV"),
    "fill disk": ("disk_exhausted", "DiskExhaustionError", None),
    "leak": ("oom_host_ram", "HostOutOfMemoryError", "SIGKILL"),
    "silent": ("insufficient_activity", "InsufficientActivityError", None),
    "ok": ("success", None, "exit 0"),
}
MEMORY_BYTES = 1_500_000_000


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Undisturbed, in_namespace: InNamespace
) -> dict[str, Any]:
    """Six recordings, one after another: a hang, a segfault, a full disk, a leak, a silent one, and a good one."""
    folder = tmp_path_factory.mktemp("night")
    silent = folder / "silent.raw.h5"
    simulate_maxwell(silent, n_units=0, duration_s=4, noise_uV=5.0)
    jobs = [_job(behaviour, folder, undisturbed, silent) for behaviour in EXPECTED]
    seen = in_namespace(
        "batch",
        jobs=jobs,
        template=undisturbed.inter,
        small_disk={str(folder / "disk"): "60m"},
        memory_bytes=MEMORY_BYTES,
        limit_s=250,
    )
    if "skip" in seen:
        pytest.skip(seen["skip"])
    return dict(seen)


def _job(behaviour: str, folder: Path, undisturbed: Undisturbed, silent: Path) -> dict[str, Any]:
    place = folder / "disk" / "run" if behaviour == "fill disk" else folder / behaviour
    options = {**sort_options("ok" if behaviour == "silent" else behaviour), **LIMITS}
    return {
        "file": str(silent) if behaviour == "silent" else undisturbed.file,
        "inter": str(place / "inter"),
        "results": str(folder / behaviour / "results"),
        "options": options,
    }


@pytest.mark.parametrize("behaviour", EXPECTED)
def test_each_failure_is_named(behaviour: str, night: dict[str, Any], tally: Tally) -> None:
    """P21: one outcome each, in order: five named failures, with advice and the exit's name, and one success."""
    record = night["report"]["records"][list(EXPECTED).index(behaviour)]
    status, error, exit_name = EXPECTED[behaviour]
    held = (record["status"], record["error_class"]) == (status, error)
    tally("P21", "a batch: hang, segfault, full disk, leak, silence, success", 1, held)
    assert held, record
    assert record["advice"] or status == "success"
    assert exit_name in {None, record["attempts"][-1]["exit_name"]}, record


def test_the_batch_ends_well(night: dict[str, Any], reference: dict[str, str]) -> None:
    """P3: after five failures the sixth recording is sorted, and nothing is left running or locked."""
    assert night["content"][-1] == reference
    assert not night["left"]
    assert night["free"]


def test_it_takes_the_sum_of_the_limits(night: dict[str, Any]) -> None:
    """P21: the whole batch takes about as long as its limits add up to."""
    assert night["seconds"] < 60


def test_the_journal_explains_each_stop(night: dict[str, Any], tally: Tally) -> None:
    """P22: for each worker that was stopped: who decided, which reading and limit, what it took, how it ended."""
    explained, stopped = 0, 0
    for behaviour, events in zip(EXPECTED, night["events"], strict=True):
        for number, event in enumerate(events):
            if event["event"] == "stopping":
                stopped += 1
                after = [later["event"] for later in events[number:]]
                tripped = [e for e in events[:number] if e["event"] == "watch" and e["kind"] == "tripped"]
                explained += bool(
                    tripped
                    and event["reason"] == tripped[-1]["sensor"]
                    and "stop" in after[1]
                    and "worker_ended" in after
                )
                assert "stop" in event["detail"] or "limit" in event["detail"], (behaviour, event)
    tally("P22", "stops by the watch, explained in the journal", stopped, explained)
    assert stopped >= 1
    assert explained == stopped


def test_replaying_the_journal_gives_the_status(night: dict[str, Any], tally: Tally) -> None:
    """P22: the last word of the journal is the status that was reported."""
    replayed = [[e["status"] for e in events if e["event"] == "run_ended"] for events in night["events"]]
    reported = [record["status"] for record in night["report"]["records"]]
    same = [statuses[-1:] == [status] for statuses, status in zip(replayed, reported, strict=True)]
    tally("P22", "the journal folded, against the report", len(same), sum(same))
    assert all(same), list(zip(replayed, reported, strict=True))


def test_a_failure_has_a_report_too(night: dict[str, Any], tally: Tally) -> None:
    """P23: each recording has a report for programs and one for people, which say why, and what to do."""
    good = 0
    for record, files in zip(night["report"]["records"], night["files"], strict=True):
        page, known = (files["sorting_report.md"] or "").replace("\\_", "_"), files["recording_report.json"]
        good += bool(known and known["status"] == record["status"] and (record["advice"] or "") in page)
        if record["status"] != "success":
            assert record["error_message"][:40] in page
    tally("P23", "reports of a batch with five failures", len(night["files"]), good)
    assert good == len(night["files"])
    hang = night["files"][0]
    assert "_hang" in hang["sorting.log"], "no stack of the hang in the log"
    assert "_hang" in str(hang["recording_report.json"]), "no stack of the hang in the report"


def test_a_full_disk_is_explained(night: dict[str, Any], tally: Tally) -> None:
    """P23: of a full disk a report says what fills it."""
    report = night["files"][2]["disk_exhaustion_report.json"]
    tally("P23", "what fills the disk, after it was filled", 1, bool(report))
    assert report["top_consumers"]


# --------------------------------------------------------------------------------------------------- loud logs

NOISE = {
    "flood": ("exit 3", "no end"),
    "draw bars": ("exit 3", "the last"),
    "shout": ("exit 0", ""),
}


@pytest.mark.parametrize("megabytes", [300, pytest.param(1000, marks=slow)])
def test_a_loud_sorter_is_told_in_short(
    megabytes: int,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    tally: Tally,
    reference: dict[str, str],
) -> None:
    """P21: a log without an end, without lines or without text gives a report that can be read, and fills no memory."""
    jobs = [job_of(how, how, megabytes=megabytes) for how in NOISE]
    seen = in_namespace("batch", jobs=jobs, template=undisturbed.inter, parallel=3)
    Path(jobs[0]["results"], "sorting.log").unlink()  # pytest keeps the folders of three runs
    told = [
        record["attempts"][-1]["exit_name"] == exit_name and words in str(files["recording_report.json"])
        for record, files, (exit_name, words) in zip(
            seen["report"]["records"], seen["files"], NOISE.values(), strict=True
        )
    ]
    tally("P21", f"{megabytes} MB of log without a line, 10,000 progress bars, 1 MB to stderr", len(NOISE), sum(told))
    assert all(told), seen["report"]["records"]
    assert seen["content"][-1] == reference
    longest = max(len(line) for files in seen["files"] for line in files["sorting_report.md"].splitlines())
    assert longest < 2000, "a line that nobody reads"
    assert "|####" in str(seen["files"][1]["recording_report.json"])
    assert seen["report"]["records"][0]["error_message"].isprintable()
    assert seen["peak_bytes"] < 250_000_000


# ------------------------------------------------------------------------------------------------------ limits

REFUSALS = ("Too many open files", "Resource temporarily unavailable", "can't start new thread")


@pytest.mark.parametrize(
    "limit,n",
    [
        ("n_files", 8),
        ("n_processes", 6),
        pytest.param("n_files", 5, marks=slow),
        pytest.param("n_files", 12, marks=slow),
        pytest.param("n_processes", 4, marks=slow),
    ],
)
def test_a_limit_of_the_machine_is_told(
    limit: str, n: int, job_of: JobOf, in_namespace: InNamespace, tally: Tally
) -> None:
    """P21: a sort that runs into the number of open files or processes ends, and its report has the kernel's words."""
    seen = in_namespace("scarce", job=job_of("run"), **{limit: n})
    if "skip" in seen:
        pytest.skip(seen["skip"])
    statuses = [record["status"] for record in seen["records"]]
    # Where not even a thread can be started, the call itself is the error.
    told = "\n".join([*(str(record["error_message"]) for record in seen["records"]), seen["told"], seen["complained"]])
    held = "success" not in statuses and any(refusal in told for refusal in REFUSALS)
    tally("P21", f"{n} {'open files' if limit == 'n_files' else 'processes and threads'} at most", 1, held)
    assert held, seen
    assert not seen["left"]
