"""P1 to P5: processes. Real ones, in private PID namespaces; scripts and sorters are killed, stopped and deaf."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.harness import OPTIONS, InNamespace, InNamespaces, JobOf, Tally, Undisturbed, slow, sort_options

pytestmark = pytest.mark.timeout(300)
SHORT = [1.0, 1.0, 20.0]
"""Patience after SIGTERM, SIGABRT and SIGKILL (s); the whole set also has the real one."""


@pytest.mark.parametrize("n", [5, pytest.param(100, marks=[slow, pytest.mark.timeout(600)])])
def test_nothing_survives_the_orchestrator(
    n: int, undisturbed: Undisturbed, in_namespaces: InNamespaces, tmp_path: Path, seed: int, tally: Tally
) -> None:
    """P1: kill -9 of the orchestrator at any instant leaves no process of the run within 5 s, and its folders free."""
    n_parts = 1 if n < 10 else 4
    parts = [{"folder": str(tmp_path / str(k)), "seed": seed + k, "n": n // n_parts} for k in range(n_parts)]
    seen = in_namespaces(
        "kill_orchestrator",
        parts,
        file=undisturbed.file,
        template=undisturbed.inter,
        behaviours=["leave children", "ignore signals"],
        options=OPTIONS,
        limit_s=500,
    )
    left = [rest for part in seen for rest in part["left"]]
    early = sum(part["early"] for part in seen)
    gone_s = sorted(second for part in seen for second in part["gone_s"])
    remark = f"all gone after {1000 * gone_s[len(gone_s) // 2]:.0f} ms (median), {1000 * gone_s[-1]:.0f} ms (longest)"
    tally("P1", "kill -9 of the orchestrator", n, n - len(left), remark)
    tally("P14", "kill -9 of the orchestrator", n, n - early, "never free while a process of the run lived")
    assert not left
    assert early == 0
    assert sum(count > 3 for part in seen for count in part["n_alive"]) > n / 4, "too few kills came late"


def test_a_fork_of_the_script_hides_nothing(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P1, P14: kill -9 of a script is noticed, and its folder is free, while a process that it has forked lives on."""
    seen = in_namespace("forked", folder=str(tmp_path))
    held = seen["gone_s"] is not None and seen["is_free"]
    tally("P1", "kill -9 of a script of which a fork lives on", 1, int(held))
    assert seen["fork_lives"], "it did not outlive the script, so nothing was tried"
    assert held, seen


def test_nothing_survives_the_guardian(
    undisturbed: Undisturbed, job_of: JobOf, in_namespace: InNamespace, tally: Tally
) -> None:
    """P1: kill -9 of the guardian leaves no process of the run once the orchestrator has noticed."""
    seen = in_namespace(
        "kill_guardian", job=job_of("run", "leave children"), template=undisturbed.inter, script_too=False
    )
    tally("P1", "kill -9 of the guardian", 1, not seen["left"])
    assert not seen["left"]
    (record,) = seen["report"]["records"]
    assert record["status"] == "sorter_crashed"
    assert "SIGKILL" in record["error_message"]


def test_the_next_call_ends_survivors_of_both(
    undisturbed: Undisturbed, job_of: JobOf, in_namespace: InNamespace, tally: Tally, reference: dict[str, str]
) -> None:
    """P10: when orchestrator and guardian are killed together, the next call ends the survivors and finishes."""
    seen = in_namespace(
        "kill_guardian",
        job=job_of("run", "leave children", attempts=1),
        template=undisturbed.inter,
        script_too=True,
    )
    held = not seen["left"] and seen["content"] == reference
    tally("P10", "kill -9 of orchestrator and guardian together", 1, held, f"{seen['n_survivors']} survivors ended")
    assert seen["n_survivors"] >= 2, "nothing survived, so nothing was tried"
    assert not seen["left"]
    assert [record["status"] for record in seen["report"]["records"]] == ["success"]
    assert seen["content"] == reference


# ------------------------------------------------------------------------------------------------- it ends


