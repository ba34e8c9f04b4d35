"""The parts of a report: the log, the statistics, the words, and the schema."""

from __future__ import annotations

import json

import pytest
from support import schema_of, violations

from spikelab.spike_sorting.report import extract_unit_quality_stats, parse_sorting_log, write_report
from spikelab.spike_sorting.report.curation_steps import curation_steps, thresholds
from spikelab.spike_sorting.report.plain import to_plain
from spikelab.spike_sorting.report.settings_used import changed_settings
from spikelab.spike_sorting.report.wording import UNKNOWN, count, duration, number

# ------------------------------------------------------------------------------------------------------- log

LOG = """
12:00 INFO    spikelab: stage load
12:00 INFO    spikelab: stage sort
x.py:3: RuntimeWarning: few spikes
x.py:3: RuntimeWarning: few spikes
12:01 ERROR   spikelab: phase sort failed
torch.OutOfMemoryError: CUDA out of memory
"""


def test_a_log_is_summed_up():
    """Stages, warnings, errors and last lines are found, each warning once."""
    parsed = parse_sorting_log(LOG)
    assert parsed["stages"] == ["load", "sort"]
    assert parsed["warnings"] == ["x.py:3: RuntimeWarning: few spikes"]
    assert [line.split()[-1] for line in parsed["errors"]] == ["failed", "memory"]
    assert len(parsed["last_lines"]) == 6


@pytest.mark.parametrize(
    "text, lines",
    [
        ("", []),
        ("10%\r 50%\r100%\ndone", ["100%", "done"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("\x1b[31mred\x1b[0m\x00\n\n", ["red"]),
    ],
)
def test_lines_are_as_a_terminal_shows_them(text, lines):
    """Overwritten progress, Windows line ends, colours and empty lines do not reach the report."""
    assert parse_sorting_log(text)["last_lines"] == lines


def test_a_log_is_bounded():
    """However long a log and its lines are, 30 lines of at most about 500 characters stay."""
    lines = parse_sorting_log("y" * 100_000 + "\n" + "x\n" * 1000)["last_lines"]
    assert len(lines) == 30
    assert len(parse_sorting_log("y" * 100_000)["last_lines"][0]) < 510


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_of_units(make_units, tmp_path):
    """The same numbers come from the units and from their file, and they are strict JSON."""
    sd = make_units()
    stats = extract_unit_quality_stats(sd)
    sd.save(tmp_path / "units.h5")
    assert extract_unit_quality_stats(tmp_path / "units.h5") == stats
    assert stats["n_units"] == 10
    assert stats["amplitude_uV"] == {"n": 10, "min": 30, "q25": 57, "median": 84, "q75": 111, "max": 138}
    assert stats["firing_rate_Hz"]["max"] == pytest.approx(9.0)
    json.dumps(stats, allow_nan=False)


def test_unknown_values_are_not_counted(make_units):
    """NaN and infinity enter no statistic; without any value the statistics are None."""
    sd = make_units(2, snr=float("nan"), amplitude=float("inf"))
    stats = extract_unit_quality_stats(sd)
    assert stats["snr"]["n"] == stats["amplitude_uV"]["n"] == 1
    assert extract_unit_quality_stats(make_units(0))["snr"]["median"] is None


def test_statistics_need_a_file(tmp_path):
    """A path without units is the usual error of a missing file."""
    with pytest.raises(FileNotFoundError):
        extract_unit_quality_stats(tmp_path)


# -------------------------------------------------------------------------------------------- words and JSON


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.25, "0.25 s"),
        (59.0, "59 s"),
        (200.4, "3 min 20 s"),
        (3900, "1 h 05 min"),
        (float("nan"), UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_durations_are_readable(seconds, text):
    """A duration has two units at most, and an unknown one is a dash."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "value, text", [(20_000.0, "20,000"), (0.04761, "0.0476"), (12, "12"), (12345.6, "12,346"), ("x", UNKNOWN)]
)
def test_numbers_are_readable(value, text):
    """Counts are written in full, measured numbers with three digits."""
    assert number(value) == text


def test_one_unit_is_not_one_units():
    """A count agrees with its noun."""
    assert (count(1, "unit"), count(0, "unit")) == ("1 unit", "0 units")


def test_anything_becomes_strict_json(tmp_path):
    """NaN is None, infinities are texts, and what JSON does not know becomes text."""
    import numpy as np

    values = {"a": float("nan"), "b": np.float64("inf"), 3: np.arange(2), "p": tmp_path, "o": 1j, "s": {1}}
    plain = to_plain(values)
    assert plain == {"a": None, "b": "inf", "3": [0, 1], "p": str(tmp_path), "o": "1j", "s": [1]}
    json.dumps(plain, allow_nan=False)


def test_an_unknown_history_tells_nothing():
    """A history without its keys has no steps and no thresholds, and a foreign criterion keeps its name."""
    assert curation_steps({}) == ()
    assert set(thresholds({}).values()) == {()}
    foreign = {
        "initial": [1, 2],
        "curations": [{"stage": 1, "criterion": "presence_ratio"}],
        "failed": {"presence_ratio": [2]},
    }
    (step,) = curation_steps(foreign)
    assert (step.criterion, step.n_failed, step.n_left, step.threshold) == ("presence_ratio", 1, 1, "")


def test_a_hill_ratio_is_no_percentage():
    """A threshold of Hill's ratio is named as such, and is not drawn on the axis of percentages."""
    history = {
        "initial": [1],
        "curation_parameters": {"isi_max": 0.5, "isi_method": "hill"},
        "curations": [{"stage": 1, "criterion": "isi_violation"}],
        "failed": {},
    }
    assert curation_steps(history)[0].threshold == "at most 0.5 (hill)"
    assert thresholds(history)["isi_violation_pct"] == ()


def test_settings_of_another_version_are_shown():
    """A setting, a group or a sorter that this version does not know is listed by its own name."""
    used = {"config": {"sorter": {"sorter_name": "kilosort9"}, "curation": {"novel": 3}, "other": {"x": True}}}
    names = {change.name: change.value for change in changed_settings(used)}
    assert names == {"sorter_name": "kilosort9", "novel": "3", "x": "yes"}
    assert changed_settings({}) == ()


# ---------------------------------------------------------------------------------------------------- schema


@pytest.mark.parametrize("outcome", ["success", "failure", "bare"])
def test_the_report_for_machines_follows_its_schema(finished, make_run, outcome):
    """What is published validates against the schema that is shipped."""
    run, result = finished
    if outcome == "failure":
        result = run.failure()
    if outcome == "bare":
        run = make_run(folder="bare")
    write_report(run.folder, result, with_pages=False)
    record = json.loads(run.folder.report_json.read_text(encoding="utf-8"))
    assert violations(record, "recording_report") == []
    assert set(record) <= set(schema_of("recording_report")["properties"])
