"""The three files of a report, for success, failure, and everything in between."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from spikelab.spike_sorting.config import KILOSORT4
from spikelab.spike_sorting.outcome import RecordingResult
from spikelab.spike_sorting.remarks import Remark
from spikelab.spike_sorting.report import generate_sorting_report, write_report
from spikelab.spike_sorting.supervision.publish import publish_json
from spikelab.spikedata import SpikeData

HOSTILE = """x"><script>alert('1')</script> `a` | {{ 7 * 7 }} \\ </title>"""


class _Tags(HTMLParser):
    """Collect tags, event handlers and addresses."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def _strict_json(path):
    def refuse(token):
        raise AssertionError(token)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def _figures(page):
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    return json.loads(found.group(1)) if found else []


def test_a_success_is_told_in_three_files(finished):
    """Note and page carry the verdict and the numbers, the JSON the outcome with recording and sorter."""
    run, result = finished
    write_report(run.folder, result)
    note, page = run.texts()
    for text in (note, page):
        assert "Sorted: 10 units found, 4 kept" in text
        assert all(part in text for part in ("kilosort4 4.1.7", "1 min 00 s", "at least 0.05 Hz", "2 min 30 s"))
        assert "1 channel is left out" in text
    record = _strict_json(run.folder.report_json)
    assert RecordingResult.from_dict(record) == result
    assert record["recording"]["n_channels"] == 16
    assert record["sorter"]["version"] == "4.1.7"
    assert record["quality"]["n_units"] == 4


def test_curation_is_told_step_by_step(finished):
    """Every criterion says what it asked for, how many failed it, and how many were left."""
    run, result = finished
    write_report(run.folder, result)
    note, _ = run.texts()
    assert "| ISI violations (stage 1) | at most 1 % | 3 | 6 |" in note
    assert "| waveform spread (stage 2) | at most 1 | 1 | 4 |" in note


def test_only_settings_that_differ_are_listed(finished):
    """A changed setting stands under its flat name with its value and the preset's; the others do not appear."""
    run, result = finished
    write_report(run.folder, result)
    note, _ = run.texts()
    assert r"| snr\_min | 4.0 | 5.0 |" in note
    assert r"kilosort\_params | Th\_learned=7 | none" in note
    assert r"fr\_min" not in note


def test_settings_that_were_chosen_are_listed_with_their_reason(finished):
    """Note, page and JSON say what the sorter was given for this recording, and why; what is doubtful is a note."""
    run, result = finished
    write_report(run.folder, result)
    note, page = run.texts()
    assert r"| do\_CAR | no | A spike is on most of them. |" in note
    assert "<td>do_CAR</td><td>no</td><td>A spike is on most of them.</td>" in page
    assert all("0.6 ms" in text for text in (note, page))
    assert "spikedetect.template_match, clustering_qr.cluster" in run.folder.report_html.read_text(encoding="utf-8")
    (chosen,) = _strict_json(run.folder.report_json)["sorter"]["recommended"]
    assert chosen == {"name": "do_CAR", "value": False, "reason": "A spike is on most of them."}


def test_the_page_draws_units_kept_and_removed(finished):
    """Positions of all units, thresholds and templates are in the plots, in the configured colours."""
    run, result = finished
    write_report(run.folder, result)
    figures = _figures(run.texts()[1])
    kept, removed = (next(t for t in figures[0]["data"] if t.get("name") == name) for name in ("kept", "removed"))
    assert (len(kept["x"]), len(removed["x"])) == (4, 6)
    assert (kept["marker"]["color"], removed["marker"]["color"]) == ("#0072B2", "#D55E00")
    labels = [note["text"] for figure in figures for note in figure["layout"].get("annotations", [])]
    assert {"≥ 4", "≤ 1", "≥ 30", "≥ 50", "unit 107 on 5, 114 µV"} <= set(labels)


def test_figures_are_named_and_saved_as_the_settings_say(finished):
    """Names of the two groups, and the resolution of a figure that is saved from the page, follow the settings."""
    run, result = finished
    run.add_config(KILOSORT4.override(label_kept="good cells", label_removed="the rest", dpi=192))
    write_report(run.folder, result)
    page = run.texts()[1]
    assert {"good cells", "the rest"} <= {trace.get("name") for trace in _figures(page)[0]["data"]}
    assert "the rest by curation" in page
    assert 'data-image-scale="2.0"' in page


def test_the_page_fetches_nothing(finished):
    """The page has no address to load from, and a policy that forbids the browser to try."""
    run, result = finished
    write_report(run.folder, result)
    page = run.texts()[1]
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not {"src", "href"} & set(_Tags(own).attributes)
    assert "default-src 'none'" in page


def test_figures_can_be_switched_off(finished):
    """Without figures the page has its tables, and neither plots nor the plotting library."""
    run, result = finished
    run.add_config(KILOSORT4.override(create_figures=False))
    write_report(run.folder, result)
    page = run.texts()[1]
    assert "All units" in page
    assert not _figures(page)
    assert len(page) < 100_000