@pytest.mark.parametrize(
    "behaviour,frozen,patience,limit_s",
    [
        ("ignore signals", False, SHORT, 5),
        ("hang", True, SHORT, 6),
        pytest.param("ignore signals", False, None, 20, marks=slow),
        pytest.param("hang", True, None, 25, marks=slow),
    ],
)
def test_a_worker_that_does_not_listen_is_ended(
    behaviour: str,
    frozen: bool,
    patience: list[float] | None,
    limit_s: float,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    tally: Tally,
) -> None:
    """P2: every stop ends: a deaf worker by SIGABRT, with its stack in the log, and a stopped one by SIGKILL."""
    seen = in_namespace(
        "interrupt",
        job=job_of("run", behaviour),
        template=undisturbed.inter,
        how="script",
        signals=["SIGINT"],
        patience=patience,
        stop_worker=frozen,
    )
    exits = [attempt["exit_name"] for attempt in seen["report"]["attempts"]]
    expected = ["SIGKILL"] if frozen else ["SIGABRT"]
    fault = "a stopped worker (SIGSTOP)" if frozen else "a worker that ignores SIGTERM"
    tally("P2", fault, 1, exits == expected and seen["seconds"] < limit_s)
    assert exits == expected
    assert seen["seconds"] < limit_s
    if not frozen:
        assert "_ignore_signals" in seen["log"], "no stack of the hang"
        assert "Fatal Python error: Aborted" in seen["log"]


@pytest.mark.parametrize(
    "frozen,kill_s",
    [("worker", 1.0), ("its child", 1.0), pytest.param("its child", 60.0, marks=slow)],
)
def test_what_cannot_be_killed_is_named(
    frozen: str, kill_s: float, in_namespace: InNamespace, tmp_path: Path, tally: Tally
) -> None:
    """P2: a process that survives SIGKILL is reported as unkillable, in time, by its number."""
    seen = in_namespace("unkillable", folder=str(tmp_path), frozen=frozen, kill_s=kill_s)
    if "skip" in seen:
        pytest.skip(seen["skip"])
    in_time = seen["seconds"] < kill_s + 5
    tally("P2", "a process that survives SIGKILL (frozen by cgroup v1)", 1, seen["named"] and in_time)
    assert seen["still_there"], "it was killed after all, so nothing was tried"
    assert seen["named"], seen["message"]
    assert in_time, "the same stop was tried again"


