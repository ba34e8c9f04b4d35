"""Drift, single spikes and contamination in the report."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from spikelab.spike_sorting.backends.overview import Overview, read_overview, write_overview
from spikelab.spike_sorting.report import generate_sorting_report, wording, write_report


def figure_titled(page, title):
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL).group(1))
    titles = re.findall(r"<h3>(.*?)</h3>\s*<div class=\"canvas\" data-figure=\"(\d+)\"", page)
    return next(figures[int(index)] for name, index in titles if name.startswith(title))


@pytest.mark.parametrize("n_depths", [1, 5])
def test_spikes_and_drift_are_drawn_over_one_axis_of_time(finished, n_depths):
    """Every spike of the sample has its time, depth and amplitude, and each depth of drift its trace below them."""
    run, result = finished
    overview = run.add_overview(n_depths=n_depths)
    write_report(run.folder, result)
    note, page = run.texts()
    spikes, *traces = figure_titled(page, "Depth of single spikes, and drift")["data"]
    order = np.argsort(overview.amplitude, kind="stable")
    np.testing.assert_allclose(spikes["x"], overview.time_s[order], rtol=1e-4)
    np.testing.assert_allclose(spikes["y"], overview.depth_um[order], rtol=1e-3)
    np.testing.assert_allclose(spikes["marker"]["color"], overview.amplitude[order], rtol=1e-3)
    assert len(traces) == n_depths
    for trace, drift_um in zip(traces, overview.drift_um.T, strict=True):
        np.testing.assert_allclose(trace["y"], drift_um, rtol=1e-3)
        np.testing.assert_allclose(trace["x"], overview.drift_time_s, rtol=1e-4)
    words = f"Drift was estimated at {n_depths} depth"
    assert words in note
    assert page.count(words) == 2


def test_without_drift_correction_a_line_says_so(finished):
    """A sort with nblocks = 0 has its spikes drawn, and says that drift was not estimated."""
    run, result = finished
    run.add_overview()
    write_report(run.folder, result)
    note, page = run.texts()
    assert len(figure_titled(page, "Depth of single spikes")["data"]) == 1
    for text in (note, page):
        assert "Drift was not estimated (nblocks = 0)." in text
    assert "3,000 of 30,000 spikes, drawn at random" in page


def test_a_sorter_that_tells_nothing_of_drift_is_not_asked(finished):
    """Without an overview the report is as it was, and says nothing of drift."""
    run, result = finished
    write_report(run.folder, result)
    note, page = run.texts()
    assert "Depth of single spikes" not in page
    assert "Drift" not in note


def test_the_results_folder_alone_is_enough(finished, tmp_path):
    """A results folder that was moved, without its intermediate files, gives the same figure again."""
    run, result = finished
    run.add_overview(n_depths=2)
    write_report(run.folder, result)
    before = figure_titled(run.texts()[1], "Depth of single spikes")
    shutil.rmtree(run.folder.inter)
    moved = tmp_path / "moved"
    shutil.move(run.folder.results, moved)
    page = generate_sorting_report(moved).read_text(encoding="utf-8")
    assert figure_titled(page, "Depth of single spikes") == before


def test_a_long_recording_has_no_more_points_than_pixels(finished):
    """Drift of hours is thinned, and drift that is not a number is left out."""
    run, result = finished
    overview = run.add_overview()
    times_s = np.arange(20_000, dtype="float32")
    drift_um = np.zeros((20_000, 1), "float32")
    drift_um[:10] = np.nan
    values = {**vars(overview), "drift_time_s": times_s, "drift_um": drift_um, "drift_depth_um": np.zeros(1, "float32")}
    write_overview(run.folder.overview, Overview(**values))
    write_report(run.folder, result)
    figure = figure_titled(run.texts()[1], "Depth of single spikes")
    assert len(figure["data"][1]["x"]) <= 1000
    assert figure["data"][1]["y"][0] is None
    assert figure["layout"]["yaxis2"]["range"] == [-5, 5]


@pytest.mark.parametrize("damage", ["cut", "foreign", "odd", "text"])
def test_a_file_that_is_no_overview_is_as_none(make_run, damage):
    """What cannot be read, lacks arrays or has arrays that do not fit together is left out of the report."""
    run = make_run()
    overview = run.add_overview(n_depths=2)
    path = run.folder.overview
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        np.savez(path, samples=np.zeros(3))
    else:
        wrong = {"odd": overview.time_s[1:], "text": np.full(overview.time_s.shape, "<script>")}[damage]
        write_overview(path, Overview(**{**vars(overview), "time_s": wrong}))
    assert read_overview(path) is None


def test_what_kilosort_thinks_of_a_unit_is_told(finished):
    """Contamination has a histogram and, beside Kilosort's label, a column of the units."""
    run, result = finished
    write_report(run.folder, result)
    page = run.texts()[1]
    assert sum(map(sum, (trace["y"] for trace in figure_titled(page, "contamination (%)")["data"]))) == 10
    cells = cells_of(page, 107)
    assert (cells["contamination (%)"], cells["label"]) == ("10.5", "good")


def cells_of(page, unit):
    """Return the cells of a unit in the table, by heading."""
    headings = re.findall(r"<th aria-sort[^>]*><button type=\"button\">(.*?)</button>", page)
    row = re.search(rf"<tr [^>]*><td[^>]*><button[^>]*>{unit}</button></td>.*?</tr>", page, re.DOTALL).group(0)
    return dict(zip(headings, re.findall(r"<td[^>]*>(.*?)</td>", row), strict=True))


def test_latency_after_stimulation_is_told_of_each_unit(make_run, make_units):
    """Units that answer have their latency in the table, and those that do not a dash."""
    run, units = make_run(), make_units()
    for attributes in units.neuron_attributes:
        attributes["stim_latency_ms"] = 12.5 if attributes["unit_id"] == 107 else float("nan")
    write_report(run.folder, run.add_units(units))
    page = run.texts()[1]
    latencies = [cells_of(page, unit)["latency after stimulation (ms)"] for unit in (107, 105)]
    assert latencies == ["12.5", wording.UNKNOWN]


def test_what_is_known_of_no_unit_has_no_column(make_run, make_units):
    """A number that is known of no unit takes no room in the table."""
    run = make_run()
    units = make_units()
    for attributes in units.neuron_attributes:
        del attributes["ks_contam_pct"]
    write_report(run.folder, run.add_units(units))
    page = run.texts()[1]
    assert "SNR</button>" in page
    assert "contamination" not in page
    assert "latency after stimulation" not in page