def test_a_failure_is_told_with_advice_and_the_log(make_run):
    """Class, message, advice, stage, exits and the last log lines are in all files; units of an earlier run are not."""
    run = make_run()
    run.add_config()
    run.add_markers()
    run.add_units(SpikeData([[1.0, 2.0]], length=10.0))
    run.folder.log.write_bytes(b"start\n 1%|#  \r 99%|###\r100%|####\nCUDA out of memory \xff\xfe\n")
    write_report(run.folder, run.failure())
    for text in run.texts():
        assert "Failed in stage sort: GPUOutOfMemoryError" in text
        assert all(part in text for part in ("2.00 GiB", "Retry with a smaller", "SIGKILL", "1 min 02 s"))
        assert "100%|####\nCUDA out of memory \ufffd\ufffd" in text
        assert " 1%|" not in text
        assert "units found" not in text
    record = _strict_json(run.folder.report_json)
    assert record["quality"] is None
    assert record["recording"]["n_channels"] == 16
    assert record["sorter"]["n_units"] is None


@pytest.mark.parametrize("status", ["interrupted", "skipped", "failed"])
def test_a_report_needs_nothing_but_the_result(make_run, status):
    """With empty folders, every outcome still gets its three files."""
    run = make_run()
    write_report(run.folder, run.success(status=status, stage=None))
    note, page = run.texts()
    verdict = "Failed: failed" if status == "failed" else status.capitalize()
    assert verdict in note
    assert verdict in page


def test_a_success_without_its_files_says_so(make_run):
    """A success whose units are gone is reported with what is left, and the missing file is named."""
    run = make_run()
    write_report(run.folder, run.success(n_units=3, n_curated_units=2))
    for text in run.texts():
        assert "Sorted: 3 units found, 2 kept" in text
        assert "curated.h5 is missing" in text


def test_damaged_files_are_left_out(finished):
    """Truncated JSON and foreign HDF5 do not stop the report."""
    run, result = finished
    for path in (run.folder.config_used, run.folder.curation_history, run.folder.curated, run.folder.marker("load")):
        path.write_bytes(b"{ not")
    write_report(run.folder, result)
    assert "cannot be read" in run.texts()[0]


def test_names_cannot_carry_markup(make_run, make_units):
    """A name with tags, quotes and template braces stays text in both pages, in plots, tables and log."""
    run = make_run()
    result = run.add_units(make_units(unit_id=HOSTILE, channel_id=HOSTILE, ks_label=HOSTILE))
    run.folder.log.write_text(f"WARNING {HOSTILE}\n", encoding="utf-8")
    write_report(
        run.folder, replace(result, rec_name=HOSTILE, rec_path=HOSTILE, warnings=(Remark(HOSTILE, HOSTILE, HOSTILE),))
    )
    note, page = run.texts()
    clean = make_run(folder="clean")
    write_report(clean.folder, replace(clean.add_units(make_units()), warnings=(Remark("x", "x", "x"),)))
    assert "alert(" in page
    assert _Tags(page).tags.count("script") == _Tags(clean.texts()[1]).tags.count("script")
    assert "<script>alert" not in page
    assert "49" not in re.findall(r"<p class=\"name\">(.*?)</p>", page)[0]
    assert "<script>" not in note
    for figure in _figures(page):
        for trace in figure["data"]:
            assert not any("<script" in str(text) for text in trace.get("text", ()))


def test_the_log_cannot_end_its_fence(make_run):
    """Backticks in the log stay inside the code block of the note."""
    run = make_run()
    run.folder.log.write_text("before\n````\n# not a heading\n", encoding="utf-8")
    write_report(run.folder, run.failure())
    assert "`````text\nbefore\n````\n# not a heading\n`````" in run.texts()[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"snr": float("nan"), "amplitude": float("inf"), "std_norm": None},
        {"snr": "high", "position": "somewhere", "spike_amplitudes": np.full(20, np.nan), "template_full": np.zeros(4)},
        {"position": np.array([np.nan, np.nan]), "template_full": np.full((80, 16), np.nan), "channel_id": None},
    ],
)
def test_odd_attributes_are_no_obstacle(make_run, make_units, odd):
    """Values that are missing, of another kind or not finite are left out, and the JSON stays strict."""
    run = make_run()
    sd = make_units(1, **odd)
    sd.save(run.folder.curated)
    write_report(run.folder, run.success(n_units=1, n_curated_units=1, n_spikes=20, peak_gpu_used_pct=float("nan")))
    record = _strict_json(run.folder.report_json)
    assert record["peak_gpu_used_pct"] is None
    assert "All units" in run.texts()[1]


def test_spikes_of_which_nothing_is_known_are_not_drawn(make_run, make_units):
    """Where a sorter leaves neither amplitudes nor positions, no empty picture claims to show every spike."""
    run, sd = make_run(), make_units(3)
    unknown = {"spike_amplitudes", "position", "x", "y"}
    bare = [{key: value for key, value in one.items() if key not in unknown} for one in sd.neuron_attributes]
    sd.replace(neuron_attributes=bare).save(run.folder.curated)
    write_report(run.folder, run.success(n_units=3, n_curated_units=3, n_spikes=180))
    page = run.texts()[1]
    assert "firing rate" in page
    assert "Amplitude and depth over time" not in page


