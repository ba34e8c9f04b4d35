"""The pages in a real browser: drawn without a complaint, sorted, filtered, and operable by keys alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, open_page

from spikelab.spike_sorting.remarks import remark
from spikelab.spike_sorting.report import write_batch_report, write_report
from spikelab.spike_sorting.supervision.curve import COLUMNS

pytestmark = pytest.mark.chromium

_SHOWN = "[...document.querySelectorAll('table.units tbody tr')].filter(row => !row.hidden)"
_HAS_CHOSEN = "document.querySelector('tr[aria-current]').cells[0].textContent"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def opened(page: Page, path: Path, words: str) -> None:
    page.complaints.clear()
    page.open(path.as_uri())
    page.wait_for(words)
    while page.evaluate("document.readyState") != "complete":
        pass


def typed(page: Page, words: str) -> list[str]:
    """Return the first column of the rows that are left with this filter."""
    event = "input.dispatchEvent(new Event('input'))"
    page.evaluate(f"{{ const input = document.querySelector('.filter input'); input.value = '{words}'; {event} }}")
    return page.evaluate(f"{_SHOWN}.map(row => row.cells[0].textContent)")


def sorted_by(page: Page, heading: str) -> list[str]:
    button = f"[...document.querySelectorAll('table.units th')].find(one => one.textContent.startsWith('{heading}'))"
    page.evaluate(f"{button}.querySelector('button').click()")
    return page.evaluate(f"{_SHOWN}.map(row => row.cells[0].textContent)")


def pressed(page: Page, key: str) -> str:
    """Return the unit that is chosen after a key."""
    for kind in ("rawKeyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=key)
    return page.evaluate(_HAS_CHOSEN)


def with_curve(run: Any) -> None:
    """Leave the resource curve of a run on one disk, without a GPU."""
    values = dict.fromkeys(COLUMNS, "") | {"host_ram_pct": "41", "run_ram_gb": "1.5", "disk_free_inter_gb": "70"}
    rows = [",".join([f"{2 * k}", *values.values()]) for k in range(30)]
    run.folder.curve.write_text("\n".join([",".join(["elapsed_s", *COLUMNS]), *rows]) + "\n")


def test_the_page_of_a_sort(finished: Any, page: Page, tmp_path: Path) -> None:
    """Every plot is drawn; the table sorts, filters and chooses a unit, by mouse and by keys; nothing complains."""
    run, result = finished
    run.add_overview(n_depths=2)
    with_curve(run)
    write_report(run.folder, replace(result, estimated_s={"low": 90.0, "likely": 180.0, "high": 300.0}))
    opened(page, run.folder.report_html, "Memory, processors and disk")
    n_figures = page.evaluate("document.querySelectorAll('[data-figure]').length")
    assert n_figures == 12
    assert page.evaluate("document.querySelectorAll('[data-figure].js-plotly-plot .main-svg').length") > n_figures
    assert "estimated before it began: 3 min (1.5 to 5)" in page.text()

    assert typed(page, "kept") == ["102", "103", "105", "107"]
    assert typed(page, "snr>10 firing<9") == ["107", "106", "108"]  # 109 fires at 9 Hz
    assert typed(page, "snr>10 removed-by-nobody") == []
    assert typed(page, "colour>3") == typed(page, "")
    assert sorted_by(page, "amplitude") == sorted_by(page, "unit")
    assert sorted_by(page, "unit") == [str(unit) for unit in range(109, 99, -1)]

    page.evaluate(f"{_SHOWN}[2].querySelector('button').click()")
    assert page.evaluate("document.activeElement.textContent") == page.evaluate(_HAS_CHOSEN) == "107"
    assert pressed(page, "ArrowDown") == "106"
    assert pressed(page, "ArrowUp") == "107"
    assert "Unit 107, kept" in page.text()
    page.evaluate("document.querySelector('[data-figure]').emit('plotly_click', {points: [{customdata: '105'}]})")
    assert page.evaluate(_HAS_CHOSEN) == "105"
    drawn = "[...document.querySelectorAll('[data-chosen]')].map(one => one.data ? one.data.length : 0)"
    assert page.evaluate(drawn) == [15, 1, 1]  # 14 channels around it and their contacts; waveform; correlogram

    page.screenshot(tmp_path / "dark.png", 1200, is_dark=True)
    ink = page.evaluate("getComputedStyle(document.querySelector('[data-chosen] .xtitle')).fill")
    assert min(map(int, ink.removeprefix("rgb(").removesuffix(")").split(","))) > 200
    assert page.complaints == []


def test_what_is_drawn_of_the_chosen_unit_is_its_own(finished: Any, page: Page) -> None:
    """The waveform of the unit in the picture is its template on its largest channel, to a hundredth of its peak."""
    run, result = finished
    write_report(run.folder, result)
    opened(page, run.folder.report_html, "All units")
    wave = page.evaluate("document.querySelector('[data-chosen=waveform]').data[0]")
    unit = next(u for u in _units(run) if str(u["unit_id"]) == page.evaluate(_HAS_CHOSEN))
    template = np.asarray(unit["template_full"])
    largest = template[:, int(np.ptp(template, axis=0).argmax())]
    times = (np.arange(len(largest)) - abs(largest).argmax()) / 20.0
    step = len(largest) // len(wave["x"]) + (len(largest) % len(wave["x"]) > 0)
    first = int(np.argmin(abs(times - wave["x"][0])))
    assert times[first] == pytest.approx(wave["x"][0])
    np.testing.assert_allclose(wave["y"], largest[first::step], atol=abs(largest).max() / 100)


def _units(run: Any) -> Sequence[dict[str, Any]]:
    from spikelab.spikedata import SpikeData

    return SpikeData.load(run.folder.curated).neuron_attributes


def test_the_page_of_a_batch(make_run: Any, page: Page, tmp_path: Path) -> None:
    """Recordings sort and filter, what deserves a look is told once with its recordings, and nothing complains."""
    told = (remark("gaps", "2 gaps"), remark("gaps", "2 more"))
    results = [
        make_run(f"{name}.raw.h5", folder=name).success(n_units=9, n_curated_units=kept, n_spikes=1, warnings=told)
        for name, kept in (("one", 4), ("two", 8))
    ]
    results.append(replace(make_run("bad.raw.h5", folder="bad").failure(), warnings=told))
    folder = write_batch_report(results)
    assert folder == tmp_path
    opened(page, tmp_path / "batch_report.html", "Recordings")
    assert page.text().count("gaps") == 1
    assert typed(page, "unitskept>5") == ["two.raw.h5"]
    assert typed(page, "oom") == ["bad.raw.h5"]
    assert len(typed(page, "")) == 3
    assert sorted_by(page, "units kept")[:2] == ["one.raw.h5", "two.raw.h5"]
    assert page.complaints == []