def test_a_process_of_another_user_spares_nobody(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P1: a child that we may not kill (sudo) does not keep the guardian from ending the others."""
    seen = in_namespace("not_ours", folder=str(tmp_path), real_root=True)
    held = seen["worker_gone"] and seen["own_gone"]
    fault = "the orchestrator ends while a child runs as another user (sudo)"
    tally("P1", fault, 1, int(held), "that child itself runs on")
    assert seen["foreign_lives"], "the child could be killed, so nothing was tried"
    assert held, seen


# --------------------------------------------------------------------------------------- the batch goes on

DEATHS = {
    "segfault": "SIGSEGV",
    "abort": "SIGABRT",
    "exit 0": "exit 0",
    "exit 3": "exit 3",
    "kill": "SIGKILL",
    "unknown": "exit 1",
}


def test_a_death_is_one_outcome_and_the_batch_goes_on(
    undisturbed: Undisturbed, job_of: JobOf, in_namespace: InNamespace, tally: Tally, reference: dict[str, str]
) -> None:
    """P3: a sorter that dies, however it dies, costs its own recording and no other."""
    jobs = [job_of(behaviour, behaviour) for behaviour in [*DEATHS, "ok"]]
    seen = in_namespace("batch", jobs=jobs, template=undisturbed.inter)
    records = seen["report"]["records"]
    named = [
        record["status"] in {"sorter_crashed", "failed"} and record["attempts"][-1]["exit_name"] == name
        for record, name in zip(records, DEATHS.values(), strict=False)
    ]
    tally("P3", "segfault, abort, exit 0 without results, exit 3, SIGKILL, unknown error", len(DEATHS), sum(named))
    assert all(named), records
    assert records[-1]["status"] == "success"
    assert seen["content"][-1] == reference
    assert not seen["left"]
    assert seen["free"]


def test_strangers_are_left_alone(in_namespace: InNamespace, tmp_path: Path, tally: Tally) -> None:
    """P4: a similar name, another run's cookie, or a number that was ours once: none of them is signalled."""
    seen = in_namespace("bystanders", folder=str(tmp_path / "run"))
    survived = seen["survived"]
    tally("P4", "bystanders: similar name and cookie, recycled process numbers", len(survived), sum(survived.values()))
    assert seen["child_ended"], "what the dead run left was not ended, so nothing was tried"
    assert seen["numbers_used_again"], "no number was used again, so nothing was tried"
    assert all(survived.values()), survived


# -------------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize(
    "how,signals,returncode,reported",
    [
        ("script", ["SIGINT"], None, True),
        ("script", ["SIGINT", "SIGINT"], None, True),
        ("script", ["SIGTERM"], -15, False),
        ("command line", ["SIGINT"], 130, True),
        ("command line", ["SIGTERM"], 143, True),
        ("command line", ["SIGINT", "SIGINT"], 130, True),
    ],
)
def test_a_signal_stops_in_time(
    how: str,
    signals: list[str],
    returncode: int | None,
    reported: bool,
    undisturbed: Undisturbed,
    job_of: JobOf,
    in_namespace: InNamespace,
    tally: Tally,
    tmp_path: Path,
) -> None:
    """P5: Ctrl-C, twice in a row too, and SIGTERM stop in time, with the report "interrupted" and exit 130 or 143.

    A script of the user's keeps Python's own way with SIGTERM: it dies, and all that it started with it.
    """
    name = Path(undisturbed.file).name
    job = job_of("run") if how == "script" else {
        "file": undisturbed.file, "inter": str(tmp_path / "inter" / name), "results": str(tmp_path / "results" / name)
    }  # fmt: skip
    job["options"] = sort_options("hang")
    seen = in_namespace(
        "interrupt",
        job=job,
        template=undisturbed.inter,
        how=how,
        signals=signals,
        config=_config_file(tmp_path) if how == "command line" else None,
    )
    status = (seen["report"] or {}).get("status")
    held = seen["seconds"] < 12 and (status == "interrupted") == reported
    tally("P5", f"{' and '.join(signals)} to a {how}", 1, held)
    assert held, seen
    if returncode is not None:
        # A second Ctrl-C may meet Python on its way out: it dies of the signal, and the shell says 130 all the same.
        assert seen["returncode"] in {returncode, 128 - returncode if len(signals) > 1 else returncode}, seen
    else:
        assert "KeyboardInterrupt" in seen["complained"]


@pytest.mark.parametrize(
    "way,returncode,outcome",
    [
        ("foreground", 129, "interrupted"),
        pytest.param("left behind", 0, "success", marks=slow),
        pytest.param("script", -1, None, marks=slow),
        pytest.param("nohup", 0, "success", marks=slow),
        pytest.param("no stdin", 0, "success", marks=slow),
    ],
)
def test_a_terminal_may_close(
    way: str,
    returncode: int,
    outcome: str | None,
    undisturbed: Undisturbed,
    in_namespace: InNamespace,
    tally: Tally,
    tmp_path: Path,
    reference: dict[str, str],
) -> None:
    """P5: a terminal that closes stops the sort in it as Ctrl-C does, and one that was left behind sorts on.

    Left behind are a command under nohup, in a background that the shell does not tell, and without any input. A
    script of the user's keeps Python's own way: it dies, and all that it started with it.
    """
    name = Path(undisturbed.file).name
    job = {
        "file": undisturbed.file, "inter": str(tmp_path / "inter" / name), "results": str(tmp_path / "results" / name)
    }  # fmt: skip
    behaviour = "hang" if outcome != "success" else "sleep"
    job["options"] = sort_options(behaviour)
    seen = in_namespace(
        "terminal", job=job, template=undisturbed.inter, way=way, config=_config_file(tmp_path, behaviour)
    )
    held = seen["returncode"] == returncode and (seen["report"] or {}).get("status") == outcome
    tally("P5", f"the terminal closes: {way}", 1, held)
    assert held, seen
    if outcome == "success":
        assert seen["content"] == reference


def _config_file(folder: Path, behaviour: str = "hang") -> str:
    """Write the settings; this process does not know the fake sorter."""
    path = folder / "config.toml"
    path.write_text(f"""
[sorter]
sorter_name = "fake"
sorter_params = {{behaviour = "{behaviour}"}}
[execution]
n_jobs = 1
[compilation]
save_raw_pkl = true
[figures]
create_figures = false
""")
    return str(path)