def test_values_that_differ_by_rounding_are_one(make_run, make_units):
    """Units whose values are equal but for the last bit still have their histograms."""
    run = make_run()
    units = make_units(2)
    same = np.array([np.nextafter(0.5, 1.0), 0.5])
    units.set_neuron_attribute("std_norm", same).set_neuron_attribute("snr", same).save(run.folder.curated)
    write_report(run.folder, run.success(n_units=2, n_curated_units=2, n_spikes=60))
    assert "waveform spread" in run.texts()[1]


def test_zero_units_are_a_result(make_run, make_units):
    """A sort of which no unit is left says which criterion took most of them."""
    run = make_run()
    run.add_config()
    result = run.add_units(make_units(2))
    write_report(run.folder, result)
    assert result.n_curated_units == 0
    for text in run.texts():
        assert "Sorted: 2 units found, none kept" in text
        assert "most failed spikes per unit" in text
    assert _strict_json(run.folder.report_json)["quality"]["snr"]["median"] is None


def test_no_unit_at_all_is_a_result(make_run, make_units):
    """A file without a single unit is reported without plots of units."""
    run = make_run()
    make_units(0).save(run.folder.curated)
    write_report(run.folder, run.success(n_units=0, n_curated_units=0, n_spikes=0))
    assert "Sorted: 0 units found, none kept" in run.texts()[1]


def test_pages_are_made_again_from_the_results_alone(finished):
    """Without the intermediate folder, units kept are drawn, and removed ones keep their metrics in the table."""
    run, result = finished
    write_report(run.folder, result)
    before = run.texts()
    shutil.rmtree(run.folder.inter)
    moved = run.folder.results.rename(run.folder.results.with_name("moved"))
    (moved / "sorting_report.html").unlink()
    page = generate_sorting_report(moved)
    assert page == moved / "sorting_report.html"
    assert (moved / "sorting_report.md").read_text(encoding="utf-8") == before[0]
    text = page.read_text(encoding="utf-8")
    kept = next(trace for trace in _figures(text)[0]["data"] if trace.get("name") == "kept")
    assert len(kept["x"]) == 4
    assert text.count('class="is-removed"') == 6


def test_units_of_another_sort_are_not_mixed_in(finished):
    """When the intermediate folder was used again, its units are not shown as those that curation removed."""
    run, result = finished
    write_report(run.folder, result)
    SpikeData([[1.0]], length=10.0, neuron_attributes=[{"unit_id": 999}]).save(run.folder.assembled)
    page = generate_sorting_report(run.folder.results).read_text(encoding="utf-8")
    assert ">999<" not in page


def test_a_folder_without_a_report_is_named(tmp_path):
    """The error says which file is missing where, and what to give."""
    with pytest.raises(FileNotFoundError, match=r"no recording_report\.json in .*spikedata_curated\.h5"):
        generate_sorting_report(tmp_path)


def test_a_report_of_another_schema_is_refused(tmp_path):
    """A report that this version cannot read is an error that names the schema."""
    publish_json(tmp_path / "recording_report.json", {"schema": 99})
    with pytest.raises(ValueError, match="schema 1, found 99"):
        generate_sorting_report(tmp_path)


def test_pages_on_request_only(finished):
    """Without pages only the JSON is written, and pages of an earlier run do not stay to tell another story."""
    run, result = finished
    write_report(run.folder, result)
    write_report(run.folder, run.failure(), with_pages=False)
    assert _strict_json(run.folder.report_json)["status"] == "oom_gpu"
    assert not run.folder.report_html.exists()
    assert not run.folder.report_markdown.exists()


def test_many_spikes_are_thinned(make_run, make_units):
    """A page draws at most about 20,000 spikes, the same ones each time."""
    run = make_run()
    times = np.linspace(0, 59_999, 60_000)
    sd = make_units(1)
    attributes = [{**sd.neuron_attributes[0], "spike_amplitudes": np.full(60_000, -50.0)}]
    sd.replace(train=[times], neuron_attributes=attributes).save(run.folder.curated)
    result = run.success(n_units=1, n_curated_units=1, n_spikes=60_000)
    pages = []
    for _ in range(2):
        write_report(run.folder, result)
        pages.append(_figures(run.texts()[1]))
    spikes = next(trace for figure in pages[0] for trace in figure["data"] if trace["type"] == "scattergl")
    assert 19_000 < len(spikes["x"]) <= 20_000
    assert pages[0] == pages[1]


def test_importing_the_package_is_cheap():
    """Neither plotting nor numerical packages are loaded before a report is made."""
    code = (
        "import sys, spikelab.spike_sorting.report as r; r.write_report; r.parse_sorting_log\n"
        "print(*{'numpy', 'plotly', 'jinja2', 'h5py', 'pandas', 'torch', 'spikeinterface'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
